//! What every picture goes through once before it is scaled: tone-mapped, I420 in a stated colour, deinterlaced, upright.
//!
//! Everything is decided from the facts, never from what happens to pass first, so that every chunk of a source gets the
//! same head. Squaring the pixels costs nothing here: the rungs' sizes are those of the shown picture, and the scaler
//! goes there in one step.

use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gst::prelude::*;
use gst_video::prelude::*;
use gst_video::{VideoColorMatrix, VideoColorPrimaries, VideoColorRange, VideoColorimetry, VideoTransferFunction};
use spool_pixels::tone::Transfer;
use spool_proto::media::{DynamicRange, Orientation, VideoFacts};

use super::tone::Tone;
use crate::child::decode::{chain, make, own};
use crate::order::Failure;

/// Stored height above which a picture that does not state its colour is taken for BT.709, as everybody does.
const SD_LINES: u32 = 576;

/// How a source's colours are brought to what a rendition may carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Colour {
    /// Colorimetry of every rendition, in gstreamer's words: limited range, never one of HDR.
    pub target: String,
    /// Where more than a change of format is needed: from which transfer function, and the colorimetry to read with.
    pub tone: Option<(Transfer, String)>,
}

impl Colour {
    /// Decides by the facts alone.
    pub fn of(video: &VideoFacts) -> Self {
        let stated = VideoColorimetry::from_str(&video.colorimetry).ok();
        let wide = stated.as_ref().is_some_and(|c| c.primaries() == VideoColorPrimaries::Bt2020);
        let stated_or = |fallback: &str| match &stated {
            Some(colour) if colour.matrix() != VideoColorMatrix::Unknown => colour.to_string(),
            Some(_) | None => fallback.to_owned(),
        };
        let tone = match video.dynamic_range {
            DynamicRange::Hlg => Some((Transfer::Hlg, stated_or("bt2100-hlg"))),
            DynamicRange::Pq => Some((Transfer::Pq, stated_or("bt2100-pq"))),
            DynamicRange::Sdr if wide => Some((Transfer::Sdr, stated_or("bt2020-10"))),
            DynamicRange::Sdr => None,
        };
        let target = match (&tone, stated) {
            (Some(_), _) => "bt709".to_owned(),
            (None, Some(colour)) => limited(&colour, video.height),
            (None, None) => by_size(video.height).to_owned(),
        };
        Self { target, tone }
    }
}

fn by_size(height: u32) -> &'static str {
    if height > SD_LINES { "bt709" } else { "bt601" }
}

/// The same colour in limited range, where it is one of those that every player knows.
fn limited(colour: &VideoColorimetry, height: u32) -> String {
    let matrix = colour.matrix();
    if matrix == VideoColorMatrix::Rgb {
        return "bt709".to_owned();
    }
    if ![VideoColorMatrix::Bt709, VideoColorMatrix::Bt601, VideoColorMatrix::Smpte240m].contains(&matrix) {
        return by_size(height).to_owned();
    }
    // A standard-range picture with a tag of HDR was mislabelled; the tag must not survive.
    let of_hdr = [VideoTransferFunction::Smpte2084, VideoTransferFunction::AribStdB67];
    let mislabelled = of_hdr.contains(&colour.transfer());
    let transfer = if mislabelled { VideoTransferFunction::Bt709 } else { colour.transfer() };
    VideoColorimetry::new(VideoColorRange::Range16_235, matrix, transfer, colour.primaries()).to_string()
}

