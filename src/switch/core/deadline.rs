//! What happens because time passes: issuers that stay silent, answers that nobody collects, the next window.

use std::collections::{BTreeSet, VecDeque};

use crate::journal::TransactionEntry;
use crate::link::Answerable;
use crate::stdx::clock::{Moment, Now};
use crate::stdx::maps::Map;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{LinkId, Outcome, Refusal, ReversalReason, TransactionId};

use super::super::event::Action;
use super::super::transaction::{Conclusion, TransactionState};
use super::{Outstanding, SwitchCore, Then};

/// When one issuer's requests run out. Nearly all come in the order of their deadlines, and a queue is enough for them;
/// a request under a time-out that was shortened since, or that waited for the history, stands apart.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    in_order: VecDeque<(Moment, TransactionId)>,
    /// Those that run out before the last in the queue.
    earlier: BTreeSet<(Moment, TransactionId)>,
}

impl Deadlines {
    pub(super) fn push(&mut self, at: Moment, id: TransactionId) {
        if self.in_order.back().is_none_or(|(last, _)| *last <= at) {
            self.in_order.push_back((at, id));
        } else {
            self.earlier.insert((at, id));
        }
    }

    /// The one that runs out first.
    pub(super) fn first(&self) -> Option<(Moment, TransactionId)> {
        self.in_order.front().into_iter().chain(self.earlier.first()).min().copied()
    }

    fn pop_first(&mut self) {
        let first = self.first();
        if self.in_order.front().copied() == first {
            self.in_order.pop_front();
        } else {
            self.earlier.pop_first();
        }
    }
}

/// Answers that nobody has collected, by the end of their grace. There are few, and a grace may be shortened.
#[derive(Debug, Default)]
pub(super) struct Graces {
    ends: BTreeSet<(Moment, TransactionId)>,
    of: Map<TransactionId, Moment>,
}

impl Graces {
    /// Its grace ends then, and not when it ended before.
    pub(super) fn begin(&mut self, id: TransactionId, ends: Moment) {
        self.end(id);
        self.of.insert(id, ends);
        self.ends.insert((ends, id));
    }

    /// It was collected, or is not to be.
    pub(super) fn end(&mut self, id: TransactionId) {
        if let Some(ends) = self.of.remove(&id) {
            self.ends.remove(&(ends, id));
        }
    }

    pub(super) fn first(&self) -> Option<Moment> {
        self.ends.first().map(|(ends, _)| *ends)
    }

    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    /// One whose grace is over by then.
    pub(super) fn pop_over(&mut self, now: Moment) -> Option<TransactionId> {
        let id = self.ends.first().filter(|(ends, _)| *ends <= now).map(|(_, id)| *id)?;
        self.end(id);
        Some(id)
    }

    /// Any of them, the earliest first.
    pub(super) fn pop_first(&mut self) -> Option<TransactionId> {
        self.first().and_then(|ends| self.pop_over(ends))
    }
}

impl SwitchCore {
    /// Does everything that is due.
    pub(super) fn tick(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.move_windows(now, actions);
        self.time_out_requests(now, actions);
        self.time_out_enquiries(now, actions);
        self.reverse_undelivered(now, actions);
        self.forget_late(now);
        self.end_look_ups(now, actions);
        self.retry_stored(now, actions);
    }

    fn time_out_requests(&mut self, now: Now, actions: &mut Vec<Action>) {
        let mut issuers: Vec<_> = self.deadlines.keys().copied().collect();
        issuers.sort_unstable();
        for issuer in issuers {
            while let Some(id) = self.next_expired(issuer, now) {
                self.timed_out(id, now, actions);
            }
        }
    }

    fn next_expired(&mut self, issuer: LinkId, now: Now) -> Option<TransactionId> {
        let deadlines = self.deadlines.get_mut(&issuer)?;
        loop {
            let (at, id) = deadlines.first()?;
            let waits = self.in_flight.get(&id).is_some_and(|t| t.state <= TransactionState::Forwarded);
            if waits && at > now.moment {
                return None;
            }
            deadlines.pop_first();
            if waits {
                return Some(id);
            }
        }
    }

    /// The issuer was silent for too long: the time-out answer and its reversal are one durable entry.
    fn timed_out(&mut self, id: TransactionId, now: Now, actions: &mut Vec<Action>) {
        let Some(transaction) = self.in_flight.get(&id) else { return };
        match transaction.state {
            TransactionState::Forwarded => {
                let reverse = transaction.request.moves_money
                    && transaction.reversal.is_none()
                    && !sabotaged("silence-not-reversed");
                let stood_in = self.stand_in(id, now);
                let declined = || Conclusion::refused(Refusal::IssuerTimedOut, Outcome::Unknown);
                let conclusion = stood_in.unwrap_or_else(declined);
                let kept = conclusion.advice.is_some() && sabotaged("stood-in-and-asked");
                let reason = (reverse && !kept).then_some(ReversalReason::TimedOut);
                actions.push(Action::Silent { transaction: id, what: Answerable::Request });
                self.conclude(id, conclusion, reason, now, actions);
            }
            // `forward` sees the deadline itself once the entry is durable.
            TransactionState::Detokenizing | TransactionState::Journaling | TransactionState::Concluding => {}
        }
    }

    /// Approvals that no repeat collected within the grace are reversed.
    fn reverse_undelivered(&mut self, now: Now, actions: &mut Vec<Action>) {
        while let Some(id) = self.undelivered.pop_over(now.moment) {
            self.reverse_answered(id, ReversalReason::Undelivered, now, actions);
        }
    }

    /// Late answers are listened for no longer than their numbers rest.
    fn forget_late(&mut self, now: Now) {
        while self.late.first().is_some_and(|(until, _, _)| *until <= now.moment) {
            let Some((_, place, id)) = self.late.pop_first() else { break };
            if self.outstanding.get(&place) == Some(&Outstanding::Late(id)) {
                self.outstanding.remove(&place);
            }
        }
    }

    /// Reverses something that was answered with an approval.
    pub(super) fn reverse_answered(
        &mut self,
        id: TransactionId,
        reason: ReversalReason,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some((owing, routed)) = self.undo(id, id, 0) else { return };
        self.answered.settled(id, &mut self.index);
        let stored = self.own_reversal(owing, &routed, reason, now);
        let entry = TransactionEntry::Stored(Box::new(stored.clone()));
        let then = Then::Release { stored: Box::new(stored), mark: routed.mark };
        self.append(entry, then, actions);
    }
}
