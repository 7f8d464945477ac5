//! `Text<N>` and `Digits<N>`: short strings kept in place, and the one error that parsing a word gives.

use std::fmt;

/// Why bytes are not the word they were taken for. It never repeats the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{word}: {fault}")]
pub struct WordError {
    /// The word in the field's terms, as `PAN` or `expiry date`.
    pub word: &'static str,
    pub fault: WordFault,
}

/// What is wrong with a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WordFault {
    #[error("{length} characters where {least} to {most} are allowed")]
    Length { length: usize, least: usize, most: usize },
    #[error("character {at} is no digit")]
    NotADigit { at: usize },
    #[error("character {at} is not printable ASCII")]
    NotPrintable { at: usize },
    #[error("character {at} is not allowed here")]
    NotAllowed { at: usize },
    #[error("not a value that exists")]
    OutOfRange,
    #[error("the check digit is wrong")]
    CheckDigit,
}

/// Up to `N` printable ASCII characters, in place: no allocation, `Copy`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

impl<const N: usize> Text<N> {
    /// Takes printable ASCII (0x20 to 0x7E) of at most `N` characters.
    ///
    /// # Errors
    /// `Length` or `NotPrintable`, under the name `word`.
    pub fn parse(word: &'static str, bytes: &[u8]) -> Result<Self, WordError> {
        let printable = |b: &u8| (0x20..=0x7E).contains(b);
        // All at once, which is faster than one by one; where the first bad one stands is looked for only then.
        if !bytes.iter().fold(true, |all, b| all & printable(b)) {
            let at = bytes.iter().position(|b| !printable(b)).unwrap_or_default();
            return Err(WordError { word, fault: WordFault::NotPrintable { at } });
        }
        Self::filled(word, bytes)
    }

    /// Takes characters that somebody has looked at.
    pub(super) fn filled(word: &'static str, bytes: &[u8]) -> Result<Self, WordError> {
        let length = WordFault::Length { length: bytes.len(), least: 0, most: N };
        let mut text = Self { bytes: [0; N], len: 0 };
        let place = text.bytes.get_mut(..bytes.len()).ok_or(WordError { word, fault: length })?;
        place.copy_from_slice(bytes);
        text.len = u8::try_from(bytes.len()).map_err(|_| WordError { word, fault: length })?;
        Ok(text)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Up to `N` decimal digits, in place; leading zeros count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digits<const N: usize>(Text<N>);

impl<const N: usize> Digits<N> {
    /// Takes `least` to `N` digits and nothing else: no sign, no space.
    ///
    /// # Errors
    /// `Length` or `NotADigit`, under the name `word`.
    pub fn parse(word: &'static str, bytes: &[u8], least: usize) -> Result<Self, WordError> {
        if bytes.len() < least || bytes.len() > N {
            let fault = WordFault::Length { length: bytes.len(), least, most: N };
            return Err(WordError { word, fault });
        }
        match bytes.iter().position(|b| !b.is_ascii_digit()) {
            Some(at) => Err(WordError { word, fault: WordFault::NotADigit { at } }),
            None => Text::filled(word, bytes).map(Self),
        }
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

impl<const N: usize> fmt::Debug for Digits<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const N: usize> fmt::Display for Digits<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A decimal number from digits alone: `"+12"` and `" 12"` are no numbers here. Parse failures are `None`.
pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// A number of exactly `length` digits, for the named word.
pub(super) fn exact_number(word: &'static str, bytes: &[u8], length: usize) -> Result<u64, WordError> {
    if bytes.len() != length {
        let fault = WordFault::Length { length: bytes.len(), least: length, most: length };
        return Err(WordError { word, fault });
    }
    number(bytes).ok_or_else(|| {
        let fault = match bytes.iter().position(|b| !b.is_ascii_digit()) {
            Some(at) => WordFault::NotADigit { at },
            None => WordFault::OutOfRange,
        };
        WordError { word, fault }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_digits_only() {
        for (given, fault) in [
            (&b"+12"[..], Some(WordFault::NotADigit { at: 0 })),
            (b"1 2", Some(WordFault::NotADigit { at: 1 })),
            (b"12345", Some(WordFault::Length { length: 5, least: 1, most: 4 })),
            (b"", Some(WordFault::Length { length: 0, least: 1, most: 4 })),
            (b"0012", None),
        ] {
            assert_eq!(Digits::<4>::parse("n", given, 1).err().map(|e| e.fault), fault, "{given:?}");
        }
    }

    #[test]
    fn numbers_never_wrap_or_guess() {
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(number(b"18446744073709551616"), None);
        assert_eq!(number(b"+1"), None);
        assert_eq!(number(b""), None);
    }
}
