//! The ladder: which renditions of the picture are made, in which size, at which quality. Pure.
//!
//! Capped constant quality: a CRF says how good the picture shall be, the rate buffer (VBV) what a line can carry. Easy
//! pictures (slides, talking heads) come out far below the cap, hard ones are held to it. Profiles are for ever: a number
//! changed here is a new version of the profile, never a change of this one.

use spool_proto::media::{FrameRate, Rung, VideoFacts, VideoPlan};

use crate::grid::KEYFRAME_NS;

/// One line of the table.
struct Step {
    /// Short side in pixels.
    short: u32,
    /// Constant-quality target.
    crf: u32,
    /// Greatest rate up to 30 frames a second, bits a second.
    max_bps: u64,
}

/// The rungs of `standard` 1, highest first.
///
/// Sizes: 1080 and 720 are what screens have; 540 is where the 2 Mb/s that players start with look best; 360 and 240 are
/// for phones on bad lines.
///
/// Rates: near Apple's authoring table (1080: 6000, 720: 3000 to 4500, 540: 2000, 432: 730 to 1100, 360: 365, 234: 145 kb/s),
/// but more for the small ones; neighbours are a factor of 1.6 to 1.8 apart, close enough to switch without a visible fall,
/// far enough not to hunt.
///
/// Quality: measured with ffmpeg 5.1's libx264, set as ours is but for its 2 threads (veryfast, high, no scene cuts, keyframes every 2 s,
/// buffer of 2 s), over the first seconds of clips of the shared set; SSIM over all planes against the source scaled the
/// same way, and kb/s:
///
/// | clip | crf | 1080 | 720 | 540 | 360 | 240 |
/// |---|---|---|---|---|---|---|
/// | a01 animation, 60 fps | 23 | .975 2548 | .974 1084 | .976 719 | .976 362 | .976 147 |
/// | | 21 | .976 3327 | .976 1489 | .978 989 | .979 488 | .980 200 |
/// | a03 flower | 23 | | | .981 595 | .979 289 | .977 151 |
/// | | 21 | | | .983 812 | .982 386 | .981 196 |
/// | b03 phone | 23 | | .983 1859 | .981 934 | .979 470 | .976 231 |
/// | | 21 | | .985 2597 | .983 1274 | .982 632 | .980 299 |
/// | c01 film with much detail, 2 s | 21 | | | .961 2226 | .962 1393 | .958 746 |
/// | … with 800 and 400 kb/s at most | 21 | | | | .954 1114 | .944 540 |
/// | d05 noisy interlaced, 1 s | 23 | .940 6593 | .943 3090 | .944 1726 | .947 800 | .952 329 |
/// | | 21 | .942 8691 | .945 4236 | .948 2360 | .952 1128 | .960 456 |
///
/// So 21 costs a third more bits. The two large rungs take 23, x264's own default: 21 gains .002 there. The small ones are
/// shown enlarged and cost little: 21. (d05 meets the cap, not the CRF: at 17 it is no better.)
/// c01 meets the caps of the two smallest, which is why they are 1000 and 550, not the 800 and 400 of the design.
const STEPS: [Step; 5] = [
    Step { short: 1080, crf: 23, max_bps: 5_000_000 },
    Step { short: 720, crf: 23, max_bps: 2_800_000 },
    Step { short: 540, crf: 21, max_bps: 1_600_000 },
    Step { short: 360, crf: 21, max_bps: 1_000_000 },
    Step { short: 240, crf: 21, max_bps: 550_000 },
];

/// A rung is made where the source has at least this share of its short side, in percent: 1000 lines are shown as a
/// rendition of the 1080 rung at 1000, not thrown away down to 720.
const ENOUGH_PERCENT: u32 = 90;
/// The rate buffer holds this much of the greatest rate (design §6): half a segment, so that the worst segment is half as
/// much again as the rate.
const BUFFER_MS: u32 = 2_000;
/// Threads of one encoder. One, because with a rate buffer x264's rate control looks at frames that other threads are still
/// coding, so that with two the same order has other bytes wherever the buffer binds (four runs of four, on a busy machine).
/// More cores mean more chunks at once; it costs 490 MB for five renditions (2: 590, 8: 880).
const THREADS: u32 = 1;
/// Above this many frames a second the rates are half as much again: twice the frames cost less than twice the bits,
/// since neighbours are more alike. (Half a frame of room: 30 measured as 30.02 is 30.)
const FAST_FPS: f64 = 30.5;
/// Above this many frames a second frames are left out: players and H.264's usual levels end at 60.
const TOO_FAST_FPS: f64 = 60.5;
/// No side is longer: the width that decoders in phones and browsers commonly end at.
const LONGEST_PX: u64 = 4_096;
/// Timescales are at least this fine, so that frames that lie beside the source's own grid (a start offset against the
/// sound) are off by 10 µs at most.
const FINE_TICKS: u32 = 48_000;
/// Timescale where frames have no common step: MPEG's own, and what players are used to.
const COMMON_TICKS: u32 = 90_000;
/// A timescale above this would be a measured rate and no real one.
const COARSEST_STEP: u32 = 1_000_000;

