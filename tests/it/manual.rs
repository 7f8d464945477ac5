//! `docs/TSP.md` is true: every line of it runs against the real daemon, and every operation has one.

use std::process::Command;

use serde_json::Value;
use tokenswitch::api::openapi;

use crate::daemon::{Daemon, init};
use crate::parts::needs;
use crate::source::read;

#[test]
fn every_operation_is_explained_with_a_line_that_runs() {
    let text = read("docs/TSP.md");
    let lines: String = text
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(lines, _)| lines))
        .collect();
    let document: Value = serde_json::from_str(&openapi()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let name = operation["x-operation"]["name"].as_str().unwrap();
            assert!(text.contains(&format!("`{name}`")), "docs/TSP.md does not explain `{name}`");
            let place = path.replace('{', "$").replace('}', "").replace("$reference", "$REFERENCE");
            assert!(
                lines.contains(&format!("\"$API{place}\"")),
                "docs/TSP.md has no line that runs for {path}"
            );
        }
    }
    let there = Command::new("curl").arg("--version").output().is_ok();
    let Some(()) = needs("curl", "apt-get install curl", there.then_some(())) else { return };
    let kept = tempfile::tempdir().unwrap();
    let config = init(&kept.path().join("here"), ["127.0.0.1:1", "127.0.0.1:1"]);
    let daemon = Daemon::start(&config);
    let script = lines.replace("127.0.0.1:9001", &daemon.addresses["api"]);
    let output = Command::new("sh").args(["-exc", &script]).current_dir(kept.path()).output().unwrap();
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{failed}");
    // A call that fails ends the script; the answers are shown.
    assert!(said.contains("\"tokenReference\"") && said.contains("another-wallet"), "{said}");
    daemon.stop();
}
