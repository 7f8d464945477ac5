//! What became of earlier transactions, found by the names that a reversal, a completion or a refund gives them: on
//! disk, and for the simulation in memory. A view: the journal has it all.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::checkpoint::{Checkpoint, CheckpointError, Fold, Pending};
use super::entry::{
    AcquirerLeg, Body, Elements, Entry, EntryNumber, OriginalIdentity, OutcomeEntry, RequestEntry,
    StoredEntry, TombstoneEntry, TransactionEntry,
};
use crate::stdx::bounded::BoundedMap;
use crate::stdx::maps::GuardedMap;
use crate::vocab::{LinkId, Rrn, SentAt, Stan, TransactionId};

/// Key: transaction, number of the first entry. Value: entries, each with its length in front.
const ENTRIES: &str = "history";
/// Key: name, transaction.
const NAMES: &str = "history-names";
/// Key: day. Value: the highest transaction that was known by its end.
const DAYS: &str = "history-days";

/// How many expired records are looked up at once, and how many leave with each entry that comes in: none has less than
/// one entry, so that forgetting keeps up, and no day is forgotten in one piece.
const LOOKED_UP: usize = 50_000;
const FORGOTTEN_PER_ENTRY: usize = 2;

const DAY: u64 = 86_400;

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

    /// Of one length for each kind, so that no name begins another.
    fn key(&self) -> Vec<u8> {
        match self {
            Self::Leg { link, stan, sent_at } => {
                [&[1][..], &link.0.to_be_bytes(), &sent_at.0.to_be_bytes(), &stan.get().to_be_bytes()]
                    .concat()
            }
            Self::Rrn { link, rrn } => {
                let mut digits = rrn.as_bytes().to_vec();
                digits.resize(12, 0);
                [&[2][..], &link.0.to_be_bytes(), &digits].concat()
            }
        }
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

/// A transaction, and those that name it as their original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    pub original: PastTransaction,
    pub followers: Vec<PastTransaction>,
}

