//! Stand-in: what is approved in an issuer's place, what the issuer hears of it, and where it ends.

use std::time::Duration;

use tokenswitch::codec::{DataElement, Message};
use tokenswitch::journal::JournalConfig;
use tokenswitch::switch::{Limits, StandInTerms, SwitchConfig};
use tokenswitch::vocab::{Amount, Currency, EntryMode, MerchantCategory, Refusal, TokenAssuranceMethod};

use crate::desk::{Desk, FIRST, SECOND, answer_to, get, repeat, reversal, set, with_mti};
use crate::house::Crash;
use crate::setting::{ISSUER_TIMEOUT, ISSUERS, LIMITS, passing_config, pool_of, switch_config};

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
    desk_of(SwitchConfig { limits, ..switch_config() }, terms)
}

fn desk_of(mut config: SwitchConfig, terms: &StandInTerms) -> Desk {
    config.issuers.values_mut().for_each(|issuer| issuer.stand_in = Some(terms.clone()));
    Desk::with(config, JournalConfig::default().queue_bytes)
}

/// A purchase with the plain card, typed in: no chip that the issuer alone could verify.
fn keyed(desk: &Desk, stan: u32) -> Message {
    let mut purchase = desk.purchase(stan);
    set(&mut purchase, &[(22, "011")]);
    purchase
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
                desk.lose_issuers();
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
                assert_eq!(desk.exceptions().len() as u64, disputed, "{said}: a person must see it");
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

/// Found by seed 2506: the repeat's answer waited behind another entry, and was given after the reversal.
#[test]
fn a_repeat_that_its_reversal_overtakes_hears_no_approval() {
    let mut desk = desk(&terms(), LIMITS);
    desk.lose_issuers();
    let first = keyed(&desk, 1);
    stood_in(&mut desk, &first);
    desk.syncs = false;
    for message in [keyed(&desk, 2), repeat(&first), reversal(&first, 3)] {
        desk.push(FIRST, &message);
    }
    desk.settle();
    assert!(desk.sent_to_acquirers().is_empty(), "nothing is durable");
    desk.syncs = true;
    desk.sync();
    let answers: Vec<_> = desk.sent_to_acquirers().into_iter().map(|(_, answer, _)| answer).collect();
    let told = |stan: &str| {
        answers.iter().filter(|it| get(it, 11) == stan).map(|it| get(it, 39)).collect::<Vec<_>>()
    };
    assert_eq!((told("000001"), told("000003")), (vec!["91".to_owned()], vec!["00".to_owned()]));
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
                desk.lose_issuers();
            } else {
                desk.lose_issuers();
                stood_in(&mut desk, &request);
            }
            if restarts {
                desk = desk.restart(Crash::Unsynced);
                desk.lose_issuers();
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

/// Behind the first message to its issuer wait two others about the same payment, and none of them has left since the
/// restart.
#[test]
fn no_answer_counts_for_a_message_that_has_not_been_sent() {
    let mut desk = desk(&terms(), LIMITS);
    let request = keyed(&desk, 1);
    desk.send(FIRST, &request);
    desk.asked();
    desk.pass(ISSUER_TIMEOUT);
    assert_eq!(get(&desk.answer(), 39), "00");
    desk.lose_issuers();
    desk.send(FIRST, &reversal(&request, 2));
    assert_eq!(get(&desk.answer(), 39), "00");
    let mut desk = desk.restart(Crash::Unsynced);
    reachable(&mut desk);
    let (connection, first) = desk.sent_to_issuers().pop().expect("the reversal of what was asked");
    let number = first.stan().unwrap().unwrap();
    for later in [number.next(), number.next().next()] {
        let mut lie = answer_to(&first, "00");
        set(&mut lie, &[(11, &later.to_string())]);
        desk.send(connection, &lie);
        assert_eq!(desk.house.node.core().stored().len(), 3, "{later} has not been said yet");
    }
}

#[test]
fn an_approval_here_that_was_not_given_is_taken_back() {
    let mut desk = desk(&terms(), LIMITS);
    desk.lose_issuers();
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
        desk.lose_issuers();
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
        desk.lose_issuers();
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
    desk.lose_issuers();
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
        desk.lose_issuers();
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
    desk.lose_issuers();
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
    desk.lose_issuers();
    let asks = keyed(&desk, 1);
    desk.send(FIRST, &asks);
    assert_eq!(get(&desk.answer(), 39), "91");
}

/// DE 7 and DE 11.
fn name(message: &Message) -> [String; 2] {
    [7, 11].map(|element| get(message, element))
}

/// The switch's own numbers begin with 1, and so does the acquirer.
#[test]
fn where_identifiers_pass_an_advice_never_has_the_name_of_an_acquirers_message() {
    for restarts in [false, true] {
        let mut desk = desk_of(passing_config(), &terms());
        let asked_first = keyed(&desk, 1);
        desk.send(FIRST, &asked_first);
        let (connection, asked) = desk.asked();
        assert_eq!(name(&asked), name(&asked_first));
        desk.send(connection, &answer_to(&asked, "00"));
        assert_eq!(get(&desk.answer(), 39), "00");
        if restarts {
            desk = desk.restart(Crash::Unsynced);
        }
        desk.lose_issuers();
        let request = keyed(&desk, 2);
        assert_eq!(get(&request, 7), get(&asked_first, 7), "in the same second");
        stood_in(&mut desk, &request);
        reachable(&mut desk);
        let advice = brought(&mut desk, "00");
        assert_ne!(name(&advice), name(&asked_first));
        assert_ne!(name(&advice), name(&request));
    }
}

#[test]
fn where_identifiers_pass_no_acquirers_message_gets_the_name_of_an_advice() {
    for restarts in [false, true] {
        let mut desk = desk_of(passing_config(), &terms());
        let (request, late) = (keyed(&desk, 2), keyed(&desk, 1));
        desk.lose_issuers();
        desk.syncs = false;
        desk.send(FIRST, &request);
        desk.sync();
        desk.send(FIRST, &late);
        assert_eq!(get(&desk.answer(), 39), "91", "also before the advice is durable");
        desk.syncs = true;
        desk.sync();
        assert_eq!(get(&desk.answer(), 39), "00");
        reachable(&mut desk);
        let told = brought(&mut desk, "00");
        assert_eq!(name(&told), name(&late));
        if restarts {
            desk = desk.restart(Crash::Unsynced);
        }
        let refused = desk.refused(Refusal::IdentifiersInUse);
        let mut other = late.clone();
        set(&mut other, &[(41, "TERM0002"), (37, "000000000009")]);
        desk.send(FIRST, &other);
        assert_eq!(get(&desk.answer(), 39), "91", "the issuer has it already");
        assert_eq!(desk.refused(Refusal::IdentifiersInUse), refused + 1);
        let mut happened = with_mti(&other, "0220");
        set(&mut happened, &[(41, "TERM0003"), (37, "000000000010")]);
        desk.send(FIRST, &happened);
        assert_eq!(get(&desk.answer(), 39), "00", "what happened has happened");
        let renamed = brought(&mut desk, "00");
        assert!([&told, &request].into_iter().all(|taken| name(taken) != name(&renamed)));
        if restarts {
            desk = desk.restart(Crash::Unsynced);
        }
        let mut last = keyed(&desk, renamed.stan().unwrap().unwrap().get());
        set(&mut last, &[(7, &get(&renamed, 7))]);
        let refused = desk.refused(Refusal::IdentifiersInUse);
        desk.send(FIRST, &last);
        assert_eq!(desk.refused(Refusal::IdentifiersInUse), refused + 1);
    }
}

/// Found by seed 11445: the reversal has a later number than the advice behind it, and was forgotten for it.
#[test]
fn no_number_is_given_twice_over_a_restart() {
    let mut desk = desk(&terms(), LIMITS);
    let first = keyed(&desk, 1);
    desk.send(FIRST, &first);
    let (connection, _) = desk.asked();
    desk.cut(connection, None);
    let (connection, undone) = desk.sent_to_issuers().pop().expect("its reversal");
    desk.send(connection, &answer_to(&undone, "00"));
    let advice = brought(&mut desk, "00");
    let mut desk = desk.restart(Crash::Unsynced);
    reachable(&mut desk);
    let second = keyed(&desk, 2);
    desk.send(FIRST, &second);
    let (_, next) = desk.asked();
    assert!(get(&next, 11) > get(&undone, 11).max(get(&advice, 11)), "{} again", get(&next, 11));
}

#[test]
fn nothing_is_approved_in_the_place_of_an_issuer_that_is_only_busy() {
    let mut desk = desk(&terms(), LIMITS);
    // Both connections have as many unanswered as they may.
    let places = 2 * pool_of(ISSUERS[0]).in_flight;
    for stan in 1..=places {
        desk.send(FIRST, &keyed(&desk, stan));
    }
    assert_eq!(desk.sent_to_issuers().len(), usize::try_from(places).unwrap());
    desk.send(FIRST, &keyed(&desk, places + 1));
    assert_eq!(get(&desk.answer(), 39), "91");
    assert_eq!(desk.refused(Refusal::IssuerUnavailable), 1);
    assert_eq!(desk.house.node.core().counts().stood_in, 0);
}
