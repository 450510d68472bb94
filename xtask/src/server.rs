//! A running `spool up`, for the demo and the benchmarks: started, waited for, stopped.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::run::must;

/// How long Spool may take from start to ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to stop. Above its own grace period, which cuts what does not end.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);
/// How often a process is looked at while it is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A running `spool up`, stopped when this is dropped.
pub(crate) struct Server {
    pub(crate) process: Child,
    /// Where it serves: `http://…`.
    pub(crate) url: String,
    /// What it logs.
    pub(crate) log: PathBuf,
}

impl Server {
    /// Starts it with its data in `home/data` and waits until every role is ready. It uses the server `nats`.
    pub(crate) fn start(spool: &Path, home: &Path, nats: &Path, listen: &str) -> Result<Self, Failure> {
        let log = home.join("spool.log");
        // It dies with this process, by a signal that lets it finish (PR_SET_PDEATHSIG, through setpriv of util-linux);
        // a group of its own keeps Ctrl-C from being a second signal, which would cut.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(spool).args(["up", "--json", "--listen", listen, "--data"]);
        command.arg(home.join("data")).process_group(0);
        // One on PATH is found there by itself.
        if nats.is_absolute() {
            command.arg("--nats-server").arg(nats);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let process = command.spawn().map_err(|error| format!("start {}: {error}", spool.display()))?;
        let mut server = Self { process, url: String::new(), log };
        server.url = server.wait_until_ready()?;
        Ok(server)
    }

    /// Reads the line that `spool up --json` prints when every role is ready.
    fn wait_until_ready(&mut self) -> Result<String, Failure> {
        let stdout = self.process.stdout.take().ok_or("spool up has no output")?;
        let (tell, told) = std::sync::mpsc::channel();
        let _reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let ready = serde_json::from_str::<serde_json::Value>(&line).ok();
                if let Some(url) = ready.as_ref().and_then(|v| v["server"].as_str()) {
                    let _nobody_waits_any_more = tell.send(url.to_owned());
                }
            }
        });
        told.recv_timeout(READY_WITHIN).map_err(|_| {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let end: Vec<&str> = log.lines().rev().take(10).collect();
            let end: Vec<&str> = end.into_iter().rev().collect();
            format!("spool up did not become ready; the end of {}:\n{}", self.log.display(), end.join("\n")).into()
        })
    }

    /// Asks it to stop; it must end well and in time.
    pub(crate) fn stop(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        must(Command::new("kill").args(["-TERM", &self.process.id().to_string()]))?;
        while started.elapsed() < STOPPED_WITHIN {
            if let Some(status) = self.process.try_wait()? {
                let took = started.elapsed();
                return if status.success() {
                    println!("Spool stopped after {} ms", took.as_millis());
                    Ok(())
                } else {
                    Err(format!("spool up ended with {status}; its log is {}", self.log.display()).into())
                };
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Err(format!("spool up did not stop within {} s", STOPPED_WITHIN.as_secs()).into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            let _it_may_have_ended_meanwhile = self.process.kill();
            let _reaped = self.process.wait();
        }
    }
}
