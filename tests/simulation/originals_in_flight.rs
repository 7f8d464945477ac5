//! Messages about an earlier one whose outcome is not known yet, or that are looked for themselves.

use std::time::Duration;

use tokenswitch::codec::{DataElement, Message};
use tokenswitch::journal::JournalConfig;
use tokenswitch::link::ConnectionId;
use tokenswitch::switch::Limits;

use crate::desk::{Desk, FIRST, SECOND, answer_to, get, repeat, reversal, set, with_mti};
use crate::house::{Crash, Remembering};
use crate::originals::{
    amount, asked, bounded, completion, delivered, forget, forgetful, later, names, partial_reversal, refund,
    refund_refused, refunded,
};
use crate::setting::{ISSUERS, LIMITS, passing_config};

/// By DE 90, a second later.
fn follower(desk: &mut Desk, of: &Message, (stan, minor): (u32, u64), mti: &str) -> Message {
    let mut message = later(desk, with_mti(&reversal(of, stan), mti));
    amount(&mut message, minor);
    message
}

/// Sends what its issuer does not answer yet.
fn waits(desk: &mut Desk, message: &Message) -> (ConnectionId, Message) {
    desk.send(FIRST, message);
    desk.asked()
}

fn answered(desk: &mut Desk, (connection, asked): &(ConnectionId, Message), code: &str) {
    desk.send(*connection, &answer_to(asked, code));
    assert_eq!(get(&desk.answer(), 39), code);
}

#[test]
fn two_refunds_that_come_at_once_do_not_both_get_the_same_money() {
    for token in [false, true] {
        for mti in ["0200", "0220"] {
            let mut desk = bounded(LIMITS);
            let purchase = if token { desk.token_purchase(1) } else { desk.purchase(1) };
            asked(&mut desk, &purchase, "00");
            let one = with_mti(&refund(&mut desk, &purchase, 2, 1_000), mti);
            let mut other = with_mti(&refund(&mut desk, &purchase, 3, 1_000), mti);
            set(&mut other, &[(7, &get(&one, 7))]);
            desk.push(FIRST, &one);
            desk.push(FIRST, &other);
            desk.settle();
            assert_eq!(desk.sent_to_issuers().len(), 1, "token {token}, {mti}");
        }
    }
}

#[test]
fn a_refund_that_went_nowhere_leaves_its_money_to_the_next() {
    let mut desk = bounded(LIMITS);
    let purchase = desk.purchase(1);
    asked(&mut desk, &purchase, "00");
    desk.lose_issuers();
    refund_refused(&mut desk, &purchase, 2, 1_234, "91");
    desk.reachable = true;
    desk.pass(Duration::from_secs(5));
    refunded(&mut desk, &purchase, 3, 1_234);
}

#[test]
fn nothing_is_refunded_of_a_completion_that_may_be_declined_yet() {
    for restarts in [false, true] {
        let mut desk = bounded(LIMITS);
        let hold = with_mti(&desk.purchase(1), "0100");
        asked(&mut desk, &hold, "00");
        let completes = follower(&mut desk, &hold, (2, 1_000), "0200");
        let at_issuer = waits(&mut desk, &completes);
        refund_refused(&mut desk, &hold, 3, 1_000, "57");
        if restarts {
            // What had no outcome is reversed: nothing was captured.
            desk = desk.restart(Crash::Unsynced);
            names(&desk.asked().1, &at_issuer.1);
            refund_refused(&mut desk, &hold, 4, 1_000, "57");
        } else {
            answered(&mut desk, &at_issuer, "00");
            refunded(&mut desk, &hold, 4, 1_000);
        }
    }
}

