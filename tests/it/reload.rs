//! SIGHUP against the real daemon: its configuration is read again whole or not at all, and connections of links that
//! did not change go on.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use tokenswitch::config::Config;
use tokenswitch::tsp::CredentialDigest;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::bad_input::{framed, message, mti_and_code, read_frame};
use crate::daemon::{Daemon, PROGRAM, init};
use crate::metrics::{metrics, until};
use crate::players::{self, LOOK, PATIENCE, change, in_one_thread, issuer};
use crate::provisioning::exchange;

/// A purchase on the connection that was there from the beginning; gives DE 39.
async fn paid(acquirer: &mut TcpStream, stan: &str) -> String {
    let purchase = message("0200", &[(2, "4761739001010119"), (14, "4912"), (11, stan)]);
    acquirer.write_all(&framed(&purchase)).await.unwrap();
    mti_and_code(&read_frame(acquirer).await).1
}

#[test]
fn the_daemon_goes_on_under_another_configuration() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let path =
            init(&kept.path().join("switch"), [&listener.local_addr().unwrap().to_string(), "127.0.0.1:1"]);
        change(&path, "[settlement]", "[limits]\nin_flight = 7\n[settlement]");
        let config = Config::load(&path).unwrap();
        let _issuer = issuer(&config.issuers[0].party, listener);
        let started = path.clone();
        let daemon = tokio::task::spawn_blocking(move || Daemon::start(&started)).await.unwrap();
        let daemon = Arc::new(daemon);
        let of_issuer = [("link", "issuer-1")];
        until(&daemon, "switch_signed_on", &of_issuer, 2.0).await;
        let mut acquirer = TcpStream::connect(&daemon.addresses["acquirer-1"]).await.unwrap();
        acquirer.write_all(&framed(&message("0800", &[(70, "001")]))).await.unwrap();
        read_frame(&mut acquirer).await;
        assert_eq!(paid(&mut acquirer, "000001").await, "00");

        // Limits and routes, and no connection is touched.
        change(&path, "in_flight = 7", "in_flight = 9");
        change(&path, "bin = \"476173\"\nissuer", "bin = \"476174\"\nissuer");
        daemon.hang_up();
        until(&daemon, "switch_in_flight_limit", &[], 9.0).await;
        assert_eq!(paid(&mut acquirer, "000002").await, "92", "its route is gone");
        assert_eq!(metrics(&daemon).await.value("link_opened_total", &of_issuer), 2.0);

        // What cannot be used, or cannot change, is told, and nothing changes.
        change(&path, "in_flight = 9", "in_flight = 11\nwhatever = 1");
        daemon.hang_up();
        players::until("the first fault", || daemon.log().contains("limits.whatever")).await;
        change(&path, "in_flight = 11\nwhatever = 1", "in_flight = 11\nlook_ups = 3");
        daemon.hang_up();
        players::until("the second fault", || daemon.log().contains("limits.look_ups: only a restart")).await;
        assert_eq!(metrics(&daemon).await.value("switch_in_flight_limit", &[]), 9.0);
        assert_eq!(paid(&mut acquirer, "000003").await, "92");

        // Links that changed begin anew; the acquirer's goes on.
        change(&path, "in_flight = 11\nlook_ups = 3", "in_flight = 11");
        change(&path, "bin = \"476174\"\nissuer", "bin = \"476173\"\nissuer");
        change(&path, "connections = 2", "connections = 3");
        daemon.hang_up();
        until(&daemon, "switch_in_flight_limit", &[], 11.0).await;
        until(&daemon, "switch_signed_on", &of_issuer, 3.0).await;
        let closed = [("link", "issuer-1"), ("reason", "reconfigured")];
        assert_eq!(metrics(&daemon).await.value("link_closed_total", &closed), 2.0);
        assert_eq!(paid(&mut acquirer, "000004").await, "00");

        // An issuer that was not there when the daemon started, and then one that is gone.
        let late = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let newcomer = newcomer(late.local_addr().unwrap());
        change(&path, "[settlement]", &format!("{newcomer}[settlement]"));
        let config = Config::load(&path).unwrap();
        let _late = issuer(&config.issuers[2].party, late);
        daemon.hang_up();
        until(&daemon, "switch_signed_on", &[("link", "issuer-3")], 2.0).await;
        assert_eq!(paid(&mut acquirer, "000005").await, "00", "by the newcomer");
        assert_eq!(
            metrics(&daemon).await.value("switch_signed_on", &of_issuer),
            3.0,
            "and nobody begins anew"
        );
        change(&path, &newcomer, "");
        daemon.hang_up();
        players::until("it is gone", || {
            daemon.log().matches("the configuration was read again").count() == 4
        })
        .await;
        assert_eq!(paid(&mut acquirer, "000006").await, "00");

        // A client that was not there when the daemon started, and then one that is gone.
        let api = daemon.addresses["api"].parse().unwrap();
        let asked = || exchange(api, "GET", "/v1/keys", "Authorization: Bearer newcomer\r\n", b"").status;
        assert_eq!(asked(), 401);
        let digest = hex::encode(CredentialDigest::of(b"newcomer").0);
        let newcomer = format!(
            "[[api.client]]\nname = \"newcomer\"\nrole = \"operator\"\ncredential_digest = \"{digest}\"\n"
        );
        change(&path, "[settlement]", &format!("{newcomer}[settlement]"));
        daemon.hang_up();
        players::until("the client is known", || asked() == 200).await;
        change(&path, &newcomer, "");
        daemon.hang_up();
        players::until("the client is gone", || asked() == 401).await;
        let daemon = Arc::into_inner(daemon).unwrap();
        tokio::task::spawn_blocking(move || daemon.stop()).await.unwrap();
    });
}

