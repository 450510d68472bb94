//! One row a route, so that none is without.

use super::{case, check};
use crate::common::{TUS, World};

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
