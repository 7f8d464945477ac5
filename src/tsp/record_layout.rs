//! How a vault record is laid out, in the events that issue tokens and in the checkpoint. As in `layout`, what must
//! change gets a new version; what only some records have is a property, and may be added.

use crate::stdx::clock::Wall;
use crate::vocab::{
    Digits, Expiry, Par, Token, TokenAssuranceMethod, TokenLocation, TokenReferenceId, TokenRequestorId,
};

use super::controls_layout::{put_controls, put_own_controls, take_controls, take_own_controls};
use super::event::Reason;
use super::keys_layout::{put_given_keys, take_given_keys};
use super::layout::{read_lifecycle, write_lifecycle};
use super::owners::Owners;
use super::record::{PastMapping, VaultRecord};
use super::wire::{Reader, VERSION, Writer};

/// A record by itself, for the checkpoint.
pub(super) fn encode_record(record: &VaultRecord) -> Vec<u8> {
    let mut out = Writer(vec![VERSION]);
    put_record(&mut out, record);
    out.0
}

pub(super) fn decode_record(bytes: &[u8]) -> Option<VaultRecord> {
    let mut from = Reader::open(bytes)?;
    let record = take_record(&mut from)?;
    from.is_empty().then_some(record)
}

pub(super) fn put_record(out: &mut Writer, record: &VaultRecord) {
    out.bytes(&record.record.to_le_bytes());
    out.text(record.token.as_bytes());
    out.bytes(&record.expiry.digits());
    out.bytes(&record.reference.to_bytes());
    out.optional(record.par.as_ref(), |out, par| out.bytes(par.as_bytes()));
    out.bytes(record.requestor.as_bytes());
    out.bytes(&record.assurance.digits());
    out.byte(record.location.code());
    out.bytes(record.last4.as_bytes());
    record.sealed.encode(&mut out.0);
    out.bytes(&record.blind_index);
    out.bytes(&record.mapping_version.to_le_bytes());
    put_controls(out, &record.controls);
    out.bytes(&write_lifecycle(&record.lifecycle));
    out.bytes(&record.issued_at.0.to_le_bytes());
    out.bytes(&record.changed_at.0.to_le_bytes());
    put_properties(out, record);
}

pub(super) fn take_record(from: &mut Reader<'_>) -> Option<VaultRecord> {
    let mut record = VaultRecord {
        record: from.number()?,
        token: Token::parse(from.text()?).ok()?,
        expiry: Expiry::parse(from.take(4)?).ok()?,
        reference: TokenReferenceId::from_bytes(from.array()?),
        par: from.optional(|from| Par::parse(from.take(29)?).ok())?,
        requestor: TokenRequestorId::parse(from.take(11)?).ok()?,
        assurance: TokenAssuranceMethod::parse(from.take(2)?).ok()?,
        location: TokenLocation::ALL.get(usize::from(from.byte()?)).copied()?,
        last4: Digits::parse("last four", from.take(4)?, 4).ok()?,
        sealed: from.sealed()?,
        blind_index: from.array()?,
        mapping_version: u32::from_le_bytes(from.array()?),
        controls: take_controls(from)?,
        lifecycle: from.array().and_then(read_lifecycle)?,
        issued_at: Wall(from.number()?),
        changed_at: Wall(from.number()?),
        device: None,
        past: Vec::new(),
        own: None,
        cryptograms: 0,
        keys: None,
        owners: Owners::default(),
        because: Reason::Unstated,
    };
    if from.version >= 3 {
        take_properties(from, &mut record)?;
    }
    Some(record)
}

/// What only some records have: a count, then each with its number in front, in their order. A property that is not
/// known here makes the record unreadable, never incomplete.
fn put_properties(out: &mut Writer, record: &VaultRecord) {
    let properties = [
        record.device.is_some(),
        !record.past.is_empty(),
        record.own.is_some(),
        record.cryptograms > 0,
        record.keys.is_some(),
        record.owners != Owners::default(),
        record.because != Reason::Unstated,
    ];
    out.byte(properties.into_iter().map(u8::from).sum());
    if let Some(device) = &record.device {
        out.byte(1);
        out.bytes(&device.to_le_bytes());
    }
    if !record.past.is_empty() {
        out.byte(2);
        out.list(&record.past, |out, past| {
            out.bytes(&past.mapping_version.to_le_bytes());
            past.sealed.encode(&mut out.0);
            out.bytes(&past.until.0.to_le_bytes());
        });
    }
    if let Some(own) = &record.own {
        out.byte(3);
        put_own_controls(out, own);
    }
    if record.cryptograms > 0 {
        out.byte(4);
        out.bytes(&record.cryptograms.to_le_bytes());
    }
    if let Some(keys) = &record.keys {
        out.byte(5);
        put_given_keys(out, keys);
    }
    if record.owners != Owners::default() {
        out.bytes(&[6, record.owners.bits()]);
    }
    if record.because != Reason::Unstated {
        out.bytes(&[7, record.because.code()]);
    }
}

fn take_properties(from: &mut Reader<'_>, record: &mut VaultRecord) -> Option<()> {
    let (count, mut last) = (from.byte()?, 0);
    for _ in 0..count {
        let property = from.byte()?;
        match property {
            _ if property <= last => return None,
            1 => record.device = Some(from.number()?),
            2 => {
                record.past = from.list(|from| {
                    let mapping_version = u32::from_le_bytes(from.array()?);
                    Some(PastMapping { mapping_version, sealed: from.sealed()?, until: Wall(from.number()?) })
                })?;
            }
            3 => record.own = Some(Box::new(take_own_controls(from)?)),
            5 => record.keys = Some(Box::new(take_given_keys(from)?)),
            4 => record.cryptograms = u16::from_le_bytes(from.array()?),
            6 => record.owners = Owners::from_bits(from.byte()?)?,
            7 => record.because = Reason::from_code(from.byte()?)?,
            _ => return None,
        }
        last = property;
    }
    Some(())
}
