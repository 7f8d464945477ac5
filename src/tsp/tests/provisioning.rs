//! What a token requestor can ask, and what it is told.

use super::super::event::TokenEvent;
use super::*;
use crate::vocab::{Par, Text, TokenAssuranceMethod, TokenLocation, luhn_valid};

const CREDIT: &[u8] = b"4761739001010119";
const DEBIT: &[u8] = b"6228480000000000026";

#[test]
fn a_card_gets_a_token_of_its_product() {
    let mut bench = Bench::new();
    let token = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    assert!(token.token.as_str().starts_with("489537") && luhn_valid(token.token.as_bytes()));
    assert_eq!(token.expiry.digits(), *b"2911", "its own, counted from today");
    assert_eq!(token.last4.as_str(), "0119");
    assert_eq!(token.assurance, TokenAssuranceMethod::NOT_PERFORMED);
    assert_eq!(token.location, TokenLocation::DeviceStorage);
    assert_eq!(token.lifecycle, Lifecycle::issued(TokenStatus::Active));
    assert!(token.par.unwrap().as_str().starts_with("Q001"));
    let debit = bench.provision(wanted(FIRST, "2", DEBIT)).unwrap();
    assert!(debit.token.as_str().starts_with("623529") && debit.token.as_bytes().len() == 19);
    assert_eq!(debit.par, None, "we are not its BIN controller");
    assert_eq!(bench.get(FIRST, token.reference), Ok(token));
}

#[test]
fn every_refusal_of_a_provisioning() {
    use ProvisioningRefusal as R;
    type Change = fn(&mut ProvisionRequest);
    let cases: [(Change, R); 6] = [
        (|r| r.asker = asker(b"00000000009", "1"), R::UnknownRequestor),
        (|r| r.pan = Pan::parse(b"4761739001010118").unwrap(), R::CardNotValid),
        (|r| r.pan = Pan::parse(b"5413330089601109").unwrap(), R::CardNotEligible),
        (|r| r.pan = Pan::parse(b"4895370000000007").unwrap(), R::CardNotEligible),
        (|r| r.pan_expiry = Expiry::parse(b"2610").unwrap(), R::CardExpired),
        (|r| r.assurance = TokenAssuranceMethod::parse(b"12").ok(), R::AssuranceNotAllowed),
    ];
    let mut bench = Bench::new();
    for (change, expected) in cases {
        let mut request = wanted(FIRST, "1", CREDIT);
        change(&mut request);
        assert_eq!(bench.provision(request), Err(expected));
    }
    assert!(bench.log.is_empty(), "a refusal leaves nothing behind");
    assert!(bench.provision(wanted(FIRST, "1", CREDIT)).is_ok(), "and does not use up the request id");
}

#[test]
fn a_pan_and_all_its_tokens_share_one_par() {
    let mut bench = Bench::new();
    let first = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    // Decided while the first is applied and while both wait.
    let calls: Vec<CallId> = (2..4).map(|_| bench.call()).collect();
    for (call, id) in calls.iter().zip(["2", "3"]) {
        let request = Box::new(wanted(SECOND, id, CREDIT));
        assert!(bench.apply(Command::Provision { call: *call, request }).is_empty());
    }
    for (_, answer) in bench.sync() {
        let token = of_token(answer).unwrap();
        assert_eq!(token.par, first.par);
        assert_ne!(token.token, first.token);
    }
    let other = bench.provision(wanted(FIRST, "4", b"4761730000000011")).unwrap();
    assert_ne!(other.par, first.par);
    let supplied = Par::parse(b"V0010013020315513942420893974").ok();
    let foreign = bench.provision(ProvisionRequest { par: supplied, ..wanted(FIRST, "5", DEBIT) }).unwrap();
    assert_eq!(foreign.par, supplied);
    let own = bench.provision(ProvisionRequest { par: supplied, ..wanted(FIRST, "6", b"4761730000000029") });
    assert_ne!(own.unwrap().par, supplied, "where we are the BIN controller, ours counts");
}

