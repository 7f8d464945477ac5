//! Advices from acquirers, and store and forward: what was taken over is delivered until the issuer acknowledges.

use crate::codec::DataElement;
use crate::journal::{
    DeliveredEntry, DeliveryEnd, Elements, IssuerLeg, StoredEntry, StoredKind, TransactionEntry,
};
use crate::stdx::clock::Now;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{LinkId, Outcome, Refusal, ResponseCode, TransactionId};

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
    /// The issuer will never take it: a person must look.
    Parked,
    Again,
}

impl SwitchCore {
    /// An 0120 or 0220, not seen before: what it tells has happened, so only its card is looked up.
    pub(super) fn advice_received(
        &mut self,
        asked: Asked,
        parent: Option<Parent>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        self.counts.advices += 1;
        self.look_up_card(asked, parent, now, actions);
    }

    /// Its card is known: journal it for delivery. Without room it stays unanswered, so that it comes again.
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
        let Transaction { request, asking, asked_by, .. } = *transaction;
        if asked_by != id {
            actions.push(Action::Forget { transaction: asked_by });
        }
        let leg = if self.stored.has_room(issuer) { self.advice_leg(&request, issuer, now) } else { None };
        let Some(leg) = leg else {
            self.counts.unanswered += 1;
            self.index.remove(&request, id);
            return actions.push(Action::Forget { transaction: id });
        };
        // From now on: another one with the same identifiers may come before this one is durable.
        self.outstanding.insert((issuer, leg.stan), Outstanding::Stored(id));
        let routed = Routed {
            card: found.card,
            mark: found.mark,
            verdicts: found.verdicts,
            counter: found.counter,
            leg,
            window: self.windows.current(),
            settles: self.settles(&request),
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

    fn advice_leg(&mut self, request: &Request, issuer: LinkId, now: Now) -> Option<IssuerLeg> {
        let identifiers = self.issuer(issuer)?.identifiers;
        let acquirers = (request.leg.stan, request.leg.sent_at);
        let (stan, sent_at) = self.issuer_identifiers(issuer, identifiers, acquirers, now).ok()?;
        let mti = request.leg.mti.first();
        Some(IssuerLeg { link: issuer, mti, sent_at, stan, forwarder: Some(self.config.institution) })
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
            actions.push(Action::LetGo { transaction: id });
            self.stored.again(id, now);
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
        if item.attempts == 0 || !named {
            self.counts.unmatched += 1;
            return;
        }
        let unknown_for = item.unknown_since.map(|since| now.moment.since(since)).unwrap_or_default();
        let stood_in = item.entry.kind == StoredKind::StandIn;
        let settled = unknown_for > self.config.longest_timeout();
        let meant = if stood_in {
            said_to_stand_in(answer)
        } else {
            meaning(answer, settled || sabotaged("unknown-means-undone"))
        };
        match meant {
            Acknowledgement::Done => {
                let disputes = stood_in && answer.outcome != Some(Outcome::Approved);
                self.counts.stand_in_disputed += u64::from(disputes);
                self.delivered(id, answer.code, now, actions);
            }
            Acknowledgement::Parked => self.park(id, answer.code, now, actions),
            Acknowledgement::Again => {
                actions.push(Action::Heard { transaction: id });
                self.stored.answered(id, answer.code, is_unknown(answer).then_some(now.moment));
                self.stored.again(id, now);
            }
        }
    }

    fn delivered(&mut self, id: TransactionId, code: ResponseCode, now: Now, actions: &mut Vec<Action>) {
        self.counts.delivered += 1;
        let end = DeliveryEnd::Acknowledged(code);
        let entry = TransactionEntry::Delivered(DeliveredEntry { stored: id, end });
        self.append(entry, Then::Nothing, actions);
        let Some(item) = self.stored.remove(id, now.moment) else { return };
        let leg = item.entry.issuer;
        self.outstanding.remove(&(leg.link, leg.stan));
        self.give_number_back(leg.link, leg.stan, now.moment);
        self.deliver_due(leg.link, now, actions);
    }

    /// Its number stays its own: a person may have it tried again under the same.
    fn park(&mut self, id: TransactionId, code: ResponseCode, now: Now, actions: &mut Vec<Action>) {
        self.counts.parked += 1;
        let entry =
            TransactionEntry::Delivered(DeliveredEntry { stored: id, end: DeliveryEnd::Parked(code) });
        self.append(entry, Then::Nothing, actions);
        let issuer = self.stored.get(id).map(|item| item.entry.issuer.link);
        self.stored.park(id, code, now.moment);
        if let Some(issuer) = issuer {
            self.deliver_due(issuer, now, actions);
        }
    }
}

/// DE 4 must be the message's, where the answer has it.
fn same_amount(elements: &Elements, answer: &IssuerAnswer) -> bool {
    let asked = elements.get(DataElement::AMOUNT.number());
    answer.amount.zip(asked).is_none_or(|(answered, asked)| answered.digits() == *asked)
}

/// 00 and 21 acknowledge; 25 only once the original can no longer be on its way: when it is said again, the longest
/// time-out after it was said first. By then the issuer, which was awake, has read all that was in its other sockets.
/// 30, 12 and 40 will never do; all else is tried again.
fn meaning(answer: &IssuerAnswer, settled: bool) -> Acknowledgement {
    if !answer.believable {
        return Acknowledgement::Again;
    }
    match (answer.outcome, response(answer.code)) {
        (Some(Outcome::Approved), _) | (_, "21") => Acknowledgement::Done,
        _ if settled && is_unknown(answer) => Acknowledgement::Done,
        (_, "30" | "12" | "40") => Acknowledgement::Parked,
        _ => Acknowledgement::Again,
    }
}

/// 25: it does not know the original.
fn is_unknown(answer: &IssuerAnswer) -> bool {
    answer.believable && response(answer.code) == "25"
}

/// An issuer that would have declined has heard it nevertheless: its word is recorded.
fn said_to_stand_in(answer: &IssuerAnswer) -> Acknowledgement {
    match (answer.outcome, meaning(answer, false)) {
        (Some(Outcome::Declined), Acknowledgement::Again) => Acknowledgement::Done,
        (_, meant) => meant,
    }
}

fn response(code: ResponseCode) -> &'static str {
    ["21", "25", "30", "12", "40"].into_iter().find(|known| code.as_str() == *known).unwrap_or_default()
}
