//! What an operator may set.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use spool_kit::units::{Bytes, Span};
use spool_proto::TenantId;

/// Configuration of the gateway. Every key has a default; unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whose assets come in by HTTP.
    pub tenant: TenantId,
    /// Directories whose files may be taken in by path. None by default: then no path is allowed.
    pub roots: Vec<PathBuf>,
    /// Largest source.
    pub max_upload: Bytes,
    /// Uploads that clients may have open at the same time. Files that are copied in don't count.
    pub max_uploads: u64,
    /// Requests that may bring bytes at the same time in this process; each holds at most one piece in memory.
    pub max_transfers: u32,
    /// Of these, how many one client may have at the same time, so that it can't keep all others out.
    pub max_transfers_per_client: u32,
    /// Requests a second that one client may send in the long run; twice as many at once.
    pub requests_per_second: u32,
    /// Longest `Upload-Metadata` header.
    pub max_metadata: Bytes,
    /// Largest body of a command.
    pub max_body: Bytes,
    /// A request that brings bytes may be silent for so long.
    pub idle_timeout: Span,
    /// A request that brings fewer than `slow_bytes` while it is waited for it for so long is ended; what it brought is kept.
    pub slow_window: Span,
    /// Least bytes in a `slow_window`. Well below what the slowest mobile network brings.
    pub slow_bytes: Bytes,
    /// An upload to which nothing comes for so long is abandoned.
    pub upload_expiry: Span,
    /// So long after its end an upload still answers how it ended, for a client that lost the answer.
    pub keep_ended: Span,
    /// How often open uploads are looked at.
    pub sweep_every: Span,
    /// How often the whole store is looked through for objects that no fact names.
    pub orphans_every: Span,
    /// Younger objects are not even asked about. Age alone never lets one go, but for what a killed process left half
    /// written.
    pub orphan_age: Span,
    /// Longest time that a worker may still write after an order was taken from it: lease and its last request to the store.
    pub longest_lease: Span,
    /// Large files that are copied in at the same time in this process; each holds at most one piece in memory. Further
    /// ones wait. Small files (256 MiB) have two places of their own.
    pub ingest_at_once: u32,
    /// Size of a stored piece of a source. Bytes that a killed gateway loses are at most this many.
    pub piece: Bytes,
}

/// Least size of a piece. With smaller ones a source is more objects than bytes.
const PIECE_LEAST: Bytes = Bytes(64 << 10);
/// Greatest size of a piece: each request that brings bytes may hold one in memory, and a killed gateway loses one.
const PIECE_MOST: Bytes = Bytes::mib(256);

impl Config {
    /// What no type says.
    ///
    /// # Errors
    /// Which setting can't be, and what it can be, as a sentence.
    pub fn judge(&self) -> Result<(), String> {
        let (piece, least, most) = (self.piece, PIECE_LEAST, PIECE_MOST);
        if !(least.0..=most.0).contains(&piece.0) {
            return Err(format!("gateway.piece is {piece}; it can be {least} to {most}"));
        }
        let spans = [("idle_timeout", self.idle_timeout), ("upload_expiry", self.upload_expiry)];
        let spans = spans.map(|(name, span)| (name, span.0.is_zero()));
        let counts = [
            ("max_upload", self.max_upload.0),
            ("max_uploads", self.max_uploads),
            ("max_transfers", self.max_transfers.into()),
            ("max_transfers_per_client", self.max_transfers_per_client.into()),
            ("requests_per_second", self.requests_per_second.into()),
            ("max_body", self.max_body.0),
            ("ingest_at_once", self.ingest_at_once.into()),
        ];
        let zero = counts.map(|(name, count)| (name, count == 0)).into_iter().chain(spans).find(|(_, zero)| *zero);
        zero.map_or(Ok(()), |(name, _)| Err(format!("gateway.{name} is 0, so nothing could come in")))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tenant: TenantId::default_tenant(),
            roots: Vec::new(),
            max_upload: Bytes::gib(64),
            max_uploads: 1_000,
            max_transfers: 64,
            max_transfers_per_client: 32,
            requests_per_second: 500,
            max_metadata: Bytes(8 << 10),
            max_body: Bytes(64 << 10),
            idle_timeout: Span::secs(30),
            slow_window: Span::secs(60),
            slow_bytes: Bytes(64 << 10),
            upload_expiry: Span::secs(24 * 3600),
            keep_ended: Span::secs(24 * 3600),
            sweep_every: Span::secs(15),
            orphans_every: Span::secs(6 * 3600),
            orphan_age: Span::secs(3600),
            longest_lease: Span::secs(120),
            ingest_at_once: 4,
            piece: Bytes::mib(8),
        }
    }
}
