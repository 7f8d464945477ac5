//! Stand-in: what is approved in an issuer's place, what the issuer hears of it, and where it ends.

use std::time::Duration;

use tokenswitch::codec::{DataElement, Message};
use tokenswitch::journal::JournalConfig;
use tokenswitch::switch::{Limits, StandInTerms, SwitchConfig};
use tokenswitch::vocab::{Amount, Currency, EntryMode, MerchantCategory, TokenAssuranceMethod};

use crate::desk::{Desk, FIRST, SECOND, answer_to, get, repeat, reversal, set};
use crate::house::Crash;
use crate::setting::{ISSUER_TIMEOUT, ISSUERS, LIMITS, switch_config};

type Change = fn(&mut Message);

fn terms() -> StandInTerms {
    StandInTerms {
        most: Amount::new(2_000, Currency::from_letters("EUR").unwrap()),
        count: 2,
        period: Duration::from_secs(600),
        categories: Vec::new(),
        entry_modes: Vec::new(),
        assurances: Vec::new(),
    }
}

fn desk(terms: &StandInTerms, limits: Limits) -> Desk {
    let mut config = SwitchConfig { limits, ..switch_config() };
    config.issuers.values_mut().for_each(|issuer| issuer.stand_in = Some(terms.clone()));
    Desk::with(config, JournalConfig::default().queue_bytes)
}

/// A purchase with the plain card, typed in: no chip that the issuer alone could verify.
fn keyed(desk: &Desk, stan: u32) -> Message {
    let mut purchase = desk.purchase(stan);
    set(&mut purchase, &[(22, "011")]);
    purchase
}

/// No issuer can be reached.
fn unreachable(desk: &mut Desk) {
    desk.reachable = false;
    for issuer in ISSUERS {
        let connections: Vec<_> = desk.house.node.issuer_connections(issuer).collect();
        connections.into_iter().for_each(|connection| desk.cut(connection, None));
    }
    desk.sent_to_issuers();
}

fn reachable(desk: &mut Desk) {
    desk.reachable = true;
    desk.pass(Duration::from_secs(5));
}

/// The payment is approved here; gives the approval number.
fn stood_in(desk: &mut Desk, request: &Message) -> String {
    desk.send(FIRST, request);
    let answer = desk.answer();
    assert_eq!(get(&answer, 39), "00");
    assert!(get(&answer, 38).starts_with('S'), "{}", get(&answer, 38));
    assert!(desk.sent_to_issuers().is_empty());
    get(&answer, 38)
}

/// The one message that is brought to the issuer now, whatever else was tried before.
fn brought(desk: &mut Desk, code: &str) -> Message {
    let (connection, message) = desk.sent_to_issuers().pop().expect("a stored message");
    desk.send(connection, &answer_to(&message, code));
    message
}

#[test]
fn what_cannot_be_asked_is_approved_and_the_issuer_told() {
    for token in [false, true] {
        for restarts in [false, true] {
            for (said, disputed) in [("00", 0), ("51", 1), ("14", 1)] {
                let mut desk = desk(&terms(), LIMITS);
                unreachable(&mut desk);
                let request = if token { desk.token_purchase(1) } else { keyed(&desk, 1) };
                let approval = stood_in(&mut desk, &request);
                desk.send(SECOND, &repeat(&request));
                assert_eq!(get(&desk.answer(), 38), approval, "the very same answer");
                if restarts {
                    desk = desk.restart(Crash::Unsynced);
                    desk.send(FIRST, &repeat(&request));
                    assert_eq!(get(&desk.answer(), 38), approval, "also after a restart");
                }
                reachable(&mut desk);
                let advice = brought(&mut desk, said);
                assert_eq!(&advice.mti().to_string()[..3], "022");
                assert_eq!((get(&advice, 38), get(&advice, 39)), (approval, "00".into()));
                assert_eq!(get(&advice, 60), "stand-in", "why it was sent");
                assert_eq!((get(&advice, 4), get(&advice, 37)), (get(&request, 4), get(&request, 37)));
                let card = if token { &desk.behind } else { &desk.card };
                assert_eq!(advice.get(DataElement::PAN).unwrap(), card.pan.expose_digits());
                let core = desk.house.node.core();
                assert!(core.stored().is_empty(), "{said} is its word, and recorded");
                assert_eq!(core.counts().stand_in_disputed, disputed);
            }
        }
    }
}

