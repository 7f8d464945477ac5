//! The audit trail: what the real daemon and `keys` leave in it, and that nothing in it can be altered, removed or
//! put elsewhere unseen.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tokenswitch::config::Config;
use tokenswitch::crypto::credential_digest;
use tokenswitch::journal::{Body, EntryNumber, Journal, JournalSetup, RealDisk};
use tokenswitch::stdx::clock::Wall;
use tokenswitch::stdx::random::Entropy;
use tokenswitch::vocab::ShardId;

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

/// A journal of three segments and some blocks of several entries each, written as a program that uses it would: its
/// directory, and the disk's bytes.
struct Written {
    _kept: tempfile::TempDir,
    config: PathBuf,
    directory: PathBuf,
    /// By their names.
    files: Vec<(PathBuf, Vec<u8>)>,
}

/// A block as it lies in the first segment.
#[derive(Clone)]
struct Lying {
    first: u64,
    /// Where each entry lies, its length included.
    entries: Vec<Range<usize>>,
    at: Range<usize>,
}

impl Lying {
    fn padded(&self) -> Range<usize> {
        self.at.start..self.at.end.next_multiple_of(ALIGNMENT)
    }
}

const HEAD: usize = 72;

fn number(bytes: &[u8]) -> usize {
    u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize
}

fn lying(bytes: &[u8]) -> Vec<Lying> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at + HEAD < bytes.len() {
        if !bytes[at..].starts_with(MAGIC) {
            at += ALIGNMENT;
            continue;
        }
        let end = at + number(&bytes[at + 4..]);
        let (mut entries, mut place) = (Vec::new(), at + HEAD);
        while place < end {
            let next = place + 4 + number(&bytes[place..]);
            entries.push(place..next);
            place = next;
        }
        let first = u64::from_le_bytes(bytes[at + 32..at + 40].try_into().unwrap());
        found.push(Lying { first, entries, at: at..end });
        at = end.next_multiple_of(ALIGNMENT);
    }
    found
}

/// Three lives of a journal: of the first, blocks of 3, 4 and 2 entries (1 to 9), of the others one of 2 each.
fn written() -> Written {
    let kept = tempfile::tempdir().unwrap();
    let config = init(&kept.path().join("switch"), ["127.0.0.1:1", "127.0.0.1:1"]);
    let directory = config.with_file_name("data").join("journal");
    std::fs::create_dir_all(&directory).unwrap();
    for groups in [&[3, 4, 2][..], &[2], &[2]] {
        let loaded = Config::load(&config).unwrap();
        let disk = Box::new(RealDisk::lock(File::open(&directory).unwrap()).unwrap());
        let (keys, config) = (loaded.security.journal_keys(), loaded.journal.journal);
        let at_least = EntryNumber(0);
        let setup = JournalSetup { disk, keys, config, at_least, entropy: Entropy::system() };
        let (journal, mut writer, _) = Journal::stepped(setup).unwrap();
        for (group, entries) in groups.iter().enumerate() {
            for at in 0..*entries {
                let act = vec![7; 10 * (group + 1) + at];
                journal.appender().append(ShardId(0), Wall(5), &Body::Operator(act)).unwrap();
            }
            writer.step().unwrap();
        }
        writer.close().unwrap();
    }
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("segment-"));
    files.sort();
    let files = files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    Written { _kept: kept, config, directory, files }
}

/// Somebody who knows the layout makes a block of these entries, with its lengths and its checksum right.
fn block_of(whole: &[u8], block: &Lying, entries: &[Vec<u8>]) -> Vec<u8> {
    let mut made = whole[block.at.start..block.at.start + HEAD].to_vec();
    made.extend(entries.concat());
    let length = u32::try_from(made.len()).unwrap();
    made[4..8].copy_from_slice(&length.to_le_bytes());
    made[12..16].copy_from_slice(&u32::try_from(entries.len()).unwrap().to_le_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c(&made[..8]), &made[12..]);
    made[8..12].copy_from_slice(&sum.to_le_bytes());
    made.resize(made.len().next_multiple_of(ALIGNMENT), 0);
    made
}

/// The segment with these blocks instead of its own, one after the other.
fn segment_of(whole: &[u8], blocks: &[Vec<u8>]) -> Vec<u8> {
    let mut made = whole[..ALIGNMENT].to_vec();
    made.extend(blocks.concat());
    made
}

