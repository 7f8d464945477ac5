//! Step-up and notifications with the real daemon: a token that waits for its cardholder's proof, and receivers that
//! are dead, slow, refusing, and back again, over a kill of the daemon.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokenswitch::cli::{CREDENTIAL_FILE, HttpAnswer, HttpClient, Received, Shared, Webhook};
use tokenswitch::config::Config;
use tokenswitch::sim::{
    ApiCall, ApiMethod, EnquiryAnswer, EnquiryRule, FaultPlan, IssuerConfig, IssuerSimulator,
};
use tokenswitch::stdx::clock::Clock;
use tokenswitch::tsp::{PartyName, Receiver};
use tokenswitch::vocab::TokenRequestorId;
use tokio::net::TcpListener;
use tokio::task::spawn_local;

use crate::daemon::{Daemon, init};
use crate::players::{LOOK, PATIENCE, SEED, change, in_one_thread};

const PAN: &str = "4761739001010119";
const WALLET: &str = "00000000001";

pub(crate) struct World {
    pub(crate) config: PathBuf,
    credential: String,
    pub(crate) bank: Webhook,
    pub(crate) wallet: Webhook,
    _directory: tempfile::TempDir,
}

/// Waits for something to come about.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("waited in vain for {what}");
}

fn enquired_issuer(config: &Config, at: usize, listener: TcpListener, answer: EnquiryAnswer) {
    let party = &config.issuers[at].party;
    let brain = IssuerSimulator::new(IssuerConfig {
        dialect: party.dialect.clone(),
        framing: party.framing,
        header: vec![0; party.framing.header_length()],
        signs_on: false,
        rules: Vec::new(),
        enquiries: vec![EnquiryRule { ends: String::new(), answer }],
        faults: FaultPlan::none(),
        think: Duration::ZERO,
        seed: SEED,
    });
    let issuer = Shared::new(brain, party.framing, Clock::system());
    spawn_local(issuer.clone().tick());
    spawn_local(issuer.accept(listener));
}

