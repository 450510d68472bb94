//! FLV: tags of sound, picture and script data, each followed by its own size (Adobe's FLV specification 10.1, annex E).

use spool_proto::media::Span;

use super::{Chain, Link, Window};

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

pub(super) struct Tags;

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
            Some(head) => body(head).is_some(),
            None => true,
        };
        Ok(if agrees || goes_on { Link::Next(next) } else { Link::Broken })
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
