//! P10 against the whole daemon: whatever a peer sends, it is counted under its name, and another acquirer's payments
//! go on.

use std::net::SocketAddr;
use std::path::Path;

use tokenswitch::cli::Shared;
use tokenswitch::codec::{DataElement, Dialect, Message, decode, encode};
use tokenswitch::config::Config;
use tokenswitch::sim::{
    AcquirerConfig, AcquirerSimulator, FaultPlan, Habits, IssuerSimulator, Patience, Payment, PresentedCard,
    test_cards, test_merchants,
};
use tokenswitch::stdx::clock::Clock;
use tokenswitch::vocab::{
    Amount, Bin, Currency, InstitutionId, Mti, Outcome, PosEntryMode, ProcessingCode, YearMonth,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::spawn_local;

use crate::daemon::{Daemon, init};
use crate::metrics::{Metrics, get};
use crate::players::{LOOK, PATIENCE, SEED, in_one_thread, issuer, until};

/// Another acquirer, on a listener of its own, that is waited for only briefly.
const BAD_ACQUIRER: &str = r#"
[[acquirer]]
id = 2
name = "bad-acquirer"
listen = "127.0.0.1:0"
dialect = "iso87-ascii"
framing = "binary-2"
frame_bytes = "1 KiB"
timeout = "30s"
max_connections = 20
sign_on_timeout = "2s"
idle = "1s"
echo_timeout = "200ms"
frame_timeout = "300ms"
output_bytes = "4 KiB"
"#;

/// Bad requests that are sent before their answers are read: these fit into `output_bytes`.
const BATCH: usize = 20;
/// Rounds of a thousand lines: some times as many as fill what waits for a reader of the log.
const ROUNDS: usize = 200;

/// The daemon, its issuers, and an acquirer that does everything right.
struct Scene {
    daemon: Daemon,
    good: Shared<AcquirerSimulator>,
    _issuers: Vec<Shared<IssuerSimulator>>,
    bad: SocketAddr,
}

impl Scene {
    async fn set_up(kept: &Path) -> Self {
        Self::with_daemon(kept, Daemon::start).await
    }

    async fn with_daemon(kept: &Path, start: fn(&Path) -> Daemon) -> Self {
        let listeners = [
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        ];
        let [first, second] = listeners.each_ref().map(|listener| listener.local_addr().unwrap().to_string());
        let path = init(&kept.join("switch"), [&first, &second]);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text + BAD_ACQUIRER).unwrap();
        let config = Config::load(&path).unwrap();
        let parties = config.issuers.iter().map(|issuer| &issuer.party);
        let issuers = parties.zip(listeners).map(|(party, listener)| issuer(party, listener)).collect();
        let daemon = tokio::task::spawn_blocking(move || start(&path)).await.unwrap();
        let address = |name: &str| daemon.addresses[name].parse::<SocketAddr>().unwrap();
        let good = good_acquirer(&config);
        spawn_local(good.clone().tick());
        spawn_local(good.clone().keep_dialled(address("acquirer-1")));
        until("sign-on", || good.look(|brain| brain.signed_on() == 1)).await;
        let bad = address("bad-acquirer");
        let scene = Self { daemon, good, _issuers: issuers, bad };
        while !scene.pays().await {}
        scene
    }

    /// Sends one good payment; whether it is approved.
    async fn pays(&self) -> bool {
        let payment = Payment {
            mti: Mti::parse(b"0200").unwrap(),
            card: 0,
            merchant: 0,
            processing: ProcessingCode::parse(b"000000").unwrap(),
            amount: Amount::new(100, Currency::from_letters("EUR").unwrap()),
            entry_mode: PosEntryMode::parse(b"012").unwrap(),
            original: None,
            remote: None,
        };
        let number = self.good.with(|brain, now, out| brain.pay(payment, now, out)).unwrap();
        let answer = || self.good.look(|brain| brain.book().payment(number).unwrap().answer);
        until("an answer", || answer().is_some()).await;
        tokio::time::sleep(LOOK).await;
        answer().unwrap().outcome == Outcome::Approved
    }

    async fn metrics(&self) -> Metrics {
        let admin = self.daemon.addresses["admin"].clone();
        tokio::task::spawn_blocking(move || Metrics::of(&admin)).await.unwrap()
    }

    /// Waits until a metric is more than it was.
    async fn counts(&self, case: &str, metric: (&str, &[(&str, &str)]), before: &Metrics) {
        let (name, labels) = metric;
        let was = before.value(name, labels);
        for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
            if self.metrics().await.value(name, labels) > was {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("{case}: {name} {labels:?} stays at {was}");
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.bad).await.unwrap()
    }

    /// A connection that has signed on.
    async fn signed_on(&self) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(&framed(&message("0800", &[(70, "001")]))).await.unwrap();
        let answer = mti_and_code(&read_frame(&mut stream).await);
        assert_eq!(answer, ("0810".into(), "00".into()));
        stream
    }
}

