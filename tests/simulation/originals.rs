//! Messages about an earlier one: reversals, partial ones too, refunds, completions and raises — while the switch
//! remembers the original, when only the history does, over restarts, and whatever became of the token.

use std::time::Duration;

use tokenswitch::codec::{DataElement, Message};
use tokenswitch::journal::JournalConfig;
use tokenswitch::link::ConnectionId;
use tokenswitch::switch::{Limits, SwitchConfig};
use tokenswitch::tsp::{Move, Suspender};
use tokenswitch::vocab::Refusal;

use crate::desk::{Desk, FIRST, PARTIAL, SECOND, answer_to, get, repeat, reversal, set, with_mti};
use crate::house::{Crash, Remembering};
use crate::setting::{ISSUER_TIMEOUT, LIMITS, routes, switch_config};

/// A switch that remembers two answers; unreferenced refunds nobody may ask for.
pub(crate) fn forgetful() -> Desk {
    bounded(Limits { answered: 2, ..LIMITS })
}

pub(crate) fn bounded(limits: Limits) -> Desk {
    let mut config = SwitchConfig { limits, ..switch_config() };
    config.acquirers.values_mut().for_each(|acquirer| acquirer.refunds = None);
    Desk::with(config, JournalConfig::default().queue_bytes)
}

/// Sends a request that must be forwarded, and lets the issuer say `code`; gives what the issuer saw.
pub(crate) fn asked(desk: &mut Desk, request: &Message, code: &str) -> Message {
    desk.send(FIRST, request);
    let (connection, asked) = desk.asked();
    desk.send(connection, &answer_to(&asked, code));
    assert_eq!(get(&desk.answer(), 39), code);
    asked
}

/// It is refused here with this code, and the issuer sees nothing of it.
fn refused(desk: &mut Desk, request: &Message, code: &str) {
    desk.send(FIRST, request);
    assert_eq!(get(&desk.answer(), 39), code);
    assert!(desk.sent_to_issuers().is_empty());
}

pub(crate) fn refunded(desk: &mut Desk, purchase: &Message, stan: u32, minor: u64) {
    let refund = refund(desk, purchase, stan, minor);
    asked(desk, &refund, "00");
}

pub(crate) fn refund_refused(desk: &mut Desk, purchase: &Message, stan: u32, minor: u64, code: &str) {
    let refund = refund(desk, purchase, stan, minor);
    refused(desk, &refund, code);
}

/// It is acknowledged and delivered; gives what the issuer saw.
pub(crate) fn delivered(desk: &mut Desk, message: &Message) -> Message {
    desk.send(FIRST, message);
    assert_eq!(get(&desk.answer(), 39), "00");
    let (connection, sent) = desk.asked();
    desk.send(connection, &answer_to(&sent, "00"));
    assert!(desk.house.node.core().stored().is_empty());
    sent
}

/// Other payments, so that everything before is forgotten.
pub(crate) fn forget(desk: &mut Desk, stan: u32) {
    for stan in stan..stan + 3 {
        desk.pass(Duration::from_secs(1));
        let other = desk.purchase(stan);
        asked(desk, &other, "00");
    }
}

pub(crate) fn names(message: &Message, original: &Message) {
    let data = message.original_data().unwrap().unwrap();
    assert_eq!(data.mti, original.mti());
    assert_eq!(Some(data.stan), original.stan().unwrap(), "DE 90 is of the issuer's leg");
    assert_eq!(Some(data.sent_at), original.sent_at().unwrap());
    assert_eq!((get(message, 2), get(message, 14)), (get(original, 2), get(original, 14)), "the same card");
}

pub(crate) fn amount(message: &mut Message, minor: u64) {
    set(message, &[(4, &format!("{minor:012}"))]);
}

/// A refund of so much, by DE 90, a second later.
pub(crate) fn refund(desk: &mut Desk, of: &Message, stan: u32, minor: u64) -> Message {
    let mut refund = later(desk, with_mti(&reversal(of, stan), "0200"));
    amount(&mut refund, minor);
    set(&mut refund, &[(3, "200000"), (37, &format!("{stan:012}"))]);
    refund
}

/// The message as sent a second from now.
pub(crate) fn later(desk: &mut Desk, mut message: Message) -> Message {
    desk.pass(Duration::from_secs(1));
    set(&mut message, &[(7, &get(&desk.purchase(1), 7))]);
    message
}

