//! The clock of an MPEG transport stream, kept from leaping where time only passes.
//!
//! `tsdemux` takes a clock (PCR) that goes on by more than half a second for one that was set anew, and cuts the time
//! between out of the stream. Mostly it is neither: the clock travels with the picture, the picture pauses, and the sound
//! goes on; or a piece of the stream is lost. So each clock is followed while inspecting, and the spans in which it leaps
//! are noted; every worker is then shown such a span with the same clock at steps that a demuxer takes. Times of pictures
//! and sound are not touched, and since they count from the clock's start, all of them come out as they are stated.
//!
//! Which of the two it is tell the packets' numbers ([`Watched::lost`]).
//!
//! What is not done: a clock that goes back, that says itself that it was set anew, or that leaps further than anything
//! in the stream leads is left to the demuxer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use spool_proto::media::Span;

use super::super::source::{RangeDone, Ranges};
use super::super::whole::Whole;
use super::MOST_SPANS;
use super::later::Later;
use super::patched::patched;
use super::programme::LeftOut;
use crate::child::formats::mp4::Bytes as _;
use crate::child::formats::ts::{self, Clock, FILLING, LISTING, NUMBERS, PACKET, Packet, Packets, ROUND, packet_bytes};

/// Ticks of a clock in a second.
const TICKS_PER_S: u64 = 27_000_000;
/// Steps that `tsdemux` takes: half a second (`record_pcr`), less a little.
const STEP: u64 = TICKS_PER_S / 1000 * 499;
/// No time stated in between for longer than this: the clock was set anew. What ffmpeg takes for it.
const LONGEST_PAUSE: u64 = TICKS_PER_S * 10;
/// Clocks that are followed, one for each programme. Those beyond are left as they are.
const MOST_CLOCKS: usize = 32;
/// Places of clocks that a worker changes; a day of steps.
const MOST_CHANGES: usize = 200_000;
/// Bytes that are read at once.
const WINDOW_BYTES: u64 = 1024 * 1024;
/// Ranges kept that were read before those in front of them.
const MOST_EARLY: usize = 16;

/// How far it is from one reading of a clock forwards to another.
fn ahead(from: u64, to: u64) -> u64 {
    (to + ROUND - from) % ROUND
}

/// A clock as it is followed.
#[derive(Debug)]
struct Followed {
    pid: u16,
    /// What it stated last.
    stated: u64,
    /// What a demuxer sees instead.
    seen: u64,
    /// Time that the stream has come to since, by what all of it states.
    reached: u64,
    /// The last packet in which both were the same.
    same_at: u64,
}

/// All clocks of a stream.
#[derive(Debug, Default)]
struct Clocks {
    followed: Vec<Followed>,
    /// Where a demuxer is to see something else, in order of their ends.
    spans: Vec<Span>,
}

impl Clocks {
    /// Takes the packet at `at`, and tells what its clock is to be instead.
    fn takes(&mut self, at: u64, packet: Packet) -> Option<u64> {
        if let Some(time) = packet.time {
            for clock in &mut self.followed {
                let further = ahead(clock.reached, time);
                if further <= LONGEST_PAUSE {
                    clock.reached = time;
                }
            }
        }
        let Clock { value, anew } = packet.clock?;
        let Some(clock) = self.followed.iter_mut().find(|clock| clock.pid == packet.pid) else {
            if self.followed.len() < MOST_CLOCKS {
                let (stated, seen, reached) = (value, value, value);
                self.followed.push(Followed { pid: packet.pid, stated, seen, reached, same_at: at });
            }
            return None;
        };
        let lagged = clock.seen != clock.stated;
        // What is stated in between is ahead of the clock by a little; so may it be of its next reading.
        let passed = ahead(clock.stated, value) < ROUND / 2
            && (ahead(clock.reached, value) <= LONGEST_PAUSE || ahead(value, clock.reached) <= LONGEST_PAUSE);
        clock.seen = if passed && !anew { (clock.seen + ahead(clock.seen, value).min(STEP)) % ROUND } else { value };
        (clock.stated, clock.reached) = (value, value);
        if clock.seen != value {
            return Some(clock.seen);
        }
        let from = std::mem::replace(&mut clock.same_at, at);
        if lagged {
            self.note(from, at + PACKET);
        }
        None
    }

    fn note(&mut self, from: u64, to: u64) {
        let full = self.spans.len() >= MOST_SPANS;
        match self.spans.last_mut() {
            Some(last) if full || from <= last.offset + last.length => {
                let start = last.offset.min(from);
                *last = Span { offset: start, length: to.max(last.offset + last.length) - start };
            }
            Some(_) | None => self.spans.push(Span { offset: from, length: to - from }),
        }
    }

    /// The spans in which clocks leap, apart from each other and in order; the stream ends at `size`.
    fn spans(mut self, size: u64) -> Vec<Span> {
        let lagging: Vec<u64> = self.followed.iter().filter(|c| c.seen != c.stated).map(|c| c.same_at).collect();
        lagging.into_iter().for_each(|from| self.note(from, size));
        let mut spans = std::mem::take(&mut self.spans);
        spans.sort_by_key(|span| span.offset);
        spans.into_iter().for_each(|span| self.note(span.offset, span.offset + span.length));
        self.spans
    }
}

/// The numbers of packets, each following the one before it in its stream (2.4.3.3); one may come twice.
#[derive(Debug, Default)]
struct Numbers {
    last: BTreeMap<u16, u8>,
    lost: bool,
    /// How many numbers do not occur, at least: they begin again after sixteen.
    missing: u64,
}

