//! The requestor API over a real socket, with the vault on a real journal.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokenswitch::api::{ApiConfig, ApiError, ApiServer, Operation, RateLimits, Surroundings, openapi};
use tokenswitch::crypto::{SecurityModule, credential_digest};
use tokenswitch::journal::{EntryNumber, Journal, JournalConfig, JournalSetup, RealDisk};
use tokenswitch::stdx::clock::Clock;
use tokenswitch::stdx::random::Entropy;
use tokenswitch::tsp::{
    Activation, CounterWindow, DomainControls, InitiationControls, JournalLog, LimitedKeyTerms, PanRange,
    Ports, RequestorLimits, StepUpLimits, TokenRange, TokenRequestor, TokenService, Tsp, TspConfig,
    TspLimits, WriterThread, log_watch,
};
use tokenswitch::vocab::{
    Bin, EntryMode, LinkId, ShardId, Text, TokenAssuranceMethod, TokenDomains, TokenLocation,
    TokenRequestorId, luhn_valid,
};

const MANY: NonZeroU32 = NonZeroU32::new(10_000).unwrap();

pub(crate) const PAN: &str = "4761739001010119";
pub(crate) const CREDENTIALS: [&str; 2] = ["first-credential", "second-credential"];

pub(crate) fn config() -> TspConfig {
    let product = Text::parse("product", b"credit").unwrap();
    let bin = |digits: &[u8]| Bin::parse(digits).unwrap();
    let requestor = |number: usize| TokenRequestor {
        id: TokenRequestorId::parse(format!("{number:011}").as_bytes()).unwrap(),
        name: Text::parse("name", b"wallet").unwrap(),
        credential: Some(credential_digest(CREDENTIALS[number].as_bytes())),
        controls: DomainControls {
            entry_modes: [EntryMode::CONTACTLESS_CHIP].into_iter().collect(),
            merchants: vec![],
            categories: vec![],
            most_amount: None,
            expiry_optional: false,
            chip_amount_binds: true,
            cryptogram_required: false,
            initiation: InitiationControls::default(),
            domains: TokenDomains::default(),
        },
        location: TokenLocation::DeviceStorage,
        assurances: vec![TokenAssuranceMethod::parse(b"01").unwrap()],
        activation: if number == 0 { Activation::AtIssue } else { Activation::Confirmed },
        locations: vec![],
        notification_url: Text::default(),
        limits: RequestorLimits::default(),
        shares_with: Vec::new(),
        wrapping_keys: Vec::new(),
    };
    TspConfig {
        token_ranges: vec![TokenRange {
            bin: bin(b"489537"),
            length: 16,
            product,
            validity_years: 3,
            cryptograms: None,
            checked_by_issuer: false,
        }],
        pan_ranges: vec![PanRange {
            bin: bin(b"476173"),
            product,
            controlled: true,
            issuer: Text::parse("issuer", b"bank").ok(),
        }],
        requestors: vec![requestor(0), requestor(1)],
        code: None,
        bin_controller: Text::parse("id", b"Q001").ok(),
        par_follows_account: true,
        counter_window: CounterWindow { behind: 8, ahead: 100 },
        resubmit_window: Duration::from_secs(60),
        cryptogram_lifetime: Duration::from_secs(900),
        consent_lifetime: Duration::from_secs(900),
        activate_within: Duration::from_secs(7 * 86_400),
        limited_keys: LimitedKeyTerms { payments: 10, lifetime: Duration::from_secs(900) },
        amount_tolerance: 0,
        approvals: Vec::new(),
        step_up: StepUpLimits::DEFAULT,
        receivers: Vec::new(),
        limits: TspLimits {
            capacity: 1000,
            control_sets: 8,
            remembered_requests: 1000,
            waiting_calls: 64,
            ..TspLimits::DEFAULT
        },
    }
}

pub(crate) fn api() -> ApiConfig {
    ApiConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        connections: 8,
        connections_per_address: 8,
        body_bytes: 4096,
        request_timeout: Duration::from_secs(60),
        clients: Vec::new(),
        rates: RateLimits {
            client_per_second: MANY,
            card_per_minute: MANY,
            device_per_minute: MANY,
            remembered: 1000,
        },
        surroundings: Surroundings { acquirers: vec![LinkId(1)], trusts_receivers: true },
    }
}

