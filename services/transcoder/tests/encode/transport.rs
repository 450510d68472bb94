//! Transport streams with lost packets, damaged times and late clocks: no more is lost than with ffmpeg.

use spool_proto::media::NS_PER_S;

use crate::damage::{encoded, frames_of_ffmpeg};
use crate::support::*;

/// A transport stream one of whose times is three hours ahead: of the packet of that name that comes `nth` from the end, or of
/// the first one.
fn with_a_wrong_time(mut stream: Vec<u8>, name: u8, nth: usize) -> Vec<u8> {
    const WRONG_BY: u64 = 3 * 3600 * 90_000;
    let starts = (0..stream.len()).step_by(188).filter(|at| stream[at + 1] & 0x40 != 0).map(|at| {
        let extra = stream[at + 3] & 0x20 != 0;
        at + 4 + if extra { 1 + usize::from(stream[at + 4]) } else { 0 }
    });
    let starts: Vec<usize> = starts.filter(|at| stream[*at..].starts_with(&[0, 0, 1, name])).collect();
    let at = starts[starts.len().saturating_sub(nth)];
    let times = if stream[at + 7] >> 6 == 3 { 2 } else { 1 };
    for time in stream[at + 9..at + 9 + times * 5].chunks_exact_mut(5) {
        let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|n| u64::from(time[n]));
        let right = (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1;
        let wrong = right + WRONG_BY;
        time[0] = time[0] & 0xf1 | (wrong >> 29) as u8 & 0x0e;
        time[1..].copy_from_slice(&[
            (wrong >> 22) as u8,
            (wrong >> 14) as u8 | 1,
            (wrong >> 7) as u8,
            (wrong << 1) as u8 | 1,
        ]);
    }
    stream
}

#[test]
fn one_wrong_time_of_a_transport_stream_makes_nothing_longer() {
    let dir = tempfile::tempdir().unwrap();
    let source = "-f lavfi -i testsrc2=s=160x90:r=25:d=4 -f lavfi -i sine=r=48000:d=4";
    let good = std::fs::read(clip(
        dir.path(),
        "a.ts",
        &format!("{source} -c:v libx264 -preset veryfast -g 25 -bf 2 -c:a aac"),
    ))
    .unwrap();
    let (picture, sound) = (0xe0, 0xc0);
    for (name, nth) in [(picture, 40), (picture, 1), (sound, 4)] {
        let path = dir.path().join(format!("{name:x}-{nth}.ts"));
        std::fs::write(&path, with_a_wrong_time(good.clone(), name, nth)).unwrap();
        let facts = facts(&path);
        let span_ms = (facts.end_ns - facts.zero_ns) / 1_000_000;
        assert!((3_960..4_100).contains(&span_ms), "{name:x} {nth}: {span_ms} ms: {facts:?}");
        let (frames, ..) = encoded(&path, &facts);
        assert!((100..=101).contains(&frames), "{name:x} {nth}: {frames} frames");
    }
}

/// A transport stream without one packet in `every` of those behind its first tables, as a radio link loses them.
fn without_packets(stream: &[u8], every: u64) -> Vec<u8> {
    let mut state = 11_u64;
    let mut is_lost = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33).is_multiple_of(every)
    };
    let (head, rest) = stream.split_at(20 * 188);
    let kept = rest.chunks(188).filter(|_| !is_lost()).flatten();
    head.iter().chain(kept).copied().collect()
}

#[test]
fn lost_packets_of_a_transport_stream_cost_no_more_pictures_than_with_ffmpeg() {
    let dir = tempfile::tempdir().unwrap();
    for (codec, sound) in [("libx264 -preset ultrafast -g 25", "aac"), ("mpeg2video -g 15 -bf 2", "mp2")] {
        let source = "-f lavfi -i testsrc2=s=320x180:r=25:d=2 -f lavfi -i sine=r=48000:d=2";
        let good = clip(dir.path(), "a.ts", &format!("{source} -c:v {codec} -threads 1 -b:v 1500k -c:a {sound}"));
        let good = std::fs::read(good).unwrap();
        // In percent of theirs; seen are all of them.
        for (every, least) in [(100, 95), (20, 90)] {
            let path = dir.path().join(format!("lossy-{every}.ts"));
            std::fs::write(&path, without_packets(&good, every)).unwrap();
            let facts = facts(&path);
            assert!(facts.lost_packets > 0, "{codec}, 1 in {every}: {facts:?}");
            let (frames, ..) = encoded(&path, &facts);
            let theirs = frames_of_ffmpeg(&path);
            let enough = frames * 100 >= theirs * least && theirs > 40;
            assert!(enough, "{codec}, 1 in {every}: {frames} pictures, ffmpeg {theirs}");
            assert!(facts.duration_ns().abs_diff(2 * NS_PER_S) < NS_PER_S / 4, "{codec}, 1 in {every}: {facts:?}");
        }
    }
}

