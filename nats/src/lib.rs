//! The log: everything Spool says to NATS JetStream, and the only crate that names its client.
//!
//! - **consumes**: drafts of facts, orders, ticks, texts, requests; the server's own advisories
//! - **emits**: facts as they stand, deliveries with a lease on each, parked messages
//! - **owns**: streams, consumers and buckets as data ([`streams`]), who may do what ([`access`]), the child server ([`server`])
//! - **idempotent because**: a slot holds one fact for ever, an order one subject, a parked message one subject; whoever comes
//!   second gets what stands
//! - **scales by**: more connections; nothing here holds state but a lease and a replay's position
//! - **never**: decides anything about an asset, reads a clock for a fact, drops a message in silence

pub mod access;
mod api;
mod append;
mod child;
mod connect;
mod consumer;
mod delivery;
mod disk;
mod find;
mod kv;
mod lease;
mod message;
mod order;
mod parked;
pub mod provision;
mod queue;
mod read;
mod replay;
mod request;
pub mod server;
pub mod streams;
#[cfg(feature = "testing")]
pub mod testing;
mod text;
pub mod trace;

pub use append::{AppendError, Appended};
pub use connect::{ConnectError, Log, Target};
pub use consumer::{ConsumerError, Durable, StepError};
pub use delivery::{Decision, Delivery, Incoming, Wait};
pub use kv::{Bucket, Entry, Kv, KvError, Versioned};
pub use lease::Lease;
pub use order::{OrderError, Ordered, TickError};
pub use parked::{Buried, ParkError, Parked, ReleaseError, Released};
pub use queue::{Queue, QueueError};
pub use read::ReadError;
pub use replay::{Replay, ReplayError};
pub use request::Failure;
pub use streams::ConsumerName;
pub use text::{IngestError, TextError};
