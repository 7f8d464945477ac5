//! ISO's own notation (`n 6`, `an..28`, `z..37`, `b 64`) as `Attribute`, and the character classes it names.

use std::fmt;

use super::words::all;

/// Which characters a value consists of (ISO 8583:1987 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// `n`: digits.
    Numeric,
    /// `a`: letters; a fixed value may end in blanks.
    Alphabetic,
    /// `an`: letters and digits; a fixed value may end in blanks.
    Alphanumeric,
    /// `ans`: any printable ASCII.
    Text,
    /// `z`: track data, digits and the separator `=` (or `D`).
    Track,
    /// `x+n`: `C` for credit or `D` for debit, then digits.
    SignedNumeric,
    /// `b`: any bytes.
    Binary,
}

impl Class {
    /// Whether `value` consists of this class's characters only.
    #[must_use]
    #[inline]
    pub fn admits(self, value: &[u8]) -> bool {
        match self {
            Self::Numeric => all(value, |byte| byte.is_ascii_digit()),
            Self::Text => all(value, |byte| matches!(byte, b' '..=b'~')),
            Self::Binary => true,
            Self::Alphanumeric => all(without_blanks(value), |byte| byte.is_ascii_alphanumeric()),
            Self::Alphabetic => all(without_blanks(value), |byte| byte.is_ascii_alphabetic()),
            // Without a branch, which a pattern of three would be.
            Self::Track => all(value, |byte| byte.is_ascii_digit() | (byte == b'=') | (byte == b'D')),
            Self::SignedNumeric => match value.split_first() {
                Some((b'C' | b'D', digits)) => Self::Numeric.admits(digits),
                _ => false,
            },
        }
    }

    /// As ISO writes it.
    #[must_use]
    pub fn notation(self) -> &'static str {
        match self {
            Self::Numeric => "n",
            Self::Alphabetic => "a",
            Self::Alphanumeric => "an",
            Self::Text => "ans",
            Self::Track => "z",
            Self::SignedNumeric => "x+n",
            Self::Binary => "b",
        }
    }

    fn from_notation(text: &str) -> Option<Self> {
        [
            Self::Numeric,
            Self::Alphabetic,
            Self::Alphanumeric,
            Self::Text,
            Self::Track,
            Self::SignedNumeric,
            Self::Binary,
        ]
        .into_iter()
        .find(|class| class.notation() == text)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.notation())
    }
}

/// How long a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Extent {
    /// Exactly so many characters (bytes, for `b`).
    Fixed(u16),
    /// Up to so many, announced by a length.
    UpTo(u16),
}

/// Class and extent: what ISO writes in the column "attribute" (and "format", for lengths that vary).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attribute {
    pub class: Class,
    pub extent: Extent,
}

impl Attribute {
    /// The longest value that any element may have: what four length digits can say.
    pub const MOST: u16 = 9999;

    /// Reads the notation. `b 64` counts bits, `b..255` bytes; `x+n 8` is one sign and eight digits.
    ///
    /// # Errors
    /// A sentence that says what is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (class, number, varies) = match text.split_once("..") {
            Some((class, most)) => (class, most, true),
            None => text.split_once(' ').map(|(class, length)| (class, length, false)).ok_or_else(|| {
                format!("`{text}` has no length: write `n 6` for a fixed one, `n..19` for one that varies")
            })?,
        };
        let class = Class::from_notation(class.trim())
            .ok_or_else(|| format!("`{class}` is no class: there are a, n, an, ans, z, x+n and b"))?;
        let Ok(length @ 1..=Self::MOST) = number.trim().parse::<u16>() else {
            return Err(format!("`{number}` is no length of 1 to {}", Self::MOST));
        };
        if varies {
            return Ok(Self { class, extent: Extent::UpTo(length) });
        }
        let extent = match class {
            Class::Binary if length % 8 != 0 => {
                return Err(format!("{length} bits are no whole number of bytes"));
            }
            Class::Binary => Extent::Fixed(length / 8),
            Class::SignedNumeric => Extent::Fixed(length + 1),
            _ => Extent::Fixed(length),
        };
        Ok(Self { class, extent })
    }

    /// The most characters (bytes, for `b`) that a value has.
    #[must_use]
    pub fn most(self) -> u16 {
        match self.extent {
            Extent::Fixed(length) | Extent::UpTo(length) => length,
        }
    }

    /// Whether `value` has the class's characters, and as many as there may be.
    #[must_use]
    pub fn admits(self, value: &[u8]) -> bool {
        let fits = match self.extent {
            Extent::Fixed(length) => value.len() == usize::from(length),
            Extent::UpTo(most) => value.len() <= usize::from(most),
        };
        fits && self.class.admits(value)
    }
}

