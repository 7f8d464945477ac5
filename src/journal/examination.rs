//! What was done to a journal that is not whole: which of its entries are missing, altered, in the place of others or
//! there twice. The order in which they stand is held against that of their numbers.

use std::collections::BTreeMap;
use std::fmt;

use super::base::Base;
use super::checkpoint::Records;
use super::disk::Disk;
use super::entry::EntryNumber;
use super::error::JournalError;
use super::mark::Mark;
use super::reader::{Place, Reader};
use super::remains::{Remains, Stand};
use crate::crypto::JournalKeys;

/// Entries that follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entries {
    pub first: u64,
    pub last: u64,
}

impl Entries {
    fn count(self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    /// With the word that agrees with how many they are.
    #[must_use]
    pub fn with(self, one: &str, several: &str) -> String {
        if self.first == self.last { format!("{self} {one}") } else { format!("{self} {several}") }
    }
}

impl fmt::Display for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { first, last } if first == last => write!(f, "entry {first}"),
            Self { first, last } => write!(f, "entries {first} to {last}"),
        }
    }
}

/// One thing that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    SegmentsMissing {
        first: u64,
        last: u64,
    },
    /// The file of a segment has another one in it.
    SegmentMoved {
        file: u64,
        holds: u64,
    },
    /// The file of a segment has one of another journal in it.
    SegmentForeign(u64),
    /// Without its header a segment's entries cannot be opened.
    HeaderAltered {
        segment: u64,
        entries: Option<Entries>,
    },
    Missing(Entries),
    Altered(Entries),
    Moved {
        stand: Entries,
        instead_of: Entries,
    },
    Twice {
        entries: Entries,
        after: u64,
    },
    /// What stands there was not sealed as these entries, and is more or less than they are.
    Replaced {
        entries: Entries,
        by: u64,
    },
    /// What stands there is no entry of this journal.
    Foreign {
        count: u64,
        after: u64,
    },
    /// Every entry is there; what is around those of one block is not as it was.
    Frame {
        block_of: u64,
    },
}

impl Finding {
    /// The first entry that it is about, where it names one.
    #[must_use]
    pub fn entry(&self) -> Option<u64> {
        match self {
            Self::SegmentsMissing { .. } | Self::SegmentMoved { .. } | Self::SegmentForeign(_) => None,
            Self::HeaderAltered { entries, .. } => entries.map(|entries| entries.first),
            Self::Missing(entries) | Self::Altered(entries) | Self::Replaced { entries, .. } => {
                Some(entries.first)
            }
            Self::Moved { stand, instead_of } => Some(stand.first.min(instead_of.first)),
            Self::Twice { after, .. } | Self::Foreign { after, .. } => Some(after.saturating_add(1)),
            Self::Frame { block_of } => Some(*block_of),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SegmentsMissing { first, last } if first == last => write!(f, "segment {first} is missing"),
            Self::SegmentsMissing { first, last } => write!(f, "segments {first} to {last} are missing"),
            Self::SegmentMoved { file, holds } => {
                write!(f, "the file of segment {file} holds segment {holds}")
            }
            Self::SegmentForeign(segment) => write!(f, "the file of segment {segment} is of another journal"),
            Self::HeaderAltered { segment, entries: None } => {
                write!(f, "the header of segment {segment} was altered")
            }
            Self::HeaderAltered { segment, entries: Some(entries) } => {
                write!(
                    f,
                    "the header of segment {segment} was altered: without it {entries} cannot be opened"
                )
            }
            Self::Missing(entries) => f.write_str(&entries.with("is missing", "are missing")),
            Self::Altered(entries) => f.write_str(&entries.with("was altered", "were altered")),
            Self::Moved { stand, instead_of } => {
                write!(f, "{} where {instead_of} should", stand.with("stands", "stand"))
            }
            Self::Twice { entries, after } => {
                write!(f, "{} a second time, {}", entries.with("stands", "stand"), behind(*after))
            }
            Self::Replaced { entries, by } => {
                write!(f, "in the place of {entries}: {by} that were not sealed as any of them")
            }
            Self::Foreign { count, after } => {
                write!(f, "{}: {count} that are no entries of this journal", behind(*after))
            }
            Self::Frame { block_of } => {
                write!(f, "what is around the block of entry {block_of} was altered, and no entry")
            }
        }
    }
}

