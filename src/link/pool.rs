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
    /// Unanswered requests in a row after which a connection is set aside; 0 for never.
    pub silences: u32,
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
    /// Requests in a row that stayed unanswered.
    silent: u32,
    /// Times it was set aside since it last answered a request.
    trips: u32,
    aside: Option<Aside>,
}

#[derive(Debug)]
enum Aside {
    ProbeAt(Moment),
    Probed,
}

impl Member {
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

    /// A connection stands, dialled or dialled in; it takes requests once it is `up`.
    pub fn opened(&mut self, connection: ConnectionId) {
        let fresh = Member { connection, up: false, in_flight: 0, silent: 0, trips: 0, aside: None };
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
            member.silent = 0;
            member.trips = 0;
            member.aside = None;
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

    /// A request on the connection was answered.
    pub fn answered(&mut self, connection: ConnectionId) {
        if let Some(member) = self.member(connection) {
            member.in_flight = member.in_flight.saturating_sub(1);
            member.silent = 0;
            member.trips = 0;
            member.aside = None;
        }
    }

    /// A request on the connection is over without an answer.
    pub fn silent(&mut self, connection: ConnectionId, now: Moment, entropy: &mut Entropy) {
        let config = self.config;
        let Some(member) = self.member(connection) else { return };
        member.in_flight = member.in_flight.saturating_sub(1);
        member.silent = member.silent.saturating_add(1);
        if config.silences == 0 || member.silent < config.silences || member.aside.is_some() {
            return;
        }
        let rest = match member.trips {
            0 => Duration::ZERO,
            trips => config.backoff.wait(trips, entropy),
        };
        member.trips = member.trips.saturating_add(1);
        member.aside = Some(Aside::ProbeAt(now.plus(rest)));
    }

    /// The connection answered an echo. If it was set aside it is on trial: one more silence sets it aside again,
    /// for longer.
    pub fn alive(&mut self, connection: ConnectionId) {
        let silences = self.config.silences;
        if let Some(member) = self.member(connection)
            && matches!(member.aside, Some(Aside::Probed))
        {
            member.aside = None;
            member.silent = silences.saturating_sub(1);
        }
    }

    /// Whether any connection takes requests.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.members.iter().any(Member::takes_requests)
    }

    /// Requests unanswered on all connections.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.members.iter().map(|member| u64::from(member.in_flight)).sum()
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
            if matches!(member.aside, Some(Aside::ProbeAt(at)) if at <= now) {
                member.aside = Some(Aside::Probed);
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
        let probes = self.members.iter().filter_map(|member| match member.aside {
            Some(Aside::ProbeAt(at)) => Some(at),
            Some(Aside::Probed) | None => None,
        });
        dials.chain(probes).min()
    }

    fn member(&mut self, connection: ConnectionId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.connection == connection)
    }

    fn place(&mut self, connection: ConnectionId) -> Option<&mut Place> {
        self.places.iter_mut().find(|place| place.state == PlaceState::Taken(connection))
    }
}
