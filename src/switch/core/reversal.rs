//! Reversals: an acquirer's, found or not; our own, owed for a request whose outcome cannot stand.

use std::sync::Arc;

use crate::codec::{DataElement, OriginalData};
use crate::journal::{
    Elements, IssuerLeg, OriginalIdentity, StoredEntry, StoredKind, TombstoneEntry, TransactionEntry,
};
use crate::link::ConnectionId;
use crate::stdx::clock::Now;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{
    Amount, InstitutionId, MessageClass, MessageFunction, Mti, Outcome, Refusal, ReversalReason, SentAt,
    TransactionId, Verdicts,
};

use super::super::answered::{Answered, OriginalKey, Share, TakingBack};
use super::super::event::{Action, Answer, AnswerKind, Concern};
use super::super::request::{Request, RequestKind};
use super::super::transaction::{Conclusion, Routed, TransactionState};
use super::original::leaves_part;
use super::{Acknowledgement, Outstanding, SwitchCore, Then};

/// What a reversal needs of its original.
#[derive(Debug, Clone)]
pub(super) struct Owing {
    pub(super) original: TransactionId,
    pub(super) elements: Elements,
}

/// What an acquirer's reversal found.
enum Found {
    InFlight(TransactionId),
    Answered(TransactionId),
    /// It waits for the history itself.
    Looking(TransactionId),
    Unknown,
}

impl SwitchCore {
    /// An acquirer's 0400 or 0420, not seen before: taken over once durable, whatever became of the original.
    pub(super) fn reversal_received(
        &mut self,
        request: Arc<Request>,
        from: ConnectionId,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(data) = request.original.clone() else { return };
        self.counts.reversals += 1;
        let found = self.find_original(&request, &data, now);
        if let Found::InFlight(known) | Found::Answered(known) | Found::Looking(known) = found {
            let message = request.transaction;
            actions.push(Action::Concerns { message, known, concern: Concern::Reversal });
        }
        match found {
            Found::InFlight(original) => self.reverse_in_flight(request, from, original, now, actions),
            Found::Answered(original) => self.reverse_known(request, from, original, now, actions),
            Found::Looking(original) => self.reverse_looking(request, from, original, now, actions),
            Found::Unknown => self.reverse_unknown(request, from, now, actions),
        }
    }

    fn reverse_unknown(
        &mut self,
        request: Arc<Request>,
        from: ConnectionId,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        self.counts.refused(Refusal::UnknownOriginal);
        self.bury(request, from, AnswerKind::Refused(Refusal::UnknownOriginal), now, actions);
    }

    /// The one request that DE 90, card, currency and amount agree on; several are as good as none.
    fn find_original(&self, request: &Request, data: &OriginalData, now: Now) -> Found {
        let undone =
            |id: &TransactionId| self.known(*id).is_some_and(|original| self.undoes(request, *id, original));
        let mut found = self.originals(request, data, now);
        found.retain(undone);
        match self.only(found, data, |id| *id) {
            None => Found::Unknown,
            Some(id) if self.in_flight.contains_key(&id) => Found::InFlight(id),
            Some(id) if self.looking.contains_key(&id) => Found::Looking(id),
            Some(id) => Found::Answered(id),
        }
    }

    /// Whether a reversal that may be of that original is, by its amount. Less is meant where DE 95 says what is to
    /// stand, or where it is what was approved: of anything else nobody knows what is to be left.
    fn undoes(&self, reversal: &Request, id: TransactionId, original: &Request) -> bool {
        let (asks, of) = (&reversal.compared, &original.compared);
        let Some((undone, done)) = asks.amount.zip(of.amount) else { return false };
        let approved = || self.answered.get(id).and_then(|answered| answered.approved);
        match reversal.elements.final_amount() {
            _ if undone == done => true,
            Some(left) => left.minor() <= undone.minor() && undone.minor() <= done.minor(),
            None => approved() == Some(undone),
        }
    }

