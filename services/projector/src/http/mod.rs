//! Every read over HTTP. Handlers are thin: they take the request apart, read the view, and put pure answers together.
//!
//! ```text
//! GET /v1/assets                 list: ?status= &limit= &cursor= &tenant= &at_least=
//! GET /v1/assets/{id}            one asset; ETag is its version; ?at_least= waits for a sequence
//! GET /v1/assets/{id}/events     its history: ?after= &limit=; stays readable after the asset is deleted
//! GET /v1/assets/{id}/explain    what it waits for
//! GET /v1/events                 live changes (SSE): Last-Event-ID or ?after=, &asset= &tenant=
//! GET /v1/view                   how the view stands
//! POST /v1/view/rebuild          builds a new view beside this one
//! GET /play/{playback}/{path}    playlists, objects, still pictures
//! ```

pub mod assets;
pub mod events;
pub mod play;
pub mod range;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, get, post};
use spool_kit::web::{Query, Refusal};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::projector::Deps;
use crate::reader::Shared;

/// Methods and paths of the role, for processes that do not run it.
pub const ROUTES: &[(MethodFilter, &str)] = &[
    (MethodFilter::GET, "/v1/assets"),
    (MethodFilter::GET, "/v1/assets/{asset}"),
    (MethodFilter::GET, "/v1/assets/{asset}/events"),
    (MethodFilter::GET, "/v1/assets/{asset}/explain"),
    (MethodFilter::GET, "/v1/events"),
    (MethodFilter::GET, "/v1/view"),
    (MethodFilter::POST, "/v1/view/rebuild"),
    (MethodFilter::GET, "/play/{playback}/{*path}"),
];

/// What handlers stand on.
pub(crate) struct Reads {
    pub(crate) config: Config,
    pub(crate) deps: Deps,
    pub(crate) shared: Arc<Shared>,
    /// Places for live connections.
    pub(crate) followers: Arc<Semaphore>,
    /// Live connections end when this is cancelled.
    pub(crate) stop: CancellationToken,
}

impl Reads {
    pub(crate) fn new(config: &Config, deps: &Deps, shared: Arc<Shared>, stop: CancellationToken) -> Self {
        let followers = Arc::new(Semaphore::new(config.max_followers as usize));
        Self { config: config.clone(), deps: deps.clone(), shared, followers, stop }
    }
}

/// The routes of the role. `{asset}` is also what the gateway calls it: routes that share a path must share its spelling.
pub(crate) fn routes(reads: Arc<Reads>) -> Router {
    Router::new()
        .route("/v1/assets", get(assets::list))
        .route("/v1/assets/{asset}", get(assets::one))
        .route("/v1/assets/{asset}/events", get(assets::history))
        .route("/v1/assets/{asset}/explain", get(assets::explain))
        .route("/v1/events", get(events::follow))
        .route("/v1/view", get(view))
        .route("/v1/view/rebuild", post(rebuild))
        .route("/play/{playback}/{*path}", get(play::serve))
        .with_state(reads)
}

async fn view(State(reads): State<Arc<Reads>>, query: Query) -> Result<Response, Refusal> {
    query.only(&[])?;
    Ok(axum::Json(reads.shared.state()).into_response())
}

async fn rebuild(State(reads): State<Arc<Reads>>, query: Query) -> Result<Response, Refusal> {
    query.only(&[])?;
    reads.shared.rebuild.notify_one();
    Ok((StatusCode::ACCEPTED, axum::Json(reads.shared.state())).into_response())
}

#[cfg(test)]
mod tests;
