//! Parts that a test needs and that a machine with only a Rust toolchain does not have.

use std::io::Write as _;
use std::path::PathBuf;

use crate::source::root;

/// Gives `part` if it is there. If not, says so and how to get it; the test then passes without having run, unless
/// `TOKENSWITCH_ALL_PARTS=1` asks for every part, as `.ci/run` does.
pub(crate) fn needs<T>(what: &str, get_it_by: &str, part: Option<T>) -> Option<T> {
    if part.is_none() {
        let text = format!("NOT RUN: {what} is not here, get it by `{get_it_by}`");
        let all = std::env::var("TOKENSWITCH_ALL_PARTS").is_ok_and(|value| value == "1");
        assert!(!all, "{text}");
        // Not `eprintln!`, which the test harness keeps to itself when a test passes.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
    part
}

/// A Python that has pyiso8583.
pub(crate) fn peers_python() -> Option<PathBuf> {
    let python = root().join("target/peers/bin/python");
    needs("the independent peer (Python with pyiso8583)", ".ci/run parts", python.exists().then_some(python))
}

/// The program that reads the API's document and tries everything that it says.
pub(crate) fn schemathesis() -> Option<PathBuf> {
    let program = root().join("target/schema/bin/schemathesis");
    needs("schemathesis", ".ci/run parts", program.exists().then_some(program))
}

#[test]
fn a_part_that_is_there_is_given() {
    assert_eq!(needs("a part", "nothing", Some(7)), Some(7));
}
