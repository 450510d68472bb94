//! The table of a transport stream's programme, where it lists sound as private data and says nothing more of it.
//!
//! So ffmpeg writes AAC and MPEG sound with `-mpegts_m2ts_mode`. `tsdemux` makes no pad of such a stream, and the video came
//! out without its sound. What it is its first bytes tell; so demuxers are shown the table with the stream's true type and
//! the checksum that belongs to it. The table comes again every few packets, each time with the same bytes, so it is
//! looked for in whatever is read.
//!
//! What is not done: tables that are longer than a packet, and those of further programmes, are left as they are.

use std::sync::Arc;

use bytes::Bytes;

use super::super::mp4::Bytes as _;
use super::super::source::{RangeDone, Ranges};
use super::super::whole::Whole;
use super::clock::packets::{HEAD_BYTES, PACKET, SYNC, packets_at};

/// Bytes of a stream's beginning in which its table and the first of its sound are looked for, and how many more are read
/// each time.
const LOOKED_THROUGH: usize = 1024 * 1024;
const PIECE: usize = 64 * 1024;
/// Tables of a stream (ISO/IEC 13818-1, 2.4.4): which programmes there are, and what belongs to one.
const PROGRAMMES: u8 = 0;
const PROGRAMME: u8 = 2;
/// A stream of private data (2.4.4.10), and names of packets that carry sound (2.4.3.7).
const PRIVATE: u8 = 6;
const SOUND: std::ops::RangeInclusive<u8> = 0xc0..=0xdf;
const CHECKSUM_BYTES: usize = 4;
/// So many bytes of a table that reaches beyond what is read are enough to know it. Of one that is not known by the rest,
/// just its checksum stays as it was, and demuxers wait for the next one.
const KNOWN_BY: usize = CHECKSUM_BYTES + 1;

/// A source whose sound is named.
pub(crate) struct Named {
    pub(crate) ranges: Arc<dyn Ranges>,
    /// Streams of sound, by their packets, that stay without a name: demuxers pass them over.
    pub(crate) unknown: u32,
}

/// The source, which begins with `head`, as a demuxer is to see it; as it is, where nothing has to be named.
pub(crate) fn named(ranges: &Arc<dyn Ranges>, head: &[u8]) -> Result<Named, String> {
    if packets_at(head).is_none() {
        return Ok(Named { ranges: Arc::clone(ranges), unknown: 0 });
    }
    let (whole, mut head) = (Whole(ranges), head.to_vec());
    let most = ranges.size_bytes().min(LOOKED_THROUGH as u64) as usize;
    let found = loop {
        match look(&head) {
            Look::Finished(found) => break found,
            Look::Unfinished(found) if head.len() >= most => break found,
            Look::Unfinished(_) => {}
        }
        let piece = PIECE.min(most - head.len());
        head.extend(whole.read(head.len() as u64, piece)?);
    };
    let ranges: Arc<dyn Ranges> = match found.table {
        Some(table) => Arc::new(Renamed { inner: Arc::clone(ranges), table: Arc::new(table) }),
        None => Arc::clone(ranges),
    };
    Ok(Named { ranges, unknown: found.unknown })
}

/// The same for who has read nothing of it.
pub(super) fn named_anew(ranges: &Arc<dyn Ranges>) -> Result<Arc<dyn Ranges>, String> {
    let head = Whole(ranges).read(0, ranges.size_bytes().min(HEAD_BYTES) as usize)?;
    Ok(named(ranges, &head)?.ranges)
}

/// A table, and what is to be seen instead, of the same length.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    old: Vec<u8>,
    new: Vec<u8>,
}

/// What the beginning of a stream tells.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    table: Option<Table>,
    unknown: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Look {
    Finished(Found),
    /// More would tell more.
    Unfinished(Found),
}

fn look(head: &[u8]) -> Look {
    let Some(table) = table(head) else { return Look::Unfinished(Found::default()) };
    let (mut new, mut found, mut waits) = (table.to_vec(), Found::default(), false);
    for (at, pid) in private(table) {
        match begins(head, pid) {
            Some(Sound::Of(kind)) => new[at] = kind,
            Some(Sound::Unknown) => found.unknown += 1,
            Some(Sound::None) => {}
            None => waits = true,
        }
    }
    if new != table {
        let end = new.len() - CHECKSUM_BYTES;
        let sum = checksum(&new[..end]);
        new[end..].copy_from_slice(&sum.to_be_bytes());
        found.table = Some(Table { old: table.to_vec(), new });
    }
    if waits { Look::Unfinished(found) } else { Look::Finished(found) }
}

/// What a packet carries, and whether something begins in it.
struct Payload<'a> {
    pid: u16,
    begins: bool,
    body: &'a [u8],
}

