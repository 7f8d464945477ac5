//! The rules of the core, case by case.

use std::time::Duration;

use tokenswitch::codec::{DataElement, LeakScan, Message, encode};
use tokenswitch::journal::JournalConfig;
use tokenswitch::link::ConnectionId;
use tokenswitch::tsp::{Move, Suspender};

use crate::desk::{Desk, FIRST, PARTIAL, SECOND, answer_to, get, repeat, reversal, set, with_mti};
use crate::house::Crash;
use crate::setting::{ACQUIRERS, GRACE, ISSUER_TIMEOUT, dialect_of, switch_config};

type Change = fn(&mut Message);

/// A purchase at its issuer, which has not answered.
struct Forwarded {
    desk: Desk,
    request: Message,
    connection: ConnectionId,
    asked: Message,
}

/// The beginning of many cases: a purchase, with a token or with the card itself, was sent and forwarded.
fn forwarded(token: bool) -> Forwarded {
    let mut desk = Desk::open();
    let request = if token { desk.token_purchase(1) } else { desk.purchase(1) };
    desk.send(FIRST, &request);
    let (connection, asked) = desk.asked();
    Forwarded { desk, request, connection, asked }
}

/// Every reversal that left is acknowledged, and nothing is left to deliver.
fn reversed_once(desk: &mut Desk, request: &Message) {
    let (connection, reversal) = desk.asked();
    assert_eq!(reversal.mti().to_string(), "0420");
    let data = reversal.original_data().unwrap().unwrap();
    assert_eq!(data.mti, request.mti());
    assert_eq!(Some(data.stan), request.stan().unwrap(), "DE 90 names the issuer's leg");
    assert_eq!(Some(data.sent_at), request.sent_at().unwrap());
    assert_eq!((get(&reversal, 2), get(&reversal, 4)), (get(request, 2), get(request, 4)));
    desk.send(connection, &answer_to(&reversal, "00"));
    assert!(desk.house.node.core().stored().is_empty());
    desk.pass(Duration::from_secs(30));
    assert!(desk.sent_to_issuers().is_empty(), "once and no more");
}

#[test]
fn a_purchase_is_forwarded_and_answered_each_after_its_entry() {
    let mut desk = Desk::open();
    desk.syncs = false;
    desk.send(FIRST, &desk.purchase(1));
    assert!(desk.sent_to_issuers().is_empty(), "not before it is durable");
    desk.sync();
    let (connection, asked) = desk.asked();
    assert_eq!(get(&asked, 15), "1122");
    assert_eq!(get(&asked, 33), "990001");
    desk.send(connection, &answer_to(&asked, "00"));
    assert!(desk.sent_to_acquirers().is_empty(), "not before it is durable");
    desk.sync();
    let answer = desk.answer();
    assert_eq!(
        (get(&answer, 39), get(&answer, 38), get(&answer, 11)),
        ("00".into(), "A00001".into(), "000001".into())
    );
    assert_eq!(get(&answer, 15), "1122");
}

#[test]
fn a_token_goes_out_as_its_card_and_comes_back_as_itself() {
    let mut desk = Desk::open();
    let asks = desk.token_purchase(1);
    desk.send(FIRST, &asks);
    let (connection, asked) = desk.asked();
    assert_eq!(asked.get(DataElement::PAN).unwrap(), desk.behind.pan.expose_digits());
    assert_eq!(get(&asked, 14).as_bytes(), desk.behind.expiry.digits());
    desk.send(connection, &answer_to(&asked, "00"));
    let answer = desk.answer();
    assert_eq!((get(&answer, 2), get(&answer, 14)), (get(&asks, 2), get(&asks, 14)));
}

