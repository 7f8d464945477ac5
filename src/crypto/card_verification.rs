//! Verification values of cards without a chip's cryptogram: `CardVerificationKey` for the values on stripe, chip and
//! print (CVV, iCVV, CVV2; CVC, CVC2), `DynamicVerificationKey` for the code that changes with each tap (CVC3).

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::cipher::{BlockCipher, Keyed, Padding, blocks, decimalized, halves, retail_mac};
use super::emv::{CardKeyMethod, ClearKey, card_key, left_block, packed};
use super::key::CHIP_KEY_LENGTH;
use crate::vocab::{Expiry, PanSequenceNumber, ServiceCode};

/// Where a verification value stands. The service code that goes into it tells them apart, so that none is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerificationValue {
    /// On the magnetic stripe, with the stripe's own service code: CVV or CVC.
    Stripe(ServiceCode),
    /// In the chip's image of track 2: iCVV, chip CVC.
    Chip,
    /// Printed on the card, for payments without it: CVV2, CVC2.
    Printed,
}

impl VerificationValue {
    fn service_code(self) -> [u8; 3] {
        match self {
            Self::Stripe(code) => code.digits(),
            Self::Chip => *b"999",
            Self::Printed => *b"000",
        }
    }
}

/// A card verification key: two DES keys, A and B.
pub struct CardVerificationKey(Zeroizing<[u8; CHIP_KEY_LENGTH]>);

impl CardVerificationKey {
    #[must_use]
    pub fn new(key: &[u8; CHIP_KEY_LENGTH]) -> Self {
        Self(Zeroizing::new(*key))
    }

    /// The three digits, in ASCII, of a card with this number (ASCII digits, at most 19) and expiry.
    #[must_use]
    pub fn digits(&self, account: &[u8], expiry: Expiry, value: VerificationValue) -> [u8; 3] {
        let (expiry, service) = (expiry.digits(), value.service_code());
        let mut digits = Zeroizing::new([0; 32]);
        let said = account.iter().chain(&expiry).chain(&service).map(|digit| digit & 0x0F);
        digits.iter_mut().zip(said).for_each(|(place, digit)| *place = digit);
        let (left, right) = halves(packed(digits.iter().copied()));
        // DES under A, then triple DES of that and the rest: the retail MAC of the two blocks.
        let made = retail_mac(&self.0, [left, right].into_iter());
        let mut out = [b'0'; 3];
        out.iter_mut().zip(decimalized(&made)).for_each(|(place, digit)| *place += digit);
        out
    }

    /// Whether these are its digits, in a time that does not tell where they differ.
    #[must_use]
    pub fn verifies(&self, account: &[u8], expiry: Expiry, value: VerificationValue, said: &[u8]) -> bool {
        self.digits(account, expiry, value).ct_eq(said).into()
    }
}

impl fmt::Debug for CardVerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CardVerificationKey")
    }
}

/// A card's key for dynamic card verification codes.
pub struct DynamicVerificationKey(ClearKey);

impl DynamicVerificationKey {
    /// Fewer digits of a code than a merchant's system passes on are no proof of anything.
    const LEAST: usize = 3;

    /// The key of a card with this number (ASCII digits), from its issuer's master key for such codes (EMV Book 2,
    /// A1.4.1).
    #[must_use]
    pub fn of_card(issuer: &[u8; CHIP_KEY_LENGTH], account: &[u8], sequence: PanSequenceNumber) -> Self {
        let issuer = Keyed::new(BlockCipher::TripleDes, issuer);
        Self(card_key(&issuer, CardKeyMethod::A, account, sequence))
    }

    /// The five digits, in ASCII, of a tap. `template` is the track as the card is personalised, its places for
    /// counter, number and code still empty; `unpredictable` is tag 9F6A and `counter` tag 9F36.
    #[must_use]
    pub fn digits(&self, template: &[u8], unpredictable: [u8; 4], counter: [u8; 2]) -> [u8; 5] {
        let [.., a, b] = retail_mac(&self.0, blocks(template, Padding::Bit));
        let ([c, d, e, f], [g, h]) = (unpredictable, counter);
        let keyed = Keyed::new(BlockCipher::TripleDes, &self.0);
        let [.., high, low] = left_block(&keyed, [a, b, c, d, e, f, g, h]);
        let mut rest = u16::from_be_bytes([high, low]);
        let mut out = [b'0'; 5];
        for place in out.iter_mut().rev() {
            *place += u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
        out
    }

    /// Whether these are the last digits of its code, three or more, in a time that does not tell where they differ.
    #[must_use]
    pub fn verifies(&self, template: &[u8], unpredictable: [u8; 4], counter: [u8; 2], said: &[u8]) -> bool {
        let made = self.digits(template, unpredictable, counter);
        let last = made.len().checked_sub(said.len()).and_then(|at| made.get(at..));
        said.len() >= Self::LEAST && last.is_some_and(|last| last.ct_eq(said).into())
    }
}

impl fmt::Debug for DynamicVerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DynamicVerificationKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> [u8; 16] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    /// Made with psec 1.3.0; the last is its documentation's own example.
    #[test]
    fn values_are_the_published_ones() {
        let own = CardVerificationKey::new(&key("0123456789ABCDEFFEDCBA9876543210"));
        let stripe = |code| VerificationValue::Stripe(ServiceCode::parse(code).unwrap());
        for (account, expiry, value, expected) in [
            ("4123456789012345", b"8701", stripe(b"101"), b"561"),
            ("4123456789012345", b"8701", VerificationValue::Chip, b"651"),
            ("4123456789012345", b"8701", VerificationValue::Printed, b"636"),
            ("1234567890123456", b"9912", stripe(b"220"), b"170"),
        ] {
            let (account, expiry) = (account.as_bytes(), Expiry::parse(expiry).unwrap());
            assert_eq!(&own.digits(account, expiry, value), expected, "{value:?}");
            assert!(own.verifies(account, expiry, value, expected));
            for other in [&expected[..2], b"000", &[expected, &b"0"[..]].concat(), b""] {
                assert!(!own.verifies(account, expiry, value, other), "{value:?} {other:?}");
            }
        }
    }

    /// The example of pyemv's documentation.
    #[test]
    fn a_dynamic_code_is_the_published_one() {
        let issuer = key("01234567899876543210012345678998");
        let card = DynamicVerificationKey::of_card(&issuer, b"5123456789012345", PanSequenceNumber::ZERO);
        let track_2 = hex::decode("5123456789012345D35121010000000000000F").unwrap();
        let (unpredictable, counter) = ([0, 0, 8, 0x99], [0, 0x5E]);
        assert_eq!(&card.digits(&track_2, unpredictable, counter), b"29488");
        for (said, right) in
            [(&b"29488"[..], true), (b"9488", true), (b"488", true), (b"88", false), (b"", false)]
        {
            assert_eq!(card.verifies(&track_2, unpredictable, counter, said), right, "{said:?}");
        }
        for wrong in [&b"29487"[..], b"489", b"029488"] {
            assert!(!card.verifies(&track_2, unpredictable, counter, wrong), "{wrong:?}");
        }
        assert!(!card.verifies(&track_2, unpredictable, [0, 0x5F], b"29488"), "another tap");
    }

    #[test]
    fn no_key_is_printed() {
        let own = key("0123456789ABCDEFFEDCBA9876543210");
        let card = DynamicVerificationKey::of_card(&own, b"5123456789012345", PanSequenceNumber::ZERO);
        let shown = format!("{:?} {card:?}", CardVerificationKey::new(&own));
        assert_eq!(shown, "CardVerificationKey DynamicVerificationKey");
    }
}