/// The place behind an entry; 0 is none.
fn behind(entry: u64) -> String {
    if entry == 0 { "before entry 1".to_owned() } else { format!("after entry {entry}") }
}

/// What was found in a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// The first entry that must be there.
    pub begins: u64,
    /// The last one that is known to have been.
    pub last: u64,
    /// In the order of the entries.
    pub found: Vec<Finding>,
}

impl Examination {
    /// Looks at all of a journal, damaged or not, and changes nothing. `at_least` is the last entry that some other
    /// store knows to have been durable.
    ///
    /// # Errors
    /// `Disk` or `Keys`.
    pub fn of(
        disk: Box<dyn Disk>,
        keys: JournalKeys,
        stream: &str,
        at_least: EntryNumber,
    ) -> Result<Self, JournalError> {
        let mut place = Place::new(disk, keys, stream);
        let base = Base::newest(&place);
        let base_is_damaged = base.is_err();
        place.base = base.unwrap_or_default();
        let mut remains = Remains::of(&place)?;
        let lowest = remains.known().map(|entries| entries.first).min().unwrap_or(1);
        // Where the base cannot be read, nobody knows which entries it stands for.
        let begins = match &place.base {
            Some(base) => base.first_entry().0,
            None if base_is_damaged => lowest,
            None => 1,
        };
        let based = place.base.as_ref().map_or(0, |base| base.entry_number().0);
        let mark = Mark::read(place.disk.as_ref(), &place.keys, &place.stream);
        let marked = mark.ok().flatten().map_or(0, |mark| mark.last.0);
        let sure = at_least.0.max(based).max(marked);
        let stands = remains.stands(sure);
        let told = stands.iter().filter_map(|stand| match stand {
            Stand::Entries(entries) => Some(entries.last),
            Stand::Alien | Stand::Unopened(_) => None,
        });
        let last = told.max().unwrap_or(0).max(sure);
        let mut found = remains.segments;
        found.extend(compare(Entries { first: begins, last }, &stands));
        if found.is_empty() {
            found.extend(broken_frame(place, last));
        }
        Ok(Self { begins, last, found })
    }
}

/// Where the chain breaks although every entry is in its place.
fn broken_frame(place: Place, last: u64) -> Option<Finding> {
    let mut reader = Reader::as_far_as_it_goes(place).ok()?;
    reader.by_ref().take_while(Result::is_ok).for_each(drop);
    let at = reader.position().0;
    (at <= last).then_some(Finding::Frame { block_of: at })
}

/// A stretch, when it is known which of those that hold the same entry is the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Own(Entries),
    Again(Entries),
    Alien,
    Unopened(u64),
}

/// Entries by their first, each once.
type Stretches = BTreeMap<u64, u64>;

/// The parts of `entries` that are in `known`, and those that are not, in order.
fn split(known: &Stretches, entries: Entries) -> Vec<Told> {
    let mut parts = Vec::new();
    let mut first = entries.first;
    while first <= entries.last {
        let at = known.range(..=first).next_back().filter(|(_, last)| **last >= first);
        let part = if let Some((_, last)) = at {
            Told::Again(Entries { first, last: entries.last.min(*last) })
        } else {
            let next = known.range(first..=entries.last).next().map(|(next, _)| next.saturating_sub(1));
            Told::Own(Entries { first, last: next.unwrap_or(entries.last) })
        };
        let (Told::Again(its) | Told::Own(its)) = part else { break };
        first = its.last.saturating_add(1);
        parts.push(part);
    }
    parts
}

