//! Advices from acquirers, and store and forward: what was taken over is delivered until the issuer acknowledges.

use crate::codec::DataElement;
use crate::journal::{
    DeliveredEntry, DeliveryEnd, Elements, IssuerLeg, StoredEntry, StoredKind, TransactionEntry,
};
use crate::link::Answerable;
use crate::stdx::clock::Now;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{LinkId, Outcome, Refusal, ResponseCode, Stan, TransactionId};

use super::super::answered::OriginalKey;
use super::super::event::{Action, CardMark, Delivery, IssuerAnswer};
use super::super::request::Request;
use super::super::transaction::{Found, Parent, Routed, Transaction};
use super::answer::names;
use super::reversal::institution;
use super::{Asked, Outstanding, SwitchCore, Then};

/// What an issuer's answer to a stored message means for it.
enum Acknowledgement {
    /// It arrived, or had arrived before.
    Done,
    /// The issuer said no, and will say it again: a person must look.
    Parked,
    /// Nothing is known yet.
    Again,
}

impl SwitchCore {
    /// An 0120 or 0220, not seen before: what it tells has happened, so only its card is looked up. Its look-up may
    /// have to wait; as many again as payments may be in flight have room for that.
    pub(super) fn advice_received(
        &mut self,
        asked: Asked,
        parent: Option<Parent>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        if self.in_flight.len() >= self.config.limits.in_flight.saturating_mul(2) {
            return self.leave_for_later(&asked.request, actions);
        }
        self.counts.advices += 1;
        self.look_up_card(asked, parent, now, actions);
    }

    /// Its card is known: journal it for delivery. Without room it stays unanswered, so that it comes again; so does
    /// one whose acquirer has gone meanwhile.
    pub(super) fn advice_found(
        &mut self,
        id: TransactionId,
        found: Found,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(issuer) = found.issuer.filter(|issuer| self.issuer(*issuer).is_some()) else {
            return self.refuse(id, Refusal::NoRoute, actions);
        };
        let Some(transaction) = self.in_flight.remove(&id) else { return };
        let request = &transaction.request;
        let settles = self.settles(request).filter(|_| self.stored.has_room(issuer));
        let taken = settles.and_then(|settles| Some((settles, self.advice_leg(request, issuer, now)?)));
        let Some((settles, leg)) = taken else { return self.leave_advice(*transaction, actions) };
        let Transaction { request, asking, asked_by, .. } = *transaction;
        if asked_by != id {
            actions.push(Action::Forget { transaction: asked_by });
        }
        // From now on: another one with the same identifiers may come before this one is durable.
        self.outstanding.insert((issuer, leg.stan), Outstanding::Stored(id));
        let routed = Routed {
            card: found.card,
            mark: found.mark,
            verdicts: found.verdicts,
            counter: found.counter,
            leg,
            window: self.windows.current(),
            settles,
            original: found.original,
        };
        let original = routed.original.as_deref();
        let entry = StoredEntry {
            transaction: id,
            original: original.map(|original| original.transaction),
            kind: StoredKind::Advice,
            acquirer: Some(request.leg),
            issuer: leg,
            elements: request.elements.clone(),
            original_data: original.and_then(|original| original.data),
            card: routed.card.clone(),
            verdicts: routed.verdicts,
            window: routed.window,
            settles: routed.settles,
            answer: Elements::default(),
        };
        self.take_over(request, asking, (entry, routed), None, actions);
        self.share_again(id);
    }

    /// It stays unanswered, so that it comes again.
    pub(super) fn leave_advice(&mut self, advice: Transaction, actions: &mut Vec<Action>) {
        let Transaction { request, asked_by, parent, .. } = advice;
        if asked_by != request.transaction {
            actions.push(Action::Forget { transaction: asked_by });
        }
        self.take_no_share(request.transaction, parent);
        self.leave_for_later(&request, actions);
    }

    fn advice_leg(&mut self, request: &Request, issuer: LinkId, now: Now) -> Option<IssuerLeg> {
        let mti = request.leg.mti.first();
        let taken = self.is_ours(&OriginalKey::passed(&request.leg, issuer));
        let (stan, sent_at) = if taken || self.passes(issuer) && self.is_parked(issuer, request.leg.stan) {
            // That name gets free never, or not by itself; and what happened must arrive.
            self.take_own_name(issuer, mti.class, now)?
        } else {
            let identifiers = self.issuer(issuer)?.identifiers;
            self.issuer_identifiers(issuer, identifiers, &request.leg, now).ok()?
        };
        Some(IssuerLeg { link: issuer, mti, sent_at, stan, forwarder: Some(self.config.institution) })
    }

