//! Stored messages that a person must look at: parked ones, and those owed for too long.

use std::time::Duration;

use tokenswitch::codec::{Dialect, Message, shipped_dialects};
use tokenswitch::switch::{Decision, OperatedEnd, Standing};
use tokenswitch::vocab::TransactionId;

use crate::desk::{Desk, FIRST, answer_to, get, reversal, set, with_mti};
use crate::house::Crash;
use crate::setting::{ISSUER_TIMEOUT, ISSUERS, dialect_of};

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
    assert!(again.mti().is_repeat(), "{}", again.mti());
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
    assert!(again.mti().is_repeat(), "{}", again.mti());
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
fn an_advice_is_parked_when_its_issuer_says_again_that_it_does_not_know_the_original() {
    let mut desk = Desk::open();
    advise(&mut desk, 1);
    desk.pass(ISSUER_TIMEOUT * 3);
    for _ in 0..2 {
        assert!(desk.exceptions().is_empty());
        said_again(&mut desk, "25");
    }
    listed(&desk, Standing::Parked);
    nothing_is_sent(&mut desk);
}

#[test]
fn an_issuer_that_does_not_know_the_original_is_believed_when_it_says_so_again_much_later() {
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

#[test]
fn a_late_answer_to_an_earlier_sending_does_not_close_a_reversal() {
    let (mut desk, connection, sent) = reversed(true);
    desk.send(connection, &answer_to(&sent, "25"));
    // What it says so soon after its time-out it may have found before it read the original.
    let late = ISSUER_TIMEOUT + Duration::from_millis(500);
    for (wait, is_closed) in [(late, false), (PAST_PAUSE, true)] {
        desk.pass(wait);
        let (connection, again) = desk.sent_to_issuers().pop().expect("it is tried still");
        desk.send(connection, &answer_to(&again, "25"));
        assert_eq!(desk.house.node.core().stored().is_empty(), is_closed, "after {wait:?}");
    }
}

/// Where a stored message stands after what its issuer said to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Delivered,
    Parked,
    /// It is sent again.
    Not,
}

/// An advice of 12.34 with the plain card is taken over.
fn advise(desk: &mut Desk, stan: u32) {
    let advice = with_mti(&desk.purchase(stan), "0220");
    desk.send(FIRST, &advice);
    assert_eq!(get(&desk.answer(), 39), "00");
}

#[test]
fn what_its_issuer_says_ends_a_stored_message_or_has_it_sent_again_and_a_no_holds_up_no_other() {
    use Ends::{Delivered, Not, Parked};
    let said = [
        ("00", Delivered, Delivered),
        // Nothing was done: as good as undone, and not as good as done.
        ("21", Delivered, Parked),
        ("05", Parked, Parked),
        ("14", Parked, Parked),
        ("51", Parked, Parked),
        ("94", Parked, Parked),
        // In part, and in no table.
        ("10", Parked, Parked),
        ("Z9", Parked, Parked),
        ("30", Parked, Parked),
        ("12", Parked, Parked),
        ("40", Parked, Parked),
        ("91", Not, Not),
        ("96", Not, Not),
        ("25", Not, Not),
    ];
    for (code, of_reversal, of_advice) in said {
        for (is_reversal, ends) in [(true, of_reversal), (false, of_advice)] {
            let case = format!("{code} to a {}", if is_reversal { "reversal" } else { "advice" });
            let (mut desk, connection, sent) = if is_reversal {
                reversed(false)
            } else {
                let mut desk = Desk::open();
                advise(&mut desk, 1);
                let (connection, sent) = desk.asked();
                (desk, connection, sent)
            };
            advise(&mut desk, 20);
            assert!(desk.sent_to_issuers().is_empty(), "{case}: one after the other");
            desk.send(connection, &answer_to(&sent, code));
            let next: Vec<String> = desk.sent_to_issuers().iter().map(|(_, it)| get(it, 37)).collect();
            let expected = if ends == Not { vec![] } else { vec!["000000000020".to_owned()] };
            assert_eq!(next, expected, "{case}: the next of its card");
            for restarts in [false, true] {
                if restarts {
                    desk = desk.restart(Crash::Unsynced);
                }
                if ends == Parked {
                    listed(&desk, Standing::Parked);
                    assert_eq!(desk.exceptions()[0].code.expect("a code").as_str(), code, "{case}");
                    let suspense = desk.house.node.core().suspense(desk.exceptions()[0].since);
                    assert_eq!(suspense.iter().map(|sum| sum.minor).sum::<u64>(), 1_234, "{case}");
                } else {
                    assert!(desk.exceptions().is_empty(), "{case}");
                }
                desk.sent_to_issuers();
                desk.pass(PAST_PAUSE);
                let again = desk.sent_to_issuers();
                let is_again = again.iter().any(|(_, it)| get(it, 11) == get(&sent, 11));
                assert_eq!(is_again, ends == Not, "{case}: sent again");
            }
        }
    }
}

