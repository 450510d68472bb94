//! The name of what makes the bytes: equal names, equal bytes for equal orders.
//!
//! It is a digest of the plugins that children may load and of the codec libraries behind them, with the version of our
//! own media code in front. A worker with another name makes chunks that may not join; the planner sees it in the receipts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::cage::LIBRARY_DIRS;

/// Version of our own part: writer, scaler, timeline, options of the encoders. Raised with every change of the bytes.
const MEDIA_VERSION: u32 = 1;
/// Libraries behind the plugins whose code ends up in the bytes.
const CODEC_LIBRARIES: [&str; 5] =
    ["libx264.so.", "libavcodec.so.", "libavutil.so.", "libswresample.so.", "libgstreamer-1.0.so."];
/// Digits of the digest that are kept: enough to tell toolchains apart.
const DIGEST_CHARS: usize = 16;

/// The toolchain's name, given the directory in which the plugins are linked.
///
/// # Errors
/// When a plugin or library can't be read.
pub(super) fn name(plugins: &Path) -> io::Result<String> {
    let mut files = linked(plugins)?;
    files.extend(libraries());
    files.sort();
    files.dedup();
    let mut hasher = Sha256::new();
    for file in files {
        // The name and size tell builds of a library apart without reading 40 MB at every start.
        let size = fs::metadata(&file)?.len();
        hasher.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        hasher.update(size.to_be_bytes());
    }
    let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("spool-media-{MEDIA_VERSION}-{}-{}", std::env::consts::ARCH, &digest[..DIGEST_CHARS]))
}

/// The files that the links below `dir` lead to.
fn linked(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            out.extend(linked(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "so") {
            out.push(path.canonicalize()?);
        }
    }
    Ok(out)
}

/// The codec libraries that are installed, wherever the distribution keeps them.
fn libraries() -> Vec<PathBuf> {
    let multiarch = format!("{}-linux-gnu", std::env::consts::ARCH);
    let dirs = LIBRARY_DIRS.iter().flat_map(|dir| [PathBuf::from(dir), Path::new(dir).join(&multiarch)]);
    let entries = dirs.filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
    entries
        .filter(|entry| CODEC_LIBRARIES.iter().any(|name| entry.file_name().to_string_lossy().starts_with(name)))
        .filter_map(|entry| entry.path().canonicalize().ok())
        .collect()
}
