//! How many requests one client may send: a bucket of tokens a client.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Clients that are remembered. Beyond that those with a full bucket are forgotten, then all.
const MAX_CLIENTS: usize = 4_096;

/// Requests of each client.
pub(crate) struct Rate {
    per_second: f64,
    buckets: Mutex<HashMap<String, Bucket>>,
}

struct Bucket {
    tokens: f64,
    at: Duration,
}

impl Rate {
    /// `per_second` in the long run, twice as many at once.
    pub(crate) fn new(per_second: u32) -> Self {
        Self { per_second: f64::from(per_second.max(1)), buckets: Mutex::default() }
    }

    /// May `client` send one more at `now` (monotonic)? If not, how long it should wait.
    ///
    /// # Errors
    /// The wait.
    pub(crate) fn admit(&self, client: &str, now: Duration) -> Result<(), Duration> {
        let full = 2.0 * self.per_second;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_CLIENTS && !buckets.contains_key(client) {
            buckets.retain(|_, bucket| bucket.filled(now, self.per_second) < full);
            if buckets.len() >= MAX_CLIENTS {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(client.to_owned()).or_insert(Bucket { tokens: full, at: now });
        bucket.tokens = bucket.filled(now, self.per_second).min(full);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.per_second));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

impl Bucket {
    fn filled(&self, now: Duration, per_second: f64) -> f64 {
        self.tokens + now.saturating_sub(self.at).as_secs_f64() * per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_twice_its_rate_at_once_and_its_rate_in_the_long_run() {
        let rate = Rate::new(5);
        let at = Duration::from_secs(1);
        assert_eq!((0..20).filter(|_| rate.admit("a", at).is_ok()).count(), 10);
        assert!(rate.admit("b", at).is_ok(), "another client is not held back");
        let wait = rate.admit("a", at).expect_err("empty");
        assert!(wait <= Duration::from_millis(200), "{wait:?}");
        assert_eq!((0..20).filter(|_| rate.admit("a", at + Duration::from_secs(1)).is_ok()).count(), 5);
    }

    #[test]
    fn the_memory_for_clients_is_bounded() {
        let rate = Rate::new(1);
        for client in 0..3 * MAX_CLIENTS {
            let _either = rate.admit(&client.to_string(), Duration::ZERO);
        }
        assert!(rate.buckets.lock().expect("not poisoned").len() <= MAX_CLIENTS);
    }
}
