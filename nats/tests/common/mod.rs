//! Facts and names that the tests use.
#![allow(dead_code, reason = "each test file uses some of these")]

use spool_proto::event::{
    AssetDeleted, AssetRegistered, Door, Draft, Event, JobGivenUp, Problem, ProfileRef, SourceRejected,
};
use spool_proto::id::{AssetId, PlaybackId, TenantId, UploadId};
use spool_proto::job::{InspectOrder, Job, Order, VideoOrder};
use spool_proto::{Code, Slot};

pub(crate) fn tenant() -> TenantId {
    TenantId::default_tenant()
}

pub(crate) fn asset(n: u128) -> AssetId {
    AssetId::from_bits(n)
}

pub(crate) fn draft(n: u128, slot: Slot, event: impl Into<Event>) -> Draft {
    let (cause, actor) = (Some("cause".to_owned()), Some("key_1".to_owned()));
    Draft { tenant: tenant(), asset: asset(n), slot, event: event.into(), cause, actor }
}

pub(crate) fn registered(n: u128) -> Draft {
    let event = AssetRegistered {
        door: Door::Upload,
        profile: ProfileRef { name: "standard".to_owned(), version: 1 },
        playback: PlaybackId::from_bits(n),
        upload: UploadId::from_bits(n),
        size_bytes: Some(7),
        sha256: None,
    };
    draft(n, Slot::UploadRegistered, event)
}

pub(crate) fn rejected(n: u128, found: &str) -> Draft {
    let problem = Problem::new(Code::SourceEmpty).with("found", found);
    draft(n, Slot::UploadVerdict { verdict: 1 }, SourceRejected { problem })
}

pub(crate) fn fault(n: u128, round: u32) -> Draft {
    let event = JobGivenUp { problem: Problem::new(Code::WorkerLost), attempts: 5 };
    draft(n, Slot::InspectFault { verdict: 1, round }, event)
}

pub(crate) fn deleted(n: u128) -> Draft {
    draft(n, Slot::LifeDeleted, AssetDeleted {})
}

pub(crate) fn inspect(n: u128, round: u32) -> Order {
    let job = Job::Inspect(InspectOrder { verdict: 1, max_duration_ms: None });
    Order { tenant: tenant(), asset: asset(n), round, job, cause: Some("cause".to_owned()) }
}

pub(crate) fn video(n: u128, chunk: u32) -> Order {
    let job = Job::Video(VideoOrder { generation: 1, first: chunk, last: chunk });
    Order { tenant: tenant(), asset: asset(n), round: 0, job, cause: None }
}
