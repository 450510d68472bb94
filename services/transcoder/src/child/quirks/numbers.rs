//! The numbers of a transport stream's packets, shown to its demuxer as if none were lost.
//!
//! Where a number is missing `tsdemux` throws away the whole picture, or all of the sound, that the lost packet was a part
//! of: 188 bytes cost some ten thousand. Decoders conceal what is missing, and so ffmpeg has it. So each stream of pictures
//! or sound is numbered anew as its demuxer pulls it; what is lost is counted from the file's own numbers
//! ([`crate::child::mend::clock`]). A packet that comes twice, which is allowed, is shown as one that only fills.
//!
//! A demuxer forgets its numbers where it reads on elsewhere, and so do these: nothing is kept but the last number of each
//! stream, whatever the length. A stream that lost nothing is not touched.
//!
//! What is not done: a head that lies across two reads is numbered only as far as it is not handed out yet.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use gst::prelude::*;

use crate::child::formats::ts::{FILLING, Head, NUMBERS, PACKET, Payload, SYNC, packets_at};

/// Bytes of a packet up to its number, and where that stands.
const HEAD_BYTES: usize = 4;
const NUMBER_AT: usize = 3;
/// Bits of a packet's second byte that belong to the number of its stream.
const PID_BITS: u8 = 0x1f;

/// Numbers what the demuxer of a transport stream pulls, if one is put into `parser`.
pub(in crate::child) fn go_on(parser: &gst::Element) {
    let Some(parser) = parser.dynamic_cast_ref::<gst::Bin>() else { return };
    parser.connect_element_added(|_, element| {
        let Some(factory) = element.factory().filter(|factory| factory.name() == "tsdemux") else { return };
        let Some(sink) = element.static_pad("sink").filter(|_| factory.has_type(gst::ElementFactoryType::DEMUXER))
        else {
            return;
        };
        let numbers = Mutex::new(Numbers::default());
        sink.add_probe(gst::PadProbeType::PULL | gst::PadProbeType::BUFFER, move |_, info| {
            let offset = info.offset;
            if let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data {
                number(&numbers, offset, buffer);
            }
            gst::PadProbeReturn::Ok
        });
    });
}

fn number(numbers: &Mutex<Numbers>, offset: u64, buffer: &mut gst::Buffer) {
    let changes = {
        // What can't be read the demuxer can't read either, and says so.
        let Ok(data) = buffer.map_readable() else { return };
        // A panic while it was held leaves numbers that are as good as any.
        numbers.lock().unwrap_or_else(PoisonError::into_inner).takes(offset, &data)
    };
    if changes.is_empty() {
        return;
    }
    let Ok(mut data) = buffer.make_mut().map_writable() else { return };
    for (at, byte) in changes {
        data[at] = byte;
    }
}

/// The packets of a stream as they are pulled.
#[derive(Debug, Default)]
struct Numbers {
    /// Their distance, where it is known.
    distance: Option<usize>,
    /// Up to where was read.
    end: u64,
    /// The beginning of a head whose rest comes with the next read.
    begun: Vec<u8>,
    /// Bytes up to the next packet.
    ahead: usize,
    streams: BTreeMap<u16, Stream>,
}

/// One stream of packets.
#[derive(Debug)]
struct Stream {
    /// The last number, as it stands in the file and as it is shown.
    stated: u8,
    shown: u8,
    /// Does it carry picture or sound?
    media: bool,
    /// What the last packet carried.
    last: Vec<u8>,
}

