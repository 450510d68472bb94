//! A CMAF writer: one track, an initialisation section and segments of one fragment (`styp`, `moof`, `mdat`) each.
//!
//! Pure: no gstreamer types, no I/O, no clock. Payload is never copied. It promises exact timelines: presentation times
//! are the ones handed in, whatever the encoder calls decode times, and segment k+1 starts at the tick at which segment
//! k ends, also when different processes wrote them. It knows H.264 in `avc1` form and AAC-LC, and nothing else.

use bytes::Bytes;

/// What a track carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Codec {
    /// H.264, parameter sets in the initialisation section.
    Avc {
        /// Width in pixels.
        width: u16,
        /// Height in pixels.
        height: u16,
        /// The `avcC` record.
        avcc: Vec<u8>,
        /// How far presentation is moved behind decoding, in ticks, and back again by the edit list.
        ///
        /// Offsets below zero would need no shift, but ffmpeg moves the whole picture by the greatest of them (80 ms at
        /// 25 frames a second), so the offsets stay positive.
        reorder_ticks: u32,
    },
    /// AAC-LC.
    Aac {
        /// Samples a second.
        sample_rate: u32,
        /// Channels.
        channels: u16,
        /// The AudioSpecificConfig.
        config: Vec<u8>,
        /// Bits a second, stated as a hint.
        bps: u32,
        /// Samples that the encoder puts before the first real one; hidden by the edit list.
        priming: u32,
    },
}

/// One track of a rendition: the same value gives the same initialisation section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Ticks a second.
    pub timescale: u32,
    /// ISO 639-2 code of three letters; anything else is written as undetermined.
    pub language: Option<String>,
    /// What it carries.
    pub codec: Codec,
}

/// One coded frame, in decode order.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Presentation time on the track's timeline, in ticks (for sound: decode time, priming counted).
    pub pts: u64,
    /// May decoding start here?
    pub keyframe: bool,
    /// The coded bytes.
    pub data: Bytes,
}

/// One segment, ready to be appended to an object.
#[derive(Debug, Clone)]
pub struct Fragment {
    /// Boxes and payload in order.
    pub data: Vec<Bytes>,
    /// Sum of their lengths.
    pub length: u64,
    /// Decode time of the first sample; equal to the earliest presentation time that was handed in.
    pub start_ticks: u64,
    /// Length on the timeline.
    pub duration_ticks: u64,
    /// Where the keyframes' bytes start, counted from the segment's first byte.
    pub keyframes: Vec<u64>,
}

/// Why no fragment could be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// A segment needs a sample.
    #[error("write a segment without samples")]
    Empty,
    /// Two frames at one time, or a frame at or after the segment's end: a fault of the caller's timeline.
    #[error("write a segment whose times do not increase up to its end: {at} of {end}")]
    Order {
        /// Time of the offending frame.
        at: u64,
        /// End of the segment.
        end: u64,
    },
    /// More than a 32-bit box can hold.
    #[error("write a segment of {bytes} bytes")]
    TooLarge {
        /// Payload bytes.
        bytes: u64,
    },
}

const KEYFRAME_FLAGS: u32 = 0x0200_0000;
const DELTA_FLAGS: u32 = 0x0101_0000;

impl Track {
    /// The initialisation section: `ftyp` and `moov`.
    pub fn init(&self) -> Vec<u8> {
        let mut w = Boxes(Vec::with_capacity(1024));
        w.plain(b"ftyp", |w| {
            w.raw(b"iso6");
            w.u32(0);
            w.raw(b"iso6cmfcmp41");
        });
        w.plain(b"moov", |w| {
            w.full(b"mvhd", 0, 0, |w| {
                w.zeros(8);
                w.u32(self.timescale);
                w.u32(0);
                w.u32(0x0001_0000);
                w.u16(0x0100);
                w.zeros(10);
                w.matrix();
                w.zeros(24);
                w.u32(2);
            });
            w.plain(b"trak", |w| self.trak(w));
            w.plain(b"mvex", |w| {
                w.full(b"trex", 0, 0, |w| {
                    w.u32(1);
                    w.u32(1);
                    w.zeros(12);
                });
            });
        });
        w.0
    }

