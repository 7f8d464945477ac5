//! The journal's writer: takes all that waits the moment the last sync returned, makes one block of it, and says
//! when it is durable. No timer: a wait for more entries would only add to every payment's time.
//!
//! `acknowledged ≤ durable ≤ appended`, always.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::config::JournalConfig;
use super::entry::{Body, EntryNumber};
use super::error::JournalError;
use super::group::{GroupWriter, Position, Queue};
use super::mark::Mark;
use super::metrics::Metrics;
use super::reader::Place;
use super::segment::{self, BaseRef, HEADER_BYTES, SegmentHeader, file_name};
use crate::crypto::CryptoError;
use crate::stdx::clock::{SystemClock, Wall};
use crate::stdx::random::Entropy;
use crate::stdx::sabotage::{sabotaged, step};
use crate::vocab::ShardId;

/// How often the thread looks at the disk's free space while nothing is appended.
const IDLE: Duration = Duration::from_secs(1);
/// How long it waits for space when there is none for another segment.
const STALLED: Duration = Duration::from_millis(100);
/// Groups between two looks at the free space.
const GROUPS_PER_LOOK: u32 = 64;

/// What the writer has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Durability {
    /// Every entry up to this one is on disk.
    Durable(EntryNumber),
    /// A write or sync failed. Nothing more will be acknowledged; the process must end.
    Failed(String),
}

/// Puts entries into the journal. Clones share it.
#[derive(Clone)]
pub struct Appender {
    shared: Arc<Shared>,
}

impl Appender {
    /// Encodes an entry straight into the queue. It is durable once `durable` has reached its number.
    ///
    /// # Errors
    /// `Full`, `TooLong`, `Closed`, or `Failed` after a disk error: then nothing was appended.
    pub fn append(&self, shard: ShardId, wall: Wall, body: &Body) -> Result<EntryNumber, JournalError> {
        self.append_batch(shard, wall, std::slice::from_ref(body))
    }

    /// As `append`, for several at once under one lock: all or none. Gives the number of the first; the others
    /// follow without a gap.
    ///
    /// # Errors
    /// As `append`.
    pub fn append_batch(
        &self,
        shard: ShardId,
        wall: Wall,
        bodies: &[Body],
    ) -> Result<EntryNumber, JournalError> {
        let shared = self.shared.as_ref();
        let mut state = shared.lock();
        state.open()?;
        let place = state.queue.place();
        for body in bodies {
            let pushed = state.queue.push(shard, wall, body, shared.entry_most);
            let refused = match pushed {
                Ok(_) if state.queue.len() <= shared.queue_most => continue,
                Ok(_) => JournalError::Full,
                Err(length) => JournalError::TooLong { length, most: shared.entry_most },
            };
            state.queue.back_to(place);
            return Err(refused);
        }
        shared.queued.store(state.queue.len(), Ordering::Relaxed);
        shared.metrics.queued(state.queue.len());
        let wake = state.waiting;
        drop(state);
        if wake {
            shared.wake.notify_one();
        }
        Ok(place.1)
    }

    /// The watermark: every entry up to this one is on disk.
    #[must_use]
    pub fn durable(&self) -> EntryNumber {
        EntryNumber(self.shared.durable.load(Ordering::Acquire))
    }

    /// Whether a *new* request may still be taken on. False long before nothing can be appended any more: answers,
    /// reversals and advices of what was taken on have the rest to themselves.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let shared = self.shared.as_ref();
        shared.room.load(Ordering::Relaxed) && shared.queued.load(Ordering::Relaxed) <= shared.queue_most / 2
    }
}

/// What appenders and the writer have in common.
pub(super) struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    durable: Arc<AtomicU64>,
    /// Bytes in the queue.
    queued: AtomicUsize,
    /// Whether the disk has room for more than what is in flight.
    room: AtomicBool,
    queue_most: usize,
    entry_most: usize,
    pub(super) metrics: Metrics,
}