    /// The original is still with the issuer, or on its way there: our 0420 must not overtake it.
    fn reverse_in_flight(
        &mut self,
        request: Arc<Request>,
        from: ConnectionId,
        original: TransactionId,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(transaction) = self.in_flight.get(&original) else { return };
        let elements = transaction.request.elements.clone();
        let unsent = transaction.state < TransactionState::Forwarded;
        if unsent && transaction.request.kind == RequestKind::Advice && leaves_part(&request) {
            // As one that is being looked for: what is to stand of it can be said once it is taken over.
            return self.leave_for_later(&request, actions);
        }
        let advice = transaction.conclusion.as_ref().and_then(|conclusion| conclusion.advice.as_deref());
        let told = advice.map(|advice| advice.issuer);
        let routed = transaction.routed.clone().filter(|_| !unsent);
        // What was approved in the issuer's place it knows by the advice.
        let routed = routed.map(|routed| Routed { leg: told.unwrap_or(routed.leg), ..routed });
        let Some(routed) = routed else {
            // Not forwarded yet: it will not be, and there is nothing to deliver.
            if let Some(transaction) = self.in_flight.get_mut(&original) {
                transaction.reversal = Some(request.transaction);
            }
            return self.bury(request, from, AnswerKind::Accepted, now, actions);
        };
        let nothing_to_undo = |conclusion: &Conclusion| {
            let approved = matches!(conclusion.outcome, Outcome::Approved | Outcome::ApprovedPartly);
            !approved || conclusion.reversal.is_some() && conclusion.advice.is_none()
        };
        if transaction.reversal.is_some() || transaction.conclusion.as_ref().is_some_and(nothing_to_undo) {
            return self.acknowledge_only(request, from, actions);
        }
        let owing = Owing { original, elements };
        let mut entry = self.acquirers_reversal(&request, owing, &routed, now);
        // The acquirer is told that the original is declined: nothing of it may stand.
        entry.elements.leave_nothing();
        if let Some(transaction) = self.in_flight.get_mut(&original) {
            transaction.reversal = Some(request.transaction);
        }
        self.take_over(request, from, (entry, routed), Some(original), actions);
    }

    /// The original has its answer: an approval is undone, anything else needs no undoing.
    fn reverse_known(
        &mut self,
        request: Arc<Request>,
        from: ConnectionId,
        original: TransactionId,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let left = request.elements.final_amount().map_or(0, Amount::minor);
        let taking = self.answered.get(original).map(|answered| answered.taking_back(left));
        if taking == Some(TakingBack::Misfit) {
            return self.reverse_unknown(request, from, now, actions);
        }
        let Some((owing, routed)) = self.undo(original, request.transaction, left) else {
            return self.acknowledge_only(request, from, actions);
        };
        self.answered.settled(original, &mut self.index);
        let mut entry = self.acquirers_reversal(&request, owing, &routed, now);
        if sabotaged("part-means-whole") {
            entry.elements.leave_nothing();
        }
        self.undelivered.end(original);
        self.take_over(request, from, (entry, routed), None, actions);
    }

    /// Takes an approval back down to `left`, and says what its reversal `by` needs; `None` when there is nothing to
    /// undo.
    pub(super) fn undo(
        &mut self,
        original: TransactionId,
        by: TransactionId,
        left: u64,
    ) -> Option<(Owing, Routed)> {
        self.note_decided(original);
        let answered = self.answered.get_mut(original).filter(|answered| answered.stands())?;
        match answered.taking_back(left) {
            TakingBack::Part(minor) => {
                answered.set_share(Share::taken_back(by, minor));
                // Who takes a part back has the answer.
                answered.given = true;
            }
            TakingBack::Whole => answered.reversed = true,
            TakingBack::Nothing | TakingBack::Misfit => return None,
        }
        let owing = Owing { original, elements: answered.request.elements.clone() };
        let routed = answered.at_issuer()?;
        self.share_again(original);
        Some((owing, routed))
    }

    /// Nothing was forwarded that fits: say so, and remember, lest the original come later.
    pub(super) fn bury(
        &mut self,
        request: Arc<Request>,
        from: ConnectionId,
        kind: AnswerKind,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(data) = request.original.as_deref() else { return };
        let key = OriginalKey::from_data(request.leg.link, data, now.wall);
        self.lay_tombstone(&request, data, key);
        let entry = TombstoneEntry {
            transaction: request.transaction,
            acquirer: request.leg,
            original: OriginalIdentity {
                mti: data.mti,
                stan: data.stan,
                sent_at: key.sent_at,
                acquirer: data.acquirer,
            },
            answer: request.elements.clone(),
        };
        let answer = Answer::to(&request, from, kind);
        self.remember_message(request, from, None, kind);
        self.append_tombstone(entry, Then::Answer(Box::new(answer)), actions);
    }

    /// Should its original come from here on, it comes behind its reversal.
    pub(super) fn lay_tombstone(&mut self, reversal: &Request, data: &OriginalData, name: OriginalKey) {
        if !sabotaged("buried-and-forgotten") {
            let key = reversal.key.of_original(data.mti.class, data.stan);
            self.tombstones.insert(name, key, data.mti);
        }
    }

    /// Already undone, or never done: 00, and nothing to deliver.
    fn acknowledge_only(&mut self, request: Arc<Request>, from: ConnectionId, actions: &mut Vec<Action>) {
        let answer = Answer::to(&request, from, AnswerKind::Accepted);
        self.remember_message(request, from, None, AnswerKind::Accepted);
        self.answer_in_turn(answer, actions);
    }

    /// Journals a message to be delivered; its sender is told once it is durable.
    pub(super) fn take_over(
        &mut self,
        request: Arc<Request>,
        from: ConnectionId,
        (entry, routed): (StoredEntry, Routed),
        behind: Option<TransactionId>,
        actions: &mut Vec<Action>,
    ) {
        let card = Some(routed.card.clone());
        let answer = Answer { card, ..Answer::to(&request, from, AnswerKind::Accepted) };
        let mark = routed.mark;
        self.stored.keep_place(entry.issuer.link);
        self.remember_message(request, from, Some(routed), AnswerKind::Accepted);
        let acknowledgement = Acknowledgement { answer, stored: Some((entry.clone(), mark)), behind };
        let then = Then::Acknowledge(Box::new(acknowledgement));
        self.append(TransactionEntry::Stored(Box::new(entry)), then, actions);
    }

