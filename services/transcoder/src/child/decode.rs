//! One stream of the source, decoded: source ! parsebin ! queue ! decoder ! queue ! tail ! appsink, pulled by the caller.
//!
//! `decodebin3` is not used: it decides anew with each announcement of streams (FLV makes three, the last of one stream
//! alone: 10 of 30 runs stood still), takes no data tracks (phones' `mebx` ended the demuxer), and queues what nobody
//! wants. Here the wanted stream's pad gets its decoder, and every other one a sink that takes all and waits for nothing.
//!
//! The caller pulls at its own pace, so back-pressure reaches the demuxer and the caller alone decides what happens to
//! a frame. A decoder or demuxer that gives up is the end of what can be had, with a reason; whether that is too short
//! is the caller's question ([`crate::child::video`], [`crate::child::audio`]). Nothing here waits for ever: whatever
//! moves no byte is a stall in the end ([`super::patience`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use gst::prelude::*;
use spool_proto::media::Container;

use super::codecs;
use super::patience::Patience;
use super::quirks::{forgotten, numbers, times, zeros};
use super::source::{self, Ranges};
use super::streams::Kind;
use super::wiring::{self, Refused, Sought};
use crate::order::{Failure, FailureCode};

/// How long one look for a frame or a message may take.
const LOOK: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// Looks without any movement after which nothing more comes of a pipeline that gave up: 1 s. What it had read before
/// still counts, and a decoder may be behind.
const DRAINED_LIMIT: u32 = 10;
/// Decoded pictures or blocks of sound that wait between decoder, tail and caller, each.
const QUEUED: u32 = 2;

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
        /// Does it wait for the store?
        waits: bool,
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
    source: gst::Element,
    wanted: Wanted,
    moves: Arc<AtomicU64>,
    seen_moves: u64,
    patience: Patience,
    gave_up: Option<String>,
    refused: Refused,
    sought: Sought,
}

impl Decode {
    /// Builds the pipeline and waits until the first frame or block stands at its end. `tail` has one `sink` and one
    /// `src` pad and is what stands between the decoder and the caller.
    pub fn open(ranges: &Arc<dyn Ranges>, wanted: Wanted, tail: &gst::Bin) -> Result<Self, Failure> {
        wiring::leave_alpha_alone();
        let pipeline = gst::Pipeline::new();
        let source = source::element(Arc::clone(ranges))?;
        let parser = make("parsebin")?;
        let queue = make("queue")?;
        queue.set_property("max-size-buffers", QUEUED);
        queue.set_property("max-size-bytes", 0u32);
        queue.set_property("max-size-time", 0u64);
        let sink = gst_app::AppSink::builder().sync(false).max_buffers(QUEUED).build();
        wiring::accept_strides(&sink);
        let elements = [&source, &parser, &queue, tail.upcast_ref(), sink.upcast_ref()];
        pipeline.add_many(elements).map_err(own)?;
        source.link(&parser).map_err(own)?;
        gst::Element::link_many([&queue, tail.upcast_ref(), sink.upcast_ref()]).map_err(own)?;

        let moves = Arc::new(AtomicU64::new(0));
        let (refused, sought) = (Arc::default(), Arc::default());
        wiring::keep_packets_whole(&parser);
        wiring::hear_errors(&parser);
        numbers::go_on(&parser);
        forgotten::state_times(&parser);
        times::begin_at_zero(&parser);
        zeros::go_with_the_next(&parser);
        wiring::wire_streams(&pipeline, &parser, &queue, wanted, &refused, &sought);
        wiring::pin_decoders(&pipeline, &moves);
        let bus = pipeline.bus().ok_or_else(|| Failure::own("a pipeline without bus"))?;
        let (seen_moves, patience, gave_up) = (0, Patience::new(LOOK), None);
        let mut decode =
            Self { pipeline, sink, bus, source, wanted, moves, seen_moves, patience, gave_up, refused, sought };
        decode.pipeline.set_state(gst::State::Paused).map_err(own)?;
        decode.preroll()?;
        Ok(decode)
    }

