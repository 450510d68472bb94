//! The same file, pushed twice into nothing: the same bytes in every object that counts.

use std::collections::BTreeMap;

use spool_nats::streams::Shape;
use spool_proto::Role;

use crate::stage::{Accepted, FRONT, Stage, accepted, clip};

/// Objects by slot and rendition, each with its digest as read from the store.
async fn make(file: &std::path::Path, workers: &str) -> BTreeMap<String, String> {
    let stage = Stage::new(Shape::default()).await;
    let front = stage.start("front", &FRONT, &[]);
    let asset = front.push(file);
    let _worker = stage.start(
        "worker",
        &[Role::Transcoder],
        &[("SPOOL__TRANSCODER__WORKERS", workers), ("SPOOL__TRANSCODER__URGENT_WORKERS", "0")],
    );
    front.until_status(&asset, "ready").await;
    let objects = stage.objects();
    let digest = |Accepted { place, key, sha256 }: Accepted| {
        let found = objects.get(&key).map(ToString::to_string);
        assert_eq!(found, Some(sha256.clone()), "{place}: the receipt is of the object");
        (place, sha256)
    };
    accepted(&stage.facts().await).into_iter().map(digest).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_file_gives_the_same_bytes_with_any_number_of_workers() {
    let dir = tempfile::tempdir().expect("a directory");
    // Dense enough that the rate buffer binds, which is where an encoder may look at the time; six chunks in two orders.
    let inputs = "-f lavfi -i testsrc2=s=426x240:r=30000/1001:d=30 -f lavfi -i sine=f=330:b=4:r=44100:d=30 -shortest";
    let file = clip(
        dir.path(),
        "clip.mp4",
        &format!("{inputs} -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 60 -c:a aac"),
    );
    let one = make(&file, "1").await;
    let three = make(&file, "3").await;
    assert_eq!(one, three);
    let places: Vec<_> = one.keys().map(String::as_str).collect();
    let expected = [0, 1, 2, 3, 4, 5]
        .map(|chunk| [format!("encode.audio.g1.0.{chunk} a0"), format!("encode.video.g1.{chunk} v240")]);
    let mut expected: Vec<_> = expected.concat();
    expected.push("encode.still.g1.poster".to_owned());
    expected.sort();
    assert_eq!(places, expected);
}
