//! Where children are born and buried.
//!
//! The kernel's parent-death signal goes off when the *thread* that started a child ends. So one thread of its own starts
//! them all and lives as long as the [`Nursery`]; a pool's thread would end when idle and take its children along.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Bytes kept of the end of a child's standard error.
const SAID_BYTES: usize = 8 << 10;
/// How long a child that said its last word, or closed its output, may take to end before it is killed.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// What a child took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Processor time, user and system.
    pub cpu: Duration,
    /// Greatest resident memory in bytes.
    pub peak_bytes: u64,
    /// From start to end.
    pub wall: Duration,
}

/// How a child ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) signal: Option<i32>,
    /// Was it told to end by us, while it lived?
    pub(super) killed: bool,
    pub(super) usage: Usage,
    pub(super) said: String,
}

type Spawn = (Command, oneshot::Sender<io::Result<(Child, OwnedFd)>>);

/// The thread that starts children.
pub(super) struct Nursery {
    orders: mpsc::Sender<Spawn>,
}

impl Nursery {
    pub(super) fn start() -> io::Result<Self> {
        let (orders, asked) = mpsc::channel::<Spawn>();
        std::thread::Builder::new().name("nursery".to_owned()).spawn(move || {
            while let Ok((mut command, reply)) = asked.recv() {
                let started = command.spawn().and_then(|mut child| {
                    match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
                        Ok(handle) => Ok((child, handle)),
                        Err(err) => {
                            child.kill()?;
                            child.wait()?;
                            Err(err.into())
                        }
                    }
                });
                // Nobody waits any more: the child must not stay.
                if let Err(Ok((mut child, _))) = reply.send(started) {
                    let _already_gone = child.kill();
                    let _reaped = child.wait();
                }
            }
        })?;
        Ok(Self { orders })
    }

    /// Starts a child with `ranges` as its standard input and `output` as its standard output.
    pub(super) async fn spawn(&self, mut command: Command, ranges: UnixStream, output: UnixStream) -> io::Result<Ward> {
        command
            .stdin(blocking(ranges)?)
            .stdout(blocking(output)?)
            .stderr(Stdio::piped())
            // A Ctrl-C at the terminal is for the parent, which ends its children in its own order.
            .process_group(0);
        let (reply, started) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts children has ended");
        self.orders.send((command, reply)).map_err(|_| gone())?;
        let (mut child, handle) = started.await.map_err(|_| gone())??;
        let pid = child.id();
        let said = child.stderr.take().map(|pipe| tokio::spawn(tail(pipe)));
        let waited = tokio::task::spawn_blocking(move || reap(&child));
        Ok(Ward { pid, handle, waited: Some(waited), said })
    }
}

fn blocking(socket: UnixStream) -> io::Result<Stdio> {
    let socket = socket.into_std()?;
    socket.set_nonblocking(false)?;
    Ok(OwnedFd::from(socket).into())
}

/// A child that runs. Dropped, it is killed; reaped it is in any case.
pub(super) struct Ward {
    pid: u32,
    handle: OwnedFd,
    waited: Option<JoinHandle<io::Result<(ExitStatus, Usage)>>>,
    said: Option<JoinHandle<String>>,
}

impl Ward {
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Its end: what it comes to by itself within a while where it `leaves`, or at once.
    pub(super) async fn end(&mut self, leaves: bool) -> Ended {
        let Some(mut waited) = self.waited.take() else { return Ended::default() };
        let within = if leaves { LEAVE_WITHIN } else { Duration::ZERO };
        let (result, killed) = match tokio::time::timeout(within, &mut waited).await {
            Ok(result) => (result, false),
            Err(_) => {
                self.kill();
                (waited.await, true)
            }
        };
        let said = match self.said.take() {
            Some(said) => said.await.unwrap_or_default(),
            None => String::new(),
        };
        match result {
            Ok(Ok((status, usage))) => Ended { code: status.code(), signal: status.signal(), killed, usage, said },
            Ok(Err(err)) => Ended { said: format!("{said}\nwait for the child: {err}"), ..Ended::default() },
            Err(err) => Ended { said: format!("{said}\nwait for the child: {err}"), ..Ended::default() },
        }
    }

    fn kill(&self) {
        // The handle names this process and no later one with its number; already gone is as good.
        let _already_gone = pidfd_send_signal(&self.handle, Signal::KILL);
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Keeps the end of what comes out of `pipe`.
async fn tail(pipe: std::process::ChildStderr) -> String {
    let Ok(mut pipe) = tokio::process::ChildStderr::from_std(pipe) else { return String::new() };
    let mut kept: Vec<u8> = Vec::new();
    let mut part = [0; 4096];
    while let Ok(read @ 1..) = pipe.read(&mut part).await {
        kept.extend_from_slice(&part[..read]);
        if kept.len() > 2 * SAID_BYTES {
            kept.drain(..kept.len() - SAID_BYTES);
        }
    }
    let from = kept.len().saturating_sub(SAID_BYTES);
    String::from_utf8_lossy(&kept[from..]).into_owned()
}

/// Waits for the child's end and what it took.
#[expect(unsafe_code, reason = "wait4 is the only call that reaps and tells what was used; rustix has none")]
fn reap(child: &Child) -> io::Result<(ExitStatus, Usage)> {
    let pid = child.id() as libc::pid_t;
    let mut status = 0;
    loop {
        // SAFETY: both pointers are to values that live over the call; all-zero is a valid rusage.
        let (result, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            (libc::wait4(pid, &raw mut status, 0, &raw mut usage), usage)
        };
        if result == pid {
            return Ok((ExitStatus::from_raw(status), used(&usage)));
        }
        let err = io::Error::last_os_error();
        if err.kind() != io::ErrorKind::Interrupted {
            return Err(err);
        }
    }
}

fn used(usage: &libc::rusage) -> Usage {
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec.unsigned_abs()) + Duration::from_micros(t.tv_usec.unsigned_abs())
    };
    Usage {
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        peak_bytes: usage.ru_maxrss.unsigned_abs() * 1024,
        wall: Duration::ZERO,
    }
}
