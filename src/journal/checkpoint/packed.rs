//! Packed parts: their records are numbered, and there may be millions of them. Neighbours stand in the store as one
//! record, under one seal, so that a start has less to find and to check.
//!
//! A pack: of each record its place (1 byte), its length (4 bytes, little end first) and its bytes, in the order of
//! places.

use std::collections::BTreeMap;

use super::{CheckpointError, EachRecord, part_of};

/// So many records share a pack: as a rule it then fills a page of the store, which is what a change of one record
/// costs in any case.
const TOGETHER: u64 = 16;

const DAMAGED: CheckpointError = CheckpointError::Damaged("a pack of records cannot be read");

/// Whether a part is packed; its name says so. Its keys are numbers of eight bytes, big end first.
pub(super) fn is_packed(part: &[u8]) -> bool {
    part.ends_with(b"[]")
}

/// Under which whole key a record stands in the store, and where in its pack; no place for one that stands by itself.
pub(super) fn place_of(key: &[u8]) -> (Vec<u8>, Option<u8>) {
    match key.split_last_chunk::<8>().filter(|_| is_packed(part_of(key))) {
        Some((part, number)) => {
            let number = u64::from_be_bytes(*number);
            let pack = [part, &(number / TOGETHER).to_be_bytes()].concat();
            (pack, u8::try_from(number % TOGETHER).ok())
        }
        None => (key.to_vec(), None),
    }
}

/// Visits the record that stands in the store under a whole key, or each of those that are packed there, by their
/// keys within the part.
pub(in crate::journal) fn each(
    key: &[u8],
    value: &[u8],
    visit: &mut EachRecord<'_>,
) -> Result<(), CheckpointError> {
    let part = part_of(key);
    let key = key.get(1 + part.len()..).unwrap_or_default();
    if !is_packed(part) {
        return visit(key, value);
    }
    let first = key.try_into().map(u64::from_be_bytes).map_err(|_| DAMAGED)?.wrapping_mul(TOGETHER);
    let mut rest = value;
    while let Some((place, value)) = next(&mut rest)? {
        visit(&first.wrapping_add(u64::from(place)).to_be_bytes(), value)?;
    }
    Ok(())
}

/// The record at a place of a pack.
pub(super) fn pick(pack: &[u8], wanted: u8) -> Result<Option<&[u8]>, CheckpointError> {
    let mut rest = pack;
    while let Some((place, value)) = next(&mut rest)? {
        if place == wanted {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn next<'a>(rest: &mut &'a [u8]) -> Result<Option<(u8, &'a [u8])>, CheckpointError> {
    let Some((place, tail)) = rest.split_first() else { return Ok(None) };
    let (length, tail) = tail.split_first_chunk().ok_or(DAMAGED)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| DAMAGED)?;
    let (value, tail) = tail.split_at_checked(length).ok_or(DAMAGED)?;
    *rest = tail;
    Ok(Some((*place, value)))
}

/// What a record of the store is to become.
pub(super) enum After {
    /// This, or nothing.
    Whole(Option<Vec<u8>>),
    /// A pack with these changes.
    Pack(Vec<(u8, Option<Vec<u8>>)>),
}

impl After {
    /// What it then is, after `before`; none when nothing is left.
    pub(super) fn over(self, before: Option<&[u8]>) -> Result<Option<Vec<u8>>, CheckpointError> {
        let changes = match self {
            Self::Whole(value) => return Ok(value),
            Self::Pack(changes) => changes,
        };
        let (mut places, mut rest) = (BTreeMap::new(), before.unwrap_or_default());
        while let Some((place, value)) = next(&mut rest)? {
            places.insert(place, value);
        }
        for (place, value) in &changes {
            match value {
                Some(value) => places.insert(*place, value),
                None => places.remove(place),
            };
        }
        let mut pack = Vec::with_capacity(places.values().map(|value| value.len() + 5).sum());
        for (place, value) in &places {
            pack.push(*place);
            pack.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
            pack.extend_from_slice(value);
        }
        Ok((!places.is_empty()).then_some(pack))
    }
}

/// Changes of records as changes of what stands in the store, by whole keys in order.
pub(super) fn grouped(changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Vec<(Vec<u8>, After)> {
    let mut grouped: Vec<(Vec<u8>, After)> = Vec::with_capacity(changes.len());
    for (key, value) in changes {
        match (place_of(&key), grouped.last_mut()) {
            ((_, None), _) => grouped.push((key, After::Whole(value))),
            ((pack, Some(place)), Some((last, After::Pack(changes)))) if *last == pack => {
                changes.push((place, value));
            }
            ((pack, Some(place)), _) => grouped.push((pack, After::Pack(vec![(place, value)]))),
        }
    }
    grouped
}
