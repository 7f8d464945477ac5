//! Stored messages that a person must look at: parked ones, and those owed for too long.

use std::time::Duration;

use tokenswitch::codec::Message;
use tokenswitch::switch::{Decision, Standing};
use tokenswitch::vocab::TransactionId;

use crate::desk::{Desk, FIRST, answer_to, get, reversal};
use crate::house::Crash;
use crate::setting::ISSUER_TIMEOUT;

/// Past one attempt's time-out and the longest pause behind it, and past the issuer's time-out.
const PAST_PAUSE: Duration = Duration::from_secs(7);
/// Past every pause between two attempts.
const LONG: Duration = Duration::from_secs(30);
/// Past the age limit of the simulation's configuration.
const PAST_AGE: Duration = Duration::from_secs(61);

/// A purchase was approved and taken back, and its reversal has left for the issuer; gives that.
fn reversed(token: bool) -> (Desk, tokenswitch::link::ConnectionId, Message) {
    let mut desk = Desk::open();
    let request = if token { desk.token_purchase(1) } else { desk.purchase(1) };
    desk.send(FIRST, &request);
    let (connection, asked) = desk.asked();
    desk.send(connection, &answer_to(&asked, "00"));
    desk.answer();
    desk.send(FIRST, &reversal(&request, 2));
    assert_eq!(get(&desk.answer(), 39), "00");
    let (connection, sent) = desk.asked();
    assert_eq!(sent.mti().to_string(), "0420");
    (desk, connection, sent)
}

/// The same, and the issuer will not take it.
fn parked(token: bool) -> (Desk, Message) {
    let (mut desk, connection, sent) = reversed(token);
    desk.send(connection, &answer_to(&sent, "30"));
    (desk, sent)
}

/// The one message on the list.
fn listed(desk: &Desk, standing: Standing) -> TransactionId {
    let exceptions = desk.exceptions();
    let [exception] = exceptions.as_slice() else { panic!("{exceptions:?}") };
    assert_eq!(exception.standing, standing);
    assert_eq!(exception.amount.expect("its amount").to_string(), "EUR 12.34");
    exception.stored
}

/// So long passes that it was sent again, and the issuer answers with `code`, twice at once.
fn said_again(desk: &mut Desk, code: &str) {
    desk.sent_to_issuers();
    desk.pass(PAST_PAUSE);
    let (connection, again) = desk.sent_to_issuers().pop().expect("it is tried still");
    assert_eq!(again.mti().to_string(), "0421");
    desk.send(connection, &answer_to(&again, code));
    desk.send(connection, &answer_to(&again, code));
}

fn nothing_is_sent(desk: &mut Desk) {
    desk.sent_to_issuers();
    desk.pass(LONG);
    assert!(desk.sent_to_issuers().is_empty());
}

/// It goes out as a repeat under its own numbers, and the issuer takes it.
fn is_delivered(desk: &mut Desk, first: &Message) {
    let (connection, again) = desk.asked();
    assert_eq!(again.mti().to_string(), "0421");
    for number in [2, 4, 7, 11, 37, 90] {
        assert_eq!(get(&again, number), get(first, number), "DE {number}");
    }
    desk.send(connection, &answer_to(&again, "00"));
    assert!(desk.house.node.core().stored().is_empty() && desk.exceptions().is_empty());
    nothing_is_sent(desk);
}

#[test]
fn a_parked_reversal_waits_for_a_person_who_has_it_tried_again() {
    for token in [false, true] {
        let (mut desk, first) = parked(token);
        let stored = listed(&desk, Standing::Parked);
        assert_eq!(desk.exceptions()[0].code.expect("a code").as_str(), "30");
        nothing_is_sent(&mut desk);
        desk.syncs = false;
        assert_eq!(desk.operate(Decision::Retry, stored), None, "nothing before it is durable");
        assert!(desk.sent_to_issuers().is_empty());
        desk.syncs = true;
        desk.sync();
        assert_eq!(desk.operated(), Some(true));
        is_delivered(&mut desk, &first);
    }
}