#[test]
fn what_is_refused_here_goes_nowhere() {
    let cases: [(&str, bool, Change, &str); 16] = [
        ("DE 7 older than repeats are known", false, |m| set(m, &[(7, "1119120000")]), "94"),
        ("an institution that is not the acquirer's", false, |m| set(m, &[(32, "999")]), "58"),
        ("a forwarder that is not the acquirer's", false, |m| set(m, &[(33, "999")]), "58"),
        ("a PAN without a route", false, |m| set(m, &[(2, "4000000000000002")]), "92"),
        ("a MAC", false, |m| m.set(DataElement::MAC_64, &[1; 8]).unwrap(), "96"),
        ("a PIN block", false, |m| m.set(DataElement::PIN_BLOCK, &[1; 8]).unwrap(), "96"),
        ("no amount", false, |m| m.remove(DataElement::AMOUNT), "30"),
        ("no currency", false, |m| m.remove(DataElement::CURRENCY), "30"),
        ("no processing code", false, |m| m.remove(DataElement::PROCESSING_CODE), "30"),
        ("no account", false, |m| m.remove(DataElement::PAN), "30"),
        ("another account in DE 35", false, |m| set(m, &[(35, "4761739001010119D27122011")]), "30"),
        ("an unknown token", true, |m| set(m, &[(2, "4895370000000004")]), "14"),
        ("another expiry", true, |m| set(m, &[(14, "3001")]), "54"),
        ("no expiry of a token", true, |m| m.remove(DataElement::EXPIRY), "54"),
        ("an entry mode outside the token's domain", true, |m| set(m, &[(22, "901")]), "57"),
        ("a chip entry mode without its cryptogram", true, |m| set(m, &[(22, "071")]), "57"),
    ];
    for (name, token, change, code) in cases {
        let mut desk = Desk::open();
        let mut request = if token { desk.token_purchase(1) } else { desk.purchase(1) };
        change(&mut request);
        desk.send(FIRST, &request);
        assert_eq!(get(&desk.answer(), 39), code, "{name}");
        assert!(desk.sent_to_issuers().is_empty(), "{name}");
    }
}

#[test]
fn who_did_not_sign_on_is_told_to_come_later() {
    let mut desk = Desk::open();
    let stranger = ConnectionId(9);
    desk.opened(stranger, ACQUIRERS[0]);
    desk.send(stranger, &desk.purchase(1));
    assert_eq!(get(&desk.answer(), 39), "91");
    desk.sign_on(stranger);
    desk.sent_to_acquirers();
    desk.send(stranger, &repeat(&desk.purchase(1)));
    assert_eq!(desk.sent_to_issuers().len(), 1, "nothing was remembered of the refusal");
}

#[test]
fn an_unknown_kind_of_message_is_named_as_such() {
    let mut desk = Desk::open();
    desk.send(FIRST, &with_mti(&desk.purchase(1), "0300"));
    assert_eq!(get(&desk.answer(), 39), "40");
}

#[test]
fn silence_ends_in_a_decline_with_its_reversal_and_a_late_answer_is_only_noted() {
    for token in [false, true] {
        let Forwarded { mut desk, connection, asked, .. } = forwarded(token);
        desk.pass(ISSUER_TIMEOUT);
        assert_eq!(get(&desk.answer(), 39), "91");
        desk.send(connection, &answer_to(&asked, "00"));
        assert!(desk.sent_to_acquirers().is_empty());
        assert_eq!(desk.house.node.core().counts().late, 1);
        reversed_once(&mut desk, &asked);
    }
}

#[test]
fn an_answer_that_names_something_else_matches_nothing() {
    let cases: [(&str, Change); 6] = [
        ("DE 7", |m| set(m, &[(7, "1122000000")])),
        ("DE 11", |m| set(m, &[(11, "777777")])),
        ("DE 32", |m| set(m, &[(32, "4711")])),
        ("DE 37", |m| set(m, &[(37, "000000000777")])),
        ("DE 41", |m| set(m, &[(41, "TERM0777")])),
        ("the MTI", |m| *m = with_mti(m, "0110")),
    ];
    for (name, change) in cases {
        let Forwarded { mut desk, connection, asked, .. } = forwarded(false);
        let mut wrong = answer_to(&asked, "00");
        change(&mut wrong);
        desk.send(connection, &wrong);
        assert!(desk.sent_to_acquirers().is_empty(), "{name}");
        desk.send(connection, &answer_to(&asked, "00"));
        assert_eq!(get(&desk.answer(), 39), "00", "{name}: the right one still counts");
    }
}

