//! Codes with a meaning that the switch acts on: responses, processing, entry mode, network management.

use std::fmt;

use super::text::{Digits, Text, WordError, exact_number};

/// Response code, `an2` (DE 39; three digits from 1993 on), as one dialect writes it. What it means is that
/// dialect's `[response_codes]` table to say.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResponseCode(Text<3>);

impl ResponseCode {
    /// Takes one to three printable characters.
    ///
    /// # Errors
    /// `Length` or `NotPrintable`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        Text::parse("response code", bytes).map(Self)
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

impl fmt::Debug for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an answer comes to. The core knows these and no codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Approved,
    ApprovedPartly,
    Declined,
    RetryLater,
    Unknown,
}

impl Outcome {
    /// As a person reads it in a list of entries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::ApprovedPartly => "approved-partly",
            Self::Declined => "declined",
            Self::RetryLater => "retry-later",
            Self::Unknown => "unknown",
        }
    }
}

/// Processing code, `n6` (DE 3): transaction type, account from, account to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcessingCode(Digits<6>);

/// What the first two digits of DE 3 ask for, as far as money is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionKind {
    /// 00 to 19: the cardholder's account is debited.
    Debit,
    /// 20 to 29: it is credited, as by a refund.
    Credit,
    /// 30 to 39: nothing moves.
    Inquiry,
    /// 40 and above.
    Other,
}

impl ProcessingCode {
    /// Takes exactly six digits.
    ///
    /// # Errors
    /// `Length` or `NotADigit`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        Digits::parse("processing code", bytes, 6).map(Self)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    #[must_use]
    pub fn kind(&self) -> TransactionKind {
        match self.as_bytes().first() {
            Some(b'0' | b'1') => TransactionKind::Debit,
            Some(b'2') => TransactionKind::Credit,
            Some(b'3') => TransactionKind::Inquiry,
            _ => TransactionKind::Other,
        }
    }
}

impl fmt::Debug for ProcessingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// How the account number came in, `n2`: positions 1 and 2 of DE 22. Configuration and controls name these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryMode(u8);

impl EntryMode {
    pub const CONTACT_CHIP: Self = Self(5);
    pub const CONTACTLESS_CHIP: Self = Self(7);
    pub const E_COMMERCE_CHIP: Self = Self(9);

    /// Takes two digits.
    ///
    /// # Errors
    /// `Length` or `NotADigit`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let value = exact_number("entry mode", bytes, 2)?;
        Ok(Self(u8::try_from(value).unwrap_or_default()))
    }

    /// Of a number with two digits at most; none for more.
    #[must_use]
    pub fn new(number: u8) -> Option<Self> {
        (number < 100).then_some(Self(number))
    }

    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }

    /// Whether chip data, and with it a cryptogram, belongs to it.
    #[must_use]
    pub fn has_chip_data(self) -> bool {
        matches!(self, Self::CONTACT_CHIP | Self::CONTACTLESS_CHIP | Self::E_COMMERCE_CHIP)
    }
}

impl fmt::Debug for EntryMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}", self.0)
    }
}

/// Point of service entry mode, `n3` (DE 22): entry mode and PIN capability.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PosEntryMode {
    pub entry: EntryMode,
    pub pin_capability: u8,
}

impl PosEntryMode {
    /// Takes exactly three digits.
    ///
    /// # Errors
    /// `Length` or `NotADigit`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let value = exact_number("POS entry mode", bytes, 3)?;
        let part = |number: u64| u8::try_from(number).unwrap_or_default();
        Ok(Self { entry: EntryMode(part(value / 10)), pin_capability: part(value % 10) })
    }

    #[must_use]
    pub fn digits(self) -> [u8; 3] {
        [b'0' + self.entry.0 / 10, b'0' + self.entry.0 % 10, b'0' + self.pin_capability]
    }
}

impl fmt::Debug for PosEntryMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}{}", self.entry.0, self.pin_capability)
    }
}

/// Merchant category code, `n4` (DE 18, ISO 18245).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MerchantCategory(pub u16);

impl MerchantCategory {
    /// Takes exactly four digits.
    ///
    /// # Errors
    /// `Length` or `NotADigit`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let value = exact_number("merchant category", bytes, 4)?;
        Ok(Self(u16::try_from(value).unwrap_or_default()))
    }
}

/// Country code, `n3` (DE 19, ISO 3166-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country(pub u16);

impl Country {
    /// Takes exactly three digits.
    ///
    /// # Errors
    /// `Length` or `NotADigit`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let value = exact_number("country", bytes, 3)?;
        Ok(Self(u16::try_from(value).unwrap_or_default()))
    }
}

/// Network management information code, `n3` (DE 70).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkCode(pub u16);

impl NetworkCode {
    pub const SIGN_ON: Self = Self(1);
    pub const SIGN_OFF: Self = Self(2);
    pub const CUT_OVER: Self = Self(201);
    pub const ECHO: Self = Self(301);

    /// Takes exactly three digits.
    ///
    /// # Errors
    /// `Length` or `NotADigit`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let value = exact_number("network management code", bytes, 3)?;
        Ok(Self(u16::try_from(value).unwrap_or_default()))
    }

    #[must_use]
    pub fn digits(self) -> [u8; 3] {
        [self.0 / 100, self.0 / 10 % 10, self.0 % 10].map(|d| u8::try_from(d).unwrap_or_default() + b'0')
    }
}

/// Why a transaction is reversed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReversalReason {
    /// The acquirer asked for it.
    Requested,
    /// The issuer did not answer in time.
    TimedOut,
    /// The issuer's connection went down with the request unanswered.
    LinkLost,
    /// The issuer's answer could not be believed.
    AnswerInvalid,
    /// The acquirer could not be given its answer.
    Undelivered,
    /// The request stood in the journal without an outcome when the switch started.
    Recovered,
    /// Approved in part for an acquirer that cannot handle that.
    PartialNotSupported,
    /// The answer could not be given without the PAN.
    LeakSuppressed,
    /// The issuer's code is in no table.
    UnlistedCode,
    /// The issuer said that what became of it is not known.
    SaidUnknown,
}

impl ReversalReason {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::TimedOut => "timed-out",
            Self::LinkLost => "link-lost",
            Self::AnswerInvalid => "answer-invalid",
            Self::Undelivered => "undelivered",
            Self::Recovered => "recovered",
            Self::PartialNotSupported => "partial-not-supported",
            Self::LeakSuppressed => "leak-suppressed",
            Self::UnlistedCode => "unlisted-code",
            Self::SaidUnknown => "said-unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processing_codes_say_whether_money_moves() {
        for (code, kind) in [
            ("000000", TransactionKind::Debit),
            ("010000", TransactionKind::Debit),
            ("200030", TransactionKind::Credit),
            ("310000", TransactionKind::Inquiry),
            ("900000", TransactionKind::Other),
        ] {
            assert_eq!(ProcessingCode::parse(code.as_bytes()).unwrap().kind(), kind, "{code}");
        }
        assert!(ProcessingCode::parse(b"+00000").is_err());
    }

    #[test]
    fn entry_modes_with_a_chip() {
        for (digits, chip) in [("051", true), ("071", true), ("091", true), ("010", false), ("812", false)] {
            let mode = PosEntryMode::parse(digits.as_bytes()).unwrap();
            assert_eq!(mode.entry.has_chip_data(), chip, "{digits}");
            assert_eq!(mode.digits().as_slice(), digits.as_bytes());
        }
    }
}
