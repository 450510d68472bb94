//! Playback: playlists that grow, playlists that are finished, objects with ranges, still pictures.
//!
//! An address is resolved by small rows (what the playback id plays, where the object lies); only growing playlists need
//! the whole fold. Object and finished-list addresses never change their bytes, so caches may keep them for ever.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, Method, Response as Builder, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;

use spool_kit::hls;
use spool_kit::web::Refusal;
use spool_kit::{Store, StoreError};
use spool_proto::id::{PlaybackId, Sha256};
use spool_proto::key::{Key as ObjectKey, Object};
use spool_proto::slot::is_plain_name;
use spool_proto::{Code, Problem};

use super::Reads;
use super::range::{Part, is_known, part, range_stands};
use crate::growing;
use crate::view::keys::Key;
use crate::view::rows::{Head, Play, Stored};

/// For addresses whose bytes never change.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// For addresses whose bytes change: keep it, but ask each time (the `ETag` makes the answer small).
const ASK: &str = "no-cache";
/// Largest finished playlist that is served: a day in segments of 4 s is about 2 MB.
const PLAYLIST_LIMIT: u64 = 16 << 20;

/// What a path below `/play/{playback_id}/` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// `index.m3u8`
    Index,
    /// `g{n}/{rendition}.m3u8`
    Growing {
        /// Generation.
        generation: u32,
        /// Rendition.
        rendition: String,
    },
    /// `r{n}/{file}.m3u8`
    Finished {
        /// Publish revision.
        revision: u32,
        /// File of the revision.
        file: String,
    },
    /// `g{n}/{rendition}/{chunk}.mp4`
    Chunk {
        /// Generation.
        generation: u32,
        /// Rendition.
        rendition: String,
        /// Chunk index.
        chunk: u32,
    },
    /// `g{n}/{name}.jpg`
    Still {
        /// Generation.
        generation: u32,
        /// Name.
        name: String,
    },
}

/// Takes a path apart; nothing when it names nothing.
pub fn wanted(path: &str) -> Option<Wanted> {
    let number = |text: &str, prefix: char| -> Option<u32> {
        let digits = text.strip_prefix(prefix)?;
        let number: u32 = digits.parse().ok()?;
        (number.to_string() == digits).then_some(number)
    };
    let plain = |name: &str| is_plain_name(name).then(|| name.to_owned());
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [hls::INDEX] => Some(Wanted::Index),
        [of, file] => {
            if let Some(revision) = number(of, 'r') {
                // The index has one address: what it names is relative to that.
                plain(file.strip_suffix(".m3u8")?).filter(|_| *file != hls::INDEX)?;
                return Some(Wanted::Finished { revision, file: (*file).to_owned() });
            }
            let generation = number(of, 'g')?;
            match file.strip_suffix(".m3u8") {
                Some(rendition) => Some(Wanted::Growing { generation, rendition: plain(rendition)? }),
                None => Some(Wanted::Still { generation, name: plain(file.strip_suffix(".jpg")?)? }),
            }
        }
        [of, rendition, file] => {
            let chunk = file.strip_suffix(".mp4")?;
            let chunk = number(&format!("c{chunk}"), 'c')?;
            Some(Wanted::Chunk { generation: number(of, 'g')?, rendition: plain(rendition)?, chunk })
        }
        _ => None,
    }
}

fn nothing() -> Refusal {
    Code::PlaybackNotFound.into()
}

