//! `Problem`: what a caller of the API is told when it cannot have what it asked for (RFC 9457). It never repeats
//! what was sent: that may be a PAN.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::tsp::ProvisioningRefusal;

/// Why the server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("{0} is no loopback address, and the API has no TLS")]
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
    /// How long to wait before the same request, where that is known.
    after: Option<Duration>,
}

impl Problem {
    /// A problem that the same request will have again.
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), field: None, recoverable: false, after: None }
    }

    pub(super) fn at(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    pub(super) fn recoverable(self) -> Self {
        Self { recoverable: true, ..self }
    }

    /// A problem that the same request will no longer have after some time.
    pub(super) fn after(self, wait: Duration) -> Self {
        Self { after: Some(wait), ..self.recoverable() }
    }

    /// The same trouble, of what stands in `outer`.
    pub(super) fn within(self, outer: &str) -> Self {
        let field = match self.field {
            None => outer.to_owned(),
            Some(inner) if inner.starts_with('[') => format!("{outer}{inner}"),
            Some(inner) => format!("{outer}.{inner}"),
        };
        Self { field: Some(field), ..self }
    }

    pub(super) fn missing(field: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "missing-field", "is required").at(field)
    }

    pub(super) fn invalid(field: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::wrong(reason).at(field)
    }

    /// A name that stays in the journal holds a card's number.
    pub(super) fn account_number(field: &'static str) -> Self {
        let detail = "holds what looks like an account number, which would stay in the journal";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "account-number-in-words", detail).at(field)
    }

    /// As `invalid`, where the one who reads does not know in which field it stands.
    pub(super) fn wrong(reason: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-field", reason.to_string())
    }

    /// The same, of a request whose form is right: what it says cannot be.
    pub(super) fn well_formed(self) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, ..self }
    }

    /// The document.
    fn body(&self) -> ProblemBody<'_> {
        let detail = match &self.field {
            Some(field) => format!("{field}: {}", self.detail),
            None => self.detail.clone(),
        };
        ProblemBody {
            kind: format!("urn:tokenswitch:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail,
            code: self.code,
            field: self.field.as_deref(),
            recoverable: self.recoverable,
        }
    }
}

/// A problem (RFC 9457). Nothing in it repeats what was sent.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody<'a> {
    /// `urn:tokenswitch:problem:` and the code
    #[serde(rename = "type")]
    kind: String,
    /// What the HTTP status means
    title: &'a str,
    /// The HTTP status
    status: u16,
    /// For people
    detail: String,
    /// For programs; it never changes its meaning
    code: &'a str,
    /// The member of the body, or the header, that is at fault
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    field: Option<&'a str>,
    /// Whether the same request, under the same X-Request-Id, may succeed later, by itself or once somebody has done
    /// something about it. False: only another request helps, or another configuration
    recoverable: bool,
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
        let soon = self.status == StatusCode::SERVICE_UNAVAILABLE && self.recoverable;
        if let Some(wait) = self.after.or(soon.then_some(Duration::from_secs(1))) {
            // Whole seconds, and no sooner than it says (RFC 9110 10.2.3).
            let seconds = wait.as_millis().div_ceil(1_000);
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                headers.insert(header::RETRY_AFTER, value);
            }
        }
        response
    }
}

