//! Media values: what a source is, what is to be made of it, what was made.
//!
//! Times are nanoseconds of the source's stream time (as its demuxer states it after edit lists) unless a name says
//! otherwise. Sizes are pixels, bytes, or bits a second, as the name says.

use serde::{Deserialize, Serialize};

use crate::id::{Sha256, UploadId};

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

/// Container formats that Spool takes. A closed list on purpose: an unknown one is refused by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Container {
    /// ISO base media and QuickTime: MP4, MOV, M4V, 3GP.
    Mp4,
    /// Matroska and WebM.
    Matroska,
    /// MPEG transport stream, also M2TS.
    MpegTs,
    /// MPEG program stream.
    MpegPs,
    /// AVI.
    Avi,
    /// Flash video.
    Flv,
    /// Ogg.
    Ogg,
    /// ASF: WMV, WMA.
    Asf,
    /// MXF.
    Mxf,
    /// Bare audio: WAV, MP3, FLAC, ADTS and the like.
    Audio,
}

/// May separate workers decode separate chunks of this source?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// Accurate seeks give the same frames as reading through.
    Exact,
    /// One worker reads it through and states each chunk as it is stored.
    Whole,
}

/// How the stored picture must be turned for display (EXIF numbering, TIFF 6.0 tag 274).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Orientation {
    /// As stored.
    #[default]
    Upright,
    /// A quarter turn clockwise.
    Rotate90,
    /// Half a turn.
    Rotate180,
    /// A quarter turn anticlockwise.
    Rotate270,
    /// Mirrored left to right.
    FlipRotate0,
    /// Mirrored, then a quarter turn clockwise.
    FlipRotate90,
    /// Mirrored, then half a turn.
    FlipRotate180,
    /// Mirrored, then a quarter turn anticlockwise.
    FlipRotate270,
}

impl Orientation {
    /// Does displaying swap width and height?
    pub fn swaps_sides(self) -> bool {
        match self {
            Self::Rotate90 | Self::Rotate270 | Self::FlipRotate90 | Self::FlipRotate270 => true,
            Self::Upright | Self::Rotate180 | Self::FlipRotate0 | Self::FlipRotate180 => false,
        }
    }
}

/// Dynamic range of the picture as its transfer function states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DynamicRange {
    /// Standard.
    #[default]
    Sdr,
    /// Hybrid log gamma (ARIB STD-B67, BT.2100).
    Hlg,
    /// Perceptual quantiser (SMPTE ST 2084, BT.2100).
    Pq,
}

/// A frame rate as a fraction, frames a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameRate {
    /// Numerator.
    pub num: u32,
    /// Denominator; at least 1.
    pub den: u32,
}

impl FrameRate {
    /// Frames a second.
    pub fn fps(self) -> f64 {
        f64::from(self.num) / f64::from(self.den.max(1))
    }
}

/// The chosen picture of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoFacts {
    /// Zero-based position of the stream among the source's streams of its kind, in the demuxer's order.
    pub stream: u32,
    /// Codec in the field's words: `h264`, `hevc`, `vp9`, `av1`, `prores`, …
    pub codec: String,
    /// Stored width in pixels.
    pub width: u32,
    /// Stored height in pixels.
    pub height: u32,
    /// Pixel aspect ratio, width to height of one pixel.
    pub pixel_aspect: (u32, u32),
    /// How it must be turned.
    pub orientation: Orientation,
    /// Width as displayed: square pixels, turned upright; may be odd.
    pub display_width: u32,
    /// Height as displayed.
    pub display_height: u32,
    /// Measured mean rate, or the exact one where it is constant.
    pub frame_rate: FrameRate,
    /// Do the distances between frames vary?
    pub variable_rate: bool,
    /// Frames counted by demuxing, where that was done.
    pub frames: Option<u64>,
    /// Flagged as interlaced.
    pub interlaced: bool,
    /// Bits of one luma sample.
    pub bit_depth: u32,
    /// Transfer function class.
    pub dynamic_range: DynamicRange,
    /// GStreamer's colorimetry string (`bt709`, `1:3:5:1`, …); empty when unknown.
    pub colorimetry: String,
    /// Stream time of the first frame.
    pub first_ns: u64,
    /// Stream time at which the last frame ends.
    pub end_ns: u64,
    /// Longest time for which the source shows one frame on purpose; 0 where nobody measured it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub longest_gap_ns: u64,
}

/// The chosen sound of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioFacts {
    /// Zero-based position of the stream among the source's streams of its kind, in the demuxer's order.
    pub stream: u32,
    /// Codec in the field's words: `aac`, `mp3`, `opus`, …
    pub codec: String,
    /// Samples a second.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u32,
    /// Language as the source states it (ISO 639 or BCP 47), if it does.
    pub language: Option<String>,
    /// Stream time of the first sample.
    pub first_ns: u64,
    /// Stream time at which the last sample ends.
    pub end_ns: u64,
}

/// What inspecting a source found; the measure that every worker uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFacts {
    /// Container format.
    pub container: Container,
    /// May its timeline be cut?
    pub cut: Cut,
    /// Zero of the timeline: stream time of the earliest chosen sample.
    pub zero_ns: u64,
    /// End of the timeline: stream time at which the last chosen sample ends.
    pub end_ns: u64,
    /// The chosen picture.
    pub video: Option<VideoFacts>,
    /// The chosen sound.
    pub audio: Option<AudioFacts>,
    /// Number of video streams in the source.
    pub video_streams: u32,
    /// Number of audio streams in the source.
    pub audio_streams: u32,
    /// Number of subtitle streams in the source.
    pub subtitle_streams: u32,
    /// Does it say where it was recorded? (Only that it does: the place itself is personal data.)
    pub has_location: bool,
    /// Does it name the recording device?
    pub has_device: bool,
    /// For each segment of the grid, the greatest distance in milliseconds from a frame back to its keyframe, where known.
    pub keyframe_gaps_ms: Vec<u32>,
    /// Length in milliseconds that the source states for itself, where far less is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promised_ms: Option<u64>,
    /// Spans of bytes that readers see mended, in order: what no reader can make anything of is left out, and in an MPEG
    /// transport stream the clock goes on in steps where it leaps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<Span>,
}

