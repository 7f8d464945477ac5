//! `ReceiverKeys`: a key for each receiver of notifications, by which it knows that they come from here and were not
//! altered.

use std::fmt;

use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use super::error::CryptoError;
use super::key::{Key, KeyUsage};
use crate::stdx::secret::Secret;

/// Derives receivers' keys. Clones share one root.
#[derive(Clone)]
pub struct ReceiverKeys {
    root: hkdf::Prk,
}

impl ReceiverKeys {
    /// From the blind index's key, which never changes: a receiver's key must not either. Extraction under a salt of
    /// its own keeps the two uses apart (RFC 5869, 3.1).
    pub(super) fn new(key: &Key) -> Self {
        Self {
            root: hkdf::Salt::new(hkdf::HKDF_SHA256, b"tokenswitch notifications").extract(key.material()),
        }
    }

    /// What a receiver of this name is given, to check signatures with: 32 bytes.
    ///
    /// # Errors
    /// `KeyMissing`; never for a name shorter than a few kilobytes.
    pub fn secret(&self, receiver: &str) -> Result<Secret<Vec<u8>>, CryptoError> {
        derived(&self.root, receiver.as_bytes()).map(|key| Secret::new(key.to_vec()))
    }

    /// The key by which that receiver's notifications are signed.
    ///
    /// # Errors
    /// As `secret`.
    pub fn key(&self, receiver: &str) -> Result<ReceiverKey, CryptoError> {
        let secret = self.secret(receiver)?;
        Ok(ReceiverKey(hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret())))
    }
}

impl fmt::Debug for ReceiverKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReceiverKeys")
    }
}

/// 32 bytes from a root under a name (RFC 5869, 2.3).
pub(super) fn derived(root: &hkdf::Prk, name: &[u8]) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
    let missing = |_| CryptoError::KeyMissing { usage: KeyUsage::BlindIndex };
    let mut key = Zeroizing::new([0; 32]);
    let info = [name];
    let output = root.expand(&info, hkdf::HKDF_SHA256).map_err(missing)?;
    output.fill(key.as_mut()).map_err(missing)?;
    Ok(key)
}

/// One receiver's key.
#[derive(Clone)]
pub struct ReceiverKey(hmac::Key);

impl ReceiverKey {
    /// HMAC-SHA-256 over the parts, one after the other.
    #[must_use]
    pub fn sign(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        parts.iter().for_each(|part| context.update(part));
        let mut signature = [0; 32];
        signature.iter_mut().zip(context.sign().as_ref()).for_each(|(place, byte)| *place = *byte);
        signature
    }
}

impl fmt::Debug for ReceiverKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReceiverKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::key::KeyLabel;

    fn keys() -> ReceiverKeys {
        let label = KeyLabel::parse("vault-index").unwrap();
        let key = Key::new(label, KeyUsage::BlindIndex, 1, Secret::new(vec![0x0B; 32])).unwrap();
        ReceiverKeys::new(&key)
    }

    #[test]
    fn a_receiver_checks_with_what_it_was_given() {
        let key = keys().key("00000000001").unwrap();
        let secret = keys().secret("00000000001").unwrap();
        let theirs = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret());
        assert!(hmac::verify(&theirs, b"1764000000.{}", &key.sign(&[b"1764000000", b".", b"{}"])).is_ok());
        assert_ne!(key.sign(&[b"a"]), keys().key("00000000002").unwrap().sign(&[b"a"]), "each has its own");
        // Python's `cryptography`: HKDF(SHA256, 32, salt=b"tokenswitch notifications", info=b"00000000001").
        assert_eq!(
            hex::encode(secret.expose_secret()),
            "7dd41f8f41128a612e309f1ae309354b46be8deba19b235a4f03d500f37025a0"
        );
    }
}
