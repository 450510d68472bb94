//! Request tables: method, path, headers to status, headers, code, sentence. On a real log and a real store.

use std::time::Duration;

use axum::routing::MethodFilter;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use bytes::Bytes;
use spool_kit::hls::check;
use spool_kit::units::Span;
use spool_nats::Bucket;
use spool_proto::event::{AssetDeleted, Withdrawn};
use spool_proto::id::AttemptId;
use spool_proto::key::{Key, Object};
use spool_proto::lease::{self, LeaseNote};
use spool_proto::{AssetId, Item, Role, Slot, TenantId, Timestamp};

use crate::sample::{self, playback};
use crate::world::{Answer, World, app, get, open, send, settle};
use crate::{Config, Projector};

fn id(n: u128) -> AssetId {
    AssetId::from_bits(n)
}

/// Every state, folded.
async fn world() -> (World, Projector) {
    let world = World::new().await;
    let facts = sample::all_states();
    world.put_texts(&facts).await;
    world.append(&facts).await;
    let mut projector = world.projector(world.config());
    settle(&mut projector).await;
    (world, projector)
}

fn check_problem(answer: &Answer, status: u16, code: &str, detail: &str, what: &str) {
    assert_eq!(answer.status, status, "{what}: {:?}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
    let body = answer.json();
    assert_eq!((body["code"].as_str(), body["detail"].as_str()), (Some(code), Some(detail)), "{what}");
}

#[tokio::test]
async fn what_is_refused_says_why() {
    let (_world, projector) = world().await;
    let app = app(&projector);
    let unknown = AssetId::from_bits(77);
    let (here, gone) = (id(1), id(8));
    let status_form = "one of uploading, checking, encoding, playable, ready, rejected, failed, abandoned, deleted";
    let not_found = |id: &str| format!("There is no asset {id}. Check the id; `spool ls` lists what there is.");
    let deleted = format!("Asset {gone} was deleted. Upload the video again if you need it.");
    let query = |name: &str, value: &str, form: &str| {
        format!("The value {value:?} of {name} is not {form}. Correct the address.")
    };
    for (verb, path, status, code, detail) in [
        ("GET", format!("/v1/assets/{unknown}"), 404, "asset_not_found", not_found(unknown.as_str())),
        ("GET", "/v1/assets/nonsense".to_owned(), 404, "asset_not_found", not_found("nonsense")),
        ("GET", format!("/v1/assets/{here}?tenant=other"), 404, "asset_not_found", not_found(here.as_str())),
        ("GET", format!("/v1/assets/{here}?tenant=A"), 400, "query_invalid", query("tenant", "A", "a tenant")),
        ("GET", format!("/v1/assets/{gone}"), 410, "asset_deleted", deleted.clone()),
        ("GET", format!("/v1/assets/{gone}/explain"), 410, "asset_deleted", deleted.clone()),
        ("GET", format!("/v1/assets/{unknown}/explain"), 404, "asset_not_found", not_found(unknown.as_str())),
        ("GET", format!("/v1/assets/{unknown}/events"), 404, "asset_not_found", not_found(unknown.as_str())),
        ("GET", format!("/v1/assets/{here}/events?after=x"), 400, "query_invalid", query("after", "x", "a sequence")),
        (
            "GET",
            format!("/v1/assets/{here}/events?limit=0"),
            400,
            "query_invalid",
            query("limit", "0", "a number from 1 to 1000"),
        ),
        ("GET", "/v1/assets?status=happy".to_owned(), 400, "query_invalid", query("status", "happy", status_form)),
        (
            "GET",
            "/v1/assets?limit=201".to_owned(),
            400,
            "query_invalid",
            query("limit", "201", "a number from 1 to 200"),
        ),
        (
            "GET",
            "/v1/assets?cursor=12".to_owned(),
            400,
            "query_invalid",
            query("cursor", "12", "a cursor of the answer before"),
        ),
        ("GET", "/v1/assets?at_least=x".to_owned(), 400, "query_invalid", query("at_least", "x", "a sequence")),
        ("GET", "/v1/events?asset=x".to_owned(), 400, "query_invalid", query("asset", "x", "an asset id")),
        (
            "GET",
            "/v1/nothing".to_owned(),
            404,
            "route_not_found",
            "There is nothing at /v1/nothing. See the README for the routes.".to_owned(),
        ),
    ] {
        let what = format!("{verb} {path}");
        check_problem(&send(&app, verb, &path, &[]).await, status, code, &detail, &what);
    }
    for (verb, path, allow) in
        [("POST", "/v1/events", "GET,HEAD"), ("PUT", "/v1/assets", "GET,HEAD"), ("GET", "/v1/view/rebuild", "POST")]
    {
        let answer = send(&app, verb, path, &[]).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (405, Some("method_not_allowed")), "{verb} {path}");
        assert_eq!(answer.header("allow"), Some(allow), "{verb} {path}");
    }
    let answer = send(&app, "GET", "/v1/events", &[("last-event-id", "yesterday")]).await;
    let detail =
        "The header Last-Event-ID must be a sequence; got yesterday. Correct the header and send the request again.";
    check_problem(&answer, 400, "header_invalid", detail, "Last-Event-ID");
}

