//! Axis 2, how a length is announced: by L to LLLL digits in any encoding, before a value that varies.

use super::error::DecodeErrorKind;
use super::reader::Reader;

/// How the digits of a length lie in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LengthEncoding {
    Ascii,
    Ebcdic,
    /// Two digits a byte, filled with a zero on the left.
    Bcd,
    /// A binary number: one byte for L and LL, two for LLL and LLLL.
    Binary,
}

/// The length before a value: `LL` or `LLL`, as a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LengthPrefix {
    digits: u8,
    encoding: LengthEncoding,
}

impl LengthPrefix {
    /// The most digits.
    pub const MOST_DIGITS: u8 = 4;

    /// A length of 1 to 4 digits.
    #[must_use]
    pub fn new(digits: u8, encoding: LengthEncoding) -> Option<Self> {
        (1..=Self::MOST_DIGITS).contains(&digits).then_some(Self { digits, encoding })
    }

    /// The highest length it can announce.
    #[must_use]
    pub fn most(self) -> usize {
        match (self.encoding, self.digits) {
            (LengthEncoding::Binary, 1 | 2) => 0xFF,
            (LengthEncoding::Binary, _) => 0xFFFF,
            (_, digits) => 10_usize.pow(u32::from(digits)) - 1,
        }
    }

    /// How many ASCII digits it is; `None` in another encoding.
    pub(super) fn ascii_digits(self) -> Option<u8> {
        (self.encoding == LengthEncoding::Ascii).then_some(self.digits)
    }

    /// How many bytes it takes.
    #[inline]
    pub(super) fn wire_length(self) -> usize {
        match self.encoding {
            LengthEncoding::Ascii | LengthEncoding::Ebcdic => usize::from(self.digits),
            LengthEncoding::Bcd | LengthEncoding::Binary => usize::from(self.digits).div_ceil(2),
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// `Short` or `LengthNotANumber`.
    #[inline]
    pub(super) fn read(self, reader: &mut Reader<'_>) -> Result<usize, DecodeErrorKind> {
        let bytes = reader
            .take(self.wire_length())
            .map_err(|short| DecodeErrorKind::Short { needed: short.needed, left: short.left })?;
        let number = match self.encoding {
            LengthEncoding::Ascii => digits(bytes, b'0'),
            LengthEncoding::Ebcdic => digits(bytes, EBCDIC_ZERO),
            LengthEncoding::Bcd => bytes.iter().try_fold(0, |sum, byte| {
                let (high, low) = (usize::from(byte >> 4), usize::from(byte & 0x0F));
                (high < 10 && low < 10).then_some(sum * 100 + high * 10 + low)
            }),
            LengthEncoding::Binary => Some(bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))),
        };
        number.ok_or(DecodeErrorKind::LengthNotANumber)
    }

    /// Appends a length that does not exceed `most`.
    #[inline]
    pub(super) fn write(self, length: usize, out: &mut Vec<u8>) {
        let low = |number: usize| u8::try_from(number).unwrap_or_default();
        let digits =
            [low(length / 1000 % 10), low(length / 100 % 10), low(length / 10 % 10), low(length % 10)];
        let [a, b, c, d] = digits;
        let bytes = match self.encoding {
            LengthEncoding::Ascii => digits.map(|digit| b'0' | digit),
            LengthEncoding::Ebcdic => digits.map(|digit| EBCDIC_ZERO | digit),
            LengthEncoding::Bcd => [0, 0, a << 4 | b, c << 4 | d],
            LengthEncoding::Binary => [0, 0, low(length / 256), low(length % 256)],
        };
        let unused = bytes.len().saturating_sub(self.wire_length());
        out.extend_from_slice(bytes.get(unused..).unwrap_or_default());
    }
}

const EBCDIC_ZERO: u8 = 0xF0;

#[inline]
fn digits(bytes: &[u8], zero: u8) -> Option<usize> {
    bytes.iter().try_fold(0, |sum, byte| {
        let digit = byte.wrapping_sub(zero);
        (digit < 10).then_some(sum * 10 + usize::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [LengthEncoding; 4] =
        [LengthEncoding::Ascii, LengthEncoding::Ebcdic, LengthEncoding::Bcd, LengthEncoding::Binary];

    #[test]
    fn every_length_there_and_back() {
        for encoding in ALL {
            for digits in 1..=4 {
                let prefix = LengthPrefix::new(digits, encoding).unwrap();
                for length in 0..=prefix.most().min(9_999) {
                    let mut out = Vec::new();
                    prefix.write(length, &mut out);
                    assert_eq!(out.len(), prefix.wire_length());
                    let mut reader = Reader::new(&out);
                    assert_eq!(prefix.read(&mut reader), Ok(length), "{encoding:?} {digits}");
                }
            }
        }
        assert_eq!(LengthPrefix::new(0, LengthEncoding::Ascii), None);
        assert_eq!(LengthPrefix::new(5, LengthEncoding::Ascii), None);
    }

    #[test]
    fn lengths_lie_as_their_encoding_says() {
        use LengthEncoding::{Ascii, Bcd, Binary, Ebcdic};
        for (digits, encoding, wire) in [
            (3, Ascii, &b"037"[..]),
            (2, Ebcdic, b"\xF3\xF7"),
            (2, Bcd, b"\x37"),
            (3, Bcd, b"\x00\x37"),
            (2, Binary, b"\x25"),
            (3, Binary, b"\x00\x25"),
        ] {
            let mut out = Vec::new();
            LengthPrefix::new(digits, encoding).unwrap().write(37, &mut out);
            assert_eq!(out, wire, "{encoding:?} {digits}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for (digits, encoding, wire) in [
            (2, LengthEncoding::Ascii, &b"1x"[..]),
            (2, LengthEncoding::Ascii, b"+1"),
            (2, LengthEncoding::Ebcdic, b"37"),
            (2, LengthEncoding::Bcd, b"\x3A"),
        ] {
            let prefix = LengthPrefix::new(digits, encoding).unwrap();
            let read = prefix.read(&mut Reader::new(wire));
            assert_eq!(read, Err(DecodeErrorKind::LengthNotANumber), "{wire:?}");
        }
        let prefix = LengthPrefix::new(3, LengthEncoding::Ascii).unwrap();
        let read = prefix.read(&mut Reader::new(b"03"));
        assert_eq!(read, Err(DecodeErrorKind::Short { needed: 3, left: 2 }));
    }
}
