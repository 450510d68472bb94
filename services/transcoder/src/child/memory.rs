//! A source that a test holds in memory, for whoever reads tables and for whoever hands out ranges.

use super::formats::mp4;
use super::source::{RangeDone, Ranges};

/// The bytes of the whole source.
pub(super) struct Memory(pub(super) Vec<u8>);

impl mp4::Bytes for Memory {
    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, String> {
        let (from, end) = (offset as usize, offset as usize + length);
        self.0.get(from..end).map(<[u8]>::to_vec).ok_or_else(|| format!("read up to {end}"))
    }

    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }
}

impl Ranges for Memory {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn request(&self, offset: u64, length: u32, done: RangeDone) {
        done(mp4::Bytes::read(self, offset, length as usize).map(bytes::Bytes::from));
    }
}