/// `GET /play/{playback}/{path}`
pub(super) async fn serve(
    State(reads): State<Arc<Reads>>,
    Path((playback, path)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let playback: PlaybackId = playback.parse().map_err(|_| nothing())?;
    let play = reads.shared.read(move |view| view.play(&playback)).await?.ok_or_else(nothing)?;
    if play.deleted {
        return Err(Problem::new(Code::AssetDeleted).with("asset", &play.asset).into());
    }
    let head = play.head.ok_or_else(nothing)?;
    let request = Request { reads: &reads, play: &play, method, headers };
    match wanted(&path).ok_or_else(nothing)? {
        Wanted::Index => match head {
            Head::Growing { generation } => request.growing(generation, None).await,
            Head::Finished { revision, .. } => request.finished(revision, hls::INDEX, ASK).await,
        },
        Wanted::Growing { generation, rendition } => request.growing(generation, Some(rendition)).await,
        Wanted::Finished { revision, file } => request.finished(revision, &file, FOR_EVER).await,
        Wanted::Chunk { generation, rendition, chunk } => {
            let (tenant, asset) = (play.tenant.clone(), play.asset.clone());
            request.object(generation, Key::Chunk { tenant, asset, generation, rendition, chunk }).await
        }
        Wanted::Still { generation, name } => {
            let (tenant, asset) = (play.tenant.clone(), play.asset.clone());
            request.object(generation, Key::Still { tenant, asset, generation, name }).await
        }
    }
}

/// A request of a player, and what its playback id plays.
struct Request<'a> {
    reads: &'a Reads,
    play: &'a Play,
    method: Method,
    headers: HeaderMap,
}

impl Request<'_> {
    fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A growing playlist: of a rendition, or the multivariant one.
    async fn growing(&self, generation: u32, rendition: Option<String>) -> Result<Response, Refusal> {
        if !self.play.opened.contains(&generation) {
            return Err(nothing());
        }
        let (tenant, asset) = (self.play.tenant.clone(), self.play.asset.clone());
        let now = self.reads.deps.clock.now();
        let render = move |view: &crate::view::View| {
            let row = view.row(&tenant, &asset)?;
            let it = row.as_ref().and_then(|row| row.asset.generations.get(&generation));
            Ok(it.and_then(|it| match &rendition {
                Some(rendition) => growing::media(generation, it, rendition, now),
                None => growing::index(generation, it),
            }))
        };
        let text = self.reads.shared.read(render).await?.ok_or_else(nothing)?;
        Ok(self.playlist(Bytes::from(text), ASK))
    }

    /// A finished playlist as the publisher wrote it.
    async fn finished(&self, revision: u32, file: &str, cache: &str) -> Result<Response, Refusal> {
        let published = self.play.revisions.get(&revision).ok_or_else(nothing)?;
        if !published.files.iter().any(|known| known == file) {
            return Err(nothing());
        }
        let object = Object::Manifest { revision, attempt: published.attempt.clone(), file: file.to_owned() };
        let key = ObjectKey { tenant: self.play.tenant.clone(), asset: self.play.asset.clone(), object };
        let store = &self.reads.deps.store;
        let length = store.head(&key).await.map_err(|error| failed(&key, &error))?;
        let length = length.filter(|length| *length <= PLAYLIST_LIMIT);
        let Some(length) = length else {
            tracing::error!(asset.id = %self.play.asset, "the published playlist {key} is missing or too large");
            return Err(Code::Internal.into());
        };
        let text = store.get_range(&key, 0..length).await.map_err(|error| failed(&key, &error))?;
        Ok(self.playlist(text, cache))
    }

    fn playlist(&self, text: Bytes, cache: &str) -> Response {
        let etag = etag(&Sha256::of(&text));
        let builder = Builder::builder().header(header::ETAG, &etag).header(header::CACHE_CONTROL, cache);
        if is_known(self.header(header::IF_NONE_MATCH), &etag) {
            return finish(builder.status(StatusCode::NOT_MODIFIED), Body::empty());
        }
        let builder = builder.header(header::CONTENT_TYPE, hls::CONTENT_TYPE);
        finish(builder, Body::from(text))
    }

    /// An object by the row that says where it lies.
    async fn object(&self, generation: u32, row: Key) -> Result<Response, Refusal> {
        if !self.play.shows(generation) {
            return Err(nothing());
        }
        let stored = self.reads.shared.read(move |view| view.stored(row)).await?.ok_or_else(nothing)?;
        let etag = etag(&stored.sha256);
        let builder = Builder::builder()
            .header(header::ETAG, &etag)
            .header(header::CACHE_CONTROL, FOR_EVER)
            .header(header::ACCEPT_RANGES, "bytes");
        if is_known(self.header(header::IF_NONE_MATCH), &etag) {
            return Ok(finish(builder.status(StatusCode::NOT_MODIFIED), Body::empty()));
        }
        let wanted = self.header(header::RANGE).filter(|_| range_stands(self.header(header::IF_RANGE), &etag));
        let (status, range) = match part(wanted, stored.length) {
            Part::Whole => (StatusCode::OK, 0..stored.length),
            Part::Bytes(range) => (StatusCode::PARTIAL_CONTENT, range),
            Part::Outside => return Err(outside(wanted.unwrap_or_default(), stored.length)),
        };
        let mut builder = builder.status(status).header(header::CONTENT_TYPE, &stored.content_type);
        builder = builder.header(header::CONTENT_LENGTH, range.end - range.start);
        if status == StatusCode::PARTIAL_CONTENT {
            let (first, last) = (range.start, range.end.saturating_sub(1));
            builder = builder.header(header::CONTENT_RANGE, format!("bytes {first}-{last}/{}", stored.length));
        }
        if self.method == Method::HEAD {
            return Ok(finish(builder, Body::empty()));
        }
        Ok(finish(builder, body(&self.reads.deps.store, &stored, range).await?))
    }
}

