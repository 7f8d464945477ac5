//! The vault against a naive model of it, under random commands, late syncs and crashes at every entry.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::vocab::{Par, Text, Token, TokenAssuranceMethod};

/// What is asked, in small numbers so that things collide.
#[derive(Debug, Clone)]
enum Step {
    Provision { requestor: usize, id: u8, card: usize },
    Move { requestor: usize, id: u8, token: usize, asked: Move },
    Update { requestor: usize, id: u8, token: usize, assurance: &'static [u8; 2] },
    Card { id: u8, card: usize, event: CardEvent },
    Sync,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let suspender = prop_oneof![
        Just(Suspender::TokenRequestor),
        Just(Suspender::Cardholder),
        Just(Suspender::MobilePinLocked)
    ];
    let asked = prop_oneof![
        2 => suspender.clone().prop_map(Move::Suspend),
        2 => suspender.prop_map(Move::Resume),
        1 => Just(Move::Unlink),
        1 => Just(Move::Activate),
    ];
    let step = prop_oneof![
        4 => (0..2_usize, 0..12_u8, 0..3_usize)
            .prop_map(|(requestor, id, card)| Step::Provision { requestor, id, card }),
        5 => (0..2_usize, 0..40_u8, 0..5_usize, asked)
            .prop_map(|(requestor, id, token, asked)| Step::Move { requestor, id, token, asked }),
        1 => (0..2_usize, 0..40_u8, 0..5_usize, prop_oneof![Just(b"00"), Just(b"01")])
            .prop_map(|(requestor, id, token, assurance)| Step::Update { requestor, id, token, assurance }),
        2 => (0..20_u8, 0..3_usize, proptest::sample::select(CardEvent::ALL))
            .prop_map(|(id, card, event)| Step::Card { id, card, event }),
        2 => Just(Step::Sync),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..60)
}

const REQUESTORS: [&[u8]; 2] = [FIRST, SECOND];
/// The first two are one issuer's, and of one product.
const CARDS: [&[u8]; 3] = [b"4761739001010119", b"4761730000000011", b"6228480000000000026"];
/// Which card takes the place of which.
const SUCCESSORS: [usize; 3] = [1, 0, 0];
/// Who speaks for the cards, beside the requestors.
const OPERATOR: usize = 2;

/// One token as the model has it: nothing but sets and flags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ModelToken {
    requestor: usize,
    card: usize,
    gone: bool,
    suspenders: std::collections::BTreeSet<u8>,
    assurance: [u8; 2],
    version: u32,
}

impl ModelToken {
    /// False for a move that is not allowed.
    fn ask(&mut self, asked: Move) -> bool {
        let before = self.clone();
        let held = !self.suspenders.is_empty();
        match asked {
            Move::Unlink => {
                self.gone = true;
                self.suspenders.clear();
            }
            _ if self.gone => return false,
            Move::Activate if held => return false,
            Move::Activate => (),
            Move::Suspend(by) => drop(self.suspenders.insert(by.code())),
            Move::Resume(by) => drop(self.suspenders.remove(&by.code())),
        }
        self.version += u32::from(before != *self);
        true
    }

    fn card(&mut self, event: CardEvent) {
        let issuer = Suspender::Issuer.code();
        let changes = match event {
            CardEvent::NewExpiry => true,
            CardEvent::NewPan => {
                self.card = SUCCESSORS[self.card];
                true
            }
            _ if self.gone => false,
            CardEvent::Lost | CardEvent::Stolen => self.suspenders.insert(issuer),
            CardEvent::Found => self.suspenders.remove(&issuer),
            CardEvent::Closed => {
                self.gone = true;
                self.suspenders.clear();
                true
            }
        };
        self.version += u32::from(changes);
    }

    fn status(&self) -> TokenStatus {
        match (self.gone, self.suspenders.is_empty()) {
            (true, _) => TokenStatus::Deactivated,
            (false, true) => TokenStatus::Active,
            (false, false) => TokenStatus::Suspended,
        }
    }
}

