//! The way in: who asks, whether it was asked before, which card it is, and the journal before the issuer.

use std::sync::Arc;

use crate::codec::{OriginalData, same_institution};
use crate::journal::{AcquirerLeg, IssuerLeg, StoredEntry, TransactionEntry};
use crate::link::ConnectionId;
use crate::stdx::clock::Now;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{
    Amount, InstitutionId, LinkId, MessageClass, Outcome, Refusal, SentAt, Stan, TransactionId,
};

use super::super::answered::{Answered, OriginalKey};
use super::super::config::Identifiers;
use super::super::event::{Action, Answer, AnswerKind, Concern, Mapped, Unsent};
use super::super::request::{CardSource, Request, RequestKind};
use super::super::transaction::{Conclusion, Found, Parent, Routed, Transaction, TransactionState};
use super::{Asked, Outstanding, SwitchCore, Then};

impl SwitchCore {
    /// A request, advice or reversal came in.
    pub(super) fn received(&mut self, asked: Asked, signed_on: bool, now: Now, actions: &mut Vec<Action>) {
        let (request, from) = (&asked.request, asked.from);
        self.counts.received += 1;
        if let Some(known) = self.find_repeat(request).filter(|_| !sabotaged("repeats-not-known")) {
            return self.repeated(known, request, from, actions);
        }
        if let Err(refusal) = self.admit(request, signed_on, now) {
            return match refusal {
                // Another time there is room; what was approved before must not be declined now.
                Refusal::Overloaded | Refusal::ShuttingDown => {
                    let may_be_repeat = self.forgotten_name(request).is_some();
                    self.turn_away(asked, may_be_repeat, refusal, actions);
                }
                _ => self.refuse_unseen(request, from, refusal, actions),
            };
        }
        self.index.insert(request, request.transaction);
        self.enter(asked, now, actions);
    }

    /// The request that this repeats: the same name, and the same DE 7 unless one of them says it is a repeat. The
    /// repeat may have come first, on another connection.
    pub(super) fn find_repeat(&self, request: &Request) -> Option<TransactionId> {
        self.index.named(&request.key).find(|id| {
            self.known(*id).is_some_and(|known| {
                let leg = &known.leg;
                let repeats = request.leg.mti.is_repeat() || leg.mti.is_repeat();
                let same_time = repeats || leg.sent_at == request.leg.sent_at;
                known.key == request.key && same_time && leg.mti.function == request.leg.mti.function
            })
        })
    }

    /// A request in flight or answered, or one that waits for the history.
    pub(super) fn known(&self, id: TransactionId) -> Option<&Arc<Request>> {
        if let Some(transaction) = self.in_flight.get(&id) {
            return Some(&transaction.request);
        }
        let answered = self.answered.get(id).map(|answered| &answered.request);
        answered.or_else(|| self.looking.get(&id).map(|looking| looking.request()))
    }

    /// Something known is asked again: altered it is refused, in flight the answer goes to the newest asker,
    /// answered it gets the same answer.
    pub(super) fn repeated(
        &mut self,
        known: TransactionId,
        request: &Arc<Request>,
        from: ConnectionId,
        actions: &mut Vec<Action>,
    ) {
        self.counts.repeats += 1;
        actions.push(Action::Concerns { message: request.transaction, known, concern: Concern::Repeat });
        if let Some(transaction) = self.in_flight.get_mut(&known) {
            if transaction.request.compared != request.compared {
                return self.refuse_unseen(request, from, Refusal::AlteredDuplicate, actions);
            }
            transaction.asking = from;
            let before = std::mem::replace(&mut transaction.asked_by, request.transaction);
            // The first one's message is still needed, to be forwarded.
            if before != known {
                actions.push(Action::Forget { transaction: before });
            }
            return;
        }
        if self.asked_while_looking(known, request, from, actions) {
            return;
        }
        let Some(answered) = self.answered.get_mut(known) else { return };
        if answered.request.compared != request.compared && !answered.was_illegible() {
            return self.refuse_unseen(request, from, Refusal::AlteredDuplicate, actions);
        }
        if answered.is_withheld() {
            return self.refuse_unseen(request, from, Refusal::AnswerWithheld, actions);
        }
        answered.asked_on = from;
        let again = answered.again(known, request.transaction);
        self.undelivered.end(known);
        self.answer_in_turn(again, actions);
    }

