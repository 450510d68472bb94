//! Rows of `POST` and `OPTIONS /v1/uploads`: what begins an upload, and what is refused before anything is registered.

use spool_gateway::Config;
use spool_kit::units::Bytes as Size;

use super::{Case, case, check};
use crate::common::{BYTES, TUS, World};

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