/// What was answered to a request that is durable: its body, and the answer.
type Answered = BTreeMap<(usize, String), (String, Told)>;

#[derive(Clone, Default)]
struct Model {
    tokens: Vec<ModelToken>,
    cards: BTreeMap<usize, CardStanding>,
}

/// A request on its way, with what the model expects of it.
struct InFlight {
    call: CallId,
    key: (usize, String),
    body: String,
    expected: Expected,
}

#[derive(Debug, Clone, Copy)]
enum Expected {
    Token { requestor: usize, card: usize },
    Moved { token: usize, asked: Move },
    Updated { token: usize, assurance: [u8; 2] },
    Card { card: usize, event: CardEvent },
}

impl Model {
    /// What becomes of it; what it is refused with is no change.
    fn apply(&mut self, who: usize, expected: Expected) -> Result<(), ProvisioningRefusal> {
        use ProvisioningRefusal as R;
        match expected {
            Expected::Token { card, .. } if self.cards.contains_key(&card) => return Err(R::CardBlocked),
            Expected::Token { requestor, card } => self.tokens.push(ModelToken {
                requestor,
                card,
                assurance: *b"00",
                version: 1,
                ..ModelToken::default()
            }),
            Expected::Moved { token, .. } | Expected::Updated { token, .. }
                if self.tokens[token].requestor != who =>
            {
                return Err(R::UnknownToken);
            }
            Expected::Moved { token, asked } => {
                if asked == Move::Activate && self.cards.contains_key(&self.tokens[token].card) {
                    return Err(R::CardBlocked);
                }
                if !self.tokens[token].ask(asked) {
                    return Err(R::StatusDoesNotAllow);
                }
            }
            Expected::Updated { token, assurance } => {
                let token = &mut self.tokens[token];
                if token.gone {
                    return Err(R::StatusDoesNotAllow);
                }
                token.version += u32::from(token.assurance != assurance);
                token.assurance = assurance;
            }
            Expected::Card { card, event } => self.card(card, event)?,
        }
        Ok(())
    }

    fn card(&mut self, card: usize, event: CardEvent) -> Result<(), ProvisioningRefusal> {
        use ProvisioningRefusal as R;
        let standing = self.cards.get(&card).copied();
        let for_good = matches!(standing, Some(CardStanding::Closed | CardStanding::Replaced));
        if for_good && event != CardEvent::Closed {
            return Err(R::CardBlocked);
        }
        let ends = matches!(event, CardEvent::Lost | CardEvent::Stolen | CardEvent::Closed);
        let found = event == CardEvent::Found && standing.is_some();
        if !self.tokens.iter().any(|token| token.card == card) && !ends && !found {
            return Err(R::UnknownCard);
        }
        if event == CardEvent::NewPan {
            if card == 2 {
                return Err(R::CardNotEligible);
            }
            if self.cards.contains_key(&SUCCESSORS[card]) {
                return Err(R::CardBlocked);
            }
        }
        self.tokens.iter_mut().filter(|token| token.card == card).for_each(|token| token.card(event));
        match event {
            CardEvent::Found => drop(self.cards.remove(&card)),
            event => drop(event.standing().map(|standing| self.cards.insert(card, standing))),
        }
        Ok(())
    }
}

/// The vault, the model, and what both were asked.
struct Trial {
    bench: Bench,
    model: Model,
    /// Tokens as they were issued, in the model's order.
    issued: Vec<TokenView>,
    answered: Answered,
    in_flight: Vec<InFlight>,
}

fn run(steps: Vec<Step>) {
    let mut trial = Trial {
        bench: Bench::new(),
        model: Model::default(),
        issued: Vec::new(),
        answered: Answered::new(),
        in_flight: Vec::new(),
    };
    steps.into_iter().for_each(|step| trial.step(step));
    trial.finish();
    crash_everywhere(&trial.bench);
}

