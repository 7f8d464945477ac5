//! What became of earlier transactions, and the names that a reversal, a completion or a refund gives them; for the
//! simulation a history in memory. A view: the journal has it all.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::entry::{
    AcquirerLeg, Elements, EntryNumber, OriginalIdentity, OutcomeEntry, RequestEntry, StoredEntry,
    TombstoneEntry, TransactionEntry,
};
use crate::stdx::bounded::BoundedMap;
use crate::stdx::maps::GuardedMap;
use crate::vocab::{LinkId, Rrn, SentAt, Stan, TransactionId};

/// What a transaction can be called on an acquirer's link. A name may fit several transactions: which one is meant
/// is for the caller to decide, by all else it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HistoryName {
    /// DE 11 and DE 7 with its year.
    Leg { link: LinkId, stan: Stan, sent_at: SentAt },
    /// DE 37.
    Rrn { link: LinkId, rrn: Rrn },
}

impl HistoryName {
    /// The name that a message had on its acquirer's link.
    #[must_use]
    pub fn of(leg: &AcquirerLeg) -> Self {
        Self::Leg { link: leg.link, stan: leg.stan, sent_at: leg.sent_at }
    }

    /// The name that a reversal's DE 90 gives its original.
    #[must_use]
    pub fn of_original(link: LinkId, original: &OriginalIdentity) -> Self {
        Self::Leg { link, stan: original.stan, sent_at: original.sent_at }
    }

    fn rrn(link: LinkId, elements: &Elements) -> Option<Self> {
        let rrn = elements.get(37).and_then(|rrn| Rrn::parse(rrn).ok())?;
        Some(Self::Rrn { link, rrn })
    }
}

/// All that the journal says of one transaction, in the order it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastTransaction {
    pub transaction: TransactionId,
    pub entries: Vec<(EntryNumber, TransactionEntry)>,
}

impl PastTransaction {
    /// The request, where it was one.
    #[must_use]
    pub fn request(&self) -> Option<&RequestEntry> {
        self.requests().find(|request| request.transaction == self.transaction)
    }

    /// How the request ended.
    #[must_use]
    pub fn outcome(&self) -> Option<&OutcomeEntry> {
        self.find(
            |entry| if let TransactionEntry::Outcome(outcome) = entry { Some(&**outcome) } else { None },
        )
    }

    /// The advice or reversal, where it was one.
    #[must_use]
    pub fn stored(&self) -> Option<&StoredEntry> {
        self.all_stored().find(|stored| stored.transaction == self.transaction)
    }

    /// The earlier transaction that it refunds, completes or raises.
    #[must_use]
    pub fn original(&self) -> Option<TransactionId> {
        let asked = self.requests().find(|request| request.transaction == self.transaction);
        let told = || self.stored().filter(|stored| !stored.is_reversal());
        asked.map_or_else(|| told()?.original, |request| request.original)
    }

    /// Advices and reversals of this transaction.
    pub fn followers(&self) -> impl Iterator<Item = &StoredEntry> {
        self.all_stored().filter(|stored| stored.original == Some(self.transaction))
    }

    /// The transactions that name this one as their original, in the order they came.
    #[must_use]
    pub fn followers_named(&self) -> Vec<TransactionId> {
        let requests = self.requests().filter(|request| request.original == Some(self.transaction));
        let mut ids: Vec<_> = requests.map(|request| request.transaction).collect();
        ids.extend(self.followers().map(|stored| stored.transaction));
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The reversal without an original, where it was one.
    #[must_use]
    pub fn tombstone(&self) -> Option<&TombstoneEntry> {
        self.find(|entry| if let TransactionEntry::Tombstone(stone) = entry { Some(&**stone) } else { None })
    }

    /// Together with what another place knew of the same transaction.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        self.entries.sort_by_key(|(number, _)| *number);
        self.entries.dedup_by_key(|(number, _)| *number);
        self
    }

    fn requests(&self) -> impl Iterator<Item = &RequestEntry> {
        self.entries.iter().filter_map(|(_, entry)| match entry {
            TransactionEntry::Request(request) => Some(&**request),
            _ => None,
        })
    }

    fn find<'a, T>(&'a self, pick: impl Fn(&'a TransactionEntry) -> Option<T>) -> Option<T> {
        self.entries.iter().find_map(|(_, entry)| pick(entry))
    }