#[test]
fn an_answer_that_cannot_be_believed_is_declined_and_reversed_at_once() {
    let cases: [(&str, Change, &str); 3] = [
        ("another amount", |m| set(m, &[(4, "000000009999")]), "96"),
        ("no DE 39", |m| m.remove(DataElement::RESPONSE_CODE), "96"),
        ("a code of no table", |m| set(m, &[(39, "Z9")]), "Z9"),
    ];
    for (name, change, code) in cases {
        let Forwarded { mut desk, connection, asked, .. } = forwarded(false);
        let mut wrong = answer_to(&asked, "00");
        change(&mut wrong);
        desk.send(connection, &wrong);
        assert_eq!(get(&desk.answer(), 39), code, "{name}");
        reversed_once(&mut desk, &asked);
    }
}

#[test]
fn a_partial_approval_passes_only_to_who_can_take_it() {
    for (connection, code, institution) in [(FIRST, "51", "12345678"), (PARTIAL, "10", "87654321")] {
        let mut desk = Desk::open();
        let mut request = desk.purchase(1);
        set(&mut request, &[(32, institution)]);
        desk.send(connection, &request);
        let (issuer, asked) = desk.asked();
        let mut partly = answer_to(&asked, "10");
        set(&mut partly, &[(4, "000000000500")]);
        desk.send(issuer, &partly);
        let answer = desk.answer();
        assert_eq!(get(&answer, 39), code);
        if code == "51" {
            assert_eq!(get(&answer, 4), "000000001234");
            reversed_once(&mut desk, &asked);
        } else {
            assert_eq!(get(&answer, 4), "000000000500");
            assert!(desk.sent_to_issuers().is_empty());
        }
    }
}

#[test]
fn duplicates_in_one_batch_are_forwarded_once_and_the_newest_asker_is_answered() {
    for token in [false, true] {
        let mut desk = Desk::open();
        let request = if token { desk.token_purchase(1) } else { desk.purchase(1) };
        desk.push(FIRST, &request);
        desk.push(SECOND, &repeat(&request));
        desk.push(FIRST, &request);
        desk.push(SECOND, &request);
        desk.settle();
        let (connection, asked) = desk.asked();
        desk.send(connection, &answer_to(&asked, "00"));
        let answers = desk.sent_to_acquirers();
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].0, SECOND);
    }
}

#[test]
fn an_altered_repeat_is_refused_and_the_first_one_goes_on() {
    let alterations: [Change; 4] = [
        |m| set(m, &[(4, "000000009999")]),
        |m| set(m, &[(49, "840")]),
        |m| set(m, &[(3, "010000")]),
        |m| set(m, &[(2, "4761730000000011"), (14, "2812")]),
    ];
    for (at, alter) in alterations.into_iter().enumerate() {
        let mut desk = Desk::open();
        let request = desk.purchase(1);
        let mut altered = repeat(&request);
        alter(&mut altered);
        desk.send(FIRST, &request);
        let (connection, asked) = desk.asked();
        desk.send(FIRST, &altered);
        assert_eq!(get(&desk.answer(), 39), "94", "in flight, {at}");
        desk.send(connection, &answer_to(&asked, "00"));
        assert_eq!(get(&desk.answer(), 39), "00");
        desk.send(FIRST, &altered);
        assert_eq!(get(&desk.answer(), 39), "94", "answered, {at}");
        let mut desk = desk.restart(Crash::Unsynced);
        desk.send(FIRST, &altered);
        assert_eq!(get(&desk.answer(), 39), "94", "after a restart, {at}");
        assert!(desk.sent_to_issuers().is_empty());
    }
}