impl World {
    /// A daemon's directory, an issuer of this manner, and a receiver for bank and wallet each.
    pub(crate) async fn set_up(answer: EnquiryAnswer) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let listeners = [TcpListener::bind(any).await.unwrap(), TcpListener::bind(any).await.unwrap()];
        let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap().to_string());
        let config = init(directory.path(), [&addresses[0], &addresses[1]]);
        let (bank, wallet) = (Webhook::start(any).await.unwrap(), Webhook::start(any).await.unwrap());
        let told =
            format!("name = \"issuer-1\"\napproval = \"ask\"\nnotify = \"http://{}/bank\"", bank.address());
        change(&config, "name = \"issuer-1\"\ndial", &format!("{told}\ndial"));
        let told = format!("id = \"{WALLET}\"\nnotify = \"http://{}/wallet\"", wallet.address());
        change(&config, &format!("id = \"{WALLET}\""), &told);
        let text = std::fs::read_to_string(&config).unwrap();
        let quick = "[notifications]\ntimeout = \"200ms\"\npause_least = \"20ms\"\npause_most = \"50ms\"\n";
        std::fs::write(&config, text + quick).unwrap();
        let loaded = Config::load(&config).unwrap_or_else(|faults| panic!("{faults}"));
        for (at, listener) in listeners.into_iter().enumerate() {
            enquired_issuer(&loaded, at, listener, answer);
        }
        let credential = std::fs::read_to_string(directory.path().join(CREDENTIAL_FILE)).unwrap();
        Self { config, credential: credential.trim().to_owned(), bank, wallet, _directory: directory }
    }

    async fn call(&self, daemon: &Daemon, path: &str, id: &str, body: Value) -> HttpAnswer {
        self.try_call(daemon, path, id, body).await.unwrap()
    }

    /// None where the daemon ended before it answered.
    pub(crate) async fn try_call(
        &self,
        daemon: &Daemon,
        path: &str,
        id: &str,
        body: Value,
    ) -> Option<HttpAnswer> {
        let http = HttpClient::new(daemon.addresses["api"].parse().unwrap(), PATIENCE).unwrap();
        let headers =
            vec![("authorization", format!("Bearer {}", self.credential)), ("x-request-id", id.to_owned())];
        let call = ApiCall { method: ApiMethod::Post, path: path.to_owned(), headers, body: Some(body) };
        http.call(&call).await.ok()
    }

    /// A token for a card; asked again for as long as its issuer is not there.
    async fn provision(&self, daemon: &Daemon, id: &str) -> Value {
        loop {
            let answer =
                self.call(daemon, "/v1/tokens", id, json!({ "pan": PAN, "panExpiry": "4912" })).await;
            if answer.body["code"] != "no-answer-from-issuer" {
                assert_eq!(answer.status, 201, "{:?}", answer.body);
                return answer.body;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Notifications in the order in which each came first, those of refused calls too: any may come again.
fn events(of: &[Received]) -> Vec<(u64, String, u64)> {
    let lists = of.iter().filter_map(|call| call.body["notifications"].as_array());
    let said = |it: &Value| {
        let event = it["event"].as_str().unwrap().to_owned();
        (it["sequence"].as_u64().unwrap(), event, it["version"].as_u64().unwrap())
    };
    let mut seen = std::collections::BTreeSet::new();
    lists.flatten().map(said).filter(|(sequence, ..)| seen.insert(*sequence)).collect()
}

fn is_signed(config: &Path, call: &Received, receiver: Receiver) {
    let security = Config::load(config).unwrap().security;
    let key = security.receiver_keys().key(&receiver.name()).unwrap();
    let signature = key.sign(&[call.timestamp.as_bytes(), b".", &call.bytes]);
    assert_eq!(call.signature, format!("v1={}", hex::encode(signature)));
}

#[test]
fn a_cardholder_proves_itself_and_everybody_is_told() {
    in_one_thread(async {
        let world = World::set_up(EnquiryAnswer::StepUp).await;
        let daemon = Daemon::start(&world.config);
        let token = world.provision(&daemon, "p").await;
        assert_eq!((&token["status"], &token["stepUp"]["triesLeft"]), (&json!("inactive"), &json!(3)));
        assert_eq!(token["stepUp"]["contacts"][0]["kind"], "text-message");
        let reference = token["tokenReference"].as_str().unwrap();
        let (codes, proof) =
            (format!("/v1/tokens/{reference}/codes"), format!("/v1/tokens/{reference}/proof"));
        let sent = world.call(&daemon, &codes, "c", json!({ "contact": 1 })).await;
        assert_eq!(sent.status, 200, "{:?}", sent.body);
        let code = until("the code", || world.bank.code_for(reference)).await;
        let wrong = if code.starts_with('0') { "100000" } else { "000000" };
        let refused = world.call(&daemon, &proof, "t1", json!({ "code": wrong })).await;
        assert_eq!((refused.status, &refused.body["code"]), (422, &json!("code-wrong")));
        let good = world.call(&daemon, &proof, "t2", json!({ "code": code })).await;
        assert_eq!((good.status, &good.body["status"]), (200, &json!("active")), "{:?}", good.body);
        assert_eq!(good.body["assuranceMethod"], "11");
        let bank = Receiver::Issuer(PartyName::parse("issuer", b"issuer-1").unwrap());
        for (webhook, receiver) in [
            (&world.wallet, Receiver::Requestor(TokenRequestorId::parse(WALLET.as_bytes()).unwrap())),
            (&world.bank, bank),
        ] {
            let told =
                until("two notifications", || Some(webhook.received()).filter(|it| events(it).len() >= 2))
                    .await;
            let words: Vec<_> =
                events(&told).into_iter().map(|(_, event, version)| (event, version)).collect();
            assert_eq!(words, [("issued".to_owned(), 1), ("activated".to_owned(), 2)]);
            told.iter().for_each(|call| is_signed(&world.config, call, receiver));
            let said = told.iter().map(|call| String::from_utf8_lossy(&call.bytes)).collect::<String>();
            assert!(!said.contains(PAN) && !said.contains(token["token"].as_str().unwrap()));
        }
        daemon.stop();
    });
}

#[test]
fn a_code_that_its_issuer_refuses_keeps_no_other_waiting() {
    in_one_thread(async {
        for (status, lost) in [(500, 0), (429, 0), (422, 1)] {
            let world = World::set_up(EnquiryAnswer::StepUp).await;
            let daemon = Daemon::start(&world.config);
            let (first, second) = (world.provision(&daemon, "p").await, world.provision(&daemon, "q").await);
            let [refused, taken] = [&first, &second].map(|token| token["tokenReference"].as_str().unwrap());
            world.bank.answer_apart(refused, status);
            let brought = |reference: &str| {
                let calls = world.bank.received();
                let of_token = |call: &&Received| call.body["tokenReference"] == reference;
                calls.iter().filter(of_token).count()
            };
            for reference in [refused, taken] {
                let path = format!("/v1/tokens/{reference}/codes");
                let sent = world.call(&daemon, &path, reference, json!({ "contact": 1 })).await;
                assert_eq!(sent.status, 200, "{:?}", sent.body);
                until("the code's call", || (brought(reference) > 0).then_some(())).await;
            }
            if lost == 0 {
                until("another call", || (brought(refused) > 2).then_some(())).await;
            }
            crate::metrics::until(&daemon, "notifications_codes_lost_total", &[], f64::from(lost)).await;
            assert!(lost == 0 || brought(refused) == 1, "{status}");
            daemon.stop();
        }
    });
}

#[test]
fn codes_of_before_a_start_are_counted_since_nobody_knows_whether_they_arrived() {
    in_one_thread(async {
        let world = World::set_up(EnquiryAnswer::StepUp).await;
        world.bank.answer_with(500, Duration::ZERO);
        let daemon = Daemon::start(&world.config);
        crate::metrics::until(&daemon, "notifications_codes_before_start", &[], 0.0).await;
        let token = world.provision(&daemon, "p").await;
        let path = format!("/v1/tokens/{}/codes", token["tokenReference"].as_str().unwrap());
        assert_eq!(world.call(&daemon, &path, "c", json!({ "contact": 1 })).await.status, 200);
        daemon.kill();
        let daemon = Daemon::start(&world.config);
        crate::metrics::until(&daemon, "notifications_codes_before_start", &[], 1.0).await;
        daemon.stop();
    });
}

#[test]
fn a_notification_that_is_refused_for_what_it_says_is_given_up_and_one_refused_otherwise_is_not() {
    in_one_thread(async {
        for (status, given_up) in [(422, 1.0), (400, 1.0), (404, 0.0), (401, 0.0)] {
            let world = World::set_up(EnquiryAnswer::Approve).await;
            let daemon = Daemon::start(&world.config);
            let first = world.provision(&daemon, "p").await["tokenReference"].as_str().unwrap().to_owned();
            until("the first token", || (!world.wallet.received().is_empty()).then_some(())).await;
            world.wallet.answer_apart(&first, status);
            let path = format!("/v1/tokens/{first}/suspend");
            assert_eq!(world.call(&daemon, &path, "s", json!({})).await.status, 200);
            let second = world.provision(&daemon, "q").await["tokenReference"].as_str().unwrap().to_owned();
            let calls =
                || world.wallet.received().into_iter().map(|call| String::from_utf8(call.bytes).unwrap());
            if given_up > 0.0 {
                let alone = |call: String| call.contains(&second) && !call.contains(&first);
                until("the one behind it", || calls().any(alone).then_some(())).await;
            } else {
                until("many calls", || {
                    (calls().filter(|call| call.contains(&first)).count() > 8).then_some(())
                })
                .await;
            }
            let label = ("receiver", format!("requestor-{WALLET}"));
            let label = [(label.0, label.1.as_str())];
            crate::metrics::until(&daemon, "notifications_refused_total", &label, given_up).await;
            daemon.stop();
        }
    });
}

#[test]
fn an_issuer_that_is_silent_or_says_no_is_told_apart() {
    in_one_thread(async {
        for (answer, status, code, recoverable) in [
            (EnquiryAnswer::Decline, 422, "declined-by-issuer", false),
            (EnquiryAnswer::Silent, 503, "no-answer-from-issuer", true),
        ] {
            let world = World::set_up(answer).await;
            change(&world.config, "approval = \"ask\"", "approval = \"ask\"\nenquiry_timeout = \"300ms\"");
            let daemon = Daemon::start(&world.config);
            let body = json!({ "pan": PAN, "panExpiry": "4912" });
            let refused = loop {
                let answer = world.call(&daemon, "/v1/tokens", "p", body.clone()).await;
                if status == 503 || answer.body["code"] != "no-answer-from-issuer" {
                    break answer;
                }
                tokio::time::sleep(LOOK).await;
            };
            assert_eq!((refused.status, &refused.body["code"]), (status, &json!(code)));
            assert_eq!(refused.body["recoverable"], recoverable);
            daemon.stop();
        }
    });
}

#[test]
fn receivers_that_are_dead_slow_or_refusing_get_all_of_it_in_order_over_a_kill() {
    in_one_thread(async {
        let world = World::set_up(EnquiryAnswer::Approve).await;
        // The wallet refuses, and the bank is slower than it is waited for.
        world.wallet.answer_with(500, Duration::ZERO);
        world.bank.answer_with(200, Duration::from_secs(1));
        let daemon = Daemon::start(&world.config);
        let token = world.provision(&daemon, "p").await;
        let reference = token["tokenReference"].as_str().unwrap();
        for verb in ["suspend", "resume"] {
            let path = format!("/v1/tokens/{reference}/{verb}");
            assert_eq!(world.call(&daemon, &path, verb, json!({})).await.status, 200);
        }
        until("calls that were refused", || (world.wallet.received().len() > 2).then_some(())).await;
        until("calls that took too long", || (world.bank.received().len() > 1).then_some(())).await;
        daemon.kill();
        for webhook in [&world.wallet, &world.bank] {
            webhook.answer_with(200, Duration::ZERO);
        }
        let before = [world.wallet.received().len(), world.bank.received().len()];
        let daemon = Daemon::start(&world.config);
        let path = format!("/v1/tokens/{reference}/unlink");
        assert_eq!(world.call(&daemon, &path, "unlink", json!({})).await.status, 200);
        let mut last = 0;
        for (webhook, seen) in [&world.wallet, &world.bank].into_iter().zip(before) {
            let told = until("all four", || {
                let told = events(&webhook.received()[seen..]);
                told.iter().any(|(_, event, _)| event == "deactivated").then_some(told)
            })
            .await;
            let words: Vec<_> = told.iter().map(|(_, event, _)| event.as_str()).collect();
            assert_eq!(words, ["issued", "suspended", "resumed", "deactivated"]);
            assert!(told.is_sorted_by(|a, b| a.0 < b.0 && a.2 < b.2), "{told:?}");
            last = webhook.received().len();
        }
        // What was taken and written down is not told again by the next life; of the last one the daemon may not have
        // heard yet that it was taken.
        daemon.stop();
        let daemon = Daemon::start(&world.config);
        let second = world.provision(&daemon, "q").await;
        let new = second["tokenReference"].clone();
        until("the second token", || {
            let of_new = world.bank.received()[last..]
                .iter()
                .any(|call| call.body["notifications"][0]["tokenReference"] == new);
            of_new.then_some(())
        })
        .await;
        let told = events(&world.bank.received()[last..]);
        let words: Vec<_> = told.iter().map(|(_, event, _)| event.as_str()).collect();
        assert!(matches!(words.as_slice(), ["issued"] | ["deactivated", "issued"]), "{words:?}");
        daemon.stop();
    });
}

#[test]
fn where_a_registration_says_its_requestor_is_told_from_then_on_also_after_a_kill() {
    in_one_thread(async {
        let world = World::set_up(EnquiryAnswer::Approve).await;
        let elsewhere = Webhook::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let daemon = Daemon::start(&world.config);
        let first = world.provision(&daemon, "p").await;
        until("the configured receiver", || (!world.wallet.received().is_empty()).then_some(())).await;
        let operator = std::fs::read_to_string(world.config.with_file_name("operator.credential")).unwrap();
        let operator = World { credential: operator.trim().to_owned(), ..world };
        let registration = |url: &str| {
            json!({
                "tokenRequestorId": WALLET, "name": "wallet", "entryModes": ["07", "10", "81"],
                "tokenLocation": "03", "notificationUrl": url,
            })
        };
        for (bad, status) in
            [("http://wallet.example/", 422), ("ftp://wallet.example/", 400), ("wallet", 400), ("", 400)]
        {
            let answer =
                operator.call(&daemon, "/v1/requestors", &format!("bad {bad}"), registration(bad)).await;
            assert_eq!((answer.status, &answer.body["field"]), (status, &json!("notificationUrl")), "{bad}");
        }
        let url = format!("http://{}/registered", elsewhere.address());
        let answer = operator.call(&daemon, "/v1/requestors", "r", registration(&url)).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        let credential = std::fs::read_to_string(operator.config.with_file_name(CREDENTIAL_FILE)).unwrap();
        let world = World { credential: credential.trim().to_owned(), ..operator };
        let before = world.wallet.received().len();
        let reference = first["tokenReference"].as_str().unwrap();
        let move_it = |verb: &str| (format!("/v1/tokens/{reference}/{verb}"), verb.to_owned());
        let (path, id) = move_it("suspend");
        assert_eq!(world.call(&daemon, &path, &id, json!({})).await.status, 200);
        let heard = |event: &'static str| {
            let elsewhere = &elsewhere;
            move || events(&elsewhere.received()).iter().any(|(_, it, _)| it == event).then_some(())
        };
        until("the registered receiver", heard("suspended")).await;
        let wallet = Receiver::Requestor(TokenRequestorId::parse(WALLET.as_bytes()).unwrap());
        is_signed(&world.config, &elsewhere.received()[0], wallet);
        daemon.kill();
        let daemon = Daemon::start(&world.config);
        let (path, id) = move_it("resume");
        assert_eq!(world.call(&daemon, &path, &id, json!({})).await.status, 200);
        until("the registered receiver, in another life", heard("resumed")).await;
        let told = events(&elsewhere.received());
        assert!(told.is_sorted_by(|a, b| a.0 < b.0 && a.2 < b.2), "{told:?}");
        assert_eq!(world.wallet.received().len(), before, "and nobody where the configuration says");
        daemon.stop();
    });
}
