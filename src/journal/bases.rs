//! `Bases`: when the checkpoint is written out as a base, and which segments can go then.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::base::{self, Base, FirstSegment};
use super::checkpoint::{Checkpoint, CheckpointError, Fold, Records};
use super::entry::{Entry, EntryNumber};
use super::error::JournalError;
use super::reader::{Place, Reader};
use super::segment::{SegmentHeader, file_name, list};
use super::writer::Shared;
use crate::stdx::clock::Wall;
use crate::stdx::sabotage::{sabotaged, step};

/// When bases are written, and how long segments stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BasesConfig {
    /// So many segments after a base the next one is written.
    pub fold_every: u64,
    /// How old all of a segment must be before it can go.
    pub retention: Duration,
}

/// Writes bases, and removes what they make needless: called by the checkpoint's keeper between its rounds.
pub struct Bases {
    place: Place,
    durable: Arc<AtomicU64>,
    shared: Arc<Shared>,
    config: BasesConfig,
    /// It is filled again from the segments: what is not in it must stay.
    history: Arc<Checkpoint>,
    newest: Option<Base>,
    /// The segment that was being written when the newest base was.
    written_at: u64,
}

impl Bases {
    pub(super) fn open(
        place: Place,
        shared: Arc<Shared>,
        config: BasesConfig,
        history: Arc<Checkpoint>,
    ) -> Result<Self, JournalError> {
        let (durable, newest) = (shared.watermark(), place.base.clone());
        let mut bases = Self { place, durable, shared, config, history, newest, written_at: 0 };
        bases.written_at = bases.segment_of_newest()?;
        bases.show()?;
        Ok(bases)
    }

    /// The newest one.
    #[must_use]
    pub fn newest(&self) -> Option<&Base> {
        self.newest.as_ref()
    }

    /// Gives a checkpoint that is behind the newest base what that has.
    pub(super) fn fill(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        match &self.newest {
            Some(base) if checkpoint.entry_number() < base.entry_number() => checkpoint.fill(base),
            _ => Ok(()),
        }
    }

    /// Writes the next base if it is time. That it cannot be is told, and tried again with the next segment.
    pub(super) fn after_round(&mut self, checkpoint: &Checkpoint, folds: &mut [Box<dyn Fold>], now: Wall) {
        if let Err(error) = self.fold_if_due(checkpoint, folds, now) {
            self.shared.metrics.base_failed();
            tracing::error!(%error, "no base could be written; the journal keeps all its segments until one is");
        }
    }

    fn fold_if_due(
        &mut self,
        checkpoint: &Checkpoint,
        folds: &mut [Box<dyn Fold>],
        now: Wall,
    ) -> Result<(), CheckpointError> {
        let newest = list(self.place.disk.as_ref())?.last().copied().unwrap_or_default();
        let due = newest.saturating_sub(self.written_at) >= self.config.fold_every;
        if !due || checkpoint.entry_number() == EntryNumber(0) {
            return Ok(());
        }
        // Should it fail: not before another segment is full.
        self.written_at = newest.saturating_sub(self.config.fold_every.saturating_sub(1));
        folds.iter_mut().try_for_each(|fold| fold.renew(checkpoint))?;
        let number = self.newest.as_ref().map_or(1, |base| base.number().saturating_add(1));
        let first = self.first_to_keep(checkpoint, now)?;
        let base = Base::write(&self.place, number, first, checkpoint)?;
        self.written_at = newest;
        tracing::info!(
            base = number,
            entry = base.entry_number().0,
            first_entry = first.first_entry.0,
            "a base is written"
        );
        self.newest = Some(base);
        self.clear(first, number)?;
        self.show()?;
        Ok(())
    }

    /// The first segment of which something is younger than the retention, or not yet in checkpoint and history. At
    /// most so many go at once as two bases are apart: a clock that was set wrong does not empty the journal.
    fn first_to_keep(&self, checkpoint: &Checkpoint, now: Wall) -> Result<FirstSegment, JournalError> {
        let folded = checkpoint.entry_number().min(self.history.entry_number());
        let most = usize::try_from(self.config.fold_every.saturating_mul(2)).unwrap_or(usize::MAX);
        let mut first = None;
        for id in list(self.place.disk.as_ref())?.into_iter().take(most) {
            let header = SegmentHeader::read(self.place.disk.as_ref(), id, &self.place.stream)?;
            if first.is_some() && !self.is_past(&header, folded, now)? {
                break;
            }
            first = Some(FirstSegment::of(&header));
        }
        first.ok_or(JournalError::missing(1))
    }

    /// Whether all before this segment is folded, and older than the retention.
    fn is_past(&self, segment: &SegmentHeader, folded: EntryNumber, now: Wall) -> Result<bool, JournalError> {
        if segment.first_entry > folded {
            return Ok(false);
        }
        let mut reader = Reader::open(self.place.clone(), Arc::clone(&self.durable), segment.first_entry)?;
        let next = reader.next().transpose()?;
        let is_old = |entry: Entry| {
            now.since(entry.wall_time) >= self.config.retention || sabotaged("young-segments-go")
        };
        Ok(next.is_some_and(is_old))
    }

    /// Removes the segments before `first`, and all bases but the two newest.
    fn clear(&self, first: FirstSegment, number: u64) -> Result<(), JournalError> {
        let disk = self.place.disk.as_ref();
        for old in base::list(disk)?.into_iter().filter(|old| old.saturating_add(1) < number) {
            let file = base::file_name(old);
            disk.remove(&file).map_err(JournalError::disk("remove", &file))?;
        }
        remove_before(&self.place, first.id)
    }

    /// The segment that was begun last before the newest base's entry.
    fn segment_of_newest(&self) -> Result<u64, JournalError> {
        let ids = list(self.place.disk.as_ref())?;
        let entry = self.newest.as_ref().map_or(EntryNumber(0), Records::entry_number);
        for id in ids.iter().rev() {
            let header = SegmentHeader::read(self.place.disk.as_ref(), *id, &self.place.stream)?;
            if header.first_entry <= entry.next() {
                return Ok(*id);
            }
        }
        Ok(ids.first().copied().unwrap_or_default())
    }

    fn show(&self) -> Result<(), JournalError> {
        let segments = list(self.place.disk.as_ref())?.len();
        let entry = self.newest.as_ref().map_or(EntryNumber(0), Records::entry_number);
        self.shared.metrics.base(entry, segments);
        Ok(())
    }
}

/// Removes the segments before `first`, the oldest first: nothing is ever missing between two that are there.
///
/// # Errors
/// `Disk`.
pub(super) fn remove_before(place: &Place, first: u64) -> Result<(), JournalError> {
    let disk = place.disk.as_ref();
    let old: Vec<u64> = list(disk)?.into_iter().filter(|id| *id < first).collect();
    for id in &old {
        let file = file_name(*id);
        disk.remove(&file).map_err(JournalError::disk("remove", &file))?;
        step("segment-removed");
    }
    if old.is_empty() {
        return Ok(());
    }
    disk.sync_dir().map_err(JournalError::disk("sync", "the directory"))
}
