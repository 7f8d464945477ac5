//! Each bound of the switch at its limit: a new request hears 91 at once, and what is owed still passes.

use std::time::Duration;

use tokenswitch::codec::Message;
use tokenswitch::switch::{Limits, SwitchConfig};
use tokenswitch::vocab::Refusal;

use crate::desk::{Desk, FIRST, SECOND, answer_to, get, repeat, reversal, set, with_mti};
use crate::house::Crash;
use crate::setting::{GRACE, ISSUERS, LIMITS, switch_config};

/// Room for the journal that no case here comes to.
const MUCH: usize = 1 << 20;

fn limited(limits: Limits) -> Desk {
    Desk::bounded(limits, MUCH)
}

/// Sends a purchase that its issuer approves; gives it with what the issuer saw.
fn approved(desk: &mut Desk, stan: u32) -> Message {
    let purchase = desk.purchase(stan);
    desk.send(FIRST, &purchase);
    let (connection, asked) = desk.asked();
    desk.send(connection, &answer_to(&asked, "00"));
    assert_eq!(get(&desk.answer(), 39), "00", "{stan}");
    purchase
}

fn advice(desk: &Desk, stan: u32) -> Message {
    with_mti(&desk.purchase(stan), "0220")
}

fn is_refused_for_room(desk: &mut Desk, stan: u32) {
    let before = desk.refused(Refusal::Overloaded);
    desk.send(FIRST, &desk.purchase(stan));
    assert_eq!(get(&desk.answer(), 39), "91");
    assert_eq!(desk.refused(Refusal::Overloaded), before + 1);
}

#[test]
fn requests_in_flight() {
    let mut desk = limited(Limits { in_flight: 2, ..LIMITS });
    let before = approved(&mut desk, 1);
    let (first, second) = (desk.purchase(2), desk.purchase(3));
    desk.send(FIRST, &first);
    desk.send(FIRST, &second);
    let asked = desk.sent_to_issuers();
    assert_eq!((asked.len(), desk.house.node.core().in_flight()), (2, 2));
    is_refused_for_room(&mut desk, 4);
    assert!(desk.sent_to_issuers().is_empty());
    desk.send(SECOND, &repeat(&first));
    assert!(desk.sent_to_acquirers().is_empty(), "a repeat is nothing new: the one answer will go to it");
    desk.send(FIRST, &reversal(&before, 5));
    assert_eq!(get(&desk.answer(), 39), "00", "a reversal passes");
    desk.send(FIRST, &advice(&desk, 6));
    assert_eq!(get(&desk.answer(), 39), "00", "an advice passes");
    desk.sent_to_issuers();
    for (connection, asked) in &asked {
        desk.send(*connection, &answer_to(asked, "00"));
    }
    let answers = desk.sent_to_acquirers();
    let codes: Vec<_> = answers.iter().map(|(to, answer, _)| (*to, get(answer, 39))).collect();
    assert_eq!(codes, [(SECOND, "00".into()), (FIRST, "00".into())], "answers pass");
    desk.send(FIRST, &repeat(&desk.purchase(4)));
    assert_eq!(
        desk.sent_to_issuers().len(),
        1,
        "there is room again, and nothing was remembered of the refusal"
    );
}

