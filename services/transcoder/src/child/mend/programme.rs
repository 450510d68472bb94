//! Which programme of a transport stream is taken, and what its table leaves unsaid.
//!
//! Of several programmes `tsdemux` takes the one whose table comes first, and says nothing of the others: of a recording of
//! a whole channel that may be a radio without a picture. So the first one with a picture is taken: demuxers are shown a
//! table of programmes that lists no other. What the others hold is counted, so that the video comes with a warning.
//!
//! Sound that a programme's table lists as private data, as ffmpeg writes AAC and MPEG sound with `-mpegts_m2ts_mode`, or under
//! a type of discs and broadcasters that `tsdemux` does not know, as DTS has it everywhere. It makes no pad of such a stream,
//! and the video came out without its sound. What it is its first bytes tell; so demuxers are shown the table with a type
//! that they know.
//!
//! Tables come again every few packets, each time with the same bytes, so they are looked for in whatever is read. What is
//! not done: tables that are longer than a packet are left as they are.

use std::sync::Arc;

use bytes::Bytes;

use super::super::source::{RangeDone, Ranges};
use super::super::streams::Kind;
use super::super::whole::Whole;
use super::first;
use super::patched::{patched, with_more};
use crate::child::formats::mp4::Bytes as _;
use crate::child::formats::ts::tables::{
    CHECKSUM_BYTES, PRIVATE, PROGRAMME, PROGRAMMES, Row, assembled, is_of_disc, pid_of, programmes, rows, sealed,
};
use crate::child::formats::ts::{HEAD_BYTES, LISTING, PACKET, packets_at, payloads};

/// Bytes of a stream's beginning in which its tables and the first of its sound are looked for, and how many more are read
/// each time.
const LOOKED_THROUGH: usize = 1024 * 1024;
const PIECE: usize = 64 * 1024;
/// Names of packets that carry sound (2.4.3.7).
const SOUND: std::ops::RangeInclusive<u8> = 0xc0..=0xdf;
/// The same of packets of private data, and of those with a name of their own (2.4.3.7), as discs and broadcasters have it.
const PRIVATE_SOUND: [u8; 2] = [0xbd, 0xfd];
/// Types that are sound where discs and broadcasters use them, mostly DTS, and of which demuxers make nothing.
const UNKNOWN_TYPES: [u8; 5] = [0x82, 0x85, 0x86, 0xa1, 0xa2];
/// Types that are known as sound where a disc names itself, and else taken for nothing or for another sound.
const TRUE_HD: u8 = 0x83;
const DISC_EAC3: u8 = 0x84;
/// What the first packet of TrueHD holds behind its length and time.
const TRUE_HD_SYNC: [u8; 4] = [0xf8, 0x72, 0x6f, 0xba];
/// Descriptions of private data that demuxers know sound by: DVB's of AC-3 and E-AC-3.
const TAKEN_BY_DESCRIPTION: [u8; 2] = [0x6a, 0x7a];
/// Packets with no content, as the number of a programme's that is not to be found.
const NOWHERE: [u8; 4] = [0, 0, 0xff, 0xff];
/// Where in a programme's table the number of the packets with its clock stands (2.4.4.9).
const CLOCK_AT: usize = 8;
/// Bytes of a table that may lie in one packet.
const LONGEST: usize = PACKET as usize - 5;
/// So many bytes of a table that reaches beyond what is read are enough to know it. Of one that is not known by the rest,
/// just its checksum stays as it was, and demuxers wait for the next one.
const KNOWN_BY: usize = CHECKSUM_BYTES + 1;

/// A source of which one programme is seen, and its sound by name.
pub(crate) struct Named {
    pub(crate) ranges: Arc<dyn Ranges>,
    /// What is left out by that.
    pub(crate) left_out: LeftOut,
    /// The table of its programme and the number of its packets, as demuxers see it.
    pub(crate) programme: Option<(u16, Vec<u8>)>,
}

/// Streams that no demuxer hands out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) pictures: u32,
    pub(crate) sounds: u32,
}

