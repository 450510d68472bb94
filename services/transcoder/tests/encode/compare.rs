//! A whole source against ffmpeg: every picture, sound to its end, each in its place.

use std::path::Path;

use crate::support::*;

/// Rounding of containers and tracks.
const ROUNDING_US: i64 = 1500;
/// Length of a picture.
const FRAME_US: i64 = 40_000;
/// Most that sound may lie off its place against the picture.
const MOST_OFF_MS: i64 = 40;
/// The rate at which places of sound are compared, and the length of what is compared.
const COMPARED_HZ: usize = 12_000;
const COMPARED_MS: usize = 200;

/// Every picture of `path` as ffmpeg shows it, sound to its end and in its place; what is wrong.
pub(crate) fn wrong(dir: &Path, path: &Path) -> Vec<String> {
    let facts = facts(path);
    let plan = plan(&facts, &[120], None);
    let (mut wrong, name) = (Vec::new(), path.file_name().unwrap().to_string_lossy());
    let expected = facts.video.as_ref().map_or(vec![], |_| decoded_us(path));
    let pictures = facts.video.as_ref().map(|_| {
        let out = encode_whole(path, &facts, &plan);
        assert!(out.made("v120").iter().all(|made| made.missing_ms == 0), "{name}: pictures are missing");
        decoded_us(&out.write(dir, "v120"))
    });
    let hears = facts.audio.as_ref().map(|_| samples(path));
    let first_sound_us = hears.as_ref().map(|_| first_sound_us(path));
    let zero_us = expected.first().copied().into_iter().chain(first_sound_us).min().unwrap().max(0);
    if let Some(seen) = pictures {
        // ffmpeg shows a picture that begins within the edit from the edit's start on, by less than its length.
        let late = |at: i64| (0..=FRAME_US).contains(&(seen[0] - (expected[0] - zero_us))) && at <= ROUNDING_US;
        let apart = seen.iter().zip(&expected).map(|(seen_at, at)| ((seen_at - seen[0]) - (at - expected[0])).abs());
        if seen.len() != expected.len() || !apart.max().is_some_and(late) {
            let (first, of) = (seen.first(), expected.first());
            let count = format!("{name}: {} of {} pictures", seen.len(), expected.len());
            wrong.push(format!("{count}, first at {first:?} instead of {of:?} less {zero_us}"));
        }
    }
    if let Some(source) = hears {
        let out = encode_audio(path, &facts, &plan, 0).unwrap();
        assert!(out.made("a0").iter().all(|made| made.missing_ms == 0), "{name}: sound is missing");
        let heard = samples(&out.write(dir, "a0"));
        let source = &source[(zero_us * 48 / 1000) as usize..];
        let short = source.len().saturating_sub(heard.len()) / 48;
        if short > 25 {
            wrong.push(format!("{name}: sound ends {short} ms early"));
        }
        for part in [0, 1, 2] {
            // The last window lies at the end of the sound, but for what a codec fades.
            let room = source.len().min(heard.len()).saturating_sub((COMPARED_MS + 2 * MOST_OFF_MS as usize + 30) * 48);
            let from = MOST_OFF_MS as usize * 48 + room * part / 2;
            match off_ms(&source[from..], &heard[from - MOST_OFF_MS as usize * 48..]) {
                Some(off) if off.abs() <= MOST_OFF_MS / 2 => {}
                off => wrong.push(format!("{name}: sound at {} ms is off by {off:?} ms", from / 48)),
            }
        }
    }
    wrong
}

/// Where the sound begins: what lies before its edit is not to be heard.
fn first_sound_us(path: &Path) -> i64 {
    let args = ["-v", "error", "-select_streams", "a:0", "-show_entries", "stream=start_time", "-of", "csv=p=0"];
    let text = run("ffprobe", &[&args[..], &[path.to_str().unwrap()]].concat());
    // Streams with side data come with a comma behind them, those of a programme twice; WAV states no times.
    match text.lines().next().map(|line| line.trim_end_matches(',')) {
        Some("N/A") => 0,
        line => (line.unwrap().parse::<f64>().unwrap() * 1e6).round() as i64,
    }
}

/// By how much `heard`, which begins [`MOST_OFF_MS`] earlier, lies off `source`; none where the one is not in the other.
fn off_ms(source: &[f32], heard: &[f32]) -> Option<i64> {
    let thin = |all: &[f32], ms: usize| -> Vec<f32> {
        all.chunks(48_000 / COMPARED_HZ).map(|c| c.iter().sum()).take(ms * COMPARED_HZ / 1000).collect()
    };
    let (source, heard) = (thin(source, COMPARED_MS), thin(heard, COMPARED_MS + 2 * MOST_OFF_MS as usize));
    let power = |all: &[f32]| all.iter().map(|s| s * s).sum::<f32>();
    let like = |lag: usize| {
        let part = heard.get(lag..lag + source.len())?;
        let product: f32 = source.iter().zip(part).map(|(a, b)| a * b).sum();
        Some((lag, product / (power(&source) * power(part)).sqrt().max(1e-9)))
    };
    let best = (0..heard.len().saturating_sub(source.len())).filter_map(like).max_by(|a, b| a.1.total_cmp(&b.1));
    let (lag, like) = best?;
    (like > 0.8).then_some((lag * 1000 / COMPARED_HZ) as i64 - MOST_OFF_MS)
}
