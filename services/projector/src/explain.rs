//! `explain`: what an asset waits for, who works on it, what failed last, until when the state may last. Pure: the fold,
//! the notes of workers and the time are handed in. Notes are hints (they can be late or gone), facts are not, and the
//! answer keeps the two apart.

use serde_json::{Value, json};

use spool_proto::asset::{Generation, UploadEnd};
use spool_proto::deadline::deadline;
use spool_proto::event::{Door, JobGivenUp};
use spool_proto::job::{self, Job};
use spool_proto::lease::LeaseNote;
use spool_proto::subject::Lane;
use spool_proto::{Asset, Item, Status, Timestamp};

use crate::card::Card;
use crate::queue::{Line, SILENT, is_heard, lane_of};
use crate::short;

/// Orders for picture that are asked about: the planner queues only a few at a time, the first that are missing.
const PARTS: usize = 12;

/// Items that are missing, or the first of them: those that somebody may work on.
pub fn open_items(asset: &Asset) -> Vec<Item> {
    match asset.status() {
        Status::Checking => vec![Item::Inspect { verdict: asset.verdict_round() }],
        Status::Encoding | Status::Playable => {
            asset.generation().map(|it| missing(asset.generation_number(), it)).unwrap_or_default()
        }
        Status::Uploading | Status::Ready | Status::Rejected | Status::Failed | Status::Abandoned | Status::Deleted => {
            Vec::new()
        }
    }
}

fn missing(generation: u32, it: &Generation) -> Vec<Item> {
    if it.outcome.is_some() {
        return Vec::new();
    }
    let plan = it.plan();
    let is_open = |job: &Job| match job {
        Job::Video(order) | Job::Pass(order) => !it.has_made(order),
        Job::Inspect(_) | Job::Audio(_) | Job::AudioPass(_) | Job::Still(_) => false,
    };
    let video = job::picture(generation, plan).into_iter().filter(is_open).take(PARTS).map(|job| job.item());
    let sound = (0..plan.chunk_count()).any(|chunk| !it.has_audio(chunk));
    let stills = plan.stills.iter().filter(|still| !it.stills.contains_key(&still.name));
    let audio = job::sound(generation, plan).filter(|_| sound).map(|job| job.item());
    let stills = stills.map(|still| Item::Still { generation, name: still.name.clone() });
    video.chain(audio).chain(stills).collect()
}

/// The lane in which it waits for a worker, while none works on it or put it off: then it is worth asking how the queue stands.
pub fn waits_in(asset: &Asset, notes: &[(Item, LeaseNote)], now: Timestamp) -> Option<Lane> {
    let has_worker = notes.iter().any(|(_, note)| is_in_hand(note, now));
    lane_of(open_items(asset).iter()).filter(|_| waits_for(asset) == Some("transcoder") && !has_worker)
}

/// Does somebody work on it, or has put it off and not long enough ago that it waits for a worker again?
fn is_in_hand(note: &LeaseNote, now: Timestamp) -> bool {
    note.next_try.map_or_else(|| is_heard(note, now), |at| now.since(at) < SILENT)
}

/// The answer of `explain`. `notes` are those about [`open_items`] that there are, `line` how the queues stand.
pub fn explain(asset: &Asset, notes: &[(Item, LeaseNote)], line: Option<&Line>, now: Timestamp) -> Value {
    let card = Card::of(asset, None);
    let line = line.zip(waits_in(asset, notes, now));
    let items = open_items(asset);
    let work: Vec<Value> = items.iter().filter_map(|item| work(asset, item, notes, now)).collect();
    let end = deadline(asset);
    json!({
        "id": asset.id,
        "status": asset.status(),
        "version": asset.version,
        "sequence": asset.sequence,
        "since": asset.updated_at,
        "sentence": sentence(asset, &work, line, now),
        "percent": card.percent,
        "waits_for": waits_for(asset),
        "deadline": end.map(|end| json!({ "at": end.at, "slot": end.slot })),
        "work": work,
        "queue": line.map(|(line, lane)| line.json(lane)),
        "given_up": given_up(asset),
        "reason": card.reason.as_ref().map(crate::card::reason_json),
        "generation": asset.generation().map(|_| asset.generation_number()),
        "retries": asset.retries.len(),
    })
}

