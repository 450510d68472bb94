//! tus 1.0.0: core, creation, creation-with-upload, termination, expiration.
//!
//! An answered offset is always stored bytes. The whole length is answered only once `SourceStored` stands.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use spool_kit::web::{Refusal, http_date};
use spool_nats::{Versioned, trace};
use spool_proto::event::Door;
use spool_proto::id::UploadId;
use spool_proto::{AssetId, Code, Problem, Timestamp};
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument as _;

use super::headers::{OFFSET_OCTET_STREAM, brings_bytes, bytes, invalid, optional_bytes};
use super::{Answer, actor, idempotency_key, metadata};
use crate::inner::Inner;
use crate::trouble::Trouble;
use crate::upload::create::{self, CreateError, Created, New};
use crate::upload::end::{End, close, settle};
use crate::upload::entry::{Entry, Phase};
use crate::upload::receive::{self, Ended, ReceiveError};

const RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const VERSION: HeaderName = HeaderName::from_static("tus-version");
const EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
const MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
const ASSET: HeaderName = HeaderName::from_static("spool-asset");
const SEQUENCE: HeaderName = HeaderName::from_static("spool-sequence");

const ONE: HeaderValue = HeaderValue::from_static("1.0.0");
const EXTENSIONS: &str = "creation,creation-with-upload,termination,expiration";
/// What a client waits when all transfers are taken.
const BUSY: Duration = Duration::from_secs(5);

