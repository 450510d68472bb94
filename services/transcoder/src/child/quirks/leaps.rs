//! Times that leap away and come back: one damaged number among thousands, which made twenty hours of a clip of two seconds. Pure.
//!
//! Demuxers hand such times on, and ffmpeg passes them over (`-dts_delta_threshold`, 10 s). Here samples that are out of line
//! are told by those behind them, which go on where the ones before left off: however far a source jumps on purpose, it
//! does not come back. They are placed evenly between their neighbours, and whoever reads the source again knows them by
//! the distance that no other step of it reaches.

use spool_proto::media::NS_PER_S;

/// Steps up to this are none: slides are held longer, but then everything behind them is as late. The one number for all who
/// look for leaps in nanoseconds.
pub(in crate::child) const LEAP_NS: u64 = 10 * NS_PER_S;
/// So many samples in a row may be out of line: those of a fragment, whose one time counts for all of it.
const MOST: usize = 4_096;
/// So many of the first ones, where nothing before them says which is right.
const MOST_FIRST: usize = 16;
/// Samples that are looked at in all to find where leaps end. What comes then is taken as it is.
const MOST_LOOKS: usize = 16 << 20;

/// Puts times that leap evenly between their neighbours. `times` are in order of decoding, with whatever is to be known of
/// each beside it. Did any?
pub(in crate::child) fn settle<T>(times: &mut [(u64, T)]) -> bool {
    let (mut at, mut looks, mut any) = (1, MOST_LOOKS, false);
    while at < times.len() {
        let before = times[at - 1].0;
        if before.abs_diff(times[at].0) <= LEAP_NS {
            at += 1;
            continue;
        }
        let most = MOST.min(looks).min(times.len() - at - 1);
        let run = (1..=most).find(|n| comes_back(before, &times[at..=at + n]));
        looks -= run.unwrap_or(most);
        match run {
            Some(run) => {
                let after = times[at + run].0.max(before);
                for (part, (time, _)) in (1..).zip(&mut times[at..at + run]) {
                    *time = before.saturating_add((after - before) / (run as u64 + 1) * part);
                }
                at += run;
                any = true;
            }
            None if at <= MOST_FIRST && at * 2 < times.len() && times[at].0 < before => {
                let right = times[at].0;
                times[..at].iter_mut().for_each(|(time, _)| *time = right);
                any = true;
            }
            None => {}
        }
        at += 1;
    }
    any
}

/// Puts a few last ones that leap behind those before them: in a container whose clock may be lost and that has no index,
/// where a jump of the end alone is damage rather than a long last picture. Do any?
pub(in crate::child) fn settle_end<T>(times: &mut [(u64, T)]) -> bool {
    let from = times.len().saturating_sub(MOST_FIRST);
    let leap = (from.max(1)..times.len()).rev().find(|at| times[*at].0 > times[at - 1].0.saturating_add(LEAP_NS));
    let Some(at) = leap.filter(|at| *at > 2 * (times.len() - at)) else { return false };
    let before = times[at - 1].0;
    let step = before.abs_diff(times[at - 2].0).min(LEAP_NS / MOST_FIRST as u64);
    (1..).zip(&mut times[at..]).for_each(|(nth, (time, _))| *time = before.saturating_add(step * nth));
    true
}

/// Does the last one of these go on where `before` left off, a step away from those in front of it?
fn comes_back<T>(before: u64, times: &[(u64, T)]) -> bool {
    let [(first, _), .., (last, _), (back, _)] = times else {
        let [(first, _), (back, _)] = times else { return false };
        return first.abs_diff(*back) > LEAP_NS && before.abs_diff(*back) <= LEAP_NS;
    };
    last.abs_diff(*back) > LEAP_NS && before.abs_diff(*back) <= LEAP_NS.saturating_add(first.abs_diff(*last))
}

/// The longest step that a source has whose leaps were settled: none of its own is longer. `sorted` by time.
pub(in crate::child) fn longest_step<T>(sorted: &[(u64, T)]) -> u64 {
    sorted.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap_or(0).max(LEAP_NS)
}

