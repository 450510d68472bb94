//! What only QuickTime has in its index: all of it compressed, or media that lie in other files.

use super::mp4::{be32, child, children};

/// An index that is another than it seems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusual {
    /// Compressed as a whole (`cmov`): demuxers read it.
    Compressed,
    /// It names other files and holds nothing.
    Elsewhere,
}

/// Bytes before the rows of a table of places (8.7.2), of a row's head, and of one that names no other file.
const ROWS_AT: usize = 8;
const ROW_HEAD: usize = 12;
/// The file itself.
const HERE: u32 = 1;

/// Is it such an index? `media`: the file holds any.
pub(super) fn unusual(index: &[u8], media: bool) -> Option<Unusual> {
    if child(index, b"cmov").is_some() {
        return Some(Unusual::Compressed);
    }
    let mut tracks = children(index).into_iter().filter(|part| part.name == *b"trak");
    let elsewhere = child(index, b"rmra").is_some() || tracks.any(|track| lies_elsewhere(track.body) == Some(true));
    (elsewhere && !media).then_some(Unusual::Elsewhere)
}

/// Does a track name another file for its media?
fn lies_elsewhere(track: &[u8]) -> Option<bool> {
    let places = child(child(child(child(track, b"mdia")?, b"minf")?, b"dinf")?, b"dref")?;
    let rows = children(places.get(ROWS_AT..)?);
    // A row's own version and flags come first; without a name behind them it can only mean this file.
    Some(
        rows.iter()
            .any(|row| be32(row.body, 0).is_some_and(|flags| flags & HERE == 0) && row.body.len() > ROW_HEAD - 8),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes()[..], name, body].concat()
    }

    fn track(place: &[u8]) -> Vec<u8> {
        let places = boxed(b"dref", &[&[0, 0, 0, 0, 0, 0, 0, 1], place].concat());
        boxed(b"trak", &boxed(b"mdia", &boxed(b"minf", &boxed(b"dinf", &places))))
    }

    #[test]
    fn media_that_lie_elsewhere_are_named_so_where_none_is_here() {
        let named = track(&boxed(b"url ", b"\0\0\0\0file:///movie.mov\0"));
        assert_eq!(unusual(&named, false), Some(Unusual::Elsewhere));
        assert_eq!(unusual(&named, true), None);
        assert_eq!(unusual(&track(&boxed(b"url ", &[0, 0, 0, 1])), false), None);
        assert_eq!(unusual(&track(&boxed(b"url ", &[0, 0, 0, 0])), false), None);
        assert_eq!(unusual(&boxed(b"rmra", &[]), false), Some(Unusual::Elsewhere));
        assert_eq!(unusual(&[], false), None);
    }

    #[test]
    fn a_compressed_index_is_left_to_demuxers() {
        assert_eq!(unusual(&boxed(b"cmov", &boxed(b"dcom", b"zlib")), true), Some(Unusual::Compressed));
    }
}
