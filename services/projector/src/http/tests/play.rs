//! What players fetch: playlists, segments, pictures.

use bytes::Bytes;
use spool_kit::hls::check;
use spool_proto::event::{AssetDeleted, Withdrawn};
use spool_proto::id::AttemptId;
use spool_proto::key::{Key, Object};
use spool_proto::{Slot, TenantId};

use super::{check_problem, id, world};
use crate::sample::{self, playback};
use crate::world::{World, app, get, send, settle};

/// The bytes of chunk 0 of `v360` in [`sample`]: of the length that its receipt states.
fn chunk_bytes() -> Bytes {
    let length = 800_000 / 16 * 4 + 800;
    (0..length).map(|i: u32| (i % 251) as u8).collect::<Vec<_>>().into()
}

async fn put_objects(world: &World) {
    let attempt = AttemptId::from_bits(4);
    let chunk = Object::Chunk { generation: 1, rendition: "v360".to_owned(), chunk: 0, attempt };
    let still = Object::Still { generation: 1, name: "poster".to_owned(), attempt: AttemptId::from_bits(5) };
    let list = |file: &str| Object::Manifest { revision: 2, attempt: AttemptId::from_bits(8), file: file.to_owned() };
    for (asset, object, bytes) in [
        (1, chunk, chunk_bytes()),
        (1, still, Bytes::from(vec![7; 40_000])),
        (1, list("index.m3u8"), Bytes::from("#EXTM3U\n#the finished index\n")),
        (1, list("v360.m3u8"), Bytes::from("#EXTM3U\n#the finished v360\n")),
    ] {
        let key = Key { tenant: TenantId::default_tenant(), asset: id(asset), object };
        world.store.put(&key, bytes).await.expect("put");
    }
}

#[tokio::test]
async fn objects_come_with_ranges_types_and_cache_headers() {
    let (world, projector) = world().await;
    put_objects(&world).await;
    let app = app(&projector);
    let path = format!("/play/{}/g1/v360/0.mp4", playback(1));
    let whole = get(&app, &path).await;
    let all = chunk_bytes();
    let last = all.len() - 1;
    assert_eq!((whole.status, &whole.body), (200, &all));
    for (name, value) in [
        ("content-type", "video/mp4"),
        ("cache-control", "public, max-age=31536000, immutable"),
        ("accept-ranges", "bytes"),
        ("access-control-allow-origin", "*"),
    ] {
        assert_eq!(whole.header(name), Some(value), "{name}");
    }
    let etag = whole.header("etag").expect("a tag").to_owned();
    for (headers, status, range) in [
        (vec![("range", "bytes=0-799")], 206, Some(0..800)),
        (vec![("range", "bytes=100-")], 206, Some(100..all.len())),
        (vec![("range", "bytes=-1")], 206, Some(last..all.len())),
        (vec![("range", "bytes=0-799"), ("if-range", etag.as_str())], 206, Some(0..800)),
        (vec![("range", "bytes=0-799"), ("if-range", "\"other\"")], 200, Some(0..all.len())),
        (vec![("range", "bytes=0-1,3-4")], 200, Some(0..all.len())),
        (vec![("if-none-match", etag.as_str())], 304, None),
    ] {
        let answer = send(&app, "GET", &path, &headers).await;
        let expected = range.clone().map_or_else(Bytes::new, |range| all.slice(range));
        assert_eq!((answer.status, &answer.body), (status, &expected), "{headers:?}");
        let content_range = (status == 206).then(|| {
            let range = range.expect("a range");
            format!("bytes {}-{}/{}", range.start, range.end - 1, all.len())
        });
        assert_eq!(answer.header("content-range"), content_range.as_deref(), "{headers:?}");
        let head = send(&app, "HEAD", &path, &headers).await;
        assert_eq!((head.status, head.body.len()), (status, 0), "HEAD {headers:?}");
        assert_eq!(head.header("content-length"), answer.header("content-length"), "HEAD {headers:?}");
    }
    let outside = send(&app, "GET", &path, &[("range", "bytes=300000-")]).await;
    let detail = format!("The range bytes=300000- lies outside {} bytes. Ask for a range inside it.", all.len());
    check_problem(&outside, 416, "range_not_satisfiable", &detail, "416");
    assert_eq!(outside.header("content-range"), Some(format!("bytes */{}", all.len()).as_str()));
    let poster = get(&app, &format!("/play/{}/g1/poster.jpg", playback(1))).await;
    assert_eq!((poster.status, poster.header("content-type"), poster.body.len()), (200, Some("image/jpeg"), 40_000));
    let preflight =
        send(&app, "OPTIONS", &path, &[("origin", "https://a"), ("access-control-request-method", "GET")]).await;
    assert_eq!(preflight.status, 200);
    // The receipt of this one stands, its object does not: an answer, not a broken body.
    let missing = get(&app, &format!("/play/{}/g1/v720/0.mp4", playback(1))).await;
    assert_eq!((missing.status, missing.json()["code"].as_str()), (500, Some("internal")));
}

