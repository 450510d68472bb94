//! What facts add up to: the word for people in every state, which fact beats which, and that no order of facts, however odd,
//! breaks the fold.

use std::time::Duration;

use spool_proto::asset::{Asset, Publication, Status};
use spool_proto::event::{
    AssetDeleted, Body, CheckFailed, Described, EncodeFailed, EncodePlanned, Event, JobGivenUp, ObjectsPurged, Opened,
    Problem, Published, RenditionsCompleted, RetryOf, RetryRequested, SourceAccepted, SourceRejected, TextErased,
    UploadAbandoned, Withdrawn,
};
use spool_proto::id::{AttemptId, TextToken};
use spool_proto::media::{Cut, Part, Plan, TakenOver};
use spool_proto::slot::{Item, Slot};
use spool_proto::testing::values::{audio_stored, plan, source_facts, still_stored, video_stored};
use spool_proto::testing::{Given, check_fold};
use spool_proto::{Code, Kind};

use crate::samples;

const G1: u32 = 1;

/// Chunks that are long enough for an order each.
fn orders_of_their_own() -> Plan {
    plan(&[6, 6, 6], 72_000)
}

fn three_chunks() -> Plan {
    plan(&[1, 2, 4], 27_000)
}

fn planned() -> Given {
    Given::planned(three_chunks())
}

fn problem(code: Code) -> Problem {
    Problem::new(code)
}

fn failed(code: Code) -> EncodeFailed {
    EncodeFailed { problem: problem(code), attempts: 2 }
}

fn completed() -> RenditionsCompleted {
    RenditionsCompleted { objects: 10, bytes: 1_000 }
}

fn opened(generation: u32) -> Opened {
    Opened { generation }
}

fn published(generation: u32) -> Published {
    Published { generation, attempt: AttemptId::from_bits(6), files: vec!["index.m3u8".to_owned()] }
}

fn given_up(code: Code) -> JobGivenUp {
    JobGivenUp { problem: problem(code), attempts: 5 }
}

fn retry(of: RetryOf) -> RetryRequested {
    RetryRequested { of }
}

fn publish(revision: u32) -> Slot {
    Slot::Publish { revision }
}

fn outcome(generation: u32) -> Slot {
    Slot::EncodeOutcome { generation }
}

fn retried(n: u32) -> Slot {
    Slot::LifeRetry { retry: n }
}

fn status(given: Given, expected: Status) {
    let asset = check_fold(&given);
    assert_eq!(asset.status(), expected, "{:#?}", given.facts.last());
    let has_reason = matches!(expected, Status::Rejected | Status::Failed | Status::Abandoned);
    assert_eq!(asset.problem().is_some(), has_reason, "{expected} and its reason");
}

#[test]
fn every_state_of_an_upload_and_a_check_has_its_word() {
    let abandoned = UploadAbandoned { problem: problem(Code::UploadExpired), received_bytes: 7 };
    let rejected = SourceRejected { problem: problem(Code::SourceEmpty) };
    let check_failed = CheckFailed { problem: problem(Code::WorkerLost), attempts: 2 };
    let verdict = Slot::UploadVerdict { verdict: 1 };
    let again = retry(RetryOf::Verdict { round: 2 });
    status(Given::registered(), Status::Uploading);
    status(Given::registered().then(Slot::UploadOutcome, abandoned), Status::Abandoned);
    status(Given::stored(), Status::Checking);
    status(Given::stored().then(verdict.clone(), rejected.clone()), Status::Rejected);
    status(Given::stored().then(verdict.clone(), check_failed.clone()), Status::Failed);
    status(Given::stored().then(verdict.clone(), check_failed).then(retried(1), again), Status::Checking);
    let second = Given::stored().then(verdict, rejected).then(retried(1), again);
    let accepted = SourceAccepted { facts: source_facts(27_000) };
    status(second.then(Slot::UploadVerdict { verdict: 2 }, accepted), Status::Encoding);
    status(Given::accepted(source_facts(27_000)), Status::Encoding);
}

