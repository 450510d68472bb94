//! The media child as a real process: cage, limits, ends, and what inspecting says of real and synthesised files.
#![expect(clippy::unwrap_used, unreachable_pub, reason = "a test that cannot go on says where, and prints its figures")]

mod cage;
mod inspect;
mod same_bytes;
mod support;
