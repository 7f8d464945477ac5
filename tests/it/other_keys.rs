//! A start with the keys of another installation, whole by themselves: it says so by the files' names, and touches
//! nothing.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::audit::post;
use crate::daemon::{Daemon, init};
use crate::provisioning::PAN;
use crate::restart::{files_under, refused};

const NOBODY: [&str; 2] = ["127.0.0.1:1", "127.0.0.1:1"];

fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = files_under(directory);
    files.sort();
    files.into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

fn put_keys(from: &Path, to: &Path) {
    for file in ["master.key", "keys.store"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

#[test]
fn keys_of_another_installation_are_named_and_nothing_is_touched() {
    for killed in [false, true] {
        let kept = tempfile::tempdir().unwrap();
        let config = init(&kept.path().join("switch"), NOBODY);
        init(&kept.path().join("other"), NOBODY);
        let (own, others) = (kept.path().join("switch/keys"), kept.path().join("other/keys"));
        let aside = kept.path().join("aside");
        std::fs::create_dir(&aside).unwrap();
        put_keys(&own, &aside);
        let card = json!({ "pan": PAN, "panExpiry": "4912" });
        let daemon = Daemon::start(&config);
        let token = post(&daemon, &config, "/v1/tokens", "r-1", &card);
        if killed {
            daemon.kill()
        } else {
            daemon.stop()
        }
        let data = kept.path().join("switch/data");
        let before = contents(&data);
        put_keys(&others, &own);
        let said = refused(&config);
        for named in ["keys.store", "keys/keys.store", "keys.master_key", "keys/master.key"] {
            assert!(said.contains(named), "no {named} in {said}");
        }
        assert!(contents(&data) == before, "something was changed: {said}");
        put_keys(&aside, &own);
        let daemon = Daemon::start(&config);
        assert_eq!(post(&daemon, &config, "/v1/tokens", "r-1", &card)["token"], token["token"], "{killed}");
        daemon.stop();
    }
}
