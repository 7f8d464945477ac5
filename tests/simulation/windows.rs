//! Settlement windows: they move by the clock, are announced, and close when all of their requests have an outcome.

use std::time::Duration;

use crate::desk::{Desk, FIRST, answer_to, get};
use crate::house::Crash;
use crate::setting::{ACQUIRERS, ISSUERS};

/// From the beginning of a run to just before midnight.
const ALMOST: Duration = Duration::from_secs(19);

#[test]
fn the_next_window_is_announced_where_that_is_wanted() {
    let mut desk = Desk::open();
    desk.pass(ALMOST);
    desk.network.clear();
    desk.pass(Duration::from_secs(2));
    let told: Vec<_> = desk.network.iter().filter(|(_, message)| get(message, 70) == "201").collect();
    let links: Vec<_> = told.iter().filter_map(|(connection, _)| desk.link(*connection)).collect();
    assert_eq!(links, [ACQUIRERS[0], ISSUERS[0]], "once a link");
    assert!(
        told.iter().all(|(_, message)| get(message, 15) == "1123" && message.mti().to_string() == "0800")
    );
    desk.network.clear();
    desk.pass(Duration::from_secs(2));
    assert!(desk.network.iter().all(|(_, message)| get(message, 70) != "201"), "and once only");
}

#[test]
fn a_window_closes_when_its_last_request_has_an_outcome() {
    for restarts in [false, true] {
        let mut desk = Desk::open();
        desk.pass(ALMOST);
        desk.send(FIRST, &desk.purchase(1));
        let (connection, asked) = desk.asked();
        desk.pass(Duration::from_secs(2));
        assert_eq!(desk.house.node.core().windows_waiting(), 1);
        if restarts {
            // What has no outcome gets one at the start.
            desk = desk.restart(Crash::Unsynced);
            desk.pass(Duration::from_secs(1));
        } else {
            desk.send(connection, &answer_to(&asked, "00"));
        }
        assert_eq!(desk.house.node.core().windows_waiting(), 0);
        desk = desk.restart(Crash::Unsynced);
        desk.pass(Duration::from_secs(1));
        assert_eq!(desk.house.node.core().windows_waiting(), 0, "closed is closed");
    }
}
