//! The real daemon ended at every named step, under load: nothing acknowledged is lost, and the books agree.

use std::process::Command;

use crate::daemon::PROGRAM;
use crate::players::{LOOK, PATIENCE, change, in_one_thread};
use crate::restart::World;

/// Each with how often it is passed before: the daemon must come to be ready first.
const STEPS: [(&str, u32); 24] = [
    // A tap, in the order of its life.
    ("received", 60),
    ("looked-up", 60),
    ("verified", 60),
    ("counter-taken", 40),
    ("journaled", 60),
    ("durable", 60),
    ("forwarding", 40),
    ("issuer-answered", 60),
    ("answering", 40),
    ("returned", 40),
    // A reversal.
    ("stored", 6),
    ("delivering", 6),
    ("acknowledged", 6),
    // A provisioning.
    ("asked", 5),
    ("submitted", 5),
    ("vault", 5),
    ("applied", 5),
    ("told", 5),
    // The journal and its checkpoint.
    ("segment-prepared", 1),
    ("segment-begun", 1),
    ("checkpoint", 1),
    ("checkpoint-written", 1),
    ("base-written", 0),
    ("base-named", 0),
];

#[test]
fn nothing_is_lost_when_the_daemon_dies_at_any_named_step() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let mut world = World::set_up(kept.path(), "redb").await;
        let small = "checkpoint = \"redb\"\nsegment_bytes = \"64 KiB\"\nfold_every = 1";
        change(&world.config, "checkpoint = \"redb\"", small);
        world.first_life().await;
        for (step, passes) in STEPS {
            let mut command = Command::new(PROGRAM);
            command.env("TOKENSWITCH_CRASH_AT", format!("{step}:{passes}"));
            let mut life = world.start_by(command).await;
            let before = world.payments();
            let asking = world.load(&life);
            for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
                if life.daemon.has_ended() {
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
            assert!(life.daemon.has_ended(), "{step} is never reached");
            world.kill(life, asking).await;
            if step == "base-named" {
                std::fs::remove_dir_all(world.directory.join("data/checkpoint")).unwrap();
            }
            let life = world.start().await;
            world.ask_for_every_token_again(&life).await;
            world.agrees(before).await;
            println!("died at {step} after {} payments, and lost nothing", world.payments() - before);
            world.stop(life).await;
        }
        let life = world.start().await;
        world.settles(life).await;
    });
}
