//! `Links` over real loopback sockets: what good, slow, greedy and hostile peers make of it. Deadlines run on a
//! clock that the test moves, so that no test depends on how fast it runs.

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::*;
use crate::codec::FrameFormat;
use crate::stdx::clock::{Clock, ManualClock, Wall};
use crate::tls::testing::{Authority, identity};
use crate::tls::{CertificateDigest, ServerName, TlsClient, TlsServer};
use crate::vocab::LinkId;

const ACQUIRER: LinkId = LinkId(1);
const ISSUER: LinkId = LinkId(2);
/// Far beyond what anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A `LinkEvent` with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Opened(ConnectionId, LinkId),
    Frame(ConnectionId, Vec<u8>),
    Written(ConnectionId, u64),
    Closed(ConnectionId, CloseReason, u64),
    DialFailed(ConnectionId, CloseReason),
}

/// The switch's side of a test.
struct Bench {
    links: Links,
    clock: ManualClock,
    registry: Registry,
    inbox: Inbox,
    outbox: Outbox,
    seen: VecDeque<Seen>,
    batches: usize,
}

impl Bench {
    fn start(config: LinksConfig) -> Self {
        let clock = ManualClock::at(Wall(0));
        let mut registry = Registry::default();
        let links = Links::start(config, Clock::Manual(clock.clone()), &mut registry).unwrap();
        let (inbox, outbox) = (Inbox::default(), Outbox::default());
        Self { links, clock, registry, inbox, outbox, seen: VecDeque::new(), batches: 0 }
    }

    fn listening(change: impl FnOnce(&mut ListenerConfig)) -> Self {
        let mut config = listener();
        change(&mut config);
        Self::start(LinksConfig::new(vec![config], vec![]))
    }

    fn dialling(change: impl FnOnce(&mut IssuerLinkConfig)) -> Self {
        let mut config = issuer();
        change(&mut config);
        Self::start(LinksConfig::new(vec![], vec![config]))
    }

    fn address(&self) -> SocketAddr {
        self.links.addresses().next().unwrap().1
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.unwrap()
    }

    /// A client, and its connection as the switch knows it.
    async fn client(&mut self) -> (TcpStream, ConnectionId) {
        let stream = self.connect().await;
        match self.next().await {
            Seen::Opened(connection, ACQUIRER) => (stream, connection),
            other => panic!("{other:?} before the connection opened"),
        }
    }

    async fn next(&mut self) -> Seen {
        loop {
            if let Some(seen) = self.seen.pop_front() {
                return seen;
            }
            timeout(PATIENCE, self.links.ready()).await.expect("nothing happened");
            self.take();
        }
    }

    fn take(&mut self) {
        self.links.take(&mut self.inbox);
        self.batches += 1;
        for event in &self.inbox.events {
            self.seen.push_back(match event {
                LinkEvent::Opened { connection, link, .. } => Seen::Opened(*connection, *link),
                LinkEvent::Frame { connection, bytes, .. } => {
                    Seen::Frame(*connection, self.inbox.frame(bytes).to_vec())
                }
                LinkEvent::Written { connection, total } => Seen::Written(*connection, *total),
                LinkEvent::Closed { connection, reason, begun } => Seen::Closed(*connection, *reason, *begun),
                LinkEvent::DialFailed { connection, reason, .. } => Seen::DialFailed(*connection, *reason),
            });
        }
    }

    async fn next_frame(&mut self) -> (ConnectionId, Vec<u8>) {
        loop {
            match self.next().await {
                Seen::Frame(connection, bytes) => return (connection, bytes),
                Seen::Written(..) | Seen::Opened(..) => {}
                other => panic!("{other:?} where a frame was expected"),
            }
        }
    }

    /// The reason for which `connection` is closed, and the bytes that may have left on it.
    async fn closed(&mut self, connection: ConnectionId) -> (CloseReason, u64) {
        loop {
            match self.next().await {
                Seen::Closed(closed, reason, begun) if closed == connection => return (reason, begun),
                Seen::Closed(..) => panic!("another connection was closed"),
                _ => {}
            }
        }
    }

