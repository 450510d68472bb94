//! What every store must do.

use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use rustix::process::{Pid, Signal, kill_process};
use spool_kit::SourceReader;
use spool_kit::store::{Directory, STAGING_LEAST, Store, StoreConfig, StoreError};
use spool_kit::units::Bytes as Bytes64;
use spool_proto::id::{AttemptId, UploadId};
use spool_proto::key::{Key, Object};
use spool_proto::media::{Run, SourceRef};
use spool_proto::{AssetId, TenantId, Timestamp};

use crate::s3::Server;

const MIB: usize = 1 << 20;

fn key(object: Object) -> Key {
    Key { tenant: TenantId::default_tenant(), asset: AssetId::from_bits(1), object }
}

fn chunk(chunk: u32) -> Key {
    let attempt = AttemptId::from_bits(9);
    key(Object::Chunk { generation: 1, rendition: "v720".to_owned(), chunk, attempt })
}

fn pattern(length: usize) -> Bytes {
    (0..length).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[tokio::test]
async fn a_directory_does_what_every_store_must() {
    let dir = tempfile::tempdir().unwrap();
    suite(&StoreConfig::directory(dir.path().join("objects"))).await;
}

#[tokio::test]
async fn a_directory_leaves_room_on_its_disk() {
    let dir = tempfile::tempdir().unwrap();
    let StoreConfig::Dir(directory) = StoreConfig::directory(dir.path().join("objects")) else { panic!("a directory") };
    let open = async |keep_free| Store::open(&StoreConfig::Dir(Directory { keep_free, ..directory.clone() })).await;
    // More than any disk has.
    let full = open(Bytes64(u64::MAX / 2)).await.unwrap();
    let refused = [full.put(&chunk(0), Bytes::from_static(b"x")).await.unwrap_err(), {
        let mut writer = full.put_stream(&chunk(1)).await.unwrap();
        writer.write(pattern(20 * MIB)).await.unwrap_err()
    }];
    // One that grew out of its first part is refused before it begins anything on the disk.
    let mut grown = full.put_stream(&chunk(2)).await.unwrap();
    grown.write(pattern(8 * MIB)).await.unwrap();
    let error = grown.write(pattern(MIB)).await.unwrap_err();
    let chunks = dir.path().join("objects").join(chunk(2).to_string());
    let begun: Vec<_> = std::fs::read_dir(chunks.parent().unwrap()).into_iter().flatten().collect();
    assert!(begun.is_empty(), "{begun:?}");
    for error in refused.into_iter().chain([error]) {
        assert!(matches!(error, StoreError::NoRoom { .. }), "{error:?}");
        assert_eq!(error.code(), spool_proto::Code::StoreFull);
    }
    let roomy = open(Bytes64(0)).await.unwrap();
    roomy.put(&chunk(0), Bytes::from_static(b"x")).await.unwrap();
}

#[tokio::test]
async fn an_s3_server_does_what_every_store_must() {
    let server = Server::start();
    suite(&server.bucket("spool-suite").await).await;
}

async fn suite(config: &StoreConfig) {
    let store = Store::open(config).await.unwrap();
    assert!(store.abilities().conditional_put, "this store can write without overwriting");
    a_key_is_written_once(&store).await;
    ranges_are_whole_or_an_error(&store).await;
    a_stream_gives_every_byte_in_order(&store).await;
    a_writer_shows_nothing_before_its_end(&store).await;
    many_writers_of_one_key_leave_one_object(&store).await;
    a_source_reads_across_its_pieces(&store).await;
    listing_and_deleting(&store).await;
}

async fn a_key_is_written_once(store: &Store) {
    let key = chunk(0);
    let before = store.traffic();
    store.put(&key, Bytes::from_static(b"first")).await.unwrap();
    store.put(&key, Bytes::from_static(b"first")).await.unwrap();
    let error = store.put(&key, Bytes::from_static(b"other")).await.unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error:?}");
    assert_eq!(store.get_range(&key, 0..5).await.unwrap(), "first");
    assert_eq!(store.traffic().written_bytes - before.written_bytes, 5);
    store.put(&chunk(1), Bytes::new()).await.unwrap();
    store.put(&chunk(1), Bytes::new()).await.unwrap();
    assert_eq!(store.head(&chunk(1)).await.unwrap(), Some(0));
}

