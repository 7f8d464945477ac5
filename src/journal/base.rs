//! `Base`: what all entries up to one of them came to, written out flat and sealed beside the segments. It belongs to
//! the truth as they do: with it the oldest of them can go.
//!
//! ```text
//! header   one sector of 4 KiB: magic "TSBASE02", number, entry, the first segment kept (id, first entry, chain before
//!          it), records, length of the file, each part's name and where it begins, stream; a seal over all of it
//! pieces   length, records (key with its part, value, each with its length in front), a seal over its place and all of it
//! ```

use std::ops::ControlFlow;
use std::sync::Arc;

use super::checkpoint::{Checkpoint, CheckpointError, EachRecord, Records, Visitor, each, part_of, spread};
use super::disk::Disk;
use super::entry::EntryNumber;
use super::error::JournalError;
use super::group::ChainValue;
use super::reader::Place;
use super::segment::SegmentHeader;
use crate::crypto::{JournalKeys, SegmentKey, same};
use crate::stdx::sabotage::{sabotaged, step};

const MAGIC: [u8; 8] = *b"TSBASE02";
const HEADER: usize = 4_096;
const HEADER_BYTES: u64 = 4_096;
/// The base that is being written.
const NEW: &str = "base.new";
/// Bytes of records after which a piece is closed.
const PIECE: usize = 64 << 10;
/// A part of fewer bytes is read by one thread.
const SHARED_LEAST: u64 = 1 << 20;
/// No piece is longer: one record more than `PIECE`, and no record comes near this.
const PIECE_MOST: u32 = 16 << 20;
const SEAL: usize = 32;

/// The oldest segment that is still needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FirstSegment {
    pub(super) id: u64,
    pub(super) first_entry: EntryNumber,
    /// The chain's value at the end of what was there before it.
    pub(super) previous: ChainValue,
}

impl FirstSegment {
    pub(super) fn of(header: &SegmentHeader) -> Self {
        Self { id: header.id, first_entry: header.first_entry, previous: header.previous }
    }
}

/// A base on disk: its header, read and found true. Its records are checked as they are read.
#[derive(Clone)]
pub struct Base {
    number: u64,
    entry: EntryNumber,
    pub(super) first: FirstSegment,
    records: u64,
    length: u64,
    /// Each part, and where its first piece begins; in order.
    parts: Vec<(Vec<u8>, u64)>,
    disk: Arc<dyn Disk>,
    key: Arc<SegmentKey>,
}

impl Base {
    /// Which base of this journal it is: the first is 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many records it has.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The first entry that the journal still has.
    #[must_use]
    pub fn first_entry(&self) -> EntryNumber {
        self.first.first_entry
    }

