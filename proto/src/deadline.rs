//! Until when a waiting state may last. The planner ends what is over; the projector's `explain` says when that will be.
//!
//! These are the deadlines *behind* everything else: an attempt is bounded by its limits, an order by its deliveries. They
//! catch what nobody works on, so they are days, and a machine switched off over a weekend fails nothing.
//!
//! Not here: an upload, which the gateway ends by its own configuration, and the steps that no worker is waited for
//! (planning, publishing): those are owed at once by a role, and no fact could end them.

use std::time::Duration;

use crate::asset::{Asset, Generation};
use crate::event::RetryOf;
use crate::slot::Slot;
use crate::time::Timestamp;

/// How long a verdict may be waited for, from the stored source or the retry that asked for it.
pub const CHECK: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// How long an encode may go without storing anything new, from its plan or its last stored part.
pub const ENCODE: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// The end of a waiting state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadline {
    /// When it is over.
    pub at: Timestamp,
    /// Where the fact that ends it will stand: a verdict's slot (CheckFailed) or an outcome's (EncodeFailed), both with
    /// `deadline_passed`.
    pub slot: Slot,
}

/// The deadline of the state the asset is in; nothing when it waits for no worker.
pub fn deadline(asset: &Asset) -> Option<Deadline> {
    if asset.deleted.is_some() {
        return None;
    }
    asset.source()?;
    if asset.verdict().is_none() {
        let slot = Slot::UploadVerdict { verdict: asset.verdict_round() };
        return Some(Deadline { at: check_began(asset)?.plus(CHECK), slot });
    }
    let generation = asset.generation()?;
    if generation.outcome.is_some() {
        return None;
    }
    let slot = Slot::EncodeOutcome { generation: asset.generation_number() };
    Some(Deadline { at: last_progress(generation).plus(ENCODE), slot })
}

/// When the verdict round that counts began.
fn check_began(asset: &Asset) -> Option<Timestamp> {
    let round = RetryOf::Verdict { round: asset.verdict_round() };
    let asked = asset.retries.values().find(|retry| retry.it == round).map(|retry| retry.at);
    asked.or_else(|| asset.upload.as_ref().map(|end| end.at))
}

/// When this generation was planned or last stored a part. Parts taken over are older than the plan.
fn last_progress(generation: &Generation) -> Timestamp {
    let video = generation.video.values().map(|it| it.at);
    let audio = generation.audio.values().flat_map(|track| track.values().map(|it| it.at));
    let stills = generation.stills.values().map(|it| it.at);
    video.chain(audio).chain(stills).fold(generation.plan.at, Timestamp::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Body, Event, Fact, RetryRequested, SourceRejected, SourceStored};
    use crate::id::{AssetId, EventId, Sha256, TenantId, UploadId};
    use crate::media::SourceRef;
    use crate::{Code, Problem};

    fn fact(sequence: u64, slot: Slot, event: impl Into<Event>) -> Fact {
        Fact {
            sequence,
            at: Timestamp::from_ms(sequence as i64 * 1000),
            tenant: TenantId::default_tenant(),
            asset: AssetId::from_bits(1),
            id: EventId::of_subject(&slot.to_string()),
            slot: Ok(slot),
            cause: None,
            actor: None,
            body: Body::Known(event.into()),
        }
    }

    fn stored() -> Fact {
        let source = SourceRef {
            upload: UploadId::from_bits(1),
            piece_bytes: 8,
            size_bytes: 0,
            sha256: Sha256::of(b""),
            runs: vec![],
        };
        fact(1, Slot::UploadOutcome, SourceStored { source })
    }

    #[test]
    fn a_check_is_over_three_days_after_the_source_or_the_retry_and_a_verdict_ends_the_wait() {
        let mut asset = Asset::fold([&stored()]).expect("one fact");
        let first = Deadline { at: Timestamp::from_ms(1000).plus(CHECK), slot: Slot::UploadVerdict { verdict: 1 } };
        assert_eq!(deadline(&asset), Some(first));
        let rejected = SourceRejected { problem: Problem::new(Code::SourceEmpty) };
        asset.apply(&fact(2, Slot::UploadVerdict { verdict: 1 }, rejected));
        assert_eq!(deadline(&asset), None);
        let retry = RetryRequested { of: RetryOf::Verdict { round: 2 } };
        asset.apply(&fact(3, Slot::LifeRetry { retry: 1 }, retry));
        let second = Deadline { at: Timestamp::from_ms(3000).plus(CHECK), slot: Slot::UploadVerdict { verdict: 2 } };
        assert_eq!(deadline(&asset), Some(second));
    }
}
