//! What the parent asks of one media child and what the child answers: plain values, no I/O.
//!
//! The protocol is private to one build (parent and child are the same executable), so values travel as JSON and only
//! payload travels raw. `wire.rs` holds the frames; this file holds their meaning.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use spool_proto::media::{InitSection, NS_PER_S, Plan, Segment, SourceFacts};

/// One order to one child. A child serves exactly one and ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Find out what the source is.
    Inspect {
        /// What is refused for its size.
        limits: InspectLimits,
    },
    /// Encode a run of chunks of the picture, every rung of the plan, in one decode.
    Video {
        /// What inspecting found.
        facts: SourceFacts,
        /// What is to be made.
        plan: Plan,
        /// First and last chunk.
        chunks: RangeInclusive<u32>,
        /// Hash each frame that enters the tee and state it by [`Output::frame_hash`]; for tests.
        frame_hashes: bool,
    },
    /// Encode the sound track over the whole span, stating each chunk from `from_chunk` on.
    Audio {
        /// What inspecting found.
        facts: SourceFacts,
        /// What is to be made.
        plan: Plan,
        /// The first chunk whose object is wanted; earlier ones are encoded and not sent.
        from_chunk: u32,
    },
    /// Make the still picture of that name in the plan.
    Still {
        /// What inspecting found.
        facts: SourceFacts,
        /// What is to be made.
        plan: Plan,
        /// Its name in `plan.stills`.
        name: String,
    },
}

/// How much somebody waits for an order: more is a greater nice value (setpriority(2)), so less of a busy processor.
///
/// All children give way to the roles, which answer people; what a video can't begin to play without goes before the rest
/// of other videos; and an earlier part before a later one, of the same video as of others: a player needs it sooner, and
/// one child keeps a small machine busy. A step of 3 halves the share.
const NICE_FIRST: i32 = 2;
/// Picture and sound by position: until a video may open where the encoder is half as fast again as a player (12 s), …
const NICE_BY_POSITION: [(u64, i32); 4] =
    [(12 * NS_PER_S, NICE_FIRST), (40 * NS_PER_S, 6), (120 * NS_PER_S, 9), (u64::MAX, 12)];
/// Nobody waits for it before all the rest is there, but it is short.
const NICE_STILL: i32 = 9;

impl Order {
    /// Where on the timeline its child begins, in nanoseconds.
    pub(crate) fn starts_at_ns(&self) -> u64 {
        match self {
            Self::Video { plan, chunks, .. } => plan.chunk_span_ns(*chunks.start()).0,
            Self::Inspect { .. } | Self::Audio { .. } | Self::Still { .. } => 0,
        }
    }

    /// Started hours of video that its child works on; at least one.
    pub(crate) fn hours(&self) -> u64 {
        let ns = match self {
            Self::Video { plan, chunks, .. } => plan.chunk_span_ns(*chunks.end()).1.saturating_sub(self.starts_at_ns()),
            Self::Audio { plan, .. } => plan.duration_ns(),
            Self::Inspect { .. } | Self::Still { .. } => 0,
        };
        ns.div_ceil(3_600 * NS_PER_S).max(1)
    }

    /// The nice value of its child by how far on the timeline it is, in nanoseconds.
    pub(crate) fn nice(&self) -> fn(u64) -> i32 {
        match self {
            Self::Inspect { .. } => |_| NICE_FIRST,
            Self::Video { .. } | Self::Audio { .. } => |at_ns| {
                NICE_BY_POSITION.iter().find(|(before_ns, _)| at_ns < *before_ns).map_or(NICE_FIRST, |(_, nice)| *nice)
            },
            Self::Still { .. } => |_| NICE_STILL,
        }
    }
}

/// What inspecting refuses for its size or length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectLimits {
    /// Greatest width or height of a stored picture.
    pub max_side_px: u32,
    /// Greatest product of the two.
    pub max_pixels: u64,
    /// Most frames or sound packets of one stream.
    pub max_samples: u64,
    /// Longest source; none where that is left open.
    pub max_duration_ms: Option<u64>,
}

impl Default for InspectLimits {
    /// 8192 on a side and 8K (7680 x 4320) in area: what H.264 level 6.2 allows; 8 million samples are 37 h at 60 fps.
    fn default() -> Self {
        Self { max_side_px: 8192, max_pixels: 7680 * 4320, max_samples: 8_000_000, max_duration_ms: None }
    }
}