impl Family {
    /// The family of `original`; its followers are looked up by `get`.
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
fn about(entry: &TransactionEntry) -> Vec<(TransactionId, TransactionEntry)> {
    let own = |id| vec![(id, entry.clone())];
    match entry {
        TransactionEntry::Request(request) => {
            let original = request.original.map(|original| (original, entry.clone()));
            own(request.transaction).into_iter().chain(original).collect()
        }
        TransactionEntry::Outcome(outcome) => {
            let reversal = outcome.reversal.iter().chain(&outcome.advice);
            let reversal = reversal
                .map(|stored| (stored.transaction, TransactionEntry::Stored(Box::new(stored.clone()))));
            own(outcome.transaction).into_iter().chain(reversal).collect()
        }
        TransactionEntry::Stored(stored) => {
            let original = stored.original.map(|original| (original, entry.clone()));
            own(stored.transaction).into_iter().chain(original).collect()
        }
        TransactionEntry::Delivered(delivered) => own(delivered.stored),
        TransactionEntry::Tombstone(tombstone) => own(tombstone.transaction),
        TransactionEntry::Late(late) => own(late.transaction),
        // No acquirer asks for it, and nothing is ever looked up by it.
        TransactionEntry::Enquiry(_) => Vec::new(),
    }
}

/// The names that an entry gives the transaction it is recorded under.
fn names(transaction: TransactionId, entry: &TransactionEntry) -> Vec<HistoryName> {
    let (leg, elements) = match entry {
        TransactionEntry::Request(request) if request.transaction == transaction => {
            (request.acquirer, &request.elements)
        }
        TransactionEntry::Stored(stored) => match stored.acquirer {
            Some(leg) if stored.transaction == transaction => (leg, &stored.elements),
            _ => return Vec::new(),
        },
        TransactionEntry::Tombstone(stone) => {
            let original = HistoryName::of_original(stone.acquirer.link, &stone.original);
            return vec![HistoryName::of(&stone.acquirer), original];
        }
        TransactionEntry::Request(_)
        | TransactionEntry::Outcome(_)
        | TransactionEntry::Delivered(_)
        | TransactionEntry::Late(_)
        | TransactionEntry::Enquiry(_) => return Vec::new(),
    };
    std::iter::once(HistoryName::of(&leg)).chain(HistoryName::rrn(leg.link, elements)).collect()
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
                entries.push((number, said));
            } else if let Some(gone) = self.transactions.insert(transaction, vec![(number, said)]) {
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

    /// As `find`, each with those that name it as their original.
    #[must_use]
    pub fn families(&self, name: &HistoryName) -> Vec<Family> {
        let get = |id| Ok::<_, std::convert::Infallible>(self.get(id));
        self.find(name).into_iter().filter_map(|original| Family::gathered(original, get).ok()).collect()
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

/// The transactions that the checkpoint knows. It waits for the disk: never on a payment's thread.
#[derive(Clone)]
pub struct OlderHistory {
    checkpoint: Arc<Checkpoint>,
}

impl OlderHistory {
    #[must_use]
    pub fn of(checkpoint: Arc<Checkpoint>) -> Self {
        Self { checkpoint }
    }

    /// All transactions of that name, in the order of their ids.
    ///
    /// # Errors
    /// `Store`, or `Damaged`: what cannot be read is never "not found".
    pub fn find(&self, name: &HistoryName) -> Result<Vec<PastTransaction>, CheckpointError> {
        let mut named = Vec::new();
        self.checkpoint.scan(NAMES, &name.key(), |key, _| {
            named.extend(last_number(key).map(TransactionId));
            Ok(())
        })?;
        named.into_iter().filter_map(|transaction| self.get(transaction).transpose()).collect()
    }

    /// As `find`, each with those that name it as their original.
    ///
    /// # Errors
    /// As `find`.
    pub fn families(&self, name: &HistoryName) -> Result<Vec<Family>, CheckpointError> {
        self.find(name)?.into_iter().map(|original| Family::gathered(original, |id| self.get(id))).collect()
    }

    /// One transaction.
    ///
    /// # Errors
    /// As `find`.
    pub fn get(&self, transaction: TransactionId) -> Result<Option<PastTransaction>, CheckpointError> {
        let mut entries = Vec::new();
        self.checkpoint.scan(ENTRIES, &transaction.0.to_be_bytes(), |_, value| {
            entries.extend(decoded(value)?);
            Ok(())
        })?;
        Ok((!entries.is_empty()).then_some(PastTransaction { transaction, entries }))
    }
}

fn decoded(mut value: &[u8]) -> Result<Vec<(EntryNumber, TransactionEntry)>, CheckpointError> {
    let damaged = || CheckpointError::Damaged("a transaction of the history cannot be read");
    let mut entries = Vec::new();
    while !value.is_empty() {
        let (length, rest) = value.split_first_chunk().ok_or_else(damaged)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| damaged())?;
        let (entry, rest) = rest.split_at_checked(length).ok_or_else(damaged)?;
        value = rest;
        match Entry::decode(entry) {
            Ok(Entry { number, body: Body::Transaction(entry), .. }) => entries.push((number, entry)),
            Ok(_) | Err(_) => return Err(damaged()),
        }
    }
    Ok(entries)
}

fn first_number(key: &[u8]) -> Option<u64> {
    key.first_chunk().map(|number| u64::from_be_bytes(*number))
}

fn last_number(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|number| u64::from_be_bytes(*number))
}

/// Folds transactions into the checkpoint, and those older than `keep` out of it. What a batch says of a transaction is one
/// record, and names are in the order of time: nothing is read to be written, and what is written lies together.
pub struct HistoryFold {
    keep_days: u64,
    /// What this batch says of each transaction, with the number of the first entry of it.
    gathered: BTreeMap<u64, (EntryNumber, Vec<u8>)>,
    /// The latest day and the highest transaction so far, once looked up: the clock may go back, and days do not.
    latest: Option<(u64, u64)>,
    /// Expired records that still stand in the checkpoint.
    leaving: VecDeque<Vec<u8>>,
    /// The day up to which nothing is left, once looked up.
    forgotten: Option<u64>,
}

impl HistoryFold {
    /// Keeps each transaction for at least `keep`, counted in whole days.
    #[must_use]
    pub fn keeping(keep: Duration) -> Self {
        Self {
            keep_days: keep.as_secs().div_ceil(DAY),
            gathered: BTreeMap::new(),
            latest: None,
            leaving: VecDeque::new(),
            forgotten: None,
        }
    }

    /// Notes that a transaction was known on that day.
    fn date(&mut self, day: u64, id: u64, pending: &Pending<'_>) -> Result<(), CheckpointError> {
        let (latest, highest) = match self.latest {
            Some(latest) => latest,
            None => days(pending)?.last().copied().unwrap_or_default(),
        };
        self.latest = Some((latest.max(day), highest.max(id)));
        Ok(())
    }

