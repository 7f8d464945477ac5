//! `acquirer` and `issuer`: the simulators by themselves. Their brains are in `sim`; here are their arguments
//! and their sockets.

mod acquirer;
mod issuer;
mod phones;
mod sockets;
mod till;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

pub use acquirer::Acquirer;
pub(super) use acquirer::run as run_acquirer;
pub use issuer::Issuer;
pub(super) use issuer::run as run_issuer;
pub use sockets::{Brain, Shared};
pub(super) use till::{Till, pay_at, purchase};

use super::Failure;
use crate::codec::{Dialect, FrameFormat, shipped_dialects};

/// How the messages lie on the wire.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct WireArguments {
    /// A shipped dialect's name, or a file ending in .toml.
    #[arg(long, default_value = "iso87-ascii")]
    dialect: String,
    /// binary-2, binary-4 or ascii-4, each also with -inclusive.
    #[arg(long, default_value = "binary-2")]
    framing: String,
    /// A fixed header before each message, in hex (a TPDU has five bytes).
    #[arg(long, default_value = "", hide_default_value = true)]
    header: String,
}

/// `WireArguments`, looked up and checked.
struct WireSetup {
    dialect: Arc<Dialect>,
    framing: FrameFormat,
    header: Vec<u8>,
}

impl WireArguments {
    fn resolve(&self) -> Result<WireSetup, Failure> {
        let shipped = shipped_dialects().iter().find(|(name, _)| *name == self.dialect);
        let text = match shipped {
            Some((_, text)) => (*text).to_owned(),
            None => {
                let path = Path::new(&self.dialect);
                std::fs::read_to_string(path)
                    .map_err(|error| Failure::file(path, "is no dialect and cannot be read", &error))?
            }
        };
        let dialect = Dialect::from_toml(&self.dialect, &text).map_err(|errors| {
            Failure::new(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        })?;
        let header = hex::decode(&self.header).map_err(|_| Failure::new("--header is not hexadecimal"))?;
        let framing = FrameFormat::parse(&self.framing, header.len(), 4_096)
            .map_err(|error| Failure::new(format!("--framing: {error}")))?;
        Ok(WireSetup { dialect: Arc::new(dialect), framing, header })
    }
}

/// A runtime of one thread, and a place for tasks that stay on it.
pub(super) fn on_one_thread<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(format!("no runtime: {error}")))?;
    Ok(tokio::task::LocalSet::new().block_on(&runtime, work))
}

/// Writes one JSON value a line.
fn write_lines(path: &PathBuf, lines: impl Iterator<Item = Value>) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| Failure::file(path, "cannot be written", error);
    let file = std::fs::File::create(path).map_err(|error| failed(&error))?;
    let mut file = std::io::BufWriter::new(file);
    for line in lines {
        writeln!(file, "{line}").map_err(|error| failed(&error))?;
    }
    file.flush().map_err(|error| failed(&error))
}

/// Ends when the process is asked to: SIGINT or SIGTERM.
pub(super) async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
