//! Objects that no fact names. A worker or a request that lost its lease may leave some; they are harmless, and go when it is
//! certain that no fact will ever name them.
//!
//! The rule: an object may go only when the slot that its key belongs to holds a fact that does not name it, its generation
//! is over, or its asset is deleted. Age alone is never enough; it only saves asking about what is being made right now.

use futures_util::TryStreamExt as _;
use spool_proto::asset::{Generation, Publication, UploadEnd};
use spool_proto::key::{Key, Object};
use spool_proto::media::SourceRef;
use spool_proto::{Asset, AssetId, TenantId};

use crate::inner::Inner;
use crate::trouble::Trouble;

/// Objects of one asset that are looked at together; an asset with more is looked at in several rounds.
const BATCH: usize = 1_000;

/// May the object of this key go?
pub(crate) fn may_go(asset: &Asset, key: &Key) -> bool {
    if asset.deleted.is_some() {
        return true;
    }
    if !asset.unknown.is_empty() {
        // A newer version stated something here; it may name this object.
        return false;
    }
    match &key.object {
        Object::Piece { upload, piece, epoch } => match asset.upload.as_ref().map(|end| &end.it) {
            None => false,
            Some(UploadEnd::Abandoned { .. }) => true,
            Some(UploadEnd::Stored(source)) => !is_piece(source, upload, *piece, *epoch),
        },
        // A fragment is never named by a fact: at the latest when the last piece is stored it was merged.
        Object::Fragment { .. } => asset.upload.is_some(),
        Object::Chunk { generation, rendition, chunk, .. } => {
            let stated = |it: &Generation| match it.plan().audio.as_ref().is_some_and(|audio| audio.id == *rendition) {
                true => it.audio.values().any(|track| track.contains_key(chunk)),
                false => it.video.contains_key(chunk),
            };
            made_may_go(asset, *generation, key, stated)
        }
        Object::Still { generation, name, .. } => {
            made_may_go(asset, *generation, key, |it| it.stills.contains_key(name))
        }
        Object::Manifest { revision, attempt, file } => match asset.publications.get(revision).map(|at| &at.it) {
            None => false,
            Some(Publication::Opened { .. } | Publication::Withdrawn { .. }) => true,
            Some(Publication::Published(published)) => published.attempt != *attempt || !published.files.contains(file),
        },
    }
}

fn is_piece(source: &SourceRef, upload: &spool_proto::id::UploadId, piece: u32, epoch: u64) -> bool {
    let named = source.runs.iter().any(|run| run.epoch == epoch && (run.first..=run.last).contains(&piece));
    source.upload == *upload && named
}

/// An object that a worker made for `generation`: never one that a fact of any generation names, since a retry may take it
/// over; else when its slot is filled or nothing of the generation counts any more.
fn made_may_go(asset: &Asset, generation: u32, key: &Key, stated: impl Fn(&Generation) -> bool) -> bool {
    let name = key.to_string();
    if asset.generations.values().any(|generation| generation.keys().any(|key| key == name)) {
        return false;
    }
    let Some(standing) = asset.generations.get(&generation) else { return false };
    stated(standing) || standing.outcome.is_some()
}

/// Looks through the whole store once. How many objects went.
///
/// # Errors
/// When the store can't be listed. What one asset's facts or deletions fail at is left for the next round.
pub(crate) async fn sweep(inner: &Inner) -> Result<u64, Trouble> {
    let mut listing = inner.store.list("");
    let (mut batch, mut gone, mut foreign) = (Vec::<Key>::new(), 0, 0_u64);
    // The store's objects are stamped by a machine, not by the log.
    let now = inner.clock.machine();
    while let Some(listed) = listing.try_next().await? {
        let Some(key) = listed.key else {
            foreign += 1;
            continue;
        };
        if now.since(listed.written_at) < inner.config.orphan_age.0 {
            continue;
        }
        let other = batch.first().is_some_and(|first| (&first.tenant, &first.asset) != (&key.tenant, &key.asset));
        if other || batch.len() >= BATCH {
            gone += sweep_batch(inner, std::mem::take(&mut batch)).await;
        }
        batch.push(key);
        if inner.stop.is_finishing() {
            return Ok(gone);
        }
    }
    gone += sweep_batch(inner, batch).await;
    gone += inner.store.sweep_staging(now, inner.config.orphan_age.0).await?;
    if foreign > 0 {
        tracing::warn!(objects = foreign, "the store holds objects that are not spool's; they are left alone");
    }
    Ok(gone)
}

async fn sweep_batch(inner: &Inner, keys: Vec<Key>) -> u64 {
    let Some(first) = keys.first() else { return 0 };
    let (tenant, asset) = (first.tenant.clone(), first.asset.clone());
    match orphans_of(inner, &tenant, &asset, keys).await {
        Ok(gone) => gone,
        Err(trouble) => {
            let error = &trouble as &dyn std::error::Error;
            tracing::warn!(error, asset.id = %asset, "objects could not be looked at; they will be again");
            0
        }
    }
}

async fn orphans_of(inner: &Inner, tenant: &TenantId, asset: &AssetId, keys: Vec<Key>) -> Result<u64, Trouble> {
    let facts = inner.log.read_asset(tenant, asset, None).await?;
    let Some(state) = Asset::fold(&facts) else { return Ok(0) };
    if state.deleted.is_some() && state.purged.is_none() {
        // Its own deletion counts them, so nobody else may take them away.
        return Ok(0);
    }
    let go: Vec<Key> = keys.into_iter().filter(|key| may_go(&state, key)).collect();
    let count = go.len() as u64;
    inner.store.delete(&go).await?;
    if count > 0 {
        tracing::info!(asset.id = %asset, objects = count, "swept objects that no fact names");
    }
    Ok(count)
}

#[cfg(test)]
#[path = "orphans_tests.rs"]
mod tests;
