//! The real daemon under load folds its oldest segments into bases and removes them; killed, it starts from a base with
//! its checkpoint and without, and what reads the journal says what it still has.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use tokenswitch::sim::{Pace, Payment};
use tokenswitch::vocab::{Amount, Currency, Mti, PosEntryMode, ProcessingCode};

use crate::daemon::PROGRAM;
use crate::metrics::metrics;
use crate::players::{LOOK, change, in_one_thread, until};
use crate::restart::World;
use crate::saf::ISSUER;

/// Everything that has to be kept for a time is kept for as long: twenty times what a start takes.
const KEPT: &str = "10s";
/// Payments a second until segments are old enough to go.
pub(crate) const CALM: Pace = Pace::Open { per_second: 150 };
/// And when the daemon is killed.
const BUSY: Pace = Pace::Closed { outstanding: 8 };
const APPROVALS: usize = 100;
/// Of the load of some seconds.
const RECENT: usize = 400;

#[test]
fn old_segments_go_under_load_and_a_base_stands_for_them() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let mut world = World::set_up(kept.path(), "redb").await;
        keep_little(&world.config);
        world.first_life().await;
        for keeps_checkpoint in [true, false] {
            kill_after_segments_went(&world, keeps_checkpoint).await;
        }
        let rrn = world.acquirer().look(|brain| brain.book().payments()[0].rrn.to_string());
        the_tools_say_what_is_there(&world.config, &world.first_token(), &rrn);
    });
}

/// Messages that the issuer is owed at the least.
const OWED: f64 = 20.0;

#[test]
fn a_base_alone_knows_what_an_issuer_that_was_silent_all_the_time_is_owed() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let mut world = World::set_up(kept.path(), "redb").await;
        keep_little(&world.config);
        world.first_life().await;
        let life = world.start().await;
        let asking = world.load_at(CALM, &life);
        world.goes_on().await;
        world.gates[0].shut();
        world.tells_of_a_payment();
        let owed = || async { metrics(&life.daemon).await.value("switch_stored", &[ISSUER]) };
        while owed().await < OWED {
            tokio::time::sleep(LOOK).await;
        }
        let newest = segments(&world.directory).last().copied().unwrap();
        until("what is owed to be in no segment", || first_segment(&world.directory) > newest).await;
        let (payments, approvals) = (world.payments().saturating_sub(RECENT), world.approvals());
        let more = world.load_at(BUSY, &life);
        until("load", || world.approvals() >= approvals + APPROVALS).await;
        world.kill(life, more).await;
        asking.await.unwrap();
        std::fs::remove_dir_all(world.directory.join("data/checkpoint")).unwrap();
        world.gates[0].open();
        let life = world.start().await;
        assert!(life.daemon.log().contains("filled from a base"));
        let to_deliver = life.daemon.found.strip_suffix(" messages to deliver").unwrap();
        let to_deliver: f64 = to_deliver.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(to_deliver >= OWED, "{}", life.daemon.found);
        world.repeat_payments_since(payments).await;
        world.settle(life).await;
        let (advices, reversals) = world.issuers[0].look(|brain| {
            let counts = brain.counts();
            (counts.advices, counts.reversals)
        });
        assert!(advices > 0 && reversals > 0, "{advices} advices, {reversals} reversals");
    });
}

impl World {
    /// An advice to the first issuer.
    fn tells_of_a_payment(&self) {
        let payment = Payment {
            mti: Mti::parse(b"0220").unwrap(),
            card: 0,
            merchant: 0,
            processing: ProcessingCode::parse(b"000000").unwrap(),
            amount: Amount::new(4_711, Currency::from_letters("EUR").unwrap()),
            entry_mode: PosEntryMode::parse(b"071").unwrap(),
            original: None,
            remote: None,
        };
        self.acquirer().with(|brain, now, out| brain.pay(payment, now, out)).unwrap();
    }
}

/// Small segments, folded and removed within seconds.
pub(crate) fn keep_little(config: &Path) {
    let data = "data_directory = \"data\"";
    change(config, data, &format!("{data}\nrepeat_window = \"{KEPT}\""));
    let small =
        format!("segment_bytes = \"64 KiB\"\nfold_every = 2\nretention = \"{KEPT}\"\nhistory = \"{KEPT}\"");
    change(config, "checkpoint = \"redb\"", &format!("checkpoint = \"redb\"\n{small}"));
}

