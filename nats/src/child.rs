//! The child process of [`crate::server`]: how it is started, kept up and ended. All of it blocks, on one thread of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use crate::disk::{self, Disk, Seen};
use crate::server::{GaveUp, ServerError};

/// How long a start may take before it counts as failed; a large store takes seconds to read.
const READY: Duration = Duration::from_secs(60);
/// How long it may take to end cleanly before it is killed.
const END: Duration = Duration::from_secs(10);
/// How often the thread looks whether the child still lives.
const LOOK: Duration = Duration::from_millis(50);
/// Pause before a restart; doubled with each one in a row.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause before a restart.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Restarts in a row after which it is given up: with their pauses about half a minute.
const RESTARTS_IN_A_ROW: u32 = 10;
/// A child that lived this long ends a row of restarts.
const LIVED: Duration = Duration::from_secs(60);
/// How much of the log an error quotes.
const LOG_END: usize = 2000;
/// The log file is begun anew at this size.
pub(crate) const LOG_MAX_BYTES: u64 = 16 << 20;

const ROLES_CONF: &str = include_str!("../server/roles.conf");

/// What others may see of the child.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) pid: AtomicU32,
    pub(crate) restarts: AtomicU64,
    /// It can't write, because its disk is full or was.
    pub(crate) full: AtomicBool,
}

/// What the thread is told.
pub(crate) enum Word {
    /// End it cleanly.
    Stop(oneshot::Sender<()>),
    /// End it at once.
    Kill,
}

/// How to start the child, again and again.
pub(crate) struct Launch {
    pub(crate) binary: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) port: Option<u16>,
    pub(crate) environment: BTreeMap<String, String>,
    /// Where in the log the words of the child begin that was started last.
    pub(crate) log_from: AtomicU64,
}

impl Launch {
    fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    pub(crate) fn store_dir(&self) -> PathBuf {
        self.dir.join("store")
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.dir.join("nats-server.log")
    }

    pub(crate) fn prepare(&self, conf: &str) -> Result<(), ServerError> {
        let run = self.run_dir();
        let wrap = |path: &Path| {
            let path = path.to_owned();
            move |source| ServerError::Directory { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&run).map_err(wrap(&run))?;
        for (name, text) in [("server.conf", conf), ("roles.conf", ROLES_CONF)] {
            let path = run.join(name);
            fs::write(&path, text).map_err(wrap(&path))?;
        }
        Ok(())
    }

    /// Starts it and waits until it says on which port it is ready. Blocks.
    pub(crate) fn start(&self) -> Result<(Child, u16), ServerError> {
        disk::wait_for_room(&self.dir, READY, || disk::free_bytes(&self.dir))?;
        self.find_port_free()?;
        let run = self.run_dir();
        self.forget_ports();
        let log = self.open_log().map_err(|source| ServerError::Directory { path: self.log_file(), source })?;
        self.log_from.store(log.metadata().map_or(0, |meta| meta.len()), Ordering::Relaxed);
        let parent = std::process::id();
        let mut command = Command::new(&self.binary);
        command
            .arg("-c")
            .arg(run.join("server.conf"))
            .args(["-a", "127.0.0.1", "-p"])
            .arg(self.port.map_or("-1".to_owned(), |port| port.to_string()))
            .arg("-sd")
            .arg(self.store_dir())
            .arg("--ports_file_dir")
            .arg(&run)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        // Its own group, so that a Ctrl-C in a terminal reaches us and not it: it must outlast the roles that drain.
        command.process_group(0);
        die_with_parent(&mut command, parent);
        let mut child = command.spawn().map_err(|source| ServerError::Start { binary: self.binary.clone(), source })?;
        let deadline = Instant::now() + READY;
        loop {
            if let Some(port) = self.ready_port(child.id()) {
                return Ok((child, port));
            }
            match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => {
                    return Err(ServerError::Ended { status: status.to_string(), log: self.log_end() });
                }
                Err(source) => return Err(ServerError::Start { binary: self.binary.clone(), source }),
            }
            if Instant::now() > deadline {
                kill(&mut child);
                return Err(ServerError::NotReady { log: self.log_end() });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Is the port that it shall have free? Its own words on that are a screenful of its log.
    fn find_port_free(&self) -> Result<(), ServerError> {
        let Some(port) = self.port else { return Ok(()) };
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(ServerError::PortTaken { port }),
            // Whatever else is wrong with it the server will say.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// The port, once the server has written that it is ready. It writes the file when its store is read and its listeners are open.
    fn ready_port(&self, pid: u32) -> Option<u16> {
        #[derive(serde::Deserialize)]
        struct Ports {
            nats: Vec<String>,
        }
        let entries = fs::read_dir(self.run_dir()).ok()?;
        let mine = entries.filter_map(Result::ok).map(|entry| entry.path()).find(|path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(&format!("_{pid}.ports")))
        })?;
        let ports: Ports = serde_json::from_slice(&fs::read(mine).ok()?).ok()?;
        ports.nats.first()?.rsplit(':').next()?.parse().ok()
    }

    fn forget_ports(&self) {
        let Ok(entries) = fs::read_dir(self.run_dir()) else { return };
        for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == "ports") {
                // One that stays names another pid and is passed over.
                let _ = fs::remove_file(path);
            }
        }
    }

