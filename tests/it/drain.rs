//! A daemon that is told to end while an issuer says nothing, or an acquirer takes no answer: what is in flight at the
//! drain's limit, or approved and not given, has its end, and its reversal, in the journal before the process is gone.

use std::net::SocketAddr;

use tokenswitch::journal::{Body, Entry, OutcomeEntry, StoredKind, TransactionEntry};
use tokenswitch::vocab::{Outcome, Refusal, ReversalReason};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::bad_input::{framed, message, mti_and_code, read_frame};
use crate::faults::PACE;
use crate::metrics::Metrics;
use crate::players::{LOOK, PATIENCE, change, in_one_thread, until};
use crate::restart::World;

/// Requests that wait for the silent issuer when the daemon is told to end.
const WAITING: usize = 20;

/// Purchases in one write of an acquirer that reads no answer, how many writes there are at most, and how many
/// purchases are approved behind them.
const BATCH: usize = 2_000;
const BATCHES: usize = 100;
const APPROVED: u32 = 50;
/// Bytes of answers that wait before these; its room is four times that.
const WAITS: f64 = 2_097_152.0;

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

/// Off the thread on which the issuers answer.
async fn metric(admin: &str, name: &'static str, link: &'static [(&str, &str)]) -> f64 {
    let admin = admin.to_owned();
    tokio::task::spawn_blocking(move || Metrics::of(&admin).value(name, link)).await.unwrap()
}

async fn until_metric(
    admin: &str,
    name: &'static str,
    link: &'static [(&str, &str)],
    done: impl Fn(f64) -> bool,
) {
    for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
        if done(metric(admin, name, link).await) {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("{name} does not come there");
}

/// An acquirer that has signed on, asks, and takes no answer any more, so that answers wait for it in the daemon.
async fn asks_and_takes_nothing(address: SocketAddr, admin: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(&framed(&message("0800", &[(70, "001")]))).await.unwrap();
    assert_eq!(mti_and_code(&read_frame(&mut stream).await), ("0810".into(), "00".into()));
    // No issuer has it: it is refused at once, each time.
    let refused = framed(&message("0200", &[])).repeat(BATCH);
    let mut asked = metric(admin, "switch_received_total", &[]).await;
    for _ in 0..BATCHES {
        stream.write_all(&refused).await.unwrap();
        asked += BATCH as f64;
        until_metric(admin, "switch_received_total", &[], |now| now >= asked).await;
        // More than the system may still find room for.
        if metric(admin, "link_output_waiting_bytes", &[("link", "acquirer-1")]).await > WAITS {
            return stream;
        }
    }
    panic!("all its answers went somewhere");
}

#[test]
fn an_approval_that_its_acquirer_does_not_take_is_reversed_before_the_end() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let mut world = World::set_up(kept.path(), "redb").await;
        change(&world.config, "[node]", "[node]\ndrain_limit = \"1s\"");
        change(
            &world.config,
            "name = \"acquirer-1\"",
            "name = \"acquirer-1\"\noutput_bytes = \"8 MiB\"\noutput_stall = \"60s\"",
        );
        world.first_life().await;
        let life = world.start().await;
        let address = life.daemon.addresses["acquirer-1"].parse().unwrap();
        let admin = life.daemon.addresses["admin"].clone();
        let pan = world.plain_card();
        let stans = (0..APPROVED).map(|number| format!("{:06}", 900_000 + number));
        let purchases = stans.flat_map(|stan| framed(&message("0200", &[(2, &pan), (11, &stan)])));
        let purchases: Vec<u8> = purchases.collect();
        let mut stream = asks_and_takes_nothing(address, &admin).await;
        let before = metric(&admin, "switch_approved_total", &[]).await;
        stream.write_all(&purchases).await.unwrap();
        until_metric(&admin, "switch_approved_total", &[], |now| now >= before + f64::from(APPROVED)).await;
        let (code, log) = world.end(life, tokio::task::spawn_local(async {}), false).await;
        assert_eq!(code, Some(0), "{log}");
        let undelivered = |entry: &&Entry| match &entry.body {
            Body::Transaction(TransactionEntry::Stored(stored)) => {
                stored.kind == StoredKind::OwnReversal(ReversalReason::Undelivered)
            }
            _ => false,
        };
        let taken_back = world.entries().iter().filter(undelivered).count();
        assert_eq!(taken_back, APPROVED as usize, "{log}");
        let life = world.start().await;
        let admin = life.daemon.addresses["admin"].clone();
        until_metric(&admin, "switch_stored", &[("link", "issuer-1")], |owed| owed == 0.0).await;
        tokio::task::spawn_blocking(move || life.daemon.stop()).await.unwrap();
    });
}
