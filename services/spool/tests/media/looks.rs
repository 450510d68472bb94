//! Picture against picture: SSIM of what is served against the source, scaled the same way by ffmpeg.
//!
//! ffmpeg turns and decodes the source, so a picture that is not upright, squeezed or shifted by a frame has no likeness
//! to it. Frames are paired by their number, since times are judged elsewhere.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::grid::Owed;
use crate::served::Rendition;
use crate::source::{Picture, Source};
use crate::tool::{Outcome, TOOL_LIMIT, ffmpeg, run};

/// At most this many frames are compared; of longer assets the start.
const FRAMES: usize = 240;
/// Of renditions between the highest and the lowest every so many frames are compared: all are made of the same decoded
/// pictures, so what one of them has alone is how well it was coded, and that the mean tells.
const BETWEEN_EVERY: usize = 4;

/// Likeness, 1 for the same: the less of that of the luma and that of all planes, so that it holds by either measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Likeness {
    pub(crate) mean: f64,
    pub(crate) worst: f64,
}

/// How the source is turned for a counter-proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Upright,
    Mirrored,
    UpsideDown,
}

/// Likeness of renditions to their source, over the frames that are owed and not repeats. One decode of the source
/// serves all of them.
pub(crate) fn likeness(source: &Source, owed: &Owed, renditions: &[&Rendition], turn: Turn) -> Outcome<Vec<Likeness>> {
    let picture = source.picture.as_ref().ok_or("no picture to compare with")?;
    let notes = tempfile::tempdir().map_err(|error| format!("a temporary directory: {error}"))?;
    let frames = owed.times_s.len().saturating_sub(owed.repeats.len()).min(FRAMES);
    let turn = match turn {
        Turn::Upright => "",
        Turn::Mirrored => "hflip,",
        Turn::UpsideDown => "vflip,",
    };
    // The element that deinterlaces is not ours to choose; ffmpeg's best one is the measure.
    let weave = if picture.interlaced { "bwdif=mode=send_frame," } else { "" };
    let repeats: Vec<String> = owed.repeats.iter().map(|n| format!("eq(n\\,{n})")).collect();
    let unrepeat = if repeats.is_empty() { String::new() } else { format!("select='not({})',", repeats.join("+")) };
    let (position, every, count) = (picture.position, owed.keep_every, renditions.len());
    let mut graph = format!("[0:v:{position}]{weave}select='not(mod(n\\,{every}))',{turn}split={count}");
    (0..count).for_each(|n| graph.push_str(&format!("[s{n}]")));
    let step = |n: usize| if n == 0 || n + 1 == count { 1 } else { BETWEEN_EVERY };
    for (n, rendition) in renditions.iter().enumerate() {
        let (width, height, input, notes) = (rendition.width, rendition.height, n + 1, note(notes.path(), n));
        let scale = format!("scale={width}:{height}:flags=bicubic+accurate_rnd:{},setsar=1", colours(picture));
        let (step, compared) = (step(n), frames.div_ceil(step(n)));
        let thin = if step == 1 { String::new() } else { format!("select='not(mod(n\\,{step}))',") };
        let number = format!("format=yuv420p,settb=1/1000,setpts=N,trim=end_frame={compared}");
        graph.push_str(&format!(
            ";[s{n}]{thin}{scale},{number}[meant{n}];[{input}:v:0]{unrepeat}{thin}{number}[shown{n}]"
        ));
        graph.push_str(&format!(";[shown{n}][meant{n}]ssim=stats_file={}", notes.display()));
    }
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-v", "error", "-i"]).arg(&source.path);
    for rendition in renditions {
        command.args(["-i", &rendition.url]);
    }
    command.args(["-filter_complex", &graph, "-f", "null", "/dev/null"]);
    let ended = run(&mut command, TOOL_LIMIT)?;
    let failed = || format!("{command:?}: {}", ended.err.lines().take(3).collect::<Vec<_>>().join(" | "));
    let read = |n: usize| {
        let text = std::fs::read_to_string(note(notes.path(), n)).ok()?;
        let each: Vec<f64> = text.lines().filter_map(least).collect();
        let mean = each.iter().sum::<f64>() / each.len() as f64;
        (each.len() >= frames.div_ceil(step(n)))
            .then(|| Likeness { mean, worst: each.iter().copied().fold(1.0, f64::min) })
    };
    (0..count).map(|n| read(n).filter(|_| ended.code == Some(0)).ok_or_else(failed)).collect()
}

fn note(dir: &Path, n: usize) -> PathBuf {
    dir.join(format!("ssim-{n}"))
}

/// The less of `Y:0.987` and `All:0.981` of a line of ffmpeg's statistics.
fn least(line: &str) -> Option<f64> {
    let of = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name))?.parse::<f64>().ok();
    Some(of("Y:")?.min(of("All:")?))
}

/// Full range becomes the usual one, the matrix stays: what a rendition says of its own is compared elsewhere.
fn colours(picture: &Picture) -> String {
    let matrix = match picture.matrix.as_deref() {
        Some("bt709") => "bt709",
        Some("bt470bg" | "smpte170m" | "bt601") => "bt601",
        Some("bt2020nc" | "bt2020c") => "bt2020",
        // Nothing is said, so nothing is converted.
        Some(_) | None => "bt709",
    };
    format!("in_range={}:out_range=tv:in_color_matrix={matrix}:out_color_matrix={matrix}", picture.range)
}

/// Source and rendition side by side, for eyes.
pub(crate) fn side_by_side(source: &Source, rendition: &Rendition, to: &Path) -> Outcome<()> {
    let picture = source.picture.as_ref().ok_or("no picture to show")?;
    let (width, height) = (rendition.width, rendition.height);
    let middle = picture.times_s.len() / 2;
    let tone = "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,tonemap=hable,zscale=t=bt709:m=bt709:r=tv";
    let graph = format!(
        "[0:v:{}]select='eq(n\\,{middle})',{tone},scale={width}:{height},format=rgb24[a];\
         [1:v:0]select='eq(n\\,{middle})',format=rgb24[b];[a][b]hstack",
        picture.position
    );
    let (file, to) = (source.path.to_string_lossy(), to.to_string_lossy());
    ffmpeg(&["-v", "error", "-i", &file, "-i", &rendition.url, "-filter_complex", &graph, "-frames:v", "1", &to])?;
    Ok(())
}
