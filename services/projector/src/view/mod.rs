//! The view: a sled database that holds a fold of the facts and nothing else. It can be thrown away at any time.
//!
//! sled 0.34 is used only like this: one tree, one thread that writes ([`writer`]), a bounded cache, rows and position in
//! one batch, so that a crash neither loses nor doubles. What it cannot open or read is folded anew from the log.

pub mod fold;
pub mod keys;
mod recent;
pub mod rows;
pub mod shelf;
pub mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use spool_proto::id::PlaybackId;
use spool_proto::{AssetId, Kind, Status, TenantId};

use fold::Write;
use keys::{Key, KeyError, Meta, Place};
use rows::{Entry, Play, Row, Stored};

use crate::card::Card;

/// Version of keys and rows. A view of another version is folded anew.
pub const SCHEMA: u32 = 3;
/// How often, and after which pause, a view is tried again that this process has not quite closed yet.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// The view could not be opened, read or written. Whatever it is, the way out is to fold anew.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The database failed.
    #[error("{what} the view in {}", directory.display())]
    Database {
        /// What was attempted.
        what: &'static str,
        /// Where.
        directory: PathBuf,
        /// Why.
        #[source]
        source: sled::Error,
    },
    /// A row is not what it should be.
    #[error("row {key:?} of the view is not understood")]
    Row {
        /// Its key.
        key: Key,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A key is not what it should be.
    #[error("read the view")]
    Key(#[source] KeyError),
    /// A row that must be there is missing.
    #[error("row {0:?} of the view is missing")]
    Missing(Key),
}

/// A fact in short with its owner.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Whose.
    pub tenant: TenantId,
    /// About which asset.
    pub asset: AssetId,
    /// The fact.
    pub entry: Entry,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The cards, newest first.
    pub cards: Vec<Card>,
    /// Where the next page goes on; nothing at the end.
    pub next: Option<Place>,
}

/// An open view.
#[derive(Debug)]
pub struct View {
    /// Some until it is dropped.
    db: Option<sled::Db>,
    directory: PathBuf,
    discard: AtomicBool,
}

impl Drop for View {
    fn drop(&mut self) {
        drop(self.db.take());
        if self.discard.load(Ordering::SeqCst)
            && let Err(error) = std::fs::remove_dir_all(&self.directory)
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "an old view is left in {}",
                self.directory.display()
            );
        }
    }
}

impl View {
    /// Opens or makes the view in `directory`, with a cache of at most `cache_bytes`.
    ///
    /// # Errors
    /// When the database is damaged, locked or can't be reached.
    pub fn open(directory: &Path, cache_bytes: u64) -> Result<Self, ViewError> {
        let fail = |source| ViewError::Database { what: "open", directory: directory.to_owned(), source };
        // The writer flushes. sled's own thread for it also tidies up, for ever: an idle view of 27 MB wrote 1.7 MB a second.
        let config = sled::Config::new().path(directory).cache_capacity(cache_bytes).flush_every_ms(None);
        let mut tries = 0;
        let db = loop {
            match open(&config) {
                Ok(db) => break db,
                // The shelf's lock says that no other process is here: it is this one, still closing it.
                Err(error) if is_locked(&error) && tries < LOCK_TRIES => tries += 1,
                Err(error) => return Err(fail(error)),
            }
            std::thread::sleep(LOCK_PAUSE);
        };
        Ok(Self { db: Some(db), directory: directory.to_owned(), discard: AtomicBool::new(false) })
    }

    /// Where it lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Removes its directory once nobody reads it any more.
    pub fn discard(&self) {
        self.discard.store(true, Ordering::SeqCst);
    }

    #[expect(clippy::expect_used, reason = "only `drop` takes it")]
    fn db(&self) -> &sled::Db {
        self.db.as_ref().expect("the database is there until the view is dropped")
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(sled::Error) -> ViewError + '_ {
        move |source| ViewError::Database { what, directory: self.directory.clone(), source }
    }

