//! The audit trail: what the real daemon and `keys` leave in it, and that nothing in it can be altered, removed or
//! put elsewhere unseen.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tokenswitch::crypto::credential_digest;

use crate::daemon::{Daemon, PROGRAM, init};
use crate::players::change;
use crate::provisioning::{PAN, Reply, exchange};

/// Blocks of the journal begin at multiples of this, with this.
const ALIGNMENT: usize = 512;
const MAGIC: &[u8] = b"TSBK";
/// A time of which the last digit happens to be right.
const STAMP: &str = "20261123050501999";

pub(crate) fn audit(config: &Path, what: &[&str]) -> (bool, String) {
    let output = Command::new(PROGRAM).arg("audit").args(what).arg("--config").arg(config).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), said)
}

fn keys(config: &Path, arguments: &[&str]) {
    let status =
        Command::new(PROGRAM).arg("keys").args(arguments).arg("--config").arg(config).output().unwrap();
    assert!(status.status.success());
}

/// One POST as the requestor; its answer's body.
pub(crate) fn post(daemon: &Daemon, config: &Path, path: &str, id: &str, body: &Value) -> Value {
    let credential = std::fs::read_to_string(config.with_file_name("requestor.credential")).unwrap();
    post_as(&credential, daemon, path, id, body)
}

/// As `post`, with another's credential.
fn post_as(credential: &str, daemon: &Daemon, path: &str, id: &str, body: &Value) -> Value {
    let reply = sent(credential, daemon, path, id, body);
    assert!(reply.status < 300, "{:?}", reply.body);
    reply.body
}

/// As `post_as`, whatever the answer is.
fn sent(credential: &str, daemon: &Daemon, path: &str, id: &str, body: &Value) -> Reply {
    let head = format!(
        "Authorization: Bearer {}\r\nContent-Type: application/json\r\nX-Request-Id: {id}\r\n",
        credential.trim()
    );
    exchange(daemon.addresses["api"].parse().unwrap(), "POST", path, &head, body.to_string().as_bytes())
}

/// A journal with a token's life and a rotated key in it; the token's reference.
fn lived(config: &Path) -> String {
    let daemon = Daemon::start(config);
    let token = post(&daemon, config, "/v1/tokens", "r-1", &json!({ "pan": PAN, "panExpiry": "4912" }));
    let reference = token["tokenReference"].as_str().unwrap().to_owned();
    let suspend =
        json!({ "reason": "left in a taxi", "reasonCode": "device-lost", "causedBy": "cardholder" });
    post(&daemon, config, &format!("/v1/tokens/{reference}/suspend"), "r-2", &suspend);
    daemon.stop();
    keys(config, &["rotate", "--who", "alice"]);
    let out = config.with_file_name("handed.key").display().to_string();
    keys(config, &["receiver", "requestor-00000000001", "--out", &out, "--who", "bob"]);
    let daemon = Daemon::start(config);
    // Digits as many as a card's, and none of a card.
    post(&daemon, config, &format!("/v1/tokens/{reference}/unlink"), STAMP, &json!({}));
    daemon.stop();
    reference
}

#[test]
fn tokens_and_keys_are_told_with_who_for_whom_why_and_what_changed() {
    let kept = tempfile::tempdir().unwrap();
    let config = init(&kept.path().join("switch"), ["127.0.0.1:1", "127.0.0.1:1"]);
    let reference = lived(&config);
    let (done, told) = audit(&config, &["list"]);
    assert!(done, "{told}");
    let me =
        "who=token-requestor:00000000001 wish-of=token-requestor client=phone-wallet requestor=00000000001";
    for expected in [
        "key=vault-data what=use usage=data-sealing version=1",
        "made with the store",
        "key=vault-data what=use usage=data-sealing version=2",
        "who=\"alice\" made=20",
        "key=requestor-00000000001 what=hand-out usage=receiver-signing version=1 check=",
        "who=\"bob\" made=20",
        &format!("token={reference} what=issue before=none after=active/1 {me} request=\"r-1\""),
        &format!(
            "token={reference} what=suspend before=active/1 after=suspended/2/cardholder who=token-requestor:00000000001 wish-of=cardholder"
        ),
        "request=\"r-2\" why=device-lost words=\"left in a taxi\"",
        &format!(
            "token={reference} what=unlink before=suspended/2/cardholder after=deactivated/3 {me} request=\"{STAMP}\""
        ),
    ] {
        assert!(told.contains(expected), "no {expected:?} in\n{told}");
    }
    assert!(!told.contains(&PAN[6..]), "no card number:\n{told}");
    let (_, of_token) = audit(&config, &["list", "--token", &reference]);
    assert_eq!(of_token.lines().count(), 3, "{of_token}");
    let (whole, said) = audit(&config, &["verify"]);
    assert!(whole && said.contains("is whole"), "{said}");
}