impl Trial {
    fn step(&mut self, step: Step) {
        match step {
            Step::Sync => self.finish(),
            Step::Crash => {
                // Not one byte of what was in flight reached the disk.
                let durable = self.bench.log.len() - self.bench.waiting;
                self.bench.log.truncate(durable);
                self.bench.waiting = 0;
                self.bench.tsp = self.bench.recovered(durable);
                self.in_flight.clear();
                self.check();
            }
            Step::Provision { requestor, id, card } => {
                let key = (requestor, format!("p{id}"));
                let request = Box::new(wanted(REQUESTORS[requestor], &key.1, CARDS[card]));
                let expected = Expected::Token { requestor, card };
                self.ask(key, expected, |call| Command::Provision { call, request });
            }
            Step::Move { requestor, id, token, asked } => {
                let Some(view) = self.issued.get(token) else { return };
                let key = (requestor, format!("m{id}"));
                let asker = asker(REQUESTORS[requestor], &key.1);
                let request = MoveRequest { asker, reference: view.reference, asked, version: None };
                self.ask(key, Expected::Moved { token, asked }, |call| Command::Move { call, request });
            }
            Step::Update { requestor, id, token, assurance } => {
                let Some(view) = self.issued.get(token) else { return };
                let key = (requestor, format!("m{id}"));
                let (asker, reference) = (asker(REQUESTORS[requestor], &key.1), view.reference);
                let claimed = TokenAssuranceMethod::parse(assurance).ok();
                let request =
                    UpdateRequest { asker, reference, version: None, renew: false, assurance: claimed };
                let expected = Expected::Updated { token, assurance: *assurance };
                self.ask(key, expected, |call| Command::Update { call, request });
            }
            Step::Card { id, card, event } => {
                let key = (OPERATOR, format!("c{id}"));
                let request = Box::new(card_request(&key.1, CARDS[card], event, CARDS[SUCCESSORS[card]]));
                self.ask(key, Expected::Card { card, event }, |call| Command::Card { call, request });
            }
        }
    }

    fn ask(&mut self, key: (usize, String), expected: Expected, command: impl FnOnce(CallId) -> Command) {
        use ProvisioningRefusal as R;
        let (call, body) = (self.bench.call(), format!("{expected:?}"));
        let told = self.bench.apply(command(call)).into_iter().next().map(|(_, answer)| answer);
        if let Some(first) = self.in_flight.iter().find(|first| first.key == key) {
            let refusal = if first.body == body { R::RequestInFlight } else { R::RequestIdReused };
            return assert_eq!(told, Some(Err(refusal)));
        }
        if let Some((first, answer)) = self.answered.get(&key) {
            let again = if *first == body { Ok(answer.clone()) } else { Err(R::RequestIdReused) };
            return assert_eq!(told, Some(again));
        }
        // Decisions are made on what waits, too.
        let mut ahead = self.model.clone();
        for waiting in &self.in_flight {
            ahead.apply(waiting.key.0, waiting.expected).unwrap();
        }
        if let Err(refusal) = ahead.apply(key.0, expected) {
            return assert_eq!(told, Some(Err(refusal)), "{expected:?}");
        }
        assert_eq!(told, None, "it waits for the disk: {expected:?}");
        self.in_flight.push(InFlight { call, key, body, expected });
    }

    /// Everything in flight becomes durable, in order.
    fn finish(&mut self) {
        let answers = self.bench.sync();
        assert_eq!(answers.len(), self.in_flight.len());
        for (waiting, (call, answer)) in self.in_flight.drain(..).zip(answers) {
            assert_eq!(call, waiting.call, "answers come in the order of entries");
            self.model.apply(waiting.key.0, waiting.expected).unwrap();
            let told = answer.unwrap();
            if let Some(view) = told.clone().token() {
                if let Expected::Token { .. } = waiting.expected {
                    self.issued.push(view);
                }
                let at = self.issued.iter().position(|issued| issued.token == view.token).unwrap();
                let expected = &self.model.tokens[at];
                assert_eq!(view.lifecycle.status, expected.status());
                assert_eq!(view.lifecycle.version, expected.version);
            }
            self.answered.insert(waiting.key, (waiting.body, told));
        }
        self.check();
    }

