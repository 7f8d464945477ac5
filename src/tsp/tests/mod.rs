//! Tests of the vault as a whole, over its state machine: `Bench` is a vault, its log, and a hand on the clock.

mod card_codes;
mod cards;
mod checkpoint;
mod disclosure;
mod idv;
mod initiation;
mod keys;
mod model;
mod notices;
mod own_controls;
mod owners;
mod payments;
mod properties;
mod provisioning;
mod registry;
mod remote;
mod repeats;
mod service;
mod sourced;

use crate::crypto::SecurityModule;
use crate::stdx::clock::{Now, Wall};
use crate::stdx::random::Entropy;
use crate::vocab::{
    ChipPayment, EntryMode, Expiry, LinkId, MerchantId, Pan, TerminalId, Token, TokenReferenceId,
    TokenRequestorId, TransactionId,
};

use super::*;

/// 2026-11-22.
pub(super) const TODAY: Wall = Wall(1_795_305_600_000);

pub(super) const FIRST: &[u8] = b"00000000001";
/// Its tokens are bound to one merchant.
pub(super) const SECOND: &[u8] = b"00000000002";

pub(super) struct Bench {
    pub(super) tsp: Tsp,
    pub(super) config: TspConfig,
    pub(super) log: Vec<(Wall, Vec<u8>)>,
    pub(super) now: Now,
    entropy: Entropy,
    waiting: usize,
    calls: u64,
    /// Issuers that are to be asked.
    pub(super) asked: Vec<(CallId, Enquiry)>,
    /// Codes that are to be brought.
    pub(super) codes: Vec<CodeDelivery>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(super) fn with(change: impl FnOnce(&mut TspConfig)) -> Self {
        let mut config = config::sample();
        change(&mut config);
        Self {
            tsp: empty(&config),
            config,
            log: Vec::new(),
            now: Now { wall: TODAY, ..Now::default() },
            entropy: Entropy::seeded(1),
            waiting: 0,
            calls: 0,
            asked: Vec::new(),
            codes: Vec::new(),
        }
    }

    /// Hands a command over; what it appends goes into the log. Gives the answers.
    pub(super) fn apply(&mut self, command: Command) -> Vec<(CallId, Answer)> {
        let mut actions = Vec::new();
        self.tsp.apply(command, self.now, &mut self.entropy, &mut actions);
        let mut answers = Vec::new();
        for action in actions {
            match action {
                Action::Append { at, event } => {
                    self.log.push((at, event));
                    self.waiting += 1;
                }
                Action::Answer { call, answer } => answers.push((call, answer)),
                Action::AskIssuer { call, enquiry } => self.asked.push((call, *enquiry)),
                Action::SendCode(code) => self.codes.push(*code),
            }
        }
        answers
    }

    /// All that waits is on disk.
    pub(super) fn sync(&mut self) -> Vec<(CallId, Answer)> {
        let events = std::mem::take(&mut self.waiting);
        self.apply(Command::Durable { events })
    }

    /// The oldest that wait are on disk.
    pub(super) fn durable(&mut self, events: usize) -> Vec<(CallId, Answer)> {
        self.waiting -= events;
        self.apply(Command::Durable { events })
    }

    pub(super) fn call(&mut self) -> CallId {
        self.calls += 1;
        CallId(self.calls)
    }

    /// A command from question to answer.
    pub(super) fn ask(&mut self, command: impl FnOnce(CallId) -> Command) -> Answer {
        let call = self.call();
        let mut answers = self.apply(command(call));
        answers.extend(self.sync());
        let of_call = answers.into_iter().find(|(answered, _)| *answered == call);
        of_call.expect("every call is answered").1
    }

    pub(super) fn provision(&mut self, request: ProvisionRequest) -> TokenAnswer {
        of_token(self.ask(|call| Command::Provision { call, request: Box::new(request) }))
    }

    pub(super) fn move_to(
        &mut self,
        requestor: &[u8],
        id: &str,
        reference: TokenReferenceId,
        asked: Move,
    ) -> TokenAnswer {
        self.move_by(asker(requestor, id), reference, asked)
    }

    pub(super) fn move_by(&mut self, asker: Asker, reference: TokenReferenceId, asked: Move) -> TokenAnswer {
        let request = MoveRequest { asker, reference, asked, version: None };
        of_token(self.ask(|call| Command::Move { call, request }))
    }

    pub(super) fn get(&mut self, requestor: &[u8], reference: TokenReferenceId) -> TokenAnswer {
        let principal = Principal::Requestor(TokenRequestorId::parse(requestor).unwrap());
        of_token(self.ask(|call| Command::Get { call, principal, reference }))
    }

    /// What a crash leaves: a vault made from the first `entries` of the log.
    pub(super) fn recovered(&self, entries: usize) -> Tsp {
        let mut tsp = empty(&self.config);
        for (entry, (at, bytes)) in self.log.iter().take(entries).enumerate() {
            tsp.replay_event(entry as u64 + 1, *at, bytes).unwrap();
        }
        tsp
    }
}

pub(super) type TokenAnswer = Result<TokenView, ProvisioningRefusal>;

pub(super) fn of_token(answer: Answer) -> TokenAnswer {
    answer.map(|told| told.token().expect("it is about a token"))
}

pub(super) fn empty(config: &TspConfig) -> Tsp {
    let module = SecurityModule::sample().unwrap();
    Tsp::new(config.clone(), &module).unwrap()
}

pub(super) fn asker(requestor: &[u8], id: &str) -> Asker {
    Asker::requestor(TokenRequestorId::parse(requestor).unwrap(), RequestId::parse(id.as_bytes()).unwrap())
}

pub(super) fn wanted(requestor: &[u8], id: &str, pan: &[u8]) -> ProvisionRequest {
    let (pan, expiry) = (Pan::parse(pan).unwrap(), Expiry::parse(b"2712").unwrap());
    ProvisionRequest::of(asker(requestor, id), pan, expiry)
}

/// A tap of a token at the shop to which the second requestor's tokens are bound.
pub(super) fn tap(token: &TokenView, atc: u16) -> DetokenizeRequest {
    DetokenizeRequest {
        token: token.token,
        expiry: Some(token.expiry),
        requestor: None,
        entry_mode: Some(EntryMode::CONTACTLESS_CHIP),
        acquirer: LinkId(1),
        merchant: Some(MerchantId::parse(b"SHOP1          ").unwrap()),
        category: None,
        country: None,
        transaction: TransactionId(u64::from(atc)),
        terminal: TerminalId::parse(b"TERM0001").ok(),
        amount: None,
        chip: Some(signed(&token.token, |chip| chip.counter = atc.to_be_bytes())),
        remote: None,
        initiation: None,
        purpose: Purpose::Purchase,
    }
}

/// What the token's phone says of a payment of one euro, but for a change. A token of a range without keys has a
/// phone that cannot sign.
pub(super) fn signed(token: &Token, change: impl FnOnce(&mut ChipPayment)) -> ChipPayment {
    let mut chip = ChipPayment::sample();
    change(&mut chip);
    let keys = TokenKeys::resolve(&config::sample(), &SecurityModule::sample().unwrap()).unwrap();
    if let Some(key) = keys.card_key(token) {
        key.sign(&mut chip);
    }
    chip
}
