//! The parent's side of one attempt: start the child, serve its ranges, take its output, watch it, end it.
//!
//! However an attempt ends (done, failed, crashed, stalled, over a limit, dropped by its caller), the child is gone and
//! reaped after it, and the end has a name. The two sockets are served by tasks of their own, so that a slow receiver
//! never keeps ranges back and a slow store never keeps output back.

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::cage::{CageMode, CageOrder, CageRefused, CageReport, LIBRARY_DIRS, Limits};
use crate::order::{Answer, Failure, FailureCode, Made, Order};
use crate::registry::{Registry, RegistryError};
use crate::wire::{self, Broken};

mod nursery;
mod sockets;
mod watch;

pub use nursery::Usage;
use nursery::{Ended, Nursery};
pub use watch::PATIENCE;
use watch::{Manners, Motion, Over};

/// How children are started and what they may take.
#[derive(Debug, Clone)]
pub struct ChildConfig {
    /// Executable and arguments up to the hidden subcommand, whose own arguments follow.
    pub command: Vec<OsString>,
    /// Directory for the plugin registry; made if missing.
    pub registry_dir: PathBuf,
    /// Shut the cage or, by explicit choice, not.
    pub cage: CageMode,
    /// Directories of libraries besides the usual ones.
    pub library_dirs: Vec<PathBuf>,
    /// What one child may take.
    pub limits: Limits,
    /// How long nothing may move while the child waits for nobody.
    pub stall: Duration,
}

/// How long nothing may move before a child counts as stalled.
pub const STALL: Duration = Duration::from_secs(15);

/// Why children cannot be started here.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The kernel cannot cage them.
    #[error("cage the media child")]
    Cage(#[source] CageRefused),
    /// There are no plugins for them.
    #[error("prepare plugins for the media child")]
    Registry(#[source] RegistryError),
    /// The thread that starts them could not be started.
    #[error("start the thread that starts media children")]
    Thread(#[source] io::Error),
}

/// Bytes of a source, for a child that may not have them itself.
pub trait SourceBytes: Send + Sync + 'static {
    /// Bytes of the whole.
    fn size_bytes(&self) -> u64;
    /// The bytes of a range that lies within it. Bounded in time by whoever implements it: a child that waits for its
    /// parent is not stalled.
    fn read(&self, range: Range<u64>) -> Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send + '_>>;
}

/// What a child hands out while it works. The names in it come from a process that hostile bytes may have taken over: the
/// receiver compares them with the order before it uses them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// More bytes of an object (for a still picture: chunk 0 of its name).
    Bytes {
        /// Name of the rendition.
        rendition: String,
        /// Index of the chunk.
        chunk: u32,
        /// In order.
        data: Bytes,
    },
    /// An object is whole.
    ObjectDone {
        /// Name of the rendition.
        rendition: String,
        /// Index of the chunk.
        chunk: u32,
        /// What was made.
        made: Made,
    },
    /// Work moved on.
    Progress {
        /// How far on the timeline.
        at_ns: u64,
    },
    /// Nothing moves, and there is patience left: the child, or what it waits for, still has time. Said now and then,
    /// so that who holds a lease on the order can keep it.
    Quiet,
    /// A raw frame went into the encoders; tests only.
    FrameHash {
        /// Where on the timeline.
        at_ns: u64,
        /// Of the frame.
        hash: u64,
    },
}

/// How an attempt ended that was carried through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The child's answer, or the failure that the parent found ([`Answer::Failed`] with a `child_…` code).
    pub answer: Answer,
    /// What it took.
    pub usage: Usage,
    /// What kept it in; none when it died before it said so.
    pub cage: Option<CageReport>,
    /// The end of what it wrote to standard error, for operators.
    pub said: String,
}

