//! `Velocity`: what was lately paid with each token that has a rule about how often or how much. Taken before a request
//! is journaled and given back when nothing came of it; recovered after a restart from the journal's transaction
//! entries. Tokens without a rule never come here.
//!
//! Each payment is remembered under its transaction, so that giving back is exact and may happen twice. A payment
//! that was judged while its token's rules were being changed may count in the new ones, too; never in none.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::journal::{Entry, OutcomeEntry, StoredEntry, StoredKind, TransactionEntry};
use crate::stdx::clock::Wall;
use crate::stdx::maps::Map;
use crate::vocab::{Amount, Currency, Outcome, Refusal, Service, TransactionId, VerdictResult};

/// Tokens are spread over so many locks.
const SHARDS: usize = 64;

/// How many payments are remembered of one token. With so many in the window of any of its rules it is at its limit, of
/// which a rule that says how often can only say less, and one about amounts alone says nothing.
const TAKES_MOST: usize = 128;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// Over which time payments are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VelocityWindow {
    /// From midnight to midnight, UTC.
    Day,
    /// The last so many hours, 1 to 744.
    Hours(u16),
}

impl VelocityWindow {
    /// Thirty-one days.
    pub const HOURS_MOST: u16 = 744;

    /// From when on a payment counts at `now`.
    fn from(self, now: Wall) -> Wall {
        match self {
            Self::Day => Wall(now.0 - now.0 % DAY),
            Self::Hours(hours) => Wall((now.0 + 1).saturating_sub(u64::from(hours) * HOUR)),
        }
    }
}

/// How often, and for how much, a token may be used in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VelocityRule {
    pub window: VelocityWindow,
    pub most_payments: Option<u16>,
    /// In all; another currency is then not allowed.
    pub most_amount: Option<Amount>,
}

impl VelocityRule {
    /// Whether it can be kept to: a window, a limit, and no more payments than are remembered.
    pub(super) fn valid(&self) -> bool {
        let window = match self.window {
            VelocityWindow::Day => true,
            VelocityWindow::Hours(hours) => (1..=VelocityWindow::HOURS_MOST).contains(&hours),
        };
        let payments = self.most_payments.is_none_or(|most| usize::from(most) <= TAKES_MOST);
        window && payments && (self.most_payments.is_some() || self.most_amount.is_some())
    }
}

/// One payment that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Take {
    pub(super) transaction: TransactionId,
    pub(super) at: Wall,
    pub(super) amount: Option<Amount>,
}

/// The payments of one token that count, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Takes {
    list: VecDeque<Take>,
}

impl Takes {
    /// Whether another payment keeps to the rules.
    fn allow(&self, rules: &[VelocityRule], new: &Take) -> Result<(), Refusal> {
        for rule in rules {
            let from = rule.window.from(new.at);
            let within = || self.list.iter().filter(|take| take.at >= from);
            let payments = within().count();
            if payments >= TAKES_MOST || rule.most_payments.is_some_and(|most| payments >= usize::from(most))
            {
                return Err(Refusal::VelocityCountExceeded);
            }
            let Some(most) = rule.most_amount else { continue };
            let same = |amount: &Amount| amount.currency() == most.currency();
            let amount = new.amount.filter(same).ok_or(Refusal::AmountNotAllowed)?;
            let before = within().filter_map(|take| take.amount).filter(same);
            let sum = before.fold(amount.minor(), |sum, amount| sum.saturating_add(amount.minor()));
            if sum > most.minor() {
                return Err(Refusal::VelocityAmountExceeded);
            }
        }
        Ok(())
    }

    /// Remembers a payment; the oldest leaves when there are too many.
    pub(super) fn note(&mut self, take: Take) {
        if self.list.iter().any(|known| known.transaction == take.transaction) {
            return;
        }
        if self.list.len() >= TAKES_MOST {
            self.list.pop_front();
        }
        self.list.push_back(take);
    }

    /// What is left of a payment: a smaller amount, or nothing.
    pub(super) fn leave(&mut self, transaction: TransactionId, left: Option<Amount>) {
        let Some(at) = self.list.iter().position(|take| take.transaction == transaction) else { return };
        match (left.filter(|left| left.minor() > 0), self.list.get_mut(at)) {
            (Some(left), Some(take)) => take.amount = Some(left),
            _ => drop(self.list.remove(at)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.list.len() * 28);
        for take in &self.list {
            out.extend_from_slice(&take.transaction.0.to_be_bytes());
            out.extend_from_slice(&take.at.0.to_be_bytes());
            match take.amount {
                Some(amount) => {
                    out.push(1);
                    out.extend_from_slice(&amount.minor().to_be_bytes());
                    out.extend_from_slice(&amount.currency().digits());
                }
                None => out.push(0),
            }
        }
        out
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut list = VecDeque::new();
        while let Some((transaction, rest)) = bytes.split_first_chunk::<8>() {
            let (at, rest) = rest.split_first_chunk::<8>()?;
            let (amount, rest) = match rest.split_first()? {
                (0, rest) => (None, rest),
                (1, rest) => {
                    let (minor, rest) = rest.split_first_chunk::<8>()?;
                    let (currency, rest) = rest.split_first_chunk::<3>()?;
                    let currency = Currency::parse(currency).ok()?;
                    (Some(Amount::new(u64::from_be_bytes(*minor), currency)), rest)
                }
                _ => return None,
            };
            let (transaction, at) = (u64::from_be_bytes(*transaction), Wall(u64::from_be_bytes(*at)));
            list.push_back(Take { transaction: TransactionId(transaction), at, amount });
            bytes = rest;
        }
        bytes.is_empty().then_some(Self { list })
    }
}

/// What an entry of the journal means to what counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A payment of this record counts from now on.
    Taken(u64, Take),
    /// Of a payment so much is left. The record, where the entry says it.
    Left(TransactionId, Option<u64>, Option<Amount>),
}

