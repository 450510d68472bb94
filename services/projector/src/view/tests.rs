//! The view as a fold: how it was cut, interrupted or repeated leaves no trace.

use std::io::{BufRead as _, BufReader};
use std::sync::Arc;
use std::time::Duration;

use spool_proto::{AssetId, Status, TenantId};

use super::*;
use crate::sample::{self, all_states, fill, texts};
use crate::view::writer::Writer;

const CACHE: u64 = 8 << 20;

fn open(directory: &Path) -> Arc<View> {
    Arc::new(View::open(directory, CACHE).expect("a view"))
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

#[tokio::test]
async fn how_facts_are_cut_into_batches_leaves_no_trace() {
    let facts = all_states();
    let mut digests = Vec::new();
    for batch in [1, 7, 1000] {
        let directory = tempfile::tempdir().expect("a directory");
        let view = open(directory.path());
        fill(&view, &facts, batch).await.expect("folded");
        assert_eq!(view.position().expect("position"), facts.len() as u64);
        digests.push(view.digest().expect("digest"));
    }
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[0], digests[2]);
    assert!(digests[0].0 > 150, "{digests:?}");
}

#[tokio::test]
async fn facts_that_come_again_change_nothing() {
    let facts = all_states();
    let directory = tempfile::tempdir().expect("a directory");
    let view = open(directory.path());
    fill(&view, &facts, 10).await.expect("folded");
    let once = view.digest().expect("digest");
    fill(&view, &facts[5..], 3).await.expect("folded again");
    assert_eq!(view.digest().expect("digest"), once);
    assert!(sample::writes(&facts).len() > 150, "and there was something to change");
}

#[tokio::test]
async fn a_view_goes_on_where_it_was_closed() {
    let facts = all_states();
    let directory = tempfile::tempdir().expect("a directory");
    let whole = open(&directory.path().join("whole"));
    fill(&whole, &facts, 20).await.expect("folded");
    let parts = directory.path().join("parts");
    for part in facts.chunks(17) {
        let view = open(&parts);
        assert_eq!(view.position().expect("position") + 1, part[0].sequence);
        fill(&view, part, 5).await.expect("folded");
    }
    assert_eq!(open(&parts).digest().expect("digest"), whole.digest().expect("digest"));
}

#[tokio::test]
async fn lists_are_newest_first_filtered_and_paged_without_gap_or_repeat() {
    let directory = tempfile::tempdir().expect("a directory");
    let view = open(directory.path());
    let logs = (0..23_u128).map(|n| match n % 3 {
        0 => sample::ready(n),
        1 => sample::rejected(n),
        _ => sample::deleted(n),
    });
    fill(&view, &sample::stream(logs), 50).await.expect("folded");
    for (status, expected) in [
        (None, (0..23).filter(|n| n % 3 != 2).rev().collect::<Vec<u128>>()),
        (Some(Status::Ready), (0..23).filter(|n| n % 3 == 0).rev().collect()),
        (Some(Status::Deleted), (0..23).filter(|n| n % 3 == 2).rev().collect()),
        (Some(Status::Failed), vec![]),
    ] {
        for limit in [1, 4, 100] {
            let mut got: Vec<AssetId> = Vec::new();
            let mut after = None;
            loop {
                let page = view.list(&tenant(), status, after.as_ref(), limit).expect("a page");
                assert!(page.cards.len() <= limit);
                got.extend(page.cards.into_iter().map(|card| card.id));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(got, expected.iter().map(|n| AssetId::from_bits(*n)).collect::<Vec<_>>(), "{status:?} {limit}");
        }
    }
    let other: TenantId = "default2".parse().expect("a tenant");
    assert_eq!(view.list(&other, None, None, 10).expect("a page").cards, []);
}

#[tokio::test]
async fn a_text_is_shown_until_it_is_erased() {
    let directory = tempfile::tempdir().expect("a directory");
    let view = open(directory.path());
    fill(&view, &all_states(), 1).await.expect("folded");
    let title = |n| view.card(&tenant(), &AssetId::from_bits(n)).expect("a card").expect("there").text.title;
    assert_eq!(
        [1, 2, 9, 10].map(title),
        [Some("Lecture 1".to_owned()), Some("Lecture 2".to_owned()), None, Some("Final".to_owned())]
    );
    assert_eq!(texts().len(), 4);
}

#[tokio::test]
async fn history_and_changes_tell_the_same_in_order() {
    let facts = all_states();
    let directory = tempfile::tempdir().expect("a directory");
    let view = open(directory.path());
    fill(&view, &facts, 30).await.expect("folded");
    let mut changes = Vec::new();
    while let Some(last) = Some(changes.last().map_or(0, |change: &Change| change.entry.sequence)) {
        let page = view.changes(last, 13).expect("changes");
        if page.is_empty() {
            break;
        }
        changes.extend(page);
    }
    let sequences: Vec<u64> = changes.iter().map(|change| change.entry.sequence).collect();
    assert_eq!(sequences, (1..=facts.len() as u64).collect::<Vec<_>>());
    let id = AssetId::from_bits(6);
    let of_one: Vec<_> = changes.into_iter().filter(|change| change.asset == id).map(|change| change.entry).collect();
    assert_eq!(view.history(&tenant(), &id, 0, 1000).expect("history"), of_one);
    assert_eq!(
        of_one.iter().map(|entry| entry.version).collect::<Vec<_>>(),
        (1..=of_one.len() as u64).collect::<Vec<_>>()
    );
    assert_eq!(of_one.last().map(|entry| (entry.kind.as_str(), entry.status)), Some(("EncodeFailed", Status::Failed)));
    assert_eq!(view.history(&tenant(), &id, u64::MAX, 10).expect("history"), []);
}

#[tokio::test]
async fn what_a_newer_version_wrote_is_folded_anew_once_it_is_known() {
    let directory = tempfile::tempdir().expect("a directory");
    let view = open(directory.path());
    let mut facts = sample::stream([sample::rejected(1)]);
    fill(&view, &facts, 10).await.expect("folded");
    assert!(!view.knows_less().expect("known"), "just written");
    let kinds = Key::Meta(Meta::Fingerprint).bytes();
    view.db().insert(kinds.clone(), b"\"older\"".to_vec()).expect("written");
    assert!(!view.knows_less().expect("known"), "an older version folded it, and knew every fact");
    let mut unknown = facts.remove(0);
    unknown.sequence = 9;
    unknown.body = spool_proto::event::Body::Unknown { kind: "MoonLanded".to_owned() };
    unknown.slot = Err("moon.landed".to_owned());
    fill(&view, &[unknown], 1).await.expect("folded");
    view.db().insert(kinds, b"\"older\"".to_vec()).expect("written");
    assert!(view.knows_less().expect("known"), "an older version folded it, and did not know one");
    let last = view.history(&tenant(), &AssetId::from_bits(1), 8, 1).expect("history").remove(0);
    assert_eq!((last.kind.as_str(), last.slot.as_str()), ("MoonLanded", "moon.landed"));
}

#[test]
fn a_damaged_database_is_an_error_and_no_panic() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(open(directory.path()));
    std::fs::write(directory.path().join("conf"), b"this is no configuration of sled").expect("damage");
    let error = View::open(directory.path(), CACHE).expect_err("damaged");
    assert!(error.to_string().starts_with("open the view in "), "{error}");
}

