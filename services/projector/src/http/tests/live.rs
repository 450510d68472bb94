//! Live changes (SSE).

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use spool_kit::units::Span;

use super::{check_problem, id, world};
use crate::Config;
use crate::sample;
use crate::world::{World, app, get, open, settle};

/// Reads events from a live connection until there are `count`.
async fn events(body: &mut axum::body::BodyDataStream, count: usize) -> Vec<(u64, String, Value)> {
    let mut text = String::new();
    let mut events = Vec::new();
    while events.len() < count {
        let block = tokio::time::timeout(Duration::from_secs(20), body.next()).await.expect("in time");
        text.push_str(std::str::from_utf8(&block.expect("not over").expect("a block")).expect("text"));
        while let Some((event, rest)) = text.split_once("\n\n") {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            if let (Some(id), Some(kind), Some(data)) = (field("id: "), field("event: "), field("data: ")) {
                events.push((id.parse().expect("a sequence"), kind, serde_json::from_str(&data).expect("json")));
            }
            text = rest.to_owned();
        }
    }
    events
}

#[tokio::test]
async fn live_changes_come_once_in_order_and_go_on_after_a_break() {
    let (world, mut projector) = world().await;
    let app = app(&projector);
    let position = projector.handle().position();
    let response = open(&app, "GET", "/v1/events?after=0", &[]).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut all = response.into_body().into_data_stream();
    let past = events(&mut all, position as usize).await;
    assert_eq!(past.iter().map(|e| e.0).collect::<Vec<_>>(), (1..=position).collect::<Vec<_>>());
    assert_eq!(past[0].1, "AssetRegistered");

    let mut live = open(&app, "GET", "/v1/events", &[]).await.into_body().into_data_stream();
    let path = format!("/v1/events?asset={}", id(60));
    let mut of_one = open(&app, "GET", &path, &[("last-event-id", "1")]).await.into_body().into_data_stream();
    let last = world.append(&sample::stream([sample::rejected(60), sample::asset(61)])).await;
    assert_eq!(last, position + 4);
    settle(&mut projector).await;
    let sequences = |events: &[(u64, String, Value)]| events.iter().map(|e| e.0).collect::<Vec<_>>();
    let now = events(&mut live, 4).await;
    assert_eq!(sequences(&now), [position + 1, position + 2, position + 3, position + 4]);
    assert_eq!(sequences(&events(&mut all, 4).await), sequences(&now));
    let one = events(&mut of_one, 3).await;
    assert_eq!(
        one.iter().map(|e| e.1.as_str()).collect::<Vec<_>>(),
        ["AssetRegistered", "SourceStored", "SourceRejected"]
    );
    assert_eq!((&one[2].2["status"], &one[2].2["version"]), (&json!("rejected"), &json!(3)));

    // A client that comes back with the last id it saw gets the rest and nothing twice.
    let seen = now[1].0.to_string();
    let mut back = open(&app, "GET", "/v1/events", &[("last-event-id", &seen)]).await.into_body().into_data_stream();
    assert_eq!(sequences(&events(&mut back, 2).await), [position + 3, position + 4]);
}

#[tokio::test]
async fn live_connections_are_counted_and_end_with_the_role() {
    let world = World::new().await;
    let config = Config { max_followers: 1, keep_alive: Span::millis(50), ..world.config() };
    let projector = world.projector(config);
    let app = app(&projector);
    let mut first = open(&app, "GET", "/v1/events", &[]).await.into_body().into_data_stream();
    let detail =
        "There are already 1 live connections; at most 1 are allowed. Wait until some have ended, then try again.";
    check_problem(&get(&app, "/v1/events").await, 429, "limit_reached", detail, "a second one");
    let hello = first.next().await.expect("not over").expect("a block");
    assert!(hello.starts_with(b"retry: "), "{hello:?}");
    let alive = first.next().await.expect("not over").expect("a block");
    assert!(alive.starts_with(b": "), "{alive:?}");

    let stop = spool_kit::Stop::new();
    let running = tokio::spawn(projector.run(stop.clone()));
    stop.finish();
    running.await.expect("no panic").expect("a clean end");
    let rest = tokio::time::timeout(Duration::from_secs(10), first.collect::<Vec<_>>()).await;
    assert!(rest.is_ok(), "it did not end");
    assert_ne!(get(&app, "/v1/events").await.status, 429, "its place is free again");
}
