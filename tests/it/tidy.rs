//! The rules that hold themselves: who may import whom, which crate is used where, and how files look. Each fault
//! is named with its file and line, and all of them at once.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use cargo_metadata::{CargoOpt, MetadataCommand};
use tokenswitch::codec::{Dialect, shipped_dialects};
use tokenswitch::link::CloseReason;
use tokenswitch::tsp::ProvisioningRefusal;
use tokenswitch::vocab::Refusal;

use crate::source::{CodePath, Source, read, root, sources};

/// Each module with those it may import; `stdx` is open to all. Imports only go down. Two look sideways: `tsp`
/// writes its log in the journal, and `config` holds the configuration of the edges.
const LAYERS: &[(&str, &[&str])] = &[
    ("stdx", &[]),
    ("vocab", &[]),
    ("codec", &["vocab"]),
    ("crypto", &["vocab"]),
    ("tls", &[]),
    ("journal", &["vocab", "crypto"]),
    ("tsp", &["vocab", "crypto", "journal"]),
    ("link", &["vocab", "codec", "crypto", "tls"]),
    ("switch", &["vocab", "codec", "crypto", "journal", "link", "tsp"]),
    ("clearing", &["vocab", "journal"]),
    ("sim", &["vocab", "codec", "crypto", "link", "tls"]),
    ("api", &["vocab", "tsp", "switch", "clearing", "tls"]),
    ("config", &["vocab", "codec", "crypto", "tls", "journal", "link", "tsp", "switch", "clearing", "api"]),
    ("app", &BELOW_APP),
    ("cli", &BELOW_CLI),
];

const BELOW_APP: [&str; 12] = [
    "vocab", "codec", "crypto", "tls", "journal", "tsp", "link", "switch", "clearing", "sim", "api", "config",
];
const BELOW_CLI: [&str; 13] = [
    "vocab", "codec", "crypto", "tls", "journal", "tsp", "link", "switch", "clearing", "sim", "api",
    "config", "app",
];