/// The first issuer's dialect; or one in which DE 19 is shorter than its values are.
fn dialect(with_country: bool) -> Dialect {
    let name = dialect_of(ISSUERS[0]).name().to_owned();
    let (_, text) = shipped_dialects().iter().find(|(shipped, _)| *shipped == name).expect("it is shipped");
    let without = text.replace(
        "\"acquiring institution country code\", kind = \"n 3\"",
        "\"acquiring institution country code\", kind = \"n 1\"",
    );
    assert_ne!(*text, without);
    Dialect::from_toml(&name, if with_country { text } else { &without }).expect("a good dialect")
}

#[test]
fn what_cannot_be_said_to_its_issuer_waits_for_a_person_or_the_next_start_and_holds_up_no_other() {
    for restarts in [false, true] {
        let mut desk = Desk::open();
        let mut advice = with_mti(&desk.purchase(1), "0220");
        set(&mut advice, &[(19, "040")]);
        desk.send(FIRST, &advice);
        assert_eq!(get(&desk.answer(), 39), "00");
        let (connection, first) = desk.asked();
        advise(&mut desk, 20);
        desk.speak(ISSUERS[0], dialect(false));
        assert_eq!(desk.link(connection), None, "it begins anew");
        desk.pass(PAST_PAUSE);
        let sent = desk.sent_to_issuers();
        assert!(!sent.is_empty() && sent.iter().all(|(_, it)| get(it, 37) == "000000000020"), "{sent:?}");
        let stored = listed(&desk, Standing::Parked);
        assert_eq!(desk.exceptions()[0].code, None, "its issuer said nothing");
        let unencodable = desk.house.node.counts().unencodable;
        desk.pass(LONG);
        assert_eq!(desk.house.node.counts().unencodable, unencodable, "it is not tried again");
        let (connection, advice) = desk.sent_to_issuers().pop().expect("it is tried still");
        desk.send(connection, &answer_to(&advice, "00"));
        if restarts {
            desk = desk.restart(Crash::Unsynced);
            desk.pass(PAST_PAUSE);
            let (connection, again) = desk.sent_to_issuers().pop().expect("it can be said by now");
            assert_eq!(get(&again, 11), get(&first, 11));
            desk.send(connection, &answer_to(&again, "00"));
        } else {
            desk.speak(ISSUERS[0], dialect(true));
            desk.pass(PAST_PAUSE);
            nothing_is_sent(&mut desk);
            assert_eq!(desk.operate(Decision::Retry, stored), Some(true));
            is_delivered(&mut desk, &first);
        }
        assert!(desk.exceptions().is_empty() && desk.house.node.core().stored().is_empty());
    }
}

/// A purchase is approved and taken back: its reversal leaves, unless another of its card is owed.
fn owes_a_reversal(desk: &mut Desk, stan: u32) {
    let purchase = desk.purchase(stan);
    desk.send(FIRST, &purchase);
    let (connection, asked) = desk.asked();
    desk.send(connection, &answer_to(&asked, "00"));
    desk.answer();
    desk.send(FIRST, &reversal(&purchase, stan + 1));
    assert_eq!(get(&desk.answer(), 39), "00");
}

/// What an issuer says to a message that it will not take, and to one of another card.
#[derive(Debug, Clone, Copy)]
struct Habit {
    poison: Option<&'static str>,
    others: bool,
}

