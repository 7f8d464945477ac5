//! `Sealed`: an envelope of nonce, key version, ciphertext and tag; `DataSealer` makes and opens it. Associated
//! data is not optional: an envelope moved to another record does not open.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::error::CryptoError;
use super::key::{Key, KeyUsage};
use crate::stdx::random::Entropy;

/// AES-256-GCM's tag, in bytes.
pub const TAG_LENGTH: usize = 16;

/// Ciphertext and tag of the longest envelope: a PAN with its expiry and sequence number takes 40.
pub const SEALED_MOST: usize = 64;

/// Key version, nonce and one byte of length stand before the ciphertext.
const HEAD: usize = 2 + NONCE_LEN + 1;

/// An envelope, kept in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    key_version: u16,
    nonce: [u8; NONCE_LEN],
    bytes: [u8; SEALED_MOST],
    len: u8,
}

impl Sealed {
    /// Puts an envelope together from what was stored of it; only opening it tells whether it holds.
    ///
    /// # Errors
    /// `NotSealed` when ciphertext and tag are shorter than a tag or longer than `SEALED_MOST`.
    pub fn from_parts(
        key_version: u16,
        nonce: [u8; NONCE_LEN],
        ciphertext_and_tag: &[u8],
    ) -> Result<Self, CryptoError> {
        let length = ciphertext_and_tag.len();
        let mut bytes = [0; SEALED_MOST];
        let place = bytes.get_mut(..length).filter(|place| place.len() >= TAG_LENGTH);
        place.ok_or(CryptoError::NotSealed)?.copy_from_slice(ciphertext_and_tag);
        let len = u8::try_from(length).map_err(|_| CryptoError::NotSealed)?;
        Ok(Self { key_version, nonce, bytes, len })
    }

    #[must_use]
    pub fn key_version(&self) -> u16 {
        self.key_version
    }

    #[must_use]
    pub fn nonce(&self) -> &[u8; NONCE_LEN] {
        &self.nonce
    }

    #[must_use]
    pub fn ciphertext_and_tag(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Appends the envelope: version (2 bytes, big end first), nonce (12), length (1), ciphertext and tag.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key_version.to_be_bytes());
        out.extend_from_slice(&self.nonce);
        out.push(self.len);
        out.extend_from_slice(self.ciphertext_and_tag());
    }

    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + usize::from(self.len));
        self.encode(&mut out);
        out
    }

    /// Reads one envelope from the front of `bytes`; gives what follows it, too.
    ///
    /// # Errors
    /// `NotSealed` when the bytes end early or the length is not one that `encode` writes.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), CryptoError> {
        let wrong = CryptoError::NotSealed;
        let (version, rest) = bytes.split_first_chunk::<2>().ok_or(wrong)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(wrong)?;
        let (len, rest) = rest.split_first().ok_or(wrong)?;
        let (sealed, rest) = rest.split_at_checked(usize::from(*len)).ok_or(wrong)?;
        Ok((Self::from_parts(u16::from_be_bytes(*version), *nonce, sealed)?, rest))
    }

    /// Reads one envelope and nothing else.
    ///
    /// # Errors
    /// As `decode`, also when bytes follow.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CryptoError> {
        match Self::decode(bytes)? {
            (sealed, []) => Ok(sealed),
            _ => Err(CryptoError::NotSealed),
        }
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed(key version {}, {} bytes)", self.key_version, self.len)
    }
}

/// Seals card data under the newest data key and opens it under whichever sealed it. Clones share one state.
#[derive(Clone)]
pub struct DataSealer {
    shared: Arc<Shared>,
}

struct Shared {
    /// Oldest first. There are a handful, and almost everything is under the last.
    keys: Vec<(u16, LessSafeKey)>,
    newest: u16,
    run: Mutex<NonceRun>,
}