/// A vault with all that its journal in `directory` has.
pub(crate) fn vault(directory: &Path) -> (Journal, TokenService, WriterThread) {
    let module = SecurityModule::sample().unwrap();
    let (notifier, watch) = log_watch();
    let setup = JournalSetup {
        disk: Box::new(RealDisk::lock(File::open(directory).unwrap()).unwrap()),
        keys: module.journal_keys(),
        config: JournalConfig { segment_bytes: 1 << 20, min_free_bytes: 0, ..JournalConfig::default() },
        at_least: EntryNumber(0),
        entropy: Entropy::system(),
    };
    let (journal, _) = Journal::start(setup, move |durability| notifier.journal(&durability)).unwrap();
    let mut tsp = Tsp::new(config(), &module).unwrap();
    for entry in journal.reader(EntryNumber(1)).unwrap() {
        tsp.replay(&entry.unwrap()).unwrap();
    }
    let log = JournalLog::new(journal.appender(), ShardId(0), watch);
    let (service, writer) =
        TokenService::start(tsp, log, Clock::system(), Entropy::system(), Ports::none(&module)).unwrap();
    (journal, service, writer)
}

/// A TSP that can be stopped and started again on its directory.
pub(crate) struct Provider {
    journal: Journal,
    writer: WriterThread,
    server: ApiServer,
}

impl Provider {
    pub(crate) fn start(directory: &Path) -> Self {
        Self::limited(directory, |_| ())
    }

    pub(crate) fn limited(directory: &Path, change: impl FnOnce(&mut ApiConfig)) -> Self {
        let (journal, service, writer) = vault(directory);
        let mut api = api();
        change(&mut api);
        let server = ApiServer::start(
            &api,
            None,
            service,
            &config().requestors,
            &Clock::system(),
            &mut Registry::default(),
        )
        .unwrap();
        Self { journal, writer, server }
    }

    pub(crate) fn stop(self) {
        self.server.stop();
        self.writer.join();
        self.journal.close().unwrap();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// A request as requestor 0, with a request id of `id` unless that is empty.
    pub(crate) fn send(&self, method: &str, path: &str, id: &str, body: &Value) -> Reply {
        self.send_as(CREDENTIALS[0], method, path, id, body)
    }

    pub(crate) fn send_as(
        &self,
        credential: &str,
        method: &str,
        path: &str,
        id: &str,
        body: &Value,
    ) -> Reply {
        let mut head = format!("Authorization: Bearer {credential}\r\nContent-Type: application/json\r\n");
        if !id.is_empty() {
            head += &format!("X-Request-Id: {id}\r\n");
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        exchange(self.address(), method, path, &head, body.as_bytes())
    }

    pub(crate) fn provision(&self, id: &str) -> Value {
        let reply = self.send("POST", "/v1/tokens", id, &json!({ "pan": PAN, "panExpiry": "4912" }));
        assert_eq!(reply.status, 201, "{:?}", reply.body);
        reply.body
    }
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Value,
}

impl Reply {
    /// Status, code and field of a problem, after checking its shape.
    pub(crate) fn problem(&self) -> (u16, &str, Option<&str>) {
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        assert_eq!(self.body["status"], self.status);
        assert!(self.body["title"].is_string() && self.body["detail"].is_string());
        assert!(self.body["recoverable"].is_boolean());
        (self.status, self.body["code"].as_str().unwrap(), self.body["field"].as_str())
    }
}

/// One request on a connection of its own.
pub(crate) fn exchange(address: SocketAddr, method: &str, path: &str, head: &str, body: &[u8]) -> Reply {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}Content-Length: {length}\r\n\r\n"
    );
    raw(address, &[request.as_bytes(), body].concat())
}

fn raw(address: SocketAddr, bytes: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // A server that has heard enough may answer and close before all is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    let head = head.lines().skip(1).map(|line| line.to_owned() + "\n").collect::<String>().to_lowercase();
    Reply { status, head, body: serde_json::from_str(body).unwrap_or_default() }
}

