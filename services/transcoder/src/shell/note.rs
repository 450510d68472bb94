//! The note that an attempt leaves beside its lease: how far it is, and what went wrong. For `explain` alone: work goes on
//! without it.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use spool_proto::job::Order;
use spool_proto::lease::{self, LeaseNote};
use spool_proto::time::Timestamp;

use super::work::Worker;

/// How often it is written at most while work moves.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// The note of one attempt.
pub(super) struct Notes<'a> {
    worker: &'a Worker,
    key: String,
    attempt: u64,
    since: Timestamp,
    /// When it was written last.
    noted: Mutex<Option<Duration>>,
    /// What ended the attempt before, so that a running one still shows it.
    earlier: OnceLock<String>,
}

impl<'a> Notes<'a> {
    /// Nothing is written yet.
    pub(super) fn of(worker: &'a Worker, order: &Order, attempt: u64) -> Self {
        Self {
            worker,
            key: lease::key(&order.tenant, &order.asset, &order.job.item()),
            attempt,
            since: worker.deps.clock.now(),
            noted: Mutex::new(None),
            earlier: OnceLock::new(),
        }
    }

    /// Reads what the attempt before left.
    pub(super) async fn recall(&self) {
        if self.attempt > 1
            && let Ok(Some(note)) = self.worker.leases.get(&self.key).await
            && let Some(error) = note.value.last_error
        {
            // The first one to say so: an attempt recalls once.
            let _ = self.earlier.set(error);
        }
    }

    /// Says now and then how far it is.
    pub(super) async fn moved(&self, percent: Option<u32>) {
        let now = self.worker.deps.clock.monotonic();
        if self.is_due(now) {
            self.put(percent, None, None).await;
        }
    }

    fn is_due(&self, now: Duration) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let due = noted.is_none_or(|last| now.saturating_sub(last) >= NOTE_EVERY);
        if due {
            *noted = Some(now);
        }
        due
    }

    /// Says what went wrong, and when the next attempt begins.
    pub(super) async fn failed(&self, error: String, again_after: Duration) {
        self.put(None, Some(error.clone()), Some(again_after)).await;
        // The first one to say so stays.
        let _ = self.earlier.set(error);
    }

    async fn put(&self, percent: Option<u32>, last_error: Option<String>, retry_after: Option<Duration>) {
        let now = self.worker.deps.clock.now();
        let note = LeaseNote {
            holder: self.worker.deps.holder.clone(),
            attempt: self.attempt,
            since: self.since,
            updated_at: now,
            progress_percent: percent,
            last_error: last_error.or_else(|| self.earlier.get().cloned()),
            next_try: retry_after.map(|after| now.plus(after)),
        };
        if let Err(err) = self.worker.leases.put(&self.key, &note).await {
            tracing::debug!(error = &err as &dyn std::error::Error, "could not note the lease");
        }
    }

    /// Removes it.
    pub(super) async fn forget(&self) {
        if let Err(err) = self.worker.leases.delete(&self.key, None).await {
            tracing::debug!(error = &err as &dyn std::error::Error, "could not remove the note of the lease");
        }
    }
}
