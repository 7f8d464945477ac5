//! Repeats that have another DE 7 than their first sending, and reversals whose DE 90 has either.

use std::time::Duration;

use tokenswitch::codec::{DataElement, Message};
use tokenswitch::switch::Limits;

use crate::desk::{Desk, FIRST, SECOND, answer_to, get, repeat, reversal, set, with_mti};
use crate::house::{Crash, Remembering};
use crate::originals::{asked, bounded, delivered, forget, forgetful, later, names};
use crate::setting::LIMITS;

/// Where what a reversal means is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    InFlight,
    Answered,
    AfterRestart,
    InHistory,
    InHistoryAfterRestart,
}

const FOUND: [Found; 5] =
    [Found::InFlight, Found::Answered, Found::AfterRestart, Found::InHistory, Found::InHistoryAfterRestart];

/// Charges `message`, and lets it become what is found so; gives what its issuer saw.
fn charged(mut desk: Desk, message: &Message, found: Found) -> (Desk, Message) {
    let is_advice = message.mti().to_string().starts_with("022");
    if found == Found::InFlight && !is_advice {
        desk.send(FIRST, message);
        let (connection, sent) = desk.asked();
        // The answer comes behind the reversal.
        desk.push(connection, &answer_to(&sent, "00"));
        return (desk, sent);
    }
    let sent = if is_advice { delivered(&mut desk, message) } else { asked(&mut desk, message, "00") };
    if matches!(found, Found::InHistory | Found::InHistoryAfterRestart) {
        forget(&mut desk, 10);
    }
    if matches!(found, Found::AfterRestart | Found::InHistoryAfterRestart) {
        desk = desk.restart(Crash::Unsynced);
    }
    (desk, sent)
}

#[test]
fn a_reversal_undoes_what_was_charged_by_whichever_de_7_it_names_it() {
    for found in FOUND {
        for mti in ["0200", "0220", "0100"] {
            for first_came in [false, true] {
                let case = format!("{found:?}, {mti}, first came {first_came}");
                let mut desk = forgetful();
                let first = with_mti(&desk.purchase(1), mti);
                let again = later(&mut desk, repeat(&first));
                let (came, named) = if first_came { (&first, &again) } else { (&again, &first) };
                let (mut desk, sent) = charged(desk, came, found);
                desk.push(FIRST, &reversal(named, 2));
                desk.settle();
                let answers = desk.sent_to_acquirers();
                let undone = answers.iter().find(|(_, it, _)| it.mti().to_string() == "0410");
                assert_eq!(undone.map(|(_, it, _)| get(it, 39)).as_deref(), Some("00"), "{case}");
                let (connection, undone) = desk.asked();
                names(&undone, &sent);
                desk.send(connection, &answer_to(&undone, "00"));
                assert!(desk.sent_to_issuers().is_empty(), "{case}: once");
            }
        }
    }
}

#[test]
fn what_another_terminal_or_another_number_names_is_not_undone() {
    for found in [Found::Answered, Found::InHistory] {
        for other in [&[(41, "TERM0002")][..], &[(37, "000000000777")], &[(4, "000000009999")]] {
            let case = format!("{found:?}, {other:?}");
            let mut desk = forgetful();
            let first = desk.purchase(1);
            let again = later(&mut desk, repeat(&first));
            let (mut desk, _) = charged(desk, &again, found);
            let mut wrong = reversal(&first, 2);
            set(&mut wrong, other);
            desk.send(FIRST, &wrong);
            assert_eq!(get(&desk.answer(), 39), "25", "{case}");
            assert!(desk.sent_to_issuers().is_empty(), "{case}");
        }
    }
}

