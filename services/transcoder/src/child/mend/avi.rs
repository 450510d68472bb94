//! AVI: chunks of picture and sound one behind the other, and an index of them at the end (Microsoft, "AVI RIFF File
//! Reference"). `avidemux` believes the index whatever it says, and ends at the first place where no chunk is; without one
//! it looks for the chunks itself. So where an entry points at none, it is shown a file without an index.
//!
//! Where the index is right nothing is changed: it tells of chunks whose own heads are damaged. Left alone are files with
//! indexes of several parts (OpenDML), and with chunks in lists of their own.

use spool_proto::media::Span;

use super::patched::Change;
use super::{Chain, Link, TIME_BYTES, Window};
use crate::child::formats::riff::{self, le32};

/// Bytes of a chunk's head.
const HEAD_BYTES: u64 = riff::HEAD_BYTES as u64;
/// Bytes of the head of the file, and of a list: a head and a name.
const LIST_HEAD: u64 = 12;
/// Chunks that are passed in search of the media.
const MOST_PARTS: usize = 64;
/// Longest list of headers that is read.
const LONGEST_HEADERS: u64 = 1 << 20;
/// Bytes of an entry of the index: name, flags, place and size.
const ENTRY_BYTES: u64 = 16;
/// What is put over damage, and over the name of an index.
const FILLER: [u8; 4] = *b"JUNK";

/// The chunks of a file, and what its index says of them.
#[derive(Default)]
pub(super) struct Chunks {
    index: Option<Index>,
    /// Up to where the last chunk goes.
    reached: u64,
}

/// An index that is read along with the chunks.
struct Index {
    /// Where its name stands, and its next entry.
    at: u64,
    next: u64,
    end: u64,
    /// From where its places count: the name of the list, or the file's beginning.
    list: u64,
    base: Option<u64>,
    contradicts: bool,
}

/// Name and size.
fn head_of(window: &mut Window<'_>, at: u64) -> Result<Option<([u8; 4], u64)>, String> {
    let head = window.get(at, HEAD_BYTES as usize)?;
    Ok(head.and_then(riff::chunk).map(|(name, size)| (name, u64::from(size))))
}

/// Where what begins at `at` ends: at an even distance.
fn end_of(at: u64, size: u64) -> u64 {
    at + HEAD_BYTES + size + size % 2
}

/// The name of a chunk of picture, sound or text: the number of its stream, and of what kind it is.
fn is_media(name: [u8; 4]) -> bool {
    name[..2].iter().all(u8::is_ascii_digit) && matches!(&name[2..], b"dc" | b"db" | b"wb" | b"pc" | b"tx")
}

impl Chain for Chunks {
    const MARKS: &'static [&'static [u8]] = &[b"dc", b"db", b"wb"];
    const MARK_AT: u64 = 2;
    const LEAST: u64 = HEAD_BYTES;

    fn first(&mut self, window: &mut Window<'_>) -> Result<Option<u64>, String> {
        let mut at = LIST_HEAD;
        for _ in 0..MOST_PARTS {
            let Some((name, size)) = head_of(window, at)? else { return Ok(None) };
            let list = window.get(at + HEAD_BYTES, 4)?.filter(|_| &name == b"LIST").map(<[u8]>::to_vec);
            if list.as_deref() == Some(b"movi") {
                self.index = index_of(window, at, size)?;
                let first = at + LIST_HEAD;
                self.reached = first;
                return Ok(head_of(window, first)?.filter(|(name, _)| is_media(*name)).map(|_| first));
            }
            if list.as_deref() == Some(b"hdrl") {
                let headers = window.get(at + HEAD_BYTES, size.min(LONGEST_HEADERS) as usize)?.unwrap_or_default();
                if headers.windows(4).any(|name| name == b"indx") {
                    return Ok(None);
                }
            }
            at = end_of(at, size);
        }
        Ok(None)
    }

    fn link(&mut self, window: &mut Window<'_>, at: u64) -> Result<Link, String> {
        let Some((name, size)) = head_of(window, at)? else { return Ok(Link::End) };
        if matches!(&name, b"idx1" | b"RIFF") {
            return Ok(Link::End);
        }
        let end = end_of(at, size);
        if !is_media(name) && name != FILLER || end > window.size {
            let cut = super::resume(window, self, at)?.is_none();
            return Ok(if cut { Link::End } else { Link::Broken });
        }
        if let Some(index) = self.index.as_mut().filter(|_| is_media(name)) {
            index.passes(window, self.reached, at, name, size)?;
        }
        self.reached = end;
        Ok(Link::Next(end))
    }

    fn resumes(&mut self, window: &mut Window<'_>, at: u64) -> Result<bool, String> {
        let Some((_, size)) = head_of(window, at)?.filter(|(name, _)| is_media(*name)) else { return Ok(false) };
        let next = head_of(window, end_of(at, size))?;
        Ok(next.is_some_and(|(name, _)| is_media(name) || name == FILLER || &name == b"idx1"))
    }
}

