//! How fast facts become rows, in figures. Run by hand, before and after a change:
//! `cargo test --locked --workspace --lib -- --ignored how_fast --nocapture`. Processor time, since other work on the machine
//! says nothing here; and of the dev profile, which is many times slower than the release one.

use std::collections::BTreeMap;
use std::sync::Arc;

use spool_proto::Fact;
use spool_proto::Slot;
use spool_proto::event::EncodePlanned;
use spool_proto::testing::Given;
use spool_proto::testing::values;

use super::View;
use super::writer::Writer;
use crate::sample;

/// An asset whose video has so many chunks, from its registration to the last of them.
fn encoded(n: u128, chunks: u32) -> Given {
    let plan = values::plan(&vec![2; chunks as usize], u64::from(chunks) * 8_000);
    let given = sample::asset(n)
        .then(Slot::UploadOutcome, spool_proto::event::SourceStored { source: values::source() })
        .then(
            Slot::UploadVerdict { verdict: 1 },
            spool_proto::event::SourceAccepted { facts: values::source_facts(u64::from(chunks) * 8_000) },
        )
        .then(Slot::EncodePlanned { generation: 1 }, EncodePlanned { plan });
    (0..chunks).fold(given, |given, chunk| given.chunk(1, chunk))
}

/// Seconds that this process has used, all threads.
fn processor_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a line about this process");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // User and system, in hundredths: fields 14 and 15, counted from before the name.
    let ticks = |field: usize| fields[field - 3].parse::<f64>().expect("ticks");
    (ticks(14) + ticks(15)) / 100.0
}

async fn facts_a_second(what: &str, facts: &[Fact], batch: usize) {
    let directory = tempfile::tempdir().expect("a directory");
    let view = Arc::new(View::open(directory.path(), 64 << 20).expect("a view"));
    let writer = Writer::start(Arc::clone(&view)).expect("a writer");
    let began = processor_time();
    for facts in facts.chunks(batch) {
        let position = facts.last().map_or(0, |last| last.sequence);
        let folded = writer.fold(facts.to_vec()).await.expect("folded");
        writer.apply(folded, BTreeMap::new(), position).await.expect("written");
    }
    writer.flush().await.expect("flushed");
    let took = processor_time() - began;
    println!("{what}: {} facts in {took:.2} s: {:.0} a second", facts.len(), facts.len() as f64 / took);
    let digest = view.digest().expect("a digest");
    println!("    {} rows, {}", digest.0, digest.1);
    drop(view);
    writer.close().await.expect("closed");
}

#[tokio::test]
#[ignore = "prints figures; run by hand"]
async fn how_fast_facts_become_rows() {
    let many = sample::stream((0..400).map(|n| encoded(n, 8)));
    facts_a_second("replay of 400 short assets side by side, 256 at once", &many, 256).await;
    facts_a_second("the same as it happens, 4 at once", &many[..2_000], 4).await;
    let long = sample::stream([encoded(1, 120)]);
    facts_a_second("one long asset as it happens, 1 at once", &long, 1).await;
    facts_a_second("the same replayed", &long, 256).await;
}
