//! The card: what the outside sees of an asset, with the field names of `design.md` §8. Made when facts are folded, so
//! that lists and reads need no fold; sentences and addresses are added when it is read.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use spool_kit::hls;
use spool_proto::asset::{Generation, Outcome, UploadEnd, Verdict};
use spool_proto::id::{PlaybackId, Sha256};
use spool_proto::media::NS_PER_S;
use spool_proto::problem::Retry;
use spool_proto::text::Text;
use spool_proto::{Asset, AssetId, Problem, Status, TenantId, Timestamp};

use crate::short;
use crate::view::rows::{Head, percent, play};
use crate::warning::{Warning, warnings};

/// What the outside sees of an asset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Its id.
    pub id: AssetId,
    /// Whose.
    pub tenant: TenantId,
    /// The word for people.
    pub status: Status,
    /// Facts folded. The `ETag`.
    pub version: u64,
    /// Sequence of the last one.
    pub sequence: u64,
    /// Why it is rejected, failed or abandoned.
    pub reason: Option<Reason>,
    /// What people should know though nothing failed.
    pub warnings: Vec<Warning>,
    /// What people typed.
    pub text: Text,
    /// Time of the first fact.
    pub created_at: Timestamp,
    /// Time of the last one.
    pub updated_at: Timestamp,
    /// Size of the source, announced until it is stored.
    pub size_bytes: Option<u64>,
    /// Digest of the source, announced until it is stored.
    pub sha256: Option<Sha256>,
    /// Length of the timeline.
    pub duration_ms: Option<u64>,
    /// Share of the encode that is stored.
    pub percent: u32,
    /// What the source is.
    pub source: Option<Value>,
    /// What is made of it.
    pub renditions: Vec<Rendition>,
    /// Still pictures that are stored.
    pub stills: Vec<Still>,
    /// Its public name for players.
    pub playback: Option<PlaybackId>,
    /// What that plays now.
    pub head: Option<Head>,
}

/// Why an asset came to a bad end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Code and values.
    pub problem: Problem,
    /// Where: `upload`, `check` or `encode`.
    pub stage: String,
    /// Attempts that were made.
    pub attempts: u32,
}

/// A rendition of the generation that counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rendition {
    /// Its id: `v720`.
    pub id: String,
    /// Name for people: `720p`.
    pub name: String,
    /// `video` or `audio`.
    pub kind: String,
    /// RFC 6381 name, once something is stored.
    pub codecs: Option<String>,
    /// Width in pixels.
    pub width: Option<u32>,
    /// Height in pixels.
    pub height: Option<u32>,
    /// Frames a second.
    pub frame_rate: Option<f64>,
    /// Measured mean, once something is stored.
    pub bitrate_bps: Option<u64>,
    /// Bytes stored.
    pub size_bytes: u64,
    /// Language of the sound.
    pub language: Option<String>,
    /// How far it is.
    pub state: State,
    /// Its generation.
    pub generation: u32,
}

/// How far a rendition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing is stored yet.
    Planned,
    /// A part is stored.
    Growing,
    /// Everything is stored.
    Complete,
    /// It will not be completed.
    Failed,
}

/// A stored still picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Still {
    /// Its name: `poster`.
    pub name: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Bytes.
    pub size_bytes: u64,
    /// Media type.
    pub content_type: String,
    /// Its generation.
    pub generation: u32,
}

impl Card {
    /// The card of an asset and its text.
    pub fn of(asset: &Asset, text: Option<&Text>) -> Self {
        let registered = asset.registered.as_ref().map(|registered| &registered.it);
        let source = asset.source();
        let generation = asset.generation().map(|generation| (asset.generation_number(), generation));
        let played = play(asset);
        Self {
            id: asset.id.clone(),
            tenant: asset.tenant.clone(),
            status: asset.status(),
            version: asset.version,
            sequence: asset.sequence,
            reason: reason(asset),
            warnings: warnings(asset),
            text: text.cloned().unwrap_or_default(),
            created_at: asset.created_at,
            updated_at: asset.updated_at,
            size_bytes: source.map(|s| s.size_bytes).or_else(|| registered?.size_bytes),
            sha256: source.map(|s| s.sha256).or_else(|| registered?.sha256),
            duration_ms: asset.source_facts().map(|facts| short::ms(facts.duration_ns())),
            percent: percent(asset),
            source: asset.source_facts().map(short::source),
            renditions: generation.map(|(number, it)| renditions(number, it)).unwrap_or_default(),
            stills: generation.map(|(number, it)| stills(number, it)).unwrap_or_default(),
            head: played.as_ref().and_then(|(_, play)| if play.deleted { None } else { play.head }),
            playback: played.map(|(playback, _)| playback),
        }
    }

