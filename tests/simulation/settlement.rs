//! `Settlement`: what each settlement window comes to by the journal's entries alone. At the end of a run all windows
//! together must come to what stands in the acquirers' books and in the issuers' ledgers, and each payment that stands
//! must be in the window of the day that its acquirer was told (DE 15).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use tokenswitch::journal::{
    Body, Elements, Entry, OutcomeEntry, RequestEntry, StoredEntry, TransactionEntry,
};
use tokenswitch::sim::{BookEntry, LedgerEntry, Standing};
use tokenswitch::vocab::{
    Amount, LinkId, MessageClass, MessageFunction, Outcome, ProcessingCode, SettlementWindow, TransactionId,
    TransactionKind,
};

use crate::setting::{ACQUIRERS, institution_of};

/// Whose total, and in which direction the money goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Side {
    acquirer: LinkId,
    refunds: bool,
}

/// How many transactions stand, and what they come to in minor units. A window in which more is taken back than paid
/// is below zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Total {
    count: i64,
    minor: i64,
}

/// A transaction that counts, or will if it is approved.
#[derive(Debug, Clone, Copy)]
struct Counting {
    side: Side,
    asked: u64,
    window: SettlementWindow,
    /// And no advice: its answer names the day.
    is_request: bool,
    /// In how many windows it was counted.
    counted: u32,
    /// What of it stands.
    stands: u64,
}

#[derive(Default)]
pub(crate) struct Settlement {
    windows: BTreeMap<SettlementWindow, BTreeMap<Side, Total>>,
    counting: BTreeMap<TransactionId, Counting>,
}

/// A day as DE 15 says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Day {
    side: Side,
    date: [u8; 4],
}

type Totals = BTreeMap<Side, Total>;

impl Settlement {
    pub(crate) fn take(&mut self, entry: &Entry) {
        let Body::Transaction(entry) = &entry.body else { return };
        match entry {
            TransactionEntry::Request(request) => self.requested(request),
            TransactionEntry::Outcome(outcome) => self.ended(outcome),
            TransactionEntry::Stored(stored) => self.stored(stored),
            TransactionEntry::Delivered(_)
            | TransactionEntry::Tombstone(_)
            | TransactionEntry::Late(_)
            | TransactionEntry::Enquiry(_) => {}
        }
    }

    fn requested(&mut self, request: &RequestEntry) {
        if request.settles {
            let counting = Counting::of(request.acquirer.link, &request.elements, request.window, true);
            self.counting.insert(request.transaction, counting);
        }
    }

    fn ended(&mut self, outcome: &OutcomeEntry) {
        // An approval that this switch does not give, as of a payment that was reversed in flight, counts nowhere.
        let approved = matches!(outcome.outcome, Outcome::Approved | Outcome::ApprovedPartly);
        if approved && outcome.refusal.is_none() {
            self.count(outcome.transaction, outcome.approved.map(Amount::minor));
        }
        outcome.reversal.iter().chain(&outcome.advice).for_each(|stored| self.stored(stored));
    }

    fn stored(&mut self, stored: &StoredEntry) {
        if !stored.settles {
            return;
        }
        if stored.is_reversal() {
            let kept = stored.elements.final_amount().map_or(0, Amount::minor);
            return self.take_back(stored.original, kept, stored.window);
        }
        // Of a payment that was approved in its issuer's place the acquirer is known by the payment.
        let payment = stored.original.and_then(|original| self.counting.get(&original));
        let acquirer = stored.acquirer.map(|leg| leg.link).or(payment.map(|payment| payment.side.acquirer));
        let counting = Counting::of(acquirer.unwrap_or(ACQUIRERS[0]), &stored.elements, stored.window, false);
        self.counting.insert(stored.transaction, counting);
        self.count(stored.transaction, None);
    }

    /// It counts from now on, in its window.
    fn count(&mut self, id: TransactionId, approved: Option<u64>) {
        let Some(counting) = self.counting.get_mut(&id) else { return };
        counting.counted += 1;
        counting.stands = approved.unwrap_or(counting.asked);
        let total = self.windows.entry(counting.window).or_default().entry(counting.side).or_default();
        total.add(1, signed(counting.stands));
    }

    /// Of what counted no more than `kept` stands: the rest is taken back in the window in which that arrived.
    fn take_back(&mut self, original: Option<TransactionId>, kept: u64, window: SettlementWindow) {
        let counting = original.and_then(|original| self.counting.get_mut(&original));
        let Some(counting) = counting.filter(|counting| counting.stands > kept) else { return };
        let total = self.windows.entry(window).or_default().entry(counting.side).or_default();
        total.add(if kept == 0 { -1 } else { 0 }, signed(kept) - signed(counting.stands));
        counting.stands = kept;
    }