async fn kill_after_segments_went(world: &World, keeps_checkpoint: bool) {
    let life = world.start().await;
    let before = first_segment(&world.directory);
    let asking = world.load_at(CALM, &life);
    until("segments to go", || first_segment(&world.directory) > before + 2).await;
    let (payments, approvals) = (world.payments(), world.approvals());
    let more = world.load_at(BUSY, &life);
    until("load", || world.approvals() >= approvals + APPROVALS).await;
    world.kill(life, more).await;
    asking.await.unwrap();
    if !keeps_checkpoint {
        std::fs::remove_dir_all(world.directory.join("data/checkpoint")).unwrap();
    }
    let life = world.start().await;
    assert_eq!(life.daemon.log().contains("filled from a base"), !keeps_checkpoint);
    world.repeat_payments_since(payments).await;
    world.ask_for_every_token_again(&life).await;
    world.settle(life).await;
}

/// The number of the oldest segment that is there.
fn first_segment(directory: &Path) -> u64 {
    segments(directory).first().copied().unwrap_or_default()
}

/// The numbers of all segments.
fn segments(directory: &Path) -> BTreeSet<u64> {
    let Ok(names) = std::fs::read_dir(directory.join("data/journal")) else { return BTreeSet::new() };
    let number = |name: String| name.strip_prefix("segment-").and_then(|digits| digits.parse().ok());
    names.filter_map(|entry| number(entry.ok()?.file_name().into_string().ok()?)).collect()
}

fn told(config: &Path, command: &[&str], more: &[&str]) -> (bool, String) {
    let output = Command::new(PROGRAM).args(command).arg("--config").arg(config).args(more).output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

fn the_tools_say_what_is_there(config: &Path, token: &str, rrn: &str) {
    let (whole, said) = told(config, &["journal", "verify"], &[]);
    assert!(whole && said.contains("is whole"), "{said}");
    let first = said.split_once("The journal begins with entry ").expect(&said).1;
    let first: u64 = first.split_once('.').unwrap().0.parse().unwrap();
    assert!(first > 1, "{said}");

    let (done, listed) = told(config, &["journal", "list"], &["--count", "1"]);
    let folded = format!("Entries before {first} are folded into base ");
    let mut lines = listed.lines();
    assert!(done && lines.next().unwrap().starts_with(&folded), "{listed}");
    assert_eq!(lines.next().unwrap().split_whitespace().next(), Some(first.to_string().as_str()), "{listed}");

    let (found, said) = told(config, &["journal", "explain", rrn], &[]);
    assert!(!found && said.contains(&format!("entries before {first} are folded into base ")), "{said}");

    let (done, said) = told(config, &["audit", "list"], &["--token", token]);
    assert!(done, "{said}");
    let line = said.lines().next().unwrap();
    for part in ["what=folded", &format!("token={token}"), "after=active/1", "chain="] {
        assert!(line.contains(part), "{part}: {said}");
    }
    let (whole, said) = told(config, &["audit", "verify"], &[]);
    assert!(
        whole && said.contains(&format!("from entry {first} on")) && said.contains("tokens as of"),
        "{said}"
    );
    a_base_that_was_altered_is_named(config);
}

fn a_base_that_was_altered_is_named(config: &Path) {
    let journal = config.with_file_name("data").join("journal");
    let names = std::fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path());
    let base = names
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("base-")))
        .max()
        .unwrap();
    let bytes = std::fs::read(&base).unwrap();
    let mut altered = bytes.clone();
    let last = altered.len() - 40;
    altered[last] ^= 1;
    std::fs::write(&base, altered).unwrap();
    for command in [["audit", "verify"], ["journal", "verify"]] {
        let (whole, said) = told(config, &command, &[]);
        let name = base.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!whole && said.contains(&name), "{command:?}: {said}");
    }
    std::fs::write(&base, bytes).unwrap();
    assert!(told(config, &["audit", "verify"], &[]).0);
}