/// The original is to stand with so much (DE 95).
pub(crate) fn partial_reversal(of: &Message, stan: u32, left: u64) -> Message {
    let mut partial = reversal(of, stan);
    set(&mut partial, &[(95, &format!("{left:012}{:012}C{:08}C{:08}", 0, 0, 0))]);
    partial
}

/// A hold, and its completion by DE 37 and DE 38 alone.
pub(crate) fn completion(hold: &Message, stan: u32, minor: u64) -> Message {
    let mut completion = with_mti(hold, "0220");
    amount(&mut completion, minor);
    set(&mut completion, &[(11, &format!("{stan:06}")), (38, "A00001")]);
    completion
}

type Fate = fn(&mut Desk);
type Change = fn(&mut Message);

const FATES: [(&str, Fate); 4] = [
    ("active", |_| {}),
    ("suspended", |desk| desk.move_token(Move::Suspend(Suspender::Cardholder))),
    ("deactivated", |desk| desk.move_token(Move::Unlink)),
    ("for another card", Desk::replace_card),
];

#[test]
fn an_advice_that_memory_has_forgotten_is_not_taken_twice() {
    for restarts in [false, true] {
        let mut desk = forgetful();
        let advice = with_mti(&desk.purchase(1), "0220");
        delivered(&mut desk, &advice);
        for stan in 2..5 {
            desk.pass(Duration::from_secs(1));
            let purchase = desk.purchase(stan);
            asked(&mut desk, &purchase, "00");
        }
        if restarts {
            desk = desk.restart(Crash::Unsynced);
        }
        for again in [repeat(&advice), advice.clone()] {
            refused(&mut desk, &again, "00");
        }
        let mut altered = repeat(&advice);
        set(&mut altered, &[(4, "000000009999")]);
        refused(&mut desk, &altered, "94");
        let mut other = advice.clone();
        set(&mut other, &[(11, "000099"), (37, "000000000099")]);
        delivered(&mut desk, &other);
    }
}

#[test]
fn a_reversal_finds_what_left_memory() {
    for token in [false, true] {
        for restarts in [false, true] {
            for (fate, befall) in FATES {
                let case = format!("token {token}, restarts {restarts}, {fate}");
                let mut desk = forgetful();
                let purchase = if token { desk.token_purchase(1) } else { desk.purchase(1) };
                let original = asked(&mut desk, &purchase, "00");
                forget(&mut desk, 10);
                befall(&mut desk);
                if restarts {
                    desk = desk.restart(Crash::Unsynced);
                }
                let undone = delivered(&mut desk, &reversal(&purchase, 2));
                names(&undone, &original);
                desk.send(FIRST, &reversal(&purchase, 3));
                assert_eq!(get(&desk.answer(), 39), "00", "{case}: a second one has nothing to undo");
                forget(&mut desk, 20);
                desk.send(FIRST, &reversal(&purchase, 4));
                assert_eq!(get(&desk.answer(), 39), "00", "{case}: nor when that was forgotten");
                assert!(desk.sent_to_issuers().is_empty(), "{case}");
            }
        }
    }
}

#[test]
fn what_the_history_does_not_know_either_is_unknown() {
    let mut desk = forgetful();
    let never = desk.purchase(1);
    forget(&mut desk, 10);
    refused(&mut desk, &reversal(&never, 2), "25");
    let mut late = with_mti(&never, "0220");
    set(&mut late, &[(39, "00")]);
    refused(&mut desk, &late, "94");
}

#[test]
fn refunds_come_to_what_was_paid_and_no_more() {
    for forgets in [false, true] {
        for restarts in [false, true] {
            for (fate, befall) in FATES {
                let mut desk = if forgets { forgetful() } else { bounded(LIMITS) };
                let purchase = desk.token_purchase(1);
                let original = asked(&mut desk, &purchase, "00");
                befall(&mut desk);
                let mut stan = 100;
                let cases =
                    [(500, "00"), (500, "00"), (235, "57"), (234, "51"), (234, "05"), (234, "00"), (1, "57")];
                for (minor, code) in cases {
                    let case = format!("forgets {forgets}, restarts {restarts}, {fate}: {minor} is {code}");
                    stan += 10;
                    if forgets {
                        forget(&mut desk, stan + 1);
                    }
                    if restarts {
                        desk = desk.restart(Crash::Unsynced);
                    }
                    let refund = refund(&mut desk, &purchase, stan, minor);
                    if code == "57" {
                        desk.send(FIRST, &refund);
                        assert_eq!(get(&desk.answer(), 39), "57", "{case}");
                        assert!(desk.sent_to_issuers().is_empty(), "{case}");
                    } else {
                        names(&asked(&mut desk, &refund, code), &original);
                    }
                }
            }
        }
    }
}

