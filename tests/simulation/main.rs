//! The simulation: the real switch, vault and journal in virtual time, everything around them drawn from a seed.
//!
//! `SIM_SEED=n` replays one seed and prints what happened; `SIM_SEEDS=n` runs so many.

mod audit;
mod desk;
mod enquiries;
mod exceptions;
mod house;
mod limits;
mod line;
mod links;
mod originals;
mod scenarios;
mod setting;
mod stand_in;
mod taps;
mod windows;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use house::Crash;
use tokenswitch::stdx::clock::{Moment, SystemClock};
use world::{Plan, Summary, run};

/// How long seeds are drawn, unless `SIM_SEEDS` says how many.
const BUDGET: Duration = Duration::from_secs(20);
/// So many seeds run however slow the machine is.
const SEEDS_LEAST: u64 = 40;
/// Lines of the trace that a failure prints.
const TRACE_LINES: usize = 400;

fn plan(seed: u64) -> Plan {
    let mut random = fastrand::Rng::with_seed(!seed);
    Plan { seed, payments: random.u32(10..60), crashes: random.u32(0..4), crash_at: None }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// Runs a plan; a failure is run again in words and printed with its seed.
fn hold(plan: Plan) -> Summary {
    let first = catch_unwind(AssertUnwindSafe(|| run(plan, false)));
    if let Ok(Ok(summary)) = first {
        return summary;
    }
    let (what, trace) = match catch_unwind(AssertUnwindSafe(|| run(plan, true))) {
        Ok(Err(failure)) => (failure.what, failure.trace),
        Ok(Ok(_)) => ("P13: it fails, and not again".to_owned(), String::new()),
        Err(_) => ("the switch panics; see above".to_owned(), String::new()),
    };
    let lines: Vec<&str> = trace.lines().collect();
    let shown = &lines[lines.len().saturating_sub(TRACE_LINES)..];
    panic!("seed {}: {what}\n{}\nSIM_SEED={} replays it; {plan:?}", plan.seed, shown.join("\n"), plan.seed);
}

#[test]
fn every_seed_keeps_the_promises() {
    if let Some(seed) = number("SIM_SEED") {
        let summary = hold(plan(seed));
        println!("seed {seed}: {summary:?}");
        return;
    }
    let clock = SystemClock::start();
    let wanted = number("SIM_SEEDS");
    let (mut seeds, mut sum) = (0, Summary::default());
    let more = |seeds: u64| match wanted {
        Some(wanted) => seeds < wanted,
        None => seeds < SEEDS_LEAST || clock.now().moment.since(Moment(0)) < BUDGET,
    };
    while more(seeds) {
        let summary = hold(plan(seeds));
        seeds += 1;
        sum.requests += summary.requests;
        sum.reversals += summary.reversals;
        sum.approved += summary.approved;
        sum.answers += summary.answers;
        sum.crashes += summary.crashes;
        sum.entries += summary.entries;
    }
    println!("{seeds} seeds: {sum:?}");
    assert!(
        sum.approved > 0 && sum.reversals > 0 && sum.crashes > 0,
        "nothing happens in these runs: {sum:?}"
    );
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 1_000_003, 77] {
        let (one, other) = (hold(plan(seed)), hold(plan(seed)));
        assert_eq!(one, other, "seed {seed}");
    }
    assert_ne!(hold(plan(3)).hash, hold(plan(4)).hash);
}

#[test]
fn a_crash_at_every_entry_breaks_nothing() {
    for seed in [5, 6] {
        let calm = Plan { seed, payments: 12, crashes: 0, crash_at: None };
        let entries = hold(calm).entries as u64;
        assert!(entries > 20, "{entries}");
        for entry in 7..=entries {
            for how in [Crash::Unsynced, Crash::Torn(entry), Crash::Untold] {
                hold(Plan { crash_at: Some((entry, how)), ..calm });
            }
        }
    }
}
