//! `KeyStore`: the file that holds the wrapped keys, and the refusal of keys that everybody has.
//!
//! The file is lines of words rather than TOML, because one thing must be easy to say about it: every byte up to
//! the last line is under the seal of the last line. Each key is wrapped by itself (AES-256-GCM; associated data:
//! label, usage, version), so that no two can be exchanged, and the seal over the whole notices a line taken out.
//!
//! ```text
//! tokenswitch-keys 1
//! purpose development
//! master 5B01C3
//! key vault-data data-sealing 1 0A1B2C <nonce, wrapped key and tag in hex>
//! made vault-data 2 1763800000123 alice
//! handed issuer-bank 1 4F00A1 1763800000456 alice
//! seal <nonce and tag in hex>
//! ```
//!
//! `made` says who had a version made, and when, in milliseconds since 1970; the keys that a store begins with have
//! none. `handed` says to which receiver its key was handed out, the how manieth time, and by whom; the key itself is
//! derived.

use std::fmt::Write as _;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use zeroize::Zeroizing;

use super::cipher::BlockCipher;
use super::error::{CryptoError, StoreFault};
use super::jwe::is_private_key;
use super::key::{Key, KeyCheckValue, KeyDescription, KeyLabel, KeyUsage, MasterKey};
use crate::stdx::clock::Wall;
use crate::stdx::random::Entropy;
use crate::stdx::secret::Secret;
use crate::vocab::Text;

const FIRST_LINE: &str = "tokenswitch-keys 1";
const NONCE_LENGTH: usize = 12;
const TAG_LENGTH: usize = 16;

/// The keys that a store begins with, with their labels.
const FIRST: [(&str, KeyUsage); 5] = [
    ("vault-data", KeyUsage::DataSealing),
    ("vault-index", KeyUsage::BlindIndex),
    ("journal", KeyUsage::Journal),
    ("token-master", KeyUsage::TokenCryptogram(BlockCipher::Aes)),
    ("messages", KeyUsage::MessageEncryption),
];

/// Check values of the keys in `keys-sample/`, the master key's first.
const SAMPLE_CHECK_VALUES: [KeyCheckValue; 6] = [
    KeyCheckValue::from_bytes([0x16, 0xB1, 0x9B]),
    KeyCheckValue::from_bytes([0x9D, 0x61, 0xB3]),
    KeyCheckValue::from_bytes([0x8A, 0x82, 0x1B]),
    KeyCheckValue::from_bytes([0x76, 0xD4, 0xF8]),
    KeyCheckValue::from_bytes([0x23, 0xBB, 0xF8]),
    KeyCheckValue::from_bytes([0x9C, 0x7B, 0x0C]),
];

/// What keys were made for. It stands in the store, under its seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorePurpose {
    Development,
    Production,
}

impl StorePurpose {
    fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

/// Which keys may be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPolicy {
    /// Keys that `init` made for trying things out.
    pub allow_development_keys: bool,
    /// Keys that are published with this program.
    pub allow_sample_keys: bool,
}

impl KeyPolicy {
    pub const PRODUCTION: Self = Self { allow_development_keys: false, allow_sample_keys: false };
    pub const DEVELOPMENT: Self = Self { allow_development_keys: true, allow_sample_keys: false };
    pub const TESTS: Self = Self { allow_development_keys: true, allow_sample_keys: true };
}

/// Who had a version of a key made, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyMade {
    pub label: KeyLabel,
    pub version: u16,
    pub at: Wall,
    pub by: Text<32>,
}

/// Who is changing a store, and when.
#[derive(Debug, Clone, Copy)]
pub struct KeyMaker {
    pub by: Text<32>,
    pub at: Wall,
}

/// A receiver's key left this house.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHanded {
    /// Its version says how often it did.
    pub key: KeyDescription,
    pub at: Wall,
    pub by: Text<32>,
}

/// The keys of one store, unwrapped.
#[derive(Debug)]
pub(super) struct KeyStore {
    purpose: StorePurpose,
    keys: Vec<Key>,
    made: Vec<KeyMade>,
    handed: Vec<KeyHanded>,
}

impl KeyStore {
    pub(super) fn create(entropy: &mut Entropy, purpose: StorePurpose) -> Result<Self, CryptoError> {
        let mut store =
            Self { purpose, keys: Vec::with_capacity(FIRST.len()), made: Vec::new(), handed: Vec::new() };
        for (label, usage) in FIRST {
            let label = KeyLabel::parse(label).map_err(|_| CryptoError::KeyMissing { usage })?;
            store.keys.push(fresh(label, usage, 1, entropy)?);
        }
        Ok(store)
    }

