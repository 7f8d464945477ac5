//! Tokens whose time to become good is over: their cardholders did not prove themselves, or their requestors never said
//! that they arrived. Nobody asks for it: the service deactivates them by itself, for good, and says why.

use std::collections::BTreeSet;

use crate::stdx::clock::Now;
use crate::vocab::YearMonth;

use super::command::{Action, Asker, CallId};
use super::error::ProvisioningRefusal;
use super::event::{Actor, Cause, Change, Principal, Reason, RequestId, TokenEvent};
use super::lifecycle::{Move, Moved, TokenStatus};
use super::record::VaultRecord;
use super::tsp::{Decision, Tsp};

/// So many tokens are given up in one step; the next step has the others.
const GIVEN_UP_MOST: usize = 64;

/// The tokens that are inactive, in the order of their issue.
#[derive(Debug, Default)]
pub(super) struct Inactive(BTreeSet<u64>);

impl Inactive {
    /// A record as it is now.
    pub(super) fn note(&mut self, record: &VaultRecord) {
        if record.lifecycle.status == TokenStatus::Inactive {
            self.0.insert(record.record);
        } else {
            self.0.remove(&record.record);
        }
    }

    /// Records of a checkpoint that are inactive.
    pub(super) fn add(&mut self, records: &[u64]) {
        self.0.extend(records);
    }
}

impl Tsp {
    /// Gives up the tokens that did not become good in time.
    pub(super) fn give_up_overdue(&mut self, call: CallId, now: Now, actions: &mut Vec<Action>) {
        let (proof, arrival) = (self.config.step_up.proof_within, self.config.activate_within);
        let of_waiting = self.step_ups.keys().filter_map(|record| self.record_ahead(*record));
        let overdue = of_waiting.take_while(|record| record.issued_at.plus(proof) <= now.wall);
        let unproven: Vec<VaultRecord> = overdue.filter(is_inactive).take(GIVEN_UP_MOST).collect();
        let inactive = self.inactive.0.iter().filter_map(|record| self.record_ahead(*record));
        let overdue = inactive.take_while(|record| record.issued_at.plus(arrival) <= now.wall);
        // Those that wait for proof stand among the others, and have their own time.
        let needs_no_proof = |it: &VaultRecord| self.step_up_ahead(it.record).is_none();
        let overdue = overdue.filter(|record| is_inactive(record) && needs_no_proof(record));
        let unactivated: Vec<VaultRecord> = overdue.take(GIVEN_UP_MOST).collect();
        for (name, records) in [("unproven", unproven), ("unactivated", unactivated)] {
            for record in records {
                let decided = self.give_up(name, &record, now);
                self.carry_out(call, decided, now, actions);
            }
        }
    }

    fn give_up(&self, name: &str, overdue: &VaultRecord, now: Now) -> Result<Decision, ProvisioningRefusal> {
        let name = format!("{name}-{}", overdue.record);
        let request_id = RequestId::parse(name.as_bytes()).map_err(|_| ProvisioningRefusal::Unavailable)?;
        let asker = Asker::new(Principal::Service, Actor::Service, request_id);
        let cause = Asker { reason_code: Reason::TimedOut, ..asker }.cause(&overdue.reference.to_bytes());
        if let Some(decided) = self.repeated(&cause, YearMonth::of(now.wall))? {
            return Ok(decided);
        }
        let Moved::To(lifecycle) = overdue.lifecycle.after(Move::Unlink) else {
            return Err(ProvisioningRefusal::StatusDoesNotAllow);
        };
        let (record, before) = (overdue.record, Some(overdue.lifecycle));
        let change = Change::Moved { record, asked: Move::Unlink, before, lifecycle };
        let cause = Cause { requestor: Some(overdue.requestor), ..cause };
        Ok(Decision::New(Box::new(TokenEvent { cause, change })))
    }
}

fn is_inactive(record: &VaultRecord) -> bool {
    record.lifecycle.status == TokenStatus::Inactive
}
