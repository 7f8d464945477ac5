//! The real daemon ended at every named step, under load: nothing acknowledged is lost, and the books agree.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokenswitch::cli::HttpAnswer;
use tokenswitch::sim::{EnquiryAnswer, Pace};

use crate::audit::audit;
use crate::daemon::{Daemon, PROGRAM};
use crate::folding::{CALM, keep_little};
use crate::metrics;
use crate::notifications::World as Parties;
use crate::players::{LOOK, PATIENCE, change, in_one_thread};
use crate::provisioning::PAN;
use crate::restart::{OUTSTANDING, World};

/// What a client calls for until a token is proven: the token, a code, a wrong proof, the proof.
const CALLS: u32 = 4;
/// Of each of these calls.
const STEPS_OF_A_CALL: [&str; 5] = ["asked", "submitted", "vault", "applied", "told"];
/// Of the token's alone, while its issuer is asked; then of the code's.
const STEPS_OF_ONE: [&str; 7] = [
    "issuer-wanted",
    "enquiring",
    "issuer-answered",
    "enquired",
    "issuer-heard",
    "code-leaving",
    "code-left",
];

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

/// Payments that are repeated where only those of the last seconds are known.
const LATEST: usize = 200;
const BUSY: Pace = Pace::Closed { outstanding: OUTSTANDING };
/// Of a start, in their order.
const STARTS: [&str; 4] = ["journal-opened", "recalled", "vault-started", "switch-started"];

/// A command that ends at that step, passed so often before.
fn dying(step: &str, passes: u32) -> Command {
    let mut command = Command::new(PROGRAM);
    command.env("TOKENSWITCH_CRASH_AT", format!("{step}:{passes}")).env("TOKENSWITCH_LOG", "off");
    command
}

/// Lives under load until the daemon dies at the step.
async fn dies_at(world: &World, step: &str, passes: u32, pace: Pace) {
    let mut life = world.start_by(dying(step, passes)).await;
    let asking = world.load_at(pace, &life);
    for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
        if life.daemon.has_ended() {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    assert!(life.daemon.has_ended(), "{step} is never reached");
    world.kill(life, asking).await;
}

#[test]
fn nothing_is_lost_when_the_daemon_dies_at_any_named_step() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let mut world = World::set_up(kept.path(), "redb").await;
        let small = "checkpoint = \"redb\"\nsegment_bytes = \"64 KiB\"\nfold_every = 1";
        change(&world.config, "checkpoint = \"redb\"", small);
        world.first_life().await;
        for (step, passes) in STEPS {
            let before = world.payments();
            dies_at(&world, step, passes, BUSY).await;
            if step == "base-named" {
                std::fs::remove_dir_all(world.directory.join("data/checkpoint")).unwrap();
            }
            let life = world.start().await;
            world.ask_for_every_token_again(&life).await;
            world.agrees(before).await;
            println!("died at {step} after {} payments, and lost nothing", world.payments() - before);
            // What is left over would take the next one past its step before it is ready.
            for issuer in ["issuer-1", "issuer-2"] {
                metrics::until(&life.daemon, "switch_stored", &[("link", issuer)], 0.0).await;
            }
            world.stop(life).await;
        }
        let life = world.start().await;
        world.settles(life).await;
    });
}

/// A token that waits for its cardholder's proof, from the request for it to the proof, over a death of the daemon. The
/// client asks again by the same request id whatever it has no answer to.
struct Proving<'a> {
    parties: &'a Parties,
    daemon: Daemon,
    /// Part of every request id.
    name: String,
    died: bool,
}

