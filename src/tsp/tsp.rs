//! `Tsp`: the state machine that decides and applies; no I/O, no clock.
//!
//! A decision is made on what is applied *and* what waits to become durable; it becomes an event, which is appended
//! to the log. Once durable, events are applied in the order of their entries, and only then answered: nobody hears
//! of a token that a crash could take back. Repeats are answered from what the events themselves left behind.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::crypto::{BlindIndexer, DataSealer, SecurityModule};
use crate::journal::{Body, Entry, TransactionEntry};
use crate::stdx::bounded::BoundedMap;
use crate::stdx::clock::{Now, Wall};
use crate::stdx::maps::{Map, Set};
use crate::stdx::random::Entropy;
use crate::vocab::{Expiry, Par, Token, TokenReferenceId, TokenRequestorId, YearMonth, luhn_valid};

use super::command::{Action, Answer, CallId, Command, MoveRequest, ProvisionRequest, TokenView};
use super::config::{PanRange, TokenRange, TspConfig, TspLimits};
use super::counters::Counters;
use super::detokenize::Detokenizer;
use super::error::{ProvisioningRefusal, TspError};
use super::event::{Cause, Change, RequestId, TokenEvent};
use super::generate::{draw_par, draw_reference, draw_token, expiry, is_full};
use super::lifecycle::{Lifecycle, Moved, TokenStatus};
use super::metrics::Fill;
use super::record::{CardAad, CardData, VaultRecord, seal_card};
use super::requestor::{Activation, Requestors, TokenRequestor};
use super::table::{Domain, TableFault, TableWriter};
use super::verify::TokenKeys;

/// A requestor's request, by its own name for it.
pub(super) type RequestKey = (TokenRequestorId, RequestId);

/// What a request came to: enough to give the very same answer again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) body_digest: [u8; 32],
    pub(super) record: u64,
    pub(super) lifecycle: Lifecycle,
    pub(super) changed_at: Wall,
}

/// The vault's single writer.
pub struct Tsp {
    config: Arc<TspConfig>,
    requestors: Requestors,
    sealer: DataSealer,
    indexer: BlindIndexer,
    keys: TokenKeys,
    pub(super) table: TableWriter,
    pub(super) counters: Arc<Counters>,
    pub(super) remembered: BoundedMap<RequestKey, Remembered>,
    /// How many tokens each token range has given.
    issued: Vec<u64>,
    waiting: VecDeque<Waiting>,
    ahead: Ahead,
    failed: bool,
}

/// A decision that is not durable yet.
struct Waiting {
    call: CallId,
    event: TokenEvent,
    at: Wall,
}

/// What will be so once everything that waits is applied.
#[derive(Default)]
struct Ahead {
    requests: Map<RequestKey, [u8; 32]>,
    tokens: Set<u64>,
    pars: Map<[u8; 16], Option<Par>>,
    lifecycles: Map<u64, Lifecycle>,
    /// New tokens, in all and by token range.
    records: u64,
    issued: Map<usize, u64>,
}

