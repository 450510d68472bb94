//! Beginning an upload: the entry first, then `AssetRegistered`, then what people typed.
//!
//! Each step can be repeated, so a repeat under the same natural key goes on wherever the first try stopped, and one whose
//! asset stands changes nothing.

use spool_nats::Versioned;
use spool_proto::event::{AssetRegistered, Described, Door, Draft, ProfileRef};
use spool_proto::id::{Sha256, UploadId};
use spool_proto::text::Text;
use spool_proto::{AssetId, Code, Event, Problem, Slot, TenantId};

use super::digest::Running;
use super::entry::{Claim, Entry, FileMark, Phase};
use crate::inner::Inner;
use crate::trouble::Trouble;

/// A new upload as asked for.
#[derive(Debug, Clone)]
pub(crate) struct New {
    /// Whose.
    pub(crate) tenant: TenantId,
    /// Its asset: new, or of a natural key.
    pub(crate) asset: AssetId,
    /// The way it comes in.
    pub(crate) door: Door,
    /// What to make of it.
    pub(crate) profile: ProfileRef,
    /// Announced size.
    pub(crate) length: u64,
    /// Announced digest.
    pub sha256: Option<Sha256>,
    /// `Upload-Metadata` as it came.
    pub(crate) metadata: String,
    /// What people typed.
    pub(crate) text: Text,
    /// The file to copy, for a path.
    pub(crate) file: Option<FileMark>,
    /// For an asset of a natural key: hash of the request.
    pub(crate) fingerprint: Option<String>,
    /// Id of the message that led here.
    pub(crate) cause: Option<String>,
    /// Opaque key id of who asked.
    pub(crate) actor: Option<String>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Created {
    /// There is an entry: a new one, or that of an earlier try.
    Entry {
        /// The upload.
        upload: UploadId,
        /// Its entry.
        entry: Box<Versioned<Entry>>,
        /// Sequence of the last fact of its beginning: whoever reads at it finds what people typed as well.
        sequence: u64,
    },
    /// The asset came in so long ago that its entry is gone.
    Over {
        /// The upload it had.
        upload: UploadId,
        /// Sequence of `AssetRegistered`.
        sequence: u64,
    },
}

/// Nothing was begun.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    /// The natural key was used for another request.
    #[error("the idempotency key was used for another request")]
    Conflict,
    /// The log failed.
    #[error("begin an upload")]
    Trouble(#[from] Trouble),
}

/// Begins an upload, or goes on with the one that the natural key began.
///
/// # Errors
/// When the key was used for another request, or the log fails.
pub(crate) async fn create(inner: &Inner, new: &New) -> Result<Created, CreateError> {
    let standing = match &new.fingerprint {
        None => None,
        Some(fingerprint) => standing(inner, new, fingerprint).await?,
    };
    let upload = match (&standing, &new.fingerprint) {
        (Some((upload, _)), _) => upload.clone(),
        (None, Some(fingerprint)) => claim(inner, &new.tenant, &new.asset, fingerprint, new.door).await?.upload,
        (None, None) => inner.ids.upload_id(),
    };
    if let Some((upload, sequence)) = standing
        && inner.entries.get(&upload).await.map_err(Trouble::from)?.is_none()
    {
        return Ok(Created::Over { upload, sequence });
    }
    let entry = inner.entries.create(&upload, &first_entry(inner, new)).await?;
    let registered = register(inner, new, &upload, &entry.value).await?;
    let described = describe(inner, new, &entry.value).await?;
    let sequence = described.map_or(registered, |described| described.max(registered));
    Ok(Created::Entry { upload, entry: Box::new(entry), sequence })
}

/// The upload and sequence of an asset that is registered already. A request that differs from the one that registered it
/// is refused where the client chose the key for this request; a publisher's key always means the first message.
async fn standing(inner: &Inner, new: &New, fingerprint: &str) -> Result<Option<(UploadId, u64)>, CreateError> {
    let slot = Slot::UploadRegistered;
    let Some(fact) = inner.log.read_slot(&new.tenant, &new.asset, &slot).await.map_err(Trouble::from)? else {
        return Ok(None);
    };
    let Some(Event::AssetRegistered(registered)) = fact.event() else {
        return Err(Trouble::Broken(format!("the first fact of {} is no AssetRegistered", new.asset)).into());
    };
    if new.door != Door::Ingest && fact.cause.as_deref() != Some(fingerprint) {
        return Err(CreateError::Conflict);
    }
    Ok(Some((registered.upload.clone(), fact.sequence)))
}

/// Claims an asset of a natural key before anything else happens to it.
///
/// # Errors
/// When the key was used for another request, or the log fails.
pub(crate) async fn claim(
    inner: &Inner,
    tenant: &TenantId,
    asset: &AssetId,
    fingerprint: &str,
    door: Door,
) -> Result<Claim, CreateError> {
    let mine = Claim { upload: inner.ids.upload_id(), fingerprint: fingerprint.to_owned(), at: inner.clock.now() };
    let claim = inner.entries.claim(asset, mine).await?;
    if claim.fingerprint == fingerprint || door == Door::Ingest {
        return Ok(claim);
    }
    tracing::info!(asset.id = %asset, %tenant, "an idempotency key came back with another request");
    Err(CreateError::Conflict)
}

fn first_entry(inner: &Inner, new: &New) -> Entry {
    let now = inner.clock.now();
    Entry {
        tenant: new.tenant.clone(),
        asset: new.asset.clone(),
        door: new.door,
        profile: new.profile.clone(),
        playback: inner.ids.playback_id(),
        text: inner.ids.text_token(),
        length: new.length,
        sha256: new.sha256,
        metadata: new.metadata.clone(),
        file: new.file,
        claimed: new.fingerprint.is_some(),
        piece_bytes: inner.config.piece.0.max(1),
        epoch: 0,
        offset: 0,
        runs: Vec::new(),
        fragments: Vec::new(),
        digest: Running::default().state(),
        created_at: now,
        moved_at: now,
        phase: Phase::Open,
    }
}

/// States that the asset exists; its sequence. The entry stands by now, so that a source can always be finished.
async fn register(inner: &Inner, new: &New, upload: &UploadId, entry: &Entry) -> Result<u64, Trouble> {
    let registered = AssetRegistered {
        door: entry.door,
        profile: entry.profile.clone(),
        playback: entry.playback.clone(),
        upload: upload.clone(),
        size_bytes: Some(entry.length),
        sha256: entry.sha256,
    };
    let draft = Draft {
        tenant: entry.tenant.clone(),
        asset: entry.asset.clone(),
        slot: Slot::UploadRegistered,
        event: registered.into(),
        cause: new.cause.clone(),
        actor: new.actor.clone(),
    };
    let appended = inner.log.append(&draft).await?;
    tracing::info!(asset.id = %entry.asset, door = entry.door.name(), size_bytes = entry.length, "asset registered");
    Ok(appended.sequence())
}

/// Puts what people typed where personal data lies, then says so; the sequence of that. Once: an erased text never comes
/// back.
async fn describe(inner: &Inner, new: &New, entry: &Entry) -> Result<Option<u64>, Trouble> {
    let slot = Slot::Text { revision: 1 };
    if new.text.is_empty() {
        return Ok(None);
    }
    if let Some(said) = inner.log.read_slot(&entry.tenant, &entry.asset, &slot).await? {
        return Ok(Some(said.sequence));
    }
    inner.log.put_text(&entry.tenant, &entry.asset, &entry.text, &new.text).await?;
    let draft = Draft {
        tenant: entry.tenant.clone(),
        asset: entry.asset.clone(),
        slot,
        event: Described { token: entry.text.clone() }.into(),
        cause: new.cause.clone(),
        actor: new.actor.clone(),
    };
    Ok(Some(inner.log.append(&draft).await?.sequence()))
}

/// The profile of this name in its newest version; the default one for none.
///
/// # Errors
/// `profile_unknown`.
pub(crate) fn profile(name: Option<&str>) -> Result<ProfileRef, Problem> {
    /// Name and newest version. What a version makes is the planner's and never changes.
    const PROFILES: [(&str, u32); 1] = [("standard", 1)];
    let wanted = name.unwrap_or(PROFILES[0].0);
    let found = PROFILES.iter().find(|(name, _)| *name == wanted);
    found.map(|(name, version)| ProfileRef { name: (*name).to_owned(), version: *version }).ok_or_else(|| {
        let known: Vec<_> = PROFILES.iter().map(|(name, _)| *name).collect();
        let shown: String = wanted.chars().take(64).collect();
        Problem::new(Code::ProfileUnknown).with("profile", shown).with("known", known.join(", "))
    })
}

/// Names a request by what it asks for, so that a repeat is known from another one. The client's key is in it: without it
/// nobody can find out by trying what was asked.
pub(crate) fn fingerprint(tenant: &TenantId, door: Door, key: &str, request: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(request.len() + key.len() + 64);
    for part in [tenant.as_str().as_bytes(), door.name().as_bytes(), key.as_bytes(), request] {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    format!("req_{}", &Sha256::of(&bytes).to_string()[..32])
}
