//! Axis 1, how characters lie in bytes: ASCII, EBCDIC, packed digits (BCD), raw, hexadecimal.

use super::attribute::Class;
use super::error::DecodeErrorKind;
use super::padding::Padding;
use super::words;

/// How an element's characters lie in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// A byte a character. Canonical as it stands.
    Ascii,
    /// A byte a character, code page 037.
    Ebcdic,
    /// Two digits a byte, the first one high; the separator of track data is `D`. A sign (`x+n`) goes before as an
    /// ASCII character.
    Bcd(Padding),
    /// Bytes as they are. Canonical as they stand.
    Raw,
    /// Two hexadecimal characters a byte: capitals are written, both are read.
    Hex,
}

impl Encoding {
    /// How many bytes of the wire hold `count` characters (bytes, for class b) of `class`.
    #[inline]
    pub(super) fn wire_length(self, class: Class, count: usize) -> usize {
        match self {
            Self::Ascii | Self::Ebcdic | Self::Raw => count,
            Self::Bcd(_) if class == Class::SignedNumeric => 1 + count.saturating_sub(1).div_ceil(2),
            Self::Bcd(_) => count.div_ceil(2),
            Self::Hex => count * 2,
        }
    }

    /// Whether the bytes of the wire are the canonical value.
    #[inline]
    pub(super) fn is_canonical(self) -> bool {
        matches!(self, Self::Ascii | Self::Raw)
    }

    /// Whether values of `class` can lie so.
    pub(super) fn suits(self, class: Class) -> bool {
        match class {
            Class::Binary => matches!(self, Self::Raw | Self::Hex),
            Class::Numeric | Class::Track | Class::SignedNumeric => {
                matches!(self, Self::Ascii | Self::Ebcdic | Self::Bcd(_))
            }
            Class::Alphabetic | Class::Alphanumeric | Class::Text => {
                matches!(self, Self::Ascii | Self::Ebcdic)
            }
        }
    }

    /// Writes the canonical form of `wire` to `place`, which has the value's length. Characters that the class does
    /// not have come out as others that it does not have, so that its check finds them.
    ///
    /// # Errors
    /// `Padding` or `NotHex`.
    pub(super) fn expand(self, class: Class, wire: &[u8], place: &mut [u8]) -> Result<(), DecodeErrorKind> {
        match (self, wire) {
            (Self::Bcd(padding), [sign, digits @ ..]) if class == Class::SignedNumeric => {
                let Some((first, place)) = place.split_first_mut() else { return Ok(()) };
                *first = *sign;
                unpack_filled(digits, padding, place)
            }
            (Self::Bcd(padding), _) => unpack_filled(wire, padding, place),
            (Self::Ascii | Self::Ebcdic | Self::Raw, _) => {
                place.iter_mut().zip(wire).for_each(|(place, byte)| *place = *byte);
                if self == Self::Ebcdic {
                    from_ebcdic(place);
                }
                Ok(())
            }
            (Self::Hex, _) => hex::decode_to_slice(wire, place).map_err(|_| DecodeErrorKind::NotHex),
        }
    }

    /// Appends a canonical value that its class admits.
    #[inline]
    pub(super) fn write(self, class: Class, value: &[u8], out: &mut Vec<u8>) {
        match (self, value) {
            (Self::Ascii | Self::Raw, _) => out.extend_from_slice(value),
            (Self::Ebcdic, _) => out.extend(value.iter().map(|byte| to_ebcdic(*byte))),
            (Self::Bcd(padding), [sign, digits @ ..]) if class == Class::SignedNumeric => {
                out.push(*sign);
                pack_filled(digits, padding, out);
            }
            (Self::Bcd(padding), _) => pack_filled(value, padding, out),
            (Self::Hex, _) => {
                out.extend(value.iter().flat_map(|byte| [hex_digit(byte >> 4), hex_digit(byte & 0x0F)]));
            }
        }
    }
}

/// The capital hexadecimal character of the low half of a byte.
pub(super) fn hex_digit(nibble: u8) -> u8 {
    match nibble & 0x0F {
        digit @ 0..=9 => b'0' + digit,
        letter => b'A' + (letter - 10),
    }
}

