//! `Upload-Metadata`: pairs of a key and a value in Base64, and what Spool makes of them.
//!
//! | key | becomes |
//! |---|---|
//! | `filename` or `name` | file name |
//! | `title`, `passthrough`, `external_id` | the field of that name |
//! | `label.{name}` | one label |
//! | `labels`, `metadata` | JSON objects: labels, metadata |
//! | `profile`, `sha256` | how it is encoded, what its digest must be |
//! | anything else | metadata of that name, as text |

use std::collections::BTreeMap;

use serde_json::Value;
use spool_kit::web::Refusal;
use spool_proto::id::Sha256;
use spool_proto::text::Text;

use super::headers::invalid;

const HEADER: &str = "Upload-Metadata";
/// Labels of one asset.
const MAX_LABELS: usize = 64;
/// Length of a label's name or value.
const MAX_LABEL: usize = 256;
/// Bytes of a title, a file name or an external id: lists show them, and the view keeps them.
const MAX_NAME: usize = 1024;
/// Bytes of a passthrough.
const MAX_PASSTHROUGH: usize = 4096;

/// What the header says.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Metadata {
    /// What people typed.
    pub(super) text: Text,
    /// Name of the profile.
    pub(super) profile: Option<String>,
    /// Expected digest.
    pub(super) sha256: Option<Sha256>,
}

/// Reads the header's value.
pub(super) fn parse(raw: &str) -> Result<Metadata, Refusal> {
    let mut out = Metadata::default();
    for (key, value) in pairs(raw)? {
        let refuse = |reason: &str| invalid(HEADER, reason, key.as_bytes());
        let object = |value: &str| {
            serde_json::from_str::<serde_json::Map<String, Value>>(value)
                .map_err(|_| refuse("must hold a JSON object under labels and metadata"))
        };
        match key.as_str() {
            "filename" | "name" => out.text.filename = Some(value),
            "title" => out.text.title = Some(value),
            "passthrough" => out.text.passthrough = Some(value),
            "external_id" => out.text.external_id = Some(value),
            "profile" => out.profile = Some(value),
            "sha256" => {
                let digest = value.to_ascii_lowercase().parse();
                out.sha256 = Some(digest.map_err(|_| refuse("must hold 64 hexadecimal digits under sha256"))?);
            }
            "labels" => {
                for (name, value) in object(&value)? {
                    let Value::String(value) = value else {
                        return Err(refuse("must hold labels whose values are text"));
                    };
                    out.text.labels.insert(name, value);
                }
            }
            "metadata" => out.text.metadata.extend(object(&value)?),
            _ => match key.strip_prefix("label.") {
                Some(name) => drop(out.text.labels.insert(name.to_owned(), value)),
                None => drop(out.text.metadata.insert(key, Value::String(value))),
            },
        }
    }
    check_text(&out.text).map_err(|wrong| invalid(HEADER, &wrong.must, wrong.field.as_bytes()))?;
    Ok(out)
}

/// What is wrong with what people typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrongText {
    /// The field.
    pub(crate) field: &'static str,
    /// What it must be, as the rest of a sentence.
    pub(crate) must: String,
}

/// Limits of what people may type, the same for every door.
pub(crate) fn check_text(text: &Text) -> Result<(), WrongText> {
    for (field, value, limit) in [
        ("title", &text.title, MAX_NAME),
        ("filename", &text.filename, MAX_NAME),
        ("external_id", &text.external_id, MAX_NAME),
        ("passthrough", &text.passthrough, MAX_PASSTHROUGH),
    ] {
        let length = value.as_ref().map_or(0, String::len);
        if length > limit {
            return Err(WrongText { field, must: format!("must hold {field} in at most {limit} bytes, not {length}") });
        }
    }
    let wrong = |must| Err(WrongText { field: "labels", must });
    let long = |(name, value): (&String, &String)| name.is_empty() || name.len() > MAX_LABEL || value.len() > MAX_LABEL;
    if text.labels.len() > MAX_LABELS {
        return wrong(format!("must hold at most {MAX_LABELS} labels"));
    }
    if text.labels.iter().any(long) {
        return wrong(format!("must hold labels of 1 to {MAX_LABEL} characters"));
    }
    Ok(())
}

