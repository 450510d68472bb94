//! Buckets and texts on a real log, on one replica and on three.

mod common;

use common::{asset, tenant};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use spool_nats::streams::Shape;
use spool_nats::testing::TestServer;
use spool_nats::{Bucket, Kv, KvError, Versioned};
use spool_proto::Role;
use spool_proto::id::TextToken;
use spool_proto::text::Text;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Upload {
    offset: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_hold_on_one_replica() {
    all(Shape::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_hold_on_three_replicas() {
    all(Shape { replicas: 3, ..Shape::default() }).await;
}

async fn all(shape: Shape) {
    let test = TestServer::with(shape).await;
    let kv: Kv<Upload> = test.log(Role::Gateway).await.kv(Bucket::Uploads).await.expect("uploads");
    a_value_is_created_once_and_changed_by_its_revision(&kv).await;
    of_many_changes_at_once_one_wins(&test).await;
    a_deleted_key_is_gone_and_can_be_made_anew(&kv).await;
    every_key_is_listed_in_pages(&kv).await;
    notes_about_leases_are_written_by_workers_and_read_by_the_projector(&test).await;
    a_text_stands_once_and_goes_with_its_asset(&test).await;
}

async fn a_value_is_created_once_and_changed_by_its_revision(kv: &Kv<Upload>) {
    assert_eq!(kv.get("upl_1").await.expect("get"), None);
    let first = kv.create("upl_1", &Upload { offset: 0 }).await.expect("create");
    let twice = kv.create("upl_1", &Upload { offset: 0 }).await.expect_err("create twice");
    assert!(matches!(twice, KvError::Exists { .. }), "{twice:?}");
    let second = kv.update("upl_1", &Upload { offset: 5 }, first).await.expect("update");
    let stale = kv.update("upl_1", &Upload { offset: 6 }, first).await.expect_err("update a stale revision");
    assert!(matches!(stale, KvError::Conflict { .. }), "{stale:?}");
    let versioned = Versioned { value: Upload { offset: 5 }, revision: second };
    assert_eq!(kv.get("upl_1").await.expect("get"), Some(versioned));
    assert!(matches!(kv.get("upl_1.>").await, Err(KvError::Key { .. })));
}

async fn of_many_changes_at_once_one_wins(test: &TestServer) {
    let mut handles = Vec::new();
    for _ in 0..4 {
        handles.push(test.log(Role::Gateway).await.kv::<Upload>(Bucket::Uploads).await.expect("uploads"));
    }
    let mut revision = handles[0].create("race", &Upload { offset: 0 }).await.expect("create");
    for round in 1..30 {
        // The same bytes from each: only who wrote them tells the winner.
        let value = Upload { offset: round };
        let outcomes = join_all(handles.iter().map(|kv| kv.update("race", &value, revision))).await;
        let won: Vec<u64> = outcomes
            .into_iter()
            .filter_map(|outcome| match outcome {
                Ok(revision) => Some(revision),
                Err(KvError::Conflict { .. }) => None,
                Err(error) => panic!("{error:?}"),
            })
            .collect();
        let [won] = won.as_slice() else { panic!("{won:?} won round {round}") };
        revision = *won;
    }
}

async fn a_deleted_key_is_gone_and_can_be_made_anew(kv: &Kv<Upload>) {
    let first = kv.create("upl_2", &Upload { offset: 0 }).await.expect("create");
    let second = kv.put("upl_2", &Upload { offset: 1 }).await.expect("put");
    assert!(matches!(kv.delete("upl_2", Some(first)).await, Err(KvError::Conflict { .. })));
    kv.delete("upl_2", Some(second)).await.expect("delete");
    assert_eq!(kv.get("upl_2").await.expect("get"), None);
    assert!(matches!(kv.update("upl_2", &Upload { offset: 2 }, second).await, Err(KvError::Conflict { .. })));
    kv.create("upl_2", &Upload { offset: 3 }).await.expect("create again");
    kv.delete("upl_2", None).await.expect("delete whatever it is");
    kv.delete("upl_none", None).await.expect("delete nothing");
}

async fn every_key_is_listed_in_pages(kv: &Kv<Upload>) {
    for n in 0..7 {
        kv.put(&format!("page_{n}"), &Upload { offset: n }).await.expect("put");
    }
    kv.delete("page_3", None).await.expect("delete");
    let (mut after, mut keys) = (0, Vec::new());
    loop {
        let entries = kv.entries(after, 2).await.expect("entries");
        let Some(last) = entries.last() else { break };
        after = last.revision;
        keys.extend(entries.into_iter().map(|entry| entry.key));
    }
    let paged: Vec<_> = keys.iter().filter(|key| key.starts_with("page_")).cloned().collect();
    assert_eq!(paged, ["page_0", "page_1", "page_2", "page_4", "page_5", "page_6"]);
    assert_eq!(kv.keys(1000).await.expect("keys").len(), keys.len());
    assert_eq!(kv.keys(2).await.expect("keys").len(), 2);
}

async fn notes_about_leases_are_written_by_workers_and_read_by_the_projector(test: &TestServer) {
    let key = "default.vid_1.g1-v0";
    let worker: Kv<String> = test.log(Role::Transcoder).await.kv(Bucket::Leases).await.expect("leases");
    worker.put(key, &"note".to_owned()).await.expect("put");
    let reader: Kv<String> = test.log(Role::Projector).await.kv(Bucket::Leases).await.expect("leases");
    assert_eq!(reader.get(key).await.expect("get").map(|note| note.value).as_deref(), Some("note"));
    assert_eq!(reader.keys(10).await.expect("keys"), [key]);
}

async fn a_text_stands_once_and_goes_with_its_asset(test: &TestServer) {
    let (gateway, projector) = (test.log(Role::Gateway).await, test.log(Role::Projector).await);
    let text = |title: &str| Text { title: Some(title.to_owned()), ..Text::default() };
    let token = TextToken::from_bits;
    gateway.put_text(&tenant(), &asset(1), &token(1), &text("a")).await.expect("put");
    gateway.put_text(&tenant(), &asset(1), &token(1), &text("a")).await.expect("put again");
    gateway.put_text(&tenant(), &asset(1), &token(2), &text("b")).await.expect("put");
    gateway.put_text(&tenant(), &asset(2), &token(3), &text("c")).await.expect("put");
    let read = async |of, n| projector.get_text(&tenant(), &asset(of), &token(n)).await.expect("get");
    assert_eq!(read(1, 1).await, Some(text("a")));
    assert_eq!(gateway.purge_texts(&tenant(), &asset(1)).await.expect("purge"), 2);
    assert_eq!(gateway.purge_texts(&tenant(), &asset(1)).await.expect("purge again"), 0);
    assert_eq!(gateway.get_text(&tenant(), &asset(1), &token(2)).await.expect("get"), None);
    assert_eq!(read(2, 3).await, Some(text("c")));
}
