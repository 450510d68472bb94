//! Uploads: what is stored, what is answered, who wins.

use std::time::Duration;

use bytes::Bytes;
use spool_gateway::Config;
use spool_kit::units::{Bytes as Size, Span};
use spool_nats::Bucket;
use spool_proto::{Code, Event, Slot, Status};

use crate::common::{KIB, World, channel, eventually, pattern};

#[tokio::test]
async fn an_upload_in_one_request_becomes_a_source() {
    let world = World::new().await;
    let app = world.app().await;
    let bytes = pattern(200 * KIB + 7);
    let asset = app.upload(&bytes, "filename dmlkZW8ubXA0,label.course TTE=").await;
    assert_eq!(app.kinds(&asset).await, ["AssetRegistered", "Described", "SourceStored"]);
    assert_eq!(app.source(&asset).await, bytes);
    assert_eq!(app.objects().await.len(), 4, "full pieces and the rest, nothing else: {:?}", app.objects().await);

    let state = app.state(&asset).await;
    assert_eq!(state.status(), Status::Checking);
    let text = app.log.get_text(&crate::common::tenant(), &asset, state.text_token().unwrap()).await.unwrap().unwrap();
    assert_eq!(text.filename.as_deref(), Some("video.mp4"));
    assert_eq!(text.labels["course"], "M1");
}

#[tokio::test]
async fn an_empty_upload_is_complete_when_it_is_created() {
    let world = World::new().await;
    let app = world.app().await;
    let created = app.create(0, "").await;
    assert_eq!(created.offset(), 0);
    assert_eq!(app.kinds(&created.asset()).await, ["AssetRegistered", "SourceStored"]);
    assert_eq!(app.source(&created.asset()).await, "");
    assert_eq!(app.head(&created.location()).await.offset(), 0);
}

#[tokio::test]
async fn bytes_may_come_with_the_creation() {
    let world = World::new().await;
    let app = world.app().await;
    let bytes = pattern(100 * KIB);
    let headers = [crate::common::TUS, crate::common::BYTES, ("upload-length", "102400")];
    let reply = app.send("POST", "/v1/uploads", &headers, bytes.slice(..70 * KIB)).await;
    assert_eq!((reply.status, reply.offset()), (201, 70 * KIB as u64), "{reply:?}");
    let reply = app.patch(&reply.location(), reply.offset(), bytes.slice(70 * KIB..)).await;
    assert_eq!((reply.status, reply.offset()), (204, 100 * KIB as u64));
}

#[tokio::test]
async fn a_client_of_small_requests_writes_little_more_than_its_bytes_twice() {
    let world = World::new().await;
    let app = world.app_with(Config { piece: Size(1 << 20), ..world.config() }).await;
    let bytes = pattern(3 << 20);
    let created = app.create(bytes.len(), "").await;
    let before = app.store.traffic();
    let mut offset = 0;
    for part in bytes.chunks(64 * KIB) {
        let reply = app.patch(&created.location(), offset, bytes.slice_ref(part)).await;
        offset += part.len() as u64;
        assert_eq!((reply.status, reply.offset()), (204, offset));
    }
    let written = app.store.traffic().written_bytes - before.written_bytes;
    let entries = app.log.kv::<serde_json::Value>(Bucket::Uploads).await.unwrap();
    let last = entries.get(created.upload().as_str()).await.unwrap().unwrap();
    // Two writes of the entry a request, each below a kilobyte and as many bytes as its fragments need.
    let ratio = written as f64 / bytes.len() as f64;
    println!(
        "64 KiB requests: {ratio:.3} bytes written to the store for one received; entry revision {}",
        last.revision
    );
    assert!(ratio <= 2.0, "{ratio}");
    assert_eq!(app.source(&created.asset()).await, bytes);
    assert_eq!(app.objects().await.len(), 3, "no fragment is left: {:?}", app.objects().await);
}

