//! `saf` against the real daemon: what a person sees of reversals that an issuer will not take, and what becomes of
//! them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tokenswitch::stdx::clock::Clock;
use tokenswitch::vocab::SentAt;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{spawn_blocking, spawn_local};

use crate::bad_input::{framed, message, read_frame};
use crate::daemon::{Daemon, PROGRAM, init};
use crate::explain::{APPROVED, PAN, PARKED, issuer, pay};
use crate::metrics::until;
use crate::players::{self, change, in_one_thread};
use crate::reload::newcomer;

pub(crate) const ISSUER: (&str, &str) = ("link", "issuer-1");

pub(crate) async fn start(config: &Path) -> Daemon {
    let config = config.to_path_buf();
    let daemon = spawn_blocking(move || Daemon::start(&config)).await.unwrap();
    until(&daemon, "switch_signed_on", &[ISSUER], 2.0).await;
    daemon
}

pub(crate) async fn parked(daemon: &Daemon, count: f64) {
    until(daemon, "switch_exceptions", &[ISSUER, ("standing", "parked")], count).await;
    until(daemon, "switch_suspense", &[ISSUER, ("currency", "EUR")], 300.0 * count).await;
}

async fn saf(config: &Path, daemon: &Daemon, arguments: &[&str]) -> Output {
    let (config, admin) = (PathBuf::from(config), daemon.addresses["admin"].clone());
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let run = move || {
        let mut command = Command::new(PROGRAM);
        command.arg("saf").args(arguments).arg("--config").arg(config).args(["--admin", &admin]);
        command.env("USER", "night").output().unwrap()
    };
    spawn_blocking(run).await.unwrap()
}

/// What is told on success.
pub(crate) async fn told(config: &Path, daemon: &Daemon, arguments: &[&str]) -> String {
    let output = saf(config, daemon, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// DE 7 of a message that leaves now.
fn sent_now() -> String {
    let sent = SentAt(Clock::system().now().wall.seconds()).transmission_time().digits();
    String::from_utf8(sent.to_vec()).unwrap()
}

/// Two approvals that are taken back, and whose reversals the issuer will not take.
async fn takes_back_two(daemon: &Daemon) {
    let mut acquirer = TcpStream::connect(&daemon.addresses["acquirer-1"]).await.unwrap();
    acquirer.write_all(&framed(&message("0800", &[(70, "001")]))).await.unwrap();
    read_frame(&mut acquirer).await;
    let sent = sent_now();
    let sent = sent.as_str();
    for (stan, reversal) in [("000001", "000002"), ("000003", "000004")] {
        let original = format!("0200{stan}{sent}{:022}", 0);
        let common = [(4, PARKED), (7, sent)];
        assert_eq!(pay(&mut acquirer, "0200", &[&common[..], &[(11, stan)]].concat()).await, "00");
        let taken_back = [&common[..], &[(11, reversal), (90, &original)]].concat();
        assert_eq!(pay(&mut acquirer, "0420", &taken_back).await, "00");
    }
    assert_eq!(pay(&mut acquirer, "0200", &[(4, APPROVED), (11, "000005")]).await, "00");
}

#[test]
fn a_person_has_one_reversal_tried_again_and_closes_another() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config =
            init(&kept.path().join("switch"), [&listener.local_addr().unwrap().to_string(), "127.0.0.1:1"]);
        spawn_local(issuer(listener));
        let daemon = start(&config).await;
        takes_back_two(&daemon).await;
        parked(&daemon, 2.0).await;

        let list = told(&config, &daemon, &["list"]).await;
        assert!(!list.contains(PAN) && list.lines().all(|line| line.len() <= 80), "{list}");
        assert_eq!(list.matches("476173******0119").count(), 2, "{list}");
        assert!(list.ends_with("In suspense with issuer-1: EUR 6.00\n"), "{list}");
        let ids: Vec<&str> =
            list.lines().skip(1).take(2).map(|row| row.split_whitespace().next().unwrap()).collect();

        let account = format!("the card was {PAN}");
        for (arguments, code) in [
            (&["retry", "999"][..], 1),
            (&["close", "999", "--reason", "none"], 1),
            (&["close", ids[0], "--reason", &account], 1),
            (&["close", ids[0], "--reason", ""], 1),
            (&["close", ids[0]], 2),
        ] {
            let output = saf(&config, &daemon, arguments).await;
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
            assert!(!String::from_utf8_lossy(&output.stderr).contains(PAN));
        }
        parked(&daemon, 2.0).await;

        told(&config, &daemon, &["retry", ids[0]]).await;
        until(&daemon, "switch_delivered_total", &[], 1.0).await;
        told(&config, &daemon, &["close", ids[1], "--reason", "settled by phone"]).await;
        parked(&daemon, 0.0).await;
        spawn_blocking(move || daemon.stop()).await.unwrap();

        let daemon = start(&config).await;
        assert_eq!(told(&config, &daemon, &["list"]).await, "Nothing waits for a person.\n");
        spawn_blocking(move || daemon.stop()).await.unwrap();
        let story = Command::new(PROGRAM)
            .args(["journal", "explain", "--stan", "3", "--config"])
            .arg(&config)
            .output()
            .unwrap();
        let story = String::from_utf8(story.stdout).unwrap();
        let words = story.split_whitespace().collect::<Vec<_>>().join(" ");
        let decided = "night closes it: it is sent no more. Reason: settled by phone.";
        assert!(words.contains(decided) && !words.contains("Open:"), "{story}");
    });
}