/// Unpacks as many digits as there is place for. An odd number leaves a half byte over, which has to hold what the
/// padding says.
fn unpack_filled(wire: &[u8], padding: Padding, place: &mut [u8]) -> Result<(), DecodeErrorKind> {
    let missing = DecodeErrorKind::Padding;
    if place.len().is_multiple_of(2) {
        unpack(wire, place);
        return Ok(());
    }
    let ((digit, place), (digit_in, fill), wire) = if padding.is_left() {
        let (first, rest) = wire.split_first().ok_or(missing)?;
        (place.split_first_mut().ok_or(missing)?, (first & 0x0F, first >> 4), rest)
    } else {
        let (last, rest) = wire.split_last().ok_or(missing)?;
        (place.split_last_mut().ok_or(missing)?, (last >> 4, last & 0x0F), rest)
    };
    *digit = character(digit_in);
    unpack(wire, place);
    if fill == padding.fill() { Ok(()) } else { Err(missing) }
}

/// Two characters a byte: 0 to 9 as digits, A to F as `:` to `?`, so that D is the separator `=`.
#[inline]
pub(super) fn unpack(wire: &[u8], place: &mut [u8]) {
    let (chunks, rest) = place.as_chunks_mut::<16>();
    let (packed, rest_of_wire) = wire.as_chunks::<8>();
    for (chunk, packed) in chunks.iter_mut().zip(packed) {
        unpack_pairs(packed, chunk);
    }
    let (words, rest) = rest.as_chunks_mut::<8>();
    let (packed, rest_of_wire) = rest_of_wire.as_chunks::<4>();
    for (word, packed) in words.iter_mut().zip(packed) {
        *word = words::unpack(*packed);
    }
    unpack_pairs(rest_of_wire, rest);
}

#[inline]
fn unpack_pairs(wire: &[u8], place: &mut [u8]) {
    let (pairs, _) = place.as_chunks_mut::<2>();
    for (pair, byte) in pairs.iter_mut().zip(wire) {
        *pair = [character(byte >> 4), character(byte & 0x0F)];
    }
}

fn character(nibble: u8) -> u8 {
    b'0' + nibble
}

fn pack_filled(value: &[u8], padding: Padding, out: &mut Vec<u8>) {
    if value.len().is_multiple_of(2) {
        pack(value, out);
    } else if padding.is_left()
        && let Some((first, rest)) = value.split_first()
    {
        out.push(padding.fill() << 4 | nibble(*first));
        pack(rest, out);
    } else if let Some((last, rest)) = value.split_last() {
        pack(rest, out);
        out.push(nibble(*last) << 4 | padding.fill());
    }
}

/// Appends an even number of characters, two a byte.
pub(super) fn pack(value: &[u8], out: &mut Vec<u8>) {
    let (words, rest) = value.as_chunks::<8>();
    for word in words {
        out.extend_from_slice(&words::pack(*word));
    }
    let (pairs, _) = rest.as_chunks::<2>();
    out.extend(pairs.iter().map(|[high, low]| nibble(*high) << 4 | nibble(*low)));
}

/// Digits and `=` have their value in the low half; the separator may also be written `D`.
fn nibble(character: u8) -> u8 {
    if character == b'D' { 0xD } else { character & 0x0F }
}

/// What stands for a byte that is no character here.
const NO_CHARACTER: u8 = 0;

/// The EBCDIC byte of a printable ASCII character.
pub(super) fn to_ebcdic(ascii: u8) -> u8 {
    let place = usize::from(ascii).checked_sub(usize::from(b' '));
    place.and_then(|place| EBCDIC.get(place)).copied().unwrap_or(NO_CHARACTER)
}

fn from_ebcdic(bytes: &mut [u8]) {
    for byte in bytes {
        *byte = FROM_EBCDIC.get(usize::from(*byte)).copied().unwrap_or(NO_CHARACTER);
    }
}

/// Code page 037 of the printable ASCII characters, from the blank on.
#[rustfmt::skip]
static EBCDIC: [u8; 96] = [
    0x40, 0x5A, 0x7F, 0x7B, 0x5B, 0x6C, 0x50, 0x7D, 0x4D, 0x5D, 0x5C, 0x4E, 0x6B, 0x60, 0x4B, 0x61,
    0xF0, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0x7A, 0x5E, 0x4C, 0x7E, 0x6E, 0x6F,
    0x7C, 0xC1, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xD1, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6,
    0xD7, 0xD8, 0xD9, 0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xBA, 0xE0, 0xBB, 0xB0, 0x6D,
    0x79, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x91, 0x92, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xC0, 0x4F, 0xD0, 0xA1, 0x00,
];

