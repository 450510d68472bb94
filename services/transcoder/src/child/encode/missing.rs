//! Media that is missing inside a source, counted chunk by chunk: what is shown or heard instead (a picture that stands
//! still, silence) is no failure, but people should know of it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use spool_proto::media::{NS_PER_MS, Plan};

use crate::order::{Made, Output, OutputClosed};

/// A hole shorter than this is not worth a word: decoders and radios lose a frame now and then.
pub(crate) const LEAST_HOLE_NS: i64 = 1_000_000_000;

/// Where media was missing, in nanoseconds of each chunk.
pub(crate) struct Missing {
    spans: Vec<(i64, i64)>,
    lost_ns: Mutex<Vec<i64>>,
}

impl Missing {
    pub(crate) fn of(plan: &Plan) -> Arc<Self> {
        let signed = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
        let span = |chunk| plan.chunk_span_ns(chunk);
        let spans: Vec<_> =
            (0..plan.chunk_count()).map(span).map(|(start, end)| (signed(start), signed(end))).collect();
        let lost_ns = Mutex::new(vec![0; spans.len()]);
        Arc::new(Self { spans, lost_ns })
    }

    /// Nothing was there from `from_ns` to `to_ns` of the timeline.
    pub(crate) fn add(&self, from_ns: i64, to_ns: i64) {
        let mut lost = self.lost_ns.lock().unwrap_or_else(PoisonError::into_inner);
        for (lost, (start, end)) in lost.iter_mut().zip(&self.spans) {
            *lost += (to_ns.min(*end) - from_ns.max(*start)).max(0);
        }
    }

    fn ms(&self, chunk: u32) -> u64 {
        let lost = self.lost_ns.lock().unwrap_or_else(PoisonError::into_inner);
        lost.get(chunk as usize).map_or(0, |ns| ns.unsigned_abs() / NS_PER_MS)
    }
}

/// An output that puts into what was made what was missing in it.
pub(crate) struct Counted {
    pub(crate) inner: Arc<dyn Output>,
    pub(crate) missing: Arc<Missing>,
}

impl Output for Counted {
    fn bytes(&self, rendition: &str, chunk: u32, data: &[Bytes]) -> Result<(), OutputClosed> {
        self.inner.bytes(rendition, chunk, data)
    }

    fn object_done(&self, rendition: &str, chunk: u32, made: Made) -> Result<(), OutputClosed> {
        let missing_ms = self.missing.ms(chunk);
        self.inner.object_done(rendition, chunk, Made { missing_ms, ..made })
    }

    fn progress(&self, at_ns: u64) -> Result<(), OutputClosed> {
        self.inner.progress(at_ns)
    }

    fn frame_hash(&self, at_ns: u64, hash: u64) -> Result<(), OutputClosed> {
        self.inner.frame_hash(at_ns, hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spool_proto::testing::values;

    #[test]
    fn a_hole_counts_in_each_chunk_that_it_lies_in() {
        let plan = values::plan(&[1, 1, 1], 12_000);
        let missing = Missing::of(&plan);
        missing.add(3_500_000_000, 9_000_000_000);
        missing.add(11_000_000_000, 30_000_000_000);
        assert_eq!([0, 1, 2, 3].map(|chunk| missing.ms(chunk)), [500, 4_000, 2_000, 0]);
    }
}
