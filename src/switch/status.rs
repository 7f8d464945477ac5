//! `SwitchStatus`: the read-only picture of the switch, for metrics, the console and the demo; `Counts` and
//! `NodeCounts`, what core and node have done since they started.

use std::sync::{Arc, Mutex, PoisonError};

use crate::link::PoolFill;
use crate::stdx::clock::Moment;
use crate::vocab::{Currency, LinkId, Outcome, Refusal};

use super::config::Limits;
use super::store_forward::Standing;
use super::transaction::Conclusion;

/// The picture, taken a few times a second. Clones look at the same one.
#[derive(Debug, Clone, Default)]
pub struct SwitchStatus(Arc<Mutex<Picture>>);

/// How the switch stands.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    /// When it was taken.
    pub taken: Moment,
    pub counts: Counts,
    pub node: NodeCounts,
    pub links: Vec<LinkStatus>,
    /// Issuers that are owed something and are not in the configuration.
    pub absent: Vec<AbsentIssuer>,
    /// Payments between receipt and answer.
    pub in_flight: usize,
    /// Advices and reversals that issuers have not acknowledged.
    pub stored: usize,
    /// Answers remembered for repeats and reversals.
    pub answered: usize,
    /// Reversals of unknown originals remembered.
    pub tombstones: usize,
    /// Approvals that could not be given and are not reversed yet.
    pub undelivered: usize,
    /// Settlement windows that are over and not closed.
    pub windows_waiting: usize,
    /// Approvals in issuers' places that are remembered.
    pub stood_in: usize,
    /// Messages that wait for the history.
    pub looking: usize,
    /// Taps that wait until their cryptogram is checked.
    pub unchecked: usize,
    /// Entries that the journal has no room for now.
    pub held_back: usize,
    /// What a person must look at, summed up once a second.
    pub suspense: Vec<Suspense>,
    pub limits: Limits,
    /// Whether new requests are taken on: not while draining, nor without room in the journal.
    pub takes_requests: bool,
}

/// An issuer that is not in the configuration, and is owed something from the time when it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbsentIssuer {
    pub link: LinkId,
    /// What it is called.
    pub name: String,
    pub stored: usize,
}

impl AbsentIssuer {
    #[must_use]
    pub fn new((link, stored): (LinkId, usize)) -> Self {
        Self { link, name: Self::name_of(link), stored }
    }

    /// Its number, and that it is not there: nobody knows its name any more.
    #[must_use]
    pub fn name_of(link: LinkId) -> String {
        format!("absent-{link}")
    }
}

/// The exceptions of one issuer, of one standing, in one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspense {
    pub issuer: LinkId,
    pub standing: Standing,
    /// None of those whose amount cannot be read.
    pub currency: Option<Currency>,
    pub count: usize,
    /// In minor units.
    pub minor: u64,
}

/// One link's connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    pub link: LinkId,
    pub name: String,
    pub is_issuer: bool,
    pub connections: usize,
    /// Signed on.
    pub up: usize,
    /// Places taken in its store: advices, reversals, and what is kept for requests in flight. None of an acquirer.
    pub stored: usize,
    /// Of an issuer.
    pub pool: PoolFill,
}

impl Picture {
    /// Whether any issuer has a connection that takes requests: it is signed on, and not set aside.
    #[must_use]
    pub fn reaches_issuers(&self) -> bool {
        self.links.iter().any(|link| link.is_issuer && link.pool.room > 0)
    }
}

impl SwitchStatus {
    /// The latest picture.
    #[must_use]
    pub fn picture(&self) -> Picture {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn publish(&self, picture: Picture) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = picture;
    }
}

/// Numbers that only grow.
#[derive(Debug, Clone)]
pub struct Counts {
    /// Requests, advices and reversals from acquirers, repeats included.
    pub received: u64,
    pub repeats: u64,
    pub advices: u64,
    /// Reversals from acquirers.
    pub reversals: u64,
    /// Reversals that this switch owed.
    pub own_reversals: u64,
    pub approved: u64,
    /// Declined by issuers.
    pub declined: u64,
    /// Refused here, by `Refusal::ALL`'s order.
    refused: Vec<u64>,
    /// Answers that came after the time-out.
    pub late: u64,
    /// Answers that matched nothing.
    pub unmatched: u64,
    /// Payments approved in their issuer's place; not approved though there were terms; and approved against the
    /// issuer's later word.
    pub stood_in: u64,
    pub stand_in_refused: u64,
    pub stand_in_disputed: u64,
    /// Messages for whose original the history was asked, and how often it could not say.
    pub look_ups: u64,
    pub look_ups_failed: u64,
    /// Approvals that could not be handed to their acquirer's socket.
    pub undelivered: u64,
    /// Advices and reversals left unanswered for want of room, so that they come again.
    pub unanswered: u64,
    /// Stored messages that issuers acknowledged.
    pub delivered: u64,
    /// Stored messages to which issuers said no.
    pub parked: u64,
    /// Issuers asked whether a card may have a token.
    pub enquiries: u64,
    /// Of these, without an answer that could be believed.
    pub enquiries_unanswered: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            received: 0,
            repeats: 0,
            advices: 0,
            reversals: 0,
            own_reversals: 0,
            approved: 0,
            declined: 0,
            refused: vec![0; Refusal::ALL.len()],
            late: 0,
            unmatched: 0,
            stood_in: 0,
            stand_in_refused: 0,
            stand_in_disputed: 0,
            look_ups: 0,
            look_ups_failed: 0,
            undelivered: 0,
            unanswered: 0,
            delivered: 0,
            parked: 0,
            enquiries: 0,
            enquiries_unanswered: 0,
        }
    }
}

impl Counts {
    pub(super) fn refused(&mut self, refusal: Refusal) {
        if let Some(count) = self.refused.get_mut(refusal as usize) {
            *count += 1;
        }
    }

    pub(super) fn concluded(&mut self, conclusion: &Conclusion) {
        match (conclusion.outcome, conclusion.refusal()) {
            (_, Some(refusal)) => self.refused(refusal),
            (Outcome::Approved | Outcome::ApprovedPartly, None) => self.approved += 1,
            (_, None) => self.declined += 1,
        }
    }

    /// Of every refusal, by `Refusal::ALL`'s order, how often it was given.
    pub(super) fn all_refusals(&self) -> impl Iterator<Item = u64> {
        self.refused.iter().copied()
    }

    /// How often each refusal was given.
    pub fn refusals(&self) -> impl Iterator<Item = (Refusal, u64)> {
        Refusal::ALL.iter().copied().zip(self.refused.iter().copied()).filter(|(_, count)| *count > 0)
    }
}

/// What the node has seen on the wires since it started.
#[derive(Debug, Clone, Default)]
pub struct NodeCounts {
    pub frames: u64,
    /// Messages that could not be read.
    pub malformed: u64,
    /// Answers from acquirers, requests from issuers, network answers with a MAC.
    pub unexpected: u64,
    /// Answers to network messages that nobody had asked for.
    pub unmatched_network: u64,
    /// Messages that a link's dialect could not say.
    pub unencodable: u64,
    /// Card envelopes that did not open.
    pub unopened: u64,
    /// Answers in which the last scan found the PAN.
    pub leaks: u64,
}