#[tokio::test]
async fn a_parameter_that_is_misspelt_or_given_twice_is_refused_by_name() {
    let (_world, projector) = world().await;
    let app = app(&projector);
    let asset = format!("/v1/assets/{}", id(1));
    for (verb, path, name, known) in [
        ("GET", "/v1/assets?state=ready".to_owned(), "state", "status, limit, cursor, tenant, at_least"),
        ("GET", "/v1/assets?status=ready&Limit=1".to_owned(), "Limit", "status, limit, cursor, tenant, at_least"),
        ("GET", format!("{asset}?atleast=1"), "atleast", "tenant, at_least"),
        ("GET", format!("{asset}/events?from=1"), "from", "after, limit, tenant, at_least"),
        ("GET", format!("{asset}/explain?x"), "x", "tenant, at_least"),
        ("GET", format!("/v1/events?id={}", id(1)), "id", "asset, after, tenant"),
        ("GET", "/v1/view?x=1".to_owned(), "x", "none"),
        ("POST", "/v1/view/rebuild?now=1".to_owned(), "now", "none"),
    ] {
        let what = format!("{verb} {path}");
        let detail = format!(
            "The value {name:?} of the address is not a parameter known here (known: {known}). Correct the address."
        );
        check_problem(&send(&app, verb, &path, &[]).await, 400, "query_invalid", &detail, &what);
    }
    let twice = "The value \"1, 2\" of limit is not given once. Correct the address.";
    check_problem(&get(&app, "/v1/assets?limit=1&limit=2").await, 400, "query_invalid", twice, "twice");
}

