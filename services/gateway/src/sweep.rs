//! Open uploads, looked at again and again: what is full is stated as stored, what is closing as abandoned, what expired is
//! closed, what ended long ago is forgotten. So an upload ends by itself, also when everybody who worked on it is gone.
//!
//! Any number of gateways may do this at once: each step is one that can be repeated.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use spool_kit::units::Span;
use spool_nats::Versioned;
use spool_nats::streams::INGEST_AGE;
use spool_proto::event::Door;
use spool_proto::id::UploadId;
use spool_proto::key::{Key, Object};
use spool_proto::{Asset, AssetId, Code, Problem, TenantId, Timestamp};

use crate::inner::Inner;
use crate::orphans::may_go;
use crate::trouble::Trouble;
use crate::upload::end::{close, settle};
use crate::upload::entry::{Entry, Phase, Record};

/// Entries read at once.
const PAGE: usize = 256;
/// A claim without an upload is forgotten after this: a day longer than a request can wait on the ingest stream.
const CLAIM_AGE: Duration = INGEST_AGE.saturating_add(Duration::from_secs(24 * 3600));

/// How long nothing may come to an open upload. A file that is to be copied waits in a queue, and its request may stay there
/// for as long as the stream keeps it.
fn patience(entry: &Entry, expiry: Duration) -> Duration {
    if entry.file.is_some() { expiry.max(INGEST_AGE) } else { expiry }
}

/// Has nothing come to this open upload for too long? A full one never expires.
pub(crate) fn is_expired(entry: &Entry, now: Timestamp, expiry: Duration) -> bool {
    entry.phase == Phase::Open && !entry.is_full() && now.since(entry.moved_at) > patience(entry, expiry)
}

/// What is due for an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing.
    Wait,
    /// Its outcome is to be stated.
    Settle,
    /// It is to be closed as expired.
    Expire,
    /// It ended long ago.
    Forget,
}

/// What is due for an entry at `now`.
pub(crate) fn due(entry: &Entry, now: Timestamp, expiry: Duration, keep: Duration) -> Due {
    match &entry.phase {
        Phase::Open if entry.is_full() => Due::Settle,
        Phase::Open if is_expired(entry, now, expiry) => Due::Expire,
        Phase::Open => Due::Wait,
        Phase::Closing(_) => Due::Settle,
        Phase::Ended { at, .. } if now.since(*at) > keep => Due::Forget,
        Phase::Ended { .. } => Due::Wait,
    }
}

