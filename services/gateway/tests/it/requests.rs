//! Request tables: method, path, headers, body → status, headers, code, sentence.

use spool_gateway::Config;
use spool_kit::units::Bytes as Size;

use crate::common::{App, BYTES, Reply, TUS, World, eventually, pattern};

/// One line: what is sent, and what must come back. `says` is part of the sentence for people.
struct Case<'a> {
    what: &'a str,
    method: &'a str,
    path: String,
    headers: Vec<(&'a str, &'a str)>,
    body: &'a str,
    status: u16,
    code: &'a str,
    says: &'a str,
}

fn case<'a>(
    what: &'a str,
    method: &'a str,
    path: &str,
    headers: &[(&'a str, &'a str)],
    status: u16,
    code: &'a str,
    says: &'a str,
) -> Case<'a> {
    Case { what, method, path: path.to_owned(), headers: headers.to_vec(), body: "", status, code, says }
}

async fn check(app: &App, case: Case<'_>) -> Reply {
    let reply = app.send(case.method, &case.path, &case.headers, case.body.to_owned()).await;
    let what = format!("{}: {} {} → {reply:?}", case.what, case.method, case.path);
    assert_eq!(reply.status, case.status, "{what}");
    assert_eq!(reply.headers["access-control-allow-origin"], "*", "{what}");
    assert_eq!(reply.headers["x-content-type-options"], "nosniff", "{what}");
    if case.path.starts_with("/v1/uploads") && case.status != 405 && case.status != 404 {
        assert_eq!(reply.headers.get("tus-resumable").map(String::as_str), Some("1.0.0"), "{what}");
    }
    assert_eq!(reply.headers.get("spool-code").map_or("", String::as_str), case.code, "{what}");
    if case.method == "HEAD" {
        assert_eq!(reply.body, "", "{what}");
        return reply;
    }
    assert_eq!(reply.code(), case.code, "{what}");
    if !case.code.is_empty() {
        assert_eq!(reply.headers["content-type"], "application/problem+json", "{what}");
        let detail = reply.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(case.says), "{what}: {detail}");
        assert!(!detail.contains("an unknown "), "a value is missing in: {detail}");
    }
    reply
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a flat table is honestly long")]
async fn creating_an_upload() {
    let world = World::new().await;
    let app = world.app_with(Config { max_upload: Size(1000), max_metadata: Size(64), ..world.config() }).await;
    let long = "a ".to_owned() + &"QUFB".repeat(20);
    let key = "k".repeat(256);
    let length = |value| [TUS, ("upload-length", value)];
    let meta = |value| [TUS, ("upload-length", "5"), ("upload-metadata", value)];
    for case in [
        case(
            "no version",
            "POST",
            "/v1/uploads",
            &[("upload-length", "5")],
            412,
            "tus_version",
            "Tus-Resumable is missing",
        ),
        case(
            "other version",
            "POST",
            "/v1/uploads",
            &[("tus-resumable", "0.2.2"), ("upload-length", "5")],
            412,
            "tus_version",
            "0.2.2",
        ),
        case(
            "no length",
            "POST",
            "/v1/uploads",
            &[TUS],
            400,
            "header_invalid",
            "Upload-Length must be given; got nothing",
        ),
        case(
            "negative length",
            "POST",
            "/v1/uploads",
            &length("-1"),
            400,
            "header_invalid",
            "must be a whole number of bytes; got \"-1\"",
        ),
        case("no number", "POST", "/v1/uploads", &length("5.0"), 400, "header_invalid", "Upload-Length"),
        case(
            "huge number",
            "POST",
            "/v1/uploads",
            &length("99999999999999999999"),
            400,
            "header_invalid",
            "Upload-Length",
        ),
        case(
            "deferred length",
            "POST",
            "/v1/uploads",
            &[TUS, ("upload-defer-length", "1")],
            400,
            "header_invalid",
            "say Upload-Length",
        ),
        case(
            "two lengths",
            "POST",
            "/v1/uploads",
            &[TUS, ("upload-length", "5"), ("upload-length", "6")],
            400,
            "header_invalid",
            "Upload-Length must be given once; got \"5 and 6\"",
        ),
        case(
            "two versions",
            "POST",
            "/v1/uploads",
            &[TUS, TUS, ("upload-length", "5")],
            400,
            "header_invalid",
            "Tus-Resumable must be given once",
        ),
        case(
            "long key",
            "POST",
            "/v1/uploads",
            &[TUS, ("upload-length", "5"), ("idempotency-key", &key)],
            400,
            "header_invalid",
            "Idempotency-Key must be 1 to 255 characters of ASCII",
        ),
        case(
            "digest that is none",
            "POST",
            "/v1/uploads",
            &meta("sha256 YWJj"),
            400,
            "header_invalid",
            "must hold 64 hexadecimal digits under sha256",
        ),
        case(
            "two keys",
            "POST",
            "/v1/uploads",
            &[TUS, ("upload-length", "5"), ("idempotency-key", "a"), ("idempotency-key", "a")],
            400,
            "header_invalid",
            "Idempotency-Key must be given once",
        ),
        case(
            "metadata in two headers",
            "POST",
            "/v1/uploads",
            &[TUS, ("upload-length", "5"), ("upload-metadata", "a YQ=="), ("upload-metadata", "b YQ==")],
            400,
            "header_invalid",
            "Upload-Metadata must be given once",
        ),
        case(
            "a part of a file",
            "POST",
            "/v1/uploads",
            &[TUS, ("upload-length", "5"), ("upload-concat", "partial")],
            400,
            "header_invalid",
            "(creation,creation-with-upload,termination,expiration): send the file as one upload; got \"partial\"",
        ),
        case(
            "a checksum",
            "POST",
            "/v1/uploads",
            &[TUS, ("upload-length", "5"), ("upload-checksum", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=")],
            400,
            "header_invalid",
            "send sha256 in Upload-Metadata",
        ),
        case("too large", "POST", "/v1/uploads", &length("1001"), 413, "upload_too_large", "1001 bytes; at most 1000"),
        case(
            "metadata too long",
            "POST",
            "/v1/uploads",
            &meta(&long),
            400,
            "header_invalid",
            "is longer than 64 bytes",
        ),
        case(
            "metadata twice",
            "POST",
            "/v1/uploads",
            &meta("a YQ==,a YQ=="),
            400,
            "header_invalid",
            "must have each key once",
        ),
        case(
            "metadata not base64",
            "POST",
            "/v1/uploads",
            &meta("a !"),
            400,
            "header_invalid",
            "must have values in Base64",
        ),
        case(
            "unknown profile",
            "POST",
            "/v1/uploads",
            &meta("profile Z29sZA=="),
            400,
            "profile_unknown",
            "no profile gold. Use one of: standard.",
        ),
        case(
            "empty key",
            "POST",
            "/v1/uploads",
            &[TUS, ("upload-length", "5"), ("idempotency-key", "")],
            400,
            "header_invalid",
            "Idempotency-Key",
        ),
        Case {
            body: "hello",
            ..case(
                "a body of no type",
                "POST",
                "/v1/uploads",
                &length("5"),
                415,
                "content_type_unsupported",
                "of type none, not application/offset+octet-stream",
            )
        },
        Case {
            body: "hello",
            ..case(
                "a body of another type",
                "POST",
                "/v1/uploads",
                &[TUS, ("upload-length", "5"), ("content-type", "application/octet-stream")],
                415,
                "content_type_unsupported",
                "of type application/octet-stream",
            )
        },
        Case {
            body: "hello!",
            ..case(
                "a body longer than announced",
                "POST",
                "/v1/uploads",
                &[TUS, BYTES, ("upload-length", "5")],
                413,
                "upload_overrun",
                "announced length 5",
            )
        },
        case("wrong method", "PUT", "/v1/uploads", &[TUS], 405, "method_not_allowed", "PUT is not possible here"),
    ] {
        check(&app, case).await;
    }
    assert_eq!(app.log.last_sequence().await.unwrap(), 0, "nothing of all that was registered");
    let large =
        check(&app, case("too large", "POST", "/v1/uploads", &length("1001"), 413, "upload_too_large", "")).await;
    assert_eq!(large.headers["tus-max-size"], "1000");
    let version = check(&app, case("no version", "POST", "/v1/uploads", &[], 412, "tus_version", "")).await;
    assert_eq!(version.headers["tus-version"], "1.0.0");

    let created = check(&app, case("good", "POST", "/v1/uploads", &meta("filename YS5tcDQ=,empty"), 201, "", "")).await;
    assert!(created.location().starts_with("/v1/uploads/upl_"), "relative: {created:?}");
    assert!(created.headers["spool-asset"].starts_with("vid_"));
    assert!(created.headers["upload-expires"].ends_with(" GMT"));
    let head = app.head(&created.location()).await;
    assert_eq!(head.headers["upload-metadata"], "filename YS5tcDQ=,empty", "as it came");
    assert_eq!(head.headers["cache-control"], "no-store");
    assert_eq!((head.offset(), head.headers["upload-length"].as_str()), (0, "5"));
}

#[tokio::test]
async fn what_the_server_can_do_is_said_without_a_version() {
    let world = World::new().await;
    let app = world.app().await;
    for path in ["/v1/uploads", "/v1/uploads/upl_00000000000000000000000000"] {
        let reply = check(&app, case("options", "OPTIONS", path, &[], 200, "", "")).await;
        assert_eq!(reply.headers["tus-version"], "1.0.0");
        assert_eq!(reply.headers["tus-extension"], "creation,creation-with-upload,termination,expiration");
        assert_eq!(reply.headers["tus-max-size"], Config::default().max_upload.0.to_string());
    }
    let preflight = [("origin", "https://a.example"), ("access-control-request-method", "PATCH")];
    let reply = check(&app, case("preflight", "OPTIONS", "/v1/uploads/x", &preflight, 200, "", "")).await;
    assert!(reply.headers["access-control-allow-methods"].contains("PATCH"));
    assert!(reply.headers["access-control-allow-headers"].contains("Upload-Offset"));
    assert!(reply.headers["access-control-expose-headers"].contains("Spool-Asset"));
    assert_eq!(reply.headers["tus-version"], "1.0.0");
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a flat table is honestly long")]
async fn sending_bytes() {
    let world = World::new().await;
    let app = world.app().await;
    let location = app.create(10, "").await.location();
    let at = |offset| [TUS, BYTES, ("upload-offset", offset)];
    let unknown = "/v1/uploads/upl_00000000000000000000000000";
    let patch = |what, path: &str, headers: &[(&'static str, &'static str)], body, status, code, says| Case {
        body,
        ..case(what, "PATCH", path, headers, status, code, says)
    };
    for case in [
        patch("no version", &location, &[BYTES, ("upload-offset", "0")], "x", 412, "tus_version", "missing"),
        patch(
            "no type",
            &location,
            &[TUS, ("upload-offset", "0")],
            "x",
            415,
            "content_type_unsupported",
            "application/offset+octet-stream",
        ),
        patch(
            "other type",
            &location,
            &[TUS, ("content-type", "text/plain"), ("upload-offset", "0")],
            "x",
            415,
            "content_type_unsupported",
            "of type text/plain",
        ),
        patch("no offset", &location, &[TUS, BYTES], "x", 400, "header_invalid", "Upload-Offset must be given"),
        patch("bad offset", &location, &at("one"), "x", 400, "header_invalid", "Upload-Offset"),
        patch(
            "two offsets",
            &location,
            &[TUS, BYTES, ("upload-offset", "0"), ("upload-offset", "0")],
            "x",
            400,
            "header_invalid",
            "Upload-Offset must be given once",
        ),
        patch(
            "two versions",
            &location,
            &[TUS, TUS, BYTES, ("upload-offset", "0")],
            "x",
            400,
            "header_invalid",
            "Tus-Resumable must be given once; got \"1.0.0 and 1.0.0\"",
        ),
        patch(
            "two types",
            &location,
            &[TUS, BYTES, BYTES, ("upload-offset", "0")],
            "x",
            400,
            "header_invalid",
            "Content-Type must be given once",
        ),
        patch(
            "a checksum",
            &location,
            &[TUS, BYTES, ("upload-offset", "0"), ("upload-checksum", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=")],
            "x",
            400,
            "header_invalid",
            "Upload-Checksum is of no extension that is offered here (creation,",
        ),
        patch("wrong offset", &location, &at("3"), "x", 409, "offset_conflict", "stands at 0, not at 3"),
        patch(
            "another length",
            &location,
            &[TUS, BYTES, ("upload-offset", "0"), ("upload-length", "11")],
            "x",
            400,
            "upload_length_conflict",
            "length is 11, but 10",
        ),
        patch(
            "too much",
            &location,
            &[TUS, BYTES, ("upload-offset", "0"), ("content-length", "11")],
            "01234567890",
            413,
            "upload_overrun",
            "announced length 10",
        ),
        patch("unknown", unknown, &at("0"), "x", 404, "upload_not_found", "no upload at this address"),
        patch("no id", "/v1/uploads/x", &at("0"), "x", 404, "upload_not_found", ""),
        case(
            "post alone",
            "POST",
            &location,
            &[TUS],
            405,
            "method_not_allowed",
            "Use one of: HEAD, PATCH, DELETE, OPTIONS",
        ),
        case(
            "two overrides",
            "POST",
            &location,
            &[TUS, ("x-http-method-override", "HEAD"), ("x-http-method-override", "DELETE")],
            400,
            "header_invalid",
            "X-HTTP-Method-Override must be given once; got \"HEAD and DELETE\"",
        ),
        patch(
            "an offset beyond every file",
            &location,
            &at("18446744073709551615"),
            "x",
            400,
            "header_invalid",
            "Upload-Offset must be a whole number of bytes",
        ),
        case("get", "GET", &location, &[TUS], 405, "method_not_allowed", "GET is not possible here"),
        case("head unknown", "HEAD", unknown, &[TUS], 404, "upload_not_found", ""),
        case("delete unknown", "DELETE", unknown, &[TUS], 404, "upload_not_found", ""),
    ] {
        let reply = check(&app, case).await;
        assert_eq!(reply.headers.get("upload-offset"), None, "{reply:?}");
    }
    assert_eq!(app.head(&location).await.offset(), 0, "nothing of all that was stored");

    let empty = check(&app, patch("zero bytes", &location, &at("0"), "", 204, "", "")).await;
    assert_eq!(empty.offset(), 0);
    let typed = [TUS, ("content-type", "Application/Offset+Octet-Stream; x=y"), ("upload-offset", "0")];
    assert_eq!(check(&app, patch("some", &location, &typed, "0123", 204, "", "")).await.offset(), 4);
    let again =
        check(&app, patch("the same again", &location, &at("0"), "0123", 409, "offset_conflict", "stands at 4")).await;
    assert_eq!(again.json()["params"]["offset"], "4");
    let override_patch = [TUS, BYTES, ("upload-offset", "4"), ("x-http-method-override", "PATCH")];
    let overridden = Case { body: "45", ..case("override", "POST", &location, &override_patch, 204, "", "") };
    assert_eq!(check(&app, overridden).await.offset(), 6);

    // A body without a length that brings too much: the upload must not become full with the begin of something longer.
    for parts in [&["67", "89", "ab"][..], &["6789a"], &["6789", "a"]] {
        let overrun = app.patch(&location, 6, axum::body::Body::from_stream(chunks(parts))).await;
        assert_eq!((overrun.status, overrun.code()), (413, "upload_overrun".to_owned()));
        assert_eq!(app.head(&location).await.offset(), 6, "{parts:?}");
    }
    assert_eq!(app.patch(&location, 6, axum::body::Body::from_stream(chunks(&["67", "89"]))).await.offset(), 10);
    let over =
        check(&app, case("delete a finished one", "DELETE", &location, &[TUS], 404, "upload_not_found", "")).await;
    assert!(over.body.contains("upload"), "{over:?}");
}

#[tokio::test]
async fn how_an_upload_ended_is_told_also_where_there_is_no_body() {
    let world = World::new().await;
    let app = world.app().await;
    let (expired, cancelled) = (app.create(10, "").await.location(), app.create(10, "").await.location());
    check(&app, case("delete", "DELETE", &cancelled, &[TUS], 204, "", "")).await;
    world.clock.advance(std::time::Duration::from_secs(25 * 3600));
    for (what, location, code, says) in [
        ("expired", &expired, "upload_expired", "Nothing arrived for 1d. Start a new upload."),
        ("cancelled", &cancelled, "upload_cancelled", "cancelled by the client"),
    ] {
        let head = check(&app, case(what, "HEAD", location, &[TUS], 410, code, "")).await;
        assert_eq!(head.headers.get("upload-offset"), None, "{head:?}");
        let patch = [TUS, BYTES, ("upload-offset", "0")];
        check(&app, case(what, "PATCH", location, &patch, 410, code, says)).await;
        check(&app, case(what, "DELETE", location, &[TUS], 410, code, says)).await;
    }
    app.settle().await;
    world.clock.advance(std::time::Duration::from_secs(25 * 3600));
    app.settle().await;
    for location in [&expired, &cancelled] {
        check(&app, case("forgotten", "HEAD", location, &[TUS], 404, "upload_not_found", "")).await;
    }
}

fn chunks(parts: &[&'static str]) -> impl futures_util::Stream<Item = Result<&'static str, std::io::Error>> + use<> {
    futures_util::stream::iter(parts.iter().map(|part| Ok(*part)).collect::<Vec<_>>())
}

#[tokio::test]
async fn taking_a_file_in() {
    let world = World::new().await;
    let app = world.app_with(Config { max_upload: Size(1000), max_body: Size(200), ..world.config() }).await;
    std::fs::write(world.root().join("a.mp4"), pattern(10)).unwrap();
    std::fs::write(world.root().join("large.mp4"), pattern(1001)).unwrap();
    std::fs::create_dir(world.root().join("sub")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", world.root().join("link.mp4")).unwrap();
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
        post("a link", r#"{"input":{"path":"link.mp4"}}"#, 403, "path_not_allowed", "link.mp4"),
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
        case("nowhere", "GET", "/v1/nowhere", &[], 404, "route_not_found", "nothing at /v1/nowhere"),
    ] {
        check(&app, case).await;
    }
}

#[tokio::test]
async fn limits_answer_with_what_is_reached_and_when_to_come_back() {
    let world = World::new().await;
    let app = world.app_with(Config { max_uploads: 2, ..world.config() }).await;
    let first = app.create(10, "").await;
    app.create(10, "").await;
    let create = || {
        case(
            "a third",
            "POST",
            "/v1/uploads",
            &[TUS, ("upload-length", "10")],
            429,
            "limit_reached",
            "already 2 open uploads; at most 2",
        )
    };
    let reply = check(&app, create()).await;
    assert_eq!(reply.headers["retry-after"], "5");
    assert_eq!(app.patch(&first.location(), 0, "0123456789").await.status, 204);
    check(&app, Case { status: 201, code: "", ..create() }).await;

    let slow = world.app_with(Config { requests_per_second: 1, ..world.config() }).await;
    let parked = || case("many", "GET", "/v1/parked", &[], 200, "", "");
    check(&slow, parked()).await;
    check(&slow, parked()).await;
    let limited = Case { status: 429, code: "rate_limited", says: "More than 1 a second requests", ..parked() };
    assert_eq!(check(&slow, limited).await.headers["retry-after"], "1");
    let create = [TUS, ("upload-length", "10")];
    check(&slow, case("many", "POST", "/v1/uploads", &create, 429, "rate_limited", "More than 1 a second")).await;
    world.clock.advance(std::time::Duration::from_secs(1));
    check(&slow, parked()).await;
}

#[tokio::test]
async fn every_route_has_a_row_and_is_the_one_that_is_told() {
    use axum::routing::MethodFilter;
    let world = World::new().await;
    let app = world.app().await;
    let rows = [
        ("OPTIONS", "/v1/uploads", 200, ""),
        ("POST", "/v1/uploads", 400, "header_invalid"),
        ("OPTIONS", "/v1/uploads/{upload}", 200, ""),
        ("HEAD", "/v1/uploads/{upload}", 404, "upload_not_found"),
        ("PATCH", "/v1/uploads/{upload}", 404, "upload_not_found"),
        ("DELETE", "/v1/uploads/{upload}", 404, "upload_not_found"),
        ("POST", "/v1/uploads/{upload}", 405, "method_not_allowed"),
        ("POST", "/v1/assets", 400, "body_invalid"),
        ("DELETE", "/v1/assets/{asset}", 404, "asset_not_found"),
        ("POST", "/v1/assets/{asset}/retry", 404, "asset_not_found"),
        ("GET", "/v1/parked", 200, ""),
        ("POST", "/v1/parked/{id}/release", 404, "parked_not_found"),
    ];
    for (method, path, status, code) in rows {
        let path = path.replace(['{', '}'], "");
        check(&app, case("nothing else is said", method, &path, &[TUS], status, code, "")).await;
    }
    let filter = |method: &str| match method {
        "OPTIONS" => MethodFilter::OPTIONS,
        "HEAD" => MethodFilter::HEAD,
        "GET" => MethodFilter::GET,
        "POST" => MethodFilter::POST,
        "PATCH" => MethodFilter::PATCH,
        "DELETE" => MethodFilter::DELETE,
        other => panic!("no filter for {other}"),
    };
    for (methods, path) in spool_gateway::ROUTES {
        let tried = rows.iter().filter(|row| row.1 == *path).map(|row| filter(row.0));
        assert_eq!(tried.reduce(MethodFilter::or), Some(*methods), "{path} has no row of its own for each method");
        // What the router itself would take, which may not be more than is told.
        let reply = app.send("TRACE", &path.replace(['{', '}'], ""), &[TUS], "").await;
        let allowed = reply.headers["allow"].split(',').map(str::trim).filter(|method| {
            // Whoever answers GET answers HEAD.
            *method != "HEAD" || filter("GET").or(*methods) != *methods
        });
        assert_eq!(allowed.map(filter).reduce(MethodFilter::or), Some(*methods), "{path}: {reply:?}");
    }
}

#[tokio::test]
async fn places_for_bytes_are_counted_and_one_client_has_a_share_of_them() {
    let world = World::new().await;
    for (config, words) in [
        (Config { max_transfers: 1, ..world.config() }, "already 1 running transfers; at most 1"),
        (Config { max_transfers_per_client: 1, ..world.config() }, "already 1 running transfers of this client"),
    ] {
        one_place(&world, config, words).await;
    }
}

/// While a request that brings bytes is under way, a second one of the same client is told to come back.
async fn one_place(world: &World, config: Config, words: &str) {
    let busy = world.app_with(config).await;
    let (held, other) = (busy.create(10, "").await, busy.create(10, "").await);
    let (sender, body) = crate::common::channel();
    let second = async {
        sender.send(Ok("0".into())).await.unwrap();
        eventually("the first one reads", async || sender.capacity() == 1).await;
        let reply = busy.patch(&other.location(), 0, "").await;
        let registered = busy.log.last_sequence().await.unwrap();
        let create = [TUS, BYTES, ("upload-length", "5")];
        let created =
            Case { body: "hello", ..case("create", "POST", "/v1/uploads", &create, 429, "limit_reached", words) };
        check(&busy, created).await;
        assert_eq!(busy.log.last_sequence().await.unwrap(), registered, "nothing was registered");
        drop(sender);
        reply
    };
    let held = held.location();
    let (first, second) = tokio::join!(busy.patch(&held, 0, body), second);
    assert_eq!((first.status, second.code()), (204, "limit_reached".to_owned()), "{first:?} {second:?}");
    assert!(second.body.contains(words), "{second:?}");
    assert_eq!(busy.patch(&other.location(), 0, "0123456789").await.status, 204, "the place is free again");
}
