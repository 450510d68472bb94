//! Retry and release: what stands decides.

use serde_json::json;
use spool_proto::event::{CheckFailed, Draft, EncodeFailed, RetryOf, SourceRejected};
use spool_proto::testing::values::{plan, source_facts};
use spool_proto::{AssetId, Code, Event, Problem, Role, Slot, Status};

use crate::common::{App, World, pattern, tenant};

async fn append(world: &World, role: Role, asset: &AssetId, slot: Slot, event: impl Into<Event>) {
    let draft = Draft { tenant: tenant(), asset: asset.clone(), slot, event: event.into(), cause: None, actor: None };
    world.server.log(role).await.append(&draft).await.unwrap();
}

async fn retry(app: &App, asset: &AssetId, key: Option<&str>) -> crate::common::Reply {
    let headers: Vec<_> = key.map(|key| ("idempotency-key", key)).into_iter().collect();
    app.send("POST", &format!("/v1/assets/{asset}/retry"), &headers, "").await
}

async fn last_retry(app: &App, asset: &AssetId) -> Option<RetryOf> {
    app.state(asset).await.retries.values().next_back().map(|retry| retry.it)
}

#[tokio::test]
async fn a_rejected_asset_gets_a_new_verdict_round_once() {
    let world = World::new().await;
    let app = world.app().await;
    let asset = app.upload(&pattern(10), "").await;
    let busy = retry(&app, &asset, None).await;
    assert_eq!((busy.status, busy.code()), (409, "asset_busy".to_owned()));

    let rejected = SourceRejected { problem: Problem::new(Code::SourceEmpty) };
    append(&world, Role::Transcoder, &asset, Slot::UploadVerdict { verdict: 1 }, rejected).await;
    let (one, two) = tokio::join!(retry(&app, &asset, Some("k")), retry(&app, &asset, Some("k")));
    assert_eq!((one.status, two.status), (202, 202), "{one:?} {two:?}");
    assert_eq!(one.json()["sequence"], two.json()["sequence"], "two who ask at once are answered with one fact");
    assert_eq!(last_retry(&app, &asset).await, Some(RetryOf::Verdict { round: 2 }));
    assert_eq!(app.state(&asset).await.status(), Status::Checking);
    assert_eq!(retry(&app, &asset, Some("k")).await.json()["sequence"], one.json()["sequence"], "a repeat, later");
    assert_eq!(retry(&app, &asset, None).await.code(), "asset_busy");

    let failed = CheckFailed { problem: Problem::new(Code::WorkerLost), attempts: 5 };
    append(&world, Role::Planner, &asset, Slot::UploadVerdict { verdict: 2 }, failed).await;
    assert_eq!(retry(&app, &asset, None).await.status, 202);
    assert_eq!(last_retry(&app, &asset).await, Some(RetryOf::Verdict { round: 3 }));
}

#[tokio::test]
async fn a_failed_encode_gets_a_new_generation() {
    let world = World::new().await;
    let app = world.app().await;
    let asset = app.upload(&pattern(10), "").await;
    let accepted = spool_proto::event::SourceAccepted { facts: source_facts(4_000) };
    append(&world, Role::Transcoder, &asset, Slot::UploadVerdict { verdict: 1 }, accepted).await;
    let planned = spool_proto::event::EncodePlanned { plan: plan(&[1], 4_000) };
    append(&world, Role::Planner, &asset, Slot::EncodePlanned { generation: 1 }, planned).await;
    let failed = EncodeFailed { problem: Problem::new(Code::WorkerLost), attempts: 5 };
    append(&world, Role::Planner, &asset, Slot::EncodeOutcome { generation: 1 }, failed).await;
    let reply = retry(&app, &asset, None).await;
    assert_eq!((reply.status, reply.json()["status"].as_str()), (202, Some("encoding")), "{reply:?}");
    assert_eq!(last_retry(&app, &asset).await, Some(RetryOf::Generation { generation: 2 }));
}

#[tokio::test]
async fn what_ended_for_good_is_not_retried() {
    let world = World::new().await;
    let app = world.app().await;
    let created = app.create(10, "").await;
    app.send("DELETE", &created.location(), &[crate::common::TUS], "").await;
    let reply = retry(&app, &created.asset(), None).await;
    assert_eq!((reply.status, reply.code()), (409, "not_retryable".to_owned()));
    assert_eq!(
        reply.json()["detail"],
        format!("Asset {} is abandoned. Only failed and rejected assets can be retried.", created.asset())
    );
    app.send("DELETE", &format!("/v1/assets/{}", created.asset()), &[], "").await;
    assert_eq!(retry(&app, &created.asset(), None).await.code(), "asset_deleted");
}

#[tokio::test]
async fn an_order_is_released_only_while_somebody_waits_for_it() {
    let world = World::new().await;
    let app = world.app().await;
    let asset = app.upload(&pattern(10), "").await;
    let order = spool_proto::job::Order {
        tenant: tenant(),
        asset: asset.clone(),
        round: 0,
        job: spool_proto::job::Job::Inspect(spool_proto::job::InspectOrder { verdict: 1, max_duration_ms: None }),
        cause: None,
    };
    let planner = world.server.log(Role::Planner).await;
    planner.order(&order).await.unwrap();
    let item = order.job.item();
    let sequence = planner.queued(&tenant(), &asset, &item).await.unwrap().unwrap();
    planner.bury("SPOOL_JOBS", sequence, "lane-first", Code::WorkerLost, "died", 5).await.unwrap().unwrap();
    let rejected = SourceRejected { problem: Problem::new(Code::SourceEmpty) };
    append(&world, Role::Transcoder, &asset, Slot::UploadVerdict { verdict: 1 }, rejected).await;

    let list = app.send("GET", "/v1/parked?limit=5", &[], "").await.json();
    assert_eq!(list["parked"][0]["attempts"], json!(5), "{list}");
    let id = &list["parked"][0]["id"];
    let reply = app.send("POST", &format!("/v1/parked/{id}/release"), &[], "").await;
    assert_eq!((reply.status, reply.code()), (409, "release_over".to_owned()), "{reply:?}");
    let detail = reply.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("Order n1") && detail.contains(&format!("spool retry {asset}")), "{detail}");
    assert_eq!(app.log.list_parked(0, 10).await.unwrap().len(), 1, "it stays parked");
}