    fn open_log(&self) -> io::Result<fs::File> {
        let path = self.log_file();
        let large = fs::metadata(&path).is_ok_and(|meta| meta.len() > LOG_MAX_BYTES);
        if large {
            fs::rename(&path, path.with_extension("log.1"))?;
        }
        fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)
    }

    fn log_end(&self) -> String {
        let text = fs::read(self.log_file()).unwrap_or_default();
        let end = &text[text.len().saturating_sub(LOG_END)..];
        String::from_utf8_lossy(end).trim().to_owned()
    }
}

/// Asks the kernel to kill the child when the thread that makes it ends.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "the closure makes two system calls and allocates nothing, as is demanded between fork and exec"
)]
fn die_with_parent(command: &mut Command, parent: u32) {
    // SAFETY: only async-signal-safe calls: prctl and getppid, both plain system calls in rustix.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            // It may have died before the kernel knew.
            let now = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
            if now == parent {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()))
            }
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_: &mut Command, _: u32) {}

/// Keeps the child up until told otherwise. Blocks.
pub(crate) fn keep(
    launch: &Launch,
    mut child: Child,
    words: &mpsc::Receiver<Word>,
    state: &State,
    gave_up: &watch::Sender<Option<GaveUp>>,
) {
    let mut born = Instant::now();
    let mut in_a_row = 0;
    let mut disk = Disk::of(launch);
    loop {
        match heard(words, LOOK) {
            None => {}
            Some(Word::Stop(done)) => {
                end(&mut child);
                // Nobody waits any more.
                let _ = done.send(());
                return;
            }
            Some(Word::Kill) => return kill(&mut child),
        }
        let ended = child.try_wait().transpose();
        let how = match fate(disk.look(launch, state, ended.is_some()), ended) {
            Fate::Lives => continue,
            Fate::Ended(how) => how,
            Fate::ToEnd(why) => {
                end(&mut child);
                why.to_owned()
            }
            Fate::Hopeless => {
                kill(&mut child);
                state.pid.store(0, Ordering::Relaxed);
                // Nobody may be waiting.
                let _ = gave_up.send(Some(GaveUp::StoreGone { dir: launch.store_dir() }));
                return;
            }
        };
        state.pid.store(0, Ordering::Relaxed);
        in_a_row = if born.elapsed() > LIVED { 0 } else { in_a_row };
        tracing::error!("nats-server died ({how}); starting it again. Its log: {}", launch.log_file().display());
        child = match start_again(launch, words, &mut in_a_row) {
            Again::Runs(child) => child,
            Again::Told => return,
            Again::GivenUp => {
                tracing::error!("nats-server died {RESTARTS_IN_A_ROW} times in a row and is given up");
                // Nobody may be waiting.
                let _ = gave_up.send(Some(GaveUp::Died));
                return;
            }
        };
        born = Instant::now();
        disk = Disk::of(launch);
        state.full.store(false, Ordering::Relaxed);
        state.pid.store(child.id(), Ordering::Relaxed);
        state.restarts.fetch_add(1, Ordering::Relaxed);
    }
}

/// What is said within this time. Where nobody is left who could say a word, the child is to end at once.
fn heard(words: &mpsc::Receiver<Word>, within: Duration) -> Option<Word> {
    match words.recv_timeout(within) {
        Ok(word) => Some(word),
        Err(mpsc::RecvTimeoutError::Disconnected) => Some(Word::Kill),
        Err(mpsc::RecvTimeoutError::Timeout) => None,
    }
}

/// What is to become of the child.
enum Fate {
    Lives,
    /// It has ended, in this way.
    Ended(String),
    /// It is to be ended and started again, for this reason.
    ToEnd(&'static str),
    /// Its store is gone, and it can't be started without.
    Hopeless,
}

/// By what was seen of its disk, and how it ended if it did.
fn fate(seen: Seen, ended: Option<io::Result<ExitStatus>>) -> Fate {
    match (seen, ended) {
        (Seen::Gone, _) => Fate::Hopeless,
        (Seen::Nothing | Seen::Freed, Some(Ok(status))) => Fate::Ended(status.to_string()),
        (Seen::Nothing | Seen::Freed, Some(Err(error))) => Fate::Ended(error.to_string()),
        (Seen::Freed, None) => Fate::ToEnd("ended, since its disk was full and has room again"),
        (Seen::Nothing, None) => Fate::Lives,
    }
}

/// What came of starting it again.
enum Again {
    Runs(Child),
    /// It was told to stop meanwhile: nothing runs.
    Told,
    /// It died too often.
    GivenUp,
}

/// Starts it again, after a pause that doubles with each start in a row.
fn start_again(launch: &Launch, words: &mpsc::Receiver<Word>, in_a_row: &mut u32) -> Again {
    while *in_a_row < RESTARTS_IN_A_ROW {
        let pause = RESTART_PAUSE.saturating_mul(1 << *in_a_row).min(RESTART_PAUSE_MAX);
        *in_a_row += 1;
        match heard(words, pause) {
            None => {}
            Some(Word::Stop(done)) => {
                let _ = done.send(());
                return Again::Told;
            }
            Some(Word::Kill) => return Again::Told,
        }
        match launch.start() {
            Ok((child, _)) => return Again::Runs(child),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "nats-server could not be started again");
            }
        }
    }
    Again::GivenUp
}

/// Ends the child cleanly, or kills it when that takes too long.
fn end(child: &mut Child) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It fails only when the child is gone.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    let deadline = Instant::now() + END;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    tracing::warn!("nats-server did not end in time and is killed");
    kill(child);
}

fn kill(child: &mut Child) {
    // Both fail only when it is gone.
    let _ = child.kill();
    let _ = child.wait();
}
