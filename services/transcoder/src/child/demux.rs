//! Reading a source through its demuxer, without decoding: which streams there are and where their samples lie.
//!
//! `spoolsrc ! parsebin ! fakesink…`. Either until every stream has shown its form ([`Until::Known`], where
//! tables tell the times), or to the end ([`Until::End`]), which costs what reading costs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gst::prelude::*;

use super::decode::{make, own};
use super::samples::Samples;
use super::source::{self, Ranges};
use super::streams::{self, Kind};
use super::wiring;
use crate::order::{Failure, FailureCode, Output};

/// How long one look for a message may take.
const LOOK: gst::ClockTime = gst::ClockTime::from_mseconds(20);
/// Looks without any movement after which demuxing has stalled: 12 s, a little before the parent would say so without
/// knowing where.
const QUIET_LOOKS: u32 = 600;
/// Buffers after which a stream that showed nothing yet is taken for empty.
const ENOUGH_BUFFERS: usize = 4000;

/// How far to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Until each stream has shown its caps and a sample.
    Known,
    /// To the end.
    End,
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
}

/// What demuxing brought.
#[derive(Debug, Default)]
pub struct Demuxed {
    /// Caps of the whole, as typefinding names it.
    pub container: Option<gst::Caps>,
    /// Streams by ascending id.
    pub streams: Vec<Met>,
    /// Number of subtitle streams.
    pub subtitles: u32,
    /// Tags that belong to the whole.
    pub tags: Option<gst::TagList>,
    /// What the demuxer said when it gave up.
    pub gave_up: Option<(Trouble, String)>,
    /// Length that the demuxer takes the whole for: what a header states, where one does.
    pub length_ns: Option<u64>,
}

/// Why a demuxer gave up, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No idea what it is.
    UnknownType,
    /// Nothing that reads it.
    NoDemuxer,
    /// Protected.
    Encrypted,
    /// Anything else.
    Other,
}

type Shared<T> = Arc<Mutex<T>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the source.
pub fn read(
    ranges: &Arc<dyn Ranges>,
    until: Until,
    max_samples: u64,
    output: &Arc<dyn Output>,
) -> Result<Demuxed, Failure> {
    let pipeline = gst::Pipeline::new();
    let source = source::element(Arc::clone(ranges))?;
    let source_name = source.name();
    let parsebin = make("parsebin")?;
    let container = watch_type(&pipeline);
    // What is counted here is what the decoder will get.
    wiring::keep_packets_whole(&parsebin);
    wiring::hear_errors(&parsebin);
    pipeline.add_many([&source, &parsebin]).map_err(own)?;
    source.link(&parsebin).map_err(own)?;

    let met: Shared<Vec<Shared<Met>>> = Arc::default();
    take_streams(&pipeline, &parsebin, &met, &container, max_samples);

    let mut reading = Reading { pipeline, met, source_name, collection: None, demuxed: Demuxed::default() };
    let result = reading.run(until, output);
    reading.demuxed.length_ns = reading.pipeline.query_duration::<gst::ClockTime>().map(gst::ClockTime::nseconds);
    let stopped = reading.pipeline.set_state(gst::State::Null);
    result?;
    stopped.map_err(own)?;
    let mut demuxed = std::mem::take(&mut reading.demuxed);
    demuxed.container = lock(&container).clone();
    demuxed.streams = lock(&reading.met).iter().map(|stream| lock(stream).clone()).collect();
    demuxed.streams.sort_by(|a, b| a.id.cmp(&b.id));
    for stream in &mut demuxed.streams {
        stream.samples.sort();
    }
    Ok(demuxed)
}

/// The caps of the whole are known to the parser's own typefinder alone: one put before it is never asked, because
/// the parser pulls through it. Where a container lies in another (tags before it) the last one counts.
fn watch_type(pipeline: &gst::Pipeline) -> Shared<Option<gst::Caps>> {
    let container: Shared<Option<gst::Caps>> = Arc::default();
    let found = Arc::clone(&container);
    pipeline.connect_deep_element_added(move |_, _, element| {
        if element.factory().is_some_and(|factory| factory.name() == "typefind") {
            let found = Arc::clone(&found);
            element.connect("have-type", false, move |args| {
                *lock(&found) = args.get(2).and_then(|caps| caps.get().ok());
                None
            });
        }
    });
    container
}

