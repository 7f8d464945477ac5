//! `TransportKey`: the key under which two parties send keys to each other, and the key blocks that it protects: ANSI
//! X9.143 (TR-31) of version D, AES with derived keys. It is formed of components that no one person has all of.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::cipher::{AesKey, BlockCipher, xor};
use super::error::{CryptoError, KeyFault};
use super::key::{KeyCheckValue, KeyUsage};
use crate::stdx::random::Entropy;
use crate::stdx::secret::Secret;

/// Characters of the header without optional blocks (X9.143, 6.2).
const HEADER: usize = 16;

/// Bytes of the MAC, which is also the initialization vector.
const MAC: usize = 16;

/// A key block protection key (KBPK), or one component of it: AES of 128, 192 or 256 bits.
pub struct TransportKey(AesKey);

impl TransportKey {
    /// Takes 32, 48 or 64 hexadecimal characters, in groups apart or not, as key forms have them.
    ///
    /// # Errors
    /// `Component` for anything else; the text is not repeated.
    pub fn parse(text: &str) -> Result<Self, CryptoError> {
        let wrong = CryptoError::Component(KeyFault::NotAes);
        let mut digits = Zeroizing::new(Vec::with_capacity(text.len()));
        digits.extend(text.bytes().filter(|byte| !byte.is_ascii_whitespace()));
        let mut bytes = Zeroizing::new(vec![0; digits.len() / 2]);
        hex::decode_to_slice(&*digits, &mut bytes).map_err(|_| wrong)?;
        AesKey::new(&bytes).map(Self).ok_or(wrong)
    }

    /// The key of which these are the components: their exclusive or.
    ///
    /// # Errors
    /// `Component` for fewer than two, for components of several lengths, and where one is the exclusive or of the
    /// others, so that nothing would be secret about the key.
    pub fn of_components(components: &[Self]) -> Result<Self, CryptoError> {
        let wrong = CryptoError::Component(KeyFault::Components);
        let (first, others) =
            components.split_first().filter(|(_, others)| !others.is_empty()).ok_or(wrong)?;
        let mut sum = Zeroizing::new(first.0.as_bytes().to_vec());
        for other in others {
            let other = Some(other.0.as_bytes()).filter(|other| other.len() == sum.len()).ok_or(wrong)?;
            sum.iter_mut().zip(other).for_each(|(byte, mixed)| *byte ^= mixed);
        }
        let known = sum.iter().all(|byte| *byte == 0);
        AesKey::new(&sum).filter(|_| !known).map(Self).ok_or(wrong)
    }

    #[must_use]
    pub fn check_value(&self) -> KeyCheckValue {
        KeyCheckValue::of_aes(&self.0)
    }

    /// Writes a key as a block that only this key opens. `entropy` fills up its last piece of 16 bytes.
    ///
    /// # Errors
    /// `TooLong` for a key that no block of four digits of length has room for, and `NoEntropy`.
    pub fn wrap(
        &self,
        header: KeyBlockHeader,
        key: &Secret<Vec<u8>>,
        entropy: &mut Entropy,
    ) -> Result<String, CryptoError> {
        let key = key.expose_secret();
        let too_long = CryptoError::TooLong { length: key.len() };
        let bits = u16::try_from(key.len() * 8).map_err(|_| too_long)?;
        let mut clear = Zeroizing::new(vec![0; (2 + key.len()).next_multiple_of(16)]);
        entropy.fill(&mut clear)?;
        clear.iter_mut().zip(bits.to_be_bytes().iter().chain(key)).for_each(|(place, byte)| *place = *byte);
        let length = HEADER + 2 * (clear.len() + MAC);
        let header = header.text(length).ok_or(too_long)?;
        let mac = self.derived(Use::Mac).cmac(&[header.as_bytes(), &clear]);
        let cipher = self.derived(Use::Encryption);
        let mut chained = mac;
        let mut text = header;
        for piece in clear.as_chunks::<16>().0 {
            chained = cipher.encrypt(xor(chained, *piece));
            text.push_str(&hex::encode_upper(chained));
        }
        text.push_str(&hex::encode_upper(mac));
        Ok(text)
    }

