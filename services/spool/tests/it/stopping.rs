//! The two stages of an end, while something runs: the first signal lets it finish, the second or the grace period cuts it,
//! and the next start goes on.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::spool::{Running, is_alive, spool};
use crate::stage::{Process, picture_and_sound, signal};

/// Above the time that cutting may take, below any grace period of these tests that must not pass.
const CUT_WITHIN: Duration = Duration::from_secs(45);
/// What `spool --help` says about it: stopped before all that ran had ended.
const CUT: Option<i32> = Some(9);

/// `spool up` with one worker, ready.
fn up(directory: &Path, grace: &str) -> Process {
    let mut command = spool(&["up", "--json", "--listen", "127.0.0.1:0", "--data"]);
    command
        .arg(directory.join("data"))
        .env("SPOOL__GRACE", grace)
        .env("SPOOL__TRANSCODER__WORKERS", "1")
        .env("SPOOL__TRANSCODER__URGENT_WORKERS", "0");
    let running = Running::start(&mut command, directory);
    let server = running.ready()["server"].as_str().expect("an address").to_owned();
    Process { running, server }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_signal_lets_what_runs_finish() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut first = up(dir.path(), "60s");
    let asset = first.push(&picture_and_sound(dir.path(), "clip.mp4", 6));
    let child = first.until_child().await[0];
    // Held, so that the signal surely comes while it runs.
    signal(child, Signal::STOP);
    first.running.signal(Signal::TERM);
    first.until_said("what runs may finish", 1).await;
    assert!(is_alive(child), "it was not cut");
    signal(child, Signal::CONT);
    let ended = first.running.ended_within(Duration::from_secs(60));
    assert_eq!(ended.code(), Some(0), "{}", first.running.log());
    assert!(first.running.log().contains("order done"), "{}", first.running.log());
    assert!(!is_alive(child));

    let second = up(dir.path(), "60s");
    second.until_status(&asset, "ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_cuts_and_the_next_start_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut first = up(dir.path(), "60s");
    let asset = first.push(&picture_and_sound(dir.path(), "clip.mp4", 2));
    let child = first.until_child().await[0];
    signal(child, Signal::STOP);
    first.running.signal(Signal::TERM);
    first.until_said("what runs may finish", 1).await;
    first.running.signal(Signal::TERM);
    let ended = first.running.ended_within(CUT_WITHIN);
    assert_eq!(ended.code(), CUT, "{}", first.running.log());
    assert!(!is_alive(child), "a stopped child goes too");

    let second = up(dir.path(), "60s");
    second.until_status(&asset, "ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_grace_period_cuts() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut process = up(dir.path(), "1s");
    process.push(&picture_and_sound(dir.path(), "clip.mp4", 2));
    let child = process.until_child().await[0];
    signal(child, Signal::STOP);
    process.running.signal(Signal::TERM);
    let ended = process.running.ended_within(CUT_WITHIN);
    assert_eq!(ended.code(), CUT, "{}", process.running.log());
    assert!(process.running.log().contains("the grace period is over"), "{}", process.running.log());
    assert!(!is_alive(child));
}
