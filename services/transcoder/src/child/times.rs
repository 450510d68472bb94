//! When a decoded picture is shown: what its packet states, carried past the decoder.
//!
//! Decoders' base class mends times by guesses: a picture that begins before the edit is shown for its rest, a missing
//! time is taken from the next packet decoded and drags its neighbours along, and AVI's keyframes, whose one time is that
//! of decoding, are shown too early. So each packet's time travels with it as a meta, and comes back on its picture:
//!
//! - a time of presentation as it is; where it lies before the segment the picture is not shown, as everybody does it;
//! - no time (MPEG program and transport streams state one for some pictures only): the predecessor's, so that it
//!   stands still, which [`super::even`] takes for what it is;
//!   In Matroska, where every block has a time, those that come first without any lie before zero and are not shown;
//! - where times of decoding are all there is (AVI): the picture shown next takes the smallest one not taken.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use gst::prelude::*;

use super::wiring::Sought;
use crate::order::Failure;

/// Pictures that a decoder may hold beyond those that it held when the first came out: it learns of reordering late. What
/// is held beyond that was lost inside, and its time is passed over.
const LEARNT: usize = 2;

/// What the times of a demuxer's packets mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stated {
    /// When each is shown, where anything is said.
    Shown,
    /// When each is shown; of those without, when they are decoded.
    ShownOrDecoded,
    /// When each is decoded, whatever it is called.
    Decoded,
}

impl Stated {
    /// What holds for a demuxer, by its factory's name.
    pub fn by(demuxer: &str) -> Self {
        match demuxer {
            "avidemux" => Self::Decoded,
            // Tracks that were put in as AVI has them.
            "matroskademux" => Self::ShownOrDecoded,
            _ => Self::Shown,
        }
    }

