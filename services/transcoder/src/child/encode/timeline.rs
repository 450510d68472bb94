//! Which picture is shown when: the source's frames on the asset's timeline, cut into segments and chunks. Pure.
//!
//! Times are those of the source; nothing is moved to a grid. What is added is only this: a segment whose first frame
//! would come more than [`HOLD_NS`] after its start begins with a repeat of the frame still shown (at the very start: of
//! the first frame to come), and so does one that would be empty. All decisions rest on times, so they are the same
//! wherever a worker starts to read, as long as it has seen the frame that is shown at its start.

use spool_proto::media::Plan;

/// How long after a segment's start its first frame may come before the frame still shown is repeated there.
pub const HOLD_NS: i64 = 400_000_000;
/// Rounded timestamps (23.976 frames a second in milliseconds) fall on the right side of a border with this.
pub const TOLERANCE_NS: i64 = 1_000_000;

const NS_PER_S: i128 = 1_000_000_000;

/// A picture at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shot<P> {
    /// What is shown.
    pub picture: P,
    /// Time in ticks of the track, from the timeline's zero.
    pub ticks: u64,
    /// Must decoding be able to start here?
    pub keyframe: bool,
    /// The segment it belongs to.
    pub segment: u32,
}

/// What to do next, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<P> {
    /// Encode this.
    Show(Shot<P>),
    /// The chunk is complete; its last segment ends at that tick.
    Close {
        /// The chunk.
        chunk: u32,
        /// Where the next one starts.
        end_ticks: u64,
    },
}

/// Lays frames on the timeline of a run of chunks.
#[derive(Debug)]
pub struct Timeline<P> {
    grid: Grid,
    /// The frame still shown: the last one that was laid or passed.
    held: Option<P>,
    next_segment: u32,
    chunk: u32,
    last_keyframe: i64,
    last_ticks: Option<u64>,
    done: bool,
}

#[derive(Debug, Clone)]
struct Grid {
    segment_ns: i64,
    keyframe_ns: i64,
    timescale: u32,
    /// Nominal distance of two frames.
    frame_ns: i64,
    duration_ns: i64,
    /// First segment of each chunk, and one behind the last.
    borders: Vec<u32>,
    /// Chunk behind the last one of the run.
    stop: u32,
}

impl Grid {
    fn start_ns(&self, segment: u32) -> i64 {
        i64::from(segment) * self.segment_ns
    }

    fn segments(&self) -> u32 {
        self.borders.last().copied().unwrap_or(0)
    }

    fn ticks(&self, at_ns: i64) -> u64 {
        let ticks = (i128::from(at_ns.max(0)) * i128::from(self.timescale) + NS_PER_S / 2) / NS_PER_S;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// May a frame at `at_ns` begin that segment, or must it be one still shown?
    fn begins(&self, segment: u32, at_ns: i64) -> bool {
        let start = self.start_ns(segment);
        let last = segment + 1 >= self.segments();
        let late = if segment == 0 { self.frame_ns.min(HOLD_NS) } else { HOLD_NS };
        at_ns <= start + late && (last || at_ns + TOLERANCE_NS < start + self.segment_ns)
    }
}

impl<P: Clone> Timeline<P> {
    /// The timeline of the chunks from `first` up to `last` of a plan with picture.
    pub fn new(plan: &Plan, first: u32, last: u32) -> Option<Self> {
        let video = plan.video?;
        let borders: Vec<u32> = (0..=plan.chunk_count()).map(|chunk| plan.first_segment(chunk)).collect();
        let rate = video.frame_rate;
        let grid = Grid {
            segment_ns: i64::try_from(plan.segment_ns).ok().filter(|&ns| ns > 0)?,
            keyframe_ns: i64::try_from(video.keyframe_ns).ok().filter(|&ns| ns > 0)?,
            timescale: video.timescale,
            frame_ns: (NS_PER_S as i64 * i64::from(rate.den)).checked_div(i64::from(rate.num))?,
            duration_ns: i64::try_from(plan.duration_ns()).ok()?,
            stop: last + 1,
            borders,
        };
        let next_segment = *grid.borders.get(first as usize)?;
        grid.borders.get(last as usize + 1)?;
        Some(Self { grid, held: None, next_segment, chunk: first, last_keyframe: -1, last_ticks: None, done: false })
    }

    /// Is everything laid that this run asks for?
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Does what comes at `at_ns` (or the end, `None`) need the frame before it, which was not seen?
    pub fn misses_the_frame_before(&self, at_ns: Option<i64>) -> bool {
        let fresh = self.last_ticks.is_none() && self.held.is_none() && self.next_segment > 0;
        fresh && at_ns.is_none_or(|at| !self.is_before(at) && !self.grid.begins(self.next_segment, at))
    }

    fn is_before(&self, at_ns: i64) -> bool {
        self.last_ticks.is_none() && at_ns + TOLERANCE_NS < self.grid.start_ns(self.next_segment)
    }

