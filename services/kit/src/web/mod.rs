//! HTTP answers, the same from every role: RFC 9457 problems with a stable code, CORS also on errors, a request id, no body
//! to HEAD, and a clear answer for what this process does not serve.
//!
//! A role builds a plain [`Router`]; the process merges them and wraps the whole once in [`shell`].

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use axum::{Json, Router};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::json;
use spool_proto::problem::Retry;
use spool_proto::{Code, Problem, Role, Timestamp};
use tracing::Instrument as _;

mod query;

use crate::ids::Ids;

pub use query::Query;

/// Name of the header that carries a request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Name of the header that carries a problem's code: an answer to HEAD has no body to say it in.
pub const CODE: HeaderName = HeaderName::from_static("spool-code");
/// By this one a client says that it means another method. It is tus's; no other route takes it.
pub const METHOD_OVERRIDE: &str = "X-HTTP-Method-Override";
/// A client's own request id is cut to this.
const REQUEST_ID_CHARS: usize = 36;
/// What a client is told to wait when a problem says "later" and nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A command is small, so its body comes in this time: a client that gives a byte now and then holds no connection for long.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Methods that a page of another origin may use.
const CORS_METHODS: &str = "GET, HEAD, POST, PATCH, DELETE, OPTIONS";
/// Headers that such a page may send; those of what is not offered too, so that it is told so and not "network error".
const CORS_ALLOW: &str = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, If-None-Match, Range, Origin, \
     X-Requested-With, X-Request-ID, X-HTTP-Method-Override, Upload-Length, Upload-Offset, Upload-Metadata, \
     Upload-Defer-Length, Upload-Concat, Upload-Checksum, Tus-Resumable, Traceparent";
/// Headers that such a page may read.
const CORS_EXPOSE: &str = "Location, ETag, Retry-After, Content-Range, Accept-Ranges, X-Request-ID, Upload-Offset, \
     Upload-Length, Upload-Metadata, Upload-Defer-Length, Upload-Expires, Tus-Resumable, Tus-Version, Tus-Extension, \
     Tus-Max-Size, Spool-Asset, Spool-Sequence, Spool-Code";
/// How long a browser may remember an answer about CORS, in seconds.
const CORS_MAX_AGE: &str = "86400";

/// A request that was not carried out: a problem on its way to the client.
#[derive(Debug)]
pub struct Refusal {
    /// What was wrong.
    pub problem: Problem,
    /// How long to wait, where waiting helps.
    pub retry_after: Option<Duration>,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// The problem with a header added.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: impl TryInto<HeaderValue>) -> Self {
        // A value that no header can hold is left out: the problem itself matters more.
        self.headers.extend(value.try_into().ok().map(|value| (name, value)));
        self
    }

    /// The problem with the time after which it may be tried again.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.problem.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        // Where the log is to be looked at, whoever it was that did not say.
        let problem = match problem.code == Code::Internal && !problem.params.contains_key("trace") {
            true => problem.with("trace", "this request's X-Request-ID"),
            false => problem,
        };
        let retry_after = match problem.code.retry() {
            Retry::AfterWait => Some(RETRY_AFTER),
            Retry::Never | Retry::AtOnce => None,
        };
        Self { problem, retry_after, headers: Vec::new() }
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Problem::new(code).into()
    }
}

/// Opaque key id of who sent a request. Whoever checks the token puts it into the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor(pub String);

/// A point in time as HTTP headers write it: `Sat, 21 Nov 2026 06:00:00 GMT`.
pub fn http_date(at: Timestamp) -> String {
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let time = time::OffsetDateTime::from_unix_timestamp(at.as_ms().div_euclid(1000));
    // Only years beyond 9999 have no such text, and no header of ours is about those.
    time.ok().and_then(|time| time.format(&format).ok()).unwrap_or_default()
}

/// The body of a problem as JSON.
pub fn problem_json(problem: &Problem) -> serde_json::Value {
    let code = problem.code;
    json!({
        "type": format!("urn:spool:problem:{code}"),
        "title": code.title(),
        "status": code.status(),
        "detail": problem.detail(),
        "code": code,
        "fault": code.fault(),
        "retryable": code.retry() != Retry::Never,
        "params": problem.params,
    })
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(problem_json(&self.problem))).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CODE, HeaderValue::from_static(self.problem.code.name()));
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
        }
        headers.extend(self.headers);
        response
    }
}

/// Reads a JSON body of at most `limit_bytes`.
///
/// # Errors
/// `body_too_large`, or `body_invalid` with what is wrong and where.
pub async fn json_body<T: DeserializeOwned>(body: Body, limit_bytes: u64) -> Result<T, Refusal> {
    parse_json(&whole_body(body, limit_bytes).await?)
}

/// Reads a body of at most `limit_bytes`, which must come in [`BODY_TIME`].
///
/// # Errors
/// `body_too_large`, or `body_invalid` when the connection broke or it came too slowly.
pub async fn whole_body(body: Body, limit_bytes: u64) -> Result<Bytes, Refusal> {
    within(BODY_TIME, read(body, limit_bytes)).await
}

