//! `/v1/tokens/{reference}/cryptograms`: what pays once, in an app or a shop on the net.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::body::{Body, body};
use super::controls::{AmountBody, MerchantBody};
use super::path::Path;
use super::tokens::{OfToken, parsed};
use super::words::{Words, digits, time};
use crate::api::access::{Caller, Named};
use crate::api::error::Problem;
use crate::tsp::{Asker, CryptogramRequest, CryptogramView, TokenService};
use crate::vocab::Initiator;

body! {
    /// A payment that a cryptogram is wanted for
    struct PaymentBody {
        /// Where it is paid: nowhere else is the cryptogram good
        merchant = "merchant": must MerchantBody,
        /// The most that it comes to; it counts for its currency only
        amount = "amount": must AmountBody,
        /// Who is to initiate it; left out: the customer. It is good for that only
        initiator = "initiator": may Initiator,
        /// In the caller's words
        reason = "reason": may Words,
    }
}

/// What the merchant's acquirer sends: the token in DE 2, its expiry in DE 14, the cryptogram where the dialect has it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Cryptogram)]
pub(super) struct CryptogramBody {
    #[schema(pattern = "^[0-9a-f]{32}$")]
    token_reference: String,
    #[schema(pattern = "^[0-9]{12,19}$")]
    token: String,
    /// The token's own expiry, YYMM
    #[schema(pattern = "^[0-9]{4}$")]
    token_expiry: String,
    /// Good for one payment
    #[schema(pattern = "^[A-Za-z0-9+/]{27}=$")]
    cryptogram: String,
    /// From when on it is good no more
    #[schema(format = DateTime)]
    until: Option<String>,
}

impl From<&CryptogramView> for CryptogramBody {
    fn from(made: &CryptogramView) -> Self {
        Self {
            token_reference: made.reference.to_string(),
            token: made.token.as_str().to_owned(),
            token_expiry: digits(&made.expiry.digits()),
            cryptogram: digits(&made.cryptogram.text()),
            until: time(made.until),
        }
    }
}

/// A cryptogram for one payment in an app or a shop on the net.
#[utoipa::path(
    post,
    path = "/v1/tokens/{reference}/cryptograms",
    tag = "cryptograms",
    params(OfToken),
    request_body = PaymentBody,
    responses((status = 201, description = "Made: its number is taken, durably", body = CryptogramBody))
)]
pub(super) async fn make(
    State(service): State<TokenService>,
    caller: Caller,
    Named(request_id): Named,
    Path(reference): Path<String>,
    Body(body): Body<PaymentBody>,
) -> Result<Response, Problem> {
    let reason = Words::said(body.reason);
    let request = CryptogramRequest {
        asker: Asker { reason, ..caller.asker(request_id) },
        reference: parsed(&reference)?,
        merchant: body.merchant.into(),
        amount: body.amount.into(),
        initiator: body.initiator.unwrap_or(Initiator::Customer),
    };
    let made = service.cryptogram(request).await?;
    Ok((StatusCode::CREATED, Json(CryptogramBody::from(&made))).into_response())
}
