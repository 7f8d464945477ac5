//! `/v1/tokens`: a handler an operation. PANs and tokens stand in bodies only, never in a path.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, ToSchema};

use super::body::{Body, body};
use super::controls::ControlsBody;
use super::path::Path;
use super::step_up::StepUpBody;
use super::told::ControlsTold;
use super::words::{CausedBy, SentPan, Words, digits, one_of, time};
use crate::api::access::{Caller, Named};
use crate::api::error::Problem;
use crate::api::grants::Role;
use crate::api::known::Known;
use crate::api::rates::Rates;
use crate::tsp::{
    Actor, Asker, CardMark, ConsentId, Move, MoveRequest, Principal, ProvisionRequest, ProvisioningRefusal,
    Reason, RequestId, SourceToken, SourcedRequest, Suspender, TokenService, TokenStatus, TokenView,
    UpdateRequest,
};
use crate::vocab::{
    Expiry, PanSequenceNumber, PanSource, Par, Recommendation, RiskHints, Text, Token, TokenAssuranceMethod,
    TokenLocation, TokenReferenceId, TrustScore,
};

pub(super) type Told = Result<Json<TokenBody>, Problem>;

/// Which token.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfToken {
    /// The token's reference
    #[param(pattern = "^[0-9a-f]{32}$")]
    #[allow(dead_code, reason = "it only describes what `Path` reads")]
    reference: String,
}

body! {
    /// A card that a token is wanted for
    struct IssueBody {
        /// The card's number; or a JWE (RFC 7516, compact) of its digits for the key of `see-keys`, by ECDH-ES and
        /// A256GCM
        pan = "pan": must SentPan,
        /// The card's own expiry, YYMM
        pan_expiry = "panExpiry": must Expiry,
        pan_sequence_number = "panSequenceNumber": may PanSequenceNumber,
        /// How the requestor identified the cardholder, as far as it may claim that
        assurance_method = "assuranceMethod": may TokenAssuranceMethod,
        /// Where the token will be kept; without it, where the requestor keeps tokens as a rule
        token_location = "tokenLocation": may TokenLocation,
        /// Kept only for cards of a BIN controller other than this provider
        par = "par": may Par,
        /// The device that will hold the token, in the requestor's own name for it
        device = "device": may Text<64>,
        /// What the requestor would do
        recommendation = "recommendation": may Recommendation,
        /// How much it trusts the device, 1 (least) to 5
        device_score = "deviceScore": may TrustScore,
        /// How much it trusts the account, 1 (least) to 5
        account_score = "accountScore": may TrustScore,
        /// Where it has the card's number from
        pan_source = "panSource": may PanSource,
        /// What the token is narrowed to from its first day
        controls = "controls": may ControlsBody,
        /// In the caller's words
        reason = "reason": may Words,
    }
}

body! {
    /// A token, `sourceReference`, or `sourceToken` with `sourceTokenExpiry`, for whose card another one is wanted
    struct DeriveBody {
        source_reference = "sourceReference": may TokenReferenceId,
        source_token = "sourceToken": may Token,
        /// That token's own expiry, YYMM
        source_token_expiry = "sourceTokenExpiry": may Expiry,
        /// What that token's requestor consented by, if it is another one and does not share its tokens
        consent = "consent": may ConsentId,
        /// How the requestor identified the cardholder, as far as it may claim that
        assurance_method = "assuranceMethod": may TokenAssuranceMethod,
        /// Where the token will be kept; without it, where the requestor keeps tokens as a rule
        token_location = "tokenLocation": may TokenLocation,
        /// The device that will hold the token, in the requestor's own name for it
        device = "device": may Text<64>,
        /// What the requestor would do
        recommendation = "recommendation": may Recommendation,
        /// How much it trusts the device, 1 (least) to 5
        device_score = "deviceScore": may TrustScore,
        /// How much it trusts the account, 1 (least) to 5
        account_score = "accountScore": may TrustScore,
        /// What the token is narrowed to from its first day
        controls = "controls": may ControlsBody,
        /// In the caller's words
        reason = "reason": may Words,
    }
}

body! {
    /// Why a token's status is to change
    struct WhyBody {
        /// In the caller's words
        reason = "reason": may Words,
        /// As a code
        reason_code = "reasonCode": may Reason,
        /// The version of the token that the caller has seen: another one refuses. Without it, whatever it is
        version = "version": may u32,
        /// Of a token requestor only: whose wish it is; without it, its own
        caused_by = "causedBy": may CausedBy,
    }
}