/// The packets of a beginning that carry anything, as far as they are in step.
fn payloads(head: &[u8]) -> impl Iterator<Item = Payload<'_>> {
    let (from, distance) = packets_at(head).unwrap_or((head.len(), PACKET as usize));
    let packets = (from..head.len()).step_by(distance).map_while(|at| head.get(at..at + PACKET as usize));
    packets.take_while(|packet| packet[0] == SYNC).filter_map(|packet| {
        let (broken, carries, extra) = (packet[1] & 0x80 != 0, packet[3] & 0x10 != 0, packet[3] & 0x20 != 0);
        let body = packet.get(if extra { 5 + usize::from(packet[4]) } else { 4 }..)?;
        let pid = u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]);
        (!broken && carries).then_some(Payload { pid, begins: packet[1] & 0x40 != 0, body })
    })
}

/// The table of the first programme.
fn table(head: &[u8]) -> Option<&[u8]> {
    let programmes = payloads(head).find_map(|it| (it.pid == 0).then(|| section(&it, PROGRAMMES)).flatten())?;
    let rows = programmes.get(8..programmes.len() - CHECKSUM_BYTES)?.chunks_exact(4);
    // The one numbered zero is no programme.
    let pid = rows.filter(|row| row[..2] != [0, 0]).map(|row| pid_of(&row[2..])).next()?;
    payloads(head).find_map(|it| (it.pid == pid).then(|| section(&it, PROGRAMME)).flatten())
}

/// A whole section of a table that begins in a packet.
fn section<'a>(payload: &Payload<'a>, table: u8) -> Option<&'a [u8]> {
    let (skip, rest) = payload.body.split_first().filter(|_| payload.begins)?;
    let section = rest.get(usize::from(*skip)..)?;
    let length = usize::from(section.get(1)? & 0x0f) << 8 | usize::from(*section.get(2)?);
    let section = section.get(..3 + length).filter(|section| section.len() >= 12 + CHECKSUM_BYTES)?;
    // Over all of it with its checksum nothing is left.
    (section[0] == table && checksum(section) == 0).then_some(section)
}

/// Streams of private data that a table says nothing more of: where in it their type lies, and the number of their packets.
fn private(table: &[u8]) -> Vec<(usize, u16)> {
    let (mut found, end) = (Vec::new(), table.len() - CHECKSUM_BYTES);
    let mut at = 12 + length_of(&table[10..]);
    while let Some(row) = table[..end].get(at..at + 5) {
        let described = length_of(&row[3..]);
        if row[0] == PRIVATE && described == 0 {
            found.push((at, pid_of(&row[1..])));
        }
        at += 5 + described;
    }
    found
}

fn pid_of(bytes: &[u8]) -> u16 {
    u16::from(bytes[0] & 0x1f) << 8 | u16::from(bytes[1])
}

fn length_of(bytes: &[u8]) -> usize {
    usize::from(bytes[0] & 0x0f) << 8 | usize::from(bytes[1])
}

/// What a stream of private data begins with.
enum Sound {
    /// Sound of this type (2.4.4.10).
    Of(u8),
    Unknown,
    None,
}

fn begins(head: &[u8], pid: u16) -> Option<Sound> {
    let first = payloads(head).find(|it| it.pid == pid && it.begins)?.body;
    let [0, 0, 1, name, _, _, _, _, skip, rest @ ..] = first else { return Some(Sound::None) };
    if !SOUND.contains(name) {
        return Some(Sound::None);
    }
    let kind = rest.get(usize::from(*skip)..).and_then(|sound| match sound {
        // ADTS has no layer, MPEG sound has one.
        [0xff, next, ..] if next & 0xf6 == 0xf0 => Some(0x0f),
        [0xff, next, ..] if next & 0xe0 == 0xe0 && next & 0x06 != 0 && next & 0x18 != 0x08 => Some(0x03),
        [0x56, next, ..] if next & 0xe0 == 0xe0 => Some(0x11),
        _ => None,
    });
    Some(kind.map_or(Sound::Unknown, Sound::Of))
}

/// The checksum of tables (annex A).
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte) << 24, |sum, _| {
            if sum & 0x8000_0000 != 0 { sum << 1 ^ 0x04c1_1db7 } else { sum << 1 }
        })
    })
}

struct Renamed {
    inner: Arc<dyn Ranges>,
    table: Arc<Table>,
}

impl Ranges for Renamed {
    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn request(&self, offset: u64, length: u32, done: RangeDone) {
        let table = Arc::clone(&self.table);
        self.inner.request(offset, length, Box::new(move |read| done(read.map(|data| renamed(data, &table)))));
    }
}

