//! `Pool`: which connection of an issuer takes the next request, and when to dial again; without I/O and without
//! a clock.
//!
//! A connection that leaves several requests in a row unanswered is set aside and probed with an echo, never
//! with a customer's request. A place whose connection is lost is dialled again after a wait that doubles with
//! each failure and is drawn at random from its upper half, so that peers do not all come back at once.

use std::time::Duration;

use super::event::ConnectionId;
use crate::stdx::clock::Moment;
use crate::stdx::random::Entropy;
use crate::vocab::LinkId;

/// How long to wait before trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub least: Duration,
    pub most: Duration,
}

impl Backoff {
    /// The wait after `failures` in a row: between half and all of `least * 2^failures`, at most `most`.
    fn wait(self, failures: u32, entropy: &mut Entropy) -> Duration {
        let full = self.least.saturating_mul(2_u32.saturating_pow(failures)).min(self.most);
        let half = full / 2;
        let spread = u64::try_from((full - half).as_nanos()).unwrap_or(u64::MAX);
        // Without randomness the wait is only less well spread.
        let drawn = entropy.below(spread.saturating_add(1)).unwrap_or(spread);
        half + Duration::from_nanos(drawn)
    }
}

/// One issuer's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    pub link: LinkId,
    /// Addresses to dial; 0 for an issuer that dials in.
    pub addresses: usize,
    /// Connections to keep to each address.
    pub connections: usize,
    pub backoff: Backoff,
    /// Requests that may be unanswered on one connection.
    pub in_flight: u32,
    /// Messages in a row without an answer that could be used, after which a connection is set aside; 0 for never.
    pub silences: u32,
}

/// What an issuer answers, or leaves without an answer that could be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answerable {
    Request,
    /// An advice or reversal, which is sent again.
    Stored,
}

/// How much of a pool is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolFill {
    /// Requests unanswered on all connections.
    pub in_flight: u64,
    /// How many there may be on those that take requests.
    pub room: u64,
    /// Connections set aside until they answer a probe.
    pub aside: usize,
}

/// What a pool wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolAction {
    /// Connect to this address of the link.
    Dial { link: LinkId, address: usize, connection: ConnectionId },
    /// Ask an echo on this connection (`Session::probe`), and say with `Pool::alive` that it was answered.
    Probe(ConnectionId),
}

/// A connection to be kept: one of `connections` to one address.
#[derive(Debug)]
struct Place {
    address: usize,
    state: PlaceState,
    /// Failures in a row; a connection that came up ends them.
    failures: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum PlaceState {
    Waiting { until: Moment },
    Taken(ConnectionId),
}

#[derive(Debug)]
struct Member {
    connection: ConnectionId,
    up: bool,
    in_flight: u32,
    /// Messages in a row without an answer that could be used, and how many requests since one of them had one.
    silent: u32,
    silent_requests: u32,
    /// Times it was set aside since it last answered a request.
    trips: u32,
    aside: Option<Aside>,
}

/// Given no requests until it answers a probe.
#[derive(Debug)]
struct Aside {
    probe_at: Moment,
    probed: bool,
}

impl Member {
    fn is_good(&mut self) {
        (self.silent, self.silent_requests, self.trips) = (0, 0, 0);
        self.aside = None;
    }

    fn takes_requests(&self) -> bool {
        self.up && self.aside.is_none()
    }
}

/// The connections of one issuer.
#[derive(Debug)]
pub struct Pool {
    config: PoolConfig,
    places: Vec<Place>,
    members: Vec<Member>,
    dialled: u64,
    /// Where the search begins, so that equals take turns.
    turn: usize,
}

impl Pool {
    /// A pool without connections; the first `tick` dials all of them.
    #[must_use]
    pub fn new(config: PoolConfig) -> Self {
        let place = |address| Place { address, state: PlaceState::Waiting { until: Moment(0) }, failures: 0 };
        let places = (0..config.addresses)
            .flat_map(|address| std::iter::repeat_n(address, config.connections))
            .map(place)
            .collect();
        Self { config, places, members: Vec::new(), dialled: 0, turn: 0 }
    }