    /// A frame of the source, `at_ns` after zero. Frames before the run are only remembered.
    pub fn frame(&mut self, at_ns: i64, picture: P) -> Vec<Step<P>> {
        let mut steps = Vec::new();
        if self.is_before(at_ns) || self.done {
            self.held = Some(picture);
            return steps;
        }
        let mut keyframe = false;
        while self.next_segment < self.grid.segments() && at_ns + TOLERANCE_NS >= self.grid.start_ns(self.next_segment)
        {
            let begins = self.grid.begins(self.next_segment, at_ns);
            let start = self.grid.start_ns(self.next_segment);
            self.close_chunks(if begins { at_ns } else { start }, &mut steps);
            if self.done {
                return steps;
            }
            self.next_segment += 1;
            if begins {
                keyframe = true;
                break;
            }
            let held = self.held.clone().unwrap_or_else(|| picture.clone());
            self.show(start, true, held, &mut steps);
        }
        self.held = Some(picture.clone());
        self.show(at_ns, keyframe, picture, &mut steps);
        steps
    }

    /// The source has ended.
    pub fn end(&mut self) -> Vec<Step<P>> {
        let mut steps = Vec::new();
        while !self.done && self.next_segment < self.grid.segments() {
            let start = self.grid.start_ns(self.next_segment);
            self.close_chunks(start, &mut steps);
            let Some(held) = self.held.clone().filter(|_| !self.done) else { return steps };
            self.next_segment += 1;
            self.show(start, true, held, &mut steps);
        }
        if !self.done {
            let after_last = self.last_ticks.map_or(0, |t| t + self.grid.ticks(self.grid.frame_ns).max(1));
            let planned = self.grid.ticks(self.grid.duration_ns);
            // A plan that ends before the last frame does gets that frame's nominal length.
            let end_ticks = if self.last_ticks.is_some_and(|t| t >= planned) { after_last } else { planned };
            steps.push(Step::Close { chunk: self.chunk, end_ticks });
            self.done = true;
        }
        steps
    }

    /// Closes the chunk that ended when `next_segment` begins with a picture at `at_ns`.
    fn close_chunks(&mut self, at_ns: i64, steps: &mut Vec<Step<P>>) {
        let ends = self.grid.borders.get(self.chunk as usize + 1) == Some(&self.next_segment);
        if !ends {
            return;
        }
        steps.push(Step::Close { chunk: self.chunk, end_ticks: self.tick_for(at_ns) });
        self.chunk += 1;
        self.done = self.chunk >= self.grid.stop;
    }

    fn show(&mut self, at_ns: i64, begins_segment: bool, picture: P, steps: &mut Vec<Step<P>>) {
        let ticks = self.tick_for(at_ns);
        let interval = (at_ns + TOLERANCE_NS).div_euclid(self.grid.keyframe_ns);
        let keyframe = begins_segment || interval > self.last_keyframe;
        self.last_keyframe = self.last_keyframe.max(interval);
        self.last_ticks = Some(ticks);
        steps.push(Step::Show(Shot { picture, ticks, keyframe, segment: self.next_segment.saturating_sub(1) }));
    }

    /// Time never stands still on a track: a frame that claims its neighbour's time comes one tick later.
    fn tick_for(&self, at_ns: i64) -> u64 {
        let ticks = self.grid.ticks(at_ns);
        self.last_ticks.map_or(ticks, |last| ticks.max(last + 1))
    }
}

/// Keeps the first frame of each run of `keep_every` frame intervals, judged by time, so that the choice is the same
/// wherever reading starts (at least one frame earlier).
#[derive(Debug)]
pub struct Thinner {
    keep_every: i128,
    first_ns: i64,
    rate: (i128, i128),
    last: Option<i128>,
}

impl Thinner {
    /// For a source of `rate` frames a second whose first frame comes at `first_ns`.
    pub fn new(keep_every: u32, rate: spool_proto::media::FrameRate, first_ns: i64) -> Self {
        let rate = (i128::from(rate.num), i128::from(rate.den.max(1)));
        Self { keep_every: i128::from(keep_every.max(1)), first_ns, rate, last: None }
    }

