//! Reading the headers of tus.

use axum::http::{HeaderMap, HeaderValue};
use spool_kit::web::Refusal;
use spool_proto::{Code, Problem};

/// Longest part of a bad value that is shown.
const SHOWN: usize = 80;

/// A header that is missing or not understood.
pub(super) fn invalid(name: &str, reason: &str, value: &[u8]) -> Refusal {
    let shown: String = String::from_utf8_lossy(value).chars().take(SHOWN).collect();
    let shown = if value.is_empty() { "nothing".to_owned() } else { format!("{shown:?}") };
    Problem::new(Code::HeaderInvalid).with("header", name).with("reason", reason).with("value", shown).into()
}

/// A header that may be given once: of two, nobody can say which one is meant.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a HeaderValue>, Refusal> {
    let mut given = headers.get_all(name).iter();
    let (first, second) = (given.next(), given.next());
    match (first, second) {
        (Some(first), Some(second)) => {
            let both = [first.as_bytes(), b" and ", second.as_bytes()].concat();
            Err(invalid(name, "must be given once", &both))
        }
        (first, _) => Ok(first),
    }
}

/// A header that must be a whole number of bytes.
pub(super) fn bytes(headers: &HeaderMap, name: &str) -> Result<u64, Refusal> {
    optional_bytes(headers, name)?.ok_or_else(|| invalid(name, "must be given", b""))
}

/// A header that is a whole number of bytes, if it is there.
pub(super) fn optional_bytes(headers: &HeaderMap, name: &str) -> Result<Option<u64>, Refusal> {
    let Some(value) = single(headers, name)? else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    let number = digits.and_then(|text| text.parse::<u64>().ok()).filter(|number| i64::try_from(*number).is_ok());
    number.map(Some).ok_or_else(|| invalid(name, "must be a whole number of bytes", value.as_bytes()))
}

/// Does the request say that it brings bytes of an upload?
pub(super) fn brings_bytes(headers: &HeaderMap) -> Result<bool, Refusal> {
    let kind = single(headers, "Content-Type")?.and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(OFFSET_OCTET_STREAM))
}

/// The content type of bytes of an upload.
pub(super) const OFFSET_OCTET_STREAM: &str = "application/offset+octet-stream";
