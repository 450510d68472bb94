//! How many children run at the same time: all hands at first, fewer once the machine had no memory for them.
//!
//! A child that was ended from outside was most likely ended by the kernel, because memory was used up. The same number of
//! children would come to that again, and an order has a few deliveries only: three videos on a machine with memory for
//! one used up those of all three. So from then on one child less may run than ran, and one more again each time that it
//! was calm for a while.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// So long no child must have been ended before one more may run again.
const CALM: Duration = Duration::from_secs(600);

/// How many may run. Pure.
#[derive(Debug, PartialEq, Eq)]
struct Allowed {
    most: usize,
    now: usize,
    /// When that last changed, by the process's own clock.
    since: Duration,
}

impl Allowed {
    /// One of `running` children was ended. One may always run: whether memory is enough for it only it can show.
    fn lost(&mut self, running: usize, at: Duration) {
        self.now = self.now.min(running.saturating_sub(1).max(1));
        self.since = at;
    }

    /// Has it been calm for long enough to let one more run?
    fn calm(&mut self, at: Duration) {
        if self.now < self.most && at.saturating_sub(self.since) >= CALM {
            self.now += 1;
            self.since = at;
        }
    }
}

/// The places of a process's hands. Given in the order in which they were asked for, so that no lane waits for ever.
pub(super) struct Room {
    places: Semaphore,
    count: Mutex<Count>,
    running: AtomicUsize,
}

struct Count {
    allowed: Allowed,
    /// Places that there are, taken ones included.
    places: usize,
}

/// A place, until it is dropped. None that there is one too many of comes back.
pub(super) struct Place<'a> {
    room: &'a Room,
    permit: Option<SemaphorePermit<'a>>,
}

/// Somebody works, until this is dropped.
pub(super) struct Running<'a>(&'a AtomicUsize);

impl Room {
    pub(super) fn new(hands: usize) -> Self {
        let allowed = Allowed { most: hands, now: hands, since: Duration::ZERO };
        Self {
            places: Semaphore::new(hands),
            count: Mutex::new(Count { allowed, places: hands }),
            running: AtomicUsize::new(0),
        }
    }

    /// Waits for a place.
    pub(super) async fn place(&self, now: Duration) -> Place<'_> {
        {
            let mut count = self.count();
            count.allowed.calm(now);
            let more = count.allowed.now.saturating_sub(count.places);
            count.places += more;
            self.places.add_permits(more);
        }
        // It fails only where it is closed, and nobody does that.
        Place { room: self, permit: self.places.acquire().await.ok() }
    }

    /// Counts one that works.
    pub(super) fn enter(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(&self.running)
    }

    /// A child was ended from outside. How many may run now?
    pub(super) fn lost(&self, now: Duration) -> usize {
        let mut count = self.count();
        count.allowed.lost(self.running.load(Ordering::Relaxed), now);
        // Those that are taken go when they come back.
        let idle = self.places.forget_permits(count.places.saturating_sub(count.allowed.now));
        count.places = count.places.saturating_sub(idle);
        count.allowed.now
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        // It is never held where something can panic.
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut count = self.room.count();
        if let Some(permit) = self.permit.take().filter(|_| count.places > count.allowed.now) {
            permit.forget();
            count.places -= 1;
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many places are free at this time.
    async fn free(room: &Room, now: Duration) -> usize {
        drop(room.place(now).await);
        room.places.available_permits()
    }

    #[tokio::test]
    async fn after_a_child_was_ended_one_less_may_run_than_ran_but_always_one() {
        let room = Room::new(6);
        let at = Duration::from_secs(5);
        let (first, second) = (room.enter(), room.enter());
        let third = room.enter();
        let places = [room.place(at).await, room.place(at).await, room.place(at).await];
        assert_eq!(room.lost(at), 2);
        assert_eq!(room.places.available_permits(), 0, "three have one");
        drop(third);
        drop(places);
        assert_eq!(free(&room, at).await, 2);
        drop(second);
        assert_eq!(room.lost(at), 1);
        assert_eq!(free(&room, at).await, 1);
        assert_eq!(room.lost(at), 1, "the last one was ended too");
        drop(first);
        assert_eq!(room.lost(at), 1);
        assert_eq!(free(&room, at).await, 1);
    }

    #[tokio::test]
    async fn when_it_was_calm_one_more_may_run_each_time_until_all_do() {
        let room = Room::new(3);
        assert_eq!(free(&room, Duration::ZERO).await, 3);
        let two = [room.enter(), room.enter()];
        assert_eq!(room.lost(Duration::ZERO), 1);
        drop(two);
        assert_eq!(free(&room, CALM / 2).await, 1);
        assert_eq!(free(&room, CALM).await, 2);
        assert_eq!(free(&room, CALM + CALM / 2).await, 2, "calm begins anew");
        assert_eq!(free(&room, CALM * 2).await, 3);
        assert_eq!(free(&room, CALM * 9).await, 3);
    }
}
