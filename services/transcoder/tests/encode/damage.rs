//! Files that were cut short or have holes: what is there plays, and what is not is counted.

use std::path::{Path, PathBuf};
use std::process::Command;

use spool_proto::media::{NS_PER_S, SourceFacts};

use crate::support::*;

const SECONDS: u64 = 20;
const SOURCES: &str = "-f lavfi -i testsrc2=s=160x90:r=25:d=20 -f lavfi -i sine=r=48000:d=20";

fn made(dir: &Path, name: &str, coding: &str) -> PathBuf {
    clip(dir, name, &format!("{SOURCES} {coding}"))
}

/// Bytes that mean nothing.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Frames that ffmpeg decodes of a file, whatever it says about it.
pub(crate) fn frames_of_ffmpeg(path: &Path) -> u64 {
    let args = ["-v", "quiet", "-select_streams", "v:0", "-count_frames", "-show_entries", "stream=nb_read_frames"];
    let out = Command::new("ffprobe").args(args).args(["-of", "csv=p=0", path.to_str().unwrap()]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    text.lines().next().and_then(|line| line.trim_end_matches(',').parse().ok()).unwrap_or(0)
}

/// Frames that came out and milliseconds of picture and of sound that were missing.
pub(crate) fn encoded(path: &Path, facts: &SourceFacts) -> (u64, u64, u64) {
    let plan = plan(facts, &[90], None);
    let video = encode_whole(path, facts, &plan).made("v90");
    let audio = encode_audio(path, facts, &plan, 0).unwrap().made("a0");
    let missing = |made: &[spool_transcoder::order::Made]| made.iter().map(|made| made.missing_ms).sum();
    (video.iter().map(|made| made.samples).sum(), missing(&video), missing(&audio))
}

#[test]
fn media_behind_a_hole_plays_and_the_hole_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let x264 = "-c:v libx264 -preset veryfast -g 25 -b:v 200k -c:a aac";
    for (name, coding) in [
        ("a.mkv", x264),
        ("a.flv", x264),
        ("a.mp4", &format!("{x264} -movflags frag_keyframe+empty_moov")),
        ("b.mp4", x264),
        ("a.ts", x264),
        ("a.avi", "-c:v mpeg4 -b:v 200k -c:a mp3"),
    ] {
        let good = std::fs::read(made(dir.path(), name, coding)).unwrap();
        let (from, to) = (good.len() * 2 / 5, good.len() * 3 / 5);
        for hole in [vec![0; to - from], noise(to - from)] {
            let mut bad = good.clone();
            bad[from..to].copy_from_slice(&hole);
            let path = dir.path().join(format!("holed-{name}"));
            std::fs::write(&path, bad).unwrap();
            let facts = facts(&path);
            assert!(facts.duration_ns().abs_diff(SECONDS * NS_PER_S) < NS_PER_S / 4, "{name}: {facts:?}");
            let (frames, picture_ms, sound_ms) = encoded(&path, &facts);
            let theirs = frames_of_ffmpeg(&path);
            assert!(frames >= theirs.min(340), "{name}: {frames} frames where ffmpeg decodes {theirs}");
            let held_ms = SECONDS * 1000 - frames * 40;
            assert!(picture_ms.abs_diff(held_ms) <= 400, "{name}: {picture_ms} ms are missing of {frames} frames");
            assert!(sound_ms.abs_diff(picture_ms) <= 1_200, "{name}: {sound_ms} ms of sound, {picture_ms} of picture");
        }
    }
}

