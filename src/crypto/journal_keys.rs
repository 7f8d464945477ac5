//! `JournalKeys`: for each journal segment a key of its own that seals entries, and one that chains blocks.

use std::fmt;

use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use super::aead::{TAG_LENGTH, ring_key};
use super::error::CryptoError;
use super::key::{Key, KeyUsage};

/// The journal key. Clones share it.
#[derive(Clone)]
pub struct JournalKeys {
    root: hkdf::Prk,
}

impl JournalKeys {
    pub(super) fn new(key: &Key) -> Self {
        // The key is uniform already; extraction with a fixed salt only keeps to RFC 5869.
        Self { root: hkdf::Salt::new(hkdf::HKDF_SHA256, b"tokenswitch journal").extract(key.material()) }
    }

    /// The keys of one segment: HKDF-SHA-256 over segment id and stream (which journal, and which life of it).
    ///
    /// # Errors
    /// `KeyMissing`; never for a stream shorter than a few kilobytes.
    pub fn segment(&self, stream: &[u8], segment_id: u64) -> Result<SegmentKey, CryptoError> {
        let seal = ring_key(&*self.derive(b"seal", stream, segment_id)?);
        let chain = hmac::Key::new(hmac::HMAC_SHA256, &*self.derive(b"chain", stream, segment_id)?);
        let seal = seal.ok_or(CryptoError::KeyMissing { usage: KeyUsage::Journal })?;
        Ok(SegmentKey { seal, chain })
    }

    fn derive(
        &self,
        part: &[u8],
        stream: &[u8],
        segment_id: u64,
    ) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
        let missing = |_| CryptoError::KeyMissing { usage: KeyUsage::Journal };
        let segment = segment_id.to_be_bytes();
        // Fixed lengths first, the stream last: no two inputs run together to the same bytes.
        let info = [part, &[0], &segment, stream];
        let mut key = Zeroizing::new([0; 32]);
        let output = self.root.expand(&info, hkdf::HKDF_SHA256).map_err(missing)?;
        output.fill(key.as_mut()).map_err(missing)?;
        Ok(key)
    }
}

impl fmt::Debug for JournalKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JournalKeys")
    }
}

/// The keys of one segment.
pub struct SegmentKey {
    seal: LessSafeKey,
    chain: hmac::Key,
}

impl SegmentKey {
    /// Seals `buffer` from `from` to its end, in place, and appends the tag. The nonce is the entry number: the
    /// caller never seals two entries under one number in one segment.
    ///
    /// # Errors
    /// `TooLong` when `from` lies past the end, or for more bytes than AES-GCM takes.
    pub fn seal(
        &self,
        entry_number: u64,
        aad: &[u8],
        buffer: &mut Vec<u8>,
        from: usize,
    ) -> Result<(), CryptoError> {
        let too_long = CryptoError::TooLong { length: buffer.len() };
        let text = buffer.get_mut(from..).ok_or(too_long)?;
        let tag = self
            .seal
            .seal_in_place_separate_tag(nonce(entry_number), Aad::from(aad), text)
            .map_err(|_| too_long)?;
        buffer.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens what `seal` wrote, in place, and gives the clear part.
    ///
    /// # Errors
    /// `NotAuthentic` when text, tag, entry number, segment or `aad` is not what was sealed.
    pub fn open<'a>(
        &self,
        entry_number: u64,
        aad: &[u8],
        in_out: &'a mut [u8],
    ) -> Result<&'a mut [u8], CryptoError> {
        let opened = self.seal.open_in_place(nonce(entry_number), Aad::from(aad), in_out);
        opened.map_err(|_| CryptoError::NotAuthentic)
    }

    /// The chain over a block: HMAC-SHA-256 of the previous block's chain value and this block's bytes, given in
    /// as many pieces as they come in.
    #[must_use]
    pub fn chain(&self, previous: &[u8; 32], block: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.chain);
        context.update(previous);
        block.iter().for_each(|piece| context.update(piece));
        let mut out = [0; 32];
        out.iter_mut().zip(context.sign().as_ref()).for_each(|(place, byte)| *place = *byte);
        out
    }

    /// How much longer a sealed entry is than its text, in bytes.
    pub const OVERHEAD: usize = TAG_LENGTH;
}

