//! Storing bytes as they come: in full pieces, and what is left over as a fragment.
//!
//! One piece at most is held in memory and at most that much is lost when the process is killed: the socket is not read
//! while a piece is being written, which is the back-pressure. What is committed is stored first; who lost the upload to
//! a successor learns it at its next commit and has changed nothing.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use spool_nats::Versioned;
use spool_proto::id::UploadId;
use tokio_util::sync::CancellationToken;

use super::digest::Running;
use super::entry::{Entry, MAX_FRAGMENTS};
use super::pace::{Limits, Pace, Slow};
use super::{TRIES, WriteError};
use crate::inner::Inner;
use crate::trouble::Trouble;

/// Bytes that come note their time in the entry whenever so many parts of the time after which an upload expires have passed
/// since the last note: a piece may take longer to fill than an upload may be silent.
const NOTES_BEFORE_EXPIRY: u32 = 10;

/// How a body ended. In each case but an overrun every byte that arrived is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// At its end.
    Whole,
    /// It brought more than the upload still takes. The last piece is not stored then: an upload must not become full with
    /// the begin of something longer.
    Overrun,
    /// The connection broke.
    Broken,
    /// Nothing came for too long, or too little.
    Slow(Slow),
    /// This process is about to stop.
    Stopping,
}

/// Bytes were not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// A successor took the upload. Nothing was changed since.
    #[error("another request took the upload")]
    Superseded,
    /// The log or the store failed.
    #[error("store the bytes of an upload")]
    Trouble(#[from] Trouble),
}

impl From<WriteError> for ReceiveError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Taken => Self::Superseded,
            WriteError::Trouble(error) => Self::Trouble(error.into()),
        }
    }
}

impl From<spool_kit::StoreError> for ReceiveError {
    fn from(error: spool_kit::StoreError) -> Self {
        Self::Trouble(error.into())
    }
}

/// Takes an upload: raises its epoch, so that whoever wrote to it before can commit nothing more. `admit` looks at the
/// entry just before; its refusal is the answer.
///
/// # Errors
/// The refusal, or what kept the entry from being written.
pub(crate) async fn take<R: From<Trouble>>(
    inner: &Inner,
    upload: &UploadId,
    mut entry: Versioned<Entry>,
    admit: impl Fn(&Entry) -> Result<(), R>,
) -> Result<Versioned<Entry>, R> {
    for _ in 0..TRIES {
        admit(&entry.value)?;
        let taken = entry.value.taken();
        match inner.entries.replace(upload, &taken, entry.revision).await {
            Ok(revision) => return Ok(Versioned { value: taken, revision }),
            Err(WriteError::Trouble(error)) => return Err(Trouble::from(error).into()),
            Err(WriteError::Taken) => match inner.entries.get(upload).await {
                Ok(Some(found)) => entry = found,
                Ok(None) => return Err(Trouble::Broken(format!("the entry of {upload} vanished")).into()),
                Err(error) => return Err(Trouble::from(error).into()),
            },
        }
    }
    Err(Trouble::Contended { tries: TRIES }.into())
}

/// Stores what `body` brings. `entry` must have been taken just before. `moved` is called whenever bytes were committed.
///
/// # Errors
/// When a successor took the upload, or the log or the store fails; what was committed before stays.
pub(crate) async fn receive<E>(
    inner: &Arc<Inner>,
    upload: &UploadId,
    entry: Versioned<Entry>,
    mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    limits: Limits,
    moved: impl Fn(),
) -> Result<(Versioned<Entry>, Ended), ReceiveError> {
    let (watch, _registered) = inner.running.enter(upload, entry.value.epoch);
    let digest = entry.value.running_digest().map_err(|error| Trouble::Broken(error.to_string()))?;
    let mut receiver = Receiver { inner, upload, entry, digest, buffer: BytesMut::new() };
    let mut pace = Pace::new(limits);
    let ended = loop {
        let asked_at = inner.clock.monotonic();
        let bytes = match next(inner, &watch, &mut body, &pace).await? {
            Ok(bytes) => bytes,
            Err(ended) => break ended,
        };
        let paced = pace.came(bytes.len() as u64, inner.clock.monotonic().saturating_sub(asked_at));
        if bytes.len() as u64 > receiver.missing() {
            break Ended::Overrun;
        }
        receiver.take_in(bytes, &moved).await?;
        if let Err(slow) = paced {
            break Ended::Slow(slow);
        }
    };
    match ended {
        Ended::Overrun => {}
        Ended::Whole | Ended::Broken | Ended::Slow(_) | Ended::Stopping => receiver.flush(&moved).await?,
    }
    Ok((receiver.entry, ended))
}

/// The next bytes, or how the body ended.
async fn next<E>(
    inner: &Inner,
    watch: &CancellationToken,
    body: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
    pace: &Pace,
) -> Result<Result<Bytes, Ended>, ReceiveError> {
    tokio::select! {
        biased;
        () = watch.cancelled() => Err(ReceiveError::Superseded),
        () = inner.stop.finishing() => Ok(Err(Ended::Stopping)),
        item = tokio::time::timeout(pace.idle(), body.next()) => Ok(match item {
            Err(_) => Err(Ended::Slow(pace.silent())),
            Ok(None) => Err(Ended::Whole),
            Ok(Some(Err(_))) => Err(Ended::Broken),
            Ok(Some(Ok(bytes))) => Ok(bytes),
        }),
    }
}

