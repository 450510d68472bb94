//! Ordered replay of the facts from a sequence.
//!
//! It asks for batches by sequence, from any replica, and keeps its position itself. There is no consumer on the server that could forget where it was (the client's
//! ordered consumer starts at 1 again when it is made anew before its first message), none to be created by a user with few rights, none to be lost with a
//! connection; and a replica with a damaged block is asked around, because the next call may go to another. The price: half the speed of a push.
//!
//! The server skips a damaged message in silence, so sequences must be contiguous, and a gap that stays is named.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use spool_proto::event::Fact;
use spool_proto::subject;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::connect::Log;
use crate::delivery::Wait;
use crate::message::{self, Stored};
use crate::read::ReadError;
use crate::request::{Failure, PAUSES, about};
use crate::streams::EVENTS;

/// Most facts in one answer. They come without flow control, so this bounds what lies in memory.
const MAX_BATCH: usize = 500;
/// Longest time between two looks, should a hint be lost.
const POLL: Duration = Duration::from_millis(250);
/// Looks after a hint, for the time it takes to store the fact that was hinted at.
const HINT_LOOKS: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
];
/// How often an idle replay compares itself with the log's end.
const TAIL_CHECK: Duration = Duration::from_secs(15);

/// The replay can't go on.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The server could not be asked: ask again.
    #[error("read on after sequence {position}")]
    Failed {
        /// Last sequence handed out.
        position: u64,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// Sequences are missing: the log is damaged there. Going on would be wrong.
    #[error("the log is damaged: after sequence {position} comes {found}")]
    Gap {
        /// Last sequence before the gap.
        position: u64,
        /// First one after it, or one past the last if nothing comes any more.
        found: u64,
    },
    /// The position is beyond the log's end: it belongs to another log, or this one was restored from an older copy.
    #[error("position {position} lies beyond the log's last sequence {last}")]
    Ahead {
        /// Position.
        position: u64,
        /// Last sequence of the log.
        last: u64,
    },
}

/// A replay: facts in the order of their sequences, none twice, none missing.
pub struct Replay {
    log: Log,
    position: u64,
    checked: bool,
    caught_up: bool,
    hints: Option<Hints>,
    hinted: bool,
    tail_checked: Instant,
}

impl Log {
    /// Replays the facts from sequence `from` on (at least 1). Nothing is asked before the first [`Replay::next`].
    pub fn replay(&self, from: u64) -> Replay {
        Replay {
            log: self.clone(),
            position: from.saturating_sub(1),
            checked: false,
            caught_up: false,
            hints: None,
            hinted: false,
            tail_checked: Instant::now(),
        }
    }
}

/// Facts at the end of the log that [`Log::tail`] reads: some ten times the largest block of it, a second or two of reading.
const TAIL: u64 = 100_000;