struct State {
    queue: Queue,
    /// Whether the writer sleeps until it is woken.
    waiting: bool,
    closing: bool,
    failed: Option<String>,
}

impl State {
    fn open(&self) -> Result<(), JournalError> {
        match &self.failed {
            Some(reason) => Err(JournalError::Failed { reason: reason.clone() }),
            None if self.closing => Err(JournalError::Closed),
            None => Ok(()),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held can only have come from memory running out in `push`.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watermark(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.durable)
    }

    /// No more entries; the writer ends when it has written those that wait.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_all();
    }

    /// Nothing more is taken, and nothing more acknowledged.
    pub(super) fn fail(&self, reason: &str) {
        self.lock().failed.get_or_insert_with(|| reason.to_owned());
        self.room.store(false, Ordering::Relaxed);
    }

    /// Waits until there is something to write; false when there never will be.
    fn wait(&self, most: Duration) -> Wake {
        let mut state = self.lock();
        if state.queue.is_empty() && !state.closing {
            state.waiting = true;
            let (woken, _) = self.wake.wait_timeout(state, most).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.waiting = false;
        }
        match (state.queue.is_empty(), state.closing) {
            (false, _) => Wake::Work,
            (true, true) => Wake::End,
            (true, false) => Wake::Idle,
        }
    }

    fn take(&self, into: &mut Queue) {
        let mut state = self.lock();
        state.queue.swap(into);
        self.queued.store(0, Ordering::Relaxed);
        self.metrics.queued(0);
    }
}

enum Wake {
    Work,
    Idle,
    End,
}

/// Writes what appenders queued, one group a step. On a thread of its own it is stepped by itself; a simulation
/// steps it by hand, and so decides when a sync returns.
pub struct Writer {
    shared: Arc<Shared>,
    batch: Queue,
    log: Log,
}

