//! Request tables: method, path, headers to status, headers, code, sentence. On a real log and a real store. Here what is
//! refused, and which routes there are; a file for each story besides.

mod assets;
mod live;
mod play;

use axum::routing::MethodFilter;
use serde_json::json;
use spool_proto::AssetId;

use crate::Projector;
use crate::sample::{self, playback};
use crate::world::{Answer, World, app, get, open, send, settle};

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
async fn readiness_follows_the_view() {
    let world = World::new().await;
    world.append(&sample::all_states()).await;
    let mut projector = world.projector(world.config());
    let app = app(&projector);
    assert!(!projector.handle().is_ready());
    assert_eq!(get(&app, "/v1/view").await.json()["ready"], false);
    settle(&mut projector).await;
    assert!(projector.handle().is_ready());
    let view = get(&app, "/v1/view").await.json();
    assert_eq!((&view["ready"], &view["position"]), (&json!(true), &json!(sample::all_states().len())));
    assert_eq!(send(&app, "POST", "/v1/view/rebuild", &[]).await.status, 202);
    settle(&mut projector).await;
    assert_eq!(get(&app, "/v1/view").await.json()["rebuilds"], 1);
}
