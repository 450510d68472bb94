//! Raw sound of a version-2 description, in samples of a handy size.
//!
//! Sound above 65,535 Hz needs the second version of QuickTime's sound description, and there `qtdemux` takes the index at
//! its word: each sample that is heard is a sample of the file, 32 bytes of memory each, up to 200 MB (a minute); and its
//! way of merging them gives up halfway and loses all their times. So where there is such a track, the whole index is
//! written anew behind the file's end, with thousands of those samples as one, and the old one is no index any more. No
//! byte of the media moves.

use crate::child::formats::mp4::{Box, be32, child, children};

/// Sounds that become one sample.
const TOGETHER: u32 = 4096;
/// Boxes on the way to a track's tables, each in the one before.
const ON_THE_WAY: [&[u8; 4]; 4] = [b"trak", b"mdia", b"minf", b"stbl"];
/// Where a sample description states its version, in the body of `stsd`; and the one that is meant.
const VERSION_AT: usize = 24;
const VERSION_2: [u8; 2] = [0, 2];

/// The index with its raw sound regrouped, as a box; none where nothing needs it.
pub(super) fn regrouped(index: &[u8]) -> Option<Vec<u8>> {
    // Looked for first: an index may be large, and most are not written anew.
    let tables =
        |trak: &Box<'_>| child(child(child(trak.body, b"mdia")?, b"minf")?, b"stbl").and_then(Tables::of).map(|_| ());
    children(index).iter().filter(|part| part.name == *b"trak").find_map(tables)?;
    let mut changed = false;
    let body = rewritten(index, &ON_THE_WAY, &mut changed)?;
    changed.then(|| boxed(*b"moov", &body)).flatten()
}

/// What is in a box, with the tables at the end of the `way` from there regrouped.
fn rewritten(body: &[u8], way: &[&[u8; 4]], changed: &mut bool) -> Option<Vec<u8>> {
    let mut new = Vec::with_capacity(body.len());
    for Box { name, body } in children(body) {
        let further = way.split_first().filter(|(first, _)| **first == &name).map(|(_, further)| further);
        let at_tables = further.is_some_and(<[_]>::is_empty);
        let tables = at_tables.then(|| Tables::of(body).and_then(|tables| tables.regrouped())).flatten();
        let inner = match tables {
            Some(tables) => {
                *changed = true;
                let kept = children(body).into_iter().filter(|part| !matches!(&part.name, b"stts" | b"stsc" | b"stsz"));
                let kept: Option<Vec<_>> = kept.map(|part| boxed(part.name, part.body)).collect();
                [kept?.concat(), tables].concat()
            }
            None => match further.filter(|further| !further.is_empty()) {
                Some(further) => rewritten(body, further, changed)?,
                None => body.to_vec(),
            },
        };
        new.extend(boxed(name, &inner)?);
    }
    Some(new)
}

fn boxed(name: [u8; 4], body: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(body.len() + 8).ok()?;
    Some([&length.to_be_bytes()[..], &name, body].concat())
}

/// A box of rows behind version, flags and their number.
fn table(name: [u8; 4], rows: &[Vec<u32>]) -> Option<Vec<u8>> {
    let numbers = [0, u32::try_from(rows.len()).ok()?].into_iter().chain(rows.iter().flatten().copied());
    boxed(name, &numbers.flat_map(u32::to_be_bytes).collect::<Vec<_>>())
}

/// The tables of a track of raw sound.
struct Tables<'a> {
    /// Bytes of a sample, and how many there are.
    bytes: u32,
    samples: u32,
    /// Length of a sample.
    delta: u32,
    /// Rows of first chunk, samples in a chunk, description.
    to_chunk: &'a [u8],
    chunks: u32,
}

impl<'a> Tables<'a> {
    fn of(stbl: &'a [u8]) -> Option<Self> {
        child(stbl, b"stsd").filter(|stsd| stsd.get(VERSION_AT..VERSION_AT + 2) == Some(&VERSION_2))?;
        let (times, sizes) = (child(stbl, b"stts")?, child(stbl, b"stsz")?);
        let (bytes, samples) = (be32(sizes, 4).filter(|bytes| *bytes > 0)?, be32(sizes, 8)?);
        // Raw: each as long as the others, and none waits for another.
        let raw = be32(times, 4) == Some(1) && child(stbl, b"ctts").is_none() && child(stbl, b"stss").is_none();
        let (chunks, place_bytes) = match child(stbl, b"stco") {
            Some(places) => (places, 4),
            None => (child(stbl, b"co64")?, 8),
        };
        let chunks = be32(chunks, 4).filter(|count| *count as usize <= chunks.len() / place_bytes)?;
        let to_chunk = child(stbl, b"stsc")?;
        let rows = to_chunk.get(8..)?.get(..(be32(to_chunk, 4)? as usize).checked_mul(12)?)?;
        raw.then_some(Self { bytes, samples, delta: be32(times, 12)?, to_chunk: rows, chunks })
    }