    /// Durable: acknowledge it, and let it be delivered.
    pub(super) fn acknowledge(&mut self, taken: Acknowledgement, now: Now, actions: &mut Vec<Action>) {
        actions.push(Action::Answer(Box::new(taken.answer)));
        let Some((entry, mark)) = taken.stored else { return };
        self.stored.release(entry.issuer.link);
        let held = taken.behind.is_some_and(|original| self.in_flight.contains_key(&original))
            && !sabotaged("reversal-overtakes");
        self.store(entry, mark, held, now, actions);
    }

    /// Remembers an advice or reversal, so that its repeat gets the same answer.
    fn remember_message(
        &mut self,
        request: Arc<Request>,
        asked_on: ConnectionId,
        routed: Option<Routed>,
        answer: AnswerKind,
    ) {
        let id = request.transaction;
        let answered = Answered {
            request,
            asked_on,
            routed,
            outcome: Outcome::Approved,
            answer,
            elements: Elements::default(),
            approved: None,
            reversed: false,
            given: false,
            leaving: 0,
            stood_in: None,
            shares: Vec::new(),
        };
        self.answered.insert(id, answered, &mut self.index);
    }

    fn acquirers_reversal(
        &mut self,
        request: &Request,
        owing: Owing,
        routed: &Routed,
        now: Now,
    ) -> StoredEntry {
        let leg = self.reversal_leg(request.transaction, routed, now);
        let mut elements = owing.elements.clone();
        elements.extend(&request.elements);
        // DE 4 is the original's, whatever of it is taken back: DE 95 alone says what is to stand.
        let amount = DataElement::AMOUNT.number();
        if let Some(asked) = owing.elements.get(amount) {
            elements.keep(amount, asked);
        }
        StoredEntry {
            transaction: request.transaction,
            original: Some(owing.original),
            kind: StoredKind::AcquirerReversal,
            acquirer: Some(request.leg),
            issuer: leg,
            elements,
            original_data: Some(original_data(routed, request.key.institution)),
            card: routed.card.clone(),
            verdicts: Verdicts::default(),
            window: self.windows.current(),
            settles: routed.settles && !sabotaged("taken-back-in-no-window"),
            // Its own elements, without those that only the original had: what its answer echoes.
            answer: request.elements.clone(),
        }
    }

    /// The reversal that this switch owes for a request.
    pub(super) fn own_reversal(
        &mut self,
        owing: Owing,
        routed: &Routed,
        reason: ReversalReason,
        now: Now,
    ) -> StoredEntry {
        self.counts.own_reversals += 1;
        let institution = institution(&owing.elements);
        let id = self.next_transaction();
        StoredEntry {
            transaction: id,
            original: Some(owing.original),
            kind: StoredKind::OwnReversal(reason),
            acquirer: None,
            issuer: self.reversal_leg(id, routed, now),
            elements: owing.elements,
            original_data: Some(original_data(routed, institution)),
            card: routed.card.clone(),
            verdicts: Verdicts::default(),
            window: self.windows.current(),
            settles: routed.settles,
            answer: Elements::default(),
        }
    }

    /// A 0420 on the original's issuer link, with a number that is its own from now on: where acquirers' identifiers
    /// pass, another message could take it while this one is on its way to the disk.
    fn reversal_leg(&mut self, id: TransactionId, routed: &Routed, now: Now) -> IssuerLeg {
        let issuer = routed.leg.link;
        let mti = Mti::of(MessageClass::Reversal, MessageFunction::Advice);
        let taken = self.take_number(issuer, now.moment);
        if let Some(stan) = taken {
            self.outstanding.insert((issuer, stan), Outstanding::Stored(id));
        }
        let stan = taken.unwrap_or(routed.leg.stan);
        IssuerLeg {
            mti: mti.with_version(routed.leg.mti.version),
            sent_at: SentAt(now.wall.seconds()),
            stan,
            ..routed.leg
        }
    }
}

/// DE 90 of the issuer's leg: what the issuer knows the original by.
pub(super) fn original_data(routed: &Routed, acquirer: Option<InstitutionId>) -> [u8; 42] {
    OriginalData {
        mti: routed.leg.mti,
        stan: routed.leg.stan,
        sent_at: routed.leg.sent_at.transmission_time(),
        acquirer,
        forwarder: routed.leg.forwarder,
    }
    .digits()
}

pub(super) fn institution(elements: &Elements) -> Option<InstitutionId> {
    let value = elements.get(DataElement::ACQUIRER.number())?;
    InstitutionId::parse(value).ok()
}
