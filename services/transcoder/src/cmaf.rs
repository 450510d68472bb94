//! A CMAF writer: one track, an initialisation section and segments of one fragment (`styp`, `moof`, `mdat`) each.
//!
//! Pure: no gstreamer types, no I/O, no clock. Payload is never copied. It promises exact timelines: presentation times
//! are the ones handed in, whatever the encoder calls decode times, and segment k+1 starts at the tick at which segment
//! k ends, also when different processes wrote them. It knows H.264 in `avc1` form and AAC-LC, and nothing else.

use bytes::Bytes;

mod boxes;
mod init;

use boxes::Boxes;

/// What a track carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Codec {
    /// H.264, parameter sets in the initialisation section.
    Avc {
        /// Width in pixels.
        width: u16,
        /// Height in pixels.
        height: u16,
        /// The `avcC` record.
        avcc: Vec<u8>,
        /// How far presentation is moved behind decoding, in ticks, and back again by the edit list.
        ///
        /// Offsets below zero would need no shift, but ffmpeg moves the whole picture by the greatest of them (80 ms at
        /// 25 frames a second), so the offsets stay positive.
        reorder_ticks: u32,
    },
    /// AAC-LC.
    Aac {
        /// Samples a second.
        sample_rate: u32,
        /// Channels.
        channels: u16,
        /// The AudioSpecificConfig.
        config: Vec<u8>,
        /// Bits a second, stated as a hint.
        bps: u32,
        /// Samples that the encoder puts before the first real one; hidden by the edit list.
        priming: u32,
    },
}

/// One track of a rendition: the same value gives the same initialisation section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Ticks a second.
    pub timescale: u32,
    /// ISO 639-2 code of three letters; anything else is written as undetermined.
    pub language: Option<String>,
    /// What it carries.
    pub codec: Codec,
}

/// One coded frame, in decode order.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Presentation time on the track's timeline, in ticks (for sound: decode time, priming counted).
    pub pts: u64,
    /// May decoding start here?
    pub keyframe: bool,
    /// The coded bytes.
    pub data: Bytes,
}

/// One segment, ready to be appended to an object.
#[derive(Debug, Clone)]
pub struct Fragment {
    /// Boxes and payload in order.
    pub data: Vec<Bytes>,
    /// Sum of their lengths.
    pub length: u64,
    /// Decode time of the first sample; equal to the earliest presentation time that was handed in.
    pub start_ticks: u64,
    /// Length on the timeline.
    pub duration_ticks: u64,
    /// Where the keyframes' bytes start, counted from the segment's first byte.
    pub keyframes: Vec<u64>,
}

/// Why no fragment could be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// A segment needs a sample.
    #[error("write a segment without samples")]
    Empty,
    /// Two frames at one time, or a frame at or after the segment's end: a fault of the caller's timeline.
    #[error("write a segment whose times do not increase up to its end: {at} of {end}")]
    Order {
        /// Time of the offending frame.
        at: u64,
        /// End of the segment.
        end: u64,
    },
    /// More than a 32-bit box can hold.
    #[error("write a segment of {bytes} bytes")]
    TooLarge {
        /// Payload bytes.
        bytes: u64,
    },
}

const KEYFRAME_FLAGS: u32 = 0x0200_0000;
const DELTA_FLAGS: u32 = 0x0101_0000;

impl Track {
    /// One segment of `samples` in decode order that ends (and the next one starts) at `end`.
    pub fn fragment(&self, sequence: u32, samples: &[Sample], end: u64) -> Result<Fragment, FragmentError> {
        let decode = self.decode_times(samples, end)?;
        let payload: u64 = samples.iter().map(|s| s.data.len() as u64).sum();
        let mdat_length = u32::try_from(payload + 8).map_err(|_| FragmentError::TooLarge { bytes: payload })?;
        let mut w = Boxes(Vec::with_capacity(128 + samples.len() * 16));
        w.plain(b"styp", |w| {
            w.raw(b"msdh");
            w.u32(0);
            w.raw(b"msdhmsixcmfs");
        });
        let moof = w.0.len();
        let mut data_offset = 0;
        w.plain(b"moof", |w| {
            w.full(b"mfhd", 0, 0, |w| w.u32(sequence));
            w.plain(b"traf", |w| {
                w.full(b"tfhd", 0, 0x02_0000, |w| w.u32(1));
                w.full(b"tfdt", 1, 0, |w| w.u64(decode.times[0]));
                w.full(b"trun", 0, 0xf01, |w| {
                    w.u32(samples.len() as u32);
                    data_offset = w.0.len();
                    w.u32(0);
                    for (i, sample) in samples.iter().enumerate() {
                        let next = decode.times.get(i + 1).copied().unwrap_or(end);
                        w.u32((next - decode.times[i]) as u32);
                        w.u32(sample.data.len() as u32);
                        w.u32(if sample.keyframe { KEYFRAME_FLAGS } else { DELTA_FLAGS });
                        w.u32((sample.pts + decode.shift - decode.times[i]) as u32);
                    }
                });
            });
        });
        let to_payload = (w.0.len() - moof + 8) as u32;
        w.0[data_offset..data_offset + 4].copy_from_slice(&to_payload.to_be_bytes());
        w.u32(mdat_length);
        w.raw(b"mdat");

        let mut at = w.0.len() as u64;
        let mut keyframes = Vec::new();
        for sample in samples {
            if sample.keyframe {
                keyframes.push(at);
            }
            at += sample.data.len() as u64;
        }
        let mut data = Vec::with_capacity(samples.len() + 1);
        data.push(Bytes::from(w.0));
        data.extend(samples.iter().map(|s| s.data.clone()));
        let start_ticks = decode.times[0];
        Ok(Fragment { data, length: at, start_ticks, duration_ticks: end - start_ticks, keyframes })
    }

    /// Decode times of a segment.
    ///
    /// The i-th frame in decode order gets the i-th smallest presentation time, moved forward by the edit list's shift,
    /// or earlier where a frame would otherwise be decoded after it is shown (long gaps in a variable rate). Both
    /// sequences increase by at least one tick, so their minimum does. No neighbour segment is needed: the first decode
    /// time is the first presentation time, so segments written apart join without gap.
    fn decode_times(&self, samples: &[Sample], end: u64) -> Result<DecodeTimes, FragmentError> {
        if samples.is_empty() {
            return Err(FragmentError::Empty);
        }
        let shift = match &self.codec {
            Codec::Avc { reorder_ticks, .. } => u64::from(*reorder_ticks),
            Codec::Aac { .. } => 0,
        };
        let mut times: Vec<u64> = samples.iter().map(|s| s.pts).collect();
        times.sort_unstable();
        for (i, &at) in times.iter().enumerate() {
            if at >= times.get(i + 1).copied().unwrap_or(end) {
                return Err(FragmentError::Order { at, end });
            }
        }
        let first = times[0];
        let mut latest = u64::MAX;
        for (time, sample) in times.iter_mut().zip(samples).rev() {
            latest = latest.saturating_sub(1).min(sample.pts + shift);
            *time = latest.min(*time);
        }
        if times[0] != first {
            // Only a shift smaller than the frames' reordering gets here: the plan must grant at least two ticks.
            return Err(FragmentError::Order { at: first, end });
        }
        Ok(DecodeTimes { times, shift })
    }
}

struct DecodeTimes {
    times: Vec<u64>,
    shift: u64,
}

#[cfg(test)]
mod tests;