    /// Whether that number is of a message that waits for a person.
    fn is_parked(&self, issuer: LinkId, stan: Stan) -> bool {
        match self.outstanding.get(&(issuer, stan)) {
            Some(Outstanding::Stored(id)) => self.stored.is_parked(*id),
            _ => false,
        }
    }

    /// Puts a durable message into its issuer's queue and sends what may be sent.
    pub(super) fn store(
        &mut self,
        entry: StoredEntry,
        mark: CardMark,
        held: bool,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let issuer = entry.issuer.link;
        self.outstanding.insert((issuer, entry.issuer.stan), Outstanding::Stored(entry.transaction));
        // What it names may have come into the queue since it was appended.
        self.note_taken_back(&entry, actions);
        self.stored.push(entry, mark, now, held);
        self.deliver_due(issuer, now, actions);
    }

    /// Sends what is due at an issuer.
    pub(super) fn deliver_due(&mut self, issuer: LinkId, now: Now, actions: &mut Vec<Action>) {
        for id in self.stored.due(issuer, now.moment) {
            if let Some(item) = self.stored.get(id) {
                let delivery = Delivery { entry: item.entry.clone(), repeat: item.attempts > 0 };
                // Until the node says how it went it counts as sent, lest it be sent twice in one batch.
                self.stored.sent(id, now.moment);
                actions.push(Action::Deliver(Box::new(delivery)));
            }
        }
    }

    /// Everything that waits for its moment, or waited in vain for its acknowledgement.
    pub(super) fn retry_stored(&mut self, now: Now, actions: &mut Vec<Action>) {
        for id in self.stored.overdue(now.moment) {
            actions.push(Action::Silent { transaction: id, what: Answerable::Stored });
            self.again_or_aside(id, now, actions);
        }
        for issuer in self.stored.issuers() {
            self.deliver_due(issuer, now, actions);
        }
    }

    /// An issuer answered an advice or reversal.
    pub(super) fn stored_answered(
        &mut self,
        id: TransactionId,
        answer: &IssuerAnswer,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(item) = self.stored.get(id) else { return };
        let (leg, elements) = (item.entry.issuer, &item.entry.elements);
        // What was never sent cannot have been answered.
        let named = names(&leg, elements, institution(elements), answer) && same_amount(elements, answer);
        if !item.sent || !named {
            self.counts.unmatched += 1;
            return;
        }
        if answer.believable {
            self.stored.hear(answer.link);
        }
        let Some(item) = self.stored.get(id) else { return };
        let unknown_for = item.unknown_since.map(|since| now.moment.since(since)).unwrap_or_default();
        let stood_in = item.entry.kind == StoredKind::StandIn;
        let settled = unknown_for > self.config.longest_timeout().saturating_mul(2);
        let settled = settled || sabotaged("unknown-means-undone");
        match meaning(answer, item.entry.is_reversal(), settled) {
            Acknowledgement::Done => self.delivered(id, answer.code, now, actions),
            Acknowledgement::Parked => {
                self.counts.stand_in_disputed += u64::from(stood_in);
                self.park(id, DeliveryEnd::Parked(answer.code), Some(answer.code), now, actions);
            }
            Acknowledgement::Again => {
                let silent = Action::Silent { transaction: id, what: Answerable::Stored };
                actions.push(if answer.believable { Action::Heard { transaction: id } } else { silent });
                self.stored.answered(id, answer.code, is_unknown(answer).then_some(now.moment));
                self.again_or_aside(id, now, actions);
            }
        }
    }

    fn delivered(&mut self, id: TransactionId, code: ResponseCode, now: Now, actions: &mut Vec<Action>) {
        self.counts.delivered += 1;
        let end = DeliveryEnd::Acknowledged(code);
        let entry = TransactionEntry::Delivered(DeliveredEntry { stored: id, end });
        self.append(entry, Then::Nothing, actions);
        let Some(item) = self.stored.remove(id, now.moment) else { return };
        self.stored_number_ends(&item.entry, now);
        self.deliver_due(item.entry.issuer.link, now, actions);
    }

