//! What `qtdemux` makes of an index that is right, mended by letting it see another one.
//!
//! The length of the movie: it takes that for an end in the media's own time, before edits, and stops there, at the next
//! keyframe. Of a film that was trimmed without coding it anew (its edit begins inside a group of pictures, whose
//! beginning is kept) it loses as much at the end as the edit leaves out at the start. And it leaves out a track that
//! lasts less than a fifth of the movie ("assuming preview image"), and with it all the sound of a film that speaks for a
//! few minutes only. Tracks and edits say all that the length says, so the movie states none.
//!
//! The end of an edit:
//! `qtdemux` leaves an edit at the first picture that is decoded at its end, and where offsets may show a picture before
//! it is decoded (so phones write) it compares the shifted time of decoding with the end that is not: pictures that are
//! decoded last and shown before the end are lost. So it is given an edit that ends later, and what is shown from the
//! true end on is left out by [`crate::child::encode::video`]. Where no edit says an end, the length of the track's media
//! does: [`length`].
//!
//! The name of a codec: it knows DNxHD, and of DNxHR, which the same decoder reads, it knows no name. Two kinds of uncompressed
//! pictures it takes for others whose samples lie otherwise, and colours came out wrong: under names that nobody knows they
//! are refused by name.

use std::sync::Arc;

use spool_proto::media::Container;

use super::patched::{self, Change};
use super::regroup;
use crate::child::formats::mp4::{self, be32, be64, child, children};
use crate::child::source::Ranges;
use crate::child::whole::{Whole, unreadable};
use crate::order::Failure;

mod length;

/// How much later an edit ends, in seconds: more than pictures are reordered by.
const LONGER_S: u64 = 2;
/// Bytes before the rows of an edit list: version, flags and their number.
const ROWS_AT: usize = 8;
/// Where in a list of descriptions (8.5.2) the first one's name lies.
const NAME_AT: usize = 12;
/// Names of codecs that `qtdemux` does not know or knows wrongly, and those under which it does, or does not.
const KNOWN_AS: [(&[u8], &[u8]); 3] = [(b"AVdh", b"AVdn"), (b"v308", b"VUY8"), (b"yuv2", b"YSU8")];
/// An edit that plays at its own speed.
const OWN_SPEED: u32 = 0x1_0000;

/// Where edits shall end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Where the index says.
    AsStated,
    /// Later, for who leaves out what is shown after the true end.
    Later,
}

/// The source as its demuxer is to see it.
pub struct Seen {
    /// Its bytes.
    pub ranges: Arc<dyn Ranges>,
    /// Does an edit end later than it should?
    pub ends_later: bool,
}

/// Reads the index once and changes in it what has to be; another container is seen as it is.
pub fn seen(ranges: &Arc<dyn Ranges>, container: Container, ends: Ends) -> Result<Seen, Failure> {
    let as_it_is = || Seen { ranges: Arc::clone(ranges), ends_later: false };
    let found = match container {
        Container::Mp4 => index(&Whole(ranges)).map_err(unreadable)?,
        Container::Matroska
        | Container::MpegTs
        | Container::MpegPs
        | Container::Avi
        | Container::Flv
        | Container::Ogg
        | Container::Asf
        | Container::Mxf
        | Container::Audio => None,
    };
    let Some(Index { name_at, at, index }) = found else { return Ok(as_it_is()) };
    if child(&index, b"mvex").is_some() {
        // Fragmented: its lengths and edits say less, and are not looked at.
        return Ok(as_it_is());
    }
    let later = match ends {
        Ends::AsStated => Vec::new(),
        Ends::Later => later_ends(&index),
    };
    let ends_later = !later.is_empty();
    let as_one = later.into_iter().chain(without_length(&index));
    let changes: Vec<_> = as_one.chain(length::in_full(&index)).chain(known_names(&index)).collect();
    let index = changes.iter().fold(index, |index, (place, new)| with(index, *place, new));
    let (changes, tail) = match regroup::regrouped(&index) {
        // The old index is no index any more: its name stands before it.
        Some(new) if let Some(end) = end_said(&Whole(ranges)).map_err(unreadable)? => {
            (end.into_iter().chain([(name_at, b"free".to_vec())]).collect::<Vec<_>>(), new)
        }
        Some(_) | None => (changes.into_iter().map(|(place, bytes)| (at + place as u64, bytes)).collect(), Vec::new()),
    };
    if changes.is_empty() {
        return Ok(as_it_is());
    }
    Ok(Seen { ranges: patched::longer(ranges, changes, tail.into()), ends_later })
}

/// The bytes with others from a place on.
fn with(mut bytes: Vec<u8>, place: usize, new: &[u8]) -> Vec<u8> {
    if let Some(old) = bytes.get_mut(place..place + new.len()) {
        old.copy_from_slice(new);
    }
    bytes
}

/// Place of the movie's length (ISO/IEC 14496-12, 8.2.2) and zeros of its width.
fn without_length(index: &[u8]) -> Option<(usize, Vec<u8>)> {
    let header = child(index, b"mvhd")?;
    let (at, bytes) = if *header.first()? == 1 { (24, 8) } else { (16, 4) };
    let stated = header.get(at..at + bytes)?.iter().any(|byte| *byte != 0);
    let start = (header.as_ptr() as usize).checked_sub(index.as_ptr() as usize)?;
    stated.then(|| (start + at, vec![0; bytes]))
}

/// The index and where it lies.
struct Index {
    /// Place of its name, and of its body.
    name_at: u64,
    at: u64,
    index: Vec<u8>,
}

