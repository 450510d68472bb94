//! The same gateway on other ground: an S3 server as store, three replicas as log.

use spool_nats::testing::TestServer;
use spool_proto::{AssetId, Event, Slot};

use crate::common::{App, KIB, World, channel, eventually, pattern, tenant};

/// An upload that is cut and goes on through another gateway, then is deleted.
async fn walk(world: &World, one: &App, two: &App) {
    let bytes = pattern(300 * KIB);
    let created = one.create(bytes.len(), "").await;
    let location = created.location();
    let (sender, body) = channel();
    let feed = async {
        sender.send(Ok(bytes.slice(..100 * KIB))).await.unwrap();
        sender.send(Err(std::io::Error::other("reset"))).await.unwrap();
    };
    let (reply, ()) = tokio::join!(one.patch(&location, 0, body), feed);
    assert_eq!((reply.status, reply.offset()), (204, 100 * KIB as u64), "{reply:?}");
    let offset = two.head(&location).await.offset();
    assert_eq!(offset, 100 * KIB as u64);
    let reply = two.patch(&location, offset, bytes.slice(100 * KIB..)).await;
    assert_eq!(reply.status, 204, "{reply:?}");
    assert_eq!(one.source(&created.asset()).await, bytes);
    assert_eq!(one.objects().await.len(), 5, "{:?}", one.objects().await);

    let asset = created.asset();
    assert_eq!(one.send("DELETE", &format!("/v1/assets/{asset}"), &[], "").await.status, 202);
    two.until("the objects are purged", async || {
        world.clock.set(spool_kit::Clock::system().now());
        two.fact(&asset, Slot::LifePurged).await.is_some()
    })
    .await;
    let fact = two.fact(&asset, Slot::LifePurged).await.unwrap();
    let Some(Event::ObjectsPurged(purged)) = fact.event() else { panic!("{fact:?}") };
    assert_eq!((purged.objects, purged.bytes), (5, 300 * KIB as u64));
    assert!(two.objects().await.is_empty());
}

fn quick(world: &World) -> spool_gateway::Config {
    spool_gateway::Config { longest_lease: spool_kit::units::Span::millis(300), ..world.config() }
}

#[tokio::test]
async fn an_s3_server_holds_uploads_as_a_directory_does() {
    let server = crate::s3::Server::start();
    let mut world = World::new().await;
    world.store = Some(server.bucket("spool-gateway").await);
    let (one, two) = (world.app_with(quick(&world)).await, world.app_with(quick(&world)).await);
    walk(&world, &one, &two).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_give_the_same_facts_and_take_every_message_twice() {
    let world = World::on(TestServer::cluster().await);
    let (one, two) = (world.app_with(quick(&world)).await, world.app_with(quick(&world)).await);
    walk(&world, &one, &two).await;

    std::fs::write(world.root().join("a.mp4"), pattern(100 * KIB)).unwrap();
    let publisher = world.server.publisher().await;
    let asset = AssetId::from_natural_key(&tenant(), "ingest", "natural");
    let request = br#"{"input":{"path":"a.mp4"},"id":"natural"}"#;
    publisher.put_ingest(&tenant(), request, "m1", &[]).await.unwrap();
    one.until_ended(&asset).await;
    let (objects, sequence) = (one.objects().await, one.log.last_sequence().await.unwrap());
    publisher.put_ingest(&tenant(), request, "m2", &[]).await.unwrap();
    eventually("the second message is handled", async || two.gateway.step().await.unwrap()).await;
    two.settle().await;
    assert_eq!((two.objects().await, two.log.last_sequence().await.unwrap()), (objects, sequence));
}
