//! The same orders by other processes, in another order, with nothing left over from before: the same bytes.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Mutex;

use spool_proto::id::Sha256;
use spool_proto::media::{AudioPlan, Cut, NS_PER_S, Plan, Rung, SourceFacts, StillPlan, VideoPlan};
use spool_transcoder::attempt::Delivery;
use spool_transcoder::order::{Answer, Made, Order};

use crate::support::{Nest, Source, clip};

/// An object by the name of its rendition and its chunk: the digest of its bytes, and what was stated of it.
type Objects = BTreeMap<(String, u32), (Sha256, Option<Made>)>;

/// Nineteen seconds of moving picture at a rate that no tick divides, and of sound.
const CLIP: &str = "-f lavfi -i testsrc2=s=426x240:r=30000/1001:d=19 -f lavfi -i sine=f=330:b=4:r=44100:d=19 \
                    -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 60 -c:a aac -shortest";

/// Two renditions, sound and a poster, over four chunks of 1, 2, 1 and 1 segments.
fn plan(facts: &SourceFacts) -> Plan {
    let rung = |width, height| Rung {
        id: format!("v{height}"),
        width,
        height,
        crf: 21,
        max_bps: 400_000,
        buffer_ms: 2000,
        // As the planner asks for: with two, the rate buffer looks at what another thread has just done.
        threads: 1,
    };
    let frame_rate = facts.video.as_ref().unwrap().frame_rate;
    Plan {
        zero_ns: facts.zero_ns,
        end_ns: facts.end_ns,
        segment_ns: 4 * NS_PER_S,
        chunks: vec![1, 2, 1, 1],
        cut: Cut::Exact,
        video: Some(VideoPlan { timescale: 30_000, frame_rate, keep_every: 1, keyframe_ns: 2 * NS_PER_S }),
        rungs: vec![rung(426, 240), rung(214, 120)],
        audio: Some(AudioPlan { id: "a0".to_owned(), bps: 128_000, sample_rate: 48_000, channels: 2, language: None }),
        stills: vec![StillPlan { name: "poster".to_owned(), at_ns: 2 * NS_PER_S, width: 426, height: 240 }],
        taken_over: vec![],
    }
}

/// Every order of the plan: one a chunk, the sound, the poster.
fn orders(facts: &SourceFacts, plan: &Plan) -> Vec<Order> {
    let (facts, plan) = (facts.clone(), plan.clone());
    let video =
        |chunk| Order::Video { facts: facts.clone(), plan: plan.clone(), chunks: chunk..=chunk, frame_hashes: false };
    let mut orders: Vec<_> = (0..plan.chunk_count()).map(video).collect();
    orders.push(Order::Audio { facts: facts.clone(), plan: plan.clone(), from_chunk: 0 });
    orders.push(Order::Still { facts: facts.clone(), plan: plan.clone(), name: "poster".to_owned() });
    orders
}

/// Serves them by one child each, `at_once` of which run at the same time, and keeps what they made.
async fn serve(nest: &Nest, path: &Path, orders: Vec<Order>, at_once: usize) -> Objects {
    let waiting = Mutex::new(VecDeque::from(orders));
    let worker = async || {
        let mut made = Objects::new();
        loop {
            let Some(order) = waiting.lock().unwrap().pop_front() else { return made };
            let (finished, deliveries) = nest.run(order, Source::file(path)).await;
            assert!(matches!(finished.answer, Answer::Encoded | Answer::Still(_)), "{finished:?}");
            keep(&mut made, deliveries);
        }
    };
    let mut all = Objects::new();
    for made in futures_util::future::join_all((0..at_once).map(|_| worker())).await {
        for (place, object) in made {
            assert!(all.insert(place.clone(), object).is_none(), "{place:?} was made twice");
        }
    }
    all
}

fn keep(objects: &mut Objects, deliveries: Vec<Delivery>) {
    let mut bytes: BTreeMap<_, Vec<u8>> = BTreeMap::new();
    let mut stated = BTreeMap::new();
    for delivery in deliveries {
        match delivery {
            Delivery::Bytes { rendition, chunk, data } => {
                bytes.entry((rendition, chunk)).or_default().extend_from_slice(&data);
            }
            Delivery::ObjectDone { rendition, chunk, made } => {
                stated.insert((rendition, chunk), made);
            }
            Delivery::Progress { .. } | Delivery::Quiet | Delivery::FrameHash { .. } => {}
        }
    }
    for (place, bytes) in bytes {
        let made = stated.remove(&place);
        objects.insert(place, (Sha256::of(&bytes), made));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_orders_by_other_children_in_another_order_have_the_same_bytes() {
    let media = tempfile::tempdir().unwrap();
    let path = clip(media.path(), "clip.mp4", CLIP);
    let first = Nest::new(|_| {});
    let facts = first.inspect(Source::file(&path)).await.unwrap();
    let plan = plan(&facts);
    let once = serve(&first, &path, orders(&facts, &plan), 1).await;
    drop(first);

    // Another parent with a plugin registry of its own; the last chunk first; two at a time, so that they disturb each other.
    let second = Nest::new(|_| {});
    assert_eq!(second.inspect(Source::file(&path)).await.unwrap(), facts, "inspecting says the same");
    let mut backwards = orders(&facts, &plan);
    backwards.reverse();
    let again = serve(&second, &path, backwards, 2).await;

    let names: Vec<_> = once.keys().map(|(name, chunk)| format!("{name}/{chunk}")).collect();
    let expected = ["a0/0", "a0/1", "a0/2", "a0/3", "poster/0", "v120/0", "v120/1", "v120/2", "v120/3"];
    assert_eq!(names, [&expected[..], &["v240/0", "v240/1", "v240/2", "v240/3"]].concat());
    for (place, object) in &once {
        assert_eq!(again.get(place), Some(object), "{place:?}");
    }
    assert_eq!(once.len(), again.len());
    let digests: std::collections::BTreeSet<_> = once.values().map(|(digest, _)| digest.to_string()).collect();
    assert_eq!(digests.len(), once.len(), "no two objects are alike");
    println!("{} objects, twice the same bytes", once.len());
}
