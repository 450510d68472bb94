//! Live changes as server-sent events: `id` is the sequence, `event` the kind of fact, `data` the fact in short.
//!
//! A connection reads from the view page by page as fast as its client takes it, so a slow client costs a page of memory
//! and loses nothing. After a break a client goes on with `Last-Event-ID`, also at another projector: ids are sequences.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, watch};

use spool_kit::web::{Query, Refusal};
use spool_proto::{AssetId, Code, Problem, TenantId};

use super::Reads;
use super::assets::entry_json;
use crate::view::{Change, View, ViewError};

/// Facts read at a time.
const PAGE: usize = 100;

/// One live connection.
struct Follower {
    reads: Arc<Reads>,
    tenant: TenantId,
    asset: Option<AssetId>,
    /// Everything up to here was sent or passed over.
    after: u64,
    position: watch::Receiver<u64>,
    page: VecDeque<Change>,
    /// Nothing was sent yet.
    new: bool,
    _place: OwnedSemaphorePermit,
}

/// `GET /v1/events`
pub(super) async fn follow(
    State(reads): State<Arc<Reads>>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    query.only(&["asset", "after", "tenant"])?;
    let tenant = query.tenant()?;
    let asset = query.get("asset", "an asset id")?;
    let position = reads.shared.position.subscribe();
    let now = *position.borrow();
    let after = after(&headers)?.or(query.get("after", "a sequence")?).unwrap_or(now);
    let limit = || {
        Problem::new(Code::LimitReached)
            .with("what", "live connections")
            .with("count", reads.config.max_followers)
            .with("limit", reads.config.max_followers)
    };
    let place = Arc::clone(&reads.followers).try_acquire_owned().map_err(|_| limit())?;
    let stop = reads.stop.clone();
    let follower = Follower { reads, tenant, asset, after, position, page: VecDeque::new(), new: true, _place: place };
    let events = stream::unfold(follower, |mut follower| async move {
        let text = follower.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), follower))
    });
    let events = futures_util::StreamExt::take_until(events, stop.cancelled_owned());
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Proxies that collect answers would hold events back.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(events)).into_response())
}

/// The last event that the client has.
fn after(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get("last-event-id").filter(|value| !value.is_empty()) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let refuse = || {
        let value: String = String::from_utf8_lossy(value.as_bytes()).chars().take(80).collect();
        let problem = Problem::new(Code::HeaderInvalid).with("header", "Last-Event-ID");
        problem.with("reason", "must be a sequence").with("value", value)
    };
    text.parse().map(Some).map_err(|_| refuse().into())
}

impl Follower {
    /// The next event as text, or a sign of life; nothing when it is over.
    async fn next(&mut self) -> Option<String> {
        if std::mem::take(&mut self.new) {
            // Headers alone are not sent by every proxy; and a client learns how soon it may come back.
            return Some("retry: 2000\n: hello\n\n".to_owned());
        }
        loop {
            if let Some(change) = self.page.pop_front() {
                self.after = change.entry.sequence;
                if change.tenant == self.tenant {
                    return Some(event(&change));
                }
                continue;
            }
            let seen = *self.position.borrow_and_update();
            self.page = self.read().await?;
            if !self.page.is_empty() {
                continue;
            }
            // Nothing of what it follows lies up to `seen`: the next look begins there.
            self.after = self.after.max(seen);
            let news = tokio::time::timeout(self.reads.config.keep_alive.0, self.position.changed()).await;
            match news {
                Ok(Ok(())) => {}
                Ok(Err(_closed)) => return None,
                Err(_elapsed) => return Some(": still here\n\n".to_owned()),
            }
        }
    }

    /// The next page; nothing when the view can't be read: the client comes back.
    async fn read(&self) -> Option<VecDeque<Change>> {
        let (tenant, asset, after) = (self.tenant.clone(), self.asset.clone(), self.after);
        let read = move |view: &View| page(view, &tenant, asset.as_ref(), after);
        self.reads.shared.read(read).await.ok().map(VecDeque::from)
    }
}

fn page(view: &View, tenant: &TenantId, asset: Option<&AssetId>, after: u64) -> Result<Vec<Change>, ViewError> {
    let Some(asset) = asset else { return view.changes(after, PAGE) };
    let entries = view.history(tenant, asset, after, PAGE)?;
    let change = |entry| Change { tenant: tenant.clone(), asset: asset.clone(), entry };
    Ok(entries.into_iter().map(change).collect())
}

fn event(change: &Change) -> String {
    let Change { tenant, asset, entry } = change;
    let data = entry_json(tenant, asset, entry);
    // A kind of a newer version is foreign text: it must not break the line.
    let kind: String = entry.kind.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("id: {}\nevent: {kind}\ndata: {data}\n\n", entry.sequence)
}
