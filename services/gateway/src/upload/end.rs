//! Ending an upload: `SourceStored` for a full one, `UploadAbandoned` for one that is closed.
//!
//! Whoever meets an entry that is full or closing states its outcome: HEAD, PATCH, the sweeper, a redelivery. What is stated
//! follows from the entry alone, so all of them say the same; who comes second gets the fact that stands.

use spool_nats::{Appended, Versioned};
use spool_proto::event::{Body, Draft, SourceStored, UploadAbandoned};
use spool_proto::id::UploadId;
use spool_proto::{Code, Event, Fact, Problem, Slot};

use super::entry::{Entry, Phase};
use super::{TRIES, WriteError};
use crate::inner::Inner;
use crate::trouble::Trouble;

/// How an upload ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Its source is stored.
    Stored,
    /// There will be none.
    Abandoned(Problem),
}

/// The event an entry is due; nothing while bytes may still come.
pub(crate) fn due(upload: &UploadId, entry: &Entry) -> Result<Option<Event>, super::digest::StateError> {
    let abandoned =
        |problem: &Problem| Event::from(UploadAbandoned { problem: problem.clone(), received_bytes: entry.offset });
    Ok(match &entry.phase {
        Phase::Ended { .. } => None,
        Phase::Closing(problem) => Some(abandoned(problem)),
        Phase::Open if !entry.is_full() => None,
        Phase::Open => {
            let got = entry.running_digest()?.finish();
            match entry.sha256 {
                Some(expected) if expected != got => Some(abandoned(
                    &Problem::new(Code::UploadDigestMismatch).with("got", got).with("expected", expected),
                )),
                Some(_) | None => Some(SourceStored { source: entry.source(upload, got) }.into()),
            }
        }
    })
}

/// States the outcome if one is due, and notes it in the entry. How the upload ended; nothing while it is open.
///
/// # Errors
/// When the log fails; nothing is lost then, the next one who meets the entry does it.
pub(crate) async fn settle(inner: &Inner, upload: &UploadId, entry: &Versioned<Entry>) -> Result<Option<End>, Trouble> {
    if let Phase::Ended { problem, .. } = &entry.value.phase {
        return Ok(Some(problem.clone().map_or(End::Stored, End::Abandoned)));
    }
    let Some(event) = due(upload, &entry.value).map_err(|error| Trouble::Broken(error.to_string()))? else {
        return Ok(None);
    };
    let draft = Draft {
        tenant: entry.value.tenant.clone(),
        asset: entry.value.asset.clone(),
        slot: Slot::UploadOutcome,
        event,
        cause: None,
        actor: None,
    };
    let end = match inner.log.append(&draft).await? {
        Appended::Written { .. } => end_of(&draft.event),
        Appended::Exists(fact) => end_of_fact(&fact)?,
    };
    tracing::info!(asset.id = %entry.value.asset, size_bytes = entry.value.offset, ?end, "upload ended");
    note(inner, upload, entry, &end).await?;
    Ok(Some(end))
}

fn end_of(event: &Event) -> End {
    if let Event::UploadAbandoned(abandoned) = event {
        return End::Abandoned(abandoned.problem.clone());
    }
    End::Stored
}

fn end_of_fact(fact: &Fact) -> Result<End, Trouble> {
    match &fact.body {
        Body::Known(event) => Ok(end_of(event)),
        Body::Unknown { kind } => Err(Trouble::Broken(format!("the outcome of {} is a {kind}", fact.asset))),
    }
}

async fn note(inner: &Inner, upload: &UploadId, entry: &Versioned<Entry>, end: &End) -> Result<(), Trouble> {
    let problem = match end {
        End::Stored => None,
        End::Abandoned(problem) => Some(problem.clone()),
    };
    match inner.entries.replace(upload, &entry.value.ended(problem, inner.clock.now()), entry.revision).await {
        // Somebody else who met it noted the same, or will: the outcome stands on the log.
        Ok(_) | Err(WriteError::Taken) => Ok(()),
        Err(WriteError::Trouble(error)) => Err(error.into()),
    }
}

/// Ends an upload without a source, unless it is full (then it ends with one) or ended before. `when` looks at the entry
/// just before it is closed; if it says no, nothing happens.
///
/// # Errors
/// When the log fails.
pub(crate) async fn close(
    inner: &Inner,
    upload: &UploadId,
    mut entry: Versioned<Entry>,
    problem: &Problem,
    when: impl Fn(&Entry) -> bool,
) -> Result<Option<End>, Trouble> {
    for _ in 0..TRIES {
        if entry.value.phase != Phase::Open || entry.value.is_full() {
            return settle(inner, upload, &entry).await;
        }
        if !when(&entry.value) {
            return Ok(None);
        }
        let closing = entry.value.closing(problem.clone());
        match inner.entries.replace(upload, &closing, entry.revision).await {
            Ok(revision) => return settle(inner, upload, &Versioned { value: closing, revision }).await,
            Err(WriteError::Trouble(error)) => return Err(error.into()),
            Err(WriteError::Taken) => match inner.entries.get(upload).await? {
                Some(found) => entry = found,
                None => return Ok(None),
            },
        }
    }
    Err(Trouble::Contended { tries: TRIES })
}
