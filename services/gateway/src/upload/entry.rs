//! What is known of a running upload: a value and the changes it admits. Pure; every change is written by compare and set.
//!
//! The rule behind it: only the holder of the highest epoch can change the entry, every object's key ends in the epoch of
//! its writer, and an offset counts only once the bytes before it are stored. So a writer that wakes up late can leave an
//! orphan and nothing else.

use serde::{Deserialize, Serialize};
use spool_proto::event::{Door, ProfileRef};
use spool_proto::id::{PlaybackId, Sha256, TextToken, UploadId};
use spool_proto::key::{Key, Object};
use spool_proto::media::{Run, SourceRef};
use spool_proto::{AssetId, Problem, TenantId, Timestamp};

use super::digest::{Running, StateError};

/// Fragments of one piece before they are merged into one, so that an entry stays small whatever the client does.
pub(crate) const MAX_FRAGMENTS: u64 = 256;

/// A value in the bucket of uploads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum Record {
    /// An upload, under its id.
    Upload(Box<Entry>),
    /// Which upload an asset with a natural key has, under `of.{asset}`.
    Claim(Claim),
    /// What was found of a deleted asset before it was swept, under `purge.{asset}`.
    Purge(Purge),
}

/// An asset's id is taken by an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// The upload.
    pub(crate) upload: UploadId,
    /// Hash of the request, to tell a repeat from another request under the same key.
    pub(crate) fingerprint: String,
    /// When it was made.
    pub(crate) at: Timestamp,
}

/// Objects and bytes counted before they were deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Purge {
    /// Objects.
    pub(crate) objects: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

/// Parts of the open piece that are stored by themselves, one behind the other: as many of one length, by as many epochs in a
/// row. A client that sends equal parts makes one such line of them, which keeps what is written for each part small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fragments(
    /// Length of each in bytes.
    pub(crate) u64,
    /// Epoch of the first one's writer.
    pub(crate) u64,
    /// How many.
    pub(crate) u64,
);

/// The file that an ingest copies, as it was when copying began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileMark {
    /// Inode.
    pub(crate) inode: u64,
    /// Size.
    pub(crate) size_bytes: u64,
    /// Time of its last change.
    pub(crate) modified_ns: i64,
}

/// Where an upload stands between its first byte and its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Bytes may come.
    Open,
    /// It was decided that it ends without a source; whoever meets it states that.
    Closing(Problem),
    /// The outcome stands on the log.
    Ended {
        /// Why there is no source; nothing when there is one.
        problem: Option<Problem>,
        /// When this was noted.
        at: Timestamp,
    },
}

/// A running upload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Whose.
    pub(crate) tenant: TenantId,
    /// Its asset.
    pub(crate) asset: AssetId,
    /// The way it comes in.
    pub(crate) door: Door,
    /// What to make of it.
    pub(crate) profile: ProfileRef,
    /// Public name of the asset for players.
    pub(crate) playback: PlaybackId,
    /// Where its text goes.
    pub(crate) text: TextToken,
    /// Announced size.
    pub(crate) length: u64,
    /// Announced digest.
    pub sha256: Option<Sha256>,
    /// `Upload-Metadata` as it came; HEAD gives it back.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) metadata: String,
    /// The file it copies, for a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<FileMark>,
    /// Is there a [`Claim`] to remove with it?
    pub(crate) claimed: bool,
    /// Size of a piece.
    pub(crate) piece_bytes: u64,
    /// Raised by each request that takes it.
    pub(crate) epoch: u64,
    /// Bytes that are stored.
    pub(crate) offset: u64,
    /// Full pieces.
    pub(crate) runs: Vec<Run>,
    /// What is stored of the open piece.
    pub(crate) fragments: Vec<Fragments>,
    /// State of the digest at `offset`.
    pub(crate) digest: String,
    /// When it was created.
    pub(crate) created_at: Timestamp,
    /// When bytes last came.
    pub(crate) moved_at: Timestamp,
    /// Where it stands.
    pub(crate) phase: Phase,
}

impl Entry {
    /// Is every byte stored?
    pub(crate) fn is_full(&self) -> bool {
        self.offset == self.length
    }

    /// Index of the piece that is open.
    pub(crate) fn open_piece(&self) -> u32 {
        u32::try_from(self.offset / self.piece_bytes).unwrap_or(u32::MAX)
    }

    /// Bytes of the open piece that are stored as fragments.
    pub(crate) fn in_fragments(&self) -> u64 {
        self.fragments.iter().map(|Fragments(length, _, count)| length * count).sum()
    }

    /// Objects that the open piece is in.
    pub(crate) fn fragment_count(&self) -> u64 {
        self.fragments.iter().map(|fragments| fragments.2).sum()
    }

    /// Bytes that are missing until the open piece is full: at most until the end of the upload.
    pub(crate) fn room(&self) -> u64 {
        let end = (u64::from(self.open_piece()) + 1) * self.piece_bytes;
        end.min(self.length) - self.offset
    }

