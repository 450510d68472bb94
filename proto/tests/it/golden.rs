//! Golden bytes: one file for every kind of fact and of order, as an earlier Spool wrote it. What is stored must stay readable,
//! so these files are never changed.
//!
//! A new fact, order or field: add a sample in `samples.rs` (a new one, under a new name; never change one that has a file)
//! and run `SPOOL_FIXTURES=write cargo test -p spool-proto --test it golden`, which writes the files that are missing and
//! touches no other. Commit them. The `.txt` beside each `.bin` says the same for people.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use spool_proto::envelope::{self, SCHEMA};
use spool_proto::event::{Body, Event, Kind};
use spool_proto::job::{Job, Order};
use spool_proto::wire::{DecodeError, decode_event, decode_order, encode_event, encode_order};

use crate::samples;

fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1")
}

/// The file `name` of the fixtures; made from `content` first when it is missing and that was asked for.
fn fixture(name: &str, content: &[u8]) -> Vec<u8> {
    let path = dir().join(name);
    if !path.exists() && std::env::var_os("SPOOL_FIXTURES").is_some_and(|v| v == "write") {
        fs::create_dir_all(dir()).expect("make proto/fixtures/v1");
        fs::write(&path, content).expect("write a fixture");
    }
    fs::read(&path).unwrap_or_else(|e| {
        panic!(
            "proto/fixtures/v1/{name}: {e}; if its sample is new, run \
             `SPOOL_FIXTURES=write cargo test -p spool-proto --test it golden` and commit the file"
        )
    })
}

fn readable(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).expect("json") + "\n"
}

#[test]
fn facts_that_were_written_once_are_read_as_what_they_were() {
    for (name, event) in samples::events() {
        let written = encode_event(&event);
        let stored = fixture(&format!("{name}.bin"), &written);
        let read = decode_event(&envelope::ce_type(event.kind()), SCHEMA, &stored);
        assert_eq!(read.expect(name), Body::Known(event.clone()), "{name}.bin decodes to something else");
        assert_eq!(written, stored, "{name} would be written with other bytes now");
        let text = fixture(&format!("{name}.txt"), readable(&event).as_bytes());
        assert_eq!(String::from_utf8(text).expect("utf-8"), readable(&event), "{name}.txt");
    }
}

#[test]
fn orders_that_were_written_once_are_read_as_what_they_were() {
    for (name, order) in samples::orders() {
        let written = encode_order(&order);
        let stored = fixture(&format!("{name}.bin"), &written);
        assert_eq!(decode_order(&order.subject(), &stored).expect(name), order, "{name}.bin decodes to something else");
        assert_eq!(written, stored, "{name} would be written with other bytes now");
        let text = fixture(&format!("{name}.txt"), readable(&order).as_bytes());
        assert_eq!(String::from_utf8(text).expect("utf-8"), readable(&order), "{name}.txt");
    }
}

/// The name of the sample that every order of this kind must have; a new one stops the build here.
fn order_name(job: &Job) -> &'static str {
    match job {
        Job::Inspect(_) => "InspectOrder",
        Job::Video(_) => "VideoOrder",
        Job::Pass(_) => "PassOrder",
        Job::Audio(_) => "AudioOrder",
        Job::AudioPass(_) => "AudioPassOrder",
        Job::Still(_) => "StillOrder",
    }
}

#[test]
fn every_kind_of_fact_and_order_has_golden_bytes_and_every_file_a_sample() {
    let (events, orders) = (samples::events(), samples::orders());
    for kind in Kind::ALL {
        assert!(events.iter().any(|(name, _)| *name == kind.name()), "no sample {kind:?} in samples.rs");
    }
    for name in ["InspectOrder", "VideoOrder", "PassOrder", "AudioOrder", "AudioPassOrder", "StillOrder"] {
        assert!(orders.iter().any(|(sample, _)| *sample == name), "no sample {name} in samples.rs");
    }
    for (name, event) in &events {
        assert_eq!(name.split('-').next(), Some(event.kind().name()), "a sample is named after its kind");
    }
    for (name, order) in &orders {
        assert_eq!(name.split('-').next(), Some(order_name(&order.job)), "a sample is named after its order");
    }
    let names = events.iter().map(|(name, _)| *name).chain(orders.iter().map(|(name, _)| *name));
    let wanted: BTreeSet<String> = names.flat_map(|name| [format!("{name}.bin"), format!("{name}.txt")]).collect();
    let found: BTreeSet<String> = fs::read_dir(dir())
        .expect("proto/fixtures/v1")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("utf-8"))
        .collect();
    assert_eq!(found, wanted, "files of proto/fixtures/v1, samples of samples.rs");
}

#[test]
fn the_number_of_a_kind_is_its_field_in_the_union() {
    for (name, event) in samples::events() {
        // The key of a length-delimited field is number << 3 | 2, as a varint of one or two bytes.
        let bytes = encode_event(&event);
        let key = u32::from(bytes[0] & 0x7f) | if bytes[0] & 0x80 == 0 { 0 } else { u32::from(bytes[1]) << 7 };
        assert_eq!(key, event.kind().number() << 3 | 2, "{name}");
    }
}

