//! Indexes that are refused, or not looked at, whatever is in them.

use super::*;
use crate::child::memory::Memory;

fn part(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes()[..], name, body].concat()
}

/// A track of subtitles: counted, and nothing of it is read.
fn track() -> Vec<u8> {
    part(b"trak", &part(b"mdia", &part(b"hdlr", b"\0\0\0\0\0\0\0\0subt")))
}

#[test]
fn an_index_of_more_tracks_than_any_video_has_is_refused_unread() {
    let found = |tracks: usize| read(&Memory(part(b"moov", &track().repeat(tracks))), 1).unwrap();
    assert!(matches!(found(MAX_TRACKS), Found::Index(index) if index.subtitles == 1_000));
    let corrupt = Found::Corrupt("index (it lists more than 1,000 tracks)");
    assert_eq!([found(MAX_TRACKS + 1), found(MAX_BOXES * 2)], [corrupt.clone(), corrupt]);
}

#[test]
fn of_two_indexes_the_first_counts_as_it_does_for_demuxers() {
    let file = |second: &[u8]| Memory([&part(b"moov", &track())[..], second].concat());
    let of_one = |second: &[u8]| {
        let found = read(&file(second), 1).unwrap();
        assert!(matches!(&found, Found::Index(index) if index.subtitles == 1), "{found:?}");
    };
    of_one(&part(b"moov", &track().repeat(3)));
    of_one(&part(b"moov", &track())[..20]);
}

#[test]
fn a_table_that_every_track_has_is_missed_by_its_name() {
    const TABLES: [&[u8; 4]; 5] = [b"stsd", b"stts", b"stsc", b"stsz", b"stco"];
    let found = |without: Option<&[u8; 4]>| {
        let empty = |name: &&[u8; 4]| match *name {
            b"stsd" => part(name, &[&[0; 12][..], b"avc1"].concat()),
            b"stsz" => part(name, &[0; 12]),
            _ => part(name, &[0; 8]),
        };
        let tables: Vec<u8> = TABLES.iter().filter(|name| Some(**name) != without).flat_map(empty).collect();
        let mdhd = part(b"mdhd", &[&[0; 12][..], &[0, 0, 0x03, 0xe8], &[0; 8]].concat());
        let handler = part(b"hdlr", b"\0\0\0\0\0\0\0\0vide");
        let mdia = part(b"mdia", &[mdhd, handler, part(b"minf", &part(b"stbl", &tables))].concat());
        let track = part(b"trak", &[part(b"tkhd", &[0; 84]), mdia].concat());
        read(&Memory(part(b"moov", &track)), 1).unwrap()
    };
    assert!(matches!(found(None), Found::Index(index) if index.tracks.len() == 1));
    for (name, what) in [
        (b"stts", "time table"),
        (b"stsc", "sample-to-chunk table"),
        (b"stsz", "size table"),
        (b"stco", "chunk table"),
        (b"stsd", "sample table"),
    ] {
        assert_eq!(found(Some(name)), Found::Corrupt(what));
    }
}

/// A full box: version and flags, a number of rows, rows.
fn table(name: &[u8; 4], rows: &[&[u32]]) -> Vec<u8> {
    let numbers = [0, rows.len() as u32].into_iter().chain(rows.iter().flat_map(|row| row.iter().copied()));
    part(name, &numbers.flat_map(u32::to_be_bytes).collect::<Vec<_>>())
}

/// The index of a film of four pictures behind an empty edit of half a second, and one that begins within the first.
fn film(times: &[&[u32]]) -> Vec<u8> {
    let sizes = [0, 25, 4].into_iter().flat_map(u32::to_be_bytes).collect::<Vec<_>>();
    let tables = [
        part(b"stsd", &[&[0; 12][..], b"avc1", &[0; 80]].concat()),
        table(b"stts", times),
        table(b"ctts", &[&[1, 40], &[3, 0]]),
        table(b"stss", &[&[1], &[3]]),
        table(b"stsc", &[&[1, 2, 1]]),
        part(b"stsz", &sizes),
        table(b"stco", &[&[0], &[50]]),
    ];
    let header = |name| part(name, &[&[0; 12][..], &[0, 0, 0x03, 0xe8], &[0; 84]].concat());
    let handler = part(b"hdlr", b"\0\0\0\0\0\0\0\0vide");
    let mdia = part(b"mdia", &[header(b"mdhd"), handler, part(b"minf", &part(b"stbl", &tables.concat()))].concat());
    let edits = part(b"edts", &table(b"elst", &[&[500, u32::MAX, 0x1_0000], &[140, 20, 0x1_0000]]));
    let track = part(b"trak", &[part(b"tkhd", &[0; 84]), edits, mdia].concat());
    part(b"moov", &[header(b"mvhd"), track].concat())
}

#[test]
fn an_index_that_is_cut_or_flipped_anywhere_is_read_or_refused() {
    let good = film(&[&[4, 40]]);
    let look = |file: &[u8]| {
        let Ok(found) = read(&Memory(file.to_vec()), 1_000) else { panic!("memory can be read") };
        let Found::Index(index) = &found else { return None };
        for samples in index.tracks.iter().filter_map(|track| track.samples.as_ref()) {
            let _summary = samples.summary();
            assert!(samples.keyframe_gaps_ms(0, 4_000_000_000).len() <= 1 << 20);
        }
        index.tracks.first()?.samples.as_ref()?.summary().map(|summary| (summary.count, summary.first_ns))
    };
    assert_eq!(look(&good), Some((4, 520_000_000)));
    for at in 0..good.len() {
        look(&good[..at]);
        for with in [0x01, 0x7f, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= with;
            look(&bad);
        }
    }
}

#[test]
fn times_that_nobody_could_reckon_with_are_refused() {
    let found = |rows: &[&[u32]]| read(&Memory(film(rows)), 1_000).unwrap();
    assert!(matches!(found(&[&[4, u32::MAX]]), Found::Index(_)));
    assert_eq!(found(&[&[u32::MAX, u32::MAX]]), Found::Corrupt("time table"));
    assert_eq!(found(&[&[u32::MAX, u32::MAX], &[u32::MAX, u32::MAX]]), Found::Corrupt("time table"));
}