#[test]
fn a_token_made_by_another_requestors_consent_tells_which() {
    let kept = tempfile::tempdir().unwrap();
    let config = init(&kept.path().join("switch"), ["127.0.0.1:1", "127.0.0.1:1"]);
    let digest = hex::encode(credential_digest(b"another"));
    let another = format!(
        "[[requestor]]\nid = \"00000000002\"\nname = \"shop\"\ncredential_digest = \"{digest}\"\n\
         entry_modes = [\"10\"]\nlocation = \"remote-storage\"\nassurances = []\n\n[api]"
    );
    change(&config, "[api]", &another);
    let daemon = Daemon::start(&config);
    let token = post(&daemon, &config, "/v1/tokens", "r-1", &json!({ "pan": PAN, "panExpiry": "4912" }));
    let reference = token["tokenReference"].as_str().unwrap();
    let place = format!("/v1/tokens/{reference}/consents");
    let given = post(&daemon, &config, &place, "r-2", &json!({ "tokenRequestorId": "00000000002" }));
    let consent = given["consent"].as_str().unwrap();
    let wanted = json!({ "sourceReference": reference, "consent": consent });
    post_as("another", &daemon, "/v1/tokens/from-token", "r-3", &wanted);
    daemon.stop();
    let (done, told) = audit(&config, &["list"]);
    let entry = told.lines().find(|line| line.contains(" what=consent ")).unwrap();
    assert!(done && entry.contains(&format!("token={reference}")), "{told}");
    assert!(entry.contains(" to=00000000002 until="), "{entry}");
    let number = entry.split_whitespace().next().unwrap();
    let made = format!(" from={reference} request=\"r-3\" consent=entry-{number}");
    assert!(told.lines().any(|line| line.contains(" what=issue ") && line.ends_with(&made)), "{told}");
    assert!(!told.contains(consent), "nobody learns to present it:\n{told}");
}

#[test]
fn what_was_refused_is_told_with_who_wanted_it_and_why() {
    let kept = tempfile::tempdir().unwrap();
    let config = init(&kept.path().join("switch"), ["127.0.0.1:1", "127.0.0.1:1"]);
    let digest = hex::encode(credential_digest(b"disputes"));
    let disputes = format!(
        "[[api.client]]\nname = \"disputes\"\nrole = \"operator\"\ncredential_digest = \"{digest}\"\n\
         operations = [\"detokenize-token\"]\n\n[admin]"
    );
    change(&config, "[admin]", &disputes);
    let daemon = Daemon::start(&config);
    let card = json!({ "pan": PAN, "panExpiry": "4912" });
    let token = post(&daemon, &config, "/v1/tokens", "r-1", &card);
    let reference = token["tokenReference"].as_str().unwrap();
    let credential =
        |who: &str| std::fs::read_to_string(config.with_file_name(format!("{who}.credential"))).unwrap();
    let dispute = json!({ "tokenReference": reference, "purpose": "dispute" });
    let advised = json!({ "pan": PAN, "panExpiry": "4912", "recommendation": "decline" });
    for (credential, id, path, body, status, code) in [
        (credential("requestor"), "r-2", "/v1/tokens", &advised, 422, "advised-against"),
        (credential("operator"), "o-1", "/v1/detokenizations", &dispute, 403, "operation-not-allowed"),
        ("disputes".to_owned(), "d-1", "/v1/detokenizations", &dispute, 403, "detokenization-not-allowed"),
    ] {
        let reply = sent(&credential, &daemon, path, id, body);
        assert_eq!((reply.status, reply.body["code"].as_str()), (status, Some(code)), "{:?}", reply.body);
    }
    daemon.stop();
    let (done, told) = audit(&config, &["list"]);
    assert!(done, "{told}");
    let before = "before=active/1 after=active/1";
    for expected in [
        "what=decline by=token-requestor card=*0119 who=token-requestor:00000000001".to_owned(),
        "what=refuse-detokenization because=operation-not-allowed who=operator:".to_owned(),
        format!(
            "token={reference} what=refuse-detokenization purpose=dispute because=detokenization-not-allowed \
             {before} who=operator:disputes"
        ),
    ] {
        assert!(told.contains(&expected), "no {expected:?} in\n{told}");
    }
    assert!(!told.contains(&PAN[6..]), "no card number:\n{told}");
}

