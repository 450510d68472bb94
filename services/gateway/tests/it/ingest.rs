//! Files taken in by path: over HTTP and by message.

use std::time::Duration;

use serde_json::json;
use spool_gateway::Config;
use spool_nats::Log;
use spool_proto::event::Door;
use spool_proto::{AssetId, Code, Event, Slot, Status};

use crate::common::{App, KIB, World, eventually, pattern, tenant};

async fn post(app: &App, path: &str, key: Option<&str>) -> crate::common::Reply {
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    app.send("POST", "/v1/assets", &headers, json!({ "input": { "path": path } }).to_string()).await
}

async fn publish(publisher: &Log, body: &str, id: &str) {
    publisher.put_ingest(&tenant(), body.as_bytes(), id, &[]).await.unwrap();
}

#[tokio::test]
async fn a_file_below_a_root_is_copied_in() {
    let world = World::new().await;
    let app = world.app().await;
    let bytes = pattern(200 * KIB + 5);
    std::fs::write(world.root().join("lecture.mp4"), &bytes).unwrap();
    let reply = post(&app, "lecture.mp4", None).await;
    assert_eq!((reply.status, reply.json()["status"].as_str()), (202, Some("uploading")), "{reply:?}");
    let asset = reply.asset();
    let described = app.fact(&asset, Slot::Text { revision: 1 }).await.expect("it is there before it is copied");
    assert_eq!(reply.location(), format!("/v1/assets/{asset}?at_least={}", described.sequence));
    assert_eq!(app.state(&asset).await.status(), Status::Uploading);
    app.until_ended(&asset).await;
    assert_eq!(app.kinds(&asset).await, ["AssetRegistered", "Described", "SourceStored"]);
    assert_eq!(app.source(&asset).await, bytes);
    let state = app.state(&asset).await;
    assert_eq!(state.registered.as_ref().unwrap().it.door, Door::Path);
    let text = app.log.get_text(&tenant(), &asset, state.text_token().unwrap()).await.unwrap().unwrap();
    assert_eq!(text.filename.as_deref(), Some("lecture.mp4"));
}

/// Too large to be copied while a test waits, and no work to write down: it is a hole.
const HOLE: u64 = 40 << 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_file_passes_large_ones_that_are_being_copied_or_wait() {
    let world = World::new().await;
    let one = Config { ingest_at_once: 1, ..world.config() };
    let (door, app) = (world.app().await, world.app_with(one).await);
    for name in ["large.mp4", "second.mp4", "third.mp4"] {
        std::fs::File::create(world.root().join(name)).unwrap().set_len(HOLE).unwrap();
    }
    std::fs::write(world.root().join("small.mp4"), pattern(100)).unwrap();
    let App { gateway, stop, store, .. } = app;
    let running = tokio::spawn(gateway.run(stop.clone()));

    let large = post(&door, "large.mp4", None).await.asset();
    eventually("the large one is being copied", async || store.traffic().written_bytes > 0).await;
    for name in ["second.mp4", "third.mp4"] {
        post(&door, name, None).await;
    }
    let small = post(&door, "small.mp4", None).await.asset();
    eventually("the small one is in", async || door.fact(&small, Slot::UploadOutcome).await.is_some()).await;
    assert!(door.fact(&large, Slot::UploadOutcome).await.is_none(), "the large one is still being copied");

    // Told to stop, it stores what it has and lets the copy go on elsewhere.
    stop.finish();
    running.await.unwrap().unwrap();
    assert_eq!(door.kinds(&large).await, ["AssetRegistered", "Described"]);
}

