//! The plugins that a child may load, and the registry that spares it the search.
//!
//! At start-up a helper process links the allowed plugins into a directory and lets gstreamer write a registry of just
//! these. Children get both by environment and may not update it: `gst::init` takes some 10 ms instead of 600, and a
//! hostile file can reach no demuxer or decoder that is not listed here.

use std::path::{Path, PathBuf};

/// Directories in which distributions keep gstreamer's plugins, in order of preference.
const PLUGIN_DIRS: [&str; 5] = [
    concat!("/usr/lib/x86_64-linux-gnu", "/gstreamer-1.0"),
    concat!("/usr/lib/aarch64-linux-gnu", "/gstreamer-1.0"),
    "/usr/lib64/gstreamer-1.0",
    "/usr/lib/gstreamer-1.0",
    "/usr/local/lib/gstreamer-1.0",
];
/// Without these nothing works; a missing one is named at start-up.
const NEEDED: [&str; 18] = [
    "coreelements",
    "app",
    "playback",
    "typefindfunctions",
    "isomp4",
    "matroska",
    "mpegtsdemux",
    "avi",
    "flv",
    "videoparsersbad",
    "audioparsers",
    "libav",
    "x264",
    "videoconvertscale",
    "audioconvert",
    "audioresample",
    "videofilter",
    "deinterlace",
];
/// Taken where they are installed; a source that needs a missing one is refused by its codec's name.
const WELCOME: [&str; 27] = [
    "mpegpsdemux",
    "asf",
    "ogg",
    "mxf",
    "wavparse",
    "vpx",
    "aom",
    "dav1d",
    "theora",
    "vorbis",
    "opus",
    "opusparse",
    "flac",
    "mpg123",
    "a52dec",
    "alaw",
    "mulaw",
    // libav's decoder is never told how many bits a sample of IMA-ADPCM has, and takes none.
    "adpcmdec",
    "dvdlpcmdec",
    "jpeg",
    "jpegformat",
    "png",
    "id3demux",
    "apetag",
    "videorate",
    "audiorate",
    "rawparse",
];
/// Name of the registry in its directory.
const FILE: &str = "registry.bin";
/// Directory of the links beside it.
const LINKS: &str = "plugins";

/// Why there is no registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Gstreamer's plugins are nowhere to be found.
    #[error("find gstreamer's plugins in {0}: install gstreamer1.0-plugins-base and its kin (`cargo xtask setup`)")]
    NoPlugins(String),
    /// Some needed plugins are not installed.
    #[error(
        "find the gstreamer plugins {0} in {1}: `apt-get install gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
         gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav`"
    )]
    Missing(String, PathBuf),
    /// The directory could not be made or filled.
    #[error("write the plugin registry in {0}")]
    Write(PathBuf, #[source] std::io::Error),
    /// Gstreamer did not start or wrote nothing.
    #[error("build the plugin registry: {0}")]
    Build(String),
}

/// A registry that was built: what a child's environment says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    dir: PathBuf,
}

impl Registry {
    /// Builds it in `dir` by running `command` (the executable and its arguments up to the hidden subcommand).
    ///
    /// Done at each start of a process that runs children: plugins change under a running system, and it takes less than
    /// a second.
    pub fn build(command: &[std::ffi::OsString], dir: &Path) -> Result<Self, RegistryError> {
        let write = |err| RegistryError::Write(dir.to_owned(), err);
        std::fs::create_dir_all(dir).map_err(write)?;
        let dir = dir.canonicalize().map_err(write)?;
        let registry = Self { dir };
        let (program, args) =
            command.split_first().ok_or_else(|| RegistryError::Build("no executable given".to_owned()))?;
        let output = std::process::Command::new(program)
            .args(args)
            .arg("registry")
            .arg(&registry.dir)
            .env_clear()
            .envs(registry.environment(true))
            .output()
            .map_err(write)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(RegistryError::Build(format!("{}: {said}", output.status)));
        }
        if !registry.dir.join(FILE).is_file() {
            return Err(RegistryError::Build("gstreamer wrote no registry".to_owned()));
        }
        Ok(registry)
    }

    /// Its directory, which a caged child may read.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The whole environment of a process that uses it; `update` for the one that writes it.
    pub(crate) fn environment(&self, update: bool) -> Vec<(&'static str, std::ffi::OsString)> {
        vec![
            ("GST_REGISTRY", self.dir.join(FILE).into_os_string()),
            ("GST_REGISTRY_1_0", self.dir.join(FILE).into_os_string()),
            ("GST_REGISTRY_UPDATE", if update { "yes" } else { "no" }.into()),
            ("GST_REGISTRY_FORK", "no".into()),
            ("GST_PLUGIN_SYSTEM_PATH_1_0", self.dir.join(LINKS).into_os_string()),
            ("GST_PLUGIN_PATH_1_0", "".into()),
            // Errors of elements, for operators; no colours in logs.
            ("GST_DEBUG", "1".into()),
            ("GST_DEBUG_NO_COLOR", "1".into()),
            // Each arena reserves 64 MB of address space and keeps what threads freed.
            ("MALLOC_ARENA_MAX", "2".into()),
            ("LC_ALL", "C.UTF-8".into()),
        ]
    }
}

/// The helper's part: fills `dir` and lets gstreamer write the registry. Runs with the environment that `build` gave it.
pub(crate) fn write(dir: &Path) -> Result<(), RegistryError> {
    let write = |err| RegistryError::Write(dir.to_owned(), err);
    let plugins = PLUGIN_DIRS
        .iter()
        .map(Path::new)
        .find(|dir| dir.join(library("coreelements")).exists())
        .ok_or_else(|| RegistryError::NoPlugins(PLUGIN_DIRS.join(", ")))?;
    let missing: Vec<&str> = NEEDED.into_iter().filter(|name| !plugins.join(library(name)).exists()).collect();
    if !missing.is_empty() {
        return Err(RegistryError::Missing(missing.join(", "), plugins.to_owned()));
    }
    let links = dir.join(LINKS);
    match std::fs::remove_dir_all(&links) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(write(err)),
        Ok(()) | Err(_) => {}
    }
    std::fs::create_dir_all(&links).map_err(write)?;
    for name in NEEDED.into_iter().chain(WELCOME) {
        let library = library(name);
        if plugins.join(&library).exists() {
            std::os::unix::fs::symlink(plugins.join(&library), links.join(&library)).map_err(write)?;
        }
    }
    gst::init().map_err(|err| RegistryError::Build(err.to_string()))
}

fn library(plugin: &str) -> String {
    format!("libgst{plugin}.so")
}
