//! `spool push`: resumable uploads, and the wait until what was pushed can be watched.
//!
//! What is sent is the file as it is; a file that changes meanwhile is an error, not a broken video. Where an upload stands
//! is remembered on disk ([`memory`]), so that the same command goes on after anything: a cut connection, Ctrl-C, a reboot.

mod memory;
mod report;
mod tus;

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use spool_kit::Ids;
use spool_proto::{AssetId, Code, Kind, Timestamp};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::Push;
use crate::exit::{Exit, Failure};

use self::memory::{Memory, Place};
use self::report::Report;
use super::assets;
use super::follow::{gone, is_settled, verdict, wait_before};
use super::http::Client;
use super::print::{Out, Progress, plain, size, span};

/// How often a pushed asset is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(150);
/// Answers that may fail to come in a row while waiting.
const TRIES: u32 = 8;

/// An upload whose every byte is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Uploaded {
    asset: AssetId,
    /// Sequence of the fact, where the server named it.
    sequence: Option<u64>,
}

/// A file to push, as it was when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    path: std::path::PathBuf,
    name: String,
    size_bytes: u64,
    modified: SystemTime,
}

impl Source {
    fn look_at(path: &Path) -> Result<Self, Failure> {
        let about = |error| Failure::from_error(Exit::Usage, format!("read {}", path.display()), error);
        let path = path.canonicalize().map_err(about)?;
        let meta = std::fs::metadata(&path).map_err(about)?;
        if !meta.is_file() {
            return Err(Failure::new(Exit::Usage, format!("{} is not a file", path.display())));
        }
        // What can't be read is said before anybody hears of it.
        std::fs::File::open(&path).map_err(about)?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { name, size_bytes: meta.len(), modified: meta.modified().map_err(about)?, path })
    }

    /// Fails when the file is not what it was.
    fn is_unchanged(&self) -> Result<(), Failure> {
        if Self::look_at(&self.path)? == *self {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Usage,
            format!("{} changed while it was being sent; push it again", self.path.display()),
        ))
    }
}

/// `spool push`
pub(crate) async fn push(client: &Client, out: Out, options: &Push) -> Result<(), Failure> {
    let sources = options.files.iter().map(|file| Source::look_at(file)).collect::<Result<Vec<_>, _>>()?;
    let memory = Memory::of_this_user();
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|error| Failure::from_error(Exit::Broken, "listen for Ctrl-C", error))?;
    let mut worst: Option<Failure> = None;
    for source in &sources {
        let Err(failure) = one(client, out, &memory, options, source, &mut interrupt).await else { continue };
        if matches!(failure.exit, Exit::Unreachable | Exit::Interrupted) {
            return Err(failure);
        }
        if let Some(earlier) = worst.replace(failure) {
            // Only the last failure is told by the one who called; this one has its last chance here.
            out.tell(&format!("{}: {}", source.name, earlier.sentence));
        }
    }
    worst.map_or(Ok(()), Err)
}

async fn one(
    client: &Client,
    out: Out,
    memory: &Memory,
    options: &Push,
    source: &Source,
    interrupt: &mut Signal,
) -> Result<(), Failure> {
    let started = Instant::now();
    let uploaded = upload(client, out, memory, options, source, interrupt).await?;
    let complete = Instant::now();
    let id = &uploaded.asset;
    tokio::select! {
        followed = follow(client, out, options, source, &uploaded, (started, complete)) => followed,
        _ = interrupt.recv() => {
            let sentence = format!("stopped by Ctrl-C; {id} is uploaded and goes on by itself, and `spool watch {id}` follows it");
            Err(Failure::new(Exit::Interrupted, sentence))
        }
    }
}

