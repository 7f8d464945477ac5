//! Asking an issuer whether its card may have a token: journaled, sent once, with a deadline of its own. Nothing moves
//! by it, so it is never reversed, never stood in, and never sent again: who asked may ask again.

use crate::journal::{EnquiryEntry, IssuerLeg, TransactionEntry};
use crate::link::Answerable;
use crate::stdx::clock::{Moment, Now};
use crate::vocab::{
    EnquiryId, LinkId, MessageClass, MessageFunction, Mti, SentAt, TokenRequestorId, TransactionId,
};

use super::super::event::{Action, IssuerAnswer};
use super::{Outstanding, SwitchCore, Then};

/// What is to be asked of whom. The card stays with the node.
#[derive(Debug, Clone, Copy)]
pub struct EnquiryOrder {
    pub transaction: TransactionId,
    pub issuer: LinkId,
    pub requestor: TokenRequestorId,
    pub enquiry: EnquiryId,
}

/// An enquiry between its order and its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct PendingEnquiry {
    leg: IssuerLeg,
    deadline: Moment,
    sent: bool,
}

impl SwitchCore {
    /// An issuer is to be asked.
    pub(super) fn enquire(&mut self, order: EnquiryOrder, now: Now, actions: &mut Vec<Action>) {
        let EnquiryOrder { transaction, issuer, requestor, enquiry } = order;
        let timeout = self.issuer(issuer).map(|config| config.enquiry_timeout);
        let number = timeout.filter(|_| !self.draining).and_then(|_| self.take_number(issuer, now.moment));
        let Some((timeout, stan)) = timeout.zip(number) else {
            return actions.push(Action::Enquired { transaction, answer: None });
        };
        let leg = IssuerLeg {
            link: issuer,
            mti: Mti::of(MessageClass::Authorization, MessageFunction::Request),
            sent_at: SentAt(now.wall.seconds()),
            stan,
            forwarder: Some(self.config.institution),
        };
        let pending = PendingEnquiry { leg, deadline: now.moment.plus(timeout), sent: false };
        self.outstanding.insert((issuer, stan), Outstanding::Enquiry(transaction));
        self.enquiries.insert(transaction, pending);
        let entry = EnquiryEntry { transaction, issuer: leg, requestor, enquiry };
        self.append(TransactionEntry::Enquiry(entry), Then::Enquire(transaction), actions);
    }

    /// Its entry is durable: now it may leave.
    pub(super) fn send_enquiry(&mut self, id: TransactionId, now: Now, actions: &mut Vec<Action>) {
        let Some(pending) = self.enquiries.get_mut(&id) else { return };
        if pending.deadline <= now.moment {
            return self.end_enquiry(id, None, now, actions);
        }
        pending.sent = true;
        actions.push(Action::Enquire { transaction: id, leg: pending.leg });
    }

    /// Whether it is one, and then ended without an answer: no connection took it, or the one that had it is gone.
    pub(super) fn enquiry_lost(&mut self, id: TransactionId, now: Now, actions: &mut Vec<Action>) -> bool {
        let is_one = self.enquiries.contains_key(&id);
        if is_one {
            self.end_enquiry(id, None, now, actions);
        }
        is_one
    }

    /// An answer under an enquiry's number. One that is not to it, or says money, is nobody's.
    pub(super) fn enquiry_answered(
        &mut self,
        id: TransactionId,
        answer: IssuerAnswer,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let fits = |pending: &PendingEnquiry| {
            pending.sent && answer.mti.answers(pending.leg.mti) && answer.sent_at == pending.leg.sent_at
        };
        if !self.enquiries.get(&id).is_some_and(fits) {
            self.counts.unmatched += 1;
            return;
        }
        let believable = answer.believable && answer.amount.is_none_or(|amount| amount.minor() == 0);
        self.end_enquiry(id, believable.then_some(answer), now, actions);
    }

    /// Enquiries whose time is over.
    pub(super) fn time_out_enquiries(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.enquiries.is_empty() {
            return;
        }
        let over = self.enquiries.iter().filter(|(_, pending)| pending.deadline <= now.moment);
        let mut over: Vec<TransactionId> = over.map(|(id, _)| *id).collect();
        over.sort_unstable();
        for id in over {
            self.end_enquiry(id, None, now, actions);
        }
    }

    /// None is waited for any longer.
    pub(super) fn end_enquiries(&mut self, now: Now, actions: &mut Vec<Action>) {
        let mut all: Vec<TransactionId> = self.enquiries.keys().copied().collect();
        all.sort_unstable();
        for id in all {
            self.end_enquiry(id, None, now, actions);
        }
    }

    /// When the next one runs out.
    pub(super) fn enquiry_deadline(&self) -> Option<Moment> {
        self.enquiries.values().map(|pending| pending.deadline).min()
    }

    fn end_enquiry(
        &mut self,
        id: TransactionId,
        answer: Option<IssuerAnswer>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(PendingEnquiry { leg, sent, .. }) = self.enquiries.remove(&id) else { return };
        self.outstanding.remove(&(leg.link, leg.stan));
        self.give_number_back(leg.link, leg.stan, now.moment);
        self.counts.enquiries += 1;
        self.counts.enquiries_unanswered += u64::from(answer.is_none());
        if sent && answer.is_none() {
            actions.push(Action::Silent { transaction: id, what: Answerable::Request });
        }
        actions.push(Action::Enquired { transaction: id, answer: answer.map(Box::new) });
    }
}
