//! What the vault keeps in the checkpoint: folded from the journal by `TspFold`, read back by `Tsp::restore`. It
//! only saves time at start; the journal has it all. What there is much of is packed.

use std::collections::hash_map;

use crate::crypto::DataSealer;
use crate::journal::{Body, Changes, Checkpoint, CheckpointError, Entry, Fold, Pending, TransactionEntry};
use crate::stdx::clock::Wall;
use crate::stdx::maps::Map;
use crate::stdx::random::Entropy;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{CounterTaken, TokenAssuranceMethod, TokenRequestorId, TransactionId, YearMonth};

use super::card_codes::CardCodes;
use super::config::TspConfig;
use super::consent::fold_consent;
use super::counters::{TokenCounters, kept_under};
use super::disclosure::ToldToday;
use super::event::{Actor, Change, Reason, TokenEvent};
use super::layout::{
    encode_registration, put_receiver, put_step_up, read_lifecycle, take_step_up, write_lifecycle,
};
use super::lifecycle::TokenStatus;
use super::outbox::{Happening, Noted, Receiver};
use super::record::VaultRecord;
use super::record_layout::{decode_record, encode_record};
use super::registry::Registration;
use super::remembered::{Recalled, Remembered};
use super::remembered_layout::encode_request;
use super::renewal::Renewal;
use super::step_up::{StepUp, StepUpLimits};
use super::token_view::TokenView;
use super::velocity::{Meaning, Takes, meaning};
use super::wire::{Reader, Writer};

/// By record number, big end first: scanned in order of issue.
pub(super) const TOKENS: &str = "token[]";
/// By place in a ring, each with its number in order of answering: a new one takes the place of the oldest.
pub(super) const REQUESTS: &str = "token-request[]";
/// How many requests were ever put into the ring; one record.
pub(super) const REQUESTS_SEEN: &str = "token-request-count";
/// By blind index: how cards stand that are not as any.
pub(super) const CARDS: &str = "card-standing";
/// By record number: what was lately paid with tokens that have a rule about it.
pub(super) const VELOCITY: &str = "token-velocity[]";
/// One record: payments without an outcome that count, with their tokens.
pub(super) const OPEN: &str = "token-velocity-open";
/// By id.
pub(super) const REQUESTORS: &str = "token-requestor";
/// By requestor: how many card numbers were told on which day.
pub(super) const DISCLOSURES: &str = "token-disclosure";
/// By record number; with its highest bit set, those of remote cryptograms; with the one below, of limited-use keys.
pub(super) const COUNTERS: &str = "token-counter[]";
/// How many token events there were; one record.
pub(super) const EVENTS: &str = "token-event-count";
/// The version of the key that sealed the cards of all tokens so far, once they were looked through; one record.
const SEALED_BY: &str = "token-sealed-by";
/// By blind index: codes that went out for a card's tokens lately, and wrong ones.
pub(super) const CARD_CODES: &str = "card-codes";
/// By record number: what tokens wait for.
pub(super) const STEP_UPS: &str = "token-step-up";
/// By receiver: up to which event it was told.
pub(super) const TOLD: &str = "token-told";
/// By place in a ring: what there was to tell of the newest events.
pub(super) const NOTED: &str = "token-noted[]";
/// How many were ever put into that ring; one record.
pub(super) const NOTED_SEEN: &str = "token-noted-count";

/// Folds token events and taken counters.
#[derive(Debug)]
pub struct TspFold {
    /// How many answered requests are to be remembered.
    remembered_most: u64,
    /// How many notifications are kept for receivers that were not told yet.
    noted_most: u64,
    /// Receivers whose places are written down by events of their own; a registered one's begins with its registration.
    configured: Vec<Receiver>,
    /// By which codes count against a card.
    step_up: StepUpLimits,
    /// Counters of the tokens that were used since the last write: one that is used often is written once.
    counters: Map<u64, TokenCounters>,
    /// As `counters`.
    takes: Map<u64, Takes>,
    /// Payments without an outcome that count; read once.
    open: Option<Map<TransactionId, u64>>,
    open_changed: bool,
    /// What seals cards anew that an older key sealed.
    renewal: Option<Renewal>,
}