    /// One segment of `samples` in decode order that ends (and the next one starts) at `end`.
    pub fn fragment(&self, sequence: u32, samples: &[Sample], end: u64) -> Result<Fragment, FragmentError> {
        let decode = self.decode_times(samples, end)?;
        let payload: u64 = samples.iter().map(|s| s.data.len() as u64).sum();
        let mdat_length = u32::try_from(payload + 8).map_err(|_| FragmentError::TooLarge { bytes: payload })?;
        let mut w = Boxes(Vec::with_capacity(128 + samples.len() * 16));
        w.plain(b"styp", |w| {
            w.raw(b"msdh");
            w.u32(0);
            w.raw(b"msdhmsixcmfs");
        });
        let moof = w.0.len();
        let mut data_offset = 0;
        w.plain(b"moof", |w| {
            w.full(b"mfhd", 0, 0, |w| w.u32(sequence));
            w.plain(b"traf", |w| {
                w.full(b"tfhd", 0, 0x02_0000, |w| w.u32(1));
                w.full(b"tfdt", 1, 0, |w| w.u64(decode.times[0]));
                w.full(b"trun", 0, 0xf01, |w| {
                    w.u32(samples.len() as u32);
                    data_offset = w.0.len();
                    w.u32(0);
                    for (i, sample) in samples.iter().enumerate() {
                        let next = decode.times.get(i + 1).copied().unwrap_or(end);
                        w.u32((next - decode.times[i]) as u32);
                        w.u32(sample.data.len() as u32);
                        w.u32(if sample.keyframe { KEYFRAME_FLAGS } else { DELTA_FLAGS });
                        w.u32((sample.pts + decode.shift - decode.times[i]) as u32);
                    }
                });
            });
        });
        let to_payload = (w.0.len() - moof + 8) as u32;
        w.0[data_offset..data_offset + 4].copy_from_slice(&to_payload.to_be_bytes());
        w.u32(mdat_length);
        w.raw(b"mdat");

        let mut at = w.0.len() as u64;
        let mut keyframes = Vec::new();
        for sample in samples {
            if sample.keyframe {
                keyframes.push(at);
            }
            at += sample.data.len() as u64;
        }
        let mut data = Vec::with_capacity(samples.len() + 1);
        data.push(Bytes::from(w.0));
        data.extend(samples.iter().map(|s| s.data.clone()));
        let start_ticks = decode.times[0];
        Ok(Fragment { data, length: at, start_ticks, duration_ticks: end - start_ticks, keyframes })
    }

    /// Codec as RFC 6381 writes it.
    pub fn codec_name(&self) -> String {
        match &self.codec {
            Codec::Avc { avcc, .. } => match avcc.get(1..4) {
                Some([profile, compatibility, level]) => format!("avc1.{profile:02x}{compatibility:02x}{level:02x}"),
                Some(_) | None => "avc1".to_owned(),
            },
            Codec::Aac { config, .. } => format!("mp4a.40.{}", config.first().map_or(2, |b| b >> 3)),
        }
    }

    /// Decode times of a segment.
    ///
    /// The i-th frame in decode order gets the i-th smallest presentation time, moved forward by the edit list's shift,
    /// or earlier where a frame would otherwise be decoded after it is shown (long gaps in a variable rate). Both
    /// sequences increase by at least one tick, so their minimum does. No neighbour segment is needed: the first decode
    /// time is the first presentation time, so segments written apart join without gap.
    fn decode_times(&self, samples: &[Sample], end: u64) -> Result<DecodeTimes, FragmentError> {
        if samples.is_empty() {
            return Err(FragmentError::Empty);
        }
        let shift = match &self.codec {
            Codec::Avc { reorder_ticks, .. } => u64::from(*reorder_ticks),
            Codec::Aac { .. } => 0,
        };
        let mut times: Vec<u64> = samples.iter().map(|s| s.pts).collect();
        times.sort_unstable();
        for (i, &at) in times.iter().enumerate() {
            if at >= times.get(i + 1).copied().unwrap_or(end) {
                return Err(FragmentError::Order { at, end });
            }
        }
        let first = times[0];
        let mut latest = u64::MAX;
        for (time, sample) in times.iter_mut().zip(samples).rev() {
            latest = latest.saturating_sub(1).min(sample.pts + shift);
            *time = latest.min(*time);
        }
        if times[0] != first {
            // Only a shift smaller than the frames' reordering gets here: the plan must grant at least two ticks.
            return Err(FragmentError::Order { at: first, end });
        }
        Ok(DecodeTimes { times, shift })
    }

