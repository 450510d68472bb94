use spool_proto::event::{AssetDeleted, ProfileRef, UploadAbandoned};
use spool_proto::event::{RetryOf, RetryRequested, SourceAccepted, SourceStored};
use spool_proto::media::{Cut, NS_PER_S, Part, TakenOver};
use spool_proto::testing::values::{plan, registered, source, source_facts, video_stored};
use spool_proto::testing::{Answer, Given};
use spool_proto::{Item, testing};

use super::*;

const LIMITS: Limits = Limits { max_duration: Duration::from_secs(3600) };
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What is owed, as the harness takes it. Warnings change nothing and are tried apart.
fn decide(asset: &Asset, now: Timestamp) -> Answer {
    let mut answer = Answer::default();
    for owed in owed(asset, now, &LIMITS) {
        match owed {
            Owed::Fact(draft) => answer.facts.push(draft),
            Owed::Order(order) => answer.orders.push(order),
            Owed::Tick(at) => answer.tick = Some(at),
            Owed::Warn { .. } => {}
        }
    }
    answer
}

/// Exactly this fact is owed, and no order.
fn check_fact(given: &Given, slot: Slot, event: impl Into<Event>) {
    let expected = Answer { facts: vec![given.draft(slot, event)], ..Answer::default() };
    testing::check(given, decide, &expected);
}

/// Exactly these orders are owed (`item` or `item..last`), and a tick, and no fact.
fn check_orders(given: &Given, expected: &str) {
    let answer = decide(&given.fold(), given.now());
    let text = answer.orders.iter().map(|order| match &order.job {
        Job::Video(video) | Job::Pass(video) if video.last > video.first => {
            format!("{}..{}", order.job.item(), video.last)
        }
        Job::Inspect(_) | Job::Video(_) | Job::Pass(_) | Job::Audio(_) | Job::AudioPass(_) | Job::Still(_) => {
            order.job.item().to_string()
        }
    });
    assert_eq!(text.collect::<Vec<_>>().join(" "), expected);
    assert!(answer.facts.is_empty() && answer.tick.is_some(), "{answer:?}");
    testing::check(given, decide, &answer);
}

fn check_nothing(given: &Given) {
    testing::check(given, decide, &Answer::default());
}

fn given_up(code: Code) -> JobGivenUp {
    JobGivenUp { problem: Problem::new(code).with("item", "it"), attempts: 5 }
}

fn fault(item: &str, round: u32) -> Slot {
    Slot::EncodeFault { item: item.parse().expect("an item"), round }
}

/// Three chunks with picture, sound and poster, each long enough for an order of its own.
fn three() -> Plan {
    plan(&[5, 6, 4], 60_000)
}

fn long() -> Plan {
    plan(&[5, 6, 8, 8, 8, 8, 8], 51 * 4_000)
}

const OUTCOME: Slot = Slot::EncodeOutcome { generation: 1 };
const VERDICT: Slot = Slot::UploadVerdict { verdict: 1 };

#[test]
fn nothing_is_owed_while_bytes_come_in_or_when_the_upload_ended_without_a_source() {
    check_nothing(&Given::registered());
    let problem = Problem::new(Code::UploadExpired);
    check_nothing(&Given::registered().then(Slot::UploadOutcome, UploadAbandoned { problem, received_bytes: 3 }));
}

#[test]
fn a_stored_source_is_owed_an_inspection() {
    check_orders(&Given::stored(), "n1");
}

#[test]
fn an_inspection_knows_how_long_a_source_may_be() {
    let given = Given::stored();
    let jobs: Vec<Job> = decide(&given.fold(), given.now()).orders.into_iter().map(|order| order.job).collect();
    assert_eq!(jobs, [Job::Inspect(InspectOrder { verdict: 1, max_duration_ms: Some(3_600_000) })]);
}

