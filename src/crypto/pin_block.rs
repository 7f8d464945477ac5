//! PIN blocks (ISO 9564-1) between two parties: a `PinZoneKey` enciphers and deciphers them. A `Pin` can be compared
//! and enciphered again, and not looked at.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::cipher::{AesKey, TripleDes, halves, xor};
use super::emv::packed;
use super::error::CryptoError;
use super::key::CHIP_KEY_LENGTH;
use crate::stdx::random::Entropy;
use crate::vocab::{WordError, WordFault};

/// A personal identification number: 4 to 12 digits. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Pin {
    digits: [u8; Self::MOST],
    len: u8,
}

impl Pin {
    const LEAST: usize = 4;
    const MOST: usize = 12;

    /// Takes 4 to 12 ASCII digits.
    ///
    /// # Errors
    /// `Length` or `NotADigit`.
    pub fn parse(text: &[u8]) -> Result<Self, WordError> {
        let refused = |fault| WordError { word: "PIN", fault };
        let length = WordFault::Length { length: text.len(), least: Self::LEAST, most: Self::MOST };
        if let Some(at) = text.iter().position(|byte| !byte.is_ascii_digit()) {
            return Err(refused(WordFault::NotADigit { at }));
        }
        let digits = Zeroizing::new(text.iter().map(|digit| digit & 0x0F).collect::<Vec<_>>());
        Self::of_digits(&digits).ok_or(refused(length))
    }

    /// Takes 4 to 12 numbers below ten.
    fn of_digits(numbers: &[u8]) -> Option<Self> {
        let mut pin = Self { digits: [0; Self::MOST], len: u8::try_from(numbers.len()).ok()? };
        let fits = (Self::LEAST..=Self::MOST).contains(&numbers.len());
        let all = fits && numbers.iter().fold(true, |all, number| all & (*number < 10));
        pin.digits.iter_mut().zip(numbers).for_each(|(place, digit)| *place = *digit);
        all.then_some(pin)
    }

    fn digits(&self) -> &[u8] {
        self.digits.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl PartialEq for Pin {
    /// In a time that does not tell where they differ.
    fn eq(&self, other: &Self) -> bool {
        (self.digits.ct_eq(&other.digits) & self.len.ct_eq(&other.len)).into()
    }
}

impl Eq for Pin {}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin")
    }
}

/// How a PIN is laid out before it is enciphered (ISO 9564-1, 9.3 and 9.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinBlockFormat {
    /// Filled up with F, and mixed with the account number.
    Zero,
    /// Filled up at random, without the account number. It is never made of another format.
    One,
    /// As format 0, filled up with random letters.
    Three,
    /// Of 16 bytes, for AES: filled up with A and with random bytes, bound to the account number.
    Four,
}

impl PinBlockFormat {
    fn number(self) -> u8 {
        match self {
            Self::Zero => 0,
            Self::One => 1,
            Self::Three => 3,
            Self::Four => 4,
        }
    }
}

/// Why a PIN block gives no PIN, or cannot be made. A block that is none gets one answer, whatever is wrong in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PinBlockFault {
    #[error("formats 0, 1 and 3 are for triple DES, and format 4 is for AES")]
    OtherCipher,
    #[error("no PIN of this account under this key")]
    NotAPin,
}

/// The key for PIN blocks between two parties.
pub struct PinZoneKey(Cipher);

enum Cipher {
    TripleDes(Box<TripleDes>),
    Aes(AesKey),
}

impl PinZoneKey {
    /// For formats 0, 1 and 3.
    #[must_use]
    pub fn triple_des(key: &[u8; CHIP_KEY_LENGTH]) -> Self {
        Self(Cipher::TripleDes(Box::new(TripleDes::new(key))))
    }

    /// For format 4. `None` unless the key has 16, 24 or 32 bytes.
    #[must_use]
    pub fn aes(key: &[u8]) -> Option<Self> {
        AesKey::new(key).map(Cipher::Aes).map(Self)
    }

    /// The block of a PIN for the account with this number (ASCII digits): a token's at the acquirer's side, its PAN's
    /// at the issuer's. 8 bytes, of format 4 16.
    ///
    /// # Errors
    /// `PinBlock` for a format of the other cipher, and `NoEntropy`.
    pub fn encipher(
        &self,
        format: PinBlockFormat,
        pin: &Pin,
        account: &[u8],
        entropy: &mut Entropy,
    ) -> Result<Vec<u8>, CryptoError> {
        let random = Zeroizing::new(entropy.bytes()?);
        match (&self.0, format) {
            (Cipher::TripleDes(des), PinBlockFormat::Zero | PinBlockFormat::One | PinBlockFormat::Three) => {
                let clear = xor(pin_field(format, pin, &random), account_field(format, account));
                Ok(des.encrypt(clear).to_vec())
            }
            (Cipher::Aes(aes), PinBlockFormat::Four) => {
                let mut field = Zeroizing::new([0; 16]);
                let parts = pin_field(format, pin, &random).into_iter().chain(*random);
                field.iter_mut().zip(parts).for_each(|(place, byte)| *place = byte);
                Ok(aes.encrypt(xor(aes.encrypt(*field), long_account_field(account))).to_vec())
            }
            _ => Err(CryptoError::PinBlock(PinBlockFault::OtherCipher)),
        }
    }

