//! The object store: every byte of a source, a rendition, a still or a manifest goes through here.
//!
//! - No key is written twice. [`Store::put`] never overwrites; the same bytes once more are the same object.
//! - Every read and write streams with a bounded buffer; every request to the store has a time limit.
//! - What a store can't do is found out at the start ([`Abilities`]), not assumed.
//!
//! It does not know what an object means: that is the keys' business (`spool_proto::key`).

mod config;
mod error;
mod probe;
mod writer;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use spool_proto::Timestamp;
use spool_proto::key::Key;

use config::Disk;
pub use config::{Directory, S3, Secret, StoreConfig, free_space};
pub use error::{OpenError, StoreError};
pub use probe::Abilities;
pub use writer::{Stored, Writer};

/// One request to the store, with its own retries, takes no longer than this.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// A stream from a directory is read in blocks of this size.
pub const READ_BLOCK: u64 = 1 << 20;
/// Deletes that run at once in [`Store::delete`].
const DELETES_AT_ONCE: usize = 8;
/// A staging file that was written to within this time may have a writer that lives, whatever age is asked for: none is let be
/// silent for so long.
pub const STAGING_LEAST: Duration = Duration::from_secs(10 * 60);

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The key as text.
    pub name: String,
    /// The key, if it is one of ours.
    pub key: Option<Key>,
    /// Length in bytes.
    pub size_bytes: u64,
    /// When the store says it was written.
    pub written_at: Timestamp,
}

/// What went through a store since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Objects written.
    pub written_objects: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Objects deleted.
    pub deleted_objects: u64,
}

#[derive(Debug, Default)]
struct Counters {
    written_objects: AtomicU64,
    written_bytes: AtomicU64,
    read_bytes: AtomicU64,
    deleted_objects: AtomicU64,
}

/// The store. Cheap to clone; clones share their counters.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    /// Where it lies, if it is a directory.
    directory: Option<Arc<Disk>>,
    abilities: Abilities,
    counters: Arc<Counters>,
}

impl Store {
    /// Opens the store and finds out what it can do by trying.
    ///
    /// # Errors
    /// When it can't be reached, or refuses to be written to.
    pub async fn open(config: &StoreConfig) -> Result<Self, OpenError> {
        let (inner, directory) = config::build(config)?;
        let abilities = limited(probe::probe(inner.as_ref())).await.map_err(OpenError::Probe)?;
        if !abilities.conditional_put {
            tracing::warn!(
                "the object store ignores conditional writes; keys stay unique by their attempt tokens alone"
            );
        }
        Ok(Self { inner, directory: directory.map(Arc::new), abilities, counters: Arc::default() })
    }

    /// Does it answer at all within this time? Asks for an object that is not there.
    pub async fn answers(&self, within: Duration) -> bool {
        let asked = tokio::time::timeout(within, self.inner.head(&Path::from("probe/ready"))).await;
        matches!(asked, Ok(Ok(_) | Err(object_store::Error::NotFound { .. })))
    }