struct Reading {
    pipeline: gst::Pipeline,
    met: Shared<Vec<Shared<Met>>>,
    source_name: gst::glib::GString,
    collection: Option<gst::StreamCollection>,
    demuxed: Demuxed,
}

impl Reading {
    fn run(&mut self, until: Until, output: &Arc<dyn Output>) -> Result<(), Failure> {
        let bus = self.pipeline.bus().ok_or_else(|| Failure::own("a pipeline without bus"))?;
        // A refusal shows on the bus with its reason.
        let _ = self.pipeline.set_state(gst::State::Playing);
        let (mut quiet, mut seen) = (0, 0);
        loop {
            match bus.timed_pop(LOOK) {
                Some(message) if self.ends(&message)? => return Ok(()),
                Some(_) => {}
                None => quiet += 1,
            }
            let count: usize = lock(&self.met).iter().map(|stream| lock(stream).samples.len()).sum();
            if count != seen {
                (seen, quiet) = (count, 0);
                output.progress(count as u64)?;
            }
            if quiet > QUIET_LOOKS {
                let failure = Failure::new(FailureCode::ChildStalled, "the demuxer stands still");
                return Err(failure.with("limit", format!("{} s", u64::from(QUIET_LOOKS) * LOOK.mseconds() / 1000)));
            }
            if until == Until::Known && (self.all_known() || count > ENOUGH_BUFFERS) {
                return Ok(());
            }
        }
    }

    /// Takes a message; true when it is the last.
    #[expect(clippy::wildcard_enum_match_arm, reason = "gstreamer's messages are an open list")]
    fn ends(&mut self, message: &gst::Message) -> Result<bool, Failure> {
        match message.view() {
            gst::MessageView::Eos(_) => return Ok(true),
            gst::MessageView::Error(error) => {
                let text = format!("{} ({})", error.error(), error.debug().unwrap_or_default());
                if error.src().is_some_and(|src| src.name() == self.source_name) {
                    return Err(Failure::new(FailureCode::SourceUnreadable, text.clone()).with("detail", text));
                }
                self.demuxed.gave_up.get_or_insert((trouble(&error.error()), text));
                return Ok(true);
            }
            gst::MessageView::StreamCollection(message) => {
                let collection = message.stream_collection();
                let text = collection.iter().filter(|s| s.stream_type().contains(gst::StreamType::TEXT)).count();
                self.demuxed.subtitles = u32::try_from(text).unwrap_or(u32::MAX);
                self.collection = Some(collection);
            }
            gst::MessageView::Tag(tag) if tag.tags().scope() == gst::TagScope::Global => {
                let known = self.demuxed.tags.get_or_insert_with(gst::TagList::new);
                known.make_mut().insert(&tag.tags(), gst::TagMergeMode::Keep);
            }
            _ => {}
        }
        Ok(false)
    }

    /// Has each stream of the collection shown what it is?
    fn all_known(&self) -> bool {
        let Some(collection) = &self.collection else { return false };
        let met = lock(&self.met);
        let known = |kind| {
            streams::of_kind(collection, kind).iter().all(|stream| {
                let id = streams::id_of(stream);
                met.iter().any(|met| {
                    let met = lock(met);
                    met.id == id && met.caps.is_some() && !met.samples.is_empty()
                })
            })
        };
        // An empty collection comes before the first stream: it is not yet an answer.
        !met.is_empty() && known(Kind::Video) && known(Kind::Audio)
    }
}

fn trouble(error: &gst::glib::Error) -> Trouble {
    match error.kind::<gst::StreamError>() {
        Some(gst::StreamError::TypeNotFound | gst::StreamError::WrongType) => Trouble::UnknownType,
        Some(gst::StreamError::CodecNotFound | gst::StreamError::NotImplemented) => Trouble::NoDemuxer,
        Some(gst::StreamError::Decrypt | gst::StreamError::DecryptNokey) => Trouble::Encrypted,
        Some(_) => Trouble::Other,
        None if error.matches(gst::CoreError::MissingPlugin) => Trouble::NoDemuxer,
        None => Trouble::Other,
    }
}