impl TspFold {
    /// For a vault of this configuration.
    #[must_use]
    pub fn new(config: &TspConfig) -> Self {
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX).max(1);
        let limits = config.limits;
        Self {
            remembered_most: wide(limits.remembered_requests),
            noted_most: wide(limits.notifications),
            configured: config.receivers.clone(),
            step_up: config.step_up,
            counters: Map::default(),
            takes: Map::default(),
            open: None,
            open_changed: false,
            renewal: None,
        }
    }

    /// One that seals cards anew that were sealed by an older key, before a base is made: then no token needs that key.
    #[must_use]
    pub fn renewing(self, sealer: DataSealer, entropy: Entropy) -> Self {
        Self { renewal: Some(Renewal::new(sealer, entropy)), ..self }
    }

    fn fold_event(
        &self,
        entry: &Entry,
        event: &TokenEvent,
        changes: &mut Pending<'_>,
    ) -> Result<(), CheckpointError> {
        let damaged = || CheckpointError::Damaged("a token's record is missing or cannot be read");
        let ordinal = count(changes, EVENTS)?.saturating_add(1);
        changes.put(EVENTS, &[], ordinal.to_be_bytes().to_vec())?;
        if let Change::Notified { receiver, up_to } = &event.change {
            let mut key = Writer(Vec::new());
            put_receiver(&mut key, receiver);
            // As the outbox has it: what was told once stays so.
            let told = changes.get(TOLD, &key.0)?.and_then(|told| told.try_into().ok());
            let up_to = told.map(u64::from_be_bytes).map_or(*up_to, |told| told.max(*up_to));
            return changes.put(TOLD, &key.0, up_to.to_be_bytes().to_vec());
        }
        if matches!(event.change, Change::DisclosureRefused(_) | Change::DisclosedAgain(_)) {
            return Ok(());
        }
        let mut last = None;
        if let Some(issued) = event.change.issued() {
            changes.put(TOKENS, &issued.record.to_be_bytes(), encode_record(issued))?;
            self.note(
                Noted::of(ordinal, entry.wall_time, (&event.cause, &event.change), None, issued),
                changes,
            )?;
            last = Some(issued.clone());
        }
        if let Change::IssuedForProof { record, step_up } = &event.change {
            changes.put(STEP_UPS, &record.record.to_be_bytes(), encode_step_up(step_up))?;
        }
        for record in event.change.altered() {
            let found = changes.get(TOKENS, &record.to_be_bytes())?;
            let before = found.and_then(|bytes| decode_record(&bytes)).ok_or_else(damaged)?;
            let mut after = before.clone();
            event.alter(&mut after, entry.wall_time).map_err(CheckpointError::Damaged)?;
            self.fold_card_codes(entry, &event.change, &before.blind_index, changes)?;
            if after != before {
                changes.put(TOKENS, &record.to_be_bytes(), encode_record(&after))?;
            }
            let said = (&event.cause, &event.change);
            self.note(Noted::of(ordinal, entry.wall_time, said, Some(&before), &after), changes)?;
            fold_step_up(&event.change, &after, changes)?;
            last = Some(after);
        }
        let cause = &event.cause;
        if let Change::Card(change) = &event.change {
            match (change.event.standing(), change.event.clears()) {
                (Some(standing), _) => changes.put(CARDS, &change.blind_index, vec![standing.code()])?,
                (None, true) => changes.remove(CARDS, &change.blind_index)?,
                (None, false) => {}
            }
        }
        if let Change::Registered(registration) = &event.change {
            let id = registration.requestor.id;
            let kept = Registration { changed_at: Some(entry.wall_time), ..(**registration).clone() };
            changes.put(REQUESTORS, id.as_bytes(), encode_registration(&kept))?;
            self.fold_receiver(registration, ordinal, changes)?;
        }
        if let (Change::Disclosed(_), Some(requestor)) = (&event.change, cause.requestor) {
            fold_disclosure(requestor, entry.wall_time, changes)?;
        }
        fold_consent(event, changes)?;
        if let Change::Disclosed(disclosure) = &event.change {
            let found = changes.get(TOKENS, &disclosure.record.to_be_bytes())?;
            last = Some(found.and_then(|bytes| decode_record(&bytes)).ok_or_else(damaged)?);
        }
        let shown = last.as_ref().map(|left| self.view(left, entry.wall_time, changes)).transpose()?;
        let told = Recalled::of(&event.change, last.as_ref().zip(shown.as_ref()), entry.wall_time);
        let told = told.ok_or(CheckpointError::Damaged("an event about nothing"))?;
        let remembered = Remembered { body_digest: cause.body_digest, told };
        let seen = count(changes, REQUESTS_SEEN)?;
        let request = encode_request(seen, &cause.key(), &remembered);
        changes.put(REQUESTS, &(seen % self.remembered_most).to_be_bytes(), request)?;
        changes.put(REQUESTS_SEEN, &[], seen.saturating_add(1).to_be_bytes().to_vec())
    }

    /// What is told of a token, as the vault does.
    fn view(
        &self,
        record: &VaultRecord,
        at: Wall,
        changes: &Pending<'_>,
    ) -> Result<TokenView, CheckpointError> {
        let token = TokenView::of(record, YearMonth::of(at));
        if record.lifecycle.status != TokenStatus::Inactive {
            return Ok(token);
        }
        let unread = CheckpointError::Damaged("what a token waits for cannot be read");
        let waits = changes.get(STEP_UPS, &record.record.to_be_bytes())?;
        let waits = waits.map(|bytes| decode_step_up(&bytes).ok_or(unread)).transpose()?;
        Ok(TokenView { step_up: waits.map(|step_up| step_up.view(&self.step_up)), ..token })
    }

    /// A registered receiver hears of what comes after the registration that first says where.
    fn fold_receiver(
        &self,
        registration: &Registration,
        ordinal: u64,
        changes: &mut Pending<'_>,
    ) -> Result<(), CheckpointError> {
        let receiver = registration.receiver();
        if self.configured.contains(&receiver) {
            return Ok(());
        }
        let mut key = Writer(Vec::new());
        put_receiver(&mut key, &receiver);
        if registration.url().as_bytes().is_empty() {
            return changes.remove(TOLD, &key.0);
        }
        match changes.get(TOLD, &key.0)? {
            Some(_) => Ok(()),
            None => changes.put(TOLD, &key.0, ordinal.to_be_bytes().to_vec()),
        }
    }

    /// A code that went out or came back wrong counts against its card.
    fn fold_card_codes(
        &self,
        entry: &Entry,
        change: &Change,
        card: &[u8; 16],
        changes: &mut Pending<'_>,
    ) -> Result<(), CheckpointError> {
        if !matches!(change, Change::CodeSent { .. } | Change::CodeWrong { .. }) {
            return Ok(());
        }
        let kept = changes.get(CARD_CODES, card)?;
        let codes = kept.map_or(Some(CardCodes::default()), |kept| decode_card_codes(&kept));
        let codes = codes.ok_or(CheckpointError::Damaged("a card's codes cannot be read"))?;
        match codes.after(change, entry.wall_time, &self.step_up) {
            Some(codes) => changes.put(CARD_CODES, card, encode_card_codes(codes)),
            None => Ok(()),
        }
    }

    /// Puts a notification into the ring.
    fn note(&self, noted: Option<Noted>, changes: &mut Pending<'_>) -> Result<(), CheckpointError> {
        let Some(noted) = noted.filter(|_| !sabotaged("notices-left-out-of-the-checkpoint")) else {
            return Ok(());
        };
        let seen = count(changes, NOTED_SEEN)?;
        changes.put(NOTED, &(seen % self.noted_most).to_be_bytes(), encode_noted(&noted))?;
        changes.put(NOTED_SEEN, &[], seen.saturating_add(1).to_be_bytes().to_vec())
    }

    fn fold_counter(
        &mut self,
        record: u64,
        counter: CounterTaken,
        changes: &Pending<'_>,
    ) -> Result<(), CheckpointError> {
        let place = kept_under(record, counter.series);
        let counters = match self.counters.entry(place) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(known) => {
                let kept = changes.get(COUNTERS, &place.to_be_bytes())?;
                let kept = kept.map_or(Some(TokenCounters::default()), |kept| TokenCounters::decode(&kept));
                known.insert(kept.ok_or(CheckpointError::Damaged("a token's counters cannot be read"))?)
            }
        };
        counters.note(counter.atc);
        Ok(())
    }
}