async fn ranges_are_whole_or_an_error(store: &Store) {
    let key = chunk(0);
    assert_eq!(store.get_range(&key, 1..3).await.unwrap(), "ir");
    assert_eq!(store.get_range(&key, 2..2).await.unwrap(), "");
    assert!(store.get_range(&key, 3..9).await.is_err(), "a range past the end");
    let missing = store.get_range(&chunk(99), 0..1).await.unwrap_err();
    assert!(matches!(missing, StoreError::Missing { .. }), "{missing:?}");
    assert_eq!(store.head(&key).await.unwrap(), Some(5));
    assert_eq!(store.head(&chunk(99)).await.unwrap(), None);
}

async fn a_stream_gives_every_byte_in_order(store: &Store) {
    let (key, bytes) = (chunk(2), pattern(3 * MIB + 17));
    store.put_parts(&key, vec![bytes.slice(..MIB), bytes.slice(MIB..)]).await.unwrap();
    let streamed: Vec<Bytes> = store.stream(&key, 5..3 * MIB as u64 + 17).await.unwrap().try_collect().await.unwrap();
    assert_eq!(streamed.concat(), &bytes[5..]);
}

async fn a_writer_shows_nothing_before_its_end(store: &Store) {
    for (chunk_index, length) in [(3, 5), (4, 20 * MIB + 3)] {
        let (key, bytes) = (chunk(chunk_index), pattern(length));
        let mut writer = store.put_stream(&key).await.unwrap();
        for part in bytes.chunks(3 * MIB) {
            writer.write(bytes.slice_ref(part)).await.unwrap();
        }
        assert_eq!(writer.length(), length as u64);
        assert_eq!(store.head(&key).await.unwrap(), None, "nothing is visible yet");
        let stored = writer.finish().await.unwrap();
        assert_eq!(stored.size_bytes, length as u64);
        assert_eq!(stored.sha256, spool_proto::id::Sha256::of(&bytes));
        assert_eq!(store.get_range(&key, 0..length as u64).await.unwrap(), bytes);
        assert!(store.put_stream(&key).await.is_err(), "a finished object is not opened again");
    }
    let mut dropped = store.put_stream(&chunk(5)).await.unwrap();
    dropped.write(pattern(9 * MIB)).await.unwrap();
    drop(dropped);
    let mut aborted = store.put_stream(&chunk(6)).await.unwrap();
    aborted.write(pattern(9 * MIB)).await.unwrap();
    aborted.abort().await.unwrap();
    for key in [chunk(5), chunk(6)] {
        assert_eq!(store.head(&key).await.unwrap(), None, "what is given up leaves nothing");
    }
}

async fn many_writers_of_one_key_leave_one_object(store: &Store) {
    let writes = (0..16_u8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move { store.put(&chunk(7), Bytes::from(vec![writer; 1000])).await.is_ok() })
    });
    let mut won = 0;
    for write in writes.collect::<Vec<_>>() {
        won += u32::from(write.await.unwrap());
    }
    assert_eq!(won, 1);
    let bytes = store.get_range(&chunk(7), 0..1000).await.unwrap();
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "bytes of two writers are mixed");
}

async fn a_source_reads_across_its_pieces(store: &Store) {
    let (upload, bytes, piece_bytes) = (UploadId::from_bits(4), pattern(2500), 1000);
    let runs = vec![Run { first: 0, last: 1, epoch: 1 }, Run { first: 2, last: 2, epoch: 3 }];
    for (piece, part) in bytes.chunks(piece_bytes).enumerate() {
        let epoch = if piece < 2 { 1 } else { 3 };
        let object = Object::Piece { upload: upload.clone(), piece: piece as u32, epoch };
        store.put(&key(object), bytes.slice_ref(part)).await.unwrap();
    }
    let source = SourceRef {
        upload,
        piece_bytes: piece_bytes as u64,
        size_bytes: 2500,
        sha256: spool_proto::id::Sha256::of(&bytes),
        runs,
    };
    let reader = SourceReader::new(store.clone(), &TenantId::default_tenant(), &AssetId::from_bits(1), &source);
    for (offset, length) in [(0, 2500), (999, 2), (0, 0), (2499, 1), (500, 1700), (2400, 500), (9999, 5)] {
        let end = (offset + length).min(2500).max(offset.min(2500));
        let expected = &bytes[offset.min(2500)..end];
        assert_eq!(reader.read_at(offset as u64, length as u64).await.unwrap(), expected, "{offset}+{length}");
        let range = offset as u64..(offset + length) as u64;
        let streamed: Vec<Bytes> = reader.stream(range).try_collect().await.unwrap();
        assert_eq!(streamed.concat(), expected, "{offset}+{length}");
    }
}

