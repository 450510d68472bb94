//! The sound against ffmpeg: where it lies, how long it is, how its chunks join.

use std::path::{Path, PathBuf};

use spool_transcoder::order::FailureCode;

use crate::support::*;

const FLASH: &str = "color=black:s=320x180:r=25:d=9,drawbox=c=white:t=fill:enable=between(mod(t\\,2)\\,1\\,1.1)";
const BEEP: &str = "aevalsrc=if(between(mod(t\\,2)\\,1\\,1.1)\\,0.6*sin(2000*PI*t)\\,0):s=44100:d=9";

fn flash_and_beep(dir: &Path, name: &str, codecs: &str) -> PathBuf {
    clip(dir, name, &format!("-f lavfi -i {FLASH} -f lavfi -i {BEEP} {codecs}"))
}

#[test]
fn sound_and_picture_stay_together() {
    let dir = tempfile::tempdir().unwrap();
    for (name, codecs) in [
        ("aac.mp4", "-c:v libx264 -preset veryfast -pix_fmt yuv420p -c:a aac"),
        ("opus.mkv", "-c:v libx264 -preset veryfast -pix_fmt yuv420p -c:a libopus"),
        ("mp3.mov", "-c:v mpeg4 -q:v 3 -c:a libmp3lame"),
        ("pcm.mov", "-c:v libx264 -preset veryfast -pix_fmt yuv420p -c:a pcm_s16le -ac 4"),
        ("ts.ts", "-c:v libx264 -preset veryfast -pix_fmt yuv420p -c:a aac"),
    ] {
        let path = flash_and_beep(dir.path(), name, codecs);
        let facts = facts(&path);
        let plan = plan(&facts, &[180], None);
        let picture = encode_whole(&path, &facts, &plan).write(dir.path(), "v180");
        let sound = encode_audio(&path, &facts, &plan, 0).unwrap().write(dir.path(), "a0");
        assert_eq!(complaints(&sound), "", "{name}");
        let (flashes, beeps) = (flashes_ms(&picture), beeps_ms(&sound));
        let (source_flashes, source_beeps) = (flashes_ms(&path), beeps_ms(&path));
        assert_eq!((flashes.len(), beeps.len()), (4, 4), "{name}: {flashes:?} {beeps:?}");
        for i in 0..4 {
            let off = (flashes[i] - beeps[i]) - (source_flashes[i] - source_beeps[i]);
            println!("{name}: sound against picture off by {off:.1} ms");
            assert!(off.abs() <= 40.0, "{name}: flash at {} and beep at {}, off by {off}", flashes[i], beeps[i]);
        }
    }
}

#[test]
fn chunks_of_sound_are_cut_from_one_track_and_later_ones_alone_have_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = clip(dir.path(), "tone.mkv", "-f lavfi -i sine=frequency=440:sample_rate=48000:duration=17 -c:a flac");
    let facts = facts(&path);
    let plan = plan(&facts, &[], Some(&[1, 2, 1, 1]));
    let kept = encode_audio(&path, &facts, &plan, 0).unwrap();
    let later = encode_audio(&path, &facts, &plan, 2).unwrap();
    let all = kept.objects.lock().unwrap();
    let some = later.objects.lock().unwrap();
    assert_eq!((all.len(), some.len()), (4, 2));
    assert!(some.iter().all(|(key, object)| all[key] == *object));
    drop(all);

    let made = kept.made("a0");
    let starts: Vec<u64> = made.iter().map(|m| m.start_ticks).collect();
    assert_eq!(starts, [0, 189 * 1024, 564 * 1024, 751 * 1024]);
    let frames: u64 = made.iter().map(|m| m.samples).sum();
    let planned = facts.duration_ns() * 48 / 1_000_000;
    assert!((frames - 1).abs_diff(planned.div_ceil(1024)) <= 1, "{frames} frames for {planned} samples");

    // A pure tone: no seam means every sample follows the sine of its neighbours.
    let out = kept.write(dir.path(), "a0");
    let samples = samples(&out);
    assert!((samples.len() as u64).abs_diff(planned) <= 1024, "{}", samples.len());
    let turn = 2.0 * (2.0 * std::f32::consts::PI * 440.0 / 48_000.0).cos();
    let body = &samples[4800..16 * 48_000];
    let worst = body.windows(3).map(|w| (w[2] - turn * w[1] + w[0]).abs()).fold(0.0, f32::max);
    assert!(worst < 0.01, "a seam of {worst}");
}

