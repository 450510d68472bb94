//! Matroska: elements of a segment, and in its clusters blocks (RFC 9559). A broken chain goes on at the next cluster.
//!
//! On the way it is noted what a track's last block says of its end: an encoder fills its last block up, and how much of it
//! is not to be heard (`DiscardPadding`) no demuxer hands on but that of Opus.

use std::collections::BTreeMap;

use spool_proto::media::Span;

use super::joined::Joined;
use super::{Chain, Link, Window};
use crate::child::formats::ebml::{self, CLUSTER, Head, SEGMENT, TRACKS, number};

/// Bytes of the longest element head.
const HEAD_BYTES: u64 = ebml::HEAD_BYTES as u64;
/// What stands in a segment: SeekHead, Info, Tracks, Cluster, Cues, Tags, Attachments, Chapters.
const IN_SEGMENT: [u32; 8] =
    [0x114d_9b74, 0x1549_a966, TRACKS, CLUSTER, 0x1c53_bb6b, 0x1254_c367, 0x1941_a469, 0x1043_a770];
/// What stands in a cluster: Timestamp, SimpleBlock, BlockGroup, Position, PrevSize, EncryptedBlock, SilentTracks.
const IN_CLUSTER: [u32; 7] = [0xe7, 0xa3, 0xa0, 0xa7, 0xab, 0xaf, 0x5854];
/// What stands anywhere: Void and CRC-32.
const ANYWHERE: [u32; 2] = [0xec, 0xbf];
const VOID: u8 = 0xec;
/// Bytes of the largest empty element: `matroskademux` takes one beyond 15 MiB for damage.
const LARGEST_FILLER: u64 = 8 << 20;
const EBML: u32 = 0x1a45_dfa3;
const TIMESTAMP: u32 = 0xe7;

const SIMPLE_BLOCK: u32 = 0xa3;
const BLOCK_GROUP: u32 = 0xa0;
const BLOCK: u32 = 0xa1;
const DISCARD_PADDING: u32 = 0x75a2;
/// Elements of a group that are looked at, and tracks whose ends are noted.
const MOST_IN_GROUP: usize = 16;
const MOST_TRACKS: usize = 256;

/// The walk: where the cluster ends that is being walked, if one is, and its end is known.
#[derive(Default)]
pub(super) struct Elements {
    cluster: Option<Option<u64>>,
    /// Of each track whose last block so far is filled up: for how many nanoseconds.
    pub(super) filled: BTreeMap<u64, u64>,
    /// Where other recordings begin, that follow the first one.
    pub(super) more: Joined,
}

impl Elements {
    /// Notes what a whole block, or a group around one, says of its track's end.
    fn note(&mut self, window: &mut Window<'_>, id: u32, body_at: u64, end: u64) -> Result<(), String> {
        let (track, filled_ns) = match id {
            SIMPLE_BLOCK => (track(window, body_at)?, 0),
            BLOCK_GROUP => group(window, body_at, end)?,
            _ => return Ok(()),
        };
        let Some(track) = track else { return Ok(()) };
        if filled_ns == 0 {
            self.filled.remove(&track);
        } else if self.filled.len() < MOST_TRACKS {
            self.filled.insert(track, filled_ns);
        }
        Ok(())
    }
}

/// The number of a block's track: as elements state lengths.
fn track(window: &mut Window<'_>, block_at: u64) -> Result<Option<u64>, String> {
    let Some(first) = window.get(block_at, 1)?.map(|bytes| bytes[0]).filter(|first| *first != 0) else {
        return Ok(None);
    };
    let length = first.leading_zeros() as usize + 1;
    let marked = window.get(block_at, length)?.map(number);
    Ok(marked.map(|marked| marked & !(1 << (7 * length))))
}

/// The track of the block in a group, and for how long that is filled up at its end.
fn group(window: &mut Window<'_>, mut at: u64, end: u64) -> Result<(Option<u64>, u64), String> {
    let (mut of, mut filled_ns) = (None, 0);
    for _ in 0..MOST_IN_GROUP {
        let Some(head) = head(window, at)?.filter(|_| at < end) else { break };
        let body_at = at + head.length as u64;
        let Some(next) = head.body.and_then(|body| body_at.checked_add(body)).filter(|next| *next <= end) else {
            break;
        };
        match (head.id, next - body_at) {
            (BLOCK, _) => of = track(window, body_at)?,
            // A signed number: below zero it is said of the block's beginning.
            (DISCARD_PADDING, length @ 1..=8) => {
                let bytes = window.get(body_at, length as usize)?;
                filled_ns = bytes.filter(|bytes| bytes[0] & 0x80 == 0).map_or(0, number);
            }
            (_, _) => {}
        }
        at = next;
    }
    Ok((of, filled_ns))
}

