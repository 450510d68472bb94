//! The tables of an MP4 or MOV: what its index promises, read without a demuxer. Pure but for [`Bytes`].
//!
//! Two uses. Broken files get a name that fits (no index, no media, contradictions), where a demuxer only says "no
//! playable streams". And times and numbers of samples come from a few kilobytes of tables instead of reading hours of
//! video. Whatever is unusual (fragments, several edits, speeds) is left to demuxing: [`Track::samples`] says none.

use self::tables::Tables;
use super::pose::Pose;
use super::quicktime::{self, Unusual};
use crate::child::samples::Samples;

mod tables;

/// Bytes at a place of the file.
pub trait Bytes {
    /// Exactly `length` bytes at `offset`.
    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, String>;
    /// Bytes of the whole.
    fn size_bytes(&self) -> u64;
}

/// Largest index that is read: tables of 8 million samples take some 130 MB.
const MAX_INDEX_BYTES: u64 = 160 << 20;
/// Most tracks: nobody makes a video of more, and demuxers search all of them for each.
const MAX_TRACKS: usize = 1_000;
/// Most boxes of one level.
const MAX_BOXES: usize = 100_000;

/// What the boxes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// No index in it.
    NoIndex {
        /// Is there media data?
        media: bool,
    },
    /// The index cannot be read; which part.
    Corrupt(&'static str),
    /// The index is one of QuickTime's own.
    Unusual(Unusual),
    /// An index.
    Index(Index),
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Index {
    /// Tracks of picture and sound, in order.
    pub tracks: Vec<Track>,
    /// Media comes in fragments, each with an index of its own.
    pub fragmented: bool,
    /// Is there any fragment?
    pub fragments: bool,
    /// Number of timed-text and subtitle tracks.
    pub subtitles: u32,
}

/// A track.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Track {
    /// Track number.
    pub id: u32,
    /// Picture; else sound.
    pub video: bool,
    /// How its picture stands.
    pub pose: Pose,
    /// Type of the sample description: `avc1`, `mp4a`, `encv`, …
    pub format: [u8; 4],
    /// Number of samples that the tables promise.
    pub promised: u64,
    /// Number of those whose bytes lie within the file.
    pub present: u64,
    /// Length that the tables promise, in milliseconds.
    pub promised_ms: u64,
    /// Times of the samples as a demuxer states them after edits; none where that takes more than tables.
    pub samples: Option<Samples>,
}

pub(in crate::child) struct Box<'a> {
    pub(in crate::child) name: [u8; 4],
    pub(in crate::child) body: &'a [u8],
}

/// A box of the file itself.
pub(in crate::child) struct Top {
    pub(in crate::child) name: [u8; 4],
    /// Where it begins, how long its head is, and all of it.
    pub(in crate::child) at: u64,
    pub(in crate::child) head_bytes: u64,
    pub(in crate::child) length: u64,
    /// Does it state no length of its own, but goes on to the end of the file?
    pub(in crate::child) to_the_end: bool,
    /// Does the file hold all of it?
    pub(in crate::child) complete: bool,
}

impl Top {
    /// What is in the index that it is; none of one that is too large.
    pub(in crate::child) fn index(&self, bytes: &dyn Bytes) -> Result<Option<Vec<u8>>, String> {
        let body = self.length - self.head_bytes;
        (self.length <= MAX_INDEX_BYTES).then(|| bytes.read(self.at + self.head_bytes, body as usize)).transpose()
    }
}

/// The boxes of the file itself, one read for each. What can be no box ends them, and so does one that is cut off.
pub(in crate::child) fn tops(bytes: &dyn Bytes) -> impl Iterator<Item = Result<Top, String>> + '_ {
    let (mut at, size) = (0_u64, bytes.size_bytes());
    let next = move || {
        let rest = size - at;
        let head = (rest >= 8).then(|| bytes.read(at, 16.min(rest) as usize)).transpose();
        let head = match head {
            Ok(head) => head?,
            Err(why) => return Some(Err(why)),
        };
        let (name, head_bytes, length) = box_head(&head, rest)?;
        let (complete, to_the_end) = (length <= rest, be32(&head, 0) == Some(0));
        let top = Top { name, at, head_bytes, length, to_the_end, complete };
        at += length.min(rest);
        Some(Ok(top))
    };
    std::iter::from_fn(next).take(MAX_BOXES)
}