#[test]
fn an_inspection_given_up_rejects_for_the_inputs_fault_and_fails_for_ours() {
    let slot = Slot::InspectFault { verdict: 1, round: 0 };
    let input = given_up(Code::ChildCrashed);
    let given = Given::stored().then(slot.clone(), input.clone());
    check_fact(&given, VERDICT, SourceRejected { problem: input.problem });
    let system = given_up(Code::WorkerLost);
    let given = Given::stored().then(slot, system.clone());
    check_fact(&given, VERDICT, CheckFailed { problem: system.problem, attempts: 5 });
}

#[test]
fn a_check_that_lasts_too_long_fails() {
    let given = Given::stored().wait(deadline::CHECK);
    let problem = Problem::new(Code::DeadlinePassed).with("step", "Checking").with("limit", "3 d");
    check_fact(&given, VERDICT, CheckFailed { problem, attempts: 0 });
    check_orders(&Given::stored().wait(deadline::CHECK - Duration::from_secs(2)), "n1");
}

#[test]
fn a_retry_of_a_verdict_is_a_new_inspection() {
    let problem = Problem::new(Code::SourceCorrupt);
    let given = Given::stored().then(VERDICT, SourceRejected { problem });
    check_nothing(&given);
    let retry = RetryRequested { of: RetryOf::Verdict { round: 2 } };
    let given = given.wait(30 * DAY).then(Slot::LifeRetry { retry: 1 }, retry);
    check_orders(&given, "n2");
    let late = given.wait(deadline::CHECK);
    let problem = Problem::new(Code::DeadlinePassed).with("step", "Checking").with("limit", "3 d");
    check_fact(&late, Slot::UploadVerdict { verdict: 2 }, CheckFailed { problem, attempts: 0 });
}

#[test]
fn an_accepted_source_is_owed_its_plan() {
    let facts = source_facts(15_000);
    let planned = plan::plan(&registered().profile, &facts, &LIMITS).expect("a plan");
    assert_eq!((planned.chunks.clone(), planned.rungs.len(), planned.cut), (vec![1, 1, 1, 1], 4, Cut::Exact));
    assert_eq!((planned.stills[0].at_ns, planned.stills[0].width), (1_500_000_000, 1280));
    check_fact(&Given::accepted(facts), Slot::EncodePlanned { generation: 1 }, EncodePlanned { plan: planned });
}

#[test]
fn a_source_that_gets_no_plan_fails_with_the_reason() {
    let too_long = Problem::new(Code::SourceTooLong).with("duration", "1 h 6 min").with("limit", "1 h");
    let given = Given::accepted(source_facts(4_000_000));
    let facts = source_facts(4_000_000);
    check_fact(&given, Slot::EncodePlanned { generation: 1 }, EncodePlanned { plan: plan::nothing(&facts) });
    let given = given.then(Slot::EncodePlanned { generation: 1 }, EncodePlanned { plan: plan::nothing(&facts) });
    check_fact(&given, OUTCOME, EncodeFailed { problem: too_long, attempts: 0 });

    let profile = ProfileRef { name: "grand".to_owned(), version: 2 };
    let facts = source_facts(15_000);
    let given = Given::new()
        .then(Slot::UploadRegistered, spool_proto::event::AssetRegistered { profile, ..registered() })
        .then(Slot::UploadOutcome, SourceStored { source: source() })
        .then(VERDICT, SourceAccepted { facts: facts.clone() })
        .then(Slot::EncodePlanned { generation: 1 }, EncodePlanned { plan: plan::nothing(&facts) });
    let problem = Problem::new(Code::ProfileUnknown).with("profile", "grand 2").with("known", "standard 1");
    check_fact(&given, OUTCOME, EncodeFailed { problem, attempts: 0 });
}

#[test]
fn a_planned_asset_is_owed_chunks_sound_and_poster() {
    check_orders(&Given::planned(three()), "g1-v0 g1-v1 g1-v2 g1-a0 g1-s-poster");
    check_orders(&Given::planned(Plan { audio: None, stills: vec![], ..three() }), "g1-v0 g1-v1 g1-v2");
    let sound_only = Plan { video: None, rungs: vec![], stills: vec![], ..three() };
    check_orders(&Given::planned(sound_only), "g1-a0");
}