fn index(source: &dyn mp4::Bytes) -> Result<Option<Index>, String> {
    for top in mp4::tops(source) {
        let top = top?;
        if &top.name == b"moov" {
            let read = if top.complete { top.index(source)? } else { None };
            return Ok(read.map(|index| Index { name_at: top.at + 4, at: top.at + top.head_bytes, index }));
        }
    }
    Ok(None)
}

/// What has to change so that a box behind the file's end is found: the last box has to say where it ends. None where that
/// can't be said.
fn end_said(source: &dyn mp4::Bytes) -> Result<Option<Vec<Change<Vec<u8>>>>, String> {
    let mut ends = 0;
    for top in mp4::tops(source) {
        let top = top?;
        // It goes on to the end of the file, whatever that is.
        if top.to_the_end {
            let length = u32::try_from(top.length).ok();
            return Ok(length.map(|length| vec![(top.at, length.to_be_bytes().to_vec())]));
        }
        ends = top.at + if top.complete { top.length } else { 0 };
    }
    Ok((ends == source.size_bytes()).then(Vec::new))
}

/// Places of the names of codecs that are known under others.
fn known_names(index: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let tracks = children(index).into_iter().filter(|part| part.name == *b"trak");
    let named = |trak: mp4::Box<'_>| {
        let tables = child(child(child(trak.body, b"mdia")?, b"minf")?, b"stbl")?;
        let name = child(tables, b"stsd")?.get(NAME_AT..NAME_AT + 4)?;
        let known = KNOWN_AS.iter().find(|(unknown, _)| *unknown == name)?.1;
        let place = (name.as_ptr() as usize).checked_sub(index.as_ptr() as usize)?;
        Some((place, known.to_vec()))
    };
    tracks.filter_map(named).collect()
}

/// Places in the index and what is to stand there: the lengths of edits.
fn later_ends(index: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let scale = child(index, b"mvhd").and_then(mp4::header_scale).unwrap_or(0);
    let tracks = children(index).into_iter().filter(|part| part.name == *b"trak");
    let lists = tracks.filter_map(|trak| child(child(trak.body, b"edts")?, b"elst"));
    let place = |list: &[u8]| (list.as_ptr() as usize).checked_sub(index.as_ptr() as usize);
    lists.filter_map(|list| later_end(list, scale).zip(place(list))).map(|((at, new), list)| (list + at, new)).collect()
}

/// Place in an edit list of the length of its only edit that shows anything, and a longer one.
fn later_end(list: &[u8], scale: u64) -> Option<(usize, Vec<u8>)> {
    let wide = list.first() == Some(&1);
    let row_bytes = if wide { 20 } else { 12 };
    let count = be32(list, 4)? as usize;
    let rows = list.get(ROWS_AT..)?.chunks_exact(row_bytes).take(count);
    let shows = |row: &[u8]| match wide {
        true => be64(row, 8).is_some_and(|media| media.cast_signed() >= 0) && be32(row, 16) == Some(OWN_SPEED),
        false => be32(row, 4).is_some_and(|media| media.cast_signed() >= 0) && be32(row, 8) == Some(OWN_SPEED),
    };
    let mut showing = rows.enumerate().filter(|(_, row)| shows(row));
    let (number, row) = showing.next().filter(|(number, _)| number + 1 == count)?;
    let later = LONGER_S * scale;
    let new = match wide {
        true => be64(row, 0).filter(|length| *length > 0)?.checked_add(later)?.to_be_bytes().to_vec(),
        false => {
            be32(row, 0).filter(|length| *length > 0)?.checked_add(u32::try_from(later).ok()?)?.to_be_bytes().to_vec()
        }
    };
    showing.next().is_none().then_some((ROWS_AT + number * row_bytes, new))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(rows: &[(u32, i32)]) -> Vec<u8> {
        let mut list = vec![0; 4];
        list.extend((rows.len() as u32).to_be_bytes());
        for (length, media) in rows {
            [length.to_be_bytes(), media.to_be_bytes(), OWN_SPEED.to_be_bytes()].iter().for_each(|b| list.extend(b));
        }
        list
    }

    #[test]
    fn the_only_edit_that_shows_anything_ends_later() {
        let longer = |rows: &[(u32, i32)]| later_end(&list(rows), 600);
        assert_eq!(longer(&[(100, 5)]), Some((8, 1300_u32.to_be_bytes().to_vec())));
        assert_eq!(longer(&[(40, -1), (100, 5)]), Some((20, 1300_u32.to_be_bytes().to_vec())));
        assert_eq!(longer(&[(100, 5), (100, 300)]), None);
        assert_eq!(longer(&[(0, 5)]), None);
        assert_eq!(longer(&[(u32::MAX, 5)]), None);
        assert_eq!(later_end(&list(&[(100, 5)])[..17], 600), None);
    }

    #[test]
    fn a_movie_states_no_length() {
        let movie = |version: u8, body: &[u8]| {
            let head = (body.len() as u32 + 12).to_be_bytes();
            [&head[..], b"mvhd", &[version, 0, 0, 0], body].concat()
        };
        let dates_and_scale = [0; 20];
        let narrow = movie(0, &[&dates_and_scale[..12], &12_000_u32.to_be_bytes()].concat());
        assert_eq!(without_length(&narrow), Some((8 + 16, vec![0; 4])));
        let wide = movie(1, &[&dates_and_scale[..], &12_000_u64.to_be_bytes()].concat());
        assert_eq!(without_length(&wide), Some((8 + 24, vec![0; 8])));
        assert_eq!(without_length(&movie(0, &[0; 16])), None);
        assert_eq!(without_length(&movie(1, &[0; 20])), None);
    }
}
