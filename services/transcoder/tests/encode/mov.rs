//! MP4 and MOV whose index is right and of which `qtdemux` makes too little: trimmed films (their edit begins inside a
//! group of pictures) and raw sound at high rates.

use std::path::{Path, PathBuf};

use crate::compare::wrong;
use crate::support::*;

/// A film with a keyframe every 10 s, whose sound is like itself nowhere else.
fn long_groups(dir: &Path, name: &str, coding: &str) -> PathBuf {
    let picture = "-f lavfi -i testsrc2=size=320x180:rate=25:duration=12";
    let sound = "-f lavfi -i anoisesrc=color=brown:amplitude=0.5:seed=7:r=48000:d=12";
    clip(dir, name, &format!("{picture} {sound} -c:a aac -b:a 128k {coding}"))
}

const H264: &str = "-c:v libx264 -preset ultrafast -g 250 -bf 2 -x264-params scenecut=0";
const HEVC: &str = "-c:v libx265 -preset ultrafast -tag:v hvc1 -x265-params keyint=250:scenecut=0:log-level=none";

#[test]
fn a_trimmed_film_keeps_its_pictures_and_its_sound_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let whole = long_groups(dir.path(), "whole.mp4", H264);
    let mut found = Vec::new();
    for (name, trim) in [
        ("a.mp4", "-ss 0.1"),
        ("b.mp4", "-ss 2.5"),
        ("c.mp4", "-ss 4.8"),
        ("d.mov", "-ss 4.8"),
        ("mute.mp4", "-ss 4.8 -an"),
        ("silent.m4a", "-ss 4.8 -vn"),
        // Both ends.
        ("e.mp4", "-ss 2.5 -to 7.3"),
        ("f.mov", "-ss 7.9 -to 11.1"),
        // In the second group.
        ("g.mp4", "-ss 10.52"),
    ] {
        let path = clip(dir.path(), name, &format!("{trim} -i {} -c copy", whole.display()));
        found.extend(wrong(dir.path(), &path));
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_trimmed_hevc_film_keeps_its_end_too() {
    let dir = tempfile::tempdir().unwrap();
    let whole = long_groups(dir.path(), "whole.mp4", HEVC);
    let path = clip(dir.path(), "a.mp4", &format!("-ss 5.2 -i {} -c copy -tag:v hvc1", whole.display()));
    assert_eq!(wrong(dir.path(), &path), Vec::<String>::new());
}

#[test]
fn chunks_of_a_trimmed_film_made_alone_have_the_bytes_of_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let whole = long_groups(dir.path(), "whole.mp4", &format!("{H264} -threads 1"));
    let path = clip(dir.path(), "a.mp4", &format!("-ss 1.3 -i {} -c copy", whole.display()));
    let facts = facts(&path);
    let plan = plan(&facts, &[120], Some(&[1, 1, 1]));
    let together = encode_whole(&path, &facts, &plan);
    let apart = Kept::default();
    for chunk in 0..3 {
        apart.absorb(encode_video(&path, &facts, &plan, chunk..=chunk).unwrap());
    }
    assert_eq!(*together.objects.lock().unwrap(), *apart.objects.lock().unwrap());
}

#[test]
fn raw_sound_above_65535_a_second_is_heard_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let picture = "-f lavfi -i testsrc2=size=160x90:rate=25:duration=4 -c:v mpeg4";
    let noise = |rate: u32, seconds: u32| {
        format!("-f lavfi -i anoisesrc=color=brown:amplitude=0.5:seed=7:r={rate}:d={seconds}")
    };
    let mut found = Vec::new();
    for (name, rate, coding) in [
        ("a.mov", 88_200, "-c:a pcm_s16le"),
        ("b.mov", 96_000, "-c:a pcm_s24le -ac 2"),
        ("c.mov", 192_000, "-c:a pcm_s16be -ac 2 -movflags +faststart"),
        ("d.mov", 96_000, "-c:a pcm_f32le"),
    ] {
        let path = clip(dir.path(), name, &format!("{} {picture} {coding}", noise(rate, 4)));
        found.extend(wrong(dir.path(), &path));
    }
    let whole = dir.path().join("b.mov");
    let trimmed = clip(dir.path(), "trimmed.mov", &format!("-ss 1.3 -i {} -c copy", whole.display()));
    found.extend(wrong(dir.path(), &trimmed));
    // The index is the last box, and says of itself no more than that.
    let mut bytes = std::fs::read(&whole).unwrap();
    let index = bytes.windows(4).rposition(|name| name == b"moov").unwrap() - 4;
    bytes[index..index + 4].fill(0);
    let open = dir.path().join("open.mov");
    std::fs::write(&open, bytes).unwrap();
    found.extend(wrong(dir.path(), &open));
    // More samples than a demuxer keeps one by one.
    let long = clip(dir.path(), "long.mov", &format!("{} -c:a pcm_s16le", noise(96_000, 90)));
    found.extend(wrong(dir.path(), &long));
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn dnxhr_is_seen_as_dnxhd_is() {
    let dir = tempfile::tempdir().unwrap();
    let picture =
        "-f lavfi -i testsrc2=size=960x540:rate=25:duration=2 -f lavfi -i anoisesrc=color=brown:seed=7:r=48000:d=2";
    for (name, format, profile) in [("a.mov", "yuv422p", "dnxhr_sq"), ("b.mov", "yuv422p10le", "dnxhr_hqx")] {
        let coding = format!("-pix_fmt {format} -c:v dnxhd -profile:v {profile} -c:a pcm_s16le");
        let path = clip(dir.path(), name, &format!("{picture} {coding}"));
        assert_eq!(wrong(dir.path(), &path), Vec::<String>::new());
        let facts = facts(&path);
        let rung = &plan(&facts, &[240], None).rungs[0];
        let out = encode_whole(&path, &facts, &plan(&facts, &[240], None)).write(dir.path(), &rung.id);
        let alike = ssim(&out, &path, &facts, "", rung);
        assert!(alike > 0.95, "{name}: {alike}");
    }
}

