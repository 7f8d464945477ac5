//! The vault against a naive model of it, under random commands, late syncs and crashes at every entry.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::vocab::{Par, Token};

/// What is asked, in small numbers so that things collide.
#[derive(Debug, Clone)]
enum Step {
    Provision { requestor: usize, id: u8, card: usize },
    Move { requestor: usize, id: u8, token: usize, asked: Move },
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
        3 => (0..2_usize, 0..8_u8, 0..3_usize)
            .prop_map(|(requestor, id, card)| Step::Provision { requestor, id, card }),
        5 => (0..2_usize, 0..40_u8, 0..5_usize, asked)
            .prop_map(|(requestor, id, token, asked)| Step::Move { requestor, id, token, asked }),
        2 => Just(Step::Sync),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..60)
}

const REQUESTORS: [&[u8]; 2] = [FIRST, SECOND];
const CARDS: [&[u8]; 3] = [b"4761739001010119", b"4761730000000011", b"6228480000000000026"];

/// One token as the model has it: nothing but a set of suspenders and two flags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ModelToken {
    requestor: usize,
    gone: bool,
    suspenders: std::collections::BTreeSet<u8>,
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

    fn status(&self) -> TokenStatus {
        match (self.gone, self.suspenders.is_empty()) {
            (true, _) => TokenStatus::Deactivated,
            (false, true) => TokenStatus::Active,
            (false, false) => TokenStatus::Suspended,
        }
    }
}

/// What was answered to a request that is durable: its body, and the answer.
type Answered = BTreeMap<(usize, String), (String, TokenView)>;

#[derive(Default)]
struct Model {
    tokens: Vec<(TokenView, ModelToken)>,
    answered: Answered,
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
}

fn run(steps: Vec<Step>) {
    let mut bench = Bench::new();
    let mut model = Model::default();
    // The model with everything in flight applied, for decisions.
    let mut in_flight: Vec<InFlight> = Vec::new();
    for step in steps {
        match step {
            Step::Sync => finish(&mut bench, &mut model, &mut in_flight),
            Step::Crash => {
                // Not one byte of what was in flight reached the disk.
                let durable = bench.log.len() - bench.waiting;
                bench.log.truncate(durable);
                bench.waiting = 0;
                bench.tsp = bench.recovered(durable);
                in_flight.clear();
                check(&mut bench, &model);
            }
            Step::Provision { requestor, id, card } => {
                let (key, body) = ((requestor, format!("p{id}")), format!("provision {card}"));
                let expected = Expected::Token { requestor, card };
                let request = Box::new(wanted(REQUESTORS[requestor], &key.1, CARDS[card]));
                let command = |call| Command::Provision { call, request };
                ask(&mut bench, &model, &mut in_flight, key, body, expected, command);
            }
            Step::Move { requestor, id, token, asked } => {
                let Some((view, _)) = model.tokens.get(token) else { continue };
                let (key, body) = ((requestor, format!("m{id}")), format!("{token} {asked:?}"));
                let asker = asker(REQUESTORS[requestor], &key.1);
                let request = MoveRequest { asker, reference: view.reference, asked, version: None };
                let expected = Expected::Moved { token, asked };
                ask(&mut bench, &model, &mut in_flight, key, body, expected, |call| Command::Move {
                    call,
                    request,
                });
            }
        }
    }
    finish(&mut bench, &mut model, &mut in_flight);
    check(&mut bench, &model);
    crash_everywhere(&bench);
}

