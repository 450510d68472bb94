//! Values by key, with compare and set. Laid out as clients of NATS expect a bucket, so that their tools can look in.
//!
//! Reads of one key go to the leader: an upload's offset must not be an old one.

use std::marker::PhantomData;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use spool_proto::envelope;

use crate::api::{self, code, header};
use crate::connect::Log;
use crate::message::{Stored, headers};
use crate::request::{Failure, PAUSES, about};
use crate::streams::TOMBSTONE_AGE;

/// Most keys in one answer of the server.
const LIST_MAX: usize = 500;
/// Longest key.
const KEY_MAX: usize = 255;

/// A bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// Running uploads. On disk, no age.
    Uploads,
    /// Who works on what. Forgotten after a while.
    Leases,
}

/// A value and the revision it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// Its revision: the next write may demand that it is still this one.
    pub revision: u64,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<T> {
    /// Key.
    pub key: String,
    /// The value.
    pub value: T,
    /// Its revision.
    pub revision: u64,
}

/// A key could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// There is a value already.
    #[error("{key} has a value already")]
    Exists {
        /// Key.
        key: String,
    },
    /// The revision is no longer the one demanded.
    #[error("{key} was changed by somebody else")]
    Conflict {
        /// Key.
        key: String,
    },
    /// The key is not made of tokens of `A-Z a-z 0-9 - _ =` with dots between.
    #[error("{key:?} is no key")]
    Key {
        /// Key.
        key: String,
    },
    /// The value is not understood, or can't be written.
    #[error("the value of {key} is not understood")]
    Malformed {
        /// Key.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The server could not be asked, or said no. After a write it is not known whether it stands.
    #[error("{what} {key}")]
    Failed {
        /// What was attempted.
        what: &'static str,
        /// Key.
        key: String,
        /// Why.
        #[source]
        source: Failure,
    },
}

/// A bucket with values of one type, stored as JSON. Cheap to clone.
pub struct Kv<T> {
    log: Log,
    bucket: Bucket,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for Kv<T> {
    fn clone(&self) -> Self {
        Kv { log: self.log.clone(), bucket: self.bucket, value: PhantomData }
    }
}

impl Log {
    /// The bucket, with values of type `T`.
    ///
    /// # Errors
    /// When it does not exist, or can't be asked for.
    pub async fn kv<T: Serialize + DeserializeOwned>(&self, bucket: Bucket) -> Result<Kv<T>, KvError> {
        let info: Result<serde::de::IgnoredAny, Failure> =
            self.ask_again(&api::stream_info(bucket.stream()), Bytes::new()).await;
        info.map_err(|source| KvError::Failed { what: "look up bucket", key: bucket.name().to_owned(), source })?;
        Ok(Kv { log: self.clone(), bucket, value: PhantomData })
    }
}

/// What stands under a key: a value, or the mark of one that was deleted.
struct Standing {
    stored: Stored,
    deleted: bool,
}

impl<T: Serialize + DeserializeOwned> Kv<T> {
    /// The value of `key`, read at the leader.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn get(&self, key: &str) -> Result<Option<Versioned<T>>, KvError> {
        let standing = self.standing(key).await?;
        let Some(Standing { stored, deleted: false }) = standing else { return Ok(None) };
        Ok(Some(Versioned { value: decode(key, &stored.body)?, revision: stored.sequence }))
    }

    /// Writes the first value of `key`; its revision.
    ///
    /// # Errors
    /// [`KvError::Exists`] when there is one already.
    pub async fn create(&self, key: &str, value: &T) -> Result<u64, KvError> {
        let body = encode(key, value)?;
        let conflict = match self.write(key, body.clone(), Some(0)).await {
            Err(error @ KvError::Conflict { .. }) => error,
            outcome => return outcome,
        };
        match self.standing(key).await? {
            // The mark of a deleted value stands there until it is forgotten.
            Some(Standing { stored, deleted: true }) => match self.write(key, body, Some(stored.sequence)).await {
                Err(KvError::Conflict { key }) => Err(KvError::Exists { key }),
                outcome => outcome,
            },
            Some(Standing { deleted: false, .. }) => Err(KvError::Exists { key: key.to_owned() }),
            None => Err(conflict),
        }
    }

    /// Replaces the value of `key` if its revision is still `revision`; the new revision.
    ///
    /// # Errors
    /// [`KvError::Conflict`] when it is not.
    pub async fn update(&self, key: &str, value: &T, revision: u64) -> Result<u64, KvError> {
        self.write(key, encode(key, value)?, Some(revision)).await
    }

    /// Writes the value of `key`, whatever it was; the new revision.
    ///
    /// # Errors
    /// When it is not known whether it stands.
    pub async fn put(&self, key: &str, value: &T) -> Result<u64, KvError> {
        self.write(key, encode(key, value)?, None).await
    }

    /// Removes `key`, if its revision is still the one demanded.
    ///
    /// # Errors
    /// [`KvError::Conflict`] when it is not.
    pub async fn delete(&self, key: &str, revision: Option<u64>) -> Result<(), KvError> {
        let mark = [(header::KV_OPERATION, "DEL".to_owned()), (header::TTL, format!("{}s", TOMBSTONE_AGE.as_secs()))];
        self.write_with(key, Bytes::new(), revision, &mark).await.map(|_| ())
    }

