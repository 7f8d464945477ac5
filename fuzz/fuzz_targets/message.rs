//! Any bytes as a message of each dialect: what is read is written and read again the same.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tokenswitch::codec::{Dialect, decode, describe, encode, shipped_dialects};

static DIALECTS: LazyLock<Vec<Dialect>> =
    LazyLock::new(|| shipped_dialects().iter().map(|(name, _)| Dialect::shipped(name).unwrap()).collect());

fuzz_target!(|bytes: &[u8]| {
    for dialect in DIALECTS.iter() {
        match decode(dialect, bytes) {
            Ok(message) => {
                let mut written = Vec::new();
                encode(dialect, &message, &mut written).unwrap();
                assert_eq!(decode(dialect, &written).unwrap(), message);
                let _ = describe(dialect, &message).to_string();
                let _ = (message.icc(), message.original_data(), dialect.token_data(&message));
            }
            Err(failure) => assert!(failure.error.offset.is_some_and(|offset| offset <= bytes.len())),
        }
    }
});
