//! The ladder of a clip, by Spool from the last byte to *ready*, and by one ffmpeg process that decodes once.
//!
//! Spool's side is the whole walk: checking the file, planning, encoding in chunks, storing, publishing. ffmpeg's side is
//! the same ladder with the same preset, quality, rate buffer, keyframes and threads, written as fragmented HLS.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::Bench;
use super::figures::{Runs, at_size};
use super::picture::{Found, found};
use super::tree::{Peak, cpu_of_children_s, cpu_s, wait};
use crate::Failure;
use crate::run::ask;
use crate::server::Server;

/// Steps of quality around a rung's own, from which ffmpeg's likeness at our size is read off.
const QUALITIES: [i64; 3] = [-2, 0, 2];

/// A rendition as Spool planned it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rung {
    pub(super) id: String,
    pub(super) width: u64,
    pub(super) height: u64,
    crf: i64,
    max_bps: u64,
    buffer_ms: u64,
    threads: u64,
}

/// What one side used.
#[derive(Default)]
struct Side {
    wall_s: Runs,
    cpu_s: Runs,
    peak_mib: Runs,
}

impl Side {
    fn push(&mut self, (wall_s, cpu_s, peak_mib): (f64, f64, f64)) {
        self.wall_s.push(wall_s);
        self.cpu_s.push(cpu_s);
        self.peak_mib.push(peak_mib);
    }
}

/// One push to its end.
struct Made {
    used: (f64, f64, f64),
    ladder: Vec<Rung>,
    audio_bps: u64,
    play_url: String,
    server: Server,
    /// Where it keeps its data; removed with it.
    _home: tempfile::TempDir,
}

pub(super) fn run(bench: &Bench, clip: &Path) -> Result<(), Failure> {
    let (mut ours, mut theirs) = (Side::default(), Side::default());
    let mut last = None;
    for round in 1..=bench.rounds {
        let mut made = spool(bench, clip)?;
        ours.push(made.used);
        if round < bench.rounds {
            made.server.stop()?;
        }
        let scratch = tempfile::tempdir_in(&bench.home)?;
        let used = ffmpeg(clip, scratch.path(), &made.ladder, made.audio_bps, 0)?;
        println!(
            "round {round}: spool {:.1} s wall {:.1} s CPU {:.0} MiB, ffmpeg {:.1} s wall {:.1} s CPU {:.0} MiB",
            made.used.0, made.used.1, made.used.2, used.0, used.1, used.2
        );
        theirs.push(used);
        last = Some(made);
    }
    let mut made = last.ok_or("no round was run")?;
    println!("\nencode: {} in {} renditions, {} rounds\n", clip.display(), made.ladder.len(), bench.rounds);
    println!("{:<12} {:>26} {:>26} {:>8}", "", "spool", "ffmpeg", "ratio");
    for (name, ours, theirs, digits) in [
        ("wall s", &ours.wall_s, &theirs.wall_s, 1),
        ("CPU s", &ours.cpu_s, &theirs.cpu_s, 1),
        ("peak MiB", &ours.peak_mib, &theirs.peak_mib, 0),
    ] {
        println!("{name:<12} {:>26} {:>26} {:>8.2}", ours.text(digits), theirs.text(digits), ours.of(theirs));
    }
    likeness(bench, clip, &made)?;
    made.server.stop()
}

/// Size and SSIM of each rendition beside ffmpeg's, and beside ffmpeg's at the same size.
fn likeness(bench: &Bench, clip: &Path, made: &Made) -> Result<(), Failure> {
    let fps = frame_rate(clip)?;
    let mut curves: Vec<Vec<Found>> = vec![Vec::new(); made.ladder.len()];
    for step in QUALITIES {
        let scratch = tempfile::tempdir_in(&bench.home)?;
        ffmpeg(clip, scratch.path(), &made.ladder, made.audio_bps, step)?;
        for (rung, curve) in made.ladder.iter().zip(&mut curves) {
            let list = scratch.path().join(format!("{}.m3u8", rung.id));
            curve.push(found(&list.to_string_lossy(), rung, clip, &fps)?);
        }
    }
    println!(
        "\n{:<8} {:>12} {:>12} {:>8} {:>9} {:>9} {:>16} {:>11}",
        "", "spool bytes", "ffmpeg", "ratio", "SSIM", "ffmpeg", "ffmpeg, our size", "difference"
    );
    for (rung, curve) in made.ladder.iter().zip(&curves) {
        let ours = found(&made.play_url, rung, clip, &fps)?;
        let same = curve[QUALITIES.len() / 2];
        let points: Vec<(f64, f64)> = curve.iter().map(|found| (found.bytes, found.ssim)).collect();
        let meant = at_size(&points, ours.bytes).unwrap_or(same.ssim);
        println!(
            "{:<8} {:>12.0} {:>12.0} {:>8.3} {:>9.4} {:>9.4} {meant:>16.4} {:>11.4}",
            rung.id,
            ours.bytes,
            same.bytes,
            ours.bytes / same.bytes,
            ours.ssim,
            same.ssim,
            ours.ssim - meant
        );
    }
    Ok(())
}

