//! A daemon that is told to end while an issuer says nothing: what is in flight at the drain's limit has its end, and its
//! reversal, in the journal before the process is gone.

use tokenswitch::journal::{Body, Entry, OutcomeEntry, TransactionEntry};
use tokenswitch::vocab::{Outcome, Refusal};

use crate::faults::PACE;
use crate::players::{change, in_one_thread, until};
use crate::restart::World;

/// Requests that wait for the silent issuer when the daemon is told to end.
const WAITING: usize = 20;

fn outcomes(entries: &[Entry]) -> impl Iterator<Item = &OutcomeEntry> {
    entries.iter().filter_map(|entry| match &entry.body {
        Body::Transaction(TransactionEntry::Outcome(outcome)) => Some(outcome.as_ref()),
        _ => None,
    })
}

async fn drained_with_a_silent_issuer(limit: &str, at_once: bool) {
    let kept = tempfile::tempdir().unwrap();
    let mut world = World::set_up(kept.path(), "redb").await;
    // Longer than the limit: nothing of it has timed out by then.
    change(&world.config, "timeout = \"1s\"", "timeout = \"10s\"");
    change(&world.config, "[node]", &format!("[node]\ndrain_limit = \"{limit}\""));
    world.first_life().await;
    let life = world.start().await;
    let before = world.payments();
    let asking = world.load_at(PACE, &life);
    world.goes_on().await;
    world.gates[0].shut();
    until("requests in flight", || world.acquirer().look(|brain| brain.outstanding() >= 3 * WAITING)).await;
    let (code, log) = world.end(life, asking, at_once).await;
    assert_eq!(code, Some(1), "{log}");
    let entries = world.entries();
    let closed = || outcomes(&entries).filter(|it| it.refusal == Some(Refusal::ShuttingDown));
    assert!(closed().count() >= WAITING, "{log}");
    assert!(closed().all(|it| it.outcome != Outcome::Unknown || it.reversal.is_some()));
    let said = format!("{} requests in flight were closed", closed().count());
    assert!(log.contains(&said), "{said}: {log}");
    world.gates[0].open();
    let life = world.start().await;
    assert!(life.daemon.found.contains(" 0 requests closed without an outcome"), "{}", life.daemon.found);
    world.agrees(before).await;
    world.settles(life).await;
}

#[test]
fn what_is_in_flight_at_the_drains_limit_is_closed_and_its_reversal_stored() {
    in_one_thread(drained_with_a_silent_issuer("1s", false));
}

#[test]
fn a_second_signal_waits_for_no_issuer() {
    in_one_thread(drained_with_a_silent_issuer("600s", true));
}