#[tokio::test]
async fn an_asset_is_shown_with_the_names_of_the_contract() {
    let (_world, projector) = world().await;
    let app = app(&projector);
    let answer = get(&app, &format!("/v1/assets/{}", id(1))).await;
    assert_eq!(answer.status, 200);
    let asset = answer.json();
    let names: Vec<&str> = asset.as_object().expect("an object").keys().map(String::as_str).collect();
    let mut expected = vec![
        "id",
        "status",
        "version",
        "reason",
        "warnings",
        "tenant",
        "filename",
        "title",
        "labels",
        "metadata",
        "passthrough",
        "external_id",
        "created_at",
        "updated_at",
        "size_bytes",
        "sha256",
        "duration_ms",
        "percent",
        "source",
        "renditions",
        "stills",
        "deliveries",
        "playback_ids",
        "play_url",
        "sequence",
    ];
    expected.sort_unstable();
    assert_eq!(names, expected);
    let play = format!("/play/{}", playback(1));
    assert_eq!(asset["status"], "ready");
    assert_eq!(asset["title"], "Lecture 1");
    assert_eq!(
        (&asset["percent"], &asset["duration_ms"], &asset["size_bytes"]),
        (&json!(100), &json!(16_000), &json!(20))
    );
    assert_eq!(asset["play_url"], format!("{play}/index.m3u8"));
    assert_eq!(asset["playback_ids"], json!([{ "id": playback(1), "policy": "public" }]));
    assert_eq!(
        asset["renditions"][0],
        json!({
            "id": "v720", "name": "720p", "kind": "video", "codecs": "avc1.64001f", "width": 1280, "height": 720,
            "frame_rate": 25.0, "bitrate_bps": 1_401_200, "size_bytes": 2_802_400, "language": null, "state": "complete",
            "url": format!("{play}/r2/v720.m3u8"),
        })
    );
    assert_eq!((&asset["renditions"][2]["kind"], &asset["renditions"][2]["language"]), (&json!("audio"), &json!("en")));
    assert_eq!(asset["stills"][0]["url"], format!("{play}/g1/poster.jpg"));
    assert_eq!(asset["source"]["video"]["codec"], "h264");
    assert_eq!(answer.header("etag"), Some(format!("\"{}\"", asset["version"]).as_str()));

    let etag = answer.header("etag").expect("a tag").to_owned();
    let path = format!("/v1/assets/{}", id(1));
    let known = send(&app, "GET", &path, &[("if-none-match", &etag)]).await;
    assert_eq!((known.status, known.body.len(), known.header("etag")), (304, 0, Some(etag.as_str())));

    let failed = get(&app, &format!("/v1/assets/{}", id(6))).await.json();
    assert_eq!(
        failed["reason"],
        json!({
            "code": "source_damaged", "fault": "input", "stage": "encode", "retryable": false, "attempts": 5,
            "params": { "got": "4 s", "expected": "16 s" },
            "detail": "Only 4 s of 16 s could be decoded. Copy the file again from its origin; the upload itself was complete.",
        })
    );
    assert_eq!(failed["renditions"][0]["state"], "failed");
    assert_eq!(failed["play_url"], format!("/play/{}/index.m3u8", playback(6)), "what stands can still be watched");
    let rejected = get(&app, &format!("/v1/assets/{}", id(5))).await.json();
    assert_eq!((&rejected["reason"]["stage"], &rejected["play_url"]), (&json!("check"), &Value::Null));
    let abandoned = get(&app, &format!("/v1/assets/{}", id(7))).await.json();
    assert_eq!(
        (&abandoned["reason"]["stage"], &abandoned["reason"]["code"]),
        (&json!("upload"), &json!("upload_expired"))
    );
}

#[tokio::test]
async fn lists_page_through_all_and_filter() {
    let (_world, projector) = world().await;
    let app = app(&projector);
    let ids = |answer: &Answer| {
        let body = answer.json();
        let ids = body["assets"].as_array().expect("a list").iter().map(|a| a["id"].as_str().expect("id").to_owned());
        (ids.collect::<Vec<_>>(), body["next_cursor"].as_str().map(str::to_owned))
    };
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let (page, next) = ids(&get(&app, &format!("/v1/assets?limit=4&cursor={cursor}")).await);
        all.extend(page);
        let Some(next) = next else { break };
        cursor = next;
    }
    let whole = get(&app, "/v1/assets").await;
    assert_eq!(all, ids(&whole).0);
    // Newest first; those of one millisecond by their ids.
    let place = |asset: &Value| {
        let created_at: Timestamp = asset["created_at"].as_str().expect("text").parse().expect("a time");
        (std::cmp::Reverse(created_at), asset["id"].to_string())
    };
    assert!(whole.json()["assets"].as_array().expect("a list").is_sorted_by_key(place));
    all.sort();
    let expected: Vec<String> = [1, 2, 3, 4, 5, 6, 7, 9, 10].map(|n| id(n).to_string()).to_vec();
    assert_eq!(all, expected);
    let mut ready = ids(&get(&app, "/v1/assets?status=ready").await).0;
    ready.sort();
    assert_eq!(ready, [id(1).to_string(), id(9).to_string()]);
    assert_eq!(ids(&get(&app, "/v1/assets?status=deleted").await).0, [id(8).to_string()]);
    assert_eq!(ids(&get(&app, "/v1/assets?tenant=other").await), (vec![], None));
}

