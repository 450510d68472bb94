//! A running `spool`, for tests: its ready line is read, its end is waited for, and it never outlives its test.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long a process may take to become ready. Wide, because a machine may run many tests at once.
const READY_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The executable under test, with nothing of this machine's own settings.
pub(crate) fn spool(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spool"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SPOOL")) {
        command.env_remove(name);
    }
    // Unfinished uploads are remembered there, and not in the home of whoever runs the tests.
    command.env("XDG_STATE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command.args(args).stdin(Stdio::null());
    command
}

/// What a command that ends by itself said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) exit: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs it to its end.
pub(crate) fn say(command: &mut Command) -> Said {
    let output = command.output().expect("spool can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { exit: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// A process that serves.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    log: std::path::PathBuf,
}

impl Running {
    /// Starts it; its log goes to a file in `directory`.
    pub(crate) fn start(command: &mut Command, directory: &Path) -> Self {
        let log = directory.join(format!("spool-{}.log", LOGS.fetch_add(1, std::sync::atomic::Ordering::SeqCst)));
        let stderr = std::fs::File::create(&log).expect("a log file");
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().expect("spool can be started");
        let stdout = child.stdout.take().expect("piped");
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, log }
    }

    /// Waits for the ready line and gives it.
    pub(crate) fn ready(&self) -> Value {
        self.line()
    }

    /// Waits for the next line and gives it.
    pub(crate) fn line(&self) -> Value {
        match self.lines.recv_timeout(READY_WITHIN) {
            Ok(line) => serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?} is no JSON")),
            Err(error) => panic!("no line ({error}); its log:\n{}", self.log()),
        }
    }

    /// The lines that nobody took, once it has ended.
    pub(crate) fn lines_left(&self) -> Vec<String> {
        self.lines.iter().collect()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The processes that it started and that run.
    pub(crate) fn children(&self) -> Vec<u32> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten();
        let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok());
        let all = lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>());
        all.filter(|pid| is_alive(*pid)).collect()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a process id")).expect("a process id");
        kill_process(pid, signal).expect("the process is there");
    }

    /// Waits until it has ended, at most `limit`.
    pub(crate) fn ended_within(&mut self, limit: Duration) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status;
            }
            assert!(started.elapsed() < limit, "still running after {limit:?}; its log:\n{}", self.log());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

static LOGS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

impl Drop for Running {
    fn drop(&mut self) {
        let _it_may_have_ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Does this process run? One that ended and waits to be reaped does not.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z') && !rest.is_empty())
}

/// `GET` over plain HTTP/1.1: status and body. Enough for health checks, and nothing of ours is between.
pub(crate) fn get(server: &str, path: &str) -> (u16, String) {
    let address = server.strip_prefix("http://").expect("an http address");
    get_with(address, path, &format!("Host: {address}\r\n"))
}

/// The same with just these lines of headers.
pub(crate) fn get_with(address: &str, path: &str, headers: &str) -> (u16, String) {
    use std::io::Write as _;
    let mut stream = std::net::TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}