    /// Goes to `at_ns` of stream time: what comes then starts there, exactly. False where the source cannot; it then
    /// goes on from where it was.
    pub fn seek(&mut self, at_ns: u64) -> bool {
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
        let at = gst::ClockTime::from_nseconds(at_ns);
        let before = self.set_sought(Some(at_ns));
        let sought =
            self.pipeline.seek(1.0, flags, gst::SeekType::Set, at, gst::SeekType::None, gst::ClockTime::NONE).is_ok();
        if !sought {
            self.set_sought(before);
        }
        sought
    }

    fn set_sought(&self, at_ns: Option<u64>) -> Option<u64> {
        std::mem::replace(&mut *self.sought.lock().unwrap_or_else(PoisonError::into_inner), at_ns)
    }

    /// Lets it run: to be called once, after the seeks.
    pub fn run(&mut self) {
        if self.pipeline.set_state(gst::State::Playing).is_err() {
            self.gave_up.get_or_insert_with(|| "the pipeline did not go on".to_owned());
        }
    }

    /// The next frame or block, or a sign of life.
    pub fn pull(&mut self) -> Result<Pulled, Failure> {
        // Each time, so that messages nobody asks for never pile up behind a long run of frames.
        self.read_messages()?;
        if let Some(sample) = self.sink.try_pull_sample(LOOK) {
            self.patience.looked(true, false);
            return Ok(Pulled::Sample(sample));
        }
        if self.sink.is_eos() {
            // A demuxer that gives up says so before it ends its streams.
            self.read_messages()?;
            return Ok(Pulled::End { gave_up: self.gave_up.take() });
        }
        let waits = source::is_waiting(&self.source);
        let moved = self.look_for_movement(waits)?;
        if self.gave_up.is_some() && self.patience.quiet() >= DRAINED_LIMIT {
            return Ok(Pulled::End { gave_up: self.gave_up.take() });
        }
        Ok(Pulled::Quiet { moved, waits })
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
            self.look_for_movement(source::is_waiting(&self.source))?;
        }
    }

    fn look_for_movement(&mut self, waits: bool) -> Result<bool, Failure> {
        let moves = self.moves.load(Ordering::Relaxed);
        let moved = moves != self.seen_moves;
        self.seen_moves = moves;
        self.patience.looked(moved, waits);
        self.patience.lasts("decoder")?;
        Ok(moved)
    }

    fn read_messages(&mut self) -> Result<(), Failure> {
        if let Some(refused) = self.refused.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(refused);
        }
        while let Some(message) = self.bus.pop_filtered(&[gst::MessageType::Error, gst::MessageType::Element]) {
            if let gst::MessageView::Error(error) = message.view() {
                let detail = format!("{} ({})", error.error(), error.debug().unwrap_or_default());
                if error.src().is_some_and(|src| *src == self.source) {
                    return Err(Failure::new(FailureCode::SourceUnreadable, detail.clone()).with("detail", detail));
                }
                self.gave_up.get_or_insert(detail);
            }
            if let gst::MessageView::Element(element) = message.view() {
                self.look_for_missing_decoder(element)?;
            }
        }
        Ok(())
    }

    /// The parser asks for a decoder of each stream that it has no name for, so a missing one is ours only where it could
    /// have been chosen: where its codec is on the list of its kind.
    fn look_for_missing_decoder(&self, message: &gst::message::Element) -> Result<(), Failure> {
        let Some(missing) = message.structure().filter(|s| s.name() == "missing-plugin") else { return Ok(()) };
        let Ok(caps) = missing.get::<gst::Caps>("detail") else { return Ok(()) };
        let listed = match self.wanted.kind {
            Kind::Video => codecs::video(&caps).is_ok(),
            Kind::Audio => codecs::audio(&caps, Container::Matroska).is_ok(),
        };
        if !listed || Kind::of_caps(&caps) != Some(self.wanted.kind) {
            return Ok(());
        }
        let kind = self.wanted.kind.as_str();
        let codec = caps.structure(0).map(|s| s.name().to_string()).unwrap_or_default();
        let detail = missing.to_string();
        Err(Failure::new(FailureCode::SourceCodecUnsupported, detail)
            .with("kind", kind)
            .with("codec", codecs::for_people(&codec)))
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
