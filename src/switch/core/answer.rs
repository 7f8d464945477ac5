//! The way back: the issuer's answer matched to its request, the outcome journaled, the acquirer told.

use crate::codec::DataElement;
use crate::journal::{Elements, IssuerLeg, LateEntry, OutcomeEntry, StoredEntry, TransactionEntry};
use crate::stdx::clock::Now;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{Amount, InstitutionId, LinkId, Outcome, Refusal, ReversalReason, TransactionId};

use super::super::answered::agrees;
use super::super::event::{Action, AnswerKind, CardMark, IssuerAnswer};
use super::super::transaction::{Conclusion, Routed, Transaction, TransactionState};
use super::reversal::Owing;
use super::{Outstanding, SwitchCore, Then};

impl SwitchCore {
    /// An issuer answered something; a message that matches nothing is counted and goes nowhere.
    pub(super) fn issuer_answered(&mut self, answer: IssuerAnswer, now: Now, actions: &mut Vec<Action>) {
        match self.outstanding.get(&(answer.link, answer.stan)) {
            Some(Outstanding::Payment(id)) => self.payment_answered(*id, answer, now, actions),
            Some(Outstanding::Late(id)) => self.answered_late(*id, &answer, actions),
            Some(Outstanding::Stored(id)) => self.stored_answered(*id, &answer, now, actions),
            Some(Outstanding::Enquiry(id)) => self.enquiry_answered(*id, answer, now, actions),
            None => self.counts.unmatched += 1,
        }
    }

    fn payment_answered(
        &mut self,
        id: TransactionId,
        answer: IssuerAnswer,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(transaction) = self.in_flight.get(&id) else { return };
        let request = &transaction.request;
        let named = |routed: &Routed| names(&routed.leg, &request.elements, request.key.institution, &answer);
        let forwarded = transaction.state == TransactionState::Forwarded;
        if !forwarded || !transaction.routed.as_ref().is_some_and(named) {
            self.counts.unmatched += 1;
            return;
        }
        let (conclusion, reason) = self.judge(transaction, answer);
        self.conclude(id, conclusion, reason, now, actions);
    }

    /// What the answer comes to, and why it must be reversed if it must.
    fn judge(&self, transaction: &Transaction, answer: IssuerAnswer) -> (Conclusion, Option<ReversalReason>) {
        let moves = transaction.request.moves_money;
        let amount = transaction.request.compared.amount;
        let reverse = |reason| moves.then_some(reason);
        let invalid = || {
            let conclusion = Conclusion::refused(Refusal::IssuerAnswerInvalid, Outcome::Unknown);
            (conclusion, reverse(ReversalReason::AnswerInvalid))
        };
        if !answer.believable {
            return invalid();
        }
        let takes_parts = self.acquirer(transaction.request.leg.link).is_some_and(|it| it.partial_approvals);
        let partly = answer.outcome == Some(Outcome::ApprovedPartly);
        if partly && !takes_parts && transaction.reversal.is_none() {
            let conclusion = Conclusion::refused(Refusal::PartialNotSupported, Outcome::Declined);
            return (conclusion, reverse(ReversalReason::PartialNotSupported));
        }
        if !amount_agrees(transaction, &answer) {
            return invalid();
        }
        if transaction.reversal.is_some() {
            // The acquirer's own reversal waits behind this outcome and undoes it.
            return (
                Conclusion::refused(Refusal::ReversedInFlight, answer.outcome.unwrap_or(Outcome::Unknown)),
                None,
            );
        }
        let approved = partly || answer.outcome == Some(Outcome::Approved);
        let reason = match answer.outcome {
            None => reverse(ReversalReason::UnlistedCode),
            Some(Outcome::Unknown) if !sabotaged("unknown-left-standing") => {
                reverse(ReversalReason::SaidUnknown)
            }
            Some(_) => None,
        };
        let conclusion = Conclusion {
            outcome: answer.outcome.unwrap_or(Outcome::Declined),
            kind: AnswerKind::Passed,
            approved: if approved { answer.amount.or(amount) } else { None },
            elements: answer.elements,
            reversal: None,
            advice: None,
        };
        (conclusion, reason)
    }

