//! `inspect`: what a source is, or the name of why it is refused.
//!
//! In order, each step cheaper than the next: its size, its first bytes, the tables of an MP4, its demuxer (to the end
//! where no tables tell the times), and a little decoding at the start. The facts are what every worker then goes by, so
//! zero and end are those of the chosen streams' samples; a container's own idea of its duration is never asked.

use std::sync::Arc;

use spool_proto::media::SourceFacts;

use super::formats::ebml;
use super::formats::mp4::{self, Bytes as _};
use super::formats::pose::Poses;
use super::limits;
use super::sniff::{SNIFF_BYTES, Sniffed, sniff};
use super::source::Ranges;
use super::whole::{Whole, unreadable};
use crate::order::{Failure, FailureCode, InspectLimits, Output};

mod container;
mod facts;
mod index;
mod reading;

use facts::Facts;
pub(super) use index::seconds;
use index::usable_index;
use reading::Reading;

/// Inspects the source.
pub fn run(ranges: &Arc<dyn Ranges>, limits: &InspectLimits, output: &Arc<dyn Output>) -> Result<SourceFacts, Failure> {
    let size = ranges.size_bytes();
    if size == 0 {
        return Err(Failure::new(FailureCode::SourceEmpty, "no bytes"));
    }
    let head = Whole(ranges).read(0, SNIFF_BYTES.min(size as usize)).map_err(unreadable)?;
    let declared = declared(ranges, &head, limits)?;
    output.progress(0)?;
    let read = Reading { head: &head, limits, output }.read(ranges, declared)?;
    Facts { read: &read, limits, output }.state()
}

/// What a source says of itself in its first bytes and its tables.
struct Declared {
    /// The tables of an MP4.
    index: Option<mp4::Index>,
    poses: Poses,
}

impl Declared {
    /// Do the tables tell the time of each sample?
    fn tells_times(&self) -> bool {
        self.index.as_ref().is_some_and(|index| !index.fragmented && index.tracks.iter().all(|t| t.samples.is_some()))
    }
}

/// Reads what a source says of itself; refuses what is no video by its first bytes, and what its tables can't hold.
fn declared(ranges: &Arc<dyn Ranges>, head: &[u8], limits: &InspectLimits) -> Result<Declared, Failure> {
    let by_first_bytes = |code, found| Failure::new(code, "by its first bytes").with("found", found);
    let bytes = Whole(ranges);
    match sniff(head) {
        Sniffed::Still(found) => Err(by_first_bytes(FailureCode::SourceStillImage, found)),
        Sniffed::Other(found) => Err(by_first_bytes(FailureCode::SourceNotMedia, found)),
        Sniffed::IsoMedia => {
            let index = usable_index(mp4::read(&bytes, limits.max_samples).map_err(unreadable)?)?;
            let tracks = index.iter().flat_map(|index| &index.tracks);
            let poses = tracks.map(|track| (u64::from(track.id), track.pose)).collect();
            Ok(Declared { index, poses })
        }
        Sniffed::Ebml => {
            let declared = ebml::declared(&bytes).map_err(unreadable)?;
            declared.sizes.into_iter().try_for_each(|size| limits::size_fits(limits, size))?;
            Ok(Declared { index: None, poses: declared.poses })
        }
        Sniffed::Unknown => Ok(Declared { index: None, poses: Poses::new() }),
    }
}
