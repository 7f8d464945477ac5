//! `Reader`: the entries from any number on, each block checked against the chain; and where the journal ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::base::Base;
use super::checkpoint::Records;
use super::disk::Disk;
use super::entry::{Entry, EntryNumber};
use super::error::{Damage, JournalError};
use super::group::{BLOCK_MOST, Block, GroupReader, Tail, find_tail};
use super::mark::Mark;
use super::segment::{HEADER_BYTES, SegmentHeader, file_name, list};
use crate::crypto::JournalKeys;

/// How much is read at once.
const READ_AHEAD: usize = 4 * BLOCK_MOST;
/// So many segments, the newest ones, say whether keys are theirs.
const LOOKED_AT: usize = 8;

/// Where and whose a journal is.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) keys: JournalKeys,
    pub(super) stream: String,
    /// What stands for the segments that are gone.
    pub(super) base: Option<Base>,
}

impl Place {
    pub(super) fn new(disk: Box<dyn Disk>, keys: JournalKeys, stream: &str) -> Self {
        Self { disk: Arc::from(disk), keys, stream: stream.to_owned(), base: None }
    }

    /// The segment that must be there first.
    pub(super) fn first(&self) -> u64 {
        self.base.as_ref().map_or(1, |base| base.first.id)
    }

    /// Those from the first on, in order; what is left of older ones is as good as gone.
    pub(super) fn segments(&self) -> Result<Vec<u64>, JournalError> {
        let first = self.first();
        Ok(list(self.disk.as_ref())?.into_iter().filter(|id| *id >= first).collect())
    }
}

/// What was found at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// The last entry; 0 when there is none yet.
    pub last: EntryNumber,
    /// What was being written when the power went, and is cut off: nobody was told that it was durable.
    pub torn: Option<TornTail>,
}

/// Where a torn block was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TornTail {
    pub segment: u64,
    pub offset: u64,
}

/// Finds the journal's base and its end, and sees to it that it ends no earlier than it did. Changes nothing on disk.
///
/// # Errors
/// `Disk`, `MarkDamaged`, `BaseDamaged`, `Damaged`.
pub(super) fn recover(place: &mut Place, at_least: EntryNumber) -> Result<Option<Tail>, JournalError> {
    place.base = Base::newest(place)?;
    let place = &*place;
    let disk = place.disk.as_ref();
    let at_least = at_least.max(place.base.as_ref().map_or(EntryNumber(0), Records::entry_number));
    let mark = Mark::read(disk, &place.keys, &place.stream)?;
    let at_least = at_least.max(mark.map_or(EntryNumber(0), |mark| mark.last));
    let ids = place.segments()?;
    let Some(last) = ids.last().copied() else {
        return match at_least {
            EntryNumber(0) => Ok(None),
            _ => Err(JournalError::missing(place.first())),
        };
    };
    let header = check_headers(place, &ids)?;
    let tail = tail_of(place, last, &header)?;
    let found = EntryNumber(tail.position.entry.0.saturating_sub(1));
    let damaged = |reason| JournalError::Damaged { segment: last, offset: tail.offset, reason };
    if found < at_least {
        return Err(damaged(Damage::Cut { last: found, at_least }));
    }
    let contradicts =
        |mark: Mark| mark.segment == last && mark.last == found && mark.chain != tail.position.chain;
    if mark.is_some_and(contradicts) {
        return Err(damaged(Damage::Chain));
    }
    Ok(Some(tail))
}

/// Sees to it that no segment is missing; gives the last one's header.
fn check_headers(place: &Place, ids: &[u64]) -> Result<SegmentHeader, JournalError> {
    let mut before: Option<SegmentHeader> = None;
    for id in ids {
        let header = SegmentHeader::read(place.disk.as_ref(), *id, &place.stream)?;
        let expected = match &before {
            Some(before) => before.id.saturating_add(1),
            None => place.first(),
        };
        if header.id != expected {
            return Err(JournalError::missing(expected));
        }
        let follows = |base: &Base| before.is_some() || base.first.previous == header.previous;
        if !place.base.as_ref().is_none_or(follows) {
            return Err(JournalError::Damaged { segment: *id, offset: 0, reason: Damage::Chain });
        }
        before = Some(header);
    }
    before.ok_or(JournalError::missing(place.first()))
}

