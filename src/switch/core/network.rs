//! What becomes of the connections: messages that were handed over or were not, lost links, answers that never
//! left.

use crate::journal::{Elements, TransactionEntry};
use crate::stdx::clock::Now;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{Outcome, Refusal, ReversalReason, TransactionId};

use super::super::answered::Answered;
use super::super::event::{Action, AnswerKind, Unsent};
use super::super::transaction::{Conclusion, Transaction, TransactionState};
use super::{Acknowledgement, SwitchCore, Then};

impl SwitchCore {
    /// Not a byte of it left now, nor before unless this was a repeat.
    pub(super) fn not_sent(
        &mut self,
        (id, why): (TransactionId, Unsent),
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        if self.stored.get(id).is_some() {
            return match why {
                Unsent::Unreachable => self.stored.unreachable(id, now.moment),
                Unsent::Full => self.stored.not_sent(id, now),
                Unsent::Unsayable => self.cannot_be_said(id, now, actions),
            };
        }
        if self.enquiry_lost(id, now, actions) {
            return;
        }
        let forwarded = self.in_flight.get(&id).filter(|t| t.state == TransactionState::Forwarded);
        match forwarded.map(|transaction| transaction.repeated) {
            Some(true) => self.conclude_lost(id, now, actions),
            Some(false) => self.conclude_not_sent((id, why), now, actions),
            None => {}
        }
    }

    /// Its issuer was not asked. In the place of one that is up, and has no room or cannot be told, nothing is
    /// approved.
    fn conclude_not_sent(&mut self, (id, why): (TransactionId, Unsent), now: Now, actions: &mut Vec<Action>) {
        let unreachable = why == Unsent::Unreachable;
        match unreachable.then(|| self.stand_in(id, now)).flatten() {
            Some(conclusion) => self.conclude(id, conclusion, None, now, actions),
            None => self.conclude_unsent(id, Refusal::IssuerUnavailable, now, actions),
        }
    }

    /// Its token was suspended or unlinked after it was looked up: what is still here does not leave any more.
    pub(super) fn withdrawn(
        &mut self,
        id: TransactionId,
        refusal: Refusal,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let unsent = |it: &Transaction| it.state == TransactionState::Forwarded && !it.repeated;
        if self.in_flight.get(&id).is_some_and(|transaction| unsent(transaction)) {
            self.conclude_unsent(id, refusal, now, actions);
        }
    }

    /// The connection that had it is gone. What may have left is an unknown outcome, unless the issuer knows a repeat
    /// as one; what did not may try another.
    pub(super) fn issuer_lost(
        &mut self,
        id: TransactionId,
        written: bool,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        if self.stored.get(id).is_some() {
            return if written { self.stored.again(id, now) } else { self.stored.not_sent(id, now) };
        }
        if self.enquiry_lost(id, now, actions) {
            return;
        }
        let written = written && !sabotaged("sent-twice");
        let Some(transaction) = self.in_flight.get_mut(&id) else { return };
        if transaction.state != TransactionState::Forwarded {
            return;
        }
        let issuer = transaction.routed.as_ref().and_then(|r| self.config.issuers.get(&r.leg.link));
        let asks_again =
            issuer.is_some_and(|issuer| issuer.dedupes_repeats) && transaction.reversal.is_none();
        transaction.repeated |= written && asks_again;
        if written && !asks_again {
            return self.conclude_lost(id, now, actions);
        }
        actions.push(Action::Forward { transaction: id, repeat: transaction.repeated });
    }

    /// A byte of it may have left, and nobody can say what became of it.
    fn conclude_lost(&mut self, id: TransactionId, now: Now, actions: &mut Vec<Action>) {
        let Some(transaction) = self.in_flight.get(&id) else { return };
        let reverse = transaction.request.moves_money
            && transaction.reversal.is_none()
            && !sabotaged("lost-link-not-reversed");
        let declined = || Conclusion::refused(Refusal::IssuerLinkLost, Outcome::Unknown);
        let conclusion = self.stand_in(id, now).unwrap_or_else(declined);
        self.conclude(id, conclusion, reverse.then_some(ReversalReason::LinkLost), now, actions);
    }

    /// An answer did not reach its acquirer's socket, nor is another copy of it on its way: it waits for a repeat, and is
    /// reversed when none comes or can come.
    pub(super) fn answer_undelivered(&mut self, id: TransactionId, now: Now, actions: &mut Vec<Action>) {
        if !self.answered.get_mut(id).is_some_and(Answered::came_back) {
            return;
        }
        self.counts.undelivered += 1;
        if self.ended {
            self.reverse_answered(id, ReversalReason::Undelivered, now, actions);
        } else {
            self.undelivered.begin(id, now.moment.plus(self.config.undelivered_grace));
        }
    }

    /// The acquirer's socket has the whole answer: from here on only the acquirer undoes it.
    pub(super) fn answer_given(&mut self, id: TransactionId) {
        if let Some(answered) = self.answered.get_mut(id) {
            answered.given = true;
        }
        self.answered.settled(id, &mut self.index);
        self.undelivered.end(id);
    }

    /// The answer could not be built without the PAN: 96, and what was approved is reversed, as one durable entry.
    pub(super) fn leaked(
        &mut self,
        id: TransactionId,
        asked_by: TransactionId,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        self.counts.refused(Refusal::LeakSuppressed);
        let undone = self.undo(id, id, 0);
        let Some(answered) = self.answered.get_mut(id) else { return };
        answered.answer = AnswerKind::Refused(Refusal::LeakSuppressed);
        answered.elements = Elements::default();
        let answer = answered.again(id, asked_by);
        self.answered.settled(id, &mut self.index);
        let Some((owing, routed)) = undone else { return self.answer_in_turn(answer, actions) };
        let stored = self.own_reversal(owing, &routed, ReversalReason::LeakSuppressed, now);
        self.stored.keep_place(stored.issuer.link);
        let entry = TransactionEntry::Stored(Box::new(stored.clone()));
        let taken = Acknowledgement { answer, stored: Some((stored, routed.mark)), behind: None };
        self.append(entry, Then::Acknowledge(Box::new(taken)), actions);
    }
}
