//! The journal read back into a core: what was answered, what is to be delivered, and what had no outcome when the
//! process ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codec::DataElement;
use crate::journal::{
    AcquirerLeg, Body, CardRef, Elements, Entry, EntryNumber, Family, OutcomeEntry, PastTransaction,
    RequestEntry, StoredEntry, StoredKind, TransactionEntry,
};
use crate::link::ConnectionId;
use crate::stdx::clock::Now;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{Amount, MessageClass, Outcome, ProcessingCode, Refusal, SettlementWindow, TransactionId};

use super::answered::{Answered, Share, ShareKind};
use super::cards::Cards;
use super::config::SwitchConfig;
use super::core::SwitchCore;
use super::event::{Account, Action, AnswerKind, CardMark, Past};
use super::request::{Compared, Request, RequestKind};
use super::transaction::{Original, Routed};
use super::unfinished::{Owed, Parked, Unfinished};

/// Why the journal does not lead back to a state.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error("the card of transaction {0} does not open: its key is missing, or the entry was altered")]
    CardSealed(TransactionId),
    #[error("transaction {0} is in the journal without its processing code or amount")]
    Incomplete(TransactionId),
    #[error("entry {0} is an operator's decision in a layout that this program does not know")]
    UnknownAct(EntryNumber),
}

/// Takes entries in their order, and gives the core that they lead to.
pub struct Recovery<'a> {
    core: SwitchCore,
    cards: &'a Cards,
    unfinished: Unfinished,
    /// What all entries up to this one left, when that is known already: they only bring their answers back.
    known: Option<(EntryNumber, Unfinished)>,
}

/// What was found, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Requests that had no outcome.
    pub without_outcome: usize,
    /// Advices and reversals still to be delivered.
    pub to_deliver: usize,
    /// Answers remembered for repeats.
    pub answered: usize,
}

impl<'a> Recovery<'a> {
    /// Takes the journal's entries from the first on.
    #[must_use]
    pub fn new(config: SwitchConfig, window: SettlementWindow, cards: &'a Cards) -> Self {
        let unfinished = Unfinished::new(config.limits);
        Self { core: SwitchCore::new(config, window), cards, unfinished, known: None }
    }

