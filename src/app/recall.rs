//! What a start reads back: the checkpoint or a base, then the journal's entries since. The simulation's starts read
//! the same way.

use std::path::Path;
use std::sync::Arc;

use crate::crypto::{JournalKeys, KeyDescription, SecurityModule};
use crate::journal::{
    Base, Bases, Body, Checkpoint, CheckpointError, CheckpointKind, EntryNumber, Fold, Journal, Keeping,
    KeyEvent, OpenedCheckpoint, Records,
};
use crate::stdx::clock::Now;
use crate::stdx::random::Entropy;
use crate::stdx::sabotage::sabotaged;
use crate::switch::{
    Action, Cards, LimitsInForce, Recovery, SwitchConfig, SwitchCore, SwitchFold, Unfinished,
};
use crate::tsp::{Tsp, TspConfig, TspError, TspFold};

use super::{AppError, Found, Progress};

/// How many entries a start reads before it says again how far it is.
const ENTRIES_PER_LOOK: u64 = 4_096;

/// Everything read back from the disk, before a socket is open.
pub struct Recalled {
    pub tsp: Tsp,
    pub core: SwitchCore,
    /// What the core must do first.
    pub first: Vec<Action>,
    pub found: Found,
    /// What the fold goes by.
    pub limits: LimitsInForce,
    /// The keys that the journal says came into use.
    pub keys: Vec<KeyDescription>,
}

/// The checkpoint, or the base where that knows more, and what is read back from it.
pub struct Known {
    checkpoint: Arc<Checkpoint>,
    /// The checkpoint is then empty, to be filled from it.
    base: Option<Base>,
    tsp: Tsp,
    unfinished: Unfinished,
}

impl Known {
    /// The last entry that is in it; 0 when there is none.
    #[must_use]
    pub fn entry_number(&self) -> EntryNumber {
        self.records().entry_number()
    }

    /// The base, where it knows more than the checkpoint.
    #[must_use]
    pub fn base(&self) -> Option<&Base> {
        self.base.as_ref()
    }

    fn records(&self) -> &dyn Records {
        self.base.as_ref().map_or(&*self.checkpoint, |base| base)
    }
}

/// Where a checkpoint stands that may have to make room for another.
pub trait CheckpointPlace {
    /// An empty one, in the place of whatever stands there.
    ///
    /// # Errors
    /// As `Checkpoint::open_anew`.
    fn anew(&self) -> Result<Checkpoint, CheckpointError>;

    /// An empty one, in the place of one that was found damaged as its parts were read. Nobody may have it open.
    ///
    /// # Errors
    /// As `Checkpoint::set_aside`.
    fn set_aside(&self, damage: CheckpointError) -> Result<OpenedCheckpoint, CheckpointError>;
}

/// A checkpoint's directory.
pub(super) struct InDirectory<'a> {
    pub(super) kind: CheckpointKind,
    pub(super) directory: &'a Path,
    pub(super) keys: &'a JournalKeys,
}

impl CheckpointPlace for InDirectory<'_> {
    fn anew(&self) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::open_anew(self.kind, self.directory, self.keys)
    }

    fn set_aside(&self, damage: CheckpointError) -> Result<OpenedCheckpoint, CheckpointError> {
        Checkpoint::set_aside(self.kind, self.directory, self.keys, damage)
    }
}

/// By what a start reads.
pub struct Recall<'a> {
    pub tsp: &'a TspConfig,
    pub security: &'a SecurityModule,
    pub switch: SwitchConfig,
    pub limits: LimitsInForce,
    /// Hears now and then how far it is.
    pub progress: &'a mut dyn FnMut(Progress),
}

