//! Rows of `/v1/assets` and `/v1/parked`: files taken in by path, and the commands.

use spool_gateway::Config;
use spool_kit::units::Bytes as Size;

use super::{Case, case, check};
use crate::common::{World, pattern};

#[tokio::test]
async fn taking_a_file_in() {
    let world = World::new().await;
    let app = world.app_with(Config { max_upload: Size(1000), max_body: Size(200), ..world.config() }).await;
    std::fs::write(world.root().join("a.mp4"), pattern(10)).unwrap();
    std::fs::write(world.root().join("large.mp4"), pattern(1001)).unwrap();
    std::fs::create_dir(world.root().join("sub")).unwrap();
    for (to, name) in [("/etc/passwd", "link.mp4"), ("a.mp4", "inner.mp4"), ("sub", "linked")] {
        std::os::unix::fs::symlink(to, world.root().join(name)).unwrap();
    }
    let large = format!(r#"{{"input":{{"path":"{}"}}}}"#, "a".repeat(200));
    let post =
        |what, body, status, code, says| Case { body, ..case(what, "POST", "/v1/assets", &[], status, code, says) };
    for case in [
        post("no json", "{", 400, "body_invalid", "can't be read"),
        post("no input", "{}", 400, "body_invalid", "missing field `input`"),
        post("unknown key", r#"{"input":{"path":"a.mp4"},"prio":1}"#, 400, "body_invalid", "unknown field `prio`"),
        post("other input", r#"{"input":{"url":"http://x"}}"#, 400, "body_invalid", "unknown variant `url`"),
        post("too large a body", &large, 413, "body_too_large", "more than 200 bytes"),
        post(
            "outside",
            r#"{"input":{"path":"../x"}}"#,
            403,
            "path_not_allowed",
            "../x does not lie under an allowed root",
        ),
        post("absolute", r#"{"input":{"path":"/etc/passwd"}}"#, 403, "path_not_allowed", "/etc/passwd"),
        post(
            "a link that leads out",
            r#"{"input":{"path":"link.mp4"}}"#,
            400,
            "path_not_file",
            "The path link.mp4 is a symbolic link, or lies behind one, not a plain file. Name a plain file.",
        ),
        post("a link that stays inside", r#"{"input":{"path":"inner.mp4"}}"#, 400, "path_not_file", "a symbolic link"),
        post("behind a link", r#"{"input":{"path":"linked/x"}}"#, 400, "path_not_file", "lies behind one"),
        post("nothing there", r#"{"input":{"path":"b.mp4"}}"#, 404, "path_not_found", "no file at b.mp4"),
        post("a directory", r#"{"input":{"path":"sub"}}"#, 400, "path_not_file", "sub is a directory"),
        post("too large", r#"{"input":{"path":"large.mp4"}}"#, 413, "upload_too_large", "1001 bytes; at most 1000"),
        post("unknown profile", r#"{"input":{"path":"a.mp4"},"profile":"gold"}"#, 400, "profile_unknown", "gold"),
        post("no digest", r#"{"input":{"path":"a.mp4"},"sha256":"abc"}"#, 400, "body_invalid", "64 hexadecimal digits"),
        post("no path", r#"{"input":{"path":""}}"#, 403, "path_not_allowed", ""),
        post(
            "two inputs",
            r#"{"input":{"path":"a.mp4"},"input":{"path":"b"}}"#,
            400,
            "body_invalid",
            "duplicate field",
        ),
        post(
            "an empty label",
            r#"{"input":{"path":"a.mp4"},"text":{"labels":{"":"x"}}}"#,
            400,
            "body_invalid",
            "labels of 1",
        ),
        Case {
            headers: vec![("idempotency-key", "a"), ("idempotency-key", "b")],
            ..post(
                "two keys",
                r#"{"input":{"path":"a.mp4"}}"#,
                400,
                "header_invalid",
                "Idempotency-Key must be given once",
            )
        },
        post("good", r#"{"input":{"path":"a.mp4"}}"#, 202, "", ""),
    ] {
        check(&app, case).await;
    }
    let closed = world.app_with(Config { roots: vec![], ..world.config() }).await;
    check(&closed, post("no roots", r#"{"input":{"path":"a.mp4"}}"#, 403, "path_not_allowed", "`gateway.roots`")).await;
}

#[tokio::test]
async fn commands_on_assets_and_parked_messages() {
    let world = World::new().await;
    let app = world.app().await;
    let unknown = "vid_00000000000000000000000000";
    for case in [
        case("delete unknown", "DELETE", &format!("/v1/assets/{unknown}"), &[], 404, "asset_not_found", unknown),
        case("delete no id", "DELETE", "/v1/assets/x", &[], 404, "asset_not_found", "no asset x"),
        case("retry unknown", "POST", &format!("/v1/assets/{unknown}/retry"), &[], 404, "asset_not_found", unknown),
        case("retry by get", "GET", &format!("/v1/assets/{unknown}/retry"), &[], 405, "method_not_allowed", "POST"),
        case("parked", "GET", "/v1/parked", &[], 200, "", ""),
        case("parked page", "GET", "/v1/parked?after=5&limit=10", &[], 200, "", ""),
        case("parked bad page", "GET", "/v1/parked?after=x", &[], 400, "query_invalid", "\"x\" of after is not the id"),
        case("parked too many", "GET", "/v1/parked?limit=101", &[], 400, "query_invalid", "a number from 1 to 100"),
        case("parked misspelt", "GET", "/v1/parked?afer=5", &[], 400, "query_invalid", "(known: after, limit)"),
        case("parked twice", "GET", "/v1/parked?after=5&after=6", &[], 400, "query_invalid", "not given once"),
        case(
            "take in by query",
            "POST",
            "/v1/assets?profile=x",
            &[],
            400,
            "query_invalid",
            "\"profile\" of the address",
        ),
        case("delete by query", "DELETE", "/v1/assets/x?now=1", &[], 400, "query_invalid", "(known: none)"),
        case("retry by query", "POST", "/v1/assets/x/retry?of=1", &[], 400, "query_invalid", "(known: none)"),
        case("release by query", "POST", "/v1/parked/7/release?x", &[], 400, "query_invalid", "(known: none)"),
        case("release unknown", "POST", "/v1/parked/7/release", &[], 404, "parked_not_found", "no parked message 7"),
        case("release no id", "POST", "/v1/parked/x/release", &[], 404, "parked_not_found", "no parked message x"),
        case(
            "another method by header",
            "POST",
            &format!("/v1/assets/{unknown}/retry"),
            &[("x-http-method-override", "DELETE")],
            400,
            "header_invalid",
            "X-HTTP-Method-Override is taken by /v1/uploads alone; send the method itself; got \"DELETE\"",
        ),
        case(
            "a method by header where that is none",
            "POST",
            &format!("/v1/assets/{unknown}"),
            &[("x-http-method-override", "DELETE")],
            400,
            "header_invalid",
            "send the method itself; got \"DELETE\"",
        ),
        case("nowhere", "GET", "/v1/nowhere", &[], 404, "route_not_found", "nothing at /v1/nowhere"),
    ] {
        check(&app, case).await;
    }
}
