//! What a start finds: the journal alone, a checkpoint or a base and what came since, or either of them lost, old or
//! damaged; and the rounds of the keepers that leave them.

use std::io::ErrorKind;

use tokenswitch::journal::{Body, Disk as _, Entry, EntryNumber, JournalError};
use tokenswitch::stdx::clock::Now;
use tokenswitch::tsp::{CallId, Command};

use super::vault::compare;
use super::{Happening, Journaling, MILLI, SECOND, Step, World, config_of, keep_of};
use crate::house::{Crash, Found, House};
use crate::trouble::Trouble;
use crate::vault::Asked;

/// What a start read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// The journal alone.
    Journal,
    /// A checkpoint, and the journal since.
    Checkpoint,
    /// A base, and the journal since.
    Base,
    /// As `Base`, where the journal begins later than it did.
    BaseForGone,
    /// As `Checkpoint`, where the journal begins later than it did.
    CheckpointForGone,
    /// What it could without a checkpoint that was damaged.
    Damaged,
}

impl Start {
    pub(crate) const ALL: [Self; 6] = [
        Self::Journal,
        Self::Checkpoint,
        Self::Base,
        Self::BaseForGone,
        Self::CheckpointForGone,
        Self::Damaged,
    ];

    fn of(found: Found) -> Self {
        let gone = found.first > EntryNumber(1);
        match (found.damaged, found.base, found.known) {
            (true, ..) => Self::Damaged,
            (_, Some(_), _) if gone => Self::BaseForGone,
            (_, Some(_), _) => Self::Base,
            (_, None, _) if gone => Self::CheckpointForGone,
            (_, None, EntryNumber(0)) => Self::Journal,
            (_, None, _) => Self::Checkpoint,
        }
    }
}

/// How often there was a start of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Starts([u64; Start::ALL.len()]);

impl Starts {
    fn note(&mut self, start: Start) {
        self.0[start as usize] += 1;
    }

    pub(crate) fn count(&self, start: Start) -> u64 {
        self.0[start as usize]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }
}

impl World {
    /// Spreads the rounds of the keepers over the run's time.
    pub(super) fn schedule_folds(&mut self, span: u64) {
        for _ in 0..self.fold_random.u32(0..6) {
            let wait = self.fold_random.u64(0..span.max(1) * 3 / 2);
            self.later(wait, Happening::Fold);
        }
    }

    /// How long nobody pays, now and then: the keepers have their round when what there was is old, and the process may
    /// end then.
    pub(super) fn quiet(&mut self) -> Option<u64> {
        if self.plan.journal != Journaling::Folded || self.fold_random.u32(0..30) > 0 {
            return None;
        }
        self.note("nobody pays");
        self.later(65 * SECOND, Happening::Fold);
        if self.fold_random.bool() {
            let how = Crash::of(self.fold_random.u64(..));
            self.later(66 * SECOND, Happening::Crash(how));
        }
        Some(self.fold_random.u64(60 * SECOND..80 * SECOND))
    }

    /// A round of the keepers; now and then the process ends within it.
    pub(super) fn fold(&mut self) {
        let now = self.house_now();
        if self.house.is_none() || self.disk_stuck_until > self.now {
            return;
        }
        if self.fold_random.u32(0..3) == 0 {
            self.backup = Some(self.storage.checkpoint.copy());
        }
        let dies = self.plan.troubles.has(Trouble::Crash) && self.fold_random.u32(0..10) == 0;
        if dies {
            self.storage.disk.fail_after(self.fold_random.u64(0..40));
        }
        // Where segments go, the history is behind as often as not.
        let behind = if self.plan.journal == Journaling::Folded { 2 } else { 4 };
        let with_history = self.fold_random.u32(0..behind) > 0;
        let Some(house) = self.house.as_mut() else { return };
        self.checkpointed = house.fold(now, with_history).expect("what was written reads back");
        self.note(&format!("the checkpoint stands at {}", self.checkpointed));
        if dies {
            let seed = self.fold_random.u64(..);
            self.crash(Crash::Failed(seed));
        }
    }

    /// What may have become of the views while the process was down. None of them is needed, but for a history whose
    /// segments are gone.
    fn views_suffer(&mut self) {
        let views = self.storage.clone();
        match self.fold_random.u32(0..10) {
            0 | 1 => {
                self.note("the checkpoint is lost");
                views.checkpoint.clear();
            }
            2 | 3 => {
                if let Some(backup) = &self.backup {
                    self.storage.checkpoint = backup.copy();
                    self.note("an older checkpoint is put back");
                }
            }
            4 => {
                let record = self.fold_random.usize(0..views.checkpoint.len().max(1));
                if views.checkpoint.flip(record) {
                    self.note("the checkpoint is damaged");
                }
            }
            5 if !self.has_base() => {
                self.note("the history is lost");
                views.history.clear();
            }
            _ => {}
        }
    }

