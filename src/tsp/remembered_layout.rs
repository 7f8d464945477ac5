//! How requests that were answered lie in the checkpoint, each with what was told.

use crate::crypto::Sealed;
use crate::stdx::clock::Wall;
use crate::vocab::{Digits, Expiry, Initiator, Par, TokenAssuranceMethod, TokenRequestorId};

use super::error::ProvisioningRefusal;
use super::event::{Disclosure, Principal, RequestId, RequestKey};
use super::keys_layout::{put_cryptogram, put_named_key, take_cryptogram, take_named_key};
use super::layout::{
    put_consent, put_contacts, put_disclosure, put_principal, read_lifecycle, take_consent, take_contacts,
    take_disclosure, take_principal, write_lifecycle,
};
use super::remembered::{Recalled, Remembered, Shown};
use super::token_view::StepUpView;
use super::wire::{Reader, Writer};

/// With its number in order of answering.
pub(super) fn encode_request(
    number: u64,
    (principal, request_id): &RequestKey,
    remembered: &Remembered,
) -> Vec<u8> {
    let mut out = Writer(number.to_be_bytes().to_vec());
    put_principal(&mut out, principal);
    out.bytes(&remembered.body_digest);
    match &remembered.told {
        Recalled::Token { record, lifecycle, changed_at, attributes, shown } => {
            out.kind_of(70, *record);
            out.bytes(&write_lifecycle(lifecycle));
            out.bytes(&changed_at.0.to_le_bytes());
            out.optional(attributes.as_ref(), put_attributes);
            out.optional(shown.as_ref(), put_shown);
        }
        Recalled::Requestor(id, then) => {
            out.numbered(71).bytes(id.as_bytes());
            out.optional(then.as_ref(), |out, (version, at)| {
                out.bytes(&version.to_le_bytes());
                out.bytes(&at.0.to_le_bytes());
            });
        }
        Recalled::Card { changed } => out.numbered(2).bytes(&changed.to_le_bytes()),
        Recalled::Disclosed { disclosure, card, par, at } => {
            put_disclosure(out.numbered(76), disclosure);
            out.optional(card.as_deref(), |out, (version, sealed)| {
                out.bytes(&version.to_le_bytes());
                sealed.encode(&mut out.0);
            });
            out.optional(par.as_ref(), |out, par| out.bytes(par.as_bytes()));
            out.bytes(&at.0.to_le_bytes());
        }
        Recalled::Cryptogram(made, expiry) => {
            let number = if made.initiator == Initiator::Customer { 73 } else { 74 };
            put_cryptogram(out.numbered(number), made);
            out.optional(expiry.as_ref(), put_expiry);
        }
        Recalled::Consent(given) => put_consent(out.numbered(7), given),
        Recalled::Key(key, expiry) => {
            put_named_key(out.numbered(75), key);
            out.optional(expiry.as_ref(), put_expiry);
        }
        Recalled::Refused(refusal) => {
            let number = REFUSALS.iter().find(|(_, listed)| listed == refusal).map_or(0, |(code, _)| *code);
            out.bytes(&[64, number]);
        }
    }
    out.text(request_id.as_str().as_bytes());
    out.0
}

/// Refusals that are remembered, each with its number.
const REFUSALS: [(u8, ProvisioningRefusal); 4] = [
    (1, ProvisioningRefusal::DeclinedByIssuer),
    (2, ProvisioningRefusal::CodeWrong),
    (3, ProvisioningRefusal::ProofFailed),
    (4, ProvisioningRefusal::AdvisedAgainst),
];

