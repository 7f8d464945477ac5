//! `Key`, `MasterKey` and what names them: label, usage, version, check value. `Debug` prints these, never a key.

use std::fmt;

use aes_gcm::aead::KeyInit;
use aes_gcm::aes::Aes256;
use aes_gcm::aes::cipher::BlockCipherEncrypt;
use zeroize::{Zeroize, Zeroizing};

use super::error::{CryptoError, KeyFault};
use crate::stdx::random::Entropy;
use crate::stdx::secret::Secret;
use crate::vocab::{Text, WordError, WordFault};

/// Every key here has 256 bits.
pub(super) const KEY_LENGTH: usize = 32;

/// A key's name in the store: lower-case letters, digits and hyphens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyLabel(Text<32>);

impl KeyLabel {
    /// Takes 1 to 32 characters of `a-z0-9-`.
    ///
    /// # Errors
    /// `Length` or `NotAllowed`.
    pub fn parse(text: &str) -> Result<Self, WordError> {
        let word = "key label";
        if text.is_empty() {
            return Err(WordError { word, fault: WordFault::Length { length: 0, least: 1, most: 32 } });
        }
        match text.bytes().position(|b| !matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
            Some(at) => Err(WordError { word, fault: WordFault::NotAllowed { at } }),
            None => Text::parse(word, text.as_bytes()).map(Self),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for KeyLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for KeyLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a key is for. It is bound to the wrapped key, so that none can be used as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyUsage {
    /// Card data in the vault and in journal entries.
    DataSealing,
    /// Equality of PANs.
    BlindIndex,
    /// The journal's entries and the chain over its blocks.
    Journal,
    /// Other keys.
    KeyWrapping,
    /// Token cryptograms.
    TokenCryptogram,
    /// An issuer's chip keys (EMV Book 2, annex A1.4).
    IssuerMaster,
    /// PIN blocks between two parties (ISO 9564).
    PinZone,
    /// DE 64 and DE 128 between two parties.
    MacZone,
}

impl KeyUsage {
    pub const ALL: [Self; 8] = [
        Self::DataSealing,
        Self::BlindIndex,
        Self::Journal,
        Self::KeyWrapping,
        Self::TokenCryptogram,
        Self::IssuerMaster,
        Self::PinZone,
        Self::MacZone,
    ];

    /// The name as the store writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DataSealing => "data-sealing",
            Self::BlindIndex => "blind-index",
            Self::Journal => "journal",
            Self::KeyWrapping => "key-wrapping",
            Self::TokenCryptogram => "token-cryptogram",
            Self::IssuerMaster => "issuer-master",
            Self::PinZone => "pin-zone",
            Self::MacZone => "mac-zone",
        }
    }

    /// The usage of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|usage| usage.name() == name)
    }
}

impl fmt::Display for KeyUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Three bytes by which people compare keys without seeing them: the left of AES-CMAC over one block of zeros
/// (ANSI X9.24-1, annex A). Not of the plain encryption of zeros, which for GCM would show 24 bits of its hash key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyCheckValue([u8; 3]);

impl KeyCheckValue {
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 3]) -> Self {
        Self(bytes)
    }

    /// Takes six hexadecimal characters in upper case, as `Display` writes them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 3];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        (Self(bytes).to_string() == text).then_some(Self(bytes))
    }

    fn of(key: &[u8; KEY_LENGTH]) -> Self {
        let cipher = Aes256::new(key.into());
        let mut block = [0_u8; 16].into();
        cipher.encrypt_block(&mut block);
        // SP 800-38B 6.1: the subkey is the encrypted zero block doubled in GF(2^128); a whole block of zeros
        // under it is the subkey itself.
        let doubled = u128::from_be_bytes(block.into());
        let carry = if doubled >> 127 == 1 { 0x87 } else { 0 };
        let mut block = ((doubled << 1) ^ carry).to_be_bytes().into();
        cipher.encrypt_block(&mut block);
        let [a, b, c, ..] = <[u8; 16]>::from(block);
        Self([a, b, c])
    }
}

impl fmt::Display for KeyCheckValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_upper(self.0))
    }
}

impl fmt::Debug for KeyCheckValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What may be shown of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyDescription {
    pub label: KeyLabel,
    pub usage: KeyUsage,
    /// Counts from 1; the newest version does the work, older ones open what they sealed.
    pub version: u16,
    pub check: KeyCheckValue,
}

/// One version of one key, in the clear.
pub(super) struct Key {
    description: KeyDescription,
    material: Secret<[u8; KEY_LENGTH]>,
}

impl Key {
    pub(super) fn new(
        label: KeyLabel,
        usage: KeyUsage,
        version: u16,
        material: Secret<[u8; KEY_LENGTH]>,
    ) -> Self {
        let check = KeyCheckValue::of(material.expose_secret());
        Self { description: KeyDescription { label, usage, version, check }, material }
    }

