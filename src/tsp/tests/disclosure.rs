//! Card numbers told outside of payments: to whom, how often, and what is left of it after a restart.

use super::checkpoint::{restored, token_entries};
use super::*;
use crate::journal::CheckpointKind;
use crate::vocab::Text;
use ProvisioningRefusal as R;

const CREDIT: &[u8] = b"4761739001010119";
const OTHER: &[u8] = b"4761739001010010";
const DAY: u64 = 86_400_000;

fn bench(most: Option<u32>) -> Bench {
    Bench::with(|config| config.requestors[0].limits.detokenizations_per_day = most)
}

fn wanted_of(token: &TokenView, who: Principal, name: &str) -> DisclosureRequest {
    DisclosureRequest {
        asker: Asker::new(who, Actor::Operator, RequestId::parse(name.as_bytes()).unwrap()),
        of: DisclosureOf::Reference(token.reference),
        purpose: DisclosurePurpose::Dispute,
    }
}

fn desk() -> Principal {
    Principal::Operator(Text::parse("operator", b"desk").unwrap())
}

impl Bench {
    fn disclose(&mut self, request: DisclosureRequest) -> Result<DisclosureView, R> {
        let told = self.ask(|call| Command::Disclose { call, request: Box::new(request) })?;
        if let Told::Disclosed(view) = told { Ok(*view) } else { panic!("{told:?}") }
    }
}

#[test]
fn so_many_a_day_and_what_waits_counts() {
    let mut bench = bench(Some(2));
    let token = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    let of_second = bench.provision(wanted(SECOND, "1", CREDIT)).unwrap();
    let told = bench.disclose(wanted_of(&token, desk(), "1")).unwrap();
    assert_eq!((told.pan.expose_digits(), told.reference), (CREDIT, token.reference));
    assert_eq!(bench.disclose(wanted_of(&of_second, desk(), "2")), Err(R::DetokenizationNotAllowed));
    // One waits for the disk: it is not told, and it counts.
    let call = bench.call();
    let request = Box::new(wanted_of(&token, desk(), "3"));
    assert!(bench.apply(Command::Disclose { call, request }).is_empty(), "not told before it is durable");
    let next = bench.call();
    let request = Box::new(wanted_of(&token, desk(), "4"));
    let refused = bench.apply(Command::Disclose { call: next, request });
    assert_eq!(refused, [(next, Err(R::DetokenizationsExhausted))]);
    assert!(matches!(bench.sync()[..], [(answered, Ok(Told::Disclosed(_)))] if answered == call));
    assert_eq!(bench.disclose(wanted_of(&token, desk(), "4")), Err(R::DetokenizationsExhausted));
    bench.now.wall = Wall(TODAY.0 + DAY - 1);
    assert_eq!(bench.disclose(wanted_of(&token, desk(), "4")), Err(R::DetokenizationsExhausted));
    bench.now.wall = Wall(TODAY.0 + DAY);
    assert!(bench.disclose(wanted_of(&token, desk(), "4")).is_ok(), "another day");
}

#[test]
fn it_is_counted_and_told_alike_after_a_restart_and_after_the_card_was_replaced() {
    let mut bench = bench(Some(1));
    let token = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    let first = bench.disclose(wanted_of(&token, desk(), "1")).unwrap();
    let asker = Asker::new(desk(), Actor::Operator, RequestId::parse(b"2").unwrap());
    let news = CardNews::NewPan {
        pan: Pan::parse(OTHER).unwrap(),
        expiry: Expiry::parse(b"2812").unwrap(),
        sequence: None,
        keep_par: None,
        par: None,
    };
    let request = Box::new(CardRequest { asker, pan: Pan::parse(CREDIT).unwrap(), news });
    bench.ask(|call| Command::Card { call, request }).unwrap();
    let entries = token_entries(&bench);
    for kept in 0..=entries.len() {
        bench.tsp = restored(&bench, &entries, kept, CheckpointKind::Redb);
        assert_eq!(bench.disclose(wanted_of(&token, desk(), "1")).as_ref().map(|it| &it.pan), Ok(&first.pan));
        assert_eq!(
            bench.disclose(wanted_of(&token, desk(), "3")),
            Err(R::DetokenizationsExhausted),
            "{kept}"
        );
    }
    bench.now.wall = Wall(TODAY.0 + DAY);
    let now = bench.disclose(wanted_of(&token, desk(), "3")).unwrap();
    assert_eq!(now.pan.expose_digits(), OTHER);
}

#[test]
fn who_may_not_know_of_a_token_hears_what_one_hears_of_none() {
    let mut bench = bench(Some(9));
    let token = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    bench.move_to(FIRST, "2", token.reference, Move::Unlink).unwrap();
    let requestor = |digits: &[u8]| Principal::Requestor(TokenRequestorId::parse(digits).unwrap());
    let nobodys = TokenView { reference: TokenReferenceId::from_bytes([7; 16]), ..token };
    assert_eq!(bench.disclose(wanted_of(&token, requestor(SECOND), "1")), Err(R::UnknownToken));
    assert_eq!(bench.disclose(wanted_of(&nobodys, desk(), "1")), Err(R::UnknownToken));
    assert!(bench.disclose(wanted_of(&token, requestor(FIRST), "9")).is_ok(), "deactivated, and its own");
    let by_token = |expiry: Expiry| DisclosureRequest {
        of: DisclosureOf::Token(token.token, expiry),
        ..wanted_of(&token, desk(), "3")
    };
    assert_eq!(bench.disclose(by_token(Expiry::parse(b"2001").unwrap())), Err(R::UnknownToken));
    assert!(bench.disclose(by_token(token.expiry)).is_ok());
}
