//! The picture: one decode, every rung of the ladder, chunk by chunk.
//!
//! decode → head → timeline → one encoder per rung. Encoders start anew with each chunk, so a chunk has the same bytes
//! whichever run made it; the decode goes on. Memory is a few pictures and one segment per rung, whatever the length.

use std::ops::RangeInclusive;
use std::sync::Arc;

use gst_video::VideoFrameExt as _;
use spool_proto::media::{Cut, Plan, SourceFacts, VideoFacts};

use super::head::{self, Colour};
use super::missing::{Counted, LEAST_HOLE_NS, Missing};
use super::rung::{Entry, Making, RungEncoder};
use super::timeline::{Step, Thinner, Timeline};
use crate::child::codecs;
use crate::child::decode::{Decode, Pulled, Wanted};
use crate::child::inspect::seconds;
use crate::child::mend;
use crate::child::mend::edits::Ends;
use crate::child::quirks::even::Even;
use crate::child::quirks::leaps;
use crate::child::source::Ranges;
use crate::child::streams::Kind;
use crate::order::{Failure, FailureCode, Output};

/// How far before a chunk reading starts, in turn until the frame shown at its start was seen. Half a second also covers
/// the leading pictures of an open GOP and the fields that deinterlacing looks back at; the last one is the beginning.
const MARGINS_NS: [u64; 3] = [500_000_000, 10_000_000_000, u64::MAX];
/// How much earlier than inspected the picture may end before the source counts as damaged.
pub const SHORT_TOLERANCE_NS: u64 = 1_000_000_000;
/// The same in frames, for sources with few frames a second.
const SHORT_TOLERANCE_FRAMES: u64 = 3;
/// Demuxers and tables round a time alike to this.
const ROUNDING_NS: i64 = 1_000;
/// Media time between two signs of life.
const PROGRESS_STEP_NS: i64 = 250_000_000;

/// Encodes the chunks of `chunks`, each rung of the plan.
pub fn run(
    ranges: &Arc<dyn Ranges>,
    facts: &SourceFacts,
    plan: &Plan,
    chunks: &RangeInclusive<u32>,
    frame_hashes: bool,
    output: &Arc<dyn Output>,
) -> Result<(), Failure> {
    let video = facts.video.as_ref().ok_or_else(|| Failure::own("an order for picture of a source without"))?;
    let seen = mend::seen(ranges, facts, Ends::Later)?;
    let end_ns = seen.ends_later.then_some(video.end_ns as i64 - plan.zero_ns as i64);
    let ranges = &seen.ranges;
    for margin in MARGINS_NS {
        // Counted anew with each pass: one that started too late has made nothing.
        let missing = Missing::of(plan);
        let output: Arc<dyn Output> = Arc::new(Counted { inner: Arc::clone(output), missing: Arc::clone(&missing) });
        let (first, last, output) = (*chunks.start(), *chunks.end(), &output);
        let work = Work { ranges, end_ns, video, plan, first, last, frame_hashes, output, missing };
        match work.read(margin)? {
            Read::Done => return Ok(()),
            Read::StartedTooLate => {}
        }
    }
    Err(undecodable(video, "no picture came out"))
}

struct Work<'a> {
    ranges: &'a Arc<dyn Ranges>,
    /// Where the edit ends, if the demuxer was told of a later end: on the timeline.
    end_ns: Option<i64>,
    video: &'a VideoFacts,
    plan: &'a Plan,
    first: u32,
    last: u32,
    frame_hashes: bool,
    output: &'a Arc<dyn Output>,
    missing: Arc<Missing>,
}

enum Read {
    Done,
    /// The frame shown at the first chunk's start lies further back.
    StartedTooLate,
}

