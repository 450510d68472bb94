//! The planner on a real server: what stands on the log and in the queue after it stepped.
#![expect(clippy::expect_used, reason = "a test that can't go on fails")]

use std::time::Duration;

use spool_kit::{Clock, Stop};
use spool_nats::testing::TestServer;
use spool_nats::{Appended, ConsumerName, Decision, Delivery, Incoming, Log, Wait};
use spool_planner::{Config, Deps, Planner};
use spool_proto::deadline;
use spool_proto::event::{AssetDeleted, Draft, Event, RetryOf, RetryRequested, SourceAccepted};
use spool_proto::subject::Lane;
use spool_proto::testing::Given;
use spool_proto::testing::values::{audio_stored, source_facts, still_stored, video_stored};
use spool_proto::time::Timestamp;
use spool_proto::{Asset, Code, Item, Role, Slot, Status};

/// A server, a planner on it, and admin, who plays the other roles.
struct World {
    server: TestServer,
    admin: Log,
    clock: Clock,
    planner: Planner,
    given: Given,
}

impl World {
    async fn start() -> World {
        let server = TestServer::start().await;
        let admin = server.admin().await;
        // Stream time is the machine's, so the planner's clock starts there.
        let clock = Clock::manual(Clock::system().now());
        let planner = planner(&server, &clock).await;
        World { server, admin, clock, planner, given: Given::new() }
    }

    /// Appends what stands in `given` and not on the log yet.
    async fn append_all(&self, given: &Given) {
        for fact in &given.facts {
            let slot = fact.slot.clone().expect("a known slot");
            self.append(slot, fact.event().expect("a known event").clone()).await;
        }
    }

    async fn append(&self, slot: Slot, event: impl Into<Event>) -> Appended {
        let (tenant, asset) = (self.given.tenant.clone(), self.given.asset.clone());
        let draft = Draft { tenant, asset, slot, event: event.into(), cause: None, actor: None };
        self.admin.append(&draft).await.expect("append")
    }

    async fn settle(&self) {
        while self.planner.step().await.expect("step") {}
    }

    async fn asset(&self) -> Asset {
        let facts = self.admin.read_asset(&self.given.tenant, &self.given.asset, None).await.expect("read");
        Asset::fold(&facts).expect("facts")
    }

    async fn queued(&self, item: &str) -> bool {
        let item: Item = item.parse().expect("an item");
        self.admin.queued(&self.given.tenant, &self.given.asset, &item).await.expect("ask").is_some()
    }
}

