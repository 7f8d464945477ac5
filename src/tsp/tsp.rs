//! `Tsp`: the state machine that decides and applies; no I/O, no clock.
//!
//! A decision is made on what is applied *and* what waits to become durable; it becomes an event, which is appended
//! to the log. Once durable, events are applied in the order of their entries, and only then answered: nobody hears
//! of a token that a crash could take back. Repeats are answered from what the events themselves left behind.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::crypto::{BlindIndexer, DataSealer, SecurityModule};
use crate::journal::{Body, Entry, TransactionEntry};
use crate::stdx::bounded::BoundedMap;
use crate::stdx::clock::{Now, Wall};
use crate::stdx::maps::{Map, Set};
use crate::stdx::random::Entropy;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{Token, TokenReferenceId, TokenRequestorId, YearMonth};

use super::card_codes::{CardCodes, CodesOfCards};
use super::cards::Cards;
use super::command::{Action, Answer, CallId, Command, Told};
use super::config::{TspConfig, TspLimits};
use super::consent::Consents;
use super::counters::Counters;
use super::detokenize::Detokenizer;
use super::disclosure::Disclosures;
use super::error::{ProvisioningRefusal, TspError};
use super::event::{CannotFollow, CardStanding, Cause, Change, Principal, RequestKey, TokenEvent};
use super::idv::{ApprovalRule, AskedFor, DifferingPars};
use super::lifecycle::TokenStatus;
use super::metrics::Fill;
use super::outbox::Outbox;
use super::overdue::Inactive;
use super::record::VaultRecord;
use super::registry::Requestors;
use super::remembered::{Applied, Recalled, Remembered};
use super::step_up::{CodeDelivery, StepUp};
use super::table::{TableFault, TableWriter};
use super::token_view::{SeenToken, TokenView};
use super::velocity::Velocity;
use super::verify::TokenKeys;
use super::wanted::WantedToken;

/// The vault's single writer.
pub struct Tsp {
    pub(super) config: Arc<TspConfig>,
    pub(super) requestors: Requestors,
    pub(super) sealer: DataSealer,
    pub(super) indexer: BlindIndexer,
    pub(super) keys: TokenKeys,
    pub(super) table: TableWriter,
    pub(super) counters: Arc<Counters>,
    pub(super) velocity: Arc<Velocity>,
    /// How cards stand that are not as any.
    pub(super) cards: Cards,
    /// How many card numbers were told lately.
    pub(super) disclosures: Disclosures,
    pub(super) remembered: BoundedMap<RequestKey, Remembered>,
    /// How many tokens each token range has given.
    pub(super) issued: Vec<u64>,
    /// How many tokens of each requestor are not deactivated.
    pub(super) live: Map<TokenRequestorId, u32>,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) ahead: Ahead,
    pub(super) failed: bool,
    /// Requests for which an issuer is being asked.
    pub(super) asked_for: Map<CallId, AskedFor>,
    /// What tokens wait for whose cardholders have to prove themselves, by record and so in the order of their issue.
    pub(super) step_ups: BTreeMap<u64, StepUp>,
    pub(super) inactive: Inactive,
    pub(super) card_codes: CodesOfCards,
    /// How many token events were applied, of all that ever were.
    pub(super) events: u64,
    pub(super) outbox: Outbox,
    pub(super) consents: Consents,
    pub(super) pars: DifferingPars,
}

/// A decision that is not durable yet.
pub(super) struct Waiting {
    call: CallId,
    event: TokenEvent,
    at: Wall,
    /// A code that leaves once its event is durable.
    pub(super) code: Option<Box<CodeDelivery>>,
}

/// What will be so once everything that waits is applied.
#[derive(Default)]
pub(super) struct Ahead {
    pub(super) requests: Map<RequestKey, [u8; 32]>,
    /// Token numbers that are given away.
    pub(super) tokens: Set<u64>,
    /// Records as they will be, with how many changes of each wait.
    pub(super) records: Map<u64, (usize, VaultRecord)>,
    /// Records that come to be of a PAN, by its blind index.
    pub(super) of_pan: Map<[u8; 16], Vec<u64>>,
    /// New tokens, in all and by token range.
    pub(super) new: u64,
    pub(super) issued: Map<usize, u64>,
    /// Cards to which something happens, with how many times, and how they stand after all of it.
    pub(super) cards: Map<[u8; 16], (usize, Option<CardStanding>)>,
    /// Step-ups as they will be.
    pub(super) step_ups: Map<u64, StepUp>,
    /// Of cards for whose tokens codes are sent or tried: with how many such events, and how it will be after them.
    pub(super) card_codes: Map<[u8; 16], (usize, CardCodes)>,
    /// Requestors that are being registered, changed or closed.
    pub(super) requestors: Set<TokenRequestorId>,
}