fn tail_of(place: &Place, id: u64, header: &SegmentHeader) -> Result<Tail, JournalError> {
    let file = file_name(id);
    let failed = || JournalError::disk("read", &file);
    let length = place.disk.length(&file).map_err(failed())?;
    let mut bytes = vec![0; usize::try_from(length.saturating_sub(HEADER_BYTES)).unwrap_or_default()];
    let read = place.disk.read_at(&file, HEADER_BYTES, &mut bytes).map_err(failed())?;
    bytes.truncate(read);
    let (key, position) = header.open(&place.keys)?;
    find_tail(&mut GroupReader::new(key, position), &bytes, HEADER_BYTES)
        .map_err(|(offset, reason)| JournalError::Damaged { segment: id, offset, reason })
}

/// Reads entries in order, up to the durable watermark. `None` means that there are no more *now*: a reader of a
/// journal that is being written goes on when asked again. After an error there is never any more.
pub struct Reader {
    place: Place,
    /// The last entry that may be read.
    durable: Arc<AtomicU64>,
    from: EntryNumber,
    file: String,
    offset: u64,
    group: GroupReader,
    window: Window,
    ready: VecDeque<Entry>,
    broken: bool,
}

/// A stretch of a file.
#[derive(Debug, Default)]
struct Window {
    offset: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn from(&self, offset: u64) -> &[u8] {
        let at = offset.checked_sub(self.offset).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.bytes.get(at..)).unwrap_or_default()
    }
}

impl Reader {
    /// Reads a journal that nobody writes, from its first entry to its last, and changes nothing.
    ///
    /// # Errors
    /// `Disk`, `MarkDamaged`, or `Damaged` where the end cannot be made out.
    pub fn offline(
        disk: Box<dyn Disk>,
        keys: JournalKeys,
        stream: &str,
    ) -> Result<(Self, Recovered), JournalError> {
        let mut place = Place::new(disk, keys, stream);
        let tail = recover(&mut place, EntryNumber(0))?;
        let recovered = Recovered::of(tail);
        let durable = Arc::new(AtomicU64::new(recovered.last.0));
        Ok((Self::open(place, durable, EntryNumber(1))?, recovered))
    }

    /// Reads a journal up to where it is damaged.
    ///
    /// # Errors
    /// `Disk`, or `Damaged` where not even the first segment can be opened.
    pub(super) fn as_far_as_it_goes(place: Place) -> Result<Self, JournalError> {
        Self::open(place, Arc::new(AtomicU64::new(u64::MAX)), EntryNumber(1))
    }

    /// Whether these can be the keys that a journal was written with. They cannot where segments begin with whole
    /// blocks and none of these blocks follows its segment's header under them: damage leaves others that do. Under
    /// other keys nothing but the mark of an end in good order would say that a journal is no empty one.
    ///
    /// # Errors
    /// `Disk`.
    pub fn may_open(disk: Box<dyn Disk>, keys: &JournalKeys, stream: &str) -> Result<bool, JournalError> {
        let mut begun = false;
        for id in list(disk.as_ref())?.into_iter().rev().take(LOOKED_AT) {
            // Damage has an error of its own, once the keys are found to be the right ones.
            let Ok(header) = SegmentHeader::read(disk.as_ref(), id, stream) else { continue };
            let (key, position) = header.open(keys)?;
            let (file, mut bytes) = (file_name(id), vec![0; BLOCK_MOST]);
            let read = disk.read_at(&file, HEADER_BYTES, &mut bytes);
            bytes.truncate(read.map_err(JournalError::disk("read", &file))?);
            let Some(block) = Block::parse(&bytes) else { continue };
            if GroupReader::new(key, position).continues(&block) {
                return Ok(true);
            }
            begun = true;
        }
        Ok(!begun)
    }

