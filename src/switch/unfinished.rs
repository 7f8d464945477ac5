//! `Unfinished`: what entries began and no later one ended, and how far back the answers that are still remembered
//! reach. With it a start reads the journal from there on, however long that is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::crypto::KeyDescription;
use crate::journal::{
    Body, DeliveredEntry, DeliveryEnd, Entry, EntryNumber, IssuerLeg, KeyEvent, OutcomeEntry, RequestEntry,
    StoredEntry, StoredKind, TombstoneEntry, TransactionEntry,
};
use crate::stdx::clock::Wall;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{LinkId, ResponseCode, SentAt, SettlementWindow, TransactionId};

use super::config::Limits;
use super::numbers::LastNumbers;
use super::operator::{Decision, OperatorAct};
use super::recovery::RecoveryError;

/// Places, among the answers that are remembered, from which a start could read: so much more than it needs it reads
/// at most, as a fraction of them. There is one a day besides, so that old segments can go where payments are few.
const MILESTONES: u64 = 32;

/// What a restart must know of all entries so far, the answers apart.
#[derive(Debug, Clone)]
pub struct Unfinished {
    pub(super) limits: Limits,
    /// Requests without an outcome, each with its entry's number and time.
    pub(super) open: BTreeMap<TransactionId, (EntryNumber, Wall, Box<RequestEntry>)>,
    /// What issuers are owed.
    pub(super) stored: BTreeMap<TransactionId, Owed>,
    /// What issuers will never take, or did not for too long.
    pub(super) parked: BTreeMap<TransactionId, Parked>,
    /// Requests without an outcome that are taken back whole, each with its reversal.
    pub(super) reversed: BTreeMap<TransactionId, TransactionId>,
    /// Windows that were begun and not closed.
    pub(super) windows: BTreeSet<SettlementWindow>,
    /// The newest reversals of unknown originals.
    pub(super) tombstones: BTreeMap<EntryNumber, (Wall, TombstoneEntry)>,
    /// The newest approvals in each issuer's place, by their advices.
    pub(super) stood_in: BTreeMap<LinkId, BTreeMap<EntryNumber, (Wall, StoredEntry)>>,
    /// Which keys came into use.
    pub(super) keys: BTreeMap<EntryNumber, (Wall, KeyEvent)>,
    pub(super) last_numbers: BTreeMap<LinkId, LastNumbers>,
    pub(super) last_transaction: u64,
    /// Messages that were ever parked.
    pub(super) ever_parked: u64,
    /// The latest day, counted since 1970.
    pub(super) day: u64,
    pub(super) answers: Answers,
}

/// A message that an issuer is to get.
#[derive(Debug, Clone)]
pub(super) struct Owed {
    /// In which entry it was stored: what is owed for one card goes out in this order, and not in that of the
    /// transactions, some of which waited for a look-up before they were taken over.
    pub(super) number: EntryNumber,
    pub(super) since: Wall,
    pub(super) message: StoredEntry,
}

/// A message that waits for a person.
#[derive(Debug, Clone)]
pub(super) struct Parked {
    pub(super) owed: Owed,
    /// What its issuer said, if anything.
    pub(super) code: Option<ResponseCode>,
    /// A reversal of it was taken over.
    pub(super) taken_back: bool,
}

impl Owed {
    fn of(message: &StoredEntry, entry: &Entry) -> Self {
        Self { number: entry.number, since: entry.wall_time, message: message.clone() }
    }
}

/// How many answers there were, and from where on the newest of them stand in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answers {
    pub(super) count: u64,
    /// The newest DE 7 that was answered on each acquirer's link.
    pub(super) newest: BTreeMap<LinkId, SentAt>,
    /// The oldest first, and never empty. All but the first are needed once more answers have come.
    pub(super) milestones: VecDeque<Milestone>,
}

/// A place in the journal such that every request answered after it was made stands after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Milestone {
    pub(super) from: EntryNumber,
    /// How many answers there were, and the newest DE 7 among them on each link.
    pub(super) count: u64,
    pub(super) newest: BTreeMap<LinkId, SentAt>,
}

/// A request that its outcome ended.
pub(super) struct Ended {
    pub(super) request: Box<RequestEntry>,
    /// Its acquirer took it back while it had no outcome.
    pub(super) reversed: bool,
}