    /// Is the frame at `at_ns` kept?
    pub fn keeps(&mut self, at_ns: i64) -> bool {
        if self.keep_every == 1 {
            return true;
        }
        let unit = self.rate.1 * NS_PER_S;
        let half_intervals = (i128::from(at_ns - self.first_ns) * self.rate.0 * 2 + unit).div_euclid(unit * 2);
        let run = half_intervals.div_euclid(self.keep_every);
        let keeps = self.last != Some(run);
        self.last = Some(run);
        keeps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spool_proto::media::{Cut, FrameRate, NS_PER_MS, VideoPlan};

    fn plan(chunks: &[u32], duration_ms: u64, fps: u32) -> Plan {
        let frame_rate = FrameRate { num: fps, den: 1 };
        Plan {
            zero_ns: 0,
            end_ns: duration_ms * NS_PER_MS,
            segment_ns: 4_000 * NS_PER_MS,
            chunks: chunks.to_vec(),
            cut: Cut::Exact,
            video: Some(VideoPlan { timescale: 1000, frame_rate, keep_every: 1, keyframe_ns: 2_000 * NS_PER_MS }),
            rungs: vec![],
            audio: None,
            stills: vec![],
            taken_over: vec![],
        }
    }

    /// Shots as `ms`, `*` for a keyframe, `=ms` of the picture where it is not shown at its own time; `|ms` for a close.
    fn lay(plan: &Plan, (first, last): (u32, u32), frames: &[i64]) -> Vec<String> {
        let mut timeline = Timeline::new(plan, first, last).unwrap();
        let mut steps = vec![];
        for &at in frames {
            steps.extend(timeline.frame(at * 1_000_000, at));
        }
        steps.extend(timeline.end());
        assert!(timeline.is_done());
        steps
            .into_iter()
            .map(|step| match step {
                Step::Show(shot) => {
                    let key = if shot.keyframe { "*" } else { "" };
                    let repeat =
                        if shot.picture as u64 == shot.ticks { String::new() } else { format!("={}", shot.picture) };
                    format!("{}{key}{repeat}", shot.ticks)
                }
                Step::Close { chunk, end_ticks } => format!("|{chunk}:{end_ticks}"),
            })
            .collect()
    }

    #[test]
    fn frames_keep_their_times_and_keyframes_fall_on_the_first_frame_of_each_interval() {
        let frames: Vec<i64> = (0..9).map(|i| i * 900).collect();
        let seen = lay(&plan(&[1, 1], 8000, 1), (0, 1), &frames);
        let expected =
            ["0*", "900", "1800", "2700*", "3600", "|0:4000", "4000*=3600", "4500", "5400", "6300*", "7200", "|1:8000"];
        assert_eq!(seen, expected);
    }

    #[test]
    fn chunks_laid_apart_give_what_the_whole_gives() {
        let uneven: Vec<i64> = vec![0, 40, 1990, 2010, 3999, 4040, 9000, 9040, 15_900, 16_390, 20_401, 23_000];
        let plan = plan(&[1, 2, 2, 1], 24_000, 25);
        let whole = lay(&plan, (0, 3), &uneven);
        let apart: Vec<String> = (0..4).flat_map(|c| lay(&plan, (c, c), &uneven)).collect();
        assert_eq!(whole, apart);
        let pair = [lay(&plan, (0, 1), &uneven), lay(&plan, (2, 3), &uneven)].concat();
        assert_eq!(whole, pair);
    }

    #[test]
    fn a_frame_still_shown_after_the_hold_is_repeated_at_the_segments_start() {
        let seen = lay(&plan(&[1, 1, 1, 1], 16_000, 25), (0, 3), &[0, 3900, 4400, 8401, 9000]);
        let expected = [
            "0*",
            "3900*",
            "|0:4400",
            "4400*",
            "|1:8000",
            "8000*=4400",
            "8401",
            "9000",
            "|2:12000",
            "12000*=9000",
            "|3:16000",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_late_start_shows_the_first_frame_early_and_an_early_end_the_last_one_on() {
        let seen = lay(&plan(&[1, 1], 5000, 25), (0, 1), &[500, 540]);
        assert_eq!(seen, ["0*=500", "500", "540", "|0:4000", "4000*=540", "|1:5000"]);
        let half_a_frame_late = lay(&plan(&[1], 100, 25), (0, 0), &[21, 61]);
        assert_eq!(half_a_frame_late, ["21*", "61", "|0:100"]);
    }

    #[test]
    fn a_planned_segment_is_never_empty_even_when_its_rest_is_short() {
        assert_eq!(lay(&plan(&[2], 4200, 1), (0, 0), &[0, 3000]), ["0*", "3000*", "4000*=3000", "|0:4200"]);
    }

    #[test]
    fn times_that_stand_still_move_by_a_tick_and_frames_behind_the_planned_end_are_kept() {
        assert_eq!(lay(&plan(&[1], 100, 25), (0, 0), &[0, 0, 40, 120]), ["0*", "1=0", "40", "120", "|0:160"]);
    }

    #[test]
    fn a_worker_that_missed_the_frame_shown_at_its_start_says_so() {
        let plan = plan(&[1, 1], 8000, 25);
        let late = Timeline::<i64>::new(&plan, 1, 1).unwrap();
        assert!(late.misses_the_frame_before(Some(5_000_000_000)));
        assert!(late.misses_the_frame_before(None));
        assert!(!late.misses_the_frame_before(Some(4_000_000_000)));
        assert!(!late.misses_the_frame_before(Some(3_000_000_000)));
        assert!(!Timeline::<i64>::new(&plan, 0, 1).unwrap().misses_the_frame_before(Some(500_000_000)));
    }

    #[test]
    fn every_second_frame_is_the_same_one_wherever_reading_starts() {
        let rate = FrameRate { num: 120_000, den: 1001 };
        let times: Vec<i64> = (0..100).map(|i| 700 + i * 1_001_000_000_000 / 120_000).collect();
        let kept = |from: usize| -> Vec<i64> {
            let mut thinner = Thinner::new(2, rate, 700);
            times[from..].iter().copied().filter(|&t| thinner.keeps(t)).collect()
        };
        assert_eq!(kept(0), times.iter().copied().step_by(2).collect::<Vec<_>>());
        assert_eq!(kept(31)[1..], kept(0)[16..]);
    }
}