/// What an entry means; an outcome with the reversal that it owes means two things, of which the reversal's is the
/// last.
pub(super) fn meaning(entry: &TransactionEntry, at: Wall) -> Option<Meaning> {
    match entry {
        TransactionEntry::Request(request) => {
            let token = request.card.token.as_ref()?;
            let taken = request.verdicts.of(Service::Velocity) == Some(VerdictResult::Good);
            let take = Take { transaction: request.transaction, at, amount: request.elements.amount() };
            taken.then_some(Meaning::Taken(token.record, take))
        }
        TransactionEntry::Outcome(outcome) => Some(of_outcome(outcome)),
        TransactionEntry::Stored(stored) => of_stored(stored),
        TransactionEntry::Delivered(_)
        | TransactionEntry::Tombstone(_)
        | TransactionEntry::Late(_)
        | TransactionEntry::Enquiry(_) => None,
    }
}

fn of_outcome(outcome: &OutcomeEntry) -> Meaning {
    let stands = matches!(outcome.outcome, Outcome::Approved | Outcome::ApprovedPartly);
    // Approved in the issuer's place it stands, though what the issuer may have got is reversed.
    let stands = stands && (outcome.reversal.is_none() || outcome.advice.is_some());
    let left = outcome.approved.filter(|_| stands);
    Meaning::Left(outcome.transaction, None, left)
}

/// An advice of what has happened takes nothing; a reversal leaves what DE 95 says, or nothing.
fn of_stored(stored: &StoredEntry) -> Option<Meaning> {
    match stored.kind {
        StoredKind::Advice | StoredKind::StandIn => None,
        StoredKind::AcquirerReversal | StoredKind::OwnReversal(_) => {
            let record = stored.card.token.as_ref()?.record;
            Some(Meaning::Left(stored.original?, Some(record), stored.elements.final_amount()))
        }
    }
}

/// What counts, of all tokens that have rules.
pub(super) struct Velocity {
    shards: Box<[Mutex<Map<u64, Takes>>]>,
    /// Payments without an outcome, by transaction: an outcome does not name its token. One lock for all, as only
    /// tokens with rules come here.
    open: Mutex<Map<TransactionId, u64>>,
    /// Whether anything was ever counted: where nothing was, an outcome asks no further.
    used: AtomicBool,
}

impl Velocity {
    pub(super) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, open: Mutex::default(), used: AtomicBool::new(false) }
    }

    /// Counts a payment, if it keeps to the rules: of callers at the same time no more pass than the rules let.
    pub(super) fn take(&self, record: u64, rules: &[VelocityRule], take: Take) -> Result<(), Refusal> {
        self.with(record, |takes| {
            takes.allow(rules, &take)?;
            takes.note(take);
            Ok(())
        })
        .unwrap_or(Err(Refusal::VaultUnavailable))?;
        self.open().insert(take.transaction, record);
        Ok(())
    }

    /// A payment came to nothing before it was journaled.
    pub(super) fn give_back(&self, record: u64, transaction: TransactionId) {
        self.open().remove(&transaction);
        self.with(record, |takes| takes.leave(transaction, None));
    }

    /// What an entry means, live and after a restart: it is the same.
    pub(super) fn observe(&self, entry: &TransactionEntry, at: Wall) {
        let may_matter = matches!(entry, TransactionEntry::Request(_)) || self.used.load(Ordering::Relaxed);
        if !may_matter {
            return;
        }
        match meaning(entry, at) {
            Some(Meaning::Taken(record, take)) => {
                self.with(record, |takes| takes.note(take));
                self.open().insert(take.transaction, record);
            }
            Some(Meaning::Left(transaction, record, left)) => {
                let Some(record) = self.open().remove(&transaction).or(record) else { return };
                self.with_known(record, |takes| takes.leave(transaction, left));
            }
            None => {}
        }
    }

    /// As `observe`, of a whole entry.
    pub(super) fn replay(&self, entry: &Entry) {
        if let crate::journal::Body::Transaction(transaction) = &entry.body {
            self.observe(transaction, entry.wall_time);
        }
    }

    /// Puts back what a checkpoint kept.
    pub(super) fn put(&self, record: u64, takes: Takes) {
        self.with(record, |place| *place = takes);
    }

    /// Puts back a payment without an outcome that a checkpoint kept.
    pub(super) fn put_open(&self, transaction: TransactionId, record: u64) {
        self.used.store(true, Ordering::Relaxed);
        self.open().insert(transaction, record);
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Map<TransactionId, u64>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, record: u64) -> Option<std::sync::MutexGuard<'_, Map<u64, Takes>>> {
        let shard = usize::try_from(record % SHARDS as u64).unwrap_or_default();
        Some(self.shards.get(shard)?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with<T>(&self, record: u64, act: impl FnOnce(&mut Takes) -> T) -> Option<T> {
        self.used.store(true, Ordering::Relaxed);
        Some(act(self.shard(record)?.entry(record).or_default()))
    }

    fn with_known(&self, record: u64, act: impl FnOnce(&mut Takes)) {
        let Some(mut shard) = self.shard(record) else { return };
        let Some(takes) = shard.get_mut(&record) else { return };
        act(takes);
        if takes.is_empty() {
            shard.remove(&record);
        }
    }
}
