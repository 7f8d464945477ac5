//! The same request hears the same, to the last member: whatever became meanwhile of its token, its card and its
//! requestor, and whenever the process died.

use super::checkpoint::{restored, token_entries};
use super::idv::asking;
use super::model::card_request;
use super::*;
use crate::crypto::MessageKeys;
use crate::journal::CheckpointKind;
use crate::vocab::{Amount, Currency, Initiator, Text, TokenAssuranceMethod};

const CREDIT: &[u8] = b"4761739001010119";
const RENEWED: &[u8] = b"4761730000000011";

/// A request that can come again.
type Request = Box<dyn Fn(CallId) -> Command>;

/// What was asked, and what was heard.
struct Heard {
    bench: Bench,
    all: Vec<(Request, Answer)>,
}

impl Heard {
    fn ask(&mut self, request: impl Fn(CallId) -> Command + 'static) {
        let answer = self.bench.ask(&request);
        assert!(answer.is_ok(), "{answer:?}");
        self.all.push((Box::new(request), answer));
    }

    /// Each of them again.
    fn again(&mut self, when: &str) {
        let entries = self.bench.log.len();
        for (at, (request, first)) in self.all.iter().enumerate() {
            assert_eq!(self.bench.ask(request), *first, "request {at}, {when}");
        }
        assert_eq!(self.bench.log.len(), entries, "{when}: nothing new happened");
    }
}

fn desk(id: &str) -> Asker {
    let desk = Principal::Operator(Text::parse("operator", b"desk").unwrap());
    Asker::new(desk, Actor::Operator, RequestId::parse(id.as_bytes()).unwrap())
}

fn registered(name: &[u8]) -> Box<TokenRequestor> {
    let requestor = config::sample().requestors[0].clone();
    Box::new(TokenRequestor { name: Text::parse("name", name).unwrap(), credential: None, ..requestor })
}

/// One request of each kind whose answer may come to differ from what is so later.
fn all_kinds() -> (Heard, TokenView) {
    let mut heard = Heard { bench: asking(), all: Vec::new() };
    for (id, name) in [("r1", b"one wallet"), ("r2", b"same other")] {
        heard.ask(move |call| {
            let change = RegistryChange::Set(registered(name));
            Command::Registry {
                call,
                request: Box::new(RegistryRequest { asker: desk(id), version: None, change }),
            }
        });
    }
    let issued = heard.bench.yellow("p");
    let provision = |call| Command::Provision { call, request: Box::new(wanted(FIRST, "p", CREDIT)) };
    heard.all.push((Box::new(provision), Ok(Told::Token(issued))));
    let reference = issued.reference;
    for (id, contact) in [("c1", 1), ("c2", 2)] {
        let request = CodeRequest { asker: asker(FIRST, id), reference, contact };
        heard.ask(move |call| Command::RequestCode { call, request });
    }
    let code = heard.bench.codes.last().unwrap().code.clone();
    heard.ask(move |call| {
        let submission =
            CodeSubmission { asker: asker(FIRST, "t"), reference, code: code.clone(), device: None };
        Command::SubmitCode { call, request: Box::new(submission) }
    });
    let merchant = Merchant { acquirer: LinkId(1), id: MerchantId::parse(b"SHOP1").unwrap() };
    let amount = Amount::new(1_000, Currency::parse(b"978").unwrap());
    heard.ask(move |call| {
        let (asker, initiator) = (asker(FIRST, "pay"), Initiator::Customer);
        let request = Box::new(CryptogramRequest { asker, reference, merchant, amount, initiator });
        Command::Cryptogram { call, request }
    });
    let device = MessageKeys::of_device(&[7; 32]).unwrap().newest().unwrap().point();
    heard.ask(move |call| {
        let request = KeyRequest { asker: asker(FIRST, "key"), reference, kind: KeyKind::Card, device };
        Command::Key { call, request: Box::new(request) }
    });
    (heard, issued)
}

/// Everything that an answer said is otherwise by now, but for what never changes.
fn change_all(heard: &mut Heard, token: &TokenView) -> TokenView {
    let mut request = card_request("new-pan", CREDIT, CardEvent::NewPan, RENEWED);
    if let CardNews::NewPan { keep_par, .. } = &mut request.news {
        *keep_par = Some(false);
    }
    heard.ask(move |call| Command::Card { call, request: Box::new(request.clone()) });
    heard.bench.now.wall = Wall(TODAY.0 + 4 * 366 * 86_400_000);
    let (reference, assurance) = (token.reference, TokenAssuranceMethod::parse(b"14").ok());
    heard.ask(move |call| {
        let request =
            UpdateRequest { asker: desk("renew"), reference, version: None, renew: true, assurance };
        Command::Update { call, request }
    });
    let after = heard.bench.get(FIRST, reference).unwrap();
    assert_ne!((after.last4, after.par, after.expiry), (token.last4, token.par, token.expiry));
    after
}

#[test]
fn an_answer_is_the_same_whatever_became_of_what_it_was_about() {
    let (mut heard, token) = all_kinds();
    heard.again("at once");
    let after = change_all(&mut heard, &token);
    assert!(after.par != token.par && after.last4 != token.last4 && after.step_up != token.step_up);
    heard.again("after all of it changed");
    let entries = token_entries(&heard.bench);
    heard.bench.tsp = heard.bench.recovered(entries.len());
    heard.again("from the journal");
    for kind in CheckpointKind::ALL {
        for kept in 0..=entries.len() {
            heard.bench.tsp = restored(&heard.bench, &entries, kept, kind);
            heard.again(&format!("{kind:?} of {kept} entries"));
        }
    }
    heard.bench.now.wall = Wall(heard.bench.now.wall.0 + 8 * 366 * 86_400_000);
    // Of a token that has expired no key is given, to a repeat neither.
    heard.all.retain(|(_, answer)| !matches!(answer, Ok(Told::Key(_))));
    assert_eq!(heard.bench.get(FIRST, token.reference).unwrap().status(), "expired");
    heard.again("once the token has expired");
}
