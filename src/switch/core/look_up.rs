//! Looking earlier transactions up in the history: what may have come before, or names what memory does not hold, waits
//! for it.

use std::sync::Arc;

use crate::codec::{DataElement, OriginalData};
use crate::journal::{HistoryName, HistoryQuestion};
use crate::stdx::clock::Now;
use crate::tsp::{Initiation, NamedOriginal, Purpose};
use crate::vocab::{Initiator, Refusal, Rrn, TransactionId};

use super::super::answered::OriginalKey;
use super::super::event::{Action, AnswerKind, LookedUp, Past};
use super::super::request::{CardSource, Reference, Request, RequestKind};
use super::original::{is_refund, leaves_part, may_be_of};
use super::{Asked, SwitchCore, Then};

/// A message that waits for what the history knows.
#[derive(Debug)]
pub(super) struct Looking {
    asked: Asked,
    /// It may have come before, and been forgotten: it is looked for itself, and not yet what it names.
    pub(super) may_be_repeat: bool,
    /// Its acquirer's reversal came meanwhile: it is not to be forwarded.
    pub(super) reversed: bool,
    /// By what the history is asked, and how much had been decided by then: of what came after it need not tell.
    name: HistoryName,
    decided: u64,
}

impl Looking {
    pub(super) fn request(&self) -> &Arc<Request> {
        &self.asked.request
    }

    /// By what else the original may be known that the history does not know by its DE 7: a repeat has another one.
    fn other_name(&self) -> Option<HistoryName> {
        let link = self.request().leg.link;
        match (self.name, self.request().key.reference) {
            (HistoryName::Leg { .. }, Reference::Rrn(rrn)) if !self.may_be_repeat => {
                Some(HistoryName::Rrn { link, rrn })
            }
            _ => None,
        }
    }

    /// Whether DE 90 may mean that request, which has its DE 7 and DE 11.
    fn may_be_about(&self, known: &Request) -> bool {
        let (request, class) = (self.request(), known.leg.mti.class);
        let means = |data: &OriginalData| data.mti.class == class && may_be_of(request, data, known);
        request.original.as_deref().is_some_and(means)
    }

    /// A repeat moves the answer to the newest connection.
    pub(super) fn asked_again(&mut self, from: crate::link::ConnectionId) {
        self.asked.from = from;
    }
}

impl SwitchCore {
    /// Goes on with a message that may be asked, once it is known to be new. For what memory may have forgotten the
    /// history vouches: for an advice, which is never too old, and for a payment where another one's DE 7, ahead of the
    /// clock, is among what was forgotten.
    pub(super) fn enter(&mut self, asked: Asked, now: Now, actions: &mut Vec<Action>) {
        if let Some(name) = self.forgotten_name(&asked.request) {
            return self.look_up(asked, name, true, now, actions);
        }
        self.enter_new(asked, now, actions);
    }

    /// By what the history would know a message that came before and was forgotten, if it may be one. A repeat that
    /// says so may have another DE 7 than at first (network rules, repeats).
    pub(super) fn forgotten_name(&self, request: &Request) -> Option<HistoryName> {
        let leg = &request.leg;
        if request.kind == RequestKind::Reversal {
            return None;
        }
        match request.key.reference {
            Reference::Rrn(rrn) if leg.mti.is_repeat() && self.answered.has_forgotten(leg.link) => {
                Some(HistoryName::Rrn { link: leg.link, rrn })
            }
            _ => self.answered.may_have_forgotten(leg.link, leg.sent_at).then(|| HistoryName::of(leg)),
        }
    }

    /// Something is decided about that transaction. Whoever is being told of it by the history may hear what was
    /// before.
    pub(super) fn note_decided(&mut self, id: TransactionId) {
        if !self.looking.is_empty() {
            self.decided.note(id, self.config.limits.look_ups);
        }
    }

    /// Whether the history need not know all about a transaction that memory does not hold.
    fn is_decided_since(&self, count: u64, id: TransactionId) -> bool {
        self.known(id).is_none() && self.decided.since(count, id)
    }

    /// Goes on with a new message, once what it names can be known.
    fn enter_new(&mut self, asked: Asked, now: Now, actions: &mut Vec<Action>) {
        match self.unknown_here(&asked, now) {
            Some(name) => self.look_up(asked, name, false, now, actions),
            None => self.proceed(asked, &[], now, actions),
        }
    }

