//! Assets as they are read: one, many, their history, what they wait for.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use spool_kit::units::Span;
use spool_nats::Bucket;
use spool_proto::lease::{self, LeaseNote};
use spool_proto::{Item, Role, TenantId, Timestamp};

use super::{check_problem, id, world};
use crate::Config;
use crate::sample::{self, playback};
use crate::world::{Answer, app, get, send, settle};

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one answer written out, field by field")]
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

/// Every name in an answer, but not those that people or problems bring.
fn names(value: &Value, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                all.insert(name.clone());
                if !["data", "params", "labels", "metadata", "warnings"].contains(&name.as_str()) {
                    names(value, all);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| names(item, all)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn every_name_of_an_answer_stands_in_the_contracts_readme() {
    let (_world, projector) = world().await;
    let app = app(&projector);
    let mut all = BTreeSet::new();
    for n in [1, 3, 5, 6] {
        for path in ["", "/explain", "/events"] {
            names(&get(&app, &format!("/v1/assets/{}{path}", id(n))).await.json(), &mut all);
        }
    }
    names(&get(&app, "/v1/assets").await.json(), &mut all);
    names(&get(&app, "/v1/view").await.json(), &mut all);
    assert!(all.len() > 80, "{all:?}");
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto/README.md");
    let readme = std::fs::read_to_string(readme).expect("proto/README.md");
    let words: BTreeSet<&str> = readme.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let missing: Vec<&String> = all.iter().filter(|name| !words.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "proto/README.md lacks {missing:?}");
}
