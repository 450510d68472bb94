//! Installs what Spool needs and finds missing: nothing is done twice, nothing that is there is touched.
//!
//! | what | from | where |
//! |---|---|---|
//! | GStreamer, its plugins and headers | the distribution | the system |
//! | nats-server 2.15 | the Python index, pinned by hash; or the one on PATH | `target/tools/nats-server` |
//! | ffmpeg, an S3 server (tests only) | the distribution; the Python index | the system; `target/tools/s3` |
//!
//! Never: touches a system that is not Debian-like, asks for a password without a terminal, uses a download whose hash
//! is not the one written here.

mod apt;
mod nats;
mod python;

use std::path::PathBuf;
use std::process::Command;

use crate::Failure;
use crate::run::ask;

/// What the machine is set up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// To build and run Spool.
    Use,
    /// To run the tests as well.
    Tests,
}

/// To build and run: a linker and pkg-config, GStreamer with its headers, and the plugins that `services/transcoder` uses.
const USE_PACKAGES: &[&str] = &[
    "gcc",
    "libc6-dev",
    "pkg-config",
    "libgstreamer1.0-dev",
    "libgstreamer-plugins-base1.0-dev",
    "gstreamer1.0-tools",
    "gstreamer1.0-plugins-base",
    "gstreamer1.0-plugins-good",
    "gstreamer1.0-plugins-bad",
    "gstreamer1.0-plugins-ugly",
    "gstreamer1.0-libav",
];

/// To judge what Spool makes by tools that are not ours.
const TEST_PACKAGES: &[&str] = &["ffmpeg"];

/// Installs what is missing. Gives the nats-server to use: a path, or a name on PATH.
pub(crate) fn run(purpose: For) -> Result<PathBuf, Failure> {
    let mut packages = USE_PACKAGES.to_vec();
    if purpose == For::Tests {
        packages.extend(TEST_PACKAGES);
    }
    apt::install(&packages)?;
    gstreamer_is_new_enough()?;
    let server = nats::install()?;
    println!("nats-server: {}", server.display());
    if purpose == For::Tests {
        let s3 = python::s3_server()?;
        println!("S3 server for the tests: {}", s3.display());
    }
    Ok(server)
}

/// The oldest GStreamer that the code is written for.
const GSTREAMER: &str = "1.22";

fn gstreamer_is_new_enough() -> Result<(), Failure> {
    let version = ask(Command::new("pkg-config").args(["--modversion", "gstreamer-1.0"]))
        .ok_or_else(|| format!("pkg-config finds no gstreamer-1.0; install it with: {}", apt::command(USE_PACKAGES)))?;
    let version = version.trim();
    if at_least(version, GSTREAMER) {
        println!("GStreamer: {version}");
        return Ok(());
    }
    Err(format!(
        "GStreamer {version} is too old, {GSTREAMER} is needed; install it with: {}",
        apt::command(USE_PACKAGES)
    )
    .into())
}

/// Is the dotted version `have` at least `want`? Only as many parts as `want` has are looked at.
pub(crate) fn at_least(have: &str, want: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> {
        text.trim_start_matches('v').split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
    };
    numbers(have) >= numbers(want)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(at_least("2.15.1", "2.15"));
        assert!(at_least("v2.15.0-RC.1", "2.15"));
        assert!(at_least("3.0", "2.15"));
        assert!(!at_least("2.9.25", "2.15"));
        assert!(!at_least("", "2.15"));
    }
}
