//! The deletion saga: hidden at once by `AssetDeleted`; then its upload ends, work drains, what people typed is erased, its
//! objects are counted and swept, and `ObjectsPurged` says how many. After the longest lease it is listed once more.
//!
//! Driven by the redelivery of `AssetDeleted` until all is done. Each step looks at what stands first, so it can be repeated
//! after a crash at any line; the count is noted before anything is deleted, so that a repeat counts the same.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use spool_nats::{Decision, Delivery, Incoming, KvError, Lease};
use spool_proto::event::{Draft, ObjectsPurged, TextErased};
use spool_proto::key::{Key, prefixes};
use spool_proto::{Asset, AssetId, Code, Event, Problem, Slot, TenantId, Timestamp};

use crate::inner::Inner;
use crate::trouble::Trouble;
use crate::upload::entry::{Entry, Purge, Record};

/// Wait after something failed.
const AGAIN: Duration = Duration::from_secs(5);
/// Longest wait for a drain or for the last look, so that a clock set back does not hold a deletion for ever.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// Keys deleted at once.
const BATCH: usize = 256;

/// What is due for a deleted asset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Workers may still write: wait until they can't.
    Drain(Duration),
    /// Erase, count, sweep, state.
    Purge,
    /// Stated; wait until nobody can have written since, then look again.
    Linger(Duration),
    /// Look again a last time.
    LastLook,
}

/// What is due for a deleted asset at `now`. A worker may write until the longest lease has passed.
pub(crate) fn due(asset: &Asset, now: Timestamp, longest_lease: Duration) -> Option<Due> {
    let deleted = asset.deleted.as_ref()?;
    let left = |since: Timestamp| longest_lease.saturating_sub(now.since(since)).min(LONGEST_WAIT);
    Some(match &asset.purged {
        None if had_work(asset) && !left(deleted.at).is_zero() => Due::Drain(left(deleted.at)),
        None => Due::Purge,
        Some(purged) if !left(purged.at).is_zero() => Due::Linger(left(purged.at)),
        Some(_) => Due::LastLook,
    })
}

/// Was somebody working on it when it was deleted?
fn had_work(asset: &Asset) -> bool {
    let mut before = asset.clone();
    before.deleted = None;
    asset.upload.is_some() && !before.status().is_settled()
}

/// Handles a fact that may ask for a sweep: `AssetDeleted`, `TextErased`.
pub(crate) async fn handle(inner: Arc<Inner>, delivery: Delivery) -> Decision {
    let Incoming::Fact(fact) = &delivery.message else {
        return Decision::Park { code: Code::Internal, why: "no fact".to_owned() };
    };
    let (tenant, asset, sequence) = (&fact.tenant, &fact.asset, fact.sequence);
    match step(&inner, tenant, asset, sequence, &delivery.lease).await {
        Ok(None) => Decision::Done,
        Ok(Some(after)) => Decision::Retry { after, why: "the deletion is under way".to_owned() },
        Err(trouble) => {
            let error = &trouble as &dyn std::error::Error;
            tracing::warn!(error, asset.id = %asset, "a deletion could not go on; it will be tried again");
            Decision::Retry { after: AGAIN, why: trouble.to_string() }
        }
    }
}

/// One step of the saga; after how long the next is due, or nothing when all is done.
async fn step(
    inner: &Inner,
    tenant: &TenantId,
    id: &AssetId,
    sequence: u64,
    lease: &Lease,
) -> Result<Option<Duration>, Trouble> {
    let facts = inner.log.read_asset(tenant, id, Some(sequence)).await?;
    let Some(asset) = Asset::fold(&facts) else { return Ok(None) };
    let Some(due) = due(&asset, inner.clock.now(), inner.config.longest_lease.0) else {
        // Not deleted: texts alone were erased.
        if asset.texts_erased_to > 0 {
            erase_texts(inner, &asset).await?;
        }
        return Ok(None);
    };
    match due {
        Due::Drain(left) => {
            end_upload(inner, &asset).await?;
            erase_texts(inner, &asset).await?;
            Ok(Some(left))
        }
        Due::Purge => {
            end_upload(inner, &asset).await?;
            erase_texts(inner, &asset).await?;
            purge(inner, &asset, lease).await?;
            Ok(Some(inner.config.longest_lease.0.min(LONGEST_WAIT)))
        }
        Due::Linger(left) => {
            sweep(inner, &asset, lease).await?;
            Ok(Some(left))
        }
        Due::LastLook => {
            erase_texts(inner, &asset).await?;
            sweep(inner, &asset, lease).await?;
            forget(inner, &asset).await?;
            tracing::info!(asset.id = %asset.id, "the asset is gone");
            Ok(None)
        }
    }
}