#[test]
fn what_was_asked_and_not_answered_is_taken_back_before_the_advice() {
    for cuts in [false, true] {
        for restarts in [false, true] {
            let mut desk = desk(&terms(), LIMITS);
            let request = keyed(&desk, 1);
            desk.send(FIRST, &request);
            let (connection, asked) = desk.asked();
            if cuts {
                desk.cut(connection, None);
            } else {
                desk.pass(ISSUER_TIMEOUT);
            }
            assert_eq!(get(&desk.answer(), 39), "00");
            let mut sent = desk.sent_to_issuers();
            assert_eq!(sent.len(), 1, "one after the other");
            if restarts {
                desk = desk.restart(Crash::Unsynced);
                desk.pass(Duration::from_secs(1));
                sent = desk.sent_to_issuers();
            } else if !cuts {
                desk.send(connection, &answer_to(&asked, "00"));
                assert_eq!(desk.house.node.core().counts().late, 1, "a late answer is only noted");
            }
            let (connection, undone) = sent.pop().unwrap();
            assert_eq!(&undone.mti().to_string()[..3], "042");
            assert_eq!(undone.original_data().unwrap().unwrap().stan, asked.stan().unwrap().unwrap());
            desk.send(connection, &answer_to(&undone, "00"));
            let advice = brought(&mut desk, "00");
            assert_eq!(&advice.mti().to_string()[..3], "022");
            assert_ne!(get(&advice, 11), get(&asked, 11));
            assert!(desk.house.node.core().stored().is_empty());
        }
    }
}

#[test]
fn an_acquirers_reversal_comes_behind_the_advice_and_names_it() {
    for asked_first in [false, true] {
        for restarts in [false, true] {
            let mut desk = desk(&terms(), LIMITS);
            let request = keyed(&desk, 1);
            if asked_first {
                desk.send(FIRST, &request);
                desk.asked();
                desk.pass(ISSUER_TIMEOUT);
                assert_eq!(get(&desk.answer(), 39), "00");
                unreachable(&mut desk);
            } else {
                unreachable(&mut desk);
                stood_in(&mut desk, &request);
            }
            if restarts {
                desk = desk.restart(Crash::Unsynced);
                unreachable(&mut desk);
            }
            desk.send(FIRST, &reversal(&request, 2));
            assert_eq!(get(&desk.answer(), 39), "00");
            desk.send(FIRST, &repeat(&request));
            assert_eq!(get(&desk.answer(), 39), "91", "it is not given any more");
            reachable(&mut desk);
            if asked_first {
                assert_eq!(&brought(&mut desk, "00").mti().to_string()[..3], "042");
            }
            let advice = brought(&mut desk, "00");
            assert_eq!(&advice.mti().to_string()[..3], "022");
            let undone = brought(&mut desk, "00");
            let data = undone.original_data().unwrap().unwrap();
            assert_eq!(data.mti.to_string(), "0220");
            assert_eq!(
                (Some(data.stan), Some(data.sent_at)),
                (advice.stan().unwrap(), advice.sent_at().unwrap())
            );
            assert!(desk.house.node.core().stored().is_empty());
        }
    }
}

#[test]
fn an_approval_here_that_was_not_given_is_taken_back() {
    let mut desk = desk(&terms(), LIMITS);
    unreachable(&mut desk);
    desk.takes = false;
    let request = keyed(&desk, 1);
    desk.send(FIRST, &request);
    desk.cut(FIRST, None);
    desk.takes = true;
    desk.pass(crate::setting::GRACE * 2);
    reachable(&mut desk);
    assert_eq!(&brought(&mut desk, "00").mti().to_string()[..3], "022");
    assert_eq!(&brought(&mut desk, "00").mti().to_string()[..3], "042");
}

