//! `CheckpointKeeper`: the thread that folds durable entries into the checkpoint. It reads the journal, never what
//! is in memory, so that the checkpoint cannot know anything that is not on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Changes, Checkpoint, CheckpointError, full_key};
use crate::journal::bases::Bases;
use crate::journal::entry::{Entry, EntryNumber};
use crate::journal::error::JournalError;
use crate::journal::metrics::View;
use crate::journal::reader::Reader;
use crate::stdx::clock::{SystemClock, Wall};
use crate::stdx::sabotage::step;

/// Entries folded into one transaction of the store, at most. An entry changes a handful of records.
const ENTRIES_MOST: usize = 50_000;

/// How much later than others its thread is served, of 19.
const BEHIND_PAYMENTS: i32 = 10;

/// What a module makes of an entry for the checkpoint.
pub trait Fold: Send {
    /// Notes in `changes` what `entry` changes in this module's parts.
    ///
    /// # Errors
    /// `Damaged` or `Store` from reading what is there.
    fn fold(&mut self, entry: &Entry, changes: &mut Pending<'_>) -> Result<(), CheckpointError>;

    /// Notes what was kept back while folding, because entry after entry changes it; `changes` is written next.
    ///
    /// # Errors
    /// As `fold`.
    fn settle(&mut self, _changes: &mut Pending<'_>) -> Result<(), CheckpointError> {
        Ok(())
    }

    /// Brings up to date what no entry changes, before a base is made of the checkpoint.
    ///
    /// # Errors
    /// As `Checkpoint::renew`.
    fn renew(&mut self, _checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        Ok(())
    }
}

/// A checkpoint's records as they will be once what was folded is written.
pub struct Pending<'a> {
    checkpoint: &'a Checkpoint,
    changes: Changes,
}

impl<'a> Pending<'a> {
    #[must_use]
    pub fn on(checkpoint: &'a Checkpoint) -> Self {
        Self { checkpoint, changes: Changes::new() }
    }

    /// As `Changes::put`.
    ///
    /// # Errors
    /// `PartName`.
    pub fn put(&mut self, part: &str, key: &[u8], value: Vec<u8>) -> Result<(), CheckpointError> {
        self.changes.put(part, key, value)
    }

    /// As `Changes::remove`.
    ///
    /// # Errors
    /// `PartName`.
    pub fn remove(&mut self, part: &str, key: &[u8]) -> Result<(), CheckpointError> {
        self.changes.remove(part, key)
    }

    /// Writes what was folded, up to entry `number`.
    ///
    /// # Errors
    /// As `Checkpoint::write`.
    pub fn write(self, number: EntryNumber) -> Result<(), CheckpointError> {
        self.checkpoint.write(self.changes, number)
    }

    /// The record as of the entries folded so far.
    ///
    /// # Errors
    /// As `Checkpoint::get`.
    pub fn get(&self, part: &str, key: &[u8]) -> Result<Option<Vec<u8>>, CheckpointError> {
        match self.changes.records.get(&full_key(part, key)?) {
            Some(changed) => Ok(changed.clone()),
            None => self.checkpoint.get(part, key),
        }
    }

    /// The first `most` keys of a part that begin with `prefix`, as of the entries folded so far.
    ///
    /// # Errors
    /// As `Checkpoint::scan`.
    pub fn keys(&self, part: &str, prefix: &[u8], most: usize) -> Result<Vec<Vec<u8>>, CheckpointError> {
        let full = full_key(part, prefix)?;
        let head = full.len() - prefix.len();
        let changed = self.changes.records.range(full.clone()..);
        let changed: BTreeMap<&[u8], bool> = changed
            .take_while(|(key, _)| key.starts_with(&full))
            .map(|(key, value)| (key.get(head..).unwrap_or_default(), value.is_some()))
            .collect();
        let mut keys: BTreeSet<Vec<u8>> =
            changed.iter().filter(|(_, there)| **there).map(|(key, _)| key.to_vec()).collect();
        let mut stored = 0;
        self.checkpoint.keys_until(part, prefix, |key| {
            if !changed.contains_key(key) {
                if stored == most {
                    return ControlFlow::Break(());
                }
                stored += 1;
                keys.insert(key.to_vec());
            }
            ControlFlow::Continue(())
        })?;
        Ok(keys.into_iter().take(most).collect())
    }
}

