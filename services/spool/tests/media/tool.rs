//! Other people's programs, run with a bound: what they print, or a sentence about what went wrong.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A test's own failures are sentences.
pub(crate) type Outcome<T> = Result<T, String>;

/// How long one run of ffmpeg or ffprobe may take.
pub(crate) const TOOL_LIMIT: Duration = Duration::from_secs(180);
/// How often a running program is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
    pub(crate) took: Duration,
}

impl Ended {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// Runs it to its end, whatever its exit code. Killed, and an error, when it takes longer than `limit`.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Outcome<Ended> {
    let name = format!("{command:?}");
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("start {name}: {error}; `cargo xtask setup` installs what the tests need"))?;
    let out = drain(child.stdout.take());
    let err = drain(child.stderr.take());
    let status = loop {
        match child.try_wait().map_err(|error| format!("wait for {name}: {error}"))? {
            Some(status) => break status,
            None if started.elapsed() > limit => {
                child.kill().map_err(|error| format!("kill {name}: {error}"))?;
                child.wait().map_err(|error| format!("reap {name}: {error}"))?;
                return Err(format!("{name} did not end within {limit:?}"));
            }
            None => std::thread::sleep(LOOK_EVERY),
        }
    };
    let gone = |_| format!("the reader of {name} panicked");
    let out = out.join().map_err(gone)?;
    let err = String::from_utf8_lossy(&err.join().map_err(gone)?).into_owned();
    Ok(Ended { code: status.code(), out, err, took: started.elapsed() })
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // A pipe that breaks ends with the program, whose exit code tells.
            let _ended = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// ffmpeg with these arguments; an error when it fails.
pub(crate) fn ffmpeg(args: &[&str]) -> Outcome<Ended> {
    succeed(Command::new("ffmpeg").args(["-hide_banner", "-nostdin", "-y"]).args(args))
}

/// ffprobe with these arguments; an error when it fails.
pub(crate) fn ffprobe(args: &[&str]) -> Outcome<Ended> {
    succeed(Command::new("ffprobe").arg("-hide_banner").args(args))
}

fn succeed(command: &mut Command) -> Outcome<Ended> {
    let ended = run(command, TOOL_LIMIT)?;
    if ended.code == Some(0) {
        return Ok(ended);
    }
    let said: String = ended.err.lines().take(5).collect::<Vec<_>>().join(" | ");
    Err(format!("{command:?} ended with {:?}: {said}", ended.code))
}
