//! A profile's answer to one source: the plan, or the reason why there is none. Pure.

use std::time::Duration;

use spool_kit::units::{at_least, spoken};
use spool_proto::asset::{Generation, Outcome};
use spool_proto::event::ProfileRef;
use spool_proto::id::Sha256;
use spool_proto::key::{Key, Object};
use spool_proto::media::{
    AudioFacts, AudioPlan, NS_PER_S, Part, Plan, Receipt, SourceFacts, StillPlan, TakenOver, VideoFacts,
};
use spool_proto::{Code, Problem};

use crate::{grid, ladder};

/// The profile that there is, and its version.
pub const STANDARD: (&str, u32) = ("standard", 1);
/// Bits a second of the sound: in the range of 32 to 160 kb/s that Apple asks for, as every player expects it.
const SOUND_BPS: u64 = 128_000;
/// Samples a second of the sound: what nearly every source has, and every device plays.
const SOUND_RATE: u32 = 48_000;
/// No side of the poster is longer.
const POSTER_PX: u32 = 1_280;
/// The poster is taken this far in: most videos open with black or a title, and end with credits.
const POSTER_PERCENT: u64 = 10;

/// What of a plan may be limited by the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest timeline that is encoded.
    pub max_duration: Duration,
}

/// The answer of `profile` to a source.
///
/// # Errors
/// Why this source gets no plan.
pub fn plan(profile: &ProfileRef, facts: &SourceFacts, limits: &Limits) -> Result<Plan, Problem> {
    if (profile.name.as_str(), profile.version) != STANDARD {
        let known = format!("{} {}", STANDARD.0, STANDARD.1);
        let asked = format!("{} {}", profile.name, profile.version);
        return Err(Problem::new(Code::ProfileUnknown).with("profile", asked).with("known", known));
    }
    let duration = Duration::from_nanos(facts.duration_ns());
    // An inspection that was asked for under another limit, or by an earlier Spool, let it pass.
    if duration > limits.max_duration {
        let problem = Problem::new(Code::SourceTooLong).with("duration", at_least(duration));
        return Err(problem.with("limit", spoken(limits.max_duration)));
    }
    if facts.video.is_none() && facts.audio.is_none() {
        return Err(Problem::new(Code::SourceNoStreams).with("found", "a container"));
    }
    let chunks = grid::chunks(grid::segments(facts.duration_ns()));
    Ok(Plan {
        zero_ns: facts.zero_ns,
        end_ns: facts.end_ns,
        segment_ns: grid::SEGMENT_NS,
        cut: grid::cut(facts, &chunks),
        chunks,
        video: facts.video.as_ref().map(ladder::video_plan),
        rungs: facts.video.as_ref().map(ladder::rungs).unwrap_or_default(),
        audio: facts.audio.as_ref().map(sound),
        stills: facts.video.iter().map(|video| poster(facts, video)).collect(),
        taken_over: Vec::new(),
    })
}

/// The plan of a source that gets none: nothing is to be made. The outcome that follows says why.
pub fn nothing(facts: &SourceFacts) -> Plan {
    Plan {
        zero_ns: facts.zero_ns,
        end_ns: facts.end_ns,
        segment_ns: grid::SEGMENT_NS,
        chunks: Vec::new(),
        cut: facts.cut,
        video: None,
        rungs: Vec::new(),
        audio: None,
        stills: Vec::new(),
        taken_over: Vec::new(),
    }
}

fn sound(audio: &AudioFacts) -> AudioPlan {
    AudioPlan {
        id: "a0".to_owned(),
        bps: SOUND_BPS,
        sample_rate: SOUND_RATE,
        channels: 2,
        language: audio.language.clone(),
    }
}

/// One picture a tenth into the timeline, or where the picture begins or ends if it does not cover that.
fn poster(facts: &SourceFacts, video: &VideoFacts) -> StillPlan {
    let tenth = facts.duration_ns() * POSTER_PERCENT / 100;
    let first = video.first_ns.saturating_sub(facts.zero_ns);
    let frame = NS_PER_S * u64::from(video.frame_rate.den) / u64::from(video.frame_rate.num.max(1));
    let last = video.end_ns.saturating_sub(facts.zero_ns).saturating_sub(frame).max(first);
    let (width, height) = ladder::still_size(video, POSTER_PX);
    StillPlan { name: "poster".to_owned(), at_ns: tenth.clamp(first, last), width, height }
}

/// `new` with what stands of `old`, the generation before, where both ask for the same. Nothing is taken over from a
/// generation whose parts did not join: the retry is there to make them by one toolchain.
pub fn take_over(new: Plan, number: u32, old: &Generation) -> Plan {
    let same = Plan { taken_over: Vec::new(), ..old.plan().clone() } == new;
    if !same || refused_to_join(old) || misfit(old).is_some() {
        return new;
    }
    let video = old.video.iter().map(|(chunk, it)| {
        let keys: Vec<String> = it.it.receipts.iter().map(|r| r.key.clone()).collect();
        TakenOver { generation: maker(&keys, number), part: Part::Video { chunk: *chunk }, keys }
    });
    let audio = old.audio.iter().flat_map(|(track, chunks)| {
        chunks.iter().map(|(chunk, it)| {
            let keys = vec![it.it.receipt.key.clone()];
            TakenOver { generation: maker(&keys, number), part: Part::Audio { track: *track, chunk: *chunk }, keys }
        })
    });
    let stills = old.stills.iter().map(|(name, it)| {
        let keys = vec![it.it.receipt.key.clone()];
        TakenOver { generation: maker(&keys, number), part: Part::Still { name: name.clone() }, keys }
    });
    let taken_over = video.chain(audio).chain(stills).collect();
    Plan { taken_over, ..new }
}

fn refused_to_join(old: &Generation) -> bool {
    match old.outcome.as_ref().map(|outcome| &outcome.it) {
        Some(Outcome::Failed { problem, .. }) => problem.code == Code::ToolchainChanged,
        Some(Outcome::Completed(_)) | None => false,
    }
}

/// The generation that made these objects, by their keys: what `number` shows it may itself have taken over.
fn maker(keys: &[String], number: u32) -> u32 {
    let generation = |key: &Key| match &key.object {
        Object::Chunk { generation, .. } | Object::Still { generation, .. } => Some(*generation),
        Object::Piece { .. } | Object::Fragment { .. } | Object::Manifest { .. } => None,
    };
    keys.iter().filter_map(|key| key.parse::<Key>().ok()).find_map(|key| generation(&key)).unwrap_or(number)
}

/// The rendition whose chunks do not join, if there is one: another init section or another toolchain than its first.
pub fn misfit(generation: &Generation) -> Option<&str> {
    let video = generation.video.values().flat_map(|it| it.it.receipts.iter());
    let audio = generation.audio.values().flat_map(|track| track.values().map(|it| &it.it.receipt));
    let mut first: std::collections::BTreeMap<&str, (Sha256, &str)> = std::collections::BTreeMap::new();
    let made_by = |receipt: &Receipt| receipt.init.sha256;
    for receipt in video.chain(audio) {
        let this = (made_by(receipt), receipt.toolchain.as_str());
        if *first.entry(&receipt.rendition).or_insert(this) != this {
            return Some(&receipt.rendition);
        }
    }
    None
}