impl Proving<'_> {
    async fn call(&mut self, path: &str, id: &str, body: Value) -> HttpAnswer {
        loop {
            let id = format!("{id}-{}", self.name);
            if let Some(answer) = self.parties.try_call(&self.daemon, path, &id, body.clone()).await {
                return answer;
            }
            self.next_life().await;
        }
    }

    /// The step at which it dies is passed once, and what it left behind is whole.
    async fn next_life(&mut self) {
        assert!(!self.died, "{} dies twice:\n{}", self.name, self.daemon.log());
        for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
            if self.daemon.has_ended() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        assert!(self.daemon.has_ended(), "{} is never reached", self.name);
        self.died = true;
        let (whole, said) = audit(&self.parties.config, &["verify"]);
        assert!(whole, "{}: {said}", self.name);
        self.daemon = ready(&self.parties.config, Command::new(PROGRAM)).await;
    }

    /// A code that reached its issuer: the first one wanted, unless that died with the daemon.
    async fn code(&mut self, place: &str, reference: &str) -> String {
        for id in ["c", "c-again"] {
            let before = self.died;
            if before {
                // One code at a time is brought to an issuer: none passes one that is refused.
                self.parties.bank.answer_with(200, Duration::ZERO);
                // A code is known by its time: two of one millisecond could not be told apart.
                tokio::time::sleep(LOOK).await;
            }
            let answer = self.call(&format!("{place}/codes"), id, json!({ "contact": 1 })).await;
            assert_eq!(answer.status, 200, "{}: {:?}", self.name, answer.body);
            let good_until = &answer.body["stepUp"]["codeUntil"];
            // Which of two deaths it was cannot be seen from here: with the code, or before there was one.
            while self.died == before {
                let calls = self.parties.bank.received();
                let mut codes = calls.iter().filter(|call| call.body["tokenReference"] == reference);
                if let Some(call) = codes.find(|call| call.body["goodUntil"] == *good_until) {
                    return call.body["code"].as_str().unwrap().to_owned();
                }
                if self.daemon.has_ended() {
                    self.next_life().await;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        panic!("{}: no code came, and the daemon died once only", self.name);
    }

    /// All of it; the token's reference.
    async fn story(&mut self) -> String {
        let card = json!({ "pan": PAN, "panExpiry": "4912" });
        let token = self.call("/v1/tokens", "p", card.clone()).await;
        assert_eq!((token.status, &token.body["status"]), (201, &json!("inactive")), "{:?}", token.body);
        let reference = token.body["tokenReference"].as_str().unwrap().to_owned();
        let place = format!("/v1/tokens/{reference}");
        let code = self.code(&place, &reference).await;
        let wrong = if code.starts_with('0') { "100000" } else { "000000" };
        let proof = format!("{place}/proof");
        let refused = self.call(&proof, "t", json!({ "code": wrong })).await;
        let told = (refused.status, refused.body["code"].as_str());
        assert_eq!(told, (422, Some("code-wrong")), "{}", self.name);
        let proven = self.call(&proof, "u", json!({ "code": code })).await;
        assert_eq!((proven.status, &proven.body["status"]), (200, &json!("active")), "{}", self.name);
        if !self.died {
            // At the last step of all the answer may have left.
            self.next_life().await;
        }
        // Whatever is asked again is not done again.
        let again = self.call("/v1/tokens", "p", card).await;
        assert_eq!((again.status, &again.body["token"]), (201, &token.body["token"]), "{}", self.name);
        assert_eq!(again.body["tokenReference"], token.body["tokenReference"]);
        let again = self.call(&proof, "t", json!({ "code": wrong })).await;
        assert_eq!((again.status, again.body["code"].as_str()), (422, Some("code-wrong")), "{}", self.name);
        let again = self.call(&proof, "u", json!({ "code": code })).await;
        assert_eq!((again.status, &again.body), (200, &proven.body), "{}", self.name);
        reference
    }
}

/// A daemon whose issuers can be asked, on both connections that `init` gives each.
async fn ready(config: &std::path::Path, mut command: Command) -> Daemon {
    command.env("TOKENSWITCH_LOG", "info");
    let config = config.to_owned();
    let daemon = tokio::task::spawn_blocking(move || Daemon::start_by(command, &config)).await.unwrap();
    for issuer in ["issuer-1", "issuer-2"] {
        metrics::until(&daemon, "switch_signed_on", &[("link", issuer)], 2.0).await;
    }
    daemon
}

#[test]
fn a_cardholder_proves_itself_once_though_the_daemon_dies_at_any_named_step() {
    in_one_thread(async {
        let parties = Parties::set_up(EnquiryAnswer::StepUp).await;
        parties.wallet.answer_with(500, Duration::ZERO);
        // All tokens are for one card.
        let text = std::fs::read_to_string(&parties.config).unwrap();
        let many = "[tsp.step_up]\ncard_codes = 200\ncard_tries = 200\n";
        std::fs::write(&parties.config, text + many).unwrap();
        ready(&parties.config, Command::new(PROGRAM)).await.stop();
        let of_calls = (0..CALLS).flat_map(|call| STEPS_OF_A_CALL.map(|step| (step, call)));
        for (step, passes) in of_calls.chain(STEPS_OF_ONE.map(|step| (step, 0))) {
            // As long as no receiver takes anything, nothing but the client's calls passes the steps.
            parties.bank.answer_with(500, Duration::ZERO);
            let name = format!("{step}:{passes}");
            let daemon = ready(&parties.config, dying(step, passes)).await;
            let mut proving = Proving { parties: &parties, daemon, name, died: false };
            let reference = proving.story().await;
            let (_, lines) = audit(&parties.config, &["list", "--token", &reference]);
            let times =
                |what: &str| lines.lines().filter(|line| line.contains(&format!(" what={what} "))).count();
            let done = ["issue-for-proof", "send-code", "wrong-code", "prove"].map(times);
            assert!(matches!(done, [1, 1 | 2, 1, 1]), "{}: {done:?}\n{lines}", proving.name);
            println!("died at {}, and the cardholder was proven once", proving.name);
        }
        let (_, lines) = audit(&parties.config, &["list"]);
        let issued = lines.lines().filter(|line| line.contains(" what=issue-for-proof ")).count();
        assert_eq!(issued, CALLS as usize * STEPS_OF_A_CALL.len() + STEPS_OF_ONE.len(), "{lines}");
    });
}

#[test]
fn nothing_is_lost_when_the_daemon_dies_while_it_starts() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let mut world = World::set_up(kept.path(), "redb").await;
        world.first_life().await;
        for (step, keeps_checkpoint) in STARTS.into_iter().flat_map(|step| [(step, true), (step, false)]) {
            let before = world.payments();
            dies_at(&world, "journaled", 60, BUSY).await;
            if !keeps_checkpoint {
                std::fs::remove_dir_all(world.directory.join("data/checkpoint")).unwrap();
            }
            let started = dying(step, 0).arg("serve").arg("--config").arg(&world.config).output().unwrap();
            assert!(!started.status.success(), "{step} is never reached");
            let life = world.start().await;
            world.ask_for_every_token_again(&life).await;
            world.agrees(before).await;
            world.stop(life).await;
        }
        let life = world.start().await;
        world.settles(life).await;
    });
}

