//! The values of the view. JSON, so that they can be read by eye and grow fields; every one is a fold of facts and texts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use spool_proto::asset::{At, Generation, Publication};
use spool_proto::event::{Body, Fact, Published};
use spool_proto::id::{EventId, PlaybackId, Sha256, TextToken};
use spool_proto::text::Text;
use spool_proto::{Asset, AssetId, Status, TenantId, Timestamp};

use super::keys::{Key, Place};
use crate::short;

/// The fold of an asset, and its text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The fold.
    pub asset: Asset,
    /// What people typed, under the token that the fold names.
    pub text: Option<Typed>,
}

/// A text and its token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Typed {
    /// The token.
    pub token: TextToken,
    /// The text.
    pub text: Text,
}

/// What a playback id plays: all that a request of a player needs, without the fold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Play {
    /// Whose.
    pub tenant: TenantId,
    /// Of which asset.
    pub asset: AssetId,
    /// Was the asset deleted?
    pub deleted: bool,
    /// What a player gets now; nothing before it is opened and once it is withdrawn.
    pub head: Option<Head>,
    /// Generations that were opened at any time: their growing lists and objects stay.
    pub opened: Vec<u32>,
    /// Publish revisions with finished lists.
    pub revisions: BTreeMap<u32, Published>,
}

/// What stands at the head of publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// The growing lists of a generation.
    Growing {
        /// Which.
        generation: u32,
    },
    /// The finished lists of a publish revision.
    Finished {
        /// Which.
        revision: u32,
        /// Its generation.
        generation: u32,
    },
}

impl Play {
    /// The generation at the head.
    pub fn generation(&self) -> Option<u32> {
        match self.head? {
            Head::Growing { generation } | Head::Finished { generation, .. } => Some(generation),
        }
    }

    /// Was this generation ever to be watched, and may it still be?
    pub fn shows(&self, generation: u32) -> bool {
        let published = || self.revisions.values().any(|published| published.generation == generation);
        self.head.is_some() && (self.opened.contains(&generation) || published())
    }
}

/// A stored object that players ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Key of the object.
    pub key: String,
    /// Bytes.
    pub length: u64,
    /// SHA-256; its `ETag`.
    pub sha256: Sha256,
    /// Media type.
    pub content_type: String,
}

/// A fact in short, and what the asset was after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Sequence on the log.
    pub sequence: u64,
    /// Hash of its subject.
    pub event_id: EventId,
    /// Time of the stream.
    pub at: Timestamp,
    /// Kind, also of facts that this version does not know.
    pub kind: String,
    /// Slot.
    pub slot: String,
    /// Version of the asset after it.
    pub version: u64,
    /// State of the asset after it.
    pub status: Status,
    /// Share of the encode that was stored after it.
    pub percent: u32,
    /// Id of the message that led here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Opaque key id of who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// What it says, without receipts and without secrets.
    pub data: serde_json::Value,
}

impl Entry {
    /// The short form of `fact`; `after` is the asset with it folded.
    pub fn of(fact: &Fact, after: &Asset) -> Self {
        let (kind, data) = match &fact.body {
            Body::Known(event) => (event.kind().name().to_owned(), short::data(event)),
            Body::Unknown { kind } => (kind.clone(), serde_json::Value::Null),
        };
        Self {
            sequence: fact.sequence,
            event_id: fact.id.clone(),
            at: fact.at,
            kind,
            slot: fact.slot.as_ref().map_or_else(Clone::clone, ToString::to_string),
            version: after.version,
            status: after.status(),
            percent: percent(after),
            cause: fact.cause.clone(),
            actor: fact.actor.clone(),
            data,
        }
    }
}

/// Share of the encode that is stored, 0 to 100.
pub fn percent(asset: &Asset) -> u32 {
    match asset.status() {
        Status::Ready => 100,
        Status::Encoding | Status::Playable | Status::Failed | Status::Deleted => {
            asset.generation().map_or(0, Generation::percent)
        }
        Status::Uploading | Status::Checking | Status::Rejected | Status::Abandoned => 0,
    }
}

