//! How slowly bytes may come: pure. Only time spent waiting for the client counts, so that a store that is slow to take
//! bytes never makes a client look slow.

use std::time::Duration;

/// The slowest that is let be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Longest silence.
    pub(crate) idle: Duration,
    /// After waiting for this long altogether …
    pub(crate) window: Duration,
    /// … at least so many bytes must have come; then the next window begins.
    pub(crate) least: u64,
}

/// What came was too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slow {
    /// This many bytes …
    pub(crate) bytes: u64,
    /// … in this time.
    pub(crate) within: Duration,
}

/// The pace of one request.
#[derive(Debug)]
pub(crate) struct Pace {
    limits: Limits,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Of a request that begins.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, waited: Duration::ZERO, bytes: 0 }
    }

    /// Longest wait for the next bytes.
    pub(crate) fn idle(&self) -> Duration {
        self.limits.idle
    }

    /// Nothing came for the longest wait.
    pub(crate) fn silent(&self) -> Slow {
        Slow { bytes: 0, within: self.limits.idle }
    }

    /// `bytes` came after `waited`.
    ///
    /// # Errors
    /// When the window is over and too little came in it.
    pub(crate) fn came(&mut self, bytes: u64, waited: Duration) -> Result<(), Slow> {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < self.limits.window {
            return Ok(());
        }
        // Whole seconds: it is told to people.
        let brought = Slow { bytes: self.bytes, within: Duration::from_secs(self.waited.as_secs()) };
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        if brought.bytes < self.limits.least { Err(brought) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        let seconds = Duration::from_secs;
        Pace::new(Limits { idle: seconds(30), window: seconds(60), least: 1000 })
    }

    #[test]
    fn a_byte_every_now_and_then_is_too_slow_once_the_window_is_over() {
        let mut pace = pace();
        assert_eq!(pace.came(1, Duration::from_secs(29)), Ok(()));
        assert_eq!(pace.came(1, Duration::from_secs(29)), Ok(()));
        assert_eq!(pace.came(1, Duration::from_secs(29)), Err(Slow { bytes: 3, within: Duration::from_secs(87) }));
    }

    #[test]
    fn who_brings_enough_in_each_window_is_let_be_for_ever() {
        let mut pace = pace();
        for _ in 0..100 {
            assert_eq!(pace.came(0, Duration::from_secs(29)), Ok(()), "a gap in the reception");
            assert_eq!(pace.came(1000, Duration::from_secs(31)), Ok(()));
        }
    }

    #[test]
    fn bytes_that_need_no_waiting_never_fill_a_window() {
        let mut pace = pace();
        for _ in 0..100_000 {
            assert_eq!(pace.came(1, Duration::ZERO), Ok(()));
        }
    }
}
