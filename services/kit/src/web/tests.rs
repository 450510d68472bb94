//! The shell around the routes, as a client sees it.

use axum::routing::get;
use http_body_util::BodyExt as _;
use tower_service::Service as _;

use super::*;

async fn send(method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap, String) {
    let routes = Router::new()
        .route("/here", get(|| async { "hello" }))
        .merge(absent(Role::Projector, &[(MethodFilter::GET, "/elsewhere/{id}"), (MethodFilter::POST, "/here")]));
    let mut app = shell(routes, Ids::seeded(1)).into_service();
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = app.call(request.body(Body::empty()).expect("a request")).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).expect("text"))
}

#[tokio::test]
async fn an_unknown_address_is_a_problem_with_cors() {
    let (status, headers, body) = send("GET", "/nowhere", &[]).await;
    assert_eq!(status, 404);
    assert_eq!(headers["content-type"], "application/problem+json");
    assert_eq!(headers["access-control-allow-origin"], "*");
    let body: serde_json::Value = serde_json::from_str(&body).expect("json");
    assert_eq!(body["code"], "route_not_found");
    assert_eq!(body["type"], "urn:spool:problem:route_not_found");
    assert_eq!(body["detail"], "There is nothing at /nowhere. See the README for the routes.");
    assert_eq!(body["retryable"], false);
}

#[tokio::test]
async fn a_wrong_method_is_named_with_the_right_ones() {
    let (status, headers, body) = send("DELETE", "/here", &[]).await;
    assert_eq!(status, 405);
    assert!(headers["allow"].to_str().expect("text").contains("GET"));
    assert!(body.contains("DELETE is not possible here. Use one of: GET, HEAD, POST."), "{body}");
    let (_, _, body) = send("DELETE", "/here", &[("x-http-method-override", "GET")]).await;
    let words = "DELETE, with X-HTTP-Method-Override taken by /v1/uploads alone, is not possible here.";
    assert!(body.contains(words), "{body}");
}

#[tokio::test]
async fn a_route_of_an_absent_role_says_so_and_when_to_come_back() {
    for (method, path) in [("GET", "/elsewhere/1"), ("POST", "/here")] {
        let (status, headers, body) = send(method, path, &[]).await;
        assert_eq!(status, 503, "{method} {path}");
        assert_eq!(headers["retry-after"], "2");
        assert!(body.contains("Role projector does not run in this process."), "{body}");
    }
}

#[tokio::test]
async fn head_has_no_body_also_in_errors() {
    assert_eq!(send("HEAD", "/nowhere", &[]).await.2, "");
    let (status, _, body) = send("HEAD", "/here", &[]).await;
    assert_eq!((status, body.as_str()), (200, ""));
}

#[tokio::test]
async fn a_preflight_is_answered_for_any_address() {
    let (status, headers, _) =
        send("OPTIONS", "/here", &[("origin", "https://a.example"), ("access-control-request-method", "PATCH")]).await;
    assert_eq!(status, 200);
    assert!(headers["access-control-allow-methods"].to_str().expect("text").contains("PATCH"));
    let allowed = headers["access-control-allow-headers"].to_str().expect("text");
    // The last two are not offered: a browser that may not even ask tells its user of a network error.
    assert!(
        ["Upload-Offset", "Upload-Concat", "Upload-Checksum"].iter().all(|name| allowed.contains(name)),
        "{allowed}"
    );
}

#[tokio::test]
async fn a_request_id_comes_back_cut_and_clean() {
    let long = "a".repeat(50);
    assert_eq!(send("GET", "/here", &[("x-request-id", &long)]).await.1["x-request-id"], "a".repeat(36));
    assert!(send("GET", "/here", &[]).await.1["x-request-id"].to_str().expect("text").starts_with("req_"));
}

#[tokio::test]
async fn a_body_over_its_limit_and_one_that_is_no_json_are_told_apart() {
    let large = json_body::<serde_json::Value>(Body::from("x".repeat(11)), 10).await.expect_err("too large");
    assert_eq!(large.problem, Problem::new(Code::BodyTooLarge).with("limit_bytes", 10));
    let streamed = Body::from_stream(futures_util::stream::iter((0..11).map(|_| Ok::<_, std::io::Error>("x"))));
    let large = json_body::<serde_json::Value>(streamed, 10).await.expect_err("too large");
    assert_eq!(large.problem.code, Code::BodyTooLarge);
    let bad = json_body::<serde_json::Value>(Body::from("{"), 10).await.expect_err("no json");
    assert_eq!(bad.problem.code, Code::BodyInvalid);
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let endless = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
    let late = within(Duration::from_millis(1), read(endless, 10)).await.expect_err("it never ends");
    assert_eq!(late.problem, Problem::new(Code::BodyInvalid).with("detail", "it did not come within 0 s"));
}

#[tokio::test]
async fn the_code_stands_in_a_header_too_where_there_is_no_body() {
    let (_, headers, body) = send("HEAD", "/nowhere", &[]).await;
    assert_eq!((headers["spool-code"].as_bytes(), body.as_str()), (&b"route_not_found"[..], ""));
}

#[test]
fn a_date_in_a_header_is_in_gmt() {
    assert_eq!(http_date(Timestamp::from_ms(1_795_240_800_123)), "Sat, 21 Nov 2026 06:00:00 GMT");
}

#[test]
fn what_broke_inside_is_found_in_the_log_by_the_request() {
    let told = Refusal::from(Code::Internal).problem.detail();
    assert!(told.contains("under this request's X-Request-ID"), "{told}");
    let traced = Refusal::from(Problem::new(Code::Internal).with("trace", "abc")).problem.detail();
    assert!(traced.contains("under abc"), "{traced}");
}
