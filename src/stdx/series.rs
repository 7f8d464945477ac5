//! `Series`: values by numbers that mostly rise, found by their distance from the lowest and not by a hash.

use std::collections::VecDeque;

/// Places for each entry that there may be, so that numbers without a value cannot fill the memory.
const SPREAD: usize = 4;

/// At most `capacity` values by number; past it the one inserted first goes. Numbers near each other lie near each
/// other: what was inserted lately is in the processor's cache.
#[derive(Debug)]
pub struct Series<V> {
    /// The number of the first place.
    base: u64,
    places: VecDeque<Option<V>>,
    /// Numbers in the order in which they were inserted.
    order: VecDeque<u64>,
    capacity: usize,
}

impl<V> Series<V> {
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { base: 0, places: VecDeque::new(), order: VecDeque::new(), capacity }
    }

    /// Holds at most so many from now on; what is beyond goes with `pop_excess`.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// Puts `value` in, in the place of what was under `number`.
    pub fn insert(&mut self, number: u64, value: V) {
        if self.places.is_empty() {
            self.base = number;
        }
        while number < self.base {
            self.places.push_front(None);
            self.base -= 1;
        }
        let Some(at) = self.place(number) else { return };
        if at >= self.places.len() {
            self.places.resize_with(at + 1, || None);
        }
        if let Some(place) = self.places.get_mut(at)
            && place.replace(value).is_none()
        {
            self.order.push_back(number);
        }
    }

    /// What has to leave so that the capacity is kept, the one inserted first; to be asked until it is `None`.
    pub fn pop_excess(&mut self) -> Option<(u64, V)> {
        let is_spread = self.places.len() / SPREAD > self.capacity && self.order.len() > 1;
        if self.order.len() > self.capacity || is_spread { self.pop_oldest() } else { None }
    }

    /// What leaves next when `more` come in, the one inserted first before the others.
    pub fn leaving(&self, more: usize) -> impl Iterator<Item = &V> {
        let excess = (self.order.len() + more).saturating_sub(self.capacity);
        self.order.iter().take(excess.min(more)).filter_map(|number| self.get(*number))
    }

    fn pop_oldest(&mut self) -> Option<(u64, V)> {
        let number = self.order.pop_front()?;
        let value = self.get_place(number)?.take()?;
        while let Some(None) = self.places.front() {
            self.places.pop_front();
            self.base += 1;
        }
        Some((number, value))
    }

    #[must_use]
    pub fn get(&self, number: u64) -> Option<&V> {
        self.places.get(self.place(number)?)?.as_ref()
    }

    pub fn get_mut(&mut self, number: u64) -> Option<&mut V> {
        self.get_place(number)?.as_mut()
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
        let mut series = Series::with_capacity(10);
        for value in 0..1_000_u64 {
            series.insert(value * 20, value);
            while series.pop_excess().is_some() {}
            assert_eq!(series.get(value * 20), Some(&value), "the newest stays");
            assert!(series.places.len() <= 10 * (SPREAD + 1), "{}", series.places.len());
        }
        assert!((1..=3).contains(&series.len()), "{}", series.len());
    }
}
