//! The end of the process: no new requests, then an end for what is in flight that the next start need not make.

use crate::stdx::clock::Now;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{Outcome, Refusal, ReversalReason, TransactionId};

use super::super::event::Action;
use super::super::request::RequestKind;
use super::super::transaction::{Conclusion, TransactionState};
use super::SwitchCore;

impl SwitchCore {
    /// From here on new requests are refused; what is in flight goes on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Payments of which nobody knows yet how they end.
    #[must_use]
    pub fn open(&self) -> usize {
        self.in_flight.values().filter(|transaction| is_open(transaction.state)).count()
    }

    /// Nothing waits any longer: a payment without its issuer's word is declined, and undone where it could have moved
    /// money; so is an approval that no repeat has collected.
    pub(super) fn end(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.ended = true;
        let mut looking: Vec<TransactionId> = self.looking.keys().copied().collect();
        looking.sort_unstable();
        for id in looking {
            self.looked_up(id, None, now, actions);
        }
        let open = self.in_flight.iter().filter(|(_, transaction)| is_open(transaction.state));
        let mut open: Vec<TransactionId> = open.map(|(id, _)| *id).collect();
        open.sort_unstable();
        for id in open.into_iter().filter(|_| !sabotaged("drain-leaves-open")) {
            self.end_payment(id, now, actions);
        }
        self.end_enquiries(now, actions);
        while let Some(id) = self.undelivered.pop_first() {
            self.reverse_answered(id, ReversalReason::Undelivered, now, actions);
        }
    }

    fn end_payment(&mut self, id: TransactionId, now: Now, actions: &mut Vec<Action>) {
        let Some(transaction) = self.in_flight.get(&id) else { return };
        match transaction.state {
            TransactionState::Concluding => {}
            TransactionState::Detokenizing if transaction.request.kind == RequestKind::Advice => {
                let advice = self.in_flight.remove(&id);
                advice.into_iter().for_each(|advice| self.leave_advice(*advice, actions));
            }
            TransactionState::Detokenizing => self.refuse(id, Refusal::ShuttingDown, actions),
            TransactionState::Journaling => self.conclude_unsent(id, Refusal::ShuttingDown, now, actions),
            TransactionState::Forwarded => {
                let owed = transaction.request.moves_money && transaction.reversal.is_none();
                let reason = owed.then_some(ReversalReason::Recovered);
                actions.push(Action::LetGo { transaction: id });
                let conclusion = Conclusion::refused(Refusal::ShuttingDown, Outcome::Unknown);
                self.conclude(id, conclusion, reason, now, actions);
            }
        }
    }
}

fn is_open(state: TransactionState) -> bool {
    state < TransactionState::Concluding
}
