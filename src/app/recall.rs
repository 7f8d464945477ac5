//! What a start reads back: the checkpoint or a base, then the journal's entries since.

use std::path::Path;
use std::sync::Arc;

use crate::config::Config;
use crate::crypto::{JournalKeys, KeyDescription};
use crate::journal::{
    Base, Bases, Body, Checkpoint, CheckpointError, Journal, KeyEvent, OpenedCheckpoint, Records,
};
use crate::stdx::clock::Now;
use crate::switch::{Action, Cards, Recovery, SwitchCore, Unfinished};
use crate::tsp::{Tsp, TspError};

use super::{AppError, Found, Progress};

/// How many entries a start reads before it says again how far it is.
const ENTRIES_PER_LOOK: u64 = 4_096;

/// Everything read back from the disk, before a socket is open.
pub(super) struct Recalled {
    pub(super) tsp: Tsp,
    pub(super) core: SwitchCore,
    pub(super) first: Vec<Action>,
    pub(super) found: Found,
    /// The keys that the journal says came into use.
    pub(super) keys: Vec<KeyDescription>,
}

/// What a checkpoint or a base has, read back.
pub(super) struct Known {
    tsp: Tsp,
    unfinished: Unfinished,
}

impl Known {
    fn of(config: &Config, records: &dyn Records) -> Result<Self, AppError> {
        let mut tsp = Tsp::new(config.tsp.clone(), &config.security)?;
        tsp.restore(records)?;
        Ok(Self { tsp, unfinished: Unfinished::restore(config.limits, records)? })
    }
}

/// The checkpoint, or the base where that knows more, and what is read back from it. A checkpoint that turns out to be
/// damaged while it is read is moved aside: then base and journal have it all.
pub(super) fn known(
    config: &Config,
    checkpoint: Arc<Checkpoint>,
    bases: &Bases,
    (place, keys): (&Path, &JournalKeys),
) -> Result<(Arc<Checkpoint>, Option<Base>, Known), AppError> {
    let kind = config.journal.checkpoint;
    let anew = || Checkpoint::open_anew(kind, place, keys);
    let (checkpoint, base) = newest(checkpoint, bases.newest(), anew)?;
    if let Some(base) = base {
        let known = Known::of(config, &base)?;
        return Ok((checkpoint, Some(base), known));
    }
    let damage = match Known::of(config, &*checkpoint) {
        Ok(known) => return Ok((checkpoint, None, known)),
        Err(AppError::Checkpoint(error) | AppError::Tsp(TspError::Store(error))) => error,
        Err(error) => return Err(error),
    };
    drop(checkpoint);
    let checkpoint = sound(Checkpoint::set_aside(kind, place, keys, damage)?);
    let (checkpoint, base) = newest(checkpoint, bases.newest(), anew)?;
    let known = Known::of(config, base.as_ref().map_or(&*checkpoint as &dyn Records, |base| base))?;
    Ok((checkpoint, base, known))
}

/// What the checkpoint or the base knows, then one pass over the journal's entries since, each to both: the switch also takes those
/// before that hold answers which it remembers.
pub(super) fn recall(
    config: &Config,
    (journal, checkpoint, state): (&Journal, &dyn Records, Known),
    cards: &Cards,
    now: Now,
    progress: &mut dyn FnMut(Progress),
) -> Result<Recalled, AppError> {
    let known = checkpoint.entry_number();
    let Known { mut tsp, mut unfinished } = state;
    unfinished.forget_before(journal.first_entry());
    let mut keys: Vec<_> = unfinished.keys().collect();
    let from = unfinished.answers_from().min(known.next());
    let switch = config.switch();
    let window = switch.window(now.wall);
    let mut recovery = Recovery::resume(switch, window, cards, (known, unfinished));
    let (mut entries, of) = (0, journal.durable().next().0.saturating_sub(from.0));
    for entry in journal.reader(from)? {
        let entry = entry?;
        if entries % ENTRIES_PER_LOOK == 0 {
            progress(Progress { entries, of });
        }
        if entry.number > known {
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
    Ok(Recalled { tsp, core, first, found, keys })
}

/// The checkpoint, and the base where that knows more: then the checkpoint is empty, to be filled from it.
fn newest(
    checkpoint: Arc<Checkpoint>,
    base: Option<&Base>,
    anew: impl FnOnce() -> Result<Checkpoint, CheckpointError>,
) -> Result<(Arc<Checkpoint>, Option<Base>), AppError> {
    let Some(base) = base.filter(|base| base.entry_number() > checkpoint.entry_number()) else {
        return Ok((checkpoint, None));
    };
    let checkpoint = if checkpoint.is_blank() {
        checkpoint
    } else {
        drop(checkpoint);
        Arc::new(anew()?)
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
