//! The contract of Spool: what its parts say to each other and how they name things.
//!
//! - **holds**: ids, subjects, object keys, headers, slots, facts, orders, media values, problem codes, the fold of an asset
//! - **wire**: protobuf, in `proto/spool/v1/`; the generated types are private to this crate, one set of Rust types outside
//! - **never**: does I/O, is async, takes the time or a random number, logs
//!
//! Read [`slot`] first (what can be said and by whom), then [`event`], then [`asset`] (what it adds up to).

pub mod asset;
mod chain;
pub mod deadline;
pub mod envelope;
pub mod event;
pub mod id;
pub mod ingest;
pub mod job;
pub mod key;
pub mod lease;
pub mod media;
pub mod problem;
pub mod slot;
pub mod subject;
pub mod testing;
pub mod text;
pub mod time;
pub mod wire;

pub use asset::{Asset, Status};
pub use chain::chain;
pub use event::{Draft, Event, Fact, Kind, Problem};
pub use id::{AssetId, TenantId};
pub use problem::Code;
pub use slot::{Item, Role, Slot};
pub use time::Timestamp;
