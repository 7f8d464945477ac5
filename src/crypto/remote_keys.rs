//! `RemoteKeys`: signs and checks cryptograms that the token service provider makes for one payment.

use std::fmt;

use ring::{hkdf, hmac};
use subtle::ConstantTimeEq;

use super::error::CryptoError;
use super::key::Key;
use super::receiver_keys::derived;

/// The key of remote cryptograms. Clones share it.
#[derive(Clone)]
pub struct RemoteKeys {
    key: hmac::Key,
}

impl RemoteKeys {
    /// From the blind index's key, as receivers' keys, under a salt of its own (RFC 5869, 3.1).
    ///
    /// # Errors
    /// `KeyMissing`; never.
    pub(super) fn new(key: &Key) -> Result<Self, CryptoError> {
        let root =
            hkdf::Salt::new(hkdf::HKDF_SHA256, b"tokenswitch remote cryptograms").extract(key.material());
        let clear = derived(&root, b"version 1")?;
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &*clear) })
    }

    /// The first 8 bytes of HMAC-SHA-256 over the parts, each with its length in front, so that what one part ends with
    /// is never what the next one begins with. They are checked here only, each try against a payment that is counted.
    #[must_use]
    pub fn sign(&self, parts: &[&[u8]]) -> [u8; 8] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        let mut mac = [0; 8];
        mac.iter_mut().zip(context.sign().as_ref()).for_each(|(place, byte)| *place = *byte);
        mac
    }

    /// Whether it is the MAC of these parts, in time that does not tell how much of it is.
    #[must_use]
    pub fn verify(&self, parts: &[&[u8]], mac: [u8; 8]) -> bool {
        self.sign(parts).ct_eq(&mac).into()
    }
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RemoteKeys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::key::{KeyLabel, KeyUsage};
    use crate::stdx::secret::Secret;

    #[test]
    fn parts_are_told_apart_and_signed_as_elsewhere() {
        let label = KeyLabel::parse("vault-index").unwrap();
        let key = Key::new(label, KeyUsage::BlindIndex, 1, Secret::new(vec![0x0B; 32])).unwrap();
        let keys = RemoteKeys::new(&key).unwrap();
        let mac = keys.sign(&[b"ab", b"c"]);
        // Python's `cryptography`: HKDF(SHA256, 32, salt=b"tokenswitch remote cryptograms", info=b"version 1"), then
        // HMAC-SHA-256 over 00..02 "ab" 00..01 "c".
        assert_eq!(hex::encode(mac), "efc92b3a7f162622");
        assert!(keys.verify(&[b"ab", b"c"], mac));
        for other in [[&b"a"[..], b"bc"], [b"abc", b""], [b"ab", b"d"]] {
            assert!(!keys.verify(&other, mac));
        }
    }
}
