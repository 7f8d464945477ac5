//! `SwitchConfig`: what the core and the node need to know, resolved; no serde, no files.

use std::time::Duration;

use crate::stdx::clock::Wall;
use crate::stdx::maps::Map;
use crate::vocab::{Amount, BusinessDate, InstitutionId, LinkId, SettlementWindow};

use super::route::RouteTable;
use super::stand_in::StandInTerms;

/// Everything the switch was told.
#[derive(Debug, Clone)]
pub struct SwitchConfig {
    /// This switch's own institution id, DE 33 towards issuers.
    pub institution: InstitutionId,
    pub acquirers: Map<LinkId, AcquirerConfig>,
    pub issuers: Map<LinkId, IssuerConfig>,
    pub routes: RouteTable,
    pub limits: Limits,
    pub store_forward: StoreForwardConfig,
    /// How long an answer that could not be given waits for a repeat before it is reversed.
    pub undelivered_grace: Duration,
    /// How long repeats are remembered; a request whose DE 7 is older is declined.
    pub repeat_window: Duration,
    /// Time of day, in UTC, at which the next business date begins; midnight is zero.
    pub cut_over: Duration,
}

/// One acquirer.
#[derive(Debug, Clone)]
pub struct AcquirerConfig {
    pub name: String,
    /// What DE 32 and DE 33 may say; empty lets everything pass.
    pub institutions: Vec<InstitutionId>,
    /// Whether DE 39 = 10 (approved in part) may be given to it.
    pub partial_approvals: bool,
    /// Whether an answer may go to another connection of the link when the asking one is gone.
    pub answer_on_any: bool,
    /// Whether one signed-on connection lets all connections of the link ask.
    pub sign_on_per_institution: bool,
    /// Its 0100 and 0120 move money by themselves: no completion follows.
    pub authorization_is_capture: bool,
    /// The most that completions which it asks for (0200) may come to, in percent of what is held: 100 or more.
    pub completions_percent: u64,
    /// Whether it is told that the next settlement window has begun (DE 70 = 201).
    pub announce_cut_over: bool,
    /// The most that a refund may come to that names no original of ours; none: it may ask for no such refund.
    pub refunds: Option<Amount>,
}

/// Which identifiers a request carries on the issuer's side (`own` is the default).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identifiers {
    /// DE 11 from the link's counter, DE 7 the time of sending.
    Own,
    /// DE 7 and DE 11 as the acquirer sent them.
    Pass,
}

/// What becomes of track 2 of a token on the way to the issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackTwo {
    Drop,
    Rebuild,
}

/// Who checks the chip cryptograms of an issuer's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cryptograms {
    /// The vault; what an issuer would say to the chip is under a key that the chip has not.
    Checked,
    /// The issuer: chip data go to it as they came, and what it says to the chip goes back.
    Passed,
}

/// One issuer.
#[derive(Debug, Clone)]
pub struct IssuerConfig {
    pub name: String,
    /// From the receipt of the acquirer's frame to the time-out answer.
    pub timeout: Duration,
    /// How long it is waited for when it is asked whether a card may have a token.
    pub enquiry_timeout: Duration,
    pub identifiers: Identifiers,
    pub track_two: TrackTwo,
    pub cryptograms: Cryptograms,
    /// It answers a repeat (xxx1) like the first and charges once: when a link is lost it is asked again.
    pub dedupes_repeats: bool,
    /// As an acquirer's.
    pub announce_cut_over: bool,
    /// What may be approved in its place; none: nothing.
    pub stand_in: Option<StandInTerms>,
}

/// The bounds of everything that could grow. Past each a new request is refused; answers, reversals and advices
/// have room of their own.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests between receipt and answer.
    pub in_flight: usize,
    /// Answers remembered for repeats and reversals.
    pub answered: usize,
    /// Reversals of unknown originals remembered.
    pub tombstones: usize,
    /// Advices and reversals waiting for one issuer, places reserved for reversals included; requests have seven
    /// eighths of it.
    pub stored: usize,
    /// Messages that wait for what the history knows of their original; as many originals out of it are remembered.
    pub look_ups: usize,
    /// Later messages that may have a share in one transaction: refunds, completions, raises.
    pub followers: usize,
    /// Approvals in one issuer's place that are remembered for their cards' counts.
    pub stand_in: usize,
}

/// How advices and reversals are brought to an issuer.
#[derive(Debug, Clone, Copy)]
pub struct StoreForwardConfig {
    /// How long an acknowledgement is waited for.
    pub timeout: Duration,
    /// The first pause after a failed attempt; it doubles up to `pause_most`.
    pub pause_least: Duration,
    pub pause_most: Duration,
    /// How many may be unacknowledged at one issuer at once.
    pub at_once: usize,
    /// What is owed for longer stands in the operator's exception list; it is tried still.
    pub age_limit: Duration,
}

impl Limits {
    /// How many transactions of one name a look-up reads: one with all that may have a share in it, twice over, since
    /// each may have been taken back under the same DE 37, and as many again.
    #[must_use]
    pub fn namesakes(&self) -> usize {
        self.followers.saturating_mul(4)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: 65_536,
            answered: 1_000_000,
            tombstones: 100_000,
            stored: 1_000_000,
            look_ups: 1_024,
            followers: 100,
            stand_in: 100_000,
        }
    }
}

impl Default for StoreForwardConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            pause_least: Duration::from_secs(1),
            pause_most: Duration::from_secs(60),
            at_once: 64,
            age_limit: Duration::from_secs(86_400),
        }
    }
}

impl StoreForwardConfig {
    /// The pause after one that was followed by so many doublings.
    #[must_use]
    pub fn pause(&self, doublings: u32) -> Duration {
        self.pause_least.saturating_mul(1 << doublings.min(16)).min(self.pause_most)
    }
}

impl SwitchConfig {
    /// The window in which a request of that moment counts: after the cut-over it is the next day's.
    #[must_use]
    pub fn window(&self, wall: Wall) -> SettlementWindow {
        let day = Duration::from_secs(86_400);
        let shift = if self.cut_over.is_zero() { Duration::ZERO } else { day.saturating_sub(self.cut_over) };
        SettlementWindow { date: BusinessDate::of(wall.plus(shift)), sequence: 1 }
    }

    /// The longest time that any issuer is waited for: retired numbers rest past it.
    #[must_use]
    pub fn longest_timeout(&self) -> Duration {
        self.issuers.values().map(|issuer| issuer.timeout).max().unwrap_or_default()
    }
}