/// Crates, and doors to the system, each with the files and folders outside tests that may name it. A crate that
/// is not here may be used nowhere.
const FENCES: &[(&str, &[&str])] = &[
    // The runtime: only where bytes are moved, and where a caller waits.
    (
        "tokio",
        &[
            "src/link/",
            "src/tls.rs",
            "src/tsp/approval.rs",
            "src/tsp/log/mod.rs",
            "src/tsp/service.rs",
            "src/tsp/writer.rs",
            "src/switch/driver.rs",
            "src/switch/enquiry.rs",
            "src/api/",
            "src/app",
            "src/cli/",
        ],
    ),
    ("tokio_util", &["src/api/", "src/app", "src/cli/"]),
    ("socket2", &["src/link/transport.rs", "src/api/", "src/cli/"]),
    ("rustls", &["src/tls.rs"]),
    ("webpki", &["src/tls.rs"]),
    ("tokio_rustls", &["src/tls.rs", "src/link/transport.rs"]),
    // HTTP.
    ("axum", &["src/api/"]),
    ("governor", &["src/api/rates.rs"]),
    ("utoipa", &["src/api/"]),
    ("utoipa_axum", &["src/api/"]),
    ("tower", &["src/api/"]),
    ("tower_http", &["src/api/"]),
    ("bytes", &["src/api/", "src/cli/http_client.rs", "src/cli/webhook.rs"]),
    ("hyper", &["src/api/", "src/cli/http_client.rs", "src/cli/webhook.rs"]),
    ("hyper_util", &["src/api/", "src/cli/http_client.rs", "src/cli/webhook.rs"]),
    ("http_body_util", &["src/api/", "src/cli/http_client.rs", "src/cli/webhook.rs"]),
    // Text formats stay at the edge: no type of the field can be serialized by accident.
    ("serde", &["src/api/", "src/config/file.rs", "src/codec/spec_", "src/crypto/jwe.rs"]),
    ("serde_json", &["src/api/", "src/sim/", "src/cli/", "src/crypto/jwe.rs"]),
    ("toml", &["src/config/", "src/codec/spec_"]),
    ("clap", &["src/cli/"]),
    ("rcgen", &["src/cli/init_tls.rs"]),
    ("indicatif", &["src/cli/"]),
    // Cryptography: one door. `tls` has rustls use ring; a request's digest in `tsp` tells repeats apart and
    // protects nothing.
    ("ring", &["src/crypto/", "src/tls.rs", "src/tsp/command.rs"]),
    ("aes_gcm", &["src/crypto/"]),
    ("aes", &["src/crypto/"]),
    ("cmac", &["src/crypto/"]),
    ("p256", &["src/crypto/jwe.rs"]),
    ("des", &["src/crypto/cipher.rs"]),
    ("sm4", &["src/crypto/cipher.rs"]),
    ("subtle", &["src/crypto/", "src/stdx/secret.rs"]),
    ("zeroize", &["src/"]),
    ("getrandom", &["src/stdx/random.rs"]),
    ("fastrand", &["src/stdx/random.rs", "src/journal/memory_disk.rs"]),
    ("foldhash", &["src/stdx/maps.rs", "src/switch/cards.rs", "src/codec/dialect.rs"]),
    // Stores and files.
    ("redb", &["src/journal/checkpoint/redb_checkpoint.rs"]),
    ("sled", &["src/journal/checkpoint/sled_checkpoint.rs"]),
    ("crc32c", &["src/journal/"]),
    (
        "rustix",
        &[
            "src/journal/disk.rs",
            "src/journal/memory_disk.rs",
            "src/journal/checkpoint/keeper.rs",
            "src/app",
            "src/cli/",
        ],
    ),
    ("mimalloc", &["src/main.rs"]),
    // What everybody may use for one purpose.
    ("hex", &["src/"]),
    (
        "base64",
        &["src/codec/leak_scan.rs", "src/vocab/remote.rs", "src/crypto/jwe.rs", "src/api/", "src/cli/"],
    ),
    ("jiff", &["src/vocab/time.rs", "src/api/provisioning/words.rs", "src/cli/"]),
    ("thiserror", &["src/"]),
    ("tracing", &["src/link/", "src/tsp/", "src/switch/", "src/api/", "src/app", "src/cli/", "src/journal/"]),
    ("tracing_subscriber", &["src/cli/"]),
    (
        "prometheus_client",
        &[
            "src/link/",
            "src/journal/metrics.rs",
            "src/journal/mod.rs",
            "src/tsp/metrics.rs",
            "src/tsp/service.rs",
            "src/switch/",
            "src/api/",
            "src/app",
            "src/cli/",
        ],
    ),
    ("hdrhistogram", &["src/sim/", "src/cli/"]),
    // The system.
    ("std::fs", &["src/journal/disk.rs", "src/journal/checkpoint/", "src/config/", "src/app", "src/cli/"]),
    ("std::net", &["src/link/", "src/switch/driver.rs", "src/config/", "src/api/", "src/app", "src/cli/"]),
    (
        "std::thread",
        &[
            "src/api/notifier.rs",
            "src/api/server.rs",
            "src/journal/",
            "src/tsp/",
            "src/switch/driver.rs",
            "src/app",
            "src/cli/",
        ],
    ),
    // `sabotage.rs` ends the process where a test says so, with a feature that no release build can have.
    ("std::process", &["src/main.rs", "src/cli/", "src/stdx/sabotage.rs"]),
    ("std::env", &["src/cli/", "src/stdx/sabotage.rs"]),
];

/// What some files must never know, by words of their code.
const ABSENCES: &[(&str, &[&str], &str)] = &[
    (
        "src/switch/core/",
        &["tokio", "Clock", "SystemClock", "Entropy", "SecurityModule", "DataSealer", "Sealed", "MacKey"],
        "the core decides without runtime, clock, chance or key",
    ),
    ("src/vocab/", &["Serialize", "Deserialize"], "a word of the field is never serialized by accident"),
    ("src/", &["todo", "unimplemented"], "nothing is left for later"),
];

/// Where what is secret may be read in clear. Everything else handles it closed.
const OPENED: &[(&str, &[&str])] = &[
    (
        "expose_secret",
        &[
            "src/stdx/secret.rs",
            "src/crypto/",
            "src/config/check.rs",
            "src/sim/provisioner.rs",
            "src/cli/",
            "src/app",
        ],
    ),
    ("expose_key", &["src/crypto/", "src/tsp/wrapped.rs", "src/cli/wallet/"]),
    (
        "expose_digits",
        &[
            "src/vocab/",
            "src/codec/leak_scan.rs",
            "src/crypto/blind_index.rs",
            "src/tsp/",
            "src/api/provisioning/detokenizations.rs",
            "src/switch/cards.rs",
            "src/switch/node/",
            "src/switch/request.rs",
            "src/switch/chip.rs",
            "src/sim/",
            "src/cli/",
        ],
    ),
];

/// The longest file, tests not counted. Tables of data are exempt.
const LINES_MOST: usize = 600;
const DATA_TABLES: &[&str] = &[];

