//! What is to be made of a source: a ladder, a grid and chunks.

use serde::{Deserialize, Serialize};

use super::{Cut, FrameRate};

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

#[cfg(test)]
mod tests {
    use super::super::NS_PER_S;
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
