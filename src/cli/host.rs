//! What the process asks of its host: no core dumps, as many open files as the host allows, and who runs it.

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

/// Who does what others will ask about later.
#[derive(Debug, clap::Args)]
pub(super) struct Person {
    /// Who does this; without it the user that the environment names, or the user's number.
    #[arg(long, value_name = "NAME")]
    pub(super) who: Option<String>,
}

impl Person {
    pub(super) fn name(&self) -> String {
        let user = || format!("user {}", rustix::process::getuid().as_raw());
        self.who.clone().or_else(|| std::env::var("USER").ok()).unwrap_or_else(user)
    }
}