#[test]
fn nothing_is_completed_of_a_raise_that_may_be_declined_yet() {
    let mut desk = bounded(LIMITS);
    let hold = with_mti(&desk.purchase(1), "0100");
    asked(&mut desk, &hold, "00");
    let raise = follower(&mut desk, &hold, (2, 300), "0100");
    let at_issuer = waits(&mut desk, &raise);
    // 12.34 and a fifth: 14.80.
    let completes = follower(&mut desk, &hold, (3, 1_481), "0200");
    assert!(!asked(&mut desk, &completes, "51").has(DataElement::ORIGINAL_DATA));
    answered(&mut desk, &at_issuer, "00");
    let completes = follower(&mut desk, &hold, (4, 1_481), "0200");
    assert!(asked(&mut desk, &completes, "00").has(DataElement::ORIGINAL_DATA));
}

#[test]
fn what_is_reversed_while_its_outcome_is_on_its_way_to_the_disk_gives_its_money_back() {
    let mut desk = bounded(LIMITS);
    let purchase = desk.purchase(1);
    asked(&mut desk, &purchase, "00");
    let back = refund(&mut desk, &purchase, 2, 1_234);
    let (connection, at_issuer) = waits(&mut desk, &back);
    desk.syncs = false;
    desk.send(connection, &answer_to(&at_issuer, "00"));
    desk.send(FIRST, &reversal(&back, 3));
    desk.syncs = true;
    desk.sync();
    let (connection, undone) = desk.asked();
    names(&undone, &at_issuer);
    desk.send(connection, &answer_to(&undone, "00"));
    desk.sent_to_acquirers();
    refunded(&mut desk, &purchase, 4, 1_234);
}

#[test]
fn a_reversal_finds_an_advice_of_which_only_the_repeat_is_known() {
    let mut desk = forgetful();
    let advice = with_mti(&desk.purchase(1), "0220");
    let at_issuer = delivered(&mut desk, &advice);
    forget(&mut desk, 10);
    desk.house.history.answers(Remembering::Silent);
    desk.send(FIRST, &repeat(&advice));
    desk.send(FIRST, &reversal(&advice, 2));
    desk.house.history.answers(Remembering::AtOnce);
    desk.pass(Duration::from_secs(1));
    let (connection, undone) = desk.asked();
    names(&undone, &at_issuer);
    desk.send(connection, &answer_to(&undone, "00"));
    assert!(desk.house.node.core().stored().is_empty());
    let codes: Vec<String> = desk.sent_to_acquirers().iter().map(|(_, it, _)| get(it, 39)).collect();
    assert_eq!(codes, ["00", "00"]);
}

#[test]
fn what_is_reversed_while_it_is_looked_for_goes_nowhere() {
    let mut desk = forgetful();
    let advice = with_mti(&desk.purchase(1), "0220");
    forget(&mut desk, 10);
    desk.house.history.answers(Remembering::Silent);
    desk.send(FIRST, &advice);
    desk.send(FIRST, &reversal(&advice, 2));
    desk.house.history.answers(Remembering::AtOnce);
    desk.pass(Duration::from_secs(1));
    assert!(desk.sent_to_issuers().is_empty());
    let codes: Vec<String> = desk.sent_to_acquirers().iter().map(|(_, it, _)| get(it, 39)).collect();
    assert_eq!(codes, ["94", "25"]);
}

#[test]
fn a_repeat_with_another_date_is_known_though_its_original_is_forgotten() {
    for (mti, restarts) in [("0200", false), ("0200", true), ("0220", false), ("0220", true)] {
        let case = format!("{mti}, restarts {restarts}");
        let mut desk = forgetful();
        let first = with_mti(&desk.purchase(1), mti);
        if mti == "0200" {
            asked(&mut desk, &first, "00");
        } else {
            delivered(&mut desk, &first);
        }
        forget(&mut desk, 10);
        if restarts {
            desk = desk.restart(Crash::Unsynced);
        }
        let again = later(&mut desk, repeat(&first));
        // A history that cannot be read: neither yes nor no.
        desk.house.history.answers(Remembering::Broken);
        desk.send(FIRST, &again);
        assert!(desk.sent_to_acquirers().is_empty(), "{case}");
        desk.house.history.answers(Remembering::AtOnce);
        desk.send(FIRST, &again);
        assert_eq!(get(&desk.answer(), 39), "00", "{case}");
        assert!(desk.sent_to_issuers().is_empty(), "{case}");
        // What only says that it is a repeat is asked.
        let mut new = repeat(&later(&mut desk, with_mti(&first, mti)));
        set(&mut new, &[(11, "000777"), (37, "000000000777")]);
        desk.send(FIRST, &new);
        assert_eq!(desk.sent_to_issuers().len(), 1, "{case}");
    }
}

