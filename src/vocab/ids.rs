//! What names a message, a party or a transaction.

use std::fmt;

use super::text::{Digits, Text, WordError, exact_number};

/// System trace audit number, `n6` (DE 11): the sender's number for one message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stan(u32);

impl Stan {
    pub const MOST: u32 = 999_999;
    /// 000001. 000000 is never given out: some hosts read it as absent.
    pub const FIRST: Self = Self(1);

    /// The number after this one; after 999999 comes 000001.
    #[must_use]
    pub fn next(self) -> Self {
        if self.0 >= Self::MOST { Self::FIRST } else { Self(self.0 + 1) }
    }

    /// Takes exactly six digits.
    ///
    /// # Errors
    /// `Length` or `NotADigit`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let number = exact_number("STAN", bytes, 6)?;
        Ok(Self(u32::try_from(number).unwrap_or_default()))
    }

    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        (number <= Self::MOST).then_some(Self(number))
    }

    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }

    #[must_use]
    pub fn digits(self) -> [u8; 6] {
        let mut rest = self.0;
        let mut digits = [b'0'; 6];
        for place in digits.iter_mut().rev() {
            *place += u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
        digits
    }
}

impl fmt::Debug for Stan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

impl fmt::Display for Stan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

macro_rules! text_word {
    ($(#[$doc:meta])* $name:ident, $word:literal, $most:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Text<$most>);

        impl $name {
            /// Takes printable ASCII up to the word's length, as the message carries it.
            ///
            /// # Errors
            /// `Length` or `NotPrintable`.
            pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
                Text::parse($word, bytes).map(Self)
            }

            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

text_word! {
    /// Retrieval reference number, `an12` (DE 37): the acquirer's name for a transaction over all its messages.
    Rrn, "RRN", 12
}
text_word! {
    /// Authorization identification response, `an6` (DE 38): the issuer's name for its approval.
    ApprovalCode, "approval code", 6
}
text_word! {
    /// Card acceptor terminal identification, `ans8` (DE 41).
    TerminalId, "terminal id", 8
}
text_word! {
    /// Card acceptor identification code, `ans15` (DE 42). Unique only within its acquirer.
    MerchantId, "merchant id", 15
}

/// An institution's identification code, `n..11` (DE 32 for the acquirer, DE 33 for who forwards).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstitutionId(Digits<11>);

impl InstitutionId {
    /// Takes 1 to 11 digits.
    ///
    /// # Errors
    /// `Length` or `NotADigit`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        Digits::parse("institution id", bytes, 1).map(Self)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for InstitutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for InstitutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A counterparty's endpoint, by the number that its configuration gives it and the journal remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u16);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Which part of the daemon did it; one until there are more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ShardId(pub u8);

/// One transaction of this switch, in order of arrival; never given twice, also not after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub u64);

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stan_is_six_digits() {
        assert_eq!(Stan::parse(b"000042").unwrap().digits(), *b"000042");
        for bad in [&b"42"[..], b"0000042", b"+00042", b"00004 "] {
            assert!(Stan::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Stan::new(1_000_000), None);
    }

    #[test]
    fn texts_keep_their_padding() {
        assert_eq!(TerminalId::parse(b"TERM1   ").unwrap().as_bytes(), b"TERM1   ");
        assert!(TerminalId::parse(b"TERM\x001").is_err());
        assert!(Rrn::parse(b"1234567890123").is_err());
    }
}
