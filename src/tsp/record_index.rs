//! `RecordIndex`: the vault's records by the hash of what they are found by. One word a record, taken at once: the
//! upper half is a mark of the hash, the lower half the record, counted from 1. Readers take no lock, and several
//! writers may add at once. Nothing leaves a hole, so a search ends at the first empty place.

use std::sync::atomic::{AtomicU64, Ordering};

/// Where a record was that is gone: a search goes on, an insertion may use it. No vault has a record of this number.
const GONE: u64 = 0xFFFF_FFFF;

pub(super) struct RecordIndex {
    places: Box<[AtomicU64]>,
}

/// Why a record does not go in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    Full,
    /// Another one is found by the same.
    Taken,
}

impl RecordIndex {
    /// Room for so many records. A quarter stays empty, so that a search is short.
    pub(super) fn new(capacity: usize) -> Self {
        Self { places: (0..capacity + capacity / 3 + 1).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Brings the place near where a search begins, without waiting for it.
    pub(super) fn touch(&self, hash: u64) {
        let (home, _) = self.home(hash);
        std::hint::black_box(self.places.get(home).map(|word| word.load(Ordering::Relaxed)));
    }

    /// What `is_it` makes of the first record under this hash of which it makes anything: as a rule of the first.
    #[inline]
    pub(super) fn find<T>(&self, hash: u64, is_it: impl Fn(u32) -> Option<T>) -> Option<T> {
        let (home, mark) = self.home(hash);
        for place in self.places_from(home) {
            let word = place.load(Ordering::Acquire);
            let record = low(word).checked_sub(1)?;
            if high(word) == mark
                && let Some(found) = is_it(record)
            {
                return Some(found);
            }
        }
        None
    }

    /// Adds a record, unless one under the same hash is the same by what it is found by. All that a search for it reads
    /// was written before.
    pub(super) fn insert(&self, hash: u64, record: u32, is_same: impl Fn(u32) -> bool) -> Result<(), Unfit> {
        let (home, mark) = self.home(hash);
        let new = word(mark, record);
        for place in self.places_from(home) {
            let mut before = place.load(Ordering::Acquire);
            if before == 0 {
                match place.compare_exchange(0, new, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return Ok(()),
                    Err(other) => before = other,
                }
            }
            if high(before) == mark && low(before).checked_sub(1).is_some_and(&is_same) {
                return Err(Unfit::Taken);
            }
        }
        Err(Unfit::Full)
    }

    /// Puts `new` in the place of `old`, or without `old` in one of its own, of which there is one as long as no more
    /// records are in than there is room for. For one writer.
    pub(super) fn replace(&self, hash: u64, old: Option<u32>, new: Option<u32>) {
        let (home, mark) = self.home(hash);
        let is_its = |place: &&AtomicU64| match (place.load(Ordering::Relaxed), old) {
            (found, Some(old)) => found == word(mark, old),
            (found, None) => matches!(found, 0 | GONE),
        };
        if let Some(place) = self.places_from(home).find(is_its) {
            place.store(new.map_or(GONE, |new| word(mark, new)), Ordering::Release);
        }
    }

    /// Where the search begins, and the mark: the hash spread over all of 64 bits, of which the upper ones are scaled
    /// to the index and the lower ones are the mark.
    fn home(&self, hash: u64) -> (usize, u32) {
        let spread = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let scaled = (u128::from(spread) * self.places.len() as u128) >> 64;
        (usize::try_from(scaled).unwrap_or_default(), low(spread))
    }

    /// The places in the order of search.
    #[inline]
    fn places_from(&self, home: usize) -> impl Iterator<Item = &AtomicU64> {
        let (before, from_home) = self.places.split_at_checked(home).unwrap_or_default();
        from_home.iter().chain(before)
    }
}

fn word(mark: u32, record: u32) -> u64 {
    u64::from(mark) << 32 | (u64::from(record) + 1)
}

fn low(word: u64) -> u32 {
    u32::try_from(word & 0xFFFF_FFFF).unwrap_or_default()
}

fn high(word: u64) -> u32 {
    u32::try_from(word >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of which many share a home and a mark.
    fn hash(name: u32) -> u64 {
        u64::from(name % 5)
    }

    fn found(index: &RecordIndex, name: u32) -> Option<u32> {
        index.find(hash(name), |record| (record == name).then_some(record))
    }

    #[test]
    fn many_threads_put_each_record_in_once_and_all_are_found() {
        let index = RecordIndex::new(1_000);
        let taken = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for first in [0, 250, 500] {
                let (index, taken) = (&index, &taken);
                scope.spawn(move || {
                    for name in first..first + 500 {
                        let put = index.insert(hash(name), name, |other| other == name);
                        taken.fetch_add(u32::from(put == Err(Unfit::Taken)), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(taken.load(Ordering::Relaxed), 500, "the names that two threads had");
        assert!((0..1_000).all(|name| found(&index, name) == Some(name)));
        assert_eq!(found(&index, 1_000), None);
    }

    #[test]
    fn what_goes_leaves_no_hole_and_its_place_is_used_again() {
        let index = RecordIndex::new(8);
        for round in 0..100 {
            for name in 0..8 {
                index.replace(hash(name), None, Some(name));
            }
            index.replace(hash(3), Some(3), Some(103));
            assert_eq!(index.find(hash(3), |record| (record == 103).then_some(())), Some(()), "{round}");
            assert!(
                [0, 1, 2, 4, 5, 6, 7].into_iter().all(|name| found(&index, name) == Some(name)),
                "{round}"
            );
            for name in [0, 1, 2, 103, 4, 5, 6, 7] {
                index.replace(hash(name % 100), Some(name), None);
                assert_eq!(found(&index, name), None);
            }
        }
    }
}