#[test]
fn a_token_from_its_birth_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let provider = Provider::start(directory.path());
    let body = json!({ "pan": PAN, "panExpiry": "4912", "panSequenceNumber": "001",
        "assuranceMethod": "01", "tokenLocation": "02", "reason": "new phone" });
    let issued = provider.send("POST", "/v1/tokens", "1", &body);
    assert_eq!(issued.status, 201, "{:?}", issued.body);
    assert!(issued.head.contains("cache-control: no-store"));
    let token = issued.body;
    let number = token["token"].as_str().unwrap();
    assert!(number.starts_with("489537") && luhn_valid(number.as_bytes()));
    assert_eq!(
        (&token["panLastFour"], &token["assuranceMethod"], &token["tokenLocation"], &token["status"]),
        (&json!("0119"), &json!("01"), &json!("02"), &json!("active"))
    );
    assert!(token["par"].as_str().unwrap().starts_with("Q001"));
    assert!(!token.to_string().contains(&PAN[4..]), "no more of the PAN than four digits");
    let place = format!("/v1/tokens/{}", token["tokenReference"].as_str().unwrap());
    assert!(issued.head.contains(&format!("location: {place}")));
    let mut seen = provider.send("GET", &place, "", &Value::Null).body;
    let besides = ["controls", "controlsSetBy", "assuranceSetBy"].map(|name| seen[name].take());
    assert_eq!(besides, [Value::Null, Value::Null, json!("token-requestor")]);
    for (name, value) in token.as_object().unwrap() {
        assert_eq!(seen[name], *value, "{name}");
    }
    for (id, verb, body, status, suspenders, version) in [
        ("2", "suspend", json!({ "reason": "lost" }), "suspended", json!(["token-requestor"]), 2),
        (
            "3",
            "suspend",
            json!({ "causedBy": "cardholder" }),
            "suspended",
            json!(["token-requestor", "cardholder"]),
            3,
        ),
        (
            "3",
            "suspend",
            json!({ "causedBy": "cardholder" }),
            "suspended",
            json!(["token-requestor", "cardholder"]),
            3,
        ),
        ("4", "resume", json!({}), "suspended", json!(["cardholder"]), 4),
        ("5", "resume", json!({ "causedBy": "cardholder" }), "active", json!([]), 5),
        ("6", "unlink", json!({}), "deactivated", json!([]), 6),
        ("7", "unlink", json!({}), "deactivated", json!([]), 6),
    ] {
        let reply = provider.send("POST", &format!("{place}/{verb}"), id, &body);
        assert_eq!(reply.status, 200, "{verb} {:?}", reply.body);
        assert_eq!(
            (&reply.body["status"], &reply.body["suspendedBy"], &reply.body["version"]),
            (&json!(status), &suspenders, &json!(version))
        );
    }
    let revived = provider.send("POST", &format!("{place}/resume"), "8", &json!({}));
    assert_eq!(revived.problem(), (409, "status-does-not-allow", None));
    provider.stop();
}

#[test]
fn a_request_id_gets_one_answer_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut provider = Provider::start(directory.path());
    let first = provider.provision("same");
    for _ in 0..2 {
        assert_eq!(provider.provision("same"), first);
        let altered =
            provider.send("POST", "/v1/tokens", "same", &json!({ "pan": PAN, "panExpiry": "4811" }));
        assert_eq!(altered.problem(), (409, "request-id-reused", Some("X-Request-Id")));
        provider.stop();
        provider = Provider::start(directory.path());
    }
    assert_ne!(provider.provision("other")["token"], first["token"]);
    provider.stop();
}

#[test]
fn a_token_may_have_to_be_activated() {
    let directory = tempfile::tempdir().unwrap();
    let provider = Provider::start(directory.path());
    let body = json!({ "pan": PAN, "panExpiry": "4912" });
    let token = provider.send_as(CREDENTIALS[1], "POST", "/v1/tokens", "1", &body).body;
    assert_eq!(token["status"], "inactive");
    let place = format!("/v1/tokens/{}/activate", token["tokenReference"].as_str().unwrap());
    let active = provider.send_as(CREDENTIALS[1], "POST", &place, "2", &json!({})).body;
    assert_eq!(active["status"], "active");
    provider.stop();
}

