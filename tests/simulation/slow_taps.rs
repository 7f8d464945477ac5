//! Taps whose cryptogram takes long to check (3DES, at the second issuer): they wait for those whose check is quick,
//! and are in flight meanwhile.

use std::time::Duration;

use tokenswitch::codec::Message;
use tokenswitch::journal::JournalConfig;
use tokenswitch::link::Outbox;
use tokenswitch::switch::{Limits, SwitchConfig};
use tokenswitch::vocab::Refusal;

use crate::desk::{Desk, FIRST, SECOND, answer_to, get, repeat, reversal, set, with_mti};
use crate::setting::{ACQUIRERS, ISSUER_TIMEOUT, LIMITS, switch_config};

/// More than are checked behind three steps.
const FLOOD: u16 = 50;

/// A desk at which taps wait until `check`.
fn waiting() -> Desk {
    let mut desk = Desk::at_second_issuer();
    desk.checks = false;
    desk
}

/// DE 37 of each, which stays as it was sent.
fn names(messages: impl Iterator<Item = Message>) -> Vec<u16> {
    messages.map(|message| get(&message, 37).parse().expect("digits")).collect()
}

/// Whether a cryptogram may be presented still: its counter was not taken.
fn is_unused(desk: &mut Desk, stan: u32, counter: u16) {
    desk.sent_to_issuers();
    desk.checks = true;
    desk.send(FIRST, &desk.tap(stan, counter));
    assert_eq!(desk.sent_to_issuers().len(), 1, "{counter} was not taken");
}

#[test]
fn payments_without_a_chip_go_on_in_the_step_in_which_slow_taps_come() {
    let mut desk = waiting();
    let taps: Vec<Message> = (1..=FLOOD).map(|counter| desk.tap(counter.into(), counter)).collect();
    taps.iter().for_each(|tap| desk.push(FIRST, tap));
    desk.push(SECOND, &desk.purchase(101));
    desk.push(SECOND, &desk.token_purchase(102));
    let appended = desk.house.appended();
    desk.step();
    assert_eq!(desk.house.appended(), appended + 2, "behind {FLOOD} taps, and in their step");
    desk.sync();
    assert_eq!(names(desk.sent_to_issuers().into_iter().map(|(_, asked)| asked)), [101, 102]);
    let mut left = vec![usize::from(FLOOD)];
    while let Some(before) = left.last().copied().filter(|left| *left > 0) {
        desk.check();
        left.push(desk.house.node.unchecked());
        assert!(left.last() < Some(&before), "none is left for good: {left:?}");
    }
    assert_eq!(left, [50, 34, 18, 2, 0], "so many behind a step");
    desk.settle();
    let asked = desk.sent_to_issuers();
    let in_order: Vec<u16> = (1..=FLOOD).collect();
    assert_eq!(names(asked.iter().map(|(_, asked)| asked.clone())), in_order);
    for (connection, asked) in &asked {
        desk.push(*connection, &answer_to(asked, "00"));
    }
    desk.settle();
    let answers = desk.sent_to_acquirers();
    assert!(answers.iter().all(|(_, answer, _)| get(answer, 39) == "00"));
    assert_eq!(names(answers.into_iter().map(|(_, answer, _)| answer)), in_order);
}

#[test]
fn of_two_taps_with_one_cryptogram_the_first_is_let_pass() {
    let mut desk = waiting();
    desk.push(FIRST, &desk.tap(1, 7));
    desk.push(SECOND, &desk.tap(2, 7));
    desk.push(FIRST, &desk.tap(3, 8));
    desk.step();
    desk.check();
    desk.settle();
    assert_eq!(get(&desk.answer(), 39), "59");
    assert_eq!(names(desk.sent_to_issuers().into_iter().map(|(_, asked)| asked)), [1, 3]);
}