    /// Nobody waits for an answer under its number any more.
    pub(super) fn stored_number_ends(&mut self, entry: &StoredEntry, now: Now) {
        let IssuerLeg { link, stan, sent_at, .. } = entry.issuer;
        self.outstanding.remove(&(link, stan));
        // By its own words: the advice itself may be forgotten by now.
        let passed = entry.acquirer.is_some_and(|leg| (leg.stan, leg.sent_at) == (stan, sent_at));
        if entry.kind == StoredKind::Advice && passed {
            self.acquirers_number_ends(link, stan, now.moment);
        } else {
            self.give_number_back(link, stan, now.moment);
        }
    }

    /// Its issuer neither took nor refused it. It is sent again, unless it holds up others for too long.
    fn again_or_aside(&mut self, id: TransactionId, now: Now, actions: &mut Vec<Action>) {
        if self.stored.holds_up(id, now.wall) {
            let code = self.stored.get(id).and_then(|item| item.code);
            self.park(id, DeliveryEnd::SetAside(code), code, now, actions);
        } else {
            self.stored.again(id, now);
        }
    }

    /// Its number stays its own: a person may have it tried again under the same.
    fn park(
        &mut self,
        id: TransactionId,
        end: DeliveryEnd,
        code: Option<ResponseCode>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let entry = TransactionEntry::Delivered(DeliveredEntry { stored: id, end });
        self.append(entry, Then::Nothing, actions);
        self.set_aside(id, code, now, actions);
    }

    /// This switch cannot say it to its issuer. The journal owes it still, and the next start tries it once more; but
    /// not what was taken back, whose reversal goes on without it.
    pub(super) fn cannot_be_said(&mut self, id: TransactionId, now: Now, actions: &mut Vec<Action>) {
        self.stored.not_sent(id, now);
        if self.stored.get(id).is_some_and(|item| item.taken_back) {
            self.park(id, DeliveryEnd::SetAside(None), None, now, actions);
        } else {
            self.stored.note_unsayable(id);
            self.set_aside(id, None, now, actions);
        }
    }

    /// A reversal is taken over: the advice that it names must not be sent behind it.
    pub(super) fn note_taken_back(&mut self, reversal: &StoredEntry, actions: &mut Vec<Action>) {
        let place = reversal.number_taken_back().map(|stan| (reversal.issuer.link, stan));
        let Some(Outstanding::Stored(id)) = place.and_then(|place| self.outstanding.get(&place)).copied()
        else {
            return;
        };
        let named = self.stored.find(id).is_some_and(|item| reversal.takes_back(&item.entry));
        if named && self.stored.note_taken_back(id) {
            let entry = DeliveredEntry { stored: id, end: DeliveryEnd::SetAside(None) };
            self.append(TransactionEntry::Delivered(entry), Then::Nothing, actions);
        }
    }

    fn set_aside(
        &mut self,
        id: TransactionId,
        code: Option<ResponseCode>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        self.counts.parked += 1;
        if let Some(issuer) = self.stored.park(id, code, now.moment) {
            self.deliver_due(issuer, now, actions);
        }
    }
}

/// DE 4 must be the message's, where the answer has it.
fn same_amount(elements: &Elements, answer: &IssuerAnswer) -> bool {
    let asked = elements.get(DataElement::AMOUNT.number());
    answer.amount.zip(asked).is_none_or(|(answered, asked)| answered.digits() == *asked)
}

/// An approval acknowledges, and of a reversal also 21: nothing was to be undone. What says "later" (91, 96), or cannot
/// be believed, decides nothing. 25 does only once the original can no longer be on its way: when it is said again,
/// twice the longest time-out after it was said first. Once for the issuer, which was awake, to read all that was in
/// its other sockets, what it does not know then needs no undoing; and once since what is heard now may be the late
/// answer to an earlier sending, by which it had not read that yet. Any other answer is a no that sending again would
/// not change: the two books differ by it, until a person has settled that.
fn meaning(answer: &IssuerAnswer, is_reversal: bool, settled: bool) -> Acknowledgement {
    let (unknown, untouched) = (is_unknown(answer), answer.code.as_str() == "21");
    match answer.outcome {
        _ if !answer.believable || unknown && !settled => Acknowledgement::Again,
        Some(Outcome::Approved) => Acknowledgement::Done,
        _ if is_reversal && (unknown || untouched) => Acknowledgement::Done,
        Some(Outcome::RetryLater | Outcome::Unknown) => Acknowledgement::Again,
        Some(Outcome::ApprovedPartly | Outcome::Declined) | None => Acknowledgement::Parked,
    }
}

/// 25: it does not know the original.
fn is_unknown(answer: &IssuerAnswer) -> bool {
    answer.believable && answer.code.as_str() == "25"
}