    /// The key in a block, when the block says that it is for `usage`.
    pub(super) fn unwrap(&self, block: &str, usage: KeyUsage) -> Result<Secret<Vec<u8>>, KeyBlockFault> {
        let header = KeyBlockHeader::parse(block)?;
        let wanted = KeyBlockHeader::of(usage).ok_or(KeyBlockFault::NotInBlocks { usage })?;
        let key = self.opened(block)?;
        // Of a block that was altered on its way not even the header is worth a word.
        if (header.usage, header.algorithm) != (wanted.usage, wanted.algorithm) || !header.derives() {
            return Err(KeyBlockFault::OtherUse { header, usage });
        }
        if header.version.starts_with(b"c") {
            return Err(KeyBlockFault::OnlyComponent);
        }
        Ok(key)
    }

    /// The key in a block, whatever it is for.
    fn opened(&self, block: &str) -> Result<Secret<Vec<u8>>, KeyBlockFault> {
        let at = header_length(block).ok_or(KeyBlockFault::NotABlock)?;
        let (header, protected) = block.split_at_checked(at).ok_or(KeyBlockFault::NotABlock)?;
        let mut bytes = hex::decode(protected).map_err(|_| KeyBlockFault::NotABlock)?;
        let mac = bytes.split_off(bytes.len().checked_sub(MAC).ok_or(KeyBlockFault::NotABlock)?);
        let mac: [u8; MAC] = mac.try_into().map_err(|_| KeyBlockFault::NotABlock)?;
        let (pieces, rest) = bytes.as_chunks::<16>();
        if !rest.is_empty() {
            return Err(KeyBlockFault::NotABlock);
        }
        let cipher = self.derived(Use::Encryption);
        let mut clear = Zeroizing::new(Vec::with_capacity(bytes.len()));
        let mut chained = mac;
        for piece in pieces {
            clear.extend_from_slice(&*Zeroizing::new(xor(cipher.decrypt(*piece), chained)));
            chained = *piece;
        }
        let expected = self.derived(Use::Mac).cmac(&[header.as_bytes(), &clear]);
        if !bool::from(expected.ct_eq(&mac)) {
            return Err(KeyBlockFault::NotAuthentic);
        }
        let (bits, key) = clear.split_first_chunk::<2>().ok_or(KeyBlockFault::NotABlock)?;
        let bits = usize::from(u16::from_be_bytes(*bits));
        let key = key.get(..bits / 8).filter(|_| bits % 8 == 0).ok_or(KeyBlockFault::NotABlock)?;
        Ok(Secret::new(key.to_vec()))
    }

    /// The key for one use of it (X9.143, annex A.3.3): counter, use, zero, algorithm and length in bits under CMAC.
    fn derived(&self, to: Use) -> AesKey {
        let (algorithm, bits): (u8, u16) = match self.0 {
            AesKey::Aes128(_) => (2, 128),
            AesKey::Aes192(_) => (3, 192),
            AesKey::Aes256(_) => (4, 256),
        };
        let [high, low] = bits.to_be_bytes();
        let part =
            |counter| Zeroizing::new(self.0.cmac(&[&[counter, 0, to as u8, 0, 0, algorithm, high, low]]));
        let (left, right) = (part(1), part(2));
        let joined = || left.iter().chain(right.iter()).copied();
        match self.0 {
            AesKey::Aes128(_) => AesKey::Aes128(*left),
            AesKey::Aes192(_) => AesKey::Aes192(taken(joined())),
            AesKey::Aes256(_) => AesKey::Aes256(taken(joined())),
        }
    }
}

