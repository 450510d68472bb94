//! Sound against sound: how far what is heard is moved against the source; and flashes against beeps.

use std::process::Command;

use crate::served::Rendition;
use crate::source::{Picture, Sound};
use crate::tool::{Outcome, TOOL_LIMIT, run};

/// Samples a second for comparing. Half a millisecond is exact enough, and cheap.
const RATE: usize = 2000;
/// Movement is looked for up to this far either way.
const FARTHEST: usize = RATE / 4;
/// Length that is compared at the start, and again at the end of longer ones.
const WINDOW: usize = RATE * 8;
/// Quieter than this (of 32767) is silence, which is alike everywhere.
const SILENCE: f64 = 30.0;
/// Periodic sound is alike at many distances; the nearest of those this close to the best counts.
const AS_GOOD: f64 = 0.995;

/// How far the sound was moved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Moved {
    /// By this much at the start and at the end (later is more), alike by at least this much (1 is the same).
    By { start_s: f64, end_s: f64, alike: f64 },
    /// Nothing is to be heard, or nothing that ffmpeg decodes whole.
    Unknown,
}

/// The source's sound on the timeline that begins at `zero_s`, `span_s` long.
pub(crate) fn of_source(file: &str, sound: &Sound, zero_s: f64, span_s: f64) -> Outcome<Vec<i16>> {
    let stream = format!("0:a:{}", sound.position);
    // Gaps are filled, so that what follows one stays in its place.
    let heard = pcm(&["-copyts", "-i", file, "-map", &stream, "-af", "aresample=async=1"])?;
    Ok(placed(&heard, sound.decoded_s - zero_s, span_s))
}

/// What is served, on its own timeline.
pub(crate) fn of_rendition(rendition: &Rendition, span_s: f64) -> Outcome<Vec<i16>> {
    let heard = pcm(&["-copyts", "-i", &rendition.url, "-map", "0:a:0"])?;
    Ok(placed(&heard, rendition.times_s.first().copied().unwrap_or(0.0), span_s))
}

fn pcm(args: &[&str]) -> Outcome<Vec<i16>> {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-v", "error"]).args(args);
    command.args(["-ac", "1", "-ar", &RATE.to_string(), "-f", "s16le", "-"]);
    let ended = run(&mut command, TOOL_LIMIT)?;
    if ended.code != Some(0) {
        return Err(format!("{command:?}: {}", ended.err));
    }
    Ok(ended.out.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect())
}

fn placed(samples: &[i16], start_s: f64, span_s: f64) -> Vec<i16> {
    let mut line = vec![0; (span_s.max(0.0) * RATE as f64).ceil() as usize];
    let start = (start_s * RATE as f64).round() as i64;
    for (at, sample) in samples.iter().enumerate() {
        let place = usize::try_from(start + at as i64).ok();
        if let Some(slot) = place.and_then(|place| line.get_mut(place)) {
            *slot = *sample;
        }
    }
    line
}

/// How far `heard` was moved against `meant`; both begin at the timeline's zero.
pub(crate) fn moved(meant: &[i16], heard: &[i16]) -> Moved {
    let length = meant.len().min(heard.len());
    let start = lag(&meant[..length.min(WINDOW)], &heard[..length.min(WINDOW)]);
    let end =
        if length > 2 * WINDOW { lag(&meant[length - WINDOW..length], &heard[length - WINDOW..length]) } else { start };
    match (start, end) {
        (Some(start), Some(end)) => Moved::By { start_s: start.0, end_s: end.0, alike: start.1.min(end.1) },
        (Some(one), None) | (None, Some(one)) => Moved::By { start_s: one.0, end_s: one.0, alike: one.1 },
        (None, None) => Moved::Unknown,
    }
}

/// Seconds by which `heard` comes later than `meant`, and how alike they are then.
fn lag(meant: &[i16], heard: &[i16]) -> Option<(f64, f64)> {
    let margin = FARTHEST.min(meant.len() / 4);
    let meant: Vec<f32> = meant.iter().map(|s| f32::from(*s)).collect();
    let heard: Vec<f32> = heard.iter().map(|s| f32::from(*s)).collect();
    let inner = meant.get(margin..meant.len() - margin)?;
    let energy = |part: &[f32]| part.iter().map(|s| f64::from(s * s)).sum::<f64>();
    let meant_energy = energy(inner);
    if (meant_energy / inner.len().max(1) as f64).sqrt() < SILENCE {
        return None;
    }
    let likeness: Vec<f64> = (0..=2 * margin)
        .map(|shift| {
            let part = &heard[shift..shift + inner.len()];
            let product: f32 = inner.iter().zip(part).map(|(a, b)| a * b).sum();
            f64::from(product) / (meant_energy * energy(part)).sqrt().max(1.0)
        })
        .collect();
    let best = likeness.iter().copied().fold(0.0, f64::max);
    let good = (0..likeness.len()).filter(|shift| likeness[*shift] >= best * AS_GOOD);
    let nearest = good.min_by_key(|shift| shift.abs_diff(margin))?;
    Some(((nearest as f64 - margin as f64) / RATE as f64, best))
}

