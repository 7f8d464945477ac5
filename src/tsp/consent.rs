//! Consents (EMVCo 8.1.1.2, token request authorisation): a requestor lets another one have a token made for the card
//! behind one of its own tokens, once and soon. One at a time is good of a token: another one takes its place.

use std::collections::BTreeMap;
use std::fmt;

use crate::crypto::same;
use crate::journal::{CheckpointError, Pending};
use crate::stdx::clock::{Now, Wall};
use crate::stdx::random::Entropy;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{TokenReferenceId, TokenRequestorId, WordError, WordFault, YearMonth};

use super::command::{Answer, Asker, Told};
use super::error::ProvisioningRefusal;
use super::event::{Cause, Change, TokenEvent};
use super::layout::{put_consent, take_consent};
use super::moves::good;
use super::tsp::{Decision, Tsp};
use super::wire::{Reader, Writer};

/// What a consent is presented by: 16 random bytes, 32 lower-case hexadecimal digits outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConsentId(pub(super) [u8; 16]);

impl ConsentId {
    /// Takes 32 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// `OutOfRange`.
    pub fn parse(text: &[u8]) -> Result<Self, WordError> {
        let mut id = [0; 16];
        let is_lower = !text.iter().any(u8::is_ascii_uppercase);
        let read = hex::decode_to_slice(text, &mut id).is_ok();
        let wrong = WordError { word: "consent", fault: WordFault::OutOfRange };
        (is_lower && read).then_some(Self(id)).ok_or(wrong)
    }
}

impl fmt::Display for ConsentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A consent as its event says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consent {
    /// Of the token for whose card it is.
    pub record: u64,
    pub id: ConsentId,
    /// Who may present it.
    pub to: TokenRequestorId,
    /// From when on it is good no more.
    pub until: Wall,
}

/// A requestor consents.
#[derive(Debug, Clone, Copy)]
pub struct ConsentRequest {
    pub asker: Asker,
    pub reference: TokenReferenceId,
    pub to: TokenRequestorId,
}

/// What it is told, to pass on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsentView {
    pub reference: TokenReferenceId,
    pub id: ConsentId,
    pub to: TokenRequestorId,
    pub until: Wall,
}

/// Consents that were not used, by the tokens' records.
#[derive(Debug, Default)]
pub(super) struct Consents {
    unused: BTreeMap<u64, Consent>,
}

impl Consents {
    pub(super) fn put(&mut self, consent: Consent) {
        self.unused.insert(consent.record, consent);
    }

    pub(super) fn len(&self) -> usize {
        self.unused.len()
    }

    /// Takes in what an event means: one was given, or presented. Given at `at`, it drives out those whose time was
    /// over, once there are `most`.
    pub(super) fn note(&mut self, event: &TokenEvent, most: usize, at: Wall) {
        if let (Some(record), Some(presented)) = (event.cause.source, event.cause.consent)
            && self.unused.get(&record).is_some_and(|consent| consent.id == presented)
            && !sabotaged("consent-used-twice")
        {
            self.unused.remove(&record);
        }
        if let Change::Consented(consent) = &event.change {
            if self.unused.len() >= most {
                self.unused.retain(|_, consent| consent.until > at);
            }
            self.put(**consent);
        }
    }
}

/// In the checkpoint, by record number: consents that were not used.
pub(super) const CONSENTS: &str = "token-consent";

/// As `Consents::note`, except that those whose time is over stay until another takes their place.
pub(super) fn fold_consent(event: &TokenEvent, changes: &mut Pending<'_>) -> Result<(), CheckpointError> {
    if let (Some(record), Some(presented)) = (event.cause.source, event.cause.consent) {
        let given = changes.get(CONSENTS, &record.to_be_bytes())?;
        if given
            .and_then(|given| take_consent(&mut Reader::here(&given)))
            .is_some_and(|it| it.id == presented)
            && !sabotaged("used-consent-comes-back")
        {
            changes.remove(CONSENTS, &record.to_be_bytes())?;
        }
    }
    if let Change::Consented(consent) = &event.change {
        let mut out = Writer(Vec::new());
        put_consent(&mut out, consent);
        changes.put(CONSENTS, &consent.record.to_be_bytes(), out.0)?;
    }
    Ok(())
}

impl ConsentRequest {
    fn cause(&self) -> Cause {
        let mut said = vec![10];
        said.extend_from_slice(&self.reference.to_bytes());
        said.extend_from_slice(self.to.as_bytes());
        self.asker.cause(&said)
    }
}

impl Tsp {
    /// Whether a requestor may consent: for a token of its own that is good, to a requestor that is known.
    pub(super) fn decide_consent(
        &self,
        request: &ConsentRequest,
        now: Now,
        entropy: &mut Entropy,
    ) -> Result<Decision, ProvisioningRefusal> {
        let (cause, today) = (request.cause(), YearMonth::of(now.wall));
        if let Some(decided) = self.repeated(&cause, today)? {
            return Ok(decided);
        }
        let found = self.to_be_changed(cause.principal, request.reference, None)?;
        good(&found, today)?;
        self.requestors.get(request.to).ok_or(ProvisioningRefusal::UnknownRequestor)?;
        let unused = &self.consents.unused;
        let live = || unused.values().filter(|consent| consent.until > now.wall).count();
        let (most, replaces) = (self.config.limits.consents, unused.contains_key(&found.record));
        if !replaces && unused.len() >= most && live() >= most {
            return Err(ProvisioningRefusal::Overloaded);
        }
        let id = ConsentId(entropy.bytes().map_err(|_| ProvisioningRefusal::Unavailable)?);
        let until = now.wall.plus(self.config.consent_lifetime);
        let consent = Consent { record: found.record, id, to: request.to, until };
        let cause = Cause { requestor: Some(found.requestor), ..cause };
        Ok(Decision::New(Box::new(TokenEvent { cause, change: Change::Consented(Box::new(consent)) })))
    }

    /// Whether this requestor may have a token made for the card behind that record by what it presents: given for
    /// both, in time, and not presented before, nor by a request that is being worked on.
    pub(super) fn is_consented(
        &self,
        record: u64,
        asking: TokenRequestorId,
        presented: ConsentId,
        now: Now,
    ) -> bool {
        let given = self.consents.unused.get(&record).filter(|given| given.to == asking);
        let fits = given.is_some_and(|given| same(&given.id.0, &presented.0) && now.wall < given.until);
        let uses = |cause: &Cause| cause.consent == Some(presented);
        let in_use = self.events_ahead().any(|event| uses(&event.cause))
            || self.asked_for.values().any(|asked| uses(asked.cause()));
        fits && !in_use
    }

    /// What is told of a consent.
    pub(super) fn consent(&self, given: &Consent) -> Answer {
        let record = self.table.record(given.record).ok_or(ProvisioningRefusal::Unavailable)?;
        let Consent { id, to, until, .. } = *given;
        Ok(Told::Consent(Box::new(ConsentView { reference: record.reference, id, to, until })))
    }
}
