//! Fragmented MP4: boxes, of which each `moof` tells where the samples behind it lie (ISO/IEC 14496-12, 8.8). A broken chain
//! goes on at the next `moof`. What has one index for all is left alone: that index knows where everything lies.
//!
//! Each fragment states when it begins (`tfdt`). A time that leaps is shown as none, and its samples follow those before them.

use std::collections::BTreeMap;

use spool_proto::media::{NS_PER_S, Span};

use super::lines::{Lines, Stated};
use super::patched::Change;
use super::{Chain, Link, TIME_BYTES, Window};
use crate::child::formats::mp4::{be32, be64, box_head, child, children, header_scale};

/// What stands at the top of a file.
const TOP: [&[u8; 4]; 20] = [
    b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"ssix", b"free", b"skip", b"mfra", b"emsg", b"prft",
    b"uuid", b"wide", b"pdin", b"meta", b"udta", b"pnot", b"imda", b"mfro",
];
/// Bytes of the longest box head.
const HEAD_BYTES: u64 = 16;
/// Bytes of a box's name.
const NAME_BYTES: usize = 4;
/// Longest list of the samples of a fragment.
const LONGEST_MOOF: u64 = 64 << 20;

#[derive(Default)]
pub(super) struct Boxes {
    /// Was a fragment met? Before it nothing is mended.
    fragmented: bool,
    tracks: BTreeMap<u32, Track>,
    /// The times at which fragments begin.
    pub(super) lines: Lines,
}

/// What the index says of a track.
#[derive(Default)]
struct Track {
    /// Ticks of a second.
    scale: u64,
    /// How long a sample lasts of which nothing else is said.
    lasts: u64,
}

impl Track {
    fn ns(&self, ticks: u64) -> u64 {
        let ns = u128::from(ticks) * u128::from(NS_PER_S) / u128::from(self.scale.max(1));
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

impl Chain for Boxes {
    const MARKS: &'static [&'static [u8]] = &[b"moof"];
    const MARK_AT: u64 = 4;
    const LEAST: u64 = 8;

    fn first(&mut self, _window: &mut Window<'_>) -> Result<Option<u64>, String> {
        Ok(Some(0))
    }

    fn link(&mut self, window: &mut Window<'_>, at: u64) -> Result<Link, String> {
        let rest = window.size.saturating_sub(at);
        if rest < 8 {
            return Ok(Link::End);
        }
        let head = window.get(at, HEAD_BYTES.min(rest) as usize)?.and_then(|head| box_head(head, rest));
        let Some((name, head_bytes, length)) = head.filter(|(name, _, _)| TOP.contains(&name)) else {
            return Ok(self.broken());
        };
        if &name == b"moof" {
            self.fragmented = true;
            if length <= rest && !self.resumes(window, at)? {
                return Ok(Link::Broken);
            }
        }
        if length <= rest.min(LONGEST_MOOF) && matches!(&name, b"moov" | b"moof") {
            let body = window.get(at + head_bytes, (length - head_bytes) as usize)?.unwrap_or_default();
            match &name {
                b"moov" => self.tracks = tracks(body),
                _ => self.note_times(at + head_bytes, body),
            }
        }
        if length > rest {
            let cut = !self.fragmented || super::resume(window, self, at)?.is_none();
            return Ok(if cut { Link::End } else { Link::Broken });
        }
        Ok(Link::Next(at + length))
    }

    fn resumes(&mut self, window: &mut Window<'_>, at: u64) -> Result<bool, String> {
        let rest = window.size - at;
        let Some(head) = window.get(at, HEAD_BYTES.min(rest) as usize)?.and_then(|head| box_head(head, rest)) else {
            return Ok(false);
        };
        let (_, head_bytes, length) = head;
        if length > rest.min(LONGEST_MOOF) {
            return Ok(false);
        }
        let Some(body) = window.get(at + head_bytes, (length - head_bytes) as usize)? else { return Ok(false) };
        let parts = children(body);
        let whole: usize = parts.iter().map(|part| part.body.len() + 8).sum();
        let named = parts.iter().any(|part| &part.name == b"mfhd") && parts.iter().any(|part| &part.name == b"traf");
        Ok(named && whole == body.len() && parts.iter().all(|part| part.name.iter().all(u8::is_ascii_graphic)))
    }
}

impl Boxes {
    /// Notes when the parts of a fragment begin, whose body stands at `at`.
    fn note_times(&mut self, at: u64, moof: &[u8]) {
        for part in children(moof).iter().filter(|part| part.name == *b"traf") {
            let Some(head) = child(part.body, b"tfhd") else { continue };
            let Some((id, track)) = be32(head, 4).and_then(|id| Some((id, self.tracks.get(&id)?))) else { continue };
            let Some(time) = child(part.body, b"tfdt") else { continue };
            let begins = if time.first() == Some(&1) { be64(time, 4) } else { be32(time, 4).map(u64::from) };
            // Its name stands right before it.
            let place = (time.as_ptr() as usize).checked_sub(moof.as_ptr() as usize + NAME_BYTES);
            let (Some(begins), Some(place)) = (begins, place) else { continue };
            let place = Span { offset: at + place as u64, length: TIME_BYTES };
            let lasts_ns = track.ns(lasts(part.body, head, track.lasts));
            self.lines.takes(&Stated { track: id, place, at_ns: track.ns(begins), lasts_ns });
        }
    }

