//! A worker that dies on every delivery, as one would whose machine runs out of memory: the deliveries end, and what
//! follows has a name, a place and a way back.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use spool_nats::streams::{DELIVERIES, Shape};
use spool_proto::{AssetId, Role};

use crate::stage::{FRONT, Process, Stage, clip, picture_and_sound, until};

/// Each death costs one; they don't grow here, or most of the test would be waiting.
const LEASE: Duration = Duration::from_secs(1);
/// One child at a time, but for passes.
const ONE: [(&str, &str); 2] = [("SPOOL__TRANSCODER__WORKERS", "1"), ("SPOOL__TRANSCODER__URGENT_WORKERS", "0")];

async fn stage() -> Stage {
    Stage::new(Shape { lease: LEASE, lease_growth_percent: 100, ..Shape::default() }).await
}

/// Starts a worker that is killed as soon as a child of it works.
async fn live_and_die(stage: &Stage) {
    let mut worker = stage.start("worker", &[Role::Transcoder], &ONE);
    worker.until_child().await;
    worker.running.signal(Signal::KILL);
    worker.running.ended_within(Duration::from_secs(5));
}

/// What stands when the deliveries are used up: the fault, the message, the state, the explanation.
async fn check_given_up(stage: &Stage, front: &Process, asset: &AssetId, fault: &str, work: &str) {
    let shown = front.until_status(asset, "failed").await;
    assert_eq!(shown["reason"]["code"], "worker_lost", "{shown}");
    assert_eq!((&shown["reason"]["fault"], &shown["reason"]["retryable"]), (&"system".into(), &true.into()), "{shown}");
    assert!(shown["reason"]["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{shown}");
    let slots = stage.slots(asset).await;
    assert!(slots.contains(fault), "{fault} in {slots:?}");

    let parked = front.ask(&["parked", "ls"]);
    let [parked] = &parked[..] else { panic!("one message is parked: {parked:?}") };
    assert_eq!((&parked["code"], &parked["attempts"]), (&"worker_lost".into(), &DELIVERIES.into()), "{parked}");
    let subject = parked["subject"].as_str().expect("a subject");
    assert!(subject.starts_with(&format!("spool.job.{work}.")) && subject.contains(asset.as_str()), "{parked}");
    let text = front.say_text(&["parked", "ls"]);
    assert!(text.contains("deliveries and no answer"), "{text}");

    let explained: Vec<Value> = front.ask(&["explain", asset.as_str()]);
    assert!(explained[0].to_string().contains("worker_lost"), "{explained:?}");
}

async fn check_retry(stage: &Stage, front: &Process, asset: &AssetId) {
    let _healthy = stage.start("worker", &[Role::Transcoder], &ONE);
    front.ask(&["retry", asset.as_str()]);
    front.until_status(asset, "ready").await;
}

/// After the last death: nobody gets the order any more, and the server says so when the next worker asks for one.
async fn check_no_more_deliveries(stage: &Stage, asset: &AssetId) {
    let idle = stage.start("worker", &[Role::Transcoder], &ONE);
    let given_up = async || stage.slots(asset).await.iter().any(|slot| slot.contains(".fault.")).then_some(());
    until("a fault", given_up).await;
    assert!(idle.media_children().is_empty(), "a delivery too many");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_on_every_inspection_ends_in_a_failure_and_a_retry_works() {
    let stage = stage().await;
    let front = stage.start("front", &FRONT, &[]);
    let asset = front.push(&picture_and_sound(stage.dir.path(), "clip.mp4", 2));
    let source = stage.withhold_source(&asset);
    for _ in 0..DELIVERIES {
        live_and_die(&stage).await;
    }
    check_no_more_deliveries(&stage, &asset).await;
    source.give_back();
    check_given_up(&stage, &front, &asset, "inspect.fault.1.0", "inspect").await;
    check_retry(&stage, &front, &asset).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_on_every_encode_without_progress_ends_in_a_failure_and_a_retry_works() {
    let stage = stage().await;
    let front = stage.start("front", &[Role::Gateway, Role::Publisher, Role::Projector], &[]);
    let planner = stage.start("planner", &[Role::Planner], &[]);
    // Sound alone: one order is all there is to encode.
    let file = clip(stage.dir.path(), "sound.m4a", "-f lavfi -i sine=f=440:r=48000:d=60 -c:a aac");
    let asset = front.push(&file);
    stage.until_queued(&asset, "n1").await;
    // What it would order next waits until the source can't be read.
    planner.running.signal(Signal::STOP);
    let inspector = stage.start("worker", &[Role::Transcoder], &ONE);
    stage.until_slot(&asset, "upload.verdict.1").await;
    drop(inspector);
    let source = stage.withhold_source(&asset);
    planner.running.signal(Signal::CONT);
    for _ in 0..DELIVERIES {
        live_and_die(&stage).await;
    }
    check_no_more_deliveries(&stage, &asset).await;
    source.give_back();
    check_given_up(&stage, &front, &asset, "encode.fault.g1.g1-a0.0", "audio").await;
    check_retry(&stage, &front, &asset).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_are_told_to_stop_hand_back_their_order_and_use_no_delivery_up() {
    // Leases as they are: who waited for one would be seen to.
    let stage = Stage::new(Shape::default()).await;
    let front = stage.start("front", &FRONT, &[]);
    let asset = front.push(&picture_and_sound(stage.dir.path(), "clip.mp4", 2));
    let source = stage.withhold_source(&asset);
    for round in 0..DELIVERIES {
        let mut worker = stage.start("worker", &[Role::Transcoder], &ONE);
        worker.until_child().await;
        worker.running.signal(Signal::TERM);
        worker.until_said("what runs may finish", 1).await;
        worker.running.signal(Signal::TERM);
        let ended = worker.running.ended_within(Duration::from_secs(60));
        assert_eq!(ended.code(), Some(9), "{}", worker.running.log());
        let handed_back = format!("inspect.fault.1.{round}");
        let slots = stage.slots(&asset).await;
        assert!(slots.contains(&handed_back), "{handed_back} in {slots:?}\n{}", worker.running.log());
    }
    source.give_back();
    let _healthy = stage.start("worker", &[Role::Transcoder], &ONE);
    front.until_status(&asset, "ready").await;
    assert_eq!(front.ask(&["parked", "ls"]), Vec::<Value>::new());
}