/// `data` with the new table in the place of the old one, also where it lies in it in part.
fn renamed(data: Bytes, Table { old, new }: &Table) -> Bytes {
    let mut copy: Option<Vec<u8>> = None;
    // Places of tables begin before the data, for those that reach into it.
    let reach = old.len() - KNOWN_BY;
    for place in 0..(data.len() + reach).saturating_sub(KNOWN_BY - 1) {
        let (at, from) = (place.saturating_sub(reach), reach.saturating_sub(place));
        let length = (old.len() - from).min(data.len() - at);
        if length >= KNOWN_BY && data[at] == old[from] && data[at..at + length] == old[from..from + length] {
            copy.get_or_insert_with(|| data.to_vec())[at..at + length].copy_from_slice(&new[from..from + length]);
        }
    }
    copy.map_or(data, Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As ffmpeg writes it: H.264, and AAC as private data.
    const TABLE: [u8; 38] = [
        0x02, 0xb0, 0x23, 0x00, 0x01, 0xc1, 0x00, 0x00, 0xf0, 0x11, 0xf0, 0x0c, 0x05, 0x04, 0x48, 0x44, 0x4d, 0x56,
        0x88, 0x04, 0x0f, 0xff, 0xfc, 0xfc, 0x1b, 0xf0, 0x11, 0xf0, 0x00, 0x06, 0xf1, 0x00, 0xf0, 0x00, 0xae, 0x0c,
        0x0c, 0x26,
    ];

    fn packet(pid: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 0, 0x47, 0x40 | pid.to_be_bytes()[0], pid.to_be_bytes()[1], 0x10];
        bytes.extend(body);
        bytes.resize(192, 0xff);
        bytes
    }

    /// Packets of 192 bytes whose sound begins with `sound`.
    fn stream(sound: &[u8]) -> Vec<u8> {
        let mut programmes = vec![0x00, 0xb0, 0x0d, 0, 1, 0xc1, 0, 0, 0, 1, 0xe1, 0];
        programmes.extend(checksum(&programmes).to_be_bytes());
        let pes = [&[0, 0, 1, 0xc0, 0, 0, 0x80, 0, 0], sound].concat();
        let table = packet(0x100, &[&[0], &TABLE[..]].concat());
        let sections = [packet(0, &[&[0], &programmes[..]].concat()), table.clone()].concat();
        [sections, packet(0x1011, &[0, 0, 1, 0xe0]), packet(0x1100, &pes), table.clone(), table].concat()
    }

    fn kind_of(sound: &[u8]) -> (Option<u8>, u32) {
        let Look::Finished(found) = look(&stream(sound)) else { panic!("the sound is there") };
        (found.table.map(|table| table.new[29]), found.unknown)
    }

    #[test]
    fn sound_is_named_by_its_first_bytes() {
        assert_eq!(kind_of(&[0xff, 0xf1, 0x50]), (Some(0x0f), 0));
        assert_eq!(kind_of(&[0xff, 0xfd, 0xc4]), (Some(0x03), 0));
        assert_eq!(kind_of(&[0x56, 0xe0, 0x50]), (Some(0x11), 0));
        assert_eq!(kind_of(&[1, 2, 3]), (None, 1), "sound that stays unknown is counted");
        let silent = &stream(&[0xff, 0xf1])[..3 * 192];
        assert_eq!(look(silent), Look::Unfinished(Found::default()), "its sound may come yet");
        assert_eq!(look(&[0x47; 4096]), Look::Unfinished(Found::default()));
        assert_eq!(look(b"RIFF"), Look::Unfinished(Found::default()));
    }

    #[test]
    fn every_table_is_seen_with_its_sound_however_it_is_read() {
        let stream = stream(&[0xff, 0xf1, 0x50]);
        let Look::Finished(Found { table: Some(table), .. }) = look(&stream) else { panic!("nothing was named") };
        assert_eq!(checksum(&table.new), 0);
        let whole = renamed(stream.clone().into(), &table);
        assert_eq!(whole.windows(table.new.len()).filter(|part| *part == table.new).count(), 3);
        assert!(!whole.windows(table.old.len()).any(|part| part == table.old));
        let starts = |part: &[u8]| part[..20] == table.new[..20];
        let places: Vec<usize> = (0..whole.len() - 40).filter(|at| starts(&whole[*at..])).collect();
        for length in 40..400 {
            let pieces = stream.chunks(length).map(|piece| renamed(Bytes::copy_from_slice(piece), &table));
            let mut read: Vec<u8> = pieces.flatten().collect();
            // Of one that is cut just before its end a part of the checksum may stay, and it counts for nothing.
            for sum in places.iter().map(|at| at + table.new.len() - CHECKSUM_BYTES) {
                read[sum..sum + CHECKSUM_BYTES].copy_from_slice(&whole[sum..sum + CHECKSUM_BYTES]);
            }
            assert_eq!(read, whole, "in pieces of {length}");
        }
    }
}