impl Writer {
    /// Begins a new segment where the journal ends. Every start does: what was sealed before and lost must not be
    /// sealed again under one key and number.
    pub(super) fn start(
        place: Place,
        config: &JournalConfig,
        end: Position,
        entropy: Entropy,
        background: bool,
    ) -> Result<(Self, Appender), JournalError> {
        let last = EntryNumber(end.entry.0.saturating_sub(1));
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: Queue::after(last),
                waiting: false,
                closing: false,
                failed: None,
            }),
            wake: Condvar::new(),
            durable: Arc::new(AtomicU64::new(last.0)),
            queued: AtomicUsize::new(0),
            room: AtomicBool::new(true),
            queue_most: config.queue_bytes,
            entry_most: config.entry_most(),
            metrics: Metrics::new(config.queue_bytes),
        });
        let log = Log::begin(place, config, end, entropy, background)?;
        let mut writer = Self { shared: Arc::clone(&shared), batch: Queue::after(last), log };
        writer.look_at_room();
        Ok((writer, Appender { shared }))
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Writes and syncs one group; `None` when nothing waits, or when the disk has no room for another segment (try
    /// again: what waits stays).
    pub fn step(&mut self) -> Option<Durability> {
        if let Err(JournalError::Failed { reason }) = self.shared.lock().open() {
            return Some(Durability::Failed(reason));
        }
        if self.batch.is_empty() {
            self.shared.take(&mut self.batch);
        }
        if self.batch.is_empty() {
            self.look_at_room();
            return None;
        }
        match self.log.write(&mut self.batch) {
            Ok(last) => {
                step("journaled");
                self.shared.durable.store(last.0, Ordering::Release);
                self.shared.metrics.durable(last);
                if self.log.groups.is_multiple_of(GROUPS_PER_LOOK) {
                    self.look_at_room();
                }
                Some(Durability::Durable(last))
            }
            Err(WriteError::NoSpace) => {
                self.shared.room.store(false, Ordering::Relaxed);
                self.shared.metrics.room(false);
                None
            }
            Err(WriteError::Failed(error)) => {
                let reason = error.to_string();
                self.shared.fail(&reason);
                Some(Durability::Failed(reason))
            }
        }
    }

    /// Writes all that waits, then leaves the mark of a journal closed in good order.
    ///
    /// # Errors
    /// `Failed` when entries that were appended are not on disk, `Disk` for the mark.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.shared.close();
        self.drain(|_| {})
    }

    fn drain(&mut self, mut on_durable: impl FnMut(Durability)) -> Result<(), JournalError> {
        while !(self.batch.is_empty() && matches!(self.shared.wait(Duration::ZERO), Wake::End)) {
            match self.step() {
                Some(Durability::Failed(reason)) => return Err(JournalError::Failed { reason }),
                Some(durable) => on_durable(durable),
                None => {
                    return Err(JournalError::Failed {
                        reason: "the disk has no room for what waits".into(),
                    });
                }
            }
        }
        // A block whose sync failed is in the chain by now, and must not be vouched for.
        if let Some(reason) = &self.shared.lock().failed {
            return Err(JournalError::Failed { reason: reason.clone() });
        }
        Mark::of(self.log.group.position()).write(
            self.log.place.disk.as_ref(),
            &self.log.place.keys,
            &self.log.place.stream,
        )
    }

    /// The thread: until the journal is closed or the disk fails.
    pub(super) fn run(mut self, on_durable: impl Fn(Durability)) -> Result<(), JournalError> {
        let clock = SystemClock::start();
        loop {
            match (self.batch.is_empty(), self.shared.wait(IDLE)) {
                (true, Wake::End) => return self.drain(on_durable),
                (true, Wake::Idle) => self.look_at_room(),
                _ => match self.timed_step(&clock) {
                    Some(Durability::Failed(reason)) => {
                        on_durable(Durability::Failed(reason.clone()));
                        return Err(JournalError::Failed { reason });
                    }
                    Some(durable) => on_durable(durable),
                    None if self.shared.lock().closing => return self.drain(on_durable),
                    None => std::thread::sleep(STALLED),
                },
            }
        }
    }

    fn timed_step(&mut self, clock: &SystemClock) -> Option<Durability> {
        let start = clock.now().moment;
        let done = self.step();
        if matches!(done, Some(Durability::Durable(_))) {
            self.shared.metrics.wrote(clock.now().moment.since(start));
        }
        done
    }

    fn look_at_room(&mut self) {
        let room = self.log.has_room();
        self.shared.metrics.room(room);
        self.shared.room.store(room, Ordering::Relaxed);
    }
}

enum WriteError {
    /// For another segment. Nothing was written, and later there may be.
    NoSpace,
    Failed(JournalError),
}

/// The files: the segment being written and the one prepared to follow it.
struct Log {
    place: Place,
    segment_bytes: u64,
    min_free_bytes: u64,
    entropy: Entropy,
    group: GroupWriter,
    file: String,
    offset: u64,
    spare: Spare,
    /// Whether spares are made on a thread of their own.
    background: bool,
    groups: u32,
}

enum Spare {
    /// Made when it is needed.
    Missing,
    Making(JoinHandle<io::Result<()>>),
    Made,
    /// There was no room for it.
    Failed,
}

impl Log {
    fn begin(
        place: Place,
        config: &JournalConfig,
        end: Position,
        mut entropy: Entropy,
        background: bool,
    ) -> Result<Self, JournalError> {
        segment::prepare(place.disk.as_ref(), config.segment_bytes)
            .map_err(JournalError::disk("prepare", "a segment"))?;
        let group = begin_segment(&place, end, &mut entropy)?;
        let mut log = Self {
            place,
            segment_bytes: config.segment_bytes,
            min_free_bytes: config.min_free_bytes,
            entropy,
            file: file_name(group.position().segment),
            group,
            offset: HEADER_BYTES,
            spare: Spare::Missing,
            background,
            groups: 0,
        };
        log.prepare_spare();
        Ok(log)
    }

