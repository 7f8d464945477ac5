//! `provision --bulk` against the real daemon: a job that is cut short goes on and gives no card two tokens.

use std::path::Path;
use std::process::{Command, Output};

use crate::daemon::{Daemon, PROGRAM, init, init_as};

/// Test cards of the range that `init` serves, with right check digits.
fn cards(count: usize) -> Vec<String> {
    let digit = |body: &str| {
        let digit = tokenswitch::vocab::luhn_check_digit(body.as_bytes()).unwrap();
        format!("{body}{}", char::from(digit))
    };
    (0..count).map(|n| digit(&format!("476173{n:09}"))).collect()
}

fn provision(directory: &Path, api: &str, input: &str) -> Output {
    Command::new(PROGRAM)
        .args([
            "provision",
            "--bulk",
            input,
            "--output",
            "out.csv",
            "--job",
            "night-of-the-22nd",
            "--api",
            api,
        ])
        .args(["--credential", "switch/requestor.credential", "--at-once", "8"])
        .current_dir(directory)
        .output()
        .unwrap()
}

#[test]
fn a_job_goes_on_where_it_was_and_no_card_gets_two_tokens() {
    let kept = tempfile::tempdir().unwrap();
    let config = init(&kept.path().join("switch"), ["127.0.0.1:1", "127.0.0.1:1"]);
    let daemon = Daemon::start(&config);
    let api = &daemon.addresses["api"];
    let cards = cards(40);
    let rows: Vec<String> = cards.iter().map(|pan| format!("{pan},4912")).collect();
    let file = |name: &str, rows: &[String]| {
        std::fs::write(kept.path().join(name), format!("pan,panExpiry\n{}\n", rows.join("\n"))).unwrap();
    };
    let written = || std::fs::read_to_string(kept.path().join("out.csv")).unwrap();
    let references = |text: &str| {
        let mut all: Vec<String> =
            text.lines().skip(1).map(|row| row.split(',').nth(1).unwrap().to_owned()).collect();
        all.sort();
        all
    };
    file("cards.csv", &rows);
    assert!(provision(kept.path(), api, "cards.csv").status.success());
    let first = written();
    assert_eq!(references(&first).len(), 40);
    assert!(cards.iter().all(|pan| !first.contains(&pan[..12])), "no card number");

    // Cut short: half of what was written is lost, and one line in its middle.
    let half: String = first.chars().take(first.len() / 2).collect();
    std::fs::write(kept.path().join("out.csv"), &half).unwrap();
    let again = provision(kept.path(), api, "cards.csv");
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(references(&written()), references(&first), "the same tokens");
    assert!(String::from_utf8_lossy(&again.stdout).contains("from before"));

    // A card that gets none is told, and only that one.
    let mut wrong = rows;
    wrong.push("4761730000000000,4912".to_owned());
    wrong.push("too,many,cells".to_owned());
    file("more.csv", &wrong);
    let refused = provision(kept.path(), api, "more.csv");
    assert!(!refused.status.success());
    let text = written();
    assert!(text.contains("42,,,card-not-valid\n") && text.contains("43,,,columns-differ\n"), "{text}");
    assert!(!provision(kept.path(), api, "more.csv").status.success());
    assert_eq!(written().lines().count(), 43, "what got none is told once");
    daemon.stop();
}

#[test]
fn cards_may_come_through_a_pipe() {
    let kept = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&init(&kept.path().join("switch"), ["127.0.0.1:1", "127.0.0.1:1"]));
    let path = kept.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let writer = std::thread::spawn({
        let rows: String = cards(3).iter().map(|pan| format!("{pan},4912\n")).collect();
        let path = path.clone();
        move || std::fs::write(path, format!("pan,panExpiry\n{rows}")).unwrap()
    });
    let output = provision(kept.path(), &daemon.addresses["api"], "pipe");
    writer.join().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.starts_with("3 tokens, 0 from before"), "{text}");
    assert_eq!(std::fs::read_to_string(kept.path().join("out.csv")).unwrap().lines().count(), 4);
    daemon.stop();
}

#[test]
fn over_mutual_tls_the_job_shows_its_certificate() {
    let kept = tempfile::tempdir().unwrap();
    let config = init_as(&kept.path().join("switch"), ["127.0.0.1:1", "127.0.0.1:1"], &["--tls"]);
    let daemon = Daemon::start(&config);
    std::fs::write(kept.path().join("cards.csv"), format!("pan,panExpiry\n{},4912\n", cards(1)[0])).unwrap();
    let output = Command::new(PROGRAM)
        .args(["provision", "--bulk", "cards.csv", "--output", "out.csv", "--job", "tls"])
        .args(["--api", &daemon.addresses["api"], "--certificate", "switch/tls/wallet.pem"])
        .args(["--key", "switch/tls/wallet.key", "--roots", "switch/tls/ca.pem"])
        .current_dir(kept.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    daemon.stop();
}