impl Numbers {
    /// Takes what is read at `offset`, and tells which of its bytes are to be others.
    fn takes(&mut self, offset: u64, data: &[u8]) -> Vec<(usize, u8)> {
        if offset != self.end || self.distance.is_none() {
            let found = packets_at(data);
            *self = Self { distance: found.map(|(_, distance)| distance), ..Self::default() };
            self.ahead = found.map_or(0, |(from, _)| from);
        }
        self.end = offset + data.len() as u64;
        let Some(distance) = self.distance else { return Vec::new() };
        let begun = std::mem::take(&mut self.begun);
        let all: Cow<'_, [u8]> = if begun.is_empty() { data.into() } else { [&begun, data].concat().into() };
        let (mut at, mut changes) = (self.ahead, Vec::new());
        while let Some(head) = all.get(at..at + HEAD_BYTES) {
            if head[0] != SYNC {
                let in_step = |at: usize| all.get(at + distance).is_none_or(|byte| *byte == SYNC);
                at = (at..all.len()).find(|at| all[*at] == SYNC && in_step(*at)).unwrap_or(all.len());
                continue;
            }
            let packet = &all[at..all.len().min(at + PACKET as usize)];
            let (from, wanted) = (at as i64 - begun.len() as i64, self.seen(packet));
            // What lies before this read is handed out, and stays as it is.
            let places =
                wanted.into_iter().filter_map(|(n, byte)| Some((usize::try_from(from + n as i64).ok()?, byte)));
            changes.extend(places);
            at += distance;
        }
        self.begun = all.get(at..).unwrap_or_default().to_vec();
        self.ahead = at.saturating_sub(all.len());
        changes
    }

