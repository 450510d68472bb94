//! Size and likeness of a rendition, by tools that are not ours.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::encode::Rung;
use crate::Failure;
use crate::run::ask;

/// A rendition as it was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found {
    /// Bytes of its coded pictures, without the container.
    pub(super) bytes: f64,
    /// SSIM over all planes against the source, scaled the same way.
    pub(super) ssim: f64,
}

/// Measures the stream of that size in `place` (a playlist's address or path).
pub(super) fn found(place: &str, rung: &Rung, source: &Path, fps: &str) -> Result<Found, Failure> {
    let stream = stream_of(place, rung)?;
    let mut probe = Command::new("ffprobe");
    probe.args(["-v", "error", "-select_streams", &stream, "-show_entries", "packet=size", "-of", "csv=p=0", place]);
    let sizes = ask(&mut probe).ok_or_else(|| format!("ffprobe can't read {place}"))?;
    let bytes: f64 = sizes.lines().filter_map(|line| line.trim_end_matches(',').parse::<f64>().ok()).sum();
    // Frame numbers instead of times, so that no rounding pairs two neighbours.
    let number = format!("settb=1/({fps}),setpts=N");
    let graph = format!(
        "[0:{stream}]{number}[coded];[1:v:0]scale={}:{}:flags=bicubic,{number}[meant];[coded][meant]ssim",
        rung.width, rung.height
    );
    let mut compare = Command::new("ffmpeg");
    compare.args(["-v", "info", "-nostats", "-i", place, "-i"]).arg(source);
    let output = compare.args(["-lavfi", &graph, "-f", "null", "-"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let ssim = said.rsplit_once("All:").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    let ssim = ssim.ok_or_else(|| format!("ffmpeg compared nothing in {place}: {said}"))?;
    Ok(Found { bytes, ssim })
}

/// Which stream of a playlist has that size.
fn stream_of(place: &str, rung: &Rung) -> Result<String, Failure> {
    let mut probe = Command::new("ffprobe");
    probe.args([
        "-v",
        "error",
        "-select_streams",
        "v",
        "-show_entries",
        "stream=index,width,height",
        "-of",
        "json",
        place,
    ]);
    let text = ask(&mut probe).ok_or_else(|| format!("ffprobe can't read {place}"))?;
    let about: Value = serde_json::from_str(&text)?;
    let streams = about["streams"].as_array().ok_or("no streams")?;
    let stream = streams.iter().find(|it| it["width"] == rung.width && it["height"] == rung.height);
    let index = stream.and_then(|it| it["index"].as_u64());
    index.map(|index| index.to_string()).ok_or_else(|| format!("{place} has no {}x{}", rung.width, rung.height).into())
}
