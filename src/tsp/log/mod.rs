//! `TokenLog`: where token events are kept: submit a batch, learn that it is durable.

mod journal_log;

pub use journal_log::JournalLog;

use tokio::sync::watch;

use crate::stdx::clock::Wall;

/// The place of an event in its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogPosition(pub u64);

/// Why a log does not take a batch. In either case nothing of it is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogRefusal {
    /// It has too much waiting.
    Full,
    /// It takes no more at all.
    Closed,
}

/// A log of token events. The journal of this process is one; a data base shared by several would be another.
pub trait TokenLog: Send + 'static {
    /// Adds events, all or none, in this order; gives the position of each.
    ///
    /// # Errors
    /// `Full` or `Closed`.
    fn submit(&mut self, at: Wall, events: Vec<Vec<u8>>) -> Result<Vec<LogPosition>, LogRefusal>;

    /// Whether a new token may be asked for; changes of status have room of their own.
    fn has_room(&self) -> bool;

    /// Where to learn how far the log is durable.
    fn watch(&self) -> LogWatch;
}

/// How far a log is durable, and whether it has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogState {
    /// Every event up to here.
    pub durable: LogPosition,
    /// Nothing after `durable` will ever be acknowledged.
    pub failed: bool,
}

/// Tells the vault's writer of the log; may be called from any thread, and waits for nothing.
#[derive(Debug)]
pub struct LogNotifier(watch::Sender<LogState>);

/// The other end of a `LogNotifier`.
#[derive(Debug, Clone)]
pub struct LogWatch(watch::Receiver<LogState>);

/// Both ends. The notifier goes where durability is learnt of: into the journal's `on_durable`.
#[must_use]
pub fn log_watch() -> (LogNotifier, LogWatch) {
    let (sender, receiver) = watch::channel(LogState::default());
    (LogNotifier(sender), LogWatch(receiver))
}

impl LogNotifier {
    pub fn durable(&self, position: LogPosition) {
        self.0.send_modify(|state| state.durable = state.durable.max(position));
    }

    pub fn failed(&self) {
        self.0.send_modify(|state| state.failed = true);
    }
}

impl LogWatch {
    /// Waits until there is news. A notifier that is gone counts as a failure: nobody will tell any more.
    pub(super) async fn changed(&mut self) -> LogState {
        let gone = self.0.changed().await.is_err();
        let state = *self.0.borrow_and_update();
        LogState { failed: state.failed || gone, ..state }
    }
}
