//! The integration tests, all in one binary so that one is linked: whatever needs more than one module, a socket, a
//! file or another program.

// The fuzz targets take their macro from this crate; here it is our own.
extern crate self as libfuzzer_sys;
pub(crate) use fuzz_targets::fuzz_target;

mod access;
mod audit;
mod bad_input;
mod bulk;
mod codec_golden;
mod cryptograms;
mod daemon;
mod device_keys;
mod dialects;
mod drain;
mod explain;
mod faults;
mod folding;
mod fuzz_targets;
mod gate;
mod history;
#[path = "../simulation/journal_book.rs"]
mod journal_book;
mod leaks;
mod manual;
mod messages;
mod metrics;
mod notifications;
mod openapi;
mod other_keys;
mod overload;
mod parts;
mod passed;
mod payment_crypto;
mod peers;
mod players;
mod programs;
mod provisioning;
mod reload;
mod restart;
#[cfg(feature = "sabotage")]
mod sabotage;
mod saf;
mod schema;
mod source;
mod story;
mod tidy;
mod wallet;
