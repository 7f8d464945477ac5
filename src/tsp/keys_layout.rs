//! How what a requestor was given to pay with is laid out in the journal and the checkpoint: keys, for whom and which,
//! never a key; and cryptograms, by what they were made of. `layout` has the rest.

use crate::stdx::clock::Wall;
use crate::vocab::{AtcRange, Initiator};

use super::controls_layout::{put_amount, put_merchant, take_amount, take_merchant};
use super::given_keys::{GivenKeys, KeyGiven, LimitedKey, LimitedKeys, NamedKey};
use super::remote::MadeCryptogram;
use super::wire::{Reader, Writer};

pub(super) fn put_key_given(out: &mut Writer, given: &KeyGiven) {
    put_named_key(out, &given.key);
    out.bytes(&given.device);
}

pub(super) fn take_key_given(from: &mut Reader<'_>) -> Option<KeyGiven> {
    Some(KeyGiven { key: take_named_key(from)?, device: from.array()? })
}

/// Also for the checkpoint, which remembers what was told.
pub(super) fn put_named_key(out: &mut Writer, key: &NamedKey) {
    out.bytes(&key.record.to_le_bytes());
    out.byte(key.index);
    out.optional(key.limited.as_ref(), put_limited_key);
}

pub(super) fn take_named_key(from: &mut Reader<'_>) -> Option<NamedKey> {
    Some(NamedKey { record: from.number()?, index: from.byte()?, limited: from.optional(take_limited_key)? })
}

/// What a record has of them.
pub(super) fn put_given_keys(out: &mut Writer, given: &GivenKeys) {
    out.bytes(&given.device);
    out.optional(given.limited.as_ref(), |out, limited| {
        out.bytes(&limited.last.to_le_bytes());
        out.list(&limited.good, put_limited_key);
    });
}

pub(super) fn take_given_keys(from: &mut Reader<'_>) -> Option<GivenKeys> {
    Some(GivenKeys {
        device: from.array()?,
        limited: from.optional(|from| {
            let last = u16::from_le_bytes(from.array()?);
            Some(LimitedKeys { last, good: from.list(take_limited_key)? })
        })?,
    })
}

fn put_limited_key(out: &mut Writer, key: &LimitedKey) {
    out.bytes(&key.range.first.to_le_bytes());
    out.bytes(&key.range.last.to_le_bytes());
    out.bytes(&key.until.0.to_le_bytes());
}

fn take_limited_key(from: &mut Reader<'_>) -> Option<LimitedKey> {
    let range =
        AtcRange { first: u16::from_le_bytes(from.array()?), last: u16::from_le_bytes(from.array()?) };
    Some(LimitedKey { range, until: Wall(from.number()?) })
}

/// Also for the checkpoint. Who initiates its payment, the number in front says.
pub(super) fn put_cryptogram(out: &mut Writer, made: &MadeCryptogram) {
    out.bytes(&made.record.to_le_bytes());
    out.bytes(&made.number.to_le_bytes());
    put_merchant(out, &made.merchant);
    put_amount(out, &made.amount);
    out.bytes(&made.until.0.to_le_bytes());
}

pub(super) fn take_cryptogram(from: &mut Reader<'_>, initiator: Initiator) -> Option<MadeCryptogram> {
    Some(MadeCryptogram {
        record: from.number()?,
        initiator,
        number: u16::from_le_bytes(from.array()?),
        merchant: take_merchant(from)?,
        amount: take_amount(from)?,
        until: Wall(from.number()?),
    })
}
