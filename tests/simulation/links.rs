//! What the configuration of a link decides, key by key, and what a daemon that drains still does.

use std::time::Duration;

use tokenswitch::codec::{DataElement, Message};
use tokenswitch::journal::JournalConfig;
use tokenswitch::link::{ConnectionId, Outbox};
use tokenswitch::switch::{SwitchConfig, TrackTwo};
use tokenswitch::vocab::Refusal;

use crate::desk::{Desk, FIRST, PARTIAL, SECOND, answer_to, get, repeat, reversal, set};
use crate::setting::{ACQUIRERS, GRACE, ISSUER_TIMEOUT, passing_config, switch_config};

const NEWCOMER: ConnectionId = ConnectionId(9);

fn with(change: impl FnOnce(&mut SwitchConfig)) -> Desk {
    let mut config = switch_config();
    change(&mut config);
    Desk::with(config, JournalConfig::default().queue_bytes)
}

fn of_second_acquirer(mut request: Message) -> Message {
    set(&mut request, &[(32, "87654321")]);
    request
}

#[test]
fn identifiers_that_pass_must_be_free_on_the_issuers_link() {
    let mut desk = Desk::with(passing_config(), JournalConfig::default().queue_bytes);
    let request = desk.purchase(4_711);
    desk.send(FIRST, &request);
    let (issuer, asked) = desk.asked();
    assert_eq!([7, 11].map(|element| get(&asked, element)), [7, 11].map(|element| get(&request, element)));
    let other = of_second_acquirer(desk.purchase(4_711));
    desk.send(PARTIAL, &other);
    assert_eq!(get(&desk.answer(), 39), "91");
    assert_eq!(desk.refused(Refusal::IdentifiersInUse), 1);
    assert!(desk.sent_to_issuers().is_empty(), "refused, and the first one is not overwritten");
    desk.send(issuer, &answer_to(&asked, "00"));
    let answer = desk.answer();
    assert_eq!((get(&answer, 39), get(&answer, 32)), ("00".into(), get(&request, 32)));
}

#[test]
fn one_sign_on_may_be_good_for_the_whole_institution() {
    for (whole, code) in [(false, Some("91")), (true, None)] {
        let mut desk = with(|config| {
            config.acquirers.values_mut().for_each(|acquirer| acquirer.sign_on_per_institution = whole);
        });
        desk.opened(NEWCOMER, ACQUIRERS[0]);
        desk.send(NEWCOMER, &desk.purchase(1));
        match code {
            Some(code) => assert_eq!(get(&desk.answer(), 39), code),
            None => assert_eq!(desk.sent_to_issuers().len(), 1),
        }
    }
}

#[test]
fn an_answer_goes_to_another_connection_only_where_its_link_says_so() {
    for (any, given) in [(false, 0), (true, 1)] {
        let mut desk = with(|config| {
            config.acquirers.values_mut().for_each(|acquirer| acquirer.answer_on_any = any);
        });
        desk.opened(NEWCOMER, ACQUIRERS[1]);
        desk.sign_on(NEWCOMER);
        desk.send(PARTIAL, &of_second_acquirer(desk.purchase(1)));
        let (issuer, asked) = desk.asked();
        desk.cut(PARTIAL, None);
        desk.sent_to_acquirers();
        desk.send(issuer, &answer_to(&asked, "00"));
        let answers = desk.sent_to_acquirers();
        assert_eq!(answers.len(), given);
        assert!(
            answers
                .iter()
                .all(|(connection, answer, _)| { *connection == NEWCOMER && get(answer, 39) == "00" })
        );
    }
}