/// Around every tus route: the version is checked first, and every answer states it.
pub(super) async fn version(State(_): State<Arc<Inner>>, request: Request, next: Next) -> Response {
    let spoken = request.headers().get(RESUMABLE);
    let mut response = if request.method() == Method::OPTIONS || spoken == Some(&ONE) {
        next.run(request).await
    } else {
        let value = spoken.map_or_else(|| "missing".to_owned(), |value| format!("{value:?}"));
        Refusal::from(Problem::new(Code::TusVersion).with("value", value)).header(VERSION, ONE).into_response()
    };
    response.headers_mut().insert(RESUMABLE, ONE);
    response
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

pub(super) async fn create(State(inner): State<Arc<Inner>>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let new = asked_for(&inner, &parts.headers, actor(&parts.extensions))?;
    count_in(&inner).await?;
    let created = create::create(&inner, &new).await.map_err(|error| refuse_create(error, &parts.headers))?;
    let (upload, entry, sequence) = match created {
        Created::Entry { upload, entry, sequence } => (upload, *entry, sequence),
        // A repeat long after the end: the same answer as then, and HEAD says that there is nothing to resume.
        Created::Over { upload, sequence } => return Ok(created_answer(&upload, &new.asset, sequence)),
    };
    let mut response = created_answer(&upload, &new.asset, sequence);
    let mut offset = entry.value.offset;
    let mut moved_at = entry.value.moved_at;
    if entry.value.is_full() {
        settle(&inner, &upload, &entry).await?;
    } else if offset == 0 && brings_bytes(&parts.headers) {
        let permit = transfer(&inner)?;
        let stored = store(&inner, &upload, entry, 0, body, permit).await?;
        (offset, moved_at) = (stored.offset, stored.moved_at);
    }
    let headers = response.headers_mut();
    headers.insert(OFFSET, offset.into());
    expires(headers, &inner, moved_at, offset == new.length);
    Ok(response)
}

fn created_answer(upload: &UploadId, asset: &AssetId, sequence: u64) -> Response {
    let mut response = StatusCode::CREATED.into_response();
    let headers = response.headers_mut();
    // Relative: right behind every proxy.
    set(headers, header::LOCATION, &format!("/v1/uploads/{upload}"));
    set(headers, ASSET, asset.as_str());
    headers.insert(SEQUENCE, sequence.into());
    response
}

fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    // Ids, dates and metadata that came in a header are all valid in one; nothing else is put here.
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

fn expires(headers: &mut HeaderMap, inner: &Inner, moved_at: Timestamp, full: bool) {
    if !full {
        set(headers, EXPIRES, &http_date(moved_at.plus(inner.config.upload_expiry.0)));
    }
}

/// The new upload that the headers ask for.
fn asked_for(inner: &Inner, headers: &HeaderMap, actor: Option<String>) -> Result<New, Refusal> {
    if let Some(value) = headers.get("upload-defer-length") {
        return Err(invalid("Upload-Defer-Length", "is not offered here: say Upload-Length", value.as_bytes()));
    }
    let length = bytes(headers, "Upload-Length")?;
    if length > inner.config.max_upload.0 {
        let problem = Problem::new(Code::UploadTooLarge)
            .with("size_bytes", length)
            .with("limit_bytes", inner.config.max_upload.0);
        return Err(Refusal::from(problem).header(MAX_SIZE, inner.config.max_upload.0));
    }
    let raw = headers.get(METADATA).map(HeaderValue::as_bytes).unwrap_or_default();
    if raw.len() as u64 > inner.config.max_metadata.0 {
        let reason = format!("is longer than {} bytes", inner.config.max_metadata.0);
        return Err(invalid("Upload-Metadata", &reason, format!("{} bytes", raw.len()).as_bytes()));
    }
    let raw = std::str::from_utf8(raw).map_err(|_| invalid("Upload-Metadata", "must be ASCII", raw))?;
    let said = metadata::parse(raw)?;
    let profile = create::profile(said.profile.as_deref())?;
    let tenant = inner.config.tenant.clone();
    let key = idempotency_key(headers)?;
    let request = format!("{length}\n{raw}");
    let fingerprint = key.as_ref().map(|key| create::fingerprint(&tenant, Door::Upload, key, request.as_bytes()));
    let asset = match &key {
        Some(key) => AssetId::from_natural_key(&tenant, Door::Upload.name(), key),
        None => inner.ids.asset_id(inner.clock.now()),
    };
    Ok(New {
        tenant,
        asset,
        door: Door::Upload,
        profile,
        length,
        sha256: said.sha256,
        metadata: raw.to_owned(),
        text: said.text,
        file: None,
        cause: fingerprint.clone(),
        fingerprint,
        actor,
    })
}

/// One more upload, if there may be one. The count is that of the last sweep and what this process began since; before a
/// refusal it is taken anew.
async fn count_in(inner: &Inner) -> Result<(), Refusal> {
    let limit = inner.config.max_uploads;
    if inner.open_uploads.load(Ordering::Relaxed) >= limit {
        crate::sweep::count_open(inner).await?;
    }
    let count = inner.open_uploads.fetch_add(1, Ordering::Relaxed);
    if count < limit {
        return Ok(());
    }
    inner.open_uploads.fetch_sub(1, Ordering::Relaxed);
    let problem = Problem::new(Code::LimitReached).with("count", count).with("what", "open uploads");
    Err(Refusal::from(problem.with("limit", limit)).after(BUSY))
}

/// Leave to bring bytes.
fn transfer(inner: &Inner) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(&inner.transfers).try_acquire_owned().map_err(|_| {
        let limit = inner.config.max_transfers;
        let problem = Problem::new(Code::LimitReached).with("count", limit).with("what", "running transfers");
        Refusal::from(problem.with("limit", limit)).after(BUSY)
    })
}