static FROM_EBCDIC: [u8; 256] = ebcdic_reversed();

#[allow(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "a table made when compiling")]
const fn ebcdic_reversed() -> [u8; 256] {
    let mut table = [NO_CHARACTER; 256];
    let mut place = 0;
    while place < 95 {
        table[EBCDIC[place] as usize] = b' ' + place as u8;
        place += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(
        encoding: Encoding,
        class: Class,
        wire: &[u8],
        count: usize,
    ) -> Result<Vec<u8>, DecodeErrorKind> {
        let mut place = vec![0; count];
        encoding.expand(class, wire, &mut place).map(|()| place)
    }

    #[test]
    fn values_there_and_back() {
        use Class::{Binary, Numeric, SignedNumeric, Text, Track};
        let left = Encoding::Bcd(Padding::LeftZero);
        for (encoding, class, value, wire) in [
            (Encoding::Ascii, Text, &b"TERM 1"[..], &b"TERM 1"[..]),
            (Encoding::Ebcdic, Text, b"AZ az09=", b"\xC1\xE9\x40\x81\xA9\xF0\xF9\x7E"),
            (left, Numeric, b"978", b"\x09\x78"),
            (Encoding::Bcd(Padding::RightZero), Numeric, b"978", b"\x97\x80"),
            (Encoding::Bcd(Padding::RightF), Numeric, b"978", b"\x97\x8F"),
            (left, Numeric, b"1234", b"\x12\x34"),
            (left, Track, b"12=34", b"\x01\x2D\x34"),
            (left, SignedNumeric, b"C00000123", b"C\x00\x00\x01\x23"),
            (left, SignedNumeric, b"D123", b"D\x01\x23"),
            (Encoding::Raw, Binary, b"\x00\xFF", b"\x00\xFF"),
            (Encoding::Hex, Binary, b"\x00\xAF", b"00AF"),
        ] {
            assert!(encoding.suits(class));
            assert_eq!(encoding.wire_length(class, value.len()), wire.len(), "{encoding:?}");
            assert_eq!(expanded(encoding, class, wire, value.len()).as_deref(), Ok(value), "{encoding:?}");
            let mut written = Vec::new();
            encoding.write(class, value, &mut written);
            assert_eq!(written, wire, "{encoding:?}");
        }
        let mut written = Vec::new();
        left.write(Track, b"12D345", &mut written);
        assert_eq!(written, b"\x12\xD3\x45", "a separator written as D");
    }

    #[test]
    fn what_is_no_value_is_told_or_fails_its_class() {
        let left = Encoding::Bcd(Padding::LeftZero);
        assert_eq!(expanded(left, Class::Numeric, b"\x19\x78", 3), Err(DecodeErrorKind::Padding));
        let right = Encoding::Bcd(Padding::RightF);
        assert_eq!(expanded(right, Class::Numeric, b"\x97\x80", 3), Err(DecodeErrorKind::Padding));
        assert_eq!(expanded(Encoding::Hex, Class::Binary, b"0G", 1), Err(DecodeErrorKind::NotHex));
        for nibble in 0xA..=0xF {
            let value = expanded(left, Class::Numeric, &[0x10 | nibble], 2).unwrap();
            assert!(!Class::Numeric.admits(&value));
            assert_eq!(Class::Track.admits(&value), nibble == 0xD);
        }
        let ebcdic = expanded(Encoding::Ebcdic, Class::Text, &[0x00], 1).unwrap();
        assert!(!Class::Text.admits(&ebcdic));
    }

    #[test]
    fn ebcdic_has_one_byte_for_each_printable_character() {
        for ascii in b' '..=b'~' {
            let mut byte = [to_ebcdic(ascii)];
            from_ebcdic(&mut byte);
            assert_eq!(byte, [ascii]);
        }
        assert_eq!(to_ebcdic(0x7F), NO_CHARACTER);
    }
}