body! {
    /// What of a token is to be another
    struct UpdateBody {
        /// How the cardholder was identified by now
        assurance_method = "assuranceMethod": may TokenAssuranceMethod,
        /// Whether it gets a new expiry date, as long from today as such tokens are good
        renew = "renew": may bool,
        /// In the caller's words
        reason = "reason": may Words,
        /// The version of the token that the caller has seen: another one refuses. Without it, whatever it is
        version = "version": may u32,
    }
}

/// What a requestor is told of its token. The token itself is its own; of the card it sees the last four digits.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Token)]
pub(super) struct TokenBody {
    /// Names the token in paths
    #[schema(pattern = "^[0-9a-f]{32}$")]
    token_reference: String,
    #[schema(pattern = "^[0-9]{12,19}$")]
    token: String,
    /// The token's own expiry, YYMM
    #[schema(pattern = "^[0-9]{4}$")]
    token_expiry: String,
    #[schema(pattern = "^[0-9]{11}$")]
    token_requestor_id: String,
    #[schema(pattern = "^[0-9]{2}$")]
    token_location: String,
    #[schema(pattern = "^[0-9]{2}$")]
    assurance_method: String,
    #[schema(pattern = "^[A-Z0-9]{29}$")]
    par: Option<String>,
    /// Of the card's number
    #[schema(pattern = "^[0-9]{4}$")]
    pan_last_four: String,
    /// `expired` is what an active or suspended one is until its expiry is renewed
    #[schema(schema_with = status)]
    status: &'static str,
    /// Who holds it, if it is suspended
    suspended_by: Vec<&'static str>,
    /// Rises with each change of status
    version: u32,
    #[schema(format = DateTime)]
    issued_at: Option<String>,
    /// Of its status
    #[schema(format = DateTime)]
    changed_at: Option<String>,
    /// What its cardholder has to do before it is good; null when nothing
    step_up: Option<StepUpBody>,
}

fn status() -> RefOr<Schema> {
    one_of(TokenStatus::ALL.into_iter().map(TokenStatus::name).chain(["expired"]))
}

impl From<&TokenView> for TokenBody {
    fn from(token: &TokenView) -> Self {
        let lifecycle = token.lifecycle;
        Self {
            token_reference: token.reference.to_string(),
            token: token.token.as_str().to_owned(),
            token_expiry: digits(&token.expiry.digits()),
            token_requestor_id: token.requestor.as_str().to_owned(),
            token_location: format!("{:02}", token.location.code()),
            assurance_method: digits(&token.assurance.digits()),
            par: token.par.map(|par| par.as_str().to_owned()),
            pan_last_four: token.last4.as_str().to_owned(),
            status: token.status(),
            suspended_by: lifecycle.suspenders.iter().map(Suspender::name).collect(),
            version: lifecycle.version,
            issued_at: time(token.issued_at),
            changed_at: time(token.changed_at),
            step_up: token.step_up.as_ref().map(StepUpBody::from),
        }
    }
}

/// A token as it is now, with what it is narrowed to.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SeenToken)]
pub(super) struct SeenBody {
    #[serde(flatten)]
    token: TokenBody,
    /// Its own, in the shape in which they are set; null when it has none
    controls: Option<ControlsTold>,
    /// `token-requestor`, `issuer` or `operator`: who stands below changes nothing of them
    controls_set_by: Option<&'static str>,
    /// As `controlsSetBy`; `issuer` also for what its cardholder has proven
    assurance_set_by: &'static str,
    /// Why its status is what it is, as whoever brought that about said. `timed-out`: its cardholder did not prove
    /// itself in time
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason_code: Option<&'static str>,
}

/// A token for a card.
#[utoipa::path(
    post,
    path = "/v1/tokens",
    tag = "tokens",
    request_body = IssueBody,
    responses((status = 201, description = "Issued, and durable", body = TokenBody,
        headers(("Location" = String, description = "Where the token is seen"))))
)]
pub(super) async fn issue(
    State(service): State<TokenService>,
    State(rates): State<Rates>,
    State(known): State<Known>,
    caller: Caller,
    Named(request_id): Named,
    Body(body): Body<IssueBody>,
) -> Result<Response, Problem> {
    let request = body.request(&service, &caller, request_id)?;
    known.controls(request.controls.as_deref())?;
    in_turn(&service, &rates, &caller, Some(service.card_of(&request.pan)), request.device.as_ref()).await?;
    Ok(issued(&service.provision(request).await?))
}

