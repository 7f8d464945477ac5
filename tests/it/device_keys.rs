//! Keys of phones over the real daemon's API: what a public key must be, who can read what comes, that it is the same
//! after a kill, and that nothing of it is ever written down.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use tokenswitch::crypto::{MessageKey, MessageKeys};
use tokenswitch::stdx::clock::Wall;

use crate::daemon::{Daemon, init};
use crate::players::change;
use crate::provisioning::{PAN, Reply, exchange};

fn device(byte: u8) -> MessageKeys {
    MessageKeys::of_device(&[byte; 32]).unwrap()
}

fn jwk(key: &MessageKey) -> Value {
    json!({ "kty": "EC", "crv": "P-256", "x": key.x(), "y": key.y() })
}

/// A wallet before the daemon of this directory.
struct Wallet {
    address: SocketAddr,
    credential: String,
}

impl Wallet {
    fn before(daemon: &Daemon, config: &Path) -> Self {
        let credential = std::fs::read_to_string(config.with_file_name("requestor.credential")).unwrap();
        Self { address: daemon.addresses["api"].parse().unwrap(), credential: credential.trim().to_owned() }
    }

    fn post(&self, path: &str, id: &str, body: &Value) -> Reply {
        let head = format!(
            "Authorization: Bearer {}\r\nContent-Type: application/json\r\nX-Request-Id: {id}\r\n",
            self.credential
        );
        exchange(self.address, "POST", path, &head, body.to_string().as_bytes())
    }

    fn token(&self, id: &str) -> String {
        let issued = self.post("/v1/tokens", id, &json!({ "pan": PAN, "panExpiry": "4912" }));
        format!("/v1/tokens/{}", issued.body["tokenReference"].as_str().unwrap())
    }
}

/// What a device finds in an answer.
fn opened(device: &MessageKeys, reply: &Reply) -> Value {
    assert_eq!(reply.status, 201, "{:?}", reply.body);
    let clear = device.open(reply.body["wrappedKey"].as_str().unwrap(), Wall(0)).unwrap();
    serde_json::from_slice(&clear).unwrap()
}

#[test]
fn a_public_key_is_read_strictly_and_never_a_private_one() {
    let kept = tempfile::tempdir().unwrap();
    let config = init(&kept.path().join("here"), ["127.0.0.1:1", "127.0.0.1:1"]);
    let daemon = Daemon::start(&config);
    let wallet = Wallet::before(&daemon, &config);
    let place = wallet.token("1") + "/personalisation";
    let good = device(7);
    let key = good.newest().unwrap();
    let with = |name: &str, value: Value| {
        let mut key = jwk(key);
        key[name] = value;
        json!({ "key": key })
    };
    let other = device(8);
    let invalid = |field| (400, "invalid-field", Some(field));
    for (body, expected) in [
        (json!({}), (400, "missing-field", Some("key"))),
        (json!({ "key": "x" }), invalid("key")),
        (json!({ "key": { "kty": "EC" } }), (400, "missing-field", Some("key.crv"))),
        (with("kty", json!("RSA")), invalid("key.kty")),
        (with("crv", json!("P-384")), invalid("key.crv")),
        (with("x", json!("AA")), invalid("key.x")),
        (with("x", json!(format!("{}=", key.x()))), invalid("key.x")),
        (with("y", json!(key.x())), (422, "invalid-field", Some("key"))),
        (with("use", json!("sig")), invalid("key.use")),
        (with("alg", json!("RSA-OAEP-256")), invalid("key.alg")),
        (with("kid", json!(other.newest().unwrap().id())), (422, "invalid-field", Some("key.kid"))),
        (with("d", json!(key.x())), (400, "unknown-field", Some("key.d"))),
    ] {
        let reply = wallet.post(&place, "2", &body);
        assert_eq!(reply.problem(), expected, "{body}");
    }
    let mut whole = with("kid", json!(key.id()));
    whole["key"]["use"] = json!("enc");
    whole["key"]["alg"] = json!("ECDH-ES");
    opened(&good, &wallet.post(&place, "3", &whole));
    daemon.stop();
}

#[test]
fn what_was_given_is_the_same_after_a_kill_and_stands_nowhere_in_clear() {
    let kept = tempfile::tempdir().unwrap();
    let config = init(&kept.path().join("here"), ["127.0.0.1:1", "127.0.0.1:1"]);
    change(&config, "checkpoint = \"redb\"", "checkpoint = \"redb\"\nsegment_bytes = \"64 KiB\"");
    let mut daemon = Daemon::start(&config);
    let mut wallet = Wallet::before(&daemon, &config);
    let own = device(7);
    let body = json!({ "key": jwk(own.newest().unwrap()) });
    let (card, cloud) = (wallet.token("1"), wallet.token("2"));
    let asked = [
        (format!("{card}/personalisation"), "3"),
        (format!("{cloud}/limited-keys"), "4"),
        (format!("{cloud}/limited-keys"), "5"),
    ];
    let told: Vec<Value> =
        asked.iter().map(|(path, id)| opened(&own, &wallet.post(path, id, &body))).collect();
    assert_eq!((&told[1]["lastCounter"], &told[2]["firstCounter"]), (&json!(10), &json!(11)));
    let strange = json!({ "key": jwk(device(8).newest().unwrap()) });
    for (path, body, expected) in [
        (&asked[0].0, &strange, (409, "device-differs", Some("key"))),
        (&asked[1].0, &strange, (409, "device-differs", Some("key"))),
        (&format!("{card}/limited-keys"), &body, (409, "other-keys-given", None)),
        (&format!("{cloud}/personalisation"), &body, (409, "other-keys-given", None)),
    ] {
        assert_eq!(wallet.post(path, "6", body).problem(), expected, "{path}");
    }
    for life in 0..2 {
        if life == 1 {
            daemon.kill();
            daemon = Daemon::start(&config);
            wallet = Wallet::before(&daemon, &config);
        }
        for ((path, id), before) in asked.iter().zip(&told) {
            let reply = wallet.post(path, id, &body);
            assert!(device(8).open(reply.body["wrappedKey"].as_str().unwrap(), Wall(0)).is_err());
            assert_eq!(opened(&own, &reply), *before, "{path}");
        }
    }
    daemon.stop();
    let secrets: Vec<String> = told.iter().map(|told| told["key"].as_str().unwrap().to_owned()).collect();
    let searched = search(kept.path(), &secrets);
    assert!(searched > 5, "{searched} files");
}

/// Looks into every file for keys, in hex and as they are; gives how many files there are.
fn search(directory: &Path, secrets: &[String]) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            files += search(&entry.path(), secrets);
            continue;
        }
        files += 1;
        let bytes = std::fs::read(entry.path()).unwrap();
        for secret in secrets {
            let raw = hex::decode(secret).unwrap();
            for needle in [secret.as_bytes(), &raw] {
                let found = bytes.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle));
                assert!(!found, "a key stands in {}", entry.path().display());
            }
        }
    }
    files
}