    fn write(&mut self, connection: ConnectionId, message: &[u8]) {
        let start = self.outbox.bytes.len();
        self.outbox.bytes.extend_from_slice(message);
        let bytes = start..self.outbox.bytes.len();
        self.outbox.commands.push(LinkCommand::Write { connection, bytes });
    }

    fn close(&mut self, connection: ConnectionId, reason: CloseReason) {
        self.outbox.commands.push(LinkCommand::Close { connection, reason });
    }

    fn dial(&mut self, address: usize, connection: ConnectionId) {
        self.outbox.commands.push(LinkCommand::Dial { link: ISSUER, address, connection });
    }

    fn apply(&mut self) {
        self.links.apply(&mut self.outbox);
        assert!(self.outbox.is_empty());
    }

    /// The value of a metric, named as the exposition format has it; 0 where there is none.
    fn metric(&self, name_and_labels: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name_and_labels)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    fn closed_for(&self, reason: CloseReason) -> u64 {
        self.metric(&format!("link_closed_total{{link=\"acquirer\",reason=\"{reason}\"}}"))
    }

    fn refused_for(&self, reason: CloseReason) -> u64 {
        self.metric(&format!("link_listener_refused_total{{listener=\"front\",reason=\"{reason}\"}}"))
    }
}

fn framing() -> FrameFormat {
    FrameFormat::parse("binary-2", 0, 4_000).unwrap()
}

fn listener() -> ListenerConfig {
    let party = Party {
        link: ACQUIRER,
        name: "acquirer".to_owned(),
        peers: vec![],
        certificates: vec![],
        connections: 10_000,
    };
    ListenerConfig {
        name: "front".to_owned(),
        address: "127.0.0.1:0".parse().unwrap(),
        parties: vec![party],
        connections: 100,
        backlog: 1_024,
        framing: framing(),
        limits: ConnectionLimits::default(),
        tls: None,
    }
}

fn issuer() -> IssuerLinkConfig {
    IssuerLinkConfig {
        link: ISSUER,
        name: "issuer".to_owned(),
        addresses: vec![],
        dial_timeout: PATIENCE,
        framing: framing(),
        limits: ConnectionLimits::default(),
        tls: None,
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap();
    [&length.to_be_bytes(), message].concat()
}

async fn local<T>(test: impl Future<Output = T>) -> T {
    LocalSet::new().run_until(test).await
}

/// Whether the peer closed it, in order or by reset, rather than sending something.
async fn ends(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    matches!(timeout(PATIENCE, stream.read(&mut byte)).await.expect("still open"), Ok(0) | Err(_))
}

#[tokio::test(flavor = "current_thread")]
async fn many_frames_in_one_read_come_in_one_batch_and_in_order() {
    local(async {
        let mut bench = Bench::listening(|_| {});
        let (mut client, connection) = bench.client().await;
        let messages: Vec<Vec<u8>> = (0..1_000_u32).map(|n| n.to_be_bytes().to_vec()).collect();
        let wire: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
        bench.batches = 0;
        client.write_all(&wire).await.unwrap();
        for message in &messages {
            assert_eq!(bench.next_frame().await, (connection, message.clone()));
        }
        assert!(bench.batches < 10, "{} batches for {} frames", bench.batches, messages.len());
        assert_eq!(bench.metric("link_frames_received_total{link=\"acquirer\"}"), 1_000);
        assert_eq!(bench.metric("link_received_bytes_total{link=\"acquirer\"}"), 6_000);
    })
    .await;
}

/// Clients that cut their bytes anywhere and interleave: every frame comes back to its sender, whole and in order.
#[tokio::test(flavor = "current_thread")]
async fn frames_cut_anywhere_are_echoed_whole() {
    local(async {
        let mut bench = Bench::listening(|_| {});
        let mut clients = Vec::new();
        for seed in 0..8 {
            let stream = bench.connect().await;
            clients.push(tokio::task::spawn_local(talk(stream, seed)));
        }
        while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
            let Ok(()) = timeout(Duration::from_millis(10), bench.links.ready()).await else { continue };
            bench.take();
            for seen in std::mem::take(&mut bench.seen) {
                if let Seen::Frame(connection, message) = seen {
                    bench.write(connection, &framed(&message));
                }
            }
            bench.apply();
        }
        for client in clients {
            client.await.unwrap();
        }
    })
    .await;
}