fn without_blanks(value: &[u8]) -> &[u8] {
    let mut rest = value;
    while let [head @ .., b' '] = rest {
        rest = head;
    }
    rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Class; 7] = [
        Class::Numeric,
        Class::Alphabetic,
        Class::Alphanumeric,
        Class::Text,
        Class::Track,
        Class::SignedNumeric,
        Class::Binary,
    ];

    /// The classes, a byte at a time.
    fn naive(class: Class, value: &[u8]) -> bool {
        let trimmed = without_blanks(value);
        match class {
            Class::Numeric => value.iter().all(u8::is_ascii_digit),
            Class::Alphabetic => trimmed.iter().all(u8::is_ascii_alphabetic),
            Class::Alphanumeric => trimmed.iter().all(u8::is_ascii_alphanumeric),
            Class::Text => value.iter().all(|b| (0x20..=0x7E).contains(b)),
            Class::Track => value.iter().all(|b| b.is_ascii_digit() || matches!(b, b'=' | b'D')),
            Class::SignedNumeric => {
                matches!(value, [b'C' | b'D', rest @ ..] if rest.iter().all(u8::is_ascii_digit))
            }
            Class::Binary => true,
        }
    }

    #[test]
    fn every_byte_at_every_place_is_judged_as_by_the_naive_check() {
        for class in ALL {
            for length in 1..=19 {
                for at in 0..length {
                    for byte in 0..=255 {
                        let mut value = vec![if class == Class::Alphabetic { b'x' } else { b'7' }; length];
                        value[at] = byte;
                        assert_eq!(class.admits(&value), naive(class, &value), "{class} {value:?}");
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_as_by_the_naive_check(value in prop::collection::vec(any::<u8>(), 0..40)) {
            for class in ALL {
                prop_assert_eq!(class.admits(&value), naive(class, &value), "{}", class);
            }
        }

        #[test]
        fn near_misses_are_judged_as_by_the_naive_check(
            value in "[0-9]{0,24}[/:;=>?@A-Z\\[`a-z{~ -]{0,2}[0-9]{0,9}",
        ) {
            for class in ALL {
                prop_assert_eq!(class.admits(value.as_bytes()), naive(class, value.as_bytes()), "{}", class);
            }
        }
    }

    #[test]
    fn the_notation_is_isos() {
        for (text, class, extent) in [
            ("n 6", Class::Numeric, Extent::Fixed(6)),
            ("an..28", Class::Alphanumeric, Extent::UpTo(28)),
            ("ans..999", Class::Text, Extent::UpTo(999)),
            ("z..37", Class::Track, Extent::UpTo(37)),
            ("b 64", Class::Binary, Extent::Fixed(8)),
            ("b..255", Class::Binary, Extent::UpTo(255)),
            ("x+n 8", Class::SignedNumeric, Extent::Fixed(9)),
        ] {
            assert_eq!(Attribute::parse(text), Ok(Attribute { class, extent }), "{text}");
        }
        for bad in ["", "n", "n6", "q 4", "n 0", "n..", "n..10000", "b 63", "n -4", "n 4.5"] {
            assert!(Attribute::parse(bad).is_err(), "{bad}");
        }
    }
}
