//! The earlier transaction that a message names: found in memory or looked up in the history, and what later messages
//! made of it.

use std::sync::Arc;

use crate::codec::DataElement;
use crate::journal::{HistoryName, HistoryQuestion};
use crate::stdx::clock::Now;
use crate::tsp::Purpose;
use crate::vocab::{Refusal, Rrn, TransactionId, TransactionKind};

use super::super::answered::{Answered, OriginalKey, ShareKind, agrees};
use super::super::event::{Action, AnswerKind, Past};
use super::super::request::{CardSource, Compared, Request, RequestKind};
use super::super::transaction::{Original, Parent};
use super::reversal::original_data;
use super::{Asked, SwitchCore, Then};

/// A message that waits for what the history knows.
#[derive(Debug)]
pub(super) struct Looking {
    asked: Asked,
    /// Its acquirer's reversal came meanwhile: it is not to be forwarded.
    pub(super) reversed: bool,
}

impl Looking {
    pub(super) fn request(&self) -> &Arc<Request> {
        &self.asked.request
    }

    /// A repeat moves the answer to the newest connection.
    pub(super) fn asked_again(&mut self, from: crate::link::ConnectionId) {
        self.asked.from = from;
    }
}

impl SwitchCore {
    /// Goes on with a message that may be asked, once what it names can be known.
    pub(super) fn enter(&mut self, asked: Asked, now: Now, actions: &mut Vec<Action>) {
        match self.unknown_here(&asked.request, now) {
            Some(name) => self.look_up(asked, name, now, actions),
            None => self.proceed(asked, &[], now, actions),
        }
    }

    /// What a message names that memory does not hold, and may never have held: it stands in the history.
    fn unknown_here(&self, request: &Request, now: Now) -> Option<HistoryName> {
        let link = request.leg.link;
        if let Some(data) = request.original.as_deref() {
            let key = OriginalKey::from_data(link, data, now.wall);
            let forgotten = self.answered.may_have_forgotten(link, key.sent_at);
            let wanted = forgotten && self.originals(&key).next().is_none();
            return wanted.then_some(HistoryName::Leg { link, stan: key.stan, sent_at: key.sent_at });
        }
        if request.kind == RequestKind::Reversal {
            return None;
        }
        // DE 38 in a request is an earlier approval's: with DE 37 it names what it completes.
        request.elements.get(DataElement::APPROVAL_CODE.number())?;
        let rrn = request.elements.get(DataElement::RRN.number())?;
        Some(HistoryName::Rrn { link, rrn: Rrn::parse(rrn).ok()? })
    }

    /// Asks the history, in turn: it knows what is durable, and must know all that was decided before.
    fn look_up(&mut self, asked: Asked, name: HistoryName, now: Now, actions: &mut Vec<Action>) {
        self.counts.look_ups += 1;
        let (id, request) = (asked.request.transaction, Arc::clone(&asked.request));
        if self.looking.len() >= self.config.limits.look_ups {
            return self.turn_away(asked, Refusal::Overloaded, actions);
        }
        if let Some(data) = request.original.as_deref().filter(|_| request.kind == RequestKind::Reversal) {
            // Should the original come now, it comes behind its reversal.
            let key = OriginalKey::from_data(request.leg.link, data, now.wall);
            self.tombstones.insert(key, now.moment.plus(self.config.longest_timeout().saturating_mul(2)));
        }
        self.looking.insert(id, Box::new(Looking { asked, reversed: false }));
        self.look_ups_end.push_back((now.moment.plus(self.config.longest_timeout()), id));
        let question = HistoryQuestion { asked: id, name };
        match self.waiting.back() {
            Some((ticket, _)) => self.waiting.push_back((*ticket, Then::LookUp(question))),
            None => actions.push(Action::LookUp(question)),
        }
    }

