//! What can be set, as answers tell it: in the very shape in which bodies set it, so that an answer, changed here or
//! there, can be sent back. What is not set is left out, as it is there.

use serde::Serialize;
use utoipa::ToSchema;

use super::words::{digits, time};
use crate::tsp::{EntryModes, InitiationControls, Merchant, TokenControls, VelocityRule, VelocityWindow};
use crate::vocab::{Amount, Initiator, Initiators, MerchantCategory, TokenDomain, TokenDomains};

/// A merchant at its acquirer.
#[derive(Serialize, ToSchema)]
#[schema(as = Merchant)]
pub(super) struct MerchantTold {
    /// The number of the acquirer's link
    acquirer: u16,
    /// DE 42
    id: String,
}

/// An amount.
#[derive(Serialize, ToSchema)]
#[schema(as = Amount)]
pub(super) struct AmountTold {
    /// In the currency's smallest units
    minor: u64,
    /// ISO 4217 in digits
    #[schema(pattern = "^[0-9]{3}$")]
    currency: String,
}

/// How often, or for how much, in a window.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Velocity)]
pub(super) struct VelocityTold {
    /// The last so many hours; without it the day, from midnight to midnight UTC
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    hours: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    most_payments: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    most_amount: Option<AmountTold>,
}

/// What a token is narrowed to by itself; what is left out is as its requestor's tokens are.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Controls)]
pub(super) struct ControlsTold {
    /// DE 22, the first two digits
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entry_modes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    merchants: Vec<MerchantTold>,
    /// Those that are allowed
    #[serde(skip_serializing_if = "Vec::is_empty")]
    categories: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    denied_categories: Vec<String>,
    /// Of the acquirer, ISO 3166-1 in digits
    #[serde(skip_serializing_if = "Vec::is_empty")]
    countries: Vec<String>,
    /// ISO 4217 in digits
    #[serde(skip_serializing_if = "Vec::is_empty")]
    currencies: Vec<String>,
    /// The most that one payment may come to
    #[serde(skip_serializing_if = "Option::is_none")]
    most_amount: Option<AmountTold>,
    /// By how many minor units a payment may exceed what the chip signed, if less than by any token
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    amount_tolerance: Option<u64>,
    cryptogram_required: bool,
    expiry_required: bool,
    /// From when on it is good
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    from: Option<String>,
    /// When it is good no more
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    until: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    velocity: Vec<VelocityTold>,
    /// The ways of paying
    #[serde(skip_serializing_if = "Vec::is_empty")]
    domains: Vec<&'static str>,
    /// Who may initiate its payments
    #[serde(skip_serializing_if = "Vec::is_empty")]
    initiators: Vec<&'static str>,
    original_required: bool,
}

impl From<&Merchant> for MerchantTold {
    fn from(merchant: &Merchant) -> Self {
        Self { acquirer: merchant.acquirer.0, id: merchant.id.as_str().to_owned() }
    }
}

impl From<&Amount> for AmountTold {
    fn from(amount: &Amount) -> Self {
        Self { minor: amount.minor(), currency: digits(&amount.currency().digits()) }
    }
}

impl From<&VelocityRule> for VelocityTold {
    fn from(rule: &VelocityRule) -> Self {
        Self {
            hours: match rule.window {
                VelocityWindow::Day => None,
                VelocityWindow::Hours(hours) => Some(hours),
            },
            most_payments: rule.most_payments,
            most_amount: rule.most_amount.as_ref().map(Into::into),
        }
    }
}

impl From<&TokenControls> for ControlsTold {
    fn from(controls: &TokenControls) -> Self {
        let InitiationControls { initiators: by, original_required } = controls.initiation;
        Self {
            entry_modes: entry_modes(controls.entry_modes.unwrap_or_default()),
            merchants: merchants(&controls.merchants),
            categories: categories(&controls.categories),
            denied_categories: categories(&controls.denied_categories),
            countries: controls.countries.iter().map(|country| format!("{:03}", country.0)).collect(),
            currencies: controls.currencies.iter().map(|currency| digits(&currency.digits())).collect(),
            most_amount: controls.most_amount.as_ref().map(Into::into),
            amount_tolerance: controls.amount_tolerance,
            cryptogram_required: controls.cryptogram_required,
            expiry_required: controls.expiry_required,
            from: controls.from.and_then(time),
            until: controls.until.and_then(time),
            velocity: controls.velocity.iter().map(VelocityTold::from).collect(),
            domains: domains(controls.domains),
            initiators: initiators(by),
            original_required,
        }
    }
}

pub(super) fn entry_modes(modes: EntryModes) -> Vec<String> {
    modes.iter().map(|mode| format!("{:02}", mode.get())).collect()
}

pub(super) fn merchants(merchants: &[Merchant]) -> Vec<MerchantTold> {
    merchants.iter().map(MerchantTold::from).collect()
}

pub(super) fn categories(categories: &[MerchantCategory]) -> Vec<String> {
    categories.iter().map(|category| format!("{:04}", category.0)).collect()
}

pub(super) fn domains(domains: TokenDomains) -> Vec<&'static str> {
    domains.iter().map(TokenDomain::name).collect()
}

/// None where none are stated.
pub(super) fn initiators(initiators: Initiators) -> Vec<&'static str> {
    let stated = initiators != Initiators::Unstated;
    let listed = Initiator::ALL.into_iter().filter(|it| stated && initiators.allow(*it));
    listed.map(Initiator::name).collect()
}