#[test]
fn a_repeat_gets_the_very_same_answer_also_after_a_restart() {
    for (token, code) in [(false, "00"), (true, "00"), (false, "51"), (true, "05")] {
        let Forwarded { mut desk, request, connection, asked } = forwarded(token);
        desk.send(connection, &answer_to(&asked, code));
        let first = desk.sent_to_acquirers().remove(0).2;
        desk.send(SECOND, &repeat(&request));
        assert_eq!(desk.sent_to_acquirers().remove(0).2, first);
        let mut desk = desk.restart(Crash::Unsynced);
        desk.send(FIRST, &repeat(&request));
        assert_eq!(desk.sent_to_acquirers().remove(0).2, first, "after a restart");
        assert!(desk.sent_to_issuers().is_empty());
    }
}

#[test]
fn a_request_without_an_outcome_is_reversed_at_the_next_start() {
    for token in [false, true] {
        let Forwarded { mut desk, request, connection, asked } = forwarded(token);
        desk.syncs = false;
        desk.send(connection, &answer_to(&asked, "00"));
        let mut desk = desk.restart(Crash::Unsynced);
        assert_eq!(desk.house.recovered.without_outcome, 1);
        desk.send(FIRST, &repeat(&request));
        assert_eq!(get(&desk.answer(), 39), "91");
        desk.pass(Duration::from_secs(1));
        reversed_once(&mut desk, &asked);
    }
}

#[test]
fn a_reversal_of_what_stands_is_delivered_once() {
    for token in [false, true] {
        let Forwarded { mut desk, request, connection, asked } = forwarded(token);
        desk.send(connection, &answer_to(&asked, "00"));
        desk.answer();
        desk.syncs = false;
        desk.send(FIRST, &reversal(&request, 2));
        desk.send(FIRST, &repeat(&reversal(&request, 2)));
        desk.send(FIRST, &reversal(&request, 3));
        desk.send(FIRST, &repeat(&request));
        assert!(desk.sent_to_acquirers().is_empty(), "nothing is said before it is durable");
        desk.sync();
        let answers = desk.sent_to_acquirers();
        let codes: Vec<String> = answers.iter().map(|(_, answer, _)| get(answer, 39)).collect();
        assert_eq!(codes, ["00", "00", "00", "91"]);
        desk.syncs = true;
        reversed_once(&mut desk, &asked);
    }
}

#[test]
fn a_reversal_that_says_less_than_its_original_is_known_again_after_a_restart() {
    let Forwarded { mut desk, request, connection, asked } = forwarded(false);
    desk.send(connection, &answer_to(&asked, "00"));
    desk.answer();
    let mut short = reversal(&request, 2);
    for number in [12, 13, 37, 41, 42] {
        short.remove(DataElement::new(number).unwrap());
    }
    desk.send(FIRST, &short);
    let first = desk.sent_to_acquirers().remove(0).2;
    let (connection, sent) = desk.asked();
    assert_eq!(
        (get(&sent, 37), get(&sent, 41)),
        (get(&asked, 37), get(&asked, 41)),
        "the issuer gets all of it"
    );
    desk.send(connection, &answer_to(&sent, "00"));
    let mut desk = desk.restart(Crash::Unsynced);
    desk.send(FIRST, &repeat(&short));
    assert_eq!(desk.sent_to_acquirers().remove(0).2, first);
    assert!(desk.sent_to_issuers().is_empty());
}

#[test]
fn a_reversal_in_flight_waits_for_the_outcome() {
    for restarts in [false, true] {
        let Forwarded { mut desk, request, connection, asked } = forwarded(false);
        desk.send(FIRST, &reversal(&request, 2));
        assert_eq!(get(&desk.answer(), 39), "00");
        desk.pass(Duration::from_secs(1));
        assert!(desk.sent_to_issuers().is_empty(), "it must not overtake");
        if restarts {
            desk = desk.restart(Crash::Unsynced);
            desk.pass(Duration::from_secs(1));
            let (connection, sent) = desk.asked();
            assert_eq!(sent.mti().to_string(), "0421", "whether it was sent is not known");
            desk.send(connection, &answer_to(&sent, "00"));
            desk.pass(Duration::from_secs(10));
            assert!(desk.sent_to_issuers().is_empty());
        } else {
            desk.send(connection, &answer_to(&asked, "00"));
            assert_eq!(get(&desk.answer(), 39), "91", "its approval is not given any more");
            reversed_once(&mut desk, &asked);
        }
    }
}