async fn talk(stream: TcpStream, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let message = |_| {
        let length = rng.usize(1..900);
        framed(&std::iter::repeat_with(|| rng.u8(..)).take(length).collect::<Vec<_>>())
    };
    let wire: Vec<u8> = (0..300).flat_map(message).collect();
    let (mut read, mut write) = stream.into_split();
    let sent = wire.clone();
    let writing = tokio::task::spawn_local(async move {
        let mut rest = &sent[..];
        while !rest.is_empty() {
            let (piece, next) = rest.split_at(rng.usize(1..=rest.len().min(5_000)));
            write.write_all(piece).await.unwrap();
            if rng.bool() {
                tokio::task::yield_now().await;
            }
            rest = next;
        }
        write
    });
    let mut back = vec![0; wire.len()];
    timeout(PATIENCE, read.read_exact(&mut back)).await.expect("echoes are missing").unwrap();
    assert!(back == wire, "seed {seed}: something else came back");
    writing.await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_frame_byte_by_byte_is_a_frame() {
    local(async {
        let mut bench = Bench::listening(|_| {});
        let (mut client, connection) = bench.client().await;
        client.set_nodelay(true).unwrap();
        for byte in framed(b"message") {
            client.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(bench.next_frame().await, (connection, b"message".to_vec()));
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn slow_peers_are_closed_and_disturb_nobody() {
    local(async {
        let mut bench = Bench::listening(|_| {});
        let (mut good, good_id) = bench.client().await;
        good.write_all(&framed(b"one")).await.unwrap();
        assert_eq!(bench.next_frame().await, (good_id, b"one".to_vec()));
        let (mut slow, slow_id) = bench.client().await;
        slow.write_all(&framed(b"whole")).await.unwrap();
        slow.write_all(&framed(b"part")[..3]).await.unwrap();
        assert_eq!(bench.next_frame().await, (slow_id, b"whole".to_vec()));
        while bench.metric("link_received_bytes_total{link=\"acquirer\"}") < 15 {
            tokio::task::yield_now().await;
        }
        bench.clock.advance(Duration::from_secs(9));
        slow.write_all(b"a").await.unwrap();
        while bench.metric("link_received_bytes_total{link=\"acquirer\"}") < 16 {
            tokio::task::yield_now().await;
        }
        bench.clock.advance(Duration::from_secs(1));
        assert_eq!(
            bench.closed(slow_id).await,
            (CloseReason::FrameTooSlow, 0),
            "a further byte buys no time"
        );
        assert!(ends(&mut slow).await);

        let (mut silent, silent_id) = bench.client().await;
        bench.clock.advance(Duration::from_secs(30));
        assert_eq!(bench.closed(silent_id).await, (CloseReason::NothingSent, 0));
        assert!(ends(&mut silent).await);

        good.write_all(&framed(b"two")).await.unwrap();
        assert_eq!(bench.next_frame().await, (good_id, b"two".to_vec()));
        for reason in [CloseReason::FrameTooSlow, CloseReason::NothingSent] {
            assert_eq!(bench.closed_for(reason), 1, "{reason}");
        }
        assert_eq!(bench.metric("link_connections{link=\"acquirer\"}"), 1);
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn what_cannot_be_framed_is_closed_with_its_name() {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on";
    let cases: [(&str, &[u8], CloseReason); 6] = [
        ("binary-2", hello, CloseReason::TlsOnPlainPort),
        ("ascii-4", hello, CloseReason::TlsOnPlainPort),
        ("binary-2", b"GET / HTTP/1.1\r\n\r\n", CloseReason::FrameTooLong),
        ("ascii-4", b"GET / HTTP/1.1\r\n\r\n", CloseReason::LengthMalformed),
        ("binary-2-inclusive", b"\x00\x01\x00", CloseReason::FrameTooShort),
        ("binary-2", &[0; 4_000], CloseReason::KeepaliveFlood),
    ];
    local(async {
        for (framing, bytes, reason) in cases {
            let framing = FrameFormat::parse(framing, 0, 4_000).unwrap();
            let mut bench = Bench::listening(|listener| listener.framing = framing);
            let (mut client, connection) = bench.client().await;
            client.write_all(bytes).await.unwrap();
            assert_eq!(bench.closed(connection).await, (reason, 0));
            assert_eq!(bench.closed_for(reason), 1, "{reason}");
            assert!(ends(&mut client).await);
        }
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn frames_before_garbage_still_come() {
    local(async {
        let mut bench = Bench::listening(|_| {});
        let (mut client, connection) = bench.client().await;
        client.write_all(&[framed(b"good"), vec![0xFF; 10]].concat()).await.unwrap();
        assert_eq!(bench.next_frame().await, (connection, b"good".to_vec()));
        assert_eq!(bench.closed(connection).await.0, CloseReason::FrameTooLong);
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn keepalives_are_counted_and_never_echoed() {
    local(async {
        let mut bench = Bench::listening(|_| {});
        let (mut client, connection) = bench.client().await;
        client.write_all(&[&[0; 1_000][..], &framed(b"hello"), &[0; 1_000]].concat()).await.unwrap();
        assert_eq!(bench.next_frame().await, (connection, b"hello".to_vec()));
        bench.write(connection, b"answer");
        bench.apply();
        let mut answer = [0; 6];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer", "the first thing to come back");
        assert_eq!(bench.metric("link_keepalives_received_total{link=\"acquirer\"}"), 1_000);
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn output_is_reported_when_the_socket_has_it() {
    local(async {
        let mut bench = Bench::listening(|_| {});
        let (mut client, connection) = bench.client().await;
        bench.write(connection, b"one");
        bench.write(connection, b"two");
        bench.apply();
        assert_eq!(bench.next().await, Seen::Written(connection, 6), "one call for the batch");
        bench.write(connection, b"three");
        bench.close(connection, CloseReason::ShuttingDown);
        bench.write(connection, b"too late");
        bench.apply();
        assert_eq!(bench.next().await, Seen::Written(connection, 11));
        assert_eq!(bench.next().await, Seen::Closed(connection, CloseReason::ShuttingDown, 11));
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"onetwothree");
        bench.write(connection, b"to nobody");
        bench.apply();
        assert_eq!(bench.metric("link_sent_bytes_total{link=\"acquirer\"}"), 11);
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_peer_that_reads_nothing_is_closed_when_its_room_is_used_up() {
    local(async {
        let mut bench = Bench::listening(|listener| listener.limits.output_bytes = 100_000);
        let (client, connection) = bench.client().await;
        let (mut good, good_id) = bench.client().await;
        let chunk = [7; 50_000];
        let mut asked = 0_u64;
        while !bench.seen.iter().any(|seen| matches!(seen, Seen::Closed(..))) {
            bench.write(connection, &chunk);
            asked += 50_000;
            bench.apply();
            assert!(asked < 1 << 30, "it was never closed");
            assert!(bench.metric("link_output_waiting_bytes{link=\"acquirer\"}") <= 100_000);
            tokio::task::yield_now().await;
            bench.take();
        }
        let written = bench.seen.iter().rev().find_map(|seen| match seen {
            Seen::Written(_, total) => Some(*total),
            _ => None,
        });
        let (reason, begun) = bench.closed(connection).await;
        assert_eq!(reason, CloseReason::OutputFull);
        assert_eq!(written, Some(begun), "a plain socket holds nothing back");
        assert!(begun < asked);
        assert_eq!(bench.metric("link_output_waiting_bytes{link=\"acquirer\"}"), 0);
        drop(client);
        good.write_all(&framed(b"still here")).await.unwrap();
        assert_eq!(bench.next_frame().await, (good_id, b"still here".to_vec()));
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_peer_that_stops_reading_is_closed_in_time_also_while_closing() {
    for (closing, expected) in
        [(None, CloseReason::OutputStalled), (Some(CloseReason::SignOnRefused), CloseReason::SignOnRefused)]
    {
        local(async {
            let mut bench = Bench::listening(|listener| listener.limits.output_bytes = 64 << 20);
            let (mut client, connection) = bench.client().await;
            client.write_all(&framed(b"hello")).await.unwrap();
            bench.next_frame().await;
            bench.write(connection, &vec![7; 32 << 20]);
            if let Some(reason) = closing {
                bench.close(connection, reason);
            }
            bench.apply();
            while bench.metric("link_output_waiting_bytes{link=\"acquirer\"}") == 32 << 20 {
                tokio::task::yield_now().await;
            }
            // While the kernel's buffers still fill, the time begins anew.
            while bench.links.connections() > 0 {
                bench.clock.advance(Duration::from_secs(10));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let (reason, begun) = bench.closed(connection).await;
            assert_eq!((reason, begun > 0), (expected, true));
        })
        .await;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_peer_that_reads_slowly_is_let_to() {
    local(async {
        let mut bench = Bench::listening(|listener| listener.limits.output_bytes = 64 << 20);
        let (mut client, connection) = bench.client().await;
        client.write_all(&framed(b"hello")).await.unwrap();
        bench.next_frame().await;
        bench.write(connection, &vec![7; 60 << 20]);
        bench.apply();
        let mut piece = vec![0; 8 << 20];
        for _ in 0..4 {
            let before = bench.metric("link_output_waiting_bytes{link=\"acquirer\"}");
            client.read_exact(&mut piece).await.unwrap();
            while bench.metric("link_output_waiting_bytes{link=\"acquirer\"}") >= before {
                tokio::task::yield_now().await;
            }
            bench.clock.advance(Duration::from_secs(6));
            // Time for the watch to look at it.
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        assert_eq!(bench.links.connections(), 1);
    })
    .await;
}

/// A window that stays shut is, to the kernel, the same as a peer that is no longer there.
#[tokio::test(flavor = "current_thread")]
async fn a_half_open_peer_is_given_up_by_the_operating_system() {
    local(async {
        let mut bench = Bench::listening(|listener| {
            listener.limits.output_bytes = 64 << 20;
            listener.limits.tcp_user_timeout = Duration::from_millis(50);
        });
        let (_client, connection) = bench.client().await;
        bench.write(connection, &vec![7; 32 << 20]);
        bench.apply();
        let (reason, begun) = bench.closed(connection).await;
        assert_eq!(reason, CloseReason::PeerUnreachable);
        assert!(begun < 32 << 20);
        assert_eq!(bench.closed_for(reason), 1);
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_peer_that_leaves() {
    local(async {
        let mut bench = Bench::listening(|_| {});
        let (client, connection) = bench.client().await;
        drop(client);
        assert_eq!(bench.closed(connection).await.0, CloseReason::PeerClosed);

        let (mut client, connection) = bench.client().await;
        client.write_all(&framed(b"half")[..4]).await.unwrap();
        drop(client);
        assert_eq!(bench.closed(connection).await.0, CloseReason::PeerClosedInFrame);

        let (client, connection) = bench.client().await;
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        assert_eq!(bench.closed(connection).await.0, CloseReason::ConnectionLost);
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn reading_waits_while_the_switch_does_not_take() {
    // What one read may add: frames of six bytes, in a buffer that is filled twice at most.
    for (bytes, events) in [(10_000, usize::MAX), (usize::MAX, 1_000)] {
        reading_waits(bytes, events, 20_386, 7_000).await;
    }
}

async fn reading_waits(bytes: usize, events: usize, more_bytes: usize, more_events: usize) {
    local(async {
        let mut config = LinksConfig::new(vec![listener()], vec![]);
        (config.inbox.bytes, config.inbox.events) = (bytes, events);
        let mut bench = Bench::start(config);
        let (mut client, _) = bench.client().await;
        let messages = 200_000_u32;
        let writing = tokio::task::spawn_local(async move {
            let wire: Vec<u8> = (0..messages).flat_map(|n| framed(&n.to_be_bytes())).collect();
            client.write_all(&wire).await.unwrap();
            client
        });
        while bench.metric("link_inbox_full_total") == 0 {
            tokio::task::yield_now().await;
        }
        for number in 0..messages {
            assert_eq!(bench.next_frame().await.1, number.to_be_bytes());
            let (held, waiting) = (bench.inbox.bytes.len(), bench.inbox.events.len());
            assert!(held < bytes.saturating_add(more_bytes), "{held} bytes");
            assert!(waiting < events.saturating_add(more_events), "{waiting} events");
        }
        writing.await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_listener_at_its_limit_serves_the_thousand_it_has_and_accepts_no_more() {
    const LIMIT: usize = 1_000;
    let mut files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    files.current = files.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, files).unwrap();
    local(async {
        let mut bench = Bench::listening(|listener| listener.connections = LIMIT);
        let mut clients = Vec::new();
        for _ in 0..LIMIT {
            clients.push(bench.client().await);
        }
        assert_eq!(bench.links.connections(), LIMIT);
        let mut waiting = Vec::new();
        for number in 0..5_u8 {
            let mut stream = bench.connect().await;
            stream.write_all(&framed(&[number])).await.unwrap();
            waiting.push(stream);
        }
        for (number, (client, _)) in (0_u16..).zip(&mut clients) {
            client.write_all(&framed(&number.to_be_bytes())).await.unwrap();
        }
        for _ in 0..LIMIT {
            let (connection, message) = bench.next_frame().await;
            bench.write(connection, &message);
        }
        bench.apply();
        for (number, (client, _)) in (0_u16..).zip(&mut clients) {
            let mut echo = [0; 2];
            client.read_exact(&mut echo).await.unwrap();
            assert_eq!(echo, number.to_be_bytes());
        }
        assert_eq!(bench.links.connections(), LIMIT, "those beyond the limit wait outside");
        assert_eq!(bench.metric("link_listener_full_total{listener=\"front\"}"), 1);
        assert_eq!(bench.metric("link_listener_connections{listener=\"front\"}"), 1_000);
        while !bench.seen.is_empty() {
            assert!(matches!(bench.next().await, Seen::Written(..)));
        }
        clients.truncate(LIMIT - waiting.len());
        let mut came = 0;
        while came < waiting.len() {
            if let Seen::Frame(_, message) = bench.next().await {
                assert!(usize::from(message[0]) < waiting.len());
                came += 1;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn who_may_connect_and_how_often() {
    local(async {
        let mut bench = Bench::listening(|listener| {
            let elsewhere =
                Party { peers: vec!["192.0.2.1".parse().unwrap()], ..listener.parties[0].clone() };
            listener.parties = vec![elsewhere];
        });
        let mut client = bench.connect().await;
        assert!(ends(&mut client).await);
        assert_eq!(bench.refused_for(CloseReason::AddressNotAllowed), 1);

        bench = Bench::listening(|listener| {
            let mut here = listener.parties[0].clone();
            here.peers = vec!["127.0.0.1".parse().unwrap()];
            here.connections = 1;
            let issuer = Party { link: ISSUER, ..listener.parties[0].clone() };
            listener.parties = vec![here, issuer];
        });
        let (first, connection) = bench.client().await;
        let mut second = bench.connect().await;
        assert!(ends(&mut second).await);
        assert_eq!(bench.refused_for(CloseReason::TooManyConnections), 1);
        drop(first);
        bench.closed(connection).await;
        bench.client().await;
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn dialling() {
    local(async {
        let issuer = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = issuer.local_addr().unwrap();
        let closed_port = {
            let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
            gone.local_addr().unwrap()
        };
        let mut bench = Bench::dialling(|config| config.addresses = vec![address, closed_port]);
        let id = |number| ConnectionId::dialled(ISSUER, number);
        bench.dial(0, id(0));
        bench.apply();
        let (mut server, _) = issuer.accept().await.unwrap();
        assert_eq!(bench.next().await, Seen::Opened(id(0), ISSUER));
        bench.write(id(0), &framed(b"0800"));
        bench.apply();
        assert_eq!(bench.next().await, Seen::Written(id(0), 6));
        let mut request = [0; 6];
        server.read_exact(&mut request).await.unwrap();
        server.write_all(&framed(b"0810")).await.unwrap();
        assert_eq!(bench.next_frame().await, (id(0), b"0810".to_vec()));

        bench.dial(1, id(1));
        bench.dial(2, id(2));
        bench.dial(0, id(3));
        bench.close(id(3), CloseReason::ShuttingDown);
        let unknown = ConnectionId::dialled(ACQUIRER, 0);
        bench.outbox.commands.push(LinkCommand::Dial { link: ACQUIRER, address: 0, connection: unknown });
        bench.apply();
        let mut failed = vec![bench.next().await, bench.next().await, bench.next().await, bench.next().await];
        failed.sort_by_key(|seen| match seen {
            Seen::DialFailed(connection, _) => connection.0,
            other => panic!("{other:?} where a failure was expected"),
        });
        let refused = |connection| Seen::DialFailed(connection, CloseReason::DialRefused);
        let called_off = Seen::DialFailed(id(3), CloseReason::ShuttingDown);
        assert_eq!(failed, [refused(unknown), refused(id(1)), refused(id(2)), called_off]);
        let failures = "link_dials_failed_total{link=\"issuer\",reason=\"dial-refused\"}";
        assert_eq!(bench.metric(failures), 2);
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_address_in_use_stops_the_start_and_is_named() {
    local(async {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut bad = listener();
        bad.address = taken.local_addr().unwrap();
        let config = LinksConfig::new(vec![bad.clone(), listener(), bad], vec![]);
        let clock = Clock::Manual(ManualClock::at(Wall(0)));
        let Err(errors) = Links::start(config, clock, &mut Registry::default()) else {
            panic!("it started on an address in use")
        };
        assert_eq!(errors.len(), 2, "all faults are named");
        assert!(errors[0].to_string().starts_with("listener `front`: cannot listen at 127.0.0.1:"));
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn no_new_connections_after_stop_accepting() {
    local(async {
        let mut bench = Bench::listening(|_| {});
        let address = bench.address();
        let (mut client, connection) = bench.client().await;
        bench.links.stop_accepting();
        tokio::task::yield_now().await;
        assert!(TcpStream::connect(address).await.is_err());
        client.write_all(&framed(b"drain")).await.unwrap();
        assert_eq!(bench.next_frame().await, (connection, b"drain".to_vec()));
    })
    .await;
}

/// A switch that listens with TLS and dials itself.
fn with_tls(server: TlsServer, client: TlsClient, change: impl FnOnce(&mut ListenerConfig)) -> Bench {
    let mut front = listener();
    front.tls = Some(server);
    change(&mut front);
    // The port is known only once it listens, so the one to dial is asked for first.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    front.address = port.local_addr().unwrap();
    drop(port);
    let mut back = issuer();
    back.addresses = vec![front.address];
    back.tls = Some((client, ServerName::try_from("switch.test").unwrap()));
    Bench::start(LinksConfig::new(vec![front], vec![back]))
}

#[tokio::test(flavor = "current_thread")]
async fn links_over_tls_carry_frames_both_ways() {
    let ours = Authority::new();
    let (server_id, client_id) = (ours.identity("switch.test"), ours.identity("acquirer.test"));
    let server = TlsServer::new(identity(&server_id), Some(&ours.pem())).unwrap();
    let client = TlsClient::new(&ours.pem(), Some(identity(&client_id))).unwrap();
    local(async {
        let mut bench = with_tls(server, client, |_| {});
        let (near, far) = (ConnectionId::dialled(ISSUER, 0), ConnectionId::accepted(0));
        bench.dial(0, near);
        bench.apply();
        let mut opened = [bench.next().await, bench.next().await];
        opened.sort_by_key(|seen| *seen != Seen::Opened(near, ISSUER));
        assert_eq!(opened, [Seen::Opened(near, ISSUER), Seen::Opened(far, ACQUIRER)]);
        let message = vec![5; 3_000];
        for (from, to) in [(near, far), (far, near)] {
            for _ in 0..100 {
                bench.write(from, &framed(&message));
            }
            bench.apply();
            let (mut frames, mut written) = (0, 0);
            while frames < 100 || written < 300_200 {
                match bench.next().await {
                    Seen::Frame(connection, bytes) => {
                        assert_eq!((connection, &bytes), (to, &message));
                        frames += 1;
                    }
                    Seen::Written(connection, total) => {
                        assert_eq!(connection, from);
                        written = total;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(written, 300_200);
        }
        bench.close(near, CloseReason::ShuttingDown);
        bench.apply();
        assert_eq!(bench.closed(near).await, (CloseReason::ShuttingDown, 300_200));
        assert_eq!(bench.closed(far).await, (CloseReason::PeerClosed, 300_200));
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_slow_peer_has_read_over_tls_is_reported_while_more_waits() {
    const ALL: usize = 32 << 20;
    let ours = Authority::new();
    let (server_id, client_id) = (ours.identity("switch.test"), ours.identity("acquirer.test"));
    let server = TlsServer::new(identity(&server_id), Some(&ours.pem())).unwrap();
    let client = TlsClient::new(&ours.pem(), Some(identity(&client_id))).unwrap();
    local(async {
        let mut bench = Bench::listening(|listener| {
            listener.tls = Some(server);
            listener.limits.output_bytes = 2 * ALL;
        });
        let stream = bench.connect().await;
        let name = ServerName::try_from("switch.test").unwrap();
        let mut peer = client.connector().connect(name, stream).await.unwrap();
        let Seen::Opened(connection, ACQUIRER) = bench.next().await else { panic!("it is not let in") };
        bench.write(connection, &vec![7; ALL]);
        bench.apply();
        let mut piece = vec![0; 4 << 20];
        let (mut read, mut written) = (0, 0);
        for _ in 0..4 {
            peer.read_exact(&mut piece).await.unwrap();
            read += 4 << 20;
            bench.take();
            while let Some(seen) = bench.seen.pop_front() {
                let Seen::Written(_, total) = seen else { panic!("{seen:?}") };
                written = total;
            }
            assert!(written >= read, "{written} of {read} bytes that were read");
        }
        assert!(bench.metric("link_output_waiting_bytes{link=\"acquirer\"}") > 0, "more waits");
        drop(peer);
        let (_, begun) = bench.closed(connection).await;
        assert!((written..ALL as u64).contains(&begun), "{begun}");
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn peers_that_fail_the_tls_handshake_never_become_connections() {
    let (ours, strangers) = (Authority::new(), Authority::new());
    let server_id = ours.identity("switch.test");
    let server = TlsServer::new(identity(&server_id), Some(&ours.pem())).unwrap();
    let trusted = TlsClient::new(&ours.pem(), None).unwrap();
    let distrustful = TlsClient::new(&strangers.pem(), None).unwrap();
    local(async {
        let mut bench = with_tls(server.clone(), distrustful, |_| {});
        let id = ConnectionId::dialled(ISSUER, 0);
        bench.dial(0, id);
        bench.apply();
        assert_eq!(bench.next().await, Seen::DialFailed(id, CloseReason::TlsHandshakeFailed));

        let mut plain = bench.connect().await;
        plain.write_all(&framed(b"0800 in the clear")).await.unwrap();
        while bench.refused_for(CloseReason::TlsHandshakeFailed) < 2 {
            tokio::task::yield_now().await;
        }

        let bench = with_tls(server, trusted, |front| front.limits.handshake = Duration::from_millis(20));
        let _silent = bench.connect().await;
        while bench.refused_for(CloseReason::TlsHandshakeTooSlow) < 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(bench.links.connections(), 0);
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn with_tls_the_certificate_says_whose_connection_it_is() {
    let ours = Authority::new();
    let server_id = ours.identity("switch.test");
    let clients: Vec<_> = ["one.test", "two.test", "three.test"].map(|name| ours.identity(name)).into();
    let digest = |number: usize| vec![CertificateDigest::of_pem(&clients[number].0).unwrap()];
    let server = TlsServer::new(identity(&server_id), Some(&ours.pem())).unwrap();
    local(async {
        for (number, expected) in [(0, Some(LinkId(10))), (1, Some(LinkId(11))), (2, None)] {
            let client = TlsClient::new(&ours.pem(), Some(identity(&clients[number]))).unwrap();
            let mut bench = with_tls(server.clone(), client, |front| {
                let any = front.parties[0].clone();
                let party =
                    |link, number| Party { link: LinkId(link), certificates: digest(number), ..any.clone() };
                front.parties = vec![party(10, 0), party(11, 1)];
            });
            let id = ConnectionId::dialled(ISSUER, 0);
            bench.dial(0, id);
            bench.apply();
            assert_eq!(bench.next().await, Seen::Opened(id, ISSUER));
            let next = bench.next().await;
            match expected {
                Some(link) => assert_eq!(next, Seen::Opened(ConnectionId::accepted(0), link)),
                None => {
                    assert!(matches!(next, Seen::Closed(..)), "{next:?}");
                    assert_eq!(bench.refused_for(CloseReason::CertificateNotAllowed), 1);
                }
            }
        }
    })
    .await;
}
