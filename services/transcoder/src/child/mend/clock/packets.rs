//! Packets of an MPEG transport stream (ISO/IEC 13818-1, 2.4.3): where they begin, their clock and their time. Pure.

use super::ROUND;

/// Bytes of a packet as the standard has it.
pub(in crate::child) const PACKET: u64 = 188;
/// Distances of packets: plain, with a time before each (Blu-ray and camcorders), with check bytes behind each.
const DISTANCES: [usize; 3] = [188, 192, 204];
/// Every packet begins with it.
pub(in crate::child) const SYNC: u8 = 0x47;
/// Packets in a row by which a stream is known.
const KNOWN_BY: usize = 5;
/// Bytes by which a stream is known.
pub(in super::super) const HEAD_BYTES: u64 = 4096;
/// Where in a packet its clock lies, and its bytes.
pub(in super::super) const CLOCK_AT: u64 = 6;
pub(super) const CLOCK_BYTES: usize = 6;
/// How far packets are numbered before they begin again.
pub(in crate::child) const NUMBERS: u8 = 16;
/// Packets that only fill.
pub(in crate::child) const FILLING: u16 = 0x1fff;
/// Ticks of a clock in one of a time.
pub(in super::super) const CLOCK_PER_TIME: u64 = 300;

/// Distance of packets in a stream that begins with `head`; none if it is no such stream.
pub(super) fn packet_bytes(head: &[u8]) -> Option<usize> {
    packets_at(head).map(|(_, distance)| distance)
}

/// Where in `head` the first packet begins, and their distance.
pub(in crate::child) fn packets_at(head: &[u8]) -> Option<(usize, usize)> {
    let in_step = |from: usize, distance: usize| (0..KNOWN_BY).all(|n| head.get(from + n * distance) == Some(&SYNC));
    DISTANCES
        .into_iter()
        .find_map(|distance| (0..distance).find(|from| in_step(*from, distance)).map(|from| (from, distance)))
}

/// What a packet's head states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Packet {
    pub(in super::super) pid: u16,
    pub(in super::super) clock: Option<Clock>,
    /// When what begins in it is shown or heard, in ticks of a clock.
    pub(super) time: Option<u64>,
    /// Its number among those of its stream that carry anything, modulo [`NUMBERS`].
    pub(super) number: Option<u8>,
    /// It says of itself that its number follows from nothing.
    pub(super) fresh: bool,
}

/// A reading of a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Clock {
    pub(in super::super) value: u64,
    /// It says of itself that it was set anew.
    pub(super) anew: bool,
}

/// Reads the head of a packet.
pub(in super::super) fn packet(bytes: &[u8]) -> Option<Packet> {
    let [_, high, low, flags, ..] = *bytes else { return None };
    // Known to be broken.
    if high & 0x80 != 0 {
        return None;
    }
    let pid = u16::from(high & 0x1f) << 8 | u16::from(low);
    let extra = (flags & 0x20 != 0).then(|| bytes.get(4)).flatten().map(|length| usize::from(*length));
    let clock = extra.filter(|length| *length > CLOCK_BYTES).and_then(|_| clock(bytes));
    let body = 4 + extra.map_or(0, |length| length + 1);
    let begins = high & 0x40 != 0 && flags & 0x10 != 0;
    let time = if begins { bytes.get(body..).and_then(time) } else { None };
    let number = (flags & 0x10 != 0).then_some(flags & 0x0f);
    let fresh = extra.is_some_and(|length| length > 0) && bytes.get(5).is_some_and(|flags| flags & 0x80 != 0);
    Some(Packet { pid, clock, time, number, fresh })
}

fn clock(bytes: &[u8]) -> Option<Clock> {
    let flags = *bytes.get(5).filter(|flags| **flags & 0x10 != 0)?;
    let field = bytes.get(CLOCK_AT as usize..CLOCK_AT as usize + CLOCK_BYTES)?;
    let whole = field.iter().fold(0_u64, |whole, byte| whole << 8 | u64::from(*byte));
    let value = ((whole >> 15) * CLOCK_PER_TIME + (whole & 0x1ff)) % ROUND;
    Some(Clock { value, anew: flags & 0x80 != 0 })
}

/// A clock's reading as it lies in a packet.
pub(in super::super) fn clock_bytes(value: u64) -> [u8; CLOCK_BYTES] {
    let whole = (value / CLOCK_PER_TIME) << 15 | 0x7e00 | (value % CLOCK_PER_TIME);
    let [_, _, bytes @ ..] = whole.to_be_bytes();
    bytes
}

/// The time in the head of pictures or sound (2.4.3.6).
fn time(body: &[u8]) -> Option<u64> {
    let [0, 0, 1, _, _, _, marks, flags, _, a, b, c, d, e, ..] = *body else { return None };
    if marks & 0xc0 != 0x80 || flags & 0x80 == 0 {
        return None;
    }
    let bits = |byte: u8| u64::from(byte >> 1);
    let time = (bits(a) & 7) << 30 | u64::from(b) << 22 | bits(c) << 15 | u64::from(d) << 7 | bits(e);
    Some(time * CLOCK_PER_TIME)
}

/// A stream taken apart into packets as it comes.
#[derive(Debug)]
pub(super) struct Packets {
    distance: usize,
    /// Place of the first byte held.
    at: u64,
    held: Vec<u8>,
    /// The next packet begins with the first byte held, but for those to be left out.
    in_step: bool,
    /// Bytes between two packets that are still to come.
    leave_out: usize,
    /// Some packets could not be read, or bytes were passed that are none.
    broken: bool,
}

impl Packets {
    /// From `at` on, where a packet begins if `in_step`.
    pub(super) fn new(distance: usize, at: u64, in_step: bool) -> Self {
        Self { distance, at, held: Vec::new(), in_step, leave_out: 0, broken: false }
    }

    /// Was anything met that is no packet, or a broken one?
    pub(super) fn broken(&self) -> bool {
        self.broken
    }

    /// Takes the bytes that come next, and hands on each packet with its place and its bytes.
    pub(super) fn takes(&mut self, data: &[u8], mut each: impl FnMut(u64, Packet, &[u8])) {
        self.held.extend_from_slice(data);
        let mut from = self.leave_out;
        while let Some(bytes) = self.held.get(from..from + PACKET as usize) {
            if bytes.first() == Some(&SYNC) && (self.in_step || self.held.get(from + self.distance) == Some(&SYNC)) {
                match packet(bytes) {
                    Some(packet) => each(self.at + from as u64, packet, bytes),
                    None => self.broken = true,
                }
                (from, self.in_step) = (from + self.distance, true);
                continue;
            }
            if !self.in_step && from + self.distance >= self.held.len() {
                break;
            }
            // What lies before the first packet is no loss.
            self.broken |= self.in_step;
            (from, self.in_step) = (from + 1, false);
        }
        let done = from.min(self.held.len());
        self.held.drain(..done);
        self.at += done as u64;
        self.leave_out = from - done;
    }
}