/// Numbers below 70 but those that are still written are of versions that remembered less.
pub(super) fn decode_request(bytes: &[u8]) -> Option<(u64, RequestKey, Remembered)> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    let number = u64::from_be_bytes(*number);
    if rest.first().is_some_and(u8::is_ascii_digit) {
        return decode_request_of_version_2(number, rest);
    }
    let mut from = Reader::here(rest);
    let principal = take_principal(&mut from)?;
    let body_digest = from.array()?;
    let told = match from.byte()? {
        kind @ (1 | 70) => Recalled::Token {
            record: from.number()?,
            lifecycle: from.array().and_then(read_lifecycle)?,
            changed_at: Wall(from.number()?),
            attributes: from.optional(take_attributes)?,
            shown: if kind == 70 { from.optional(take_shown)? } else { None },
        },
        3 => Recalled::Requestor(take_requestor(&mut from)?, None),
        71 => Recalled::Requestor(
            take_requestor(&mut from)?,
            from.optional(|from| Some((u32::from_le_bytes(from.array()?), Wall(from.number()?))))?,
        ),
        5 => older_disclosure(take_disclosure(&mut from)?),
        62 => {
            let disclosure = take_disclosure(&mut from)?;
            let _ = from.number()?;
            older_disclosure(disclosure)
        }
        kind @ (72 | 76) => Recalled::Disclosed {
            disclosure: take_disclosure(&mut from)?,
            card: if kind == 76 { from.optional(take_card)?.map(Box::new) } else { None },
            par: from.optional(take_par)?,
            at: Wall(from.number()?),
        },
        4 => Recalled::Cryptogram(take_cryptogram(&mut from, Initiator::Customer)?, None),
        20 => Recalled::Cryptogram(take_cryptogram(&mut from, Initiator::Merchant)?, None),
        kind @ (73 | 74) => {
            let initiator = if kind == 73 { Initiator::Customer } else { Initiator::Merchant };
            Recalled::Cryptogram(take_cryptogram(&mut from, initiator)?, from.optional(take_expiry)?)
        }
        7 => Recalled::Consent(take_consent(&mut from)?),
        6 => Recalled::Key(take_named_key(&mut from)?, None),
        75 => Recalled::Key(take_named_key(&mut from)?, from.optional(take_expiry)?),
        2 => Recalled::Card { changed: u32::from_le_bytes(from.array()?) },
        64 => {
            let number = from.byte()?;
            Recalled::Refused(REFUSALS.iter().find(|(code, _)| *code == number)?.1)
        }
        _ => return None,
    };
    let request_id = RequestId::parse(from.text()?).ok()?;
    from.is_empty().then_some((number, (principal, request_id), Remembered { body_digest, told }))
}

fn older_disclosure(disclosure: Disclosure) -> Recalled {
    Recalled::Disclosed { disclosure, card: None, par: None, at: Wall(0) }
}

fn take_card(from: &mut Reader<'_>) -> Option<(u32, Sealed)> {
    Some((u32::from_le_bytes(from.array()?), from.sealed()?))
}

fn put_attributes(out: &mut Writer, (expiry, assurance): &(Expiry, TokenAssuranceMethod)) {
    put_expiry(out, expiry);
    out.bytes(&assurance.digits());
}

fn take_attributes(from: &mut Reader<'_>) -> Option<(Expiry, TokenAssuranceMethod)> {
    Some((take_expiry(from)?, TokenAssuranceMethod::parse(from.take(2)?).ok()?))
}

fn put_expiry(out: &mut Writer, expiry: &Expiry) {
    out.bytes(&expiry.digits());
}

fn take_expiry(from: &mut Reader<'_>) -> Option<Expiry> {
    Expiry::parse(from.take(4)?).ok()
}

fn take_par(from: &mut Reader<'_>) -> Option<Par> {
    Par::parse(from.take(29)?).ok()
}

fn take_requestor(from: &mut Reader<'_>) -> Option<TokenRequestorId> {
    TokenRequestorId::parse(from.take(11)?).ok()
}

fn put_shown(out: &mut Writer, shown: &Shown) {
    out.bytes(shown.last4.as_bytes());
    out.byte(u8::from(shown.expired));
    out.optional(shown.par.as_ref(), |out, par| out.bytes(par.as_bytes()));
    out.optional(shown.step_up.as_deref(), |out, step_up| {
        put_contacts(out, &step_up.contacts);
        out.bytes(&[step_up.codes_left, step_up.tries_left]);
        out.optional(step_up.code_until.as_ref(), |out, until| out.bytes(&until.0.to_le_bytes()));
    });
}

fn take_shown(from: &mut Reader<'_>) -> Option<Shown> {
    Some(Shown {
        last4: Digits::parse("last four", from.take(4)?, 4).ok()?,
        expired: from.flag()?,
        par: from.optional(take_par)?,
        step_up: from.optional(take_step_up_view)?.map(Box::new),
    })
}

fn take_step_up_view(from: &mut Reader<'_>) -> Option<StepUpView> {
    let contacts = take_contacts(from)?;
    let [codes_left, tries_left] = from.array()?;
    let code_until = from.optional(|from| from.number().map(Wall))?;
    Some(StepUpView { contacts, codes_left, tries_left, code_until })
}

fn decode_request_of_version_2(number: u64, bytes: &[u8]) -> Option<(u64, RequestKey, Remembered)> {
    let (requestor, rest) = bytes.split_first_chunk::<11>()?;
    let (body_digest, rest) = rest.split_first_chunk::<32>()?;
    let (record, rest) = rest.split_first_chunk::<8>()?;
    let (lifecycle, rest) = rest.split_first_chunk::<6>()?;
    let (changed_at, request_id) = rest.split_first_chunk::<8>()?;
    let principal = Principal::Requestor(TokenRequestorId::parse(requestor).ok()?);
    let told = Recalled::Token {
        record: u64::from_be_bytes(*record),
        lifecycle: read_lifecycle(*lifecycle)?,
        changed_at: Wall(u64::from_be_bytes(*changed_at)),
        attributes: None,
        shown: None,
    };
    let key = (principal, RequestId::parse(request_id).ok()?);
    Some((number, key, Remembered { body_digest: *body_digest, told }))
}

