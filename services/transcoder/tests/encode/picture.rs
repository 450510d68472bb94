//! The picture against ffmpeg: frames, times, looks, chunks, bytes.

use std::path::{Path, PathBuf};

use spool_proto::media::*;
use spool_transcoder::order::FailureCode;

use crate::support::*;

const X264: &str = "-c:v libx264 -preset veryfast -pix_fmt yuv420p";

fn open_gop_mkv(dir: &Path) -> PathBuf {
    let source = "-f lavfi -i testsrc2=size=320x180:rate=24000/1001:duration=17";
    clip(dir, "open.mkv", &format!("{source} {X264} -g 33 -bf 3 -x264-params open-gop=1:keyint=33"))
}

/// Frames dropped and moved unevenly: between 16 and 200 ms apart.
fn vfr_mp4(dir: &Path) -> PathBuf {
    let source = "-f lavfi -i testsrc2=size=320x180:rate=60:duration=17";
    let uneven = "-vf select='lt(mod(n*7919\\,11)\\,4)' -vsync vfr -enc_time_base 1/600 -video_track_timescale 600";
    clip(dir, "vfr.mp4", &format!("{source} {uneven} {X264} -g 70"))
}

/// ffmpeg 5.1 has no `-display_rotation`; the tag does the same.
fn rotated_by_tag(dir: &Path) -> PathBuf {
    let source = "-f lavfi -i testsrc2=size=320x180:rate=30000/1001:duration=17";
    let flat = clip(dir, "flat.mov", &format!("{source} {X264} -g 50"));
    clip(dir, "rotated.mov", &format!("-i {} -c copy -metadata:s:v:0 rotate=90", flat.display()))
}

#[test]
fn a_constant_rate_clip_keeps_every_frame_and_looks_like_its_source() {
    let dir = tempfile::tempdir().unwrap();
    let path =
        clip(dir.path(), "cfr.mp4", &format!("-f lavfi -i testsrc2=size=640x360:rate=30000/1001:duration=9 {X264}"));
    let facts = facts(&path);
    let plan = plan(&facts, &[360, 240], None);
    let kept = encode_whole(&path, &facts, &plan);
    for rung in &plan.rungs {
        let out = kept.write(dir.path(), &rung.id);
        assert_eq!(complaints(&out), "");
        assert_eq!(decoded_us(&out), decoded_us(&path), "{}", rung.id);
        let ssim = ssim(&out, &path, &facts, "", rung);
        assert!(ssim > 0.95, "{}: {ssim}", rung.id);
    }
}

/// Whole against chunks made apart and out of order: frames, times, keyframes; then the same order again: bytes.
fn check_chunks(dir: &Path, path: &Path) {
    let facts = facts(path);
    let plan = plan(&facts, &[180], Some(&[1, 2, 1, 1]));
    assert_eq!(plan.cut, Cut::Exact);
    let whole = encode_whole(path, &facts, &plan);
    let apart = Kept::default();
    for chunk in [2, 0, 3, 1] {
        apart.absorb(encode_video(path, &facts, &plan, chunk..=chunk).unwrap());
    }
    apart.hashes.lock().unwrap().sort_unstable();
    assert_eq!(*whole.hashes.lock().unwrap(), *apart.hashes.lock().unwrap(), "raw frames of {}", path.display());
    assert!(whole.joined("v180") == apart.joined("v180"), "bytes of {}", path.display());

    let out = apart.write(dir, "v180");
    assert_eq!(complaints(&out), "");
    let zero = (facts.video.as_ref().unwrap().first_ns - facts.zero_ns) as i64 / 1000;
    let (expected, seen) = (decoded_us(path), decoded_us(&out));
    let start = expected[0];
    let off = expected.iter().zip(&seen).map(|(e, s)| (e - start + zero - s).abs()).max().unwrap();
    assert_eq!(seen.len(), expected.len());
    assert!(off <= 1000, "times of {} off by {off} us", path.display());
    let ssim = ssim(&out, path, &facts, "", &plan.rungs[0]);
    assert!(ssim > 0.95, "{}: {ssim}", path.display());
}

#[test]
fn chunks_of_an_open_gop_mkv_join_to_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    check_chunks(dir.path(), &open_gop_mkv(dir.path()));
}

#[test]
fn chunks_of_a_variable_rate_mp4_join_to_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    check_chunks(dir.path(), &vfr_mp4(dir.path()));
}