#[test]
fn nobody_learns_anything_without_a_credential() {
    let directory = tempfile::tempdir().unwrap();
    let provider = Provider::start(directory.path());
    let reference = provider.provision("1")["tokenReference"].as_str().unwrap().to_owned();
    let known = format!("/v1/tokens/{reference}");
    for head in [
        "",
        "Authorization: Bearer wrong\r\n",
        "Authorization: Bearer \r\n",
        "Authorization: Basic first-credential\r\n",
        "Authorization: Bearer first-credential\r\nAuthorization: Bearer first-credential\r\n",
    ] {
        for path in ["/v1/tokens", known.as_str(), "/nowhere"] {
            let reply = exchange(provider.address(), "GET", path, head, b"");
            assert_eq!(reply.problem(), (401, "credential-required", None), "{head} {path}");
            assert!(reply.head.contains("www-authenticate: bearer"));
        }
    }
    // Somebody else's token is as unknown as none at all, and as what is no reference.
    for path in [known.as_str(), "/v1/tokens/00000000000000000000000000000000", "/v1/tokens/x"] {
        let reply = provider.send_as(CREDENTIALS[1], "GET", path, "", &Value::Null);
        assert_eq!(reply.problem(), (404, "unknown-token", None));
        let reply = provider.send_as(CREDENTIALS[1], "POST", &format!("{path}/unlink"), "2", &json!({}));
        assert_eq!(reply.problem(), (404, "unknown-token", None));
    }
    provider.stop();
}