async fn planner(server: &TestServer, clock: &Clock) -> Planner {
    let log = server.log(Role::Planner).await;
    Planner::new(Config::default(), Deps { log, clock: clock.clone() }).await.expect("a planner")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asset_is_led_from_its_source_to_its_completed_generation() {
    let world = World::start().await;
    world.append_all(&Given::stored()).await;
    world.settle().await;
    assert!(world.queued("n1").await);

    world.append(Slot::UploadVerdict { verdict: 1 }, SourceAccepted { facts: source_facts(40_000) }).await;
    world.settle().await;
    let asset = world.asset().await;
    let plan = asset.generation().expect("planned").plan().clone();
    assert_eq!(plan.chunks, [1, 1, 1, 2, 2, 3]);
    for item in ["g1-v0", "g1-v4", "g1-a0", "g1-s-poster"] {
        assert!(world.queued(item).await, "{item}");
    }

    for chunk in [2, 5, 0, 1, 3, 4] {
        world.append(Slot::EncodeVideo { generation: 1, chunk }, video_stored(&plan, 1, chunk)).await;
        world.append(Slot::EncodeAudio { generation: 1, track: 0, chunk }, audio_stored(&plan, 1, chunk)).await;
    }
    world.settle().await;
    assert!(world.asset().await.generation().expect("planned").outcome.is_none());
    let slot = Slot::EncodeStill { generation: 1, name: "poster".to_owned() };
    world.append(slot, still_stored(&plan.stills[0], 1)).await;
    world.settle().await;
    let asset = world.asset().await;
    assert!(asset.generation().expect("planned").outcome.is_some());
    assert_eq!(asset.status(), Status::Encoding, "publishing is the publisher's");
    assert_eq!(world.server.log(Role::Planner).await.denials(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_planners_at_once_leave_what_one_leaves() {
    let world = World::start().await;
    let twin = planner(&world.server, &world.clock).await;
    world.append_all(&Given::accepted(source_facts(150_000))).await;
    let both = async |planner: &Planner| while planner.step().await.expect("step") {};
    tokio::join!(both(&world.planner), both(&twin), both(&world.planner), both(&twin));
    let asset = world.asset().await;
    assert_eq!(asset.version, 4, "registered, stored, accepted, planned");
    let order = |item: &'static str| world.queued(item);
    assert!(order("g1-v7").await && !order("g1-v8").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_is_over_ends_at_its_tick() {
    let world = World::start().await;
    world.append_all(&Given::stored()).await;
    world.settle().await;
    // Days later the tick comes: here it is set to come now, and the clock is moved.
    world.clock.advance(deadline::CHECK + Duration::from_secs(60));
    let at = Clock::system().now().plus(Duration::from_secs(1));
    let log = world.server.log(Role::Planner).await;
    log.tick(&world.given.tenant, &world.given.asset, at).await.expect("a tick");
    until(&world, |asset| asset.status() == Status::Failed).await;
    let asset = world.asset().await;
    assert_eq!(asset.problem().map(|problem| problem.code), Some(Code::DeadlinePassed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_no_worker_survives_is_parked_and_becomes_a_state_and_a_retry_is_a_new_order() {
    let world = World::start().await;
    world.append_all(&Given::stored()).await;
    world.settle().await;
    let worker =
        world.server.log(Role::Transcoder).await.consumer(ConsumerName::Lane(Lane::First)).await.expect("a lane");
    let dies = |_| async { Decision::Retry { after: Duration::ZERO, why: "died".to_owned() } };
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        worker.step(1, Wait::No, dies).await.expect("step");
        world.settle().await;
        if world.asset().await.status() == Status::Failed {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "still {}", world.asset().await.status());
    }
    let asset = world.asset().await;
    assert_eq!(asset.problem().map(|problem| problem.code), Some(Code::WorkerLost));
    assert!(asset.inspect_faults[&1].contains_key(&0));
    let parked = world.admin.list_parked(0, 10).await.expect("list");
    assert_eq!(parked.iter().map(|parked| parked.code).collect::<Vec<_>>(), [Some(Code::WorkerLost)]);
    assert!(!world.queued("n1").await, "its subject is free");

    world.append(Slot::LifeRetry { retry: 1 }, RetryRequested { of: RetryOf::Verdict { round: 2 } }).await;
    world.settle().await;
    assert!(world.queued("n2").await);
    assert_eq!(world.asset().await.status(), Status::Checking);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_deliveries_that_died_without_progress_end_an_order() {
    let world = World::start().await;
    world.append_all(&Given::accepted(source_facts(40_000))).await;
    world.settle().await;
    let plan = world.asset().await.generation().expect("planned").plan().clone();
    let log = world.server.log(Role::Transcoder).await;
    let worker = log.consumer(ConsumerName::Lane(Lane::First)).await.expect("a lane");
    let sound: Item = "g1-a0".parse().expect("an item");
    let died = || Decision::Retry { after: Duration::ZERO, why: "died".to_owned() };
    // Others' orders of the lane are settled; those of the sound die, in the first round after a chunk was stored.
    let live_and_die = async || {
        let handle = async |delivery: Delivery| match delivery.message {
            Incoming::Order(order) if order.job.item() == sound => died(),
            Incoming::Order(_)
            | Incoming::Fact(_)
            | Incoming::Tick { .. }
            | Incoming::Ingest { .. }
            | Incoming::GivenUp { .. } => Decision::Done,
        };
        worker.step(1, Wait::No, handle).await.expect("step");
        world.settle().await;
    };
    world.append(Slot::EncodeAudio { generation: 1, track: 0, chunk: 0 }, audio_stored(&plan, 1, 0)).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while world.asset().await.rounds(&sound) == 0 {
        live_and_die().await;
        assert!(std::time::Instant::now() < deadline, "the first round never ended");
    }
    assert_eq!(world.asset().await.status(), Status::Encoding, "it came forward in that round");
    assert_eq!(world.admin.list_parked(0, 10).await.expect("list"), []);

    while world.asset().await.status() != Status::Failed {
        live_and_die().await;
        assert!(std::time::Instant::now() < deadline, "still {}", world.asset().await.status());
    }
    let asset = world.asset().await;
    assert_eq!(asset.problem().map(|problem| problem.code), Some(Code::WorkerLost));
    assert_eq!(asset.rounds(&sound), 2);
    let parked = world.admin.list_parked(0, 10).await.expect("list");
    assert_eq!(parked.iter().map(|parked| parked.code).collect::<Vec<_>>(), [Some(Code::WorkerLost)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_planner_plans_what_comes_and_ends_when_it_shall() {
    let world = World::start().await;
    let stop = Stop::new();
    let running = tokio::spawn(planner(&world.server, &world.clock).await.run(stop.clone()));
    world.append_all(&Given::accepted(source_facts(15_000))).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !world.queued("g1-v0").await {
        assert!(std::time::Instant::now() < deadline, "nothing planned");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.finish();
    running.await.expect("no panic").expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asset_that_nothing_wakes_anybody_for_is_found_by_looking_back() {
    let world = World::start().await;
    world.append_all(&Given::stored()).await;
    // As after a loss of the newest facts: the log holds what it holds, and all of it was handled long ago.
    let facts = world.server.log(Role::Planner).await.consumer(ConsumerName::Planner).await.expect("a consumer");
    while facts.step(10, Wait::No, |_| async { Decision::Done }).await.expect("step") > 0 {}
    world.settle().await;
    assert!(!world.queued("n1").await, "nothing woke it");
    assert_eq!(world.planner.look_back().await, Ok(1));
    assert!(world.queued("n1").await);

    world.append(Slot::LifeDeleted, AssetDeleted {}).await;
    assert_eq!(world.planner.look_back().await, Ok(0));
    assert_eq!(world.server.log(Role::Planner).await.denials(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planner_that_starts_looks_back() {
    let world = World::start().await;
    world.append_all(&Given::stored()).await;
    let facts = world.server.log(Role::Planner).await.consumer(ConsumerName::Planner).await.expect("a consumer");
    while facts.step(10, Wait::No, |_| async { Decision::Done }).await.expect("step") > 0 {}
    let stop = Stop::new();
    let running = tokio::spawn(planner(&world.server, &world.clock).await.run(stop.clone()));
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !world.queued("n1").await {
        assert!(std::time::Instant::now() < deadline, "nothing ordered");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.finish();
    running.await.expect("no panic").expect("a clean end");
}

/// Steps until it holds; fails with the last state.
async fn until(world: &World, holds: impl Fn(&Asset) -> bool) {
    let deadline = Timestamp::from_ms(Clock::system().now().as_ms() + 30_000);
    loop {
        world.settle().await;
        let asset = world.asset().await;
        if holds(&asset) {
            return;
        }
        assert!(Clock::system().now() < deadline, "still {}", asset.status());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