#[test]
fn a_reversal_meets_an_approval_on_its_way_to_the_disk() {
    let Forwarded { mut desk, request, connection, asked } = forwarded(false);
    desk.syncs = false;
    desk.send(connection, &answer_to(&asked, "00"));
    desk.send(FIRST, &reversal(&request, 2));
    desk.sync();
    let mut answers = desk.sent_to_acquirers();
    answers.sort_by_key(|(_, answer, _)| get(answer, 11));
    let codes: Vec<String> = answers.iter().map(|(_, answer, _)| get(answer, 39)).collect();
    assert_eq!(codes, ["91", "00"]);
    desk.syncs = true;
    reversed_once(&mut desk, &asked);
}

#[test]
fn a_reversal_meets_a_time_out_on_its_way_to_the_disk() {
    let Forwarded { mut desk, request, asked, .. } = forwarded(false);
    desk.syncs = false;
    desk.pass(ISSUER_TIMEOUT);
    desk.send(FIRST, &reversal(&request, 2));
    desk.sync();
    assert_eq!(desk.sent_to_acquirers().len(), 2);
    desk.syncs = true;
    reversed_once(&mut desk, &asked);
}

#[test]
fn a_reversal_that_came_first_stops_its_original() {
    for mti in ["0100", "0200", "0120", "0220"] {
        for restarts in [false, true] {
            let mut desk = Desk::open();
            let request = with_mti(&desk.purchase(1), mti);
            desk.send(FIRST, &reversal(&request, 2));
            assert_eq!(get(&desk.answer(), 39), "25");
            if restarts {
                desk = desk.restart(Crash::Unsynced);
            }
            desk.send(FIRST, &request);
            assert_eq!(get(&desk.answer(), 39), "94", "{mti}");
            assert!(desk.sent_to_issuers().is_empty());
        }
    }
}

#[test]
fn a_reversal_in_the_same_batch_stops_its_original() {
    for token in [false, true] {
        let mut desk = Desk::open();
        let request = if token { desk.token_purchase(1) } else { desk.purchase(1) };
        desk.push(FIRST, &request);
        desk.push(FIRST, &reversal(&request, 2));
        desk.settle();
        assert!(desk.sent_to_issuers().is_empty());
        let answers = desk.sent_to_acquirers();
        let codes: Vec<(String, String)> =
            answers.iter().map(|(_, answer, _)| (get(answer, 11), get(answer, 39))).collect();
        assert!(codes.contains(&("000001".into(), "91".into())), "{codes:?}");
        assert!(codes.contains(&("000002".into(), "00".into())), "{codes:?}");
        let mut desk = desk.restart(Crash::Unsynced);
        desk.send(FIRST, &repeat(&request));
        assert_ne!(get(&desk.answer(), 39), "00");
        assert!(desk.sent_to_issuers().is_empty());
    }
}

#[test]
fn a_reversal_must_fit_its_original() {
    let misfits: [(&str, Change); 4] = [
        ("more money", |m| set(m, &[(4, "000000001235")])),
        ("another currency", |m| set(m, &[(49, "840")])),
        ("another card", |m| set(m, &[(2, "4761730000000011"), (14, "2812")])),
        ("another institution in DE 90", |m| {
            let digits = get(m, 90).replace("12345678", "12345679");
            set(m, &[(90, &digits)]);
        }),
    ];
    for (name, change) in misfits {
        let Forwarded { mut desk, request, connection, asked } = forwarded(false);
        desk.send(connection, &answer_to(&asked, "00"));
        desk.answer();
        let mut wrong = reversal(&request, 2);
        change(&mut wrong);
        desk.send(FIRST, &wrong);
        assert_eq!(get(&desk.answer(), 39), "25", "{name}");
        assert!(desk.sent_to_issuers().is_empty(), "{name}");
    }
}

