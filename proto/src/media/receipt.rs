//! What was made: objects, and how to find segments and keyframes in them.

use serde::{Deserialize, Serialize};

use crate::id::Sha256;

/// A part of an object that holds an initialisation section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitSection {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// SHA-256 of the section: equal over all chunks of a rendition, or they do not join.
    pub sha256: Sha256,
}

/// One segment of a chunk: a byte range of the chunk's object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Length in ticks of the receipt's timescale.
    pub duration_ticks: u64,
    /// Offsets of the keyframes in the object, in order.
    pub keyframes: Vec<u64>,
}

/// What was stored for one rendition and one chunk, and how to find it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Name of the rendition: a rung's or a sound track's id.
    pub rendition: String,
    /// Key of the object.
    pub key: String,
    /// Bytes of the object.
    pub length: u64,
    /// SHA-256 of the object.
    pub sha256: Sha256,
    /// Its initialisation section.
    pub init: InitSection,
    /// Ticks a second.
    pub timescale: u32,
    /// Decode time of the first sample, in ticks.
    pub start_ticks: u64,
    /// Its segments in order.
    pub segments: Vec<Segment>,
    /// Samples (frames of picture, or AAC frames).
    pub samples: u64,
    /// Codec as RFC 6381 writes it: `avc1.64001f`, `mp4a.40.2`.
    pub codec: String,
    /// What made it: names and versions, one string, equal for equal bytes.
    pub toolchain: String,
}

impl Receipt {
    /// Sum of the segments' lengths, in ticks.
    pub fn duration_ticks(&self) -> u64 {
        self.segments.iter().map(|s| s.duration_ticks).sum()
    }
}

/// A stored still picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StillReceipt {
    /// Name: `poster`.
    pub name: String,
    /// Key of the object.
    pub key: String,
    /// Bytes.
    pub length: u64,
    /// SHA-256.
    pub sha256: Sha256,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Media type: `image/jpeg`.
    pub content_type: String,
}