    /// A reader whose first entry is `from`. There must be a segment.
    pub(super) fn open(
        place: Place,
        durable: Arc<AtomicU64>,
        from: EntryNumber,
    ) -> Result<Self, JournalError> {
        let mut found = Err(JournalError::missing(place.first()));
        for id in place.segments()?.into_iter().rev() {
            let header = SegmentHeader::read(place.disk.as_ref(), id, &place.stream)?;
            let early_enough = header.first_entry <= from;
            found = Ok(header);
            if early_enough {
                break;
            }
        }
        let header = found?;
        let (key, position) = header.open(&place.keys)?;
        Ok(Self {
            place,
            durable,
            from,
            file: file_name(header.id),
            offset: HEADER_BYTES,
            group: GroupReader::new(key, position),
            window: Window::default(),
            ready: VecDeque::new(),
            broken: false,
        })
    }

    /// What stands for the entries before the first that there is.
    #[must_use]
    pub fn base(&self) -> Option<&Base> {
        self.place.base.as_ref()
    }

    /// The number of the entry that comes next.
    #[must_use]
    pub fn position(&self) -> EntryNumber {
        self.ready.front().map_or_else(|| self.group.position().entry.max(self.from), |entry| entry.number)
    }

    fn advance(&mut self) -> Result<(), JournalError> {
        while self.ready.is_empty() && self.group.position().entry.0 <= self.durable.load(Ordering::Acquire) {
            // What was read ahead may have been read while it was being written: nothing is judged by that alone.
            if self.open_block()? {
                continue;
            }
            self.refill()?;
            if !self.open_block()? {
                self.next_segment()?;
            }
        }
        Ok(())
    }

    fn refill(&mut self) -> Result<(), JournalError> {
        self.window.offset = self.offset;
        self.window.bytes.resize(READ_AHEAD, 0);
        let read = self.place.disk.read_at(&self.file, self.offset, &mut self.window.bytes);
        self.window.bytes.truncate(read.map_err(JournalError::disk("read", &self.file))?);
        Ok(())
    }

    /// Opens the block that stands here, if it is whole and the one that comes next.
    fn open_block(&mut self) -> Result<bool, JournalError> {
        let (segment, offset) = (self.group.position().segment, self.offset);
        let block = match Block::parse(self.window.from(offset)) {
            Some(block) if self.group.continues(&block) => block,
            Some(_) | None => return Ok(false),
        };
        let ready = &mut self.ready;
        self.group
            .open(&block, self.from, |entry| ready.push_back(entry))
            .map_err(|reason| JournalError::Damaged { segment, offset, reason })?;
        self.offset += block.padded_length();
        Ok(true)
    }

    /// Goes on in the next segment, which must begin exactly here.
    fn next_segment(&mut self) -> Result<(), JournalError> {
        let here = self.group.position();
        let damaged = JournalError::Damaged {
            segment: here.segment,
            offset: self.offset,
            reason: Damage::Block { block: here.block },
        };
        let next = here.segment.saturating_add(1);
        if !list(self.place.disk.as_ref())?.contains(&next) {
            return Err(damaged);
        }
        let header = SegmentHeader::read(self.place.disk.as_ref(), next, &self.place.stream)?;
        if header.first_block != here.block || header.first_entry != here.entry {
            return Err(damaged);
        }
        if header.previous != here.chain {
            return Err(JournalError::Damaged { segment: next, offset: 0, reason: Damage::Chain });
        }
        let (key, position) = header.open(&self.place.keys)?;
        self.file = file_name(next);
        self.offset = HEADER_BYTES;
        self.group = GroupReader::new(key, position);
        self.window = Window::default();
        Ok(())
    }
}

impl Iterator for Reader {
    type Item = Result<Entry, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty()
            && !self.broken
            && let Err(error) = self.advance()
        {
            self.broken = true;
            return Some(Err(error));
        }
        self.ready.pop_front().map(Ok)
    }
}

impl Recovered {
    pub(super) fn of(tail: Option<Tail>) -> Self {
        let Some(tail) = tail else { return Self { last: EntryNumber(0), torn: None } };
        let segment = tail.position.segment;
        Self {
            last: EntryNumber(tail.position.entry.0.saturating_sub(1)),
            torn: tail.torn.then_some(TornTail { segment, offset: tail.offset }),
        }
    }
}