    /// Goes on from what all entries up to `number` left unfinished. Takes the entries from `Unfinished::answers_from`
    /// on.
    #[must_use]
    pub fn resume(
        config: SwitchConfig,
        window: SettlementWindow,
        cards: &'a Cards,
        (number, unfinished): (EntryNumber, Unfinished),
    ) -> Self {
        let mut recovery = Self::new(config, window, cards);
        if let Some(milestone) = unfinished.answers.milestones.front() {
            recovery.core.recall_forgotten(&milestone.newest);
        }
        recovery.known = Some((number, unfinished));
        recovery
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// The entry is authentic and yet cannot be used: nothing may start on it.
    pub fn observe(&mut self, entry: &Entry) -> Result<(), RecoveryError> {
        if let Some((_, unfinished)) = self.known.take_if(|(number, _)| entry.number > *number) {
            self.unfinished = unfinished;
        }
        let ended = self.unfinished.take(entry)?;
        match (&entry.body, ended) {
            (Body::Transaction(TransactionEntry::Request(request)), _) => self.core.recall_asked(request),
            (Body::Transaction(TransactionEntry::Outcome(outcome)), Some(ended)) => {
                let mut answered = answered(&ended.request, outcome, self.cards)?;
                answered.reversed |= ended.reversed;
                self.core.recall(outcome.transaction, answered);
            }
            (Body::Transaction(TransactionEntry::Stored(stored)), _) => self.stored(stored)?,
            _ => {}
        }
        Ok(())
    }

    fn stored(&mut self, stored: &StoredEntry) -> Result<(), RecoveryError> {
        if let Some(original) = stored.original.filter(|_| stored.is_reversal()) {
            self.core.recall_reversed(original, stored);
        }
        if let Some(leg) = stored.acquirer {
            let answered = taken_over(stored, leg, mark(self.cards, &stored.card, stored.sealed_for())?);
            self.core.recall(stored.transaction, answered);
        }
        Ok(())
    }

    /// The core, with what it must do first: every request without an outcome is closed, and reversed if it could
    /// have moved money.
    ///
    /// # Errors
    /// As `observe`.
    pub fn finish(
        self,
        now: Now,
        actions: &mut Vec<Action>,
    ) -> Result<(SwitchCore, Recovered), RecoveryError> {
        let Self { mut core, cards, unfinished, known } = self;
        let unfinished = known.map_or(unfinished, |(_, unfinished)| unfinished);
        let recovered = Recovered {
            without_outcome: unfinished.open.len(),
            to_deliver: unfinished.stored.len(),
            answered: core.answered(),
        };
        core.continue_after(TransactionId(unfinished.last_transaction), &unfinished.last_numbers);
        core.recall_parked(unfinished.ever_parked);
        unfinished.windows.iter().for_each(|window| core.recall_window(*window));
        unfinished.tombstones.values().for_each(|(_, tombstone)| core.recall_tombstone(tombstone));
        for (at, advice) in unfinished.stood_in.values().flat_map(BTreeMap::values) {
            let mark = mark(cards, &advice.card, advice.sealed_for())?;
            core.recall_stood_in(advice, mark, *at);
        }
        let is_open = |original: TransactionId| unfinished.open.contains_key(&original);
        for Parked { owed: Owed { since, message, .. }, code, taken_back } in unfinished.parked.into_values()
        {
            let mark = mark(cards, &message.card, message.sealed_for())?;
            core.restore_parked(message, (mark, since), code, taken_back);
        }
        let mut owed: Vec<Owed> = unfinished.stored.into_values().collect();
        owed.retain(|_| !sabotaged("owed-and-forgotten-at-restart"));
        // One entry may hold two, the first of which has the lower number.
        owed.sort_by_key(|owed| owed.number);
        for Owed { since, message, .. } in owed {
            let mark = mark(cards, &message.card, message.sealed_for())?;
            let held = message.original.filter(|_| message.is_reversal()).is_some_and(is_open);
            core.restore_stored(message, (mark, since), held, now);
        }
        // All of them, before the end of the first one could close a window that others still hold open.
        unfinished.open.values().for_each(|(_, _, request)| core.recall_open(request.window));
        for (id, (_, _, request)) in unfinished.open {
            let mark = mark(cards, &request.card, id)?;
            let compared = compared(&request.card, mark, &request.elements);
            let (routed, reversal) = (routed(&request, mark), unfinished.reversed.get(&id).copied());
            core.close_unfinished(&request, routed, compared, reversal, now, actions);
        }
        Ok((core, recovered))
    }
}

/// No connection of this run: who asked is gone.
pub(super) const NOBODY: ConnectionId = ConnectionId(u64::MAX);

fn mark(cards: &Cards, card: &CardRef, sealed_for: TransactionId) -> Result<CardMark, RecoveryError> {
    let opened = cards.open(card, sealed_for).map_err(|_| RecoveryError::CardSealed(sealed_for))?;
    Ok(cards.mark(&opened.pan))
}

/// A request with its outcome, as repeats and reversals look for it.
fn answered(
    request: &RequestEntry,
    outcome: &OutcomeEntry,
    cards: &Cards,
) -> Result<Answered, RecoveryError> {
    let id = request.transaction;
    let mark = mark(cards, &request.card, id)?;
    let compared = compared(&request.card, mark, &request.elements);
    if compared.processing.is_none() || compared.amount.is_none() {
        return Err(RecoveryError::Incomplete(id));
    }
    Ok(Answered {
        request: Arc::new(payment(request, compared)),
        asked_on: NOBODY,
        routed: Some(routed(request, mark)),
        outcome: outcome.outcome,
        answer: match (outcome.refusal, &outcome.advice) {
            (Some(refusal), _) => AnswerKind::Refused(refusal),
            (None, Some(_)) => AnswerKind::Accepted,
            (None, None) => AnswerKind::Passed,
        },
        elements: outcome.answer.clone(),
        approved: outcome.approved,
        reversed: outcome.reversal.is_some() && outcome.advice.is_none(),
        stood_in: outcome.advice.as_ref().map(|advice| advice.issuer),
        // Whether it was given is not known, and so it stands: its repeat gets it, its reversal undoes it.
        given: true,
        leaving: 0,
        shares: Vec::new(),
    })
}

/// A finished transaction as the history tells it, with what later ones made of it; `None` for one that has no answer,
/// or is none that others can be about.
pub(super) fn past(family: &Family, cards: &Cards) -> Result<Option<Past>, RecoveryError> {
    let Some(mut answered) = finished(&family.original, cards)? else { return Ok(None) };
    for follower in &family.followers {
        let by = follower.transaction;
        let share = match (finished(follower, cards)?, follower.request()) {
            (Some(after), _) => {
                let original = after.routed.as_ref().and_then(|it| it.original.as_deref());
                original.map(|it| Share { kind: it.kind, by, minor: after.standing(), settled: true })
            }
            // It has no outcome yet, and may get all that it asks for.
            (None, Some(asks)) => {
                let minor = asks.elements.amount().map_or(0, Amount::minor);
                original(asks).map(|it| Share { kind: it.kind, by, minor, settled: false })
            }
            (None, None) => None,
        };
        if let Some(share) = share {
            answered.set_share(share);
        }
    }
    Ok(Some(Past { transaction: family.original.transaction, answered: Box::new(answered) }))
}

fn finished(past: &PastTransaction, cards: &Cards) -> Result<Option<Answered>, RecoveryError> {
    let mut found = match (past.request(), past.outcome(), past.stored()) {
        (Some(request), Some(outcome), _) => answered(request, outcome, cards)?,
        (None, _, Some(stored)) => {
            let Some(leg) = stored.acquirer else { return Ok(None) };
            taken_over(stored, leg, mark(cards, &stored.card, stored.sealed_for())?)
        }
        _ => return Ok(None),
    };
    // What took back a request that was then stood in for took nothing of the approval.
    let own = past.outcome().filter(|outcome| outcome.advice.is_some()).and_then(|it| it.reversal.as_ref());
    let own = own.map(|reversal| reversal.transaction);
    let reversals = past.followers().filter(|follower| follower.is_reversal());
    reversals.filter(|it| own != Some(it.transaction)).for_each(|it| found.taken_back(it));
    Ok(Some(found))
}

/// The earlier transaction that a request is about.
pub(super) fn original(request: &RequestEntry) -> Option<Original> {
    named(request.original?, request.acquirer.mti.class, &request.elements)
}

fn named(transaction: TransactionId, class: MessageClass, elements: &Elements) -> Option<Original> {
    let processing = elements.get(DataElement::PROCESSING_CODE.number())?;
    let kind = ShareKind::of(class, ProcessingCode::parse(processing).ok()?.kind())?;
    Some(Original { transaction, kind, data: None })
}

/// A journaled payment, as it was asked.
pub(super) fn payment(entry: &RequestEntry, compared: Compared) -> Request {
    let (id, leg) = (entry.transaction, entry.acquirer);
    let request = Request::recalled(id, RequestKind::Payment, leg, compared, &entry.elements);
    Request { moves_money: entry.moves_money, ..request }
}

fn routed(request: &RequestEntry, mark: CardMark) -> Routed {
    Routed {
        card: request.card.clone(),
        mark,
        verdicts: request.verdicts,
        counter: request.counter,
        leg: request.issuer,
        window: request.window,
        settles: request.settles,
        original: original(request).map(Box::new),
    }
}

fn compared(card: &CardRef, mark: CardMark, elements: &Elements) -> Compared {
    let account = match &card.token {
        Some(token) => Account::Token(token.token),
        None => Account::Pan(mark),
    };
    Compared::recalled(account, elements)
}

/// An advice or reversal that was acknowledged.
fn taken_over(stored: &StoredEntry, leg: AcquirerLeg, mark: CardMark) -> Answered {
    let (kind, own) = match stored.kind {
        StoredKind::Advice | StoredKind::StandIn => (RequestKind::Advice, &stored.elements),
        StoredKind::AcquirerReversal | StoredKind::OwnReversal(_) => (RequestKind::Reversal, &stored.answer),
    };
    let compared = compared(&stored.card, mark, own);
    let of_advice = stored.original.filter(|_| !stored.is_reversal());
    let original = of_advice.and_then(|original| named(original, leg.mti.class, own));
    Answered {
        request: Arc::new(Request::recalled(stored.transaction, kind, leg, compared, own)),
        asked_on: NOBODY,
        routed: Some(Routed {
            card: stored.card.clone(),
            mark,
            verdicts: stored.verdicts,
            counter: None,
            leg: stored.issuer,
            window: stored.window,
            settles: stored.settles,
            original: original.map(Box::new),
        }),
        outcome: Outcome::Approved,
        answer: AnswerKind::Accepted,
        elements: Elements::default(),
        approved: None,
        reversed: false,
        given: true,
        leaving: 0,
        stood_in: None,
        shares: Vec::new(),
    }
}

/// The refusal under which a request without an outcome is closed: its repeat gets no approval any more.
pub(super) const WITHHELD: Refusal = Refusal::AnswerWithheld;
