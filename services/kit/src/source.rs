//! Reading a source: its stored pieces as one row of bytes.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use spool_proto::key::{self, Key};
use spool_proto::media::SourceRef;
use spool_proto::{AssetId, TenantId};

use crate::store::{Store, StoreError};

/// Reads a source by offset. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SourceReader {
    store: Store,
    pieces: Arc<[(Key, u64)]>,
    piece_bytes: u64,
    size_bytes: u64,
}

impl SourceReader {
    /// A reader of `source`.
    pub fn new(store: Store, tenant: &TenantId, asset: &AssetId, source: &SourceRef) -> Self {
        let pieces = key::pieces(tenant, asset, source).into();
        Self { store, pieces, piece_bytes: source.piece_bytes.max(1), size_bytes: source.size_bytes }
    }

    /// Size of the whole.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The parts of pieces that `range` covers; the range is cut off at the end of the source.
    fn spans(&self, range: Range<u64>) -> Vec<(usize, Range<u64>)> {
        let end = range.end.min(self.size_bytes);
        let mut spans = Vec::new();
        let mut at = range.start;
        while at < end {
            let piece = at / self.piece_bytes;
            let start = piece * self.piece_bytes;
            let stop = end.min(start + self.piece_bytes);
            spans.push((piece as usize, at - start..stop - start));
            at = stop;
        }
        spans
    }

    fn key(&self, piece: usize) -> Result<&Key, StoreError> {
        let missing = || StoreError::Missing { key: format!("piece {piece}") };
        self.pieces.get(piece).map(|(key, _)| key).ok_or_else(missing)
    }

    /// Up to `length` bytes from `offset`: all of them, or fewer where the source ends.
    ///
    /// # Errors
    /// When a piece is missing or short, or the store does not answer.
    pub async fn read_at(&self, offset: u64, length: u64) -> Result<Bytes, StoreError> {
        let mut spans = self.spans(offset..offset.saturating_add(length));
        if spans.len() <= 1 {
            let Some((piece, range)) = spans.pop() else { return Ok(Bytes::new()) };
            return self.store.get_range(self.key(piece)?, range).await;
        }
        let mut out = BytesMut::new();
        for (piece, range) in spans {
            out.extend_from_slice(&self.store.get_range(self.key(piece)?, range).await?);
        }
        Ok(out.freeze())
    }

    /// The bytes of `range` as they come.
    pub fn stream(&self, range: Range<u64>) -> BoxStream<'static, Result<Bytes, StoreError>> {
        let reader = self.clone();
        let spans = self.spans(range);
        stream::iter(spans)
            .then(move |(piece, range)| {
                let reader = reader.clone();
                async move { reader.store.stream(reader.key(piece)?, range).await }
            })
            .try_flatten()
            .boxed()
    }
}