#[test]
fn a_refund_in_flight_counts_and_one_taken_back_does_not() {
    for restarts in [false, true] {
        let mut desk = forgetful();
        let purchase = desk.purchase(1);
        asked(&mut desk, &purchase, "00");
        let first = refund(&mut desk, &purchase, 2, 1_000);
        desk.send(FIRST, &first);
        let (connection, at_issuer) = desk.asked();
        refund_refused(&mut desk, &purchase, 3, 1_000, "57");
        desk.send(connection, &answer_to(&at_issuer, "00"));
        assert_eq!(get(&desk.answer(), 39), "00");
        if restarts {
            desk = desk.restart(Crash::Unsynced);
        }
        refund_refused(&mut desk, &purchase, 4, 1_000, "57");
        delivered(&mut desk, &reversal(&first, 5));
        if restarts {
            desk = desk.restart(Crash::Unsynced);
        }
        refunded(&mut desk, &purchase, 6, 1_000);
        refund_refused(&mut desk, &purchase, 7, 1_000, "57");
        // An issuer that is silent gets a reversal, and the refund does not count.
        let mut desk = forgetful();
        let purchase = desk.purchase(1);
        asked(&mut desk, &purchase, "00");
        let asks = refund(&mut desk, &purchase, 2, 1_234);
        desk.send(FIRST, &asks);
        desk.asked();
        desk.pass(ISSUER_TIMEOUT);
        assert_eq!(get(&desk.answer(), 39), "91");
        let (connection, undone) = desk.asked();
        desk.send(connection, &answer_to(&undone, "00"));
        refunded(&mut desk, &purchase, 8, 1_234);
    }
}

#[test]
fn what_was_declined_or_reversed_is_not_refunded() {
    let mut desk = forgetful();
    let declined = desk.purchase(1);
    asked(&mut desk, &declined, "51");
    refund_refused(&mut desk, &declined, 2, 100, "57");
    let mut desk = forgetful();
    let purchase = desk.purchase(1);
    asked(&mut desk, &purchase, "00");
    delivered(&mut desk, &reversal(&purchase, 2));
    refund_refused(&mut desk, &purchase, 3, 100, "57");
    let mut desk = forgetful();
    let purchase = desk.purchase(1);
    asked(&mut desk, &purchase, "00");
    delivered(&mut desk, &partial_reversal(&purchase, 2, 700));
    refund_refused(&mut desk, &purchase, 3, 701, "57");
    refunded(&mut desk, &purchase, 4, 700);
}

#[test]
fn a_partial_reversal_leaves_what_it_says() {
    for forgets in [false, true] {
        for restarts in [false, true] {
            let case = format!("forgets {forgets}, restarts {restarts}");
            let mut desk = if forgets { forgetful() } else { bounded(LIMITS) };
            let purchase = desk.purchase(1);
            let original = asked(&mut desk, &purchase, "00");
            refused(&mut desk, &partial_reversal(&purchase, 2, 1_235), "25");
            desk.send(FIRST, &partial_reversal(&purchase, 3, 1_234));
            assert_eq!(get(&desk.answer(), 39), "00", "{case}: it is so already");
            assert!(desk.sent_to_issuers().is_empty());
            let sent = delivered(&mut desk, &partial_reversal(&purchase, 4, 700));
            names(&sent, &original);
            assert_eq!(
                (get(&sent, 4), get(&sent, 95)[..12].to_owned()),
                (get(&original, 4), "000000000700".into())
            );
            if forgets {
                forget(&mut desk, 10);
            }
            if restarts {
                desk = desk.restart(Crash::Unsynced);
            }
            desk.send(FIRST, &partial_reversal(&purchase, 5, 700));
            assert_eq!(get(&desk.answer(), 39), "00", "{case}: the same once more");
            assert!(desk.sent_to_issuers().is_empty(), "{case}: one reversal and no second one");
            refused(&mut desk, &partial_reversal(&purchase, 6, 600), "25");
            refused(&mut desk, &reversal(&purchase, 7), "25");
            refunded(&mut desk, &purchase, 8, 700);
        }
    }
}

