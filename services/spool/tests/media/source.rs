//! What ffprobe and ffmpeg find in a source: the stream to show, the sound to play, when each frame is shown.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::tool::{Outcome, ffprobe};

/// A source as ffmpeg decodes it.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) picture: Option<Picture>,
    pub(crate) sound: Option<Sound>,
}

/// The picture that should be shown.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    /// Position among the video streams.
    pub(crate) position: usize,
    /// When each decoded frame is shown, as the file says.
    pub(crate) times_s: Vec<f64>,
    /// The usual distance of two frames.
    pub(crate) frame_s: f64,
    /// When the last one ends.
    pub(crate) end_s: f64,
    /// Size for the eye: turned upright, pixels made square.
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) interlaced: bool,
    pub(crate) hdr: bool,
    /// `pc` or `tv`.
    pub(crate) range: String,
    /// Matrix, where the file names one.
    pub(crate) matrix: Option<String>,
}

/// The sound that should be heard.
#[derive(Debug, Clone)]
pub(crate) struct Sound {
    /// Position among the audio streams.
    pub(crate) position: usize,
    pub(crate) start_s: f64,
    pub(crate) end_s: f64,
    /// Start of the first frame that ffmpeg decodes: its AAC decoder drops the very first where nothing came before.
    pub(crate) decoded_s: f64,
    /// Does ffmpeg decode all of it? Of AMR it decodes one frame a packet, where phones put fifty.
    pub(crate) comparable: bool,
}

impl Source {
    /// Looks at a file; decodes all of it once.
    pub(crate) fn look_at(path: &Path) -> Outcome<Self> {
        let file = path.to_string_lossy();
        let found = ffprobe(&["-v", "quiet", "-of", "json", "-show_streams", "-show_format", &file])?;
        let found: Value = serde_json::from_slice(&found.out).map_err(|error| format!("ffprobe {file}: {error}"))?;
        let streams = found["streams"].as_array().cloned().unwrap_or_default();
        let avi = found["format"]["format_name"] == "avi";
        let of = |kind: &str| -> Vec<Value> {
            let still = |s: &&Value| s["disposition"]["attached_pic"] == 1;
            streams.iter().filter(|s| s["codec_type"] == kind && !still(s)).cloned().collect()
        };
        let mut picture =
            chosen_video(&of("video")).map(|(at, stream)| look_at_picture(&file, at, &stream)).transpose()?;
        if let Some(picture) = picture.as_mut().filter(|_| avi) {
            picture.take_places(&packet_times(&file, picture.position)?);
        }
        let sound = chosen_audio(&of("audio")).map(|(at, stream)| look_at_sound(&file, at, &stream)).transpose()?;
        Ok(Self { path: path.to_owned(), picture, sound: sound.flatten() })
    }

    /// Zero of the timeline: the earliest chosen frame or sample.
    pub(crate) fn zero_s(&self) -> f64 {
        let picture = self.picture.as_ref().and_then(|p| p.times_s.first().copied());
        picture.into_iter().chain(self.sound.as_ref().map(|s| s.start_s)).fold(f64::INFINITY, f64::min)
    }

    /// Length of the timeline.
    pub(crate) fn span_s(&self) -> f64 {
        let ends = self.picture.iter().map(|p| p.end_s).chain(self.sound.as_ref().map(|s| s.end_s));
        ends.fold(0.0, f64::max) - self.zero_s()
    }

    /// The usual distance of two frames; of the sound's own frames where there is no picture.
    pub(crate) fn frame_s(&self) -> f64 {
        self.picture.as_ref().map_or(1024.0 / 48_000.0, |p| p.frame_s)
    }
}

impl Picture {
    /// AVI has no times but the places of its packets, `places_s`. A picture is shown, by ffmpeg and by what is built on it, at
    /// the place of the packet that drove it out of the decoder. Before the first of them lies nothing but the picture itself,
    /// which is owed from its own place on; and the file ends with its last place, whenever its last picture comes out.
    fn take_places(&mut self, places_s: &[f64]) {
        if let (Some(first), Some(last)) = (places_s.first(), places_s.last()) {
            self.end_s = last + self.frame_s;
            self.times_s.iter_mut().take(1).for_each(|time| *time = *first);
        }
    }
}

/// When each packet of a picture is decoded.
fn packet_times(file: &str, position: usize) -> Outcome<Vec<f64>> {
    let stream = format!("v:{position}");
    let args = ["-v", "quiet", "-of", "csv=p=0", "-select_streams", &stream, "-show_entries", "packet=dts_time", file];
    Ok(ffprobe(&args)?.text().lines().filter_map(|line| line.trim_end_matches(',').parse().ok()).collect())
}

/// The only default-flagged one, else the largest, the first of equals.
fn chosen_video(streams: &[Value]) -> Option<(usize, Value)> {
    let flagged: Vec<usize> = (0..streams.len()).filter(|i| streams[*i]["disposition"]["default"] == 1).collect();
    let area = |i: &usize| streams[*i]["width"].as_u64().unwrap_or(0) * streams[*i]["height"].as_u64().unwrap_or(0);
    let largest = (0..streams.len()).rev().max_by_key(area);
    let at = if flagged.len() == 1 { flagged.first().copied() } else { largest }?;
    Some((at, streams[at].clone()))
}

