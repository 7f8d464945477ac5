//! Whether the simulation can see: faults are put into the program on purpose, one at a time, and each must be found.
//! `SIM_FAULT=name` tries one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use tokenswitch::stdx::sabotage::sabotage;

use crate::plan;
use crate::world::run;

/// Each as the program names it.
const FAULTS: [&str; 55] = [
    "durable-too-early",
    "silence-not-reversed",
    "lost-link-not-reversed",
    "sent-twice",
    "repeats-not-known",
    "left-open-at-restart",
    "owed-and-forgotten-at-restart",
    "owed-left-out-of-the-checkpoint",
    "answers-read-from-too-late",
    "amounts-not-compared",
    "reversal-overtakes",
    "unknown-means-undone",
    "buried-and-forgotten",
    "undone-and-given",
    "window-opens-again",
    "sync-left-out",
    "pan-in-answer",
    "token-before-durable",
    "token-made-twice",
    "anybody-resumes",
    "unlinked-comes-back",
    "status-not-looked-at",
    "suspended-and-sent",
    "old-card-kept",
    "lost-card-forgotten",
    "silence-is-yes",
    "wrong-codes-free",
    "lost-card-proven",
    "controls-dropped",
    "velocity-forgotten-at-restart",
    "in-app-pays-twice",
    "card-order-not-kept",
    "taken-back-in-no-window",
    "stood-in-untold",
    "stood-in-without-count",
    "stood-in-and-asked",
    "window-counts-it-twice",
    "part-means-whole",
    "limited-keys-outlive-suspension",
    "consent-used-twice",
    "used-consent-comes-back",
    "disclosures-forgotten-at-restart",
    "disclosures-ahead-not-counted",
    "closed-requestor-gets-tokens",
    "notices-left-out-of-the-checkpoint",
    "notices-out-of-order",
    "any-issuer-moves",
    "checkpoint-is-no-witness",
    "base-claims-more",
    "base-not-synced",
    "base-not-looked-at",
    "young-segments-go",
    "drain-leaves-open",
    "ends-with-answers-not-given",
    "unknown-left-standing",
];
/// By then the slowest has been found many times over.
const SEEDS_MOST: u64 = 6_000;

/// The first seed that finds the fault, and what it says.
fn found(fault: &'static str) -> Option<(u64, String)> {
    sabotage(Some(fault));
    let broken = |seed| match catch_unwind(AssertUnwindSafe(|| run(plan(seed), false))) {
        Ok(Ok(_)) => None,
        Ok(Err(failure)) => Some((seed, failure.what)),
        Err(_) => Some((seed, "the switch panics".to_owned())),
    };
    let first = (0..SEEDS_MOST).find_map(broken);
    sabotage(None);
    first
}

#[test]
fn the_simulation_finds_every_fault_that_is_put_in() {
    let only = std::env::var("SIM_FAULT").ok();
    let wanted = |fault: &&'static str| only.as_deref().is_none_or(|only| only == *fault);
    let faults: Vec<&'static str> = FAULTS.iter().copied().filter(wanted).collect();
    assert!(!faults.is_empty(), "SIM_FAULT names no fault");
    let (next, missed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
            match found(fault) {
                Some((seed, what)) => {
                    let what = what.lines().next().unwrap_or_default();
                    println!("{fault}: found after {} seeds: {what}", seed + 1);
                }
                None => missed.lock().expect("no panic").push(fault),
            }
        }
    };
    std::thread::scope(|scope| {
        (0..available_parallelism().map_or(1, usize::from)).for_each(|_| drop(scope.spawn(work)));
    });
    let missed = missed.into_inner().expect("no panic");
    assert!(missed.is_empty(), "not found in {SEEDS_MOST} seeds each: {missed:?}");
}