#[test]
fn every_state_of_an_encode_has_its_word() {
    let whole = || planned().all_stored(G1);
    status(planned(), Status::Encoding);
    status(planned().chunk(G1, 0), Status::Encoding);
    status(planned().chunk(G1, 0).then(publish(1), opened(G1)), Status::Playable);
    status(whole().then(outcome(G1), completed()), Status::Encoding);
    status(whole().then(publish(1), opened(G1)).then(outcome(G1), completed()), Status::Playable);
    status(whole().then(outcome(G1), completed()).then(publish(1), published(G1)), Status::Ready);
    status(planned().then(outcome(G1), failed(Code::ChildCrashed)), Status::Failed);
    let opened_and_failed =
        || planned().chunk(G1, 0).then(publish(1), opened(G1)).then(outcome(G1), failed(Code::StoreFull));
    status(opened_and_failed(), Status::Failed);
    let again = opened_and_failed().then(retried(1), retry(RetryOf::Generation { generation: 2 }));
    status(again.clone(), Status::Encoding);
    let again = again.then(Slot::EncodePlanned { generation: 2 }, EncodePlanned { plan: three_chunks() });
    status(again.clone(), Status::Encoding);
    status(again.chunk(2, 0).then(publish(2), opened(2)), Status::Playable);
}

#[test]
fn deleted_beats_everything_before_and_after() {
    let ready = planned().all_stored(G1).then(outcome(G1), completed()).then(publish(1), published(G1));
    let purged = ObjectsPurged { objects: 3, bytes: 4 };
    let deleted = ready.then(Slot::LifeDeleted, AssetDeleted {});
    status(deleted.clone(), Status::Deleted);
    assert_eq!(deleted.fold().playing(), None);
    status(deleted.clone().then(publish(2), opened(G1)), Status::Deleted);
    status(deleted.clone().then(retried(1), retry(RetryOf::Generation { generation: 2 })), Status::Deleted);
    status(deleted.then(Slot::LifePurged, purged), Status::Deleted);
    status(Given::registered().then(Slot::LifeDeleted, AssetDeleted {}), Status::Deleted);
}

#[test]
fn a_result_beats_a_fault_of_its_item_whichever_came_first() {
    let item = Item::Video { generation: G1, chunk: 0 };
    let fault = Slot::EncodeFault { item: item.clone(), round: 0 };
    let stored = video_stored(&orders_of_their_own(), G1, 0);
    let slot = Slot::EncodeVideo { generation: G1, chunk: 0 };
    let given = Given::planned(orders_of_their_own()).then(fault.clone(), given_up(Code::WorkerLost));
    let standing = given.fold().generations[&G1].standing_fault(&item).map(|at| at.it.clone());
    assert_eq!(standing, Some(given_up(Code::WorkerLost)));
    for given in [
        given.then(slot.clone(), stored.clone()),
        Given::planned(orders_of_their_own()).then(slot, stored).then(fault, given_up(Code::WorkerLost)),
    ] {
        let asset = check_fold(&given);
        assert_eq!(asset.generations[&G1].standing_fault(&item), None);
        assert_eq!(asset.rounds(&item), 1, "the round is used up all the same");
    }
}

#[test]
fn a_fault_of_an_order_over_several_chunks_stands_until_its_last_one() {
    let item = Item::Pass { generation: G1, chunk: 1 };
    let whole = Plan { cut: Cut::Whole, ..orders_of_their_own() };
    let fault = Slot::EncodeFault { item: item.clone(), round: 0 };
    let given = Given::planned(whole).then(fault, given_up(Code::SourceDamaged)).chunk(G1, 0).chunk(G1, 1);
    assert!(given.fold().generations[&G1].standing_fault(&item).is_some());
    assert_eq!(check_fold(&given.chunk(G1, 2)).generations[&G1].standing_fault(&item), None);
}

