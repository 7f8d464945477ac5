//! `/v1/requestors`: the registry of token requestors, for operators.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::body::{Body, body};
use super::controls::{AmountBody, MerchantBody, initiation};
use super::device_keys::Base64;
use super::path::Path;
use super::told::{self, AmountTold, MerchantTold};
use super::words::{Address, Words, digits, time};
use crate::api::access::{Caller, Named};
use crate::api::error::Problem;
use crate::api::known::Known;
use crate::api::notifier::Endpoint;
use crate::stdx::clock::Wall;
use crate::tsp::{
    Activation, Asker, DomainControls, ProvisioningRefusal, Registration, RegistryChange, RegistryRequest,
    RequestorLimits, TokenRequestor, TokenService,
};
use crate::vocab::{
    Amount, EntryMode, Initiator, MerchantCategory, Text, TokenAssuranceMethod, TokenDomain, TokenLocation,
    TokenRequestorId, holds_account,
};

body! {
    /// A token requestor as it is to be from now on, all of it: what is left out is not set any more. Tokens that it
    /// has keep what they were given
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
        /// Who may initiate payments with its tokens; left out: either. Where a merchant is listed, what it initiates
        /// needs no cryptogram by these controls, as long as it names a payment by which its customer agreed
        initiators = "initiators": may Vec<Initiator>,
        /// Whether a merchant must name such a payment
        original_required = "originalRequired": may bool,
        /// Where it keeps tokens as a rule
        token_location = "tokenLocation": must TokenLocation,
        /// Where it may; left out: anywhere
        token_locations = "tokenLocations": may Vec<TokenLocation>,
        /// The assurance methods that it may claim
        assurance_methods = "assuranceMethods": may Vec<TokenAssuranceMethod>,
        /// Whether its tokens are good only once it has confirmed that they arrived
        confirms = "confirms": may bool,
        /// Where it hears what becomes of its tokens, from this registration on: https, or http on this machine
        notification_url = "notificationUrl": may Address,
        /// How many tokens it may have
        tokens_most = "tokensMost": may u32,
        tokens_per_pan = "tokensPerPan": may u32,
        tokens_per_device = "tokensPerDevice": may u32,
        /// How many of their cards' numbers may be told in a day outside of payments; left out: not one
        detokenizations_per_day = "detokenizationsPerDay": may u32,
        /// Requestors that may have tokens made for the cards behind its tokens
        shares_with = "sharesWith": may Vec<TokenRequestorId>,
        /// The thumbprints (RFC 7638) of the keys for which alone its tokens' keys leave; left out: the key of each
        /// token's first device
        wrapping_keys = "wrappingKeys": may Vec<Base64>,
        /// The version that the caller has seen, 0 for a new one: another one refuses. Without it, whatever it is
        version = "version": may u32,
        /// In the caller's words
        reason = "reason": may Words,
        /// As an answer has it, which can be sent back so; nothing follows from it
        closed = "closed": may bool,
        /// As `closed`
        changed_at = "changedAt": may Wall,
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

/// A token requestor as it is registered: all that can be set, in the shape in which it is set. What is left out is not
/// set.
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
    entry_modes: Vec<String>,
    /// The ways of paying that it is registered for; none: any
    domains: Vec<&'static str>,
    merchants: Vec<MerchantTold>,
    categories: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    most_amount: Option<AmountTold>,
    expiry_optional: bool,
    chip_amount_binds: bool,
    cryptogram_required: bool,
    /// Who may initiate payments with its tokens; none: either
    initiators: Vec<&'static str>,
    original_required: bool,
    #[schema(pattern = "^[0-9]{2}$")]
    token_location: String,
    /// None: anywhere
    token_locations: Vec<String>,
    assurance_methods: Vec<String>,
    /// Its tokens are good only once it has confirmed that they arrived
    confirms: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    notification_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    tokens_most: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    tokens_per_pan: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    tokens_per_device: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detokenizations_per_day: Option<u32>,
    shares_with: Vec<String>,
    /// The keys for which alone its tokens' keys leave; none: that of each token's first device
    wrapping_keys: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    changed_at: Option<String>,
}

impl From<&Registration> for RequestorTold {
    fn from(found: &Registration) -> Self {
        let Registration { requestor, version, closed, changed_at } = found;
        let (controls, limits, url) = (&requestor.controls, requestor.limits, requestor.notification_url);
        Self {
            token_requestor_id: requestor.id.as_str().to_owned(),
            name: requestor.name.as_str().to_owned(),
            version: *version,
            closed: *closed,
            entry_modes: told::entry_modes(controls.entry_modes),
            domains: told::domains(controls.domains),
            merchants: told::merchants(&controls.merchants),
            categories: told::categories(&controls.categories),
            most_amount: controls.most_amount.as_ref().map(AmountTold::from),
            expiry_optional: controls.expiry_optional,
            chip_amount_binds: controls.chip_amount_binds,
            cryptogram_required: controls.cryptogram_required,
            initiators: told::initiators(controls.initiation.initiators),
            original_required: controls.initiation.original_required,
            token_location: location(&requestor.location),
            token_locations: requestor.locations.iter().map(location).collect(),
            assurance_methods: requestor.assurances.iter().map(|it| digits(&it.digits())).collect(),
            confirms: requestor.activation == Activation::Confirmed,
            notification_url: Some(url.as_str().to_owned()).filter(|url| !url.is_empty()),
            tokens_most: limits.tokens,
            tokens_per_pan: limits.tokens_per_pan,
            tokens_per_device: limits.tokens_per_device,
            detokenizations_per_day: limits.detokenizations_per_day,
            shares_with: requestor.shares_with.iter().map(|id| id.as_str().to_owned()).collect(),
            wrapping_keys: requestor.wrapping_keys.iter().map(|key| key.as_str().to_owned()).collect(),
            changed_at: changed_at.and_then(time),
        }
    }
}

