//! Streams that a programme's table lists and no demuxer hands out, at first or later, as when a channel's sound changes its
//! codec between two broadcasts.
//!
//! `tsdemux` hands out what it knows of the first table, and of a stream whose type changes what it was before. What comes
//! later or stays unknown is not taken, and counted, so that a video does not lack its sound, or lose it in the middle, without
//! a word. Of the first table that is what has packets: recorders often leave a channel's other streams in its table.

use std::collections::{BTreeMap, BTreeSet};

use super::super::streams::Kind;
use super::programme::LeftOut;
use crate::child::formats::ts::Payload;
use crate::child::formats::ts::tables::{PROGRAMME, rows};

/// Streams that are noted.
const MOST_STREAMS: usize = 256;

/// The tables of a programme as they come.
#[derive(Debug)]
pub(super) struct Later {
    /// Number of the packets with its table, and the programme's.
    pid: u16,
    number: Vec<u8>,
    /// Numbers of packets and types that its first table lists.
    first: BTreeSet<(u16, u8)>,
    /// Of those the ones that carry picture or sound by their types, and the ones of them that have packets.
    media: BTreeMap<u16, Kind>,
    met: BTreeSet<u16>,
    /// Those that later ones list beside them, as far as they carry picture or sound.
    new: BTreeSet<(u16, u8, Kind)>,
}

impl Later {
    /// Behind the first one, in packets with the number `pid`.
    pub(super) fn than(pid: u16, table: &[u8]) -> Self {
        let first = rows(table).iter().map(|row| (row.pid, row.kind)).collect();
        let media = rows(table).iter().filter_map(|row| Some((row.pid, row.media()?))).collect();
        Self { pid, number: table[3..5].to_vec(), first, media, met: BTreeSet::new(), new: BTreeSet::new() }
    }

    /// Takes a packet of the stream.
    pub(super) fn takes(&mut self, pid: u16, packet: &[u8]) {
        if self.media.contains_key(&pid) && !self.met.contains(&pid) {
            // Types of sound on discs are those of marks and subtitles elsewhere, which come in tables.
            self.met.extend(Payload::of(packet).filter(Payload::is_media).map(|_| pid));
        }
        if pid != self.pid || self.new.len() >= MOST_STREAMS {
            return;
        }
        let Some(table) = Payload::of(packet).and_then(|payload| payload.section(PROGRAMME)) else { return };
        // The lowest bit of the sixth byte: it holds now, and not only soon.
        if table[3..5] != self.number || table[5] & 1 == 0 {
            return;
        }
        let media = rows(table).into_iter().filter_map(|row| Some((row.pid, row.kind, row.media()?)));
        self.new.extend(media.filter(|(pid, kind, _)| !self.first.contains(&(*pid, *kind))));
    }

    /// What was listed and not handed out: `handed_out` tells it of a stream by the number of its packets.
    pub(super) fn left_out(&self, handed_out: impl Fn(u16) -> bool) -> LeftOut {
        let mut left_out = LeftOut::default();
        let before = |pid: u16| self.first.iter().any(|(first, _)| *first == pid);
        let missed = self.new.iter().filter(|(pid, _, _)| before(*pid) || !handed_out(*pid));
        missed.for_each(|(_, _, kind)| left_out.add(*kind));
        let unknown = self.met.iter().filter(|pid| !handed_out(**pid)).filter_map(|pid| self.media.get(pid));
        unknown.for_each(|kind| left_out.add(*kind));
        left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::formats::ts::tables::tests::{of_programme, packet};

    #[test]
    fn streams_that_come_later_are_counted_once_and_those_that_change_too() {
        let first = of_programme(1, 0x100, &[(0x1b, 0x101), (0x0f, 0x102)]);
        let table = Payload::of(&first).unwrap().section(PROGRAMME).unwrap().to_vec();
        let mut later = Later::than(0x100, &table);
        let mut takes = |number, pid, streams: &[(u8, u16)]| later.takes(pid, &of_programme(number, pid, streams));
        takes(1, 0x100, &[(0x1b, 0x101), (0x0f, 0x102)]);
        takes(1, 0x100, &[(0x1b, 0x101)]);
        // Of another programme, and no media.
        takes(2, 0x110, &[(0x03, 0x111)]);
        takes(2, 0x100, &[(0x03, 0x111)]);
        takes(1, 0x100, &[(0x0b, 0x103)]);
        for _ in 0..2 {
            takes(1, 0x100, &[(0x1b, 0x101), (0x03, 0x102), (0x81, 0x104), (0x24, 0x105)]);
        }
        assert_eq!(later.left_out(|_| false), LeftOut { pictures: 1, sounds: 2 });
        assert_eq!(later.left_out(|pid| pid != 0x105), LeftOut { pictures: 1, sounds: 1 });
    }

    #[test]
    fn what_the_first_table_lists_is_counted_where_it_has_packets_and_nobody_hands_it_out() {
        let streams = [(0x1b, 0x101), (0x0f, 0x102), (0x82, 0x103), (0x86, 0x104), (0x03, 0x105)];
        let first = of_programme(1, 0x100, &streams);
        let mut later = Later::than(0x100, Payload::of(&first).unwrap().section(PROGRAMME).unwrap());
        for pid in [0x101, 0x102, 0x103, 0x103] {
            later.takes(pid, &packet(pid, &[0, 0, 1, 0xbd]));
        }
        // Marks of broadcasters share a type with DTS and come in tables; of the last one nothing comes at all.
        later.takes(0x104, &packet(0x104, &[0, 0xfc, 0x30]));
        assert_eq!(later.left_out(|pid| pid == 0x101), LeftOut { pictures: 0, sounds: 2 });
    }
}