    pub(super) fn purpose(&self) -> StorePurpose {
        self.purpose
    }

    pub(super) fn keys(&self) -> &[Key] {
        &self.keys
    }

    pub(super) fn made(&self) -> &[KeyMade] {
        &self.made
    }

    pub(super) fn handed(&self) -> &[KeyHanded] {
        &self.handed
    }

    /// Notes that a receiver's key was handed out once more. Of the receiver's name there stands what fits a label.
    pub(super) fn hand_out(
        &mut self,
        receiver: &str,
        secret: Secret<Vec<u8>>,
        maker: KeyMaker,
    ) -> Result<(), CryptoError> {
        let usage = KeyUsage::ReceiverSigning;
        let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let label = KeyLabel::parse(&receiver.chars().map(fits).collect::<String>());
        let label = label.map_err(|_| CryptoError::KeyMissing { usage })?;
        let before = self.handed.iter().filter(|handed| handed.key.label == label);
        let newest = before.map(|handed| handed.key.version).max().unwrap_or_default();
        let version = newest.checked_add(1).ok_or(CryptoError::KeyAmbiguous { usage })?;
        let key = *Key::new(label, usage, version, secret)?.description();
        self.handed.push(KeyHanded { key, at: maker.at, by: maker.by });
        Ok(())
    }

    /// The chip keys, when all others were resolved.
    pub(super) fn into_chip_keys(self) -> Vec<Key> {
        self.keys.into_iter().filter(|key| key.description().usage.chip_cipher().is_some()).collect()
    }

    /// Adds a key: version 1 of a new label, or the next of one with this use.
    pub(super) fn add(
        &mut self,
        label: KeyLabel,
        usage: KeyUsage,
        clear: Option<Secret<Vec<u8>>>,
        maker: KeyMaker,
        entropy: &mut Entropy,
    ) -> Result<(), CryptoError> {
        let mut newest = 0;
        for about in self.keys.iter().map(Key::description).filter(|about| about.label == label) {
            if about.usage != usage {
                return Err(CryptoError::OtherUsage { label, usage: about.usage });
            }
            newest = about.version.max(newest);
        }
        let version = newest.checked_add(1).ok_or(CryptoError::KeyAmbiguous { usage })?;
        self.keys.push(match clear {
            Some(material) => Key::new(label, usage, version, material)?,
            None => fresh(label, usage, version, entropy)?,
        });
        self.made.push(KeyMade { label, version, at: maker.at, by: maker.by });
        Ok(())
    }

    /// Adds the next version of the key with this use.
    pub(super) fn add_version(
        &mut self,
        usage: KeyUsage,
        maker: KeyMaker,
        entropy: &mut Entropy,
    ) -> Result<(), CryptoError> {
        let of_usage = self.keys.iter().map(Key::description).filter(|key| key.usage == usage);
        let newest = *of_usage.max_by_key(|key| key.version).ok_or(CryptoError::KeyMissing { usage })?;
        self.add(newest.label, usage, None, maker, entropy)
    }

    /// Gives up all but the newest version of the key with this use.
    #[cfg(test)]
    pub(super) fn retire_for_test(&mut self, usage: KeyUsage) {
        let of_usage = |key: &Key| key.description().usage == usage;
        let versions = self.keys.iter().filter(|key| of_usage(key)).map(|key| key.description().version);
        let newest = versions.max();
        self.keys.retain(|key| !of_usage(key) || Some(key.description().version) == newest);
    }