#[test]
fn past_the_age_limit_what_its_issuer_never_takes_makes_room_for_its_card() {
    let always = |code| Habit { poison: Some(code), others: false };
    let silent = |others| Habit { poison: None, others };
    for (habit, aside) in
        [(always("91"), true), (always("96"), true), (silent(true), true), (silent(false), false)]
    {
        let mut desk = Desk::open();
        owes_a_reversal(&mut desk, 1);
        let (connection, first) = desk.asked();
        owes_a_reversal(&mut desk, 3);
        let mut waiting = vec![(connection, first.clone())];
        let (mut stan, mut second) = (100, None);
        for _ in 0..800 {
            for (connection, message) in std::mem::take(&mut waiting) {
                let own = get(&message, 11);
                if own == get(&first, 11) {
                    if let Some(code) = habit.poison {
                        desk.send(connection, &answer_to(&message, code));
                    }
                    if habit.others {
                        stan += 1;
                        desk.send(FIRST, &with_mti(&desk.token_purchase(stan), "0220"));
                        assert_eq!(get(&desk.answer(), 39), "00");
                    }
                } else if get(&message, 37) == "000000000003" {
                    second = Some(message.clone());
                    desk.send(connection, &answer_to(&message, "00"));
                } else {
                    desk.send(connection, &answer_to(&message, "00"));
                }
            }
            desk.pass(Duration::from_millis(250));
            waiting = desk.sent_to_issuers();
            if desk.exceptions().is_empty() {
                assert_eq!(second, None, "{habit:?}: not before the age limit");
            }
        }
        assert_eq!(second.is_some(), aside, "{habit:?}");
        if !aside {
            assert!(desk.exceptions().iter().all(|it| it.standing == Standing::OverAge), "{habit:?}");
            continue;
        }
        let mut desk = desk.restart(Crash::Unsynced);
        let stored = listed(&desk, Standing::Parked);
        let said = desk.exceptions()[0].code.map(|code| code.as_str().to_owned());
        assert_eq!(said.as_deref(), habit.poison);
        nothing_is_sent(&mut desk);
        assert_eq!(desk.operate(Decision::Retry, stored), Some(true));
        is_delivered(&mut desk, &first);
    }
}

#[test]
fn a_parked_advice_that_was_taken_back_since_is_not_sent_again() {
    for (before, restarts) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut desk = Desk::open();
        let advice = with_mti(&desk.purchase(1), "0220");
        let take_back = |desk: &mut Desk| {
            desk.send(FIRST, &reversal(&advice, 2));
            assert_eq!(get(&desk.answer(), 39), "00");
        };
        desk.send(FIRST, &advice);
        assert_eq!(get(&desk.answer(), 39), "00");
        let (connection, sent) = desk.asked();
        if before {
            take_back(&mut desk);
        }
        desk.send(connection, &answer_to(&sent, "30"));
        if !before {
            take_back(&mut desk);
        }
        let (connection, undoing) = desk.asked();
        assert_eq!(&get(&undoing, 90)[4..10], get(&sent, 11));
        desk.send(connection, &answer_to(&undoing, "00"));
        let stored = listed(&desk, Standing::Parked);
        if restarts {
            desk = desk.restart(Crash::Unsynced);
        }
        assert_eq!(
            desk.operate(Decision::Retry, stored),
            Some(false),
            "before {before}, restarts {restarts}"
        );
        assert_eq!(desk.decided, Some(OperatedEnd::TakenBack));
        nothing_is_sent(&mut desk);
        assert_eq!(desk.operate(Decision::Close, stored), Some(true));
        assert!(desk.exceptions().is_empty());
    }
}

#[test]
fn an_advice_that_is_taken_back_after_it_was_tried_again_goes_before_its_reversal() {
    let mut desk = Desk::open();
    let advice = with_mti(&desk.purchase(1), "0220");
    desk.send(FIRST, &advice);
    assert_eq!(get(&desk.answer(), 39), "00");
    let (connection, sent) = desk.asked();
    desk.send(connection, &answer_to(&sent, "30"));
    let stored = listed(&desk, Standing::Parked);
    desk.syncs = false;
    assert_eq!(desk.operate(Decision::Retry, stored), None);
    desk.send(FIRST, &reversal(&advice, 2));
    desk.syncs = true;
    desk.sync();
    assert_eq!(desk.operated(), Some(true));
    for mti in ["0221", "0420"] {
        let (connection, message) = desk.asked();
        assert_eq!(message.mti().to_string(), mti);
        desk.send(connection, &answer_to(&message, "00"));
    }
    assert!(desk.house.node.core().stored().is_empty() && desk.exceptions().is_empty());
}