impl Work<'_> {
    fn read(&self, margin_ns: u64) -> Result<Read, Failure> {
        let mut laying = Laying::new(self, self.may_seek(margin_ns))?;
        let mut decode = self.open(margin_ns)?;
        let gave_up = loop {
            match decode.pull()? {
                Pulled::Quiet { moved: true, .. } => self.output.progress(laying.reached.at_ns())?,
                Pulled::Quiet { moved: false, .. } => {}
                Pulled::End { gave_up } => break gave_up,
                Pulled::Sample(sample) => {
                    if let Some(read) = laying.sample(&sample)? {
                        return Ok(read);
                    }
                }
            }
        };
        laying.end(gave_up)
    }

    /// From the beginning nothing earlier can be had.
    fn may_seek(&self, margin_ns: u64) -> bool {
        self.plan.cut == Cut::Exact && margin_ns != u64::MAX
    }

    fn open(&self, margin_ns: u64) -> Result<Decode, Failure> {
        let wanted = Wanted { kind: Kind::Video, stream: self.video.stream };
        let mut decode = Decode::open(self.ranges, wanted, &head::build(self.video)?)?;
        let start = self.plan.zero_ns + self.plan.chunk_span_ns(self.first).0;
        // Where the picture ends before the chunk starts, its last frame is what the chunk shows.
        let from = start.min(self.video.end_ns).saturating_sub(margin_ns);
        if self.first > 0 && self.may_seek(margin_ns) && from > self.video.first_ns {
            // Where it is refused, reading through gives the same frames, only later.
            decode.seek(from);
        }
        decode.run();
        Ok(decode)
    }

    /// A frame's time on the asset's timeline, where it has one.
    fn timeline_ns(&self, sample: &gst::Sample) -> Option<i64> {
        let pts = sample.buffer().and_then(gst::BufferRef::pts);
        let segment = sample.segment().and_then(|s| s.downcast_ref::<gst::ClockTime>());
        let at = segment.zip(pts).and_then(|(segment, pts)| segment.to_stream_time(pts))?;
        Some(at.nseconds() as i64 - self.plan.zero_ns as i64)
    }

    /// The one place that decides whether too little came out. A few broken frames inside are shown as the decoder left
    /// them, as ffmpeg does; a picture that ends early was not what inspecting promised.
    fn judge_the_end(&self, reached: &Reached, gave_up: Option<String>) -> Result<(), Failure> {
        let detail = gave_up.unwrap_or_else(|| "the stream ended".to_owned());
        let Some(end_ns) = reached.end_ns(nominal_ns(self.video)) else {
            return Err(undecodable(self.video, &detail));
        };
        let expected_ns = self.frames_end_ns().saturating_sub(self.plan.zero_ns);
        let present_ns = u64::try_from(end_ns).unwrap_or(0);
        let tolerance = SHORT_TOLERANCE_NS.max(SHORT_TOLERANCE_FRAMES * nominal_ns(self.video).unsigned_abs());
        if present_ns + tolerance < expected_ns {
            return Err(damaged(expected_ns, present_ns, &detail));
        }
        Ok(())
    }

    /// Where the last frame ends that has to come. It may be shown for long, which no decoder tells: a slide, a picture that
    /// stands until the sound ends.
    fn frames_end_ns(&self) -> u64 {
        match self.video.last_ns {
            0 => self.video.end_ns,
            last_ns => last_ns.saturating_add(nominal_ns(self.video).unsigned_abs()).min(self.video.end_ns),
        }
    }
}

/// Frames on their way from the decoder to the encoders, in one pass.
struct Laying<'a> {
    work: &'a Work<'a>,
    /// Can it be read again from further back?
    may_seek: bool,
    first_ns: i64,
    even: Even<Picture>,
    thinner: Thinner,
    timeline: Timeline<Picture>,
    ladder: Ladder<'a>,
    reached: Reached,
}

impl<'a> Laying<'a> {
    fn new(work: &'a Work<'a>, may_seek: bool) -> Result<Self, Failure> {
        let own = || Failure::own("a plan without picture or without these chunks");
        let keep_every = work.plan.video.map_or(1, |v| v.keep_every);
        let first_ns = work.video.first_ns as i64 - work.plan.zero_ns as i64;
        Ok(Self {
            work,
            may_seek,
            first_ns,
            even: Even::new(nominal_ns(work.video)),
            thinner: Thinner::new(keep_every, work.video.frame_rate, first_ns),
            timeline: Timeline::new(work.plan, work.first, work.last).ok_or_else(own)?,
            ladder: Ladder::new(work),
            reached: Reached::default(),
        })
    }