#[test]
fn an_advice_is_acknowledged_when_durable_and_delivered_until_acknowledged() {
    for token in [false, true] {
        let mut desk = Desk::open();
        let purchase = if token { desk.token_purchase(1) } else { desk.purchase(1) };
        let advice = with_mti(&purchase, "0220");
        desk.syncs = false;
        desk.send(FIRST, &advice);
        desk.send(FIRST, &repeat(&advice));
        assert!(desk.sent_to_acquirers().is_empty() && desk.sent_to_issuers().is_empty());
        desk.syncs = true;
        desk.sync();
        assert_eq!(desk.sent_to_acquirers().len(), 2);
        let (_, first) = desk.asked();
        assert_eq!(first.mti().to_string(), "0220");
        desk.pass(Duration::from_secs(4));
        let again = desk.sent_to_issuers();
        assert!(again.iter().all(|(_, message)| message.mti().to_string() == "0221"));
        let (connection, last) = again.last().expect("it is sent again");
        assert_eq!(get(last, 11), get(&first, 11));
        desk.send(*connection, &answer_to(last, "00"));
        assert!(desk.house.node.core().stored().is_empty());
        desk.send(FIRST, &reversal(&advice, 2));
        assert_eq!(get(&desk.answer(), 39), "00");
        reversed_once(&mut desk, &first);
    }
}

#[test]
fn a_lost_link_is_an_unknown_outcome_once_a_byte_was_written() {
    let mut desk = Desk::open();
    desk.takes = false;
    desk.send(FIRST, &desk.purchase(1));
    let (connection, asked) = desk.asked();
    let begun = desk.queued(connection);
    desk.cut(connection, Some(begun - 1));
    assert_eq!(get(&desk.answer(), 39), "91");
    reversed_once(&mut desk, &asked);
}

#[test]
fn an_issuer_that_knows_repeats_is_asked_again_when_its_link_is_lost() {
    let mut config = switch_config();
    config.issuers.values_mut().for_each(|issuer| issuer.dedupes_repeats = true);
    for answered in [true, false] {
        let mut desk = Desk::with(config.clone(), JournalConfig::default().queue_bytes);
        desk.takes = false;
        desk.send(FIRST, &desk.purchase(1));
        let (first, asked) = desk.asked();
        let begun = desk.queued(first);
        desk.cut(first, Some(begun - 1));
        assert!(desk.sent_to_acquirers().is_empty(), "nothing is known yet");
        let (second, again) = desk.asked();
        assert_ne!(first, second);
        assert_eq!(again.mti().to_string(), "0201");
        for number in [2, 4, 7, 11, 32, 33, 37, 41] {
            assert_eq!(get(&again, number), get(&asked, number), "DE {number}");
        }
        if answered {
            desk.send(second, &answer_to(&again, "00"));
            assert_eq!(get(&desk.answer(), 39), "00");
            assert!(desk.sent_to_issuers().is_empty(), "and nothing is reversed");
            continue;
        }
        // The repeat never left, and no connection is up: what became of the first one is not known.
        desk.cut(second, Some(0));
        assert_eq!(get(&desk.answer(), 39), "91");
        desk.takes = true;
        desk.pass(Duration::from_secs(1));
        reversed_once(&mut desk, &asked);
    }
}