    /// What is not as it should be once nothing is under way: `books` by their acquirers' links, and all `ledgers`.
    pub(crate) fn compare<'a>(
        &self,
        books: impl Iterator<Item = (LinkId, &'a BookEntry)> + Clone,
        ledgers: impl Iterator<Item = &'a LedgerEntry>,
    ) -> Result<(), String> {
        if let Some((id, counting)) = self.counting.iter().find(|(_, counting)| counting.counted > 1) {
            return Err(format!("P4: {id} counts {} times", counting.counted));
        }
        let mut sum = Totals::new();
        for (side, total) in self.windows.values().flatten() {
            sum.entry(*side).or_default().add(total.count, total.minor);
        }
        agree(&sum, &of_books(books.clone()), "all windows", "the acquirers' books")?;
        agree(&sum, &of_ledgers(ledgers), "all windows", "the issuers' ledgers")?;
        agree(&self.days(), &days_of(books), "what stands of the day", "what acquirers were told of it")
    }

    /// Requests that stand in the end, by the day of the window in which each was counted.
    fn days(&self) -> BTreeMap<Day, Total> {
        let mut days = BTreeMap::<Day, Total>::new();
        for counting in self.counting.values().filter(|it| it.is_request && it.stands > 0) {
            let day = Day { side: counting.side, date: counting.window.date.month_day() };
            days.entry(day).or_default().add(1, signed(counting.stands));
        }
        days
    }
}

impl Counting {
    fn of(acquirer: LinkId, elements: &Elements, window: SettlementWindow, is_request: bool) -> Self {
        let processing = elements.get(3).and_then(|code| ProcessingCode::parse(code).ok());
        let refunds = processing.is_some_and(|code| code.kind() == TransactionKind::Credit);
        let asked = elements.amount().map_or(0, Amount::minor);
        Self { side: Side { acquirer, refunds }, asked, window, is_request, counted: 0, stands: 0 }
    }
}

impl Total {
    fn add(&mut self, count: i64, minor: i64) {
        self.count += count;
        self.minor += minor;
    }
}

fn signed(minor: u64) -> i64 {
    i64::try_from(minor).expect("small amounts")
}

/// Whether it is money owed: a hold is, where it is its acquirer's capture.
fn settles(acquirer: LinkId, class: MessageClass) -> bool {
    class == MessageClass::Financial || acquirer == ACQUIRERS[1]
}

/// What stands, with its amount.
fn standing(acquirer: LinkId, entry: &BookEntry) -> Option<(Side, i64)> {
    let Standing::Money(minor) = entry.standing() else { return None };
    let refunds = entry.payment.processing.kind() == TransactionKind::Credit;
    settles(acquirer, entry.payment.mti.class).then(|| (Side { acquirer, refunds }, signed(minor)))
}

fn of_books<'a>(books: impl Iterator<Item = (LinkId, &'a BookEntry)>) -> Totals {
    let mut totals = Totals::new();
    for (side, minor) in books.filter_map(|(acquirer, entry)| standing(acquirer, entry)) {
        totals.entry(side).or_default().add(1, minor);
    }
    totals
}

/// Requests that stand, by the day that the answer named. The answer to an advice names none.
fn days_of<'a>(books: impl Iterator<Item = (LinkId, &'a BookEntry)>) -> BTreeMap<Day, Total> {
    let mut days = BTreeMap::<Day, Total>::new();
    for (acquirer, entry) in books.filter(|(_, entry)| entry.payment.mti.function == MessageFunction::Request)
    {
        let Some((side, minor)) = standing(acquirer, entry) else { continue };
        let date = entry.answer.and_then(|answer| answer.settles_on).unwrap_or_default();
        days.entry(Day { side, date }).or_default().add(1, minor);
    }
    days
}

fn of_ledgers<'a>(ledgers: impl Iterator<Item = &'a LedgerEntry>) -> Totals {
    let mut totals = Totals::new();
    for entry in ledgers.filter(|entry| entry.standing > 0) {
        let posting = &entry.posting;
        let at = (0..ACQUIRERS.len()).find(|at| posting.identity.acquirer == Some(institution_of(*at)));
        let Some(acquirer) = at.map(|at| ACQUIRERS[at]).filter(|it| settles(*it, posting.mti.class)) else {
            continue;
        };
        let refunds = posting.processing.kind() == TransactionKind::Credit;
        totals.entry(Side { acquirer, refunds }).or_default().add(1, signed(entry.standing));
    }
    totals
}

/// The first place where two accounts differ. What comes to nothing need not be there.
fn agree<K: Ord + Copy + Debug>(
    ours: &BTreeMap<K, Total>,
    theirs: &BTreeMap<K, Total>,
    name: &str,
    other: &str,
) -> Result<(), String> {
    let of = |totals: &BTreeMap<K, Total>, place| totals.get(&place).copied().unwrap_or_default();
    let places: BTreeSet<K> = ours.keys().chain(theirs.keys()).copied().collect();
    match places.into_iter().map(|place| (place, of(ours, place), of(theirs, place))).find(|it| it.1 != it.2)
    {
        Some((place, one, two)) => Err(format!("P4: {place:?}: {name} come to {one:?}, {other} to {two:?}")),
        None => Ok(()),
    }
}