impl From<ProvisioningRefusal> for Problem {
    fn from(refusal: ProvisioningRefusal) -> Self {
        use ProvisioningRefusal as R;
        let (status, field) = match refusal {
            R::UnknownRequestor => (StatusCode::FORBIDDEN, None),
            R::UnknownToken | R::UnknownCard => (StatusCode::NOT_FOUND, None),
            R::CardBlocked => (StatusCode::CONFLICT, Some("pan")),
            R::StatusDoesNotAllow | R::TokenExpired | R::VersionDiffers => (StatusCode::CONFLICT, None),
            R::DetokenizationNotAllowed => (StatusCode::FORBIDDEN, None),
            R::DetokenizationsExhausted => (StatusCode::TOO_MANY_REQUESTS, None),
            R::NotYours => (StatusCode::FORBIDDEN, None),
            R::ControlsNotYours => (StatusCode::FORBIDDEN, Some("controls")),
            R::AssuranceNotYours => (StatusCode::FORBIDDEN, Some("assuranceMethod")),
            R::ParDiffers => (StatusCode::CONFLICT, Some("keepPar")),
            R::CardNotValid | R::CardNotEligible => (StatusCode::UNPROCESSABLE_ENTITY, Some("pan")),
            R::CardExpired => (StatusCode::UNPROCESSABLE_ENTITY, Some("panExpiry")),
            R::AssuranceNotAllowed => (StatusCode::UNPROCESSABLE_ENTITY, Some("assuranceMethod")),
            R::RequestIdReused | R::RepeatTooLate => (StatusCode::CONFLICT, Some(super::access::REQUEST_ID)),
            R::RequestInFlight => (StatusCode::CONFLICT, Some(super::access::REQUEST_ID)),
            R::ControlsNotValid => (StatusCode::UNPROCESSABLE_ENTITY, Some("controls")),
            R::AmountNotValid => (StatusCode::UNPROCESSABLE_ENTITY, Some("amount")),
            R::CryptogramsExhausted | R::LimitedKeysExhausted | R::NoKeysToGive | R::OtherKeysGiven => {
                (StatusCode::CONFLICT, None)
            }
            R::DeviceDiffers => (StatusCode::CONFLICT, Some("key")),
            R::KeyNotRegistered => (StatusCode::UNPROCESSABLE_ENTITY, Some("key")),
            R::ToleranceTooLarge => (StatusCode::UNPROCESSABLE_ENTITY, Some("controls.amountTolerance")),
            R::RequestorNotOurs => (StatusCode::UNPROCESSABLE_ENTITY, Some("tokenRequestorId")),
            R::RequestorFull => (StatusCode::CONFLICT, None),
            R::DomainNotAllowed => (StatusCode::UNPROCESSABLE_ENTITY, Some("controls")),
            R::LocationNotAllowed => (StatusCode::UNPROCESSABLE_ENTITY, Some("tokenLocation")),
            R::TooManyTokensOfCard => (StatusCode::CONFLICT, Some("pan")),
            R::TooManyTokensOnDevice => (StatusCode::CONFLICT, Some("device")),
            R::AdvisedAgainst => (StatusCode::UNPROCESSABLE_ENTITY, Some("recommendation")),
            R::DeclinedByIssuer => (StatusCode::UNPROCESSABLE_ENTITY, Some("pan")),
            R::NoAnswerFromIssuer => (StatusCode::SERVICE_UNAVAILABLE, None),
            R::NothingToProve | R::ProofInFlight | R::CodesExhausted | R::NoCode | R::ProofFailed => {
                (StatusCode::CONFLICT, None)
            }
            R::CardCodesExhausted { .. } => (StatusCode::TOO_MANY_REQUESTS, None),
            R::EncryptionNotValid | R::EncryptionKeyUnknown | R::EncryptionNotOpened => {
                (StatusCode::UNPROCESSABLE_ENTITY, Some("pan"))
            }
            R::UnknownContact => (StatusCode::UNPROCESSABLE_ENTITY, Some("contact")),
            R::CodeWrong => (StatusCode::UNPROCESSABLE_ENTITY, Some("code")),
            R::TokenRangeFull | R::VaultFull => (StatusCode::INSUFFICIENT_STORAGE, None),
            R::Overloaded | R::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, None),
        };
        Self {
            status,
            code: refusal.code(),
            detail: refusal.to_string(),
            field: field.map(str::to_owned),
            recoverable: refusal.recoverable(),
            after: match refusal {
                R::CardCodesExhausted { wait } => Some(wait),
                _ => None,
            },
        }
    }
}
