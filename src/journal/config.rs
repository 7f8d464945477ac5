//! `JournalConfig`: how large a segment is and how much room is kept.

use super::error::JournalError;
use super::group::ALIGNMENT;

/// The journal's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalConfig {
    /// Which journal this is: part of every key derivation, so that segments of two journals never mix. At most
    /// 32 bytes.
    pub stream: String,
    /// Bytes of one segment file; a multiple of 512.
    pub segment_bytes: u64,
    /// Entries that wait for the disk, in bytes. New requests are refused from half of it on, so that answers and
    /// reversals of what is in flight always find room.
    pub queue_bytes: usize,
    /// Free bytes on the disk below which new requests are refused.
    pub min_free_bytes: u64,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            stream: "transactions".to_owned(),
            segment_bytes: 64 << 20,
            queue_bytes: 64 << 20,
            min_free_bytes: 1 << 30,
        }
    }
}

impl JournalConfig {
    /// The longest stream name.
    pub const STREAM_MOST: usize = 32;
    const SEGMENT_LEAST: u64 = 4 << 10;
    /// The last segment is read as a whole at start.
    const SEGMENT_MOST: u64 = 1 << 30;
    /// No entry is longer, whatever the segment.
    const ENTRY_MOST: u64 = 64 << 10;

    /// Whether the values can work together.
    ///
    /// # Errors
    /// `Config` with the key that cannot be as it is.
    pub fn check(&self) -> Result<(), JournalError> {
        let refused = |key, reason| Err(JournalError::Config { key, reason });
        if self.stream.is_empty() || self.stream.len() > Self::STREAM_MOST {
            return refused("journal.stream", "1 to 32 characters are wanted");
        }
        if !(Self::SEGMENT_LEAST..=Self::SEGMENT_MOST).contains(&self.segment_bytes) {
            return refused("journal.segment_bytes", "4 KiB to 1 GiB are wanted");
        }
        if !self.segment_bytes.is_multiple_of(ALIGNMENT) {
            return refused("journal.segment_bytes", "a multiple of 512 is wanted");
        }
        if self.queue_bytes < 2 * self.entry_most() {
            return refused("journal.queue_bytes", "it must hold at least two of the longest entries");
        }
        Ok(())
    }

    /// The longest entry, in bytes: half a segment always has room for it with everything around it.
    #[must_use]
    pub fn entry_most(&self) -> usize {
        usize::try_from(Self::ENTRY_MOST.min(self.segment_bytes / 2)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_cannot_work_are_named() {
        let good = JournalConfig::default();
        assert!(good.check().is_ok());
        let with = |change: fn(&mut JournalConfig)| {
            let mut config = JournalConfig::default();
            change(&mut config);
            match config.check() {
                Err(JournalError::Config { key, .. }) => key,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(with(|c| c.stream.clear()), "journal.stream");
        assert_eq!(with(|c| c.stream = "x".repeat(33)), "journal.stream");
        assert_eq!(with(|c| c.segment_bytes = 1024), "journal.segment_bytes");
        assert_eq!(with(|c| c.segment_bytes = 8192 + 1), "journal.segment_bytes");
        assert_eq!(with(|c| c.queue_bytes = 1000), "journal.queue_bytes");
    }
}