#[test]
fn of_a_payment_and_an_advice_with_one_name_de_90_means_the_one_with_its_mti() {
    for mti in ["0200", "0220"] {
        let mut desk = bounded(LIMITS);
        let purchase = desk.purchase(1);
        let paid = asked(&mut desk, &purchase, "00");
        let advice = with_mti(&purchase, "0220");
        let told = delivered(&mut desk, &advice);
        let undone = delivered(&mut desk, &reversal(&with_mti(&purchase, mti), 2));
        names(&undone, if mti == "0200" { &paid } else { &told });
    }
}

/// An advice at its issuer under another number, since one that waits for a person has its own.
fn renamed(desk: &mut Desk) -> (ConnectionId, Message) {
    let first = with_mti(&desk.purchase(1), "0220");
    desk.send(FIRST, &first);
    desk.answer();
    let (connection, at_issuer) = desk.asked();
    desk.send(connection, &answer_to(&at_issuer, "05"));
    assert_eq!(desk.exceptions().len(), 1, "parked");
    let mut other = later(desk, first);
    set(&mut other, &[(37, "000000000002")]);
    desk.send(FIRST, &other);
    assert_eq!(get(&desk.answer(), 39), "00");
    let (connection, sent) = desk.asked();
    assert_ne!(get(&sent, 11), get(&at_issuer, 11), "a number of its own");
    (connection, sent)
}

#[test]
fn an_advice_does_not_wait_for_a_person_who_decides_about_another_with_its_number() {
    let mut desk = Desk::with(passing_config(), JournalConfig::default().queue_bytes);
    let (connection, sent) = renamed(&mut desk);
    desk.send(connection, &answer_to(&sent, "00"));
    assert!(desk.house.node.core().stored().is_empty());
}

#[test]
fn the_number_of_a_renamed_advice_rests_though_it_is_forgotten_before_its_acknowledgement() {
    for forgets in [false, true] {
        let mut config = passing_config();
        config.limits.answered = if forgets { 2 } else { LIMITS.answered };
        let mut desk = Desk::with(config, JournalConfig::default().queue_bytes);
        let (connection, sent) = renamed(&mut desk);
        for stan in 10..12 {
            let purchase = desk.purchase(stan);
            asked(&mut desk, &purchase, "00");
        }
        desk.send(connection, &answer_to(&sent, "00"));
        assert!(desk.house.node.core().stored().is_empty());
        let core = format!("{:?}", desk.house.node.core());
        let number = format!("{:?}", sent.stan().unwrap().unwrap());
        let mut resting = core.split("resting: [").skip(1).filter_map(|rest| rest.split(']').next());
        assert!(resting.any(|resting| resting.contains(&number)), "forgets {forgets}: {number} is lost");
    }
}

#[test]
fn whatever_names_a_raise_is_about_its_hold() {
    let mut desk = bounded(LIMITS);
    let hold = with_mti(&desk.purchase(1), "0100");
    asked(&mut desk, &hold, "00");
    let raise = follower(&mut desk, &hold, (2, 300), "0100");
    let raised = asked(&mut desk, &raise, "00");
    let again = follower(&mut desk, &raise, (3, 100), "0100");
    names(&asked(&mut desk, &again, "00"), &raised);
    // 12.34, 3.00 and 1.00, and a fifth of that: 19.60.
    let completes = follower(&mut desk, &again, (4, 1_000), "0200");
    assert!(asked(&mut desk, &completes, "00").has(DataElement::ORIGINAL_DATA));
    for (stan, minor, is_of_hold) in [(5, 961, false), (6, 960, true), (7, 1, false)] {
        let completes = follower(&mut desk, &hold, (stan, minor), "0200");
        let sent = asked(&mut desk, &completes, "00");
        assert_eq!(sent.has(DataElement::ORIGINAL_DATA), is_of_hold, "{stan}");
    }
    refund_refused(&mut desk, &raise, 8, 1_961, "57");
    refunded(&mut desk, &hold, 9, 1_960);
}