#[test]
fn the_same_request_gets_the_same_answer_also_after_a_crash() {
    let mut bench = Bench::new();
    let first = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    bench.move_to(FIRST, "2", first.reference, Move::Suspend(Suspender::Cardholder)).unwrap();
    for crashed in [false, true] {
        if crashed {
            bench.tsp = bench.recovered(bench.log.len());
        }
        let entries = bench.log.len();
        assert_eq!(
            bench.provision(wanted(FIRST, "1", CREDIT)),
            Ok(first),
            "as it was then, not as it is now"
        );
        let other_body = wanted(FIRST, "1", DEBIT);
        assert_eq!(bench.provision(other_body), Err(ProvisioningRefusal::RequestIdReused));
        assert_eq!(bench.log.len(), entries, "nothing new happened");
    }
    let other_requestor = bench.provision(wanted(SECOND, "1", CREDIT)).unwrap();
    assert_ne!(other_requestor.token, first.token, "request ids are each requestor's own");
}

#[test]
fn a_request_in_flight_says_so() {
    let mut bench = Bench::new();
    let (first, again, other) = (bench.call(), bench.call(), bench.call());
    let command = |call, pan| Command::Provision { call, request: Box::new(wanted(FIRST, "1", pan)) };
    assert!(bench.apply(command(first, CREDIT)).is_empty(), "no answer before it is durable");
    let in_flight = Err(ProvisioningRefusal::RequestInFlight);
    assert_eq!(bench.apply(command(again, CREDIT)), [(again, in_flight)]);
    let reused = Err(ProvisioningRefusal::RequestIdReused);
    assert_eq!(bench.apply(command(other, DEBIT)), [(other, reused)]);
    assert_eq!(bench.sync().len(), 1);
}

#[test]
fn unknown_and_not_yours_answer_alike() {
    let mut bench = Bench::new();
    let token = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    let nobodys = TokenReferenceId::from_bytes([0; 16]);
    let unknown = Err(ProvisioningRefusal::UnknownToken);
    for reference in [token.reference, nobodys] {
        assert_eq!(bench.get(SECOND, reference), unknown);
        assert_eq!(bench.move_to(SECOND, "x", reference, Move::Unlink), unknown);
    }
    assert_eq!(bench.get(FIRST, token.reference).unwrap().lifecycle.status, TokenStatus::Active);
}

#[test]
fn moves_are_idempotent_and_ordered_by_version() {
    use Suspender::{Cardholder, TokenRequestor};
    use TokenStatus::{Active, Deactivated, Suspended};
    let mut bench = Bench::new();
    let reference = bench.provision(wanted(FIRST, "0", CREDIT)).unwrap().reference;
    let illegal = Err(ProvisioningRefusal::StatusDoesNotAllow);
    for (id, (asked, expected)) in [
        (Move::Resume(Cardholder), Ok((Active, 1))),
        (Move::Suspend(Cardholder), Ok((Suspended, 2))),
        (Move::Suspend(Cardholder), Ok((Suspended, 2))),
        (Move::Suspend(TokenRequestor), Ok((Suspended, 3))),
        (Move::Resume(Cardholder), Ok((Suspended, 4))),
        (Move::Activate, illegal),
        (Move::Resume(TokenRequestor), Ok((Active, 5))),
        (Move::Activate, Ok((Active, 5))),
        (Move::Unlink, Ok((Deactivated, 6))),
        (Move::Unlink, Ok((Deactivated, 6))),
        (Move::Resume(TokenRequestor), illegal),
        (Move::Suspend(TokenRequestor), illegal),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = bench.move_to(FIRST, &format!("m{id}"), reference, asked);
        assert_eq!(answer.map(|t| (t.lifecycle.status, t.lifecycle.version)), expected, "{asked:?}");
    }
}

#[test]
fn decisions_see_what_waits() {
    let mut bench = Bench::new();
    let reference = bench.provision(wanted(FIRST, "0", CREDIT)).unwrap().reference;
    let by = Suspender::TokenRequestor;
    for (id, asked) in [("1", Move::Suspend(by)), ("2", Move::Unlink), ("3", Move::Resume(by))] {
        let call = bench.call();
        let request = MoveRequest { asker: asker(FIRST, id), reference, asked, version: None };
        let answers = bench.apply(Command::Move { call, request });
        let refused = matches!(answers.as_slice(), [(_, Err(ProvisioningRefusal::StatusDoesNotAllow))]);
        assert_eq!(refused, id == "3", "after an unlink that is not durable yet, too");
    }
    let versions: Vec<u32> =
        bench.sync().into_iter().map(|(_, answer)| of_token(answer).unwrap().lifecycle.version).collect();
    assert_eq!(versions, [2, 3]);
}

