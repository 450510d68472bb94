//! Reads about assets: the list, one, its history, what it waits for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use spool_kit::web::{Query, Refusal};
use spool_nats::Bucket;
use spool_proto::lease::{self, LeaseNote};
use spool_proto::subject::Lane;
use spool_proto::{Asset, AssetId, Code, Item, Problem, Status, TenantId};

use super::Reads;
use super::range::is_known;
use crate::card::Card;
use crate::explain::{explain as explained, open_items, waits_in};
use crate::queue::{Line, is_heard};
use crate::short;
use crate::view::keys::Place;
use crate::view::rows::Entry;

/// Assets on a page of a list.
const PAGE: usize = 50;
/// Most assets on a page of a list.
const PAGE_LIMIT: usize = 200;
/// Facts on a page of a history.
const HISTORY: usize = 200;
/// Most facts on a page of a history.
const HISTORY_LIMIT: usize = 1000;
/// Notes of workers that are looked through for one that lives. There are as many as orders that are out.
const NOTES: usize = 500;
/// How often the queues are looked at before it is said that nobody asks, and the pause between.
const LOOKS: u32 = 3;
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// The sequence that the view had when it answered.
const SEQUENCE: HeaderName = HeaderName::from_static("spool-sequence");

type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

impl Reads {
    /// Waits for the sequence the request asks for.
    pub(super) async fn wait(&self, query: &Query) -> Result<(), Refusal> {
        match query.at_least()? {
            Some(wanted) => Ok(self.shared.at_least(wanted, self.config.read_wait.0).await?),
            None => Ok(()),
        }
    }

    /// The answer, with the sequence the view has.
    fn answer(&self, value: Value) -> Response {
        let sequence = self.shared.position.borrow().to_string();
        ([(SEQUENCE, sequence), (header::CACHE_CONTROL, "no-cache".to_owned())], Json(value)).into_response()
    }

    async fn card(&self, tenant: TenantId, asset: AssetId) -> Result<Card, Refusal> {
        let id = asset.clone();
        let card = self.shared.read(move |view| view.card(&tenant, &asset)).await?;
        card.ok_or_else(|| not_found(id.as_str()))
    }
}

/// There is no such asset; also what an id in a wrong form gets, since none can have it.
fn not_found(id: &str) -> Refusal {
    let id: String = id.chars().take(80).collect();
    Problem::new(Code::AssetNotFound).with("asset", id).into()
}

fn deleted(asset: &AssetId) -> Refusal {
    Problem::new(Code::AssetDeleted).with("asset", asset).into()
}

fn asset_id(text: &str) -> Result<AssetId, Refusal> {
    text.parse().map_err(|_| not_found(text))
}

/// A status by its word.
struct Word(Status);

impl std::str::FromStr for Word {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Status::ALL.into_iter().find(|status| status.name() == text).map(Word).ok_or(())
    }
}

/// `GET /v1/assets`
pub(super) async fn list(State(reads): State<Arc<Reads>>, query: Query) -> Result<Response, Refusal> {
    query.only(&["status", "limit", "cursor", "tenant", "at_least"])?;
    let words = Status::ALL.map(Status::name).join(", ");
    let status = query.get::<Word>("status", &format!("one of {words}"))?.map(|word| word.0);
    let cursor: Option<Place> = query.get("cursor", "a cursor of the answer before")?;
    let limit = query.limit(PAGE, PAGE_LIMIT)?;
    let tenant = query.tenant()?;
    reads.wait(&query).await?;
    let page = reads.shared.read(move |view| view.list(&tenant, status, cursor.as_ref(), limit)).await?;
    let base = &reads.config.public_url;
    Ok(reads.answer(json!({
        "assets": page.cards.iter().map(|card| card.json(base)).collect::<Vec<_>>(),
        "next_cursor": page.next.map(|place| place.to_string()),
    })))
}

