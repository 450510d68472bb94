//! What publishing an asset needs next: the decision of this role. Pure.

use spool_proto::asset::{Outcome, Publication};
use spool_proto::{Asset, Timestamp};

use crate::open::plays_through;

/// What is to be done. Both claim the next free revision; whoever is second sees what stands there and decides again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Let it be watched while it grows.
    Open {
        /// Publish revision.
        revision: u32,
        /// Which generation plays.
        generation: u32,
    },
    /// Write the finished manifests and say so.
    Publish {
        /// Publish revision.
        revision: u32,
        /// Which generation plays.
        generation: u32,
    },
}

/// What this asset needs next at `now`, the time of the fact that is handled.
pub fn next(asset: &Asset, now: Timestamp) -> Option<Act> {
    if asset.deleted.is_some() {
        return None;
    }
    let number = asset.generation_number();
    let generation = asset.generation()?;
    let (opened, settled) = match asset.publication().map(|head| &head.it) {
        None => (false, false),
        Some(Publication::Opened { generation }) => (*generation >= number, false),
        Some(Publication::Published(published)) => (published.generation >= number, published.generation >= number),
        // Somebody took it off the screen: only a newer generation comes back by itself.
        Some(Publication::Withdrawn { generation }) => (*generation >= number, *generation >= number),
    };
    let revision = asset.next_publish_revision();
    match generation.outcome.as_ref().map(|outcome| &outcome.it) {
        Some(Outcome::Completed(_)) => (!settled).then_some(Act::Publish { revision, generation: number }),
        Some(Outcome::Failed { .. }) => None,
        None => (!opened && plays_through(generation, now)).then_some(Act::Open { revision, generation: number }),
    }
}

#[cfg(test)]
mod tests {
    use spool_proto::event::{
        AssetDeleted, EncodeFailed, EncodePlanned, Opened, Published, RenditionsCompleted, RetryOf, RetryRequested,
        Withdrawn,
    };
    use spool_proto::id::AttemptId;
    use spool_proto::media::Plan;
    use spool_proto::testing::values::plan;
    use spool_proto::testing::{self, Answer, Given};
    use spool_proto::{Code, Problem, Slot};

    use super::*;

    /// The fact that the act leads to, as the harness takes it.
    fn decide(asset: &Asset, now: Timestamp) -> Answer {
        let draft = |revision, event| spool_proto::Draft {
            tenant: asset.tenant.clone(),
            asset: asset.id.clone(),
            slot: Slot::Publish { revision },
            event,
            cause: None,
            actor: None,
        };
        let facts = next(asset, now).map(|act| match act {
            Act::Open { revision, generation } => draft(revision, Opened { generation }.into()),
            Act::Publish { revision, generation } => draft(revision, published(generation).into()),
        });
        Answer { facts: facts.into_iter().collect(), ..Answer::default() }
    }

    fn published(generation: u32) -> Published {
        Published { generation, attempt: AttemptId::from_bits(9), files: vec!["index.m3u8".to_owned()] }
    }

    fn check(given: &Given, expected: Option<Act>) {
        assert_eq!(next(&given.fold(), given.now()), expected);
        testing::check(given, decide, &decide(&given.fold(), given.now()));
    }

    fn short() -> Plan {
        plan(&[1, 1], 8_000)
    }

    fn completed(given: Given) -> Given {
        given.all_stored(1).then(Slot::EncodeOutcome { generation: 1 }, RenditionsCompleted { objects: 7, bytes: 7 })
    }

    fn failed(given: Given) -> Given {
        let failed = EncodeFailed { problem: Problem::new(Code::WorkerLost), attempts: 1 };
        let retry = RetryRequested { of: RetryOf::Generation { generation: 2 } };
        given.then(Slot::EncodeOutcome { generation: 1 }, failed).then(Slot::LifeRetry { retry: 1 }, retry)
    }

    const OPEN: Act = Act::Open { revision: 1, generation: 1 };

    #[test]
    fn nothing_before_there_is_something_to_see() {
        check(&Given::registered(), None);
        check(&Given::stored(), None);
        check(&Given::planned(short()), None);
    }

    #[test]
    fn a_growing_asset_opens_once() {
        let given = Given::planned(short()).chunk(1, 0).chunk(1, 1);
        check(&given, Some(OPEN));
        check(&given.then(Slot::Publish { revision: 1 }, Opened { generation: 1 }), None);
    }

    #[test]
    fn a_completed_asset_is_published_once_whether_it_was_opened_or_not() {
        check(&completed(Given::planned(short())), Some(Act::Publish { revision: 1, generation: 1 }));
        let opened = Given::planned(short()).then(Slot::Publish { revision: 1 }, Opened { generation: 1 });
        let given = completed(opened);
        check(&given, Some(Act::Publish { revision: 2, generation: 1 }));
        check(&given.then(Slot::Publish { revision: 2 }, published(1)), None);
    }

    #[test]
    fn what_was_withdrawn_stays_withdrawn() {
        let withdrawn =
            completed(Given::planned(short())).then(Slot::Publish { revision: 1 }, Withdrawn { generation: 1 });
        check(&withdrawn, None);
    }

    #[test]
    fn a_failed_generation_is_not_published_and_the_next_one_opens_anew() {
        let opened = Given::planned(short()).chunk(1, 0).then(Slot::Publish { revision: 1 }, Opened { generation: 1 });
        let given = failed(opened);
        check(&given, None);
        let given = given.then(Slot::EncodePlanned { generation: 2 }, EncodePlanned { plan: short() });
        let given = given.chunk(2, 0).chunk(2, 1);
        check(&given, Some(Act::Open { revision: 2, generation: 2 }));
    }

    #[test]
    fn a_deleted_asset_is_left_alone() {
        check(&completed(Given::planned(short())).then(Slot::LifeDeleted, AssetDeleted {}), None);
    }
}