#[test]
fn late_short_and_broken_off_sound_is_silence_to_the_end_of_the_picture() {
    let dir = tempfile::tempdir().unwrap();
    let picture = "-f lavfi -i testsrc2=size=160x90:rate=25:duration=9";
    let sound = "-itsoffset 2.5 -f lavfi -i sine=frequency=440:duration=3";
    let path = clip(dir.path(), "late.mkv", &format!("{picture} {sound} -c:v libx264 -preset veryfast -c:a flac"));
    let facts = facts(&path);
    let plan = plan(&facts, &[], None);
    let kept = encode_audio(&path, &facts, &plan, 0).unwrap();
    let samples = samples(&kept.write(dir.path(), "a0"));
    assert!((samples.len() as i64 - 9 * 48_000).abs() <= 1024, "{}", samples.len());
    let loud = |from_ms: usize, to_ms: usize| samples[from_ms * 48..to_ms * 48].iter().any(|s| s.abs() > 0.02);
    assert!(!loud(0, 2480) && loud(2490, 2530) && loud(5400, 5490) && !loud(5530, 8900));
}

#[test]
fn five_channels_are_mixed_down_and_none_is_lost_or_turned_over() {
    let dir = tempfile::tempdir().unwrap();
    for channel in 0..5 {
        let pan = (0..6).map(|c| format!("c{c}={}*c0", u32::from(c == if channel == 3 { 4 } else { channel })));
        let pan = pan.collect::<Vec<_>>().join("|");
        let path = clip(
            dir.path(),
            "five.mkv",
            &format!("-f lavfi -i sine=frequency=440:duration=1 -af pan=5.1|{pan} -c:a flac"),
        );
        let facts = facts(&path);
        let plan = plan(&facts, &[], None);
        let kept = encode_audio(&path, &facts, &plan, 0).unwrap();
        let loudest = samples(&kept.write(dir.path(), "a0")).iter().fold(0.0f32, |m, s| m.max(s.abs()));
        // The tone has an eighth of full scale, and both sides are heard at once here: the front ones at 0.414 of that on one
        // side, the centre at 0.293 on both, those behind at 0.293 on one.
        let expected = [0.0405, 0.0405, 0.0573, 0.0286, 0.0286][channel];
        assert!((loudest / expected - 1.0).abs() < 0.05, "channel {channel}: {loudest}");
    }
}

#[test]
fn an_mp3_behind_an_mp3_is_heard_too() {
    let dir = tempfile::tempdir().unwrap();
    let one = std::fs::read(clip(dir.path(), "one.mp3", "-f lavfi -i sine=r=48000:d=2 -c:a libmp3lame")).unwrap();
    let path = dir.path().join("two.mp3");
    std::fs::write(&path, one.repeat(2)).unwrap();
    let facts = facts(&path);
    assert!(facts.duration_ns().abs_diff(4_000_000_000) < 200_000_000, "{facts:?}");
    let kept = encode_audio(&path, &facts, &plan(&facts, &[], None), 0).unwrap();
    let heard = samples(&kept.write(dir.path(), "a0"))[3 * 48_000..].iter().any(|sample| sample.abs() > 0.05);
    assert!(heard, "the second one is silent");
}

