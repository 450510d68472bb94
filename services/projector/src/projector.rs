//! The role: keeps the view in step with the log, builds a new one beside it when asked, mends it when it is damaged.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use spool_kit::{Clock, Stop, Store};
use spool_nats::{Log, ReplayError, Wait};

use crate::config::Config;
use crate::follower::{FollowError, Follower};
use crate::http::{self, Reads};
use crate::reader::Shared;
use crate::view::ViewError;
use crate::view::shelf::{Shelf, ShelfError};
use crate::view::writer::WriteError;

/// How long an idle step of [`Projector::run`] waits for facts. Short enough to notice a stop or a rebuild.
const IDLE: Duration = Duration::from_millis(250);
/// First and longest pause after a failure of the log.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Views thrown away in the life of a process before it gives up: damage that comes back is the disk's.
const MENDS: u32 = 3;
/// How long a step may go on when stopping. A log that went away is asked again for longer than a grace period lasts.
const STEP_LIMIT: Duration = Duration::from_secs(2);
/// Longest time for writing out what is held back when stopping.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// What the role stands on.
#[derive(Clone)]
pub struct Deps {
    /// The log, as the user of this role.
    pub log: Log,
    /// The bytes.
    pub store: Store,
    /// The time.
    pub clock: Clock,
}

