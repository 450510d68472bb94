//! `spool push` against a real `spool up`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
#[cfg(feature = "transcoder")]
use spool_nats::streams::Shape;
#[cfg(feature = "transcoder")]
use spool_proto::Role;
use spool_proto::id::Sha256;

use crate::spool::{Running, say, spool};
#[cfg(feature = "transcoder")]
use crate::stage::{Stage, picture_and_sound};

fn up(data: &Path, listen: &str) -> Command {
    let mut command = spool(&["up", "--json", "--listen", listen, "--data"]);
    command.arg(data);
    command
}

/// A file of bytes that are no video and no two blocks alike.
fn noise(directory: &Path, name: &str, size_bytes: usize) -> (PathBuf, Sha256) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(size_bytes / 8)
    .flatten()
    .collect();
    let path = directory.join(name);
    std::fs::write(&path, &bytes).expect("written");
    (path, Sha256::of(&bytes))
}

fn server_of(process: &Running) -> String {
    process.ready()["server"].as_str().expect("an address").to_owned()
}

#[cfg(feature = "transcoder")]
#[test]
fn what_is_no_video_ends_with_3_and_says_why_in_the_last_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let process = Running::start(&mut up(&directory.path().join("data"), "127.0.0.1:0"), directory.path());
    let server = server_of(&process);
    let (file, _) = noise(directory.path(), "noise.mp4", 100_000);
    let said = say(spool(&["push", "--wait", "--json", "--label", "a=b", "--server", &server]).arg(&file));
    assert_eq!(said.exit, Some(3), "{}{}\n{}", said.stdout, said.stderr, process.log());
    let last: Value = serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&last["status"], &last["code"]), (&"rejected".into(), &"source_not_media".into()), "{last}");
    assert!(last["id"].as_str().is_some_and(|id| id.starts_with("vid_")), "{last}");
    assert!(last["upload_ms"].is_u64() && last["detail"].is_string(), "{last}");
    assert!(last["playable_ms"].is_null() && last["ready_ms"].is_null() && last["play_url"].is_null(), "{last}");

    let shown = say(&mut spool(&["ls", "--json", "--status", "rejected", "--server", &server]));
    let shown: Value = serde_json::from_str(&shown.stdout).expect("one asset");
    assert_eq!((&shown["filename"], &shown["labels"]["a"]), (&"noise.mp4".into(), &"b".into()), "{shown}");
}

#[cfg(feature = "transcoder")]
#[test]
fn a_video_that_lasts_too_long_is_rejected_with_both_lengths() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = up(&directory.path().join("data"), "127.0.0.1:0");
    let process = Running::start(command.env("SPOOL__PLANNER__MAX_DURATION", "1s"), directory.path());
    let file = picture_and_sound(directory.path(), "long.mp4", 2);
    let said = say(spool(&["push", "--wait", "--json", "--server", &server_of(&process)]).arg(&file));
    assert_eq!(said.exit, Some(3), "{}{}\n{}", said.stdout, said.stderr, process.log());
    let last: Value = serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&last["status"], &last["code"]), (&"rejected".into(), &"source_too_long".into()), "{last}");
    let detail = last["detail"].as_str().expect("a sentence");
    // AAC ends on a multiple of its frame, so a clip of 2 s lasts a little longer.
    assert!(
        ["2 s", "3 s"].iter().any(|lasts| detail.contains(&format!("lasts {lasts}; at most 1 s is taken"))),
        "{last}"
    );
}