/// What a line says besides who and when.
#[test]
fn what_was_changed_is_told_with_what_it_was_before() {
    let kept = tempfile::tempdir().unwrap();
    let config = init(&kept.path().join("switch"), ["127.0.0.1:1", "127.0.0.1:1"]);
    let daemon = Daemon::start(&config);
    let card = json!({ "pan": PAN, "panExpiry": "4912" });
    let token = post(&daemon, &config, "/v1/tokens", "r-1", &card);
    let place = |what: &str| format!("/v1/tokens/{}/{what}", token["tokenReference"].as_str().unwrap());
    let shop = json!({
        "tokenRequestorId": "00000000888", "name": "a shop", "entryModes": ["10"], "tokenLocation": "01",
        "tokensMost": 7, "detokenizationsPerDay": 3,
    });
    let narrow = json!({ "controls": { "countries": ["276"], "velocity": [{ "mostPayments": 3 }] } });
    for (who, path, id, body) in [
        ("issuer", place("controls"), "i-1", narrow),
        ("issuer", place("update"), "i-2", json!({ "assuranceMethod": "12" })),
        ("issuer", "/v1/cards/events".to_owned(), "i-3", json!({ "pan": PAN, "event": "lost" })),
        ("issuer", place("controls"), "i-4", json!({})),
        ("operator", "/v1/requestors".to_owned(), "o-1", shop),
        ("operator", "/v1/requestors/00000000888/close".to_owned(), "o-2", json!({})),
    ] {
        let credential = std::fs::read_to_string(config.with_file_name(format!("{who}.credential"))).unwrap();
        post_as(credential.trim(), &daemon, &path, id, &body);
    }
    daemon.stop();
    let (done, told) = audit(&config, &["list"]);
    assert!(done, "{told}");
    let line = |id: &str| {
        let named = format!("request=\"{id}\"");
        told.lines().find(|line| line.contains(&named)).unwrap_or_else(|| panic!("no {id} in\n{told}"))
    };
    for (id, expected) in [
        (
            "i-1",
            "what=control before=active/1 after=active/2 controls=none->countries:276,velocity:day-3x who",
        ),
        ("i-2", "what=update before=active/2 after=active/3 assurance=00->12 who"),
        ("i-3", "what=lost before=active/3 after=suspended/4/issuer who"),
        ("i-3", "requestor=00000000001"),
        ("i-4", "controls=countries:276,velocity:day-3x->none who"),
        ("o-1", "what=register-requestor version=1 modes=10 tokens=7 detokenizations=3 who"),
        ("o-1", "requestor=00000000888"),
        ("o-2", "what=close-requestor version=2 who"),
    ] {
        assert!(line(id).contains(expected), "no {expected:?} in {}", line(id));
    }
}

