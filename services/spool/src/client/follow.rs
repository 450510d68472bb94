//! What happens, as it happens: server-sent events, gone on with after a break.

use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::{Method, header};
use serde_json::Value;
use spool_proto::AssetId;

use crate::exit::{Exit, Failure};

use super::assets;
use super::http::Client;
use super::print::{Out, plain};
use super::sse::{Event, Parser};

/// A stream that says nothing for this long, not even that it lives, is broken.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// Connections that may fail in a row, with no event between.
const TRIES: u32 = 8;
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The waits between tries: doubled each time, up to a limit.
pub(super) fn wait_before(attempt: u32) -> Duration {
    FIRST_WAIT.saturating_mul(2_u32.saturating_pow(attempt.min(16))).min(LONGEST_WAIT)
}

/// What a listener wants next.
pub(super) enum Next {
    /// More.
    Go,
    /// It has seen enough.
    Enough,
}

/// Hands every event to `each` until that has enough. Breaks are gone over: it connects again after the last id seen.
async fn listen<F>(client: &Client, path: &str, after: Option<u64>, mut each: F) -> Result<(), Failure>
where
    F: AsyncFnMut(Event) -> Result<Next, Failure>,
{
    let mut last = after.map(|sequence| sequence.to_string());
    let mut attempt = 0;
    loop {
        let error = match connect(client, path, last.as_deref()).await {
            Ok(response) => {
                let mut parser = Parser::default();
                let mut pieces = response.bytes_stream();
                loop {
                    let piece = match tokio::time::timeout(SILENCE_LIMIT, pieces.next()).await {
                        Ok(Some(Ok(piece))) => piece,
                        Ok(Some(Err(error))) => break client.unreachable(error),
                        Ok(None) => break Failure::new(Exit::Unreachable, "the server ended the stream of events"),
                        Err(_) => break Failure::new(Exit::Unreachable, "the stream of events fell silent"),
                    };
                    let events = parser
                        .take(&piece)
                        .map_err(|error| Failure::from_error(Exit::Broken, "read the stream of events", error))?;
                    for event in events {
                        attempt = 0;
                        last = event.id.clone().or(last);
                        if let Next::Enough = each(event).await? {
                            return Ok(());
                        }
                    }
                }
            }
            // What the server refuses now it refuses again.
            Err(failure) if failure.exit != Exit::Unreachable => return Err(failure),
            Err(failure) => failure,
        };
        if attempt >= TRIES {
            return Err(error);
        }
        tokio::time::sleep(wait_before(attempt)).await;
        attempt += 1;
    }
}

/// How following came to its end.
enum Ended {
    /// Its listener has seen enough.
    Enough,
    /// Nobody reads what it tells.
    Unread,
}

/// Follows for as long as somebody reads it.
async fn while_read(out: Out, following: impl Future<Output = Result<(), Failure>>) -> Result<Ended, Failure> {
    tokio::select! {
        biased;
        enough = following => enough.map(|()| Ended::Enough),
        () = out.closed() => Ok(Ended::Unread),
    }
}

async fn connect(client: &Client, path: &str, last: Option<&str>) -> Result<reqwest::Response, Failure> {
    let mut request = client.request(Method::GET, client.url(path)?).header(header::ACCEPT, "text/event-stream");
    if let Some(last) = last {
        request = request.header("Last-Event-ID", last);
    }
    client.send(request).await
}

/// `spool events ID --follow`, after the history.
pub(super) async fn events_after(client: &Client, out: Out, id: &AssetId, after: u64) -> Result<(), Failure> {
    let path = format!("/v1/events?asset={id}");
    let following = listen(client, &path, Some(after), async |event| {
        if is_about(&event.data, id) {
            out.say(&event.data, || assets::event_line(&event.data));
        }
        Ok(Next::Go)
    });
    while_read(out, following).await.map(drop)
}

/// Is this change about the asset?
fn is_about(data: &Value, id: &AssetId) -> bool {
    [&data["asset"], &data["id"]].into_iter().any(|value| value.as_str() == Some(id.as_str()))
}

