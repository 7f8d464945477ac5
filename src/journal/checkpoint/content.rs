//! `Content`: what a store of this kind is for.

use std::path::{Path, PathBuf};

use super::{CheckpointError, CheckpointKind};
use crate::crypto::{JournalKeys, SegmentKey};

/// What a store is for: its file's name, its key, and whether all of it is looked at when it is opened. Of what is not,
/// no count or sum is kept: nothing has to be read before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Checkpoint,
    History,
}

impl Content {
    pub(super) fn path(self, kind: CheckpointKind, directory: &Path) -> PathBuf {
        directory.join(format!("{}.{}", self.name(), kind.name()))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::History => "history",
        }
    }

    /// No journal's mark or segment has this stream and number.
    pub(super) fn key(self, keys: &JournalKeys) -> Result<SegmentKey, CheckpointError> {
        Ok(keys.segment(self.name().as_bytes(), 0)?)
    }
}