/// Bytes as zlib packs them (RFC 1950) without making them shorter.
fn packed(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    let (a, b) = bytes.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (a + b) % 65_521)
    });
    let lengths = [length.to_le_bytes(), (!length).to_le_bytes()].concat();
    [&[0x78, 1, 1], &lengths[..], bytes, &(b << 16 | a).to_be_bytes()].concat()
}

#[test]
fn an_index_that_is_compressed_is_read_too() {
    let dir = tempfile::tempdir().unwrap();
    let sources =
        "-f lavfi -i testsrc2=s=64x48:r=25:d=2 -f lavfi -i anoisesrc=color=brown:amplitude=0.5:seed=7:r=48000:d=2";
    let path = clip(dir.path(), "a.mov", &format!("{sources} -c:v mpeg4 -c:a aac"));
    let file = std::fs::read(&path).unwrap();
    // The index is the last box.
    let at = file.windows(4).rposition(|name| name == b"moov").unwrap() - 4;
    let boxed = |name: &[u8; 4], body: &[u8]| [&(body.len() as u32 + 8).to_be_bytes()[..], name, body].concat();
    let index = [&((file.len() - at) as u32).to_be_bytes()[..], &packed(&file[at..])].concat();
    let index = boxed(b"cmov", &[boxed(b"dcom", b"zlib"), boxed(b"cmvd", &index)].concat());
    std::fs::write(&path, [&file[..at], &boxed(b"moov", &index)].concat()).unwrap();
    assert_eq!(wrong(dir.path(), &path), Vec::<String>::new());
}

#[test]
fn a_track_of_an_unknown_codec_beside_a_known_one_is_left_out_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let sources =
        "-f lavfi -i testsrc2=s=64x48:r=25:d=2 -f lavfi -i anoisesrc=color=brown:amplitude=0.5:seed=7:r=48000:d=2";
    let path = clip(dir.path(), "a.mov", &format!("{sources} -map 0 -map 0 -map 1 -map 1 -c:v mpeg4 -c:a aac"));
    let file = std::fs::read(&path).unwrap();
    // As phones put spatial sound beside plain sound, and cameras a codec of their own beside a small picture.
    for (name, number, chosen) in
        [(b"mp4a", 0, (0, 1)), (b"mp4a", 1, (0, 0)), (b"mp4v", 0, (1, 0)), (b"mp4v", 1, (0, 0))]
    {
        let named = |at: &usize| &file[at - 12..at - 8] == b"stsd" || &file[at - 16..at - 12] == b"stsd";
        let places = (20..file.len() - 4).filter(|at| &file[*at..at + 4] == name).filter(named);
        let at = places.clone().nth(number).unwrap();
        assert_eq!(places.count(), 2);
        let mut other = file.clone();
        other[at..at + 4].copy_from_slice(b"apac");
        std::fs::write(&path, other).unwrap();
        let facts = facts(&path);
        let taken = (facts.video.as_ref().unwrap().stream, facts.audio.as_ref().unwrap().stream);
        assert_eq!((taken, facts.video_streams, facts.audio_streams), (chosen, 2, 2), "{facts:?}");
        encode_audio(&path, &facts, &plan(&facts, &[48], None), 0).unwrap();
        encode_whole(&path, &facts, &plan(&facts, &[48], None));
    }
}
