//! `Daemon`: the real program in a directory of its own, from `init` to its end.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_tokenswitch");

/// A running daemon; killed when let go.
pub(crate) struct Daemon {
    child: Child,
    /// Where it listens, by name.
    pub(crate) addresses: BTreeMap<String, String>,
    /// The line that says what was found on disk.
    pub(crate) found: String,
    log: PathBuf,
}

/// Makes a directory that a daemon starts from, with issuers at these addresses and everything else on free ports;
/// gives its configuration file.
pub(crate) fn init(directory: &Path, issuers: [&str; 2]) -> PathBuf {
    init_as(directory, issuers, &[])
}

/// As `init`, with more arguments.
pub(crate) fn init_as(directory: &Path, issuers: [&str; 2], more: &[&str]) -> PathBuf {
    let status = Command::new(PROGRAM)
        .arg("init")
        .arg(directory)
        .args(["--acquirer", "127.0.0.1:0", "--api", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .args(["--issuer-1", issuers[0], "--issuer-2", issuers[1]])
        .args(more)
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    directory.join("tokenswitch.toml")
}

fn log_beside(config: &Path) -> PathBuf {
    config.with_file_name("daemon.log")
}

impl Daemon {
    /// Starts it and waits until it is ready. Its log goes to `daemon.log` beside the configuration.
    pub(crate) fn start(config: &Path) -> Self {
        let mut command = Command::new(PROGRAM);
        command.env("TOKENSWITCH_LOG", "trace");
        Self::start_by(command, config)
    }

    /// As `start`, with a log that goes into a pipe that nobody ever reads.
    pub(crate) fn start_unread(config: &Path) -> Self {
        let mut command = Command::new(PROGRAM);
        command.env("TOKENSWITCH_LOG", "trace").stderr(Stdio::piped());
        Self::start_ready(command, config)
    }

    /// As `start`, by a command that runs the program with the arguments that it is given.
    pub(crate) fn start_by(mut command: Command, config: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(log_beside(config));
        command.stderr(log.unwrap());
        Self::start_ready(command, config)
    }

    fn start_ready(mut command: Command, config: &Path) -> Self {
        let log = log_beside(config);
        command.arg("serve").arg("--config").arg(config).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut addresses = BTreeMap::new();
        let mut found = String::new();
        let mut ready = false;
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap) {
            if let Some((name, address)) =
                line.strip_prefix("listening ").and_then(|rest| rest.split_once(' '))
            {
                addresses.insert(name.to_owned(), address.to_owned());
            }
            if line == "ready" {
                ready = true;
                break;
            }
            if found.is_empty() {
                found = line;
            }
        }
        assert!(ready, "the daemon did not start:\n{}", std::fs::read_to_string(&log).unwrap_or_default());
        Self { child, addresses, found, log }
    }

    /// The process, for signals and for what the system knows of it.
    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Whether it has ended by itself.
    #[cfg(feature = "sabotage")]
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Ends it as a power cut would end the process: with nothing written any more.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Has it read its configuration again, and its certificates.
    pub(crate) fn hang_up(&self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::HUP).unwrap();
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks it to stop, a second time once it drains if it must not wait, and waits until it has: its exit code and its
    /// log.
    pub(crate) fn end(mut self, at_once: bool) -> (Option<i32>, String) {
        let ask = |daemon: &Self| {
            rustix::process::kill_process(daemon.pid(), rustix::process::Signal::TERM).unwrap();
        };
        let drains = |daemon: &Self| daemon.log().matches("draining").count();
        let before = drains(&self);
        ask(&self);
        while at_once && drains(&self) == before {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        if at_once {
            ask(&self);
        }
        let status = self.child.wait().unwrap();
        (status.code(), self.log())
    }

    /// Asks it to stop, and waits until it has; it must end in order.
    pub(crate) fn stop(mut self) {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(40)..].join("\n");
        assert!(status.success(), "the daemon ended with {status}:\n{last}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
