//! One group of entries is one block: a header, the sealed entries, one checksum over both, and a place in a chain
//! of HMACs. No I/O: the writer's thread and the simulation use the same functions.
//!
//! ```text
//! 0  magic "TSBK"           8  checksum: CRC-32C of all other bytes of the block      40 previous chain value
//! 4  length of the block    12 number of entries   16 segment   24 block   32 first entry      72 entries
//! ```
//!
//! An entry is its sealed length and its sealed bytes. Blocks are numbered through the whole journal, so that a
//! block that follows a damaged one can be told from the remains of something older.

use super::entry::{Body, Entry, EntryNumber};
use super::error::Damage;
use super::layout::encode_parts;
use crate::crypto::{CryptoError, SegmentKey};
use crate::stdx::clock::Wall;
use crate::vocab::ShardId;

/// Blocks begin at multiples of a disk's sector: a torn write of one block cannot touch the sector in which the one
/// before, already acknowledged, ends. Not at multiples of 4 KiB: one small block for each sync is the rule at low
/// load, and would fill the disk twelve times as fast.
pub(super) const ALIGNMENT: u64 = 512;

/// Bytes before the first entry of a block.
pub(super) const BLOCK_HEADER: usize = 72;
pub(super) const MAGIC: [u8; 4] = *b"TSBK";
/// Where the checksum stands.
const CHECKSUM: std::ops::Range<usize> = 8..12;
/// Bytes before each sealed entry.
pub(super) const ENTRY_HEADER: usize = 4;

/// The longest block, in bytes: larger groups bring no more throughput, only longer waits.
pub(super) const BLOCK_MOST: usize = 256 << 10;

/// The value of the chain after a block.
pub(super) type ChainValue = [u8; 32];

/// Entries in clear that wait to become blocks, in the order of their numbers.
#[derive(Debug)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    /// Where the first entry that waits begins.
    at: usize,
    next: EntryNumber,
    first: EntryNumber,
}

impl Queue {
    /// An empty queue that goes on after `last`.
    pub(super) fn after(last: EntryNumber) -> Self {
        Self { bytes: Vec::new(), at: 0, next: last.next(), first: last.next() }
    }

    /// Gives the body its number and encodes it in place.
    ///
    /// # Errors
    /// The entry's length when that is more than `most`; the queue is then as before.
    pub(super) fn push(
        &mut self,
        shard: ShardId,
        wall: Wall,
        body: &Body,
        most: usize,
    ) -> Result<EntryNumber, usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; ENTRY_HEADER]);
        encode_parts(self.next, shard, wall, body, &mut self.bytes);
        let length = self.bytes.len() - start - ENTRY_HEADER;
        let (Ok(written), true) = (u32::try_from(length), length <= most) else {
            self.bytes.truncate(start);
            return Err(length);
        };
        if let Some(place) = self.bytes.get_mut(start..start + ENTRY_HEADER) {
            place.copy_from_slice(&written.to_le_bytes());
        }
        let number = self.next;
        self.next = number.next();
        Ok(number)
    }

    /// Where `push` left off, to return to.
    pub(super) fn place(&self) -> (usize, EntryNumber) {
        (self.bytes.len(), self.next)
    }

    /// Takes back what was pushed since `place`.
    pub(super) fn back_to(&mut self, (length, next): (usize, EntryNumber)) {
        self.bytes.truncate(length);
        self.next = next;
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first == self.next
    }

    /// Makes `other`, which is empty, this one's successor and changes places with it: one appends while the other
    /// is written.
    pub(super) fn swap(&mut self, other: &mut Self) {
        other.bytes.clear();
        other.at = 0;
        other.first = self.next;
        other.next = self.next;
        std::mem::swap(self, other);
    }

    fn front(&self) -> Option<&[u8]> {
        let rest = self.bytes.get(self.at..)?;
        let (length, rest) = rest.split_first_chunk()?;
        rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)
    }

    fn pop(&mut self) {
        if let Some(length) = self.front().map(<[u8]>::len) {
            self.at += ENTRY_HEADER + length;
            self.first = self.first.next();
        }
    }
}

/// Where a segment stands: what its next block must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) segment: u64,
    /// The number of the next block.
    pub(super) block: u64,
    /// The number of its first entry.
    pub(super) entry: EntryNumber,
    /// The chain up to here.
    pub(super) chain: ChainValue,
}