/// `spool watch [ID]`: with an id it ends when that asset has come to an end.
pub(crate) async fn watch(client: &Client, out: Out, id: Option<&AssetId>) -> Result<(), Failure> {
    let Some(id) = id else {
        let following = listen(client, "/v1/events", None, async |event| {
            out.say(&event.data, || change_line(&event.data));
            Ok(Next::Go)
        });
        return while_read(out, following).await.map(drop);
    };
    let asset = client.get(&assets::path(id)).await.map_err(gone)?;
    out.say(&asset, || change_line(&asset));
    if is_settled(&asset) {
        return verdict(&asset);
    }
    let after = asset["sequence"].as_u64();
    let mut settled = asset;
    let path = format!("/v1/events?asset={id}");
    let following = listen(client, &path, after, async |event| {
        if !is_about(&event.data, id) {
            return Ok(Next::Go);
        }
        out.say(&event.data, || change_line(&event.data));
        if !is_settled(&event.data) {
            return Ok(Next::Go);
        }
        settled = client.get(&assets::path(id)).await.map_err(gone)?;
        Ok(if is_settled(&settled) { Next::Enough } else { Next::Go })
    });
    match while_read(out, following).await? {
        Ended::Enough => verdict(&settled),
        // Nothing can be said of its end, and 0 would say that it is ready.
        Ended::Unread => Err(Failure::new(Exit::Cut, format!("nobody reads what becomes of {id}; it goes on"))),
    }
}

fn change_line(data: &Value) -> String {
    let id = if data["asset"].is_string() { &data["asset"] } else { &data["id"] };
    let at = if data["at"].is_string() { &data["at"] } else { &data["updated_at"] };
    let percent = match data["status"].as_str() {
        Some("encoding" | "playable") => data["percent"].as_u64().map(|p| format!("{p} %")).unwrap_or_default(),
        _ => String::new(),
    };
    format!("{}  {}  {:<9} {:<20} {percent}", plain(at), plain(id), plain(&data["status"]), plain(&data["kind"]))
        .trim_end()
        .to_owned()
}

/// Has it come to an end?
pub(super) fn is_settled(asset: &Value) -> bool {
    let status = asset["status"].as_str().unwrap_or_default();
    spool_proto::Status::ALL.iter().any(|known| known.name() == status && known.is_settled())
}

/// An asset that was deleted while it was waited for has come to an end that is not ready.
pub(super) fn gone(failure: Failure) -> Failure {
    let deleted = failure.code.as_deref() == Some(spool_proto::Code::AssetDeleted.name());
    if deleted { Failure { exit: Exit::NotReady, ..failure } } else { failure }
}

/// Ready is success; any other end is a failure that says why.
pub(super) fn verdict(asset: &Value) -> Result<(), Failure> {
    let status = plain(&asset["status"]);
    if status == spool_proto::Status::Ready.name() {
        return Ok(());
    }
    let why = plain(&asset["reason"]["detail"]);
    let sentence = format!("{} is {status}. {why}", plain(&asset["id"]));
    let code = asset["reason"]["code"].as_str().map(str::to_owned);
    Err(Failure { code, ..Failure::new(Exit::NotReady, sentence.trim_end()) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_waits_grow_and_stop_growing() {
        assert_eq!(wait_before(0), FIRST_WAIT);
        assert_eq!(wait_before(2), FIRST_WAIT * 4);
        assert_eq!(wait_before(u32::MAX), LONGEST_WAIT);
    }

    #[test]
    fn only_ready_is_a_good_end() {
        verdict(&json!({"id": "vid_x", "status": "ready"})).expect("ready");
        let asset =
            json!({"id": "vid_x", "status": "rejected", "reason": {"code": "source_empty", "detail": "It is empty."}});
        let failure = verdict(&asset).expect_err("rejected");
        assert_eq!((failure.exit, failure.sentence.as_str()), (Exit::NotReady, "vid_x is rejected. It is empty."));
        assert_eq!(failure.code.as_deref(), Some("source_empty"));
        assert!(is_settled(&asset) && !is_settled(&json!({"status": "playable"})));
    }
}
