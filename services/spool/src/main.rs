//! The one executable of Spool: every role, and the commands that talk to them.
//!
//! - [`serve`]: start-up and end of a process that runs roles
//! - [`client`]: commands that ask a running Spool over HTTP
//! - [`streams`], [`config`]: commands that need no Spool to run
//!
//! The media child is this executable again, with the hidden first argument [`CHILD`]. That is looked at before anything
//! else: in the child there is no runtime, no log and no thread but its own.

mod cli;
mod client;
mod config;
mod exit;
mod serve;
mod streams;

use std::process::ExitCode;

use serde_json::json;

use crate::cli::{Cli, Command, Config, Parked, View};
use crate::client::{Client, Out};
use crate::exit::{Exit, Failure};

/// First argument of a media child.
#[cfg(feature = "transcoder")]
pub(crate) const CHILD: &str = "child";

fn main() -> ExitCode {
    #[cfg(feature = "transcoder")]
    {
        let mut args = std::env::args_os().skip(1);
        if args.next().is_some_and(|first| first == CHILD) {
            return spool_transcoder::child::main(args.map(|arg| arg.to_string_lossy().into_owned()));
        }
    }
    let cli = Cli::of_this_process();
    let out = Out::new(cli.shared.json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(out, &Failure::from_error(Exit::Broken, "start the runtime", error)),
    };
    let result = runtime.block_on(command(out, &cli));
    // Reads of files that hang must not keep a process that has said its last word.
    runtime.shutdown_background();
    match result {
        Ok(()) => Exit::Done.into(),
        Err(failure) => end(out, &failure),
    }
}

/// Tells why, on standard error, and ends with the code for it.
#[expect(clippy::print_stderr, reason = "the one place where a command tells why it failed")]
fn end(out: Out, failure: &Failure) -> ExitCode {
    if out.is_json() {
        eprintln!("{}", failure.json());
    } else {
        eprintln!("spool: {}", failure.chain().join("\n  because: "));
    }
    failure.exit.into()
}

async fn command(out: Out, cli: &Cli) -> Result<(), Failure> {
    let client = || Client::new(&cli.shared);
    match &cli.command {
        Command::Up(options) => serve::up(out, options).await,
        Command::Run(options) => serve::run(out, options).await,
        Command::Push(options) => client::push(&client()?, out, options).await,
        Command::Ls(options) => client::ls(&client()?, out, options).await,
        Command::Show(one) => client::show(&client()?, out, &one.id).await,
        Command::Events(options) => client::events(&client()?, out, &options.id, options.follow).await,
        Command::Explain(one) => client::explain(&client()?, out, &one.id).await,
        Command::Watch(options) => client::watch(&client()?, out, options.id.as_ref()).await,
        Command::Retry(one) => client::retry(&client()?, out, &one.id).await,
        Command::Rm(one) => client::remove(&client()?, out, &one.id).await,
        Command::View(View::Rebuild) => client::view_rebuild(&client()?, out).await,
        Command::Parked(Parked::Ls) => client::parked_ls(&client()?, out).await,
        Command::Parked(Parked::Release { id }) => client::parked_release(&client()?, out, id).await,
        Command::Streams(command) => streams::run(out, command).await,
        Command::Config(Config::Check(file)) => check_config(out, file),
        Command::Health => client::health(&client()?, out).await,
    }
}

/// `spool config check`
fn check_config(out: Out, file: &cli::ConfigFile) -> Result<(), Failure> {
    let config = config::load(file.config.as_deref())?;
    config.may_listen(config.listen)?;
    serve::telemetry::filter(&config.log)?;
    spool_gateway::check_roots(&config.gateway.roots)
        .map_err(|error| Failure::from_error(Exit::Config, "gateway.roots can't be used", error))?;
    out.say(&json!({"valid": true}), || format!("the configuration is valid\n{config:#?}"));
    Ok(())
}