/// A running upload ends; whoever writes to it is fenced.
async fn end_upload(inner: &Inner, asset: &Asset) -> Result<(), Trouble> {
    if asset.upload.is_some() {
        return Ok(());
    }
    crate::ingest::abandon(inner, &asset.tenant, &asset.id, &Problem::new(Code::UploadCancelled)).await
}

/// The fact first, so that every view drops the text, also one that is restored later; then the bytes.
async fn erase_texts(inner: &Inner, asset: &Asset) -> Result<(), Trouble> {
    if let Some(last) = asset.texts.keys().next_back().filter(|last| **last > asset.texts_erased_to) {
        let event = TextErased { texts: asset.texts.len() as u64 }.into();
        append(inner, asset, Slot::TextErased { revision: *last }, event).await?;
    }
    inner.log.purge_texts(&asset.tenant, &asset.id).await?;
    if asset.deleted.is_some() {
        erase_metadata(inner, asset).await?;
    }
    Ok(())
}

/// What a client sent as `Upload-Metadata` is kept for HEAD, and is as personal as the text made of it.
async fn erase_metadata(inner: &Inner, asset: &Asset) -> Result<(), Trouble> {
    let Some(upload) = asset.registered.as_ref().map(|registered| &registered.it.upload) else { return Ok(()) };
    let Some(entry) = inner.entries.get(upload).await? else { return Ok(()) };
    if !entry.value.metadata.is_empty() {
        let bare = Entry { metadata: String::new(), ..entry.value };
        inner.entries.replace(upload, &bare, entry.revision).await?;
    }
    Ok(())
}

/// Counts, sweeps, states.
async fn purge(inner: &Inner, asset: &Asset, lease: &Lease) -> Result<(), Trouble> {
    let counted = count(inner, asset, lease).await?;
    sweep(inner, asset, lease).await?;
    let event = ObjectsPurged { objects: counted.objects, bytes: counted.bytes }.into();
    append(inner, asset, Slot::LifePurged, event).await?;
    tracing::info!(asset.id = %asset.id, objects = counted.objects, bytes = counted.bytes, "objects purged");
    Ok(())
}

fn purge_key(asset: &AssetId) -> String {
    format!("purge.{asset}")
}

/// What there is, counted once: a repeat after a crash in the middle of the sweep finds the first count.
async fn count(inner: &Inner, asset: &Asset, lease: &Lease) -> Result<Purge, Trouble> {
    let mut found = Purge { objects: 0, bytes: 0 };
    for prefix in prefixes(&asset.tenant, &asset.id) {
        let mut listing = inner.store.list(&prefix);
        while let Some(listed) = listing.try_next().await? {
            lease.moved();
            found.objects += u64::from(listed.key.is_some());
            found.bytes += if listed.key.is_some() { listed.size_bytes } else { 0 };
        }
    }
    let key = purge_key(&asset.id);
    match inner.entries.kv().create(&key, &Record::Purge(found)).await {
        Ok(_) => Ok(found),
        Err(KvError::Exists { .. }) => match inner.entries.kv().get(&key).await?.map(|found| found.value) {
            Some(Record::Purge(first)) => Ok(first),
            Some(Record::Upload(_) | Record::Claim(_)) | None => {
                Err(Trouble::Broken(format!("the count of {} vanished", asset.id)))
            }
        },
        Err(error) => Err(error.into()),
    }
}

async fn sweep(inner: &Inner, asset: &Asset, lease: &Lease) -> Result<(), Trouble> {
    for prefix in prefixes(&asset.tenant, &asset.id) {
        let mut listing = inner.store.list(&prefix).try_chunks(BATCH);
        while let Some(listed) = listing.try_next().await.map_err(|error| error.1)? {
            let keys: Vec<Key> = listed.into_iter().filter_map(|listed| listed.key).collect();
            inner.store.delete(&keys).await?;
            lease.moved();
        }
    }
    Ok(())
}

/// The notes that only the deletion needed.
async fn forget(inner: &Inner, asset: &Asset) -> Result<(), Trouble> {
    inner.entries.kv().delete(&purge_key(&asset.id), None).await?;
    Ok(())
}

async fn append(inner: &Inner, asset: &Asset, slot: Slot, event: Event) -> Result<(), Trouble> {
    let (tenant, id) = (asset.tenant.clone(), asset.id.clone());
    inner.log.append(&Draft { tenant, asset: id, slot, event, cause: None, actor: None }).await?;
    Ok(())
}

#[cfg(test)]
#[path = "deletion_tests.rs"]
mod tests;