#[test]
fn a_tap_that_waits_past_its_time_out_is_declined_and_its_cryptogram_is_as_good_as_before() {
    // Declined while it waits; and checked when it was too late for its issuer.
    for (wait, is_checked) in [(ISSUER_TIMEOUT + Duration::from_millis(250), false), (ISSUER_TIMEOUT, true)] {
        let mut desk = waiting();
        let tap = desk.tap(1, 7);
        desk.send(FIRST, &tap);
        desk.pass(wait);
        assert_eq!(desk.house.node.unchecked(), usize::from(is_checked), "{wait:?}");
        desk.check();
        desk.settle();
        assert_eq!(get(&desk.answer(), 39), "96", "{wait:?}");
        assert_eq!(desk.refused(Refusal::NotDurableInTime), 1);
        desk.send(FIRST, &repeat(&tap));
        assert_eq!(get(&desk.answer(), 39), "96", "the repeat gets the same");
        assert!(desk.sent_to_issuers().is_empty(), "{wait:?}");
        is_unused(&mut desk, 2, 7);
    }
}

#[test]
fn what_is_reversed_while_it_waits_is_not_looked_up() {
    for (mti, code) in [("0200", "91"), ("0220", "94")] {
        let mut desk = waiting();
        let tap = with_mti(&desk.tap(1, 7), mti);
        desk.send(FIRST, &tap);
        desk.send(SECOND, &reversal(&tap, 2));
        assert_eq!(get(&desk.answer(), 39), "00", "{mti}");
        desk.check();
        assert_eq!(get(&desk.answer(), 39), code, "{mti}");
        assert!(desk.house.node.is_idle());
        is_unused(&mut desk, 3, 7);
    }
}

#[test]
fn what_is_to_stand_of_an_advice_is_said_once_it_is_taken_over() {
    let mut desk = waiting();
    let advice = with_mti(&desk.tap(1, 7), "0220");
    let mut part = reversal(&advice, 2);
    set(&mut part, &[(95, "000000001000000000000000C00000000C00000000")]);
    desk.send(FIRST, &advice);
    desk.send(FIRST, &part);
    assert!(desk.sent_to_acquirers().is_empty(), "neither is answered yet");
    desk.check();
    desk.settle();
    assert_eq!(get(&desk.answer(), 39), "00");
    desk.send(FIRST, &repeat(&part));
    assert_eq!(get(&desk.answer(), 39), "00");
}

#[test]
fn a_repeat_of_what_waits_gets_its_answer_though_the_first_connection_went() {
    let mut desk = waiting();
    let tap = desk.tap(1, 7);
    desk.send(FIRST, &tap);
    desk.cut(FIRST, None);
    desk.send(SECOND, &repeat(&tap));
    desk.checks = true;
    desk.settle();
    let (connection, asked) = desk.asked();
    desk.send(connection, &answer_to(&asked, "00"));
    let answers = desk.sent_to_acquirers();
    let given: Vec<_> = answers.iter().map(|(to, answer, _)| (*to, get(answer, 39))).collect();
    assert_eq!(given, [(SECOND, "00".to_owned())]);
}

#[test]
fn whose_acquirer_left_while_it_waited_is_forwarded_to_nobody() {
    let mut desk = waiting();
    desk.send(FIRST, &desk.tap(1, 7));
    desk.reload(|config| drop(config.acquirers.remove(&ACQUIRERS[0])));
    desk.check();
    assert_eq!(desk.refused(Refusal::InstitutionNotAllowed), 1);
    desk.settle();
    assert!(desk.sent_to_issuers().is_empty() && desk.house.node.is_idle());
}

#[test]
fn an_advice_whose_acquirer_left_while_it_waited_comes_again() {
    let mut desk = waiting();
    let advice = with_mti(&desk.tap(1, 7), "0120");
    let mut acquirer = None;
    desk.send(FIRST, &advice);
    desk.reload(|config| acquirer = config.acquirers.remove(&ACQUIRERS[0]));
    desk.check();
    desk.settle();
    assert_eq!(desk.house.node.core().counts().unanswered, 1, "nobody can say whether it holds or captures");
    assert!(desk.sent_to_issuers().is_empty() && desk.house.node.is_idle());
    desk.reload(|config| config.acquirers.extend(acquirer.map(|acquirer| (ACQUIRERS[0], acquirer))));
    desk.send(FIRST, &repeat(&advice));
    desk.check();
    desk.settle();
    assert_eq!(desk.sent_to_issuers().len(), 1);
}