#[test]
fn a_partial_reversal_in_flight_takes_all_back() {
    let mut desk = forgetful();
    let purchase = desk.purchase(1);
    desk.send(FIRST, &purchase);
    let (connection, at_issuer) = desk.asked();
    desk.send(FIRST, &partial_reversal(&purchase, 2, 700));
    assert_eq!(get(&desk.answer(), 39), "00");
    desk.send(connection, &answer_to(&at_issuer, "00"));
    assert_eq!(get(&desk.answer(), 39), "91", "who is told so must not be charged");
    let (_, sent) = desk.asked();
    assert_eq!(&get(&sent, 95)[..12], "000000000000");
}

#[test]
fn a_partial_approval_is_reversed_and_refunded_for_what_it_was() {
    let mut desk = forgetful();
    let mut purchase = desk.purchase(1);
    set(&mut purchase, &[(32, "87654321")]);
    desk.send(PARTIAL, &purchase);
    let (connection, at_issuer) = desk.asked();
    let mut partly = answer_to(&at_issuer, "10");
    amount(&mut partly, 500);
    desk.send(connection, &partly);
    assert_eq!(get(&desk.answer(), 39), "10");
    let institution = |mut message: Message| {
        let digits = get(&message, 90).replace("12345678", "87654321");
        set(&mut message, &[(32, "87654321"), (90, &digits)]);
        message
    };
    let asks = institution(refund(&mut desk, &purchase, 2, 501));
    desk.send(PARTIAL, &asks);
    assert_eq!(get(&desk.answer(), 39), "57");
    let asks = institution(refund(&mut desk, &purchase, 3, 500));
    desk.send(PARTIAL, &asks);
    assert_eq!(desk.sent_to_issuers().len(), 1);
}

/// A message of the second acquirer, which takes partial approvals.
fn of_second(mut message: Message) -> Message {
    set(&mut message, &[(32, "87654321")]);
    if message.has(DataElement::ORIGINAL_DATA) {
        let digits = get(&message, 90).replace("12345678", "87654321");
        set(&mut message, &[(90, &digits)]);
    }
    message
}

#[test]
fn a_partial_approval_is_taken_back_by_what_was_asked_or_approved() {
    for forgets in [false, true] {
        for restarts in [false, true] {
            for (minor, code) in [(500, "00"), (1_234, "00"), (499, "25"), (501, "25"), (1_235, "25")] {
                let case = format!("forgets {forgets}, restarts {restarts}, {minor}");
                let mut desk = if forgets { forgetful() } else { bounded(LIMITS) };
                let purchase = of_second(desk.purchase(1));
                desk.send(PARTIAL, &purchase);
                let (connection, at_issuer) = desk.asked();
                let mut partly = answer_to(&at_issuer, "10");
                amount(&mut partly, 500);
                desk.send(connection, &partly);
                assert_eq!(get(&desk.answer(), 39), "10", "{case}");
                if forgets {
                    forget(&mut desk, 10);
                }
                if restarts {
                    desk = desk.restart(Crash::Unsynced);
                }
                let mut undoes = of_second(reversal(&purchase, 2));
                amount(&mut undoes, minor);
                desk.send(PARTIAL, &undoes);
                let answer = desk.answer();
                assert_eq!((get(&answer, 39), get(&answer, 4)), (code.into(), get(&undoes, 4)), "{case}");
                let sent = desk.sent_to_issuers();
                assert_eq!(sent.len(), usize::from(code == "00"), "{case}");
                for (connection, sent) in sent {
                    names(&sent, &at_issuer);
                    assert_eq!(get(&sent, 4), get(&at_issuer, 4), "{case}: the original's");
                    assert!(!sent.has(DataElement::REPLACEMENT_AMOUNTS), "{case}: all of it");
                    desk.send(connection, &answer_to(&sent, "00"));
                    assert!(desk.house.node.core().stored().is_empty(), "{case}");
                    if restarts {
                        desk = desk.restart(Crash::Unsynced);
                    }
                    desk.send(PARTIAL, &repeat(&undoes));
                    assert_eq!(get(&desk.answer(), 39), "00", "{case}: the same again");
                    assert!(desk.sent_to_issuers().is_empty(), "{case}");
                }
            }
        }
    }
}