/// The bytes of a range as the client takes them. The first block is waited for, so that what is wrong from the start is
/// an answer and not a broken one.
async fn body(store: &Store, stored: &Stored, range: Range<u64>) -> Result<Body, Refusal> {
    if range.is_empty() {
        return Ok(Body::empty());
    }
    let key: ObjectKey = stored.key.parse().map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "a receipt names an object that can't be");
        Refusal::from(Code::Internal)
    })?;
    let mut stream = store.stream(&key, range).await.map_err(|error| failed(&key, &error))?;
    let first = match stream.next().await {
        Some(Ok(first)) => first,
        Some(Err(error)) => return Err(failed(&key, &error)),
        None => Bytes::new(),
    };
    let rest = stream.inspect(move |block| {
        if let Err(error) = block {
            tracing::error!(error = error as &dyn std::error::Error, "sending {key} broke off");
        }
    });
    let first = futures_util::stream::once(async { Ok::<_, StoreError>(first) });
    Ok(Body::from_stream(first.chain(rest)))
}

fn etag(sha256: &Sha256) -> String {
    format!("\"{}\"", &sha256.to_string()[..32])
}

fn outside(range: &str, size: u64) -> Refusal {
    let range: String = range.chars().take(80).collect();
    let problem = Problem::new(Code::RangeNotSatisfiable).with("value", range).with("size", size);
    Refusal::from(problem).header(header::CONTENT_RANGE, format!("bytes */{size}"))
}

fn failed(key: &ObjectKey, error: &StoreError) -> Refusal {
    tracing::error!(error = error as &dyn std::error::Error, "{key} can't be read");
    error.code().into()
}

/// A response from parts that are all ours.
fn finish(builder: axum::http::response::Builder, body: Body) -> Response {
    builder.body(body).unwrap_or_else(|_| Refusal::from(Code::Internal).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_one_thing_and_has_one_spelling() {
        let v720 = || "v720".to_owned();
        for (path, expected) in [
            (hls::INDEX.to_owned(), Some(Wanted::Index)),
            (hls::growing_path(1, "v720"), Some(Wanted::Growing { generation: 1, rendition: v720() })),
            (hls::finished_path(2, "v720"), Some(Wanted::Finished { revision: 2, file: "v720.m3u8".to_owned() })),
            (hls::chunk_path(1, "v720", 12), Some(Wanted::Chunk { generation: 1, rendition: v720(), chunk: 12 })),
            (crate::card::still_path(1, "poster"), Some(Wanted::Still { generation: 1, name: "poster".to_owned() })),
        ] {
            assert_eq!(wanted(&path), expected, "{path}");
        }
        for path in [
            "",
            "/",
            "index.m3u8/",
            "g1",
            "g01/v720.m3u8",
            "g1/V720.m3u8",
            "g1/../g1/v720.m3u8",
            "g1/v720/01.mp4",
            "g1/v720/-1.mp4",
            "g1/v720/1.mp4.mp4",
            "r1/v720.mp4",
            "r1/index.m3u8",
            "r1/.m3u8",
            "g1/v720/99999999999.mp4",
            "x1/v720.m3u8",
        ] {
            assert_eq!(wanted(path), None, "{path}");
        }
    }
}