#[test]
fn messages_stored_for_an_issuer() {
    let mut desk = limited(Limits { stored: 8, ..LIMITS });
    let before = approved(&mut desk, 1);
    let stored = |desk: &Desk| desk.house.node.core().stored().len();
    for stan in 11..18 {
        desk.send(FIRST, &advice(&desk, stan));
        assert_eq!(get(&desk.answer(), 39), "00");
    }
    assert_eq!(stored(&desk), 7);
    is_refused_for_room(&mut desk, 2);
    desk.send(FIRST, &advice(&desk, 18));
    assert_eq!(get(&desk.answer(), 39), "00", "an advice passes where requests do not");
    desk.send(FIRST, &advice(&desk, 19));
    assert!(desk.sent_to_acquirers().is_empty(), "and past the limit it is not declined, but comes again");
    assert_eq!((stored(&desk), desk.house.node.core().counts().unanswered), (8, 1));
    desk.send(FIRST, &reversal(&before, 3));
    assert_eq!(get(&desk.answer(), 39), "00", "a reversal passes");
    while stored(&desk) > 0 {
        for (connection, message) in desk.sent_to_issuers() {
            desk.send(connection, &answer_to(&message, "00"));
        }
        desk.pass(Duration::from_millis(250));
    }
    desk.send(FIRST, &repeat(&advice(&desk, 19)));
    assert_eq!(get(&desk.answer(), 39), "00");
    desk.sent_to_issuers();
    approved(&mut desk, 4);
}

#[test]
fn a_burst_finds_no_more_room_than_there_is() {
    let mut desk = limited(Limits { stored: 8, ..LIMITS });
    let before = approved(&mut desk, 1);
    for stan in 11..31 {
        desk.push(FIRST, &advice(&desk, stan));
    }
    desk.push(FIRST, &reversal(&before, 2));
    desk.push(FIRST, &desk.purchase(3));
    desk.settle();
    let answers = desk.sent_to_acquirers();
    let taken = answers.iter().filter(|(_, answer, _)| get(answer, 39) == "00").count();
    assert_eq!((answers.len(), taken), (10, 9), "eight advices, the reversal, and no room for the request");
    let core = desk.house.node.core();
    let places = |desk: &Desk| desk.house.node.core().stored().taken(ISSUERS[0]);
    assert_eq!((core.stored().len(), places(&desk), core.counts().unanswered), (9, 9, 12));
    while places(&desk) > 0 {
        for (connection, message) in desk.sent_to_issuers() {
            desk.send(connection, &answer_to(&message, "00"));
        }
        desk.pass(Duration::from_millis(250));
    }
    approved(&mut desk, 4);
    assert_eq!(places(&desk), 0);
}

#[test]
fn a_request_in_flight_takes_its_reversals_place() {
    let mut desk = limited(Limits { stored: 2, ..LIMITS });
    desk.send(FIRST, &desk.purchase(1));
    desk.send(FIRST, &desk.purchase(2));
    let asked = desk.sent_to_issuers();
    assert_eq!(asked.len(), 2);
    is_refused_for_room(&mut desk, 3);
    desk.pass(crate::setting::ISSUER_TIMEOUT);
    assert_eq!(desk.sent_to_acquirers().len(), 2);
    assert_eq!(desk.house.node.core().stored().len(), 2, "each silence has its reversal");
}

#[test]
fn answers_remembered() {
    let mut desk = limited(Limits { answered: 2, ..LIMITS });
    let mut purchases = Vec::new();
    for stan in 1..4 {
        purchases.push(approved(&mut desk, stan));
        desk.pass(Duration::from_secs(1));
    }
    desk.send(FIRST, &repeat(&purchases[0]));
    assert_eq!(get(&desk.answer(), 39), "94", "it may have been answered, so it is not forwarded");
    assert_eq!(desk.refused(Refusal::TooOld), 1);
    desk.send(FIRST, &repeat(&purchases[1]));
    assert_eq!(get(&desk.answer(), 39), "00");
    desk.send(FIRST, &reversal(&purchases[2], 4));
    assert_eq!(get(&desk.answer(), 39), "00");
}

