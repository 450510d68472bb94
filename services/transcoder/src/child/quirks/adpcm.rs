//! When the blocks of ADPCM in AVI and WAV are heard: counted, because their demuxers reckon wrongly.
//!
//! Neither container states times of sound. The demuxers take them from the bytes passed and the bytes a second, and the
//! library that both use reckons these anew for ADPCM as if each byte held one sample of all channels (`riff-media.c` of
//! gst-plugins-base 1.22): of one channel, which has two in a byte, half of the sound was lost, and stereo went wrong by
//! seconds an hour. How many samples a block holds follows from its bytes and channels alone.

use std::sync::{Mutex, PoisonError};

use gst::prelude::*;

/// Demuxers that reckon so.
const RECKONING: [&str; 2] = ["avidemux", "wavparse"];
const NS_PER_S: u128 = 1_000_000_000;

/// What a block of a stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Blocks {
    bytes: u64,
    samples: u64,
    /// Samples a second.
    rate: u64,
}

impl Blocks {
    /// Of a stream's caps; none if it is none of the two kinds that are reckoned wrongly.
    fn of(caps: &gst::CapsRef) -> Option<Self> {
        let form = caps.structure(0).filter(|form| form.name() == "audio/x-adpcm")?;
        let number = |field| form.get::<i32>(field).ok().and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
        let (bytes, channels, rate) = (number("block_align")?, number("channels")?, number("rate")?);
        // A block begins with each channel's state, which holds its first samples, and has two samples in each byte behind.
        let (state_bytes, state_samples) = match form.get::<&str>("layout") {
            Ok("microsoft") => (7, 2),
            Ok("dvi") => (4, 1),
            Ok(_) | Err(_) => return None,
        };
        let coded = bytes.checked_sub(state_bytes * channels)? * 2 / channels;
        Some(Self { bytes, samples: state_samples + coded, rate })
    }

    /// How long that many bytes are heard.
    fn ns(self, bytes: u64) -> u64 {
        let samples_ns = u128::from(bytes) * u128::from(self.samples) * NS_PER_S;
        u64::try_from(samples_ns / (u128::from(self.bytes) * u128::from(self.rate))).unwrap_or(u64::MAX)
    }
}

/// A stream as far as it was counted.
#[derive(Debug, Default)]
struct Counted {
    blocks: Option<Blocks>,
    /// Time of its first buffer.
    starts_ns: Option<u64>,
    bytes: u64,
}

/// Gives the buffers that pass `pad` the times of what they hold, where they are such blocks of one of `demuxers`. It counts
/// from the first one on: for who reads a stream from its beginning.
pub(in crate::child) fn count_times(pad: &gst::Pad, demuxers: &[gst::Element]) {
    let reckons = |demuxer: &gst::Element| demuxer.factory().is_some_and(|f| RECKONING.contains(&f.name().as_str()));
    if !demuxers.iter().any(reckons) {
        return;
    }
    let blocks = pad.current_caps().and_then(|caps| Blocks::of(&caps));
    let counted = Mutex::new(Counted { blocks, ..Counted::default() });
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view()) {
            counted.blocks = Blocks::of(caps.caps());
        }
        let Some(blocks) = counted.blocks else { return gst::PadProbeReturn::Ok };
        if let Some(buffer) = info.buffer_mut() {
            let buffer = buffer.make_mut();
            let starts_ns = *counted.starts_ns.get_or_insert(buffer.pts().map_or(0, gst::ClockTime::nseconds));
            let from = blocks.ns(counted.bytes);
            counted.bytes += buffer.size() as u64;
            buffer.set_pts(gst::ClockTime::from_nseconds(starts_ns.saturating_add(from)));
            buffer.set_dts(gst::ClockTime::NONE);
            buffer.set_duration(gst::ClockTime::from_nseconds(blocks.ns(counted.bytes) - from));
        } else if let Some(event) = info.event().filter(|event| event.type_() == gst::EventType::Segment) {
            // Its end was reckoned like the times.
            let plain = gst::FormattedSegment::<gst::ClockTime>::new();
            let event = gst::event::Segment::builder(&plain).seqnum(event.seqnum()).build();
            info.data = Some(gst::PadProbeData::Event(event));
        }
        gst::PadProbeReturn::Ok
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_what_its_bytes_and_channels_say() {
        gst::init().unwrap();
        let held = |layout: &str, channels: i32, block_align: i32| {
            let caps = gst::Caps::builder("audio/x-adpcm").field("layout", layout).field("rate", 44_100);
            let caps = caps.field("channels", channels).field("block_align", block_align).build();
            Blocks::of(&caps).map(|blocks| blocks.samples)
        };
        // As ffmpeg states them in the headers that it writes.
        assert_eq!((held("microsoft", 1, 1024), held("microsoft", 2, 1024)), (Some(2036), Some(1012)));
        assert_eq!((held("dvi", 1, 1024), held("dvi", 2, 1024)), (Some(2041), Some(1017)));
        assert_eq!((held("dvi", 2, 7), held("dvi", 0, 1024), held("g726", 1, 1024)), (None, None, None));
    }

    #[test]
    fn a_day_of_blocks_is_counted_to_the_sample() {
        let blocks = Blocks { bytes: 1024, samples: 2036, rate: 44_100 };
        assert_eq!(blocks.ns(1024 * 11_025), 509_000_000_000);
        assert_eq!(blocks.ns(1024 * 11_025 * 170), 86_530_000_000_000);
    }
}
