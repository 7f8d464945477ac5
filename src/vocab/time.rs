//! Times as messages carry them, with the year that they leave out; business dates and settlement windows.

use std::fmt;
use std::time::Duration;

use super::text::{WordError, WordFault, exact_number};
use crate::stdx::clock::Wall;

/// A month of a year, for expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct YearMonth {
    pub year: u16,
    pub month: u8,
}

impl YearMonth {
    /// The month in UTC that `wall` lies in.
    #[must_use]
    pub fn of(wall: Wall) -> Self {
        let date = BusinessDate::of(wall);
        Self { year: date.year, month: date.month }
    }

    #[must_use]
    pub fn plus_years(self, years: u16) -> Self {
        Self { year: self.year.saturating_add(years), ..self }
    }
}

/// Transmission date and time, `n10` MMDDhhmmss, UTC (DE 7). It has no year; `resolve` gives it one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransmissionTime([u8; 10]);

/// 182 days, in seconds.
const HALF_A_YEAR: u64 = 182 * 86_400;

impl TransmissionTime {
    /// Takes MMDDhhmmss with values that can exist (29 February always can: the year is not known yet).
    ///
    /// # Errors
    /// `Length`, `NotADigit` or `OutOfRange`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let word = "transmission time";
        exact_number(word, bytes, 10)?;
        let pair = |at: usize| two_digits(bytes, at);
        let (month, day, hour, minute, second) = (pair(0), pair(2), pair(4), pair(6), pair(8));
        let valid = (1..=12).contains(&month)
            && (1..=days_in_month(2000, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        match bytes.try_into() {
            Ok(digits) if valid => Ok(Self(digits)),
            _ => Err(WordError { word, fault: WordFault::OutOfRange }),
        }
    }

    /// The time of `wall`, in UTC.
    #[must_use]
    pub fn of(wall: Wall) -> Self {
        let date = BusinessDate::of(wall);
        let of_day = wall.seconds() % 86_400;
        let mut digits = [b'0'; 10];
        let parts =
            [u64::from(date.month), u64::from(date.day), of_day / 3_600, of_day / 60 % 60, of_day % 60];
        for (place, part) in digits.chunks_exact_mut(2).zip(parts) {
            write_two(place, part);
        }
        Self(digits)
    }

    #[must_use]
    pub fn digits(self) -> [u8; 10] {
        self.0
    }

    /// With the year that lies nearest to `received`: a message of 31 December that arrives on 1 January is
    /// last year's.
    #[must_use]
    pub fn resolve(self, received: Wall) -> SentAt {
        let year = i64::from(BusinessDate::of(received).year);
        let arrived = i64::try_from(received.seconds()).unwrap_or(i64::MAX);
        // As good as always: no other year can be nearer than half a year.
        if let Some(seconds) = self.seconds_in(year).filter(|at| at.abs_diff(arrived) < HALF_A_YEAR) {
            return SentAt(u64::try_from(seconds).unwrap_or_default());
        }
        let nearest = [year - 1, year, year + 1]
            .into_iter()
            .filter_map(|year| self.seconds_in(year))
            .min_by_key(|seconds| seconds.abs_diff(arrived));
        SentAt(u64::try_from(nearest.unwrap_or(arrived)).unwrap_or_default())
    }

    fn seconds_in(self, year: i64) -> Option<i64> {
        let pair = |at: usize| two_digits(&self.0, at);
        let (month, day) = (pair(0), pair(2));
        if day > days_in_month(year, month) {
            return None;
        }
        let days = days_from_civil(year, i64::from(month), i64::from(day));
        Some(days * 86_400 + i64::from(pair(4)) * 3_600 + i64::from(pair(6)) * 60 + i64::from(pair(8)))
    }
}

impl fmt::Debug for TransmissionTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

/// DE 7 with its year resolved at receipt: seconds since 1970-01-01T00:00:00Z. Stored identifiers carry this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SentAt(pub u64);

impl SentAt {
    /// As DE 7 writes it.
    #[must_use]
    pub fn transmission_time(self) -> TransmissionTime {
        TransmissionTime::of(Wall(self.0.saturating_mul(1_000)))
    }

    /// Whether the two are at most so far apart, whichever is earlier.
    #[must_use]
    pub fn is_within(self, other: Self, apart: Duration) -> bool {
        self.0.abs_diff(other.0) <= apart.as_secs()
    }
}

/// Local transaction time, `n6` hhmmss (DE 12), as the terminal's clock had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LocalTime([u8; 6]);

impl LocalTime {
    /// Takes hhmmss with values that can exist.
    ///
    /// # Errors
    /// `Length`, `NotADigit` or `OutOfRange`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let word = "local time";
        exact_number(word, bytes, 6)?;
        let valid = two_digits(bytes, 0) < 24 && two_digits(bytes, 2) < 60 && two_digits(bytes, 4) < 60;
        match bytes.try_into() {
            Ok(digits) if valid => Ok(Self(digits)),
            _ => Err(WordError { word, fault: WordFault::OutOfRange }),
        }
    }

