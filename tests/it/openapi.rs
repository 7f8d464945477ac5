//! The API's document: what is kept in the repository is what the code says.

use tokenswitch::api::openapi;

use crate::source::{read, root};

const KEPT: &str = "docs/openapi.json";

#[test]
fn operations_has_a_row_for_every_call() {
    let document: serde_json::Value = serde_json::from_str(&openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    let calls = paths.flat_map(|(path, methods)| {
        let path = path.replace("{reference}", "REFERENCE").replace("{id}", "ID");
        methods
            .as_object()
            .unwrap()
            .keys()
            .map(move |method| format!("| `{} {path}` | ", method.to_ascii_uppercase()))
    });
    let mut calls: Vec<String> = calls.collect();
    assert!(calls.len() > 20, "{calls:?}");
    let text = read("docs/OPERATIONS.md");
    calls.retain(|call| !text.lines().any(|line| line.starts_with(call)));
    assert!(calls.is_empty(), "docs/OPERATIONS.md has no rows that begin with {calls:?}");
}

#[test]
fn the_document_that_is_kept_is_the_one_that_is_served() {
    let made = openapi();
    if std::env::var("BLESS").is_ok_and(|bless| bless == "1") {
        std::fs::write(root().join(KEPT), &made).unwrap();
    }
    let kept = read(KEPT);
    let differs = made.lines().zip(kept.lines()).position(|(made, kept)| made != kept);
    assert!(
        made == kept,
        "{KEPT} differs from the code from line {} on; `BLESS=1 cargo test --test it openapi` renews it",
        differs.unwrap_or_default() + 1
    );
}