#[test]
fn a_few_chunks_are_ordered_at_once_and_a_stored_one_lets_the_next_in() {
    let given = Given::planned(long());
    check_orders(&given, "g1-v0 g1-v1 g1-v2 g1-v3 g1-a0 g1-s-poster");
    let given = given.then(Slot::EncodeVideo { generation: 1, chunk: 1 }, video_stored(&long(), 1, 1));
    check_orders(&given, "g1-v0 g1-v2 g1-v3 g1-v4 g1-a0 g1-s-poster");
}

#[test]
fn a_source_that_can_not_be_cut_has_an_opening_and_a_pass() {
    let given = Given::planned(Plan { cut: Cut::Whole, ..long() });
    check_orders(&given, "g1-v0 g1-p1..6 g1-a0 g1-s-poster");
    let given = given.chunk(1, 0);
    check_orders(&given, "g1-p1..6 g1-a0 g1-s-poster");
    let given = given.chunk(1, 1);
    check_orders(&given, "g1-p1..6 g1-a0 g1-s-poster");
}

#[test]
fn a_short_source_that_can_not_be_cut_has_one_order_that_never_changes() {
    let whole = Plan { cut: Cut::Whole, ..three() };
    let given = Given::planned(whole.clone());
    check_orders(&given, "g1-v0..2 g1-a0 g1-s-poster");
    let given = given.then(Slot::EncodeVideo { generation: 1, chunk: 0 }, video_stored(&whole, 1, 0));
    check_orders(&given, "g1-v0..2 g1-a0 g1-s-poster");
}

/// The round of the order for this item that is owed.
fn round_of(given: &Given, item: &str) -> Option<u32> {
    let orders = decide(&given.fold(), given.now()).orders;
    orders.iter().find(|order| order.job.item().to_string() == item).map(|order| order.round)
}

#[test]
fn workers_that_went_after_they_came_forward_lead_to_another_round_and_those_that_did_not_to_the_end() {
    let lost = given_up(Code::WorkerLost);
    let mut given = Given::planned(Plan { cut: Cut::Whole, ..long() });
    // Chunk 0 is the opening's: it says nothing about the pass.
    given = given.chunk(1, 0);
    for round in 0..3 {
        assert_eq!(round_of(&given, "g1-p1"), Some(round));
        given = given.chunk(1, round + 1).then(fault("g1-p1", round), lost.clone());
    }
    check_orders(&given, "g1-p1..6 g1-a0 g1-s-poster");
    assert_eq!(round_of(&given, "g1-p1"), Some(3));
    let given = given.then(fault("g1-p1", 3), lost.clone());
    check_fact(&given, OUTCOME, EncodeFailed { problem: lost.problem, attempts: 5 });
}

#[test]
fn a_sound_that_came_forward_goes_on_unless_the_input_is_at_fault() {
    let stored = |given: Given, chunk| {
        let slot = Slot::EncodeAudio { generation: 1, track: 0, chunk };
        given.then(slot, spool_proto::testing::values::audio_stored(&three(), 1, chunk))
    };
    let given = stored(Given::planned(three()), 0);
    let ours = given.clone().then(fault("g1-a0", 0), given_up(Code::StoreUnavailable));
    assert_eq!(round_of(&ours, "g1-a0"), Some(1));
    let theirs = given_up(Code::SourceDamaged);
    let given = given.then(fault("g1-a0", 0), theirs.clone());
    check_fact(&given, OUTCOME, EncodeFailed { problem: theirs.problem, attempts: 5 });
}

