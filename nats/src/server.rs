//! A nats-server of our own: a child process, for `spool up` and the tests.
//!
//! One thread starts it, waits for it, starts it again when it dies, and ends it. The kernel kills the child when that thread ends, so it can't outlive this process,
//! however it ends (`PR_SET_PDEATHSIG` is bound to the thread that made the child, which is why it is one thread for all of the server's life and not a
//! worker of a runtime). SIGKILL is safe for what it stores: every write is synced before it is confirmed.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};

pub use crate::access::{ADMIN, INGEST_USER};
use crate::child::{Launch, State, Word, keep};
pub use crate::disk::is_full;
pub use crate::find::{MissingServer, find_server};
use crate::{Target, access};

const ONE_MACHINE_CONF: &str = include_str!("../server/one-machine.conf");
#[cfg(feature = "testing")]
pub(crate) const CLUSTER_CONF: &str = include_str!("../server/cluster.conf");

/// How to run a child server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The binary ([`find_server`]).
    pub binary: PathBuf,
    /// Its directory: store, configuration, log. Used by one server at a time; the caller sees to that.
    pub dir: PathBuf,
    /// Port on loopback; a free one if none is given. Kept over restarts.
    pub port: Option<u16>,
    /// Passwords by user that are to stay as they were; one that is missing, or was not made here, is made anew.
    pub passwords: BTreeMap<String, String>,
}

/// The child server can't be started.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Its directory can't be prepared.
    #[error("prepare {path} for nats-server")]
    Directory {
        /// Path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It can't be started.
    #[error("start {binary}")]
    Start {
        /// Binary.
        binary: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended before it was ready.
    #[error("nats-server ended before it was ready ({status}): {log}")]
    Ended {
        /// Exit status.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// Something else listens on its port.
    #[error("the port {port} of nats.port is taken: name another one, or none, and a free one is taken")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// It was not ready in time.
    #[error("nats-server was not ready in time: {log}")]
    NotReady {
        /// The end of its log.
        log: String,
    },
    /// Its disk was full, and nobody made room.
    #[error(
        "the disk of {} is full ({free_bytes} bytes are free): make {} MiB of room and start again",
        .dir.display(), .needed_bytes >> 20
    )]
    DiskFull {
        /// Its directory.
        dir: PathBuf,
        /// What is free.
        free_bytes: u64,
        /// What it takes.
        needed_bytes: u64,
    },
    /// There is no randomness for its passwords.
    #[error("make passwords for nats-server")]
    Passwords(#[source] getrandom::Error),
}

/// Why a child server is not kept up any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GaveUp {
    /// It died too often in a row.
    #[error("the nats-server died and could not be restarted")]
    Died,
    /// Its store was removed while it ran.
    #[error(
        "the log at {} was removed while it was in use, so that nothing could be stored any more: \
         put it back from a copy and start again (without one the next start begins an empty log)",
        .dir.display()
    )]
    StoreGone {
        /// Where it was.
        dir: PathBuf,
    },
}

/// A child nats-server. Restarted when it dies; dies with this process, and when this is dropped.
pub struct Server {
    port: u16,
    passwords: Arc<BTreeMap<&'static str, String>>,
    state: Arc<State>,
    commands: mpsc::Sender<Word>,
    given_up: watch::Receiver<Option<GaveUp>>,
    keeper: Option<JoinHandle<()>>,
}

/// The disk under a child server.
#[derive(Clone)]
pub struct ServerDisk(Arc<State>);

impl ServerDisk {
    /// Is it full, so that the server takes no write? It is started anew once there is room.
    pub fn is_full(&self) -> bool {
        self.0.full.load(Ordering::Relaxed)
    }
}

/// A password of each user: the kept one, or one made anew.
pub(crate) fn passwords(kept: &BTreeMap<String, String>) -> Result<BTreeMap<&'static str, String>, ServerError> {
    access::users()
        .into_iter()
        .map(|user| {
            if let Some(password) = kept.get(user).filter(|password| is_ours(password)) {
                return Ok((user, password.clone()));
            }
            let mut bits = [0u8; 16];
            getrandom::fill(&mut bits).map_err(ServerError::Passwords)?;
            // It begins with a letter, since the server reads the variable as it reads its configuration, where 12e5 is a number.
            Ok((user, format!("p{:032x}", u128::from_be_bytes(bits))))
        })
        .collect()
}

