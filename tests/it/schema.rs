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
"header.X-Token-Requestor-Id" = "REQUESTOR"
"#;

/// Ends it whatever it does; it takes a tenth of that.
const SECONDS_MOST: &str = "300";

#[test]
fn requests_made_from_the_document_find_no_fault_in_any_role() {
    let Some(program) = schemathesis() else { return };
    let kept = tempfile::tempdir().unwrap();
    let config = init(&kept.path().join("switch"), ["127.0.0.1:1", "127.0.0.1:1"]);
    let daemon = Daemon::start(&config);
    let credential = |whose: &str| {
        let kept = std::fs::read_to_string(config.with_file_name(format!("{whose}.credential")));
        kept.unwrap().trim().to_owned()
    };
    let wallet = credential("requestor");
    for (role, credential, examples) in [
        ("wallet", wallet.clone(), "20"),
        ("issuer", credential("issuer"), "10"),
        ("operator", credential("operator"), "10"),
    ] {
        let (reference, requestor) = issued(&daemon, &wallet, role);
        let configuration = kept.path().join("schemathesis.toml");
        let filled = CONFIGURATION.replace("REFERENCE", &reference).replace("REQUESTOR", &requestor);
        std::fs::write(&configuration, filled).unwrap();
        let output = Command::new("timeout")
            .arg(SECONDS_MOST)
            .arg(&program)
            .arg("--config-file")
            .arg(configuration)
            .arg("run")
            .arg(format!("http://{}/openapi.json", daemon.addresses["api"]))
            .args(["--header", &format!("Authorization: Bearer {credential}")])
            .args(["--checks", "all", "--max-examples", examples, "--seed", "7", "--no-color"])
            .args(["--continue-on-failure", "--generation-database", "none"])
            .args(operations(role).iter().flat_map(|name| ["--include-operation-id", name.as_str()]))
            .current_dir(kept.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{role}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
        said.lines()
            .filter(|line| line.contains("generated"))
            .for_each(|line| println!("{role}: {}", line.trim()));
        let tested = format!("Tested: {}", operations(role).len());
        assert!(said.contains(&tested), "{role}: each operation was tried\n{said}");
    }
    daemon.stop();
}

/// A token by which a role may be tried, and whose it is.
fn issued(daemon: &Daemon, wallet: &str, request_id: &str) -> (String, String) {
    let head = format!(
        "Authorization: Bearer {wallet}\r\nContent-Type: application/json\r\nX-Request-Id: {request_id}\r\n"
    );
    let card = json!({ "pan": PAN, "panExpiry": "4912" }).to_string();
    let address = daemon.addresses["api"].parse().unwrap();
    let issued = exchange(address, "POST", "/v1/tokens", &head, card.as_bytes()).body;
    let text = |name| issued[name].as_str().unwrap().to_owned();
    (text("tokenReference"), text("tokenRequestorId"))
}

/// What there is to try: of a wallet everything, so that it is also tried what is refused it; of the others what is
/// theirs.
fn operations(role: &str) -> Vec<String> {
    let document: Value = serde_json::from_str(&tokenswitch::api::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap().values();
    let all = paths.flat_map(|item| item.as_object().unwrap().values());
    let theirs = all.filter(|operation| {
        let roles = operation["x-operation"]["roles"].as_array().unwrap();
        role == "wallet" || roles.iter().any(|it| it == role)
    });
    theirs.map(|operation| operation["operationId"].as_str().unwrap().to_owned()).collect()
}