/// The head as a bin with pads `sink` and `src`: raw pictures in, upright progressive I420 out.
pub fn build(video: &VideoFacts) -> Result<gst::Bin, Failure> {
    let colour = Colour::of(video);
    let convert = make("videoconvert")?;
    let mut elements = vec![convert.clone()];
    match &colour.tone {
        None => {
            let target = VideoColorimetry::from_str(&colour.target).map_err(own)?;
            let squeeze = Arc::new(AtomicBool::new(false));
            let full_range = Arc::clone(&squeeze);
            read_with(&convert, move |stated| {
                let (read_as, full) = as_limited(stated?, &target)?;
                full_range.store(full, Ordering::Relaxed);
                Some(read_as)
            })?;
            let filter = caps_filter(&raw_caps("I420", &colour.target))?;
            squeeze_range(&filter, squeeze)?;
            elements.push(filter);
        }
        Some((transfer, read_as)) => {
            let stated = read_as.clone();
            read_with(&convert, move |_| Some(stated.clone()))?;
            elements.push(caps_filter(&raw_caps("I420_10LE", read_as))?);
            elements.push(Tone::element(*transfer, &colour.target));
        }
    }
    elements.push(deinterlacer()?);
    if video.orientation != Orientation::Upright {
        let flip = make("videoflip")?;
        flip.set_property_from_str("video-direction", direction(video.orientation));
        elements.push(flip);
    }
    chain(&elements)
}

/// The element that lets nothing but `caps` through.
pub fn caps_filter(caps: &gst::Caps) -> Result<gst::Element, Failure> {
    let filter = make("capsfilter")?;
    filter.set_property("caps", caps);
    Ok(filter)
}

fn raw_caps(format: &str, colorimetry: &str) -> gst::Caps {
    gst::Caps::builder("video/x-raw").field("format", format).field("colorimetry", colorimetry).build()
}

/// `greedyl` with the fields that come first keeps the frames and their times; `yadif` breaks times, `greedyh` and
/// `tomsmocomp` the picture, and other fields the number of frames. Which come first is said by the first picture that is
/// woven at all. Progressive pictures pass untouched.
fn deinterlacer() -> Result<gst::Element, Failure> {
    let deinterlace = make("deinterlace")?;
    deinterlace.set_property_from_str("mode", "auto");
    deinterlace.set_property_from_str("method", "greedyl");
    deinterlace.set_property_from_str("fields", "top");
    let pad = deinterlace.static_pad("sink").ok_or_else(|| Failure::own("a deinterlacer without sink pad"))?;
    let weak = deinterlace.downgrade();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let flags = info.buffer().map(|buffer| buffer.video_flags());
        let Some(flags) = flags.filter(|flags| flags.contains(gst_video::VideoBufferFlags::INTERLACED)) else {
            return gst::PadProbeReturn::Ok;
        };
        if let Some(deinterlace) = weak.upgrade()
            && !flags.contains(gst_video::VideoBufferFlags::TFF)
        {
            deinterlace.set_property_from_str("fields", "bottom");
        }
        gst::PadProbeReturn::Remove
    });
    Ok(deinterlace)
}

/// How the converter is to read a picture, and whether it is one of full range. Never as full range: the converter of
/// GStreamer 1.22 leaves the range alone where the matrix stays the same, so it is squeezed behind it. What the caps
/// leave open is what the renditions will state.
fn as_limited(stated: &str, target: &VideoColorimetry) -> Option<(String, bool)> {
    let stated = VideoColorimetry::from_str(stated).ok()?;
    if stated.matrix() == VideoColorMatrix::Rgb {
        return None;
    }
    let like = if stated.matrix() == VideoColorMatrix::Unknown { target } else { &stated };
    let range = VideoColorRange::Range16_235;
    let read_as = VideoColorimetry::new(range, like.matrix(), like.transfer(), like.primaries());
    Some((read_as.to_string(), stated.range() == VideoColorRange::Range0_255))
}

