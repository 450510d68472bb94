//! tus 1.0.0 as a client: create, ask for the offset, send from there, until every byte is stored.
//!
//! Whatever goes wrong on the way is answered the same: ask where the upload stands and go on from there. Attempts are
//! counted only while nothing moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use reqwest::header::{self, HeaderMap};
use reqwest::{Method, RequestBuilder, StatusCode};
use spool_kit::Ids;
use spool_proto::{AssetId, Code, Status};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use crate::cli::Push;
use crate::exit::{Exit, Failure};

use super::super::assets;
use super::super::follow::wait_before;
use super::super::http::{self, Client};
use super::memory::{Created, Place};
use super::report::Report;
use super::{Source, Uploaded};

/// Tries in a row that move nothing.
const TRIES: u32 = 10;
/// A request that sends nothing for this long is given up, and so is an answer that does not come.
const STALL_LIMIT: Duration = Duration::from_secs(30);
/// An answer that takes longer is told to be waited for.
const QUIET: Duration = Duration::from_secs(2);
/// Waiting for what the server asked for, at most.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Bytes read from the file at once.
const BLOCK_BYTES: usize = 256 << 10;
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Where creations go.
const UPLOADS: &str = "/v1/uploads";
const TUS: (&str, &str) = ("Tus-Resumable", "1.0.0");
const OFFSET: &str = "Upload-Offset";
/// The asset that an upload belongs to.
const ASSET: &str = "Spool-Asset";
/// Sequence of the fact that an answer is about.
const SEQUENCE: &str = "Spool-Sequence";

/// How an attempt failed.
enum Fault {
    /// For good.
    Final(Failure),
    /// The upload is not there any more: begin a new one.
    Gone(Failure),
    /// Perhaps not the next time, after this long at least.
    Passing(Failure, Duration),
}

/// Uploads `source`, from where `place` says it stands.
pub(super) async fn upload(
    client: &Client,
    source: &Source,
    metadata: &str,
    mut place: Place,
    report: &mut Report<'_>,
) -> Result<Uploaded, Failure> {
    let client = &client.traced(&place.trace);
    // Before it is sent: a creation whose answer is lost is asked for again under the same key.
    report.stands(&place);
    let mut attempt = 0;
    let mut reached = 0;
    loop {
        let before = reached;
        let fault = match go_on(client, source, metadata, &mut place, &mut reached, report).await {
            Ok(uploaded) => return Ok(uploaded),
            Err(fault) => fault,
        };
        if reached > before {
            attempt = 0;
        }
        let (failure, wait) = match fault {
            Fault::Final(failure) => return Err(failure),
            Fault::Gone(failure) => {
                // The entry also goes when every byte has arrived, and that answer may have been lost on the way.
                if let Some(uploaded) = arrived(client, place.upload.as_ref()).await {
                    return Ok(uploaded);
                }
                place = Place::new(&Ids::random());
                report.stands(&place);
                (failure, Duration::ZERO)
            }
            Fault::Passing(failure, wait) => (failure, wait),
        };
        if attempt >= TRIES {
            return Err(failure);
        }
        tracing::debug!(attempt, why = %failure.sentence, "upload is tried again");
        report.waits(&failure.sentence, "trying again", (attempt..TRIES).map(wait_before).sum::<Duration>().max(wait));
        tokio::time::sleep(wait.max(wait_before(attempt))).await;
        attempt += 1;
    }
}

/// One attempt: finds out where it stands and sends the rest.
async fn go_on(
    client: &Client,
    source: &Source,
    metadata: &str,
    place: &mut Place,
    reached: &mut u64,
    report: &mut Report<'_>,
) -> Result<Uploaded, Fault> {
    source.is_unchanged().map_err(Fault::Final)?;
    let created = match &place.upload {
        Some(created) => created.clone(),
        None => {
            let created = patiently(client, report, create(client, source, metadata, &place.key)).await?;
            place.upload = Some(created.clone());
            created
        }
    };
    report.stands(place);
    let (offset, sequence) = patiently(client, report, stands_at(client, &created)).await?;
    *reached = offset.max(*reached);
    report.progress(offset);
    if offset == source.size_bytes {
        return Ok(Uploaded { asset: created.asset, sequence });
    }
    let (offset, sequence) = send_from(client, source, &created, offset, report).await?;
    *reached = offset.max(*reached);
    report.progress(offset);
    if offset == source.size_bytes {
        return Ok(Uploaded { asset: created.asset, sequence });
    }
    let sentence = format!("the server took {offset} of {} bytes", source.size_bytes);
    Err(Fault::Passing(Failure::new(Exit::Unreachable, sentence), Duration::ZERO))
}

