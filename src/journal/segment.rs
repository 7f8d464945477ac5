//! One segment: its file's name, its header, its key, and the zeros it is filled with before use.

use std::io;

use super::disk::Disk;
use super::entry::EntryNumber;
use super::error::{Damage, JournalError};
use super::group::{ALIGNMENT, ChainValue, Position};
use crate::crypto::{JournalKeys, SegmentKey};

/// Bytes of a header: one sector.
pub(super) const HEADER_BYTES: u64 = ALIGNMENT;
const HEADER: usize = 512;
const MAGIC: [u8; 8] = *b"TSJOURNL";
const VERSION: u16 = 1;

/// The segment that comes next, while it is filled with zeros.
const SPARE: &str = "spare";
/// How much is written at once while filling.
const FILL: usize = 256 << 10;

/// The base that was the newest when a segment was begun by a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BaseRef {
    pub(super) number: u64,
    /// The chain's value at the end of the last segment that was gone by then.
    pub(super) chain: ChainValue,
}

/// The first sector of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) id: u64,
    pub(super) stream: String,
    /// Drawn for each segment, so that two lives of a journal that begin at one copy (a restored backup) never
    /// share a key: the nonces are entry numbers, and would repeat.
    pub(super) salt: [u8; 16],
    pub(super) first_block: u64,
    pub(super) first_entry: EntryNumber,
    /// The chain's value at the end of the segment before: what stands there after that is not part of the journal.
    pub(super) previous: ChainValue,
    pub(super) base: Option<BaseRef>,
}

impl SegmentHeader {
    /// The header of the segment that begins where another ends.
    pub(super) fn after(end: Position, stream: &str, salt: [u8; 16], base: Option<BaseRef>) -> Self {
        Self {
            id: end.segment.saturating_add(1),
            stream: stream.to_owned(),
            salt,
            first_block: end.block,
            first_entry: end.entry,
            previous: end.chain,
            base,
        }
    }

    /// Magic, version, id, salt, first block, first entry, previous chain value, base number (0: none), base chain
    /// value, stream; the last four bytes are a CRC-32C of all others.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.first_block.to_le_bytes());
        out.extend_from_slice(&self.first_entry.0.to_le_bytes());
        out.extend_from_slice(&self.previous);
        out.extend_from_slice(&self.base.map_or(0, |base| base.number).to_le_bytes());
        out.extend_from_slice(&self.base.map_or([0; 32], |base| base.chain));
        out.push(u8::try_from(self.stream.len()).unwrap_or_default());
        out.extend_from_slice(self.stream.as_bytes());
        out.resize(HEADER - 4, 0);
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads the header of segment `id` of the journal `stream`.
    ///
    /// # Errors
    /// `Header`, `Version` or `OtherStream`.
    pub(super) fn decode(bytes: &[u8], id: u64, stream: &str) -> Result<Self, Damage> {
        let header = Self::any(bytes, stream)?;
        if header.id == id { Ok(header) } else { Err(Damage::Header) }
    }

    /// As `decode`, whichever segment it is.
    ///
    /// # Errors
    /// As `decode`.
    pub(super) fn any(bytes: &[u8], stream: &str) -> Result<Self, Damage> {
        let header = Self::parse(bytes)?;
        if header.stream == stream { Ok(header) } else { Err(Damage::OtherStream) }
    }

    fn parse(bytes: &[u8]) -> Result<Self, Damage> {
        let wrong = Damage::Header;
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(wrong)?;
        if bytes.len() != HEADER || crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
            return Err(wrong);
        }
        let (magic, rest) = body.split_first_chunk::<8>().ok_or(wrong)?;
        let (version, rest) = rest.split_first_chunk().ok_or(wrong)?;
        if *magic != MAGIC {
            return Err(wrong);
        }
        if u16::from_le_bytes(*version) != VERSION {
            return Err(Damage::Version(u16::from_le_bytes(*version)));
        }
        let (id, rest) = rest.split_first_chunk().ok_or(wrong)?;
        let (salt, rest) = rest.split_first_chunk().ok_or(wrong)?;
        let (first_block, rest) = rest.split_first_chunk().ok_or(wrong)?;
        let (first_entry, rest) = rest.split_first_chunk().ok_or(wrong)?;
        let (previous, rest) = rest.split_first_chunk().ok_or(wrong)?;
        let (base, rest) = rest.split_first_chunk().ok_or(wrong)?;
        let (base_chain, rest) = rest.split_first_chunk().ok_or(wrong)?;
        let (length, rest) = rest.split_first().ok_or(wrong)?;
        let stream = rest.get(..usize::from(*length)).ok_or(wrong)?;
        let base = u64::from_le_bytes(*base);
        Ok(Self {
            id: u64::from_le_bytes(*id),
            stream: String::from_utf8(stream.to_vec()).map_err(|_| wrong)?,
            salt: *salt,
            first_block: u64::from_le_bytes(*first_block),
            first_entry: EntryNumber(u64::from_le_bytes(*first_entry)),
            previous: *previous,
            base: (base > 0).then_some(BaseRef { number: base, chain: *base_chain }),
        })
    }

    /// The segment's key, and where its first block stands. The header is part of the chain.
    ///
    /// # Errors
    /// As `JournalKeys::segment`.
    pub(super) fn open(&self, keys: &JournalKeys) -> Result<(SegmentKey, Position), JournalError> {
        let life = [&self.salt, self.stream.as_bytes()].concat();
        let key = keys.segment(&life, self.id)?;
        let chain = key.chain(&self.previous, &[&self.encode()]);
        let position = Position { segment: self.id, block: self.first_block, entry: self.first_entry, chain };
        Ok((key, position))
    }

    /// Reads a segment's header from its file.
    ///
    /// # Errors
    /// `Disk`, or `Damaged` at offset 0.
    pub(super) fn read(disk: &dyn Disk, id: u64, stream: &str) -> Result<Self, JournalError> {
        let file = file_name(id);
        let mut bytes = [0; HEADER];
        let read = disk.read_at(&file, 0, &mut bytes).map_err(JournalError::disk("read", &file))?;
        let found = bytes.get(..read).unwrap_or_default();
        Self::decode(found, id, stream).map_err(|reason| JournalError::Damaged {
            segment: id,
            offset: 0,
            reason,
        })
    }
}

