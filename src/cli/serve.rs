//! `serve`: the daemon, until a signal; then it drains.

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, say};
use crate::app::{App, RunningApp};
use crate::config::Config;
use crate::stdx::clock::Clock;

/// Runs the daemon until SIGTERM or SIGINT; then refuses new requests, finishes or reverses what is in flight, and
/// ends.
#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Log lines as JSON instead of text.
    #[arg(long)]
    log_json: bool,
}

pub(super) fn run(arguments: &Serve) -> Result<(), Failure> {
    super::log::start(arguments.log_json);
    super::host::harden();
    let config = Config::load(&arguments.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("no runtime can be started: {error}")))?;
    let app = App::start(&config, Clock::system()).map_err(|error| Failure::new(error.to_string()))?;
    announce(&config, &app);
    let ended_by_itself = runtime.block_on(until_signal(&app))?;
    if ended_by_itself {
        tracing::error!("the switch ended by itself");
    } else {
        tracing::info!("draining");
    }
    app.stop().map_err(|error| Failure::new(error.to_string()))
}

/// True when the daemon ended before any signal came.
async fn until_signal(app: &RunningApp) -> Result<bool, Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::new(format!("no signals can be heard: {error}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = app.ended() => true,
    })
}

fn announce(config: &Config, app: &RunningApp) {
    let found = app.found;
    say(&format!(
        "{}: {} journal entries read, {} tokens, {} requests closed without an outcome, {} messages to deliver",
        config.node.name, found.entries, found.tokens, found.switch.without_outcome, found.switch.to_deliver,
    ));
    for (name, address) in app.addresses() {
        say(&format!("listening {name} {address}"));
    }
    say(&format!("listening api {}", app.api_address()));
    say(&format!("listening admin {}", app.admin_address()));
    say("ready");
}
