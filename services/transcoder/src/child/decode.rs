//! One stream of the source, decoded: source ! parsebin ! queue ! decoder ! queue ! tail ! appsink, pulled by the caller.
//!
//! `decodebin3` is not used: it decides anew with each announcement of streams (FLV makes three, the last of one stream
//! alone: 10 of 30 runs stood still), takes no data tracks (phones' `mebx` ended the demuxer), and queues what nobody
//! wants. Here the wanted stream's pad gets its decoder, and every other one a sink that takes all and waits for nothing.
//!
//! The caller pulls at its own pace, so back-pressure reaches the demuxer and the caller alone decides what happens to
//! a frame. A decoder or demuxer that gives up is the end of what can be had, with a reason; whether that is too short
//! is the caller's question ([`crate::child::video`], [`crate::child::audio`]). Nothing here waits for ever: whatever
//! moves no byte for [`QUIET_LIMIT`] is a stall.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gst::prelude::*;

use super::source::{self, Ranges};
use super::streams::Kind;
use crate::order::{Failure, FailureCode};

/// Threads of one decoder. Frame threads change nothing in the picture, but they cost memory, and their number belongs
/// to what is pinned.
pub const DECODER_THREADS: i32 = 2;

/// How long one look for a frame or a message may take.
const LOOK: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// Looks without any movement after which a pipeline has stalled: 15 s.
const QUIET_LIMIT: u32 = 150;
/// Decoded pictures or blocks of sound that wait between decoder, tail and caller, each.
const QUEUED: u32 = 4;
/// Compressed pictures or blocks that are read ahead of the decoder.
const AHEAD: u32 = 16;

/// What to decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Picture or sound.
    pub kind: Kind,
    /// Position among the streams of its kind, as the facts count it.
    pub stream: u32,
}

/// What a look brought.
pub enum Pulled {
    /// A decoded frame or block, with its caps and segment.
    Sample(gst::Sample),
    /// Nothing yet; `moved` tells whether compressed data moved since the last look.
    Quiet {
        /// Did anything move?
        moved: bool,
    },
    /// There is no more, and why, where it was not simply the end.
    End {
        /// What a demuxer or decoder said when it gave up.
        gave_up: Option<String>,
    },
}

/// A running decode of one stream.
pub struct Decode {
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    bus: gst::Bus,
    source_name: gst::glib::GString,
    wanted: Wanted,
    moves: Arc<AtomicU64>,
    seen_moves: u64,
    quiet: u32,
    gave_up: Option<String>,
    refused: Refused,
}

/// What wiring found that ends the decode: it runs on the demuxer's thread.
type Refused = Arc<Mutex<Option<Failure>>>;

impl Decode {
    /// Builds the pipeline and waits until the first frame or block stands at its end. `tail` has one `sink` and one
    /// `src` pad and is what stands between the decoder and the caller.
    pub fn open(ranges: &Arc<dyn Ranges>, wanted: Wanted, tail: &gst::Bin) -> Result<Self, Failure> {
        leave_alpha_alone();
        let pipeline = gst::Pipeline::new();
        let source = source::element(Arc::clone(ranges))?;
        let source_name = source.name();
        let parser = make("parsebin")?;
        let queue = make("queue")?;
        queue.set_property("max-size-buffers", QUEUED);
        queue.set_property("max-size-bytes", 0u32);
        queue.set_property("max-size-time", 0u64);
        let sink = gst_app::AppSink::builder().sync(false).max_buffers(QUEUED).build();
        accept_strides(&sink);
        let elements = [&source, &parser, &queue, tail.upcast_ref(), sink.upcast_ref()];
        pipeline.add_many(elements).map_err(own)?;
        source.link(&parser).map_err(own)?;
        gst::Element::link_many([&queue, tail.upcast_ref(), sink.upcast_ref()]).map_err(own)?;

        let moves = Arc::new(AtomicU64::new(0));
        let refused = Arc::default();
        wire_streams(&pipeline, &parser, &queue, wanted, &refused);
        pin_decoders(&pipeline, &moves);
        let bus = pipeline.bus().ok_or_else(|| Failure::own("a pipeline without bus"))?;
        let mut decode =
            Self { pipeline, sink, bus, source_name, wanted, moves, seen_moves: 0, quiet: 0, gave_up: None, refused };
        decode.pipeline.set_state(gst::State::Paused).map_err(own)?;
        decode.preroll()?;
        Ok(decode)
    }

