//! Signals that ask to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Failure};

/// SIGTERM and SIGINT, which mean the same here.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they no longer end the process.
    pub(super) fn install() -> Result<Self, Failure> {
        let about = |error| Failure::from_error(Exit::Broken, "listen for signals", error);
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(about)?,
            interrupt: signal(SignalKind::interrupt()).map_err(about)?,
        })
    }

    /// Returns when somebody asks to stop. Can be dropped and called again without missing one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