    /// The PIN in a block of the account with this number.
    ///
    /// # Errors
    /// `PinBlock`.
    pub fn decipher(&self, format: PinBlockFormat, block: &[u8], account: &[u8]) -> Result<Pin, CryptoError> {
        let none = CryptoError::PinBlock(PinBlockFault::NotAPin);
        let field = match (&self.0, format) {
            (Cipher::TripleDes(des), PinBlockFormat::Zero | PinBlockFormat::One | PinBlockFormat::Three) => {
                let block = block.try_into().map_err(|_| none)?;
                xor(des.decrypt(block), account_field(format, account))
            }
            (Cipher::Aes(aes), PinBlockFormat::Four) => {
                let block = block.try_into().map_err(|_| none)?;
                let clear = aes.decrypt(xor(aes.decrypt(block), long_account_field(account)));
                halves(clear).0
            }
            _ => return Err(CryptoError::PinBlock(PinBlockFault::OtherCipher)),
        };
        pin_of(format, &Zeroizing::new(field)).ok_or(none)
    }
}

impl fmt::Debug for PinZoneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Cipher::TripleDes(_) => "PinZoneKey(triple DES)",
            Cipher::Aes(_) => "PinZoneKey(AES)",
        })
    }
}

/// Format, length, PIN, and what fills up the 16 digits.
fn pin_field(format: PinBlockFormat, pin: &Pin, random: &[u8; 8]) -> [u8; 8] {
    let random = random.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]);
    let filled = random.map(|nibble| match format {
        PinBlockFormat::Zero => 0x0F,
        PinBlockFormat::One => nibble,
        // Six letters for sixteen values: as random as a filler needs to be.
        PinBlockFormat::Three => 0x0A + nibble % 6,
        PinBlockFormat::Four => 0x0A,
    });
    let begin = [format.number(), pin.len];
    let mut nibbles = Zeroizing::new([0; 16]);
    let parts = begin.into_iter().chain(pin.digits().iter().copied()).chain(filled);
    nibbles.iter_mut().zip(parts).for_each(|(place, nibble)| *place = nibble);
    packed(nibbles.iter().copied())
}

fn pin_of(format: PinBlockFormat, field: &[u8; 8]) -> Option<Pin> {
    let mut nibbles = Zeroizing::new([0; 16]);
    let split = field.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]);
    nibbles.iter_mut().zip(split).for_each(|(place, nibble)| *place = nibble);
    let [number, length, rest @ ..] = &*nibbles;
    let (digits, filler) = rest.split_at_checked(usize::from(*length))?;
    let filled = filler.iter().fold(true, |all, nibble| {
        all & match format {
            PinBlockFormat::Zero => *nibble == 0x0F,
            PinBlockFormat::One => true,
            PinBlockFormat::Three => *nibble >= 0x0A,
            PinBlockFormat::Four => *nibble == 0x0A,
        }
    });
    Pin::of_digits(digits).filter(|_| *number == format.number() && filled)
}

/// Four zeros and the last twelve digits before the check digit.
fn account_field(format: PinBlockFormat, account: &[u8]) -> [u8; 8] {
    if format == PinBlockFormat::One {
        return [0; 8];
    }
    let body = account.split_last().map_or(account, |(_, body)| body);
    let last = body.get(body.len().saturating_sub(12)..).unwrap_or_default();
    packed(last.iter().map(|digit| digit & 0x0F))
}

