//! Facts: what happened, in the past tense, written once.
//!
//! The enums here are closed and matched without `_`, so a new fact stops the build wherever a decision is owed. No fact
//! holds personal data: what people typed lies on `SPOOL_TEXTS` and is only named here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{AssetId, EventId, PlaybackId, Sha256, TenantId, TextToken, UploadId};
use crate::media::{Plan, Receipt, SourceFacts, SourceRef, StillReceipt};
use crate::problem::Code;
use crate::slot::Slot;
use crate::time::Timestamp;

/// A problem as it stands in facts and answers: a code and typed values; sentences are made from it when it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What went wrong.
    pub code: Code,
    /// The values that the sentence names (sizes, codecs, offsets), never personal data.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
}

impl Problem {
    /// A problem without values.
    pub fn new(code: Code) -> Self {
        Self { code, params: BTreeMap::new() }
    }

    /// The same problem with a value added.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.params.insert(name.to_owned(), value.to_string());
        self
    }
}

/// The way an asset came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// A resumable upload (tus 1.0.0).
    Upload,
    /// `POST /v1/assets` with a path under an allowed root.
    Path,
    /// A message on `spool.ingest.{tenant}`.
    Ingest,
}

impl Door {
    /// The name used in natural keys, JSON and logs.
    pub fn name(self) -> &'static str {
        match self {
            Door::Upload => "upload",
            Door::Path => "path",
            Door::Ingest => "ingest",
        }
    }
}

/// A profile by name and version; what it makes is fixed for ever by the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileRef {
    /// Name: `standard`.
    pub name: String,
    /// Version, from 1.
    pub version: u32,
}

/// An asset exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetRegistered {
    /// How it came in.
    pub door: Door,
    /// What to make of it.
    pub profile: ProfileRef,
    /// Its public name for players.
    pub playback: PlaybackId,
    /// The upload that brings its bytes.
    pub upload: UploadId,
    /// Announced size, if it was.
    pub size_bytes: Option<u64>,
    /// Announced digest, if it was; checked at the end.
    pub sha256: Option<Sha256>,
}

/// Every byte of the source is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStored {
    /// Where it lies.
    pub source: SourceRef,
}

/// The upload ended without a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadAbandoned {
    /// Why: expired, cancelled, digest mismatch, source unreadable, …
    pub problem: Problem,
    /// Bytes that had arrived.
    pub received_bytes: u64,
}

/// An order was given up after its last attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobGivenUp {
    /// Why, as far as known.
    pub problem: Problem,
    /// Deliveries that were made.
    pub attempts: u32,
}

/// The source can be encoded; this is what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceAccepted {
    /// What inspecting found.
    pub facts: SourceFacts,
}

/// The source can't be encoded, and a retry would not change that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRejected {
    /// Why.
    pub problem: Problem,
}

/// Inspecting did not come to an end, which says nothing about the source; a retry may help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckFailed {
    /// Why.
    pub problem: Problem,
    /// Orders given up.
    pub attempts: u32,
}

/// What this generation is to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodePlanned {
    /// The ladder, the grid, the chunks.
    pub plan: Plan,
}

/// One chunk of the picture is stored in every rendition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoStored {
    /// One receipt a rung, in the ladder's order.
    pub receipts: Vec<Receipt>,
    /// Wall time of making it, in milliseconds.
    pub encode_ms: u64,
    /// Time in milliseconds in which the source had no picture though it should have had one: damage inside the file.
    #[serde(default, skip_serializing_if = "crate::media::is_zero")]
    pub missing_ms: u64,
}

/// One chunk of a sound track is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioStored {
    /// Its receipt.
    pub receipt: Receipt,
    /// Wall time of making it, in milliseconds.
    pub encode_ms: u64,
    /// Time in milliseconds in which the source had no sound between two sounds.
    #[serde(default, skip_serializing_if = "crate::media::is_zero")]
    pub missing_ms: u64,
}

/// A still picture is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StillStored {
    /// Its receipt.
    pub receipt: StillReceipt,
}

/// Everything that was planned is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenditionsCompleted {
    /// Objects of the generation.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// This generation will not be completed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodeFailed {
    /// Why.
    pub problem: Problem,
    /// Orders given up.
    pub attempts: u32,
}

/// The asset can be watched while it still grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Which generation plays.
    pub generation: u32,
}

/// The finished manifests are in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Which generation plays.
    pub generation: u32,
    /// Attempt token in the keys of the manifests (`play/{tenant}/{asset}/r{n}.{attempt}/…`).
    pub attempt: crate::id::AttemptId,
    /// Names of the manifest files under that prefix, the multivariant playlist (`index.m3u8`) first.
    pub files: Vec<String>,
}