#[test]
fn sound_alone_lasts_as_long_as_others_hear_it() {
    let dir = tempfile::tempdir().unwrap();
    for (name, coding) in [
        ("a.mp3", "-c:a libmp3lame"),
        ("b.mp3", "-c:a libmp3lame -ar 22050 -ac 2"),
        ("a.flac", "-c:a flac"),
        ("a.m4a", "-c:a aac"),
        ("a.opus", "-c:a libopus"),
        ("a.webm", "-c:a libopus"),
        ("a.ogg", "-c:a libvorbis"),
        ("a.wav", "-c:a pcm_s16le"),
        ("a.mka", "-c:a aac"),
        // Their last blocks are filled up, or shorter than the others.
        ("b.mka", "-c:a libmp3lame"),
        ("c.mka", "-c:a libopus -frame_duration 60"),
        ("d.mka", "-c:a flac"),
        ("e.mka", "-c:a pcm_s16le"),
        ("a.aac", "-c:a aac"),
    ] {
        // 1 s of silence, then a tone to the end: both ends are to be in their places.
        let path = clip(dir.path(), name, &format!("-f lavfi -i sine=r=44100:d=6.37 -af adelay=1000:all=1 {coding}"));
        let facts = facts(&path);
        // Bare sound is handed out before it is known what it is, or after: 7 of 9 MP3s were refused as without streams.
        (0..3).for_each(|_| assert_eq!(crate::support::facts(&path), facts, "{name}"));
        let plan = plan(&facts, &[], None);
        let kept = encode_audio(&path, &facts, &plan, 0).unwrap();
        let frames: u64 = kept.made("a0").iter().map(|made| made.samples).sum();
        let length_ms = (frames - 1) as f64 * 1024.0 / 48.0;
        let theirs_ms = heard(&path) as f64 / 48.0;
        assert!((length_ms - theirs_ms).abs() <= 21.4, "{name}: {length_ms} ms where ffmpeg hears {theirs_ms}");
        let begins_ms = beeps_ms(&kept.write(dir.path(), "a0"))[0];
        // MP3 in Matroska says nothing of its encoder's delay, 25 ms, and everybody hears it.
        let late_ms = if name == "b.mka" { 25.0 } else { 0.0 };
        assert!((begins_ms - late_ms - 1000.0).abs() < 24.0, "{name}: begins at {begins_ms} ms");
    }
}

#[test]
fn tags_before_and_behind_an_mp3_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let noise = "-f lavfi -i anoisesrc=color=brown:amplitude=0.5:seed=7:r=44100:d=5";
    let cover = "-f lavfi -i nullsrc=size=900x900:duration=0.04,geq=random(1)*255:128:128 -map 0 -map 1 -c:v png";
    let mut paths = vec![
        clip(dir.path(), "no_info.mp3", &format!("{noise} -c:a libmp3lame -write_xing 0 -metadata title=A")),
        clip(dir.path(), "v3.mp3", &format!("{noise} -c:a libmp3lame -id3v2_version 3 -metadata title=A")),
        clip(
            dir.path(),
            "v1.mp3",
            &format!("{noise} -c:a libmp3lame -id3v2_version 0 -write_id3v1 1 -metadata title=A"),
        ),
        clip(dir.path(), "cover.mp3", &format!("{noise} {cover} -c:a libmp3lame -disposition:v attached_pic")),
    ];
    // APEv2 with its head, one item and its foot, then ID3v1.
    let mut tagged = std::fs::read(&paths[1]).unwrap();
    let mark = |flags: u32| {
        let numbers = [2000_u32, 14 + 32, 1, flags].map(u32::to_le_bytes).concat();
        [&b"APETAGEX"[..], &numbers, &[0; 8]].concat()
    };
    let item = [&[4_u32, 0].map(u32::to_le_bytes).concat()[..], b"T\0Song"].concat();
    tagged.extend([mark(0xa000_0000), item, mark(0x8000_0000), b"TAG".to_vec(), vec![b'x'; 125]].concat());
    paths.push(dir.path().join("ape.mp3"));
    std::fs::write(&paths[4], tagged).unwrap();
    let found: Vec<String> = paths.iter().flat_map(|path| crate::compare::wrong(dir.path(), path)).collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn sound_whose_parser_could_hand_out_several_codecs_gets_the_decoder_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let noise = "-f lavfi -i anoisesrc=color=brown:amplitude=0.5:seed=7:r=48000:d=2";
    let mut found = Vec::new();
    for (name, codec) in [("eac3.mp4", "-c:a eac3"), ("eac3.mkv", "-c:a eac3 -ac 6"), ("eac3.ts", "-c:a eac3")] {
        found.extend(crate::compare::wrong(dir.path(), &clip(dir.path(), name, &format!("{noise} {codec}"))));
    }
    // As it is broadcast: the codec's settings lie in every frame.
    let bare = clip(dir.path(), "bare.latm", &format!("{noise} -c:a aac -f latm -smc-interval 1"));
    let latm = clip(dir.path(), "latm.ts", &format!("-f loas -i {} -c copy", bare.display()));
    found.extend(crate::compare::wrong(dir.path(), &latm));
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn adpcm_of_avi_and_wav_is_heard_to_its_end_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let noise = "-f lavfi -i anoisesrc=color=brown:amplitude=0.5:seed=7:r=22050:d=4";
    let mut found = Vec::new();
    for (name, channels, codec) in [
        ("mono.avi", 1, "adpcm_ms"),
        ("mono.wav", 1, "adpcm_ima_wav"),
        ("stereo.avi", 2, "adpcm_ima_wav"),
        ("stereo.wav", 2, "adpcm_ms"),
    ] {
        let path = clip(dir.path(), name, &format!("{noise} -ac {channels} -c:a {codec}"));
        found.extend(crate::compare::wrong(dir.path(), &path));
        let length_ms = crate::support::facts(&path).duration_ns() / 1_000_000;
        // Its last block is a whole one.
        assert!((4_000..4_100).contains(&length_ms), "{name}: {length_ms} ms");
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn sound_that_a_transport_stream_calls_private_data_or_by_a_discs_type_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let sources = "-f lavfi -i testsrc2=s=64x48:r=25:d=2 -f lavfi -i sine=r=48000:d=2";
    for codec in ["aac", "mp2", "dca", "s302m"] {
        let coding = format!("{sources} -c:v libx264 -preset veryfast -c:a {codec} -ac 2 -strict -2 -f mpegts");
        let heard = ["", " -mpegts_m2ts_mode 1"].map(|mode| {
            let path = clip(dir.path(), "a.ts", &format!("{coding}{mode}"));
            let facts = facts(&path);
            assert!(facts.video.is_some() && facts.audio_streams == 1, "{codec}{mode}: {facts:?}");
            let kept = encode_audio(&path, &facts, &plan(&facts, &[], None), 0).unwrap();
            samples(&kept.write(dir.path(), "a0"))
        });
        assert!(heard[1].iter().any(|sample| sample.abs() > 0.05), "{codec}");
        let [plain, private] = heard.map(|samples| samples.iter().map(|sample| sample.abs()).sum::<f32>());
        assert!((plain - private).abs() < plain / 20.0, "{codec}: {plain} {private}");
    }
}