/// By how much the account number is longer than 12 digits, its digits, and zeros.
fn long_account_field(account: &[u8]) -> [u8; 16] {
    let shorter = 12_usize.saturating_sub(account.len());
    let mut nibbles = [0; 32];
    let [length, rest @ ..] = &mut nibbles;
    *length = u8::try_from(account.len().saturating_sub(12)).unwrap_or_default();
    rest.iter_mut().skip(shorter).zip(account).for_each(|(place, digit)| *place = digit & 0x0F);
    packed(nibbles.into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMATS: [PinBlockFormat; 4] =
        [PinBlockFormat::Zero, PinBlockFormat::One, PinBlockFormat::Three, PinBlockFormat::Four];

    fn pin(text: &[u8]) -> Pin {
        Pin::parse(text).unwrap()
    }

    fn zone(format: PinBlockFormat, key: &str) -> PinZoneKey {
        let key = hex::decode(key).unwrap();
        match format {
            PinBlockFormat::Four => PinZoneKey::aes(&key).unwrap(),
            _ => PinZoneKey::triple_des(key.as_slice().try_into().unwrap()),
        }
    }

    /// Made with psec 1.3.0. One PIN under a token at the acquirer's and under its PAN at the issuer's side: the last
    /// two.
    #[test]
    fn blocks_of_format_0_are_the_published_ones() {
        let clear = |account: &[u8]| {
            let field = pin_field(PinBlockFormat::Zero, &pin(b"1234"), &[0; 8]);
            hex::encode_upper(xor(field, account_field(PinBlockFormat::Zero, account)))
        };
        let (token, pan) = (b"6235290000000000013", b"6228480000000000026");
        assert_eq!(clear(b"5544332211009966"), "041277CDDEEFF669");
        assert_eq!(clear(token), "041234FFFFFFFFFE");
        assert_eq!(clear(pan), "041234FFFFFFFFFD");
        let acquirer = zone(PinBlockFormat::Zero, "11111111111111112222222222222222");
        let issuer = zone(PinBlockFormat::Zero, "33333333333333334444444444444444");
        let mut entropy = Entropy::seeded(1);
        let came = hex::decode("1AAFBFD7DF3A63E7").unwrap();
        let read = acquirer.decipher(PinBlockFormat::Zero, &came, token).unwrap();
        assert_eq!(read, pin(b"1234"));
        let leaves = issuer.encipher(PinBlockFormat::Zero, &read, pan, &mut entropy).unwrap();
        assert_eq!(hex::encode_upper(leaves), "4B357C346790140C");
        assert!(acquirer.decipher(PinBlockFormat::Zero, &came, pan).is_err(), "it is the token's");
    }

    #[test]
    fn every_pin_comes_back_from_every_format() {
        let key = "0123456789ABCDEFFEDCBA9876543210";
        let mut entropy = Entropy::seeded(2);
        for format in FORMATS {
            let zone = zone(format, key);
            for length in 4..=12 {
                let pin = pin(&b"012345678901"[..length]);
                for account in [&b"6235290000000000013"[..], b"5544332211009966", b"401234567890"] {
                    let block = zone.encipher(format, &pin, account, &mut entropy).unwrap();
                    assert_eq!(block.len(), if format == PinBlockFormat::Four { 16 } else { 8 });
                    assert_eq!(zone.decipher(format, &block, account), Ok(pin.clone()), "{format:?}");
                    let shorter = zone.decipher(format, &block[1..], account);
                    assert_eq!(shorter, Err(CryptoError::PinBlock(PinBlockFault::NotAPin)));
                }
            }
        }
    }

    /// One row a thing that makes a field none; the first is good.
    #[test]
    fn what_is_no_pin_is_not_read_as_one() {
        for (format, field, reads) in [
            (PinBlockFormat::Zero, "041234FFFFFFFFFF", true),
            (PinBlockFormat::Zero, "341234FFFFFFFFFF", false),
            (PinBlockFormat::Zero, "04123AFFFFFFFFFF", false),
            (PinBlockFormat::Zero, "041234FFFFFFFFF0", false),
            (PinBlockFormat::Zero, "03123FFFFFFFFFFF", false),
            (PinBlockFormat::Zero, "0D1234567890123F", false),
            (PinBlockFormat::Zero, "0F12345678901234", false),
            (PinBlockFormat::One, "1412340123456789", true),
            (PinBlockFormat::One, "0412340123456789", false),
            (PinBlockFormat::Three, "341234ABCDEFABCD", true),
            (PinBlockFormat::Three, "3412349BCDEFABCD", false),
            (PinBlockFormat::Four, "441234AAAAAAAAAA", true),
            (PinBlockFormat::Four, "441234FAAAAAAAAA", false),
        ] {
            let field: [u8; 8] = hex::decode(field).unwrap().try_into().unwrap();
            assert_eq!(pin_of(format, &field).is_some(), reads, "{format:?} {}", hex::encode(field));
        }
    }

    #[test]
    fn a_format_is_for_its_own_cipher() {
        let (des, aes) = (PinZoneKey::triple_des(&[1; 16]), PinZoneKey::aes(&[1; 32]).unwrap());
        let account = b"5544332211009966";
        for format in FORMATS {
            let other = if format == PinBlockFormat::Four { &des } else { &aes };
            let made = other.encipher(format, &pin(b"1234"), account, &mut Entropy::seeded(1));
            assert_eq!(made, Err(CryptoError::PinBlock(PinBlockFault::OtherCipher)), "{format:?}");
            assert!(other.decipher(format, &[0; 16], account).is_err());
        }
        assert!(PinZoneKey::aes(&[1; 8]).is_none());
    }

    #[test]
    fn a_pin_is_4_to_12_digits_and_is_never_printed() {
        for bad in [&b"123"[..], b"1234567890123", b"12a4", b""] {
            assert!(Pin::parse(bad).is_err());
        }
        assert_ne!(pin(b"1234"), pin(b"12340"));
        assert_eq!(
            format!("{:?} {:?}", pin(b"1234"), PinZoneKey::triple_des(&[1; 16])),
            "Pin PinZoneKey(triple DES)"
        );
    }
}