#[test]
fn a_reversal_of_less_says_what_is_to_stand() {
    // DE 4, DE 95, and what becomes of it: of 12.34 so much stands, or nothing is done.
    for (minor, left, stands) in [
        (800, Some(600), Some("000000000600")),
        (800, Some(0), Some("000000000000")),
        (800, Some(801), None),
        (1_235, Some(600), None),
        (800, None, None),
    ] {
        let case = format!("{minor} {left:?}");
        let mut desk = forgetful();
        let purchase = desk.purchase(1);
        let original = asked(&mut desk, &purchase, "00");
        let mut undoes =
            left.map_or_else(|| reversal(&purchase, 2), |left| partial_reversal(&purchase, 2, left));
        amount(&mut undoes, minor);
        if let Some(stands) = stands {
            let sent = delivered(&mut desk, &undoes);
            names(&sent, &original);
            assert_eq!((get(&sent, 4), &get(&sent, 95)[..12]), (get(&original, 4), stands), "{case}");
        } else {
            refused(&mut desk, &undoes, "25");
        }
    }
}

#[test]
fn what_is_about_a_payment_goes_to_its_issuer_wherever_its_card_is_routed_by_now() {
    let at_first = |connection: ConnectionId| connection.to_string().starts_with("dialled-11-");
    for token in [false, true] {
        for restarts in [false, true] {
            let case = format!("token {token}, restarts {restarts}");
            let mut desk = Desk::open();
            let purchase = if token { desk.token_purchase(1) } else { desk.purchase(1) };
            let hold = with_mti(&purchase, "0100");
            desk.send(FIRST, &hold);
            let (connection, held) = desk.asked();
            assert!(at_first(connection), "{case}");
            desk.send(connection, &answer_to(&held, "00"));
            assert_eq!(get(&desk.answer(), 39), "00");
            desk.reload(|config| config.routes = routes(true));
            if restarts {
                desk = desk.restart(Crash::Unsynced);
            }
            let completes = completion(&hold, 2, 1_000);
            desk.send(FIRST, &completes);
            assert_eq!(get(&desk.answer(), 39), "00");
            let (connection, sent) = desk.asked();
            assert!(at_first(connection), "{case}: the issuer that holds");
            names(&sent, &held);
            desk.send(connection, &answer_to(&sent, "00"));
            let refund = refund(&mut desk, &completes, 3, 400);
            desk.send(FIRST, &refund);
            let (connection, sent) = desk.asked();
            assert!(at_first(connection), "{case}: the issuer that was paid from");
            desk.send(connection, &answer_to(&sent, "00"));
            assert_eq!(get(&desk.answer(), 39), "00");
            let other = if token { desk.token_purchase(4) } else { desk.purchase(4) };
            desk.send(FIRST, &other);
            assert!(!at_first(desk.asked().0), "{case}: a new one goes where its card goes");
        }
    }
}

#[test]
fn a_completion_names_its_hold_by_rrn_and_approval() {
    for restarts in [false, true] {
        for (fate, befall) in FATES {
            let case = format!("restarts {restarts}, {fate}");
            let mut desk = forgetful();
            let hold = with_mti(&desk.token_purchase(1), "0100");
            let held = asked(&mut desk, &hold, "00");
            refund_refused(&mut desk, &hold, 2, 100, "57");
            let mut raise = later(&mut desk, with_mti(&reversal(&hold, 3), "0100"));
            amount(&mut raise, 300);
            befall(&mut desk);
            names(&asked(&mut desk, &raise, "00"), &held);
            forget(&mut desk, 10);
            if restarts {
                desk = desk.restart(Crash::Unsynced);
            }
            let completes = completion(&hold, 4, 1_400);
            names(&delivered(&mut desk, &completes), &held);
            desk.send(SECOND, &repeat(&completes));
            assert_eq!(get(&desk.answer(), 39), "00", "{case}");
            assert!(desk.sent_to_issuers().is_empty(), "{case}");
            forget(&mut desk, 20);
            if restarts {
                desk = desk.restart(Crash::Unsynced);
            }
            refund_refused(&mut desk, &hold, 5, 1_401, "57");
            refunded(&mut desk, &hold, 6, 1_000);
            // The completion was captured once: by either name.
            refund_refused(&mut desk, &hold, 7, 401, "57");
            refund_refused(&mut desk, &completes, 8, 401, "57");
            let by_completion = refund(&mut desk, &completes, 9, 400);
            let refunded = asked(&mut desk, &by_completion, "00");
            assert_eq!(refunded.original_data().unwrap().unwrap().mti.digits(), *b"0220", "{case}");
            refund_refused(&mut desk, &hold, 10, 1, "57");
        }
    }
}

