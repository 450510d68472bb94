//! What inspecting refuses for its size, its length, its number of samples or the rate of them: each with a sentence that
//! names both what was found and what is allowed.

use std::time::Duration;

use spool_kit::units::{at_least, spoken};

use crate::order::{Failure, FailureCode, InspectLimits};

/// Refuses a picture that is too large.
pub(super) fn size_fits(limits: &InspectLimits, (width, height): (u32, u32)) -> Result<(), Failure> {
    if width.max(height) <= limits.max_side_px && area((width, height)) <= limits.max_pixels {
        return Ok(());
    }
    // In the words of the sentence: "at most … are taken".
    let limit = format!("{} on a side and {} million in all", limits.max_side_px, limits.max_pixels / 1_000_000);
    Err(Failure::new(FailureCode::SourcePictureTooLarge, "by its header")
        .with("width", width)
        .with("height", height)
        .with("limit", limit))
}

/// Refuses what lasts too long.
pub(super) fn length_fits(limits: &InspectLimits, duration_ns: u64) -> Result<(), Failure> {
    let Some(limit) = limits.max_duration_ms.map(Duration::from_millis) else { return Ok(()) };
    let duration = Duration::from_nanos(duration_ns);
    if duration <= limit {
        return Ok(());
    }
    let failure = Failure::new(FailureCode::SourceTooLong, format!("{duration:?} of at most {limit:?}"));
    Err(failure.with("duration", at_least(duration)).with("limit", spoken(limit)))
}

/// Samples of sound a second, of each channel, that recorders write at most.
const MOST_SOUND_HZ: u32 = 768_000;

/// Refuses sound at a rate that nothing records at: a header that says so is broken, and resampling it has no bounds.
pub(super) fn sound_rate_fits(rate: u32) -> Result<(), Failure> {
    if (1..=MOST_SOUND_HZ).contains(&rate) {
        return Ok(());
    }
    let part = format!("header (it states {rate} samples of sound a second)");
    Err(Failure::new(FailureCode::SourceCorrupt, "by its sample rate").with("part", part))
}

/// Refuses pictures at a rate that no pipeline can state. AVI takes 32 bits for it, which come out as a negative number
/// where the first is set.
pub(super) fn picture_rate_fits(caps: &gst::Caps) -> Result<(), Failure> {
    let stated = caps.structure(0).and_then(|form| form.get::<gst::Fraction>("framerate").ok());
    let Some(rate) = stated.filter(|rate| rate.numer() < 0) else { return Ok(()) };
    let pictures = rate.numer().cast_unsigned() / rate.denom().unsigned_abs().max(1);
    let part = format!("header (it states {pictures} pictures a second)");
    Err(Failure::new(FailureCode::SourceCorrupt, "by its frame rate").with("part", part))
}

/// The refusal of a stream in which `met` samples were met, and more are left.
pub(super) fn too_many(limits: &InspectLimits, met: usize) -> Failure {
    Failure::new(FailureCode::SourceTooLong, format!("more than {met} samples"))
        .with("duration", format!("more than {} frames or packets of sound", limits.max_samples))
        .with("limit", "that")
}

/// Pixels of a picture.
pub(super) fn area((width, height): (u32, u32)) -> u64 {
    u64::from(width) * u64::from(height)
}