#[test]
fn every_bad_request_is_told_its_field_and_nothing_of_what_it_sent() {
    let directory = tempfile::tempdir().unwrap();
    let provider = Provider::start(directory.path());
    let with = |name: &str, value: Value| {
        let mut body = json!({ "pan": PAN, "panExpiry": "4912" });
        body[name] = value;
        body.to_string()
    };
    let twice = format!(r#"{{"pan":"{PAN}","pan":"{PAN}","panExpiry":"4912"}}"#);
    for (body, expected) in [
        (String::new(), (400, "body-not-json", None)),
        (format!("\"{PAN}\""), (400, "body-not-json", None)),
        (format!(r#"{{"pan":"{PAN}""#), (400, "body-not-json", None)),
        (json!({}).to_string(), (400, "missing-field", Some("pan"))),
        (json!({ "pan": PAN }).to_string(), (400, "missing-field", Some("panExpiry"))),
        (with("pan", json!(4_761_739_001_010_119_u64)), (400, "invalid-field", Some("pan"))),
        (with("pan", json!("4761 7390 0101 0119")), (400, "invalid-field", Some("pan"))),
        (with("pan", json!("4761739001010118")), (422, "card-not-valid", Some("pan"))),
        (with("pan", json!("5413330089601109")), (422, "card-not-eligible", Some("pan"))),
        (with("panExpiry", json!("4913")), (400, "invalid-field", Some("panExpiry"))),
        (with("panExpiry", json!("2001")), (422, "card-expired", Some("panExpiry"))),
        (with("panSequenceNumber", json!(-1)), (400, "invalid-field", Some("panSequenceNumber"))),
        (with("reason", json!(null)), (400, "invalid-field", Some("reason"))),
        (
            with("reason", (0..100).fold(json!(1.5), |inner, _| json!([inner]))),
            (400, "invalid-field", Some("reason")),
        ),
        (format!("{}{}", "[".repeat(2000), "]".repeat(2000)), (400, "body-not-json", None)),
        (with("panSequenceNumber", json!("1")), (400, "invalid-field", Some("panSequenceNumber"))),
        (with("assuranceMethod", json!("12")), (422, "assurance-not-allowed", Some("assuranceMethod"))),
        (with("assuranceMethod", json!("15")), (400, "invalid-field", Some("assuranceMethod"))),
        (with("tokenLocation", json!("99")), (400, "invalid-field", Some("tokenLocation"))),
        (with("par", json!("short")), (400, "invalid-field", Some("par"))),
        (with("reason", json!("x".repeat(33))), (400, "invalid-field", Some("reason"))),
        (with("reason", json!(format!("for {PAN}"))), (422, "account-number-in-words", Some("reason"))),
        (with("cvv", json!("123")), (400, "unknown-field", Some("cvv"))),
        (with(PAN, json!("1")), (400, "unknown-field", None)),
        (twice, (400, "invalid-field", Some("pan"))),
        (with("reason", json!("x".repeat(5000))), (413, "body-too-long", None)),
    ] {
        let head = format!(
            "Authorization: Bearer {}\r\nContent-Type: application/json\r\nX-Request-Id: 1\r\n",
            CREDENTIALS[0]
        );
        let reply = exchange(provider.address(), "POST", "/v1/tokens", &head, body.as_bytes());
        assert_eq!(reply.problem(), expected, "{body}");
        assert!(!reply.body.to_string().contains("476173900101011"), "{:?}", reply.body);
    }
    let place = format!("/v1/tokens/{}/suspend", provider.provision("1")["tokenReference"].as_str().unwrap());
    for (body, expected) in [
        (json!({ "causedBy": "issuer" }), (400, "invalid-field", Some("causedBy"))),
        (json!({ "causedBy": 1 }), (400, "invalid-field", Some("causedBy"))),
        (json!({ "reason": "x".repeat(33) }), (400, "invalid-field", Some("reason"))),
        (json!({ "pan": PAN }), (400, "unknown-field", Some("pan"))),
        (json!([]), (400, "body-not-json", None)),
    ] {
        assert_eq!(provider.send("POST", &place, "2", &body).problem(), expected, "{body}");
    }
    let many: String = (0..40).map(|n| format!("\"m{n}\":1,")).collect();
    let head = format!(
        "Authorization: Bearer {}\r\nContent-Type: application/json\r\nX-Request-Id: 2\r\n",
        CREDENTIALS[0]
    );
    let body = format!("{{{many}\"end\":1}}");
    let reply = exchange(provider.address(), "POST", &place, &head, body.as_bytes());
    assert_eq!(reply.problem(), (400, "body-not-json", None), "more members than any request has");
    provider.stop();
}

#[test]
fn heads_paths_and_methods_that_are_wrong_are_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let provider = Provider::start(directory.path());
    let good = json!({ "pan": PAN, "panExpiry": "4912" });
    for (id, expected) in [
        ("", (400, "missing-field")),
        (&"x".repeat(65), (400, "invalid-field")),
        ("caf\u{e9}", (400, "invalid-field")),
        (PAN, (422, "account-number-in-words")),
        (&format!("retry {PAN} again"), (422, "account-number-in-words")),
    ] {
        let reply = provider.send("POST", "/v1/tokens", id, &good);
        assert_eq!(reply.problem(), (expected.0, expected.1, Some("X-Request-Id")));
    }
    let authorized = format!("Authorization: Bearer {}\r\nX-Request-Id: 1\r\n", CREDENTIALS[0]);
    let reply = exchange(provider.address(), "POST", "/v1/tokens", &authorized, b"{}");
    assert_eq!(reply.problem(), (415, "not-json", Some("Content-Type")));
    assert_eq!(
        provider.send("GET", "/v1/nothing", "", &Value::Null).problem(),
        (404, "no-such-resource", None)
    );
    for path in ["/v1/tokens/%ff", "/v1/requestors/%c3%28", "/v1/tokens/%ff/cards"] {
        let problem = provider.send("GET", path, "", &Value::Null);
        assert!(matches!(
            problem.problem(),
            (404, "no-such-resource", None) | (403, "operation-not-allowed", None)
        ));
    }
    assert_eq!(
        provider.send("DELETE", "/v1/tokens", "", &Value::Null).problem(),
        (405, "method-not-allowed", None)
    );
    let long = format!("{authorized}X-Long: {}\r\n", "x".repeat(64 << 10));
    assert_eq!(exchange(provider.address(), "GET", "/v1/tokens", &long, b"").status, 431);
    provider.stop();
}

#[test]
fn the_document_is_for_everybody_and_names_every_operation() {
    let directory = tempfile::tempdir().unwrap();
    let provider = Provider::start(directory.path());
    let reply = exchange(provider.address(), "GET", "/openapi.json", "", b"");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body.to_string(), serde_json::from_str::<Value>(&openapi()).unwrap().to_string());
    for path in reply.body["paths"].as_object().unwrap().values() {
        for (method, operation) in path.as_object().unwrap() {
            let name = operation["x-operation"]["name"].as_str().unwrap();
            assert!(Operation::from_name(name).is_some(), "{method} {name}");
            assert_eq!(operation["responses"]["default"]["content"].as_object().unwrap().len(), 1);
        }
    }
    provider.stop();
}

#[test]
fn past_a_rate_a_request_is_told_when_to_come_again() {
    let directory = tempfile::tempdir().unwrap();
    let slow = |api: &mut ApiConfig| {
        api.rates.card_per_minute = NonZeroU32::MIN;
        api.rates.device_per_minute = NonZeroU32::MIN;
    };
    let provider = Provider::limited(directory.path(), slow);
    provider.provision("1");
    let told = |reply: Reply| {
        assert_eq!(reply.problem(), (429, "too-many-requests", None));
        assert_eq!(reply.body["recoverable"], true);
        let wait = reply.head.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap();
        assert!((1..=60).contains(&wait.parse::<u32>().unwrap()), "{wait}");
    };
    told(provider.send("POST", "/v1/tokens", "1", &json!({ "pan": PAN, "panExpiry": "4912" })));
    // Another card; one device.
    let on_device = |pan: &str, id: &str| {
        provider.send("POST", "/v1/tokens", id, &json!({ "pan": pan, "panExpiry": "4912", "device": "d-1" }))
    };
    assert_eq!(on_device("4761739001010010", "2").status, 201);
    told(on_device("4761739001010127", "3"));
    let other = json!({ "pan": "4761739001010127", "panExpiry": "4912" });
    assert_eq!(provider.send("GET", "/v1/tokens/x", "", &other).status, 404, "only token requests count");
    provider.stop();
}

#[test]
fn a_body_that_does_not_come_is_its_senders_fault() {
    let directory = tempfile::tempdir().unwrap();
    let short = |api: &mut ApiConfig| api.request_timeout = Duration::from_millis(50);
    let provider = Provider::limited(directory.path(), short);
    let mut stream = TcpStream::connect(provider.address()).unwrap();
    let head = format!(
        "POST /v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nX-Request-Id: 1\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{{",
        CREDENTIALS[0]
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("\"code\":\"body-too-slow\""), "{answer}");
    provider.stop();
}

#[test]
fn garbage_and_silence_disturb_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let provider = Provider::start(directory.path());
    let hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xFC, 0x03, 0x03];
    for bytes in [&b"\r\n\r\n\r\n"[..], b"\0\0\0\0", &hello, b"GET / HTTP/9.9\r\n\r\n", &[0xFF; 1000]] {
        let mut stream = TcpStream::connect(provider.address()).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{answer:?}");
    }
    // Half a request, left standing, on all connections but one.
    let _half: Vec<TcpStream> = (0..7)
        .map(|_| {
            let mut stream = TcpStream::connect(provider.address()).unwrap();
            stream.write_all(b"POST /v1/tokens HTTP/1.1\r\nHost:").unwrap();
            stream
        })
        .collect();
    provider.provision("1");
    provider.stop();
}

