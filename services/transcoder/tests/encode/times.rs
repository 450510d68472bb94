//! When each picture is shown: containers that state it in part, wrongly or not at all.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use spool_proto::media::*;
use spool_transcoder::child::encode::still;
use spool_transcoder::order::Output;

use crate::support::*;

/// Rounding of containers and tracks.
const ROUNDING_US: i64 = 1500;

/// Every picture of `path` once, at `expected_us` from the first one.
fn check(dir: &Path, path: &Path, expected_us: &[i64]) {
    let facts = facts(path);
    let plan = plan(&facts, &[120], None);
    let out = encode_whole(path, &facts, &plan).write(dir, &plan.rungs[0].id);
    let seen = from_first(&decoded_us(&out));
    assert_eq!(seen.len(), expected_us.len(), "pictures of {}: {seen:?}", path.display());
    let apart = seen.iter().zip(expected_us).position(|(seen, expected)| (seen - expected).abs() > ROUNDING_US);
    assert_eq!(apart, None, "{}: {seen:?} instead of {expected_us:?}", path.display());
}

fn from_first(times_us: &[i64]) -> Vec<i64> {
    times_us.iter().map(|at| at - times_us[0]).collect()
}

/// When ffmpeg shows each picture of a container that states times of decoding; behind the last packet it knows none, and
/// they come at their distance.
fn shown_us(path: &Path, distance_us: i64) -> Vec<i64> {
    let entries = "frame=best_effort_timestamp_time";
    let args = ["-v", "error", "-select_streams", "v:0", "-show_entries", entries, "-of", "csv=p=0"];
    let text = run("ffprobe", &[&args[..], &[path.to_str().unwrap()]].concat());
    let mut times: Vec<i64> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let stated = line.trim_end_matches(',').parse::<f64>().ok().map(|at| (at * 1e6).round() as i64);
        times.push(stated.unwrap_or_else(|| times.last().map_or(0, |last| last + distance_us)));
    }
    times
}

fn moving(size: &str, seconds: u32) -> String {
    format!("-f lavfi -i testsrc2=size={size}:rate=25:duration={seconds}")
}

#[test]
fn a_picture_that_begins_before_the_edit_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    // The sound begins at the edit, so the timeline does too.
    let coding = "-f lavfi -i sine=r=48000:d=6 -c:v libx264 -preset veryfast -g 25 -bf 2 -c:a aac";
    let whole = clip(dir.path(), "whole.mp4", &format!("{} {coding}", moving("320x180", 6)));
    // 1.51 s lies within a picture: the edit list begins there.
    let path = clip(dir.path(), "cut.mp4", &format!("-ss 1.51 -i {} -c copy", whole.display()));
    check(dir.path(), &path, &from_first(&decoded_us(&path)));
}

#[test]
fn a_picture_that_lies_before_the_zero_of_a_matroska_file_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let coding = "-f lavfi -i sine=r=48000:d=6 -c:v libx264 -preset veryfast -g 25 -bf 2 -c:a aac";
    let early = "-output_ts_offset -1 -avoid_negative_ts disabled";
    let path = clip(dir.path(), "early.mkv", &format!("{} {coding} {early}", moving("320x180", 6)));
    let facts = facts(&path);
    assert!(facts.duration_ns().abs_diff(5 * NS_PER_S) <= NS_PER_S / 25, "{facts:?}");
    check(dir.path(), &path, &(0..125).map(|n| n * 40_000).collect::<Vec<_>>());
}

#[test]
fn the_last_pictures_before_an_edits_end_are_shown_and_none_after_it() {
    let dir = tempfile::tempdir().unwrap();
    // Of each four pictures the last is coded first, then the second, then the first and the third.
    let order = "-x264-params bframes=3:b-adapt=0:b-pyramid=normal:scenecut=0";
    // As phones write it: offsets that show a picture before it is decoded, and a shift that mends it.
    let args =
        format!("{} -c:v libx264 -preset veryfast -g 25 {order} -movflags negative_cts_offsets", moving("320x180", 6));
    let whole = clip(dir.path(), "whole.mp4", &args);
    let bytes = std::fs::read(&whole).unwrap();
    let length = bytes.windows(4).position(|w| w == b"elst").unwrap() + 12;
    for pictures in [70_u32, 71, 72, 73, 74] {
        let mut trimmed = bytes.clone();
        // Ends 10 ms into the last picture; an edit counts milliseconds here.
        trimmed[length..length + 4].copy_from_slice(&(pictures * 40 - 30).to_be_bytes());
        let path = dir.path().join(format!("{pictures}.mp4"));
        std::fs::write(&path, trimmed).unwrap();
        check(dir.path(), &path, &(0..i64::from(pictures)).map(|n| n * 40_000).collect::<Vec<_>>());
    }
}

