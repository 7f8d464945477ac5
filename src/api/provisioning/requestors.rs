//! `/v1/requestors`: the registry of token requestors, for operators.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::body::{Body, body};
use super::controls::{AmountBody, MerchantBody};
use super::words::{Words, time};
use crate::api::access::{Caller, Named};
use crate::api::error::Problem;
use crate::api::notifier::Endpoint;
use crate::tsp::{
    Activation, Asker, DomainControls, ProvisioningRefusal, Registration, RegistryChange, RegistryRequest,
    RequestorLimits, TokenRequestor, TokenService,
};
use crate::vocab::{
    Amount, EntryMode, MerchantCategory, Text, TokenAssuranceMethod, TokenDomain, TokenLocation,
    TokenRequestorId,
};

body! {
    /// A token requestor as it is to be from now on. Tokens that it has keep what they were given
    struct RequestorBody {
        token_requestor_id = "tokenRequestorId": must TokenRequestorId,
        name = "name": must Text<16>,
        /// How its tokens may be entered: DE 22, the first two digits
        entry_modes = "entryModes": must Vec<EntryMode>,
        /// The ways of paying that it is registered for, which must be those of its entry modes; left out: any
        domains = "domains": may Vec<TokenDomain>,
        /// Left out: any
        merchants = "merchants": may Vec<MerchantBody>,
        /// Left out: any
        categories = "categories": may Vec<MerchantCategory>,
        /// The most that one payment may come to
        most_amount = "mostAmount": may AmountBody,
        /// Whether a payment need not say the token's expiry
        expiry_optional = "expiryOptional": may bool,
        /// Whether an amount other than the one that the chip signed declines; without it, yes
        chip_amount_binds = "chipAmountBinds": may bool,
        /// Whether a purchase needs a cryptogram however the token was entered
        cryptogram_required = "cryptogramRequired": may bool,
        /// Where it keeps tokens as a rule
        token_location = "tokenLocation": must TokenLocation,
        /// Where it may; left out: anywhere
        token_locations = "tokenLocations": may Vec<TokenLocation>,
        /// The assurance methods that it may claim
        assurance_methods = "assuranceMethods": may Vec<TokenAssuranceMethod>,
        /// Whether its tokens are good only once it has confirmed that they arrived
        confirms = "confirms": may bool,
        /// Where it hears what becomes of its tokens, from this registration on: https, or http on this machine
        notification_url = "notificationUrl": may Text<128>,
        /// How many tokens it may have
        tokens_most = "tokensMost": may u32,
        tokens_per_pan = "tokensPerPan": may u32,
        tokens_per_device = "tokensPerDevice": may u32,
        /// How many of their cards' numbers may be told in a day outside of payments; left out: not one
        detokenizations_per_day = "detokenizationsPerDay": may u32,
        /// Requestors that may have tokens made for the cards behind its tokens
        shares_with = "sharesWith": may Vec<TokenRequestorId>,
        /// The version that the caller has seen, 0 for a new one: another one refuses. Without it, whatever it is
        version = "version": may u32,
        /// In the caller's words
        reason = "reason": may Words,
    }
}

body! {
    /// Why a requestor is closed
    struct CloseBody {
        /// In the caller's words
        reason = "reason": may Words,
        /// As for registering
        version = "version": may u32,
    }
}

/// A token requestor as it is registered.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Requestor)]
pub(super) struct RequestorTold {
    #[schema(pattern = "^[0-9]{11}$")]
    token_requestor_id: String,
    name: String,
    /// Rises with each change; 0: only in the configuration
    version: u32,
    /// It gets no more tokens
    closed: bool,
    /// The ways of paying that it is registered for; none: any
    domains: Vec<&'static str>,
    notification_url: Option<String>,
    #[schema(format = DateTime)]
    changed_at: Option<String>,
}

impl From<&Registration> for RequestorTold {
    fn from(found: &Registration) -> Self {
        let url = found.requestor.notification_url;
        Self {
            token_requestor_id: found.requestor.id.as_str().to_owned(),
            name: found.requestor.name.as_str().to_owned(),
            version: found.version,
            closed: found.closed,
            domains: found.requestor.controls.domains.iter().map(TokenDomain::name).collect(),
            notification_url: Some(url.as_str().to_owned()).filter(|url| !url.is_empty()),
            changed_at: found.changed_at.and_then(time),
        }
    }
}