    /// A pool of another shape in this one's place: it begins anew, and gives no number of a connection again.
    #[must_use]
    pub fn renewed(&self, config: PoolConfig) -> Self {
        Self { dialled: self.dialled, ..Self::new(config) }
    }

    /// A connection stands, dialled or dialled in; it takes requests once it is `up`.
    pub fn opened(&mut self, connection: ConnectionId) {
        let fresh = Member {
            connection,
            up: false,
            in_flight: 0,
            silent: 0,
            silent_requests: 0,
            trips: 0,
            aside: None,
        };
        if self.member(connection).is_none() {
            self.members.push(fresh);
        }
    }

    /// A connection is gone, or could not be dialled.
    pub fn closed(&mut self, connection: ConnectionId, now: Moment, entropy: &mut Entropy) {
        self.members.retain(|member| member.connection != connection);
        let backoff = self.config.backoff;
        if let Some(place) = self.place(connection) {
            place.state = PlaceState::Waiting { until: now.plus(backoff.wait(place.failures, entropy)) };
            place.failures = place.failures.saturating_add(1);
        }
    }

    /// Its session is up.
    pub fn up(&mut self, connection: ConnectionId) {
        if let Some(member) = self.member(connection) {
            member.up = true;
            member.is_good();
        }
        if let Some(place) = self.place(connection) {
            place.failures = 0;
        }
    }

    /// Its session is no longer up.
    pub fn down(&mut self, connection: ConnectionId) {
        if let Some(member) = self.member(connection) {
            member.up = false;
        }
    }

    /// The connection for the next request: of those that take requests the one with the fewest unanswered.
    /// `None`: there is none (see `is_available`), or all are full.
    pub fn pick(&mut self) -> Option<ConnectionId> {
        let most = self.config.in_flight;
        let (later, first) = self.members.split_at(self.turn.min(self.members.len()));
        let (turn, connection) = (self.turn..)
            .zip(first)
            .chain((0..).zip(later))
            .filter(|(_, member)| member.takes_requests() && member.in_flight < most)
            .min_by_key(|(_, member)| member.in_flight)
            .map(|(index, member)| (index + 1, member.connection))?;
        self.turn = turn;
        Some(connection)
    }

    /// A request was given to the connection.
    pub fn taken(&mut self, connection: ConnectionId) {
        if let Some(member) = self.member(connection) {
            member.in_flight = member.in_flight.saturating_add(1);
        }
    }

    /// A message on the connection was answered. What an advice or reversal hears says nothing of requests.
    pub fn answered(&mut self, connection: ConnectionId, what: Answerable) {
        let Some(member) = self.member(connection) else { return };
        member.in_flight = member.in_flight.saturating_sub(1);
        match what {
            Answerable::Stored if member.silent_requests > 0 || member.trips > 0 => {
                member.silent = member.silent.min(member.silent_requests);
            }
            Answerable::Request | Answerable::Stored => member.is_good(),
        }
    }

    /// A request's answer is no longer waited for, and nothing was learned about the connection.
    pub fn let_go(&mut self, connection: ConnectionId) {
        if let Some(member) = self.member(connection) {
            member.in_flight = member.in_flight.saturating_sub(1);
        }
    }