    /// Reads a store, seal first.
    pub(super) fn parse(text: &str, master: &MasterKey, policy: KeyPolicy) -> Result<Self, CryptoError> {
        let check = master.check_value();
        if !policy.allow_sample_keys && SAMPLE_CHECK_VALUES.contains(&check) {
            return Err(CryptoError::SampleMaster { check });
        }
        let mut lines = Lines::new(text);
        lines.next_line(FIRST_LINE, |line| (line == FIRST_LINE).then_some(()))?;
        let purpose = lines.next_line("purpose development or purpose production", purpose_line)?;
        let wanted = lines.next_line("master and a check value", |line| {
            KeyCheckValue::parse(line.strip_prefix("master ")?)
        })?;
        if wanted != check {
            return Err(lines.fault(StoreFault::OtherMaster { wanted, given: check }));
        }
        check_seal(text, master)?;
        let mut store = Self { purpose, keys: Vec::new(), made: Vec::new(), handed: Vec::new() };
        while lines.rest().starts_with("key ") {
            let key = store.read_key(&mut lines, master)?;
            refuse_sample(&key, policy)?;
            store.keys.push(key);
        }
        while lines.rest().starts_with("made ") {
            store.made.push(lines.next_line("made, label, version, time, name", made_line)?);
        }
        while lines.rest().starts_with("handed ") {
            let wanted = "handed, receiver, version, check value, time, name";
            store.handed.push(lines.next_line(wanted, handed_line)?);
        }
        lines.next_line("seal as the last line", |line| line.starts_with("seal ").then_some(()))?;
        if !lines.rest().is_empty() {
            return Err(lines.fault(StoreFault::SealBroken));
        }
        if purpose == StorePurpose::Development && !policy.allow_development_keys {
            return Err(CryptoError::DevelopmentKeys);
        }
        Ok(store)
    }

    fn read_key(&self, lines: &mut Lines<'_>, master: &MasterKey) -> Result<Key, CryptoError> {
        let line = lines.next_line("key, label, usage, version, check value, wrapped key", key_line)?;
        let KeyLine { label, usage, version, check: said, wrapped } = line;
        let material = unwrap(master, &key_context(label, usage, version), &wrapped)
            .ok_or(lines.fault(StoreFault::Unwrap { label, version }))?;
        let key = Key::new(label, usage, version, material)?;
        let found = key.description().check;
        if found != said {
            return Err(lines.fault(StoreFault::CheckValue { label, version, found, said }));
        }
        if self.keys.iter().map(Key::description).any(|k| k.label == label && k.version == version) {
            return Err(lines.fault(StoreFault::Twice { label, version }));
        }
        Ok(key)
    }

    /// Writes the store, every key wrapped anew.
    pub(super) fn to_text(&self, entropy: &mut Entropy, master: &MasterKey) -> Result<String, CryptoError> {
        let mut text =
            format!("{FIRST_LINE}\npurpose {}\nmaster {}\n", self.purpose.name(), master.check_value());
        for key in &self.keys {
            let about = key.description();
            let context = key_context(about.label, about.usage, about.version);
            let wrapped = wrap(master, &context, key.material(), entropy)?;
            let (label, usage, version, check) = (about.label, about.usage, about.version, about.check);
            let line = format!("key {label} {usage} {version} {check} {}\n", hex::encode(wrapped));
            text.push_str(&line);
        }
        for KeyMade { label, version, at, by } in &self.made {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "made {label} {version} {} {by}", at.0);
        }
        for KeyHanded { key: KeyDescription { label, version, check, .. }, at, by } in &self.handed {
            let _ = writeln!(text, "handed {label} {version} {check} {} {by}", at.0);
        }
        let seal = wrap(master, &seal_context(&text), &[], entropy)?;
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "seal {}", hex::encode(seal));
        Ok(text)
    }
}

/// A new key that is none of the samples, not even by check value, and that can be used.
fn fresh(label: KeyLabel, usage: KeyUsage, version: u16, entropy: &mut Entropy) -> Result<Key, CryptoError> {
    loop {
        let key = Key::generate(label, usage, version, entropy)?;
        let usable = usage != KeyUsage::MessageEncryption || is_private_key(key.material());
        if usable && !SAMPLE_CHECK_VALUES.contains(&key.description().check) {
            return Ok(key);
        }
    }
}

fn refuse_sample(key: &Key, policy: KeyPolicy) -> Result<(), CryptoError> {
    let about = key.description();
    if !policy.allow_sample_keys && SAMPLE_CHECK_VALUES.contains(&about.check) {
        return Err(CryptoError::SampleKey {
            label: about.label,
            version: about.version,
            check: about.check,
        });
    }
    Ok(())
}

fn purpose_line(line: &str) -> Option<StorePurpose> {
    let name = line.strip_prefix("purpose ")?;
    [StorePurpose::Development, StorePurpose::Production].into_iter().find(|purpose| purpose.name() == name)
}

struct KeyLine {
    label: KeyLabel,
    usage: KeyUsage,
    version: u16,
    check: KeyCheckValue,
    wrapped: Vec<u8>,
}

