//! The sound: one AAC track over the whole timeline, stated chunk by chunk.
//!
//! decode → stereo at the plan's rate → retimer → one encoder. There is one encoder for the whole track, so there are no
//! seams; a run that is asked for later chunks only encodes the earlier ones again and keeps them to itself, so a chunk
//! has the same bytes whichever run made it. Missing sound is silence, to the sample.

use std::sync::Arc;

use gst::prelude::*;
use spool_proto::media::{AudioFacts, AudioPlan, Plan, SourceFacts};

use super::codecs;
use super::decode::{Decode, Pulled, Wanted, chain, make};
use super::encoder::{Coded, Encoder, codec_data, payload};
use super::head::caps_filter;
use super::missing::{Counted, LEAST_HOLE_NS, Missing};
use super::object::Object;
use super::source::Ranges;
use super::streams::Kind;
use super::video::{SHORT_TOLERANCE_NS, damaged};
use crate::cmaf::{Codec, Sample, Track};
use crate::order::{Failure, FailureCode, Output};

/// Samples of one AAC frame, and what the encoder puts before the first one.
const FRAME: u64 = 1024;
/// Timestamps that are off by less than this from a continuous sound are rounding, not gaps: 20 ms.
const JITTER_PER_SECOND: u64 = 50;
/// Silence is made in pieces of this many samples, so that an hour of it needs no memory.
const SILENCE_PIECE: u64 = 48_000;
/// Media time between two signs of life, in samples a second's share.
const PROGRESS_PER_SECOND: u64 = 4;

/// Encodes the track and states the chunks from `from_chunk` on.
pub fn run(
    ranges: &Arc<dyn Ranges>,
    facts: &SourceFacts,
    plan: &Plan,
    from_chunk: u32,
    output: &Arc<dyn Output>,
) -> Result<(), Failure> {
    let audio = facts.audio.as_ref().ok_or_else(|| Failure::own("an order for sound of a source without"))?;
    let wanted = plan.audio.as_ref().ok_or_else(|| Failure::own("an order for sound without a plan for it"))?;
    let layout = Layout::of(plan, wanted);
    let missing = Missing::of(plan);
    let output: &Arc<dyn Output> =
        &(Arc::new(Counted { inner: Arc::clone(output), missing: Arc::clone(&missing) }) as Arc<dyn Output>);
    let mut track = SoundTrack {
        encoder: encoder(wanted, layout.clone(), from_chunk, output)?,
        missing,
        longest_gap_ns: i64::try_from(audio.longest_gap_ns).unwrap_or(i64::MAX),
        retimer: Retimer::new(layout.samples, u64::from(wanted.sample_rate) / JITTER_PER_SECOND),
        channels: wanted.channels,
        pushed: 0,
        sample_rate: wanted.sample_rate,
    };
    let stream = Wanted { kind: Kind::Audio, stream: audio.stream };
    let mut decode = Decode::open(ranges, stream, &tail(wanted)?)?;
    decode.run();
    let mut told = 0;
    let gave_up = loop {
        match decode.pull()? {
            Pulled::Quiet { moved: true } => output.progress(track.reached_ns())?,
            Pulled::Quiet { moved: false } => {}
            Pulled::End { gave_up } => break gave_up,
            Pulled::Sample(sample) => {
                track.take(&sample, plan.zero_ns)?;
                let step = track.retimer.next * PROGRESS_PER_SECOND / u64::from(wanted.sample_rate);
                if step != told {
                    told = step;
                    output.progress(track.reached_ns())?;
                }
                if track.retimer.is_full() {
                    break None;
                }
            }
        }
    };
    drop(decode);
    judge_the_end(audio, plan, &track, gave_up)?;
    track.end(layout.padded())
}

/// The one place that decides whether too little came out.
fn judge_the_end(audio: &AudioFacts, plan: &Plan, track: &SoundTrack, gave_up: Option<String>) -> Result<(), Failure> {
    let detail = gave_up.unwrap_or_else(|| "the stream ended".to_owned());
    if track.retimer.next == 0 {
        let failure = Failure::new(FailureCode::SourceUndecodable, detail);
        return Err(failure.with("kind", "audio").with("codec", codecs::for_people(&audio.codec)));
    }
    let expected_ns = audio.end_ns.min(plan.end_ns).saturating_sub(plan.zero_ns);
    let present_ns = track.reached_ns();
    if present_ns + SHORT_TOLERANCE_NS < expected_ns {
        return Err(damaged(expected_ns, present_ns, &detail));
    }
    Ok(())
}

/// Where AAC frames and segments lie, known before the first sample comes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layout {
    /// Samples of the timeline.
    samples: u64,
    /// First AAC frame of each segment, and the number of frames behind the last.
    borders: Vec<u64>,
    /// First segment of each chunk, and the number of segments behind the last.
    chunks: Vec<u32>,
}

