//! Opening a checkpoint or a history: what is damaged is moved aside, and an empty one begun.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{fs, io};

use super::super::entry::EntryNumber;
use super::content::Content;
use super::state::State;
use super::{Checkpoint, CheckpointError, CheckpointKind, MemoryStore, OpenedCheckpoint, STATE_KEY, Store};
use crate::crypto::{JournalKeys, SegmentKey};

impl Checkpoint {
    /// Opens the checkpoint of that kind in `directory` and checks every record of it, but for those of packed parts,
    /// of which there are millions: they are checked by whoever scans the part, which a start does. A damaged one is
    /// moved aside and an empty one begun, which the journal fills again.
    ///
    /// # Errors
    /// `InUse`; `Store` when not even an empty one can be begun; `Keys`.
    pub fn open(
        kind: CheckpointKind,
        directory: &Path,
        keys: &JournalKeys,
    ) -> Result<OpenedCheckpoint, CheckpointError> {
        Self::open_as(kind, directory, keys, Content::Checkpoint)
    }

    /// As `open`, for the history of transactions: it may be so large that only what is read is checked, and then.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_history(
        kind: CheckpointKind,
        directory: &Path,
        keys: &JournalKeys,
    ) -> Result<OpenedCheckpoint, CheckpointError> {
        Self::open_as(kind, directory, keys, Content::History)
    }

    /// The checkpoint whose records a test or a simulation keeps in memory; an empty store begins a new one. Every
    /// record is checked as `open` checks it.
    ///
    /// # Errors
    /// `Damaged`, `Keys`.
    pub fn in_memory(store: &MemoryStore, keys: &JournalKeys) -> Result<Self, CheckpointError> {
        Self::in_memory_as(store, keys, Content::Checkpoint)
    }

    /// As `in_memory`, for the history of transactions.
    ///
    /// # Errors
    /// As `in_memory`.
    pub fn history_in_memory(store: &MemoryStore, keys: &JournalKeys) -> Result<Self, CheckpointError> {
        Self::in_memory_as(store, keys, Content::History)
    }

    fn in_memory_as(
        store: &MemoryStore,
        keys: &JournalKeys,
        content: Content,
    ) -> Result<Self, CheckpointError> {
        let (records, key) = (Box::new(store.clone()), content.key(keys)?);
        if store.is_empty() {
            Self::begun(records, key, content)
        } else {
            Self::verified(records, key, content)
        }
    }

    /// An empty one, in the place of whatever stands there.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_anew(
        kind: CheckpointKind,
        directory: &Path,
        keys: &JournalKeys,
    ) -> Result<Self, CheckpointError> {
        let path = Content::Checkpoint.path(kind, directory);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(CheckpointError::store("remove an older one"))?;
        Self::create(kind, &path, Content::Checkpoint.key(keys)?, Content::Checkpoint)
    }

    /// Moves aside one that was found damaged as its parts were read, and begins an empty one. Nobody may have it open.
    ///
    /// # Errors
    /// `Store`, `Keys`.
    pub fn set_aside(
        kind: CheckpointKind,
        directory: &Path,
        keys: &JournalKeys,
        error: CheckpointError,
    ) -> Result<OpenedCheckpoint, CheckpointError> {
        let content = Content::Checkpoint;
        let path = content.path(kind, directory);
        let aside = quarantine(&path).map_err(CheckpointError::store("move a damaged one aside"))?;
        let checkpoint = Self::create(kind, &path, content.key(keys)?, content)?;
        Ok(OpenedCheckpoint { checkpoint, quarantined: Some((aside, error)) })
    }

    /// The last entry that is in the checkpoint of that kind in `directory`, or in the history beside it, whichever has
    /// more; none where there is neither. The journal once went so far. Only their own state is looked at, and what is
    /// damaged stays where it is.
    ///
    /// # Errors
    /// `InUse`, `Damaged`, `Store`, `Keys`.
    pub fn newest_entry(
        kind: CheckpointKind,
        directory: &Path,
        keys: &JournalKeys,
    ) -> Result<Option<EntryNumber>, CheckpointError> {
        let mut newest = None;
        for content in [Content::Checkpoint, Content::History] {
            let path = content.path(kind, directory);
            if path.exists() {
                let found = guarded(Self::open_found, kind, &path, content.key(keys)?, content)?;
                newest = newest.max(Some(found.entry_number()));
            }
        }
        Ok(newest)
    }

    fn open_as(
        kind: CheckpointKind,
        directory: &Path,
        keys: &JournalKeys,
        content: Content,
    ) -> Result<OpenedCheckpoint, CheckpointError> {
        let path = content.path(kind, directory);
        let create = || Self::create(kind, &path, content.key(keys)?, content);
        if !path.exists() {
            return Ok(OpenedCheckpoint { checkpoint: create()?, quarantined: None });
        }
        match guarded(Self::open_verified, kind, &path, content.key(keys)?, content) {
            Ok(checkpoint) => Ok(OpenedCheckpoint { checkpoint, quarantined: None }),
            Err(CheckpointError::InUse) => Err(CheckpointError::InUse),
            Err(error) => {
                let aside = quarantine(&path).map_err(CheckpointError::store("move a damaged one aside"))?;
                Ok(OpenedCheckpoint { checkpoint: create()?, quarantined: Some((aside, error)) })
            }
        }
    }

    fn create(
        kind: CheckpointKind,
        path: &Path,
        key: SegmentKey,
        content: Content,
    ) -> Result<Self, CheckpointError> {
        Self::begun(kind.open(path)?, key, content)
    }

    fn begun(store: Box<dyn Store>, key: SegmentKey, content: Content) -> Result<Self, CheckpointError> {
        let created = Self { store, key, content, state: Mutex::default() };
        // From here on a store without its state is a damaged one, not a new one.
        created.store.apply(vec![(STATE_KEY.to_vec(), Some(created.sealed_state(&State::default())))])?;
        Ok(created)
    }

    fn open_verified(
        kind: CheckpointKind,
        path: &Path,
        key: SegmentKey,
        content: Content,
    ) -> Result<Self, CheckpointError> {
        Self::verified(kind.open(path)?, key, content)
    }

    fn verified(store: Box<dyn Store>, key: SegmentKey, content: Content) -> Result<Self, CheckpointError> {
        let found = Self::found(store, key, content)?;
        match content {
            Content::Checkpoint => found.verify_unpacked()?,
            Content::History => {}
        }
        Ok(found)
    }

    /// As it is there, with no more than its state looked at.
    fn open_found(
        kind: CheckpointKind,
        path: &Path,
        key: SegmentKey,
        content: Content,
    ) -> Result<Self, CheckpointError> {
        Self::found(kind.open(path)?, key, content)
    }

    fn found(store: Box<dyn Store>, key: SegmentKey, content: Content) -> Result<Self, CheckpointError> {
        let found = Self { store, key, content, state: Mutex::default() };
        let bytes = found.store.get(&STATE_KEY)?.ok_or(CheckpointError::Damaged("its state is missing"))?;
        let state = State::decode(found.unsealed(&STATE_KEY, &bytes)?.0)
            .ok_or(CheckpointError::Damaged("its state is not valid"))?;
        *found.lock() = state;
        Ok(found)
    }
}

type Opens = fn(CheckpointKind, &Path, SegmentKey, Content) -> Result<Checkpoint, CheckpointError>;

/// Opens on a thread of its own: a store that panics over a damaged file is a damaged one.
fn guarded(
    opens: Opens,
    kind: CheckpointKind,
    path: &Path,
    key: SegmentKey,
    content: Content,
) -> Result<Checkpoint, CheckpointError> {
    let path = path.to_owned();
    let thread = std::thread::Builder::new().name("checkpoint-open".to_owned());
    let opening = thread.spawn(move || opens(kind, &path, key, content));
    let opening = opening.map_err(CheckpointError::store("start a thread"))?;
    opening.join().unwrap_or(Err(CheckpointError::Damaged("its store could not read it")))
}

fn quarantine(path: &Path) -> io::Result<PathBuf> {
    let aside = (1_u32..)
        .map(|number| path.with_extension(format!("quarantine-{number}")))
        .find(|aside| !aside.exists())
        .ok_or(io::ErrorKind::AlreadyExists)?;
    fs::rename(path, &aside)?;
    Ok(aside)
}
