//! What the times of a stream's samples say: first, end, rate, and how far frames lie from their keyframes. Pure.

use spool_proto::media::{FrameRate, NS_PER_MS, NS_PER_S};

use super::quirks::leaps;

/// Distances between frames that differ from their median by less than this still count as constant: clocks of
/// milliseconds and of 600 ticks a second round so.
const JITTER_NS: u64 = 2 * NS_PER_MS;
/// The same as a part of the median, in percent: cameras jitter, and the rate is constant for all that.
const JITTER_PERCENT: u64 = 15;
/// Rates that a mean is snapped to when it lies within [`SNAP_PER_MILLION`].
const KNOWN_RATES: [(u32, u32); 17] = [
    (24000, 1001),
    (30000, 1001),
    (60000, 1001),
    (120_000, 1001),
    (15000, 1001),
    (1, 1),
    (5, 1),
    (10, 1),
    (12, 1),
    (15, 1),
    (24, 1),
    (25, 1),
    (30, 1),
    (48, 1),
    (50, 1),
    (60, 1),
    (120, 1),
];
/// A distance of more than so many frames and this time is a hole where frames otherwise come
/// steadily, but for one in so many.
const HOLE_FRAMES: u64 = 3;
const HOLE_NS: u64 = NS_PER_S;
const HOLES_PER: usize = 20;
/// Segments whose distances of keyframes are told: some forty days of four seconds each, which no limit of ours allows.
const MOST_SEGMENTS: usize = 1 << 20;
/// Half the distance between 30000/1001 and 30.
const SNAP_PER_MILLION: f64 = 500.0;

/// The samples of one stream in stream time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Samples {
    /// Presentation time in nanoseconds, with whether it is a keyframe; sorted.
    times: Vec<(u64, bool)>,
    /// End of the last one.
    end_ns: u64,
    /// For how long the last one is not to be heard at its end.
    filled_ns: u64,
    /// An index states how long each is shown: then no distance is a hole.
    stated: bool,
    /// Some times leapt and were settled: none of the others is so far from its neighbour. 0 where none did.
    leaps_over_ns: u64,
}

/// What a stream's samples add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Time of the first.
    pub first_ns: u64,
    /// Start of the last.
    pub last_ns: u64,
    /// End of the last.
    pub end_ns: u64,
    /// Number.
    pub count: u64,
    /// Rate.
    pub rate: FrameRate,
    /// Do distances vary?
    pub variable: bool,
    /// Two samples share a time: the times are not all their own.
    pub doubled: bool,
    /// Longest distance of two neighbours that is no hole.
    pub longest_gap_ns: u64,
    /// The same, whether it looks like a hole or not: what a source that lost nothing does on purpose.
    pub longest_pause_ns: u64,
    /// A sample that comes later than this behind its neighbour has a wrong time; 0 where none has.
    pub leaps_over_ns: u64,
}

impl Samples {
    /// For those of an index that states how long each is shown.
    pub fn stated() -> Self {
        Self { stated: true, ..Self::default() }
    }

    /// Takes one in. Those without length get the distance to the next, the last one that of its neighbours.
    pub fn push(&mut self, at_ns: u64, duration_ns: Option<u64>, keyframe: bool) {
        self.times.push((at_ns, keyframe));
        self.end_ns = self.end_ns.max(at_ns.saturating_add(duration_ns.unwrap_or(0)));
    }

    /// Number taken in.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Nothing taken in?
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Cuts what is shown after `stop_ns`.
    pub fn stop_at(&mut self, stop_ns: u64) {
        self.times.retain(|(at, _)| *at < stop_ns);
        self.end_ns = self.end_ns.min(stop_ns);
    }

    /// The last one is not to be heard for so long at its end.
    pub fn ends_before(&mut self, by_ns: u64) {
        self.filled_ns = by_ns;
    }

    /// Settles times that leap, and sorts by time of presentation; to be called once, with all of them taken in by order of
    /// decoding, before the questions below. `end_may_leap`: nothing but their own clock says where the last ones lie.
    pub fn sort(&mut self, end_may_leap: bool) {
        let leapt = leaps::settle(&mut self.times) | (end_may_leap && leaps::settle_end(&mut self.times));
        self.times.sort_unstable();
        if leapt {
            self.leaps_over_ns = leaps::longest_step(&self.times);
            // The end may be that of one that leapt; without it the last one lasts as long as its neighbours.
            let last_ns = self.times.last().map_or(0, |(at, _)| *at);
            self.end_ns = if self.end_ns > last_ns.saturating_add(self.leaps_over_ns) { 0 } else { self.end_ns };
        }
    }

