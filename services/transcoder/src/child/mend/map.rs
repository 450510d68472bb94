//! What the pictures of a program stream are coded as, where the stream does not say.
//!
//! A program stream may bring a map (ISO/IEC 13818-1, 2.5.4) that names the codec of each of its streams; what ffmpeg writes
//! has none, and neither have many recorders. `mpegpsdemux` then takes every picture for MPEG-2, and H.264, HEVC and MPEG-4
//! came out as sound alone or not at all. So the first bytes of each picture's stream are looked at, as ffmpeg does it, and
//! the demuxer is shown the source behind a map of our own.

use std::sync::Arc;

use bytes::Bytes;

use super::super::source::{RangeDone, Ranges};
use super::super::whole::Whole;
use crate::child::formats::mp4::Bytes as _;
use crate::child::formats::ts::tables::checksum;

/// Bytes of the beginning that are looked through.
const LOOKED_THROUGH: u64 = 1024 * 1024;
/// Start codes: of a pack, of a map, and of packets that carry pictures.
const PACK: [u8; 4] = [0, 0, 1, 0xba];
const MAP: u8 = 0xbc;
const PICTURES: std::ops::RangeInclusive<u8> = 0xe0..=0xef;
/// Below it there are no start codes of packets.
const PACKETS: u8 = 0xbb;
/// Bytes of the head of a pack, before what fills it up, and of a packet before its own length.
const PACK_BYTES: usize = 14;
const PACKET_BYTES: usize = 6;
/// Types of streams (2.4.4.10).
const MPEG4: u8 = 0x10;
const H264: u8 = 0x1b;
const HEVC: u8 = 0x24;
/// Profiles of H.264 (A.2).
const PROFILES: [u8; 8] = [66, 77, 88, 100, 110, 122, 244, 44];

/// The source, which begins with `head`, as a demuxer is to see it.
pub(crate) fn mapped(ranges: &Arc<dyn Ranges>, head: &[u8]) -> Result<Arc<dyn Ranges>, String> {
    if !is_pack(head) {
        return Ok(Arc::clone(ranges));
    }
    let beginning = Whole(ranges).read(0, ranges.size_bytes().min(LOOKED_THROUGH) as usize)?;
    let types = unsaid(&beginning);
    if types.is_empty() {
        return Ok(Arc::clone(ranges));
    }
    let front = [&beginning[..PACK_BYTES], &map(&types)].concat().into();
    Ok(Arc::new(Behind { front, inner: Arc::clone(ranges) }))
}

/// The same for who has read nothing of it.
pub(super) fn mapped_anew(ranges: &Arc<dyn Ranges>) -> Result<Arc<dyn Ranges>, String> {
    let head = Whole(ranges).read(0, ranges.size_bytes().min(PACK_BYTES as u64) as usize)?;
    mapped(ranges, &head)
}

/// Does it begin with the pack of a stream that may have a map? Those of MPEG-1 may not, and nothing fills this one up.
fn is_pack(head: &[u8]) -> bool {
    head.starts_with(&PACK) && head.get(4).is_some_and(|byte| byte & 0xc0 == 0x40) && head.get(13) == Some(&0xf8)
}

/// Streams of pictures and their types, as far as they are others than a demuxer guesses; none where a map says it.
fn unsaid(beginning: &[u8]) -> Vec<(u8, u8)> {
    let mut streams: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut at = 0;
    while let Some(found) = start_codes(&beginning[at..]).find(|(_, code)| *code >= PACKETS) {
        let (start, code) = (at + found.0, found.1);
        let Some(length) = beginning.get(start + 4..start + PACKET_BYTES) else { break };
        let body = start + PACKET_BYTES;
        let end = (body + usize::from(u16::from_be_bytes([length[0], length[1]]))).min(beginning.len());
        if code == MAP {
            return Vec::new();
        }
        if PICTURES.contains(&code)
            && let Some(skip) = beginning.get(body + 2)
            && let Some(payload) = beginning.get(body + 3 + usize::from(*skip)..end)
        {
            match streams.iter_mut().find(|(name, _)| *name == code) {
                Some((_, stream)) => stream.extend(payload),
                None => streams.push((code, payload.to_vec())),
            }
        }
        at = end;
    }
    streams.into_iter().filter_map(|(name, stream)| Some((name, type_of(&stream)?))).collect()
}

/// Places of start codes (three bytes and a code).
fn start_codes(bytes: &[u8]) -> impl Iterator<Item = (usize, u8)> {
    bytes.windows(4).enumerate().filter(|(_, code)| code.starts_with(&[0, 0, 1])).map(|(at, code)| (at, code[3]))
}

