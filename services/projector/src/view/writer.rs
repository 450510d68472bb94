//! The one thread that folds and writes, and the watch on it.
//!
//! sled 0.34 was seen to deadlock with several writers and never with one, so all writing is here. And because that is
//! an observation and no proof, whoever waits for the thread waits at most [`STALL`]: then the view counts as lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use spool_proto::event::Fact;
use spool_proto::id::TextToken;
use spool_proto::text::Text;

use super::fold::{Folded, fold};
use super::recent::Recent;
use super::{View, ViewError};

/// How long a batch may take before the view counts as stalled.
pub const STALL: Duration = Duration::from_secs(30);
/// How long the database may hold back what was written, while more comes. Who writes nothing more asks for it ([`Writer::flush`]).
/// What a SIGKILL can cost is folded again from the log.
const HELD_BACK: Duration = Duration::from_millis(500);
/// Orders that wait for the thread. Its one user waits for each answer, so one place is enough.
const QUEUE: usize = 1;

/// The thread did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The view failed.
    #[error(transparent)]
    View(#[from] ViewError),
    /// It made no progress.
    #[error("the view made no progress for {} s while it should {what}", STALL.as_secs())]
    Stalled {
        /// What was asked.
        what: &'static str,
    },
    /// It ended by a panic.
    #[error("the view's writer ended while it should {what}")]
    Ended {
        /// What was asked.
        what: &'static str,
    },
    /// The thread can't be started.
    #[error("start the view's writer")]
    Spawn(#[source] std::io::Error),
}

enum Order {
    Fold {
        facts: Vec<Fact>,
        answer: oneshot::Sender<Result<Folded, ViewError>>,
    },
    Apply {
        folded: Folded,
        texts: BTreeMap<TextToken, Text>,
        position: u64,
        answer: oneshot::Sender<Result<(), ViewError>>,
    },
    Flush {
        answer: oneshot::Sender<Result<(), ViewError>>,
    },
}

/// The writer of a view. Its thread ends when this is dropped.
#[derive(Debug)]
pub struct Writer {
    orders: mpsc::Sender<Order>,
    /// Closed when the thread has let go of the view.
    ended: oneshot::Receiver<()>,
    /// [`STALL`], but in tests.
    patience: Duration,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the machine gives no thread.
    pub fn start(view: Arc<View>) -> Result<Self, WriteError> {
        let (orders, inbox) = mpsc::channel(QUEUE);
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("spool-view".to_owned());
        // Not joined: it ends with its inbox, and one that hangs in sled could never be joined.
        let work = move || {
            serve(&view, inbox);
            drop(view);
            drop(end);
        };
        thread.spawn(work).map_err(WriteError::Spawn)?;
        Ok(Self { orders, ended, patience: STALL })
    }

    /// Folds facts over the rows that stand; writes nothing.
    ///
    /// # Errors
    /// When the view fails or stalls.
    pub async fn fold(&self, facts: Vec<Fact>) -> Result<Folded, WriteError> {
        self.ask("fold", |answer| Order::Fold { facts, answer }).await
    }

    /// Writes a fold with its texts and the position it leads to.
    ///
    /// # Errors
    /// When the view fails or stalls. It then holds all of it or nothing.
    pub async fn apply(
        &self,
        folded: Folded,
        texts: BTreeMap<TextToken, Text>,
        position: u64,
    ) -> Result<(), WriteError> {
        self.ask("write", |answer| Order::Apply { folded, texts, position, answer }).await
    }

    /// Writes out what the database holds back.
    ///
    /// # Errors
    /// When the view fails or stalls.
    pub async fn flush(&self) -> Result<(), WriteError> {
        self.ask("flush", |answer| Order::Flush { answer }).await
    }

    /// Ends the thread and waits until it has let go of the view, so that the view can be opened again.
    ///
    /// # Errors
    /// When it hangs.
    pub async fn close(self) -> Result<(), WriteError> {
        drop(self.orders);
        let ended = tokio::time::timeout(self.patience, self.ended).await;
        // The sender is only ever dropped, also by a panic.
        ended.map(|_| ()).map_err(|_| WriteError::Stalled { what: "end" })
    }

    async fn ask<T>(
        &self,
        what: &'static str,
        order: impl FnOnce(oneshot::Sender<Result<T, ViewError>>) -> Order,
    ) -> Result<T, WriteError> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.orders.send(order(answer)).await.map_err(|_| WriteError::Ended { what })?;
            answered.await.map_err(|_| WriteError::Ended { what })
        };
        let answer = tokio::time::timeout(self.patience, asked).await.map_err(|_| WriteError::Stalled { what })??;
        Ok(answer?)
    }
}

fn serve(view: &View, mut inbox: mpsc::Receiver<Order>) {
    let mut recent = Recent::new();
    let mut held_back_since = None;
    while let Some(order) = inbox.blocking_recv() {
        // Whoever asked may have gone (a step that was dropped): what was done stands, and it will look at the position.
        match order {
            Order::Fold { facts, answer } => {
                let standing = |tenant: &_, asset: &_| match recent.get(tenant, asset) {
                    Some(row) => Ok(Some(row)),
                    None => Ok(view.row(tenant, asset)?.map(Arc::new)),
                };
                let _ = answer.send(fold(&facts, standing));
            }
            Order::Apply { folded, texts, position, answer } => {
                let (writes, rows) = folded.writes(&texts);
                let mut applied = view.apply(writes, position);
                if applied.is_ok() {
                    recent.written(rows);
                    let since: &mut Instant = held_back_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= HELD_BACK {
                        held_back_since = None;
                        applied = view.flush();
                    }
                }
                let _ = answer.send(applied);
            }
            Order::Flush { answer } => {
                held_back_since = None;
                let _ = answer.send(view.flush());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_has_no_thread_that_writes_when_nothing_was_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let _view = View::open(directory.path(), 1 << 20).expect("a view");
        let threads = std::fs::read_dir("/proc/self/task").expect("the threads of this process");
        let names = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok());
        let names: Vec<String> = names.collect();
        assert!(!names.iter().any(|name| name.contains("flusher")), "{names:?}");
    }

    #[tokio::test]
    async fn a_thread_that_hangs_or_ends_is_noticed_and_named() {
        let (orders, inbox) = mpsc::channel(QUEUE);
        let (_end, ended) = oneshot::channel();
        let writer = Writer { orders, ended, patience: Duration::from_millis(50) };
        let stalled = writer.flush().await.expect_err("nobody answers").to_string();
        assert_eq!(stalled, "the view made no progress for 30 s while it should flush");
        drop(inbox);
        let ended = writer.fold(Vec::new()).await.err().expect("nobody is there").to_string();
        assert_eq!(ended, "the view's writer ended while it should fold");
        let hanging = writer.close().await.expect_err("it does not end").to_string();
        assert_eq!(hanging, "the view made no progress for 30 s while it should end");
    }
}