/// Each suspends in its own name and lifts only that; an issuer only tokens of its own cards.
#[test]
fn who_may_ask_for_what() {
    use ProvisioningRefusal as R;
    use Suspender::{Cardholder, Issuer, MobilePinLocked, Operator, TokenRequestor};
    let party = |name: &[u8]| Text::parse("party", name).unwrap();
    let principal = [
        Principal::Requestor(TokenRequestorId::parse(FIRST).unwrap()),
        Principal::Issuer(party(b"bank")),
        Principal::Operator(party(b"desk")),
        Principal::Service,
        Principal::Requestor(TokenRequestorId::parse(SECOND).unwrap()),
        Principal::Issuer(party(b"other-bank")),
    ];
    // Of the first four.
    let table = [
        (TokenRequestor, [true, false, false, true]),
        (Cardholder, [true, false, false, true]),
        (MobilePinLocked, [true, false, false, true]),
        (Issuer, [false, true, false, true]),
        (Operator, [false, false, true, true]),
    ];
    let mut bench = Bench::new();
    let reference = bench.provision(wanted(FIRST, "0", CREDIT)).unwrap().reference;
    let mut ids = 0..;
    let mut ask = |principal, asked| {
        let id = RequestId::parse(format!("w{}", ids.next().unwrap()).as_bytes()).unwrap();
        bench.move_by(Asker::new(principal, Actor::Issuer, id), reference, asked)
    };
    for (suspender, allowed) in table {
        for (principal, allowed) in principal.into_iter().zip(allowed) {
            for asked in [Move::Suspend(suspender), Move::Resume(suspender)] {
                let answer = ask(principal, asked).map(|_| ());
                let expected = if allowed { Ok(()) } else { Err(R::NotYours) };
                assert_eq!(answer, expected, "{principal:?} {asked:?}");
            }
        }
        for stranger in principal.into_iter().skip(4) {
            assert_eq!(ask(stranger, Move::Suspend(suspender)).map(|_| ()), Err(R::UnknownToken));
        }
    }
    for principal in principal.into_iter().take(4) {
        assert!(ask(principal, Move::Activate).is_ok());
    }
    assert_eq!(ask(principal[1], Move::Unlink).unwrap().lifecycle.status, TokenStatus::Deactivated);
}

#[test]
fn all_five_suspenders_are_a_set() {
    let by: Vec<_> = Suspender::ALL.into_iter().collect();
    let mut bench = Bench::new();
    let reference = bench.provision(wanted(FIRST, "0", CREDIT)).unwrap().reference;
    let mut ids = 0..;
    let mut ask = |asked| {
        let id = RequestId::parse(format!("s{}", ids.next().unwrap()).as_bytes()).unwrap();
        bench.move_by(Asker::new(Principal::Service, Actor::Service, id), reference, asked).unwrap()
    };
    for by in &by {
        assert_eq!(ask(Move::Suspend(*by)).lifecycle.status, TokenStatus::Suspended);
    }
    for (at, suspender) in by.iter().enumerate() {
        let after = ask(Move::Resume(*suspender)).lifecycle;
        assert_eq!(after.suspenders.iter().collect::<Vec<_>>(), by[at + 1..]);
        let last = at + 1 == by.len();
        assert_eq!(after.status, if last { TokenStatus::Active } else { TokenStatus::Suspended });
    }
}

#[test]
fn a_request_may_name_the_version_it_has_seen() {
    let mut bench = Bench::new();
    let reference = bench.provision(wanted(FIRST, "0", CREDIT)).unwrap().reference;
    let mut ask = |id: &str, version, asked| {
        let request = MoveRequest { asker: asker(FIRST, id), reference, asked, version: Some(version) };
        of_token(bench.ask(|call| Command::Move { call, request })).map(|token| token.lifecycle.version)
    };
    let by = Suspender::Cardholder;
    assert_eq!(ask("1", 1, Move::Suspend(by)), Ok(2));
    assert_eq!(ask("2", 1, Move::Unlink), Err(ProvisioningRefusal::VersionDiffers), "sent before the first");
    assert_eq!(ask("1", 1, Move::Suspend(by)), Ok(2), "a repeat is answered as it was");
    assert_eq!(ask("3", 2, Move::Resume(by)), Ok(3));
}