/// When the picture turns white, by the times given for its frames.
pub(crate) fn flashes(file: &str, stream: &str, times_s: &[f64]) -> Outcome<Vec<f64>> {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-v", "error", "-i", file, "-map", stream, "-fps_mode", "passthrough"]);
    command.args(["-vf", "scale=8:8:flags=area,format=gray", "-f", "rawvideo", "-"]);
    let ended = run(&mut command, TOOL_LIMIT)?;
    let bright = ended.out.chunks_exact(64).map(|frame| frame.iter().map(|p| u32::from(*p)).sum::<u32>() > 64 * 120);
    let mut before = true;
    let mut flashes = Vec::new();
    for (bright, time) in bright.zip(times_s) {
        if bright && !before {
            flashes.push(*time);
        }
        before = bright;
    }
    Ok(flashes)
}

/// When a beep begins after silence, on a timeline that begins at 0.
pub(crate) fn beeps(line: &[i16]) -> Vec<f64> {
    let mut quiet = 0;
    let mut beeps = Vec::new();
    for (at, sample) in line.iter().enumerate() {
        if sample.unsigned_abs() > 3000 {
            if quiet > RATE / 5 {
                beeps.push(at as f64 / RATE as f64);
            }
            quiet = 0;
        } else {
            quiet += 1;
        }
    }
    beeps
}

/// Greatest difference between what lies between a flash and its beep in the source and in what is served.
pub(crate) fn flash_to_beep(
    file: &str,
    picture: &Picture,
    sound: &Sound,
    zero_s: f64,
    video: &Rendition,
    audio: &Rendition,
    span_s: f64,
) -> Outcome<f64> {
    let between = |flashes: &[f64], beeps: &[f64]| -> Outcome<Vec<f64>> {
        if flashes.len() < 2 || flashes.len() != beeps.len() {
            return Err(format!("{} flashes and {} beeps", flashes.len(), beeps.len()));
        }
        Ok(flashes.iter().zip(beeps).map(|(flash, beep)| beep - flash).collect())
    };
    let times: Vec<f64> = picture.times_s.iter().map(|t| t - zero_s).collect();
    let meant = between(
        &flashes(file, &format!("0:v:{}", picture.position), &times)?,
        &beeps(&of_source(file, sound, zero_s, span_s)?),
    )?;
    let shown = between(&flashes(&video.url, "0:v:0", &video.times_s)?, &beeps(&of_rendition(audio, span_s)?))?;
    if meant.len() != shown.len() {
        return Err(format!("{} flashes of {} are left", shown.len(), meant.len()));
    }
    Ok(meant.iter().zip(&shown).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise, the same for the same seed.
    fn noise(length: usize) -> Vec<i16> {
        let mut state = 7u32;
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 18) as i16 - 8192
            })
            .collect()
    }

    #[test]
    fn a_movement_is_measured_to_the_half_millisecond() {
        let meant = noise(RATE * 3);
        let late: Vec<i16> = std::iter::repeat_n(0, 100).chain(meant.iter().copied()).collect();
        let Moved::By { start_s, alike, .. } = moved(&meant, &late) else { panic!("silent") };
        assert!((start_s - 0.05).abs() < 0.001 && alike > 0.99, "{start_s} {alike}");
        assert_eq!(moved(&vec![0; RATE], &late), Moved::Unknown);
    }

    #[test]
    fn sound_that_drifts_is_noticed_at_its_end() {
        let meant = noise(RATE * 20);
        let mut drifted = meant.clone();
        drifted.splice(RATE * 10..RATE * 10, std::iter::repeat_n(0, 200));
        let Moved::By { start_s, end_s, .. } = moved(&meant, &drifted) else { panic!("silent") };
        assert!(start_s.abs() < 0.001 && (end_s - 0.1).abs() < 0.001, "{start_s} {end_s}");
    }
}