/// Gives each pad of the parser a sink and a watch.
fn take_streams(
    pipeline: &gst::Pipeline,
    parsebin: &gst::Element,
    met: &Shared<Vec<Shared<Met>>>,
    container: &Shared<Option<gst::Caps>>,
    max_samples: u64,
) {
    let pipeline = pipeline.downgrade();
    let met = Arc::clone(met);
    let container = Arc::clone(container);
    parsebin.connect_pad_added(move |_, pad| {
        let Some(pipeline) = pipeline.upgrade() else { return };
        let Ok(sink) = gst::ElementFactory::make("fakesink")
            .property("sync", false)
            .property("async", false)
            .property("enable-last-sample", false)
            .build()
        else {
            return;
        };
        let stream = Arc::new(Mutex::new(first_look(pad)));
        watch(pad, &stream, is_matroska(&lock(&container)), max_samples);
        lock(&met).push(stream);
        // What cannot be linked shows as the pipeline's own error on the bus.
        if pipeline.add(&sink).is_ok() && sink.sync_state_with_parent().is_ok() {
            let _ = sink.static_pad("sink").map(|sink| pad.link(&sink));
        }
    });
}

/// `matroskademux` starts with a segment that calls the first sample's time zero, and corrects itself some samples later;
/// after a seek it is right from the start. The samples' own times are those after a seek.
fn is_matroska(container: &Option<gst::Caps>) -> bool {
    let name = container.as_ref().and_then(|caps| caps.structure(0)).map(|s| s.name().as_str());
    name.is_some_and(|name| name.contains("matroska") || name.ends_with("/webm"))
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
    let end = buffer.duration().map(|duration| start + duration);
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
    let mut tag = [0xff_u8];
    vp8 && buffer.copy_to_slice(0, &mut tag).is_ok() && tag[0] & 0x10 == 0
}

#[cfg(test)]
mod tests {
    use std::thread;

    use bytes::Bytes;

    use super::super::source::RangeDone;
    use super::*;
    use crate::order::{Made, OutputClosed};

    /// A Matroska header with a broken size in it, and nothing behind.
    struct Broken(Vec<u8>);

    impl Ranges for Broken {
        fn size_bytes(&self) -> u64 {
            self.0.len() as u64
        }
        fn request(&self, offset: u64, length: u32, done: RangeDone) {
            let at = offset as usize;
            done(Ok(Bytes::copy_from_slice(&self.0[at..at + length as usize])));
        }
    }

    struct Silent;

    impl Output for Silent {
        fn bytes(&self, _: &str, _: u32, _: &[Bytes]) -> Result<(), OutputClosed> {
            Ok(())
        }
        fn object_done(&self, _: &str, _: u32, _: Made) -> Result<(), OutputClosed> {
            Ok(())
        }
        fn progress(&self, _: u64) -> Result<(), OutputClosed> {
            Ok(())
        }
        fn frame_hash(&self, _: u64, _: u64) -> Result<(), OutputClosed> {
            Ok(())
        }
    }

    #[test]
    fn a_demuxer_that_gives_up_at_once_is_heard_every_time() {
        gst::init().unwrap();
        let head =
            b"\x1a\x45\xdf\xa3\x01\0\0\0\0\0\0\x23\0\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08";
        let source = [head, &b"\x42\x82\x88matroska"[..], &[0; 4000]].concat();
        let heard = || {
            for _ in 0..100 {
                let ranges: Arc<dyn Ranges> = Arc::new(Broken(source.clone()));
                let output: Arc<dyn Output> = Arc::new(Silent);
                let demuxed = read(&ranges, Until::Known, 10, &output).unwrap();
                assert!(demuxed.gave_up.is_some(), "{demuxed:?}");
            }
        };
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(heard))));
    }
}