/// What is done to the first segment, and what is told of it.
fn tamperings(whole: &[u8], other: &[u8]) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let blocks = lying(whole);
    assert_eq!(
        blocks.iter().map(|it| (it.first, it.entries.len())).collect::<Vec<_>>(),
        [(1, 3), (4, 4), (8, 2)]
    );
    let raw = |at: usize| whole[blocks[at].padded()].to_vec();
    let all = [raw(0), raw(1), raw(2)];
    let entries: Vec<Vec<u8>> = blocks[1].entries.iter().map(|at| whole[at.clone()].to_vec()).collect();
    let middle = |order: &[usize]| {
        let entries: Vec<Vec<u8>> = order.iter().map(|at| entries[*at].clone()).collect();
        segment_of(whole, &[raw(0), block_of(whole, &blocks[1], &entries), raw(2)])
    };
    let order =
        |order: &[usize]| segment_of(whole, &order.iter().map(|at| all[*at].clone()).collect::<Vec<_>>());
    let flipped = |at: usize| {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let mut altered = entries.clone();
    *altered[1].last_mut().unwrap() ^= 1;
    let altered = segment_of(whole, &[raw(0), block_of(whole, &blocks[1], &altered), raw(2)]);
    let others = lying(other);
    let foreign = other[others[1].padded()].to_vec();
    let mut moved = entries.clone();
    moved.push(whole[blocks[0].entries[1].clone()].to_vec());
    let moved = segment_of(whole, &[raw(0), block_of(whole, &blocks[1], &moved), raw(2)]);
    vec![
        ("a byte of an entry", flipped(blocks[1].entries[1].end - 1), "entry 5 was altered"),
        ("and its checksum made right", altered, "entry 5 was altered"),
        ("the length of an entry", flipped(blocks[1].entries[2].start), "entry 6 was altered"),
        ("the last entry of all blocks", flipped(blocks[2].entries[1].end - 1), "entry 9 was altered"),
        ("the first cut out of a block", middle(&[1, 2, 3]), "entry 4 is missing"),
        ("one cut out of a block", middle(&[0, 2, 3]), "entry 5 is missing"),
        ("two cut out of a block", middle(&[0, 3]), "entries 5 to 6 are missing"),
        ("the last cut out of a block", middle(&[0, 1, 2]), "entry 7 is missing"),
        (
            "two swapped in a block",
            middle(&[0, 2, 1, 3]),
            "entry 6 stands where entry 5 should; entry 5 stands where entry 6 should",
        ),
        ("one put in twice", middle(&[0, 1, 2, 1, 3]), "entry 5 stands a second time, after entry 6"),
        (
            "one in the place of another",
            middle(&[0, 1, 1, 3]),
            "entry 5 stands a second time, after entry 5; entry 6 is missing",
        ),
        ("one put in of another block", moved, "entry 2 stands a second time, after entry 7"),
        ("a block removed", order(&[0, 2]), "entries 4 to 7 are missing"),
        (
            "two blocks swapped",
            order(&[0, 2, 1]),
            "entries 8 to 9 stand where entries 4 to 5 should; entries 4 to 7 stand where entries 6 to 9 should",
        ),
        ("a block put in twice", order(&[0, 1, 0, 2]), "entries 1 to 3 stand a second time, after entry 7"),
        (
            "a block of another journal put in",
            segment_of(whole, &[raw(0), foreign.clone(), raw(1), raw(2)]),
            "after entry 3: 4 that are no entries of this journal",
        ),
        (
            "a block of another journal put in the place of one",
            segment_of(whole, &[raw(0), raw(1), foreign]),
            "in the place of entries 8 to 9: 4 that were not sealed as any of them",
        ),
        (
            "the head of a block",
            flipped(blocks[1].at.start + 50),
            "what is around the block of entry 4 was altered",
        ),
        (
            "where a block begins",
            flipped(blocks[1].at.start),
            "what is around the block of entry 4 was altered",
        ),
        (
            "the header of the segment",
            flipped(20),
            "the header of segment 1 was altered: without it entries 1 to 9",
        ),
    ]
}

/// Whichever entry it is, and whatever was done: it is named.
#[test]
fn whatever_is_altered_removed_reordered_or_put_in_is_found_and_named() {
    let (written, other) = (written(), self::written());
    let [(first, whole), (second, next), (third, last)] = &written.files[..] else { panic!("three lives") };
    let said = |what: &str, expected: &str| {
        let (fine, said) = audit(&written.config, &["verify"]);
        assert!(!fine && said.contains("the audit trail is not whole: "), "{what}: {said}");
        assert!(said.contains(expected), "{what}: no {expected:?} in {said}");
        // Of nothing else.
        let told = said.matches("; ").count();
        let before = said.contains("as written; ") && !expected.contains("as written; ");
        assert_eq!(told, expected.matches("; ").count() + usize::from(before), "{what}: {said}");
    };
    assert!(audit(&written.config, &["verify"]).0);
    for (what, bytes, expected) in tamperings(whole, &other.files[0].1) {
        std::fs::write(first, bytes).unwrap();
        said(what, expected);
    }
    std::fs::write(first, whole).unwrap();
    std::fs::remove_file(second).unwrap();
    said(
        "a segment removed",
        "entries 1 to 9 are as written; segment 2 is missing; entries 10 to 11 are missing",
    );
    std::fs::write(second, last).unwrap();
    std::fs::write(third, next).unwrap();
    said(
        "two segments swapped",
        "entries 1 to 9 are as written; the file of segment 2 holds segment 3; the file of segment 3 holds segment 2; \
         entries 12 to 13 stand where entries 10 to 11 should; entries 10 to 11 stand where entries 12 to 13 should",
    );
    std::fs::write(second, next).unwrap();
    std::fs::remove_file(third).unwrap();
    said("the last segment removed", "entries 1 to 11 are as written; entries 12 to 13 are missing");
    std::fs::write(third, last).unwrap();
    std::fs::remove_file(first).unwrap();
    said("the first segment removed", "segment 1 is missing; entries 1 to 9 are missing");
    std::fs::write(first, whole).unwrap();
    let mut altered = last.clone();
    let entry = lying(last)[0].entries[1].end - 1;
    altered[entry] ^= 1;
    std::fs::write(third, altered).unwrap();
    said("the last entry of the journal", "entry 13 was altered");
    std::fs::write(third, last).unwrap();
    let (whole_again, said) = audit(&written.config, &["verify"]);
    assert!(whole_again, "{said}, in {}", written.directory.display());
}