#[tokio::test]
async fn tiny_requests_keep_the_entry_small() {
    let world = World::new().await;
    let app = world.app().await;
    let bytes = pattern(300);
    let created = app.create(bytes.len(), "").await;
    for offset in 0..300 {
        let reply = app.patch(&created.location(), offset as u64, bytes.slice(offset..=offset)).await;
        assert_eq!(reply.status, 204, "{reply:?}");
    }
    assert_eq!(app.source(&created.asset()).await, bytes);
    assert_eq!(app.objects().await.len(), 1, "{:?}", app.objects().await);
}

#[tokio::test]
async fn what_arrived_before_the_connection_broke_is_kept() {
    let world = World::new().await;
    let (one, two) = (world.app().await, world.app().await);
    let bytes = pattern(300 * KIB);
    let created = one.create(bytes.len(), "").await;
    let location = created.location();
    let mut offset = 0;
    for cut in [10 * KIB, 64 * KIB, 100 * KIB, 101 * KIB, 256 * KIB] {
        let (sender, body) = channel();
        let sent = bytes.slice(offset..cut);
        let feed = async {
            sender.send(Ok(sent)).await.unwrap();
            sender.send(Err(std::io::Error::other("reset"))).await.unwrap();
        };
        let (reply, ()) = tokio::join!(one.patch(&location, offset as u64, body), feed);
        assert_eq!((reply.status, reply.offset()), (204, cut as u64), "{reply:?}");
        let head = two.head(&location).await;
        assert_eq!((head.status, head.offset()), (200, cut as u64), "another gateway knows it");
        offset = cut;
    }
    let reply = two.patch(&location, offset as u64, bytes.slice(offset..)).await;
    assert_eq!(reply.status, 204, "{reply:?}");
    assert_eq!(two.source(&created.asset()).await, bytes);
}

#[tokio::test]
async fn a_stalled_request_gives_way_and_its_later_bytes_change_nothing() {
    let world = World::new().await;
    let (one, two) = (world.app().await, world.app().await);
    let bytes = pattern(200 * KIB);
    let created = one.create(bytes.len(), "").await;
    let location = created.location();

    // It brings a piece and a half, then nothing: the half is in its memory.
    let (sender, body) = channel();
    let stalled = tokio::spawn({
        let (router, location) = (one.router.clone(), location.clone());
        let stalled = crate::common::App { router, ..world.app().await };
        async move { stalled.patch(&location, 0, body).await }
    });
    sender.send(Ok(bytes.slice(..96 * KIB))).await.unwrap();
    eventually("the first piece is committed", async || two.head(&location).await.offset() == 64 * KIB as u64).await;

    // A successor through another gateway goes on from what is stored, with other bytes than the stalled one will bring.
    let reply = two.patch(&location, 64 * KIB as u64, bytes.slice(64 * KIB..150 * KIB)).await;
    assert_eq!((reply.status, reply.offset()), (204, 150 * KIB as u64), "{reply:?}");

    // The stalled one wakes up.
    sender.send(Ok(Bytes::from(vec![0xee; 64 * KIB]))).await.unwrap();
    drop(sender);
    let late = stalled.await.unwrap();
    assert_eq!((late.status, late.code()), (409, "upload_superseded".to_owned()), "{late:?}");
    assert_eq!(two.head(&location).await.offset(), 150 * KIB as u64);

    let reply = two.patch(&location, 150 * KIB as u64, bytes.slice(150 * KIB..)).await;
    assert_eq!(reply.status, 204, "{reply:?}");
    assert_eq!(two.source(&created.asset()).await, bytes, "not one byte of the stalled request is in it");

    // What it left behind goes once the outcome stands, and nothing else does.
    world.clock.advance(Duration::from_secs(2 * 3600));
    let named = two.objects().await.len();
    let gone = two.gateway.sweep_orphans().await.unwrap();
    assert_eq!(two.objects().await.len(), named - gone as usize);
    assert_eq!(two.objects().await.len(), 4);
    assert_eq!(two.source(&created.asset()).await, bytes);
}

