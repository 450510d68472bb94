//! Is the child still moving, does it stay within its memory, and does it give way to those who are in a hurry?
//!
//! Time counts against a child only while nobody keeps it waiting: not while a range is being read for it, not while what
//! it made is being taken, and not while others have the processor that it wants: a busy machine is not the source's
//! fault. But for [`PATIENCE`] times the stall limit at most: then another delivery tries it, on another machine perhaps. Time
//! is counted in ticks, so that a parent that was itself stopped blames nobody on waking.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, setpriority_pgrp};
use tokio::time::Instant;

/// Distance of looks at the child.
const TICK: Duration = Duration::from_millis(250);

/// Stall limits that may pass while nothing moves and others have the processor; then the attempt ends, by the machine's
/// fault and not by the source's.
pub const PATIENCE: u32 = 4;
/// Who reads a stretch of this length for the first time moves: a walk along tens of gigabytes says nothing else.
const STRETCH_BYTES: u64 = 16 << 20;
/// Time that one tick may stand for at most: it comes late on a busy machine, and very late when the parent was stopped.
const TICK_AT_MOST: Duration = Duration::from_secs(1);

/// What a child is held to.
#[derive(Clone, Copy)]
pub(super) struct Manners {
    /// How long nothing may move.
    pub(super) stall: Duration,
    /// Resident memory.
    pub(super) memory_bytes: u64,
    /// The nice value, by how far on the timeline it is. It only ever grows.
    pub(super) nice: fn(u64) -> i32,
}

/// What the sockets tell the watch.
#[derive(Debug, Default)]
pub(super) struct Motion {
    moved: AtomicBool,
    parent_busy: AtomicU32,
    reached_ns: AtomicU64,
    stretches: Mutex<BTreeSet<u64>>,
}

impl Motion {
    /// Of a child that begins there on the timeline.
    pub(super) fn at(start_ns: u64) -> Self {
        Self { reached_ns: AtomicU64::new(start_ns), ..Self::default() }
    }

    /// The child did something.
    pub(super) fn moved(&self) {
        self.moved.store(true, Ordering::Relaxed);
    }

    /// Has the child done something since this was asked last?
    pub(super) fn has_moved(&self) -> bool {
        self.moved.swap(false, Ordering::Relaxed)
    }

    /// The child has come so far on the timeline.
    pub(super) fn reached(&self, at_ns: u64) {
        self.reached_ns.fetch_max(at_ns, Ordering::Relaxed);
    }

    /// The child was given what stands there in the source. Reading the same again is no movement: a source can't be read
    /// round and round for longer than the stall limit.
    pub(super) fn read(&self, offset: u64) {
        let stretch = offset / STRETCH_BYTES;
        if self.stretches.lock().unwrap_or_else(PoisonError::into_inner).insert(stretch) {
            self.moved();
        }
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
    /// Nothing moved for [`PATIENCE`] times as long, and the machine is to blame.
    Starved,
    /// That many bytes are resident.
    Memory(u64),
}

/// How long nothing has moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Quiet {
    /// The part of it in which the child could have moved.
    counted: Duration,
    /// All of it, but for what the parent kept it waiting.
    passed: Duration,
}

impl Quiet {
    /// Another tick, in which nothing moved and nobody kept the child from the processor for so long.
    fn and(self, free: Duration, tick: Duration) -> Self {
        Self { counted: self.counted + free, passed: self.passed + tick.min(TICK_AT_MOST) }
    }

    /// The limit that is passed by now.
    fn over(self, stall: Duration) -> Option<Over> {
        if self.counted >= stall {
            return Some(Over::Stalled);
        }
        (self.passed >= stall * PATIENCE).then_some(Over::Starved)
    }
}

/// Returns when a limit is passed. Says `quiet` at each tick before, at which nothing had moved.
pub(super) async fn watch(pid: u32, motion: Arc<Motion>, manners: Manners, say_quiet: impl Fn()) -> Over {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut quiet, mut nice, mut processor) = (Quiet::default(), None, None);
    let mut last = Instant::now();
    loop {
        tick.tick().await;
        let passed = std::mem::replace(&mut last, Instant::now()).elapsed();
        let asked = (manners.nice)(motion.reached_ns.load(Ordering::Relaxed));
        if nice.is_none_or(|nice| nice < asked) {
            be_nice(pid, asked);
            nice = Some(asked);
        }
        quiet = match (motion.has_moved(), motion.parent_busy.load(Ordering::Relaxed)) {
            (true, _) => {
                processor = None;
                Quiet::default()
            }
            (false, busy) => {
                // The first quiet tick only says where to count from: who moves is not looked at.
                let now = Processor::of(pid);
                let before = processor.replace(now).filter(|_| busy == 0);
                say_quiet();
                before.map_or(quiet, |before| quiet.and(now.since(before).free_of(TICK), passed))
            }
        };
        if let Some(over) = quiet.over(manners.stall) {
            return over;
        }
        if let Some(resident) = resident_bytes(pid)
            && resident > manners.memory_bytes
        {
            return Over::Memory(resident);
        }
    }
}