impl Unfinished {
    /// Before the first entry.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let first = Milestone { from: EntryNumber(1), count: 0, newest: BTreeMap::new() };
        Self {
            limits,
            open: BTreeMap::new(),
            stored: BTreeMap::new(),
            parked: BTreeMap::new(),
            reversed: BTreeMap::new(),
            windows: BTreeSet::new(),
            tombstones: BTreeMap::new(),
            stood_in: BTreeMap::new(),
            keys: BTreeMap::new(),
            last_numbers: BTreeMap::new(),
            last_transaction: 0,
            ever_parked: 0,
            day: 0,
            answers: Answers { count: 0, newest: BTreeMap::new(), milestones: VecDeque::from([first]) },
        }
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// `UnknownAct`.
    pub fn observe(&mut self, entry: &Entry) -> Result<(), RecoveryError> {
        self.take(entry).map(drop)
    }

    /// As `observe`; gives the request that the entry ends.
    pub(super) fn take(&mut self, entry: &Entry) -> Result<Option<Ended>, RecoveryError> {
        match &entry.body {
            Body::Transaction(transaction) => return Ok(self.transaction(entry, transaction)),
            Body::CutOver(window) => self.begin(*window),
            Body::WindowClosed(window) => {
                if self.windows.last() != Some(window) {
                    self.windows.remove(window);
                }
            }
            Body::Operator(bytes) => self.operated(bytes, entry)?,
            Body::Token(_) => {}
        }
        Ok(None)
    }

    /// Which keys came into use, each once for each time it was noted.
    pub fn keys(&self) -> impl Iterator<Item = KeyDescription> {
        self.keys.values().map(|(_, event)| event.key)
    }

    /// The journal begins with entry `first` by now: what was answered before is not to be read back.
    pub fn forget_before(&mut self, first: EntryNumber) {
        let Answers { count, newest, milestones } = &mut self.answers;
        while milestones.len() > 1 && milestones.front().is_some_and(|milestone| milestone.from < first) {
            milestones.pop_front();
        }
        if let Some(milestone) = milestones.front_mut().filter(|milestone| milestone.from < first) {
            *milestone = Milestone { from: first, count: *count, newest: newest.clone() };
        }
    }

    /// The entry from which on every answer that is still to be remembered can be read.
    #[must_use]
    pub fn answers_from(&self) -> EntryNumber {
        self.answers.milestones.front().map_or(EntryNumber(1), |milestone| milestone.from)
    }

    fn transaction(&mut self, entry: &Entry, transaction: &TransactionEntry) -> Option<Ended> {
        let at = entry.wall_time;
        match transaction {
            TransactionEntry::Request(request) => {
                self.seen(request.transaction, &request.issuer, false);
                self.begin(request.window);
                self.open.insert(request.transaction, (entry.number, at, request.clone()));
            }
            TransactionEntry::Outcome(outcome) => return self.outcome(outcome, entry),
            TransactionEntry::Stored(stored) => self.stored(stored, entry),
            TransactionEntry::Delivered(delivered) => self.delivered(delivered),
            TransactionEntry::Tombstone(tombstone) => {
                self.last_transaction = self.last_transaction.max(tombstone.transaction.0);
                self.tombstones.insert(entry.number, (at, (**tombstone).clone()));
                if self.tombstones.len() > self.limits.tombstones {
                    self.tombstones.pop_first();
                }
            }
            TransactionEntry::Late(_) => {}
            TransactionEntry::Enquiry(enquiry) => {
                self.seen(enquiry.transaction, &enquiry.issuer, true);
            }
        }
        None
    }

    fn outcome(&mut self, outcome: &OutcomeEntry, entry: &Entry) -> Option<Ended> {
        // The advice has the earlier number: a start goes on after the last one that was taken.
        for owed in outcome.advice.iter().chain(&outcome.reversal) {
            self.seen(owed.transaction, &owed.issuer, true);
            self.stored.insert(owed.transaction, Owed::of(owed, entry));
        }
        let (_, _, request) = self.open.remove(&outcome.transaction)?;
        let reversed = self.reversed.remove(&outcome.transaction).is_some();
        if let Some(advice) = &outcome.advice {
            let of_issuer = self.stood_in.entry(advice.issuer.link).or_default();
            of_issuer.insert(entry.number, (entry.wall_time, advice.clone()));
            if of_issuer.len() > self.limits.stand_in {
                of_issuer.pop_first();
            }
        }
        self.answered(request.acquirer.link, request.acquirer.sent_at, entry);
        Some(Ended { request, reversed })
    }

