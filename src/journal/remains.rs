//! What is left of a journal that is not whole. A seal is bound to segment, block and number, so that every entry says
//! by itself which it is, wherever it stands: of what says nothing else it is tried as what it opens.

use super::error::{Damage, JournalError};
use super::examination::{Entries, Finding};
use super::group::{ALIGNMENT, BLOCK_HEADER, BLOCK_MOST, Block, ENTRY_HEADER, MAGIC};
use super::reader::Place;
use super::segment::{HEADER_BYTES, SegmentHeader, file_name};
use crate::crypto::SegmentKey;

/// So many bytes are opened, in all, of what does not say which entry it is; what is left then counts as no entry.
const TRIED_MOST: usize = 1 << 30;
/// And so many of them for one.
const TRIED_FOR_ONE: usize = 256 << 20;
/// Where a length is not as it was, so many entries are looked for behind it.
const LOOKED_FOR: u64 = 64;
/// So far past the last entry that is known, a block may claim to go.
const CLAIM_MOST: u64 = 100_000;

/// What stands somewhere in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    Entries(Entries),
    /// No entry of this journal as it was sealed.
    Alien,
    /// A segment without a header.
    Unopened(u64),
}

/// A segment whose header can be read.
struct Opened {
    header: SegmentHeader,
    key: SegmentKey,
}

/// A block of which every entry is as it was sealed, and that holds what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct KnownBlock {
    /// Of those that were opened.
    segment: usize,
    number: u64,
    entries: Entries,
}

/// Pairs of block and entry that a piece may have been sealed as.
#[derive(Debug, Clone, Copy)]
struct Candidates {
    segment: usize,
    blocks: Entries,
    entries: Entries,
}

/// What is left of a journal, in the order in which it stands.
pub(super) struct Remains {
    /// What is wrong with whole segments.
    pub(super) segments: Vec<Finding>,
    opened: Vec<Opened>,
    blocks: Vec<KnownBlock>,
    pieces: Vec<Piece>,
    /// How many bytes may still be tried.
    left: usize,
    scratch: Vec<u8>,
}

enum Piece {
    Sound(Entries),
    /// From one block's beginning to the next one's.
    Unsure {
        segment: usize,
        bytes: Vec<u8>,
    },
    Unopened(u64),
}

impl Remains {
    pub(super) fn of(place: &Place) -> Result<Self, JournalError> {
        let mut remains = Self {
            segments: Vec::new(),
            opened: Vec::new(),
            blocks: Vec::new(),
            pieces: Vec::new(),
            left: TRIED_MOST,
            scratch: Vec::new(),
        };
        let mut expected = place.first();
        for id in place.segments()? {
            let missing = id.checked_sub(1).filter(|last| *last >= expected);
            let missing = missing.map(|last| Finding::SegmentsMissing { first: expected, last });
            remains.segments.extend(missing);
            expected = id.saturating_add(1);
            remains.segment(place, id)?;
        }
        Ok(remains)
    }

    /// Takes in one segment's file.
    fn segment(&mut self, place: &Place, id: u64) -> Result<(), JournalError> {
        let file = file_name(id);
        let disk = place.disk.as_ref();
        let length = disk.length(&file).map_err(JournalError::disk("read", &file))?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        let read = disk.read_at(&file, 0, &mut bytes).map_err(JournalError::disk("read", &file))?;
        bytes.truncate(read);
        let (head, blocks) =
            bytes.split_at(bytes.len().min(usize::try_from(HEADER_BYTES).unwrap_or(usize::MAX)));
        let header = match SegmentHeader::any(head, &place.stream) {
            Ok(header) => header,
            Err(Damage::OtherStream) => {
                self.segments.push(Finding::SegmentForeign(id));
                return Ok(());
            }
            Err(_) => {
                self.pieces.push(Piece::Unopened(id));
                return Ok(());
            }
        };
        if header.id != id {
            self.segments.push(Finding::SegmentMoved { file: id, holds: header.id });
        }
        let (key, _) = header.open(&place.keys)?;
        let segment = self.opened.len();
        self.opened.push(Opened { header, key });
        self.blocks_of(segment, blocks);
        Ok(())
    }