/// The journal's one segment, and where each block of it lies.
fn blocks(config: &Path) -> (PathBuf, Vec<u8>, Vec<std::ops::Range<usize>>) {
    let directory = config.with_file_name("data").join("journal");
    let mut segments: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| std::fs::read(path).unwrap().chunks(ALIGNMENT).any(|chunk| chunk.starts_with(MAGIC)))
        .collect();
    segments.sort();
    // Each start begins a segment; the first has the most in it.
    let path = segments.remove(0);
    let bytes = std::fs::read(&path).unwrap();
    let (mut found, mut at) = (Vec::new(), 0);
    while at + 8 < bytes.len() {
        if bytes[at..].starts_with(MAGIC) {
            let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
            found.push(at..at + length);
            at += length.next_multiple_of(ALIGNMENT);
        } else {
            at += ALIGNMENT;
        }
    }
    (path, bytes, found)
}

#[test]
fn what_is_altered_removed_or_put_elsewhere_is_found_and_named() {
    let kept = tempfile::tempdir().unwrap();
    let config = init(&kept.path().join("switch"), ["127.0.0.1:1", "127.0.0.1:1"]);
    lived(&config);
    let (path, whole, blocks) = blocks(&config);
    assert!(blocks.len() >= 3, "{blocks:?}");
    // The first entry of a block stands in its header.
    let first = |block: &std::ops::Range<usize>| {
        u64::from_le_bytes(whole[block.start + 32..block.start + 40].try_into().unwrap())
    };
    let place = |bytes: &mut Vec<u8>, at: usize, block: &std::ops::Range<usize>| {
        bytes[at..at + block.len()].copy_from_slice(&whole[block.clone()]);
    };
    // Somebody who knows the layout also makes the checksum right again.
    let summed = |bytes: &mut Vec<u8>, block: &std::ops::Range<usize>| {
        let (head, rest) = (&bytes[block.start..block.start + 8], &bytes[block.start + 12..block.end]);
        let sum = crc32c::crc32c_append(crc32c::crc32c(head), rest);
        bytes[block.start + 8..block.start + 12].copy_from_slice(&sum.to_le_bytes());
    };
    for at in 0..blocks.len() {
        let (block, next) = (&blocks[at], blocks.get(at + 1));
        let mut altered = whole.clone();
        altered[block.end - 1] ^= 1;
        let mut careful = altered.clone();
        summed(&mut careful, block);
        let mut cases = vec![("altered", altered), ("altered with its checksum", careful)];
        if let Some(next) = next {
            let mut removed = whole.clone();
            removed.drain(block.start..next.start);
            removed.resize(whole.len(), 0);
            cases.push(("removed", removed));
            let mut reordered = whole.clone();
            reordered[block.start..next.end].fill(0);
            place(&mut reordered, block.start, next);
            place(&mut reordered, block.start + next.len().next_multiple_of(ALIGNMENT), block);
            cases.push(("put elsewhere", reordered));
        }
        for (what, bytes) in cases {
            std::fs::write(&path, bytes).unwrap();
            let (fine, said) = audit(&config, &["verify"]);
            assert!(!fine, "block {at} {what}: {said}");
            let entry = format!("entry {},", first(block));
            assert!(
                said.contains("not whole") && said.contains(&entry),
                "block {at} {what}, {entry}: {said}"
            );
            // An entry is sealed by itself: it is told which of the block it was.
            let count = u32::from_le_bytes(whole[block.start + 12..][..4].try_into().unwrap());
            let altered = format!("entry {} that was altered", first(block) + u64::from(count) - 1);
            assert!(what != "altered" || said.contains(&altered), "block {at}, {altered}: {said}");
        }
    }
    std::fs::write(&path, &whole).unwrap();
    assert!(audit(&config, &["verify"]).0);
    // A segment that is gone takes its entries along, and says nothing of those behind it.
    std::fs::remove_file(&path).unwrap();
    let (fine, said) = audit(&config, &["verify"]);
    let second = self::blocks(&config);
    let begins = u64::from_le_bytes(second.1[second.2[0].start + 32..][..8].try_into().unwrap());
    let gone = format!("entries 1 to {} are missing; entries {begins} to ", begins - 1);
    assert!(!fine && begins > 1 && said.contains(&gone), "{gone}: {said}");
}
