//! The tables of a transport stream (ISO/IEC 13818-1, 2.4.4): which programmes there are, and what belongs to one. Pure.

use super::{Payload, payloads};
use crate::child::streams::Kind;

/// Numbers of the two tables.
pub(in crate::child) const PROGRAMMES: u8 = 0;
pub(in crate::child) const PROGRAMME: u8 = 2;
pub(in crate::child) const CHECKSUM_BYTES: usize = 4;
/// Streams of private data (2.4.4.10), which descriptions may name.
pub(in crate::child) const PRIVATE: u8 = 6;
/// Types of streams that carry pictures, and sound: MPEG's own, and those of broadcasters and discs.
const PICTURES: [u8; 12] = [0x01, 0x02, 0x10, 0x1b, 0x20, 0x21, 0x24, 0x33, 0x42, 0xd1, 0xdb, 0xea];
const SOUNDS: [u8; 18] =
    [0x03, 0x04, 0x0f, 0x11, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x8a, 0xa1, 0xa2, 0xc1, 0xc2, 0xcf];
/// Descriptions (EN 300 468, 6.1) that name private data as sound.
const SOUND_DESCRIPTIONS: [u8; 4] = [0x6a, 0x7a, 0x7b, 0x7c];
/// The description that holds a registered name, and such names of sound and of pictures.
const REGISTERED: u8 = 5;
const SOUND_NAMES: [&[u8]; 8] = [b"AC-3", b"AC-4", b"EAC3", b"BSSD", b"Opus", b"DTS1", b"DTS2", b"DTS3"];
/// The name of a disc.
const DISC: &[u8] = b"HDMV";
const PICTURE_NAMES: [&[u8]; 3] = [b"HEVC", b"VC-1", b"AV01"];

impl<'a> Payload<'a> {
    /// A whole section of a table that begins in it.
    pub(in crate::child) fn section(&self, table: u8) -> Option<&'a [u8]> {
        let (skip, rest) = self.body.split_first().filter(|_| self.begins)?;
        whole(rest.get(usize::from(*skip)..)?, table)
    }
}

/// The section that `bytes` begin with, if all of it is there.
fn complete(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(..3 + length_of(bytes.get(1..3)?))
}

/// The same, if it is one of that table and sound.
fn whole(bytes: &[u8], table: u8) -> Option<&[u8]> {
    let section = complete(bytes)?;
    // Over all of it with its checksum nothing is left.
    let sound = section.len() >= 12 + CHECKSUM_BYTES && section[0] == table && checksum(section) == 0;
    sound.then_some(section)
}

/// The first section of a stream's table, which may take several packets.
pub(in crate::child) fn assembled(head: &[u8], pid: u16, table: u8) -> Option<Vec<u8>> {
    let mut section: Option<Vec<u8>> = None;
    for payload in payloads(head).filter(|payload| payload.pid == pid) {
        match (&mut section, payload.begins) {
            (_, true) => section = payload.body.get(1 + usize::from(*payload.body.first()?)..).map(<[u8]>::to_vec),
            (Some(section), false) => section.extend(payload.body),
            (None, false) => {}
        }
        let Some(complete) = section.as_deref().and_then(complete) else { continue };
        if let Some(whole) = whole(complete, table) {
            return Some(whole.to_vec());
        }
        // A broken one is not looked at again with each packet that follows.
        section = None;
    }
    None
}

/// Where in the table of programmes each of them stands, and the number of the packets with its own table.
pub(in crate::child) fn programmes(table: &[u8]) -> Vec<(usize, u16)> {
    let rows = (8..table.len() - CHECKSUM_BYTES).step_by(4).map(|at| (at, &table[at..at + 4]));
    // The one numbered zero is no programme.
    rows.filter(|(_, row)| row[..2] != [0, 0]).map(|(at, row)| (at, pid_of(&row[2..]))).collect()
}

/// A stream of a programme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::child) struct Row<'a> {
    /// Where in the table it stands; its type comes first.
    pub(in crate::child) at: usize,
    pub(in crate::child) kind: u8,
    /// Number of its packets.
    pub(in crate::child) pid: u16,
    pub(in crate::child) descriptions: &'a [u8],
}

impl Row<'_> {
    /// Picture or sound, as far as the table tells it.
    pub(in crate::child) fn media(&self) -> Option<Kind> {
        match self.kind {
            kind if PICTURES.contains(&kind) => Some(Kind::Video),
            kind if SOUNDS.contains(&kind) => Some(Kind::Audio),
            PRIVATE => self.described().find_map(|(tag, body)| match tag {
                tag if SOUND_DESCRIPTIONS.contains(&tag) => Some(Kind::Audio),
                REGISTERED if SOUND_NAMES.iter().any(|name| body.starts_with(name)) => Some(Kind::Audio),
                REGISTERED if PICTURE_NAMES.iter().any(|name| body.starts_with(name)) => Some(Kind::Video),
                _ => None,
            }),
            _ => None,
        }
    }

    fn described(&self) -> impl Iterator<Item = (u8, &[u8])> {
        descriptions(self.descriptions)
    }

    /// Does one of these descriptions belong to it?
    pub(in crate::child) fn is_described_by(&self, tags: &[u8]) -> bool {
        self.described().any(|(tag, _)| tags.contains(&tag))
    }
}

/// Descriptions one by one: their tags and bodies.
fn descriptions(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let [tag, length, after @ ..] = rest else { return None };
        let (body, next) = after.split_at_checked(usize::from(*length))?;
        rest = next;
        Some((*tag, body))
    })
}

