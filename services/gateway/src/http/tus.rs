//! tus 1.0.0: core, creation, creation-with-upload, termination, expiration.
//!
//! An answered offset is always stored bytes. The whole length is answered only once `SourceStored` stands.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use spool_kit::web::{METHOD_OVERRIDE, Refusal, http_date};
use spool_nats::Versioned;
use spool_proto::event::Door;
use spool_proto::id::UploadId;
use spool_proto::{Code, Problem, Timestamp};

use super::headers::{OFFSET_OCTET_STREAM, brings_bytes, bytes, invalid, optional_bytes, single};
use super::transfer::{place, store};
use super::{Answer, client};
use crate::inner::Inner;
use crate::trouble::Trouble;
use crate::upload::end::{End, close, settle};
use crate::upload::entry::Entry;

const RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const VERSION: HeaderName = HeaderName::from_static("tus-version");
const EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
pub(super) const MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
pub(super) const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
pub(super) const ASSET: HeaderName = HeaderName::from_static("spool-asset");

const ONE: HeaderValue = HeaderValue::from_static("1.0.0");
const EXTENSIONS: &str = "creation,creation-with-upload,termination,expiration";
/// What a client may count on elsewhere and not here, and what it may do instead. Passed over in silence, the first would be
/// a protection that is not there, and the second a video of each part.
const NOT_OFFERED: [(&str, &str); 3] = [
    ("Upload-Checksum", "send sha256 in Upload-Metadata, which is checked at the end"),
    ("Upload-Concat", "send the file as one upload"),
    ("Upload-Defer-Length", "say Upload-Length"),
];

/// Around every tus route: the version is checked first, and every answer states it.
pub(super) async fn version(State(_): State<Arc<Inner>>, request: Request, next: Next) -> Response {
    let mut response = match meant(&request).and_then(|meant| spoken(&meant.method, request.headers())) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    response.headers_mut().insert(RESUMABLE, ONE);
    response
}

/// Is this tus as it is spoken here?
fn spoken(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    if method == Method::OPTIONS {
        return Ok(());
    }
    let version = single(headers, "Tus-Resumable")?;
    if version != Some(&ONE) {
        let value = version.map_or_else(|| "missing".to_owned(), |value| format!("{value:?}"));
        return Err(Refusal::from(Problem::new(Code::TusVersion).with("value", value)).header(VERSION, ONE));
    }
    for (name, instead) in NOT_OFFERED {
        if let Some(value) = headers.get(name) {
            let reason = format!("is of no extension that is offered here ({EXTENSIONS}): {instead}");
            return Err(invalid(name, &reason, value.as_bytes()));
        }
    }
    Ok(())
}

pub(super) async fn options(State(inner): State<Arc<Inner>>) -> Response {
    let headers = [
        (VERSION, ONE),
        (EXTENSION, HeaderValue::from_static(EXTENSIONS)),
        (MAX_SIZE, HeaderValue::from(inner.config.max_upload.0)),
    ];
    // 200 and not 204: some browsers refuse the latter as an answer to a preflight.
    (StatusCode::OK, headers).into_response()
}

pub(super) fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    // Ids, dates and metadata that came in a header are all valid in one; nothing else is put here.
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

pub(super) fn expires(headers: &mut HeaderMap, inner: &Inner, moved_at: Timestamp, full: bool) {
    if !full {
        set(headers, EXPIRES, &http_date(moved_at.plus(inner.config.upload_expiry.0)));
    }
}

/// The entry behind an address. Only uploads are found here: a file that is copied in has no address.
async fn find(inner: &Inner, upload: &str) -> Result<(UploadId, Versioned<Entry>), Refusal> {
    let not_found = || Refusal::from(Code::UploadNotFound);
    let upload: UploadId = upload.parse().map_err(|_| not_found())?;
    let entry = inner.entries.get(&upload).await.map_err(Trouble::from)?;
    let entry = entry.filter(|entry| entry.value.door == Door::Upload).ok_or_else(not_found)?;
    Ok((upload, entry))
}

/// The entry as it is after its outcome was stated, if one is due: a full upload is a stored one from here on, and one that
/// ended without a source is refused with its reason.
async fn settled(inner: &Inner, upload: &UploadId, entry: &Versioned<Entry>) -> Result<Option<End>, Refusal> {
    let expired = is_expired(inner, &entry.value);
    let end = if expired {
        close(inner, upload, entry.clone(), &expiry_problem(inner), |entry| is_expired(inner, entry)).await?
    } else {
        settle(inner, upload, entry).await?
    };
    match end {
        Some(End::Abandoned(problem)) => Err(problem.into()),
        Some(End::Stored) | None => Ok(end),
    }
}

fn is_expired(inner: &Inner, entry: &Entry) -> bool {
    crate::sweep::is_expired(entry, inner.clock.now(), inner.config.upload_expiry.0)
}

fn expiry_problem(inner: &Inner) -> Problem {
    Problem::new(Code::UploadExpired).with("limit", inner.config.upload_expiry)
}

async fn head(State(inner): State<Arc<Inner>>, Path(upload): Path<String>) -> Answer {
    let (upload, entry) = find(&inner, &upload).await?;
    settled(&inner, &upload, &entry).await?;
    let entry = entry.value;
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    headers.insert(OFFSET, entry.offset.into());
    headers.insert(LENGTH, entry.length.into());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    set(headers, ASSET, entry.asset.as_str());
    if !entry.metadata.is_empty() {
        set(headers, METADATA, &entry.metadata);
    }
    expires(headers, &inner, entry.moved_at, entry.is_full());
    Ok(response)
}