fn taken<const N: usize>(bytes: impl Iterator<Item = u8>) -> [u8; N] {
    let mut out = [0; N];
    out.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
    out
}

impl fmt::Debug for TransportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransportKey({})", self.check_value())
    }
}

/// What a derived key does.
#[derive(Clone, Copy)]
enum Use {
    Encryption = 0,
    Mac = 1,
}

/// What a key block says of its key, in the characters of X9.143, 6.2.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyBlockHeader {
    /// As `E0`, an issuer master key for application cryptograms.
    pub usage: [u8; 2],
    /// `T` is triple DES, `A` AES.
    pub algorithm: u8,
    /// `X`: other keys are derived from it. `N`: whatever its usage says.
    pub mode: u8,
    /// `00`, or the version of the key; `c` and a digit when it is one component of a key.
    pub version: [u8; 2],
    /// `E` under any key that both trust, `S` as its owners like, `N` not further.
    pub exportability: u8,
}

impl KeyBlockHeader {
    /// What blocks say of keys of this usage; `None` for usages whose keys do not come in blocks, and for SM4, for
    /// which X9.143 has no letter.
    #[must_use]
    pub fn of(usage: KeyUsage) -> Option<Self> {
        let algorithm = match usage.chip_cipher()? {
            BlockCipher::TripleDes => b'T',
            BlockCipher::Aes => b'A',
            BlockCipher::Sm4 => return None,
        };
        Some(Self { usage: *b"E0", algorithm, mode: b'X', version: *b"00", exportability: b'E' })
    }

    fn derives(&self) -> bool {
        matches!(self.mode, b'X' | b'N')
    }

    fn parse(block: &str) -> Result<Self, KeyBlockFault> {
        let fault = KeyBlockFault::NotABlock;
        let header: &[u8; HEADER] = block.as_bytes().first_chunk().ok_or(fault)?;
        let [id, l1, l2, l3, l4, u1, u2, algorithm, mode, v1, v2, exportability, ..] = *header;
        if id != b'D' {
            return Err(KeyBlockFault::OtherVersion);
        }
        if !header.iter().all(u8::is_ascii_alphanumeric) || number(&[l1, l2, l3, l4], 10) != Some(block.len())
        {
            return Err(fault);
        }
        Ok(Self { usage: [u1, u2], algorithm, mode, version: [v1, v2], exportability })
    }

    /// The header of a block of `length` characters without optional blocks; `None` when four digits cannot say it.
    fn text(&self, length: usize) -> Option<String> {
        let [u1, u2] = self.usage.map(char::from);
        let [v1, v2] = self.version.map(char::from);
        let [algorithm, mode, exportability] =
            [self.algorithm, self.mode, self.exportability].map(char::from);
        (length <= 9999).then(|| format!("D{length:04}{u1}{u2}{algorithm}{mode}{v1}{v2}{exportability}0000"))
    }
}

impl fmt::Debug for KeyBlockHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for KeyBlockHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [u1, u2] = self.usage.map(char::from);
        write!(f, "usage {u1}{u2}, algorithm {}, mode {}", char::from(self.algorithm), char::from(self.mode))
    }
}

/// How many characters the header has with its optional blocks, which are under the MAC and are not looked into: each
/// has an identifier and its length in two hexadecimal digits; a longer one `00` instead, in how many bytes its length
/// is told, and that (X9.143, 6.3).
fn header_length(block: &str) -> Option<usize> {
    let bytes = block.as_bytes();
    let mut at = HEADER;
    for _ in 0..number(bytes.get(12..14)?, 10)? {
        let length = match number(bytes.get(at + 2..at + 4)?, 16)? {
            0 => {
                let digits = 2 * number(bytes.get(at + 4..at + 6)?, 16)?;
                number(bytes.get(at + 6..at + 6 + digits)?, 16).filter(|length| *length >= 6 + digits)?
            }
            length => Some(length).filter(|length| *length >= 4)?,
        };
        at = at.checked_add(length).filter(|at| *at <= bytes.len())?;
    }
    Some(at)
}