#[test]
fn a_tokens_track_is_dropped_or_made_anew_with_the_card() {
    for (track_two, rebuilt) in [(TrackTwo::Drop, false), (TrackTwo::Rebuild, true)] {
        let mut desk =
            with(|config| config.issuers.values_mut().for_each(|issuer| issuer.track_two = track_two));
        let mut request = desk.token_purchase(1);
        let track = format!("{}D{}20112345", get(&request, 2), get(&request, 14));
        set(&mut request, &[(35, &track)]);
        desk.send(FIRST, &request);
        let (issuer, asked) = desk.asked();
        assert_eq!(asked.has(DataElement::TRACK_2), rebuilt);
        if rebuilt {
            let track = asked.track2().unwrap().unwrap();
            assert_eq!(track.account.expose_digits(), desk.behind.pan.expose_digits());
            assert_eq!(track.expiry, Some(desk.behind.expiry));
            assert_eq!(track.service_code.unwrap().digits(), *b"201");
            assert!(!get(&asked, 35).contains("12345"), "discretionary data are the token's");
        }
        assert_eq!(
            get(&asked, 63).contains("VI"),
            rebuilt,
            "the issuer hears that no verification value holds"
        );
        desk.send(issuer, &answer_to(&asked, "00"));
        assert!(!desk.answer().has(DataElement::TRACK_2));
    }
}

#[test]
fn what_is_durable_too_late_is_not_forwarded() {
    let mut desk = Desk::open();
    desk.syncs = false;
    desk.send(FIRST, &desk.purchase(1));
    desk.pass(ISSUER_TIMEOUT);
    desk.syncs = true;
    desk.sync();
    assert_eq!(get(&desk.answer(), 39), "96");
    assert_eq!(desk.refused(Refusal::NotDurableInTime), 1);
    assert!(desk.sent_to_issuers().is_empty());
    assert!(desk.house.node.core().stored().is_empty(), "nothing to reverse");
}

#[test]
fn a_time_out_that_was_shortened_holds_for_what_comes_after() {
    const SHORT: Duration = Duration::from_secs(1);
    let mut desk = Desk::open();
    desk.send(FIRST, &desk.purchase(1));
    desk.reload(|config| config.issuers.values_mut().for_each(|issuer| issuer.timeout = SHORT));
    desk.send(FIRST, &desk.purchase(2));
    assert_eq!(desk.sent_to_issuers().len(), 2);
    desk.pass(SHORT);
    let answer = desk.answer();
    assert_eq!([11, 39].map(|element| get(&answer, element)), ["000002", "91"]);
    desk.pass(ISSUER_TIMEOUT - SHORT);
    let answer = desk.answer();
    assert_eq!([11, 39].map(|element| get(&answer, element)), ["000001", "91"]);
    assert_eq!(desk.refused(Refusal::IssuerTimedOut), 2);
}

#[test]
fn a_daemon_that_drains_refuses_what_is_new_and_ends_what_was_begun() {
    let mut desk = Desk::open();
    let request = desk.purchase(1);
    desk.send(FIRST, &request);
    let (issuer, asked) = desk.asked();
    desk.house.node.drain();
    desk.send(FIRST, &desk.purchase(2));
    assert_eq!(get(&desk.answer(), 39), "91");
    assert_eq!(desk.refused(Refusal::ShuttingDown), 1);
    assert!(desk.sent_to_issuers().is_empty());
    desk.send(issuer, &answer_to(&asked, "00"));
    let answer = desk.answer();
    assert_eq!(get(&answer, 39), "00");
    desk.send(FIRST, &repeat(&request));
    assert_eq!(get(&desk.answer(), 38), get(&answer, 38), "a repeat gets its answer");
    desk.send(FIRST, &reversal(&request, 3));
    assert_eq!(get(&desk.answer(), 39), "00", "a reversal is taken");
}