#[test]
fn uncompressed_sound_of_a_dvd_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let sources = "-f lavfi -i testsrc2=s=64x48:r=25:d=2 -f lavfi -i sine=r=48000:d=2";
    let path = clip(dir.path(), "a.vob", &format!("{sources} -c:v mpeg2video -c:a pcm_dvd -ac 2"));
    let facts = facts(&path);
    assert!(facts.video.is_some(), "{facts:?}");
    let kept = encode_audio(&path, &facts, &plan(&facts, &[], None), 0).unwrap();
    let heard = samples(&kept.write(dir.path(), "a0")).iter().filter(|sample| sample.abs() > 0.05).count();
    assert!(heard > 48_000, "{heard} samples of two seconds of sound");
}

#[test]
fn uncompressed_sound_of_camcorders_is_heard_whatever_its_form() {
    let dir = tempfile::tempdir().unwrap();
    let sources =
        "-f lavfi -i testsrc2=s=64x48:r=25:d=2 -f lavfi -i anoisesrc=color=brown:amplitude=0.5:seed=7:r=48000:d=2";
    let mut found = Vec::new();
    for (name, form) in [("a.ts", "s16 -ac 1"), ("b.ts", "s16 -ac 2"), ("c.ts", "s32 -ac 1"), ("d.ts", "s32 -ac 6")] {
        let coding = format!("{sources} -c:v mpeg2video -c:a pcm_bluray -sample_fmt {form} -mpegts_m2ts_mode 1");
        found.extend(crate::compare::wrong(dir.path(), &clip(dir.path(), name, &coding)));
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn sound_before_the_first_picture_of_a_transport_stream_is_heard_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let sources =
        "-f lavfi -i testsrc2=s=64x48:r=25:d=2 -f lavfi -i anoisesrc=color=brown:amplitude=0.5:seed=7:r=48000:d=2";
    // What an encoder of AAC puts before its sound.
    let path = clip(dir.path(), "a.ts", &format!("{sources} -c:v libx264 -preset ultrafast -c:a aac"));
    let facts = facts(&path);
    let (video, audio) = (facts.video.as_ref().unwrap(), facts.audio.as_ref().unwrap());
    assert_eq!((video.first_ns - audio.first_ns) / 1_000, 21_333, "{facts:?}");
    let heard = samples(&encode_audio(&path, &facts, &plan(&facts, &[], None), 0).unwrap().write(dir.path(), "a0"));
    let from = (facts.end_ns - facts.zero_ns) * 48 / 1_000_000;
    assert!((heard.len() as u64).abs_diff(from) <= 1024, "{} of {from} samples", heard.len());
}

#[test]
fn of_several_programmes_the_first_with_a_picture_is_taken_and_the_others_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let sources = "-f lavfi -i sine=r=48000:d=2 -f lavfi -i testsrc2=s=64x48:r=25:d=2 -f lavfi -i sine=880:r=48000:d=2";
    let programmes = "-map 0 -map 1 -map 2 -program title=radio:st=0 -program title=tv:st=1:st=2";
    let path = clip(dir.path(), "a.ts", &format!("{sources} {programmes} -c:v mpeg2video -c:a mp2"));
    let facts = facts(&path);
    assert_eq!(facts.video.as_ref().map(|video| (video.width, video.frames)), Some((64, Some(50))));
    assert_eq!((facts.video_streams, facts.audio_streams), (1, 2), "{facts:?}");
    let kept = encode_audio(&path, &facts, &plan(&facts, &[], None), 0).unwrap();
    let heard = samples(&kept.write(dir.path(), "a0"));
    let turns = heard[24_000..72_000].windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count();
    assert!(turns.abs_diff(880) < 5, "{turns} turns in a second: the television's sound");
}

