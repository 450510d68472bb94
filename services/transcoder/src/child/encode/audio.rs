//! The sound: one AAC track over the whole timeline, stated chunk by chunk.
//!
//! decode → stereo at the plan's rate → retimer → one encoder. There is one encoder for the whole track, so there are no
//! seams; a run that is asked for later chunks only encodes the earlier ones again and keeps them to itself, so a chunk
//! has the same bytes whichever run made it. Missing sound is silence, to the sample.

use std::sync::Arc;

use gst::prelude::*;
use spool_proto::media::{AudioFacts, AudioPlan, Plan, SourceFacts};

use super::encoder::Encoder;
use super::head::caps_filter;
use super::missing::{Counted, LEAST_HOLE_NS, Missing};
use super::video::{SHORT_TOLERANCE_NS, damaged};
use crate::child::codecs;
use crate::child::decode::{Decode, Pulled, Wanted, chain, make};
use crate::child::source::Ranges;
use crate::child::streams::Kind;
use crate::order::{Failure, FailureCode, Output};

mod downmix;
mod layout;
mod writer;

use layout::{Layout, Placed, Retimer};
use writer::Writer;

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
        retimer: Retimer::new(layout.samples, u64::from(wanted.sample_rate) / JITTER_PER_SECOND)
            .with_leaps_over(layout::samples_of(audio.leaps_over_ns, wanted.sample_rate)),
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
            Pulled::Quiet { moved: true, .. } => output.progress(track.reached_ns())?,
            Pulled::Quiet { moved: false, .. } => {}
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
    downmix::on(&convert, audio.channels)?;
    chain(&[convert, make("audioresample")?, caps_filter(&raw_caps(audio))?])
}

fn encoder(audio: &AudioPlan, layout: Layout, from_chunk: u32, output: &Arc<dyn Output>) -> Result<Encoder, Failure> {
    let aac = make("avenc_aac")?;
    // Its default forces every band into mid and side and loses sound that is on one side only: silence on the left and
    // a tone on the right come out as the tone on both, in opposite phase. Off means: where it is worth it.
    aac.set_property("aac-ms", false);
    aac.set_property("bitrate", i32::try_from(audio.bps).unwrap_or(i32::MAX));
    let writer = Writer::new(audio, layout, from_chunk, output);
    let encoder = Encoder::start(&audio.id, &[aac], |_, _| (), writer)?;
    encoder.set_caps(&raw_caps(audio));
    Ok(encoder)
}
