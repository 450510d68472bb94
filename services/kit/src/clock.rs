//! Time, handed in: in production the machine's clock, or the one of a server that it was told to follow; in tests one
//! that is moved by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use spool_proto::Timestamp;

/// Where a role takes the time from. Cheap to clone; clones of a manual clock move together.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    /// `followed`: the followed clock's time at `start`, in milliseconds; [`ITS_OWN`] while none is followed.
    System {
        start: Instant,
        followed: Arc<AtomicI64>,
    },
    Manual {
        start: i64,
        now: Arc<AtomicI64>,
    },
}

/// No other clock is followed.
const ITS_OWN: i64 = i64::MIN;

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System { start: Instant::now(), followed: Arc::new(AtomicI64::new(ITS_OWN)) })
    }

    /// A clock that stands at `start` until it is moved.
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual { start: start.as_ms(), now: Arc::new(AtomicI64::new(start.as_ms())) })
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System { start, followed } => match followed.load(Ordering::SeqCst) {
                ITS_OWN => self.machine(),
                at_start => Timestamp::from_ms(at_start.saturating_add(ms(start.elapsed()))),
            },
            Source::Manual { now, .. } => Timestamp::from_ms(now.load(Ordering::SeqCst)),
        }
    }

    /// What the machine's own clock says, for what the machine itself stamped: files.
    pub fn machine(&self) -> Timestamp {
        match &self.0 {
            Source::System { .. } => {
                // A machine whose clock stands before 1970 is treated as standing at 1970.
                #[expect(clippy::disallowed_methods, reason = "the one place where the time of day is asked for")]
                let now = SystemTime::now();
                let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_ms(ms(since))
            }
            Source::Manual { now, .. } => Timestamp::from_ms(now.load(Ordering::SeqCst)),
        }
    }

    /// Time since this clock was made, that no correction of the time of day moves.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System { start, .. } => start.elapsed(),
            Source::Manual { start, now } => {
                let ms = now.load(Ordering::SeqCst).saturating_sub(*start);
                Duration::from_millis(u64::try_from(ms).unwrap_or(0))
            }
        }
    }

    /// Follows another clock, which says `time` now: from here on this one and its clones tell that clock's time, whatever
    /// becomes of the machine's time of day. A manual clock follows nobody.
    pub fn follow(&self, time: Timestamp) {
        match &self.0 {
            Source::System { start, followed } => {
                followed.store(time.as_ms().saturating_sub(ms(start.elapsed())), Ordering::SeqCst);
            }
            Source::Manual { .. } => {}
        }
    }

    /// Moves a manual clock on. The machine's clock can't be moved, so this does nothing to it.
    pub fn advance(&self, by: Duration) {
        match &self.0 {
            Source::System { .. } => {}
            Source::Manual { now, .. } => {
                now.fetch_add(ms(by).min(i64::MAX / 2), Ordering::SeqCst);
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

fn ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_follows_another_tells_that_ones_time() {
        let clock = Clock::system();
        let (other, machine) = (clock.clone(), clock.machine());
        assert!(clock.now() >= machine, "it is the machine's at first");
        let days_ago = Timestamp::from_ms(machine.as_ms() - 3 * 86_400_000);
        clock.follow(days_ago);
        // It goes on from there: by how much depends on how long this test took, which is no day.
        assert!(other.now() >= days_ago && other.now().since(days_ago) < Duration::from_secs(86_400));
        assert!(other.machine() >= machine);
    }

    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let clock = Clock::manual(Timestamp::from_ms(1_000));
        let other = clock.clone();
        clock.advance(Duration::from_secs(2));
        assert_eq!(other.now(), Timestamp::from_ms(3_000));
        assert_eq!(other.monotonic(), Duration::from_secs(2));
    }
}
