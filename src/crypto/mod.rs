//! `SecurityModule`: the one door to keys and to everything done with them. Callers get handles that seal, index
//! and chain; no clear key leaves.

mod aead;
mod blind_index;
mod card_verification;
mod cipher;
mod credential;
mod emv;
mod error;
mod journal_keys;
mod jwe;
mod key;
mod key_block;
mod key_store;
mod message_mac;
mod pin_block;
mod receiver_keys;
mod remote_keys;

pub use aead::{DataSealer, SEALED_MOST, Sealed, TAG_LENGTH};
pub use blind_index::BlindIndexer;
pub use card_verification::{CardVerificationKey, DynamicVerificationKey, VerificationValue};
pub use cipher::{BlockCipher, Padding};
pub use credential::{credential_digest, same};
pub use emv::{CardKey, CryptogramFault, CryptogramKeys, CryptogramProfile, IssuerAuthentication};
pub use error::{CryptoError, KeyFault, StoreFault};
pub use journal_keys::{JournalKeys, SegmentKey};
pub use jwe::{MessageFault, MessageKey, MessageKeys};
pub use key::{KeyCheckValue, KeyDescription, KeyLabel, KeyUsage, MasterKey};
pub use key_block::{KeyBlockFault, KeyBlockHeader, TransportKey};
pub use key_store::{KeyHanded, KeyMade, KeyMaker, KeyPolicy, StorePurpose};
pub use message_mac::MessageMacKey;
pub use pin_block::{Pin, PinBlockFault, PinBlockFormat, PinZoneKey};
pub use receiver_keys::{ReceiverKey, ReceiverKeys};
pub use remote_keys::RemoteKeys;

use key::Key;
use key_store::KeyStore;

use crate::stdx::random::Entropy;
use crate::stdx::secret::Secret;

const SAMPLE_STORE: &str = include_str!("../../keys-sample/keys.store");
const SAMPLE_MASTER: &str = include_str!("../../keys-sample/master.key");

/// All live keys, resolved once at start into the handles that use them. Nothing is looked up by label while a
/// payment waits.
#[derive(Debug)]
pub struct SecurityModule {
    purpose: StorePurpose,
    keys: Vec<KeyDescription>,
    made: Vec<KeyMade>,
    handed: Vec<KeyHanded>,
    sealer: DataSealer,
    index: BlindIndexer,
    journal: JournalKeys,
    receivers: ReceiverKeys,
    messages: MessageKeys,
    remote: RemoteKeys,
    /// Issuer master keys, of tokens and of PANs.
    chip: Vec<Key>,
}

impl SecurityModule {
    /// Unwraps the keys of a store (`keys.store`) under `master`.
    ///
    /// # Errors
    /// `Store` for a text that is no store, was altered or shortened, or belongs to another master key; `Refused`
    /// for keys that `policy` does not allow; `KeyMissing` when a key that the daemon needs is not there.
    pub fn open(store_text: &str, master: &MasterKey, policy: KeyPolicy) -> Result<Self, CryptoError> {
        let store = KeyStore::parse(store_text, master, policy)?;
        let of = |usage| store.keys().iter().filter(move |key| key.description().usage == usage);
        Ok(Self {
            purpose: store.purpose(),
            keys: store.keys().iter().map(|key| *key.description()).collect(),
            made: store.made().to_vec(),
            handed: store.handed().to_vec(),
            sealer: DataSealer::new(of(KeyUsage::DataSealing))?,
            index: BlindIndexer::new(only(of(KeyUsage::BlindIndex), KeyUsage::BlindIndex)?),
            receivers: ReceiverKeys::new(only(of(KeyUsage::BlindIndex), KeyUsage::BlindIndex)?),
            messages: MessageKeys::new(of(KeyUsage::MessageEncryption), store.made())?,
            remote: RemoteKeys::new(only(of(KeyUsage::BlindIndex), KeyUsage::BlindIndex)?)?,
            journal: JournalKeys::new(only(of(KeyUsage::Journal), KeyUsage::Journal)?),
            chip: store.into_chip_keys(),
        })
    }

    /// The text of a new store with one fresh key for each use the daemon has.
    ///
    /// # Errors
    /// `NoEntropy` when the system gives no randomness.
    pub fn create_store(
        entropy: &mut Entropy,
        master: &MasterKey,
        purpose: StorePurpose,
    ) -> Result<String, CryptoError> {
        KeyStore::create(entropy, purpose)?.to_text(entropy, master)
    }