/// What the asset's playback id plays; nothing before it is registered.
pub fn play(asset: &Asset) -> Option<(PlaybackId, Play)> {
    let playback = asset.registered.as_ref()?.it.playback.clone();
    let mut opened = Vec::new();
    let mut revisions = BTreeMap::new();
    let mut head = None;
    for (revision, publication) in &asset.publications {
        head = match &publication.it {
            Publication::Opened { generation } => {
                opened.push(*generation);
                Some(Head::Growing { generation: *generation })
            }
            Publication::Published(published) => {
                revisions.insert(*revision, published.clone());
                Some(Head::Finished { revision: *revision, generation: published.generation })
            }
            Publication::Withdrawn { .. } => None,
        };
    }
    let deleted = asset.deleted.is_some();
    Some((playback, Play { tenant: asset.tenant.clone(), asset: asset.id.clone(), deleted, head, opened, revisions }))
}

/// The places of the asset in the lists.
pub fn places(asset: &Asset) -> Vec<Key> {
    let place = || Place { created_at: asset.created_at, asset: asset.id.clone() };
    let status = asset.status();
    let mut keys = vec![Key::ByStatus(asset.tenant.clone(), status, place())];
    if status != Status::Deleted {
        keys.push(Key::Listed(asset.tenant.clone(), place()));
    }
    keys
}

/// Every object of the asset that a player may ask for by its place; none once it is deleted. Without those that `other` has
/// from the same facts: of two folds of an asset only what differs is to be compared.
pub fn objects(asset: &Asset, other: Option<&Asset>) -> BTreeMap<Key, Stored> {
    if asset.deleted.is_some() {
        return BTreeMap::new();
    }
    let other = other.filter(|other| other.deleted.is_none());
    let has = |number: &u32| other.and_then(|other| other.generations.get(number));
    asset.generations.iter().flat_map(|(number, it)| objects_of(asset, *number, it, has(number))).collect()
}

/// Does the other one hold the same fact there? A slot holds one fact for ever.
fn is_same<K: Ord, T>(other: Option<&BTreeMap<K, At<T>>>, key: &K, fact: &At<T>) -> bool {
    other.and_then(|other| other.get(key)).is_some_and(|other| other.sequence == fact.sequence)
}

fn objects_of(asset: &Asset, number: u32, generation: &Generation, other: Option<&Generation>) -> Vec<(Key, Stored)> {
    let chunk_key = |rendition: &str, chunk: u32| Key::Chunk {
        tenant: asset.tenant.clone(),
        asset: asset.id.clone(),
        generation: number,
        rendition: rendition.to_owned(),
        chunk,
    };
    let stored = |key: &str, length: u64, sha256: Sha256, content_type: &str| Stored {
        key: key.to_owned(),
        length,
        sha256,
        content_type: content_type.to_owned(),
    };
    let other_video = other.map(|other| &other.video);
    let video = generation.video.iter().filter(|(chunk, it)| !is_same(other_video, chunk, it));
    let video = video.flat_map(|(chunk, it)| it.it.receipts.iter().map(move |r| (*chunk, r)));
    let video = video.map(|(chunk, r)| (chunk_key(&r.rendition, chunk), stored(&r.key, r.length, r.sha256, VIDEO)));
    let audio = generation.audio.iter().flat_map(|(track, chunks)| {
        let other_track = other.and_then(|other| other.audio.get(track));
        let new = chunks.iter().filter(move |(chunk, it)| !is_same(other_track, chunk, it));
        new.map(|(chunk, it)| (*chunk, &it.it.receipt))
    });
    let audio = audio.map(|(chunk, r)| (chunk_key(&r.rendition, chunk), stored(&r.key, r.length, r.sha256, AUDIO)));
    let other_stills = other.map(|other| &other.stills);
    let stills = generation.stills.iter().filter(|(name, it)| !is_same(other_stills, name, it));
    let stills = stills.map(|(name, it)| {
        let r = &it.it.receipt;
        let key = Key::Still {
            tenant: asset.tenant.clone(),
            asset: asset.id.clone(),
            generation: number,
            name: name.clone(),
        };
        (key, stored(&r.key, r.length, r.sha256, &r.content_type))
    });
    video.chain(audio).chain(stills).collect()
}

/// Content type of a chunk of the picture.
const VIDEO: &str = "video/mp4";
/// Content type of a chunk of the sound.
const AUDIO: &str = "audio/mp4";