/// Environment variable that makes [`child_that_folds_until_it_is_killed`] fold into its directory.
const CHILD: &str = "SPOOL_TEST_VIEW";
/// Facts of a batch of it.
const AT_ONCE: usize = 5;
/// A child that was not killed by then never will be.
const CHILD_LIVES: Duration = Duration::from_secs(120);

/// Rounds of the log that the child folds.
fn endless(rounds: u128) -> Vec<spool_proto::Fact> {
    sample::stream((0..rounds).map(sample::ready))
}

#[tokio::test]
#[ignore = "no test by itself: a process of its own for the test below"]
async fn child_that_folds_until_it_is_killed() {
    let directory = std::env::var_os(CHILD).expect("the directory of the view");
    let view = open(Path::new(&directory));
    let writer = Writer::start(Arc::clone(&view)).expect("a writer");
    for (batch, facts) in endless(400).chunks(AT_ONCE).enumerate() {
        let folded = writer.fold(facts.to_vec()).await.expect("folded");
        writer.apply(folded, texts(), facts[facts.len() - 1].sequence).await.expect("written");
        // What is told of is either held back or on the disk; now and then it is surely there.
        if batch % 7 == 0 {
            writer.flush().await.expect("written out");
        }
        println!("\n{TOLD}{batch}");
    }
    std::thread::sleep(CHILD_LIVES);
}

/// Begins each line that the child tells its batches with.
const TOLD: &str = "folded batch ";

#[tokio::test]
async fn after_sigkill_the_view_holds_just_what_its_position_says() {
    let facts = endless(400);
    let directory = tempfile::tempdir().expect("a directory");
    for batches in [1, 12, 33] {
        let killed = directory.path().join(batches.to_string());
        let mut child = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "view::tests::child_that_folds_until_it_is_killed", "--ignored", "--nocapture"])
            .env(CHILD, &killed)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("a child");
        // Held until after the kill: a child that nobody listens to would end by itself.
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let told = lines.find(|line| *line == format!("{TOLD}{batches}"));
        child.kill().expect("SIGKILL");
        child.wait().expect("its end");
        assert!(told.is_some(), "the child ended before batch {batches}");

        let view = open(&killed);
        let position = view.position().expect("position");
        let same = directory.path().join(format!("{batches}-again"));
        let again = open(&same);
        fill(&again, &facts[..position as usize], 50).await.expect("folded");
        assert_eq!(view.digest().expect("digest"), again.digest().expect("digest"), "at {position}");
        let written_out = (batches / 7 * 7 + 1) * AT_ONCE;
        assert!(position as usize >= written_out, "{position} of {written_out} that were written out");
    }
}