    /// The card as answers give it. `base` stands before every address: a scheme and host, or nothing.
    pub fn json(&self, base: &str) -> Value {
        json!({
            "id": self.id,
            "status": self.status,
            "version": self.version,
            "reason": self.reason.as_ref().map(reason_json),
            "warnings": self.warnings.iter().map(Warning::json).collect::<Vec<_>>(),
            "tenant": self.tenant,
            "filename": self.text.filename,
            "title": self.text.title,
            "labels": self.text.labels,
            "metadata": self.text.metadata,
            "passthrough": self.text.passthrough,
            "external_id": self.text.external_id,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
            "duration_ms": self.duration_ms,
            "percent": self.percent,
            "source": self.source,
            "renditions": self.renditions.iter().map(|it| self.rendition_json(it, base)).collect::<Vec<_>>(),
            "stills": self.stills.iter().map(|it| self.still_json(it, base)).collect::<Vec<_>>(),
            "deliveries": [],
            "playback_ids": self.playback.iter().map(|id| json!({ "id": id, "policy": "public" })).collect::<Vec<_>>(),
            "play_url": self.head.and_then(|_| self.address(base, hls::INDEX)),
            "sequence": self.sequence,
        })
    }

    fn address(&self, base: &str, path: &str) -> Option<String> {
        Some(format!("{base}/play/{}/{path}", self.playback.as_ref()?))
    }

    fn rendition_json(&self, it: &Rendition, base: &str) -> Value {
        let path = match self.head {
            Some(Head::Growing { generation }) if generation == it.generation => {
                Some(hls::growing_path(generation, &it.id))
            }
            Some(Head::Finished { revision, generation }) if generation == it.generation => {
                Some(hls::finished_path(revision, &it.id))
            }
            Some(Head::Growing { .. } | Head::Finished { .. }) | None => None,
        };
        json!({
            "id": it.id,
            "name": it.name,
            "kind": it.kind,
            "codecs": it.codecs,
            "width": it.width,
            "height": it.height,
            "frame_rate": it.frame_rate,
            "bitrate_bps": it.bitrate_bps,
            "size_bytes": it.size_bytes,
            "language": it.language,
            "state": it.state,
            "url": path.and_then(|path| self.address(base, &path)),
        })
    }

    fn still_json(&self, it: &Still, base: &str) -> Value {
        let playing = match self.head {
            Some(Head::Growing { generation } | Head::Finished { generation, .. }) => generation == it.generation,
            None => false,
        };
        let path = playing.then(|| still_path(it.generation, &it.name));
        json!({
            "name": it.name,
            "width": it.width,
            "height": it.height,
            "size_bytes": it.size_bytes,
            "content_type": it.content_type,
            "url": path.and_then(|path| self.address(base, &path)),
        })
    }
}

/// Address of a still picture, relative to the playback's root.
pub fn still_path(generation: u32, name: &str) -> String {
    format!("g{generation}/{name}.jpg")
}

/// A reason with its sentence.
pub fn reason_json(reason: &Reason) -> Value {
    let code = reason.problem.code;
    json!({
        "code": code,
        "fault": code.fault(),
        "stage": reason.stage,
        "retryable": code.retry() != Retry::Never,
        "attempts": reason.attempts,
        "params": reason.problem.params,
        "detail": reason.problem.detail(),
    })
}

/// Why the asset came to a bad end; nothing in other states.
fn reason(asset: &Asset) -> Option<Reason> {
    let problem = asset.problem()?.clone();
    let (stage, counted) = match asset.upload.as_ref().map(|end| &end.it) {
        Some(UploadEnd::Abandoned { .. }) | None => ("upload", 0),
        Some(UploadEnd::Stored(_)) => match asset.verdict().map(|verdict| &verdict.it) {
            Some(Verdict::Rejected(_)) => ("check", check_attempts(asset).max(1)),
            Some(Verdict::CheckFailed(_)) | None => ("check", check_attempts(asset)),
            Some(Verdict::Accepted(_)) => ("encode", encode_attempts(asset)),
        },
    };
    // The sentence names the attempts that led to the verdict; the number beside it must be that one.
    let said = problem.params.get("attempts").and_then(|attempts| attempts.parse().ok());
    Some(Reason { attempts: said.unwrap_or(counted), problem, stage: stage.to_owned() })
}

/// Attempts of inspections in the round that counts, of those that were given up.
fn check_attempts(asset: &Asset) -> u32 {
    let rounds = asset.inspect_faults.get(&asset.verdict_round());
    rounds.map_or(0, |rounds| rounds.values().map(|fault| fault.it.attempts).sum())
}

fn encode_attempts(asset: &Asset) -> u32 {
    match asset.generation().and_then(|generation| generation.outcome.as_ref()).map(|outcome| &outcome.it) {
        Some(Outcome::Failed { attempts, .. }) => *attempts,
        Some(Outcome::Completed(_)) | None => 0,
    }
}

