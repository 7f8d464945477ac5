//! Tokens for the cards behind other tokens.

use super::*;
use crate::vocab::RiskHints;
use ProvisioningRefusal as R;

const CREDIT: &[u8] = b"4761739001010119";
const OTHER: &[u8] = b"4761739001010010";

pub(super) fn from(requestor: &[u8], id: &str, source: SourceToken) -> SourcedRequest {
    SourcedRequest {
        asker: asker(requestor, id),
        source,
        assurance: None,
        location: None,
        device: None,
        hints: RiskHints::default(),
        controls: None,
        consent: None,
    }
}

impl Bench {
    pub(super) fn derive(&mut self, request: SourcedRequest) -> TokenAnswer {
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
fn a_repeat_that_names_a_number_by_its_expiry_of_then_is_answered_once_that_was_renewed() {
    let mut bench = Bench::new();
    let first = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    let request = |id: &str| from(FIRST, id, SourceToken::Token(first.token, first.expiry));
    let derived = bench.derive(request("2")).unwrap();
    bench.now.wall = Wall(TODAY.0 + 40 * 86_400_000);
    let (asker, reference) = (asker(FIRST, "3"), first.reference);
    let update = UpdateRequest { asker, reference, version: None, renew: true, assurance: None };
    let renewed = of_token(bench.ask(|call| Command::Update { call, request: update })).unwrap();
    assert_ne!(renewed.expiry, first.expiry);
    assert_eq!(bench.derive(request("2")).as_ref(), Ok(&derived));
    assert_eq!(bench.derive(request("4")), Err(R::UnknownToken), "a new one names it as it is");
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

impl Bench {
    fn consent(
        &mut self,
        of: &[u8],
        id: &str,
        reference: TokenReferenceId,
        to: &[u8],
    ) -> Result<ConsentView, R> {
        let to = TokenRequestorId::parse(to).unwrap();
        let request = ConsentRequest { asker: asker(of, id), reference, to };
        match self.ask(|call| Command::Consent { call, request })? {
            Told::Consent(given) => Ok(*given),
            told => panic!("{told:?}"),
        }
    }
}

fn by_consent(requestor: &[u8], id: &str, of: TokenReferenceId, consent: ConsentId) -> SourcedRequest {
    SourcedRequest { consent: Some(consent), ..from(requestor, id, SourceToken::Reference(of)) }
}

#[test]
fn a_consent_makes_one_token_for_whom_it_was_given_and_in_time() {
    let mut bench = Bench::new();
    let first = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    let source = SourceToken::Reference(first.reference);
    let unknown = Err(R::UnknownToken);
    assert_eq!(bench.derive(from(SECOND, "2", source)), unknown, "nobody has consented");
    let not_theirs = bench.consent(SECOND, "c0", first.reference, SECOND);
    assert_eq!(not_theirs.map(|_| ()), Err(R::UnknownToken));
    let to_nobody = bench.consent(FIRST, "c1", first.reference, b"99999999998");
    assert_eq!(to_nobody.map(|_| ()), Err(R::UnknownRequestor));
    let given = bench.consent(FIRST, "c2", first.reference, SECOND).unwrap();
    assert_eq!(bench.consent(FIRST, "c2", first.reference, SECOND), Ok(given), "a repeat");
    assert_eq!((given.to.as_bytes(), given.reference), (SECOND, first.reference));
    // Neither its own requestor, nor another id, nor without it.
    let other = ConsentId::parse(b"00112233445566778899aabbccddeeff").unwrap();
    assert_eq!(bench.derive(by_consent(FIRST, "3", first.reference, given.id)), unknown);
    assert_eq!(bench.derive(by_consent(SECOND, "4", first.reference, other)), unknown);
    assert_eq!(bench.derive(from(SECOND, "5", source)), unknown);
    // Two requests in one batch: one gets it.
    let request = |id: &str| by_consent(SECOND, id, first.reference, given.id);
    let call = bench.call();
    assert_eq!(bench.apply(Command::ProvisionFrom { call, request: Box::new(request("6")) }), []);
    assert_eq!(bench.derive(request("7")), unknown, "it is being used");
    let made = bench.derive(request("6")).unwrap();
    assert_eq!((made.requestor.as_bytes(), made.last4), (SECOND, first.last4));
    let event = TokenEvent::decode(&bench.log.last().unwrap().1).unwrap();
    assert_eq!(
        (event.cause.source, event.cause.consent),
        (Some(0), Some(given.id)),
        "the journal says by what"
    );
    for crashed in [false, true] {
        if crashed {
            bench.tsp = bench.recovered(bench.log.len());
        }
        assert_eq!(bench.derive(request("7")), unknown, "it was used");
        assert_eq!(bench.derive(request("6")), Ok(made), "a repeat");
    }
}

#[test]
fn a_consent_s_time_ends_another_takes_its_place_and_they_are_bounded() {
    let mut bench = Bench::new();
    let tokens: Vec<TokenView> =
        (0..3).map(|id| bench.provision(wanted(FIRST, &format!("t{id}"), CREDIT)).unwrap()).collect();
    let of = |at: usize| tokens[at].reference;
    let first = bench.consent(FIRST, "c0", of(0), SECOND).unwrap();
    let second = bench.consent(FIRST, "c1", of(0), SECOND).unwrap();
    assert_eq!(bench.derive(by_consent(SECOND, "1", of(0), first.id)), Err(R::UnknownToken));
    let late = bench.consent(FIRST, "c2", of(1), SECOND).unwrap();
    let overloaded = bench.consent(FIRST, "c3", of(2), SECOND);
    assert_eq!(overloaded.map(|_| ()), Err(R::Overloaded), "two are kept here");
    assert_eq!(bench.tsp.fill().consents, 2);
    bench.derive(by_consent(SECOND, "2", of(0), second.id)).unwrap();
    bench.now.wall = late.until;
    assert_eq!(bench.derive(by_consent(SECOND, "3", of(1), late.id)), Err(R::UnknownToken));
    // What is over makes room, and what is used; at any place of a checkpoint it comes to the same.
    for (id, at) in [("c4", 2), ("c5", 0)] {
        bench.consent(FIRST, id, of(at), SECOND).unwrap();
    }
    let good = bench.consent(FIRST, "c6", of(0), SECOND).unwrap();
    let entries = super::checkpoint::token_entries(&bench);
    for kept in 0..=entries.len() {
        let kind = crate::journal::CheckpointKind::Redb;
        bench.tsp = super::checkpoint::restored(&bench, &entries, kept, kind);
        let call = bench.call();
        let id = format!("used-{kept}");
        for (presented, expected) in [(second.id, 1), (good.id, 0)] {
            let request = Box::new(by_consent(SECOND, &format!("{id}-{expected}"), of(0), presented));
            let answers = bench.apply(Command::ProvisionFrom { call, request });
            assert_eq!(answers.len(), expected, "{kept}");
        }
    }
}