const BANNED_PACKAGES: &[(&str, &str)] = &[
    ("openssl", "C, and a second TLS"),
    ("openssl-sys", "C, and a second TLS"),
    ("native-tls", "a second TLS"),
    ("aws-lc-rs", "C; ring is the one provider"),
    ("aws-lc-sys", "C; ring is the one provider"),
    ("rsa", "open timing side channel (RUSTSEC-2023-0071)"),
    ("md5", "broken"),
    ("sha1", "broken"),
    ("chrono", "jiff is the one calendar"),
    ("reqwest", "hyper is the one client"),
];

const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Unlicense",
    "Zlib",
    "Unicode-3.0",
];

#[test]
fn imports_only_go_down() {
    let faults: Vec<String> = sources("src").iter().flat_map(layer_faults).collect();
    none(&faults);
}

#[test]
fn an_import_that_goes_up_is_named() {
    for (name, text, expected) in [
        (
            "src/crypto/aead.rs",
            "use crate::vocab::Pan;\nuse crate::tsp::Tsp;\n",
            vec!["`crypto` may not import `tsp`: src/crypto/aead.rs:2"],
        ),
        (
            "src/link/mod.rs",
            "use crate::{codec::Message,\n    switch::Node};",
            vec!["`link` may not import `switch`: src/link/mod.rs:2"],
        ),
        (
            "src/codec/tlv.rs",
            "fn f() { super::super::link::g() }\nmod tests { use super::super::super::journal::Entry; }",
            vec![
                "`codec` may not import `link`: src/codec/tlv.rs:1",
                "`codec` may not import `journal`: src/codec/tlv.rs:2",
            ],
        ),
        ("src/newcomer/mod.rs", "", vec!["`newcomer` has no layer: src/newcomer/mod.rs:1"]),
        ("src/main.rs", "use tokenswitch::codec::x;", vec!["`main` may not import `codec`: src/main.rs:1"]),
        ("src/tsp/tsp.rs", "use super::event::TokenEvent;\nuse crate::journal::Entry;", vec![]),
    ] {
        assert_eq!(layer_faults(&Source::new(name.into(), text.into())), expected, "{name}");
    }
}

fn layer_faults(source: &Source) -> Vec<String> {
    let module = match source.name.as_str() {
        "src/lib.rs" => return Vec::new(),
        "src/main.rs" => "main",
        _ => source.module()[0],
    };
    let allowed: &[&str] = match LAYERS.iter().find(|(layer, _)| *layer == module) {
        Some((_, allowed)) => allowed,
        None if module == "main" => &["cli"],
        None => return vec![format!("`{module}` has no layer: {}:1", source.name)],
    };
    let depth = source.module().len();
    let imports =
        source.paths().into_iter().filter_map(|path| top_module(&path, depth).map(|m| (m, path.line)));
    imports
        .filter(|(target, _)| {
            let is_module = LAYERS.iter().any(|(layer, _)| layer == target);
            is_module && target != module && target != "stdx" && !allowed.contains(&target.as_str())
        })
        .map(|(target, line)| format!("`{module}` may not import `{target}`: {}:{line}", source.name))
        .collect()
}

/// The module of the crate's root that a path leads into, when it starts there.
fn top_module(path: &CodePath, depth: usize) -> Option<String> {
    let climbs = path.segments.iter().take_while(|segment| *segment == "super").count();
    let from_root = match path.segments.first()?.as_str() {
        "crate" | "tokenswitch" => 1,
        "super" if climbs >= depth + path.inline_modules => climbs,
        _ => return None,
    };
    path.segments.get(from_root).cloned()
}

#[test]
fn a_module_is_entered_by_its_face() {
    let mut faults = Vec::new();
    for source in sources("src") {
        let is_face = source.name.ends_with("/mod.rs") && source.module().len() == 1;
        if is_face && source.module() != ["stdx"] {
            for (module, line) in source.open_modules().into_iter().filter(|(_, line)| !source.is_test(*line))
            {
                faults.push(format!("`{module}` is to be private: {}:{line}", source.name));
            }
        }
    }
    none(&faults);
}

