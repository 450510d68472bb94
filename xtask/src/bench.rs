//! Benchmarks: what a release build does beside ffmpeg on the same machine in the same minutes.
//!
//! Figures are for people to read; nothing here fails because of a slow machine. The two sides alternate, and each figure
//! is a median with its spread, so that a noisy neighbour shows as spread and not as a result.

mod clips;
mod encode;
mod figures;
mod picture;
mod playable;
mod tree;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::run::{cargo, must, root, target};
use crate::{Failure, setup};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// A ladder of 40 s beside one ffmpeg process that makes the same: wall, CPU, memory, likeness at equal size.
    Encode,
    /// From the last byte of the upload until it plays, for sources of 10 s, 1 min and 10 min.
    Playable,
}

/// What every benchmark stands on.
struct Bench {
    /// The release build.
    spool: PathBuf,
    nats: PathBuf,
    /// Clips are kept here; what a round makes is removed with its own directory below.
    home: PathBuf,
    rounds: usize,
}

/// Runs what is asked for, all when nothing is; on `clip` or one that is made.
pub(crate) fn run(what: &[What], clip: Option<&Path>, rounds: NonZeroUsize) -> Result<(), Failure> {
    let nats = setup::run(setup::For::Tests)?;
    must(cargo().args(["build", "--release", "--locked", "--package", "spool"]))?;
    let home = root().join("target/bench");
    std::fs::create_dir_all(&home)?;
    let bench = Bench { spool: target().join("release/spool"), nats, home, rounds: rounds.get() };
    let clip = match clip {
        Some(clip) => clip.to_path_buf(),
        None => clips::natural(&bench.home)?,
    };
    let asked = |one| what.is_empty() || what.contains(&one);
    if asked(What::Encode) {
        encode::run(&bench, &clip)?;
    }
    if asked(What::Playable) {
        playable::run(&bench, &clip)?;
    }
    Ok(())
}