impl Layout {
    /// A segment starts at the AAC frame nearest to its place on the grid; every planned segment has at least one.
    fn of(plan: &Plan, audio: &AudioPlan) -> Self {
        let to_samples = |ns: u64| {
            let samples = (u128::from(ns) * u128::from(audio.sample_rate) + 500_000_000) / 1_000_000_000;
            u64::try_from(samples).unwrap_or(u64::MAX / 2)
        };
        let samples = to_samples(plan.duration_ns());
        let segments: u32 = plan.chunks.iter().sum();
        let frames = samples.div_ceil(FRAME).max(1) + 1;
        let border = |segment: u32| {
            if segment == 0 {
                return 0;
            }
            // Presentation is one frame of priming behind decoding.
            let nearest = (to_samples(u64::from(segment) * plan.segment_ns) + FRAME + FRAME / 2) / FRAME;
            nearest.min(frames.saturating_sub(u64::from(segments - segment)))
        };
        let borders = (0..segments).map(border).chain([frames]).collect();
        let chunks = (0..=plan.chunk_count()).map(|chunk| plan.first_segment(chunk)).collect();
        Self { samples, borders, chunks }
    }

    /// Samples to be pushed: whole frames, because an encoder's own filling of the last one is its secret.
    fn padded(&self) -> u64 {
        self.samples.div_ceil(FRAME).max(1) * FRAME
    }
}

/// Puts blocks of sound where their timestamps say: silence into gaps, overlaps and what lies outside trimmed. Pure.
#[derive(Debug)]
struct Retimer {
    /// Samples laid so far.
    next: u64,
    total: u64,
    jitter: u64,
}

/// What to do with a block: so much silence, then its samples from `skip`, `keep` of them.
#[derive(Debug, PartialEq, Eq)]
struct Placed {
    silence: u64,
    skip: u64,
    keep: u64,
}

impl Retimer {
    fn new(total: u64, jitter: u64) -> Self {
        Self { next: 0, total, jitter }
    }

    fn is_full(&self) -> bool {
        self.next >= self.total
    }

    /// A block of `length` samples at sample `at` of the timeline; without a time it follows what was there.
    fn place(&mut self, at: Option<i64>, length: u64) -> Placed {
        let next = i64::try_from(self.next).unwrap_or(i64::MAX);
        let off = at.map_or(0, |at| at.saturating_sub(next));
        let continuous = self.next > 0 && off.unsigned_abs() <= self.jitter;
        let off = if continuous { 0 } else { off };
        let room = self.total - self.next;
        let silence = u64::try_from(off).unwrap_or(0).min(room);
        let skip = u64::try_from(-off).unwrap_or(0).min(length);
        let keep = (length - skip).min(room - silence);
        self.next += silence + keep;
        Placed { silence, skip, keep }
    }
}

/// The retimed sound on its way into the encoder.
struct SoundTrack {
    encoder: Encoder,
    retimer: Retimer,
    channels: u32,
    sample_rate: u32,
    pushed: u64,
    missing: Arc<Missing>,
    /// For how long the source has no sound on purpose.
    longest_gap_ns: i64,
}

impl SoundTrack {
    fn take(&mut self, sample: &gst::Sample, zero_ns: u64) -> Result<(), Failure> {
        let (Some(buffer), Some(segment)) = (sample.buffer_owned(), sample.segment()) else { return Ok(()) };
        let bytes_each = self.channels * size_of::<f32>() as u32;
        // What lies outside the segment (an edit list's priming) is not to be heard.
        let Some(buffer) = gst_audio::audio_buffer_clip(buffer, segment, self.sample_rate, bytes_each) else {
            return Ok(());
        };
        let at = segment
            .downcast_ref::<gst::ClockTime>()
            .and_then(|segment| segment.to_stream_time(buffer.pts()))
            .map(|at| self.sample_at(i128::from(at.nseconds()) - i128::from(zero_ns)));
        let length = buffer.size() as u64 / u64::from(bytes_each);
        let before = self.retimer.next;
        let Placed { silence, skip, keep } = self.retimer.place(at, length);
        self.note_silence(before, silence);
        self.push_silence(silence)?;
        if keep == 0 {
            return Ok(());
        }
        let part = (skip * u64::from(bytes_each)) as usize..((skip + keep) * u64::from(bytes_each)) as usize;
        let part = buffer.copy_region(gst::BufferCopyFlags::MEMORY, part);
        self.push(part.map_err(|_| Failure::own("cut a block of sound"))?, keep)
    }