#[tokio::test]
async fn a_successor_in_the_same_process_ends_its_predecessor_at_once() {
    let world = World::new().await;
    let app = world.app().await;
    let bytes = pattern(100 * KIB);
    let created = app.create(bytes.len(), "").await;
    let location = created.location();
    let (sender, body) = channel();
    let first = app.patch(&location, 0, body);
    let second = async {
        sender.send(Ok(bytes.slice(..70 * KIB))).await.unwrap();
        eventually("a piece is stored", async || app.head(&location).await.offset() == 64 * KIB as u64).await;
        app.patch(&location, 64 * KIB as u64, bytes.slice(64 * KIB..)).await
    };
    // The first one's sender stays open: only the successor can end it.
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.status, first.code()), (409, "upload_superseded".to_owned()));
    assert_eq!(second.status, 204, "{second:?}");
    drop(sender);
    assert_eq!(app.source(&created.asset()).await, bytes);
}

#[tokio::test]
async fn of_many_requests_for_one_offset_the_bytes_are_never_mixed() {
    let world = World::new().await;
    let (one, two) = (world.app().await, world.app().await);
    let created = one.create(130 * KIB, "").await;
    let location = created.location();
    let bodies: Vec<_> = (0..6_u8).map(|writer| Bytes::from(vec![writer; 130 * KIB])).collect();
    let requests = bodies.iter().enumerate().map(|(i, body)| {
        let app = if i % 2 == 0 { &one } else { &two };
        app.patch(&location, 0, body.clone())
    });
    let replies = futures_util::future::join_all(requests).await;
    for reply in &replies {
        assert!(matches!(reply.status, 204 | 409), "{reply:?}");
    }
    let offset = one.head(&location).await.offset();
    if offset < 130 * KIB as u64 {
        let rest = vec![9; 130 * KIB - offset as usize];
        assert_eq!(one.patch(&location, offset, rest).await.status, 204);
    }
    let source = one.source(&created.asset()).await;
    for piece in source.chunks(64 * KIB) {
        assert!(piece.iter().all(|byte| *byte == piece[0]), "a piece holds bytes of two requests");
    }
}

#[tokio::test]
async fn a_silent_request_is_ended_and_keeps_what_it_brought() {
    let world = World::new().await;
    let app = world.app_with(Config { idle_timeout: Span::millis(300), ..world.config() }).await;
    let created = app.create(100 * KIB, "").await;
    let (sender, body) = channel();
    let feed = sender.send(Ok(pattern(10 * KIB)));
    let location = created.location();
    let (reply, fed) = tokio::join!(app.patch(&location, 0, body), feed);
    fed.unwrap();
    assert_eq!((reply.status, reply.code()), (503, "upload_too_slow".to_owned()), "{reply:?}");
    assert_eq!(app.head(&created.location()).await.offset(), 10 * KIB as u64);
}

#[tokio::test]
async fn a_request_that_trickles_loses_its_place_and_nothing_else() {
    let world = World::new().await;
    let app = world.app_with(Config { max_transfers: 1, ..world.config() }).await;
    let (created, other) = (app.create(100, "").await, app.create(10, "").await);
    let (sender, body) = channel();
    let trickle = async {
        // A byte every 25 s is never silent for long; after three of them the minute is over.
        for _ in 0..4 {
            sender.send(Ok(pattern(1))).await.unwrap();
            eventually("the byte is taken from the socket", async || sender.capacity() == 1).await;
            world.clock.advance(Duration::from_secs(25));
        }
    };
    let location = created.location();
    let (reply, ()) = tokio::join!(app.patch(&location, 0, body), trickle);
    assert_eq!((reply.status, reply.code()), (503, "upload_too_slow".to_owned()), "{reply:?}");
    assert!(reply.body.contains("The request brought 4 bytes in 75s, too few to keep its place"), "{reply:?}");
    assert_eq!(app.head(&location).await.offset(), 4, "what it brought is stored");
    assert_eq!(app.patch(&other.location(), 0, pattern(10)).await.status, 204, "its place is free");
}

