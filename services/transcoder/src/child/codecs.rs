//! The lists of what Spool takes: containers and codecs by gstreamer's caps. What is not on them is refused by name.

use spool_proto::media::Container;

/// The container of typefound caps; `Err` names what it is instead.
pub fn container(caps: &gst::Caps) -> Result<Container, String> {
    let Some(structure) = caps.structure(0) else { return Err("of an unknown kind".to_owned()) };
    let name = structure.name().as_str();
    Ok(match name {
        "video/quicktime" | "audio/x-m4a" | "application/x-3gp" | "video/mj2" => Container::Mp4,
        "video/x-matroska" | "video/x-matroska-3d" | "video/webm" | "audio/x-matroska" | "audio/webm" => {
            Container::Matroska
        }
        "video/mpegts" => Container::MpegTs,
        "video/mpeg" if structure.get::<bool>("systemstream") == Ok(true) => Container::MpegPs,
        "video/x-msvideo" => Container::Avi,
        "video/x-flv" => Container::Flv,
        "application/ogg" | "video/ogg" | "audio/ogg" => Container::Ogg,
        "video/x-ms-asf" => Container::Asf,
        "application/mxf" => Container::Mxf,
        "audio/x-wav"
        | "audio/mpeg"
        | "audio/x-flac"
        | "audio/x-ac3"
        | "audio/x-eac3"
        | "application/x-id3"
        | "application/x-apetag" => Container::Audio,
        _ => return Err(format!("a file of type {name}, which is not on the list")),
    })
}

/// Codec of a picture in the field's words; `Err` holds gstreamer's.
pub fn video(caps: &gst::Caps) -> Result<String, String> {
    let Some(structure) = caps.structure(0) else { return Err("unknown".to_owned()) };
    let version = |field| structure.get::<i32>(field).unwrap_or(0);
    let name = structure.name().as_str();
    Ok(match name {
        "video/x-h264" => "h264",
        "video/x-h265" => "hevc",
        "video/x-vp8" => "vp8",
        "video/x-vp9" => "vp9",
        "video/x-av1" => "av1",
        "video/x-prores" => "prores",
        "video/mpeg" if version("mpegversion") == 1 => "mpeg1video",
        "video/mpeg" if version("mpegversion") == 2 => "mpeg2video",
        "video/mpeg" if version("mpegversion") == 4 => "mpeg4",
        "video/x-xvid" | "video/x-divx" => "mpeg4",
        "video/x-msmpeg" => "msmpeg4",
        "video/x-h263" => "h263",
        "video/x-flash-video" => "flv1",
        "video/x-vp6" | "video/x-vp6-flash" => "vp6",
        "video/x-theora" => "theora",
        "video/x-wmv" if structure.get::<&str>("format") == Ok("WVC1") => "vc1",
        "video/x-wmv" => return Ok(format!("wmv{}", version("wmvversion"))),
        "video/x-dnxhd" => "dnxhd",
        "video/x-dv" => "dvvideo",
        "video/x-ffv" => "ffv1",
        "video/x-huffyuv" | "video/x-ffvhuff" => "huffyuv",
        "video/x-svq" => return Ok(format!("svq{}", version("svqversion"))),
        "image/jpeg" => "mjpeg",
        "video/x-raw" => "rawvideo",
        _ => return Err(name.to_owned()),
    }
    .to_owned())
}

/// Codec of a sound in the field's words; `Err` holds gstreamer's.
pub fn audio(caps: &gst::Caps, container: Container) -> Result<String, String> {
    let Some(structure) = caps.structure(0) else { return Err("unknown".to_owned()) };
    let version = |field| structure.get::<i32>(field).unwrap_or(0);
    let name = structure.name().as_str();
    Ok(match name {
        "audio/mpeg" if version("mpegversion") == 1 => return Ok(format!("mp{}", version("layer").clamp(1, 3))),
        "audio/mpeg" => "aac",
        "audio/x-opus" => "opus",
        "audio/x-vorbis" => "vorbis",
        "audio/x-flac" => "flac",
        "audio/x-alac" => "alac",
        "audio/x-ac3" => "ac3",
        "audio/x-eac3" => "eac3",
        "audio/x-dts" => "dts",
        "audio/AMR" => "amr_nb",
        "audio/AMR-WB" => "amr_wb",
        "audio/x-wma" => return Ok(format!("wmav{}", version("wmaversion"))),
        "audio/x-alaw" => "pcm_alaw",
        "audio/x-mulaw" => "pcm_mulaw",
        "audio/x-adpcm" => "adpcm",
        // qtdemux 1.22 takes little-endian 32-bit sound of MOV for big-endian: full-scale noise. Which of the two it is
        // cannot be told from here.
        "audio/x-raw"
            if container == Container::Mp4
                && matches!(structure.get::<&str>("format"), Ok("F32BE" | "S32BE" | "F64BE")) =>
        {
            return Err("32-bit PCM in QuickTime".to_owned());
        }
        "audio/x-raw" => "pcm",
        _ => return Err(name.to_owned()),
    }
    .to_owned())
}