struct Receiver<'a> {
    inner: &'a Arc<Inner>,
    upload: &'a UploadId,
    entry: Versioned<Entry>,
    digest: Running,
    /// Copied together, so that small frames neither make a long list nor keep the large read buffers behind them alive.
    buffer: BytesMut,
}

impl Receiver<'_> {
    fn buffered(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// Bytes that still fit into the open piece.
    fn room(&self) -> u64 {
        self.entry.value.room() - self.buffered()
    }

    /// Bytes that the upload still takes.
    fn missing(&self) -> u64 {
        self.entry.value.length - self.entry.value.offset - self.buffered()
    }

    /// Takes bytes, no more than are missing, and stores what is a full piece. The last piece waits for the body's end: only
    /// then is it known that nothing comes behind it.
    async fn take_in(&mut self, mut bytes: Bytes, moved: &impl Fn()) -> Result<(), ReceiveError> {
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(usize::try_from(self.room()).unwrap_or(usize::MAX)));
            self.digest.update(&part);
            self.buffer.extend_from_slice(&part);
            if self.room() == 0 && self.missing() > 0 {
                self.flush_piece().await?;
                moved();
            }
        }
        self.note_time().await
    }

    /// Keeps the upload from expiring while a piece fills.
    async fn note_time(&mut self) -> Result<(), ReceiveError> {
        let now = self.inner.clock.now();
        let every = self.inner.config.upload_expiry.0 / NOTES_BEFORE_EXPIRY;
        if now.since(self.entry.value.moved_at) <= every {
            return Ok(());
        }
        self.commit(self.entry.value.awaited(now)).await
    }

    /// Stores what is left over: the last piece, or a fragment of the open one.
    async fn flush(&mut self, moved: &impl Fn()) -> Result<(), ReceiveError> {
        if self.buffered() == 0 {
            return Ok(());
        }
        if self.room() == 0 {
            self.flush_piece().await?;
        } else {
            self.flush_rest().await?;
        }
        moved();
        Ok(())
    }

    /// The open piece is full: stores it with its fragments in front.
    async fn flush_piece(&mut self) -> Result<(), ReceiveError> {
        let added = self.buffered();
        let fragments = self.entry.value.fragment_keys(self.upload);
        let parts = self.with_fragments(&fragments).await?;
        self.inner.store.put_parts(&self.entry.value.piece_key(self.upload), parts).await?;
        let next = self.entry.value.with_piece(added, &self.digest, self.inner.clock.now());
        self.commit(next).await?;
        self.forget(fragments).await;
        Ok(())
    }

    /// The body ended inside a piece: stores what is left over.
    async fn flush_rest(&mut self) -> Result<(), ReceiveError> {
        let added = self.buffered();
        let entry = &self.entry.value;
        if entry.fragment_count() < MAX_FRAGMENTS {
            let key = entry.next_fragment_key(self.upload);
            self.inner.store.put(&key, self.buffer.split().freeze()).await?;
            let next = self.entry.value.with_fragment(added, &self.digest, self.inner.clock.now());
            return self.commit(next).await;
        }
        let fragments = entry.fragment_keys(self.upload);
        let key = entry.fragment_key(self.upload, 0, entry.epoch);
        let parts = self.with_fragments(&fragments).await?;
        self.inner.store.put_parts(&key, parts).await?;
        let next = self.entry.value.with_merged(added, &self.digest, self.inner.clock.now());
        self.commit(next).await?;
        self.forget(fragments).await;
        Ok(())
    }

    /// The fragments' bytes and, behind them, the buffered ones.
    async fn with_fragments(&mut self, fragments: &[(spool_proto::key::Key, u64)]) -> Result<Vec<Bytes>, ReceiveError> {
        let mut parts = Vec::with_capacity(fragments.len() + 1);
        for (key, length) in fragments {
            parts.push(self.inner.store.get_range(key, 0..*length).await?);
        }
        parts.push(self.buffer.split().freeze());
        Ok(parts)
    }

    async fn commit(&mut self, next: Entry) -> Result<(), ReceiveError> {
        let revision = self.inner.entries.replace(self.upload, &next, self.entry.revision).await?;
        self.entry = Versioned { value: next, revision };
        Ok(())
    }

    /// Deletes fragments that the entry no longer names. What fails here stays behind as an orphan for the sweeper.
    async fn forget(&self, fragments: Vec<(spool_proto::key::Key, u64)>) {
        if fragments.is_empty() {
            return;
        }
        let keys: Vec<_> = fragments.into_iter().map(|(key, _)| key).collect();
        if let Err(error) = self.inner.store.delete(&keys).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "merged fragments were left behind");
        }
    }
}