    /// Takes a decoded frame; answers when nothing more is needed, or needed from here.
    fn sample(&mut self, sample: &gst::Sample) -> Result<Option<Read>, Failure> {
        let Some(picture) = Picture::of(sample) else { return Ok(None) };
        let at_ns = self.work.timeline_ns(sample).filter(|at_ns| !self.leaps(*at_ns));
        let placed = self.even.take(at_ns, self.first_ns, picture);
        self.lay(placed)
    }

    fn leaps(&self, at_ns: i64) -> bool {
        let video = self.work.video;
        let end_ns = video.end_ns as i64 - self.work.plan.zero_ns as i64;
        leaps::leaps(at_ns, self.even.last_ns(), end_ns, video.leaps_over_ns)
    }

    fn lay(&mut self, placed: Vec<(i64, Picture)>) -> Result<Option<Read>, Failure> {
        for (at_ns, picture) in placed {
            if self.work.end_ns.is_some_and(|end_ns| at_ns + ROUNDING_NS >= end_ns) {
                continue;
            }
            self.look_for_a_hole(at_ns);
            if self.reached.advance(at_ns, picture.buffer.duration()) {
                self.work.output.progress(self.reached.at_ns())?;
            }
            if !self.thinner.keeps(at_ns) {
                continue;
            }
            if self.timeline.misses_the_frame_before(Some(at_ns)) && self.may_seek {
                return Ok(Some(Read::StartedTooLate));
            }
            self.ladder.take(self.timeline.frame(at_ns, picture))?;
            if self.timeline.is_done() {
                return Ok(Some(Read::Done));
            }
        }
        Ok(None)
    }

    /// Longer without a picture than the source shows one on purpose: there was one, and it is lost. Where nobody measured
    /// that, only a constant rate tells.
    fn look_for_a_hole(&self, at_ns: i64) {
        let video = self.work.video;
        let nominal_ns = nominal_ns(video);
        let on_purpose_ns = match i64::try_from(video.longest_gap_ns) {
            Ok(1..) => video.longest_gap_ns as i64,
            Ok(_) if !video.variable_rate => nominal_ns,
            Ok(_) | Err(_) => return,
        };
        // Before the first picture of a pass lies what nobody asked for, or the picture's own beginning.
        let before = self.reached.last_ns.or((self.work.first == 0).then_some(self.first_ns - nominal_ns));
        if let Some(before_ns) = before
            && at_ns - before_ns > on_purpose_ns.max(nominal_ns) + LEAST_HOLE_NS
        {
            self.work.missing.add(before_ns + nominal_ns, at_ns);
        }
    }

    fn end(mut self, gave_up: Option<String>) -> Result<Read, Failure> {
        let rest = self.even.rest();
        if let Some(read) = self.lay(rest)? {
            return Ok(read);
        }
        if self.timeline.misses_the_frame_before(None) && self.may_seek {
            return Ok(Read::StartedTooLate);
        }
        self.work.judge_the_end(&self.reached, gave_up)?;
        self.ladder.take(self.timeline.end())?;
        Ok(Read::Done)
    }
}

/// Media that inspecting found and decoding did not.
pub(crate) fn damaged(expected_ns: u64, present_ns: u64, detail: &str) -> Failure {
    Failure::new(FailureCode::SourceDamaged, detail)
        .with("expected", seconds(expected_ns / 1_000_000))
        .with("got", seconds(present_ns / 1_000_000))
}

fn undecodable(video: &VideoFacts, detail: &str) -> Failure {
    Failure::new(FailureCode::SourceUndecodable, detail)
        .with("kind", "video")
        .with("codec", codecs::for_people(&video.codec))
}

/// Nominal distance of two frames.
fn nominal_ns(video: &VideoFacts) -> i64 {
    let rate = video.frame_rate;
    (1_000_000_000 * i64::from(rate.den)).checked_div(i64::from(rate.num)).unwrap_or(0)
}

/// How far decoding has come, on the timeline.
#[derive(Debug, Clone, Copy, Default)]
struct Reached {
    last_ns: Option<i64>,
    end_ns: i64,
    told_ns: i64,
}