#[test]
fn nothing_is_lost_when_the_daemon_dies_between_two_segments_that_go() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let mut world = World::set_up(kept.path(), "redb").await;
        keep_little(&world.config);
        world.first_life().await;
        for (passes, keeps_checkpoint) in [(0, true), (1, false), (0, false)] {
            dies_at(&world, "segment-removed", passes, CALM).await;
            // Older ones may be past the window in which repeats are known.
            let latest = world.payments().saturating_sub(LATEST);
            if !keeps_checkpoint {
                std::fs::remove_dir_all(world.directory.join("data/checkpoint")).unwrap();
            }
            let life = world.start().await;
            world.repeat_payments_since(latest).await;
            world.ask_for_every_token_again(&life).await;
            world.settle(life).await;
        }
    });
}

#[test]
fn a_rotation_of_keys_that_is_cut_short_leaves_the_old_store_and_is_done_again() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let mut world = World::set_up(kept.path(), "redb").await;
        world.first_life().await;
        let keys = |mut command: Command, what: &[&str]| {
            let output = command.arg("keys").args(what).arg("--config").arg(&world.config).output().unwrap();
            (output.status.success(), String::from_utf8(output.stdout).unwrap())
        };
        let before = keys(Command::new(PROGRAM), &["list"]);
        assert!(!keys(dying("key-store-written", 0), &["rotate"]).0, "it is cut short");
        assert_eq!(keys(Command::new(PROGRAM), &["list"]), before);
        assert!(keys(Command::new(PROGRAM), &["rotate"]).0, "again, and whole");
        assert_ne!(keys(Command::new(PROGRAM), &["list"]), before);
        let life = world.start().await;
        world.ask_for_every_token_again(&life).await;
        world.settle(life).await;
    });
}
