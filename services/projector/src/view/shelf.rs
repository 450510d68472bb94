//! The directories of views: one is current, another may be growing beside it, the rest are swept.
//!
//! ```text
//! lock             held by the process that writes here
//! current          name of the directory that is read
//! v{schema}-{n}/   a view
//! ```

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use spool_kit::store::free_space;

use super::SCHEMA;

/// Free bytes with which a new view is worth beginning.
const ROOM_BYTES: u64 = 32 << 20;

/// The shelf could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// Another process has it.
    #[error("another process uses the view in {}", .0.display())]
    Locked(PathBuf),
    /// A file could not be read or written.
    #[error("{what} {}", path.display())]
    File {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// The directory of views, locked for this process.
#[derive(Debug)]
pub struct Shelf {
    root: PathBuf,
    _lock: File,
}

impl Shelf {
    /// Opens or makes the shelf in `root`.
    ///
    /// # Errors
    /// When another process has it or it can't be made.
    pub fn open(root: &Path) -> Result<Self, ShelfError> {
        std::fs::create_dir_all(root).map_err(file("make", root))?;
        let path = root.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(file("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root: root.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(ShelfError::Locked(root.to_owned())),
            Err(TryLockError::Error(source)) => Err(ShelfError::File { what: "lock", path, source }),
        }
    }

    /// The directory that is read; nothing when there is none, or only one of another schema.
    pub fn current(&self) -> Option<PathBuf> {
        let name = std::fs::read_to_string(self.root.join("current")).ok()?;
        number(name.trim())?;
        let path = self.root.join(name.trim());
        path.is_dir().then_some(path)
    }

    /// Is there room for a new view on the disk?
    pub fn has_room(&self) -> bool {
        // Where the system does not say, trying it will.
        free_space(&self.root).is_none_or(|free| free.0 >= ROOM_BYTES)
    }

    /// A directory that does not exist yet.
    pub fn fresh(&self) -> PathBuf {
        let last = self.names().iter().filter_map(|name| number(name)).max().unwrap_or(0);
        self.root.join(format!("v{SCHEMA}-{}", last + 1))
    }

    /// Makes `directory` the one that is read, also after a crash.
    ///
    /// # Errors
    /// When it can't be written down.
    pub fn adopt(&self, directory: &Path) -> Result<(), ShelfError> {
        let name = directory.file_name().unwrap_or_default().as_encoded_bytes();
        let (new, path) = (self.root.join("current.new"), self.root.join("current"));
        let mut file_new = File::create(&new).map_err(file("write", &new))?;
        file_new.write_all(name).and_then(|()| file_new.sync_all()).map_err(file("write", &new))?;
        std::fs::rename(&new, &path).map_err(file("write", &path))?;
        File::open(&self.root).and_then(|root| root.sync_all()).map_err(file("write", &self.root))
    }

    /// Removes every view but those in `keep`. What can't be removed is said and left.
    pub fn sweep(&self, keep: &[&Path]) {
        for name in self.names() {
            let path = self.root.join(&name);
            let view = name.starts_with('v') && name.contains('-') && path.is_dir();
            if !view || keep.contains(&path.as_path()) {
                continue;
            }
            if let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::warn!(error = &error as &dyn std::error::Error, "an old view is left in {}", path.display());
            }
        }
    }

    fn names(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.root) else { return Vec::new() };
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    }
}

/// The number of a view of this schema.
fn number(name: &str) -> Option<u64> {
    name.strip_prefix(&format!("v{SCHEMA}-"))?.parse().ok()
}

fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ShelfError {
    let path = path.to_owned();
    move |source| ShelfError::File { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_adopted_view_is_current_and_the_others_are_swept() {
        let root = tempfile::tempdir().expect("a directory");
        let shelf = Shelf::open(root.path()).expect("a shelf");
        assert_eq!(shelf.current(), None);
        let one = shelf.fresh();
        std::fs::create_dir(&one).expect("a view");
        shelf.adopt(&one).expect("adopt");
        let two = shelf.fresh();
        assert_ne!(one, two);
        std::fs::create_dir(&two).expect("a view");
        std::fs::create_dir(root.path().join("v0-7")).expect("a view of another schema");
        assert_eq!(shelf.current(), Some(one.clone()));
        shelf.adopt(&two).expect("adopt");
        shelf.sweep(&[&two]);
        assert_eq!(shelf.current(), Some(two.clone()));
        assert_eq!((one.exists(), two.exists(), root.path().join("v0-7").exists()), (false, true, false));
    }

    #[test]
    fn a_second_user_is_refused_by_name() {
        let root = tempfile::tempdir().expect("a directory");
        let _first = Shelf::open(root.path()).expect("a shelf");
        let second = Shelf::open(root.path()).expect_err("locked").to_string();
        assert!(second.contains("another process uses the view"), "{second}");
    }
}