    fn trak(&self, w: &mut Boxes) {
        let (width, height, volume, edit) = match &self.codec {
            Codec::Avc { width, height, reorder_ticks, .. } => (*width, *height, 0, *reorder_ticks),
            Codec::Aac { priming, .. } => (0, 0, 0x0100, *priming),
        };
        w.full(b"tkhd", 0, 7, |w| {
            w.zeros(8);
            w.u32(1);
            w.zeros(16);
            w.u16(0);
            w.u16(u16::from(volume > 0));
            w.u16(volume);
            w.u16(0);
            w.matrix();
            w.u32(u32::from(width) << 16);
            w.u32(u32::from(height) << 16);
        });
        if edit > 0 {
            w.plain(b"edts", |w| {
                w.full(b"elst", 0, 0, |w| {
                    w.u32(1);
                    // Length 0: to the end of the fragments, whatever that will be.
                    w.u32(0);
                    w.u32(edit);
                    w.u32(0x0001_0000);
                });
            });
        }
        w.plain(b"mdia", |w| {
            w.full(b"mdhd", 0, 0, |w| {
                w.zeros(8);
                w.u32(self.timescale);
                w.u32(0);
                w.u16(language_code(self.language.as_deref()));
                w.u16(0);
            });
            let (handler, name): (&[u8], &[u8]) = match &self.codec {
                Codec::Avc { .. } => (b"vide", b"video\0"),
                Codec::Aac { .. } => (b"soun", b"sound\0"),
            };
            w.full(b"hdlr", 0, 0, |w| {
                w.u32(0);
                w.raw(handler);
                w.zeros(12);
                w.raw(name);
            });
            w.plain(b"minf", |w| {
                match &self.codec {
                    Codec::Avc { .. } => w.full(b"vmhd", 0, 1, |w| w.zeros(8)),
                    Codec::Aac { .. } => w.full(b"smhd", 0, 0, |w| w.zeros(4)),
                }
                w.plain(b"dinf", |w| {
                    w.full(b"dref", 0, 0, |w| {
                        w.u32(1);
                        w.full(b"url ", 0, 1, |_| ());
                    });
                });
                w.plain(b"stbl", |w| {
                    w.full(b"stsd", 0, 0, |w| {
                        w.u32(1);
                        self.sample_entry(w);
                    });
                    w.full(b"stts", 0, 0, |w| w.u32(0));
                    w.full(b"stsc", 0, 0, |w| w.u32(0));
                    w.full(b"stsz", 0, 0, |w| w.zeros(8));
                    w.full(b"stco", 0, 0, |w| w.u32(0));
                });
            });
        });
    }

    fn sample_entry(&self, w: &mut Boxes) {
        match &self.codec {
            Codec::Avc { width, height, avcc, .. } => w.plain(b"avc1", |w| {
                w.zeros(6);
                w.u16(1);
                w.zeros(16);
                w.u16(*width);
                w.u16(*height);
                w.u32(0x0048_0000);
                w.u32(0x0048_0000);
                w.u32(0);
                w.u16(1);
                w.zeros(32);
                w.u16(24);
                w.u16(0xffff);
                w.plain(b"avcC", |w| w.raw(avcc));
                w.plain(b"pasp", |w| {
                    w.u32(1);
                    w.u32(1);
                });
            }),
            Codec::Aac { sample_rate, channels, config, bps, .. } => w.plain(b"mp4a", |w| {
                w.zeros(6);
                w.u16(1);
                w.zeros(8);
                w.u16(*channels);
                w.u16(16);
                w.zeros(4);
                w.u32(sample_rate << 16);
                w.full(b"esds", 0, 0, |w| elementary_stream(w, config, *bps));
            }),
        }
    }
}