/// `GET /v1/assets/{id}`
pub(super) async fn one(
    State(reads): State<Arc<Reads>>,
    Path(id): Path<String>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    query.only(&["tenant", "at_least"])?;
    let id = asset_id(&id)?;
    let tenant = query.tenant()?;
    reads.wait(&query).await?;
    let card = reads.card(tenant, id).await?;
    if card.status == Status::Deleted {
        return Err(deleted(&card.id));
    }
    let etag = format!("\"{}\"", card.version);
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if is_known(known, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let mut response = reads.answer(card.json(&reads.config.public_url));
    response.headers_mut().extend(etag.parse().ok().map(|etag| (header::ETAG, etag)));
    Ok(response)
}

/// A fact in short as answers give it.
pub(crate) fn entry_json(tenant: &TenantId, asset: &AssetId, entry: &Entry) -> Value {
    json!({
        "sequence": entry.sequence,
        "event_id": entry.event_id,
        "tenant": tenant,
        "asset": asset,
        "at": entry.at,
        "kind": entry.kind,
        "slot": entry.slot,
        "version": entry.version,
        "status": entry.status,
        "percent": entry.percent,
        "cause": entry.cause,
        "actor": entry.actor,
        "data": short::with_sentences(entry.data.clone()),
    })
}

/// `GET /v1/assets/{id}/events`. Also of a deleted asset: what is left of it are its facts, and they hold nothing personal.
pub(super) async fn history(
    State(reads): State<Arc<Reads>>,
    Path(id): Path<String>,
    query: Query,
) -> Result<Response, Refusal> {
    query.only(&["after", "limit", "tenant", "at_least"])?;
    let id = asset_id(&id)?;
    let tenant = query.tenant()?;
    let after = query.get("after", "a sequence")?.unwrap_or(0);
    let limit = query.limit(HISTORY, HISTORY_LIMIT)?;
    reads.wait(&query).await?;
    let card = reads.card(tenant.clone(), id.clone()).await?;
    let (of, asset) = (tenant.clone(), id.clone());
    let entries = reads.shared.read(move |view| view.history(&of, &asset, after, limit)).await?;
    let last = entries.last().map_or(after, |entry| entry.sequence);
    Ok(reads.answer(json!({
        "asset": id,
        "events": entries.iter().map(|entry| entry_json(&tenant, &id, entry)).collect::<Vec<_>>(),
        "next_after": (entries.len() == limit && last < card.sequence).then_some(last),
    })))
}

/// `GET /v1/assets/{id}/explain`
pub(super) async fn explain(
    State(reads): State<Arc<Reads>>,
    Path(id): Path<String>,
    query: Query,
) -> Result<Response, Refusal> {
    query.only(&["tenant", "at_least"])?;
    let id = asset_id(&id)?;
    let tenant = query.tenant()?;
    reads.wait(&query).await?;
    let asset = id.clone();
    let row = reads.shared.read(move |view| view.row(&tenant, &asset)).await?;
    let asset = row.ok_or_else(|| not_found(id.as_str()))?.asset;
    if asset.deleted.is_some() {
        return Err(deleted(&id));
    }
    let (notes, notes_error) = match notes(&reads, &asset).await {
        Ok(notes) => (notes, None),
        Err(error) => {
            // The facts alone are still worth an answer; it says that the rest is missing.
            tracing::warn!(asset.id = %id, error = &*error, "leases can't be read");
            (Vec::new(), Some("the notes of workers can't be read at the moment"))
        }
    };
    let now = reads.deps.clock.now();
    let (line, queue_error) = match waits_in(&asset, &notes, now) {
        None => (None, None),
        Some(_) => match line(&reads).await {
            Ok(line) => (Some(line), None),
            Err(error) => {
                tracing::warn!(asset.id = %id, error = &*error, "queues can't be looked at");
                (None, Some("the queues can't be looked at at the moment"))
            }
        },
    };
    let mut value = explained(&asset, &notes, line.as_ref(), now);
    value["notes_error"] = json!(notes_error);
    value["queue_error"] = json!(queue_error);
    Ok(reads.answer(value))
}

/// How the queues stand. An idle worker asks almost all the time; who finds none looks again before it says so.
async fn line(reads: &Reads) -> Result<Line, BoxError> {
    let notes = reads.deps.log.kv::<LeaseNote>(Bucket::Leases).await?.entries(0, NOTES).await?;
    let now = reads.deps.clock.now();
    let heard = notes.iter().any(|note| is_heard(&note.value, now));
    let mut line = Line { lanes: BTreeMap::new(), heard };
    for look in 0..LOOKS {
        if look > 0 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        for lane in Lane::ALL {
            line.lanes.insert(lane, reads.deps.log.queue(lane).await?);
        }
        if line.is_served() {
            break;
        }
    }
    Ok(line)
}

async fn notes(reads: &Reads, asset: &Asset) -> Result<Vec<(Item, LeaseNote)>, BoxError> {
    let mut notes = Vec::new();
    let items = open_items(asset);
    if items.is_empty() {
        return Ok(notes);
    }
    let bucket = reads.deps.log.kv::<LeaseNote>(Bucket::Leases).await?;
    for item in items {
        let note = bucket.get(&lease::key(&asset.tenant, &asset.id, &item)).await?;
        notes.extend(note.map(|note| (item, note.value)));
    }
    Ok(notes)
}