    fn forget_old(&mut self, today: u64, pending: &mut Pending<'_>) -> Result<(), CheckpointError> {
        let oldest_kept = today.saturating_sub(self.keep_days);
        for _ in 0..FORGOTTEN_PER_ENTRY {
            if self.leaving.is_empty() && !self.look_up(oldest_kept, pending)? {
                return Ok(());
            }
            if let Some(key) = self.leaving.pop_front() {
                forget(&key, pending)?;
            }
        }
        Ok(())
    }

    /// Finds more records to forget; false when there are none.
    fn look_up(&mut self, oldest_kept: u64, pending: &mut Pending<'_>) -> Result<bool, CheckpointError> {
        if self.forgotten.is_some_and(|day| day >= oldest_kept) {
            return Ok(false);
        }
        let expired: Vec<_> = days(pending)?.into_iter().filter(|(day, _)| *day < oldest_kept).collect();
        if let Some(highest) = expired.iter().map(|(_, highest)| *highest).max() {
            let oldest = pending.keys(ENTRIES, &[], LOOKED_UP)?.into_iter();
            let is_expired = |key: &Vec<u8>| first_number(key).is_some_and(|id| id <= highest);
            self.leaving.extend(oldest.take_while(is_expired));
        }
        if !self.leaving.is_empty() {
            return Ok(true);
        }
        for (day, _) in expired {
            pending.remove(DAYS, &day.to_be_bytes())?;
        }
        self.forgotten = Some(oldest_kept);
        Ok(false)
    }
}

/// Each day with the highest transaction that was known by its end.
fn days(pending: &Pending<'_>) -> Result<Vec<(u64, u64)>, CheckpointError> {
    let mut days = Vec::new();
    for key in pending.keys(DAYS, &[], usize::MAX)? {
        let highest = pending.get(DAYS, &key)?.and_then(|highest| first_number(&highest));
        days.extend(first_number(&key).zip(highest));
    }
    Ok(days)
}

fn forget(key: &[u8], pending: &mut Pending<'_>) -> Result<(), CheckpointError> {
    let (Some(id), Some(value)) = (first_number(key), pending.get(ENTRIES, key)?) else { return Ok(()) };
    for (_, entry) in decoded(&value)? {
        for name in names(TransactionId(id), &entry) {
            pending.remove(NAMES, &name_key(&name, id))?;
        }
    }
    pending.remove(ENTRIES, key)
}

fn name_key(name: &HistoryName, transaction: u64) -> Vec<u8> {
    [name.key().as_slice(), &transaction.to_be_bytes()].concat()
}

impl Fold for HistoryFold {
    fn fold(&mut self, entry: &Entry, pending: &mut Pending<'_>) -> Result<(), CheckpointError> {
        let Body::Transaction(happened) = &entry.body else { return Ok(()) };
        let day = entry.wall_time.seconds() / DAY;
        for (TransactionId(id), said) in about(happened) {
            for name in names(TransactionId(id), &said) {
                pending.put(NAMES, &name_key(&name, id), Vec::new())?;
            }
            self.date(day, id, pending)?;
            let (_, entries) = self.gathered.entry(id).or_insert_with(|| (entry.number, Vec::new()));
            let at = entries.len();
            entries.extend_from_slice(&[0; 4]);
            Entry { body: Body::Transaction(said), ..*entry }.encode(entries);
            let length = u32::try_from(entries.len() - at - 4).unwrap_or(u32::MAX);
            if let Some(place) = entries.get_mut(at..at + 4) {
                place.copy_from_slice(&length.to_le_bytes());
            }
        }
        self.forget_old(day, pending)
    }