fn good_acquirer(config: &Config) -> Shared<AcquirerSimulator> {
    let party = &config.acquirers[0].party;
    let bins: Vec<Bin> = config.routes.iter().map(|route| route.bin).collect();
    let cards = test_cards(SEED, &bins, 16, YearMonth::of(Clock::system().now().wall), 2);
    let brain = AcquirerSimulator::new(AcquirerConfig {
        dialect: party.dialect.clone(),
        framing: party.framing,
        header: vec![0; party.framing.header_length()],
        institution: InstitutionId::parse(b"10000000001").unwrap(),
        merchants: test_merchants(SEED, 1),
        cards: cards.iter().map(PresentedCard::card).collect(),
        patience: Patience { answer: PATIENCE, ..Patience::default() },
        habits: Habits::default(),
        faults: FaultPlan::none(),
        seed: SEED,
        first_number: 0,
    });
    Shared::new(brain.unwrap(), party.framing, Clock::system())
}

/// A message in ASCII: a purchase that no issuer has unless `elements` say otherwise, or with DE 70 a network message.
pub(crate) fn message(mti: &str, elements: &[(u8, &str)]) -> Vec<u8> {
    let mut message = Message::new(Mti::parse(mti.as_bytes()).unwrap());
    let sent = tokenswitch::vocab::SentAt(Clock::system().now().wall.seconds()).transmission_time().digits();
    let sent = std::str::from_utf8(&sent).unwrap().to_owned();
    let purchase = [(2, "4000000000000002"), (3, "000000"), (4, "000000000100"), (22, "012"), (49, "978")];
    let usual: &[(u8, &str)] = if mti == "0800" { &[] } else { &purchase };
    for (number, value) in [(7, sent.as_str()), (11, "000001")].iter().chain(usual).chain(elements) {
        let element = DataElement::new(*number).unwrap();
        message.set(element, value.as_bytes()).unwrap();
    }
    let mut bytes = Vec::new();
    encode(&Dialect::shipped("iso87-ascii").unwrap(), &message, &mut bytes).unwrap();
    bytes
}

pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap();
    [&length.to_be_bytes(), message].concat()
}

pub(crate) async fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let length = stream.read_u16().await.unwrap();
    let mut frame = vec![0; usize::from(length)];
    stream.read_exact(&mut frame).await.unwrap();
    frame
}

/// What an answer is, and what it says in DE 39.
pub(crate) fn mti_and_code(frame: &[u8]) -> (String, String) {
    let answer = decode(&Dialect::shipped("iso87-ascii").unwrap(), frame).unwrap();
    let code = answer.get(DataElement::RESPONSE_CODE).unwrap_or_default();
    (answer.mti().to_string(), String::from_utf8_lossy(code).into_owned())
}

/// What arrives before the peer closes.
async fn until_closed(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await;
    // A reset is as good an end as any.
    let _ = read.expect("the daemon closes the connection");
    all
}

/// Whether the peer, having sent its bytes, ends its side of the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Ends,
    Waits,
}

