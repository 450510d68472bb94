//! Reading a source through its demuxer, without decoding: which streams there are and where their samples lie.
//!
//! `spoolsrc ! parsebin ! fakesink…`. Either until every stream has shown its form ([`Until::Known`], where
//! tables tell the times), or to the end ([`Until::End`]), which costs what reading costs.

use std::sync::Arc;

use gst::prelude::*;

use super::codecs;
use super::decode::{make, own};
use super::met::{Met, Shared, lock, take_streams};
use super::patience::Patience;
use super::quirks::{forgotten, numbers, times, zeros};
use super::source::{self, Ranges};
use super::streams::{self, Kind};
use super::wiring;
use crate::order::{Failure, FailureCode, Output};

/// How long one look for a message may take.
const LOOK: gst::ClockTime = gst::ClockTime::from_mseconds(20);
/// Looks without any movement at what is of a kind that is not taken, and that nobody may know how to read: 1 s.
const REFUSED_LOOKS: u32 = 50;
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

/// Reads the source.
pub fn read(
    ranges: &Arc<dyn Ranges>,
    until: Until,
    max_samples: u64,
    output: &Arc<dyn Output>,
) -> Result<Demuxed, Failure> {
    let pipeline = gst::Pipeline::new();
    let source = source::element(Arc::clone(ranges))?;
    let parsebin = make("parsebin")?;
    let container = watch_type(&pipeline);
    // What is counted here is what the decoder will get.
    wiring::keep_packets_whole(&parsebin);
    wiring::hear_errors(&parsebin);
    numbers::go_on(&parsebin);
    forgotten::state_times(&parsebin);
    times::begin_at_zero(&parsebin);
    zeros::go_with_the_next(&parsebin);
    pipeline.add_many([&source, &parsebin]).map_err(own)?;
    source.link(&parsebin).map_err(own)?;

    let met: Shared<Vec<Shared<Met>>> = Arc::default();
    take_streams(&pipeline, &parsebin, &met, max_samples);

    let (kind, demuxed) = (Arc::clone(&container), Demuxed::default());
    let mut reading = Reading { pipeline, met, source, kind, collection: None, demuxed };
    let result = reading.run(until, output);
    reading.demuxed.length_ns = reading.pipeline.query_duration::<gst::ClockTime>().map(gst::ClockTime::nseconds);
    let stopped = reading.pipeline.set_state(gst::State::Null);
    result?;
    stopped.map_err(own)?;
    let mut demuxed = std::mem::take(&mut reading.demuxed);
    demuxed.container = lock(&container).clone();
    demuxed.streams = lock(&reading.met).iter().map(|stream| lock(stream).clone()).collect();
    demuxed.streams.sort_by(|a, b| a.id.cmp(&b.id));
    let end_may_leap = demuxed.container.as_ref().is_some_and(is_mpeg_system);
    for stream in &mut demuxed.streams {
        stream.samples.sort(end_may_leap);
    }
    Ok(demuxed)
}

/// A transport or programme stream: packets with a clock, and no index.
fn is_mpeg_system(container: &gst::Caps) -> bool {
    let form = container.structure(0);
    let system = |s: &gst::StructureRef| s.get::<bool>("systemstream").unwrap_or(false);
    form.is_some_and(|s| s.name() == "video/mpegts" || s.name() == "video/mpeg" && system(s))
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
    source: gst::Element,
    /// Caps of the whole, as soon as they are known.
    kind: Shared<Option<gst::Caps>>,
    collection: Option<gst::StreamCollection>,
    demuxed: Demuxed,
}

impl Reading {
    fn run(&mut self, until: Until, output: &Arc<dyn Output>) -> Result<(), Failure> {
        let bus = self.pipeline.bus().ok_or_else(|| Failure::own("a pipeline without bus"))?;
        // A refusal shows on the bus with its reason.
        let _ = self.pipeline.set_state(gst::State::Playing);
        let (mut patience, mut seen) = (Patience::new(LOOK), 0);
        loop {
            let message = bus.timed_pop(LOOK);
            if let Some(message) = &message
                && self.ends(message)?
            {
                return Ok(());
            }
            let count: usize = lock(&self.met).iter().map(|stream| lock(stream).samples.len()).sum();
            let moved = count != seen;
            if moved {
                seen = count;
                output.progress(count as u64)?;
            }
            if moved || message.is_none() {
                patience.looked(moved, source::is_waiting(&self.source));
                if patience.quiet() >= REFUSED_LOOKS && self.is_refused() {
                    return Ok(());
                }
                patience.lasts("demuxer")?;
            }
            if until == Until::Known && (self.all_known() || count > ENOUGH_BUFFERS) {
                return Ok(());
            }
        }
    }

    /// Is it of a kind that is not taken? Of one that looks like a stream and has no parser, nothing ever comes.
    fn is_refused(&self) -> bool {
        lock(&self.kind).as_ref().is_some_and(|caps| codecs::container(caps).is_err())
    }

    /// Takes a message; true when it is the last.
    #[expect(clippy::wildcard_enum_match_arm, reason = "gstreamer's messages are an open list")]
    fn ends(&mut self, message: &gst::Message) -> Result<bool, Failure> {
        match message.view() {
            gst::MessageView::Eos(_) => return Ok(true),
            gst::MessageView::Error(error) => {
                let text = format!("{} ({})", error.error(), error.debug().unwrap_or_default());
                if error.src().is_some_and(|src| *src == self.source) {
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
            streams::of_kind(collection, kind).all(|stream| {
                let id = streams::id_of(&stream);
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