    /// What a message names that memory does not hold, and may never have held: it stands in the history.
    fn unknown_here(&self, asked: &Asked, now: Now) -> Option<HistoryName> {
        let request = &*asked.request;
        let link = request.leg.link;
        if let Some(data) = request.original.as_deref() {
            let name = OriginalKey::from_data(link, data, now.wall);
            let known = self.originals(request, data, now);
            let has_name =
                |id: &TransactionId| self.known(*id).is_some_and(|known| OriginalKey::of(&known.leg) == name);
            let forgotten = !known.iter().any(has_name)
                && self.answered.may_have_forgotten(link, name.sent_at)
                || known.is_empty() && self.answered.has_forgotten(link);
            let wanted = forgotten
                || request.kind != RequestKind::Reversal
                    && known.iter().any(|id| self.is_of_forgotten_hold(*id));
            return wanted.then_some(HistoryName::Leg { link, stan: name.stan, sent_at: name.sent_at });
        }
        if request.kind == RequestKind::Reversal {
            return None;
        }
        // DE 38 in a request is an earlier approval's: with DE 37 it names what it completes.
        let rrn = match request.elements.get(DataElement::APPROVAL_CODE.number()) {
            Some(_) => Rrn::parse(request.elements.get(DataElement::RRN.number())?).ok()?,
            None => agreed_by(&asked.card)?,
        };
        Some(HistoryName::Rrn { link, rrn })
    }

    /// Asks the history, in turn: it knows what is durable, and must know all that was decided before.
    fn look_up(
        &mut self,
        asked: Asked,
        name: HistoryName,
        may_be_repeat: bool,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let request = Arc::clone(&asked.request);
        let id = request.transaction;
        if self.looking.len() >= self.config.limits.look_ups {
            self.counts.look_ups += 1;
            return self.turn_away(asked, may_be_repeat, Refusal::Overloaded, actions);
        }
        let undoes = request.kind == RequestKind::Reversal && !leaves_part(&request);
        if let Some(data) = request.original.as_deref().filter(|_| undoes) {
            let key = OriginalKey::from_data(request.leg.link, data, now.wall);
            self.lay_tombstone(&request, data, key);
        }
        self.look_ups_end.insert((now.moment.plus(self.config.longest_timeout()), id));
        let looking = Looking { asked, may_be_repeat, reversed: false, name, decided: 0 };
        self.ask_history(Box::new(looking), actions);
    }

    fn ask_history(&mut self, mut looking: Box<Looking>, actions: &mut Vec<Action>) {
        self.counts.look_ups += 1;
        let id = looking.request().transaction;
        let question = HistoryQuestion { asked: id, name: looking.name };
        looking.decided = self.decided.count();
        self.looking.insert(id, looking);
        match self.waiting.back() {
            Some((ticket, _)) => self.waiting.push_back((*ticket, Then::LookUp(question))),
            None => actions.push(Action::LookUp(question)),
        }
    }

    /// The history has answered; `None`: it cannot be read.
    pub(super) fn looked_up(
        &mut self,
        asked: TransactionId,
        found: Option<LookedUp>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(mut looking) = self.looking.remove(&asked) else { return };
        if let Some(name) = self.to_ask_again(&looking, found.as_ref()) {
            looking.name = name;
            return self.ask_history(looking, actions);
        }
        if self.looking.is_empty() {
            self.decided.forget();
        }
        let Looking { asked, may_be_repeat, reversed, .. } = *looking;
        match found {
            _ if reversed => self.turn_away(asked, may_be_repeat, Refusal::ReversedInFlight, actions),
            None => self.go_on_without(asked, may_be_repeat, now, actions),
            Some(found) => self.go_on_with(asked, found, may_be_repeat, now, actions),
        }
    }

    /// By what the history is to be asked once more: as before where something was decided since about what it found,
    /// else by DE 37 where nothing has the DE 7 of DE 90.
    fn to_ask_again(&self, looking: &Looking, found: Option<&LookedUp>) -> Option<HistoryName> {
        let past = &found.filter(|_| !looking.reversed)?.past;
        if past.iter().any(|past| self.is_decided_since(looking.decided, past.transaction)) {
            return Some(looking.name);
        }
        let is_found = past.iter().any(|past| looking.may_be_about(&past.answered.request));
        looking.other_name().filter(|_| !is_found)
    }