    fn has_base(&self) -> bool {
        let names = self.storage.disk.list().expect("it can be read");
        names.iter().any(|name| name.starts_with("base-"))
    }

    fn opened(&self, seed: u64, now: Now) -> Result<House, JournalError> {
        let (config, keep) = (config_of(self.plan), keep_of(self.plan));
        House::open(&self.storage, self.audit.encoded(), seed, now, config, keep)
    }

    pub(super) fn restart(&mut self) -> Step {
        if self.plan.troubles.has(Trouble::SectorRots) {
            self.rot()?;
        }
        self.views_suffer();
        self.generation += 1;
        let now = self.house_now();
        let seed = self.plan.seed ^ (self.generation << 32);
        if self.plan.troubles.has(Trouble::Crash) && self.chance(8) {
            return self.start_ends(seed, now);
        }
        let mut house = match self.opened(seed, now) {
            Ok(house) => house,
            Err(JournalError::Disk { source, .. }) if source.kind() == ErrorKind::StorageFull => {
                self.note("no room to start");
                self.later(SECOND, Happening::Restart);
                return Ok(());
            }
            Err(JournalError::Disk { .. }) if self.plan.troubles.has(Trouble::DiskBreaks) => {
                self.note("the disk does not answer, and is mended");
                self.storage.disk = self.storage.disk.copy();
                self.later(SECOND, Happening::Restart);
                return Ok(());
            }
            Err(refused) => return Err(format!("P8: it does not start: {refused}")),
        };
        self.starts.note(Start::of(house.found));
        self.checkpointed = if house.found.base.is_none() { house.found.known } else { EntryNumber(0) };
        let mut entries = self.audit.before(house.found.first);
        entries.extend(house.read_new());
        self.audit.read_back(&entries)?;
        self.before = self.audit.newest_request();
        self.book.read_back(&entries)?;
        let events = entries.iter().filter(|entry| matches!(entry.body, Body::Token(_))).count();
        let unanswered = self.book.restarted(events, house.appended())?;
        let appended = house.appended();
        house.ask_vault(Command::Adopt { call: CallId(0) }, now);
        if house.appended() != appended {
            return Err("P8: a receiver hears from now on that heard before".to_owned());
        }
        compare(&mut house, &mut self.book, now)?;
        self.note(&format!("restart: {:?} {:?}", house.recovered, house.found));
        self.house = Some(house);
        self.wake();
        // Whoever has heard nothing asks again.
        let asks = |asked: &Asked| !matches!(asked, Asked::Confirm { .. } | Asked::GiveUp { .. });
        let again = unanswered.into_iter().filter(|(_, asked)| asks(asked));
        again.collect::<Vec<_>>().into_iter().try_for_each(|(id, asked)| self.ask(id, asked))?;
        self.want_more_told()
    }

    /// The power goes while the switch starts: at one of its first changes of the disk, or as soon as it is ready.
    fn start_ends(&mut self, seed: u64, now: Now) -> Step {
        let (changes, torn) = (self.random.u64(0..8), self.random.u64(..));
        self.meet(Trouble::Crash, &format!("the power goes after {changes} changes of a start"));
        self.storage.disk.fail_after(changes);
        self.storage.disk = match self.opened(seed, now) {
            Ok(house) => house.crash(&self.storage.disk, Crash::Failed(torn)),
            Err(JournalError::Disk { .. }) => self.storage.disk.after_power_loss(torn),
            Err(refused) => return Err(format!("P8: it does not start: {refused}")),
        };
        self.over = self.lied;
        let wait = self.random.u64(10 * MILLI..SECOND);
        self.later(wait, Happening::Restart);
        Ok(())
    }

    /// What is left after the power went on a disk that had lied is no promise kept, but it is a beginning of what was
    /// there, or refused; never something else. Where a checkpoint has seen more, it is refused.
    pub(super) fn judge_lies(&mut self) -> Step {
        self.note("at rest after a lie");
        self.storage.disk.set_capacity(None);
        let last = match super::trouble::read_all(&self.storage.disk, &self.audit) {
            Ok(entries) => {
                self.audit.is_beginning(&entries, 0)?;
                entries.last().map_or(EntryNumber(0), |entry: &Entry| entry.number)
            }
            Err(refused) => return super::trouble::names_its_place(&refused),
        };
        match self.opened(self.plan.seed, self.house_now()) {
            Ok(_) if last < self.checkpointed => {
                Err(format!("P8: {} entries are left of {}, and it starts", last, self.checkpointed))
            }
            Ok(_) => Ok(()),
            Err(refused) => super::trouble::names_its_place(&refused),
        }
    }
}