#[test]
fn an_advice_that_was_reversed_meanwhile_is_not_tried_again() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config =
            init(&kept.path().join("switch"), [&listener.local_addr().unwrap().to_string(), "127.0.0.1:1"]);
        spawn_local(issuer(listener));
        let daemon = start(&config).await;
        let mut acquirer = TcpStream::connect(&daemon.addresses["acquirer-1"]).await.unwrap();
        acquirer.write_all(&framed(&message("0800", &[(70, "001")]))).await.unwrap();
        read_frame(&mut acquirer).await;
        let sent = sent_now();
        let common = [(4, PARKED), (7, sent.as_str())];
        assert_eq!(pay(&mut acquirer, "0220", &[&common[..], &[(11, "000001")]].concat()).await, "00");
        until(&daemon, "switch_exceptions", &[ISSUER, ("standing", "parked")], 1.0).await;
        let list = told(&config, &daemon, &["list"]).await;
        let advice = list.lines().nth(1).and_then(|row| row.split_whitespace().next()).unwrap();
        let original = format!("0220000001{sent}{:022}", 0);
        let taken_back = [&common[..], &[(11, "000002"), (90, &original)]].concat();
        assert_eq!(pay(&mut acquirer, "0420", &taken_back).await, "00");

        let output = saf(&config, &daemon, &["retry", advice]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("reversed"), "{output:?}");
        told(&config, &daemon, &["close", advice, "--reason", "taken back by its acquirer"]).await;
        spawn_blocking(move || daemon.stop()).await.unwrap();
    });
}

#[test]
fn what_is_owed_to_an_issuer_that_left_the_configuration_is_shown_and_kept() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = init(&kept.path().join("switch"), ["127.0.0.1:1", "127.0.0.1:1"]);
        let newcomer = newcomer(listener.local_addr().unwrap());
        change(&config, "[settlement]", &format!("{newcomer}[settlement]"));
        let start = || {
            let config = config.clone();
            async { spawn_blocking(move || Daemon::start(&config)).await.unwrap() }
        };
        let daemon = start().await;
        let mut acquirer = TcpStream::connect(&daemon.addresses["acquirer-1"]).await.unwrap();
        acquirer.write_all(&framed(&message("0800", &[(70, "001")]))).await.unwrap();
        read_frame(&mut acquirer).await;
        let common = [(4, PARKED), (7, &sent_now()), (11, "000001")];
        assert_eq!(pay(&mut acquirer, "0220", &common).await, "00");
        let (present, absent) = (("link", "issuer-3"), ("link", "absent-103"));
        until(&daemon, "switch_stored", &[present], 1.0).await;
        spawn_blocking(move || daemon.stop()).await.unwrap();

        change(&config, &newcomer, "");
        let daemon = start().await;
        until(&daemon, "switch_stored", &[absent], 1.0).await;
        until(&daemon, "switch_exceptions", &[absent, ("standing", "no-issuer")], 1.0).await;
        until(&daemon, "switch_suspense", &[absent, ("currency", "EUR")], 300.0).await;
        let list = told(&config, &daemon, &["list"]).await;
        assert!(list.lines().nth(1).unwrap().ends_with(" no-issuer"), "{list}");
        assert!(list.contains(" absent-103 ") && list.contains("absent-103 is not in the conf"), "{list}");
        let warned = |times: usize| {
            let owed = "an issuer that is not in the configuration is owed messages";
            let log = daemon.log();
            log.lines().filter(|line| line.contains(owed) && line.contains("103")).count() == times
        };
        assert!(warned(1), "{}", daemon.log());
        daemon.hang_up();
        players::until("a warning", || warned(2)).await;

        change(&config, "[settlement]", &format!("{newcomer}[settlement]"));
        spawn_local(issuer(listener));
        daemon.hang_up();
        until(&daemon, "switch_delivered_total", &[], 1.0).await;
        until(&daemon, "switch_stored", &[present], 0.0).await;
        until(&daemon, "switch_stored", &[absent], 0.0).await;
        until(&daemon, "switch_exceptions", &[absent, ("standing", "no-issuer")], 0.0).await;
        assert_eq!(told(&config, &daemon, &["list"]).await, "Nothing waits for a person.\n");
        spawn_blocking(move || daemon.stop()).await.unwrap();
    });
}
