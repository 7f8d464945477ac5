//! `[[acquirer]]`, `[[issuer]]`, `[[route]]`: the parties, how they are reached and what they may do.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::dialects::Dialects;
use super::file::{Section, address, boolean, choice, count, duration, number, size, text, word};
use crate::codec::{Dialect, FrameFormat, MOST_FRAME};
use crate::link::{Backoff, ConnectionLimits, PoolConfig, SessionConfig, SignOn};
use crate::switch::{AcquirerConfig, Identifiers, IssuerConfig, TrackTwo, Wire};
use crate::vocab::{Bin, InstitutionId, LinkId};

/// What every party has, whichever side it is on.
#[derive(Debug, Clone)]
pub struct PartyConfig {
    pub link: LinkId,
    pub name: String,
    pub dialect: Arc<Dialect>,
    pub framing: FrameFormat,
    pub session: SessionConfig,
    pub limits: ConnectionLimits,
    /// Its place in the file, as `acquirer[0]`.
    pub(super) path: String,
}

impl PartyConfig {
    /// How messages lie on its wire.
    #[must_use]
    pub fn wire(&self) -> Wire {
        Wire { dialect: Arc::clone(&self.dialect), format: self.framing, session: self.session }
    }
}

/// Where a party connects to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenSection {
    pub address: SocketAddr,
    /// Addresses it may come from; none: any.
    pub peers: Vec<IpAddr>,
    /// Connections that it may have at a time.
    pub connections: usize,
}

/// An acquirer: it connects and asks.
#[derive(Debug, Clone)]
pub struct AcquirerSection {
    pub party: PartyConfig,
    pub listen: ListenSection,
    /// How long it waits for an answer before it reverses.
    pub timeout: Duration,
    pub switch: AcquirerConfig,
    /// Its 0100 moves money by itself: no completion follows.
    pub authorization_is_capture: bool,
}

/// How an issuer is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    Dial { addresses: Vec<SocketAddr>, timeout: Duration },
    Listen(ListenSection),
}

/// An issuer: it is asked.
#[derive(Debug, Clone)]
pub struct IssuerSection {
    pub party: PartyConfig,
    pub reach: Reach,
    pub pool: PoolConfig,
    pub switch: IssuerConfig,
    /// It answers a repeated request like the first one, without charging twice.
    pub dedupes_repeats: bool,
}

/// Account numbers that begin so belong to that issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSection {
    pub bin: Bin,
    pub issuer: LinkId,
    pub(super) path: String,
}

pub(super) fn acquirer(mut section: Section<'_>, dialects: &mut Dialects) -> Option<AcquirerSection> {
    let party = party(&mut section, SignOn::Peer, dialects);
    let listen = listen(&mut section);
    let name = party.as_ref().map(|party| party.name.clone());
    let timeout = section.need("timeout", duration);
    let switch = AcquirerConfig {
        name: name.unwrap_or_default(),
        institutions: section.list("institutions", word(InstitutionId::parse)),
        partial_approvals: section.or("partial_approvals", false, boolean),
        answer_on_any: section.or("answer_on", false, choice(&[("asking", false), ("any", true)])),
        sign_on_per_institution: section.or(
            "sign_on",
            false,
            choice(&[("connection", false), ("institution", true)]),
        ),
    };
    let authorization_is_capture = section.or("authorization_is_capture", false, boolean);
    section.finish();
    let (party, listen, timeout) = (party?, listen?, timeout?);
    Some(AcquirerSection { party, listen, timeout, switch, authorization_is_capture })
}

pub(super) fn issuer(mut section: Section<'_>, dialects: &mut Dialects) -> Option<IssuerSection> {
    let party = party(&mut section, SignOn::Us, dialects);
    let reach = reach(&mut section);
    let timeout = section.need("timeout", duration);
    let identifiers = choice(&[("own", Identifiers::Own), ("pass", Identifiers::Pass)]);
    let identifiers = section.or("identifiers", Identifiers::Own, identifiers);
    let track_two = choice(&[("drop", TrackTwo::Drop), ("rebuild", TrackTwo::Rebuild)]);
    let track_two = section.or("track2", TrackTwo::Drop, track_two);
    let in_flight = section.or("in_flight_per_connection", 1_024, number(1, 65_536));
    let silences = section.or("silences", 5, number(0, 1_000));
    let backoff = Backoff {
        least: section.or("redial_least", Duration::from_millis(250), duration),
        most: section.or("redial_most", Duration::from_secs(30), duration),
    };
    if backoff.least > backoff.most {
        section.fault("redial_least", "is longer than redial_most");
    }
    let connections = section.or("connections", 2, count(1, 1_000));
    let dedupes_repeats = section.or("dedupes_repeats", false, boolean);
    section.finish();
    let (party, reach, timeout) = (party?, reach?, timeout?);
    let addresses = match &reach {
        Reach::Dial { addresses, .. } => addresses.len(),
        Reach::Listen(_) => 0,
    };
    let pool = PoolConfig {
        link: party.link,
        addresses,
        connections,
        backoff,
        in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
        silences: u32::try_from(silences).unwrap_or(u32::MAX),
    };
    let switch = IssuerConfig { name: party.name.clone(), timeout, identifiers, track_two };
    Some(IssuerSection { party, reach, pool, switch, dedupes_repeats })
}