    #[must_use]
    pub fn digits(self) -> [u8; 6] {
        self.0
    }
}

/// Local transaction date, `n4` MMDD (DE 13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LocalDate([u8; 4]);

impl LocalDate {
    /// Takes MMDD with values that can exist.
    ///
    /// # Errors
    /// `Length`, `NotADigit` or `OutOfRange`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let word = "local date";
        exact_number(word, bytes, 4)?;
        let (month, day) = (two_digits(bytes, 0), two_digits(bytes, 2));
        match bytes.try_into() {
            Ok(digits) if (1..=12).contains(&month) && (1..=days_in_month(2000, month)).contains(&day) => {
                Ok(Self(digits))
            }
            _ => Err(WordError { word, fault: WordFault::OutOfRange }),
        }
    }

    #[must_use]
    pub fn digits(self) -> [u8; 4] {
        self.0
    }
}

/// A day on which money counts, in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BusinessDate {
    pub year: u16,
    pub month: u8,
    pub day: u8,
}

impl BusinessDate {
    /// The day in UTC that `wall` lies in.
    #[must_use]
    pub fn of(wall: Wall) -> Self {
        let days = i64::try_from(wall.seconds() / 86_400).unwrap_or_default();
        let (year, month, day) = civil_from_days(days);
        Self {
            year: u16::try_from(year).unwrap_or(u16::MAX),
            month: u8::try_from(month).unwrap_or(1),
            day: u8::try_from(day).unwrap_or(1),
        }
    }

    /// MMDD, as DE 15 writes it.
    #[must_use]
    pub fn month_day(self) -> [u8; 4] {
        let mut digits = [b'0'; 4];
        for (place, part) in digits.chunks_exact_mut(2).zip([self.month, self.day]) {
            write_two(place, u64::from(part));
        }
        digits
    }
}

impl fmt::Display for BusinessDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl fmt::Debug for BusinessDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The window in which a message counts: a business date and a number within it, 1 to 999. Stamped when the
/// request is journaled for forwarding, and never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SettlementWindow {
    pub date: BusinessDate,
    pub sequence: u16,
}

impl fmt::Display for SettlementWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:03}", self.date, self.sequence)
    }
}

fn two_digits(bytes: &[u8], at: usize) -> u8 {
    match bytes.get(at..at + 2) {
        Some(&[tens, ones]) => tens.wrapping_sub(b'0').wrapping_mul(10).wrapping_add(ones.wrapping_sub(b'0')),
        _ => 0,
    }
}

fn write_two(place: &mut [u8], value: u64) {
    if let [tens, ones] = place {
        *tens = b'0' + u8::try_from(value / 10 % 10).unwrap_or_default();
        *ones = b'0' + u8::try_from(value % 10).unwrap_or_default();
    }
}

fn days_in_month(year: i64, month: u8) -> u8 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    }
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar: years begin in March, so that the leap
/// day is the last, and 400 of them are 146,097 days. Kept here, not in a library, for the hot path: DE 7 is
/// written once a message.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01T00:00:30Z.
    const NEW_YEAR: Wall = Wall(1_767_225_630_000);

    #[test]
    fn days_agree_with_a_calendar_library() {
        for days in (-25_000..60_000).step_by(13) {
            let (year, month, day) = civil_from_days(days);
            let span = jiff::ToSpan::days(days);
            let date = jiff::civil::date(1970, 1, 1).checked_add(span).unwrap();
            assert_eq!((year, month, day), (date.year().into(), date.month().into(), date.day().into()));
            assert_eq!(days_from_civil(year, month, day), days);
        }
    }

    #[test]
    fn the_year_is_the_nearest() {
        let at = |digits: &[u8]| TransmissionTime::parse(digits).unwrap().resolve(NEW_YEAR);
        assert_eq!(at(b"0101000030").0, NEW_YEAR.seconds());
        assert_eq!(at(b"1231235959").0, NEW_YEAR.seconds() - 31, "last year's");
        assert_eq!(at(b"1231235959").transmission_time().digits(), *b"1231235959");
    }

    #[test]
    fn times_that_cannot_be_are_refused() {
        for bad in
            ["1301000000", "0132000000", "0230000000", "0101240000", "0101006000", "01010000", "+101000000"]
        {
            assert!(TransmissionTime::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(LocalTime::parse(b"235960").is_err());
        assert!(LocalDate::parse(b"0230").is_err());
        assert!(LocalDate::parse(b"0229").is_ok());
    }

    #[test]
    fn now_as_de_7_and_de_15() {
        assert_eq!(TransmissionTime::of(NEW_YEAR).digits(), *b"0101000030");
        assert_eq!(BusinessDate::of(NEW_YEAR).to_string(), "2026-01-01");
        assert_eq!(BusinessDate::of(NEW_YEAR).month_day(), *b"0101");
    }
}
