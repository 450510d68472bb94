//! Which assets are under way, by the end of the log: what a planner looks at without having been told.
//!
//! Facts and ticks wake it, and each fact once. Where the log lost its newest facts (a damaged block, a copy from before),
//! an asset falls back to where it was long ago, and whatever would have woken somebody is over. What fell back lies at the
//! end of the log as it is now, so that end is enough to read; and what ends there needs no look.

use std::collections::BTreeMap;

use spool_proto::event::{Fact, Kind};
use spool_proto::{AssetId, TenantId};

/// Assets that something began for and nothing ended, each with the id of its newest fact that wakes a planner.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unfinished(BTreeMap<(TenantId, AssetId), String>);

impl Unfinished {
    /// Takes in the next fact of the log.
    pub fn take(&mut self, fact: &Fact) {
        let Some(means) = fact.event().and_then(|event| means(event.kind())) else { return };
        let asset = (fact.tenant.clone(), fact.asset.clone());
        match means {
            Means::More => drop(self.0.insert(asset, fact.id.to_string())),
            Means::End => drop(self.0.remove(&asset)),
        }
    }

    /// What is left, with the fact that each look goes back to.
    pub fn into_assets(self) -> impl ExactSizeIterator<Item = ((TenantId, AssetId), String)> {
        self.0.into_iter()
    }
}

/// What a fact means for who plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Means {
    /// Something else may be owed from here on.
    More,
    /// Nothing is, until somebody asks for more.
    End,
}

/// What a fact of this kind means; nothing where it can't change what is owed.
pub(crate) fn means(kind: Kind) -> Option<Means> {
    match kind {
        Kind::SourceStored
        | Kind::JobGivenUp
        | Kind::SourceAccepted
        | Kind::EncodePlanned
        | Kind::VideoStored
        | Kind::AudioStored
        | Kind::StillStored
        | Kind::RetryRequested => Some(Means::More),
        Kind::SourceRejected
        | Kind::CheckFailed
        | Kind::RenditionsCompleted
        | Kind::EncodeFailed
        | Kind::AssetDeleted
        | Kind::ObjectsPurged => Some(Means::End),
        Kind::AssetRegistered
        | Kind::UploadAbandoned
        | Kind::Opened
        | Kind::Published
        | Kind::Withdrawn
        | Kind::Described
        | Kind::TextErased => None,
    }
}

#[cfg(test)]
mod tests {
    use spool_proto::event::{CheckFailed, Event, RetryOf, RetryRequested};
    use spool_proto::testing::Given;
    use spool_proto::{Code, Problem, Slot};

    use super::*;

    #[test]
    fn what_began_and_did_not_end_is_looked_at_from_its_newest_fact() {
        let left = |given: &Given| {
            let mut unfinished = Unfinished::default();
            given.facts.iter().for_each(|fact| unfinished.take(fact));
            unfinished.into_assets().map(|(_, cause)| cause).collect::<Vec<_>>()
        };
        let newest = |given: &Given| vec![given.facts.last().unwrap().id.to_string()];
        let failed = Event::from(CheckFailed { problem: Problem::new(Code::WorkerLost), attempts: 5 });
        let again = Event::from(RetryRequested { of: RetryOf::Verdict { round: 2 } });
        let stored = Given::stored();
        assert_eq!(left(&stored), newest(&stored));
        let failed = stored.then(Slot::UploadVerdict { verdict: 1 }, failed);
        assert_eq!(left(&failed), Vec::<String>::new());
        let again = failed.then(Slot::LifeRetry { retry: 1 }, again);
        assert_eq!(left(&again), newest(&again));
    }
}
