//! Which stream of a source gets which decoder, and what all others get: the inner side of [`super::decode`].
//!
//! Everything here runs on the demuxer's threads, so what it finds wrong is noted and told by the next pull.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use gst::prelude::*;

use super::codecs;
use super::decode::{Wanted, make, own};
use super::quirks::times::{self, Stated};
use super::quirks::{adpcm, lpcm};
use super::streams::Kind;
use crate::order::{Failure, FailureCode};

/// Threads of one decoder. Frame threads change nothing in the picture, but they cost memory, and their number belongs
/// to what is pinned.
pub(crate) const DECODER_THREADS: i32 = 2;
/// Compressed pictures or blocks that are read ahead of the decoder.
const AHEAD: u32 = 16;
/// The same in bytes: pictures of a source may be large even before decoding. One that is larger passes alone.
const AHEAD_BYTES: u32 = 32 * 1024 * 1024;

/// How long a demuxer waits before its first read for the parser to be done with trying it, and how often it looks.
const TRIED_AT_MOST: Duration = Duration::from_secs(5);
const TRIED_LOOK: Duration = Duration::from_millis(1);

/// What wiring found that ends the decode.
pub(crate) type Refused = Arc<Mutex<Option<Failure>>>;
/// The stream time that was last gone to.
pub(crate) type Sought = Arc<Mutex<Option<u64>>>;

/// MPEG-4 of AVI, and of Matroska where it came from there, goes to the decoder in the packets of its container: often one
/// holds two pictures and the next one none, and a parser that takes them apart takes their times from them. Decoders know
/// such packets.
pub(crate) fn keep_packets_whole(parser: &gst::Element) {
    parser.connect("autoplug-continue", false, |args| {
        let parser = args.first()?.get::<gst::Element>().ok()?;
        let caps = args.get(2)?.get::<gst::Caps>().ok()?;
        let whole = is_mpeg4(&caps) && demuxers(&parser).iter().any(|demuxer| stated_by(demuxer) != Stated::Shown);
        Some((!whole).to_value())
    });
}

/// Is it MPEG-4 Part 2?
fn is_mpeg4(caps: &gst::Caps) -> bool {
    caps.structure(0).is_some_and(|form| match form.name().as_str() {
        "video/mpeg" => form.get::<i32>("mpegversion") == Ok(4),
        name => matches!(name, "video/x-divx" | "video/x-xvid"),
    })
}

/// Lets each demuxer that is put into `parser` read only when its errors are heard.
///
/// While the parser tries an element it keeps the element's errors to itself, and forgets them once the element runs:
/// a demuxer that gives up within its first microseconds was never heard of, and the pipeline stood still (1 of 100
/// broken headers on a busy machine; `connect_pad` of gstparsebin.c, 1.22). The parser's last act after that is to
/// unlock the element's state, so its first read from another thread waits for this.
pub(crate) fn hear_errors(parser: &gst::Element) {
    let Some(parser) = parser.dynamic_cast_ref::<gst::Bin>() else { return };
    parser.connect_element_added(|_, element| {
        let Some(sink) = element.static_pad("sink").filter(|_| element.is_locked_state()) else { return };
        let (tried_by, element) = (thread::current().id(), element.downgrade());
        sink.add_probe(gst::PadProbeType::PULL | gst::PadProbeType::BLOCK, move |_, _| {
            // What is read on the parser's own thread belongs to the try: its result is the element's state.
            let tried = || thread::current().id() != tried_by && element.upgrade().is_some_and(|e| e.is_locked_state());
            let started = Instant::now();
            while tried() && started.elapsed() < TRIED_AT_MOST {
                thread::sleep(TRIED_LOOK);
            }
            gst::PadProbeReturn::Remove
        });
    });
}

/// The demuxers inside a parser, one inside another where containers are.
pub(super) fn demuxers(parser: &gst::Element) -> Vec<gst::Element> {
    let Some(parser) = parser.dynamic_cast_ref::<gst::Bin>() else { return Vec::new() };
    let is_demuxer = |e: &gst::Element| e.factory().is_some_and(|f| f.has_type(gst::ElementFactoryType::DEMUXER));
    parser.iterate_recurse().into_iter().flatten().filter(is_demuxer).collect()
}

