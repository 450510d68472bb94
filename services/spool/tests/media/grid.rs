//! Which frames are owed, worked out a second time from design §6 and nothing else: every frame of the source at its own
//! time, every second above 60 a second, and the repeats: at the start of each 4 s segment whose first frame comes more
//! than 0.4 s late, the frame still shown; at the very start, when the sound begins earlier, the first frame.

/// Length of a segment.
const SEGMENT_S: f64 = 4.0;
/// How late a segment's first frame may come.
const HOLD_S: f64 = 0.4;
/// A tail shorter than this belongs to the segment before it.
const TAIL_S: f64 = 0.45;
/// Times are rounded to milliseconds by some containers.
const ROUNDING_S: f64 = 0.001;
/// Frames this near the border of a rule may fall on either side of it: two demuxers rarely agree to the millisecond.
const BORDER_S: f64 = 0.01;
/// Above this many frames a second every second one is kept.
const FASTEST: f64 = 60.5;

/// The frames that a rendition owes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Owed {
    /// When each is shown, from the timeline's zero.
    pub(crate) times_s: Vec<f64>,
    /// Positions of repeats among them.
    pub(crate) repeats: Vec<usize>,
    /// Of how many frames of the source one is kept.
    pub(crate) keep_every: usize,
}

/// What is owed for frames at `times_s` (from the timeline's zero) of `frame_s` each on a timeline of `span_s`: the
/// first is meant, the others are as right, because a frame falls on the border of a rule.
pub(crate) fn owed(times_s: &[f64], frame_s: f64, span_s: f64) -> Vec<Owed> {
    let keep_every = (1..=16).find(|n| 1.0 / frame_s / *n as f64 <= FASTEST).unwrap_or(16);
    let kept: Vec<f64> = times_s.iter().step_by(keep_every).copied().collect();
    let frame_s = frame_s * keep_every as f64;
    let mut all: Vec<Owed> = Vec::new();
    for hold in [HOLD_S, HOLD_S - BORDER_S, HOLD_S + BORDER_S] {
        for late in [frame_s + ROUNDING_S, frame_s - BORDER_S, frame_s + BORDER_S] {
            for tail in [TAIL_S, TAIL_S - BORDER_S, TAIL_S + BORDER_S] {
                let one = lay(&kept, hold, late, segments(span_s, tail), keep_every);
                if !all.contains(&one) {
                    all.push(one);
                }
            }
        }
    }
    all
}

fn segments(span_s: f64, tail_s: f64) -> usize {
    let whole = (span_s / SEGMENT_S).floor();
    let tail = span_s - whole * SEGMENT_S;
    (whole as usize + usize::from(tail >= tail_s)).max(1)
}

fn lay(times: &[f64], hold_s: f64, late_s: f64, segments: usize, keep_every: usize) -> Owed {
    let mut owed = Owed { times_s: Vec::new(), repeats: Vec::new(), keep_every };
    let mut frames = times.iter().copied().peekable();
    for segment in 0..segments {
        let start = segment as f64 * SEGMENT_S;
        let end = if segment + 1 == segments { f64::INFINITY } else { start + SEGMENT_S };
        let late = if segment == 0 { late_s.min(hold_s) } else { hold_s };
        let first = frames.peek().copied().filter(|t| *t + ROUNDING_S < end);
        if first.is_none_or(|first| first - start > late) {
            owed.repeats.push(owed.times_s.len());
            owed.times_s.push(start);
        }
        while let Some(time) = frames.next_if(|t| *t + ROUNDING_S < end) {
            owed.times_s.push(time);
        }
    }
    owed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_rate_owes_its_frames_and_no_more() {
        let times: Vec<f64> = (0..300).map(|i| f64::from(i) / 30.0).collect();
        let owed = &owed(&times, 1.0 / 30.0, 10.0)[0];
        assert_eq!((owed.times_s.len(), owed.repeats.len()), (300, 0));
    }

    #[test]
    fn slides_repeat_where_a_segment_would_begin_late() {
        let owed = owed(&[0.0, 3.0, 6.0, 8.2], 3.0, 13.0);
        assert_eq!(owed[0].times_s, [0.0, 3.0, 4.0, 6.0, 8.2, 12.0]);
        assert_eq!(owed[0].repeats, [2, 5]);
    }

    #[test]
    fn a_picture_that_comes_after_the_sound_is_shown_from_the_start() {
        assert_eq!(owed(&[0.5, 0.54], 0.04, 0.6)[0].times_s, [0.0, 0.5, 0.54]);
        assert_eq!(owed(&[0.021, 0.061], 0.04, 0.1)[0].repeats, Vec::<usize>::new());
    }

    #[test]
    fn above_sixty_a_second_every_second_frame_is_owed() {
        let times: Vec<f64> = (0..240).map(|i| f64::from(i) / 120.0).collect();
        assert_eq!(owed(&times, 1.0 / 120.0, 2.0)[0].times_s.len(), 120);
    }

    #[test]
    fn a_frame_on_the_border_of_a_rule_leaves_both_answers_right() {
        let both: Vec<usize> = owed(&[0.0, 4.4], 0.04, 8.0).iter().map(|o| o.times_s.len()).collect();
        assert!(both.contains(&2) && both.contains(&3), "{both:?}");
    }
}
