//! What the roles share and the contract does not hold: time and ids that are handed in, the object store, HTTP answers,
//! units of the configuration, the two-stage stop, the wait before another try.
//!
//! - **owns**: the crate `object_store`; nothing else names it
//! - **never**: names NATS, GStreamer or sled; decides anything about an asset
//!
//! [`store`] is the place to start: every byte of Spool goes through it.

pub mod clock;
pub mod hls;
pub mod ids;
mod retry;
pub mod source;
pub mod stop;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod units;
pub mod web;

pub use clock::Clock;
pub use ids::Ids;
pub use retry::retry_after;
pub use source::SourceReader;
pub use stop::Stop;
pub use store::{Store, StoreConfig, StoreError};
