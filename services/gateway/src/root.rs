//! Opening a file below an allowed root, with no way out: the kernel itself resolves the whole path (`openat2`) and refuses
//! `..`, symbolic links and everything else that leaves the root, so nothing can be swapped between a check and the open.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use spool_proto::{Code, Problem};

use crate::upload::entry::FileMark;

/// A root can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// It is no directory that can be opened.
    #[error("open the root {}", .path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel can't resolve a path inside a directory safely; there is no safe way to do without.
    #[error("`gateway.roots` needs a kernel with openat2 (Linux 5.6 or later)")]
    NoOpenat2(#[source] std::io::Error),
}

/// Can these roots be used? For who looks over a configuration before a gateway starts with it.
///
/// # Errors
/// The first that is no directory in which this user may look for files, or that the kernel is too old.
pub fn check_roots(paths: &[PathBuf]) -> Result<(), RootError> {
    Roots::open(paths).map(drop)
}

struct Root {
    /// As configured, and with its own links resolved: a request may name either.
    names: [PathBuf; 2],
    directory: OwnedFd,
}

/// The directories that files may be taken from.
#[derive(Default)]
pub(crate) struct Roots(Vec<Root>);

/// A file below a root, open for reading.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The file.
    pub(crate) file: File,
    /// What it is.
    pub(crate) mark: FileMark,
    /// Its name without directories.
    pub(crate) name: String,
}

impl Roots {
    /// Opens the roots once; what their names stand for later makes no difference.
    ///
    /// # Errors
    /// When one of them is no directory, or the kernel is too old.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self, RootError> {
        let mut roots = Vec::with_capacity(paths.len());
        for path in paths {
            let refuse = |source: std::io::Error| RootError::Open { path: path.clone(), source };
            let real = path.canonicalize().map_err(refuse)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::open(&real, flags, Mode::empty()).map_err(|error| refuse(error.into()))?;
            let probe = openat2(&directory, ".", flags, Mode::empty(), INSIDE);
            match probe {
                Ok(_) => {}
                // A kernel without it, and a sandbox that does not know it.
                Err(error @ (Errno::NOSYS | Errno::PERM)) => return Err(RootError::NoOpenat2(error.into())),
                Err(error) => return Err(refuse(error.into())),
            }
            roots.push(Root { names: [path.clone(), real], directory });
        }
        Ok(Self(roots))
    }

    /// Opens a plain file. `path` is absolute and begins with a root, or relative to one of them (the first that has it).
    ///
    /// # Errors
    /// `path_not_allowed`, `path_not_found` or `path_not_file`; the last for links too, also for those that stay inside.
    pub(crate) fn open_file(&self, path: &str) -> Result<Opened, Problem> {
        let shown: String = path.chars().take(256).collect();
        let not_allowed = || Problem::new(Code::PathNotAllowed).with("path", &shown);
        let asked = Path::new(path);
        let climbs = asked.components().any(|part| matches!(part, Component::ParentDir));
        if path.contains('\0') || path.is_empty() || climbs {
            return Err(not_allowed());
        }
        let mut answer = not_allowed();
        for root in &self.0 {
            let Some(inside) = root.inside(asked) else { continue };
            match open_inside(&root.directory, inside) {
                Ok(file) => return describe(file, asked, &shown),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => {
                    answer = Problem::new(Code::PathNotFound).with("path", &shown)
                }
                // Not followed, wherever they lead: what a link names may be another file by the time it is copied.
                Err(Errno::LOOP) => {
                    let found = "a symbolic link, or lies behind one";
                    return Err(Problem::new(Code::PathNotFile).with("path", &shown).with("found", found));
                }
                Err(Errno::XDEV) => return Err(not_allowed()),
                // A socket, or a device that nobody stands behind.
                Err(Errno::NXIO | Errno::ISDIR) => {
                    return Err(Problem::new(Code::PathNotFile).with("path", &shown).with("found", "a special file"));
                }
                Err(errno) => {
                    let detail = std::io::Error::from(errno);
                    return Err(Problem::new(Code::SourceUnreadable).with("detail", detail));
                }
            }
        }
        Err(answer)
    }
}

impl Root {
    fn inside<'a>(&self, asked: &'a Path) -> Option<&'a Path> {
        if asked.is_relative() {
            return Some(asked);
        }
        self.names.iter().find_map(|name| asked.strip_prefix(name).ok())
    }
}

/// Nothing on the way may lead out of the root, be a link, or be one of `/proc`'s doors.
const INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
/// Asked again this often when a rename elsewhere kept the kernel from being sure.
const AGAIN: usize = 16;

fn open_inside(directory: &OwnedFd, inside: &Path) -> Result<File, Errno> {
    let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
    // NONBLOCK: opening a pipe that nobody writes to must not wait.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut last = Errno::AGAIN;
    for _ in 0..AGAIN {
        match openat2(directory, inside, flags, Mode::empty(), INSIDE) {
            Ok(file) => return Ok(File::from(file)),
            Err(Errno::AGAIN | Errno::INTR) => last = Errno::AGAIN,
            Err(errno) => return Err(errno),
        }
    }
    Err(last)
}

fn describe(file: File, asked: &Path, shown: &str) -> Result<Opened, Problem> {
    let unreadable = |error: &dyn std::fmt::Display| Problem::new(Code::SourceUnreadable).with("detail", error);
    let mark = mark(&file).map_err(|error| unreadable(&error))?;
    let Some(mark) = mark else {
        let kind = rustix::fs::fstat(&file).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let found = match kind {
            Ok(FileType::Directory) => "a directory",
            Ok(FileType::Fifo) => "a pipe",
            Ok(FileType::Socket) => "a socket",
            Ok(FileType::BlockDevice | FileType::CharacterDevice) => "a device",
            Ok(FileType::RegularFile | FileType::Symlink | FileType::Unknown) | Err(_) => "something else",
        };
        return Err(Problem::new(Code::PathNotFile).with("path", shown).with("found", found));
    };
    let name = asked.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Opened { file, mark, name })
}

/// What an open file is at this moment; nothing if it is no plain file.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn mark(file: &File) -> std::io::Result<Option<FileMark>> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = file.metadata()?;
    let modified_ns = meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec());
    Ok(meta.is_file().then(|| FileMark { inode: meta.ino(), size_bytes: meta.len(), modified_ns }))
}

#[cfg(test)]
#[path = "root_tests.rs"]
mod tests;