/// The asset is not to be watched any more, though it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawn {
    /// Which generation played.
    pub generation: u32,
}

/// What people typed about the asset is (newly) known; it lies on `SPOOL_TEXTS` under this token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// Names the text.
    pub token: TextToken,
}

/// Every text up to this revision is erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextErased {
    /// Texts that were purged.
    pub texts: u64,
}

/// What a retry starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryOf {
    /// A new verdict round, after `rejected` or a failed check.
    Verdict {
        /// The round that is now asked for.
        round: u32,
    },
    /// A new generation, after a failed encode.
    Generation {
        /// The generation that is now asked for.
        generation: u32,
    },
}

/// Somebody asked to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryRequested {
    /// What is tried again.
    pub of: RetryOf,
}

/// Somebody asked to remove the asset; hidden from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetDeleted {}

/// Nothing of the asset is left in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectsPurged {
    /// Objects removed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

macro_rules! events {
    ($($kind:ident $name:literal $number:literal)*) => {
        /// The kind of a fact, without its body.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Kind { $(
            #[doc = concat!("`", $name, "`")]
            $kind,
        )* }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind),*];

            /// The past-tense fact; the envelope puts `spool.v1.` before it.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name,)* }
            }

            /// Its field number in the wire's union of facts.
            pub fn number(self) -> u32 {
                match self { $(Kind::$kind => $number,)* }
            }

            /// The kind of that name.
            pub fn from_name(name: &str) -> Option<Kind> {
                Kind::ALL.iter().copied().find(|kind| kind.name() == name)
            }
        }

        /// A fact's body.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "kind", content = "data")]
        pub enum Event { $(
            #[doc = concat!("`", $name, "`")]
            $kind($kind),
        )* }

        impl Event {
            /// Its kind.
            pub fn kind(&self) -> Kind {
                match self { $(Event::$kind(_) => Kind::$kind,)* }
            }
        }

        $(impl From<$kind> for Event {
            fn from(body: $kind) -> Event {
                Event::$kind(body)
            }
        })*
    };
}

// The numbers are the field numbers of the wire's `Fact` union: stored, so they never move.
events! {
    AssetRegistered "AssetRegistered" 1
    SourceStored "SourceStored" 2
    UploadAbandoned "UploadAbandoned" 3
    JobGivenUp "JobGivenUp" 4
    SourceAccepted "SourceAccepted" 5
    SourceRejected "SourceRejected" 6
    CheckFailed "CheckFailed" 7
    EncodePlanned "EncodePlanned" 8
    VideoStored "VideoStored" 9
    AudioStored "AudioStored" 10
    StillStored "StillStored" 11
    RenditionsCompleted "RenditionsCompleted" 12
    EncodeFailed "EncodeFailed" 13
    Opened "Opened" 14
    Published "Published" 15
    Withdrawn "Withdrawn" 16
    Described "Described" 17
    TextErased "TextErased" 18
    RetryRequested "RetryRequested" 19
    AssetDeleted "AssetDeleted" 20
    ObjectsPurged "ObjectsPurged" 21
}

/// A fact that somebody wants to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Whose.
    pub tenant: TenantId,
    /// About which asset.
    pub asset: AssetId,
    /// Where it shall stand; must admit the event's kind.
    pub slot: Slot,
    /// What happened.
    pub event: Event,
    /// Id of the message that led here.
    pub cause: Option<String>,
    /// Opaque key id of who asked for it.
    pub actor: Option<String>,
}

/// What a message in a slot says: a fact we know, or one that a newer Spool wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly every fact is a known one")]
pub enum Body {
    /// A fact of this version.
    Known(Event),
    /// A kind or schema this version does not know. It marks the asset and stops nothing.
    Unknown {
        /// The CloudEvents type the envelope names: `spool.v2.MoonLanded`.
        kind: String,
    },
}

/// A fact as it stands on the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Sequence in `SPOOL_EVENTS`.
    pub sequence: u64,
    /// When the stream took it.
    pub at: Timestamp,
    /// Whose.
    pub tenant: TenantId,
    /// About which asset.
    pub asset: AssetId,
    /// Where it stands; the text of it where this version does not know the slot.
    pub slot: Result<Slot, String>,
    /// Hash of its subject.
    pub id: EventId,
    /// Id of the message that led here.
    pub cause: Option<String>,
    /// Opaque key id of who asked for it.
    pub actor: Option<String>,
    /// What happened.
    pub body: Body,
}

impl Fact {
    /// The event, if this version knows it.
    pub fn event(&self) -> Option<&Event> {
        match &self.body {
            Body::Known(event) => Some(event),
            Body::Unknown { .. } => None,
        }
    }
}
