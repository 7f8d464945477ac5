//! `CredentialDigest`: all that is kept of a credential for the API.

use crate::crypto::{credential_digest, same};

/// SHA-256 of a credential. The credential itself is nowhere kept.
#[derive(Clone, Copy)]
pub struct CredentialDigest(pub [u8; 32]);

impl CredentialDigest {
    /// Of what a caller shows.
    #[must_use]
    pub fn of(credential: &[u8]) -> Self {
        Self(credential_digest(credential))
    }
}

/// In constant time: how long it takes tells nothing of what is kept.
impl PartialEq for CredentialDigest {
    fn eq(&self, other: &Self) -> bool {
        same(&self.0, &other.0)
    }
}

impl Eq for CredentialDigest {}

impl std::fmt::Debug for CredentialDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CredentialDigest")
    }
}
