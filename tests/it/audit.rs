//! The audit trail: what the real daemon and `keys` leave in it, and that nothing in it can be altered, removed or
//! put elsewhere unseen.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::daemon::{Daemon, PROGRAM, init};
use crate::provisioning::{PAN, exchange};

/// Blocks of the journal begin at multiples of this, with this.
const ALIGNMENT: usize = 512;
const MAGIC: &[u8] = b"TSBK";

fn audit(config: &Path, what: &[&str]) -> (bool, String) {
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
fn post(daemon: &Daemon, config: &Path, path: &str, id: &str, body: &Value) -> Value {
    let credential = std::fs::read_to_string(config.with_file_name("requestor.credential")).unwrap();
    let head = format!(
        "Authorization: Bearer {}\r\nContent-Type: application/json\r\nX-Request-Id: {id}\r\n",
        credential.trim()
    );
    let reply =
        exchange(daemon.addresses["api"].parse().unwrap(), "POST", path, &head, body.to_string().as_bytes());
    assert!(reply.status < 300, "{:?}", reply.body);
    reply.body
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
    let daemon = Daemon::start(config);
    // A request id may be anything that a client likes, also what it must not be.
    post(&daemon, config, &format!("/v1/tokens/{reference}/unlink"), PAN, &json!({}));
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
        &format!("token={reference} what=issue before=none after=active/1 {me} request=\"r-1\""),
        &format!(
            "token={reference} what=suspend before=active/1 after=suspended/2/cardholder who=token-requestor:00000000001 wish-of=cardholder"
        ),
        "request=\"r-2\" why=device-lost words=\"left in a taxi\"",
        &format!(
            "token={reference} what=unlink before=suspended/2/cardholder after=deactivated/3 {me} request=\"***\""
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
        }
    }
    std::fs::write(&path, &whole).unwrap();
    assert!(audit(&config, &["verify"]).0);
}