    /// Is one of the samples at that time, give or take a microsecond?
    pub fn has(&self, at_ns: u64) -> bool {
        let next = self.times.partition_point(|(at, _)| at.saturating_add(1_000) < at_ns);
        self.times.get(next).is_some_and(|(at, _)| at.abs_diff(at_ns) <= 1_000)
    }

    /// First, end, number and rate; none without samples.
    pub fn summary(&self) -> Option<Summary> {
        let (first_ns, _) = *self.times.first()?;
        let (last_ns, _) = *self.times.last()?;
        let mut gaps: Vec<u64> = self.times.windows(2).map(|w| w[1].0 - w[0].0).collect();
        gaps.sort_unstable();
        let median = gaps.get(gaps.len() / 2).copied().unwrap_or(self.end_ns.saturating_sub(first_ns));
        let jitter = JITTER_NS.max(median.saturating_mul(JITTER_PERCENT) / 100);
        let holes = self.holes(&gaps, median, jitter);
        let (gaps, holes) = gaps.split_at(gaps.len() - holes);
        let variable = gaps.iter().any(|gap| gap.abs_diff(median) > jitter);
        // A last sample without length lasts as long as its neighbours.
        let end_ns = if self.end_ns > last_ns { self.end_ns } else { last_ns.saturating_add(median) };
        let end_ns = end_ns.saturating_sub(self.filled_ns).max(last_ns);
        let rate = match gaps.len() as u64 {
            0 => rate_of(1, median),
            count => rate_of(count, last_ns - first_ns - holes.iter().sum::<u64>()),
        };
        Some(Summary {
            first_ns,
            last_ns,
            end_ns,
            count: self.times.len() as u64,
            rate,
            variable,
            doubled: gaps.first() == Some(&0),
            longest_gap_ns: gaps.last().copied().unwrap_or(0),
            longest_pause_ns: holes.last().or(gaps.last()).copied().unwrap_or(0),
            leaps_over_ns: self.leaps_over_ns,
        })
    }

    /// How many of the sorted distances are holes: long ones among frames that otherwise come steadily.
    fn holes(&self, gaps: &[u64], median: u64, jitter: u64) -> usize {
        let from = gaps.partition_point(|gap| *gap <= median.saturating_mul(HOLE_FRAMES).saturating_add(HOLE_NS));
        let unsteady = gaps.iter().filter(|gap| gap.abs_diff(median) > jitter).count();
        if !self.stated && unsteady * HOLES_PER < gaps.len() { gaps.len() - from } else { 0 }
    }

    /// For each `segment_ns` from `zero_ns` on, [`MOST_SEGMENTS`] at most: the greatest distance in ms from a frame in it back
    /// to its keyframe.
    pub fn keyframe_gaps_ms(&self, zero_ns: u64, segment_ns: u64) -> Vec<u32> {
        let mut gaps: Vec<u32> = Vec::new();
        let mut keyframe = self.times.first().map_or(0, |(at, _)| *at);
        for (at, is_key) in &self.times {
            if *is_key {
                keyframe = *at;
            }
            let segment = (at.saturating_sub(zero_ns) / segment_ns) as usize;
            if segment >= MOST_SEGMENTS {
                break;
            }
            if gaps.len() <= segment {
                gaps.resize(segment + 1, 0);
            }
            let gap = u32::try_from((at - keyframe) / NS_PER_MS).unwrap_or(u32::MAX);
            gaps[segment] = gaps[segment].max(gap);
        }
        gaps
    }
}