/// Takes a token request's share of its card's and its device's rate. A requestor that is not there, or closed, takes
/// none from those that may have tokens: its request is refused, or a repeat that is answered as before.
async fn in_turn(
    service: &TokenService,
    rates: &Rates,
    caller: &Caller,
    card: Option<CardMark>,
    device: Option<&Text<64>>,
) -> Result<(), Problem> {
    if let Principal::Requestor(id) = caller.principal {
        match service.requestor(caller.principal, id).await {
            Ok(found) if found.closed => return Ok(()),
            Err(ProvisioningRefusal::UnknownRequestor) => return Ok(()),
            Ok(_) => {}
            Err(refusal) => return Err(refusal.into()),
        }
    }
    card.map_or(Ok(()), |card| rates.card(card))?;
    device.map_or(Ok(()), |device| rates.device(caller.client(), device.as_bytes()))
}

fn issued(token: &TokenView) -> Response {
    let place = [(header::LOCATION, format!("/v1/tokens/{}", token.reference))];
    (StatusCode::CREATED, place, Json(TokenBody::from(token))).into_response()
}

/// A token for the card behind another token: one of the requestor's own, or of one that shares its tokens with it.
#[utoipa::path(
    post,
    path = "/v1/tokens/from-token",
    tag = "tokens",
    request_body = DeriveBody,
    responses((status = 201, description = "Issued, and durable", body = TokenBody,
        headers(("Location" = String, description = "Where the token is seen"))))
)]
pub(super) async fn derive(
    State(service): State<TokenService>,
    State(rates): State<Rates>,
    State(known): State<Known>,
    caller: Caller,
    Named(request_id): Named,
    Body(body): Body<DeriveBody>,
) -> Result<Response, Problem> {
    let request = body.request(&caller, request_id)?;
    known.controls(request.controls.as_deref())?;
    // Whichever of a card's tokens is named, it is one card's rate. What may not be named leads to none, and is
    // refused.
    let card = match caller.principal {
        Principal::Requestor(id) => service.card_behind(id, request.source, request.consent).await?,
        Principal::Issuer(_) | Principal::Operator(_) | Principal::Service => None,
    };
    in_turn(&service, &rates, &caller, card, request.device.as_ref()).await?;
    Ok(issued(&service.provision_from(request).await?))
}

impl DeriveBody {
    fn request(self, caller: &Caller, request_id: RequestId) -> Result<SourcedRequest, Problem> {
        let source = match (self.source_reference, self.source_token, self.source_token_expiry) {
            (Some(reference), None, None) => SourceToken::Reference(reference),
            (None, Some(token), Some(expiry)) => SourceToken::Token(token, expiry),
            (None, Some(_), None) => return Err(Problem::missing("sourceTokenExpiry").well_formed()),
            (None, None, _) => return Err(Problem::missing("sourceReference").well_formed()),
            (Some(_), _, _) => {
                let reason = "goes without sourceToken and sourceTokenExpiry";
                return Err(Problem::invalid("sourceReference", reason).well_formed());
            }
        };
        Ok(SourcedRequest {
            asker: Asker { reason: Words::said(self.reason), ..caller.asker(request_id) },
            source,
            assurance: self.assurance_method,
            location: self.token_location,
            device: self.device,
            hints: RiskHints {
                recommendation: self.recommendation,
                device_score: self.device_score,
                account_score: self.account_score,
                source: None,
            },
            controls: self.controls.map(|controls| Box::new(controls.into())),
            consent: self.consent,
        })
    }
}

impl IssueBody {
    fn request(
        self,
        service: &TokenService,
        caller: &Caller,
        request_id: RequestId,
    ) -> Result<ProvisionRequest, Problem> {
        Ok(ProvisionRequest {
            pan: self.pan.read_by(service, "pan")?,
            pan_expiry: self.pan_expiry,
            sequence: self.pan_sequence_number,
            assurance: self.assurance_method,
            location: self.token_location,
            par: self.par,
            hints: RiskHints {
                recommendation: self.recommendation,
                device_score: self.device_score,
                account_score: self.account_score,
                source: self.pan_source,
            },
            device: self.device,
            controls: self.controls.map(|controls| Box::new(controls.into())),
            asker: Asker { reason: Words::said(self.reason), ..caller.asker(request_id) },
            source: None,
        })
    }
}

