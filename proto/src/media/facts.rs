//! What a source is, as inspecting it found: the body of `SourceAccepted`.

use serde::{Deserialize, Serialize};

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
    /// A frame that comes later than this behind its neighbour states a wrong time; 0 where none does.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub leaps_over_ns: u64,
    /// Stream time at which the last frame is first shown: it may be shown for long. 0 where nobody measured it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub last_ns: u64,
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
    /// Longest time for which the source has no sound on purpose; 0 where nobody measured it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub longest_gap_ns: u64,
    /// Sound that comes later than this behind its neighbour states a wrong time; 0 where none does.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub leaps_over_ns: u64,
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
    /// Packets of a transport stream that are missing by their numbers, at least.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_packets: u64,
    /// Recordings that follow the first one in the same file, as where files were joined byte by byte; they are not played.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_recordings: u64,
    /// Length in milliseconds that the source states for itself, where far less is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promised_ms: Option<u64>,
    /// Spans of bytes that readers see mended, in order: what no reader can make anything of is left out, and in an MPEG
    /// transport stream the clock goes on in steps where it leaps.
    /// One of four bytes is a wrong time, or the name of a wrong index: nothing is lost there.
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