impl Recall<'_> {
    /// The checkpoint, or the base where that knows more, and what is read back from it. A checkpoint that turns out to
    /// be damaged while it is read is moved aside: then base and journal have it all.
    ///
    /// # Errors
    /// `Journal` or `Checkpoint` for damage in the base, or what the journal's own records do not fit.
    pub fn known(
        &self,
        checkpoint: Arc<Checkpoint>,
        bases: &Bases,
        place: &dyn CheckpointPlace,
    ) -> Result<Known, AppError> {
        let (checkpoint, base) = newest(checkpoint, bases.newest(), place)?;
        if base.is_some() {
            return self.read(checkpoint, base);
        }
        let damage = match self.read(checkpoint, None) {
            Err(AppError::Checkpoint(error) | AppError::Tsp(TspError::Store(error))) => error,
            found => return found,
        };
        let checkpoint = sound(place.set_aside(damage)?);
        let (checkpoint, base) = newest(checkpoint, bases.newest(), place)?;
        self.read(checkpoint, base)
    }

    fn read(&self, checkpoint: Arc<Checkpoint>, base: Option<Base>) -> Result<Known, AppError> {
        let records: &dyn Records = base.as_ref().map_or(&*checkpoint, |base| base);
        let mut tsp = Tsp::new(self.tsp.clone(), self.security)?;
        tsp.restore(records)?;
        let unfinished = Unfinished::restore(self.switch.limits, records)?;
        Ok(Known { checkpoint, base, tsp, unfinished })
    }

    /// What keeps the checkpoint up with the journal, from where `known` stands on.
    ///
    /// # Errors
    /// `Journal`, `Checkpoint`.
    pub fn keeping(
        &self,
        known: &Known,
        journal: &Journal,
        bases: Bases,
        entropy: Entropy,
    ) -> Result<Keeping, AppError> {
        let reader = journal.reader(known.entry_number().next())?;
        let switch = SwitchFold::resume(self.limits.clone(), known.records())?;
        let tokens = TspFold::new(self.tsp).renewing(self.security.data_sealer(), entropy);
        let folds: Vec<Box<dyn Fold>> = vec![Box::new(tokens), Box::new(switch)];
        Ok(Keeping::new(Arc::clone(&known.checkpoint), reader, folds, Some(bases)))
    }

    /// One pass over the journal's entries since what is known, each to vault and switch: the switch also takes those
    /// before that hold answers which it remembers.
    ///
    /// # Errors
    /// `Journal`, `Tsp`, `Recovery`: nothing may start on that.
    pub fn recall(
        self,
        journal: &Journal,
        known: Known,
        cards: &Cards,
        now: Now,
    ) -> Result<Recalled, AppError> {
        let number = known.entry_number();
        let Known { mut tsp, mut unfinished, .. } = known;
        unfinished.forget_before(journal.first_entry());
        let mut keys: Vec<_> = unfinished.keys().collect();
        let from = unfinished.answers_from().min(number.next());
        let window = self.switch.window(now.wall);
        let mut recovery = Recovery::resume(self.switch, window, cards, (number, unfinished));
        let (mut entries, of) = (0, journal.durable().next().0.saturating_sub(from.0));
        for entry in journal.reader(from)? {
            let entry = entry?;
            if entries % ENTRIES_PER_LOOK == 0 {
                (self.progress)(Progress { entries, of });
            }
            if entry.number > number {
                tsp.replay(&entry)?;
                if let Body::Operator(bytes) = &entry.body {
                    keys.extend(KeyEvent::decode(bytes).map(|event| event.key));
                }
            }
            recovery.observe(&entry)?;
            entries += 1;
        }
        for requestor in tsp.differing_requestors() {
            tracing::warn!(%requestor, "the registry knows this requestor otherwise than the configuration does; the registry counts");
        }
        let mut first = Vec::new();
        let (core, switch) = recovery.finish(now, &mut first)?;
        let found = Found { entries, tokens: tsp.tokens(), switch };
        Ok(Recalled { tsp, core, first, found, limits: self.limits, keys })
    }
}

/// The checkpoint, and the base where that knows more: then the checkpoint is empty, to be filled from it.
fn newest(
    checkpoint: Arc<Checkpoint>,
    base: Option<&Base>,
    place: &dyn CheckpointPlace,
) -> Result<(Arc<Checkpoint>, Option<Base>), AppError> {
    let knows_more =
        |base: &&Base| base.entry_number() > checkpoint.entry_number() && !sabotaged("base-not-looked-at");
    let Some(base) = base.filter(knows_more) else {
        return Ok((checkpoint, None));
    };
    let checkpoint = if checkpoint.is_blank() {
        checkpoint
    } else {
        drop(checkpoint);
        Arc::new(place.anew()?)
    };
    tracing::info!(
        base = base.number(),
        entry = base.entry_number().0,
        "the checkpoint is filled from a base"
    );
    Ok((checkpoint, Some(base.clone())))
}

/// What was opened; where it was damaged, that is said, and the journal fills it again.
pub(super) fn sound(opened: OpenedCheckpoint) -> Arc<Checkpoint> {
    if let Some((aside, error)) = &opened.quarantined {
        tracing::error!(moved_to = %aside.display(), %error, "a checkpoint was damaged; it is rebuilt from the journal");
    }
    Arc::new(opened.checkpoint)
}
