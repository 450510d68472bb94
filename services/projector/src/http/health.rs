//! `/livez`: the process answers. `/readyz`: the view has everything the log held when the process started.

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use spool_kit::web::Refusal;
use spool_proto::{Code, Problem};

use crate::projector::Handle;

/// Health of this role alone.
pub(crate) fn routes(handle: Handle) -> Router {
    Router::new()
        .route("/livez", get(|| async { (StatusCode::OK, "ok\n") }))
        .route("/readyz", get(move || async move { ready(&handle) }))
}

fn ready(handle: &Handle) -> Response {
    if handle.is_ready() {
        return (StatusCode::OK, "ok\n").into_response();
    }
    let state = handle.state();
    let wanted = state["ready_at"].as_u64().map_or_else(|| "the log's end".to_owned(), |at| at.to_string());
    Refusal::from(Problem::new(Code::ViewBehind).with("position", handle.position()).with("wanted", wanted))
        .into_response()
}