#[test]
fn a_fault_of_the_sound_stands_until_its_last_chunk() {
    let item = Item::Audio { generation: G1, track: 0 };
    let mut given = planned().then(Slot::EncodeFault { item: item.clone(), round: 0 }, given_up(Code::WorkerLost));
    for chunk in 0..3 {
        assert!(given.fold().generations[&G1].standing_fault(&item).is_some(), "before chunk {chunk}");
        given =
            given.then(Slot::EncodeAudio { generation: G1, track: 0, chunk }, audio_stored(&three_chunks(), G1, chunk));
    }
    assert_eq!(given.fold().generations[&G1].standing_fault(&item), None);
}

#[test]
fn a_round_came_forward_by_what_its_order_stored_in_it() {
    let item = Item::Pass { generation: G1, chunk: 1 };
    let whole = Plan { cut: Cut::Whole, ..orders_of_their_own() };
    let fault = |round| Slot::EncodeFault { item: item.clone(), round };
    let lost = given_up(Code::WorkerLost);
    let forward = |given: &Given, round| {
        let asset = check_fold(given);
        let it = &asset.generations[&G1];
        (it.came_forward(&item, round), it.goes_on(&item, round), it.standing_fault(&item).is_some())
    };
    // Another order's chunk says nothing.
    let given = Given::planned(whole).chunk(G1, 0);
    assert_eq!(forward(&given, 0), (false, false, false));
    let given = given.chunk(G1, 1);
    assert_eq!(forward(&given, 0), (true, false, false), "nothing was given up yet");
    let given = given.then(fault(0), lost.clone());
    assert_eq!(forward(&given, 0), (true, true, false));
    // What an earlier round stored does not count twice.
    let given = given.then(fault(1), lost);
    assert_eq!(forward(&given, 1), (false, false, true));
    let stopped = given.then(fault(2), given_up(Code::WorkerStopped));
    assert_eq!(forward(&stopped, 2), (false, true, false));
    let inspect = Given::stored().then(Slot::InspectFault { verdict: 1, round: 0 }, given_up(Code::WorkerStopped));
    assert!(check_fold(&inspect).goes_on(&Item::Inspect { verdict: 1 }, 0));
}

#[test]
fn rounds_of_an_inspection_count_per_verdict_round() {
    let fault = |verdict, round| Slot::InspectFault { verdict, round };
    let given = Given::stored()
        .then(fault(1, 0), given_up(Code::WorkerLost))
        .then(fault(1, 1), given_up(Code::WorkerLost))
        .then(fault(2, 0), given_up(Code::ChildStalled));
    let asset = check_fold(&given);
    assert_eq!([1, 2, 3].map(|verdict| asset.rounds(&Item::Inspect { verdict })), [2, 1, 0]);
}

#[test]
fn after_an_outcome_nothing_of_the_generation_counts() {
    for event in [Event::from(completed()), failed(Code::StoreFull).into()] {
        let ended = planned().chunk(G1, 0).then(outcome(G1), event);
        let before = ended.fold().generations[&G1].clone();
        let item = Item::Video { generation: G1, chunk: 1 };
        let late = ended
            .chunk(G1, 1)
            .then(
                Slot::EncodeStill { generation: G1, name: "poster".to_owned() },
                still_stored(&three_chunks().stills[0], G1),
            )
            .then(Slot::EncodeFault { item, round: 0 }, given_up(Code::Internal));
        let asset = check_fold(&late);
        assert_eq!(asset.generations[&G1], before);
        assert_eq!(asset.version, late.facts.len() as u64, "but each is counted");
    }
}

