//! The routes of the gateway. Reads of assets are the projector's; here is what changes something.

mod assets;
mod create;
mod headers;
mod metadata;
mod parked;
mod transfer;
mod tus;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::HeaderMap;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, delete, get, post};
use spool_kit::web::{Actor, METHOD_OVERRIDE, Query, Refusal};
use spool_nats::trace;
use spool_proto::{Code, Problem};
use tracing::Instrument as _;

use crate::inner::Inner;

pub(crate) use metadata::check_text;

/// Methods and paths served here, for a process that does not run this role (`spool_kit::web::absent`).
pub const ROUTES: &[(MethodFilter, &str)] = &[
    (MethodFilter::POST.or(MethodFilter::OPTIONS), "/v1/uploads"),
    (
        MethodFilter::HEAD
            .or(MethodFilter::PATCH)
            .or(MethodFilter::DELETE)
            .or(MethodFilter::POST)
            .or(MethodFilter::OPTIONS),
        "/v1/uploads/{upload}",
    ),
    (MethodFilter::POST, "/v1/assets"),
    (MethodFilter::DELETE, "/v1/assets/{asset}"),
    (MethodFilter::POST, "/v1/assets/{asset}/retry"),
    (MethodFilter::GET, "/v1/parked"),
    (MethodFilter::POST, "/v1/parked/{id}/release"),
];

/// A request waits this long for a log that is away, so that a reconnect of a blink is not seen. Calls are tried again for longer
/// (`spool_nats`), which suits roles that have nobody waiting; most clients give up after half a minute.
const LOG_AWAY: Duration = Duration::from_secs(4);
/// The same for a request whose bytes were coming when the log went: they would have to be sent again.
const LOG_AWAY_WITH_BYTES: Duration = Duration::from_secs(20);
/// When a client that was refused so may come back.
const LOG_RETRY_AFTER: Duration = Duration::from_secs(5);

/// What a handler answers.
type Answer = Result<Response, Refusal>;

/// The routes, to be merged with those of other roles and wrapped in `spool_kit::web::shell`.
pub(crate) fn routes(inner: &Arc<Inner>) -> Router {
    let uploads = Router::new()
        .route("/v1/uploads", post(tus::begin).options(tus::begin))
        .route(
            "/v1/uploads/{upload}",
            axum::routing::on(MethodFilter::HEAD, tus::one)
                .patch(tus::one)
                .delete(tus::one)
                .post(tus::one)
                .options(tus::one),
        )
        .route_layer(middleware::from_fn_with_state(Arc::clone(inner), admit))
        // Outermost: every answer of tus states its version, also one to a client that sends too much.
        .route_layer(middleware::from_fn_with_state(Arc::clone(inner), tus::version));
    let commands = Router::new()
        .route("/v1/assets", post(assets::take_in))
        .route("/v1/assets/{asset}", delete(assets::remove))
        .route("/v1/assets/{asset}/retry", post(assets::retry))
        .route("/v1/parked/{id}/release", post(parked::release))
        .route_layer(middleware::from_fn(no_parameters))
        .route("/v1/parked", get(parked::list))
        .route_layer(middleware::from_fn_with_state(Arc::clone(inner), admit));
    uploads.merge(commands).with_state(Arc::clone(inner))
}

/// A command says everything in its address, headers and body: what somebody wrote behind a `?` would be lost in silence.
/// Nor is another method taken than the request's own: that is tus's, and who means another one must not get this one.
async fn no_parameters(query: Query, request: Request, next: Next) -> Response {
    if let Some(value) = request.headers().get(METHOD_OVERRIDE) {
        let reason = "is taken by /v1/uploads alone; send the method itself";
        return headers::invalid(METHOD_OVERRIDE, reason, value.as_bytes()).into_response();
    }
    match query.only(&[]) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Refuses a client that sends more requests than it may. What is admitted runs under a trace, the client's or a new one, which
/// every fact that it leads to carries on.
async fn admit(State(inner): State<Arc<Inner>>, request: Request, next: Next) -> Response {
    let client = client(&request);
    match inner.rate.admit(&client, inner.clock.monotonic()) {
        Ok(()) => {
            let given = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
            let given = given.filter(|text| trace::id(text).is_some()).map(ToOwned::to_owned);
            let traceparent = given.unwrap_or_else(|| inner.ids.traceparent());
            let span = tracing::info_span!("door", trace.id = trace::id(&traceparent));
            let gone = log_gone(&inner, request.headers());
            let answer = trace::scope(Some(traceparent), next.run(request)).instrument(span);
            tokio::select! {
                // What can be said without the log is said.
                biased;
                answer = answer => answer,
                // As if the client had gone: every handler can be dropped at any point.
                refusal = gone => refusal.into_response(),
            }
        }
        Err(wait) => {
            let seconds = u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1);
            let problem = Problem::new(Code::RateLimited)
                .with("limit", format!("{} a second", inner.config.requests_per_second))
                .with("retry_after", format!("{seconds} s"));
            Refusal::from(problem).after(Duration::from_secs(seconds)).into_response()
        }
    }
}

/// Waits until the log has been away for longer than this request can wait.
fn log_gone(inner: &Inner, headers: &HeaderMap) -> impl Future<Output = Refusal> + use<> {
    let comes = headers::brings_bytes(headers).unwrap_or(false) && inner.log.away_for().is_none();
    let (log, patience) = (inner.log.clone(), if comes { LOG_AWAY_WITH_BYTES } else { LOG_AWAY });
    async move {
        log.gone(patience).await;
        tracing::warn!("a request is refused: the log has been away for {patience:?}");
        Refusal::from(Problem::new(Code::Unavailable).with("what", "The log")).after(LOG_RETRY_AFTER)
    }
}

/// Who sends a request: its key, else its address. Requests of unknown origin share one name.
fn client(request: &Request) -> String {
    if let Some(Actor(actor)) = request.extensions().get::<Actor>() {
        return actor.clone();
    }
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    peer.map(|ConnectInfo(address)| address.ip().to_string()).unwrap_or_default()
}

fn actor(extensions: &axum::http::Extensions) -> Option<String> {
    extensions.get::<Actor>().map(|Actor(actor)| actor.clone())
}

/// Longest `Idempotency-Key`.
const MAX_KEY: usize = 255;

/// The `Idempotency-Key` of a request.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = headers::single(headers, "Idempotency-Key")? else { return Ok(None) };
    match value.to_str() {
        Ok(text) if !text.is_empty() && text.len() <= MAX_KEY => Ok(Some(text.to_owned())),
        Ok(_) | Err(_) => Err(headers::invalid(
            "Idempotency-Key",
            &format!("must be 1 to {MAX_KEY} characters of ASCII"),
            value.as_bytes(),
        )),
    }
}
