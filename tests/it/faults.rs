//! What machines and peers do to the real daemon: killed at any moment, stopped, out of disk, with its clock put
//! wrong, with issuers that hang and thousands of connections that say nothing. After each the acquirer's book, the
//! journal and the issuers' ledgers agree to the cent.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use tokenswitch::config::Config;
use tokenswitch::journal::{Entry, Reader, RealDisk};
use tokenswitch::sim::{Pace, reconcile};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

use crate::daemon::PROGRAM;
use crate::journal_book::JournalBook;
use crate::metrics::metrics;
use crate::parts::needs;
use crate::players::{SEED, change, in_one_thread, until};
use crate::restart::{Life, World};
use crate::source::root;

const KILLS: u32 = 50;
/// Longer than the issuers' time-out of one second.
const STILL: Duration = Duration::from_millis(2_500);
/// Longer than anybody's time-out, and than a machine that is moved to another host stands still.
const LONG_STILL: Duration = Duration::from_secs(30);
/// Approvals before and after each fault.
const APPROVALS: usize = 20;
/// What refuses answers at once: a load that only waited for answers would use up its phones' counters.
pub(crate) const PACE: Pace = Pace::Open { per_second: 100 };
/// How many of the latest payments are repeated after a fault.
const REPEATS: usize = 400;
/// Connections that say nothing, and the addresses that they come from.
const CONNECTIONS: usize = 10_000;
const SOURCES: usize = 50;

impl World {
    /// Waits for some approvals more.
    pub(crate) async fn goes_on(&self) {
        let before = self.approvals();
        until("approvals", || self.approvals() >= before + APPROVALS).await;
    }

    /// What the acquirer's book and the ledgers say is the same, once everything is answered.
    pub(crate) async fn agrees(&self, since: usize) {
        self.repeat_payments_since(since.max(self.payments().saturating_sub(REPEATS))).await;
        until("the ledgers to agree with the book", || self.differences().is_empty()).await;
        self.journal_agrees(&self.entries());
    }

    /// Stops the daemon with nothing left to deliver, and compares what it wrote down with the ledgers, too.
    pub(crate) async fn settles(&self, life: Life) {
        self.settle(life).await;
        self.journal_agrees(&self.entries());
    }

    /// Compares what the journal says with the ledgers.
    fn journal_agrees(&self, entries: &[Entry]) {
        let mut book = JournalBook::default();
        entries.iter().for_each(|entry| book.take(entry));
        let ledgers = self.issuers.iter();
        let ledgers =
            ledgers.flat_map(|issuer| issuer.look(|brain| brain.ledger().records().collect::<Vec<_>>()));
        let differences: Vec<String> =
            reconcile(book.records(), ledgers).iter().map(ToString::to_string).collect();
        assert_eq!(differences, Vec::<String>::new(), "journal and ledgers");
        assert!(book.records().count() > 0);
    }

    /// What is on disk of the journal, whether the daemon runs or not.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.entries_in(&self.directory.join("data/journal"))
    }

    fn entries_in(&self, journal: &Path) -> Vec<Entry> {
        let config = Config::load(&self.config).unwrap();
        let disk = Box::new(RealDisk::watch(std::fs::File::open(journal).unwrap()));
        let (reader, _) = Reader::offline(disk, config.security.journal_keys(), "transactions").unwrap();
        reader.map(Result::unwrap).collect()
    }

    /// Stops the load, and lets what it asked be answered.
    async fn rest(&self) {
        self.acquirer().with(|brain, _, _| brain.stop_load());
        until("answers", || self.acquirer().look(|brain| brain.outstanding() == 0)).await;
    }
}

async fn world(kept: &Path) -> World {
    let mut world = World::set_up(kept, "redb").await;
    world.first_life().await;
    world
}