    /// The text of the same store with a new version of the key for this usage, which must be one with versions: it
    /// does the work from the next start on, and the older versions go on opening what they sealed.
    ///
    /// # Errors
    /// As `open`, and `NoEntropy`.
    pub fn rotate(
        store_text: &str,
        master: &MasterKey,
        policy: KeyPolicy,
        usage: KeyUsage,
        maker: KeyMaker,
        entropy: &mut Entropy,
    ) -> Result<String, CryptoError> {
        let mut store = KeyStore::parse(store_text, master, policy)?;
        store.add_version(usage, maker, entropy)?;
        store.to_text(entropy, master)
    }

    /// The text of the same store with one key more: the first version of a new label, or the next one of a label
    /// whose usage it has. `clear` is a key that somebody else made; without it one is drawn.
    ///
    /// # Errors
    /// As `open`; `OtherUsage` for a label that is another key's, `KeyLength` for a clear key of another length.
    pub fn add_key(
        store_text: &str,
        master: &MasterKey,
        policy: KeyPolicy,
        (label, usage): (KeyLabel, KeyUsage),
        clear: Option<Secret<Vec<u8>>>,
        maker: KeyMaker,
        entropy: &mut Entropy,
    ) -> Result<String, CryptoError> {
        let mut store = KeyStore::parse(store_text, master, policy)?;
        store.add(label, usage, clear, maker, entropy)?;
        store.to_text(entropy, master)
    }

    /// The text of the same store, in which it stands that a receiver's key was handed out.
    ///
    /// # Errors
    /// As `open`.
    pub fn hand_out(
        store_text: &str,
        master: &MasterKey,
        policy: KeyPolicy,
        receiver: &str,
        maker: KeyMaker,
        entropy: &mut Entropy,
    ) -> Result<String, CryptoError> {
        let mut store = KeyStore::parse(store_text, master, policy)?;
        let secret = {
            let of_index = store.keys().iter().filter(|key| key.description().usage == KeyUsage::BlindIndex);
            ReceiverKeys::new(only(of_index, KeyUsage::BlindIndex)?).secret(receiver)?
        };
        store.hand_out(receiver, secret, maker)?;
        store.to_text(entropy, master)
    }

    /// As `add_key`, of a key that somebody else made and sent in a key block under `transport`.
    ///
    /// # Errors
    /// As `add_key`; `KeyBlock` for a block that does not open or whose key is for something else.
    pub fn import_key(
        store_text: &str,
        master: &MasterKey,
        policy: KeyPolicy,
        named: (KeyLabel, KeyUsage),
        (transport, block): (&TransportKey, &str),
        maker: KeyMaker,
        entropy: &mut Entropy,
    ) -> Result<String, CryptoError> {
        let clear = transport.unwrap(block, named.1)?;
        Self::add_key(store_text, master, policy, named, Some(clear), maker, entropy)
    }

    /// The sample keys of `keys-sample/`, for tests, simulations and benchmarks. Anybody has them.
    ///
    /// # Errors
    /// As `open`; never with the files as shipped.
    pub fn sample() -> Result<Self, CryptoError> {
        Self::open(SAMPLE_STORE, &MasterKey::parse(SAMPLE_MASTER)?, KeyPolicy::TESTS)
    }

    /// The sample keys with a newer data key, and with that one only.
    #[cfg(test)]
    pub(crate) fn sample_rotated() -> Result<[Self; 2], CryptoError> {
        let (master, policy) = (MasterKey::parse(SAMPLE_MASTER)?, KeyPolicy::TESTS);
        let mut store = KeyStore::parse(SAMPLE_STORE, &master, policy)?;
        let mut entropy = Entropy::seeded(9);
        let maker = KeyMaker { by: crate::vocab::Text::default(), at: crate::stdx::clock::Wall(0) };
        store.add_version(KeyUsage::DataSealing, maker, &mut entropy)?;
        let both = Self::open(&store.to_text(&mut entropy, &master)?, &master, policy)?;
        store.retire_for_test(KeyUsage::DataSealing);
        let newer = Self::open(&store.to_text(&mut entropy, &master)?, &master, policy)?;
        Ok([both, newer])
    }

    /// Who had this version of a key made, and when; none for the keys that its store began with.
    #[must_use]
    pub fn maker(&self, key: &KeyDescription) -> Option<KeyMaker> {
        let of_key = |made: &&KeyMade| made.label == key.label && made.version == key.version;
        self.made.iter().find(of_key).map(|made| KeyMaker { by: made.by, at: made.at })
    }

    /// The keys of receivers that were handed out, each as often as it was.
    pub fn handed_out(&self) -> impl Iterator<Item = &KeyHanded> {
        self.handed.iter()
    }

    /// Whether these keys were made for development: no real card may come near them.
    #[must_use]
    pub fn is_development(&self) -> bool {
        self.purpose == StorePurpose::Development
    }

