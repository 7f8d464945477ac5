//! `[[acquirer]]`, `[[issuer]]`, `[[route]]`: the parties, how they are reached and what they may do.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::dialects::Dialects;
use super::file::{Section, address, amount, boolean, choice, count, duration, number, size, text, word};
use super::tokens::{LOCATIONS, cryptograms, endpoint};
use crate::api::Endpoint;
use crate::codec::{Dialect, FrameFormat, MOST_FRAME};
use crate::link::{Backoff, ConnectionLimits, PoolConfig, SessionConfig, SignOn};
use crate::switch::{AcquirerConfig, Cryptograms, Identifiers, IssuerConfig, StandInTerms, TrackTwo, Wire};
use crate::tsp::{ApprovalRule, CryptogramChoice, Doubts};
use crate::vocab::{
    Bin, EntryMode, InstitutionId, LinkId, MerchantCategory, PanSource, TokenAssuranceMethod, TrustScore,
};

/// What every party has, whichever side it is on.
#[derive(Debug, Clone)]
pub struct PartyConfig {
    pub link: LinkId,
    pub name: String,
    pub dialect: Arc<Dialect>,
    pub framing: FrameFormat,
    pub session: SessionConfig,
    pub limits: ConnectionLimits,
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
    /// What it has agreed about tokens for its cards.
    pub approval: ApprovalRule,
    /// About what its yes waits for proof.
    pub doubts: Doubts,
    /// Where it takes notifications, and codes for its cardholders.
    pub notify: Option<Endpoint>,
    /// It knows cryptograms of its own cards only: tokens' are made anew with these.
    pub card_cryptograms: Option<CryptogramChoice>,
}

/// Account numbers that begin so belong to that issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSection {
    pub bin: Bin,
    pub issuer: LinkId,
}

/// A party as far as it could be read: what one fault left out is no reason to hide another.
pub(super) struct PartyDraft {
    pub(super) path: String,
    pub(super) link: Option<LinkId>,
    pub(super) name: Option<String>,
    dialect: Option<Arc<Dialect>>,
    pub(super) framing: Option<FrameFormat>,
    session: SessionConfig,
    pub(super) limits: ConnectionLimits,
}

/// An acquirer, as far as it could be read.
pub(super) struct AcquirerDraft {
    pub(super) party: PartyDraft,
    pub(super) listen: Option<ListenSection>,
    pub(super) timeout: Option<Duration>,
    switch: AcquirerConfig,
}

/// An issuer, as far as it could be read.
pub(super) struct IssuerDraft {
    pub(super) party: PartyDraft,
    pub(super) reach: Option<Reach>,
    pub(super) timeout: Option<Duration>,
    pub(super) enquiry_timeout: Duration,
    identifiers: Identifiers,
    track_two: TrackTwo,
    pub(super) cryptograms: Cryptograms,
    connections: usize,
    backoff: Backoff,
    in_flight: u32,
    silences: u32,
    dedupes_repeats: bool,
    announce_cut_over: bool,
    stand_in: Option<StandInTerms>,
    pub(super) approval: ApprovalRule,
    pub(super) doubts: Doubts,
    pub(super) notify: Option<Endpoint>,
    pub(super) card_cryptograms: Option<CryptogramChoice>,
}

/// A route, as far as it could be read.
pub(super) struct RouteDraft {
    pub(super) path: String,
    pub(super) bin: Option<Bin>,
    pub(super) issuer: Option<LinkId>,
}

impl PartyDraft {
    pub(super) fn dialect(&self) -> Option<&Dialect> {
        self.dialect.as_deref()
    }

    fn whole(self) -> Option<PartyConfig> {
        Some(PartyConfig {
            link: self.link?,
            name: self.name?,
            dialect: self.dialect?,
            framing: self.framing?,
            session: self.session,
            limits: self.limits,
        })
    }
}

impl AcquirerDraft {
    /// The acquirer, when nothing of it is missing.
    pub(super) fn whole(self) -> Option<AcquirerSection> {
        let party = self.party.whole()?;
        Some(AcquirerSection {
            switch: AcquirerConfig { name: party.name.clone(), ..self.switch },
            party,
            listen: self.listen?,
            timeout: self.timeout?,
        })
    }
}

impl IssuerDraft {
    /// The issuer, when nothing of it is missing.
    pub(super) fn whole(self) -> Option<IssuerSection> {
        let (party, reach, timeout) = (self.party.whole()?, self.reach?, self.timeout?);
        let addresses = match &reach {
            Reach::Dial { addresses, .. } => addresses.len(),
            Reach::Listen(_) => 0,
        };
        let pool = PoolConfig {
            link: party.link,
            addresses,
            connections: self.connections,
            backoff: self.backoff,
            in_flight: self.in_flight,
            silences: self.silences,
        };
        let switch = IssuerConfig {
            name: party.name.clone(),
            timeout,
            enquiry_timeout: self.enquiry_timeout,
            identifiers: self.identifiers,
            track_two: self.track_two,
            cryptograms: self.cryptograms,
            dedupes_repeats: self.dedupes_repeats,
            announce_cut_over: self.announce_cut_over,
            stand_in: self.stand_in,
        };
        let card_cryptograms = self.card_cryptograms;
        let (approval, doubts, notify) = (self.approval, self.doubts, self.notify);
        Some(IssuerSection { party, reach, pool, switch, approval, doubts, notify, card_cryptograms })
    }
}

impl RouteDraft {
    /// The route, when nothing of it is missing.
    pub(super) fn whole(self) -> Option<RouteSection> {
        Some(RouteSection { bin: self.bin?, issuer: self.issuer? })
    }
}