/// The projector can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory of views can't be used.
    #[error("use the directory of views")]
    Shelf(#[from] ShelfError),
    /// The log is damaged. Going on would show something that is not so.
    #[error("fold the log")]
    Damage(#[source] ReplayError),
    /// The log could not be read; it may be tried again.
    #[error("follow the log")]
    Log(#[source] Box<dyn StdError + Send + Sync>),
    /// The disk of the view is full; it is tried again.
    #[error("begin a view in {}: its disk is full", .0.display())]
    NoRoom(PathBuf),
    /// No view can be begun.
    #[error("begin a view")]
    View(#[source] WriteError),
    /// The view failed again and again.
    #[error("the view was thrown away {MENDS} times and failed again: {0}")]
    Hopeless(String),
}

/// The projector.
pub struct Projector {
    config: Config,
    deps: Deps,
    shelf: Shelf,
    shared: Arc<Shared>,
    stop: Stop,
    main: Follower,
    /// The view that is built beside the one that is read.
    building: Option<Follower>,
    /// Is the log's end at start known?
    aimed: bool,
    mends: u32,
}

/// How others see the view of a running projector.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// Has the view everything that the log held when this process started?
    pub fn is_ready(&self) -> bool {
        self.0.is_ready()
    }

    /// Sequence of the last fact in the view.
    pub fn position(&self) -> u64 {
        *self.0.position.borrow()
    }

    /// Facts folded since this process started, without those of rebuilds.
    pub fn folded(&self) -> u64 {
        self.0.folded()
    }

    /// Asks for a new view from sequence 1, built beside the one that is read. One that runs already is not begun again.
    pub fn rebuild(&self) {
        self.0.rebuild.notify_one();
    }

    /// How the view stands, as JSON for operators: the answer of `GET /v1/view`.
    pub fn state(&self) -> serde_json::Value {
        self.0.state()
    }

    /// Number of rows and a digest over all of them: equal logs make equal views, however they were folded.
    ///
    /// # Errors
    /// When a row can't be read.
    pub fn digest(&self) -> Result<(u64, spool_proto::id::Sha256), ViewError> {
        self.0.view().digest()
    }
}

impl Projector {
    /// Opens the view, or begins a new one where there is none or it can't be opened.
    ///
    /// # Errors
    /// When the directory can't be used at all.
    pub fn new(config: Config, deps: Deps) -> Result<Self, Error> {
        let shelf = Shelf::open(&config.directory)?;
        let main = match shelf.current().map(|current| Follower::open(&deps.log, &current, config.cache.0)) {
            Some(Ok(main)) => main,
            Some(Err(error)) => {
                tracing::warn!(error = &error as &dyn StdError, "the view can't be opened and is folded anew");
                fresh(&deps.log, &shelf, config.cache.0)?
            }
            None => fresh(&deps.log, &shelf, config.cache.0)?,
        };
        shelf.sweep(&[main.view.directory()]);
        let shared = Arc::new(Shared::new(Arc::clone(&main.view), main.position()));
        if main.knows_less().unwrap_or(true) {
            tracing::info!("this version knows more facts than the one that folded the view; it is folded anew");
            shared.rebuild.notify_one();
        }
        let stop = Stop::new();
        Ok(Self { config, deps, shelf, shared, stop, main, building: None, aimed: false, mends: 0 })
    }

    /// How others see the view.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Every read: `/v1/assets…`, `/v1/events`, `/v1/view`, `/play/…`.
    pub fn routes(&self) -> axum::Router {
        let reads = Reads::new(&self.config, &self.deps, Arc::clone(&self.shared), self.stop.soft().clone());
        http::routes(Arc::new(reads))
    }

    /// Folds what is there, at most one batch (and one of a rebuild). Says whether there was anything.
    ///
    /// # Errors
    /// [`Error::Log`] and [`Error::NoRoom`] can be tried again; the others stay.
    pub async fn step(&mut self) -> Result<bool, Error> {
        self.step_within(Wait::No).await
    }

    async fn step_within(&mut self, wait: Wait) -> Result<bool, Error> {
        self.aim().await?;
        if take(&self.shared.damaged) {
            self.mend("a reader met damage").await?;
        }
        if take(&self.shared.rebuild) && self.building.is_none() {
            self.begin_rebuild().await?;
        }
        // While a new view is built there is always something to do.
        let wait = if self.building.is_some() { Wait::No } else { wait };
        let did = self.follow(wait).await?;
        Ok(self.build().await? || did)
    }

    /// Finds out, once, how far the view must come before it counts as ready.
    async fn aim(&mut self) -> Result<(), Error> {
        if self.aimed {
            return Ok(());
        }
        let last = self.deps.log.last_sequence().await.map_err(|error| Error::Log(error.into()))?;
        self.shared.set_target(Some(last));
        self.aimed = true;
        tracing::info!("the view stands at {} of {last}", self.main.position());
        Ok(())
    }

    async fn follow(&mut self, wait: Wait) -> Result<bool, Error> {
        let before = self.main.position();
        match self.main.step(&self.deps.log, wait).await {
            Ok(facts) => {
                self.shared.count_folded(facts as u64);
                self.shared.position.send_replace(self.main.position());
                Ok(self.main.position() != before)
            }
            Err(error) => self.settle(error).await,
        }
    }

    /// What a failure of the view that is read leads to.
    async fn settle(&mut self, error: FollowError) -> Result<bool, Error> {
        match error {
            FollowError::Replay(gap @ ReplayError::Gap { .. }) => Err(Error::Damage(gap)),
            FollowError::Replay(ahead @ ReplayError::Ahead { .. }) => {
                tracing::warn!(error = &ahead as &dyn StdError, "the view belongs to another log");
                self.mend("it is of another log").await?;
                Ok(true)
            }
            FollowError::Write(write) => {
                tracing::error!(error = &write as &dyn StdError, "the view failed");
                self.mend(&write.to_string()).await?;
                Ok(true)
            }
            FollowError::Replay(failed @ ReplayError::Failed { .. }) => Err(Error::Log(failed.into())),
            FollowError::Text(text) => Err(Error::Log(text.into())),
        }
    }

    /// Throws the view away and folds anew; until that is done, readers are told that the view is behind.
    async fn mend(&mut self, why: &str) -> Result<(), Error> {
        self.aimed = false;
        self.shared.set_target(None);
        if !self.shelf.has_room() {
            // A full disk broke the view, and would break the next one. Nothing was lost by it: it is folded anew.
            self.shared.damaged.notify_one();
            return Err(Error::NoRoom(self.main.view.directory().to_owned()));
        }
        if self.mends >= MENDS {
            return Err(Error::Hopeless(why.to_owned()));
        }
        self.mends += 1;
        tracing::warn!("the view in {} is thrown away: {why}", self.main.view.directory().display());
        self.building = None;
        self.shared.set_building(None);
        let main = self.open_fresh().await?;
        self.shelf.adopt(main.view.directory())?;
        self.take_over(main);
        Ok(())
    }

    async fn begin_rebuild(&mut self) -> Result<(), Error> {
        let building = self.open_fresh().await?;
        tracing::info!("a new view is built in {}", building.view.directory().display());
        self.shared.set_building(Some(0));
        self.building = Some(building);
        Ok(())
    }

    async fn open_fresh(&self) -> Result<Follower, Error> {
        let (log, directory, cache) = (self.deps.log.clone(), self.shelf.fresh(), self.config.cache.0);
        let opened = tokio::task::spawn_blocking(move || Follower::open(&log, &directory, cache)).await;
        opened.unwrap_or(Err(WriteError::Ended { what: "open" })).map_err(Error::View)
    }

    /// One batch of the view that is built beside; when it has caught up, readers get it.
    async fn build(&mut self) -> Result<bool, Error> {
        let Some(building) = &mut self.building else { return Ok(false) };
        let began = Instant::now();
        match building.step(&self.deps.log, Wait::No).await {
            Ok(_) => {}
            Err(FollowError::Write(error)) => {
                tracing::error!(error = &error as &dyn StdError, "building a new view failed; the old one stays");
                building.view.discard();
                self.building = None;
                self.shared.set_building(None);
                return Ok(true);
            }
            Err(error) => return self.settle(error).await,
        }
        self.shared.set_building(Some(building.position()));
        if building.position() < self.main.position() {
            // Replays at full speed starve publishers (measured: a fourteenth is left to them): half the time is theirs.
            tokio::time::sleep(began.elapsed()).await;
            return Ok(true);
        }
        if let Some(built) = self.building.take() {
            self.shelf.adopt(built.view.directory())?;
            self.shared.set_building(None);
            self.shared.count_rebuild();
            tracing::info!("the new view stands at {} and is read from now on", built.position());
            self.take_over(built);
        }
        Ok(true)
    }

    /// Readers get `next`; the old view goes when its last reader has.
    fn take_over(&mut self, next: Follower) {
        let old = self.shared.exchange(Arc::clone(&next.view), next.position());
        old.discard();
        self.main = next;
        // Its last owner may be here. Closing it writes to the disk, and one that hangs in sled never ends: so neither a
        // thread of the runtime does it, nor does anybody wait for it.
        let closing = std::thread::Builder::new().name("spool-view-close".to_owned()).spawn(move || drop(old));
        drop(closing);
    }

    /// Follows the log until it is told to stop.
    ///
    /// # Errors
    /// When going on would be wrong or is hopeless.
    pub async fn run(mut self, stop: Stop) -> Result<(), Error> {
        let mut pause = BACK_OFF.0;
        while !stop.is_finishing() {
            // A step may be dropped anywhere: what is in the view by then is in it, with its position.
            let step = tokio::select! {
                biased;
                step = self.step_within(Wait::Upto(IDLE)) => step,
                () = late(&stop) => {
                    tracing::warn!("a step did not end in time; what it lacks is folded at the next start");
                    break;
                }
            };
            match step {
                Ok(_) => pause = BACK_OFF.0,
                Err(error @ (Error::Log(_) | Error::NoRoom(_))) => {
                    tracing::warn!(error = &error as &dyn StdError, "the view can't follow the log; trying again");
                    stop.pause(pause).await;
                    pause = (pause * 2).min(BACK_OFF.1);
                }
                Err(error) => {
                    self.stop.finish();
                    return Err(error);
                }
            }
        }
        // Live connections end here, so that the listener can drain.
        self.stop.finish();
        self.close().await;
        Ok(())
    }

    /// Writes out what the view holds back and lets go of it, but for what routes and handles still hold. What can't be
    /// written is folded again at the next start.
    pub async fn close(self) {
        let position = self.main.position();
        let closed = tokio::time::timeout(CLOSE_LIMIT, self.main.close()).await;
        match closed {
            Ok(Ok(())) => tracing::info!("the view is closed at {position}"),
            Ok(Err(error)) => tracing::warn!(error = &error as &dyn StdError, "the view was not written out"),
            Err(_) => tracing::warn!("the view was not written out within {} s", CLOSE_LIMIT.as_secs()),
        }
        if let Some(building) = &self.building {
            building.view.discard();
        }
    }
}

/// Comes back when a step has lasted too long for a process that stops.
async fn late(stop: &Stop) {
    stop.finishing().await;
    tokio::time::sleep(STEP_LIMIT).await;
}

/// A new view that is also the current one.
fn fresh(log: &Log, shelf: &Shelf, cache_bytes: u64) -> Result<Follower, Error> {
    let directory = shelf.fresh();
    let main = Follower::open(log, &directory, cache_bytes).map_err(Error::View)?;
    shelf.adopt(Path::new(&directory))?;
    Ok(main)
}

/// Was there a notice?
fn take(notice: &tokio::sync::Notify) -> bool {
    use futures_util::FutureExt as _;
    notice.notified().now_or_never().is_some()
}

#[cfg(test)]
mod tests;