impl Position {
    /// Before the first segment.
    pub(super) const BEGINNING: Self = Self { segment: 0, block: 1, entry: EntryNumber(1), chain: [0; 32] };
}

/// Puts entries into blocks of one segment.
#[derive(Debug)]
pub(super) struct GroupWriter {
    key: SegmentKey,
    position: Position,
    block: Vec<u8>,
}

impl GroupWriter {
    pub(super) fn new(key: SegmentKey, position: Position) -> Self {
        Self { key, position, block: Vec::new() }
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Whether the queue's first entry fits into a block of `room` bytes.
    pub(super) fn fits(queue: &Queue, room: u64) -> bool {
        let entry = queue.front().map_or(0, <[u8]>::len);
        let needed = BLOCK_HEADER + ENTRY_HEADER + entry + SegmentKey::OVERHEAD;
        padded(needed) <= room
    }

    /// Takes from the queue as many entries as fit into `room` bytes and into one block, and makes that block: the
    /// bytes to write, padded to `ALIGNMENT`. The next one must not be written before this one's sync returned.
    ///
    /// # Errors
    /// Those of sealing, which do not happen for entries of a length that `Queue` takes.
    pub(super) fn take(&mut self, queue: &mut Queue, room: u64) -> Result<&[u8], CryptoError> {
        let most = usize::try_from(room).unwrap_or(usize::MAX).min(BLOCK_MOST);
        let number = self.position.block.to_le_bytes();
        let mut entry = self.position.entry;
        let mut count = 0_u32;
        self.block.clear();
        self.block.resize(BLOCK_HEADER, 0);
        while let Some(clear) = queue.front() {
            let sealed = clear.len() + SegmentKey::OVERHEAD;
            if count > 0 && self.block.len() + ENTRY_HEADER + sealed > most {
                break;
            }
            self.block.extend_from_slice(&u32::try_from(sealed).unwrap_or_default().to_le_bytes());
            let start = self.block.len();
            self.block.extend_from_slice(clear);
            self.key.seal(entry.0, &number, &mut self.block, start)?;
            entry = entry.next();
            count += 1;
            queue.pop();
        }
        self.finish(count);
        self.position.chain = chain(&self.key, &self.position.chain, &self.block);
        self.position.block += 1;
        self.position.entry = entry;
        self.block.resize(usize::try_from(padded(self.block.len())).unwrap_or_default(), 0);
        Ok(&self.block)
    }

    fn finish(&mut self, count: u32) {
        let length = u32::try_from(self.block.len()).unwrap_or_default();
        let mut header = Vec::with_capacity(BLOCK_HEADER);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&length.to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        header.extend_from_slice(&count.to_le_bytes());
        header.extend_from_slice(&self.position.segment.to_le_bytes());
        header.extend_from_slice(&self.position.block.to_le_bytes());
        header.extend_from_slice(&self.position.entry.0.to_le_bytes());
        header.extend_from_slice(&self.position.chain);
        if let Some(place) = self.block.get_mut(..BLOCK_HEADER) {
            place.copy_from_slice(&header);
        }
        let checksum = checksum(&self.block);
        if let Some(place) = self.block.get_mut(CHECKSUM) {
            place.copy_from_slice(&checksum.to_le_bytes());
        }
    }
}

/// `length` with the padding that follows it.
pub(super) fn padded(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX).next_multiple_of(ALIGNMENT)
}

fn checksum(block: &[u8]) -> u32 {
    let before = block.get(..CHECKSUM.start).unwrap_or_default();
    let after = block.get(CHECKSUM.end..).unwrap_or_default();
    crc32c::crc32c_append(crc32c::crc32c(before), after)
}

fn chain(key: &SegmentKey, previous: &ChainValue, block: &[u8]) -> ChainValue {
    key.chain(previous, &[block])
}

/// A block that is whole by its checksum; whether it belongs where it stands is `GroupReader`'s to say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) entries: u32,
    segment: u64,
    pub(super) number: u64,
    pub(super) first: EntryNumber,
    previous: &'a ChainValue,
}

