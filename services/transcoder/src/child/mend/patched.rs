//! A source of which some bytes are others, that may go on behind its end, or hold more inside: how a demuxer is shown what it can read.

use std::sync::Arc;

use bytes::Bytes;

use crate::child::source::{RangeDone, Ranges};

/// From its place on, other bytes.
pub(super) type Change<B> = (u64, B);

/// `ranges` with `changes`, which lie apart from each other.
pub(super) fn patched<B>(ranges: &Arc<dyn Ranges>, changes: Vec<Change<B>>) -> Arc<dyn Ranges>
where
    B: AsRef<[u8]> + Send + Sync + 'static,
{
    longer(ranges, changes, Bytes::new())
}

/// The same, with more behind its end.
pub(super) fn longer<B>(ranges: &Arc<dyn Ranges>, mut changes: Vec<Change<B>>, tail: Bytes) -> Arc<dyn Ranges>
where
    B: AsRef<[u8]> + Send + Sync + 'static,
{
    changes.sort_by_key(|(at, _)| *at);
    Arc::new(Patched { inner: Arc::clone(ranges), changes: changes.into(), tail })
}

/// The same, with `more` before what lies `at` that place.
pub(super) fn with_more(ranges: &Arc<dyn Ranges>, at: u64, more: Bytes) -> Arc<dyn Ranges> {
    Arc::new(WithMore { inner: Arc::clone(ranges), at: at.min(ranges.size_bytes()), more })
}

/// `ranges` as far as `size` bytes.
pub(super) fn shorter(ranges: &Arc<dyn Ranges>, size: u64) -> Arc<dyn Ranges> {
    Arc::new(Shorter { inner: Arc::clone(ranges), size: size.min(ranges.size_bytes()) })
}

struct Shorter {
    inner: Arc<dyn Ranges>,
    size: u64,
}

impl Ranges for Shorter {
    fn size_bytes(&self) -> u64 {
        self.size
    }

    fn request(&self, offset: u64, length: u32, done: RangeDone) {
        self.inner.request(offset, length, done);
    }
}

struct WithMore {
    inner: Arc<dyn Ranges>,
    at: u64,
    more: Bytes,
}

impl Ranges for WithMore {
    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes() + self.more.len() as u64
    }

    fn request(&self, offset: u64, length: u32, done: RangeDone) {
        let (at, more_bytes) = (self.at, self.more.len() as u64);
        let inner = |place: u64| place.min(at) + place.saturating_sub(at + more_bytes);
        let of_more = |place: u64| place.clamp(at, at + more_bytes) - at;
        let end = offset + u64::from(length);
        let more = self.more.slice(of_more(offset) as usize..of_more(end) as usize);
        let before = at.saturating_sub(offset) as usize;
        if more.len() == length as usize {
            return done(Ok(more));
        }
        let put_in = move |data: Bytes| match (more.is_empty(), data.get(..before)) {
            // What came does not reach so far.
            (true, _) | (false, None) => data,
            (false, Some(head)) => [head, &more[..], &data[before..]].concat().into(),
        };
        self.inner.request(
            inner(offset),
            (inner(end) - inner(offset)) as u32,
            Box::new(move |read| done(read.map(put_in))),
        );
    }
}

struct Patched<B> {
    inner: Arc<dyn Ranges>,
    /// In order of their places.
    changes: Arc<[Change<B>]>,
    tail: Bytes,
}

impl<B: AsRef<[u8]> + Send + Sync + 'static> Ranges for Patched<B> {
    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes() + self.tail.len() as u64
    }

    fn request(&self, offset: u64, length: u32, done: RangeDone) {
        let end = self.inner.size_bytes();
        let place = |at: u64| (at.saturating_sub(end) as usize).min(self.tail.len());
        let behind = self.tail.slice(place(offset)..place(offset.saturating_add(u64::from(length))));
        if offset >= end && !self.tail.is_empty() {
            return done(Ok(behind));
        }
        let (changes, inside) = (Arc::clone(&self.changes), length - behind.len() as u32);
        let patch = move |data| {
            let data = changed(data, offset, &changes);
            // Both lie side by side only where the first part came whole.
            match behind.is_empty() || offset + data.len() as u64 != end {
                true => data,
                false => [&data[..], &behind[..]].concat().into(),
            }
        };
        self.inner.request(offset, inside, Box::new(move |read| done(read.map(patch))));
    }
}

