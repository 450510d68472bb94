//! Objects as a child makes them: streamed into the store, one writer an object, and their receipts.
//!
//! Nothing a child says is trusted: names are those of the order or the attempt is over, and no object grows past what
//! the order can need.

use std::collections::BTreeMap;

use spool_kit::ids::Ids;
use spool_kit::store::{Store, StoreError, Writer};
use spool_proto::id::{AssetId, AttemptId, TenantId};
use spool_proto::key::{Key, Object};
use spool_proto::media::Receipt;

use crate::attempt::Delivery;
use crate::order::{Failure, FailureCode, Made};

/// Bytes an object may have beyond what its rates explain: headers, stills, and the slack of a rate buffer.
const OBJECT_SLACK_BYTES: u64 = 32 << 20;

/// One kind of object that the order lets a child make.
#[derive(Debug, Clone)]
pub(super) struct Allowed {
    /// Greatest size by the plan's rates, without slack.
    pub(super) bytes: u64,
}

/// What came of a delivery.
#[expect(clippy::large_enum_variant, reason = "one of these exists at a time")]
pub(super) enum Received {
    /// Nothing to state yet.
    More,
    /// This object is stored whole.
    Object { rendition: String, chunk: u32, receipt: Receipt, missing_ms: u64 },
}

/// Why receiving ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReceiveError {
    /// The child did what no sound child does.
    #[error("{0}")]
    Child(Failure),
    /// The store failed.
    #[error("store an object")]
    Store(#[source] StoreError),
}

/// Where objects of one attempt go.
pub(super) struct Receiver<'a> {
    pub(super) store: &'a Store,
    pub(super) ids: &'a Ids,
    pub(super) tenant: &'a TenantId,
    pub(super) asset: &'a AssetId,
    pub(super) generation: u32,
    pub(super) allowed: BTreeMap<(String, u32), Allowed>,
    pub(super) still: bool,
    pub(super) toolchain: String,
    pub(super) open: BTreeMap<(String, u32), Open>,
}

/// An object that is being written.
pub(super) struct Open {
    pub(super) key: Key,
    pub(super) writer: Writer,
    pub(super) written: u64,
}

impl Receiver<'_> {
    /// Takes one delivery.
    pub(super) async fn take(&mut self, delivery: Delivery) -> Result<Received, ReceiveError> {
        match delivery {
            Delivery::Bytes { rendition, chunk, data } => self.bytes(rendition, chunk, data).await,
            Delivery::ObjectDone { rendition, chunk, made } => self.done(rendition, chunk, made).await,
            Delivery::Progress { .. } | Delivery::Quiet | Delivery::FrameHash { .. } => Ok(Received::More),
        }
    }

    async fn bytes(&mut self, rendition: String, chunk: u32, data: bytes::Bytes) -> Result<Received, ReceiveError> {
        let place = (rendition, chunk);
        let Some(allowed) = self.allowed.get(&place) else {
            return Err(ReceiveError::Child(unsound(format!("made {place:?}, which the order does not name"))));
        };
        let limit = allowed.bytes + OBJECT_SLACK_BYTES;
        if !self.open.contains_key(&place) {
            let key = self.key(&place, self.ids.attempt());
            let writer = self.store.put_stream(&key).await.map_err(ReceiveError::Store)?;
            self.open.insert(place.clone(), Open { key, writer, written: 0 });
        }
        if let Some(open) = self.open.get_mut(&place) {
            open.written += data.len() as u64;
            if open.written > limit {
                return Err(ReceiveError::Child(unsound(format!("made more than {limit} bytes for {place:?}"))));
            }
            open.writer.write(data).await.map_err(ReceiveError::Store)?;
        }
        Ok(Received::More)
    }

    async fn done(&mut self, rendition: String, chunk: u32, made: Made) -> Result<Received, ReceiveError> {
        let Some(open) = self.open.remove(&(rendition.clone(), chunk)) else {
            return Err(ReceiveError::Child(unsound(format!("ended {rendition}/{chunk}, which it did not begin"))));
        };
        self.allowed.remove(&(rendition.clone(), chunk));
        let Open { key, writer, .. } = open;
        let stored = writer.finish().await.map_err(ReceiveError::Store)?;
        if stored.size_bytes != made.length {
            let said = format!("said {} bytes for {rendition}/{chunk}, sent {}", made.length, stored.size_bytes);
            return Err(ReceiveError::Child(unsound(said)));
        }
        let receipt = Receipt {
            rendition: rendition.clone(),
            key: key.to_string(),
            length: stored.size_bytes,
            sha256: stored.sha256,
            init: made.init,
            timescale: made.timescale,
            start_ticks: made.start_ticks,
            segments: made.segments,
            samples: made.samples,
            codec: made.codec,
            toolchain: self.toolchain.clone(),
        };
        Ok(Received::Object { rendition, chunk, receipt, missing_ms: made.missing_ms })
    }

    /// The still picture, whose end is the child's answer.
    pub(super) async fn still(&mut self, name: &str) -> Result<(Key, spool_kit::store::Stored), ReceiveError> {
        let Some(open) = self.open.remove(&(name.to_owned(), 0)) else {
            return Err(ReceiveError::Child(unsound(format!("said it made {name} and sent nothing"))));
        };
        let Open { key, writer, .. } = open;
        let stored = writer.finish().await.map_err(ReceiveError::Store)?;
        Ok((key, stored))
    }

    fn key(&self, (name, chunk): &(String, u32), attempt: AttemptId) -> Key {
        let object = if self.still {
            Object::Still { generation: self.generation, name: name.clone(), attempt }
        } else {
            Object::Chunk { generation: self.generation, rendition: name.clone(), chunk: *chunk, attempt }
        };
        Key { tenant: self.tenant.clone(), asset: self.asset.clone(), object }
    }
}

fn unsound(detail: String) -> Failure {
    Failure::new(FailureCode::ChildCrashed, detail).with("exit", "protocol")
}
