//! The commands of who runs it, on real processes: following what happens, folding the view anew, putting back what was parked.

use std::time::Duration;

use serde_json::Value;
use spool_nats::streams::Shape;
use spool_proto::id::TenantId;
use spool_proto::{AssetId, Role};

use crate::spool::{Running, spool};
use crate::stage::{FRONT, Process, Stage, picture_and_sound, until};

const ENDS_WITHIN: Duration = Duration::from_secs(60);
/// Exit code of a command about an asset that ended otherwise than ready, and of one that was refused.
const NOT_READY: Option<i32> = Some(3);
const REFUSED: Option<i32> = Some(4);

/// A command that goes on until it has seen enough.
fn follow(stage: &Stage, front: &Process, args: &[&str]) -> Running {
    let mut command = spool(args);
    Running::start(command.args(["--json", "--server", &front.server]), stage.dir.path())
}

/// Reads lines until one has this value at this name.
fn until_line(running: &Running, name: &str, value: &str) -> Vec<Value> {
    let mut lines = vec![running.line()];
    while lines[lines.len() - 1][name] != value {
        lines.push(running.line());
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_can_be_followed_to_either_end() {
    let stage = Stage::new(Shape::default()).await;
    let front = stage.start("front", &FRONT, &[]);
    let asset = front.push(&picture_and_sound(stage.dir.path(), "clip.mp4", 2));
    let mut watch = follow(&stage, &front, &["watch", asset.as_str()]);
    let everything = follow(&stage, &front, &["watch"]);
    let events = follow(&stage, &front, &["events", asset.as_str(), "--follow"]);
    until_line(&events, "kind", "SourceStored");
    let explained = front.ask(&["explain", asset.as_str()]).swap_remove(0);
    let sentence = explained["sentence"].as_str().unwrap_or_default();
    assert!(sentence.contains("no transcoder is connected") && explained["queue"]["lane"] == "first", "{explained}");

    stage.use_up_deliveries().await;
    let worker = stage.start("worker", &[Role::Transcoder], &[]);
    until_line(&watch, "status", "failed");
    assert_eq!(watch.ended_within(ENDS_WITHIN).code(), NOT_READY, "{}", watch.log());

    // What was parked is for a check that is over: the way on is another.
    let parked = front.ask(&["parked", "ls"]).swap_remove(0);
    let refused = front.say(&["parked", "release", &parked["id"].to_string()]);
    assert_eq!(refused.exit, REFUSED, "{}{}", refused.stdout, refused.stderr);
    assert!(refused.stderr.contains("retry"), "{}", refused.stderr);

    front.ask(&["retry", asset.as_str()]);
    let mut watch = follow(&stage, &front, &["watch", asset.as_str()]);
    until_line(&watch, "status", "ready");
    assert_eq!(watch.ended_within(ENDS_WITHIN).code(), Some(0), "{}", watch.log());
    let seen = until_line(&events, "kind", "Published");
    assert!(seen.iter().any(|line| line["kind"] == "RetryRequested"), "{seen:?}");
    until_line(&everything, "kind", "Published");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_is_folded_anew_says_the_same() {
    let stage = Stage::new(Shape::default()).await;
    let front = stage.start("front", &FRONT, &[]);
    let _worker = stage.start("worker", &[Role::Transcoder], &[]);
    let asset = front.push(&picture_and_sound(stage.dir.path(), "clip.mp4", 2));
    front.until_status(&asset, "ready").await;
    let said =
        || [["show", asset.as_str()], ["events", asset.as_str()], ["ls", "--limit=9"]].map(|args| front.ask(&args));
    let before = said();
    let rebuilds = front.view()["rebuilds"].as_u64().expect("a count");
    let told = front.ask(&["view", "rebuild"]);
    assert_eq!(front.view()["rebuilds"], rebuilds + 1, "{told:?}");
    assert_eq!(said(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_request_goes_its_way_when_it_is_released() {
    let stage = Stage::new(Shape::default()).await;
    let roots = format!("['{}']", stage.dir.path().display());
    let front = stage.start("front", &FRONT, &[("SPOOL__GATEWAY__ROOTS", &roots)]);
    let tenant = TenantId::default_tenant();
    let body = br#"{"input":{"path":"late.mp4"},"id":"natural"}"#;
    stage.server.publisher().await.put_ingest(&tenant, body, "message", &[]).await.expect("a request");
    let parked = until("a parked message", async || front.ask(&["parked", "ls"]).pop()).await;
    assert_eq!(parked["code"], "path_not_found", "{parked}");

    picture_and_sound(stage.dir.path(), "late.mp4", 2);
    front.ask(&["parked", "release", &parked["id"].to_string()]);
    let _worker = stage.start("worker", &[Role::Transcoder], &[]);
    front.until_status(&AssetId::from_natural_key(&tenant, "ingest", "natural"), "ready").await;
    assert!(front.ask(&["parked", "ls"]).is_empty());
}