/// Does it look like one of [`passwords`]? Nothing else may get into the server's configuration.
fn is_ours(password: &str) -> bool {
    let hex = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    password.strip_prefix('p').is_some_and(|rest| rest.len() == 32 && rest.bytes().all(hex))
}

impl Server {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(config: ServerConfig) -> Result<Server, ServerError> {
        let passwords = passwords(&config.passwords)?;
        Server::launch(config, ONE_MACHINE_CONF, passwords, BTreeMap::new()).await
    }

    pub(crate) async fn launch(
        config: ServerConfig,
        conf: &str,
        passwords: BTreeMap<&'static str, String>,
        more: BTreeMap<String, String>,
    ) -> Result<Server, ServerError> {
        let ServerConfig { binary, dir, port, passwords: _ } = config;
        let mut environment = more;
        environment.extend(passwords.iter().map(|(user, p)| (access::password_variable(user), p.clone())));
        let mut launch = Launch { binary, dir, port, environment, log_from: AtomicU64::new(0) };
        launch.prepare(conf)?;

        let state = Arc::new(State::default());
        let (commands, words) = mpsc::channel();
        let (gave_up, given_up) = watch::channel(None);
        let (ready, started) = oneshot::channel();
        let keeper = std::thread::Builder::new().name("nats-server".to_owned()).spawn({
            let state = Arc::clone(&state);
            move || {
                let first = launch.start();
                let child = match first {
                    Ok((child, port)) => {
                        launch.port = Some(port);
                        state.pid.store(child.id(), Ordering::Relaxed);
                        // Nobody waits any more: the words' channel is closed too, which ends the child.
                        let _ = ready.send(Ok(port));
                        child
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        return;
                    }
                };
                keep(&launch, child, &words, &state, &gave_up);
            }
        });
        let keeper = keeper.map_err(|source| ServerError::Start { binary: "a thread".into(), source })?;
        let port = started.await.unwrap_or_else(|_| Err(ServerError::NotReady { log: String::new() }))?;
        Ok(Server { port, passwords: Arc::new(passwords), state, commands, given_up, keeper: Some(keeper) })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The password of a user (a role's name, [`ADMIN`], [`INGEST_USER`]). Nothing for others.
    pub fn password(&self, user: &str) -> Option<&str> {
        self.passwords.get(user).map(String::as_str)
    }

    /// Where to connect as this user (a role's name, [`ADMIN`], [`INGEST_USER`]).
    ///
    /// # Panics
    /// When there is no such user.
    pub fn target(&self, user: &str) -> Target {
        let password =
            self.password(user).expect("every role, admin and ingest have a password; other names are a bug");
        Target { url: self.url(), user: user.to_owned(), password: password.to_owned(), role: user.to_owned() }
    }

    /// All passwords by user: what another start takes to keep them.
    pub fn passwords(&self) -> &BTreeMap<&'static str, String> {
        &self.passwords
    }

    /// How often it was restarted.
    pub fn restarts(&self) -> u64 {
        self.state.restarts.load(Ordering::Relaxed)
    }

    /// Its process id; nothing between its death and its next start.
    pub fn pid(&self) -> Option<u32> {
        Some(self.state.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    /// Its disk, for those who say whether all is well.
    pub fn disk(&self) -> ServerDisk {
        ServerDisk(Arc::clone(&self.state))
    }

    /// Waits until it is not kept up any more; for ever while it is.
    pub async fn gave_up(&self) -> GaveUp {
        let mut given_up = self.given_up.clone();
        // The sender goes only with the thread, which then has given up or was told to stop.
        let why = given_up.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        why.unwrap_or(GaveUp::Died)
    }

    /// Ends it cleanly and waits for it, a bounded time.
    pub async fn stop(self) {
        let (done, stopped) = oneshot::channel();
        if self.commands.send(Word::Stop(done)).is_ok() {
            let _ = stopped.await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when the thread has ended, and the child with it.
        let _ = self.commands.send(Word::Kill);
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}