    /// Whether this peer may ask this now.
    fn admit(&self, request: &Request, signed_on: bool, now: Now) -> Result<(), Refusal> {
        let Some(acquirer) = self.acquirer(request.leg.link) else {
            return Err(Refusal::InstitutionNotAllowed);
        };
        let is_payment = request.kind == RequestKind::Payment;
        if !signed_on && is_payment {
            return Err(Refusal::NotSignedOn);
        }
        let listed = |institution: Option<InstitutionId>| {
            let known = |id| acquirer.institutions.iter().any(|known| same_institution(known, &id));
            institution.is_none_or(|id| acquirer.institutions.is_empty() || known(id))
        };
        if !listed(request.key.institution) || !listed(request.forwarder) {
            return Err(Refusal::InstitutionNotAllowed);
        }
        if let Some(refusal) = request.refused {
            return Err(refusal);
        }
        // What may have come before is looked for first: it may have been approved, and stand.
        if self.is_buried(request) && self.forgotten_name(request).is_none() {
            return Err(Refusal::ReversedBefore);
        }
        if !is_payment {
            return Ok(());
        }
        if self.draining {
            return Err(Refusal::ShuttingDown);
        }
        self.admit_new(request, now)
    }

    /// Its reversal overtook it: it would be charged with nobody left to undo it.
    pub(super) fn is_buried(&self, request: &Request) -> bool {
        self.tombstones.cover(request, self.config.repeat_window)
    }

    /// Whether a payment that nobody has seen may be new.
    fn admit_new(&self, request: &Request, now: Now) -> Result<(), Refusal> {
        let (seconds, window) = (now.wall.seconds(), self.config.repeat_window.as_secs());
        let AcquirerLeg { link, sent_at, .. } = request.leg;
        if sent_at > SentAt(seconds.saturating_add(window)) {
            return Err(Refusal::DatedAhead);
        }
        // Where something was dated ahead of the clock, `enter` looks for this very request.
        let forgotten = self.answered.may_have_forgotten(link, sent_at)
            && !self.answered.forgot_ahead(link, SentAt(seconds));
        if sent_at < SentAt(seconds.saturating_sub(window)) || forgotten {
            return Err(Refusal::TooOld);
        }
        if self.in_flight.len() >= self.config.limits.in_flight {
            return Err(Refusal::Overloaded);
        }
        Ok(())
    }

    /// Says no to something that was never entered: its repeat is looked at afresh.
    pub(super) fn refuse_unseen(
        &mut self,
        request: &Arc<Request>,
        from: ConnectionId,
        refusal: Refusal,
        actions: &mut Vec<Action>,
    ) {
        self.counts.refused(refusal);
        let answer = Answer::to(request, from, AnswerKind::Refused(refusal));
        match refusal {
            // They rest on what may still be on its way to the disk.
            Refusal::ReversedBefore | Refusal::AnswerWithheld => self.answer_in_turn(answer, actions),
            _ => actions.push(Action::Answer(Box::new(answer))),
        }
    }

    /// Enters the payment before anything is looked up, so that its duplicate in the same batch finds it, and so that
    /// another one of the same original finds what this one asks of it.
    pub(super) fn look_up_card(
        &mut self,
        asked: Asked,
        parent: Option<Parent>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let id = asked.request.transaction;
        if let Some(parent) = &parent {
            let minor = asked.request.compared.amount.map_or(0, Amount::minor);
            self.share(Some(&parent.original), id, minor, false);
        }
        let mut transaction = Transaction::new(asked.request, asked.from, asked.received);
        transaction.parent = parent.map(Box::new);
        self.in_flight.insert(id, Box::new(transaction));
        match asked.card {
            CardSource::Token(request) => actions.push(Action::Detokenize { transaction: id, request }),
            CardSource::Pan(card) => self.card_found(id, Found::from(card), now, actions),
            CardSource::Nothing => self.refuse(id, Refusal::FormatError, actions),
        }
    }

    /// The TSP has answered, for a payment or for an advice.
    pub(super) fn detokenized(
        &mut self,
        id: TransactionId,
        result: Result<Box<Mapped>, Refusal>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let parent = || self.in_flight.get(&id).and_then(|transaction| transaction.parent.as_deref());
        match result {
            Ok(mapped) => self.card_found(id, Found::from(*mapped), now, actions),
            Err(refusal) => match parent().map(Found::from) {
                Some(found) => self.card_found(id, found, now, actions),
                None => self.refuse(id, refusal, actions),
            },
        }
    }

    /// Whether a message's card is still to be looked up, now that its turn has come, or why not any more; `None` where
    /// nothing waits for it.
    #[must_use]
    pub fn still_asks(&self, id: TransactionId, now: Now) -> Option<Result<(), Refusal>> {
        let transaction = self.in_flight.get(&id)?;
        let waits = transaction.state == TransactionState::Detokenizing;
        waits.then(|| self.unwanted(transaction, now).map_or(Ok(()), Err))
    }

