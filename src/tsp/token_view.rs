//! `TokenView`: what a requestor is told of its token.

use crate::stdx::clock::Wall;
use crate::vocab::{
    Contacts, Digits, Expiry, Par, Token, TokenAssuranceMethod, TokenLocation, TokenReferenceId,
    TokenRequestorId, YearMonth,
};

use super::event::Reason;
use super::lifecycle::{Lifecycle, TokenStatus};
use super::own_controls::TokenControls;
use super::owners::Owners;
use super::record::VaultRecord;

/// A token as its requestor sees it. Nothing in it leads to the card but the last four digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenView {
    pub token: Token,
    pub expiry: Expiry,
    pub reference: TokenReferenceId,
    pub par: Option<Par>,
    pub requestor: TokenRequestorId,
    pub assurance: TokenAssuranceMethod,
    pub location: TokenLocation,
    /// Of the PAN.
    pub last4: Digits<4>,
    pub lifecycle: Lifecycle,
    /// Its expiry date is past; until that is renewed, nothing but unlinking may be asked of it.
    pub expired: bool,
    pub issued_at: Wall,
    pub changed_at: Wall,
    /// What its cardholder has to do before it is good.
    pub step_up: Option<StepUpView>,
}

/// A token as it is, with what it is narrowed to by itself, and who set what of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenToken {
    pub token: TokenView,
    pub controls: Option<Box<TokenControls>>,
    pub owners: Owners,
    /// Why its status is what it is.
    pub because: Reason,
}

/// What is left to do, and how often it may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepUpView {
    pub contacts: Contacts,
    pub codes_left: u8,
    pub tries_left: u8,
    /// Until when the last code is good; none before the first.
    pub code_until: Option<Wall>,
}

impl TokenView {
    /// The word for where it stands outside. Expired is no status of its own, yet it is what counts while it lasts.
    #[must_use]
    pub fn status(&self) -> &'static str {
        if self.expired { "expired" } else { self.lifecycle.status.name() }
    }

    /// The record as it is on this day.
    pub(super) fn of(record: &VaultRecord, today: YearMonth) -> Self {
        let gone = record.lifecycle.status == TokenStatus::Deactivated;
        Self {
            step_up: None,
            expired: !gone && record.expiry.is_past(today),
            token: record.token,
            expiry: record.expiry,
            reference: record.reference,
            par: record.par,
            requestor: record.requestor,
            assurance: record.assurance,
            location: record.location,
            last4: record.last4,
            lifecycle: record.lifecycle,
            issued_at: record.issued_at,
            changed_at: record.changed_at,
        }
    }
}
