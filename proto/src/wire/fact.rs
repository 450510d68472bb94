//! Facts to the wire and back.

use super::pb;
use super::value::{Bad, Place, Wire, choice, message};
use crate::event::{
    AssetDeleted, AssetRegistered, AudioStored, CheckFailed, Described, Door, EncodeFailed, EncodePlanned, Event,
    JobGivenUp, ObjectsPurged, Opened, ProfileRef, Published, RenditionsCompleted, RetryOf, RetryRequested,
    SourceAccepted, SourceRejected, SourceStored, StillStored, TextErased, UploadAbandoned, VideoStored, Withdrawn,
};

choice! {
    Door { Upload, Path, Ingest }
}

message! {
    ProfileRef as ProfileRef { name, version }
    AssetRegistered as AssetRegistered { door, profile, playback, upload, size_bytes, sha256 }
    SourceStored as SourceStored { source }
    UploadAbandoned as UploadAbandoned { problem, received_bytes }
    JobGivenUp as JobGivenUp { problem, attempts }
    SourceAccepted as SourceAccepted { facts }
    SourceRejected as SourceRejected { problem }
    CheckFailed as CheckFailed { problem, attempts }
    EncodePlanned as EncodePlanned { plan }
    VideoStored as VideoStored { receipts, encode_ms, missing_ms }
    AudioStored as AudioStored { receipt, encode_ms, missing_ms }
    StillStored as StillStored { receipt }
    RenditionsCompleted as RenditionsCompleted { objects, bytes }
    EncodeFailed as EncodeFailed { problem, attempts }
    Opened as Opened { generation }
    Published as Published { generation, attempt, files }
    Withdrawn as Withdrawn { generation }
    Described as Described { token }
    TextErased as TextErased { texts }
    RetryRequested as RetryRequested { of }
    AssetDeleted as AssetDeleted {}
    ObjectsPurged as ObjectsPurged { objects, bytes }
}

impl Wire<Option<pb::retry_requested::Of>> for RetryOf {
    fn write(&self) -> Option<pb::retry_requested::Of> {
        Some(match self {
            RetryOf::Verdict { round } => pb::retry_requested::Of::VerdictRound(*round),
            RetryOf::Generation { generation } => pb::retry_requested::Of::Generation(*generation),
        })
    }
    fn read(wire: Option<pb::retry_requested::Of>, place: Place) -> Result<Self, Bad> {
        // A retry of something that a later version knows can't be told from none at all: the decoder drops it.
        Ok(match wire.ok_or_else(|| Bad::later(place, "nothing, or something"))? {
            pb::retry_requested::Of::VerdictRound(round) => RetryOf::Verdict { round },
            pb::retry_requested::Of::Generation(generation) => RetryOf::Generation { generation },
        })
    }
}

/// The union of the facts: one line a kind, named alike on both sides.
macro_rules! union {
    ($($kind:ident)*) => {
        impl Wire<pb::fact::Body> for Event {
            fn write(&self) -> pb::fact::Body {
                match self { $(Event::$kind(it) => pb::fact::Body::$kind(it.write()),)* }
            }
            fn read(wire: pb::fact::Body, place: Place) -> Result<Self, Bad> {
                Ok(match wire { $(pb::fact::Body::$kind(it) => Event::$kind(Wire::read(it, place)?),)* })
            }
        }
    };
}
union! {
    AssetRegistered SourceStored UploadAbandoned JobGivenUp SourceAccepted SourceRejected CheckFailed EncodePlanned
    VideoStored AudioStored StillStored RenditionsCompleted EncodeFailed Opened Published Withdrawn Described TextErased
    RetryRequested AssetDeleted ObjectsPurged
}