#[test]
fn an_expired_token_can_only_be_unlinked() {
    let mut bench = Bench::new();
    let reference = bench.provision(wanted(FIRST, "0", CREDIT)).unwrap().reference;
    bench.now.wall = Wall(TODAY.0 + 4 * 366 * 86_400_000);
    let view = bench.get(FIRST, reference).unwrap();
    assert_eq!((view.status(), view.lifecycle.status), ("expired", TokenStatus::Active));
    let by = Suspender::Cardholder;
    let refused = bench.move_to(FIRST, "1", reference, Move::Suspend(by));
    assert_eq!(refused, Err(ProvisioningRefusal::TokenExpired));
    assert!(bench.move_to(FIRST, "2", reference, Move::Activate).is_ok(), "it is active already");
    let gone = bench.move_to(FIRST, "3", reference, Move::Unlink).unwrap();
    assert_eq!(gone.status(), "deactivated");
}

#[test]
fn a_card_and_a_device_have_so_many_tokens_and_no_more() {
    use ProvisioningRefusal as R;
    let on = |id: &str, card: &[u8], device: &str| ProvisionRequest {
        device: Text::parse("device", device.as_bytes()).ok(),
        ..wanted(FIRST, id, card)
    };
    let mut bench = Bench::with(|config| {
        config.limits.tokens_per_pan = 3;
        config.limits.tokens_per_device = 2;
    });
    let first = bench.provision(on("1", CREDIT, "phone")).unwrap();
    // The next two wait for the disk, and count.
    for (id, device) in [("2", "phone"), ("3", "watch")] {
        let call = bench.call();
        assert!(
            bench.apply(Command::Provision { call, request: Box::new(on(id, CREDIT, device)) }).is_empty()
        );
    }
    let full = |bench: &mut Bench| {
        let call = bench.call();
        let request = Box::new(on("4", CREDIT, "car"));
        assert_eq!(bench.apply(Command::Provision { call, request }), [(call, Err(R::TooManyTokensOfCard))]);
        let call = bench.call();
        let request = Box::new(on("5", DEBIT, "phone"));
        assert_eq!(
            bench.apply(Command::Provision { call, request }),
            [(call, Err(R::TooManyTokensOnDevice))]
        );
    };
    full(&mut bench);
    bench.sync();
    full(&mut bench);
    bench.tsp = bench.recovered(bench.log.len());
    full(&mut bench);
    let elsewhere = ProvisionRequest { asker: asker(SECOND, "1"), ..on("1", DEBIT, "phone") };
    assert!(bench.provision(elsewhere).is_ok(), "a device's name is its requestor's");
    bench.move_to(FIRST, "6", first.reference, Move::Unlink).unwrap();
    assert!(bench.provision(on("7", CREDIT, "phone")).is_ok(), "unlinked ones do not count");
}

#[test]
fn a_requestor_may_have_to_confirm() {
    let mut bench = Bench::with(|config| config.requestors[0].activation = Activation::Confirmed);
    let token = bench.provision(wanted(FIRST, "0", CREDIT)).unwrap();
    assert_eq!(token.lifecycle.status, TokenStatus::Inactive);
    let active = bench.move_to(FIRST, "1", token.reference, Move::Activate).unwrap();
    assert_eq!(active.lifecycle.status, TokenStatus::Active);
}

#[test]
fn the_vault_refuses_what_it_has_no_room_for() {
    let mut bench = Bench::with(|config| config.limits.capacity = 2);
    for (id, expected) in [("1", true), ("2", true), ("3", false)] {
        let answer = bench.provision(wanted(FIRST, id, CREDIT));
        assert_eq!(answer.is_ok(), expected, "{answer:?}");
    }
    assert_eq!(bench.provision(wanted(FIRST, "3", CREDIT)), Err(ProvisioningRefusal::VaultFull));
    let mut bench = Bench::with(|config| config.limits.control_sets = 1);
    assert!(bench.provision(wanted(FIRST, "1", CREDIT)).is_ok());
    assert_eq!(bench.provision(wanted(SECOND, "1", CREDIT)), Err(ProvisioningRefusal::VaultFull));
}