#[test]
fn a_parked_reversal_is_there_after_a_restart_and_delivered_when_tried() {
    for token in [false, true] {
        let (desk, first) = parked(token);
        let mut desk = desk.restart(Crash::Unsynced);
        let stored = listed(&desk, Standing::Parked);
        nothing_is_sent(&mut desk);
        assert_eq!(desk.operate(Decision::Retry, stored), Some(true));
        is_delivered(&mut desk, &first);
        let mut desk = desk.restart(Crash::Unsynced);
        assert!(desk.exceptions().is_empty());
        nothing_is_sent(&mut desk);
    }
}

#[test]
fn one_that_is_tried_again_and_refused_again_is_parked_again() {
    let (mut desk, _) = parked(true);
    let stored = listed(&desk, Standing::Parked);
    assert_eq!(desk.operate(Decision::Retry, stored), Some(true));
    let (connection, again) = desk.asked();
    desk.send(connection, &answer_to(&again, "12"));
    assert_eq!(listed(&desk, Standing::Parked), stored);
    let desk = desk.restart(Crash::Unsynced);
    assert_eq!(listed(&desk, Standing::Parked), stored);
}

#[test]
fn a_closed_one_stays_closed_over_a_restart() {
    for token in [false, true] {
        let (mut desk, _) = parked(token);
        let stored = listed(&desk, Standing::Parked);
        assert_eq!(desk.operate(Decision::Close, stored), Some(true));
        assert!(desk.exceptions().is_empty());
        assert_eq!(desk.operate(Decision::Close, stored), Some(false), "there is none any more");
        let mut desk = desk.restart(Crash::Unsynced);
        assert!(desk.exceptions().is_empty() && desk.house.node.core().stored().is_empty());
        nothing_is_sent(&mut desk);
    }
}

#[test]
fn a_decision_that_was_not_durable_was_none() {
    let (mut desk, _) = parked(true);
    let stored = listed(&desk, Standing::Parked);
    desk.syncs = false;
    assert_eq!(desk.operate(Decision::Close, stored), None);
    let desk = desk.restart(Crash::Unsynced);
    assert_eq!(listed(&desk, Standing::Parked), stored);
}

#[test]
fn one_that_is_owed_for_too_long_is_listed_and_tried_until_a_person_closes_it() {
    let (mut desk, ..) = reversed(true);
    let stored = TransactionId(2);
    assert_eq!(desk.operate(Decision::Close, stored), Some(false), "not yet");
    desk.pass(PAST_AGE);
    assert_eq!(listed(&desk, Standing::OverAge), stored);
    desk.sent_to_issuers();
    desk.pass(LONG);
    assert!(!desk.sent_to_issuers().is_empty(), "it is tried still");
    let mut desk = desk.restart(Crash::Unsynced);
    assert_eq!(listed(&desk, Standing::OverAge), stored, "its age survives a restart");
    assert_eq!(desk.operate(Decision::Close, stored), Some(true));
    nothing_is_sent(&mut desk);
    let mut desk = desk.restart(Crash::Unsynced);
    nothing_is_sent(&mut desk);
}

#[test]
fn an_issuer_that_does_not_know_the_original_is_believed_when_it_says_so_again_after_the_longest_time_out() {
    for (codes, is_closed) in [(&["25", "25"][..], true), (&["25"], false), (&["91", "25"], false)] {
        let (mut desk, ..) = reversed(true);
        // The first of them lies unread for long: an original that lies in another socket may be read after it.
        desk.pass(ISSUER_TIMEOUT * 3);
        codes.iter().for_each(|code| said_again(&mut desk, code));
        assert_eq!(desk.house.node.core().stored().is_empty(), is_closed, "{codes:?}");
        if is_closed {
            nothing_is_sent(&mut desk);
        }
    }
}
