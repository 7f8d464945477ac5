//! `tokenswitch wallet` as its user meets it: the real program beside the real daemon, from the first token to the lost
//! phone.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tokenswitch::sim::EnquiryAnswer;

use crate::daemon::{Daemon, PROGRAM, init_as};
use crate::notifications::{World, until};
use crate::players::{change, in_one_thread};

/// A phone in `directory`, before the daemon of this configuration.
fn wallet(config: &Path, daemon: &Daemon, act: &str, more: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["wallet", act, "--config"]).arg(config);
    command.arg("--phone").arg(config.with_file_name("phone"));
    command.args(["--api", &daemon.addresses["api"]]).args(more);
    if matches!(act, "tap" | "pay") {
        command.args(["--acquirer", &daemon.addresses["acquirer-1"]]);
    }
    command
}

/// Runs it while the others play on.
async fn played(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn said(output: &Output) -> (bool, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn a_phone_is_proven_taps_pays_in_an_app_and_is_lost() {
    in_one_thread(async {
        let world = World::set_up(EnquiryAnswer::StepUp).await;
        let daemon = Daemon::start(&world.config);
        let run = |act, more: &[&str]| played(wallet(&world.config, &daemon, act, more));
        let without = said(&run("tap", &[]).await);
        assert!(!without.0 && without.1.contains("phone.json"), "{without:?}");

        let card = ["--pan", "4761739001010119", "--expiry", "4912"];
        let mut adding = wallet(&world.config, &daemon, "add", &card);
        let mut child =
            adding.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut typing = child.stdin.take().unwrap();
        let sent = || {
            let received = world.bank.received();
            received.iter().find_map(|call| call.body["code"].as_str().map(str::to_owned))
        };
        let code = until("the code", sent).await;
        let guess = if code.starts_with('0') { "100000" } else { "000000" };
        writeln!(typing, "{guess}\n{code}").unwrap();
        drop(typing);
        let added = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
        let (done, text) = said(&added);
        assert!(done && text.contains("refused with 422") && text.contains("is active"), "{text}");
        assert!(!text.contains("4761739001010119"), "{text}");

        for (act, more, expected) in [
            ("tap", &[][..], "approved: EUR 42.50"),
            ("tap", &["--amount", "100"], "approved: EUR 1.00"),
            ("pay", &["--amount", "1999"], "approved: EUR 19.99"),
            ("pay", &["--amount", "1999"], "approved: EUR 19.99"),
            ("lose", &[], "is suspended"),
        ] {
            let (done, text) = said(&run(act, more).await);
            assert!(done && text.contains(expected), "{act}: {text}");
        }
        for (act, expected) in
            [("tap", "declined with 62 (token-suspended)"), ("pay", "refused with 409"), ("add", "--pan")]
        {
            let (done, text) = said(&run(act, &[]).await);
            assert!(!done && text.contains(expected), "{act}: {text}");
        }
        daemon.stop();
    });
}

#[test]
fn a_cloud_phone_pays_with_keys_for_a_few_taps_and_after_it_was_lost_with_a_new_one_only() {
    in_one_thread(async {
        let world = World::set_up(EnquiryAnswer::Approve).await;
        change(&world.config, "capacity = 1000000", "capacity = 1000000\nlimited_key_payments = 2");
        let daemon = Daemon::start(&world.config);
        let run = |act, more: &[&str]| played(wallet(&world.config, &daemon, act, more));
        let card = ["--pan", "4761739001010119", "--expiry", "4912", "--cloud"];
        let added = loop {
            let (done, text) = said(&run("add", &card).await);
            // Its issuer is asked, and may not be there yet.
            if done || !text.contains("503") {
                break text;
            }
        };
        assert!(added.contains("is active") && added.contains("for taps 1 to 2"), "{added}");
        for (act, good, expected, key) in [
            ("tap", true, "approved", None),
            ("tap", true, "approved", None),
            ("tap", true, "approved", Some("3 to 4")),
            ("pay", true, "approved", None),
            ("lose", true, "is suspended", None),
            ("find", true, "is active", None),
            ("tap", false, "declined with 05", None),
            ("tap", true, "approved", Some("5 to 6")),
            ("lose", true, "is suspended", None),
            ("tap", false, "declined with 62", None),
            ("tap", false, "refused with 409", None),
        ] {
            let (done, text) = said(&run(act, &[]).await);
            assert!(done == good && text.contains(expected), "{act}: {text}");
            let got = text.contains("got a key");
            assert_eq!(got, key.is_some(), "{act}: {text}");
            assert!(key.is_none_or(|taps| text.contains(taps)), "{act}: {text}");
        }
        let kept = std::fs::read_to_string(world.config.with_file_name("phone").join("phone.json")).unwrap();
        assert!(kept.contains("\"wrapped\": null"), "{kept}");
        daemon.stop();
    });
}

#[test]
fn a_merchant_collects_by_the_payment_that_its_customer_made_also_in_another_life() {
    in_one_thread(async {
        let world = World::set_up(EnquiryAnswer::Approve).await;
        let stated = "entry_modes = [\"07\", \"10\", \"81\"]\ninitiators = [\"customer\", \"merchant\"]\n\
                      original = \"required\"\ncryptogram = \"always\"";
        change(&world.config, "entry_modes = [\"07\", \"10\", \"81\"]", stated);
        let mut daemon = Daemon::start(&world.config);
        let card = ["--pan", "4761739001010119", "--expiry", "4912"];
        while !said(&played(wallet(&world.config, &daemon, "add", &card)).await).0 {}
        let (done, text) = said(&played(wallet(&world.config, &daemon, "pay", &[])).await);
        assert!(done, "{text}");
        let rrn = text.rsplit("RRN ").next().unwrap().trim();
        for (more, good, expected) in [
            (&["--merchant-initiated", "--original", rrn][..], true, "approved"),
            (&["--merchant-initiated", "--original", rrn, "--cryptogram"], true, "approved"),
            (&["--merchant-initiated"], false, "declined with 57"),
            (&["--merchant-initiated", "--original", "999999999999"], false, "declined with 57"),
        ] {
            for kills in [false, true] {
                if kills {
                    daemon.kill();
                    daemon = Daemon::start(&world.config);
                }
                let (done, text) = loop {
                    let (done, text) = said(&played(wallet(&world.config, &daemon, "pay", more)).await);
                    // Its issuer may not be there yet.
                    if !text.contains("declined with 91") {
                        break (done, text);
                    }
                };
                assert!(done == good && text.contains(expected), "{more:?}, kills {kills}: {text}");
            }
        }
        daemon.stop();
    });
}

#[test]
fn over_mutual_tls_the_phone_shows_its_certificate() {
    let kept = tempfile::tempdir().unwrap();
    let config = init_as(&kept.path().join("here"), ["127.0.0.1:1", "127.0.0.1:1"], &["--tls"]);
    let daemon = Daemon::start(&config);
    let card = ["--pan", "4761730000000011", "--expiry", "4912"];
    let (done, text) = said(&wallet(&config, &daemon, "add", &card).output().unwrap());
    assert!(done && text.contains("is active"), "{text}");
    // Another's certificate has another role.
    let tls = config.with_file_name("tls");
    for end in ["pem", "key"] {
        std::fs::copy(tls.join(format!("issuer.{end}")), tls.join(format!("wallet.{end}"))).unwrap();
    }
    let (done, text) = said(&wallet(&config, &daemon, "lose", &[]).output().unwrap());
    assert!(!done && text.contains("refused with"), "{text}");
    daemon.stop();
}
