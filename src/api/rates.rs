//! `Rates`: how often a client may call, and how often one card and one device may be asked for. Each is a bucket
//! that fills up evenly (GCRA); one that is full again is forgotten, and more than a set number are never held.

use std::hash::{BuildHasher, Hash};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::error::Problem;
use crate::stdx::clock::Clock;
use crate::stdx::maps::Guard;
use crate::tsp::CardMark;
use crate::vocab::Text;

/// How much may be asked for. A burst may be as long as what is allowed in the unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests of one client in a second.
    pub client_per_second: NonZeroU32,
    /// Token requests for one card in a minute, whoever of the requestors asks.
    pub card_per_minute: NonZeroU32,
    /// Token requests for one device of one client in a minute.
    pub device_per_minute: NonZeroU32,
    /// How many clients, cards and devices are told apart at a time, of each kind. Past it all of that kind are
    /// refused.
    pub remembered: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    of: &'static str,
}

/// All buckets. Clones share them.
#[derive(Clone)]
pub(super) struct Rates(Arc<Buckets>);

struct Buckets {
    clients: Keyed<Text<16>>,
    cards: Keyed<CardMark>,
    devices: Keyed<u64>,
    /// Devices are known by a hash that means nothing outside this process.
    guard: Guard,
}

/// The buckets of one kind.
struct Keyed<K: Hash + Eq + Clone> {
    limiter: RateLimiter<K, HashMapStateStore<K>, Ticks, NoOpMiddleware<Nanos>>,
    clock: Ticks,
    most: usize,
    refused: Counter,
    held: Gauge,
}

/// Our clock, as governor wants one.
#[derive(Clone)]
struct Ticks(Clock);

impl governor::clock::Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.now().moment.0)
    }
}

impl Rates {
    /// Shows itself in `registry` under `api_`.
    pub(super) fn new(limits: &RateLimits, clock: &Clock, registry: &mut Registry) -> Self {
        let refused: Family<Kind, Counter> = Family::default();
        registry.register("api_rate_refused", "Requests past a rate, by whose rate it is", refused.clone());
        let held: Family<Kind, Gauge> = Family::default();
        registry.register("api_rate_keys", "How many are told apart now, by kind", held.clone());
        let limit = Gauge::<i64>::default();
        limit.set(i64::try_from(limits.remembered).unwrap_or(i64::MAX));
        registry.register("api_rate_keys_limit", "How many of each kind may be", limit);
        let counters = |of| {
            let kind = Kind { of };
            (refused.get_or_create_owned(&kind), held.get_or_create_owned(&kind))
        };
        let most = limits.remembered;
        Self(Arc::new(Buckets {
            clients: Keyed::new(Quota::per_second(limits.client_per_second), most, clock, counters("client")),
            cards: Keyed::new(Quota::per_minute(limits.card_per_minute), most, clock, counters("card")),
            devices: Keyed::new(Quota::per_minute(limits.device_per_minute), most, clock, counters("device")),
            guard: Guard::default(),
        }))
    }

    /// One request of a client.
    ///
    /// # Errors
    /// 429 with the time to wait.
    pub(super) fn client(&self, name: Text<16>) -> Result<(), Problem> {
        self.0.clients.take(&name)
    }

    /// One request for a token of this card, by its number or by any of its tokens, of a requestor that may have
    /// tokens.
    ///
    /// # Errors
    /// As `client`.
    pub(super) fn card(&self, card: CardMark) -> Result<(), Problem> {
        self.0.cards.take(&card)
    }

    /// One request for a token on this device, which is the client's own name for it.
    ///
    /// # Errors
    /// As `client`.
    pub(super) fn device(&self, client: Text<16>, device: &[u8]) -> Result<(), Problem> {
        self.0.devices.take(&self.0.guard.hash_one((client, device)))
    }
}

impl<K: Hash + Eq + Clone> Keyed<K> {
    fn new(quota: Quota, most: usize, clock: &Clock, (refused, held): (Counter, Gauge)) -> Self {
        let clock = Ticks(clock.clone());
        let limiter = RateLimiter::new(quota, HashMapStateStore::default(), clock.clone());
        Self { limiter, clock, most, refused, held }
    }

    fn take(&self, key: &K) -> Result<(), Problem> {
        if self.limiter.len() >= self.most {
            self.limiter.retain_recent();
        }
        let held = self.limiter.len();
        self.held.set(i64::try_from(held).unwrap_or(i64::MAX));
        let wait = match self.limiter.check_key(key) {
            _ if held >= self.most => Duration::from_secs(1),
            Ok(()) => return Ok(()),
            Err(not_yet) => not_yet.wait_time_from(self.clock.now()),
        };
        self.refused.inc();
        let detail = "this was asked for too often";
        Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail).after(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::clock::{ManualClock, Wall};

    fn rates(remembered: usize) -> (Rates, ManualClock) {
        let clock = ManualClock::at(Wall(0));
        let number = |n| NonZeroU32::new(n).unwrap();
        let limits = RateLimits {
            client_per_second: number(2),
            card_per_minute: number(3),
            device_per_minute: number(1),
            remembered,
        };
        (Rates::new(&limits, &Clock::Manual(clock.clone()), &mut Registry::default()), clock)
    }

    fn name(text: &str) -> Text<16> {
        Text::parse("name", text.as_bytes()).unwrap()
    }

    #[test]
    fn each_has_a_rate_of_its_own_and_gets_it_again_with_time() {
        let (rates, clock) = rates(100);
        let [one, other] = [1, 2].map(CardMark::sample);
        for _ in 0..3 {
            rates.card(one).unwrap();
        }
        assert!(rates.card(one).is_err());
        rates.card(other).unwrap();
        for (client, device, passes) in
            [("a", "x", true), ("a", "x", false), ("a", "y", true), ("b", "x", true)]
        {
            assert_eq!(rates.device(name(client), device.as_bytes()).is_ok(), passes, "{client} {device}");
        }
        assert!([true, true, false].iter().all(|passes| rates.client(name("a")).is_ok() == *passes));
        clock.advance(Duration::from_millis(500));
        assert!([true, false].iter().all(|passes| rates.client(name("a")).is_ok() == *passes));
        clock.advance(Duration::from_secs(20));
        assert!([true, false].iter().all(|passes| rates.card(one).is_ok() == *passes));
    }

    #[test]
    fn no_more_are_told_apart_than_may_be_and_time_makes_room() {
        let (rates, clock) = rates(2);
        rates.client(name("a")).unwrap();
        rates.client(name("b")).unwrap();
        assert!(rates.client(name("c")).is_err());
        clock.advance(Duration::from_secs(2));
        rates.client(name("c")).unwrap();
        assert_eq!(rates.0.clients.limiter.len(), 1);
    }
}
