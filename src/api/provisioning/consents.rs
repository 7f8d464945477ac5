//! `/v1/tokens/{reference}/consents`: another requestor may have a token made for the card behind this one, once.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::body::{Body, body};
use super::path::Path;
use super::tokens::{OfToken, parsed};
use super::words::{Words, time};
use crate::api::access::{Caller, Named};
use crate::api::error::Problem;
use crate::tsp::{Asker, ConsentRequest, ConsentView, TokenService};
use crate::vocab::TokenRequestorId;

body! {
    /// To whom a requestor consents
    struct ConsentBody {
        /// Who may have a token made for the card behind this one
        token_requestor_id = "tokenRequestorId": must TokenRequestorId,
        /// In the caller's words
        reason = "reason": may Words,
    }
}

/// What the other requestor presents, as `consent` of its request for a token.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Consent)]
pub(super) struct ConsentTold {
    #[schema(pattern = "^[0-9a-f]{32}$")]
    token_reference: String,
    /// Who may present it
    #[schema(pattern = "^[0-9]{11}$")]
    token_requestor_id: String,
    /// Good once
    #[schema(pattern = "^[0-9a-f]{32}$")]
    consent: String,
    /// From when on it is good no more
    #[schema(format = DateTime)]
    until: Option<String>,
}

impl From<&ConsentView> for ConsentTold {
    fn from(given: &ConsentView) -> Self {
        Self {
            token_reference: given.reference.to_string(),
            token_requestor_id: given.to.as_str().to_owned(),
            consent: given.id.to_string(),
            until: time(given.until),
        }
    }
}

/// Another requestor may have a token made for the card behind this one.
#[utoipa::path(
    post,
    path = "/v1/tokens/{reference}/consents",
    tag = "tokens",
    params(OfToken),
    request_body = ConsentBody,
    responses((status = 201, description = "Given, durably, in the place of any that was not used", body = ConsentTold))
)]
pub(super) async fn give(
    State(service): State<TokenService>,
    caller: Caller,
    Named(request_id): Named,
    Path(reference): Path<String>,
    Body(body): Body<ConsentBody>,
) -> Result<Response, Problem> {
    let reason = Words::said(body.reason);
    let request = ConsentRequest {
        asker: Asker { reason, ..caller.asker(request_id) },
        reference: parsed(&reference)?,
        to: body.token_requestor_id,
    };
    let given = service.consent(request).await?;
    Ok((StatusCode::CREATED, Json(ConsentTold::from(&given))).into_response())
}
