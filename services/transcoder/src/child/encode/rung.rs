//! One rendition of one chunk of picture: pictures in, an object out.
//!
//! `appsrc` is the queue and the thread, the scaler and x264 run in it, the segments are written where the encoder hands
//! out its frames. Which frame is when is never read back from the encoder: each frame is known by the time that it was
//! pushed with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gst::prelude::*;
use spool_proto::media::{FrameRate, Rung, VideoPlan};

use super::encoder::{Coded, Encoder, codec_data, payload};
use super::head::caps_filter;
use super::object::Object;
use super::scale::Scale;
use crate::child::decode::make;
use crate::cmaf::{Codec, Sample, Track};
use crate::order::{Failure, Output};

/// B-frames between two others. They save about a tenth of the bytes; three would save little more.
const B_FRAMES: u32 = 2;
/// Presentation is moved behind decoding by the reordering that two B-frames need, but never by more than this.
const GREATEST_SHIFT_MS: u64 = 100;
/// Least shift in ticks, so that reordered frames have room on the coarsest timescale.
const LEAST_SHIFT_TICKS: u64 = 4;
/// Keyframes come where the timeline says and nowhere else.
const NO_KEYFRAMES_OF_ITS_OWN: u32 = 1_000_000;
/// What is added to every time on its way through the encoder. x264enc moves times below 1000 h up to there when its
/// first frame comes out; keyframes asked for before that are remembered with the moved time, and every later one is then
/// refused as too early. Times that start there are never moved.
const EPOCH_NS: u64 = 1000 * 3600 * 1_000_000_000;
/// No cuts of its own, and the same bytes on every processor.
const X264_OPTIONS: &str = "scenecut=0:cpu-independent=1";

/// One frame as it enters every encoder.
#[derive(Clone)]
pub(crate) struct Entry {
    /// The picture.
    pub(crate) buffer: gst::Buffer,
    /// Its time in ticks.
    pub(crate) ticks: u64,
    /// Its segment.
    pub(crate) segment: u32,
    /// Is it a keyframe?
    pub(crate) keyframe: bool,
}

/// What the encoder of one rendition is to make.
#[derive(Debug, Clone)]
pub(crate) struct Making {
    /// The rung.
    pub(crate) rung: Rung,
    /// What all rungs share.
    pub(crate) video: VideoPlan,
    /// Colorimetry of the pictures, in and out.
    pub(crate) colorimetry: String,
    /// The chunk.
    pub(crate) chunk: u32,
    /// Its first segment.
    pub(crate) first_segment: u32,
}

/// A running encoder of one rendition.
pub(crate) struct RungEncoder {
    encoder: Encoder,
    shared: Arc<Shared>,
    caps_of_input: Option<gst::Caps>,
    making: Making,
}

/// What the pushing side tells the writing side.
#[derive(Default)]
struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    /// What was pushed and has not come out, by the time it was pushed with.
    inside: BTreeMap<u64, Entered>,
    /// Where the last segment ends; known when everything was pushed.
    end_ticks: Option<u64>,
}

#[derive(Clone, Copy)]
struct Entered {
    ticks: u64,
    segment: u32,
    keyframe: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done by a panic between its lines.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RungEncoder {
    /// Starts the encoder.
    pub(crate) fn start(making: Making, output: &Arc<dyn Output>) -> Result<Self, Failure> {
        let shared = Arc::new(Shared::default());
        let coded_as = gst::Caps::builder("video/x-h264")
            .field("profile", "high")
            .field("stream-format", "avc")
            .field("alignment", "au")
            .build();
        let elements = [
            Scale::element(),
            caps_filter(&making.picture_caps(making.rung.width, making.rung.height))?,
            x264(&making.rung)?,
            caps_filter(&coded_as)?,
        ];
        let (writer_shared, probe_shared) = (Arc::clone(&shared), Arc::clone(&shared));
        let writer = Writer {
            shared: writer_shared,
            output: Arc::clone(output),
            making: making.clone(),
            object: None,
            samples: Vec::new(),
            segment: making.first_segment,
        };
        let before = move |pad: &gst::Pad, buffer: &gst::BufferRef| force_keyframe(&probe_shared, pad, buffer);
        let encoder = Encoder::start(&making.rung.id, &elements, before, writer)?;
        Ok(Self { encoder, shared, caps_of_input: None, making })
    }

    /// Hands in the next picture of `width` x `height`; waits while the queue is full.
    pub(crate) fn push(&mut self, entry: &Entry, width: u32, height: u32) -> Result<(), Failure> {
        let caps = self.making.picture_caps(width, height);
        if self.caps_of_input.as_ref() != Some(&caps) {
            self.encoder.set_caps(&caps);
            self.caps_of_input = Some(caps);
        }
        let at_ns = self.ns(entry.ticks);
        let mut buffer = entry.buffer.copy();
        let fresh = buffer.make_mut();
        fresh.set_pts(gst::ClockTime::from_nseconds(at_ns));
        fresh.set_dts(gst::ClockTime::NONE);
        fresh.set_duration(gst::ClockTime::NONE);
        fresh.unset_flags(gst::BufferFlags::all());
        let Entry { ticks, segment, keyframe, .. } = *entry;
        self.shared.lock().inside.insert(at_ns, Entered { ticks, segment, keyframe });
        self.encoder.push(buffer)
    }

    /// Says that everything was pushed; the last segment ends at `end_ticks`.
    pub(crate) fn end(&self, end_ticks: u64) -> Result<(), Failure> {
        self.shared.lock().end_ticks = Some(end_ticks);
        self.encoder.end()
    }

    /// Waits until the object is stated.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        self.encoder.finish()
    }

