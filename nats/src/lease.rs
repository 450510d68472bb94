//! The lease on a delivery: how long the server waits for us before it gives the message to somebody else.
//!
//! It is extended only while work moves, and counts as held only while the last *confirmed* extension is younger than the lease. An extension itself proves
//! nothing: the server confirms it to whoever sends it, also to one who lost the message long ago. So one that was confirmed after the lease before it had run
//! out does not count, and a lease once lost stays lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::api;
use crate::connect::Log;

/// A lease is extended this many times in its length, so that two extensions may fail.
const EXTENSIONS: u32 = 3;

/// The lease on a delivery. Cheap to clone.
#[derive(Clone)]
pub struct Lease {
    inner: Arc<Inner>,
}

struct Inner {
    span: Duration,
    moved: AtomicBool,
    held: Mutex<Held>,
}

/// What is known of a lease. Pure: time is handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    /// When the last confirmed extension was sent, or a moment before the delivery; nothing once it is lost.
    since: Option<Instant>,
}

impl Held {
    /// Is it held at `now`? Finding it run out loses it for good.
    fn at(&mut self, span: Duration, now: Instant) -> bool {
        self.since = self.since.filter(|since| now.saturating_duration_since(*since) < span);
        self.since.is_some()
    }

    /// An extension sent at `sent` was confirmed at `now`.
    fn extended(&mut self, span: Duration, sent: Instant, now: Instant) {
        if self.at(span, now) {
            self.since = Some(sent);
        }
    }
}

impl Lease {
    pub(crate) fn new(span: Duration, since: Instant) -> Lease {
        let held = Mutex::new(Held { since: Some(since) });
        Lease { inner: Arc::new(Inner { span, moved: AtomicBool::new(false), held }) }
    }

    /// Work progressed (bytes or frames moved): the lease may be extended once more.
    pub fn moved(&self) {
        self.inner.moved.store(true, Ordering::Relaxed);
    }

    /// Is the last confirmed extension younger than the lease? Once lost, it stays lost.
    pub fn is_held(&self) -> bool {
        self.held(|held, span| held.at(span, Instant::now()))
    }

    /// Waits until the lease is lost; for ever if it never is.
    pub async fn lost(&self) {
        while self.is_held() {
            let since = self.held(|held, _| held.since);
            tokio::time::sleep_until(since.unwrap_or_else(Instant::now) + self.inner.span).await;
        }
    }

    fn held<T>(&self, look: impl FnOnce(&mut Held, Duration) -> T) -> T {
        look(&mut self.inner.held.lock().unwrap_or_else(PoisonError::into_inner), self.inner.span)
    }

    /// Extends the lease while work moves. Never ends; to be dropped with the work.
    pub(crate) async fn keep(&self, log: &Log, reply: &str) {
        let mut ticks = tokio::time::interval(self.inner.span / EXTENSIONS);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            if !self.is_held() {
                tracing::warn!(reply, "the lease of a delivery ran out while it was worked on");
                return std::future::pending().await;
            }
            if !self.inner.moved.swap(false, Ordering::Relaxed) {
                continue;
            }
            let sent = Instant::now();
            match log.call(reply, None, api::PROGRESS).await {
                Ok(_) => self.held(|held, span| held.extended(span, sent, Instant::now())),
                Err(failure) => {
                    tracing::warn!(error = &failure as &dyn std::error::Error, "a lease could not be extended");
                    self.moved();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(30);

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_lasts_from_the_last_confirmed_extension() {
        let start = Instant::now();
        let mut held = Held { since: Some(start) };
        assert!(held.at(SPAN, at(start, 29)));
        held.extended(SPAN, at(start, 20), at(start, 21));
        assert!(held.at(SPAN, at(start, 49)));
        assert!(!held.at(SPAN, at(start, 50)));
    }

    #[test]
    fn an_extension_confirmed_too_late_counts_for_nothing() {
        let start = Instant::now();
        // Decided at 29, paused, sent at 50: the server confirms it although the message went to another at 30.
        let mut held = Held { since: Some(start) };
        held.extended(SPAN, at(start, 29), at(start, 50));
        assert!(!held.at(SPAN, at(start, 51)));
    }

    #[test]
    fn a_lost_lease_stays_lost() {
        let start = Instant::now();
        let mut held = Held { since: Some(start) };
        assert!(!held.at(SPAN, at(start, 31)));
        held.extended(SPAN, at(start, 32), at(start, 32));
        assert!(!held.at(SPAN, at(start, 32)));
    }
}