/// Waits for an answer; of one that is long in coming it is said so.
async fn patiently<T>(client: &Client, report: &mut Report<'_>, asking: impl Future<Output = T>) -> T {
    let mut asking = std::pin::pin!(asking);
    if let Ok(answered) = tokio::time::timeout(QUIET, &mut asking).await {
        return answered;
    }
    report.waits(&format!("{} has not answered yet", client.base()), "waiting", STALL_LIMIT - QUIET);
    asking.await
}

/// Did the upload come to its end, as the view knows it?
async fn arrived(client: &Client, created: Option<&Created>) -> Option<Uploaded> {
    let created = created?;
    let asset = client.get(&assets::path(&created.asset)).await.ok()?;
    let status = Status::ALL.into_iter().find(|status| asset["status"] == status.name())?;
    let stored = match status {
        Status::Checking | Status::Encoding | Status::Playable | Status::Ready | Status::Rejected | Status::Failed => {
            true
        }
        Status::Uploading | Status::Abandoned | Status::Deleted => false,
    };
    stored.then(|| Uploaded { asset: created.asset.clone(), sequence: None })
}

async fn create(client: &Client, source: &Source, metadata: &str, key: &str) -> Result<Created, Fault> {
    let request = request(client, Method::POST, UPLOADS)?
        .header("Upload-Length", source.size_bytes)
        .header("Upload-Metadata", metadata)
        .header("Idempotency-Key", key);
    let headers = answer(client, request.timeout(STALL_LIMIT), false).await?;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let incomplete = || Fault::Final(Failure::new(Exit::Broken, "the server created an upload and does not say where"));
    let location = text("Location").ok_or_else(incomplete)?;
    let base = client.url(UPLOADS).map_err(Fault::Final)?;
    // Relative to the address that was asked, as the protocol says.
    let url = base.join(location).map_err(|_| incomplete())?;
    let asset: AssetId = text(ASSET).and_then(|id| id.parse().ok()).ok_or_else(incomplete)?;
    Ok(Created { url: url.into(), asset })
}

async fn stands_at(client: &Client, created: &Created) -> Result<(u64, Option<u64>), Fault> {
    let headers = answer(client, request(client, Method::HEAD, &created.url)?.timeout(STALL_LIMIT), true).await?;
    offset_of(&headers)
}

fn offset_of(headers: &HeaderMap) -> Result<(u64, Option<u64>), Fault> {
    let number = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok());
    let missing = || Fault::Final(Failure::new(Exit::Broken, "the server does not say where the upload stands"));
    Ok((number(OFFSET).ok_or_else(missing)?, number(SEQUENCE)))
}

/// Sends the file from `offset` in one request; where it stands afterwards.
async fn send_from(
    client: &Client,
    source: &Source,
    created: &Created,
    offset: u64,
    report: &mut Report<'_>,
) -> Result<(u64, Option<u64>), Fault> {
    let about = |error| Failure::from_error(Exit::Usage, format!("read {}", source.path.display()), error);
    let mut file = tokio::fs::File::open(&source.path).await.map_err(|error| Fault::Final(about(error)))?;
    file.seek(std::io::SeekFrom::Start(offset)).await.map_err(|error| Fault::Final(about(error)))?;
    let rest = source.size_bytes - offset;
    let taken = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&taken);
    // Not a byte more than announced, also when the file grows meanwhile.
    let body = ReaderStream::with_capacity(file.take(rest), BLOCK_BYTES).inspect_ok(move |block| {
        counter.fetch_add(block.len() as u64, Ordering::Relaxed);
    });
    let request = request(client, Method::PATCH, &created.url)?
        .header(OFFSET, offset)
        .header(header::CONTENT_TYPE, "application/offset+octet-stream")
        .header(header::CONTENT_LENGTH, rest)
        .body(reqwest::Body::wrap_stream(body));
    let mut sending = std::pin::pin!(answer(client, request, true));
    let mut moved = (0, Instant::now());
    let mut tick = tokio::time::interval(TELL_EVERY);
    loop {
        tokio::select! {
            headers = &mut sending => return offset_of(&headers?),
            _ = tick.tick() => {}
        }
        let sent = taken.load(Ordering::Relaxed);
        report.progress(offset + sent);
        if sent > moved.0 {
            moved = (sent, Instant::now());
        } else if moved.1.elapsed() > STALL_LIMIT {
            let sentence = format!("nothing moved for {} s", STALL_LIMIT.as_secs());
            return Err(Fault::Passing(Failure::new(Exit::Unreachable, sentence), Duration::ZERO));
        }
    }
}

