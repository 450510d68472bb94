//! Which container a source is in: by its first bytes, then by what its demuxers say.

use spool_proto::media::Container;

use super::super::codecs;
use super::super::demux::{Demuxed, Trouble};
use super::super::formats::{mp4, mpeg_sound};
use super::super::sniff::{Sniffed, sniff};
use super::super::whole::{Whole, unreadable};
use crate::order::{Failure, FailureCode};

/// What a file is of which nothing is known.
const NOTHING_KNOWN: &str = "of no known kind";
/// What an MXF file is that holds one stream in one piece.
const OP_ATOM: &str = "an MXF file of one stream in one piece (OP-Atom), as Avid keeps its media";

/// The container whose chain of links is walked in search of damage.
pub(super) fn chain_of(head: &[u8], index: Option<&mp4::Index>) -> Option<Container> {
    match sniff(head) {
        Sniffed::Ebml => Some(Container::Matroska),
        Sniffed::IsoMedia => index.is_some_and(|index| index.fragmented).then_some(Container::Mp4),
        Sniffed::Unknown if head.starts_with(b"FLV") => Some(Container::Flv),
        Sniffed::Unknown if head.starts_with(b"OggS") => Some(Container::Ogg),
        Sniffed::Unknown => (head.starts_with(b"RIFF") && head.get(8..12)? == b"AVI ").then_some(Container::Avi),
        Sniffed::Still(_) | Sniffed::Other(_) => None,
    }
}

/// The container, from the list; or what the demuxers' silence means.
pub(super) fn container_of(demuxed: &Demuxed, sniffed: Sniffed) -> Result<Container, Failure> {
    let container = match &demuxed.container {
        Some(caps) => {
            let name = caps.structure(0).map(|s| s.name().to_string()).unwrap_or_default();
            if let Some(found) = name.strip_prefix("image/") {
                return Err(Failure::new(FailureCode::SourceStillImage, name.clone()).with("found", found));
            }
            if name.starts_with("text/") || name == "application/xml" {
                return Err(Failure::new(FailureCode::SourceNotMedia, name).with("found", "a text file"));
            }
            codecs::container(caps)
                .map_err(|found| Failure::new(FailureCode::SourceContainerUnsupported, name).with("found", found))
        }
        None => {
            let detail = demuxed.gave_up.as_ref().map_or("no known type", |(_, detail)| detail);
            Err(Failure::new(FailureCode::SourceNotMedia, detail).with("found", NOTHING_KNOWN))
        }
    };
    let damaged = |part: &str, detail: &str| Failure::new(FailureCode::SourceCorrupt, detail).with("part", part);
    match (&demuxed.gave_up, sniffed) {
        // Its first bytes say Matroska, and no reader agrees: the header behind them is broken.
        (Some((_, detail)), Sniffed::Ebml) if demuxed.streams.is_empty() => Err(damaged("header (EBML)", detail)),
        (Some((Trouble::Encrypted, detail)), _) => Err(Failure::new(FailureCode::SourceEncrypted, detail)
            .with("kind", "file")
            .with("found", "as it says itself")),
        // All of it came as one sample, behind which nothing is known: what a file of one stream holds, as editing programs
        // keep it beside others (OP-Atom).
        (Some((Trouble::Other, detail)), _)
            if container == Ok(Container::Mxf) && demuxed.streams.iter().any(|met| met.samples.len() == 1) =>
        {
            Err(Failure::new(FailureCode::SourceContainerUnsupported, detail).with("found", OP_ATOM))
        }
        (Some((Trouble::Other, detail)), _) if demuxed.streams.is_empty() && container.is_ok() => {
            Err(damaged("structure", detail))
        }
        (Some((_, _)) | None, _) => container,
    }
}

/// Refuses what was taken for bare MPEG sound and is none.
pub(super) fn frames_follow(demuxed: &Demuxed, bytes: &Whole<'_>) -> Result<(), Failure> {
    if !demuxed.container.as_ref().is_some_and(codecs::is_mpeg_sound)
        || mpeg_sound::is_there(bytes).map_err(unreadable)?
    {
        return Ok(());
    }
    let detail = "taken for MPEG sound, but no frames follow one another";
    Err(Failure::new(FailureCode::SourceNotMedia, detail).with("found", NOTHING_KNOWN))
}
