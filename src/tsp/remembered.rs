//! What is remembered of a request that was decided: enough to give the very same answer again, and that answer.

use crate::stdx::clock::Wall;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{Expiry, TokenAssuranceMethod, TokenRequestorId, YearMonth};

use super::command::{Answer, Told};
use super::consent::Consent;
use super::error::ProvisioningRefusal;
use super::event::{Cause, Change, Disclosure};
use super::given_keys::NamedKey;
use super::lifecycle::Lifecycle;
use super::record::VaultRecord;
use super::remote::MadeCryptogram;
use super::tsp::{Decision, Tsp};

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
    /// A card's number: opened again when it is asked for, as long after `at` as it may be.
    Disclosed {
        disclosure: Disclosure,
        /// When it was told first; older versions did not remember it, which is as long ago as can be.
        at: Wall,
    },
    /// Made again when it is asked for.
    Cryptogram(MadeCryptogram),
    Consent(Consent),
    /// Derived again when it is asked for.
    Key(NamedKey),
    /// As it is now: its version says whether it is the one of then.
    Requestor(TokenRequestorId),
}

impl Recalled {
    /// What is told of a change at `at`; `left` is the record of the one token that it is about, as it is after it.
    pub(super) fn of(change: &Change, left: Option<&VaultRecord>, at: Wall) -> Option<Self> {
        match change {
            Change::Card(change) => {
                Some(Self::Card { changed: u32::try_from(change.tokens.len()).unwrap_or(u32::MAX) })
            }
            Change::Declined(_) | Change::DisclosureRefused(_) | Change::CodeWrong { .. } => {
                change.refusal().map(Self::Refused)
            }
            Change::Notified { .. } => None,
            Change::Issued(_)
            | Change::Moved { .. }
            | Change::Updated { .. }
            | Change::Controlled { .. }
            | Change::IssuedForProof { .. }
            | Change::CodeSent { .. }
            | Change::Proven { .. } => left.map(Self::token),
            Change::Disclosed(disclosure) | Change::DisclosedAgain(disclosure) => {
                Some(Self::Disclosed { disclosure: *disclosure, at })
            }
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

impl Tsp {
    /// The answer to a request that came before; none for a new one.
    pub(super) fn repeated(
        &self,
        cause: &Cause,
        today: YearMonth,
    ) -> Result<Option<Decision>, ProvisioningRefusal> {
        let before = self.came_before(cause)?;
        before.map(|told| self.recall(told, today).map(Decision::Told)).transpose()
    }

    /// Whether anything is decided now, and no request of this name is being worked on.
    pub(super) fn may_begin(&self, cause: &Cause) -> Result<(), ProvisioningRefusal> {
        if self.failed {
            return Err(ProvisioningRefusal::Unavailable);
        }
        let in_flight = self.ahead.requests.get(&cause.key());
        in_flight.map_or(Ok(()), |digest| {
            let same = *digest == cause.body_digest;
            Err(if same {
                ProvisioningRefusal::RequestInFlight
            } else {
                ProvisioningRefusal::RequestIdReused
            })
        })
    }

    /// What a request came to that came before, for those whose answer is not given to any repeat; none for a new one.
    pub(super) fn came_before(&self, cause: &Cause) -> Result<Option<Recalled>, ProvisioningRefusal> {
        self.may_begin(cause)?;
        match self.remembered.get(&cause.key()).filter(|_| !sabotaged("token-made-twice")) {
            None => Ok(None),
            Some(before) if before.body_digest != cause.body_digest => {
                Err(ProvisioningRefusal::RequestIdReused)
            }
            Some(before) => Ok(Some(before.told)),
        }
    }

    pub(super) fn recall(&self, told: Recalled, today: YearMonth) -> Answer {
        match told {
            Recalled::Token { record, lifecycle, changed_at, attributes } => {
                let mut then = self.table.record(record).ok_or(ProvisioningRefusal::Unavailable)?;
                (then.lifecycle, then.changed_at) = (lifecycle, changed_at);
                (then.expiry, then.assurance) = attributes.unwrap_or((then.expiry, then.assurance));
                Ok(Told::Token(self.view(&then, today)))
            }
            Recalled::Card { changed } => Ok(Told::Card { changed }),
            Recalled::Disclosed { disclosure, .. } => self.disclosed(&disclosure),
            Recalled::Cryptogram(made) => self.cryptogram(&made),
            Recalled::Consent(given) => self.consent(&given),
            Recalled::Key(key) => self.told_key(&key),
            Recalled::Refused(refusal) => Err(refusal),
            Recalled::Requestor(id) => {
                let found = self.requestors.registration(id).ok_or(ProvisioningRefusal::Unavailable)?;
                Ok(Told::Requestor(Box::new(found)))
            }
        }
    }
}