/// `count` frames in `span_ns`, as a rate that is in use where one is near.
fn rate_of(count: u64, span_ns: u64) -> FrameRate {
    if span_ns == 0 {
        return FrameRate { num: 25, den: 1 };
    }
    let fps = count as f64 * NS_PER_S as f64 / span_ns as f64;
    let near = |(num, den): &(u32, u32)| {
        let known = f64::from(*num) / f64::from(*den);
        ((fps - known) / known).abs() * 1e6 < SNAP_PER_MILLION
    };
    match KNOWN_RATES.iter().find(|rate| near(rate)) {
        Some((num, den)) => FrameRate { num: *num, den: *den },
        None => FrameRate { num: (fps * 1000.0).round().clamp(1.0, 1e9) as u32, den: 1000 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(times: impl IntoIterator<Item = u64>) -> Samples {
        let mut samples = Samples::default();
        for (i, at) in times.into_iter().enumerate() {
            samples.push(at, None, i % 10 == 0);
        }
        samples.sort(false);
        samples
    }

    #[test]
    fn a_clock_of_milliseconds_is_a_constant_rate() {
        let summary = samples((0..300).map(|i| i * 1001 * 1000 / 30 / 1000 * NS_PER_MS)).summary().unwrap();
        assert_eq!((summary.variable, summary.rate), (false, FrameRate { num: 30000, den: 1001 }));
    }

    #[test]
    fn dropped_frames_make_a_variable_rate() {
        let summary = samples((0..100).filter(|i| i % 7 != 3).map(|i| i * 40 * NS_PER_MS)).summary().unwrap();
        assert!(summary.variable);
        assert_eq!(summary.end_ns, 100 * 40 * NS_PER_MS);
    }

    #[test]
    fn a_sample_at_the_end_of_time_asks_for_no_more_than_a_long_film() {
        let late = samples([0, 40 * NS_PER_MS, u64::MAX - 1]);
        assert!(late.keyframe_gaps_ms(0, 4 * NS_PER_S).len() <= MOST_SEGMENTS);
        assert_eq!(late.summary().map(|summary| summary.last_ns), Some(u64::MAX - 1));
    }

    #[test]
    fn a_hole_makes_no_rate_variable_unless_an_index_states_it() {
        let holed = || samples((0..300).filter(|i| !(100..200).contains(i)).map(|i| i * 40 * NS_PER_MS));
        let summary = holed().summary().unwrap();
        assert_eq!((summary.variable, summary.rate), (false, FrameRate { num: 25, den: 1 }));
        assert_eq!((summary.longest_gap_ns, summary.longest_pause_ns), (40 * NS_PER_MS, 4_040 * NS_PER_MS));
        // A frame that was lost on its own beside it changes nothing about the hole.
        let lossy = samples((0..300).filter(|i| !(100..200).contains(i) && *i != 250).map(|i| i * 40 * NS_PER_MS));
        assert_eq!(lossy.summary().unwrap().longest_gap_ns, 80 * NS_PER_MS);
        let stated = Samples { stated: true, ..holed() }.summary().unwrap();
        assert_eq!((stated.variable, stated.longest_gap_ns), (true, 4_040 * NS_PER_MS));
    }

    #[test]
    fn gaps_to_keyframes_are_told_per_segment() {
        // 25 fps, a keyframe every 10 frames; the second segment starts in the middle of a group.
        let gaps = samples((0..50).map(|i| i * 40 * NS_PER_MS)).keyframe_gaps_ms(0, NS_PER_S);
        assert_eq!(gaps, [360, 360]);
    }

    #[test]
    fn one_wrong_time_makes_nothing_longer() {
        let mut samples = Samples::default();
        for i in 0..50 {
            let at = i * 40 * NS_PER_MS + if i == 20 { 20 * 3600 * NS_PER_S } else { 0 };
            samples.push(at, Some(40 * NS_PER_MS), i % 10 == 0);
        }
        samples.sort(false);
        let summary = samples.summary().unwrap();
        assert_eq!((summary.end_ns, summary.count, summary.variable), (2_000 * NS_PER_MS, 50, false));
        assert_eq!((summary.rate, summary.leaps_over_ns), (FrameRate { num: 25, den: 1 }, 10 * NS_PER_S));
    }

    #[test]
    fn what_fills_the_last_one_up_is_not_its_own() {
        let mut filled = samples((0..5).map(|i| i * 40));
        filled.ends_before(15);
        assert_eq!(filled.summary().unwrap().end_ns, 185);
        filled.ends_before(100);
        assert_eq!(filled.summary().unwrap().end_ns, 160);
    }

    #[test]
    fn one_picture_lasts_as_long_as_it_says() {
        let mut one = Samples::default();
        one.push(5, Some(100), true);
        let summary = one.summary().unwrap();
        assert_eq!((summary.first_ns, summary.end_ns, summary.count), (5, 105, 1));
    }
}