#[test]
fn a_file_that_was_cut_short_says_what_it_promised_and_one_that_promises_nothing_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let x264 = "-c:v libx264 -preset veryfast -g 25 -b:v 200k -c:a aac";
    for (name, coding, promises) in [
        ("a.mkv", x264, true),
        ("a.flv", x264, true),
        ("a.avi", "-c:v mpeg4 -b:v 200k -c:a mp3", true),
        ("a.wmv", "-c:v wmv2 -b:v 200k -c:a wmav2", true),
        ("a.webm", "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 200k -c:a libvorbis", true),
        // As a recorder leaves it that was never closed: no length, no index.
        ("live.mkv", &format!("{x264} -f matroska -live 1"), false),
        ("a.ts", "-c:v libx264 -preset veryfast -g 25 -b:v 200k -c:a mp2", false),
    ] {
        let path = made(dir.path(), name, coding);
        let whole = facts(&path);
        assert_eq!((whole.promised_ms, whole.damage.len()), (None, 0), "{name}");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(bytes.len() / 3);
        std::fs::write(&path, bytes).unwrap();
        let cut = facts(&path);
        assert_eq!(cut.promised_ms.is_some(), promises, "{name}: {cut:?}");
        if let Some(promised_ms) = cut.promised_ms {
            assert!(promised_ms.abs_diff(SECONDS * 1000) < 400, "{name} promises {promised_ms} ms");
        }
        assert_eq!(cut.damage, [], "{name}");
        let (frames, picture_ms, sound_ms) = encoded(&path, &cut);
        let theirs = frames_of_ffmpeg(&path);
        assert!(frames + 3 >= theirs, "{name}: {frames} frames where ffmpeg decodes {theirs}");
        assert_eq!((picture_ms, sound_ms), (0, 0), "{name}");
    }
}

#[test]
fn of_several_recordings_in_one_file_the_first_is_taken_as_it_is_alone_and_the_others_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let sources = "-f lavfi -i testsrc2=s=160x90:r=25:d=2 -f lavfi -i sine=r=48000:d=2";
    for (name, coding) in [
        // As pages do it that put the pieces of a recording together that was begun anew.
        ("a.webm", "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 200k -c:a libopus -f webm -live 1"),
        ("a.mkv", "-c:v libx264 -preset veryfast -c:a aac"),
        ("a.ogv", "-c:v libtheora -b:v 200k -c:a libvorbis"),
        ("a.avi", "-c:v mpeg4 -b:v 200k -c:a mp3"),
        ("a.flv", "-c:v libx264 -preset veryfast -c:a aac"),
    ] {
        let path = clip(dir.path(), name, &format!("{sources} {coding}"));
        let one = std::fs::read(&path).unwrap();
        let alone = facts(&path);
        assert_eq!((alone.more_recordings, &alone.damage[..]), (0, &[][..]), "{name}");
        let frames = encoded(&path, &alone);
        std::fs::write(&path, one.repeat(3)).unwrap();
        let joined = facts(&path);
        assert_eq!(joined.more_recordings, 2, "{name}");
        let as_alone = SourceFacts { more_recordings: 0, damage: vec![], ..joined.clone() };
        assert_eq!(as_alone, alone, "{name}");
        assert_eq!(encoded(&path, &joined), frames, "{name}");
    }
}

#[test]
fn a_recording_that_ends_inside_a_fragment_says_how_long_that_was_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let coding = "-c:v libx264 -preset ultrafast -g 125 -b:v 200k -c:a aac -movflags frag_keyframe+empty_moov";
    let path = made(dir.path(), "a.mp4", coding);
    assert_eq!(facts(&path).promised_ms, None);
    let mut bytes = std::fs::read(&path).unwrap();
    let fragments: Vec<usize> = (0..bytes.len() - 4).filter(|at| bytes[*at..].starts_with(b"moof")).collect();
    // Of the third of its fragments of 5 s the head is there, and the first of its media.
    bytes.truncate((fragments[2] + fragments[3]) / 2);
    std::fs::write(&path, bytes).unwrap();
    let cut = facts(&path);
    assert!(cut.promised_ms.is_some_and(|ms| ms.abs_diff(15_000) < 400), "{cut:?}");
}

