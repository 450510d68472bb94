//! Files that are several, put together byte by byte: an Ogg whose links follow each other, as radio is recorded, an AVI
//! behind an AVI; of Matroska and FLV the walk along their elements and tags tells it ([`super::matroska`], [`super::flv`]).
//!
//! Each begins anew at zero with streams of its own. Demuxers make of the later ones what they like: sound that ends where
//! the first one does, pictures that lie over its own, or nothing. So the first one is taken, and the others are counted.

use spool_proto::media::Container;

use super::{MOST_LINKS, Window};
use crate::child::formats::riff;

/// Bytes of a page's head in an Ogg before the lengths of its pieces (RFC 3533, 6), and the flag of a stream's first page.
const PAGE_BYTES: usize = 27;
const BEGINS: u8 = 2;
/// Bytes of the head of a RIFF with its name.
const RIFF_BYTES: usize = 12;

/// Recordings that follow the first one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Joined {
    /// Where the first of them begins.
    pub(super) first: Option<u64>,
    /// How many there are.
    pub(super) count: u64,
}

impl Joined {
    /// Notes one at `at`.
    pub(super) fn note(&mut self, at: u64) {
        self.first.get_or_insert(at);
        self.count += 1;
    }
}

/// Those of a container that is not walked otherwise.
pub(super) fn of(window: &mut Window<'_>, container: Container) -> Result<Joined, String> {
    match container {
        Container::Ogg => ogg(window),
        Container::Avi => avi(window),
        Container::Mp4
        | Container::Matroska
        | Container::MpegTs
        | Container::MpegPs
        | Container::Flv
        | Container::Asf
        | Container::Mxf
        | Container::Audio => Ok(Joined::default()),
    }
}

/// Page by page, as far as they follow each other.
fn ogg(window: &mut Window<'_>) -> Result<Joined, String> {
    let (mut found, mut at, mut has_data) = (Joined::default(), 0, false);
    for _ in 0..MOST_LINKS {
        let Some(head) = window.get(at, PAGE_BYTES)?.filter(|head| head.starts_with(b"OggS")) else { break };
        let (begins, pieces) = (head[5] & BEGINS != 0, usize::from(head[PAGE_BYTES - 1]));
        if begins && has_data {
            found.note(at);
        }
        has_data = !begins;
        let Some(lengths) = window.get(at + PAGE_BYTES as u64, pieces)? else { break };
        at += (PAGE_BYTES + pieces) as u64 + lengths.iter().map(|length| u64::from(*length)).sum::<u64>();
    }
    Ok(found)
}

/// Large AVIs are several RIFFs, of which all but the first have another name.
fn avi(window: &mut Window<'_>) -> Result<Joined, String> {
    let (mut found, mut at) = (Joined::default(), 0);
    for _ in 0..MOST_LINKS {
        let Some(head) = window.get(at, RIFF_BYTES)?.filter(|head| head.starts_with(b"RIFF")) else { break };
        if at > 0 && head.ends_with(b"AVI ") {
            found.note(at);
        }
        // One of no length was never closed.
        let Some((_, length)) = riff::chunk(head).filter(|(_, length)| *length > 0) else { break };
        at += riff::HEAD_BYTES as u64 + u64::from(length).next_multiple_of(2);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::Memory;
    use super::*;

    fn found(container: Container, parts: &[Vec<u8>]) -> (Option<u64>, u64) {
        let held = Memory(parts.concat());
        let joined = of(&mut Window::new(&held), container).unwrap();
        (joined.first, joined.count)
    }

    fn page(begins: bool, bytes: u8) -> Vec<u8> {
        let mut page = [&b"OggS"[..], &[0, if begins { 2 } else { 0 }], &[0; 20], &[1, bytes]].concat();
        page.resize(28 + usize::from(bytes), 7);
        page
    }

    #[test]
    fn links_of_an_ogg_are_counted_and_streams_of_one_link_are_not() {
        let link = [page(true, 9), page(true, 9), page(false, 100), page(false, 0)].concat();
        let length = link.len() as u64;
        assert_eq!(found(Container::Ogg, std::slice::from_ref(&link)), (None, 0));
        assert_eq!(found(Container::Ogg, &[link.clone(), link.clone(), link.clone()]), (Some(length), 2));
        assert_eq!(found(Container::Ogg, &[link, b"OggS".to_vec()]), (None, 0));
    }

    #[test]
    fn a_large_avi_is_one_and_one_behind_another_is_not() {
        let riff = |name: &[u8]| [&b"RIFF"[..], &7_u32.to_le_bytes(), name, b"abc\0"].concat();
        let [first, next] = [riff(b"AVI "), riff(b"AVIX")];
        assert_eq!(found(Container::Avi, &[first.clone(), next.clone(), next.clone()]), (None, 0));
        assert_eq!(found(Container::Avi, &[first.clone(), next, first]), (Some(32), 1));
        assert_eq!(found(Container::Avi, &[b"RIFF\0\0\0\0AVI ".to_vec()]), (None, 0));
    }
}