#[test]
fn a_repeat_that_comes_behind_the_reversal_of_its_first_sending_goes_nowhere() {
    for restarts in [false, true] {
        for (mti, first_named) in [("0200", true), ("0220", true), ("0200", false), ("0220", false)] {
            let case = format!("{mti}, restarts {restarts}, first named {first_named}");
            let mut desk = forgetful();
            let first = with_mti(&desk.purchase(1), mti);
            let again = later(&mut desk, repeat(&first));
            let (named, comes) = if first_named { (&first, &again) } else { (&again, &first) };
            desk.send(FIRST, &reversal(named, 2));
            assert_eq!(get(&desk.answer(), 39), "25", "{case}");
            if restarts {
                desk = desk.restart(Crash::Unsynced);
            }
            desk.send(FIRST, comes);
            assert_eq!(get(&desk.answer(), 39), "94", "{case}");
            assert!(desk.sent_to_issuers().is_empty(), "{case}");
            // What does not say that it is a repeat, and has another DE 7, is another request.
            let new = later(&mut desk, with_mti(&first, mti));
            let new = if first_named { new } else { repeat(&new) };
            desk.send(FIRST, &new);
            let expected = usize::from(first_named);
            assert_eq!(desk.sent_to_issuers().len(), expected, "{case}");
        }
    }
}

#[test]
fn a_repeat_that_is_looked_for_when_its_first_sending_is_reversed_goes_nowhere() {
    let mut desk = forgetful();
    let first = desk.purchase(1);
    let again = later(&mut desk, repeat(&first));
    forget(&mut desk, 10);
    desk.house.history.answers(Remembering::Silent);
    desk.send(FIRST, &again);
    desk.send(SECOND, &reversal(&first, 2));
    desk.house.history.answers(Remembering::AtOnce);
    desk.pass(Duration::from_secs(1));
    assert!(desk.sent_to_issuers().is_empty());
    let mut codes: Vec<String> = desk.sent_to_acquirers().iter().map(|(_, it, _)| get(it, 39)).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["25", "94"]);
}

/// Payments that all have one DE 37, and are forgotten.
fn namesakes(desk: &mut Desk, count: u32) -> Vec<Message> {
    let all: Vec<Message> = (1..=count)
        .map(|stan| {
            let mut purchase = desk.purchase(stan);
            purchase = later(desk, purchase);
            set(&mut purchase, &[(37, "000000000001")]);
            asked(desk, &purchase, "00");
            purchase
        })
        .collect();
    forget(desk, 50);
    all
}

#[test]
fn of_too_many_with_one_de_37_only_the_newest_are_known_and_no_repeat_is_charged_again() {
    // Four of one name are read.
    let mut desk = bounded(Limits { answered: 2, followers: 1, ..LIMITS });
    let all = namesakes(&mut desk, 6);
    for (at, first) in all.iter().enumerate() {
        let again = later(&mut desk, repeat(first));
        desk.send(FIRST, &again);
        let answers = desk.sent_to_acquirers();
        assert!(desk.sent_to_issuers().is_empty(), "{at}");
        if at < 2 {
            assert!(answers.is_empty(), "{at}: nobody can say whether it came");
            desk.send(FIRST, &reversal(&again, 80));
            assert!(desk.sent_to_acquirers().is_empty(), "{at}: nor whether it is to be undone");
        } else {
            assert_eq!(get(&answers[0].1, 39), "00", "{at}");
        }
    }
    // By its own name each is found.
    delivered(&mut desk, &reversal(&all[0], 90));
}

#[test]
fn a_repeat_of_something_forgotten_is_not_declined_for_want_of_room() {
    for drains in [false, true] {
        let mut desk = bounded(Limits { answered: 2, in_flight: 1, ..LIMITS });
        let first = desk.purchase(1);
        asked(&mut desk, &first, "00");
        forget(&mut desk, 10);
        let again = later(&mut desk, repeat(&first));
        let other = desk.purchase(30);
        desk.send(FIRST, &other);
        let (connection, sent) = desk.asked();
        if drains {
            desk.house.node.drain();
        }
        desk.send(FIRST, &again);
        assert!(desk.sent_to_acquirers().is_empty(), "drains {drains}: neither yes nor no");
        let new = desk.purchase(31);
        desk.send(FIRST, &new);
        assert_eq!(get(&desk.answer(), 39), "91", "what is new is declined");
        desk.send(connection, &answer_to(&sent, "00"));
        desk.answer();
        if drains {
            desk = desk.restart(Crash::Unsynced);
        }
        desk.send(FIRST, &again);
        assert_eq!(get(&desk.answer(), 39), "00");
        assert!(desk.sent_to_issuers().is_empty());
    }
}

