//! Packets of an MPEG transport stream (ISO/IEC 13818-1, 2.4.3): where they begin, what they carry, their clock and their time;
//! and its tables ([`tables`]). Pure.

use super::pes;

pub(in crate::child) mod tables;

/// Bytes of a packet as the standard has it.
pub(in crate::child) const PACKET: u64 = 188;
/// Distances of packets: plain, with a time before each (Blu-ray and camcorders), with check bytes behind each.
const DISTANCES: [usize; 3] = [188, 192, 204];
/// Every packet begins with it.
pub(in crate::child) const SYNC: u8 = 0x47;
/// Packets in a row by which a stream is known.
const KNOWN_BY: usize = 5;
/// Bytes by which a stream is known.
pub(in crate::child) const HEAD_BYTES: u64 = 4096;
/// Where in a packet its clock lies, and its bytes.
pub(in crate::child) const CLOCK_AT: u64 = 6;
pub(in crate::child) const CLOCK_BYTES: usize = 6;
/// How far packets are numbered before they begin again.
pub(in crate::child) const NUMBERS: u8 = 16;
/// Packets that only fill.
pub(in crate::child) const FILLING: u16 = 0x1fff;
/// Ticks of a clock in one of a time.
pub(in crate::child) const CLOCK_PER_TIME: u64 = 300;
/// Where clocks begin again at zero.
pub(in crate::child) const ROUND: u64 = CLOCK_PER_TIME * pes::ROUND;
/// The stream of packets that lists the programmes.
pub(in crate::child) const LISTING: u16 = 0;

/// Distance of packets in a stream that begins with `head`; none if it is no such stream.
pub(in crate::child) fn packet_bytes(head: &[u8]) -> Option<usize> {
    packets_at(head).map(|(_, distance)| distance)
}

/// Where in `head` the first packet begins, and their distance.
pub(in crate::child) fn packets_at(head: &[u8]) -> Option<(usize, usize)> {
    let in_step = |from: usize, distance: usize| (0..KNOWN_BY).all(|n| head.get(from + n * distance) == Some(&SYNC));
    DISTANCES
        .into_iter()
        .find_map(|distance| (0..distance).find(|from| in_step(*from, distance)).map(|from| (from, distance)))
}

/// The four bytes that every packet begins with.
pub(in crate::child) struct Head {
    /// Number of its stream.
    pub(in crate::child) pid: u16,
    /// It is known to be broken.
    pub(in crate::child) broken: bool,
    /// Something begins in it.
    pub(in crate::child) begins: bool,
    pub(in crate::child) scrambled: bool,
    /// More of a head follows, with a length of its own.
    more: bool,
    pub(in crate::child) carries: bool,
    /// Its number among those of its stream that carry anything, modulo [`NUMBERS`].
    pub(in crate::child) number: u8,
}

impl Head {
    pub(in crate::child) fn of(packet: &[u8]) -> Option<Self> {
        let [_, high, low, flags, ..] = *packet else { return None };
        Some(Self {
            pid: u16::from(high & 0x1f) << 8 | u16::from(low),
            broken: high & 0x80 != 0,
            begins: high & 0x40 != 0,
            scrambled: flags & 0xc0 != 0,
            more: flags & 0x20 != 0,
            carries: flags & 0x10 != 0,
            number: flags % NUMBERS,
        })
    }
}

/// What a packet carries, and whether something begins in it.
pub(in crate::child) struct Payload<'a> {
    pub(in crate::child) pid: u16,
    pub(in crate::child) begins: bool,
    pub(in crate::child) body: &'a [u8],
}

impl<'a> Payload<'a> {
    /// Of a packet that carries anything.
    pub(in crate::child) fn of(packet: &'a [u8]) -> Option<Self> {
        let head = Head::of(packet)?;
        let body = packet.get(if head.more { 5 + usize::from(*packet.get(4)?) } else { 4 }..)?;
        (!head.broken && head.carries).then_some(Self { pid: head.pid, begins: head.begins, body })
    }

    /// Does a picture or sound begin in it?
    pub(in crate::child) fn is_media(&self) -> bool {
        self.begins && self.body.starts_with(&pes::MARK)
    }
}