impl LeftOut {
    /// Counts one.
    pub(super) fn add(&mut self, kind: Kind) {
        match kind {
            Kind::Video => self.pictures += 1,
            Kind::Audio => self.sounds += 1,
        }
    }

    /// Counts the sound of a row, unless the row says itself that it is sound: who meets its packets counts it then.
    fn add_unless_listed(&mut self, row: &Row<'_>) {
        if row.media().is_none() {
            self.add(Kind::Audio);
        }
    }

    /// Counts what was counted elsewhere.
    pub(crate) fn add_all(&mut self, more: Self) {
        self.pictures += more.pictures;
        self.sounds += more.sounds;
    }
}

/// The source, which begins with `head`, as a demuxer is to see it; as it is, where nothing has to be named.
pub(crate) fn named(ranges: &Arc<dyn Ranges>, head: &[u8]) -> Result<Named, String> {
    if packets_at(head).is_none() {
        return Ok(Named { ranges: Arc::clone(ranges), left_out: LeftOut::default(), programme: None });
    }
    let (whole, mut head) = (Whole(ranges), head.to_vec());
    let most = ranges.size_bytes().min(LOOKED_THROUGH as u64) as usize;
    let (found, first::Beginning { changes, more }) = loop {
        let all = head.len() >= most;
        let found = match look(&head) {
            Look::Finished(found) => Some(found),
            Look::Unfinished(found) => Some(found).filter(|_| all),
        };
        let times = found.and_then(|found| Some((first::changes(&head, &found.times(), all)?, found)));
        if let Some((beginning, found)) = times {
            break (found, beginning);
        }
        let piece = PIECE.min(most - head.len());
        head.extend(whole.read(head.len() as u64, piece)?);
    };
    let Found { tables, left_out, programme } = found;
    let ranges = if changes.is_empty() { Arc::clone(ranges) } else { patched(ranges, changes) };
    let ranges: Arc<dyn Ranges> = match tables.is_empty() {
        true => ranges,
        false => Arc::new(Renamed { inner: ranges, tables: tables.into() }),
    };
    // Above all else: from there on everything lies elsewhere.
    let ranges = more.map_or(Arc::clone(&ranges), |(at, more)| with_more(&ranges, at, more.into()));
    Ok(Named { ranges, left_out, programme })
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
    tables: Vec<Table>,
    left_out: LeftOut,
    programme: Option<(u16, Vec<u8>)>,
}