#[test]
fn what_has_the_name_itself_goes_before_what_has_it_but_for_its_de_7() {
    for approved in [false, true] {
        let mut desk = forgetful();
        let mut first = desk.purchase(1);
        first.remove(DataElement::RRN);
        let charged = asked(&mut desk, &first, "00");
        forget(&mut desk, 10);
        // Nobody knows that this is a repeat of what was forgotten.
        let again = later(&mut desk, repeat(&first));
        asked(&mut desk, &again, if approved { "00" } else { "05" });
        names(&delivered(&mut desk, &reversal(&first, 2)), &charged);
    }
}

#[test]
fn what_asks_and_what_tells_and_what_is_no_repeat_are_not_taken_for_each_other() {
    for mti in ["0220", "0200"] {
        let mut desk = forgetful();
        let first = desk.purchase(1);
        let other = later(&mut desk, with_mti(&first, mti));
        if mti == "0220" {
            delivered(&mut desk, &other);
        } else {
            asked(&mut desk, &other, "00");
        }
        desk.send(FIRST, &reversal(&first, 2));
        assert_eq!(get(&desk.answer(), 39), "25", "{mti}");
        assert!(desk.sent_to_issuers().is_empty(), "{mti}: the other one stands");
    }
}

#[test]
fn an_advice_is_taken_though_the_request_of_the_same_sale_was_taken_back() {
    for restarts in [false, true] {
        let mut desk = forgetful();
        let first = desk.purchase(1);
        let told = later(&mut desk, repeat(&with_mti(&first, "0220")));
        desk.send(FIRST, &reversal(&first, 2));
        assert_eq!(get(&desk.answer(), 39), "25");
        if restarts {
            desk = desk.restart(Crash::Unsynced);
        }
        delivered(&mut desk, &told);
    }
}

#[test]
fn what_stands_though_it_was_to_be_taken_back_in_vain_is_answered_as_before() {
    let mut desk = forgetful();
    let first = desk.purchase(1);
    asked(&mut desk, &first, "00");
    let mut wrong = reversal(&first, 2);
    set(&mut wrong, &[(4, "000000009999")]);
    desk.send(FIRST, &wrong);
    assert_eq!(get(&desk.answer(), 39), "25");
    forget(&mut desk, 10);
    let again = later(&mut desk, repeat(&first));
    desk.send(FIRST, &again);
    assert_eq!(get(&desk.answer(), 39), "00");
    assert!(desk.sent_to_issuers().is_empty());
}

#[test]
fn an_approval_that_waits_for_the_disk_is_not_given_once_it_is_taken_back_and_forgotten() {
    let mut desk = bounded(Limits { answered: 1, ..LIMITS });
    let first = desk.purchase(1);
    asked(&mut desk, &first, "00");
    desk.syncs = false;
    // Something waits for the disk, and the repeat's answer behind it.
    desk.send(FIRST, &reversal(&desk.purchase(40), 41));
    desk.send(FIRST, &repeat(&first));
    desk.send(FIRST, &reversal(&first, 2));
    desk.send(FIRST, &reversal(&desk.purchase(42), 43));
    desk.syncs = true;
    desk.sync();
    let answers = desk.sent_to_acquirers();
    let of_payment = answers.iter().find(|(_, it, _)| it.mti().to_string() == "0210");
    assert!(of_payment.is_none_or(|(_, it, _)| get(it, 39) != "00"), "it was taken back");
}
