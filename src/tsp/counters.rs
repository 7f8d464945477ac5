//! `Counters`: a cryptogram leads to at most one approval. Its number, which a chip or this service counts, is taken by
//! compare-and-set once the cryptogram was found true, so that a forged one burns nothing; recovered after a restart
//! from the journal's transaction entries.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::stdx::bounded::BoundedMap;
use crate::stdx::clock::Moment;
use crate::stdx::lock::{Lock, Locks, StdLocks};
use crate::stdx::maps::Map;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{Amount, CounterSeries, CounterTaken, LinkId, TerminalId, TransactionId};

/// Tokens are spread over so many locks. A payment holds one for some ten nanoseconds.
const SHARDS: usize = 64;

/// How many released counters each shard remembers; the oldest then counts as used.
const RELEASED_MOST: usize = 256;

/// How far a payment's counter may lie from the highest one used of its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CounterWindow {
    /// Taps arrive out of order: how late one may come. At most `BEHIND_MOST`.
    pub behind: u16,
    /// Taps get lost on their way: how many in a row may.
    pub ahead: u16,
}

impl CounterWindow {
    /// What is remembered of a token fits one word.
    pub const BEHIND_MOST: u16 = 63;

    /// Of what is numbered here nothing lies too far ahead: remote cryptograms, and the counters that limited-use keys
    /// are given for, of which many pass unused when keys are taken back.
    const NUMBERED: Self = Self { behind: Self::BEHIND_MOST, ahead: u16::MAX };

    fn of(self, series: CounterSeries) -> Self {
        match series {
            CounterSeries::Chip => self,
            CounterSeries::Limited | CounterSeries::Remote => Self::NUMBERED,
        }
    }
}

/// Under which a token's numbers are kept: no vault has so many records that the highest two bits are one's own.
pub(super) fn kept_under(record: u64, series: CounterSeries) -> u64 {
    match series {
        CounterSeries::Chip => record,
        CounterSeries::Limited => record | 1 << 62,
        CounterSeries::Remote => record | 1 << 63,
    }
}

/// Where a cryptogram was presented, and for how much: who may present it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Presentation {
    pub acquirer: LinkId,
    pub terminal: Option<TerminalId>,
    pub amount: Option<Amount>,
}

/// What a counter is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Free,
    Used,
    OutOfRange,
}

/// What was used, of all tokens. Which locks they are is left open for a test that tries the orders in which threads
/// may come.
pub(super) struct Counters<L: Locks = StdLocks> {
    shards: Box<[L::Of<Shard>]>,
    window: CounterWindow,
    resubmit_window: Duration,
    /// Cryptograms on their way to the issuers that alone can check them. One lock for all of those.
    held: L::Of<Held>,
    /// Whether anything was ever held: where nothing was, an outcome asks no further.
    holds: AtomicBool,
}

/// Cryptograms that nobody here can check, from their presentation to the issuer's word: such a one takes no counter,
/// since a forged one would, and is with the issuer once at a time. No more than there are payments in flight.
#[derive(Default)]
struct Held {
    by: Map<(u64, u16, [u8; 8]), TransactionId>,
    of: Map<TransactionId, (u64, u16, [u8; 8])>,
}

impl Held {
    fn free(&mut self, transaction: TransactionId) {
        let Some(cryptogram) = self.of.remove(&transaction) else { return };
        if self.by.get(&cryptogram) == Some(&transaction) {
            self.by.remove(&cryptogram);
        }
    }
}

struct Shard {
    /// By `kept_under`, as everything here.
    tokens: Map<u64, TokenCounters>,
    /// Used counters whose requests were not forwarded, by record and counter.
    released: BoundedMap<(u64, u16), Released>,
}

struct Released {
    cryptogram: [u8; 8],
    by: Presentation,
    until: Moment,
    again: bool,
}

/// What was used of one token: its highest counter, and which of the 64 up to it. What lies further back counts as
/// used: memory is bounded and a replay is known for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TokenCounters {
    /// 0 is no chip's.
    highest: u16,
    /// Bit n: `highest - n` was used.
    used: u64,
}

