//! `/v1/cards` and `/v1/par`: what issuers and operators say of cards, and what may be asked of cards and tokens. Card
//! numbers stand in bodies only.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::body::{Body, body};
use super::path::Path;
use super::tokens::{OfToken, parsed};
use super::words::{SentPan, Words, time};
use crate::api::access::{Caller, Named};
use crate::api::error::Problem;
use crate::tsp::{
    Asker, CardEvent, CardNews, CardRequest, MappingView, ParQuery, Reason, RequestId, TokenService,
};
use crate::vocab::{Expiry, PanSequenceNumber, Par, Token, TokenReferenceId};

body! {
    /// Something that happened to a card
    struct CardEventBody {
        /// The card's number until now, or a JWE of it as for `issue-token`
        pan = "pan": must SentPan,
        event = "event": must CardEvent,
        /// Of `new-pan`: the number that takes its place
        new_pan = "newPan": may SentPan,
        /// Of `new-pan` and `new-expiry`: YYMM
        new_expiry = "newExpiry": may Expiry,
        /// Of `new-pan` and `new-expiry`: without it, as it was, if the number is the same
        pan_sequence_number = "panSequenceNumber": may PanSequenceNumber,
        /// Of `new-pan`: whether the payment account reference goes with the account; without it, as configured
        keep_par = "keepPar": may bool,
        /// Of `new-pan`: the new card's own, if it does not go along and this provider is not the BIN controller
        par = "par": may Par,
        /// In the caller's words
        reason = "reason": may Words,
        /// As a code
        reason_code = "reasonCode": may Reason,
    }
}

body! {
    /// Of what the payment account reference is wanted: one of the three
    struct ParBody {
        token_reference = "tokenReference": may TokenReferenceId,
        token = "token": may Token,
        /// Only for the card's issuer and for operators
        pan = "pan": may SentPan,
    }
}

/// What became of a card's tokens.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CardEventDone)]
pub(super) struct DoneBody {
    /// How many tokens are not as they were
    tokens_changed: u32,
}

/// A payment account reference.
#[derive(Serialize, ToSchema)]
#[schema(as = PaymentAccountReference)]
pub(super) struct ParTold {
    /// Null where the account has none
    #[schema(pattern = "^[A-Z0-9]{29}$")]
    par: Option<String>,
}

/// A card to which a token leads, or led.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Mapping)]
pub(super) struct MappingBody {
    mapping_version: u32,
    /// Of the card's number
    #[schema(pattern = "^[0-9]{4}$")]
    pan_last_four: String,
    /// When another card took its place; null: it still leads there
    #[schema(format = DateTime)]
    until: Option<String>,
}

impl From<&MappingView> for MappingBody {
    fn from(view: &MappingView) -> Self {
        Self {
            mapping_version: view.mapping_version,
            pan_last_four: view.last4.as_str().to_owned(),
            until: view.until.and_then(time),
        }
    }
}

/// Something happened to a card: all its tokens follow, in one step.
#[utoipa::path(
    post,
    path = "/v1/cards/events",
    tag = "cards",
    request_body = CardEventBody,
    responses((status = 200, description = "So it is now, in every payment", body = DoneBody))
)]
pub(super) async fn report(
    State(service): State<TokenService>,
    caller: Caller,
    Named(request_id): Named,
    Body(body): Body<CardEventBody>,
) -> Result<Json<DoneBody>, Problem> {
    let tokens_changed = service.card(body.request(&service, &caller, request_id)?).await?;
    Ok(Json(DoneBody { tokens_changed }))
}

impl CardEventBody {
    fn request(
        self,
        service: &TokenService,
        caller: &Caller,
        request_id: RequestId,
    ) -> Result<CardRequest, Problem> {
        let (reason, reason_code) = (Words::said(self.reason), self.reason_code.unwrap_or(Reason::Unstated));
        let asker = Asker { reason, reason_code, ..caller.asker(request_id) };
        let another = self.event == CardEvent::NewPan;
        let replaced = another || self.event == CardEvent::NewExpiry;
        for (name, there, fits) in [
            ("newPan", self.new_pan.is_some(), another),
            ("keepPar", self.keep_par.is_some(), another),
            ("par", self.par.is_some(), another),
            ("newExpiry", self.new_expiry.is_some(), replaced),
            ("panSequenceNumber", self.pan_sequence_number.is_some(), replaced),
        ] {
            if there && !fits {
                return Err(Problem::invalid(name, "does not go with this event").well_formed());
            }
        }
        let expiry = || self.new_expiry.ok_or_else(|| Problem::missing("newExpiry").well_formed());
        let sequence = self.pan_sequence_number;
        let news = match self.event {
            CardEvent::NewExpiry => CardNews::NewExpiry { expiry: expiry()?, sequence },
            CardEvent::NewPan => CardNews::NewPan {
                pan: self
                    .new_pan
                    .ok_or_else(|| Problem::missing("newPan").well_formed())?
                    .read_by(service, "newPan")?,
                expiry: expiry()?,
                sequence,
                keep_par: self.keep_par,
                par: self.par,
            },
            CardEvent::Lost => CardNews::Lost,
            CardEvent::Stolen => CardNews::Stolen,
            CardEvent::Found => CardNews::Found,
            CardEvent::Closed => CardNews::Closed,
        };
        Ok(CardRequest { asker, pan: self.pan.read_by(service, "pan")?, news })
    }
}

/// The payment account reference of a token or a card.
#[utoipa::path(
    post,
    path = "/v1/par",
    tag = "cards",
    request_body = ParBody,
    responses((status = 200, description = "It, if there is one", body = ParTold))
)]
pub(super) async fn par(
    State(service): State<TokenService>,
    caller: Caller,
    Named(_): Named,
    Body(body): Body<ParBody>,
) -> Result<Json<ParTold>, Problem> {
    let query = match (body.token_reference, body.token, body.pan) {
        (Some(reference), None, None) => ParQuery::Reference(reference),
        (None, Some(token), None) => ParQuery::Token(token),
        (None, None, Some(pan)) => ParQuery::Pan(pan.read_by(&service, "pan")?),
        (None, None, None) => return Err(Problem::missing("tokenReference").well_formed()),
        _ => {
            let reason = "one of tokenReference, token and pan is enough";
            return Err(Problem::invalid("tokenReference", reason).well_formed());
        }
    };
    let par = service.par(caller.principal, query).await?;
    Ok(Json(ParTold { par: par.map(|par| par.as_str().to_owned()) }))
}

/// The cards to which a token led and leads, the oldest first.
#[utoipa::path(
    get,
    path = "/v1/tokens/{reference}/cards",
    tag = "cards",
    params(OfToken),
    responses((status = 200, description = "By their last four digits", body = Vec<MappingBody>))
)]
pub(super) async fn mappings(
    State(service): State<TokenService>,
    caller: Caller,
    Path(reference): Path<String>,
) -> Result<Json<Vec<MappingBody>>, Problem> {
    let mappings = service.mappings(caller.principal, parsed(&reference)?).await?;
    Ok(Json(mappings.iter().map(MappingBody::from).collect()))
}