pub(super) fn acquirer(mut section: Section<'_>, dialects: &mut Dialects) -> AcquirerDraft {
    let party = party(&mut section, SignOn::Peer, dialects);
    let draft = AcquirerDraft {
        party,
        listen: listen(&mut section),
        timeout: section.need("timeout", duration),
        switch: AcquirerConfig {
            name: String::new(),
            institutions: section.list("institutions", word(InstitutionId::parse)),
            partial_approvals: section.or("partial_approvals", false, boolean),
            answer_on_any: section.or("answer_on", false, choice(&[("asking", false), ("any", true)])),
            sign_on_per_institution: section.or(
                "sign_on",
                false,
                choice(&[("connection", false), ("institution", true)]),
            ),
            refunds: amount(section.table("refunds")),
            authorization_is_capture: section.or("authorization_is_capture", false, boolean),
            completions_percent: section.or("completions_percent", 120, number(100, 1_000)),
            announce_cut_over: section.or("announce_cut_over", false, boolean),
        },
    };
    section.finish();
    draft
}

pub(super) fn issuer(mut section: Section<'_>, dialects: &mut Dialects) -> IssuerDraft {
    let party = party(&mut section, SignOn::Us, dialects);
    let reach = reach(&mut section);
    let timeout = section.need("timeout", duration);
    let identifiers = choice(&[("own", Identifiers::Own), ("pass", Identifiers::Pass)]);
    let track_two = choice(&[("drop", TrackTwo::Drop), ("rebuild", TrackTwo::Rebuild)]);
    let cryptograms_of = choice(&[("check", Cryptograms::Checked), ("pass", Cryptograms::Passed)]);
    let in_flight = section.or("in_flight_per_connection", 1_024, number(1, 65_536));
    let silences = section.or("silences", 5, number(0, 1_000));
    let backoff = Backoff {
        least: section.or("redial_least", Duration::from_millis(250), duration),
        most: section.or("redial_most", Duration::from_secs(30), duration),
    };
    if backoff.least > backoff.most {
        section.fault("redial_least", "is longer than redial_most");
    }
    let draft = IssuerDraft {
        party,
        reach,
        timeout,
        enquiry_timeout: section.or("enquiry_timeout", Duration::from_secs(5), duration),
        identifiers: section.or("identifiers", Identifiers::Own, identifiers),
        track_two: section.or("track2", TrackTwo::Drop, track_two),
        cryptograms: section.or("cryptograms", Cryptograms::Checked, cryptograms_of),
        connections: section.or("connections", 2, count(1, 1_000)),
        backoff,
        in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
        silences: u32::try_from(silences).unwrap_or(u32::MAX),
        dedupes_repeats: section.or("dedupes_repeats", false, boolean),
        announce_cut_over: section.or("announce_cut_over", false, boolean),
        stand_in: stand_in(section.table("stand_in")),
        approval: section.or("approval", ApprovalRule::Off, choice(APPROVALS)),
        doubts: doubts(&mut section),
        notify: section.may("notify", endpoint),
        card_cryptograms: cryptograms(&mut section, "card_cryptogram_profile", "card_cryptogram_key"),
    };
    section.finish();
    draft
}

/// About what the issuer's yes waits for the cardholder's proof.
fn doubts(section: &mut Section<'_>) -> Doubts {
    let trust_least = section.or("trust_least", 2, number(1, 5));
    let trust_least = u8::try_from(trust_least).ok().and_then(TrustScore::new).unwrap_or(TrustScore::SECOND);
    Doubts {
        trust_least,
        sources: section.list("doubted_sources", word(PanSource::parse)),
        locations: section.list("doubted_locations", choice(LOCATIONS)),
    }
}

/// What may be approved in the issuer's place.
fn stand_in(mut section: Section<'_>) -> Option<StandInTerms> {
    let there = section.is_there();
    let limit = count(1, 1_000);
    let count = if there { section.need("count", limit) } else { section.may("count", limit) };
    let period = section.or("period", Duration::from_secs(86_400), duration);
    let categories = section.list("categories", word(MerchantCategory::parse));
    let entry_modes = section.list("entry_modes", word(EntryMode::parse));
    let assurances = section.list("assurances", word(TokenAssuranceMethod::stated));
    let most = amount(section);
    Some(StandInTerms { most: most?, count: count?, period, categories, entry_modes, assurances })
}

/// What an issuer may have agreed, as written.
const APPROVALS: &[(&str, ApprovalRule)] = &[
    ("off", ApprovalRule::Off),
    ("ask", ApprovalRule::Ask),
    ("green", ApprovalRule::AlwaysGreen),
    ("step-up", ApprovalRule::AlwaysStepUp),
];

pub(super) fn route(mut section: Section<'_>) -> RouteDraft {
    let path = section.path().to_owned();
    let (bin, issuer) = (section.need("bin", word(Bin::parse)), section.need("issuer", link_id));
    section.finish();
    RouteDraft { path, bin, issuer }
}

/// A party's number, by which the journal remembers it for as long as the journal is kept.
pub(super) fn link_id(value: &toml::de::DeValue<'_>) -> Result<LinkId, String> {
    number(1, 65_535)(value).map(|id| LinkId(u16::try_from(id).unwrap_or_default()))
}

fn party(section: &mut Section<'_>, sign_on: SignOn, dialects: &mut Dialects) -> PartyDraft {
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
    PartyDraft { path: section.path().to_owned(), link, name, dialect, framing, session, limits }
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
