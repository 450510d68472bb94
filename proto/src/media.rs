//! Media values: what a source is, what is to be made of it, what was made.
//!
//! Times are nanoseconds of the source's stream time (as its demuxer states it after edit lists) unless a name says
//! otherwise. Sizes are pixels, bytes, or bits a second, as the name says.

use serde::{Deserialize, Serialize};

use crate::id::{Sha256, UploadId};

mod facts;
mod plan;
mod receipt;

pub(crate) use facts::is_zero;
pub use facts::{AudioFacts, Container, Cut, DynamicRange, FrameRate, Orientation, SourceFacts, Span, VideoFacts};
pub use plan::{AudioPlan, Part, Plan, Rung, StillPlan, TakenOver, VideoPlan};
pub use receipt::{InitSection, Receipt, Segment, StillReceipt};

/// Nanoseconds in a millisecond.
pub const NS_PER_MS: u64 = 1_000_000;
/// Nanoseconds in a second.
pub const NS_PER_S: u64 = 1_000_000_000;

/// A run of stored pieces of one upload that were written in the same epoch: `first..=last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Index of the first piece.
    pub first: u32,
    /// Index of the last piece; at least `first`.
    pub last: u32,
    /// The epoch that wrote them; part of their keys.
    pub epoch: u64,
}

/// Where the bytes of a source lie: pieces of `piece_bytes`, the last one shorter, listed as runs without a gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRef {
    /// The upload that stored them.
    pub upload: UploadId,
    /// Size of each piece but the last.
    pub piece_bytes: u64,
    /// Size of the whole.
    pub size_bytes: u64,
    /// SHA-256 of the whole.
    pub sha256: Sha256,
    /// The pieces in order. Empty for an empty source.
    pub runs: Vec<Run>,
}
