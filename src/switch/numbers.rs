//! `Numbers`: the STANs of one issuer link. A number rests after use, and the longest rested is used first.

use std::collections::VecDeque;
use std::time::Duration;

use crate::stdx::clock::Moment;
use crate::vocab::Stan;

/// The last numbers on an issuer link that the journal knows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastNumbers {
    /// Of any message.
    pub any: Stan,
    /// Of a message that this switch made itself: no acquirer's, where those pass.
    pub ours: Option<Stan>,
}

/// DE 11 for one issuer link. A number that is given back is not given out again before `rest` has passed: an
/// answer that comes late must not find somebody else's request under its number.
#[derive(Debug)]
pub(super) struct Numbers {
    /// The next number never used in this run; past the last one only rested numbers are left.
    fresh: Stan,
    unused: u32,
    resting: VecDeque<(Moment, Stan)>,
    rest: Duration,
}

impl Numbers {
    /// Begins after `last`, the last number that the journal knows of.
    #[must_use]
    pub(super) fn after(last: Option<Stan>, rest: Duration) -> Self {
        let fresh = last.map_or(Stan::FIRST, Stan::next);
        Self { fresh, unused: Stan::MOST, resting: VecDeque::new(), rest }
    }

    /// A number; `None` when all are in use or resting.
    pub(super) fn take(&mut self, now: Moment) -> Option<Stan> {
        if self.unused > 0 {
            let stan = self.fresh;
            self.fresh = stan.next();
            self.unused -= 1;
            return Some(stan);
        }
        let rested = self.resting.front().is_some_and(|(until, _)| *until <= now);
        if rested { self.resting.pop_front().map(|(_, stan)| stan) } else { None }
    }

    /// Gives a number back to rest.
    pub(super) fn give_back(&mut self, stan: Stan, now: Moment) {
        self.resting.push_back((now.plus(self.rest), stan));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(10);

    #[test]
    fn all_numbers_are_used_before_one_comes_again() {
        let mut numbers = Numbers::after(Stan::new(999_998), REST);
        let first: Vec<u32> = (0..3).filter_map(|_| numbers.take(Moment(0))).map(Stan::get).collect();
        assert_eq!(first, [999_999, 1, 2]);
        let rest = std::iter::from_fn(|| numbers.take(Moment(0))).count();
        assert_eq!(rest, 999_999 - 3);
    }

    #[test]
    fn a_number_rests_and_the_longest_rested_comes_first() {
        let mut numbers = Numbers::after(None, REST);
        while numbers.take(Moment(0)).is_some() {}
        numbers.give_back(Stan::new(7).unwrap(), Moment(0));
        numbers.give_back(Stan::new(3).unwrap(), Moment(1));
        assert_eq!(numbers.take(Moment(0).plus(REST / 2)), None, "still resting");
        assert_eq!(numbers.take(Moment(0).plus(REST)), Stan::new(7));
        assert_eq!(numbers.take(Moment(1).plus(REST)), Stan::new(3));
    }
}
