//! What is served, as ffmpeg decodes it: one process decodes the whole asset, every rendition and the sound, once.

use std::collections::BTreeMap;
use std::process::Command;

use crate::http::join;
use crate::playlist::{self, Master, Media};
use crate::tool::{Outcome, TOOL_LIMIT, ffprobe, run};

/// An asset as it plays.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) videos: Vec<Rendition>,
    pub(crate) sound: Option<Rendition>,
    /// What ffmpeg complained about while it decoded all of it, and rules that the playlists break.
    pub(crate) complaints: Vec<String>,
}

/// One rendition of the picture, or the sound.
#[derive(Debug, Clone)]
pub(crate) struct Rendition {
    /// As the address names it.
    pub(crate) name: String,
    pub(crate) url: String,
    /// Size as decoded; nothing for sound.
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Shape of a pixel, as ffmpeg writes it.
    pub(crate) pixel: String,
    /// Start of each decoded frame.
    pub(crate) times_s: Vec<f64>,
    /// End of the last one: of sound by its samples, of a picture by what ffprobe finds in the last chunk.
    pub(crate) end_s: f64,
    /// Sum of the lengths that the playlist states.
    pub(crate) listed_s: f64,
}

/// Decoded frames of one stream: their form and when they are shown.
#[derive(Debug, Default)]
struct Decoded {
    video: bool,
    size: (u32, u32),
    pixel: String,
    tick_s: f64,
    frames: Vec<(f64, f64)>,
}

impl Served {
    /// Decodes everything that the multivariant playlist at `url` offers.
    pub(crate) fn decode(url: &str) -> Outcome<Self> {
        let (master, mut complaints) = playlist::master(url)?;
        let mut command = Command::new("ffmpeg");
        command.args([
            "-hide_banner",
            "-nostdin",
            "-v",
            "warning",
            "-copyts",
            "-i",
            url,
            "-map",
            "0:v?",
            "-map",
            "0:a?",
        ]);
        command.args(["-fps_mode", "passthrough", "-enc_time_base", "-1", "-f", "framecrc", "-"]);
        let ended = run(&mut command, TOOL_LIMIT)?;
        complaints.extend(ended.err.lines().take(5).map(|line| format!("ffmpeg, decoding all of it: {line}")));
        if ended.code != Some(0) {
            return Err(format!("ffmpeg can't decode {url}: {}", complaints.join(" | ")));
        }
        let decoded = decoded(&ended.text());
        let videos = videos(&master, &decoded, &mut complaints)?;
        let sound = sound(&master, &decoded, &mut complaints)?;
        Ok(Self { videos, sound, complaints })
    }
}

/// Lines of ffmpeg's `framecrc`: `#tag stream: value`, and `stream, dts, pts, duration, size, crc`.
fn decoded(text: &str) -> BTreeMap<usize, Decoded> {
    let mut streams: BTreeMap<usize, Decoded> = BTreeMap::new();
    for line in text.lines() {
        if let Some((head, value)) = line.strip_prefix('#').and_then(|line| line.split_once(": ")) {
            let Some((tag, stream)) = head.split_once(' ') else { continue };
            let Ok(stream) = stream.parse::<usize>() else { continue };
            let stream = streams.entry(stream).or_default();
            match tag {
                "tb" => stream.tick_s = ratio(value, '/'),
                "media_type" => stream.video = value == "video",
                "dimensions" => {
                    let (width, height) = value.split_once('x').unwrap_or_default();
                    stream.size = (width.parse().unwrap_or(0), height.parse().unwrap_or(0));
                }
                "sar" => stream.pixel = value.to_owned(),
                _ => {}
            }
            continue;
        }
        let words: Vec<i64> = line.split(',').take(4).filter_map(|word| word.trim().parse().ok()).collect();
        let [stream, _, pts, duration] = words[..] else { continue };
        let stream = streams.entry(usize::try_from(stream).unwrap_or(usize::MAX)).or_default();
        stream.frames.push((pts as f64 * stream.tick_s, duration as f64 * stream.tick_s));
    }
    streams
}

fn ratio(text: &str, between: char) -> f64 {
    let (num, den) = text.split_once(between).unwrap_or((text, "1"));
    num.parse().unwrap_or(0.0) / den.parse::<f64>().unwrap_or(1.0).max(1.0)
}

fn videos(
    master: &Master,
    decoded: &BTreeMap<usize, Decoded>,
    complaints: &mut Vec<String>,
) -> Outcome<Vec<Rendition>> {
    let mut videos = Vec::new();
    for variant in &master.videos {
        let stated = (variant.width, variant.height);
        let Some(stream) = decoded.values().find(|d| d.video && d.size == stated) else {
            complaints
                .push(format!("index.m3u8 states {}x{}, and nothing of that size was decoded", stated.0, stated.1));
            continue;
        };
        videos.push(rendition(&variant.url, stream, complaints)?);
    }
    let count = decoded.values().filter(|d| d.video).count();
    if count != master.videos.len() {
        complaints.push(format!("{} renditions are listed, {count} were decoded", master.videos.len()));
    }
    Ok(videos)
}

fn sound(
    master: &Master,
    decoded: &BTreeMap<usize, Decoded>,
    complaints: &mut Vec<String>,
) -> Outcome<Option<Rendition>> {
    let stream = decoded.values().find(|d| !d.video);
    match (&master.sound, stream) {
        (Some(url), Some(stream)) => rendition(url, stream, complaints).map(Some),
        (None, None) => Ok(None),
        (Some(url), None) => Err(format!("{url} is listed, and no sound was decoded")),
        (None, Some(_)) => Err("sound was decoded that no playlist lists".to_owned()),
    }
}

fn rendition(url: &str, stream: &Decoded, complaints: &mut Vec<String>) -> Outcome<Rendition> {
    let name = url.rsplit('/').next().unwrap_or(url).trim_end_matches(".m3u8").to_owned();
    let list: Media = playlist::media(url)?;
    complaints.extend(playlist::judge(&name, &list));
    let end_s = if stream.video {
        let last = list.last_uri.as_ref().ok_or_else(|| format!("{url} lists nothing"))?;
        end_of_chunk(&join(url, last))?
    } else {
        stream.frames.last().map_or(0.0, |(start, length)| start + length)
    };
    Ok(Rendition {
        name,
        url: url.to_owned(),
        width: stream.size.0,
        height: stream.size.1,
        pixel: stream.pixel.clone(),
        times_s: stream.frames.iter().map(|(start, _)| *start).collect(),
        end_s,
        listed_s: list.span_s(),
    })
}

/// Where the track of a chunk ends. (The last frame in decoding order carries the rest of the track, and ffmpeg's players
/// of lists do not pass that on; its reader of files does.)
fn end_of_chunk(url: &str) -> Outcome<f64> {
    let found = ffprobe(&["-v", "error", "-show_entries", "stream=duration", "-of", "csv=p=0", url])?.text();
    found.trim().parse().map_err(|_| format!("ffprobe finds no length in {url}: {found}"))
}