#[test]
fn a_wrong_first_time_of_a_transport_stream_loses_nothing_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let source = "-f lavfi -i testsrc2=s=160x90:r=25:d=2 -f lavfi -i sine=r=48000:d=2";
    let good = clip(dir.path(), "a.ts", &format!("{source} -c:v libx264 -preset ultrafast -g 25 -bf 2 -c:a aac"));
    let good = std::fs::read(good).unwrap();
    for name in [0xe0, 0xc0] {
        let path = dir.path().join(format!("{name:x}.ts"));
        std::fs::write(&path, with_a_wrong_time(good.clone(), name, usize::MAX)).unwrap();
        let facts = facts(&path);
        let sound = facts.audio.as_ref().unwrap();
        assert!(sound.first_ns < facts.zero_ns + NS_PER_S / 20, "{name:x}: {facts:?}");
        assert!(sound.end_ns - facts.zero_ns > 2 * NS_PER_S - NS_PER_S / 20, "{name:x}: {facts:?}");
        assert!(facts.duration_ns().abs_diff(2 * NS_PER_S) < NS_PER_S / 8, "{name:x}: {facts:?}");
        let (frames, picture_ms, sound_ms) = encoded(&path, &facts);
        assert!((50..=51).contains(&frames) && (picture_ms, sound_ms) == (0, 0), "{name:x}: {frames} {sound_ms}");
    }
}

/// A transport stream whose clock is late by that many ticks of 90 kHz.
fn with_a_late_clock(mut stream: Vec<u8>, ticks: u64) -> Vec<u8> {
    for packet in stream.chunks_exact_mut(188) {
        if packet[3] & 0x20 != 0 && packet[4] > 6 && packet[5] & 0x10 != 0 {
            let clock = packet[6..11].iter().fold(0, |clock, byte| clock << 8 | u64::from(*byte));
            packet[6..11].copy_from_slice(&(clock + (ticks << 7)).to_be_bytes()[3..]);
        }
    }
    stream
}

#[test]
fn what_comes_before_the_clock_of_a_transport_stream_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let source = "-f lavfi -i testsrc2=s=160x90:r=25:d=2 -f lavfi -i sine=r=48000:d=2";
    let good = clip(dir.path(), "a.ts", &format!("{source} -c:v libx264 -preset ultrafast -g 25 -bf 2 -c:a mp2"));
    let good = std::fs::read(good).unwrap();
    // ffmpeg's clock is 0.7 s before the first time; all of it was refused, or a few pictures were lost.
    for ms in [1_000, 1_500] {
        let path = dir.path().join(format!("{ms}.ts"));
        std::fs::write(&path, with_a_late_clock(good.clone(), ms * 90)).unwrap();
        let facts = facts(&path);
        assert!(facts.duration_ns().abs_diff(2 * NS_PER_S) < NS_PER_S / 20, "{ms}: {facts:?}");
        let (frames, picture_ms, sound_ms) = encoded(&path, &facts);
        assert!((50..=51).contains(&frames) && (picture_ms, sound_ms) == (0, 0), "{ms}: {frames} {sound_ms}");
    }
}

/// A transport stream whose packets say that they carry no clock.
fn without_clock(mut stream: Vec<u8>) -> Vec<u8> {
    for packet in stream.chunks_exact_mut(188).filter(|packet| packet[3] & 0x20 != 0 && packet[4] > 0) {
        let clock = if packet[5] & 0x10 != 0 { 6 } else { 0 };
        packet[5] &= !0x10;
        packet[6..6 + clock].fill(0xff);
    }
    stream
}