#[test]
fn pictures_that_need_what_was_cut_away_before_them_are_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let open = "-c:v libx264 -preset veryfast -x264-params open-gop=1:keyint=50:min-keyint=50:scenecut=0:bframes=3";
    let whole = clip(dir.path(), "whole.mkv", &format!("{} {open}", moving("320x180", 8)));
    for name in ["cut.mkv", "cut.flv", "cut.mov"] {
        let path = clip(dir.path(), name, &format!("-ss 2.5 -i {} -c copy", whole.display()));
        let seen = decoded_us(&path);
        let packets =
            run("ffprobe", &["-v", "error", "-show_entries", "packet=size", "-of", "csv", path.to_str().unwrap()]);
        assert!(name == "cut.mov" || seen.len() < packets.lines().count(), "{name}: nothing leads");
        check(dir.path(), &path, &from_first(&seen));
    }
}

#[test]
fn the_last_pictures_of_a_file_without_edits_are_shown_whatever_length_is_stated() {
    let dir = tempfile::tempdir().unwrap();
    let coding = "-c:v libx264 -preset veryfast -g 25 -bf 3 -use_editlist 0";
    let expected: Vec<i64> = (0..75).map(|n| n * 40_000).collect();
    for name in ["a.mp4", "a.mov"] {
        let path = clip(dir.path(), name, &format!("{} {coding}", moving("320x180", 3)));
        check(dir.path(), &path, &expected);
        // As long as half a picture.
        let mut bytes = std::fs::read(&path).unwrap();
        let length = bytes.windows(4).position(|w| w == b"mdhd").unwrap() + 20;
        bytes[length..length + 4].copy_from_slice(&256_u32.to_be_bytes());
        let path = dir.path().join(format!("short-{name}"));
        std::fs::write(&path, bytes).unwrap();
        check(dir.path(), &path, &expected);
    }
}

#[test]
fn pictures_that_share_a_packet_of_a_program_stream_come_at_their_distance() {
    let dir = tempfile::tempdir().unwrap();
    let coding = "-c:v mpeg2video -bf 2";
    for (name, args) in [
        // One picture begins in its predecessor's packet, here and there.
        ("rare.mpg", format!("{} {coding} -b:v 2500k", moving("720x576", 8))),
        // Most pictures do.
        ("often.mpg", format!("{} {coding} -b:v 60k", moving("160x120", 8))),
    ] {
        let path = clip(dir.path(), name, &args);
        check(dir.path(), &path, &(0..200).map(|n| n * 40_000).collect::<Vec<_>>());
    }
}

#[test]
fn woven_pictures_keep_their_number_and_times_whichever_field_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    for top in [0, 1] {
        let args = format!("{} -c:v mpeg2video -bf 2 -flags +ilme+ildct -top {top}", moving("720x576", 3));
        let path = clip(dir.path(), &format!("{top}.mpg"), &args);
        assert!(facts(&path).video.unwrap().interlaced);
        check(dir.path(), &path, &(0..75).map(|n| n * 40_000).collect::<Vec<_>>());
    }
}

/// Packed pictures (two in a packet, none in the next), pictures that are coded early, and the same in H.264.
fn avis(dir: &Path) -> [PathBuf; 3] {
    let source = moving("320x180", 13);
    [
        clip(dir, "packed.avi", &format!("{source} -c:v libxvid -bf 2 -g 60 -q:v 5")),
        clip(dir, "early.avi", &format!("{source} -c:v mpeg4 -bf 2 -g 25 -q:v 5")),
        clip(dir, "h264.avi", &format!("{source} -c:v libx264 -preset veryfast -bf 3 -g 40")),
    ]
}