async fn within(time: Duration, body: impl Future<Output = Result<Bytes, Refusal>>) -> Result<Bytes, Refusal> {
    let late = || {
        let detail = format!("it did not come within {} s", time.as_secs());
        Refusal::from(Problem::new(Code::BodyInvalid).with("detail", detail))
    };
    tokio::time::timeout(time, body).await.unwrap_or_else(|_| Err(late()))
}

async fn read(body: Body, limit_bytes: u64) -> Result<Bytes, Refusal> {
    use axum::body::HttpBody as _;
    let too_large = || Refusal::from(Problem::new(Code::BodyTooLarge).with("limit_bytes", limit_bytes));
    if body.size_hint().lower() > limit_bytes {
        return Err(too_large());
    }
    let limit = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
    axum::body::to_bytes(body, limit).await.map_err(|error| {
        // The only way to tell "too long" from "cut off" is the type of the source.
        let text = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        if text.contains("length limit") {
            return too_large();
        }
        Problem::new(Code::BodyInvalid).with("detail", "it ended before its announced length").into()
    })
}

/// Reads JSON.
///
/// # Errors
/// `body_invalid` with what is wrong and where.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| Problem::new(Code::BodyInvalid).with("detail", error).into())
}

/// Routes of a role that does not run in this process: each says so.
pub fn absent(role: Role, routes: &[(MethodFilter, &str)]) -> Router {
    routes.iter().fold(Router::new(), |router, (method, path)| {
        let refuse = move || async move { Refusal::from(Problem::new(Code::RoleAbsent).with("role", role)) };
        router.route(path, on(*method, refuse))
    })
}

/// Wraps the merged routes of a process: request id and span, problems for what has no route, CORS on everything, no body
/// in answers to HEAD.
pub fn shell(routes: Router, ids: Ids) -> Router {
    let routes = routes.fallback(|request: Request| async move {
        Refusal::from(Problem::new(Code::RouteNotFound).with("path", request.uri().path()))
    });
    // A router of its own around them: a layer on the routes themselves would run before `Allow` is known.
    let around = middleware::from_fn(move |request, next| around(ids.clone(), request, next));
    Router::new().fallback_service(routes).layer(around)
}

async fn around(ids: Ids, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let id = request_id(request.headers()).unwrap_or_else(|| ids.request_id());
    let preflight = method == Method::OPTIONS && request.headers().contains_key("access-control-request-method");
    let path = request.uri().path().to_owned();
    let overridden = request.headers().contains_key(METHOD_OVERRIDE);
    let span = tracing::info_span!("request", request.id = %id, http.method = %method, http.path = %path);
    let response = next.run(request).instrument(span).await;

    let mut response = name_the_method(response, &method, overridden);
    if preflight && response.status() != StatusCode::OK {
        let kept = response.headers().clone();
        response = StatusCode::OK.into_response();
        response.headers_mut().extend(kept.into_iter().filter(|(name, _)| *name == Some(header::ALLOW)));
    }
    if method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    decorate(response.headers_mut(), preflight, &id);
    response
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(REQUEST_ID)?.to_str().ok()?;
    let id: String = text.chars().filter(|c| c.is_ascii_graphic()).take(REQUEST_ID_CHARS).collect();
    (!id.is_empty()).then_some(id)
}

/// The router's own "method not allowed" has no body; it gets one that names the method and what is possible, also to who
/// meant another one than that and could not know that it was not looked at.
fn name_the_method(response: Response, method: &Method, overridden: bool) -> Response {
    let typed = response.headers().contains_key(header::CONTENT_TYPE);
    if response.status() != StatusCode::METHOD_NOT_ALLOWED || typed {
        return response;
    }
    let allow = response.headers().get(header::ALLOW).cloned();
    let words = allow.as_ref().and_then(|value| value.to_str().ok()).unwrap_or("nothing").replace(',', ", ");
    let not_taken =
        if overridden { format!(", with {METHOD_OVERRIDE} taken by /v1/uploads alone,") } else { String::new() };
    let named = format!("{method}{not_taken}");
    let problem = Problem::new(Code::MethodNotAllowed).with("method", named).with("allow", words);
    let mut response = Refusal::from(problem).into_response();
    response.headers_mut().extend(allow.map(|value| (header::ALLOW, value)));
    response
}

fn decorate(headers: &mut HeaderMap, preflight: bool, id: &str) {
    let mut set = |name: HeaderName, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
    set(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    set(header::ACCESS_CONTROL_EXPOSE_HEADERS, CORS_EXPOSE);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if preflight {
        set(header::ACCESS_CONTROL_ALLOW_METHODS, CORS_METHODS);
        set(header::ACCESS_CONTROL_ALLOW_HEADERS, CORS_ALLOW);
        set(header::ACCESS_CONTROL_MAX_AGE, CORS_MAX_AGE);
    }
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, value);
    }
}

#[cfg(test)]
mod tests;
