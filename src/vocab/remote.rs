//! `RemoteCryptogram`: what a wallet or a merchant pays with where nobody taps, made by the token service provider for
//! one payment.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::initiation::Initiator;
use super::text::{WordError, WordFault};
use crate::stdx::clock::Wall;

/// The layout and the kind of payment: version 1, initiated by the customer or by the merchant. Others are refused.
const BY_CUSTOMER: u8 = 0x11;
const BY_MERCHANT: u8 = 0x12;
/// Amounts have twelve digits, which fit five bytes.
const MOST_MINOR: u64 = 999_999_999_999;

/// A cryptogram for one payment in an app or a shop on the net: 20 bytes, written as 28 characters of base64, as
/// digital payment cryptograms are in the field. Clear to read, and worth nothing without its MAC: version and kind
/// (1), the second since 1970 until which it is good (4), its number among its token's (2), the most in minor units
/// that it was made for (5), MAC (8).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RemoteCryptogram([u8; Self::LENGTH]);

impl RemoteCryptogram {
    pub const LENGTH: usize = 20;
    /// Of its text.
    pub const TEXT_LENGTH: usize = 28;
    /// What its MAC covers of it.
    pub const HEAD_LENGTH: usize = 12;

    /// What it says of itself, for a payment that the customer initiates; its MAC is put on with `signed`. `None` for
    /// an amount of more than twelve digits, or a time past the year 2106.
    #[must_use]
    pub fn unsigned(until: Wall, number: u16, minor: u64) -> Option<Self> {
        let seconds = u32::try_from(until.seconds()).ok()?.to_be_bytes();
        let [_, _, _, amount @ ..] = minor.to_be_bytes();
        let parts = [BY_CUSTOMER].into_iter().chain(seconds).chain(number.to_be_bytes()).chain(amount);
        let mut bytes = [0; Self::LENGTH];
        bytes.iter_mut().zip(parts).for_each(|(place, byte)| *place = byte);
        (minor <= MOST_MINOR).then_some(Self(bytes))
    }

    /// The same, for a payment that is initiated so.
    #[must_use]
    pub fn initiated_by(mut self, initiator: Initiator) -> Self {
        let [kind, ..] = &mut self.0;
        *kind = match initiator {
            Initiator::Customer => BY_CUSTOMER,
            Initiator::Merchant => BY_MERCHANT,
        };
        self
    }

    #[must_use]
    pub fn signed(mut self, mac: [u8; 8]) -> Self {
        self.0.iter_mut().skip(Self::HEAD_LENGTH).zip(mac).for_each(|(place, byte)| *place = byte);
        self
    }

    /// Reads its text.
    ///
    /// # Errors
    /// `Length`, `NotAllowed` for what is no base64, `OutOfRange` for another version or kind.
    pub fn parse(text: &[u8]) -> Result<Self, WordError> {
        let wrong = |fault| WordError { word: "cryptogram", fault };
        let length =
            WordFault::Length { length: text.len(), least: Self::TEXT_LENGTH, most: Self::TEXT_LENGTH };
        if text.len() != Self::TEXT_LENGTH {
            return Err(wrong(length));
        }
        // 28 characters can be 21 bytes, too.
        let mut bytes = [0; Self::LENGTH + 1];
        match STANDARD.decode_slice(text, &mut bytes) {
            Ok(Self::LENGTH) => {}
            Ok(_) => return Err(wrong(length)),
            Err(_) => return Err(wrong(WordFault::NotAllowed { at: 0 })),
        }
        let [bytes @ .., _] = bytes;
        let [BY_CUSTOMER | BY_MERCHANT, ..] = bytes else { return Err(wrong(WordFault::OutOfRange)) };
        Ok(Self(bytes))
    }

    /// As messages and answers carry it.
    #[must_use]
    pub fn text(&self) -> [u8; Self::TEXT_LENGTH] {
        let mut text = [b'='; Self::TEXT_LENGTH];
        // 20 bytes are 28 characters.
        let _ = STANDARD.encode_slice(self.0, &mut text);
        text
    }

    /// What its MAC covers of it.
    #[must_use]
    pub fn head(&self) -> [u8; Self::HEAD_LENGTH] {
        self.part(0)
    }

    #[must_use]
    pub fn mac(&self) -> [u8; 8] {
        self.part(Self::HEAD_LENGTH)
    }

    /// Who is to initiate the payment.
    #[must_use]
    pub fn initiator(&self) -> Initiator {
        let [kind, ..] = self.0;
        if kind == BY_MERCHANT { Initiator::Merchant } else { Initiator::Customer }
    }

    /// Its number among those of its token, counted from 1.
    #[must_use]
    pub fn number(&self) -> u16 {
        u16::from_be_bytes(self.part(5))
    }

    /// The most that it pays, in minor units of the currency that it was made for.
    #[must_use]
    pub fn minor(&self) -> u64 {
        self.part::<5>(7).into_iter().fold(0, |sum, byte| sum << 8 | u64::from(byte))
    }

    /// From when on it is good no more.
    #[must_use]
    pub fn until(&self) -> Wall {
        Wall(u64::from(u32::from_be_bytes(self.part(1))) * 1_000)
    }

    fn part<const N: usize>(&self, from: usize) -> [u8; N] {
        std::array::from_fn(|at| self.0.get(from + at).copied().unwrap_or_default())
    }
}

/// A cryptogram is never shown: whoever sees it can pay with it.
impl std::fmt::Debug for RemoteCryptogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RemoteCryptogram({})", self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> RemoteCryptogram {
        let until = Wall(1_795_000_000_000);
        RemoteCryptogram::unsigned(until, 513, MOST_MINOR).unwrap().signed(*b"12345678")
    }

    #[test]
    fn it_says_what_it_was_made_of() {
        let made = sample();
        assert_eq!((made.until(), made.number()), (Wall(1_795_000_000_000), 513));
        assert_eq!((made.minor(), made.mac()), (MOST_MINOR, *b"12345678"));
        assert_eq!(RemoteCryptogram::parse(&made.text()), Ok(made));
        // Python: base64.b64encode(bytes([0x11]) + struct.pack(">IH", 1795000000, 513) + (10**12 - 1).to_bytes(5)
        // + b"12345678").
        assert_eq!(made.text(), *b"EWr9hsACAejUpQ//MTIzNDU2Nzg=");
        assert_eq!(made.initiator(), Initiator::Customer);
        let merchants = made.initiated_by(Initiator::Merchant);
        assert_eq!(merchants.text(), *b"Emr9hsACAejUpQ//MTIzNDU2Nzg=");
        assert_eq!(
            RemoteCryptogram::parse(&merchants.text()).map(|it| it.initiator()),
            Ok(Initiator::Merchant)
        );
        assert_eq!(format!("{made:?}"), "RemoteCryptogram(513)");
    }

    #[test]
    fn what_is_none_is_refused() {
        assert_eq!(RemoteCryptogram::unsigned(Wall(0), 1, MOST_MINOR + 1), None);
        assert_eq!(RemoteCryptogram::unsigned(Wall(u64::MAX), 1, 1), None);
        let text = sample().text();
        let other_kind = STANDARD.encode([0x13; 20]);
        for bad in [&text[..27], b"", b"EWr9hsACAejUpQ//MTIzNDU2Nzg!", &[b'A'; 28], other_kind.as_bytes()] {
            assert!(RemoteCryptogram::parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
