//! FLV: tags of sound, picture and script data, each followed by its own size (Adobe's FLV specification 10.1, annex E).
//!
//! Where a whole file follows another, which `flvdemux` takes for a tag or for the end, the first one is taken.

use spool_proto::media::{NS_PER_MS, Span};

use super::joined::Joined;
use super::lines::{Lines, Stated};
use super::patched::Change;
use super::{Chain, Link, TIME_BYTES, Window};
use crate::child::formats::mp4::Bytes;

/// Bytes of the file's head up to what states its length.
const FILE_HEAD: usize = 9;
const TAG_HEAD: u64 = 11;
/// Behind each tag stands its size.
const BACK_SIZE: u64 = 4;
const SOUND: u8 = 8;
const PICTURE: u8 = 9;
const SCRIPT: u8 = 18;
/// Most bytes that a tag holds.
const MOST_BODY: u64 = 0xff_ffff;

/// Where in a tag its time stands, in milliseconds: three bytes, and one above them.
const TIME_AT: u64 = 4;
/// Tags that are passed on either side of a wrong time in search of a right one of its kind.
const MOST_PASSED: usize = 256;

#[derive(Default)]
pub(super) struct Tags {
    /// The times of pictures and of sound, of the first recording.
    pub(super) lines: Lines,
    /// Recordings that follow the first one.
    pub(super) more: Joined,
}

/// Does a whole file begin here (E.2), its flags known?
fn begins_anew(head: &[u8]) -> bool {
    head.starts_with(b"FLV\x01") && head[4] & !0x05 == 0 && head[5..9] == (FILE_HEAD as u32).to_be_bytes()
}

/// Bytes of the body of a tag that may be one.
fn body(head: &[u8]) -> Option<u64> {
    let size = u64::from(u32::from_be_bytes([0, head[1], head[2], head[3]]));
    let sound = matches!(head[0], SOUND | PICTURE | SCRIPT) && head[8..11] == [0, 0, 0];
    (sound && size > 0).then_some(size)
}

impl Chain for Tags {
    const MARKS: &'static [&'static [u8]] = &[&[0, 0, 0]];
    // The stream's number, which is always 0.
    const MARK_AT: u64 = 8;
    const LEAST: u64 = TAG_HEAD + BACK_SIZE + 1;

    fn first(&mut self, window: &mut Window<'_>) -> Result<Option<u64>, String> {
        let head = window.get(0, FILE_HEAD)?;
        Ok(head.map(|head| u64::from(u32::from_be_bytes([head[5], head[6], head[7], head[8]])) + BACK_SIZE))
    }

    fn link(&mut self, window: &mut Window<'_>, at: u64) -> Result<Link, String> {
        let Some(head) = window.get(at, TAG_HEAD as usize)? else { return Ok(Link::End) };
        if begins_anew(head) {
            self.more.note(at);
            return Ok(Link::Next(at + FILE_HEAD as u64 + BACK_SIZE));
        }
        // An empty tag of any kind is passed over by everybody.
        let empty = matches!(head[0], SOUND | PICTURE | SCRIPT) && head[1..4] == [0, 0, 0] && head[8..11] == [0, 0, 0];
        let Some(size) = body(head).or(empty.then_some(0)) else { return Ok(Link::Broken) };
        let end = at + TAG_HEAD + size;
        let next = end + BACK_SIZE;
        let Some(back) = window.get(end, BACK_SIZE as usize)? else {
            // Cut off in this tag, or a length that came out of damage.
            let cut = self.seeks_in_vain(window, at)?;
            return Ok(if cut { Link::End } else { Link::Broken });
        };
        let agrees = u64::from(u32::from_be_bytes([back[0], back[1], back[2], back[3]])) == TAG_HEAD + size;
        // Some writers state other sizes behind their tags; then the next tag has to stand there.
        let goes_on = match window.get(next, TAG_HEAD as usize)? {
            Some(head) => body(head).is_some() || begins_anew(head),
            None => true,
        };
        if !agrees && !goes_on {
            return Ok(Link::Broken);
        }
        if let Some(head) = window.get(at, TAG_HEAD as usize)?.filter(|head| head[0] != SCRIPT && self.more.count == 0)
        {
            let (place, at_ns) = (Span { offset: at + TIME_AT, length: TIME_BYTES }, time(head) * NS_PER_MS);
            self.lines.takes(&Stated { track: u32::from(head[0]), place, at_ns, lasts_ns: 0 });
        }
        Ok(Link::Next(next))
    }

    fn resumes(&mut self, window: &mut Window<'_>, at: u64) -> Result<bool, String> {
        let Some(size) = window.get(at, TAG_HEAD as usize)?.and_then(body) else { return Ok(false) };
        let back = window.get(at + TAG_HEAD + size, BACK_SIZE as usize)?;
        Ok(back
            .is_some_and(|back| u64::from(u32::from_be_bytes([back[0], back[1], back[2], back[3]])) == TAG_HEAD + size))
    }
}

