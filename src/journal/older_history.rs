//! The history of transactions on disk: a view of the journal, found by name or number, kept by age.
//!
//! It is written while payments pass, so that its layout is made for few and long records: neighbours in number share
//! a record, and so do names that differ in their last digits only. Nothing is read to be written.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::checkpoint::{Checkpoint, CheckpointError, Fold, Pending};
use super::entry::{Body, Entry, EntryNumber, TransactionEntry};
use super::history::{Families, Family, HistoryName, PastTransaction, about, names};
use crate::vocab::TransactionId;

/// Key: bucket of transactions, first entry of the batch. Value: what the batch says of them, as `Said` has it.
const ENTRIES: &str = "history";
/// Key: bucket of names, highest transaction, first entry of the batch. Value: names, `NAMED` bytes each.
const NAMES: &str = "history-names";
/// Key: day. Value: the highest transaction that was known by its end.
const DAYS: &str = "history-days";

/// Transactions that share a record, where they follow each other.
const TOGETHER: u64 = 32;

/// How many expired records are looked up at once; and how many transactions' entries leave with each that comes in, so
/// that forgetting keeps up, and no day is forgotten in one piece.
const LOOKED_UP: usize = 2_000;
const FORGOTTEN_PER_ENTRY: usize = 2;

const DAY: u64 = 86_400;

/// A name on disk: the bucket that it shares with its neighbours, and what tells it from them. Buckets have one length,
/// so that none begins another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    bucket: [u8; 13],
    last: [u8; 3],
}

impl Place {
    fn of(name: &HistoryName) -> Self {
        match name {
            HistoryName::Leg { link, stan, sent_at } => {
                let [l0, l1] = link.0.to_be_bytes();
                let [a, b, c, d, e, f, g, h] = sent_at.0.to_be_bytes();
                let [_, _, s0, s1] = (stan.get() / 1_000).to_be_bytes();
                let [_, last @ ..] = (stan.get() % 1_000).to_be_bytes();
                Self { bucket: [1, l0, l1, a, b, c, d, e, f, g, h, s0, s1], last }
            }
            HistoryName::Rrn { link, rrn } => {
                let mut digits = [0; 12];
                digits.iter_mut().zip(rrn.as_bytes()).for_each(|(to, digit)| *to = *digit);
                let [l0, l1] = link.0.to_be_bytes();
                let [a, b, c, d, e, f, g, h, i, last @ ..] = digits;
                Self { bucket: [2, l0, l1, a, b, c, d, e, f, g, h, i, 0], last }
            }
        }
    }
}

/// A transaction's name as one batch has it: `last` of its place and its number, together `NAMED` bytes on disk.
type Named = (Place, u64);
const NAMED: usize = 3 + 8;

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
        self.get_all(&self.named(name, usize::MAX)?.0)
    }

    /// The newest of `find`, `most` of them, each with those that name it as their original; then what they name
    /// themselves.
    ///
    /// # Errors
    /// As `find`.
    pub fn families(&self, name: &HistoryName, most: usize) -> Result<Families, CheckpointError> {
        let (named, more) = self.named(name, most)?;
        let found = Family::of_all(self.get_all(&named)?, |id| self.get(id))?;
        Ok(Families { found, more })
    }

    /// The newest of that name, `most` of them, and whether there are older ones.
    fn named(&self, name: &HistoryName, most: usize) -> Result<(BTreeSet<u64>, bool), CheckpointError> {
        let place = Place::of(name);
        let (mut newest, mut more) = (BTreeSet::new(), false);
        self.checkpoint.scan(NAMES, &place.bucket, |_, names| {
            let same = names.chunks_exact(NAMED).filter_map(|named| named.strip_prefix(&place.last));
            for id in same.filter_map(first_number) {
                newest.insert(id);
                if newest.len() > most {
                    newest.pop_first();
                    more = true;
                }
            }
            Ok(())
        })?;
        Ok((newest, more))
    }

    fn get_all(&self, ids: &BTreeSet<u64>) -> Result<Vec<PastTransaction>, CheckpointError> {
        ids.iter().filter_map(|id| self.get(TransactionId(*id)).transpose()).collect()
    }

    /// One transaction.
    ///
    /// # Errors
    /// As `find`.
    pub fn get(&self, transaction: TransactionId) -> Result<Option<PastTransaction>, CheckpointError> {
        let mut entries = Vec::new();
        self.checkpoint.scan(ENTRIES, &bucket_of(transaction.0).to_be_bytes(), |_, record| {
            for said in record_of(record) {
                let (id, entry) = said?;
                if id == transaction.0 {
                    entries.push(entry.decode()?);
                }
            }
            Ok(())
        })?;
        Ok((!entries.is_empty()).then_some(PastTransaction { transaction, entries }))
    }
}

const DAMAGED: CheckpointError = CheckpointError::Damaged("a transaction of the history cannot be read");

/// An entry's bytes in a record.
struct Said<'a>(&'a [u8]);