#[test]
fn frames_that_a_source_shows_long_on_purpose_are_not_missing() {
    let dir = tempfile::tempdir().unwrap();
    // Half a second of frames, then pauses of three: slides, as screens are recorded.
    let select = "-vf select='lt(mod(t\\,3)\\,0.5)' -fps_mode vfr -c:v libx264 -preset veryfast -c:a aac";
    for name in ["a.mp4", "a.mkv", "a.flv"] {
        let path = made(dir.path(), name, select);
        let facts = facts(&path);
        let (_, picture_ms, sound_ms) = encoded(&path, &facts);
        assert_eq!((picture_ms, sound_ms), (0, 0), "{name}: {facts:?}");
    }
}

#[test]
fn a_last_frame_that_is_shown_for_long_ends_where_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let coding =
        "-t 1.04 -vf select='lt(n\\,24)+eq(n\\,25)' -fps_mode vfr -an -use_editlist 0 -c:v libx264 -preset ultrafast";
    let path = made(dir.path(), "a.mp4", coding);
    let mut film = std::fs::read(&path).unwrap();
    let (frame, four_seconds) = (512_u32, 4 * 12_800_u32);
    let times = film.windows(4).position(|name| name == b"stts").unwrap();
    let last = times + 12 + 2 * 8;
    assert_eq!(film[last..last + 8], [1_u32.to_be_bytes(), frame.to_be_bytes()].concat(), "of the third row of times");
    film[last + 4..last + 8].copy_from_slice(&four_seconds.to_be_bytes());
    std::fs::write(&path, film).unwrap();
    let facts = facts(&path);
    let video = facts.video.as_ref().unwrap();
    assert_eq!((video.first_ns, video.last_ns, video.end_ns), (0, NS_PER_S, 5 * NS_PER_S));
    let plan = plan(&facts, &[90], None);
    let made = encode_whole(&path, &facts, &plan).made("v90");
    assert!(made.iter().all(|made| made.missing_ms == 0), "{made:?}");
    let frames: u64 = made.iter().map(|made| made.samples).sum();
    // The last frame is repeated, so that players that want pictures have some.
    assert!(frames > 25, "{frames}");
}

#[test]
fn seldom_pauses_of_a_file_that_lost_nothing_are_not_missing() {
    let dir = tempfile::tempdir().unwrap();
    // A screen on which something moves most of the time: too few pauses to make the rate a variable one.
    let still = "-t 12 -vf select='not(between(t\\,3.3\\,5.1)+between(t\\,6.5\\,9.7))' -fps_mode vfr";
    let mute = "-af aselect='not(between(t\\,4\\,8))'";
    let x264 = "-c:v libx264 -preset ultrafast -g 25 -c:a aac";
    for (name, coding) in [
        ("a.mkv", format!("{still} {mute} {x264}")),
        ("a.flv", format!("{still} {x264} -an")),
        ("a.mp4", format!("{still} {x264} -movflags frag_keyframe+empty_moov")),
    ] {
        let path = made(dir.path(), name, &coding);
        let facts = facts(&path);
        assert_eq!(facts.damage, [], "{name}");
        let plan = plan(&facts, &[90], None);
        let mut made = encode_whole(&path, &facts, &plan).made("v90");
        if facts.audio.is_some() {
            made.extend(encode_audio(&path, &facts, &plan, 0).unwrap().made("a0"));
        }
        assert!(made.iter().all(|made| made.missing_ms == 0), "{name}: {facts:?}");
        let pauses = facts.video.iter().map(|v| v.longest_gap_ns).chain(facts.audio.iter().map(|a| a.longest_gap_ns));
        assert!(pauses.max().is_some_and(|ns| ns > 3 * NS_PER_S), "{name} has pauses: {facts:?}");
    }
}

/// Marks within 40 ms of where they are to be.
fn at_these_ms(marks: &[f64], expected: &[u64]) -> bool {
    marks.len() == expected.len() && marks.iter().zip(expected).all(|(mark, at)| (mark - *at as f64).abs() <= 40.0)
}