impl Tags {
    /// Is there no tag behind `at` any more?
    fn seeks_in_vain(&mut self, window: &mut Window<'_>, at: u64) -> Result<bool, String> {
        super::resume(window, self, at).map(|found| found.is_none())
    }
}

/// The time of a tag.
fn time(head: &[u8]) -> u64 {
    u64::from(u32::from_be_bytes([head[7], head[4], head[5], head[6]]))
}

/// Times for the tags at whose `places` wrong ones stand: between those of their neighbours of the same kind.
pub(super) fn in_line(source: &dyn Bytes, places: &[Span]) -> Result<Vec<Change<Vec<u8>>>, String> {
    let wrong = |tag: u64| places.binary_search_by_key(&(tag + TIME_AT), |place| place.offset).is_ok();
    let mut window = Window::new(source);
    let mut changes = Vec::new();
    for place in places {
        let tag = place.offset - TIME_AT;
        let (mut sides, mut passed) = ([None, None], [0, 0]);
        for (side, step) in [previous, next].into_iter().enumerate() {
            let mut at = tag;
            for _ in 0..MOST_PASSED {
                let Some(found) = step(&mut window, at)? else { break };
                at = found;
                let (mine, its) = (head_of(&mut window, tag)?, head_of(&mut window, at)?);
                let Some((mine, its)) = mine.zip(its) else { break };
                if mine[0] == its[0] && wrong(at) {
                    passed[side] += 1;
                } else if mine[0] == its[0] {
                    sides[side] = Some(time(&its));
                    break;
                }
            }
        }
        let time = match sides {
            [Some(before), Some(after)] => {
                before + after.saturating_sub(before) * (passed[0] + 1) / (passed[0] + passed[1] + 2)
            }
            [Some(only), None] | [None, Some(only)] => only,
            [None, None] => continue,
        };
        let [above, a, b, c] = (time as u32).to_be_bytes();
        changes.push((place.offset, vec![a, b, c, above]));
    }
    Ok(changes)
}

fn head_of(window: &mut Window<'_>, tag: u64) -> Result<Option<Vec<u8>>, String> {
    Ok(window.get(tag, TAG_HEAD as usize)?.filter(|head| body(head).is_some()).map(<[u8]>::to_vec))
}

/// The tag before one, by its size that stands behind it.
fn previous(window: &mut Window<'_>, tag: u64) -> Result<Option<u64>, String> {
    let Some(back_at) = tag.checked_sub(BACK_SIZE) else { return Ok(None) };
    let back =
        window.get(back_at, BACK_SIZE as usize)?.map(|back| u32::from_be_bytes([back[0], back[1], back[2], back[3]]));
    Ok(back.filter(|size| *size > 0).and_then(|size| back_at.checked_sub(u64::from(size))))
}

fn next(window: &mut Window<'_>, tag: u64) -> Result<Option<u64>, String> {
    let size = head_of(window, tag)?.as_deref().and_then(body);
    Ok(size.map(|size| tag + TAG_HEAD + size + BACK_SIZE))
}

/// Script data of a kind that nobody knows, over the span.
pub(super) fn filler(span: Span) -> Vec<(u64, Vec<u8>)> {
    let around = TAG_HEAD + BACK_SIZE;
    let (mut at, mut left) = (span.offset, span.length);
    let mut changes = Vec::new();
    while left > around {
        // What would be left must hold a tag again, or nothing.
        let whole = left.min(MOST_BODY);
        let whole = if left - whole > 0 && left - whole <= around { left - around - 1 } else { whole };
        let size = (whole - around) as u32;
        let mut head = vec![SCRIPT];
        head.extend(&size.to_be_bytes()[1..]);
        // Time and stream are 0, and a first value that is no text names nothing.
        head.extend([0; 8]);
        changes.push((at, head));
        changes.push((at + TAG_HEAD + u64::from(size), (size + TAG_HEAD as u32).to_be_bytes().to_vec()));
        (at, left) = (at + whole, left - whole);
    }
    changes
}