struct DecodeTimes {
    times: Vec<u64>,
    shift: u64,
}

/// ISO 14496-1 descriptors with one-byte lengths: an AudioSpecificConfig of AAC-LC has two to five bytes.
fn elementary_stream(w: &mut Boxes, config: &[u8], bps: u32) {
    let config_length = config.len() as u8;
    let decoder_length = 13 + 2 + config_length;
    w.u8(3);
    w.u8(3 + 2 + decoder_length + 2 + 1);
    w.u16(0);
    w.u8(0);
    w.u8(4);
    w.u8(decoder_length);
    w.u8(0x40);
    w.u8(0x15);
    w.zeros(3);
    w.u32(bps);
    w.u32(bps);
    w.u8(5);
    w.u8(config_length);
    w.raw(config);
    w.u8(6);
    w.u8(1);
    w.u8(2);
}

/// Three letters of five bits each; `und` for whatever is not three lower-case letters.
fn language_code(language: Option<&str>) -> u16 {
    let letters = match language.map(str::as_bytes) {
        Some(&[a, b, c]) if [a, b, c].iter().all(u8::is_ascii_lowercase) => [a, b, c],
        Some(_) | None => *b"und",
    };
    letters.iter().fold(0, |code, letter| (code << 5) | u16::from(letter - 0x60))
}

struct Boxes(Vec<u8>);