/// Which requestor.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfRequestor {
    /// The token requestor's id
    #[param(pattern = "^[0-9]{11}$")]
    #[allow(dead_code, reason = "it only describes what `Path` reads")]
    id: String,
}

type Told = Result<Json<RequestorTold>, Problem>;

impl From<RequestorBody> for TokenRequestor {
    fn from(body: RequestorBody) -> Self {
        let confirms = body.confirms.unwrap_or(false);
        Self {
            id: body.token_requestor_id,
            name: body.name,
            credential: None,
            controls: DomainControls {
                entry_modes: body.entry_modes.into_iter().collect(),
                domains: body.domains.unwrap_or_default().into_iter().collect(),
                merchants: body.merchants.unwrap_or_default().into_iter().map(Into::into).collect(),
                categories: body.categories.unwrap_or_default(),
                most_amount: body.most_amount.map(Amount::from),
                expiry_optional: body.expiry_optional.unwrap_or(false),
                chip_amount_binds: body.chip_amount_binds.unwrap_or(true),
                cryptogram_required: body.cryptogram_required.unwrap_or(false),
            },
            location: body.token_location,
            assurances: body.assurance_methods.unwrap_or_default(),
            activation: if confirms { Activation::Confirmed } else { Activation::AtIssue },
            locations: body.token_locations.unwrap_or_default(),
            notification_url: body.notification_url.unwrap_or_default(),
            limits: RequestorLimits {
                tokens: body.tokens_most,
                tokens_per_pan: body.tokens_per_pan,
                tokens_per_device: body.tokens_per_device,
                detokenizations_per_day: body.detokenizations_per_day,
            },
            shares_with: body.shares_with.unwrap_or_default(),
        }
    }
}

/// A token requestor is registered, or is like this from now on.
#[utoipa::path(
    post,
    path = "/v1/requestors",
    tag = "requestors",
    request_body = RequestorBody,
    responses((status = 200, description = "So it is registered, and durable", body = RequestorTold))
)]
pub(super) async fn set(
    State(service): State<TokenService>,
    caller: Caller,
    Named(request_id): Named,
    Body(mut body): Body<RequestorBody>,
) -> Told {
    if let Some(Err(reason)) = body.notification_url.map(|url| url.as_str().parse::<Endpoint>()) {
        return Err(Problem::wrong(reason).within("notificationUrl"));
    }
    let (version, reason) = (body.version, Words::said(body.reason.take()));
    let asker = Asker { reason, ..caller.asker(request_id) };
    let change = RegistryChange::Set(Box::new(body.into()));
    let found = service.registry(RegistryRequest { asker, version, change }).await?;
    Ok(Json(RequestorTold::from(&found)))
}

/// A token requestor gets no more tokens, for good.
#[utoipa::path(
    post,
    path = "/v1/requestors/{id}/close",
    tag = "requestors",
    params(OfRequestor),
    request_body = CloseBody,
    responses((status = 200, description = "It is closed, and that is durable", body = RequestorTold))
)]
pub(super) async fn close(
    State(service): State<TokenService>,
    caller: Caller,
    Named(request_id): Named,
    Path(id): Path<String>,
    Body(body): Body<CloseBody>,
) -> Told {
    let asker = Asker { reason: Words::said(body.reason), ..caller.asker(request_id) };
    let change = RegistryChange::Close(parsed(&id)?);
    let found = service.registry(RegistryRequest { asker, version: body.version, change }).await?;
    Ok(Json(RequestorTold::from(&found)))
}

/// A token requestor as it is registered.
#[utoipa::path(
    get,
    path = "/v1/requestors/{id}",
    tag = "requestors",
    params(OfRequestor),
    responses((status = 200, description = "As it is now", body = RequestorTold))
)]
pub(super) async fn see(State(service): State<TokenService>, caller: Caller, Path(id): Path<String>) -> Told {
    let found = service.requestor(caller.principal, parsed(&id)?).await?;
    Ok(Json(RequestorTold::from(&found)))
}

/// What is no id names no requestor: the answer is the same.
fn parsed(id: &str) -> Result<TokenRequestorId, Problem> {
    TokenRequestorId::parse(id.as_bytes()).map_err(|_| ProvisioningRefusal::UnknownRequestor.into())
}
