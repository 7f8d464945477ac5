//! The mark: what was durable when the journal was last closed in good order. A journal that ends before it has lost
//! its tail to something else than a loss of power.

use super::disk::Disk;
use super::entry::EntryNumber;
use super::error::JournalError;
use super::group::{ChainValue, Position};
use crate::crypto::{JournalKeys, SegmentKey};

const FILE: &str = "mark";
const NEW: &str = "mark.new";
const MAGIC: [u8; 8] = *b"TSMARK01";

/// The last durable entry, and where the journal stood after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) last: EntryNumber,
    pub(super) segment: u64,
    pub(super) chain: ChainValue,
}

impl Mark {
    pub(super) fn of(position: Position) -> Self {
        Self {
            last: EntryNumber(position.entry.0.saturating_sub(1)),
            segment: position.segment,
            chain: position.chain,
        }
    }

    fn encode(&self, key: &SegmentKey) -> Vec<u8> {
        let mut out = Vec::with_capacity(88);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.last.0.to_le_bytes());
        out.extend_from_slice(&self.segment.to_le_bytes());
        out.extend_from_slice(&self.chain);
        let seal = key.chain(&[0; 32], &[&out]);
        out.extend_from_slice(&seal);
        out
    }

    fn decode(bytes: &[u8], key: &SegmentKey) -> Option<Self> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (last, rest) = rest.split_first_chunk()?;
        let (segment, rest) = rest.split_first_chunk()?;
        let mark = Self {
            last: EntryNumber(u64::from_le_bytes(*last)),
            segment: u64::from_le_bytes(*segment),
            chain: *rest.first_chunk()?,
        };
        crate::crypto::same(&mark.encode(key), bytes).then_some(mark)
    }

    /// The mark, if one was ever left.
    ///
    /// # Errors
    /// `Disk`, or `MarkDamaged` when it is not what `write` left.
    pub(super) fn read(
        disk: &dyn Disk,
        keys: &JournalKeys,
        stream: &str,
    ) -> Result<Option<Self>, JournalError> {
        let names = disk.list().map_err(JournalError::disk("list", "the directory"))?;
        if !names.iter().any(|name| name == FILE) {
            return Ok(None);
        }
        let mut bytes = [0; 128];
        let read = disk.read_at(FILE, 0, &mut bytes).map_err(JournalError::disk("read", FILE))?;
        let found = bytes.get(..read).unwrap_or_default();
        match Self::decode(found, &mark_key(keys, stream)?) {
            Some(mark) => Ok(Some(mark)),
            None => Err(JournalError::MarkDamaged { file: FILE }),
        }
    }

    /// Leaves the mark, in place of an earlier one.
    ///
    /// # Errors
    /// `Disk`.
    pub(super) fn write(
        &self,
        disk: &dyn Disk,
        keys: &JournalKeys,
        stream: &str,
    ) -> Result<(), JournalError> {
        let bytes = self.encode(&mark_key(keys, stream)?);
        let replace = || {
            if disk.list()?.iter().any(|name| name == NEW) {
                disk.remove(NEW)?;
            }
            disk.create(NEW)?;
            disk.write_at(NEW, 0, &bytes)?;
            disk.sync(NEW)?;
            disk.rename(NEW, FILE)?;
            disk.sync_dir()
        };
        replace().map_err(JournalError::disk("write", FILE))
    }
}

/// Segments are numbered from 1, so that this key is nobody else's.
fn mark_key(keys: &JournalKeys, stream: &str) -> Result<SegmentKey, JournalError> {
    Ok(keys.segment(&[b"mark ", stream.as_bytes()].concat(), 0)?)
}

#[cfg(test)]
mod tests {
    use super::super::memory_disk::MemoryDisk;
    use super::*;
    use crate::crypto::SecurityModule;

    #[test]
    fn a_mark_comes_back_the_same_and_no_other_does() {
        let keys = SecurityModule::sample().unwrap().journal_keys();
        let disk = MemoryDisk::new();
        assert_eq!(Mark::read(&disk, &keys, "a").unwrap(), None);
        for last in [3, 9] {
            let mark = Mark { last: EntryNumber(last), segment: 2, chain: [7; 32] };
            mark.write(&disk, &keys, "a").unwrap();
            assert_eq!(Mark::read(&disk, &keys, "a").unwrap(), Some(mark));
        }
        assert!(Mark::read(&disk, &keys, "b").is_err(), "another journal's");
        for at in 0..disk.bytes(FILE).unwrap().len() {
            let bad = disk.copy();
            bad.flip(FILE, at, 1);
            let found = Mark::read(&bad, &keys, "a");
            assert!(matches!(found, Err(JournalError::MarkDamaged { .. })), "byte {at}");
        }
    }
}
