//! Nothing that must not be written down is written down, and no PAN of a token crosses to the acquirer's side: the
//! real program runs with its log at trace, and then every byte that it left behind is searched.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokenswitch::codec::{DataElement, Dialect, Message, decode, encode, shipped_dialects};
use tokenswitch::sim::test_cards;
use tokenswitch::stdx::clock::Clock;
use tokenswitch::vocab::{Bin, Mti, YearMonth};

use crate::daemon::{Daemon, PROGRAM, init};
use crate::metrics::get;

/// What the demo's cards are drawn from.
const DEMO_SEED: u64 = 2026;
const DEMO_TOKENS: usize = 40;

const PAN: &[u8] = b"4761739001010119";
/// Card verification value and PIN verification value of a track: digits that stand nowhere else.
const DISCRETIONARY: &str = "7319055284637";
const PIN_BLOCK: [u8; 8] = [0x04, 0x5A, 0xC7, 0x91, 0x3E, 0xB6, 0x28, 0xDF];

#[test]
fn the_demo_leaves_no_card_number_behind() {
    let kept = tempfile::tempdir().unwrap();
    let directory = kept.path().join("demo");
    let (out, log) = (kept.path().join("demo.out"), kept.path().join("demo.log"));
    let status = Command::new(PROGRAM)
        .args(["demo", "--log", "--seconds", "1", "--connections", "2", "--outstanding", "4"])
        .args(["--tokens", &DEMO_TOKENS.to_string()])
        .arg("--directory")
        .arg(&directory)
        .env("TOKENSWITCH_LOG", "trace")
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(std::fs::File::create(&log).unwrap())
        .status()
        .unwrap();
    let shown = std::fs::read_to_string(&out).unwrap();
    assert!(status.success(), "{shown}");
    // Of what stands side by side, no name is cut.
    let label = |line: &str| line.chars().take(23).collect::<String>();
    assert!(shown.lines().all(|line| !label(line).contains('…')), "{shown}");

    let bins = ["476173", "622848"].map(|bin| Bin::parse(bin.as_bytes()).unwrap());
    let from = YearMonth::of(Clock::system().now().wall);
    let cards = test_cards(DEMO_SEED, &bins, 16, from, DEMO_TOKENS + 2);
    let first = std::str::from_utf8(cards[0].pan.expose_digits()).unwrap();
    assert!(shown.contains(&first[12..]), "the demo plays with other cards than this test looks for");

    let mut search = Search::default();
    for card in &cards {
        search.digits("a PAN", card.pan.expose_digits());
    }
    search.files_of(kept.path());
    search.has_found_nothing();
}