/// Pushes the clip into a Spool of its own, to *ready*.
fn spool(bench: &Bench, clip: &Path) -> Result<Made, Failure> {
    let home = tempfile::tempdir_in(&bench.home)?;
    let server = Server::start(&bench.spool, home.path(), &bench.nats, "127.0.0.1:0")?;
    let root = server.process.id();
    let peak = Peak::watch(root);
    let before = cpu_s(root)?;
    let mut push = Command::new(&bench.spool);
    push.args(["--json", "--server", &server.url, "push", "--wait", "--fresh"]).arg(clip).stderr(Stdio::inherit());
    let said = ask(&mut push).ok_or_else(|| format!("the push failed; see {}", server.log.display()))?;
    let (cpu, peak) = (cpu_s(root)? - before, peak.mib());
    let end: Value = serde_json::from_str(said.lines().last().unwrap_or_default())?;
    let id = end["id"].as_str().ok_or("no id")?;
    let ready_ms = end["ready_ms"].as_f64().ok_or("it did not become ready")?;
    let events =
        ask(Command::new(&bench.spool).args(["--json", "--server", &server.url, "events", id])).ok_or("no events")?;
    let (ladder, audio_bps) = planned(&events)?;
    let play_url = end["play_url"].as_str().ok_or("no play URL")?.to_owned();
    Ok(Made { used: (ready_ms / 1000.0, cpu, peak), ladder, audio_bps, play_url, server, _home: home })
}

/// The ladder that the fact `EncodePlanned` states, and the rate of its sound (0: none).
fn planned(events: &str) -> Result<(Vec<Rung>, u64), Failure> {
    let events: Vec<Value> = events.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let plan = events.iter().find(|event| event["kind"] == "EncodePlanned").ok_or("nothing was planned")?;
    let renditions = plan["data"]["renditions"].as_array().ok_or("no renditions")?;
    let ladder = renditions.iter().filter_map(|it| {
        Some(Rung {
            id: it["id"].as_str()?.to_owned(),
            width: it["width"].as_u64()?,
            height: it["height"].as_u64()?,
            crf: it["crf"].as_i64()?,
            max_bps: it["max_bps"].as_u64()?,
            buffer_ms: it["buffer_ms"].as_u64()?,
            threads: it["threads"].as_u64()?,
        })
    });
    let audio_bps = renditions.iter().find_map(|it| it["bps"].as_u64()).unwrap_or(0);
    Ok((ladder.collect(), audio_bps))
}

/// Makes the same ladder with one ffmpeg process; its quality moved by `step`.
fn ffmpeg(clip: &Path, to: &Path, ladder: &[Rung], audio_bps: u64, step: i64) -> Result<(f64, f64, f64), Failure> {
    let mut graph = format!("[0:v:0]split={}", ladder.len());
    ladder.iter().for_each(|rung| graph.push_str(&format!("[in_{}]", rung.id)));
    for rung in ladder {
        graph.push_str(&format!(";[in_{0}]scale={1}:{2}:flags=bicubic[{0}]", rung.id, rung.width, rung.height));
    }
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y", "-i"]).arg(clip).args(["-filter_complex", &graph]);
    for rung in ladder {
        let (kbps, buffer) = (rung.max_bps / 1000, rung.max_bps * rung.buffer_ms / 1_000_000);
        command.args([
            "-map",
            &format!("[{}]", rung.id),
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-profile:v",
            "high",
        ]);
        command.args(["-crf", &(rung.crf + step).to_string(), "-maxrate", &format!("{kbps}k")]);
        command.args(["-bufsize", &format!("{buffer}k"), "-threads", &rung.threads.to_string(), "-bf", "2"]);
        command.args(["-g", "1000000", "-x264-params", "scenecut=0", "-force_key_frames", "expr:gte(t,n_forced*2)"]);
        hls(&mut command, &to.join(format!("{}.m3u8", rung.id)));
    }
    if audio_bps > 0 {
        command.args(["-map", "0:a:0", "-c:a", "aac", "-b:a", &audio_bps.to_string()]);
        hls(&mut command, &to.join("a0.m3u8"));
    }
    let (started, before) = (Instant::now(), cpu_of_children_s()?);
    let child = command.spawn().map_err(|error| format!("start ffmpeg: {error}"))?;
    let peak = Peak::watch(child.id());
    wait(child, "ffmpeg")?;
    Ok((started.elapsed().as_secs_f64(), cpu_of_children_s()? - before, peak.mib()))
}

fn hls(command: &mut Command, list: &Path) {
    let init = format!("{}-init.mp4", list.file_stem().unwrap_or_default().to_string_lossy());
    let segments: PathBuf = list.with_extension("%d.m4s");
    command.args(["-f", "hls", "-hls_time", "4", "-hls_playlist_type", "vod", "-hls_segment_type", "fmp4"]);
    command.args(["-hls_fmp4_init_filename", &init, "-hls_segment_filename"]).arg(segments).arg(list);
}

fn frame_rate(clip: &Path) -> Result<String, Failure> {
    let mut probe = Command::new("ffprobe");
    probe.args(["-v", "error", "-select_streams", "v:0", "-show_entries", "stream=r_frame_rate", "-of", "csv=p=0"]);
    let text = ask(probe.arg(clip)).ok_or_else(|| format!("ffprobe can't read {}", clip.display()))?;
    Ok(text.trim().trim_end_matches(',').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_is_read_from_the_fact() {
        let events = concat!(
            r#"{"kind":"SourceAccepted","data":{}}"#,
            "\n",
            r#"{"kind":"EncodePlanned","data":{"renditions":[{"id":"v240","width":426,"height":240,"crf":21,"#,
            r#""max_bps":400000,"buffer_ms":2000,"threads":2},{"id":"a0","bps":128000}]}}"#
        );
        let (ladder, audio) = planned(events).expect("a plan");
        assert_eq!((ladder.len(), ladder[0].crf, audio), (1, 21, 128_000));
        assert!(planned("").is_err());
    }
}
