//! What is met on each pad of a demuxer: the stream's form, its tags, and where its samples lie.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gst::prelude::*;

use super::formats::pose::{Pose, Poses};
use super::quirks::leading::{self, Leading};
use super::quirks::{adpcm, packet, times};
use super::samples::Samples;
use super::streams::{self, Kind};
use super::wiring;

/// What pads tell from their threads.
pub(super) type Shared<T> = Arc<Mutex<T>>;

/// A panic while it was held leaves a stream as far as it was met.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream that was met.
#[derive(Debug, Clone)]
pub struct Met {
    /// Picture or sound; none for others.
    pub kind: Option<Kind>,
    /// Its id, which gives it its place.
    pub id: String,
    /// What the parser says of it.
    pub caps: Option<gst::Caps>,
    /// What the source says of it.
    pub tags: gst::TagList,
    /// Flagged as the one to show.
    pub default: bool,
    /// Where its samples lie in stream time.
    pub samples: Samples,
    /// Some samples state when they are decoded and not when they are shown: distances between them mean nothing.
    pub guessed: bool,
    /// More samples than are taken.
    pub too_many: bool,
    /// How its picture stands, where its container's own tables were read.
    pub pose: Option<Pose>,
    leading: Leading,
}

impl Met {
    /// Is it the stream of a transport stream whose packets have this number? Its demuxer makes an id of it.
    pub(super) fn is_of_packets(&self, pid: u16) -> bool {
        self.id.rsplit('/').next().and_then(|id| u32::from_str_radix(id, 16).ok()) == Some(u32::from(pid))
    }

    /// Takes from the end of sound what its encoder filled up; `filled_ns` tells it by the number of a Matroska's track.
    pub(super) fn ends_before(&mut self, filled_ns: &BTreeMap<u64, u64>) {
        if let Some(by_ns) = self.number().and_then(|number| filled_ns.get(&number))
            && self.kind == Some(Kind::Audio)
        {
            self.samples.ends_before(*by_ns);
        }
    }

    /// Takes how it stands from its container's tables.
    pub(super) fn stands(&mut self, poses: &Poses) {
        self.pose = self.number().and_then(|number| poses.get(&number)).copied();
    }

    /// The number of its track in an MP4 or a Matroska, which demuxers put first into the last part of a stream's id.
    fn number(&self) -> Option<u64> {
        self.id.rsplit('/').next()?.split(':').next()?.parse().ok()
    }
}

/// Gives each pad of the parser a sink and a watch.
pub(super) fn take_streams(
    pipeline: &gst::Pipeline,
    parsebin: &gst::Element,
    met: &Shared<Vec<Shared<Met>>>,
    max_samples: u64,
) {
    let pipeline = pipeline.downgrade();
    let met = Arc::clone(met);
    parsebin.connect_pad_added(move |parser, pad| {
        let Some(pipeline) = pipeline.upgrade() else { return };
        let Ok(sink) = gst::ElementFactory::make("fakesink")
            .property("sync", false)
            .property("async", false)
            .property("enable-last-sample", false)
            .build()
        else {
            return;
        };
        adpcm::count_times(pad, &wiring::demuxers(parser));
        let stream = Arc::new(Mutex::new(first_look(pad)));
        watch(pad, &stream, times::are_plain(&wiring::demuxers(parser)), max_samples);
        lock(&met).push(stream);
        // What cannot be linked shows as the pipeline's own error on the bus.
        if pipeline.add(&sink).is_ok() && sink.sync_state_with_parent().is_ok() {
            let _ = sink.static_pad("sink").map(|sink| pad.link(&sink));
        }
    });
}

fn first_look(pad: &gst::Pad) -> Met {
    let stream = pad.stream();
    let kind = stream
        .as_ref()
        .and_then(|stream| [Kind::Video, Kind::Audio].into_iter().find(|kind| kind.matches(stream.stream_type())));
    Met {
        kind,
        id: stream.as_ref().map(streams::id_of).unwrap_or_default(),
        caps: pad.current_caps().or_else(|| stream.as_ref().and_then(gst::Stream::caps)),
        tags: stream.as_ref().and_then(gst::Stream::tags).unwrap_or_default(),
        default: stream.is_some_and(|stream| stream.stream_flags().contains(gst::StreamFlags::SELECT)),
        samples: Samples::default(),
        guessed: false,
        too_many: false,
        pose: None,
        leading: Leading::default(),
    }
}