#[test]
fn a_publish_fact_counts_after_completion_but_not_after_failure() {
    let done = planned().all_stored(G1).then(outcome(G1), completed()).then(publish(1), published(G1));
    assert_eq!(done.fold().playing().map(|(generation, _)| generation), Some(G1));

    let late = planned().chunk(G1, 0).then(outcome(G1), failed(Code::StoreFull)).then(publish(1), opened(G1));
    let asset = check_fold(&late);
    assert_eq!(asset.playing(), None, "it was opened by somebody who had not seen the failure");
    assert_eq!(asset.next_publish_revision(), 2, "the revision is used up all the same");

    let before = planned().chunk(G1, 0).then(publish(1), opened(G1)).then(outcome(G1), failed(Code::StoreFull));
    let asset = check_fold(&before);
    assert_eq!(asset.playing().map(|(generation, _)| generation), Some(G1), "what was opened plays to its early end");
}

#[test]
fn the_head_of_publishing_is_the_highest_revision() {
    let given = planned().chunk(G1, 0).then(publish(1), opened(G1));
    let withdrawn = given.then(publish(2), Withdrawn { generation: G1 });
    let asset = check_fold(&withdrawn);
    assert_eq!(asset.publication().map(|p| &p.it), Some(&Publication::Withdrawn { generation: G1 }));
    assert_eq!(asset.playing(), None);
    let again = check_fold(&withdrawn.then(publish(3), opened(G1)));
    assert_eq!((again.status(), again.next_publish_revision()), (Status::Playable, 4));
}

#[test]
fn a_next_generation_counts_what_it_took_over() {
    let taken =
        |part, keys: &[&str]| TakenOver { generation: G1, part, keys: keys.iter().map(|k| (*k).to_owned()).collect() };
    let poster = Part::Still { name: "poster".to_owned() };
    let still = still_stored(&three_chunks().stills[0], G1);
    let first = planned()
        .chunk(G1, 0)
        .then(Slot::EncodeStill { generation: G1, name: "poster".to_owned() }, still)
        .then(outcome(G1), failed(Code::WorkerLost))
        .then(retried(1), retry(RetryOf::Generation { generation: 2 }));
    let mut second = three_chunks();
    second.taken_over = vec![
        taken(Part::Video { chunk: 0 }, &["k"]),
        taken(Part::Audio { track: 0, chunk: 0 }, &["l"]),
        taken(poster, &["m"]),
        // Never made: it can't be counted.
        taken(Part::Video { chunk: 2 }, &["n"]),
    ];
    let given = first.then(Slot::EncodePlanned { generation: 2 }, EncodePlanned { plan: second.clone() });
    let asset = check_fold(&given);
    let (old, new) = (&asset.generations[&G1], &asset.generations[&2]);
    assert_eq!((&new.video, &new.audio, &new.stills), (&old.video, &old.audio, &old.stills));
    assert_eq!((new.contiguous_chunks(), new.has_video(2)), (1, false));
    assert_eq!(new.keys().collect::<Vec<_>>(), old.keys().collect::<Vec<_>>());

    // A third takes from the second what that took from the first.
    second.taken_over.iter_mut().for_each(|taken| taken.generation = 2);
    let given = given
        .then(outcome(2), failed(Code::WorkerLost))
        .then(retried(2), retry(RetryOf::Generation { generation: 3 }))
        .then(Slot::EncodePlanned { generation: 3 }, EncodePlanned { plan: second });
    assert_eq!(check_fold(&given).generations[&3].video, old.video);
}