/// Does a sample at `at_ns` leap, behind one at `last_ns`, in a source that ends at `end_ns` and whose longest step is
/// `longest_ns` (0: none of its times leaps)? Of the first one only the source's end tells.
pub(in crate::child) fn leaps(at_ns: i64, last_ns: Option<i64>, end_ns: i64, longest_ns: u64) -> bool {
    let Some(longest_ns) = i64::try_from(longest_ns).ok().filter(|longest_ns| *longest_ns > 0) else { return false };
    at_ns.saturating_sub(last_ns.unwrap_or(end_ns)) > longest_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = NS_PER_S;

    /// What becomes of times in seconds.
    fn settled(seconds: impl IntoIterator<Item = u64>) -> (Vec<u64>, bool) {
        let mut times: Vec<(u64, ())> = seconds.into_iter().map(|s| (s * S, ())).collect();
        let any = settle(&mut times);
        (times.into_iter().map(|(ns, ())| ns / S).collect(), any)
    }

    fn check(seconds: &[u64], expected: &[u64]) {
        assert_eq!(settled(seconds.iter().copied()), (expected.to_vec(), seconds != expected), "{seconds:?}");
    }

    #[test]
    fn what_leaps_and_comes_back_is_placed_between_its_neighbours() {
        check(&[0, 2, 72_000, 6, 8], &[0, 2, 4, 6, 8]);
        check(&[20, 22, 0, 26], &[20, 22, 24, 26]);
        check(&[0, 1, 900, 901, 902, 903, 6, 7], &[0, 1, 2, 3, 4, 5, 6, 7]);
        check(&[0, 1, 50, 3, 90_000, 5], &[0, 1, 2, 3, 4, 5]);
        // Pictures are not decoded in the order in which they are shown.
        check(&[0, 4, 2, 500, 1, 8, 6], &[0, 4, 2, 2, 1, 8, 6]);
        let long = (0..20).chain((20..60).map(|s| s + 5_000)).chain(60..90);
        assert_eq!(settled(long), ((0..90).collect(), true), "a fragment of 40 s");
    }

    #[test]
    fn what_does_not_come_back_was_meant() {
        check(&[0, 15, 30, 45, 60], &[0, 15, 30, 45, 60]);
        check(&[0, 1, 3_600, 3_601, 3_602], &[0, 1, 3_600, 3_601, 3_602]);
        check(&[0, 1, 2, 7_200], &[0, 1, 2, 7_200]);
        // A clock that begins anew passes by the old time without a leap.
        let anew: Vec<u64> = (0..60).chain(0..90).collect();
        check(&anew, &anew);
    }

    #[test]
    fn a_first_one_that_leaps_is_told_by_all_the_others() {
        check(&[9_000, 9_001, 1, 2, 3, 4], &[1, 1, 1, 2, 3, 4]);
        check(&[9_000, 9_001, 1], &[9_000, 9_001, 1]);
    }

    #[test]
    fn a_few_last_ones_that_leap_are_put_behind_the_others() {
        let settled = |seconds: &[u64]| {
            let mut times: Vec<(u64, ())> = seconds.iter().map(|s| (s * S / 10, ())).collect();
            let any = settle_end(&mut times);
            (times.into_iter().map(|(ns, ())| ns * 10 / S).collect::<Vec<_>>(), any)
        };
        assert_eq!(settled(&[0, 4, 8, 12, 99_000]), (vec![0, 4, 8, 12, 16], true));
        assert_eq!(settled(&[0, 4, 8, 12, 16, 99_000, 99_004]), (vec![0, 4, 8, 12, 16, 20, 24], true));
        assert_eq!(settled(&[0, 4, 99_000, 99_004]), (vec![0, 4, 99_000, 99_004], false), "half of it is no end");
        assert_eq!(settled(&[0]), (vec![0], false));
        let many: Vec<u64> = (0..100).chain((0..20).map(|n| n + 99_000)).collect();
        assert_eq!(settled(&many), (many.clone(), false));
    }

    #[test]
    fn a_source_of_nothing_but_leaps_is_looked_at_for_a_bounded_time() {
        let (times, _) = settled((0..200_000_u64).map(|n| n * 40));
        assert_eq!(times.last(), Some(&(199_999 * 40)));
    }

    #[test]
    fn who_reads_it_again_knows_a_leap_by_its_length() {
        assert_eq!(longest_step(&[(0, ()), (S, ()), (3 * S, ())]), 10 * S);
        assert_eq!(longest_step(&[(0, ()), (30 * S, ())]), 30 * S);
        let leaps = |at: i64, last| leaps(at * S as i64, last, 60 * S as i64, 10 * S);
        assert_eq!([leaps(12, Some(S as i64)), leaps(11, Some(S as i64))], [true, false]);
        assert_eq!([leaps(71, None), leaps(70, None)], [true, false]);
        assert!(!super::leaps(i64::MAX, Some(0), 0, 0), "where none was found");
    }
}
