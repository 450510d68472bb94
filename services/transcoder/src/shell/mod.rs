//! The parent of the media children: takes orders from the log, gives them to a child, stores what comes out, states it.
//!
//! Reading order: [`start`] (what an order asks for), `work` (one attempt), `encode` (its chunks), `receive` (objects as they
//! come), `note` (what it says meanwhile), [`after`]
//! (what a failure leads to), `room` (how many work at the same time).

pub mod after;
mod encode;
mod note;
mod receive;
mod room;
mod source;
pub mod start;
mod toolchain;
mod work;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use spool_kit::clock::Clock;
use spool_kit::ids::Ids;
use spool_kit::stop::Stop;
use spool_kit::store::Store;
use spool_kit::units::{Bytes, Span};
use spool_nats::{Bucket, ConsumerError, ConsumerName, Durable, Kv, KvError, Log, StepError, Wait};
use spool_proto::lease::LeaseNote;
use spool_proto::subject::Lane;
use tokio::task::JoinSet;

use crate::attempt::{ChildConfig, LaunchError, Launcher};
use crate::cage::{CageMode, Limits};
use crate::order::InspectLimits;

/// How long an idle worker waits on the most urgent lane before it asks the others again.
const IDLE_WAIT: Duration = Duration::from_millis(250);
/// Pause after the log could not be asked.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// How long a cut waits for the word that an order is handed back; else it comes again when its lease is over.
const HAND_BACK_WITHIN: Duration = Duration::from_secs(8);

/// Is the child caged?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Cage {
    /// Yes; a kernel that can't do it is an error.
    #[default]
    Enforce,
    /// No. Media is hostile: only for machines whose kernel can't cage, and where that risk is taken.
    Off,
}

/// Settings of the transcoder.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Children that run at the same time, for any order that is not long as a whole. None: as many as this machine's
    /// cores keep busy.
    pub workers: Option<usize>,
    /// Children beside those for what is urgent alone (checks, and the first minutes of videos): so that a new video
    /// does not wait until a long part of another one is done. They go before the others on a busy processor.
    pub urgent_workers: usize,
    /// Children beside those for passes: orders that read a whole video through, because it can't be cut.
    pub pass_workers: usize,
    /// Children beside those for the sound of long videos, which is made in one piece.
    pub sound_workers: usize,
    /// Is the child caged?
    pub cage: Cage,
    /// Memory of one child.
    pub child_memory: Bytes,
    /// Processor time of one child, for each started hour of video in its order.
    pub child_cpu: Span,
    /// How long a child may be without any progress.
    pub child_stall: Span,
    /// Greatest side of a picture that is taken, in pixels.
    pub max_picture_side: u32,
}

/// Least memory of a child: GStreamer with its plugins and one small picture.
const LEAST_CHILD_MEMORY: Bytes = Bytes::mib(256);

impl Config {
    /// What no type says.
    ///
    /// # Errors
    /// Which setting can't be, and what it can be, as a sentence.
    pub fn judge(&self) -> Result<(), String> {
        let workers = [
            ("workers", self.workers),
            ("pass_workers", Some(self.pass_workers)),
            ("sound_workers", Some(self.sound_workers)),
        ];
        if let Some((name, _)) = workers.iter().find(|(_, count)| *count == Some(0)) {
            return Err(format!("transcoder.{name} is 0, so its orders would wait for ever"));
        }
        if self.child_memory.0 < LEAST_CHILD_MEMORY.0 {
            let memory = self.child_memory;
            return Err(format!("transcoder.child_memory is {memory}; it can be {LEAST_CHILD_MEMORY} or more"));
        }
        let spans = [("child_cpu", self.child_cpu), ("child_stall", self.child_stall)];
        match spans.iter().find(|(_, span)| span.0 < LEAST_SPAN) {
            Some((name, span)) => Err(format!("transcoder.{name} is {span}; it can be {} or more", Span(LEAST_SPAN))),
            None => Ok(()),
        }
    }
}

