//! The log of the real daemon, read as an operator does: by a payment's number, which must lead to all that became of
//! it, its reversals, repeats and late answers among that, over a restart and to a person's decision.

use tokenswitch::stdx::clock::Clock;
use tokenswitch::vocab::SentAt;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{spawn_blocking, spawn_local};

use crate::bad_input::{framed, message, read_frame};
use crate::daemon::init;
use crate::explain::{PAN, PARKED, UNANSWERED, issuer, pay};
use crate::metrics::until;
use crate::players::{change, in_one_thread};
use crate::saf::{ISSUER, parked, start, told};

/// The lines that have this number as `transaction`, without the time in front.
fn story(log: &str, transaction: &str) -> Vec<String> {
    let key = format!("transaction={transaction}");
    let of_it = log.lines().filter(|line| line.split_whitespace().any(|word| word == key));
    of_it.filter_map(|line| line.split_once("node::story: ")).map(|(_, told)| told.to_owned()).collect()
}

/// Each of these must be told, in this order; a line may have more words, in any order.
fn tells(told: &[String], things: &[&str]) {
    let mut lines = told.iter();
    for thing in things {
        let has =
            |line: &String| thing.split(' ').all(|word| line.split_whitespace().any(|other| other == word));
        assert!(lines.any(has), "{thing:?} does not follow in:\n{}", told.join("\n"));
    }
    assert!(told.iter().all(|line| !line.contains(PAN)), "{told:?}");
}

/// The number under which a message with that number of its own is told.
fn whose(log: &str, own: &str) -> String {
    let key = format!("own={own}");
    let line = log.lines().find(|line| line.split_whitespace().any(|word| word == key));
    let line = line.unwrap_or_else(|| panic!("{own} is told of nowhere:\n{log}"));
    let number = line.split_whitespace().find_map(|word| word.strip_prefix("transaction="));
    number.unwrap_or_else(|| panic!("{line}")).to_owned()
}

#[test]
fn a_payments_number_leads_to_all_that_became_of_it() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let config = init(&kept.path().join("switch"), [&address, "127.0.0.1:1"]);
        change(&config, "timeout = \"10s\"", "timeout = \"1s\"");
        spawn_local(issuer(listener));
        let daemon = start(&config).await;
        let mut acquirer = TcpStream::connect(&daemon.addresses["acquirer-1"]).await.unwrap();
        acquirer.write_all(&framed(&message("0800", &[(70, "001")]))).await.unwrap();
        read_frame(&mut acquirer).await;
        let sent = SentAt(Clock::system().now().wall.seconds()).transmission_time().digits();
        let sent = std::str::from_utf8(&sent).unwrap();
        for (mti, stan, amount, original, code) in [
            ("0200", "000001", PARKED, None, "00"),
            ("0200", "000001", PARKED, None, "00"),
            ("0420", "000002", PARKED, Some("000001"), "00"),
            ("0200", "000003", PARKED, None, "00"),
            ("0420", "000004", PARKED, Some("000003"), "00"),
            ("0200", "000005", UNANSWERED, None, "91"),
        ] {
            let original = original.map(|stan| format!("0200{stan}{sent}{:022}", 0));
            let mut elements = vec![(4, amount), (7, sent), (11, stan)];
            elements.extend(original.as_ref().map(|original| (90, original.as_str())));
            assert_eq!(pay(&mut acquirer, mti, &elements).await, code, "{mti} {stan}");
        }
        // The late answer's reversal arrives; the two of the acquirer's are refused.
        until(&daemon, "switch_delivered_total", &[], 1.0).await;
        parked(&daemon, 2.0).await;
        let list = told(&config, &daemon, &["list"]).await;
        let ids: Vec<String> = list
            .lines()
            .skip(1)
            .take(2)
            .filter_map(|row| Some(row.split_whitespace().next()?.into()))
            .collect();
        told(&config, &daemon, &["retry", &ids[0]]).await;
        until(&daemon, "switch_delivered_total", &[], 2.0).await;
        spawn_blocking(move || daemon.stop()).await.unwrap();
        let daemon = start(&config).await;
        until(&daemon, "switch_exceptions", &[ISSUER, ("standing", "parked")], 1.0).await;
        told(&config, &daemon, &["close", &ids[1], "--reason", "settled by phone"]).await;
        let log = daemon.log();
        spawn_blocking(move || daemon.stop()).await.unwrap();

        let begins = ["received mti=0200", "entry=\"request\"", "forwarded", "entry=\"outcome\"", "answered"];
        let repeat = ["concern=\"repeat\"", "answered asked_by=2"];
        let reversal = |own: &str| {
            [
                "concern=\"reversal\"",
                "entry=\"stored\" kind=\"acquirer-reversal\"",
                "answered",
                "sent mti=0420",
                "parked:",
            ]
            .map(|words| format!("{words} own={own}"))
        };
        let first = reversal(&ids[0]);
        let again = ["operator decision=\"retry\"", "sent mti=0420 repeat=true", "delivered"]
            .map(|words| format!("{words} own={}", ids[0]));
        let whole: Vec<&str> =
            begins.into_iter().chain(repeat).chain(first.iter().chain(&again).map(String::as_str)).collect();
        tells(&story(&log, &whose(&log, &ids[0])), &whole);
        let second = reversal(&ids[1]);
        let closed = format!("operator decision=\"close\" own={}", ids[1]);
        let whole: Vec<&str> =
            begins.into_iter().chain(second.iter().map(String::as_str)).chain([closed.as_str()]).collect();
        tells(&story(&log, &whose(&log, &ids[1])), &whole);
        let late = log.lines().find(|line| line.contains("entry=\"late\"")).expect("a late answer");
        let number = late.split_whitespace().find_map(|word| word.strip_prefix("transaction=")).unwrap();
        tells(
            &story(&log, number),
            &[
                "received mti=0200",
                "forwarded",
                "silent",
                "entry=\"outcome\" refusal=\"issuer-timed-out\"",
                "entry=\"stored\" kind=\"own-reversal\"",
                "answered refusal=\"issuer-timed-out\"",
                "sent mti=0420",
                "entry=\"late\"",
                "delivered",
            ],
        );
    });
}