#[tokio::test]
async fn a_history_tells_every_fact_also_of_a_deleted_asset_and_no_secret() {
    let (_world, projector) = world().await;
    let app = app(&projector);
    let history = get(&app, &format!("/v1/assets/{}/events", id(8))).await.json();
    let events = history["events"].as_array().expect("a list");
    let kinds: Vec<&str> = events.iter().map(|e| e["kind"].as_str().expect("kind")).collect();
    assert_eq!(kinds.first().zip(kinds.last()), Some((&"AssetRegistered", &"AssetDeleted")));
    assert_eq!(events.len(), sample::deleted(8).facts.len());
    assert_eq!(history["next_after"], Value::Null);
    for secret in ["upl_", "renditions/", "sources/"] {
        assert!(!history.to_string().contains(secret), "{secret}: {history}");
    }
    let page = get(&app, &format!("/v1/assets/{}/events?limit=3", id(8))).await.json();
    let after = page["next_after"].as_u64().expect("more");
    assert_eq!(page["events"][2]["sequence"], after);
    let page = get(&app, &format!("/v1/assets/{}/events?after={after}", id(8))).await.json();
    assert_eq!(page["events"].as_array().map(Vec::len), Some(events.len() - 3));
    let rejected = get(&app, &format!("/v1/assets/{}/events", id(5))).await.json();
    assert_eq!(rejected["events"][2]["data"]["problem"]["detail"], "The file is a letter. Upload a video file.");
}

#[tokio::test]
async fn explain_says_who_works_and_until_when() {
    let (world, projector) = world().await;
    let app = app(&projector);
    let explain = |n| format!("/v1/assets/{}/explain", id(n));
    let waiting = get(&app, &explain(3)).await.json();
    assert_eq!((&waiting["status"], &waiting["waits_for"]), (&json!("encoding"), &json!("transcoder")));
    assert_eq!(waiting["work"][0]["item"], "g1-v0");
    assert_eq!(waiting["work"][0]["state"], "queued");
    assert_eq!(waiting["queue"], json!({"lane": "first", "before_at_most": 0, "out": 0, "transcoders": "none"}));
    assert!(waiting["sentence"].as_str().is_some_and(|said| said.contains("no transcoder is connected")), "{waiting}");
    assert!(waiting["deadline"]["at"].as_str().is_some(), "{waiting}");
    assert_eq!(waiting["deadline"]["slot"], "encode.outcome.g1");

    let leases = world.log(Role::Transcoder).kv::<LeaseNote>(Bucket::Leases).await.expect("a bucket");
    let now = spool_kit::Clock::system().now();
    let note = LeaseNote {
        holder: "worker-1/77".to_owned(),
        attempt: 2,
        since: now,
        updated_at: now,
        progress_percent: Some(40),
        last_error: None,
        next_try: None,
    };
    let key = |item: &Item| lease::key(&TenantId::default_tenant(), &id(3), item);
    leases.put(&key(&Item::Video { generation: 1, chunk: 0 }), &note).await.expect("put");
    let retry = LeaseNote { next_try: Some(now), last_error: Some("it died".to_owned()), ..note };
    leases.put(&key(&Item::Audio { generation: 1, track: 0 }), &retry).await.expect("put");
    let working = get(&app, &explain(3)).await.json();
    assert_eq!((&working["notes_error"], &working["queue"]), (&Value::Null, &Value::Null));
    assert_eq!(working["sentence"], "0 % are encoded; one worker is on it.");
    let work = working["work"].as_array().expect("work");
    assert_eq!(
        (&work[0]["holder"], &work[0]["state"], &work[0]["attempt"]),
        (&json!("worker-1/77"), &json!("running"), &json!(2))
    );
    let audio = work.iter().find(|w| w["item"] == "g1-a0").expect("the sound");
    assert_eq!((&audio["state"], &audio["last_error"]), (&json!("waits_for_retry"), &json!("it died")));

    for (n, waits_for, sentence) in [
        (1, Value::Null, "Everything is made and published."),
        (4, json!("client"), "Bytes are coming in; the client must send the rest."),
        (5, Value::Null, "The file is a letter. Upload a video file."),
    ] {
        let answer = get(&app, &explain(n)).await.json();
        assert_eq!((&answer["waits_for"], &answer["sentence"]), (&waits_for, &json!(sentence)));
    }
}

