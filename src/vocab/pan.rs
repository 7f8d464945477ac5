//! `Pan`: the primary account number, wiped when dropped and never printed whole; `Bin`, its leading digits.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::text::{Digits, WordError, WordFault};

/// A primary account number: 12 to 19 digits (ISO/IEC 7812). `Debug` is masked, there is no `Display`.
#[derive(Clone, PartialEq, Eq, Hash, Zeroize, ZeroizeOnDrop)]
pub struct Pan {
    digits: [u8; Self::MOST],
    len: u8,
}

impl Pan {
    pub const LEAST: usize = 12;
    pub const MOST: usize = 19;

    /// Takes 12 to 19 ASCII digits. The check digit is not looked at: a network routes what an issuer issued.
    ///
    /// # Errors
    /// `Length` or `NotADigit`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let (digits, len) = account_digits("PAN", bytes)?;
        Ok(Self { digits, len })
    }

    /// The digits in ASCII. Whoever calls this holds card data and answers for it.
    #[must_use]
    pub fn expose_digits(&self) -> &[u8] {
        self.digits.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// First six and last four, as PCI DSS 3.4.1 allows at most.
    #[must_use]
    pub fn masked(&self) -> MaskedPan {
        MaskedPan::of(self.expose_digits())
    }

    /// The last four digits, which a receipt may print.
    #[must_use]
    pub fn last4(&self) -> Digits<4> {
        let digits = self.expose_digits();
        let tail = digits.get(digits.len().saturating_sub(4)..).unwrap_or_default();
        Digits::parse("last four", tail, 4).unwrap_or_default()
    }
}

impl fmt::Debug for Pan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pan({})", self.masked())
    }
}

/// A PAN as people may see it: first six, stars, last four; all stars when it is too short for that.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MaskedPan {
    shown: [u8; Pan::MOST],
    len: u8,
}

impl MaskedPan {
    /// Masks any digits; fewer than 13 leave nothing but stars.
    #[must_use]
    pub fn of(digits: &[u8]) -> Self {
        let mut shown = [b'*'; Pan::MOST];
        let len = digits.len().min(Pan::MOST);
        if len >= 13 {
            for (at, (place, digit)) in shown.iter_mut().zip(digits).enumerate() {
                if at < 6 || at + 4 >= len {
                    *place = *digit;
                }
            }
        }
        Self { shown, len: u8::try_from(len).unwrap_or_default() }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        let shown = self.shown.get(..usize::from(self.len)).unwrap_or_default();
        std::str::from_utf8(shown).unwrap_or_default()
    }
}

impl fmt::Display for MaskedPan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for MaskedPan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Leading digits of account numbers: 1 to 12 of them. It names an issuer's range or a token range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bin(Digits<12>);

impl Bin {
    /// Takes 1 to 12 digits.
    ///
    /// # Errors
    /// `Length` or `NotADigit`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        Digits::parse("BIN", bytes, 1).map(Self)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether an account number (a PAN's or a token's digits) begins with this.
    #[must_use]
    pub fn begins(&self, account: &[u8]) -> bool {
        account.starts_with(self.as_bytes())
    }

    /// Whether some account number could begin with both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.as_bytes().starts_with(other.as_bytes()) || other.as_bytes().starts_with(self.as_bytes())
    }
}

impl fmt::Debug for Bin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bin({})", self.0)
    }
}

/// Whether the last digit is the check digit of those before it (ISO/IEC 7812-1 annex B). Non-digits: no.
#[must_use]
pub fn luhn_valid(account: &[u8]) -> bool {
    match account.split_last() {
        Some((last, body)) => luhn_check_digit(body) == Some(*last),
        None => false,
    }
}

/// The check digit, in ASCII, that completes `body`; `None` unless all of it is digits.
#[must_use]
pub fn luhn_check_digit(body: &[u8]) -> Option<u8> {
    let mut sum = 0_u32;
    for (from_right, byte) in body.iter().rev().enumerate() {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        sum += match (from_right % 2 == 0, digit) {
            (false, _) => digit,
            (true, 0..=4) => digit * 2,
            (true, _) => digit * 2 - 9,
        };
    }
    u8::try_from((10 - sum % 10) % 10).ok().map(|digit| digit + b'0')
}