    /// The time a tick is pushed with. Rounded up, so that two ticks never share a time below 10⁹ ticks a second.
    fn ns(&self, ticks: u64) -> u64 {
        let timescale = u128::from(self.making.video.timescale.max(1));
        let ns = (u128::from(ticks) * 1_000_000_000).div_ceil(timescale);
        EPOCH_NS.saturating_add(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

impl Making {
    fn picture_caps(&self, width: u32, height: u32) -> gst::Caps {
        let FrameRate { num, den } = self.video.frame_rate;
        let fraction = gst::Fraction::new(to_i32(num), to_i32(den.max(1)));
        gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", to_i32(width))
            .field("height", to_i32(height))
            .field("framerate", fraction)
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .field("interlace-mode", "progressive")
            .field("colorimetry", &self.colorimetry)
            .build()
    }

    fn track(&self, avcc: Vec<u8>) -> Track {
        let VideoPlan { timescale, frame_rate, .. } = self.video;
        let two_frames = 2 * u64::from(timescale) * u64::from(frame_rate.den) / u64::from(frame_rate.num.max(1));
        let greatest = u64::from(timescale) * GREATEST_SHIFT_MS / 1000;
        let reorder_ticks = two_frames.min(greatest).max(LEAST_SHIFT_TICKS) as u32;
        let (width, height) = (self.rung.width as u16, self.rung.height as u16);
        Track { timescale, language: None, codec: Codec::Avc { width, height, avcc, reorder_ticks } }
    }
}

fn to_i32(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// Capped constant quality: the quantiser follows the picture, the buffer caps the rate.
fn x264(rung: &Rung) -> Result<gst::Element, Failure> {
    let encoder = make("x264enc")?;
    encoder.set_property_from_str("speed-preset", "veryfast");
    encoder.set_property_from_str("pass", "qual");
    encoder.set_property("quantizer", rung.crf);
    encoder.set_property("bitrate", u32::try_from(rung.max_bps / 1000).unwrap_or(u32::MAX));
    encoder.set_property("vbv-buf-capacity", rung.buffer_ms);
    encoder.set_property("threads", rung.threads);
    encoder.set_property("bframes", B_FRAMES);
    encoder.set_property("key-int-max", NO_KEYFRAMES_OF_ITS_OWN);
    encoder.set_property("option-string", X264_OPTIONS);
    Ok(encoder)
}

/// A picture marked as keyframe is announced to the encoder by an event right before it, so every rendition has its
/// keyframes on the same pictures.
fn force_keyframe(shared: &Shared, pad: &gst::Pad, buffer: &gst::BufferRef) {
    let at = buffer.pts();
    let entered = at.and_then(|at| shared.lock().inside.get(&at.nseconds()).copied());
    if entered.is_some_and(|e| e.keyframe) {
        let event = gst_video::DownstreamForceKeyUnitEvent::builder().running_time(at).all_headers(true).build();
        // Refused only while shutting down; a keyframe that is missing is found when the frame comes out.
        pad.push_event(event);
    }
}

/// Where coded frames become segments.
struct Writer {
    shared: Arc<Shared>,
    output: Arc<dyn Output>,
    making: Making,
    object: Option<Object>,
    samples: Vec<Sample>,
    segment: u32,
}

impl Coded for Writer {
    fn take(&mut self, sample: &gst::Sample) -> Result<(), Failure> {
        let id = &self.making.rung.id;
        let buffer = sample.buffer_owned().ok_or_else(|| Failure::own(format!("{id}: a sample without buffer")))?;
        let at = sample
            .segment()
            .and_then(|s| s.downcast_ref::<gst::ClockTime>())
            .and_then(|s| s.to_running_time(buffer.pts()))
            .ok_or_else(|| Failure::own(format!("{id}: a coded frame without time")))?;
        let entered = self.shared.lock().inside.remove(&at.nseconds());
        let entered = entered.ok_or_else(|| Failure::own(format!("{id}: a coded frame at {at} that never went in")))?;
        let keyframe = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        if keyframe != entered.keyframe {
            return Err(Failure::own(format!("{id}: keyframe {keyframe} at {at} against the timeline")));
        }
        if self.object.is_none() {
            let making = &self.making;
            let track = making.track(codec_data(sample)?);
            self.object = Some(Object::begin(&self.output, id, making.chunk, making.first_segment, track)?);
        }
        if entered.segment != self.segment {
            self.flush(entered.ticks)?;
            self.segment = entered.segment;
        }
        self.samples.push(Sample { pts: entered.ticks, keyframe, data: payload(buffer)? });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        let State { inside, end_ticks } = std::mem::take(&mut *self.shared.lock());
        let end_ticks = end_ticks.ok_or_else(|| Failure::own("an encoder ended before its pictures did"))?;
        if !inside.is_empty() {
            return Err(Failure::own(format!("{}: {} pictures never came out", self.making.rung.id, inside.len())));
        }
        self.flush(end_ticks)?;
        let none = || Failure::own(format!("{}: no picture in chunk {}", self.making.rung.id, self.making.chunk));
        self.object.take().ok_or_else(none)?.finish()
    }
}

impl Writer {
    fn flush(&mut self, end_ticks: u64) -> Result<(), Failure> {
        let samples = std::mem::take(&mut self.samples);
        self.object.as_mut().map_or(Ok(()), |object| object.segment(&samples, end_ticks))
    }
}
