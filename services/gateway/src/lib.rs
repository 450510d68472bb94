//! The gateway: the doors and the commands.
//!
//! - **consumes**: HTTP (resumable uploads, commands), requests on the ingest stream, `AssetDeleted` and `TextErased`, news
//!   of requests that the server gave up
//! - **emits**: `AssetRegistered`, `SourceStored`, `UploadAbandoned`, `Described`, `TextErased`, `RetryRequested`,
//!   `AssetDeleted`, `ObjectsPurged`
//! - **owns**: the entries of running uploads (`SPOOL_UPLOADS`), the objects under `sources/`, and the sweep of all objects
//! - **idempotent because**: an upload is one entry changed by compare and set, its outcome follows from the entry alone, a
//!   natural key has one asset for ever, and every step of a deletion looks at what stands first
//! - **scales by**: more gateways; any of them takes the next PATCH of any upload
//! - **never**: answers an offset whose bytes are not stored, reads a whole source into memory, judges a video, keeps what
//!   people typed in a fact

mod config;
mod deletion;
mod http;
mod ingest;
mod inner;
mod limits;
mod orphans;
mod root;
mod sweep;
mod trouble;
mod upload;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use futures_util::future::join_all;
use spool_kit::{Clock, Ids, Stop, Store};
use spool_nats::{Bucket, ConsumerError, ConsumerName, Durable, KvError, Log, StepError as FetchError, Wait};
use tokio_util::task::TaskTracker;

use inner::Inner;
use upload::Entries;

pub use config::Config;
pub use http::ROUTES;
pub use root::{RootError, check_roots};
pub use trouble::Trouble;

/// How long a running gateway waits for a delivery before it looks whether it shall stop.
const FETCH_WAIT: Duration = Duration::from_secs(2);
/// Pause after something failed, so that a log that is away is not asked all the time.
const PAUSE: Duration = Duration::from_secs(1);
/// Deletions handled at once.
const DELETIONS_AT_ONCE: usize = 8;

/// What the gateway stands on.
#[derive(Clone)]
pub struct Deps {
    /// The log, as the user of this role.
    pub log: Log,
    /// The store.
    pub store: Store,
    /// Time.
    pub clock: Clock,
    /// New ids.
    pub ids: Ids,
    /// Told when this process is about to stop: uploads under way then store what they have and let their client go on
    /// elsewhere.
    pub stop: Stop,
}

