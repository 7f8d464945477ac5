//! `VaultRecord`: what the vault knows of one token. `CardData`: what lies sealed in it, and how it is sealed to
//! its place.

use zeroize::Zeroizing;

use crate::crypto::{CryptoError, DataSealer, Sealed};
use crate::stdx::clock::Wall;
use crate::stdx::random::Entropy;
use crate::stdx::wipe::wipe;
use crate::vocab::{
    Digits, Expiry, Pan, PanSequenceNumber, Par, Token, TokenAssuranceMethod, TokenLocation,
    TokenReferenceId, TokenRequestorId, TransactionId,
};

use super::controls::DomainControls;
use super::event::Reason;
use super::given_keys::GivenKeys;
use super::lifecycle::Lifecycle;
use super::own_controls::TokenControls;
use super::owners::Owners;

/// Everything about one token. Of the card only the envelope and the last four digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultRecord {
    /// Counted from 0 in order of issue.
    pub record: u64,
    pub token: Token,
    /// The token's own.
    pub expiry: Expiry,
    pub reference: TokenReferenceId,
    pub par: Option<Par>,
    pub requestor: TokenRequestorId,
    pub assurance: TokenAssuranceMethod,
    pub location: TokenLocation,
    /// Of the PAN.
    pub last4: Digits<4>,
    /// `CardData` under `CardAad::vault`.
    pub sealed: Sealed,
    /// Keyed hash of the PAN.
    pub blind_index: [u8; 16],
    /// Rises when the token gets another PAN.
    pub mapping_version: u32,
    pub controls: DomainControls,
    pub lifecycle: Lifecycle,
    pub issued_at: Wall,
    pub changed_at: Wall,
    /// A mark of the device that holds it, if its requestor named one.
    pub device: Option<u64>,
    /// The cards to which it led before, the oldest first; the journal has those that are forgotten here.
    pub past: Vec<PastMapping>,
    /// Few tokens are narrowed by themselves.
    pub own: Option<Box<TokenControls>>,
    /// How many remote cryptograms were made of it.
    pub cryptograms: u16,
    /// Which keys its holder was given, if any were.
    pub keys: Option<Box<GivenKeys>>,
    /// Who set its own controls and its assurance method.
    pub owners: Owners,
    /// Why its status is what it is, as far as that was said with the last change of it.
    pub because: Reason,
}

/// A card to which a token led once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastMapping {
    pub mapping_version: u32,
    /// `CardData` under `CardAad::vault` of that version.
    pub sealed: Sealed,
    /// When another card took its place.
    pub until: Wall,
}

impl VaultRecord {
    /// How many cards of the past are remembered of a token.
    pub const PAST_MOST: usize = 8;

    /// Remembers the card to which it leads, before it leads to another one.
    pub(super) fn keep_mapping(&mut self, until: Wall) {
        let now = PastMapping { mapping_version: self.mapping_version, sealed: self.sealed, until };
        if self.past.len() >= Self::PAST_MOST {
            self.past.remove(0);
        }
        self.past.push(now);
    }
}

/// A card's number, expiry and sequence number: what leads a payment to its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardData {
    pub pan: Pan,
    /// None only for a transaction that came with a PAN and without expiry.
    pub expiry: Option<Expiry>,
    pub sequence: Option<PanSequenceNumber>,
}

/// Card data before sealing: PAN as packed digits filled up with F, expiry YYMM packed, sequence number, reserved.
const CARD_PLAIN: usize = 16;
/// With its tag.
const CARD_SEALED: usize = CARD_PLAIN + crate::crypto::TAG_LENGTH;

/// The place to which card data is sealed: an envelope moved to another place does not open.
#[derive(Debug, Clone, Copy)]
pub struct CardAad {
    bytes: [u8; 40],
    len: usize,
}

impl CardAad {
    /// A mapping of the vault: this token, in this record, in this version. Of a token of 16 digits two whole blocks of
    /// GHASH: a block that is not whole costs a fifth of the opening.
    #[must_use]
    pub fn vault(token: &Token, record: u64, mapping_version: u32) -> Self {
        Self::default()
            .with(b"card")
            .with(token.as_bytes())
            .with(&record.to_be_bytes())
            .with(&mapping_version.to_be_bytes())
    }

    /// A transaction that came with a PAN.
    #[must_use]
    pub fn transaction(id: TransactionId) -> Self {
        Self::default().with(b"pan").with(&id.0.to_be_bytes())
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Inlined, so that parts whose length is known are no calls.
    #[inline(always)]
    fn with(mut self, part: &[u8]) -> Self {
        let end = self.len + part.len();
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(part);
            self.len = end;
        }
        self
    }
}

impl Default for CardAad {
    fn default() -> Self {
        Self { bytes: [0; 40], len: 0 }
    }
}

/// Seals card data to its place.
///
/// # Errors
/// `NoEntropy`.
pub fn seal_card(
    sealer: &DataSealer,
    entropy: &mut Entropy,
    aad: &CardAad,
    card: &CardData,
) -> Result<Sealed, CryptoError> {
    sealer.seal(entropy, aad.as_bytes(), &*card.plain())
}