impl Ahead {
    /// The request is being worked on.
    pub(super) fn claim(&mut self, cause: &Cause) {
        self.requests.insert(cause.key(), cause.body_digest);
    }

    /// It is no longer.
    pub(super) fn release(&mut self, cause: &Cause) {
        self.requests.remove(&cause.key());
    }
}

/// What a request comes to.
#[allow(clippy::large_enum_variant, reason = "made once a call, and taken apart at once")]
pub(super) enum Decision {
    /// It was decided before, or there is nothing to decide.
    Told(Told),
    New(Box<TokenEvent>),
    /// The card's issuer must be asked first, under this rule.
    Ask(ApprovalRule),
}

impl Tsp {
    /// An empty vault, for `restore` and `replay` to fill.
    ///
    /// # Errors
    /// `Config` with the first fault of a configuration that has one; `Crypto` for a key that is not there.
    pub fn new(config: TspConfig, security: &SecurityModule) -> Result<Self, TspError> {
        if let Some(fault) = config.faults().into_iter().next() {
            return Err(fault.into());
        }
        let limits = config.limits;
        Ok(Self {
            requestors: Requestors::new(&config.requestors),
            sealer: security.data_sealer(),
            indexer: security.blind_index(),
            keys: TokenKeys::resolve(&config, security)?,
            table: TableWriter::new(limits.capacity, limits.control_sets),
            cards: Cards::default(),
            disclosures: Disclosures::default(),
            velocity: Arc::new(Velocity::new()),
            counters: Arc::new(Counters::new(config.counter_window, config.resubmit_window)),
            remembered: BoundedMap::with_capacity(limits.remembered_requests),
            issued: vec![0; config.token_ranges.len()],
            live: Map::default(),
            waiting: VecDeque::new(),
            ahead: Ahead::default(),
            failed: false,
            asked_for: Map::default(),
            step_ups: BTreeMap::new(),
            inactive: Inactive::default(),
            card_codes: CodesOfCards::default(),
            events: 0,
            consents: Consents::default(),
            pars: DifferingPars::default(),
            outbox: Outbox::new(&config.receivers, limits.notifications),
            config: Arc::new(config),
        })
    }

    /// A read handle for a shard; it sees every event as soon as it is applied.
    #[must_use]
    pub fn detokenizer(&self) -> Detokenizer {
        let taken = (Arc::clone(&self.counters), Arc::clone(&self.velocity));
        let (sealer, keys) = (self.sealer.clone(), self.keys.clone());
        Detokenizer::new(self.table.shared(), taken, sealer, keys, self.config.amount_tolerance)
    }

