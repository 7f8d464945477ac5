//! `Problem`: what a caller of the API is told when it cannot have what it asked for (RFC 9457). It never repeats
//! what was sent: that may be a PAN.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::tsp::ProvisioningRefusal;

/// Why the server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("{0} is no loopback address, and the API has no TLS yet")]
    NotLoopback(std::net::SocketAddr),
    #[error("{name} cannot listen on {address}: {source}")]
    Listen { name: &'static str, address: std::net::SocketAddr, source: std::io::Error },
    #[error("a thread for HTTP could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// An answer that is none: what kind of trouble, where, and whether the same request may succeed later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    /// Machine-readable, in lower case with hyphens; it never changes its meaning.
    code: &'static str,
    /// For people.
    detail: String,
    /// The member of the body, or the header, that is at fault.
    field: Option<String>,
    recoverable: bool,
}

impl Problem {
    /// A problem that the same request will have again.
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), field: None, recoverable: false }
    }

    pub(super) fn at(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    pub(super) fn recoverable(self) -> Self {
        Self { recoverable: true, ..self }
    }

    pub(super) fn missing(field: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "missing-field", format!("{field} is required")).at(field)
    }

    pub(super) fn invalid(field: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-field", format!("{field}: {reason}")).at(field)
    }

    /// The document.
    fn body(&self) -> Value {
        let mut body = json!({
            "type": format!("urn:tokenswitch:problem:{}", self.code),
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
            "recoverable": self.recoverable,
        });
        if let (Some(field), Some(members)) = (&self.field, body.as_object_mut()) {
            members.insert("field".to_owned(), Value::String(field.clone()));
        }
        body
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // Logged here, where it is handled; the field's name is the caller's only where it is one of ours.
        tracing::debug!(status = self.status.as_u16(), code = self.code, "api request refused");
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE && self.recoverable {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<ProvisioningRefusal> for Problem {
    fn from(refusal: ProvisioningRefusal) -> Self {
        use ProvisioningRefusal as R;
        let (status, field) = match refusal {
            R::UnknownRequestor => (StatusCode::FORBIDDEN, None),
            R::UnknownToken => (StatusCode::NOT_FOUND, None),
            R::StatusDoesNotAllow => (StatusCode::CONFLICT, None),
            R::CardNotValid | R::CardNotEligible => (StatusCode::UNPROCESSABLE_ENTITY, Some("pan")),
            R::CardExpired => (StatusCode::UNPROCESSABLE_ENTITY, Some("panExpiry")),
            R::AssuranceNotAllowed => (StatusCode::UNPROCESSABLE_ENTITY, Some("assuranceMethod")),
            R::RequestIdReused => (StatusCode::UNPROCESSABLE_ENTITY, Some(super::access::REQUEST_ID)),
            R::RequestInFlight => (StatusCode::CONFLICT, Some(super::access::REQUEST_ID)),
            R::TokenRangeFull | R::VaultFull => (StatusCode::INSUFFICIENT_STORAGE, None),
            R::Overloaded | R::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, None),
        };
        Self {
            status,
            code: refusal.code(),
            detail: refusal.to_string(),
            field: field.map(str::to_owned),
            recoverable: refusal.recoverable(),
        }
    }
}