#[tokio::test]
async fn explain_of_a_file_that_is_copied_in_sends_nobody_for_bytes() {
    let (world, mut projector) = world().await;
    world.append(&sample::stream([sample::taken_in(51)])).await;
    settle(&mut projector).await;
    let answer = get(&app(&projector), &format!("/v1/assets/{}/explain", id(51))).await.json();
    assert_eq!(answer["waits_for"], "gateway");
    assert_eq!(answer["sentence"], "The file is being copied in, or waits for its turn; nobody has to do anything.");
}

#[tokio::test]
async fn a_read_waits_for_its_sequence_and_not_for_ever() {
    let (world, mut projector) = world().await;
    let position = projector.handle().position();
    let short =
        Config { read_wait: Span::millis(200), directory: world.root.path().join("other"), ..Config::default() };
    let mut impatient = world.projector(short);
    settle(&mut impatient).await;
    let late = get(&app(&impatient), &format!("/v1/assets?at_least={}", position + 1)).await;
    let detail = format!("The view stands at {position}, asked was at least {}. Try again in a moment.", position + 1);
    check_problem(&late, 503, "view_behind", &detail, "at_least");
    assert_eq!(late.header("retry-after"), Some("2"));

    let app = app(&projector);
    let path = format!("/v1/assets/{}?at_least={}", id(50), position + 1);
    let waiting = tokio::spawn(async move { get(&app, &path).await });
    world.append(&sample::stream([sample::asset(50)])).await;
    settle(&mut projector).await;
    let answer = waiting.await.expect("no panic");
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("uploading")));
    assert_eq!(answer.header("spool-sequence"), Some((position + 1).to_string().as_str()));
}

#[tokio::test]
async fn the_routes_that_are_told_are_those_that_are_served() {
    let (_world, projector) = world().await;
    let app = app(&projector);
    for (method, path) in crate::ROUTES {
        let verb = if *method == MethodFilter::POST { "POST" } else { "GET" };
        let path = path.replace("{asset}", id(1).as_str()).replace("{playback}", playback(2).as_str());
        let answer = open(&app, verb, &path.replace("{*path}", "index.m3u8"), &[]).await;
        assert!(answer.status().is_success(), "{verb} {path}: {}", answer.status());
    }
}

#[tokio::test]
async fn health_follows_the_view() {
    let world = World::new().await;
    world.append(&sample::all_states()).await;
    let mut projector = world.projector(world.config());
    let app = app(&projector);
    assert_eq!(get(&app, "/livez").await.text(), "ok\n");
    let detail = "The view stands at 0, asked was at least the log's end. Try again in a moment.";
    check_problem(&get(&app, "/readyz").await, 503, "view_behind", detail, "/readyz");
    settle(&mut projector).await;
    assert_eq!((get(&app, "/readyz").await.status, get(&app, "/readyz").await.text()), (200, "ok\n".to_owned()));
    let view = get(&app, "/v1/view").await.json();
    assert_eq!((&view["ready"], &view["position"]), (&json!(true), &json!(sample::all_states().len())));
    assert_eq!(send(&app, "POST", "/v1/view/rebuild", &[]).await.status, 202);
    settle(&mut projector).await;
    assert_eq!(get(&app, "/v1/view").await.json()["rebuilds"], 1);
}

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

/// The bytes of chunk 0 of `v360` in [`sample`]: of the length that its receipt states.
fn chunk_bytes() -> Bytes {
    let length = 800_000 / 16 * 4 + 800;
    (0..length).map(|i: u32| (i % 251) as u8).collect::<Vec<_>>().into()
}

