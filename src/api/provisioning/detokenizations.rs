//! `/v1/detokenizations`: the card's number outside of a payment. What names the token stands in the body only.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::body::{Body, body};
use super::words::{Words, digits};
use crate::api::access::{Caller, Named};
use crate::api::error::Problem;
use crate::tsp::{Asker, DisclosureOf, DisclosurePurpose, DisclosureRequest, DisclosureView, TokenService};
use crate::vocab::{Expiry, Token, TokenReferenceId};

body! {
    /// Of which token the card's number is wanted, and for what: `tokenReference`, or `token` with `tokenExpiry`
    struct DetokenizationBody {
        token_reference = "tokenReference": may TokenReferenceId,
        token = "token": may Token,
        /// The token's own expiry, YYMM
        token_expiry = "tokenExpiry": may Expiry,
        purpose = "purpose": must DisclosurePurpose,
        /// In the caller's words
        reason = "reason": may Words,
    }
}

/// A card.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Detokenization)]
pub(super) struct CardTold {
    #[schema(pattern = "^[0-9a-f]{32}$")]
    token_reference: String,
    #[schema(pattern = "^[0-9]{11}$")]
    token_requestor_id: String,
    #[schema(pattern = "^[0-9]{12,19}$")]
    pan: String,
    /// The card's own, YYMM
    #[schema(pattern = "^[0-9]{4}$")]
    pan_expiry: Option<String>,
    #[schema(pattern = "^0[0-9]{2}$")]
    pan_sequence_number: Option<String>,
    #[schema(pattern = "^[A-Z0-9]{29}$")]
    par: Option<String>,
}

impl From<&DisclosureView> for CardTold {
    fn from(view: &DisclosureView) -> Self {
        Self {
            token_reference: view.reference.to_string(),
            token_requestor_id: view.requestor.as_str().to_owned(),
            pan: digits(view.pan.expose_digits()),
            pan_expiry: view.pan_expiry.map(|expiry| digits(&expiry.digits())),
            pan_sequence_number: view.sequence.map(|number| digits(&number.digits())),
            par: view.par.map(|par| par.as_str().to_owned()),
        }
    }
}

/// The card's number, whatever the token's status. That it was told, to whom and for what, is in the journal first.
#[utoipa::path(
    post,
    path = "/v1/detokenizations",
    tag = "tokens",
    request_body = DetokenizationBody,
    responses((status = 200, description = "The card", body = CardTold))
)]
pub(super) async fn tell(
    State(service): State<TokenService>,
    caller: Caller,
    Named(request_id): Named,
    Body(body): Body<DetokenizationBody>,
) -> Result<Json<CardTold>, Problem> {
    let of = match (body.token_reference, body.token, body.token_expiry) {
        (Some(reference), None, None) => DisclosureOf::Reference(reference),
        (None, Some(token), Some(expiry)) => DisclosureOf::Token(token, expiry),
        (None, Some(_), None) => return Err(Problem::missing("tokenExpiry").well_formed()),
        (None, None, _) => return Err(Problem::missing("tokenReference").well_formed()),
        (Some(_), _, _) => {
            let reason = "goes without token and tokenExpiry";
            return Err(Problem::invalid("tokenReference", reason).well_formed());
        }
    };
    let asker = Asker { reason: Words::said(body.reason), ..caller.asker(request_id) };
    let view = service.disclose(DisclosureRequest { asker, of, purpose: body.purpose }).await?;
    Ok(Json(CardTold::from(&view)))
}
