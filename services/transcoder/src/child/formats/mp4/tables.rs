//! The tables of one track: which samples there are, where they lie, and when each is shown.

use super::{Track, be32, be64, child, header_scale};
use crate::child::formats::pose::{self, Pose};
use crate::child::quirks::leading::Leading;
use crate::child::samples::Samples;

/// Largest times that are reckoned with, in ticks: sums and differences of a few of them keep their room.
const MAX_TICKS: u64 = 1 << 60;

/// The tables of a track, found and measured, not yet walked.
pub(super) struct Tables<'a> {
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
    pub(super) fn of(trak: &'a [u8], mdia: &'a [u8], movie: &[u8]) -> Result<Self, &'static str> {
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

    pub(super) fn track(&self, video: bool, size: u64, max_samples: u64) -> Result<Track, &'static str> {
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