fn key_line(line: &str) -> Option<KeyLine> {
    let words: Vec<&str> = line.split(' ').collect();
    let &["key", label, usage, version, check, hex_text] = words.as_slice() else { return None };
    let number: u16 = version.parse().ok().filter(|number| *number > 0)?;
    let usage = KeyUsage::from_name(usage).filter(|usage| *usage != KeyUsage::ReceiverSigning)?;
    let mut wrapped = vec![0; NONCE_LENGTH + usage.key_length() + TAG_LENGTH];
    hex::decode_to_slice(hex_text, &mut wrapped).ok()?;
    Some(KeyLine {
        label: KeyLabel::parse(label).ok()?,
        usage,
        // `+1` and `01` are numbers to the standard library and no versions here.
        version: (number.to_string() == version).then_some(number)?,
        check: KeyCheckValue::parse(check)?,
        wrapped,
    })
}

fn made_line(line: &str) -> Option<KeyMade> {
    let mut words = line.splitn(5, ' ').skip(1);
    Some(KeyMade {
        label: KeyLabel::parse(words.next()?).ok()?,
        version: words.next()?.parse().ok()?,
        at: Wall(words.next()?.parse().ok()?),
        by: Text::parse("who", words.next()?.as_bytes()).ok()?,
    })
}

fn handed_line(line: &str) -> Option<KeyHanded> {
    let mut words = line.splitn(6, ' ').skip(1);
    let key = KeyDescription {
        label: KeyLabel::parse(words.next()?).ok()?,
        usage: KeyUsage::ReceiverSigning,
        version: words.next()?.parse().ok()?,
        check: KeyCheckValue::parse(words.next()?)?,
    };
    let at = Wall(words.next()?.parse().ok()?);
    Some(KeyHanded { key, at, by: Text::parse("who", words.next()?.as_bytes()).ok()? })
}

/// The last line against everything before it.
fn check_seal(text: &str, master: &MasterKey) -> Result<(), CryptoError> {
    let line = text.lines().count();
    let broken = CryptoError::Store { line, fault: StoreFault::SealBroken };
    let at = text.rfind("seal ").ok_or(broken)?;
    let (sealed, seal) = text.split_at_checked(at).ok_or(broken)?;
    let seal_text = seal.strip_prefix("seal ").and_then(|rest| rest.strip_suffix('\n')).ok_or(broken)?;
    let mut seal = [0; NONCE_LENGTH + TAG_LENGTH];
    hex::decode_to_slice(seal_text, &mut seal).map_err(|_| broken)?;
    open(master, &seal_context(sealed), &seal).map(|_| ()).ok_or(broken)
}

fn key_context(label: KeyLabel, usage: KeyUsage, version: u16) -> Vec<u8> {
    format!("tokenswitch key {label} {usage} {version}").into_bytes()
}

fn seal_context(sealed: &str) -> Vec<u8> {
    [b"tokenswitch key store\n", sealed.as_bytes()].concat()
}

/// Nonce, ciphertext and tag. A random nonce is fit here: a master key wraps a few keys in its life.
fn wrap(
    master: &MasterKey,
    context: &[u8],
    clear: &[u8],
    entropy: &mut Entropy,
) -> Result<Vec<u8>, CryptoError> {
    let nonce: [u8; NONCE_LENGTH] = entropy.bytes()?;
    // The buffer has room for the tag, so that growing leaves no copy of the clear key behind.
    let mut buffer = Zeroizing::new(Vec::with_capacity(clear.len() + TAG_LENGTH));
    buffer.extend_from_slice(clear);
    cipher(master)
        .encrypt_in_place(&nonce.into(), context, &mut *buffer)
        .map_err(|_| CryptoError::TooLong { length: clear.len() })?;
    Ok([nonce.as_slice(), &buffer].concat())
}

fn unwrap(master: &MasterKey, context: &[u8], wrapped: &[u8]) -> Option<Secret<Vec<u8>>> {
    open(master, context, wrapped).map(|clear| Secret::new(clear.to_vec()))
}

fn open(master: &MasterKey, context: &[u8], wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = wrapped.split_first_chunk::<NONCE_LENGTH>()?;
    let mut buffer = Zeroizing::new(sealed.to_vec());
    cipher(master).decrypt_in_place(&(*nonce).into(), context, &mut *buffer).ok()?;
    Some(buffer)
}

fn cipher(master: &MasterKey) -> Aes256Gcm {
    Aes256Gcm::new(master.material().into())
}