/// The first default-flagged one, else the first.
fn chosen_audio(streams: &[Value]) -> Option<(usize, Value)> {
    let flagged = streams.iter().position(|s| s["disposition"]["default"] == 1);
    let at = flagged.or((!streams.is_empty()).then_some(0))?;
    Some((at, streams[at].clone()))
}

/// Every decoded frame of a stream.
fn frames(file: &str, stream: &Value, entries: &str) -> Outcome<Vec<Value>> {
    let index = stream["index"].to_string();
    let entries = format!("frame={entries}");
    let args = ["-v", "quiet", "-of", "json", "-select_streams", &index, "-show_entries", &entries, file];
    let mut found: Value =
        serde_json::from_slice(&ffprobe(&args)?.out).map_err(|error| format!("frames of {file}: {error}"))?;
    Ok(found["frames"].as_array_mut().map(std::mem::take).unwrap_or_default())
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

fn look_at_picture(file: &str, position: usize, stream: &Value) -> Outcome<Picture> {
    let frames = frames(file, stream, "best_effort_timestamp_time,pkt_duration_time,interlaced_frame")?;
    let known: Vec<Option<f64>> = frames.iter().map(|f| number(&f["best_effort_timestamp_time"])).collect();
    let mut steps: Vec<f64> = known.iter().flatten().zip(known.iter().flatten().skip(1)).map(|(a, b)| b - a).collect();
    steps.sort_by(f64::total_cmp);
    let rate = fraction(&stream["avg_frame_rate"], '/').filter(|rate| *rate > 0.0);
    let last_s = frames.last().and_then(|f| number(&f["pkt_duration_time"]));
    let frame_s = steps.get(steps.len() / 2).copied().or(rate.map(f64::recip)).or(last_s).unwrap_or(0.04);
    let mut times_s: Vec<f64> = Vec::with_capacity(known.len());
    for time in known {
        let next = times_s.last().map_or(0.0, |last| last + frame_s);
        times_s.push(time.unwrap_or(next));
    }
    // Some files state a tick as the last frame's length; then it lasts as long as the others.
    let last_s = last_s.filter(|last| *last >= frame_s / 2.0).unwrap_or(frame_s);
    let interlaced = frames.iter().filter(|f| f["interlaced_frame"] == 1).count() * 2 > frames.len();
    let (width, height) = shown_size(stream);
    let text = |key: &str| stream[key].as_str().filter(|text| *text != "unknown").map(str::to_owned);
    Ok(Picture {
        position,
        end_s: times_s.last().copied().unwrap_or(0.0) + last_s,
        times_s,
        frame_s,
        width,
        height,
        interlaced,
        hdr: matches!(stream["color_transfer"].as_str(), Some("smpte2084" | "arib-std-b67")),
        range: text("color_range").unwrap_or_else(|| "tv".to_owned()),
        matrix: text("color_space"),
    })
}

fn shown_size(stream: &Value) -> (f64, f64) {
    let side = |key: &str| stream[key].as_f64().unwrap_or(0.0);
    let aspect = fraction(&stream["sample_aspect_ratio"], ':').filter(|aspect| *aspect > 0.0).unwrap_or(1.0);
    let (width, height) = (side("width") * aspect, side("height"));
    let turned = stream["side_data_list"].as_array().into_iter().flatten().find_map(|d| d["rotation"].as_i64());
    if turned.is_some_and(|degrees| degrees % 180 != 0) { (height, width) } else { (width, height) }
}

fn fraction(value: &Value, between: char) -> Option<f64> {
    let (num, den) = value.as_str()?.split_once(between)?;
    let (num, den): (f64, f64) = (num.parse().ok()?, den.parse().ok()?);
    (den > 0.0).then_some(num / den)
}

fn look_at_sound(file: &str, position: usize, stream: &Value) -> Outcome<Option<Sound>> {
    let frames = frames(file, stream, "best_effort_timestamp_time,nb_samples")?;
    let Some(rate) = number(&stream["sample_rate"]) else { return Ok(None) };
    let times: Vec<(f64, f64)> = frames
        .iter()
        .filter_map(|f| Some((number(&f["best_effort_timestamp_time"])?, number(&f["nb_samples"])? / rate)))
        .collect();
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return Ok(None) };
    let stated = number(&stream["start_time"]).filter(|start| *start <= first.0 && first.0 - start <= first.1 + 0.001);
    let start_s = if stream["codec_name"] == "aac" { stated.unwrap_or(first.0) } else { first.0 };
    let decoded: f64 = times.iter().map(|(_, length)| length).sum();
    let comparable = decoded > (last.0 - first.0) * 0.9;
    let stated_end = number(&stream["duration"]).map(|length| start_s + length);
    let end_s = if comparable { last.0 + last.1 } else { stated_end.unwrap_or(last.0) };
    Ok(Some(Sound { position, start_s, end_s, decoded_s: first.0, comparable }))
}