#[test]
fn what_is_about_a_payment_of_an_issuer_that_is_gone_goes_where_its_card_is_routed() {
    for token in [false, true] {
        let mut desk = bounded(LIMITS);
        let purchase = if token { desk.token_purchase(1) } else { desk.purchase(1) };
        let hold = with_mti(&purchase, "0100");
        asked(&mut desk, &hold, "00");
        let issuer = ISSUERS[0];
        desk.reload(|config| {
            config.routes = crate::setting::routes(true);
            config.issuers.remove(&issuer);
        });
        let completes = completion(&hold, 2, 1_000);
        let sent = delivered(&mut desk, &completes);
        assert!(!sent.has(DataElement::ORIGINAL_DATA), "nobody there knows it");
    }
}

#[test]
fn a_repeat_may_overtake_what_it_repeats() {
    for mti in ["0200", "0220"] {
        for syncs in [true, false] {
            let case = format!("{mti}, syncs {syncs}");
            let mut desk = bounded(LIMITS);
            let first = with_mti(&desk.purchase(1), mti);
            let again = later(&mut desk, repeat(&first));
            desk.syncs = syncs;
            desk.push(SECOND, &again);
            desk.push(FIRST, &first);
            desk.settle();
            desk.syncs = true;
            desk.sync();
            let (connection, sent) = desk.asked();
            desk.send(connection, &answer_to(&sent, "00"));
            assert!(desk.sent_to_issuers().is_empty(), "{case}");
            let answers = desk.sent_to_acquirers();
            assert!(!answers.is_empty() && answers.iter().all(|(_, it, _)| get(it, 39) == "00"), "{case}");
        }
    }
}

#[test]
fn another_terminals_message_with_the_same_name_hides_nothing() {
    let mut desk = forgetful();
    let purchase = desk.purchase(1);
    let original = asked(&mut desk, &purchase, "00");
    let mut other = with_mti(&desk.token_purchase(1), "0220");
    set(&mut other, &[(37, "000000000777"), (41, "TERM0002")]);
    forget(&mut desk, 10);
    delivered(&mut desk, &other);
    names(&delivered(&mut desk, &reversal(&purchase, 2)), &original);
}

#[test]
fn a_repeat_that_cannot_be_looked_for_now_hears_nothing_rather_than_no() {
    let mut desk = bounded(Limits { answered: 2, look_ups: 1, ..LIMITS });
    let (one, other) = (desk.purchase(1), desk.purchase(2));
    asked(&mut desk, &one, "00");
    asked(&mut desk, &other, "00");
    forget(&mut desk, 10);
    let (one, other) = (later(&mut desk, repeat(&one)), later(&mut desk, repeat(&other)));
    desk.house.history.answers(Remembering::Silent);
    desk.push(FIRST, &one);
    desk.push(FIRST, &other);
    desk.settle();
    assert!(desk.sent_to_acquirers().is_empty());
    desk.house.history.answers(Remembering::AtOnce);
    desk.pass(Duration::from_secs(1));
    assert_eq!(get(&desk.answer(), 39), "00");
    desk.send(FIRST, &other);
    assert_eq!(get(&desk.answer(), 39), "00");
    assert!(desk.sent_to_issuers().is_empty());
}