fn refuse_create(error: CreateError, headers: &HeaderMap) -> Refusal {
    match error {
        CreateError::Conflict => {
            let key = headers.get("idempotency-key").and_then(|value| value.to_str().ok()).unwrap_or_default();
            Problem::new(Code::IdempotencyConflict).with("key", key).into()
        }
        CreateError::Trouble(trouble) => trouble.into(),
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

pub(super) async fn head(State(inner): State<Arc<Inner>>, Path(upload): Path<String>) -> Answer {
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

pub(super) async fn patch(State(inner): State<Arc<Inner>>, Path(upload): Path<String>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let (upload, entry) = find(&inner, &upload).await?;
    let headers = &parts.headers;
    if !brings_bytes(headers) {
        let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let shown: String = String::from_utf8_lossy(value).chars().take(80).collect();
        let problem = Problem::new(Code::ContentTypeUnsupported).with("value", shown);
        return Err(problem.with("expected", OFFSET_OCTET_STREAM).into());
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
    if end.is_some() {
        return Ok(patched(&inner, &entry.value));
    }
    if let Some(brought) = optional_bytes(headers, "Content-Length")?
        && brought > entry.value.length - offset
    {
        return Err(overrun(&entry.value));
    }
    let permit = transfer(&inner)?;
    let entry = store(&inner, &upload, entry, offset, body, permit).await?;
    Ok(patched(&inner, &entry))
}

fn at_offset(entry: &Entry, offset: u64) -> Result<(), Refusal> {
    if entry.offset == offset {
        return Ok(());
    }
    Err(Problem::new(Code::OffsetConflict).with("offset", entry.offset).with("value", offset).into())
}

fn overrun(entry: &Entry) -> Refusal {
    Problem::new(Code::UploadOverrun).with("length", entry.length).into()
}

fn patched(inner: &Inner, entry: &Entry) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(OFFSET, entry.offset.into());
    expires(headers, inner, entry.moved_at, entry.is_full());
    response
}

/// Takes the upload and stores the body. In a task of its own: the server drops a request whose client is gone, and the
/// bytes that arrived shall be stored all the same.
async fn store(
    inner: &Arc<Inner>,
    upload: &UploadId,
    entry: Versioned<Entry>,
    offset: u64,
    body: Body,
    permit: OwnedSemaphorePermit,
) -> Result<Entry, Refusal> {
    let (inner, upload) = (Arc::clone(inner), upload.clone());
    let tasks = inner.tasks.clone();
    let (span, traceparent) = (tracing::Span::current(), trace::current());
    let work = async move {
        let _permit = permit;
        transfer_body(&inner, &upload, entry, offset, body).await
    };
    let task = tasks.spawn(trace::scope(traceparent, work).instrument(span));
    task.await.map_err(|_| Problem::new(Code::Internal).with("trace", "this request's X-Request-ID"))?
}

async fn transfer_body(
    inner: &Arc<Inner>,
    upload: &UploadId,
    entry: Versioned<Entry>,
    offset: u64,
    body: Body,
) -> Result<Entry, Refusal> {
    let admit = |entry: &Entry| -> Result<(), Refusal> {
        match entry.phase {
            Phase::Open => at_offset(entry, offset),
            Phase::Closing(_) | Phase::Ended { .. } => Err(Code::UploadSuperseded.into()),
        }
    };
    let taken = receive::take(inner, upload, entry, admit).await?;
    let idle = inner.config.idle_timeout.0;
    let received = receive::receive(inner, upload, taken, body.into_data_stream(), idle, || {}).await;
    let (entry, ended) = received.map_err(|error| match error {
        ReceiveError::Superseded => Refusal::from(Code::UploadSuperseded),
        ReceiveError::Trouble(trouble) => trouble.into(),
    })?;
    if let Some(End::Abandoned(problem)) = settle(inner, upload, &entry).await? {
        return Err(problem.into());
    }
    match ended {
        Ended::Whole | Ended::Broken => Ok(entry.value),
        Ended::Overrun => Err(overrun(&entry.value)),
        Ended::Silent => Err(Problem::new(Code::UploadTooSlow).with("limit", inner.config.idle_timeout).into()),
        Ended::Stopping => Err(Problem::new(Code::Unavailable).with("what", "This gateway, which is stopping,").into()),
    }
}

pub(super) async fn terminate(State(inner): State<Arc<Inner>>, Path(upload): Path<String>) -> Answer {
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

/// POST with `X-HTTP-Method-Override`, for clients that can't send the method itself.
pub(super) async fn overridden(state: State<Arc<Inner>>, path: Path<String>, request: Request) -> Answer {
    let method = request.headers().get("x-http-method-override").and_then(|value| value.to_str().ok());
    match method.unwrap_or_default() {
        "PATCH" => patch(state, path, request).await,
        "DELETE" => terminate(state, path).await,
        "HEAD" => head(state, path).await,
        _ => {
            const ALLOW: &str = "HEAD, PATCH, DELETE, OPTIONS";
            let problem = Problem::new(Code::MethodNotAllowed).with("method", "POST").with("allow", ALLOW);
            Err(Refusal::from(problem).header(header::ALLOW, HeaderValue::from_static(ALLOW)))
        }
    }
}