impl Found {
    /// Numbers of the packets of its programme's clock, pictures and sound.
    fn times(&self) -> first::Programme {
        let Some((_, table)) = &self.programme else { return first::Programme::default() };
        let streams = rows(table).iter().filter(|row| row.media().is_some()).map(|row| row.pid).collect();
        first::Programme { clock: Some(pid_of(&table[CLOCK_AT..])), streams }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Look {
    Finished(Found),
    /// More would tell more.
    Unfinished(Found),
}

fn look(head: &[u8]) -> Look {
    let listed = payloads(head).find_map(|it| (it.pid == LISTING).then(|| it.section(PROGRAMMES)).flatten());
    let Some(listed) = listed else { return Look::Unfinished(Found::default()) };
    let places = programmes(listed);
    let tables = places.iter().filter_map(|(at, pid)| Some((*at, *pid, assembled(head, *pid, PROGRAMME)?)));
    let tables: Vec<_> = tables.collect();
    let shows = |(_, _, table): &&(usize, u16, Vec<u8>)| rows(table).iter().any(|row| row.media() == Some(Kind::Video));
    let Some((place, pid, table)) = tables.iter().find(shows).or(tables.first()) else {
        return Look::Unfinished(Found::default());
    };
    let mut found = Found::default();
    // Of a channel's programmes a recording often holds one: then there is nothing to choose.
    let others: Vec<_> = tables.iter().filter(|(at, _, _)| at != place).collect();
    if !others.is_empty() {
        let new = places.iter().filter(|(at, _)| at != place).fold(listed.to_vec(), |mut new, (at, _)| {
            new[*at..*at + NOWHERE.len()].copy_from_slice(&NOWHERE);
            new
        });
        found.tables.push(Table { old: listed.to_vec(), new: sealed(new) });
        others
            .iter()
            .flat_map(|(_, _, other)| rows(other))
            .filter_map(|row| row.media())
            .for_each(|kind| found.left_out.add(kind));
    }
    let named = name(head, table, &mut found.left_out);
    if let Some(new) = &named.table {
        found.tables.push(Table { old: table.clone(), new: new.clone() });
    }
    found.programme = Some((*pid, named.table.unwrap_or_else(|| table.clone())));
    if named.waits || tables.len() < places.len() { Look::Unfinished(found) } else { Look::Finished(found) }
}

/// A table whose streams were named by what they begin with.
struct Renaming {
    /// None where nothing had to be named.
    table: Option<Vec<u8>>,
    /// Something of it did not come yet.
    waits: bool,
}

fn name(head: &[u8], table: &[u8], left_out: &mut LeftOut) -> Renaming {
    let (mut new, mut waits) = (table.to_vec(), false);
    let is_disc = is_of_disc(table);
    for row in rows(table).iter().filter(|row| is_unsure(row, is_disc)) {
        match begins(head, row.pid) {
            // One of several packets does not lie in one piece, and stays as it is.
            Some(Sound::Of(_)) if table.len() > LONGEST => left_out.add_unless_listed(row),
            Some(Sound::Of(kind)) => new[row.at] = kind,
            // Without the name of a disc its demuxer takes it for another sound, and nothing plays.
            Some(Sound::Unknown) if row.kind == TRUE_HD && table.len() <= LONGEST => {
                new[row.at] = PRIVATE;
                left_out.add(Kind::Audio);
            }
            Some(Sound::Unknown) => left_out.add_unless_listed(row),
            Some(Sound::None) => {}
            None => waits = true,
        }
    }
    Renaming { table: (new != table).then(|| sealed(new)), waits }
}

/// May it be sound that the demuxer makes nothing of, or the wrong thing?
fn is_unsure(row: &Row<'_>, is_disc: bool) -> bool {
    match row.kind {
        PRIVATE => !row.is_described_by(&TAKEN_BY_DESCRIPTION),
        TRUE_HD | DISC_EAC3 => !is_disc,
        kind => UNKNOWN_TYPES.contains(&kind),
    }
}

/// What a stream begins with.
enum Sound {
    /// Sound of this type (2.4.4.10, ATSC A/52, or as `tsdemux` has it).
    Of(u8),
    Unknown,
    None,
}

fn begins(head: &[u8], pid: u16) -> Option<Sound> {
    let first = payloads(head).find(|it| it.pid == pid && it.begins)?.body;
    let [0, 0, 1, name, _, _, _, _, skip, rest @ ..] = first else { return Some(Sound::None) };
    let is_private = PRIVATE_SOUND.contains(name);
    if !SOUND.contains(name) && !is_private {
        return Some(Sound::None);
    }
    let kind = rest.get(usize::from(*skip)..).and_then(|sound| match sound {
        // ADTS has no layer, MPEG sound has one.
        [0xff, next, ..] if next & 0xf6 == 0xf0 => Some(0x0f),
        [0xff, next, ..] if next & 0xe0 == 0xe0 && next & 0x06 != 0 && next & 0x18 != 0x08 => Some(0x03),
        [0x56, next, ..] if next & 0xe0 == 0xe0 => Some(0x11),
        // Frames of version 11 and later are those of E-AC-3.
        [0x0b, 0x77, _, _, _, version, ..] => Some(if version >> 3 > 10 { 0x87 } else { 0x81 }),
        [0x7f, 0xfe, 0x80, 0x01, ..] => Some(0x8a),
        _ => None,
    });
    let is_true_hd = rest.get(usize::from(*skip) + 4..).is_some_and(|sound| sound.starts_with(&TRUE_HD_SYNC));
    Some(match kind {
        Some(kind) => Sound::Of(kind),
        // Private data is many things.
        None if is_private && !is_true_hd => Sound::None,
        None => Sound::Unknown,
    })
}

struct Renamed {
    inner: Arc<dyn Ranges>,
    tables: Arc<[Table]>,
}

impl Ranges for Renamed {
    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn request(&self, offset: u64, length: u32, done: RangeDone) {
        let tables = Arc::clone(&self.tables);
        let seen = move |data| tables.iter().fold(data, renamed);
        self.inner.request(offset, length, Box::new(move |read| done(read.map(seen))));
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
    use crate::child::formats::ts::tables::{checksum, tests as tables};

    /// As ffmpeg writes it: H.264, and AAC as private data.
    const TABLE: [u8; 38] = [
        0x02, 0xb0, 0x23, 0x00, 0x01, 0xc1, 0x00, 0x00, 0xf0, 0x11, 0xf0, 0x0c, 0x05, 0x04, 0x48, 0x44, 0x4d, 0x56,
        0x88, 0x04, 0x0f, 0xff, 0xfc, 0xfc, 0x1b, 0xf0, 0x11, 0xf0, 0x00, 0x06, 0xf1, 0x00, 0xf0, 0x00, 0xae, 0x0c,
        0x0c, 0x26,
    ];

    /// Of 192 bytes.
    fn packet(pid: u16, body: &[u8]) -> Vec<u8> {
        [vec![0; 4], tables::packet(pid, body)].concat()
    }

    /// Packets of 192 bytes whose sound begins with `sound`.
    fn stream(sound: &[u8]) -> Vec<u8> {
        let pes = [&[0, 0, 1, 0xc0, 0, 0, 0x80, 0, 0], sound].concat();
        let table = packet(0x100, &[&[0], &TABLE[..]].concat());
        let sections = [vec![0; 4], tables::of_programmes(&[(1, 0x100)]), table.clone()].concat();
        [sections, packet(0x1011, &[0, 0, 1, 0xe0]), packet(0x1100, &pes), table.clone(), table].concat()
    }

    fn kind_of(sound: &[u8]) -> (Option<u8>, u32) {
        let Look::Finished(found) = look(&stream(sound)) else { panic!("the sound is there") };
        (found.tables.first().map(|table| table.new[29]), found.left_out.sounds)
    }

    #[test]
    fn sound_is_named_by_its_first_bytes() {
        assert_eq!(kind_of(&[0xff, 0xf1, 0x50]), (Some(0x0f), 0));
        assert_eq!(kind_of(&[0xff, 0xfd, 0xc4]), (Some(0x03), 0));
        assert_eq!(kind_of(&[0x56, 0xe0, 0x50]), (Some(0x11), 0));
        assert_eq!(kind_of(&[1, 2, 3]), (None, 1), "sound that stays unknown is counted");
        let silent = &stream(&[0xff, 0xf1])[..3 * 192];
        assert!(matches!(look(silent), Look::Unfinished(found) if found.tables.is_empty()), "its sound may come yet");
        assert_eq!(look(&[0x47; 4096]), Look::Unfinished(Found::default()));
        assert_eq!(look(b"RIFF"), Look::Unfinished(Found::default()));
    }

    #[test]
    fn sound_under_a_type_that_demuxers_do_not_know_gets_one_that_they_do() {
        let seen = |kind: u8, name: u8, sound: &[u8]| {
            let listed =
                [tables::of_programmes(&[(1, 0x100)]), tables::of_programme(1, 0x100, &[(0x1b, 1), (kind, 2)])];
            let pes = [&[0, 0, 1, name, 0, 0, 0x80, 0, 0], sound].concat();
            let stream = [listed.concat(), tables::packet(2, &pes), tables::packet(0x1fff, &[]).repeat(2)].concat();
            let Look::Finished(found) = look(&stream) else { panic!("the sound is there") };
            (found.tables.first().map(|table| rows(&table.new)[1].kind), found.left_out.sounds)
        };
        let (dts, ac3, eac3) = ([0x7f, 0xfe, 0x80, 1], [0x0b, 0x77, 1, 2, 0x14, 0x40], [0x0b, 0x77, 1, 2, 0x14, 0x80]);
        for kind in [0x82, 0x85, 0x86, 0xa2, PRIVATE] {
            assert_eq!(seen(kind, 0xbd, &dts), (Some(0x8a), 0), "{kind:#x}");
        }
        assert_eq!((seen(PRIVATE, 0xbd, &ac3), seen(DISC_EAC3, 0xfd, &eac3)), ((Some(0x81), 0), (Some(0x87), 0)));
        assert_eq!(seen(TRUE_HD, 0xbd, &[0xa0, 0x23, 0, 0, 0xf8, 0x72, 0x6f, 0xba]), (Some(PRIVATE), 1));
        // Subtitles, marks, and what is known: left as it is.
        for (kind, name, bytes) in [(PRIVATE, 0xbd, &[0x10, 2][..]), (0x82, 0xbd, &[1, 2, 3]), (0x81, 0xbd, &dts)] {
            assert_eq!(seen(kind, name, bytes), (None, 0), "{kind:#x}");
        }
    }

    #[test]
    fn every_table_is_seen_with_its_sound_however_it_is_read() {
        let stream = stream(&[0xff, 0xf1, 0x50]);
        let Look::Finished(found) = look(&stream) else { panic!("the sound is there") };
        let table = &found.tables[0];
        assert_eq!(checksum(&table.new), 0);
        let whole = renamed(stream.clone().into(), table);
        assert_eq!(whole.windows(table.new.len()).filter(|part| *part == table.new).count(), 3);
        assert!(!whole.windows(table.old.len()).any(|part| part == table.old));
        let starts = |part: &[u8]| part[..20] == table.new[..20];
        let places: Vec<usize> = (0..whole.len() - 40).filter(|at| starts(&whole[*at..])).collect();
        for length in 40..400 {
            let pieces = stream.chunks(length).map(|piece| renamed(Bytes::copy_from_slice(piece), table));
            let mut read: Vec<u8> = pieces.flatten().collect();
            // Of one that is cut just before its end a part of the checksum may stay, and it counts for nothing.
            for sum in places.iter().map(|at| at + table.new.len() - CHECKSUM_BYTES) {
                read[sum..sum + CHECKSUM_BYTES].copy_from_slice(&whole[sum..sum + CHECKSUM_BYTES]);
            }
            assert_eq!(read, whole, "in pieces of {length}");
        }
    }

    #[test]
    fn the_first_programme_with_a_picture_is_taken_and_what_the_others_hold_is_counted() {
        let listed = tables::of_programmes(&[(1, 0x100), (2, 0x110), (3, 0x120), (4, 0x130)]);
        let radio = tables::of_programme(1, 0x100, &[(0x03, 0x101), (0x0f, 0x102)]);
        let shown = tables::of_programme(2, 0x110, &[(0x1b, 0x111), (0x0f, 0x112), (0x0b, 0x113)]);
        let other = tables::of_programme(3, 0x120, &[(0x02, 0x121), (0x03, 0x122)]);
        let stream = [listed, radio, shown, other, tables::packet(0x1fff, &[])].concat();
        // Of the fourth no table ever comes.
        let Look::Unfinished(found) = look(&stream) else { panic!("one table has not come yet") };
        assert_eq!(found.left_out, LeftOut { pictures: 1, sounds: 3 });
        assert_eq!(found.programme.map(|(pid, _)| pid), Some(0x110));
        let [Table { old, new }] = &found.tables[..] else { panic!("one table is another") };
        assert_eq!((programmes(old).len(), programmes(new), checksum(new)), (4, vec![(12, 0x110)], 0));
    }

    #[test]
    fn where_one_programme_alone_is_there_nothing_is_changed() {
        let listed = tables::of_programmes(&[(1, 0x100), (2, 0x110), (0, 0x10)]);
        let shown = tables::of_programme(2, 0x110, &[(0x1b, 0x111), (0x0f, 0x112)]);
        let stream = [listed, shown, tables::packet(0x1fff, &[]).repeat(3)].concat();
        let Look::Unfinished(found) = look(&stream) else { panic!("one table has not come yet") };
        assert_eq!((found.tables, found.left_out), (vec![], LeftOut::default()));
    }
}
