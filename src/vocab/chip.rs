//! What a chip says of one payment: the data it signed, and what it signed them with.

use super::text::{WordError, WordFault};

/// The data elements that an application cryptogram is computed over, and the cryptogram (EMV Book 2, 8.1.1), each as
/// the bytes of its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChipPayment {
    /// Amount authorized, 9F02 `n12`, in minor units.
    pub amount: [u8; 6],
    /// Amount other, 9F03 `n12`; zeros where the chip was given none.
    pub amount_other: [u8; 6],
    /// Terminal country code, 9F1A `n3`.
    pub country: [u8; 2],
    /// Terminal verification results, 95.
    pub terminal_results: [u8; 5],
    /// Transaction currency code, 5F2A `n3`.
    pub currency: [u8; 2],
    /// Transaction date, 9A `n6` YYMMDD.
    pub date: [u8; 3],
    /// Transaction type, 9C `n2`.
    pub kind: [u8; 1],
    /// Unpredictable number of the terminal, 9F37.
    pub unpredictable: [u8; 4],
    /// Application interchange profile, 82.
    pub profile: [u8; 2],
    /// Application transaction counter, 9F36.
    pub counter: [u8; 2],
    /// Issuer application data, 9F10.
    pub issuer_data: IssuerData,
    /// Application cryptogram, 9F26.
    pub cryptogram: [u8; 8],
}

/// Values of an application transaction counter, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AtcRange {
    pub first: u16,
    pub last: u16,
}

impl AtcRange {
    #[must_use]
    pub fn contains(self, atc: u16) -> bool {
        (self.first..=self.last).contains(&atc)
    }
}

impl ChipPayment {
    /// One euro at a terminal in Germany, the card's first payment, not signed: for tests and benchmarks.
    #[must_use]
    pub fn sample() -> Self {
        Self {
            amount: [0, 0, 0, 0, 1, 0],
            amount_other: [0; 6],
            country: [0x02, 0x76],
            terminal_results: [0; 5],
            currency: [0x09, 0x78],
            date: [0x26, 0x11, 0x22],
            kind: [0],
            unpredictable: [1, 2, 3, 4],
            profile: [0; 2],
            counter: [0, 1],
            issuer_data: IssuerData::default(),
            cryptogram: [0; 8],
        }
    }

    /// The application transaction counter as a number.
    #[must_use]
    pub fn atc(&self) -> u16 {
        u16::from_be_bytes(self.counter)
    }

    /// The amount authorized in minor units; `None` when its digits are none.
    #[must_use]
    pub fn minor_amount(&self) -> Option<u64> {
        packed_number(&self.amount)
    }

    /// The currency as an ISO 4217 number; `None` when its digits are none.
    #[must_use]
    pub fn currency_number(&self) -> Option<u16> {
        packed_number(&self.currency).and_then(|number| u16::try_from(number).ok())
    }
}

/// A number of packed digits (EMV format n).
fn packed_number(bytes: &[u8]) -> Option<u64> {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]).try_fold(0_u64, |sum, digit| {
        (digit < 10).then(|| sum.wrapping_mul(10).wrapping_add(u64::from(digit)))
    })
}

/// Issuer application data, 9F10: at most 32 bytes, laid out as the card's profile says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct IssuerData {
    bytes: [u8; Self::MOST],
    len: u8,
}

impl IssuerData {
    pub const MOST: usize = 32;

    /// Takes up to 32 bytes.
    ///
    /// # Errors
    /// `Length`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let length = WordFault::Length { length: bytes.len(), least: 0, most: Self::MOST };
        let wrong = WordError { word: "issuer application data", fault: length };
        let mut data = Self { bytes: [0; Self::MOST], len: u8::try_from(bytes.len()).map_err(|_| wrong)? };
        data.bytes.get_mut(..bytes.len()).ok_or(wrong)?.copy_from_slice(bytes);
        Ok(data)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_digits_are_numbers_and_anything_else_is_none() {
        assert_eq!(packed_number(&[0x00, 0x00, 0x00, 0x00, 0x42, 0x50]), Some(4250));
        assert_eq!(packed_number(&[0x09, 0x78]), Some(978));
        assert_eq!(packed_number(&[0x0A, 0x78]), None);
    }

    #[test]
    fn issuer_data_has_at_most_32_bytes() {
        for length in [0, 7, 32] {
            assert_eq!(IssuerData::parse(&[7; 33][..length]).unwrap().as_bytes(), &[7; 33][..length]);
        }
        assert!(IssuerData::parse(&[7; 33]).is_err());
    }
}
