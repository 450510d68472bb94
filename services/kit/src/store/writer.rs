//! Writing an object whose end is not known yet: small ones in one request, larger ones in parts.

use bytes::{Bytes, BytesMut};
use object_store::{MultipartUpload, ObjectStoreExt as _, WriteMultipart};
use sha2::{Digest as _, Sha256 as Hasher};
use spool_proto::id::Sha256;
use spool_proto::key::Key;

use super::{Store, StoreError, limited, path};

/// Size of a part; the smallest that S3 takes is 5 MiB.
const PART: usize = 8 << 20;
/// Parts in flight; with the one being filled they bound the memory of a writer.
const PARTS_AT_ONCE: usize = 2;

/// What [`Writer::finish`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Length in bytes.
    pub size_bytes: u64,
    /// Digest of all of it.
    pub sha256: Sha256,
}

/// An object being written.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    key: Key,
    hasher: Hasher,
    length: u64,
    /// What came while it still fits in one part.
    small: BytesMut,
    parts: Option<WriteMultipart>,
}

impl Writer {
    pub(super) fn new(store: Store, key: Key) -> Self {
        Self { store, key, hasher: Hasher::new(), length: 0, small: BytesMut::new(), parts: None }
    }

    /// Bytes written so far: where the next ones will stand in the object.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Takes more bytes; waits while two parts are in flight.
    ///
    /// # Errors
    /// What the store said about this part or one before it.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.hasher.update(&bytes);
        self.length += bytes.len() as u64;
        if self.parts.is_none() {
            if self.small.len() + bytes.len() <= PART {
                self.small.extend_from_slice(&bytes);
                return Ok(());
            }
            // Asked for both before anything is begun: what was kept so far has not been asked for.
            self.store.room_for(&self.key, (self.small.len() + bytes.len()) as u64)?;
            let upload = self.open().await?;
            let mut parts = WriteMultipart::new_with_chunk_size(upload, PART);
            parts.put(self.small.split().freeze());
            self.parts = Some(parts);
        }
        let Some(parts) = &mut self.parts else { return Ok(()) };
        self.store.room_for(&self.key, bytes.len() as u64)?;
        limited(parts.wait_for_capacity(PARTS_AT_ONCE)).await.map_err(|error| error.about(&self.key))?;
        parts.put(bytes);
        Ok(())
    }

    // By `&mut`: a shared borrow held over the wait would ask for a `Sync` upload, which the library has not, and every
    // future that writes would lose `Send`.
    async fn open(&mut self) -> Result<Box<dyn MultipartUpload>, StoreError> {
        limited(self.store.inner.put_multipart(&path(&self.key))).await.map_err(|error| error.about(&self.key))
    }

    /// Makes the object visible, all of it at once.
    ///
    /// # Errors
    /// What the store said; nothing is visible then.
    pub async fn finish(mut self) -> Result<Stored, StoreError> {
        let stored = Stored { size_bytes: self.length, sha256: Sha256(self.hasher.clone().finalize().into()) };
        match self.parts.take() {
            None => self.store.put(&self.key, self.small.split().freeze()).await?,
            Some(parts) => {
                limited(parts.finish()).await.map_err(|error| error.about(&self.key))?;
                self.store.wrote(stored.size_bytes);
            }
        }
        Ok(stored)
    }

    /// Gives it up and tells the store to forget its parts. Dropping the writer does the same without waiting for the answer.
    ///
    /// # Errors
    /// What the store said.
    pub async fn abort(mut self) -> Result<(), StoreError> {
        let Some(parts) = self.parts.take() else { return Ok(()) };
        limited(parts.abort()).await.map_err(|error| error.about(&self.key))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let (Some(parts), Ok(runtime)) = (self.parts.take(), tokio::runtime::Handle::try_current()) else { return };
        // Nobody waits for this one: what it fails to remove, the store's own rule for unfinished uploads does.
        drop(runtime.spawn(limited(parts.abort())));
    }
}