#[test]
fn an_approval_that_was_not_given_is_not_forgotten() {
    for collected in [false, true] {
        let mut desk = limited(Limits { answered: 1, ..LIMITS });
        let purchase = desk.purchase(1);
        desk.send(SECOND, &purchase);
        let (connection, asked) = desk.asked();
        desk.cut(SECOND, None);
        desk.send(connection, &answer_to(&asked, "00"));
        desk.pass(Duration::from_secs(1));
        approved(&mut desk, 2);
        approved(&mut desk, 3);
        if collected {
            desk.send(FIRST, &repeat(&purchase));
            assert_eq!(get(&desk.answer(), 39), "00");
            desk.send(FIRST, &repeat(&purchase));
            assert_eq!(get(&desk.answer(), 39), "94", "given, it need not be remembered any more");
            continue;
        }
        desk.pass(GRACE);
        let (connection, reversal) = desk.asked();
        assert_eq!((reversal.mti().to_string(), get(&reversal, 37)), ("0420".to_owned(), get(&asked, 37)));
        desk.send(connection, &answer_to(&reversal, "00"));
        assert!(desk.house.node.core().stored().is_empty());
    }
}

#[test]
fn reversals_of_unknown_originals() {
    let mut desk = limited(Limits { tombstones: 1, ..LIMITS });
    for stan in [1, 2] {
        desk.send(FIRST, &reversal(&desk.purchase(stan), 10 + stan));
        assert_eq!(get(&desk.answer(), 39), "25");
    }
    desk.send(FIRST, &desk.purchase(2));
    assert_eq!(get(&desk.answer(), 39), "94");
    desk.send(FIRST, &desk.purchase(1));
    assert_eq!(desk.sent_to_issuers().len(), 1, "the oldest is forgotten");
}

#[test]
fn a_restart_remembers_as_much_as_a_reload_allowed() {
    let mut desk = limited(Limits { tombstones: 1, ..LIMITS });
    desk.reload(|config| config.limits.tombstones = 3);
    for stan in 1..=3 {
        desk.send(FIRST, &reversal(&desk.purchase(stan), 10 + stan));
        assert_eq!(get(&desk.answer(), 39), "25");
    }
    let mut desk = desk.restart(Crash::Untold);
    for stan in 1..=3 {
        desk.send(FIRST, &desk.purchase(stan));
        assert_eq!(get(&desk.answer(), 39), "94", "{stan} comes behind its reversal");
    }
    assert!(desk.sent_to_issuers().is_empty());
}

#[test]
fn entries_that_wait_for_the_disk() {
    let mut desk = Desk::bounded(LIMITS, 64 << 10);
    desk.send(FIRST, &desk.purchase(1));
    let (connection, asked) = desk.asked();
    desk.syncs = false;
    let mut stan = 1;
    while desk.refused(Refusal::Overloaded) == 0 {
        stan += 1;
        assert!(stan < 500, "the queue never fills");
        desk.send(FIRST, &desk.purchase(stan));
    }
    assert_eq!(get(&desk.answer(), 39), "91", "at once, though the disk says nothing");
    let taken = stan - 2;
    let mut advices = 0;
    while desk.house.node.core().counts().unanswered == 0 {
        stan += 1;
        advices += 1;
        assert!(stan < 1_000, "the queue never fills");
        desk.send(FIRST, &advice(&desk, stan));
    }
    assert!(advices > 20, "advices had room of their own: {advices}");
    desk.send(connection, &answer_to(&asked, "00"));
    assert!(desk.sent_to_acquirers().is_empty(), "not before it is durable");
    desk.syncs = true;
    desk.sync();
    let answers = desk.sent_to_acquirers();
    let of = |mti: &str| answers.iter().filter(|(_, answer, _)| answer.mti().to_string() == mti).count();
    assert_eq!((of("0210"), of("0230")), (1, advices - 1), "the answer, and each advice that was taken over");
    let forwarded = desk.sent_to_issuers();
    let forwarded = forwarded.iter().filter(|(_, message)| message.mti().to_string() == "0200").count();
    assert_eq!(forwarded, usize::try_from(taken).unwrap());
    let mut late = advice(&desk, stan);
    set(&mut late, &[(11, &format!("{stan:06}"))]);
    desk.send(FIRST, &repeat(&late));
    assert_eq!(get(&desk.answer(), 39), "00", "what was left unanswered is taken over when it comes again");
}