#[test]
fn workers_that_were_told_to_stop_use_nothing_up() {
    let (stopped, lost) = (given_up(Code::WorkerStopped), given_up(Code::WorkerLost));
    let inspect = |round| Slot::InspectFault { verdict: 1, round };
    let mut checked = Given::stored();
    let mut encoded = Given::planned(three());
    for round in 0..7 {
        checked = checked.then(inspect(round), stopped.clone());
        encoded = encoded.then(fault("g1-v1", round), stopped.clone());
        encoded = encoded.then(fault("g1-s-poster", round), stopped.clone());
    }
    assert_eq!(round_of(&checked, "n1"), Some(7));
    check_orders(&encoded, "g1-v0 g1-v1 g1-v2 g1-a0 g1-s-poster");
    assert_eq!((round_of(&encoded, "g1-v1"), round_of(&encoded, "g1-s-poster")), (Some(7), Some(7)));
    let checked = checked.then(inspect(7), lost.clone());
    check_fact(&checked, VERDICT, CheckFailed { problem: lost.problem.clone(), attempts: 5 });
    let encoded = encoded.then(fault("g1-v1", 7), lost.clone());
    check_fact(&encoded, OUTCOME, EncodeFailed { problem: lost.problem, attempts: 5 });
}

#[test]
fn everything_stored_completes_the_generation() {
    let given = Given::planned(three()).all_stored(1);
    let asset = given.fold();
    let lengths =
        asset.generation().expect("planned").video.values().flat_map(|v| v.it.receipts.iter().map(|r| r.length));
    let sound: u64 = asset.generation().expect("planned").audio[&0].values().map(|a| a.it.receipt.length).sum();
    let bytes = lengths.sum::<u64>() + sound + 40_000;
    check_fact(&given, OUTCOME, RenditionsCompleted { objects: 3 * 2 + 3 + 1, bytes });
    check_nothing(&given.then(OUTCOME, RenditionsCompleted { objects: 10, bytes }));
}

#[test]
fn a_result_beats_a_fault_of_its_item() {
    let given = Given::planned(three()).then(fault("g1-v1", 0), given_up(Code::WorkerLost)).chunk(1, 1);
    check_orders(&given, "g1-v0 g1-v2 g1-a0 g1-s-poster");
}

#[test]
fn an_order_given_up_fails_the_generation_the_inputs_fault_first() {
    let (ours, theirs) = (given_up(Code::WorkerLost), given_up(Code::SourceDamaged));
    let given = Given::planned(three()).then(fault("g1-a0", 0), ours.clone());
    check_fact(&given, OUTCOME, EncodeFailed { problem: ours.problem, attempts: 5 });
    let given = given.then(fault("g1-v2", 0), theirs.clone());
    check_fact(&given, OUTCOME, EncodeFailed { problem: theirs.problem, attempts: 5 });
}

#[test]
fn a_poster_given_up_holds_no_video_back() {
    let given = Given::planned(three()).then(fault("g1-s-poster", 0), given_up(Code::WorkerLost));
    check_orders(&given, "g1-v0 g1-v1 g1-v2 g1-a0");
    let given = given.chunk(1, 0).chunk(1, 1).chunk(1, 2);
    let answer = decide(&given.fold(), given.now());
    assert!(matches!(&answer.facts[..], [Draft { event: Event::RenditionsCompleted(_), .. }]), "{answer:?}");
    testing::check(&given, decide, &answer);
}

#[test]
fn chunks_that_do_not_join_fail_the_generation_even_when_all_stand() {
    let mut foreign = video_stored(&three(), 1, 1);
    foreign.receipts[1].init.sha256 = spool_proto::id::Sha256::of(b"another toolchain");
    let given = Given::planned(three()).chunk(1, 0).then(Slot::EncodeVideo { generation: 1, chunk: 1 }, foreign);
    let problem = Problem::new(Code::ToolchainChanged).with("rendition", "v360");
    check_fact(&given, OUTCOME, EncodeFailed { problem: problem.clone(), attempts: 0 });
}

