//! The simulation: the real switch, vault and journal in virtual time, everything around them drawn from a seed.
//!
//! `SIM_SEED=n` replays one seed; `SIM_SEEDS=n` runs so many, `SIM_MINUTES=n` as many as that time holds. A failure
//! prints its seed and what happened before it.

mod audit;
mod declines;
mod desk;
mod doubtful_answers;
mod enquiries;
mod exceptions;
mod found;
mod given;
mod house;
mod journal_book;
mod limits;
mod line;
mod links;
mod merchants;
mod notices;
mod originals;
mod originals_in_flight;
mod overload;
mod parties;
mod redated;
#[cfg(feature = "sabotage")]
mod sabotage;
mod scenarios;
mod setting;
mod settlement;
mod shares;
mod silence;
mod slow_taps;
mod stand_in;
mod taps;
mod trouble;
mod vault;
mod windows;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use house::Crash;
use tokenswitch::stdx::clock::{Moment, SystemClock};
use trouble::{Trouble, Troubles};
use world::{Journaling, Plan, Start, Summary, run};

/// How long seeds are drawn, unless `SIM_MINUTES` or `SIM_SEEDS` says otherwise.
const BUDGET: Duration = Duration::from_secs(20);
/// So many seeds run however slow the machine is.
const SEEDS_LEAST: u64 = 40;
/// Lines of the trace that a failure prints.
const TRACE_LINES: usize = 400;

fn plan(seed: u64) -> Plan {
    let mut random = fastrand::Rng::with_seed(!seed);
    let (payments, crashes) = (random.u32(10..60), random.u32(0..4));
    let (troubles, pass) = (Troubles::draw(&mut random), random.u32(0..4) == 0);
    let issuer_checks = random.u32(0..4) == 0;
    let stand_in = random.u32(0..3) == 0;
    let forgets = random.u32(0..4) == 0;
    let journal = match random.u32(0..4) {
        0 => Journaling::Long,
        // A clock that jumps makes everything old at once.
        3 if !troubles.has(Trouble::ClockJump) => Journaling::Folded,
        _ => Journaling::Short,
    };
    Plan {
        seed,
        payments,
        crashes,
        crash_at: None,
        troubles,
        pass,
        issuer_checks,
        stand_in,
        forgets,
        journal,
    }
}

fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().map(|value| value.parse().ok().unwrap_or_else(|| panic!("{name}: a number")))
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

/// Seeds from 0 on while `more` says so, on all cores; how many they were, and what they came to together.
fn run_seeds(more: impl Fn(u64) -> bool + Sync) -> (u64, Summary) {
    let next = AtomicU64::new(0);
    let work = || {
        let (mut seeds, mut sum) = (0, Summary::default());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !more(seed) {
                return (seeds, sum);
            }
            sum.add(&hold(plan(seed)));
            seeds += 1;
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..available_parallelism().map_or(1, usize::from)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().fold((0, Summary::default()), |(seeds, mut sum), worker| {
            let (more, of_worker) = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            sum.add(&of_worker);
            (seeds + more, sum)
        })
    })
}

#[test]
fn every_seed_keeps_the_promises() {
    if let Some(seed) = number("SIM_SEED") {
        let summary = hold(plan(seed));
        println!("seed {seed}: {summary:?}");
        return;
    }
    let clock = SystemClock::start();
    let budget = number("SIM_MINUTES").map_or(BUDGET, |minutes: f64| Duration::from_secs_f64(60.0 * minutes));
    let wanted: Option<u64> = number("SIM_SEEDS");
    let (seeds, sum) = run_seeds(|seed| match wanted {
        Some(wanted) => seed < wanted,
        None => seed < SEEDS_LEAST || clock.now().moment.since(Moment(0)) < budget,
    });
    println!(
        "{seeds} seeds: {} requests, {} approved, {} of them in issuers' place, {} reversals, {} answers, {} entries",
        sum.requests, sum.approved, sum.stood_in, sum.reversals, sum.answers, sum.entries
    );
    for trouble in Trouble::ALL {
        println!("{:>12} {trouble:?}", sum.met.count(trouble));
        let least = if matches!(trouble, Trouble::DiskLies | Trouble::ClockJump) { 0 } else { 1 };
        assert!(sum.met.count(trouble) >= least, "{trouble:?} never comes");
    }
    for start in Start::ALL {
        println!("{:>12} starts: {start:?}", sum.starts.count(start));
        assert!(sum.starts.count(start) > 0 || seeds < 200, "no start is from: {start:?}");
    }
    assert!(
        sum.approved > 0 && sum.reversals > 0 && sum.stood_in > 0,
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
        let calm = Plan {
            seed,
            payments: 12,
            crashes: 0,
            crash_at: None,
            troubles: Troubles::NONE,
            pass: false,
            issuer_checks: seed == 6,
            stand_in: seed == 5,
            forgets: false,
            journal: Journaling::Short,
        };
        let entries = hold(calm).entries as u64;
        assert!(entries > 20, "{entries}");
        for entry in 7..=entries {
            for how in [Crash::Unsynced, Crash::Torn(entry), Crash::Untold] {
                hold(Plan { crash_at: Some((entry, how)), ..calm });
            }
        }
    }
}