    /// Journals how it ended; the acquirer is told once that is durable.
    pub(super) fn conclude(
        &mut self,
        id: TransactionId,
        mut conclusion: Conclusion,
        reason: Option<ReversalReason>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(mut transaction) = self.in_flight.remove(&id) else { return };
        // One reversal is enough, and the acquirer's came first.
        let reason = reason.filter(|_| transaction.reversal.is_none());
        if let (Some(reason), Some(routed)) = (reason, transaction.routed.as_ref()) {
            let owing = Owing { original: id, elements: transaction.request.elements.clone() };
            let mut owed = self.own_reversal(owing, routed, reason, now);
            // What is taken back never counted: the payment that was approved in the issuer's place does.
            owed.settles &= conclusion.advice.is_none();
            if let Some(advice) = &mut conclusion.advice {
                // A restart puts them back in the order of their numbers, and this one comes first.
                std::mem::swap(&mut owed.transaction, &mut advice.transaction);
            }
            conclusion.reversal = Some(Box::new(owed));
        }
        if let Some(routed) = transaction.routed.as_ref() {
            let mut elements = Self::settlement_elements(routed.window);
            elements.extend(&conclusion.elements);
            conclusion.elements = elements;
        }
        let approved = matches!(conclusion.outcome, Outcome::Approved | Outcome::ApprovedPartly);
        let entry = OutcomeEntry {
            transaction: id,
            outcome: conclusion.outcome,
            refusal: conclusion.refusal(),
            answer: conclusion.elements.clone(),
            approved: conclusion.approved,
            reversal: conclusion.reversal.as_deref().cloned(),
            advice: conclusion.advice.as_deref().cloned(),
            counter: transaction.routed.as_ref().filter(|_| approved).and_then(Routed::found_true),
        };
        let window = transaction.routed.as_ref().map(|routed| routed.window);
        let original = transaction.routed.as_ref().and_then(|routed| routed.original.clone());
        if original.is_some() {
            let undone = transaction.reversal.is_some() || conclusion.reversal.is_some();
            let stands = conclusion.approved.filter(|_| !undone).map_or(0, Amount::minor);
            self.share(original.as_deref(), id, stands, true);
        }
        self.counts.concluded(&conclusion);
        // Where it was asked and is reversed it may answer still, whatever was said in its place.
        let asked = conclusion.advice.is_some() && conclusion.reversal.is_some();
        let known = if asked { Outcome::Unknown } else { conclusion.outcome };
        self.retire(id, &transaction, known, now);
        transaction.conclusion = Some(conclusion);
        transaction.state = TransactionState::Concluding;
        self.in_flight.insert(id, transaction);
        self.append_outcome(entry, Then::Give(id), actions);
        if let Some(window) = window {
            self.windows.settled(window);
            self.close_windows(actions);
        }
    }

    /// Ends a journaled payment of which nothing left the house.
    pub(super) fn conclude_unsent(
        &mut self,
        id: TransactionId,
        refusal: Refusal,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        if let Some(transaction) = self.in_flight.get(&id) {
            actions.extend(transaction.taken().map(|taken| transaction.release(taken)));
        }
        self.conclude(id, Conclusion::refused(refusal, Outcome::Declined), None, now, actions);
    }

    /// Frees the issuer's number, or leaves it to catch a late answer.
    fn retire(&mut self, id: TransactionId, transaction: &Transaction, outcome: Outcome, now: Now) {
        let Some(routed) = transaction.routed.as_ref() else { return };
        let place = (routed.leg.link, routed.leg.stan);
        if outcome == Outcome::Unknown {
            self.outstanding.insert(place, Outstanding::Late(id));
            let until = now.moment.plus(self.config.longest_timeout().saturating_mul(2));
            self.late.insert((until, place, id));
        } else {
            self.outstanding.remove(&place);
        }
        self.acquirers_number_ends(place.0, place.1, now.moment);
    }

