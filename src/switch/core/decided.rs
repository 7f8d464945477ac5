//! `Decided`: what was decided about earlier transactions while the history is being asked, which it may not know of
//! yet.

use crate::stdx::maps::Map;
use crate::vocab::TransactionId;

/// Decisions in their order, by transaction: the last one about each. Past so many nobody can say about which
/// transactions they were, and they count for all.
#[derive(Debug, Default)]
pub(super) struct Decided {
    count: u64,
    last: Map<TransactionId, u64>,
    of_all: u64,
}

impl Decided {
    /// How many there were: what whoever asks the history now notes, to tell what came after.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Something is decided about that transaction; at most so many transactions are remembered.
    pub(super) fn note(&mut self, id: TransactionId, most: usize) {
        self.count += 1;
        if self.last.len() >= most && !self.last.contains_key(&id) {
            self.last.clear();
            self.of_all = self.count;
        }
        self.last.insert(id, self.count);
    }

    /// Whether anything was decided about it since there were so many.
    pub(super) fn since(&self, count: u64, id: TransactionId) -> bool {
        self.of_all > count || self.last.get(&id).is_some_and(|last| *last > count)
    }

    /// Nobody asks any more.
    pub(super) fn forget(&mut self) {
        self.last.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decided_after_a_question_is_told_and_no_more_is_remembered_than_may_be() {
        let (one, other) = (TransactionId(1), TransactionId(2));
        let mut decided = Decided::default();
        decided.note(one, 2);
        let asked = decided.count();
        assert!(!decided.since(asked, one), "it was before");
        decided.note(other, 2);
        assert!(decided.since(asked, other) && !decided.since(asked, one));
        assert!(!decided.since(decided.count(), other), "asked again, it is known");
        decided.note(TransactionId(3), 2);
        assert!(decided.since(asked, one), "nobody can say any more");
        assert_eq!(decided.last.len(), 1);
        decided.forget();
        assert!(!decided.since(decided.count(), one));
    }
}
