//! The media child: everything that touches gstreamer, in a process of its own.
//!
//! `run.rs` is its life (sockets, cage, last word), `link.rs` its two sockets, `source.rs` the element that turns ranges
//! into a stream. [`inspect`] and [`encode`] serve the orders, by what reads a source ([`demux`]) or decodes it
//! ([`decode`]). Three folders know what goes wrong: [`formats`] reads containers without a demuxer, [`mend`] shows a
//! demuxer something else than what is there, [`quirks`] mends what an element makes of it.

use std::sync::Arc;

use self::encode::{audio, still, video};
use self::mend::edits::Ends;
use crate::order::{Answer, Failure, Order, Output};

pub mod codecs;
pub mod decode;
pub mod demux;
pub mod encode;
pub mod formats;
pub mod inspect;
mod limits;
mod link;
#[cfg(test)]
mod memory;
pub mod mend;
pub mod met;
mod patience;
pub mod picture;
pub mod quirks;
mod run;
pub mod samples;
pub mod sniff;
pub mod source;
pub mod streams;
pub mod trial;
mod whole;
mod wiring;

pub use run::main;

/// Serves one order; `ranges` are the source's bytes. In the child this runs inside the cage, in tests anywhere.
pub fn serve(order: Order, ranges: Arc<dyn source::Ranges>, output: &Arc<dyn Output>) -> Result<Answer, Failure> {
    let ranges = match &order {
        // What it is has to be found out first; and the picture's edits are the encoder's own affair.
        Order::Inspect { .. } | Order::Video { .. } => ranges,
        Order::Audio { facts, .. } | Order::Still { facts, .. } => mend::seen(&ranges, facts, Ends::AsStated)?.ranges,
    };
    match order {
        Order::Inspect { limits } => inspect::run(&ranges, &limits, output).map(Answer::Inspected),
        Order::Video { facts, plan, chunks, frame_hashes } => {
            video::run(&ranges, &facts, &plan, &chunks, frame_hashes, output).map(|()| Answer::Encoded)
        }
        Order::Audio { facts, plan, from_chunk } => {
            audio::run(&ranges, &facts, &plan, from_chunk, output).map(|()| Answer::Encoded)
        }
        Order::Still { facts, plan, name } => still::run(&ranges, &facts, &plan, &name, output).map(Answer::Still),
    }
}
