//! The disk under the child of [`crate::server`]: whether it is full, and has room again; whether the store is still there.

use std::fs;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::child::{LOG_MAX_BYTES, Launch, State};
use crate::server::ServerError;

/// How often the disk and the log are looked at.
const LOOK_AT_DISK: Duration = Duration::from_secs(1);
/// The same while nothing else is done.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(200);
/// What it writes to its log when its disk is full. From then on its stream takes no write, also when there is room again,
/// until it is started anew (seen with 2.15.1).
const FULL: &[u8] = b"no space left on device";
/// With fewer free bytes it counts as full without a word: its log lies on the same disk.
const FULL_BYTES: u64 = 1 << 20;
/// Free bytes with which starting it anew is worth it.
const ROOM_BYTES: u64 = 32 << 20;

/// Is the disk under this directory full? A nats-server on it takes no write, and none can be started.
pub fn is_full(dir: &Path) -> bool {
    free_bytes(dir) < FULL_BYTES
}

/// Free bytes of a disk; where the system does not say, only the server's own words count.
pub(crate) fn free_bytes(dir: &Path) -> u64 {
    let disk = rustix::fs::statvfs(dir);
    disk.map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Waits for room on a full disk: a server that starts on one says nothing and is never ready. Blocks.
pub(crate) fn wait_for_room(dir: &Path, within: Duration, free: impl Fn() -> u64) -> Result<(), ServerError> {
    let deadline = Instant::now() + within;
    let mut needed_bytes = FULL_BYTES;
    loop {
        let free_bytes = free();
        if free_bytes >= needed_bytes {
            return Ok(());
        }
        if needed_bytes == FULL_BYTES {
            needed_bytes = ROOM_BYTES;
            let (dir, room) = (dir.display(), ROOM_BYTES >> 20);
            tracing::error!(
                free_bytes,
                "the disk of {dir} is full: nats-server is started when there are {room} MiB of room"
            );
        }
        if Instant::now() >= deadline {
            return Err(ServerError::DiskFull { dir: dir.to_owned(), free_bytes, needed_bytes });
        }
        std::thread::sleep(LOOK_FOR_ROOM);
    }
}

/// What is known of the disk under a running child.
pub(crate) struct Disk {
    /// How far its log was read.
    read: u64,
    looked: Instant,
    /// The directory of its store, by its number: one of the same name would be another one.
    store: Option<(u64, u64)>,
}

/// What was seen of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing that asks for anything.
    Nothing,
    /// It was full since the child was started, and has room again.
    Freed,
    /// The store was removed under the child, which does not notice: what it confirms now is lost with its process.
    Gone,
}

impl Disk {
    /// Of a child that was just started: what its log says so far is about the ones before it.
    pub(crate) fn of(launch: &Launch) -> Self {
        let read = launch.log_from.load(Ordering::Relaxed);
        Self { read, looked: Instant::now(), store: number(&store(launch)) }
    }

    /// Looks, if it is time to, or asked for.
    pub(crate) fn look(&mut self, launch: &Launch, state: &State, now: bool) -> Seen {
        if !now && self.looked.elapsed() < LOOK_AT_DISK {
            return Seen::Nothing;
        }
        self.looked = Instant::now();
        if self.store.is_some() && number(&store(launch)) != self.store {
            return Seen::Gone;
        }
        let free = free_bytes(&launch.dir);
        let complains = self.complains(launch).unwrap_or(false);
        if !state.full.load(Ordering::Relaxed) && (complains || free < FULL_BYTES) {
            state.full.store(true, Ordering::Relaxed);
            tracing::error!(
                "the disk of the log, at {}, is full: nothing new is taken until there are {} MiB of room",
                launch.dir.display(),
                ROOM_BYTES >> 20
            );
        }
        if state.full.load(Ordering::Relaxed) && free >= ROOM_BYTES { Seen::Freed } else { Seen::Nothing }
    }

    /// Does what came to its log since the last look say so?
    fn complains(&mut self, launch: &Launch) -> io::Result<bool> {
        let mut log = fs::File::open(launch.log_file())?;
        // Back by the length of the words, in case they came in two parts.
        log.seek(io::SeekFrom::Start(self.read.saturating_sub(FULL.len() as u64)))?;
        let mut new = Vec::new();
        log.take(LOG_MAX_BYTES).read_to_end(&mut new)?;
        self.read = self.read.saturating_sub(FULL.len() as u64) + new.len() as u64;
        Ok(new.windows(FULL.len()).any(|words| words == FULL))
    }
}

/// Where the server keeps what it confirmed.
fn store(launch: &Launch) -> PathBuf {
    launch.store_dir().join("jetstream")
}

fn number(dir: &Path) -> Option<(u64, u64)> {
    fs::metadata(dir).map(|meta| (meta.dev(), meta.ino())).ok()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_server_is_not_started_on_a_full_disk_and_the_disk_is_named() {
        let dir = Path::new("/data/nats");
        let looks = Cell::new(0);
        // A little room is not enough once it was full: what writes would fill it again at once.
        let free = || {
            looks.set(looks.get() + 1);
            [0, FULL_BYTES, ROOM_BYTES][looks.get() - 1]
        };
        assert!(wait_for_room(dir, Duration::from_secs(60), free).is_ok());
        assert_eq!(looks.get(), 3);
        assert!(wait_for_room(dir, Duration::ZERO, || FULL_BYTES).is_ok(), "it was not full");
        let error = wait_for_room(dir, Duration::ZERO, || 4096).expect_err("full");
        let said = "the disk of /data/nats is full (4096 bytes are free): make 32 MiB of room and start again";
        assert_eq!(error.to_string(), said);
    }
}
