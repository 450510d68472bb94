//! Orders, ticks, consumers, leases, parked messages on a real log, on one replica and on three.

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{asset, inspect, registered, tenant, video};
use spool_nats::streams::{DELIVERIES, Shape};
use spool_nats::testing::TestServer;
use spool_nats::{ConsumerName, Decision, Delivery, Durable, Incoming, Log, Ordered, Released, Wait, trace};
use spool_proto::job::{Job, Order, VideoOrder};
use spool_proto::subject::Lane;
use spool_proto::{Code, Role, Timestamp};

const LEASE: Duration = Duration::from_secs(2);
const SOON: Wait = Wait::Upto(Duration::from_secs(20));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_hold_on_one_replica() {
    all(Shape { lease: LEASE, dedup_window: Duration::from_millis(500), ..Shape::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_hold_on_three_replicas() {
    all(Shape { replicas: 3, lease: LEASE, dedup_window: Duration::from_millis(500), ..Shape::default() }).await;
}

/// A crash loop of `spool up`, whose server dies with it: without pauses that grow, the server hands an order that it gave out
/// twice to each new worker at once (seen with 2.15.1), and five deaths in a few seconds cost an asset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_whose_workers_died_comes_later_each_time_also_from_a_server_that_died_with_them() {
    let lease = Duration::from_secs(1);
    let test = TestServer::with(Shape { lease, lease_growth_percent: 400, ..Shape::default() }).await;
    let order = inspect(30, 0);
    test.log(Role::Planner).await.order(&order).await.expect("order");
    let mut first_asked = Instant::now();
    let third = loop {
        let (asked_at, delivery) = until_given(&lane(&test, &order).await).await;
        match delivery.attempt {
            // Also when the server was killed before it had written the last one down.
            1 => first_asked = asked_at,
            2 => {}
            _ => break (delivery, Instant::now()),
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        test.kill_and_restart().await;
    };
    assert_eq!(third.0.attempt, 3);
    // From before the first was given until after the third was: no slow machine makes it less. The server keeps whole
    // seconds over a restart.
    assert!(third.1 - first_asked >= lease * 3, "{:?}", third.1 - first_asked);
    // The third worker lived and asked for it again at once, and so it comes: the lease on its delivery alone is a
    // quarter of a minute, and a minute on the next one.
    let lane = lane(&test, &order).await;
    for attempt in [4, DELIVERIES] {
        let again = take(&lane, Wait::Upto(Duration::from_secs(50)), retry(Duration::ZERO)).await;
        assert_eq!(again.expect("the order").attempt, attempt);
    }
}

/// Asks again and again until there is a delivery. The first two workers die with it.
async fn until_given(lane: &Durable) -> (Instant, Delivery) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let (seen, asked_at) = (Mutex::new(None), Instant::now());
        let (tell, told) = tokio::sync::oneshot::channel();
        let tell = Mutex::new(Some(tell));
        let step = lane.step(1, Wait::No, async |delivery| {
            let dies = delivery.attempt < 3;
            *seen.lock().expect("not poisoned") = Some(delivery);
            if !dies {
                return retry(Duration::ZERO);
            }
            if let Some(tell) = tell.lock().expect("not poisoned").take() {
                tell.send(()).expect("somebody waits");
            }
            std::future::pending().await
        });
        tokio::select! {
            step = step => { step.expect("step"); }
            _ = told => {}
        }
        if let Some(delivery) = seen.into_inner().expect("not poisoned") {
            return (asked_at, delivery);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing was given");
}

async fn all(shape: Shape) {
    let test = TestServer::with(shape).await;
    a_fact_wakes_its_consumer_once(&test).await;
    an_order_stands_once_while_queued_and_while_leased(&test).await;
    an_order_of_another_round_says_so(&test).await;
    lanes_get_their_own_orders_only(&test).await;
    a_retry_comes_back_after_its_delay_and_an_attempt_later(&test).await;
    a_lease_holds_while_work_moves_and_is_lost_when_it_does_not(&test).await;
    a_worker_whose_lease_is_lost_settles_nothing_but_a_result(&test).await;
    an_order_out_of_deliveries_is_buried_and_frees_its_subject(&test).await;
    a_parked_order_is_listed_and_released(&test).await;
    a_parked_order_keeps_its_bytes_and_frees_its_subject(&test).await;
    what_is_no_order_is_left_to_a_later_version(&test).await;
    a_tick_fires_once_and_the_later_one_replaces_the_earlier(&test).await;
    a_request_from_outside_arrives_with_its_key(&test).await;
}

async fn lane(test: &TestServer, order: &Order) -> Durable {
    let lane = Lane::of(&order.job.item());
    test.log(Role::Transcoder).await.consumer(ConsumerName::Lane(lane)).await.expect("the lane")
}

/// Takes one message and answers `decision`; what came.
async fn take(consumer: &Durable, wait: Wait, decision: Decision) -> Option<Delivery> {
    let seen = Mutex::new(None);
    let step = consumer.step(1, wait, async |delivery| {
        *seen.lock().expect("not poisoned") = Some(delivery);
        decision.clone()
    });
    step.await.expect("step");
    seen.into_inner().expect("not poisoned")
}

/// Waits until the subject of a settled order is free: on three replicas it still stands for a moment after the confirmed ack.
async fn gone(planner: &Log, order: &Order) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while planner.queued(&order.tenant, &order.asset, &order.job.item()).await.expect("ask").is_some() {
        assert!(Instant::now() < deadline, "the order still stands: {order:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn retry(after: Duration) -> Decision {
    Decision::Retry { after, why: "not yet".to_owned() }
}

async fn a_fact_wakes_its_consumer_once(test: &TestServer) {
    let planner = test.log(Role::Planner).await.consumer(ConsumerName::Planner).await.expect("planner");
    let gateway = test.log(Role::Gateway).await;
    let traceparent = trace::start(77, 1);
    let sequence =
        trace::scope(Some(traceparent.clone()), gateway.append(&registered(1))).await.expect("append").sequence();
    let carried = Mutex::new(None);
    let seen = AtomicUsize::new(0);
    let count = planner
        .step(10, SOON, async |delivery| {
            let Incoming::Fact(fact) = &delivery.message else { panic!("no fact") };
            assert_eq!((fact.sequence, fact.asset.clone()), (sequence, asset(1)));
            assert_eq!((delivery.attempt, delivery.last_attempt), (1, false));
            assert_eq!(delivery.id, fact.id.to_string());
            *carried.lock().expect("not poisoned") = trace::current();
            seen.fetch_add(1, Ordering::Relaxed);
            Decision::Done
        })
        .await;
    assert_eq!((count.expect("step"), seen.into_inner()), (1, 1));
    assert_eq!(carried.into_inner().expect("not poisoned"), Some(traceparent));
    assert_eq!(planner.step(10, Wait::No, async |_| Decision::Done).await.expect("step"), 0);
}

async fn an_order_stands_once_while_queued_and_while_leased(test: &TestServer) {
    let planner = test.log(Role::Planner).await;
    let order = inspect(10, 0);
    assert_eq!(planner.queued(&tenant(), &asset(10), &order.job.item()).await.expect("ask"), None);
    assert_eq!(planner.order(&order).await.expect("order"), Ordered::Queued);
    assert_eq!(planner.order(&order).await.expect("again"), Ordered::Standing);
    tokio::time::sleep(test.shape().dedup_window * 2).await;
    assert_eq!(planner.order(&order).await.expect("after the window"), Ordered::Standing);
    assert!(planner.queued(&tenant(), &asset(10), &order.job.item()).await.expect("ask").is_some());
    let while_leased = lane(test, &order)
        .await
        .step(1, SOON, async |delivery| {
            assert_eq!(delivery.message, Incoming::Order(order.clone()));
            assert_eq!(planner.order(&order).await.expect("while leased"), Ordered::Standing);
            Decision::Done
        })
        .await;
    assert_eq!(while_leased.expect("step"), 1);
    gone(&planner, &order).await;
}

async fn an_order_of_another_round_says_so(test: &TestServer) {
    let planner = test.log(Role::Planner).await;
    planner.order(&inspect(11, 0)).await.expect("order");
    assert_eq!(planner.order(&inspect(11, 1)).await.expect("order"), Ordered::OtherRound);
    let lane = lane(test, &inspect(11, 0)).await;
    take(&lane, SOON, Decision::Done).await.expect("the order");
    gone(&planner, &inspect(11, 0)).await;
    assert_eq!(planner.order(&inspect(11, 1)).await.expect("order"), Ordered::Queued);
    take(&lane, SOON, Decision::Done).await.expect("the order of the next round");
}

async fn lanes_get_their_own_orders_only(test: &TestServer) {
    let planner = test.log(Role::Planner).await;
    let pass = Order { job: Job::Pass(VideoOrder { generation: 1, first: 4, last: 9 }), ..video(12, 0) };
    let orders = [video(12, 10), pass, video(12, 0), video(12, 1)];
    for order in orders.iter().rev() {
        planner.order(order).await.expect("order");
    }
    for order in orders {
        let lane = lane(test, &order).await;
        let delivery = take(&lane, SOON, Decision::Done).await.expect("an order");
        assert_eq!(delivery.message, Incoming::Order(order));
        assert!(take(&lane, Wait::No, Decision::Done).await.is_none());
    }
}

async fn a_retry_comes_back_after_its_delay_and_an_attempt_later(test: &TestServer) {
    let order = inspect(13, 0);
    test.log(Role::Planner).await.order(&order).await.expect("order");
    let lane = lane(test, &order).await;
    take(&lane, SOON, retry(Duration::from_secs(1))).await.expect("the order");
    let asked = Instant::now();
    assert!(take(&lane, Wait::No, Decision::Done).await.is_none());
    let again = take(&lane, SOON, Decision::Done).await.expect("the order again");
    assert!(asked.elapsed() >= Duration::from_millis(800), "{:?}", asked.elapsed());
    assert_eq!((again.attempt, again.last_attempt), (2, false));
}

async fn a_lease_holds_while_work_moves_and_is_lost_when_it_does_not(test: &TestServer) {
    let order = inspect(14, 0);
    test.log(Role::Planner).await.order(&order).await.expect("order");
    let (first, second) = (lane(test, &order).await, lane(test, &order).await);
    let working = first.step(1, SOON, async |delivery| {
        let end = Instant::now() + LEASE * 2;
        while Instant::now() < end {
            delivery.lease.moved();
            assert!(delivery.lease.is_held());
            // The other worker gets nothing while work moves.
            assert!(take(&second, Wait::No, Decision::Done).await.is_none());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Now it hangs.
        delivery.lease.lost().await;
        assert!(!delivery.lease.is_held());
        let other = take(&second, SOON, Decision::Done).await.expect("the order goes to the other");
        assert_eq!(other.attempt, 2);
        retry(Duration::ZERO)
    });
    assert_eq!(working.await.expect("step"), 1);
}

async fn a_worker_whose_lease_is_lost_settles_nothing_but_a_result(test: &TestServer) {
    let order = inspect(15, 0);
    test.log(Role::Planner).await.order(&order).await.expect("order");
    let (first, second) = (lane(test, &order).await, lane(test, &order).await);
    for late in [retry(Duration::ZERO), Decision::Park { code: Code::Internal, why: "late".to_owned() }] {
        let late_step = first.step(1, SOON, async |delivery| {
            delivery.lease.lost().await;
            late.clone()
        });
        late_step.await.expect("step");
    }
    // Neither took the order away, and nothing was parked.
    let gateway = test.log(Role::Gateway).await;
    assert_eq!(gateway.list_parked(0, 10).await.expect("list"), []);
    let third = take(&second, SOON, Decision::Done).await.expect("the order");
    assert_eq!(third.attempt, 3);
}

async fn an_order_out_of_deliveries_is_buried_and_frees_its_subject(test: &TestServer) {
    let planner = test.log(Role::Planner).await;
    let order = inspect(16, 0);
    planner.order(&order).await.expect("order");
    let lane = lane(test, &order).await;
    for attempt in 1..=DELIVERIES {
        let delivery = take(&lane, SOON, retry(Duration::ZERO)).await.expect("the order");
        assert_eq!((delivery.attempt, delivery.last_attempt), (attempt, attempt == DELIVERIES));
    }
    // The server says so only when somebody asks for more.
    assert!(take(&lane, Wait::Upto(Duration::from_secs(1)), Decision::Done).await.is_none());
    assert_eq!(planner.order(&inspect(16, 1)).await.expect("order"), Ordered::OtherRound);

    let advisories = planner.consumer(ConsumerName::PlannerAdvisories).await.expect("advisories");
    let given_up = take(&advisories, SOON, retry(Duration::ZERO)).await.expect("an advisory").message;
    let Incoming::GivenUp { stream, consumer, sequence, deliveries } = given_up.clone() else { panic!("{given_up:?}") };
    assert_eq!((stream.as_str(), consumer.as_str(), deliveries), ("SPOOL_JOBS", "lane-first", DELIVERIES));
    let bury = async || planner.bury(&stream, sequence, &consumer, Code::WorkerLost, "died", deliveries).await;
    let buried = bury().await.expect("bury").expect("a message");
    assert_eq!(buried.subject, order.subject());
    assert_eq!(bury().await.expect("again"), Some(buried));
    assert_eq!(planner.order(&inspect(16, 1)).await.expect("order"), Ordered::Queued);
    take(&lane, SOON, Decision::Done).await.expect("the next round");
    gone(&planner, &inspect(16, 1)).await;
    // The advisory was not settled before, so it came again, which is what makes each step repeatable.
    assert_eq!(take(&advisories, SOON, Decision::Done).await.expect("the advisory again").message, given_up);
}

async fn a_parked_order_is_listed_and_released(test: &TestServer) {
    let gateway = test.log(Role::Gateway).await;
    let parked = gateway.list_parked(0, 10).await.expect("list").pop().expect("the buried order");
    assert_eq!((parked.code, parked.attempts, parked.why.as_str()), (Some(Code::WorkerLost), DELIVERIES, "died"));
    assert_eq!(parked.subject, inspect(16, 0).subject());
    assert_eq!(gateway.read_parked(parked.sequence).await.expect("read"), Some(parked.clone()));
    assert_eq!(gateway.list_parked(parked.sequence, 10).await.expect("list"), []);

    let planner = test.log(Role::Planner).await;
    planner.order(&inspect(16, 2)).await.expect("order");
    assert_eq!(gateway.release_parked(&parked).await.expect("release"), Released::Blocked);
    let lane = lane(test, &inspect(16, 0)).await;
    take(&lane, SOON, Decision::Done).await.expect("the order in the way");
    gone(&planner, &inspect(16, 2)).await;
    assert_eq!(gateway.release_parked(&parked).await.expect("release"), Released::Back);
    let back = take(&lane, SOON, Decision::Done).await.expect("the released order");
    assert_eq!((back.message, back.attempt), (Incoming::Order(inspect(16, 0)), 1));
    assert_eq!(gateway.read_parked(parked.sequence).await.expect("read"), None);
    assert!(!gateway.delete_parked(parked.sequence).await.expect("delete"));
}

async fn a_parked_order_keeps_its_bytes_and_frees_its_subject(test: &TestServer) {
    let planner = test.log(Role::Planner).await;
    let order = inspect(17, 0);
    planner.order(&order).await.expect("order");
    let lane = lane(test, &order).await;
    let park = Decision::Park { code: Code::SourceUnreadable, why: "two\nlines".to_owned() };
    take(&lane, SOON, park).await.expect("the order");
    let gateway = test.log(Role::Gateway).await;
    let parked = gateway.list_parked(0, 10).await.expect("list");
    let [parked] = parked.as_slice() else { panic!("{parked:?}") };
    assert_eq!((parked.code, parked.why.as_str()), (Some(Code::SourceUnreadable), "two lines"));
    gone(&planner, &order).await;
    assert!(gateway.delete_parked(parked.sequence).await.expect("delete"));
}

async fn what_is_no_order_is_left_to_a_later_version(test: &TestServer) {
    let admin = test.target("admin");
    let urls: Vec<&str> = admin.url.split(',').collect();
    let raw = async_nats::ConnectOptions::with_user_and_password(admin.user, admin.password)
        .custom_inbox_prefix("_INBOX_admin");
    let raw = raw.connect(urls).await.expect("connect");
    let order = inspect(18, 0);
    raw.request(order.subject(), "nonsense".into()).await.expect("publish");
    let lane = lane(test, &order).await;
    let handled = lane.step(1, SOON, async |delivery| panic!("handled {:?}", delivery.message)).await;
    assert_eq!(handled.expect("step"), 1);
    // It stands, for a worker that can read it; the server counts its deliveries and the planner says how that ends.
    let parked = test.log(Role::Gateway).await.list_parked(0, 10).await.expect("list");
    assert_eq!(parked, []);
    let planner = test.log(Role::Planner).await;
    let standing = planner.queued(&order.tenant, &order.asset, &order.job.item()).await.expect("ask");
    assert!(standing.is_some());
}

async fn a_tick_fires_once_and_the_later_one_replaces_the_earlier(test: &TestServer) {
    let planner = test.log(Role::Planner).await;
    let timers = planner.consumer(ConsumerName::PlannerTimers).await.expect("timers");
    let now = planner.read_slot(&tenant(), &asset(1), &registered(1).slot).await.expect("read").expect("a fact").at;
    let hour = now.plus(Duration::from_secs(3600));
    planner.tick(&tenant(), &asset(20), hour).await.expect("tick");
    planner.tick(&tenant(), &asset(21), hour).await.expect("tick");
    planner.tick(&tenant(), &asset(20), Timestamp::from_ms(now.as_ms() - 1000)).await.expect("an overdue tick");
    let due = take(&timers, SOON, Decision::Done).await.expect("the tick");
    assert_eq!(due.message, Incoming::Tick { tenant: tenant(), asset: asset(20) });
    assert!(take(&timers, Wait::Upto(Duration::from_secs(1)), Decision::Done).await.is_none());
}

async fn a_request_from_outside_arrives_with_its_key(test: &TestServer) {
    let (outside, gateway) = (test.publisher().await, test.log(Role::Gateway).await);
    let ingest = gateway.consumer(ConsumerName::Ingest).await.expect("ingest");
    outside.put_ingest(&tenant(), b"{}", "key-1", &[]).await.expect("put");
    let came = take(&ingest, SOON, Decision::Done).await.expect("a request").message;
    let Incoming::Ingest { tenant: of, body, key, .. } = came else { panic!("{came:?}") };
    assert_eq!((of, body.as_ref(), key.as_deref()), (tenant(), &b"{}"[..], Some("key-1")));
    // The same key a moment later is a request of its own: natural keys dedup, not this stream.
    outside.put_ingest(&tenant(), b"{}", "key-1", &[]).await.expect("put again");
    assert!(take(&ingest, SOON, Decision::Done).await.is_some());
}
