//! `Token` and what names it: requestor, reference, payment account reference, assurance, location.

use std::fmt;

use super::pan::{MaskedPan, Pan, account_digits};
use super::text::{Digits, Text, WordError, WordFault};

/// A payment token: 12 to 19 digits in a PAN's place (EMVCo Tokenisation Framework 1.5). It is no account data
/// outside the TSP, yet `Debug` masks it all the same; `as_str` is for receipts and answers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    digits: [u8; Pan::MOST],
    len: u8,
}

impl Token {
    /// Takes 12 to 19 ASCII digits. Whether they lie in a token range is the TSP's to say.
    ///
    /// # Errors
    /// `Length` or `NotADigit`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let (digits, len) = account_digits("token", bytes)?;
        Ok(Self { digits, len })
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.digits.get(..usize::from(self.len)).unwrap_or_default()
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    #[must_use]
    pub fn masked(&self) -> MaskedPan {
        MaskedPan::of(self.as_bytes())
    }

    #[must_use]
    pub fn last4(&self) -> Digits<4> {
        let digits = self.as_bytes();
        let tail = digits.get(digits.len().saturating_sub(4)..).unwrap_or_default();
        Digits::parse("last four", tail, 4).unwrap_or_default()
    }

    /// The digits as one number. Unique among tokens of one length; a token range never begins with zero.
    #[must_use]
    pub fn number(&self) -> u64 {
        let (eights, rest) = self.as_bytes().as_chunks::<8>();
        let sum = eights
            .iter()
            .fold(0_u64, |sum, eight| sum.wrapping_mul(100_000_000).wrapping_add(eight_digits(*eight)));
        rest.iter().fold(sum, |sum, digit| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
    }
}

/// Eight ASCII digits as a number: pairs of them, then fours, then all.
const fn eight_digits(digits: [u8; 8]) -> u64 {
    let ones = u64::from_le_bytes(digits) & 0x0F0F_0F0F_0F0F_0F0F;
    let pairs = (ones * 10 + (ones >> 8)) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_FFFF_0000_FFFF;
    (fours * 10_000 + (fours >> 32)) & 0xFFFF_FFFF
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.masked())
    }
}

/// Token requestor id (TRID): 11 digits, the first three the TSP's code (EMVCo 5.2.1). TSP code 000 is for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenRequestorId(Digits<11>);

impl TokenRequestorId {
    /// Takes exactly 11 digits.
    ///
    /// # Errors
    /// `Length` or `NotADigit`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        Digits::parse("token requestor id", bytes, 11).map(Self)
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

impl fmt::Display for TokenRequestorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The handle by which everyone but a payment names a token: 32 lower-case hex characters, random, revealing
/// neither token nor PAN.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenReferenceId([u8; 16]);

impl TokenReferenceId {
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// Takes 32 lower-case hex characters.
    ///
    /// # Errors
    /// `Length` or `NotAllowed`.
    pub fn parse(text: &str) -> Result<Self, WordError> {
        let word = "token reference id";
        let refused = |fault| WordError { word, fault };
        if text.len() != 32 {
            return Err(refused(WordFault::Length { length: text.len(), least: 32, most: 32 }));
        }
        if let Some(at) = text.bytes().position(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(refused(WordFault::NotAllowed { at }));
        }
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| refused(WordFault::OutOfRange))?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for TokenReferenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TokenReferenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Payment account reference: 29 upper-case letters and digits, the same for a PAN and all its tokens (EMVCo 7.1).
/// It can never start a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Par(Text<29>);

impl Par {
    /// Takes exactly 29 characters of `A-Z0-9`.
    ///
    /// # Errors
    /// `Length` or `NotAllowed`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let word = "PAR";
        if bytes.len() != 29 {
            let fault = WordFault::Length { length: bytes.len(), least: 29, most: 29 };
            return Err(WordError { word, fault });
        }
        let allowed = |b: &u8| b.is_ascii_digit() || b.is_ascii_uppercase();
        // As `Text::parse`: all at once.
        if bytes.iter().fold(true, |all, b| all & allowed(b)) {
            return Text::filled(word, bytes).map(Self);
        }
        let at = bytes.iter().position(|b| !allowed(b)).unwrap_or_default();
        Err(WordError { word, fault: WordFault::NotAllowed { at } })
    }