/// The name of a segment's file.
pub(super) fn file_name(id: u64) -> String {
    format!("segment-{id:020}")
}

/// The ids of all segments, in order.
///
/// # Errors
/// `Disk`.
pub(super) fn list(disk: &dyn Disk) -> Result<Vec<u64>, JournalError> {
    let names = disk.list().map_err(JournalError::disk("list", "the directory"))?;
    let mut ids: Vec<u64> = names
        .iter()
        .filter_map(|name| name.strip_prefix("segment-"))
        .filter_map(|digits| digits.parse().ok())
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Makes the file of the next segment, filled with zeros and synced: a sync of bytes that were written before has
/// no file size or extents to write down, and takes half the time. It only counts once `begin` gives it its name.
///
/// # Errors
/// The operating system's.
pub(super) fn prepare(disk: &dyn Disk, bytes: u64) -> io::Result<()> {
    if disk.list()?.iter().any(|name| name == SPARE) {
        disk.remove(SPARE)?;
    }
    disk.create(SPARE)?;
    let zeros = vec![0; FILL];
    let mut at = 0;
    while at < bytes {
        let piece = usize::try_from(bytes - at).unwrap_or(FILL).min(FILL);
        disk.write_at(SPARE, at, zeros.get(..piece).unwrap_or_default())?;
        at += u64::try_from(piece).unwrap_or(u64::MAX);
    }
    disk.sync(SPARE)
}

/// Turns what `prepare` made into the segment of `header`. When this returns, the segment survives.
///
/// # Errors
/// `Disk`.
pub(super) fn begin(disk: &dyn Disk, header: &SegmentHeader) -> Result<(), JournalError> {
    let file = file_name(header.id);
    disk.write_at(SPARE, 0, &header.encode()).map_err(JournalError::disk("write", &file))?;
    disk.sync(SPARE).map_err(JournalError::disk("sync", &file))?;
    disk.rename(SPARE, &file).map_err(JournalError::disk("name", &file))?;
    disk.sync_dir().map_err(JournalError::disk("sync the name of", &file))
}

/// Cuts a segment that is not written any more to `length` bytes.
///
/// # Errors
/// `Disk`.
pub(super) fn trim(disk: &dyn Disk, id: u64, length: u64) -> Result<(), JournalError> {
    let file = file_name(id);
    disk.truncate(&file, length).map_err(JournalError::disk("cut", &file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            id: 7,
            stream: "transactions".to_owned(),
            salt: [3; 16],
            first_block: 90,
            first_entry: EntryNumber(1_000),
            previous: [5; 32],
            base: Some(BaseRef { number: 2, chain: [6; 32] }),
        }
    }

    #[test]
    fn a_header_comes_back_the_same() {
        for base in [None, header().base] {
            let header = SegmentHeader { base, ..header() };
            assert_eq!(SegmentHeader::decode(&header.encode(), 7, "transactions"), Ok(header));
        }
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let bytes = header().encode();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                assert!(SegmentHeader::decode(&bad, 7, "transactions").is_err(), "byte {at} bit {bit}");
            }
        }
        assert_eq!(SegmentHeader::decode(&bytes, 8, "transactions"), Err(Damage::Header));
        assert_eq!(SegmentHeader::decode(&bytes, 7, "other"), Err(Damage::OtherStream));
        assert_eq!(SegmentHeader::decode(&bytes[..100], 7, "transactions"), Err(Damage::Header));
    }

    #[test]
    fn a_newer_format_is_named() {
        let mut bytes = header().encode();
        bytes[8] = 9;
        let checksum = crc32c::crc32c(&bytes[..508]);
        bytes[508..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes, 7, "transactions"), Err(Damage::Version(9)));
    }
}