impl Said<'_> {
    fn decode(&self) -> Result<(EntryNumber, TransactionEntry), CheckpointError> {
        match Entry::decode(self.0) {
            Ok(Entry { number, body: Body::Transaction(entry), .. }) => Ok((number, entry)),
            Ok(_) | Err(_) => Err(DAMAGED),
        }
    }

    /// Appends what `entry` says of `transaction` to a record: number, length, entry.
    fn put(transaction: u64, entry: &Entry, record: &mut Vec<u8>) {
        record.extend_from_slice(&transaction.to_be_bytes());
        let at = record.len();
        record.extend_from_slice(&[0; 4]);
        entry.encode(record);
        let length = u32::try_from(record.len() - at - 4).unwrap_or(u32::MAX);
        if let Some(place) = record.get_mut(at..at + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }

    fn take(record: &[u8]) -> Option<((u64, Said<'_>), &[u8])> {
        let (id, rest) = record.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (entry, rest) = rest.split_at_checked(length)?;
        Some(((u64::from_be_bytes(*id), Said(entry)), rest))
    }
}

/// All that a record says, each with its transaction.
fn record_of(mut record: &[u8]) -> impl Iterator<Item = Result<(u64, Said<'_>), CheckpointError>> {
    std::iter::from_fn(move || {
        if record.is_empty() {
            return None;
        }
        let Some((said, rest)) = Said::take(record) else {
            record = &[];
            return Some(Err(DAMAGED));
        };
        record = rest;
        Some(Ok(said))
    })
}

fn bucket_of(transaction: u64) -> u64 {
    transaction / TOGETHER
}

/// The highest transaction that may be in a bucket.
fn end_of(bucket: u64) -> u64 {
    bucket.saturating_mul(TOGETHER).saturating_add(TOGETHER - 1)
}

fn first_number(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|number| u64::from_be_bytes(*number))
}

/// Folds transactions into the checkpoint, and those older than `keep` out of it.
pub struct HistoryFold {
    keep_days: u64,
    /// The number of this batch's first entry.
    batch: Option<EntryNumber>,
    /// What this batch says, by bucket, and the names in it.
    gathered: BTreeMap<u64, Vec<u8>>,
    named: Vec<Named>,
    /// The latest day and the highest transaction so far, once looked up: the clock may go back, and days do not.
    latest: Option<(u64, u64)>,
    /// Expired records that still stand in the checkpoint.
    leaving: VecDeque<Vec<u8>>,
    /// How many entries have left that none came in for yet.
    forgetting: usize,
    /// The day up to which nothing is left, once looked up.
    forgotten: Option<u64>,
}