/// What a picture's stream is, by the first thing in it that only one codec has; none where it is MPEG-1 or MPEG-2.
fn type_of(stream: &[u8]) -> Option<u8> {
    start_codes(stream).find_map(|(at, code)| {
        let next = *stream.get(at + 4)?;
        match code {
            // Sequence and group of MPEG-1 and MPEG-2.
            0xb3 | 0xb8 => Some(None),
            // Visual object sequence and visual object.
            0xb0 | 0xb5 => Some(Some(MPEG4)),
            // Sequence parameters.
            0x27 | 0x47 | 0x67 if PROFILES.contains(&next) => Some(Some(H264)),
            // Parameters of video and sequence, in the lowest layer.
            0x40 | 0x42 if next == 1 => Some(Some(HEVC)),
            _ => None,
        }
    })?
}

/// A map of these streams.
fn map(types: &[(u8, u8)]) -> Vec<u8> {
    let rows: Vec<u8> = types.iter().flat_map(|(name, kind)| [*kind, *name, 0, 0]).collect();
    // At most sixteen rows, so lengths fit a byte.
    let (rows_bytes, bytes) = (rows.len() as u8, rows.len() as u8 + 10);
    let table = [&[0, 0, 1, MAP, 0, bytes, 0xe0, 0xff, 0, 0, 0, rows_bytes][..], &rows].concat();
    let sum = checksum(&table).to_be_bytes();
    [table, sum.to_vec()].concat()
}

/// A source behind bytes that it does not have.
struct Behind {
    front: Bytes,
    inner: Arc<dyn Ranges>,
}

impl Ranges for Behind {
    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes() + self.front.len() as u64
    }

    fn request(&self, offset: u64, length: u32, done: RangeDone) {
        let place = |at: u64| usize::try_from(at).map_or(self.front.len(), |at| at.min(self.front.len()));
        let front = self.front.slice(place(offset)..place(offset.saturating_add(u64::from(length))));
        let inside = length - front.len() as u32;
        if inside == 0 {
            return done(Ok(front));
        }
        let joined = move |data: Bytes| match front.is_empty() {
            true => data,
            false => [&front[..], &data[..]].concat().into(),
        };
        let at = offset.saturating_sub(self.front.len() as u64);
        self.inner.request(at, inside, Box::new(move |read| done(read.map(joined))));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::Memory;
    use super::*;

    const H264_BEGINS: [u8; 12] = [0, 0, 0, 1, 0x09, 0xf0, 0, 0, 0, 1, 0x67, 66];

    fn packet(name: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u16 + 3).to_be_bytes();
        [&[0, 0, 1, name][..], &length, &[0x80, 0, 0], payload].concat()
    }

    fn stream(packets: &[Vec<u8>]) -> Vec<u8> {
        [&PACK[..], &[0x44, 0, 4, 0, 4, 1, 0, 1, 3, 0xf8], &packets.concat()].concat()
    }

    #[test]
    fn pictures_are_known_by_what_only_their_codec_has() {
        assert_eq!(type_of(&H264_BEGINS), Some(H264));
        assert_eq!(type_of(&[0, 0, 1, 0x40, 1, 0x0c, 1]), Some(HEVC));
        assert_eq!(type_of(&[0, 0, 1, 0xb0, 1, 0, 0, 1, 0xb5, 9]), Some(MPEG4));
        assert_eq!(type_of(&[0, 0, 1, 0xb3, 20, 0, 0, 1, 0x67, 66]), None, "a slice of MPEG-2");
        assert_eq!(type_of(&[0, 0, 1, 0x21, 9, 0, 0, 1]), None);
    }

    #[test]
    fn a_stream_is_known_across_its_packets_and_a_map_is_believed() {
        let (first, second) = H264_BEGINS.split_at(9);
        let [first, second] = [first, second].map(|part| packet(0xe2, part));
        let sound = packet(0xc0, &[0, 0, 1, 0x67, 66]);
        assert_eq!(unsaid(&stream(&[first.clone(), sound.clone(), second.clone()])), [(0xe2, H264)]);
        assert_eq!(unsaid(&stream(&[packet(MAP, &[0; 8]), first, second])), []);
        assert_eq!(unsaid(&stream(&[sound, packet(0xe0, &[0, 0, 1, 0xb3, 20])])), []);
        assert_eq!(unsaid(&stream(&[vec![0, 0, 1, 0xe0]])), []);
    }

    #[test]
    fn what_stands_in_front_is_read_like_the_rest() {
        let source = stream(&[packet(0xe0, &H264_BEGINS)]);
        let inner: Arc<dyn Ranges> = Arc::new(Memory(source.clone()));
        let seen = mapped(&inner, &source).unwrap();
        let whole = [&source[..PACK_BYTES], &map(&[(0xe0, H264)]), &source].concat();
        assert_eq!((checksum(&map(&[(0xe0, H264)])), seen.size_bytes()), (0, whole.len() as u64));
        let places = (0..whole.len()).flat_map(|from| (from + 1..=whole.len()).map(move |to| (from, to)));
        for (from, to) in places {
            assert_eq!(Whole(&seen).read(from as u64, to - from).unwrap(), whole[from..to]);
        }
        let short: Arc<dyn Ranges> = Arc::new(Memory(PACK.to_vec()));
        assert_eq!(mapped_anew(&short).unwrap().size_bytes(), 4);
    }
}