/// Shorter limits of a child end it before it has begun.
const LEAST_SPAN: Duration = Duration::from_secs(1);

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: None,
            urgent_workers: 1,
            pass_workers: 1,
            sound_workers: 2,
            cage: Cage::Enforce,
            child_memory: Bytes::mib(3072),
            child_cpu: Span::secs(6 * 3600),
            child_stall: Span(crate::attempt::STALL),
            max_picture_side: InspectLimits::default().max_side_px,
        }
    }
}

/// What the transcoder stands on.
#[derive(Clone)]
pub struct Deps {
    /// The log, as the user `transcoder`.
    pub log: Log,
    /// Where sources lie and renditions go.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// Attempt tokens.
    pub ids: Ids,
    /// Name of this process for `explain`: host and process id.
    pub holder: String,
    /// Command line that starts a child, up to the hidden subcommand.
    pub child: Vec<std::ffi::OsString>,
    /// Directory for the plugin registry.
    pub registry_dir: std::path::PathBuf,
}

/// Why the transcoder could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// Children can't be started here.
    #[error("prepare media children")]
    Launch(#[source] LaunchError),
    /// The plugins' files can't be looked at.
    #[error("name the toolchain")]
    Toolchain(#[source] std::io::Error),
    /// A consumer is missing.
    #[error("find the consumer of lane {lane}")]
    Consumer {
        /// Which.
        lane: &'static str,
        /// Why.
        #[source]
        source: ConsumerError,
    },
    /// The bucket of leases is missing.
    #[error("open the bucket of leases")]
    Leases(#[source] KvError),
}

/// The role.
pub struct Transcoder {
    lanes: BTreeMap<Lane, Durable>,
    hands: Vec<Hand>,
    worker: Arc<work::Worker>,
}

/// One place at which one child at a time works, and the lanes that it takes orders from, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hand(&'static [Lane]);

impl Hand {
    const ANY: Self = Self(&[Lane::First, Lane::Next, Lane::Bulk]);
    const URGENT: Self = Self(&[Lane::First, Lane::Next]);
    const PASS: Self = Self(&[Lane::Pass]);
    const SOUND: Self = Self(&[Lane::Sound]);
}

/// Cores that one child keeps busy: the largest rung has one encoder thread and as much work as all that is beside it.
const CORES_OF_A_CHILD: usize = 2;

/// Fewest children for any order where nothing else is said: beside one that waits for a store another one goes on.
const LEAST_WORKERS: usize = 2;

/// The hands of one process on a machine with `cores`. Every lane has one, or its orders would wait for ever.
fn hands(config: &Config, cores: usize) -> Vec<Hand> {
    let some = |hand, count| std::iter::repeat_n(hand, count);
    let workers = config.workers.unwrap_or_else(|| LEAST_WORKERS.max(cores / CORES_OF_A_CHILD));
    some(Hand::ANY, workers.max(1))
        .chain(some(Hand::URGENT, config.urgent_workers))
        .chain(some(Hand::PASS, config.pass_workers.max(1)))
        .chain(some(Hand::SOUND, config.sound_workers.max(1)))
        .collect()
}

impl Transcoder {
    /// Sets it up: probes the cage, builds the plugin registry, finds its consumers.
    ///
    /// # Errors
    /// When one of these is not to be had.
    pub async fn new(config: Config, deps: Deps) -> Result<Self, NewError> {
        let child = ChildConfig {
            command: deps.child.clone(),
            registry_dir: deps.registry_dir.clone(),
            cage: match config.cage {
                Cage::Enforce => CageMode::Enforce,
                Cage::Off => CageMode::Off,
            },
            library_dirs: Vec::new(),
            limits: Limits {
                memory_bytes: config.child_memory.0,
                cpu_s: config.child_cpu.0.as_secs(),
                ..Limits::default()
            },
            stall: config.child_stall.0,
        };
        let launcher = tokio::task::spawn_blocking(move || Launcher::new(child)).await;
        let launcher = launcher.map_err(std::io::Error::other).map_err(LaunchError::Thread);
        let launcher = launcher.and_then(|launcher| launcher).map_err(NewError::Launch)?;
        let toolchain = toolchain::name(&deps.registry_dir).map_err(NewError::Toolchain)?;
        tracing::info!(toolchain, "media children are ready");
        let mut lanes = BTreeMap::new();
        for lane in Lane::ALL {
            let consumer = deps.log.consumer(ConsumerName::Lane(lane)).await;
            lanes.insert(lane, consumer.map_err(|source| NewError::Consumer { lane: lane.name(), source })?);
        }
        // A machine that does not tell has one core, so that the least is taken.
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let hands = hands(&config, cores);
        tracing::info!(cores, children = hands.len(), "places for media children");
        let leases: Kv<LeaseNote> = deps.log.kv(Bucket::Leases).await.map_err(NewError::Leases)?;
        let limits = InspectLimits { max_side_px: config.max_picture_side, ..InspectLimits::default() };
        let room = room::Room::new(hands.len());
        let worker = Arc::new(work::Worker { deps, launcher, leases, limits, toolchain, room });
        Ok(Self { lanes, hands, worker })
    }

    /// Takes at most one order, from the most urgent lane that has one, and works on it to its end. False when there was
    /// none.
    ///
    /// # Errors
    /// When the log can't be asked.
    pub async fn step(&self) -> Result<bool, StepError> {
        self.take(Hand(&Lane::ALL), Wait::No, &Stop::new()).await
    }

    async fn take(&self, hand: Hand, idle: Wait, stop: &Stop) -> Result<bool, StepError> {
        for lane in hand.0 {
            if self.take_from(*lane, Wait::No, stop).await? {
                return Ok(true);
            }
        }
        match (idle, hand.0.first()) {
            (Wait::Upto(_), Some(lane)) => self.take_from(*lane, idle, stop).await,
            (Wait::Upto(_), None) | (Wait::No, _) => Ok(false),
        }
    }

    async fn take_from(&self, lane: Lane, wait: Wait, stop: &Stop) -> Result<bool, StepError> {
        let Some(orders) = self.lanes.get(&lane) else { return Ok(false) };
        let handle = |delivery| Arc::clone(&self.worker).handle(delivery, stop.clone());
        let handled = orders.step(1, wait, handle).await?;
        Ok(handled > 0)
    }

    /// Works until stopped: first lets running children finish, then cuts them and hands their orders back.
    pub async fn run(self, stop: Stop) {
        let this = Arc::new(self);
        let mut workers = JoinSet::new();
        for (number, hand) in this.hands.iter().copied().enumerate() {
            let (this, stop) = (Arc::clone(&this), stop.clone());
            workers.spawn(async move { this.work(number, hand, &stop).await });
        }
        let cut = async {
            stop.cutting().await;
            tokio::time::sleep(HAND_BACK_WITHIN).await;
        };
        tokio::select! {
            () = async { while workers.join_next().await.is_some() {} } => {}
            // Dropping the set drops the attempts, and dropping an attempt kills its child. The orders come again.
            () = cut => workers.abort_all(),
        }
    }

    async fn work(&self, number: usize, hand: Hand, stop: &Stop) {
        let Self { worker: shared, .. } = self;
        while !stop.is_finishing() {
            let _place = tokio::select! {
                place = shared.room.place(shared.deps.clock.monotonic()) => place,
                () = stop.finishing() => return,
            };
            if let Err(error) = self.take(hand, Wait::Upto(IDLE_WAIT), stop).await {
                tracing::warn!(worker = number, error = &error as &dyn std::error::Error, "could not ask for orders");
                stop.pause(AFTER_ERROR).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(workers: Option<usize>, cores: usize) -> usize {
        let config = Config { workers, ..Config::default() };
        hands(&config, cores).iter().filter(|hand| **hand == Hand::ANY).count()
    }

    #[test]
    fn a_larger_machine_has_more_children_unless_it_is_told_otherwise() {
        assert_eq!([1, 2, 4, 5, 16].map(|cores| places(None, cores)), [2, 2, 2, 2, 8]);
        assert_eq!(places(Some(3), 16), 3);
    }

    #[test]
    fn every_lane_has_a_hand() {
        let config = Config { urgent_workers: 0, ..Config::default() };
        let hands = hands(&config, 2);
        assert!(Lane::ALL.iter().all(|lane| hands.iter().any(|hand| hand.0.contains(lane))));
    }
}