    fn all_stored(&self) -> impl Iterator<Item = &StoredEntry> {
        self.entries.iter().flat_map(|(_, entry)| match entry {
            TransactionEntry::Stored(stored) => vec![&**stored],
            TransactionEntry::Outcome(outcome) => outcome.reversal.iter().chain(&outcome.advice).collect(),
            _ => Vec::new(),
        })
    }
}

/// What was found by a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Families {
    pub found: Vec<Family>,
    /// Whether older ones of that name were left out: so many have it.
    pub more: bool,
}

/// A transaction, and those that name it as their original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    pub original: PastTransaction,
    pub followers: Vec<PastTransaction>,
}

impl Family {
    /// The families of `found`, and of what they are about themselves: a completion's refund is one of its hold. All
    /// others are looked up by `get`.
    pub(super) fn of_all<E>(
        found: Vec<PastTransaction>,
        get: impl Fn(TransactionId) -> Result<Option<PastTransaction>, E>,
    ) -> Result<Vec<Self>, E> {
        let known: BTreeSet<_> = found.iter().map(|past| past.transaction).collect();
        let about: BTreeSet<_> = found.iter().filter_map(PastTransaction::original).collect();
        let about =
            about.difference(&known).filter_map(|id| get(*id).transpose()).collect::<Result<Vec<_>, _>>()?;
        found.into_iter().chain(about).map(|original| Self::gathered(original, &get)).collect()
    }

    fn gathered<E>(
        original: PastTransaction,
        get: impl Fn(TransactionId) -> Result<Option<PastTransaction>, E>,
    ) -> Result<Self, E> {
        let named = original.followers_named().into_iter();
        let followers = named.filter_map(|id| get(id).transpose()).collect::<Result<_, E>>()?;
        Ok(Self { original, followers })
    }
}

/// Which transactions an entry is about, and what it says of each.
pub(super) fn about(
    entry: &TransactionEntry,
) -> impl Iterator<Item = (TransactionId, Cow<'_, TransactionEntry>)> {
    let (first, second) = match entry {
        TransactionEntry::Request(request) => (Some(request.transaction), request.original),
        TransactionEntry::Stored(stored) => (Some(stored.transaction), stored.original),
        TransactionEntry::Outcome(outcome) => (Some(outcome.transaction), None),
        TransactionEntry::Delivered(delivered) => (Some(delivered.stored), None),
        TransactionEntry::Tombstone(tombstone) => (Some(tombstone.transaction), None),
        TransactionEntry::Late(late) => (Some(late.transaction), None),
        // No acquirer asks for it, and nothing is ever looked up by it.
        TransactionEntry::Enquiry(_) => (None, None),
    };
    let own = first.into_iter().chain(second).map(move |id| (id, Cow::Borrowed(entry)));
    let made = match entry {
        TransactionEntry::Outcome(outcome) => [outcome.reversal.as_ref(), outcome.advice.as_ref()],
        _ => [None, None],
    };
    own.chain(
        made.into_iter().flatten().map(|stored| {
            (stored.transaction, Cow::Owned(TransactionEntry::Stored(Box::new(stored.clone()))))
        }),
    )
}

/// The names that an entry gives the transaction it is recorded under.
pub(super) fn names(
    transaction: TransactionId,
    entry: &TransactionEntry,
) -> impl Iterator<Item = HistoryName> + use<> {
    let [first, second] = match entry {
        TransactionEntry::Request(request) if request.transaction == transaction => {
            of_message(&request.acquirer, &request.elements)
        }
        TransactionEntry::Stored(stored) if stored.transaction == transaction => {
            stored.acquirer.map_or([None, None], |leg| of_message(&leg, &stored.elements))
        }
        TransactionEntry::Tombstone(stone) => {
            let original = HistoryName::of_original(stone.acquirer.link, &stone.original);
            [Some(HistoryName::of(&stone.acquirer)), Some(original)]
        }
        _ => [None, None],
    };
    first.into_iter().chain(second)
}

fn of_message(leg: &AcquirerLeg, elements: &Elements) -> [Option<HistoryName>; 2] {
    [Some(HistoryName::of(leg)), HistoryName::rrn(leg.link, elements)]
}

/// The newest transactions, in memory, so many and no more: what a simulation has in place of a disk.
#[derive(Debug)]
pub struct RecentHistory {
    transactions: BoundedMap<TransactionId, Vec<(EntryNumber, TransactionEntry)>>,
    names: GuardedMap<HistoryName, Vec<TransactionId>>,
}

