//! A source shown to its demuxer otherwise than it is, so that nothing in it ends the demuxer or leads it astray.
//!
//! Here the damage in the middle of a file. `flvdemux` ends at the first tag whose head is broken, `matroskademux` at an
//! element it can't read, `qtdemux` at a box that is none, though all of the rest may be good. So the chain of tags,
//! elements or boxes is walked once, while inspecting: where it breaks, the next sound link is looked for, and what lies
//! between is damage. Every worker is then shown the source with one filler of the container's own over each span: no byte
//! moves, so indexes still hold. On the way times that leap away and come back are noted ([`lines`]), and shown in their
//! line.
//!
//! In a transport stream no link can break a chain, but its clock may leap: [`clock`]; there may be several programmes, or
//! one whose table hides its sound: [`programme`]; its first times may be damaged: [`first`]; and that table may change:
//! [`later`]. A program stream may not say what its pictures are: [`map`]. An index may be right and `qtdemux` make something
//! else of it: [`edits`], [`regroup`]. How bytes become others without a copy: [`patched`].
//!
//! What is not done: nothing is guessed back. What lay in a span is missing, and counted as such ([`super::encode::missing`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use spool_proto::media::{Container, SourceFacts, Span};

use self::edits::{Ends, Seen};
use self::patched::{Change, patched, shorter};
use super::formats::mp4::Bytes;
use super::source::Ranges;
use super::whole::{Whole, unreadable};
use crate::order::Failure;
use joined::Joined;
use lines::Lines;

mod avi;
pub(super) mod clock;
pub mod edits;
mod first;
mod flv;
mod fragments;
mod joined;
mod later;
mod lines;
pub(super) mod map;
mod matroska;
mod patched;
pub(super) mod programme;
mod regroup;
pub(super) mod scrambled;

/// Spans that are looked for; a file with more is a ruin, and is read as far as its demuxer comes.
const MOST_SPANS: usize = 1_000;
/// Links that are walked.
const MOST_LINKS: usize = 50_000_000;
/// Bytes of a place at which a wrong time stands, or the name of a wrong index; a span of damage is longer.
const TIME_BYTES: u64 = 4;
/// Bytes that are read at once.
const WINDOW_BYTES: usize = 256 * 1024;
/// How often a source is read over by one walk at most, and how much more. Links of whole files lead ahead: where large ones
/// are looked at from both ends it is three times. In a ruin every few bytes may look like a link that leads far away.
const READ_OVER: u64 = 8;
const READ_MORE_BYTES: u64 = 64 << 20;

/// The source as its demuxer is to see it: damage passed over, and of an MP4's index what has to be otherwise.
pub(crate) fn seen(ranges: &Arc<dyn Ranges>, facts: &SourceFacts, ends: Ends) -> Result<Seen, Failure> {
    let ranges = match facts.container {
        Container::MpegTs => programme::named_anew(ranges).map_err(unreadable)?,
        Container::MpegPs => map::mapped_anew(ranges).map_err(unreadable)?,
        Container::Mp4
        | Container::Matroska
        | Container::Avi
        | Container::Flv
        | Container::Ogg
        | Container::Asf
        | Container::Mxf
        | Container::Audio => Arc::clone(ranges),
    };
    edits::seen(&passed_over(&ranges, facts.container, &facts.damage)?, facts.container, ends)
}

/// The source up to another recording that follows the first one, with fillers over what is damaged, and steady clocks over
/// where they leap.
pub(super) fn passed_over(
    ranges: &Arc<dyn Ranges>,
    container: Container,
    damage: &[Span],
) -> Result<Arc<dyn Ranges>, Failure> {
    if damage.is_empty() {
        return Ok(Arc::clone(ranges));
    }
    let size = ranges.size_bytes();
    if container != Container::MpegTs
        && let Some((last, damage)) = damage.split_last()
        && is_loss(last)
        && last.offset + last.length == size
    {
        return passed_over(&shorter(ranges, last.offset), container, damage);
    }
    let filler = match kind(container) {
        Some(Kind::Flv) => flv::filler,
        Some(Kind::Matroska) => matroska::filler,
        Some(Kind::Fragments) => fragments::filler,
        Some(Kind::Avi) => avi::filler,
        None if container == Container::MpegTs => return clock::steadied(ranges, damage).map_err(unreadable),
        None => return Ok(Arc::clone(ranges)),
    };
    let (lost, times): (Vec<Span>, Vec<Span>) = damage.iter().copied().partition(is_loss);
    let mut changes: Vec<Change<Vec<u8>>> = lost.into_iter().flat_map(filler).collect();
    match kind(container) {
        Some(Kind::Flv) => changes.extend(flv::in_line(&Whole(ranges), &times).map_err(unreadable)?),
        Some(Kind::Fragments) => changes.extend(times.iter().map(|place| fragments::untimed(*place))),
        Some(Kind::Avi) => changes.extend(times.iter().map(|place| avi::no_index(*place))),
        Some(Kind::Matroska) | None => {}
    }
    Ok(patched(ranges, changes))
}