/// Of entries that stand twice, those of the longer stretch are the entries. Gives all in the order in which they
/// stand, and each entry that there is.
fn settle(stands: &[Stand]) -> (Vec<Told>, Stretches) {
    let mut longest: Vec<(usize, Entries)> = Vec::new();
    for (at, stand) in stands.iter().enumerate() {
        if let Stand::Entries(entries) = stand {
            longest.push((at, *entries));
        }
    }
    longest.sort_by_key(|(at, entries)| (std::cmp::Reverse(entries.count()), *at));
    let (mut known, mut parts) = (Stretches::new(), BTreeMap::new());
    for (at, entries) in longest {
        let its = split(&known, entries);
        for part in &its {
            if let Told::Own(Entries { first, last }) = part {
                known.insert(*first, *last);
            }
        }
        parts.insert(at, its);
    }
    let mut told = Vec::new();
    for (at, stand) in stands.iter().enumerate() {
        match stand {
            Stand::Entries(_) => told.append(&mut parts.remove(&at).unwrap_or_default()),
            Stand::Alien => told.push(Told::Alien),
            Stand::Unopened(segment) => told.push(Told::Unopened(*segment)),
        }
    }
    (told, known)
}

/// What of `all` is not in `known`.
fn missing(known: &Stretches, all: Entries) -> Vec<Entries> {
    let parts = split(known, all);
    parts
        .into_iter()
        .filter_map(|part| if let Told::Own(entries) = part { Some(entries) } else { None })
        .collect()
}

/// Holds what stands against what should.
fn compare(all: Entries, stands: &[Stand]) -> Vec<Finding> {
    let (told, mut known) = settle(stands);
    let mut found = displaced(&told, &known);
    let mut before = all.first.saturating_sub(1);
    for part in told.split_inclusive(|part| matches!(part, Told::Own(_))) {
        let (between, next) = match part.split_last() {
            Some((Told::Own(next), between)) => (between, Some(*next)),
            _ => (part, None),
        };
        let gap = Entries {
            first: before.saturating_add(1),
            last: next.map_or(all.last, |next| next.first.saturating_sub(1)),
        };
        found.extend(between_two(between, before, gap, next.is_none(), &mut known));
        before = next.map_or(before, |next| next.last);
    }
    found.extend(missing(&known, all).into_iter().map(Finding::Missing));
    found.sort_by_key(Finding::entry);
    found
}

/// What stands between an entry and the next one that is itself, where those of `gap` should. Those that it accounts
/// for are added to `known`.
fn between_two(
    between: &[Told],
    before: u64,
    gap: Entries,
    at_end: bool,
    known: &mut Stretches,
) -> Vec<Finding> {
    let absent = if gap.first <= gap.last { missing(known, gap) } else { Vec::new() };
    let wanted: u64 = absent.iter().map(|entries| entries.count()).sum();
    let stretch =
        absent.first().zip(absent.last()).map(|(one, other)| Entries { first: one.first, last: other.last });
    let aliens = between.iter().filter(|part| matches!(part, Told::Alien)).count();
    let aliens = u64::try_from(aliens).unwrap_or(u64::MAX);
    let (mut found, mut accounted) = (Vec::new(), false);
    for part in between {
        match part {
            Told::Again(entries) => found.push(Finding::Twice { entries: *entries, after: before }),
            Told::Unopened(segment) => {
                found.push(Finding::HeaderAltered { segment: *segment, entries: stretch });
                accounted = true;
            }
            Told::Own(_) | Told::Alien => {}
        }
    }
    match stretch {
        _ if aliens == 0 => {}
        Some(_) if wanted == aliens => {
            found.extend(absent.iter().copied().map(Finding::Altered));
            accounted = true;
        }
        Some(entries) => {
            found.push(Finding::Replaced { entries, by: aliens });
            accounted = true;
        }
        // What was being written when the power went, and nobody was told of.
        None if at_end => {}
        None => found.push(Finding::Foreign { count: aliens, after: before }),
    }
    if accounted {
        known.extend(absent.iter().map(|entries| (entries.first, entries.last)));
    }
    found
}

