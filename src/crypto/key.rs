//! `Key`, `MasterKey` and what names them: label, usage, version, check value. `Debug` prints these, never a key.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use super::cipher::{AesKey, BlockCipher, zeros_under};
use super::error::{CryptoError, KeyFault};
use crate::stdx::random::Entropy;
use crate::stdx::secret::Secret;
use crate::vocab::{Text, WordError, WordFault};

/// The master key and every key of the daemon's own design have 256 bits.
pub(super) const KEY_LENGTH: usize = 32;

/// Chip keys have 128 bits: a double-length 3DES key, AES-128 or SM4.
pub(super) const CHIP_KEY_LENGTH: usize = 16;

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
    /// The TSP's own issuer master key of a token range: its tokens' card keys come from it.
    TokenCryptogram(BlockCipher),
    /// An issuer's issuer master key: the card keys of its PANs come from it (EMV Book 2, annex A1.4).
    IssuerMaster(BlockCipher),
    /// What others encrypt for us: a private key of P-256 (RFC 7518, 6.2.2).
    MessageEncryption,
    /// PIN blocks between two parties (ISO 9564).
    PinZone,
    /// DE 64 and DE 128 between two parties.
    MacZone,
    /// The signatures of what a receiver is told. Derived for each receiver, and never in the store.
    ReceiverSigning,
}

impl KeyUsage {
    pub const ALL: [Self; 14] = [
        Self::DataSealing,
        Self::BlindIndex,
        Self::Journal,
        Self::KeyWrapping,
        Self::TokenCryptogram(BlockCipher::Aes),
        Self::TokenCryptogram(BlockCipher::TripleDes),
        Self::TokenCryptogram(BlockCipher::Sm4),
        Self::IssuerMaster(BlockCipher::Aes),
        Self::IssuerMaster(BlockCipher::TripleDes),
        Self::IssuerMaster(BlockCipher::Sm4),
        Self::MessageEncryption,
        Self::PinZone,
        Self::MacZone,
        Self::ReceiverSigning,
    ];

    /// The name as the store writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DataSealing => "data-sealing",
            Self::BlindIndex => "blind-index",
            Self::Journal => "journal",
            Self::KeyWrapping => "key-wrapping",
            Self::TokenCryptogram(BlockCipher::Aes) => "token-cryptogram-aes",
            Self::TokenCryptogram(BlockCipher::TripleDes) => "token-cryptogram-3des",
            Self::TokenCryptogram(BlockCipher::Sm4) => "token-cryptogram-sm4",
            Self::IssuerMaster(BlockCipher::Aes) => "issuer-master-aes",
            Self::IssuerMaster(BlockCipher::TripleDes) => "issuer-master-3des",
            Self::IssuerMaster(BlockCipher::Sm4) => "issuer-master-sm4",
            Self::MessageEncryption => "message-encryption",
            Self::PinZone => "pin-zone",
            Self::MacZone => "mac-zone",
            Self::ReceiverSigning => "receiver-signing",
        }
    }

    /// The usage of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|usage| usage.name() == name)
    }

    /// What chip keys of this usage work with; `None` for keys of another kind.
    #[must_use]
    pub fn chip_cipher(self) -> Option<BlockCipher> {
        match self {
            Self::TokenCryptogram(cipher) | Self::IssuerMaster(cipher) => Some(cipher),
            Self::DataSealing
            | Self::BlindIndex
            | Self::Journal
            | Self::KeyWrapping
            | Self::MessageEncryption
            | Self::PinZone
            | Self::MacZone
            | Self::ReceiverSigning => None,
        }
    }

    /// How many bytes such a key has.
    #[must_use]
    pub fn key_length(self) -> usize {
        if self.chip_cipher().is_some() { CHIP_KEY_LENGTH } else { KEY_LENGTH }
    }
}

impl fmt::Display for KeyUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Three bytes by which people compare keys without seeing them: of an AES key the left of its CMAC over one block
/// of zeros (ANSI X9.24-1, annex A), not of the plain encryption of zeros, which for GCM would show 24 bits of its
/// hash key; of a 3DES or SM4 key the left of one encrypted block of zeros, as issuers write it on key forms.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyCheckValue([u8; 3]);

impl KeyCheckValue {
    /// Its three bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 3] {
        self.0
    }

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

    pub(super) fn of_aes(key: &AesKey) -> Self {
        Self::left_of(key.cmac(&[&[0; 16]]))
    }

    fn of_aes256(key: &[u8; KEY_LENGTH]) -> Self {
        Self::of_aes(&AesKey::Aes256(*key))
    }

    fn of_chip_key(cipher: BlockCipher, key: &[u8; CHIP_KEY_LENGTH]) -> Self {
        match cipher {
            BlockCipher::Aes => Self::of_aes(&AesKey::Aes128(*key)),
            BlockCipher::TripleDes | BlockCipher::Sm4 => Self::left_of(zeros_under(cipher, key)),
        }
    }

    fn left_of([a, b, c, ..]: [u8; 16]) -> Self {
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
    material: Secret<Vec<u8>>,
}

impl Key {
    /// # Errors
    /// `KeyLength` for a material that has not as many bytes as keys of this usage have.
    pub(super) fn new(
        label: KeyLabel,
        usage: KeyUsage,
        version: u16,
        material: Secret<Vec<u8>>,
    ) -> Result<Self, CryptoError> {
        let bytes = material.expose_secret().as_slice();
        let wrong = CryptoError::KeyLength { usage, length: bytes.len() };
        let check = match usage.chip_cipher() {
            Some(cipher) => KeyCheckValue::of_chip_key(cipher, bytes.try_into().map_err(|_| wrong)?),
            None => KeyCheckValue::of_aes256(bytes.try_into().map_err(|_| wrong)?),
        };
        Ok(Self { description: KeyDescription { label, usage, version, check }, material })
    }

    pub(super) fn generate(
        label: KeyLabel,
        usage: KeyUsage,
        version: u16,
        entropy: &mut Entropy,
    ) -> Result<Self, CryptoError> {
        let mut bytes = vec![0; usage.key_length()];
        let drawn = entropy.fill(&mut bytes);
        let material = Secret::new(bytes);
        drawn?;
        Self::new(label, usage, version, material)
    }

    pub(super) fn description(&self) -> &KeyDescription {
        &self.description
    }

    pub(super) fn material(&self) -> &[u8] {
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
        KeyCheckValue::of_aes256(self.material())
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
            assert_eq!(KeyCheckValue::of_aes256(&bytes).to_string(), check);
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
        let key = Key::new(label, KeyUsage::DataSealing, 3, Secret::new(vec![0xAB; KEY_LENGTH])).unwrap();
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
