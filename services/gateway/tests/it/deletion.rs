//! Deleting: hidden at once, then swept, counted, and looked at again.

use bytes::Bytes;
use spool_kit::units::Span;
use spool_proto::event::AssetRegistered;
use spool_proto::key::{Key, Object};
use spool_proto::{Event, Slot, Status};

use crate::common::{App, KIB, World, channel, eventually, pattern, tenant};

async fn world() -> (World, App) {
    let world = World::new().await;
    let config = spool_gateway::Config { longest_lease: Span::millis(400), ..world.config() };
    let app = world.app_with(config).await;
    (world, app)
}

/// Steps until the saga has nothing more to do; the clock of the log is the real one.
async fn finish(world: &World, app: &App, asset: &spool_proto::AssetId) {
    eventually("the objects are purged", async || {
        world.clock.set(spool_kit::Clock::system().now());
        app.gateway.step().await.unwrap();
        app.fact(asset, Slot::LifePurged).await.is_some()
    })
    .await;
}

#[tokio::test]
async fn a_deleted_asset_leaves_nothing_but_its_facts() {
    let (world, app) = world().await;
    let bytes = pattern(200 * KIB);
    let asset = app.upload(&bytes, "title U2VjcmV0").await;
    let token = app.state(&asset).await.text_token().unwrap().clone();
    let other = app.upload(&pattern(10), "").await;

    let reply = app.send("DELETE", &format!("/v1/assets/{asset}"), &[], "").await;
    assert_eq!((reply.status, reply.json()["status"].as_str()), (202, Some("deleted")), "{reply:?}");
    let again = app.send("DELETE", &format!("/v1/assets/{asset}"), &[], "").await;
    assert_eq!(again.json()["sequence"], reply.json()["sequence"], "the same fact stands");
    assert_eq!(app.state(&asset).await.status(), Status::Deleted);

    finish(&world, &app, &asset).await;
    let fact = app.fact(&asset, Slot::LifePurged).await.unwrap();
    let Some(Event::ObjectsPurged(purged)) = fact.event() else { panic!("{fact:?}") };
    assert_eq!((purged.objects, purged.bytes), (4, 200 * KIB as u64));
    assert_eq!(app.log.get_text(&tenant(), &asset, &token).await.unwrap(), None);
    assert!(app.state(&asset).await.text_token().is_none());
    let kv = app.log.kv::<serde_json::Value>(spool_nats::Bucket::Uploads).await.unwrap();
    let entries = kv.entries(0, 100).await.unwrap();
    assert!(entries.iter().all(|entry| !entry.value.to_string().contains("U2VjcmV0")), "{entries:?}");
    let left = app.objects().await;
    assert!(left.len() == 1 && left[0].contains(other.as_str()), "{left:?}");

    // A worker that wakes up late leaves an orphan; the last look finds it.
    let attempt = spool_proto::id::AttemptId::from_bits(1);
    let object = Object::Still { generation: 1, name: "poster".to_owned(), attempt };
    app.store.put(&Key { tenant: tenant(), asset: asset.clone(), object }, Bytes::from_static(b"late")).await.unwrap();
    eventually("the late object is gone", async || {
        world.clock.set(spool_kit::Clock::system().now());
        app.gateway.step().await.unwrap();
        app.objects().await.len() == 1
    })
    .await;
    let kinds = app.kinds(&asset).await;
    assert_eq!(
        kinds,
        ["AssetRegistered", "Described", "SourceStored", "AssetDeleted", "TextErased", "ObjectsPurged"],
        "each once"
    );
}

#[tokio::test]
async fn deleting_while_bytes_come_in_ends_the_upload() {
    let (world, app) = world().await;
    let created = app.create(200 * KIB, "").await;
    let (location, asset) = (created.location(), created.asset());
    let (sender, body) = channel();
    let delete = async {
        sender.send(Ok(pattern(70 * KIB))).await.unwrap();
        eventually("a piece is stored", async || app.head(&location).await.offset() == 64 * KIB as u64).await;
        let reply = app.send("DELETE", &format!("/v1/assets/{asset}"), &[], "").await;
        assert_eq!(reply.status, 202, "{reply:?}");
        finish(&world, &app, &asset).await;
        sender.send(Ok(pattern(100 * KIB))).await.ok();
        drop(sender);
    };
    let (late, ()) = tokio::join!(app.patch(&location, 0, body), delete);
    assert_eq!(late.code(), "upload_superseded", "{late:?}");
    assert_eq!(app.head(&location).await.status, 410);
    eventually("what the late request left is gone", async || {
        world.clock.set(spool_kit::Clock::system().now());
        app.gateway.step().await.unwrap();
        app.objects().await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_count_survives_a_crash_in_the_middle_of_the_sweep() {
    let (world, app) = world().await;
    let asset = app.upload(&pattern(200 * KIB), "").await;
    app.send("DELETE", &format!("/v1/assets/{asset}"), &[], "").await;
    // Another gateway counted, and deleted half of it before it died.
    let kv = app.log.kv::<serde_json::Value>(spool_nats::Bucket::Uploads).await.unwrap();
    let counted = serde_json::json!({"is": "purge", "objects": 4, "bytes": 204_800});
    kv.create(&format!("purge.{asset}"), &counted).await.unwrap();
    let fact = app.fact(&asset, Slot::UploadOutcome).await.unwrap();
    let Some(Event::SourceStored(stored)) = fact.event() else { panic!("{fact:?}") };
    let pieces = spool_proto::key::pieces(&tenant(), &asset, &stored.source);
    let keys: Vec<Key> = pieces.into_iter().take(2).map(|(key, _)| key).collect();
    app.store.delete(&keys).await.unwrap();

    finish(&world, &app, &asset).await;
    let fact = app.fact(&asset, Slot::LifePurged).await.unwrap();
    let Some(Event::ObjectsPurged(purged)) = fact.event() else { panic!("{fact:?}") };
    assert_eq!((purged.objects, purged.bytes), (4, 204_800));
}

#[tokio::test]
async fn the_upload_of_an_asset_is_known_by_its_first_fact() {
    let (_world, app) = world().await;
    let created = app.create(10, "").await;
    let fact = app.fact(&created.asset(), Slot::UploadRegistered).await.unwrap();
    let Some(Event::AssetRegistered(AssetRegistered { upload, .. })) = fact.event() else { panic!("{fact:?}") };
    assert_eq!(*upload, created.upload());
}