#[test]
fn a_fact_of_a_later_version_is_unknown_and_no_error() {
    let (_, event) = samples::events().swap_remove(0);
    let bytes = encode_event(&event);
    let unknown = |kind: &str| Body::Unknown { kind: kind.to_owned() };
    let ce_type = envelope::ce_type(event.kind());
    assert_eq!(decode_event("spool.v1.MoonLanded", 1, b"\xff\xff").expect("no error"), unknown("spool.v1.MoonLanded"));
    assert_eq!(decode_event(&ce_type, SCHEMA + 1, &bytes).expect("no error"), unknown(&ce_type));
}

/// `bytes` with `old` replaced by `new` of the same length, which must be there once.
fn patched(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let places: Vec<usize> = (0..=bytes.len() - old.len()).filter(|i| bytes[*i..].starts_with(old)).collect();
    assert_eq!(places.len(), 1, "{} places", places.len());
    let mut out = bytes.to_vec();
    out[places[0]..places[0] + old.len()].copy_from_slice(new);
    out
}

fn sample(name: &str) -> Event {
    samples::events().into_iter().find(|(sample, _)| *sample == name).expect("a sample of that name").1
}

#[test]
fn a_problem_code_of_a_later_version_makes_the_fact_unknown_and_no_error() {
    let bytes = patched(&encode_event(&sample("SourceRejected")), b"source_still_image", b"source_still_dream");
    let read = decode_event("spool.v1.SourceRejected", 1, &bytes).expect("no error");
    assert_eq!(read, Body::Unknown { kind: "spool.v1.SourceRejected".to_owned() });
}

#[test]
fn a_container_of_a_later_version_makes_the_fact_unknown_and_no_error() {
    let bytes = encode_event(&sample("SourceAccepted-bare"));
    // SourceFacts opens with field 1, the container: Audio is 10.
    let bytes = patched(&bytes, &[0x08, 10, 0x10], &[0x08, 99, 0x10]);
    let read = decode_event("spool.v1.SourceAccepted", 1, &bytes).expect("no error");
    assert_eq!(read, Body::Unknown { kind: "spool.v1.SourceAccepted".to_owned() });
}

#[test]
fn a_field_that_was_added_later_is_passed_over() {
    let mut bytes = encode_event(&sample("AssetDeleted"));
    // The union's field 20 with an empty body becomes one with field 99 = 1 in it.
    assert_eq!(bytes.pop(), Some(0));
    bytes.extend([3, 0x98, 0x06, 1]);
    assert_eq!(decode_event("spool.v1.AssetDeleted", 1, &bytes).expect("a fact"), Body::Known(sample("AssetDeleted")));
}

fn refusal(result: Result<impl std::fmt::Debug, DecodeError>) -> String {
    result.expect_err("must be refused").to_string()
}

#[test]
fn bytes_that_are_not_what_the_envelope_says_are_refused_by_name() {
    let opened = encode_event(&sample("Opened"));
    for (ce_type, schema, bytes, says) in [
        ("spool.v1.Opened", 0, opened.as_slice(), "field schema of Fact is 0; versions count from 1"),
        ("spool.v1.Opened", 1, b"\xff\xff", "the bytes are no Fact"),
        ("spool.v1.Opened", 1, b"", "field body of Fact holds nothing of this version, the envelope says Opened"),
        ("spool.v1.Published", 1, &opened, "field body of Fact holds Opened, the envelope says Published"),
        ("spool.v1.SourceStored", 1, b"\x12\x00", "field source of SourceStored is missing"),
        ("spool.v1.Described", 1, b"\x8a\x01\x00", "field token of Described is no id"),
    ] {
        let refused = refusal(decode_event(ce_type, schema, bytes));
        assert!(refused.starts_with(says), "{refused}, not {says}");
    }
}

#[test]
fn an_order_must_say_what_its_subject_says() {
    let (_, order) = samples::orders().swap_remove(0);
    let other = Order {
        job: Job::Inspect(spool_proto::job::InspectOrder { verdict: 9, max_duration_ms: None }),
        ..order.clone()
    };
    let bytes = encode_order(&order);
    assert_eq!(refusal(decode_order(&other.subject(), &bytes)), "field job of Order is about n2, its subject about n9");
    assert!(refusal(decode_order("spool.job.x", &bytes)).starts_with("field subject of Order is wrong"));
    assert_eq!(refusal(decode_order(&order.subject(), b"")), "field job of Order is missing, or of a later version");
}

#[test]
fn every_cut_or_flipped_byte_is_read_or_refused_but_never_panics() {
    for (_, event) in samples::events() {
        let (bytes, ce_type) = (encode_event(&event), envelope::ce_type(event.kind()));
        for at in 0..bytes.len() {
            let _ = decode_event(&ce_type, 1, &bytes[..at]);
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                if let Ok(Body::Known(read)) = decode_event(&ce_type, 1, &flipped) {
                    let again = decode_event(&ce_type, 1, &encode_event(&read));
                    assert_eq!(again.expect("what was read can be written"), Body::Known(read));
                }
            }
        }
    }
}