impl<'a> Block<'a> {
    /// The length that the block at the front of `bytes` says it has; `None` when none begins there.
    pub(super) fn length(bytes: &[u8]) -> Option<usize> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*rest.first_chunk()?)).ok()?;
        (*magic == MAGIC && (BLOCK_HEADER..=BLOCK_MOST).contains(&length)).then_some(length)
    }

    /// The whole block at the front of `bytes`, padding included, if there is one.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let length = Self::length(bytes)?;
        let (bytes, padding) =
            bytes.get(..usize::try_from(padded(length)).ok()?)?.split_at_checked(length)?;
        if padding.iter().any(|byte| *byte != 0) {
            return None;
        }
        let (written, _) = bytes.get(CHECKSUM.start..)?.split_first_chunk()?;
        if u32::from_le_bytes(*written) != checksum(bytes) {
            return None;
        }
        Self::headed(bytes)
    }

    /// A block of exactly these bytes, as its header says, whole or not.
    pub(super) fn headed(bytes: &'a [u8]) -> Option<Self> {
        let (entries, rest) = bytes.get(CHECKSUM.end..)?.split_first_chunk()?;
        let (segment, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (first, rest) = rest.split_first_chunk()?;
        Some(Self {
            bytes,
            entries: u32::from_le_bytes(*entries),
            segment: u64::from_le_bytes(*segment),
            number: u64::from_le_bytes(*number),
            first: EntryNumber(u64::from_le_bytes(*first)),
            previous: rest.first_chunk()?,
        })
    }

    /// Bytes up to where the next block begins.
    pub(super) fn padded_length(&self) -> u64 {
        padded(self.bytes.len())
    }
}

/// Follows the blocks of one segment.
#[derive(Debug)]
pub(super) struct GroupReader {
    key: SegmentKey,
    position: Position,
    scratch: Vec<u8>,
}

impl GroupReader {
    pub(super) fn new(key: SegmentKey, position: Position) -> Self {
        Self { key, position, scratch: Vec::new() }
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Whether this is the block that comes next, by number and chain.
    pub(super) fn continues(&self, block: &Block<'_>) -> bool {
        let Position { segment, block: number, entry, chain } = self.position;
        block.segment == segment
            && block.number == number
            && block.first == entry
            && block.entries > 0
            && *block.previous == chain
    }

    /// Steps over the block that comes next without opening its entries.
    ///
    /// # Errors
    /// `Chain` when it is not the one that comes next.
    pub(super) fn pass(&mut self, block: &Block<'_>) -> Result<(), Damage> {
        if !self.continues(block) {
            return Err(Damage::Chain);
        }
        self.position.chain = chain(&self.key, &self.position.chain, block.bytes);
        self.position.block += 1;
        self.position.entry = EntryNumber(block.first.0.saturating_add(u64::from(block.entries)));
        Ok(())
    }

    /// Opens the entries of the block that comes next, from number `from` on, and steps over it.
    ///
    /// # Errors
    /// `Chain` when it is not the one that comes next, `Seal` or `Layout` for an entry that is not as it was
    /// written.
    pub(super) fn open(
        &mut self,
        block: &Block<'_>,
        from: EntryNumber,
        mut each: impl FnMut(Entry),
    ) -> Result<(), Damage> {
        let number = self.position.block;
        self.pass(block)?;
        let aad = number.to_le_bytes();
        let mut rest = block.bytes.get(BLOCK_HEADER..).unwrap_or_default();
        let mut entry = block.first;
        for _ in 0..block.entries {
            let damaged = Damage::Seal(entry);
            let (length, tail) = rest.split_first_chunk().ok_or(damaged)?;
            let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| damaged)?;
            let (sealed, tail) = tail.split_at_checked(length).ok_or(damaged)?;
            rest = tail;
            if entry >= from {
                self.scratch.clear();
                self.scratch.extend_from_slice(sealed);
                let clear = self.key.open(entry.0, &aad, &mut self.scratch).map_err(|_| damaged)?;
                let decoded =
                    Entry::decode(clear).map_err(|fault| Damage::Layout { number: entry, fault })?;
                if decoded.number != entry {
                    return Err(damaged);
                }
                each(decoded);
            }
            entry = entry.next();
        }
        if rest.is_empty() { Ok(()) } else { Err(Damage::Chain) }
    }
}

/// How the blocks of a journal's last segment end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) position: Position,
    /// Where the first byte after the last block stands, counted from the segment's first.
    pub(super) offset: u64,
    /// Whether something stands there that is no block: what was being written when the power went.
    pub(super) torn: bool,
}

