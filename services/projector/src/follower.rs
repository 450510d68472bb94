//! One view that follows the log: batches of facts, their texts, rows and position in one write.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use spool_nats::{Log, Replay, ReplayError, TextError, Wait};
use spool_proto::id::TextToken;
use spool_proto::text::Text;
use spool_proto::{AssetId, TenantId};

use crate::view::writer::{WriteError, Writer};
use crate::view::{View, ViewError};

/// Facts folded in one write: more gains nothing (measured: level from 100 on), and this bounds the memory of a batch.
pub(crate) const BATCH: usize = 256;

/// The view could not follow.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    /// The log could not be read.
    #[error("follow the log")]
    Replay(#[from] ReplayError),
    /// A text could not be read.
    #[error("read a text")]
    Text(#[from] TextError),
    /// The view failed.
    #[error("write the view")]
    Write(#[from] WriteError),
}

/// A view and its place on the log.
pub(crate) struct Follower {
    pub(crate) view: Arc<View>,
    writer: Writer,
    replay: Replay,
    position: u64,
    /// The database may hold back what was written.
    held_back: bool,
}

impl Follower {
    /// Opens or makes the view in `directory` and goes on where it stands.
    pub(crate) fn open(log: &Log, directory: &Path, cache_bytes: u64) -> Result<Self, WriteError> {
        let view = Arc::new(View::open(directory, cache_bytes)?);
        let position = view.position()?;
        let writer = Writer::start(Arc::clone(&view))?;
        Ok(Self { view, writer, replay: log.replay(position + 1), position, held_back: false })
    }

    /// Sequence of the last fact that is in the view.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Must it be folded anew?
    pub(crate) fn knows_less(&self) -> Result<bool, ViewError> {
        self.view.knows_less()
    }

    /// Folds what comes within `wait`, at most one batch. Says how many facts that were.
    ///
    /// When it is dropped half-way, or fails, the replay may be ahead of the view: then it begins again at the position.
    pub(crate) async fn step(&mut self, log: &Log, wait: Wait) -> Result<usize, FollowError> {
        if self.replay.position() != self.position {
            self.replay = log.replay(self.position + 1);
        }
        let facts = self.replay.next(BATCH, wait).await?;
        let reached = self.replay.position();
        if reached == self.position {
            if std::mem::take(&mut self.held_back) {
                self.writer.flush().await?;
            }
            return Ok(0);
        }
        let count = facts.len();
        for fact in &facts {
            tracing::trace!(asset.id = %fact.asset, sequence = fact.sequence, "folds a fact into the view");
        }
        let folded = self.writer.fold(facts).await?;
        let texts = texts(log, folded.texts()).await?;
        self.held_back = true;
        self.writer.apply(folded, texts, reached).await?;
        self.position = reached;
        Ok(count)
    }

    /// Writes out what the database holds back and lets go of it.
    pub(crate) async fn close(self) -> Result<(), WriteError> {
        self.writer.flush().await?;
        self.writer.close().await
    }
}

/// Reads texts. One that was erased is left out; one that is no text is left out and said.
async fn texts(
    log: &Log,
    named: Vec<(TenantId, AssetId, TextToken)>,
) -> Result<BTreeMap<TextToken, Text>, FollowError> {
    let mut texts = BTreeMap::new();
    for (tenant, asset, token) in named {
        match log.get_text(&tenant, &asset, &token).await {
            Ok(text) => texts.extend(text.map(|text| (token, text))),
            Err(error @ TextError::Malformed { .. }) => {
                tracing::error!(asset.id = %asset, error = &error as &dyn std::error::Error, "a text is left out");
            }
            Err(error @ TextError::Failed { .. }) => return Err(error.into()),
        }
    }
    Ok(texts)
}