impl TspFold {
    fn fold_velocity(&mut self, meaning: Meaning, changes: &Pending<'_>) -> Result<(), CheckpointError> {
        let damaged = || CheckpointError::Damaged("what was lately paid with tokens cannot be read");
        if self.open.is_none() {
            let kept = changes.get(OPEN, &[])?;
            self.open =
                Some(kept.map_or(Some(Map::default()), |kept| decode_open(&kept)).ok_or_else(damaged)?);
        }
        let open = self.open.get_or_insert_default();
        let record = match meaning {
            Meaning::Taken(record, take) => {
                open.insert(take.transaction, record);
                self.open_changed = true;
                record
            }
            Meaning::Left(transaction, known, _) => {
                let was_open = open.remove(&transaction);
                self.open_changed |= was_open.is_some();
                let Some(record) = was_open.or(known) else { return Ok(()) };
                record
            }
        };
        let takes = match self.takes.entry(record) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(place) => {
                let kept = changes.get(VELOCITY, &record.to_be_bytes())?;
                let kept = kept.map_or(Some(Takes::default()), |kept| Takes::decode(&kept));
                place.insert(kept.ok_or_else(damaged)?)
            }
        };
        match meaning {
            Meaning::Taken(_, take) => takes.note(take),
            Meaning::Left(transaction, _, left) => takes.leave(transaction, left),
        }
        Ok(())
    }
}