    /// Writes one group and returns when it is durable.
    fn write(&mut self, queue: &mut Queue) -> Result<EntryNumber, WriteError> {
        if !GroupWriter::fits(queue, self.segment_bytes.saturating_sub(self.offset)) {
            self.roll()?;
        }
        let room = self.segment_bytes.saturating_sub(self.offset);
        let block =
            self.group.take(queue, room).map_err(|error| WriteError::Failed(JournalError::Keys(error)))?;
        let disk = self.place.disk.as_ref();
        let failed = |action, error| WriteError::Failed(JournalError::disk(action, &self.file)(error));
        disk.write_at(&self.file, self.offset, block).map_err(|error| failed("write", error))?;
        if !sabotaged("sync-left-out") {
            disk.sync(&self.file).map_err(|error| failed("sync", error))?;
        }
        self.offset += u64::try_from(block.len()).unwrap_or(u64::MAX);
        self.groups = self.groups.wrapping_add(1);
        Ok(EntryNumber(self.group.position().entry.0.saturating_sub(1)))
    }

    /// Goes on in the next segment.
    fn roll(&mut self) -> Result<(), WriteError> {
        let made = match std::mem::replace(&mut self.spare, Spare::Failed) {
            Spare::Made => Ok(()),
            Spare::Making(thread) => joined(thread),
            Spare::Missing | Spare::Failed => segment::prepare(self.place.disk.as_ref(), self.segment_bytes),
        };
        match made {
            Ok(()) => {}
            Err(error) if is_no_space(&error) => return Err(WriteError::NoSpace),
            Err(error) => return Err(WriteError::Failed(JournalError::disk("prepare", "a segment")(error))),
        }
        step("segment-prepared");
        self.group = begin_segment(&self.place, self.group.position(), &mut self.entropy)
            .map_err(WriteError::Failed)?;
        step("segment-begun");
        self.file = file_name(self.group.position().segment);
        self.offset = HEADER_BYTES;
        self.prepare_spare();
        Ok(())
    }

    /// Begins to make the next segment's file, so that no payment waits for it.
    fn prepare_spare(&mut self) {
        self.spare = Spare::Missing;
        if self.background {
            let (disk, bytes) = (Arc::clone(&self.place.disk), self.segment_bytes);
            let thread = std::thread::Builder::new().name("journal-spare".to_owned());
            if let Ok(thread) = thread.spawn(move || segment::prepare(disk.as_ref(), bytes)) {
                self.spare = Spare::Making(thread);
            }
        }
    }

    /// Whether new requests may be taken on: enough free space, and no failed attempt at the next segment since
    /// there was.
    fn has_room(&mut self) -> bool {
        let free = self.place.disk.free().is_ok_and(|free| free >= self.min_free_bytes);
        self.spare = match std::mem::replace(&mut self.spare, Spare::Failed) {
            Spare::Making(thread) if thread.is_finished() => match joined(thread) {
                Ok(()) => Spare::Made,
                Err(_) => Spare::Failed,
            },
            other => other,
        };
        let failed = matches!(self.spare, Spare::Failed);
        if failed && free {
            self.prepare_spare();
        }
        free && !failed
    }
}

impl Drop for Log {
    /// The directory is not let go while a spare is still being made in it.
    fn drop(&mut self) {
        if let Spare::Making(thread) = std::mem::replace(&mut self.spare, Spare::Failed) {
            let _ = joined(thread);
        }
    }
}

fn begin_segment(place: &Place, end: Position, entropy: &mut Entropy) -> Result<GroupWriter, JournalError> {
    let salt = entropy.bytes().map_err(CryptoError::from)?;
    let base = place.base.as_ref().map(|base| BaseRef { number: base.number(), chain: base.first.previous });
    let header = SegmentHeader::after(end, &place.stream, salt, base);
    segment::begin(place.disk.as_ref(), &header)?;
    let (key, position) = header.open(&place.keys)?;
    Ok(GroupWriter::new(key, position))
}

fn joined(thread: JoinHandle<io::Result<()>>) -> io::Result<()> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("its thread ended early")))
}

fn is_no_space(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
