//! Messages that were given up: listed, and put back where that makes sense.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::IntoResponse as _;
use serde_json::{Value, json};
use spool_kit::web::{Query, Refusal};
use spool_nats::{Parked, Released};
use spool_proto::asset::Outcome;
use spool_proto::slot::Item;
use spool_proto::{Asset, AssetId, Code, Problem, TenantId, subject};

use super::Answer;
use crate::inner::Inner;
use crate::trouble::Trouble;

/// Parked messages in one answer, at most.
const PAGE: usize = 100;

/// `GET /v1/parked?after=&limit=`.
pub(super) async fn list(State(inner): State<Arc<Inner>>, query: Query) -> Answer {
    query.only(&["after", "limit"])?;
    let (after, limit) = (query.get("after", "the id of a parked message")?.unwrap_or(0), query.limit(PAGE, PAGE)?);
    let parked = inner.log.list_parked(after, limit).await.map_err(Trouble::from)?;
    let next = if parked.len() == limit { parked.last().map(|parked| parked.sequence) } else { None };
    let parked: Vec<Value> = parked.iter().map(show).collect();
    Ok(Json(json!({ "parked": parked, "next": next })).into_response())
}

fn show(parked: &Parked) -> Value {
    json!({
        "id": parked.sequence,
        "at": parked.at,
        "stream": parked.from.stream,
        "consumer": parked.from.consumer,
        "sequence": parked.from.sequence,
        "subject": parked.subject,
        "code": parked.code,
        "attempts": parked.attempts,
        "error": parked.why,
        "size_bytes": parked.body.len(),
    })
}

/// `POST /v1/parked/{id}/release`: puts a message back where it came from, unless what it was for is over.
pub(super) async fn release(State(inner): State<Arc<Inner>>, Path(id): Path<String>) -> Answer {
    let shown: String = id.chars().take(32).collect();
    let not_found = || Refusal::from(Problem::new(Code::ParkedNotFound).with("id", &shown));
    let sequence: u64 = id.parse().map_err(|_| not_found())?;
    let parked = inner.log.read_parked(sequence).await.map_err(Trouble::from)?.ok_or_else(not_found)?;
    let about = about(&parked);
    if let Some(about) = &about {
        let facts = inner.log.read_asset(&about.tenant, &about.asset, None).await.map_err(Trouble::from)?;
        let asset = Asset::fold(&facts);
        if asset.is_some_and(|asset| is_over(&asset, about.item.as_ref())) {
            return Err(over(about));
        }
    }
    let busy = |status: &str| {
        let asset = about.as_ref().map_or_else(|| parked.subject.clone(), |about| about.asset.to_string());
        Refusal::from(Problem::new(Code::AssetBusy).with("asset", asset).with("status", status))
    };
    match inner.log.release_parked(&parked).await.map_err(Trouble::from)? {
        Released::Back => {
            tracing::info!(parked.id = sequence, subject = parked.subject, "parked message released");
            Ok(Json(json!({ "id": sequence, "released": true })).into_response())
        }
        Released::Blocked => Err(busy("queued for the same already")),
        Released::TooSoon => {
            Err(busy("known to the stream from a moment ago, which would drop this message as a repeat"))
        }
        Released::NotReleasable => {
            let problem = Problem::new(Code::ReleaseOver).with("item", &parked.subject).with("asset", "ID");
            Err(problem.into())
        }
    }
}

/// What a parked message is about.
struct About {
    tenant: TenantId,
    asset: AssetId,
    item: Option<Item>,
}

fn about(parked: &Parked) -> Option<About> {
    if let Ok(job) = subject::parse_job(&parked.subject) {
        return Some(About { tenant: job.tenant, asset: job.asset, item: Some(job.item) });
    }
    let tenant = subject::parse_ingest(&parked.subject).ok()?;
    let asset = crate::ingest::asset_of(&tenant, &parked.headers, &parked.body)?;
    Some(About { tenant, asset, item: None })
}

/// Would nobody listen to the result any more?
pub(super) fn is_over(asset: &Asset, item: Option<&Item>) -> bool {
    if asset.deleted.is_some() {
        return true;
    }
    match item {
        None => asset.upload.is_some(),
        Some(Item::Inspect { verdict }) => asset.verdicts.contains_key(verdict) || *verdict < asset.verdict_round(),
        Some(
            Item::Video { generation, .. }
            | Item::Pass { generation, .. }
            | Item::Audio { generation, .. }
            | Item::AudioPass { generation, .. }
            | Item::Still { generation, .. },
        ) => {
            let standing = asset.generations.get(generation);
            let ended =
                standing.and_then(|generation| generation.outcome.as_ref()).is_some_and(|outcome| match &outcome.it {
                    Outcome::Completed(_) | Outcome::Failed { .. } => true,
                });
            ended || *generation < asset.generation_number()
        }
    }
}

fn over(about: &About) -> Refusal {
    let item = about.item.as_ref().map_or_else(|| "The request".to_owned(), |item| format!("Order {item}"));
    Problem::new(Code::ReleaseOver).with("item", item).with("asset", &about.asset).into()
}
