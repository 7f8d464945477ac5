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
    assert!(bench.apply(Command::Disclose { call: next, request }).is_empty(), "nor is it refused before");
    let [(first, Ok(Told::Disclosed(_))), (second, Err(refusal))] = &bench.sync()[..] else {
        panic!("one is told and one is not");
    };
    assert_eq!((*first, *second, *refusal), (call, next, R::DetokenizationsExhausted));
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
        keep_par: Some(false),
        par: None,
    };
    let request = Box::new(CardRequest { asker, pan: Pan::parse(CREDIT).unwrap(), news });
    bench.ask(|call| Command::Card { call, request }).unwrap();
    let entries = token_entries(&bench);
    for kept in 0..=entries.len() {
        bench.tsp = restored(&bench, &entries, kept, CheckpointKind::Redb);
        assert_eq!(bench.disclose(wanted_of(&token, desk(), "1")).as_ref(), Ok(&first), "{kept}");
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

/// As it was told first, to the last member, wherever the vault was restarted from; who asks anew hears the date of
/// now.
#[test]
fn a_repeat_hears_the_expiry_date_of_the_first_answer_whatever_the_card_has_by_now() {
    let mut bench = bench(Some(9));
    let token = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    let first = bench.disclose(wanted_of(&token, desk(), "1")).unwrap();
    let dates = [b"2812", b"2912"].map(|date| Expiry::parse(date).unwrap());
    for (id, expiry) in ["e1", "e2"].into_iter().zip(dates) {
        let asker = Asker::new(desk(), Actor::Operator, RequestId::parse(id.as_bytes()).unwrap());
        let news = CardNews::NewExpiry { expiry, sequence: None };
        let request = Box::new(CardRequest { asker, pan: Pan::parse(CREDIT).unwrap(), news });
        bench.ask(|call| Command::Card { call, request }).unwrap();
        assert_eq!(bench.disclose(wanted_of(&token, desk(), "1")).as_ref(), Ok(&first), "after {id}");
        let anew = bench.disclose(wanted_of(&token, desk(), &format!("anew-{id}"))).unwrap();
        assert_eq!(anew.pan_expiry, Some(expiry), "after {id}");
    }
    let entries = token_entries(&bench);
    for kind in CheckpointKind::ALL {
        for kept in 0..=entries.len() {
            bench.tsp = restored(&bench, &entries, kept, kind);
            let now = bench.disclose(wanted_of(&token, desk(), "1"));
            assert_eq!(now.as_ref(), Ok(&first), "{kind:?} of {kept} entries");
        }
    }
}

/// Registers the first requestor anew, with so many a day.
fn allow(bench: &mut Bench, id: &str, most: Option<u32>) {
    let mut requestor = bench.config.requestors[0].clone();
    requestor.limits.detokenizations_per_day = most;
    let asker = Asker::new(desk(), Actor::Operator, RequestId::parse(id.as_bytes()).unwrap());
    let change = RegistryChange::Set(Box::new(requestor));
    let request = Box::new(RegistryRequest { asker, version: None, change });
    bench.ask(|call| Command::Registry { call, request }).unwrap();
}

#[test]
fn a_repeat_is_told_for_ten_minutes_counts_once_and_is_in_the_journal_each_time() {
    let mut bench = bench(Some(1));
    let token = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    let start = bench.now.wall.0;
    let first = bench.disclose(wanted_of(&token, desk(), "1")).unwrap();
    for after in [0, 599_999] {
        bench.now.wall = Wall(start + after);
        let before = bench.log.len();
        assert_eq!(bench.disclose(wanted_of(&token, desk(), "1")).as_ref(), Ok(&first), "{after}");
        let events = bench.log[before..].iter().map(|(_, event)| TokenEvent::decode(event).unwrap());
        let [event] = &events.collect::<Vec<_>>()[..] else { panic!("one of each telling") };
        let said = event.audited();
        assert_eq!((said.what, said.more.as_str()), ("detokenize-for-dispute", " repeat=yes"));
        assert_eq!((said.steps.len(), event.cause.request_id.as_str()), (1, "1"));
        bench.tsp = bench.recovered(bench.log.len());
    }
    // How often it was told again makes it no younger.
    bench.now.wall = Wall(start + 600_000);
    let entries = token_entries(&bench);
    for kept in 0..=entries.len() {
        bench.tsp = restored(&bench, &entries, kept, CheckpointKind::Redb);
        assert_eq!(bench.disclose(wanted_of(&token, desk(), "1")), Err(R::RepeatTooLate), "{kept}");
    }
    let event = TokenEvent::decode(&bench.log.last().unwrap().1).unwrap();
    assert_eq!(event.audited().more, " purpose=dispute because=repeat-too-late");
    assert_eq!(bench.disclose(wanted_of(&token, desk(), "2")), Err(R::DetokenizationsExhausted));
}

#[test]
fn a_repeat_that_is_no_longer_allowed_is_refused_as_a_new_request() {
    let mut bench = bench(Some(2));
    let token = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    let second = Principal::Requestor(TokenRequestorId::parse(SECOND).unwrap());
    for id in ["1", "2"] {
        bench.disclose(wanted_of(&token, desk(), id)).unwrap();
    }
    assert_eq!(bench.disclose(wanted_of(&token, second, "1")), Err(R::UnknownToken), "its own id");
    for (id, most, expected) in [
        ("less", Some(1), Some(R::DetokenizationsExhausted)),
        ("none", None, Some(R::DetokenizationNotAllowed)),
        ("zero", Some(0), Some(R::DetokenizationsExhausted)),
        ("as before", Some(2), None),
    ] {
        allow(&mut bench, id, most);
        let before = bench.log.len();
        let told = bench.disclose(wanted_of(&token, desk(), "1"));
        assert_eq!(told.as_ref().err(), expected.as_ref(), "{id}");
        assert_eq!(bench.log.len(), before + 1, "{id}: told or not, it is in the journal");
    }
}

#[test]
fn a_repeat_by_who_lost_the_grant_is_in_the_journal_and_who_lost_the_token_hears_of_none() {
    let mut bench = bench(Some(2));
    let token = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    let bank = Principal::Issuer(bench.config.pan_ranges[0].issuer.unwrap());
    bench.disclose(wanted_of(&token, bank, "1")).unwrap();
    bench.config.pan_ranges[0].issuer = Some(Text::parse("issuer", b"sold to").unwrap());
    bench.tsp.narrow_for_test(bench.config.clone());
    assert_eq!(bench.disclose(wanted_of(&token, bank, "1")), Err(R::UnknownToken));
    bench.disclose(wanted_of(&token, desk(), "1")).unwrap();
    let before = bench.log.len();
    let asker = Box::new(Asker::new(desk(), Actor::Operator, RequestId::parse(b"1").unwrap()));
    let denied = bench.ask(|call| Command::DiscloseDenied { call, asker });
    assert_eq!(denied.unwrap_err(), R::DetokenizationNotAllowed);
    assert_eq!(bench.log.len(), before + 1, "under an id that was used, too");
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

#[test]
fn a_refusal_is_in_the_journal_with_token_purpose_and_reason_and_is_not_remembered() {
    let mut bench = bench(Some(0));
    let token = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    let of_second = bench.provision(wanted(SECOND, "1", CREDIT)).unwrap();
    let nobodys = TokenView { reference: TokenReferenceId::from_bytes([7; 16]), ..token };
    let stranger = Principal::Requestor(TokenRequestorId::parse(SECOND).unwrap());
    for (id, asking, of, record, why) in [
        ("a", desk(), &token, Some(0), DisclosureRefusal::Exhausted),
        ("b", desk(), &of_second, Some(1), DisclosureRefusal::NotAllowed),
        ("c", stranger, &token, Some(0), DisclosureRefusal::UnknownToken),
        ("d", desk(), &nobodys, None, DisclosureRefusal::UnknownToken),
    ] {
        let refusal = why.refusal();
        for again in [false, true] {
            let before = bench.log.len();
            assert_eq!(bench.disclose(wanted_of(of, asking, id)), Err(refusal), "{id}");
            assert_eq!(bench.log.len(), before + 1, "{id}: each time, {again}");
            let event = TokenEvent::decode(&bench.log[before].1).unwrap();
            let purpose = Some(DisclosurePurpose::Dispute);
            assert_eq!(event.change, Change::DisclosureRefused(DisclosureRefused { record, purpose, why }));
            assert_eq!((event.cause.principal, event.cause.request_id.as_str()), (asking, id));
            bench.tsp = bench.recovered(bench.log.len());
        }
    }
    let asker = Asker::new(desk(), Actor::Operator, RequestId::parse(b"e").unwrap());
    let denied = bench.ask(|call| Command::DiscloseDenied { call, asker: Box::new(asker) });
    assert_eq!(denied.unwrap_err(), R::DetokenizationNotAllowed);
    let event = TokenEvent::decode(&bench.log.last().unwrap().1).unwrap();
    let said = event.audited();
    assert_eq!((said.what, said.more.as_str()), ("refuse-detokenization", " because=operation-not-allowed"));
    let entries = token_entries(&bench);
    for kept in 0..=entries.len() {
        let tsp = restored(&bench, &entries, kept, CheckpointKind::Redb);
        assert_eq!(super::model::snapshot(&tsp), super::model::snapshot(&bench.tsp), "{kept}");
    }
}

#[test]
fn another_expiry_date_of_the_card_keeps_no_number_from_being_told() {
    let mut bench = bench(Some(2));
    let token = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    let expiry = |digits: &[u8]| Expiry::parse(digits).unwrap();
    let renewed = |name: &str, digits: &[u8]| {
        let asker = Asker::new(desk(), Actor::Operator, RequestId::parse(name.as_bytes()).unwrap());
        let news = CardNews::NewExpiry { expiry: expiry(digits), sequence: None };
        Box::new(CardRequest { asker, pan: Pan::parse(CREDIT).unwrap(), news })
    };
    // The card's new date waits for the disk, and the disclosure behind it.
    let call = bench.call();
    bench.apply(Command::Card { call, request: renewed("a", b"2901") });
    let call = bench.call();
    let request = Box::new(wanted_of(&token, desk(), "1"));
    bench.apply(Command::Disclose { call, request });
    let [_, (told, Ok(Told::Disclosed(view)))] = &bench.sync()[..] else { panic!("both are answered") };
    assert_eq!((*told, view.pan_expiry), (call, Some(expiry(b"2901"))));
    // The next one comes before the repeat, which hears what was told first.
    bench.ask(|call| Command::Card { call, request: renewed("b", b"3002") }).unwrap();
    let again = bench.disclose(wanted_of(&token, desk(), "1")).unwrap();
    assert_eq!((again.pan.expose_digits(), again.pan_expiry), (CREDIT, Some(expiry(b"2901"))));
}
