//! What the process asks of its host: no core dumps, and as many open files as the host allows.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Keys and card numbers lie in this memory: nothing may dump it, nobody of the same user may look into it. Raises
/// the soft limit of open files to the hard one.
pub(super) fn harden() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps of this process cannot be forbidden");
    }
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "the limit on core dumps cannot be set");
    }
    raise_file_limit();
}

/// Connections are files.
pub(super) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the limit on open files cannot be raised");
    }
}

/// Who runs this: the user that the environment names, or else the user's number.
pub(super) fn user() -> String {
    std::env::var("USER").unwrap_or_else(|_| format!("user {}", rustix::process::getuid().as_raw()))
}