/// Nonces: 8 random bytes drawn for each run of 2^32, then a counter. Fully random nonces would have to end at
/// 2^32 seals a key (SP 800-38D 8.3), half a day at full load; runs collide only if two of them draw the same
/// 64 bits.
#[derive(Default)]
struct NonceRun {
    drawn: Option<[u8; 8]>,
    counter: u32,
}

impl NonceRun {
    fn next(&mut self, entropy: &mut Entropy) -> Result<[u8; NONCE_LEN], CryptoError> {
        let drawn = match self.drawn {
            Some(drawn) => drawn,
            None => *self.drawn.insert(entropy.bytes()?),
        };
        let mut nonce = [0; NONCE_LEN];
        let parts = drawn.into_iter().chain(self.counter.to_be_bytes());
        nonce.iter_mut().zip(parts).for_each(|(place, byte)| *place = byte);
        match self.counter.checked_add(1) {
            Some(next) => self.counter = next,
            None => *self = Self::default(),
        }
        Ok(nonce)
    }
}

impl DataSealer {
    pub(super) fn new<'a>(keys: impl Iterator<Item = &'a Key>) -> Result<Self, CryptoError> {
        let missing = CryptoError::KeyMissing { usage: KeyUsage::DataSealing };
        let mut resolved = Vec::new();
        for key in keys {
            resolved.push((key.description().version, ring_key(key.material()).ok_or(missing)?));
        }
        resolved.sort_by_key(|(version, _)| *version);
        if resolved.windows(2).any(|pair| matches!(pair, [a, b] if a.0 == b.0)) {
            return Err(CryptoError::KeyAmbiguous { usage: KeyUsage::DataSealing });
        }
        let newest = resolved.last().ok_or(missing)?.0;
        Ok(Self { shared: Arc::new(Shared { keys: resolved, newest, run: Mutex::default() }) })
    }

    /// The version that seals now.
    #[must_use]
    pub fn newest_version(&self) -> u16 {
        self.shared.newest
    }

    /// Seals `plain` for the place that `aad` names.
    ///
    /// # Errors
    /// `TooLong` for more than `SEALED_MOST - TAG_LENGTH` bytes, `NoEntropy`.
    pub fn seal(&self, entropy: &mut Entropy, aad: &[u8], plain: &[u8]) -> Result<Sealed, CryptoError> {
        let too_long = CryptoError::TooLong { length: plain.len() };
        let version = self.shared.newest;
        let key = self.key(version)?;
        let nonce = self.shared.run.lock().unwrap_or_else(PoisonError::into_inner).next(entropy)?;
        let mut sealed = Sealed { key_version: version, nonce, bytes: [0; SEALED_MOST], len: 0 };
        let (text, rest) = sealed.bytes.split_at_mut_checked(plain.len()).ok_or(too_long)?;
        let tag_place = rest.get_mut(..TAG_LENGTH).ok_or(too_long)?;
        text.copy_from_slice(plain);
        let tag = key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), text)
            .map_err(|_| too_long)?;
        tag_place.copy_from_slice(tag.as_ref());
        sealed.len = u8::try_from(plain.len() + TAG_LENGTH).map_err(|_| too_long)?;
        Ok(sealed)
    }

    /// Opens an envelope. What comes out is wiped when dropped.
    ///
    /// # Errors
    /// `UnknownKeyVersion`, or `NotAuthentic` when envelope or `aad` is not what was sealed.
    pub fn open(&self, aad: &[u8], sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let mut buffer = Zeroizing::new(sealed.ciphertext_and_tag().to_vec());
        let length = self.open_into(sealed.key_version, &sealed.nonce, aad, &mut buffer)?.len();
        buffer.truncate(length);
        Ok(buffer)
    }

    /// Opens ciphertext and tag where they stand and gives the part that is now clear: no allocation, one look at
    /// a short list. The caller wipes `in_out` when done with it.
    ///
    /// # Errors
    /// As `open`; `in_out` then holds nothing of use.
    pub fn open_into<'a>(
        &self,
        version: u16,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        in_out: &'a mut [u8],
    ) -> Result<&'a mut [u8], CryptoError> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let key = self.key(version)?;
        key.open_in_place(nonce, Aad::from(aad), in_out).map_err(|_| CryptoError::NotAuthentic)
    }

    fn key(&self, version: u16) -> Result<&LessSafeKey, CryptoError> {
        let found = self.shared.keys.iter().rev().find(|(loaded, _)| *loaded == version);
        found.map(|(_, key)| key).ok_or(CryptoError::UnknownKeyVersion { version })
    }
}

