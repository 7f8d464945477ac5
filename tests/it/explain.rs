//! `journal explain` over the journal of the real daemon, while it runs and after: what a person is told of an
//! approval, of a time-out with its reversal and a late answer, and of a reversal that the issuer will never take.

use std::cell::RefCell;
use std::path::Path;
use std::process::{Command, Output};
use std::rc::Rc;

use tokenswitch::codec::{DataElement, Dialect, Message, decode, encode};
use tokenswitch::stdx::clock::Clock;
use tokenswitch::vocab::SentAt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

use crate::bad_input::{framed, message, mti_and_code, read_frame};
use crate::daemon::{Daemon, PROGRAM, init};
use crate::metrics::until;
use crate::players::{change, in_one_thread};

pub(crate) const PAN: &str = "4761739001010119";
pub(crate) const APPROVED: &str = "000000000100";
pub(crate) const UNANSWERED: &str = "000000000200";
pub(crate) const PARKED: &str = "000000000300";

/// An answer that the issuer keeps to itself for now.
type Kept = Rc<RefCell<Vec<u8>>>;

/// Plays an issuer: it approves, but answers `UNANSWERED` only when that is reversed, and takes no advice and no
/// reversal of `PARKED`.
pub(crate) async fn issuer(listener: TcpListener) {
    let kept = Kept::default();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        spawn_local(answer(stream, Rc::clone(&kept)));
    }
}

async fn answer(mut stream: TcpStream, kept: Kept) {
    let dialect = Dialect::shipped("iso87-ascii").unwrap();
    // Until the daemon closes.
    while let Ok(length) = stream.read_u16().await {
        let mut frame = vec![0; usize::from(length)];
        stream.read_exact(&mut frame).await.unwrap();
        let asked = decode(&dialect, &frame).unwrap();
        let amount = asked.get(DataElement::AMOUNT).map_or("", |amount| std::str::from_utf8(amount).unwrap());
        let mut frames = match (asked.mti().to_string().as_str(), amount) {
            ("0200", UNANSWERED) => {
                *kept.borrow_mut() = answered(&dialect, &asked, b"00");
                continue;
            }
            ("0420", UNANSWERED) => kept.take(),
            _ => Vec::new(),
        };
        let refused = matches!(asked.mti().to_string().as_str(), "0220" | "0420") && amount == PARKED;
        frames.extend(answered(&dialect, &asked, if refused { b"30" } else { b"00" }));
        // The daemon may be gone by then.
        let _ = stream.write_all(&frames).await;
    }
}

fn answered(dialect: &Dialect, asked: &Message, code: &[u8]) -> Vec<u8> {
    let mut answer = Message::new(asked.mti().answer().unwrap());
    for element in asked.elements().filter(|element| dialect.echoes(asked.mti().class).has(*element)) {
        answer.set(element, asked.get(element).unwrap()).unwrap();
    }
    answer.set(DataElement::RESPONSE_CODE, code).unwrap();
    let mut bytes = Vec::new();
    encode(dialect, &answer, &mut bytes).unwrap();
    framed(&bytes)
}

fn explain(config: &Path, which: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(["journal", "explain"]).args(which).arg("--config").arg(config).output().unwrap()
}

