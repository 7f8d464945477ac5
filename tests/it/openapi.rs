//! The API's document: what is kept in the repository is what the code says.

use tokenswitch::api::openapi;

use crate::source::{read, root};

const KEPT: &str = "docs/openapi.json";

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