#[test]
fn an_encode_without_progress_ends_and_progress_moves_the_end() {
    let problem = Problem::new(Code::DeadlinePassed).with("step", "Encoding").with("limit", "3 d");
    let given = Given::planned(three()).wait(deadline::ENCODE);
    check_fact(&given, OUTCOME, EncodeFailed { problem, attempts: 0 });
    let given = Given::planned(three()).wait(2 * DAY).chunk(1, 0).wait(2 * DAY);
    check_orders(&given, "g1-v1 g1-v2 g1-a0 g1-s-poster");
}

#[test]
fn a_retry_takes_over_what_stands_and_orders_the_rest() {
    // The plan must be this planner's own: what was made for another plan is not taken over.
    let facts = source_facts(60_000);
    let first = plan::plan(&registered().profile, &facts, &LIMITS).expect("a plan");
    let lost = given_up(Code::WorkerLost);
    let retry = RetryRequested { of: RetryOf::Generation { generation: 2 } };
    let given = Given::planned(first.clone())
        .chunk(1, 0)
        .then(fault("g1-v0", 0), lost.clone())
        .then(OUTCOME, EncodeFailed { problem: lost.problem, attempts: 1 })
        .then(Slot::LifeRetry { retry: 1 }, retry);
    let asset = given.fold();
    let old = &asset.generations[&1];
    let keys = old.video[&0].it.receipts.iter().map(|r| r.key.clone()).collect();
    let video = TakenOver { generation: 1, part: Part::Video { chunk: 0 }, keys };
    let keys = vec![old.audio[&0][&0].it.receipt.key.clone()];
    let audio = TakenOver { generation: 1, part: Part::Audio { track: 0, chunk: 0 }, keys };
    let second = Plan { taken_over: vec![video, audio], ..first };
    check_fact(&given, Slot::EncodePlanned { generation: 2 }, EncodePlanned { plan: second.clone() });
    let given = given.then(Slot::EncodePlanned { generation: 2 }, EncodePlanned { plan: second });
    check_orders(&given, "g2-v0..3 g2-v4..5 g2-v6..7 g2-a0 g2-s-poster");
}

#[test]
fn nothing_is_taken_over_from_another_plan_or_from_parts_that_do_not_join() {
    let facts = source_facts(60_000);
    let first = plan::plan(&registered().profile, &facts, &LIMITS).expect("a plan");
    let retry = RetryRequested { of: RetryOf::Generation { generation: 2 } };
    let again = |plan: &Plan, code: Code| {
        Given::planned(plan.clone())
            .chunk(1, 0)
            .then(OUTCOME, EncodeFailed { problem: Problem::new(code), attempts: 1 })
            .then(Slot::LifeRetry { retry: 1 }, retry)
    };
    let planned = |plan: &Plan| EncodePlanned { plan: plan.clone() };
    check_fact(&again(&first, Code::ToolchainChanged), Slot::EncodePlanned { generation: 2 }, planned(&first));
    check_fact(&again(&three(), Code::WorkerLost), Slot::EncodePlanned { generation: 2 }, planned(&first));
}

#[test]
fn a_third_generation_names_the_one_that_made_the_objects() {
    let facts = source_facts(15_000);
    let first = plan::plan(&registered().profile, &facts, &LIMITS).expect("a plan");
    let failed = |attempts| EncodeFailed { problem: Problem::new(Code::WorkerLost), attempts };
    let retry = |generation| RetryRequested { of: RetryOf::Generation { generation } };
    let given =
        Given::planned(first.clone()).chunk(1, 0).then(OUTCOME, failed(1)).then(Slot::LifeRetry { retry: 1 }, retry(2));
    let second = plan::take_over(first.clone(), 1, &given.fold().generations[&1]);
    let given = given
        .then(Slot::EncodePlanned { generation: 2 }, EncodePlanned { plan: second })
        .chunk(2, 1)
        .then(Slot::EncodeOutcome { generation: 2 }, failed(1));
    let third = plan::take_over(first, 2, &given.fold().generations[&2]);
    let made: Vec<(u32, Part)> = third.taken_over.iter().map(|t| (t.generation, t.part.clone())).collect();
    let audio = |chunk| Part::Audio { track: 0, chunk };
    let expected = [(1, Part::Video { chunk: 0 }), (2, Part::Video { chunk: 1 }), (1, audio(0)), (2, audio(1))];
    assert_eq!(made, expected);
}