/// `data`, which lies at `offset`, with the changes that fall into it.
fn changed<B: AsRef<[u8]>>(data: Bytes, offset: u64, changes: &[Change<B>]) -> Bytes {
    let end = offset + data.len() as u64;
    let first = changes.partition_point(|(at, new)| at + new.as_ref().len() as u64 <= offset);
    let inside = changes[first..].iter().take_while(|(at, _)| *at < end);
    let mut copy: Option<Vec<u8>> = None;
    for (at, byte) in inside.flat_map(|(at, new)| (*at..).zip(new.as_ref())) {
        if let Some(at) = at.checked_sub(offset).map(|at| at as usize).filter(|at| *at < data.len()) {
            copy.get_or_insert_with(|| data.to_vec())[at] = *byte;
        }
    }
    copy.map_or(data, Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::formats::mp4;
    use crate::child::memory::Memory;
    use crate::child::whole::Whole;

    #[test]
    fn what_is_read_across_a_change_is_changed_in_part() {
        let changes = [(10, [1, 2, 3, 4, 5, 6]), (30, [7; 6])];
        let mut whole = [0; 40];
        changes.iter().for_each(|(at, new)| whole[*at as usize..*at as usize + 6].copy_from_slice(new));
        for (from, to) in (0..40).flat_map(|from| (from..40).map(move |to| (from, to))) {
            let data = Bytes::from(vec![0; to - from]);
            assert_eq!(changed(data, from as u64, &changes), whole[from..to]);
        }
    }

    #[test]
    fn what_is_put_in_stands_between_what_lies_before_and_behind_its_place() {
        let source: Vec<u8> = (0..10).collect();
        for at in 0..=10_usize {
            let inner: Arc<dyn Ranges> = Arc::new(Memory(source.clone()));
            let seen = with_more(&inner, at as u64, Bytes::from_static(&[77, 88, 99]));
            let whole = [&source[..at], &[77, 88, 99], &source[at..]].concat();
            assert_eq!(seen.size_bytes(), 13);
            for (from, to) in (0..13).flat_map(|from| (from + 1..=13).map(move |to| (from, to))) {
                let read = mp4::Bytes::read(&Whole(&seen), from as u64, to - from).unwrap();
                assert_eq!(read, whole[from..to], "{at}: {from}..{to}");
            }
        }
    }

    #[test]
    fn what_lies_behind_the_end_follows_what_lies_before_it() {
        struct Ten;
        impl Ranges for Ten {
            fn size_bytes(&self) -> u64 {
                10
            }

            fn request(&self, offset: u64, length: u32, done: RangeDone) {
                assert!(offset + u64::from(length) <= 10, "{length} bytes at {offset}");
                done(Ok((0..10).collect::<Vec<u8>>()[offset as usize..][..length as usize].to_vec().into()));
            }
        }
        let inner: Arc<dyn Ranges> = Arc::new(Ten);
        let longer = longer(&inner, vec![(8, vec![88, 99])], Bytes::from_static(&[10, 11, 12]));
        let whole = [0, 1, 2, 3, 4, 5, 6, 7, 88, 99, 10, 11, 12];
        assert_eq!(longer.size_bytes(), 13);
        for (from, to) in (0..13).flat_map(|from| (from + 1..=13).map(move |to| (from, to))) {
            let read = mp4::Bytes::read(&Whole(&longer), from as u64, to - from).unwrap();
            assert_eq!(read, whole[from..to]);
        }
    }
}