impl fmt::Debug for SegmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SegmentKey")
    }
}

fn nonce(entry_number: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce.iter_mut().skip(4).zip(entry_number.to_be_bytes()).for_each(|(place, byte)| *place = byte);
    Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests {
    use aes_gcm::Aes256Gcm;
    use aes_gcm::aead::{Aead, KeyInit, Payload};

    use super::*;
    use crate::crypto::key::KeyLabel;
    use crate::stdx::secret::Secret;

    fn keys(byte: u8) -> JournalKeys {
        let label = KeyLabel::parse("journal").unwrap();
        JournalKeys::new(&Key::new(label, KeyUsage::Journal, 1, Secret::new(vec![byte; 32])).unwrap())
    }

    fn sealed(key: &SegmentKey, number: u64, aad: &[u8], text: &[u8]) -> Vec<u8> {
        let mut buffer = [b"head", text].concat();
        key.seal(number, aad, &mut buffer, 4).unwrap();
        assert_eq!(&buffer[..4], b"head");
        buffer.split_off(4)
    }

    #[test]
    fn an_entry_opens_only_as_what_it_was_sealed() {
        let key = keys(1).segment(b"main", 7).unwrap();
        let entry = sealed(&key, 42, b"aad", b"entry text");
        assert_eq!(entry.len(), 10 + SegmentKey::OVERHEAD);
        let opens = |key: &SegmentKey, number, aad: &[u8], bytes: &[u8]| {
            key.open(number, aad, &mut bytes.to_vec()).is_ok_and(|clear| clear == b"entry text")
        };
        assert!(opens(&key, 42, b"aad", &entry));
        assert!(!opens(&key, 43, b"aad", &entry), "another entry number");
        assert!(!opens(&key, 42, b"add", &entry), "other associated data");
        assert!(!opens(&keys(1).segment(b"main", 8).unwrap(), 42, b"aad", &entry), "another segment");
        assert!(!opens(&keys(1).segment(b"mainx", 7).unwrap(), 42, b"aad", &entry), "another stream");
        assert!(!opens(&keys(2).segment(b"main", 7).unwrap(), 42, b"aad", &entry), "another key");
        assert!(!opens(&key, 42, b"aad", &entry[..entry.len() - 1]), "cut");
        assert!(!opens(&key, 42, b"aad", &[]), "empty");
        for bit in 0..entry.len() * 8 {
            let mut bad = entry.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!opens(&key, 42, b"aad", &bad), "bit {bit}");
        }
    }

    #[test]
    fn python_derives_the_same_keys() {
        let entry = sealed(&keys(0x0B).segment(b"main", 7).unwrap(), 42, b"aad", b"entry text");
        // PyPI's `cryptography`: HKDF(SHA256, 32, salt=b"tokenswitch journal", info=b"seal\0" + id + b"main").
        let mut derived = [0; 32];
        hex::decode_to_slice(
            "664315ef3cc3fc84e251209b75cc6035bef778477e709c28c74e08eaa2b091f4",
            &mut derived,
        )
        .unwrap();
        let nonce = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 42];
        let payload = Payload { msg: &entry, aad: b"aad" };
        assert_eq!(Aes256Gcm::new(&derived.into()).decrypt(&nonce.into(), payload).unwrap(), b"entry text");
    }

    #[test]
    fn the_chain_is_over_bytes_and_not_over_pieces() {
        let key = keys(1).segment(b"main", 7).unwrap();
        let start = [0; 32];
        let whole = key.chain(&start, &[b"abcdef"]);
        assert_eq!(whole, key.chain(&start, &[b"ab", b"", b"cdef"]));
        assert_ne!(whole, key.chain(&start, &[b"abcdeg"]));
        assert_ne!(whole, key.chain(&[1; 32], &[b"abcdef"]), "what came before counts");
        assert_ne!(whole, keys(1).segment(b"main", 8).unwrap().chain(&start, &[b"abcdef"]));
    }

    #[test]
    fn a_start_past_the_end_is_refused() {
        let key = keys(1).segment(b"main", 7).unwrap();
        assert!(key.seal(1, b"", &mut vec![0; 3], 4).is_err());
    }
}