#[test]
fn what_happened_and_is_taken_back_in_part_waits_for_its_hold_first() {
    for may_be_repeat in [false, true] {
        let mut desk = forgetful();
        let hold = with_mti(&desk.purchase(1), "0100");
        asked(&mut desk, &hold, "00");
        forget(&mut desk, 10);
        let mut completes = completion(&hold, 2, 1_000);
        if !may_be_repeat {
            completes = later(&mut desk, completes);
        }
        let part = partial_reversal(&completes, 3, 300);
        desk.house.history.answers(Remembering::Silent);
        desk.push(FIRST, &completes);
        desk.push(FIRST, &part);
        desk.settle();
        desk.house.history.answers(Remembering::AtOnce);
        desk.pass(Duration::from_secs(1));
        let answers = desk.sent_to_acquirers();
        let heard: Vec<_> =
            answers.iter().map(|(_, it, _)| (it.mti().to_string(), get(it, 39), get(it, 11))).collect();
        let done = |message: &Message| {
            let answer = message.mti().answer().expect("a request").to_string();
            heard.contains(&(answer, "00".to_owned(), get(message, 11)))
        };
        assert!(done(&completes), "{heard:?}");
        // Where its reversal was looked for, too, that may have been taken over by now, behind it.
        assert_eq!(heard.len(), 1 + usize::from(done(&part)), "{heard:?}");
        let (connection, sent) = desk.asked();
        desk.send(connection, &answer_to(&sent, "00"));
        let undone = if done(&part) { desk.asked().1 } else { delivered(&mut desk, &repeat(&part)) };
        assert_eq!(&get(&undone, 95)[..12], "000000000300");
    }
}

#[test]
fn the_history_is_asked_again_where_something_was_decided_meanwhile() {
    let mut desk = bounded(Limits { answered: 4, look_ups: 1, ..LIMITS });
    let hold = with_mti(&desk.purchase(1), "0100");
    asked(&mut desk, &hold, "00");
    let other = desk.purchase(2);
    asked(&mut desk, &other, "00");
    forget(&mut desk, 10);
    forget(&mut desk, 20);
    let completes = completion(&hold, 3, 1_234);
    delivered(&mut desk, &completes);
    // What is brought back for this takes the place of the hold.
    delivered(&mut desk, &reversal(&other, 4));
    let back = refund(&mut desk, &hold, 5, 1_000);
    desk.syncs = false;
    desk.push(FIRST, &back);
    desk.push(FIRST, &reversal(&completes, 6));
    desk.settle();
    desk.syncs = true;
    desk.sync();
    let codes: Vec<String> = desk.sent_to_acquirers().iter().map(|(_, it, _)| get(it, 39)).collect();
    assert_eq!(codes, ["00", "57"], "the reversal, and nothing to refund");
    let (connection, undone) = desk.asked();
    desk.send(connection, &answer_to(&undone, "00"));
    refund_refused(&mut desk, &hold, 7, 1, "57");
}

#[test]
fn a_request_does_not_overtake_the_advice_that_it_is_about() {
    let mut desk = bounded(LIMITS);
    let advice = with_mti(&desk.purchase(1), "0220");
    desk.send(FIRST, &advice);
    desk.answer();
    let (connection, told) = desk.asked();
    refund_refused(&mut desk, &advice, 2, 100, "91");
    desk.send(connection, &answer_to(&told, "00"));
    refunded(&mut desk, &advice, 3, 100);
}

#[test]
fn a_refund_that_was_refused_hears_the_same_again_though_its_original_came_meanwhile() {
    for mti in ["0200", "0220"] {
        let mut desk = bounded(LIMITS);
        let purchase = desk.purchase(1);
        let back = with_mti(&refund(&mut desk, &purchase, 2, 1_000), mti);
        desk.send(FIRST, &back);
        assert_eq!(get(&desk.answer(), 39), "57", "{mti}");
        asked(&mut desk, &purchase, "00");
        desk.send(FIRST, &repeat(&back));
        assert_eq!(get(&desk.answer(), 39), "57", "{mti}");
        refunded(&mut desk, &purchase, 3, 1_000);
    }
}
