//! The token requestor API: tokens for cards, and their life.

mod tokens;
mod types;

use axum::Router;
use axum::routing::{get, post};

use crate::tsp::TokenService;

/// The resources, with an operation each.
pub(super) fn routes(service: TokenService) -> Router {
    Router::new()
        .route("/v1/tokens", post(tokens::provision))
        .route("/v1/tokens/{reference}", get(tokens::get))
        .route("/v1/tokens/{reference}/activate", post(tokens::activate))
        .route("/v1/tokens/{reference}/suspend", post(tokens::suspend))
        .route("/v1/tokens/{reference}/resume", post(tokens::resume))
        .route("/v1/tokens/{reference}/unlink", post(tokens::unlink))
        .with_state(service)
}
