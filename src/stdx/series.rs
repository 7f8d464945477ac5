//! `Series`: values by numbers that mostly rise, found by their distance from the lowest and not by a hash.

use std::collections::VecDeque;
use std::fmt;

use super::maps::Map;

/// Places for each entry that there may be, so that numbers without a value cannot fill the memory.
const SPREAD: usize = 4;

/// At most `capacity` values by number; past it the one inserted first goes. Numbers near each other lie near each
/// other: what was inserted lately is in the processor's cache.
pub struct Series<V> {
    /// The number of the first place; it only rises.
    base: u64,
    places: VecDeque<Option<V>>,
    /// What is below the first place: inserted late, or left behind by numbers of which few have a value.
    below: Map<u64, V>,
    /// Numbers in the order in which they were inserted.
    order: VecDeque<u64>,
    capacity: usize,
}

impl<V: fmt::Debug> fmt::Debug for Series<V> {
    /// What it has, in the order in which that was inserted. Where it lies depends on what else there was.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.order.iter().filter_map(|number| Some((number, self.get(*number)?))))
            .finish()
    }
}

impl<V> Series<V> {
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { base: 0, places: VecDeque::new(), below: Map::default(), order: VecDeque::new(), capacity }
    }

    /// Holds at most so many from now on; what is beyond goes with `pop_excess`.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// Puts `value` in, in the place of what was under `number`.
    pub fn insert(&mut self, number: u64, value: V) {
        self.reach(number);
        let before = match self.get_place(number) {
            Some(place) => place.replace(value),
            None => self.below.insert(number, value),
        };
        if before.is_none() {
            self.order.push_back(number);
        }
    }

    /// Makes a place for `number`, unless it is below all of them. Those too far below it are given up.
    fn reach(&mut self, number: u64) {
        let most = SPREAD.saturating_mul(self.capacity.max(1));
        let first = number.saturating_sub(wide(most - 1));
        while self.base < first
            && let Some(place) = self.places.pop_front()
        {
            self.below.extend(place.map(|value| (self.base, value)));
            self.base += 1;
        }
        if self.places.is_empty() {
            self.base = self.base.max(number);
        }
        if let Some(at) = self.place(number).filter(|at| *at >= self.places.len()) {
            self.places.resize_with(at + 1, || None);
        }
    }

    /// What has to leave so that the capacity is kept, the one inserted first; to be asked until it is `None`.
    pub fn pop_excess(&mut self) -> Option<(u64, V)> {
        if self.order.len() > self.capacity { self.pop_oldest() } else { None }
    }

    /// What leaves next when `more` come in, the one inserted first before the others.
    pub fn leaving(&self, more: usize) -> impl Iterator<Item = &V> {
        let excess = (self.order.len() + more).saturating_sub(self.capacity);
        self.order.iter().take(excess.min(more)).filter_map(|number| self.get(*number))
    }

    fn pop_oldest(&mut self) -> Option<(u64, V)> {
        let number = self.order.pop_front()?;
        let value = match self.get_place(number) {
            Some(place) => place.take(),
            None => self.below.remove(&number),
        };
        while let Some(None) = self.places.front() {
            self.places.pop_front();
            self.base += 1;
        }
        Some((number, value?))
    }

    #[must_use]
    pub fn get(&self, number: u64) -> Option<&V> {
        match self.place(number) {
            Some(at) => self.places.get(at)?.as_ref(),
            None => self.below.get(&number),
        }
    }

    pub fn get_mut(&mut self, number: u64) -> Option<&mut V> {
        match self.place(number) {
            Some(at) => self.places.get_mut(at)?.as_mut(),
            None => self.below.get_mut(&number),
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn place(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.base)?).ok()
    }

    fn get_place(&mut self, number: u64) -> Option<&mut Option<V>> {
        self.places.get_mut(self.place(number)?)
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stdx::maps::Map;

    proptest! {
        /// A map and a queue, and a series, say the same of any numbers in any order.
        #[test]
        fn it_is_a_map_that_lets_the_oldest_go(numbers in prop::collection::vec(1_000_u64..1_040, 0..200)) {
            let mut series = Series::with_capacity(12);
            let (mut map, mut order) = (Map::default(), VecDeque::new());
            for (value, number) in numbers.into_iter().enumerate() {
                series.insert(number, value);
                if map.insert(number, value).is_none() {
                    order.push_back(number);
                }
                let gone = (order.len() > 12).then(|| order.pop_front()).flatten();
                prop_assert_eq!(series.pop_excess(), gone.and_then(|number| map.remove_entry(&number)));
                prop_assert_eq!(series.pop_excess(), None);
                prop_assert_eq!(series.len(), map.len());
                let leaving = order.iter().take((order.len() + 4).saturating_sub(12)).map(|number| &map[number]);
                prop_assert!(series.leaving(4).eq(leaving), "what four more push out");
                for number in 990..1_050 {
                    prop_assert_eq!(series.get(number), map.get(&number));
                }
            }
        }
    }

    #[test]
    fn numbers_without_a_value_take_no_more_than_their_share() {
        for step in [1, 3, 20, 1 << 40] {
            let mut series = Series::with_capacity(10);
            for value in 0..1_000_u64 {
                series.insert(value * step, value);
                while series.pop_excess().is_some() {}
                let kept =
                    (value.saturating_sub(9)..=value).map(|kept| series.get(kept * step) == Some(&kept));
                assert!(kept.into_iter().all(|is_kept| is_kept), "the newest stay, {step} apart");
                assert!(series.places.len() <= 10 * SPREAD && series.below.len() <= 10, "{series:?}");
            }
        }
    }
}
