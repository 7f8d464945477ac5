//! `Checkpoint`: a view of the journal on disk, as opaque `(part, key, value)` records that all stand at one entry
//! number. It only saves time at start: it may lag behind the journal, never lead it, and may be thrown away.
//!
//! The stores behind it give back wrong values, or none, without an error when a bit of their file turns over. So
//! each record carries a seal of its own, and count and sum of all seals show what is missing.

mod changes;
mod content;
mod keeper;
mod memory_store;
mod opening;
mod packed;
mod redb_checkpoint;
mod sled_checkpoint;
mod spread;
mod state;

#[cfg(test)]
mod conformance;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use changes::Changes;
pub use keeper::{CatchUp, CheckpointKeeper, Fold, Keeping, Pace, Pending, catch_up};
pub use memory_store::MemoryStore;
pub(super) use packed::each;
pub(super) use spread::spread;

use content::Content;
use packed::After;
use state::{State, Summary};

use super::base::Base;
use super::entry::EntryNumber;
use super::error::JournalError;
use crate::crypto::{CryptoError, SegmentKey, same};

/// Why a checkpoint does not do what was asked. Never a reason to doubt the journal.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("checkpoint: cannot {action}: {reason}")]
    Store { action: &'static str, reason: String },
    #[error("checkpoint: {0}")]
    Damaged(&'static str),
    #[error("checkpoint: another process uses it")]
    InUse,
    #[error("checkpoint: it stands at entry {at} and cannot go back to {to}")]
    Backwards { at: EntryNumber, to: EntryNumber },
    #[error("checkpoint: a part's name has 1 to 255 bytes")]
    PartName,
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("checkpoint keys: {0}")]
    Keys(#[from] CryptoError),
}

impl CheckpointError {
    /// For `map_err`.
    pub(super) fn store<E: ToString>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Store { action, reason: error.to_string() }
    }
}

/// Which store keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CheckpointKind {
    #[default]
    Redb,
    Sled,
}

impl CheckpointKind {
    pub const ALL: [Self; 2] = [Self::Redb, Self::Sled];

    /// As configuration and file names write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Redb => "redb",
            Self::Sled => "sled",
        }
    }

    fn open(self, path: &Path) -> Result<Box<dyn Store>, CheckpointError> {
        Ok(match self {
            Self::Redb => Box::new(redb_checkpoint::RedbStore::open(path)?),
            Self::Sled => Box::new(sled_checkpoint::SledStore::open(path)?),
        })
    }
}

/// A change of one record: its new value, or none to remove it.
type Change = (Vec<u8>, Option<Vec<u8>>);
/// What `scan` calls for each key and value, until it has seen enough.
type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, CheckpointError> + 'a;

/// What a store behind a checkpoint must be able to do.
trait Store: Send + Sync {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, CheckpointError>;
    /// Visits the records whose keys begin with `prefix`, in the order of their keys.
    fn scan(&self, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), CheckpointError>;
    /// All changes or none, on disk when it returns.
    fn apply(&self, changes: Vec<Change>) -> Result<(), CheckpointError>;
}

/// What is called for each key and value; an error ends it.
pub type EachRecord<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), CheckpointError> + 'a;

/// As `EachRecord`, on a thread of its own.
pub type Visitor<'a> = Box<dyn FnMut(&[u8], &[u8]) -> Result<(), CheckpointError> + Send + 'a>;

/// Records by part and key, as of an entry: a checkpoint, or a base that one was written out as.
pub trait Records: Sync {
    /// The last entry that is in it; 0 when there is none.
    fn entry_number(&self) -> EntryNumber;