impl Log {
    /// Hands the facts at the end of the log to `take`, in the order of their sequences, as far as they stand: where the log
    /// is damaged it goes on behind. For who looks at what nothing wakes it for. Bounded: [`TAIL`] sequences are read.
    ///
    /// # Errors
    /// When the log can't be read.
    pub async fn tail(&self, mut take: impl FnMut(&Fact)) -> Result<(), ReplayError> {
        let failed = |source| ReplayError::Failed { position: 0, source };
        let last = self.last_sequence().await.map_err(failed)?;
        let mut facts = self.replay(last.saturating_sub(TAIL) + 1);
        while facts.position() < last {
            match facts.next(MAX_BATCH, Wait::No).await {
                Ok(batch) if batch.is_empty() => break,
                Ok(batch) => batch.iter().for_each(&mut take),
                // What is lost is lost; what stands behind it counts.
                Err(ReplayError::Gap { found, .. }) if found <= last => facts = self.replay(found),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Replay {
    /// The next facts, at most `max`; empty when there is nothing within `wait`.
    ///
    /// # Errors
    /// After [`ReplayError::Failed`] it can be called again; the other errors stay.
    pub async fn next(&mut self, max: usize, wait: Wait) -> Result<Vec<Fact>, ReplayError> {
        self.check_start().await?;
        let deadline = Instant::now() + if let Wait::Upto(wait) = wait { wait } else { Duration::ZERO };
        let mut looks = HINT_LOOKS.iter();
        loop {
            let facts = self.take(max).await?;
            if !facts.is_empty() {
                return Ok(facts);
            }
            self.check_tail().await?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Vec::new());
            }
            // The hint of a fact may come before the fact is stored, so it is looked for a few times.
            match looks.next() {
                Some(pause) if self.hinted => tokio::time::sleep(left.min(*pause)).await,
                _ => {
                    self.hinted = self.wait_for_hint(left.min(POLL)).await?;
                    looks = HINT_LOOKS.iter();
                }
            }
        }
    }

    /// The last sequence that is behind it (also of messages that are no facts of assets).
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Has it had, at some moment, everything that the log then held?
    pub fn caught_up(&self) -> bool {
        self.caught_up
    }

    async fn check_start(&mut self) -> Result<(), ReplayError> {
        if self.checked {
            return Ok(());
        }
        let last = self.last_sequence().await?;
        if self.position > last {
            return Err(ReplayError::Ahead { position: self.position, last });
        }
        self.checked = true;
        Ok(())
    }

    /// Facts that are there, in order and without a gap. A gap may be that of one replica, so it is looked at again before it counts.
    async fn take(&mut self, max: usize) -> Result<Vec<Fact>, ReplayError> {
        let mut pauses = PAUSES.iter();
        loop {
            let query = serde_json::json!({ "seq": self.position + 1, "batch": max.clamp(1, MAX_BATCH) });
            let batch = self.log.batch_again(EVENTS, &query).await.map_err(|source| self.failed(source))?;
            let end = batch.pending == 0;
            let first = batch.stored.first().map(|stored| stored.sequence);
            let good = contiguous(self.position, &batch.stored);
            if let (0, Some(found)) = (good, first) {
                let Some(pause) = pauses.next() else {
                    return Err(ReplayError::Gap { position: self.position, found });
                };
                about(*pause).await;
                continue;
            }
            let whole = good == batch.stored.len();
            let facts = self.pass(&batch.stored[..good]);
            if end && whole && !self.caught_up {
                self.caught_up = self.position >= self.last_sequence().await?;
            }
            // A batch of nothing but messages that are no facts must not look like the end.
            if !facts.is_empty() || good == 0 {
                return Ok(facts);
            }
        }
    }

    /// Moves past these messages; the facts among them.
    fn pass(&mut self, stored: &[Stored]) -> Vec<Fact> {
        self.position += stored.len() as u64;
        let facts = stored.iter().map(|stored| (stored, message::fact(stored)));
        facts
            .filter_map(|(stored, fact)| {
                let sequence = stored.sequence;
                fact.map_err(|why| tracing::error!(sequence, "message {sequence} of the events is no fact: {why}")).ok()
            })
            .collect()
    }

    /// Compares, now and then while nothing comes, with the leader: a damaged tail gives nothing to read and looks like the end.
    async fn check_tail(&mut self) -> Result<(), ReplayError> {
        if self.tail_checked.elapsed() < TAIL_CHECK {
            return Ok(());
        }
        self.tail_checked = Instant::now();
        for pause in PAUSES {
            let last = self.last_sequence().await?;
            let query = serde_json::json!({ "seq": self.position + 1, "batch": 1 });
            let batch = self.log.batch_again(EVENTS, &query).await.map_err(|source| self.failed(source))?;
            if last <= self.position || !batch.stored.is_empty() {
                return Ok(());
            }
            about(pause).await;
        }
        let last = self.last_sequence().await?;
        Err(ReplayError::Gap { position: self.position, found: last + 1 })
    }

    /// Waits for a hint; did one come?
    async fn wait_for_hint(&mut self, upto: Duration) -> Result<bool, ReplayError> {
        match &self.hints {
            Some(hints) => Ok(tokio::time::timeout(upto, hints.wake.notified()).await.is_ok()),
            None => {
                // What is written from here on is hinted at; what was written before is seen by the look that follows.
                self.hints = Some(Hints::start(&self.log).await.map_err(|source| self.failed(source))?);
                Ok(false)
            }
        }
    }

    async fn last_sequence(&self) -> Result<u64, ReplayError> {
        let position = self.position;
        self.log.last_sequence().await.map_err(|source| ReplayError::Failed { position, source })
    }

    fn failed(&self, source: Failure) -> ReplayError {
        let what = format!("facts after sequence {}", self.position);
        ReplayError::Failed { position: self.position, source: ReadError::Failed { what, source } }
    }
}

/// How many of these messages follow `position` without a gap.
fn contiguous(position: u64, stored: &[Stored]) -> usize {
    stored.iter().zip(position + 1..).take_while(|(stored, expected)| stored.sequence == *expected).count()
}

/// Wakes whoever waits whenever somebody writes a fact. Only a hint: it may be lost, and may come before the fact is stored.
struct Hints {
    wake: Arc<Notify>,
    listening: JoinHandle<()>,
}

impl Hints {
    async fn start(log: &Log) -> Result<Hints, Failure> {
        let subscribed = log.client().subscribe(subject::EVENTS).await;
        let mut facts = subscribed.map_err(|error| Failure::broken(subject::EVENTS, error))?;
        let wake = Arc::new(Notify::new());
        let waker = Arc::clone(&wake);
        let listening = tokio::spawn(async move {
            while facts.next().await.is_some() {
                waker.notify_one();
            }
        });
        Ok(Hints { wake, listening })
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;
    use spool_proto::Timestamp;

    use super::*;

    fn stored(sequence: u64) -> Stored {
        let (at, headers) = (Timestamp::default(), HeaderMap::new());
        Stored { subject: String::new(), sequence, at, headers, body: bytes::Bytes::new() }
    }

    #[test]
    fn only_what_follows_without_a_gap_is_taken() {
        let check = |position, sequences: &[u64], expected| {
            let stored: Vec<_> = sequences.iter().copied().map(stored).collect();
            assert_eq!(contiguous(position, &stored), expected, "{position} {sequences:?}");
        };
        check(0, &[1, 2, 3], 3);
        check(4, &[5, 6, 8, 9], 2);
        check(4, &[6, 7], 0);
        check(4, &[], 0);
        check(4, &[4, 5], 0);
    }
}
