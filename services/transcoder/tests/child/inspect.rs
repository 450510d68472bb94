//! What inspecting says, by the caged child.

use std::time::{Duration, Instant};

use serde_json::Value;
use spool_kit::testing::shared_media;
use spool_proto::media::{Container, Cut, Orientation, SourceFacts};
use spool_transcoder::order::{Failure, FailureCode, InspectLimits};

use crate::support::{Nest, Source, clip};

/// The bound for a file of any kind.
const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn every_shared_file_is_what_its_manifest_says() {
    let Some(dir) = shared_media("what each of its files is, as inspecting finds it") else { return };
    let manifest: Value = serde_json::from_slice(&std::fs::read(dir.join("MANIFEST.json")).unwrap()).unwrap();
    let nest = Nest::new(|_| {});
    let mut wrong = Vec::new();
    for file in manifest["files"].as_array().unwrap() {
        let name = file["name"].as_str().unwrap();
        let started = Instant::now();
        let inspected = nest.inspect(Source::file(&dir.join(name))).await;
        let took = started.elapsed();
        println!("{name:50} {took:>10.2?} {}", short(&inspected));
        if took > WITHIN {
            wrong.push(format!("{name}: {took:?}"));
        }
        for complaint in compare(file, &inspected) {
            wrong.push(format!("{name}: {complaint}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lasts_longer_than_is_taken_is_refused_whatever_holds_it() {
    let nest = Nest::new(|_| {});
    for (name, coding) in
        [("a.mp4", "-c:v libx264"), ("a.mkv", "-c:v libx264"), ("a.ts", "-c:v libx264"), ("a.wav", "-vn")]
    {
        let sources = "-f lavfi -i color=s=64x48:r=25:d=2 -f lavfi -i sine=r=48000:d=2";
        let path = clip(nest.dir.path(), name, &format!("{sources} {coding}"));
        let within = |ms| InspectLimits { max_duration_ms: Some(ms), ..InspectLimits::default() };
        let refused = nest.inspect_within(within(1_000), Source::file(&path)).await.unwrap_err();
        assert_eq!(refused.code, FailureCode::SourceTooLong, "{name}: {refused}");
        assert_eq!(refused.params["limit"], "1 s", "{name}");
        assert!(["2 s", "3 s"].contains(&refused.params["duration"].as_str()), "{name}: {:?}", refused.params);
        nest.inspect_within(within(3_000), Source::file(&path))
            .await
            .unwrap_or_else(|refused| panic!("{name}: {refused}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn adpcm_of_both_kinds_is_taken_with_the_plugins_that_a_child_may_load() {
    let nest = Nest::new(|_| {});
    for codec in ["adpcm_ima_wav", "adpcm_ms"] {
        for (name, channels) in [("a.avi", 1), ("a.wav", 2), ("a.mkv", 2)] {
            let coding = format!("-f lavfi -i sine=r=22050:d=2 -ac {channels} -c:a {codec}");
            let inspected = nest.inspect(Source::file(&clip(nest.dir.path(), name, &coding))).await;
            let facts = inspected.unwrap_or_else(|refused| panic!("{codec} in {name}: {refused}"));
            let sound = facts.audio.map(|audio| (audio.codec, audio.channels));
            assert_eq!(sound, Some(("adpcm".to_owned(), channels)), "{codec} in {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_that_nothing_is_recorded_at_is_a_broken_header() {
    let nest = Nest::new(|_| {});
    let sound = clip(nest.dir.path(), "a.wav", "-f lavfi -i sine=r=48000:d=1");
    let picture = clip(nest.dir.path(), "a.avi", "-f lavfi -i testsrc2=s=64x48:d=1 -c:v mpeg4");
    let sound = |rate: u32| with(std::fs::read(&sound).unwrap(), b"fmt ", 12, &rate.to_le_bytes());
    let rate = |rate: u32| [1_u32.to_le_bytes(), rate.to_le_bytes()].concat();
    let picture = |of: u32| with(std::fs::read(&picture).unwrap(), b"strh", 28, &rate(of));
    let refused = [
        (sound(u32::MAX), "header (it states 4294967295 samples of sound a second)"),
        (sound(768_001), "header (it states 768001 samples of sound a second)"),
        (picture(u32::MAX), "header (it states 4294967295 pictures a second)"),
    ];
    for (file, part) in refused {
        let failure = nest.inspect(Source::memory(file)).await.unwrap_err();
        assert_eq!((failure.code, failure.params["part"].as_str()), (FailureCode::SourceCorrupt, part), "{failure}");
    }
    for file in [sound(768_000), picture(50)] {
        nest.inspect(Source::memory(file)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_pictures_are_refused_by_name_and_stall_nothing() {
    let nest = Nest::new(|_| {});
    let path = clip(nest.dir.path(), "a.ivf", "-f lavfi -i testsrc2=s=64x48:d=2 -c:v libvpx -deadline realtime");
    let failure = nest.inspect(Source::file(&path)).await.unwrap_err();
    assert_eq!(failure.code, FailureCode::SourceContainerUnsupported, "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mxf_of_which_one_picture_could_be_had_is_refused_by_name() {
    let nest = Nest::new(|_| {});
    let picture = "-f lavfi -i testsrc2=s=960x540:r=25:d=1 -pix_fmt yuv422p -c:v dnxhd -profile:v dnxhr_sq";
    let whole = nest.inspect(Source::file(&clip(nest.dir.path(), "a.mxf", picture))).await.unwrap();
    assert_eq!(whole.video.and_then(|video| video.frames), Some(25));
    let atom = clip(nest.dir.path(), "b.mxf", &format!("{picture} -f mxf_opatom"));
    let failure = nest.inspect(Source::file(&atom)).await.unwrap_err();
    assert_eq!(failure.code, FailureCode::SourceContainerUnsupported, "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_come_as_pictures_of_their_own_are_refused_before_anything_is_encoded() {
    let nest = Nest::new(|_| {});
    let coding = "-c:v libx265 -preset ultrafast -x265-params interlace=tff:log-level=none";
    let path = clip(nest.dir.path(), "a.mp4", &format!("-f lavfi -i testsrc2=s=320x128:r=50:d=1 {coding}"));
    let failure = nest.inspect(Source::file(&path)).await.unwrap_err();
    assert_eq!(failure.code, FailureCode::SourceCodecUnsupported, "{failure}");
    assert_eq!(failure.params["codec"], "H.265/HEVC whose fields are pictures of their own");
}

/// The file with other bytes so far behind a name in it.
fn with(mut file: Vec<u8>, name: &[u8], behind: usize, new: &[u8]) -> Vec<u8> {
    let at = file.windows(name.len()).position(|part| part == name).unwrap() + behind;
    file[at..at + new.len()].copy_from_slice(new);
    file
}

fn short(inspected: &Result<SourceFacts, Failure>) -> String {
    match inspected {
        Err(failure) => format!("{failure} {:?}", failure.params),
        Ok(facts) => {
            let span = (facts.zero_ns / 1_000_000, facts.end_ns / 1_000_000);
            format!("{:?} {span:?} ms {:?} {:?}", facts.container, facts.video, facts.audio)
        }
    }
}

/// The code that fits each kind of broken file.
const REJECTED: [(&str, FailureCode); 9] = [
    ("e01", FailureCode::SourceDamaged),
    ("e02", FailureCode::SourceIndexMissing),
    ("e03", FailureCode::SourceCorrupt),
    ("e04", FailureCode::SourcePictureTooLarge),
    ("e05", FailureCode::SourceStillImage),
    ("e06", FailureCode::SourceEmpty),
    ("e07", FailureCode::SourceCorrupt),
    ("e08", FailureCode::SourceNoSamples),
    ("f04", FailureCode::SourceIndexMissing),
];

fn compare(file: &Value, inspected: &Result<SourceFacts, Failure>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut claim = |holds: bool, what: String| {
        if !holds {
            wrong.push(what);
        }
    };
    let (facts, expected) = match (inspected, file["expect"].as_str().unwrap()) {
        (Err(failure), "reject") => {
            let code = REJECTED.iter().find(|(name, _)| file["name"].as_str().unwrap().starts_with(name));
            claim(code.is_some_and(|(_, code)| *code == failure.code), format!("{code:?} but {}", failure.code));
            return wrong;
        }
        (Ok(_), "reject") => return vec!["was accepted".to_owned()],
        (Err(failure), _) => return vec![format!("was refused: {failure}")],
        (Ok(facts), expected) => (facts, expected),
    };
    claim((expected == "audio-only") == facts.video.is_none(), "picture or none".to_owned());
    claim(facts.audio.is_none() == file["codecs"]["audio"].as_array().unwrap().is_empty(), "sound or none".to_owned());
    let Some(video) = &facts.video else { return wrong };
    // The manifest names the first picture stream, which is not the one that is worked on where there are two.
    if facts.video_streams > 1 {
        return wrong;
    }
    let number = |field: &str| file[field].as_u64().unwrap();
    claim((u64::from(video.width), u64::from(video.height)) == (number("width"), number("height")), "size".to_owned());
    let turned = match video.orientation {
        Orientation::Upright => 0,
        Orientation::Rotate90 => 90,
        Orientation::Rotate180 => 180,
        Orientation::Rotate270 => 270,
        Orientation::FlipRotate0
        | Orientation::FlipRotate90
        | Orientation::FlipRotate180
        | Orientation::FlipRotate270 => 1,
    };
    claim(turned == number("rotation"), format!("turned by {turned}"));
    claim(video.frames.is_none_or(|frames| frames == number("frames")), format!("{:?} frames", video.frames));
    let fps = video.frame_rate.fps();
    let stated = file["fps"].as_f64().unwrap();
    // The mean counts pictures before the edit, which are not shown; the base rate does not.
    let (num, den) = file["r_frame_rate"].as_str().unwrap().split_once('/').unwrap();
    let base = num.parse::<f64>().unwrap() / den.parse::<f64>().unwrap();
    let near = |rate: f64| (fps - rate).abs() / rate < 0.02;
    claim(near(stated) || near(base) || video.variable_rate, format!("{fps} fps"));
    claim(video.variable_rate == file["vfr"].as_bool().unwrap(), format!("variable: {}", video.variable_rate));
    let duration = facts.duration_ns() as f64 / 1e9;
    if let Some(stated) = file["duration_s"].as_f64().or_else(|| file["measured_duration_s"].as_f64()) {
        // A container's own duration may lie, subtitles may run on; then picture and sound end with the frames.
        let near = |stated: f64| (duration - stated).abs() < (1.5 / fps).max(0.06);
        claim(near(stated) || near(number("frames") as f64 / fps), format!("lasts {duration} s instead of {stated} s"));
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_demuxing_agree() {
    let nest = Nest::new(|_| {});
    let dir = nest.dir.path();
    let picture = "-f lavfi -i testsrc2=s=320x240:r=30000/1001:d=6";
    let sound = "-f lavfi -i sine=r=44100:d=6";
    let coding = "-c:v libx264 -preset veryfast -g 48 -c:a aac";
    let whole = clip(dir, "b.mp4", &format!("{picture} {sound} {coding}"));
    let fragmented = clip(dir, "f.mp4", &format!("{picture} {sound} {coding} -movflags frag_keyframe+empty_moov"));
    let matroska = clip(dir, "m.mkv", &format!("{picture} {sound} {coding}"));
    for path in [&whole, &fragmented, &matroska] {
        let facts = nest.inspect(Source::file(path)).await.unwrap();
        let video = facts.video.clone().unwrap();
        assert_eq!((video.frames, video.variable_rate), (Some(180), false), "{path:?} {facts:?}");
        assert_eq!((video.frame_rate.num, video.frame_rate.den), (30000, 1001), "{path:?}");
        // Fragments without an edit list start with the pictures' delay of two frames.
        assert!(facts.duration_ns().abs_diff(6_006_000_000) < 80_000_000, "{path:?} {facts:?}");
        assert!(
            facts.keyframe_gaps_ms.iter().all(|gap| (1500..1600).contains(gap)),
            "{path:?} {:?}",
            facts.keyframe_gaps_ms
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_track_that_is_far_shorter_than_the_other_is_not_left_out() {
    let nest = Nest::new(|_| {});
    let dir = nest.dir.path();
    let coding = "-c:v libx264 -preset veryfast -c:a aac";
    for (name, picture_s, sound_s) in [("a.mp4", 2, 12), ("b.mov", 12, 1)] {
        let sources = format!("-f lavfi -i testsrc2=s=160x90:r=25:d={picture_s} -f lavfi -i sine=r=48000:d={sound_s}");
        let file = clip(dir, name, &format!("{sources} {coding}"));
        let facts = nest.inspect(Source::memory(std::fs::read(file).unwrap())).await.expect("accepted");
        assert!(facts.video.is_some() && facts.audio.is_some(), "{name}: {facts:?}");
        assert_eq!(facts.duration_ns() / 1_000_000_000, 12, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_by_mistake_is_named() {
    let nest = Nest::new(|_| {});
    let dir = nest.dir.path();
    let gif = clip(dir, "a.gif", "-f lavfi -i testsrc2=s=64x64:d=1");
    let png = clip(dir, "a.png", "-f lavfi -i testsrc2=s=64x64 -frames:v 1");
    let mp4 = clip(dir, "a.mp4", "-f lavfi -i testsrc2=s=64x64:d=4 -c:v libx264 -movflags +faststart");
    let raw = clip(dir, "a.h264", "-f lavfi -i testsrc2=s=64x64:d=1 -c:v libx264 -f h264");
    let mut half = std::fs::read(&mp4).unwrap();
    half.truncate(half.len() / 2);
    let mut random = Vec::new();
    let mut state = 7_u64;
    for _ in 0..50_000 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        random.push((state >> 56) as u8);
    }
    let zip = [&b"PK\x03\x04"[..], &random[..5000]].concat();
    for (what, source, code) in [
        ("gif", std::fs::read(gif).unwrap(), FailureCode::SourceStillImage),
        ("png", std::fs::read(png).unwrap(), FailureCode::SourceStillImage),
        ("text", b"just some words\n".repeat(400), FailureCode::SourceNotMedia),
        ("zip", zip, FailureCode::SourceNotMedia),
        ("nothing", vec![], FailureCode::SourceEmpty),
        ("noise", random, FailureCode::SourceNotMedia),
        ("half an mp4", half, FailureCode::SourceDamaged),
        ("bare h264", std::fs::read(raw).unwrap(), FailureCode::SourceContainerUnsupported),
    ] {
        let started = Instant::now();
        let failure = nest.inspect(Source::memory(source)).await.unwrap_err();
        assert_eq!(failure.code, code, "{what}: {failure} {:?}", failure.params);
        assert!(started.elapsed() < WITHIN, "{what} took {:?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn truncations_and_flipped_bits_end_in_time() {
    let nest = Nest::new(|_| {});
    let dir = nest.dir.path();
    let picture = "-f lavfi -i testsrc2=s=320x240:d=8 -f lavfi -i sine=d=8 -c:v libx264 -preset veryfast";
    let mut state = 42_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    for name in ["a.mp4", "a.mkv", "a.ts", "a.flv", "a.avi"] {
        let good = std::fs::read(clip(dir, name, picture)).unwrap();
        for round in 0..2 {
            let mut bad = good.clone();
            match round {
                0 => bad.truncate(random(good.len())),
                _ => (0..20).for_each(|_| bad[random(good.len())] ^= 1 << random(8)),
            }
            let started = Instant::now();
            let result = nest.inspect(Source::memory(bad)).await;
            println!("{name} {round}: {:?} {}", started.elapsed(), short(&result));
            assert!(started.elapsed() < WITHIN, "{name} took {:?}", started.elapsed());
            // A refusal is as good as facts. A child that crashed, hung or ate all there is would be ours to mend; one that
            // this machine starved or killed says nothing of the file.
            let ours = |code: &FailureCode| serde_json::to_string(code).unwrap().contains("child_");
            let machine = [FailureCode::ChildStarved, FailureCode::ChildKilled];
            if let Err(Failure { code, .. }) = &result {
                assert!(!ours(code) || machine.contains(code), "{name} {round}: {code:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_cut_only_where_seeks_are_exact() {
    let nest = Nest::new(|_| {});
    let coding = "-f lavfi -i testsrc2=s=160x120:d=2 -f lavfi -i sine=d=2 -shortest";
    for (name, extra, container, cut) in [
        ("a.mp4", "-c:v libx264", Container::Mp4, Cut::Exact),
        ("a.mkv", "-c:v libx264", Container::Matroska, Cut::Exact),
        ("a.ts", "-c:v libx264 -c:a mp2", Container::MpegTs, Cut::Whole),
        ("a.avi", "-c:v mpeg4 -c:a mp3", Container::Avi, Cut::Whole),
        ("b.avi", "-c:v mjpeg -c:a mp3", Container::Avi, Cut::Exact),
        ("a.flv", "-c:v flv1 -c:a mp3 -ar 44100", Container::Flv, Cut::Exact),
        ("b.flv", "-c:v libx264 -c:a aac", Container::Flv, Cut::Exact),
        ("a.wmv", "-c:v wmv2 -c:a wmav2", Container::Asf, Cut::Whole),
    ] {
        let path = clip(nest.dir.path(), name, &format!("{coding} {extra}"));
        let facts = nest.inspect(Source::file(&path)).await.unwrap();
        assert_eq!((facts.container, facts.cut), (container, cut), "{name}");
        assert!(matches!(facts.video.unwrap().frames, None | Some(50)), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_size_is_judged_where_the_rest_is_broken() {
    let nest = Nest::new(|_| {});
    let coding = "-f lavfi -i testsrc2=s=320x240:d=1 -c:v libvpx -deadline realtime";
    let mut bytes = std::fs::read(clip(nest.dir.path(), "a.webm", coding)).unwrap();
    let mut patch = |from: &[u8], to: &[u8]| {
        let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
    };
    patch(b"webm", b"0000");
    patch(&[0xb0, 0x82, 0x01, 0x40, 0xba], &[0xb0, 0x82, 0x30, 0x30]);
    let failure = nest.inspect(Source::memory(bytes)).await.unwrap_err();
    assert_eq!(failure.code, FailureCode::SourcePictureTooLarge, "{failure} {:?}", failure.params);
    assert_eq!(failure.params["width"], "12336");
}
