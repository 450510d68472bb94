//! Every good file of the shared collection, where it lies beside the repository; `SPOOL_MEDIA` names another place.

use std::path::Path;
use std::time::Instant;

use spool_kit::testing::shared_media;
use spool_proto::media::*;

use crate::support::*;

/// Repeats that the design names, counted from the source's own frame times.
fn repeats(facts: &SourceFacts, plan: &Plan, times_us: &[i64]) -> usize {
    let video = facts.video.as_ref().unwrap();
    let late = (video.first_ns - facts.zero_ns) as i64 / 1000;
    let times: Vec<i64> = times_us.iter().map(|t| t - times_us[0] + late).collect();
    let segments: u32 = plan.chunks.iter().sum();
    let frame = (1e6 / video.frame_rate.fps()) as i64;
    (0..i64::from(segments))
        .filter(|k| {
            let start = k * 4_000_000;
            let hold = if *k == 0 { frame.min(400_000) } else { 400_000 };
            !times.iter().any(|t| t + 1000 >= start && *t <= start + hold)
        })
        .count()
}

fn equal_neighbours(kept: &Kept) -> usize {
    kept.hashes.lock().unwrap().windows(2).filter(|w| w[0].1 == w[1].1).count()
}

fn check_file(dir: &Path, path: &Path, frames: Option<u64>) -> Result<String, String> {
    let begun = Instant::now();
    let facts = facts(path);
    let inspected = begun.elapsed();
    let short = facts.video.as_ref().map_or(0, |v| v.display_width.min(v.display_height));
    let sides: Vec<u32> = if short >= 360 { vec![360] } else { vec![short] };
    let plan = plan(&facts, &sides, None);
    let mut told = vec![format!("inspect {} ms", inspected.as_millis())];
    let mut wrong = vec![];
    if let Some(video) = &facts.video {
        let kept = encode_video(path, &facts, &plan, 0..=plan.chunk_count() - 1).map_err(|f| f.to_string())?;
        let rung = &plan.rungs[0];
        let out = kept.write(dir, &rung.id);
        let seen = decoded_us(&out).len() as u64;
        let made: u64 = kept.made(&rung.id).iter().map(|m| m.samples).sum();
        let times = stream_us(path, video.stream);
        // AVI has no presentation times for ffprobe to tell: there the repeats are those frames that equal their
        // predecessor, and pairing by time means nothing.
        let timed = facts.container != Container::Avi;
        let repeats = if timed { repeats(&facts, &plan, &times) } else { equal_neighbours(&kept) } as u64;
        let frames = if video.stream == 0 { frames } else { Some(times.len() as u64) };
        told.push(format!("frames {seen} made {made} of {frames:?} + {repeats}"));
        if Some(seen) != frames.map(|f| f + repeats) || seen != made {
            wrong.push("frames".to_owned());
        }
        if video.dynamic_range == DynamicRange::Sdr && timed {
            let filter = if video.interlaced { "bwdif=0," } else { "" };
            let ssim = ssim(&out, path, &facts, filter, rung);
            told.push(format!("ssim {ssim:.4}"));
            if ssim < 0.95 {
                wrong.push(format!("ssim {ssim}"));
            }
        }
        let ticks: u64 = kept.made(&rung.id).iter().flat_map(|m| &m.segments).map(|s| s.duration_ticks).sum();
        let length = ticks as f64 / f64::from(plan.video.unwrap().timescale);
        let planned = facts.duration_ns() as f64 / 1e9;
        told.push(format!("{length:.3} of {planned:.3} s"));
        if (length - planned).abs() > 1.0 / video.frame_rate.fps() + 0.001 {
            wrong.push(format!("length {length}"));
        }
        let complaints = complaints(&out);
        if !complaints.is_empty() {
            wrong.push(complaints);
        }
    }
    if facts.audio.is_some() {
        let kept = encode_audio(path, &facts, &plan, 0).map_err(|f| f.to_string())?;
        let frames: u64 = kept.made("a0").iter().map(|m| m.samples).sum();
        let length = ((frames - 1) * 1024) as f64 / 48_000.0;
        let planned = facts.duration_ns() as f64 / 1e9;
        if (length - planned).abs() > 1024.0 / 48_000.0 {
            wrong.push(format!("sound of {length}"));
        }
        let complaints = complaints(&kept.write(dir, "a0"));
        if !complaints.is_empty() {
            wrong.push(complaints);
        }
    }
    told.push(format!("{} ms", begun.elapsed().as_millis()));
    let told = told.join(", ");
    if wrong.is_empty() { Ok(told) } else { Err(format!("{} ({told})", wrong.join("; "))) }
}

#[test]
#[ignore = "minutes of encoding; `cargo xtask media` runs it"]
fn every_good_file_of_the_collection_comes_out_whole() {
    let Some(collection) = shared_media("every good file, encoded by the code alone") else { return };
    let manifest = std::fs::read_to_string(collection.join("MANIFEST.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let only = std::env::var("SPOOL_MEDIA_ONLY").unwrap_or_default();
    let mut wrong = vec![];
    for file in manifest["files"].as_array().unwrap() {
        let name = file["name"].as_str().unwrap();
        if file["expect"] == "reject" || !name.contains(&only) {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clip");
        std::fs::copy(collection.join(name), &path).unwrap();
        let checked = std::panic::catch_unwind(|| check_file(dir.path(), &path, file["frames"].as_u64()));
        match checked.unwrap_or_else(|_| Err("panicked".to_owned())) {
            Ok(told) => println!("ok    {name}: {told}"),
            Err(told) => {
                println!("WRONG {name}: {told}");
                wrong.push(format!("{name}: {told}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
