//! Commands on assets: take a file in, try again, remove.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use spool_kit::web::{Refusal, parse_json, whole_body};
use spool_nats::Appended;
use spool_proto::asset::Verdict;
use spool_proto::event::{AssetDeleted, Body, Door, Draft, RetryOf, RetryRequested};
use spool_proto::ingest::{IngestRequest, Input};
use spool_proto::{Asset, AssetId, Code, Event, Fact, Problem, Slot, Status, envelope};

use super::metadata::check_text;
use super::{Answer, actor, idempotency_key};
use crate::ingest::{Asked, new_upload};
use crate::inner::Inner;
use crate::root::Opened;
use crate::trouble::Trouble;
use crate::upload::create::{self, CreateError, Created};

const SEQUENCE: HeaderName = HeaderName::from_static("spool-sequence");

/// What is accepted, with where it stands on the log. Who goes to `Location` waits there for just that, so that no view that
/// is a moment behind says that there is nothing.
fn accepted(asset: &AssetId, status: Status, sequence: Option<u64>) -> Response {
    let body = json!({ "id": asset, "status": status, "sequence": sequence });
    let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
    let mut location = format!("/v1/assets/{asset}");
    if let Some(sequence) = sequence {
        response.headers_mut().insert(SEQUENCE, sequence.into());
        location.push_str(&format!("?at_least={sequence}"));
    }
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// `POST /v1/assets`: checked, queued, registered, then answered with the id. The same request as an ingest message.
pub(super) async fn take_in(State(inner): State<Arc<Inner>>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let body = whole_body(body, inner.config.max_body.0).await?;
    let request: IngestRequest = parse_json(&body)?;
    let opened = check(&inner, &request).await?;
    let asked = asked(&inner, &parts, request)?;
    if let Some(answer) = repeated(&inner, &asked).await? {
        return Ok(answer);
    }
    let conflict = |error| match error {
        CreateError::Conflict => Problem::new(Code::IdempotencyConflict).with("key", &asked.key).into(),
        CreateError::Trouble(trouble) => Refusal::from(trouble),
    };
    let new = new_upload(&asked, &opened.mark, opened.name, &asked.fingerprint)?;
    create::claim(&inner, &asked.tenant, &asked.asset, &asked.fingerprint, Door::Path).await.map_err(conflict)?;
    queue(&inner, &asked).await?;
    let sequence = match create::create(&inner, &new).await {
        Ok(Created::Entry { sequence, .. } | Created::Over { sequence, .. }) => Some(sequence),
        Err(CreateError::Trouble(trouble)) => {
            // It is queued, so it will be carried out: whoever takes it registers it.
            let error = &trouble as &dyn std::error::Error;
            tracing::warn!(error, asset.id = %asked.asset, "a queued request could not be registered yet");
            None
        }
        Err(error @ CreateError::Conflict) => return Err(conflict(error)),
    };
    tracing::info!(asset.id = %asked.asset, "took a request for a file");
    Ok(accepted(&asked.asset, Status::Uploading, sequence))
}

/// The request with its natural key, the client's or a new one, and what follows from that.
fn asked(inner: &Inner, parts: &Parts, request: IngestRequest) -> Result<Asked, Refusal> {
    let tenant = inner.config.tenant.clone();
    let key = idempotency_key(&parts.headers)?.or_else(|| request.id.clone());
    let key = key.unwrap_or_else(|| inner.ids.request_id());
    let asset = AssetId::from_natural_key(&tenant, Door::Path.name(), &key);
    let fingerprint = create::fingerprint(&tenant, Door::Path, &key, &canonical(&request)?);
    Ok(Asked { tenant, asset, door: Door::Path, key, fingerprint, request, actor: actor(&parts.extensions) })
}

/// The request as the queue holds it: however a client spaced it, it is the same request.
fn canonical(request: &IngestRequest) -> Result<Vec<u8>, Trouble> {
    serde_json::to_vec(request).map_err(|error| Trouble::Broken(error.to_string()))
}

async fn queue(inner: &Inner, asked: &Asked) -> Result<(), Trouble> {
    let mut headers =
        vec![(envelope::INGEST_KEY, asked.key.clone()), (envelope::INGEST_DOOR, Door::Path.name().to_owned())];
    headers.extend(asked.actor.clone().map(|actor| (envelope::ACTOR, actor)));
    let body = canonical(&asked.request)?;
    Ok(inner.log.put_ingest(&asked.tenant, &body, &asked.fingerprint, &headers).await?)
}

/// The answer to a request that was carried out before under the same key.
async fn repeated(inner: &Inner, asked: &Asked) -> Result<Option<Response>, Refusal> {
    let facts = inner.log.read_asset(&asked.tenant, &asked.asset, None).await.map_err(Trouble::from)?;
    let Some(first) = facts.iter().find(|fact| fact.slot == Ok(Slot::UploadRegistered)) else { return Ok(None) };
    if first.cause.as_deref() != Some(&asked.fingerprint) {
        return Err(Problem::new(Code::IdempotencyConflict).with("key", &asked.key).into());
    }
    let status = Asset::fold(&facts).map_or(Status::Uploading, |asset| asset.status());
    // Of all that this state follows from.
    let sequence = facts.iter().map(|fact| fact.sequence).max();
    Ok(Some(accepted(&asked.asset, status, sequence)))
}

/// What can be said against a request before it is queued. The file is opened for that, and again when it is copied.
async fn check(inner: &Arc<Inner>, request: &IngestRequest) -> Result<Opened, Refusal> {
    create::profile(request.profile.as_deref())?;
    check_text(&request.text)
        .map_err(|wrong| Problem::new(Code::BodyInvalid).with("detail", format!("the field text {}", wrong.must)))?;
    let Input::Path(path) = request.input.clone();
    let opened = crate::ingest::open(inner, path).await?;
    let (size, limit) = (opened.mark.size_bytes, inner.config.max_upload.0);
    if size > limit {
        return Err(Problem::new(Code::UploadTooLarge).with("size_bytes", size).with("limit_bytes", limit).into());
    }
    Ok(opened)
}

/// The facts of an asset and what they add up to.
async fn find(inner: &Inner, asset: &str) -> Result<(Asset, Vec<Fact>), Refusal> {
    let shown: String = asset.chars().take(64).collect();
    let not_found = || Refusal::from(Problem::new(Code::AssetNotFound).with("asset", &shown));
    let id: AssetId = asset.parse().map_err(|_| not_found())?;
    let facts = inner.log.read_asset(&inner.config.tenant, &id, None).await.map_err(Trouble::from)?;
    let asset = Asset::fold(&facts).filter(|asset| asset.registered.is_some()).ok_or_else(not_found)?;
    Ok((asset, facts))
}

/// `DELETE /v1/assets/{asset}`: hidden from now on; its bytes go later. Repeating it is harmless.
pub(super) async fn remove(State(inner): State<Arc<Inner>>, Path(asset): Path<String>, request: Request) -> Answer {
    let actor = actor(request.extensions());
    drop(request);
    let (asset, _) = find(&inner, &asset).await?;
    let event = AssetDeleted {}.into();
    let appended = append(&inner, &asset, Slot::LifeDeleted, event, actor, None).await?;
    tracing::info!(asset.id = %asset.id, "asset deleted");
    Ok(accepted(&asset.id, Status::Deleted, Some(appended.sequence())))
}

/// `POST /v1/assets/{asset}/retry`: a new verdict round after a rejection or a failed check, a new generation after a
/// failed encode.
pub(super) async fn retry(State(inner): State<Arc<Inner>>, Path(asset): Path<String>, request: Request) -> Answer {
    let (actor, key) = (actor(request.extensions()), idempotency_key(request.headers())?);
    drop(request);
    let (asset, facts) = find(&inner, &asset).await?;
    let cause = key.map(|key| create::fingerprint(&asset.tenant, Door::Upload, &key, asset.id.as_str().as_bytes()));
    if let Some(earlier) = cause.as_deref().and_then(|cause| asked_before(&facts, cause)) {
        return Ok(accepted(&asset.id, asset.status(), Some(earlier)));
    }
    let of = what_to_retry(&asset)?;
    // Numbered by what was asked for before: of two who ask at once one is written, and the other gets that one.
    let slot = Slot::LifeRetry { retry: asset.retries.keys().next_back().map_or(1, |last| last + 1) };
    let appended = append(&inner, &asset, slot, RetryRequested { of }.into(), actor, cause).await?;
    let status = match of {
        RetryOf::Verdict { .. } => Status::Checking,
        RetryOf::Generation { .. } => Status::Encoding,
    };
    tracing::info!(asset.id = %asset.id, ?of, "retry requested");
    Ok(accepted(&asset.id, status, Some(appended.sequence())))
}

/// The sequence of the retry that this very request asked for before.
fn asked_before(facts: &[Fact], cause: &str) -> Option<u64> {
    let is_retry = |fact: &&Fact| matches!(&fact.body, Body::Known(Event::RetryRequested(_)));
    facts.iter().filter(is_retry).find(|fact| fact.cause.as_deref() == Some(cause)).map(|fact| fact.sequence)
}

/// What a retry of this asset starts again.
pub(super) fn what_to_retry(asset: &Asset) -> Result<RetryOf, Problem> {
    let status = asset.status();
    let refuse = |code| Problem::new(code).with("asset", &asset.id).with("status", status);
    match status {
        Status::Rejected => Ok(RetryOf::Verdict { round: asset.verdict_round() + 1 }),
        Status::Failed => match asset.verdict().map(|verdict| &verdict.it) {
            Some(Verdict::Accepted(_)) => Ok(RetryOf::Generation { generation: asset.generation_number() + 1 }),
            Some(Verdict::Rejected(_) | Verdict::CheckFailed(_)) | None => {
                Ok(RetryOf::Verdict { round: asset.verdict_round() + 1 })
            }
        },
        Status::Uploading | Status::Checking | Status::Encoding | Status::Playable => Err(refuse(Code::AssetBusy)),
        Status::Ready | Status::Abandoned => Err(refuse(Code::NotRetryable)),
        Status::Deleted => Err(refuse(Code::AssetDeleted)),
    }
}

async fn append(
    inner: &Inner,
    asset: &Asset,
    slot: Slot,
    event: Event,
    actor: Option<String>,
    cause: Option<String>,
) -> Result<Appended, Trouble> {
    let (tenant, id) = (asset.tenant.clone(), asset.id.clone());
    let draft = Draft { tenant, asset: id, slot, event, cause, actor };
    Ok(inner.log.append(&draft).await?)
}