    /// Silence between two sounds that is longer than the source's own pauses is sound that is missing; before the first one
    /// it is a late beginning.
    fn note_silence(&self, before: u64, silence: u64) {
        let ns = |samples| i64::try_from(self.ns(samples)).unwrap_or(i64::MAX);
        if before > 0 && ns(silence) > self.longest_gap_ns.saturating_add(LEAST_HOLE_NS) {
            self.missing.add(ns(before), ns(before + silence));
        }
    }

    fn end(mut self, padded: u64) -> Result<(), Failure> {
        self.push_silence(padded - self.pushed)?;
        self.encoder.end()?;
        self.encoder.finish()
    }

    fn push_silence(&mut self, mut samples: u64) -> Result<(), Failure> {
        while samples > 0 {
            let piece = samples.min(SILENCE_PIECE);
            let bytes = piece as usize * self.channels as usize * size_of::<f32>();
            self.push(gst::Buffer::from_mut_slice(vec![0u8; bytes]), piece)?;
            samples -= piece;
        }
        Ok(())
    }

    fn push(&mut self, mut buffer: gst::Buffer, samples: u64) -> Result<(), Failure> {
        let (start, end) = (self.ns(self.pushed), self.ns(self.pushed + samples));
        let fresh = buffer.make_mut();
        fresh.set_pts(gst::ClockTime::from_nseconds(start));
        fresh.set_duration(gst::ClockTime::from_nseconds(end - start));
        self.pushed += samples;
        self.encoder.push(buffer)
    }

    fn sample_at(&self, ns: i128) -> i64 {
        let samples = (ns * i128::from(self.sample_rate) + 500_000_000).div_euclid(1_000_000_000);
        i64::try_from(samples).unwrap_or(i64::MAX)
    }

    fn ns(&self, samples: u64) -> u64 {
        let ns = u128::from(samples) * 1_000_000_000 / u128::from(self.sample_rate.max(1));
        u64::try_from(ns).unwrap_or(u64::MAX)
    }

    fn reached_ns(&self) -> u64 {
        self.ns(self.retimer.next)
    }
}

fn raw_caps(audio: &AudioPlan) -> gst::Caps {
    let mut caps = gst::Caps::builder("audio/x-raw")
        .field("format", "F32LE")
        .field("layout", "interleaved")
        .field("rate", i32::try_from(audio.sample_rate).unwrap_or(i32::MAX))
        .field("channels", i32::try_from(audio.channels).unwrap_or(i32::MAX));
    if audio.channels == 2 {
        caps = caps.field("channel-mask", gst::Bitmask::new(0x3));
    }
    caps.build()
}

/// Between decoder and retimer: mixed down and resampled.
fn tail(audio: &AudioPlan) -> Result<gst::Bin, Failure> {
    let convert = make("audioconvert")?;
    give_unnamed_channels_a_place(&convert)?;
    chain(&[convert, make("audioresample")?, caps_filter(&raw_caps(audio))?])
}

