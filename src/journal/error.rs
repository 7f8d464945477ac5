//! `JournalError` and `Damage`: what can go wrong with the truth, and where it stands.

use std::io;

use super::entry::EntryNumber;
use super::layout::LayoutError;
use crate::crypto::CryptoError;

/// Why the journal does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("journal: cannot {action} {file}: {source}")]
    Disk { action: &'static str, file: String, source: io::Error },
    /// What was durable is not there any more, or not as it was. Never repaired in silence.
    #[error("journal segment {segment} is damaged at byte {offset}: {reason}")]
    Damaged { segment: u64, offset: u64, reason: Damage },
    #[error("the journal's mark of its last durable entry is damaged; its file is {file}")]
    MarkDamaged { file: &'static str },
    /// What stands in the place of segments that are gone is not as it was written.
    #[error("{file} is damaged at byte {offset}; it stands for what the journal's first segments said")]
    BaseDamaged { file: String, offset: u64 },
    /// A write or sync failed: whether the entries since then are on disk cannot be known, so none is acknowledged.
    #[error("the journal has stopped: {reason}")]
    Failed { reason: String },
    #[error("the journal is closed")]
    Closed,
    /// The queue of entries that wait for the disk is at its limit.
    #[error("the journal's queue is full")]
    Full,
    #[error("an entry of {length} bytes is longer than the {most} that fit")]
    TooLong { length: usize, most: usize },
    #[error("another process uses this journal")]
    InUse,
    #[error("{key}: {reason}")]
    Config { key: &'static str, reason: &'static str },
    #[error("journal keys: {0}")]
    Keys(#[from] CryptoError),
}

impl JournalError {
    /// A segment that must be there is not.
    pub(super) fn missing(segment: u64) -> Self {
        Self::Damaged { segment, offset: 0, reason: Damage::Missing }
    }

    /// For `map_err`: what was tried, with which file.
    pub(super) fn disk(action: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Disk { action, file, source }
    }
}

/// What is wrong with a place in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("the segment's header is not valid")]
    Header,
    #[error("format version {0} is not known")]
    Version(u16),
    #[error("it belongs to another journal")]
    OtherStream,
    #[error("no valid block where block {block} must be")]
    Block { block: u64 },
    /// Each part is valid by itself, and they do not belong together.
    #[error("the chain of blocks is broken")]
    Chain,
    #[error("entry {0} was altered, moved or sealed under another key")]
    Seal(EntryNumber),
    #[error("entry {number}: {fault}")]
    Layout { number: EntryNumber, fault: LayoutError },
    #[error("the journal ends with entry {last}, and entry {at_least} was durable")]
    Cut { last: EntryNumber, at_least: EntryNumber },
    #[error("the segment is missing")]
    Missing,
}
