//! Is the child still moving, and does it stay within its memory?
//!
//! Time counts against a child only while nobody keeps it waiting: not while a range is being read for it, not while what
//! it made is being taken. It is counted in ticks, so that a parent that was itself stopped blames nobody on waking.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// Distance of looks at the child.
const TICK: Duration = Duration::from_millis(250);

/// What the sockets tell the watch.
#[derive(Debug, Default)]
pub(super) struct Motion {
    moved: AtomicBool,
    parent_busy: AtomicU32,
}

impl Motion {
    /// The child did something.
    pub(super) fn moved(&self) {
        self.moved.store(true, Ordering::Relaxed);
    }

    /// The child waits for its parent until the guard is dropped.
    pub(super) fn parent_busy(self: &Arc<Self>) -> Busy {
        self.parent_busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }
}

/// See [`Motion::parent_busy`].
pub(super) struct Busy(Arc<Motion>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.parent_busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A limit that was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Nothing moved for the stall limit.
    Stalled,
    /// That many bytes are resident.
    Memory(u64),
}

/// Returns when a limit is passed.
pub(super) async fn watch(pid: u32, motion: Arc<Motion>, stall: Duration, memory_bytes: u64) -> Over {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut quiet = Duration::ZERO;
    loop {
        tick.tick().await;
        quiet = match (motion.moved.swap(false, Ordering::Relaxed), motion.parent_busy.load(Ordering::Relaxed)) {
            (true, _) => Duration::ZERO,
            (false, 0) => quiet + TICK,
            (false, _) => quiet,
        };
        if quiet >= stall {
            return Over::Stalled;
        }
        if let Some(resident) = resident_bytes(pid)
            && resident > memory_bytes
        {
            return Over::Memory(resident);
        }
    }
}

/// Resident memory of a process as the kernel tells it; none when it has ended.
fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
