//! Is a file without a container MPEG sound (MP3 and its elders)? GStreamer's guess takes four lucky bits in anything for
//! it: text as Windows writes it and raw DV became a few seconds of noise. So frames have to follow one another.

use super::bare::id3_bytes;
use super::mp4::{Bytes, be32};

/// Frames in a row that are no chance: a tenth of a second.
const FRAMES: usize = 5;
/// Bytes behind a tag in which they have to begin: recordings may begin anywhere, and some downloads with zeros.
const LOOKED_THROUGH: u64 = 1024 * 1024;
/// Longest frame: layer II at 384 kbit/s and 32 kHz, and some.
const LONGEST: u64 = 4096;

/// Kilobits a second by the header's four bits; 0 is free, 15 forbidden (ISO/IEC 11172-3, 2.4.2.3; 13818-3, 2.4.2.3).
const FIRST_VERSION: [[u16; 15]; 3] = [
    [0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
    [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
    [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
];
const LATER_VERSIONS: [[u16; 15]; 2] = [
    [0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

/// What two frames of one stream have in common, and the length of this one; 0 where only the next one tells (free format).
struct Frame {
    kind: u32,
    bytes: u64,
}

impl Frame {
    fn of(header: u32) -> Option<Self> {
        let (version, layer) = (header >> 19 & 3, 4 - (header >> 17 & 3));
        let (rate, bits) = ((header >> 10 & 3) as usize, (header >> 12 & 15) as usize);
        if header >> 21 != 0x7ff || version == 1 || layer == 4 {
            return None;
        }
        let rates = match (version, layer) {
            (3, layer) => FIRST_VERSION[layer as usize - 1],
            (_, 1) => LATER_VERSIONS[0],
            (_, _) => LATER_VERSIONS[1],
        };
        let kbps = u64::from(*rates.get(bits)?);
        let halved = [2, 1, 1, 0][version as usize];
        let hz = *[44_100_u64, 48_000, 32_000].get(rate)? >> halved;
        let padding = u64::from(header >> 9 & 1);
        let bytes = match (layer, version) {
            (1, _) => (12_000 * kbps / hz + padding) * 4,
            (2, _) | (3, 3) => 144_000 * kbps / hz + padding,
            (_, _) => 72_000 * kbps / hz + padding,
        };
        // Version, layer and rate; the rest changes from frame to frame.
        Some(Self { kind: header & 0xfffe_0c00, bytes: if kbps == 0 { 0 } else { bytes } })
    }
}

/// Do some frames follow one another, or all that there are?
pub(in crate::child) fn is_there(source: &dyn Bytes) -> Result<bool, String> {
    let size = source.size_bytes();
    let tag = id3_bytes(&source.read(0, size.min(10) as usize)?).min(size);
    let length = (size - tag).min(LOOKED_THROUGH + LONGEST * FRAMES as u64);
    let bytes = source.read(tag, length as usize)?;
    let to_the_end = tag + length == size;
    let starts = 0..bytes.len().min(LOOKED_THROUGH as usize);
    Ok(starts.filter(|at| bytes[*at] == 0xff).any(|at| follow(&bytes, at, to_the_end)))
}

fn follow(bytes: &[u8], start: usize, to_the_end: bool) -> bool {
    let (mut at, mut kind) = (start, None);
    for number in 0..FRAMES {
        // A click has fewer frames; then they are all that there is.
        let Some(header) = be32(bytes, at) else { return to_the_end && start == 0 && number > 0 };
        let Some(frame) = Frame::of(header).filter(|frame| *kind.get_or_insert(frame.kind) == frame.kind) else {
            return false;
        };
        if frame.bytes == 0 {
            // Raw pictures repeat themselves as such frames do, so these have to come first.
            return start == 0 && free_format(bytes, at, frame.kind);
        }
        at += frame.bytes as usize;
    }
    true
}

/// Frames whose length is not stated are all of one length: is there a next one, and another so much further?
fn free_format(bytes: &[u8], start: usize, kind: u32) -> bool {
    let same = |at: usize| {
        let frame = be32(bytes, at).and_then(Frame::of);
        frame.is_some_and(|frame| frame.kind == kind && frame.bytes == 0)
    };
    // Padding makes a frame a byte, or four, longer.
    let near = |at: usize| [0, 1, 4].into_iter().any(|more| same(at + more));
    let lengths = 32..LONGEST as usize;
    lengths.into_iter().any(|length| same(start + length) && (2..FRAMES).all(|nth| near(start + length * nth)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::memory::Memory;

    fn there(bytes: Vec<u8>) -> bool {
        is_there(&Memory(bytes)).expect("it can be read")
    }

    /// So many frames with this header.
    fn frames(header: u32, number: usize) -> Vec<u8> {
        let bytes = Frame::of(header).expect("a header").bytes as usize;
        let frame = [&header.to_be_bytes()[..], &vec![0x55; bytes - 4]].concat();
        frame.repeat(number)
    }

    /// MPEG-1 layer III, 128 kbit/s, 44.1 kHz.
    const MP3: u32 = 0xfffb_9000;

    #[test]
    fn frames_have_the_lengths_of_the_standards() {
        for (header, bytes) in [
            (MP3, 417),
            (MP3 | 0x200, 418),
            (0xfff3_8000, 208),
            (0xffe3_8000, 72 * 64_000 / 11_025),
            (0xfffd_a400, 576),
            (0xffff_9400, 12 * 288_000 / 48_000 * 4),
        ] {
            let found = Frame::of(header).map(|frame| frame.bytes);
            assert_eq!(found, Some(bytes), "{header:x}");
        }
        for header in [0xffff_ffff, 0xfffb_f000, 0xfffb_9c00, 0xffeb_9000, 0xfff9_9000 & !0x0006_0000, 0x0011_2233] {
            assert!(Frame::of(header).is_none(), "{header:x}");
        }
    }

    #[test]
    fn frames_that_follow_one_another_are_found_behind_what_stands_before() {
        assert!(there(frames(MP3, 9)));
        assert!(there(frames(0xfffd_a400, 9)), "layer II");
        assert!(there([vec![0; 70_000], frames(MP3, 9)].concat()), "zeros first");
        assert!(there([&frames(MP3, 9)[100..]].concat()), "begun in the middle");
        let tag = [b"ID3\x04\0\0\0\0\x07\x68".to_vec(), vec![0xff; 1000], frames(MP3, 9)].concat();
        assert!(there(tag));
        assert!(there(frames(MP3, 2)), "a click: all that there is");
        let free: Vec<u8> = [&0xfffb_0000_u32.to_be_bytes()[..], &[0x55; 300]].concat().repeat(7);
        assert!(there(free), "free format");
    }

    #[test]
    fn what_only_has_lucky_bits_is_no_sound() {
        let words: Vec<u8> = "Hallo Welt, so schreibt es Windows. ".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(!there([vec![0xff, 0xfe], words.repeat(200)].concat()));
        assert!(!there(vec![]) && !there(vec![0xff; 5000]) && !there(b"ID3\x04\0\0\0\0\x07\x68".to_vec()));
        assert!(!there([frames(MP3, 3), vec![0; 5000]].concat()), "three and no more");
        let mixed = [MP3, 0xfffd_a400].map(|header| frames(header, 1)).concat();
        assert!(!there(mixed.repeat(20)), "of two kinds");
        let stripes = [&[0x96, 0x67][..], &[0xff, 0xff, 0x01, 0x06, 0xff].repeat(5000)].concat();
        assert!(!there(stripes), "the same again and again");
        let mut state = 7_u64;
        let noise = (0..400_000).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Rich in ones, as raw pictures are.
            (state >> 56) as u8 | (state >> 48) as u8 | (state >> 40) as u8
        });
        assert!(!there(noise.collect()));
    }
}