    /// All records of a part, in the order of their keys.
    ///
    /// # Errors
    /// `Store`, `Damaged`, `Journal`, or what `visit` says.
    fn scan_part(&self, part: &str, visit: &mut EachRecord<'_>) -> Result<(), CheckpointError>;

    /// All records of a part, each to one of several visitors on as many threads, in no order. Of a small part the
    /// first has them all.
    ///
    /// # Errors
    /// As `scan_part`.
    fn share_part(&self, part: &str, visitors: &mut [Visitor<'_>]) -> Result<(), CheckpointError>;
}

impl Records for Checkpoint {
    fn entry_number(&self) -> EntryNumber {
        self.entry_number()
    }

    /// With count and sum of the part: that of a packed one was not looked at before.
    fn scan_part(&self, part: &str, visit: &mut EachRecord<'_>) -> Result<(), CheckpointError> {
        let mut found = Summary::default();
        let prefix = full_key(part, &[])?;
        self.store.scan(&prefix, &mut |key, record| {
            let (value, seal) = self.unsealed(key, record)?;
            found.add(seal);
            each(key, value, visit).map(ControlFlow::Continue)
        })?;
        self.compare(part.as_bytes(), found)
    }

    fn share_part(&self, part: &str, visitors: &mut [Visitor<'_>]) -> Result<(), CheckpointError> {
        if self.count(part) < SHARED_LEAST {
            return visitors.first_mut().map_or(Ok(()), |visit| self.scan_part(part, visit));
        }
        let prefix = full_key(part, &[])?;
        let mut lookers: Vec<_> = visitors.iter_mut().map(|visit| (visit, Summary::default())).collect();
        let read = |give: &mut dyn FnMut(Raw) -> ControlFlow<()>| {
            let mut raw = Raw::new();
            self.store.scan(&prefix, &mut |key, record| {
                raw.push((key.to_vec(), record.to_vec()));
                let is_full = raw.len() >= SHARED_AT_ONCE;
                Ok(if is_full { give(std::mem::take(&mut raw)) } else { ControlFlow::Continue(()) })
            })?;
            let _ = give(raw);
            Ok(())
        };
        spread(read, &mut lookers, |(visit, found), raw| {
            raw.iter().try_for_each(|(key, record)| {
                let (value, seal) = self.unsealed(key, record)?;
                found.add(seal);
                each(key, value, *visit)
            })
        })?;
        let mut found = Summary::default();
        lookers.iter().for_each(|(_, some)| found.join(*some));
        self.compare(part.as_bytes(), found)
    }
}

/// Records of the store on their way to those who look at them.
type Raw = Vec<(Vec<u8>, Vec<u8>)>;

/// A part of fewer records of the store is read by one thread.
const SHARED_LEAST: u64 = 256;

/// How many records of the store go to a thread at once.
const SHARED_AT_ONCE: usize = 64;

/// How many bytes of records `Checkpoint::fill` writes at once.
const FILLED_AT_ONCE: usize = 16 << 20;

/// The key of the record that holds `State`. Every other key begins with a part's length, which is not 0.
const STATE_KEY: [u8; 1] = [0];
/// Bytes of a record's seal.
const SEAL: usize = 16;

/// Records by part and key. Reading it waits for the disk: never on a payment's thread.
pub struct Checkpoint {
    store: Box<dyn Store>,
    key: SegmentKey,
    content: Content,
    state: Mutex<State>,
}

/// A checkpoint, and whether another had to make room for it.
pub struct OpenedCheckpoint {
    pub checkpoint: Checkpoint,
    /// Where a damaged one was moved to, and what was wrong with it. The new one is empty and stands at 0.
    pub quarantined: Option<(PathBuf, CheckpointError)>,
}

impl Checkpoint {
    /// The last entry that is in it; 0 when there is none.
    #[must_use]
    pub fn entry_number(&self) -> EntryNumber {
        self.lock().number
    }

    /// Whether it was never written to.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        *self.lock() == State::default()
    }

    /// Gives an empty one all that a base has. Ended half-way it is neither blank nor at any entry.
    pub(super) fn fill(&self, base: &Base) -> Result<(), CheckpointError> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        base.walk_all(&mut |key, value| {
            bytes += key.len() + value.len();
            records.push((key.to_vec(), After::Whole(Some(value.to_vec()))));
            if bytes < FILLED_AT_ONCE {
                return Ok(());
            }
            bytes = 0;
            self.write_records(std::mem::take(&mut records), EntryNumber(0))
        })?;
        self.write_records(records, base.entry_number())
    }

    /// How many records a part has, or packs of them; of the history this is not known.
    #[must_use]
    pub fn count(&self, part: &str) -> u64 {
        self.lock().parts.get(part.as_bytes()).map_or(0, |summary| summary.count)
    }

    /// One record.
    ///
    /// # Errors
    /// `Store`, or `Damaged` when its seal does not hold: never a value that was not written.
    pub fn get(&self, part: &str, key: &[u8]) -> Result<Option<Vec<u8>>, CheckpointError> {
        let key = full_key(part, key)?;
        let (stored, place) = packed::place_of(&key);
        let Some(record) = self.store.get(&stored)? else { return Ok(None) };
        let (value, _) = self.unsealed(&stored, &record)?;
        match place {
            None => Ok(Some(value.to_vec())),
            Some(place) => Ok(packed::pick(value, place)?.map(<[u8]>::to_vec)),
        }
    }

    /// All records of a part that is not packed whose keys begin with `prefix`, in the order of their keys.
    ///
    /// # Errors
    /// `Store`, `Damaged`, or what `visit` says, which ends it.
    pub fn scan(
        &self,
        part: &str,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let full = full_key(part, prefix)?;
        let head = full.len() - prefix.len();
        self.store.scan(&full, &mut |key, record| {
            let (value, _) = self.unsealed(key, record)?;
            visit(key.get(head..).unwrap_or_default(), value).map(ControlFlow::Continue)
        })
    }

    /// The keys of a part that begin with `prefix`, until `visit` has seen enough. No record is opened.
    fn keys_until(
        &self,
        part: &str,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), CheckpointError> {
        let full = full_key(part, prefix)?;
        let head = full.len() - prefix.len();
        self.store.scan(&full, &mut |key, _| Ok(visit(key.get(head..).unwrap_or_default())))
    }

    /// Changes records and moves to entry `number`, in one transaction that is on disk when this returns.
    ///
    /// # Errors
    /// `Backwards`, `Store`; then nothing was changed.
    pub fn write(&self, changes: Changes, number: EntryNumber) -> Result<(), CheckpointError> {
        self.write_records(packed::grouped(changes.records), number)
    }

    fn write_records(
        &self,
        records: Vec<(Vec<u8>, After)>,
        number: EntryNumber,
    ) -> Result<(), CheckpointError> {
        let mut state = self.lock();
        if number < state.number {
            return Err(CheckpointError::Backwards { at: state.number, to: number });
        }
        let mut next = State { number, parts: state.parts.clone() };
        let mut batch = Vec::with_capacity(records.len() + 1);
        for (key, after) in records {
            if self.content == Content::History {
                let after = after.over(None)?.map(|value| self.sealed(&key, &value).0);
                batch.push((key, after));
                continue;
            }
            let record = self.store.get(&key)?;
            let before = match &record {
                Some(record) => Some(self.unsealed(&key, record)?),
                None => None,
            };
            let after = after.over(before.map(|(value, _)| value))?;
            let after = after.map(|value| self.sealed(&key, &value));
            let summary = next.parts.entry(part_of(&key).to_vec()).or_default();
            if let Some((_, seal)) = before {
                summary.remove(seal);
            }
            if let Some((_, seal)) = &after {
                summary.add(*seal);
            }
            batch.push((key, after.map(|(record, _)| record)));
        }
        batch.push((STATE_KEY.to_vec(), Some(self.sealed_state(&next))));
        self.store.apply(batch)?;
        *state = next;
        Ok(())
    }

    /// Writes what `renew` makes of records of a part, where it makes anything; at the entry where the checkpoint
    /// stands.
    ///
    /// # Errors
    /// `Store`, `Damaged`, or what `renew` says; what was written before that stays.
    pub fn renew(
        &self,
        part: &str,
        mut renew: impl FnMut(&[u8]) -> Result<Option<Vec<u8>>, CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let (mut changes, mut bytes) = (Changes::new(), 0);
        self.store.scan(&full_key(part, &[])?, &mut |key, record| {
            each(key, self.unsealed(key, record)?.0, &mut |key, value| {
                let Some(new) = renew(value)? else { return Ok(()) };
                bytes += new.len();
                changes.put(part, key, new)
            })?;
            if bytes >= FILLED_AT_ONCE {
                bytes = 0;
                self.write(std::mem::take(&mut changes), self.entry_number())?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        self.write(changes, self.entry_number())
    }

    /// Looks at every record: each seal, and count and sum of each part.
    ///
    /// # Errors
    /// `Damaged`, `Store`.
    pub fn verify(&self) -> Result<(), CheckpointError> {
        self.walk(&mut |_, _| Ok(()))
    }

    /// Visits every record, by its whole key; as `verify`, which is known at the end only.
    pub(super) fn walk(&self, visit: &mut EachRecord<'_>) -> Result<(), CheckpointError> {
        let mut found: BTreeMap<Vec<u8>, Summary> = BTreeMap::new();
        self.store.scan(&[], &mut |key, record| {
            if key != STATE_KEY {
                let (value, seal) = self.unsealed(key, record)?;
                found.entry(part_of(key).to_vec()).or_default().add(seal);
                visit(key, value)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let expected: Vec<Vec<u8>> = self.lock().parts.keys().cloned().collect();
        expected
            .iter()
            .filter(|part| !found.contains_key(*part))
            .try_for_each(|part| self.compare(part, Summary::default()))?;
        found.into_iter().try_for_each(|(part, found)| self.compare(&part, found))
    }

    /// As `verify`, of the parts that are not packed.
    fn verify_unpacked(&self) -> Result<(), CheckpointError> {
        let parts: Vec<Vec<u8>> = self.lock().parts.keys().cloned().collect();
        for part in parts.iter().filter(|part| !packed::is_packed(part)) {
            let part = std::str::from_utf8(part);
            let part = part.map_err(|_| CheckpointError::Damaged("a part's name cannot be read"))?;
            self.scan_part(part, &mut |_, _| Ok(()))?;
        }
        Ok(())
    }

    /// Whether a part has as many records as it must have, and these.
    fn compare(&self, part: &[u8], found: Summary) -> Result<(), CheckpointError> {
        let expected = self.lock().parts.get(part).copied().unwrap_or_default();
        if expected == found {
            return Ok(());
        }
        Err(CheckpointError::Damaged("records are missing or should not be there"))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The seal covers the key, too: a record found under another's key does not hold.
    fn seal(&self, key: &[u8], value: &[u8]) -> u128 {
        let length = u64::try_from(key.len()).unwrap_or(u64::MAX).to_le_bytes();
        let mac = self.key.chain(&[0; 32], &[&length, key, value]);
        mac.first_chunk::<SEAL>().map_or(0, |seal| u128::from_le_bytes(*seal))
    }

    fn sealed(&self, key: &[u8], value: &[u8]) -> (Vec<u8>, u128) {
        let seal = self.seal(key, value);
        ([&seal.to_le_bytes(), value].concat(), seal)
    }

    fn sealed_state(&self, state: &State) -> Vec<u8> {
        self.sealed(&STATE_KEY, &state.encode()).0
    }

    fn unsealed<'a>(&self, key: &[u8], record: &'a [u8]) -> Result<(&'a [u8], u128), CheckpointError> {
        let wrong = CheckpointError::Damaged("the seal of a record does not hold");
        let Some((seal, value)) = record.split_first_chunk::<SEAL>() else { return Err(wrong) };
        if !same(seal, &self.seal(key, value).to_le_bytes()) {
            return Err(wrong);
        }
        Ok((value, u128::from_le_bytes(*seal)))
    }
}

pub(super) fn full_key(part: &str, key: &[u8]) -> Result<Vec<u8>, CheckpointError> {
    let length = u8::try_from(part.len()).ok().filter(|length| *length > 0);
    let length = length.ok_or(CheckpointError::PartName)?;
    Ok([&[length], part.as_bytes(), key].concat())
}

pub(super) fn part_of(key: &[u8]) -> &[u8] {
    let length = key.first().map_or(0, |length| usize::from(*length));
    key.get(1..=length).unwrap_or_default()
}