/// Reads the boxes of a file.
pub fn read(bytes: &dyn Bytes, max_samples: u64) -> Result<Found, String> {
    let (mut index, mut media, mut fragments, size) = (None, false, false, bytes.size_bytes());
    for top in tops(bytes) {
        let top = top?;
        match &top.name {
            // Of several the first is the one that demuxers go by.
            b"moov" if index.is_some() => {}
            b"moov" if !top.complete => return Ok(Found::NoIndex { media }),
            b"moov" => match top.index(bytes)? {
                Some(body) => index = Some(body),
                None => return Ok(Found::Corrupt("index")),
            },
            b"mdat" => media = true,
            b"moof" => fragments = true,
            _ => {}
        }
        // Of thousands of fragments each would be a read of its own.
        if fragments && index.is_some() {
            break;
        }
    }
    let Some(index) = index else { return Ok(Found::NoIndex { media }) };
    if let Some(unusual) = quicktime::unusual(&index, media) {
        return Ok(Found::Unusual(unusual));
    }
    Ok(match parse_index(&index, size, max_samples) {
        Ok(index) => Found::Index(Index { fragments, ..index }),
        Err(part) => Found::Corrupt(part),
    })
}

/// Name, bytes of the head, bytes of the whole. None when it cannot be a box.
pub(in crate::child) fn box_head(head: &[u8], rest: u64) -> Option<([u8; 4], u64, u64)> {
    let name: [u8; 4] = head.get(4..8)?.try_into().ok()?;
    let (head_bytes, length) = match be32(head, 0)? {
        0 => (8, rest),
        1 => (16, be64(head, 8)?),
        length => (8, u64::from(length)),
    };
    (length >= head_bytes).then_some((name, head_bytes, length))
}

pub(in crate::child) fn be32(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

pub(in crate::child) fn be64(data: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(data.get(at..at + 8)?.try_into().ok()?))
}

/// The boxes inside `data`; what does not fit ends the list.
pub(in crate::child) fn children(mut data: &[u8]) -> Vec<Box<'_>> {
    let mut found = Vec::new();
    while found.len() < MAX_BOXES {
        let Some((name, head_bytes, length)) = box_head(data, data.len() as u64) else { break };
        let Some(body) = data.get(head_bytes as usize..length as usize) else { break };
        found.push(Box { name, body });
        data = &data[length as usize..];
    }
    found
}

pub(in crate::child) fn child<'a>(data: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    children(data).into_iter().find(|b| b.name == *name).map(|b| b.body)
}

fn parse_index(moov: &[u8], size: u64, max_samples: u64) -> Result<Index, &'static str> {
    let mut index = Index { fragmented: child(moov, b"mvex").is_some(), ..Index::default() };
    let movie = child(moov, b"mvhd").unwrap_or_default();
    let parts = children(moov);
    if parts.len() == MAX_BOXES || parts.iter().filter(|part| part.name == *b"trak").count() > MAX_TRACKS {
        return Err("index (it lists more than 1,000 tracks)");
    }
    for part in parts.into_iter().filter(|b| b.name == *b"trak") {
        let mdia = child(part.body, b"mdia").ok_or("track")?;
        let handler = child(mdia, b"hdlr").and_then(|hdlr| hdlr.get(8..12)).ok_or("track")?;
        match handler {
            b"vide" | b"soun" => {
                let track = Tables::of(part.body, mdia, movie)?.track(handler == b"vide", size, max_samples)?;
                index.tracks.push(track);
            }
            b"subt" | b"text" | b"sbtl" | b"clcp" => index.subtitles += 1,
            _ => {}
        }
    }
    Ok(index)
}

/// Time scale of an `mvhd` or `mdhd`.
pub(in crate::child) fn header_scale(header: &[u8]) -> Option<u64> {
    let at = if *header.first()? == 1 { 20 } else { 12 };
    be32(header, at).map(u64::from)
}

#[cfg(test)]
mod tests;