    /// A message on the connection is over without an answer that could be used. Only requests make the rest longer:
    /// who answers them and the echo, and never an advice, keeps its customers.
    pub fn silent(&mut self, connection: ConnectionId, what: Answerable, now: Moment, entropy: &mut Entropy) {
        let config = self.config;
        let Some(member) = self.member(connection) else { return };
        member.in_flight = member.in_flight.saturating_sub(1);
        member.silent = member.silent.saturating_add(1);
        member.silent_requests =
            member.silent_requests.saturating_add(u32::from(what == Answerable::Request));
        if config.silences == 0 || member.silent < config.silences || member.aside.is_some() {
            return;
        }
        let rest = match (what, member.trips) {
            (Answerable::Stored, _) | (_, 0) => Duration::ZERO,
            (Answerable::Request, trips) => config.backoff.wait(trips, entropy),
        };
        member.trips = member.trips.saturating_add(u32::from(what == Answerable::Request));
        member.aside = Some(Aside { probe_at: now.plus(rest), probed: false });
    }

    /// The connection answered an echo. If it was set aside it is on trial: one more silence sets it aside again,
    /// for longer.
    pub fn alive(&mut self, connection: ConnectionId) {
        let silences = self.config.silences;
        if let Some(member) = self.member(connection)
            && member.aside.as_ref().is_some_and(|aside| aside.probed)
        {
            member.aside = None;
            member.silent = silences.saturating_sub(1);
            member.silent_requests = member.silent_requests.min(member.silent);
        }
    }

    /// Whether any connection takes requests.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.members.iter().any(Member::takes_requests)
    }

    /// How much of it is in use.
    #[must_use]
    pub fn fill(&self) -> PoolFill {
        let taking = self.members.iter().filter(|member| member.takes_requests());
        PoolFill {
            in_flight: self.members.iter().map(|member| u64::from(member.in_flight)).sum(),
            room: taking.map(|_| u64::from(self.config.in_flight)).sum(),
            aside: self.members.iter().filter(|member| member.aside.is_some()).count(),
        }
    }