impl Numbers {
    fn takes(&mut self, packet: Packet) {
        let Some(number) = packet.number.filter(|_| packet.pid != FILLING) else { return };
        let Some(before) = self.last.insert(packet.pid, number).filter(|_| !packet.fresh) else { return };
        let skipped = (number + NUMBERS - before) % NUMBERS;
        if skipped <= 1 {
            return;
        }
        self.lost = true;
        if packet.pid == LISTING {
            // Pieces that were put together, as of a live stream: the list begins each, and all of its numbers are new.
            self.last.retain(|pid, _| *pid == LISTING);
        } else {
            self.missing += u64::from(skipped - 1);
        }
    }
}

/// What is known of a stream that is being read.
struct Reading {
    packets: Packets,
    clocks: Clocks,
    numbers: Numbers,
    /// Tables of the programme that is taken, where it is known.
    later: Option<Later>,
    /// Up to where it was read.
    next: u64,
    early: BTreeMap<u64, Bytes>,
}

impl Reading {
    fn takes(&mut self, offset: u64, data: Bytes) {
        if offset > self.next {
            if self.early.len() < MOST_EARLY {
                self.early.insert(offset, data);
            }
            return;
        }
        self.follows(offset, &data);
        while let Some(entry) = self.early.first_entry().filter(|entry| *entry.key() <= self.next) {
            let (offset, data) = entry.remove_entry();
            self.follows(offset, &data);
        }
    }

    fn follows(&mut self, offset: u64, data: &[u8]) {
        let Some(new) = data.get((self.next - offset) as usize..).filter(|new| !new.is_empty()) else { return };
        self.next += new.len() as u64;
        let (clocks, numbers, later) = (&mut self.clocks, &mut self.numbers, &mut self.later);
        self.packets.takes(new, |at, packet, bytes| {
            numbers.takes(packet);
            clocks.takes(at, packet);
            if let Some(later) = later {
                later.takes(packet.pid, bytes);
            }
        });
    }
}

/// A source that follows the clocks in what is read of it, so that it need not be read twice.
pub(crate) struct Watched {
    inner: Arc<dyn Ranges>,
    reading: Arc<Mutex<Reading>>,
}

fn lock(reading: &Mutex<Reading>) -> MutexGuard<'_, Reading> {
    reading.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watched {
    /// Over a source that begins with `head`, and of which that programme is taken; none if that is no transport stream.
    pub(crate) fn new(inner: &Arc<dyn Ranges>, head: &[u8], programme: Option<&(u16, Vec<u8>)>) -> Option<Arc<Self>> {
        let packets = Packets::new(packet_bytes(head)?, 0, false);
        let reading = Reading {
            packets,
            clocks: Clocks::default(),
            numbers: Numbers::default(),
            later: programme.map(|(pid, table)| Later::than(*pid, table)),
            next: 0,
            early: BTreeMap::new(),
        };
        Some(Arc::new(Self { inner: Arc::clone(inner), reading: Arc::new(Mutex::new(reading)) }))
    }

    /// Reads what was not read yet, and tells where clocks leap.
    pub(crate) fn leaps(&self) -> Result<Vec<Span>, String> {
        let size = self.size_bytes();
        loop {
            let at = lock(&self.reading).next;
            if at >= size {
                break;
            }
            let data = Whole(&self.inner).read(at, (size - at).min(WINDOW_BYTES) as usize)?;
            lock(&self.reading).takes(at, data.into());
        }
        Ok(std::mem::take(&mut lock(&self.reading).clocks).spans(size))
    }

    /// Streams that were listed later on, and of which `handed_out` says by the numbers of their packets that no demuxer
    /// handed them out.
    pub(crate) fn left_out(&self, handed_out: impl Fn(u16) -> bool) -> LeftOut {
        lock(&self.reading).later.as_ref().map_or(LeftOut::default(), |later| later.left_out(handed_out))
    }

    /// How many packets are missing at least, in what was read.
    pub(crate) fn missing(&self) -> u64 {
        lock(&self.reading).numbers.missing
    }

    /// Is a packet missing or broken, in what was read?
    pub(crate) fn lost(&self) -> bool {
        let reading = lock(&self.reading);
        reading.numbers.lost || reading.packets.broken()
    }
}

impl Ranges for Watched {
    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn request(&self, offset: u64, length: u32, done: RangeDone) {
        let reading = Arc::clone(&self.reading);
        let watched = move |read: Result<Bytes, String>| {
            if let Ok(data) = &read {
                lock(&reading).takes(offset, data.clone());
            }
            done(read);
        };
        self.inner.request(offset, length, Box::new(watched));
    }
}

/// The source with clocks that go on in steps over `spans`, as [`Watched::leaps`] found them.
pub(super) fn steadied(ranges: &Arc<dyn Ranges>, spans: &[Span]) -> Result<Arc<dyn Ranges>, String> {
    let whole = Whole(ranges);
    let size = ranges.size_bytes();
    let head = whole.read(0, size.min(ts::HEAD_BYTES) as usize)?;
    let Some(length) = packet_bytes(&head) else { return Ok(Arc::clone(ranges)) };
    let mut changes = Vec::new();
    for span in spans {
        let (mut packets, mut clocks) = (Packets::new(length, span.offset, true), Clocks::default());
        let (mut at, end) = (span.offset, (span.offset + span.length).min(size));
        while at < end && changes.len() < MOST_CHANGES {
            let data = whole.read(at, (end - at).min(WINDOW_BYTES) as usize)?;
            at += data.len() as u64;
            packets.takes(&data, |at, packet, _| {
                let seen = clocks.takes(at, packet);
                changes.extend(seen.map(|value| (at + ts::CLOCK_AT, ts::clock_bytes(value))));
            });
        }
    }
    Ok(patched(ranges, changes))
}

#[cfg(test)]
mod tests;
