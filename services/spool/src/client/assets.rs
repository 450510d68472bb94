//! Reads and commands about assets.

use reqwest::Method;
use serde_json::Value;
use spool_proto::{AssetId, Code};

use crate::cli::Ls;
use crate::exit::Failure;

use super::follow;
use super::http::Client;
use super::print::{Out, plain, size, span, table};

/// Assets that one request may list.
const PAGE: usize = 100;

/// The path of an asset.
pub(crate) fn path(id: &AssetId) -> String {
    format!("/v1/assets/{id}")
}

/// `spool ls`
pub(crate) async fn ls(client: &Client, out: Out, options: &Ls) -> Result<(), Failure> {
    let mut rows = vec![["ID", "STATUS", "", "LENGTH", "CREATED", "NAME"].map(str::to_owned).to_vec()];
    let mut cursor: Option<String> = None;
    let mut left = options.limit;
    while left > 0 {
        let page = client.get(&list_path(options, left.min(PAGE), cursor.as_deref())).await?;
        let assets = page["assets"].as_array().cloned().unwrap_or_default();
        left = left.saturating_sub(assets.len());
        for asset in &assets {
            if out.is_json() {
                out.say(asset, String::new);
            } else {
                rows.push(row(asset));
            }
        }
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() || assets.is_empty() {
            break;
        }
    }
    if rows.len() > 1 {
        out.tell(&table(&rows));
    } else {
        out.tell("no assets");
    }
    Ok(())
}

fn list_path(options: &Ls, limit: usize, cursor: Option<&str>) -> String {
    let mut query = format!("limit={limit}");
    if let Some(status) = options.status {
        query.push_str(&format!("&status={status}"));
    }
    if let Some(cursor) = cursor {
        query.push_str("&cursor=");
        query.extend(cursor.bytes().map(escaped));
    }
    format!("/v1/assets?{query}")
}

/// A byte of a query value; what is not plain is percent-encoded.
fn escaped(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        return char::from(byte).to_string();
    }
    format!("%{byte:02X}")
}

fn row(asset: &Value) -> Vec<String> {
    let status = plain(&asset["status"]);
    let percent = match status.as_str() {
        "encoding" | "playable" => format!("{} %", plain(&asset["percent"])),
        _ => String::new(),
    };
    let length = asset["duration_ms"].as_u64().map(span).unwrap_or_default();
    let name = [&asset["title"], &asset["filename"]].into_iter().map(plain).find(|text| !text.is_empty());
    vec![plain(&asset["id"]), status, percent, length, plain(&asset["created_at"]), name.unwrap_or_default()]
}

/// `spool show`
pub(crate) async fn show(client: &Client, out: Out, id: &AssetId) -> Result<(), Failure> {
    let asset = client.get(&path(id)).await?;
    out.say(&asset, || describe(&asset, play_url(client, &asset)));
    Ok(())
}

/// Where to watch it, as a whole address; nothing until it can be watched.
pub(super) fn play_url(client: &Client, asset: &Value) -> Option<String> {
    client.url(asset["play_url"].as_str()?).ok().map(String::from)
}

fn describe(asset: &Value, play_url: Option<String>) -> String {
    let mut rows = Vec::new();
    let mut put = |name: &str, value: String| {
        if !value.is_empty() {
            rows.push(vec![name.to_owned(), value]);
        }
    };
    put("id", plain(&asset["id"]));
    put("status", plain(&asset["status"]));
    put("title", plain(&asset["title"]));
    put("file", plain(&asset["filename"]));
    put("size", asset["size_bytes"].as_u64().map(size).unwrap_or_default());
    put("length", asset["duration_ms"].as_u64().map(span).unwrap_or_default());
    put("percent", plain(&asset["percent"]));
    put("created", plain(&asset["created_at"]));
    put("updated", plain(&asset["updated_at"]));
    put("play", play_url.unwrap_or_default());
    if asset["reason"].is_object() {
        put("reason", format!("{} ({})", plain(&asset["reason"]["detail"]), plain(&asset["reason"]["code"])));
    }
    for warning in asset["warnings"].as_array().into_iter().flatten() {
        let sentence = warning["detail"].as_str().map_or_else(|| plain(warning), str::to_owned);
        put("warning", sentence);
    }
    for rendition in asset["renditions"].as_array().into_iter().flatten() {
        let part = |key: &str| plain(&rendition[key]);
        let picture = match rendition["width"].as_u64() {
            Some(width) => format!("{width}x{} ", part("height")),
            None => String::new(),
        };
        let rate = rendition["bitrate_bps"].as_u64().map(|bps| format!("{} kb/s ", bps / 1000)).unwrap_or_default();
        put("rendition", format!("{} {picture}{rate}{} {}", part("id"), part("codecs"), part("state")));
    }
    table(&rows)
}

