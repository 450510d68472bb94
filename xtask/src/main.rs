//! What a newcomer and the CI start: set-up, demo, tests, benchmarks, checks and generated code.
//!
//! `cargo xtask …` needs the Rust toolchain and nothing else: this crate depends on no crate of Spool and so on no
//! GStreamer. Every step prints what it does; what is missing and can't be installed is named with the command that would.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool talks on its standard streams")]

mod bench;
mod codegen;
mod demo;
mod licences;
mod run;
mod server;
mod setup;
mod test;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks around the tree.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what is missing: GStreamer from the distribution, nats-server from the Python index.
    Setup {
        /// Also what only the tests need: ffmpeg and an S3 server.
        #[arg(long)]
        tests: bool,
    },
    /// Builds Spool, starts it, pushes a video and says where to watch it.
    Demo {
        /// The video; a clip of 20 s is made when absent.
        file: Option<PathBuf>,
        /// Stop everything when the video is ready; exit 1 if it did not become so.
        #[arg(long)]
        once: bool,
    },
    /// Sets up and runs every test.
    Test {
        /// Handed to `cargo test`: names of tests, `-- --nocapture`, …
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Runs the media tests and prints their table: every file of `../shared/media`, or clips of our own, through the real binary.
    Media,
    /// Measures a release build beside ffmpeg and prints what it finds.
    Bench {
        /// What to measure; everything when absent.
        what: Vec<bench::What>,
        /// The video; one of 40 s is made when absent.
        #[arg(long)]
        clip: Option<PathBuf>,
        /// How often each side runs.
        #[arg(long, default_value = "3")]
        rounds: NonZeroUsize,
    },
    /// Generates the wire types from `proto/spool/v1`.
    Codegen {
        /// Change nothing; fail when what is committed differs.
        #[arg(long)]
        check: bool,
    },
    /// Checks the licences and origins of every dependency against `deny.toml`, offline; advisories where a database is at hand.
    Licences,
}

/// Why a task ended without success: sentences for the one who started it.
pub(crate) type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.task {
        Task::Setup { tests } => setup::run(if tests { setup::For::Tests } else { setup::For::Use }).map(drop),
        Task::Demo { file, once } => demo::run(file.as_deref(), once),
        Task::Test { rest } => test::run(&rest),
        Task::Media => test::media(),
        Task::Bench { what, clip, rounds } => bench::run(&what, clip.as_deref(), rounds),
        Task::Codegen { check } => codegen::run(check).map_err(Failure::from),
        Task::Licences => licences::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            let mut source = failure.source();
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}