#[test]
fn a_refund_by_a_completions_name_is_one_of_its_hold_however_long_ago() {
    for restarts in [false, true] {
        let mut desk = forgetful();
        let hold = with_mti(&desk.token_purchase(1), "0100");
        asked(&mut desk, &hold, "00");
        forget(&mut desk, 10);
        let completes = completion(&hold, 4, 1_234);
        delivered(&mut desk, &completes);
        // The hold leaves memory before its completion does.
        let other = desk.purchase(20);
        asked(&mut desk, &other, "00");
        if restarts {
            desk = desk.restart(Crash::Unsynced);
        }
        refunded(&mut desk, &completes, 5, 1_000);
        refund_refused(&mut desk, &hold, 6, 235, "57");
        refund_refused(&mut desk, &completes, 7, 235, "57");
        refunded(&mut desk, &hold, 8, 234);
    }
}

#[test]
fn a_refund_that_is_told_as_done_is_bounded_as_one_that_is_asked_for() {
    let told = |desk: &mut Desk, of: &Message, stan, minor| with_mti(&refund(desk, of, stan, minor), "0220");
    let mut desk = forgetful();
    let purchase = desk.token_purchase(1);
    let original = asked(&mut desk, &purchase, "00");
    let too_much = told(&mut desk, &purchase, 2, 1_235);
    refused(&mut desk, &too_much, "57");
    let fits = told(&mut desk, &purchase, 3, 1_234);
    names(&delivered(&mut desk, &fits), &original);
    let again = told(&mut desk, &purchase, 4, 1);
    refused(&mut desk, &again, "57");
    let mut unnamed = told(&mut desk, &purchase, 5, 1);
    unnamed.remove(DataElement::ORIGINAL_DATA);
    refused(&mut desk, &unnamed, "57");
    // With permission, so much.
    let mut desk = Desk::open();
    let mut unnamed = told(&mut desk, &purchase, 6, 1_234);
    unnamed.remove(DataElement::ORIGINAL_DATA);
    delivered(&mut desk, &unnamed);
}

#[test]
fn what_is_too_much_for_its_hold_or_another_merchants_stands_for_itself() {
    let by_de_90 = |hold: &Message, stan, minor, mti| {
        let mut message = with_mti(&reversal(hold, stan), mti);
        amount(&mut message, minor);
        message
    };
    let elsewhere: Change = |message| set(message, &[(42, "ANOTHER-SHOP   ")]);
    let as_it_is: Change = |_| {};
    // Held are 1,234, and a fifth more may be completed where that is asked for.
    for (mti, minor, change, is_of_hold) in [
        ("0200", 1_480, as_it_is, true),
        ("0200", 1_481, as_it_is, false),
        ("0220", 9_999, as_it_is, true),
        ("0200", 1_234, elsewhere, false),
        ("0220", 1_234, elsewhere, false),
        ("0100", 300, as_it_is, true),
        ("0100", 300, elsewhere, false),
    ] {
        let case = format!("{mti} {minor} {is_of_hold}");
        let mut desk = bounded(LIMITS);
        let mut hold = with_mti(&desk.purchase(1), "0100");
        set(&mut hold, &[(42, "THE-SHOP       ")]);
        asked(&mut desk, &hold, "00");
        let mut message = later(&mut desk, by_de_90(&hold, 2, minor, mti));
        change(&mut message);
        let sent =
            if mti == "0220" { delivered(&mut desk, &message) } else { asked(&mut desk, &message, "00") };
        assert_eq!(sent.has(DataElement::ORIGINAL_DATA), is_of_hold, "{case}");
    }
    // What was completed before counts.
    let mut desk = bounded(LIMITS);
    let hold = with_mti(&desk.purchase(1), "0100");
    asked(&mut desk, &hold, "00");
    for (stan, minor, is_of_hold) in [(2, 1_000, true), (3, 481, false), (4, 480, true)] {
        let message = later(&mut desk, by_de_90(&hold, stan, minor, "0200"));
        let sent = asked(&mut desk, &message, "00");
        assert_eq!(sent.has(DataElement::ORIGINAL_DATA), is_of_hold, "{stan}");
    }
}

