//! `serve`: the daemon, until a signal; then it drains.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, say};
use crate::app::{App, Progress, RunningApp};
use crate::config::Config;
use crate::stdx::clock::Clock;
use crate::stdx::lock::Lock as _;

/// Runs the daemon until SIGTERM or SIGINT; then refuses new requests, finishes or reverses what is in flight, and
/// ends; a second of these signals has it wait for no issuer any longer. On SIGHUP it reads its configuration again,
/// and looks at its certificate files.
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
    let log = super::log::start(arguments.log_json)?;
    super::host::harden();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("no runtime can be started: {error}")))?;
    let hangup = {
        let _entered = runtime.enter();
        hear(SignalKind::hangup())?
    };
    let mut config = Config::load(&arguments.config)?;
    let mut app = start(&config)?;
    app.registry.with(|registry| log.register(registry));
    runtime.block_on(async {
        let mut signals = Signals::listen(hangup)?;
        announce(&config, &app);
        if until_signal(&mut signals, &mut app, &mut config, &arguments.config).await {
            tracing::error!("the switch ended by itself");
        } else {
            drained(&mut signals, &app).await;
        }
        Ok::<_, Failure>(())
    })?;
    app.stop().map_err(|error| Failure::new(error.to_string()))
}

/// On a terminal it shows how far it is with reading the journal.
fn start(config: &Config) -> Result<RunningApp, Failure> {
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} journal entries read, {per_sec}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let started = App::start(config, Clock::system(), &mut |Progress { entries, of }| {
        bar.set_length(of);
        bar.set_position(entries);
    });
    bar.finish_and_clear();
    started.map_err(|error| Failure::new(error.to_string()))
}

/// How often certificate files are looked at: who renews certificates need not tell us.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(10);

fn hear(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::new(format!("no signals can be heard: {error}")))
}

/// The signals that the daemon hears. It says that it is ready once it does: SIGTERM or SIGINT before that ends it at
/// once, since nothing is in flight; SIGHUP is heard from the beginning, and done once it is ready.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen(hangup: Signal) -> Result<Self, Failure> {
        let (terminate, interrupt) = (hear(SignalKind::terminate())?, hear(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, hangup })
    }

    /// SIGTERM or SIGINT.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Until what is in flight has its end. A second signal shortens it.
async fn drained(signals: &mut Signals, app: &RunningApp) {
    tracing::info!("draining");
    app.drain();
    tokio::select! {
        () = app.ended() => return,
        () = signals.end() => {}
    }
    tracing::warn!("told to end again: no issuer is waited for any longer");
    app.hurry();
    app.ended().await;
}

/// True when the daemon ended before any signal came. SIGHUP has it read its configuration again and look at its
/// certificate files at once.
async fn until_signal(signals: &mut Signals, app: &mut RunningApp, config: &mut Config, path: &Path) -> bool {
    let mut look = tokio::time::interval(CERTIFICATES_EVERY);
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return false,
            _ = signals.interrupt.recv() => return false,
            () = app.ended() => return true,
            _ = signals.hangup.recv() => reload(app, config, path).await,
            _ = look.tick() => {}
        }
        app.renew_certificates();
    }
}

/// Reads the configuration again: used whole, or not at all and every fault told.
async fn reload(app: &RunningApp, config: &mut Config, path: &Path) {
    let done = match Config::load(path) {
        Ok(new) => match app.reload(config, &new).await {
            Ok(()) => Ok(new),
            Err(faults) => Err(faults),
        },
        Err(faults) => Err(faults.0.iter().map(ToString::to_string).collect()),
    };
    match done {
        Ok(new) => {
            *config = new;
            tracing::info!("the configuration was read again");
        }
        Err(faults) => {
            for fault in faults {
                tracing::error!(%fault, "the configuration stays as it was");
            }
        }
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