#[test]
fn nothing_is_lost_over_fifty_kills_at_any_moment() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let world = world(kept.path()).await;
        let mut random = fastrand::Rng::with_seed(SEED);
        let mut life = world.start().await;
        for _ in 0..KILLS {
            let before = world.payments();
            let asking = world.load(&life);
            world.goes_on().await;
            sleep(Duration::from_micros(random.u64(0..50_000))).await;
            world.kill(life, asking).await;
            life = world.start().await;
            world.agrees(before).await;
        }
        world.settles(life).await;
        println!("{KILLS} kills survived, {} payments, {} approved", world.payments(), world.approvals());
    });
}

#[test]
fn a_daemon_and_an_issuer_that_stand_still_lose_nothing() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let world = world(kept.path()).await;
        let life = world.start().await;
        let before = world.payments();
        let asking = world.load_at(PACE, &life);
        let daemon = life.daemon.pid();
        for still in [STILL, LONG_STILL] {
            world.goes_on().await;
            kill_process(daemon, Signal::STOP).unwrap();
            sleep(still).await;
            kill_process(daemon, Signal::CONT).unwrap();
        }
        for gate in &world.gates {
            world.goes_on().await;
            gate.shut();
            // The other issuer's cards go on being approved meanwhile.
            world.goes_on().await;
            sleep(STILL).await;
            gate.open();
        }
        world.goes_on().await;
        world.rest().await;
        world.agrees(before).await;
        asking.abort();
        world.settles(life).await;
    });
}

/// The library that puts a wrong clock before a program.
fn libfaketime() -> Option<PathBuf> {
    let places = std::fs::read_dir(root().join("target/parts/usr/lib"));
    let mut found = places
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|place| place.path().join("faketime/libfaketimeMT.so.1"));
    needs("libfaketime", ".ci/run parts", found.find(|file| file.exists()))
}

#[test]
fn a_clock_that_jumps_by_an_hour_and_by_a_day_moves_no_money() {
    let Some(library) = libfaketime() else { return };
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let world = world(kept.path()).await;
        let clock = kept.path().join("clock");
        let set = |offset: &str| std::fs::write(&clock, format!("{offset}\n")).unwrap();
        set("+0");
        let mut command = Command::new(PROGRAM);
        command.env("LD_PRELOAD", &library).env("FAKETIME_TIMESTAMP_FILE", &clock);
        // Monotonic time goes on as it does when a wall clock is set.
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let life = world.start_by(command).await;
        let before = world.payments();
        let asking = world.load_at(PACE, &life);
        for offset in ["+3600", "-3600", "+86000", "-86400", "+0"] {
            world.goes_on().await;
            set(offset);
        }
        world.goes_on().await;
        world.rest().await;
        world.agrees(before).await;
        asking.abort();
        world.settles(life).await;
        let walls: Vec<u64> = world.entries().iter().map(|entry| entry.wall_time.seconds()).collect();
        let back = walls.windows(2).filter(|pair| pair[1] + 3_000 < pair[0]).count();
        let ahead = walls.windows(2).filter(|pair| pair[1] > pair[0] + 3_000).count();
        assert!(back >= 2 && ahead >= 3, "the daemon's clock did not jump");
    });
}

/// Runs the program with a small disk of its own under `data`, where that is allowed.
fn with_small_disk(data: &Path) -> Option<Command> {
    let allowed = Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    let mut command = Command::new("unshare");
    let mount = format!("mount -t tmpfs -o size=24m small '{}' && exec '{PROGRAM}' \"$@\"", data.display());
    command.args(["-m", "sh", "-c", &mount, "sh"]);
    needs("the right to mount a small disk", "running as root", allowed.then_some(command))
}