#[test]
fn card_data_of_every_kind_stays_where_it_belongs() {
    let kept = tempfile::tempdir().unwrap();
    let dialect = Arc::new(dialect());
    let issuer = issuer(&dialect, |_| Vec::new());
    let config = init(&kept.path().join("switch"), [issuer.as_str(), "127.0.0.1:9"]);
    let daemon = Daemon::start(&config);
    let api = Api {
        address: daemon.addresses["api"].clone(),
        credential: std::fs::read_to_string(config.with_file_name("requestor.credential")).unwrap(),
    };
    let mut by_pan = Acquirer::connect(&daemon, &dialect);
    let mut by_token = Acquirer::connect(&daemon, &dialect);

    let pan = text(PAN);
    let (status, told) = api.post(&format!(r#"{{"pan": "{pan}", "panExpiry": "2912"}}"#));
    assert_eq!(status, 201, "{told}");
    let body: Value = serde_json::from_str(&told).unwrap();
    let (token, expiry) = (body["token"].as_str().unwrap(), body["tokenExpiry"].as_str().unwrap());

    by_pan.waits_for_the_issuer();
    // What goes through, with tracks and without.
    assert_eq!(by_pan.pays(&with_tracks(&payment(PAN, b"2912"), PAN, "2912")), "00");
    let paid = payment(token.as_bytes(), expiry.as_bytes());
    assert_eq!(by_token.pays(&paid), "00");
    assert_eq!(by_token.pays(&with_tracks(&paid, token.as_bytes(), expiry)), "00");
    // What is refused: a PIN block, tracks and a chip that name the PAN beside the token.
    assert_eq!(by_pan.pays(&set(&payment(PAN, b"2912"), &[(52, &PIN_BLOCK)])), "96");
    assert_eq!(by_token.pays(&set(&paid, &[(52, &PIN_BLOCK)])), "96");
    assert_eq!(by_token.pays(&with_tracks(&paid, PAN, "2912")), "30");
    let chip = [&[0x5A, 0x08], hex::decode(text(PAN)).unwrap().as_slice()].concat();
    assert_eq!(by_token.pays(&set(&paid, &[(55, &chip)])), "30");
    by_pan.sends_garbage(PAN);
    // The API says no without repeating what it was sent.
    let mut said = told;
    for body in [
        format!(r#"{{"pan": "{pan}", "panExpiry": "2912", "note": "{pan}"}}"#),
        format!(r#"{{"pan": "{pan}0", "panExpiry": "{pan}"}}"#),
        format!(r#"{{"{pan}": 1, "pan": {pan}}}"#),
        format!(r#"{{"pan": "{pan}""#),
    ] {
        let (status, problem) = api.post(&body);
        assert!((400..500).contains(&status), "{status} {problem}");
        said.push_str(&problem);
    }
    let monitors = ["/metrics", "/health", "/ready"].map(|path| get(&daemon.addresses["admin"], path).2);
    daemon.stop();

    let mut search = Search::default();
    search.digits("the PAN", PAN);
    search.digits("the tracks' verification values", DISCRETIONARY.as_bytes());
    search.bytes("the PIN block", &PIN_BLOCK);
    search.look_at("what the token's acquirer received", &by_token.received);
    search.look_at("what the API said", said.as_bytes());
    search.look_at("what monitors read", monitors.concat().as_bytes());
    search.files_of(kept.path());
    search.has_found_nothing();
}

#[test]
fn the_search_finds_what_it_looks_for() {
    let mut search = Search::default();
    search.digits("the PAN", PAN);
    search.bytes("the PIN block", &PIN_BLOCK);
    let packed = hex::decode(text(PAN)).unwrap();
    let mut shifted = packed.clone();
    for (at, byte) in shifted.iter_mut().enumerate() {
        *byte = packed[at] << 4 | packed.get(at + 1).map_or(0x0F, |next| next >> 4);
    }
    let ebcdic: Vec<u8> = PAN.iter().map(|digit| digit | 0xF0).collect();
    let hidden: [Vec<u8>; 9] = [
        PAN.to_vec(),
        ebcdic,
        packed.clone(),
        shifted,
        hex::encode(PAN).into_bytes(),
        STANDARD.encode(PAN).into_bytes(),
        STANDARD.encode([b"ab", PAN].concat()).into_bytes(),
        PIN_BLOCK.to_vec(),
        hex::encode_upper(PIN_BLOCK).into_bytes(),
    ];
    for (number, form) in hidden.iter().enumerate() {
        let before = search.found.len();
        search.look_at("a haystack", &[b"\x00\x01\x7F...".as_slice(), form, b"...\xFF"].concat());
        assert!(search.found.len() > before, "form {number} was not found");
    }
}

/// Looks for many things at once.
#[derive(Default)]
struct Search {
    /// By their first bytes.
    wanted: BTreeMap<[u8; 4], Vec<(&'static str, Vec<u8>)>>,
    found: Vec<String>,
}

impl Search {
    /// Digits, in every way in which they may lie in bytes.
    fn digits(&mut self, what: &'static str, digits: &[u8]) {
        self.bytes(what, digits);
        self.bytes(what, &digits.iter().map(|digit| digit | 0xF0).collect::<Vec<u8>>());
        for phase in 0..2 {
            let whole = &digits[phase..];
            let packed = hex::decode(text(&whole[..whole.len() / 2 * 2])).unwrap();
            self.want(what, packed.clone());
            self.base64(what, &packed);
        }
    }

    /// Bytes as they are, in hex and in base64.
    fn bytes(&mut self, what: &'static str, bytes: &[u8]) {
        self.want(what, bytes.to_vec());
        self.want(what, hex::encode(bytes).into_bytes());
        self.want(what, hex::encode_upper(bytes).into_bytes());
        self.base64(what, bytes);
    }

    /// The characters of base64 that do not depend on what stands before or behind, at each of three places.
    fn base64(&mut self, what: &'static str, bytes: &[u8]) {
        for skipped in 0..3 {
            // Six bits a character: those of the last one that the bytes do not fill are anything's.
            let rest = &bytes[skipped..];
            self.want(what, STANDARD.encode(rest).into_bytes()[..rest.len() * 8 / 6].to_vec());
        }
    }

    fn want(&mut self, what: &'static str, form: Vec<u8>) {
        self.wanted.entry(*form.first_chunk().unwrap()).or_default().push((what, form));
    }

    fn look_at(&mut self, place: &str, bytes: &[u8]) {
        for (at, start) in bytes.windows(4).enumerate().filter(|(_, start)| *start != [0; 4]) {
            for (what, form) in self.wanted.get(start).into_iter().flatten() {
                if bytes[at..].starts_with(form) {
                    self.found.push(format!("{what} in {place}, byte {at}, {} bytes long", form.len()));
                }
            }
        }
    }

    fn files_of(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                self.files_of(&entry.path());
            } else {
                let bytes = std::fs::read(entry.path()).unwrap();
                self.look_at(&entry.path().display().to_string(), &bytes);
            }
        }
    }

    fn has_found_nothing(&self) {
        let few: Vec<_> = self.found.iter().take(20).collect();
        assert!(self.found.is_empty(), "{} times: {few:#?}", self.found.len());
    }
}

/// A peer of the daemon that speaks ASCII and remembers all that it got.
pub(crate) struct Acquirer {
    stream: TcpStream,
    dialect: Arc<Dialect>,
    next: u32,
    pub(crate) received: Vec<u8>,
}

impl Acquirer {
    pub(crate) fn connect(daemon: &Daemon, dialect: &Arc<Dialect>) -> Self {
        let stream = TcpStream::connect(&daemon.addresses["acquirer-1"]).unwrap();
        let next = 1_000 * u32::from(stream.local_addr().unwrap().port() % 900);
        let mut acquirer = Self { stream, dialect: Arc::clone(dialect), next, received: Vec::new() };
        let sign_on = set(&Message::new(mti("0800")), &[(70, b"001")]);
        assert_eq!(acquirer.pays(&sign_on), "00");
        acquirer
    }

    /// Sends the message under a new number, and gives DE 39 of its answer.
    pub(crate) fn pays(&mut self, message: &Message) -> String {
        let message = self.numbered(message);
        text(self.asks(&message).get(DataElement::RESPONSE_CODE).unwrap()).to_owned()
    }

    /// The message under a new number, sent now.
    pub(crate) fn numbered(&mut self, message: &Message) -> Message {
        self.next += 1;
        let number = format!("{:06}", self.next);
        let now = Clock::system().now().wall;
        let sent_at = tokenswitch::vocab::SentAt(now.seconds()).transmission_time().digits();
        set(message, &[(7, &sent_at), (11, number.as_bytes())])
    }

    /// Sends the message as it is, and gives its answer.
    pub(crate) fn asks(&mut self, message: &Message) -> Message {
        send(&mut self.stream, &self.dialect, message);
        loop {
            let frame = receive(&mut self.stream).expect("the daemon closed the connection");
            self.received.extend_from_slice(&frame);
            let answer = decode(&self.dialect, &frame).unwrap();
            if answer.get(DataElement::STAN) == message.get(DataElement::STAN) {
                return answer;
            }
        }
    }

    /// Pays until the issuer is signed on.
    pub(crate) fn waits_for_the_issuer(&mut self) {
        let up = (0..3_000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            self.pays(&payment(PAN, b"2912")) != "91"
        });
        assert!(up, "the issuer never came up");
    }

    /// A frame that is no message and has a PAN in it; the daemon closes the connection over it.
    fn sends_garbage(&mut self, pan: &[u8]) {
        let frame = [b"0200FFFFFFFFFFFFFFFF16".as_slice(), pan, pan].concat();
        self.stream.write_all(&framed(&frame)).unwrap();
        assert_eq!(receive(&mut self.stream), None);
    }
}

/// What an issuer says besides that it approves.
pub(crate) type Says = fn(&Message) -> Vec<u8>;

/// An issuer that approves everything, with what it says to chips as DE 55; gives its address.
pub(crate) fn issuer(dialect: &Arc<Dialect>, to_chip: Says) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let dialect = Arc::clone(dialect);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let dialect = Arc::clone(&dialect);
            std::thread::spawn(move || approve(stream.unwrap(), &dialect, to_chip));
        }
    });
    address
}

