//! What an order asks for, given what the log says: the decision before any byte is read. Pure.

use std::ops::RangeInclusive;

use spool_proto::asset::{Asset, Generation};
use spool_proto::job::{Job, Order, VideoOrder};
use spool_proto::media::{Plan, SourceFacts, SourceRef};

/// What is to be done about an order.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// Nothing: the result stands, or nobody waits for it any more. The order is settled.
    Nothing(&'static str),
    /// The log does not say yet what the order builds on; asked again soon.
    NotYet(&'static str),
    /// Look at the source.
    Inspect {
        /// Where it lies.
        source: SourceRef,
    },
    /// Encode these chunks of the picture.
    Video {
        /// Everything an encode needs.
        encode: Encode,
        /// The chunks that are missing, in one run from the first missing one.
        chunks: RangeInclusive<u32>,
    },
    /// Encode the sound from this chunk on.
    Audio {
        /// Everything an encode needs.
        encode: Encode,
        /// First missing chunk.
        from_chunk: u32,
    },
    /// Make this still.
    Still {
        /// Everything an encode needs.
        encode: Encode,
        /// Its name.
        name: String,
    },
}

/// What every encode needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Encode {
    /// Where the source lies.
    pub source: SourceRef,
    /// What it is.
    pub facts: SourceFacts,
    /// What is to be made of it.
    pub plan: Plan,
    /// For which generation.
    pub generation: u32,
}

/// Decides what `order` asks for, given the fold of the asset's facts.
pub fn start(asset: Option<&Asset>, order: &Order) -> Start {
    let Some(asset) = asset else {
        return Start::NotYet("the asset has no facts yet");
    };
    if asset.deleted.is_some() {
        return Start::Nothing("the asset is deleted");
    }
    let Some(source) = asset.source() else {
        return Start::NotYet("the source is not stored yet");
    };
    if asset.goes_on(&order.job.item(), order.round) {
        return Start::Nothing("this round was handed on, and the next one is an order of its own");
    }
    match &order.job {
        Job::Inspect(inspect) if asset.verdicts.contains_key(&inspect.verdict) => Start::Nothing("the verdict stands"),
        Job::Inspect(_) => Start::Inspect { source: source.clone() },
        Job::Video(video) | Job::Pass(video) => {
            with_generation(asset, source, video.generation, |generation, encode| {
                match missing_video(generation, video) {
                    Some(chunks) => Start::Video { encode, chunks },
                    None => Start::Nothing("every chunk stands"),
                }
            })
        }
        Job::Audio(audio) | Job::AudioPass(audio) => {
            with_generation(asset, source, audio.generation, |generation, encode| {
                match (0..generation.plan().chunk_count()).find(|chunk| !generation.has_audio(*chunk)) {
                    Some(from_chunk) => Start::Audio { encode, from_chunk },
                    None => Start::Nothing("every chunk stands"),
                }
            })
        }
        Job::Still(still) => with_generation(asset, source, still.generation, |generation, encode| {
            if generation.stills.contains_key(&still.name) {
                return Start::Nothing("the still stands");
            }
            Start::Still { encode, name: still.name.clone() }
        }),
    }
}

fn with_generation(
    asset: &Asset,
    source: &SourceRef,
    number: u32,
    then: impl FnOnce(&Generation, Encode) -> Start,
) -> Start {
    if asset.generation_number() > number {
        return Start::Nothing("a later generation counts");
    }
    let (Some(generation), Some(facts)) = (asset.generations.get(&number), asset.source_facts()) else {
        return Start::NotYet("the generation is not planned yet");
    };
    if generation.outcome.is_some() {
        return Start::Nothing("the generation is over");
    }
    let encode =
        Encode { source: source.clone(), facts: facts.clone(), plan: generation.plan().clone(), generation: number };
    then(generation, encode)
}

/// From the first to the last chunk of the order that is missing. Chunks between that stand are made again and their
/// slots answer that they stand: a pass reads through anyway.
fn missing_video(generation: &Generation, order: &VideoOrder) -> Option<RangeInclusive<u32>> {
    let missing = |chunk: &u32| !generation.has_video(*chunk);
    let first = (order.first..=order.last).find(missing)?;
    let last = (order.first..=order.last).rev().find(missing)?;
    Some(first..=last)
}

#[cfg(test)]
mod tests {
    use spool_proto::Code;
    use spool_proto::asset::{At, Verdict};
    use spool_proto::event::{JobGivenUp, Problem};
    use spool_proto::id::{AssetId, Sha256, TenantId, UploadId};
    use spool_proto::job::InspectOrder;
    use spool_proto::time::Timestamp;

    use super::*;

    fn at<T>(sequence: u64, it: T) -> At<T> {
        At { sequence, at: Timestamp::default(), it }
    }

    fn stored() -> Asset {
        let mut asset = Asset::new(TenantId::default_tenant(), AssetId::from_bits(1));
        let upload = UploadId::from_bits(1);
        let source = SourceRef { upload, piece_bytes: 8, size_bytes: 0, sha256: Sha256::of(b""), runs: vec![] };
        asset.upload = Some(at(1, spool_proto::asset::UploadEnd::Stored(source)));
        asset
    }

    fn order(asset: &Asset, round: u32) -> Order {
        let job = Job::Inspect(InspectOrder { verdict: 1, max_duration_ms: None });
        Order { tenant: asset.tenant.clone(), asset: asset.id.clone(), round, job, cause: None }
    }

    #[test]
    fn a_round_that_was_handed_on_is_not_worked_on_and_a_released_one_is() {
        let mut asset = stored();
        let mut given_up = |round, code| {
            let fault = JobGivenUp { problem: Problem::new(code), attempts: 1 };
            asset.inspect_faults.entry(1).or_default().insert(round, at(2 + u64::from(round), fault));
        };
        given_up(0, Code::WorkerStopped);
        given_up(1, Code::WorkerLost);
        let begins = |asset: &Asset, round| start(Some(asset), &order(asset, round));
        assert!(matches!(begins(&asset, 0), Start::Nothing(_)));
        // Parked, and put back by an operator: somebody wants it done.
        assert!(matches!(begins(&asset, 1), Start::Inspect { .. }));
        assert!(matches!(begins(&asset, 2), Start::Inspect { .. }));
        let verdict = Verdict::CheckFailed(Problem::new(Code::WorkerLost));
        asset.verdicts.insert(1, at(9, verdict));
        assert!(matches!(begins(&asset, 2), Start::Nothing(_)));
    }
}
