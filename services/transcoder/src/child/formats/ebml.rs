//! The picture sizes that a Matroska file declares, and how its pictures stand, read without its demuxer: what is too large
//! is refused by its size even where the rest is broken, and what is turned its demuxer does not say.

use super::mp4::Bytes;
use super::pose::{self, Poses};

pub(in crate::child) const SEGMENT: u32 = 0x1853_8067;
pub(in crate::child) const TRACKS: u32 = 0x1654_ae6b;
pub(in crate::child) const CLUSTER: u32 = 0x1f43_b675;
const TRACK: u32 = 0xae;
const VIDEO: u32 = 0xe0;
const WIDTH: u32 = 0xb0;
const HEIGHT: u32 = 0xba;
const TRACK_NUMBER: u32 = 0xd7;
const PROJECTION: u32 = 0x7670;
const PROJECTION_KIND: u32 = 0x7671;
const ROLL: u32 = 0x7675;

/// Elements that are passed before the list of tracks is given up; files have about ten.
const MOST_PASSED: usize = 1000;
/// Longest list of tracks that is read: names and private data of a hundred of them.
const LONGEST_TRACKS: u64 = 1024 * 1024;
/// Bytes of the longest element head: four of its id, eight of its length.
pub(in crate::child) const HEAD_BYTES: usize = 12;

/// An element's head.
pub(in crate::child) struct Head {
    /// What it is.
    pub(in crate::child) id: u32,
    /// Bytes of the head itself.
    pub(in crate::child) length: usize,
    /// Bytes of the body; none where it goes on to the end of what holds it.
    pub(in crate::child) body: Option<u64>,
}

impl Head {
    pub(in crate::child) fn of(bytes: &[u8]) -> Option<Self> {
        let id_length = bytes.first()?.leading_zeros() as usize + 1;
        let id = number(bytes.get(..id_length).filter(|_| id_length <= 4)?);
        let rest = bytes.get(id_length..)?;
        let length = rest.first()?.leading_zeros() as usize + 1;
        let marked = number(rest.get(..length).filter(|_| length <= 8)?);
        let mask = (1_u64 << (7 * length)) - 1;
        let body = marked & mask;
        Some(Self { id: u32::try_from(id).ok()?, length: id_length + length, body: (body != mask).then_some(body) })
    }
}

/// A number as elements hold them: the highest byte first.
pub(in crate::child) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, byte| (n << 8) | u64::from(*byte))
}

/// What is declared of the pictures.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// Width and height of each picture track.
    pub sizes: Vec<(u32, u32)>,
    /// How those stand that say so.
    pub poses: Poses,
}

/// What the list of tracks declares, as far as it can be read; an error where the source cannot be.
pub fn declared(source: &dyn Bytes) -> Result<Declared, String> {
    let (mut at, end) = (0, source.size_bytes());
    for _ in 0..MOST_PASSED {
        let left = end.saturating_sub(at);
        if left == 0 {
            break;
        }
        let bytes = source.read(at, HEAD_BYTES.min(left as usize))?;
        let Some(head) = Head::of(&bytes) else { break };
        at += head.length as u64;
        match (head.id, head.body) {
            (SEGMENT, _) => {}
            (TRACKS, body) => {
                let left = end.saturating_sub(at);
                let length = body.unwrap_or(left).min(left).min(LONGEST_TRACKS);
                let tracks = source.read(at, length as usize)?;
                return Ok(Declared { sizes: sizes(&tracks), poses: poses(&tracks) });
            }
            (CLUSTER, _) | (_, None) => break,
            (_, Some(body)) => at = at.saturating_add(body),
        }
    }
    Ok(Declared::default())
}

/// A flat picture may state that it is rolled to a side; of other projections that says something else.
fn poses(tracks: &[u8]) -> Poses {
    fn only(body: &[u8], wanted: u32) -> Option<&[u8]> {
        children(body).find(|(id, _)| *id == wanted).map(|(_, body)| body)
    }
    let tracks = children(tracks).filter(|(id, _)| *id == TRACK);
    let pose = |(_, track): (u32, &[u8])| {
        let projection = only(only(track, VIDEO)?, PROJECTION)?;
        if only(projection, PROJECTION_KIND).is_some_and(|kind| number(kind) != 0) {
            return None;
        }
        Some((number(only(track, TRACK_NUMBER)?), pose::rolled(float(only(projection, ROLL)?)?)))
    };
    tracks.filter_map(pose).collect()
}

