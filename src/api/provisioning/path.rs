//! `Path`: what stands in a request's path. What cannot be read there names nothing, and is answered with a problem as
//! all else.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::api::error::Problem;

/// As `axum::extract::Path`, whose own refusals are plain text.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let found = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        let nothing = |_| Problem::new(StatusCode::NOT_FOUND, "no-such-resource", "there is nothing here");
        found.map(|axum::extract::Path(found)| Self(found)).map_err(nothing)
    }
}
