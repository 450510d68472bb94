//! The encoder on real clips through real GStreamer, looked at with ffmpeg: every test of the media path that needs no
//! cage. ffmpeg and ffprobe must be on the PATH.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod compare;
mod damage;
mod mov;
mod picture;
mod shared_media;
mod sound;
mod support;
mod times;
mod transport;
