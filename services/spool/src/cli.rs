//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use spool_proto::{Role, Status};

use crate::exit::Exit;

/// Event-sourced video pipeline: takes videos in, makes them playable.
#[derive(Debug, Parser)]
#[command(name = "spool", version, after_long_help = Exit::table(), max_term_width = 120)]
pub(crate) struct Cli {
    /// What all commands share.
    #[command(flatten)]
    pub(crate) shared: Shared,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// The command line of this process; ends it where that is not understood.
    pub(crate) fn of_this_process() -> Self {
        let matches = without_empty(Self::command()).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// The same command where a variable of the environment that is set to nothing counts as not set, as people mean it.
fn without_empty(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    let command = command.mut_args(|arg| if is_empty(&arg) { arg.env(clap::builder::Resettable::Reset) } else { arg });
    command.mut_subcommands(without_empty)
}

/// What all commands share.
#[derive(Debug, Clone, Args)]
pub(crate) struct Shared {
    /// Print one JSON object a line instead of text for people.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Address of a running Spool.
    #[arg(long, global = true, env = "SPOOL_SERVER", value_name = "URL", default_value = "http://127.0.0.1:7070")]
    pub(crate) server: String,
    /// Token, where the server asks for one.
    #[arg(long, global = true, env = "SPOOL_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything on this machine: all roles, a nats-server of its own, a directory as object store.
    Up(Up),
    /// Run one or several roles against an existing NATS and object store.
    Run(Run),
    /// Upload videos; an upload that was cut off goes on where it stood.
    Push(Push),
    /// List assets, newest first.
    Ls(Ls),
    /// Show an asset.
    Show(One),
    /// Show what happened to an asset.
    Events(Events),
    /// Say what an asset waits for, who works on it and until when that may last.
    Explain(One),
    /// Follow what happens; with an id until that asset has come to an end.
    Watch(Watch),
    /// Try again after a rejection or failure.
    Retry(One),
    /// Remove an asset and everything that was made of it.
    Rm(One),
    /// The view that all answers are read from.
    #[command(subcommand)]
    View(View),
    /// Messages that were given up.
    #[command(subcommand)]
    Parked(Parked),
    /// The streams and consumers on NATS; needs the admin password in the configuration.
    #[command(subcommand)]
    Streams(Streams),
    /// The configuration.
    #[command(subcommand)]
    Config(Config),
    /// Ask a process of Spool whether it is ready; for health checks.
    Health,
}

/// `spool up`
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Directory for everything that is kept: log, objects, view, keys. [default: spool-data]
    #[arg(long, env = "SPOOL_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Address to serve at; port 0 takes a free one. [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Configuration.
    #[arg(long, env = "SPOOL_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The nats-server to start; else one is looked for in target/tools and on PATH.
    #[arg(long, env = "SPOOL_NATS_SERVER", value_name = "FILE")]
    pub(crate) nats_server: Option<PathBuf>,
}

/// `spool run`
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The roles: gateway, planner, transcoder, publisher, projector.
    #[arg(required = true, value_name = "ROLE", value_parser = parse_role)]
    pub(crate) roles: Vec<Role>,
    /// Configuration.
    #[arg(long, env = "SPOOL_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Address to serve at; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
}

/// `spool push`
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// The videos.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// What to make of them.
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// A label to filter by later; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Title; the file's name when absent.
    #[arg(long)]
    pub(crate) title: Option<String>,
    /// Wait until each is ready (exit 0), or was rejected or failed (exit 3).
    #[arg(long)]
    pub(crate) wait: bool,
    /// Start over, also where an earlier upload of the same file could go on.
    #[arg(long)]
    pub(crate) fresh: bool,
}

/// `spool ls`
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Only assets in this state.
    #[arg(long, value_name = "STATUS", value_parser = parse_status)]
    pub(crate) status: Option<Status>,
    /// At most this many.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = parse_limit)]
    pub(crate) limit: usize,
}

/// A command about one asset.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// The asset: vid_…
    #[arg(value_name = "ID")]
    pub(crate) id: spool_proto::AssetId,
}

/// `spool events`
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// The asset: vid_…
    #[arg(value_name = "ID")]
    pub(crate) id: spool_proto::AssetId,
    /// Go on with what happens from now.
    #[arg(long)]
    pub(crate) follow: bool,
}

/// `spool watch`
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The asset: vid_…; all when absent.
    #[arg(value_name = "ID")]
    pub(crate) id: Option<spool_proto::AssetId>,
}

/// `spool view`
#[derive(Debug, Subcommand)]
pub(crate) enum View {
    /// Fold it anew from the first fact, beside the one that serves, then switch.
    Rebuild,
}

/// `spool parked`
#[derive(Debug, Subcommand)]
pub(crate) enum Parked {
    /// List them.
    Ls,
    /// Put one back where it came from.
    Release {
        /// Its id, as `parked ls` shows it.
        id: String,
    },
}

/// `spool streams`
#[derive(Debug, Subcommand)]
pub(crate) enum Streams {
    /// Say what differs; exit 8 if something does.
    Check(ConfigFile),
    /// Create what is missing and change what differs.
    Apply(ConfigFile),
}

/// `spool config`
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Read it, with the overrides of the environment, and say what is wrong; prints what is in force.
    Check(ConfigFile),
}

/// Which configuration.
#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// Configuration.
    #[arg(long, env = "SPOOL_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

fn parse_role(text: &str) -> Result<Role, String> {
    let names = || Role::ALL.map(Role::name).join(", ");
    Role::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| format!("the roles are {}", names()))
}

fn parse_status(text: &str) -> Result<Status, String> {
    let names = || Status::ALL.map(Status::name).join(", ");
    Status::ALL.into_iter().find(|s| s.name() == text).ok_or_else(|| format!("the states are {}", names()))
}

/// Most assets that one `spool ls` asks for; a longer list is read page by page over HTTP.
const LIST_MAX: usize = 100_000;

fn parse_limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|limit| (1..=LIST_MAX).contains(limit));
    limit.ok_or_else(|| format!("a limit is a number from 1 to {LIST_MAX}"))
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_tells_the_exit_codes() {
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("Exit codes:\n  0  done"), "{help}");
    }

    #[test]
    fn a_wrong_role_is_refused_with_the_right_ones() {
        let error = Cli::try_parse_from(["spool", "run", "chef"]).expect_err("no role").to_string();
        assert!(error.contains("the roles are projector, gateway, planner, transcoder, publisher"), "{error}");
    }
}