    /// Which bytes of a packet are to be others.
    fn seen(&mut self, packet: &[u8]) -> Vec<(usize, u8)> {
        let Some(Head { pid, number: stated, .. }) =
            Head::of(packet).filter(|head| !head.broken && head.carries && head.pid != FILLING)
        else {
            return Vec::new();
        };
        let [high, flags] = [1, NUMBER_AT].map(|at| packet[at]);
        // Of a packet that lies across two reads less may be seen than it carries.
        let payload = Payload::of(packet).filter(|_| packet.len() == PACKET as usize);
        let body = payload.as_ref().map_or(&[][..], |payload| payload.body);
        let media = payload.as_ref().is_some_and(Payload::is_media);
        let Some(stream) = self.streams.get_mut(&pid) else {
            self.streams.insert(pid, Stream { stated, shown: stated, media, last: body.to_vec() });
            return Vec::new();
        };
        stream.media |= media;
        let twice = stream.media && stated == stream.stated && !body.is_empty() && body == stream.last;
        if twice {
            let [high, low] = (FILLING | u16::from(high & !PID_BITS) << 8).to_be_bytes();
            return vec![(1, high), (2, low)];
        }
        let shown = if stream.media { (stream.shown + 1) % NUMBERS } else { stated };
        (stream.stated, stream.shown) = (stated, shown);
        stream.last.clear();
        stream.last.extend_from_slice(body);
        if shown == stated { Vec::new() } else { vec![(NUMBER_AT, flags & !(NUMBERS - 1) | shown)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::formats::pes;

    const DISTANCE: usize = PACKET as usize;

    /// A packet of stream `pid`, with picture or sound or none.
    fn packet(pid: u16, number: u8, body: &[u8]) -> Vec<u8> {
        let [high, low] = pid.to_be_bytes();
        let begins = if body.starts_with(&pes::MARK) { 0x40 } else { 0 };
        let mut bytes = vec![SYNC, begins | high, low, 0x10 | (number % NUMBERS)];
        bytes.extend(body);
        bytes.resize(DISTANCE, 0xff);
        bytes
    }

    /// `data` as it is shown in reads of that length.
    fn shown(data: &[u8], length: usize) -> Vec<u8> {
        let (mut numbers, mut shown) = (Numbers::default(), Vec::new());
        for part in data.chunks(length) {
            let changes = numbers.takes(shown.len() as u64, part);
            let mut part = part.to_vec();
            changes.into_iter().for_each(|(at, byte)| part[at] = byte);
            shown.extend(part);
        }
        shown
    }

    fn numbers_of(stream: &[u8], pid: u16) -> Vec<u8> {
        let packets = stream.chunks(DISTANCE).filter(|packet| Payload::of(packet).is_some_and(|it| it.pid == pid));
        packets.map(|packet| packet[NUMBER_AT] % NUMBERS).collect()
    }

    /// 40 packets of media in stream 7 and 40 of tables in stream 8, without those whose number in their stream is lost.
    fn lossy(lost: &[u8]) -> Vec<u8> {
        let kept = (0..40).filter(|n| !lost.contains(n));
        let two = |n: u8| [packet(7, n, &[0, 0, 1, n]), packet(8, n, &[0, 2, n])].concat();
        kept.flat_map(two).collect()
    }

    #[test]
    fn media_go_on_over_what_is_lost_and_tables_stay_as_they_are() {
        let stream = lossy(&[3, 11, 12, 30]);
        let seen = shown(&stream, 20 * DISTANCE);
        assert_eq!(numbers_of(&seen, 7), (0..36).map(|n| n % NUMBERS).collect::<Vec<_>>());
        assert_eq!(numbers_of(&seen, 8), numbers_of(&stream, 8));
        let but_numbers = |stream: &[u8]| -> Vec<u8> {
            stream.iter().enumerate().filter(|(at, _)| at % DISTANCE != NUMBER_AT).map(|(_, byte)| *byte).collect()
        };
        assert_eq!(but_numbers(&seen), but_numbers(&stream));
    }

    #[test]
    fn what_lost_nothing_is_not_touched() {
        let whole = lossy(&[]);
        assert!(Numbers::default().takes(0, &whole).is_empty());
        assert!(Numbers::default().takes(0, b"RIFF").is_empty());
    }

    #[test]
    fn packets_that_lie_across_two_reads_are_numbered_too() {
        let stream = [vec![1; 77], lossy(&[3, 11])].concat();
        let whole = shown(&stream, stream.len());
        assert_eq!(numbers_of(&whole[77..], 7), (0..38).map(|n| n % NUMBERS).collect::<Vec<_>>());
        for length in [1_880, 1_881, 1_957, 1_958, 1_999, 3_760] {
            // Of some the number was handed out before all of the head was seen; then it is as it was in the file.
            let (seen, mut apart) = (shown(&stream, length), 0);
            for (at, (seen, wanted)) in seen.iter().zip(&whole).enumerate().filter(|(_, (seen, wanted))| seen != wanted)
            {
                assert_eq!((at + DISTANCE - 77) % DISTANCE, NUMBER_AT, "{seen} instead of {wanted}");
                apart += 1;
            }
            assert!(apart <= 1, "{apart} numbers in reads of {length}");
        }
    }

    #[test]
    fn a_packet_that_comes_twice_only_fills_and_one_that_is_another_counts() {
        let all = lossy(&[]);
        let (before, after) = all.split_at(21 * DISTANCE);
        let twice = [before, &before[20 * DISTANCE..], after].concat();
        let seen = shown(&twice, twice.len());
        assert_eq!(numbers_of(&seen, 7), numbers_of(&all, 7));
        assert_eq!(numbers_of(&seen, FILLING).len(), 1);
        let another = [before, &packet(7, 10, &[9; 9]), after].concat();
        assert_eq!(numbers_of(&shown(&another, another.len()), 7).len(), 41);
    }

    #[test]
    fn where_a_demuxer_reads_on_elsewhere_numbers_begin_anew() {
        let stream = lossy(&[3]);
        let mut numbers = Numbers::default();
        assert!(!numbers.takes(0, &stream).is_empty());
        let part = &stream[40 * DISTANCE..];
        assert_eq!(numbers.takes(40 * PACKET, part), []);
        // Out of step for a few bytes.
        let stepped = [&lossy(&[3])[..], &[0; 13], &lossy(&[3])].concat();
        let seen = shown(&stepped, stepped.len());
        let numbers = [numbers_of(&seen[..stream.len()], 7), numbers_of(&seen[stream.len() + 13..], 7)].concat();
        assert_eq!(numbers, (0..78).map(|n| n % NUMBERS).collect::<Vec<_>>());
    }
}