fn ask(
    bench: &mut Bench,
    model: &Model,
    in_flight: &mut Vec<InFlight>,
    key: (usize, String),
    body: String,
    expected: Expected,
    command: impl FnOnce(CallId) -> Command,
) {
    use ProvisioningRefusal as R;
    let call = bench.call();
    let answers = bench.apply(command(call));
    let told = answers.into_iter().next().map(|(_, answer)| of_token(answer));
    if let Some(first) = in_flight.iter().find(|first| first.key == key) {
        let refusal = if first.body == body { R::RequestInFlight } else { R::RequestIdReused };
        return assert_eq!(told, Some(Err(refusal)));
    }
    if let Some((first, answer)) = model.answered.get(&key) {
        let again = if *first == body { Ok(*answer) } else { Err(R::RequestIdReused) };
        return assert_eq!(told, Some(again));
    }
    if let Expected::Moved { token, asked } = expected {
        let mut ahead = model.tokens[token].1.clone();
        for waiting in in_flight.iter() {
            match waiting.expected {
                Expected::Moved { token: other, asked } if other == token => drop(ahead.ask(asked)),
                _ => (),
            }
        }
        if ahead.requestor != key.0 {
            return assert_eq!(told, Some(Err(R::UnknownToken)));
        }
        if !ahead.ask(asked) {
            return assert_eq!(told, Some(Err(R::StatusDoesNotAllow)));
        }
    }
    assert_eq!(told, None, "it waits for the disk");
    in_flight.push(InFlight { call, key, body, expected });
}

/// Everything in flight becomes durable, in order.
fn finish(bench: &mut Bench, model: &mut Model, in_flight: &mut Vec<InFlight>) {
    let answers = bench.sync();
    assert_eq!(answers.len(), in_flight.len());
    for (waiting, (call, answer)) in in_flight.drain(..).zip(answers) {
        assert_eq!(call, waiting.call, "answers come in the order of entries");
        let view = of_token(answer).unwrap();
        match waiting.expected {
            Expected::Token { requestor, card } => {
                assert_eq!(view.last4.as_bytes(), &CARDS[card][CARDS[card].len() - 4..]);
                model.tokens.push((view, ModelToken { requestor, version: 1, ..ModelToken::default() }));
            }
            Expected::Moved { token, asked } => {
                let (_, expected) = &mut model.tokens[token];
                assert!(expected.ask(asked));
                assert_eq!(view.lifecycle.status, expected.status());
                assert_eq!(view.lifecycle.version, expected.version);
            }
        }
        model.answered.insert(waiting.key, (waiting.body, view));
    }
    check(bench, model);
}

/// Vault and model agree, for requestors and for payments.
fn check(bench: &mut Bench, model: &Model) {
    assert_eq!(bench.tsp.tokens(), model.tokens.len());
    let mut pars: BTreeMap<Vec<u8>, Option<Par>> = BTreeMap::new();
    let mut numbers: Vec<Token> = Vec::new();
    for (issued, expected) in &model.tokens {
        let view = bench.get(REQUESTORS[expected.requestor], issued.reference).unwrap();
        assert_eq!((view.token, view.expiry, view.par), (issued.token, issued.expiry, issued.par));
        assert_eq!(view.lifecycle.status, expected.status());
        assert_eq!(
            view.lifecycle.suspenders.iter().map(Suspender::code).collect::<Vec<_>>(),
            expected.suspenders.iter().copied().collect::<Vec<_>>()
        );
        let mut out = Vec::new();
        let past = DetokenizeRequest { purpose: Purpose::PastEvent, ..tap(issued, 1) };
        let sale =
            DetokenizeRequest { entry_mode: EntryMode::parse(b"10").ok(), chip: None, ..tap(issued, 1) };
        bench.tsp.detokenizer().detokenize_batch(bench.now, &[past, sale], &mut out);
        let card = &out[0].as_ref().unwrap().card;
        assert_eq!(card.pan.last4(), issued.last4);
        assert_eq!(out[1].is_ok(), expected.status() == TokenStatus::Active);
        let known = pars.entry(card.pan.expose_digits().to_vec()).or_insert(view.par);
        assert_eq!(*known, view.par, "one PAN, one PAR");
        assert!(!numbers.contains(&view.token), "no number twice");
        numbers.push(view.token);
    }
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
