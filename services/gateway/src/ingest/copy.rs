//! Copying a file that was asked for: like the bytes of an upload, from where its entry stands, fenced by the same epoch.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use spool_nats::{Delivery, Versioned};
use spool_proto::id::UploadId;
use spool_proto::{Code, Problem};

use super::TakeInError;
use crate::inner::Inner;
use crate::root::{Opened, mark};
use crate::trouble::Trouble;
use crate::upload::WriteError;
use crate::upload::end::{close, settle};
use crate::upload::entry::{Entry, Phase};
use crate::upload::pace::Limits;
use crate::upload::receive::{self, Ended, ReceiveError};

/// Bytes read from a file at once.
const BLOCK: usize = 1 << 20;
/// A file that gives nothing for so long is given up for this attempt. It may be slow, though: nobody else waits for it.
const PATIENCE: Limits = Limits { idle: Duration::from_secs(60), window: Duration::MAX, least: 0 };

/// Copies the file from where the entry stands.
pub(super) async fn copy(
    inner: &Arc<Inner>,
    upload: &UploadId,
    entry: Versioned<Entry>,
    opened: Opened,
    delivery: &Delivery,
) -> Result<(), TakeInError> {
    let changed = |when| Problem::new(Code::SourceUnreadable).with("detail", format!("the file was changed {when}"));
    if entry.value.phase != Phase::Open || entry.value.is_full() {
        settle(inner, upload, &entry).await?;
        return Ok(());
    }
    let begun = entry.value.file;
    if begun.is_some_and(|begun| begun != opened.mark) {
        // Its length stands in a fact by now, and what is copied may be of the file as it was.
        close(inner, upload, entry, &changed("after it was asked for"), |_| true).await?;
        return Ok(());
    }
    let offset = entry.value.offset;
    let admit = |entry: &Entry| match entry.phase {
        Phase::Open if entry.offset == offset => Ok(()),
        Phase::Open | Phase::Closing(_) | Phase::Ended { .. } => Err(TakeInError::Superseded),
    };
    let taken = receive::take(inner, upload, entry, admit).await?;
    let watch = opened.file.try_clone();
    let body = Box::pin(read(opened.file, offset));
    let received = tokio::select! {
        () = delivery.lease.lost() => return Err(TakeInError::Superseded),
        received = receive::receive(inner, upload, taken, body, PATIENCE, || delivery.lease.moved()) => received,
    };
    let (entry, ended) = received.map_err(|error| match error {
        ReceiveError::Superseded => TakeInError::Superseded,
        ReceiveError::Trouble(trouble) => TakeInError::Trouble(trouble),
    })?;
    match ended {
        Ended::Stopping => return Err(TakeInError::Stopping),
        Ended::Slow(_) => return Err(TakeInError::Stalled),
        Ended::Whole | Ended::Overrun | Ended::Broken => {}
    }
    // A file that still grows, or was changed under way, is not the file whose digest this would be.
    let now = watch.and_then(|file| mark(&file)).ok().flatten();
    if now != begun || !entry.value.is_full() {
        close_full(inner, upload, entry, &changed("while it was read")).await?;
        return Ok(());
    }
    settle(inner, upload, &entry).await?;
    Ok(())
}

/// Ends an upload without a source although every byte of the length it began with is there.
async fn close_full(
    inner: &Inner,
    upload: &UploadId,
    entry: Versioned<Entry>,
    problem: &Problem,
) -> Result<(), Trouble> {
    let closing = entry.value.closing(problem.clone());
    match inner.entries.replace(upload, &closing, entry.revision).await {
        Ok(revision) => settle(inner, upload, &Versioned { value: closing, revision }).await.map(drop),
        // Somebody met the full entry first and stated it as stored, which nobody can take back.
        Err(WriteError::Taken) => Ok(()),
        Err(WriteError::Trouble(error)) => Err(error.into()),
    }
}

/// The bytes of a file from `offset`, read off the runtime's threads, one block ahead at most.
fn read(file: std::fs::File, offset: u64) -> impl Stream<Item = std::io::Result<Bytes>> {
    futures_util::stream::try_unfold((file, offset, false), |(mut file, at, sought)| async move {
        let read = tokio::task::spawn_blocking(move || -> std::io::Result<(std::fs::File, Vec<u8>)> {
            if !sought {
                file.seek(SeekFrom::Start(at))?;
            }
            let mut block = Vec::with_capacity(BLOCK);
            (&mut file).take(BLOCK as u64).read_to_end(&mut block)?;
            Ok((file, block))
        });
        let (file, block) = read.await.map_err(std::io::Error::other)??;
        if block.is_empty() {
            return Ok(None);
        }
        let next = at + block.len() as u64;
        Ok(Some((Bytes::from(block), (file, next, true))))
    })
}