impl Boxes {
    fn plain(&mut self, kind: &[u8; 4], body: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.u32(0);
        self.raw(kind);
        body(self);
        let length = (self.0.len() - start) as u32;
        self.0[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    fn full(&mut self, kind: &[u8; 4], version: u8, flags: u32, body: impl FnOnce(&mut Self)) {
        self.plain(kind, |w| {
            w.u32(u32::from(version) << 24 | flags);
            body(w);
        });
    }

    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u16(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.raw(&value.to_be_bytes());
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn zeros(&mut self, count: usize) {
        self.0.resize(self.0.len() + count, 0);
    }

    fn matrix(&mut self) {
        for value in [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000] {
            self.u32(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Track {
        let codec = Codec::Avc { width: 64, height: 36, avcc: vec![1, 0x64, 0, 0x1f], reorder_ticks: 2 };
        Track { timescale: 25, language: None, codec }
    }

    fn sound(language: Option<&str>) -> Track {
        let codec =
            Codec::Aac { sample_rate: 48_000, channels: 2, config: vec![0x11, 0x90], bps: 128_000, priming: 1024 };
        Track { timescale: 48_000, language: language.map(str::to_owned), codec }
    }

    fn samples(pts: &[u64]) -> Vec<Sample> {
        let first = pts.iter().min().copied();
        pts.iter()
            .map(|&p| Sample { pts: p, keyframe: Some(p) == first, data: Bytes::from(vec![p as u8; 10]) })
            .collect()
    }

    /// (decode time, duration, presentation time) of each sample, read back from the boxes.
    fn times(fragment: &Fragment) -> Vec<(u64, u64, u64)> {
        let head = &fragment.data[0];
        let find = |kind: &[u8]| head.windows(4).position(|w| w == kind).unwrap();
        let tfdt = find(b"tfdt");
        let mut at = u64::from_be_bytes(head[tfdt + 8..tfdt + 16].try_into().unwrap());
        let trun = find(b"trun") + 8;
        let word = |i: usize| u32::from_be_bytes(head[i..i + 4].try_into().unwrap());
        (0..word(trun) as usize)
            .map(|i| {
                let entry = trun + 8 + i * 16;
                let (duration, offset) = (u64::from(word(entry)), u64::from(word(entry + 12)));
                let time = (at, duration, at + offset);
                at += duration;
                time
            })
            .collect()
    }

    fn children(data: &[u8]) -> Vec<(String, usize, usize)> {
        let mut found = vec![];
        let mut at = 0;
        while at + 8 <= data.len() {
            let length = u32::from_be_bytes(data[at..at + 4].try_into().unwrap()) as usize;
            found.push((String::from_utf8_lossy(&data[at + 4..at + 8]).into_owned(), at, length));
            at += length;
        }
        assert_eq!(at, data.len(), "boxes fill their parent");
        found
    }

    #[test]
    fn frames_keep_their_presentation_times_and_are_never_shown_before_they_are_decoded() {
        let fragment = picture().fragment(1, &samples(&[100, 103, 101, 102, 106, 104, 105]), 107).unwrap();
        let expected =
            [(100, 1, 102), (101, 1, 105), (102, 1, 103), (103, 1, 104), (104, 1, 108), (105, 1, 106), (106, 1, 107)];
        assert_eq!(times(&fragment), expected);
    }

    #[test]
    fn a_gap_longer_than_the_shift_pulls_decoding_forward_and_leaves_the_segment_whole() {
        let fragment = picture().fragment(1, &samples(&[0, 100, 1, 50]), 200).unwrap();
        let times = times(&fragment);
        assert_eq!(times.iter().map(|t| t.2).collect::<Vec<_>>(), [2, 102, 3, 52]);
        assert!(times.iter().all(|t| t.0 <= t.2), "{times:?}");
        assert_eq!((fragment.start_ticks, fragment.duration_ticks), (0, 200));
        assert_eq!(times.iter().map(|t| t.1).sum::<u64>(), 200);
    }

    #[test]
    fn payload_is_addressed_exactly() {
        let fragment = picture().fragment(7, &samples(&[0, 2, 1]), 3).unwrap();
        let whole: Vec<u8> = fragment.data.iter().flat_map(|d| d.to_vec()).collect();
        assert_eq!(whole.len() as u64, fragment.length);
        let boxes = children(&whole);
        assert_eq!(boxes.iter().map(|b| b.0.as_str()).collect::<Vec<_>>(), ["styp", "moof", "mdat"]);
        assert_eq!(fragment.keyframes, [boxes[2].1 as u64 + 8]);
    }

    #[test]
    fn the_same_track_gives_the_same_init_whatever_was_written_before() {
        let track = picture();
        let before = track.init();
        track.fragment(1, &samples(&[0]), 1).unwrap();
        assert_eq!(track.init(), before);
        assert_eq!(children(&before).iter().map(|b| b.0.as_str()).collect::<Vec<_>>(), ["ftyp", "moov"]);
    }

    #[test]
    fn sound_hides_its_priming_in_an_edit_list_and_tells_its_language() {
        let init = sound(Some("deu")).init();
        let elst = init.windows(4).position(|w| w == b"elst").unwrap();
        assert_eq!(init[elst + 16..elst + 20], 1024u32.to_be_bytes());
        assert_eq!(language_code(Some("deu")), (4 << 10) | (5 << 5) | 21);
        assert_eq!(sound(Some("de-CH")).init(), sound(None).init());
    }

    #[test]
    fn codecs_are_named_as_rfc_6381_writes_them() {
        assert_eq!(picture().codec_name(), "avc1.64001f");
        assert_eq!(sound(None).codec_name(), "mp4a.40.2");
    }

    #[test]
    fn a_timeline_that_stands_still_or_runs_over_its_end_is_refused() {
        let check = |pts: &[u64], end, expected| {
            assert_eq!(picture().fragment(1, &samples(pts), end).map(|_| ()), Err(expected));
        };
        check(&[], 1, FragmentError::Empty);
        check(&[0, 1, 1], 3, FragmentError::Order { at: 1, end: 3 });
        check(&[0, 1, 2], 2, FragmentError::Order { at: 2, end: 2 });
    }
}
