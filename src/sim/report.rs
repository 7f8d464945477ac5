//! `Report`: what a run came to. Outcomes, codes, mismatches and latency percentiles; text for people.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::stdx::clock::Moment;
use crate::vocab::{Outcome, ResponseCode};

/// Latencies are told apart up to ten minutes; anything longer counts as that.
const LONGEST_MICROS: u64 = 600_000_000;

/// Counts and latencies of one simulator's run.
#[derive(Debug, Clone)]
pub struct Report {
    /// In microseconds, from the intended time of sending.
    latency: Histogram<u64>,
    first: Option<Moment>,
    last: Moment,
    codes: Vec<(ResponseCode, u64)>,
    mismatches: Vec<(&'static str, u64)>,
    pub sent: u64,
    pub answered: u64,
    pub approved: u64,
    pub declined: u64,
    /// Given up: never answered, however often repeated.
    pub unanswered: u64,
    pub repeats: u64,
    pub reversals: u64,
    pub reversals_acknowledged: u64,
    pub connections_lost: u64,
}

impl Report {
    /// An empty report.
    ///
    /// # Errors
    /// `CreationError` when the histogram cannot be made.
    pub fn new() -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            latency: Histogram::new_with_bounds(1, LONGEST_MICROS, 3)?,
            first: None,
            last: Moment::default(),
            codes: Vec::new(),
            mismatches: Vec::new(),
            sent: 0,
            answered: 0,
            approved: 0,
            declined: 0,
            unanswered: 0,
            repeats: 0,
            reversals: 0,
            reversals_acknowledged: 0,
            connections_lost: 0,
        })
    }

    /// Notes a request sent at `now`.
    pub fn note_sent(&mut self, now: Moment) {
        self.sent += 1;
        self.first.get_or_insert(now);
        self.last = self.last.max(now);
    }

    /// Notes the first answer to a request that should have been sent at `intended`. That is what makes the
    /// percentiles honest: a sender held up by a slow peer counts the wait too (no coordinated omission).
    pub fn note_answer(&mut self, code: ResponseCode, outcome: Outcome, intended: Moment, now: Moment) {
        self.answered += 1;
        match outcome {
            Outcome::Approved | Outcome::ApprovedPartly => self.approved += 1,
            Outcome::Declined | Outcome::RetryLater | Outcome::Unknown => self.declined += 1,
        }
        tally(&mut self.codes, code);
        let waited = now.since(intended).as_micros();
        self.latency.saturating_record(u64::try_from(waited).unwrap_or(u64::MAX));
        self.last = self.last.max(now);
    }

    /// Notes something in an answer that should not have been.
    pub fn note_mismatch(&mut self, name: &'static str) {
        tally(&mut self.mismatches, name);
    }

    #[must_use]
    pub fn mismatches(&self) -> u64 {
        self.mismatches.iter().map(|(_, count)| count).sum()
    }

    /// Mismatches by name, in the order they first came up.
    #[must_use]
    pub fn mismatches_by_name(&self) -> &[(&'static str, u64)] {
        &self.mismatches
    }

    /// Answers by response code, in the order they first came up.
    #[must_use]
    pub fn codes(&self) -> &[(ResponseCode, u64)] {
        &self.codes
    }

    /// The latency that a share of all answers (0.0 to 1.0) stayed within; zero without answers.
    #[must_use]
    pub fn latency_at(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(quantile))
    }

    #[must_use]
    pub fn latency_most(&self) -> Duration {
        Duration::from_micros(self.latency.max())
    }

    /// From the first request to the newest event.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.first.map_or(Duration::ZERO, |first| self.last.since(first))
    }

    /// Answers a second.
    #[must_use]
    pub fn rate(&self) -> u64 {
        let micros = self.elapsed().as_micros().max(1);
        u64::try_from(u128::from(self.answered) * 1_000_000 / micros).unwrap_or(u64::MAX)
    }
}

