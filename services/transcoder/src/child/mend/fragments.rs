//! Fragmented MP4: boxes, of which each `moof` tells where the samples behind it lie (ISO/IEC 14496-12, 8.8). A broken chain
//! goes on at the next `moof`. What has one index for all is left alone: that index knows where everything lies.

use spool_proto::media::Span;

use super::super::mp4::{box_head, children};
use super::{Chain, Link, Window};

/// What stands at the top of a file.
const TOP: [&[u8; 4]; 20] = [
    b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"ssix", b"free", b"skip", b"mfra", b"emsg", b"prft",
    b"uuid", b"wide", b"pdin", b"meta", b"udta", b"pnot", b"imda", b"mfro",
];
/// Bytes of the longest box head.
const HEAD_BYTES: u64 = 16;
/// Longest list of the samples of a fragment.
const LONGEST_MOOF: u64 = 64 << 20;

#[derive(Default)]
pub(super) struct Boxes {
    /// Was a fragment met? Before it nothing is mended.
    fragmented: bool,
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
        let Some((name, _, length)) = head.filter(|(name, _, _)| TOP.contains(&name)) else { return Ok(self.broken()) };
        if &name == b"moof" {
            self.fragmented = true;
            if length <= rest && !self.resumes(window, at)? {
                return Ok(Link::Broken);
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
    fn broken(&self) -> Link {
        if self.fragmented { Link::Broken } else { Link::End }
    }
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
