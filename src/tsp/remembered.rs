//! What is remembered of a request that was decided: enough to give the very same answer again.

use crate::stdx::clock::Wall;
use crate::vocab::{Expiry, TokenAssuranceMethod, TokenRequestorId};

use super::consent::Consent;
use super::error::ProvisioningRefusal;
use super::event::{Change, Disclosure};
use super::given_keys::NamedKey;
use super::lifecycle::Lifecycle;
use super::record::VaultRecord;
use super::remote::MadeCryptogram;

/// What a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) body_digest: [u8; 32],
    pub(super) told: Recalled,
}

/// What was told then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recalled {
    Token {
        record: u64,
        lifecycle: Lifecycle,
        changed_at: Wall,
        /// None in what older versions remembered: as they are now.
        attributes: Option<(Expiry, TokenAssuranceMethod)>,
    },
    Card {
        changed: u32,
    },
    /// It was refused, and that changed something.
    Refused(ProvisioningRefusal),
    /// A card's number: opened again when it is asked for.
    Disclosed(Disclosure),
    /// Made again when it is asked for.
    Cryptogram(MadeCryptogram),
    Consent(Consent),
    /// Derived again when it is asked for.
    Key(NamedKey),
    /// As it is now: its version says whether it is the one of then.
    Requestor(TokenRequestorId),
}

impl Recalled {
    /// What is told of a change; `left` is the record of the one token that it is about, as it is after it.
    pub(super) fn of(change: &Change, left: Option<&VaultRecord>) -> Option<Self> {
        match change {
            Change::Card(change) => {
                Some(Self::Card { changed: u32::try_from(change.tokens.len()).unwrap_or(u32::MAX) })
            }
            Change::Declined | Change::CodeWrong { .. } => change.refusal().map(Self::Refused),
            Change::Notified { .. } => None,
            Change::Issued(_)
            | Change::Moved { .. }
            | Change::Updated { .. }
            | Change::Controlled { .. }
            | Change::IssuedForProof { .. }
            | Change::CodeSent { .. }
            | Change::Proven { .. } => left.map(Self::token),
            Change::Disclosed(disclosure) => Some(Self::Disclosed(*disclosure)),
            Change::CryptogramMade(made) => Some(Self::Cryptogram(**made)),
            Change::Consented(consent) => Some(Self::Consent(**consent)),
            Change::KeyGiven(given) => Some(Self::Key(given.key)),
            Change::Registered(registration) => Some(Self::Requestor(registration.requestor.id)),
        }
    }

    fn token(record: &VaultRecord) -> Self {
        Self::Token {
            record: record.record,
            lifecycle: record.lifecycle,
            changed_at: record.changed_at,
            attributes: Some((record.expiry, record.assurance)),
        }
    }
}
