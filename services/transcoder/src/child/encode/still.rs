//! A still picture of the source: upright, in its own shape, in standard range, as a JPEG.

use std::sync::Arc;

use bytes::Bytes;
use gst::prelude::*;
use spool_proto::media::{Cut, Plan, SourceFacts, StillPlan};

use super::head::{self, caps_filter};
use super::scale::Scale;
use crate::child::decode::{Decode, Pulled, Wanted, chain, make, own};
use crate::child::source::Ranges;
use crate::child::streams::Kind;
use crate::child::trial;
use crate::order::{Failure, Output, StillMade};

/// JPEG quality: posters are looked at alone, and large.
const QUALITY: i32 = 85;
/// How far before the wanted time reading starts.
const MARGIN_NS: u64 = 500_000_000;
/// Looks without a frame before it is given up while the demuxer still reads: 60 s.
const LOOKS: u32 = 600;
/// What JPEG readers assume (JFIF): BT.601 in full range. Without it black is grey.
const JFIF: &str = "1:4:0:0";
/// Longest wait for the JPEG encoder.
const ENCODE_WITHIN: gst::ClockTime = gst::ClockTime::from_seconds(10);

/// Makes the still picture `name` of the plan.
pub fn run(
    ranges: &Arc<dyn Ranges>,
    facts: &SourceFacts,
    plan: &Plan,
    name: &str,
    output: &Arc<dyn Output>,
) -> Result<StillMade, Failure> {
    let still = plan.stills.iter().find(|still| still.name == name);
    let still = still.ok_or_else(|| Failure::own(format!("the plan has no still picture {name}")))?;
    let sample = frame(ranges, facts, plan, still, output)?;
    let jpeg = encode(&sample)?;
    let length = jpeg.len() as u64;
    output.bytes(name, 0, &[jpeg])?;
    Ok(StillMade {
        name: name.to_owned(),
        length,
        width: still.width,
        height: still.height,
        content_type: "image/jpeg".to_owned(),
    })
}

/// The frame that is shown at the wanted time, or the last one before it where the picture ends earlier.
fn frame(
    ranges: &Arc<dyn Ranges>,
    facts: &SourceFacts,
    plan: &Plan,
    still: &StillPlan,
    output: &Arc<dyn Output>,
) -> Result<gst::Sample, Failure> {
    let video = facts.video.as_ref().ok_or_else(|| Failure::own("an order for a still picture of a source without"))?;
    let wanted = (plan.zero_ns + still.at_ns).clamp(video.first_ns, video.end_ns);
    let size = gst::Caps::builder("video/x-raw")
        .field("format", "I420")
        .field("width", side(still.width)?)
        .field("height", side(still.height)?)
        .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
        .build();
    let jfif = gst::Caps::builder("video/x-raw").field("format", "I420").field("colorimetry", JFIF).build();
    let tail = chain(&[
        head::build(video)?.upcast(),
        Scale::element(),
        caps_filter(&size)?,
        make("videoconvert")?,
        caps_filter(&jfif)?,
    ])?;
    let mut decode = Decode::open(ranges, Wanted { kind: Kind::Video, stream: video.stream }, &tail)?;
    // Where seeks are not exact the first frame that comes is near enough for a poster.
    let exact = facts.cut == Cut::Exact;
    let from = if exact { wanted.saturating_sub(MARGIN_NS) } else { wanted };
    let sought = from > video.first_ns && decode.seek(from);
    decode.run();
    let (mut last, mut quiet) = (None::<gst::Sample>, 0);
    while quiet < LOOKS {
        match decode.pull()? {
            Pulled::Sample(sample) => {
                output.progress(wanted.saturating_sub(plan.zero_ns))?;
                if last.is_some() && stream_time(&sample).is_none_or(|at| at > wanted) {
                    break;
                }
                last = Some(sample);
                if sought && !exact {
                    break;
                }
            }
            Pulled::Quiet { waits, .. } => quiet += u32::from(!waits),
            Pulled::End { gave_up } => match (last, gave_up) {
                (Some(sample), _) => return Ok(sample),
                (None, why) => {
                    let why = why.unwrap_or_else(|| "no frame came out".to_owned());
                    return Err(trial::undecodable(Kind::Video, &video.codec, &why));
                }
            },
        }
    }
    last.ok_or_else(|| trial::undecodable(Kind::Video, &video.codec, "no frame came out in time"))
}

fn side(pixels: u32) -> Result<i32, Failure> {
    i32::try_from(pixels).map_err(|_| Failure::own("a still picture is larger than any picture"))
}

fn stream_time(sample: &gst::Sample) -> Option<u64> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    segment.to_stream_time(sample.buffer()?.pts()?).map(gst::ClockTime::nseconds)
}

/// One picture through the JPEG encoder.
fn encode(sample: &gst::Sample) -> Result<Bytes, Failure> {
    let source = gst_app::AppSrc::builder().format(gst::Format::Time).build();
    source.set_caps(sample.caps_owned().as_ref());
    let encoder = make("jpegenc")?;
    encoder.set_property("quality", QUALITY);
    let sink = gst_app::AppSink::builder().sync(false).build();
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([source.upcast_ref(), &encoder, sink.upcast_ref()]).map_err(own)?;
    gst::Element::link_many([source.upcast_ref(), &encoder, sink.upcast_ref()]).map_err(own)?;
    pipeline.set_state(gst::State::Playing).map_err(own)?;
    let mut buffer = sample.buffer_owned().ok_or_else(|| Failure::own("a frame without a buffer"))?;
    {
        let fresh = buffer.make_mut();
        fresh.set_pts(gst::ClockTime::ZERO);
        fresh.set_duration(gst::ClockTime::NONE);
    }
    let pushed = source.push_buffer(buffer).and_then(|_| source.end_of_stream());
    let jpeg = pushed.ok().and_then(|_| sink.try_pull_sample(ENCODE_WITHIN));
    let stopped = pipeline.set_state(gst::State::Null);
    let jpeg = jpeg.ok_or_else(|| Failure::own("the JPEG encoder made nothing"))?;
    stopped.map_err(own)?;
    let map = jpeg.buffer().ok_or_else(|| Failure::own("a JPEG without a buffer"))?.map_readable().map_err(own)?;
    Ok(Bytes::copy_from_slice(&map))
}
