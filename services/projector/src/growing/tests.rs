//! Growing playlists at many moments of many lives.

use std::time::Duration;

use spool_kit::hls::check;
use spool_proto::Asset;
use spool_proto::testing::{Given, START};

use super::*;
use crate::sample;

/// Lists of every rendition and the index, after each fact and at many moments, in the order of time.
fn moments(given: &Given, renditions: &[&str]) -> Vec<(String, Vec<Option<String>>)> {
    let mut asset = Asset::new(given.tenant.clone(), given.asset.clone());
    let mut out = Vec::new();
    for (i, fact) in given.facts.iter().enumerate() {
        asset.apply(fact);
        let until = given.facts.get(i + 1).map_or(fact.at.plus(Duration::from_secs(40)), |next| next.at);
        let mut now = fact.at;
        while now < until {
            let lists = asset
                .generations
                .get(&1)
                .map(|it| renditions.iter().map(|rendition| media(1, it, rendition, now)).collect::<Vec<_>>());
            out.extend(lists.map(|lists| (format!("after {} at {now}", fact.sequence), lists)));
            now = now.plus(Duration::from_millis(500));
        }
    }
    out
}

fn check_life(given: &Given) -> Vec<Vec<Option<String>>> {
    let renditions = ["v720", "v360", "a0"];
    let mut before: Vec<Option<String>> = vec![None; renditions.len()];
    let mut steps = Vec::new();
    for (when, lists) in moments(given, &renditions) {
        for ((list, old), rendition) in lists.iter().zip(&before).zip(renditions) {
            let Some(list) = list else {
                assert_eq!(old, &None, "{rendition} vanished {when}");
                continue;
            };
            assert_eq!(check::media(list), Vec::<String>::new(), "{rendition} {when}");
            assert!(list.starts_with(old.as_deref().unwrap_or_default()), "{rendition} did not append {when}:\n{list}");
        }
        let segments = |list: &Option<String>| list.as_ref().map(|list| list.matches("#EXTINF").count());
        let ended = |list: &Option<String>| list.as_ref().map(|list| list.contains("#EXT-X-ENDLIST"));
        assert!(lists.iter().all(|list| segments(list) == segments(&lists[0])), "renditions differ {when}: {lists:?}");
        assert!(lists.iter().all(|list| ended(list) == ended(&lists[0])), "ends differ {when}");
        if lists != before {
            steps.push(lists.clone());
        }
        before = lists;
    }
    steps
}

fn counts(steps: &[Vec<Option<String>>]) -> Vec<(usize, bool)> {
    let one = |lists: &Vec<Option<String>>| {
        let list = lists[0].clone().unwrap_or_default();
        (list.matches("#EXTINF").count(), list.contains("#EXT-X-ENDLIST"))
    };
    steps.iter().map(one).collect()
}

#[test]
fn a_list_only_appends_moves_between_chunks_and_ends_with_the_encode() {
    // The second chunk (two segments) comes 20 s after the first, the third 20 s later.
    let slow = Duration::from_secs(20);
    let given = sample::planned(1).chunk(1, 0).wait(slow).chunk(1, 1).wait(slow).chunk(1, 2);
    let steps = check_life(&given);
    // 1 at once; 2 when the second chunk stands, 3 a target duration later; 4 with the third, which is the whole plan.
    assert_eq!(counts(&steps), [(1, false), (2, false), (3, false), (4, true)]);
}

#[test]
fn a_fast_encoder_lists_what_stands_and_the_outcome_lists_the_rest() {
    let given = sample::ready(1);
    let steps = check_life(&given);
    assert_eq!(counts(&steps).first(), Some(&(1, false)));
    assert_eq!(counts(&steps).last(), Some(&(4, true)));
}

#[test]
fn a_generation_that_fails_ends_its_lists_with_what_stands() {
    let steps = check_life(&sample::failed(1));
    assert_eq!(counts(&steps), [(1, false), (1, true)]);
    assert!(steps[1][2].as_ref().is_some_and(|sound| sound.ends_with("#EXT-X-ENDLIST\n")));
}

#[test]
fn sound_that_lags_holds_the_picture_back() {
    let plan = spool_proto::testing::values::plan(&[1, 2, 1], 16_000);
    let video = spool_proto::testing::values::video_stored(&plan, 1, 1);
    let given = sample::planned(1).chunk(1, 0).then(spool_proto::Slot::EncodeVideo { generation: 1, chunk: 1 }, video);
    assert_eq!(counts(&check_life(&given)), [(1, false)]);
}

#[test]
fn a_clock_that_is_behind_hides_nothing_that_stands() {
    let asset = sample::playable(1).fold();
    let list = media(1, &asset.generations[&1], "v720", START).expect("a list");
    assert_eq!(list.matches("#EXTINF").count(), 1);
}

#[test]
fn the_index_declares_every_rendition_and_starts_at_the_beginning() {
    let asset = sample::playable(1).fold();
    let index = index(1, &asset.generations[&1]).expect("an index");
    assert_eq!(check::multivariant(&index), Vec::<String>::new());
    assert!(index.contains("#EXT-X-START:TIME-OFFSET=0"), "{index}");
    for rendition in ["v720", "v360", "a0"] {
        assert!(index.contains(&format!("g1/{rendition}.m3u8")), "{index}");
    }
    assert_eq!(super::index(1, &sample::planned(1).fold().generations[&1]), None);
}

#[test]
fn what_is_not_there_is_no_list() {
    let asset = sample::playable(1).fold();
    assert_eq!(media(1, &asset.generations[&1], "v1080", START), None);
    assert_eq!(media(1, &sample::planned(1).fold().generations[&1], "v720", START), None);
}
