//! Detokenization without verification (EMVCo 8.3): the card's number told outside of any payment, to one who was
//! granted that by name, of a token whose requestor allows it so often a day. It says for what, and that stays in the
//! journal.

use std::time::Duration;

use crate::crypto::Sealed;
use crate::stdx::clock::{Now, Wall};
use crate::stdx::maps::Map;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{Expiry, Pan, PanSequenceNumber, Par, Token, TokenReferenceId, TokenRequestorId};

use super::command::{Answer, Asker, Told};
use super::error::ProvisioningRefusal;
use super::event::{
    Cause, Change, Disclosure, DisclosurePurpose, DisclosureRefusal, DisclosureRefused, Principal, TokenEvent,
};
use super::record::{CardAad, VaultRecord, open_card};
use super::remembered::Recalled;
use super::tsp::{Decision, Tsp};

/// For how long a card's number is told again to a repeat of the request: long enough for an answer that was lost.
const REPEAT_LIFE: Duration = Duration::from_secs(600);

/// A card's number is wanted, by what stands for it.
#[derive(Debug, Clone)]
pub struct DisclosureRequest {
    pub asker: Asker,
    pub of: DisclosureOf,
    pub purpose: DisclosurePurpose,
}

/// By what a token is named. Its status and its expiry date do not matter: disputes outlive both.
#[derive(Debug, Clone)]
pub enum DisclosureOf {
    Reference(TokenReferenceId),
    /// With the token's own expiry: a number alone may have been guessed.
    Token(Token, Expiry),
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisclosureView {
    pub reference: TokenReferenceId,
    pub requestor: TokenRequestorId,
    pub pan: Pan,
    /// The card's own.
    pub pan_expiry: Option<Expiry>,
    pub sequence: Option<PanSequenceNumber>,
    pub par: Option<Par>,
}

/// What the first of several same requests was told, and when.
struct First {
    disclosure: Disclosure,
    card: Option<Box<(u32, Sealed)>>,
    par: Option<Par>,
    at: Wall,
}

/// How many card numbers of a requestor's tokens were told on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ToldToday {
    /// Since 1970, UTC.
    pub(super) day: u64,
    pub(super) count: u32,
}

impl ToldToday {
    /// After one more at `at`. Time that goes back counts as the day that was reached.
    pub(super) fn and_one(self, at: Wall) -> Self {
        let day = day(at);
        let count = if day > self.day { 0 } else { self.count };
        Self { day: day.max(self.day), count: count.saturating_add(1) }
    }

    fn on(self, at: Wall) -> u32 {
        if day(at) > self.day { 0 } else { self.count }
    }
}

fn day(at: Wall) -> u64 {
    at.0 / 86_400_000
}

/// All that was told lately, by requestor.
#[derive(Debug, Default)]
pub(super) struct Disclosures {
    told: Map<TokenRequestorId, ToldToday>,
}

impl Disclosures {
    pub(super) fn put(&mut self, requestor: TokenRequestorId, told: ToldToday) {
        if !sabotaged("disclosures-forgotten-at-restart") {
            self.told.insert(requestor, told);
        }
    }

    /// Counts one that is durable.
    pub(super) fn note(&mut self, requestor: TokenRequestorId, at: Wall) {
        let told = self.told.entry(requestor).or_default();
        *told = told.and_one(at);
    }

    fn on(&self, requestor: TokenRequestorId, at: Wall) -> u32 {
        self.told.get(&requestor).map_or(0, |told| told.on(at))
    }
}

impl Tsp {
    /// Whether a card's number is told. That it was is on disk before it is. A repeat is judged as any request, save
    /// that it is counted already, and hears for a short while only what the first was told.
    pub(super) fn decide_disclosure(
        &self,
        request: &DisclosureRequest,
        now: Now,
    ) -> Result<Decision, ProvisioningRefusal> {
        let cause = request.cause();
        let first = self.came_before(&cause)?.and_then(|told| match told {
            Recalled::Disclosed { disclosure, card, par, at } => Some(First { disclosure, card, par, at }),
            _ => None,
        });
        let named = match &request.of {
            DisclosureOf::Reference(reference) => self.table.by_reference(*reference),
            DisclosureOf::Token(token, _) => self.table.by_token(token),
        };
        let record = named.and_then(|record| self.table.record(record));
        let record = record.filter(|record| match request.of {
            DisclosureOf::Reference(_) => true,
            DisclosureOf::Token(_, expiry) => record.expiry == expiry,
        });
        let requestor = record.as_ref().map(|record| record.requestor);
        let cause = Cause { requestor, ..cause };
        let change = match self.may_tell(cause.principal, record.as_ref(), first.as_ref(), now) {
            Ok(found) => {
                // By the time that it is told, what waits has happened to the card.
                let found = self.record_ahead(found.record).ok_or(ProvisioningRefusal::Unavailable)?;
                let (record, mapping_version) = (found.record, found.mapping_version);
                let disclosure = Disclosure { record, mapping_version, purpose: request.purpose };
                let told = match &first {
                    Some(First { disclosure, card, par, .. }) => (disclosure, card.as_deref(), *par),
                    None => (&disclosure, None, found.par),
                };
                // What cannot be told is not counted.
                self.card_told(&found, told)?;
                let change = if first.is_some() { Change::DisclosedAgain } else { Change::Disclosed };
                change(*told.0)
            }
            Err(why) => {
                let (record, purpose) = (record.map(|record| record.record), Some(request.purpose));
                Change::DisclosureRefused(DisclosureRefused { record, purpose, why })
            }
        };
        Ok(Decision::New(Box::new(TokenEvent { cause, change })))
    }

