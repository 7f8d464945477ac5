//! `TokenLog` on the local journal: the embedded default.

use crate::journal::{Appender, Body, Durability, JournalError};
use crate::stdx::clock::Wall;
use crate::vocab::ShardId;

use super::{LogNotifier, LogPosition, LogRefusal, LogWatch, TokenLog};

/// Token events as entries of the journal, among those of transactions: one truth, one sync.
pub struct JournalLog {
    appender: Appender,
    shard: ShardId,
    watch: LogWatch,
}

impl JournalLog {
    /// `watch` is the other end of the notifier that the journal's `on_durable` calls.
    #[must_use]
    pub fn new(appender: Appender, shard: ShardId, watch: LogWatch) -> Self {
        Self { appender, shard, watch }
    }
}

impl TokenLog for JournalLog {
    fn submit(&mut self, at: Wall, events: Vec<Vec<u8>>) -> Result<Vec<LogPosition>, LogRefusal> {
        let bodies: Vec<Body> = events.into_iter().map(Body::Token).collect();
        match self.appender.append_batch(self.shard, at, &bodies) {
            Ok(first) => Ok((first.0..).take(bodies.len()).map(LogPosition).collect()),
            Err(JournalError::Full) => Err(LogRefusal::Full),
            Err(_) => Err(LogRefusal::Closed),
        }
    }

    fn has_room(&self) -> bool {
        self.appender.has_room()
    }

    fn watch(&self) -> LogWatch {
        self.watch.clone()
    }
}

impl LogNotifier {
    /// What the journal's thread has to say, passed on.
    pub fn journal(&self, durability: &Durability) {
        match durability {
            Durability::Durable(number) => self.durable(LogPosition(number.0)),
            Durability::Failed(_) => self.failed(),
        }
    }
}
