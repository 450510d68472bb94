//! Uncompressed sound of Blu-ray and camcorders (HDMV LPCM), put so that its decoder reads it rightly.
//!
//! `dvdlpcmdec` (1.22) takes samples of 24 bits for those of a DVD, which lie in another order, and one channel for one, where
//! it is stored as two: both came out as noise. So each packet is given to it as one of 16 bits, and a single channel as two
//! that are equal. What the lower bits held no rendition keeps.

use gst::prelude::*;

/// Bytes of a packet's head: its length, then channels (4 bits), rate (4), bits a sample (2), and six that mean nothing.
const HEAD_BYTES: usize = 4;
/// Sixteen bits a sample, as the head says it, and the bytes of a sample for each that it may say.
const SIXTEEN: u8 = 1;
const SAMPLE_BYTES: [usize; 4] = [0, 2, 3, 3];
/// Channels for each arrangement that the head may name; they are stored as an even number.
const CHANNELS: [usize; 12] = [0, 1, 0, 2, 3, 3, 4, 4, 5, 6, 7, 8];
const MONO: u8 = 1;
const STEREO: u8 = 3;

/// Changes the packets that pass `pad`, if such sound does.
pub(in crate::child) fn make_plain(pad: &gst::Pad, caps: &gst::Caps) {
    if caps.structure(0).is_none_or(|form| form.name() != "audio/x-private-ts-lpcm") {
        return;
    }
    pad.add_probe(gst::PadProbeType::BUFFER, |_, info| {
        if let Some(old) = info.buffer()
            && let Some(new) = old.map_readable().ok().and_then(|bytes| sixteen_bits(&bytes))
        {
            let mut buffer = gst::Buffer::from_mut_slice(new);
            let what = gst::BufferCopyFlags::TIMESTAMPS | gst::BufferCopyFlags::FLAGS;
            // One that can't take the times stays as it was.
            if buffer.get_mut().is_some_and(|buffer| old.copy_into(buffer, what, ..).is_ok()) {
                info.data = Some(gst::PadProbeData::Buffer(buffer));
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// The packet with samples of 16 bits in at least two channels; none if it has them, or is none.
fn sixteen_bits(packet: &[u8]) -> Option<Vec<u8>> {
    let (head, samples) = packet.split_at_checked(HEAD_BYTES)?;
    let (arrangement, bits) = (head[2] >> 4, head[3] >> 6);
    let channels = *CHANNELS.get(usize::from(arrangement)).filter(|channels| **channels > 0)?;
    let bytes = SAMPLE_BYTES[usize::from(bits)];
    if bytes == 0 || bits == SIXTEEN && arrangement != MONO {
        return None;
    }
    let mut plain = vec![0; HEAD_BYTES];
    for moment in samples.chunks_exact(bytes * channels.next_multiple_of(2)) {
        let mut each = moment.chunks_exact(bytes).map(|sample| [sample[0], sample[1]]);
        match arrangement {
            MONO => each.next().into_iter().for_each(|sample| plain.extend([sample, sample].as_flattened())),
            _ => each.for_each(|sample| plain.extend(sample)),
        }
    }
    let length = u16::try_from(plain.len() - HEAD_BYTES).ok()?;
    let arrangement = if arrangement == MONO { STEREO } else { arrangement };
    plain[..2].copy_from_slice(&length.to_be_bytes());
    (plain[2], plain[3]) = (arrangement << 4 | head[2] & 0x0f, SIXTEEN << 6);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_four_bits_become_sixteen() {
        let packet = [0, 12, 0x31, 0xc0, 1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16];
        assert_eq!(sixteen_bits(&packet), Some(vec![0, 8, 0x31, 0x40, 1, 2, 4, 5, 11, 12, 14, 15]));
        // Three channels are stored as four.
        let packet = [0, 12, 0x41, 0x80, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0];
        assert_eq!(sixteen_bits(&packet), Some(vec![0, 8, 0x41, 0x40, 1, 2, 4, 5, 7, 8, 0, 0]));
    }

    #[test]
    fn one_channel_becomes_two_that_are_equal() {
        let packet = [0, 8, 0x11, 0x40, 1, 2, 0, 0, 3, 4, 0, 0];
        assert_eq!(sixteen_bits(&packet), Some(vec![0, 8, 0x31, 0x40, 1, 2, 1, 2, 3, 4, 3, 4]));
    }

    #[test]
    fn what_is_right_or_none_stays_as_it_is() {
        for packet in
            [&[0, 4, 0x31, 0x40, 1, 2, 3, 4][..], &[0, 0, 0xf1, 0xc0], &[0, 0, 0x31, 0x00, 1, 2], &[1, 2, 3], &[]]
        {
            assert_eq!(sixteen_bits(packet), None, "{packet:?}");
        }
    }
}