    fn blocks_of(&mut self, segment: usize, bytes: &[u8]) {
        let sector = usize::try_from(ALIGNMENT).unwrap_or(usize::MAX);
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let whole = Block::parse(rest);
            if let Some((block, known)) = whole.and_then(|block| Some((block, self.sound(segment, &block)?)))
            {
                self.blocks.push(known);
                match self.pieces.last_mut() {
                    Some(Piece::Sound(before)) if before.last.saturating_add(1) == known.entries.first => {
                        before.last = known.entries.last;
                    }
                    _ => self.pieces.push(Piece::Sound(known.entries)),
                }
                at = at.saturating_add(usize::try_from(block.padded_length()).unwrap_or(usize::MAX));
                continue;
            }
            let begins = |at: &usize| rest.get(*at..).is_some_and(|rest| rest.starts_with(&MAGIC));
            let next = (sector..rest.len()).step_by(sector).find(begins).unwrap_or(rest.len());
            let region = rest.get(..next).unwrap_or_default();
            if region.iter().any(|byte| *byte != 0) {
                self.pieces.push(Piece::Unsure { segment, bytes: region.to_vec() });
            }
            at = at.saturating_add(next);
        }
    }

    /// The block, if each of its entries opens as what its header says.
    fn sound(&mut self, segment: usize, block: &Block<'_>) -> Option<KnownBlock> {
        let frames = frames(block.bytes, BLOCK_HEADER)?;
        let first = block.first.0;
        let count = u64::from(block.entries);
        let last = first.checked_add(count.checked_sub(1)?)?;
        if u64::try_from(frames.len()).ok()? != count {
            return None;
        }
        let key = &self.opened.get(segment)?.key;
        for (number, range) in (first..=last).zip(frames) {
            if !opens(key, &mut self.scratch, block.bytes.get(range)?, (block.number, number)) {
                return None;
            }
        }
        Some(KnownBlock { segment, number: block.number, entries: Entries { first, last } })
    }

    /// What stands in blocks that are as they were sealed.
    pub(super) fn known(&self) -> impl Iterator<Item = Entries> {
        self.blocks.iter().map(|block| block.entries)
    }

    /// What stands where, in order; `sure` is the last entry that is known to have been.
    pub(super) fn stands(&mut self, sure: u64) -> Vec<Stand> {
        let candidates = self.candidates(sure);
        let mut stands = Vec::new();
        for piece in std::mem::take(&mut self.pieces) {
            match piece {
                Piece::Sound(entries) => put(&mut stands, Stand::Entries(entries)),
                Piece::Unopened(segment) => put(&mut stands, Stand::Unopened(segment)),
                Piece::Unsure { segment, bytes } => self.region(segment, &bytes, &candidates, &mut stands),
            }
        }
        stands
    }

    /// What anything that does not say itself which entry it is may be: first what no sound block has.
    fn candidates(&self, sure: u64) -> Vec<Candidates> {
        let mut sorted = self.blocks.clone();
        sorted.sort_unstable();
        let mut all = Vec::new();
        for (segment, opened) in self.opened.iter().enumerate() {
            let (mut block, mut entry) = (opened.header.first_block, opened.header.first_entry.0);
            let mut gap = |(block, entry): (u64, u64), (next_block, next_entry): (u64, u64)| {
                if block < next_block && entry < next_entry {
                    let blocks = Entries { first: block, last: next_block.saturating_sub(1) };
                    let entries = Entries { first: entry, last: next_entry.saturating_sub(1) };
                    all.push(Candidates { segment, blocks, entries });
                }
            };
            let from = sorted.partition_point(|known| known.segment < segment);
            let its =
                sorted.get(from..).unwrap_or_default().iter().take_while(|known| known.segment == segment);
            for known in its {
                gap((block, entry), (known.number, known.entries.first));
                block = known.number.saturating_add(1);
                entry = known.entries.last.saturating_add(1);
            }
            gap((block, entry), self.end_of(segment, (block, entry), sure));
        }
        all.extend(sorted.iter().map(|known| Candidates {
            segment: known.segment,
            blocks: Entries { first: known.number, last: known.number },
            entries: known.entries,
        }));
        all
    }

    /// Block and entry that come after a segment: the next one says it; else what its own blocks say, so far as that
    /// can be.
    fn end_of(&self, segment: usize, (block, entry): (u64, u64), sure: u64) -> (u64, u64) {
        let id = self.opened.get(segment).map_or(0, |opened| opened.header.id);
        let next = self.opened.iter().find(|other| other.header.id == id.saturating_add(1));
        if let Some(Opened { header, .. }) = next {
            return (header.first_block, header.first_entry.0);
        }
        let mut end = (block, entry.max(sure.saturating_add(1)));
        for piece in &self.pieces {
            let Piece::Unsure { segment: its, bytes } = piece else { continue };
            if let Some(said) = Block::headed(bytes).filter(|_| *its == segment) {
                let entries = said.first.0.saturating_add(u64::from(said.entries));
                end.1 = end.1.max(entries.min(entry.saturating_add(CLAIM_MOST)));
            }
        }
        // A block has one entry at least.
        (block.saturating_add(end.1.saturating_sub(entry)), end.1)
    }

    /// Which entries stand between one block's beginning and the next one's.
    fn region(&mut self, segment: usize, bytes: &[u8], candidates: &[Candidates], stands: &mut Vec<Stand>) {
        let end = Block::length(bytes).filter(|end| *end <= bytes.len()).unwrap_or(bytes.len());
        let said = Block::headed(bytes).map(|block| (segment, block.number, block.first.0));
        let mut hint = said;
        let mut at = BLOCK_HEADER;
        loop {
            if let Some(frames) = bytes.get(..end).and_then(|bytes| frames(bytes, at)) {
                for range in frames {
                    let sealed = bytes.get(range).unwrap_or_default();
                    put(stands, self.identify(sealed, &mut hint, candidates));
                }
                return;
            }
            // A length is not as it was: the next entry is looked for by its seal.
            let found = frame_at(bytes, at).and_then(|range| {
                let sealed = bytes.get(range.clone())?;
                let stand = self.identify(sealed, &mut hint, candidates);
                (stand != Stand::Alien).then_some((range.end, stand))
            });
            if let Some((next, stand)) = found {
                put(stands, stand);
                at = next;
                continue;
            }
            if bytes.get(at..).is_none_or(|rest| rest.iter().all(|byte| *byte == 0)) {
                return;
            }
            put(stands, Stand::Alien);
            let Some(next) = self.resume(bytes, at.saturating_add(1), hint) else { return };
            at = next;
        }
    }

    /// Where one of the entries begins that should come next.
    fn resume(&mut self, bytes: &[u8], from: usize, hint: Option<Sealing>) -> Option<usize> {
        let (segment, block, next) = hint?;
        (from..bytes.len()).find(|at| {
            let sealed = frame_at(bytes, *at).and_then(|range| bytes.get(range));
            sealed.is_some_and(|sealed| {
                let mut near = next..next.saturating_add(LOOKED_FOR);
                near.any(|entry| self.is(sealed, (segment, block, entry)))
            })
        })
    }

    /// Which entry this was sealed as. `hint` is what it would be if all were well.
    fn identify(&mut self, sealed: &[u8], hint: &mut Option<Sealing>, candidates: &[Candidates]) -> Stand {
        let hinted = hint.filter(|it| self.is(sealed, *it));
        let found = hinted.or_else(|| self.search(sealed, hint.map(|(segment, ..)| segment), candidates));
        // What comes next is the entry after this one, or after the one that should be here.
        *hint = found.or(*hint).map(|(segment, block, entry)| (segment, block, entry.saturating_add(1)));
        found.map_or(Stand::Alien, |(.., entry)| Stand::Entries(Entries { first: entry, last: entry }))
    }

    fn is(&mut self, sealed: &[u8], (segment, block, entry): Sealing) -> bool {
        let Some(Opened { key, .. }) = self.opened.get(segment) else { return false };
        opens(key, &mut self.scratch, sealed, (block, entry))
    }

    /// Tries what it may be, first of its own segment.
    fn search(&mut self, sealed: &[u8], own: Option<usize>, candidates: &[Candidates]) -> Option<Sealing> {
        let is_own = |it: &&Candidates| Some(it.segment) == own;
        let in_order = candidates.iter().filter(is_own).chain(candidates.iter().filter(|it| !is_own(it)));
        let sealings = in_order.flat_map(|Candidates { segment, blocks, entries }| {
            let (segment, blocks, entries) = (*segment, *blocks, *entries);
            (0..).zip(blocks.first..=blocks.last).flat_map(move |(before, block)| {
                // Each block before this one has an entry at least, and so has each after it.
                let first = entries.first.saturating_add(before);
                let last = entries.last.saturating_sub(blocks.last.saturating_sub(block));
                (first..=last).map(move |entry| (segment, block, entry))
            })
        });
        let most = TRIED_FOR_ONE.min(self.left) / sealed.len().max(1);
        let mut tried = 0;
        let found = sealings.take(most).find(|sealing| {
            tried += sealed.len();
            self.is(sealed, *sealing)
        });
        self.left = self.left.saturating_sub(tried);
        found
    }
}