/// Digits of that base, and nothing else; at most four.
fn number(digits: &[u8], base: u32) -> Option<usize> {
    let short = Some(digits).filter(|digits| (1..=4).contains(&digits.len()))?;
    short.iter().try_fold(0, |sum, digit| {
        let digit = usize::try_from(char::from(*digit).to_digit(base)?).ok()?;
        Some(sum * usize::try_from(base).ok()? + digit)
    })
}

/// Why a key block gives no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyBlockFault {
    #[error("it is none, or was cut")]
    NotABlock,
    #[error("only blocks of version D are taken, which are under AES")]
    OtherVersion,
    /// Altered, or under another key: one answer for both.
    #[error("it does not open with this transport key; compare the check values")]
    NotAuthentic,
    #[error("keys for {usage} do not come in key blocks")]
    NotInBlocks { usage: KeyUsage },
    #[error("it says {header}, which is no key for {usage}")]
    OtherUse { header: KeyBlockHeader, usage: KeyUsage },
    #[error("it holds one component of a key, and no key")]
    OnlyComponent,
}

#[cfg(test)]
mod tests {
    use super::*;

    const KBPK: &str = "88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6";

    fn transport(text: &str) -> TransportKey {
        TransportKey::parse(text).unwrap()
    }

    fn issuer_master() -> KeyUsage {
        KeyUsage::IssuerMaster(BlockCipher::TripleDes)
    }

    /// The example of X9.143 for version D, a PIN key, which is therefore opened and not taken for an issuer's.
    #[test]
    fn the_published_block_opens_and_is_no_master_key() {
        let block = "D0112P0AE00E0000B82679114F470F540165EDFBF7E250FCEA43F810D215F8D207E2E417C07156A2\
                     7E8E31DA05F7425509593D03A457DC34";
        let opened = transport(KBPK).opened(block).unwrap();
        assert!(opened.matches(&hex::decode("3F419E1CB7079442AA37474C2EFBF8B8").unwrap()));
        let refused = transport(KBPK).unwrap(block, issuer_master()).unwrap_err();
        assert!(refused.to_string().starts_with("it says usage P0, algorithm A, mode E"), "{refused}");
    }

    /// The components, with their check values, that a TSP publishes as the example of its key form.
    #[test]
    fn components_make_the_published_key() {
        let components = [
            ("0143 2B73 C73E 97D2 09A4 4560 5440 561C 3D81 1563 F540 0A62 9AB3 95F7 27E9 6D8F", "D2E93B"),
            ("67D2 2AB3 2ECD 6D3B A4C1 239D 59C6 35EA 5C11 3B7C BBB8 74D6 62A5 1C8F BD0A 7D73", "32F9A0"),
        ]
        .map(|(text, check)| {
            let component = transport(text);
            assert_eq!(component.check_value().to_string(), check);
            component
        });
        let key = TransportKey::of_components(&components).unwrap();
        assert_eq!(key.check_value().to_string(), "094D1D");
        assert_eq!(format!("{key:?}"), "TransportKey(094D1D)");
    }

    #[test]
    fn components_that_make_no_secret_key_are_refused() {
        let (one, two) = ("11".repeat(16), "22".repeat(16));
        let three = "33".repeat(16);
        for (components, taken) in [
            (vec![&one, &two], true),
            (vec![&one, &two, &two], true),
            (vec![], false),
            (vec![&one], false),
            (vec![&one, &one], false),
            (vec![&one, &two, &three], false),
            (vec![&one, &KBPK.to_owned()], false),
        ] {
            let parsed: Vec<_> = components.iter().map(|text| transport(text)).collect();
            assert_eq!(TransportKey::of_components(&parsed).is_ok(), taken, "{components:?}");
        }
        for bad in ["", "11", &one[1..], &format!("{one}1"), &"1g".repeat(16), &"11".repeat(40)] {
            TransportKey::parse(bad).unwrap_err();
        }
    }

