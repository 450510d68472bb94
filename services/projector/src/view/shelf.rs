//! The directories of views: one is current, another may be growing beside it, the rest are swept.
//!
//! ```text
//! lock             held by the process that writes here
//! current          name of the directory that is read
//! v{schema}-{n}/   a view
//! ```
//!
//! What is swept is removed with all that is in it, so it has to be a view by its name and by what it holds, and a directory
//! that holds other things is not begun in.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use spool_kit::store::free_space;

use super::SCHEMA;

/// Held by the process that writes here.
const LOCK: &str = "lock";
/// What a file system keeps at its top.
const LOST_AND_FOUND: &str = "lost+found";
/// What the database (sled 0.34) keeps in a view's directory, and how its snapshots begin.
const DATABASE: [&str; 3] = ["conf", "db", "blobs"];
const SNAPSHOT: &str = "snap.";

/// Free bytes with which a new view is worth beginning.
const ROOM_BYTES: u64 = 32 << 20;

/// The shelf could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// Another process has it.
    #[error("another process uses the view in {}", .0.display())]
    Locked(PathBuf),
    /// It holds something else.
    #[error(
        "{} holds `{found}`, which is no view: give `projector.directory` a directory of its own",
        root.display()
    )]
    Foreign {
        /// Where.
        root: PathBuf,
        /// The first of what is not a shelf's.
        found: String,
    },
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
    /// When another process has it, it can't be made, or it is a directory of something else.
    pub fn open(root: &Path) -> Result<Self, ShelfError> {
        std::fs::create_dir_all(root).map_err(file("make", root))?;
        let path = root.join(LOCK);
        if !path.exists()
            && let Some(found) = names(root).into_iter().find(|name| name != LOST_AND_FOUND)
        {
            return Err(ShelfError::Foreign { root: root.to_owned(), found });
        }
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
        let last = names(&self.root).iter().filter_map(|name| number(name)).max().unwrap_or(0);
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
        for name in names(&self.root).into_iter().filter(|name| of_any_schema(name)) {
            let path = self.root.join(&name);
            if keep.contains(&path.as_path()) || !is_view(&path) {
                continue;
            }
            if let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::warn!(error = &error as &dyn std::error::Error, "an old view is left in {}", path.display());
            }
        }
    }
}

/// What lies in a directory; nothing where it can't be read.
fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect()
}

/// Is it a name of a view, of this schema or another one?
fn of_any_schema(name: &str) -> bool {
    let number = |part: &str| part.parse::<u64>().is_ok();
    name.strip_prefix('v').and_then(|rest| rest.split_once('-')).is_some_and(|(schema, n)| number(schema) && number(n))
}

/// Does a directory hold what the database keeps there, and nothing else?
fn is_view(path: &Path) -> bool {
    let of_the_database = |name: &String| DATABASE.contains(&name.as_str()) || name.starts_with(SNAPSHOT);
    path.is_dir() && names(path).iter().all(of_the_database)
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

    #[test]
    fn what_is_no_view_is_left_alone() {
        let root = tempfile::tempdir().expect("a directory");
        let own = root.path().join("view");
        let shelf = Shelf::open(&own).expect("a shelf");
        let kept = ["vacation-2024", "v2-final", "v3-10x", "v-1"].map(|name| own.join(name));
        kept.iter().for_each(|path| std::fs::create_dir(path).expect("a directory of somebody"));
        let named_alike = own.join("v3-9");
        std::fs::create_dir(&named_alike).expect("a directory of somebody");
        std::fs::write(named_alike.join("thesis.tex"), "years of work").expect("a file of somebody");
        shelf.sweep(&[]);
        assert!(kept.iter().all(|path| path.exists()), "by their names they are no views");
        assert!(named_alike.join("thesis.tex").exists(), "by what it holds it is no view");

        std::fs::create_dir(root.path().join("lost+found")).expect("what a file system keeps");
        let refused = Shelf::open(root.path()).expect_err("a directory of something else").to_string();
        assert!(refused.contains("holds `view`, which is no view"), "{refused}");
        drop(shelf);
        Shelf::open(&own).expect("a shelf stays one, whatever is put beside its views");
    }
}