    fn key(&self, object: Object) -> Key {
        Key { tenant: self.tenant.clone(), asset: self.asset.clone(), object }
    }

    /// Key of the open piece, once full, as this epoch writes it.
    pub(crate) fn piece_key(&self, upload: &UploadId) -> Key {
        self.key(Object::Piece { upload: upload.clone(), piece: self.open_piece(), epoch: self.epoch })
    }

    /// Key of a fragment that goes on where the stored bytes end, as this epoch writes it.
    pub(crate) fn next_fragment_key(&self, upload: &UploadId) -> Key {
        self.fragment_key(upload, self.in_fragments(), self.epoch)
    }

    /// Key of what several fragments are merged into, as this epoch writes it. It starts where the piece does; a fragment of
    /// this epoch never does, unless it was the first of its piece.
    pub(crate) fn fragment_key(&self, upload: &UploadId, offset: u64, epoch: u64) -> Key {
        // Fragments of a piece that is full by now lie before `offset`, so the piece is the one of their first byte.
        let start = self.offset - self.in_fragments();
        let piece = u32::try_from(start / self.piece_bytes).unwrap_or(u32::MAX);
        self.key(Object::Fragment { upload: upload.clone(), piece, offset, epoch })
    }

    /// Keys and lengths of the fragments of the open piece, in order.
    pub(crate) fn fragment_keys(&self, upload: &UploadId) -> Vec<(Key, u64)> {
        let mut offset = 0;
        let mut keys = Vec::new();
        for Fragments(length, first, count) in &self.fragments {
            for epoch in *first..first + count {
                keys.push((self.fragment_key(upload, offset, epoch), *length));
                offset += length;
            }
        }
        keys
    }

    /// Taken by a new request: from here on the one before it can commit nothing more.
    #[must_use]
    pub(crate) fn taken(&self) -> Self {
        Self { epoch: self.epoch + 1, ..self.clone() }
    }

    /// The open piece was completed with `added` bytes and is stored by this epoch.
    #[must_use]
    pub(crate) fn with_piece(&self, added: u64, digest: &Running, now: Timestamp) -> Self {
        let mut next = self.moved(added, digest, now);
        let piece = self.open_piece();
        match next.runs.last_mut() {
            Some(run) if run.epoch == self.epoch && run.last + 1 == piece => run.last = piece,
            Some(_) | None => next.runs.push(Run { first: piece, last: piece, epoch: self.epoch }),
        }
        next.fragments.clear();
        next
    }

    /// `added` bytes of the open piece are stored as a fragment by this epoch.
    #[must_use]
    pub(crate) fn with_fragment(&self, added: u64, digest: &Running, now: Timestamp) -> Self {
        let mut next = self.moved(added, digest, now);
        match next.fragments.last_mut() {
            Some(last) if last.0 == added && last.1 + last.2 == self.epoch => last.2 += 1,
            Some(_) | None => next.fragments.push(Fragments(added, self.epoch, 1)),
        }
        next
    }

    /// All fragments of the open piece with `added` more bytes are stored as one by this epoch.
    #[must_use]
    pub(crate) fn with_merged(&self, added: u64, digest: &Running, now: Timestamp) -> Self {
        let mut next = self.moved(added, digest, now);
        next.fragments = vec![Fragments(self.in_fragments() + added, self.epoch, 1)];
        next
    }

    fn moved(&self, added: u64, digest: &Running, now: Timestamp) -> Self {
        Self { offset: self.offset + added, digest: digest.state(), moved_at: now, ..self.clone() }
    }

    /// Bytes came for the open piece, and wait for more before they are stored.
    #[must_use]
    pub(crate) fn awaited(&self, now: Timestamp) -> Self {
        Self { moved_at: now, ..self.clone() }
    }

    /// It was decided to end it: the epoch is raised, so that no running request commits after this.
    #[must_use]
    pub(crate) fn closing(&self, problem: Problem) -> Self {
        Self { epoch: self.epoch + 1, phase: Phase::Closing(problem), ..self.clone() }
    }

    /// The outcome stands; what only a running upload needs goes.
    #[must_use]
    pub(crate) fn ended(&self, problem: Option<Problem>, now: Timestamp) -> Self {
        let phase = Phase::Ended { problem, at: now };
        Self { phase, fragments: Vec::new(), digest: String::new(), ..self.clone() }
    }

    /// The digest so far.
    ///
    /// # Errors
    /// When the entry is damaged.
    pub(crate) fn running_digest(&self) -> Result<Running, StateError> {
        Running::resume(&self.digest)
    }

    /// The source that a full upload is.
    pub(crate) fn source(&self, upload: &UploadId, sha256: Sha256) -> SourceRef {
        SourceRef {
            upload: upload.clone(),
            piece_bytes: self.piece_bytes,
            size_bytes: self.length,
            sha256,
            runs: self.runs.clone(),
        }
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
