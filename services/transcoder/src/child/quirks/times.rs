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
//! - where times of decoding are all there is (AVI): that of the packet which made the decoder hand the picture out, as
//!   ffmpeg and what is built on it show such files; but the first picture is shown from the first packet on, so that the
//!   file is as long as it says. Of those that come out behind the last packet no time is known: it stands still.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

use gst::prelude::*;

use super::leading::{self, Leading};
use crate::child::wiring::Sought;
use crate::order::Failure;

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
    /// Of a picture that is not to be shown.
    Leading,
}

/// Times between a decoder's two ends.
#[derive(Debug, Default)]
struct Between {
    /// Times of decoding of the packets that went in first and last.
    decoded: Option<(u64, u64)>,
    /// Time of the last picture.
    last: Option<u64>,
    leading: Leading,
}

impl Between {
    /// A packet goes in. Answers what travels with it.
    fn enters(&mut self, stamp: Stamp, keyframe: bool, may_lead: bool) -> Stamp {
        if let Stamp::Decoded(at) = stamp {
            let (first, last) = self.decoded.unwrap_or((at, at));
            self.decoded = Some((first, last.max(at)));
        }
        match stamp {
            Stamp::Shown(at) if may_lead && self.leading.is_next(at, keyframe) => Stamp::Leading,
            Stamp::Shown(_) | Stamp::Decoded(_) | Stamp::Unknown | Stamp::Leading => stamp,
        }
    }

    /// The time of a picture that comes out; none where nothing is known yet.
    fn leaves(&mut self, stamp: Stamp) -> Option<u64> {
        let at = match stamp {
            Stamp::Shown(at) => Some(at),
            Stamp::Unknown => self.last,
            Stamp::Decoded(_) => self.decoded.map(|(first, last)| if self.last.is_none() { first } else { last }),
            Stamp::Leading => return None,
        };
        self.last = at;
        at
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names of the meta's kinds of time.
static SHOWN: LazyLock<gst::Caps> = LazyLock::new(|| gst::Caps::new_empty_simple("timestamp/x-spool-shown"));
static DECODED: LazyLock<gst::Caps> = LazyLock::new(|| gst::Caps::new_empty_simple("timestamp/x-spool-decoded"));
static LEADING: LazyLock<gst::Caps> = LazyLock::new(|| gst::Caps::new_empty_simple("timestamp/x-spool-leading"));
static UNKNOWN: LazyLock<gst::Caps> = LazyLock::new(|| gst::Caps::new_empty_simple("timestamp/x-spool-unknown"));

fn write(stamp: Stamp, packet: &mut gst::BufferRef) {
    let (kind, at) = match stamp {
        Stamp::Shown(at) => (&SHOWN, at),
        Stamp::Decoded(at) => (&DECODED, at),
        Stamp::Unknown => (&UNKNOWN, 0),
        Stamp::Leading => (&LEADING, 0),
    };
    gst::ReferenceTimestampMeta::add(packet, kind, gst::ClockTime::from_nseconds(at), gst::ClockTime::NONE);
}

fn read(picture: &gst::BufferRef) -> Option<Stamp> {
    picture.iter_meta::<gst::ReferenceTimestampMeta>().find_map(|meta| {
        let (kind, at) = (meta.reference(), meta.timestamp().nseconds());
        let known = [
            (&SHOWN, Stamp::Shown(at)),
            (&DECODED, Stamp::Decoded(at)),
            (&UNKNOWN, Stamp::Unknown),
            (&LEADING, Stamp::Leading),
        ];
        known.into_iter().find_map(|(known, stamp)| (kind == known.as_ref()).then_some(stamp))
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

/// Lets parsers see such segments of the demuxers that are put into `parser`: one that begins with a picture begins behind
/// sound that is heard before it, and a parser hands out nothing of what lies before its segment.
pub(in crate::child) fn begin_at_zero(parser: &gst::Element) {
    let Some(parser) = parser.dynamic_cast_ref::<gst::Bin>() else { return };
    parser.connect_element_added(|_, element| {
        if element.factory().is_some_and(|factory| factory.name() == "tsdemux") {
            element.connect_pad_added(|_, pad| make_plain(pad));
        }
    });
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

/// Lets `decoder` hand a picture out as soon as it can: one that decodes several at once does so some packets later.
pub fn in_step(decoder: &gst::Element) {
    if decoder.has_property("thread-type") {
        decoder.set_property_from_str("thread-type", "slice");
    }
}

/// Carries times past `decoder`. `sought` is the stream time that was last gone to: what is shown at it may have begun
/// before.
pub fn carry(decoder: &gst::Element, stated: Stated, sought: &Sought) -> Result<(), Failure> {
    let pad = |name| decoder.static_pad(name).ok_or_else(|| Failure::own(format!("a decoder without {name} pad")));
    let between = Arc::new(Mutex::new(Between::default()));
    let entering = Arc::clone(&between);
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_FLUSH;
    let may_lead = OnceLock::new();
    pad("sink")?.add_probe(kinds, move |pad, info| {
        if let Some(packet) = info.buffer_mut() {
            let may_lead = *may_lead.get_or_init(|| pad.current_caps().as_ref().is_some_and(leading::concern));
            let packet = packet.make_mut();
            let keyframe = !packet.flags().contains(gst::BufferFlags::DELTA_UNIT);
            let stamp = lock(&entering).enters(stated.of(packet), keyframe, may_lead);
            write(stamp, packet);
        } else {
            *lock(&entering) = Between::default();
        }
        gst::PadProbeReturn::Ok
    });
    let sought = Arc::clone(sought);
    pad("src")?.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(picture) = info.buffer_mut() else { return gst::PadProbeReturn::Ok };
        let stamp = read(picture);
        if stamp == Some(Stamp::Leading) {
            return gst::PadProbeReturn::Drop;
        }
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

    /// What comes out of a decoder for `(time of a packet, pictures that it makes it hand out)`.
    fn shown(packets: &[(u64, usize)]) -> Vec<Option<u64>> {
        let mut between = Between::default();
        let mut times = Vec::new();
        for (at, pictures) in packets {
            between.enters(Stamp::Decoded(*at), true, false);
            times.extend((0..*pictures).map(|_| between.leaves(Stamp::Decoded(0))));
        }
        times
    }

    #[test]
    fn a_picture_is_shown_when_the_packet_comes_that_makes_its_decoder_hand_it_out() {
        assert_eq!(shown(&[(0, 0), (40, 1), (80, 1), (120, 1)]), [Some(0), Some(80), Some(120)], "the first at once");
        assert_eq!(shown(&[(0, 0), (40, 0), (80, 1), (120, 1)]), [Some(0), Some(120)]);
    }

    #[test]
    fn behind_the_last_packet_pictures_stand_still() {
        assert_eq!(shown(&[(0, 0), (40, 0), (80, 3)]), [Some(0), Some(80), Some(80)]);
    }

    #[test]
    fn packets_without_a_picture_make_no_later_one_early() {
        let packets: Vec<(u64, usize)> = (0..100).map(|at| (at * 40, usize::from(at % 10 != 9))).collect();
        assert_eq!(shown(&packets).last(), Some(&Some(98 * 40)));
    }

    #[test]
    fn a_picture_without_a_time_stands_still() {
        let mut between = Between::default();
        assert_eq!(between.leaves(Stamp::Unknown), None);
        assert_eq!(between.leaves(Stamp::Shown(40)), Some(40));
        assert_eq!(between.leaves(Stamp::Unknown), Some(40));
    }
}
