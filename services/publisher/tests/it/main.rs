//! The publisher on a real server and a real directory: what stands on the log and in the store after it stepped.
#![expect(clippy::expect_used, reason = "a test that can't go on fails")]

use std::path::Path;
use std::time::{Duration, Instant};

use spool_kit::hls::check;
use spool_kit::{Ids, Stop, Store, StoreConfig};
use spool_nats::testing::TestServer;
use spool_nats::{ConsumerName, Decision, Log, Wait};
use spool_proto::asset::Publication;
use spool_proto::event::{Draft, RenditionsCompleted};
use spool_proto::key::{Key, Object};
use spool_proto::testing::Given;
use spool_proto::testing::values::plan;
use spool_proto::{Asset, Role, Slot, Status};
use spool_publisher::{Config, Deps, Publisher};

struct World {
    server: TestServer,
    admin: Log,
    dir: tempfile::TempDir,
}

impl World {
    async fn start() -> World {
        let server = TestServer::start().await;
        let admin = server.admin().await;
        World { server, admin, dir: tempfile::tempdir().expect("a directory") }
    }

    async fn store(&self) -> Store {
        Store::open(&StoreConfig::directory(self.dir.path())).await.expect("a store")
    }

    async fn publisher(&self, seed: u64) -> Publisher {
        let (log, store) = (self.server.log(Role::Publisher).await, self.store().await);
        Publisher::new(Config::default(), Deps { log, store, ids: Ids::seeded(seed) }).await.expect("a publisher")
    }

    /// Appends the facts of `given` from `from` on.
    async fn append(&self, given: &Given, from: usize) {
        for fact in &given.facts[from..] {
            let (slot, event) = (fact.slot.clone().expect("a slot"), fact.event().expect("an event").clone());
            let (tenant, asset) = (given.tenant.clone(), given.asset.clone());
            let draft = Draft { tenant, asset, slot, event, cause: None, actor: None };
            self.admin.append(&draft).await.expect("append");
        }
    }

    async fn asset(&self, given: &Given) -> Asset {
        let facts = self.admin.read_asset(&given.tenant, &given.asset, None).await.expect("read");
        Asset::fold(&facts).expect("facts")
    }
}

async fn settle(publisher: &Publisher) {
    while publisher.step().await.expect("step") {}
}

fn completed(given: Given) -> Given {
    given.all_stored(1).then(Slot::EncodeOutcome { generation: 1 }, RenditionsCompleted { objects: 8, bytes: 9 })
}

/// Manifest files below the directory.
fn manifests(dir: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let entries = entries.map(|entry| entry.expect("an entry").path());
    entries
        .map(
            |path| {
                if path.is_dir() {
                    manifests(&path)
                } else {
                    usize::from(path.extension().is_some_and(|e| e == "m3u8"))
                }
            },
        )
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_growing_asset_opens_and_a_completed_one_is_published_with_its_manifests() {
    let world = World::start().await;
    let publisher = world.publisher(1).await;
    let growing = Given::planned(plan(&[1, 1], 8_000)).chunk(1, 0).chunk(1, 1);
    world.append(&growing, 0).await;
    settle(&publisher).await;
    assert_eq!(world.asset(&growing).await.status(), Status::Playable);

    let whole = Given::planned(plan(&[1, 1], 8_000));
    let whole = completed(whole);
    world.append(&whole, 4).await;
    settle(&publisher).await;
    let asset = world.asset(&whole).await;
    assert_eq!(asset.status(), Status::Ready);
    let Some(Publication::Published(published)) = asset.publication().map(|head| head.it.clone()) else {
        panic!("not published")
    };
    assert_eq!(published.files, ["index.m3u8", "v720.m3u8", "v360.m3u8", "a0.m3u8"]);
    let store = world.store().await;
    for file in &published.files {
        let object = Object::Manifest { revision: 2, attempt: published.attempt.clone(), file: file.clone() };
        let key = Key { tenant: asset.tenant.clone(), asset: asset.id.clone(), object };
        let length = store.head(&key).await.expect("ask").expect("it stands");
        let text = store.get_range(&key, 0..length).await.expect("read");
        let text = std::str::from_utf8(&text).expect("text");
        let broken = if file == "index.m3u8" { check::multivariant(text) } else { check::media(text) };
        assert_eq!(broken, Vec::<String>::new(), "{file}");
    }
    assert_eq!(world.server.log(Role::Publisher).await.denials(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_publishers_at_once_publish_once() {
    let world = World::start().await;
    let (one, two) = (world.publisher(1).await, world.publisher(2).await);
    let given = completed(Given::planned(plan(&[1, 2, 4, 3], 40_000)));
    world.append(&given, 0).await;
    tokio::join!(settle(&one), settle(&two), settle(&one), settle(&two));
    let asset = world.asset(&given).await;
    assert_eq!(asset.status(), Status::Ready);
    let published = asset.publications.values().filter(|head| matches!(head.it, Publication::Published(_))).count();
    assert_eq!(published, 1);
    // Only the fact that completes publishes, and only one of them is handed it.
    assert_eq!(manifests(world.dir.path()), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_publisher_publishes_what_comes_and_ends_when_it_shall() {
    let world = World::start().await;
    let stop = Stop::new();
    let running = tokio::spawn(world.publisher(1).await.run(stop.clone()));
    let given = completed(Given::planned(plan(&[1], 3_000)));
    world.append(&given, 0).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while world.asset(&given).await.status() != Status::Ready {
        assert!(Instant::now() < deadline, "still {}", world.asset(&given).await.status());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.finish();
    running.await.expect("no panic").expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asset_that_nothing_wakes_anybody_for_is_found_by_looking_back() {
    let world = World::start().await;
    let given = completed(Given::planned(plan(&[1, 1], 8_000)));
    world.append(&given, 0).await;
    // As after a loss of the newest facts: the log holds what it holds, and all of it was handled long ago.
    let facts = world.server.log(Role::Publisher).await.consumer(ConsumerName::Publisher).await.expect("a consumer");
    while facts.step(10, Wait::No, |_| async { Decision::Done }).await.expect("step") > 0 {}
    let publisher = world.publisher(1).await;
    settle(&publisher).await;
    assert_eq!(world.asset(&given).await.status(), Status::Encoding, "nothing woke it");
    assert_eq!(publisher.look_back().await, Ok(1));
    assert_eq!(world.asset(&given).await.status(), Status::Ready);
    assert_eq!(publisher.look_back().await, Ok(0));
    assert_eq!(world.server.log(Role::Publisher).await.denials(), 0);
}