/// Does a programme's table say that it is that of a disc, or of a camcorder that writes like one?
pub(in crate::child) fn is_of_disc(table: &[u8]) -> bool {
    let end = 12 + length_of(&table[10..]);
    let described = table.get(12..end).unwrap_or_default();
    descriptions(described).any(|(tag, body)| tag == REGISTERED && body.starts_with(DISC))
}

/// The streams of a programme's table.
pub(in crate::child) fn rows(table: &[u8]) -> Vec<Row<'_>> {
    let (mut found, end) = (Vec::new(), table.len() - CHECKSUM_BYTES);
    let mut at = 12 + length_of(&table[10..]);
    while let Some(row) = table[..end].get(at..at + 5) {
        let described = length_of(&row[3..]);
        let Some(descriptions) = table[..end].get(at + 5..at + 5 + described) else { break };
        found.push(Row { at, kind: row[0], pid: pid_of(&row[1..]), descriptions });
        at += 5 + described;
    }
    found
}

pub(in crate::child) fn pid_of(bytes: &[u8]) -> u16 {
    u16::from(bytes[0] & 0x1f) << 8 | u16::from(bytes[1])
}

fn length_of(bytes: &[u8]) -> usize {
    usize::from(bytes[0] & 0x0f) << 8 | usize::from(bytes[1])
}

/// A table with another checksum: that of what stands in it now.
pub(in crate::child) fn sealed(mut table: Vec<u8>) -> Vec<u8> {
    let end = table.len() - CHECKSUM_BYTES;
    let sum = checksum(&table[..end]);
    table[end..].copy_from_slice(&sum.to_be_bytes());
    table
}

/// The checksum of tables (annex A).
pub(in crate::child) fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte) << 24, |sum, _| {
            if sum & 0x8000_0000 != 0 { sum << 1 ^ 0x04c1_1db7 } else { sum << 1 }
        })
    })
}

#[cfg(test)]
pub(in crate::child) mod tests {
    use super::super::{PACKET, SYNC};
    use super::*;

    /// The packet that begins with a table.
    pub(in crate::child) fn packet(pid: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![SYNC, 0x40 | pid.to_be_bytes()[0], pid.to_be_bytes()[1], 0x10];
        bytes.extend(body);
        bytes.resize(PACKET as usize, 0xff);
        bytes
    }

    /// The packet with the table of programmes: their numbers, and those of the packets of their tables.
    pub(in crate::child) fn of_programmes(programmes: &[(u16, u16)]) -> Vec<u8> {
        let mut table = vec![0, 0xb0, 9 + 4 * programmes.len() as u8, 0, 1, 0xc1, 0, 0];
        programmes.iter().for_each(|(number, pid)| table.extend([number.to_be_bytes(), pid.to_be_bytes()].concat()));
        packet(0, &[&[0], &sealed([table, vec![0; 4]].concat())[..]].concat())
    }

    /// The packet with the table of a programme: types and numbers of its streams.
    pub(in crate::child) fn of_programme(number: u16, pid: u16, streams: &[(u8, u16)]) -> Vec<u8> {
        let mut table = vec![2, 0xb0, 13 + 5 * streams.len() as u8, 0, number as u8, 0xc1, 0, 0, 0xe1, 0, 0xf0, 0];
        streams.iter().for_each(|(kind, pid)| table.extend([&[*kind][..], &pid.to_be_bytes(), &[0xf0, 0]].concat()));
        packet(pid, &[&[0], &sealed([table, vec![0; 4]].concat())[..]].concat())
    }

    #[test]
    fn streams_are_told_apart_by_type_and_description() {
        let row = |kind, descriptions| Row { at: 0, kind, pid: 7, descriptions };
        assert_eq!(row(0x1b, &[]).media(), Some(Kind::Video));
        assert_eq!(row(0x0f, &[]).media(), Some(Kind::Audio));
        assert_eq!(row(PRIVATE, &[0x56, 0]).media(), None, "teletext");
        assert_eq!(row(PRIVATE, &[0x52, 1, 3, 0x6a, 1, 0]).media(), Some(Kind::Audio));
        assert_eq!(row(PRIVATE, b"\x05\x04HEVC").media(), Some(Kind::Video));
        assert_eq!(row(PRIVATE, b"\x05\xffHEVC").media(), None, "a description that ends behind its table");
    }

    #[test]
    fn a_table_of_several_packets_is_put_together() {
        let streams: Vec<(u8, u16)> = (0..50).map(|n| (3, 0x200 + n)).collect();
        let section = {
            let mut table = vec![2, 0xb1, 7, 0, 1, 0xc1, 0, 0, 0xe1, 0, 0xf0, 0];
            streams
                .iter()
                .for_each(|(kind, pid)| table.extend([&[*kind][..], &pid.to_be_bytes(), &[0xf0, 0]].concat()));
            sealed([table, vec![0; 4]].concat())
        };
        let first = packet(0x100, &[&[0], &section[..183]].concat());
        let mut second = packet(0x100, &section[183..]);
        second[1] &= !0x40;
        let stream = [first, second, [packet(0x1fff, &[]), packet(0x1fff, &[])].concat().repeat(3)].concat();
        assert_eq!(assembled(&stream, 0x100, PROGRAMME), Some(section));
        assert_eq!(assembled(&stream[..188], 0x100, PROGRAMME), None);
        let found = assembled(&stream, 0x100, PROGRAMME).unwrap();
        assert_eq!(rows(&found).iter().map(|row| (row.kind, row.pid)).collect::<Vec<_>>(), streams);
    }
}
