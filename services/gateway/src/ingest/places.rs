//! Places at which files are copied in. Large files have some, small ones have more beside those, so that what is copied in a
//! moment does not stand behind what takes hours.
//!
//! Nobody knows how large a file is before its request was taken, and a request that is given back has used up one of its few
//! deliveries. So some more requests are taken than there are places: those of large files then wait here, with their lease
//! kept, while small ones go on. When as many wait as may, everything behind them waits in the queue, as far as this process
//! goes.

use std::time::Duration;

use spool_kit::Stop;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Up to this size a file is small: some seconds on a slow disk.
const SMALL_BYTES: u64 = 256 << 20;
/// Places for small files alone.
const SMALL_PLACES: usize = 2;
/// Requests that may be taken and wait for a place.
const WAITING: usize = 12;
/// How often who waits keeps its lease, and looks whether it shall stop.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The places of one process.
pub(crate) struct Places {
    large: Semaphore,
    small: Semaphore,
    asking: Semaphore,
    at_once: usize,
}

/// A place, given back when dropped.
pub(crate) type Place<'a> = SemaphorePermit<'a>;

impl Places {
    /// `at_once` places for large files.
    pub(crate) fn new(at_once: u32) -> Self {
        let at_once = at_once.max(1) as usize;
        let places = |count| Semaphore::new(count);
        Self { large: places(at_once), small: places(SMALL_PLACES), asking: places(at_once), at_once }
    }

    /// Requests that may be in hand.
    pub(crate) fn hands(&self) -> usize {
        self.at_once + SMALL_PLACES + WAITING
    }

    /// The right to ask for a request; given back when one was taken, so that few of the hands ask at a time.
    pub(crate) async fn asking(&self) -> Option<Place<'_>> {
        // Never closed.
        self.asking.acquire().await.ok()
    }

    /// A place for a file of this size. Nothing when the process is told to stop before there is one. `waits` is called while
    /// it waits: whoever waits for its turn is no dead worker.
    pub(crate) async fn take(&self, size_bytes: u64, stop: &Stop, waits: impl Fn()) -> Option<Place<'_>> {
        let place = async {
            if size_bytes > SMALL_BYTES {
                return self.large.acquire().await.ok();
            }
            tokio::select! {
                biased;
                place = self.small.acquire() => place.ok(),
                place = self.large.acquire() => place.ok(),
            }
        };
        let turn = async {
            while stop.pause(LOOK_EVERY).await {
                waits();
            }
        };
        tokio::select! {
            biased;
            place = place => place,
            () = turn => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_small_file_has_a_place_beside_large_ones_and_a_large_one_waits() {
        let (places, stop) = (Places::new(1), Stop::new());
        let take = async |bytes| places.take(bytes, &stop, || {}).await;
        let large = take(SMALL_BYTES + 1).await.expect("a place");
        let held = [take(1).await, take(SMALL_BYTES).await].map(|place| place.expect("a place for a small one"));
        drop(large);
        let third = take(1).await.expect("a place that no large one needs");
        stop.finish();
        assert!(take(SMALL_BYTES + 1).await.is_none(), "it waits, and not beyond the end of its process");
        drop((held, third));
        assert!(take(SMALL_BYTES + 1).await.is_some());
    }
}