#[test]
fn what_raised_a_hold_has_a_reversal_of_its_own() {
    let mut desk = bounded(LIMITS);
    let hold = with_mti(&desk.purchase(1), "0100");
    let held = asked(&mut desk, &hold, "00");
    let mut raise = later(&mut desk, with_mti(&reversal(&hold, 2), "0100"));
    amount(&mut raise, 300);
    let raised = asked(&mut desk, &raise, "00");
    refused(&mut desk, &partial_reversal(&hold, 3, 1_235), "25");
    let sent = delivered(&mut desk, &partial_reversal(&hold, 4, 700));
    names(&sent, &held);
    assert_eq!(
        (get(&sent, 4), get(&sent, 95)[..12].to_owned()),
        ("000000001234".into(), "000000000700".into())
    );
    names(&delivered(&mut desk, &reversal(&raise, 5)), &raised);
    // 700 stand, and a fifth more.
    let mut too_much = later(&mut desk, with_mti(&reversal(&hold, 6), "0200"));
    amount(&mut too_much, 841);
    assert!(!asked(&mut desk, &too_much, "00").has(DataElement::ORIGINAL_DATA));
}

#[test]
fn what_names_no_approval_goes_by_its_token() {
    let changes: [(&str, Change); 3] = [
        ("another approval", |m| set(m, &[(38, "B00002")])),
        ("another RRN", |m| set(m, &[(37, "999999999999")])),
        ("another currency", |m| set(m, &[(49, "840")])),
    ];
    for (case, change) in changes {
        let mut desk = forgetful();
        let hold = with_mti(&desk.token_purchase(1), "0100");
        asked(&mut desk, &hold, "00");
        let mut wrong = completion(&hold, 4, 1_234);
        change(&mut wrong);
        let sent = delivered(&mut desk, &wrong);
        assert!(!sent.has(DataElement::ORIGINAL_DATA), "{case}");
    }
}

#[test]
fn an_acquirers_names_do_not_reach_the_issuer() {
    let mut desk = forgetful();
    let never = desk.purchase(1);
    let mut advice = with_mti(&reversal(&never, 2), "0220");
    set(&mut advice, &[(37, "000000000002")]);
    assert!(!delivered(&mut desk, &advice).has(DataElement::ORIGINAL_DATA), "its original is unknown here");
}

#[test]
fn while_the_history_looks_repeats_wait_and_a_reversal_stops_it() {
    let mut desk = forgetful();
    let (purchase, other) = (desk.purchase(1), desk.purchase(5));
    asked(&mut desk, &purchase, "00");
    asked(&mut desk, &other, "00");
    forget(&mut desk, 10);
    desk.house.history.answers(Remembering::Silent);
    let asks = refund(&mut desk, &purchase, 2, 100);
    desk.send(FIRST, &asks);
    desk.send(SECOND, &repeat(&asks));
    let mut altered = repeat(&asks);
    amount(&mut altered, 101);
    refused(&mut desk, &altered, "94");
    desk.house.history.answers(Remembering::AtOnce);
    desk.settle();
    let (connection, at_issuer) = desk.asked();
    desk.send(connection, &answer_to(&at_issuer, "00"));
    let answers = desk.sent_to_acquirers();
    assert_eq!((answers.len(), answers[0].0, get(&answers[0].1, 39)), (1, SECOND, "00".into()));

    desk.house.history.answers(Remembering::Silent);
    let asks = refund(&mut desk, &other, 3, 100);
    desk.send(FIRST, &asks);
    desk.send(FIRST, &reversal(&asks, 4));
    assert_eq!(get(&desk.answer(), 39), "00");
    desk.house.history.answers(Remembering::AtOnce);
    desk.settle();
    assert_eq!(get(&desk.answer(), 39), "91");
    assert!(desk.sent_to_issuers().is_empty());
}

