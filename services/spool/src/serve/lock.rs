//! One process per data directory: a lock of the kernel, gone with its process however that ends, and a note inside that
//! names it for the second one.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::exit::{Exit, Failure};

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of `data`, or names the process that has it.
    pub(super) fn take(data: &Path) -> Result<Self, Failure> {
        let path: PathBuf = data.join("lock");
        let about =
            |error: std::io::Error| Failure::from_error(Exit::Config, format!("lock {}", path.display()), error);
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(about)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(in_use(data, &mut file)),
            Err(error) => return Err(about(error.into())),
        }
        let lock = Self { file };
        lock.write(&format!("{}\n", std::process::id())).map_err(about)?;
        Ok(lock)
    }

    /// Adds where this process listens.
    pub(super) fn note(&self, address: SocketAddr) {
        if let Err(error) = self.write(&format!("{}\nhttp://{address}\n", std::process::id())) {
            tracing::warn!(error = &error as &dyn std::error::Error, "could not note the address in the lock");
        }
    }

    fn write(&self, text: &str) -> std::io::Result<()> {
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(text.as_bytes())
    }
}

fn in_use(data: &Path, file: &mut File) -> Failure {
    let mut note = String::new();
    // The sentence is worth as much without the note.
    let _unread = file.read_to_string(&mut note);
    let mut lines = note.lines();
    let pid = lines.next().filter(|line| !line.is_empty()).unwrap_or("unknown");
    let address = lines.next().map(|address| format!(", at {address}")).unwrap_or_default();
    let sentence = format!("{} is in use by process {pid} of spool{address}", data.display());
    Failure::new(Exit::InUse, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_the_first_and_a_dropped_lock_is_free() {
        let directory = tempfile::tempdir().expect("a directory");
        let lock = Lock::take(directory.path()).expect("free");
        lock.note(SocketAddr::from(([127, 0, 0, 1], 7070)));
        let failure = Lock::take(directory.path()).expect_err("taken");
        let expected = format!(
            "{} is in use by process {} of spool, at http://127.0.0.1:7070",
            directory.path().display(),
            std::process::id()
        );
        assert_eq!((failure.exit, failure.sentence), (Exit::InUse, expected));
        drop(lock);
        Lock::take(directory.path()).expect("free again");
    }
}