/// The renditions of a picture, highest first; never empty.
pub fn rungs(video: &VideoFacts) -> Vec<Rung> {
    let (width, height) = (video.display_width, video.display_height);
    let short = width.min(height);
    let fast = video.frame_rate.fps() > FAST_FPS;
    let fits = |step: &&Step| u64::from(short) * 100 >= u64::from(step.short) * u64::from(ENOUGH_PERCENT);
    let mut rungs: Vec<Rung> = STEPS.iter().filter(fits).map(|s| rung(width, height, s, s.short, fast)).collect();
    if rungs.is_empty() {
        // Smaller than every rung: one rendition at its own size, named after it, at the smallest rung's rate.
        rungs.push(rung(width, height, &STEPS[STEPS.len() - 1], short, fast));
    }
    // A very wide picture meets the longest side on several rungs.
    rungs.dedup_by(|lower, higher| (lower.width, lower.height) == (higher.width, higher.height));
    rungs
}

fn rung(width: u32, height: u32, step: &Step, short: u32, fast: bool) -> Rung {
    let (width, height) = fit(width, height, short);
    Rung {
        id: format!("v{short}"),
        width,
        height,
        crf: step.crf,
        max_bps: if fast { step.max_bps * 3 / 2 } else { step.max_bps },
        buffer_ms: BUFFER_MS,
        threads: THREADS,
    }
}

/// The even size of a picture shown with a short side of `short`: same aspect, never larger than it is.
fn fit(width: u32, height: u32, short: u32) -> (u32, u32) {
    let (source_short, source_long) = (u64::from(width.min(height)), u64::from(width.max(height)));
    let short = u64::from(short).min(source_short);
    // The scale as a fraction, so that nothing is rounded twice.
    let scale =
        if source_long * short > LONGEST_PX * source_short { (LONGEST_PX, source_long) } else { (short, source_short) };
    (scaled(width, scale), scaled(height, scale))
}

/// The even number nearest to the scaled side that is at most the side, and at least 2.
fn scaled(side: u32, (num, den): (u64, u64)) -> u32 {
    let side = u64::from(side);
    let nearest = (side * num + den) / (2 * den.max(1)) * 2;
    let even = if nearest > side { nearest - 2 } else { nearest };
    u32::try_from(even.max(2)).unwrap_or(u32::MAX)
}

/// The size of a still with no side longer than `longest`.
pub fn still_size(video: &VideoFacts, longest: u32) -> (u32, u32) {
    let (width, height) = (video.display_width, video.display_height);
    let (short, long) = (u64::from(width.min(height)), u64::from(width.max(height)));
    let short = if long > u64::from(longest) { short * u64::from(longest) / long } else { short };
    fit(width, height, u32::try_from(short).unwrap_or(u32::MAX).max(2))
}

/// How every rung is encoded.
pub fn video_plan(video: &VideoFacts) -> VideoPlan {
    let keep_every = keep_every(video.frame_rate);
    let rate = thinned(video.frame_rate, keep_every);
    let timescale = if video.variable_rate { COMMON_TICKS } else { timescale(rate) };
    VideoPlan { timescale, frame_rate: rate, keep_every, keyframe_ns: KEYFRAME_NS }
}

/// Every how many frames one is kept: every second above 60 a second, and so on for slow-motion cameras.
fn keep_every(rate: FrameRate) -> u32 {
    (1..=16).find(|n| rate.fps() / f64::from(*n) <= TOO_FAST_FPS).unwrap_or(16)
}

/// The rate that is left, in lowest terms.
fn thinned(rate: FrameRate, keep_every: u32) -> FrameRate {
    let (num, den) = (u64::from(rate.num.max(1)), u64::from(rate.den.max(1)) * u64::from(keep_every));
    let common = gcd(num, den);
    let fit = |n: u64| u32::try_from(n / common).unwrap_or(u32::MAX);
    FrameRate { num: fit(num), den: fit(den) }
}

