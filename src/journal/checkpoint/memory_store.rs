//! `MemoryStore`: a checkpoint's records in memory, for tests and simulations. It outlives the process that they play.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Change, CheckpointError, Store, Visit};

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Records in memory. Clones are the same store, so that a test keeps a hand on what it gave away.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Arc<Records>>>);

impl MemoryStore {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store with the same records, which goes its own way from here on, as a backup does.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.seen())))
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Forgets all records.
    pub fn clear(&self) {
        *self.lock() = Arc::default();
    }

    /// Turns over the lowest bit in the last byte of one record, counted in the order of their keys. False when there
    /// is no such record.
    #[must_use]
    pub fn flip(&self, record: usize) -> bool {
        let mut records = self.lock();
        let byte = Arc::make_mut(&mut records).values_mut().nth(record).and_then(|value| value.last_mut());
        byte.map(|byte| *byte ^= 1).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Records>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As of now: whoever visits it may write meanwhile.
    fn seen(&self) -> Arc<Records> {
        Arc::clone(&self.lock())
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, CheckpointError> {
        Ok(self.lock().get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), CheckpointError> {
        let records = self.seen();
        for (key, value) in records.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix)) {
            if visit(key, value)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), CheckpointError> {
        let mut records = self.lock();
        let records = Arc::make_mut(&mut records);
        for (key, value) in changes {
            match value {
                Some(value) => records.insert(key, value),
                None => records.remove(&key),
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Changes, Checkpoint};
    use super::*;
    use crate::crypto::SecurityModule;
    use crate::journal::EntryNumber;

    #[test]
    fn records_outlive_their_checkpoint_and_a_flipped_byte_is_noticed() {
        let keys = SecurityModule::sample().unwrap().journal_keys();
        let store = MemoryStore::new();
        let checkpoint = Checkpoint::in_memory(&store, &keys).unwrap();
        let mut changes = Changes::new();
        changes.put("part", b"key", b"value".to_vec()).unwrap();
        checkpoint.write(changes, EntryNumber(7)).unwrap();
        let backup = store.copy();
        checkpoint.write(Changes::new(), EntryNumber(9)).unwrap();
        drop(checkpoint);
        for (store, number) in [(&store, 9), (&backup, 7)] {
            let again = Checkpoint::in_memory(store, &keys).unwrap();
            assert_eq!(again.entry_number(), EntryNumber(number));
            assert_eq!(again.get("part", b"key").unwrap().as_deref(), Some(&b"value"[..]));
        }
        for record in 0..store.len() {
            let bad = store.copy();
            assert!(bad.flip(record));
            let refused = Checkpoint::in_memory(&bad, &keys);
            assert!(matches!(refused.map(drop), Err(CheckpointError::Damaged(_))), "record {record}");
        }
        assert!(!store.flip(store.len()));
        store.clear();
        assert!(Checkpoint::in_memory(&store, &keys).unwrap().is_blank());
    }
}
