//! The words for people.

use serde::{Deserialize, Serialize};

/// A word for people. Derived from facts alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Bytes are coming in.
    Uploading,
    /// The source is being inspected.
    Checking,
    /// Renditions are being made; nothing can be watched yet.
    Encoding,
    /// It can be watched from the start while the rest is being made.
    Playable,
    /// Everything is made and published.
    Ready,
    /// The source can't be encoded.
    Rejected,
    /// Something broke; a retry may help.
    Failed,
    /// The upload ended without a source.
    Abandoned,
    /// Removed.
    Deleted,
}

impl Status {
    /// Every status.
    pub const ALL: [Status; 9] = [
        Status::Uploading,
        Status::Checking,
        Status::Encoding,
        Status::Playable,
        Status::Ready,
        Status::Rejected,
        Status::Failed,
        Status::Abandoned,
        Status::Deleted,
    ];

    /// The word in JSON and on screens.
    pub fn name(self) -> &'static str {
        match self {
            Status::Uploading => "uploading",
            Status::Checking => "checking",
            Status::Encoding => "encoding",
            Status::Playable => "playable",
            Status::Ready => "ready",
            Status::Rejected => "rejected",
            Status::Failed => "failed",
            Status::Abandoned => "abandoned",
            Status::Deleted => "deleted",
        }
    }

    /// Has it come to an end (until somebody asks for a retry)?
    pub fn is_settled(self) -> bool {
        match self {
            Status::Ready | Status::Rejected | Status::Failed | Status::Abandoned | Status::Deleted => true,
            Status::Uploading | Status::Checking | Status::Encoding | Status::Playable => false,
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