#[test]
fn a_grace_that_was_shortened_is_over_before_a_longer_one_that_began_earlier() {
    const SHORT: Duration = Duration::from_secs(1);
    let mut desk = Desk::open();
    desk.takes = false;
    for stan in [1, 2] {
        desk.send(FIRST, &desk.purchase(stan));
    }
    let asked = desk.sent_to_issuers();
    let [(first, earlier), (second, later)] = asked.as_slice() else { panic!("{asked:?}") };
    desk.send(*first, &answer_to(earlier, "00"));
    desk.cut(FIRST, None);
    desk.reload(|config| config.undelivered_grace = SHORT);
    // Nobody is there to take this one.
    desk.send(*second, &answer_to(later, "00"));
    desk.takes = true;
    for (grace, original) in [(SHORT, later), (GRACE - SHORT, earlier)] {
        desk.pass(grace);
        let (connection, reversal) = desk.asked();
        assert_eq!(&get(&reversal, 90)[4..10], get(original, 11), "after {grace:?}");
        desk.send(connection, &answer_to(&reversal, "00"));
    }
    assert_eq!(desk.house.node.core().undelivered(), 0);
}

/// An approval lies in the first connection's output; gives its request.
fn approved_and_not_taken(ends: bool) -> (Desk, Message) {
    let mut desk = Desk::open();
    desk.takes = false;
    let request = desk.purchase(1);
    desk.send(FIRST, &request);
    let (issuer, asked) = desk.asked();
    desk.send(issuer, &answer_to(&asked, "00"));
    assert_eq!(get(&desk.answer(), 39), "00");
    if ends {
        let now = desk.now();
        desk.house.node.drain();
        desk.house.node.end(now, &mut Outbox::default()).expect("the journal takes entries");
    }
    (desk, request)
}

/// What stood in answers to acquirers: where, and DE 39.
fn given(desk: &mut Desk) -> Vec<(ConnectionId, String)> {
    desk.sent_to_acquirers().iter().map(|(to, answer, _)| (*to, get(answer, 39))).collect()
}

#[test]
fn an_approval_that_a_repeat_collects_elsewhere_is_not_taken_back_since_its_first_connection_is_lost() {
    for (ends, waits) in [(false, false), (false, true), (true, false), (true, true)] {
        let case = format!("ends {ends}, waits for the disk {waits}");
        let (mut desk, request) = approved_and_not_taken(ends);
        if waits {
            // Its entry is what the repeat's answer waits for.
            desk.syncs = false;
            desk.push(SECOND, &reversal(&desk.purchase(8), 9));
        }
        // All is heard of in one step, and the repeat before that the connection is lost.
        desk.push(SECOND, &repeat(&request));
        desk.cut(FIRST, None);
        desk.syncs = true;
        desk.sync();
        let unknown = waits.then(|| (SECOND, "25".to_owned()));
        let expected: Vec<_> = unknown.into_iter().chain([(SECOND, "00".to_owned())]).collect();
        assert_eq!(given(&mut desk), expected, "{case}");
        desk.pass(GRACE);
        assert!(desk.house.node.core().stored().is_empty(), "{case}: it may still be given");
        assert_eq!(desk.house.node.owing(), [SECOND], "{case}");
        desk.cut(SECOND, None);
        desk.pass(GRACE);
        assert_eq!(desk.house.node.core().stored().len(), 1, "{case}: now nobody gets it");
    }
}

#[test]
fn an_approval_that_is_taken_elsewhere_stands_whatever_is_heard_first() {
    for (ends, lost_first) in [(false, false), (false, true), (true, false), (true, true)] {
        let (mut desk, request) = approved_and_not_taken(ends);
        desk.send(SECOND, &repeat(&request));
        assert_eq!(given(&mut desk), [(SECOND, "00".to_owned())]);
        if lost_first {
            desk.lose(FIRST, None);
            desk.drink(SECOND);
        } else {
            desk.drink(SECOND);
            desk.lose(FIRST, None);
        }
        desk.settle();
        desk.pass(GRACE);
        let core = desk.house.node.core();
        assert_eq!((core.stored().len(), core.undelivered()), (0, 0), "ends {ends}, lost first {lost_first}");
    }
}