/// A number with a point, of either length.
fn float(bytes: &[u8]) -> Option<f64> {
    match bytes.len() {
        4 => Some(f64::from(f32::from_be_bytes(bytes.try_into().ok()?))),
        8 => Some(f64::from_be_bytes(bytes.try_into().ok()?)),
        _ => None,
    }
}

fn sizes(tracks: &[u8]) -> Vec<(u32, u32)> {
    let videos = children(tracks).filter(|(id, _)| *id == TRACK).flat_map(|(_, track)| children(track));
    let of = |video: &[u8], wanted: u32| {
        let found = children(video).find(|(id, body)| *id == wanted && body.len() <= 8);
        found.map(|(_, body)| u32::try_from(number(body)).unwrap_or(u32::MAX))
    };
    videos.filter(|(id, _)| *id == VIDEO).filter_map(|(_, video)| of(video, WIDTH).zip(of(video, HEIGHT))).collect()
}

/// The elements that stand in `bytes`, until one cannot be read; the last may be cut.
fn children(mut bytes: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    std::iter::from_fn(move || {
        let head = Head::of(bytes)?;
        let rest = bytes.get(head.length..)?;
        let body = head.body.map_or(rest.len(), |body| usize::try_from(body).map_or(rest.len(), |b| b.min(rest.len())));
        let (found, after) = rest.split_at(body);
        bytes = after;
        Some((head.id, found))
    })
}

#[cfg(test)]
mod tests {
    use spool_proto::media::Orientation;

    use super::*;
    use crate::child::memory::Memory;

    fn element(id: u32, body: &[u8]) -> Vec<u8> {
        let id = id.to_be_bytes();
        let from = id.iter().position(|byte| *byte != 0).unwrap();
        let length = (body.len() as u32 | 0x1000_0000).to_be_bytes();
        [&id[from..], &length, body].concat()
    }

    fn file(width: &[u8], height: &[u8]) -> Vec<u8> {
        let video = element(VIDEO, &[element(0x9a, &[2]), element(WIDTH, width), element(HEIGHT, height)].concat());
        let sound = element(TRACK, &element(0x83, &[2]));
        let tracks = element(TRACKS, &[sound, element(TRACK, &[element(0xd7, &[1]), video].concat())].concat());
        let body = [element(0xec, &[0; 300]), tracks, element(CLUSTER, &[0; 50])].concat();
        // A segment of unknown length, as live recordings have.
        [element(0x1a45_dfa3, &element(0x4282, b"webm")), vec![0x18, 0x53, 0x80, 0x67, 0xff], body].concat()
    }

    #[test]
    fn declared_sizes_are_read_past_what_stands_before() {
        let check = |bytes: Vec<u8>, expected: &[(u32, u32)]| {
            assert_eq!(declared(&Memory(bytes)).unwrap().sizes, expected);
        };
        check(file(&[0x30, 0x30], &[1, 0, 0]), &[(12_336, 65_536)]);
        check(file(&[0xff; 8], &[16]), &[(u32::MAX, 16)]);
        check(b"\x1a\x45\xdf\xa3".to_vec(), &[]);
        check(vec![0; 20], &[]);
    }

    #[test]
    fn files_that_end_anywhere_are_read_to_their_end() {
        let whole = file(&[2, 128], &[1, 224]);
        for length in 0..whole.len() {
            let found = declared(&Memory(whole[..length].to_vec())).unwrap().sizes;
            assert!(found.iter().all(|size| [(640, 480), (640, 1), (2, 480), (640, 0), (0, 480)].contains(size)));
        }
    }

    #[test]
    fn a_flat_picture_is_rolled_and_no_other() {
        let check = |projection: &[Vec<u8>], expected: Option<Orientation>| {
            let video = element(VIDEO, &element(PROJECTION, &projection.concat()));
            let track = element(TRACK, &[element(TRACK_NUMBER, &[7]), video].concat());
            let found = poses(&track);
            assert_eq!(found.get(&7).map(|pose| pose.orientation), expected, "{projection:?}");
        };
        let roll = |degrees: f64| element(ROLL, &degrees.to_be_bytes());
        check(&[element(PROJECTION_KIND, &[0]), roll(-90.0)], Some(Orientation::Rotate90));
        check(&[element(ROLL, &90.0_f32.to_be_bytes())], Some(Orientation::Rotate270));
        check(&[element(PROJECTION_KIND, &[1]), roll(90.0)], None);
        check(&[element(ROLL, &[1, 2, 3])], None);
        check(&[], None);
    }
}