/// 12 to 19 ASCII digits in place, for the word named.
pub(super) fn account_digits(word: &'static str, bytes: &[u8]) -> Result<([u8; Pan::MOST], u8), WordError> {
    let length = bytes.len();
    let refused = |fault| WordError { word, fault };
    if !(Pan::LEAST..=Pan::MOST).contains(&length) {
        return Err(refused(WordFault::Length { length, least: Pan::LEAST, most: Pan::MOST }));
    }
    // As `Text::parse`: all at once.
    if !bytes.iter().fold(true, |all, b| all & b.is_ascii_digit()) {
        let at = bytes.iter().position(|b| !b.is_ascii_digit()).unwrap_or_default();
        return Err(refused(WordFault::NotADigit { at }));
    }
    let mut digits = [0; Pan::MOST];
    for (place, byte) in digits.iter_mut().zip(bytes) {
        *place = *byte;
    }
    Ok((digits, u8::try_from(length).unwrap_or_default()))
}

/// Whether 13 to 19 digits, however they are set apart, pass the check of account numbers.
#[must_use]
pub fn may_hold_account(text: &str) -> bool {
    let apart = |byte: &u8| !matches!(byte, b' ' | b'-' | b'.');
    let bytes: Vec<u8> = text.bytes().filter(apart).collect();
    let digits = bytes.split(|byte| !byte.is_ascii_digit());
    digits.into_iter().any(|run| (13..=19).any(|length| run.windows(length).any(luhn_valid)))
}

/// Whether a name holds a card's number as such a number is written: 13 to 19 digits and no more, or in groups, that
/// pass the check and begin as cards do. Unlike `may_hold_account` it lets through what names are made of: times,
/// counters, UUIDs.
#[must_use]
pub fn holds_account(name: &str) -> bool {
    let bytes = name.as_bytes();
    let runs = bytes.split(|byte| !byte.is_ascii_digit());
    let pieces = bytes.split(|byte| !byte.is_ascii_digit() && !matches!(byte, b' ' | b'-'));
    runs.into_iter().any(is_account) || pieces.map(<[u8]>::trim_ascii).any(is_grouped_account)
}

/// How many digits stand together where a card's number is written in groups.
const GROUPS: [&[usize]; 3] = [&[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4]];

fn is_grouped_account(piece: &[u8]) -> bool {
    let groups = piece.split(|byte| !byte.is_ascii_digit());
    let lengths: Vec<usize> = groups.clone().map(<[u8]>::len).collect();
    GROUPS.contains(&lengths.as_slice()) && is_account(&groups.flatten().copied().collect::<Vec<u8>>())
}

