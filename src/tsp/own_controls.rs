//! `TokenControls`: what one token is narrowed to by itself, under its requestor's `DomainControls`. Most tokens have
//! none; a mark in their slot says so, and nobody looks further.

use crate::stdx::clock::Wall;
use crate::vocab::{Amount, Country, Currency, MerchantCategory, Refusal, TokenDomains};

use super::controls::{DomainContext, EntryModes, Merchant};
use super::initiation::InitiationControls;
use super::velocity::VelocityRule;

/// A token's own controls. Each only ever narrows what its requestor's controls allow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenControls {
    /// None: any that the requestor's allow.
    pub entry_modes: Option<EntryModes>,
    /// Empty: any.
    pub merchants: Vec<Merchant>,
    /// Empty: any that is not denied.
    pub categories: Vec<MerchantCategory>,
    pub denied_categories: Vec<MerchantCategory>,
    /// Of the acquirer (DE 19). Empty: any.
    pub countries: Vec<Country>,
    /// Of the payment (DE 49). Empty: any.
    pub currencies: Vec<Currency>,
    /// The most that one transaction may come to; another currency is then not allowed.
    pub most_amount: Option<Amount>,
    /// By how many minor units DE 4 may exceed 9F02, where that is less than everybody may.
    pub amount_tolerance: Option<u64>,
    /// Whether a purchase needs a cryptogram however the token was entered.
    pub cryptogram_required: bool,
    /// Whether a payment without an expiry date is refused even where the requestor's tokens may do without.
    pub expiry_required: bool,
    /// From when on the token is good.
    pub from: Option<Wall>,
    /// When it is good no more.
    pub until: Option<Wall>,
    /// How often and for how much it may be used; each with a window of its own.
    pub velocity: Vec<VelocityRule>,
    /// None stated: any that its requestor is registered for.
    pub domains: TokenDomains,
    /// Who may initiate payments, of those that its requestor's controls let.
    pub initiation: InitiationControls,
}

impl TokenControls {
    /// The most items of each list.
    pub const LIST_MOST: usize = 32;
    /// The most velocity rules.
    pub const RULES_MOST: usize = 4;

    /// Whether they can be kept and kept to: no list too long, no period that is empty, no rule without a limit or with
    /// one past what is remembered.
    #[must_use]
    pub fn valid(&self) -> bool {
        let lists = [
            self.merchants.len(),
            self.categories.len(),
            self.denied_categories.len(),
            self.countries.len(),
            self.currencies.len(),
        ];
        let period = match (self.from, self.until) {
            (Some(from), Some(until)) => from < until,
            _ => true,
        };
        lists.iter().all(|length| *length <= Self::LIST_MOST)
            && period
            && self.entry_modes.is_none_or(|modes| !modes.is_empty())
            && self.velocity.len() <= Self::RULES_MOST
            && self.velocity.iter().all(VelocityRule::valid)
    }

    /// Whether the merchant may use the token.
    ///
    /// # Errors
    /// `MerchantNotAllowed`.
    pub(super) fn check_caller(&self, context: &DomainContext<'_>) -> Result<(), Refusal> {
        let allowed = self.merchants.is_empty() || context.merchant_is_of(&self.merchants);
        allowed.then_some(()).ok_or(Refusal::MerchantNotAllowed)
    }

    /// Whether the token may be used in this way, and now.
    ///
    /// # Errors
    /// `OutsidePeriod`, `EntryModeNotAllowed`, `DomainNotAllowed`, `ChannelNotAllowed`, `CountryNotAllowed`,
    /// `AmountNotAllowed`.
    pub(super) fn check_use(&self, context: &DomainContext<'_>, now: Wall) -> Result<(), Refusal> {
        let too_soon = self.from.is_some_and(|from| now < from);
        if too_soon || self.until.is_some_and(|until| now >= until) {
            return Err(Refusal::OutsidePeriod);
        }
        let entered = |modes: EntryModes| context.entry_mode.is_some_and(|mode| modes.contains(mode));
        if !self.entry_modes.is_none_or(entered) {
            return Err(Refusal::EntryModeNotAllowed);
        }
        context.is_in(self.domains)?;
        // What a payment does not say is in no list of what is allowed; what is denied must be said to be.
        let one_of = |list: &[MerchantCategory]| context.category.is_some_and(|it| list.contains(&it));
        if one_of(&self.denied_categories) || !self.categories.is_empty() && !one_of(&self.categories) {
            return Err(Refusal::ChannelNotAllowed);
        }
        if !self.countries.is_empty() && !context.country.is_some_and(|it| self.countries.contains(&it)) {
            return Err(Refusal::CountryNotAllowed);
        }
        let currency = context.amount.map(|amount| amount.currency());
        if !self.currencies.is_empty() && !currency.is_some_and(|it| self.currencies.contains(&it)) {
            return Err(Refusal::AmountNotAllowed);
        }
        context.within(self.most_amount)
    }
}