    fn stored(&mut self, stored: &StoredEntry, entry: &Entry) {
        self.begin(stored.window);
        let acquirers = stored.acquirer.filter(|_| stored.kind == StoredKind::Advice);
        let ours = acquirers.is_none_or(|leg| leg.stan != stored.issuer.stan);
        self.seen(stored.transaction, &stored.issuer, ours);
        let named = self.parked.values_mut().filter(|parked| stored.takes_back(&parked.owed.message));
        named.for_each(|parked| parked.taken_back = true);
        let original = stored.original.filter(|_| stored.takes_all_back());
        if let Some(original) = original.filter(|original| self.open.contains_key(original)) {
            self.reversed.insert(original, stored.transaction);
        }
        self.stored.insert(stored.transaction, Owed::of(stored, entry));
        if let Some(leg) = stored.acquirer {
            self.answered(leg.link, leg.sent_at, entry);
        }
    }

    fn delivered(&mut self, delivered: &DeliveredEntry) {
        let stored = self.stored.remove(&delivered.stored);
        let code = match delivered.end {
            DeliveryEnd::Acknowledged(_) => {
                self.parked.remove(&delivered.stored);
                return;
            }
            DeliveryEnd::Parked(code) => Some(code),
            DeliveryEnd::SetAside(code) => code,
        };
        self.ever_parked += 1;
        if let Some(owed) = stored {
            // It went first of its card: what takes it back is owed still.
            let taken_back = self.stored.values().any(|other| other.message.takes_back(&owed.message));
            self.parked.insert(delivered.stored, Parked { owed, code, taken_back });
        }
    }

    /// What a person decided about a message that did not arrive, or a key that came into use.
    fn operated(&mut self, bytes: &[u8], entry: &Entry) -> Result<(), RecoveryError> {
        if let Some(event) = KeyEvent::decode(bytes) {
            self.keys.insert(entry.number, (entry.wall_time, event));
            return Ok(());
        }
        let act = OperatorAct::decode(bytes).ok_or(RecoveryError::UnknownAct(entry.number))?;
        let parked = self.parked.remove(&act.stored);
        match (act.decision, parked) {
            (Decision::Retry, Some(Parked { owed, .. })) => {
                self.stored.insert(act.stored, owed);
            }
            (Decision::Retry, None) => {}
            (Decision::Close, _) => {
                self.stored.remove(&act.stored);
            }
        }
        Ok(())
    }

    /// Windows go on and never back, whatever an entry of an older one says.
    fn begin(&mut self, window: SettlementWindow) {
        if self.windows.last().is_none_or(|last| window > *last) {
            self.windows.insert(window);
        }
    }

    /// `ours`: its number is this switch's, whatever passes.
    fn seen(&mut self, id: TransactionId, leg: &IssuerLeg, ours: bool) {
        self.last_transaction = self.last_transaction.max(id.0);
        let before = self.last_numbers.get(&leg.link).and_then(|last| last.ours);
        let ours = if ours { Some(leg.stan) } else { before };
        self.last_numbers.insert(leg.link, LastNumbers { any: leg.stan, ours });
    }

    fn answered(&mut self, link: LinkId, sent_at: SentAt, entry: &Entry) {
        let day = entry.wall_time.seconds() / 86_400;
        let is_new_day = day > self.day;
        self.day = self.day.max(day);
        let remembered = u64::try_from(self.limits.answered).unwrap_or(u64::MAX);
        let answers = &mut self.answers;
        answers.count += 1;
        let newest = answers.newest.entry(link).or_insert(sent_at);
        *newest = (*newest).max(sent_at);
        if is_new_day || answers.count.is_multiple_of((remembered / MILESTONES).max(1)) {
            let oldest_open = self.open.values().map(|(number, _, _)| *number).min();
            let from = oldest_open.unwrap_or(entry.number.next());
            let (count, newest) = (answers.count, answers.newest.clone());
            answers.milestones.push_back(Milestone { from, count, newest });
        }
        let count = answers.count;
        let wanted = if sabotaged("answers-read-from-too-late") { 0 } else { remembered };
        let reaches_far = |milestone: &Milestone| count.saturating_sub(milestone.count) >= wanted;
        while answers.milestones.get(1).is_some_and(reaches_far) {
            answers.milestones.pop_front();
        }
    }
}