#[test]
fn a_full_disk_refuses_what_is_new_and_loses_nothing() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let mut world = World::set_up(kept.path(), "redb").await;
        let data = world.directory.join("data");
        std::fs::create_dir_all(&data).unwrap();
        let Some(command) = with_small_disk(&data) else { return };
        let small = "checkpoint = \"redb\"\nsegment_bytes = \"1 MiB\"";
        change(&world.config, "checkpoint = \"redb\"", small);
        change(&world.config, "min_free_bytes = \"256 MiB\"", "min_free_bytes = \"4 MiB\"");
        let life = world.first_life_by(command).await;
        let asking = world.load_at(PACE, &life);
        world.goes_on().await;
        let pid = life.daemon.pid().as_raw_nonzero();
        let seen = PathBuf::from(format!("/proc/{pid}/root{}", data.display()));
        let filler = seen.join("filler");
        let refused = || metrics(&life.daemon);
        let was = refused().await.value("switch_refused_total", &[("refusal", "overloaded")]);
        // As much as there is room for.
        let _ = std::fs::write(&filler, vec![1; 24 << 20]);
        while refused().await.value("switch_refused_total", &[("refusal", "overloaded")]) <= was {
            sleep(Duration::from_millis(50)).await;
        }
        sleep(STILL).await;
        std::fs::remove_file(&filler).unwrap();
        world.goes_on().await;
        world.rest().await;
        asking.abort();
        // What was refused is not repeated: it would be looked at afresh.
        until("the ledgers to agree with the book", || world.differences().is_empty()).await;
        // The small disk is gone with its process: what is on it is read before that.
        let copy = kept.path().join("journal");
        std::fs::create_dir(&copy).unwrap();
        for file in std::fs::read_dir(seen.join("journal")).unwrap().map(Result::unwrap) {
            std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
        world.journal_agrees(&world.entries_in(&copy));
    });
}

/// Lets this process have as many files open as it may.
fn raise_file_limit() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    maximum.unwrap_or(u64::MAX)
}

async fn connect_from(source: usize, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let last = u8::try_from(2 + source % SOURCES).unwrap();
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

/// Another acquirer with room for very many connections.
const CROWD: &str = r#"
[[acquirer]]
id = 2
name = "crowd"
listen = "127.0.0.1:0"
dialect = "iso87-ascii"
framing = "binary-2"
timeout = "30s"
max_connections = 10000
sign_on_timeout = "120s"
frame_timeout = "2s"
"#;

#[test]
fn ten_thousand_silent_connections_and_slow_ones_on_every_port_disturb_nobody() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let world = world(kept.path()).await;
        let enough = (raise_file_limit() >= 12_000).then_some(());
        if needs("12,000 open files", "ulimit -Hn", enough).is_none() {
            return;
        }
        let text = std::fs::read_to_string(&world.config).unwrap();
        std::fs::write(&world.config, text + CROWD).unwrap();
        let life = world.start().await;
        let before = world.payments();
        let asking = world.load_at(PACE, &life);
        world.goes_on().await;
        let address = |name: &str| life.daemon.addresses[name].parse::<SocketAddr>().unwrap();
        let memory = resident(&life);
        let mut crowd = Vec::new();
        for at in 0..CONNECTIONS {
            crowd.push(connect_from(at, address("crowd")).await);
        }
        world.goes_on().await;
        let grown = resident(&life).saturating_sub(memory);
        println!("{CONNECTIONS} silent connections cost {} KiB each", grown / 1_024 / CONNECTIONS as u64);
        // One more than there is room for is closed at once.
        let mut one_more = connect_from(0, address("crowd")).await;
        assert_eq!(one_more.read(&mut [0; 1]).await.unwrap_or(0), 0, "one too many");
        // A frame that begins and never ends.
        for slow in crowd.iter_mut().take(200) {
            slow.write_all(&[0]).await.unwrap();
        }
        let mut http = Vec::new();
        for name in ["api", "admin"] {
            for _ in 0..8 {
                let mut slow = TcpStream::connect(address(name)).await.unwrap();
                slow.write_all(b"GET /v1/tokens HTTP/1.1\r\nHost: a").await.unwrap();
                http.push(slow);
            }
        }
        world.goes_on().await;
        for slow in crowd.iter_mut().take(200).chain(&mut http) {
            // What it hears before it is closed does not matter.
            while slow.read(&mut [0; 512]).await.unwrap_or(0) > 0 {}
        }
        world.goes_on().await;
        drop(crowd);
        world.rest().await;
        world.agrees(before).await;
        asking.abort();
        world.settles(life).await;
    });
}

/// Bytes of memory that the daemon holds.
fn resident(life: &Life) -> u64 {
    let pid = life.daemon.pid().as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}