/// `spool events`
pub(crate) async fn events(client: &Client, out: Out, id: &AssetId, go_on: bool) -> Result<(), Failure> {
    let mut last = 0;
    for event in history(client, id).await? {
        last = event["sequence"].as_u64().unwrap_or(last);
        out.say(&event, || event_line(&event));
    }
    if go_on { follow::events_after(client, out, id, last).await } else { Ok(()) }
}

/// Every fact of an asset that the view has, oldest first.
pub(super) async fn history(client: &Client, id: &AssetId) -> Result<Vec<Value>, Failure> {
    let mut events = Vec::new();
    let mut after = 0;
    loop {
        let page = client.get(&format!("{}/events?after={after}", path(id))).await?;
        events.extend(page["events"].as_array().cloned().unwrap_or_default());
        match page["next_after"].as_u64() {
            // Only ever onwards, whatever a server says.
            Some(next) if next > after => after = next,
            Some(_) | None => return Ok(events),
        }
    }
}

/// One fact in one line.
pub(crate) fn event_line(event: &Value) -> String {
    let data = match &event["data"] {
        Value::Object(fields) => {
            fields.iter().filter_map(|(name, value)| short(name, value)).collect::<Vec<_>>().join(" ")
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => plain(other),
    };
    format!("{:>8}  {}  {:<20} {data}", plain(&event["sequence"]), plain(&event["at"]), plain(&event["kind"]))
        .trim_end()
        .to_owned()
}

/// A field of a fact, where it fits into a line.
fn short(name: &str, value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Some(format!("{name}={}", plain(value))),
        Value::Array(items) => Some(format!("{name}[{}]", items.len())),
        Value::Object(fields) => Some(format!("{name}={}", fields.get("code").map_or_else(|| "{…}".to_owned(), plain))),
    }
}

/// `spool explain`
pub(crate) async fn explain(client: &Client, out: Out, id: &AssetId) -> Result<(), Failure> {
    let answer = client.get(&format!("{}/explain", path(id))).await?;
    out.say(&answer, || tree(&answer, 0));
    Ok(())
}