    /// Goes to `at_ns` of stream time: what comes then starts there, exactly. False where the source cannot; it then
    /// goes on from where it was.
    pub fn seek(&mut self, at_ns: u64) -> bool {
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
        let at = gst::ClockTime::from_nseconds(at_ns);
        self.pipeline.seek(1.0, flags, gst::SeekType::Set, at, gst::SeekType::None, gst::ClockTime::NONE).is_ok()
    }

    /// Lets it run: to be called once, after the seeks.
    pub fn run(&mut self) -> Result<(), Failure> {
        self.pipeline.set_state(gst::State::Playing).map(|_| ()).map_err(own)
    }

    /// The next frame or block, or a sign of life.
    pub fn pull(&mut self) -> Result<Pulled, Failure> {
        if let Some(sample) = self.sink.try_pull_sample(LOOK) {
            self.quiet = 0;
            return Ok(Pulled::Sample(sample));
        }
        self.read_messages()?;
        if self.gave_up.is_some() || self.sink.is_eos() {
            // What was decoded before it gave up still counts; the look above came back empty, so nothing is left.
            return Ok(Pulled::End { gave_up: self.gave_up.take() });
        }
        let moved = self.look_for_movement()?;
        Ok(Pulled::Quiet { moved })
    }

    fn preroll(&mut self) -> Result<(), Failure> {
        loop {
            self.read_messages()?;
            let (state, current, _) = self.pipeline.state(LOOK);
            if self.gave_up.is_some() || self.sink.is_eos() || (state.is_ok() && current == gst::State::Paused) {
                return Ok(());
            }
            if state.is_err() {
                self.read_messages()?;
                self.gave_up.get_or_insert_with(|| "the pipeline did not start".to_owned());
                return Ok(());
            }
            self.look_for_movement()?;
        }
    }

    fn look_for_movement(&mut self) -> Result<bool, Failure> {
        let moves = self.moves.load(Ordering::Relaxed);
        let moved = moves != self.seen_moves;
        self.seen_moves = moves;
        self.quiet = if moved { 0 } else { self.quiet + 1 };
        if self.quiet > QUIET_LIMIT {
            let limit_ms = u64::from(QUIET_LIMIT) * LOOK.mseconds();
            return Err(Failure::new(FailureCode::ChildStalled, "the decoder stands still").with("limit_ms", limit_ms));
        }
        Ok(moved)
    }

    fn read_messages(&mut self) -> Result<(), Failure> {
        if let Some(refused) = self.refused.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(refused);
        }
        while let Some(message) = self.bus.pop_filtered(&[gst::MessageType::Error, gst::MessageType::Element]) {
            if let gst::MessageView::Error(error) = message.view() {
                let detail = format!("{} ({})", error.error(), error.debug().unwrap_or_default());
                if error.src().is_some_and(|src| src.name() == self.source_name) {
                    return Err(Failure::new(FailureCode::SourceUnreadable, detail));
                }
                self.gave_up.get_or_insert(detail);
            }
            if let gst::MessageView::Element(element) = message.view() {
                self.look_for_missing_decoder(element)?;
            }
        }
        Ok(())
    }

    /// Only selected streams get decoders, so a missing one is ours unless it names another kind.
    fn look_for_missing_decoder(&self, message: &gst::message::Element) -> Result<(), Failure> {
        let Some(missing) = message.structure().filter(|s| s.name() == "missing-plugin") else { return Ok(()) };
        let codec = missing
            .get::<gst::Caps>("detail")
            .ok()
            .and_then(|caps| caps.structure(0).map(|s| s.name().to_string()))
            .unwrap_or_default();
        let kind = self.wanted.kind.as_str();
        if !codec.starts_with(kind) {
            return Ok(());
        }
        let detail = missing.to_string();
        Err(Failure::new(FailureCode::SourceCodecUnsupported, detail).with("kind", kind).with("codec", codec))
    }
}