#[test]
fn bytes_that_are_no_message_close_their_own_connection_and_are_counted() {
    let purchase = message("0200", &[]);
    let mut bitmap_of_letters = purchase.clone();
    bitmap_of_letters[4..20].copy_from_slice(b"ZZZZZZZZZZZZZZZZ");
    let mut bitmap_full = purchase.clone();
    bitmap_full[4..20].copy_from_slice(b"FFFFFFFFFFFFFFFF");
    let half = framed(&purchase)[..60].to_vec();
    let tls = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xFC, 0x03, 0x03].to_vec();
    let mut random = fastrand::Rng::with_seed(SEED);
    let garbage = framed(&std::iter::repeat_with(|| random.u8(..)).take(200).collect::<Vec<_>>());
    let cases = [
        ("a truncated frame", half.clone(), Then::Ends, "peer-closed-in-frame"),
        ("half a frame", half, Then::Waits, "frame-too-slow"),
        ("an oversized frame", vec![0xFF; 100], Then::Waits, "frame-too-long"),
        ("empty frames", vec![0; 4_000], Then::Waits, "keepalive-flood"),
        ("garbage", garbage, Then::Waits, "message-unanswerable"),
        ("a bitmap of letters", framed(&bitmap_of_letters), Then::Waits, "message-unanswerable"),
        ("a bitmap that promises too much", framed(&bitmap_full), Then::Waits, "message-unanswerable"),
        ("a TLS hello", tls, Then::Waits, "tls-on-plain-port"),
        ("an answer in place of a request", framed(b"0210"), Then::Waits, "message-unanswerable"),
    ];
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let scene = Scene::set_up(kept.path()).await;
        for (case, bytes, then, reason) in cases {
            let before = scene.metrics().await;
            let mut stream = scene.connect().await;
            let _ = stream.write_all(&bytes).await;
            if then == Then::Ends {
                stream.shutdown().await.unwrap();
            }
            assert!(until_closed(stream).await.is_empty(), "{case}: nothing is answered");
            let labels = [("link", "bad-acquirer"), ("reason", reason)];
            scene.counts(case, ("link_closed_total", &labels), &before).await;
            assert!(scene.pays().await, "{case}: somebody else's payment");
        }
        let daemon = scene.daemon;
        tokio::task::spawn_blocking(move || daemon.stop()).await.unwrap();
    });
}

#[test]
fn a_request_with_a_fault_is_answered_and_its_connection_stays() {
    let with = |elements: &[(u8, &str)]| message("0200", elements);
    // The last element, DE 49, cut off in the frame: what stands before it is enough to answer.
    let purchase = with(&[]);
    let cut = purchase[..purchase.len() - 2].to_vec();
    let mut bitmap = purchase.clone();
    // DE 52 is promised, behind everything else, and is not there.
    let last_half = u64::from_str_radix(std::str::from_utf8(&bitmap[4..20]).unwrap(), 16).unwrap() | 1 << 12;
    bitmap[4..20].copy_from_slice(format!("{last_half:016X}").as_bytes());
    let cases = [
        ("an element cut off", cut, "format-error", "30"),
        ("an element that is not there", bitmap, "format-error", "30"),
        (
            "a currency of letters",
            purchase[..purchase.len() - 3].iter().copied().chain(*b"EUR").collect(),
            "format-error",
            "30",
        ),
        ("an unknown processing code", with(&[(3, "990000")]), "unsupported-processing", "40"),
    ];
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let scene = Scene::set_up(kept.path()).await;
        let mut stream = scene.signed_on().await;
        for (case, bytes, refusal, code) in cases {
            let before = scene.metrics().await;
            stream.write_all(&framed(&bytes)).await.unwrap();
            let answer = mti_and_code(&read_frame(&mut stream).await);
            assert_eq!(answer, ("0210".into(), code.into()), "{case}");
            let labels = [("refusal", refusal)];
            scene.counts(case, ("switch_refused_total", &labels), &before).await;
            assert!(scene.pays().await, "{case}");
        }
        let daemon = scene.daemon;
        drop(stream);
        tokio::task::spawn_blocking(move || daemon.stop()).await.unwrap();
    });
}