/// What is known of a token.
#[utoipa::path(
    get,
    path = "/v1/tokens/{reference}",
    tag = "tokens",
    params(OfToken),
    responses((status = 200, description = "As it is now", body = SeenBody))
)]
pub(super) async fn see(
    State(service): State<TokenService>,
    caller: Caller,
    Path(reference): Path<String>,
) -> Result<Json<SeenBody>, Problem> {
    let seen = service.get(caller.principal, parsed(&reference)?).await?;
    Ok(Json(SeenBody {
        token: TokenBody::from(&seen.token),
        controls: seen.controls.as_deref().map(ControlsTold::from),
        controls_set_by: seen.controls.as_ref().map(|_| seen.owners.controls.name()),
        assurance_set_by: seen.owners.assurance.name(),
        reason_code: (seen.because != Reason::Unstated).then(|| seen.because.name()),
    }))
}

/// Declares the operations that change a token's status: each a path, a handler and what it asks for.
macro_rules! moves {
    ($($(#[doc = $about:literal])* $name:ident, $path:literal, $asked:expr;)*) => {$(
        $(#[doc = $about])*
        #[utoipa::path(
            post,
            path = $path,
            tag = "tokens",
            params(OfToken),
            request_body = WhyBody,
            responses((status = 200, description = "So it is now, in every payment", body = TokenBody))
        )]
        pub(super) async fn $name(
            State(service): State<TokenService>,
            caller: Caller,
            Named(request_id): Named,
            Path(reference): Path<String>,
            Body(why): Body<WhyBody>,
        ) -> Told {
            let asked: fn(Suspender) -> Move = $asked;
            change(&service, why.asked(&caller, request_id, &reference, asked)?).await
        }
    )*};
}

moves! {
    /// It has arrived where it will be used.
    activate, "/v1/tokens/{reference}/activate", |_| Move::Activate;
    /// No payment until it is resumed.
    suspend, "/v1/tokens/{reference}/suspend", Move::Suspend;
    /// Lifts the caller's own suspension, or the cardholder's.
    resume, "/v1/tokens/{reference}/resume", Move::Resume;
    /// For good.
    unlink, "/v1/tokens/{reference}/unlink", |_| Move::Unlink;
}

impl WhyBody {
    fn asked(
        self,
        caller: &Caller,
        request_id: RequestId,
        reference: &str,
        asked: fn(Suspender) -> Move,
    ) -> Result<MoveRequest, Problem> {
        let own = caller.asker(request_id);
        let (actor, by) = match (caller.role(), self.caused_by) {
            (Role::Wallet, Some(CausedBy(Suspender::Cardholder))) => {
                (Actor::Cardholder, Suspender::Cardholder)
            }
            (Role::Wallet, Some(CausedBy(by))) => (own.actor, by),
            (Role::Wallet, None) => (own.actor, Suspender::TokenRequestor),
            (Role::Issuer | Role::Operator, Some(_)) => {
                let reason = "is only for token requestors to say";
                return Err(Problem::invalid("causedBy", reason).well_formed());
            }
            (Role::Issuer, None) => (own.actor, Suspender::Issuer),
            (Role::Operator, None) => (own.actor, Suspender::Operator),
        };
        let reason_code = self.reason_code.unwrap_or(Reason::Unstated);
        let reason = Words::said(self.reason);
        let asker = Asker { actor, reason_code, reason, ..own };
        Ok(MoveRequest { asker, reference: parsed(reference)?, asked: asked(by), version: self.version })
    }
}

/// Its assurance method, or a new expiry date for it.
#[utoipa::path(
    post,
    path = "/v1/tokens/{reference}/update",
    tag = "tokens",
    params(OfToken),
    request_body = UpdateBody,
    responses((status = 200, description = "So it is now, in every payment", body = TokenBody))
)]
pub(super) async fn update(
    State(service): State<TokenService>,
    caller: Caller,
    Named(request_id): Named,
    Path(reference): Path<String>,
    Body(body): Body<UpdateBody>,
) -> Told {
    let reason = Words::said(body.reason);
    let request = UpdateRequest {
        asker: Asker { reason, ..caller.asker(request_id) },
        reference: parsed(&reference)?,
        version: body.version,
        renew: body.renew.unwrap_or(false),
        assurance: body.assurance_method,
    };
    let token = service.update(request).await?;
    Ok(Json(TokenBody::from(&token)))
}

async fn change(service: &TokenService, request: MoveRequest) -> Told {
    let token = service.change(request).await?;
    Ok(Json(TokenBody::from(&token)))
}

/// What is no reference names no token: the answer is the same.
pub(super) fn parsed(reference: &str) -> Result<TokenReferenceId, Problem> {
    TokenReferenceId::parse(reference).map_err(|_| ProvisioningRefusal::UnknownToken.into())
}