/// Which entries stand in the place of which others.
fn displaced(told: &[Told], known: &Stretches) -> Vec<Finding> {
    let own =
        told.iter().filter_map(|part| if let Told::Own(entries) = part { Some(*entries) } else { None });
    let (mut stand, mut should): (Vec<Entries>, Vec<Entries>) =
        (own.collect(), known.iter().map(|(first, last)| Entries { first: *first, last: *last }).collect());
    // From the last to the first, so that what is dealt with is at the end.
    let mut found: Vec<(Entries, Entries)> = Vec::new();
    while let (Some(its), Some(place)) = (stand.pop(), should.pop()) {
        let count = its.count().min(place.count());
        let end = |entries: Entries| {
            let first = entries.last.saturating_sub(count.saturating_sub(1));
            let rest = (first > entries.first)
                .then(|| Entries { first: entries.first, last: first.saturating_sub(1) });
            (Entries { first, ..entries }, rest)
        };
        let ((its, its_rest), (place, place_rest)) = (end(its), end(place));
        stand.extend(its_rest);
        should.extend(place_rest);
        if its == place {
            continue;
        }
        match found.last_mut() {
            Some((stood, instead))
                if its.last.saturating_add(1) == stood.first
                    && place.last.saturating_add(1) == instead.first =>
            {
                (stood.first, instead.first) = (its.first, place.first);
            }
            _ => found.push((its, place)),
        }
    }
    found.into_iter().rev().map(|(stand, instead_of)| Finding::Moved { stand, instead_of }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::remains::put;
    use super::*;

    fn entries(first: u64, last: u64) -> Entries {
        Entries { first, last }
    }

    /// Entries by their numbers; 0 is what is no entry.
    fn said(numbers: &[u64], last: u64) -> String {
        let mut stands = Vec::new();
        for number in numbers {
            put(
                &mut stands,
                if *number == 0 { Stand::Alien } else { Stand::Entries(entries(*number, *number)) },
            );
        }
        let found = compare(entries(1, last), &stands);
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn the_order_in_which_entries_stand_says_what_was_done() {
        for (numbers, last, expected) in [
            (&[1, 2, 3][..], 3, ""),
            (&[1, 3], 3, "entry 2 is missing"),
            (&[1, 2], 4, "entries 3 to 4 are missing"),
            (&[4, 5], 5, "entries 1 to 3 are missing"),
            (&[1, 0, 3], 3, "entry 2 was altered"),
            (&[0, 2, 0], 3, "entry 1 was altered; entry 3 was altered"),
            (&[1, 0, 0, 5], 5, "in the place of entries 2 to 4: 2 that were not sealed as any of them"),
            (&[1, 0, 2, 3], 3, "after entry 1: 1 that are no entries of this journal"),
            (&[1, 2, 3, 0], 3, ""),
            (&[0, 1, 2], 2, "before entry 1: 1 that are no entries of this journal"),
            (&[1, 2, 3, 0], 4, "entry 4 was altered"),
            (&[1, 3, 2, 4], 4, "entry 3 stands where entry 2 should; entry 2 stands where entry 3 should"),
            (
                &[1, 4, 5, 2, 3, 6],
                6,
                "entries 4 to 5 stand where entries 2 to 3 should; entries 2 to 3 stand where entries 4 to 5 should",
            ),
            (
                &[4, 5, 6, 1, 2, 3],
                6,
                "entries 4 to 6 stand where entries 1 to 3 should; entries 1 to 3 stand where entries 4 to 6 should",
            ),
            (&[1, 2, 3, 2, 4, 5, 6], 6, "entry 2 stands a second time, after entry 3"),
            (&[1, 2, 2, 4, 5, 6], 6, "entry 2 stands a second time, after entry 2; entry 3 is missing"),
            (
                &[1, 3, 2, 0, 6],
                6,
                "entry 3 stands where entry 2 should; entry 2 stands where entry 3 should; in the place of entries 4 to 5: 1 that were not sealed as any of them",
            ),
        ] {
            assert_eq!(said(numbers, last), expected, "{numbers:?}");
        }
    }

    #[test]
    fn a_segment_that_cannot_be_opened_takes_its_entries_along() {
        let stands = [Stand::Entries(entries(1, 4)), Stand::Unopened(2), Stand::Entries(entries(8, 9))];
        assert_eq!(
            compare(entries(1, 9), &stands),
            [Finding::HeaderAltered { segment: 2, entries: Some(entries(5, 7)) }]
        );
    }
}
