//! Containers that refuse, or let go of the oldest, at a stated capacity.

use std::collections::VecDeque;
use std::hash::Hash;

use super::maps::Map;

/// A map of at most `capacity` entries that lets go of the one inserted first.
#[derive(Debug)]
pub struct BoundedMap<K, V> {
    entries: Map<K, V>,
    order: VecDeque<K>,
    capacity: usize,
}

impl<K: Hash + Eq + Clone, V> BoundedMap<K, V> {
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { entries: Map::default(), order: VecDeque::new(), capacity }
    }

    /// Puts `value` in; gives back what had to leave for it, which is never what was under `key`.
    pub fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        if self.entries.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        if self.entries.len() > self.capacity { self.pop_oldest() } else { None }
    }

    /// Holds at most so many from the next `insert` on, which lets one go: more go with `pop_oldest`.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// Whether it holds more than it may.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.entries.len() > self.capacity
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// The entry inserted first.
    pub fn oldest(&self) -> Option<(&K, &V)> {
        self.order.front().and_then(|key| self.entries.get_key_value(key))
    }

    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        self.order.pop_front().and_then(|key| self.entries.remove_entry(&key))
    }

    /// Entries, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.order.iter().filter_map(|key| self.entries.get_key_value(key))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// A queue that refuses what does not fit.
#[derive(Debug)]
pub struct BoundedQueue<T> {
    items: VecDeque<T>,
    capacity: usize,
}

impl<T> BoundedQueue<T> {
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { items: VecDeque::new(), capacity }
    }

    /// Adds `item` at the end.
    ///
    /// # Errors
    /// Gives `item` back when the queue is full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.items.len() >= self.capacity {
            return Err(item);
        }
        self.items.push_back(item);
        Ok(())
    }

    pub fn pop(&mut self) -> Option<T> {
        self.items.pop_front()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.items.len() >= self.capacity
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_map_lets_the_oldest_go() {
        let mut map = BoundedMap::with_capacity(2);
        assert_eq!(map.insert("a", 1), None);
        assert_eq!(map.insert("b", 2), None);
        assert_eq!(map.insert("a", 3), None, "a new value is no new entry");
        assert_eq!(map.insert("c", 4), Some(("a", 3)));
        assert_eq!(map.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>(), [("b", 2), ("c", 4)]);
    }

    #[test]
    fn a_bounded_queue_gives_back_what_does_not_fit() {
        let mut queue = BoundedQueue::with_capacity(1);
        assert_eq!(queue.push('x'), Ok(()));
        assert_eq!(queue.push('y'), Err('y'));
        assert_eq!(queue.pop(), Some('x'));
        assert!(queue.is_empty());
    }
}