#[test]
fn a_push_that_must_wait_says_at_once_for_what_and_for_how_long() {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, _) = noise(directory.path(), "noise.mp4", 100);
    // One that takes connections and never answers; port 9 of loopback is nobody's.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("http://{}", silent.local_addr().expect("an address"));
    for (server, why) in [("http://127.0.0.1:9", "can't be reached"), (&silent, "has not answered yet")] {
        let mut push = Running::start(spool(&["push", "--json", "--server", server]).arg(&file), directory.path());
        let said = |log: &str| log.contains(why) && log.contains(" for about ");
        let started = std::time::Instant::now();
        while !said(&push.log()) {
            assert!(started.elapsed() < Duration::from_secs(45), "{server}: {}", push.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        let note: Value = serde_json::from_str(push.log().lines().next().expect("a line")).expect("JSON");
        assert_eq!(note["event"], "waits", "{note}");
        push.signal(Signal::KILL);
        push.ended_within(Duration::from_secs(30));
        assert_eq!(push.lines_left(), Vec::<String>::new(), "standard output is for results");
    }
}

#[cfg(feature = "transcoder")]
#[tokio::test(flavor = "multi_thread")]
async fn the_asset_is_named_before_anything_can_come_between() {
    let stage = Stage::new(Shape::default()).await;
    let gateway = stage.start("gateway", &[Role::Gateway], &[]);
    let (file, _) = noise(stage.dir.path(), "noise.mp4", 100_000);
    let file = file.to_string_lossy();
    // Nobody there can say what becomes of it, and only that is said to be missing.
    let said = gateway.say(&["push", "--fresh", &file]);
    assert_eq!(said.exit, Some(5), "{}{}", said.stdout, said.stderr);
    let first: Value = serde_json::from_str(said.stdout.lines().next().expect("a line")).expect("JSON");
    let id = first["id"].as_str().expect("an id");
    let failure: Value = serde_json::from_str(said.stderr.lines().last().expect("a line")).expect("JSON");
    assert_eq!(failure["error"]["code"], "role_absent", "{failure}");
    let detail = failure["error"]["detail"].as_str().expect("a sentence");
    assert!(detail.starts_with(&format!("{id} is uploaded")) && detail.contains("projector"), "{failure}");
    assert!(stage.slots(&id.parse().expect("an id")).await.contains("upload.outcome"));
}

#[test]
fn an_upload_goes_on_when_the_server_was_killed_and_comes_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let mut first = Running::start(&mut up(&data, "127.0.0.1:0"), directory.path());
    let server = server_of(&first);
    let (file, sha256) = noise(directory.path(), "large.mp4", 256 << 20);

    let mut push = Running::start(spool(&["push", "--json", "--server", &server]).arg(&file), directory.path());
    while push.line()["offset"].as_u64().expect("progress of the upload") == 0 {}
    first.signal(Signal::KILL);
    first.ended_within(Duration::from_secs(5));
    let listen = server.strip_prefix("http://").expect("an address");
    let second = Running::start(&mut up(&data, listen), directory.path());
    second.ready();

    let status = push.ended_within(Duration::from_secs(120));
    assert_eq!(status.code(), Some(0), "{}\n{}", push.log(), second.log());
    let shown = say(&mut spool(&["ls", "--json", "--server", &server]));
    let assets: Vec<Value> = shown.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(assets.len(), 1, "one upload makes one asset: {assets:?}");
    assert_eq!(assets[0]["sha256"], Value::from(sha256.to_string()), "{}", assets[0]);
}

#[test]
fn a_push_that_was_stopped_goes_on_with_the_same_command() {
    let directory = tempfile::tempdir().expect("a directory");
    let process = Running::start(&mut up(&directory.path().join("data"), "127.0.0.1:0"), directory.path());
    let server = server_of(&process);
    let (file, sha256) = noise(directory.path(), "large.mp4", 256 << 20);
    let command = || {
        let mut command = spool(&["push", "--json", "--server", &server]);
        command.arg(&file);
        command
    };
    let mut stopped = Running::start(&mut command(), directory.path());
    while stopped.line()["percent"].as_u64().expect("progress of the upload") < 20 {}
    stopped.signal(Signal::INT);
    let ended = stopped.ended_within(Duration::from_secs(30));
    assert_eq!(ended.code(), Some(130), "{}", stopped.log());
    let words = "stopped by Ctrl-C before large.mp4 was uploaded; the same command goes on with it";
    assert!(stopped.log().contains(words), "{}", stopped.log());

    let again = say(&mut command());
    assert_eq!(again.exit, Some(0), "{}{}", again.stdout, again.stderr);
    let first: Value = serde_json::from_str(again.stdout.lines().next().expect("a line")).expect("JSON");
    assert!(first["offset"].as_u64().is_some_and(|offset| offset > 0), "it began anew: {first}");
    let shown = say(&mut spool(&["ls", "--json", "--server", &server]));
    let assets: Vec<Value> = shown.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(assets.len(), 1, "one file makes one asset: {assets:?}");
    assert_eq!(assets[0]["sha256"], Value::from(sha256.to_string()), "{}", assets[0]);
}
