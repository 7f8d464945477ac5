//! `IccData`: DE 55 by name (cryptogram, counter, unpredictable number, TVR and the rest of EMV's tags).

use std::borrow::Cow;

use super::bitmap::DataElement;
use super::error::{DecodeError, DecodeErrorKind, FieldPath, Part};
use super::tlv::{Items, Tag, TlvFault, find, visit_plain, walk, write_head, write_item};
use crate::vocab::ChipPayment;

/// Tags that may stand in DE 55 once only: what a cryptogram is computed over, and what names the card. A second
/// one would let two readers of one message see two payments. In the order of their numbers, to be found quickly.
const ONCE: [Tag; 21] = [
    Tag::TRACK_1_EQUIVALENT,
    Tag::TRACK_2_EQUIVALENT,
    Tag::PAN,
    Tag::AIP,
    Tag::DF_NAME,
    Tag::TVR,
    Tag::TRANSACTION_DATE,
    Tag::TRANSACTION_TYPE,
    Tag::EXPIRY,
    Tag::CURRENCY,
    Tag::SEQUENCE_NUMBER,
    Tag::AMOUNT,
    Tag::AMOUNT_OTHER,
    Tag::IAD,
    Tag::TOKEN_REQUESTOR,
    Tag::TERMINAL_COUNTRY,
    Tag::PAR,
    Tag::CRYPTOGRAM,
    Tag::CID,
    Tag::ATC,
    Tag::UNPREDICTABLE_NUMBER,
];

/// Tags that name the card or its holder; none of them goes from one side of the switch to the other.
pub const CARD_TAGS: [Tag; 9] = [
    Tag::PAN,
    Tag::TRACK_2_EQUIVALENT,
    Tag::TRACK_1_EQUIVALENT,
    Tag::EXPIRY,
    Tag::TRACK_2_DATA,
    Tag::CARDHOLDER_NAME,
    Tag::TRACK_1_DISCRETIONARY,
    Tag::TRACK_2_DISCRETIONARY,
    Tag::SEQUENCE_NUMBER,
];

/// The chip's data, read once. Items inside templates count as if they stood outside.
#[derive(Clone)]
pub struct IccData<'a> {
    bytes: &'a [u8],
    /// The values of the tags in `ONCE`, at their places.
    once: [Option<&'a [u8]>; ONCE.len()],
}

impl<'a> IccData<'a> {
    /// Reads all of it. Tags that nobody knows are kept.
    ///
    /// # Errors
    /// Bytes that are no BER-TLV, too deep or too many items, or `Repeated` for a tag that may come once only;
    /// each at its offset in the value and with the tag in the path.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if let Some(once) = read_plain(bytes) {
            return Ok(Self { bytes, once });
        }
        let mut once = [None; ONCE.len()];
        let walked = walk(bytes, &mut |item| {
            let place = place_of(item.tag).and_then(|place| once.get_mut(place));
            match place.map(|place| place.replace(item.value)) {
                Some(Some(_)) => Err(DecodeErrorKind::Repeated),
                Some(None) | None => Ok(()),
            }
        });
        walked.map_err(|fault| in_icc(&fault))?;
        Ok(Self { bytes, once })
    }

    /// The value of the first item with that tag.
    #[must_use]
    pub fn get(&self, tag: Tag) -> Option<&'a [u8]> {
        if let Some(place) = place_of(tag) {
            return self.once.get(place).copied().flatten();
        }
        find(self.bytes, tag)
    }

    /// The same data without the items of these tags, templates shortened where they held one.
    #[must_use]
    pub fn without(&self, tags: &[Tag]) -> Cow<'a, [u8]> {
        icc_without(self.bytes, tags)
    }

    /// Application cryptogram, 9F26.
    #[must_use]
    pub fn cryptogram(&self) -> Option<[u8; 8]> {
        self.get(Tag::CRYPTOGRAM)?.try_into().ok()
    }

    /// Application transaction counter, 9F36.
    #[must_use]
    pub fn atc(&self) -> Option<u16> {
        self.get(Tag::ATC)?.try_into().ok().map(u16::from_be_bytes)
    }
}

/// Chip data that were read before, without the items of these tags, templates shortened where they held one.
#[must_use]
pub fn icc_without<'a>(bytes: &'a [u8], tags: &[Tag]) -> Cow<'a, [u8]> {
    let mut is_there = false;
    if visit_plain(bytes, |tag, _| is_there |= tags.contains(&tag)) && !is_there {
        return Cow::Borrowed(bytes);
    }
    copy_without(bytes, tags).map_or(Cow::Borrowed(bytes), Cow::Owned)
}

/// DE 55 as a terminal sends it: what a chip signed (EMV Book 2, 8.1.1), that it asks for its issuer's word (ARQC), and
/// the signature.
#[must_use]
pub fn icc_of(chip: &ChipPayment) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    for (tag, value) in [
        (Tag::CRYPTOGRAM, &chip.cryptogram[..]),
        (Tag::CID, &[0x80]),
        (Tag::IAD, chip.issuer_data.as_bytes()),
        (Tag::UNPREDICTABLE_NUMBER, &chip.unpredictable),
        (Tag::ATC, &chip.counter),
        (Tag::TVR, &chip.terminal_results),
        (Tag::TRANSACTION_DATE, &chip.date),
        (Tag::TRANSACTION_TYPE, &chip.kind),
        (Tag::AMOUNT, &chip.amount),
        (Tag::CURRENCY, &chip.currency),
        (Tag::AIP, &chip.profile),
        (Tag::TERMINAL_COUNTRY, &chip.country),
    ] {
        write_item(tag, value, &mut out);
    }
    out
}