/// A JSON value as indented lines: for answers whose fields grow with what there is to say.
fn tree(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let child = |name: &str, value: &Value| match value {
        Value::Null => None,
        Value::Object(_) | Value::Array(_) => {
            // What holds nothing but nothing is nothing.
            let inner = tree(value, depth + 1);
            (!inner.is_empty()).then(|| format!("{indent}{name}:\n{inner}"))
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Some(format!("{indent}{name}: {}", plain(value))),
    };
    match value {
        Value::Object(fields) => fields.iter().filter_map(|(k, v)| child(k, v)).collect::<Vec<_>>().join("\n"),
        Value::Array(items) => items.iter().filter_map(|v| dash(v, depth)).collect::<Vec<_>>().join("\n"),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => format!("{indent}{}", plain(value)),
    }
}

/// One of a list: its lines behind a dash, if it has any.
fn dash(value: &Value, depth: usize) -> Option<String> {
    let inner = match value {
        Value::Null => return None,
        Value::Object(_) | Value::Array(_) => tree(value, depth + 1),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => plain(value),
    };
    let indent = "  ".repeat(depth);
    (!inner.is_empty()).then(|| format!("{indent}- {}", inner.trim_start()))
}

/// `spool retry`
pub(crate) async fn retry(client: &Client, out: Out, id: &AssetId) -> Result<(), Failure> {
    let answer = command(client, Method::POST, &format!("{}/retry", path(id))).await?;
    until_seen(client, out, id, &answer).await;
    out.say(&answer, || format!("{id} is tried again; `spool watch {id}` follows it"));
    Ok(())
}

/// `spool rm`
pub(crate) async fn remove(client: &Client, out: Out, id: &AssetId) -> Result<(), Failure> {
    let answer = command(client, Method::DELETE, &path(id)).await?;
    until_seen(client, out, id, &answer).await;
    out.say(&answer, || format!("{id} is deleted; its objects are being removed"));
    Ok(())
}

/// Waits until reads show what a command did. Else the next one, `watch` after `retry`, may still see what was before it.
async fn until_seen(client: &Client, out: Out, id: &AssetId, answer: &Value) {
    let Some(sequence) = answer["sequence"].as_u64() else { return };
    match client.get(&format!("{}?at_least={sequence}", path(id))).await {
        Ok(_) => {}
        Err(failure) if failure.code.as_deref() == Some(Code::AssetDeleted.name()) => {}
        // What was asked for is done all the same.
        Err(failure) => out.note(&format!("done, and reads may not show it yet: {}", failure.sentence)),
    }
}

/// A command: its answer, or at least that it was taken.
pub(crate) async fn command(client: &Client, method: Method, path: &str) -> Result<Value, Failure> {
    let answer = client.ask(client.request(method, client.url(path)?)).await?;
    Ok(if answer.body.is_null() { serde_json::json!({ "status_code": answer.status.as_u16() }) } else { answer.body })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cursor_survives_the_query() {
        let options = Ls { status: Some(spool_proto::Status::Ready), limit: 5 };
        assert_eq!(list_path(&options, 5, Some("a/b+c=")), "/v1/assets?limit=5&status=ready&cursor=a%2Fb%2Bc%3D");
    }

    #[test]
    fn a_list_in_a_tree_has_dashes_and_nothing_of_what_is_empty() {
        let answer = json!({
            "status": "encoding", "deadline": null, "generation": {"none": null}, "given_up": [],
            "work": [{"item": {"video": {"chunk": 3}}, "state": "running", "holder": null}, {"holder": null}, {}],
            "names": ["a", "b"],
        });
        let expected = "names:\n  - a\n  - b\nstatus: encoding\nwork:\n  - item:\n      video:\n        chunk: 3\n    state: running";
        assert_eq!(tree(&answer, 0), expected);
    }

    #[test]
    fn a_fact_fits_into_a_line() {
        let event = json!({
            "sequence": 12, "at": "2026-11-21T06:00:00Z", "kind": "EncodeFailed",
            "data": {"problem": {"code": "source_damaged"}, "attempts": 2, "renditions": [1, 2], "none": null}
        });
        let line = event_line(&event);
        assert!(line.starts_with("      12  2026-11-21T06:00:00Z  EncodeFailed"), "{line}");
        for part in ["problem=source_damaged", "attempts=2", "renditions[2]"] {
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn an_asset_is_described_with_what_is_known() {
        let asset = json!({"id": "vid_x", "status": "rejected", "size_bytes": 12, "title": null,
            "reason": {"code": "source_empty", "detail": "The file is empty."}});
        assert_eq!(
            describe(&asset, None),
            "id      vid_x\nstatus  rejected\nsize    12 B\nreason  The file is empty. (source_empty)"
        );
    }

    #[test]
    fn an_explanation_leaves_out_what_is_empty() {
        let answer = json!({"a": {"b": 1, "c": null}, "d": [], "e": ["x", {"f": 2}]});
        assert_eq!(tree(&answer, 0), "a:\n  b: 1\ne:\n  - x\n  - f: 2");
    }
}