    /// Connections that stand.
    pub fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        self.members.iter().map(|member| member.connection)
    }

    /// Dials and probes what is due at `now`.
    pub fn tick(&mut self, now: Moment, out: &mut Vec<PoolAction>) {
        let link = self.config.link;
        for place in &mut self.places {
            if matches!(place.state, PlaceState::Waiting { until } if until <= now) {
                let connection = ConnectionId::dialled(link, self.dialled);
                self.dialled += 1;
                place.state = PlaceState::Taken(connection);
                out.push(PoolAction::Dial { link, address: place.address, connection });
            }
        }
        for member in &mut self.members {
            if let Some(aside) = &mut member.aside
                && aside.probe_at <= now
            {
                // Asked again after the longest rest: the session may have had no room for this one.
                *aside = Aside { probe_at: now.plus(self.config.backoff.most), probed: true };
                out.push(PoolAction::Probe(member.connection));
            }
        }
    }

    /// When `tick` has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        let dials = self.places.iter().filter_map(|place| match place.state {
            PlaceState::Waiting { until } => Some(until),
            PlaceState::Taken(_) => None,
        });
        let probes =
            self.members.iter().filter_map(|member| member.aside.as_ref().map(|aside| aside.probe_at));
        dials.chain(probes).min()
    }

    fn member(&mut self, connection: ConnectionId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.connection == connection)
    }

    fn place(&mut self, connection: ConnectionId) -> Option<&mut Place> {
        self.places.iter_mut().find(|place| place.state == PlaceState::Taken(connection))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: LinkId = LinkId(9);
    const SECOND: u64 = 1_000_000_000;

    fn config(addresses: usize, connections: usize) -> PoolConfig {
        PoolConfig {
            link: LINK,
            addresses,
            connections,
            backoff: Backoff { least: Duration::from_secs(1), most: Duration::from_secs(8) },
            in_flight: 3,
            silences: 2,
        }
    }

    fn dialled(number: u64) -> ConnectionId {
        ConnectionId::dialled(LINK, number)
    }

    fn tick(pool: &mut Pool, now: Moment) -> Vec<PoolAction> {
        let mut out = Vec::new();
        pool.tick(now, &mut out);
        out
    }

    /// A pool of `n` connections that are up, as an issuer that dials in has.
    fn pool_of(n: u64) -> Pool {
        let mut pool = Pool::new(config(0, 0));
        for number in 0..n {
            pool.opened(ConnectionId(number));
            pool.up(ConnectionId(number));
        }
        pool
    }

    fn take(pool: &mut Pool) -> Option<u64> {
        let connection = pool.pick()?;
        pool.taken(connection);
        Some(connection.0)
    }

    #[test]
    fn every_address_is_dialled_as_often_as_configured() {
        let mut pool = Pool::new(config(2, 2));
        let addresses: Vec<_> = tick(&mut pool, Moment(0))
            .into_iter()
            .map(|action| match action {
                PoolAction::Dial { link, address, connection } => (link, address, connection),
                PoolAction::Probe(_) => panic!("nothing to probe"),
            })
            .collect();
        let expected = [(0, 0), (0, 1), (1, 2), (1, 3)].map(|(address, n)| (LINK, address, dialled(n)));
        assert_eq!(addresses, expected);
        assert_eq!(tick(&mut pool, Moment(SECOND * 100)), [], "each place is dialled once");
        assert_eq!(pool.deadline(), None);
    }

    #[test]
    fn waits_double_up_to_the_most_and_are_jittered() {
        let mut entropy = Entropy::seeded(1);
        let mut pool = Pool::new(config(1, 1));
        let mut now = Moment(0);
        let mut waits = Vec::new();
        for number in 0..6 {
            assert_eq!(tick(&mut pool, now).len(), 1);
            pool.closed(dialled(number), now, &mut entropy);
            let until = pool.deadline().unwrap();
            waits.push(until.since(now).as_secs_f64());
            assert_eq!(tick(&mut pool, Moment(until.0 - 1)), []);
            now = until;
        }
        for (wait, full) in waits.iter().zip([1.0, 2.0, 4.0, 8.0, 8.0, 8.0]) {
            assert!((full / 2.0..=full).contains(wait), "{wait} of {full}");
        }
        assert!(waits.get(3) != waits.get(4), "no jitter");
        tick(&mut pool, now);
        pool.opened(dialled(6));
        pool.up(dialled(6));
        pool.closed(dialled(6), now, &mut entropy);
        let wait = pool.deadline().unwrap().since(now);
        assert!(wait <= Duration::from_secs(1), "a connection that was up begins anew: {wait:?}");
    }

    #[test]
    fn a_connection_that_opens_and_never_comes_up_is_a_failure() {
        let mut entropy = Entropy::seeded(1);
        let mut pool = Pool::new(config(1, 1));
        for number in 0..4 {
            tick(&mut pool, Moment(SECOND * 100 * number));
            pool.opened(dialled(number));
            pool.closed(dialled(number), Moment(SECOND * 100 * number), &mut entropy);
        }
        let wait = pool.deadline().unwrap().since(Moment(SECOND * 300));
        assert!(wait >= Duration::from_secs(4), "{wait:?}");
    }

    #[test]
    fn requests_go_where_least_is_in_flight_and_equals_take_turns() {
        let mut pool = pool_of(3);
        let taken: Vec<_> = (0..6).filter_map(|_| take(&mut pool)).collect();
        assert_eq!(taken, [0, 1, 2, 0, 1, 2]);
        pool.answered(ConnectionId(1), Answerable::Request);
        assert_eq!(take(&mut pool), Some(1));
        assert_eq!(pool.fill().in_flight, 6);
        pool.down(ConnectionId(0));
        pool.closed(ConnectionId(2), Moment(0), &mut Entropy::seeded(1));
        assert_eq!(take(&mut pool), Some(1));
        assert_eq!(take(&mut pool), None, "the only one is full");
        assert!(pool.is_available());
        pool.down(ConnectionId(1));
        assert!(!pool.is_available());
    }

    #[test]
    fn nothing_is_picked_before_the_session_is_up() {
        let mut pool = pool_of(0);
        assert_eq!(pool.pick(), None);
        pool.opened(ConnectionId(5));
        assert_eq!(pool.pick(), None);
        pool.up(ConnectionId(5));
        assert_eq!(pool.pick(), Some(ConnectionId(5)));
        assert_eq!(tick(&mut pool, Moment(0)), [], "an issuer that dials in is not dialled");
    }

    #[test]
    fn a_silent_connection_is_set_aside_and_probed_by_echo() {
        let mut entropy = Entropy::seeded(1);
        let mut pool = pool_of(2);
        let (bad, good, now) = (ConnectionId(0), ConnectionId(1), Moment(SECOND));
        pool.silent(bad, Answerable::Request, now, &mut entropy);
        pool.answered(bad, Answerable::Request);
        pool.silent(bad, Answerable::Request, now, &mut entropy);
        assert_eq!(tick(&mut pool, now), [], "an answer in between begins the count anew");
        pool.silent(bad, Answerable::Request, now, &mut entropy);
        assert_eq!((0..4).map(|_| pool.pick()).collect::<Vec<_>>(), [Some(good); 4]);
        assert_eq!(tick(&mut pool, now), [PoolAction::Probe(bad)]);
        assert_eq!(tick(&mut pool, now), [], "one probe");
        assert_eq!(
            tick(&mut pool, now.plus(Duration::from_secs(8))),
            [PoolAction::Probe(bad)],
            "it was lost"
        );

        pool.alive(bad);
        assert!((0..2).filter_map(|_| pool.pick()).any(|picked| picked == bad), "on trial");
        pool.silent(bad, Answerable::Request, now, &mut entropy);
        assert_eq!(tick(&mut pool, now), [], "aside again, and this time it rests");
        let rest = pool.deadline().unwrap().since(now);
        assert!((1..=2).contains(&rest.as_secs()), "{rest:?}");

        pool.let_go(bad);
        assert_eq!(pool.deadline(), Some(now.plus(rest)), "what nobody waits for says nothing about it");
        pool.answered(bad, Answerable::Request);
        assert_eq!(pool.deadline(), None, "a late answer shows that it works");
        assert!((0..2).filter_map(|_| pool.pick()).any(|picked| picked == bad));
    }

    #[test]
    fn acknowledgements_do_not_shorten_the_rest_of_who_leaves_requests_unanswered() {
        for silences in [1, 2, 5] {
            let mut entropy = Entropy::seeded(1);
            let mut pool = Pool::new(PoolConfig { silences, ..config(0, 0) });
            let (only, now) = (ConnectionId(0), Moment(SECOND));
            pool.opened(only);
            pool.up(only);
            let mut rests = Vec::new();
            for _ in 0..4 {
                for _ in 0..silences {
                    pool.answered(only, Answerable::Stored);
                    pool.silent(only, Answerable::Request, now, &mut entropy);
                }
                assert!(!pool.is_available(), "{silences}");
                rests.push(pool.deadline().unwrap().since(now).as_secs());
                // It rests, is asked, and answers the echo.
                assert_eq!(tick(&mut pool, Moment(1_000 * SECOND)), [PoolAction::Probe(only)]);
                pool.alive(only);
                pool.answered(only, Answerable::Stored);
                pool.silent(only, Answerable::Request, now, &mut entropy);
                rests.push(pool.deadline().unwrap().since(now).as_secs());
                tick(&mut pool, Moment(1_000 * SECOND));
                pool.alive(only);
            }
            // Each is drawn between half and all of what it comes to.
            assert!(rests[0] == 0 && rests[4..].iter().all(|rest| *rest >= 4), "{silences}: {rests:?}");
        }
    }

    #[test]
    fn an_echo_that_was_not_our_probe_does_not_end_a_rest() {
        let mut entropy = Entropy::seeded(1);
        let mut pool = pool_of(1);
        pool.silent(ConnectionId(0), Answerable::Request, Moment(0), &mut entropy);
        pool.silent(ConnectionId(0), Answerable::Request, Moment(0), &mut entropy);
        pool.alive(ConnectionId(0));
        assert!(!pool.is_available());
    }

    #[test]
    fn silence_to_advices_sets_aside_until_an_echo_is_answered_and_never_longer() {
        let mut entropy = Entropy::seeded(1);
        let mut pool = pool_of(1);
        let (only, now) = (ConnectionId(0), Moment(SECOND));
        pool.silent(only, Answerable::Stored, now, &mut entropy);
        for time in 0..4 {
            assert!(pool.is_available(), "{time}");
            pool.silent(only, Answerable::Stored, now, &mut entropy);
            assert!(!pool.is_available(), "{time}");
            assert_eq!(tick(&mut pool, now), [PoolAction::Probe(only)], "{time}: at once");
            pool.alive(only);
        }
        pool.silent(only, Answerable::Request, now, &mut entropy);
        assert_eq!(tick(&mut pool, now), [PoolAction::Probe(only)], "the first time that a customer waited");
    }

    /// Against a peer that comes, goes, answers and keeps silent at random: what is picked is up, not set aside
    /// and not full, no place is dialled twice, and nothing in flight is lost count of.
    #[test]
    fn invariants_hold_for_any_course_of_events() {
        for seed in 0..1_000 {
            let mut entropy = Entropy::seeded(seed);
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut pool = Pool::new(config(2, 2));
            let mut now = Moment(0);
            let mut standing: Vec<(ConnectionId, bool, u32)> = Vec::new();
            let mut dialling: Vec<ConnectionId> = Vec::new();
            for _ in 0..300 {
                now = now.plus(Duration::from_millis(rng.u64(0..1_500)));
                for action in tick(&mut pool, now) {
                    if let PoolAction::Dial { connection, .. } = action {
                        dialling.push(connection);
                    }
                }
                assert!(dialling.len() + standing.len() <= 4, "seed {seed}: more connections than places");
                match rng.u8(0..6) {
                    0 if !dialling.is_empty() => {
                        let connection = dialling.swap_remove(rng.usize(0..dialling.len()));
                        if rng.bool() {
                            pool.opened(connection);
                            standing.push((connection, false, 0));
                        } else {
                            pool.closed(connection, now, &mut entropy);
                        }
                    }
                    1 if !standing.is_empty() => {
                        let index = rng.usize(0..standing.len());
                        let up = rng.bool();
                        let connection = standing[index].0;
                        if up {
                            pool.up(connection)
                        } else {
                            pool.down(connection)
                        }
                        standing[index].1 = up;
                    }
                    2 if !standing.is_empty() && rng.u8(0..4) == 0 => {
                        let (connection, ..) = standing.swap_remove(rng.usize(0..standing.len()));
                        pool.closed(connection, now, &mut entropy);
                    }
                    3 if standing.iter().any(|member| member.2 > 0) => {
                        let member = standing.iter_mut().find(|member| member.2 > 0).unwrap();
                        member.2 -= 1;
                        match rng.u8(0..5) {
                            0 => pool.answered(member.0, Answerable::Request),
                            1 => pool.answered(member.0, Answerable::Stored),
                            2 => pool.silent(member.0, Answerable::Request, now, &mut entropy),
                            3 => pool.silent(member.0, Answerable::Stored, now, &mut entropy),
                            _ => pool.let_go(member.0),
                        }
                    }
                    _ => {
                        if let Some(connection) = pool.pick() {
                            pool.taken(connection);
                            let member = standing.iter_mut().find(|member| member.0 == connection).unwrap();
                            assert!(member.1 && member.2 < 3, "seed {seed}: {member:?} was picked");
                            member.2 += 1;
                        }
                    }
                }
                let in_flight: u64 = standing.iter().map(|member| u64::from(member.2)).sum();
                assert_eq!(pool.fill().in_flight, in_flight, "seed {seed}");
            }
        }
    }
}
