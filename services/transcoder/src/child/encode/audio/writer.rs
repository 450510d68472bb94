//! Coded sound on its way out: frames become segments, segments the objects of chunks.

use std::sync::Arc;

use spool_proto::media::AudioPlan;

use super::super::encoder::{Coded, codec_data, payload};
use super::super::object::Object;
use super::layout::{FRAME, Layout};
use crate::cmaf::{Codec, Sample, Track};
use crate::order::{Failure, Output};

/// Where AAC frames become segments and chunks. Times are counted, not read: frame `n` starts at sample `n` · 1024.
pub(super) struct Writer {
    output: Arc<dyn Output>,
    audio: AudioPlan,
    layout: Layout,
    from_chunk: u32,
    track: Option<Track>,
    object: Option<Object>,
    samples: Vec<Sample>,
    frame: u64,
    segment: u32,
    chunk: u32,
}

impl Coded for Writer {
    fn take(&mut self, sample: &gst::Sample) -> Result<(), Failure> {
        let buffer = sample.buffer_owned().ok_or_else(|| Failure::own("a sample of sound without buffer"))?;
        if self.track.is_none() {
            self.track = Some(self.track_of(codec_data(sample)?));
        }
        if self.layout.borders.get(self.segment as usize + 1) == Some(&self.frame) {
            self.close_segment()?;
        }
        self.samples.push(Sample { pts: self.frame * FRAME, keyframe: true, data: payload(buffer)? });
        self.frame += 1;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        let planned = self.layout.borders.last().copied().unwrap_or(0);
        if self.frame != planned {
            return Err(Failure::own(format!("{} frames of sound where {planned} were planned", self.frame)));
        }
        self.close_segment()
    }
}

impl Writer {
    /// Before the first frame. Chunks before `from_chunk` are kept to itself.
    pub(super) fn new(audio: &AudioPlan, layout: Layout, from_chunk: u32, output: &Arc<dyn Output>) -> Self {
        Self {
            output: Arc::clone(output),
            audio: audio.clone(),
            layout,
            from_chunk,
            track: None,
            object: None,
            samples: Vec::new(),
            frame: 0,
            segment: 0,
            chunk: 0,
        }
    }

    fn close_segment(&mut self) -> Result<(), Failure> {
        let samples = std::mem::take(&mut self.samples);
        if self.chunk >= self.from_chunk {
            if self.object.is_none() {
                let track = self.track.clone().ok_or_else(|| Failure::own("sound without a track"))?;
                self.object = Some(Object::begin(&self.output, &self.audio.id, self.chunk, self.segment, track)?);
            }
            if let Some(object) = &mut self.object {
                object.segment(&samples, self.frame * FRAME)?;
            }
        }
        self.segment += 1;
        if self.layout.chunks.get(self.chunk as usize + 1) == Some(&self.segment) {
            self.chunk += 1;
            if let Some(object) = self.object.take() {
                object.finish()?;
            }
        }
        Ok(())
    }

    fn track_of(&self, config: Vec<u8>) -> Track {
        let AudioPlan { bps, sample_rate, channels, language, .. } = &self.audio;
        Track {
            timescale: *sample_rate,
            language: language.clone(),
            codec: Codec::Aac {
                sample_rate: *sample_rate,
                channels: u16::try_from(*channels).unwrap_or(u16::MAX),
                config,
                bps: u32::try_from(*bps).unwrap_or(u32::MAX),
                priming: FRAME as u32,
            },
        }
    }
}