#[test]
fn progress_is_the_share_of_the_timeline_and_chunks_count_without_a_gap() {
    let asset = |given: Given| given.fold().generations[&G1].clone();
    assert_eq!((asset(planned()).percent(), asset(planned()).contiguous_chunks()), (0, 0));
    // 4 s of 27 s, then 15 s more behind a gap of 8 s.
    let gap = asset(planned().chunk(G1, 0).chunk(G1, 2));
    assert_eq!((gap.percent(), gap.contiguous_chunks(), gap.is_complete()), (70, 1, false));
    let all = asset(planned().chunk(G1, 2).chunk(G1, 1).chunk(G1, 0));
    assert_eq!((all.percent(), all.contiguous_chunks(), all.is_complete()), (100, 3, false), "the poster is missing");
    assert!(asset(planned().all_stored(G1)).is_complete());

    let mut waits = asset(planned().all_stored(G1));
    waits.audio.values_mut().for_each(|track| drop(track.remove(&2)));
    assert_eq!(waits.percent(), 44, "15 s of 27 s wait for their sound");

    let mut sound = three_chunks();
    (sound.video, sound.rungs, sound.stills) = (None, vec![], vec![]);
    let sound = asset(Given::planned(sound).chunk(G1, 0));
    assert_eq!((sound.percent(), sound.contiguous_chunks()), (14, 1), "sound alone");
}

#[test]
fn a_text_is_the_last_one_that_is_not_erased() {
    let text = |revision| Slot::Text { revision };
    let described = |n| Described { token: TextToken::from_bits(n) };
    let given = Given::registered().then(text(1), described(1)).then(text(2), described(2));
    assert_eq!(given.fold().text_token(), Some(&TextToken::from_bits(2)));
    let erased = given.then(Slot::TextErased { revision: 2 }, TextErased { texts: 2 });
    assert_eq!(check_fold(&erased).text_token(), None);
    let again = erased.then(text(3), described(3));
    assert_eq!(check_fold(&again).text_token(), Some(&TextToken::from_bits(3)));
}

#[test]
fn what_is_unknown_marks_the_asset_and_stops_nothing() {
    let mut given = planned().chunk(G1, 0);
    let known = given.fold();
    let mut later = given.facts[0].clone();
    later.body = Body::Unknown { kind: "spool.v2.MoonLanded".to_owned() };
    let mut elsewhere = given.facts[0].clone();
    elsewhere.slot = Err("moon.landed".to_owned());
    let mut misplaced = given.facts[0].clone();
    misplaced.slot = Ok(Slot::LifeDeleted);
    for (n, mut fact) in [later, elsewhere, misplaced].into_iter().enumerate() {
        fact.sequence = 1_000 + n as u64;
        given.facts.push(fact);
    }
    let asset = check_fold(&given);
    let marks: Vec<_> = asset.unknown.iter().map(|(sequence, kind)| (*sequence, kind.as_str())).collect();
    let registered = "spool.v1.AssetRegistered";
    assert_eq!(marks, [(1_000, "spool.v2.MoonLanded"), (1_001, registered), (1_002, registered)]);
    assert_eq!((asset.status(), asset.version), (known.status(), known.version + 3));
    assert_eq!(asset.generations, known.generations);
}

#[test]
fn a_folded_asset_survives_json() {
    for given in odd_logs(40) {
        let asset = given.fold();
        let text = serde_json::to_string(&asset).expect("json");
        assert_eq!(serde_json::from_str::<Asset>(&text).expect("own json"), asset);
    }
}

/// Logs that hold facts of every kind in any order, also such as no role would write: a fold must not trust its writers.
fn odd_logs(count: u64) -> impl Iterator<Item = Given> {
    (1..=count).map(|seed| {
        // Knuth's multiplier (MMIX): the same logs in every run.
        let mut state = seed;
        let mut below = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        let mut given = Given::new();
        let mut pool = pool();
        // In the order of a life, mostly: a window slides over the pool.
        while !pool.is_empty() {
            let (slot, event) = pool.remove(below(pool.len().min(8)));
            let is_free = given.facts.iter().all(|fact| fact.slot.as_ref() != Ok(&slot));
            if is_free && below(10) > 0 {
                given = given.then(slot, event).wait(Duration::from_millis(below(5_000) as u64));
            }
        }
        given
    })
}

