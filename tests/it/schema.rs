//! The API does what its document says: schemathesis makes requests from the document, right ones and wrong ones,
//! and compares what the real daemon answers.

use std::process::Command;

use serde_json::{Value, json};

use crate::daemon::{Daemon, init};
use crate::parts::schemathesis;
use crate::provisioning::{PAN, exchange};

/// Requests that are as they should be may still meet a card that is none, or a token whose status does not allow it.
const CONFIGURATION: &str = r#"
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "403", "404", "409", "422"]

[parameters]
"path.reference" = "REFERENCE"
"#;

/// Ends it whatever it does; it takes a tenth of that.
const SECONDS_MOST: &str = "300";

#[test]
fn requests_made_from_the_document_find_no_fault() {
    let Some(program) = schemathesis() else { return };
    let kept = tempfile::tempdir().unwrap();
    let config = init(&kept.path().join("switch"), ["127.0.0.1:1", "127.0.0.1:1"]);
    let daemon = Daemon::start(&config);
    let address = daemon.addresses["api"].parse().unwrap();
    let credential = std::fs::read_to_string(config.with_file_name("requestor.credential")).unwrap();
    let bearer = format!("Authorization: Bearer {}", credential.trim());
    let head = format!("{bearer}\r\nContent-Type: application/json\r\nX-Request-Id: first\r\n");
    let card = json!({ "pan": PAN, "panExpiry": "4912" }).to_string();
    let issued = exchange(address, "POST", "/v1/tokens", &head, card.as_bytes());
    let reference = issued.body["tokenReference"].as_str().unwrap();
    let configuration = kept.path().join("schemathesis.toml");
    std::fs::write(&configuration, CONFIGURATION.replace("REFERENCE", reference)).unwrap();
    let output = Command::new("timeout")
        .arg(SECONDS_MOST)
        .arg(program)
        .arg("--config-file")
        .arg(configuration)
        .arg("run")
        .arg(format!("http://{address}/openapi.json"))
        .args(["--header", &bearer, "--checks", "all", "--max-examples", "20", "--seed", "7", "--no-color"])
        .args(["--continue-on-failure", "--generation-database", "none"])
        .current_dir(kept.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(&format!("Tested: {}", operations())), "each operation was tried\n{said}");
    daemon.stop();
}

fn operations() -> usize {
    let document: Value = serde_json::from_str(&tokenswitch::api::openapi()).unwrap();
    document["paths"].as_object().unwrap().values().map(|item| item.as_object().unwrap().len()).sum()
}
