//! When a message that could not be handled comes again: soon at first, then less and less often, for ever.

use std::time::Duration;

/// After the first attempt; after each further one twice as long …
const FIRST: Duration = Duration::from_secs(1);
/// … and at the latest after this.
const LAST: Duration = Duration::from_secs(60);

/// How long to wait after a message failed for the `attempt`th time.
pub fn retry_after(attempt: u64) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    FIRST.saturating_mul(1 << doublings).min(LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_twice_the_last_up_to_a_minute() {
        let waits = [0, 1, 2, 3, 6, 7, 60, u64::MAX].map(|attempt| retry_after(attempt).as_secs());
        assert_eq!(waits, [1, 1, 2, 4, 32, 60, 60, 60]);
    }
}