#[test]
fn a_picture_that_begins_long_after_its_sound_is_shown_when_it_is_stated() {
    let dir = tempfile::tempdir().unwrap();
    // The clock travels with the picture, so all of the sound before it lies before the clock's first reading; or there is
    // no clock at all.
    for (name, args) in [("a.ts", ""), ("a.m2ts", "-mpegts_m2ts_mode 1"), ("without.ts", "")] {
        let source = "-itsoffset 2 -f lavfi -i testsrc2=s=160x90:r=25:d=1 -f lavfi -i sine=r=48000:d=3";
        let coding = "-c:v libx264 -preset veryfast -bf 2 -fps_mode passthrough -c:a mp2 -muxdelay 0.3";
        let path = clip(dir.path(), name, &format!("{source} {coding} {args}"));
        if name == "without.ts" {
            std::fs::write(&path, without_clock(std::fs::read(&path).unwrap())).unwrap();
        }
        let facts = facts(&path);
        let (video, audio) = (facts.video.as_ref().unwrap(), facts.audio.as_ref().unwrap());
        let late_ms = video.first_ns.abs_diff(audio.first_ns) / 1_000_000;
        assert!((1_960..2_040).contains(&late_ms), "{name}: {facts:?}");
        let out = encode_whole(&path, &facts, &plan(&facts, &[90], None)).write(dir.path(), "v90");
        let (seen, stated) = (decoded_us(&out), decoded_us(&path));
        // The first one is held from the beginning on.
        assert_eq!((seen.len(), stated.len()), (26, 25), "{name}: {seen:?}");
        let apart = seen[1..].iter().zip(&stated).position(|(a, b)| (a - seen[1] - (b - stated[0])).abs() > 1_500);
        assert_eq!(apart, None, "{name}: {seen:?} instead of {stated:?}");
    }
}

#[test]
fn sound_that_lies_behind_the_first_picture_and_is_heard_before_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let source = "-f lavfi -i testsrc2=s=160x90:r=25:d=4 -f lavfi -i sine=r=48000:d=4";
    let whole = clip(dir.path(), "whole.ts", &format!("{source} -c:v libx264 -preset veryfast -g 20 -bf 2 -c:a aac"));
    // Pictures are sent ahead of their sound, so a cut begins with one.
    let bytes = std::fs::read(&whole).unwrap();
    let at = bytes.len() / 188 / 3 * 188;
    let path = dir.path().join("cut.ts");
    std::fs::write(&path, &bytes[at..]).unwrap();
    let first_us = |stream: &str| {
        let args = ["-v", "error", "-select_streams", stream, "-show_entries", "frame=pts_time", "-of", "csv=p=0"];
        let text = run("ffprobe", &[&args[..], &[path.to_str().unwrap()]].concat());
        let times = text.lines().filter_map(|line| line.trim_end_matches(',').parse::<f64>().ok());
        times.map(|at| (at * 1e6) as i64).min().unwrap()
    };
    let facts = facts(&path);
    let (video, audio) = (facts.video.as_ref().unwrap(), facts.audio.as_ref().unwrap());
    let ahead_us = (video.first_ns as i64 - audio.first_ns as i64) / 1_000;
    let stated_us = first_us("v:0") - first_us("a:0");
    assert!(stated_us > 200_000, "the sound of this cut begins {stated_us} us before its picture");
    assert!((ahead_us - stated_us).abs() < 2_000, "{ahead_us} us instead of {stated_us}: {facts:?}");
}

#[test]
fn pictures_of_a_transport_stream_that_was_cut_anew_keep_their_times() {
    let dir = tempfile::tempdir().unwrap();
    let source = "-f lavfi -i testsrc2=s=160x90:r=25:d=4 -f lavfi -i sine=r=48000:d=4";
    for coding in ["libx265 -preset ultrafast -x265-params keyint=25:log-level=error", "libx264 -preset veryfast -g 25"]
    {
        let whole = clip(dir.path(), "whole.ts", &format!("{source} -c:v {coding} -bf 3 -c:a aac"));
        // The first zero of each picture lies with the one before it then.
        let path = clip(dir.path(), "cut.ts", &format!("-ss 1.5 -i {} -c copy", whole.display()));
        let facts = facts(&path);
        let out = encode_whole(&path, &facts, &plan(&facts, &[90], None)).write(dir.path(), "v90");
        let (seen, stated) = (decoded_us(&out), decoded_us(&path));
        let seen = &seen[seen.len() - stated.len()..];
        let apart = seen.iter().zip(&stated).position(|(a, b)| (a - seen[0] - (b - stated[0])).abs() > 1_500);
        assert_eq!(apart, None, "{coding}: {seen:?} instead of {stated:?}");
    }
}
