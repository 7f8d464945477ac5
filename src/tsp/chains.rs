//! `Chains`: the vault's records that have a PAN or a device in common, found without a list for each.

use crate::stdx::maps::Map;

/// Records that have something in common, the newest first: one word a record, and no list of its own for each PAN.
pub(super) struct Chains<K> {
    newest: Map<K, u32>,
    /// By record: the next older one, or `NONE`.
    older: Vec<u32>,
}

/// No record has this number: there would be no room for it.
const NONE: u32 = u32::MAX;

impl<K> Default for Chains<K> {
    fn default() -> Self {
        Self { newest: Map::default(), older: Vec::new() }
    }
}

impl<K: std::hash::Hash + Eq + Copy> Chains<K> {
    /// Puts a record in front of a chain; a new one in its turn, an older one after it was unlinked.
    pub(super) fn link(&mut self, key: K, record: u32) {
        let before = self.newest.insert(key, record).unwrap_or(NONE);
        match self.older.get_mut(index(record)) {
            Some(place) => *place = before,
            None => self.older.push(before),
        }
    }

    /// Counts a new record that is in no chain.
    pub(super) fn leave_out(&mut self) {
        self.older.push(NONE);
    }

    pub(super) fn unlink(&mut self, key: K, record: u32) {
        let after = self.older.get(index(record)).copied().unwrap_or(NONE);
        let before = self.of(key).find(|at| self.older.get(index(*at)) == Some(&record));
        match (before.and_then(|at| self.older.get_mut(index(at))), after) {
            (Some(place), _) => *place = after,
            (None, NONE) => drop(self.newest.remove(&key)),
            (None, _) => drop(self.newest.insert(key, after)),
        }
    }

    pub(super) fn of(&self, key: K) -> impl Iterator<Item = u32> {
        let next = |at: &u32| self.older.get(index(*at)).copied().filter(|next| *next != NONE);
        std::iter::successors(self.newest.get(&key).copied(), next)
    }
}

fn index(record: u32) -> usize {
    usize::try_from(record).unwrap_or(usize::MAX)
}