/// What the generation does without: its stills that could not be made.
fn given_up(asset: &Asset) -> Vec<Value> {
    let lost = lost_stills(asset).into_iter();
    let told = |(name, fault): (&str, &JobGivenUp)| json!({ "still": name, "attempts": fault.attempts, "last_fault": short::problem(&fault.problem) });
    lost.map(told).collect()
}

fn lost_stills(asset: &Asset) -> Vec<(&str, &JobGivenUp)> {
    let (number, generation) = (asset.generation_number(), asset.generation());
    let lost = |it: &'_ Generation, name: &str| it.standing_fault(&still(number, name)).is_some();
    let stills = generation.into_iter().flat_map(|it| it.plan().stills.iter().filter(|still| lost(it, &still.name)));
    stills.filter_map(|it| Some((it.name.as_str(), last_fault(asset, &still(number, &it.name))?))).collect()
}

fn still(generation: u32, name: &str) -> Item {
    Item::Still { generation, name: name.to_owned() }
}

/// One item: what the facts say of it and what a worker noted. A chunk that nobody noted and that never failed is not
/// news and left out, but for the first.
fn work(asset: &Asset, item: &Item, notes: &[(Item, LeaseNote)], now: Timestamp) -> Option<Value> {
    let note = notes.iter().find(|(noted, _)| noted == item).map(|(_, note)| note);
    let fault = last_fault(asset, item);
    let first = open_items(asset).first() == Some(item);
    if note.is_none() && fault.is_none() && !first && matches!(item, Item::Video { .. } | Item::Pass { .. }) {
        return None;
    }
    let state = match note {
        None => "queued",
        Some(note @ LeaseNote { next_try: Some(_), .. }) if is_in_hand(note, now) => "waits_for_retry",
        Some(LeaseNote { next_try: Some(_), .. }) => "queued",
        Some(note) if is_in_hand(note, now) => "running",
        Some(LeaseNote { next_try: None, .. }) => "silent",
    };
    Some(json!({
        "item": item,
        "state": state,
        "holder": note.map(|note| &note.holder),
        "attempt": note.map(|note| note.attempt),
        "since": note.map(|note| note.since),
        "last_seen": note.map(|note| note.updated_at),
        "last_seen_ms_ago": note.map(|note| now.since(note.updated_at).as_millis() as u64),
        "progress_percent": note.and_then(|note| note.progress_percent),
        "last_error": note.and_then(|note| note.last_error.as_ref()),
        "next_try": note.and_then(|note| note.next_try),
        "given_up": rounds(asset, item),
        "last_fault": fault.map(|fault| short::problem(&fault.problem)),
    }))
}

/// What ended the last round of an item's order, also where it goes on in another one.
fn last_fault<'a>(asset: &'a Asset, item: &Item) -> Option<&'a JobGivenUp> {
    let rounds = match item {
        Item::Inspect { verdict } => asset.inspect_faults.get(verdict),
        Item::Video { .. } | Item::Pass { .. } | Item::Audio { .. } | Item::AudioPass { .. } | Item::Still { .. } => {
            asset.generation()?.faults.get(&item.to_string())
        }
    };
    Some(&rounds?.values().next_back()?.it)
}

fn rounds(asset: &Asset, item: &Item) -> u32 {
    match item {
        Item::Inspect { verdict } => asset.inspect_faults.get(verdict).map_or(0, |rounds| rounds.len() as u32),
        Item::Video { .. } | Item::Pass { .. } | Item::Audio { .. } | Item::AudioPass { .. } | Item::Still { .. } => {
            asset.generation().map_or(0, |generation| generation.rounds(item))
        }
    }
}

/// Does a gateway fetch its bytes, instead of a client sending them?
fn is_copied(asset: &Asset) -> bool {
    asset.registered.as_ref().is_some_and(|registered| match registered.it.door {
        Door::Path | Door::Ingest => true,
        Door::Upload => false,
    })
}

