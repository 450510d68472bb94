//! Where sound lies: frames and segments on the timeline, and blocks of it between them. Pure.

use spool_proto::media::{AudioPlan, Plan};

use crate::child::quirks::leaps::leaps;

/// Samples of one AAC frame, and what the encoder puts before the first one.
pub(super) const FRAME: u64 = 1024;

/// Samples in a time, rounded.
pub(super) fn samples_of(ns: u64, sample_rate: u32) -> u64 {
    let samples = (u128::from(ns) * u128::from(sample_rate) + 500_000_000) / 1_000_000_000;
    u64::try_from(samples).unwrap_or(u64::MAX / 2)
}

/// Where AAC frames and segments lie, known before the first sample comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Samples of the timeline.
    pub(super) samples: u64,
    /// First AAC frame of each segment, and the number of frames behind the last.
    pub(super) borders: Vec<u64>,
    /// First segment of each chunk, and the number of segments behind the last.
    pub(super) chunks: Vec<u32>,
}

impl Layout {
    /// A segment starts at the AAC frame nearest to its place on the grid; every planned segment has at least one.
    pub(super) fn of(plan: &Plan, audio: &AudioPlan) -> Self {
        let to_samples = |ns: u64| samples_of(ns, audio.sample_rate);
        let samples = to_samples(plan.duration_ns());
        let segments: u32 = plan.chunks.iter().sum();
        let frames = samples.div_ceil(FRAME).max(1) + 1;
        let border = |segment: u32| {
            if segment == 0 {
                return 0;
            }
            // Presentation is one frame of priming behind decoding.
            let nearest = (to_samples(u64::from(segment) * plan.segment_ns) + FRAME + FRAME / 2) / FRAME;
            nearest.min(frames.saturating_sub(u64::from(segments - segment)))
        };
        let borders = (0..segments).map(border).chain([frames]).collect();
        let chunks = (0..=plan.chunk_count()).map(|chunk| plan.first_segment(chunk)).collect();
        Self { samples, borders, chunks }
    }

    /// Samples to be pushed: whole frames, because an encoder's own filling of the last one is its secret.
    pub(super) fn padded(&self) -> u64 {
        self.samples.div_ceil(FRAME).max(1) * FRAME
    }
}

/// Puts blocks of sound where their timestamps say: silence into gaps, overlaps and what lies outside trimmed. Pure.
#[derive(Debug)]
pub(super) struct Retimer {
    /// Samples laid so far.
    pub(super) next: u64,
    total: u64,
    jitter: u64,
    /// A block that comes later than this states a wrong time; 0 where none does.
    leaps_over: u64,
}

/// What to do with a block: so much silence, then its samples from `skip`, `keep` of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) silence: u64,
    pub(super) skip: u64,
    pub(super) keep: u64,
}

impl Retimer {
    /// Over `total` samples; times that are off by `jitter` at most are rounding.
    pub(super) fn new(total: u64, jitter: u64) -> Self {
        Self { next: 0, total, jitter, leaps_over: 0 }
    }

    /// Whose blocks that come later than `samples` state wrong times.
    pub(super) fn with_leaps_over(self, samples: u64) -> Self {
        Self { leaps_over: samples, ..self }
    }

    /// Is the timeline laid to its end?
    pub(super) fn is_full(&self) -> bool {
        self.next >= self.total
    }

    /// A block of `length` samples at sample `at` of the timeline; without a time it follows what was there.
    pub(super) fn place(&mut self, at: Option<i64>, length: u64) -> Placed {
        let next = i64::try_from(self.next).unwrap_or(i64::MAX);
        let at = at.filter(|at| !leaps(*at, Some(next), 0, self.leaps_over));
        let off = at.map_or(0, |at| at.saturating_sub(next));
        let continuous = self.next > 0 && off.unsigned_abs() <= self.jitter;
        let off = if continuous { 0 } else { off };
        let room = self.total - self.next;
        let silence = u64::try_from(off).unwrap_or(0).min(room);
        let skip = u64::try_from(-off).unwrap_or(0).min(length);
        let keep = (length - skip).min(room - silence);
        self.next += silence + keep;
        Placed { silence, skip, keep }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spool_proto::media::{Cut, NS_PER_MS};

    fn layout(chunks: &[u32], duration_ms: u64) -> Layout {
        let audio = AudioPlan { id: "a0".to_owned(), bps: 128_000, sample_rate: 48_000, channels: 2, language: None };
        let plan = Plan {
            zero_ns: 0,
            end_ns: duration_ms * NS_PER_MS,
            segment_ns: 4_000 * NS_PER_MS,
            chunks: chunks.to_vec(),
            cut: Cut::Exact,
            video: None,
            rungs: vec![],
            audio: Some(audio.clone()),
            stills: vec![],
            taken_over: vec![],
        };
        Layout::of(&plan, &audio)
    }

    #[test]
    fn segments_start_at_the_nearest_frame_and_none_is_empty() {
        // 4 s are 187.5 frames; one frame of priming comes first.
        assert_eq!(layout(&[1, 2], 12_000).borders, [0, 189, 376, 564]);
        assert_eq!(layout(&[2], 4_005).borders, [0, 188, 189]);
        assert_eq!(layout(&[1], 10).borders, [0, 2]);
    }

    #[test]
    fn gaps_are_silence_overlaps_are_trimmed_and_rounding_is_neither() {
        let mut retimer = Retimer::new(10_000, 960);
        let mut check = |at, length, expected: (u64, u64, u64), next| {
            let (silence, skip, keep) = expected;
            assert_eq!(retimer.place(at, length), Placed { silence, skip, keep });
            assert_eq!(retimer.next, next);
        };
        check(Some(500), 1000, (500, 0, 1000), 1500);
        check(Some(1540), 1000, (0, 0, 1000), 2500);
        check(Some(4500), 1000, (2000, 0, 1000), 5500);
        check(Some(4000), 2000, (0, 1500, 500), 6000);
        check(Some(1000), 1000, (0, 1000, 0), 6000);
        check(None, 1000, (0, 0, 1000), 7000);
        check(Some(9500), 2000, (2500, 0, 500), 10_000);
        check(Some(11_500), 2000, (0, 0, 0), 10_000);
    }

    #[test]
    fn a_block_that_leaps_follows_what_was_there() {
        let mut retimer = Retimer::new(10_000, 10).with_leaps_over(3_000);
        assert_eq!(retimer.place(Some(0), 1000), Placed { silence: 0, skip: 0, keep: 1000 });
        assert_eq!(retimer.place(Some(4_001), 500), Placed { silence: 0, skip: 0, keep: 500 });
        assert_eq!(retimer.place(Some(4_500), 1000), Placed { silence: 3_000, skip: 0, keep: 1000 });
    }

    #[test]
    fn sound_before_zero_is_cut_off() {
        let mut retimer = Retimer::new(10_000, 960);
        assert_eq!(retimer.place(Some(-300), 1000), Placed { silence: 0, skip: 300, keep: 700 });
    }
}