impl TokenCounters {
    fn standing(&self, atc: u16, window: CounterWindow) -> Standing {
        // A chip begins with 1, and at FFFF it stops for good (EMV Book 3, 6.5.5).
        if atc == 0 || atc == u16::MAX {
            return Standing::OutOfRange;
        }
        match self.highest.checked_sub(atc) {
            None if atc - self.highest <= window.ahead => Standing::Free,
            Some(back) if back <= window.behind && self.used >> back & 1 == 0 => Standing::Free,
            Some(back) if back <= window.behind => Standing::Used,
            None | Some(_) => Standing::OutOfRange,
        }
    }

    /// Marks a counter as used. In whatever order counters are marked, the outcome is the same.
    pub(super) fn note(&mut self, atc: u16) {
        match self.highest.checked_sub(atc) {
            None => {
                let ahead = u32::from(atc - self.highest);
                self.used = self.used.checked_shl(ahead).unwrap_or_default() | 1;
                self.highest = atc;
            }
            Some(back) => self.used |= 1_u64.checked_shl(u32::from(back)).unwrap_or_default(),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.highest.to_be_bytes().to_vec();
        out.extend_from_slice(&self.used.to_be_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (highest, used) = bytes.split_first_chunk::<2>()?;
        Some(Self { highest: u16::from_be_bytes(*highest), used: u64::from_be_bytes(used.try_into().ok()?) })
    }
}

impl Shard {
    fn standing(
        &self,
        (place, counter): (u64, CounterTaken),
        by: &Presentation,
        window: CounterWindow,
        now: Moment,
    ) -> Standing {
        let of_token = self.tokens.get(&place).copied().unwrap_or_default();
        let standing = of_token.standing(counter.atc, window);
        if standing != Standing::Used || self.released.is_empty() {
            return standing;
        }
        let may_come_again = |released: &&Released| {
            !released.again
                && released.cryptogram == counter.cryptogram
                && released.by == *by
                && now < released.until
        };
        let released = self.released.get(&(place, counter.atc)).filter(may_come_again);
        if released.is_some() { Standing::Free } else { Standing::Used }
    }
}

impl<L: Locks> Counters<L> {
    pub(super) fn new(window: CounterWindow, resubmit_window: Duration) -> Self {
        let shard = || Shard { tokens: Map::default(), released: BoundedMap::with_capacity(RELEASED_MOST) };
        Self {
            shards: (0..SHARDS).map(|_| L::Of::new(shard())).collect(),
            window,
            resubmit_window,
            held: L::Of::new(Held::default()),
            holds: AtomicBool::new(false),
        }
    }

    /// What a counter is worth now: looked at before its cryptogram is, which takes longer.
    pub(super) fn look(
        &self,
        record: u64,
        counter: CounterTaken,
        by: &Presentation,
        now: Moment,
    ) -> Standing {
        let (place, window) = (kept_under(record, counter.series), self.window.of(counter.series));
        self.with(place, |shard| shard.standing((place, counter), by, window, now))
            .unwrap_or(Standing::OutOfRange)
    }

    /// Takes a counter of a token whose cryptogram is true; of any number of callers with the same one, a single one
    /// gets `Free`.
    pub(super) fn take(
        &self,
        record: u64,
        counter: CounterTaken,
        by: &Presentation,
        now: Moment,
    ) -> Standing {
        let (place, window) = (kept_under(record, counter.series), self.window.of(counter.series));
        let taken = self.with(place, |shard| {
            let standing = shard.standing((place, counter), by, window, now);
            let forgets = counter.series == CounterSeries::Remote && sabotaged("in-app-pays-twice");
            if standing == Standing::Free && !forgets {
                shard.tokens.entry(place).or_default().note(counter.atc);
                if !shard.released.is_empty()
                    && let Some(released) = shard.released.get_mut(&(place, counter.atc))
                {
                    released.again = true;
                }
            }
            standing
        });
        taken.unwrap_or(Standing::OutOfRange)
    }

    /// Holds a cryptogram that only its issuer can check: of any number of callers with the same one, a single one gets
    /// `Free` until its payment has ended. Its counter is taken once the issuer approved.
    pub(super) fn hold(&self, record: u64, counter: CounterTaken, transaction: TransactionId) -> Standing {
        self.holds.store(true, Ordering::Relaxed);
        let (place, window) = (kept_under(record, counter.series), self.window.of(counter.series));
        let cryptogram = (place, counter.atc, counter.cryptogram);
        let is_held = self.held.with(|held| {
            let is_held = held.by.contains_key(&cryptogram);
            if !is_held {
                held.by.insert(cryptogram, transaction);
                held.of.insert(transaction, cryptogram);
            }
            is_held
        });
        if is_held {
            return Standing::Used;
        }
        // Another payment with it may have been approved since it was looked at: that took the counter before it let
        // go.
        let used = |shard: &mut Shard| shard.tokens.get(&place).copied().unwrap_or_default();
        let standing = self.with(place, used).map(|used| used.standing(counter.atc, window));
        let standing = standing.unwrap_or(Standing::OutOfRange);
        if standing != Standing::Free {
            self.held.with(|held| held.free(transaction));
        }
        standing
    }

    /// A payment has ended; `taken` is what its issuer found true, if it approved.
    pub(super) fn ended(&self, transaction: TransactionId, taken: Option<(u64, CounterTaken)>) {
        if let Some((record, counter)) = taken {
            self.note(record, counter);
        }
        if self.holds.load(Ordering::Relaxed) {
            self.held.with(|held| held.free(transaction));
        }
    }

    /// A taken counter led to nothing: whoever presented it may do so once more, for a while.
    pub(super) fn release(&self, record: u64, counter: CounterTaken, by: Presentation, now: Moment) {
        if self.let_go(record, counter) {
            return;
        }
        let until = now.plus(self.resubmit_window);
        let released = Released { cryptogram: counter.cryptogram, by, until, again: false };
        let place = kept_under(record, counter.series);
        self.with(place, |shard| shard.released.insert((place, counter.atc), released));
    }

    /// Lets go of a cryptogram that was held, if it was.
    fn let_go(&self, record: u64, counter: CounterTaken) -> bool {
        let cryptogram = (kept_under(record, counter.series), counter.atc, counter.cryptogram);
        self.holds.load(Ordering::Relaxed)
            && self.held.with(|held| {
                let holder = held.by.remove(&cryptogram);
                holder.is_some_and(|holder| held.of.remove(&holder).is_some())
            })
    }

    /// Marks what a journaled request took, or its approval.
    pub(super) fn note(&self, record: u64, counter: CounterTaken) {
        let place = kept_under(record, counter.series);
        self.with(place, |shard| shard.tokens.entry(place).or_default().note(counter.atc));
    }

    /// Puts back what a checkpoint kept.
    pub(super) fn put(&self, place: u64, counters: TokenCounters) {
        self.with(place, |shard| shard.tokens.insert(place, counters));
    }

    fn with<T>(&self, place: u64, act: impl FnOnce(&mut Shard) -> T) -> Option<T> {
        let shard = usize::try_from(place % SHARDS as u64).unwrap_or_default();
        Some(self.shards.get(shard)?.with(act))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::Standing::{Free, OutOfRange, Used};
    use super::*;

    const WINDOW: CounterWindow = CounterWindow { behind: 8, ahead: 100 };
    const RESUBMIT: Duration = Duration::from_secs(60);
    const START: Moment = Moment(0);

    fn counters() -> Counters {
        Counters::new(WINDOW, RESUBMIT)
    }

    fn counter(atc: u16, cryptogram: u8) -> CounterTaken {
        CounterTaken { series: CounterSeries::Chip, atc, cryptogram: [cryptogram; 8] }
    }

    fn at(terminal: &[u8]) -> Presentation {
        Presentation { acquirer: LinkId(1), terminal: TerminalId::parse(terminal).ok(), amount: None }
    }

    fn take(counters: &Counters, record: u64, atc: u16) -> Standing {
        counters.take(record, counter(atc, 1), &at(b"TERM0001"), START)
    }

    #[test]
    fn a_counter_is_taken_once_and_within_its_window() {
        let counters = counters();
        for (record, atc, expected) in [
            (1, 0, OutOfRange),
            (1, 101, OutOfRange), // too far ahead of none
            (1, 50, Free),
            (1, 50, Used),
            (2, 50, Free), // another token
            (1, 42, Free), // late
            (1, 42, Used),
            (1, 41, OutOfRange), // too late to tell
            (1, 150, Free),
            (1, 251, OutOfRange),
            (1, 142, Free),
            (1, 50, OutOfRange),
        ] {
            assert_eq!(take(&counters, record, atc), expected, "{record} {atc}");
        }
    }

    #[test]
    fn the_last_counter_of_a_chip_is_none() {
        let counters = Counters::new(CounterWindow { behind: 63, ahead: u16::MAX }, RESUBMIT);
        assert_eq!(take(&counters, 1, u16::MAX), OutOfRange);
        assert_eq!(take(&counters, 1, u16::MAX - 1), Free);
    }

    #[test]
    fn a_look_takes_nothing() {
        let counters = counters();
        let look = || counters.look(1, counter(5, 1), &at(b"TERM0001"), START);
        assert_eq!((look(), look()), (Free, Free));
        assert_eq!(take(&counters, 1, 5), Free);
        assert_eq!(look(), Used);
    }

    #[test]
    fn what_was_released_may_come_once_more_from_where_it_came_and_for_a_while() {
        let terminal = at(b"TERM0001");
        let soon = START.plus(Duration::from_secs(59));
        let dear = Presentation { amount: None, acquirer: LinkId(2), ..terminal };
        for (cryptogram, by, now, expected) in [
            (1, terminal, soon, Free),
            (2, terminal, soon, Used),
            (1, at(b"TERM0002"), soon, Used),
            (1, dear, soon, Used),
            (1, terminal, START.plus(RESUBMIT), Used),
        ] {
            let counters = counters();
            assert_eq!(counters.take(1, counter(5, 1), &terminal, START), Free);
            assert_eq!(counters.look(1, counter(5, 1), &terminal, START), Used, "not released yet");
            counters.release(1, counter(5, 1), terminal, START);
            assert_eq!(counters.take(1, counter(5, cryptogram), &by, now), expected, "{cryptogram} {by:?}");
            if expected == Free {
                assert_eq!(counters.take(1, counter(5, 1), &terminal, now), Used, "once");
                counters.release(1, counter(5, 1), terminal, now);
                assert_eq!(counters.take(1, counter(5, 1), &terminal, now), Free, "it led to nothing again");
            }
        }
    }

    #[test]
    fn what_only_its_issuer_can_check_is_with_it_once_and_counts_once_approved() {
        let counters = counters();
        let hold = |atc, cryptogram, by| counters.hold(1, counter(atc, cryptogram), TransactionId(by));
        assert_eq!((hold(5, 1, 10), hold(5, 1, 11)), (Free, Used));
        assert_eq!(hold(5, 2, 12), Free, "another cryptogram, which may be the true one");
        assert_eq!(counters.look(1, counter(5, 1), &at(b"TERM0001"), START), Free, "nothing was taken");
        counters.ended(TransactionId(10), None);
        assert_eq!(hold(5, 1, 13), Free, "the issuer said no, and may say so again");
        counters.release(1, counter(5, 1), at(b"TERM0001"), START);
        assert_eq!(hold(5, 1, 14), Free, "it was not forwarded");
        counters.ended(TransactionId(13), None);
        assert_eq!(hold(5, 1, 15), Used, "whose time is over lets go of nothing that is another's");
        counters.ended(TransactionId(14), Some((1, counter(5, 1))));
        for (atc, expected) in [(5, Used), (6, Free), (105, Free), (106, OutOfRange)] {
            assert_eq!(hold(atc, 1, u64::from(atc) + 100), expected, "{atc}");
        }
        counters.ended(TransactionId(206), None);
        assert_eq!(hold(106, 3, 300), OutOfRange, "what was not approved moves no window");
    }

    /// P7's place: of many threads that come with one cryptogram, one gets it.
    #[test]
    fn of_concurrent_takes_one_wins() {
        let counters = Counters::new(CounterWindow { behind: 63, ahead: 100 }, RESUBMIT);
        for round in 1..=200 {
            let (barrier, won) = (Barrier::new(4), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        barrier.wait();
                        if take(&counters, 7, round) == Free {
                            won.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!(won.into_inner(), 1, "round {round}");
        }
    }

    /// `shuttle`'s locks, whose scheduler decides which thread goes on at each of them.
    struct Shuffled;

    impl Locks for Shuffled {
        type Of<T: Send> = shuttle::sync::Mutex<T>;
    }

    impl<T: Send> Lock<T> for shuttle::sync::Mutex<T> {
        fn new(value: T) -> Self {
            Self::new(value)
        }

        fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
            act(&mut self.lock().unwrap())
        }
    }

    type ShuffledCounters = Counters<Shuffled>;

    /// As a payment does: look, have the cryptogram verified, take.
    fn pays(counters: &ShuffledCounters, atc: u16, by: &Presentation) -> bool {
        let looked = counters.look(7, counter(atc, 1), by, START);
        shuttle::thread::yield_now();
        looked == Free && counters.take(7, counter(atc, 1), by, START) == Free
    }

    /// P7 in every order of threads that the scheduler finds: presentations of one cryptogram, one of which is not
    /// forwarded and released, others of counters near it, and a recovery that notes. At no time have more approvals
    /// been given than one and those that were taken back.
    #[test]
    fn in_every_order_of_threads_a_cryptogram_leads_to_one_approval() {
        let race = || {
            let counters = std::sync::Arc::new(ShuffledCounters::new(WINDOW, RESUBMIT));
            let standing = std::sync::Arc::new(AtomicUsize::new(0));
            let terminal = at(b"TERM0001");
            let threads: Vec<_> = (0..4_u16)
                .map(|thread| {
                    let (counters, standing) = (counters.clone(), standing.clone());
                    shuttle::thread::spawn(move || {
                        if thread == 3 {
                            // Another tap of the same phone, further on: it must not make the first look new.
                            pays(&counters, 9, &terminal);
                            return;
                        }
                        if !pays(&counters, 5, &terminal) {
                            return;
                        }
                        assert_eq!(standing.fetch_add(1, Ordering::SeqCst), 0, "a second approval");
                        if thread == 0 {
                            // Not forwarded: it led to nothing.
                            standing.fetch_sub(1, Ordering::SeqCst);
                            counters.release(7, counter(5, 1), terminal, START);
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert!(standing.load(Ordering::SeqCst) <= 1);
            counters.note(7, counter(5, 1));
            assert!(!pays(&counters, 5, &at(b"TERM0002")), "nobody else ever gets it");
        };
        shuttle::check_random(race, 2_000);
        shuttle::check_pct(race, 1_000, 3);
    }

    proptest! {
        /// The journal's order need not be the order of taking: the outcome is the same.
        #[test]
        fn recovery_in_any_order_ends_alike(
            (noted, shuffled) in proptest::collection::vec(1..400_u16, 0..80).prop_flat_map(|list| {
                (Just(list.clone()), Just(list).prop_shuffle())
            })
        ) {
            let (mut a, mut b) = (TokenCounters::default(), TokenCounters::default());
            noted.iter().for_each(|atc| a.note(*atc));
            shuffled.iter().for_each(|atc| b.note(*atc));
            prop_assert_eq!(a, b);
            prop_assert_eq!(TokenCounters::decode(&a.encode()), Some(a));
            for atc in noted {
                prop_assert_ne!(a.standing(atc, CounterWindow { behind: 63, ahead: 100 }), Free);
            }
        }

        /// Against the plain rule: a set of what was used, and the two distances.
        #[test]
        fn the_word_remembers_as_a_set_would(
            atcs in proptest::collection::vec(1..300_u16, 1..80), behind in 0..64_u16, ahead in 1..200_u16
        ) {
            let window = CounterWindow { behind, ahead };
            let (mut word, mut set) = (TokenCounters::default(), std::collections::BTreeSet::new());
            for atc in atcs {
                let highest = set.last().copied().unwrap_or(0);
                let near = atc <= highest + ahead && atc + behind >= highest;
                let expected = match (near, set.contains(&atc)) {
                    (true, false) => Free,
                    (true, true) => Used,
                    (false, _) => OutOfRange,
                };
                prop_assert_eq!(word.standing(atc, window), expected);
                if expected == Free {
                    word.note(atc);
                    set.insert(atc);
                }
            }
        }
    }
}
