//! Time, handed in: the machine's clock in production, one that a test moves by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use spool_proto::Timestamp;

/// Where a role takes the time from. Cheap to clone; clones of a manual clock move together.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System { start: Instant },
    Manual { start: i64, now: Arc<AtomicI64> },
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System { start: Instant::now() })
    }

    /// A clock that stands at `start` until it is moved.
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual { start: start.as_ms(), now: Arc::new(AtomicI64::new(start.as_ms())) })
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System { .. } => {
                // A machine whose clock stands before 1970 is treated as standing at 1970.
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Source::Manual { now, .. } => Timestamp::from_ms(now.load(Ordering::SeqCst)),
        }
    }

    /// Time since this clock was made, that no correction of the time of day moves.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System { start } => start.elapsed(),
            Source::Manual { start, now } => {
                let ms = now.load(Ordering::SeqCst).saturating_sub(*start);
                Duration::from_millis(u64::try_from(ms).unwrap_or(0))
            }
        }
    }

    /// Moves a manual clock on. The machine's clock can't be moved, so this does nothing to it.
    pub fn advance(&self, by: Duration) {
        match &self.0 {
            Source::System { .. } => {}
            Source::Manual { now, .. } => {
                now.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX / 2), Ordering::SeqCst);
            }
        }
    }

    /// Sets a manual clock. The machine's clock can't be set, so this does nothing to it.
    pub fn set(&self, to: Timestamp) {
        match &self.0 {
            Source::System { .. } => {}
            Source::Manual { now, .. } => now.store(to.as_ms(), Ordering::SeqCst),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let clock = Clock::manual(Timestamp::from_ms(1_000));
        let other = clock.clone();
        clock.advance(Duration::from_secs(2));
        assert_eq!(other.now(), Timestamp::from_ms(3_000));
        assert_eq!(other.monotonic(), Duration::from_secs(2));
    }
}
