//! Where the sound of a bare MP3 or FLAC begins and ends, to the sample, by what its encoder left at its head; and how long
//! a WAVE file says to be.
//!
//! Parsers count whole packets: an MP3 comes out with its encoder's delay and filling, up to 50 ms of silence, and the last
//! block of a FLAC as long as all others. Everybody else leaves that out.

use super::mp4::{Bytes, be32};
use super::riff::{chunk, le32};

/// Bytes that are looked at: a first frame of MP3 is shorter.
const HEAD_BYTES: usize = 4096;
/// What a decoder of MP3 adds to the delay of the encoder, in samples.
const DECODER_DELAY: u64 = 529;
/// Bytes of the info tag from its name to the encoder's name, if it has all its fields.
const TAG_FIELDS: [(u32, usize); 4] = [(1, 4), (2, 4), (4, 100), (8, 4)];
/// From the encoder's name to the delays.
const DELAYS_AT: usize = 21;

/// Forms of plain samples in a WAVE file: numbers, fractions, and either of them with more said.
const WAVE_PLAIN: [[u8; 2]; 3] = [[1, 0], [3, 0], [0xfe, 0xff]];
/// Lengths from here on stand for one that is not known.
const WAVE_LONGEST: u32 = 0x7fff_0000;

/// A span of sound in samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::child) struct Sound {
    /// Samples before it.
    pub(in crate::child) skipped: u64,
    /// Its length.
    pub(in crate::child) samples: u64,
    /// Samples a second.
    pub(in crate::child) rate: u64,
}

impl Sound {
    /// Beginning and end in nanoseconds.
    pub(in crate::child) fn span_ns(self) -> (u64, u64) {
        let ns = |samples: u64| {
            u64::try_from(u128::from(samples) * 1_000_000_000 / u128::from(self.rate.max(1))).unwrap_or(u64::MAX)
        };
        (ns(self.skipped), ns(self.skipped.saturating_add(self.samples)))
    }
}

/// What the head says; none where it says nothing.
pub(in crate::child) fn sound(source: &dyn Bytes) -> Result<Option<Sound>, String> {
    let read = |at: u64| {
        let left = source.size_bytes().saturating_sub(at).min(HEAD_BYTES as u64);
        source.read(at, left as usize)
    };
    let head = read(0)?;
    if head.starts_with(b"fLaC") {
        return Ok(flac(&head));
    }
    let head = match id3_bytes(&head) {
        0 => head,
        tag => read(tag)?,
    };
    Ok(mp3(&head))
}

/// Bytes of an ID3v2 tag, whose length has seven bits a byte.
pub(in crate::child) fn id3_bytes(head: &[u8]) -> u64 {
    match head.get(..10) {
        Some(tag) if tag.starts_with(b"ID3") => {
            let footer = if tag[5] & 0x10 != 0 { 10 } else { 0 };
            10 + footer + tag[6..10].iter().fold(0, |n, byte| n << 7 | u64::from(byte & 0x7f))
        }
        Some(_) | None => 0,
    }
}

/// Length in milliseconds of a WAVE file by what its head states; none where that is no plain samples, or no length: of a
/// recording that was never closed, or is sent while it is made, everybody writes a number of their own.
pub(in crate::child) fn wave_ms(head: &[u8]) -> Option<u64> {
    if !head.starts_with(b"RIFF") || head.get(8..12)? != b"WAVE" {
        return None;
    }
    let (mut at, mut bytes_per_s) = (12, None);
    loop {
        let (name, size) = chunk(head.get(at..)?)?;
        match &name {
            b"fmt " => {
                let plain = WAVE_PLAIN.contains(&head.get(at + 8..at + 10)?.try_into().ok()?);
                bytes_per_s = le32(head, at + 16).filter(|rate| plain && *rate > 0);
            }
            b"data" => {
                let whole = le32(head, 4)? > size && size < WAVE_LONGEST;
                return whole.then(|| Some(u64::from(size) * 1000 / u64::from(bytes_per_s?))).flatten();
            }
            _ => {}
        }
        at = at.checked_add(8)?.checked_add(size.checked_add(size % 2)? as usize)?;
    }
}

/// STREAMINFO (RFC 9639, 8.2).
fn flac(head: &[u8]) -> Option<Sound> {
    let info = head.get(8..42).filter(|_| head[4] & 0x7f == 0)?;
    let rate = u64::from(be32(info, 10)? >> 12);
    let samples = u64::from(info[13] & 0xf) << 32 | u64::from(be32(info, 14)?);
    (rate > 0 && samples > 0).then_some(Sound { skipped: 0, samples, rate })
}