#[tokio::test]
async fn a_creation_whose_bytes_break_off_says_where_the_upload_stands() {
    let world = World::new().await;
    let app = world.app_with(Config { idle_timeout: Span::millis(300), ..world.config() }).await;
    let headers = [crate::common::TUS, crate::common::BYTES, ("upload-length", "102400")];
    let create = async |body| app.send("POST", "/v1/uploads", &headers, body).await;

    let (sender, body) = channel();
    let (silent, sent) = tokio::join!(create(body), sender.send(Ok(pattern(70 * KIB))));
    sent.unwrap();
    assert_eq!((silent.status, silent.offset()), (201, 70 * KIB as u64), "{silent:?}");
    assert_eq!(app.head(&silent.location()).await.offset(), 70 * KIB as u64);

    // What can't be meant is refused, and says which upload it was.
    let (sender, body) = channel();
    let feed = async {
        sender.send(Ok(pattern(70 * KIB))).await.unwrap();
        sender.send(Ok(pattern(70 * KIB))).await.unwrap();
        drop(sender);
    };
    let (overrun, ()) = tokio::join!(create(body), feed);
    assert_eq!((overrun.status, overrun.code()), (413, "upload_overrun".to_owned()), "{overrun:?}");
    assert_eq!(app.head(&overrun.location()).await.offset(), 64 * KIB as u64, "the last piece is not stored");
    assert_eq!(app.state(&overrun.asset()).await.status(), Status::Uploading);
    assert_ne!(overrun.asset(), silent.asset());
}

#[tokio::test]
async fn a_creation_whose_bytes_can_not_be_stored_says_where_to_send_them() {
    let world = World::new().await;
    let app = world.app().await;
    let objects = world.dir.path().join("objects");
    // No directory any more, so nothing can be put there.
    std::fs::remove_dir_all(&objects).unwrap();
    std::fs::write(&objects, "").unwrap();
    let headers = [crate::common::TUS, crate::common::BYTES, ("upload-length", "10")];
    let created = app.send("POST", "/v1/uploads", &headers, pattern(10)).await;
    assert_eq!((created.status, created.offset()), (201, 0), "{created:?}");
    let refused = app.patch(&created.location(), 0, pattern(10)).await;
    assert_eq!((refused.status, refused.code()), (503, "store_unavailable".to_owned()), "{refused:?}");

    std::fs::remove_file(&objects).unwrap();
    std::fs::create_dir(&objects).unwrap();
    assert_eq!(app.patch(&created.location(), 0, pattern(10)).await.status, 204);
    assert_eq!(app.source(&created.asset()).await, pattern(10));
}

#[tokio::test]
async fn a_creation_with_bytes_that_are_not_the_announced_ones_names_the_asset_that_was_abandoned() {
    let world = World::new().await;
    let app = world.app().await;
    let metadata = format!("sha256 {}", base64("aa".repeat(32).as_bytes()));
    let headers =
        [crate::common::TUS, crate::common::BYTES, ("upload-length", "10"), ("upload-metadata", metadata.as_str())];
    let reply = app.send("POST", "/v1/uploads", &headers, pattern(10)).await;
    assert_eq!((reply.status, reply.code()), (422, "upload_digest_mismatch".to_owned()), "{reply:?}");
    assert_eq!(app.state(&reply.asset()).await.status(), Status::Abandoned);
    assert_eq!(app.head(&reply.location()).await.headers["spool-code"], "upload_digest_mismatch");
}

#[tokio::test]
async fn a_gateway_that_stops_stores_what_came_and_lets_the_client_go_on_elsewhere() {
    let world = World::new().await;
    let (one, two) = (world.app().await, world.app().await);
    let bytes = pattern(100 * KIB);
    let created = one.create(bytes.len(), "").await;
    let location = created.location();
    let (sender, body) = channel();
    let stop = async {
        sender.send(Ok(bytes.slice(..20 * KIB))).await.unwrap();
        eventually("the bytes are taken from the socket", async || sender.capacity() == 1).await;
        one.stop.finish();
    };
    let (reply, ()) = tokio::join!(one.patch(&location, 0, body), stop);
    assert_eq!((reply.status, reply.code()), (503, "unavailable".to_owned()), "{reply:?}");
    let offset = two.head(&location).await.offset();
    assert_eq!(offset, 20 * KIB as u64);
    assert_eq!(two.patch(&location, offset, bytes.slice(20 * KIB..)).await.status, 204);
    assert_eq!(two.source(&created.asset()).await, bytes);
}