fn renditions(number: u32, generation: &Generation) -> Vec<Rendition> {
    let plan = generation.plan();
    let frame_rate = plan.video.as_ref().map(|video| short::frame_rate(video.frame_rate.fps()));
    let pictures = plan.rungs.iter().map(|rung| Rendition {
        name: format!("{}p", rung.width.min(rung.height)),
        kind: "video".to_owned(),
        width: Some(rung.width),
        height: Some(rung.height),
        frame_rate,
        ..rendition(number, generation, &rung.id)
    });
    let sound = plan.audio.iter().map(|audio| Rendition {
        name: "audio".to_owned(),
        kind: "audio".to_owned(),
        language: audio.language.clone(),
        ..rendition(number, generation, &audio.id)
    });
    pictures.chain(sound).collect()
}

/// What the receipts say of a rendition, whatever its kind.
fn rendition(number: u32, generation: &Generation, id: &str) -> Rendition {
    let chunks = generation.plan().chunk_count();
    let receipts: Vec<_> = (0..chunks).filter_map(|chunk| hls::rates::receipt(generation, id, chunk)).collect();
    let size_bytes = receipts.iter().map(|receipt| receipt.length).sum();
    let span_ns: u64 = receipts.iter().map(|r| ticks_ns(r.duration_ticks(), r.timescale)).sum();
    let failed = matches!(generation.outcome.as_ref().map(|outcome| &outcome.it), Some(Outcome::Failed { .. }));
    let state = match receipts.len() as u32 {
        stored if stored == chunks => State::Complete,
        _ if failed => State::Failed,
        0 => State::Planned,
        _ => State::Growing,
    };
    Rendition {
        id: id.to_owned(),
        name: String::new(),
        kind: String::new(),
        codecs: receipts.first().map(|receipt| receipt.codec.clone()),
        width: None,
        height: None,
        frame_rate: None,
        bitrate_bps: bps(size_bytes, span_ns),
        size_bytes,
        language: None,
        state,
        generation: number,
    }
}

fn ticks_ns(ticks: u64, timescale: u32) -> u64 {
    (u128::from(ticks) * u128::from(NS_PER_S) / u128::from(timescale.max(1))) as u64
}

/// Mean bits a second; nothing over no time.
fn bps(bytes: u64, span_ns: u64) -> Option<u64> {
    (span_ns > 0).then(|| (u128::from(bytes) * 8 * u128::from(NS_PER_S) / u128::from(span_ns)) as u64)
}

fn stills(number: u32, generation: &Generation) -> Vec<Still> {
    let still = |it: &spool_proto::media::StillReceipt| Still {
        name: it.name.clone(),
        width: it.width,
        height: it.height,
        size_bytes: it.length,
        content_type: it.content_type.clone(),
        generation: number,
    };
    generation.stills.values().map(|stored| still(&stored.it.receipt)).collect()
}

#[cfg(test)]
mod tests {
    use spool_proto::event::{CheckFailed, EncodeFailed, JobGivenUp, SourceRejected};
    use spool_proto::{Code, Slot};

    use super::*;
    use crate::sample;

    #[test]
    fn the_attempts_of_a_reason_are_those_of_its_sentence() {
        let stalled = || Problem::new(Code::ChildStalled).with("limit", "15 s").with("attempts", 2);
        let handed = Problem::new(Code::WorkerStopped).with("item", "n1");
        let handed = JobGivenUp { problem: handed, attempts: 1 };
        let source = spool_proto::event::SourceStored { source: spool_proto::testing::values::source() };
        let stored = || sample::asset(1).then(Slot::UploadOutcome, source.clone());
        let (verdict, outcome) = (Slot::UploadVerdict { verdict: 1 }, Slot::EncodeOutcome { generation: 1 });
        let fault = Slot::InspectFault { verdict: 1, round: 0 };
        for given in [
            stored().then(verdict.clone(), SourceRejected { problem: stalled() }),
            stored().then(fault, handed).then(verdict.clone(), SourceRejected { problem: stalled() }),
            sample::planned(1).then(outcome, EncodeFailed { problem: stalled(), attempts: 1 }),
        ] {
            let reason = reason_json(&reason(&given.fold()).expect("a reason"));
            assert_eq!(reason["attempts"], 2, "{reason}");
            assert_eq!(
                reason["detail"].as_str().map(|detail| detail.contains("for 15 s, 2 times")),
                Some(true),
                "{reason}"
            );
        }
        let overdue = Problem::new(Code::DeadlinePassed).with("step", "Checking").with("limit", "3 d");
        let given = stored().then(verdict, CheckFailed { problem: overdue, attempts: 0 });
        assert_eq!(reason_json(&reason(&given.fold()).expect("a reason"))["attempts"], 0);
    }
}