    fn settle(&mut self, pending: &mut Pending<'_>) -> Result<(), CheckpointError> {
        for (id, (number, entries)) in std::mem::take(&mut self.gathered) {
            pending.put(ENTRIES, &[id.to_be_bytes(), number.0.to_be_bytes()].concat(), entries)?;
        }
        match self.latest {
            Some((day, highest)) => pending.put(DAYS, &day.to_be_bytes(), highest.to_be_bytes().to_vec()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Sealed, SecurityModule};
    use crate::journal::{CardRef, CheckpointKind, DeliveredEntry, DeliveryEnd, IssuerLeg, StoredKind};
    use crate::stdx::clock::Wall;
    use crate::vocab::{
        BusinessDate, Mti, Outcome, ResponseCode, ReversalReason, SettlementWindow, ShardId, Verdicts,
    };

    const WINDOW: SettlementWindow =
        SettlementWindow { date: BusinessDate { year: 2026, month: 11, day: 22 }, sequence: 1 };

    fn leg(stan: u32) -> AcquirerLeg {
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

    fn request(id: u64, stan: u32) -> TransactionEntry {
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

    fn outcome(id: u64, reversal: Option<StoredEntry>) -> TransactionEntry {
        TransactionEntry::Outcome(Box::new(OutcomeEntry {
            transaction: TransactionId(id),
            outcome: Outcome::Declined,
            refusal: None,
            answer: Elements::new(),
            approved: None,
            reversal,
            advice: None,
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
    fn story() -> Vec<TransactionEntry> {
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

    fn tells_the_story(find: Find<'_>) {
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

    fn fold_all(
        checkpoint: &Checkpoint,
        fold: &mut HistoryFold,
        entries: &[(u64, TransactionEntry)],
        from: u64,
    ) {
        let mut pending = Pending::on(checkpoint);
        for (number, (wall, entry)) in (from..).zip(entries) {
            let entry = Entry {
                number: EntryNumber(number),
                shard: ShardId(0),
                wall_time: Wall(*wall),
                body: Body::Transaction(entry.clone()),
            };
            fold.fold(&entry, &mut pending).unwrap();
        }
        fold.settle(&mut pending).unwrap();
        pending.write(EntryNumber(from + entries.len() as u64)).unwrap();
    }

    fn checkpoint(directory: &tempfile::TempDir) -> Arc<Checkpoint> {
        let keys = SecurityModule::sample().unwrap().journal_keys();
        let opened = Checkpoint::open(CheckpointKind::Redb, directory.path(), &keys).unwrap();
        Arc::new(opened.checkpoint)
    }

    #[test]
    fn recent_and_older_history_tell_the_same() {
        let mut recent = RecentHistory::with_capacity(10);
        for (number, entry) in (1..).zip(story()) {
            recent.note(EntryNumber(number), &entry);
        }
        tells_the_story(&|name| recent.find(&name));
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = checkpoint(&directory);
        let entries: Vec<_> = story().into_iter().map(|entry| (5_000, entry)).collect();
        fold_all(&checkpoint, &mut HistoryFold::keeping(Duration::from_secs(DAY)), &entries, 1);
        let older = OlderHistory::of(Arc::clone(&checkpoint));
        tells_the_story(&|name| older.find(&name).unwrap());
        for id in 1..=5 {
            let id = TransactionId(id);
            assert_eq!(recent.get(id), older.get(id).unwrap());
            let both = recent.get(id).unwrap().with(older.get(id).unwrap().unwrap());
            assert_eq!(Some(both), recent.get(id), "nothing twice");
        }
        assert_eq!(older.get(TransactionId(6)).unwrap(), None);
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

    #[test]
    fn what_is_older_than_kept_leaves_without_a_trace() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = checkpoint(&directory);
        let mut fold = HistoryFold::keeping(Duration::from_secs(2 * DAY));
        let day = |day: u64| (100 + day) * DAY * 1_000;
        let mut next = 1;
        for today in 0..6 {
            let mut entries = Vec::new();
            for id in 0..40 {
                let id = today * 40 + id;
                entries.push((day(today), request(id, u32::try_from(id).unwrap())));
                entries.push((day(today), outcome(id, None)));
            }
            fold_all(&checkpoint, &mut fold, &entries, next);
            next += entries.len() as u64;
            if today == 3 {
                // After a restart it goes on where it was.
                fold = HistoryFold::keeping(Duration::from_secs(2 * DAY));
            }
        }
        let older = OlderHistory::of(Arc::clone(&checkpoint));
        for id in 0..240 {
            let kept = id >= 3 * 40;
            assert_eq!(older.get(TransactionId(id)).unwrap().is_some(), kept, "transaction {id}");
            let name = HistoryName::of(&leg(u32::try_from(id).unwrap()));
            assert_eq!(older.find(&name).unwrap().len(), usize::from(kept), "transaction {id}");
        }
        assert_eq!(checkpoint.count(ENTRIES), 120, "one record a transaction");
        assert_eq!(checkpoint.count(NAMES), 120 * 2);
        assert_eq!(checkpoint.count(DAYS), 3);
    }
}