    /// How many tokens there are, deactivated ones included.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.table.len()
    }

    /// The numbers that it never exceeds.
    #[must_use]
    pub fn limits(&self) -> TspLimits {
        self.config.limits
    }

    /// How near it is to them.
    #[must_use]
    pub(super) fn fill(&self) -> Fill {
        Fill {
            tokens: self.table.len(),
            control_sets: self.table.control_sets(),
            narrowed: self.table.narrowed(),
            step_ups: self.step_ups.len(),
            remembered: self.remembered.len(),
            enquiries: self.asked_for.len(),
            consents: self.consents.len(),
            requestors: self.requestors.registered(),
            pars: self.pars,
        }
    }

    /// One step: decides, or applies what became durable. What is to be done stands at the end of `actions`.
    pub fn apply(&mut self, command: Command, now: Now, entropy: &mut Entropy, actions: &mut Vec<Action>) {
        let (call, decided) = match command {
            Command::Provision { call, request } => {
                let wanted = WantedToken::of(*request, &self.indexer);
                return self.begin(call, Box::new(wanted), now, entropy, actions);
            }
            Command::Wanted { call, wanted } => return self.begin(call, wanted, now, entropy, actions),
            Command::ProvisionFrom { call, request } => {
                return self.begin_from(call, *request, now, entropy, actions);
            }
            Command::IssuerAnswered { call, word } => match self.issuer_answered(call, word, now, entropy) {
                Some(decided) => (call, decided),
                None => return,
            },
            Command::RequestCode { call, request } => {
                return self.code_wanted(call, &request, now, entropy, actions);
            }
            Command::SubmitCode { call, request } => (call, self.decide_submission(&request, now)),
            Command::Adopt { call } => return self.adopt(call, now, actions),
            Command::GiveUpOverdue { call } => return self.give_up_overdue(call, now, actions),
            Command::Notified { call, receiver, up_to } => {
                return self.was_told(call, (receiver, up_to), now, actions);
            }
            Command::Move { call, request } => (call, self.decide_move(&request, now)),
            Command::Update { call, request } => (call, self.decide_update(&request, now)),
            Command::Control { call, request } => (call, self.decide_controls(&request, now)),
            Command::Disclose { call, request } => (call, self.decide_disclosure(&request, now)),
            Command::DiscloseDenied { call, asker } => (call, self.decide_denied(&asker)),
            Command::Cryptogram { call, request } => (call, self.decide_cryptogram(&request, now)),
            Command::Consent { call, request } => (call, self.decide_consent(&request, now, entropy)),
            Command::Key { call, request } => (call, self.decide_keys(&request, now)),
            Command::Card { call, request } => (call, self.decide_card(&request, now, entropy)),
            Command::Registry { call, request } => (call, self.decide_registry(&request, now)),
            Command::Get { call, principal, reference } => (call, self.see(principal, reference, now)),
            Command::Requestor { call, principal, id } => {
                let found = self.registration(principal, id).map(Box::new);
                (call, found.map(|found| Decision::Told(Told::Requestor(found))))
            }
            Command::Requestors { call, principal, after, most } => {
                let found = self.registrations(principal, after, most);
                (call, found.map(|found| Decision::Told(Told::Requestors(found))))
            }
            Command::CardBehind { call, asking, source } => {
                let found = self.card_behind(asking, source, now);
                (call, Ok(Decision::Told(Told::CardBehind(found))))
            }
            Command::Par { call, principal, query } => {
                (call, self.par(principal, &query).map(|par| Decision::Told(Told::Par(par))))
            }
            Command::Mappings { call, principal, reference } => {
                let found = self.mappings(principal, reference);
                (call, found.map(|found| Decision::Told(Told::Mappings(found))))
            }
            Command::Durable { events } => return self.made_durable(events, now, actions),
            Command::Refused { events } => {
                return self.drop_newest(events, ProvisioningRefusal::Overloaded, actions);
            }
            Command::Failed => {
                self.failed = true;
                return self.drop_newest(self.waiting.len(), ProvisioningRefusal::Unavailable, actions);
            }
        };
        self.carry_out(call, decided, now, actions);
    }

    fn see(
        &self,
        principal: Principal,
        reference: TokenReferenceId,
        now: Now,
    ) -> Result<Decision, ProvisioningRefusal> {
        let found = self.owned(principal, reference).and_then(|record| self.table.record(record));
        let found = found.ok_or(ProvisioningRefusal::UnknownToken)?;
        let token = self.view(&found, YearMonth::of(now.wall));
        let seen = SeenToken { token, controls: found.own, owners: found.owners, because: found.because };
        Ok(Decision::Told(Told::Seen(Box::new(seen))))
    }

    fn made_durable(&mut self, events: usize, now: Now, actions: &mut Vec<Action>) {
        let ready = self.waiting.drain(..events.min(self.waiting.len())).collect::<Vec<_>>();
        for waiting in ready {
            let answer = self.settle(&waiting, YearMonth::of(now.wall));
            actions.push(Action::Answer { call: waiting.call, answer });
            actions.extend(waiting.code.map(Action::SendCode));
        }
    }

    /// Applies an event of the log to a vault that is being filled.
    ///
    /// # Errors
    /// `Event` for bytes that are no event, or one that cannot follow what came before.
    pub fn replay_event(&mut self, entry: u64, at: Wall, bytes: &[u8]) -> Result<(), TspError> {
        let wrong = |reason| TspError::Event { entry, reason };
        let event = TokenEvent::decode(bytes).ok_or(wrong("cannot be read"))?;
        self.apply_event(&event, at).map(|_| ()).map_err(wrong)
    }

    /// Applies what an entry of the journal means to the vault: a token event, or the counter that a request took.
    ///
    /// # Errors
    /// `Event`, as `replay_event`.
    pub fn replay(&mut self, entry: &Entry) -> Result<(), TspError> {
        if !sabotaged("velocity-forgotten-at-restart") {
            self.velocity.replay(entry);
        }
        match &entry.body {
            Body::Token(bytes) => self.replay_event(entry.number.0, entry.wall_time, bytes),
            Body::Transaction(TransactionEntry::Request(request)) => {
                if let (Some(token), Some(counter)) = (&request.card.token, request.counter) {
                    self.counters.note(token.record, counter);
                }
                Ok(())
            }
            Body::Transaction(TransactionEntry::Outcome(outcome)) => {
                if let Some((record, counter)) = outcome.counter {
                    self.counters.note(record, counter);
                }
                Ok(())
            }
            Body::Transaction(_) | Body::CutOver(_) | Body::WindowClosed(_) | Body::Operator(_) => Ok(()),
        }
    }

    pub(super) fn carry_out(
        &mut self,
        call: CallId,
        decided: Result<Decision, ProvisioningRefusal>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        match decided {
            Ok(Decision::New(event)) => {
                self.look_ahead(&event, now.wall);
                actions.push(Action::Append { at: now.wall, event: event.encode() });
                self.waiting.push_back(Waiting { call, event: *event, at: now.wall, code: None });
                if sabotaged("token-before-durable") {
                    self.made_durable(1, now, actions);
                }
            }
            // Only a provisioning asks, and sees to it itself.
            Ok(Decision::Ask(_)) => {}
            Ok(Decision::Told(told)) => actions.push(Action::Answer { call, answer: Ok(told) }),
            Err(refusal) => actions.push(Action::Answer { call, answer: Err(refusal) }),
        }
    }

    /// What a requestor is told of a record.
    pub(super) fn view(&self, record: &VaultRecord, today: YearMonth) -> TokenView {
        let waits = record.lifecycle.status == TokenStatus::Inactive;
        let step_up = self.step_ups.get(&record.record).filter(|_| waits);
        let step_up = step_up.map(|step_up| step_up.view(&self.config.step_up));
        TokenView { step_up, ..TokenView::of(record, today) }
    }

    /// What was decided and is not durable yet, the oldest first.
    pub(super) fn events_ahead(&self) -> impl Iterator<Item = &TokenEvent> {
        self.waiting.iter().map(|waiting| &waiting.event)
    }

    /// A record as it will be once everything that waits is applied.
    pub(super) fn record_ahead(&self, record: u64) -> Option<VaultRecord> {
        let ahead = self.ahead.records.get(&record).map(|(_, ahead)| ahead.clone());
        ahead.or_else(|| self.table.record(record))
    }

    /// The tokens of a PAN as they will be, by record.
    pub(super) fn of_card(&self, blind_index: &[u8; 16]) -> Vec<VaultRecord> {
        let waiting = self.ahead.of_pan.get(blind_index).into_iter().flatten();
        let known = self.table.of_pan(*blind_index).map(|record| record.record);
        let mut records: Vec<u64> = known.chain(waiting.copied()).collect();
        records.sort_unstable();
        records.dedup();
        let found = records.into_iter().filter_map(|record| self.record_ahead(record));
        found.filter(|record| record.blind_index == *blind_index).collect()
    }

    fn look_ahead(&mut self, event: &TokenEvent, at: Wall) {
        self.ahead.claim(&event.cause);
        if let Change::IssuedForProof { record, step_up } = &event.change {
            self.ahead.step_ups.insert(record.record, **step_up);
        }
        if let Some(record) = event.change.issued() {
            self.ahead.tokens.insert(record.token.number());
            self.ahead.of_pan.entry(record.blind_index).or_default().push(record.record);
            self.ahead.new += 1;
            if let Some(range) = self.range_of(&record.token) {
                *self.ahead.issued.entry(range).or_default() += 1;
            }
            self.ahead.records.insert(record.record, (1, record.clone()));
        }
        if let Change::Registered(registration) = &event.change {
            self.ahead.requestors.insert(registration.requestor.id);
        }
        if let Change::Card(change) = &event.change {
            let times = self.ahead.cards.get(&change.blind_index).map_or(0, |(times, _)| *times);
            let standing = self.standing(&change.blind_index);
            let after = change.event.standing().or(standing.filter(|_| !change.event.clears()));
            self.ahead.cards.insert(change.blind_index, (times + 1, after));
        }
        for number in event.change.altered() {
            let Some(before) = self.record_ahead(number) else { continue };
            let mut after = before.clone();
            self.look_ahead_at_codes(before.blind_index, &event.change, at);
            // Decided on this very record: it can be applied.
            let _ = event.alter(&mut after, at);
            if after.blind_index != before.blind_index {
                self.ahead.of_pan.entry(after.blind_index).or_default().push(number);
            }
            if let Some(step_up) = self.step_up_ahead(number) {
                self.ahead.step_ups.insert(number, step_up.after(&event.change));
            }
            let changes = self.ahead.records.get(&number).map_or(0, |(changes, _)| *changes);
            self.ahead.records.insert(number, (changes + 1, after));
        }
    }

    fn no_longer_ahead(&mut self, event: &TokenEvent) {
        self.ahead.release(&event.cause);
        self.codes_no_longer_ahead(&event.change);
        let mut settled = event.change.altered();
        if let Some(record) = event.change.issued() {
            self.ahead.tokens.remove(&record.token.number());
            self.ahead.new = self.ahead.new.saturating_sub(1);
            let range = self.range_of(&record.token);
            if let Some(count) = range.and_then(|range| self.ahead.issued.get_mut(&range)) {
                *count = count.saturating_sub(1);
            }
            settled.push(record.record);
        }
        if let Change::Registered(registration) = &event.change {
            self.ahead.requestors.remove(&registration.requestor.id);
        }
        if let Change::Card(change) = &event.change
            && let Some((times, _)) = self.ahead.cards.get_mut(&change.blind_index)
        {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.ahead.cards.remove(&change.blind_index);
            }
        }
        for number in settled {
            let Some((changes, ahead)) = self.ahead.records.get_mut(&number) else { continue };
            *changes = changes.saturating_sub(1);
            let (last, blind_index) = (*changes == 0, ahead.blind_index);
            if last {
                self.ahead.records.remove(&number);
                self.ahead.step_ups.remove(&number);
                if let Some(list) = self.ahead.of_pan.get_mut(&blind_index) {
                    list.retain(|waiting| *waiting != number);
                    if list.is_empty() {
                        self.ahead.of_pan.remove(&blind_index);
                    }
                }
            }
        }
    }

    /// Applies what is durable now, and says what its caller is told.
    fn settle(&mut self, waiting: &Waiting, today: YearMonth) -> Answer {
        self.no_longer_ahead(&waiting.event);
        // Decisions are checked before they are appended; one that cannot be applied means that log and table differ.
        let applied = self.apply_event(&waiting.event, waiting.at);
        self.failed |= applied.is_err();
        let Applied { told, left } = applied.map_err(|_| ProvisioningRefusal::Unavailable)?;
        match (told, left) {
            // What a repeat would be told of a token is what it was left as.
            (Recalled::Token { .. }, Some(left)) => Ok(Told::Token(left)),
            (told, _) => self.recall(told, today),
        }
    }

    fn drop_newest(&mut self, events: usize, refusal: ProvisioningRefusal, actions: &mut Vec<Action>) {
        let dropped = self.waiting.split_off(self.waiting.len().saturating_sub(events));
        actions.extend(
            dropped.iter().map(|waiting| Action::Answer { call: waiting.call, answer: Err(refusal) }),
        );
        self.ahead = Ahead::default();
        let left = std::mem::take(&mut self.waiting);
        left.iter().for_each(|waiting| self.look_ahead(&waiting.event, waiting.at));
        let Self { ahead, asked_for, .. } = self;
        asked_for.values().for_each(|asked| ahead.claim(asked.cause()));
        self.waiting = left;
    }

    /// The only way in which the vault's state changes.
    fn apply_event(&mut self, event: &TokenEvent, at: Wall) -> Result<Applied, CannotFollow> {
        self.events += 1;
        if let Some(record) = event.change.issued() {
            self.add(record)?;
            self.note(event, None, record, at);
        }
        for number in event.change.altered() {
            let mut record = self.table.record(number).ok_or("no such record")?;
            let before = record.clone();
            let was_live = is_live(&record);
            self.card_codes.note(before.blind_index, &event.change, at, &self.config.step_up);
            event.alter(&mut record, at)?;
            if was_live
                && !is_live(&record)
                && let Some(count) = self.live.get_mut(&record.requestor)
            {
                *count = count.saturating_sub(1);
            }
            if !self.table.rewrite(&record) {
                return Err("the record cannot be changed");
            }
            self.note(event, Some(&before), &record, at);
            self.inactive.note(&record);
            let waited = self.step_ups.remove(&number);
            if record.lifecycle.status != TokenStatus::Inactive {
                // Also while other changes of it wait: there is nothing left to prove.
                self.ahead.step_ups.remove(&number);
            } else if let Some(step_up) = waited {
                self.step_ups.insert(number, step_up.after(&event.change));
            }
        }
        if let Change::Card(change) = &event.change {
            self.cards.note(change);
        }
        self.consents.note(event, self.config.limits.consents, at);
        if let Change::Notified { receiver, up_to } = &event.change {
            self.outbox.told(*receiver, *up_to);
            // Nobody asked, so that no repeat will come.
            return Ok(Applied::told(Recalled::Refused(ProvisioningRefusal::Unavailable)));
        }
        if let Change::DisclosureRefused(_) = event.change {
            // It is not remembered: another day, or with another registration, the same request may succeed.
            return Recalled::of(&event.change, None, at).map(Applied::told).ok_or("nothing is told");
        }
        if let Change::IssuedForProof { record, step_up } = &event.change {
            self.step_ups.insert(record.record, **step_up);
        }
        if let (Change::Disclosed(_), Some(requestor)) = (&event.change, event.cause.requestor) {
            self.disclosures.note(requestor, at);
        }
        if let Change::Registered(registration) = &event.change {
            self.requestors.note(registration, at)?;
            self.outbox.register(registration.receiver(), registration.url(), Some(self.events));
        }
        let of_table = || event.change.record().and_then(|record| self.table.record(record)).map(Cow::Owned);
        let left = event.change.issued().map(Cow::Borrowed).or_else(of_table);
        let left = left.map(|left| (self.view(&left, YearMonth::of(at)), left));
        let before = left.as_ref().map(|(view, record)| (&**record, view));
        let told = Recalled::of(&event.change, before, at).ok_or("no such record")?;
        if let Change::DisclosedAgain(_) = event.change {
            // What was told first, and when, is remembered already.
            let first = self.remembered.get(&event.cause.key()).map(|first| first.told.clone());
            return Ok(Applied::told(first.unwrap_or(told)));
        }
        let body_digest = event.cause.body_digest;
        self.remembered.insert(event.cause.key(), Remembered { body_digest, told: told.clone() });
        Ok(Applied { told, left: left.map(|(view, _)| view) })
    }

    /// Puts a token into the table.
    pub(super) fn add(&mut self, record: &VaultRecord) -> Result<(), CannotFollow> {
        let range = self.range_of(&record.token).ok_or("the token lies in no configured token range")?;
        self.table.insert(record).map_err(|fault| match fault {
            TableFault::Full => "the vault is full: raise its capacity",
            TableFault::Taken => "the token or its place is in use",
        })?;
        if let Some(count) = self.issued.get_mut(range) {
            *count += 1;
        }
        self.inactive.note(record);
        if is_live(record) {
            *self.live.entry(record.requestor).or_default() += 1;
        }
        Ok(())
    }

    fn range_of(&self, token: &Token) -> Option<usize> {
        self.config.token_ranges.iter().position(|range| range.covers(token.as_bytes()))
    }
}

fn is_live(record: &VaultRecord) -> bool {
    record.lifecycle.status != TokenStatus::Deactivated
}

#[cfg(test)]
impl Tsp {
    /// Puts a configuration in place that a check would refuse, as one with a range of ten numbers.
    pub(super) fn narrow_for_test(&mut self, config: TspConfig) {
        self.config = Arc::new(config);
    }
}