/// The lines of a store, numbered.
struct Lines<'a> {
    rest: &'a str,
    number: usize,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text, number: 0 }
    }

    fn rest(&self) -> &'a str {
        self.rest
    }

    fn fault(&self, fault: StoreFault) -> CryptoError {
        CryptoError::Store { line: self.number, fault }
    }

    fn next_line<T>(
        &mut self,
        wanted: &'static str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, CryptoError> {
        self.number += 1;
        let fault = self.fault(StoreFault::Wanted { wanted });
        let (line, rest) = self.rest.split_once('\n').ok_or(fault)?;
        self.rest = rest;
        read(line).ok_or(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE_STORE: &str = include_str!("../../keys-sample/keys.store");
    const SAMPLE_MASTER: &str = include_str!("../../keys-sample/master.key");

    fn made() -> (String, MasterKey) {
        let mut entropy = Entropy::seeded(5);
        let master = MasterKey::generate(&mut entropy).unwrap();
        let store = KeyStore::create(&mut entropy, StorePurpose::Development).unwrap();
        (store.to_text(&mut entropy, &master).unwrap(), master)
    }

    fn maker() -> KeyMaker {
        KeyMaker { by: Text::parse("who", b"night shift").unwrap(), at: Wall(1_763_800_000_123) }
    }

    #[test]
    fn who_had_a_version_made_is_read_back() {
        let (text, master) = made();
        let mut store = KeyStore::parse(&text, &master, KeyPolicy::DEVELOPMENT).unwrap();
        store.add_version(KeyUsage::DataSealing, maker(), &mut Entropy::seeded(3)).unwrap();
        let text = store.to_text(&mut Entropy::seeded(4), &master).unwrap();
        assert!(text.contains("\nmade vault-data 2 1763800000123 night shift\nseal "), "{text}");
        let again = KeyStore::parse(&text, &master, KeyPolicy::DEVELOPMENT).unwrap();
        assert_eq!(again.made(), store.made());
        let altered = text.replace("night shift", "somebody el");
        assert_eq!(fault(&altered, &master), Some(StoreFault::SealBroken));
    }

    #[test]
    fn to_whom_a_key_was_handed_out_is_read_back_and_counted() {
        let (text, master) = made();
        let mut store = KeyStore::parse(&text, &master, KeyPolicy::DEVELOPMENT).unwrap();
        store.add_version(KeyUsage::DataSealing, maker(), &mut Entropy::seeded(3)).unwrap();
        for receiver in ["issuer-Big_Bank", "requestor-00000000001", "issuer-Big_Bank"] {
            store.hand_out(receiver, Secret::new(vec![7; 32]), maker()).unwrap();
        }
        let text = store.to_text(&mut Entropy::seeded(4), &master).unwrap();
        let again = KeyStore::parse(&text, &master, KeyPolicy::DEVELOPMENT).unwrap();
        assert_eq!((again.handed(), again.made()), (store.handed(), store.made()));
        let said: Vec<_> = again.handed().iter().map(|it| (it.key.label.as_str(), it.key.version)).collect();
        assert_eq!(said, [("issuer-big-bank", 1), ("requestor-00000000001", 1), ("issuer-big-bank", 2)]);
        let altered = text.replace("handed issuer-big-bank 2", "handed issuer-big-bank 3");
        assert_eq!(fault(&altered, &master), Some(StoreFault::SealBroken));
        assert!(!text.contains(&hex::encode([7; 32])), "and not the key");
    }

    fn fault(text: &str, master: &MasterKey) -> Option<StoreFault> {
        match KeyStore::parse(text, master, KeyPolicy::DEVELOPMENT) {
            Err(CryptoError::Store { fault, .. }) => Some(fault),
            Err(other) => panic!("{other}"),
            Ok(_) => None,
        }
    }

    /// `text` with its last line made anew, as somebody with the master key could.
    fn resealed(text: &str, master: &MasterKey) -> String {
        let kept = &text[..text.rfind("seal ").unwrap()];
        let seal = wrap(master, &seal_context(kept), &[], &mut Entropy::seeded(6)).unwrap();
        format!("{kept}seal {}\n", hex::encode(seal))
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (text, master) = made();
        let store = KeyStore::parse(&text, &master, KeyPolicy::DEVELOPMENT).unwrap();
        let labels: Vec<&str> = store.keys().iter().map(|key| key.description().label.as_str()).collect();
        assert_eq!(labels, ["vault-data", "vault-index", "journal", "token-master", "messages"]);
        let again = store.to_text(&mut Entropy::seeded(9), &master).unwrap();
        assert_ne!(again, text, "wrapped anew");
        let store_again = KeyStore::parse(&again, &master, KeyPolicy::DEVELOPMENT).unwrap();
        for (one, other) in store.keys().iter().zip(store_again.keys()) {
            assert_eq!(one.material(), other.material());
        }
    }

    #[test]
    fn no_clear_key_stands_in_the_store() {
        let (text, master) = made();
        let store = KeyStore::parse(&text, &master, KeyPolicy::DEVELOPMENT).unwrap();
        for key in store.keys() {
            assert!(!text.contains(&hex::encode(key.material())));
        }
        assert!(!text.contains(master.to_text().trim()));
    }

    #[test]
    fn the_sample_store_written_elsewhere_is_read_here_and_refused_by_the_daemon() {
        let master = MasterKey::parse(SAMPLE_MASTER).unwrap();
        let store = KeyStore::parse(SAMPLE_STORE, &master, KeyPolicy::TESTS).unwrap();
        let mut checks = vec![master.check_value()];
        checks.extend(store.keys().iter().map(|key| key.description().check));
        assert_eq!(checks, SAMPLE_CHECK_VALUES);
        let readme = include_str!("../../keys-sample/README.md");
        assert!(checks.iter().all(|check| readme.contains(&check.to_string())));
        for policy in [KeyPolicy::PRODUCTION, KeyPolicy::DEVELOPMENT] {
            let refused = KeyStore::parse(SAMPLE_STORE, &master, policy).unwrap_err();
            assert_eq!(refused, CryptoError::SampleMaster { check: master.check_value() });
        }
        // The sample keys under a master key of one's own are still the sample keys.
        let own = MasterKey::generate(&mut Entropy::seeded(1)).unwrap();
        let moved = store.to_text(&mut Entropy::seeded(2), &own).unwrap();
        let refused = KeyStore::parse(&moved, &own, KeyPolicy::DEVELOPMENT).unwrap_err();
        assert!(matches!(refused, CryptoError::SampleKey { .. }), "{refused}");
    }

    #[test]
    fn development_keys_need_leave() {
        let (text, master) = made();
        let refused = KeyStore::parse(&text, &master, KeyPolicy::PRODUCTION).unwrap_err();
        assert_eq!(refused, CryptoError::DevelopmentKeys);
        let claimed = text.replace("purpose development", "purpose production");
        assert_eq!(fault(&claimed, &master), Some(StoreFault::SealBroken));
    }

    #[test]
    fn another_master_key_is_named_by_check_value() {
        let (text, master) = made();
        let other = MasterKey::generate(&mut Entropy::seeded(77)).unwrap();
        let (wanted, given) = (master.check_value(), other.check_value());
        assert_eq!(fault(&text, &other), Some(StoreFault::OtherMaster { wanted, given }));
    }

    #[test]
    fn an_altered_or_shortened_store_is_refused() {
        let (text, master) = made();
        assert_eq!(fault(&text, &master), None);
        for line in 0..text.lines().count() {
            let shorter: String = text
                .split_inclusive('\n')
                .enumerate()
                .filter(|(at, _)| *at != line)
                .map(|(_, l)| l)
                .collect();
            assert!(fault(&shorter, &master).is_some(), "without line {line}");
        }
        for cut in 0..text.len() {
            assert!(fault(&text[..cut], &master).is_some(), "cut at {cut}");
        }
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'7' { b'8' } else { b'7' };
            assert!(fault(&String::from_utf8(bytes).unwrap(), &master).is_some(), "changed at {at}");
        }
        assert!(fault(&format!("{text}\n"), &master).is_some());
        assert!(fault(&text.replace('\n', "\r\n"), &master).is_some());
    }

    #[test]
    fn a_wrapped_key_serves_only_its_own_label_usage_and_version() {
        let (text, master) = made();
        let swap = |from: &str, to: &str| resealed(&text.replace(from, to), &master);
        for (from, to) in [
            ("vault-data data-sealing 1", "vault-date data-sealing 1"),
            ("vault-data data-sealing 1", "vault-data pin-zone 1"),
            ("vault-data data-sealing 1", "vault-data data-sealing 2"),
        ] {
            assert!(matches!(fault(&swap(from, to), &master), Some(StoreFault::Unwrap { .. })), "{to}");
        }
        let lines: Vec<&str> = text.lines().collect();
        let wrapped = |line: usize| lines[line].rsplit(' ').next().unwrap();
        assert!(matches!(fault(&swap(wrapped(3), wrapped(4)), &master), Some(StoreFault::Unwrap { .. })));
        let check = lines[3].split(' ').nth(4).unwrap();
        assert!(matches!(fault(&swap(check, "000000"), &master), Some(StoreFault::CheckValue { .. })));
        let doubled = resealed(&text.replace(lines[3], &[lines[3], lines[3]].join("\n")), &master);
        assert!(matches!(fault(&doubled, &master), Some(StoreFault::Twice { .. })));
    }

    #[test]
    fn lines_are_strict() {
        let (text, master) = made();
        for (from, to, line) in [
            ("tokenswitch-keys 1", "tokenswitch-keys 2", 1),
            ("purpose development", "purpose anything", 2),
            ("master ", "master  ", 3),
            ("data-sealing 1", "data-sealing +1", 4),
            ("data-sealing 1", "data-sealing 01", 4),
            ("data-sealing 1", "data-sealing 0", 4),
            ("data-sealing 1", "data-sealing 65536", 4),
            ("data-sealing 1", "anything 1", 4),
            ("key vault-data", "key  vault-data", 4),
            ("key vault-data", "note vault-data", 4),
        ] {
            let changed = resealed(&text.replacen(from, to, 1), &master);
            match KeyStore::parse(&changed, &master, KeyPolicy::DEVELOPMENT) {
                Err(CryptoError::Store { line: at, fault: StoreFault::Wanted { .. } }) => {
                    assert_eq!(at, line, "{to}")
                }
                other => panic!("{to}: {other:?}"),
            }
        }
    }

    #[test]
    fn keys_are_added_under_a_label_with_one_usage() {
        let (text, master) = made();
        let mut store = KeyStore::parse(&text, &master, KeyPolicy::DEVELOPMENT).unwrap();
        let label = |text| KeyLabel::parse(text).unwrap();
        let des = KeyUsage::TokenCryptogram(BlockCipher::TripleDes);
        let clear = |bytes: &[u8]| Some(Secret::new(bytes.to_vec()));
        let mut entropy = Entropy::seeded(3);
        let mut add = |name, usage, clear| store.add(label(name), usage, clear, maker(), &mut entropy);
        assert_eq!(add("debit", des, clear(&[0x11; 16])), Ok(()));
        assert_eq!(add("debit", des, None), Ok(()));
        let wrong = CryptoError::KeyLength { usage: des, length: 24 };
        assert_eq!(add("debit", des, clear(&[0x11; 24])), Err(wrong));
        let wrong = CryptoError::OtherUsage { label: label("debit"), usage: des };
        assert_eq!(add("debit", KeyUsage::IssuerMaster(BlockCipher::TripleDes), None), Err(wrong));
        let text = store.to_text(&mut Entropy::seeded(4), &master).unwrap();
        let again = KeyStore::parse(&text, &master, KeyPolicy::DEVELOPMENT).unwrap();
        let debit: Vec<_> = again.into_chip_keys();
        let shown = |key: &Key| (key.description().label.to_string(), key.description().version);
        let expected = [("token-master".to_owned(), 1), ("debit".to_owned(), 1), ("debit".to_owned(), 2)];
        assert_eq!(debit.iter().map(shown).collect::<Vec<_>>(), expected);
        assert_eq!(debit[1].material(), [0x11; 16]);
        // 3DES over a block of zeros, by PyPI's `cryptography`.
        assert_eq!(debit[1].description().check.to_string(), "82E136");
    }

    #[test]
    fn versions_are_added_one_by_one() {
        let (text, master) = made();
        let mut store = KeyStore::parse(&text, &master, KeyPolicy::DEVELOPMENT).unwrap();
        store.add_version(KeyUsage::DataSealing, maker(), &mut Entropy::seeded(3)).unwrap();
        let newest = *store.keys().last().unwrap().description();
        assert_eq!((newest.label.as_str(), newest.version), ("vault-data", 2));
        let missing = store.add_version(KeyUsage::PinZone, maker(), &mut Entropy::seeded(3)).unwrap_err();
        assert_eq!(missing, CryptoError::KeyMissing { usage: KeyUsage::PinZone });
    }
}
