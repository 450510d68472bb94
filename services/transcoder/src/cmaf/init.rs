//! The initialisation section of a track: what a player has to know before the first segment.

use super::boxes::Boxes;
use super::{Codec, Track};

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
pub(super) fn language_code(language: Option<&str>) -> u16 {
    let letters = match language.map(str::as_bytes) {
        Some(&[a, b, c]) if [a, b, c].iter().all(u8::is_ascii_lowercase) => [a, b, c],
        Some(_) | None => *b"und",
    };
    letters.iter().fold(0, |code, letter| (code << 5) | u16::from(letter - 0x60))
}
