//! # spool-pixels: arithmetic on pixels
//!
//! | | |
//! |---|---|
//! | takes | planes of bytes |
//! | gives | planes of bytes, the same for the same input on every machine |
//! | never | knows GStreamer, files, clocks or threads |
//!
//! A crate of its own so that the one build profile can optimise these loops and nothing else: without optimisation they
//! are fifty times slower, and the rest of the transcoder with it takes minutes to build.

pub mod scale;
pub mod tone;