/// A span of a source's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl SourceFacts {
    /// Length of the timeline in nanoseconds.
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.zero_ns)
    }
}

/// One rung of the ladder: a rendition of the picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// Name of the rendition, unique in the ladder, `[a-z0-9]+`: `v720`.
    pub id: String,
    /// Even width in pixels.
    pub width: u32,
    /// Even height in pixels.
    pub height: u32,
    /// Constant-quality target of x264 (lower is better).
    pub crf: u32,
    /// Greatest rate over the buffer, bits a second.
    pub max_bps: u64,
    /// Size of the rate buffer in milliseconds of `max_bps`.
    pub buffer_ms: u32,
    /// x264 threads: part of the order, because they are part of the bytes.
    pub threads: u32,
}

/// How the picture is encoded, the same for every rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoPlan {
    /// Ticks a second of the video tracks.
    pub timescale: u32,
    /// Rate told to the encoder's rate control; timestamps are the source's own.
    pub frame_rate: FrameRate,
    /// Keep every n-th frame (1 keeps all); 2 above 60 frames a second.
    pub keep_every: u32,
    /// Distance of keyframes in nanoseconds; divides the segment.
    pub keyframe_ns: u64,
}

/// How the sound is encoded. One AAC track, stereo, 48 kHz.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioPlan {
    /// Name of the rendition, `[a-z0-9]+`: `a0`.
    pub id: String,
    /// Bits a second.
    pub bps: u64,
    /// Samples a second; also the track's timescale.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u32,
    /// Language of the track, if the source states it.
    pub language: Option<String>,
}

/// A still picture to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StillPlan {
    /// Name, `[a-z0-9]+`: `poster`.
    pub name: String,
    /// Time on the asset's timeline (from zero) of the frame to take.
    pub at_ns: u64,
    /// Even width.
    pub width: u32,
    /// Even height.
    pub height: u32,
}

/// Which result of an earlier generation counts for this one too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenOver {
    /// The generation that made it.
    pub generation: u32,
    /// What it is.
    pub part: Part,
    /// Keys of its objects, so that a sweeper knows them without that generation.
    pub keys: Vec<String>,
}

/// One part of an encode that a fact states.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// All renditions of one chunk of the picture.
    Video {
        /// Chunk index.
        chunk: u32,
    },
    /// One chunk of one sound track.
    Audio {
        /// Track index.
        track: u32,
        /// Chunk index.
        chunk: u32,
    },
    /// A still picture.
    Still {
        /// Its name.
        name: String,
    },
}

/// A ladder, a grid and chunks: a profile's answer to one source. The body of `EncodePlanned`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Zero of the timeline in the source's stream time.
    pub zero_ns: u64,
    /// End of the timeline in the source's stream time.
    pub end_ns: u64,
    /// Length of a segment.
    pub segment_ns: u64,
    /// Number of segments in each chunk, in order. Their sum is the number of segments; the last runs to the end of media.
    pub chunks: Vec<u32>,
    /// May chunks be decoded apart?
    pub cut: Cut,
    /// How the picture is encoded; with `rungs` empty exactly when there is no picture.
    pub video: Option<VideoPlan>,
    /// The ladder, highest first.
    pub rungs: Vec<Rung>,
    /// The sound track.
    pub audio: Option<AudioPlan>,
    /// Still pictures.
    pub stills: Vec<StillPlan>,
    /// What earlier generations already made for equal orders.
    pub taken_over: Vec<TakenOver>,
}

impl Plan {
    /// Length of the timeline in nanoseconds.
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.zero_ns)
    }

    /// Index of the first segment of `chunk`.
    pub fn first_segment(&self, chunk: u32) -> u32 {
        self.chunks.iter().take(chunk as usize).sum()
    }

    /// `[start, end)` of `chunk` on the asset's timeline (from zero). The last chunk ends with the timeline.
    pub fn chunk_span_ns(&self, chunk: u32) -> (u64, u64) {
        let first = u64::from(self.first_segment(chunk));
        let segments = self.chunks.get(chunk as usize).copied().unwrap_or(0);
        let last = chunk as usize + 1 >= self.chunks.len();
        let end = if last { self.duration_ns() } else { (first + u64::from(segments)) * self.segment_ns };
        (first * self.segment_ns, end)
    }

    /// Number of chunks.
    pub fn chunk_count(&self) -> u32 {
        self.chunks.len() as u32
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(chunks: &[u32], duration_s: u64) -> Plan {
        Plan {
            zero_ns: 500,
            end_ns: 500 + duration_s * NS_PER_S,
            segment_ns: 4 * NS_PER_S,
            chunks: chunks.to_vec(),
            cut: Cut::Exact,
            video: None,
            rungs: vec![],
            audio: None,
            stills: vec![],
            taken_over: vec![],
        }
    }

    #[test]
    fn chunks_cover_the_timeline_without_gap_and_the_last_runs_to_its_end() {
        let plan = plan(&[1, 2, 4], 27);
        let spans: Vec<_> = (0..3).map(|c| plan.chunk_span_ns(c)).collect();
        assert_eq!(spans, [(0, 4 * NS_PER_S), (4 * NS_PER_S, 12 * NS_PER_S), (12 * NS_PER_S, 27 * NS_PER_S)]);
    }
}