async fn patch(State(inner): State<Arc<Inner>>, Path(upload): Path<String>, request: Request) -> Answer {
    let client = client(&request);
    let (parts, body) = request.into_parts();
    let (upload, entry) = find(&inner, &upload).await?;
    let headers = &parts.headers;
    if !brings_bytes(headers)? {
        return Err(wrong_type(headers));
    }
    let offset = bytes(headers, "Upload-Offset")?;
    if let Some(length) = optional_bytes(headers, "Upload-Length")?
        && length != entry.value.length
    {
        return Err(Problem::new(Code::UploadLengthConflict)
            .with("value", length)
            .with("known", entry.value.length)
            .into());
    }
    let end = settled(&inner, &upload, &entry).await?;
    at_offset(&entry.value, offset)?;
    if let Some(brought) = optional_bytes(headers, "Content-Length")?
        && brought > entry.value.length - offset
    {
        return Err(overrun(entry.value.length));
    }
    if end.is_some() {
        // A repeat of nothing is fine. Bytes are no part of this upload, and taken with 204 they would count as stored.
        if brings_more(body, inner.config.idle_timeout.0).await {
            return Err(overrun(entry.value.length));
        }
        return Ok(patched(&inner, &entry.value));
    }
    let place = place(&inner, &client)?;
    let entry = store(&inner, &upload, entry, offset, body, place).await?;
    Ok(patched(&inner, &entry))
}

/// Does a body, whose length may not have been announced, bring a byte? One that is silent for `patience` brings none.
async fn brings_more(body: Body, patience: Duration) -> bool {
    let some = |item: Result<Bytes, _>| async move { item.is_ok_and(|bytes| !bytes.is_empty()) };
    let mut bytes = std::pin::pin!(body.into_data_stream().any(some));
    tokio::time::timeout(patience, &mut bytes).await.unwrap_or(false)
}

/// The body is not bytes of an upload.
pub(super) fn wrong_type(headers: &HeaderMap) -> Refusal {
    let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let shown: String = String::from_utf8_lossy(value).chars().take(80).collect();
    let shown = if shown.is_empty() { "none".to_owned() } else { shown };
    let problem = Problem::new(Code::ContentTypeUnsupported).with("value", shown);
    problem.with("expected", OFFSET_OCTET_STREAM).into()
}

pub(super) fn at_offset(entry: &Entry, offset: u64) -> Result<(), Refusal> {
    if entry.offset == offset {
        return Ok(());
    }
    Err(Problem::new(Code::OffsetConflict).with("offset", entry.offset).with("value", offset).into())
}

pub(super) fn overrun(length: u64) -> Refusal {
    Problem::new(Code::UploadOverrun).with("length", length).into()
}

fn patched(inner: &Inner, entry: &Entry) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(OFFSET, entry.offset.into());
    expires(headers, inner, entry.moved_at, entry.is_full());
    response
}

async fn terminate(State(inner): State<Arc<Inner>>, Path(upload): Path<String>) -> Answer {
    let (upload, entry) = find(&inner, &upload).await?;
    if settled(&inner, &upload, &entry).await?.is_some() {
        // It is an asset by now, and has an address of its own to be removed at.
        return Err(Code::UploadNotFound.into());
    }
    match close(&inner, &upload, entry, &Problem::new(Code::UploadCancelled), |_| true).await? {
        Some(End::Abandoned(_)) => Ok(StatusCode::NO_CONTENT.into_response()),
        Some(End::Stored) | None => Err(Code::UploadNotFound.into()),
    }
}

/// What is asked of one upload. tus 1.0.0 has the header's method count and the request's own one ignored.
pub(super) async fn one(state: State<Arc<Inner>>, path: Path<String>, request: Request) -> Answer {
    let meant = meant(&request)?;
    match meant.method.as_str() {
        "PATCH" => patch(state, path, request).await,
        "DELETE" => terminate(state, path).await,
        "HEAD" => head(state, path).await,
        "OPTIONS" => Ok(options(state).await),
        _ => Err(meant.is_impossible("HEAD, PATCH, DELETE, OPTIONS")),
    }
}

/// What is asked where uploads begin.
pub(super) async fn begin(state: State<Arc<Inner>>, request: Request) -> Answer {
    let meant = meant(&request)?;
    match meant.method.as_str() {
        "POST" => super::create::create(state, request).await,
        "OPTIONS" => Ok(options(state).await),
        _ => Err(meant.is_impossible("POST, OPTIONS")),
    }
}

/// The method that a request means.
struct Meant {
    method: Method,
    /// Said by the header, and not by the request itself.
    by_header: bool,
}

fn meant(request: &Request) -> Result<Meant, Refusal> {
    match single(request.headers(), METHOD_OVERRIDE)? {
        None => Ok(Meant { method: request.method().clone(), by_header: false }),
        Some(value) => {
            let wrong = |_| invalid(METHOD_OVERRIDE, "must be the name of a method", value.as_bytes());
            let method = Method::from_bytes(value.as_bytes()).map_err(wrong)?;
            Ok(Meant { method, by_header: true })
        }
    }
}

impl Meant {
    fn is_impossible(&self, allow: &'static str) -> Refusal {
        let said = if self.by_header { format!(" (by {METHOD_OVERRIDE})") } else { String::new() };
        let problem = Problem::new(Code::MethodNotAllowed).with("method", format!("{}{said}", self.method));
        Refusal::from(problem.with("allow", allow)).header(header::ALLOW, HeaderValue::from_static(allow))
    }
}