#[test]
fn chunks_of_an_flv_join_to_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let source = "-f lavfi -i testsrc2=size=320x180:rate=25:duration=17";
    check_chunks(dir.path(), &clip(dir.path(), "a.flv", &format!("{source} {X264} -g 40 -bf 3")));
}

#[test]
fn chunks_of_a_rotated_mov_join_to_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = rotated_by_tag(dir.path());
    let video = facts(&path).video.unwrap();
    assert_eq!((video.display_width, video.display_height), (180, 320));
    check_chunks(dir.path(), &path);
}

#[test]
fn every_rendition_has_its_keyframes_on_the_same_frames_of_the_grid() {
    let dir = tempfile::tempdir().unwrap();
    let path = vfr_mp4(dir.path());
    let facts = facts(&path);
    let plan = plan(&facts, &[180, 90], None);
    let kept = encode_whole(&path, &facts, &plan);
    let keys = |rung: &str| {
        let out = kept.write(dir.path(), rung);
        let args =
            ["-v", "error", "-select_streams", "v:0", "-show_entries", "packet=pts_time,flags", "-of", "csv=p=0"];
        let text = run("ffprobe", &[&args[..], &[out.to_str().unwrap()]].concat());
        let keyframes = text.lines().filter(|l| l.contains('K'));
        keyframes.map(|l| l.split(',').next().unwrap().parse::<f64>().unwrap()).collect::<Vec<_>>()
    };
    let seen = keys("v180");
    assert_eq!(seen, keys("v90"));
    let times = decoded_us(&path);
    let first = times[0];
    let expected: Vec<f64> = (0..9)
        .map(|k| times.iter().find(|&&t| t - first + 1000 >= k * 2_000_000).map(|t| (t - first) as f64 / 1e6).unwrap())
        .collect();
    assert_eq!(seen.len(), expected.len(), "{seen:?} {expected:?}");
    assert!(seen.iter().zip(&expected).all(|(s, e)| (s - e).abs() < 0.001), "{seen:?} {expected:?}");
}

#[test]
fn slides_repeat_what_is_shown_at_a_segments_start_also_when_chunks_are_made_apart() {
    let dir = tempfile::tempdir().unwrap();
    let source = "-f lavfi -i testsrc2=size=320x180:rate=2/3:duration=27";
    let path = clip(dir.path(), "slides.mp4", &format!("{source} {X264} -g 250"));
    let facts = facts(&path);
    let plan = plan(&facts, &[180], Some(&[1, 2, 4]));
    let whole = encode_whole(&path, &facts, &plan);
    let apart = Kept::default();
    for chunk in [2, 1, 0] {
        apart.absorb(encode_video(&path, &facts, &plan, chunk..=chunk).unwrap());
    }
    assert!(whole.joined("v180") == apart.joined("v180"));
    let out = whole.write(dir.path(), "v180");
    // Frames each 1.5 s; segments at 4, 8, 16, 20 s fall between; 12 and 24 s are frames.
    let ms: Vec<i64> = decoded_us(&out).iter().map(|t| t / 1000).collect();
    let mut expected: Vec<i64> = (0..18).map(|i| i * 1500).chain([4000, 8000, 16_000, 20_000]).collect();
    expected.sort_unstable();
    assert_eq!(ms, expected);
}

#[test]
fn mirrored_and_turned_pictures_come_out_as_their_orientation_says() {
    let dir = tempfile::tempdir().unwrap();
    let path =
        clip(dir.path(), "a.mp4", &format!("-f lavfi -i testsrc2=size=320x180:rate=10:duration=1 {X264} -crf 10"));
    let upright = facts(&path);
    for (orientation, filter) in [
        (Orientation::Rotate90, "transpose=clock,"),
        (Orientation::Rotate180, "hflip,vflip,"),
        (Orientation::Rotate270, "transpose=cclock,"),
        (Orientation::FlipRotate0, "hflip,"),
        (Orientation::FlipRotate90, "hflip,transpose=clock,"),
        (Orientation::FlipRotate180, "vflip,"),
        (Orientation::FlipRotate270, "hflip,transpose=cclock,"),
    ] {
        let mut facts = upright.clone();
        let video = facts.video.as_mut().unwrap();
        video.orientation = orientation;
        if orientation.swaps_sides() {
            (video.display_width, video.display_height) = (180, 320);
        }
        let plan = plan(&facts, &[180], None);
        let kept = encode_whole(&path, &facts, &plan);
        let ssim = ssim(&kept.write(dir.path(), "v180"), &path, &facts, filter, &plan.rungs[0]);
        assert!(ssim > 0.95, "{orientation:?}: {ssim}");
    }
}