#[tokio::test]
async fn an_upload_whose_gateway_died_after_the_last_byte_completes_by_itself() {
    let world = World::new().await;
    let (one, two) = (world.app().await, world.app().await);
    let bytes = pattern(100 * KIB);
    let created = one.create(bytes.len(), "").await;
    full_entry(&one, &created.location(), &bytes).await;
    assert!(one.fact(&created.asset(), Slot::UploadOutcome).await.is_none(), "it died before it could state it");

    // Nobody asks: another gateway's sweeper meets it.
    two.settle().await;
    assert_eq!(two.source(&created.asset()).await, bytes);
    two.settle().await;
    assert_eq!(two.kinds(&created.asset()).await, ["AssetRegistered", "SourceStored"]);
}

#[tokio::test]
async fn head_answers_the_whole_length_only_once_the_source_stands() {
    let world = World::new().await;
    let (one, two) = (world.app().await, world.app().await);
    let bytes = pattern(70 * KIB);
    let created = one.create(bytes.len(), "").await;
    full_entry(&one, &created.location(), &bytes).await;
    let head = two.head(&created.location()).await;
    assert_eq!(head.offset(), bytes.len() as u64);
    assert!(two.fact(&created.asset(), Slot::UploadOutcome).await.is_some());
}

/// Brings an upload to the state in which its gateway was killed between the last commit and `SourceStored`.
async fn full_entry(app: &crate::common::App, location: &str, bytes: &Bytes) {
    use spool_proto::id::UploadId;
    let upload: UploadId = location.rsplit('/').next().unwrap().parse().unwrap();
    let kv = app.log.kv::<serde_json::Value>(Bucket::Uploads).await.unwrap();
    let almost = bytes.len() - 1;
    // It is brought to its last byte, which is then committed by hand.
    let reply = app.patch(location, 0, bytes.slice(..almost)).await;
    assert_eq!(reply.offset(), almost as u64);
    let found = kv.get(upload.as_str()).await.unwrap().unwrap();
    let mut entry = found.value.clone();
    let epoch = entry["epoch"].as_u64().unwrap() + 1;
    let piece = u32::try_from(almost / (64 * KIB)).unwrap();
    let start = piece as usize * 64 * KIB;
    let object = spool_proto::key::Object::Piece { upload: upload.clone(), piece, epoch };
    let asset = entry["asset"].as_str().unwrap().parse().unwrap();
    let key = spool_proto::key::Key { tenant: crate::common::tenant(), asset, object };
    app.store.put(&key, bytes.slice(start..)).await.unwrap();
    entry["epoch"] = epoch.into();
    entry["offset"] = bytes.len().into();
    entry["fragments"] = serde_json::json!([]);
    entry["runs"].as_array_mut().unwrap().push(serde_json::json!({"first": piece, "last": piece, "epoch": epoch}));
    entry["digest"] = digest_state(bytes).into();
    kv.update(upload.as_str(), &entry, found.revision).await.unwrap();
}