fn approve(mut stream: TcpStream, dialect: &Dialect, to_chip: Says) {
    while let Some(frame) = receive(&mut stream) {
        let asked = decode(dialect, &frame).unwrap();
        let mut answer = Message::new(asked.mti().answer().unwrap());
        for element in asked.elements().filter(|element| dialect.echoes(asked.mti().class).has(*element)) {
            answer.set(element, asked.get(element).unwrap()).unwrap();
        }
        let said = to_chip(&asked);
        if !said.is_empty() {
            answer.set(DataElement::ICC, &said).unwrap();
        }
        send(&mut stream, dialect, &set(&answer, &[(39, b"00")]));
    }
}

/// The provisioning API, by hand.
pub(crate) struct Api {
    pub(crate) address: String,
    pub(crate) credential: String,
}

impl Api {
    /// Status and body of the answer.
    pub(crate) fn post(&self, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request = format!(
            "POST /v1/tokens HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nX-Request-Id: leaks\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            self.credential.trim_end(),
            body.len(),
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

pub(crate) fn dialect() -> Dialect {
    let (name, text) = shipped_dialects().iter().find(|(name, _)| *name == "iso87-ascii").unwrap();
    Dialect::from_toml(name, text).unwrap()
}

pub(crate) fn payment(account: &[u8], expiry: &[u8]) -> Message {
    set(
        &Message::new(mti("0200")),
        &[
            (2, account),
            (3, b"000000"),
            (4, b"000000001250"),
            (14, expiry),
            (18, b"5411"),
            (22, b"100"),
            (25, b"00"),
            (32, b"00000000042"),
            (41, b"TERM0001"),
            (42, b"LEAKSHOP       "),
            (49, b"978"),
        ],
    )
}

/// The same message with all three tracks of that account.
fn with_tracks(message: &Message, account: &[u8], expiry: &str) -> Message {
    let account = text(account);
    let track_1 = format!("B{account}^CARD/TEST^{expiry}201{DISCRETIONARY}");
    let track_2 = format!("{account}={expiry}201{DISCRETIONARY}");
    let track_3 = format!("01{account}={DISCRETIONARY}");
    set(message, &[(35, track_2.as_bytes()), (36, track_3.as_bytes()), (45, track_1.as_bytes())])
}

pub(crate) fn set(message: &Message, values: &[(u8, &[u8])]) -> Message {
    let mut message = message.clone();
    for (number, value) in values {
        message.set(DataElement::new(*number).unwrap(), value).unwrap();
    }
    message
}

fn mti(digits: &str) -> Mti {
    Mti::parse(digits.as_bytes()).unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn send(stream: &mut TcpStream, dialect: &Dialect, message: &Message) {
    let mut bytes = Vec::new();
    encode(dialect, message, &mut bytes).unwrap();
    // A daemon that is stopping may be gone.
    let _ = stream.write_all(&framed(&bytes));
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [length.as_slice(), bytes].concat()
}

/// The next frame; none at the end of the stream.
fn receive(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut frame = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut frame).ok()?;
    Some(frame)
}

#[test]
fn the_daemon_leaves_no_core_dump_where_its_host_would_take_one() {
    let kept = tempfile::tempdir().unwrap();
    let config = init(kept.path(), ["127.0.0.1:1", "127.0.0.1:2"]);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -S -c \"$(ulimit -H -c)\"; exec \"$@\"", "sh", PROGRAM]);
    let daemon = Daemon::start_by(command, &config);
    let limits = format!("/proc/{}/limits", daemon.pid().as_raw_nonzero());
    let limits = std::fs::read_to_string(limits).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>(), ["0", "0", "bytes"]);
    daemon.stop();
}
