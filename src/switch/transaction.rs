//! `Transaction`: one request between receipt and answer, and the states it may go through.

use std::sync::Arc;

use crate::journal::{CardRef, Elements, IssuerLeg, RequestEntry, StoredEntry};
use crate::link::ConnectionId;
use crate::stdx::clock::Moment;
use crate::tsp::Presentation;
use crate::vocab::{
    Amount, CounterTaken, LinkId, Outcome, Refusal, Service, SettlementWindow, TransactionId, VerdictResult,
    Verdicts,
};

use super::answered::ShareKind;
use super::event::{Action, Answer, AnswerKind, CardMark, Mapped};
use super::request::{PanCard, Request};

/// Where a payment stands. It only moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransactionState {
    /// The TSP is looking at the token.
    Detokenizing,
    /// The request is on its way to the disk; nothing has left.
    Journaling,
    /// A byte of it may have left for the issuer.
    Forwarded,
    /// Its outcome is on its way to the disk; the acquirer has not been told.
    Concluding,
}

/// A payment in flight.
#[derive(Debug)]
pub struct Transaction {
    pub request: Arc<Request>,
    pub state: TransactionState,
    /// The connection that asked last: a repeat moves the answer to the newest.
    pub asking: ConnectionId,
    /// The message that asked last: the answer has its account and its frame's header.
    pub asked_by: TransactionId,
    pub deadline: Moment,
    /// The transaction that it refunds, completes or raises.
    pub parent: Option<Box<Parent>>,
    pub routed: Option<Routed>,
    /// Its link was lost after a byte of it may have left, and the issuer is asked again.
    pub repeated: bool,
    /// The acquirer's reversal that waits for the outcome.
    pub reversal: Option<TransactionId>,
    pub conclusion: Option<Conclusion>,
}

/// What is known once the card is.
#[derive(Debug, Clone)]
pub struct Routed {
    pub card: Arc<CardRef>,
    pub mark: CardMark,
    pub verdicts: Verdicts,
    pub counter: Option<CounterTaken>,
    pub leg: IssuerLeg,
    pub window: SettlementWindow,
    /// Whether an approval is money owed in that window, and no mere hold.
    pub settles: bool,
    /// The transaction that it refunds, completes or raises.
    pub original: Option<Box<Original>>,
}

impl Routed {
    /// Nobody here can check its cryptogram.
    #[must_use]
    pub(super) fn is_for_issuer_to_check(&self) -> bool {
        self.verdicts.of(Service::Cryptogram) == Some(VerdictResult::NotVerified)
    }

    /// The vault record, and the counter of a cryptogram that its issuer has found true: it approved.
    #[must_use]
    pub(super) fn found_true(&self) -> Option<(u64, CounterTaken)> {
        let counter = self.counter.filter(|_| self.is_for_issuer_to_check());
        Some((self.card.token.as_ref()?.record, counter?))
    }
}

/// An earlier transaction that a later one is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Original {
    pub transaction: TransactionId,
    /// What the later one is to it.
    pub kind: ShareKind,
    /// DE 90 as its issuer knows it; not kept over a restart.
    pub data: Option<[u8; 42]>,
}

/// That transaction with its card: what has happened goes to the card that it happened with.
#[derive(Debug, Clone)]
pub struct Parent {
    pub original: Original,
    pub card: Arc<CardRef>,
    pub mark: CardMark,
    pub issuer: LinkId,
}

/// How a payment ends.
#[derive(Debug, Clone)]
pub struct Conclusion {
    pub outcome: Outcome,
    pub kind: AnswerKind,
    pub elements: Elements,
    pub approved: Option<Amount>,
    pub reversal: Option<Box<StoredEntry>>,
    /// It was approved in the issuer's place: what tells it so.
    pub advice: Option<Box<StoredEntry>>,
}

/// A card found: by the vault, or in the request itself.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub card: Arc<CardRef>,
    pub mark: CardMark,
    pub issuer: Option<LinkId>,
    pub verdicts: Verdicts,
    pub counter: Option<CounterTaken>,
    pub original: Option<Box<Original>>,
}

