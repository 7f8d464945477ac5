//! `docs/TSP.md` is true: every line of it runs against the real daemon, to success, and every operation has one.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokenswitch::api::openapi;

use crate::daemon::{Daemon, PROGRAM, init};
use crate::parts::needs;
use crate::source::read;

/// Whoever stands around the daemon, in the background; killed when let go.
struct Background(Child);

impl Background {
    fn start(lines: &str, directory: &Path) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-ec", lines]).current_dir(directory).stdin(Stdio::null()).process_group(0);
        let mut child = shell.spawn().unwrap();
        assert!(child.wait().unwrap().success(), "{lines}");
        Self(child)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
    }
}

fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn every_operation_is_explained_with_a_line_that_runs() {
    let text = read("docs/TSP.md");
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("```"));
    let blocks: Vec<&str> = blocks.map(|(lines, _)| lines).collect();
    let (first, lines) = (blocks[0], blocks[1..].concat());
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
    // A call that is refused ends the script.
    for call in lines.lines().filter(|line| line.contains("curl ")) {
        assert!(call.contains("curl -sSf "), "it must be done, not refused: {call}");
    }
    let there = Command::new("curl").arg("--version").output().is_ok();
    let Some(()) = needs("curl", "apt-get install curl", there.then_some(())) else { return };
    let kept = tempfile::tempdir().unwrap();
    let (issuer, bank) = (free_port(), free_port());
    let config = init(&kept.path().join("here"), [issuer.as_str(), "127.0.0.1:1"]);
    // The daemon is `init`'s, on other ports, and waited for here.
    let theirs = ["tokenswitch init", "tokenswitch serve"];
    let around = first.lines().filter(|line| !theirs.iter().any(|of_test| line.starts_with(of_test)));
    let around = around.collect::<Vec<_>>().join("\n").replace("127.0.0.1:8101", &issuer);
    let around = around.replace("127.0.0.1:8201", &bank).replace("tokenswitch ", &format!("{PROGRAM} "));
    let background = Background::start(&around, kept.path());
    let daemon = Daemon::start(&config);
    let script = lines.replace("127.0.0.1:9001", &daemon.addresses["api"]);
    let output = Command::new("sh").args(["-exc", &script]).current_dir(kept.path()).output().unwrap();
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{failed}");
    for told in
        ["\"tokenReference\"", "another-wallet", "\"pan\":\"4761730000000011\"", "\"status\":\"active\""]
    {
        assert!(said.contains(told), "no {told} in\n{said}");
    }
    daemon.stop();
    drop(background);
}