/// More than two channels without a stated place cannot be mixed; they get the usual places of their number.
fn give_unnamed_channels_a_place(convert: &gst::Element) -> Result<(), Failure> {
    let pad = convert.static_pad("sink").ok_or_else(|| Failure::own("a converter without sink pad"))?;
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |_, info| {
        if let Some(event) = info.event()
            && let gst::EventView::Caps(caps) = event.view()
            && let Some(structure) = caps.caps().structure(0)
            && let Ok(channels @ 3..) = structure.get::<i32>("channels")
            && structure.get::<gst::Bitmask>("channel-mask").map_or(0, |mask| mask.0) == 0
        {
            let mask = gst_audio::AudioChannelPosition::fallback_mask(channels.unsigned_abs());
            let mut placed = caps.caps_owned();
            placed.make_mut().set("channel-mask", gst::Bitmask::new(mask));
            let event = gst::event::Caps::builder(&placed).seqnum(event.seqnum()).build();
            info.data = Some(gst::PadProbeData::Event(event));
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

fn encoder(audio: &AudioPlan, layout: Layout, from_chunk: u32, output: &Arc<dyn Output>) -> Result<Encoder, Failure> {
    let aac = make("avenc_aac")?;
    // Its default forces every band into mid and side and loses sound that is on one side only: silence on the left and
    // a tone on the right come out as the tone on both, in opposite phase. Off means: where it is worth it.
    aac.set_property("aac-ms", false);
    aac.set_property("bitrate", i32::try_from(audio.bps).unwrap_or(i32::MAX));
    let writer = Writer {
        output: Arc::clone(output),
        audio: audio.clone(),
        layout,
        from_chunk,
        track: None,
        object: None,
        samples: Vec::new(),
        frame: 0,
        segment: 0,
        chunk: 0,
    };
    let encoder = Encoder::start(&audio.id, &[aac], |_, _| (), writer)?;
    encoder.set_caps(&raw_caps(audio));
    Ok(encoder)
}

/// Where AAC frames become segments and chunks. Times are counted, not read: frame `n` starts at sample `n` · 1024.
struct Writer {
    output: Arc<dyn Output>,
    audio: AudioPlan,
    layout: Layout,
    from_chunk: u32,
    track: Option<Track>,
    object: Option<Object>,
    samples: Vec<Sample>,
    frame: u64,
    segment: u32,
    chunk: u32,
}

impl Coded for Writer {
    fn take(&mut self, sample: &gst::Sample) -> Result<(), Failure> {
        let buffer = sample.buffer_owned().ok_or_else(|| Failure::own("a sample of sound without buffer"))?;
        if self.track.is_none() {
            self.track = Some(self.track_of(codec_data(sample)?));
        }
        if self.layout.borders.get(self.segment as usize + 1) == Some(&self.frame) {
            self.close_segment()?;
        }
        self.samples.push(Sample { pts: self.frame * FRAME, keyframe: true, data: payload(buffer)? });
        self.frame += 1;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        let planned = self.layout.borders.last().copied().unwrap_or(0);
        if self.frame != planned {
            return Err(Failure::own(format!("{} frames of sound where {planned} were planned", self.frame)));
        }
        self.close_segment()
    }
}

impl Writer {
    fn close_segment(&mut self) -> Result<(), Failure> {
        let samples = std::mem::take(&mut self.samples);
        if self.chunk >= self.from_chunk {
            if self.object.is_none() {
                let track = self.track.clone().ok_or_else(|| Failure::own("sound without a track"))?;
                self.object = Some(Object::begin(&self.output, &self.audio.id, self.chunk, self.segment, track)?);
            }
            if let Some(object) = &mut self.object {
                object.segment(&samples, self.frame * FRAME)?;
            }
        }
        self.segment += 1;
        if self.layout.chunks.get(self.chunk as usize + 1) == Some(&self.segment) {
            self.chunk += 1;
            if let Some(object) = self.object.take() {
                object.finish()?;
            }
        }
        Ok(())
    }

    fn track_of(&self, config: Vec<u8>) -> Track {
        let AudioPlan { bps, sample_rate, channels, language, .. } = &self.audio;
        Track {
            timescale: *sample_rate,
            language: language.clone(),
            codec: Codec::Aac {
                sample_rate: *sample_rate,
                channels: u16::try_from(*channels).unwrap_or(u16::MAX),
                config,
                bps: u32::try_from(*bps).unwrap_or(u32::MAX),
                priming: FRAME as u32,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spool_proto::media::{Cut, NS_PER_MS};

    fn layout(chunks: &[u32], duration_ms: u64) -> Layout {
        let audio = AudioPlan { id: "a0".to_owned(), bps: 128_000, sample_rate: 48_000, channels: 2, language: None };
        let plan = Plan {
            zero_ns: 0,
            end_ns: duration_ms * NS_PER_MS,
            segment_ns: 4_000 * NS_PER_MS,
            chunks: chunks.to_vec(),
            cut: Cut::Exact,
            video: None,
            rungs: vec![],
            audio: Some(audio.clone()),
            stills: vec![],
            taken_over: vec![],
        };
        Layout::of(&plan, &audio)
    }

    #[test]
    fn segments_start_at_the_nearest_frame_and_none_is_empty() {
        // 4 s are 187.5 frames; one frame of priming comes first.
        assert_eq!(layout(&[1, 2], 12_000).borders, [0, 189, 376, 564]);
        assert_eq!(layout(&[2], 4_005).borders, [0, 188, 189]);
        assert_eq!(layout(&[1], 10).borders, [0, 2]);
    }

    #[test]
    fn gaps_are_silence_overlaps_are_trimmed_and_rounding_is_neither() {
        let mut retimer = Retimer::new(10_000, 960);
        let mut check = |at, length, expected: (u64, u64, u64), next| {
            let (silence, skip, keep) = expected;
            assert_eq!(retimer.place(at, length), Placed { silence, skip, keep });
            assert_eq!(retimer.next, next);
        };
        check(Some(500), 1000, (500, 0, 1000), 1500);
        check(Some(1540), 1000, (0, 0, 1000), 2500);
        check(Some(4500), 1000, (2000, 0, 1000), 5500);
        check(Some(4000), 2000, (0, 1500, 500), 6000);
        check(Some(1000), 1000, (0, 1000, 0), 6000);
        check(None, 1000, (0, 0, 1000), 7000);
        check(Some(9500), 2000, (2500, 0, 500), 10_000);
        check(Some(11_500), 2000, (0, 0, 0), 10_000);
    }

    #[test]
    fn sound_before_zero_is_cut_off() {
        let mut retimer = Retimer::new(10_000, 960);
        assert_eq!(retimer.place(Some(-300), 1000), Placed { silence: 0, skip: 300, keep: 700 });
    }
}
