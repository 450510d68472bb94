//! What the tests stand on: clips made by ffmpeg, facts, plans, an output that keeps everything, and a look by ffmpeg.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use spool_proto::media::*;
use spool_transcoder::child::encode::video;
use spool_transcoder::child::source::{FileRanges, Ranges};
use spool_transcoder::child::{self, inspect};
use spool_transcoder::order::{Failure, InspectLimits, Made, Order, Output, OutputClosed};

/// Objects by rendition and chunk: the bytes, and what was stated of them.
type Objects = BTreeMap<(String, u32), (Vec<u8>, Option<Made>)>;

/// Keeps what an encode hands out.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) objects: Mutex<Objects>,
    pub(crate) hashes: Mutex<Vec<(u64, u64)>>,
}

impl Output for Kept {
    fn bytes(&self, rendition: &str, chunk: u32, data: &[Bytes]) -> Result<(), OutputClosed> {
        let mut objects = self.objects.lock().unwrap();
        let (object, made) = objects.entry((rendition.to_owned(), chunk)).or_default();
        assert!(made.is_none(), "bytes after the object was stated");
        data.iter().for_each(|d| object.extend_from_slice(d));
        Ok(())
    }

    fn object_done(&self, rendition: &str, chunk: u32, made: Made) -> Result<(), OutputClosed> {
        let mut objects = self.objects.lock().unwrap();
        let (object, known) = objects.get_mut(&(rendition.to_owned(), chunk)).expect("bytes came first");
        assert_eq!(made.length, object.len() as u64);
        assert_eq!(made.segments.last().map(|s| s.offset + s.length), Some(made.length));
        assert!(known.replace(made).is_none(), "stated once");
        Ok(())
    }

    fn progress(&self, _at_ns: u64) -> Result<(), OutputClosed> {
        Ok(())
    }

    fn frame_hash(&self, at_ns: u64, hash: u64) -> Result<(), OutputClosed> {
        self.hashes.lock().unwrap().push((at_ns, hash));
        Ok(())
    }
}

impl Kept {
    /// The objects of a rendition as one file: one initialisation section, then every segment.
    pub(crate) fn joined(&self, rendition: &str) -> Vec<u8> {
        let objects = self.objects.lock().unwrap();
        let mut whole = Vec::new();
        for ((_, _), (bytes, made)) in objects.iter().filter(|((r, _), _)| r == rendition) {
            let init = made.as_ref().expect("object was stated").init;
            if whole.is_empty() {
                whole.extend_from_slice(&bytes[..init.length as usize]);
            } else {
                assert_eq!(whole[..init.length as usize], bytes[..init.length as usize], "init sections are equal");
            }
            whole.extend_from_slice(&bytes[init.length as usize..]);
        }
        whole
    }

    pub(crate) fn made(&self, rendition: &str) -> Vec<Made> {
        let objects = self.objects.lock().unwrap();
        objects.iter().filter(|((r, _), _)| r == rendition).map(|(_, (_, m))| m.clone().unwrap()).collect()
    }

    /// Writes a rendition below `dir` and names the file.
    pub(crate) fn write(&self, dir: &Path, rendition: &str) -> PathBuf {
        let path = dir.join(format!("{rendition}.mp4"));
        std::fs::write(&path, self.joined(rendition)).unwrap();
        path
    }

    pub(crate) fn absorb(&self, other: Kept) {
        self.objects.lock().unwrap().extend(other.objects.into_inner().unwrap());
        self.hashes.lock().unwrap().extend(other.hashes.into_inner().unwrap());
    }
}

pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap_or_else(|err| panic!("{program} is needed: {err}"));
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}\n{stderr}");
    format!("{}{stderr}", String::from_utf8_lossy(&out.stdout))
}

/// Makes a clip with ffmpeg: `args` between the quiet flags and the output.
pub(crate) fn clip(dir: &Path, name: &str, args: &str) -> PathBuf {
    let path = dir.join(name);
    let mut all = vec!["-v", "error", "-y", "-fflags", "+bitexact"];
    all.extend(args.split_whitespace());
    all.push(path.to_str().unwrap());
    run("ffmpeg", &all);
    path
}

pub(crate) fn ranges(path: &Path) -> Arc<dyn Ranges> {
    gst::init().unwrap();
    FileRanges::open(path).unwrap()
}

/// Facts as the inspecting child finds them.
pub(crate) fn facts(path: &Path) -> SourceFacts {
    let output: Arc<dyn Output> = Arc::new(Kept::default());
    if std::env::var_os("SPOOL_FACTS_BY_FFPROBE").is_some() {
        return facts_by_ffprobe(path);
    }
    inspect::run(&ranges(path), &InspectLimits::default(), &output).unwrap()
}