impl Reached {
    /// Notes a frame; true when it is time to say so.
    fn advance(&mut self, at_ns: i64, duration: Option<gst::ClockTime>) -> bool {
        let length = duration.map_or(0, |d| i64::try_from(d.nseconds()).unwrap_or(0));
        self.end_ns = self.end_ns.max(at_ns.saturating_add(length));
        let first = self.last_ns.is_none();
        self.last_ns = Some(at_ns);
        let tell = first || at_ns >= self.told_ns + PROGRESS_STEP_NS;
        if tell {
            self.told_ns = at_ns;
        }
        tell
    }

    fn at_ns(self) -> u64 {
        u64::try_from(self.last_ns.unwrap_or(0)).unwrap_or(0)
    }

    fn end_ns(self, nominal_ns: i64) -> Option<i64> {
        self.last_ns.map(|last| self.end_ns.max(last + nominal_ns))
    }
}

/// A decoded picture with its size.
#[derive(Clone)]
struct Picture {
    buffer: gst::Buffer,
    info: gst_video::VideoInfo,
}

impl Picture {
    fn of(sample: &gst::Sample) -> Option<Self> {
        let info = gst_video::VideoInfo::from_caps(sample.caps()?).ok()?;
        Some(Self { buffer: sample.buffer_owned()?, info })
    }

    /// A hash of what is seen: rows without their padding.
    fn hash(&self) -> Option<u64> {
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(&self.buffer, &self.info).ok()?;
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for plane in 0..frame.n_planes() {
            let (width, height) = (frame.comp_width(plane) as usize, frame.comp_height(plane) as usize);
            let stride = frame.plane_stride()[plane as usize].unsigned_abs() as usize;
            for row in frame.plane_data(plane).ok()?.chunks(stride).take(height) {
                for bytes in row.get(..width)?.chunks(8) {
                    let mut word = [0; 8];
                    word[..bytes.len()].copy_from_slice(bytes);
                    hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3).rotate_left(17);
                }
            }
        }
        Some(hash)
    }
}

/// The encoders of the chunk at hand.
struct Ladder<'a> {
    work: &'a Work<'a>,
    colorimetry: String,
    chunk: u32,
    encoders: Vec<RungEncoder>,
}

impl<'a> Ladder<'a> {
    fn new(work: &'a Work<'a>) -> Self {
        Self { work, colorimetry: Colour::of(work.video).target, chunk: work.first, encoders: Vec::new() }
    }

    fn take(&mut self, steps: Vec<Step<Picture>>) -> Result<(), Failure> {
        for step in steps {
            match step {
                Step::Show(shot) => {
                    let picture = shot.picture;
                    if self.work.frame_hashes {
                        let hash = picture.hash().ok_or_else(|| Failure::own("map a picture to hash it"))?;
                        self.work.output.frame_hash(self.ns(shot.ticks), hash)?;
                    }
                    if self.encoders.is_empty() {
                        self.start()?;
                    }
                    let (ticks, segment, keyframe) = (shot.ticks, shot.segment, shot.keyframe);
                    let entry = Entry { buffer: picture.buffer, ticks, segment, keyframe };
                    for encoder in &mut self.encoders {
                        encoder.push(&entry, picture.info.width(), picture.info.height())?;
                    }
                }
                Step::Close { end_ticks, .. } => self.close(end_ticks)?,
            }
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), Failure> {
        let plan = self.work.plan;
        let video = plan.video.ok_or_else(|| Failure::own("a plan without picture"))?;
        for rung in &plan.rungs {
            let making = Making {
                rung: rung.clone(),
                video,
                colorimetry: self.colorimetry.clone(),
                chunk: self.chunk,
                first_segment: plan.first_segment(self.chunk),
            };
            self.encoders.push(RungEncoder::start(making, self.work.output)?);
        }
        Ok(())
    }

    /// All encoders drain at the same time; the next chunk starts when they are done, so that memory never doubles.
    fn close(&mut self, end_ticks: u64) -> Result<(), Failure> {
        for encoder in &self.encoders {
            encoder.end(end_ticks)?;
        }
        for encoder in self.encoders.drain(..) {
            encoder.finish()?;
        }
        self.chunk += 1;
        Ok(())
    }

    fn ns(&self, ticks: u64) -> u64 {
        let timescale = self.work.plan.video.map_or(1, |v| v.timescale.max(1));
        u64::try_from(u128::from(ticks) * 1_000_000_000 / u128::from(timescale)).unwrap_or(u64::MAX)
    }
}
