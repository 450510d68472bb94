//! How long a packet of sound is heard, by what is in it.
//!
//! Matroska states no lengths as a rule, and for want of one the last packet would count as long as those before it; and what
//! parses FLAC takes all blocks for equally long, though the last one is as short as need be. Sound came out up to a tenth
//! of a second too long.

use gst::ClockTime;
use spool_proto::media::NS_PER_S;

/// Bytes of the longest frame head of FLAC.
const FLAC_HEAD_BYTES: usize = 16;

/// How long `buffer` is heard; none of codecs whose packets do not tell it at their beginning.
pub(in crate::child) fn held(caps: &gst::CapsRef, buffer: &gst::BufferRef) -> Option<ClockTime> {
    let form = caps.structure(0)?;
    let (samples, rate) = match form.name().as_str() {
        "audio/x-raw" => {
            let info = gst_audio::AudioInfo::from_caps(caps).ok()?;
            ((buffer.size() as u64).checked_div(u64::from(info.bpf()))?, u64::from(info.rate()))
        }
        "audio/x-flac" => (
            flac_samples(&start(buffer, FLAC_HEAD_BYTES))?,
            form.get::<i32>("rate").ok().and_then(|rate| u64::try_from(rate).ok())?,
        ),
        _ => return None,
    };
    Some(ClockTime::from_nseconds((samples * NS_PER_S).checked_div(rate)?))
}

/// The first bytes of a buffer, as far as it has so many.
pub(in crate::child) fn start(buffer: &gst::BufferRef, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; most.min(buffer.size())];
    let read = buffer.copy_to_slice(0, &mut bytes).map_or_else(|read| read, |()| bytes.len());
    bytes.truncate(read);
    bytes
}

/// Samples of a frame (RFC 9639, 9.1).
fn flac_samples(head: &[u8]) -> Option<u64> {
    let [0xff, 0xf8 | 0xf9, form, _, number, ..] = head else { return None };
    // The frame's number is coded like a character of UTF-8, of up to seven bytes.
    let number_bytes = (number.leading_ones() as usize).max(1);
    let stated = head.get(4 + number_bytes..)?;
    match form >> 4 {
        1 => Some(192),
        code @ 2..=5 => Some(576 << (code - 2)),
        6 => Some(u64::from(*stated.first()?) + 1),
        7 => Some(u64::from(u16::from_be_bytes(stated.get(..2)?.try_into().ok()?)) + 1),
        code @ 8..=15 => Some(256 << (code - 8)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_flac_states_its_samples() {
        let samples = |head: &[u8]| flac_samples(head);
        assert_eq!(samples(&[0xff, 0xf8, 0xc9, 0x18, 0x07, 0x11, 0x22]), Some(4096));
        assert_eq!(samples(&[0xff, 0xf8, 0x19, 0x18, 0x07, 0x11]), Some(192));
        assert_eq!(samples(&[0xff, 0xf8, 0x59, 0x18, 0x07, 0x11]), Some(4608));
        assert_eq!(samples(&[0xff, 0xf9, 0x69, 0x18, 0xc2, 0x80, 0x63]), Some(100));
        assert_eq!(samples(&[0xff, 0xf8, 0x79, 0x18, 0x07, 0x0e, 0x8f]), Some(3728));
        assert_eq!(samples(&[0xff, 0xf8, 0x79, 0x18, 0x07, 0x0e]), None);
        assert_eq!(samples(b"fLaC\0\0\0"), None);
        assert_eq!(samples(&[]), None);
    }

    #[test]
    fn raw_sound_is_heard_as_long_as_its_bytes() {
        gst::init().unwrap();
        let caps = gst_audio::AudioInfo::builder(gst_audio::AudioFormat::S16le, 44_100, 2).build().unwrap().to_caps();
        let buffer = gst::Buffer::from_slice(vec![0_u8; 44_100]);
        assert_eq!(held(&caps.unwrap(), &buffer), Some(ClockTime::from_mseconds(250)));
        assert_eq!(held(&gst::Caps::new_empty_simple("audio/x-vorbis"), &buffer), None);
    }

    #[test]
    fn a_packet_may_be_shorter_than_what_is_looked_for() {
        gst::init().unwrap();
        assert_eq!(start(&gst::Buffer::from_slice([1, 2, 3]), 2), [1, 2]);
        assert_eq!(start(&gst::Buffer::from_slice([1, 2, 3]), 16), [1, 2, 3]);
        assert!(start(&gst::Buffer::new(), 1).is_empty());
    }
}
