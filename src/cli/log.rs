//! Where the log goes: standard error, as text or JSON, filtered by `TOKENSWITCH_LOG`. A thread of its own writes it:
//! while nobody reads there, lines are lost, and nobody waits.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

use super::Failure;
use crate::stdx::lock::Lock;

/// sled says what it does while a thread that used it ends; by then the thread's part of the log is gone, which ends
/// the process. Nothing below a warning of it is let through, whatever the filter asks for.
const QUIET_SLED: &str = "sled=warn";

/// How many bytes may wait for standard error; as many again may be in the thread's hands. Ten thousand lines or so.
const WAITING_MOST: usize = 2 << 20;

/// How long the end of the program waits for standard error to take what is left.
const PATIENCE: Duration = Duration::from_secs(2);

/// The log. Let go of at the end: it then waits, though not for ever, until what was logged is written.
#[must_use]
pub(super) struct Log(Lines);

/// Starts logging; a second start in one process changes nothing.
///
/// # Errors
/// The system gives no thread.
pub(super) fn start(json: bool) -> Result<Log, Failure> {
    let filter = EnvFilter::try_from_env("TOKENSWITCH_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = match QUIET_SLED.parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    };
    let lines = Lines::start(io::stderr())
        .map_err(|error| Failure::new(format!("no thread can be started for the log: {error}")))?;
    let log = Log(lines.clone());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || lines.clone());
    // A subscriber that is there already, as in the demo under test, stays.
    let _ = if json { builder.json().try_init() } else { builder.with_ansi(false).try_init() };
    Ok(log)
}

/// Says on standard error why the program ends. It ends also when nobody reads there.
pub(super) fn complain(failure: &Failure) {
    let text = format!("{failure}\n");
    // Nobody is left to tell when standard error is closed.
    let _ = match Lines::start(io::stderr()) {
        Ok(mut lines) => {
            let put = lines.write_all(text.as_bytes());
            lines.wait_until_written(PATIENCE);
            put
        }
        Err(_) => io::stderr().write_all(text.as_bytes()),
    };
}

impl Log {
    /// Shows itself in `registry` under `log_`.
    pub(super) fn register(&self, registry: &mut Registry) {
        let dropped = self.0.0.dropped.clone();
        let help = "Log lines that standard error did not take";
        registry.sub_registry_with_prefix("log").register("lines_dropped", help, dropped);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.wait_until_written(PATIENCE);
    }
}

/// Lines on their way out, written by a thread that lives as long as the process. Clones share them.
#[derive(Clone)]
struct Lines(Arc<Way>);

struct Way {
    waiting: Mutex<Waiting>,
    /// Told when something waits, and when what was taken is written.
    changed: Condvar,
    dropped: Counter,
}

#[derive(Default)]
struct Waiting {
    /// Whole lines.
    bytes: Vec<u8>,
    /// Whether the thread has taken some that are not written yet.
    writing: bool,
}

impl Lines {
    fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let lines = Self(Arc::new(Way {
            waiting: Mutex::default(),
            changed: Condvar::new(),
            dropped: Counter::default(),
        }));
        let way = Arc::clone(&lines.0);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || way.carry(out))?;
        Ok(lines)
    }

    fn wait_until_written(&self, patience: Duration) {
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_left = |waiting: &mut Waiting| waiting.writing || !waiting.bytes.is_empty();
        let _ = self.0.changed.wait_timeout_while(waiting, patience, is_left);
    }
}

impl Write for Lines {
    /// Takes a whole line, or drops it where there is no room.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let was_empty = self.0.waiting.with(|waiting| {
            let was_empty = waiting.bytes.is_empty();
            if waiting.bytes.len().saturating_add(line.len()) > WAITING_MOST {
                self.0.dropped.inc();
            } else {
                waiting.bytes.extend_from_slice(line);
            }
            was_empty
        });
        if was_empty {
            self.0.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Way {
    fn carry(&self, mut out: impl Write) {
        let mut taken = Vec::new();
        loop {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let nothing_waits = |waiting: &mut Waiting| waiting.bytes.is_empty();
            let waiting = self.changed.wait_while(waiting, nothing_waits);
            let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
            mem::swap(&mut taken, &mut waiting.bytes);
            waiting.writing = true;
            drop(waiting);
            if out.write_all(&taken).is_err() {
                let lines = taken.iter().filter(|byte| **byte == b'\n').count();
                self.dropped.inc_by(u64::try_from(lines).unwrap_or(u64::MAX));
            }
            taken.clear();
            self.waiting.with(|waiting| waiting.writing = false);
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Far longer than anything takes here.
    const LONG: Duration = Duration::from_secs(60);

    /// Writes once it may, and as it is told to.
    struct Gate {
        opens: Receiver<io::Result<()>>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.opens.recv().unwrap_or(Ok(()))?;
            self.written.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (Lines, Sender<io::Result<()>>, Receiver<Vec<u8>>) {
        let (open, opens) = channel();
        let (written, read) = channel();
        (Lines::start(Gate { opens, written }).unwrap(), open, read)
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_the_rest_is_written_in_order() {
        let (mut lines, open, read) = gated();
        let numbered = |number: usize| format!("{number:>63}\n").into_bytes();
        lines.write_all(&numbered(0)).unwrap();
        while !lines.0.waiting.with(|waiting| waiting.writing) {
            std::thread::yield_now();
        }
        let room = WAITING_MOST / 64;
        for number in 1..=room + 5 {
            lines.write_all(&numbered(number)).unwrap();
        }
        assert_eq!(lines.0.dropped.get(), 5);
        drop(open);
        lines.wait_until_written(LONG);
        let written: Vec<u8> = read.try_iter().flatten().collect();
        let expected: Vec<u8> = (0..=room).flat_map(numbered).collect();
        assert!(written == expected, "{} bytes for {}", written.len(), expected.len());
    }

    #[test]
    fn a_reader_that_is_gone_is_counted_by_lines() {
        let (mut lines, open, read) = gated();
        open.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        lines.write_all(b"one\n").unwrap();
        lines.wait_until_written(LONG);
        assert_eq!(lines.0.dropped.get(), 1);
        open.send(Ok(())).unwrap();
        lines.write_all(b"two\n").unwrap();
        lines.wait_until_written(LONG);
        assert_eq!(read.try_iter().collect::<Vec<_>>(), [b"two\n"]);
    }
}
