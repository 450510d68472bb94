//! The projector: the view of all assets, every read, growing playlists, playback.
//!
//! - **consumes**: every fact, in the order of the log; texts by their tokens; notes about leases and the length of queues, for `explain` only
//! - **emits**: nothing; it answers
//! - **owns**: the crate `sled` and the directory of views, which hold nothing that the log does not
//! - **idempotent because**: rows and position are written at once, and a fact at or below an asset's sequence changes nothing
//! - **scales by**: more projectors, each with a view of its own
//! - **never**: appends a fact, decides what is owed, holds what cannot be folded again
//!
//! Read [`view`] first, then [`projector`], then [`http`].

pub mod card;
pub mod config;
pub mod explain;
mod follower;
pub mod growing;
pub mod http;
pub mod projector;
pub mod queue;
mod reader;
#[cfg(test)]
mod sample;
pub mod short;
pub mod view;
pub mod warning;
#[cfg(test)]
mod world;

pub use config::Config;
pub use http::ROUTES;
pub use projector::{Deps, Error, Handle, Projector};