fn stated_by(demuxer: &gst::Element) -> Stated {
    demuxer.factory().map_or(Stated::Shown, |factory| Stated::by(&factory.name()))
}

/// Gives the wanted stream its decoder and the others a sink.
pub(crate) fn wire_streams(
    pipeline: &gst::Pipeline,
    parser: &gst::Element,
    queue: &gst::Element,
    wanted: Wanted,
    refused: &Refused,
    sought: &Sought,
) {
    let (weak, queue_weak, told) = (pipeline.downgrade(), queue.downgrade(), Arc::clone(refused));
    let (queue, sought) = (queue_weak.clone(), Arc::clone(sought));
    parser.connect_pad_added(move |parser, pad| {
        let (Some(pipeline), Some(queue)) = (weak.upgrade(), queue.upgrade()) else { return };
        let free = queue.static_pad("sink").is_some_and(|sink| !sink.is_linked());
        let refuse = {
            let told = Arc::clone(&told);
            move |failure| {
                told.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
            }
        };
        if !free || !is_wanted(parser, pad, wanted) {
            wire_nothing(&pipeline, pad).unwrap_or_else(refuse);
        } else if shows_its_form(pad, wanted.kind) {
            wire_decoder(&pipeline, parser, pad, &queue, wanted.kind, &sought).unwrap_or_else(refuse);
        } else {
            let (pipeline, parser, sought) = (pipeline.downgrade(), parser.downgrade(), Arc::clone(&sought));
            let queue = queue.downgrade();
            once_it_shows_its_form(pad, move |pad| {
                let all = (pipeline.upgrade(), parser.upgrade(), queue.upgrade());
                let (Some(pipeline), Some(parser), Some(queue)) = all else { return };
                // Behind tags the form of bare sound was seen to be told twice, once in thousands of times.
                if queue.static_pad("sink").is_some_and(|sink| sink.is_linked()) {
                    return;
                }
                wire_decoder(&pipeline, &parser, pad, &queue, wanted.kind, &sought).unwrap_or_else(&refuse);
            });
        }
    });
    let (queue, told) = (queue_weak, Arc::clone(refused));
    parser.connect("drained", false, move |_| {
        let came = queue.upgrade().and_then(|queue| queue.static_pad("sink")).is_none_or(|sink| sink.is_linked());
        if !came {
            let failure = Failure::new(FailureCode::SourceUndecodable, "the stream never came");
            let failure = failure.with("kind", wanted.kind.as_str()).with("codec", "of an unknown codec");
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
    let pads = demuxers(parser).into_iter().flat_map(|demuxer| demuxer.src_pads());
    let ids: BTreeSet<_> = pads.filter(|pad| carries(pad, wanted.kind)).filter_map(|pad| pad.stream_id()).collect();
    let chosen = ids.into_iter().nth(wanted.stream as usize);
    // One that has no id yet is not a demuxer's, so it is the only one.
    chosen.is_none_or(|id| pad.stream_id().is_none_or(|own| own == id))
}

/// Does a pad carry pictures, or sound?
fn carries(pad: &gst::Pad, kind: Kind) -> bool {
    if let Some(stream) = pad.stream() {
        return kind.matches(stream.stream_type());
    }
    Kind::of_caps(&caps_of(pad)) == Some(kind)
}

/// What a pad carries, as far as it is known: bare sound is handed out before the first packet came, and then with the
/// caps of the tags before it, or none.
fn caps_of(pad: &gst::Pad) -> gst::Caps {
    pad.current_caps().filter(|caps| Kind::of_caps(caps).is_some()).unwrap_or_else(|| pad.query_caps(None))
}

/// Is it known what comes? A parser of sound that has read nothing yet offers all that it could ever hand out, of several
/// codecs (`ac3parse`) or forms (`aacparse`), of which no decoder takes all; and what a demuxer calls it may be wrong (AC-3
/// of camcorders). Those of pictures have one decoder for all that they hand out.
fn shows_its_form(pad: &gst::Pad, kind: Kind) -> bool {
    kind == Kind::Video || pad.current_caps().is_some_and(|caps| caps.is_fixed() && Kind::of_caps(&caps).is_some())
}

/// Calls `wire` when the pad's form is on its way to whom it is wired to.
fn once_it_shows_its_form(pad: &gst::Pad, wire: impl Fn(&gst::Pad) + Send + Sync + 'static) {
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        if !info.event().is_some_and(|event| event.type_() == gst::EventType::Caps) {
            return gst::PadProbeReturn::Ok;
        }
        wire(pad);
        gst::PadProbeReturn::Remove
    });
}

/// The best-ranked decoder of what the pad carries, between the pad and `queue`. Raw streams need none.
fn wire_decoder(
    pipeline: &gst::Pipeline,
    parser: &gst::Element,
    pad: &gst::Pad,
    queue: &gst::Element,
    kind: Kind,
    sought: &Sought,
) -> Result<(), Failure> {
    let caps = caps_of(pad);
    let name = caps.structure(0).map(|s| s.name().to_string()).unwrap_or_default();
    let ahead = make("queue")?;
    ahead.set_property("max-size-buffers", AHEAD);
    ahead.set_property("max-size-bytes", AHEAD_BYTES);
    ahead.set_property("max-size-time", 0u64);
    let sink = ahead.static_pad("sink").ok_or_else(|| Failure::own("a queue without sink pad"))?;
    let demuxers = demuxers(parser);
    adpcm::count_times(&sink, &demuxers);
    lpcm::make_plain(&sink, &caps);
    let stated = demuxers.iter().map(stated_by).find(|stated| *stated != Stated::Shown);
    let stated = stated.unwrap_or(Stated::Shown);
    if stated != Stated::Shown || times::are_plain(&demuxers) {
        times::make_plain(&sink);
    }
    let mut chain = vec![ahead];
    if !name.ends_with("/x-raw") {
        let decoders = gst::ElementFactory::factories_with_type(gst::ElementFactoryType::DECODER, gst::Rank::MARGINAL);
        // One that takes everything of the kind before one that might not; names decide between equals.
        let merit = |f: &gst::ElementFactory| (f.can_sink_all_caps(&caps), f.rank(), Reverse(f.name()));
        let best = decoders.into_iter().filter(|f| f.can_sink_any_caps(&caps)).max_by_key(merit);
        let best = best.ok_or_else(|| {
            let failure = Failure::new(FailureCode::SourceCodecUnsupported, format!("no decoder takes {caps}"));
            failure.with("kind", kind.as_str()).with("codec", codecs::for_people(&name))
        })?;
        let decoder = best.create().build().map_err(own)?;
        if kind == Kind::Video {
            if stated == Stated::Decoded || stated == Stated::ShownOrDecoded && is_mpeg4(&caps) {
                times::in_step(&decoder);
            }
            times::carry(&decoder, stated, sought)?;
        }
        chain.push(decoder);
    }
    // The elements fit each other; what does not fit them is what the source states.
    let unfit = |err: String| {
        let failure = Failure::new(FailureCode::SourceUndecodable, format!("{caps}: {err}"));
        failure.with("kind", kind.as_str()).with("codec", codecs::for_people(&name))
    };
    pipeline.add_many(&chain).map_err(own)?;
    gst::Element::link_many(chain.iter().chain([queue])).map_err(|err| unfit(err.to_string()))?;
    for element in chain.iter().rev() {
        element.sync_state_with_parent().map_err(own)?;
    }
    pad.link(&sink).map(|_| ()).map_err(|err| unfit(err.to_string()))
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
pub(crate) fn leave_alpha_alone() {
    let registry = gst::Registry::get();
    for name in ["vp8alphadecodebin", "vp9alphadecodebin"] {
        if let Some(feature) = registry.lookup_feature(name) {
            feature.set_rank(gst::Rank::NONE);
        }
    }
}

/// Pins what decoders choose by the machine, and counts the compressed buffers that they take.
pub(crate) fn pin_decoders(pipeline: &gst::Pipeline, moves: &Arc<AtomicU64>) {
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
pub(crate) fn accept_strides(sink: &gst_app::AppSink) {
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
