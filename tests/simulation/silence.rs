//! Issuers that say nothing, or nonsense: which of their connections are set aside, and what may find out whether they
//! are back.

use std::collections::BTreeSet;
use std::time::Duration;

use tokenswitch::codec::{DataElement, Message};
use tokenswitch::link::ConnectionId;
use tokenswitch::switch::{Decision, Standing};
use tokenswitch::vocab::Refusal;

use crate::desk::{Desk, FIRST, answer_to, get, with_mti};
use crate::setting::ISSUER_TIMEOUT;

/// When advices are handed over, after the requests before them.
const LATER: Duration = Duration::from_millis(1_500);
/// Past the age limit of the simulation's configuration.
const PAST_AGE: Duration = Duration::from_secs(61);

/// Sends purchases of these numbers and gives what left for the issuer.
fn purchases(desk: &mut Desk, stans: std::ops::Range<u32>) -> Vec<(ConnectionId, Message)> {
    for stan in stans {
        desk.send(FIRST, &desk.purchase(stan));
    }
    desk.sent_to_issuers()
}

fn connections(sent: &[(ConnectionId, Message)]) -> BTreeSet<ConnectionId> {
    sent.iter().map(|(connection, _)| *connection).collect()
}

/// An advice of this purchase is acknowledged here and has left for the issuer; gives the connection.
fn advised(desk: &mut Desk, purchase: &Message) -> ConnectionId {
    desk.send(FIRST, &with_mti(purchase, "0220"));
    assert_eq!(get(&desk.answer(), 39), "00");
    desk.asked().0
}

#[test]
fn who_answers_nonsense_is_set_aside_as_who_says_nothing() {
    let mut desk = Desk::open();
    desk.echoes = false;
    let sent = purchases(&mut desk, 1..7);
    let bad = sent[0].0;
    for (connection, asked) in &sent {
        let mut answer = answer_to(asked, "00");
        if *connection == bad {
            answer.remove(DataElement::RESPONSE_CODE);
        }
        desk.send(*connection, &answer);
    }
    assert_eq!(desk.refused(Refusal::IssuerAnswerInvalid), 3);
    // One after the other, since all are for one card; whoever takes them shows nothing about requests.
    for _ in 0..3 {
        let (connection, reversal) = desk.asked();
        assert_eq!(reversal.mti().to_string(), "0420");
        desk.send(connection, &answer_to(&reversal, "00"));
    }
    let after = connections(&purchases(&mut desk, 30..36));
    assert!(after.len() == 1 && !after.contains(&bad), "{after:?}");
    desk.echoes = true;
    desk.pass(LATER);
    let after = connections(&purchases(&mut desk, 40..52));
    assert!(after.contains(&bad), "it answers an echo, and is tried again");
}

#[test]
fn nonsense_to_an_advice_counts_as_silence_does() {
    let mut desk = Desk::open();
    (desk.echoes, desk.reachable) = (false, false);
    let only = desk.issuer_connections()[0];
    for connection in desk.issuer_connections().into_iter().filter(|connection| *connection != only) {
        desk.cut(connection, None);
    }
    desk.send(FIRST, &with_mti(&desk.purchase(20), "0220"));
    assert_eq!(get(&desk.answer(), 39), "00");
    for mti in ["0220", "0221", "0221"] {
        let (connection, asked) = desk.asked();
        assert_eq!((connection, asked.mti().to_string().as_str()), (only, mti));
        let mut nonsense = answer_to(&asked, "00");
        nonsense.remove(DataElement::RESPONSE_CODE);
        desk.send(only, &nonsense);
        desk.pass(LATER);
    }
    assert!(desk.sent_to_issuers().is_empty(), "it is set aside");
    desk.send(FIRST, &desk.purchase(30));
    assert_eq!(get(&desk.answer(), 39), "91", "at once");
    assert!(desk.sent_to_issuers().is_empty());
}

#[test]
fn an_advice_that_is_sent_again_elsewhere_does_not_speak_for_the_connection_that_lost_it() {
    let mut desk = Desk::open();
    desk.echoes = false;
    let sent = purchases(&mut desk, 1..7);
    assert_eq!((sent.len(), connections(&sent).len()), (6, 2));
    desk.pass(LATER);
    let advice = desk.purchase(20);
    let silent = advised(&mut desk, &advice);
    for (connection, asked) in sent.iter().filter(|(connection, _)| *connection != silent) {
        desk.send(*connection, &answer_to(asked, "00"));
    }
    desk.pass(ISSUER_TIMEOUT - LATER);
    assert_eq!(desk.refused(Refusal::IssuerTimedOut), 3, "it is set aside");
    desk.network.clear();
    desk.pass(Duration::from_secs(1));
    let (other, again) = desk.asked();
    assert_eq!((again.mti().to_string().as_str(), other != silent), ("0221", true));
    let after = connections(&purchases(&mut desk, 30..36));
    assert!(after.len() == 1 && !after.contains(&silent), "{after:?}");
    desk.echoes = true;
    desk.pass(LATER);
    assert!(desk.network.iter().any(|(connection, _)| *connection == silent), "an echo asks");
    let after = connections(&purchases(&mut desk, 40..52));
    assert!(after.contains(&silent), "and was answered");
}