/// Who must act next; nothing when nobody must.
fn waits_for(asset: &Asset) -> Option<&'static str> {
    match asset.status() {
        Status::Uploading if is_copied(asset) => Some("gateway"),
        Status::Uploading => Some("client"),
        Status::Checking => Some("transcoder"),
        Status::Encoding | Status::Playable => match asset.generation() {
            None => Some("planner"),
            Some(generation) if generation.outcome.is_some() => Some("publisher"),
            Some(generation) if generation.is_complete() => Some("planner"),
            Some(_) => Some("transcoder"),
        },
        Status::Deleted => asset.purged.is_none().then_some("gateway"),
        Status::Ready | Status::Rejected | Status::Failed | Status::Abandoned => None,
    }
}

/// Who works on it, in words.
fn workers(work: &[Value], line: Option<(&Line, Lane)>, now: Timestamp) -> String {
    let running = work.iter().filter(|item| item["state"] == "running").count();
    let waits = work.iter().find(|item| item["state"] == "waits_for_retry");
    let silent = work.iter().find(|item| item["state"] == "silent").map(|item| item["last_seen"].as_str());
    match (running, waits.and_then(|item| item["last_error"].as_str().zip(item["next_try"].as_str()))) {
        (0, Some((error, at))) => match at.parse::<Timestamp>().is_ok_and(|at| at < now) {
            true => format!("the last attempt failed ({error}) and the next one is due since {at}"),
            false => format!("the last attempt failed ({error}) and the next one begins at {at}"),
        },
        (0, None) => {
            let line = line.map(|(line, lane)| line.words(lane));
            let line = line.unwrap_or_else(|| "no worker has said that it works on it".to_owned());
            match silent.flatten() {
                Some(at) => {
                    format!("its worker was last heard of at {at} and another one gets the order in its turn; {line}")
                }
                None => line,
            }
        }
        (1, _) => "one worker is on it".to_owned(),
        (n, _) => format!("{n} workers are on it"),
    }
}

/// The state in a sentence.
fn sentence(asset: &Asset, work: &[Value], line: Option<(&Line, Lane)>, now: Timestamp) -> String {
    let workers = workers(work, line, now);
    match asset.status() {
        Status::Uploading if is_copied(asset) => {
            "The file is being copied in, or waits for its turn; nobody has to do anything.".to_owned()
        }
        Status::Uploading => "Bytes are coming in; the client must send the rest.".to_owned(),
        Status::Checking => format!("The source is stored ({}) and is being inspected; {workers}.", size(asset)),
        Status::Encoding | Status::Playable => match (asset.generation(), waits_for(asset)) {
            (Some(generation), Some("transcoder")) => format!("{} % are encoded; {workers}.", generation.percent()),
            (Some(_), Some("publisher")) => "Everything is encoded and waits for its final playlists.".to_owned(),
            (Some(_), _) => "Everything is encoded; the planner has to state it.".to_owned(),
            (None, _) => "The source was accepted; the planner has to say what is made of it.".to_owned(),
        },
        Status::Ready => match lost_stills(asset).as_slice() {
            [] => "Everything is made and published.".to_owned(),
            [(name, fault), ..] => {
                format!("Everything is made and published but the {name}. {}", fault.problem.detail())
            }
        },
        Status::Rejected | Status::Failed | Status::Abandoned => {
            asset.problem().map(spool_proto::Problem::detail).unwrap_or_default()
        }
        Status::Deleted => "The asset was deleted.".to_owned(),
    }
}

