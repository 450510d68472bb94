//! The executable as its users meet it: real processes, a real nats-server, no network but loopback.

mod command_line;
#[cfg(feature = "transcoder")]
mod crowded;
#[cfg(feature = "transcoder")]
mod dying;
mod image;
#[cfg(feature = "transcoder")]
mod logged;
#[cfg(feature = "transcoder")]
mod operate;
#[cfg(feature = "transcoder")]
mod paused;
mod process;
mod push;
#[cfg(feature = "transcoder")]
mod same;
mod spool;
#[cfg(feature = "transcoder")]
mod stage;
#[cfg(feature = "transcoder")]
mod stopping;
#[cfg(feature = "transcoder")]
mod twice;