async fn put_objects(world: &World) {
    let attempt = AttemptId::from_bits(4);
    let chunk = Object::Chunk { generation: 1, rendition: "v360".to_owned(), chunk: 0, attempt };
    let still = Object::Still { generation: 1, name: "poster".to_owned(), attempt: AttemptId::from_bits(5) };
    let list = |file: &str| Object::Manifest { revision: 2, attempt: AttemptId::from_bits(8), file: file.to_owned() };
    for (asset, object, bytes) in [
        (1, chunk, chunk_bytes()),
        (1, still, Bytes::from(vec![7; 40_000])),
        (1, list("index.m3u8"), Bytes::from("#EXTM3U\n#the finished index\n")),
        (1, list("v360.m3u8"), Bytes::from("#EXTM3U\n#the finished v360\n")),
    ] {
        let key = Key { tenant: TenantId::default_tenant(), asset: id(asset), object };
        world.store.put(&key, bytes).await.expect("put");
    }
}

#[tokio::test]
async fn objects_come_with_ranges_types_and_cache_headers() {
    let (world, projector) = world().await;
    put_objects(&world).await;
    let app = app(&projector);
    let path = format!("/play/{}/g1/v360/0.mp4", playback(1));
    let whole = get(&app, &path).await;
    let all = chunk_bytes();
    let last = all.len() - 1;
    assert_eq!((whole.status, &whole.body), (200, &all));
    for (name, value) in [
        ("content-type", "video/mp4"),
        ("cache-control", "public, max-age=31536000, immutable"),
        ("accept-ranges", "bytes"),
        ("access-control-allow-origin", "*"),
    ] {
        assert_eq!(whole.header(name), Some(value), "{name}");
    }
    let etag = whole.header("etag").expect("a tag").to_owned();
    for (headers, status, range) in [
        (vec![("range", "bytes=0-799")], 206, Some(0..800)),
        (vec![("range", "bytes=100-")], 206, Some(100..all.len())),
        (vec![("range", "bytes=-1")], 206, Some(last..all.len())),
        (vec![("range", "bytes=0-799"), ("if-range", etag.as_str())], 206, Some(0..800)),
        (vec![("range", "bytes=0-799"), ("if-range", "\"other\"")], 200, Some(0..all.len())),
        (vec![("range", "bytes=0-1,3-4")], 200, Some(0..all.len())),
        (vec![("if-none-match", etag.as_str())], 304, None),
    ] {
        let answer = send(&app, "GET", &path, &headers).await;
        let expected = range.clone().map_or_else(Bytes::new, |range| all.slice(range));
        assert_eq!((answer.status, &answer.body), (status, &expected), "{headers:?}");
        let content_range = (status == 206).then(|| {
            let range = range.expect("a range");
            format!("bytes {}-{}/{}", range.start, range.end - 1, all.len())
        });
        assert_eq!(answer.header("content-range"), content_range.as_deref(), "{headers:?}");
        let head = send(&app, "HEAD", &path, &headers).await;
        assert_eq!((head.status, head.body.len()), (status, 0), "HEAD {headers:?}");
        assert_eq!(head.header("content-length"), answer.header("content-length"), "HEAD {headers:?}");
    }
    let outside = send(&app, "GET", &path, &[("range", "bytes=300000-")]).await;
    let detail = format!("The range bytes=300000- lies outside {} bytes. Ask for a range inside it.", all.len());
    check_problem(&outside, 416, "range_not_satisfiable", &detail, "416");
    assert_eq!(outside.header("content-range"), Some(format!("bytes */{}", all.len()).as_str()));
    let poster = get(&app, &format!("/play/{}/g1/poster.jpg", playback(1))).await;
    assert_eq!((poster.status, poster.header("content-type"), poster.body.len()), (200, Some("image/jpeg"), 40_000));
    let preflight =
        send(&app, "OPTIONS", &path, &[("origin", "https://a"), ("access-control-request-method", "GET")]).await;
    assert_eq!(preflight.status, 200);
    // The receipt of this one stands, its object does not: an answer, not a broken body.
    let missing = get(&app, &format!("/play/{}/g1/v720/0.mp4", playback(1))).await;
    assert_eq!((missing.status, missing.json()["code"].as_str()), (500, Some("internal")));
}

