//! `POST /v1/uploads`: an upload begins, with its first bytes if the request brings any.
//!
//! What can be known before is refused before anything is registered. From then on the creation has succeeded, and every
//! answer says where the upload is: 201 with the offset that stands, whatever became of the bytes; a problem only where
//! nothing can be sent any more or what was sent can't be meant, and then with `Location` and `Spool-Asset` too.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use spool_kit::web::Refusal;
use spool_nats::Versioned;
use spool_proto::event::Door;
use spool_proto::id::UploadId;
use spool_proto::{AssetId, Code, Problem};

use super::headers::{brings_bytes, bytes, invalid, single};
use super::transfer::{BUSY, Place, place, store};
use super::tus::{ASSET, MAX_SIZE, OFFSET, expires, overrun, set, wrong_type};
use super::{Answer, actor, client, idempotency_key, metadata};
use crate::inner::Inner;
use crate::upload::create::{self, CreateError, Created, New};
use crate::upload::end::settle;
use crate::upload::entry::{Entry, Phase};

const SEQUENCE: HeaderName = HeaderName::from_static("spool-sequence");

pub(super) async fn create(State(inner): State<Arc<Inner>>, request: Request) -> Answer {
    let client = client(&request);
    let (parts, body) = request.into_parts();
    let new = asked_for(&inner, &parts.headers, actor(&parts.extensions))?;
    let place = if brings(&parts.headers, &body, new.length)? { Some(place(&inner, &client)?) } else { None };
    count_in(&inner).await?;
    let created = create::create(&inner, &new).await.map_err(|error| refuse_create(error, &parts.headers))?;
    let (upload, entry, sequence) = match created {
        Created::Entry { upload, entry, sequence } => (upload, *entry, sequence),
        // A repeat long after the end: the same answer as then, and HEAD says that there is nothing to resume.
        Created::Over { upload, sequence } => return Ok(created_answer(&upload, &new.asset, sequence)),
    };
    let mut response = created_answer(&upload, &new.asset, sequence);
    let stands = if entry.value.is_full() {
        settle(&inner, &upload, &entry).await.map_err(Refusal::from).map(|_| entry.value)
    } else {
        match place.filter(|_| entry.value.offset == 0) {
            None => Ok(entry.value),
            Some(place) => with_bytes(&inner, &upload, entry, body, place).await,
        }
    };
    let stands = match stands {
        Ok(stands) => stands,
        Err(mut refusal) => {
            refusal.headers.extend(response.headers().iter().map(|(name, value)| (name.clone(), value.clone())));
            return Err(refusal);
        }
    };
    let headers = response.headers_mut();
    headers.insert(OFFSET, stands.offset.into());
    expires(headers, &inner, stands.moved_at, stands.is_full());
    Ok(response)
}

/// Does the request bring bytes, and may it?
fn brings(headers: &HeaderMap, body: &Body, length: u64) -> Result<bool, Refusal> {
    if body.is_end_stream() {
        return Ok(false);
    }
    if !brings_bytes(headers)? {
        return Err(wrong_type(headers));
    }
    if body.size_hint().lower() > length {
        return Err(overrun(length));
    }
    Ok(true)
}

/// Stores the bytes that came with the creation. The entry as it stands then, also where the body broke off, came too
/// slowly or gave way to a successor: its offset says what was taken.
async fn with_bytes(
    inner: &Arc<Inner>,
    upload: &UploadId,
    entry: Versioned<Entry>,
    body: Body,
    place: Place,
) -> Result<Entry, Refusal> {
    let refusal = match store(inner, upload, entry, 0, body, place).await {
        Ok(stored) => return Ok(stored),
        Err(refusal) => refusal,
    };
    match inner.entries.get(upload).await {
        Ok(Some(found)) if goes_on(&found.value) && refusal.problem.code != Code::UploadOverrun => Ok(found.value),
        Ok(_) | Err(_) => Err(refusal),
    }
}

/// Can the client send the rest, if there is one? A full upload whose outcome does not stand yet is answered as such by
/// nobody.
fn goes_on(entry: &Entry) -> bool {
    match &entry.phase {
        Phase::Open => !entry.is_full(),
        Phase::Closing(_) => false,
        Phase::Ended { problem, .. } => problem.is_none(),
    }
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

/// The new upload that the headers ask for.
fn asked_for(inner: &Inner, headers: &HeaderMap, actor: Option<String>) -> Result<New, Refusal> {
    let length = bytes(headers, "Upload-Length")?;
    if length > inner.config.max_upload.0 {
        let problem = Problem::new(Code::UploadTooLarge)
            .with("size_bytes", length)
            .with("limit_bytes", inner.config.max_upload.0);
        return Err(Refusal::from(problem).header(MAX_SIZE, inner.config.max_upload.0));
    }
    let raw = single(headers, "Upload-Metadata")?.map(HeaderValue::as_bytes).unwrap_or_default();
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

fn refuse_create(error: CreateError, headers: &HeaderMap) -> Refusal {
    match error {
        CreateError::Conflict => {
            let key = headers.get("idempotency-key").and_then(|value| value.to_str().ok()).unwrap_or_default();
            Problem::new(Code::IdempotencyConflict).with("key", key).into()
        }
        CreateError::Trouble(trouble) => trouble.into(),
    }
}
