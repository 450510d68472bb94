//! The commands that ask a running Spool: over its HTTP contract only, so they work against any machine.

mod assets;
mod follow;
mod http;
mod operate;
mod print;
mod push;
mod sse;

pub(crate) use assets::{events, explain, ls, remove, retry, show};
pub(crate) use follow::watch;
pub(crate) use http::Client;
pub(crate) use operate::{health, parked_ls, parked_release, view_rebuild};
pub(crate) use print::Out;
pub(crate) use push::push;
