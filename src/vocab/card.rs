//! What a card says besides its number: expiry, sequence number, service code, track 2.

use std::fmt;

use zeroize::Zeroize;

use super::pan::Pan;
use super::text::{Digits, WordError, WordFault, exact_number};
use super::time::YearMonth;

/// Expiry date, `n4` YYMM (DE 14). The card is good to the last day of that month. Years are 2000 to 2099.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expiry {
    year: u8,
    month: u8,
}

impl Expiry {
    /// Takes YYMM with a month of 01 to 12.
    ///
    /// # Errors
    /// `Length`, `NotADigit` or `OutOfRange`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let word = "expiry date";
        let value = exact_number(word, bytes, 4)?;
        let (year, month) = (value / 100, value % 100);
        if !(1..=12).contains(&month) {
            return Err(WordError { word, fault: WordFault::OutOfRange });
        }
        Ok(Self {
            year: u8::try_from(year).unwrap_or_default(),
            month: u8::try_from(month).unwrap_or_default(),
        })
    }

    /// YYMM in ASCII.
    #[must_use]
    pub fn digits(self) -> [u8; 4] {
        [b'0' + self.year / 10, b'0' + self.year % 10, b'0' + self.month / 10, b'0' + self.month % 10]
    }

    #[must_use]
    pub fn year_month(self) -> YearMonth {
        YearMonth { year: 2000 + u16::from(self.year), month: self.month }
    }

    /// The expiry of a month; `None` outside 2000 to 2099.
    #[must_use]
    pub fn of(month: YearMonth) -> Option<Self> {
        let year = month.year.checked_sub(2000).and_then(|year| u8::try_from(year).ok())?;
        (year < 100 && (1..=12).contains(&month.month)).then_some(Self { year, month: month.month })
    }

    /// Whether the month is over by `today`.
    #[must_use]
    pub fn is_past(self, today: YearMonth) -> bool {
        self.year_month() < today
    }
}

impl fmt::Debug for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expiry({:02}{:02})", self.year, self.month)
    }
}

/// PAN sequence number (DE 23 `n3`, EMV tag 5F34 `n2`): tells cards of one PAN apart. 0 to 99.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PanSequenceNumber(u8);

impl PanSequenceNumber {
    pub const ZERO: Self = Self(0);

    /// Takes three digits, as DE 23 has them, of at most 099.
    ///
    /// # Errors
    /// `Length`, `NotADigit` or `OutOfRange`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let word = "PAN sequence number";
        let value = exact_number(word, bytes, 3)?;
        match u8::try_from(value) {
            Ok(number @ 0..=99) => Ok(Self(number)),
            _ => Err(WordError { word, fault: WordFault::OutOfRange }),
        }
    }

    #[must_use]
    pub fn new(number: u8) -> Option<Self> {
        (number <= 99).then_some(Self(number))
    }

    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }

    /// Three digits for DE 23.
    #[must_use]
    pub fn digits(self) -> [u8; 3] {
        [b'0', b'0' + self.0 / 10, b'0' + self.0 % 10]
    }
}

/// Service code, `n3` (ISO/IEC 7813): where and how a card may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServiceCode([u8; 3]);

impl ServiceCode {
    /// Takes three digits.
    ///
    /// # Errors
    /// `Length` or `NotADigit`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let code = Digits::<3>::parse("service code", bytes, 3)?;
        Ok(Self(code.as_bytes().try_into().unwrap_or_default()))
    }

    #[must_use]
    pub fn digits(self) -> [u8; 3] {
        self.0
    }
}

/// Track 2 (DE 35, ISO/IEC 7813) reduced to what may be looked at: number, expiry, service code. The
/// discretionary data, which holds the card verification value, is never kept.
pub struct Track2 {
    pub account: Pan,
    pub expiry: Option<Expiry>,
    pub service_code: Option<ServiceCode>,
}

impl Track2 {
    /// Takes `account = YYMM service discretionary`; the separator is `=` or `D`, and either of expiry and
    /// service code may be absent where a second separator stands in its place.
    ///
    /// # Errors
    /// What `Pan::parse` or `Expiry::parse` says, or `NotAllowed` without a separator.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let word = "track 2";
        let is_separator = |b: &u8| matches!(b, b'=' | b'D');
        let at = bytes
            .iter()
            .position(is_separator)
            .ok_or(WordError { word, fault: WordFault::NotAllowed { at: bytes.len() } })?;
        let account = Pan::parse(bytes.get(..at).unwrap_or_default())?;
        let rest = bytes.get(at + 1..).unwrap_or_default();
        let (expiry, rest) = match rest.first() {
            Some(b) if is_separator(b) => (None, rest.get(1..).unwrap_or_default()),
            _ => (Some(Expiry::parse(rest.get(..4).unwrap_or(rest))?), rest.get(4..).unwrap_or_default()),
        };
        let service_code = rest.get(..3).and_then(|code| ServiceCode::parse(code).ok());
        Ok(Self { account, expiry, service_code })
    }

    /// Track 2 as an issuer gets it in place of the token's: the separator `=`, discretionary data of zeros.
    #[must_use]
    pub fn rebuilt(
        pan: &Pan,
        expiry: Expiry,
        service_code: Option<ServiceCode>,
    ) -> zeroize::Zeroizing<Vec<u8>> {
        let mut track = Vec::with_capacity(37);
        track.extend_from_slice(pan.expose_digits());
        track.push(b'=');
        track.extend_from_slice(&expiry.digits());
        track.extend_from_slice(&service_code.map_or(*b"000", ServiceCode::digits));
        let room = 37_usize.saturating_sub(track.len()).min(8);
        track.extend(std::iter::repeat_n(b'0', room));
        zeroize::Zeroizing::new(track)
    }
}

impl fmt::Debug for Track2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Track2([secret])")
    }
}

impl Drop for Track2 {
    fn drop(&mut self) {
        self.account.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_good_to_the_end_of_its_month() {
        let expiry = Expiry::parse(b"2612").unwrap();
        assert!(!expiry.is_past(YearMonth { year: 2026, month: 12 }));
        assert!(expiry.is_past(YearMonth { year: 2027, month: 1 }));
        for bad in [&b"2600"[..], b"2613", b"261", b"+612"] {
            assert!(Expiry::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn track_two_gives_number_expiry_and_service_code() {
        let track = Track2::parse(b"4761739001010119D27122011234500000").unwrap();
        assert_eq!(track.account.expose_digits(), b"4761739001010119");
        assert_eq!(track.expiry, Some(Expiry::parse(b"2712").unwrap()));
        assert_eq!(track.service_code.unwrap().digits(), *b"201");
        assert_eq!(format!("{track:?}"), "Track2([secret])");
        assert!(Track2::parse(b"4761739001010119").is_err(), "no separator");
        assert!(Track2::parse(b"4761739001010119D2713201").is_err(), "no such month");
    }

    #[test]
    fn a_rebuilt_track_holds_no_verification_value() {
        let pan = Pan::parse(b"4761739001010119").unwrap();
        let track = Track2::rebuilt(&pan, Expiry::parse(b"2712").unwrap(), None);
        assert_eq!(track.as_slice(), b"4761739001010119=271200000000000");
    }
}
