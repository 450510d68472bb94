//! # spool-transcoder: inspects and encodes
//!
//! | | |
//! |---|---|
//! | consumes | orders `inspect`, `video`, `audio`, `still` |
//! | emits | SourceAccepted · SourceRejected, VideoStored, AudioStored, StillStored, JobGivenUp |
//! | owns | the media child, its cage, the only use of gstreamer |
//! | idempotent because | the result's slot is asked before work and decides after it; object keys end in an attempt token |
//! | scales by | more processes; one child per order |
//! | never | lets the child see a source file, a socket of its own or a second program |

pub mod attempt;
pub mod cage;
pub mod child;
pub mod cmaf;
pub mod order;
pub mod registry;
pub mod shell;
mod wire;