/// What becomes of an uploaded file: to its first sight, or with `--wait` to its end.
async fn follow(
    client: &Client,
    out: Out,
    options: &Push,
    source: &Source,
    uploaded: &Uploaded,
    (started, complete): (Instant, Instant),
) -> Result<(), Failure> {
    let upload_ms = millis(complete - started);
    let asset = first_look(client, out, uploaded).await.map_err(|failure| {
        let sentence = format!("{} is uploaded, and goes on by itself. {}", uploaded.asset, failure.sentence);
        Failure { sentence, ..failure }
    })?;
    let play_url = assets::play_url(client, &asset).or_else(|| coming_play_url(client, &asset));
    if let Some(url) = &play_url {
        out.tell(&format!("watch   {url}"));
    }
    out.tell(&format!("upload  {} in {}", size(source.size_bytes), span(upload_ms)));
    if !options.wait {
        if out.is_json() {
            let last =
                json!({"id": uploaded.asset, "status": asset["status"], "play_url": play_url, "upload_ms": upload_ms});
            out.say(&last, String::new);
        }
        return Ok(());
    }
    let end = wait(client, out, &uploaded.asset, complete).await?;
    report(client, out, &end, upload_ms);
    verdict(&end.asset)
}

/// Brings every byte of the file over, from wherever it stands.
async fn upload(
    client: &Client,
    out: Out,
    memory: &Memory,
    options: &Push,
    source: &Source,
    interrupt: &mut Signal,
) -> Result<Uploaded, Failure> {
    let fingerprint = memory::fingerprint(client.url("/")?.as_str(), source);
    let remembered = if options.fresh { None } else { memory.recall(&fingerprint) };
    let place = remembered.unwrap_or_else(|| Place::new(&Ids::random()));
    let mut report = Report::new(out, memory, fingerprint, source);
    let metadata = tus::metadata(options, source);
    let result = tokio::select! {
        result = tus::upload(client, source, &metadata, place, &mut report) => result,
        _ = interrupt.recv() => {
            let sentence = format!("stopped by Ctrl-C before {} was uploaded; the same command goes on with it", source.name);
            Err(Failure::new(Exit::Interrupted, sentence))
        }
    };
    report.end();
    match &result {
        Ok(_) => report.forget(),
        // What the server refuses for good is not gone on with.
        Err(failure) if failure.exit == Exit::Refused => report.forget(),
        Err(_) => report.leave(),
    }
    result
}

/// The asset as the view shows it once it has folded what was just written.
async fn first_look(client: &Client, out: Out, uploaded: &Uploaded) -> Result<Value, Failure> {
    let mut attempt = 0;
    let path = match uploaded.sequence {
        Some(sequence) => format!("{}?at_least={sequence}", assets::path(&uploaded.asset)),
        None => assets::path(&uploaded.asset),
    };
    loop {
        match client.get(&path).await {
            Ok(asset) => return Ok(asset),
            // The view may be a moment behind the log, or restarting.
            Err(failure) if attempt >= TRIES || !is_passing(&failure) => return Err(failure),
            Err(failure) => {
                note_first(out, &failure, attempt);
                tokio::time::sleep(wait_before(attempt)).await;
            }
        }
        attempt += 1;
    }
}

/// May the same question be answered a moment later? Not by a process that does not run the role at all.
fn is_passing(failure: &Failure) -> bool {
    let is = |code: Code| failure.code.as_deref() == Some(code.name());
    (failure.exit == Exit::Unreachable && !is(Code::RoleAbsent)) || is(Code::AssetNotFound)
}

/// Says why the answer is waited for, the first time. That the view does not have the asset yet is no news.
fn note_first(out: Out, failure: &Failure, attempt: u32) {
    if attempt == 0 && failure.exit == Exit::Unreachable {
        let at_most: Duration = (0..TRIES).map(wait_before).sum();
        out.note(&format!("{} (asking again for about {} s)", failure.sentence, at_most.as_secs()));
    }
}

/// How an asset ended, and when it could be watched.
struct End {
    asset: Value,
    playable_ms: Option<u64>,
    ready_ms: Option<u64>,
}