    /// The history has answered; `None`: it cannot be read.
    pub(super) fn looked_up(
        &mut self,
        asked: TransactionId,
        found: Option<Vec<Past>>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(looking) = self.looking.remove(&asked) else { return };
        let Looking { asked, reversed } = *looking;
        if reversed {
            return self.turn_away(asked, Refusal::ReversedInFlight, actions);
        }
        let Some(found) = found else {
            self.counts.look_ups_failed += 1;
            return match asked.request.kind {
                // What it tells has happened, and its card can be found without its original.
                RequestKind::Advice => self.proceed(asked, &[], now, actions),
                RequestKind::Payment | RequestKind::Reversal => {
                    self.turn_away(asked, Refusal::InternalFault, actions);
                }
            };
        };
        let mut ids = Vec::with_capacity(found.len());
        for Past { transaction, answered } in found {
            ids.push(transaction);
            if self.known(transaction).is_none() {
                self.index.insert(&answered.request, transaction);
                self.answered.recall(transaction, answered, &mut self.index);
            }
        }
        self.proceed(asked, &ids, now, actions);
    }

    /// The history was silent for too long.
    pub(super) fn end_look_ups(&mut self, now: Now, actions: &mut Vec<Action>) {
        while self.look_ups_end.front().is_some_and(|(until, _)| *until <= now.moment) {
            let Some((_, id)) = self.look_ups_end.pop_front() else { break };
            self.looked_up(id, None, now, actions);
        }
    }

    /// A payment is refused; an advice or reversal stays unanswered, so that it comes again.
    fn turn_away(&mut self, asked: Asked, refusal: Refusal, actions: &mut Vec<Action>) {
        let Asked { request, from, .. } = asked;
        self.index.remove(&request, request.transaction);
        match request.kind {
            RequestKind::Payment => self.refuse_unseen(&request, from, refusal, actions),
            RequestKind::Advice | RequestKind::Reversal => {
                self.counts.unanswered += 1;
                actions.push(Action::Forget { transaction: request.transaction });
            }
        }
    }

    /// What a message names is known, or cannot be: `found` are the transactions of its name in the history.
    fn proceed(&mut self, mut asked: Asked, found: &[TransactionId], now: Now, actions: &mut Vec<Action>) {
        let parent = match asked.request.kind {
            RequestKind::Reversal => {
                return self.reversal_received(asked.request, asked.from, now, actions);
            }
            RequestKind::Payment | RequestKind::Advice => self.parent(&asked.request, found, now),
        };
        if asked.request.kind == RequestKind::Advice {
            return self.advice_received(asked, parent, now, actions);
        }
        if let Err(refusal) = self.permit_refund(&asked.request, parent.as_ref()) {
            return self.turn_away(asked, refusal, actions);
        }
        if let (CardSource::Token(question), Some(_)) = (&mut asked.card, &parent) {
            // It is decided by its original: its token need not be good any more.
            question.purpose = Purpose::PastEvent;
        }
        self.look_up_card(asked, parent, now, actions);
    }

    /// Money goes back by what was captured and not refunded yet, or by permission.
    fn permit_refund(&self, request: &Request, parent: Option<&Parent>) -> Result<(), Refusal> {
        if !is_refund(&request.compared) {
            return Ok(());
        }
        let asked = request.compared.amount.ok_or(Refusal::FormatError)?;
        let permitted = match parent {
            Some(parent) => self.answered.get(parent.original.transaction).is_some_and(|original| {
                original.has_room_for_shares(self.config.limits.followers)
                    && asked.minor() <= original.refundable()
            }),
            None => self
                .acquirer(request.leg.link)
                .and_then(|acquirer| acquirer.refunds)
                .is_some_and(|most| asked.currency() == most.currency() && asked.minor() <= most.minor()),
        };
        if permitted { Ok(()) } else { Err(Refusal::RefundNotPermitted) }
    }