#[test]
fn a_range_is_left_at_seventy_per_cent() {
    let mut bench = Bench::new();
    bench.config.token_ranges[0].bin = crate::vocab::Bin::parse(b"489537001234").unwrap();
    bench.config.token_ranges[0].length = 14;
    // Ten numbers: a range so small that the configuration would not let it in.
    bench.tsp.narrow_for_test(bench.config.clone());
    let given = (0..10).filter(|id| bench.provision(wanted(FIRST, &id.to_string(), CREDIT)).is_ok()).count();
    assert_eq!(given, 7);
    assert_eq!(bench.provision(wanted(FIRST, "x", CREDIT)), Err(ProvisioningRefusal::TokenRangeFull));
}

#[test]
fn requests_are_remembered_in_bounded_number() {
    let mut bench = Bench::with(|config| config.limits.remembered_requests = 2);
    let first = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    for id in ["2", "3"] {
        bench.provision(wanted(FIRST, id, CREDIT)).unwrap();
    }
    assert_ne!(bench.provision(wanted(FIRST, "1", CREDIT)).unwrap().token, first.token);
}

#[test]
fn a_failed_log_stops_acknowledging() {
    let mut bench = Bench::new();
    let before = bench.provision(wanted(FIRST, "0", CREDIT)).unwrap();
    let call = bench.call();
    bench.apply(Command::Provision { call, request: Box::new(wanted(FIRST, "1", CREDIT)) });
    let unavailable = Err(ProvisioningRefusal::Unavailable);
    assert_eq!(bench.apply(Command::Failed), [(call, unavailable)]);
    let refused = bench.provision(wanted(FIRST, "2", CREDIT));
    assert_eq!(refused, Err(ProvisioningRefusal::Unavailable));
    assert_eq!(bench.get(FIRST, before.reference), Ok(before), "reading goes on");
}

#[test]
fn what_the_log_refused_may_come_again_and_the_rest_goes_on() {
    let mut bench = Bench::new();
    let (first, second) = (bench.call(), bench.call());
    for (call, id) in [(first, "1"), (second, "2")] {
        bench.apply(Command::Provision { call, request: Box::new(wanted(FIRST, id, CREDIT)) });
    }
    bench.log.pop();
    bench.waiting = 1;
    let refused = bench.apply(Command::Refused { events: 1 });
    assert_eq!(refused, [(second, Err(ProvisioningRefusal::Overloaded))]);
    assert!(matches!(bench.sync().as_slice(), [(call, Ok(_))] if *call == first));
    assert!(bench.provision(wanted(FIRST, "2", CREDIT)).is_ok());
    assert_eq!(bench.recovered(bench.log.len()).tokens(), 2);
}

#[test]
fn events_that_cannot_follow_are_named() {
    let mut bench = Bench::new();
    let token = bench.provision(wanted(FIRST, "0", CREDIT)).unwrap();
    bench.move_to(FIRST, "1", token.reference, Move::Suspend(Suspender::Cardholder)).unwrap();
    bench.move_to(FIRST, "2", token.reference, Move::Resume(Suspender::Cardholder)).unwrap();
    let events: Vec<&[u8]> = bench.log.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    let outside = Bench::with(|config| config.token_ranges[0].length = 15).config;
    for (config, order, reason) in [
        (&bench.config, vec![events[0], events[0]], "the token or its place is in use"),
        (&bench.config, vec![events[1]], "no such record"),
        (&bench.config, vec![events[0], events[2]], "a change of status is missing before it"),
        (&bench.config, vec![events[0], b"junk"], "cannot be read"),
        (&outside, vec![events[0]], "the token lies in no configured token range"),
    ] {
        let mut tsp = empty(config);
        let results = order.iter().enumerate().map(|(at, bytes)| tsp.replay_event(at as u64, TODAY, bytes));
        let last = results.last().unwrap();
        assert!(matches!(&last, Err(TspError::Event { reason: found, .. }) if *found == reason), "{last:?}");
    }
}

#[test]
fn an_event_names_its_cause_and_no_pan() {
    let mut bench = Bench::new();
    bench.provision(wanted(FIRST, "request-77", CREDIT)).unwrap();
    let (_, bytes) = &bench.log[0];
    let cause = TokenEvent::decode(bytes).unwrap().cause;
    assert_eq!(cause.request_id.as_str(), "request-77");
    let first = TokenRequestorId::parse(FIRST).unwrap();
    assert_eq!((cause.principal, cause.requestor), (Principal::Requestor(first), Some(first)));
    assert!(!bytes.windows(12).any(|part| CREDIT.windows(12).any(|digits| digits == part)));
}