fn pool() -> Vec<(Slot, Event)> {
    let beginning = planned().facts;
    let mut pool: Vec<(Slot, Event)> = Vec::new();
    for fact in &beginning {
        pool.extend(fact.slot.clone().ok().zip(fact.event().cloned()));
    }
    let item = |chunk| Item::Video { generation: G1, chunk };
    for chunk in 0..3 {
        pool.push((Slot::EncodeFault { item: item(chunk), round: 0 }, given_up(Code::WorkerLost).into()));
        let slot = Slot::EncodeVideo { generation: G1, chunk };
        pool.push((slot, video_stored(&three_chunks(), G1, chunk).into()));
        let slot = Slot::EncodeAudio { generation: G1, track: 0, chunk };
        pool.push((slot, audio_stored(&three_chunks(), G1, chunk).into()));
        pool.push((publish(1), opened(G1).into()));
    }
    pool.push((outcome(G1), failed(Code::ChildMemory).into()));
    pool.push((outcome(G1), completed().into()));
    pool.push((publish(2), published(G1).into()));
    pool.push((retried(1), retry(RetryOf::Generation { generation: 2 }).into()));
    let mut second = three_chunks();
    second.taken_over = vec![TakenOver { generation: G1, part: Part::Video { chunk: 1 }, keys: vec![] }];
    pool.push((Slot::EncodePlanned { generation: 2 }, EncodePlanned { plan: second }.into()));
    // And one of every kind, with values that do not fit the rest.
    for (_, event) in samples::events() {
        let slot = odd_slot(event.kind());
        pool.push((slot, event));
    }
    pool
}

/// Some slot that admits the kind.
fn odd_slot(kind: Kind) -> Slot {
    match kind {
        Kind::AssetRegistered => Slot::UploadRegistered,
        Kind::SourceStored | Kind::UploadAbandoned => Slot::UploadOutcome,
        Kind::JobGivenUp => Slot::InspectFault { verdict: 3, round: 4 },
        Kind::SourceAccepted | Kind::SourceRejected | Kind::CheckFailed => Slot::UploadVerdict { verdict: 2 },
        Kind::EncodePlanned => Slot::EncodePlanned { generation: 7 },
        Kind::VideoStored => Slot::EncodeVideo { generation: 7, chunk: u32::MAX },
        Kind::AudioStored => Slot::EncodeAudio { generation: 7, track: 9, chunk: 0 },
        Kind::StillStored => Slot::EncodeStill { generation: 7, name: "moon".to_owned() },
        Kind::RenditionsCompleted | Kind::EncodeFailed => outcome(7),
        Kind::Opened | Kind::Published | Kind::Withdrawn => publish(u32::MAX),
        Kind::Described => Slot::Text { revision: 9 },
        Kind::TextErased => Slot::TextErased { revision: 8 },
        Kind::RetryRequested => retried(5),
        Kind::AssetDeleted => Slot::LifeDeleted,
        Kind::ObjectsPurged => Slot::LifePurged,
    }
}

#[test]
fn any_prefix_of_any_log_folds_and_folding_a_fact_twice_changes_nothing() {
    for given in odd_logs(200) {
        let whole = check_fold(&given);
        let mut asset = Asset::new(given.tenant.clone(), given.asset.clone());
        let mut ended = std::collections::BTreeMap::new();
        for fact in &given.facts {
            let was_deleted = asset.deleted.is_some();
            asset.apply(fact);
            assert_eq!((asset.sequence, asset.updated_at), (fact.sequence, fact.at));
            assert!(!was_deleted || asset.status() == Status::Deleted, "deleted beats everything later");
            assert!(asset.problem().is_none() || asset.status().is_settled());
            if let Some((number, generation)) = asset.playing() {
                assert!(asset.generations.contains_key(&number));
                assert!(generation.percent() <= 100);
            }
            for (number, generation) in asset.generations.iter().filter(|(_, g)| g.outcome.is_some()) {
                let frozen = ended.entry(*number).or_insert_with(|| generation.clone());
                assert_eq!(generation, frozen, "generation {number} changed after its outcome");
            }
        }
        assert_eq!(asset, whole);
    }
}
