//! The whole walk on one machine: build, start, push, watch.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::run::{cargo, must, root, target};
use crate::{Failure, setup};

/// Where `spool` expects its server when nothing else is said.
const ADDRESS: &str = "127.0.0.1:7070";
/// How long Spool may take from start to ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to stop. Above its own grace period, which cuts what does not end.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);
/// How often a process is looked at while it is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs the demo; with `once` it stops everything at the end.
pub(crate) fn run(file: Option<&Path>, once: bool) -> Result<(), Failure> {
    let nats = setup::run(setup::For::Use)?;
    must(cargo().args(["build", "--release", "--locked", "--package", "spool"]))?;
    let spool = target().join("release/spool");
    let home = root().join("target/demo");
    fs::create_dir_all(&home)?;
    let video = match file {
        Some(file) => file.to_path_buf(),
        None => clip(&home)?,
    };
    let mut server = Server::start(&spool, &home, &nats)?;
    println!("Spool is ready at {} (log: {})", server.url, server.log.display());
    let pushed = must(Command::new(&spool).args(["push", "--wait", "--server", &server.url]).arg(&video));
    if once {
        let stopped = server.stop();
        return pushed.and(stopped);
    }
    if let Err(failure) = pushed {
        println!("{failure}");
    }
    println!("Spool serves at {} until you press Ctrl-C", server.url);
    let status = server.process.wait()?;
    Err(format!("spool up ended by itself with {status}; its log is {}", server.log.display()).into())
}

/// 20 s of moving picture and sound, made once.
fn clip(home: &Path) -> Result<PathBuf, Failure> {
    let clip = home.join("clip.mp4");
    if clip.is_file() {
        return Ok(clip);
    }
    println!("making a clip of 20 s: {}", clip.display());
    // Bars that wander, with their corner of noise: 600 frames at 30 fps and as much sound.
    let half_made = home.join("clip.part");
    let description = format!(
        "videotestsrc pattern=smpte horizontal-speed=4 num-buffers=600 ! video/x-raw,width=1280,height=720,framerate=30/1 ! \
         videoconvert ! x264enc speed-preset=veryfast key-int-max=60 ! h264parse ! queue ! mux. \
         audiotestsrc wave=sine freq=440 volume=0.2 samplesperbuffer=1600 num-buffers=600 ! \
         audio/x-raw,rate=48000,channels=2 ! audioconvert ! avenc_aac ! aacparse ! queue ! mux. \
         mp4mux name=mux ! filesink location={}",
        half_made.display()
    );
    must(Command::new("gst-launch-1.0").args(["--quiet", "--eos-on-shutdown"]).args(description.split_whitespace()))?;
    fs::rename(&half_made, &clip)?;
    Ok(clip)
}

/// A running `spool up`, stopped when this is dropped.
struct Server {
    process: Child,
    url: String,
    log: PathBuf,
}

impl Server {
    fn start(spool: &Path, home: &Path, nats: &Path) -> Result<Self, Failure> {
        let log = home.join("spool.log");
        // Its usual address, so that `spool ls` in another terminal finds it; any other if that one is taken.
        let listen = if TcpListener::bind(ADDRESS).is_ok() { ADDRESS } else { "127.0.0.1:0" };
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

    fn stop(&mut self) -> Result<(), Failure> {
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
