//! What happened, in order, durably, verifiably: the truth that everything else is a view of.
//!
//! An `Appender` queues entries; the `Writer` makes blocks of them and moves the durable watermark; a `Reader` gives
//! them back, each block checked against the chain. A `Checkpoint` is a view folded from the entries, and may be
//! thrown away at any time.

mod base;
mod bases;
mod checkpoint;
mod config;
mod disk;
mod entry;
mod error;
mod examination;
mod group;
mod history;
mod history_desk;
mod key_event;
mod layout;
mod mark;
mod memory_disk;
mod metrics;
mod older_history;
mod reader;
mod remains;
mod segment;
mod writer;

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

pub use base::Base;
pub use bases::{Bases, BasesConfig};
pub use checkpoint::{
    CatchUp, Changes, Checkpoint, CheckpointError, CheckpointKeeper, CheckpointKind, EachRecord, Fold,
    Keeping, MemoryStore, OpenedCheckpoint, Pace, Pending, Records, Visitor, catch_up,
};
pub use config::JournalConfig;
pub use disk::{Disk, RealDisk};
pub use entry::{
    AcquirerLeg, Body, CardRef, DeliveredEntry, DeliveryEnd, Elements, EnquiryEntry, Entry, EntryNumber,
    IssuerLeg, LateEntry, OriginalIdentity, OutcomeEntry, RequestEntry, StoredEntry, StoredKind, TokenRef,
    TombstoneEntry, TransactionEntry,
};
pub use error::{Damage, JournalError};
pub use examination::{Entries, Examination, Finding};
pub use history::{Families, Family, HistoryName, PastTransaction, RecentHistory};
pub use history_desk::{HistoryAnswer, HistoryDesk, HistoryQuestion};
pub use key_event::KeyEvent;
pub use layout::LayoutError;
pub use memory_disk::MemoryDisk;
pub use metrics::View;
pub use older_history::{HistoryFold, OlderHistory};
pub use reader::{Reader, Recovered, TornTail};
pub use writer::{Appender, Durability, Writer};

use group::Position;
use reader::{Place, recover};
use writer::Shared;

use prometheus_client::registry::Registry;

use crate::crypto::JournalKeys;
use crate::stdx::random::Entropy;
use crate::stdx::sabotage::sabotaged;

/// What a journal is opened with.
pub struct JournalSetup {
    pub disk: Box<dyn Disk>,
    pub keys: JournalKeys,
    pub config: JournalConfig,
    /// The last entry that some other store knows to have been durable, as a checkpoint does: a journal that ends
    /// before it is damaged. 0 when nothing is known.
    pub at_least: EntryNumber,
    pub entropy: Entropy,
}

/// The open journal of this process.
pub struct Journal {
    place: Place,
    appender: Appender,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<(), JournalError>>>,
}

impl Journal {
    /// Opens the journal and starts its thread. `on_durable` is called from that thread after every sync, and once
    /// with `Failed` should the disk fail; it must not wait for anything.
    ///
    /// # Errors
    /// `Config`, `Disk`, `Damaged`, `MarkDamaged`, `BaseDamaged`, `Keys`. Nothing was changed on disk when damage is
    /// found.
    pub fn start(
        setup: JournalSetup,
        on_durable: impl Fn(Durability) + Send + 'static,
    ) -> Result<(Self, Recovered), JournalError> {
        let (mut journal, writer, recovered) = Self::open(setup, true)?;
        let shared = Arc::clone(&journal.shared);
        let run = move || {
            catch_unwind(AssertUnwindSafe(|| writer.run(&on_durable))).unwrap_or_else(|_| {
                let reason = "its writer ended early".to_owned();
                shared.fail(&reason);
                on_durable(Durability::Failed(reason.clone()));
                Err(JournalError::Failed { reason })
            })
        };
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(run);
        journal.thread = Some(thread.map_err(JournalError::disk("start", "the journal's thread"))?);
        Ok((journal, recovered))
    }

    /// Opens the journal for someone who steps its writer by hand.
    ///
    /// # Errors
    /// As `start`.
    pub fn stepped(setup: JournalSetup) -> Result<(Self, Writer, Recovered), JournalError> {
        Self::open(setup, false)
    }

    fn open(setup: JournalSetup, background: bool) -> Result<(Self, Writer, Recovered), JournalError> {
        let JournalSetup { disk, keys, config, at_least, entropy } = setup;
        config.check()?;
        let at_least = if sabotaged("checkpoint-is-no-witness") { EntryNumber(0) } else { at_least };
        let mut place = Place::new(disk, keys, &config.stream);
        let tail = recover(&mut place, at_least)?;
        bases::remove_before(&place, place.first())?;
        let end = tail.map_or(Position::BEGINNING, |tail| tail.position);
        let (writer, appender) = Writer::start(place.clone(), &config, end, entropy, background)?;
        if let Some(tail) = tail {
            // The new segment says where this one ends; what was torn, and zeros never used, can go.
            segment::trim(place.disk.as_ref(), end.segment, tail.offset)?;
        }
        let shared = writer.shared();
        Ok((Self { place, appender, shared, thread: None }, writer, Recovered::of(tail)))
    }

    /// A handle that appends.
    #[must_use]
    pub fn appender(&self) -> Appender {
        self.appender.clone()
    }

    /// The first entry that there is; what those before it said is in the base.
    #[must_use]
    pub fn first_entry(&self) -> EntryNumber {
        self.place.base.as_ref().map_or(EntryNumber(1), Base::first_entry)
    }

    /// What writes bases and removes what they make needless. `history` is a view that must have what goes.
    ///
    /// # Errors
    /// `Disk`, or `Damaged` for a segment's header.
    pub fn bases(&self, config: BasesConfig, history: Arc<Checkpoint>) -> Result<Bases, JournalError> {
        Bases::open(self.place.clone(), Arc::clone(&self.shared), config, history)
    }

    /// The last entry that is on disk.
    #[must_use]
    pub fn durable(&self) -> EntryNumber {
        self.appender.durable()
    }

    /// Shows in `registry` what waits for the disk, what is on it, and how long a group takes.
    pub fn register(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry);
    }

    /// The metrics of a view with that name, which are registered with the journal's.
    #[must_use]
    pub fn view(&self, name: &'static str) -> View {
        self.shared.metrics.view(name)
    }

    /// Reads from the entry `from` on, and goes on as entries become durable.
    ///
    /// # Errors
    /// `Disk`, or `Damaged` for a segment's header.
    pub fn reader(&self, from: EntryNumber) -> Result<Reader, JournalError> {
        Reader::open(self.place.clone(), self.shared.watermark(), from)
    }

    /// Writes all that waits, leaves the mark of a journal closed in good order, and ends the thread. A stepped
    /// journal is closed by its writer.
    ///
    /// # Errors
    /// `Failed` when entries that were appended are not on disk, `Disk` for the mark.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.shared.close();
        self.join()
    }

    fn join(&mut self) -> Result<(), JournalError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let ended_early = |_| Err(JournalError::Failed { reason: "its writer ended early".to_owned() });
        thread.join().unwrap_or_else(ended_early)
    }
}

impl Drop for Journal {
    /// As `close`, without anyone to tell.
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.shared.close();
            let _ = self.join();
        }
    }
}
