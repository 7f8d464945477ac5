//! `Chains`: the vault's records that have a PAN or a device in common, found without a list for each.

use super::record_index::RecordIndex;

/// Records that have something in common, the newest first: no list of its own for each PAN, and no copy of it. What
/// they have in common is given as its hash, and as `is_of`, which says of a record whether it has it.
pub(super) struct Chains {
    newest: RecordIndex,
    /// By record: the next older one, or `NONE`.
    older: Vec<u32>,
}

/// No record has this number: there would be no room for it.
const NONE: u32 = u32::MAX;

impl Chains {
    pub(super) fn new(capacity: usize) -> Self {
        Self { newest: RecordIndex::new(capacity), older: Vec::with_capacity(capacity) }
    }

    /// Brings near what is read of a chain.
    pub(super) fn touch(&self, hash: u64) {
        self.newest.touch(hash);
    }

    /// Puts a record in front of a chain; a new one in its turn, an older one after it was unlinked.
    pub(super) fn link(&mut self, hash: u64, record: u32, is_of: impl Fn(u32) -> bool) {
        let newest = self.newest(hash, is_of);
        self.newest.replace(hash, newest, Some(record));
        let before = newest.unwrap_or(NONE);
        match self.older.get_mut(index(record)) {
            Some(place) => *place = before,
            None => self.older.push(before),
        }
    }

    /// Counts a new record that is in no chain.
    pub(super) fn leave_out(&mut self) {
        self.older.push(NONE);
    }

    /// Takes a record out of a chain, to which it must still belong by `is_of`.
    pub(super) fn unlink(&mut self, hash: u64, record: u32, is_of: impl Fn(u32) -> bool) {
        let after = self.older.get(index(record)).copied().unwrap_or(NONE);
        let before = self.of(hash, is_of).find(|at| self.older.get(index(*at)) == Some(&record));
        match before.and_then(|at| self.older.get_mut(index(at))) {
            Some(place) => *place = after,
            None => self.newest.replace(hash, Some(record), (after != NONE).then_some(after)),
        }
    }

    pub(super) fn of(&self, hash: u64, is_of: impl Fn(u32) -> bool) -> impl Iterator<Item = u32> {
        let next = |at: &u32| self.older.get(index(*at)).copied().filter(|next| *next != NONE);
        std::iter::successors(self.newest(hash, is_of), next)
    }

    fn newest(&self, hash: u64, is_of: impl Fn(u32) -> bool) -> Option<u32> {
        self.newest.find(hash, |record| is_of(record).then_some(record))
    }
}

fn index(record: u32) -> usize {
    usize::try_from(record).unwrap_or(usize::MAX)
}