/// A third issuer, whose cards were the first one's.
pub(crate) fn newcomer(address: SocketAddr) -> String {
    format!(
        "[[issuer]]\nid = 103\nname = \"issuer-3\"\ndial = [\"{address}\"]\ndialect = \"iso87-ascii\"\n\
         framing = \"binary-2\"\ntimeout = \"10s\"\n[[route]]\nbin = \"47617390\"\nissuer = 103\n"
    )
}

/// A start may take long. This one reads a pipe into which nobody has written yet.
struct HeldStart {
    child: Child,
    pipe: Option<File>,
    log: PathBuf,
}

impl HeldStart {
    fn new(directory: &Path) -> Self {
        let config = init(directory, ["127.0.0.1:1", "127.0.0.1:1"]);
        let (trust, log) = (directory.join("trust.pem"), directory.join("daemon.log"));
        let mut text = std::fs::read_to_string(&config).unwrap();
        text.push_str("[notifications]\ntrust = \"trust.pem\"\n");
        std::fs::write(&config, text).unwrap();
        mknodat(CWD, &trust, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("serve").arg("--config").arg(&config).stdout(Stdio::piped());
        let child = command.stderr(File::create(&log).unwrap()).spawn().unwrap();
        // Only once somebody reads can it be opened so.
        let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
        let open = || File::options().write(true).custom_flags(nonblocking).open(&trust).ok();
        let mut held = Self { child, pipe: None, log };
        held.until("it reads", |held| {
            held.pipe = open();
            held.pipe.is_some()
        });
        held
    }

    fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
            if is_so(self) {
                return;
            }
            assert_eq!(self.child.try_wait().unwrap(), None, "{what}");
            std::thread::sleep(LOOK);
        }
        panic!("{what}: it never was so");
    }

    fn has_read_again(&mut self) -> bool {
        std::fs::read_to_string(&self.log).unwrap().contains("the configuration was read again")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for HeldStart {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_hang_up_during_the_start_is_kept_until_it_is_ready_and_an_end_ends_it() {
    let kept = tempfile::tempdir().unwrap();
    let mut held = HeldStart::new(&kept.path().join("kept"));
    held.signal(Signal::HUP);
    let certificate = rcgen::generate_simple_self_signed(vec!["receivers".to_owned()]).unwrap();
    // Whoever it was sent to may be gone by now.
    let _ = held.pipe.take().unwrap().write_all(certificate.cert.pem().as_bytes());
    let said = BufReader::new(held.child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.into_iter().any(|line| line == "ready"), "{:?}", held.child.wait());
    held.until("it reads its configuration again", HeldStart::has_read_again);

    let mut held = HeldStart::new(&kept.path().join("ended"));
    held.signal(Signal::TERM);
    assert_eq!(held.child.wait().unwrap().signal(), Some(Signal::TERM.as_raw()));
}