    /// Vault and model agree, for requestors and for payments.
    fn check(&mut self) {
        assert_eq!(self.bench.tsp.tokens(), self.model.tokens.len());
        let mut pars: BTreeMap<Vec<u8>, Option<Par>> = BTreeMap::new();
        let mut numbers: Vec<Token> = Vec::new();
        for (issued, expected) in self.issued.iter().zip(&self.model.tokens) {
            let view = self.bench.get(REQUESTORS[expected.requestor], issued.reference).unwrap();
            assert_eq!((view.token, view.expiry), (issued.token, issued.expiry));
            assert_eq!(view.lifecycle.status, expected.status());
            assert_eq!(view.assurance.digits(), expected.assurance);
            assert_eq!(
                view.lifecycle.suspenders.iter().map(Suspender::code).collect::<Vec<_>>(),
                expected.suspenders.iter().copied().collect::<Vec<_>>()
            );
            let mut out = Vec::new();
            let past = DetokenizeRequest { purpose: Purpose::PastEvent, ..tap(issued, 1) };
            let sale =
                DetokenizeRequest { entry_mode: EntryMode::parse(b"10").ok(), chip: None, ..tap(issued, 1) };
            self.bench.tsp.detokenizer().detokenize_batch(self.bench.now, &[past, sale], &mut out);
            let card = &out[0].as_ref().unwrap().card;
            assert_eq!(card.pan.expose_digits(), CARDS[expected.card]);
            assert_eq!(card.pan.last4(), view.last4);
            assert_eq!(out[1].is_ok(), expected.status() == TokenStatus::Active);
            let known = pars.entry(card.pan.expose_digits().to_vec()).or_insert(view.par);
            assert_eq!(*known, view.par, "one PAN, one PAR");
            assert!(!numbers.contains(&view.token), "no number twice");
            numbers.push(view.token);
        }
    }
}

pub(super) fn card_request(id: &str, pan: &[u8], event: CardEvent, successor: &[u8]) -> CardRequest {
    let operator = Principal::Operator(Text::parse("operator", b"desk").unwrap());
    let id = RequestId::parse(id.as_bytes()).unwrap();
    let (expiry, sequence) = (Expiry::parse(b"3006").unwrap(), None);
    let news = match event {
        CardEvent::NewExpiry => CardNews::NewExpiry { expiry, sequence },
        CardEvent::NewPan => {
            let pan = Pan::parse(successor).unwrap();
            CardNews::NewPan { pan, expiry, sequence, keep_par: None, par: None }
        }
        CardEvent::Lost => CardNews::Lost,
        CardEvent::Stolen => CardNews::Stolen,
        CardEvent::Found => CardNews::Found,
        CardEvent::Closed => CardNews::Closed,
    };
    let asker = Asker::new(operator, Actor::Operator, id);
    CardRequest { asker, pan: Pan::parse(pan).unwrap(), news }
}

/// A vault made from any prefix of the log is the one that was there when that prefix was all.
fn crash_everywhere(bench: &Bench) {
    let mut grown = empty(&bench.config);
    for (entries, (at, bytes)) in bench.log.iter().enumerate() {
        grown.replay_event(entries as u64, *at, bytes).unwrap();
        let recovered = bench.recovered(entries + 1);
        assert_eq!(snapshot(&recovered), snapshot(&grown), "entry {entries}");
    }
    assert_eq!(snapshot(&grown), snapshot(&bench.tsp));
}

pub(super) fn snapshot(tsp: &Tsp) -> (Vec<VaultRecord>, Vec<String>) {
    let records = (0..tsp.tokens() as u64).map(|record| tsp.table.record(record).unwrap()).collect();
    let remembered = tsp.remembered.iter().map(|entry| format!("{entry:?}")).collect();
    (records, remembered)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_vault_is_what_the_model_says(steps in steps()) {
        run(steps);
    }
}