#[test]
fn connections_past_the_limit_wait_their_turn() {
    let directory = tempfile::tempdir().unwrap();
    let provider = Provider::limited(directory.path(), |api| api.connections = 2);
    let silent = [(); 2].map(|()| TcpStream::connect(provider.address()).unwrap());
    let mut waits = TcpStream::connect(provider.address()).unwrap();
    write!(waits, "GET /openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    waits.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(waits.read(&mut [0]).is_err(), "it is answered though all places are taken");
    drop(silent);
    waits.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(waits.read(&mut [0]).unwrap(), 1, "its turn comes");
    drop(waits);
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..16)
            .map(|id| {
                scope.spawn({
                    let provider = &provider;
                    move || provider.provision(&id.to_string())
                })
            })
            .collect();
        let mut tokens: Vec<String> =
            asking.into_iter().map(|a| a.join().unwrap()["token"].to_string()).collect();
        tokens.sort();
        tokens.dedup();
        assert_eq!(tokens.len(), 16);
    });
    provider.stop();
}

#[test]
fn one_address_does_not_take_every_connection() {
    let directory = tempfile::tempdir().unwrap();
    let provider = Provider::limited(directory.path(), |api| {
        api.connections = 3;
        api.connections_per_address = 2;
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let silent: Vec<TcpStream> = (0..20)
        .map(|_| {
            let from = tokio::net::TcpSocket::new_v4().unwrap();
            from.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            let stream = runtime.block_on(from.connect(provider.address())).unwrap().into_std().unwrap();
            stream.set_nonblocking(false).unwrap();
            stream
        })
        .collect();
    // Those that were one too many were closed at once, before another address is served.
    for (number, mut stream) in silent.iter().enumerate().skip(2) {
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "{number} stands");
    }
    provider.provision("1");
    provider.stop();
}

#[test]
fn only_loopback_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let (_journal, service, writer) = vault(directory.path());
    let open = ApiConfig { listen: "0.0.0.0:0".parse().unwrap(), ..api() };
    let refused = ApiServer::start(
        &open,
        None,
        service,
        &config().requestors,
        &Clock::system(),
        &mut Registry::default(),
    );
    assert!(matches!(refused, Err(ApiError::NotLoopback(_))));
    writer.join();
}