/// The gateway can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A root of `gateway.roots` can't be used.
    #[error("use the roots of the configuration")]
    Root(#[from] RootError),
    /// A consumer is missing.
    #[error("find the gateway's consumers")]
    Consumer(#[from] ConsumerError),
    /// The bucket of uploads is missing.
    #[error("open the entries of uploads")]
    Kv(#[from] KvError),
}

/// A step did not come to its end. It can be repeated.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Nothing could be fetched.
    #[error("fetch the gateway's deliveries")]
    Fetch(#[from] FetchError),
    /// The log or the store failed.
    #[error("sweep")]
    Sweep(#[from] Trouble),
}

/// The role.
pub struct Gateway {
    inner: Arc<Inner>,
    ingest: Durable,
    advisories: Durable,
    sweeper: Durable,
    /// When the whole store was last looked through, on the monotonic clock; never at first.
    orphans_at: AtomicI64,
}

impl Gateway {
    /// A gateway, ready to serve its routes.
    ///
    /// # Errors
    /// When a root, a consumer or the bucket of uploads is missing.
    pub async fn new(config: Config, deps: Deps) -> Result<Self, StartError> {
        let roots = root::Roots::open(&config.roots)?;
        let entries = Entries::new(deps.log.kv(Bucket::Uploads).await?);
        let ingest = deps.log.consumer(ConsumerName::Ingest).await?;
        let advisories = deps.log.consumer(ConsumerName::IngestAdvisories).await?;
        let sweeper = deps.log.consumer(ConsumerName::Sweeper).await?;
        let inner = Inner {
            places: limits::Places::new(config.max_transfers, config.max_transfers_per_client),
            copies: ingest::places::Places::new(config.ingest_at_once),
            rate: limits::Rate::new(config.requests_per_second),
            config,
            log: deps.log,
            store: deps.store,
            clock: deps.clock,
            ids: deps.ids,
            entries,
            roots,
            running: inner::Running::default(),
            open_uploads: AtomicU64::new(0),
            tasks: TaskTracker::new(),
            stop: deps.stop,
        };
        Ok(Self { inner: Arc::new(inner), ingest, advisories, sweeper, orphans_at: AtomicI64::new(i64::MIN) })
    }

    /// The routes, to be merged with those of other roles and wrapped in `spool_kit::web::shell`.
    pub fn routes(&self) -> Router {
        http::routes(&self.inner)
    }

    /// Does what is due now, once: requests, given-up requests, deletions, open uploads, and orphans when their time has come.
    /// Whether there was anything.
    ///
    /// # Errors
    /// When the log or the store fails; it can be repeated.
    pub async fn step(&self) -> Result<bool, StepError> {
        let at_once = self.inner.config.ingest_at_once.max(1) as usize;
        let mut did = self.fetch_ingest(at_once, Wait::No).await? + self.fetch_advisories(Wait::No).await?;
        did += self.fetch_deletions(Wait::No).await?;
        let swept = sweep::uploads(&self.inner).await? + self.orphans().await?;
        Ok(did > 0 || swept > 0)
    }

    /// Looks through the whole store now, whenever that was last done. How many objects went.
    ///
    /// # Errors
    /// When the store can't be listed.
    pub async fn sweep_orphans(&self) -> Result<u64, StepError> {
        Ok(orphans::sweep(&self.inner).await?)
    }

    async fn orphans(&self) -> Result<u64, Trouble> {
        let now = i64::try_from(self.inner.clock.monotonic().as_millis()).unwrap_or(i64::MAX);
        let every = i64::try_from(self.inner.config.orphans_every.0.as_millis()).unwrap_or(i64::MAX);
        let last = self.orphans_at.load(Ordering::Relaxed);
        if last == i64::MIN {
            // Not at the very start: what began just now would all have to be asked about.
            self.orphans_at.store(now, Ordering::Relaxed);
            return Ok(0);
        }
        if now.saturating_sub(last) < every {
            return Ok(0);
        }
        self.orphans_at.store(now, Ordering::Relaxed);
        orphans::sweep(&self.inner).await
    }

    async fn fetch_ingest(&self, at_once: usize, wait: Wait) -> Result<usize, FetchError> {
        let inner = &self.inner;
        self.ingest.step(at_once, wait, |delivery| ingest::handle(Arc::clone(inner), delivery)).await
    }

    async fn fetch_advisories(&self, wait: Wait) -> Result<usize, FetchError> {
        let inner = &self.inner;
        self.advisories.step(1, wait, |delivery| ingest::handle_given_up(Arc::clone(inner), delivery)).await
    }

    async fn fetch_deletions(&self, wait: Wait) -> Result<usize, FetchError> {
        let inner = &self.inner;
        self.sweeper.step(DELETIONS_AT_ONCE, wait, |delivery| deletion::handle(Arc::clone(inner), delivery)).await
    }

    /// Works until it is told to stop: first nothing new is taken and what runs stores what it has; then it is left.
    ///
    /// # Errors
    /// None at the moment: what fails is logged and tried again.
    pub async fn run(self, stop: Stop) -> Result<(), StepError> {
        let work = async {
            tokio::join!(
                self.take_in_until(&stop),
                repeat(&stop, "given-up requests", || self.fetch_advisories(Wait::Upto(FETCH_WAIT))),
                repeat(&stop, "deletions", || self.fetch_deletions(Wait::Upto(FETCH_WAIT))),
                self.sweep_until(&stop),
            );
            self.inner.tasks.close();
            self.inner.tasks.wait().await;
        };
        tokio::select! {
            () = work => {}
            () = stop.cutting() => tracing::warn!("the gateway was cut; uploads go on where their last piece was stored"),
        }
        Ok(())
    }

    /// Side by side, each by itself: a small file that comes after large ones does not wait until those are copied.
    async fn take_in_until(&self, stop: &Stop) {
        let one = || repeat(stop, "requests", || self.take_one_in(stop));
        join_all((0..self.inner.copies.hands()).map(|_| one())).await;
    }

    /// Asks for a request when it is this hand's turn to ask, and carries it out while others ask.
    async fn take_one_in(&self, stop: &Stop) -> Result<usize, FetchError> {
        let asking = self.inner.copies.asking().await;
        if stop.is_finishing() {
            return Ok(0);
        }
        let asking = Mutex::new(asking);
        let taken = |delivery| {
            // Given back: whether it was poisoned is all the same.
            drop(asking.lock().unwrap_or_else(PoisonError::into_inner).take());
            ingest::handle(Arc::clone(&self.inner), delivery)
        };
        self.ingest.step(1, Wait::Upto(FETCH_WAIT), taken).await
    }

    async fn sweep_until(&self, stop: &Stop) {
        loop {
            let swept = async { Ok::<_, Trouble>(sweep::uploads(&self.inner).await? + self.orphans().await?) };
            if let Err(trouble) = swept.await {
                tracing::warn!(error = &trouble as &dyn std::error::Error, "sweeping failed; it will be tried again");
            }
            if !stop.pause(self.inner.config.sweep_every.0).await {
                return;
            }
        }
    }
}

async fn repeat<E, F>(stop: &Stop, what: &str, step: impl Fn() -> F)
where
    E: std::error::Error + 'static,
    F: Future<Output = Result<usize, E>>,
{
    while !stop.is_finishing() {
        if let Err(error) = step().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "{what} could not be fetched; again soon");
            stop.pause(PAUSE).await;
        }
    }
}
