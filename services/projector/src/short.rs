//! A fact's body in short, for histories and live changes: what happened and its figures, without segment tables, object
//! keys and secrets (an upload id gives the right to send bytes).

use serde_json::{Value, json};

use spool_proto::Problem;
use spool_proto::event::Event;
use spool_proto::media::{AudioPlan, Plan, Receipt, Rung, SourceFacts};

/// What the fact says. Problems stay codes and values here; [`with_sentences`] makes their sentences when they are read.
pub fn data(event: &Event) -> Value {
    match event {
        Event::AssetRegistered(it) => json!({
            "door": it.door,
            "profile": format!("{}@{}", it.profile.name, it.profile.version),
            "playback_id": it.playback,
            "size_bytes": it.size_bytes,
            "sha256": it.sha256,
        }),
        Event::SourceStored(it) => json!({ "size_bytes": it.source.size_bytes, "sha256": it.source.sha256 }),
        Event::UploadAbandoned(it) => json!({ "problem": it.problem, "received_bytes": it.received_bytes }),
        Event::JobGivenUp(it) => json!({ "problem": it.problem, "attempts": it.attempts }),
        Event::SourceAccepted(it) => source(&it.facts),
        Event::SourceRejected(it) => json!({ "problem": it.problem }),
        Event::CheckFailed(it) => json!({ "problem": it.problem, "attempts": it.attempts }),
        Event::EncodePlanned(it) => plan(&it.plan),
        Event::VideoStored(it) => json!({
            "renditions": it.receipts.iter().map(receipt).collect::<Vec<_>>(),
            "encode_ms": it.encode_ms,
            "missing_ms": it.missing_ms,
        }),
        Event::AudioStored(it) => json!({
            "renditions": [receipt(&it.receipt)],
            "encode_ms": it.encode_ms,
            "missing_ms": it.missing_ms,
        }),
        Event::StillStored(it) => json!({
            "name": it.receipt.name,
            "width": it.receipt.width,
            "height": it.receipt.height,
            "size_bytes": it.receipt.length,
        }),
        Event::RenditionsCompleted(it) => json!({ "objects": it.objects, "size_bytes": it.bytes }),
        Event::EncodeFailed(it) => json!({ "problem": it.problem, "attempts": it.attempts }),
        Event::Opened(it) => json!({ "generation": it.generation }),
        Event::Published(it) => json!({ "generation": it.generation, "files": it.files }),
        Event::Withdrawn(it) => json!({ "generation": it.generation }),
        Event::Described(_) | Event::AssetDeleted(_) => json!({}),
        Event::TextErased(it) => json!({ "texts": it.texts }),
        Event::RetryRequested(it) => json!({ "of": it.of }),
        Event::ObjectsPurged(it) => json!({ "objects": it.objects, "size_bytes": it.bytes }),
    }
}

/// What a source is, as answers show it.
pub fn source(facts: &SourceFacts) -> Value {
    let video = facts.video.as_ref().map(|v| {
        json!({
            "codec": v.codec,
            "width": v.display_width,
            "height": v.display_height,
            "stored_width": v.width,
            "stored_height": v.height,
            "orientation": v.orientation,
            "frame_rate": frame_rate(v.frame_rate.fps()),
            "variable_rate": v.variable_rate,
            "interlaced": v.interlaced,
            "bit_depth": v.bit_depth,
            "dynamic_range": v.dynamic_range,
        })
    });
    let audio = facts.audio.as_ref().map(|a| {
        json!({
            "codec": a.codec,
            "sample_rate": a.sample_rate,
            "channels": a.channels,
            "language": a.language,
        })
    });
    json!({
        "container": facts.container,
        "duration_ms": ms(facts.duration_ns()),
        "video": video,
        "audio": audio,
        "video_streams": facts.video_streams,
        "audio_streams": facts.audio_streams,
        "subtitle_streams": facts.subtitle_streams,
        "has_location": facts.has_location,
        "has_device": facts.has_device,
    })
}

fn plan(plan: &Plan) -> Value {
    json!({
        "duration_ms": ms(plan.duration_ns()),
        "segment_ms": ms(plan.segment_ns),
        "chunks": plan.chunk_count(),
        "renditions": plan.rungs.iter().map(rung).chain(plan.audio.iter().map(sound)).collect::<Vec<_>>(),
        "stills": plan.stills.iter().map(|s| &s.name).collect::<Vec<_>>(),
        "taken_over": plan.taken_over.len(),
    })
}

/// A rendition of the picture as it is ordered: enough to make the same with any x264.
fn rung(rung: &Rung) -> Value {
    json!({
        "id": rung.id,
        "width": rung.width,
        "height": rung.height,
        "crf": rung.crf,
        "max_bps": rung.max_bps,
        "buffer_ms": rung.buffer_ms,
        "threads": rung.threads,
    })
}

fn sound(audio: &AudioPlan) -> Value {
    json!({ "id": audio.id, "bps": audio.bps, "sample_rate": audio.sample_rate, "channels": audio.channels })
}

fn receipt(receipt: &Receipt) -> Value {
    json!({
        "id": receipt.rendition,
        "size_bytes": receipt.length,
        "segments": receipt.segments.len(),
        "duration_ms": receipt.duration_ticks() * 1000 / u64::from(receipt.timescale.max(1)),
        "sha256": receipt.sha256,
    })
}

/// Nanoseconds as whole milliseconds, rounded.
pub fn ms(ns: u64) -> u64 {
    (ns + 500_000) / 1_000_000
}

/// Frames a second with three decimals.
pub fn frame_rate(fps: f64) -> f64 {
    (fps * 1000.0).round() / 1000.0
}

/// A problem for people: code, whose fault, the values and the sentence.
pub fn problem(problem: &Problem) -> Value {
    json!({
        "code": problem.code,
        "fault": problem.code.fault(),
        "params": problem.params,
        "detail": problem.detail(),
    })
}

/// The data of a stored entry with the sentence of its problem, if it has one.
pub fn with_sentences(mut data: Value) -> Value {
    let stored = data.get("problem").cloned().map(serde_json::from_value::<Problem>);
    if let (Some(Ok(stored)), Some(object)) = (stored, data.as_object_mut()) {
        object.insert("problem".to_owned(), problem(&stored));
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use spool_proto::Code;
    use spool_proto::event::{SourceRejected, SourceStored};
    use spool_proto::id::{Sha256, UploadId};
    use spool_proto::media::SourceRef;

    #[test]
    fn a_sentence_is_made_when_it_is_read() {
        let event =
            Event::from(SourceRejected { problem: Problem::new(Code::SourceNotMedia).with("found", "a letter") });
        let stored = data(&event);
        assert_eq!(stored, json!({ "problem": { "code": "source_not_media", "params": { "found": "a letter" } } }));
        let read = with_sentences(stored);
        assert_eq!(read["problem"]["fault"], "input");
        assert_eq!(read["problem"]["detail"], "The file is a letter. Upload a video file.");
    }

    #[test]
    fn no_upload_id_comes_out() {
        let upload = UploadId::from_bits(5);
        let source =
            SourceRef { upload: upload.clone(), piece_bytes: 8, size_bytes: 0, sha256: Sha256::of(b""), runs: vec![] };
        assert!(!data(&SourceStored { source }.into()).to_string().contains(upload.as_str()));
    }
}