/// The packets of a stream's beginning that carry anything, as far as they are in step.
pub(in crate::child) fn payloads(head: &[u8]) -> impl Iterator<Item = Payload<'_>> {
    let (from, distance) = packets_at(head).unwrap_or((head.len(), PACKET as usize));
    let packets = (from..head.len()).step_by(distance).map_while(|at| head.get(at..at + PACKET as usize));
    packets.take_while(|packet| packet[0] == SYNC).filter_map(Payload::of)
}

/// What a packet states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::child) struct Packet {
    pub(in crate::child) pid: u16,
    pub(in crate::child) clock: Option<Clock>,
    /// When what begins in it is shown or heard, in ticks of a clock.
    pub(in crate::child) time: Option<u64>,
    /// Its number, if it carries anything.
    pub(in crate::child) number: Option<u8>,
    /// It says of itself that its number follows from nothing.
    pub(in crate::child) fresh: bool,
}

/// A reading of a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::child) struct Clock {
    pub(in crate::child) value: u64,
    /// It says of itself that it was set anew.
    pub(in crate::child) anew: bool,
}

/// Reads what a packet states; of a broken one nothing.
pub(in crate::child) fn packet(bytes: &[u8]) -> Option<Packet> {
    let head = Head::of(bytes).filter(|head| !head.broken)?;
    let extra = head.more.then(|| bytes.get(4)).flatten().map(|length| usize::from(*length));
    let clock = extra.filter(|length| *length > CLOCK_BYTES).and_then(|_| clock(bytes));
    let body = 4 + extra.map_or(0, |length| length + 1);
    let shown = if head.begins && head.carries { bytes.get(body..).and_then(pes::shown) } else { None };
    let time = shown.map(|time| time * CLOCK_PER_TIME);
    let number = head.carries.then_some(head.number);
    let fresh = extra.is_some_and(|length| length > 0) && bytes.get(5).is_some_and(|flags| flags & 0x80 != 0);
    Some(Packet { pid: head.pid, clock, time, number, fresh })
}

fn clock(bytes: &[u8]) -> Option<Clock> {
    let flags = *bytes.get(5).filter(|flags| **flags & 0x10 != 0)?;
    let field = bytes.get(CLOCK_AT as usize..CLOCK_AT as usize + CLOCK_BYTES)?;
    let whole = field.iter().fold(0_u64, |whole, byte| whole << 8 | u64::from(*byte));
    let value = ((whole >> 15) * CLOCK_PER_TIME + (whole & 0x1ff)) % ROUND;
    Some(Clock { value, anew: flags & 0x80 != 0 })
}

/// A clock's reading as it lies in a packet.
pub(in crate::child) fn clock_bytes(value: u64) -> [u8; CLOCK_BYTES] {
    let whole = (value / CLOCK_PER_TIME) << 15 | 0x7e00 | (value % CLOCK_PER_TIME);
    let [_, _, bytes @ ..] = whole.to_be_bytes();
    bytes
}

/// A packet of stream `pid` that carries nothing but a clock's reading, as it lies in a stream with that distance of packets.
pub(in crate::child) fn with_clock(pid: u16, value: u64, distance: usize) -> Vec<u8> {
    let [high, low] = pid.to_be_bytes();
    let head = [SYNC, high & 0x1f, low, 0x20, (PACKET - 5) as u8, 0x10];
    let mut packet = [&head[..], &clock_bytes(value)].concat();
    packet.resize(PACKET as usize, 0xff);
    packet.resize(distance, 0);
    packet
}

/// A stream taken apart into packets as it comes.
#[derive(Debug)]
pub(in crate::child) struct Packets {
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
    pub(in crate::child) fn new(distance: usize, at: u64, in_step: bool) -> Self {
        Self { distance, at, held: Vec::new(), in_step, leave_out: 0, broken: false }
    }

    /// Was anything met that is no packet, or a broken one?
    pub(in crate::child) fn broken(&self) -> bool {
        self.broken
    }

    /// Takes the bytes that come next, and hands on each packet with its place and its bytes.
    pub(in crate::child) fn takes(&mut self, data: &[u8], mut each: impl FnMut(u64, Packet, &[u8])) {
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
