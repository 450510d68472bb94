//! Rows of one upload: bytes that come, where it stands, how it ended.

use super::{Case, case, check};
use crate::common::{BYTES, TUS, World};

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
        case(
            "another override",
            "POST",
            &location,
            &[TUS, ("x-http-method-override", "GET")],
            405,
            "method_not_allowed",
            "GET (by X-HTTP-Method-Override) is not possible here. Use one of: HEAD, PATCH, DELETE, OPTIONS",
        ),
        case(
            "no method",
            "POST",
            &location,
            &[TUS, ("x-http-method-override", "PAT CH")],
            400,
            "header_invalid",
            "X-HTTP-Method-Override must be the name of a method; got \"PAT CH\"",
        ),
        case(
            "an override of creation",
            "POST",
            "/v1/uploads",
            &[TUS, ("upload-length", "1"), ("x-http-method-override", "PATCH")],
            405,
            "method_not_allowed",
            "PATCH (by X-HTTP-Method-Override) is not possible here. Use one of: POST, OPTIONS",
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
    // The request's own method counts for nothing then (tus 1.0.0), whatever it is.
    let means_head = [TUS, ("x-http-method-override", "HEAD")];
    assert_eq!(
        check(&app, case("DELETE that means HEAD", "DELETE", &location, &means_head, 200, "", "")).await.offset(),
        6
    );

    // A body without a length that brings too much: the upload must not become full with the begin of something longer.
    for parts in [&["67", "89", "ab"][..], &["6789a"], &["6789", "a"]] {
        let overrun = app.patch(&location, 6, axum::body::Body::from_stream(chunks(parts))).await;
        assert_eq!((overrun.status, overrun.code()), (413, "upload_overrun".to_owned()));
        assert_eq!(app.head(&location).await.offset(), 6, "{parts:?}");
    }
    assert_eq!(app.patch(&location, 6, axum::body::Body::from_stream(chunks(&["67", "89"]))).await.offset(), 10);
    let end = [TUS, BYTES, ("upload-offset", "10")];
    assert_eq!(check(&app, patch("nothing behind the end", &location, &end, "", 204, "", "")).await.offset(), 10);
    let announced = [TUS, BYTES, ("upload-offset", "10"), ("content-length", "1")];
    let says = "announced length 10";
    check(&app, patch("a byte behind the end", &location, &announced, "a", 413, "upload_overrun", says)).await;
    let behind = app.patch(&location, 10, axum::body::Body::from_stream(chunks(&["", "a"]))).await;
    assert_eq!((behind.status, behind.code()), (413, "upload_overrun".to_owned()), "of no announced length");
    check(&app, patch("what is stored already", &location, &at("6"), "6789", 409, "offset_conflict", "at 10")).await;
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
