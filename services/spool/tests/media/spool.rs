//! The real binary: `spool up` on a directory of its own, pushes into it, an orderly end.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::http;
use crate::tool::{Outcome, run};

/// How long it may take until it is ready: nats-server, streams, the first look at its plugins.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to stop: its grace period and a little.
const STOP_LIMIT: Duration = Duration::from_secs(40);
/// Lines of its log that are shown when a test fails.
const LOG_LINES: usize = 80;

/// A running `spool up`.
pub(crate) struct Spool {
    child: Child,
    /// Address of its listener.
    pub(crate) server: String,
    dir: PathBuf,
    stopped: bool,
}

/// How a push ended.
#[derive(Debug, Clone)]
pub(crate) struct Pushed {
    pub(crate) exit: Option<i32>,
    /// The last line of `push --wait --json`, or nothing.
    pub(crate) last: Value,
    pub(crate) errors: String,
    pub(crate) took: Duration,
}

impl Pushed {
    /// A text of the last line, or nothing.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.last[key].as_str().unwrap_or_default()
    }
}

impl Spool {
    /// Starts it below `dir` and waits until it says that it is ready. With these lines as its configuration.
    pub(crate) fn up(dir: &Path, config: &str) -> Outcome<Self> {
        let about = |error: std::io::Error| format!("start spool in {}: {error}", dir.display());
        let log = File::create(dir.join("log")).map_err(about)?;
        std::fs::write(dir.join("spool.toml"), config).map_err(about)?;
        let mut command = command(dir);
        command.args(["--json", "up", "--listen", "127.0.0.1:0", "--data"]).arg(dir.join("data"));
        command.arg("--config").arg(dir.join("spool.toml"));
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().map_err(about)?;
        let out = child.stdout.take().ok_or("no output to read")?;
        let (lines, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let mut spool = Self { child, server: String::new(), dir: dir.to_owned(), stopped: false };
        let deadline = Instant::now() + READY_LIMIT;
        while spool.server.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = said.recv_timeout(left).map_err(|_| format!("spool was not ready within {READY_LIMIT:?}"))?;
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            if line["event"] == "ready" {
                spool.server = line["server"].as_str().unwrap_or_default().to_owned();
            }
        }
        Ok(spool)
    }

    /// `spool push --wait --json FILE`, at most for `limit`.
    pub(crate) fn push(&self, file: &Path, limit: Duration) -> Outcome<Pushed> {
        let mut command = command(&self.dir);
        command.args(["--json", "--server", &self.server, "push", "--wait"]).arg(file);
        let ended = run(&mut command, limit)?;
        let text = ended.text();
        let last = text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        Ok(Pushed { exit: ended.code, last, errors: ended.err, took: ended.took })
    }

    /// A JSON answer of the API.
    pub(crate) fn api(&self, path: &str) -> Outcome<Value> {
        let text = http::text(&format!("{}{path}", self.server))?;
        serde_json::from_str(&text).map_err(|error| format!("GET {path}: {error}"))
    }

    /// Asks it to stop; it must end by itself, with exit code 0.
    pub(crate) fn stop(mut self) -> Outcome<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("no process id")?;
        kill_process(pid, Signal::TERM).map_err(|error| format!("signal spool: {error}"))?;
        let deadline = Instant::now() + STOP_LIMIT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().map_err(|error| format!("wait for spool: {error}"))? {
                self.stopped = true;
                return match status.code() {
                    Some(0) => Ok(()),
                    _ => Err(format!("spool ended with {status} after SIGTERM\n{}", self.log_end())),
                };
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("spool did not stop within {STOP_LIMIT:?}"))
    }

    /// The end of its log.
    pub(crate) fn log_end(&self) -> String {
        let log = std::fs::read(self.dir.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if self.stopped {
            return;
        }
        // Only a failing test comes here; its nats-server dies with it.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        println!("--- the end of spool's log ---\n{}", self.log_end());
    }
}

/// The binary, without settings of the one who runs the tests.
fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spool"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("SPOOL_") && name != "SPOOL_NATS_SERVER" {
            command.env_remove(name);
        }
    }
    command.env("XDG_STATE_HOME", dir.join("state")).stdin(Stdio::null());
    command
}
