//! Who is calling, and under which name for its request. Whoever shows no known credential gets nothing at all.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::tsp::{RequestId, Requestors, TokenRequestor};
use crate::vocab::TokenRequestorId;

use super::error::Problem;
use super::grants::{Operation, Role};

/// The header with the caller's own name for a request that changes something: the same name, the same answer.
pub(super) const REQUEST_ID: &str = "X-Request-Id";

/// Tells callers by their credentials.
#[derive(Clone)]
pub(super) struct Access {
    requestors: Arc<Requestors>,
}

/// Who calls; put beside the request once its credential is known to be good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub(super) requestor: TokenRequestorId,
    pub(super) role: Role,
}

impl Access {
    pub(super) fn new(requestors: &[TokenRequestor]) -> Self {
        Self { requestors: Arc::new(Requestors::new(requestors)) }
    }

    /// The caller that a request's one credential names (RFC 6750).
    fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        let mut credentials = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(credential), None) = (credentials.next(), credentials.next()) else { return None };
        let credential = credential.as_bytes().strip_prefix(b"Bearer ")?;
        self.requestors.by_credential(credential).map(|requestor| Caller { requestor, role: Role::Wallet })
    }
}

/// Lets only known callers through, to any path.
pub(super) async fn check(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    match access.caller(request.headers()) {
        Some(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        None => denied().into_response(),
    }
}

/// Lets a caller through to an operation of its role.
pub(super) async fn permit(
    State(operation): State<Operation>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Response {
    if operation.roles().contains(&caller.role) {
        return next.run(request).await;
    }
    let detail = "this client may not do this";
    Problem::new(StatusCode::FORBIDDEN, "operation-not-allowed", detail).into_response()
}

fn denied() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "credential-required", "a known credential is required")
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().copied().ok_or_else(denied)
    }
}

/// The request's name, from its header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named(pub(super) RequestId);

impl<S: Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut names = parts.headers.get_all(REQUEST_ID).iter();
        match (names.next(), names.next()) {
            (Some(name), None) => RequestId::parse(name.as_bytes())
                .map(Self)
                .map_err(|error| Problem::invalid(REQUEST_ID, error.fault)),
            (Some(_), Some(_)) => Err(Problem::invalid(REQUEST_ID, "stands there twice")),
            (None, _) => Err(Problem::missing(REQUEST_ID)),
        }
    }
}