#[test]
fn a_transport_stream_whose_picture_pauses_keeps_its_length_its_sound_and_its_times() {
    let dir = tempfile::tempdir().unwrap();
    // A flash and a beep each two seconds, 0.2 s long.
    let flash = "drawbox=t=fill:c=white:enable='lt(mod(t\\,2)\\,0.2)'";
    for (name, seconds, from, to, format) in [
        ("a.ts", 16, 5.08, 6.4, "aac -f mpegts"),
        ("b.ts", 16, 3.3, 6.5, "aac -f mpegts"),
        ("c.ts", 40, 5.3, 33.5, "aac -f mpegts"),
        ("d.m2ts", 16, 3.3, 6.5, "ac3 -f mpegts -mpegts_m2ts_mode 1"),
        // The clock begins again at zero within the pause.
        ("e.ts", 16, 3.3, 8.5, "aac -f mpegts -output_ts_offset 95438"),
    ] {
        let paused = format!("select='not(between(t\\,{from}\\,{to}))'");
        let path = clip(
            dir.path(),
            name,
            &format!(
                "-f lavfi -i color=black:s=160x90:r=25:d={seconds},{flash},{paused} \
                 -f lavfi -i aevalsrc=sin(440*6.28*t)*lt(mod(t\\,2)\\,0.2):s=48000:d={seconds} -fps_mode vfr \
                 -c:v libx264 -preset veryfast -g 25 -bf 2 -c:a {format}"
            ),
        );
        let facts = facts(&path);
        let apart = facts.duration_ns().abs_diff(seconds * NS_PER_S);
        assert!(apart < NS_PER_S / 20, "{name}: {} s", facts.duration_ns() as f64 / 1e9);
        assert!(!facts.damage.is_empty(), "{name}: the clock leaps");
        let plan = plan(&facts, &[90], None);
        let kept = encode_whole(&path, &facts, &plan);
        let made = kept.made("v90");
        assert!(made.iter().all(|made| made.missing_ms == 0), "{name}: the picture pauses, and no packet is lost");
        let frames: u64 = made.iter().map(|made| made.samples).sum();
        // A picture that is held is repeated at the keyframes of the grid.
        let (theirs, repeats) = (frames_of_ffmpeg(&path), ((to - from) / 2.0) as u64 + 1);
        assert!((theirs..=theirs + repeats).contains(&frames), "{name}: {frames} frames, ffmpeg decodes {theirs}");
        assert!(facts.audio.is_some(), "{name}: {facts:?}");
        let sound = encode_audio(&path, &facts, &plan, 0).unwrap();
        let sound_ms: u64 = sound.made("a0").iter().map(|made| made.missing_ms).sum();
        assert_eq!(sound_ms, 0, "{name}: all of the sound is there");
        let beeps = beeps_ms(&sound.write(dir.path(), "a0"));
        let every_two: Vec<u64> = (0..seconds).step_by(2).map(|at| at * 1000).collect();
        assert!(at_these_ms(&beeps, &every_two), "{name}: {beeps:?}");
        let flashes = flashes_ms(&kept.write(dir.path(), "v90"));
        let shown = |at: &u64| *at > 0 && !(from..to).contains(&(*at as f64 / 1000.0));
        let shown: Vec<u64> = every_two.into_iter().filter(shown).collect();
        assert!(at_these_ms(&flashes, &shown), "{name}: {flashes:?}");
    }
}

/// The places of all boxes of a fragmented MP4 with that name.
fn boxes(file: &[u8], name: &[u8]) -> Vec<usize> {
    (0..file.len() - 4).filter(|at| &file[*at..*at + 4] == name).collect()
}