#[test]
fn pixels_that_are_not_square_colours_of_full_range_and_deep_samples_come_out_right() {
    let dir = tempfile::tempdir().unwrap();
    let base = "-f lavfi -i testsrc2=size=360x288:rate=25:duration=2";
    for (name, args) in [
        ("anamorphic.mp4", format!("{X264} -vf setsar=64/45 -crf 12")),
        ("full.mp4", "-c:v libx264 -preset veryfast -vf scale=out_range=full,format=yuvj420p -crf 12".to_owned()),
        ("deep.mp4", "-c:v libx264 -preset veryfast -pix_fmt yuv422p10le -crf 12".to_owned()),
        ("dense.mp4", "-c:v libx264 -preset veryfast -pix_fmt yuv444p -crf 12".to_owned()),
        ("odd.mkv", "-vf crop=161:121:0:0:exact=1 -c:v ffv1 -pix_fmt yuv444p".to_owned()),
    ] {
        let path = clip(dir.path(), name, &format!("{base} {args}"));
        let facts = facts(&path);
        let plan = plan(&facts, &[240], None);
        let kept = encode_whole(&path, &facts, &plan);
        let out = kept.write(dir.path(), "v240");
        let ssim = ssim(&out, &path, &facts, "", &plan.rungs[0]);
        assert!(ssim > 0.95, "{name}: {ssim}");
        let bright = |p: &Path| greys(p).iter().map(|&g| f64::from(g)).sum::<f64>() / 50.0;
        assert!((bright(&out) - bright(&path)).abs() < 2.0, "{name}: brightness {} of {}", bright(&out), bright(&path));
        assert_eq!(decoded_us(&out).len(), 50, "{name}");
    }
}

#[test]
fn prores_of_a_matroska_is_seen_at_its_times() {
    let dir = tempfile::tempdir().unwrap();
    let sources = "-f lavfi -i testsrc2=s=160x90:r=30000/1001:d=2 -f lavfi -i sine=r=48000:d=2 -c:a flac";
    let path = clip(dir.path(), "a.mkv", &format!("{sources} -c:v prores_ks -profile:v 1"));
    let facts = facts(&path);
    assert_eq!((facts.cut, facts.video.as_ref().and_then(|video| video.frames)), (Cut::Whole, Some(60)), "{facts:?}");
    let plan = plan(&facts, &[90], None);
    let out = encode_whole(&path, &facts, &plan).write(dir.path(), "v90");
    let late = decoded_us(&out).iter().enumerate().map(|(n, at)| (at - n as i64 * 33_367).abs()).max();
    assert!(late < Some(2_000), "{late:?} microseconds");
    let ssim = ssim(&out, &path, &facts, "", &plan.rungs[0]);
    assert!(ssim > 0.95, "{ssim}");
}

#[test]
fn a_program_stream_shows_its_pictures_though_it_does_not_say_how_they_are_coded() {
    let dir = tempfile::tempdir().unwrap();
    let sources = "-f lavfi -i testsrc2=s=160x90:r=25:d=2 -f lavfi -i sine=r=48000:d=2 -c:a mp2 -f vob";
    for coding in ["libx264 -preset veryfast", "libx265 -preset ultrafast -x265-params log-level=none", "mpeg4"] {
        let path = clip(dir.path(), "a.vob", &format!("{sources} -c:v {coding}"));
        let facts = facts(&path);
        assert!(facts.video.is_some() && facts.audio.is_some(), "{coding}: {facts:?}");
        let plan = plan(&facts, &[90], None);
        let kept = encode_whole(&path, &facts, &plan);
        let frames: u64 = kept.made("v90").iter().map(|made| made.samples).sum();
        assert_eq!(frames, 50, "{coding}");
        let ssim = ssim(&kept.write(dir.path(), "v90"), &path, &facts, "", &plan.rungs[0]);
        assert!(ssim > 0.95, "{coding}: {ssim}");
    }
}