    /// What is loaded, without the keys themselves.
    pub fn keys(&self) -> impl Iterator<Item = &KeyDescription> {
        self.keys.iter()
    }

    /// Seals and opens card data.
    #[must_use]
    pub fn data_sealer(&self) -> DataSealer {
        self.sealer.clone()
    }

    /// Finds equal PANs without holding them.
    #[must_use]
    pub fn blind_index(&self) -> BlindIndexer {
        self.index.clone()
    }

    /// Signs notifications.
    #[must_use]
    pub fn receiver_keys(&self) -> ReceiverKeys {
        self.receivers.clone()
    }

    /// Opens messages that were encrypted for us.
    #[must_use]
    pub fn message_keys(&self) -> MessageKeys {
        self.messages.clone()
    }

    /// Signs and checks cryptograms that are made for one payment.
    #[must_use]
    pub fn remote_keys(&self) -> RemoteKeys {
        self.remote.clone()
    }

    /// Checks and answers the cryptograms of tokens whose card keys come from this key.
    ///
    /// # Errors
    /// `NoSuchKey` when no key of that label is for tokens and for the profile's cipher.
    pub fn token_keys(
        &self,
        label: KeyLabel,
        profile: &'static CryptogramProfile,
    ) -> Result<CryptogramKeys, CryptoError> {
        self.chip_keys(label, KeyUsage::TokenCryptogram(profile.cipher()), profile)
    }

    /// Makes the cryptograms of an issuer's PANs, whose card keys come from this key.
    ///
    /// # Errors
    /// `NoSuchKey` when no key of that label is for PANs and for the profile's cipher.
    pub fn issuer_keys(
        &self,
        label: KeyLabel,
        profile: &'static CryptogramProfile,
    ) -> Result<CryptogramKeys, CryptoError> {
        self.chip_keys(label, KeyUsage::IssuerMaster(profile.cipher()), profile)
    }

    fn chip_keys(
        &self,
        label: KeyLabel,
        usage: KeyUsage,
        profile: &'static CryptogramProfile,
    ) -> Result<CryptogramKeys, CryptoError> {
        let is_it = |key: &&Key| key.description().label == label && key.description().usage == usage;
        let mut found = self.chip.iter().filter(is_it).peekable();
        found.peek().ok_or(CryptoError::NoSuchKey { label, usage })?;
        CryptogramKeys::new(profile, found)
    }

    /// Seals journal entries and chains journal blocks.
    #[must_use]
    pub fn journal_keys(&self) -> JournalKeys {
        self.journal.clone()
    }
}

/// The one key of a use that cannot have two versions at a time.
fn only<'a>(mut keys: impl Iterator<Item = &'a Key>, usage: KeyUsage) -> Result<&'a Key, CryptoError> {
    let key = keys.next().ok_or(CryptoError::KeyMissing { usage })?;
    match keys.next() {
        None => Ok(key),
        Some(_) => Err(CryptoError::KeyAmbiguous { usage }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_store_opens_and_rotation_keeps_old_envelopes_open() {
        let mut entropy = Entropy::seeded(1);
        let master = MasterKey::generate(&mut entropy).unwrap();
        let policy = KeyPolicy::DEVELOPMENT;
        let text = SecurityModule::create_store(&mut entropy, &master, StorePurpose::Development).unwrap();
        let before = SecurityModule::open(&text, &master, policy).unwrap();
        assert!(before.is_development());
        let sealed = before.data_sealer().seal(&mut entropy, b"place", b"card").unwrap();

        let maker = KeyMaker { by: crate::vocab::Text::default(), at: crate::stdx::clock::Wall(1) };
        let rotated =
            SecurityModule::rotate(&text, &master, policy, KeyUsage::DataSealing, maker, &mut entropy)
                .unwrap();
        let after = SecurityModule::open(&rotated, &master, policy).unwrap();
        assert_eq!(after.keys().count(), before.keys().count() + 1);
        assert_eq!(**after.data_sealer().open(b"place", &sealed).unwrap(), *b"card");
        assert_eq!(after.data_sealer().seal(&mut entropy, b"place", b"card").unwrap().key_version(), 2);
    }

    #[test]
    fn production_keys_are_no_development_keys() {
        let mut entropy = Entropy::seeded(1);
        let master = MasterKey::generate(&mut entropy).unwrap();
        let text = SecurityModule::create_store(&mut entropy, &master, StorePurpose::Production).unwrap();
        assert!(!SecurityModule::open(&text, &master, KeyPolicy::PRODUCTION).unwrap().is_development());
    }

    #[test]
    fn the_sample_keys_are_there_for_tests() {
        let keys = SecurityModule::sample().unwrap();
        assert!(keys.is_development());
        assert_eq!(keys.keys().count(), 5);
    }
}
