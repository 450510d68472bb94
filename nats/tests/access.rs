//! Each role tries what is not its own: refused, and an error at once.

mod common;

use std::time::{Duration, Instant};

use common::{asset, deleted, fault, inspect, registered, rejected, tenant};
use spool_nats::testing::TestServer;
use spool_nats::{
    AppendError, Bucket, ConsumerError, ConsumerName, Decision, Failure, KvError, Log, TextError, Wait, provision,
};
use spool_proto::id::TextToken;
use spool_proto::subject::{self, Lane};
use spool_proto::{Role, Timestamp};

/// A denial is told at once; a silence would take as long as a call waits.
const AT_ONCE: Duration = Duration::from_secs(3);

fn is_denied(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if matches!(error.downcast_ref::<Failure>(), Some(Failure::Denied { .. })) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Runs a call that must be denied, in time, and counted.
async fn denied<T>(what: &str, log: &Log, call: impl Future<Output = Result<T, impl std::error::Error + 'static>>) {
    let (before, began) = (log.denials(), Instant::now());
    let Err(error) = call.await else { panic!("{}: {what} was allowed", log.role()) };
    assert!(is_denied(&error), "{}: {what}: {error:?}", log.role());
    assert!(began.elapsed() < AT_ONCE, "{}: {what} took {:?}", log.role(), began.elapsed());
    assert!(log.denials() > before, "{}: {what} was not counted", log.role());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_does_what_is_not_theirs_and_every_try_is_an_error() {
    let test = TestServer::start().await;
    foreign_facts_are_denied(&test).await;
    foreign_consumers_are_denied(&test).await;
    foreign_acks_are_denied(&test).await;
    foreign_streams_are_denied(&test).await;
    a_publisher_outside_may_only_put_requests(&test).await;
    only_admin_provisions(&test).await;
    nobody_listens_to_others(&test).await;
    a_wrong_password_is_refused_and_not_tried_again(&test).await;
}

async fn foreign_facts_are_denied(test: &TestServer) {
    for role in Role::ALL {
        let log = test.log(role).await;
        for draft in [registered(1), rejected(1, "x"), fault(1, 0), deleted(1)] {
            if draft.slot.row().writers.contains(&role) {
                continue;
            }
            denied(&draft.slot.to_string(), &log, log.append(&draft)).await;
        }
    }
    let projector = test.log(Role::Projector).await;
    assert_eq!(projector.last_sequence().await.expect("last"), 0);
    let error = projector.append(&registered(1)).await.expect_err("denied");
    assert!(matches!(error, AppendError::Failed { source: Failure::Denied { .. }, .. }), "{error:?}");
}

async fn foreign_consumers_are_denied(test: &TestServer) {
    for role in Role::ALL {
        let log = test.log(role).await;
        for name in ConsumerName::ALL {
            let is_seen = role == Role::Projector && matches!(name, ConsumerName::Lane(_));
            if name.role() == role {
                log.consumer(name).await.expect("its own consumer");
            } else if is_seen {
                // Looked at, to tell how long the queue is; nothing can be taken.
                let lane = log.consumer(name).await.expect("a lane it may look at");
                denied(name.name(), &log, lane.step(1, Wait::No, async |_| Decision::Done)).await;
            } else {
                denied(name.name(), &log, log.consumer(name)).await;
            }
        }
    }
}

async fn foreign_acks_are_denied(test: &TestServer) {
    let planner = test.log(Role::Planner).await;
    planner.order(&inspect(1, 0)).await.expect("order");
    let lane = test.log(Role::Transcoder).await.consumer(ConsumerName::Lane(Lane::First)).await.expect("lane");
    // The form of an acknowledgement of the first delivery of the first order, as the server would send it.
    let ack = "$JS.ACK.SPOOL_JOBS.lane-first.1.1.1.1.0";
    let before = Instant::now();
    let step = lane.step(1, Wait::Upto(Duration::from_secs(10)), async |delivery| {
        for role in Role::ALL.into_iter().filter(|role| *role != Role::Transcoder) {
            let target = test.target(role.name());
            let raw = raw(&target).await;
            let refused = raw.request(ack, "+ACK".into());
            // The bare client sees a silence here, which is why the log counts violations.
            tokio::time::timeout(Duration::from_millis(300), refused).await.expect_err("an ack of another's message");
        }
        assert_eq!(delivery.attempt, 1);
        Decision::Retry { after: Duration::ZERO, why: "look again".to_owned() }
    });
    assert_eq!(step.await.expect("step"), 1);
    let step = lane.step(1, Wait::Upto(Duration::from_secs(10)), async |delivery| {
        assert_eq!(delivery.attempt, 2, "after {:?}", before.elapsed());
        Decision::Done
    });
    assert_eq!(step.await.expect("the order is still there"), 1);
}

async fn foreign_streams_are_denied(test: &TestServer) {
    let token = TextToken::from_bits(1);
    let text = spool_proto::text::Text::default();
    for role in Role::ALL {
        let log = test.log(role).await;
        if !matches!(role, Role::Gateway | Role::Projector) {
            denied("read a text", &log, log.get_text(&tenant(), &asset(1), &token)).await;
        }
        if role != Role::Gateway {
            denied("write a text", &log, log.put_text(&tenant(), &asset(1), &token, &text)).await;
            denied("erase texts", &log, log.purge_texts(&tenant(), &asset(1))).await;
            denied("open uploads", &log, log.kv::<u32>(Bucket::Uploads)).await;
            denied("list parked", &log, log.list_parked(0, 1)).await;
            denied("delete parked", &log, log.delete_parked(1)).await;
            denied("put a request", &log, log.put_ingest(&tenant(), b"{}", "k", &[])).await;
        }
        if role != Role::Planner {
            denied("set a tick", &log, log.tick(&tenant(), &asset(1), Timestamp::from_ms(0))).await;
        }
        if !matches!(role, Role::Planner | Role::Gateway) {
            denied("queue an order", &log, log.order(&inspect(2, 0))).await;
            denied("look up an order", &log, log.queued(&tenant(), &asset(1), &inspect(1, 0).job.item())).await;
        }
        if !matches!(role, Role::Transcoder | Role::Projector) {
            denied("open leases", &log, log.kv::<u32>(Bucket::Leases)).await;
        }
    }
    for role in Role::ALL {
        let log = test.log(role).await;
        for lane in Lane::ALL {
            match role {
                Role::Projector | Role::Transcoder => drop(log.queue(lane).await.expect("a queue")),
                Role::Gateway | Role::Planner | Role::Publisher => {
                    denied("look at a queue", &log, log.queue(lane)).await
                }
            }
        }
    }
    // The projector reads leases and writes none.
    let projector = test.log(Role::Projector).await;
    let leases = projector.kv::<u32>(Bucket::Leases).await.expect("leases");
    denied("write a lease", &projector, leases.put("a", &1)).await;
    let error = leases.put("a", &1).await.expect_err("denied");
    assert!(matches!(error, KvError::Failed { source: Failure::Denied { .. }, .. }), "{error:?}");
    let error = test.log(Role::Planner).await.get_text(&tenant(), &asset(1), &token).await.expect_err("denied");
    assert!(matches!(error, TextError::Failed { source: Failure::Denied { .. }, .. }), "{error:?}");
}

async fn a_publisher_outside_may_only_put_requests(test: &TestServer) {
    let outside = test.publisher().await;
    outside.put_ingest(&tenant(), b"{}", "k", &[]).await.expect("put a request");
    denied("append", &outside, outside.append(&registered(1))).await;
    denied("read", &outside, outside.last_sequence()).await;
    denied("queue an order", &outside, outside.order(&inspect(2, 0))).await;
    denied("take requests", &outside, outside.consumer(ConsumerName::Ingest)).await;
}

async fn only_admin_provisions(test: &TestServer) {
    assert_eq!(provision::check(&test.admin().await, test.shape()).await.expect("check"), []);
    for role in Role::ALL {
        let log = test.log(role).await;
        denied("apply", &log, provision::check(&log, test.shape())).await;
    }
    let missing = test.admin().await.consumer(ConsumerName::Planner).await;
    assert!(!matches!(missing, Err(ConsumerError::Missing { .. })));
}

async fn nobody_listens_to_others(test: &TestServer) {
    for role in Role::ALL {
        let target = test.target(role.name());
        #[expect(
            clippy::disallowed_methods,
            reason = "the client's callback can't wait; a test's few errors are its bound"
        )]
        let (told, mut tell) = tokio::sync::mpsc::unbounded_channel();
        let options = options(&target).event_callback(move |event| {
            let _ = told.send(event.to_string());
            std::future::ready(())
        });
        let raw = options.connect(&target.url).await.expect("connect");
        for foreign in ["_INBOX.>", "_INBOX_admin.>", subject::TEXTS, subject::INGEST, "$KV.>", "$JS.>", ">"] {
            let _silent = raw.subscribe(foreign).await.expect("sent");
            let told = async {
                loop {
                    let event = tell.recv().await.expect("events go on");
                    if event.to_lowercase().contains("permissions violation") {
                        return event;
                    }
                }
            };
            let event =
                tokio::time::timeout(AT_ONCE, told).await.unwrap_or_else(|_| panic!("{role} listens to {foreign}"));
            assert!(event.contains(foreign), "{event}");
        }
    }
}

async fn a_wrong_password_is_refused_and_not_tried_again(test: &TestServer) {
    let mut target = test.target("planner");
    target.password = "pwrong".to_owned();
    let began = Instant::now();
    let error = Log::connect(&target).await.err().expect("refused");
    assert!(error.to_string().contains("refuses user planner"), "{error}");
    assert!(began.elapsed() < AT_ONCE);
}

fn options(target: &spool_nats::Target) -> async_nats::ConnectOptions {
    async_nats::ConnectOptions::with_user_and_password(target.user.clone(), target.password.clone())
        .custom_inbox_prefix(format!("_INBOX_{}", target.user))
}

async fn raw(target: &spool_nats::Target) -> async_nats::Client {
    options(target).connect(&target.url).await.expect("connect")
}
