//! Workers that are taken by something long: what is short does not wait behind it.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use spool_nats::streams::Shape;
use spool_proto::Role;

use crate::stage::{FRONT, Process, Stage, clip, picture_and_sound, signal, until};

/// A silent picture of five minutes: long enough that nobody is done with it before a test has looked.
fn long(dir: &Path, name: &str) -> PathBuf {
    let source = "-f lavfi -i testsrc2=s=320x180:r=25:d=300 -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 50";
    clip(dir, name, source)
}

fn worker(stage: &Stage, urgent: &str) -> Process {
    let settings = [("SPOOL__TRANSCODER__WORKERS", "1"), ("SPOOL__TRANSCODER__URGENT_WORKERS", urgent)];
    stage.start("worker", &[Role::Transcoder], &settings)
}

/// Stops the only child that runs: it holds its worker for as long as nobody calls it stalled.
async fn hold(worker: &Process) -> u32 {
    let child = until("one child alone", async || match worker.media_children()[..] {
        [child] => Some(child),
        _ => None,
    });
    let child = child.await;
    signal(child, Signal::STOP);
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_that_is_read_through_in_one_pass_holds_up_no_other() {
    let stage = Stage::new(Shape::default()).await;
    let front = stage.start("front", &FRONT, &[]);
    let worker = worker(&stage, "0");
    let whole = front.push(&long(stage.dir.path(), "long.ts"));
    for slot in ["encode.video.g1.3", "encode.still.g1.poster"] {
        stage.until_slot(&whole, slot).await;
    }
    let pass = hold(&worker).await;
    let explained = front.ask(&["explain", whole.as_str()])[0].to_string();
    assert!(explained.contains("\"g1-p4\""), "the pass is named: {explained}");

    let other = front.push(&picture_and_sound(stage.dir.path(), "other.mp4", 10));
    front.until_status(&other, "ready").await;
    assert!(worker.media_children().contains(&pass), "the pass still has its place");
    signal(pass, Signal::CONT);
    front.until_status(&whole, "ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_that_takes_long_holds_up_no_other() {
    let stage = Stage::new(Shape::default()).await;
    let front = stage.start("front", &FRONT, &[]);
    let worker = worker(&stage, "0");
    let tone = "-f lavfi -i sine=r=48000:d=400 -c:a aac -b:a 64k";
    let talk = front.push(&clip(stage.dir.path(), "talk.m4a", tone));
    stage.until_slot(&talk, "encode.audio.g1.0.0").await;
    let sound = hold(&worker).await;
    let explained = front.ask(&["explain", talk.as_str()])[0].to_string();
    assert!(explained.contains("\"g1-pa0\""), "the order is named: {explained}");

    let other = front.push(&picture_and_sound(stage.dir.path(), "other.mp4", 10));
    front.until_status(&other, "ready").await;
    assert!(worker.media_children().contains(&sound), "the sound still has its place");
    signal(sound, Signal::CONT);
    front.until_status(&talk, "ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_video_is_checked_and_begun_while_all_others_work_on_long_parts() {
    let stage = Stage::new(Shape::default()).await;
    let front = stage.start("front", &FRONT, &[]);
    let worker = worker(&stage, "1");
    let first = front.push(&long(stage.dir.path(), "long.mp4"));
    // The first of the lane of the rest.
    stage.until_slot(&first, "encode.video.g1.9").await;
    let part = hold(&worker).await;

    let other = front.push(&picture_and_sound(stage.dir.path(), "other.mp4", 10));
    front.until_status(&other, "ready").await;
    assert!(worker.media_children().contains(&part), "the long part still has its place");
    signal(part, Signal::CONT);
    front.until_status(&first, "ready").await;
}
