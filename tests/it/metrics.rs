//! The admin listener of the real daemon: its metrics are those of the document, and it says when nothing can be
//! taken on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::daemon::{Daemon, init};
use crate::players::{LOOK, PATIENCE, change};
use crate::source::read;

/// A page of metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Name with labels, as it stands there, and value.
    samples: BTreeMap<String, f64>,
    /// Without `_total` and the like.
    pub(crate) names: BTreeSet<String>,
}

impl Metrics {
    /// Asks the admin listener.
    pub(crate) fn of(admin: &str) -> Self {
        let (status, head, page) = get(admin, "/metrics");
        assert_eq!(status, 200, "{head}");
        assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
        assert!(page.ends_with("# EOF\n"), "the whole page");
        let names = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        let samples = page.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
        Self { samples: samples.collect(), names: names.map(str::to_owned).collect() }
    }

    /// The value of a metric with all of these labels; 0 when there is none yet.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let fits = |sample: &str| {
            let (found, rest) = sample.split_once('{').unwrap_or((sample, ""));
            found == name && labels.iter().all(|label| rest.contains(label))
        };
        self.samples.iter().filter(|(sample, _)| fits(sample)).map(|(_, value)| value).sum()
    }
}

/// Status, head in lower case, and body of a page of the admin listener.
pub(crate) fn get(admin: &str, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

/// What the daemon shows now.
pub(crate) async fn metrics(daemon: &Daemon) -> Metrics {
    let admin = daemon.addresses["admin"].clone();
    tokio::task::spawn_blocking(move || Metrics::of(&admin)).await.unwrap()
}

/// Waits until a metric has a value.
pub(crate) async fn until(daemon: &Daemon, name: &str, labels: &[(&str, &str)], value: f64) {
    for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
        if metrics(daemon).await.value(name, labels) == value {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("{name} {labels:?} never is {value}");
}

/// The rows of tables in a section of a document whose first cell begins with a back-quote, from there on.
fn rows<'a>(text: &'a str, section: &str) -> impl Iterator<Item = &'a str> {
    let section = text.split(&format!("\n## {section}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    section.lines().filter_map(|line| line.strip_prefix("| `"))
}

/// Every metric that the document has a row for.
fn documented() -> BTreeSet<String> {
    let text = read("docs/OPERATIONS.md");
    let rows = rows(&text, "Metrics");
    let names = rows.filter_map(|row| row.split('|').next()).flat_map(|cell| cell.split('`'));
    names.filter(|name| name.contains('_')).map(str::to_owned).collect()
}

#[test]
fn the_daemon_shows_its_metrics_and_the_document_has_each_of_them() {
    let kept = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&init(&kept.path().join("switch"), ["127.0.0.1:1", "127.0.0.1:2"]));
    let page = Metrics::of(&daemon.addresses["admin"]);
    let documented = documented();
    let undocumented: Vec<_> = page.names.difference(&documented).collect();
    assert!(undocumented.is_empty(), "docs/OPERATIONS.md has no row for {undocumented:?}");
    // Families that have no member before something happens.
    let later: BTreeSet<String> = [
        "link_closed",
        "link_dials_failed",
        "link_listener_refused",
        "api_answers",
        "switch_suspense",
        // Of receivers, of which `init` configures none.
        "notifications_waiting",
        "notifications_given_up",
        "notifications_delivered",
        "notifications_failed_calls",
        "notifications_refused",
    ]
    .map(str::to_owned)
    .into();
    let gone: Vec<_> = documented.difference(&page.names).filter(|name| !later.contains(*name)).collect();
    assert!(gone.is_empty(), "docs/OPERATIONS.md has rows for what is not there: {gone:?}");
    for limit in page.names.iter().filter(|name| name.contains("_limit")) {
        assert!(page.value(limit, &[]) > 0.0, "{limit}");
    }
    daemon.stop();
}

/// Whether the configuration's reference has this key; of tables in a list, in the first.
fn is_key(reference: &toml::Value, key: &str) -> bool {
    let within = |value: &toml::Value, name: &str| {
        value.as_array().and_then(|tables| tables.first()).unwrap_or(value).get(name).cloned()
    };
    key.split('.').try_fold(reference.clone(), |value, name| within(&value, name)).is_some()
}

#[test]
fn every_limit_has_its_key_its_metric_and_its_test() {
    let (operations, reliability) = (read("docs/OPERATIONS.md"), read("docs/RELIABILITY.md"));
    let reference: toml::Value = toml::from_str(&read("docs/reference.toml")).unwrap();
    let documented = documented();
    let mut tests: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for row in rows(&reliability, "At the limits") {
        let cells: Vec<&str> = row.split('`').collect();
        tests.insert(cells[0], (cells[2], cells[4]));
    }
    let mut limits: BTreeSet<String> =
        reference["limits"].as_table().unwrap().keys().map(|key| format!("limits.{key}")).collect();
    for row in rows(&operations, "Limits") {
        let cells: Vec<&str> = row.split('`').collect();
        let (key, metric) = (cells[0], cells[cells.len() - 2]);
        limits.remove(key);
        assert!(is_key(&reference, key), "docs/reference.toml has no {key}");
        assert!(documented.contains(metric), "docs/OPERATIONS.md explains no {metric} of {key}");
        let (file, test) =
            tests.remove(key).unwrap_or_else(|| panic!("docs/RELIABILITY.md has no test of {key}"));
        assert!(read(file).contains(&format!("fn {test}(")), "{file} has no {test} of {key}");
    }
    assert!(limits.is_empty() && tests.is_empty(), "docs/OPERATIONS.md has no rows for {limits:?} {tests:?}");
}

#[test]
fn callers_past_the_limit_of_the_admin_listener_wait_their_turn() {
    let kept = tempfile::tempdir().unwrap();
    let path = init(&kept.path().join("switch"), ["127.0.0.1:1", "127.0.0.1:2"]);
    change(&path, "[admin]", "[admin]\nconnections = 2");
    let daemon = Daemon::start(&path);
    let admin = daemon.addresses["admin"].clone();
    let silent = [(); 2].map(|()| TcpStream::connect(&admin).unwrap());
    let mut waits = TcpStream::connect(&admin).unwrap();
    write!(waits, "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    waits.set_read_timeout(Some(LOOK * 100)).unwrap();
    assert!(waits.read(&mut [0]).is_err(), "it is answered though all places are taken");
    waits.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(silent);
    let mut answer = String::new();
    waits.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let page = Metrics::of(&admin);
    assert_eq!(page.value("admin_connections_limit", &[]), 2.0);
    assert!(page.value("admin_connections", &[]) <= 2.0);
    daemon.stop();
}

#[test]
fn it_is_healthy_before_it_is_ready_and_says_why() {
    let kept = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&init(&kept.path().join("switch"), ["127.0.0.1:1", "127.0.0.1:2"]));
    let admin = &daemon.addresses["admin"];
    assert_eq!(get(admin, "/health").0, 200);
    let (status, _, body) = get(admin, "/ready");
    assert_eq!((status, body.contains("no issuer takes requests")), (503, true), "{body}");
    for path in ["/", "/v1/tokens", "/metrics/more"] {
        let (status, head, _) = get(admin, path);
        assert_eq!((status, head.contains("application/problem+json")), (404, true), "{path}");
    }
    daemon.stop();
}