    /// The time that travels with a packet.
    fn of(self, packet: &gst::BufferRef) -> Stamp {
        let decoded = || packet.dts().map_or(Stamp::Unknown, |at| Stamp::Decoded(at.nseconds()));
        match (self, packet.pts()) {
            (Self::Shown | Self::ShownOrDecoded, Some(at)) => Stamp::Shown(at.nseconds()),
            (Self::Shown, None) => Stamp::Unknown,
            (Self::ShownOrDecoded, None) | (Self::Decoded, _) => decoded(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stamp {
    Shown(u64),
    Decoded(u64),
    Unknown,
}

/// Times between a decoder's two ends.
#[derive(Debug, Default)]
struct Between {
    /// Times of decoding that no picture has taken.
    waiting: BTreeSet<u64>,
    /// How many waited when the first picture came out.
    held: Option<usize>,
    /// Time of the last picture.
    last: Option<u64>,
}

impl Between {
    fn enters(&mut self, stamp: Stamp) {
        if let Stamp::Decoded(at) = stamp {
            self.waiting.insert(at);
        }
    }

    /// The time of a picture that comes out; none where nothing is known yet.
    fn leaves(&mut self, stamp: Stamp) -> Option<u64> {
        let at = match stamp {
            Stamp::Shown(at) => Some(at),
            Stamp::Unknown => self.last,
            Stamp::Decoded(_) => {
                let held = *self.held.get_or_insert(self.waiting.len());
                while self.waiting.len() > held + LEARNT {
                    self.waiting.pop_first();
                }
                self.waiting.pop_first().or(self.last)
            }
        };
        self.last = at;
        at
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names of the meta's three kinds of time.
static SHOWN: LazyLock<gst::Caps> = LazyLock::new(|| gst::Caps::new_empty_simple("timestamp/x-spool-shown"));
static DECODED: LazyLock<gst::Caps> = LazyLock::new(|| gst::Caps::new_empty_simple("timestamp/x-spool-decoded"));
static UNKNOWN: LazyLock<gst::Caps> = LazyLock::new(|| gst::Caps::new_empty_simple("timestamp/x-spool-unknown"));

fn write(stamp: Stamp, packet: &mut gst::BufferRef) {
    let (kind, at) = match stamp {
        Stamp::Shown(at) => (&SHOWN, at),
        Stamp::Decoded(at) => (&DECODED, at),
        Stamp::Unknown => (&UNKNOWN, 0),
    };
    gst::ReferenceTimestampMeta::add(packet, kind, gst::ClockTime::from_nseconds(at), gst::ClockTime::NONE);
}

fn read(picture: &gst::BufferRef) -> Option<Stamp> {
    picture.iter_meta::<gst::ReferenceTimestampMeta>().find_map(|meta| {
        let (kind, at) = (meta.reference(), meta.timestamp().nseconds());
        [(&SHOWN, Stamp::Shown(at)), (&DECODED, Stamp::Decoded(at)), (&UNKNOWN, Stamp::Unknown)]
            .into_iter()
            .find_map(|(known, stamp)| (kind == known.as_ref()).then_some(stamp))
    })
}

/// Is the packets' own time stream time, whatever segments say? `matroskademux` begins with a segment that calls the first
/// sample's time zero and corrects itself some samples later, so the first pictures of a whole pass would lie elsewhere than
/// those of a pass that was gone to by a seek. That of `tsdemux` begins with the first packet that is whole, mostly a picture:
/// of a broadcast that is cut anywhere, as much sound before it was lost as pictures are sent ahead.
pub fn are_plain(demuxers: &[gst::Element]) -> bool {
    let plain = |name: &str| matches!(name, "matroskademux" | "tsdemux");
    demuxers.iter().any(|demuxer| demuxer.factory().is_some_and(|factory| plain(&factory.name())))
}

/// Makes stream time on `pad` the packets' own time.
pub fn make_plain(pad: &gst::Pad) {
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |_, info| {
        if let Some(event) = info.event()
            && event.type_() == gst::EventType::Segment
        {
            let plain = gst::FormattedSegment::<gst::ClockTime>::new();
            let event = gst::event::Segment::builder(&plain).seqnum(event.seqnum()).build();
            info.data = Some(gst::PadProbeData::Event(event));
        }
        gst::PadProbeReturn::Ok
    });
}

/// Carries times past `decoder`. `sought` is the stream time that was last gone to: what is shown at it may have begun
/// before.
pub fn carry(decoder: &gst::Element, stated: Stated, sought: &Sought) -> Result<(), Failure> {
    let pad = |name| decoder.static_pad(name).ok_or_else(|| Failure::own(format!("a decoder without {name} pad")));
    let between = Arc::new(Mutex::new(Between::default()));
    let entering = Arc::clone(&between);
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_FLUSH;
    pad("sink")?.add_probe(kinds, move |_, info| {
        if let Some(packet) = info.buffer_mut() {
            let packet = packet.make_mut();
            let stamp = stated.of(packet);
            write(stamp, packet);
            lock(&entering).enters(stamp);
        } else {
            *lock(&entering) = Between::default();
        }
        gst::PadProbeReturn::Ok
    });
    let sought = Arc::clone(sought);
    pad("src")?.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(picture) = info.buffer_mut() else { return gst::PadProbeReturn::Ok };
        let stamp = read(picture);
        // Every block of Matroska has a time; of one before zero the demuxer says none, or zero if it is the first.
        let last = lock(&between).last;
        if stated == Stated::ShownOrDecoded && stamp == Some(Stamp::Unknown) && last.is_none_or(|last| last == 0) {
            return gst::PadProbeReturn::Drop;
        }
        let Some(at) = stamp.and_then(|stamp| lock(&between).leaves(stamp)) else {
            return gst::PadProbeReturn::Ok;
        };
        let ends = at.saturating_add(picture.duration().map_or(0, gst::ClockTime::nseconds));
        let segment = pad.sticky_event::<gst::event::Segment>(0);
        let segment = segment.as_ref().and_then(|event| event.segment().downcast_ref::<gst::ClockTime>());
        let ns = |time: Option<gst::ClockTime>| time.map(gst::ClockTime::nseconds);
        let sought = *lock(&sought);
        match ns(segment.and_then(|s| s.start())) {
            // The rest of a picture at the place that was gone to, as the decoder cut it.
            Some(start) if at < start && ns(segment.and_then(|s| s.time())) == sought => gst::PadProbeReturn::Ok,
            // The rest of a picture that an edit cut away.
            Some(start) if at < start => gst::PadProbeReturn::Drop,
            // Where segments were made plain the decoder does not know what was gone to.
            Some(_) if stated != Stated::Shown && sought.is_some_and(|sought| ends <= sought) => {
                gst::PadProbeReturn::Drop
            }
            Some(_) | None => {
                picture.make_mut().set_pts(gst::ClockTime::from_nseconds(at));
                gst::PadProbeReturn::Ok
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_take_times_of_decoding_in_the_order_in_which_they_are_shown() {
        let mut between = Between::default();
        [0, 40, 80].into_iter().for_each(|at| between.enters(Stamp::Decoded(at)));
        let mut shown = vec![between.leaves(Stamp::Decoded(0))];
        for (enters, leaves) in [(120, 80), (160, 120), (200, 40)] {
            between.enters(Stamp::Decoded(enters));
            shown.push(between.leaves(Stamp::Decoded(leaves)));
        }
        shown.extend([between.leaves(Stamp::Decoded(160)), between.leaves(Stamp::Decoded(200))]);
        assert_eq!(shown, [0, 40, 80, 120, 160, 200].map(Some));
    }

    #[test]
    fn packets_without_a_picture_do_not_make_all_later_ones_early() {
        let mut between = Between::default();
        let mut last = None;
        for at in 0..100 {
            between.enters(Stamp::Decoded(at * 40));
            // Every tenth packet is one that shows nothing.
            if at % 10 != 9 {
                last = between.leaves(Stamp::Decoded(at * 40));
            }
        }
        assert_eq!(last, Some(98 * 40 - LEARNT as u64 * 40));
    }

    #[test]
    fn a_picture_without_a_time_stands_still() {
        let mut between = Between::default();
        assert_eq!(between.leaves(Stamp::Unknown), None);
        assert_eq!(between.leaves(Stamp::Shown(40)), Some(40));
        assert_eq!(between.leaves(Stamp::Unknown), Some(40));
    }
}