/// Of chip data the items of these tags, each whole and as it stands there; what stands inside other templates, or
/// after bytes that cannot be read, is left out.
#[must_use]
pub fn icc_only(bytes: &[u8], tags: &[Tag]) -> Vec<u8> {
    let items = Items::new(bytes, 0).map_while(Result::ok);
    items.filter(|item| tags.contains(&item.tag)).flat_map(|item| item.whole.iter().copied()).collect()
}

/// The values of the tags in `ONCE`, the quick way: `None` for whatever the careful way has to look at.
fn read_plain(bytes: &[u8]) -> Option<[Option<&[u8]>; ONCE.len()]> {
    let mut once = [None; ONCE.len()];
    let mut is_repeated = false;
    let is_plain = visit_plain(bytes, |tag, value| {
        if let Some(place) = place_of(tag).and_then(|place| once.get_mut(place)) {
            is_repeated |= place.replace(value).is_some();
        }
    });
    (is_plain && !is_repeated).then_some(once)
}

fn place_of(tag: Tag) -> Option<usize> {
    ONCE.binary_search(&tag).ok()
}

/// `None` when there is nothing to leave out. The walk cannot fail on bytes that were parsed before.
fn copy_without(bytes: &[u8], tags: &[Tag]) -> Option<Vec<u8>> {
    let mut copy = None;
    let mut copied = 0;
    for item in Items::new(bytes, 0).map_while(Result::ok) {
        let inside = if tags.contains(&item.tag) {
            None
        } else if let Some(inside) =
            item.tag.is_constructed().then(|| copy_without(item.value, tags)).flatten()
        {
            Some(inside)
        } else {
            continue;
        };
        let out = copy.get_or_insert_with(|| Vec::with_capacity(bytes.len()));
        out.extend_from_slice(bytes.get(copied..item.offset).unwrap_or_default());
        copied = item.offset + item.whole.len();
        if let Some(inside) = inside {
            write_head(item.tag, inside.len(), out);
            out.extend_from_slice(&inside);
        }
    }
    if let Some(out) = &mut copy {
        out.extend_from_slice(bytes.get(copied..).unwrap_or_default());
    }
    copy
}

/// The error of a fault in DE 55.
pub(super) fn in_icc(fault: &TlvFault) -> DecodeError {
    let path = FieldPath::of(DataElement::ICC);
    let path = fault.tag.map_or(path, |tag| path.part(Part::Tag(tag)));
    DecodeError::new(path, fault.offset, fault.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        hex::decode(text.replace(' ', "")).unwrap()
    }

    #[test]
    fn values_by_name() {
        let de55 = bytes(
            "9F2608 0102030405060708 9F3602 00FF 9F0206 000000004250 5F2A02 0978 5A08 4761739001010119",
        );
        let icc = IccData::parse(&de55).unwrap();
        assert_eq!(icc.cryptogram(), Some([1, 2, 3, 4, 5, 6, 7, 8]));
        assert_eq!(icc.atc(), Some(255));
        assert_eq!(icc.get(Tag::PAN).map(<[u8]>::len), Some(8));
        assert_eq!(icc.get(Tag::TVR), None);
        assert_eq!(icc.get(Tag::TERMINAL_TYPE), None);
    }

    #[test]
    fn tags_are_found_by_their_order() {
        assert!(ONCE.is_sorted());
        let de55 = bytes("7003 9F3501 9F3501 22");
        assert!(IccData::parse(&de55).is_err());
        let de55 = bytes("7004 9F350121 9F3501 22");
        assert_eq!(IccData::parse(&de55).unwrap().get(Tag::TERMINAL_TYPE), Some(&[0x21][..]), "the first");
    }

    #[test]
    fn card_tags_leave_also_templates() {
        let de55 =
            bytes("9F3602 00FF 5A08 4761739001010119 7010 57084761739001010119 82020000 8400 9F3501 22");
        let icc = IccData::parse(&de55).unwrap();
        assert_eq!(*icc.without(&CARD_TAGS), bytes("9F3602 00FF 7006 82020000 8400 9F3501 22"));
        assert_eq!(*icc.without(&[]), de55);
    }

    #[test]
    fn some_tags_alone_stay_whole() {
        let de55 = bytes("5A08 4761739001010119 9102 0102 7004 8A023030 7105 8603 010203 8A02 3030 95");
        let only = |tags: &[Tag]| icc_only(&de55, tags);
        assert_eq!(only(&[Tag::RESPONSE_CODE]), bytes("8A02 3030"), "none of a template's");
        assert_eq!(
            only(&[Tag::ISSUER_SCRIPT_1, Tag::ISSUER_AUTHENTICATION]),
            bytes("9102 0102 7105 8603 010203"),
            "in their order"
        );
        assert_eq!(only(&[Tag::TVR]), Vec::<u8>::new(), "cut off");
    }

    #[test]
    fn a_second_core_tag_is_refused_wherever_it_stands() {
        for (text, path) in [
            ("9F360200FF 9F36020100", "55.9F36 at byte 5: there twice"),
            ("9F360200FF 70059F36020100", "55.9F36 at byte 7: there twice"),
            ("5A00 5A00", "55.5A at byte 2: there twice"),
        ] {
            assert_eq!(IccData::parse(&bytes(text)).map(|_| ()).unwrap_err().to_string(), path);
        }
        assert!(IccData::parse(&bytes("9F7C00 9F7C00")).is_ok(), "others may repeat");
    }
}
