//! Surround as two channels: which part of each goes to the left and to the right.
//!
//! The weights are those of ITU-R BS.775 (annex 4, table 2) and of ATSC A/52 (7.8): the centre and what is behind 3 dB lower, the
//! effects of low frequencies left out; all scaled so that nothing can overflow, as ffmpeg does it. `audioconvert` on its own mixes the low
//! frequencies and each other channel into both sides and scales by that sum: speech came out 2.5 dB quieter still.

use std::f32::consts::FRAC_1_SQRT_2;

use gst::prelude::*;
use gst_audio::AudioChannelPosition as Place;

use crate::order::Failure;

/// Parts for the left and for the right.
type Parts = (f32, f32);

/// What a channel at this place gives to both sides, before scaling. Places that are neither left nor right give to both
/// what adds up to the same loudness.
#[expect(clippy::wildcard_enum_match_arm, reason = "gstreamer's places are an open list")]
fn parts(place: Place) -> Parts {
    const LOWER: f32 = FRAC_1_SQRT_2;
    const HALF: f32 = 0.5;
    match place {
        Place::FrontLeft | Place::FrontLeftOfCenter | Place::WideLeft => (1.0, 0.0),
        Place::FrontRight | Place::FrontRightOfCenter | Place::WideRight => (0.0, 1.0),
        Place::FrontCenter | Place::Mono => (LOWER, LOWER),
        Place::RearLeft
        | Place::SideLeft
        | Place::SurroundLeft
        | Place::TopFrontLeft
        | Place::TopRearLeft
        | Place::TopSideLeft
        | Place::BottomFrontLeft => (LOWER, 0.0),
        Place::RearRight
        | Place::SideRight
        | Place::SurroundRight
        | Place::TopFrontRight
        | Place::TopRearRight
        | Place::TopSideRight
        | Place::BottomFrontRight => (0.0, LOWER),
        Place::RearCenter
        | Place::TopFrontCenter
        | Place::TopCenter
        | Place::TopRearCenter
        | Place::BottomFrontCenter => (HALF, HALF),
        Place::Lfe1 | Place::Lfe2 => (0.0, 0.0),
        // Nobody says where these are: they are heard on both sides.
        _ => (HALF, HALF),
    }
}

/// For the left and for the right: the weight of each channel. None sums to more than 1, so nothing overflows.
fn weights(places: &[Place]) -> [Vec<f32>; 2] {
    let parts: Vec<Parts> = places.iter().copied().map(parts).collect();
    let (left, right) = parts.iter().fold((0.0, 0.0), |(l, r), part| (l + part.0, r + part.1));
    let scale = f32::max(left, right).max(f32::MIN_POSITIVE).recip().min(1.0);
    [parts.iter().map(|part| part.0 * scale).collect(), parts.iter().map(|part| part.1 * scale).collect()]
}

/// Where the channels are by their mask; those of no stated place get the usual places of their number.
fn places(channels: u32, mask: u64) -> Option<(u64, Vec<Place>)> {
    let mask = if mask == 0 { Place::fallback_mask(channels) } else { mask };
    let mut places = vec![Place::None; channels as usize];
    Place::positions_from_mask(mask, &mut places).ok()?;
    // The usual places of three are those of two speakers and a woofer, also to demuxers that were told nothing; what three
    // microphones recorded has a voice there.
    for place in places.iter_mut().filter(|place| channels == 3 && **place == Place::Lfe1) {
        *place = Place::FrontCenter;
    }
    Some((mask, places))
}

/// Lets a converter mix down whatever comes to two channels; to one it does so by itself.
pub(super) fn on(convert: &gst::Element, to_channels: u32) -> Result<(), Failure> {
    let pad = convert.static_pad("sink").ok_or_else(|| Failure::own("a converter without sink pad"))?;
    let weak = convert.downgrade();
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(convert) = weak.upgrade()
            && let Some(event) = info.event()
            && let gst::EventView::Caps(caps) = event.view()
            && let Some(structure) = caps.caps().structure(0)
            && let Ok(channels) = structure.get::<i32>("channels")
        {
            let mask = structure.get::<gst::Bitmask>("channel-mask").map_or(0, |mask| mask.0);
            let found = if channels > 2 { places(channels.unsigned_abs(), mask) } else { None };
            let rows = match &found {
                Some((_, places)) if to_channels == 2 => weights(places).map(gst::Array::new).to_vec(),
                Some(_) | None => Vec::new(),
            };
            convert.set_property("mix-matrix", gst::Array::new(rows));
            if let Some((mask, _)) = found {
                let mut placed = caps.caps_owned();
                placed.make_mut().set("channel-mask", gst::Bitmask::new(mask));
                info.data =
                    Some(gst::PadProbeData::Event(gst::event::Caps::builder(&placed).seqnum(event.seqnum()).build()));
            }
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mask: u64, channels: u32, left: &[f32], right: &[f32]) {
        let (_, places) = places(channels, mask).expect("places");
        let found = weights(&places);
        for (found, expected) in found.iter().zip([left, right]) {
            let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.001);
            assert!(near && found.len() == expected.len(), "{mask:x}: {found:?}");
            assert!(found.iter().sum::<f32>() <= 1.0001, "{mask:x} overflows: {found:?}");
        }
    }

    #[test]
    fn surround_has_the_weights_of_the_standards() {
        gst::init().expect("gstreamer");
        // 5.1: front, centre, low frequencies, behind. ffmpeg: 0.4142, 0.2929.
        check(0x3f, 6, &[0.4142, 0.0, 0.2929, 0.0, 0.2929, 0.0], &[0.0, 0.4142, 0.2929, 0.0, 0.0, 0.2929]);
        check(0, 6, &[0.4142, 0.0, 0.2929, 0.0, 0.2929, 0.0], &[0.0, 0.4142, 0.2929, 0.0, 0.0, 0.2929]);
        // 5.1 with its surround at the sides; 3.0; quadrophony.
        check(0xc0f, 6, &[0.4142, 0.0, 0.2929, 0.0, 0.2929, 0.0], &[0.0, 0.4142, 0.2929, 0.0, 0.0, 0.2929]);
        check(0x7, 3, &[0.5858, 0.0, 0.4142], &[0.0, 0.5858, 0.4142]);
        check(0x33, 4, &[0.5858, 0.0, 0.4142, 0.0], &[0.0, 0.5858, 0.0, 0.4142]);
        check(0, 3, &[0.5858, 0.0, 0.4142], &[0.0, 0.5858, 0.4142]);
        // 7.1.
        let left = [0.3204, 0.0, 0.2265, 0.0, 0.2265, 0.0, 0.2265, 0.0];
        check(0xc3f, 8, &left, &[0.0, 0.3204, 0.2265, 0.0, 0.0, 0.2265, 0.0, 0.2265]);
    }
}
