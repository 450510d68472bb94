//! How many requests one client may send (a bucket of tokens a client), and how many of them may bring bytes at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
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

/// Places for requests that bring bytes. One client has a share of them, so that it can't keep all others out.
pub(crate) struct Places {
    all: u32,
    of_one: u32,
    held: Arc<Mutex<HashMap<String, u32>>>,
}

/// No place is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// All of them are taken.
    All(u32),
    /// This client has its share.
    Client(u32),
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    client: String,
    held: Arc<Mutex<HashMap<String, u32>>>,
}

impl Places {
    /// `all` places, `of_one` of them for one client; at least one each.
    pub(crate) fn new(all: u32, of_one: u32) -> Self {
        Self { all: all.max(1), of_one: of_one.max(1), held: Arc::default() }
    }

    /// A place for `client`.
    ///
    /// # Errors
    /// What is full.
    pub(crate) fn take(&self, client: &str) -> Result<Place, Full> {
        // Bounded by the places: who gives its last one back is forgotten.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.get(client).is_some_and(|count| *count >= self.of_one) {
            return Err(Full::Client(self.of_one));
        }
        if held.values().sum::<u32>() >= self.all {
            return Err(Full::All(self.all));
        }
        *held.entry(client.to_owned()).or_default() += 1;
        drop(held);
        Ok(Place { client: client.to_owned(), held: Arc::clone(&self.held) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.client);
            }
        }
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
    fn one_client_leaves_places_for_others_and_gives_its_own_back() {
        let places = Places::new(3, 2);
        let (one, _two) = (places.take("a").expect("free"), places.take("a").expect("free"));
        assert_eq!(places.take("a").map(drop), Err(Full::Client(2)));
        let _three = places.take("b").expect("left for others");
        assert_eq!(places.take("c").map(drop), Err(Full::All(3)));
        drop(one);
        let _four = places.take("c").expect("given back");
        assert_eq!(places.held.lock().expect("not poisoned").values().sum::<u32>(), 3);
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
