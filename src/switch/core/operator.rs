//! What a person decides about stored messages that do not arrive: tried again, or closed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::journal::{CardRef, StoredEntry, StoredKind};
use crate::stdx::clock::{Now, Wall};
use crate::vocab::{Amount, Currency, LinkId, MaskedPan, ResponseCode, TransactionId};

use super::super::event::{Action, OperatedEnd};
use super::super::operator::{Decision, OperatorAct};
use super::super::status::Suspense;
use super::super::store_forward::{Item, Standing};
use super::{SwitchCore, Then};

/// A stored message that a person must look at.
#[derive(Debug, Clone)]
pub struct Exception {
    pub stored: TransactionId,
    pub kind: StoredKind,
    pub issuer: LinkId,
    pub card: Arc<CardRef>,
    /// The transaction that its card is sealed for, if it came with a PAN.
    pub sealed_for: TransactionId,
    /// What the issuer's book and ours may differ by.
    pub amount: Option<Amount>,
    /// Since when it is owed.
    pub since: Wall,
    /// In this run of the process.
    pub attempts: u32,
    /// What the issuer said last.
    pub code: Option<ResponseCode>,
    pub standing: Standing,
}

/// A stored message that a person must look at, as it may be shown.
#[derive(Debug, Clone)]
pub struct ListedException {
    pub exception: Exception,
    /// The issuer's name.
    pub issuer: String,
    /// The token or the card's number, masked; none if its envelope does not open.
    pub account: Option<MaskedPan>,
}

impl Exception {
    /// Whether it takes money back, and is no advice.
    #[must_use]
    pub fn is_reversal(&self) -> bool {
        match self.kind {
            StoredKind::Advice | StoredKind::StandIn => false,
            StoredKind::AcquirerReversal | StoredKind::OwnReversal(_) => true,
        }
    }
}

impl SwitchCore {
    /// What a person must look at, the oldest first.
    #[must_use]
    pub fn exceptions(&self, now: Wall) -> Vec<Exception> {
        let mut all: Vec<Exception> =
            self.listed(now).map(|(item, standing)| exception(item, standing)).collect();
        all.sort_unstable_by_key(|exception| (exception.since, exception.stored));
        all
    }

    /// The same, summed up.
    #[must_use]
    pub fn suspense(&self, now: Wall) -> Vec<Suspense> {
        let mut sums: BTreeMap<_, Suspense> = BTreeMap::new();
        for (item, standing) in self.listed(now) {
            let (issuer, amount) = (item.entry.issuer.link, at_stake(&item.entry));
            let currency = amount.map(Amount::currency);
            let empty = Suspense { issuer, standing, currency, count: 0, minor: 0 };
            let sum = sums.entry((issuer, standing, currency.map(Currency::number))).or_insert(empty);
            sum.count += 1;
            sum.minor = sum.minor.saturating_add(amount.map_or(0, Amount::minor));
        }
        sums.into_values().collect()
    }

    fn listed(&self, now: Wall) -> impl Iterator<Item = (&Item, Standing)> {
        self.stored.exceptions(now, |issuer| self.issuer(issuer).is_some())
    }

    /// Issuers that are owed something and are not in the configuration, with how many messages wait.
    #[must_use]
    pub fn owed_elsewhere(&self) -> Vec<(LinkId, usize)> {
        let owed = self.stored.owed().into_iter();
        owed.filter(|(issuer, _)| self.issuer(*issuer).is_none()).collect()
    }

    /// A person decided: nothing is done, and nothing said, before that is durable. What is no exception is left
    /// alone.
    pub(super) fn operate(&mut self, call: u64, act: OperatorAct, now: Now, actions: &mut Vec<Action>) {
        let is_there = |issuer| self.issuer(issuer).is_some();
        if !self.stored.is_exception(act.stored, now.wall, is_there) {
            return actions.push(Action::Operated { call, end: OperatedEnd::NotListed });
        }
        let stale = self.stored.is_parked(act.stored)
            && self.stored.find(act.stored).is_some_and(|item| item.taken_back);
        if stale && act.decision == Decision::Retry {
            return actions.push(Action::Operated { call, end: OperatedEnd::TakenBack });
        }
        let (stored, decision) = (act.stored, act.decision);
        let ticket = self.ticket(Then::Operated { call, stored, decision });
        actions.push(Action::AppendAct { ticket, act: Box::new(act) });
    }

    /// It is durable.
    pub(super) fn operated(
        &mut self,
        call: u64,
        (stored, decision): (TransactionId, Decision),
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        actions.push(Action::Operated { call, end: OperatedEnd::Done });
        let issuer = match decision {
            Decision::Retry => {
                self.stored.retry(stored, now.moment);
                let issuer = self.stored.get(stored).map(|item| item.entry.issuer.link);
                issuer.inspect(|issuer| self.stored.wake(*issuer))
            }
            Decision::Close => self.stored.close(stored, now.moment).map(|item| {
                actions.push(Action::LetGo { transaction: stored });
                self.stored_number_ends(&item.entry, now);
                item.entry.issuer.link
            }),
        };
        if let Some(issuer) = issuer {
            self.deliver_due(issuer, now, actions);
        }
    }
}

fn exception(item: &Item, standing: Standing) -> Exception {
    let entry = &item.entry;
    Exception {
        stored: entry.transaction,
        kind: entry.kind,
        issuer: entry.issuer.link,
        card: Arc::clone(&entry.card),
        sealed_for: entry.sealed_for(),
        amount: at_stake(entry),
        since: item.since,
        attempts: item.attempts,
        code: item.code,
        standing,
    }
}

/// What an advice moves, or a reversal takes back.
fn at_stake(entry: &StoredEntry) -> Option<Amount> {
    let amount = entry.elements.amount()?;
    match entry.elements.final_amount() {
        Some(left) => amount.minus(left).ok(),
        None => Some(amount),
    }
}