/// Brings pictures of full range to limited range as they leave `element`.
fn squeeze_range(element: &gst::Element, squeeze: Arc<AtomicBool>) -> Result<(), Failure> {
    let pad = element.static_pad("src").ok_or_else(|| Failure::own("a filter without src pad"))?;
    let luma: [u8; 256] = std::array::from_fn(|v| (16 + (v * 219 + 127) / 255) as u8);
    // 128 stays 128; half a step is added above it and taken below it.
    let chroma: [u8; 256] = std::array::from_fn(|v| ((v * 224 + 128 * 255 - 128 * 224 + 127) / 255) as u8);
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if squeeze.load(Ordering::Relaxed)
            && let Some(caps) = pad.current_caps()
            && let Ok(video) = gst_video::VideoInfo::from_caps(&caps)
            && let Some(buffer) = info.buffer_mut()
            && let Ok(mut frame) = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer.make_mut(), &video)
        {
            for (plane, table) in [(0, &luma), (1, &chroma), (2, &chroma)] {
                // An I420 picture that is mapped has its three planes.
                for value in frame.plane_data_mut(plane).into_iter().flatten() {
                    *value = table[usize::from(*value)];
                }
            }
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// Decoders do not always repeat what the container says about colour; the facts do. `read_as` gets the colorimetry that
/// the caps state and answers with another one where it is to be replaced.
fn read_with(
    convert: &gst::Element,
    read_as: impl Fn(Option<&str>) -> Option<String> + Send + Sync + 'static,
) -> Result<(), Failure> {
    let pad = convert.static_pad("sink").ok_or_else(|| Failure::own("a converter without sink pad"))?;
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(event) = info.event()
            && let gst::EventView::Caps(caps) = event.view()
            && let Some(structure) = caps.caps().structure(0)
            && let Some(colorimetry) = read_as(structure.get::<&str>("colorimetry").ok())
        {
            let mut replaced = caps.caps_owned();
            replaced.make_mut().set("colorimetry", &colorimetry);
            let event = gst::event::Caps::builder(&replaced).seqnum(event.seqnum()).build();
            info.data = Some(gst::PadProbeData::Event(event));
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// Never `auto`: the orientation tag is lost over a seek, and the facts know it.
fn direction(orientation: Orientation) -> &'static str {
    match orientation {
        Orientation::Upright => "identity",
        Orientation::Rotate90 => "90r",
        Orientation::Rotate180 => "180",
        Orientation::Rotate270 => "90l",
        Orientation::FlipRotate0 => "horiz",
        Orientation::FlipRotate90 => "ur-ll",
        Orientation::FlipRotate180 => "vert",
        Orientation::FlipRotate270 => "ul-lr",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spool_proto::media::FrameRate;

    fn facts(height: u32, dynamic_range: DynamicRange, colorimetry: &str) -> VideoFacts {
        VideoFacts {
            stream: 0,
            codec: "h264".to_owned(),
            width: 64,
            height,
            pixel_aspect: (1, 1),
            orientation: Orientation::Upright,
            display_width: 64,
            display_height: height,
            frame_rate: FrameRate { num: 25, den: 1 },
            variable_rate: false,
            frames: None,
            interlaced: false,
            bit_depth: 8,
            dynamic_range,
            colorimetry: colorimetry.to_owned(),
            first_ns: 0,
            end_ns: 0,
            longest_gap_ns: 0,
            leaps_over_ns: 0,
            last_ns: 0,
        }
    }

    #[test]
    fn colours_stay_what_they_are_in_limited_range_and_hdr_never_survives() {
        gst::init().unwrap();
        let check = |height, range, stated: &str, target: &str, tone: Option<Transfer>| {
            let colour = Colour::of(&facts(height, range, stated));
            assert_eq!((colour.target.as_str(), colour.tone.map(|t| t.0)), (target, tone), "{stated} at {height}");
        };
        check(1080, DynamicRange::Sdr, "bt709", "bt709", None);
        check(1080, DynamicRange::Sdr, "bt601", "bt601", None);
        check(1080, DynamicRange::Sdr, "", "bt709", None);
        check(480, DynamicRange::Sdr, "", "bt601", None);
        check(480, DynamicRange::Sdr, "1:3:5:1", "bt709", None);
        check(480, DynamicRange::Sdr, "1:0:0:0", "bt601", None);
        check(480, DynamicRange::Sdr, "sRGB", "bt709", None);
        check(1080, DynamicRange::Hlg, "bt2100-hlg", "bt709", Some(Transfer::Hlg));
        check(1080, DynamicRange::Pq, "", "bt709", Some(Transfer::Pq));
        check(1080, DynamicRange::Sdr, "bt2020-10", "bt709", Some(Transfer::Sdr));
    }
}
