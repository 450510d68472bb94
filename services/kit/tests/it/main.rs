//! The store on a real directory and on a real S3 server process: one suite, both must behave alike.

#![expect(clippy::unwrap_used, reason = "tests")]

mod s3;
mod store;