fn head(window: &mut Window<'_>, at: u64) -> Result<Option<Head>, String> {
    let most = HEAD_BYTES.min(window.size.saturating_sub(at));
    Ok(window.get(at, most as usize)?.and_then(Head::of))
}

/// Where the inside of a file's segment begins, if one begins at `at`.
fn segment_at(window: &mut Window<'_>, at: u64) -> Result<Option<u64>, String> {
    let Some(ebml) = head(window, at)?.filter(|head| head.id == EBML) else { return Ok(None) };
    let Some(at) = ebml.body.and_then(|body| body.checked_add(at + ebml.length as u64)) else { return Ok(None) };
    let segment = head(window, at)?.filter(|head| head.id == SEGMENT);
    Ok(segment.map(|segment| at + segment.length as u64))
}

impl Chain for Elements {
    const MARKS: &'static [&'static [u8]] = &[&[0x1f, 0x43, 0xb6, 0x75]];
    const MARK_AT: u64 = 0;
    const LEAST: u64 = 2;

    fn first(&mut self, window: &mut Window<'_>) -> Result<Option<u64>, String> {
        segment_at(window, 0)
    }

    fn link(&mut self, window: &mut Window<'_>, at: u64) -> Result<Link, String> {
        if self.cluster.flatten().is_some_and(|end| at >= end) {
            self.cluster = None;
        }
        if at >= window.size {
            return Ok(Link::End);
        }
        let Some(head) = head(window, at)? else {
            return Ok(if window.size - at < HEAD_BYTES { Link::End } else { Link::Broken });
        };
        let body_at = at + head.length as u64;
        // A whole file of its own: pieces of a recording that was begun anew, put into one.
        if head.id == EBML
            && self.cluster.flatten().is_none()
            && let Some(inside) = segment_at(window, at)?
        {
            self.more.note(at);
            self.cluster = None;
            return Ok(Link::Next(inside));
        }
        if head.id == CLUSTER {
            // In a cluster of known length one would be a cluster inside a cluster: that length was wrong.
            self.cluster = Some(head.body.map(|body| body_at.saturating_add(body)));
            return Ok(Link::Next(body_at));
        }
        let known = ANYWHERE.contains(&head.id)
            || IN_SEGMENT.contains(&head.id) && self.cluster.flatten().is_none()
            || IN_CLUSTER.contains(&head.id) && self.cluster.is_some();
        let Some(end) = head.body.and_then(|body| body_at.checked_add(body)).filter(|_| known) else {
            return Ok(Link::Broken);
        };
        if IN_SEGMENT.contains(&head.id) {
            self.cluster = None;
        }
        match self.cluster.flatten() {
            // Of what is passed over only the end counts, as of our own fillers.
            Some(cluster_end) if end > cluster_end && !ANYWHERE.contains(&head.id) => Ok(Link::Broken),
            Some(_) | None if end > window.size => {
                // The file ends in it; or its length came out of damage.
                let cut = super::resume(window, self, at)?.is_none();
                Ok(if cut { Link::End } else { Link::Broken })
            }
            Some(_) | None => {
                self.note(window, head.id, body_at, end)?;
                Ok(Link::Next(end))
            }
        }
    }

    fn resumes(&mut self, window: &mut Window<'_>, at: u64) -> Result<bool, String> {
        let Some(cluster) = head(window, at)? else { return Ok(false) };
        let child = head(window, at + cluster.length as u64)?;
        let starts = |id| id == TIMESTAMP || ANYWHERE.contains(&id) || id == 0xa7 || id == 0xab;
        Ok(child.is_some_and(|child| starts(child.id) && child.body.is_some_and(|body| body < 0x10_0000)))
    }
}

/// Empty elements over the span. They may begin in a cluster and end behind it: the demuxer goes by the element.
pub(super) fn filler(span: Span) -> Vec<(u64, Vec<u8>)> {
    let (mut at, mut left) = (span.offset, span.length);
    let mut changes = Vec::new();
    while left > 1 {
        // One byte can hold no element.
        let length = if left == LARGEST_FILLER + 1 { left - 2 } else { left.min(LARGEST_FILLER) };
        let head = match length {
            ..=120 => vec![VOID, 0x80 | (length - 2) as u8],
            _ => [&[VOID][..], &((length - 9) | 1 << 56).to_be_bytes()].concat(),
        };
        changes.push((at, head));
        (at, left) = (at + length, left - length);
    }
    changes
}
