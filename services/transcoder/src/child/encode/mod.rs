//! From what was decoded to what is stored: the picture ([`video`]), the sound ([`audio`]) and stills ([`still`]). Each has one
//! file that tells its whole way; around them what they share. Which picture is shown when is decided in [`timeline`],
//! which is pure; nothing here asks the clock or the number of processors, so that the same order gives the same bytes.

pub mod audio;
mod encoder;
pub mod head;
pub(super) mod missing;
mod object;
mod rung;
pub mod scale;
pub mod still;
pub mod timeline;
pub mod tone;
pub mod video;