    /// The history cannot be read.
    fn go_on_without(&mut self, asked: Asked, may_be_repeat: bool, now: Now, actions: &mut Vec<Action>) {
        self.counts.look_ups_failed += 1;
        // What it tells has happened, and its card can be found without its original. A refund's bound cannot.
        if asked.request.kind == RequestKind::Advice && !may_be_repeat && !is_refund(&asked.request.compared)
        {
            self.proceed(asked, &[], now, actions);
        } else {
            self.turn_away(asked, may_be_repeat, Refusal::InternalFault, actions);
        }
    }

    fn go_on_with(
        &mut self,
        asked: Asked,
        LookedUp { past, more }: LookedUp,
        may_be_repeat: bool,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let ids: Vec<TransactionId> = past.iter().map(|past| past.transaction).collect();
        // What they are about stands behind them, and may go first where not all find room.
        for Past { transaction, answered } in past.into_iter().rev() {
            if self.known(transaction).is_none() {
                self.index.insert(&answered.request, transaction);
                self.answered.recall(transaction, answered, &mut self.index);
            }
        }
        let data = asked.request.original.as_deref();
        let left_out = |it: &Self| match data {
            _ if may_be_repeat => it.find_repeat(&asked.request).is_none(),
            Some(data) => it.originals(&asked.request, data, now).is_empty(),
            None => false,
        };
        if more && left_out(self) {
            // What it repeats or names may be one of those that were left out.
            self.go_on_without(asked, may_be_repeat, now, actions);
        } else if may_be_repeat {
            self.enter_unless_known(asked, now, actions);
        } else {
            self.proceed(asked, &ids, now, actions);
        }
    }

    /// The history has brought back what this may be a repeat of, if anything.
    fn enter_unless_known(&mut self, asked: Asked, now: Now, actions: &mut Vec<Action>) {
        let request = &asked.request;
        self.index.remove(request, request.transaction);
        if let Some(known) = self.find_repeat(request) {
            return self.repeated(known, request, asked.from, actions);
        }
        if self.is_buried(request) {
            // Its reversal came while it was looked for.
            return self.refuse_unseen(request, asked.from, Refusal::ReversedBefore, actions);
        }
        self.index.insert(request, request.transaction);
        self.enter_new(asked, now, actions);
    }

    /// The history was silent for too long.
    pub(super) fn end_look_ups(&mut self, now: Now, actions: &mut Vec<Action>) {
        while self.look_ups_end.first().is_some_and(|(until, _)| *until <= now.moment) {
            let Some((_, id)) = self.look_ups_end.pop_first() else { break };
            self.looked_up(id, None, now, actions);
        }
    }

    /// A payment is refused, unless it says that it is a repeat: it may have had another answer. An advice or reversal
    /// stays unanswered, so that it comes again.
    pub(super) fn turn_away(
        &mut self,
        asked: Asked,
        may_be_repeat: bool,
        refusal: Refusal,
        actions: &mut Vec<Action>,
    ) {
        let Asked { request, from, .. } = asked;
        let may_be_answered = may_be_repeat && request.leg.mti.is_repeat();
        match request.kind {
            RequestKind::Payment if may_be_answered => self.leave_for_later(&request, actions),
            RequestKind::Payment => {
                self.index.remove(&request, request.transaction);
                self.refuse_unseen(&request, from, refusal, actions);
            }
            RequestKind::Advice | RequestKind::Reversal => self.leave_for_later(&request, actions),
        }
    }

    /// It stays unanswered, so that it comes again.
    pub(super) fn leave_for_later(&mut self, request: &Request, actions: &mut Vec<Action>) {
        self.index.remove(request, request.transaction);
        self.counts.unanswered += 1;
        actions.push(Action::Forget { transaction: request.transaction });
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
        let Some(looking) = self.looking.get_mut(&original) else { return };
        if leaves_part(&request) && looking.request().kind == RequestKind::Advice {
            // It has happened: what is to stand of it can be said once it is taken over.
            return self.leave_for_later(&request, actions);
        }
        looking.reversed = true;
        self.bury(request, from, AnswerKind::Accepted, now, actions);
    }
}

/// By which payment its customer agreed to one that a merchant initiates, if it says so.
fn agreed_by(card: &CardSource) -> Option<Rrn> {
    let CardSource::Token(question) = card else { return None };
    match question.initiation? {
        Initiation { by: Initiator::Merchant, original: NamedOriginal::Named(rrn) }
            if question.purpose == Purpose::Purchase =>
        {
            Some(rrn)
        }
        _ => None,
    }
}