#[test]
fn a_history_that_says_nothing_refuses_payments_and_loses_nothing() {
    for how in [Remembering::Broken, Remembering::Silent] {
        let mut desk = forgetful();
        let (purchase, hold) = (desk.purchase(1), with_mti(&desk.purchase(2), "0100"));
        asked(&mut desk, &purchase, "00");
        asked(&mut desk, &hold, "00");
        forget(&mut desk, 10);
        desk.house.history.answers(how);
        let asks = refund(&mut desk, &purchase, 3, 100);
        desk.send(FIRST, &asks);
        desk.send(FIRST, &reversal(&purchase, 4));
        let mut happened = completion(&hold, 5, 1_000);
        // As old as this one is, it may have come before.
        desk.send(FIRST, &happened);
        set(&mut happened, &[(7, &get(&desk.purchase(6), 7)), (11, "000006")]);
        desk.send(FIRST, &happened);
        desk.pass(ISSUER_TIMEOUT);
        let mut answers = desk.sent_to_acquirers();
        answers.sort_by_key(|(_, answer, _)| get(answer, 11));
        let codes: Vec<_> = answers.iter().map(|(_, answer, _)| (get(answer, 11), get(answer, 39))).collect();
        assert_eq!(codes, [("000003".into(), "96".into()), ("000006".into(), "00".into())], "{how:?}");
        assert_eq!(desk.house.node.core().counts().unanswered, 2, "{how:?}");
        let (connection, advice) = desk.sent_to_issuers().pop().expect("an advice");
        assert_eq!(&advice.mti().to_string()[..3], "022");
        desk.send(connection, &answer_to(&advice, "00"));
        desk.house.history.answers(Remembering::AtOnce);
        delivered(&mut desk, &repeat(&reversal(&purchase, 4)));
    }
}

#[test]
fn what_waited_for_the_history_times_out_from_its_receipt() {
    const WAITED: Duration = Duration::from_secs(1);
    let mut desk = forgetful();
    let purchase = desk.purchase(1);
    asked(&mut desk, &purchase, "00");
    forget(&mut desk, 10);
    desk.house.history.answers(Remembering::Silent);
    let asks = refund(&mut desk, &purchase, 2, 100);
    desk.send(FIRST, &asks);
    desk.pass(WAITED);
    desk.send(FIRST, &desk.purchase(3));
    desk.house.history.answers(Remembering::AtOnce);
    desk.settle();
    assert_eq!(desk.sent_to_issuers().len(), 2);
    desk.pass(ISSUER_TIMEOUT - WAITED);
    assert_eq!(get(&desk.answer(), 11), "000002");
    desk.pass(WAITED);
    assert_eq!(get(&desk.answer(), 11), "000003");
}

#[test]
fn look_ups_that_wait_have_a_limit() {
    let mut desk = bounded(Limits { answered: 2, look_ups: 1, ..LIMITS });
    let purchase = desk.purchase(1);
    asked(&mut desk, &purchase, "00");
    forget(&mut desk, 10);
    desk.house.history.answers(Remembering::Silent);
    let asks = refund(&mut desk, &purchase, 2, 100);
    desk.send(FIRST, &asks);
    assert_eq!(desk.house.node.core().looking(), 1);
    refund_refused(&mut desk, &purchase, 3, 100, "91");
    assert_eq!(desk.refused(Refusal::Overloaded), 1);
    desk.send(FIRST, &reversal(&purchase, 4));
    assert!(desk.sent_to_acquirers().is_empty(), "a reversal is not declined, but comes again");
    desk.house.history.answers(Remembering::AtOnce);
    desk.settle();
    assert_eq!(desk.house.node.core().looking(), 0);
    assert_eq!(desk.sent_to_issuers().len(), 1);
}

#[test]
fn one_transaction_has_so_many_refunds() {
    let mut desk = bounded(Limits { followers: 2, ..LIMITS });
    let purchase = desk.purchase(1);
    asked(&mut desk, &purchase, "00");
    refunded(&mut desk, &purchase, 2, 1);
    let declined = refund(&mut desk, &purchase, 3, 1);
    asked(&mut desk, &declined, "51");
    refunded(&mut desk, &purchase, 4, 1);
    refund_refused(&mut desk, &purchase, 5, 1, "57");
}
