//! How requests read the view: off the async threads, a bounded number at a time, each within a bounded time.
//!
//! The view can be exchanged under its readers (a rebuild, a mend); a reader keeps the one it began with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore, watch};

use spool_proto::{Code, Problem};

use crate::view::{View, ViewError};

/// Reads at one time. sled reads mostly from its cache; more would only queue for the disk.
const READS: usize = 16;
/// Longest time of a read, waiting for its turn included.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// A read that was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The view is damaged.
    #[error("read the view")]
    View(#[source] ViewError),
    /// The database panicked.
    #[error("the view panicked")]
    Panicked,
    /// It took too long.
    #[error("the view did not answer within {} s", READ_LIMIT.as_secs())]
    Late,
}

/// What the folding side says to the reading side, and back.
#[derive(Debug)]
pub(crate) struct Shared {
    view: RwLock<Arc<View>>,
    turns: Semaphore,
    /// Sequence the view has; closed when the projector is gone.
    pub(crate) position: watch::Sender<u64>,
    /// Last sequence of the log at start; `u64::MAX` until it is known.
    target: AtomicU64,
    folded: AtomicU64,
    rebuilds: AtomicU64,
    /// Position of the view that is built beside this one; 0 for none.
    building: AtomicU64,
    /// Somebody asked for a rebuild.
    pub(crate) rebuild: Notify,
    /// A reader met damage.
    pub(crate) damaged: Notify,
}

impl Shared {
    pub(crate) fn new(view: Arc<View>, position: u64) -> Self {
        Self {
            view: RwLock::new(view),
            turns: Semaphore::new(READS),
            position: watch::Sender::new(position),
            target: AtomicU64::new(u64::MAX),
            folded: AtomicU64::new(0),
            rebuilds: AtomicU64::new(0),
            building: AtomicU64::new(0),
            rebuild: Notify::new(),
            damaged: Notify::new(),
        }
    }

    /// The view that is read now.
    pub(crate) fn view(&self) -> Arc<View> {
        // A panic while it was held leaves a whole pointer behind: there is nothing half done in it.
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Exchanges the view; the old one.
    pub(crate) fn exchange(&self, view: Arc<View>, position: u64) -> Arc<View> {
        let old = std::mem::replace(&mut *self.view.write().unwrap_or_else(PoisonError::into_inner), view);
        self.position.send_replace(position);
        old
    }

    /// Runs `read` on the view.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View) -> Result<T, ViewError> + Send + 'static,
    ) -> Result<T, Problem> {
        let result = tokio::time::timeout(READ_LIMIT, self.run(read)).await.unwrap_or(Err(ReadError::Late));
        result.map_err(|error| {
            match &error {
                ReadError::View(_) | ReadError::Panicked => self.damaged.notify_one(),
                // The writer's watch finds out whether it is stuck.
                ReadError::Late => {}
            }
            tracing::error!(error = &error as &dyn std::error::Error, "a read of the view failed");
            Problem::new(Code::Unavailable).with("what", "The view")
        })
    }

    async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View) -> Result<T, ViewError> + Send + 'static,
    ) -> Result<T, ReadError> {
        // The semaphore is never closed; if it were, reading without a turn would be right.
        let _turn = self.turns.acquire().await;
        let view = self.view();
        let read = tokio::task::spawn_blocking(move || read(&view));
        read.await.map_err(|_| ReadError::Panicked)?.map_err(ReadError::View)
    }

    /// Waits until the view has `wanted`, at most `limit`.
    pub(crate) async fn at_least(&self, wanted: u64, limit: Duration) -> Result<(), Problem> {
        let mut position = self.position.subscribe();
        let there = tokio::time::timeout(limit, position.wait_for(|position| *position >= wanted)).await;
        if matches!(there, Ok(Ok(_))) {
            return Ok(());
        }
        let position = *self.position.borrow();
        Err(Problem::new(Code::ViewBehind).with("position", position).with("wanted", wanted))
    }

    pub(crate) fn set_target(&self, target: Option<u64>) {
        self.target.store(target.unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Has the view what the log held at start?
    pub(crate) fn is_ready(&self) -> bool {
        *self.position.borrow() >= self.target.load(Ordering::SeqCst)
    }

    pub(crate) fn count_folded(&self, facts: u64) {
        self.folded.fetch_add(facts, Ordering::SeqCst);
    }

    /// Facts folded into the view that is read, since start.
    pub(crate) fn folded(&self) -> u64 {
        self.folded.load(Ordering::SeqCst)
    }

    pub(crate) fn count_rebuild(&self) {
        self.rebuilds.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn set_building(&self, position: Option<u64>) {
        // Position 0 is a build that has begun: shown as 1, since 0 says that there is none.
        self.building.store(position.map_or(0, |position| position.max(1)), Ordering::SeqCst);
    }

    /// How the view stands, for operators.
    pub(crate) fn state(&self) -> Value {
        let known = |number: u64, unknown: u64| (number != unknown).then_some(number);
        json!({
            "position": *self.position.borrow(),
            "ready_at": known(self.target.load(Ordering::SeqCst), u64::MAX),
            "ready": self.is_ready(),
            "folded": self.folded(),
            "rebuilds": self.rebuilds.load(Ordering::SeqCst),
            "rebuilding_at": known(self.building.load(Ordering::SeqCst), 0),
            "directory": self.view().directory().file_name().and_then(|name| name.to_str()),
        })
    }
}
