//! Is the index of an MP4 one that its file can hold?

use super::super::formats::mp4::{self, Found};
use super::super::formats::quicktime::Unusual;
use super::super::streams::Kind;
use crate::order::{Failure, FailureCode};

/// Media that an index promises and the file does not hold, beyond which the file counts as damaged, in milliseconds.
pub(super) const MISSING_TOLERANCE_MS: u64 = 1000;

/// What a QuickTime file is that names others.
const NAMES_OTHERS: &str = "a QuickTime movie that names media in other files and holds none";

/// An index that promises what the file can hold, or the name of what is wrong. None where only demuxers can read it.
pub(super) fn usable_index(found: Found) -> Result<Option<mp4::Index>, Failure> {
    let index = match found {
        Found::NoIndex { media } => {
            let detail = if media { "media data without a moov box" } else { "no moov box" };
            return Err(Failure::new(FailureCode::SourceIndexMissing, detail).with("part", "moov"));
        }
        Found::Corrupt(part) => {
            return Err(Failure::new(FailureCode::SourceCorrupt, format!("mp4: {part}")).with("part", part));
        }
        Found::Unusual(Unusual::Compressed) => return Ok(None),
        Found::Unusual(Unusual::Elsewhere) => {
            return Err(Failure::new(FailureCode::SourceNotMedia, "by its index").with("found", NAMES_OTHERS));
        }
        Found::Index(index) => index,
    };
    if let Some(track) = index.tracks.iter().find(|t| matches!(&t.format, b"encv" | b"enca" | b"drmi" | b"drms")) {
        let kind = if track.video { Kind::Video } else { Kind::Audio };
        let found = match &track.format {
            b"drmi" | b"drms" => "FairPlay, as Apple's shops use it",
            _ => "Common Encryption, as streaming services use it",
        };
        return Err(Failure::new(FailureCode::SourceEncrypted, "by its sample description")
            .with("kind", kind.as_str())
            .with("found", found));
    }
    if index.tracks.is_empty() {
        let failure = Failure::new(FailureCode::SourceNoStreams, "mp4 without picture or sound track");
        return Err(failure.with("found", "an MP4"));
    }
    if !index.fragments {
        let promised: u64 = index.tracks.iter().map(|t| t.promised).sum();
        if promised == 0 {
            let tracks = index.tracks.len();
            let failure = Failure::new(FailureCode::SourceNoSamples, "mp4 with empty sample tables and no fragments");
            return Err(failure.with("expected", streams_text(tracks)));
        }
        missing_media(&index)?;
    }
    Ok(Some(index))
}

/// Samples that the index lists beyond the file's end.
fn missing_media(index: &mp4::Index) -> Result<(), Failure> {
    for track in &index.tracks {
        let present_ms =
            (u128::from(track.promised_ms) * u128::from(track.present)).checked_div(u128::from(track.promised));
        let present_ms = present_ms.unwrap_or(0) as u64;
        if track.promised_ms.saturating_sub(present_ms) > MISSING_TOLERANCE_MS
            || track.present == 0 && track.promised > 0
        {
            let detail = format!("track {}: {} of {} samples lie in the file", track.id, track.present, track.promised);
            return Err(Failure::new(FailureCode::SourceDamaged, detail)
                .with("expected", seconds(track.promised_ms))
                .with("got", seconds(present_ms)));
        }
    }
    Ok(())
}

/// So many of them, for people.
pub(super) fn streams_text(number: usize) -> String {
    format!("{number} stream{}", if number == 1 { "" } else { "s" })
}

/// A time for people.
pub(in super::super) fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}
