//! Chip cryptograms (EMV Book 2): `CryptogramKeys` checks what a card signed and signs the answer; `CardKey` is the
//! card's side. Composed of audited block ciphers; what differs from scheme to scheme is a `CryptogramProfile`.

mod derive;
mod profile;

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;

pub use profile::CryptogramProfile;

pub(super) use derive::{CardKeyMethod, ClearKey, card_key, left_block, packed};
use derive::{SessionKeyMethod, limited_key, session_key};
use profile::{IssuerDataParts, ResponseMethod};

use super::cipher::{Keyed, Message, Padding, mac, xor};
use super::error::CryptoError;
use super::key::{CHIP_KEY_LENGTH, Key};
use crate::vocab::{AtcRange, ChipPayment, IssuerData, PanSequenceNumber};

/// Card status update of an approval (EMV common core definitions): the issuer approves the online transaction.
const CSU_APPROVED: [u8; 4] = [0x00, 0x80, 0x00, 0x00];
const CSU_DECLINED: [u8; 4] = [0; 4];

/// Why a cryptogram is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CryptogramFault {
    /// The issuer data are not laid out as the profile says, or of another cryptogram version.
    OtherProfile,
    /// The issuer data name a master key that is not loaded.
    UnknownKey,
    /// It is not what the card's key gives.
    Wrong,
}

/// The issuer master keys of one label with the profile of their cards: checks cryptograms and signs answers. Each
/// version of the key is one derivation key index. Clones share the keys.
#[derive(Clone)]
pub struct CryptogramKeys {
    profile: &'static CryptogramProfile,
    /// In order of index.
    keys: Arc<[(u8, Keyed)]>,
}

