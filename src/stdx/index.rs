//! `HashIndex`: numbers found again by the hash of a name. It never grows, moves or leaves marks of what was removed,
//! so that no insertion takes longer than another, and a look-up is one line of the processor's cache.

use std::collections::BTreeSet;

use super::maps::Map;

/// How many entries share a line of the cache: eight of eight bytes.
const WIDTH: usize = 8;
/// The bits of an entry that hold its number; the rest hold a part of the hash.
const NUMBER_BITS: u32 = 48;
const NUMBER: u64 = (1 << NUMBER_BITS) - 1;

type Line = [u64; WIDTH];

/// Numbers from 1 to below 2^48 - 1 by hash. Several may share one, by name or by chance: who asks compares.
#[derive(Debug)]
pub struct HashIndex {
    /// A power of two of them. Zero is no entry.
    lines: Vec<Line>,
    /// What found no place in its line, in order, so that however many share a name the next lower one is found at
    /// once.
    spilled: Map<usize, BTreeSet<u64>>,
}

impl HashIndex {
    /// An index in which `capacity` entries fill half of the lines; more are kept, at a price. Its memory is
    /// taken as it is used.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let lines = (capacity / (WIDTH / 2)).max(1).next_power_of_two();
        Self { lines: vec![[0; WIDTH]; lines], spilled: Map::default() }
    }

    /// Numbers that may have been inserted with this hash, the highest first.
    pub fn get(&self, hash: u64) -> impl Iterator<Item = u64> {
        let at = self.line_of(hash);
        let line = self.lines.get(at).map_or(&[][..], Line::as_slice);
        let spilled = if self.spilled.is_empty() { None } else { self.spilled.get(&at) };
        let next = move |below: u64| {
            let of_it = line.iter().copied().filter(move |entry| is_of(*entry, hash));
            let in_line = of_it.map(|entry| entry & NUMBER).filter(|number| *number < below).max();
            let lowest = entry(hash, 0);
            let of_it = spilled.and_then(|spilled| spilled.range(lowest..lowest | below).next_back());
            in_line.max(of_it.map(|entry| entry & NUMBER))
        };
        std::iter::successors(next(NUMBER), move |last| next(*last))
    }

    /// Remembers `number` under `hash`.
    pub fn insert(&mut self, hash: u64, number: u64) {
        let (at, entry) = (self.line_of(hash), entry(hash, number));
        let free = self.lines.get_mut(at).and_then(|line| line.iter_mut().find(|place| **place == 0));
        match free {
            Some(place) => *place = entry,
            None => drop(self.spilled.entry(at).or_default().insert(entry)),
        }
    }

    /// Forgets `number` under `hash`, if it is there.
    pub fn remove(&mut self, hash: u64, number: u64) {
        let (at, entry) = (self.line_of(hash), entry(hash, number));
        let place = self.lines.get_mut(at).and_then(|line| line.iter_mut().find(|place| **place == entry));
        let spilled = if self.spilled.is_empty() { None } else { self.spilled.get_mut(&at) };
        match (place, spilled) {
            (Some(place), spilled) => *place = spilled.and_then(BTreeSet::pop_last).unwrap_or(0),
            (None, Some(spilled)) => drop(spilled.remove(&entry)),
            (None, None) => return,
        }
        if self.spilled.get(&at).is_some_and(BTreeSet::is_empty) {
            self.spilled.remove(&at);
        }
    }

    /// Brings the line of that hash into the processor's cache, for what is asked of it soon.
    pub fn touch(&self, hash: u64) {
        std::hint::black_box(self.lines.get(self.line_of(hash)).and_then(|line| line.first().copied()));
    }

    fn line_of(&self, hash: u64) -> usize {
        let lines = u64::try_from(self.lines.len()).unwrap_or(u64::MAX);
        usize::try_from(hash & (lines - 1)).unwrap_or(0)
    }
}

/// The high bits of the hash, which say nothing of its line, before the number.
fn entry(hash: u64, number: u64) -> u64 {
    hash & !NUMBER | number & NUMBER
}

fn is_of(entry: u64, hash: u64) -> bool {
    entry != 0 && (entry ^ hash) & !NUMBER == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// As a list of pairs says it, also where far more than the capacity share a few hashes.
        #[test]
        fn it_finds_what_was_inserted_and_not_removed(
            steps in prop::collection::vec((0_u64..6, 1_u64..60, prop::bool::weighted(0.7)), 0..200),
        ) {
            let mut index = HashIndex::with_capacity(8);
            let mut pairs = Vec::new();
            for (name, number, inserts) in steps {
                // Two of three names share a line, all differ in their high bits.
                let hash = (name << 58) | (name % 2);
                if !inserts {
                    index.remove(hash, number);
                    pairs.retain(|pair| *pair != (hash, number));
                } else if !pairs.contains(&(hash, number)) {
                    index.insert(hash, number);
                    pairs.push((hash, number));
                }
                for name in 0_u64..6 {
                    let hash = (name << 58) | (name % 2);
                    let of_it = pairs.iter().filter(|pair| pair.0 == hash);
                    let mut expected: Vec<u64> = of_it.map(|pair| pair.1).collect();
                    expected.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
                    prop_assert_eq!(index.get(hash).collect::<Vec<_>>(), expected);
                }
            }
            for (hash, number) in pairs {
                index.remove(hash, number);
            }
            prop_assert!(index.spilled.is_empty() && index.lines.iter().flatten().all(|entry| *entry == 0));
        }
    }
}
