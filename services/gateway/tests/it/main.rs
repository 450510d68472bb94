//! The gateway on a real nats-server and a real directory.

#![expect(clippy::unwrap_used, reason = "tests")]

mod commands;
mod common;
mod deletion;
mod ingest;
mod process;
mod requests;
#[path = "../../../kit/tests/it/s3.rs"]
mod s3;
mod stores;
mod upload;
