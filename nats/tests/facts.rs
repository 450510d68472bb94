//! Facts on a real log, on one replica and on three: the order of checks and the error codes differ there.

mod common;

use std::time::Duration;

use common::{asset, deleted, draft, fault, registered, rejected, tenant};
use futures_util::future::join_all;
use spool_nats::streams::Shape;
use spool_nats::testing::TestServer;
use spool_nats::{AppendError, Appended, ReplayError, Wait, trace};
use spool_proto::event::{AssetDeleted, Body};
use spool_proto::{Role, Slot};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_hold_on_one_replica() {
    all(Shape { dedup_window: Duration::from_millis(500), ..Shape::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_hold_on_three_replicas() {
    all(Shape { replicas: 3, dedup_window: Duration::from_millis(500), ..Shape::default() }).await;
}

async fn all(shape: Shape) {
    let test = TestServer::with(shape).await;
    a_fact_comes_back_as_it_was_written(&test).await;
    a_second_append_finds_the_first_inside_the_dedup_window_and_after_it(&test).await;
    a_rival_gets_the_fact_that_stands(&test).await;
    of_many_writers_at_once_one_wins_and_all_agree(&test).await;
    a_slot_takes_only_its_own_kinds(&test).await;
    an_asset_is_read_whole_and_in_order(&test).await;
    more_facts_than_one_answer_holds_are_read_whole(&test).await;
    a_replay_gives_every_fact_once_and_goes_on(&test).await;
    a_replay_beyond_the_end_is_named(&test).await;
}

async fn a_fact_comes_back_as_it_was_written(test: &TestServer) {
    let log = test.log(Role::Gateway).await;
    let draft = registered(1);
    let traceparent = trace::start(5, 6);
    let appended = trace::scope(Some(traceparent), log.append(&draft)).await.expect("append");
    let Appended::Written { sequence } = appended else { panic!("{appended:?}") };
    let fact = log.read_slot(&tenant(), &asset(1), &draft.slot).await.expect("read").expect("a fact");
    assert_eq!(fact.sequence, sequence);
    assert_eq!((&fact.tenant, &fact.asset, &fact.slot), (&tenant(), &asset(1), &Ok(draft.slot.clone())));
    assert_eq!(fact.body, Body::Known(draft.event));
    assert_eq!((fact.cause.as_deref(), fact.actor.as_deref()), (Some("cause"), Some("key_1")));
    assert_eq!(log.read_slot(&tenant(), &asset(1), &Slot::LifeDeleted).await.expect("read"), None);
    // The log's time is that of its facts, give or take how long this took and what was done to the machine's clock.
    let time = log.time().await.expect("the time");
    assert!(time.since(fact.at).max(fact.at.since(time)) < Duration::from_secs(3600), "{time} after {}", fact.at);
    assert_eq!(log.last_sequence().await.expect("last"), sequence);
}

async fn a_second_append_finds_the_first_inside_the_dedup_window_and_after_it(test: &TestServer) {
    let draft = registered(2);
    let log = test.log(Role::Gateway).await;
    let first = log.append(&draft).await.expect("append").sequence();
    let again = log.append(&draft).await.expect("append again");
    assert!(matches!(&again, Appended::Exists(_)) && again.says(&draft) && again.sequence() == first, "{again:?}");
    // The window has to pass for real: no condition tells that the server forgot an id.
    tokio::time::sleep(test.shape().dedup_window * 2).await;
    let fresh = test.log(Role::Gateway).await;
    let later = fresh.append(&draft).await.expect("append later");
    assert!(matches!(&later, Appended::Exists(_)) && later.says(&draft) && later.sequence() == first, "{later:?}");
}

async fn a_rival_gets_the_fact_that_stands(test: &TestServer) {
    let log = test.log(Role::Transcoder).await;
    let (first, rival) = (rejected(3, "one"), rejected(3, "other"));
    log.append(&first).await.expect("append");
    for _ in 0..2 {
        let outcome = log.append(&rival).await.expect("append the rival");
        let Appended::Exists(standing) = &outcome else { panic!("{outcome:?}") };
        assert_eq!(standing.body, Body::Known(first.event.clone()));
        assert!(!outcome.says(&rival));
        tokio::time::sleep(test.shape().dedup_window * 2).await;
    }
}

async fn of_many_writers_at_once_one_wins_and_all_agree(test: &TestServer) {
    let logs = [test.log(Role::Transcoder).await, test.log(Role::Planner).await];
    for n in 100..140 {
        let drafts: Vec<_> = (0..6).map(|i| rejected(n, &i.to_string())).collect();
        let writers = drafts.iter().enumerate().map(|(i, draft)| logs[i % 2].append(draft));
        let outcomes: Vec<_> = join_all(writers).await.into_iter().map(|o| o.expect("append")).collect();
        let written = outcomes.iter().filter(|o| matches!(o, Appended::Written { .. })).count();
        // None, when the winner's answer was an error and it found its own fact standing.
        assert!(written <= 1, "{outcomes:?}");
        let sequences: Vec<_> = outcomes.iter().map(Appended::sequence).collect();
        assert!(sequences.windows(2).all(|pair| pair[0] == pair[1]), "{sequences:?}");
        let says = outcomes.iter().zip(&drafts).filter(|(outcome, draft)| outcome.says(draft)).count();
        assert_eq!(says, 1, "{outcomes:?}");
    }
}

async fn a_slot_takes_only_its_own_kinds(test: &TestServer) {
    let log = test.log(Role::Gateway).await;
    let wrong = draft(4, Slot::UploadRegistered, AssetDeleted {});
    let error = log.append(&wrong).await.expect_err("a slot for another kind");
    assert!(matches!(error, AppendError::NotAdmitted { .. }), "{error:?}");
}

async fn an_asset_is_read_whole_and_in_order(test: &TestServer) {
    let (gateway, planner) = (test.log(Role::Gateway).await, test.log(Role::Planner).await);
    gateway.append(&registered(5)).await.expect("append");
    planner.append(&fault(5, 0)).await.expect("append");
    let last = gateway.append(&deleted(5)).await.expect("append").sequence();
    let facts = planner.read_asset(&tenant(), &asset(5), Some(last)).await.expect("read");
    let slots: Vec<_> = facts.iter().map(|fact| fact.slot.clone().expect("a known slot").to_string()).collect();
    assert_eq!(slots, ["upload.registered", "inspect.fault.1.0", "life.deleted"]);
    assert_eq!(planner.read_asset(&tenant(), &asset(6), None).await.expect("read"), []);
    let behind = planner.read_asset(&tenant(), &asset(5), Some(last + 1000)).await.expect_err("not there yet");
    assert!(behind.to_string().contains(&(last + 1000).to_string()), "{behind}");
}

async fn more_facts_than_one_answer_holds_are_read_whole(test: &TestServer) {
    let planner = test.log(Role::Planner).await;
    let gateway = test.log(Role::Gateway).await;
    for from in (0..1020).step_by(60) {
        let drafts: Vec<_> = (from..from + 60).map(|round| fault(7, round)).collect();
        join_all(drafts.iter().map(|draft| planner.append(draft)))
            .await
            .into_iter()
            .for_each(|o| drop(o.expect("append")));
    }
    for draft in [registered(7), rejected(7, "x"), deleted(7)] {
        let log = if draft.slot.row().writers.contains(&Role::Gateway) { &gateway } else { &planner };
        log.append(&draft).await.expect("append");
    }
    for round in 1020..1023 {
        planner.append(&fault(7, round)).await.expect("append");
    }
    let facts = planner.read_asset(&tenant(), &asset(7), None).await.expect("read");
    assert_eq!(facts.len(), 1026);
    assert!(facts.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
}

async fn a_replay_gives_every_fact_once_and_goes_on(test: &TestServer) {
    let log = test.log(Role::Projector).await;
    let last = log.last_sequence().await.expect("last");
    let mut replay = log.replay(1);
    let mut sequences = Vec::new();
    while replay.position() < last {
        let facts = replay.next(100, Wait::Upto(Duration::from_secs(10))).await.expect("replay");
        assert!(facts.len() <= 100);
        sequences.extend(facts.into_iter().map(|fact| fact.sequence));
    }
    assert_eq!(sequences, (1..=last).collect::<Vec<_>>());
    assert!(replay.caught_up());
    assert_eq!(replay.next(10, Wait::No).await.expect("replay"), []);

    // A fact that is written while it waits wakes it, well before its own next look at the clock.
    let gateway = test.log(Role::Gateway).await;
    for n in 200..210 {
        let draft = registered(n);
        let (facts, appended) =
            tokio::join!(replay.next(10, Wait::Upto(Duration::from_secs(10))), gateway.append(&draft));
        let sequences: Vec<_> = facts.expect("replay").into_iter().map(|fact| fact.sequence).collect();
        assert_eq!(sequences, [appended.expect("append").sequence()]);
    }
    let mut from_middle = log.replay(last);
    let facts = from_middle.next(1, Wait::Upto(Duration::from_secs(10))).await.expect("replay");
    assert_eq!(facts[0].sequence, last);
}

async fn a_replay_beyond_the_end_is_named(test: &TestServer) {
    let log = test.log(Role::Projector).await;
    let last = log.last_sequence().await.expect("last");
    let error = log.replay(last + 2).next(1, Wait::No).await.expect_err("beyond the end");
    assert!(
        matches!(error, ReplayError::Ahead { position, last: l } if position == last + 1 && l == last),
        "{error:?}"
    );
    assert_eq!(log.replay(last + 1).next(1, Wait::No).await.expect("at the end"), []);
}
