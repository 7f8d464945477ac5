//! `Command`: the subcommands; `run` dispatches. This is the only part of the program that prints.

mod audit;
mod check;
mod decode;
mod demo;
mod explain;
mod host;
mod http_client;
mod init;
mod init_tls;
mod journal;
mod keys;
mod log;
mod provision;
mod saf;
mod serve;
mod simulate;
mod wallet;
mod webhook;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

pub use http_client::{CertificateFiles, HttpAnswer, HttpClient};
pub use init::{Addresses, CONFIG_FILE, CREDENTIAL_FILE, Init, write as write_init};
pub use simulate::{Acquirer, Brain, Issuer, Shared};
pub use webhook::{Received, Webhook};

use crate::config::Faults;
use crate::vocab::WordError;

/// A card-network switch and Token Service Provider in one daemon.
#[derive(Debug, clap::Parser)]
#[command(name = "tokenswitch", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Init(Init),
    Serve(serve::Serve),
    Demo(demo::Demo),
    Check(check::Check),
    Decode(decode::Decode),
    Keys(keys::Keys),
    Journal(journal::JournalCommand),
    Audit(audit::Audit),
    Provision(provision::Provision),
    Saf(saf::Saf),
    Wallet(wallet::Wallet),
    Webhook(webhook::Receive),
    Acquirer(Box<Acquirer>),
    Issuer(Box<Issuer>),
}

/// Why a command ended without having done what was asked: text for a person, one line a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A failure with a file: its name, what could not be done, and the system's reason.
    #[must_use]
    pub fn file(path: &Path, what: &str, error: &io::Error) -> Self {
        Self(format!("{} {what}: {error}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<WordError> for Failure {
    fn from(error: WordError) -> Self {
        Self(error.to_string())
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        let count = faults.0.len();
        let s = if count == 1 { "" } else { "s" };
        Self(format!("{faults}\n{count} fault{s}; nothing was started"))
    }
}

/// Runs the command that the process was started with. Exit code 0: done; 1: not, and standard error says why;
/// 2: not understood.
#[must_use]
pub fn run() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Init(arguments) => init::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Decode(arguments) => decode::run(&arguments),
        Command::Keys(arguments) => keys::run(&arguments),
        Command::Journal(arguments) => journal::run(&arguments),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Provision(arguments) => provision::run(&arguments),
        Command::Saf(arguments) => saf::run(&arguments),
        Command::Wallet(arguments) => wallet::run(&arguments),
        Command::Webhook(arguments) => webhook::run(&arguments),
        Command::Acquirer(arguments) => simulate::run_acquirer(&arguments),
        Command::Issuer(arguments) => simulate::run_issuer(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            log::complain(&failure);
            ExitCode::FAILURE
        }
    }
}

/// Prints lines for a person or a pipe; a reader that went away is no fault.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{}", text.trim_end_matches('\n'));
}