#[test]
fn peers_that_say_nothing_or_read_nothing_hold_nobody_up() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let scene = Scene::set_up(kept.path()).await;
        let closed = |reason| [("link", "bad-acquirer"), ("reason", reason)];

        let before = scene.metrics().await;
        let silent = scene.connect().await;
        let half_open = scene.signed_on().await;
        scene.counts("never signed on", ("link_closed_total", &closed("sign-on-too-slow")), &before).await;
        scene.counts("gone without a word", ("link_closed_total", &closed("echoes-missed")), &before).await;
        assert!(scene.pays().await);
        drop((silent, half_open));

        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut greedy = socket.connect(scene.bad).await.unwrap();
        greedy.write_all(&framed(&message("0800", &[(70, "001")]))).await.unwrap();
        let requests = framed(&message("0200", &[])).repeat(500);
        let before = scene.metrics().await;
        let asks = spawn_local(async move {
            // Until the daemon has had enough.
            while greedy.write_all(&requests).await.is_ok() {}
        });
        assert!(scene.pays().await, "while it asks");
        tokio::time::timeout(PATIENCE, asks).await.expect("the daemon closes the connection").unwrap();
        scene.counts("reads nothing", ("link_closed_total", &closed("output-full")), &before).await;
        assert!(scene.pays().await);
        let daemon = scene.daemon;
        tokio::task::spawn_blocking(move || daemon.stop()).await.unwrap();
    });
}

#[test]
fn a_thousand_connections_get_no_more_places_than_there_are() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let scene = Scene::set_up(kept.path()).await;
        let before = scene.metrics().await;
        let mut crowd = Vec::new();
        for _ in 0..1_000 {
            // Past what the system holds for a listener a connection may be refused: that is an answer, too.
            let connecting = tokio::time::timeout(LOOK * 10, TcpStream::connect(scene.bad));
            crowd.extend(connecting.await.ok().and_then(Result::ok));
        }
        let listener = [("listener", "bad-acquirer")];
        scene.counts("full", ("link_listener_full_total", &listener), &before).await;
        let page = scene.metrics().await;
        let (taken, places) = (
            page.value("link_listener_connections", &listener),
            page.value("link_listener_connections_limit", &listener),
        );
        assert!(taken <= places && places == 20.0, "{taken} of {places}");
        assert!(scene.pays().await, "while they stand");
        drop(crowd);
        until_it_lets_in(&scene).await;
        let daemon = scene.daemon;
        tokio::task::spawn_blocking(move || daemon.stop()).await.unwrap();
    });
}

#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let scene = Scene::with_daemon(kept.path(), Daemon::start_unread).await;
        let mut stream = scene.signed_on().await;
        let purchase = message("0200", &[]);
        let bad = framed(&purchase[..purchase.len() - 2]).repeat(BATCH);
        let dropped = async || scene.metrics().await.value("log_lines_dropped_total", &[]);
        let mut rounds = 0..ROUNDS;
        while dropped().await == 0.0 {
            assert!(rounds.next().is_some(), "no line is dropped");
            let round = async {
                for _ in 0..1_000 / BATCH {
                    stream.write_all(&bad).await.unwrap();
                    for _ in 0..BATCH {
                        let answer = mti_and_code(&read_frame(&mut stream).await);
                        assert_eq!(answer, ("0210".into(), "30".into()));
                    }
                }
            };
            tokio::time::timeout(PATIENCE, round).await.expect("each bad request is answered");
        }
        for _ in 0..BATCH {
            assert!(scene.pays().await, "while the log stands still");
        }
        let admin = scene.daemon.addresses["admin"].clone();
        let health = tokio::task::spawn_blocking(move || get(&admin, "/health").0).await.unwrap();
        assert_eq!(health, 200);
        let daemon = scene.daemon;
        drop(stream);
        tokio::task::spawn_blocking(move || daemon.stop()).await.unwrap();
    });
}

/// There is room again for one who means it.
async fn until_it_lets_in(scene: &Scene) {
    let signing_on = tokio::time::timeout(PATIENCE, scene.signed_on()).await;
    signing_on.expect("a place is free again");
}