fn size(asset: &Asset) -> String {
    match asset.upload.as_ref().map(|end| &end.it) {
        Some(UploadEnd::Stored(source)) => format!("{} bytes", source.size_bytes),
        Some(UploadEnd::Abandoned { .. }) | None => "nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use spool_proto::event::{Published, RenditionsCompleted};
    use spool_proto::id::AttemptId;
    use spool_proto::testing::{Given, values};
    use spool_proto::{Code, Problem, Slot};

    use super::*;

    #[test]
    fn a_poster_that_was_given_up_is_told_of_a_ready_asset() {
        let plan = values::plan(&[1], 4_000);
        let name = plan.stills[0].name.clone();
        let problem = Problem::new(Code::ChildStalled).with("limit", "15 s").with("attempts", 2);
        let fault = Slot::EncodeFault { item: Item::Still { generation: 1, name }, round: 0 };
        let published = Published { generation: 1, attempt: AttemptId::from_bits(8), files: vec![] };
        let given = Given::planned(plan)
            .chunk(1, 0)
            .then(fault, JobGivenUp { problem, attempts: 2 })
            .then(Slot::EncodeOutcome { generation: 1 }, RenditionsCompleted { objects: 1, bytes: 1 })
            .then(Slot::Publish { revision: 1 }, published);
        let answer = explain(&given.fold(), &[], None, Timestamp::from_ms(0));
        assert_eq!(answer["given_up"][0]["still"], "poster");
        assert_eq!(answer["given_up"][0]["last_fault"]["code"], "child_stalled");
        let sentence = answer["sentence"].as_str().unwrap_or_default();
        assert!(
            sentence.starts_with("Everything is made and published but the poster. Nothing came out"),
            "{sentence}"
        );
    }

    #[test]
    fn an_order_that_was_handed_back_is_told_and_nothing_is_lost_by_it() {
        let plan = values::plan(&[1], 4_000);
        let stopped =
            |item: &str| JobGivenUp { problem: Problem::new(Code::WorkerStopped).with("item", item), attempts: 1 };
        let fault = |item: &str| Slot::EncodeFault { item: item.parse().expect("an item"), round: 0 };
        let given = ["g1-a0", "g1-s-poster"]
            .into_iter()
            .fold(Given::planned(plan), |given, item| given.then(fault(item), stopped(item)));
        let answer = explain(&given.fold(), &[], None, Timestamp::from_ms(0));
        let sound = answer["work"].as_array().expect("work").iter().find(|it| it["item"] == "g1-a0").expect("sound");
        assert_eq!((&sound["given_up"], &sound["last_fault"]["code"]), (&json!(1), &json!("worker_stopped")));
        assert_eq!(answer["given_up"], json!([]), "the poster is still to be made");
    }

    #[test]
    fn who_waits_for_a_retry_is_told_what_failed_and_when_it_goes_on() {
        let now = Timestamp::from_ms(60_000);
        let note = LeaseNote {
            holder: "a/7".to_owned(),
            attempt: 2,
            since: now,
            updated_at: now,
            progress_percent: None,
            last_error: Some("source_unreadable: store an object: disk full".to_owned()),
            next_try: Some(now.plus(Duration::from_secs(5))),
        };
        let notes = [(Item::Inspect { verdict: 1 }, note)];
        let answer = explain(&Given::stored().fold(), &notes, None, now);
        let sentence = answer["sentence"].as_str().unwrap_or_default();
        let told = "the last attempt failed (source_unreadable: store an object: disk full) and the next one begins at";
        assert!(sentence.contains(told), "{sentence}");
        let later = now.plus(Duration::from_secs(9));
        let answer = explain(&Given::stored().fold(), &notes, None, later);
        let sentence = answer["sentence"].as_str().unwrap_or_default();
        assert!(sentence.contains("disk full) and the next one is due since"), "{sentence}");
    }

    #[test]
    fn a_worker_that_went_silent_does_not_count_and_the_queue_is_told_instead() {
        let at = Timestamp::from_ms(60_000);
        let note = LeaseNote {
            holder: "a/7".to_owned(),
            attempt: 1,
            since: at,
            updated_at: at,
            progress_percent: Some(40),
            last_error: None,
            next_try: None,
        };
        let notes = [(Item::Inspect { verdict: 1 }, note)];
        let line = Line { lanes: Lane::ALL.map(|lane| (lane, spool_nats::Queue::default())).into(), heard: false };
        let said = |seconds| {
            let now = at.plus(Duration::from_secs(seconds));
            let answer = explain(&Given::stored().fold(), &notes, Some(&line), now);
            (answer["sentence"].as_str().unwrap_or_default().to_owned(), answer["queue"]["transcoders"].clone())
        };
        let (sentence, queue) = said(5);
        assert!(sentence.ends_with("; one worker is on it.") && queue.is_null(), "{sentence}");
        let (sentence, queue) = said(120);
        assert!(sentence.contains("its worker was last heard of at 1970-01-01T00:01:00"), "{sentence}");
        assert!(sentence.contains("no transcoder is connected") && queue == "none", "{sentence}");
    }
}