    /// Keys with their values whose revision is above `after`, at most `limit`, in the order of their last change. Go on from the last one's
    /// revision; an empty answer is the end. What changes meanwhile may come twice or, being deleted, not at all.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn entries(&self, after: u64, limit: usize) -> Result<Vec<Entry<T>>, KvError> {
        let every = api::kv(self.bucket.name(), ">");
        let mut entries = Vec::new();
        let mut after = after;
        while entries.len() < limit {
            let batch = (limit - entries.len()).min(LIST_MAX);
            let query = serde_json::json!({ "seq": after + 1, "batch": batch, "next_by_subj": every });
            let failed = |source| KvError::Failed { what: "list", key: every.clone(), source };
            let batch = self.log.batch_again(self.bucket.stream(), &query).await.map_err(failed)?;
            let Some(last) = batch.stored.last() else { break };
            after = last.sequence;
            for stored in batch.stored.iter().filter(|stored| !is_mark(stored)) {
                let key = stored.subject.strip_prefix(every.trim_end_matches('>')).unwrap_or_default().to_owned();
                entries.push(Entry { value: decode(&key, &stored.body)?, key, revision: stored.sequence });
            }
        }
        Ok(entries)
    }

    /// Every key, at most `limit` of them, in no order that means anything.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn keys(&self, limit: usize) -> Result<Vec<String>, KvError> {
        Ok(self.entries(0, limit).await?.into_iter().map(|entry| entry.key).collect())
    }

    async fn standing(&self, key: &str) -> Result<Option<Standing>, KvError> {
        let subject = self.subject(key)?;
        let stored = self.log.last_at_leader(self.bucket.stream(), &subject).await;
        let stored = stored.map_err(|source| KvError::Failed { what: "read", key: key.to_owned(), source })?;
        Ok(stored.map(|stored| Standing { deleted: is_mark(&stored), stored }))
    }

    async fn write(&self, key: &str, body: Bytes, expected: Option<u64>) -> Result<u64, KvError> {
        self.write_with(key, body, expected, &[]).await
    }

    /// Writes, and where it is not clear whether that worked, looks. The dedup id is a random one of this write: so a writer whose answer was lost tells its own value from
    /// an equal one of somebody else, which under compare-and-set is the difference between won and lost.
    async fn write_with(
        &self,
        key: &str,
        body: Bytes,
        expected: Option<u64>,
        extra: &[(&'static str, String)],
    ) -> Result<u64, KvError> {
        let subject = self.subject(key)?;
        let failed = |source| KvError::Failed { what: "write", key: key.to_owned(), source };
        let id = write_id().map_err(|error| failed(Failure::broken(&subject, error)))?;
        let mut pairs = vec![(envelope::MSG_ID, id.clone())];
        pairs.extend(expected.map(|revision| (header::EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string())));
        pairs.extend(extra.iter().cloned());
        let headers = headers(pairs);
        let mut pauses = PAUSES.iter();
        loop {
            let failure = match self.log.store(&subject, headers.clone(), body.clone()).await {
                Ok(stood) => return Ok(stood.sequence),
                Err(failure) => failure,
            };
            let wrong = matches!(failure.code(), Some(code::WRONG_LAST_SEQUENCE | code::SEQUENCE_IN_PROCESS));
            if !wrong && !failure.is_transient() {
                return Err(failed(failure));
            }
            match self.standing(key).await? {
                Some(Standing { stored, .. }) if stored.header(envelope::MSG_ID) == Some(id.as_str()) => {
                    return Ok(stored.sequence);
                }
                standing => {
                    let revision = standing.map_or(0, |standing| standing.stored.sequence);
                    if expected.is_some_and(|expected| expected != revision) {
                        return Err(KvError::Conflict { key: key.to_owned() });
                    }
                }
            }
            // Another writer was in flight, or the call was lost: what is expected still stands.
            let Some(pause) = pauses.next() else { return Err(failed(failure)) };
            about(*pause).await;
        }
    }

    fn subject(&self, key: &str) -> Result<String, KvError> {
        if !is_key(key) {
            return Err(KvError::Key { key: key.to_owned() });
        }
        Ok(api::kv(self.bucket.name(), key))
    }
}

fn is_mark(stored: &Stored) -> bool {
    stored.header(header::KV_OPERATION).is_some()
}

fn is_key(key: &str) -> bool {
    let token = |token: &str| {
        !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'='))
    };
    key.len() <= KEY_MAX && key.split('.').all(token)
}

fn write_id() -> Result<String, getrandom::Error> {
    let mut bits = [0u8; 16];
    getrandom::fill(&mut bits)?;
    Ok(format!("w{:032x}", u128::from_be_bytes(bits)))
}

fn encode<T: Serialize>(key: &str, value: &T) -> Result<Bytes, KvError> {
    let body = serde_json::to_vec(value).map_err(|source| KvError::Malformed { key: key.to_owned(), source })?;
    Ok(body.into())
}

fn decode<T: DeserializeOwned>(key: &str, body: &[u8]) -> Result<T, KvError> {
    serde_json::from_slice(body).map_err(|source| KvError::Malformed { key: key.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_would_reach_other_keys_is_refused() {
        for good in ["a", "default.vid_1.g1-v0", "upl_x", "A=="] {
            assert!(is_key(good), "{good}");
        }
        for bad in ["", ".", "a.", "a..b", "*", "a.>", "a b", "ä"] {
            assert!(!is_key(bad), "{bad}");
        }
    }
}