/// Lets all its threads give way to others by that much (the child leads a process group of its own). One that can't is
/// only less polite.
fn be_nice(pid: u32, nice: i32) {
    // Without a process id this would speak of the parent.
    let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    if let Err(error) = setpriority_pgrp(Some(group), nice) {
        tracing::debug!(error = &error as &dyn std::error::Error, pid, "the child keeps its priority");
    }
}

/// What the threads of a child got of the processors, and what they waited for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Processor {
    got_ns: u64,
    waited_ns: u64,
}

impl Processor {
    /// Of all threads that live, as `schedstat` in proc(5) tells it. Nothing where the kernel does not: then all time
    /// counts.
    fn of(pid: u32) -> Self {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Self::default() };
        let of_thread = |path: std::path::PathBuf| {
            let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
            let mut fields = text.split_whitespace().map(|field| field.parse().ok());
            Some(Self { got_ns: fields.next()??, waited_ns: fields.next()?? })
        };
        let all = threads.filter_map(|thread| of_thread(thread.ok()?.path()));
        all.fold(Self::default(), |sum, it| Self {
            got_ns: sum.got_ns.saturating_add(it.got_ns),
            waited_ns: sum.waited_ns.saturating_add(it.waited_ns),
        })
    }

    /// What came since `before`. A thread that ended takes its share along; then little is known, and less is excused.
    fn since(self, before: Self) -> Self {
        Self {
            got_ns: self.got_ns.saturating_sub(before.got_ns),
            waited_ns: self.waited_ns.saturating_sub(before.waited_ns),
        }
    }

    /// The part of `time` in which nobody kept the child from the processor. A child with many threads waits for itself
    /// too, so what it got of what it wanted is not excused.
    fn free_of(self, time: Duration) -> Duration {
        let wanted_ns = self.got_ns.saturating_add(self.waited_ns).max(1);
        let got = time.mul_f64(self.got_ns as f64 / wanted_ns as f64);
        time.saturating_sub(Duration::from_nanos(self.waited_ns)).max(got)
    }
}

/// Resident memory of a process as the kernel tells it; none when it has ended.
fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::super::STALL;
    use super::*;

    #[test]
    fn time_without_a_processor_is_not_the_childs() {
        let counts = |got_ms: u64, waited_ms: u64| {
            let it = Processor { got_ns: got_ms * 1_000_000, waited_ns: waited_ms * 1_000_000 };
            it.free_of(TICK).as_millis()
        };
        assert_eq!(counts(0, 0), 250, "it waits for nothing that others have");
        assert_eq!(counts(250, 0), 250, "it turns in a circle");
        assert_eq!(counts(0, 250), 0, "it is not let in");
        assert_eq!(counts(25, 225), 25, "it is hardly let in");
        assert_eq!(counts(1, 9), 241, "it sleeps, nearly all the time");
        assert_eq!(counts(500, 500), 125, "many threads wait for each other");
    }

    #[test]
    fn patience_with_a_busy_machine_ends_and_blames_the_machine() {
        let limit = |free: Duration| {
            let ticks = std::iter::successors(Some(Quiet::default()), |quiet| Some(quiet.and(free, TICK)));
            let over = ticks.enumerate().find_map(|(n, quiet)| Some((n as u32 * TICK, quiet.over(STALL)?)));
            over.map(|(after, over)| (after.as_secs(), over)).unwrap()
        };
        assert_eq!(limit(TICK), (15, Over::Stalled));
        assert_eq!(limit(TICK / 2), (30, Over::Stalled));
        assert_eq!(limit(TICK / 5), (60, Over::Starved));
        assert_eq!(limit(Duration::ZERO), (60, Over::Starved));
        let stopped = Quiet::default().and(TICK, Duration::from_secs(3600));
        assert_eq!((stopped.over(STALL), stopped.passed), (None, TICK_AT_MOST), "a parent that was stopped");
    }

    #[test]
    fn reading_on_is_movement_and_reading_again_is_none() {
        let motion = Motion::default();
        let moves = |offset| {
            motion.read(offset);
            motion.has_moved()
        };
        let end = 9 * STRETCH_BYTES;
        // A look at the index at the end, then along the file, then again.
        assert_eq!([end, 0, 1, STRETCH_BYTES, 2 * STRETCH_BYTES].map(moves), [true, true, false, true, true]);
        assert_eq!([end + 1, 0, STRETCH_BYTES].map(moves), [false; 3]);
    }

    #[test]
    fn a_process_at_work_is_seen_at_work() {
        let before = Processor::of(std::process::id());
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(30) {
            std::hint::spin_loop();
        }
        assert!(Processor::of(std::process::id()).since(before).got_ns > 0);
    }
}
