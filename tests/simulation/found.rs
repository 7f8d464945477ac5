//! What seeds have found, told step by step: each of these once broke a promise.

use std::time::Duration;

use tokenswitch::journal::JournalConfig;

use crate::desk::{Desk, FIRST, PARTIAL, answer_to, get, repeat, reversal, set, with_mti};
use crate::house::{Crash, Remembering};
use crate::setting::passing_config;

#[test]
fn no_window_opens_again_when_the_clock_is_set_back_over_a_restart() {
    let mut desk = Desk::open();
    desk.send(FIRST, &desk.purchase(1));
    let (issuer, first) = desk.asked();
    desk.send(issuer, &answer_to(&first, "00"));
    desk.clock_back(Duration::from_secs(86_400));
    let mut desk = desk.restart(Crash::Untold);
    desk.send(FIRST, &desk.purchase(2));
    let (_, second) = desk.asked();
    assert_eq!(get(&second, 15), get(&first, 15), "the day on which it counts");
}

#[test]
fn two_advices_with_the_same_passed_identifiers_are_not_taken_for_each_other() {
    let mut desk = Desk::with(passing_config(), JournalConfig::default().queue_bytes);
    desk.syncs = false;
    let one = with_mti(&desk.purchase(1), "0220");
    let mut other = one.clone();
    set(&mut other, &[(32, "87654321"), (37, "000000000002")]);
    desk.push(FIRST, &one);
    desk.push(PARTIAL, &other);
    desk.settle();
    desk.syncs = true;
    desk.sync();
    assert_eq!(desk.sent_to_acquirers().len(), 1, "the other stays unanswered, so that it comes again");
    let (issuer, asked) = desk.asked();
    desk.send(issuer, &answer_to(&asked, "00"));
    desk.send(PARTIAL, &repeat(&other));
    let (issuer, asked) = desk.asked();
    desk.send(issuer, &answer_to(&asked, "00"));
    assert!(desk.house.node.core().stored().is_empty(), "both are acknowledged");
}

#[test]
fn an_acknowledgement_must_name_the_advice_in_all_that_it_carries() {
    let other: [(u8, &str); 5] =
        [(7, "1122000000"), (32, "87654321"), (37, "000000000009"), (41, "NOBODYS1"), (4, "000000000001")];
    for (element, value) in other {
        let mut desk = Desk::open();
        desk.send(FIRST, &with_mti(&desk.purchase(1), "0220"));
        let (issuer, asked) = desk.asked();
        let mut wrong = answer_to(&asked, "00");
        set(&mut wrong, &[(element, value)]);
        desk.send(issuer, &wrong);
        assert_eq!(desk.house.node.core().counts().unmatched, 1, "DE {element}");
        assert_eq!(desk.house.node.core().stored().len(), 1, "DE {element}: it is still owed");
        desk.send(issuer, &answer_to(&asked, "00"));
        assert!(desk.house.node.core().stored().is_empty(), "DE {element}");
    }
}

#[test]
fn what_was_stored_for_a_card_leaves_in_that_order_after_a_restart_too() {
    for restarts in [false, true] {
        let mut desk = Desk::open();
        let purchase = desk.purchase(1);
        desk.send(FIRST, &purchase);
        let (issuer, asked) = desk.asked();
        desk.send(issuer, &answer_to(&asked, "00"));
        desk.answer();
        desk.lose_issuers();
        // What completes something waits for the history, and is taken over behind the reversal that came after it.
        desk.house.history.answers(Remembering::Silent);
        let mut completion = with_mti(&desk.purchase(2), "0220");
        set(&mut completion, &[(38, "A00001")]);
        desk.send(FIRST, &completion);
        desk.send(FIRST, &reversal(&purchase, 3));
        assert_eq!(desk.answer().mti().to_string(), "0410");
        desk.house.history.answers(Remembering::AtOnce);
        desk.pass(Duration::from_secs(1));
        assert_eq!(desk.answer().mti().to_string(), "0230");
        if restarts {
            desk = desk.restart(Crash::Unsynced);
        }
        desk.reachable = true;
        desk.pass(Duration::from_secs(5));
        for expected in ["042", "022"] {
            let sent = desk.sent_to_issuers();
            assert!(sent.iter().all(|(_, message)| message.mti().to_string().starts_with(expected)));
            let (issuer, message) = sent.last().expect("one of the two");
            desk.send(*issuer, &answer_to(message, "00"));
        }
        assert!(desk.house.node.core().stored().is_empty());
    }
}
