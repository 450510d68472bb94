//! The grid: where segments and chunks begin, and whether chunks may be decoded apart. Pure.

use spool_proto::job;
use spool_proto::media::{Cut, NS_PER_MS, NS_PER_S, SourceFacts};

/// Length of a segment. Short enough to start and switch quickly, long enough that requests and boxes cost little; two
/// keyframes each. (Apple advises 6 s and takes less.)
pub const SEGMENT_NS: u64 = 4 * NS_PER_S;
/// Distance of keyframes: Apple's advice, and what seeking feels immediate with.
pub const KEYFRAME_NS: u64 = 2 * NS_PER_S;
/// A tail shorter than this joins the segment before it. Between the two bounds that there are: a segment needs a frame of
/// its own, which it surely has from 0.4 s on (design §6: a frame still shown then is repeated); and a joined segment must
/// still round to 4 s, an AAC frame at either border included, since the target duration of a growing list is fixed before
/// its end is made.
const TAIL_NS: u64 = 450 * NS_PER_MS;
/// Chunks grow up to this many segments (32 s) in short sources: with more the last worker is waited for, with fewer
/// starting costs too much.
const CHUNK_SEGMENTS: u32 = 8;
/// Long sources have longer chunks: an hour has some forty, and so forty facts.
const CHUNKS_AT_FULL_SIZE: u32 = 32;
/// The first chunks are a segment each: something plays early, and how fast the encoder is gets known early.
const SINGLES: u32 = 3;
/// A chunk is listed when all of it is stored, so while it is made a player lives on its lead. What a slow encoder gains
/// on playing grows with the position, and so may the chunks: by this share of it. (With chunks that double, as the first
/// design had them, an encoder at 1.5 times playing speed needs a lead of 60 s before a long video may open; with these it
/// needs 12 s.)
const GROWTH: Share = Share { of: 5, beyond: 9 };

/// `(position + beyond) / of`, rounded down: 1.8 segments and a fifth of the position.
struct Share {
    of: u32,
    beyond: u32,
}
/// Share of decoding in the work of a ladder: five decodes and encodes cost 1/0.6 of one decode and five encodes
/// (measured, `gstreamer.md`), so a decode is a fifth of the five encodes, a sixth of the whole.
const DECODE_SHARE: u64 = 6;
/// Seeking reads from this much before a chunk's start (design §6), besides the way back to the keyframe.
const SEEK_MARGIN_MS: u64 = 500;
/// Distance back to the keyframe where the source does not say: x264's default of 250 frames at 25 a second.
const UNKNOWN_GAP_MS: u64 = 10_000;
/// Decoding apart may cost this share of the whole work at most: a tenth.
const WORTH_PERCENT: u64 = 10;

/// Number of segments on a timeline of that length; at least one.
pub fn segments(duration_ns: u64) -> u32 {
    let (whole, tail) = (duration_ns / SEGMENT_NS, duration_ns % SEGMENT_NS);
    let segments = if tail >= TAIL_NS { whole + 1 } else { whole };
    u32::try_from(segments.max(1)).unwrap_or(u32::MAX)
}

/// Number of segments in each chunk: 1, 1, 1, 2, 2, 3, 3, 4, …, so that something plays early and goes on playing, up to the
/// size that fits the length.
pub fn chunks(segments: u32) -> Vec<u32> {
    let largest = CHUNK_SEGMENTS.max(segments.div_ceil(CHUNKS_AT_FULL_SIZE));
    let (mut at, mut chunks) = (0, Vec::new());
    while at < segments {
        let grown = if at < SINGLES { 1 } else { (at.saturating_add(GROWTH.beyond)) / GROWTH.of };
        let size = grown.min(largest).min(segments - at);
        chunks.push(size);
        at += size;
    }
    chunks
}

/// May these chunks be decoded apart? Only where the container was measured to give the same frames, and where reading
/// back to keyframes does not cost more than it is worth.
pub fn cut(facts: &SourceFacts, chunks: &[u32]) -> Cut {
    let read_again_ms: u64 =
        starts(chunks).into_iter().skip(1).map(|segment| SEEK_MARGIN_MS + gap_ms(facts, segment)).sum();
    let duration_ms = facts.duration_ns() / NS_PER_MS;
    let dear = read_again_ms * 100 > duration_ms * DECODE_SHARE * WORTH_PERCENT;
    match facts.cut {
        Cut::Exact if !dear => Cut::Exact,
        Cut::Exact | Cut::Whole => Cut::Whole,
    }
}

/// Index of the first segment of each order.
fn starts(chunks: &[u32]) -> Vec<u32> {
    job::groups(chunks).iter().map(|(first, _)| chunks.iter().take(*first as usize).sum()).collect()
}

/// How far back reading starts for a chunk that begins with `segment`.
fn gap_ms(facts: &SourceFacts, segment: u32) -> u64 {
    let gap = facts.keyframe_gaps_ms.get(segment as usize).copied().map_or(UNKNOWN_GAP_MS, u64::from);
    // Never back beyond the start.
    gap.min(u64::from(segment) * SEGMENT_NS / NS_PER_MS)
}

#[cfg(test)]
mod tests {
    use spool_proto::media::NS_PER_MS;
    use spool_proto::testing::values::source_facts;

    use super::*;

    #[test]
    fn a_short_tail_joins_its_neighbour() {
        for (ms, expected) in
            [(0, 1), (40, 1), (4_000, 1), (4_449, 1), (4_450, 2), (8_000, 2), (8_200, 2), (10_000, 3), (300_000, 75)]
        {
            assert_eq!(segments(ms * NS_PER_MS), expected, "{ms} ms");
        }
    }

    #[test]
    fn chunks_grow_and_an_hour_has_some_forty() {
        assert_eq!(chunks(1), [1]);
        assert_eq!(chunks(10), [1, 1, 1, 2, 2, 3]);
        assert_eq!(chunks(75), [1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 8, 8, 8, 8]);
        let hour = chunks(900);
        assert_eq!((hour.len(), hour[24], hour.iter().sum::<u32>()), (45, 29, 900));
        assert!(chunks(24 * 900).len() <= 65);
    }

    #[test]
    fn chunks_cover_every_number_of_segments_exactly() {
        for segments in (1..400).chain([5_000, 21_600]) {
            let chunks = chunks(segments);
            assert_eq!(chunks.iter().sum::<u32>(), segments);
            assert!(chunks.iter().all(|size| *size > 0));
        }
    }

    #[test]
    fn sparse_keyframes_and_uncut_containers_are_read_through_in_one_pass() {
        let check = |ms: u64, gap_ms: Option<u32>, stated: Cut, expected: Cut| {
            let count = segments(ms * NS_PER_MS);
            let gaps = gap_ms.map(|gap| vec![gap; count as usize]).unwrap_or_default();
            let facts = SourceFacts { keyframe_gaps_ms: gaps, cut: stated, ..source_facts(ms) };
            assert_eq!(cut(&facts, &chunks(count)), expected, "{ms} ms, {gap_ms:?}");
        };
        check(300_000, Some(2_000), Cut::Exact, Cut::Exact);
        check(300_000, Some(2_000), Cut::Whole, Cut::Whole);
        check(300_000, Some(10_000), Cut::Exact, Cut::Exact);
        check(300_000, Some(60_000), Cut::Exact, Cut::Whole);
        check(300_000, None, Cut::Exact, Cut::Exact);
        check(10_000, Some(2_000), Cut::Exact, Cut::Exact);
        check(10_000, Some(10_000), Cut::Exact, Cut::Exact);
        check(4_000, Some(10_000), Cut::Exact, Cut::Exact);
    }
}