impl HistoryFold {
    /// Keeps each transaction for at least `keep`, counted in whole days.
    #[must_use]
    pub fn keeping(keep: Duration) -> Self {
        Self {
            keep_days: keep.as_secs().div_ceil(DAY),
            batch: None,
            gathered: BTreeMap::new(),
            named: Vec::new(),
            latest: None,
            leaving: VecDeque::new(),
            forgetting: 0,
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
        self.forgetting = self.forgetting.saturating_sub(FORGOTTEN_PER_ENTRY);
        let oldest_kept = today.saturating_sub(self.keep_days);
        while self.forgetting == 0 {
            if self.leaving.is_empty() && !self.look_up(oldest_kept, pending)? {
                return Ok(());
            }
            if let Some(key) = self.leaving.pop_front() {
                self.forgetting += forget(&key, pending)?;
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
            let is_expired =
                |key: &Vec<u8>| first_number(key).is_some_and(|bucket| end_of(bucket) <= highest);
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

/// Removes a record and the names that nothing newer has; gives how many entries it had.
fn forget(key: &[u8], pending: &mut Pending<'_>) -> Result<usize, CheckpointError> {
    let (Some(bucket), Some(record)) = (first_number(key), pending.get(ENTRIES, key)?) else { return Ok(0) };
    let mut left = 0;
    let mut places = BTreeSet::new();
    for said in record_of(&record) {
        let (id, entry) = said?;
        let (_, entry) = entry.decode()?;
        places.extend(names(TransactionId(id), &entry).map(|name| Place::of(&name).bucket));
        left += 1;
    }
    for place in places {
        for key in pending.keys(NAMES, &place, usize::MAX)? {
            let highest = key.get(place.len()..).and_then(first_number);
            if highest.is_some_and(|highest| highest <= end_of(bucket)) {
                pending.remove(NAMES, &key)?;
            }
        }
    }
    pending.remove(ENTRIES, key)?;
    Ok(left)
}

impl Fold for HistoryFold {
    fn fold(&mut self, entry: &Entry, pending: &mut Pending<'_>) -> Result<(), CheckpointError> {
        let Body::Transaction(happened) = &entry.body else { return Ok(()) };
        let day = entry.wall_time.seconds() / DAY;
        self.batch.get_or_insert(entry.number);
        for (id, said) in about(happened) {
            self.named.extend(names(id, &said).map(|name| (Place::of(&name), id.0)));
            self.date(day, id.0, pending)?;
            let record = self.gathered.entry(bucket_of(id.0)).or_default();
            match said {
                Cow::Borrowed(_) => Said::put(id.0, entry, record),
                Cow::Owned(said) => {
                    Said::put(id.0, &Entry { body: Body::Transaction(said), ..*entry }, record);
                }
            }
        }
        self.forget_old(day, pending)
    }

    fn settle(&mut self, pending: &mut Pending<'_>) -> Result<(), CheckpointError> {
        let batch = self.batch.take().unwrap_or_default().0.to_be_bytes();
        for (bucket, record) in std::mem::take(&mut self.gathered) {
            pending.put(ENTRIES, &[bucket.to_be_bytes(), batch].concat(), record)?;
        }
        self.named.sort_unstable();
        for named in self.named.chunk_by(|(one, _), (other, _)| one.bucket == other.bucket) {
            let Some((Place { bucket, .. }, _)) = named.first() else { continue };
            let highest = named.iter().map(|(_, id)| *id).max().unwrap_or_default().to_be_bytes();
            let names = named.iter().flat_map(|(place, id)| place.last.into_iter().chain(id.to_be_bytes()));
            pending.put(NAMES, &[&bucket[..], &highest, &batch].concat(), names.collect())?;
        }
        self.named.clear();
        match self.latest {
            Some((day, highest)) => pending.put(DAYS, &day.to_be_bytes(), highest.to_be_bytes().to_vec()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SecurityModule;
    use crate::journal::CheckpointKind;
    use crate::journal::history::RecentHistory;
    use crate::journal::history::tests::{leg, outcome, request, story, tells_the_story};
    use crate::stdx::clock::Wall;
    use crate::stdx::random::Entropy;
    use crate::vocab::{LinkId, Rrn, ShardId};

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
    fn what_is_older_than_kept_leaves_without_a_trace() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = checkpoint(&directory);
        let mut fold = HistoryFold::keeping(Duration::from_secs(2 * DAY));
        let day = |day: u64| (100 + day) * DAY * 1_000;
        let mut next = 1;
        let a_day = 4 * TOGETHER;
        for today in 0..6 {
            let mut entries = Vec::new();
            for id in today * a_day..(today + 1) * a_day {
                entries.push((day(today), request(id, u32::try_from(id + 1).unwrap())));
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
        for id in 0..6 * a_day {
            let kept = id >= 3 * a_day;
            assert_eq!(older.get(TransactionId(id)).unwrap().is_some(), kept, "transaction {id}");
            let name = HistoryName::of(&leg(u32::try_from(id + 1).unwrap()));
            assert_eq!(older.find(&name).unwrap().len(), usize::from(kept), "transaction {id}");
        }
        let records = |part| {
            let mut records = 0;
            let count = |_: &[u8], _: &[u8]| {
                records += 1;
                Ok(())
            };
            checkpoint.scan(part, &[], count).unwrap();
            records
        };
        assert_eq!(records(ENTRIES), 3 * 4, "one record for neighbours");
        assert_eq!(
            records(NAMES),
            3 * 2,
            "a batch's STANs, and its RRNs, have all but their last digits in common"
        );
        assert_eq!(records(DAYS), 3);
    }

    #[test]
    fn batches_of_any_size_tell_what_one_after_the_other_does() {
        let mut random = Entropy::seeded(7);
        let mut below = |bound| random.below(bound).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = checkpoint(&directory);
        let mut fold = HistoryFold::keeping(Duration::from_secs(DAY));
        let mut recent = RecentHistory::with_capacity(10_000);
        let mut next = 1;
        for _ in 0..60 {
            let batch: Vec<_> = (0..below(40))
                .map(|_| {
                    let id = below(400);
                    // Few enough that names are shared, far enough apart that not all are neighbours.
                    let stan = u32::try_from(1 + below(3) * 999 + below(30)).unwrap();
                    let entry = if below(3) == 0 { outcome(id, None) } else { request(id, stan) };
                    (5_000, entry)
                })
                .collect();
            for (number, (_, entry)) in (next..).zip(&batch) {
                recent.note(EntryNumber(number), entry);
            }
            fold_all(&checkpoint, &mut fold, &batch, next);
            next += batch.len() as u64;
        }
        let older = OlderHistory::of(checkpoint);
        for id in (0..400).map(TransactionId) {
            assert_eq!(recent.get(id), older.get(id).unwrap());
        }
        for stan in (0..3).flat_map(|high| (1..=30).map(move |low| high * 999 + low)) {
            let rrn = Rrn::parse(format!("R{stan:011}").as_bytes()).unwrap();
            for name in [HistoryName::of(&leg(stan)), HistoryName::Rrn { link: LinkId(3), rrn }] {
                let mut expected = recent.find(&name);
                expected.sort_by_key(|past| past.transaction);
                assert_eq!(expected, older.find(&name).unwrap());
            }
        }
    }
}