/// The pairs of the header, decoded. Keys are unique.
fn pairs(raw: &str) -> Result<BTreeMap<String, String>, Refusal> {
    let mut out = BTreeMap::new();
    for pair in raw.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
        let refuse = |reason: &str| invalid(HEADER, reason, pair.as_bytes());
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(refuse("must have keys of visible ASCII"));
        }
        let value = base64(value.trim()).ok_or_else(|| refuse("must have values in Base64"))?;
        let value = String::from_utf8(value).map_err(|_| refuse("must have values that are UTF-8"))?;
        if out.insert(key.to_owned(), value).is_some() {
            return Err(refuse("must have each key once"));
        }
    }
    Ok(out)
}

/// Standard Base64; padding may be missing at the end, as some clients leave it out.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    if text.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for byte in group {
            bits = bits << 6 | u32::from(sextet(*byte)?);
        }
        bits <<= 6 * (4 - group.len());
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(out)
}

fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_become_what_the_table_says() {
        let raw = "filename dsOkby5tcDQ=,title VA==,label.course TTE=,labels eyJ0ZXJtIjoiYXV0dW1uIn0=,\
                   is_confidential,type dmlkZW8vbXA0, external_id eA==,profile c3RhbmRhcmQ";
        let metadata = parse(raw).expect("good pairs");
        assert_eq!(metadata.text.filename.as_deref(), Some("v\u{e4}o.mp4"));
        assert_eq!(metadata.text.title.as_deref(), Some("T"));
        assert_eq!(metadata.text.external_id.as_deref(), Some("x"));
        assert_eq!(metadata.profile.as_deref(), Some("standard"));
        let labels: Vec<_> = metadata.text.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(labels, ["course=M1", "term=autumn"]);
        let expected = serde_json::json!({"is_confidential": "", "type": "video/mp4"});
        assert_eq!(Value::Object(metadata.text.metadata), expected);
        assert_eq!(parse("").expect("nothing is fine"), Metadata::default());
    }

    #[test]
    fn base64_is_the_standard_one() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg", "foob")] {
            assert_eq!(base64(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        for bad in ["A", "Zm9v!", "Z-9v", "Zm 9"] {
            assert_eq!(base64(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_typed_has_a_length_by_name() {
        let of = |length: usize| Some("a".repeat(length));
        let whole = Text {
            title: of(1024),
            filename: of(1024),
            external_id: of(1024),
            passthrough: of(4096),
            ..Text::default()
        };
        assert_eq!(check_text(&whole), Ok(()));
        for (text, must) in [
            (Text { title: of(1025), ..whole.clone() }, "must hold title in at most 1024 bytes, not 1025"),
            (Text { filename: of(1025), ..whole.clone() }, "must hold filename in at most 1024 bytes, not 1025"),
            (Text { external_id: of(1025), ..whole.clone() }, "must hold external_id in at most 1024 bytes, not 1025"),
            (Text { passthrough: of(4097), ..whole.clone() }, "must hold passthrough in at most 4096 bytes, not 4097"),
        ] {
            assert_eq!(check_text(&text).map_err(|wrong| wrong.must), Err(must.to_owned()));
        }
        let refusal = parse(&format!("title {}", "QUFB".repeat(342))).expect_err("1026 bytes");
        assert_eq!(refusal.problem.params["value"], "\"title\"");
    }

    #[test]
    fn bad_pairs_are_refused_with_a_reason() {
        for (raw, reason) in [
            ("a YQ==,a YQ==", "must have each key once"),
            ("a !!!!", "must have values in Base64"),
            ("a /w==", "must have values that are UTF-8"),
            ("\u{e9} YQ==", "must have keys of visible ASCII"),
            ("sha256 YQ==", "must hold 64 hexadecimal digits under sha256"),
            ("labels W10=", "must hold a JSON object under labels and metadata"),
            ("labels eyJhIjoxfQ==", "must hold labels whose values are text"),
        ] {
            let refusal = parse(raw).expect_err(raw);
            assert_eq!(refusal.problem.params["reason"], reason, "{raw}");
        }
    }
}
