//! Taps whose cryptogram takes long to check. They wait until all else of a step is done and its output has left, and a
//! few of them are checked behind each step, the oldest first: nobody else waits for more than these few. What waits is
//! in flight, and bounded as such.
//!
//! A thread of its own was thought of: to hand a tap over and to be woken for it takes as long as its check, and the
//! simulation would not see the order in which counters are taken.

use crate::link::Outbox;
use crate::stdx::clock::Now;
use crate::tsp::DetokenizeRequest;
use crate::vocab::TransactionId;

use super::super::event::Event;
use super::{LogFault, Node};

/// Checks behind one step. With all that follows from them they take some 120 µs by 3DES: less than a sync, which every
/// payment waits for twice, and so much more than an empty step that hardly any time is lost between two of them.
pub(super) const CHECKS: usize = 16;

/// A tap that waits for its check.
pub(super) type Waiting = (TransactionId, Box<DetokenizeRequest>);

impl Node {
    /// How many taps wait for `check`.
    #[must_use]
    pub fn unchecked(&self) -> usize {
        self.slow.len()
    }

    /// Checks the next few of those that wait. To be called behind each step once its output has left, and again
    /// without sleep while any are `unchecked`.
    ///
    /// # Errors
    /// As `step`.
    pub fn check(&mut self, now: Now, out: &mut Outbox) -> Result<(), LogFault> {
        while self.asked.len() < CHECKS {
            self.pass_over(now);
            let Some((transaction, question)) = self.slow.pop_front() else { break };
            self.asked.push(transaction);
            self.questions.push(*question);
        }
        self.settle(now, out);
        self.flush_entries(now)
    }

    /// Those at the front for which nobody waits any more, or not for their card, are not checked: no counter is taken.
    pub(super) fn pass_over(&mut self, now: Now) {
        while let Some((transaction, _)) = self.slow.front() {
            let transaction = *transaction;
            match self.core.still_asks(transaction, now) {
                Some(Ok(())) => return,
                Some(Err(refusal)) => {
                    self.events.push_back(Event::Detokenized { transaction, result: Err(refusal) });
                }
                None => {}
            }
            self.slow.pop_front();
        }
    }
}
