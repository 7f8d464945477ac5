//! `Beside`: what few tokens have besides their slot in the table. A mark in the slot says so; only then a lock is
//! taken.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::stdx::maps::Map;

/// Tokens are spread over so many locks.
const SHARDS: usize = 64;

type Shard<T> = Mutex<Map<u64, Arc<T>>>;

/// Something of few tokens, by record.
pub(super) struct Beside<T> {
    shards: Box<[Shard<T>]>,
}

impl<T> Beside<T> {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// None where its mark was seen and it has gone since: the mark goes first.
    pub(super) fn get(&self, record: u64) -> Option<Arc<T>> {
        self.shard(record)?.get(&record).cloned()
    }

    /// Whether it had none before.
    pub(super) fn put(&self, record: u64, value: T) -> bool {
        self.shard(record).is_some_and(|mut shard| shard.insert(record, Arc::new(value)).is_none())
    }

    /// Whether it had some.
    pub(super) fn remove(&self, record: u64) -> bool {
        self.shard(record).is_some_and(|mut shard| shard.remove(&record).is_some())
    }

    fn shard(&self, record: u64) -> Option<MutexGuard<'_, Map<u64, Arc<T>>>> {
        let shard = self.shards.get(usize::try_from(record % SHARDS as u64).unwrap_or_default())?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