#[test]
fn avi_shows_its_pictures_when_ffmpeg_shows_them_and_the_first_from_its_beginning_on() {
    let dir = tempfile::tempdir().unwrap();
    for path in avis(dir.path()) {
        let mut shown = shown_us(&path, 40_000);
        assert!(shown[0] > 0, "{}: no picture is decoded before it is shown", path.display());
        shown[0] = 0;
        check(dir.path(), &path, &shown);
    }
}

#[test]
fn an_avi_is_cut_only_where_every_picture_stands_alone() {
    let dir = tempfile::tempdir().unwrap();
    for path in avis(dir.path()) {
        assert_eq!(facts(&path).cut, Cut::Whole, "{}", path.display());
    }
    let path = clip(dir.path(), "whole-pictures.avi", &format!("{} -c:v mjpeg -q:v 5", moving("320x180", 13)));
    assert_eq!(facts(&path).cut, Cut::Exact);
    join(&path);
}

/// Whole against chunks made apart and out of order.
fn join(path: &Path) {
    let facts = facts(path);
    let plan = plan(&facts, &[120], Some(&[1, 1, 2]));
    let whole = encode_whole(path, &facts, &plan);
    let apart = Kept::default();
    for chunk in [2, 0, 1] {
        apart.absorb(encode_video(path, &facts, &plan, chunk..=chunk).unwrap());
    }
    apart.hashes.lock().unwrap().sort_unstable();
    assert_eq!(*whole.hashes.lock().unwrap(), *apart.hashes.lock().unwrap(), "{}", path.display());
    assert!(whole.joined("v120") == apart.joined("v120"), "bytes of {}", path.display());
}

#[test]
fn a_matroska_whose_picture_starts_late_has_the_same_times_whole_and_in_chunks() {
    let dir = tempfile::tempdir().unwrap();
    // The sound's priming moves the picture by 23 ms.
    let args = format!(
        "{} -f lavfi -i sine=r=44100:d=13 -c:v libx264 -preset veryfast -g 33 -bf 3 -c:a aac",
        moving("320x180", 13)
    );
    let path = clip(dir.path(), "late.mkv", &args);
    let facts = facts(&path);
    let first = facts.video.as_ref().unwrap().first_ns - facts.zero_ns;
    assert_eq!(first, 23_000_000);
    let times: Vec<i64> = (0..325).map(|n| n * 40_000).collect();
    check(dir.path(), &path, &times);
    let plan = plan(&facts, &[120], None);
    let out = encode_whole(&path, &facts, &plan).write(dir.path(), "v120");
    assert!((decoded_us(&out)[0] - 23_000).abs() <= ROUNDING_US);
    join(&path);
}

#[test]
fn a_poster_of_pixels_that_are_not_square_has_the_planned_size() {
    let dir = tempfile::tempdir().unwrap();
    for (name, args) in [
        ("wide.mp4", "-vf setsar=4/3 -c:v libx264 -preset veryfast"),
        ("woven.mp4", "-vf setsar=64/45 -c:v libx264 -preset veryfast -flags +ilme+ildct -x264-params tff=1"),
        ("turned.mp4", "-vf setsar=3/4,transpose=clock -c:v libx264 -preset veryfast"),
    ] {
        let path = clip(dir.path(), name, &format!("{} {args}", moving("320x240", 2)));
        let facts = facts(&path);
        let video = facts.video.as_ref().unwrap();
        let (width, height) = (video.display_width / 2 * 2, video.display_height / 2 * 2);
        let mut plan = plan(&facts, &[120], None);
        plan.stills = vec![StillPlan { name: "poster".to_owned(), at_ns: NS_PER_S, width, height }];
        let kept = Arc::new(Kept::default());
        let output: Arc<dyn Output> = Arc::clone(&kept) as Arc<dyn Output>;
        still::run(&ranges(&path), &facts, &plan, "poster", &output).unwrap();
        let jpeg = dir.path().join("poster.jpg");
        std::fs::write(&jpeg, &kept.objects.lock().unwrap()[&("poster".to_owned(), 0)].0).unwrap();
        let seen = run(
            "ffprobe",
            &["-v", "error", "-show_entries", "stream=width,height", "-of", "csv=p=0", jpeg.to_str().unwrap()],
        );
        assert_eq!(seen.trim(), format!("{width},{height}"), "{name}");
    }
}