    /// The chain's value at the end of what was there before the journal's first entry.
    #[must_use]
    pub fn chain_before(&self) -> &[u8; 32] {
        &self.first.previous
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// `Journal` with the place of the damage.
    pub fn verify(&self) -> Result<(), CheckpointError> {
        let mut records = 0_u64;
        self.walk((HEADER_BYTES, self.length), &mut |_, _| {
            records += 1;
            Ok(())
        })?;
        if records == self.records { Ok(()) } else { Err(self.damaged(self.length).into()) }
    }

    /// The newest base of a journal, if it has one.
    ///
    /// # Errors
    /// `Disk`, or `BaseDamaged`: an older one is never taken in its place in silence.
    pub(super) fn newest(place: &Place) -> Result<Option<Self>, JournalError> {
        let Some(number) = list(place.disk.as_ref())?.last().copied() else { return Ok(None) };
        let file = file_name(number);
        let mut bytes = [0; HEADER];
        let read = place.disk.read_at(&file, 0, &mut bytes).map_err(JournalError::disk("read", &file))?;
        let length = place.disk.length(&file).map_err(JournalError::disk("read", &file))?;
        let key = key(&place.keys, &place.stream, number)?;
        let found = Self::decode(bytes.get(..read).unwrap_or_default(), number, &place.disk, key);
        let whole = found.filter(|base| base.length == length);
        whole.map(Some).ok_or(JournalError::BaseDamaged { file, offset: 0 })
    }

    /// Writes the checkpoint out as base `number`. When this returns, it survives; an older one still counts until
    /// then.
    ///
    /// # Errors
    /// `Damaged` when the checkpoint is not as it was written, `Store`, `Journal`. What was begun is never taken for a
    /// base.
    pub(super) fn write(
        place: &Place,
        number: u64,
        first: FirstSegment,
        checkpoint: &Checkpoint,
    ) -> Result<Self, CheckpointError> {
        let disk = place.disk.as_ref();
        let failed = |action| JournalError::disk(action, NEW);
        remove_new(disk)?;
        disk.create(NEW).map_err(failed("make"))?;
        let base = Self {
            number,
            entry: if sabotaged("base-claims-more") {
                checkpoint.entry_number().next()
            } else {
                checkpoint.entry_number()
            },
            first,
            records: 0,
            length: HEADER_BYTES,
            parts: Vec::new(),
            disk: Arc::clone(&place.disk),
            key: key(&place.keys, &place.stream, number)?,
        };
        let mut writing = Writing { base, piece: Vec::new() };
        checkpoint.walk(&mut |key, value| writing.put(key, value))?;
        let base = writing.finish()?;
        disk.write_at(NEW, 0, &base.encode(&place.stream)?).map_err(failed("write"))?;
        if !sabotaged("base-not-synced") {
            disk.sync(NEW).map_err(failed("sync"))?;
        }
        step("base-written");
        disk.rename(NEW, &file_name(number)).map_err(failed("name"))?;
        disk.sync_dir().map_err(failed("sync the name of"))?;
        step("base-named");
        Ok(base)
    }

    fn encode(&self, stream: &str) -> Result<Vec<u8>, JournalError> {
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(&MAGIC);
        for number in [self.number, self.entry.0, self.first.id, self.first.first_entry.0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.first.previous);
        let parts = u64::try_from(self.parts.len()).unwrap_or(u64::MAX);
        for number in [self.records, self.length, parts] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for (part, begins) in &self.parts {
            out.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(part);
            out.extend_from_slice(&begins.to_le_bytes());
        }
        out.push(u8::try_from(stream.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(stream.as_bytes());
        if out.len() + SEAL > HEADER {
            return Err(self.damaged(0));
        }
        out.resize(HEADER - SEAL, 0);
        let seal = self.key.chain(&[0; 32], &[&out]);
        out.extend_from_slice(&seal);
        Ok(out)
    }

    /// The stream is in the key already.
    fn decode(bytes: &[u8], number: u64, disk: &Arc<dyn Disk>, key: Arc<SegmentKey>) -> Option<Self> {
        let (body, seal) = bytes.split_last_chunk::<SEAL>()?;
        if bytes.len() != HEADER || !same(&key.chain(&[0; 32], &[body]), seal) {
            return None;
        }
        let mut from = body.strip_prefix(&MAGIC)?;
        let mut next = || take_number(&mut from);
        let (named, entry, id, first_entry) = (next()?, next()?, next()?, next()?);
        let (previous, rest) = from.split_first_chunk()?;
        from = rest;
        let mut next = || take_number(&mut from);
        let (records, length, count) = (next()?, next()?, next()?);
        let mut parts = Vec::new();
        for _ in 0..count {
            let (name, rest) = from.split_first()?;
            let (name, rest) = rest.split_at_checked(usize::from(*name))?;
            from = rest;
            parts.push((name.to_vec(), take_number(&mut from)?));
        }
        let first = FirstSegment { id, first_entry: EntryNumber(first_entry), previous: *previous };
        let base = Self {
            number,
            entry: EntryNumber(entry),
            first,
            records,
            length,
            parts,
            disk: disk.clone(),
            key,
        };
        (named == number).then_some(base)
    }

    /// Visits the records between two places, in the order of their keys.
    fn walk(&self, (from, to): (u64, u64), visit: &mut EachRecord<'_>) -> Result<(), CheckpointError> {
        let mut fault = None;
        self.pieces((from, to), &mut |piece| match self.open(&piece, visit) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                fault = Some(error);
                ControlFlow::Break(())
            }
        })?;
        fault.map_or(Ok(()), Err)
    }

    /// Reads the pieces between two places, in order, until `give` has enough.
    fn pieces(
        &self,
        (from, to): (u64, u64),
        give: &mut dyn FnMut(Piece) -> ControlFlow<()>,
    ) -> Result<(), CheckpointError> {
        let file = file_name(self.number);
        let read = |at, into: &mut [u8]| {
            let read = self.disk.read_at(&file, at, into).map_err(JournalError::disk("read", &file))?;
            if read == into.len() { Ok(()) } else { Err(self.damaged(at)) }
        };
        let mut at = from;
        while at < to {
            let mut length = [0; 4];
            read(at, &mut length)?;
            let records = u32::from_le_bytes(length);
            if records > PIECE_MOST {
                return Err(self.damaged(at).into());
            }
            let mut bytes = vec![0; usize::try_from(records).unwrap_or_default() + SEAL];
            read(at.saturating_add(4), &mut bytes)?;
            let after = at.saturating_add(4 + u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            if give(Piece { at, bytes }).is_break() {
                break;
            }
            at = after;
        }
        Ok(())
    }

    /// Visits the records of a piece whose seal holds, by their whole keys.
    fn open(&self, piece: &Piece, visit: &mut EachRecord<'_>) -> Result<(), CheckpointError> {
        let damaged = || self.damaged(piece.at);
        let (mut rest, seal) = piece.bytes.split_last_chunk::<SEAL>().ok_or_else(damaged)?;
        if !same(&self.seal(piece.at, rest), seal) {
            return Err(damaged().into());
        }
        while !rest.is_empty() {
            let (key, value) = take_bytes(&mut rest).zip(take_bytes(&mut rest)).ok_or_else(damaged)?;
            visit(key, value)?;
        }
        Ok(())
    }

    /// Where a part's pieces stand; none when there is no such part.
    fn place_of(&self, part: &str) -> Option<(u64, u64)> {
        let at = self.parts.iter().position(|(name, _)| name == part.as_bytes())?;
        let (_, from) = self.parts.get(at)?;
        Some((*from, self.parts.get(at + 1).map_or(self.length, |(_, begins)| *begins)))
    }

    /// Every record with the whole of its key, as `Checkpoint::fill` takes them.
    pub(super) fn walk_all(&self, visit: &mut EachRecord<'_>) -> Result<(), CheckpointError> {
        self.walk((HEADER_BYTES, self.length), visit)
    }

    /// A piece holds at its own place only.
    fn seal(&self, at: u64, records: &[u8]) -> ChainValue {
        self.key.chain(&[0; 32], &[&at.to_le_bytes(), records])
    }

    fn damaged(&self, offset: u64) -> JournalError {
        JournalError::BaseDamaged { file: file_name(self.number), offset }
    }
}

impl Records for Base {
    fn entry_number(&self) -> EntryNumber {
        self.entry
    }

    fn scan_part(&self, part: &str, visit: &mut EachRecord<'_>) -> Result<(), CheckpointError> {
        let Some(place) = self.place_of(part) else { return Ok(()) };
        self.walk(place, &mut |key, value| each(key, value, visit))
    }

    fn share_part(&self, part: &str, visitors: &mut [Visitor<'_>]) -> Result<(), CheckpointError> {
        let Some((from, to)) = self.place_of(part) else { return Ok(()) };
        if to.saturating_sub(from) < SHARED_LEAST {
            return visitors.first_mut().map_or(Ok(()), |visit| self.scan_part(part, visit));
        }
        let read = |give: &mut dyn FnMut(Piece) -> ControlFlow<()>| self.pieces((from, to), give);
        spread(read, visitors, |visit, piece| self.open(&piece, &mut |key, value| each(key, value, visit)))
    }
}

/// Records under one seal, which holds at their place only.
struct Piece {
    at: u64,
    /// With the seal.
    bytes: Vec<u8>,
}

/// A base on its way to disk.
struct Writing {
    base: Base,
    piece: Vec<u8>,
}

impl Writing {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), CheckpointError> {
        let part = part_of(key);
        if self.base.parts.last().is_none_or(|(last, _)| last != part) {
            self.close_piece()?;
            self.base.parts.push((part.to_vec(), self.base.length));
        }
        for bytes in [key, value] {
            self.piece.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
            self.piece.extend_from_slice(bytes);
        }
        self.base.records += 1;
        if self.piece.len() >= PIECE { self.close_piece() } else { Ok(()) }
    }

    fn close_piece(&mut self) -> Result<(), CheckpointError> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let at = self.base.length;
        let length = u32::try_from(self.piece.len()).unwrap_or(u32::MAX);
        let seal = self.base.seal(at, &self.piece);
        let bytes = [&length.to_le_bytes()[..], &self.piece, &seal].concat();
        self.base.disk.write_at(NEW, at, &bytes).map_err(JournalError::disk("write", NEW))?;
        self.base.length += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.piece.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<Base, CheckpointError> {
        self.close_piece()?;
        Ok(self.base)
    }
}

/// No segment's key is made of this: theirs begin with a salt.
fn key(keys: &JournalKeys, stream: &str, number: u64) -> Result<Arc<SegmentKey>, JournalError> {
    Ok(Arc::new(keys.segment(&[b"base of ", stream.as_bytes()].concat(), number)?))
}

pub(super) fn file_name(number: u64) -> String {
    format!("base-{number:020}")
}

/// The numbers of all bases, in order.
///
/// # Errors
/// `Disk`.
pub(super) fn list(disk: &dyn Disk) -> Result<Vec<u64>, JournalError> {
    let names = disk.list().map_err(JournalError::disk("list", "the directory"))?;
    let mut numbers: Vec<u64> = names
        .iter()
        .filter_map(|name| name.strip_prefix("base-"))
        .filter_map(|digits| digits.parse().ok())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Removes what an earlier attempt left.
///
/// # Errors
/// `Disk`.
pub(super) fn remove_new(disk: &dyn Disk) -> Result<(), JournalError> {
    let names = disk.list().map_err(JournalError::disk("list", "the directory"))?;
    if names.iter().any(|name| name == NEW) {
        disk.remove(NEW).map_err(JournalError::disk("remove", NEW))?;
    }
    Ok(())
}

fn take_number(from: &mut &[u8]) -> Option<u64> {
    let (number, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(u64::from_le_bytes(*number))
}

fn take_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = from.split_first_chunk()?;
    let (bytes, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *from = rest;
    Some(bytes)
}