/// Opens what `seal_card` sealed.
///
/// # Errors
/// `UnknownKeyVersion`, or `NotAuthentic` when the envelope was altered, or sealed for another place or purpose.
pub fn open_card(sealer: &DataSealer, aad: &CardAad, sealed: &Sealed) -> Result<CardData, CryptoError> {
    let bytes: &[u8; CARD_SEALED] =
        sealed.ciphertext_and_tag().try_into().map_err(|_| CryptoError::NotSealed)?;
    let mut buffer = *bytes;
    let opened = sealer.open_into(sealed.key_version(), sealed.nonce(), aad.as_bytes(), &mut buffer);
    let card = opened.map(|plain| CardData::from_plain(plain));
    wipe(&mut buffer);
    card?.ok_or(CryptoError::NotAuthentic)
}

impl CardData {
    fn plain(&self) -> Zeroizing<[u8; CARD_PLAIN]> {
        let mut plain = Zeroizing::new([0xFF_u8; CARD_PLAIN]);
        let mut digits = Zeroizing::new([0x0F_u8; 24]);
        for (place, digit) in digits.iter_mut().zip(self.pan.expose_digits()) {
            *place = digit - b'0';
        }
        if let (Some(place), Some(expiry)) = (digits.get_mut(20..), self.expiry) {
            place.iter_mut().zip(expiry.digits()).for_each(|(place, digit)| *place = digit - b'0');
        }
        for (place, pair) in plain.iter_mut().zip(digits.chunks_exact(2)) {
            if let [high, low] = pair {
                *place = high << 4 | low;
            }
        }
        if let (Some(place), Some(sequence)) = (plain.get_mut(12), self.sequence) {
            *place = sequence.get();
        }
        plain
    }

    fn from_plain(plain: &[u8]) -> Option<Self> {
        let plain: &[u8; CARD_PLAIN] = plain.try_into().ok()?;
        let mut digits = [0_u8; 24];
        for (pair, packed) in digits.as_chunks_mut::<2>().0.iter_mut().zip(plain) {
            *pair = [b'0' + (packed >> 4), b'0' + (packed & 0x0F)];
        }
        let (account, expiry) = digits.split_at(20);
        let pan = Pan::parse(account.get(..account_length(plain))?).ok();
        let expiry = match expiry {
            [b'?', ..] => Some(None),
            digits => Expiry::parse(digits).ok().map(Some),
        };
        wipe(&mut digits);
        let sequence = match plain.get(12)? {
            0xFF => None,
            number => Some(PanSequenceNumber::new(*number)?),
        };
        Some(Self { pan: pan?, expiry: expiry?, sequence })
    }
}

/// How many digits stand before the first half byte that is none, of which there are at least four.
fn account_length(&[_, _, a, b, c, d, e, f, g, h, ..]: &[u8; CARD_PLAIN]) -> usize {
    let word = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    // Ten and more: the highest bit of four, and the second or the third.
    let no_digits = word & (word << 1 | word << 2) & 0x8888_8888_8888_8888;
    4 + usize::try_from(no_digits.leading_zeros() / 4).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SecurityModule;

    fn card(pan: &[u8], expiry: Option<&[u8]>, sequence: Option<u8>) -> CardData {
        CardData {
            pan: Pan::parse(pan).unwrap(),
            expiry: expiry.map(|digits| Expiry::parse(digits).unwrap()),
            sequence: sequence.and_then(PanSequenceNumber::new),
        }
    }

    #[test]
    fn cards_of_every_length_come_back() {
        let sealer = SecurityModule::sample().unwrap().data_sealer();
        let mut entropy = Entropy::seeded(1);
        let aad = CardAad::transaction(TransactionId(7));
        for length in Pan::LEAST..=Pan::MOST {
            for (expiry, sequence) in [(Some(&b"2712"[..]), Some(1)), (None, None), (Some(b"9901"), Some(99))]
            {
                let given = card(&b"6228480000000000026"[..length], expiry, sequence);
                let sealed = seal_card(&sealer, &mut entropy, &aad, &given).unwrap();
                assert_eq!(sealed.ciphertext_and_tag().len(), 32, "it must fit its slot");
                assert_eq!(open_card(&sealer, &aad, &sealed).unwrap(), given);
            }
        }
    }

    #[test]
    fn an_envelope_opens_only_in_its_place() {
        let sealer = SecurityModule::sample().unwrap().data_sealer();
        let mut entropy = Entropy::seeded(2);
        let token = Token::parse(b"4895370000000005").unwrap();
        let other = Token::parse(b"4895370000000013").unwrap();
        let given = card(b"4761739001010119", Some(b"2712"), None);
        let here = CardAad::vault(&token, 3, 1);
        let sealed = seal_card(&sealer, &mut entropy, &here, &given).unwrap();
        assert!(open_card(&sealer, &here, &sealed).is_ok());
        for elsewhere in [
            CardAad::vault(&other, 3, 1),
            CardAad::vault(&token, 4, 1),
            CardAad::vault(&token, 3, 2),
            CardAad::transaction(TransactionId(3)),
        ] {
            assert!(open_card(&sealer, &elsewhere, &sealed).is_err(), "{elsewhere:?}");
        }
    }

    #[test]
    fn a_card_is_printed_masked() {
        let shown = format!("{:?}", card(b"4761739001010119", Some(b"2712"), None));
        assert!(!shown.contains("4761739001010119"), "{shown}");
    }
}