impl Found {
    /// The card of its original, where the token may lead to another by now, and its issuer, wherever the card is
    /// routed by now. Where that `is_there` no more, the same card goes where it is routed, whose issuer has no name
    /// for the original.
    #[must_use]
    pub(super) fn of_original(
        self,
        parent: Option<Box<Parent>>,
        is_there: impl FnOnce(LinkId) -> bool,
    ) -> Self {
        let Some(parent) = parent else { return self };
        let Parent { original, card, mark, issuer } = *parent;
        if !is_there(issuer) && self.mark == mark {
            let original = Some(Box::new(Original { data: None, ..original }));
            return Self { original, ..self };
        }
        let original = Some(Box::new(original));
        match self.card.token {
            Some(_) => Self { card, mark, issuer: Some(issuer), original, ..self },
            None => Self { issuer: Some(issuer), original, ..self },
        }
    }

    /// The vault record and the counter that were taken with it.
    #[must_use]
    pub(super) fn taken(&self) -> Option<(u64, CounterTaken)> {
        Some((self.card.token.as_ref()?.record, self.counter?))
    }
}

impl Found {
    /// The vault record with which this payment counts, if that is limited.
    #[must_use]
    pub(super) fn counted(&self) -> Option<u64> {
        let counts = self.verdicts.of(Service::Velocity) == Some(VerdictResult::Good);
        self.card.token.as_ref().filter(|_| counts).map(|token| token.record)
    }
}

impl From<Mapped> for Found {
    fn from(mapped: Mapped) -> Self {
        Self {
            card: mapped.card,
            mark: mapped.mark,
            issuer: mapped.issuer,
            verdicts: mapped.verdicts,
            counter: mapped.counter,
            original: None,
        }
    }
}

impl From<PanCard> for Found {
    fn from(pan: PanCard) -> Self {
        Self {
            card: pan.card,
            mark: pan.mark,
            issuer: pan.issuer,
            verdicts: Verdicts::default(),
            counter: None,
            original: None,
        }
    }
}

impl From<&Parent> for Found {
    /// For a token that the vault does not know any more.
    fn from(parent: &Parent) -> Self {
        Self {
            card: Arc::clone(&parent.card),
            mark: parent.mark,
            issuer: Some(parent.issuer),
            verdicts: Verdicts::default(),
            counter: None,
            original: None,
        }
    }
}

impl Conclusion {
    /// This switch says no.
    #[must_use]
    pub fn refused(refusal: Refusal, outcome: Outcome) -> Self {
        Self {
            outcome,
            kind: AnswerKind::Refused(refusal),
            elements: Elements::default(),
            approved: None,
            reversal: None,
            advice: None,
        }
    }

    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self.kind {
            AnswerKind::Refused(refusal) => Some(refusal),
            AnswerKind::Passed | AnswerKind::Accepted => None,
        }
    }
}

impl Transaction {
    #[must_use]
    pub fn new(request: Arc<Request>, asking: ConnectionId, deadline: Moment) -> Self {
        Self {
            asked_by: request.transaction,
            request,
            state: TransactionState::Detokenizing,
            asking,
            deadline,
            parent: None,
            routed: None,
            repeated: false,
            reversal: None,
            conclusion: None,
        }
    }

    /// What the journal is told before the request is forwarded.
    #[must_use]
    pub fn request_entry(&self, routed: &Routed) -> RequestEntry {
        RequestEntry {
            transaction: self.request.transaction,
            original: routed.original.as_ref().map(|original| original.transaction),
            acquirer: self.request.leg,
            issuer: routed.leg,
            elements: self.request.elements.clone(),
            card: routed.card.clone(),
            verdicts: routed.verdicts,
            counter: routed.counter.filter(|_| !routed.is_for_issuer_to_check()),
            window: routed.window,
            moves_money: self.request.moves_money,
            settles: routed.settles,
        }
    }

    /// The vault record and the counter that this payment took.
    #[must_use]
    pub fn taken(&self) -> Option<(u64, CounterTaken)> {
        let routed = self.routed.as_ref()?;
        Some((routed.card.token.as_ref()?.record, routed.counter?))
    }

    /// Gives back what it took, to be presented once more as it was here.
    #[must_use]
    pub(super) fn release(&self, (record, counter): (u64, CounterTaken)) -> Action {
        let by = Presentation {
            acquirer: self.request.leg.link,
            terminal: self.request.key.terminal,
            amount: self.request.compared.amount,
        };
        Action::ReleaseCounter { record, counter, by }
    }

    /// The answer to whoever asked last.
    #[must_use]
    pub fn answer(&self, kind: AnswerKind) -> Answer {
        let card = self.routed.as_ref().map(|routed| routed.card.clone());
        Answer { card, asked_by: self.asked_by, ..Answer::to(&self.request, self.asking, kind) }
    }
}
