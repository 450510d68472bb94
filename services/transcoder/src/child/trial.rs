//! Decodes a little, to see that it can be done and what comes out.

use std::sync::Arc;

use super::codecs;
use super::decode::{Decode, Pulled, Wanted, chain, make};
use super::source::Ranges;
use super::streams::Kind;
use crate::order::{Failure, FailureCode, Output};

/// Frames or blocks that are decoded.
const FRAMES: usize = 5;
/// Looks without a frame before it is given up, while the demuxer still reads: 60 s.
const LOOKS: usize = 600;

/// What came out.
pub struct Tried {
    /// Caps of the decoded frames or blocks.
    pub caps: gst::Caps,
    /// Least distance between two of them.
    pub least_gap_ns: Option<u64>,
}

/// Decodes the first frames or blocks of a stream.
pub fn decode(
    ranges: &Arc<dyn Ranges>,
    kind: Kind,
    stream: u32,
    codec: &str,
    output: &Arc<dyn Output>,
) -> Result<Tried, Failure> {
    let mut decode = Decode::open(ranges, Wanted { kind, stream }, &chain(&[make("identity")?])?)?;
    decode.run();
    let (mut caps, mut frames, mut times) = (None, 0, Vec::new());
    let mut looks = 0;
    while looks < LOOKS {
        match decode.pull()? {
            Pulled::Sample(sample) => {
                caps = sample.caps_owned().or(caps);
                times.extend(sample.buffer().and_then(|buffer| buffer.pts()).map(gst::ClockTime::nseconds));
                frames += 1;
                output.progress(frames as u64)?;
                if frames >= FRAMES {
                    break;
                }
            }
            Pulled::Quiet { moved, waits } => {
                looks += usize::from(!waits);
                // Of what stands still nothing is said: the parent counts for how long.
                if moved {
                    output.progress(0)?;
                }
            }
            Pulled::End { gave_up } => match (&caps, gave_up) {
                (Some(_), _) => break,
                (None, why) => return Err(undecodable(kind, codec, &why.unwrap_or_else(|| "nothing came out".into()))),
            },
        }
    }
    let caps = caps.ok_or_else(|| undecodable(kind, codec, "nothing came out in time"))?;
    let least_gap_ns = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).min();
    Ok(Tried { caps, least_gap_ns })
}

/// Nothing of a stream could be decoded.
pub fn undecodable(kind: Kind, codec: &str, detail: &str) -> Failure {
    Failure::new(FailureCode::SourceUndecodable, detail)
        .with("kind", kind.as_str())
        .with("codec", codecs::for_people(codec))
}