impl RecentHistory {
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { transactions: BoundedMap::with_capacity(capacity), names: GuardedMap::default() }
    }

    /// Notes an entry. Entries come in the order of their numbers.
    pub fn note(&mut self, number: EntryNumber, entry: &TransactionEntry) {
        for (transaction, said) in about(entry) {
            for name in names(transaction, &said) {
                let named = self.names.entry(name).or_default();
                if !named.contains(&transaction) {
                    named.push(transaction);
                }
            }
            if let Some(entries) = self.transactions.get_mut(&transaction) {
                entries.push((number, said.into_owned()));
            } else if let Some(gone) =
                self.transactions.insert(transaction, vec![(number, said.into_owned())])
            {
                self.forget_names(&gone.0, &gone.1);
            }
        }
    }

    /// All recent transactions of that name, the oldest first.
    #[must_use]
    pub fn find(&self, name: &HistoryName) -> Vec<PastTransaction> {
        let named = self.names.get(name).map(Vec::as_slice).unwrap_or_default();
        named.iter().filter_map(|transaction| self.get(*transaction)).collect()
    }

    /// The newest of `find`, `most` of them, each with those that name it as their original; then what they name
    /// themselves.
    #[must_use]
    pub fn families(&self, name: &HistoryName, most: usize) -> Families {
        let get = |id| Ok::<_, std::convert::Infallible>(self.get(id));
        let mut named = self.find(name);
        let left = named.len().saturating_sub(most);
        let Ok(found) = Family::of_all(named.split_off(left), get);
        Families { found, more: left > 0 }
    }

    #[must_use]
    pub fn get(&self, transaction: TransactionId) -> Option<PastTransaction> {
        let entries = self.transactions.get(&transaction)?.clone();
        Some(PastTransaction { transaction, entries })
    }

    /// How many transactions are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.transactions.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    fn forget_names(&mut self, transaction: &TransactionId, entries: &[(EntryNumber, TransactionEntry)]) {
        for name in entries.iter().flat_map(|(_, entry)| names(*transaction, entry)) {
            if let Some(named) = self.names.get_mut(&name) {
                named.retain(|other| other != transaction);
                if named.is_empty() {
                    self.names.remove(&name);
                }
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::crypto::Sealed;
    use crate::journal::{CardRef, DeliveredEntry, DeliveryEnd, IssuerLeg, StoredKind};
    use crate::vocab::{
        BusinessDate, Mti, Outcome, ResponseCode, ReversalReason, SettlementWindow, Verdicts,
    };

    const WINDOW: SettlementWindow =
        SettlementWindow { date: BusinessDate { year: 2026, month: 11, day: 22 }, sequence: 1 };

    pub(in crate::journal) fn leg(stan: u32) -> AcquirerLeg {
        let mti = Mti::parse(b"0200").unwrap();
        AcquirerLeg { link: LinkId(3), mti, sent_at: SentAt(1_000), stan: Stan::new(stan).unwrap() }
    }

    fn issuer(stan: u32) -> IssuerLeg {
        let leg = leg(stan);
        IssuerLeg { link: LinkId(9), mti: leg.mti, sent_at: leg.sent_at, stan: leg.stan, forwarder: None }
    }

    fn elements(stan: u32) -> Elements {
        let mut elements = Elements::new();
        assert!(elements.keep(37, format!("R{stan:011}").as_bytes()));
        elements
    }

    fn card() -> CardRef {
        CardRef { token: None, sealed: Sealed::from_parts(1, [2; 12], &[3; 40]).unwrap() }
    }

    pub(in crate::journal) fn request(id: u64, stan: u32) -> TransactionEntry {
        TransactionEntry::Request(Box::new(RequestEntry {
            transaction: TransactionId(id),
            original: None,
            acquirer: leg(stan),
            issuer: issuer(stan),
            elements: elements(stan),
            card: card().into(),
            verdicts: Verdicts::default(),
            counter: None,
            window: WINDOW,
            moves_money: true,
            settles: true,
        }))
    }

    fn stored(id: u64, original: Option<u64>, acquirer: Option<u32>) -> StoredEntry {
        StoredEntry {
            transaction: TransactionId(id),
            original: original.map(TransactionId),
            kind: StoredKind::OwnReversal(ReversalReason::TimedOut),
            acquirer: acquirer.map(leg),
            issuer: issuer(77),
            elements: elements(acquirer.unwrap_or(78)),
            original_data: None,
            card: card().into(),
            verdicts: Verdicts::default(),
            window: WINDOW,
            settles: true,
            answer: Elements::new(),
        }
    }

    pub(in crate::journal) fn outcome(id: u64, reversal: Option<StoredEntry>) -> TransactionEntry {
        TransactionEntry::Outcome(Box::new(OutcomeEntry {
            transaction: TransactionId(id),
            outcome: Outcome::Declined,
            refusal: None,
            answer: Elements::new(),
            approved: None,
            reversal,
            advice: None,
            counter: None,
        }))
    }

    fn tombstone(id: u64, stan: u32, original: u32) -> TransactionEntry {
        let leg_of_original = leg(original);
        TransactionEntry::Tombstone(Box::new(TombstoneEntry {
            transaction: TransactionId(id),
            acquirer: leg(stan),
            original: OriginalIdentity {
                mti: leg_of_original.mti,
                stan: leg_of_original.stan,
                sent_at: leg_of_original.sent_at,
                acquirer: None,
            },
            answer: Elements::new(),
        }))
    }

    /// A request answered; one timed out and reversed; one reversed by its acquirer; a reversal without original.
    pub(in crate::journal) fn story() -> Vec<TransactionEntry> {
        let delivered = DeliveredEntry {
            stored: TransactionId(3),
            end: DeliveryEnd::Acknowledged(ResponseCode::parse(b"00").unwrap()),
        };
        vec![
            request(1, 100),
            request(2, 200),
            outcome(1, None),
            outcome(2, Some(stored(3, Some(2), None))),
            TransactionEntry::Delivered(delivered),
            TransactionEntry::Stored(Box::new(stored(4, Some(1), Some(101)))),
            tombstone(5, 300, 301),
        ]
    }

    type Find<'a> = &'a dyn Fn(HistoryName) -> Vec<PastTransaction>;

    pub(in crate::journal) fn tells_the_story(find: Find<'_>) {
        let by_stan = |stan| find(HistoryName::of(&leg(stan)));
        let [first] = by_stan(100).try_into().unwrap();
        assert_eq!(first.transaction, TransactionId(1));
        assert_eq!(first.request().unwrap().acquirer, leg(100));
        assert_eq!(first.outcome().unwrap().outcome, Outcome::Declined);
        assert_eq!(first.followers().map(|f| f.transaction.0).collect::<Vec<_>>(), [4]);
        assert!(first.stored().is_none());
        let [second] = by_stan(200).try_into().unwrap();
        assert_eq!(second.followers().map(|f| f.transaction.0).collect::<Vec<_>>(), [3]);
        let [reversal] = by_stan(101).try_into().unwrap();
        assert_eq!(reversal.stored().unwrap().original, Some(TransactionId(1)));
        assert_eq!(reversal.followers().count(), 0);
        for stan in [300, 301] {
            let [stone] = by_stan(stan).try_into().unwrap();
            assert_eq!(stone.tombstone().unwrap().original.stan, Stan::new(301).unwrap());
        }
        let rrn = Rrn::parse(b"R00000000200").unwrap();
        let [by_rrn] = find(HistoryName::Rrn { link: LinkId(3), rrn }).try_into().unwrap();
        assert_eq!(by_rrn, second);
        assert!(find(HistoryName::Rrn { link: LinkId(4), rrn }).is_empty(), "another link's");
        assert!(by_stan(77).is_empty() && by_stan(78).is_empty(), "the issuer's leg is no name here");
    }

    #[test]
    fn recent_history_is_bounded_and_forgets_names_too() {
        let mut recent = RecentHistory::with_capacity(3);
        for id in 1..=50 {
            recent.note(EntryNumber(id), &request(id, 100 + u32::try_from(id).unwrap()));
        }
        assert_eq!((recent.len(), recent.names.len()), (3, 6));
        assert!(recent.find(&HistoryName::of(&leg(147))).is_empty());
        assert_eq!(recent.find(&HistoryName::of(&leg(148))).len(), 1);
    }

    #[test]
    fn one_name_may_fit_several_transactions() {
        let mut recent = RecentHistory::with_capacity(9);
        recent.note(EntryNumber(1), &request(1, 100));
        recent.note(EntryNumber(2), &request(2, 100));
        let found = recent.find(&HistoryName::of(&leg(100)));
        assert_eq!(found.iter().map(|past| past.transaction.0).collect::<Vec<_>>(), [1, 2]);
    }
}
