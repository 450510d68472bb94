//! Messages given up: parked, listed, released; orders out of deliveries buried.
//!
//! A parked message keeps its bytes, headers and subject, so that a release puts it back as it was. Its dedup id comes back too: a release right after
//! the order was queued is told apart ([`Released::TooSoon`]) rather than lost as a duplicate.

use std::collections::BTreeMap;

use async_nats::HeaderMap;
use bytes::Bytes;
use spool_proto::subject::{self, ParkedSubject};
use spool_proto::{Code, Timestamp, envelope};

use crate::api::{self, code};
use crate::connect::Log;
use crate::message::{self, Stored, first};
use crate::request::Failure;
use crate::streams::{INGEST, JOBS, PARKED};

/// Longest last error that is kept.
const LAST_ERROR_CHARS: usize = 2000;
/// Most messages in one list.
const LIST_MAX: usize = 500;

/// A parked message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// Sequence in `SPOOL_PARKED`: its name in lists.
    pub sequence: u64,
    /// When it was parked.
    pub at: Timestamp,
    /// Where it came from.
    pub from: ParkedSubject,
    /// Why; nothing when a later version's code.
    pub code: Option<Code>,
    /// Deliveries that were made.
    pub attempts: u64,
    /// Last error, for operators.
    pub why: String,
    /// Its subject in the stream it came from.
    pub subject: String,
    /// Its headers there.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Bytes,
}

/// A message that was taken out of its stream and parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buried {
    /// Its subject.
    pub subject: String,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Bytes,
}

/// A parked message could not be written, read or removed.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct ParkError {
    /// What was attempted, on what.
    pub what: String,
    /// Why.
    #[source]
    pub source: Failure,
}

/// What came of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// It is back in its stream, and no longer parked.
    Back,
    /// An order for the same item is queued: nothing to release. It stays parked.
    Blocked,
    /// It was in its stream a moment ago, so the server would take it for a duplicate: again in a few minutes. It stays parked.
    TooSoon,
    /// It came from a stream that takes nothing back (facts, ticks). It stays parked.
    NotReleasable,
}

/// It is not known whether it was released; it is still parked.
#[derive(Debug, thiserror::Error)]
#[error("release parked message {sequence}")]
pub struct ReleaseError {
    /// Sequence in `SPOOL_PARKED`.
    pub sequence: u64,
    /// Why.
    #[source]
    pub source: Failure,
}

/// A message to park.
pub(crate) struct Note {
    pub(crate) from: ParkedSubject,
    pub(crate) code: Code,
    pub(crate) why: String,
    pub(crate) attempts: u64,
    pub(crate) subject: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Note {
    /// The headers it lies under: its own ones, and why it lies there.
    fn parked_headers(&self) -> HeaderMap {
        let mut all = message::plain_headers(&self.headers);
        let own = [
            (envelope::CODE, self.code.name().to_owned()),
            (envelope::ATTEMPTS, self.attempts.to_string()),
            (envelope::LAST_ERROR, self.why.chars().take(LAST_ERROR_CHARS).collect()),
            (envelope::ORIGINAL_SUBJECT, self.subject.clone()),
        ];
        all.extend(own.map(|(name, value)| (name.to_owned(), value)));
        if let Some(id) = first(&self.headers, envelope::MSG_ID) {
            all.insert(envelope::ORIGINAL_MSG_ID.to_owned(), id.to_owned());
        }
        message::headers(all.iter().map(|(name, value)| (name.as_str(), value.clone())))
    }
}

impl Log {
    /// Parks a message. Its place is one subject of its own, so that parking it twice keeps the first.
    pub(crate) async fn park(&self, note: &Note) -> Result<(), ParkError> {
        let subject = note.from.to_string();
        let failed = |source| ParkError { what: format!("park {subject}"), source };
        match self.store_again(&subject, note.parked_headers(), note.body.clone()).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.code() == Some(code::STORE_REFUSED) => {
                let standing = self.last_at_leader(PARKED, &subject).await.map_err(failed)?;
                standing.map(|_| ()).ok_or_else(|| failed(failure))
            }
            Err(failure) => Err(failed(failure)),
        }
    }