#[test]
fn past_each_term_the_issuer_must_be_asked() {
    let categories = vec![MerchantCategory::parse(b"5411").unwrap()];
    let entry_modes = vec![EntryMode::parse(b"10").unwrap()];
    let assurances = |method: &[u8]| vec![TokenAssuranceMethod::parse(method).unwrap()];
    let none: Change = |_| {};
    let cases: [(&str, StandInTerms, bool, Change, &str); 13] = [
        ("a token", terms(), true, none, "00"),
        ("the most", terms(), false, |m| set(m, &[(4, "000000002000")]), "00"),
        ("more", terms(), false, |m| set(m, &[(4, "000000002001")]), "91"),
        ("another currency", terms(), false, |m| set(m, &[(49, "840")]), "91"),
        ("a chip that nobody verified", terms(), false, |m| set(m, &[(22, "051")]), "91"),
        (
            "its category",
            StandInTerms { categories: categories.clone(), ..terms() },
            true,
            |m| set(m, &[(18, "5411")]),
            "00",
        ),
        (
            "another category",
            StandInTerms { categories: categories.clone(), ..terms() },
            true,
            |m| set(m, &[(18, "5999")]),
            "91",
        ),
        ("no category", StandInTerms { categories, ..terms() }, true, none, "91"),
        ("its entry mode", StandInTerms { entry_modes: entry_modes.clone(), ..terms() }, true, none, "00"),
        (
            "another entry mode",
            StandInTerms { entry_modes, ..terms() },
            false,
            |m| set(m, &[(22, "011")]),
            "91",
        ),
        ("its assurance", StandInTerms { assurances: assurances(b"00"), ..terms() }, true, none, "00"),
        ("another assurance", StandInTerms { assurances: assurances(b"10"), ..terms() }, true, none, "91"),
        ("a card has none", StandInTerms { assurances: assurances(b"00"), ..terms() }, false, none, "91"),
    ];
    for (case, terms, token, change, code) in cases {
        let mut desk = desk(&terms, LIMITS);
        unreachable(&mut desk);
        let mut request = if token { desk.token_purchase(1) } else { keyed(&desk, 1) };
        change(&mut request);
        desk.send(FIRST, &request);
        assert_eq!(get(&desk.answer(), 39), code, "{case}");
    }
}

#[test]
fn a_tap_is_approved_once_its_cryptogram_is_verified() {
    for (counter, wrong) in [(7, false), (7, true)] {
        let mut desk = desk(&terms(), LIMITS);
        unreachable(&mut desk);
        let mut tap = desk.tap(1, counter);
        if wrong {
            let mut chip = desk.chip(counter);
            chip[4] ^= 1;
            tap.set(DataElement::ICC, &chip).unwrap();
        }
        desk.send(FIRST, &tap);
        assert_eq!(get(&desk.answer(), 39), if wrong { "05" } else { "00" });
    }
}

#[test]
fn a_card_has_its_count_within_the_period_also_over_a_restart() {
    let mut desk = desk(&terms(), LIMITS);
    unreachable(&mut desk);
    for stan in [1, 2] {
        let mut request = desk.token_purchase(stan);
        set(&mut request, &[(22, "101")]);
        stood_in(&mut desk, &request);
    }
    for _ in 0..2 {
        let asks = desk.token_purchase(3);
        desk.send(FIRST, &asks);
        assert_eq!(get(&desk.answer(), 39), "91");
        desk = desk.restart(Crash::Unsynced);
        unreachable(&mut desk);
    }
    let other = keyed(&desk, 4);
    stood_in(&mut desk, &other);
    desk.pass(terms().period);
    let again = desk.token_purchase(5);
    stood_in(&mut desk, &again);
}

#[test]
fn approvals_that_are_remembered_have_a_limit() {
    let mut desk = desk(&terms(), Limits { stand_in: 1, ..LIMITS });
    unreachable(&mut desk);
    let first = keyed(&desk, 1);
    stood_in(&mut desk, &first);
    assert_eq!(desk.house.node.core().stood_in(), 1);
    let asks = desk.token_purchase(2);
    desk.send(FIRST, &asks);
    assert_eq!(get(&desk.answer(), 39), "91", "nothing is forgotten for another");
}

#[test]
fn without_terms_or_for_what_is_about_an_earlier_payment_nothing_is_approved() {
    let mut desk = Desk::open();
    unreachable(&mut desk);
    let asks = keyed(&desk, 1);
    desk.send(FIRST, &asks);
    assert_eq!(get(&desk.answer(), 39), "91");
}
