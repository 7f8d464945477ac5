//! Axis 2, how a length is announced: by L to LLLL digits in any encoding, before a value that varies.

use super::encoding::{hex_digit, to_ebcdic};
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

    /// How many bytes it takes.
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
            LengthEncoding::Ebcdic => digits(bytes, 0xF0),
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
        let start = out.len();
        out.resize(start + self.wire_length(), 0);
        let mut rest = length;
        for byte in out.iter_mut().skip(start).rev() {
            let low = |number: usize| u8::try_from(number).unwrap_or_default();
            match self.encoding {
                LengthEncoding::Ascii => *byte = hex_digit(low(rest % 10)),
                LengthEncoding::Ebcdic => *byte = to_ebcdic(hex_digit(low(rest % 10))),
                LengthEncoding::Bcd => *byte = low(rest / 10 % 10) << 4 | low(rest % 10),
                LengthEncoding::Binary => *byte = low(rest % 256),
            }
            rest /= match self.encoding {
                LengthEncoding::Ascii | LengthEncoding::Ebcdic => 10,
                LengthEncoding::Bcd => 100,
                LengthEncoding::Binary => 256,
            };
        }
    }
}

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
