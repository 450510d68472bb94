//! What caps and tags say of a picture and of where it came from.

use std::str::FromStr as _;

use gst_video::{VideoColorimetry, VideoTransferFunction};
use spool_proto::media::{DynamicRange, Orientation};

use super::met::Met;

/// A picture as it is stored and shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Stored width.
    pub width: u32,
    /// Stored height.
    pub height: u32,
    /// Width to height of a pixel.
    pub pixel_aspect: (u32, u32),
    /// How to turn it.
    pub orientation: Orientation,
    /// Width and height as shown.
    pub display: (u32, u32),
    /// Flagged as interlaced.
    pub interlaced: bool,
    /// Bits of a luma sample.
    pub bit_depth: u32,
    /// By the transfer function.
    pub dynamic_range: DynamicRange,
    /// Gstreamer's word for the colours.
    pub colorimetry: String,
}

/// Width and height that caps declare.
pub fn size(caps: Option<&gst::Caps>) -> Option<(u32, u32)> {
    let structure = caps?.structure(0)?;
    let side = |name| structure.get::<i32>(name).ok().and_then(|side| u32::try_from(side).ok());
    Some((side("width")?, side("height")?))
}

/// From the caps before and after decoding, and what the container says of how it stands: by its own tables where they were
/// read, else by the stream's tags and those of the whole.
pub fn of(parsed: &gst::Caps, decoded: &gst::Caps, met: &Met, global: Option<&gst::TagList>) -> Option<Picture> {
    let info = gst_video::VideoInfo::from_caps(decoded).ok()?;
    let (width, height) = (info.width(), info.height());
    let aspect = match (aspect(info.par()), met.pose.and_then(|pose| pose.pixel_aspect)) {
        // Decoders that know nothing of it say that pixels are square.
        ((w, h), Some(stated)) if w == h => bounded(stated),
        (decoded, _) => decoded,
    };
    let tagged = || orientation(&met.tags).or_else(|| global.and_then(orientation));
    let orientation = met.pose.map(|pose| pose.orientation).or_else(tagged).unwrap_or_default();
    let colorimetry = colours(parsed, &info);
    Some(Picture {
        width,
        height,
        pixel_aspect: aspect,
        orientation,
        display: display(width, height, aspect, orientation),
        interlaced: info.is_interlaced(),
        bit_depth: info.comp_depth(0),
        dynamic_range: range_of(colorimetry.as_ref()),
        colorimetry: colorimetry.map(|c| c.to_string()).unwrap_or_default(),
    })
}

/// Pixel aspects beyond this are mistakes of a muxer, and would make a picture of a few lines.
const GREATEST_ASPECT: u32 = 8;

fn aspect(par: gst::Fraction) -> (u32, u32) {
    let side = |n: i32| u32::try_from(n).unwrap_or(0);
    bounded((side(par.numer()), side(par.denom())))
}

fn bounded(aspect: (u32, u32)) -> (u32, u32) {
    match aspect {
        (0, _) | (_, 0) => (1, 1),
        (w, h) if w > h.saturating_mul(GREATEST_ASPECT) || h > w.saturating_mul(GREATEST_ASPECT) => (1, 1),
        aspect => aspect,
    }
}

/// Square pixels by widening or heightening, never by losing any; then upright.
fn display(width: u32, height: u32, (w, h): (u32, u32), orientation: Orientation) -> (u32, u32) {
    let stretch = |side: u32, by: u32, to: u32| {
        u32::try_from((u64::from(side) * u64::from(by) + u64::from(to) / 2) / u64::from(to)).unwrap_or(side)
    };
    let (width, height) = if w >= h { (stretch(width, w, h), height) } else { (width, stretch(height, h, w)) };
    if orientation.swaps_sides() { (height, width) } else { (width, height) }
}

/// What the container says where it says HDR, since decoders do not always repeat it; else what the decoder says.
fn colours(parsed: &gst::Caps, info: &gst_video::VideoInfo) -> Option<VideoColorimetry> {
    let stated = parsed
        .structure(0)
        .and_then(|s| s.get::<&str>("colorimetry").ok())
        .and_then(|text| VideoColorimetry::from_str(text).ok());
    let decoded = VideoColorimetry::from_str(&info.colorimetry().to_string()).ok();
    match (range_of(stated.as_ref()), range_of(decoded.as_ref())) {
        (DynamicRange::Hlg | DynamicRange::Pq, DynamicRange::Sdr) => stated,
        (DynamicRange::Hlg | DynamicRange::Pq, DynamicRange::Hlg | DynamicRange::Pq) | (DynamicRange::Sdr, _) => {
            decoded.or(stated)
        }
    }
}

fn range_of(colours: Option<&VideoColorimetry>) -> DynamicRange {
    match colours.map(VideoColorimetry::transfer) {
        Some(VideoTransferFunction::Smpte2084) => DynamicRange::Pq,
        Some(VideoTransferFunction::AribStdB67) => DynamicRange::Hlg,
        Some(_) | None => DynamicRange::Sdr,
    }
}

fn orientation(tags: &gst::TagList) -> Option<Orientation> {
    let tag = tags.index::<gst::tags::ImageOrientation>(0)?;
    Some(match tag.get() {
        "rotate-90" => Orientation::Rotate90,
        "rotate-180" => Orientation::Rotate180,
        "rotate-270" => Orientation::Rotate270,
        "flip-rotate-0" => Orientation::FlipRotate0,
        "flip-rotate-90" => Orientation::FlipRotate90,
        "flip-rotate-180" => Orientation::FlipRotate180,
        "flip-rotate-270" => Orientation::FlipRotate270,
        _ => Orientation::Upright,
    })
}

/// The language that a stream states.
pub fn language(tags: &gst::TagList) -> Option<String> {
    let code = tags.index::<gst::tags::LanguageCode>(0)?.get().to_owned();
    (!code.is_empty() && code != "und" && code.len() <= 35).then_some(code)
}

/// Does it say where it was recorded?
pub fn has_location(tags: &gst::TagList) -> bool {
    tags.index::<gst::tags::GeoLocationLatitude>(0).is_some()
        || tags.index::<gst::tags::GeoLocationName>(0).is_some()
        || tags.index::<gst::tags::GeoLocationCountry>(0).is_some()
}

/// Does it name the device?
pub fn has_device(tags: &gst::TagList) -> bool {
    tags.index::<gst::tags::DeviceModel>(0).is_some() || tags.index::<gst::tags::DeviceManufacturer>(0).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_sizes_are_square_and_upright() {
        for (size, aspect, orientation, expected) in [
            ((640, 480), (4, 3), Orientation::Upright, (853, 480)),
            ((720, 576), (64, 45), Orientation::Upright, (1024, 576)),
            ((176, 144), (12, 11), Orientation::Upright, (192, 144)),
            ((720, 576), (8, 9), Orientation::Upright, (720, 648)),
            ((1920, 1080), (1, 1), Orientation::Rotate90, (1080, 1920)),
        ] {
            assert_eq!(display(size.0, size.1, aspect, orientation), expected);
        }
    }
}