/// Looks at every entry once. How many had something due. One entry's failure does not keep the others waiting.
///
/// # Errors
/// When the entries can't be read.
pub(crate) async fn uploads(inner: &Inner) -> Result<u64, Trouble> {
    let (mut after, mut done, mut open) = (0, 0, 0);
    loop {
        let page = inner.entries.kv().entries(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.revision;
        for found in page {
            let acted = match found.value {
                Record::Upload(entry) => {
                    open += u64::from(is_open(&entry));
                    one(inner, &found.key, Versioned { value: *entry, revision: found.revision }).await
                }
                Record::Claim(claim) => forgotten_claim(inner, &found.key, &claim.upload, claim.at).await,
                // It goes with the deletion that counts by it.
                Record::Purge(_) => Ok(false),
            };
            match acted {
                Ok(acted) => done += u64::from(acted),
                Err(trouble) => {
                    let error = &trouble as &dyn std::error::Error;
                    tracing::warn!(error, key = found.key, "an upload could not be swept; it will be tried again");
                }
            }
        }
    }
    inner.open_uploads.store(open, Ordering::Relaxed);
    Ok(done)
}

/// Counts the open uploads anew.
///
/// # Errors
/// When the entries can't be read.
pub(crate) async fn count_open(inner: &Inner) -> Result<(), Trouble> {
    let (mut after, mut open) = (0, 0);
    loop {
        let page = inner.entries.kv().entries(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.revision;
        open +=
            page.iter().filter(|found| matches!(&found.value, Record::Upload(entry) if is_open(entry))).count() as u64;
    }
    inner.open_uploads.store(open, Ordering::Relaxed);
    Ok(())
}

/// Does it count as open? Copies of files don't: they wait in a queue that has a bound of its own.
fn is_open(entry: &Entry) -> bool {
    entry.phase == Phase::Open && !entry.is_full() && entry.door == Door::Upload
}

async fn one(inner: &Inner, key: &str, entry: Versioned<Entry>) -> Result<bool, Trouble> {
    let upload: UploadId = key.parse().map_err(|_| Trouble::Broken(format!("{key} is no upload")))?;
    let (now, config) = (inner.clock.now(), &inner.config);
    match due(&entry.value, now, config.upload_expiry.0, config.keep_ended.0) {
        Due::Wait => Ok(false),
        Due::Settle => Ok(settle(inner, &upload, &entry).await?.is_some()),
        Due::Expire => {
            let limit = Span(patience(&entry.value, config.upload_expiry.0));
            let problem = Problem::new(Code::UploadExpired).with("limit", limit);
            let still = |entry: &Entry| is_expired(entry, now, config.upload_expiry.0);
            Ok(close(inner, &upload, entry, &problem, still).await?.is_some())
        }
        Due::Forget => forget(inner, &upload, entry).await.map(|()| true),
    }
}

/// An upload that ended long ago: first what its writers left in the store, then its claim, then its entry.
async fn forget(inner: &Inner, upload: &UploadId, entry: Versioned<Entry>) -> Result<(), Trouble> {
    let (tenant, asset) = (&entry.value.tenant, &entry.value.asset);
    sweep_sources(inner, tenant, asset, Some(upload)).await?;
    if entry.value.claimed {
        inner.entries.unclaim(asset).await?;
    }
    match inner.entries.kv().delete(upload.as_str(), Some(entry.revision)).await {
        // Another gateway's sweeper was faster.
        Ok(()) | Err(spool_nats::KvError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn forgotten_claim(inner: &Inner, key: &str, upload: &UploadId, at: Timestamp) -> Result<bool, Trouble> {
    if inner.clock.now().since(at) < CLAIM_AGE || inner.entries.get(upload).await?.is_some() {
        return Ok(false);
    }
    inner.entries.kv().delete(key, None).await?;
    Ok(true)
}

/// Deletes what lies under an asset's sources and is not part of its source, once its outcome stands.
///
/// # Errors
/// When the log or the store fails.
pub(crate) async fn sweep_sources(
    inner: &Inner,
    tenant: &TenantId,
    asset: &AssetId,
    upload: Option<&UploadId>,
) -> Result<u64, Trouble> {
    let facts = inner.log.read_asset(tenant, asset, None).await?;
    let Some(state) = Asset::fold(&facts) else { return Ok(0) };
    if state.deleted.is_some() && state.purged.is_none() {
        // Its own deletion counts them, so nobody else may take them away.
        return Ok(0);
    }
    let prefix = upload.map_or_else(|| format!("sources/{tenant}/{asset}"), |upload| prefix_of(tenant, asset, upload));
    let listed: Vec<_> = inner.store.list(&prefix).try_collect().await?;
    let keys: Vec<Key> = listed.into_iter().filter_map(|listed| listed.key).filter(|key| may_go(&state, key)).collect();
    inner.store.delete(&keys).await?;
    Ok(keys.len() as u64)
}

/// Where the objects of an upload lie.
fn prefix_of(tenant: &TenantId, asset: &AssetId, upload: &UploadId) -> String {
    let object = Object::Piece { upload: upload.clone(), piece: 0, epoch: 0 };
    let key = Key { tenant: tenant.clone(), asset: asset.clone(), object }.to_string();
    key.rsplit_once('/').map(|(prefix, _)| prefix.to_owned()).unwrap_or(key)
}