    /// The outcome is durable: tell the acquirer, deliver the reversal if one is owed.
    pub(super) fn give(&mut self, id: TransactionId, now: Now, actions: &mut Vec<Action>) {
        let Some(transaction) = self.in_flight.remove(&id) else { return };
        let (asked_by, waiting) = (transaction.asked_by, transaction.reversal);
        let card = transaction.routed.as_ref().map(|routed| (routed.leg.link, routed.mark));
        let follows = transaction.routed.as_ref().is_some_and(|routed| routed.original.is_some());
        let owed = self.remember(id, *transaction);
        if follows {
            // Its reversal may have come while its outcome was on its way to the disk.
            self.share_again(id);
        }
        match self.answered.get_mut(id) {
            // Its reversal came while the approval was on its way to the disk, and must be there before this is said.
            Some(answered) if answered.is_withheld() => {
                let withheld = answered.again(id, asked_by).withheld();
                self.answer_in_turn(withheld, actions);
            }
            Some(answered) => actions.push(Action::Answer(Box::new(answered.again(id, asked_by)))),
            None => {}
        }
        if asked_by != id {
            actions.push(Action::Forget { transaction: id });
        }
        if let Some(card) = card {
            self.settle_reversals(card, owed, waiting, now, actions);
        }
    }

    /// What waited for the outcome goes on: what we owe into its queue, the acquirer's out of its hold.
    fn settle_reversals(
        &mut self,
        (issuer, mark): (LinkId, CardMark),
        owed: [Option<Box<StoredEntry>>; 2],
        waiting: Option<TransactionId>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        self.stored.release(issuer);
        for owed in owed.into_iter().flatten() {
            self.store(*owed, mark, false, now, actions);
        }
        if let Some(waiting) = waiting {
            self.stored.unhold(waiting, now.moment);
            self.deliver_due(issuer, now, actions);
        }
    }

    /// An answer after the time-out: the reversal is on its way already, so this only annotates.
    fn answered_late(&mut self, id: TransactionId, answer: &IssuerAnswer, actions: &mut Vec<Action>) {
        let leg =
            self.answered.get(id).and_then(|answered| answered.routed.as_ref()).map(|routed| routed.leg);
        let named = |leg: IssuerLeg| leg.sent_at == answer.sent_at && answer.mti.answers(leg.mti);
        if !answer.believable || !leg.is_some_and(named) {
            self.counts.unmatched += 1;
            return;
        }
        self.counts.late += 1;
        self.outstanding.remove(&(answer.link, answer.stan));
        let entry = LateEntry {
            transaction: id,
            outcome: answer.outcome.unwrap_or(Outcome::Unknown),
            code: answer.code,
        };
        self.append(TransactionEntry::Late(entry), Then::Nothing, actions);
    }
}

/// Whether the answer's identifiers are those of the message with that leg and those elements: MTI, DE 7, and each of
/// DE 32, 37, 41 that both carry.
pub(super) fn names(
    leg: &IssuerLeg,
    elements: &Elements,
    institution: Option<InstitutionId>,
    answer: &IssuerAnswer,
) -> bool {
    let terminal = answer.terminal.as_ref().map(|terminal| terminal.as_bytes());
    answer.mti.answers(leg.mti)
        && answer.sent_at == leg.sent_at
        && agrees(answer.acquirer, institution)
        && same_text(elements, DataElement::RRN, answer.rrn.as_ref().map(|rrn| rrn.as_bytes()))
        && same_text(elements, DataElement::TERMINAL, terminal)
}

/// An element that both messages carry must be the same.
fn same_text(request: &Elements, element: DataElement, answered: Option<&[u8]>) -> bool {
    match (request.get(element.number()), answered) {
        (Some(asked), Some(answered)) => asked == answered,
        _ => true,
    }
}

/// DE 4 must be the request's, except in a partial approval, which must say it and may only be less.
fn amount_agrees(transaction: &Transaction, answer: &IssuerAnswer) -> bool {
    let partly = answer.outcome == Some(Outcome::ApprovedPartly);
    match (transaction.request.compared.amount, answer.amount) {
        (Some(asked), Some(answered)) if partly => {
            asked.currency() == answered.currency() && answered.minor() <= asked.minor()
        }
        (Some(_), None) => !partly,
        (Some(asked), Some(answered)) => asked == answered || sabotaged("amounts-not-compared"),
        _ => true,
    }
}
