//! Where the log goes: standard error, as text or JSON, filtered by `TOKENSWITCH_LOG`.

use std::io;

use tracing_subscriber::EnvFilter;

/// sled says what it does while a thread that used it ends; by then the thread's part of the log is gone, which ends
/// the process. Nothing below a warning of it is let through, whatever the filter asks for.
const QUIET_SLED: &str = "sled=warn";

/// Starts logging; a second start in one process changes nothing.
pub(super) fn start(json: bool) {
    let filter = EnvFilter::try_from_env("TOKENSWITCH_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = match QUIET_SLED.parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A subscriber that is there already, as in the demo under test, stays.
    let _ = if json { builder.json().try_init() } else { builder.with_ansi(false).try_init() };
}
