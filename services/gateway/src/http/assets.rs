//! Commands on assets: take a file in, try again, remove.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
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
use crate::inner::Inner;
use crate::trouble::Trouble;
use crate::upload::create::{self, CreateError};

const SEQUENCE: HeaderName = HeaderName::from_static("spool-sequence");

/// What is accepted, with where it stands on the log.
fn accepted(asset: &AssetId, status: Status, sequence: Option<u64>) -> Response {
    let body = json!({ "id": asset, "status": status, "sequence": sequence });
    let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
    if let Some(sequence) = sequence {
        response.headers_mut().insert(SEQUENCE, sequence.into());
    }
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/assets/{asset}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// `POST /v1/assets`: checked, queued, then answered with the id. The same request as an ingest message.
pub(super) async fn take_in(State(inner): State<Arc<Inner>>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let body = whole_body(body, inner.config.max_body.0).await?;
    let request: IngestRequest = parse_json(&body)?;
    check(&inner, &request).await?;
    let tenant = &inner.config.tenant;
    let key = idempotency_key(&parts.headers)?.or_else(|| request.id.clone());
    let key = key.unwrap_or_else(|| inner.ids.request_id());
    let asset = AssetId::from_natural_key(tenant, Door::Path.name(), &key);

    let canonical = serde_json::to_vec(&request).map_err(|error| Trouble::Broken(error.to_string()))?;
    let fingerprint = create::fingerprint(tenant, Door::Path, &key, &canonical);
    if let Some(answer) = repeated(&inner, &asset, &key, &fingerprint).await? {
        return Ok(answer);
    }
    let conflict = |error| match error {
        CreateError::Conflict => Problem::new(Code::IdempotencyConflict).with("key", &key).into(),
        CreateError::Trouble(trouble) => Refusal::from(trouble),
    };
    create::claim(&inner, tenant, &asset, &fingerprint, Door::Path).await.map_err(conflict)?;
    let mut headers = vec![(envelope::INGEST_KEY, key.clone()), (envelope::INGEST_DOOR, Door::Path.name().to_owned())];
    headers.extend(actor(&parts.extensions).map(|actor| (envelope::ACTOR, actor)));
    inner.log.put_ingest(tenant, &canonical, &fingerprint, &headers).await.map_err(Trouble::from)?;
    tracing::info!(asset.id = %asset, "took a request for a file");
    Ok(accepted(&asset, Status::Uploading, None))
}

/// The answer to a request that was carried out before under the same key.
async fn repeated(inner: &Inner, asset: &AssetId, key: &str, fingerprint: &str) -> Result<Option<Response>, Refusal> {
    let slot = Slot::UploadRegistered;
    let Some(fact) = inner.log.read_slot(&inner.config.tenant, asset, &slot).await.map_err(Trouble::from)? else {
        return Ok(None);
    };
    if fact.cause.as_deref() != Some(fingerprint) {
        return Err(Problem::new(Code::IdempotencyConflict).with("key", key).into());
    }
    Ok(Some(accepted(asset, Status::Uploading, Some(fact.sequence))))
}

/// What can be said against a request before it is queued. The file is opened for that, and again when it is copied.
async fn check(inner: &Arc<Inner>, request: &IngestRequest) -> Result<(), Refusal> {
    create::profile(request.profile.as_deref())?;
    check_text(&request.text)
        .map_err(|reason| Problem::new(Code::BodyInvalid).with("detail", format!("the field text {reason}")))?;
    let Input::Path(path) = request.input.clone();
    let opened = crate::ingest::open(inner, path).await?;
    let (size, limit) = (opened.mark.size_bytes, inner.config.max_upload.0);
    if size > limit {
        return Err(Problem::new(Code::UploadTooLarge).with("size_bytes", size).with("limit_bytes", limit).into());
    }
    Ok(())
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
