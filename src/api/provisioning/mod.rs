//! The token requestor API: tokens for cards, and their life.

mod tokens;
mod types;

use axum::Router;
use axum::routing::{get, post};

use crate::tsp::{Move, TokenService};

/// The resources, with an operation each.
pub(super) fn routes(service: TokenService) -> Router {
    Router::new()
        .route("/v1/tokens", post(tokens::provision))
        .route("/v1/tokens/{reference}", get(tokens::get))
        // It has arrived where it will be used.
        .route("/v1/tokens/{reference}/activate", tokens::change(|_| Move::Activate))
        .route("/v1/tokens/{reference}/suspend", tokens::change(Move::Suspend))
        // Lifts the caller's own suspension, or the cardholder's.
        .route("/v1/tokens/{reference}/resume", tokens::change(Move::Resume))
        // For good.
        .route("/v1/tokens/{reference}/unlink", tokens::change(|_| Move::Unlink))
        .with_state(service)
}
