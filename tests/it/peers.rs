//! An implementation of ISO 8583 that shares nothing with ours, as acquirer and as issuer of the real daemon.
//!
//! The peer is pyiso8583, with specifications of its own (`tests/peers/`). For each pair of dialects: sign-on, echo,
//! a purchase by PAN, by token and by tap, declines of the issuer and of the vault, a reversal, sign-off. Taps are
//! signed by pyemv under a key that was given to both sides.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::daemon::{Daemon, PROGRAM, init};
use crate::parts::peers_python;
use crate::source::root;

/// Acquirers beside the one that `init` writes, and a third issuer with its cards.
const OTHERS: &str = r#"
[[acquirer]]
id = 2
name = "acquirer-2"
listen = "127.0.0.1:0"
dialect = "iso87-bcd"
framing = "binary-2"
timeout = "30s"

[[acquirer]]
id = 3
name = "acquirer-3"
listen = "127.0.0.1:0"
dialect = "iso87-ascii-binary-bitmap"
framing = "binary-2"
timeout = "30s"

[[issuer]]
id = 103
name = "issuer-3"
dial = ["{issuer_3}"]
connections = 2
dialect = "iso87-ascii-binary-bitmap"
framing = "binary-2"
timeout = "10s"

[[route]]
bin = "510510"
issuer = 103

[[tsp.pan_range]]
bin = "510510"
product = "credit"
controlled = true
issuer = "issuer-3"
"#;

/// The issuer master key of both token ranges.
const TOKEN_KEY: &str = "0123456789ABCDEFFEDCBA9876543210";

fn add_token_key(config: &Path) {
    let clear = config.with_file_name("clear-key");
    std::fs::write(&clear, TOKEN_KEY).unwrap();
    let output = Command::new(PROGRAM)
        .args(["keys", "add", "--who", "test", "--label", "peers"])
        .args(["--usage", "token-cryptogram-3des", "--config"])
        .arg(config)
        .arg("--clear-key")
        .arg(&clear)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = String::from_utf8(output.stdout).unwrap();
    // 3DES over a block of zeros.
    assert!(shown.contains("08D7B4"), "{shown}");
    assert!(!shown.contains(TOKEN_KEY));
}

#[test]
fn another_implementation_pays_and_is_asked_in_every_dialect() {
    let Some(python) = peers_python() else { return };
    let mut peer = Command::new(python)
        .arg(root().join("tests/peers/play.py"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(peer.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let issuers: Value = serde_json::from_str(&line).unwrap();
    let issuer = |dialect: &str| issuers[dialect].as_str().unwrap();

    let kept = tempfile::tempdir().unwrap();
    let directory = kept.path().join("switch");
    let config = init(&directory, [issuer("iso87-ascii"), issuer("iso87-bcd")]);
    let mut text = std::fs::read_to_string(&config).unwrap();
    text.push_str(&OTHERS.replace("{issuer_3}", issuer("iso87-ascii-binary-bitmap")));
    add_token_key(&config);
    let text = text.replace("\"ccd-aes\"", "\"visa-cvn-18\"").replace("\"token-master\"", "\"peers\"");
    std::fs::write(&config, text).unwrap();
    let daemon = Daemon::start(&config);

    let credential = std::fs::read_to_string(directory.join("requestor.credential")).unwrap();
    let told = json!({
        "acquirers": {
            "iso87-ascii": daemon.addresses["acquirer-1"],
            "iso87-bcd": daemon.addresses["acquirer-2"],
            "iso87-ascii-binary-bitmap": daemon.addresses["acquirer-3"],
        },
        "api": daemon.addresses["api"],
        "credential": credential.trim_end(),
        "tokenKey": TOKEN_KEY,
    });
    let mut stdin = peer.stdin.take().unwrap();
    writeln!(stdin, "{told}").unwrap();
    drop(stdin);

    let played: Vec<String> = said.lines().map(Result::unwrap).collect();
    let output = peer.wait_with_output().unwrap();
    let log = std::fs::read_to_string(directory.join("daemon.log")).unwrap();
    assert!(
        output.status.success(),
        "{}\nafter {played:?}\nthe daemon's log:\n{log}",
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(played.len(), 9, "each acquirer with each issuer: {played:?}");
    daemon.stop();
}