/// Segment, block and number.
type Sealing = (usize, u64, u64);

fn opens(key: &SegmentKey, scratch: &mut Vec<u8>, sealed: &[u8], (block, entry): (u64, u64)) -> bool {
    scratch.clear();
    scratch.extend_from_slice(sealed);
    key.open(entry, &block.to_le_bytes(), scratch).is_ok()
}

/// Where the sealed bytes lie of an entry that begins at `at`.
fn frame_at(bytes: &[u8], at: usize) -> Option<std::ops::Range<usize>> {
    let length = bytes.get(at..)?.first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let start = at.checked_add(ENTRY_HEADER)?;
    let end = start.checked_add(length)?;
    let is_one = (SegmentKey::OVERHEAD..=BLOCK_MOST).contains(&length);
    (is_one && end <= bytes.len()).then_some(start..end)
}

/// Where all entries lie from `at` on, if they fill the rest exactly.
fn frames(bytes: &[u8], mut at: usize) -> Option<Vec<std::ops::Range<usize>>> {
    let mut frames = Vec::new();
    while at < bytes.len() {
        let frame = frame_at(bytes, at)?;
        at = frame.end;
        frames.push(frame);
    }
    (at == bytes.len()).then_some(frames)
}

/// Adds what stands next; entries that follow one another are one stretch.
pub(super) fn put(stands: &mut Vec<Stand>, next: Stand) {
    match (stands.last_mut(), next) {
        (Some(Stand::Entries(before)), Stand::Entries(next))
            if before.last.saturating_add(1) == next.first =>
        {
            before.last = next.last;
        }
        _ => stands.push(next),
    }
}