    /// A client that is not granted it asked. That it did is in the journal, too, whatever came under its id before.
    pub(super) fn decide_denied(&self, asker: &Asker) -> Result<Decision, ProvisioningRefusal> {
        let cause = asker.cause(&[8]);
        self.may_begin(&cause)?;
        let why = DisclosureRefusal::NotGranted;
        let change = Change::DisclosureRefused(DisclosureRefused { record: None, purpose: None, why });
        Ok(Decision::New(Box::new(TokenEvent { cause, change })))
    }

    /// The token, if the card behind it may be told to this principal now; `first`: what was told when, to a repeat.
    fn may_tell<'r>(
        &self,
        principal: Principal,
        record: Option<&'r VaultRecord>,
        first: Option<&First>,
        now: Now,
    ) -> Result<&'r VaultRecord, DisclosureRefusal> {
        let record = record.filter(|record| self.owned(principal, record.reference).is_some());
        let record = record.ok_or(DisclosureRefusal::UnknownToken)?;
        let requestor = record.requestor;
        let most = self.requestors.registration(requestor);
        let most = most.and_then(|found| found.requestor.limits.detokenizations_per_day);
        let most = most.ok_or(DisclosureRefusal::NotAllowed)?;
        let told = self.disclosures.on(requestor, now.wall).saturating_add(self.disclosures_ahead(requestor));
        // A repeat needs no room besides what its first telling took.
        if told.saturating_sub(u32::from(first.is_some())) >= most {
            return Err(DisclosureRefusal::Exhausted);
        }
        let late = first.is_some_and(|first| now.wall >= first.at.plus(REPEAT_LIFE));
        if late { Err(DisclosureRefusal::TooLate) } else { Ok(record) }
    }

    /// How many of a requestor's wait to become durable.
    fn disclosures_ahead(&self, requestor: TokenRequestorId) -> u32 {
        let is_one = |event: &&TokenEvent| {
            matches!(event.change, Change::Disclosed(_)) && event.cause.requestor == Some(requestor)
        };
        let ahead =
            self.events_ahead().filter(is_one).filter(|_| !sabotaged("disclosures-ahead-not-counted"));
        u32::try_from(ahead.count()).unwrap_or(u32::MAX)
    }

    /// What is told of a token, by the card of when that was decided: also to a repeat after another card or another
    /// expiry date took its place.
    pub(super) fn disclosed(
        &self,
        disclosure: &Disclosure,
        card: Option<&(u32, Sealed)>,
        par: Option<Par>,
    ) -> Answer {
        let record = self.table.record(disclosure.record).ok_or(ProvisioningRefusal::Unavailable)?;
        self.card_told(&record, (disclosure, card, par))
    }

    fn card_told(
        &self,
        record: &VaultRecord,
        (disclosure, card, par): (&Disclosure, Option<&(u32, Sealed)>, Option<Par>),
    ) -> Answer {
        let unavailable = ProvisioningRefusal::Unavailable;
        let card = card.copied().or_else(|| record.sealed_since(disclosure.mapping_version));
        let (version, sealed) = card.ok_or(unavailable)?;
        let aad = CardAad::vault(&record.token, record.record, version);
        let card = open_card(&self.sealer, &aad, &sealed).map_err(|_| unavailable)?;
        Ok(Told::Disclosed(Box::new(DisclosureView {
            reference: record.reference,
            requestor: record.requestor,
            pan: card.pan,
            pan_expiry: card.expiry,
            sequence: card.sequence,
            par,
        })))
    }
}

impl VaultRecord {
    /// The card's newest envelope of those with the number of a mapping version, with its own version, if it is still
    /// remembered. Another expiry date takes its place in the mapping of before; only another number leaves that
    /// behind.
    pub(super) fn sealed_since(&self, mapping_version: u32) -> Option<(u32, Sealed)> {
        let past = self.past.iter().map(|past| (past.mapping_version, past.sealed));
        let mut all = past.chain([(self.mapping_version, self.sealed)]);
        let oldest = self.past.first().filter(|_| self.past.len() >= Self::PAST_MOST);
        // Of what is older than all that there is room for, nobody can say whose number it had.
        let is_forgotten = oldest.is_some_and(|oldest| mapping_version < oldest.mapping_version);
        all.find(|(version, _)| *version >= mapping_version).filter(|_| !is_forgotten)
    }
}

impl DisclosureRequest {
    fn cause(&self) -> Cause {
        let mut said = vec![8, self.purpose.code()];
        match &self.of {
            DisclosureOf::Reference(reference) => {
                said.push(1);
                said.extend_from_slice(&reference.to_bytes());
            }
            DisclosureOf::Token(token, expiry) => {
                said.push(2);
                said.extend_from_slice(token.as_bytes());
                said.extend_from_slice(&expiry.digits());
            }
        }
        self.asker.cause(&said)
    }
}
