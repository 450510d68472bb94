//! Times that a demuxer forgets to state.
//!
//! `matroskademux` (1.22) puts a head before each picture of Apple ProRes, as its decoder wants it, and leaves the picture's
//! time behind: none was ever placed, and a film came out as sound alone. Such pictures come at a steady rate, which the
//! track states, and each of them stands alone; so they are counted from where the demuxer says that it begins. What is
//! counted is never cut to be read at several places ([`crate::child::inspect`]).

use std::sync::{Mutex, PoisonError};

use gst::prelude::*;

/// Caps of pictures whose times are forgotten, and who forgets them.
pub(in crate::child) const PRORES: &str = "video/x-prores";
const FORGETS: &str = "matroskademux";

/// Pictures as they come: how many since zero, and how long each lasts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counted {
    next: u64,
    /// Pictures in so many seconds; nothing is known before the caps came.
    rate: Option<(u64, u64)>,
}

impl Counted {
    /// It begins at that time: with the picture that is shown then.
    fn begins(&mut self, at_ns: u64) {
        let Some((pictures, seconds)) = self.rate else { return };
        // Half a microsecond for times that were rounded down.
        let count = (u128::from(at_ns) + 500) * u128::from(pictures) / (u128::from(seconds) * 1_000_000_000);
        self.next = u64::try_from(count).unwrap_or(u64::MAX);
    }

    /// Time and length of the next picture.
    fn next(&mut self) -> Option<(u64, u64)> {
        let (pictures, seconds) = self.rate?;
        let ns = |count: u64| u128::from(count) * u128::from(seconds) * 1_000_000_000 / u128::from(pictures);
        let (from, to) = (u64::try_from(ns(self.next)).ok()?, u64::try_from(ns(self.next.checked_add(1)?)).ok()?);
        self.next += 1;
        Some((from, to - from))
    }
}

/// Lets the demuxers that are put into `parser` state the times that they forget.
pub(in crate::child) fn state_times(parser: &gst::Element) {
    let Some(parser) = parser.dynamic_cast_ref::<gst::Bin>() else { return };
    parser.connect_element_added(|_, element| {
        if element.factory().is_some_and(|factory| factory.name() == FORGETS) {
            element.connect_pad_added(|_, pad| count(pad));
        }
    });
}

/// Puts times on what passes `pad`, if that is of the kind.
fn count(pad: &gst::Pad) {
    if pad.current_caps().is_none_or(|caps| caps.structure(0).is_none_or(|form| form.name() != PRORES)) {
        return;
    }
    let counted = Mutex::new(Counted { rate: rate_of(pad), next: 0 });
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(kinds, move |_, info| {
        let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut info.data {
            Some(gst::PadProbeData::Event(event)) => {
                if let gst::EventView::Segment(segment) = event.view()
                    && let Some(segment) = segment.segment().downcast_ref::<gst::ClockTime>()
                {
                    counted.begins(segment.start().map_or(0, gst::ClockTime::nseconds));
                }
            }
            Some(gst::PadProbeData::Buffer(picture)) if picture.pts().is_none() => {
                if let Some((at_ns, lasts_ns)) = counted.next() {
                    let picture = picture.make_mut();
                    picture.set_pts(gst::ClockTime::from_nseconds(at_ns));
                    picture.set_duration(gst::ClockTime::from_nseconds(lasts_ns));
                }
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}

fn rate_of(pad: &gst::Pad) -> Option<(u64, u64)> {
    let rate = pad.current_caps()?.structure(0)?.get::<gst::Fraction>("framerate").ok()?;
    let side = |number: i32| u64::try_from(number).ok().filter(|number| *number > 0);
    Some((side(rate.numer())?, side(rate.denom())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_counted_from_where_the_demuxer_begins() {
        let mut counted = Counted { rate: Some((30_000, 1_001)), next: 0 };
        assert_eq!((counted.next(), counted.next()), (Some((0, 33_366_666)), Some((33_366_666, 33_366_667))));
        counted.begins(66_733_333);
        assert_eq!(counted.next().map(|(at, _)| at), Some(66_733_333), "that was its own time, rounded");
        counted.begins(90_000_000);
        assert_eq!(counted.next().map(|(at, _)| at), Some(66_733_333), "shown in the middle of it");
        assert_eq!(Counted::default().next(), None, "of an unknown rate");
    }
}