#[test]
fn a_drain_waits_for_them_and_its_end_does_not() {
    for ends in [false, true] {
        let mut desk = waiting();
        desk.push(FIRST, &desk.tap(1, 7));
        desk.push(SECOND, &with_mti(&desk.tap(2, 8), "0220"));
        desk.step();
        desk.house.node.drain();
        assert!(!desk.house.node.is_idle(), "they are in flight");
        if ends {
            let now = desk.now();
            let open = desk.house.node.end(now, &mut Outbox::default()).expect("the journal takes entries");
            assert_eq!((open, desk.refused(Refusal::ShuttingDown)), (2, 1));
            assert_eq!(desk.house.node.core().counts().unanswered, 1, "the advice comes again");
            desk.check();
            desk.settle();
            assert!(desk.sent_to_issuers().is_empty() && desk.sent_to_acquirers().is_empty());
        } else {
            desk.check();
            desk.settle();
            assert_eq!(desk.sent_to_issuers().len(), 2);
        }
        assert_eq!((desk.house.node.unchecked(), desk.house.node.is_idle()), (0, ends));
    }
}

#[test]
fn no_more_wait_than_may_be_in_flight() {
    let limits = Limits { in_flight: 2, ..LIMITS };
    let config = SwitchConfig { limits, ..switch_config() };
    let mut desk = Desk::of(config, JournalConfig::default().queue_bytes, 1);
    desk.checks = false;
    for counter in 1..=3 {
        desk.push(FIRST, &desk.tap(counter.into(), counter));
    }
    for counter in 4..=6 {
        desk.push(FIRST, &with_mti(&desk.tap(counter.into(), counter), "0220"));
    }
    desk.settle();
    assert_eq!(get(&desk.answer(), 39), "91", "the third tap");
    assert_eq!(desk.refused(Refusal::Overloaded), 1);
    assert_eq!(desk.house.node.core().counts().unanswered, 1, "the third advice comes again");
    assert_eq!(desk.house.node.unchecked(), 4);
    desk.checks = true;
    desk.settle();
    let sent = (desk.sent_to_issuers().len(), desk.sent_to_acquirers().len());
    assert_eq!(
        sent,
        (3, 2),
        "two taps, and two advices taken over: the second follows the first of its card"
    );
}

#[test]
fn what_is_told_about_an_advice_that_waits_comes_again_behind_it() {
    let mut desk = waiting();
    let sale = with_mti(&desk.tap(1, 7), "0220");
    desk.send(FIRST, &sale);
    let back = with_mti(&crate::originals::refund(&mut desk, &sale, 2, 1_000), "0220");
    desk.send(FIRST, &back);
    assert!(desk.sent_to_acquirers().is_empty(), "neither is taken over yet");
    desk.checks = true;
    desk.settle();
    assert_eq!(get(&desk.answer(), 39), "00", "the sale");
    let (connection, sold) = desk.asked();
    desk.send(connection, &answer_to(&sold, "00"));
    desk.send(FIRST, &repeat(&back));
    assert_eq!(get(&desk.answer(), 39), "00");
    crate::originals::names(&desk.asked().1, &sold);
}

#[test]
fn nothing_is_refunded_of_what_is_taken_back_while_the_refund_waits() {
    for (mti, left) in [("0200", None), ("0200", Some(300)), ("0220", None)] {
        let mut desk = waiting();
        desk.checks = true;
        let sale = desk.tap(1, 7);
        desk.send(FIRST, &sale);
        let (connection, sold) = desk.asked();
        desk.send(connection, &answer_to(&sold, "00"));
        desk.answer();
        desk.checks = false;
        let back = with_mti(&crate::originals::refund(&mut desk, &sale, 2, 1_000), mti);
        desk.send(FIRST, &back);
        let undo = left
            .map_or_else(|| reversal(&sale, 3), |left| crate::originals::partial_reversal(&sale, 3, left));
        desk.send(FIRST, &undo);
        assert_eq!(get(&desk.answer(), 39), "00", "{mti} {left:?}");
        let (connection, undone) = desk.asked();
        desk.send(connection, &answer_to(&undone, "00"));
        desk.checks = true;
        desk.settle();
        assert_ne!(get(&desk.answer(), 39), "00", "{mti} {left:?}");
        assert!(desk.sent_to_issuers().is_empty(), "{mti} {left:?}");
    }
}
