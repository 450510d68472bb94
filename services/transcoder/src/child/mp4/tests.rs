//! Indexes that are refused, or not looked at, whatever is in them.

use super::*;

struct File(Vec<u8>);

impl Bytes for File {
    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, String> {
        Ok(self.0[offset as usize..][..length].to_vec())
    }
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }
}

fn part(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes()[..], name, body].concat()
}

/// A track of subtitles: counted, and nothing of it is read.
fn track() -> Vec<u8> {
    part(b"trak", &part(b"mdia", &part(b"hdlr", b"\0\0\0\0\0\0\0\0subt")))
}

#[test]
fn an_index_of_more_tracks_than_any_video_has_is_refused_unread() {
    let found = |tracks: usize| read(&File(part(b"moov", &track().repeat(tracks))), 1).unwrap();
    assert!(matches!(found(MAX_TRACKS), Found::Index(index) if index.subtitles == 1_000));
    let corrupt = Found::Corrupt("index (it lists more than 1,000 tracks)");
    assert_eq!([found(MAX_TRACKS + 1), found(MAX_BOXES * 2)], [corrupt.clone(), corrupt]);
}

#[test]
fn of_two_indexes_the_first_counts_as_it_does_for_demuxers() {
    let file = |second: &[u8]| File([&part(b"moov", &track())[..], second].concat());
    let of_one = |second: &[u8]| {
        let found = read(&file(second), 1).unwrap();
        assert!(matches!(&found, Found::Index(index) if index.subtitles == 1), "{found:?}");
    };
    of_one(&part(b"moov", &track().repeat(3)));
    of_one(&part(b"moov", &track())[..20]);
}
