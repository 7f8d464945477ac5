//! `/v1/tokens/{reference}/codes` and `/proof`: the cardholder proves itself with a code that its issuer delivers.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::body::{Body, body};
use super::path::Path;
use super::tokens::{OfToken, TokenBody, Told, parsed};
use super::words::time;
use crate::api::access::{Caller, Named};
use crate::tsp::{Actor, Asker, CodeRequest, CodeSubmission, StepUpCode, StepUpView, TokenService};
use crate::vocab::Text;

body! {
    /// Where the next code is to go
    struct CodeWanted {
        /// The contact's number
        contact = "contact": must u64,
    }
}

body! {
    /// What the cardholder typed
    struct CodeTyped {
        /// The last code that was sent
        code = "code": must StepUpCode,
        /// The device where it was typed: the one that the token was asked for
        device = "device": may Text<64>,
    }
}

/// What a cardholder has to do before its token is good.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StepUp)]
pub(super) struct StepUpBody {
    /// How the issuer can reach the cardholder; none: only the issuer itself can activate the token
    contacts: Vec<ContactBody>,
    codes_left: u8,
    /// Wrong codes until the token is deactivated
    tries_left: u8,
    /// Until when the last code is good; null before the first
    #[schema(format = DateTime)]
    code_until: Option<String>,
}

/// A contact, shown so that only the cardholder recognises it.
#[derive(Serialize, ToSchema)]
#[schema(as = Contact)]
struct ContactBody {
    contact: u8,
    /// `text-message`, `email`, `call` or `issuer-app`
    kind: &'static str,
    shown: String,
}

impl From<&StepUpView> for StepUpBody {
    fn from(view: &StepUpView) -> Self {
        let contacts = view.contacts.iter().map(|contact| ContactBody {
            contact: contact.number,
            kind: contact.kind.name(),
            shown: contact.shown.as_str().to_owned(),
        });
        Self {
            contacts: contacts.collect(),
            codes_left: view.codes_left,
            tries_left: view.tries_left,
            code_until: view.code_until.and_then(time),
        }
    }
}

/// Another code for the cardholder, brought by its issuer.
#[utoipa::path(
    post,
    path = "/v1/tokens/{reference}/codes",
    tag = "step-up",
    params(OfToken),
    request_body = CodeWanted,
    responses((status = 200, description = "On its way; the one before is no longer good", body = TokenBody))
)]
pub(super) async fn send_code(
    State(service): State<TokenService>,
    caller: Caller,
    Named(request_id): Named,
    Path(reference): Path<String>,
    Body(body): Body<CodeWanted>,
) -> Told {
    let asker = Asker { actor: Actor::Cardholder, ..caller.asker(request_id) };
    // No contact has a number that does not fit.
    let contact = u8::try_from(body.contact).unwrap_or_default();
    let token = service.request_code(CodeRequest { asker, reference: parsed(&reference)?, contact }).await?;
    Ok(Json(TokenBody::from(&token)))
}

/// The code that the cardholder typed. With the right one the token is good.
#[utoipa::path(
    post,
    path = "/v1/tokens/{reference}/proof",
    tag = "step-up",
    params(OfToken),
    request_body = CodeTyped,
    responses((status = 200, description = "Proven: the token is active", body = TokenBody))
)]
pub(super) async fn prove(
    State(service): State<TokenService>,
    caller: Caller,
    Named(request_id): Named,
    Path(reference): Path<String>,
    Body(body): Body<CodeTyped>,
) -> Told {
    let asker = Asker { actor: Actor::Cardholder, ..caller.asker(request_id) };
    let (code, device) = (body.code, body.device);
    let request = CodeSubmission { asker, reference: parsed(&reference)?, code, device };
    Ok(Json(TokenBody::from(&service.submit_code(request).await?)))
}
