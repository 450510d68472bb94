//! Everything twice: after a whole walk every message is sent and delivered again, to the processes that run and, when the
//! server has forgotten every id, to fresh ones with empty directories. Nothing that counts may change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use spool_nats::ConsumerName;
use spool_nats::streams::{JOBS, PARKED, Shape, TEXTS};
use spool_nats::testing::again::{Ears, Heard, Sent, counts, send_again, send_late, size};
use spool_proto::event::Fact;
use spool_proto::id::{Sha256, TenantId};
use spool_proto::{AssetId, Role, Timestamp};

use crate::stage::{FRONT, Process, Stage, picture_and_sound, until};

/// Short enough to let it pass for real.
const WINDOW: Duration = Duration::from_secs(3);
const STOPS_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn everything_twice_changes_nothing_on_one_replica() {
    all(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_twice_changes_nothing_on_three_replicas() {
    all(3).await;
}

async fn all(replicas: u8) {
    let stage = Stage::new(Shape { replicas, dedup_window: WINDOW, ..Shape::default() }).await;
    let ears = Ears::open(&stage.server.admin().await).await;
    let (front, worker, assets) = walk(&stage).await;
    until_idle(&stage).await;
    let heard = ears.heard();
    check_heard(&heard);
    let before = Snapshot::of(&stage, &front, &assets).await;
    assert!(before.objects.len() > 3 && before.facts.len() > 40, "{before:?}");

    // To those who did it. Sent twice, so that the second one meets its twin.
    say_it_all_again(&stage, &heard, &assets).await;
    say_it_all_again(&stage, &heard, &assets).await;
    stage.server.deliver_everything_again().await;
    until_idle(&stage).await;
    before.check(&Snapshot::of(&stage, &front, &assets).await);

    // To others, after the server has forgotten.
    for mut process in [front, worker] {
        process.running.signal(Signal::TERM);
        let ended = process.running.ended_within(STOPS_WITHIN);
        assert_eq!(ended.code(), Some(0), "{}", process.running.log());
    }
    // No condition tells that the server forgot an id: the window has to pass.
    tokio::time::sleep(WINDOW * 2).await;
    let orders = say_it_all_again(&stage, &heard, &assets).await;
    let of_its_own: BTreeMap<&str, Sent> = orders.iter().rev().copied().collect();
    assert!(of_its_own.values().all(|sent| *sent == Sent::Stored), "an id was still known: {orders:?}");
    stage.server.deliver_everything_again().await;
    let front = stage.start("other-front", &FRONT, &settings(&stage));
    let _worker = stage.start("other-worker", &[Role::Transcoder], &[]);
    until_idle(&stage).await;
    before.check(&Snapshot::of(&stage, &front, &assets).await);
}

fn settings(stage: &Stage) -> [(&'static str, &'static str); 2] {
    // The process has its own directory as the root of what may be taken in by path: where the clips lie.
    let roots = format!("['{}']", stage.dir.path().display());
    [("SPOOL__GATEWAY__ROOTS", Box::leak(roots.into_boxed_str())), ("SPOOL__GATEWAY__LONGEST_LEASE", "1s")]
}

/// Every kind of way through: pushed, asked for by message, failed and retried, rejected, removed.
async fn walk(stage: &Stage) -> (Process, Process, Vec<AssetId>) {
    let clip = picture_and_sound(stage.dir.path(), "clip.mp4", 2);
    let front = stage.start("front", &FRONT, &settings(stage));
    let failed = front.push(&clip);
    stage.use_up_deliveries().await;
    let worker = stage.start("worker", &[Role::Transcoder], &[]);
    front.until_status(&failed, "failed").await;
    front.ask(&["retry", failed.as_str()]);

    let pushed = front.push(&clip);
    let body = r#"{"input":{"path":"clip.mp4"},"id":"natural","text":{"title":"T"}}"#;
    let publisher = stage.server.publisher().await;
    publisher.put_ingest(&TenantId::default_tenant(), body.as_bytes(), "message", &[]).await.expect("a request");
    let asked = AssetId::from_natural_key(&TenantId::default_tenant(), "ingest", "natural");
    let words = stage.dir.path().join("words.txt");
    std::fs::write(&words, b"just some words\n".repeat(400)).expect("written");
    let rejected = front.push(&words);
    let removed = front.push(&clip);

    for asset in [&failed, &pushed, &asked, &removed] {
        front.until_status(asset, "ready").await;
    }
    front.until_status(&rejected, "rejected").await;
    front.ask(&["rm", removed.as_str()]);
    front.until_said("the asset is gone", 1).await;
    (front, worker, vec![failed, pushed, asked, rejected, removed])
}

/// Waits until nothing is queued, leased or waiting anywhere.
async fn until_idle(stage: &Stage) {
    let admin = stage.server.admin().await;
    until("all is handled", async || {
        for which in ConsumerName::ALL {
            let counts = counts(&admin, which).await;
            if (counts.out, counts.waiting) != (0, 0) {
                return None;
            }
        }
        (size(&admin, JOBS).await.0 == 0).then_some(())
    })
    .await;
}

/// First words of a subject.
fn kind(heard: &Heard) -> &str {
    let subject = heard.subject();
    let end = subject.match_indices('.').nth(1).map_or(subject.len(), |(at, _)| at);
    &subject[..end]
}

/// Was every kind of message among them?
fn check_heard(heard: &[Heard]) {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    heard.iter().for_each(|heard| *kinds.entry(kind(heard)).or_default() += 1);
    let names: Vec<_> = kinds.keys().copied().collect();
    let all = [
        "$JS.EVENT",
        "$KV.SPOOL_LEASES",
        "$KV.SPOOL_UPLOADS",
        "spool.evt",
        "spool.ingest",
        "spool.job",
        "spool.parked",
        "spool.timer",
        "spool.txt",
    ];
    assert_eq!(names, all, "{kinds:?}");
}

/// Sends every message again, and ticks for now; what became of the orders, by subject.
async fn say_it_all_again<'a>(stage: &Stage, heard: &'a [Heard], assets: &[AssetId]) -> Vec<(&'a str, Sent)> {
    let admin = stage.server.admin().await;
    let (mut orders, mut notes) = (Vec::new(), BTreeSet::new());
    for message in heard {
        match kind(message) {
            // The server's own word, which nobody else may speak; it is delivered again from its stream.
            "$JS.EVENT" => {}
            // Values wake nobody, but are read: an upload as it stood in the middle, a note about work that is done. Sent
            // without their ids, since these streams have the usual window. One note about each item will do.
            "$KV.SPOOL_LEASES" => {
                if notes.insert(message.subject()) {
                    send_late(&admin, message).await;
                }
            }
            "$KV.SPOOL_UPLOADS" => {
                let sent = send_late(&admin, message).await;
                let is_upload = message.subject().starts_with("$KV.SPOOL_UPLOADS.upl_");
                assert!(!is_upload || sent != Sent::Stored, "an upload went back: {}", message.subject());
            }
            "spool.job" => orders.push((message.subject(), send_again(&admin, message).await)),
            "spool.evt" | "spool.parked" => {
                assert_ne!(send_again(&admin, message).await, Sent::Stored, "{}", message.subject());
            }
            "spool.txt" | "spool.ingest" | "spool.timer" => {
                send_again(&admin, message).await;
            }
            other => panic!("{other}"),
        }
    }
    let planner = stage.server.log(Role::Planner).await;
    for asset in assets {
        planner.tick(&TenantId::default_tenant(), asset, Timestamp::from_ms(0)).await.expect("a tick");
    }
    orders
}

/// All that counts.
#[derive(Debug)]
struct Snapshot {
    facts: Vec<Fact>,
    objects: BTreeMap<String, Sha256>,
    texts: u64,
    parked: u64,
    view: BTreeMap<String, Vec<Value>>,
}

impl Snapshot {
    async fn of(stage: &Stage, front: &Process, assets: &[AssetId]) -> Self {
        let admin = stage.server.admin().await;
        let facts = stage.facts().await;
        let last = facts.last().map_or(0, |fact| fact.sequence);
        until("the view is there", async || {
            let folded = front.view()["position"].as_u64();
            (folded == Some(last)).then_some(())
        })
        .await;
        let mut view = BTreeMap::from([
            ("ls".to_owned(), front.ask(&["ls"])),
            ("parked ls".to_owned(), front.ask(&["parked", "ls"])),
        ]);
        for asset in assets {
            for command in ["show", "events"] {
                let said = front.say(&[command, asset.as_str()]);
                let lines = said.stdout.replace(&front.server, "SERVER");
                let lines = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
                view.insert(format!("{command} {asset} {:?}", said.exit), lines);
            }
        }
        let (texts, parked) = (size(&admin, TEXTS).await.0, size(&admin, PARKED).await.0);
        Self { facts, objects: stage.objects(), texts, parked, view }
    }

    fn check(&self, after: &Snapshot) {
        assert_eq!(self.facts, after.facts, "the facts");
        assert_eq!(self.objects, after.objects, "the objects");
        assert_eq!((self.texts, self.parked), (after.texts, after.parked), "texts and parked messages");
        for (what, lines) in &self.view {
            assert_eq!(Some(lines), after.view.get(what), "{what}");
        }
        assert_eq!(self.view.len(), after.view.len());
    }
}