#[tokio::test]
async fn the_index_is_the_right_one_at_each_time_and_growing_lists_end() {
    let (world, mut projector) = world().await;
    put_objects(&world).await;
    let app = app(&projector);
    let finished = get(&app, &format!("/play/{}/index.m3u8", playback(1))).await;
    assert_eq!(finished.text(), "#EXTM3U\n#the finished index\n");
    assert_eq!(finished.header("content-type"), Some("application/vnd.apple.mpegurl"));
    assert_eq!(finished.header("cache-control"), Some("no-cache"));
    let list = get(&app, &format!("/play/{}/r2/v360.m3u8", playback(1))).await;
    assert_eq!((list.status, list.text().as_str()), (200, "#EXTM3U\n#the finished v360\n"));
    assert_eq!(list.header("cache-control"), Some("public, max-age=31536000, immutable"));
    // A player that still holds the growing list gets its end.
    let held = get(&app, &format!("/play/{}/g1/v360.m3u8", playback(1))).await.text();
    assert!(held.ends_with("#EXT-X-ENDLIST\n"), "{held}");
    assert_eq!(held.matches("#EXTINF").count(), 4);

    let growing = get(&app, &format!("/play/{}/index.m3u8", playback(2))).await;
    assert_eq!(check::multivariant(&growing.text()), Vec::<String>::new());
    assert!(growing.text().contains("g1/v720.m3u8"));
    let media = format!("/play/{}/g1/v720.m3u8", playback(2));
    let list = get(&app, &media).await;
    assert_eq!(check::media(&list.text()), Vec::<String>::new());
    assert_eq!((list.header("cache-control"), list.text().contains("ENDLIST")), (Some("no-cache"), false));
    let etag = list.header("etag").expect("a tag").to_owned();
    assert_eq!(send(&app, "GET", &media, &[("if-none-match", &etag)]).await.status, 304);
    // The failed one ended where it stood.
    let failed = get(&app, &format!("/play/{}/g1/v720.m3u8", playback(6))).await.text();
    assert!(failed.ends_with("#EXT-X-ENDLIST\n"), "{failed}");

    let withdrawn = sample::ready(1).then(Slot::Publish { revision: 3 }, Withdrawn { generation: 1 });
    let deleted = sample::playable(2).then(Slot::LifeDeleted, AssetDeleted {});
    let last = |given: spool_proto::testing::Given| given.facts.last().cloned().expect("a fact");
    world.append(&[last(withdrawn), last(deleted)]).await;
    settle(&mut projector).await;
    let gone = format!("Asset {} was deleted. Upload the video again if you need it.", id(2));
    check_problem(&get(&app, &media).await, 410, "asset_deleted", &gone, "deleted");
    let nothing = "There is nothing to play at this address. Check the address; an asset plays once it is playable.";
    for path in [
        format!("/play/{}/index.m3u8", playback(1)),
        format!("/play/{}/g1/v360/0.mp4", playback(1)),
        format!("/play/{}/r2/v360.m3u8", playback(1)),
        format!("/play/{}/index.m3u8", playback(3)),
        format!("/play/{}/g1/v720.m3u8", playback(3)),
        format!("/play/{}/g1/v720/0.mp4", playback(3)),
        format!("/play/{}/index.m3u8", playback(77)),
        "/play/nonsense/index.m3u8".to_owned(),
        format!("/play/{}/g2/v720.m3u8", playback(6)),
        format!("/play/{}/g1/v1080.m3u8", playback(6)),
        format!("/play/{}/g1/v720/9.mp4", playback(6)),
        format!("/play/{}/r1/v720.m3u8", playback(6)),
        format!("/play/{}/g1/../../x", playback(6)),
    ] {
        check_problem(&get(&app, &path).await, 404, "playback_not_found", nothing, &path);
    }
}