    pub(super) fn generate(
        label: KeyLabel,
        usage: KeyUsage,
        version: u16,
        entropy: &mut Entropy,
    ) -> Result<Self, CryptoError> {
        Ok(Self::new(label, usage, version, draw(entropy)?))
    }

    pub(super) fn description(&self) -> &KeyDescription {
        &self.description
    }

    pub(super) fn material(&self) -> &[u8; KEY_LENGTH] {
        self.material.expose_secret()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.description.fmt(f)
    }
}

/// The key that all others are wrapped under. It lives in a file of its own, apart from the store.
pub struct MasterKey(Secret<[u8; KEY_LENGTH]>);

impl MasterKey {
    /// Takes 64 hexadecimal characters, with or without a line end after them.
    ///
    /// # Errors
    /// `MasterKey` for anything else; the text is not repeated.
    pub fn parse(text: &str) -> Result<Self, CryptoError> {
        let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
        let text = text.strip_suffix('\n').unwrap_or(text);
        hex::decode_to_slice(text, bytes.as_mut()).map_err(|_| CryptoError::MasterKey(KeyFault::NotHex))?;
        Ok(Self(Secret::new(*bytes)))
    }

    /// A fresh one.
    ///
    /// # Errors
    /// `NoEntropy` when the system gives no randomness.
    pub fn generate(entropy: &mut Entropy) -> Result<Self, CryptoError> {
        draw(entropy).map(Self)
    }

    /// The text that `parse` reads, for the one file that holds it. Wiped when dropped.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_LENGTH + 1));
        for byte in self.0.expose_secret() {
            let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
            text.push(digit(byte >> 4));
            text.push(digit(byte & 0x0F));
        }
        text.push('\n');
        text
    }

    #[must_use]
    pub fn check_value(&self) -> KeyCheckValue {
        KeyCheckValue::of(self.material())
    }

    pub(super) fn material(&self) -> &[u8; KEY_LENGTH] {
        self.0.expose_secret()
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.check_value())
    }
}

fn draw(entropy: &mut Entropy) -> Result<Secret<[u8; KEY_LENGTH]>, CryptoError> {
    let mut bytes = [0; KEY_LENGTH];
    let drawn = entropy.fill(&mut bytes);
    let secret = Secret::new(bytes);
    bytes.zeroize();
    drawn?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_values_are_cmac_of_zeros() {
        // Made with PyPI's `cryptography` 48: CMAC(AES(key)).update(bytes(16)).finalize()[:3].
        for (key, check) in CMAC_VECTORS {
            let mut bytes = [0; KEY_LENGTH];
            hex::decode_to_slice(key, &mut bytes).unwrap();
            assert_eq!(KeyCheckValue::of(&bytes).to_string(), check);
        }
    }

    const CMAC_VECTORS: [(&str, &str); 3] = [
        ("0000000000000000000000000000000000000000000000000000000000000000", "921105"),
        ("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "377822"),
        ("ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", "5955E9"),
    ];

    #[test]
    fn check_values_are_read_as_they_are_written() {
        assert_eq!(KeyCheckValue::parse("0A1B2C"), Some(KeyCheckValue([0x0A, 0x1B, 0x2C])));
        for bad in ["0a1b2c", "0A1B", "0A1B2C3D", "0A1B2G", ""] {
            assert_eq!(KeyCheckValue::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_master_key_is_64_hex_characters() {
        let master = MasterKey::generate(&mut Entropy::seeded(1)).unwrap();
        let again = MasterKey::parse(&master.to_text()).unwrap();
        assert_eq!(again.material(), master.material());
        let text = master.to_text();
        for bad in [&text[1..], &format!("{}0", *text), &text.replace('\n', "\r\n"), "", &"g".repeat(64)] {
            assert!(MasterKey::parse(bad).is_err());
        }
    }

    #[test]
    fn keys_are_never_printed() {
        let label = KeyLabel::parse("vault-data").unwrap();
        let key = Key::new(label, KeyUsage::DataSealing, 3, Secret::new([0xAB; KEY_LENGTH]));
        let shown = format!("{key:?} {:?}", MasterKey(Secret::new([0xAB; KEY_LENGTH])));
        assert!(shown.contains("vault-data"), "{shown}");
        for form in ["abab", "ABAB", "171, 171"] {
            assert!(!shown.contains(form), "{shown}");
        }
    }

    #[test]
    fn labels_and_usages() {
        for bad in ["", "Vault", "a b", "a_b", &"a".repeat(33)] {
            assert!(KeyLabel::parse(bad).is_err(), "{bad}");
        }
        for usage in KeyUsage::ALL {
            assert_eq!(KeyUsage::from_name(usage.name()), Some(usage));
        }
    }
}