#[test]
fn a_deleted_asset_is_owed_nothing() {
    for given in [Given::stored(), Given::planned(three()), Given::planned(three()).all_stored(1)] {
        check_nothing(&given.then(Slot::LifeDeleted, AssetDeleted {}));
    }
}

#[test]
fn an_asset_with_facts_of_a_later_version_is_left_to_a_later_planner() {
    let given = Given::planned(three()).wait(WARN_AFTER * 5);
    let mut asset = given.fold();
    asset.unknown.insert((asset.sequence, "spool.rendered.v9".to_owned()));
    let now = given.now();
    let [Owed::Warn { .. }, Owed::Tick(at)] = owed(&asset, now, &LIMITS)[..] else {
        panic!("{:?}", owed(&asset, now, &LIMITS))
    };
    assert_eq!(at, now.plus(WARN_AFTER));
}

#[test]
fn orders_that_nobody_takes_warn_and_never_fail() {
    let given = Given::planned(three()).wait(WARN_AFTER * 5);
    let owed = owed(&given.fold(), given.now(), &LIMITS);
    assert!(owed.iter().any(|owed| matches!(owed, Owed::Warn { .. })), "{owed:?}");
    assert!(!owed.iter().any(|owed| matches!(owed, Owed::Fact(_))), "{owed:?}");
    // The next look is at eight times a quarter of an hour after the plan.
    let planned = given.fold().generation().expect("planned").plan.at;
    assert_eq!(owed.last(), Some(&Owed::Tick(planned.plus(WARN_AFTER * 8))));
}

#[test]
fn ticks_get_rarer_and_the_last_one_is_the_deadline() {
    let asset = Given::stored().fold();
    let end = deadline(&asset).expect("a wait").at;
    let mut now = asset.updated_at;
    let mut ticks = 0;
    while let Some(Owed::Tick(next)) = owed(&asset, now, &LIMITS).last().cloned() {
        assert!(next > now && next <= end);
        (now, ticks) = (next, ticks + 1);
    }
    assert_eq!((now, ticks), (end, 10));
}

#[test]
fn an_order_has_the_same_id_however_far_the_work_is() {
    let mut given = Given::planned(long());
    let mut ids = std::collections::BTreeMap::new();
    for chunk in [2, 0, 1, 3, 5, 4, 6] {
        for order in decide(&given.fold(), given.now()).orders {
            let (item, id): (Item, String) = (order.job.item(), order.message_id());
            assert_eq!(ids.entry(item).or_insert_with(|| id.clone()), &id);
        }
        given = given.then(Slot::EncodeVideo { generation: 1, chunk }, video_stored(&long(), 1, chunk));
    }
    assert_eq!(ids.len(), 7 + 2);
}

#[test]
fn a_poster_lies_inside_the_picture() {
    let mut facts = source_facts(100_000);
    let video = facts.video.as_mut().expect("a picture");
    (video.first_ns, video.end_ns) = (30 * NS_PER_S, 31 * NS_PER_S);
    let late = plan::plan(&registered().profile, &facts, &LIMITS).expect("a plan");
    assert_eq!(late.stills[0].at_ns, 30 * NS_PER_S);
    let video = facts.video.as_mut().expect("a picture");
    (video.first_ns, video.end_ns) = (0, 2 * NS_PER_S);
    let early = plan::plan(&registered().profile, &facts, &LIMITS).expect("a plan");
    assert_eq!(early.stills[0].at_ns, 2 * NS_PER_S - 40_000_000);
}