/// Folds what is durable and not in the checkpoint yet, and gives the entry where it then stands.
///
/// # Errors
/// `Journal` for damage in the journal, `Store`, `Damaged`. What was written before that stays.
pub fn catch_up(
    checkpoint: &Checkpoint,
    reader: &mut Reader,
    folds: &mut [Box<dyn Fold>],
) -> Result<EntryNumber, CheckpointError> {
    Backlog { reader, young: None }.fold(checkpoint, folds, None)
}

/// What is in the journal and not in the checkpoint.
struct Backlog<R> {
    reader: R,
    /// An entry that was read and was too young to be folded.
    young: Option<Entry>,
}

impl<R: Iterator<Item = Result<Entry, JournalError>>> Backlog<R> {
    /// Folds all of it; or with `until` what was written by then.
    fn fold(
        &mut self,
        checkpoint: &Checkpoint,
        folds: &mut [Box<dyn Fold>],
        until: Option<Wall>,
    ) -> Result<EntryNumber, CheckpointError> {
        loop {
            let mut pending = Pending::on(checkpoint);
            let mut last = None;
            for _ in 0..ENTRIES_MOST {
                let Some(entry) = self.next(until)? else { break };
                for fold in folds.iter_mut() {
                    fold.fold(&entry, &mut pending)?;
                }
                last = Some(entry.number);
            }
            let Some(last) = last else { return Ok(checkpoint.entry_number()) };
            for fold in folds.iter_mut() {
                fold.settle(&mut pending)?;
            }
            step("checkpoint");
            pending.write(last)?;
            step("checkpoint-written");
        }
    }

    fn next(&mut self, until: Option<Wall>) -> Result<Option<Entry>, JournalError> {
        let next = match self.young.take() {
            Some(entry) => Some(entry),
            None => self.reader.next().transpose()?,
        };
        let is_old = |entry: &Entry| until.is_none_or(|until| entry.wall_time <= until);
        if next.as_ref().is_none_or(is_old) {
            return Ok(next);
        }
        self.young = next;
        Ok(None)
    }
}

/// What a keeper does: a thread does it by the clock, a simulation one step after the other.
pub struct Keeping {
    checkpoint: Arc<Checkpoint>,
    backlog: Backlog<Reader>,
    folds: Vec<Box<dyn Fold>>,
    bases: Option<Bases>,
}

impl Keeping {
    /// `reader` must stand at the entry after the checkpoint's; or after the newest of `bases`, which the checkpoint is
    /// then filled from, and which are made of it.
    #[must_use]
    pub fn new(
        checkpoint: Arc<Checkpoint>,
        reader: Reader,
        folds: Vec<Box<dyn Fold>>,
        bases: Option<Bases>,
    ) -> Self {
        Self { checkpoint, backlog: Backlog { reader, young: None }, folds, bases }
    }

    /// Gives a checkpoint that is behind the newest base what that has: comes before anything is folded.
    ///
    /// # Errors
    /// As `Checkpoint::write`, or `Journal` for damage in the base.
    pub fn begin(&self) -> Result<(), CheckpointError> {
        self.bases.as_ref().map_or(Ok(()), |bases| bases.fill(&self.checkpoint))
    }

    /// Folds all that is durable, or with `until` what was written by then; gives the entry where the checkpoint then
    /// stands.
    ///
    /// # Errors
    /// `Journal` for damage in the journal, `Store`, `Damaged`. What was written before that stays.
    pub fn fold(&mut self, until: Option<Wall>) -> Result<EntryNumber, CheckpointError> {
        self.backlog.fold(&self.checkpoint, &mut self.folds, until)
    }

    /// Folds at its pace and when it is asked to, until it is to stop; gives the entry where the checkpoint then
    /// stands.
    ///
    /// # Errors
    /// As `begin` and `fold`.
    fn go_on(&mut self, pace: Pace, rounds: &CatchUp, view: &View) -> Result<EntryNumber, CheckpointError> {
        let clock = SystemClock::start();
        self.begin()?;
        loop {
            let round = rounds.next_round(pace.every);
            let until = if round.is_wanted { None } else { pace.until(clock.now().wall) };
            let number = self.fold(until)?;
            view.stands_at(number);
            rounds.note(|rounds| rounds.done = round.number);
            if round.is_last {
                return Ok(number);
            }
            self.after_round(clock.now().wall);
        }
    }

    /// Writes the next base if it is time, and removes what it makes needless. That it cannot be is told in the log,
    /// and tried again with the next segment.
    pub fn after_round(&mut self, now: Wall) {
        if let Some(bases) = &mut self.bases {
            bases.after_round(&self.checkpoint, &mut self.folds, now);
        }
    }
}

