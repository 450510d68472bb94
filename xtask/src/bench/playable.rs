//! From the last byte of an upload until it plays, for sources of three lengths: it must not grow with them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Bench;
use super::clips::{repeated, smaller};
use super::figures::Runs;
use crate::Failure;
use crate::run::ask;
use crate::server::Server;

/// Lengths of the sources.
const LENGTHS_S: [u32; 3] = [10, 60, 600];
/// How long it may take until one plays.
const WITHIN: Duration = Duration::from_secs(300);
/// How often the history is read. The figure comes from the facts' own times.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) fn run(bench: &Bench, clip: &Path) -> Result<(), Failure> {
    let scratch = tempfile::tempdir_in(&bench.home)?;
    let small = smaller(clip, scratch.path())?;
    let sources: Vec<_> =
        LENGTHS_S.iter().map(|seconds| repeated(&small, *seconds, scratch.path())).collect::<Result<_, _>>()?;
    let mut runs = vec![(Runs::default(), Runs::default()); sources.len()];
    for round in 1..=bench.rounds {
        for ((source, seconds), (accepted, playable)) in sources.iter().zip(LENGTHS_S).zip(&mut runs) {
            let (accepted_s, playable_s) = once(bench, source)?;
            println!(
                "round {round}: {seconds} s long: checked {accepted_s:.2} s, playable {playable_s:.2} s after the upload"
            );
            accepted.push(accepted_s);
            playable.push(playable_s);
        }
    }
    println!("\nplayable: seconds after the upload of a 720p source was complete, {} rounds\n", bench.rounds);
    println!("{:<10} {:>26} {:>26} {:>12}", "source", "checked", "playable", "of the first");
    for ((accepted, playable), seconds) in runs.iter().zip(LENGTHS_S) {
        let ratio = playable.of(&runs[0].1);
        println!("{:<10} {:>26} {:>26} {ratio:>12.2}", format!("{seconds} s"), accepted.text(2), playable.text(2));
    }
    Ok(())
}

/// A push into a Spool of its own, watched until it plays; what is still to be made then is not waited for.
fn once(bench: &Bench, source: &Path) -> Result<(f64, f64), Failure> {
    let home = tempfile::tempdir_in(&bench.home)?;
    let server = Server::start(&bench.spool, home.path(), &bench.nats, "127.0.0.1:0")?;
    let mut push = Command::new(&bench.spool);
    push.args(["--json", "--server", &server.url, "push", "--fresh"]).arg(source).stderr(Stdio::inherit());
    let said = ask(&mut push).ok_or_else(|| format!("the push failed; see {}", server.log.display()))?;
    let asset: Value = serde_json::from_str(said.lines().last().unwrap_or_default())?;
    let id = asset["id"].as_str().ok_or("no id")?;
    let deadline = Instant::now() + WITHIN;
    while Instant::now() < deadline {
        let mut events = Command::new(&bench.spool);
        let said = ask(events.args(["--json", "--server", &server.url, "events", id])).unwrap_or_default();
        let events: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let at = |kind: &str| events.iter().find(|event| event["kind"] == kind).and_then(|event| seconds(&event["at"]));
        if let (Some(stored), Some(accepted), Some(opened)) = (at("SourceStored"), at("SourceAccepted"), at("Opened")) {
            return Ok((accepted - stored, opened - stored));
        }
        if let Some(bad) = events.iter().find(|event| event["status"] == "failed" || event["status"] == "rejected") {
            return Err(format!("{} ended as {bad}", source.display()).into());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Err(format!("{} was not playable within {WITHIN:?}", source.display()).into())
}

/// Seconds since midnight of `2026-11-21T09:28:20.319Z`: enough for differences within minutes.
fn seconds(at: &Value) -> Option<f64> {
    let clock = at.as_str()?.split_once('T')?.1.strip_suffix('Z')?;
    let mut parts = clock.split(':').map(|part| part.parse::<f64>().ok());
    Some(parts.next()?? * 3600.0 + parts.next()?? * 60.0 + parts.next()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_facts_are_seconds() {
        assert_eq!(seconds(&Value::from("2026-11-21T01:01:01.5Z")), Some(3661.5));
        assert_eq!(seconds(&Value::from("yesterday")), None);
    }
}