    #[test]
    fn what_is_wrapped_opens_under_the_same_key_only_and_unaltered_only() {
        let mut entropy = Entropy::seeded(4);
        let header = KeyBlockHeader::of(issuer_master()).unwrap();
        for length in [16, 24, 32] {
            let transport = transport(&KBPK[..2 * length]);
            let key = Secret::new(entropy.bytes::<16>().unwrap().to_vec());
            let block = transport.wrap(header, &key, &mut entropy).unwrap();
            assert!(block.starts_with("D0112E0TX00E0000"), "{block}");
            let opened = transport.unwrap(&block, issuer_master()).unwrap();
            assert!(opened.matches(key.expose_secret()));
            let mut other = KBPK[..2 * length].to_owned();
            other.replace_range(..1, "9");
            let other = self::transport(&other).unwrap(&block, issuer_master());
            assert_eq!(other.unwrap_err(), KeyBlockFault::NotAuthentic);
            for at in 0..block.len() {
                let mut altered = block.clone();
                let instead = if &block[at..=at] == "0" { "1" } else { "0" };
                altered.replace_range(at..=at, instead);
                assert!(transport.unwrap(&altered, issuer_master()).is_err(), "{at}");
                assert!(transport.unwrap(&block[..at], issuer_master()).is_err(), "{at}");
            }
        }
    }

    #[test]
    fn a_block_is_taken_for_what_it_says_only() {
        let mut entropy = Entropy::seeded(5);
        let transport = transport(KBPK);
        let good = KeyBlockHeader::of(issuer_master()).unwrap();
        let key = Secret::new(vec![7; 16]);
        for (header, taken) in [
            (good, true),
            (KeyBlockHeader { mode: b'N', version: *b"12", exportability: b'N', ..good }, true),
            (KeyBlockHeader { usage: *b"E1", ..good }, false),
            (KeyBlockHeader { algorithm: b'A', ..good }, false),
            (KeyBlockHeader { mode: b'E', ..good }, false),
            (KeyBlockHeader { version: *b"c1", ..good }, false),
        ] {
            let block = transport.wrap(header, &key, &mut entropy).unwrap();
            assert_eq!(transport.unwrap(&block, issuer_master()).is_ok(), taken, "{header}");
        }
        for usage in KeyUsage::ALL {
            let in_blocks = matches!(usage.chip_cipher(), Some(BlockCipher::TripleDes | BlockCipher::Aes));
            assert_eq!(KeyBlockHeader::of(usage).is_some(), in_blocks, "{usage}");
        }
        let version_b = format!("B{}", &transport.wrap(good, &key, &mut entropy).unwrap()[1..]);
        assert_eq!(transport.unwrap(&version_b, issuer_master()).unwrap_err(), KeyBlockFault::OtherVersion);
    }

    /// Each stands for a length that leads out of the block, or nowhere.
    #[test]
    fn optional_blocks_are_stepped_over_and_never_out_of_the_block() {
        for (block, expected) in [
            ("D0040E0TX00E0000", Some(16)),
            ("D0040E0TX00E0100KS0ABCDEFG", Some(26)),
            ("D0040E0TX00E0100KS00020010ABCDEF", Some(32)),
            ("D0040E0TX00E0200KS04PB04", Some(24)),
            ("D0040E0TX00E0100KS03", None),
            ("D0040E0TX00E0100KSFF", None),
            ("D0040E0TX00E0100KS00FF", None),
            ("D0040E0TX00E0100KS00020009", None),
            ("D0040E0TX00E0100KS0003000010ABCD", None),
            ("D0040E0TX00E9900KS04", None),
            ("D0040E0TX00Exx00", None),
        ] {
            assert_eq!(header_length(block), expected, "{block}");
        }
    }
}
