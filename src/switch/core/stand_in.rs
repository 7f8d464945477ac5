//! Stand-in: a payment that its issuer cannot be asked, or did not answer, approved in its place within limits; and the
//! advice that tells the issuer.

use crate::codec::DataElement;
use crate::journal::{Elements, IssuerLeg, StoredEntry, StoredKind};
use crate::stdx::clock::Now;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{
    LinkId, MessageClass, MessageFunction, Mti, Outcome, SentAt, Stan, TransactionId, TransactionKind,
};

use super::super::answered::{Answered, OriginalKey};
use super::super::event::AnswerKind;
use super::super::stand_in::Asking;
use super::super::transaction::{Conclusion, Routed};
use super::{Outstanding, SwitchCore};

impl SwitchCore {
    /// Approves in the issuer's place, if it may: how the payment then ends, with the advice for the issuer.
    pub(super) fn stand_in(&mut self, id: TransactionId, now: Now) -> Option<Conclusion> {
        let transaction = self.in_flight.get(&id).filter(|transaction| transaction.reversal.is_none())?;
        let (request, routed) = (&transaction.request, transaction.routed.as_ref()?);
        let amount = request.compared.amount.filter(|_| request.moves_money)?;
        let debit = request.compared.processing.as_ref()?.kind() == TransactionKind::Debit;
        // What is about an earlier payment is for the issuer alone to decide.
        if !debit || routed.original.is_some() {
            return None;
        }
        let issuer = routed.leg.link;
        let terms = self.config.issuers.get(&issuer)?.stand_in.as_ref()?;
        let asking = Asking { amount, elements: &request.elements, routed };
        let stood_in = self.stood_in.entry(issuer).or_default();
        let most = self.config.limits.stand_in;
        let room = stood_in.has_room(routed.mark, terms, most, now.wall) && self.stored.has_room(issuer);
        if !room || !terms.allow(&asking) {
            self.counts.stand_in_refused += 1;
            return None;
        }
        let (mark, routed, elements) = (routed.mark, routed.clone(), request.elements.clone());
        let advice = self.stand_in_advice(id, &routed, elements, now)?;
        if !sabotaged("stood-in-without-count") {
            self.stood_in.entry(issuer).or_default().note(mark, now.wall);
        }
        self.counts.stood_in += 1;
        let mut told = Elements::with_room(Elements::ANSWER_ROOM);
        if let Some(code) = advice.elements.get(DataElement::APPROVAL_CODE.number()) {
            told.keep(DataElement::APPROVAL_CODE.number(), code);
        }
        Some(Conclusion {
            outcome: Outcome::Approved,
            kind: AnswerKind::Accepted,
            elements: told,
            approved: Some(amount),
            reversal: None,
            advice: Some(Box::new(advice)).filter(|_| !sabotaged("stood-in-untold")),
        })
    }

    /// The 0120 or 0220 with a DE 7 and DE 11 of its own, and the approval number that the acquirer gets.
    fn stand_in_advice(
        &mut self,
        id: TransactionId,
        routed: &Routed,
        mut elements: Elements,
        now: Now,
    ) -> Option<StoredEntry> {
        let leg = routed.leg;
        let class = match leg.mti.class {
            MessageClass::Authorization => MessageClass::Authorization,
            _ => MessageClass::Financial,
        };
        let mti = Mti::of(class, MessageFunction::Advice).with_version(leg.mti.version);
        let (stan, sent_at) = self.take_own_name(leg.link, class, now)?;
        let transaction = self.next_transaction();
        // From now on: an acquirer's message may come before this one is durable.
        self.outstanding.insert((leg.link, stan), Outstanding::Stored(transaction));
        // No issuer's, and the receipt tells who approved.
        let approval = format!("S{:05}", id.0 % 100_000);
        elements.keep(DataElement::APPROVAL_CODE.number(), approval.as_bytes());
        Some(StoredEntry {
            transaction,
            original: Some(id),
            kind: StoredKind::StandIn,
            acquirer: None,
            issuer: IssuerLeg { mti, sent_at, stan, ..leg },
            elements,
            original_data: None,
            card: routed.card.clone(),
            verdicts: routed.verdicts,
            window: routed.window,
            // The payment itself counts, once.
            settles: sabotaged("window-counts-it-twice") && routed.settles,
            answer: Elements::default(),
        })
    }

    /// DE 11 and DE 7 of this switch's own for an advice. Where acquirers' identifiers pass, no message of theirs that
    /// is known has them: the issuer could not tell the two apart.
    pub(super) fn take_own_name(
        &mut self,
        issuer: LinkId,
        class: MessageClass,
        now: Now,
    ) -> Option<(Stan, SentAt)> {
        let sent_at = SentAt(now.wall.seconds());
        loop {
            let stan = self.take_number(issuer, now.moment)?;
            let name = OriginalKey { link: issuer, class, stan, sent_at };
            let known = |link: &LinkId| self.named(&OriginalKey { link: *link, ..name }).next().is_some();
            let taken = self.is_ours(&name) || self.config.acquirers.keys().any(known);
            if !self.passes(issuer) || !taken {
                return Some((stan, sent_at));
            }
            self.give_number_back(issuer, stan, now.moment);
        }
    }

    /// Whether an advice went to its issuer under this name of ours. That stays so after its acknowledgement: an
    /// acquirer's message that had the same name would be taken for the advice.
    pub(super) fn is_ours(&self, name: &OriginalKey) -> bool {
        let mut named = self.index.originals(name);
        named.any(|id| self.answered.get(id).and_then(Answered::own_name) == Some(*name))
    }
}