/// Why an attempt could not be carried through: not the child's doing, nor the source's.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// The process could not be started.
    #[error("start the media child")]
    Start(#[source] io::Error),
    /// The kernel cannot cage it.
    #[error("cage the media child: {0}")]
    CageRefused(String),
    /// Bytes of the source could not be read.
    #[error("read bytes {}..{} of the source for the media child", range.start, range.end)]
    Source {
        /// Which.
        range: Range<u64>,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The receiver of deliveries is gone.
    #[error("hand on what the media child made: the receiver is gone")]
    ReceiverGone,
}

/// How the child's allocator (glibc) is told to keep its threads' memory together. Its own rules for large blocks stay: told
/// to give each picture back at once (a fixed `MALLOC_MMAP_THRESHOLD_`) a child of five renditions of 1080p peaked up to 9 %
/// lower and needed 4 % more processor time, to clear the pages of each picture anew.
const ALLOCATOR: [(&str, &str); 1] = [("MALLOC_ARENA_MAX", "2")];

/// Starts children. One for a process; dropping it ends those that still run.
pub struct Launcher {
    config: ChildConfig,
    registry: Registry,
    nursery: Nursery,
}

impl Launcher {
    /// Asks the kernel for the cage and builds the plugin registry. Takes about a second; blocks.
    pub fn new(config: ChildConfig) -> Result<Self, LaunchError> {
        match config.cage {
            CageMode::Enforce => crate::cage::probe().map_err(LaunchError::Cage)?,
            CageMode::Off => tracing::warn!("media children run without a cage, by configuration"),
        }
        let registry = Registry::build(&config.command, &config.registry_dir).map_err(LaunchError::Registry)?;
        let nursery = Nursery::start().map_err(LaunchError::Thread)?;
        Ok(Self { config, registry, nursery })
    }

    /// Serves one order by one child. Deliveries go to `out`, whose fullness slows the child down. Dropping the future
    /// kills the child.
    pub async fn run(
        &self,
        order: Order,
        source: Arc<dyn SourceBytes>,
        out: mpsc::Sender<Delivery>,
    ) -> Result<Finished, AttemptError> {
        let started = std::time::Instant::now();
        let (ranges, child_ranges) = UnixStream::pair().map_err(AttemptError::Start)?;
        let (output, child_output) = UnixStream::pair().map_err(AttemptError::Start)?;
        let mut child =
            self.nursery.spawn(self.command(), child_ranges, child_output).await.map_err(AttemptError::Start)?;

        let motion = Arc::new(Motion::at(order.starts_at_ns()));
        let limits = self.config.limits.for_hours(order.hours());
        let manners =
            Manners { stall: self.config.stall, memory_bytes: self.config.limits.memory_bytes, nice: order.nice() };
        let assignment = wire::assignment_frame(&wire::Assignment {
            order,
            size_bytes: source.size_bytes(),
            cage: self.cage_order(limits),
        });
        let serve_ranges = sockets::serve_ranges(ranges, source, Arc::clone(&motion));
        let quiet = out.clone();
        let take_output = sockets::take_output(output, assignment, out, Arc::clone(&motion));
        // With no room in it the receiver is busy, and needs no word of this.
        let watch = watch::watch(child.pid(), motion, manners, || drop(quiet.try_send(Delivery::Quiet)));
        tokio::pin!(serve_ranges, take_output, watch);

        let mut ranges_open = true;
        let end = loop {
            tokio::select! {
                // Output first: what the child said before it died counts.
                biased;
                taken = &mut take_output => break End::Output(taken),
                served = &mut serve_ranges, if ranges_open => match served {
                    // The child closes its end by ending; its output tells how.
                    Ok(()) => ranges_open = false,
                    Err(err) => break End::Ranges(err),
                },
                over = &mut watch => break End::Over(over),
            }
        };
        // Who closes its output has ended, or is about to: only its own end tells how.
        let leaves = matches!(end, End::Output(Ok(_)));
        let ended = child.end(leaves).await;
        finish(end, ended, &ChildConfig { limits, ..self.config.clone() }, started.elapsed())
    }

    fn command(&self) -> std::process::Command {
        let mut parts = self.config.command.iter();
        let mut command = std::process::Command::new(parts.next().map_or("".as_ref(), OsString::as_os_str));
        command
            .args(parts)
            .arg("serve")
            .arg(std::process::id().to_string())
            .env_clear()
            .envs(self.registry.environment(false))
            .envs(ALLOCATOR);
        command
    }

    fn cage_order(&self, limits: Limits) -> CageOrder {
        let usual = LIBRARY_DIRS.iter().map(PathBuf::from);
        CageOrder {
            mode: self.config.cage,
            limits,
            library_dirs: usual.chain(self.config.library_dirs.iter().cloned()).collect(),
            registry_dir: self.registry.dir().to_owned(),
        }
    }
}

/// What ended an attempt.
#[expect(clippy::large_enum_variant, reason = "one for each child, matched at once")]
enum End {
    Output(Result<sockets::Taken, sockets::TakeError>),
    Ranges(sockets::ServeError),
    Over(Over),
}

/// The name of an end.
fn finish(end: End, ended: Ended, config: &ChildConfig, wall: Duration) -> Result<Finished, AttemptError> {
    let usage = Usage { wall, ..ended.usage };
    let (answer, cage) = match end {
        End::Output(Ok(sockets::Taken { refused: Some(why), .. })) => return Err(AttemptError::CageRefused(why)),
        End::Output(Ok(sockets::Taken { answer: Some(answer), cage, .. })) => (answer, cage),
        End::Output(Ok(sockets::Taken { cage, .. })) => (Answer::Failed(death(&ended, config)), cage),
        End::Output(Err(sockets::TakeError::ReceiverGone)) => return Err(AttemptError::ReceiverGone),
        End::Ranges(sockets::ServeError::Source { range, source }) => {
            return Err(AttemptError::Source { range, source });
        }
        End::Output(Err(sockets::TakeError::Broken(broken))) | End::Ranges(sockets::ServeError::Broken(broken)) => {
            (Answer::Failed(broken_protocol(&broken)), None)
        }
        End::Over(Over::Stalled) => {
            let limit = format!("{} s", config.stall.as_secs_f64());
            let failure = Failure::new(FailureCode::ChildStalled, "nothing moved").with("limit", limit);
            (Answer::Failed(failure), None)
        }
        End::Over(Over::Starved) => {
            let limit = format!("{} s", (config.stall * PATIENCE).as_secs_f64());
            let failure = Failure::new(FailureCode::ChildStarved, "nothing moved, and others had the processor");
            (Answer::Failed(failure.with("limit", limit)), None)
        }
        End::Over(Over::Memory(resident)) => {
            (Answer::Failed(memory(config, format!("{resident} bytes resident"))), None)
        }
    };
    Ok(Finished { answer, usage, cage, said: ended.said })
}

fn broken_protocol(broken: &Broken) -> Failure {
    Failure::new(FailureCode::ChildCrashed, broken.to_string()).with("exit", "protocol")
}

fn memory(config: &ChildConfig, detail: String) -> Failure {
    let limit = format!("{} MiB", config.limits.memory_bytes >> 20);
    Failure::new(FailureCode::ChildMemory, detail).with("limit", limit)
}

/// What libraries write when an allocation fails: Rust, glib, libc and C++ in that order.
const OUT_OF_MEMORY: [&str; 5] =
    ["memory allocation of", "failed to allocate", "Cannot allocate memory", "std::bad_alloc", "Out of memory"];

/// Signals that no decoder and no limit of the cage but that of processor time sends, and the one for that names itself
/// before: the kernel when the machine's memory is used up, an operator, or whoever stops a whole group of processes.
const FROM_OUTSIDE: [i32; 5] = [libc::SIGKILL, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

/// The name of a death without a last word.
fn death(ended: &Ended, config: &ChildConfig) -> Failure {
    let said = ended.said.trim();
    if ended.signal == Some(libc::SIGXCPU) || ended.usage.cpu.as_secs() >= config.limits.cpu_s {
        let limit = format!("{} s", config.limits.cpu_s);
        return Failure::new(FailureCode::ChildCpu, said).with("limit", limit);
    }
    if OUT_OF_MEMORY.iter().any(|sign| said.contains(sign)) {
        return memory(config, said.to_owned());
    }
    if let Some(signal) = ended.signal.filter(|signal| !ended.killed && FROM_OUTSIDE.contains(signal)) {
        return Failure::new(FailureCode::ChildKilled, said).with("signal", signal);
    }
    let failure = Failure::new(FailureCode::ChildCrashed, said);
    match (ended.signal, ended.code) {
        (Some(signal), _) => failure.with("signal", signal),
        (None, Some(code)) => failure.with("exit", code),
        (None, None) => failure,
    }
}