/// Is anything lost in that span, or does just a wrong time or name stand there?
pub(super) fn is_loss(span: &Span) -> bool {
    span.length > TIME_BYTES
}

/// What a walk along the links of a container found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Where the chain is broken, and where wrong times and indexes stand.
    pub(super) damage: Vec<Span>,
    /// Of each track, by its number, whose encoder filled its last block up: for how many nanoseconds.
    pub(super) filled: BTreeMap<u64, u64>,
    /// How many recordings follow the first one.
    pub(super) more: u64,
    /// For how long its links say that they last all together, where each says so.
    pub(super) lasts_ns: Option<u64>,
}

/// Walks along the links of this container.
pub(super) fn walked(ranges: &Arc<dyn Ranges>, container: Container) -> Result<Walked, Failure> {
    let whole = Whole(ranges);
    let (mut window, mut filled) = (Window::new(&whole), BTreeMap::new());
    let (mut more, mut lines, mut lasts_ns) = (Joined::default(), Lines::default(), None);
    let found = match kind(container) {
        Some(Kind::Flv) => {
            let mut tags = flv::Tags::default();
            let found = walk(&mut window, &mut tags);
            (lines, more) = (tags.lines, tags.more);
            found
        }
        Some(Kind::Matroska) => {
            let mut elements = matroska::Elements::default();
            let found = walk(&mut window, &mut elements);
            (filled, more) = (elements.filled, elements.more);
            found
        }
        Some(Kind::Fragments) => {
            let mut boxes = fragments::Boxes::default();
            let found = walk(&mut window, &mut boxes);
            lasts_ns = Some(boxes.lines.lasts_ns());
            lines = boxes.lines;
            found
        }
        Some(Kind::Avi) => {
            let mut chunks = avi::Chunks::default();
            let found = walk(&mut window, &mut chunks);
            more = joined::of(&mut window, container).map_err(unreadable)?;
            found.map(|found| chunks.damage(found))
        }
        // What leaps in a transport stream is found by who reads it to its end: see [`clock::Watched`].
        None => joined::of(&mut window, container).map(|joined| {
            more = joined;
            Vec::new()
        }),
    };
    let (mut damage, size) = (found.map_err(unreadable)?, ranges.size_bytes());
    damage.extend(lines.wrong());
    damage.sort_by_key(|span| span.offset);
    if let Some(at) = more.first {
        damage.retain(|span| span.offset < at);
        damage.push(Span { offset: at, length: size - at });
    }
    Ok(Walked { damage, filled, more: more.count, lasts_ns })
}

/// Is a container followed link by link, or packet by packet, so that bytes that are lost inside are found?
pub(super) fn is_walked(container: Container) -> bool {
    // Of an AVI pictures may be left out on purpose without any trace of it.
    container == Container::MpegTs || kind(container).is_some() && container != Container::Avi
}

enum Kind {
    Flv,
    Matroska,
    Fragments,
    Avi,
}

fn kind(container: Container) -> Option<Kind> {
    match container {
        Container::Flv => Some(Kind::Flv),
        Container::Matroska => Some(Kind::Matroska),
        Container::Mp4 => Some(Kind::Fragments),
        Container::Avi => Some(Kind::Avi),
        Container::MpegTs | Container::MpegPs | Container::Ogg | Container::Asf | Container::Mxf | Container::Audio => {
            None
        }
    }
}

/// What stands at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// A sound link; the next one stands there.
    Next(u64),
    /// The file ends in it, or says that it ends here.
    End,
    /// None that could be.
    Broken,
}

