//! Indexes that are refused, or not looked at, whatever is in them.

use super::super::memory::Memory;
use super::*;

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