#[tokio::test]
async fn a_request_whose_gateway_died_before_it_was_registered_is_registered_by_who_takes_it() {
    let world = World::new().await;
    let app = world.app().await;
    std::fs::write(world.root().join("a.mp4"), pattern(100)).unwrap();
    let headers = [
        (spool_proto::envelope::INGEST_KEY, "k".to_owned()),
        (spool_proto::envelope::INGEST_DOOR, Door::Path.name().to_owned()),
    ];
    app.log.put_ingest(&tenant(), br#"{"input":{"path":"a.mp4"}}"#, "m", &headers).await.unwrap();
    let asset = AssetId::from_natural_key(&tenant(), Door::Path.name(), "k");
    assert!(app.facts(&asset).await.is_empty());
    app.until_ended(&asset).await;
    assert_eq!(app.kinds(&asset).await, ["AssetRegistered", "Described", "SourceStored"]);
}

#[tokio::test]
async fn a_file_waits_for_its_copy_as_long_as_the_queue_keeps_its_request_and_takes_no_place_of_an_upload() {
    use spool_nats::{ConsumerName, Decision, Wait};
    let world = World::new().await;
    let app = world.app_with(Config { max_uploads: 1, ..world.config() }).await;
    std::fs::write(world.root().join("a.mp4"), pattern(10)).unwrap();
    let asset = post(&app, "a.mp4", None).await.asset();
    let queue = app.log.consumer(ConsumerName::Ingest).await.unwrap();
    // Taken away, as if it stood behind others for ever.
    let taken = queue.step(1, Wait::Upto(Duration::from_secs(10)), |_| async { Decision::Done }).await.unwrap();
    assert_eq!(taken, 1);

    app.settle().await;
    app.create(10, "").await;
    world.clock.advance(Duration::from_secs(13 * 24 * 3600));
    app.settle().await;
    assert_eq!(app.state(&asset).await.status(), Status::Uploading, "its turn may still come");
    world.clock.advance(Duration::from_secs(2 * 24 * 3600));
    app.settle().await;
    let state = app.state(&asset).await;
    assert_eq!((state.status(), state.problem().unwrap().code), (Status::Abandoned, Code::UploadExpired));
    assert_eq!(state.problem().unwrap().params["limit"], "14d", "no upload's limit");
}

#[tokio::test]
async fn a_request_under_one_key_is_one_asset_for_ever() {
    let world = World::new().await;
    let app = world.app().await;
    std::fs::write(world.root().join("a.mp4"), pattern(10)).unwrap();
    std::fs::write(world.root().join("b.mp4"), pattern(10)).unwrap();
    let first = post(&app, "a.mp4", Some("k")).await.asset();
    assert_eq!(post(&app, "a.mp4", Some("k")).await.asset(), first);
    let other = post(&app, "b.mp4", Some("k")).await;
    assert_eq!((other.status, other.code()), (409, "idempotency_conflict".to_owned()), "while it is queued");
    app.until_ended(&first).await;
    assert_eq!(post(&app, "a.mp4", Some("k")).await.asset(), first);
    assert_eq!(post(&app, "b.mp4", Some("k")).await.status, 409, "once it is registered");
    app.settle().await;
    assert_eq!(app.kinds(&first).await, ["AssetRegistered", "Described", "SourceStored"]);
    assert_ne!(post(&app, "a.mp4", None).await.asset(), first, "without a key each request is an asset");
}

#[tokio::test]
async fn a_message_from_any_publisher_does_the_same() {
    let world = World::new().await;
    let app = world.app().await;
    let bytes = pattern(100 * KIB);
    std::fs::write(world.root().join("a.mp4"), &bytes).unwrap();
    let publisher = world.server.publisher().await;
    publish(&publisher, r#"{"input":{"path":"a.mp4"},"text":{"title":"T"}}"#, "message-1").await;
    publish(&publisher, r#"{"input":{"path":"a.mp4"},"id":"natural"}"#, "message-2").await;
    for key in ["message-1", "natural"] {
        let asset = AssetId::from_natural_key(&tenant(), "ingest", key);
        app.until_ended(&asset).await;
        assert_eq!(app.source(&asset).await, bytes, "{key}");
    }
}

#[tokio::test]
async fn the_same_message_after_the_window_registers_nothing() {
    let world = World::new().await;
    let app = world.app().await;
    std::fs::write(world.root().join("a.mp4"), pattern(100)).unwrap();
    let publisher = world.server.publisher().await;
    let body = r#"{"input":{"path":"a.mp4"},"id":"natural"}"#;
    publish(&publisher, body, "m1").await;
    app.until_ended(&AssetId::from_natural_key(&tenant(), "ingest", "natural")).await;
    let sequence = app.log.last_sequence().await.unwrap();
    // Another Nats-Msg-Id is what a window that has passed looks like to the stream; its entry is gone by then too.
    world.clock.advance(Duration::from_secs(25 * 3600));
    app.settle().await;
    for id in ["m2", "m3"] {
        publish(&publisher, body, id).await;
        eventually("it is handled", async || app.gateway.step().await.unwrap()).await;
    }
    assert_eq!(app.log.last_sequence().await.unwrap(), sequence);
    assert_eq!(app.objects().await.len(), 1);
    assert!(app.log.list_parked(0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_bad_message_is_parked_with_its_code_and_registers_nothing() {
    let world = World::new().await;
    let app = world.app().await;
    std::fs::write(world.root().join("a.mp4"), pattern(100)).unwrap();
    let publisher = world.server.publisher().await;
    let cases = [
        ("not json", Code::IngestInvalid),
        (r#"{"input":{"path":"a.mp4"},"prio":1}"#, Code::IngestInvalid),
        (r#"{"input":{"url":"http://x"}}"#, Code::IngestInvalid),
        (r#"{"input":{"path":"a.mp4"},"profile":"gold"}"#, Code::ProfileUnknown),
        (r#"{"input":{"path":"../../etc/passwd"}}"#, Code::PathNotAllowed),
        (r#"{"input":{"path":"nothing.mp4"}}"#, Code::PathNotFound),
        (r#"{"input":{"path":"."}}"#, Code::PathNotFile),
    ];
    for (index, (body, _)) in cases.iter().enumerate() {
        publish(&publisher, body, &format!("m{index}")).await;
    }
    app.until_parked(cases.len()).await;
    let parked = app.log.list_parked(0, 100).await.unwrap();
    let mut codes: Vec<_> =
        parked.iter().map(|parked| (String::from_utf8_lossy(&parked.body).into_owned(), parked.code)).collect();
    codes.sort();
    let mut expected: Vec<_> = cases.iter().map(|(body, code)| ((*body).to_owned(), Some(*code))).collect();
    expected.sort();
    assert_eq!(codes, expected);
    assert_eq!(app.log.last_sequence().await.unwrap(), 0);
}

#[tokio::test]
async fn a_parked_message_is_listed_and_released_once_its_cause_is_gone() {
    let world = World::new().await;
    let app = world.app().await;
    let publisher = world.server.publisher().await;
    publish(&publisher, r#"{"input":{"path":"late.mp4"}}"#, "m").await;
    app.until_parked(1).await;
    let list = app.send("GET", "/v1/parked", &[], "").await.json();
    let parked = &list["parked"][0];
    assert_eq!((parked["code"].as_str(), list["next"].is_null()), (Some("path_not_found"), true), "{list}");

    std::fs::write(world.root().join("late.mp4"), pattern(100)).unwrap();
    let path = format!("/v1/parked/{}/release", parked["id"]);
    // The stream may know its id from a moment ago: then it stays parked, and the answer is to come back.
    eventually("it is released", async || {
        let reply = app.send("POST", &path, &[], "").await;
        assert!(reply.status == 200 || reply.code() == "asset_busy", "{reply:?}");
        reply.status == 200
    })
    .await;
    let asset = AssetId::from_natural_key(&tenant(), "ingest", "m");
    eventually("it was taken in", async || {
        app.gateway.step().await.unwrap();
        app.fact(&asset, Slot::UploadOutcome).await.is_some()
    })
    .await;
    let again = app.send("POST", &path, &[], "").await;
    assert_eq!((again.status, again.code()), (404, "parked_not_found".to_owned()));
}

#[tokio::test]
async fn a_file_that_vanished_after_the_answer_ends_in_a_named_state() {
    let world = World::new().await;
    let app = world.app().await;
    let file = world.root().join("a.mp4");
    std::fs::write(&file, pattern(100)).unwrap();
    let asset = post(&app, "a.mp4", None).await.asset();
    std::fs::remove_file(&file).unwrap();
    app.until_ended(&asset).await;
    let state = app.state(&asset).await;
    assert_eq!((state.status(), state.problem().unwrap().code), (Status::Abandoned, Code::PathNotFound));
    app.until_parked(1).await;
}

/// Larger than what is read of a file at once, so that a copy can be cut in the middle.
const LARGE: usize = 4 << 20;

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_no_source() {
    let world = World::new().await;
    let app = world.app().await;
    let file = world.root().join("a.mp4");
    std::fs::write(&file, pattern(LARGE)).unwrap();
    let asset = post(&app, "a.mp4", None).await.asset();
    cut_copy(&world, &asset).await;
    std::fs::write(&file, pattern(LARGE + 1)).unwrap();
    app.until_ended(&asset).await;
    let state = app.state(&asset).await;
    assert_eq!((state.status(), state.problem().unwrap().code), (Status::Abandoned, Code::SourceUnreadable));
}

#[tokio::test]
async fn a_copy_that_was_cut_goes_on_where_it_stopped() {
    let world = World::new().await;
    let app = world.app().await;
    let bytes = pattern(LARGE);
    std::fs::write(world.root().join("a.mp4"), &bytes).unwrap();
    let asset = post(&app, "a.mp4", None).await.asset();
    let copied = cut_copy(&world, &asset).await;
    let before = app.store.traffic().written_bytes;
    app.until_ended(&asset).await;
    assert_eq!(app.source(&asset).await, bytes);
    let fact = app.fact(&asset, Slot::UploadOutcome).await.unwrap();
    let Some(Event::SourceStored(stored)) = fact.event() else { panic!("{fact:?}") };
    assert_eq!(stored.source.runs.len(), 2, "pieces of two attempts: {:?}", stored.source.runs);
    assert_eq!(app.store.traffic().written_bytes - before, LARGE as u64 - copied, "nothing was copied again");
}

/// Another gateway begins the copy and is told to stop in the middle of it; the bytes that it stored.
async fn cut_copy(world: &World, asset: &AssetId) -> u64 {
    let other = world.app().await;
    let watch = async {
        eventually("the copy begins", async || other.store.traffic().written_bytes > 0).await;
        other.stop.finish();
    };
    tokio::join!(watch, other.until("the copy is cut", async || other.stop.is_finishing()));
    assert!(other.fact(asset, Slot::UploadOutcome).await.is_none(), "the copy was cut before its end");
    let copied = other.store.traffic().written_bytes;
    assert!(copied > 0 && copied < LARGE as u64, "{copied}");
    copied
}

#[tokio::test]
async fn a_request_that_no_delivery_ended_is_parked_and_its_asset_has_an_end() {
    use spool_nats::{ConsumerName, Decision, Wait};
    let world = World::new().await;
    let app = world.app().await;
    std::fs::write(world.root().join("a.mp4"), pattern(10)).unwrap();
    let asset = post(&app, "a.mp4", None).await.asset();
    // A gateway that dies in every delivery, as the server sees it.
    let dying = app.log.consumer(ConsumerName::Ingest).await.unwrap();
    let deliveries = std::sync::atomic::AtomicU64::new(0);
    eventually("every delivery is used up", async || {
        let handle = |_| {
            deliveries.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            async { Decision::Retry { after: std::time::Duration::ZERO, why: "died".to_owned() } }
        };
        dying.step(1, Wait::Upto(Duration::from_millis(100)), handle).await.unwrap();
        deliveries.load(std::sync::atomic::Ordering::SeqCst) >= 5
    })
    .await;
    app.until_ended(&asset).await;
    let state = app.state(&asset).await;
    assert_eq!((state.status(), state.problem().unwrap().code), (Status::Abandoned, Code::SourceUnreadable));
    app.until_parked(1).await;
    let parked = app.log.list_parked(0, 10).await.unwrap().remove(0);
    assert_eq!((parked.code, parked.attempts), (Some(Code::WorkerLost), 5));

    let release = app.send("POST", &format!("/v1/parked/{}/release", parked.sequence), &[], "").await;
    assert_eq!((release.status, release.code()), (409, "release_over".to_owned()), "{release:?}");
}
