//! `check`: reads configuration, dialects and keys, changes nothing, names every fault.

use std::path::PathBuf;

use super::{Failure, say};
use crate::config::{Config, REFERENCE};

/// Names every fault of a configuration at once, with file, line and key; exit code 1 when there is one.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// The configuration file.
    #[arg(long, value_name = "FILE", required_unless_present = "reference")]
    config: Option<PathBuf>,
    /// Print every key there is, with its default and meaning, instead.
    #[arg(long, conflicts_with = "config")]
    reference: bool,
}

pub(super) fn run(arguments: &Check) -> Result<(), Failure> {
    let Some(file) = &arguments.config else {
        say(REFERENCE);
        return Ok(());
    };
    let config = Config::load(file)?;
    say(&format!(
        "{}: no faults. {}, {}, {}, {}, {}.",
        file.display(),
        counted(config.acquirers.len(), "acquirer"),
        counted(config.issuers.len(), "issuer"),
        counted(config.routes.len(), "route"),
        counted(config.tsp.token_ranges.len(), "token range"),
        counted(config.tsp.requestors.len(), "requestor"),
    ));
    if !config.tsp.requestors.is_empty() {
        say(
            "Requestors of the configuration stand as they are here until an operator has registered one of their id;\nfrom then on the registry in the journal counts, and `serve` warns of each that differs.",
        );
    }
    if config.security.is_development() {
        say("These are development keys: no real card may come near them.");
    }
    Ok(())
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
