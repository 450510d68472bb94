//! The transcoder: inspects and encodes.
//!
//! - **consumes**: orders: inspect, video, a pass, sound, a still
//! - **emits**: SourceAccepted, SourceRejected, CheckFailed, VideoStored, AudioStored, StillStored, JobGivenUp
//! - **owns**: the media child, its cage, the only use of GStreamer; objects under `renditions/` and `stills/`; notes on the leases
//! - **idempotent because**: the result's slot is asked before the work and decides after it; object keys end in an attempt token
//! - **scales by**: more processes; one child per order
//! - **never**: lets the child see a source file, a socket of its own or a second program
//!
//! Read [`shell`] first (the parent: from an order to its facts), then [`attempt`] (one child), then [`child`].

pub mod attempt;
pub mod cage;
pub mod child;
pub mod cmaf;
pub mod order;
pub mod registry;
pub mod shell;
mod wire;