#[test]
fn crates_stay_behind_their_fences() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let mut faults = Vec::new();
    for name in manifest["dependencies"].as_table().unwrap().keys().map(|name| name.replace('-', "_")) {
        if !FENCES.iter().any(|(fenced, _)| *fenced == name) {
            faults.push(format!("`{name}` is a dependency without a fence in this file"));
        }
    }
    for source in sources("src") {
        for path in source.paths().into_iter().filter(|path| !source.is_test(path.line)) {
            for (fenced, places) in FENCES {
                let named = fenced.split("::").zip(&path.segments).all(|(a, b)| a == b)
                    && path.segments.len() >= fenced.split("::").count();
                if named && !places.iter().any(|place| source.name.starts_with(place)) {
                    faults.push(format!("`{fenced}` may not be used here: {}:{}", source.name, path.line));
                }
            }
        }
    }
    none(&faults);
}

#[test]
fn what_is_absent_stays_absent() {
    let mut faults = Vec::new();
    for source in sources("src") {
        for (word, line) in source.words().filter(|(_, line)| !source.is_test(*line)) {
            for (folder, words, reason) in ABSENCES {
                if source.name.starts_with(folder) && words.contains(&word) {
                    faults.push(format!("`{word}` ({reason}): {}:{line}", source.name));
                }
            }
            for (opens, places) in OPENED {
                if word == *opens && !places.iter().any(|place| source.name.starts_with(place)) {
                    faults.push(format!("`{word}` may not be called here: {}:{line}", source.name));
                }
            }
        }
    }
    none(&faults);
}

#[test]
fn files_say_what_they_own_and_are_short() {
    let mut faults = Vec::new();
    for source in ["src", "tests", "benches", "fuzz"].into_iter().flat_map(sources) {
        let name = &source.name;
        if !source.text.starts_with("//! ") {
            faults.push(format!("does not open with `//!` and what it owns: {name}:1"));
        }
        let lines = source.lines_without_tests();
        if name.starts_with("src/") && lines > LINES_MOST && !DATA_TABLES.contains(&name.as_str()) {
            faults.push(format!("{lines} lines without tests, where {LINES_MOST} are the most: {name}"));
        }
        // Put together, or this file would find itself. Only in comments: three of that letter are a currency code,
        // too.
        let reminders = [concat!("FIX", "ME"), concat!("XX", "X"), concat!("TO", "DO"), concat!("HA", "CK")];
        for (number, line) in (1..).zip(source.text.lines()) {
            let Some((_, comment)) = line.split_once("//") else { continue };
            let words = comment.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for word in words.filter(|word| reminders.contains(word)) {
                faults.push(format!("`{word}` belongs into the issue tracker: {name}:{number}"));
            }
        }
    }
    none(&faults);
}

#[test]
fn documents_that_are_named_are_there() {
    let mut faults = Vec::new();
    let code = ["src", "tests", "benches", "fuzz"].into_iter().flat_map(sources);
    let code =
        code.filter(|source| source.name != "tests/it/tidy.rs").map(|source| (source.name, source.text));
    let pages = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let pages = pages.map(|name| format!("docs/{}", name.to_str().unwrap())).chain(["README.md".to_owned()]);
    let pages = pages.filter(|name| name.ends_with(".md")).map(|name| (name.clone(), read(&name)));
    for (name, text) in code.chain(pages) {
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (number, line) in (1..).zip(text.lines()) {
            let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || "_-./".contains(c)));
            for word in words.map(|word| word.trim_end_matches('.')).filter(|word| word.ends_with(".md")) {
                let beside = format!("{folder}/{word}");
                let there = [word, beside.as_str()].iter().any(|path| root().join(path).exists());
                if !there {
                    faults.push(format!("{word} is not there: {name}:{number}"));
                }
            }
        }
    }
    none(&faults);
}

#[test]
fn packages_are_none_of_the_banned_and_all_licensed() {
    let lock: toml::Table = read("Cargo.lock").parse().unwrap();
    let mut faults = Vec::new();
    for package in lock["package"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if let Some((_, reason)) = BANNED_PACKAGES.iter().find(|(banned, _)| *banned == name) {
            faults.push(format!("{name} is banned: {reason}"));
        }
        if let Some(source) = package.get("source")
            && source.as_str() != Some("registry+https://github.com/rust-lang/crates.io-index")
        {
            faults.push(format!("{name} comes from elsewhere than crates.io: {source}"));
        }
    }
    // Only what this machine builds: nothing more has been downloaded.
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .features(CargoOpt::AllFeatures)
        .other_options(["--locked".to_owned(), "--filter-platform".to_owned(), host()])
        .exec()
        .unwrap();
    for package in &metadata.packages {
        match package.license.as_deref() {
            None => faults.push(format!("{} states no licence", package.name)),
            Some(text) if !is_allowed(text) => {
                faults.push(format!("{} is under {text}, which is not on the list", package.name));
            }
            Some(_) => {}
        }
    }
    none(&faults);
}