/// The index behind a list of media.
fn index_of(window: &mut Window<'_>, list: u64, size: u64) -> Result<Option<Index>, String> {
    let mut at = end_of(list, size);
    for _ in 0..MOST_PARTS {
        let Some((name, size)) = head_of(window, at)? else { return Ok(None) };
        if &name == b"idx1" {
            let (next, end) = (at + HEAD_BYTES, (at + HEAD_BYTES + size).min(window.size));
            return Ok(Some(Index { at, next, end, list: list + HEAD_BYTES, base: None, contradicts: false }));
        }
        if name != FILLER {
            return Ok(None);
        }
        at = end_of(at, size);
    }
    Ok(None)
}

impl Index {
    /// Reads on up to a chunk at `at`; what lies before it, from `reached` on, is damaged.
    fn passes(
        &mut self,
        window: &mut Window<'_>,
        reached: u64,
        at: u64,
        name: [u8; 4],
        size: u64,
    ) -> Result<(), String> {
        while !self.contradicts && self.next + ENTRY_BYTES <= self.end {
            let Some(entry) = window.peek(self.next, ENTRY_BYTES as usize)? else { return Ok(()) };
            let number = |at: usize| le32(entry, at).map(u64::from);
            let (Some(stated), Some(long), named) = (number(8), number(12), &entry[..4]) else { return Ok(()) };
            let base = *self.base.get_or_insert(if stated == at { 0 } else { self.list });
            let place = base + stated;
            if place > at {
                // The chunk is not listed: nobody misses it.
                return Ok(());
            }
            let listed = place == at && *named == name && long == size;
            self.contradicts = !listed && !(reached..at).contains(&place);
            self.next += ENTRY_BYTES;
            if place == at {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Chunks {
    /// Where damage is, `found` on the way, and where the name of a wrong index stands; nothing where the index is right.
    pub(super) fn damage(self, found: Vec<Span>) -> Vec<Span> {
        match self.index {
            None => found,
            // Entries that are left point at what is no chunk.
            Some(index) if index.contradicts || index.next + ENTRY_BYTES <= index.end && found.is_empty() => {
                found.into_iter().chain([Span { offset: index.at, length: TIME_BYTES }]).collect()
            }
            Some(_) => Vec::new(),
        }
    }
}

/// The name of an index that is none any more.
pub(super) fn no_index(place: Span) -> Change<Vec<u8>> {
    (place.offset, FILLER.to_vec())
}

/// One chunk that nobody reads over the span. Chunks begin at even distances, so of an odd one the rest is lost.
pub(super) fn filler(span: Span) -> Vec<Change<Vec<u8>>> {
    let size = u32::try_from(span.length.saturating_sub(HEAD_BYTES)).ok().filter(|_| span.length >= HEAD_BYTES);
    size.map(|size| (span.offset, [FILLER, size.to_le_bytes()].concat())).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::Memory;
    use super::super::walk;
    use super::*;

    fn chunk(name: &[u8], body: &[u8]) -> Vec<u8> {
        let padding = vec![0; body.len() % 2];
        [name, &(body.len() as u32).to_le_bytes(), body, &padding].concat()
    }

    fn of_chunk(n: u8) -> ([u8; 4], Vec<u8>) {
        let name = if n.is_multiple_of(3) { *b"01wb" } else { *b"00dc" };
        (name, vec![0xaa; 20 + usize::from(n)])
    }

    /// 20 chunks and their index, whose places count from `base` bytes before the list's name; `headers` before them.
    fn avi(headers: &[u8], base: u64) -> Vec<u8> {
        let (mut media, mut index) = (b"movi".to_vec(), Vec::new());
        for (name, body) in (0..20).map(of_chunk) {
            index.extend([&name[..], &[0; 4], &(base as u32 + media.len() as u32).to_le_bytes()].concat());
            index.extend((body.len() as u32).to_le_bytes());
            media.extend(chunk(&name, &body));
        }
        [b"RIFF\0\0\0\0AVI ".to_vec(), chunk(b"LIST", headers), chunk(b"LIST", &media), chunk(b"idx1", &index)].concat()
    }

    fn damage(file: &[u8]) -> Vec<Span> {
        let source = Memory(file.to_vec());
        let mut chunks = Chunks::default();
        let found = walk(&mut Window::new(&source), &mut chunks).unwrap();
        chunks.damage(found)
    }

    fn index_at(file: &[u8]) -> usize {
        file.windows(4).position(|name| name == b"idx1").unwrap()
    }

    /// Where the name of the list of media stands.
    const LIST_AT: u64 = LIST_HEAD + HEAD_BYTES + 8 + HEAD_BYTES;

    #[test]
    fn an_index_that_is_right_is_left_alone_whatever_its_places_count_from() {
        for base in [0, LIST_AT] {
            let good = avi(b"hdrlavih", base);
            assert_eq!(damage(&good), []);
            // Wherever it is cut off, and where a chunk's own head is damaged.
            (0..good.len()).for_each(|length| assert_eq!(damage(&good[..length]), [], "cut at {length}"));
            let mut bad = good.clone();
            bad[LIST_AT as usize + 4 + 28..][..8].fill(0x55);
            assert_eq!(damage(&bad), []);
        }
    }

    #[test]
    fn an_index_that_points_at_no_chunk_is_hidden() {
        for base in [0, LIST_AT] {
            let good = avi(b"hdrlavih", base);
            let place = index_at(&good);
            let hidden = vec![Span { offset: place as u64, length: TIME_BYTES }];
            // The name, the place and the size of an entry; the last one; all of them by 1,000 bytes.
            for at in [place + 8 + 16 * 5, place + 8 + 16 * 5 + 8, place + 8 + 16 * 5 + 12, good.len() - 8] {
                let mut bad = good.clone();
                bad[at] ^= 0x21;
                assert_eq!(damage(&bad), hidden, "{at}");
            }
            let mut bad = good.clone();
            for entry in bad[place + 8..].chunks_exact_mut(16) {
                let moved = le32(entry, 8).unwrap() + 1_000;
                entry[8..12].copy_from_slice(&moved.to_le_bytes());
            }
            assert_eq!(damage(&bad), hidden);
        }
    }

    #[test]
    fn where_bytes_are_missing_the_chunks_go_on_behind_a_filler() {
        let good = avi(b"hdrlavih", 4);
        let from = LIST_AT as usize + 100;
        let bad = [&good[..from], &good[from + 40..]].concat();
        let spans = damage(&bad);
        let [span] = spans[..] else { panic!("{spans:?}") };
        assert!(span.length >= HEAD_BYTES && span.length.is_multiple_of(2), "{span:?}");
        let mut mended = bad.clone();
        for (at, bytes) in filler(span) {
            mended[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
        }
        assert_eq!(damage(&mended), []);
    }

    #[test]
    fn files_with_indexes_of_several_parts_are_left_alone() {
        let mut file = avi(b"hdrlindx", 4);
        let place = index_at(&file);
        file[place + 8 + 8] ^= 1;
        assert_eq!(damage(&file), []);
        assert_eq!(damage(b"RIFF\0\0\0\0AVI "), []);
    }
}
