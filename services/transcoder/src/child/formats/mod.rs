//! What containers say in their own bytes: read here without a demuxer, because demuxers don't say it, or not so early, or
//! not for what is broken. Pure but for whoever hands out the bytes ([`mp4::Bytes`]). A number in a file is never believed
//! before it is checked: it sizes no memory and ends no loop.

pub(super) mod avi;
pub(super) mod bare;
pub mod ebml;
pub mod mp4;
pub(super) mod mpeg_sound;
pub(super) mod pes;
pub mod pose;
pub(super) mod quicktime;
pub(super) mod riff;
pub(super) mod ts;