#[tokio::test]
async fn the_index_is_the_right_one_at_each_time_and_growing_lists_end() {
    let (world, mut projector) = world().await;
    put_objects(&world).await;
    let app = app(&projector);
    let finished = get(&app, &format!("/play/{}/index.m3u8", playback(1))).await;
    assert_eq!(finished.text(), "#EXTM3U\n#the finished index\n");
    assert_eq!(finished.header("content-type"), Some("application/vnd.apple.mpegurl"));
    assert_eq!(finished.header("cache-control"), Some("no-cache"));
    let list = get(&app, &format!("/play/{}/r2/v360.m3u8", playback(1))).await;
    assert_eq!((list.status, list.text().as_str()), (200, "#EXTM3U\n#the finished v360\n"));
    assert_eq!(list.header("cache-control"), Some("public, max-age=31536000, immutable"));
    // A player that still holds the growing list gets its end.
    let held = get(&app, &format!("/play/{}/g1/v360.m3u8", playback(1))).await.text();
    assert!(held.ends_with("#EXT-X-ENDLIST\n"), "{held}");
    assert_eq!(held.matches("#EXTINF").count(), 4);

    let growing = get(&app, &format!("/play/{}/index.m3u8", playback(2))).await;
    assert_eq!(check::multivariant(&growing.text()), Vec::<String>::new());
    assert!(growing.text().contains("g1/v720.m3u8"));
    let media = format!("/play/{}/g1/v720.m3u8", playback(2));
    let list = get(&app, &media).await;
    assert_eq!(check::media(&list.text()), Vec::<String>::new());
    assert_eq!((list.header("cache-control"), list.text().contains("ENDLIST")), (Some("no-cache"), false));
    let etag = list.header("etag").expect("a tag").to_owned();
    assert_eq!(send(&app, "GET", &media, &[("if-none-match", &etag)]).await.status, 304);
    // The failed one ended where it stood.
    let failed = get(&app, &format!("/play/{}/g1/v720.m3u8", playback(6))).await.text();
    assert!(failed.ends_with("#EXT-X-ENDLIST\n"), "{failed}");

    let withdrawn = sample::ready(1).then(Slot::Publish { revision: 3 }, Withdrawn { generation: 1 });
    let deleted = sample::playable(2).then(Slot::LifeDeleted, AssetDeleted {});
    let last = |given: spool_proto::testing::Given| given.facts.last().cloned().expect("a fact");
    world.append(&[last(withdrawn), last(deleted)]).await;
    settle(&mut projector).await;
    let gone = format!("Asset {} was deleted. Upload the video again if you need it.", id(2));
    check_problem(&get(&app, &media).await, 410, "asset_deleted", &gone, "deleted");
    let nothing = "There is nothing to play at this address. Check the address; an asset plays once it is playable.";
    for path in [
        format!("/play/{}/index.m3u8", playback(1)),
        format!("/play/{}/g1/v360/0.mp4", playback(1)),
        format!("/play/{}/r2/v360.m3u8", playback(1)),
        format!("/play/{}/index.m3u8", playback(3)),
        format!("/play/{}/g1/v720.m3u8", playback(3)),
        format!("/play/{}/g1/v720/0.mp4", playback(3)),
        format!("/play/{}/index.m3u8", playback(77)),
        "/play/nonsense/index.m3u8".to_owned(),
        format!("/play/{}/g2/v720.m3u8", playback(6)),
        format!("/play/{}/g1/v1080.m3u8", playback(6)),
        format!("/play/{}/g1/v720/9.mp4", playback(6)),
        format!("/play/{}/r1/v720.m3u8", playback(6)),
        format!("/play/{}/g1/../../x", playback(6)),
    ] {
        check_problem(&get(&app, &path).await, 404, "playback_not_found", nothing, &path);
    }
}