    fn get<T: DeserializeOwned>(&self, key: Key) -> Result<Option<T>, ViewError> {
        let Some(bytes) = self.db().get(key.bytes()).map_err(self.failed("read"))? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| ViewError::Row { key, source })
    }

    /// Sequence of the last fact folded; 0 for none.
    ///
    /// # Errors
    /// When it can't be read; so with every other reading below.
    pub fn position(&self) -> Result<u64, ViewError> {
        Ok(self.get(Key::Meta(Meta::Position))?.unwrap_or(0))
    }

    /// The fold of an asset and its text.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn row(&self, tenant: &TenantId, asset: &AssetId) -> Result<Option<Row>, ViewError> {
        self.get(Key::Row(tenant.clone(), asset.clone()))
    }

    /// What the outside sees of an asset.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn card(&self, tenant: &TenantId, asset: &AssetId) -> Result<Option<Card>, ViewError> {
        self.get(Key::Card(tenant.clone(), asset.clone()))
    }

    /// What a playback id plays.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn play(&self, playback: &PlaybackId) -> Result<Option<Play>, ViewError> {
        self.get(Key::Play(playback.clone()))
    }

    /// A stored chunk or still picture.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn stored(&self, key: Key) -> Result<Option<Stored>, ViewError> {
        self.get(key)
    }

    /// At most `limit` assets of a tenant, newest first: all that are not deleted, or those in one state; after `after`.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn list(
        &self,
        tenant: &TenantId,
        status: Option<Status>,
        after: Option<&Place>,
        limit: usize,
    ) -> Result<Page, ViewError> {
        let prefix = match status {
            Some(status) => keys::by_status(tenant, status),
            None => keys::listed(tenant),
        };
        let mut places = self.places(&prefix, status, tenant, after, limit + 1)?;
        let more = places.len() > limit;
        places.truncate(limit);
        let mut cards = Vec::with_capacity(places.len());
        for place in &places {
            // Gone or moved since the place was read: the list shows what is there now.
            cards.extend(self.card(tenant, &place.asset)?);
        }
        Ok(Page { cards, next: if more { places.pop() } else { None } })
    }

    fn places(
        &self,
        prefix: &[u8],
        status: Option<Status>,
        tenant: &TenantId,
        after: Option<&Place>,
        limit: usize,
    ) -> Result<Vec<Place>, ViewError> {
        let start = after.map(|place| match status {
            Some(status) => Key::ByStatus(tenant.clone(), status, place.clone()).bytes(),
            None => Key::Listed(tenant.clone(), place.clone()).bytes(),
        });
        let start = start.unwrap_or_else(|| prefix.to_vec());
        let mut places = Vec::new();
        for item in self.db().range(start.clone()..) {
            let (key, _) = item.map_err(self.failed("list"))?;
            if !key.starts_with(prefix) || places.len() == limit {
                break;
            }
            if after.is_some() && key == start {
                continue;
            }
            let (Key::Listed(_, place) | Key::ByStatus(_, _, place)) = Key::parse(&key).map_err(ViewError::Key)? else {
                return Err(ViewError::Key(KeyError::of(&key)));
            };
            places.push(place);
        }
        Ok(places)
    }

    /// At most `limit` facts of an asset in short, after sequence `after`.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn history(
        &self,
        tenant: &TenantId,
        asset: &AssetId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, ViewError> {
        let key = |sequence| Key::History(tenant.clone(), asset.clone(), sequence).bytes();
        let Some(first) = after.checked_add(1) else { return Ok(Vec::new()) };
        let mut entries = Vec::new();
        for item in self.db().range(key(first)..=key(u64::MAX)).take(limit) {
            let (key, value) = item.map_err(self.failed("read a history of"))?;
            let entry = serde_json::from_slice(&value);
            entries.push(entry.map_err(|source| row_error(&key, source))?);
        }
        Ok(entries)
    }

    /// At most `limit` facts of any asset in short, after sequence `after`.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn changes(&self, after: u64, limit: usize) -> Result<Vec<Change>, ViewError> {
        let Some(first) = after.checked_add(1) else { return Ok(Vec::new()) };
        let range = Key::Change(first).bytes()..=Key::Change(u64::MAX).bytes();
        let mut changes = Vec::new();
        for item in self.db().range(range).take(limit) {
            let (key, value) = item.map_err(self.failed("read the changes of"))?;
            let (tenant, asset): (TenantId, AssetId) =
                serde_json::from_slice(&value).map_err(|source| row_error(&key, source))?;
            let Key::Change(sequence) = Key::parse(&key).map_err(ViewError::Key)? else { continue };
            let history = Key::History(tenant.clone(), asset.clone(), sequence);
            let entry = self.get(history.clone())?.ok_or(ViewError::Missing(history))?;
            changes.push(Change { tenant, asset, entry });
        }
        Ok(changes)
    }

    /// Must it be folded anew, because this version knows facts that the one that folded it did not?
    ///
    /// # Errors
    /// When it can't be read.
    pub fn knows_less(&self) -> Result<bool, ViewError> {
        let stored: Option<String> = self.get(Key::Meta(Meta::Fingerprint))?;
        if stored.is_none_or(|stored| stored == fingerprint()) {
            return Ok(false);
        }
        Ok(self.db().scan_prefix(keys::UNKNOWN).next().transpose().map_err(self.failed("read"))?.is_some())
    }

    /// Writes the rows of a batch and its position at once. Called by the writer's thread alone.
    fn apply(&self, writes: Vec<Write>, position: u64) -> Result<(), ViewError> {
        let mut batch = sled::Batch::default();
        for write in writes {
            match write {
                Write::Put(key, value) => batch.insert(key.bytes(), value),
                Write::Delete(key) => batch.remove(key.bytes()),
            }
        }
        batch.insert(Key::Meta(Meta::Position).bytes(), position.to_string().into_bytes());
        batch.insert(Key::Meta(Meta::Fingerprint).bytes(), format!("{:?}", fingerprint()).into_bytes());
        self.db().apply_batch(batch).map_err(self.failed("write"))
    }

    #[cfg(test)]
    pub(crate) fn damage_a_card(&self, tenant: &TenantId, asset: &AssetId) {
        let key = Key::Card(tenant.clone(), asset.clone()).bytes();
        self.db().insert(key, b"{".to_vec()).expect("written");
    }

    /// Writes out what is held back.
    fn flush(&self) -> Result<(), ViewError> {
        self.db().flush().map(|_| ()).map_err(self.failed("flush"))
    }

    /// Number of rows and a digest over all of them, but for those about the view itself: equal views are equal folds.
    ///
    /// # Errors
    /// When a row can't be read.
    pub fn digest(&self) -> Result<(u64, spool_proto::id::Sha256), ViewError> {
        let mut hasher = Sha256::new();
        let mut rows = 0;
        let meta = Key::Meta(Meta::Position).bytes()[0];
        for item in self.db().iter() {
            let (key, value) = item.map_err(self.failed("read"))?;
            if key[0] == meta {
                continue;
            }
            rows += 1;
            for part in [&key, &value] {
                hasher.update((part.len() as u64).to_be_bytes());
                hasher.update(part);
            }
        }
        Ok((rows, spool_proto::id::Sha256(hasher.finalize().into())))
    }
}

fn open(config: &sled::Config) -> Result<sled::Db, sled::Error> {
    // sled meets some damage with a panic of its own; opening is where that is likely.
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open()));
    opened.unwrap_or_else(|_| Err(sled::Error::ReportableBug("opening panicked".to_owned())))
}

/// sled has no kind for this error; its threads let go of the file a little after the database is dropped.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(io) if io.to_string().contains("could not acquire lock"))
}

fn row_error(key: &[u8], source: serde_json::Error) -> ViewError {
    match Key::parse(key) {
        Ok(key) => ViewError::Row { key, source },
        Err(error) => ViewError::Key(error),
    }
}

/// What this code knows: the schema of the rows and the kinds of facts.
fn fingerprint() -> String {
    let kinds: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    format!("{SCHEMA}:{}", spool_proto::id::Sha256::of(kinds.join(",").as_bytes()))
}

#[cfg(test)]
mod speed;
#[cfg(test)]
mod tests;