async fn listing_and_deleting(store: &Store) {
    let list = async |prefix: &str| {
        let mut listed: Vec<_> = store.list(prefix).try_collect().await.unwrap();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        listed
    };
    let asset = AssetId::from_bits(1);
    let mut bytes = 0;
    for prefix in spool_proto::key::prefixes(&TenantId::default_tenant(), &asset) {
        for listed in list(&prefix).await {
            assert_eq!(listed.key.as_ref().map(ToString::to_string), Some(listed.name));
            assert!(listed.written_at > Timestamp::default());
            bytes += listed.size_bytes;
        }
    }
    assert!(bytes > 20 * MIB as u64);
    assert_eq!(list("sources/default").await.len(), 3);
    assert_eq!(list("sources/nobody").await.len(), 0);

    let keys: Vec<Key> = list("").await.into_iter().map(|listed| listed.key.expect("a key of ours")).collect();
    store.delete(&keys).await.unwrap();
    store.delete(&keys).await.expect("deleting what is gone is no error");
    assert_eq!(list("").await.len(), 0);
}

#[tokio::test]
async fn what_a_killed_process_left_half_written_is_swept_from_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&StoreConfig::directory(dir.path())).await.unwrap();
    let mut writer = store.put_stream(&chunk(0)).await.unwrap();
    writer.write(pattern(9 * MIB)).await.unwrap();
    writer.write(pattern(9 * MIB)).await.unwrap();
    // The process dies here: no destructor runs.
    std::mem::forget(writer);
    store.put(&chunk(1), Bytes::from_static(b"whole")).await.unwrap();

    let now = spool_kit::Clock::system().now();
    let minutes = |count: u32| STAGING_LEAST / 10 * count;
    let sweep = async |later, age| store.sweep_staging(now.plus(minutes(later)), minutes(age)).await.unwrap();
    assert_eq!(sweep(9, 0).await, 0, "it may still be written to");
    assert_eq!(sweep(59, 60).await, 0, "the age that was asked for");
    assert_eq!(sweep(61, 60).await, 1);
    assert_eq!(store.head(&chunk(1)).await.unwrap(), Some(5));
}

#[tokio::test]
async fn a_store_that_hangs_is_told_from_one_that_answers() {
    const WITHIN: Duration = Duration::from_secs(30);
    let dir = tempfile::tempdir().unwrap();
    assert!(Store::open(&StoreConfig::directory(dir.path())).await.unwrap().answers(WITHIN).await);
    let server = Server::start();
    let store = Store::open(&server.bucket("hangs").await).await.unwrap();
    let signal = |signal| kill_process(Pid::from_child(&server.child), signal).unwrap();
    assert!(store.answers(WITHIN).await);
    signal(Signal::STOP);
    assert!(!store.answers(Duration::from_millis(500)).await);
    signal(Signal::CONT);
    assert!(store.answers(WITHIN).await);
}

#[tokio::test]
async fn a_store_that_can_not_be_written_to_is_named_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a-file");
    std::fs::write(&file, b"").unwrap();
    let error = Store::open(&StoreConfig::directory(&file)).await.unwrap_err();
    assert!(error.to_string().contains("a-file"), "{error}");
    let server = Server::start();
    let mut config = server.bucket("there").await;
    if let StoreConfig::S3(s3) = &mut config {
        s3.bucket = "not-there".to_owned();
    }
    assert_eq!(Store::open(&config).await.unwrap_err().to_string(), "try the object store");
}