    /// What the store can do.
    pub fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// What went through it so far.
    pub fn traffic(&self) -> Traffic {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            written_objects: read(&self.counters.written_objects),
            written_bytes: read(&self.counters.written_bytes),
            read_bytes: read(&self.counters.read_bytes),
            deleted_objects: read(&self.counters.deleted_objects),
        }
    }

    /// Writes an object that fits in memory. The same bytes under the same key once more are no error, so a repeat after a
    /// lost answer is harmless.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when other bytes stand there; else what the store said.
    pub async fn put(&self, key: &Key, body: Bytes) -> Result<(), StoreError> {
        self.put_parts(key, vec![body]).await
    }

    /// [`Store::put`] of several buffers as one object, without joining them.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn put_parts(&self, key: &Key, parts: Vec<Bytes>) -> Result<(), StoreError> {
        let path = path(key);
        let length: u64 = parts.iter().map(|part| part.len() as u64).sum();
        self.room_for(key, length)?;
        if !self.abilities.conditional_put && self.head(key).await?.is_some() {
            return self.confirm(key, &parts, length).await;
        }
        let mode = if self.abilities.conditional_put { PutMode::Create } else { PutMode::Overwrite };
        let options = PutOptions { mode, ..PutOptions::default() };
        let payload = PutPayload::from_iter(parts.iter().cloned());
        match limited(self.inner.put_opts(&path, payload, options)).await {
            Ok(_) => {
                self.wrote(length);
                Ok(())
            }
            Err(error) if error.is_exists() => self.confirm(key, &parts, length).await,
            Err(error) => Err(error.about(key)),
        }
    }

    /// Something stands at `key`: is it what was to be written? A put whose answer was lost is repeated by the client
    /// underneath and then meets itself.
    async fn confirm(&self, key: &Key, parts: &[Bytes], length: u64) -> Result<(), StoreError> {
        let exists = || StoreError::Exists { key: key.to_string() };
        if self.head(key).await? != Some(length) {
            return Err(exists());
        }
        let standing = if length == 0 { Bytes::new() } else { self.get_range(key, 0..length).await? };
        let mut rest = standing.as_ref();
        let same = parts.iter().all(|part| {
            let (front, back) = rest.split_at(part.len().min(rest.len()));
            rest = back;
            front == part.as_ref()
        });
        if same { Ok(()) } else { Err(exists()) }
    }

    /// Opens an object for writing bytes as they come. Nothing is visible before [`Writer::finish`]; dropping it leaves nothing.
    ///
    /// # Errors
    /// When something stands at the key already, or the store does not answer.
    pub async fn put_stream(&self, key: &Key) -> Result<Writer, StoreError> {
        if self.head(key).await?.is_some() {
            return Err(StoreError::Exists { key: key.to_string() });
        }
        Ok(Writer::new(self.clone(), key.clone()))
    }

    /// Refuses what would leave a disk without the room that is to stay free.
    fn room_for(&self, key: &Key, bytes: u64) -> Result<(), StoreError> {
        self.directory.as_ref().map_or(Ok(()), |disk| disk.room_for(bytes)).map_err(|error| error.about(key))
    }

    /// The bytes of `range`, all of them.
    ///
    /// # Errors
    /// When there is no such object, it is shorter than that, or the store does not answer.
    pub async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let wanted = range.end - range.start;
        let bytes = limited(self.inner.get_range(&path(key), range)).await.map_err(|error| error.about(key))?;
        self.counters.read_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if bytes.len() as u64 == wanted {
            return Ok(bytes);
        }
        Err(StoreError::Short { key: key.to_string(), wanted, got: bytes.len() as u64 })
    }

    /// The bytes of `range` as they come.
    ///
    /// # Errors
    /// When the store does not answer; in the stream, as [`Store::get_range`].
    pub async fn stream(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        if self.directory.is_some() || range.end.saturating_sub(range.start) <= READ_BLOCK {
            return Ok(self.blocks(key.clone(), range));
        }
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let found = limited(self.inner.get_opts(&path(key), options)).await.map_err(|error| error.about(key))?;
        let (name, counters) = (key.to_string(), Arc::clone(&self.counters));
        let stream = found.into_stream().map_err(move |source| StoreError::from(source).named(&name));
        let stream = stream.inspect_ok(move |bytes| {
            counters.read_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        });
        Ok(stream.boxed())
    }

    /// A range block by block. Of a directory the library itself reads 8 KiB at a time, one thread hop each.
    fn blocks(&self, key: Key, range: Range<u64>) -> BoxStream<'static, Result<Bytes, StoreError>> {
        let store = self.clone();
        let start = range.start;
        stream::try_unfold(start, move |at| {
            let (store, key) = (store.clone(), key.clone());
            async move {
                if at >= range.end {
                    return Ok(None);
                }
                let end = range.end.min(at + READ_BLOCK);
                Ok(Some((store.get_range(&key, at..end).await?, end)))
            }
        })
        .boxed()
    }

    /// The length of an object, if it is there.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn head(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        match limited(self.inner.head(&path(key))).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error.about(key)),
        }
    }

    /// Deletes objects; those that are not there are no error.
    ///
    /// # Errors
    /// The first failure; the others were tried too.
    pub async fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        let deletes = stream::iter(keys.to_vec()).map(|key| async move {
            match limited(self.inner.delete(&path(&key))).await {
                Ok(()) => {
                    self.counters.deleted_objects.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
                Err(error) if error.is_missing() => Ok(()),
                Err(error) => Err(error.about(&key)),
            }
        });
        let results: Vec<_> = deletes.buffer_unordered(DELETES_AT_ONCE).collect().await;
        results.into_iter().collect()
    }

    /// Every object under `prefix` (whole parts of a key: `sources/default`), in no order.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<Listed, StoreError>> {
        let prefix_path = (!prefix.is_empty()).then(|| Path::from(prefix));
        let name = prefix.to_owned();
        let listed = self.inner.list(prefix_path.as_ref()).map_ok(|meta| Listed {
            key: meta.location.as_ref().parse().ok(),
            name: meta.location.to_string(),
            size_bytes: meta.size,
            written_at: Timestamp::from_ms(meta.last_modified.timestamp_millis()),
        });
        listed.map_err(move |source| StoreError::from(source).named(&name)).boxed()
    }

    /// Removes what killed processes left half written beside the objects of a directory, where no listing shows it: what
    /// nobody wrote to for `age`, or for [`STAGING_LEAST`] if that is longer.
    /// Returns how many files that were. Other stores keep such things themselves (see their lifecycle rules).
    ///
    /// # Errors
    /// When the directory can't be read.
    pub async fn sweep_staging(&self, now: Timestamp, age: Duration) -> Result<u64, StoreError> {
        let Some(directory) = self.directory.clone() else { return Ok(0) };
        let swept =
            tokio::task::spawn_blocking(move || config::sweep_staging(&directory.path, now, age.max(STAGING_LEAST)));
        swept
            .await
            .map_err(|_| StoreError::TimedOut { key: "staging files".to_owned() })?
            .map_err(StoreError::directory)
    }

    fn wrote(&self, bytes: u64) {
        self.counters.written_objects.fetch_add(1, Ordering::Relaxed);
        self.counters.written_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Keys are made of ids and plain names, so their text is a path as it is.
fn path(key: &Key) -> Path {
    Path::from(key.to_string())
}

/// Runs a request for at most [`REQUEST_LIMIT`].
async fn limited<T>(request: impl Future<Output = object_store::Result<T>>) -> Result<T, StoreError> {
    match tokio::time::timeout(REQUEST_LIMIT, request).await {
        Ok(answer) => answer.map_err(StoreError::from),
        Err(_) => Err(StoreError::TimedOut { key: String::new() }),
    }
}
