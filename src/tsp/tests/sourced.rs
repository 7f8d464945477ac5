//! Tokens for the cards behind other tokens.

use super::*;
use crate::vocab::RiskHints;
use ProvisioningRefusal as R;

const CREDIT: &[u8] = b"4761739001010119";
const OTHER: &[u8] = b"4761739001010010";

fn from(requestor: &[u8], id: &str, source: SourceToken) -> SourcedRequest {
    SourcedRequest {
        asker: asker(requestor, id),
        source,
        assurance: None,
        location: None,
        device: None,
        hints: RiskHints::default(),
        controls: None,
    }
}

impl Bench {
    fn derive(&mut self, request: SourcedRequest) -> TokenAnswer {
        of_token(self.ask(|call| Command::ProvisionFrom { call, request: Box::new(request) }))
    }
}

#[test]
fn the_same_requestor_and_one_with_whom_it_is_shared_get_a_token_for_the_same_card() {
    let second = TokenRequestorId::parse(SECOND).unwrap();
    let mut bench = Bench::with(|config| config.requestors[0].shares_with = vec![second]);
    let first = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    let by_token = SourceToken::Token(first.token, first.expiry);
    let mut derived = Vec::new();
    for (requestor, id, source) in [
        (FIRST, "2", SourceToken::Reference(first.reference)),
        (FIRST, "3", by_token),
        (SECOND, "4", SourceToken::Reference(first.reference)),
        (SECOND, "5", by_token),
    ] {
        let token = bench.derive(from(requestor, id, source)).unwrap();
        assert_eq!((token.last4, token.par), (first.last4, first.par));
        assert_eq!(token.requestor.as_bytes(), requestor);
        assert_ne!(token.token, first.token);
        let event = TokenEvent::decode(&bench.log.last().unwrap().1).unwrap();
        assert_eq!(event.cause.source, Some(0), "the journal says from which");
        derived.push(token);
    }
    // Sharing goes one way, and not on from what was made of it.
    let unknown = bench.derive(from(FIRST, "6", SourceToken::Reference(derived[2].reference)));
    assert_eq!(unknown, Err(R::UnknownToken));
    let wrong_expiry = SourceToken::Token(first.token, Expiry::parse(b"2001").unwrap());
    assert_eq!(bench.derive(from(FIRST, "7", wrong_expiry)), Err(R::UnknownToken));
}

#[test]
fn a_token_that_is_not_good_is_no_source_and_a_repeat_is_answered_all_the_same() {
    let mut bench = Bench::new();
    let first = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    let request = |id: &str| from(FIRST, id, SourceToken::Reference(first.reference));
    let derived = bench.derive(request("2")).unwrap();
    let elsewhere = from(SECOND, "2", SourceToken::Reference(first.reference));
    assert_eq!(bench.derive(elsewhere), Err(R::UnknownToken), "not shared");
    bench.move_to(FIRST, "3", first.reference, Move::Suspend(Suspender::Cardholder)).unwrap();
    assert_eq!(bench.derive(request("4")), Err(R::StatusDoesNotAllow));
    assert_eq!(bench.derive(request("2")).as_ref(), Ok(&derived));
    // The card's number is another one by now: the request is still the same.
    let news = CardNews::NewPan {
        pan: Pan::parse(OTHER).unwrap(),
        expiry: Expiry::parse(b"2812").unwrap(),
        sequence: None,
        keep_par: None,
        par: None,
    };
    let desk = crate::vocab::Text::parse("operator", b"desk").unwrap();
    let by_desk = Asker::new(Principal::Operator(desk), Actor::Operator, RequestId::parse(b"5").unwrap());
    let request_of_card = Box::new(CardRequest { asker: by_desk, pan: Pan::parse(CREDIT).unwrap(), news });
    bench.ask(|call| Command::Card { call, request: request_of_card }).unwrap();
    assert_eq!(bench.derive(request("2")).map(|token| token.reference), Ok(derived.reference));
    bench.move_to(FIRST, "6", first.reference, Move::Resume(Suspender::Cardholder)).unwrap();
    assert_ne!(bench.derive(request("7")).unwrap().last4, derived.last4, "the card that it is now");
    let other = from(FIRST, "2", SourceToken::Token(first.token, first.expiry));
    assert_eq!(bench.derive(other), Err(R::RequestIdReused));
}