/// What is told, which must fit a terminal and tell these things in this order.
fn tells(config: &Path, which: &[&str], things: &[&str]) -> String {
    let output = explain(config, which);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{which:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(told.lines().all(|line| line.chars().count() <= 80), "{told}");
    assert!(!told.contains(PAN), "{told}");
    let words = told.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut rest = words.as_str();
    for thing in things {
        rest = rest.split_once(thing).unwrap_or_else(|| panic!("{thing:?} does not follow in:\n{told}")).1;
    }
    told
}

pub(crate) async fn pay(stream: &mut TcpStream, mti: &str, elements: &[(u8, &str)]) -> String {
    let usual = [(2, PAN), (14, "4912"), (41, "TERM0001"), (42, "MERCHANT-7     ")];
    stream.write_all(&framed(&message(mti, &[&usual, elements].concat()))).await.unwrap();
    mti_and_code(&read_frame(stream).await).1
}

/// An approval, a time-out, and an approval that is taken back.
async fn pays_three_times(acquirer: &mut TcpStream) {
    let sent = SentAt(Clock::system().now().wall.seconds()).transmission_time().digits();
    let sent = std::str::from_utf8(&sent).unwrap();
    let original = format!("0200000003{sent}{:022}", 0);
    for (mti, stan, amount, rrn, original, code) in [
        ("0200", "000001", APPROVED, "632700000001", None, "00"),
        ("0200", "000002", UNANSWERED, "632700000002", None, "91"),
        ("0200", "000003", PARKED, "632700000003", None, "00"),
        ("0420", "000004", PARKED, "632700000003", Some(original.as_str()), "00"),
    ] {
        let mut elements = vec![(4, amount), (7, sent), (11, stan), (37, rrn)];
        elements.extend(original.map(|original| (90, original)));
        assert_eq!(pay(acquirer, mti, &elements).await, code, "STAN {stan}");
    }
}

fn stories_are_told(config: &Path) -> Vec<String> {
    let approved = tells(
        config,
        &["632700000001"],
        &[
            "RRN 632700000001",
            "acquirer-1 asks: 0200 over EUR 1.00, STAN 000001",
            "terminal TERM0001, merchant MERCHANT-7.",
            "Card 476173******0119.",
            "To be forwarded to issuer-1 as 0200 STAN",
            "owed there if approved.",
            "Outcome: approved, EUR 1.00. The acquirer is answered 00.",
        ],
    );
    assert!(!approved.contains("Open:") && !approved.contains("reversal"), "{approved}");
    let unanswered = tells(
        config,
        &["--stan", "2"],
        &[
            "acquirer-1 asks: 0200 over EUR 2.00, STAN 000002",
            "Outcome: unknown; refused here: issuer-timed-out. The acquirer is answered 91.",
            "A reversal is owed, number",
            "the issuer did not answer in time.",
            "To be delivered to issuer-1 as 0420 STAN",
            "A late answer comes from issuer-1: 00 (approved). It changes nothing.",
            "is delivered: issuer-1 answers 00.",
        ],
    );
    let parked = tells(
        config,
        &["632700000003"],
        &[
            "Outcome: approved, EUR 3.00.",
            "acquirer-1 takes it back with number",
            "0420 over EUR 3.00, STAN 000004",
            "is parked: issuer-1 answers 30 and will never take it.",
        ],
    );
    vec![approved, unanswered, parked]
}

#[test]
fn a_transaction_is_told_from_its_request_to_its_end() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config =
            init(&kept.path().join("switch"), [&listener.local_addr().unwrap().to_string(), "127.0.0.1:1"]);
        change(&config, "timeout = \"10s\"", "timeout = \"1s\"");
        spawn_local(issuer(listener));
        let started = config.clone();
        let daemon = tokio::task::spawn_blocking(move || Daemon::start(&started)).await.unwrap();
        until(&daemon, "switch_signed_on", &[("link", "issuer-1")], 2.0).await;

        let mut acquirer = TcpStream::connect(&daemon.addresses["acquirer-1"]).await.unwrap();
        acquirer.write_all(&framed(&message("0800", &[(70, "001")]))).await.unwrap();
        assert_eq!(mti_and_code(&read_frame(&mut acquirer).await).1, "00");
        pays_three_times(&mut acquirer).await;
        until(&daemon, "switch_parked_total", &[], 1.0).await;
        until(&daemon, "switch_delivered_total", &[], 1.0).await;
        // Once this is answered all that came before it is on disk.
        assert_eq!(pay(&mut acquirer, "0200", &[(4, APPROVED), (11, "000005")]).await, "00");

        let read = config.clone();
        let running = tokio::task::spawn_blocking(move || stories_are_told(&read)).await.unwrap();
        tokio::task::spawn_blocking(move || daemon.stop()).await.unwrap();
        assert_eq!(stories_are_told(&config), running, "the same while the daemon runs and after");

        let nothing = explain(&config, &["632700000009"]);
        assert_eq!(nothing.status.code(), Some(1));
        let said = String::from_utf8(nothing.stderr).unwrap();
        assert!(nothing.stdout.is_empty() && said.contains("no transaction with RRN 632700000009"), "{said}");
        for which in [&["--transaction", "1", "--stan", "1"][..], &[]] {
            assert_eq!(explain(&config, which).status.code(), Some(2), "{which:?}");
        }
    });
}
