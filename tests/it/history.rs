//! The history against the real daemon: payments that left memory are refunded and reversed, also when the history is
//! made anew from the journal.

use std::path::Path;

use tokenswitch::codec::OriginalData;
use tokenswitch::config::Config;
use tokenswitch::stdx::clock::Clock;
use tokenswitch::vocab::{Mti, SentAt, Stan};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::bad_input::{framed, message, mti_and_code, read_frame};
use crate::daemon::{Daemon, init};
use crate::metrics::{metrics, until};
use crate::players::{change, in_one_thread, issuer};

/// An acquirer whose messages are each a second older than the next.
struct Acquirer {
    stream: TcpStream,
    begun: u64,
}

impl Acquirer {
    async fn connect(daemon: &Daemon, begun: u64) -> Self {
        let mut stream = TcpStream::connect(&daemon.addresses["acquirer-1"]).await.unwrap();
        stream.write_all(&framed(&message("0800", &[(70, "001")]))).await.unwrap();
        read_frame(&mut stream).await;
        Self { stream, begun }
    }

    fn sent_at(&self, stan: u32) -> String {
        let sent = SentAt(self.begun + u64::from(stan)).transmission_time().digits();
        String::from_utf8_lossy(&sent).into_owned()
    }

    /// Sends the message of that number, about an earlier one if that is named; gives DE 39.
    async fn asks(&mut self, mti: &str, stan: u32, more: &[(u8, &str)], of: Option<u32>) -> String {
        let (sent_at, number) = (self.sent_at(stan), format!("{stan:06}"));
        let original = of.map(|of| {
            let sent_at = SentAt(self.begun + u64::from(of)).transmission_time();
            let (mti, stan) = (Mti::parse(b"0200").unwrap(), Stan::new(of).unwrap());
            OriginalData { mti, stan, sent_at, acquirer: None, forwarder: None }.digits()
        });
        let original = original.map(|digits| String::from_utf8_lossy(&digits).into_owned());
        let mut elements = vec![(2, "4761739001010119"), (14, "4912"), (7, &sent_at), (11, &number)];
        elements.extend(original.as_deref().map(|digits| (90, digits)));
        elements.extend(more);
        self.stream.write_all(&framed(&message(mti, &elements))).await.unwrap();
        mti_and_code(&read_frame(&mut self.stream).await).1
    }

    async fn refund(&mut self, stan: u32, minor: u32, of: u32) -> String {
        let amount = format!("{minor:012}");
        self.asks("0200", stan, &[(3, "200000"), (4, &amount)], Some(of)).await
    }
}

async fn started(path: &Path) -> Daemon {
    let path = path.to_path_buf();
    let daemon = tokio::task::spawn_blocking(move || Daemon::start(&path)).await.unwrap();
    until(&daemon, "switch_signed_on", &[("link", "issuer-1")], 2.0).await;
    daemon
}

#[test]
fn what_left_memory_is_found_on_disk() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let path =
            init(&kept.path().join("switch"), [&listener.local_addr().unwrap().to_string(), "127.0.0.1:1"]);
        change(&path, "[settlement]", "[limits]\nanswered = 2\n[settlement]");
        let config = Config::load(&path).unwrap();
        let _issuer = issuer(&config.issuers[0].party, listener);
        let begun = Clock::system().now().wall.seconds() - 600;

        let daemon = started(&path).await;
        let mut acquirer = Acquirer::connect(&daemon, begun).await;
        for stan in 1..6 {
            assert_eq!(acquirer.asks("0200", stan, &[], None).await, "00");
        }
        assert_eq!(acquirer.refund(11, 60, 1).await, "00");
        assert_eq!(acquirer.refund(12, 60, 1).await, "57", "a hundred was paid");
        assert_eq!(acquirer.asks("0400", 13, &[], Some(2)).await, "00");
        assert_eq!(acquirer.asks("0400", 14, &[], Some(9)).await, "25", "never seen");
        // What was never seen is looked for, too.
        until(&daemon, "switch_look_ups_total", &[], 3.0).await;
        assert_eq!(metrics(&daemon).await.value("switch_look_ups_failed_total", &[]), 0.0);
        tokio::task::spawn_blocking(move || daemon.stop()).await.unwrap();

        std::fs::remove_file(config.node.checkpoint_directory().join("history.redb")).unwrap();
        let daemon = started(&path).await;
        let (_, found) = daemon.found.split_once(": ").unwrap();
        let read: u64 = found.split_once(' ').unwrap().0.parse().unwrap();
        assert!((1..=8).contains(&read), "two answers are remembered, and no more is read: {found}");
        let mut acquirer = Acquirer::connect(&daemon, begun).await;
        assert_eq!(acquirer.refund(21, 41, 1).await, "57", "also over a restart, without the history");
        assert_eq!(acquirer.refund(22, 40, 1).await, "00");
        assert_eq!(acquirer.asks("0400", 23, &[], Some(2)).await, "00", "there is nothing left to undo");
        assert_eq!(acquirer.refund(24, 1, 2).await, "57");
        tokio::task::spawn_blocking(move || daemon.stop()).await.unwrap();
    });
}
