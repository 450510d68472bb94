//! One object of one rendition and one chunk, handed out segment by segment as it comes.

use std::sync::Arc;

use spool_proto::id::Sha256;
use spool_proto::media::{InitSection, Segment};

use crate::cmaf::{Sample, Track};
use crate::order::{Failure, Made, Output};

/// Writes the initialisation section at once, then segments, then the receipt. Holds nothing that was handed out.
pub(crate) struct Object {
    output: Arc<dyn Output>,
    rendition: String,
    chunk: u32,
    track: Track,
    made: Made,
    next_segment: u32,
}

impl Object {
    /// Starts the object whose first segment has the number `first_segment` on the timeline.
    pub(crate) fn begin(
        output: &Arc<dyn Output>,
        rendition: &str,
        chunk: u32,
        first_segment: u32,
        track: Track,
    ) -> Result<Self, Failure> {
        let init = track.init();
        let section = InitSection { offset: 0, length: init.len() as u64, sha256: Sha256::of(&init) };
        let made = Made {
            length: section.length,
            init: section,
            timescale: track.timescale,
            start_ticks: 0,
            segments: Vec::new(),
            samples: 0,
            codec: track.codec_name(),
            missing_ms: 0,
        };
        output.bytes(rendition, chunk, &[init.into()])?;
        let (output, rendition) = (Arc::clone(output), rendition.to_owned());
        Ok(Self { output, rendition, chunk, track, made, next_segment: first_segment })
    }

    /// Appends a segment of samples in decode order; the next one starts at `end_ticks`.
    pub(crate) fn segment(&mut self, samples: &[Sample], end_ticks: u64) -> Result<(), Failure> {
        let fragment = self
            .track
            .fragment(self.next_segment + 1, samples, end_ticks)
            .map_err(|err| Failure::own(format!("{err}, {} chunk {}", self.rendition, self.chunk)))?;
        let offset = self.made.length;
        if self.made.segments.is_empty() {
            self.made.start_ticks = fragment.start_ticks;
        }
        self.made.segments.push(Segment {
            offset,
            length: fragment.length,
            duration_ticks: fragment.duration_ticks,
            keyframes: fragment.keyframes.iter().map(|at| offset + at).collect(),
        });
        self.made.length += fragment.length;
        self.made.samples += samples.len() as u64;
        self.next_segment += 1;
        self.output.bytes(&self.rendition, self.chunk, &fragment.data)?;
        Ok(())
    }

    /// States the object as whole.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        self.output.object_done(&self.rendition, self.chunk, self.made)?;
        Ok(())
    }
}
