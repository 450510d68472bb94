//! What all parts of the gateway share.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use spool_kit::{Clock, Ids, Stop, Store};
use spool_nats::Log;
use spool_proto::id::UploadId;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::limits::{Places, Rate};
use crate::root::Roots;
use crate::upload::Entries;

/// Shared by routes, consumers and the sweeper.
pub(crate) struct Inner {
    /// Configuration.
    pub(crate) config: Config,
    /// The log.
    pub(crate) log: Log,
    /// The store.
    pub(crate) store: Store,
    /// Time.
    pub(crate) clock: Clock,
    /// New ids.
    pub(crate) ids: Ids,
    /// Entries of running uploads.
    pub(crate) entries: Entries,
    /// Directories that files may be taken from.
    pub(crate) roots: Roots,
    /// Uploads that this process is writing to.
    pub(crate) running: Running,
    /// Open uploads as last counted, with those begun here since.
    pub(crate) open_uploads: AtomicU64,
    /// Places for requests that bring bytes.
    pub(crate) places: Places,
    /// Places for files that are copied in.
    pub(crate) copies: crate::ingest::places::Places,
    /// Requests of each client.
    pub(crate) rate: Rate,
    /// Requests whose client may be gone, but whose bytes are being stored.
    pub(crate) tasks: TaskTracker,
    /// Told when this process is about to stop.
    pub(crate) stop: Stop,
}

/// Which uploads this process is writing to, so that a successor in the same process ends its predecessor at once instead
/// of at its next commit. A courtesy only: what fences is the epoch.
#[derive(Default)]
pub(crate) struct Running(Mutex<HashMap<UploadId, (u64, CancellationToken)>>);

/// Leaves [`Running`] when dropped.
pub(crate) struct Entered<'a> {
    running: &'a Running,
    upload: UploadId,
    epoch: u64,
}

impl Running {
    /// Enters a writer of this epoch; an earlier one is told to stop.
    pub(crate) fn enter(&self, upload: &UploadId, epoch: u64) -> (CancellationToken, Entered<'_>) {
        let token = CancellationToken::new();
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match map.get(upload) {
            // Two of them were scheduled in the other order: this one has lost already.
            Some((newer, _)) if *newer > epoch => token.cancel(),
            Some(_) | None => {
                if let Some((_, older)) = map.insert(upload.clone(), (epoch, token.clone())) {
                    older.cancel();
                }
            }
        }
        (token, Entered { running: self, upload: upload.clone(), epoch })
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut map = self.running.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.get(&self.upload).is_some_and(|(epoch, _)| *epoch == self.epoch) {
            map.remove(&self.upload);
        }
    }
}