/// Ticks a second in which a frame of a constant rate lasts a whole number of ticks: a multiple of the numerator.
fn timescale(rate: FrameRate) -> u32 {
    if rate.num > COARSEST_STEP {
        return COMMON_TICKS;
    }
    rate.num * FINE_TICKS.div_ceil(rate.num)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use spool_proto::testing::values::source_facts;

    use super::*;

    fn video(width: u32, height: u32, num: u32, den: u32) -> VideoFacts {
        let video = source_facts(10_000).video.expect("a picture");
        VideoFacts { display_width: width, display_height: height, frame_rate: FrameRate { num, den }, ..video }
    }

    /// `id=WxH@kb/s` of each rung.
    fn check(width: u32, height: u32, fps: u32, expected: &str) {
        let rungs = rungs(&video(width, height, fps, 1));
        let text = rungs.iter().map(|r| format!("{}={}x{}@{}", r.id, r.width, r.height, r.max_bps / 1000));
        assert_eq!(text.collect::<Vec<_>>().join(" "), expected, "{width}x{height}");
    }

    #[test]
    fn a_ladder_answers_the_source() {
        let full = "v1080=1920x1080@5000 v720=1280x720@2800 v540=960x540@1600 v360=640x360@1000 v240=426x240@550";
        check(1920, 1080, 30, full);
        check(3840, 2160, 25, full);
        check(
            1080,
            1920,
            25,
            "v1080=1080x1920@5000 v720=720x1280@2800 v540=540x960@1600 v360=360x640@1000 v240=240x426@550",
        );
        check(1280, 720, 60, "v720=1280x720@4200 v540=960x540@2400 v360=640x360@1500 v240=426x240@825");
    }

    #[test]
    fn the_profile_standard_1_never_changes() {
        let text = rungs(&video(1920, 1080, 30, 1)).into_iter().map(|r| {
            format!(
                "{} {}x{} crf {} {} b/s {} ms {} threads",
                r.id, r.width, r.height, r.crf, r.max_bps, r.buffer_ms, r.threads
            )
        });
        let expected = [
            "v1080 1920x1080 crf 23 5000000 b/s 2000 ms 1 threads",
            "v720 1280x720 crf 23 2800000 b/s 2000 ms 1 threads",
            "v540 960x540 crf 21 1600000 b/s 2000 ms 1 threads",
            "v360 640x360 crf 21 1000000 b/s 2000 ms 1 threads",
            "v240 426x240 crf 21 550000 b/s 2000 ms 1 threads",
        ];
        assert_eq!(text.collect::<Vec<_>>(), expected, "a change is a new version of the profile");
    }

    #[test]
    fn nine_tenths_of_a_rung_are_enough_and_nothing_is_made_larger() {
        check(
            1280,
            1000,
            25,
            "v1080=1280x1000@5000 v720=922x720@2800 v540=692x540@1600 v360=460x360@1000 v240=308x240@550",
        );
        check(1600, 971, 25, "v720=1186x720@2800 v540=890x540@1600 v360=594x360@1000 v240=396x240@550");
        check(400, 217, 25, "v240=400x216@550");
    }

    #[test]
    fn below_the_smallest_rung_it_is_the_sources_own_even_size() {
        check(161, 121, 25, "v121=160x120@550");
        check(120, 90, 25, "v90=120x90@550");
        check(3, 1, 25, "v1=2x2@550");
    }

    #[test]
    fn a_very_wide_picture_keeps_its_aspect_and_no_size_comes_twice() {
        check(7680, 1080, 25, "v1080=4096x576@5000 v540=3840x540@1600 v360=2560x360@1000 v240=1706x240@550");
    }

    #[test]
    fn frame_rates_keep_exact_ticks() {
        let check = |num, den, variable_rate, expected: (u32, u32, u32, u32)| {
            let plan = video_plan(&VideoFacts { variable_rate, ..video(1280, 720, num, den) });
            let VideoPlan { timescale, frame_rate, keep_every, .. } = plan;
            assert_eq!((timescale, frame_rate.num, frame_rate.den, keep_every), expected, "{num}/{den}");
        };
        check(25, 1, false, (48_000, 25, 1, 1));
        check(30_000, 1_001, false, (60_000, 30_000, 1_001, 1));
        check(24_000, 1_001, false, (48_000, 24_000, 1_001, 1));
        check(60_000, 1_001, false, (60_000, 60_000, 1_001, 1));
        check(1, 1, false, (48_000, 1, 1, 1));
        check(25, 1, true, (90_000, 25, 1, 1));
        check(120, 1, false, (48_000, 60, 1, 2));
        check(240_000, 1_001, false, (60_000, 60_000, 1_001, 4));
        check(6_002, 100, true, (90_000, 3_001, 50, 1));
        check(5_000_001, 200_000, false, (90_000, 5_000_001, 200_000, 1));
    }

    #[test]
    fn a_still_is_never_larger_than_asked_or_than_the_source() {
        for (width, height, expected) in
            [(1920, 1080, (1280, 720)), (1080, 1920, (720, 1280)), (640, 360, (640, 360)), (161, 121, (160, 120))]
        {
            assert_eq!(still_size(&video(width, height, 25, 1), 1280), expected);
        }
    }
}