    /// Takes what a PAR's `as_bytes` gave, which was looked at when it became one.
    #[inline]
    pub(crate) fn kept(bytes: &[u8; 29]) -> Option<Self> {
        debug_assert!(Self::parse(bytes).is_ok());
        Text::filled("PAR", bytes).ok().map(Self)
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

/// Token assurance method (EMVCo table 6): two digits that say how identity was checked, `00` for not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenAssuranceMethod(u8);

impl TokenAssuranceMethod {
    /// `00`: identification and verification was not performed.
    pub const NOT_PERFORMED: Self = Self(0);

    /// Takes two digits, as one that was stated before is written.
    ///
    /// # Errors
    /// `Length` or `NotADigit`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let value = super::text::exact_number("token assurance method", bytes, 2)?;
        Ok(Self(u8::try_from(value).unwrap_or_default()))
    }

    /// Takes two digits of a method that can be stated: not one of those that EMVCo has reserved.
    ///
    /// # Errors
    /// As `parse`, and `OutOfRange`.
    pub fn stated(bytes: &[u8]) -> Result<Self, WordError> {
        let method = Self::parse(bytes)?;
        match method.0 {
            4..=9 | 15..=19 | 90.. => {
                Err(WordError { word: "token assurance method", fault: WordFault::OutOfRange })
            }
            _ => Ok(method),
        }
    }

    #[must_use]
    pub fn digits(self) -> [u8; 2] {
        [b'0' + self.0 / 10, b'0' + self.0 % 10]
    }
}

/// Where the token lives (EMVCo table 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TokenLocation {
    Unspecified = 0,
    RemoteStorage = 1,
    SecureElement = 2,
    DeviceStorage = 3,
    DeviceSecuredHardware = 4,
    RemoteSecuredHardware = 5,
    SharedStorage = 6,
    Temporary = 7,
}

impl TokenLocation {
    pub const ALL: [Self; 8] = [
        Self::Unspecified,
        Self::RemoteStorage,
        Self::SecureElement,
        Self::DeviceStorage,
        Self::DeviceSecuredHardware,
        Self::RemoteSecuredHardware,
        Self::SharedStorage,
        Self::Temporary,
    ];

    /// Takes the two digits of EMVCo table 5.1; 08 to 99 are reserved.
    ///
    /// # Errors
    /// `Length`, `NotADigit` or `OutOfRange`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let word = "token location";
        let value = super::text::exact_number(word, bytes, 2)?;
        let place = usize::try_from(value).unwrap_or(usize::MAX);
        Self::ALL.get(place).copied().ok_or(WordError { word, fault: WordFault::OutOfRange })
    }

    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_lower_case_hex_and_come_back_the_same() {
        let text = "00112233445566778899aabbccddeeff";
        assert_eq!(TokenReferenceId::parse(text).unwrap().to_string(), text);
        for bad in ["00112233445566778899AABBCCDDEEFF", "0011", "zz112233445566778899aabbccddeeff"] {
            assert!(TokenReferenceId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_number_of_a_token_is_that_of_its_digits() {
        let mut rng = fastrand::Rng::with_seed(8);
        for length in Pan::LEAST..=Pan::MOST {
            let digits: String = (0..length).map(|_| rng.digit(10)).collect();
            assert_eq!(Token::parse(digits.as_bytes()).unwrap().number(), digits.parse::<u64>().unwrap());
        }
    }

    #[test]
    fn a_par_is_29_capitals_and_digits() {
        for published in [b"V0010013020315513942420893974", b"V0010056422073825495104907179"] {
            assert_eq!(Par::parse(published).unwrap().as_str().as_bytes(), published);
        }
        assert!(Par::parse(b"v0010013020315513942420893974").is_err());
        assert!(Par::parse(b"V001").is_err());
    }

    #[test]
    fn assurance_and_location_codes() {
        assert_eq!(TokenAssuranceMethod::parse(b"14").unwrap().digits(), *b"14");
        assert!(TokenAssuranceMethod::parse(b"+1").is_err());
        let reserved = |method: &u8| matches!(method, 4..=9 | 15..=19 | 90..=99);
        for method in 0..=99_u8 {
            let digits = format!("{method:02}");
            let stated = TokenAssuranceMethod::stated(digits.as_bytes());
            assert_eq!(stated.is_err(), reserved(&method), "{digits}");
            assert!(TokenAssuranceMethod::parse(digits.as_bytes()).is_ok(), "what was written down is read");
        }
        assert_eq!(TokenLocation::parse(b"02").unwrap(), TokenLocation::SecureElement);
        assert!(TokenLocation::parse(b"08").is_err());
    }
}
