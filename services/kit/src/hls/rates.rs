//! What a multivariant playlist declares about a generation: from the plan while it grows, measured when it is finished.

use spool_proto::asset::Generation;
use spool_proto::media::{NS_PER_MS, Plan, Receipt, Rung};

use super::{Master, Sound, Variant, finished_path, growing_path};

/// Boxes around the samples, in bits a second, at most: 16 bytes of `trun` a frame at 60 frames, and a head of some 120
/// bytes a segment.
const BOXES_BPS: u64 = 8_000;
/// Peak of the sound in percent of its nominal rate: ffmpeg's AAC at 128 kb/s stayed below 110 in any two seconds of the
/// shared set; room to spare, since a growing list may declare too much and never too little.
const SOUND_PEAK_PERCENT: u64 = 115;

/// Peak bits a second of a rung before anything of it is made: what the rate buffer lets through in one full segment, if it
/// is full at its start. The encoder is held to it (VBV), so no full segment can exceed it.
pub fn declared_rung_bps(plan: &Plan, rung: &Rung) -> u64 {
    let segment_ms = (plan.segment_ns / NS_PER_MS).max(1);
    rung.max_bps + rung.max_bps * u64::from(rung.buffer_ms) / segment_ms + BOXES_BPS
}

/// Peak bits a second of the sound before anything of it is made; 0 without sound.
pub fn declared_sound_bps(plan: &Plan) -> u64 {
    plan.audio.as_ref().map_or(0, |audio| audio.bps * SOUND_PEAK_PERCENT / 100 + BOXES_BPS)
}

/// The multivariant playlist of a growing generation; nothing before its first chunk stands in every rendition.
pub fn declared(number: u32, generation: &Generation) -> Option<Master> {
    let plan = generation.plan();
    let sound = plan.audio.as_ref().map_or(0, |audio| audio.bps + BOXES_BPS);
    let declare = |rendition: &str| match plan.rungs.iter().find(|rung| rung.id == rendition) {
        Some(rung) => Rates {
            peak: declared_rung_bps(plan, rung) + declared_sound_bps(plan),
            mean: rung.max_bps + BOXES_BPS + sound,
        },
        None => Rates { peak: declared_sound_bps(plan), mean: sound },
    };
    master(generation, true, |rendition| growing_path(number, rendition), declare)
}

/// The multivariant playlist of a completed generation, published as `revision`; nothing while a receipt is missing.
pub fn measured(revision: u32, generation: &Generation, target_s: u32) -> Option<Master> {
    let plan = generation.plan();
    let of = |rendition: &str| Some(Rates::of(&receipts(generation, rendition)?, target_s));
    let sound = match &plan.audio {
        Some(audio) => of(&audio.id)?,
        None => Rates::default(),
    };
    let renditions = plan.rungs.iter().map(|rung| Some((rung.id.clone(), of(&rung.id)?)));
    let pictures: Vec<(String, Rates)> = renditions.collect::<Option<_>>()?;
    let measure = |rendition: &str| match pictures.iter().find(|(id, _)| id == rendition) {
        Some((_, picture)) => Rates { peak: picture.peak + sound.peak, mean: picture.mean + sound.mean },
        None => sound,
    };
    master(generation, false, |rendition| finished_path(revision, rendition), measure)
}

/// Every receipt of a rendition in the order of the chunks; nothing unless all planned chunks stand.
pub fn receipts<'a>(generation: &'a Generation, rendition: &str) -> Option<Vec<&'a Receipt>> {
    (0..generation.plan().chunk_count()).map(|chunk| receipt(generation, rendition, chunk)).collect()
}

/// The receipt of one chunk of a rendition of picture or sound, once it stands.
pub fn receipt<'a>(generation: &'a Generation, rendition: &str, chunk: u32) -> Option<&'a Receipt> {
    if generation.plan().audio.as_ref().is_some_and(|audio| audio.id == rendition) {
        return Some(&generation.audio.get(&0)?.get(&chunk)?.it.receipt);
    }
    generation.video.get(&chunk)?.it.receipts.iter().find(|receipt| receipt.rendition == rendition)
}

/// Bits a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Rates {
    peak: u64,
    mean: u64,
}

impl Rates {
    /// Measured over the segments of a whole rendition, whose receipts share a timescale, as they share an init section.
    fn of(receipts: &[&Receipt], target_s: u32) -> Self {
        let timescale = receipts.first().map_or(1, |receipt| u64::from(receipt.timescale));
        let segments = receipts.iter().flat_map(|receipt| &receipt.segments);
        let sizes: Vec<(u64, u64)> = segments.map(|segment| (segment.length, segment.duration_ticks)).collect();
        let total = sizes.iter().fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
        let mean = bps(total, timescale);
        Self { peak: peak_bps(&sizes, u64::from(target_s), timescale).max(mean), mean }
    }
}

/// RFC 8216 §4.1: the largest bit rate of any contiguous run of segments that lasts 0.5 to 1.5 target durations. Sizes
/// are bytes and ticks; 0 if no run lasts that long.
fn peak_bps(sizes: &[(u64, u64)], target_s: u64, timescale: u64) -> u64 {
    let target = target_s * timescale;
    let mut peak = 0;
    for start in 0..sizes.len() {
        let (mut bytes, mut span) = (0, 0);
        for (length, duration) in &sizes[start..] {
            bytes += length;
            span += duration;
            if span * 2 > target * 3 {
                break;
            }
            if span * 2 >= target {
                peak = peak.max(bps((bytes, span), timescale));
            }
        }
    }
    peak
}

/// Bits a second of so many bytes in so many ticks, rounded up: what is declared is never exceeded.
fn bps((bytes, ticks): (u64, u64), timescale: u64) -> u64 {
    let bits = u128::from(bytes) * 8 * u128::from(timescale);
    u64::try_from(bits.div_ceil(u128::from(ticks.max(1)))).unwrap_or(u64::MAX)
}

/// Puts a multivariant playlist together; codecs come from the receipts of the first chunk.
fn master(
    generation: &Generation,
    growing: bool,
    path: impl Fn(&str) -> String,
    rates: impl Fn(&str) -> Rates,
) -> Option<Master> {
    let plan = generation.plan();
    let codec = |rendition: &str| Some(receipt(generation, rendition, 0)?.codec.clone());
    let sound_codec = match &plan.audio {
        Some(audio) => Some(codec(&audio.id)?),
        None => None,
    };
    let frame_rate = plan.video.as_ref().map(|video| video.frame_rate);
    let variant = |rendition: &str, codecs: Vec<String>, resolution: Option<(u32, u32)>| {
        let Rates { peak, mean } = rates(rendition);
        Variant {
            uri: path(rendition),
            bandwidth_bps: peak,
            average_bps: mean,
            codecs,
            resolution,
            frame_rate: resolution.and(frame_rate),
        }
    };
    let mut variants = Vec::with_capacity(plan.rungs.len().max(1));
    for rung in &plan.rungs {
        let codecs = std::iter::once(codec(&rung.id)?).chain(sound_codec.clone()).collect();
        variants.push(variant(&rung.id, codecs, Some((rung.width, rung.height))));
    }
    let Some(audio) = &plan.audio else {
        return (!variants.is_empty()).then_some(Master { variants, sound: None, growing });
    };
    if variants.is_empty() {
        variants.push(variant(&audio.id, sound_codec.into_iter().collect(), None));
        return Some(Master { variants, sound: None, growing });
    }
    let sound = Sound { uri: path(&audio.id), language: audio.language.clone(), channels: audio.channels };
    Some(Master { variants, sound: Some(sound), growing })
}