/// Finds the end of the last segment, of which `bytes` are all after its header, `header` bytes long. A bad block is
/// cut off if nothing can have been written after it.
///
/// # Errors
/// The offset, and what is wrong there, when a bad block is not the last one: a valid one of this segment with a
/// higher number follows, or more bytes than one block can have torn.
pub(super) fn find_tail(reader: &mut GroupReader, bytes: &[u8], header: u64) -> Result<Tail, (u64, Damage)> {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let offset = header.saturating_add(u64::try_from(at).unwrap_or(u64::MAX));
        let Some(block) = Block::parse(rest) else {
            return match what_follows(rest, reader.position) {
                Some(torn) => Ok(Tail { position: reader.position, offset, torn }),
                None => Err((offset, Damage::Block { block: reader.position.block })),
            };
        };
        reader.pass(&block).map_err(|damage| (offset, damage))?;
        at = at.saturating_add(usize::try_from(block.padded_length()).unwrap_or(usize::MAX));
    }
}

/// `None` for damage; else whether `rest` is a torn block or nothing but zeros.
fn what_follows(rest: &[u8], position: Position) -> Option<bool> {
    let Some(last) = rest.iter().rposition(|byte| *byte != 0) else { return Some(false) };
    let later = (0..=last)
        .step_by(usize::try_from(ALIGNMENT).unwrap_or(usize::MAX))
        .filter_map(|at| rest.get(at..).and_then(Block::parse))
        .any(|block| block.segment == position.segment && block.number > position.block);
    (!later && last < BLOCK_MOST).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SecurityModule;

    const START: Position = Position { segment: 3, block: 40, entry: EntryNumber(100), chain: [9; 32] };

    fn key() -> SegmentKey {
        SecurityModule::sample().unwrap().journal_keys().segment(b"test", 3).unwrap()
    }

    fn queue_of(lengths: &[usize], after: u64) -> Queue {
        let mut queue = Queue::after(EntryNumber(after));
        for length in lengths {
            queue.push(ShardId(0), Wall(5), &Body::Token(vec![7; *length]), usize::MAX).unwrap();
        }
        queue
    }

    /// Blocks one after the other, and where each begins.
    fn blocks(groups: &[&[usize]]) -> (Vec<u8>, Vec<usize>, Position) {
        let mut writer = GroupWriter::new(key(), START);
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        for lengths in groups {
            let mut queue = queue_of(lengths, writer.position().entry.0 - 1);
            starts.push(bytes.len());
            bytes.extend_from_slice(writer.take(&mut queue, u64::MAX).unwrap());
            assert!(queue.is_empty());
        }
        (bytes, starts, writer.position())
    }

    fn tail(bytes: &[u8]) -> Result<Tail, (u64, Damage)> {
        find_tail(&mut GroupReader::new(key(), START), bytes, 512)
    }

    /// Every entry up to the tail, opened.
    fn entries(bytes: &[u8]) -> Result<Vec<Entry>, Damage> {
        let mut reader = GroupReader::new(key(), START);
        let (mut at, mut out) = (0, Vec::new());
        while let Some(block) = Block::parse(&bytes[at..]) {
            reader.open(&block, EntryNumber(0), |entry| out.push(entry))?;
            at += usize::try_from(block.padded_length()).unwrap();
        }
        Ok(out)
    }

    #[test]
    fn blocks_begin_at_sectors_and_come_back() {
        let (bytes, starts, end) = blocks(&[&[1, 700], &[3000], &[0]]);
        assert_eq!(starts, [0, 1024, 1024 + 3584]);
        assert_eq!(bytes.len() % 512, 0);
        let found = entries(&bytes).unwrap();
        assert_eq!(found.iter().map(|entry| entry.number.0).collect::<Vec<_>>(), [100, 101, 102, 103]);
        let mut with_zeros = bytes.clone();
        with_zeros.resize(bytes.len() + 4096, 0);
        let expected = Tail { position: end, offset: 512 + bytes.len() as u64, torn: false };
        assert_eq!(tail(&with_zeros), Ok(expected));
    }

    #[test]
    fn a_group_takes_what_fits_and_leaves_the_rest() {
        let mut queue = queue_of(&[1000; 8], 99);
        let mut writer = GroupWriter::new(key(), START);
        assert!(GroupWriter::fits(&queue, 1536) && !GroupWriter::fits(&queue, 1024));
        let first = writer.take(&mut queue, 4096).unwrap().len();
        assert!(first <= 4096);
        assert_eq!(writer.position().entry, EntryNumber(103));
        writer.take(&mut queue, u64::MAX).unwrap();
        assert!(queue.is_empty());
        assert_eq!(writer.position().entry, EntryNumber(108));
        assert_eq!(queue_of(&[300_000], 0).len(), 4 + 300_000 + 23, "longer than any block");
        let mut large = queue_of(&[100_000; 4], writer.position().entry.0 - 1);
        assert!(writer.take(&mut large, u64::MAX).unwrap().len() <= BLOCK_MOST);
        assert!(!large.is_empty());
    }

    #[test]
    fn any_flipped_bit_in_the_last_block_cuts_it_and_before_that_is_damage() {
        let (bytes, starts, _) = blocks(&[&[10], &[600, 20], &[30]]);
        let last = starts[2];
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                let found = tail(&bad);
                if at >= last {
                    let tail = found.unwrap_or_else(|_| panic!("byte {at} bit {bit}"));
                    assert_eq!((tail.offset, tail.torn), (512 + last as u64, true), "byte {at} bit {bit}");
                    assert_eq!(tail.position.entry, EntryNumber(103));
                } else {
                    let begin = starts.iter().rfind(|start| **start <= at).unwrap();
                    let (offset, _) = found.expect_err(&format!("byte {at} bit {bit}"));
                    assert_eq!(offset, 512 + *begin as u64, "byte {at} bit {bit}");
                }
            }
        }
    }

    #[test]
    fn a_block_torn_at_any_byte_is_cut() {
        let (bytes, starts, _) = blocks(&[&[10], &[2000, 50]]);
        for length in starts[1]..bytes.len() {
            let mut torn = bytes[..length].to_vec();
            torn.resize(bytes.len() + 2048, 0);
            let found = tail(&torn).unwrap();
            // What is missing may be nothing but padding; then the block is whole.
            let whole = bytes[length..].iter().all(|byte| *byte == 0);
            let entries = if whole { 103 } else { 101 };
            assert_eq!(found.position.entry, EntryNumber(entries), "cut at {length}");
            assert_eq!(found.torn, !whole && length > starts[1], "cut at {length}");
        }
    }

    #[test]
    fn blocks_left_out_swapped_or_repeated_break_the_chain() {
        let (bytes, starts, _) = blocks(&[&[10], &[10], &[10]]);
        let block = |at: usize| &bytes[starts[at]..starts[at] + 512];
        for (case, order) in [("left out", vec![0, 2]), ("swapped", vec![1, 0, 2]), ("repeated", vec![0, 0])]
        {
            let mixed: Vec<u8> = order.iter().flat_map(|at| block(*at)).copied().collect();
            assert!(matches!(tail(&mixed), Err((_, Damage::Chain))), "{case}");
            assert!(entries(&mixed).is_err(), "{case}");
        }
    }

    #[test]
    fn an_entry_opens_only_under_its_segment_key() {
        let (bytes, ..) = blocks(&[&[10]]);
        let keys = SecurityModule::sample().unwrap().journal_keys();
        for (stream, id) in [(&b"test"[..], 4), (b"other", 3)] {
            let mut reader = GroupReader::new(keys.segment(stream, id).unwrap(), START);
            let block = Block::parse(&bytes).unwrap();
            let opened = reader.open(&block, EntryNumber(0), |_| {});
            assert_eq!(opened, Err(Damage::Seal(EntryNumber(100))), "{id}");
        }
    }

    #[test]
    fn more_garbage_than_one_block_can_leave_is_damage() {
        let (bytes, ..) = blocks(&[&[10]]);
        for (garbage, damage) in [(BLOCK_MOST, false), (BLOCK_MOST + 1, true)] {
            let mut bad = bytes.clone();
            bad.resize(bytes.len() + garbage, 1);
            assert_eq!(tail(&bad).is_err(), damage, "{garbage}");
        }
    }

    #[test]
    fn an_entry_too_long_leaves_the_queue_as_it_was() {
        let mut queue = queue_of(&[5], 0);
        let before = queue.place();
        assert_eq!(queue.push(ShardId(0), Wall(0), &Body::Token(vec![0; 100]), 50), Err(123));
        assert_eq!(queue.place(), before);
        queue.push(ShardId(0), Wall(0), &Body::Token(vec![0; 1]), 50).unwrap();
        queue.back_to(before);
        assert_eq!(queue.place(), before);
    }
}