impl CryptogramKeys {
    /// # Errors
    /// `KeyLength` for keys that are no chip keys; they come sorted out by usage.
    pub(super) fn new<'a>(
        profile: &'static CryptogramProfile,
        keys: impl Iterator<Item = &'a Key>,
    ) -> Result<Self, CryptoError> {
        let mut resolved = Vec::new();
        for key in keys {
            let about = key.description();
            let length = key.material().len();
            let wrong = CryptoError::KeyLength { usage: about.usage, length };
            let clear: &[u8; CHIP_KEY_LENGTH] = key.material().try_into().map_err(|_| wrong)?;
            // An index has one byte; a version past it can be no card's.
            if let Ok(index) = u8::try_from(about.version) {
                resolved.push((index, Keyed::new(profile.cipher(), clear)));
            }
        }
        resolved.sort_by_key(|(index, _)| *index);
        Ok(Self { profile, keys: resolved.into() })
    }

    #[must_use]
    pub fn profile(&self) -> &'static CryptogramProfile {
        self.profile
    }

    /// Checks the cryptogram of a card with this number (ASCII digits of PAN or token) and sequence number.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn verify(
        &self,
        account: &[u8],
        sequence: PanSequenceNumber,
        chip: &ChipPayment,
    ) -> Result<(), CryptogramFault> {
        self.verify_limited(account, sequence, None, chip)
    }

    /// As `verify`, of a card that pays with a key for this range of its counter; none: with its own.
    ///
    /// # Errors
    /// As `verify`.
    pub fn verify_limited(
        &self,
        account: &[u8],
        sequence: PanSequenceNumber,
        range: Option<AtcRange>,
        chip: &ChipPayment,
    ) -> Result<(), CryptogramFault> {
        let (card, parts) = self.card(account, sequence, range, chip)?;
        let expected = cryptogram(self.profile, &card, chip, &parts);
        if bool::from(expected.ct_eq(&chip.cryptogram)) { Ok(()) } else { Err(CryptogramFault::Wrong) }
    }

    /// The issuer's answer to a cryptogram, for the card to check (ARPC), as tag 91 carries it. `code` is the
    /// authorization response code (tag 8A): the final DE 39 in ASCII.
    ///
    /// # Errors
    /// As `verify`, which must have been asked before: an answer is made for the cryptogram that the chip data hold.
    pub fn answer(
        &self,
        account: &[u8],
        sequence: PanSequenceNumber,
        chip: &ChipPayment,
        code: [u8; 2],
        approved: bool,
    ) -> Result<IssuerAuthentication, CryptogramFault> {
        let (card, _) = self.card(account, sequence, None, chip)?;
        Ok(authentication(self.profile, &card, chip, code, status(approved)))
    }

    /// The index of the master key from which cards get theirs now; none without one.
    #[must_use]
    pub fn newest(&self) -> Option<u8> {
        self.keys.last().map(|(index, _)| *index)
    }

    /// The key of a card with this number, from the newest master key: what personalisation puts into a card. `None`
    /// without a master key.
    #[must_use]
    pub fn card_key(&self, account: &[u8], sequence: PanSequenceNumber) -> Option<CardKey> {
        self.card_key_of(self.newest()?, account, sequence)
    }

    /// As `card_key`, from the master key of this index.
    #[must_use]
    pub fn card_key_of(&self, index: u8, account: &[u8], sequence: PanSequenceNumber) -> Option<CardKey> {
        let (_, issuer) = self.keys.iter().find(|(of, _)| *of == index)?;
        let profile = self.profile;
        let issuer_data = profile.layout.write(profile.version, index, profile.card_results);
        let clear = card_key(issuer, profile.card_key, account, sequence);
        Some(CardKey { profile, issuer_data, card: Card::new(profile, clear) })
    }

    /// The card behind chip data, as far as these name it.
    fn card<'a>(
        &self,
        account: &[u8],
        sequence: PanSequenceNumber,
        range: Option<AtcRange>,
        chip: &'a ChipPayment,
    ) -> Result<(Card, IssuerDataParts<'a>), CryptogramFault> {
        let parts = self.profile.layout.read(&chip.issuer_data).ok_or(CryptogramFault::OtherProfile)?;
        if parts.version != self.profile.version {
            return Err(CryptogramFault::OtherProfile);
        }
        let of_index = |(index, _): &&(u8, Keyed)| *index == parts.key_index;
        let (_, issuer) = self.keys.iter().find(of_index).ok_or(CryptogramFault::UnknownKey)?;
        let own = Card::new(self.profile, card_key(issuer, self.profile.card_key, account, sequence));
        let card = match range {
            None => own,
            Some(range) => own.limited(self.profile, range),
        };
        Ok((card, parts))
    }
}

impl fmt::Debug for CryptogramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CryptogramKeys({}, {} versions)", self.profile.name(), self.keys.len())
    }
}

/// One card's key, as the card has it. Wiped when dropped.
pub struct CardKey {
    profile: &'static CryptogramProfile,
    issuer_data: IssuerData,
    card: Card,
}

impl CardKey {
    /// A card as it was personalised elsewhere: with its issuer data (9F10) and its key.
    #[must_use]
    pub fn personalised(
        profile: &'static CryptogramProfile,
        issuer_data: IssuerData,
        key: &[u8; CHIP_KEY_LENGTH],
    ) -> Self {
        Self { profile, issuer_data, card: Card::new(profile, ClearKey::new(*key)) }
    }

    /// The key with which the card pays while its counter lies in this range, in its own key's place.
    #[must_use]
    pub fn limited(&self, range: AtcRange) -> Self {
        let Self { profile, issuer_data, card } = self;
        Self { profile, issuer_data: *issuer_data, card: card.limited(profile, range) }
    }