/// What was made of one rendition and one chunk: the receipt but for the key and the digest of the whole object, which
/// the parent computes from the bytes that it stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Bytes of the object: the sum of what [`Output::bytes`] was given.
    pub length: u64,
    /// Its initialisation section.
    pub init: InitSection,
    /// Ticks a second.
    pub timescale: u32,
    /// Decode time of the first sample, in ticks.
    pub start_ticks: u64,
    /// Its segments in order.
    pub segments: Vec<Segment>,
    /// Frames of picture, or AAC frames.
    pub samples: u64,
    /// Codec as RFC 6381 writes it.
    pub codec: String,
    /// Time in which the source had nothing for it though it should, in milliseconds.
    pub missing_ms: u64,
}

/// A still picture that was made; its bytes went over [`Output::bytes`] as chunk 0 of its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StillMade {
    /// Its name in the plan.
    pub name: String,
    /// Bytes.
    pub length: u64,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `image/jpeg`.
    pub content_type: String,
}

/// The child's last word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "one of these for each child, at its end")]
pub enum Answer {
    /// To `Inspect`.
    Inspected(SourceFacts),
    /// To `Video` and `Audio`: every object of the order was stated.
    Encoded,
    /// To `Still`.
    Still(StillMade),
    /// It could not be done.
    Failed(Failure),
}

/// Why an order could not be served. The names are those of the contract's problem codes, and the parameters noted
/// beside them are those that the contract's sentences name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// No bytes.
    SourceEmpty,
    /// Not sound or picture: `found`.
    SourceNotMedia,
    /// One picture: `found`.
    SourceStillImage,
    /// A container that is not on the list: `found`.
    SourceContainerUnsupported,
    /// A codec that is not on the list or has no decoder: `kind`, `codec`.
    SourceCodecUnsupported,
    /// Neither picture nor sound in it: `found`.
    SourceNoStreams,
    /// The index that tells where the frames lie is missing: `part`.
    SourceIndexMissing,
    /// Streams are declared and hold nothing: `expected`.
    SourceNoSamples,
    /// The structure contradicts itself or cannot be read: `part`.
    SourceCorrupt,
    /// Media that the file promises is missing or broken: `expected`, `got` (as people read them: `12.0 s`).
    SourceDamaged,
    /// Larger than the limit: `width`, `height`, `limit`.
    SourcePictureTooLarge,
    /// Longer, or of more frames, than is taken: `duration`, `limit`.
    SourceTooLong,
    /// Encrypted: `kind`, `found`.
    SourceEncrypted,
    /// Nothing of it could be decoded: `kind`, `codec`.
    SourceUndecodable,
    /// The source's bytes could not be had from the parent: `detail`. Not the source's fault.
    SourceUnreadable,
    /// The child died: `signal` or `exit`.
    ChildCrashed,
    /// Somebody or something else on the machine ended the child: `signal`. Not the source's fault.
    ChildKilled,
    /// Nothing moved for the stall limit: `limit`.
    ChildStalled,
    /// Nothing moved for longer than a busy machine excuses: `limit`. Not the source's fault.
    ChildStarved,
    /// The memory limit was reached: `limit`.
    ChildMemory,
    /// The limit of processor time was reached: `limit`.
    ChildCpu,
    /// The kernel cannot shut the cage: `detail`.
    CageUnavailable,
    /// Our own fault: a pipeline that cannot be built, a plan that contradicts itself, a missing plugin.
    ChildFailed,
}

impl FailureCode {
    /// Every code.
    pub const ALL: [FailureCode; 23] = [
        Self::SourceEmpty,
        Self::SourceNotMedia,
        Self::SourceStillImage,
        Self::SourceContainerUnsupported,
        Self::SourceCodecUnsupported,
        Self::SourceNoStreams,
        Self::SourceIndexMissing,
        Self::SourceNoSamples,
        Self::SourceCorrupt,
        Self::SourceDamaged,
        Self::SourcePictureTooLarge,
        Self::SourceTooLong,
        Self::SourceEncrypted,
        Self::SourceUndecodable,
        Self::SourceUnreadable,
        Self::ChildCrashed,
        Self::ChildKilled,
        Self::ChildStalled,
        Self::ChildStarved,
        Self::ChildMemory,
        Self::ChildCpu,
        Self::CageUnavailable,
        Self::ChildFailed,
    ];