#[test]
fn a_refund_needs_a_permission_or_a_purchase_that_stands() {
    let refund = |of: &Message, stan: u32, original: bool| {
        let mut refund = if original { with_mti(&reversal(of, stan), "0200") } else { with_mti(of, "0200") };
        set(&mut refund, &[(3, "200000"), (11, &format!("{stan:06}")), (37, &format!("{stan:012}"))]);
        refund
    };
    for token in [false, true] {
        let Forwarded { mut desk, request, connection, asked } = forwarded(token);
        desk.send(connection, &answer_to(&asked, "00"));
        assert_eq!(get(&desk.answer(), 39), "00");
        let elsewhere: [Change; 1] = [|m| set(m, &[(32, "87654321")])];
        let dear: [Change; 1] = [|m| set(m, &[(4, "000000005001")])];
        let cases: [(&str, _, bool, &[Change], &str); 6] = [
            ("by permission", FIRST, false, &[], ""),
            ("past the cap", FIRST, false, &dear, "57"),
            ("in another currency", FIRST, false, &[|m| set(m, &[(49, "840")])], "57"),
            ("without permission", PARTIAL, false, &elsewhere, "57"),
            ("of a purchase that stands", FIRST, true, &[], ""),
            ("of more than was paid", FIRST, true, &dear, "57"),
        ];
        for (stan, (case, from, original, changes, code)) in (10..).zip(cases) {
            let mut asks = refund(&request, stan, original);
            changes.iter().for_each(|change| change(&mut asks));
            desk.send(from, &asks);
            if code.is_empty() {
                assert_eq!(desk.sent_to_issuers().len(), 1, "{case}");
            } else {
                assert_eq!(get(&desk.answer(), 39), code, "{case}");
                assert!(desk.sent_to_issuers().is_empty(), "{case}");
            }
        }
    }
}

#[test]
fn what_never_left_moves_to_another_connection_or_is_declined_without_a_reversal() {
    let mut desk = Desk::open();
    desk.takes = false;
    desk.send(FIRST, &desk.purchase(1));
    let (first, asked) = desk.asked();
    desk.cut(first, Some(0));
    let (second, again) = desk.asked();
    assert_ne!(first, second);
    assert_eq!((get(&again, 11), again.mti()), (get(&asked, 11), asked.mti()), "as the original that it is");
    desk.cut(second, Some(0));
    assert_eq!(get(&desk.answer(), 39), "91");
    assert!(desk.house.node.core().stored().is_empty(), "nothing left, so nothing is reversed");
}

#[test]
fn an_approval_that_was_not_given_is_reversed_after_its_grace() {
    let Forwarded { mut desk, connection, asked, .. } = forwarded(false);
    desk.takes = false;
    desk.send(connection, &answer_to(&asked, "00"));
    assert_eq!(desk.sent_to_acquirers().len(), 1);
    desk.cut(FIRST, None);
    desk.takes = true;
    desk.pass(GRACE - Duration::from_millis(500));
    assert!(desk.sent_to_issuers().is_empty());
    desk.pass(Duration::from_secs(1));
    reversed_once(&mut desk, &asked);
}

#[test]
fn a_repeat_collects_an_approval_that_was_not_given() {
    let Forwarded { mut desk, request, connection, asked } = forwarded(false);
    desk.cut(FIRST, None);
    desk.send(connection, &answer_to(&asked, "00"));
    assert!(desk.sent_to_acquirers().is_empty(), "nobody is there");
    desk.pass(Duration::from_secs(1));
    desk.send(SECOND, &repeat(&request));
    assert_eq!(get(&desk.answer(), 39), "00");
    desk.pass(GRACE * 2);
    assert!(desk.sent_to_issuers().is_empty());
}

#[test]
fn an_approval_once_given_stands_even_if_the_answer_to_a_repeat_is_lost() {
    for restarts in [false, true] {
        let Forwarded { mut desk, request, connection, asked } = forwarded(false);
        desk.send(connection, &answer_to(&asked, "00"));
        desk.answer();
        if restarts {
            desk = desk.restart(Crash::Unsynced);
        }
        desk.takes = false;
        desk.send(SECOND, &repeat(&request));
        assert_eq!(get(&desk.answer(), 39), "00");
        desk.cut(SECOND, None);
        desk.pass(GRACE * 2);
        assert!(desk.sent_to_issuers().is_empty(), "the acquirer has it, so only the acquirer undoes it");
    }
}