pub(super) fn route(mut section: Section<'_>) -> Option<RouteSection> {
    let bin = section.need("bin", word(Bin::parse));
    let issuer = section.need("issuer", link_id);
    let path = section.path().to_owned();
    section.finish();
    Some(RouteSection { bin: bin?, issuer: issuer?, path })
}

/// A party's number, by which the journal remembers it for as long as the journal is kept.
pub(super) fn link_id(value: &toml::de::DeValue<'_>) -> Result<LinkId, String> {
    number(1, 65_535)(value).map(|id| LinkId(u16::try_from(id).unwrap_or_default()))
}

fn party(section: &mut Section<'_>, sign_on: SignOn, dialects: &mut Dialects) -> Option<PartyConfig> {
    let link = section.need("id", link_id);
    let name = section.need("name", text);
    let dialect = section.need("dialect", text).and_then(|name| dialects.find(section, &name));
    let framing = framing(section);
    let usual = SessionConfig::new(sign_on);
    let session = SessionConfig {
        sign_on,
        sign_on_timeout: section.or("sign_on_timeout", usual.sign_on_timeout, duration),
        idle: section.or("idle", usual.idle, duration),
        echo_timeout: section.or("echo_timeout", usual.echo_timeout, duration),
        missed_echoes: usual.missed_echoes,
    };
    let usual = ConnectionLimits::default();
    let limits = ConnectionLimits {
        first_byte: usual.first_byte.filter(|_| sign_on == SignOn::Peer),
        frame: section.or("frame_timeout", usual.frame, duration),
        output_bytes: section.or("output_bytes", usual.output_bytes, size),
        output_stall: section.or("output_stall", usual.output_stall, duration),
        ..usual
    };
    let path = section.path().to_owned();
    Some(PartyConfig {
        link: link?,
        name: name?,
        dialect: dialect?,
        framing: framing?,
        session,
        limits,
        path,
    })
}

fn framing(section: &mut Section<'_>) -> Option<FrameFormat> {
    let length = section.need("framing", text);
    let header = section.or("frame_header", 0, count(0, 255));
    let most = section.or("frame_bytes", 4_096, size).min(MOST_FRAME + 1);
    let format = FrameFormat::parse(&length?, header, most);
    format.map_err(|error| section.fault("framing", error)).ok()
}

fn listen(section: &mut Section<'_>) -> Option<ListenSection> {
    let listen = section.need("listen", address);
    let peers = section.list("peers", peer);
    let connections = section.or("max_connections", 64, count(1, 100_000));
    Some(ListenSection { address: listen?, peers, connections })
}

fn peer(value: &toml::de::DeValue<'_>) -> Result<IpAddr, String> {
    let text = value.as_str().unwrap_or_default();
    text.parse().map_err(|_| "must be an IP address without a port, such as \"192.0.2.7\"".to_owned())
}

/// An issuer is dialled, or it dials in; not both.
fn reach(section: &mut Section<'_>) -> Option<Reach> {
    let addresses = section.list("dial", address);
    let timeout = section.or("dial_timeout", Duration::from_secs(10), duration);
    match (section.has("dial"), section.has("listen")) {
        (true, false) => {
            if section.is_empty_list("dial") {
                section.fault("dial", "must name at least one address");
            }
            for (number, _) in addresses.iter().enumerate().filter(|(_, address)| address.port() == 0) {
                section.fault(&format!("dial[{number}]"), "must have a port other than 0");
            }
            Some(Reach::Dial { addresses, timeout })
        }
        (false, true) => listen(section).map(Reach::Listen),
        _ => {
            section.fault("dial", "either `dial` (addresses that we connect to) or `listen` (it connects to us) must be there, not both");
            None
        }
    }
}