#[cfg(test)]
mod tests {
    use super::super::event::DisclosurePurpose;
    use super::super::given_keys::NamedKey;
    use super::super::lifecycle::{Lifecycle, TokenStatus};
    use super::*;
    use crate::vocab::{Contact, ContactKind, Contacts, Text};

    fn key() -> RequestKey {
        let requestor = TokenRequestorId::parse(b"00000000002").unwrap();
        (Principal::Requestor(requestor), RequestId::parse(b"r-1").unwrap())
    }

    fn token(shown: Option<Shown>) -> Recalled {
        Recalled::Token {
            record: 7,
            lifecycle: Lifecycle::issued(TokenStatus::Inactive),
            changed_at: Wall(2_000),
            attributes: Some((Expiry::parse(b"2911").unwrap(), TokenAssuranceMethod::parse(b"12").unwrap())),
            shown,
        }
    }

    fn shown(par: Option<Par>, step_up: Option<StepUpView>) -> Shown {
        let last4 = Digits::parse("last four", b"0119", 4).unwrap();
        Shown { last4, par, expired: par.is_some(), step_up: step_up.map(Box::new) }
    }

    #[test]
    fn what_was_told_comes_back_the_same_and_cut_short_not_at_all() {
        let par = Par::parse(b"Q0010013020315513942420893974").ok();
        let mut contacts = Contacts::default();
        let address = Text::parse("contact", b"+46 ** *** 12 34").unwrap();
        contacts.add(Contact { number: 1, kind: ContactKind::TextMessage, shown: address });
        let left = |code_until| StepUpView { contacts, codes_left: 2, tries_left: 1, code_until };
        let disclosure = Disclosure { record: 8, mapping_version: 2, purpose: DisclosurePurpose::Refund };
        let card = Box::new((3, Sealed::from_parts(3, [9; 12], &[7; 32]).unwrap()));
        let key_given = NamedKey { record: 8, index: 2, limited: None };
        let expiry = Expiry::parse(b"3105").ok();
        let requestor = TokenRequestorId::parse(b"00000000002").unwrap();
        for told in [
            token(None),
            token(Some(shown(par, None))),
            token(Some(shown(None, Some(left(None))))),
            token(Some(shown(None, Some(left(Some(Wall(7))))))),
            Recalled::Requestor(requestor, None),
            Recalled::Requestor(requestor, Some((3, Wall(7)))),
            Recalled::Card { changed: 3 },
            Recalled::Disclosed { disclosure, card: None, par, at: Wall(7) },
            Recalled::Disclosed { disclosure, card: Some(card), par, at: Wall(7) },
            Recalled::Key(key_given, expiry),
            Recalled::Refused(ProvisioningRefusal::CodeWrong),
        ] {
            let remembered = Remembered { body_digest: [5; 32], told };
            let bytes = encode_request(9, &key(), &remembered);
            assert_eq!(decode_request(&bytes), Some((9, key(), remembered)));
            for length in 0..bytes.len() {
                assert_eq!(decode_request(&bytes[..length]), None, "{length}");
            }
        }
    }

    /// Checkpoints of older versions are read: what they did not remember is told as it is now.
    #[test]
    fn what_older_versions_remembered_is_read() {
        let head =
            [&9_u64.to_be_bytes()[..], &encode_request(0, &key(), &known(token(None)))[8..52]].concat();
        let read = |told: &[u8]| {
            let bytes = [&head[..], told, b"\x03r-1"].concat();
            decode_request(&bytes).map(|(_, _, remembered)| remembered.told)
        };
        let lifecycle = write_lifecycle(&Lifecycle::issued(TokenStatus::Inactive));
        let first = [&[1][..], &7_u64.to_le_bytes(), &lifecycle, &2_000_u64.to_le_bytes()].concat();
        assert_eq!(read(&[&first[..], b"\x01291112"].concat()), Some(token(None)));
        let requestor = TokenRequestorId::parse(b"00000000777").unwrap();
        assert_eq!(read(b"\x0300000000777"), Some(Recalled::Requestor(requestor, None)));
        let disclosure = Disclosure { record: 8, mapping_version: 2, purpose: DisclosurePurpose::Dispute };
        let its = [&8_u64.to_le_bytes()[..], &2_u32.to_le_bytes(), &[1]].concat();
        let at_of = |at| Some(Recalled::Disclosed { disclosure, card: None, par: None, at: Wall(at) });
        assert_eq!(read(&[&[62][..], &its, &[7; 8]].concat()), at_of(0));
        assert_eq!(read(&[&[72][..], &its, &[0], &7_u64.to_le_bytes()].concat()), at_of(7));
    }

    fn known(told: Recalled) -> Remembered {
        Remembered { body_digest: [5; 32], told }
    }
}