fn location(location: &TokenLocation) -> String {
    format!("{:02}", location.code())
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
                initiation: initiation(body.initiators, body.original_required),
            },
            location: body.token_location,
            assurances: body.assurance_methods.unwrap_or_default(),
            activation: if confirms { Activation::Confirmed } else { Activation::AtIssue },
            locations: body.token_locations.unwrap_or_default(),
            notification_url: body.notification_url.map(|Address(url)| url).unwrap_or_default(),
            limits: RequestorLimits {
                tokens: body.tokens_most,
                tokens_per_pan: body.tokens_per_pan,
                tokens_per_device: body.tokens_per_device,
                detokenizations_per_day: body.detokenizations_per_day,
            },
            shares_with: body.shares_with.unwrap_or_default(),
            wrapping_keys: body
                .wrapping_keys
                .unwrap_or_default()
                .iter()
                .filter_map(Base64::thumbprint)
                .collect(),
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
    State(known): State<Known>,
    caller: Caller,
    Named(request_id): Named,
    Body(mut body): Body<RequestorBody>,
) -> Told {
    if body.closed == Some(true) {
        return Err(Problem::invalid("closed", "is what closing a requestor says").well_formed());
    }
    // That which its version says, too: nothing is held to it.
    let _ = body.changed_at;
    let url = body.notification_url.as_ref().map_or("", |Address(url)| url.as_str());
    for (field, words) in [("name", body.name.as_str()), ("notificationUrl", url)] {
        if holds_account(words) {
            return Err(Problem::account_number(field));
        }
    }
    if body.notification_url.is_some() {
        let endpoint = url.parse::<Endpoint>();
        let endpoint =
            endpoint.map_err(|reason| Problem::invalid("notificationUrl", reason).well_formed())?;
        known.receiver(&endpoint)?;
    }
    let (version, reason) = (body.version, Words::said(body.reason.take()));
    let asker = Asker { reason, ..caller.asker(request_id) };
    let requestor: Box<TokenRequestor> = Box::new(body.into());
    known.merchants(&requestor.controls.merchants)?;
    let change = RegistryChange::Set(requestor);
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

/// Token requestors, in order of their ids.
#[derive(Serialize, ToSchema)]
#[schema(as = Requestors)]
pub(super) struct RequestorsTold {
    #[schema(max_items = 100)]
    requestors: Vec<RequestorTold>,
    /// What to ask for next, as `after`; left out where these were the last
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^[0-9]{11}$")]
    next: Option<String>,
}

/// So many are told at a time.
const PAGE: usize = 100;

/// Where a page begins.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageOf {
    /// The requestors after this one, by id; without it, from the first on
    #[param(required = false, pattern = "^[0-9]{11}$")]
    #[allow(dead_code, reason = "it only describes what `page_after` reads")]
    after: String,
}

/// All token requestors, closed ones and those of the configuration included, a page at a time.
#[utoipa::path(
    get,
    path = "/v1/requestors",
    tag = "requestors",
    params(PageOf),
    responses((status = 200, description = "As they are now", body = RequestorsTold))
)]
pub(super) async fn list(
    State(service): State<TokenService>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<RequestorsTold>, Problem> {
    let after = page_after(query.as_deref().unwrap_or_default())?;
    let found = service.requestors(caller.principal, after, PAGE).await?;
    let next = found.last().filter(|_| found.len() == PAGE).map(|last| last.requestor.id.to_string());
    Ok(Json(RequestorsTold { requestors: found.iter().map(RequestorTold::from).collect(), next }))
}

/// Nothing, or `after` with an id.
fn page_after(query: &str) -> Result<Option<TokenRequestorId>, Problem> {
    if query.is_empty() {
        return Ok(None);
    }
    let id = query.strip_prefix("after=").unwrap_or_default();
    let wrong = |_| Problem::invalid("after", "must be a token requestor's id, and is all that can be asked");
    TokenRequestorId::parse(id.as_bytes()).map(Some).map_err(wrong)
}

/// What is no id names no requestor: the answer is the same.
fn parsed(id: &str) -> Result<TokenRequestorId, Problem> {
    TokenRequestorId::parse(id.as_bytes()).map_err(|_| ProvisioningRefusal::UnknownRequestor.into())
}
