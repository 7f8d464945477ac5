//! What a stand-in may approve for one issuer, and how much of that was used.

use std::collections::VecDeque;
use std::time::Duration;

use crate::codec::DataElement;
use crate::journal::Elements;
use crate::stdx::clock::Wall;
use crate::stdx::maps::Map;
use crate::vocab::{
    Amount, EntryMode, MerchantCategory, PosEntryMode, Service, TokenAssuranceMethod, VerdictResult,
};

use super::event::CardMark;
use super::transaction::Routed;

/// What an issuer lets this switch approve for it. All of it must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandInTerms {
    /// The most that one payment may come to, and its currency.
    pub most: Amount,
    /// Approvals for one card within `period`.
    pub count: usize,
    pub period: Duration,
    /// Merchant categories (DE 18); none: all.
    pub categories: Vec<MerchantCategory>,
    /// DE 22 positions 1 and 2; none: all.
    pub entry_modes: Vec<EntryMode>,
    /// Assurance methods that a token must have one of; none: any token, and cards themselves.
    pub assurances: Vec<TokenAssuranceMethod>,
}

/// A payment that might be approved.
#[derive(Debug)]
pub(super) struct Asking<'a> {
    pub amount: Amount,
    pub elements: &'a Elements,
    pub routed: &'a Routed,
}

impl StandInTerms {
    /// Whether the payment is within the terms, its card's count apart.
    #[must_use]
    pub(super) fn allow(&self, asking: &Asking<'_>) -> bool {
        let within =
            asking.amount.currency() == self.most.currency() && asking.amount.minor() <= self.most.minor();
        within && self.allows_place(asking.elements) && self.allows_card(asking)
    }

    fn allows_place(&self, elements: &Elements) -> bool {
        let category = elements.get(DataElement::MERCHANT_CATEGORY.number());
        let category = category.and_then(|value| MerchantCategory::parse(value).ok());
        self.categories.is_empty() || category.is_some_and(|category| self.categories.contains(&category))
    }

    /// A chip that nobody here has verified is for its issuer.
    fn allows_card(&self, asking: &Asking<'_>) -> bool {
        let mode = asking.elements.get(DataElement::ENTRY_MODE.number());
        let mode = mode.and_then(|value| PosEntryMode::parse(value).ok()).map(|mode| mode.entry);
        let by_mode =
            self.entry_modes.is_empty() || mode.is_some_and(|mode| self.entry_modes.contains(&mode));
        let chip = mode.is_some_and(|mode| mode.has_chip_data());
        let verified = asking.routed.verdicts.of(Service::Cryptogram) == Some(VerdictResult::Good);
        if asking.routed.is_for_issuer_to_check() {
            return false;
        }
        let token = asking.routed.card.token.as_ref();
        let assured = self.assurances.is_empty()
            || token.is_some_and(|token| self.assurances.contains(&token.assurance));
        by_mode && (!chip || verified) && assured
    }
}

/// When the cards of one issuer were stood in for.
#[derive(Debug, Default)]
pub(super) struct StoodIn {
    by_card: Map<CardMark, usize>,
    /// The oldest first.
    all: VecDeque<(Wall, CardMark)>,
}

impl StoodIn {
    /// Whether the card has not used up its count, and the issuer's cards together not `most`.
    #[must_use]
    pub(super) fn has_room(&mut self, mark: CardMark, terms: &StandInTerms, most: usize, now: Wall) -> bool {
        while self.all.front().is_some_and(|(at, _)| at.plus(terms.period) <= now) {
            let Some((_, mark)) = self.all.pop_front() else { break };
            if let Some(used) = self.by_card.get_mut(&mark) {
                *used -= 1;
                if *used == 0 {
                    self.by_card.remove(&mark);
                }
            }
        }
        self.all.len() < most && self.by_card.get(&mark).copied().unwrap_or_default() < terms.count
    }

    pub(super) fn note(&mut self, mark: CardMark, at: Wall) {
        *self.by_card.entry(mark).or_default() += 1;
        self.all.push_back((at, mark));
    }

    /// Approvals remembered.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}