impl Fold for TspFold {
    fn fold(&mut self, entry: &Entry, changes: &mut Pending<'_>) -> Result<(), CheckpointError> {
        match &entry.body {
            Body::Token(bytes) => {
                let unread = CheckpointError::Damaged("a token event of the journal cannot be read");
                let event = TokenEvent::decode(bytes).ok_or(unread)?;
                self.fold_event(entry, &event, changes)
            }
            Body::Transaction(transaction) => {
                if let TransactionEntry::Request(request) = transaction
                    && let (Some(token), Some(counter)) = (&request.card.token, request.counter)
                {
                    self.fold_counter(token.record, counter, changes)?;
                }
                if let TransactionEntry::Outcome(outcome) = transaction
                    && let Some((record, counter)) = outcome.counter
                {
                    self.fold_counter(record, counter, changes)?;
                }
                match meaning(transaction, entry.wall_time) {
                    Some(meaning) => self.fold_velocity(meaning, changes),
                    None => Ok(()),
                }
            }
            Body::CutOver(_) | Body::WindowClosed(_) | Body::Operator(_) => Ok(()),
        }
    }

    fn settle(&mut self, changes: &mut Pending<'_>) -> Result<(), CheckpointError> {
        for (record, takes) in self.takes.drain() {
            match takes.is_empty() {
                true => changes.remove(VELOCITY, &record.to_be_bytes())?,
                false => changes.put(VELOCITY, &record.to_be_bytes(), takes.encode())?,
            }
        }
        if let Some(open) = self.open.as_ref().filter(|_| self.open_changed) {
            changes.put(OPEN, &[], encode_open(open))?;
            self.open_changed = false;
        }
        self.counters.drain().try_for_each(|(record, counters)| {
            changes.put(COUNTERS, &record.to_be_bytes(), counters.encode())
        })
    }

    fn renew(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let Some(renewal) = &mut self.renewal else { return Ok(()) };
        let newest = renewal.newest().to_be_bytes().to_vec();
        if checkpoint.get(SEALED_BY, &[])?.as_ref() == Some(&newest) {
            return Ok(());
        }
        checkpoint.renew(TOKENS, |value| renewal.renewed(value))?;
        let mut changes = Changes::new();
        changes.put(SEALED_BY, &[], newest)?;
        checkpoint.write(changes, checkpoint.entry_number())
    }
}

/// A number that stands by itself; 0 where it does not yet.
fn count(changes: &Pending<'_>, part: &'static str) -> Result<u64, CheckpointError> {
    let unread = CheckpointError::Damaged("a count cannot be read");
    match changes.get(part, &[])? {
        Some(bytes) => bytes.try_into().map(u64::from_be_bytes).map_err(|_| unread),
        None => Ok(0),
    }
}

fn encode_step_up(step_up: &StepUp) -> Vec<u8> {
    let mut out = Writer(Vec::new());
    put_step_up(&mut out, step_up);
    out.0
}