/// `plain`: stream time is the samples' own time, whatever segments say.
#[expect(clippy::wildcard_enum_match_arm, reason = "gstreamer's events and probes are open lists")]
fn watch(pad: &gst::Pad, stream: &Shared<Met>, plain: bool, max_samples: u64) {
    let stream = Arc::clone(stream);
    let segment: Mutex<Option<gst::FormattedSegment<gst::ClockTime>>> = Mutex::new(None);
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(kinds, move |_, info| {
        match &info.data {
            Some(gst::PadProbeData::Event(event)) => match event.view() {
                gst::EventView::Segment(_) if plain => *lock(&segment) = Some(gst::FormattedSegment::new()),
                gst::EventView::Segment(new) => *lock(&segment) = new.segment().clone().downcast().ok(),
                gst::EventView::Caps(caps) => {
                    let mut stream = lock(&stream);
                    // Bare sound is handed out before anybody knows what it is.
                    let caps = caps.caps_owned();
                    stream.kind = stream.kind.or_else(|| Kind::of_caps(&caps));
                    stream.caps = Some(caps);
                }
                gst::EventView::Tag(tag) => {
                    lock(&stream).tags.make_mut().insert(tag.tag(), gst::TagMergeMode::Replace);
                }
                _ => {}
            },
            Some(gst::PadProbeData::Buffer(buffer)) => {
                let mut stream = lock(&stream);
                if stream.samples.len() as u64 >= max_samples {
                    stream.too_many = true;
                } else {
                    take_sample(&mut stream, buffer, lock(&segment).as_ref());
                }
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}

/// Notes a sample as far as the segment shows it.
fn take_sample(stream: &mut Met, buffer: &gst::Buffer, segment: Option<&gst::FormattedSegment<gst::ClockTime>>) {
    if is_hidden(stream.caps.as_ref(), buffer)
        || buffer.flags().contains(gst::BufferFlags::HEADER) && buffer.pts().is_none()
    {
        return;
    }
    // AVI and MPEG streams state for some pictures only when they are decoded; first and last are the same.
    stream.guessed |= buffer.pts().is_none();
    let Some(start) = buffer.pts().or_else(|| buffer.dts()) else { return };
    let keyframe = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
    let may_lead = buffer.pts().is_some() && stream.caps.as_ref().is_some_and(leading::concern);
    if may_lead && stream.leading.is_next(start.nseconds(), keyframe) {
        return;
    }
    let held = stream.caps.as_ref().and_then(|caps| packet::held(caps, buffer));
    let duration = held.or(buffer.duration());
    let end = duration.map(|duration| start.saturating_add(duration));
    let Some(segment) = segment else { return };
    // A picture that begins before the edit is not shown, as everybody does it; sound is cut within a block.
    if stream.kind == Some(Kind::Video) && segment.start().is_some_and(|from| start < from) {
        return;
    }
    let (Some(shown_start), shown_end) = (match segment.clip(start, end) {
        // Without an end of its own it gets the segment's, which is that of the whole.
        Some((start, cut)) => (segment.to_stream_time(start), end.and(cut).and_then(|end| segment.to_stream_time(end))),
        None => (None, None),
    }) else {
        return;
    };
    let duration = shown_end.map(|end| end.saturating_sub(shown_start).nseconds());
    stream.samples.push(shown_start.nseconds(), duration, keyframe);
}

/// VP8 keeps frames that are only looked back at as packets of their own; they are never shown.
fn is_hidden(caps: Option<&gst::Caps>, buffer: &gst::Buffer) -> bool {
    let vp8 = caps.and_then(|caps| caps.structure(0)).is_some_and(|s| s.name() == "video/x-vp8");
    vp8 && packet::start(buffer, 1).first().is_some_and(|tag| tag & 0x10 == 0)
}