    /// Why a message goes nowhere, whatever its card is. Which issuer's time-out counts is known with the card only.
    fn unwanted(&self, transaction: &Transaction, now: Now) -> Option<Refusal> {
        let Transaction { request, deadline: received, .. } = transaction;
        let (is_advice, reversed) = (request.kind == RequestKind::Advice, transaction.reversal.is_some());
        if self.has_lost_its_original(transaction) {
            return Some(Refusal::ReversedInFlight);
        }
        match (is_advice, reversed) {
            (true, true) => Some(Refusal::ReversedBefore),
            // It has happened, however long ago and whoever told of it.
            (true, false) => None,
            (false, true) => Some(Refusal::ReversedInFlight),
            (false, false) if self.acquirer(request.leg.link).is_none() => {
                Some(Refusal::InstitutionNotAllowed)
            }
            (false, false) => {
                let may_be_late = *received < now.moment;
                let is_late = may_be_late && received.plus(self.config.longest_timeout()) < now.moment;
                is_late.then_some(Refusal::NotDurableInTime)
            }
        }
    }

    /// The card is known: route it, keep its reversal's place, and journal it.
    fn card_found(&mut self, id: TransactionId, found: Found, now: Now, actions: &mut Vec<Action>) {
        let Some(transaction) = self.in_flight.get(&id) else { return };
        if transaction.state != TransactionState::Detokenizing {
            return;
        }
        let issuers = &self.config.issuers;
        let found = found.of_original(transaction.parent.clone(), |issuer| issuers.contains_key(&issuer));
        let unwanted = self.unwanted(transaction, now);
        if transaction.request.kind == RequestKind::Advice {
            return match unwanted {
                Some(refusal) => self.refuse(id, refusal, actions),
                None => self.advice_found(id, found, now, actions),
            };
        }
        let (taken, counted) = (found.taken(), found.counted());
        let routed = unwanted.map_or_else(|| self.route(id, found, now), Err);
        match routed {
            Ok(routed) => self.journal_request(id, routed, actions),
            Err(refusal) => {
                if let Some(transaction) = self.in_flight.get(&id) {
                    actions.extend(taken.map(|taken| transaction.release(taken)));
                }
                let give_back = |record| Action::GiveBack { record, transaction: id };
                actions.extend(counted.map(give_back));
                self.refuse(id, refusal, actions);
            }
        }
    }

    /// The issuer's leg of a payment. On success the issuer's number and the reversal's place are taken.
    fn route(&mut self, id: TransactionId, found: Found, now: Now) -> Result<Routed, Refusal> {
        let issuer = found.issuer.ok_or(Refusal::NoRoute)?;
        let config = self.issuer(issuer).ok_or(Refusal::NoRoute)?;
        let (identifiers, timeout) = (config.identifiers, config.timeout);
        let transaction = self.in_flight.get(&id).ok_or(Refusal::InternalFault)?;
        let settles = self.settles(&transaction.request).ok_or(Refusal::InstitutionNotAllowed)?;
        let transaction = self.in_flight.get_mut(&id).ok_or(Refusal::InternalFault)?;
        let leg = transaction.request.leg;
        transaction.deadline = transaction.deadline.plus(timeout);
        let deadline = transaction.deadline;
        let (stan, sent_at) = self.issuer_identifiers(issuer, identifiers, &leg, now)?;
        if !self.stored.reserve(issuer) {
            self.acquirers_number_ends(issuer, stan, now.moment);
            return Err(Refusal::Overloaded);
        }
        self.outstanding.insert((issuer, stan), Outstanding::Payment(id));
        self.deadlines.entry(issuer).or_default().push(deadline, id);
        Ok(Routed {
            card: found.card,
            mark: found.mark,
            verdicts: found.verdicts,
            counter: found.counter,
            leg: IssuerLeg {
                link: issuer,
                mti: leg.mti.first(),
                sent_at,
                stan,
                forwarder: Some(self.config.institution),
            },
            window: self.windows.current(),
            settles,
            original: found.original,
        })
    }

    /// Whether an approval is money owed: 0200 and 0220 are, 0100 and 0120 only hold it, unless their acquirer's
    /// capture. `None`: its acquirer is gone, and nobody can say.
    pub(super) fn settles(&self, request: &Request) -> Option<bool> {
        let captures = self.acquirer(request.leg.link)?.authorization_is_capture;
        Some(request.moves_money && (captures || request.leg.mti.class == MessageClass::Financial))
    }