    /// The one transaction that a payment or advice refunds, completes or raises.
    fn parent(&self, request: &Request, found: &[TransactionId], now: Now) -> Option<Parent> {
        let named: Vec<TransactionId> = match request.original.as_deref() {
            Some(data) => {
                let key = OriginalKey::from_data(request.leg.link, data, now.wall);
                let agreeing = |id: &TransactionId| {
                    self.known(*id).is_some_and(|known| agrees(data.acquirer, known.key.institution))
                };
                self.originals(&key).filter(agreeing).collect()
            }
            None if found.is_empty() => return None,
            None => found.iter().copied().filter(|id| self.has_approval_of(*id, request)).collect(),
        };
        let mut parents = named.into_iter().filter_map(|id| {
            let answered = self.answered.get(id)?;
            let kind = follows(request, answered)?;
            Some((id, kind, answered.at_issuer()?, answered.request.key.institution))
        });
        let (transaction, kind, routed, institution) = parents.next()?;
        if parents.next().is_some() {
            return None;
        }
        let data = Some(original_data(&routed, institution));
        Some(Parent {
            original: Original { transaction, kind, data },
            mark: routed.mark,
            issuer: routed.leg.link,
            card: routed.card,
        })
    }

    /// DE 37 and DE 38 together name an approval; what raised it has the same DE 37, and is not meant.
    fn has_approval_of(&self, id: TransactionId, request: &Request) -> bool {
        let element = DataElement::APPROVAL_CODE.number();
        self.answered.get(id).is_some_and(|answered| {
            let given = answered.elements.get(element);
            let first = answered.routed.as_ref().is_some_and(|routed| routed.original.is_none());
            first && given.is_some() && given == request.elements.get(element)
        })
    }

    /// Requests that have this name, in flight or answered.
    pub(super) fn originals(&self, key: &OriginalKey) -> impl Iterator<Item = TransactionId> {
        let named = |id: &TransactionId| self.known(*id).is_some_and(|it| OriginalKey::of(&it.leg) == *key);
        self.index.originals(key).filter(named)
    }

    /// What a later message makes of its original: the amount that is its share now, in minor units.
    pub(super) fn share(&mut self, original: Option<&Original>, by: TransactionId, minor: u64) {
        if let Some(original) = original
            && let Some(answered) = self.answered.get_mut(original.transaction)
        {
            answered.set_share(original.kind, by, minor);
        }
    }

    /// As `share`, of something that has its answer: what still stands of it.
    pub(super) fn share_again(&mut self, by: TransactionId) {
        let Some(answered) = self.answered.get(by) else { return };
        let minor = answered.standing();
        let original = answered.routed.as_ref().and_then(|routed| routed.original.clone());
        self.share(original.as_deref(), by, minor);
    }

    /// A message that is being looked for is asked again: the answer goes to the newest connection.
    pub(super) fn asked_while_looking(
        &mut self,
        known: TransactionId,
        request: &Arc<Request>,
        from: crate::link::ConnectionId,
        actions: &mut Vec<Action>,
    ) -> bool {
        let Some(looking) = self.looking.get_mut(&known) else { return false };
        if looking.request().compared == request.compared {
            looking.asked_again(from);
            actions.push(Action::Forget { transaction: request.transaction });
        } else {
            self.refuse_unseen(request, from, Refusal::AlteredDuplicate, actions);
        }
        true
    }

    /// A reversal whose original is being looked up itself: it will not be forwarded.
    pub(super) fn reverse_looking(
        &mut self,
        request: Arc<Request>,
        from: crate::link::ConnectionId,
        original: TransactionId,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        if let Some(looking) = self.looking.get_mut(&original) {
            looking.reversed = true;
        }
        self.bury(request, from, AnswerKind::Accepted, now, actions);
    }
}

/// What a message makes of a transaction whose approval stands, if it may be of it: same card and currency.
fn follows(request: &Request, original: &Answered) -> Option<ShareKind> {
    let (asked, done) = (&request.compared, &original.request.compared);
    let same = asked.account == done.account
        && asked.amount.zip(done.amount).is_some_and(|(asked, done)| asked.currency() == done.currency());
    let debited = done.processing.as_ref()?.kind() == TransactionKind::Debit;
    if !same || !debited || !original.stands() {
        return None;
    }
    let kind = ShareKind::of(request.leg.mti.class, asked.processing.as_ref()?.kind())?;
    // Only a hold can be raised or completed.
    (kind == ShareKind::Refund || original.is_hold()).then_some(kind)
}

/// Whether money is to go back to the card (DE 3 = 2x).
pub(super) fn is_refund(compared: &Compared) -> bool {
    compared.processing.as_ref().is_some_and(|processing| processing.kind() == TransactionKind::Credit)
}
