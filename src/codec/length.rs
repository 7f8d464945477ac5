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

    pub(super) fn encoding(self) -> LengthEncoding {
        self.encoding
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
        let bytes = reader.take(self.wire_length())?;
        let number = match self.encoding {
            LengthEncoding::Ascii => digits(bytes, b'0'),
            LengthEncoding::Ebcdic => digits(bytes, EBCDIC_ZERO),
            LengthEncoding::Bcd => match bytes {
                [low] => pair(*low),
                [high, low] => pair(*high).zip(pair(*low)).map(|(high, low)| high * 100 + low),
                _ => None,
            },
            LengthEncoding::Binary => Some(bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))),
        };
        number.ok_or(DecodeErrorKind::LengthNotANumber)
    }

    /// Appends a length that does not exceed `most`.
    #[inline]
    pub(super) fn write(self, length: usize, out: &mut Vec<u8>) {
        let digits = decimal(length);
        let [a, b, c, d] = digits;
        let [.., high, low] = length.to_be_bytes();
        let bytes = match self.encoding {
            LengthEncoding::Ascii => digits.map(|digit| b'0' | digit),
            LengthEncoding::Ebcdic => digits.map(|digit| EBCDIC_ZERO | digit),
            LengthEncoding::Bcd => [0, 0, a << 4 | b, c << 4 | d],
            LengthEncoding::Binary => [0, 0, high, low],
        };
        // Each of its own size: a copy of bytes whose number is known is no call.
        match (self.wire_length(), bytes) {
            (1, [.., d]) => out.push(d),
            (2, [.., c, d]) => out.extend_from_slice(&[c, d]),
            (3, [_, b, c, d]) => out.extend_from_slice(&[b, c, d]),
            _ => out.extend_from_slice(&bytes),
        }
    }
}

/// The last four digits of a number.
#[inline]
pub(super) fn decimal(number: usize) -> [u8; 4] {
    // Most lengths have two digits, and divisions are slow.
    let (high, low) = if number < 100 { (0, number) } else { (number / 100 % 100, number % 100) };
    let pair = |number: usize| {
        let number = u8::try_from(number).unwrap_or_default();
        let tens = number / 10;
        [tens, number - tens * 10]
    };
    let ([a, b], [c, d]) = (if high == 0 { [0, 0] } else { pair(high) }, pair(low));
    [a, b, c, d]
}

const EBCDIC_ZERO: u8 = 0xF0;

#[inline]
fn digits(bytes: &[u8], zero: u8) -> Option<usize> {
    match bytes {
        [c, d] => Some(digit(*c, zero)? * 10 + digit(*d, zero)?),
        [b, c, d] => Some(digit(*b, zero)? * 100 + digit(*c, zero)? * 10 + digit(*d, zero)?),
        _ => bytes.iter().try_fold(0, |sum, byte| Some(sum * 10 + digit(*byte, zero)?)),
    }
}

#[inline]
fn digit(byte: u8, zero: u8) -> Option<usize> {
    let digit = byte.wrapping_sub(zero);
    (digit < 10).then_some(usize::from(digit))
}

/// Two digits in one byte.
#[inline]
fn pair(byte: u8) -> Option<usize> {
    let (high, low) = (usize::from(byte >> 4), usize::from(byte & 0x0F));
    (high < 10 && low < 10).then_some(high * 10 + low)
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