/// The state of a digest after `bytes`, as an entry holds it.
fn digest_state(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    use sha2::digest::common::hazmat::SerializableState as _;
    let mut hasher = sha2::Sha256::new();
    hasher.update(bytes);
    hasher.serialize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_wrong_digest_ends_the_upload_with_both_digests() {
    let world = World::new().await;
    let app = world.app().await;
    let bytes = pattern(70 * KIB);
    let wrong = "aa".repeat(32);
    let metadata = format!("sha256 {}", base64(wrong.as_bytes()));
    let created = app.create(bytes.len(), &metadata).await;
    let reply = app.patch(&created.location(), 0, bytes.clone()).await;
    assert_eq!((reply.status, reply.code()), (422, "upload_digest_mismatch".to_owned()), "{reply:?}");
    assert!(reply.body.contains(&wrong) && reply.body.contains(&spool_proto::id::Sha256::of(&bytes).to_string()));
    let state = app.state(&created.asset()).await;
    assert_eq!((state.status(), state.problem().unwrap().code), (Status::Abandoned, Code::UploadDigestMismatch));
    assert_eq!(app.head(&created.location()).await.status, 422);

    let right = spool_proto::id::Sha256::of(&bytes).to_string();
    let asset = app.upload(&bytes, &format!("sha256 {}", base64(right.as_bytes()))).await;
    assert_eq!(app.source(&asset).await, bytes);
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        let chars = (0..=group.len()).map(move |i| ALPHABET[(bits >> (18 - 6 * i)) as usize & 63] as char);
        chars.chain(std::iter::repeat_n('=', 3 - group.len())).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

#[tokio::test]
async fn an_upload_to_which_nothing_comes_is_abandoned_and_its_objects_go() {
    let world = World::new().await;
    let app = world.app().await;
    let created = app.create(200 * KIB, "").await;
    app.patch(&created.location(), 0, pattern(100 * KIB)).await;
    app.settle().await;
    world.clock.advance(Duration::from_secs(23 * 3600));
    app.settle().await;
    assert_eq!(app.head(&created.location()).await.status, 200, "not yet");

    world.clock.advance(Duration::from_secs(2 * 3600));
    app.settle().await;
    let state = app.state(&created.asset()).await;
    assert_eq!((state.status(), state.problem().unwrap().code), (Status::Abandoned, Code::UploadExpired));
    let reply = app.patch(&created.location(), 100 * KIB as u64, pattern(10)).await;
    assert_eq!((reply.status, reply.code()), (410, "upload_expired".to_owned()));
    assert_eq!(app.head(&created.location()).await.status, 410);
    assert!(!app.objects().await.is_empty());

    // A day later it is forgotten, with what it left.
    world.clock.advance(Duration::from_secs(25 * 3600));
    app.settle().await;
    assert_eq!(app.objects().await, Vec::<String>::new());
    assert_eq!(app.head(&created.location()).await.status, 404);
}

#[tokio::test]
async fn an_upload_does_not_expire_while_bytes_of_a_piece_come() {
    let world = World::new().await;
    // However long this takes: by a clock that stands still no request's turn comes round again.
    let often = 1_000_000;
    let patient =
        Config { idle_timeout: Span::secs(600), slow_bytes: Size(1), requests_per_second: often, ..world.config() };
    let app = world.app_with(patient).await;
    let location = app.create(4, "").await.location();
    let (sender, body) = channel();
    let trickle = async {
        for _ in 0..3 {
            let until = app.head(&location).await.headers["upload-expires"].clone();
            world.clock.advance(Duration::from_secs(16 * 3600));
            sender.send(Ok(pattern(1))).await.unwrap();
            let moved =
                async || app.head(&location).await.headers.get("upload-expires").is_none_or(|now| *now != until);
            eventually("the byte moves the end", moved).await;
            app.settle().await;
        }
        assert_eq!(app.head(&location).await.offset(), 0, "no byte counts before it is stored");
        sender.send(Ok(pattern(1))).await.unwrap();
        drop(sender);
    };
    let (reply, ()) = tokio::join!(app.patch(&location, 0, body), trickle);
    assert_eq!(reply.status, 204, "{reply:?}");
}

#[tokio::test]
async fn an_expired_upload_is_refused_also_before_the_sweeper_met_it() {
    let world = World::new().await;
    let app = world.app().await;
    let created = app.create(200 * KIB, "").await;
    world.clock.advance(Duration::from_secs(25 * 3600));
    let reply = app.patch(&created.location(), 0, pattern(10)).await;
    assert_eq!((reply.status, reply.code()), (410, "upload_expired".to_owned()), "{reply:?}");
    assert_eq!(app.state(&created.asset()).await.status(), Status::Abandoned);
}

#[tokio::test]
async fn a_finished_upload_answers_for_a_while_and_only_its_notes_are_forgotten() {
    let world = World::new().await;
    let app = world.app().await;
    let bytes = pattern(100 * KIB);
    let created = app.create(bytes.len(), "").await;
    app.patch(&created.location(), 0, bytes.clone()).await;
    // The answer was lost; the client asks, and sends the last bytes again.
    assert_eq!(app.head(&created.location()).await.offset(), bytes.len() as u64);
    let again = app.patch(&created.location(), bytes.len() as u64, Bytes::new()).await;
    assert_eq!((again.status, again.offset()), (204, bytes.len() as u64));
    let early = app.patch(&created.location(), 0, bytes.clone()).await;
    assert_eq!((early.status, early.code()), (409, "offset_conflict".to_owned()));
    world.clock.advance(Duration::from_secs(25 * 3600));
    app.settle().await;
    assert_eq!(app.head(&created.location()).await.status, 404);
    assert_eq!(app.source(&created.asset()).await, bytes);
}

#[tokio::test]
async fn a_cancelled_upload_ends_and_fences_whoever_still_sends() {
    let world = World::new().await;
    let app = world.app().await;
    let created = app.create(200 * KIB, "").await;
    let location = created.location();
    let (sender, body) = channel();
    let cancel = async {
        sender.send(Ok(pattern(70 * KIB))).await.unwrap();
        eventually("a piece is stored", async || app.head(&location).await.offset() == 64 * KIB as u64).await;
        let reply = app.send("DELETE", &location, &[crate::common::TUS], "").await;
        sender.send(Ok(pattern(100 * KIB))).await.ok();
        drop(sender);
        reply
    };
    let (late, cancelled) = tokio::join!(app.patch(&location, 0, body), cancel);
    assert_eq!((cancelled.status, cancelled.body.as_str()), (204, ""), "{cancelled:?}");
    assert_eq!((late.status, late.code()), (409, "upload_superseded".to_owned()), "{late:?}");
    let head = app.head(&location).await;
    assert_eq!((head.status, head.headers.get("upload-offset")), (410, None));
    let fact = app.fact(&created.asset(), Slot::UploadOutcome).await.unwrap();
    let Some(Event::UploadAbandoned(abandoned)) = fact.event() else { panic!("{fact:?}") };
    assert_eq!((abandoned.problem.code, abandoned.received_bytes), (Code::UploadCancelled, 64 * KIB as u64));
    assert_eq!(app.send("DELETE", &location, &[crate::common::TUS], "").await.status, 410);
}

#[tokio::test]
async fn a_repeated_creation_under_one_key_is_one_upload() {
    let world = World::new().await;
    let (one, two) = (world.app().await, world.app().await);
    let create = async |app: &crate::common::App, length: &str| {
        let headers = [crate::common::TUS, ("upload-length", length), ("idempotency-key", "k1")];
        app.send("POST", "/v1/uploads", &headers, "").await
    };
    let (first, again) = tokio::join!(create(&one, "10"), create(&two, "10"));
    assert_eq!((first.status, again.status), (201, 201), "{first:?} {again:?}");
    assert_eq!((first.location(), first.asset()), (again.location(), again.asset()));
    let other = create(&one, "11").await;
    assert_eq!((other.status, other.code()), (409, "idempotency_conflict".to_owned()));
    assert_eq!(one.patch(&first.location(), 0, "0123456789").await.status, 204);

    // Long after its entry is gone the key still means this asset, and still no other request.
    world.clock.advance(Duration::from_secs(25 * 3600));
    one.settle().await;
    assert_eq!(create(&two, "10").await.asset(), first.asset());
    assert_eq!(create(&two, "11").await.status, 409);
    assert_eq!(one.kinds(&first.asset()).await, ["AssetRegistered", "SourceStored"]);
}

#[tokio::test]
async fn who_reads_at_the_sequence_of_a_creation_finds_what_was_typed() {
    let world = World::new().await;
    let app = world.app().await;
    std::fs::write(world.root().join("a.mp4"), pattern(10)).unwrap();
    let plain = app.create(10, "").await;
    let by_upload = app.create(10, "title VA==").await;
    let path = [("idempotency-key", "k")];
    let by_path = async || app.send("POST", "/v1/assets", &path, r#"{"input":{"path":"a.mp4"}}"#).await;
    let (first, again) = (by_path().await, by_path().await);
    for (reply, slot) in [
        (plain, Slot::UploadRegistered),
        (by_upload, Slot::Text { revision: 1 }),
        (first, Slot::Text { revision: 1 }),
        (again, Slot::Text { revision: 1 }),
    ] {
        let fact = app.fact(&reply.asset(), slot).await.expect("it stands");
        assert_eq!(reply.headers["spool-sequence"], fact.sequence.to_string(), "{reply:?}");
    }
}