    /// Parked messages after sequence `after`, at most `limit`, oldest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list_parked(&self, after: u64, limit: usize) -> Result<Vec<Parked>, ParkError> {
        let query = serde_json::json!({
            "seq": after + 1, "batch": limit.clamp(1, LIST_MAX), "next_by_subj": subject::PARKED,
        });
        let batch = self.batch_again(PARKED, &query).await;
        let batch = batch.map_err(|source| ParkError { what: "list parked messages".to_owned(), source })?;
        Ok(batch.stored.iter().filter_map(parked).collect())
    }

    /// One parked message.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn read_parked(&self, sequence: u64) -> Result<Option<Parked>, ParkError> {
        let stored = self.message_at_leader(PARKED, sequence).await;
        let stored = stored.map_err(|source| ParkError { what: format!("read parked message {sequence}"), source })?;
        Ok(stored.as_ref().and_then(parked))
    }

    /// Removes a parked message; was there one? By itself only tests do it: who may, and who may not.
    ///
    /// # Errors
    /// When it is not known that it is gone.
    #[cfg(feature = "testing")]
    pub async fn delete_parked(&self, sequence: u64) -> Result<bool, ParkError> {
        let deleted = self.delete_message(PARKED, sequence).await;
        deleted.map_err(|source| ParkError { what: format!("remove parked message {sequence}"), source })
    }

    /// Puts a parked message back into the stream it came from, as it was, and removes it from the parked ones. Whether that makes sense is the
    /// caller's question. Repeating it is harmless.
    ///
    /// # Errors
    /// When it is not known whether it is back.
    pub async fn release_parked(&self, parked: &Parked) -> Result<Released, ReleaseError> {
        let sequence = parked.sequence;
        self.try_release(parked).await.map_err(|source| ReleaseError { sequence, source })
    }

    async fn try_release(&self, parked: &Parked) -> Result<Released, Failure> {
        if ![JOBS, INGEST].contains(&parked.from.stream.as_str()) {
            return Ok(Released::NotReleasable);
        }
        let headers = message::headers(parked.headers.iter().map(|(name, value)| (name.as_str(), value.clone())));
        match self.store_again(&parked.subject, headers, parked.body.clone()).await {
            Ok(stood) if stood.duplicate => return Ok(Released::TooSoon),
            Ok(_) => {}
            Err(failure) if failure.code() == Some(code::STORE_REFUSED) => {
                let standing = self.last_at_leader(&parked.from.stream, &parked.subject).await?;
                return if standing.is_some() { Ok(Released::Blocked) } else { Err(failure) };
            }
            Err(failure) => return Err(failure),
        }
        self.delete_message(PARKED, parked.sequence).await?;
        Ok(Released::Back)
    }

    /// Takes a message that the server has given up out of its stream: parks its bytes, then deletes it, so that its subject is free. Repeatable: when it is gone
    /// already, what was parked is returned; nothing when it was never parked (a late worker settled it).
    ///
    /// # Errors
    /// When it is not known that it is parked and gone.
    pub async fn bury(
        &self,
        stream: &str,
        sequence: u64,
        consumer: &str,
        code: Code,
        why: &str,
        attempts: u64,
    ) -> Result<Option<Buried>, ParkError> {
        let failed = |source| ParkError { what: format!("bury message {sequence} of {stream}"), source };
        let from = ParkedSubject { stream: stream.to_owned(), consumer: consumer.to_owned(), sequence };
        if let Some(stored) = self.message_at_leader(stream, sequence).await.map_err(failed)? {
            let buried = buried(&stored);
            let (why, Stored { subject, headers, body, .. }) = (why.to_owned(), stored);
            self.park(&Note { from, code, why, attempts, subject, headers, body }).await?;
            self.delete_message(stream, sequence).await.map_err(failed)?;
            return Ok(Some(buried));
        }
        let parked_before = self.last_at_leader(PARKED, &from.to_string()).await.map_err(failed)?;
        Ok(parked_before.as_ref().and_then(parked).map(|Parked { subject, headers, body, .. }| Buried {
            subject,
            headers,
            body,
        }))
    }

    /// A message that the server has given up, while it stands in its stream.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn given_up(&self, stream: &str, sequence: u64) -> Result<Option<Buried>, ParkError> {
        let stored = self.message_at_leader(stream, sequence).await;
        let failed = |source| ParkError { what: format!("read message {sequence} of {stream}"), source };
        Ok(stored.map_err(failed)?.as_ref().map(buried))
    }

    /// Takes a message that the server has given up out of its stream, so that its subject is free, and parks nothing: what it
    /// asks for is asked for anew. Repeatable; was there one?
    ///
    /// # Errors
    /// When it is not known that it is gone.
    pub async fn clear(&self, stream: &str, sequence: u64) -> Result<bool, ParkError> {
        let failed = |source| ParkError { what: format!("remove message {sequence} of {stream}"), source };
        self.delete_message(stream, sequence).await.map_err(failed)
    }

    /// Deletes one message of a stream; was there one?
    async fn delete_message(&self, stream: &str, sequence: u64) -> Result<bool, Failure> {
        let query = serde_json::json!({ "seq": sequence, "no_erase": true });
        let deleted: Result<serde_json::Value, Failure> =
            self.ask_again(&api::message_delete(stream), query.to_string().into()).await;
        match deleted {
            Ok(_) => Ok(true),
            // The server has several codes for "not there"; whether it is there decides.
            Err(failure) if failure.code().is_some() => {
                let standing = self.message_at_leader(stream, sequence).await?;
                if standing.is_none() { Ok(false) } else { Err(failure) }
            }
            Err(failure) => Err(failure),
        }
    }
}

/// A message that stands in its stream, as it will be parked.
fn buried(stored: &Stored) -> Buried {
    let headers = original_headers(&stored.headers, envelope::MSG_ID);
    Buried { subject: stored.subject.clone(), headers, body: stored.body.clone() }
}

/// The headers a message had, with its dedup id, which lies under `id_name`.
fn original_headers(headers: &HeaderMap, id_name: &str) -> BTreeMap<String, String> {
    let mut original = message::plain_headers(headers);
    for ours in [
        envelope::CODE,
        envelope::ATTEMPTS,
        envelope::LAST_ERROR,
        envelope::ORIGINAL_SUBJECT,
        envelope::ORIGINAL_MSG_ID,
    ] {
        original.remove(ours);
    }
    original.extend(first(headers, id_name).map(|id| (envelope::MSG_ID.to_owned(), id.to_owned())));
    original
}

/// A parked message out of a stored one; nothing, and a line in the log, when it is none (only admin could have put it there).
fn parked(stored: &Stored) -> Option<Parked> {
    let from = subject::parse_parked(&stored.subject)
        .map_err(|error| tracing::error!("message {} of the parked ones: {error}", stored.sequence))
        .ok()?;
    let text = |name| stored.header(name).unwrap_or_default().to_owned();
    Some(Parked {
        sequence: stored.sequence,
        at: stored.at,
        from,
        code: text(envelope::CODE).parse().ok(),
        attempts: text(envelope::ATTEMPTS).parse().unwrap_or(0),
        why: text(envelope::LAST_ERROR),
        subject: text(envelope::ORIGINAL_SUBJECT),
        headers: original_headers(&stored.headers, envelope::ORIGINAL_MSG_ID),
        body: stored.body.clone(),
    })
}
