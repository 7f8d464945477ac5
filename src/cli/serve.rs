//! `serve`: the daemon, until a signal; then it drains.

use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, say};
use crate::app::{App, RunningApp};
use crate::config::Config;
use crate::stdx::clock::Clock;

/// Runs the daemon until SIGTERM or SIGINT; then refuses new requests, finishes or reverses what is in flight, and
/// ends. On SIGHUP it looks at its certificate files.
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
    let mut app = App::start(&config, Clock::system()).map_err(|error| Failure::new(error.to_string()))?;
    announce(&config, &app);
    let ended_by_itself = runtime.block_on(until_signal(&mut app))?;
    if ended_by_itself {
        tracing::error!("the switch ended by itself");
    } else {
        tracing::info!("draining");
    }
    app.stop().map_err(|error| Failure::new(error.to_string()))
}

/// How often certificate files are looked at: who renews certificates need not tell us.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(10);

/// True when the daemon ended before any signal came. SIGHUP has it look at its certificate files at once.
async fn until_signal(app: &mut RunningApp) -> Result<bool, Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::new(format!("no signals can be heard: {error}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut hangup = listen(SignalKind::hangup())?;
    let mut look = tokio::time::interval(CERTIFICATES_EVERY);
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(false),
            _ = interrupt.recv() => return Ok(false),
            () = app.ended() => return Ok(true),
            _ = hangup.recv() => {}
            _ = look.tick() => {}
        }
        app.renew_certificates();
    }
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
