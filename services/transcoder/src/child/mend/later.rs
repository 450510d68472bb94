//! Streams that a programme's table comes to list later, as when a channel's sound changes its codec between two broadcasts.
//!
//! `tsdemux` hands out what the first table lists, and of a stream whose type changes what it was before. What comes later
//! is not taken, and counted, so that a video whose sound ends or begins in the middle does not so without a word.

use std::collections::BTreeSet;

use super::super::streams::Kind;
use super::programme::LeftOut;
use super::tables::{PROGRAMME, Payload, rows};

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
    /// Those that later ones list beside them, as far as they carry picture or sound.
    new: BTreeSet<(u16, u8, Kind)>,
}

impl Later {
    /// Behind the first one, in packets with the number `pid`.
    pub(super) fn than(pid: u16, table: &[u8]) -> Self {
        let first = rows(table).iter().map(|row| (row.pid, row.kind)).collect();
        Self { pid, number: table[3..5].to_vec(), first, new: BTreeSet::new() }
    }

    /// Takes a packet of the stream.
    pub(super) fn takes(&mut self, pid: u16, packet: &[u8]) {
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

    /// What was listed later and not handed out: `handed_out` tells it of a stream by the number of its packets.
    pub(super) fn left_out(&self, handed_out: impl Fn(u16) -> bool) -> LeftOut {
        let mut left_out = LeftOut::default();
        let before = |pid: u16| self.first.iter().any(|(first, _)| *first == pid);
        let missed = self.new.iter().filter(|(pid, _, _)| before(*pid) || !handed_out(*pid));
        missed.for_each(|(_, _, kind)| left_out.add(*kind));
        left_out
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::tests::of_programme;
    use super::super::tables::{PROGRAMME, Payload};
    use super::*;

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
}
