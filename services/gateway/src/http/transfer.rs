//! Bytes on their way from a client into the store: who may bring some, and how slowly.
//!
//! There are a bounded number of places for requests that bring bytes, since each may hold a piece in memory. So that
//! nobody is kept out, one client has a share of them, and a request that brings too little in a while loses its place and
//! nothing else: what it brought is stored, and HEAD says where to go on.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use spool_kit::units::Span;
use spool_kit::web::Refusal;
use spool_nats::{Versioned, trace};
use spool_proto::id::UploadId;
use spool_proto::{Code, Problem};
use tracing::Instrument as _;

use super::tus::{at_offset, overrun};
use crate::config::Config;
use crate::inner::Inner;
use crate::limits::Full;
use crate::upload::end::{End, settle};
use crate::upload::entry::{Entry, Phase};
use crate::upload::pace::Limits;
use crate::upload::receive::{self, Ended, ReceiveError};

pub(super) use crate::limits::Place;

/// What a client waits when all places are taken.
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// A place to bring bytes from.
pub(super) fn place(inner: &Inner, client: &str) -> Result<Place, Refusal> {
    inner.places.take(client).map_err(|full| {
        let (limit, what) = match full {
            Full::All(limit) => (limit, "running transfers"),
            Full::Client(limit) => (limit, "running transfers of this client"),
        };
        let problem = Problem::new(Code::LimitReached).with("count", limit).with("what", what);
        Refusal::from(problem.with("limit", limit)).after(BUSY)
    })
}

fn pace(config: &Config) -> Limits {
    Limits { idle: config.idle_timeout.0, window: config.slow_window.0, least: config.slow_bytes.0 }
}

/// Takes the upload and stores the body. In a task of its own: the server drops a request whose client is gone, and the
/// bytes that arrived shall be stored all the same.
pub(super) async fn store(
    inner: &Arc<Inner>,
    upload: &UploadId,
    entry: Versioned<Entry>,
    offset: u64,
    body: Body,
    place: Place,
) -> Result<Entry, Refusal> {
    let (inner, upload) = (Arc::clone(inner), upload.clone());
    let tasks = inner.tasks.clone();
    let (span, traceparent) = (tracing::Span::current(), trace::current());
    let work = async move {
        let _place = place;
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
    let limits = pace(&inner.config);
    let received = receive::receive(inner, upload, taken, body.into_data_stream(), limits, || {}).await;
    let (entry, ended) = received.map_err(|error| match error {
        ReceiveError::Superseded => Refusal::from(Code::UploadSuperseded),
        ReceiveError::Trouble(trouble) => trouble.into(),
    })?;
    if let Some(End::Abandoned(problem)) = settle(inner, upload, &entry).await? {
        return Err(problem.into());
    }
    match ended {
        Ended::Overrun => Err(overrun(entry.value.length)),
        Ended::Whole | Ended::Broken => Ok(entry.value),
        // Only its end was missing.
        Ended::Slow(_) | Ended::Stopping if entry.value.is_full() => Ok(entry.value),
        Ended::Slow(slow) => {
            let problem = Problem::new(Code::UploadTooSlow).with("size_bytes", slow.bytes);
            Err(problem.with("limit", Span(slow.within)).into())
        }
        Ended::Stopping => Err(Problem::new(Code::Unavailable).with("what", "This gateway, which is stopping,").into()),
    }
}
