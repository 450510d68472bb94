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
        _ => return Err(known_file(name)),
    })
}

/// MP3 and its elders without a container?
pub fn is_mpeg_sound(caps: &gst::Caps) -> bool {
    let version =
        caps.structure(0).filter(|form| form.name() == "audio/mpeg").map(|form| form.get::<i32>("mpegversion"));
    version == Some(Ok(1))
}

/// A container that is taken, as people call a file of it.
pub fn file_of(container: Container) -> &'static str {
    match container {
        Container::Mp4 => "an MP4 file",
        Container::Matroska => "a Matroska or WebM file",
        Container::MpegTs => "an MPEG transport stream",
        Container::MpegPs => "an MPEG program stream",
        Container::Avi => "an AVI file",
        Container::Flv => "a Flash video",
        Container::Ogg => "an Ogg file",
        Container::Asf => "a Windows Media file",
        Container::Mxf => "an MXF file",
        Container::Audio => "a sound file",
    }
}

/// A file that is not taken, as people call it.
fn known_file(name: &str) -> String {
    match name {
        "video/x-ivf" => "an IVF file: bare VP8, VP9 or AV1, as encoders write for tests",
        "video/x-h264" | "video/x-h265" | "video/x-h266" | "video/x-av1" | "video/mpeg" | "video/x-h263" => {
            "bare coded video without a container, or what is left of a damaged file"
        }
        "video/x-dv" => "bare DV video without a container",
        "application/x-yuv4mpeg" | "video/x-raw" => "uncompressed video without a container",
        "application/vnd.rn-realmedia" => "a RealMedia file",
        "application/x-shockwave-flash" => "a Flash animation",
        "audio/midi" | "audio/riff-midi" => "a MIDI file: notes and no sound",
        "video/x-nuv" => "a NuppelVideo file",
        "video/x-mng" => "an MNG animation",
        name => return format!("of the type {name}, which Spool does not read"),
    }
    .to_owned()
}

/// A codec as people know it, by its name in the field's words or in gstreamer's.
pub fn for_people(codec: &str) -> String {
    let bare = codec.trim_start_matches("video/").trim_start_matches("audio/").trim_start_matches("x-");
    match bare {
        "h264" => "H.264/AVC",
        "h265" | "hevc" => "H.265/HEVC",
        "h266" => "H.266/VVC",
        "vp8" => "VP8",
        "vp9" => "VP9",
        "av1" => "AV1",
        "prores" => "Apple ProRes",
        "mpeg1video" => "MPEG-1 video",
        "mpeg2video" => "MPEG-2 video",
        "mpeg" => "MPEG",
        "mpeg4" | "xvid" | "divx" => "MPEG-4 Part 2 (DivX, Xvid)",
        "msmpeg" | "msmpeg4" => "Microsoft MPEG-4",
        "h263" => "H.263",
        "flv1" | "flash-video" => "Sorenson H.263 (Flash)",
        "vp6" | "vp6-flash" => "On2 VP6",
        "theora" => "Theora",
        "vc1" => "VC-1",
        "dnxhd" => "DNxHD",
        "dvvideo" | "dv" => "DV",
        "ffv1" | "ffv" => "FFV1",
        "huffyuv" | "ffvhuff" => "HuffYUV",
        "mjpeg" | "image/jpeg" => "Motion JPEG",
        "rawvideo" | "raw" => "uncompressed video",
        "cinepak" => "Cinepak",
        "rle" => "run-length coded video (QuickTime Animation)",
        "image/x-jpc" | "image/x-j2c" | "image/x-j2k" => "JPEG 2000",
        "avi-unknown" => "a codec that is named nowhere",
        "indeo" => "Intel Indeo",
        "gopro-cineform" | "cineform" => "GoPro CineForm",
        "pn-realvideo" => "RealVideo",
        "pn-realaudio" => "RealAudio",
        "aac" => "AAC",
        "mp1" | "mp2" | "mp3" => return format!("MPEG layer {} sound", &bare[2..]),
        "opus" => "Opus",
        "vorbis" => "Vorbis",
        "flac" => "FLAC",
        "alac" => "Apple Lossless",
        "ac3" => "Dolby Digital (AC-3)",
        "eac3" => "Dolby Digital Plus (E-AC-3)",
        "ac4" => "Dolby AC-4",
        "true-hd" | "truehd" | "mlp" => "Dolby TrueHD",
        "dts" => "DTS",
        "pcm_dvd" | "private1-lpcm" => "uncompressed sound of DVD (LPCM)",
        "pcm_bluray" => "uncompressed sound of Blu-ray (LPCM)",
        "s302m" | "smpte-302m" => "SMPTE 302M (uncompressed sound of broadcasters)",
        "wavpack" => "WavPack",
        "tta" => "True Audio (TTA)",
        "amr_nb" | "AMR" => "AMR",
        "amr_wb" | "AMR-WB" => "AMR wideband",
        _ => {
            if let Some(tag) = bare.strip_prefix("gst-fourcc-") {
                return known_tag(tag).map_or_else(|| format!("the codec {tag}"), |name| format!("{name} ({tag})"));
            }
            return match bare.strip_prefix("wmav").or_else(|| bare.strip_prefix("wmv")) {
                Some(version) if bare.starts_with("wmv") => format!("Windows Media Video {version}"),
                Some(version) => format!("Windows Media Audio {version}"),
                None => bare.to_owned(),
            };
        }
    }
    .to_owned()
}