#[test]
fn sound_that_begins_or_changes_in_the_middle_of_a_transport_stream_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let sources = "-f lavfi -i testsrc2=s=64x48:r=25:d=2 -f lavfi -i sine=r=48000:d=2";
    let part = |name: &str, coding: &str, at: u32| {
        let coding = format!("{sources} -map 0 {coding} -c:v mpeg2video -mpegts_start_pid 512 -output_ts_offset {at}");
        std::fs::read(clip(dir.path(), name, &coding)).unwrap()
    };
    let [none, aac, mp2] = ["", "-map 1 -c:a aac", "-map 1 -c:a mp2"].map(|coding| part("p.ts", coding, 0));
    let later = part("p.ts", "-map 1 -c:a aac", 2);
    let path = dir.path().join("a.ts");
    for (parts, taken, counted) in [([&none, &later], false, 1), ([&mp2, &later], true, 2), ([&aac, &later], true, 1)] {
        std::fs::write(&path, parts.map(|part| &part[..]).concat()).unwrap();
        let facts = facts(&path);
        assert_eq!((facts.audio.is_some(), facts.audio_streams), (taken, counted), "{facts:?}");
    }
}

/// Samples at 48 kHz that ffmpeg hears in a file.
fn heard(path: &std::path::Path) -> usize {
    let args = ["-v", "error", "-i", path.to_str().unwrap(), "-ac", "1", "-ar", "48000", "-f", "f32le", "-"];
    std::process::Command::new("ffmpeg").args(args).output().unwrap().stdout.len() / size_of::<f32>()
}

/// What was inspected is not always what is met: here the header changed between the two.
#[test]
fn sound_in_a_form_that_nothing_takes_is_the_sources_fault() {
    let dir = tempfile::tempdir().unwrap();
    let path = clip(dir.path(), "a.wav", "-f lavfi -i sine=r=48000:d=1");
    let facts = facts(&path);
    let plan = plan(&facts, &[], None);
    let mut file = std::fs::read(&path).unwrap();
    let rate = file.windows(4).position(|name| name == b"fmt ").unwrap() + 12;
    file[rate..rate + 4].fill(0xff);
    std::fs::write(&path, file).unwrap();
    let failure = encode_audio(&path, &facts, &plan, 0).map(drop).unwrap_err();
    assert_eq!(failure.code, FailureCode::SourceUndecodable, "{failure}");
}
