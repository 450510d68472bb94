//! The tables of an MP4 or MOV: what its index promises, read without a demuxer. Pure but for [`Bytes`].
//!
//! Two uses. Broken files get a name that fits (no index, no media, contradictions), where a demuxer only says "no
//! playable streams". And times and numbers of samples come from a few kilobytes of tables instead of reading hours of
//! video. Whatever is unusual (fragments, several edits, speeds) is left to demuxing: [`Track::samples`] says none.

use super::pose::{self, Pose};
use super::quicktime::{self, Unusual};
use crate::child::quirks::leading::Leading;
use crate::child::samples::Samples;

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
/// Largest times that are reckoned with, in ticks: sums and differences of a few of them keep their room.
const MAX_TICKS: u64 = 1 << 60;

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

/// The tables of a track, found and measured, not yet walked.
struct Tables<'a> {
    id: u32,
    pose: Pose,
    format: [u8; 4],
    scale: u64,
    movie_scale: u64,
    edits: Option<&'a [u8]>,
    times: &'a [u8],
    offsets: Option<&'a [u8]>,
    keyframes: Option<&'a [u8]>,
    sizes: &'a [u8],
    to_chunk: &'a [u8],
    chunks: &'a [u8],
    chunk_bytes: usize,
}

/// Rows of a table: `skip` bytes, a number of rows, rows of `row` bytes. Fewer bytes than promised is a contradiction.
fn rows<'a>(body: &'a [u8], skip: usize, row: usize, what: &'static str) -> Result<&'a [u8], &'static str> {
    let count = be32(body, skip).ok_or(what)? as usize;
    let length = count.checked_mul(row).ok_or(what)?;
    body.get(skip + 4..).and_then(|rest| rest.get(..length)).ok_or(what)
}