/// Whether digits are an account number of a network's card (ISO/IEC 7812-1: the industry, then the issuer).
fn is_account(digits: &[u8]) -> bool {
    let begins = match digits {
        [b'3'..=b'6' | b'9', ..] | [b'8', b'1' | b'2', ..] => true,
        [a @ b'2', b, c, d, ..] => {
            let bin = [a, b, c, d].iter().fold(0_u16, |sum, digit| sum * 10 + u16::from(**digit - b'0'));
            (2221..=2720).contains(&bin) || (2200..=2204).contains(&bin)
        }
        _ => false,
    };
    begins && (13..=19).contains(&digits.len()) && luhn_valid(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pan_is_printed_masked() {
        let pan = Pan::parse(b"4761739001010119").unwrap();
        assert_eq!(format!("{pan:?}"), "Pan(476173******0119)");
        assert_eq!(pan.last4().as_str(), "0119");
        let short = Pan::parse(b"476173900101").unwrap();
        assert_eq!(short.masked().as_str(), "************", "too short to show ten digits of it");
    }

    #[test]
    fn a_pan_is_twelve_to_nineteen_digits() {
        for bad in [&b"47617390010"[..], b"47617390010101191234", b"476173900101011X", b"+761739001010119"] {
            assert!(Pan::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn check_digits() {
        for (account, valid) in [
            (&b"4761739001010119"[..], true),
            (b"4761739001010118", false),
            (b"6228480000000000026", true),
            (b"6235290000000000013", true),
            (b"", false),
            (b"x", false),
        ] {
            assert_eq!(luhn_valid(account), valid, "{}", String::from_utf8_lossy(account));
        }
    }

    #[test]
    fn ranges_overlap_when_one_begins_the_other() {
        let bin = |digits: &[u8]| Bin::parse(digits).unwrap();
        assert!(bin(b"4761").overlaps(&bin(b"476173")));
        assert!(bin(b"476173").overlaps(&bin(b"4761")));
        assert!(!bin(b"4762").overlaps(&bin(b"476173")));
        assert!(bin(b"4761").begins(b"4761739001010119"));
    }

    /// Of random ranges, so short that many meet: none that do not overlap has an account of the other, and each that
    /// does has one.
    #[test]
    fn ranges_that_do_not_overlap_share_no_account() {
        let mut random = crate::stdx::random::Entropy::seeded(9);
        let mut digits = |most| {
            let length = 1 + random.below(most).unwrap();
            (0..length).map(|_| b'0' + u8::try_from(random.below(3).unwrap()).unwrap()).collect::<Vec<u8>>()
        };
        let mut met = 0;
        for _ in 0..2_000 {
            let (of_tokens, of_cards) = (digits(6), digits(6));
            let (tokens, cards) = (Bin::parse(&of_tokens).unwrap(), Bin::parse(&of_cards).unwrap());
            let longer = if of_tokens.len() > of_cards.len() { &of_tokens } else { &of_cards };
            let account = [longer.as_slice(), b"0000000000"].concat();
            assert_eq!(tokens.overlaps(&cards), tokens.begins(&account) && cards.begins(&account));
            met += usize::from(tokens.overlaps(&cards));
        }
        assert!((100..1_900).contains(&met), "{met}");
    }

    #[test]
    fn names_that_hold_a_card_s_number_are_told_from_those_of_other_digits() {
        for (name, holds) in [
            ("4761730000000052", true),
            ("job-4761730000000052-1", true),
            ("x4761730000000052x", true),
            ("https://wallet.example/4761730000000052?a=b", true),
            ("6228480000000000026", true),
            ("5413330089601109", true),
            ("371449635398431", true),
            ("2223000048400011", true),
            ("2200000000000004", true),
            ("8171999927660000", true),
            ("4761 7300 0000 0052", true),
            ("card 4761-7300-0000-0052", true),
            ("3714 496353 98431", true),
            ("4761730000000053", false),
            ("476173000000005", false),
            ("0004761730000000052", false),
            ("20261123050501999", false),
            ("2026-11-23T05:05:01.999Z", false),
            ("1795404600000", false),
            ("1795404600000000008", false),
            ("00000000001-47617300-52", false),
            ("", false),
        ] {
            assert_eq!(holds_account(name), holds, "{name}");
        }
        // Of some of these the check digit happens to be right, however they are cut.
        for millis in 1_795_404_600_000_u64..1_795_404_602_000 {
            assert!(!holds_account(&millis.to_string()) && !holds_account(&format!("2026{millis}")));
        }
    }

    #[test]
    fn no_uuid_is_taken_for_a_card_s_number() {
        let mut random = crate::stdx::random::Entropy::seeded(7);
        for turn in 0..20_000 {
            let bytes: [u8; 16] = random.bytes().unwrap();
            // Half of them of decimal digits only: the worst case.
            let digit = |at: usize| {
                let nibble = bytes[at / 2] >> (4 * (at % 2)) & 0x0F;
                char::from_digit(u32::from(if turn % 2 == 0 { nibble % 10 } else { nibble }), 16).unwrap()
            };
            let mut uuid: String = (0..32).map(digit).collect();
            [8, 13, 18, 23].into_iter().for_each(|at| uuid.insert(at, '-'));
            assert!(!holds_account(&uuid), "{uuid}");
        }
    }
}
