//! The rule of orphans: what the facts must say before an object may go.

use spool_proto::event::{
    AssetDeleted, EncodeFailed, Opened, Published, RenditionsCompleted, RetryOf, RetryRequested, UploadAbandoned,
};
use spool_proto::id::{AttemptId, UploadId};
use spool_proto::testing::Given;
use spool_proto::testing::values::{plan, video_stored};
use spool_proto::{Code, Problem, Slot};

use super::*;

fn key(object: Object) -> Key {
    Key { tenant: TenantId::default_tenant(), asset: AssetId::from_bits(1), object }
}

fn piece(piece: u32, epoch: u64) -> Key {
    key(Object::Piece { upload: UploadId::from_bits(3), piece, epoch })
}

fn chunk(generation: u32, rendition: &str, chunk: u32, attempt: u64) -> Key {
    let attempt = AttemptId::from_bits(attempt);
    key(Object::Chunk { generation, rendition: rendition.to_owned(), chunk, attempt })
}

fn check(given: &Given, key: &Key, expected: bool) {
    assert_eq!(may_go(&given.fold(), key), expected, "{key}");
}

#[test]
fn pieces_wait_for_the_outcome_and_the_named_ones_stay() {
    for (object, running, stored) in [
        (piece(0, 1), false, false),
        (piece(2, 4), false, false),
        (piece(2, 3), false, true),
        (piece(3, 4), false, true),
        (key(Object::Piece { upload: UploadId::from_bits(9), piece: 0, epoch: 1 }), false, true),
        (key(Object::Fragment { upload: UploadId::from_bits(3), piece: 0, offset: 0, epoch: 1 }), false, true),
    ] {
        check(&Given::registered(), &object, running);
        check(&Given::stored(), &object, stored);
        let problem = Problem::new(Code::UploadExpired);
        let abandoned = Given::registered().then(Slot::UploadOutcome, UploadAbandoned { problem, received_bytes: 8 });
        check(&abandoned, &object, true);
    }
}

#[test]
fn a_chunk_goes_when_its_slot_names_another_or_its_generation_is_over() {
    let plan = plan(&[1, 2], 12_000);
    let planned = Given::planned(plan.clone());
    let (named, other, later) = (chunk(1, "v720", 0, 4), chunk(1, "v720", 0, 9), chunk(1, "v720", 1, 9));
    for object in [&named, &other, &later, &chunk(1, "a0", 0, 9)] {
        check(&planned, object, false);
    }
    let one = planned.then(Slot::EncodeVideo { generation: 1, chunk: 0 }, video_stored(&plan, 1, 0));
    check(&one, &named, false);
    check(&one, &other, true);
    check(&one, &later, false);
    check(&one, &chunk(1, "a0", 0, 9), false);
    check(&one, &chunk(2, "v720", 0, 9), false);

    let failed = EncodeFailed { problem: Problem::new(Code::WorkerLost), attempts: 5 };
    let over = one.then(Slot::EncodeOutcome { generation: 1 }, failed);
    check(&over, &named, false);
    check(&over, &later, true);
}

#[test]
fn what_a_retry_may_take_over_stays() {
    let plan = plan(&[1, 2], 12_000);
    let failed = EncodeFailed { problem: Problem::new(Code::WorkerLost), attempts: 5 };
    let given = Given::planned(plan.clone())
        .then(Slot::EncodeVideo { generation: 1, chunk: 0 }, video_stored(&plan, 1, 0))
        .then(Slot::EncodeOutcome { generation: 1 }, failed)
        .then(Slot::LifeRetry { retry: 1 }, RetryRequested { of: RetryOf::Generation { generation: 2 } });
    check(&given, &chunk(1, "v720", 0, 4), false);
    check(&given, &chunk(1, "v720", 0, 5), true);
    check(&given, &chunk(2, "v720", 0, 5), false);
}

#[test]
fn manifests_of_a_lost_race_go_and_those_that_stand_stay() {
    let manifest = |revision, attempt, file: &str| {
        let attempt = AttemptId::from_bits(attempt);
        key(Object::Manifest { revision, attempt, file: file.to_owned() })
    };
    let published = Published { generation: 1, attempt: AttemptId::from_bits(7), files: vec!["index.m3u8".to_owned()] };
    let given = Given::planned(plan(&[1], 4_000))
        .then(Slot::EncodeOutcome { generation: 1 }, RenditionsCompleted { objects: 1, bytes: 1 })
        .then(Slot::Publish { revision: 1 }, Opened { generation: 1 })
        .then(Slot::Publish { revision: 2 }, published);
    check(&given, &manifest(1, 7, "index.m3u8"), true);
    check(&given, &manifest(2, 7, "index.m3u8"), false);
    check(&given, &manifest(2, 7, "v720.m3u8"), true);
    check(&given, &manifest(2, 8, "index.m3u8"), true);
    check(&given, &manifest(3, 8, "index.m3u8"), false);
}

#[test]
fn of_a_deleted_asset_everything_may_go_and_of_an_unknown_one_nothing() {
    let deleted = Given::stored().then(Slot::LifeDeleted, AssetDeleted {});
    check(&deleted, &piece(0, 1), true);
    let mut newer = Given::stored();
    newer.facts[0].body = spool_proto::event::Body::Unknown { kind: "MovedToTape".to_owned() };
    check(&newer, &piece(2, 3), false);
}
