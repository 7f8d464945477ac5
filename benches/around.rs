//! What stands around a node that is measured alone: a journal that waits for no disk, and a history that knows
//! nothing.

use tokenswitch::journal::{Body, EntryNumber, HistoryAnswer, HistoryQuestion};
use tokenswitch::stdx::clock::Now;
use tokenswitch::switch::{EntryLog, History, LogFault};
use tokenswitch::vocab::ShardId;

/// A log that is durable as soon as it is asked.
pub(crate) struct InstantLog(pub(crate) u64);

impl EntryLog for InstantLog {
    fn append(&mut self, _: ShardId, _: Now, bodies: &[Body]) -> Result<EntryNumber, LogFault> {
        let first = self.0 + 1;
        self.0 += bodies.len() as u64;
        Ok(EntryNumber(first))
    }

    fn has_room(&self) -> bool {
        true
    }
}

/// Nothing here is about an earlier payment.
pub(crate) struct NoHistory;

impl History for NoHistory {
    fn ask(&mut self, _: HistoryQuestion) -> bool {
        false
    }

    fn answer(&mut self) -> Option<HistoryAnswer> {
        None
    }
}