    fn broken(&self) -> Link {
        if self.fragmented { Link::Broken } else { Link::End }
    }
}

/// The tracks of an index.
fn tracks(moov: &[u8]) -> BTreeMap<u32, Track> {
    let defaults = child(moov, b"mvex").map(children).unwrap_or_default();
    let lasts = |id: u32| {
        let of = defaults.iter().find(|part| part.name == *b"trex" && be32(part.body, 4) == Some(id));
        of.and_then(|part| be32(part.body, 12)).map_or(0, u64::from)
    };
    let track = |trak: &[u8]| {
        let header = child(trak, b"tkhd")?;
        let id = be32(header, if header.first() == Some(&1) { 20 } else { 12 })?;
        let scale = header_scale(child(child(trak, b"mdia")?, b"mdhd")?)?;
        Some((id, Track { scale, lasts: lasts(id) }))
    };
    children(moov).iter().filter(|part| part.name == *b"trak").filter_map(|part| track(part.body)).collect()
}

/// How many ticks a track's part of a fragment lasts (8.8.7 and 8.8.8).
fn lasts(part: &[u8], head: &[u8], by_index: u64) -> u64 {
    let flags = be32(head, 0).unwrap_or(0);
    let before = if flags & 1 != 0 { 8 } else { 0 } + if flags & 2 != 0 { 4 } else { 0 };
    let stated = (flags & 8 != 0).then(|| be32(head, 8 + before)).flatten();
    let each = stated.map_or(by_index, u64::from);
    let run = |run: &[u8]| -> u64 {
        let (flags, count) = (be32(run, 0).unwrap_or(0), be32(run, 4).unwrap_or(0));
        if flags & 0x100 == 0 {
            return each.saturating_mul(u64::from(count));
        }
        let from = 8 + [1, 4].iter().filter(|flag| flags & *flag != 0).count() * 4;
        let row = [0x100, 0x200, 0x400, 0x800].iter().filter(|flag| flags & *flag != 0).count() * 4;
        let rows = run.get(from..).unwrap_or_default().chunks_exact(row).take(count as usize);
        rows.filter_map(|row| be32(row, 0)).map(u64::from).sum()
    };
    children(part).iter().filter(|part| part.name == *b"trun").fold(0, |sum, part| sum.saturating_add(run(part.body)))
}

/// A fragment's time that is none any more.
pub(super) fn untimed(place: Span) -> Change<Vec<u8>> {
    (place.offset, b"free".to_vec())
}

/// One box of free space over the span.
pub(super) fn filler(span: Span) -> Vec<(u64, Vec<u8>)> {
    let head = match u32::try_from(span.length) {
        Ok(0..8) => return Vec::new(),
        Ok(length) => [&length.to_be_bytes()[..], b"free"].concat(),
        Err(_) => [&1_u32.to_be_bytes()[..], b"free", &span.length.to_be_bytes()].concat(),
    };
    vec![(span.offset, head)]
}