/// The info tag (`Xing`, `Info`) in the first frame, with LAME's extension.
fn mp3(head: &[u8]) -> Option<Sound> {
    let frame = be32(head, 0)?;
    let (version, layer, rate, mode) = (frame >> 19 & 3, frame >> 17 & 3, frame >> 10 & 3, frame >> 6 & 3);
    // Layer 3 of a version that there is.
    if frame >> 21 != 0x7ff || version == 1 || layer != 1 {
        return None;
    }
    let rate = *[44_100_u64, 48_000, 32_000].get(rate as usize)?;
    let (rate, frame_samples) = match version {
        3 => (rate, 1152),
        2 => (rate / 2, 576),
        _ => (rate / 4, 576),
    };
    let side = match (version == 3, mode == 3) {
        (true, false) => 32,
        (true, true) | (false, false) => 17,
        (false, true) => 9,
    };
    let tag = head.get(4 + side..)?;
    if !tag.starts_with(b"Xing") && !tag.starts_with(b"Info") {
        return None;
    }
    let flags = be32(tag, 4)?;
    let frames = (flags & 1 != 0).then(|| be32(tag, 8)).flatten()?;
    let fields: usize = TAG_FIELDS.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, bytes)| bytes).sum();
    let encoder = tag.get(8 + fields..)?;
    let delays = encoder
        .get(DELAYS_AT..DELAYS_AT + 3)
        .filter(|_| encoder.starts_with(b"LAME") || encoder.starts_with(b"Lav"))?;
    let delay = u64::from(delays[0]) << 4 | u64::from(delays[1]) >> 4;
    let padding = u64::from(delays[1] & 0xf) << 8 | u64::from(delays[2]);
    let all = u64::from(frames) * frame_samples;
    // Filling counts from the end of the encoder's delay alone, the decoder's delay takes from it.
    let samples = all.checked_sub(delay + padding).filter(|samples| *samples > 0)?;
    Some(Sound { skipped: delay + DECODER_DELAY, samples, rate })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_file_states_its_length_in_bytes() {
        let wave = |form: u8, riff: u32, data: u32| {
            let fmt =
                [&[form, 0, 2, 0][..], &48_000_u32.to_le_bytes(), &192_000_u32.to_le_bytes(), &[4, 0, 16, 0]].concat();
            let list = [&b"LIST"[..], &3_u32.to_le_bytes(), b"abc\0"].concat();
            let head = [&b"RIFF"[..], &riff.to_le_bytes(), b"WAVEfmt ", &16_u32.to_le_bytes(), &fmt].concat();
            [&head[..], &list, b"data", &data.to_le_bytes(), &[0; 8]].concat()
        };
        assert_eq!(wave_ms(&wave(1, 384_100, 384_000)), Some(2_000));
        assert_eq!(wave_ms(&wave(2, 384_100, 384_000)), None, "each codec counts in its own way");
        assert_eq!(wave_ms(&wave(1, u32::MAX, u32::MAX - 36)), None, "sent while it is made");
        assert_eq!(wave_ms(&wave(1, 0, 384_000)), None, "never closed");
        assert_eq!(wave_ms(&wave(1, 384_100, 384_000)[..50]), None);
        assert_eq!(wave_ms(b"RIFF\0\0\0\0AVI "), None);
    }

    #[test]
    fn the_head_of_a_flac_states_its_samples() {
        let mut head = b"fLaC\0\0\0\x22".to_vec();
        head.extend([0; 10]);
        // 44100 in 20 bits, 2 channels and 16 bits in 8, 441000 in 36.
        head.extend([0x0a, 0xc4, 0x42, 0xf0, 0x00, 0x06, 0xba, 0xa8]);
        head.extend([0; 16]);
        assert_eq!(flac(&head), Some(Sound { skipped: 0, samples: 441_000, rate: 44_100 }));
        assert_eq!(flac(&head[..30]), None);
    }

    #[test]
    fn the_first_frame_of_an_mp3_states_its_delays() {
        let mut head = vec![0xff, 0xfb, 0x90, 0xc4];
        head.extend([0; 17]);
        head.extend(b"Info\0\0\0\x0f");
        head.extend(384_u32.to_be_bytes());
        head.extend([0; 108]);
        head.extend(b"LAME3.100\0\0\0\0\0\0\0\0\0\0\0\0");
        head.extend([0x24, 0x03, 0x18]);
        let expected = Sound { skipped: 576 + 529, samples: 384 * 1152 - 576 - 0x318, rate: 44_100 };
        assert_eq!(mp3(&head), Some(expected));
        assert_eq!(mp3(&head[..100]), None);
        assert_eq!(id3_bytes(b"ID3\x04\0\0\0\0\x02\x01...."), 10 + 257);
    }
}