/// What a request comes to.
enum Decision {
    /// It was decided before.
    Again(TokenView),
    New(Box<TokenEvent>),
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
            counters: Arc::new(Counters::new(config.counter_window, config.resubmit_window)),
            remembered: BoundedMap::with_capacity(limits.remembered_requests),
            issued: vec![0; config.token_ranges.len()],
            waiting: VecDeque::new(),
            ahead: Ahead::default(),
            failed: false,
            config: Arc::new(config),
        })
    }

    /// A read handle for a shard; it sees every event as soon as it is applied.
    #[must_use]
    pub fn detokenizer(&self) -> Detokenizer {
        let counters = Arc::clone(&self.counters);
        let (sealer, keys) = (self.sealer.clone(), self.keys.clone());
        Detokenizer::new(self.table.shared(), counters, sealer, keys, self.config.amount_tolerance)
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
            remembered: self.remembered.len(),
        }
    }

    /// One step: decides, or applies what became durable. What is to be done stands at the end of `actions`.
    pub fn apply(&mut self, command: Command, now: Now, entropy: &mut Entropy, actions: &mut Vec<Action>) {
        match command {
            Command::Provision { call, request } => {
                let decided = self.provision(&request, now, entropy);
                self.carry_out(call, decided, now, actions);
            }
            Command::Move { call, request } => {
                let decided = self.decide_move(&request);
                self.carry_out(call, decided, now, actions);
            }
            Command::Get { call, requestor, reference } => {
                let found = self.owned(requestor, reference);
                actions.push(Action::Answer { call, answer: found.map(|record| TokenView::from(&record)) });
            }
            Command::Durable { events } => {
                let ready = self.waiting.drain(..events.min(self.waiting.len())).collect::<Vec<_>>();
                for waiting in ready {
                    let answer = self.settle(&waiting);
                    actions.push(Action::Answer { call: waiting.call, answer });
                }
            }
            Command::Refused { events } => {
                self.drop_newest(events, ProvisioningRefusal::Overloaded, actions);
            }
            Command::Failed => {
                self.failed = true;
                self.drop_newest(self.waiting.len(), ProvisioningRefusal::Unavailable, actions);
            }
        }
    }

    /// Applies an event of the log to a vault that is being filled.
    ///
    /// # Errors
    /// `Event` for bytes that are no event, or one that cannot follow what came before.
    pub fn replay_event(&mut self, entry: u64, at: Wall, bytes: &[u8]) -> Result<(), TspError> {
        let wrong = |reason| TspError::Event { entry, reason };
        let event = TokenEvent::decode(bytes).ok_or(wrong("cannot be read"))?;
        self.apply_event(&event, at).map_err(wrong)
    }

    /// Applies what an entry of the journal means to the vault: a token event, or the counter that a request took.
    ///
    /// # Errors
    /// `Event`, as `replay_event`.
    pub fn replay(&mut self, entry: &Entry) -> Result<(), TspError> {
        match &entry.body {
            Body::Token(bytes) => self.replay_event(entry.number.0, entry.wall_time, bytes),
            Body::Transaction(TransactionEntry::Request(request)) => {
                if let (Some(token), Some(counter)) = (&request.card.token, request.counter) {
                    self.counters.note(token.record, counter.atc);
                }
                Ok(())
            }
            Body::Transaction(_) | Body::CutOver(_) | Body::Operator(_) => Ok(()),
        }
    }

    fn carry_out(
        &mut self,
        call: CallId,
        decided: Result<Decision, ProvisioningRefusal>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        match decided {
            Ok(Decision::New(event)) => {
                self.look_ahead(&event);
                actions.push(Action::Append { at: now.wall, event: event.encode() });
                self.waiting.push_back(Waiting { call, event: *event, at: now.wall });
            }
            Ok(Decision::Again(view)) => actions.push(Action::Answer { call, answer: Ok(view) }),
            Err(refusal) => actions.push(Action::Answer { call, answer: Err(refusal) }),
        }
    }

    /// The answer to a request that came before; none for a new one.
    fn repeated(&self, cause: &Cause) -> Result<Option<TokenView>, ProvisioningRefusal> {
        if self.failed {
            return Err(ProvisioningRefusal::Unavailable);
        }
        let key = (cause.requestor, cause.request_id);
        if let Some(digest) = self.ahead.requests.get(&key) {
            let same = *digest == cause.body_digest;
            let in_flight = ProvisioningRefusal::RequestInFlight;
            return Err(if same { in_flight } else { ProvisioningRefusal::RequestIdReused });
        }
        match self.remembered.get(&key) {
            None => Ok(None),
            Some(before) if before.body_digest != cause.body_digest => {
                Err(ProvisioningRefusal::RequestIdReused)
            }
            Some(before) => {
                let record = self.table.record(before.record).ok_or(ProvisioningRefusal::Unavailable)?;
                let (lifecycle, changed_at) = (before.lifecycle, before.changed_at);
                Ok(Some(TokenView { lifecycle, changed_at, ..TokenView::from(&record) }))
            }
        }
    }

    fn provision(
        &mut self,
        request: &ProvisionRequest,
        now: Now,
        entropy: &mut Entropy,
    ) -> Result<Decision, ProvisioningRefusal> {
        let cause = request.cause(&self.indexer);
        if let Some(view) = self.repeated(&cause)? {
            return Ok(Decision::Again(view));
        }
        let config = Arc::clone(&self.config);
        let requestor =
            self.requestors.get(cause.requestor).cloned().ok_or(ProvisioningRefusal::UnknownRequestor)?;
        let today = YearMonth::of(now.wall);
        let pans = eligible(&config, request, today)?;
        requestor.assurance(request.assurance)?;
        self.check_room(&requestor)?;
        let range = self.range_for(&config, pans)?;
        let token = self.new_token(&config, range, entropy)?;
        let expiry = expiry(range, today).ok_or(ProvisioningRefusal::Unavailable)?;
        let par = self.par_for(request, pans, entropy)?;
        let issued = self.issue(request, &requestor, (token, expiry), par, now, entropy)?;
        Ok(Decision::New(Box::new(TokenEvent { cause, change: Change::Issued(Box::new(issued)) })))
    }

    fn check_room(&mut self, requestor: &TokenRequestor) -> Result<(), ProvisioningRefusal> {
        let next = self.next_record();
        let within = usize::try_from(next).is_ok_and(|next| next < self.table.capacity());
        let domain = Domain { requestor: requestor.id, controls: requestor.controls.clone() };
        let domain = self.table.intern(domain);
        (within && domain.is_some()).then_some(()).ok_or(ProvisioningRefusal::VaultFull)
    }

    fn next_record(&self) -> u64 {
        u64::try_from(self.table.len()).unwrap_or(u64::MAX).saturating_add(self.ahead.records)
    }

    /// The first range of the card's product that is not full.
    fn range_for<'a>(
        &self,
        config: &'a TspConfig,
        pans: &PanRange,
    ) -> Result<&'a TokenRange, ProvisioningRefusal> {
        let mut ranges = config.token_ranges.iter().enumerate();
        ranges
            .find(|(at, range)| range.product == pans.product && !is_full(range, self.issued_ahead(*at)))
            .map(|(_, range)| range)
            .ok_or(ProvisioningRefusal::TokenRangeFull)
    }

    fn issued_ahead(&self, range: usize) -> u64 {
        let waiting = self.ahead.issued.get(&range).copied().unwrap_or_default();
        self.issued.get(range).copied().unwrap_or_default().saturating_add(waiting)
    }

    fn new_token(
        &self,
        config: &TspConfig,
        range: &TokenRange,
        entropy: &mut Entropy,
    ) -> Result<Token, ProvisioningRefusal> {
        let taken =
            |token: &Token| self.ahead.tokens.contains(&token.number()) || self.table.has_token(token);
        draw_token(config, range, entropy, taken).map_err(|fault| match fault {
            super::generate::DrawError::RangeFull => ProvisioningRefusal::TokenRangeFull,
            super::generate::DrawError::Entropy(_) => ProvisioningRefusal::Unavailable,
        })
    }

    /// The PAR of the PAN's other tokens; else a new one, if we are its BIN controller; else the one supplied.
    fn par_for(
        &self,
        request: &ProvisionRequest,
        pans: &PanRange,
        entropy: &mut Entropy,
    ) -> Result<Option<Par>, ProvisioningRefusal> {
        let index = self.indexer.index(&request.pan);
        let known = self.table.par_of(&index).or_else(|| self.ahead.pars.get(&index).copied().flatten());
        match (known, &self.config.bin_controller) {
            (Some(par), _) => Ok(Some(par)),
            (None, Some(controller)) if pans.controlled => {
                draw_par(controller, entropy).map_err(|_| ProvisioningRefusal::Unavailable)
            }
            (None, _) => Ok(request.par),
        }
    }

    fn issue(
        &self,
        request: &ProvisionRequest,
        requestor: &TokenRequestor,
        (token, expiry): (Token, Expiry),
        par: Option<Par>,
        now: Now,
        entropy: &mut Entropy,
    ) -> Result<VaultRecord, ProvisioningRefusal> {
        let unavailable = ProvisioningRefusal::Unavailable;
        let (record, mapping_version) = (self.next_record(), 1);
        let card = CardData {
            pan: request.pan.clone(),
            expiry: Some(request.pan_expiry),
            sequence: request.sequence,
        };
        let aad = CardAad::vault(&token, record, mapping_version);
        let sealed = seal_card(&self.sealer, entropy, &aad, &card).map_err(|_| unavailable)?;
        let status = match requestor.activation {
            Activation::AtIssue => TokenStatus::Active,
            Activation::Confirmed => TokenStatus::Inactive,
        };
        Ok(VaultRecord {
            record,
            token,
            expiry,
            reference: draw_reference(entropy).map_err(|_| unavailable)?,
            par,
            requestor: requestor.id,
            assurance: requestor.assurance(request.assurance)?,
            location: request.location.unwrap_or(requestor.location),
            last4: request.pan.last4(),
            sealed,
            blind_index: self.indexer.index(&request.pan),
            mapping_version,
            controls: requestor.controls.clone(),
            lifecycle: Lifecycle::issued(status),
            issued_at: now.wall,
            changed_at: now.wall,
        })
    }

    fn decide_move(&self, request: &MoveRequest) -> Result<Decision, ProvisioningRefusal> {
        let cause = request.cause();
        if let Some(view) = self.repeated(&cause)? {
            return Ok(Decision::Again(view));
        }
        let found = self.owned(cause.requestor, request.reference)?;
        let before = self.ahead.lifecycles.get(&found.record).copied().unwrap_or(found.lifecycle);
        let lifecycle = match before.after(request.asked) {
            Moved::To(lifecycle) => lifecycle,
            Moved::Already => before,
            Moved::Illegal => return Err(ProvisioningRefusal::StatusDoesNotAllow),
        };
        let change = Change::Moved { record: found.record, asked: request.asked, lifecycle };
        Ok(Decision::New(Box::new(TokenEvent { cause, change })))
    }

    /// A token of this requestor. Somebody else's is as unknown as none.
    fn owned(
        &self,
        requestor: TokenRequestorId,
        reference: TokenReferenceId,
    ) -> Result<VaultRecord, ProvisioningRefusal> {
        let record = self.table.by_reference(reference).and_then(|record| self.table.record(record));
        record.filter(|record| record.requestor == requestor).ok_or(ProvisioningRefusal::UnknownToken)
    }

    fn look_ahead(&mut self, event: &TokenEvent) {
        let cause = &event.cause;
        self.ahead.requests.insert((cause.requestor, cause.request_id), cause.body_digest);
        match &event.change {
            Change::Issued(record) => {
                self.ahead.tokens.insert(record.token.number());
                self.ahead.pars.insert(record.blind_index, record.par);
                self.ahead.records += 1;
                if let Some(range) = self.range_of(&record.token) {
                    *self.ahead.issued.entry(range).or_default() += 1;
                }
            }
            Change::Moved { record, lifecycle, .. } => {
                self.ahead.lifecycles.insert(*record, *lifecycle);
            }
        }
    }

    /// Applies what is durable now, and says what its caller is told.
    fn settle(&mut self, waiting: &Waiting) -> Answer {
        let cause = &waiting.event.cause;
        self.ahead.requests.remove(&(cause.requestor, cause.request_id));
        match &waiting.event.change {
            Change::Issued(record) => {
                self.ahead.tokens.remove(&record.token.number());
                self.ahead.pars.remove(&record.blind_index);
                self.ahead.records = self.ahead.records.saturating_sub(1);
                let range = self.range_of(&record.token);
                if let Some(count) = range.and_then(|range| self.ahead.issued.get_mut(&range)) {
                    *count = count.saturating_sub(1);
                }
            }
            Change::Moved { record, lifecycle, .. } => {
                if self.ahead.lifecycles.get(record) == Some(lifecycle) {
                    self.ahead.lifecycles.remove(record);
                }
            }
        }
        // Decisions are checked before they are appended; one that cannot be applied means that log and table differ.
        let applied = self.apply_event(&waiting.event, waiting.at);
        self.failed |= applied.is_err();
        let record = self.table.record(waiting.event.change.record());
        record
            .filter(|_| applied.is_ok())
            .map(|r| TokenView::from(&r))
            .ok_or(ProvisioningRefusal::Unavailable)
    }

    fn drop_newest(&mut self, events: usize, refusal: ProvisioningRefusal, actions: &mut Vec<Action>) {
        let dropped = self.waiting.split_off(self.waiting.len().saturating_sub(events));
        actions.extend(
            dropped.iter().map(|waiting| Action::Answer { call: waiting.call, answer: Err(refusal) }),
        );
        self.ahead = Ahead::default();
        let left = std::mem::take(&mut self.waiting);
        left.iter().for_each(|waiting| self.look_ahead(&waiting.event));
        self.waiting = left;
    }

    /// The only way in which the vault's state changes.
    fn apply_event(&mut self, event: &TokenEvent, at: Wall) -> Result<(), &'static str> {
        let (lifecycle, changed_at) = match &event.change {
            Change::Issued(record) => {
                self.add(record)?;
                (record.lifecycle, record.changed_at)
            }
            Change::Moved { record, lifecycle, .. } => (*lifecycle, self.move_to(*record, *lifecycle, at)?),
        };
        let (key, record) = ((event.cause.requestor, event.cause.request_id), event.change.record());
        let body_digest = event.cause.body_digest;
        self.remembered.insert(key, Remembered { body_digest, record, lifecycle, changed_at });
        Ok(())
    }

    /// Puts a token into the table.
    pub(super) fn add(&mut self, record: &VaultRecord) -> Result<(), &'static str> {
        let range = self.range_of(&record.token).ok_or("the token lies in no configured token range")?;
        self.table.insert(record).map_err(|fault| match fault {
            TableFault::Full => "the vault is full: raise its capacity",
            TableFault::Taken => "the token or its place is in use",
        })?;
        if let Some(count) = self.issued.get_mut(range) {
            *count += 1;
        }
        Ok(())
    }

    /// Gives a token its new status; when it changed last.
    fn move_to(&mut self, record: u64, lifecycle: Lifecycle, at: Wall) -> Result<Wall, &'static str> {
        let before = self.table.record(record).ok_or("no such record")?;
        if before.lifecycle == lifecycle {
            return Ok(before.changed_at);
        }
        if before.lifecycle.version.checked_add(1) != Some(lifecycle.version) {
            return Err("a change of status is missing before it");
        }
        self.table.set_lifecycle(record, lifecycle, at).then_some(at).ok_or("the record cannot be changed")
    }

    fn range_of(&self, token: &Token) -> Option<usize> {
        self.config.token_ranges.iter().position(|range| range.covers(token.as_bytes()))
    }
}

/// The range of a card that may have a token now.
fn eligible<'a>(
    config: &'a TspConfig,
    request: &ProvisionRequest,
    today: YearMonth,
) -> Result<&'a PanRange, ProvisioningRefusal> {
    if !luhn_valid(request.pan.expose_digits()) {
        return Err(ProvisioningRefusal::CardNotValid);
    }
    let pans = config.pan_range(&request.pan).ok_or(ProvisioningRefusal::CardNotEligible)?;
    if request.pan_expiry.is_past(today) {
        return Err(ProvisioningRefusal::CardExpired);
    }
    Ok(pans)
}

#[cfg(test)]
impl Tsp {
    /// Puts a configuration in place that a check would refuse, as one with a range of ten numbers.
    pub(super) fn narrow_for_test(&mut self, config: TspConfig) {
        self.config = Arc::new(config);
    }
}
