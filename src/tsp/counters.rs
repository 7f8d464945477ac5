//! `Counters`: a chip's cryptogram leads to at most one approval. Taken by compare-and-set while a payment is judged,
//! recovered after a restart from the journal's transaction entries.

use std::sync::{Mutex, PoisonError};

use crate::stdx::maps::Map;
use crate::vocab::CounterTaken;

/// How far a payment may come behind a later one of the same token.
const WINDOW: usize = 8;

/// Tokens are spread over so many locks. A payment holds one for some ten nanoseconds.
const SHARDS: usize = 64;

/// What was taken, of all tokens.
pub(super) struct Counters {
    shards: Box<[Mutex<Map<u64, TokenCounters>>]>,
}

/// What was taken of one token: its highest counters with their cryptograms. Everything at or below the floor
/// counts as taken, so that memory is bounded and a replay is known for ever. The pair counts, not the counter
/// alone: as long as cryptograms are not checked, a forged counter must not burn the true one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TokenCounters {
    /// The highest counter that was let go of; 0 is no chip's.
    floor: u16,
    /// The highest first.
    taken: [Option<CounterTaken>; WINDOW],
}

impl TokenCounters {
    /// Takes a counter; false when it, or its like, was taken before.
    pub(super) fn take(&mut self, new: CounterTaken) -> bool {
        if new.atc <= self.floor || self.taken.contains(&Some(new)) {
            return false;
        }
        let mut carried = Some(new);
        for place in &mut self.taken {
            let rises = carried.is_some_and(|carried| place.is_none_or(|held| held.atc < carried.atc));
            if rises {
                std::mem::swap(place, &mut carried);
            }
        }
        if let Some(dropped) = carried {
            self.floor = self.floor.max(dropped.atc);
        }
        true
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.floor.to_be_bytes().to_vec();
        for taken in self.taken.iter().flatten() {
            out.extend_from_slice(&taken.atc.to_be_bytes());
            out.extend_from_slice(&taken.cryptogram);
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (floor, rest) = bytes.split_first_chunk::<2>()?;
        let mut counters = Self { floor: u16::from_be_bytes(*floor), ..Self::default() };
        let pieces = rest.chunks_exact(10);
        if !pieces.remainder().is_empty() || pieces.len() > WINDOW {
            return None;
        }
        for (place, piece) in counters.taken.iter_mut().zip(pieces) {
            let (atc, cryptogram) = piece.split_first_chunk::<2>()?;
            *place =
                Some(CounterTaken { atc: u16::from_be_bytes(*atc), cryptogram: cryptogram.try_into().ok()? });
        }
        Some(counters)
    }
}

impl Counters {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Takes a counter of a token; of any number of callers with the same one, a single one gets true.
    pub(super) fn take(&self, record: u64, counter: CounterTaken) -> bool {
        self.with(record, |tokens| tokens.entry(record).or_default().take(counter)).unwrap_or(false)
    }

    /// Gives a counter back that led to nothing.
    pub(super) fn release(&self, record: u64, counter: CounterTaken) {
        self.with(record, |tokens| {
            let taken = tokens.get_mut(&record).map(|tokens| &mut tokens.taken);
            if let Some(place) = taken.into_iter().flatten().find(|place| **place == Some(counter)) {
                *place = None;
            }
        });
    }

    /// Puts back what a checkpoint kept.
    pub(super) fn put(&self, record: u64, counters: TokenCounters) {
        self.with(record, |tokens| tokens.insert(record, counters));
    }

    fn with<T>(&self, record: u64, act: impl FnOnce(&mut Map<u64, TokenCounters>) -> T) -> Option<T> {
        let shard = usize::try_from(record % SHARDS as u64).unwrap_or_default();
        let shard = self.shards.get(shard)?;
        Some(act(&mut shard.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;

    fn counter(atc: u16, cryptogram: u8) -> CounterTaken {
        CounterTaken { atc, cryptogram: [cryptogram; 8] }
    }

    #[test]
    fn a_counter_is_taken_once() {
        let counters = Counters::new();
        for (record, atc, cryptogram, expected) in [
            (1, 5, 1, true),
            (1, 5, 1, false),
            (1, 5, 2, true), // another cryptogram: which of the two is true, nobody can say yet
            (2, 5, 1, true),
            (1, 4, 1, true), // late, and within the window
            (1, 4, 1, false),
            (1, 0, 1, false), // a chip begins with 1
        ] {
            assert_eq!(
                counters.take(record, counter(atc, cryptogram)),
                expected,
                "{record} {atc} {cryptogram}"
            );
        }
    }

    #[test]
    fn what_fell_out_of_the_window_counts_as_taken() {
        let mut token = TokenCounters::default();
        for atc in 1..=20 {
            assert!(token.take(counter(atc, 1)));
        }
        for atc in 1..=20 {
            assert!(!token.take(counter(atc, 1)), "{atc}");
        }
        assert!(!token.take(counter(12, 9)), "below the window nothing passes");
        assert!(token.take(counter(21, 1)));
    }

    #[test]
    fn a_forged_counter_does_not_burn_the_token() {
        let mut token = TokenCounters::default();
        assert!(token.take(counter(u16::MAX, 66)));
        for atc in 1..=100 {
            assert!(token.take(counter(atc, 1)), "{atc}");
        }
    }

    /// P7's place: of many threads that come with one cryptogram, one gets it.
    #[test]
    fn of_concurrent_takes_one_wins() {
        let counters = Counters::new();
        for round in 1..=200 {
            let (barrier, won) = (Barrier::new(4), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        barrier.wait();
                        if counters.take(7, counter(round, 1)) {
                            won.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!(won.into_inner(), 1, "round {round}");
        }
    }

    proptest! {
        /// The journal's order need not be the order of taking: the outcome is the same.
        #[test]
        fn recovery_in_any_order_ends_alike(
            (taken, shuffled) in proptest::collection::vec(1..200_u16, 0..40).prop_flat_map(|list| {
                let distinct: std::collections::BTreeSet<u16> = list.into_iter().collect();
                let distinct: Vec<u16> = distinct.into_iter().collect();
                (Just(distinct.clone()), Just(distinct).prop_shuffle())
            })
        ) {
            let (mut a, mut b) = (TokenCounters::default(), TokenCounters::default());
            for atc in taken {
                a.take(counter(atc, 1));
            }
            for atc in shuffled {
                b.take(counter(atc, 1));
            }
            prop_assert_eq!(a, b);
            prop_assert_eq!(TokenCounters::decode(&a.encode()), Some(a));
        }
    }
}
