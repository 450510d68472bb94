//! Requests to take a file in: from publishers on NATS, and from `POST /v1/assets`, which queues the same message.
//!
//! Idempotent because the asset's id is a hash of the natural key: a second delivery, today or in an hour, finds the claim,
//! the entry or the fact of the first and goes on from there. Bytes are copied like those of an upload, so a crash loses at
//! most a piece.
//!
//! A request over HTTP is queued first and registered then, before it is answered: its asset is there to be read however
//! long it waits for a place to copy, and a gateway that dies between the two leaves the registering to whoever takes the
//! request. One from a publisher is registered when it is taken; nobody was given an address for it.

mod copy;
pub(crate) mod places;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use spool_nats::{Decision, Delivery, Incoming};
use spool_proto::event::{AssetRegistered, Door, Draft, UploadAbandoned};
use spool_proto::ingest::{IngestRequest, Input};
use spool_proto::{AssetId, Code, Problem, Slot, TenantId, chain, envelope};

use crate::inner::Inner;
use crate::root::Opened;
use crate::trouble::Trouble;
use crate::upload::create::{self, CreateError, Created, New};
use crate::upload::end::close;
use crate::upload::entry::{Claim, FileMark};

/// Wait before the second attempt; five times as long for each further one, so that the few deliveries there are outlast a
/// store or a log that is away for some minutes.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait between attempts.
const LAST_WAIT: Duration = Duration::from_secs(600);
/// What is said of a request that the server gave up.
const GAVE_UP: &str = "every delivery of the request ended without an answer";

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
enum TakeInError {
    /// It never will be: it is parked with its code.
    #[error("the request is refused: {}", .0.code)]
    Refused(Problem),
    /// Another gateway has it by now.
    #[error("another gateway took the request over")]
    Superseded,
    /// This process is about to stop.
    #[error("this gateway is about to stop")]
    Stopping,
    /// The file gives nothing at the moment.
    #[error("the file gives nothing")]
    Stalled,
    /// The log or the store failed.
    #[error("take a file in")]
    Trouble(#[from] Trouble),
}

impl From<Problem> for TakeInError {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

/// A request with all that follows from its address and headers.
pub(crate) struct Asked {
    /// Whose.
    pub(crate) tenant: TenantId,
    /// Its asset, of the natural key.
    pub(crate) asset: AssetId,
    /// The way it came in.
    pub(crate) door: Door,
    /// Natural key.
    pub(crate) key: String,
    /// Hash of the request, or the key itself where the publisher chose it.
    pub(crate) fingerprint: String,
    /// What is asked for.
    pub(crate) request: IngestRequest,
    /// Opaque key id of who asked.
    pub(crate) actor: Option<String>,
}

/// Opens a file below a root, off the runtime's threads.
///
/// # Errors
/// What is wrong with the path.
pub(crate) async fn open(inner: &Arc<Inner>, path: String) -> Result<Opened, Problem> {
    let inner = Arc::clone(inner);
    let opened = tokio::task::spawn_blocking(move || inner.roots.open_file(&path)).await;
    opened.unwrap_or_else(|_| Err(Problem::new(Code::SourceUnreadable).with("detail", "the reader stopped")))
}

/// Understands a request.
fn understand(
    tenant: &TenantId,
    body: &[u8],
    key: Option<&str>,
    headers: &BTreeMap<String, String>,
) -> Result<Asked, Problem> {
    let request: IngestRequest =
        serde_json::from_slice(body).map_err(|error| Problem::new(Code::IngestInvalid).with("detail", error))?;
    let own = headers.get(envelope::INGEST_KEY);
    let door = match headers.get(envelope::INGEST_DOOR).map(String::as_str) {
        Some("path") if own.is_some() => Door::Path,
        Some(_) | None => Door::Ingest,
    };
    let natural = own.cloned().or_else(|| request.id.clone()).or_else(|| key.map(ToOwned::to_owned));
    let natural = natural.filter(|key| !key.is_empty()).ok_or_else(|| Problem::new(Code::IngestKeyMissing))?;
    let asset = AssetId::from_natural_key(tenant, door.name(), &natural);
    let fingerprint = create::fingerprint(tenant, door, &natural, body);
    let actor = headers.get(envelope::ACTOR).cloned();
    Ok(Asked { tenant: tenant.clone(), asset, door, key: natural, fingerprint, request, actor })
}

/// The asset that a request is about, if it can be understood.
pub(crate) fn asset_of(tenant: &TenantId, headers: &BTreeMap<String, String>, body: &[u8]) -> Option<AssetId> {
    let key = headers.get(envelope::MSG_ID).map(String::as_str);
    understand(tenant, body, key, headers).ok().map(|asked| asked.asset)
}

/// Handles one request.
pub(crate) async fn handle(inner: Arc<Inner>, delivery: Delivery) -> Decision {
    let Incoming::Ingest { tenant, body, key, headers } = &delivery.message else {
        return Decision::Park { code: Code::Internal, why: "no request on the ingest stream".to_owned() };
    };
    let asked = match understand(tenant, body, key.as_deref(), headers) {
        Ok(asked) => asked,
        Err(problem) => return Decision::Park { code: problem.code, why: problem.detail() },
    };
    let why = match take_in(&inner, &asked, &delivery).await {
        Ok(()) => return Decision::Done,
        Err(TakeInError::Refused(problem)) => return refuse(&inner, &asked, problem).await,
        Err(TakeInError::Superseded) => return Decision::Retry { after: FIRST_WAIT, why: "superseded".to_owned() },
        Err(error @ (TakeInError::Stopping | TakeInError::Stalled | TakeInError::Trouble(_))) => chain(&error),
    };
    tracing::warn!(asset.id = %asked.asset, attempt = delivery.attempt, error = why, "a file could not be taken in yet");
    let exponent = u32::try_from(delivery.attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(8);
    Decision::Retry { after: (FIRST_WAIT * 5_u32.pow(exponent)).min(LAST_WAIT), why }
}

/// A request that never will be carried out: parked, and where somebody was given an id for it, that asset gets its end.
async fn refuse(inner: &Inner, asked: &Asked, problem: Problem) -> Decision {
    let code = problem.code;
    let why = problem.detail();
    match asked.door {
        Door::Path => match give_up(inner, asked, problem).await {
            Ok(()) => Decision::Park { code, why },
            Err(trouble) => Decision::Retry { after: LAST_WAIT, why: chain(&trouble) },
        },
        Door::Upload | Door::Ingest => Decision::Park { code, why },
    }
}

async fn take_in(inner: &Arc<Inner>, asked: &Asked, delivery: &Delivery) -> Result<(), TakeInError> {
    if is_over(inner, &asked.tenant, &asked.asset).await? {
        return Ok(());
    }
    let Input::Path(path) = asked.request.input.clone();
    let opened = match open(inner, path).await {
        Ok(opened) => opened,
        Err(problem) => return end_without(inner, asked, problem).await,
    };
    let limit = inner.config.max_upload.0;
    if opened.mark.size_bytes > limit {
        let problem = Problem::new(Code::UploadTooLarge).with("size_bytes", opened.mark.size_bytes);
        return end_without(inner, asked, problem.with("limit_bytes", limit)).await;
    }
    // Until here it costs nothing; what it finds then may have changed while it waited.
    let place = inner.copies.take(opened.mark.size_bytes, &inner.stop, || delivery.lease.moved());
    let _place = tokio::select! {
        place = place => place.ok_or(TakeInError::Stopping)?,
        () = delivery.lease.lost() => return Err(TakeInError::Superseded),
    };
    let new = new_upload(asked, &opened.mark, opened.name.clone(), &delivery.id)?;
    let (upload, entry) = match create::create(inner, &new).await {
        Ok(Created::Entry { upload, entry, .. }) => (upload, *entry),
        Ok(Created::Over { .. }) => return Ok(()),
        Err(CreateError::Trouble(trouble)) => return Err(trouble.into()),
        // Two requests under one key were queued before either was begun; the first one is the one that counts.
        Err(CreateError::Conflict) => {
            return Err(Problem::new(Code::IdempotencyConflict).with("key", &asked.key).into());
        }
    };
    copy::copy(inner, &upload, entry, opened, delivery).await
}

/// Does the outcome of its upload stand?
async fn is_over(inner: &Inner, tenant: &TenantId, asset: &AssetId) -> Result<bool, Trouble> {
    Ok(inner.log.read_slot(tenant, asset, &Slot::UploadOutcome).await?.is_some())
}

/// There is nothing to copy. A message that was begun before ends as unreadable; everything else is refused.
async fn end_without(inner: &Inner, asked: &Asked, problem: Problem) -> Result<(), TakeInError> {
    let registered = inner.log.read_slot(&asked.tenant, &asked.asset, &Slot::UploadRegistered).await;
    if asked.door == Door::Path || registered.map_err(Trouble::from)?.is_none() {
        return Err(problem.into());
    }
    give_up(inner, asked, problem).await?;
    Ok(())
}

/// The upload that a request begins, whoever begins it: the one that takes it over HTTP, or the one that takes it off the
/// queue. `message` is the id of the message it is queued as.
///
/// # Errors
/// What is wrong with the request.
pub(crate) fn new_upload(asked: &Asked, mark: &FileMark, name: String, message: &str) -> Result<New, Problem> {
    let profile = create::profile(asked.request.profile.as_deref())?;
    crate::http::check_text(&asked.request.text)
        .map_err(|wrong| Problem::new(Code::IngestInvalid).with("detail", format!("the field text {}", wrong.must)))?;
    let mut text = asked.request.text.clone();
    text.filename.get_or_insert(name);
    // The fact of a request over HTTP keeps the hash of it, so that another request under the same key is told apart.
    let cause = match asked.door {
        Door::Path | Door::Upload => asked.fingerprint.clone(),
        Door::Ingest => message.to_owned(),
    };
    Ok(New {
        tenant: asked.tenant.clone(),
        asset: asked.asset.clone(),
        door: asked.door,
        profile,
        length: mark.size_bytes,
        sha256: asked.request.sha256,
        metadata: String::new(),
        text,
        file: Some(*mark),
        fingerprint: Some(asked.fingerprint.clone()),
        cause: Some(cause),
        actor: asked.actor.clone(),
    })
}

/// Ends the asset of a request without a source, registering it first: somebody was given its id, so it must have an end.
async fn give_up(inner: &Inner, asked: &Asked, problem: Problem) -> Result<(), Trouble> {
    if inner.log.read_slot(&asked.tenant, &asked.asset, &Slot::UploadRegistered).await?.is_none() {
        let mine =
            Claim { upload: inner.ids.upload_id(), fingerprint: asked.fingerprint.clone(), at: inner.clock.now() };
        let upload = inner.entries.claim(&asked.asset, mine).await?.upload;
        let registered = AssetRegistered {
            door: asked.door,
            // The one asked for may be the very thing that is refused.
            profile: create::profile(None).map_err(|problem| Trouble::Broken(problem.detail()))?,
            playback: inner.ids.playback_id(),
            upload,
            size_bytes: None,
            sha256: asked.request.sha256,
        };
        let draft = Draft {
            tenant: asked.tenant.clone(),
            asset: asked.asset.clone(),
            slot: Slot::UploadRegistered,
            event: registered.into(),
            cause: Some(asked.fingerprint.clone()),
            actor: asked.actor.clone(),
        };
        inner.log.append(&draft).await?;
    }
    abandon(inner, &asked.tenant, &asked.asset, &problem).await
}

/// Ends an asset's upload without a source, unless it ended before; nothing if there is no such asset.
///
/// # Errors
/// When the log fails.
pub(crate) async fn abandon(
    inner: &Inner,
    tenant: &TenantId,
    asset: &AssetId,
    problem: &Problem,
) -> Result<(), Trouble> {
    let Some(fact) = inner.log.read_slot(tenant, asset, &Slot::UploadRegistered).await? else { return Ok(()) };
    if is_over(inner, tenant, asset).await? {
        return Ok(());
    }
    if let Some(spool_proto::Event::AssetRegistered(registered)) = fact.event()
        && let Some(entry) = inner.entries.get(&registered.upload).await?
    {
        close(inner, &registered.upload, entry, problem, |_| true).await?;
        return Ok(());
    }
    // The entry went, though it should not before the outcome stands: the asset must not wait for ever all the same.
    let event = UploadAbandoned { problem: problem.clone(), received_bytes: 0 }.into();
    let slot = Slot::UploadOutcome;
    let draft = Draft { tenant: tenant.clone(), asset: asset.clone(), slot, event, cause: None, actor: None };
    inner.log.append(&draft).await?;
    Ok(())
}

/// Handles the news that the server gave up delivering a request: parked, its asset ended. Each step can be repeated.
pub(crate) async fn handle_given_up(inner: Arc<Inner>, delivery: Delivery) -> Decision {
    let Incoming::GivenUp { stream, consumer, sequence, deliveries } = &delivery.message else {
        return Decision::Park { code: Code::Internal, why: "no advisory".to_owned() };
    };
    let buried = inner.log.bury(stream, *sequence, consumer, Code::WorkerLost, GAVE_UP, *deliveries).await;
    let buried = match buried {
        Ok(Some(buried)) => buried,
        Ok(None) => return Decision::Done,
        Err(error) => return Decision::Retry { after: FIRST_WAIT, why: chain(&error) },
    };
    let Ok(tenant) = spool_proto::subject::parse_ingest(&buried.subject) else { return Decision::Done };
    let key = buried.headers.get(envelope::MSG_ID).map(String::as_str);
    let Ok(asked) = understand(&tenant, &buried.body, key, &buried.headers) else { return Decision::Done };
    let problem = Problem::new(Code::SourceUnreadable).with("detail", format!("{deliveries} attempts did not end"));
    let ended = match asked.door {
        Door::Path => give_up(&inner, &asked, problem).await,
        Door::Upload | Door::Ingest => abandon(&inner, &tenant, &asked.asset, &problem).await,
    };
    match ended {
        Ok(()) => Decision::Done,
        Err(trouble) => Decision::Retry { after: FIRST_WAIT, why: chain(&trouble) },
    }
}