#[test]
fn stored_messages_sent_again_do_not_let_customers_to_a_silent_issuer() {
    let mut desk = Desk::open();
    desk.echoes = false;
    assert_eq!(connections(&purchases(&mut desk, 1..5)).len(), 2);
    desk.pass(LATER);
    let advices = [desk.purchase(20), desk.token_purchase(21)].map(|purchase| advised(&mut desk, &purchase));
    assert_ne!(advices[0], advices[1]);
    desk.pass(Duration::from_millis(750));
    assert_eq!(connections(&purchases(&mut desk, 5..7)).len(), 2);
    desk.pass(ISSUER_TIMEOUT + Duration::from_millis(250));
    assert_eq!(desk.sent_to_acquirers().len(), 6);
    assert!(desk.sent_to_issuers().is_empty(), "the advices' silence was the third on each");
    for stan in 30..60 {
        desk.send(FIRST, &desk.purchase(stan));
        assert_eq!(get(&desk.answer(), 39), "91", "at once");
        desk.pass(Duration::from_secs(1));
        let sent = desk.sent_to_issuers();
        assert!(sent.is_empty(), "{stan}: {}", sent[0].1.mti());
    }
    assert_eq!(desk.refused(Refusal::IssuerUnavailable), 30);
    assert!(desk.network.len() > 4, "it is probed, and called");
    desk.echoes = true;
    desk.pass(Duration::from_secs(15));
    assert!(!desk.sent_to_issuers().is_empty(), "what is owed goes out again");
}

#[test]
fn an_advice_that_a_person_closed_leaves_its_connection_as_free_as_it_was() {
    let mut desk = Desk::open();
    let advice = desk.purchase(1);
    advised(&mut desk, &advice);
    desk.pass(PAST_AGE);
    let exceptions = desk.exceptions();
    let [exception] = exceptions.as_slice() else { panic!("{exceptions:?}") };
    assert_eq!(exception.standing, Standing::OverAge);
    desk.sent_to_issuers();
    while desk.sent_to_issuers().is_empty() {
        desk.pass(Duration::from_millis(250));
    }
    assert_eq!(desk.operate(Decision::Close, exception.stored), Some(true));
    desk.pass(Duration::from_secs(5));
    let mut used = BTreeSet::new();
    for stan in 2..6 {
        desk.send(FIRST, &desk.purchase(stan));
        let (connection, asked) = desk.asked();
        desk.send(connection, &answer_to(&asked, "00"));
        assert_eq!(get(&desk.answer(), 39), "00");
        used.insert(connection);
    }
    assert_eq!(used.len(), 2, "both take their turns");
}

/// Three silences on each connection, of two advices that are tried three times.
const THRICE: Duration = Duration::from_millis(7_750);

#[test]
fn an_issuer_that_is_silent_to_what_is_stored_is_not_asked_until_it_answers_an_echo() {
    let mut desk = Desk::open();
    desk.echoes = false;
    for advice in [desk.purchase(20), desk.token_purchase(21)] {
        advised(&mut desk, &advice);
    }
    desk.pass(THRICE);
    desk.sent_to_issuers();
    desk.send(FIRST, &desk.purchase(1));
    assert_eq!(get(&desk.answer(), 39), "91", "at once");
    assert_eq!(desk.refused(Refusal::IssuerUnavailable), 1);
    desk.echoes = true;
    desk.pass(Duration::from_secs(15));
    desk.sent_to_issuers();
    assert_eq!(purchases(&mut desk, 2..3).len(), 1);
}

#[test]
fn an_issuer_that_answers_all_but_what_is_stored_keeps_its_customers() {
    let mut desk = Desk::open();
    for advice in [desk.purchase(20), desk.token_purchase(21)] {
        advised(&mut desk, &advice);
    }
    for stan in 1..10 {
        desk.pass(THRICE);
        desk.sent_to_issuers();
        let sent = purchases(&mut desk, stan..stan + 1);
        let [(connection, asked)] = sent.as_slice() else { panic!("{stan}: {sent:?}") };
        desk.send(*connection, &answer_to(asked, "00"));
        assert_eq!(get(&desk.answer(), 39), "00", "{stan}");
    }
}