#[test]
fn the_pan_in_an_answer_is_left_out() {
    let mut desk = Desk::open();
    desk.send(FIRST, &desk.token_purchase(1));
    let (connection, asked) = desk.asked();
    let mut leaky = answer_to(&asked, "00");
    let pan = get(&asked, 2);
    let (head, tail) = pan.split_at(12);
    set(
        &mut leaky,
        &[(54, &format!("0002978C{head}{tail}978C{:012}", 0)), (63, &format!("XX{:03}{pan}", 16))],
    );
    desk.send(connection, &leaky);
    let answers = desk.sent_to_acquirers();
    let (_, answer, frame) = &answers[0];
    assert_eq!(get(answer, 39), "00");
    assert!(!answer.has(DataElement::new(54).unwrap()));
    assert!(LeakScan::new(&desk.behind.pan).find(frame).is_none());
    assert!(desk.sent_to_issuers().is_empty(), "the answer could stand without it");
}

#[test]
fn a_refusal_is_said_again_while_the_process_lives_and_unknown_after_it() {
    let mut desk = Desk::open();
    let request = desk.token_purchase(1);
    desk.move_token(Move::Suspend(Suspender::Cardholder));
    desk.send(FIRST, &request);
    let refused = desk.answer();
    assert_ne!(get(&refused, 39), "00");
    desk.move_token(Move::Resume(Suspender::Cardholder));
    desk.send(FIRST, &repeat(&request));
    assert_eq!(get(&desk.answer(), 39), get(&refused, 39));
    assert!(desk.sent_to_issuers().is_empty());
    // Nothing was written down: to the next process it is unknown, and so the original.
    let mut desk = desk.restart(Crash::Unsynced);
    desk.sent_to_issuers();
    desk.send(FIRST, &repeat(&request));
    let (connection, asked) = desk.asked();
    desk.send(connection, &answer_to(&asked, "00"));
    assert_eq!(get(&desk.answer(), 39), "00");
}

#[test]
fn a_balance_is_given_and_an_answer_with_a_malformed_one_is_an_unknown_outcome() {
    for good in [true, false] {
        let Forwarded { mut desk, connection, asked, .. } = forwarded(false);
        let mut answer = answer_to(&asked, "00");
        set(&mut answer, &[(54, "0002978C000000004250")]);
        let mut bytes = Vec::new();
        encode(&dialect_of(desk.link(connection).unwrap()), &answer, &mut bytes).unwrap();
        let sign = bytes.windows(4).position(|four| four == b"978C").unwrap() + 3;
        // Neither credit nor debit.
        bytes[sign] = if good { b'C' } else { b'X' };
        desk.push_bytes(connection, &bytes);
        desk.settle();
        let given = desk.answer();
        if good {
            assert_eq!((get(&given, 39).as_str(), get(&given, 54).as_str()), ("00", "0002978C000000004250"));
            assert!(desk.sent_to_issuers().is_empty());
        } else {
            assert_eq!(get(&given, 39), "96");
            assert!(!given.has(DataElement::new(54).unwrap()));
            assert_eq!(desk.asked().1.mti().to_string(), "0420");
        }
    }
}

#[test]
fn the_clock_ends_a_window_and_what_is_in_flight_keeps_its_own() {
    let Forwarded { mut desk, connection, asked, .. } = forwarded(false);
    assert_eq!(get(&asked, 15), "1122");
    desk.pass(Duration::from_secs(1));
    desk.send(connection, &answer_to(&asked, "00"));
    assert_eq!(get(&desk.answer(), 15), "1122");
    desk.pass(Duration::from_secs(40));
    desk.sent_to_issuers();
    desk.send(FIRST, &desk.purchase(2));
    assert_eq!(get(&desk.asked().1, 15), "1123");
    let mut desk = desk.restart(Crash::Unsynced);
    desk.pass(Duration::from_secs(1));
    let (_, reversal) = desk.asked();
    assert_eq!(get(&reversal, 15), "1123");
}