/// Waits until the asset has come to an end. The server bounds every state with a deadline, so this needs no limit.
async fn wait(client: &Client, out: Out, id: &AssetId, complete: Instant) -> Result<End, Failure> {
    let mut bar = Progress::new(out, "encode");
    let mut playable = None;
    let mut told = String::new();
    let mut failed = 0;
    let asset = loop {
        let asset = match client.get(&assets::path(id)).await {
            Ok(asset) => asset,
            Err(failure) if failed >= TRIES || !is_passing(&failure) => return Err(gone(failure)),
            Err(failure) => {
                bar.end();
                note_first(out, &failure, failed);
                tokio::time::sleep(wait_before(failed)).await;
                failed += 1;
                continue;
            }
        };
        failed = 0;
        let (status, percent) = (plain(&asset["status"]), asset["percent"].as_u64().unwrap_or(0));
        if playable.is_none() && matches!(status.as_str(), "playable" | "ready") {
            playable = Some(millis(complete.elapsed()));
        }
        if status != told {
            out_status(out, id, &status, percent);
            told.clone_from(&status);
        }
        if is_settled(&asset) {
            break asset;
        }
        if matches!(status.as_str(), "encoding" | "playable") {
            bar.at(percent, &status, || json!({"event": "encode", "id": id, "status": status, "percent": percent}));
        }
        tokio::time::sleep(ASK_EVERY).await;
    };
    bar.end();
    let seen = Some(millis(complete.elapsed()));
    let (playable_ms, ready_ms) = logged_times(client, id).await.unwrap_or_default();
    let is_ready = verdict(&asset).is_ok();
    Ok(End { playable_ms: playable_ms.or(playable), ready_ms: ready_ms.or(seen).filter(|_| is_ready), asset })
}

fn out_status(out: Out, id: &AssetId, status: &str, percent: u64) {
    if out.is_json() {
        out.say(&json!({"event": "status", "id": id, "status": status, "percent": percent}), String::new);
    }
}

/// Upload complete to playable and to ready, by the times of the facts: exact, where asking now and then is not.
async fn logged_times(client: &Client, id: &AssetId) -> Option<(Option<u64>, Option<u64>)> {
    let history = assets::history(client, id).await.ok()?;
    Some(times_of(&history))
}

fn times_of(history: &[Value]) -> (Option<u64>, Option<u64>) {
    let at = |kind: Kind| -> Option<Timestamp> {
        let event = history.iter().find(|event| event["kind"] == kind.name())?;
        event["at"].as_str()?.parse().ok()
    };
    let Some(stored) = at(Kind::SourceStored) else { return (None, None) };
    let after = |at: Timestamp| millis(at.since(stored));
    let ready = at(Kind::Published);
    (at(Kind::Opened).or(ready).map(after), ready.map(after))
}

fn report(client: &Client, out: Out, end: &End, upload_ms: u64) {
    let asset = &end.asset;
    let play_url = assets::play_url(client, asset);
    let mut last = json!({
        "id": asset["id"],
        "status": asset["status"],
        "play_url": play_url,
        "upload_ms": upload_ms,
        "playable_ms": end.playable_ms,
        "ready_ms": end.ready_ms,
    });
    if asset["reason"].is_object() {
        last["code"] = asset["reason"]["code"].clone();
        last["detail"] = asset["reason"]["detail"].clone();
    }
    out.say(&last, || {
        let mut lines = vec![format!("status  {}", plain(&asset["status"]))];
        lines.extend(end.playable_ms.map(|ms| format!("playable {} after the upload was complete", span(ms))));
        lines.extend(end.ready_ms.map(|ms| format!("ready    {} after the upload was complete", span(ms))));
        lines.join("\n")
    });
}

/// Where it will be watched, once it is playable.
fn coming_play_url(client: &Client, asset: &Value) -> Option<String> {
    let id = asset["playback_ids"][0]["id"].as_str()?;
    client.url(&format!("/play/{id}/{}", spool_kit::hls::INDEX)).ok().map(String::from)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_those_of_the_facts() {
        let event = |kind: &str, at: &str| json!({"kind": kind, "at": at});
        let history = [
            event("AssetRegistered", "2026-11-21T06:00:00Z"),
            event("SourceStored", "2026-11-21T06:00:01.5Z"),
            event("Opened", "2026-11-21T06:00:02Z"),
            event("Published", "2026-11-21T06:00:09Z"),
        ];
        assert_eq!(times_of(&history), (Some(500), Some(7_500)));
        assert_eq!(times_of(&[]), (None, None));
    }

    #[test]
    fn a_file_that_changes_is_noticed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.mp4");
        std::fs::write(&path, b"one").expect("written");
        let source = Source::look_at(&path).expect("a file");
        source.is_unchanged().expect("the same");
        std::fs::write(&path, b"other").expect("written");
        assert_eq!(source.is_unchanged().expect_err("changed").exit, Exit::Usage);
        assert_eq!(Source::look_at(directory.path()).expect_err("a directory").exit, Exit::Usage);
    }
}
