//! A worker that is stopped beyond its lease and wakes: as on a machine that was suspended, all of it with its children.

use std::time::Duration;

use rustix::process::Signal;
use spool_nats::ConsumerName;
use spool_nats::streams::Shape;
use spool_nats::testing::again::counts;
use spool_proto::subject::Lane;
use spool_proto::{AssetId, Role};

use crate::stage::{Accepted, FRONT, Process, Stage, accepted, picture_and_sound, signal, until};

/// Long enough for what the tests do within one, short enough to wait for its end.
const LEASE: Duration = Duration::from_secs(6);
/// One child at a time, but for passes, so that it is known which one was paused.
const ONE: [(&str, &str); 2] = [("SPOOL__TRANSCODER__WORKERS", "1"), ("SPOOL__TRANSCODER__URGENT_WORKERS", "0")];

async fn stage() -> Stage {
    Stage::new(Shape { lease: LEASE, ..Shape::default() }).await
}

/// Every object that a fact names is in the store, with the bytes that the fact names.
async fn check_accepted(stage: &Stage, before: &[Accepted]) {
    let objects = stage.objects();
    let now = accepted(&stage.facts().await);
    for object in before {
        assert!(now.contains(object), "{object:?} is no longer accepted");
    }
    for Accepted { place, key, sha256 } in &now {
        let found = objects.get(key).map(ToString::to_string);
        assert_eq!(found.as_ref(), Some(sha256), "{place}: {key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_paused_beyond_its_lease_wakes_and_changes_nothing() {
    let stage = stage().await;
    let front = stage.start("front", &FRONT, &[]);
    let slow = stage.start("slow", &[Role::Transcoder], &ONE);
    let asset = front.push(&picture_and_sound(stage.dir.path(), "clip.mp4", 14));
    stage.until_slot(&asset, "encode.planned.g1").await;
    slow.until_child().await;
    let children = slow.pause();
    assert_eq!(children.len(), 1, "it was paused while its child encoded");

    // Everything is ordered; without a planner nothing is concluded, so that the sleeper wakes while its result still counts.
    let orders = ["encode.video.g1.3", "encode.audio.g1.0.3"];
    let jobs = counts(&stage.server.admin().await, ConsumerName::Lane(Lane::First)).await;
    assert!(jobs.out > 0, "the order is leased: {jobs:?}");
    front.running.signal(Signal::STOP);
    let brisk = stage.start("brisk", &[Role::Transcoder], &ONE);
    for slot in orders.into_iter().chain(["encode.still.g1.poster"]) {
        stage.until_slot(&asset, slot).await;
    }
    let (facts, objects) = (stage.facts().await, stage.objects());
    let before = accepted(&facts);
    assert_eq!(before.len(), 4 + 4 + 1, "one rendition and the sound in four chunks, a poster: {before:?}");

    assert!(!slow.running.log().contains("stands already"));
    slow.wake(&children);
    slow.until_said("ran out while it was worked on", 1).await;
    slow.until_said("the fact stands already", 1).await;
    slow.until_said("order done", 2).await;
    assert_eq!(stage.facts().await, facts, "nothing was stated");
    check_accepted(&stage, &before).await;
    let after = stage.objects();
    assert!(objects.iter().all(|(key, digest)| after.get(key) == Some(digest)), "an object was touched");
    assert!(after.len() > objects.len(), "what the sleeper made is stored beside: an orphan for the sweeper");

    front.running.signal(Signal::CONT);
    front.until_status(&asset, "ready").await;
    check_accepted(&stage, &before).await;
    it_works_alone(&stage, &front, brisk, "brisk").await;
}

/// The one that slept is as good as before: with the other gone it makes another asset ready.
async fn it_works_alone(stage: &Stage, front: &Process, mut other: Process, name: &str) {
    other.running.signal(Signal::TERM);
    let ended = other.running.ended_within(Duration::from_secs(20));
    assert_eq!(ended.code(), Some(0), "{name}: {}", other.running.log());
    let asset = front.push(&picture_and_sound(stage.dir.path(), "next.mp4", 2));
    front.until_status(&asset, "ready").await;
}

/// A source in inspection whose worker was paused, then given to another, whose child is paused too: so that there is time to
/// look at what the first one does on waking.
struct Inspected {
    stage: Stage,
    front: Process,
    planner: Process,
    asset: AssetId,
    slow: Process,
    slow_child: u32,
    brisk: Process,
    brisk_child: u32,
}

impl Inspected {
    async fn new() -> Self {
        let stage = stage().await;
        let front = stage.start("front", &[Role::Gateway, Role::Publisher, Role::Projector], &[]);
        let planner = stage.start("planner", &[Role::Planner], &[]);
        let slow = stage.start("slow", &[Role::Transcoder], &ONE);
        let asset = front.push(&picture_and_sound(stage.dir.path(), "clip.mp4", 2));
        slow.until_child().await;
        let paused = slow.pause();
        let [slow_child] = paused[..] else { panic!("it was paused while its child inspected: {paused:?}") };
        // No planner: what follows an acceptance would be counted among the deliveries.
        planner.running.signal(Signal::STOP);
        assert!(!stage.slots(&asset).await.contains("upload.verdict.1"));
        let brisk = stage.start("brisk", &[Role::Transcoder], &ONE);
        brisk.until_child().await;
        let paused = brisk.media_children();
        let [brisk_child] = paused[..] else { panic!("one child inspects: {paused:?}") };
        signal(brisk_child, Signal::STOP);
        let inspected = Self { stage, front, planner, asset, slow, slow_child, brisk, brisk_child };
        assert_eq!(inspected.deliveries().await, 2);
        inspected
    }

    async fn deliveries(&self) -> u64 {
        counts(&self.stage.server.admin().await, ConsumerName::Lane(Lane::First)).await.deliveries
    }

    /// The second one goes on: accepted, by two deliveries, and nothing else was said.
    async fn check_end(self) {
        signal(self.brisk_child, Signal::CONT);
        self.stage.until_slot(&self.asset, "upload.verdict.1").await;
        until("the order is settled", async || {
            let jobs = counts(&self.stage.server.admin().await, ConsumerName::Lane(Lane::First)).await;
            (jobs.out == 0).then_some(())
        })
        .await;
        assert_eq!(self.deliveries().await, 2, "no third delivery");
        let kinds: Vec<_> = self.stage.facts().await.iter().filter_map(|f| Some(f.event()?.kind().name())).collect();
        assert_eq!(kinds, ["AssetRegistered", "Described", "SourceStored", "SourceAccepted"]);
        self.planner.running.signal(Signal::CONT);
        self.front.until_status(&self.asset, "ready").await;
        it_works_alone(&self.stage, &self.front, self.brisk, "brisk").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inspector_that_wakes_to_a_dead_child_takes_the_order_from_nobody() {
    let it = Inspected::new().await;
    signal(it.slow_child, Signal::KILL);
    it.slow.wake(&[]);
    it.slow.until_said("belongs to another by now", 1).await;
    it.check_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inspector_that_wakes_and_finishes_says_nothing_new() {
    let it = Inspected::new().await;
    it.slow.wake(&[it.slow_child]);
    // Whoever is first states the verdict; it is the same. The other finds that it stands.
    it.slow.until_said("order done", 1).await;
    it.check_end().await;
}
