//! Acquirer, switch and issuers, each a process of its own, as their commands start them: one that stands still is
//! stopped by the system, not by a stand-in for it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokenswitch::sim::{Record, Standing, reconcile};

use crate::daemon::{Daemon, PROGRAM, init};
use crate::players::change;

/// A card of the sample's first issuer.
const CARD: &str = "4761730000000029";
const SECONDS: &str = "8";
/// Longer than the issuer's time-out of one second, and repeats of reversals in it.
const STILL: Duration = Duration::from_millis(3_000);
/// Starts until nothing is left to deliver, and how long each may deliver.
const STARTS: usize = 10;
const DELIVERS: Duration = Duration::from_secs(4);

/// A simulated issuer; ended when let go.
struct IssuerProcess {
    child: Child,
    address: String,
    ledger: PathBuf,
}

impl IssuerProcess {
    fn start(kept: &Path, name: &str, more: &[&str]) -> Self {
        let ledger = kept.join(name);
        let mut child = Command::new(PROGRAM)
            .args(["issuer", "--listen", "127.0.0.1:0", "--ledger"])
            .arg(&ledger)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("issuer listens on ").expect(&line).to_owned();
        Self { child, address, ledger }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its ledger, once it has ended in order.
    fn end(mut self) -> Vec<Record> {
        self.signal(Signal::TERM);
        assert!(self.child.wait().unwrap().success());
        records(&self.ledger)
    }
}

impl Drop for IssuerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn records(file: &Path) -> Vec<Record> {
    let text = std::fs::read_to_string(file).unwrap();
    let record = |line: &str| Record::from_json(&serde_json::from_str::<Value>(line).unwrap()).unwrap();
    text.lines().map(record).collect()
}

#[test]
fn an_issuer_that_the_system_stops_and_lets_go_on_agrees_with_the_acquirer() {
    let kept = tempfile::tempdir().unwrap();
    let issuers = [
        IssuerProcess::start(kept.path(), "ledger-1", &[]),
        IssuerProcess::start(kept.path(), "ledger-2", &["--dialect", "iso87-bcd", "--header", "6000010002"]),
    ];
    let config = init(&kept.path().join("switch"), [&issuers[0].address, &issuers[1].address]);
    change(&config, "timeout = \"10s\"", "timeout = \"1s\"");
    let start = || {
        let mut command = Command::new(PROGRAM);
        command.env("TOKENSWITCH_LOG", "info");
        Daemon::start_by(command, &config)
    };
    let mut daemon = start();
    let book = kept.path().join("book");
    let mut acquirer = Command::new(PROGRAM)
        .args(["acquirer", "--connect", &daemon.addresses["acquirer-1"], "--pan", CARD, "--expiry", "4912"])
        .args(["--rate", "100", "--seconds", SECONDS, "--entry-mode", "011", "--book"])
        .arg(&book)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    sleep(Duration::from_secs(2));
    issuers[0].signal(Signal::STOP);
    sleep(STILL);
    issuers[0].signal(Signal::CONT);
    assert!(acquirer.wait().unwrap().success());
    for _ in 0..STARTS {
        sleep(DELIVERS);
        daemon.stop();
        daemon = start();
        if daemon.found.ends_with(" 0 messages to deliver") {
            break;
        }
    }
    assert!(daemon.found.ends_with(" 0 messages to deliver"), "{}", daemon.found);
    daemon.stop();
    let book = records(&book);
    let charged = |record: &&Record| matches!(record.standing, Standing::Money(_));
    let (approved, not) =
        (book.iter().filter(charged).count(), book.iter().filter(|it| !charged(it)).count());
    assert!(approved > 0 && not > 0, "{approved} approved, {not} not: it was there, and it stood still");
    let ledgers: Vec<Record> = issuers.into_iter().flat_map(IssuerProcess::end).collect();
    let differences: Vec<String> = reconcile(book, ledgers).iter().map(ToString::to_string).collect();
    assert_eq!(differences, Vec::<String>::new());
}
