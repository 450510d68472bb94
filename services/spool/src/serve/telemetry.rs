//! Logs on standard error, one line an event, with the spans it stands in. A panic is one, too.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, Logs};
use crate::exit::{Exit, Failure};

/// What is logged.
pub(crate) fn filter(logs: &Logs) -> Result<EnvFilter, Failure> {
    EnvFilter::try_new(&logs.filter).map_err(|error| {
        Failure::from_error(Exit::Config, format!("log.filter {:?} is not understood", logs.filter), error)
    })
}

/// Installs the one subscriber of this process.
pub(crate) fn install(logs: &Logs) -> Result<(), Failure> {
    let filter = filter(logs)?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let installed = match logs.format {
        LogFormat::Text => {
            use std::io::IsTerminal as _;
            registry.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init()
        }
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    installed.map_err(|error| Failure::from_error(Exit::Broken, "install the log", error))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let said = panic.payload_as_str().unwrap_or("something that is no text");
        tracing::error!(place, backtrace = %std::backtrace::Backtrace::capture(), "panicked: {said}");
    }));
    Ok(())
}
