//! Media values to the wire and back.

use super::pb;
use super::value::{Bad, Place, Wire, choice, message};
use crate::media::{
    AudioFacts, AudioPlan, Container, Cut, DynamicRange, InitSection, Orientation, Part, Plan, Receipt, Run, Rung,
    Segment, SourceFacts, SourceRef, Span, StillPlan, StillReceipt, TakenOver, VideoFacts, VideoPlan,
};

choice! {
    Container { Mp4, Matroska, MpegTs, MpegPs, Avi, Flv, Ogg, Asf, Mxf, Audio }
    Cut { Exact, Whole }
    Orientation { Upright, Rotate90, Rotate180, Rotate270, FlipRotate0, FlipRotate90, FlipRotate180, FlipRotate270 }
    DynamicRange { Sdr, Hlg, Pq }
}

message! {
    Run as Run { first, last, epoch }
    Span as Span { offset, length }
    SourceRef as SourceRef { upload, piece_bytes, size_bytes, sha256, runs }
    VideoFacts as VideoFacts {
        stream, codec, width, height, pixel_aspect, orientation, display_width, display_height, frame_rate, variable_rate,
        frames, interlaced, bit_depth, dynamic_range, colorimetry, first_ns, end_ns, longest_gap_ns,
        leaps_over_ns, last_ns
    }
    AudioFacts as AudioFacts { stream, codec, sample_rate, channels, language, first_ns, end_ns, longest_gap_ns, leaps_over_ns }
    SourceFacts as SourceFacts {
        container, cut, zero_ns, end_ns, video, audio, video_streams, audio_streams, subtitle_streams, has_location,
        has_device, keyframe_gaps_ms, promised_ms, damage, lost_packets, more_recordings
    }
    Rung as Rung { id, width, height, crf, max_bps, buffer_ms, threads }
    VideoPlan as VideoPlan { timescale, frame_rate, keep_every, keyframe_ns }
    AudioPlan as AudioPlan { id, bps, sample_rate, channels, language }
    StillPlan as StillPlan { name, at_ns, width, height }
    TakenOver as TakenOver { generation, part, keys }
    Plan as Plan { zero_ns, end_ns, segment_ns, chunks, cut, video, rungs, audio, stills, taken_over }
    InitSection as InitSection { offset, length, sha256 }
    Segment as Segment { offset, length, duration_ticks, keyframes }
    Receipt as Receipt {
        rendition, key, length, sha256, init, timescale, start_ticks, segments, samples, codec, toolchain
    }
    StillReceipt as StillReceipt { name, key, length, sha256, width, height, content_type }
}

impl Wire<Option<pb::taken_over::Part>> for Part {
    fn write(&self) -> Option<pb::taken_over::Part> {
        Some(match self {
            Part::Video { chunk } => pb::taken_over::Part::Video(pb::VideoPart { chunk: *chunk }),
            Part::Audio { track, chunk } => pb::taken_over::Part::Audio(pb::AudioPart { track: *track, chunk: *chunk }),
            Part::Still { name } => pb::taken_over::Part::Still(pb::StillPart { name: name.clone() }),
        })
    }
    fn read(wire: Option<pb::taken_over::Part>, place: Place) -> Result<Self, Bad> {
        // A part of a later version can't be told from none at all: the decoder drops what it does not know. Both stop here.
        Ok(match wire.ok_or_else(|| Bad::later(place, "nothing, or a part"))? {
            pb::taken_over::Part::Video(it) => Part::Video { chunk: it.chunk },
            pb::taken_over::Part::Audio(it) => Part::Audio { track: it.track, chunk: it.chunk },
            pb::taken_over::Part::Still(it) => Part::Still { name: it.name },
        })
    }
}
