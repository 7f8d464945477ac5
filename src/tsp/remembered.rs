//! What is remembered of a request that was decided: enough to give the very same answer again, and that answer.

use crate::crypto::Sealed;
use crate::stdx::clock::Wall;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{Digits, Expiry, Par, TokenAssuranceMethod, TokenRequestorId, YearMonth};

use super::command::{Answer, Told};
use super::consent::Consent;
use super::error::ProvisioningRefusal;
use super::event::{Cause, Change, Disclosure};
use super::given_keys::NamedKey;
use super::lifecycle::Lifecycle;
use super::record::VaultRecord;
use super::registry::Registration;
use super::remote::MadeCryptogram;
use super::token_view::{StepUpView, TokenView};
use super::tsp::{Decision, Tsp};

/// What a request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) body_digest: [u8; 32],
    pub(super) told: Recalled,
}

/// What was told then: whatever may be another one by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Recalled {
    Token {
        record: u64,
        lifecycle: Lifecycle,
        changed_at: Wall,
        /// None in what older versions remembered: as they are now.
        attributes: Option<(Expiry, TokenAssuranceMethod)>,
        /// As `attributes`.
        shown: Option<Shown>,
    },
    Card {
        changed: u32,
    },
    /// It was refused, and that changed something.
    Refused(ProvisioningRefusal),
    /// A card's number: opened again when it is asked for, as long after `at` as it may be.
    Disclosed {
        disclosure: Disclosure,
        /// The card's envelope of then, and the version that it is sealed to: another expiry date takes its place in
        /// the record. None in what older versions remembered: as it is now.
        card: Option<Box<(u32, Sealed)>>,
        /// The card's, as it was.
        par: Option<Par>,
        /// When it was told first; older versions did not remember all of this, which is as long ago as can be.
        at: Wall,
    },
    /// Made again when it is asked for, with the token's expiry of then; none in what older versions remembered: as it
    /// is now.
    Cryptogram(MadeCryptogram, Option<Expiry>),
    Consent(Consent),
    /// Derived again when it is asked for; the expiry as of a cryptogram.
    Key(NamedKey, Option<Expiry>),
    /// What was registered, the request says itself. With the version that this made, and when; none in what older
    /// versions remembered: all as it is now.
    Requestor(TokenRequestorId, Option<(u32, Wall)>),
}

/// What an event that was just applied is answered with.
pub(super) struct Applied {
    pub(super) told: Recalled,
    /// The one token that it is about, as it is after it.
    pub(super) left: Option<TokenView>,
}

impl Applied {
    pub(super) fn told(told: Recalled) -> Self {
        Self { told, left: None }
    }
}

/// What of a token was told besides where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) last4: Digits<4>,
    pub(super) par: Option<Par>,
    pub(super) expired: bool,
    pub(super) step_up: Option<Box<StepUpView>>,
}

impl Recalled {
    /// What is told of a change at `at`; `left` is the one token that it is about, as it is after it and as it is
    /// shown.
    pub(super) fn of(change: &Change, left: Option<(&VaultRecord, &TokenView)>, at: Wall) -> Option<Self> {
        let (record, left) = (left.map(|(record, _)| record), left.map(|(_, view)| view));
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
            | Change::Proven { .. } => left.zip(change.record()).map(Self::token),
            Change::Disclosed(disclosure) | Change::DisclosedAgain(disclosure) => {
                let card = record.and_then(|record| record.sealed_since(disclosure.mapping_version));
                let card = card.map(Box::new);
                left.map(|left| Self::Disclosed { disclosure: *disclosure, card, par: left.par, at })
            }
            Change::CryptogramMade(made) => left.map(|left| Self::Cryptogram(**made, Some(left.expiry))),
            Change::Consented(consent) => Some(Self::Consent(**consent)),
            Change::KeyGiven(given) => left.map(|left| Self::Key(given.key, Some(left.expiry))),
            Change::Registered(registration) => {
                let Registration { requestor, version, .. } = &**registration;
                Some(Self::Requestor(requestor.id, Some((*version, at))))
            }
        }
    }

    fn token((token, record): (&TokenView, u64)) -> Self {
        let TokenView { last4, par, expired, .. } = *token;
        Self::Token {
            record,
            lifecycle: token.lifecycle,
            changed_at: token.changed_at,
            attributes: Some((token.expiry, token.assurance)),
            shown: Some(Shown { last4, par, expired, step_up: token.step_up.map(Box::new) }),
        }
    }
}

impl Shown {
    /// A token as it was told.
    fn of(self, token: TokenView) -> TokenView {
        let Self { last4, par, expired, step_up } = self;
        TokenView { last4, par, expired, step_up: step_up.map(|step_up| *step_up), ..token }
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
            Some(before) => Ok(Some(before.told.clone())),
        }
    }

    pub(super) fn recall(&self, told: Recalled, today: YearMonth) -> Answer {
        match told {
            Recalled::Token { record, lifecycle, changed_at, attributes, shown } => {
                let mut then = self.table.record(record).ok_or(ProvisioningRefusal::Unavailable)?;
                (then.lifecycle, then.changed_at) = (lifecycle, changed_at);
                (then.expiry, then.assurance) = attributes.unwrap_or((then.expiry, then.assurance));
                let token = self.view(&then, today);
                Ok(Told::Token(shown.map_or(token, |shown| shown.of(token))))
            }
            Recalled::Card { changed } => Ok(Told::Card { changed }),
            Recalled::Disclosed { disclosure, card, par, .. } => {
                self.disclosed(&disclosure, card.as_deref(), par)
            }
            Recalled::Cryptogram(made, expiry) => self.cryptogram(&made, expiry),
            Recalled::Consent(given) => self.consent(&given),
            Recalled::Key(key, expiry) => self.told_key(&key, expiry),
            Recalled::Refused(refusal) => Err(refusal),
            Recalled::Requestor(id, _) => {
                let found = self.requestors.registration(id).ok_or(ProvisioningRefusal::Unavailable)?;
                Ok(Told::Requestor(Box::new(found)))
            }
        }
    }
}
