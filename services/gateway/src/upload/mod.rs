//! Uploads: from the first byte to `SourceStored`.
//!
//! [`entry`] is what is known of a running one (pure), [`create`] begins it, [`receive`] stores bytes, [`end`] states how it
//! ended. All of it works on the log and the store alone, so any gateway can go on where another stopped.

pub(crate) mod create;
pub(crate) mod digest;
pub(crate) mod end;
pub(crate) mod entry;
pub(crate) mod pace;
pub(crate) mod receive;

use spool_nats::{Kv, KvError, Versioned};
use spool_proto::AssetId;
use spool_proto::id::UploadId;

use crate::trouble::Trouble;
use entry::{Claim, Entry, Record};

/// Tries at changing an entry that others change too.
pub(crate) const TRIES: u32 = 16;

/// The entries of running uploads.
#[derive(Clone)]
pub(crate) struct Entries(Kv<Record>);

/// An entry was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// Somebody else changed it first.
    #[error("somebody else changed the upload")]
    Taken,
    /// It is not known whether it stands.
    #[error("write the entry of an upload")]
    Trouble(#[source] KvError),
}

impl From<WriteError> for Trouble {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Taken => Trouble::Contended { tries: 1 },
            WriteError::Trouble(error) => Trouble::Kv(error),
        }
    }
}

/// The key under which an asset's upload is found. A repeat of a natural key finds the upload of its asset here.
fn claim_key(asset: &AssetId) -> String {
    format!("of.{asset}")
}

impl Entries {
    /// The entries kept in `kv`.
    pub(crate) fn new(kv: Kv<Record>) -> Self {
        Self(kv)
    }

    /// The bucket below, for the sweeper's walk.
    pub(crate) fn kv(&self) -> &Kv<Record> {
        &self.0
    }

    /// The entry of an upload.
    ///
    /// # Errors
    /// When the log does not answer.
    pub(crate) async fn get(&self, upload: &UploadId) -> Result<Option<Versioned<Entry>>, KvError> {
        Ok(self.0.get(upload.as_str()).await?.and_then(|found| match found.value {
            Record::Upload(entry) => Some(Versioned { value: *entry, revision: found.revision }),
            Record::Claim(_) | Record::Purge(_) => None,
        }))
    }

    /// Writes the first entry of an upload, or finds the one that stands.
    ///
    /// # Errors
    /// When it is not known whether it stands.
    pub(crate) async fn create(&self, upload: &UploadId, entry: &Entry) -> Result<Versioned<Entry>, Trouble> {
        match self.0.create(upload.as_str(), &Record::Upload(Box::new(entry.clone()))).await {
            Ok(revision) => Ok(Versioned { value: entry.clone(), revision }),
            Err(KvError::Exists { .. }) => {
                self.get(upload).await?.ok_or_else(|| Trouble::Broken(format!("the entry of {upload} vanished")))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces an entry if nobody else did.
    ///
    /// A write whose answer was lost is looked at: an entry that says just what was to be written stands by this call, for
    /// every change raises the epoch or the offset or is of a later time, and only one caller holds an epoch.
    ///
    /// # Errors
    /// [`WriteError::Taken`] when somebody else did.
    pub(crate) async fn replace(&self, upload: &UploadId, entry: &Entry, revision: u64) -> Result<u64, WriteError> {
        match self.0.update(upload.as_str(), &Record::Upload(Box::new(entry.clone())), revision).await {
            Ok(revision) => Ok(revision),
            Err(KvError::Conflict { .. }) => Err(WriteError::Taken),
            Err(unknown) => match self.get(upload).await {
                Ok(Some(found)) if found.value == *entry => Ok(found.revision),
                Ok(Some(found)) if found.revision != revision => Err(WriteError::Taken),
                Ok(_) | Err(_) => Err(WriteError::Trouble(unknown)),
            },
        }
    }

    /// Claims an asset for an upload, or finds the claim that stands.
    ///
    /// # Errors
    /// When it is not known whether it stands.
    pub(crate) async fn claim(&self, asset: &AssetId, claim: Claim) -> Result<Claim, Trouble> {
        let key = claim_key(asset);
        match self.0.create(&key, &Record::Claim(claim.clone())).await {
            Ok(_) => Ok(claim),
            Err(KvError::Exists { .. }) => match self.0.get(&key).await?.map(|found| found.value) {
                Some(Record::Claim(claim)) => Ok(claim),
                Some(Record::Upload(_) | Record::Purge(_)) | None => {
                    Err(Trouble::Broken(format!("the claim on {asset} vanished")))
                }
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the claim on an asset.
    ///
    /// # Errors
    /// When the log does not answer.
    pub(crate) async fn unclaim(&self, asset: &AssetId) -> Result<(), KvError> {
        self.0.delete(&claim_key(asset), None).await
    }
}