/// Facts as ffprobe sees them, for a look at the encoder without the inspector; right for containers whose stream time
/// is ffprobe's time (not MPEG-TS and PS).
fn facts_by_ffprobe(path: &Path) -> SourceFacts {
    let text = run("ffprobe", &["-v", "error", "-show_streams", "-of", "json", path.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let streams = json["streams"].as_array().unwrap();
    let of = |kind: &str| streams.iter().find(|s| s["codec_type"] == kind);
    let video = of("video").map(|s| video_facts(path, s));
    let audio = of("audio").map(|s| {
        let (first_ns, end_ns) = span(path, "a:0");
        AudioFacts {
            stream: 0,
            codec: text_of(&s["codec_name"]),
            sample_rate: text_of(&s["sample_rate"]).parse().unwrap(),
            channels: s["channels"].as_u64().unwrap() as u32,
            language: None,
            first_ns,
            end_ns,
            longest_gap_ns: 0,
            leaps_over_ns: 0,
        }
    });
    let spans: Vec<(u64, u64)> = video
        .iter()
        .map(|v: &VideoFacts| (v.first_ns, v.end_ns))
        .chain(audio.iter().map(|a: &AudioFacts| (a.first_ns, a.end_ns)))
        .collect();
    SourceFacts {
        container: Container::Mp4,
        cut: Cut::Exact,
        zero_ns: spans.iter().map(|s| s.0).min().unwrap(),
        end_ns: spans.iter().map(|s| s.1).max().unwrap(),
        video,
        audio,
        video_streams: 1,
        audio_streams: 1,
        subtitle_streams: 0,
        has_location: false,
        has_device: false,
        keyframe_gaps_ms: vec![],
        promised_ms: None,
        damage: vec![],
        lost_packets: 0,
        more_recordings: 0,
    }
}

fn text_of(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn ratio(text: &str) -> (u32, u32) {
    let (a, b) = text.split_once(['/', ':']).unwrap_or((text, "1"));
    (a.parse().unwrap_or(0), b.parse().unwrap_or(1))
}

fn video_facts(path: &Path, s: &serde_json::Value) -> VideoFacts {
    let (width, height) = (s["width"].as_u64().unwrap() as u32, s["height"].as_u64().unwrap() as u32);
    let mut pixel_aspect = ratio(s["sample_aspect_ratio"].as_str().unwrap_or("1:1"));
    if pixel_aspect.0 == 0 {
        pixel_aspect = (1, 1);
    }
    let orientation = match s["side_data_list"][0]["rotation"].as_i64().unwrap_or(0).rem_euclid(360) {
        270 => Orientation::Rotate90,
        180 => Orientation::Rotate180,
        90 => Orientation::Rotate270,
        _ => Orientation::Upright,
    };
    let shown = (width * pixel_aspect.0 + pixel_aspect.1 / 2) / pixel_aspect.1;
    let (display_width, display_height) = if orientation.swaps_sides() { (height, shown) } else { (shown, height) };
    let (num, den) = ratio(&text_of(&s["avg_frame_rate"]));
    let (first_ns, end_ns) = span(path, "v:0");
    let dynamic_range = match s["color_transfer"].as_str() {
        Some("arib-std-b67") => DynamicRange::Hlg,
        Some("smpte2084") => DynamicRange::Pq,
        _ => DynamicRange::Sdr,
    };
    let full = s["color_range"] == "pc";
    let colorimetry = match s["color_space"].as_str() {
        Some("bt709") if full => "1:3:5:1",
        Some("bt709") => "bt709",
        Some("smpte170m" | "bt470bg") if full => "1:4:0:0",
        Some("smpte170m" | "bt470bg") => "bt601",
        _ => "",
    };
    VideoFacts {
        stream: 0,
        codec: text_of(&s["codec_name"]),
        width,
        height,
        pixel_aspect,
        orientation,
        display_width,
        display_height,
        frame_rate: FrameRate { num, den },
        variable_rate: false,
        frames: None,
        interlaced: !matches!(s["field_order"].as_str(), None | Some("progressive" | "unknown")),
        bit_depth: 8,
        dynamic_range,
        colorimetry: colorimetry.to_owned(),
        first_ns,
        end_ns,
        longest_gap_ns: 0,
        leaps_over_ns: 0,
        last_ns: 0,
    }
}

/// First presentation time and end of the last packet.
fn span(path: &Path, stream: &str) -> (u64, u64) {
    let args = ["-v", "error", "-select_streams", stream, "-show_entries", "packet=pts_time,duration_time,flags"];
    let text = run("ffprobe", &[&args[..], &["-of", "csv=p=0", path.to_str().unwrap()]].concat());
    let mut first = f64::MAX;
    let mut end: f64 = 0.0;
    for line in text.lines() {
        let fields: Vec<&str> = line.split(',').collect();
        if fields.get(2).is_some_and(|f| f.contains('D')) {
            continue;
        }
        let Ok(at) = fields[0].parse::<f64>() else { continue };
        let length: f64 = fields.get(1).and_then(|d| d.parse().ok()).unwrap_or(0.0);
        first = first.min(at);
        end = end.max(at + length);
    }
    ((first.max(0.0) * 1e9).round() as u64, (end * 1e9).round() as u64)
}

/// A plan with rungs of these short sides, chunks of 1, 2, 4, … segments unless `chunks` says otherwise.
pub(crate) fn plan(facts: &SourceFacts, short_sides: &[u32], chunks: Option<&[u32]>) -> Plan {
    let segment_ns = 4 * NS_PER_S;
    let segments = facts.duration_ns().div_ceil(segment_ns).max(1) as u32;
    let chunks = chunks.map_or_else(|| growing(segments), <[u32]>::to_vec);
    assert_eq!(chunks.iter().sum::<u32>(), segments, "chunks of the test cover the clip");
    let rungs = facts.video.as_ref().map_or(vec![], |v| short_sides.iter().map(|&s| rung(v, s)).collect());
    Plan {
        zero_ns: facts.zero_ns,
        end_ns: facts.end_ns,
        segment_ns,
        chunks,
        cut: facts.cut,
        video: facts.video.as_ref().map(|v| VideoPlan {
            timescale: timescale(v.frame_rate),
            frame_rate: v.frame_rate,
            keep_every: if v.frame_rate.fps() > 60.5 { 2 } else { 1 },
            keyframe_ns: 2 * NS_PER_S,
        }),
        rungs,
        audio: facts.audio.as_ref().map(|_| AudioPlan {
            id: "a0".to_owned(),
            bps: 128_000,
            sample_rate: 48_000,
            channels: 2,
            language: None,
        }),
        stills: vec![],
        taken_over: vec![],
    }
}

fn growing(segments: u32) -> Vec<u32> {
    let mut chunks = vec![];
    let mut left = segments;
    let mut next = 1;
    while left > 0 {
        chunks.push(next.min(left));
        left -= next.min(left);
        next = (next * 2).min(8);
    }
    chunks
}

fn timescale(rate: FrameRate) -> u32 {
    let mut scale = rate.num.max(1);
    while scale < 10_000 {
        scale *= 2;
    }
    if scale > 1_000_000 { 90_000 } else { scale }
}

fn rung(video: &VideoFacts, short_side: u32) -> Rung {
    let (w, h) = (video.display_width, video.display_height);
    let scale = f64::from(short_side.min(w.min(h))) / f64::from(w.min(h));
    let even = |side: u32| (((f64::from(side) * scale) / 2.0).round() as u32 * 2).max(2);
    let max_bps = match short_side {
        1080.. => 5_000_000,
        720.. => 2_800_000,
        540.. => 1_600_000,
        360.. => 1_000_000,
        _ => 550_000,
    };
    let id = format!("v{short_side}");
    Rung { id, width: even(w), height: even(h), crf: 20, max_bps, buffer_ms: 2000, threads: 1 }
}

/// Encodes a run of chunks of the picture in this process.
pub(crate) fn encode_video(
    path: &Path,
    facts: &SourceFacts,
    plan: &Plan,
    chunks: RangeInclusive<u32>,
) -> Result<Kept, Failure> {
    let kept = Arc::new(Kept::default());
    let output: Arc<dyn Output> = Arc::clone(&kept) as Arc<dyn Output>;
    let result = video::run(&ranges(path), facts, plan, &chunks, true, &output);
    drop(output);
    let kept = Arc::into_inner(kept).expect("nothing holds the output after a run");
    result.map(|()| kept)
}

/// Encodes the sound in this process.
pub(crate) fn encode_audio(path: &Path, facts: &SourceFacts, plan: &Plan, from_chunk: u32) -> Result<Kept, Failure> {
    let kept = Arc::new(Kept::default());
    let output: Arc<dyn Output> = Arc::clone(&kept) as Arc<dyn Output>;
    let order = Order::Audio { facts: facts.clone(), plan: plan.clone(), from_chunk };
    let result = child::serve(order, ranges(path), &output).map(drop);
    drop(output);
    let kept = Arc::into_inner(kept).expect("nothing holds the output after a run");
    result.map(|()| kept)
}

/// The whole picture in one run.
pub(crate) fn encode_whole(path: &Path, facts: &SourceFacts, plan: &Plan) -> Kept {
    encode_video(path, facts, plan, 0..=plan.chunk_count() - 1).unwrap()
}

/// Presentation times of decoded frames in microseconds, as ffmpeg gives them.
pub(crate) fn decoded_us(path: &Path) -> Vec<i64> {
    stream_us(path, 0)
}

/// The same of one of several video streams.
pub(crate) fn stream_us(path: &Path, stream: u32) -> Vec<i64> {
    let stream = format!("v:{stream}");
    let args = ["-v", "error", "-select_streams", &stream, "-show_entries", "frame=pts_time", "-of", "csv=p=0"];
    let text = run("ffprobe", &[&args[..], &[path.to_str().unwrap()]].concat());
    let micros = |line: &str| line.trim_end_matches(',').parse::<f64>().ok().map(|s| (s * 1e6).round() as i64);
    text.lines().filter_map(micros).collect()
}

/// SSIM of all planes of a rendition against its source as ffmpeg turns and scales it; frames are paired by time, so that
/// repeats meet the frame they repeat.
pub(crate) fn ssim(rendition: &Path, source: &Path, facts: &SourceFacts, before_scaling: &str, rung: &Rung) -> f64 {
    let video = facts.video.as_ref().unwrap();
    let late = (video.first_ns - facts.zero_ns) as f64 / 1e9;
    let (width, height) = (rung.width, rung.height);
    let graph = format!(
        "[0:v]settb=1/90000,setpts=PTS+0.004/TB[a];[1:v:{}]{before_scaling}scale={width}:{height}:flags=lanczos,\
         setsar=1,format=yuv420p,settb=1/90000,setpts=PTS-STARTPTS+{late}/TB[b];[a][b]ssim",
        video.stream
    );
    let args = ["-v", "info", "-i", rendition.to_str().unwrap(), "-i", source.to_str().unwrap()];
    let text = run("ffmpeg", &[&args[..], &["-lavfi", &graph, "-f", "null", "-"]].concat());
    let all = text.rsplit("All:").next().and_then(|t| t.split_whitespace().next());
    all.and_then(|t| t.parse().ok()).unwrap_or_else(|| panic!("no SSIM in {text}"))
}

/// Mean grey of each frame in 0..=255.
pub(crate) fn greys(path: &Path) -> Vec<u8> {
    let args = ["-v", "error", "-i", path.to_str().unwrap(), "-vf", "scale=1:1:flags=area,format=gray"];
    let out =
        Command::new("ffmpeg").args(args).args(["-fps_mode", "passthrough", "-f", "rawvideo", "-"]).output().unwrap();
    assert!(out.status.success());
    out.stdout
}

/// The sound at 48 kHz as one channel, from time zero.
pub(crate) fn samples(path: &Path) -> Vec<f32> {
    // Without `-copyts` ffmpeg moves a file that starts before zero (priming) to zero.
    let args = ["-v", "error", "-copyts", "-i", path.to_str().unwrap(), "-map", "0:a:0"];
    let out = Command::new("ffmpeg")
        .args(args)
        .args(["-af", "aresample=async=1:first_pts=0", "-ac", "1", "-ar", "48000", "-f", "f32le", "-"])
        .output()
        .unwrap();
    assert!(out.status.success());
    out.stdout.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// Times in milliseconds at which silence ends.
pub(crate) fn beeps_ms(path: &Path) -> Vec<f64> {
    let mut quiet = 24_000;
    let mut found = vec![];
    for (i, sample) in samples(path).iter().enumerate() {
        if sample.abs() > 0.1 {
            if quiet >= 9_600 {
                found.push(i as f64 / 48.0);
            }
            quiet = 0;
        } else {
            quiet += 1;
        }
    }
    found
}

/// Times in milliseconds at which the picture turns from dark to bright.
pub(crate) fn flashes_ms(path: &Path) -> Vec<f64> {
    let times = decoded_us(path);
    let greys = greys(path);
    assert_eq!(times.len(), greys.len());
    (1..greys.len()).filter(|&i| greys[i] > 128 && greys[i - 1] <= 128).map(|i| times[i] as f64 / 1000.0).collect()
}

/// What ffmpeg complains about while decoding everything.
pub(crate) fn complaints(path: &Path) -> String {
    let passing = ["-fps_mode", "passthrough", "-enc_time_base", "-1", "-f", "null", "-"];
    run("ffmpeg", &[&["-v", "warning", "-i", path.to_str().unwrap()][..], &passing].concat())
}
