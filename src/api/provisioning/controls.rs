//! A token's own controls as they stand in a body, and the operation that sets them.

use axum::Json;
use axum::extract::State;

use super::body::{Body, body};
use super::path::Path;
use super::tokens::{OfToken, TokenBody, parsed};
use super::words::Words;
use crate::api::access::{Caller, Named};
use crate::api::error::Problem;
use crate::api::known::Known;
use crate::stdx::clock::Wall;
use crate::tsp::{
    Asker, ControlRequest, InitiationControls, Merchant, TokenControls, TokenService, VelocityRule,
    VelocityWindow,
};
use crate::vocab::{
    Amount, Country, Currency, EntryMode, Initiator, Initiators, LinkId, MerchantCategory, MerchantId,
    TokenDomain,
};

body! {
    /// What a token is narrowed to by itself; whatever is left out is as its requestor's tokens are
    struct ControlsBody {
        /// DE 22, the first two digits
        entry_modes = "entryModes": may Vec<EntryMode>,
        merchants = "merchants": may Vec<MerchantBody>,
        /// Those that are allowed
        categories = "categories": may Vec<MerchantCategory>,
        denied_categories = "deniedCategories": may Vec<MerchantCategory>,
        /// Of the acquirer, ISO 3166-1 in digits
        countries = "countries": may Vec<Country>,
        /// ISO 4217 in digits
        currencies = "currencies": may Vec<Currency>,
        /// The most that one payment may come to
        most_amount = "mostAmount": may AmountBody,
        /// By how many minor units a payment may exceed what the chip signed, if less than by any token
        amount_tolerance = "amountTolerance": may u64,
        /// Whether a purchase needs a cryptogram however the token was entered
        cryptogram_required = "cryptogramRequired": may bool,
        /// Whether a payment must say the token's expiry
        expiry_required = "expiryRequired": may bool,
        /// From when on it is good
        from = "from": may Wall,
        /// When it is good no more
        until = "until": may Wall,
        velocity = "velocity": may Vec<VelocityBody>,
        /// The ways of paying, of those that its requestor is registered for
        domains = "domains": may Vec<TokenDomain>,
        /// Who may initiate its payments; left out: either. Where a merchant is listed, what it initiates needs no
        /// cryptogram by these controls, as long as it names a payment by which its customer agreed
        initiators = "initiators": may Vec<Initiator>,
        /// Whether a merchant must name such a payment
        original_required = "originalRequired": may bool,
    }
}

body! {
    /// A merchant at its acquirer
    struct MerchantBody {
        /// The number of the acquirer's link
        acquirer = "acquirer": must u16,
        /// DE 42
        id = "id": must MerchantId,
    }
}

body! {
    /// An amount
    struct AmountBody {
        /// In the currency's smallest units
        minor = "minor": must u64,
        currency = "currency": must Currency,
    }
}

body! {
    /// How often, or for how much, in a window; at least one of the two. After 128 payments in it there is no other,
    /// also where only the amount is limited
    struct VelocityBody {
        /// The last so many hours, at most 744; without it the day, from midnight to midnight UTC
        hours = "hours": may u16,
        /// At most 128
        most_payments = "mostPayments": may u16,
        most_amount = "mostAmount": may AmountBody,
    }
}

body! {
    /// Controls in place of those that the token has
    struct SetControlsBody {
        /// Left out: only its requestor's from now on
        controls = "controls": may ControlsBody,
        /// In the caller's words
        reason = "reason": may Words,
        /// The version of the token that the caller has seen: another one refuses. Without it, whatever it is
        version = "version": may u32,
    }
}

impl From<AmountBody> for Amount {
    fn from(body: AmountBody) -> Self {
        Self::new(body.minor, body.currency)
    }
}

impl From<MerchantBody> for Merchant {
    fn from(body: MerchantBody) -> Self {
        Self { acquirer: LinkId(body.acquirer), id: body.id }
    }
}

impl From<VelocityBody> for VelocityRule {
    fn from(body: VelocityBody) -> Self {
        Self {
            window: body.hours.map_or(VelocityWindow::Day, VelocityWindow::Hours),
            most_payments: body.most_payments,
            most_amount: body.most_amount.map(Amount::from),
        }
    }
}

impl From<ControlsBody> for TokenControls {
    fn from(body: ControlsBody) -> Self {
        Self {
            entry_modes: body.entry_modes.map(|modes| modes.into_iter().collect()),
            merchants: body.merchants.unwrap_or_default().into_iter().map(Into::into).collect(),
            categories: body.categories.unwrap_or_default(),
            denied_categories: body.denied_categories.unwrap_or_default(),
            countries: body.countries.unwrap_or_default(),
            currencies: body.currencies.unwrap_or_default(),
            most_amount: body.most_amount.map(Amount::from),
            amount_tolerance: body.amount_tolerance,
            cryptogram_required: body.cryptogram_required.unwrap_or(false),
            expiry_required: body.expiry_required.unwrap_or(false),
            from: body.from,
            until: body.until,
            velocity: body.velocity.unwrap_or_default().into_iter().map(VelocityRule::from).collect(),
            domains: body.domains.unwrap_or_default().into_iter().collect(),
            initiation: initiation(body.initiators, body.original_required),
        }
    }
}

/// Who may initiate payments.
pub(super) fn initiation(initiators: Option<Vec<Initiator>>, required: Option<bool>) -> InitiationControls {
    let initiators = Initiators::of(&initiators.unwrap_or_default());
    InitiationControls { initiators, original_required: required.unwrap_or(false) }
}

/// A token's own controls, in place of those it has.
#[utoipa::path(
    post,
    path = "/v1/tokens/{reference}/controls",
    tag = "tokens",
    params(OfToken),
    request_body = SetControlsBody,
    responses((status = 200, description = "Every payment is held to them", body = TokenBody))
)]
pub(super) async fn set(
    State(service): State<TokenService>,
    State(known): State<Known>,
    caller: Caller,
    Named(request_id): Named,
    Path(reference): Path<String>,
    Body(body): Body<SetControlsBody>,
) -> Result<Json<TokenBody>, Problem> {
    let reason = Words::said(body.reason);
    let request = ControlRequest {
        asker: Asker { reason, ..caller.asker(request_id) },
        reference: parsed(&reference)?,
        version: body.version,
        controls: body.controls.map(|controls| Box::new(controls.into())),
    };
    known.controls(request.controls.as_deref())?;
    let token = service.control(request).await?;
    Ok(Json(TokenBody::from(&token)))
}