/// Codecs that gstreamer knows by their tag alone.
fn known_tag(tag: &str) -> Option<&'static str> {
    match tag {
        "AVdn" => Some("Avid DNxHD"),
        "AVdh" => Some("Avid DNxHR"),
        "CFHD" => Some("GoPro CineForm"),
        // As `edits` names them anew: v308 and yuv2.
        "VUY8" => Some("uncompressed video of 4:4:4 samples, v308"),
        "YSU8" => Some("uncompressed video of signed samples, yuv2"),
        "icod" => Some("Apple Intermediate Codec"),
        tag if tag.starts_with("UL") || tag.starts_with("UQ") => Some("Ut Video"),
        _ => None,
    }
}

/// The tag in an AVI of a codec that gstreamer has no name for, under the name that it gives to those of MOV.
fn tag_of_avi(structure: &gst::StructureRef) -> Option<String> {
    let bytes = structure.get::<i32>("fourcc").ok()?.to_le_bytes();
    let tag = std::str::from_utf8(&bytes).ok().filter(|_| bytes.iter().all(u8::is_ascii_graphic))?;
    Some(format!("video/x-gst-fourcc-{tag}"))
}

/// What a Matroska calls a codec that its demuxer has no caps for.
fn id_of_matroska(structure: &gst::StructureRef) -> Option<String> {
    structure.get::<&str>("codec-id").ok().map(|id| format!("the codec {id}"))
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
        "video/x-unknown" => return Err(id_of_matroska(structure).unwrap_or_else(|| name.to_owned())),
        "video/x-avi-unknown" => return Err(tag_of_avi(structure).unwrap_or_else(|| name.to_owned())),
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
        "audio/x-true-hd" => "truehd",
        "audio/AMR" => "amr_nb",
        "audio/AMR-WB" => "amr_wb",
        "audio/x-wma" => return Ok(format!("wmav{}", version("wmaversion"))),
        "audio/x-alaw" => "pcm_alaw",
        "audio/x-mulaw" => "pcm_mulaw",
        "audio/x-adpcm" => "adpcm",
        "audio/x-private-ts-lpcm" => "pcm_bluray",
        "audio/x-private1-lpcm" => "pcm_dvd",
        "audio/x-smpte-302m" => "s302m",
        // qtdemux 1.22 takes little-endian 32-bit sound of MOV for big-endian: full-scale noise. Which of the two it is
        // cannot be told from here.
        "audio/x-raw"
            if container == Container::Mp4
                && matches!(structure.get::<&str>("format"), Ok("F32BE" | "S32BE" | "F64BE")) =>
        {
            return Err("32-bit PCM in QuickTime".to_owned());
        }
        "audio/x-raw" => "pcm",
        "audio/x-unknown" => return Err(id_of_matroska(structure).unwrap_or_else(|| name.to_owned())),
        _ => return Err(name.to_owned()),
    }
    .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_names_that_they_know() {
        for (codec, expected) in [
            ("video/x-h265", "H.265/HEVC"),
            ("hevc", "H.265/HEVC"),
            ("prores", "Apple ProRes"),
            ("image/jpeg", "Motion JPEG"),
            ("mp3", "MPEG layer 3 sound"),
            ("wmv3", "Windows Media Video 3"),
            ("wmav2", "Windows Media Audio 2"),
            ("video/x-gst-fourcc-AVdh", "Avid DNxHR (AVdh)"),
            ("video/x-gst-fourcc-ULY0", "Ut Video (ULY0)"),
            ("video/x-gst-fourcc-what", "the codec what"),
            ("video/x-avi-unknown", "a codec that is named nowhere"),
            ("image/x-jpc", "JPEG 2000"),
            ("video/x-strange", "strange"),
            ("32-bit PCM in QuickTime", "32-bit PCM in QuickTime"),
        ] {
            assert_eq!(for_people(codec), expected);
        }
    }

    #[test]
    fn a_codec_of_an_avi_or_a_matroska_is_named_by_its_tag() {
        gst::init().unwrap();
        let named = gst::Caps::builder("audio/x-unknown").field("codec-id", "A_ALAC").build();
        assert_eq!(audio(&named, Container::Matroska), Err("the codec A_ALAC".to_owned()));
        let refused = |fourcc: i32| video(&gst::Caps::builder("video/x-avi-unknown").field("fourcc", fourcc).build());
        assert_eq!(refused(i32::from_le_bytes(*b"ULY0")), Err("video/x-gst-fourcc-ULY0".to_owned()));
        assert_eq!(refused(7), Err("video/x-avi-unknown".to_owned()));
    }

    #[test]
    fn files_that_are_not_taken_have_names_too() {
        gst::init().unwrap();
        let refused = |name: &str| container(&gst::Caps::new_empty_simple(name)).unwrap_err();
        assert_eq!(refused("video/x-ivf"), "an IVF file: bare VP8, VP9 or AV1, as encoders write for tests");
        assert!(refused("video/x-h264").starts_with("bare coded video without a container"));
        assert_eq!(refused("video/x-strange"), "of the type video/x-strange, which Spool does not read");
    }
}