fn request(client: &Client, method: Method, url: &str) -> Result<RequestBuilder, Fault> {
    Ok(client.request(method, client.url(url).map_err(Fault::Final)?).header(TUS.0, TUS.1))
}

/// Sends it; the headers of a good answer. `known` when the request is about an upload that was created before.
async fn answer(client: &Client, request: RequestBuilder, known: bool) -> Result<HeaderMap, Fault> {
    let response = match request.send().await {
        Ok(response) => response,
        // A body that can't be read is the file's fault and told when it is looked at again.
        Err(error) => return Err(Fault::Passing(client.unreachable(error), Duration::ZERO)),
    };
    let (status, headers) = (response.status(), response.headers().clone());
    if status.is_success() {
        return Ok(headers);
    }
    let text = tokio::time::timeout(STALL_LIMIT, response.text()).await;
    let failure = http::refusal(status, &text.ok().and_then(Result::ok).unwrap_or_default());
    Err(judge(status, retry_after(&headers), failure, known))
}

/// What an answer that is no success means for the upload. Pure.
fn judge(status: StatusCode, wait: Duration, failure: Failure, known: bool) -> Fault {
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE if known => Fault::Gone(failure),
        // The offset moved, another request holds it, too many requests, too slow: asking again where it stands helps.
        StatusCode::REQUEST_TIMEOUT | StatusCode::LOCKED | StatusCode::TOO_MANY_REQUESTS => {
            Fault::Passing(failure, wait)
        }
        StatusCode::CONFLICT if known => Fault::Passing(failure, wait),
        // A process without the role is none that takes uploads, however often it is asked. An upload that is known was taken at
        // this address: behind it are several processes, and another one answers next time.
        _ if !known && failure.code.as_deref() == Some(Code::RoleAbsent.name()) => Fault::Final(failure),
        status if status.is_server_error() => Fault::Passing(failure, wait),
        _ => Fault::Final(failure),
    }
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER)
}

/// What people typed and the file's name, as the protocol writes it: a name, a space, the value in base 64.
pub(super) fn metadata(options: &Push, source: &Source) -> String {
    let labels: serde_json::Map<String, serde_json::Value> =
        options.labels.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    let labels = (!labels.is_empty()).then(|| serde_json::Value::Object(labels).to_string());
    let fields = [
        ("filename", Some(source.name.clone())),
        ("title", options.title.clone()),
        ("profile", options.profile.clone()),
        ("labels", labels),
    ];
    let field = |(name, value): (&str, Option<String>)| Some(format!("{name} {}", base64(value?.as_bytes())));
    fields.into_iter().filter_map(field).collect::<Vec<_>>().join(",")
}

/// Base 64 with padding (RFC 4648 §4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0_u32, |bits, (i, byte)| bits | u32::from(*byte) << (16 - 8 * i));
        for i in 0..4 {
            let digit = char::from(ALPHABET[(bits >> (18 - 6 * i) & 63) as usize]);
            out.push(if i <= group.len() { digit } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_64_is_that_of_the_rfc() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("ä ü", "w6Qgw7w=")];
        for (text, expected) in cases {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    fn check(status: u16, known: bool, expected: &str) {
        let status = StatusCode::from_u16(status).expect("a status");
        let fault = judge(status, Duration::from_secs(3), Failure::new(Exit::Refused, ""), known);
        let told = match fault {
            Fault::Final(_) => "final",
            Fault::Gone(_) => "gone",
            Fault::Passing(_, _) => "passing",
        };
        assert_eq!(told, expected, "{status}, known {known}");
    }

    #[test]
    fn a_process_that_takes_no_uploads_is_asked_once() {
        let fault = |known| {
            let problem = r#"{"code":"role_absent","detail":"Role gateway does not run in this process."}"#;
            let status = StatusCode::SERVICE_UNAVAILABLE;
            judge(status, Duration::ZERO, http::refusal(status, problem), known)
        };
        assert!(matches!(fault(false), Fault::Final(_)));
        assert!(matches!(fault(true), Fault::Passing(..)));
    }

    #[test]
    fn what_may_pass_is_tried_again_and_the_rest_is_not() {
        for status in [408, 423, 429, 500, 502, 503, 507] {
            check(status, true, "passing");
            check(status, false, "passing");
        }
        check(409, true, "passing");
        check(409, false, "final");
        check(404, true, "gone");
        check(410, true, "gone");
        check(404, false, "final");
        for status in [400, 401, 403, 412, 413, 415, 422] {
            check(status, true, "final");
        }
    }
}