/// A container as a chain of links.
trait Chain {
    /// Where the first link stands.
    fn first(&mut self, window: &mut Window<'_>) -> Result<Option<u64>, String>;
    /// What stands at `at`.
    fn link(&mut self, window: &mut Window<'_>, at: u64) -> Result<Link, String>;
    /// Bytes that a place to go on at begins with, at [`Chain::MARK_AT`] of it.
    const MARKS: &'static [&'static [u8]];
    /// Where in a link the mark stands.
    const MARK_AT: u64;
    /// Is the link at `at`, where a mark was found, sound beyond doubt?
    fn resumes(&mut self, window: &mut Window<'_>, at: u64) -> Result<bool, String>;
    /// Bytes that a filler takes at least.
    const LEAST: u64;
}

/// Walks a chain and tells where it is broken and goes on again.
fn walk<C: Chain>(window: &mut Window<'_>, chain: &mut C) -> Result<Vec<Span>, String> {
    let mut found: Vec<Span> = Vec::new();
    let Some(mut at) = chain.first(window)? else { return Ok(found) };
    for _ in 0..MOST_LINKS {
        match chain.link(window, at)? {
            Link::Next(next) if next > at => at = next,
            Link::Next(_) | Link::End => break,
            Link::Broken => {
                let Some(resumes) = resume(window, chain, at)? else { break };
                found.push(Span { offset: at, length: resumes - at });
                at = resumes;
                if found.len() >= MOST_SPANS {
                    break;
                }
            }
        }
    }
    Ok(found)
}

/// The next place behind `broken` at which the chain goes on.
fn resume<C: Chain>(window: &mut Window<'_>, chain: &mut C, broken: u64) -> Result<Option<u64>, String> {
    let mut at = broken + C::LEAST;
    while at < window.size {
        let from = at + C::MARK_AT;
        let Some((data, longest)) = window.ahead(from)?.zip(C::MARKS.iter().map(|mark| mark.len()).max()) else {
            return Ok(None);
        };
        let here = |n: &usize| C::MARKS.iter().any(|mark| data[*n..].starts_with(mark));
        let (found, read) = ((0..data.len()).find(here), data.len() as u64);
        let Some(n) = found else {
            // A mark may lie across the end of what was read.
            if from + read >= window.size {
                return Ok(None);
            }
            at += (read + 1).saturating_sub(longest as u64).max(1);
            continue;
        };
        at += n as u64;
        if chain.resumes(window, at)? {
            return Ok(Some(at));
        }
        at += 1;
    }
    Ok(None)
}

/// A source read in large pieces.
struct Window<'a> {
    source: &'a dyn Bytes,
    size: u64,
    at: u64,
    data: Vec<u8>,
    /// What was read elsewhere, beside it.
    beside: (u64, Vec<u8>),
    /// Bytes that may still be read.
    left: u64,
}

impl<'a> Window<'a> {
    fn new(source: &'a dyn Bytes) -> Self {
        let size = source.size_bytes();
        let left = size.saturating_mul(READ_OVER).saturating_add(READ_MORE_BYTES);
        Self { source, size, at: 0, data: Vec::new(), beside: (0, Vec::new()), left }
    }

    /// `length` bytes at `at`; none where the source ends before, or where too much was read of it: then the rest is as its
    /// demuxer finds it.
    fn get(&mut self, at: u64, length: usize) -> Result<Option<&[u8]>, String> {
        if at.checked_add(length as u64).is_none_or(|end| end > self.size) {
            return Ok(None);
        }
        let inside = at >= self.at && at + length as u64 <= self.at + self.data.len() as u64;
        if !inside {
            let most = (self.size - at).min(WINDOW_BYTES.max(length) as u64);
            let Some(left) = self.left.checked_sub(most) else { return Ok(None) };
            self.left = left;
            self.data = self.source.read(at, most as usize)?;
            self.at = at;
        }
        let from = (at - self.at) as usize;
        Ok(self.data.get(from..from + length))
    }

    /// The same for who reads along at a second place.
    fn peek(&mut self, at: u64, length: usize) -> Result<Option<&[u8]>, String> {
        let swapped = |it: &mut Self| {
            std::mem::swap(&mut it.at, &mut it.beside.0);
            std::mem::swap(&mut it.data, &mut it.beside.1);
        };
        swapped(self);
        let found = self.get(at, length).map(|found| found.is_some());
        swapped(self);
        let from = (at.saturating_sub(self.beside.0)) as usize;
        Ok(found?.then(|| self.beside.1.get(from..from + length)).flatten())
    }

    /// What is to be had from `at` on without much reading; none at the end. Lent, not copied: a span of zeros may look
    /// like a mark at each of its bytes.
    fn ahead(&mut self, at: u64) -> Result<Option<&[u8]>, String> {
        if at >= self.size {
            return Ok(None);
        }
        let end = self.at + self.data.len() as u64;
        let read = if at >= self.at && at + 64 < end { end - at } else { (self.size - at).min(WINDOW_BYTES as u64) };
        self.get(at, read as usize)
    }
}

#[cfg(test)]
mod tests;