#[test]
fn one_wrong_time_of_a_tag_or_a_fragment_moves_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let source = "-f lavfi -i testsrc2=s=160x90:r=25:d=2 -f lavfi -i sine=r=48000:d=2";
    let coding = "-c:v libx264 -preset ultrafast -g 10 -bf 2 -c:a aac";
    let flv = std::fs::read(clip(dir.path(), "a.flv", &format!("{source} {coding}"))).unwrap();
    let mp4 = clip(dir.path(), "a.mp4", &format!("{source} {coding} -movflags frag_keyframe+empty_moov"));
    let mp4 = std::fs::read(mp4).unwrap();
    // Tags of pictures and of sound.
    let mut tags = vec![];
    let mut at = 13;
    while at + 11 < flv.len() {
        tags.push(at);
        at += 15 + usize::from(flv[at + 1]) * 65_536 + usize::from(flv[at + 2]) * 256 + usize::from(flv[at + 3]);
    }
    let of = |kind: u8| tags.iter().copied().filter(|at| flv[*at] == kind).collect::<Vec<_>>();
    let (pictures, sounds, begins) = (of(9), of(8), boxes(&mp4, b"tfdt"));
    // The highest byte of a time in milliseconds, and one of a time of eight bytes.
    let wrong = [
        ("picture.flv", &flv, pictures[20] + 7),
        ("sound.flv", &flv, sounds[30] + 7),
        ("last.flv", &flv, sounds[sounds.len() - 1] + 7),
        ("fragment.mp4", &mp4, begins[4] + 12),
        ("fragments-sound.mp4", &mp4, begins[5] + 12),
        ("last.mp4", &mp4, begins[begins.len() - 1] + 12),
    ];
    for (name, good, at) in wrong {
        let mut bad = good.clone();
        bad[at] ^= 3;
        let path = dir.path().join(name);
        std::fs::write(&path, bad).unwrap();
        let facts = facts(&path);
        assert!(facts.duration_ns().abs_diff(2 * NS_PER_S) < NS_PER_S / 8, "{name}: {facts:?}");
        let (frames, picture_ms, sound_ms) = encoded(&path, &facts);
        assert!((50..=51).contains(&frames) && (picture_ms, sound_ms) == (0, 0), "{name}: {frames} {sound_ms}");
    }
}

#[test]
fn an_avi_whose_index_is_wrong_plays_by_its_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let source = "-f lavfi -i testsrc2=s=160x90:r=25:d=2 -f lavfi -i sine=r=48000:d=2";
    let good = clip(dir.path(), "a.avi", &format!("{source} -c:v mpeg4 -g 25 -b:v 200k -c:a mp3"));
    let good = std::fs::read(good).unwrap();
    let index = boxes(&good, b"idx1").pop().unwrap() + 8;
    let mut tail = good.clone();
    let end = tail.len() - 12;
    tail[end..].fill(0x5a);
    let mut moved = good.clone();
    for entry in moved[index..].chunks_exact_mut(16) {
        let place = u32::from_le_bytes(entry[8..12].try_into().unwrap()) + 1_000;
        entry[8..12].copy_from_slice(&place.to_le_bytes());
    }
    for (name, bytes) in [("tail.avi", tail), ("moved.avi", moved)] {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let facts = facts(&path);
        assert!(facts.duration_ns().abs_diff(2 * NS_PER_S) < NS_PER_S / 8, "{name}: {facts:?}");
        let (frames, picture_ms, sound_ms) = encoded(&path, &facts);
        assert!((50..=51).contains(&frames) && (picture_ms, sound_ms) == (0, 0), "{name}: {frames} {sound_ms}");
    }
}

#[test]
fn a_short_file_that_states_its_frames_or_samples_says_what_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let source = "-f lavfi -i testsrc2=s=160x90:r=25:d=2 -f lavfi -i sine=r=48000:d=2";
    for (name, coding) in [
        ("a.avi", "-c:v mpeg4 -b:v 200k -c:a mp3"),
        ("a.wav", "-map 1:a -c:a pcm_s16le"),
        ("a.flac", "-map 1:a"),
        ("a.mp3", "-map 1:a"),
    ] {
        let path = clip(dir.path(), name, &format!("{source} {coding}"));
        assert_eq!(facts(&path).promised_ms, None, "{name}");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(bytes.len() * 3 / 4);
        std::fs::write(&path, bytes).unwrap();
        let promised_ms = facts(&path).promised_ms;
        assert!(promised_ms.is_some_and(|ms| ms.abs_diff(2_000) < 60), "{name} promises {promised_ms:?}");
    }
}