    /// DE 11 and DE 7 for the issuer's side: our own, or the acquirer's where they must pass and are free.
    pub(super) fn issuer_identifiers(
        &mut self,
        issuer: LinkId,
        identifiers: Identifiers,
        acquirers: &AcquirerLeg,
        now: Now,
    ) -> Result<(Stan, SentAt), Refusal> {
        match identifiers {
            Identifiers::Own => {
                let stan = self.take_number(issuer, now.moment).ok_or(Refusal::Overloaded)?;
                Ok((stan, SentAt(now.wall.seconds())))
            }
            Identifiers::Pass => {
                let taken = self.outstanding.contains_key(&(issuer, acquirers.stan));
                let taken = taken || self.is_ours(&OriginalKey::passed(acquirers, issuer));
                if taken { Err(Refusal::IdentifiersInUse) } else { Ok((acquirers.stan, acquirers.sent_at)) }
            }
        }
    }

    fn journal_request(&mut self, id: TransactionId, routed: Routed, actions: &mut Vec<Action>) {
        let Some(transaction) = self.in_flight.get_mut(&id) else { return };
        let entry = transaction.request_entry(&routed);
        let original = routed.original.as_deref().map(|original| original.transaction);
        transaction.routed = Some(routed);
        transaction.state = TransactionState::Journaling;
        self.windows.stamped(entry.window);
        // Its share was taken when it came, and the history can know of that from here on.
        if let Some(original) = original {
            self.note_decided(original);
        }
        self.append(TransactionEntry::Request(Box::new(entry)), Then::Forward(id), actions);
    }

    /// The request is durable: now, and not before, it may leave.
    pub(super) fn forward(&mut self, id: TransactionId, now: Now, actions: &mut Vec<Action>) {
        let Some(transaction) = self.in_flight.get_mut(&id) else { return };
        if transaction.state != TransactionState::Journaling {
            return;
        }
        if transaction.deadline <= now.moment {
            return self.conclude_unsent(id, Refusal::NotDurableInTime, now, actions);
        }
        if transaction.reversal.is_some() {
            return self.conclude_unsent(id, Refusal::ReversedInFlight, now, actions);
        }
        transaction.state = TransactionState::Forwarded;
        if self.overtakes(id) {
            return self.not_sent((id, Unsent::Unreachable), now, actions);
        }
        actions.push(Action::Forward { transaction: id, repeat: false });
    }

    /// Whether its issuer would hear of it before the advice that tells of what it is about.
    fn overtakes(&self, id: TransactionId) -> bool {
        let routed = self.in_flight.get(&id).and_then(|transaction| transaction.routed.as_ref());
        let place = routed.and_then(|routed| {
            let data = routed.original.as_ref()?.data?;
            Some((routed.leg.link, OriginalData::parse(&data).ok()?.stan))
        });
        match place.and_then(|place| self.outstanding.get(&place)) {
            Some(Outstanding::Stored(advice)) => self.stored.get(*advice).is_some(),
            _ => false,
        }
    }

    /// Says no to something that is in no journal and went nowhere.
    pub(super) fn refuse(&mut self, id: TransactionId, refusal: Refusal, actions: &mut Vec<Action>) {
        let Some(mut transaction) = self.in_flight.remove(&id) else { return };
        self.counts.refused(refusal);
        actions.push(Action::Answer(Box::new(transaction.answer(AnswerKind::Refused(refusal)))));
        if transaction.asked_by != id {
            actions.push(Action::Forget { transaction: id });
        }
        self.take_no_share(id, transaction.parent.take());
        transaction.conclusion = Some(Conclusion::refused(refusal, Outcome::Declined));
        self.remember(id, *transaction);
    }

    /// What it asked of its original it does not get.
    pub(super) fn take_no_share(&mut self, id: TransactionId, parent: Option<Box<Parent>>) {
        self.share(parent.as_deref().map(|parent| &parent.original), id, 0, true);
    }

    /// Moves a payment that has its answer to where repeats and reversals find it; gives what it owes the issuer, in
    /// this order.
    pub(super) fn remember(
        &mut self,
        id: TransactionId,
        transaction: Transaction,
    ) -> [Option<Box<StoredEntry>>; 2] {
        let Transaction { request, routed, conclusion, reversal, asking, .. } = transaction;
        let Some(conclusion) = conclusion else { return [None, None] };
        let answered = Answered {
            request,
            asked_on: asking,
            routed,
            outcome: conclusion.outcome,
            answer: conclusion.kind,
            elements: conclusion.elements,
            approved: conclusion.approved,
            reversed: reversal.is_some() || conclusion.reversal.is_some() && conclusion.advice.is_none(),
            stood_in: conclusion.advice.as_ref().map(|advice| advice.issuer),
            given: false,
            leaving: 0,
            shares: Vec::new(),
        };
        self.answered.insert(id, answered, &mut self.index);
        [conclusion.reversal, conclusion.advice]
    }
}
