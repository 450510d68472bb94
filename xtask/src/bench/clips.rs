//! The sources: natural pictures where there are some, made once and kept.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Failure;
use crate::run::{ask, must, shared_media};

/// Length of the clip whose ladder is timed.
const CLIP_S: u32 = 40;
/// Its frame rate: that of phones and screens.
const FPS: &str = "30";

/// 40 s of 1080p with sound: the longest fitting file of `../shared/media` in a loop, else a picture that ffmpeg computes.
pub(super) fn natural(home: &Path) -> Result<PathBuf, Failure> {
    let clip = home.join("natural.mp4");
    if clip.is_file() {
        return Ok(clip);
    }
    let half_made = home.join("natural.part");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y"]);
    match shared_media().and_then(|media| longest_of(&media)) {
        Some(source) => {
            println!("clip: {} in a loop", source.display());
            command.args(["-stream_loop", "-1", "-i"]).arg(source);
        }
        None => {
            println!("clip: a zoom into the Mandelbrot set with noise, since ../shared/media holds no natural 1080p");
            command.args(["-f", "lavfi", "-i", "mandelbrot=s=1920x1080:r=30,noise=alls=6:allf=t"]);
            command.args(["-f", "lavfi", "-i", "sine=frequency=330:beep_factor=4:sample_rate=48000"]);
        }
    }
    command.args([
        "-t",
        &CLIP_S.to_string(),
        "-r",
        FPS,
        "-pix_fmt",
        "yuv420p",
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
    ]);
    command.args(["-crf", "20", "-g", "250", "-c:a", "aac", "-b:a", "128k", "-ac", "2", "-f", "mp4"]).arg(&half_made);
    must(&mut command)?;
    std::fs::rename(&half_made, &clip)?;
    Ok(clip)
}

/// The clip with 720 lines: a ladder that two cores make faster than it plays. One that they can't is opened later the
/// longer it is, and rightly: a player would have to wait.
pub(super) fn smaller(clip: &Path, home: &Path) -> Result<PathBuf, Failure> {
    let small = home.join("720.mp4");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-i"]).arg(clip).args(["-vf", "scale=-2:720", "-c:v", "libx264"]);
    must(command.args(["-preset", "veryfast", "-crf", "22", "-g", "250", "-c:a", "copy"]).arg(&small))?;
    Ok(small)
}

/// The clip again and again, cut to this length. Copied, not coded anew.
pub(super) fn repeated(clip: &Path, seconds: u32, home: &Path) -> Result<PathBuf, Failure> {
    let longer = home.join(format!("{seconds}s.mp4"));
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-stream_loop", "-1", "-i"]).arg(clip);
    must(command.args(["-t", &seconds.to_string(), "-c", "copy"]).arg(&longer))?;
    Ok(longer)
}

/// The longest H.264 file of 1920x1080 with 8 bits and sound: what a camera or an editor hands over.
fn longest_of(directory: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    let fitting = files.filter_map(|path| length_if_fitting(&path).map(|length| (length, path)));
    fitting.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, path)| path)
}

fn length_if_fitting(path: &Path) -> Option<f64> {
    let mut probe = Command::new("ffprobe");
    probe.args(["-v", "quiet", "-of", "json", "-show_streams", "-show_format"]).arg(path);
    let about: Value = serde_json::from_str(&ask(&mut probe)?).ok()?;
    let streams = about["streams"].as_array()?;
    let picture = streams.iter().find(|stream| stream["codec_type"] == "video")?;
    let fits = picture["codec_name"] == "h264"
        && picture["width"] == 1920
        && picture["height"] == 1080
        && picture["pix_fmt"] == "yuv420p"
        && picture["field_order"] == "progressive"
        && picture["side_data_list"].is_null()
        && streams.iter().any(|stream| stream["codec_type"] == "audio");
    about["format"]["duration"].as_str()?.parse().ok().filter(|_| fits)
}