    /// As the contract writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SourceEmpty => "source_empty",
            Self::SourceNotMedia => "source_not_media",
            Self::SourceStillImage => "source_still_image",
            Self::SourceContainerUnsupported => "source_container_unsupported",
            Self::SourceCodecUnsupported => "source_codec_unsupported",
            Self::SourceNoStreams => "source_no_streams",
            Self::SourceIndexMissing => "source_index_missing",
            Self::SourceNoSamples => "source_no_samples",
            Self::SourceCorrupt => "source_corrupt",
            Self::SourceDamaged => "source_damaged",
            Self::SourcePictureTooLarge => "source_picture_too_large",
            Self::SourceTooLong => "source_too_long",
            Self::SourceEncrypted => "source_encrypted",
            Self::SourceUndecodable => "source_undecodable",
            Self::SourceUnreadable => "source_unreadable",
            Self::ChildCrashed => "child_crashed",
            Self::ChildKilled => "child_killed",
            Self::ChildStalled => "child_stalled",
            Self::ChildStarved => "child_starved",
            Self::ChildMemory => "child_memory",
            Self::ChildCpu => "child_cpu",
            Self::CageUnavailable => "cage_unavailable",
            Self::ChildFailed => "child_failed",
        }
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure with a name: a code, typed parameters for the sentence that people read, and a detail for operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{code}: {detail}")]
pub struct Failure {
    /// What kind.
    pub code: FailureCode,
    /// Values of the sentence for people.
    pub params: BTreeMap<String, String>,
    /// For operators.
    pub detail: String,
}

impl Failure {
    /// A failure without parameters yet.
    pub fn new(code: FailureCode, detail: impl Into<String>) -> Self {
        Self { code, params: BTreeMap::new(), detail: detail.into() }
    }

    /// With one more parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.params.insert(name.to_owned(), value.to_string());
        self
    }

    /// Our own fault, not the source's.
    pub fn own(detail: impl Into<String>) -> Self {
        Self::new(FailureCode::ChildFailed, detail)
    }
}

/// The parent has gone or takes nothing more; whoever meets it stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the parent takes no more output")]
pub struct OutputClosed;

impl From<OutputClosed> for Failure {
    fn from(closed: OutputClosed) -> Self {
        Self::own(closed.to_string())
    }
}

/// Where the work of an order goes.
pub trait Output: Send + Sync {
    /// Bytes of the object of (`rendition`, `chunk`), in order. Blocks while the parent is slow: back-pressure reaches
    /// the decoder.
    fn bytes(&self, rendition: &str, chunk: u32, data: &[bytes::Bytes]) -> Result<(), OutputClosed>;
    /// The object is whole.
    fn object_done(&self, rendition: &str, chunk: u32, made: Made) -> Result<(), OutputClosed>;
    /// Work moves (frames decoded, bytes demuxed): feeds the parent's stall watch, lease and percent.
    fn progress(&self, at_ns: u64) -> Result<(), OutputClosed>;
    /// A raw frame entered the tee; only where the order asks for it.
    fn frame_hash(&self, at_ns: u64, hash: u64) -> Result<(), OutputClosed>;
}

#[cfg(test)]
mod tests {
    use spool_proto::testing::values::{plan, source_facts};

    use super::*;

    #[test]
    fn what_a_player_needs_sooner_goes_first() {
        let plan = plan(&[1, 1, 1, 2, 2, 3, 3, 4], 68_000);
        let facts = source_facts(68_000);
        let video = |chunks| Order::Video { facts: facts.clone(), plan: plan.clone(), chunks, frame_hashes: false };
        let begins = |order: &Order| order.nice()(order.starts_at_ns());
        let audio = Order::Audio { facts: facts.clone(), plan: plan.clone(), from_chunk: 3 };
        assert_eq!([0, 30, 500].map(|s| audio.nice()(s * NS_PER_S)), [2, 6, 12]);
        let parts: Vec<i32> = [0..=3, 4..=5, 6..=6, 7..=7].map(|chunks| begins(&video(chunks))).to_vec();
        assert_eq!(parts, [2, 6, 9, 9]);
        let nice = video(0..=7).nice();
        assert_eq!([0, 11, 12, 39, 40, 130].map(|s| nice(s * NS_PER_S)), [2, 2, 6, 6, 9, 12]);
    }

    #[test]
    fn a_long_pass_may_take_as_much_longer() {
        let facts = source_facts(9_000_000);
        let plan = plan(&[900, 900, 450], 9_000_000);
        let video = |chunks| Order::Video { facts: facts.clone(), plan: plan.clone(), chunks, frame_hashes: false };
        assert_eq!([0..=0, 2..=2, 0..=1, 0..=2].map(|chunks| video(chunks).hours()), [1, 1, 2, 3]);
        assert_eq!(Order::Inspect { limits: InspectLimits::default() }.hours(), 1);
    }
}
