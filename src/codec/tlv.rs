//! BER-TLV as EMV uses it (Book 3 annex B): `Tag`, `Tlv`, and a walk over nested data whose depth and number of
//! items are bounded.

use std::fmt;

use super::error::DecodeErrorKind;
use super::reader::Reader;

/// How many levels of items there may be. EMV needs two (a template in DE 55).
pub const MOST_DEPTH: usize = 4;
/// How many items one value may hold, at all depths.
pub const MOST_ITEMS: usize = 64;
/// How many bytes a tag may have.
const MOST_TAG_BYTES: usize = 3;

/// A tag of one to three bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(u32);

macro_rules! tags {
    ($($(#[$doc:meta])* $name:ident = $tag:literal;)*) => {
        impl Tag {
            $($(#[$doc])* pub const $name: Self = Self($tag);)*
        }
    };
}

tags! {
    TRACK_1_EQUIVALENT = 0x56;
    TRACK_2_EQUIVALENT = 0x57;
    PAN = 0x5A;
    CARDHOLDER_NAME = 0x5F20;
    EXPIRY = 0x5F24;
    /// Transaction currency code.
    CURRENCY = 0x5F2A;
    /// PAN sequence number.
    SEQUENCE_NUMBER = 0x5F34;
    ISSUER_SCRIPT_1 = 0x71;
    ISSUER_SCRIPT_2 = 0x72;
    /// Application interchange profile.
    AIP = 0x82;
    /// Dedicated file name.
    DF_NAME = 0x84;
    /// Authorization response code.
    RESPONSE_CODE = 0x8A;
    /// Issuer authentication data.
    ISSUER_AUTHENTICATION = 0x91;
    /// Terminal verification results.
    TVR = 0x95;
    TRANSACTION_DATE = 0x9A;
    TRANSACTION_TYPE = 0x9C;
    /// Amount, authorized.
    AMOUNT = 0x9F02;
    /// Amount, other.
    AMOUNT_OTHER = 0x9F03;
    /// Application version number of the terminal.
    APPLICATION_VERSION = 0x9F09;
    /// Issuer application data.
    IAD = 0x9F10;
    TOKEN_REQUESTOR = 0x9F19;
    TERMINAL_COUNTRY = 0x9F1A;
    /// Interface device serial number.
    DEVICE_SERIAL = 0x9F1E;
    TRACK_1_DISCRETIONARY = 0x9F1F;
    TRACK_2_DISCRETIONARY = 0x9F20;
    /// Payment account reference.
    PAR = 0x9F24;
    LAST_4 = 0x9F25;
    /// Application cryptogram.
    CRYPTOGRAM = 0x9F26;
    /// Cryptogram information data.
    CID = 0x9F27;
    TERMINAL_CAPABILITIES = 0x9F33;
    CVM_RESULTS = 0x9F34;
    TERMINAL_TYPE = 0x9F35;
    /// Application transaction counter.
    ATC = 0x9F36;
    UNPREDICTABLE_NUMBER = 0x9F37;
    /// Transaction sequence counter of the terminal.
    SEQUENCE_COUNTER = 0x9F41;
    /// What a contactless terminal can do and wants.
    TERMINAL_QUALIFIERS = 0x9F66;
    TRACK_2_DATA = 0x9F6B;
    FORM_FACTOR = 0x9F6E;
}

impl Tag {
    /// The tag written by these bytes; `None` unless they are one whole tag.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let tag = read_tag(&mut reader)?;
        reader.is_empty().then_some(tag)
    }

    /// Whether its value is made of further items (X.690 8.1.2.5: bit 6 of the first byte).
    #[must_use]
    pub fn is_constructed(self) -> bool {
        let [_, a, b, c] = self.0.to_be_bytes();
        [a, b, c].into_iter().find(|byte| *byte != 0).is_some_and(|first| first & 0x20 != 0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X}", self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One item: a tag and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tlv<'a> {
    pub tag: Tag,
    pub value: &'a [u8],
    /// Tag, length and value as they were sent.
    pub whole: &'a [u8],
    /// Where `whole` begins.
    pub offset: usize,
}

/// A fault in BER-TLV: how far into the value, inside which tag, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlvFault {
    pub offset: usize,
    pub tag: Option<Tag>,
    pub kind: DecodeErrorKind,
}

/// The items on one level of `bytes`, of which the first begins at `offset` of the whole.
pub(super) struct Items<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Items<'a> {
    pub(super) fn new(bytes: &'a [u8], offset: usize) -> Self {
        Self { bytes, offset }
    }

    #[inline]
    fn read(&mut self) -> Result<Tlv<'a>, TlvFault> {
        let mut reader = Reader::new(self.bytes);
        let fault = |tag, kind| TlvFault { offset: self.offset, tag, kind };
        let tag = read_tag(&mut reader).ok_or(fault(None, DecodeErrorKind::Tlv))?;
        let length = read_length(&mut reader).ok_or(fault(Some(tag), DecodeErrorKind::Tlv))?;
        let value = reader.take(length).map_err(|short| fault(Some(tag), short.into()))?;
        let offset = self.offset;
        let (whole, rest) =
            self.bytes.split_at_checked(reader.offset()).ok_or(fault(Some(tag), DecodeErrorKind::Tlv))?;
        self.bytes = rest;
        self.offset += whole.len();
        Ok(Tlv { tag, value, whole, offset })
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Tlv<'a>, TlvFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let item = self.read();
        if item.is_err() {
            self.bytes = &[];
        }
        Some(item)
    }
}

/// Whether `bytes` are whole items of the usual kind (one or two bytes of tag, a length of one byte, none
/// nested), few enough. When they are not, `walk` says what they are.
pub(super) fn are_plain(bytes: &[u8]) -> bool {
    visit_plain(bytes, |_, _| ())
}

/// Visits items of the usual kind in order; false, and no further, at the first that is of another.
#[inline]
pub(super) fn visit_plain<'a>(bytes: &'a [u8], mut visit: impl FnMut(Tag, &'a [u8])) -> bool {
    let mut rest = bytes;
    for _ in 0..MOST_ITEMS {
        let [first, second, tail @ ..] = rest else { break };
        let start = [*first, *second, tail.first().copied().unwrap_or(NO_LENGTH)];
        let Some((tag, item, after)) = plain_head(start)
            .and_then(|(tag, head, end)| Some((tag, rest.get(head..end)?, rest.get(end..)?)))
        else {
            return false;
        };
        visit(tag, item);
        rest = after;
    }
    rest.is_empty()
}

/// The value of the first item with that tag, wherever it stands in `bytes`, which were read before.
pub(super) fn find(bytes: &[u8], tag: Tag) -> Option<&[u8]> {
    let mut found = None;
    let is_plain = visit_plain(bytes, |other, value| {
        if other == tag {
            found.get_or_insert(value);
        }
    });
    if !is_plain {
        found = None;
        let _ = walk(bytes, &mut |item| {
            if item.tag == tag {
                found.get_or_insert(item.value);
            }
            Ok(())
        });
    }
    found
}

/// What no short length is.
const NO_LENGTH: u8 = 0xFF;

/// Of an item of the usual kind that begins with these bytes: its tag, where its value begins, and where it ends.
#[inline]
fn plain_head([first, second, third]: [u8; 3]) -> Option<(Tag, usize, usize)> {
    let is_long = first & 0x1F == 0x1F;
    let (tag, head, length) = if is_long {
        (u32::from(first) << 8 | u32::from(second), 3, third)
    } else {
        (u32::from(first), 2, second)
    };
    let is_plain = first & 0x20 == 0 && first != 0 && length <= 0x7F && (!is_long || second <= 0x7F);
    is_plain.then_some((Tag(tag), head, head + usize::from(length)))
}

/// Visits every item that holds no further ones, at all depths, in order.
///
/// # Errors
/// The first fault: bytes that are no TLV, too deep, too many items, or what `visit` says.
pub(super) fn walk<'a>(
    bytes: &'a [u8],
    visit: &mut impl FnMut(Tlv<'a>) -> Result<(), DecodeErrorKind>,
) -> Result<(), TlvFault> {
    let mut seen = 0;
    walk_level(Items::new(bytes, 0), 1, &mut seen, visit)
}

fn walk_level<'a>(
    items: Items<'a>,
    depth: usize,
    seen: &mut usize,
    visit: &mut impl FnMut(Tlv<'a>) -> Result<(), DecodeErrorKind>,
) -> Result<(), TlvFault> {
    for item in items {
        let item = item?;
        let fault = |kind| TlvFault { offset: item.offset, tag: Some(item.tag), kind };
        *seen += 1;
        if *seen > MOST_ITEMS {
            return Err(fault(DecodeErrorKind::TooMany { most: MOST_ITEMS }));
        }
        if !item.tag.is_constructed() {
            visit(item).map_err(fault)?;
        } else if depth == MOST_DEPTH {
            return Err(fault(DecodeErrorKind::TooDeep { most: MOST_DEPTH }));
        } else {
            let inside = item.offset + item.whole.len() - item.value.len();
            walk_level(Items::new(item.value, inside), depth + 1, seen, visit)?;
        }
    }
    Ok(())
}

/// X.690 8.1.2: the low five bits all set mean that more bytes follow, the last of which has its high bit clear.
/// A tag never begins with a zero byte.
#[inline]
fn read_tag(reader: &mut Reader<'_>) -> Option<Tag> {
    let first = reader.byte().filter(|byte| *byte != 0)?;
    let mut tag = u32::from(first);
    if first & 0x1F == 0x1F {
        for read in 2..=MOST_TAG_BYTES {
            let byte = reader.byte()?;
            tag = tag << 8 | u32::from(byte);
            if byte & 0x80 == 0 {
                return Some(Tag(tag));
            }
            if read == MOST_TAG_BYTES {
                return None;
            }
        }
    }
    Some(Tag(tag))
}

/// X.690 8.1.3, definite form, of at most two length bytes (81, 82).
#[inline]
fn read_length(reader: &mut Reader<'_>) -> Option<usize> {
    match reader.byte()? {
        short @ 0..=0x7F => Some(usize::from(short)),
        0x81 => reader.byte().map(usize::from),
        0x82 => Some(usize::from(u16::from_be_bytes([reader.byte()?, reader.byte()?]))),
        _ => None,
    }
}

/// Writes tag and length of an item whose value follows; nothing when the value is longer than two bytes can say.
/// Appends an item. A value of more than 65,535 bytes has no place in a message; nothing is written of it.
pub fn write_item(tag: Tag, value: &[u8], out: &mut Vec<u8>) {
    if u16::try_from(value.len()).is_ok() {
        write_head(tag, value.len(), out);
        out.extend_from_slice(value);
    }
}

pub(super) fn write_head(tag: Tag, length: usize, out: &mut Vec<u8>) {
    let Ok(length) = u16::try_from(length) else { return };
    out.extend(tag.0.to_be_bytes().into_iter().skip_while(|byte| *byte == 0));
    match length.to_be_bytes() {
        [0, short @ 0..=0x7F] => out.push(short),
        [0, byte] => out.extend_from_slice(&[0x81, byte]),
        [high, low] => out.extend_from_slice(&[0x82, high, low]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(text: &str) -> Result<Vec<(String, usize)>, (usize, DecodeErrorKind)> {
        let bytes = hex::decode(text).unwrap();
        let mut found = Vec::new();
        let visited = walk(&bytes, &mut |item| {
            found.push((item.tag.to_string(), item.offset));
            Ok(())
        });
        visited.map(|()| found).map_err(|fault| (fault.offset, fault.kind))
    }

    #[test]
    fn items_at_all_depths_come_in_order() {
        let found = leaves("9F2608010203040506070870079F360200015A008201009F37810401020304").unwrap();
        let tags: Vec<_> = found.iter().map(|(tag, at)| (tag.as_str(), *at)).collect();
        assert_eq!(tags, [("9F26", 0), ("9F36", 13), ("5A", 18), ("82", 20), ("9F37", 23)]);
    }

    #[test]
    fn plain_items_are_told_from_others() {
        for (text, plain) in [
            ("", true),
            ("9F3602000182027C00", true),
            ("70028200", false),
            ("5A8100", false),
            ("9F36", false),
            ("00", false),
        ] {
            assert_eq!(are_plain(&hex::decode(text).unwrap()), plain, "{text}");
        }
        assert!(are_plain(&[0x82, 0].repeat(MOST_ITEMS)) && !are_plain(&[0x82, 0].repeat(MOST_ITEMS + 1)));
    }

    #[test]
    fn faults_are_placed() {
        use DecodeErrorKind::{Short, Tlv as NoTlv, TooDeep};
        for (text, offset, kind) in [
            ("9F", 0, NoTlv),
            ("00", 0, NoTlv),
            ("9F2608", 0, Short { needed: 8, left: 0 }),
            ("8200FF", 2, NoTlv),
            ("820083", 2, NoTlv),
            ("8280", 0, NoTlv),
            ("7003820501", 2, Short { needed: 5, left: 1 }),
            ("DF8181810100", 0, NoTlv),
            ("700870067004700270008200", 6, TooDeep { most: MOST_DEPTH }),
        ] {
            assert_eq!(leaves(text), Err((offset, kind)), "{text}");
        }
        assert_eq!(
            leaves(&"8200".repeat(MOST_ITEMS + 1)),
            Err((MOST_ITEMS * 2, DecodeErrorKind::TooMany { most: MOST_ITEMS }))
        );
    }

    #[test]
    fn heads_are_written_in_the_shortest_form() {
        for (tag, length, written) in
            [(0x5A, 8, "5A08"), (0x9F26, 0x80, "9F268180"), (0xDF_8101, 0x100, "DF8101820100")]
        {
            let mut out = Vec::new();
            write_head(Tag(tag), length, &mut out);
            assert_eq!(hex::encode_upper(out), written);
        }
    }

    #[test]
    fn tags_know_their_shape() {
        assert_eq!(Tag::from_bytes(&[0x9F, 0x26]), Some(Tag::CRYPTOGRAM));
        assert_eq!(Tag::from_bytes(&[0x9F]), None);
        assert_eq!(Tag::from_bytes(&[0x5A, 0x00]), None);
        assert!(Tag::ISSUER_SCRIPT_1.is_constructed());
        assert!(!Tag::CRYPTOGRAM.is_constructed() && !Tag::PAN.is_constructed());
    }
}