/// Whether one of the alternatives of a licence text has only parts that are on the list.
fn is_allowed(text: &str) -> bool {
    let text = text.replace(['(', ')'], " ").replace('/', " OR ");
    // `A OR B AND C` does not occur without parentheses that make the same of it.
    let required: Vec<&str> = text.split(" AND ").collect();
    required.iter().all(|part| part.split(" OR ").any(|licence| LICENCES.contains(&licence.trim())))
}

/// The platform that the compiler builds for by default.
fn host() -> String {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = std::process::Command::new(rustc).arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

#[test]
fn licences_in_spdx_and_in_the_older_form() {
    for (text, allowed) in [
        ("MIT OR Apache-2.0", true),
        ("MIT/Apache-2.0", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0", false),
        ("MIT AND GPL-3.0", false),
        ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true),
    ] {
        assert_eq!(is_allowed(text), allowed, "{text}");
    }
}

#[test]
fn operations_names_every_refusal_with_its_codes() {
    let text = read("docs/OPERATIONS.md");
    let dialects: Vec<Dialect> = shipped_dialects()
        .iter()
        .map(|(name, toml)| {
            Dialect::from_toml(name, toml).unwrap_or_else(|faults| panic!("{name}: {faults:?}"))
        })
        .collect();
    let mut faults = Vec::new();
    for refusal in Refusal::ALL {
        let row = format!("| `{}` | ", refusal.name());
        let Some(row) = text.lines().find_map(|line| line.strip_prefix(&row)) else {
            faults.push(format!("docs/OPERATIONS.md has no row for `{refusal}`"));
            continue;
        };
        let shown = row.split('|').next().unwrap_or_default().trim();
        for dialect in &dialects {
            let code = dialect.response_code(*refusal);
            if shown != code.as_str() {
                faults.push(format!(
                    "docs/OPERATIONS.md says {shown} for `{refusal}`, and {} says {}",
                    dialect.name(),
                    code.as_str()
                ));
            }
        }
    }
    none(&faults);
}

#[test]
fn operations_names_every_problem_of_the_api_and_every_reason_to_close() {
    let text = read("docs/OPERATIONS.md");
    let problems = ProvisioningRefusal::ALL.iter().map(|refusal| refusal.code());
    let mut names: BTreeSet<String> = problems.map(str::to_owned).collect();
    names.extend(CloseReason::ALL.iter().map(|reason| reason.name().to_owned()));
    for source in sources("src/api") {
        let literals = source.text.split("Problem::new(").skip(1);
        names.extend(literals.filter_map(|rest| Some(rest.split_once('"')?.1.split('"').next()?.to_owned())));
    }
    assert!(names.contains("body-too-long"), "the search finds none any more");
    let missing = names.into_iter().filter(|name| !text.contains(&format!("`{name}`")));
    none(&missing.map(|name| format!("docs/OPERATIONS.md does not name `{name}`")).collect::<Vec<_>>());
}

#[test]
fn operations_names_every_metric() {
    let text = read("docs/OPERATIONS.md");
    let mut metrics = BTreeSet::new();
    for source in sources("src") {
        metrics.extend(registered(&source.text));
    }
    for known in ["link_connections", "switch_in_flight", "journal_group_seconds", "tsp_waiting_calls_limit"]
    {
        assert!(metrics.contains(known), "the search does not find {known} any more");
    }
    let missing = metrics.into_iter().filter(|metric| !text.contains(&format!("`{metric}`")));
    none(&missing.map(|metric| format!("docs/OPERATIONS.md does not name `{metric}`")).collect::<Vec<_>>());
}

/// The metrics that a file registers, under the one prefix that it gives them.
fn registered(text: &str) -> Vec<String> {
    let literal = |rest: &str| Some(rest.trim_start().strip_prefix('"')?.split('"').next()?.to_owned());
    let prefix = text.split("sub_registry_with_prefix(").nth(1).and_then(literal);
    let calls = [".register(", " counter(", " gauge("];
    let names = calls.iter().flat_map(|call| text.split(call).skip(1).filter_map(literal));
    names.map(|name| prefix.iter().cloned().chain([name]).collect::<Vec<_>>().join("_")).collect()
}

fn none(faults: &[String]) {
    let mut text = String::new();
    for fault in faults {
        let _ = writeln!(text, "  {fault}");
    }
    assert!(faults.is_empty(), "{} faults:\n{text}", faults.len());
}
