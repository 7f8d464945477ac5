//! `BlindIndexer`: a keyed hash of a PAN, so that equal PANs are found without holding any. Keyed because PANs are
//! few enough to try them all (PCI DSS 3.5.1.1).

use std::fmt;

use ring::hmac;

use super::key::Key;
use crate::vocab::Pan;

/// Makes blind indexes: HMAC-SHA-256 of the digits, cut to 128 bits. Clones share one key.
#[derive(Clone)]
pub struct BlindIndexer {
    key: hmac::Key,
}

impl BlindIndexer {
    pub(super) fn new(key: &Key) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key.material()) }
    }

    /// The index of a PAN: the same for the same digits, and nothing else can be told from it.
    #[must_use]
    pub fn index(&self, pan: &Pan) -> [u8; 16] {
        let tag = hmac::sign(&self.key, pan.expose_digits());
        let mut index = [0; 16];
        index.iter_mut().zip(tag.as_ref()).for_each(|(place, byte)| *place = *byte);
        index
    }

    /// A mark of something that is no PAN, named by its first part: the same for the same parts, which must not
    /// be mistaken for one another where they meet.
    #[must_use]
    pub fn mark(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut context = hmac::Context::with_key(&self.key);
        parts.iter().for_each(|part| context.update(part));
        let mut mark = [0; 16];
        mark.iter_mut().zip(context.sign().as_ref()).for_each(|(place, byte)| *place = *byte);
        mark
    }
}

impl fmt::Debug for BlindIndexer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlindIndexer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::key::{KeyLabel, KeyUsage};
    use crate::stdx::secret::Secret;

    fn indexer(byte: u8) -> BlindIndexer {
        let label = KeyLabel::parse("vault-index").unwrap();
        BlindIndexer::new(&Key::new(label, KeyUsage::BlindIndex, 1, Secret::new(vec![byte; 32])).unwrap())
    }

    #[test]
    fn it_is_hmac_sha256_cut_short() {
        let pan = Pan::parse(b"4761739001010119").unwrap();
        // Python: hmac.digest(b"\x0b" * 32, b"4761739001010119", "sha256")[:16].
        assert_eq!(hex::encode(indexer(0x0B).index(&pan)), "17a57325ccd40ab38e336cfd8c42c7d7");
    }

    #[test]
    fn equal_pans_and_only_these_have_equal_indexes() {
        let (a, b) = (Pan::parse(b"4761739001010119").unwrap(), Pan::parse(b"4761739001010218").unwrap());
        assert_eq!(indexer(1).index(&a), indexer(1).clone().index(&a.clone()));
        assert_ne!(indexer(1).index(&a), indexer(1).index(&b));
        assert_ne!(indexer(1).index(&a), indexer(2).index(&a), "the key counts");
    }
}