pub(super) fn decode_step_up(bytes: &[u8]) -> Option<StepUp> {
    let mut from = Reader::here(bytes);
    let step_up = take_step_up(&mut from)?;
    from.is_empty().then_some(step_up)
}

/// What a token waits for after a change of it; nothing any more once it is active or gone.
fn fold_step_up(
    change: &Change,
    after: &VaultRecord,
    changes: &mut Pending<'_>,
) -> Result<(), CheckpointError> {
    let record = after.record.to_be_bytes();
    let Some(bytes) = changes.get(STEP_UPS, &record)? else { return Ok(()) };
    if after.lifecycle.status != TokenStatus::Inactive {
        return changes.remove(STEP_UPS, &record);
    }
    let unread = CheckpointError::Damaged("what a token waits for cannot be read");
    let step_up = decode_step_up(&bytes).ok_or(unread)?;
    changes.put(STEP_UPS, &record, encode_step_up(&step_up.after(change)))
}

fn encode_card_codes(codes: CardCodes) -> Vec<u8> {
    let mut out = Writer(codes.since.0.to_le_bytes().to_vec());
    out.bytes(&[codes.sent, codes.wrong]);
    out.0
}

pub(super) fn decode_card_codes(bytes: &[u8]) -> Option<CardCodes> {
    let mut from = Reader::here(bytes);
    let since = Wall(from.number()?);
    let [sent, wrong] = from.array()?;
    from.is_empty().then_some(CardCodes { since, sent, wrong })
}

/// One more card number was told.
fn fold_disclosure(
    requestor: TokenRequestorId,
    at: Wall,
    changes: &mut Pending<'_>,
) -> Result<(), CheckpointError> {
    let kept = changes.get(DISCLOSURES, requestor.as_bytes())?;
    let told = kept.map_or(Some(ToldToday::default()), |kept| decode_told_today(&kept));
    let told = told.ok_or(CheckpointError::Damaged("how many card numbers were told cannot be read"))?;
    changes.put(DISCLOSURES, requestor.as_bytes(), encode_told_today(told.and_one(at)))
}

fn encode_told_today(told: ToldToday) -> Vec<u8> {
    let mut out = Writer(told.day.to_le_bytes().to_vec());
    out.bytes(&told.count.to_le_bytes());
    out.0
}

pub(super) fn decode_told_today(bytes: &[u8]) -> Option<ToldToday> {
    let mut from = Reader::here(bytes);
    let told = ToldToday { day: from.number()?, count: u32::from_le_bytes(from.array()?) };
    from.is_empty().then_some(told)
}

fn encode_noted(noted: &Noted) -> Vec<u8> {
    let mut out = Writer(Vec::new());
    for number in [noted.ordinal, noted.record, noted.at.0] {
        out.bytes(&number.to_le_bytes());
    }
    out.bytes(&[noted.what.code(), noted.actor.code(), noted.reason.code()]);
    out.bytes(&write_lifecycle(&noted.lifecycle));
    out.bytes(&noted.assurance.digits());
    out.0
}

pub(super) fn decode_noted(bytes: &[u8]) -> Option<Noted> {
    let mut from = Reader::here(bytes);
    let noted = Noted {
        ordinal: from.number()?,
        record: from.number()?,
        at: Wall(from.number()?),
        what: Happening::from_code(from.byte()?)?,
        actor: Actor::from_code(from.byte()?)?,
        reason: Reason::from_code(from.byte()?)?,
        lifecycle: from.array().and_then(read_lifecycle)?,
        assurance: TokenAssuranceMethod::parse(from.take(2)?).ok()?,
    };
    from.is_empty().then_some(noted)
}

fn encode_open(open: &Map<TransactionId, u64>) -> Vec<u8> {
    open.iter()
        .flat_map(|(payment, record)| [payment.0.to_be_bytes(), record.to_be_bytes()])
        .flatten()
        .collect()
}

pub(super) fn decode_open(bytes: &[u8]) -> Option<Map<TransactionId, u64>> {
    let (pairs, rest) = bytes.as_chunks::<16>();
    let pair = |pair: &[u8; 16]| {
        let (payment, record) = pair.split_first_chunk::<8>()?;
        Some((TransactionId(u64::from_be_bytes(*payment)), u64::from_be_bytes(record.try_into().ok()?)))
    };
    if rest.is_empty() { pairs.iter().map(pair).collect() } else { None }
}
