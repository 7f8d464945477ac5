//! `CardCodes`: how many codes went out for a card lately and how many wrong ones came back, whichever tokens they were
//! for. Bounds that each token has for itself hold nobody who may ask for another token of the same card.

use std::time::Duration;

use crate::stdx::clock::Wall;
use crate::stdx::maps::Map;

use super::error::ProvisioningRefusal;
use super::event::Change;
use super::step_up::StepUpLimits;
use super::tsp::Tsp;

/// Of one card, from the first of them on for `StepUpLimits::card_window`; then all is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct CardCodes {
    pub(super) since: Wall,
    pub(super) sent: u8,
    pub(super) wrong: u8,
}

impl CardCodes {
    /// After a change of one of the card's tokens; none for one that is about no code.
    #[allow(clippy::wildcard_enum_match_arm, reason = "no other change is about a code")]
    pub(super) fn after(self, change: &Change, at: Wall, limits: &StepUpLimits) -> Option<Self> {
        let now = if self.is_over(at, limits) { Self { since: at, ..Self::default() } } else { self };
        match change {
            Change::CodeSent { .. } => Some(Self { sent: now.sent.saturating_add(1), ..now }),
            Change::CodeWrong { .. } => Some(Self { wrong: now.wrong.saturating_add(1), ..now }),
            _ => None,
        }
    }

    /// Whether one more code may be sent at `at`.
    ///
    /// # Errors
    /// `CardCodesExhausted`, with the time until it is.
    pub(super) fn may_send(self, at: Wall, limits: &StepUpLimits) -> Result<(), ProvisioningRefusal> {
        if self.sent < limits.card_codes { self.may_try(at, limits) } else { self.wait(at, limits) }
    }

    /// Whether a code may be tried at `at`: with as many wrong ones as there may be, not even the right one.
    ///
    /// # Errors
    /// As `may_send`.
    pub(super) fn may_try(self, at: Wall, limits: &StepUpLimits) -> Result<(), ProvisioningRefusal> {
        if self.wrong < limits.card_tries { Ok(()) } else { self.wait(at, limits) }
    }

    fn wait(self, at: Wall, limits: &StepUpLimits) -> Result<(), ProvisioningRefusal> {
        let left = self.since.plus(limits.card_window).since(at).as_millis().div_ceil(1_000);
        let wait = Duration::from_secs(u64::try_from(left).unwrap_or(u64::MAX));
        if wait.is_zero() { Ok(()) } else { Err(ProvisioningRefusal::CardCodesExhausted { wait }) }
    }

    fn is_over(self, at: Wall, limits: &StepUpLimits) -> bool {
        self.since.plus(limits.card_window) <= at
    }
}

/// By the card's blind index. Each code is some token's, which has few: there are never more cards than the vault may
/// ever have sent codes for, and those whose time is over go.
#[derive(Debug, Default)]
pub(super) struct CodesOfCards {
    cards: Map<[u8; 16], CardCodes>,
    /// So many were left when those whose time is over were last looked for.
    left: usize,
}

/// With fewer cards nothing is looked for.
const FEW: usize = 1_024;

impl CodesOfCards {
    pub(super) fn of(&self, card: &[u8; 16]) -> CardCodes {
        self.cards.get(card).copied().unwrap_or_default()
    }

    pub(super) fn put(&mut self, card: [u8; 16], codes: CardCodes) {
        self.cards.insert(card, codes);
    }

    /// Notes what happened to one of the card's tokens.
    pub(super) fn note(&mut self, card: [u8; 16], change: &Change, at: Wall, limits: &StepUpLimits) {
        let Some(after) = self.of(&card).after(change, at, limits) else { return };
        self.cards.insert(card, after);
        // Looked for once they may have doubled: of each code it costs a constant.
        if self.cards.len() > self.left.saturating_mul(2).max(FEW) {
            self.cards.retain(|_, codes| !codes.is_over(at, limits));
            self.left = self.cards.len();
        }
    }
}

impl Tsp {
    /// A card's codes as they will be once everything that waits is applied.
    pub(super) fn card_codes_ahead(&self, card: &[u8; 16]) -> CardCodes {
        self.ahead.card_codes.get(card).map_or_else(|| self.card_codes.of(card), |(_, codes)| *codes)
    }

    /// Something that waits happens to one of the card's tokens.
    pub(super) fn look_ahead_at_codes(&mut self, card: [u8; 16], change: &Change, at: Wall) {
        let codes = self.card_codes_ahead(&card).after(change, at, &self.config.step_up);
        if let Some(codes) = codes {
            let ahead = self.ahead.card_codes.entry(card).or_default();
            *ahead = (ahead.0 + 1, codes);
        }
    }

    /// It is applied next: the record still is of the card that it was of when it was decided.
    pub(super) fn codes_no_longer_ahead(&mut self, change: &Change) {
        if !matches!(change, Change::CodeSent { .. } | Change::CodeWrong { .. }) {
            return;
        }
        let card = change.record().and_then(|record| self.table.record(record)).map(|it| it.blind_index);
        if let Some(card) = card
            && let Some((times, _)) = self.ahead.card_codes.get_mut(&card)
        {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.ahead.card_codes.remove(&card);
            }
        }
    }
}