impl Drop for Decode {
    fn drop(&mut self) {
        // Sinks that were locked to playing are not stopped with the pipeline.
        for sink in self.pipeline.children().into_iter().filter(gst::Element::is_locked_state) {
            sink.set_locked_state(false);
        }
        // Nothing is left to do with a refusal: the process ends soon after, and the threads with it.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// An element by its factory's name; ours to ship, so a missing one is our own fault.
pub(crate) fn make(factory: &str) -> Result<gst::Element, Failure> {
    gst::ElementFactory::make(factory).build().map_err(|_| Failure::own(format!("make the element {factory}")))
}

/// A fault of ours, told as gstreamer tells it.
pub(crate) fn own(err: impl std::fmt::Display) -> Failure {
    Failure::own(err.to_string())
}

/// A chain of elements as a bin with pads `sink` and `src`.
pub(crate) fn chain(elements: &[gst::Element]) -> Result<gst::Bin, Failure> {
    let bin = gst::Bin::new();
    bin.add_many(elements).map_err(own)?;
    gst::Element::link_many(elements).map_err(own)?;
    for (element, name) in [(elements.first(), "sink"), (elements.last(), "src")] {
        let pad = element
            .and_then(|e| e.static_pad(name))
            .ok_or_else(|| Failure::own(format!("a chain of elements without {name} pad")))?;
        let ghost = gst::GhostPad::with_target(&pad).map_err(own)?;
        bin.add_pad(&ghost).map_err(own)?;
    }
    Ok(bin)
}

/// Gives the wanted stream its decoder and the others a sink.
fn wire_streams(
    pipeline: &gst::Pipeline,
    parser: &gst::Element,
    queue: &gst::Element,
    wanted: Wanted,
    refused: &Refused,
) {
    let (weak, queue_weak, told) = (pipeline.downgrade(), queue.downgrade(), Arc::clone(refused));
    let queue = queue_weak.clone();
    parser.connect_pad_added(move |parser, pad| {
        let (Some(pipeline), Some(queue)) = (weak.upgrade(), queue.upgrade()) else { return };
        let free = queue.static_pad("sink").is_some_and(|sink| !sink.is_linked());
        let wired = if free && is_wanted(parser, pad, wanted) {
            wire_decoder(&pipeline, pad, &queue, wanted.kind)
        } else {
            wire_nothing(&pipeline, pad)
        };
        if let Err(failure) = wired {
            told.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        }
    });
    let (queue, told) = (queue_weak, Arc::clone(refused));
    parser.connect("drained", false, move |_| {
        let came = queue.upgrade().and_then(|queue| queue.static_pad("sink")).is_none_or(|sink| sink.is_linked());
        if !came {
            let failure = Failure::new(FailureCode::SourceUndecodable, "the stream never came");
            let failure = failure.with("kind", wanted.kind.as_str()).with("codec", "unknown");
            told.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        }
        None
    });
}

/// Is it the stream at the wanted position? The demuxer has all its pads when the first is handed out (but in FLV, which
/// has one of a kind), so positions are counted among those; what has no demuxer has one stream.
fn is_wanted(parser: &gst::Element, pad: &gst::Pad, wanted: Wanted) -> bool {
    if !carries(pad, wanted.kind) {
        return false;
    }
    let Some(parser) = parser.dynamic_cast_ref::<gst::Bin>() else { return false };
    let is_demuxer = |e: &gst::Element| e.factory().is_some_and(|f| f.has_type(gst::ElementFactoryType::DEMUXER));
    let demuxers = parser.iterate_recurse().into_iter().flatten().filter(is_demuxer);
    let pads = demuxers.flat_map(|demuxer| demuxer.src_pads());
    let ids: BTreeSet<_> = pads.filter(|pad| carries(pad, wanted.kind)).filter_map(|pad| pad.stream_id()).collect();
    let chosen = ids.into_iter().nth(wanted.stream as usize);
    chosen.is_none_or(|id| pad.stream_id() == Some(id))
}

/// Does a pad carry pictures, or sound?
fn carries(pad: &gst::Pad, kind: Kind) -> bool {
    if let Some(stream) = pad.stream() {
        return kind.matches(stream.stream_type());
    }
    let caps = pad.current_caps();
    let name = caps.as_ref().and_then(|caps| caps.structure(0)).map_or("", |s| s.name().as_str());
    match kind {
        Kind::Video => name.starts_with("video/") || name.starts_with("image/"),
        Kind::Audio => name.starts_with("audio/"),
    }
}

/// The best-ranked decoder of what the pad carries, between the pad and `queue`. Raw streams need none.
fn wire_decoder(pipeline: &gst::Pipeline, pad: &gst::Pad, queue: &gst::Element, kind: Kind) -> Result<(), Failure> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let name = caps.structure(0).map(|s| s.name().to_string()).unwrap_or_default();
    let ahead = make("queue")?;
    ahead.set_property("max-size-buffers", AHEAD);
    ahead.set_property("max-size-bytes", 0u32);
    ahead.set_property("max-size-time", 0u64);
    let mut chain = vec![ahead];
    if !name.ends_with("/x-raw") {
        let decoders = gst::ElementFactory::factories_with_type(gst::ElementFactoryType::DECODER, gst::Rank::MARGINAL);
        // One that takes everything of the kind before one that might not; names decide between equals.
        let merit = |f: &gst::ElementFactory| (f.can_sink_all_caps(&caps), f.rank(), Reverse(f.name()));
        let best = decoders.into_iter().filter(|f| f.can_sink_any_caps(&caps)).max_by_key(merit);
        let best = best.ok_or_else(|| {
            let failure = Failure::new(FailureCode::SourceCodecUnsupported, format!("no decoder takes {caps}"));
            failure.with("kind", kind.as_str()).with("codec", &name)
        })?;
        chain.push(best.create().build().map_err(own)?);
    }
    pipeline.add_many(&chain).map_err(own)?;
    gst::Element::link_many(chain.iter().chain([queue])).map_err(own)?;
    for element in chain.iter().rev() {
        element.sync_state_with_parent().map_err(own)?;
    }
    let sink = chain[0].static_pad("sink").ok_or_else(|| Failure::own("a queue without sink pad"))?;
    pad.link(&sink).map(|_| ()).map_err(own)
}

/// A sink that plays from the start on, whatever the pipeline does: one that waited for playing with its first buffer
/// would stop the demuxer's only thread before the wanted stream came.
fn wire_nothing(pipeline: &gst::Pipeline, pad: &gst::Pad) -> Result<(), Failure> {
    let nothing = make("fakesink")?;
    nothing.set_property("sync", false);
    nothing.set_property("async", false);
    nothing.set_property("enable-last-sample", false);
    nothing.set_locked_state(true);
    pipeline.add(&nothing).map_err(own)?;
    nothing.set_state(gst::State::Playing).map_err(own)?;
    let sink = nothing.static_pad("sink").ok_or_else(|| Failure::own("a sink without pad"))?;
    pad.link(&sink).map(|_| ()).map_err(own)
}

/// WebM with an alpha plane is shown without it, as everywhere: the bins that would combine the two need a second stream
/// that browsers' recordings announce and never send.
fn leave_alpha_alone() {
    let registry = gst::Registry::get();
    for name in ["vp8alphadecodebin", "vp9alphadecodebin"] {
        if let Some(feature) = registry.lookup_feature(name) {
            feature.set_rank(gst::Rank::NONE);
        }
    }
}

/// Pins what decoders choose by the machine, and counts the compressed buffers that they take.
fn pin_decoders(pipeline: &gst::Pipeline, moves: &Arc<AtomicU64>) {
    let moves = Arc::clone(moves);
    pipeline.connect_deep_element_added(move |_, _, element| {
        let decoder = element
            .factory()
            .is_some_and(|f| f.has_type(gst::ElementFactoryType::DECODER | gst::ElementFactoryType::PARSER));
        if !decoder {
            return;
        }
        for property in ["max-threads", "threads"] {
            match element.find_property(property).map(|p| p.value_type()) {
                Some(gst::glib::Type::I32) => element.set_property(property, DECODER_THREADS),
                Some(gst::glib::Type::U32) => element.set_property(property, DECODER_THREADS.unsigned_abs()),
                Some(_) | None => {}
            }
        }
        if let Some(sink) = element.static_pad("sink") {
            let moves = Arc::clone(&moves);
            sink.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                moves.fetch_add(1, Ordering::Relaxed);
                gst::PadProbeReturn::Ok
            });
        }
    });
}

/// Without this answer a decoder copies each picture to rows without padding.
fn accept_strides(sink: &gst_app::AppSink) {
    if let Some(pad) = sink.static_pad("sink") {
        pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, info| {
            if let Some(query) = info.query_mut()
                && let gst::QueryViewMut::Allocation(allocation) = query.view_mut()
                && allocation.find_allocation_meta::<gst_video::VideoMeta>().is_none()
            {
                allocation.add_allocation_meta::<gst_video::VideoMeta>(None);
                return gst::PadProbeReturn::Handled;
            }
            gst::PadProbeReturn::Ok
        });
    }
}