    /// The three tables that say which sample lies where, how long it is, and when.
    fn regrouped(&self) -> Option<Vec<u8>> {
        let rows: Vec<[u32; 3]> = self.to_chunk.chunks_exact(12).filter_map(row_of).collect();
        let (mut left, mut times, mut places, mut sizes) =
            (self.samples, Vec::<Vec<u32>>::new(), Vec::new(), Vec::new());
        for (at, [first, per_chunk, description]) in rows.iter().copied().enumerate() {
            let next = rows.get(at + 1).map_or(self.chunks.checked_add(1)?, |[next, _, _]| *next);
            if left == 0 {
                break;
            }
            if first == 0 || next <= first || per_chunk == 0 {
                return None;
            }
            for chunk in first..next.min(self.chunks + 1) {
                let mut here = per_chunk.min(left);
                left -= here;
                let parts = here.div_ceil(TOGETHER);
                if places.last().is_none_or(|row: &Vec<u32>| row[1..] != [parts, description]) && parts > 0 {
                    places.push(vec![chunk, parts, description]);
                }
                while here > 0 {
                    let part = here.min(TOGETHER);
                    here -= part;
                    sizes.push(part.checked_mul(self.bytes)?);
                    let length = part.checked_mul(self.delta)?;
                    match times.last_mut().filter(|row| row[1] == length) {
                        Some(row) => row[0] += 1,
                        None => times.push(vec![1, length]),
                    }
                }
            }
        }
        // No size for all: each has its own.
        let count = u32::try_from(sizes.len()).ok().filter(|count| *count > 0 && left == 0)?;
        let sizes = [0, 0, count].into_iter().chain(sizes).flat_map(u32::to_be_bytes).collect::<Vec<_>>();
        Some([table(*b"stts", &times)?, table(*b"stsc", &places)?, boxed(*b"stsz", &sizes)?].concat())
    }
}

fn row_of(row: &[u8]) -> Option<[u32; 3]> {
    Some([be32(row, 0)?, be32(row, 4)?, be32(row, 8)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(version: u8) -> Vec<u8> {
        let mut description = vec![0; 40];
        description[VERSION_AT + 1] = version;
        let parts = [
            boxed(*b"stsd", &description),
            table(*b"stts", &[vec![10_000, 1]]),
            table(*b"stsc", &[vec![1, 4096, 1], vec![3, 1808, 1]]),
            boxed(*b"stsz", &[0, 6, 10_000_u32].map(u32::to_be_bytes).concat()),
            table(*b"stco", &[vec![100], vec![30_000], vec![60_000]]),
        ];
        let stbl = boxed(*b"stbl", &parts.map(Option::unwrap).concat()).unwrap();
        [*b"minf", *b"mdia", *b"trak"].into_iter().fold(stbl, |inner, name| boxed(name, &inner).unwrap())
    }

    #[test]
    fn thousands_of_sounds_become_one_sample_and_keep_their_place_and_time() {
        let new = regrouped(&track(2)).unwrap();
        let mut found = child(&new, b"moov").unwrap();
        for name in ON_THE_WAY {
            found = child(found, name).unwrap();
        }
        let numbers = |name: &[u8; 4]| -> Vec<u32> {
            child(found, name).unwrap().chunks_exact(4).filter_map(|b| be32(b, 0)).collect()
        };
        assert_eq!(numbers(b"stts"), [0, 2, 2, 4096, 1, 1808]);
        assert_eq!(numbers(b"stsc"), [0, 1, 1, 1, 1]);
        assert_eq!(numbers(b"stsz"), [0, 0, 3, 4096 * 6, 4096 * 6, 1808 * 6]);
        assert_eq!(numbers(b"stco"), [0, 3, 100, 30_000, 60_000]);
    }

    #[test]
    fn what_is_nested_deeper_than_a_track_is_not_followed() {
        let deep = (0..20_000).fold(Vec::new(), |inner, _| boxed(*b"trak", &inner).unwrap());
        let media = boxed(*b"trak", &boxed(*b"mdia", &boxed(*b"minf", &deep).unwrap()).unwrap()).unwrap();
        let new = regrouped(&[track(2), media.clone()].concat()).unwrap();
        assert!(new.ends_with(&media));
    }

    #[test]
    fn chunks_that_contradict_each_other_are_not_walked() {
        let find = |index: &[u8]| index.windows(4).position(|name| name == b"stsc").unwrap() + 12;
        for first in [0_u32, 3, u32::MAX] {
            let mut index = track(2);
            let row = find(&index);
            index[row..row + 4].copy_from_slice(&first.to_be_bytes());
            assert_eq!(regrouped(&index), None, "{first}");
        }
    }

    #[test]
    fn an_index_without_such_a_track_stays() {
        assert_eq!(regrouped(&track(1)), None);
        assert_eq!(regrouped(&[]), None);
    }
}
