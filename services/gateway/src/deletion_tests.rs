//! What is due for a deleted asset.

use spool_proto::event::{AssetDeleted, SourceRejected};
use spool_proto::testing::Given;

use super::*;

const LEASE: Duration = Duration::from_secs(120);

fn due_after(given: &Given, since_last_fact: u64) -> Option<Due> {
    let last = given.facts.last().expect("facts").at;
    due(&given.fold(), last.plus(Duration::from_secs(since_last_fact)), LEASE)
}

#[test]
fn nothing_is_due_for_what_is_not_deleted() {
    assert_eq!(due_after(&Given::stored(), 1_000_000), None);
}

#[test]
fn work_under_way_drains_first_and_an_asset_at_rest_goes_at_once() {
    let busy = Given::stored().then(Slot::LifeDeleted, AssetDeleted {});
    assert_eq!(due_after(&busy, 20), Some(Due::Drain(Duration::from_secs(100))));
    assert_eq!(due_after(&busy, 120), Some(Due::Purge));

    let problem = Problem::new(Code::SourceEmpty);
    let rest = Given::stored().then(Slot::UploadVerdict { verdict: 1 }, SourceRejected { problem });
    assert_eq!(due_after(&rest.then(Slot::LifeDeleted, AssetDeleted {}), 0), Some(Due::Purge));
    let uploading = Given::registered().then(Slot::LifeDeleted, AssetDeleted {});
    assert_eq!(due_after(&uploading, 0), Some(Due::Purge));
}

#[test]
fn what_was_purged_is_looked_at_again_after_the_longest_lease() {
    let purged = Given::registered()
        .then(Slot::LifeDeleted, AssetDeleted {})
        .then(Slot::LifePurged, ObjectsPurged { objects: 1, bytes: 1 });
    assert_eq!(due_after(&purged, 20), Some(Due::Linger(Duration::from_secs(100))));
    assert_eq!(due_after(&purged, 121), Some(Due::LastLook));
}