fn tally<K: PartialEq>(list: &mut Vec<(K, u64)>, key: K) {
    match list.iter_mut().find(|(known, _)| *known == key) {
        Some((_, count)) => *count += 1,
        None => list.push((key, 1)),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            [("sent", self.sent), ("answered", self.answered), ("unanswered", self.unanswered)],
            [("approved", self.approved), ("declined", self.declined), ("repeats", self.repeats)],
            [
                ("reversals", self.reversals),
                ("acknowledged", self.reversals_acknowledged),
                ("mismatches", self.mismatches()),
            ],
        ];
        for row in rows {
            for (name, count) in row {
                write!(f, "{name:<13}{:>11}  ", grouped(count))?;
            }
            writeln!(f)?;
        }
        let seconds = self.elapsed().as_millis();
        writeln!(
            f,
            "{:<13}{:>9}/s  {:<13}{:>9}.{} s",
            "rate",
            grouped(self.rate()),
            "over",
            seconds / 1_000,
            seconds / 100 % 10
        )?;
        write!(f, "{:<13}", "latency")?;
        for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
            write!(f, "{name} {}  ", short(self.latency_at(quantile)))?;
        }
        writeln!(f, "max {}", short(self.latency_most()))?;
        list(f, "codes", self.codes.iter().map(|(code, n)| format!("{code} × {}", grouped(*n))))?;
        list(f, "mismatched", self.mismatches.iter().map(|(name, n)| format!("{name} × {}", grouped(*n))))
    }
}

/// A name and items after it, broken before column 80.
fn list(f: &mut fmt::Formatter<'_>, name: &str, items: impl Iterator<Item = String>) -> fmt::Result {
    let mut column = 0;
    for item in items {
        let width = item.chars().count() + 3;
        if column == 0 {
            write!(f, "{name:<13}")?;
            column = 13;
        } else if column + width > 80 {
            write!(f, "\n{:13}", "")?;
            column = 13;
        }
        write!(f, "{item}   ")?;
        column += width;
    }
    if column > 0 { writeln!(f) } else { Ok(()) }
}

/// A duration in the unit that leaves two or three digits before the point.
fn short(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{}.{} ms", micros / 1_000, micros / 100 % 10),
        _ => format!("{}.{} s", micros / 1_000_000, micros / 100_000 % 10),
    }
}

/// Thousands apart: `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(digits: &str) -> ResponseCode {
        ResponseCode::parse(digits.as_bytes()).unwrap()
    }

    #[test]
    fn latency_counts_from_the_intended_time() {
        let mut report = Report::new().unwrap();
        let (intended, sent, answered) = (Moment(0), Moment(9_000_000), Moment(10_000_000));
        report.note_sent(sent);
        report.note_answer(code("00"), Outcome::Approved, intended, answered);
        let p50 = report.latency_at(0.5).as_micros();
        assert!((9_990..=10_010).contains(&p50), "{p50} µs of 10 ms, not the 1 ms on the wire");
    }

    #[test]
    fn it_fits_eighty_columns_and_says_what_was() {
        let mut report = Report::new().unwrap();
        for n in 0..30_u64 {
            report.note_sent(Moment(n * 1_000_000));
            let outcome = if n % 3 == 0 { Outcome::Declined } else { Outcome::Approved };
            report.note_answer(code(&format!("{n:02}")), outcome, Moment(0), Moment(n * 90_000_000));
        }
        report.note_mismatch("the amount came back changed");
        report.sent = 123_456_789;
        let text = report.to_string();
        assert!(text.lines().all(|line| line.trim_end().chars().count() <= 80), "{text}");
        for part in ["123,456,789", "approved", "20", "the amount came back changed × 1", "29 × 1"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!((report.approved, report.declined, report.mismatches()), (20, 10, 1));
    }

    #[test]
    fn numbers_and_durations_read_well() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"].map(str::to_owned)
        );
        assert_eq!(short(Duration::from_micros(612)), "612 µs");
        assert_eq!(short(Duration::from_micros(1_250)), "1.2 ms");
        assert_eq!(short(Duration::from_millis(61_300)), "61.3 s");
    }
}