#[test]
fn a_batch_larger_than_the_journals_room_is_taken_piece_by_piece() {
    let mut desk = Desk::bounded(LIMITS, 32 << 10);
    for stan in 1..180 {
        desk.push(FIRST, &desk.purchase(stan));
    }
    desk.settle();
    desk.pass(Duration::from_millis(500));
    assert_eq!(desk.sent_to_issuers().len(), 179);
    desk.send(FIRST, &desk.purchase(300));
    assert_eq!(desk.sent_to_issuers().len(), 1);
}

#[test]
fn requests_older_than_the_repeat_window() {
    const WINDOW: Duration = Duration::from_secs(60);
    let mut desk = Desk::with(SwitchConfig { repeat_window: WINDOW, ..switch_config() }, MUCH);
    let known = approved(&mut desk, 1);
    let [just, older] = [2, 3].map(|stan| desk.purchase(stan));
    desk.pass(WINDOW);
    desk.send(FIRST, &just);
    let (connection, asked) = desk.asked();
    desk.send(connection, &answer_to(&asked, "00"));
    assert_eq!(get(&desk.answer(), 39), "00", "as old as the window is long");
    desk.pass(Duration::from_secs(1));
    for restarts in [false, true] {
        if restarts {
            desk = desk.restart(Crash::Unsynced);
        }
        desk.sent_to_issuers();
        for again in [older.clone(), repeat(&older)] {
            desk.send(FIRST, &again);
            assert_eq!(get(&desk.answer(), 39), "94");
        }
        assert_eq!(desk.refused(Refusal::TooOld), 2);
        desk.send(FIRST, &repeat(&known));
        assert_eq!(get(&desk.answer(), 39), "00", "what is remembered is remembered still");
        assert!(desk.sent_to_issuers().is_empty(), "nothing of it is forwarded");
    }
    desk.send(FIRST, &desk.purchase(4));
    assert_eq!(desk.sent_to_issuers().len(), 1);
}

#[test]
fn a_date_ahead_of_the_clock_blocks_nobody() {
    for restarts in [false, true] {
        let mut desk = limited(Limits { answered: 2, ..LIMITS });
        let dated = |desk: &Desk, stan, at| {
            let mut message = desk.purchase(stan);
            set(&mut message, &[(7, at)]);
            message
        };
        desk.send(FIRST, &dated(&desk, 1, "0120120000"));
        assert_eq!(get(&desk.answer(), 39), "30", "further ahead than repeats are known");
        assert_eq!(desk.refused(Refusal::DatedAhead), 1);
        assert!(desk.sent_to_issuers().is_empty());
        let ahead = dated(&desk, 2, "1124230000");
        desk.send(FIRST, &ahead);
        let (connection, asked) = desk.asked();
        desk.send(connection, &answer_to(&asked, "00"));
        assert_eq!(get(&desk.answer(), 39), "00");
        let mut others = Vec::new();
        for stan in 3..8 {
            if restarts && stan == 6 {
                desk = desk.restart(Crash::Unsynced);
                desk.sent_to_issuers();
            }
            others.push(approved(&mut desk, stan));
            desk.pass(Duration::from_secs(1));
        }
        // Though none of them is in memory, none is charged twice.
        for known in [&ahead, &others[0]] {
            for again in [known.clone(), repeat(known)] {
                desk.send(FIRST, &again);
                assert_eq!(get(&desk.answer(), 39), "00", "restarts {restarts}");
            }
            let mut altered = repeat(known);
            set(&mut altered, &[(4, "000000001235")]);
            desk.send(FIRST, &altered);
            assert_eq!(get(&desk.answer(), 39), "94", "restarts {restarts}");
        }
        assert!(desk.sent_to_issuers().is_empty(), "restarts {restarts}");
        desk.send(FIRST, &reversal(&ahead, 9));
        assert_eq!(get(&desk.answer(), 39), "00", "restarts {restarts}");
        assert_eq!(desk.sent_to_issuers().len(), 1);
    }
}