    /// How it signs.
    #[must_use]
    pub fn profile(&self) -> &'static CryptogramProfile {
        self.profile
    }

    /// What it says of itself (9F10).
    #[must_use]
    pub fn issuer_data(&self) -> IssuerData {
        self.issuer_data
    }

    /// The key itself, for whoever puts it into the card. The tidy test lists the few files that may call this.
    #[must_use]
    pub fn expose_key(&self) -> &[u8; CHIP_KEY_LENGTH] {
        &self.card.clear
    }

    /// Does what the card does: puts in its issuer data and signs.
    pub fn sign(&self, chip: &mut ChipPayment) {
        let profile = self.profile;
        chip.issuer_data = self.issuer_data;
        if let Some(parts) = profile.layout.read(&chip.issuer_data) {
            chip.cryptogram = cryptogram(profile, &self.card, chip, &parts);
        }
    }

    /// Whether an answer (tag 91) is the issuer's to this payment with this code: the card's last check.
    #[must_use]
    pub fn accepts(&self, chip: &ChipPayment, answer: &[u8], code: [u8; 2], approved: bool) -> bool {
        let expected = authentication(self.profile, &self.card, chip, code, status(approved));
        expected.as_bytes().ct_eq(answer).into()
    }
}

impl fmt::Debug for CardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CardKey({})", self.profile.name())
    }
}

/// Issuer authentication data, the value of tag 91: 8 to 10 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerAuthentication {
    bytes: [u8; 10],
    len: usize,
}

impl IssuerAuthentication {
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn of(cryptogram: &[u8], rest: &[u8]) -> Self {
        let mut made = Self { bytes: [0; 10], len: cryptogram.len() + rest.len() };
        made.bytes.iter_mut().zip(cryptogram.iter().chain(rest)).for_each(|(place, byte)| *place = *byte);
        made
    }
}

/// A card's key, in the clear for the profile that signs with it as it is, and scheduled for all others.
struct Card {
    clear: ClearKey,
    keyed: Keyed,
}

impl Card {
    fn new(profile: &CryptogramProfile, clear: ClearKey) -> Self {
        let keyed = Keyed::new(profile.cipher(), &clear);
        Self { clear, keyed }
    }

    fn limited(&self, profile: &CryptogramProfile, range: AtcRange) -> Self {
        Self::new(profile, limited_key(&self.keyed, range))
    }

    /// The key of one payment.
    fn session(&self, method: SessionKeyMethod, chip: &ChipPayment) -> ClearKey {
        session_key(&self.keyed, method, chip).unwrap_or_else(|| self.clear.clone())
    }
}

fn status(approved: bool) -> [u8; 4] {
    if approved { CSU_APPROVED } else { CSU_DECLINED }
}

fn cryptogram(
    profile: &CryptogramProfile,
    card: &Card,
    chip: &ChipPayment,
    parts: &IssuerDataParts<'_>,
) -> [u8; 8] {
    let key = card.session(profile.session_key, chip);
    mac(profile.cipher(), &key, profile.padding, &profile.signed(chip, parts))
}

/// EMV Book 2, 8.2: method 1 encrypts cryptogram and response code, method 2 signs cryptogram and status update.
fn authentication(
    profile: &CryptogramProfile,
    card: &Card,
    chip: &ChipPayment,
    code: [u8; 2],
    status: [u8; 4],
) -> IssuerAuthentication {
    let [first, second] = code;
    let mixed = xor(chip.cryptogram, [first, second, 0, 0, 0, 0, 0, 0]);
    let session = || card.session(profile.session_key, chip);
    match profile.response {
        ResponseMethod::One => {
            let keyed = Keyed::new(profile.cipher(), &session());
            IssuerAuthentication::of(&left_block(&keyed, mixed), &code)
        }
        ResponseMethod::OneUnderCardKey => IssuerAuthentication::of(&left_block(&card.keyed, mixed), &code),
        ResponseMethod::Two => {
            let mut message = Message::new();
            message.push(&chip.cryptogram);
            message.push(&status);
            let [a, b, c, d, ..] = mac(profile.cipher(), &session(), Padding::Bit, &message);
            IssuerAuthentication::of(&[a, b, c, d], &status)
        }
    }
}

#[cfg(test)]
mod tests;