impl fmt::Debug for DataSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataSealer(newest version {})", self.shared.newest)
    }
}

/// ring's handle for AES-256-GCM; `None` unless there are 32 bytes.
pub(super) fn ring_key(material: &[u8]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, material).ok().map(LessSafeKey::new)
}

#[cfg(test)]
mod tests {
    use aes_gcm::Aes256Gcm;
    use aes_gcm::aead::{Aead, KeyInit, Payload};
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::key::KeyLabel;
    use crate::stdx::maps::Set;
    use crate::stdx::secret::Secret;

    fn data_key(version: u16, byte: u8) -> Key {
        let label = KeyLabel::parse("vault-data").unwrap();
        Key::new(label, KeyUsage::DataSealing, version, Secret::new(vec![byte; 32])).unwrap()
    }

    fn sealer(keys: &[Key]) -> DataSealer {
        DataSealer::new(keys.iter()).unwrap()
    }

    proptest! {
        #[test]
        fn ring_and_aes_gcm_agree(
            key in any::<[u8; 32]>(),
            aad in proptest::collection::vec(any::<u8>(), 0..80),
            plain in proptest::collection::vec(any::<u8>(), 0..=SEALED_MOST - TAG_LENGTH),
            seed in any::<u64>(),
        ) {
            let label = KeyLabel::parse("vault-data").unwrap();
            let ours = sealer(&[Key::new(label, KeyUsage::DataSealing, 1, Secret::new(key.to_vec())).unwrap()]);
            let oracle = Aes256Gcm::new(&key.into());
            let sealed = ours.seal(&mut Entropy::seeded(seed), &aad, &plain).unwrap();
            let payload = Payload { msg: sealed.ciphertext_and_tag(), aad: &aad };
            prop_assert_eq!(oracle.decrypt(&(*sealed.nonce()).into(), payload).unwrap(), plain.clone());
            let theirs = oracle.encrypt(&[7; 12].into(), Payload { msg: &plain, aad: &aad }).unwrap();
            let theirs = Sealed::from_parts(1, [7; 12], &theirs).unwrap();
            prop_assert_eq!(&**ours.open(&aad, &theirs).unwrap(), &plain[..]);
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let sealer = sealer(&[data_key(1, 1)]);
        let (aad, plain) = (b"vault 1", b"4761739001010119");
        let good = sealer.seal(&mut Entropy::seeded(1), aad, plain).unwrap().to_bytes();
        assert_eq!(**sealer.open(aad, &Sealed::from_bytes(&good).unwrap()).unwrap(), *plain);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let opened = Sealed::from_bytes(&bad).and_then(|sealed| sealer.open(aad, &sealed));
            assert!(opened.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn an_envelope_opens_only_in_its_own_place() {
        let sealer = sealer(&[data_key(1, 1)]);
        let mut entropy = Entropy::seeded(1);
        let one = sealer.seal(&mut entropy, b"record 1", b"4761739001010119").unwrap();
        let two = sealer.seal(&mut entropy, b"record 2", b"4761739001010218").unwrap();
        for (aad, sealed, opens) in [
            (&b"record 1"[..], &one, true),
            (b"record 2", &two, true),
            (b"record 1", &two, false),
            (b"record 2", &one, false),
            (b"record 1 ", &one, false),
            (b"", &one, false),
        ] {
            assert_eq!(sealer.open(aad, sealed).is_ok(), opens, "{aad:?}");
        }
    }

    #[test]
    fn the_newest_version_seals_and_every_version_opens() {
        let old = sealer(&[data_key(1, 1)]);
        let new = sealer(&[data_key(2, 2), data_key(1, 1)]);
        let mut entropy = Entropy::seeded(1);
        let by_old = old.seal(&mut entropy, b"a", b"x").unwrap();
        let by_new = new.seal(&mut entropy, b"a", b"x").unwrap();
        assert_eq!((by_old.key_version(), by_new.key_version(), new.newest_version()), (1, 2, 2));
        assert!(new.open(b"a", &by_old).is_ok());
        assert_eq!(old.open(b"a", &by_new).err(), Some(CryptoError::UnknownKeyVersion { version: 2 }));
        let renamed = Sealed::from_parts(1, *by_new.nonce(), by_new.ciphertext_and_tag()).unwrap();
        assert_eq!(new.open(b"a", &renamed).err(), Some(CryptoError::NotAuthentic));
    }

    #[test]
    fn opening_in_place_gives_the_clear_part() {
        let sealer = sealer(&[data_key(1, 1)]);
        let sealed = sealer.seal(&mut Entropy::seeded(1), b"a", b"clear").unwrap();
        let mut buffer = [0; SEALED_MOST];
        let slot = &mut buffer[..sealed.ciphertext_and_tag().len()];
        slot.copy_from_slice(sealed.ciphertext_and_tag());
        let opened = sealer.open_into(sealed.key_version(), sealed.nonce(), b"a", slot).unwrap();
        assert_eq!(opened, b"clear");
    }

    #[test]
    fn nonces_never_repeat_over_clones_and_runs() {
        let first = sealer(&[data_key(1, 1)]);
        let twin = first.clone();
        let mut entropy = Entropy::seeded(1);
        let mut seen = Set::default();
        for round in 0..2_000 {
            if round == 1_000 {
                // The last of a run, and the first of the next.
                first.shared.run.lock().unwrap().counter = u32::MAX - 5;
            }
            for sealer in [&first, &twin] {
                let sealed = sealer.seal(&mut entropy, b"", b"").unwrap();
                assert!(seen.insert(*sealed.nonce()), "round {round}");
            }
        }
        let runs: Set<&[u8]> = seen.iter().map(|nonce| &nonce[..8]).collect();
        assert_eq!(runs.len(), 2);
    }

    #[test]
    fn sizes_are_bounded_both_ways() {
        let sealer = sealer(&[data_key(1, 1)]);
        let mut entropy = Entropy::seeded(1);
        for (length, fits) in [(0, true), (47, true), (48, true), (49, false), (64, false), (200, false)] {
            let sealed = sealer.seal(&mut entropy, b"a", &vec![9; length]);
            assert_eq!(sealed.is_ok(), fits, "{length}");
            let Ok(sealed) = sealed else { continue };
            assert_eq!(Sealed::from_bytes(&sealed.to_bytes()), Ok(sealed));
        }
        let whole = sealer.seal(&mut entropy, b"a", b"x").unwrap().to_bytes();
        for cut in 0..whole.len() {
            assert_eq!(Sealed::from_bytes(&whole[..cut]), Err(CryptoError::NotSealed), "{cut}");
        }
        let followed = [&whole[..], b"next"].concat();
        assert_eq!(Sealed::from_bytes(&followed), Err(CryptoError::NotSealed));
        assert_eq!(Sealed::decode(&followed).unwrap().1, b"next");
    }

    #[test]
    fn an_envelope_shows_nothing_when_printed() {
        let sealed = Sealed::from_parts(1, [0xAB; 12], &[0xCD; 20]).unwrap();
        assert_eq!(format!("{sealed:?}"), "Sealed(key version 1, 20 bytes)");
    }
}