#[test]
fn interlaced_pictures_keep_their_frames_and_times() {
    let dir = tempfile::tempdir().unwrap();
    let source = "-f lavfi -i testsrc2=size=720x576:rate=50:duration=3 -vf tinterlace=4,fieldorder=tff";
    let path = clip(
        dir.path(),
        "i.mkv",
        &format!(
            "{source} -c:v libx264 -preset veryfast -flags +ilme+ildct -x264-params tff=1 -pix_fmt yuv420p -crf 12"
        ),
    );
    let facts = facts(&path);
    assert!(facts.video.as_ref().unwrap().interlaced);
    let plan = plan(&facts, &[288], None);
    let kept = encode_whole(&path, &facts, &plan);
    let out = kept.write(dir.path(), "v288");
    assert_eq!(decoded_us(&out).len(), 75);
    let ssim = ssim(&out, &path, &facts, "bwdif=0,", &plan.rungs[0]);
    assert!(ssim > 0.95, "{ssim}");
}

#[test]
fn above_sixty_frames_a_second_every_second_one_is_kept_wherever_reading_starts() {
    let dir = tempfile::tempdir().unwrap();
    let path =
        clip(dir.path(), "fast.mp4", &format!("-f lavfi -i testsrc2=size=160x90:rate=120:duration=9 {X264} -g 100"));
    let facts = facts(&path);
    let mut plan = plan(&facts, &[90], Some(&[1, 1, 1]));
    plan.video.as_mut().unwrap().keep_every = 2;
    let whole = encode_whole(&path, &facts, &plan);
    let apart = Kept::default();
    for chunk in 0..3 {
        apart.absorb(encode_video(&path, &facts, &plan, chunk..=chunk).unwrap());
    }
    assert_eq!(*whole.hashes.lock().unwrap(), *apart.hashes.lock().unwrap());
    assert_eq!(whole.hashes.lock().unwrap().len(), 540);
}

#[test]
fn a_picture_that_ends_before_its_time_is_damage_and_none_is_undecodable() {
    let dir = tempfile::tempdir().unwrap();
    let path = clip(
        dir.path(),
        "cut.mp4",
        &format!("-f lavfi -i testsrc2=size=320x180:rate=25:duration=12 {X264} -g 25 -movflags +faststart"),
    );
    let facts = facts(&path);
    let plan = plan(&facts, &[180], None);
    let bytes = std::fs::read(&path).unwrap();
    let half = dir.path().join("half.mp4");
    std::fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
    let damaged = encode_video(&half, &facts, &plan, 0..=plan.chunk_count() - 1).err().unwrap();
    assert_eq!(damaged.code, FailureCode::SourceDamaged, "{damaged}");
    assert_eq!(damaged.params["expected"], "12.0 s");

    let mut noise = bytes;
    let mdat = noise.windows(4).position(|w| w == b"mdat").unwrap();
    noise[mdat + 4..].iter_mut().enumerate().for_each(|(i, b)| *b = (i * 31 % 253) as u8);
    std::fs::write(&half, &noise).unwrap();
    let nothing = encode_video(&half, &facts, &plan, 0..=0).err().unwrap();
    assert_eq!(nothing.code, FailureCode::SourceUndecodable, "{nothing}");
}

#[test]
fn hdr_becomes_bt709_with_mid_tones_where_they_were() {
    let dir = tempfile::tempdir().unwrap();
    for (transfer, card) in [("arib-std-b67", 0.38), ("smpte2084", 0.38)] {
        // A grey card of that signal: 10-bit limited code 64 + 876 · signal.
        let code = 64 + (876.0 * card) as u32;
        let source =
            format!("-f lavfi -i color=black:s=320x180:r=25:d=1,format=yuv420p10le,geq=lum={code}:cb=512:cr=512");
        let tags = format!("-color_primaries bt2020 -color_trc {transfer} -colorspace bt2020nc -color_range tv");
        let x265 = format!(
            "-c:v libx265 -preset ultrafast -x265-params log-level=error:colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:range=limited"
        );
        let path = clip(dir.path(), "hdr.mp4", &format!("{source} {x265} {tags} -tag:v hvc1"));
        let facts = facts(&path);
        assert_ne!(facts.video.as_ref().unwrap().dynamic_range, DynamicRange::Sdr, "{transfer}");
        let plan = plan(&facts, &[180], None);
        let kept = encode_whole(&path, &facts, &plan);
        let out = kept.write(dir.path(), "v180");
        let text = run("ffprobe", &["-v", "error", "-show_streams", out.to_str().unwrap()]);
        for line in ["color_transfer=bt709", "color_primaries=bt709", "color_space=bt709", "color_range=tv"] {
            assert!(text.contains(line), "{transfer}: {line} in {text}");
        }
        // 42 % signal in limited range is 108; the grey filter above may or may not expand the range.
        let grey = greys(&out)[10];
        assert!((98..=120).contains(&grey), "{transfer}: {grey}");
    }
}