/// When a keeper folds without being asked.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The time between two looks at the journal.
    pub every: Duration,
    /// How old an entry is before it is folded, for a view of what has left memory: while payments come fast and
    /// memory holds them all, it takes nothing from them. Zero: at once.
    pub behind: Duration,
}

impl Pace {
    /// What the clock said when entries were written that may be folded now; `None`: all may.
    fn until(self, now: Wall) -> Option<Wall> {
        (!self.behind.is_zero()).then(|| Wall::default().plus(now.since(Wall::default().plus(self.behind))))
    }
}

/// A thread that catches up now and then, and when it is asked to.
pub struct CheckpointKeeper {
    catch_up: CatchUp,
    thread: JoinHandle<Result<EntryNumber, CheckpointError>>,
}

/// Asks a keeper to catch up now.
#[derive(Clone, Default)]
pub struct CatchUp(Arc<(Mutex<Rounds>, Condvar)>);

/// What a keeper was asked for, and how far it is.
#[derive(Default)]
struct Rounds {
    wanted: u64,
    done: u64,
    stop: bool,
    ended: bool,
}

/// One round of a keeper.
struct Round {
    number: u64,
    /// Somebody waits for all that is durable.
    is_wanted: bool,
    is_last: bool,
}

impl CatchUp {
    /// Waits until all that is durable by now is in the checkpoint; false when that takes longer than `most`, or its
    /// keeper has ended.
    #[must_use]
    pub fn wait(&self, most: Duration) -> bool {
        let (rounds, changed) = &*self.0;
        let mut rounds = rounds.lock().unwrap_or_else(PoisonError::into_inner);
        rounds.wanted += 1;
        let mine = rounds.wanted;
        changed.notify_all();
        let pending = |rounds: &mut Rounds| rounds.done < mine && !rounds.ended;
        let waited = changed.wait_timeout_while(rounds, most, pending);
        let (rounds, _) = waited.unwrap_or_else(PoisonError::into_inner);
        rounds.done >= mine
    }

    /// Waits until a round is wanted or `every` has passed.
    fn next_round(&self, every: Duration) -> Round {
        let (rounds, changed) = &*self.0;
        let rounds = rounds.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |rounds: &mut Rounds| !rounds.stop && rounds.wanted == rounds.done;
        let waited = changed.wait_timeout_while(rounds, every, idle);
        let rounds = waited.unwrap_or_else(PoisonError::into_inner).0;
        Round { number: rounds.wanted, is_wanted: rounds.wanted != rounds.done, is_last: rounds.stop }
    }

    fn note(&self, change: impl FnOnce(&mut Rounds)) {
        change(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.1.notify_all();
    }
}

/// Says that the keeper has ended, however it ends.
struct Ended(CatchUp, View);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.note(|rounds| rounds.ended = true);
        self.1.kept(false);
    }
}

impl CheckpointKeeper {
    /// Starts the thread. Should it end by itself, its log says why, and its `view` that nobody keeps it.
    ///
    /// # Errors
    /// `Store` when there is no thread to be had.
    pub fn start(mut keeping: Keeping, pace: Pace, view: View) -> Result<Self, CheckpointError> {
        let asked = CatchUp::default();
        let ended = Ended(asked.clone(), view);
        let keep = move || {
            let Ended(rounds, view) = &ended;
            view.kept(true);
            // A checkpoint may lag: whatever serves payments goes first. Where that cannot be said it competes.
            let _ = rustix::process::setpriority_process(None, BEHIND_PAYMENTS);
            let end = keeping.go_on(pace, rounds, view);
            if let Err(error) = &end {
                tracing::error!(%error, "nobody keeps the checkpoint or history up any more, until a restart");
            }
            end
        };
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(keep);
        Ok(Self { catch_up: asked, thread: thread.map_err(CheckpointError::store("start its thread"))? })
    }

    /// A handle that asks it to catch up.
    #[must_use]
    pub fn catch_up(&self) -> CatchUp {
        self.catch_up.clone()
    }

    /// Whether the thread has ended by itself, which it only does over an error.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.thread.is_finished()
    }

    /// Folds a last time, at its pace, and ends the thread; gives the entry where the checkpoint then stands.
    ///
    /// # Errors
    /// What ended it early.
    pub fn stop(self) -> Result<EntryNumber, CheckpointError> {
        self.catch_up.note(|rounds| rounds.stop = true);
        let panicked = |_| Err(CheckpointError::Damaged("its thread ended early"));
        self.thread.join().unwrap_or_else(panicked)
    }
}