impl<'a> Tables<'a> {
    fn of(trak: &'a [u8], mdia: &'a [u8], movie: &[u8]) -> Result<Self, &'static str> {
        let tkhd = child(trak, b"tkhd").ok_or("track")?;
        let id = be32(tkhd, if tkhd.first() == Some(&1) { 20 } else { 12 }).ok_or("track")?;
        let scale = child(mdia, b"mdhd").and_then(header_scale).filter(|scale| *scale > 0).ok_or("track")?;
        let stbl = child(mdia, b"minf").and_then(|minf| child(minf, b"stbl")).ok_or("sample table")?;
        let stsd = child(stbl, b"stsd").ok_or("sample table")?;
        let format = stsd.get(12..16).and_then(|f| f.try_into().ok()).ok_or("sample description")?;
        let (chunks, chunk_bytes) = match (child(stbl, b"stco"), child(stbl, b"co64")) {
            (Some(stco), _) => (rows(stco, 4, 4, "chunk table")?, 4),
            (None, Some(co64)) => (rows(co64, 4, 8, "chunk table")?, 8),
            (None, None) => return Err("chunk table"),
        };
        let optional = |name, row, what| child(stbl, name).map(|body| rows(body, 4, row, what)).transpose();
        // These every track has, if only with nothing in them (ISO/IEC 14496-12, 8.6 and 8.7). Of a track without one a
        // demuxer complains and goes on, and what came of the file was a matter of chance.
        let table = |name, row, what| optional(name, row, what)?.ok_or(what);
        Ok(Self {
            id,
            pose: pose::of_track(movie, tkhd, stsd),
            format,
            scale,
            movie_scale: header_scale(movie).unwrap_or(0),
            edits: child(trak, b"edts").and_then(|edts| child(edts, b"elst")),
            times: table(b"stts", 8, "time table")?,
            offsets: child(stbl, b"ctts"),
            keyframes: optional(b"stss", 4, "keyframe table")?,
            sizes: child(stbl, b"stsz").or_else(|| child(stbl, b"stz2")).ok_or("size table")?,
            to_chunk: table(b"stsc", 12, "sample-to-chunk table")?,
            chunks,
            chunk_bytes,
        })
    }

    fn track(&self, video: bool, size: u64, max_samples: u64) -> Result<Track, &'static str> {
        let promised = u64::from(be32(self.sizes, 8).unwrap_or(0));
        let timed: u64 = pairs(self.times).map(|(count, _)| u64::from(count)).sum();
        let mut track =
            Track { id: self.id, video, pose: self.pose, format: self.format, promised, ..Track::default() };
        let raw_sound = !video && be32(self.sizes, 4).unwrap_or(0) > 0 && pairs(self.times).count() == 1;
        if promised > max_samples && !raw_sound {
            return Err("sample table");
        }
        let lengths = pairs(self.times).map(|(count, delta)| u64::from(count) * u64::from(delta));
        let ticks = lengths.fold(0, u64::saturating_add);
        if ticks > MAX_TICKS {
            return Err("time table");
        }
        track.promised_ms = ticks.saturating_mul(1000) / self.scale;
        track.present = self.present(promised, size)?;
        track.samples = match (raw_sound, promised == timed) {
            (true, _) => self.whole(ticks),
            (false, true) => self.samples(promised, video),
            (false, false) => None,
        };
        Ok(track)
    }

    /// Walks chunks: how many of the promised samples lie within the file.
    fn present(&self, promised: u64, size: u64) -> Result<u64, &'static str> {
        if promised == 0 {
            return Ok(0);
        }
        let chunk_count = (self.chunks.len() / self.chunk_bytes) as u64;
        let runs: Vec<(u64, u64)> = self
            .to_chunk
            .chunks_exact(12)
            .map(|row| (u64::from(be32(row, 0).unwrap_or(0)), u64::from(be32(row, 4).unwrap_or(0))))
            .collect();
        let (mut sample, mut present) = (0_u64, 0_u64);
        for (at, (first, per_chunk)) in runs.iter().enumerate() {
            let next = runs.get(at + 1).map_or(chunk_count + 1, |(next, _)| *next);
            if *first == 0 || next <= *first || *per_chunk == 0 || *first > chunk_count {
                return Err("sample-to-chunk table");
            }
            for chunk in *first..next.min(chunk_count + 1) {
                let row = (chunk - 1) as usize * self.chunk_bytes;
                let start = match self.chunk_bytes {
                    8 => be64(self.chunks, row),
                    _ => be32(self.chunks, row).map(u64::from),
                };
                let mut end = start.ok_or("chunk table")?;
                if let Some(each) = be32(self.sizes, 4).filter(|each| *each > 0) {
                    let here = (*per_chunk).min(promised - sample);
                    present += (size.saturating_sub(end) / u64::from(each)).min(here);
                    sample += here;
                    if sample >= promised {
                        return Ok(present);
                    }
                    continue;
                }
                for _ in 0..*per_chunk {
                    if sample >= promised {
                        return Ok(present);
                    }
                    end = end.saturating_add(self.sample_bytes(sample).ok_or("size table")?);
                    present += u64::from(end <= size);
                    sample += 1;
                }
            }
        }
        if sample < promised { Err("sample-to-chunk table") } else { Ok(present) }
    }

    /// Sound in raw samples of one size has a row of times for millions of them: taken as one long sample.
    fn whole(&self, ticks: u64) -> Option<Samples> {
        let edit = self.edit()?;
        let mut samples = Samples::stated();
        let cut = edit.map_or(0, |edit| edit.media.max(0).unsigned_abs());
        let empty = edit.map_or(0, |edit| edit.empty_ns);
        samples.push(empty, Some(self.ns(ticks.saturating_sub(cut))), true);
        if let Some(edit) = edit.filter(|edit| edit.length_ns > 0) {
            samples.stop_at(edit.empty_ns.saturating_add(edit.length_ns));
        }
        Some(samples)
    }

    fn sample_bytes(&self, sample: u64) -> Option<u64> {
        match be32(self.sizes, 4)? {
            0 => be32(self.sizes, 12 + sample as usize * 4).map(u64::from),
            each => Some(u64::from(each)),
        }
    }

    /// Times as `qtdemux` states them in stream time; none where edits do more than shift and cut.
    fn samples(&self, promised: u64, video: bool) -> Option<Samples> {
        let edit = self.edit()?;
        let shifts = self.shifts(promised)?;
        let least = shifts.iter().copied().min().unwrap_or(0).min(0);
        let mut keyframes = self.keyframes.map(|rows| rows.chunks_exact(4).filter_map(|row| be32(row, 0)).peekable());
        let (mut number, mut decode) = (0_u32, 0_i64);
        let mut samples = Samples::stated();
        let mut leading = self.format.starts_with(b"avc").then(Leading::default);
        for (count, delta) in pairs(self.times) {
            for _ in 0..count {
                let shown = decode + shifts.get(number as usize).copied().unwrap_or(0);
                number += 1;
                let keyframe = match &mut keyframes {
                    None => true,
                    Some(rows) => rows.next_if(|row| *row == number).is_some(),
                };
                decode += i64::from(delta);
                let since = self.ns(shown.saturating_sub(least).max(0).unsigned_abs());
                let leads = leading.as_mut().is_some_and(|leading| leading.is_next(since, keyframe));
                // Without an edit the demuxer moves the earliest picture of a stream with negative shifts to zero.
                let from = edit.map_or(least, |edit| edit.media);
                let (start, end) = (shown - from, shown - from + i64::from(delta));
                // A picture that begins before the edit is not shown; sound is cut within a block.
                if leads || edit.is_some() && (end <= 0 || video && start < 0) {
                    continue;
                }
                let empty = edit.map_or(0, |edit| edit.empty_ns);
                let at = |ticks: i64| empty.saturating_add(self.ns(ticks.max(0).unsigned_abs()));
                samples.push(at(start), Some(at(end) - at(start)), keyframe);
            }
        }
        if let Some(edit) = edit
            && edit.length_ns > 0
        {
            samples.stop_at(edit.empty_ns.saturating_add(edit.length_ns));
        }
        samples.sort(false);
        Some(samples)
    }

    fn ns(&self, ticks: u64) -> u64 {
        to_ns(ticks, self.scale).unwrap_or(0)
    }

    /// Shift of each sample's time of presentation against its time of decoding.
    fn shifts(&self, promised: u64) -> Option<Vec<i64>> {
        let Some(ctts) = self.offsets else { return Some(Vec::new()) };
        let mut shifts = Vec::new();
        for (count, shift) in pairs(rows(ctts, 4, 8, "").ok()?) {
            // Version 0 has unsigned numbers, and everybody who wrote negative ones there meant them so.
            let room = promised.saturating_sub(shifts.len() as u64).min(u64::from(count)) as usize;
            shifts.extend(std::iter::repeat_n(i64::from(shift as i32), room));
        }
        Some(shifts)
    }

    /// The one edit that shows media, with the empty one before it. `Some(None)` without edits, `None` where it is more.
    fn edit(&self) -> Option<Option<Edit>> {
        let Some(elst) = self.edits else { return Some(None) };
        let wide = elst.first() == Some(&1);
        let row_bytes = if wide { 20 } else { 12 };
        let mut edit = Edit { empty_ns: 0, media: -1, length_ns: 0 };
        for row in rows(elst, 4, row_bytes, "").ok()?.chunks_exact(row_bytes) {
            let (length, media, rate) = match wide {
                true => (be64(row, 0)?, be64(row, 8)?.cast_signed(), be32(row, 16)?),
                false => (u64::from(be32(row, 0)?), i64::from(be32(row, 4)?.cast_signed()), be32(row, 8)?),
            };
            let length_ns = to_ns(length, self.movie_scale)?;
            match (media, edit.media) {
                (-1, -1) => edit.empty_ns = edit.empty_ns.saturating_add(length_ns),
                (0.., -1) if media.unsigned_abs() <= MAX_TICKS && rate == 0x1_0000 => {
                    edit = Edit { media, length_ns, ..edit }
                }
                _ => return None,
            }
        }
        match edit.media {
            -1 => None,
            _ => Some(Some(edit)),
        }
    }
}

/// Ticks as nanoseconds, as far as they go; none where nobody says how long one is.
fn to_ns(ticks: u64, scale: u64) -> Option<u64> {
    let ns = (u128::from(ticks) * 1_000_000_000).checked_div(u128::from(scale))?;
    Some(u64::try_from(ns).unwrap_or(u64::MAX))
}

/// An edit: so much nothing, then media from there on.
#[derive(Debug, Clone, Copy)]
struct Edit {
    empty_ns: u64,
    media: i64,
    length_ns: u64,
}

fn pairs(rows: &[u8]) -> impl Iterator<Item = (u32, u32)> + '_ {
    rows.chunks_exact(8).filter_map(|row| Some((be32(row, 0)?, be32(row, 4)?)))
}

#[cfg(test)]
mod tests;
