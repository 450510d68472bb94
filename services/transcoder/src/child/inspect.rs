//! `inspect`: what a source is, or the name of why it is refused.
//!
//! In order, each step cheaper than the next: its size, its first bytes, the tables of an MP4, its demuxer (to the end
//! where no tables tell the times), and a little decoding at the start. The facts are what every worker then goes by, so
//! zero and end are those of the chosen streams' samples; a container's own idea of its duration is never asked.

use std::sync::Arc;

use spool_proto::media::{Container, NS_PER_MS, SourceFacts};

use super::demux::{self, Demuxed, Trouble, Until};
use super::edits::{self, Ends};
use super::mend::Walked;
use super::mend::clock::Watched;
use super::mend::map;
use super::mend::programme::{self, Named};
use super::met::Met;
use super::mp4::{self, Bytes as _};
use super::pose::Poses;
use super::sniff::{SNIFF_BYTES, Sniffed, sniff};
use super::source::Ranges;
use super::streams::Kind;
use super::whole::{Whole, unreadable};
use super::{avi, bare, codecs, ebml, limits, mend, mpeg_sound};
use crate::order::{Failure, FailureCode, InspectLimits, Output};

mod facts;
mod index;

use facts::Facts;
pub(super) use index::seconds;
use index::usable_index;

/// What a file is of which nothing is known.
const NOTHING_KNOWN: &str = "of no known kind";
/// What an MXF file is that holds one stream in one piece.
const OP_ATOM: &str = "an MXF file of one stream in one piece (OP-Atom), as Avid keeps its media";

/// Inspects the source.
pub fn run(ranges: &Arc<dyn Ranges>, limits: &InspectLimits, output: &Arc<dyn Output>) -> Result<SourceFacts, Failure> {
    let size = ranges.size_bytes();
    if size == 0 {
        return Err(Failure::new(FailureCode::SourceEmpty, "no bytes"));
    }
    let bytes = Whole(ranges);
    let head = bytes.read(0, SNIFF_BYTES.min(size as usize)).map_err(unreadable)?;
    let mut poses = Poses::new();
    let index = match sniff(&head) {
        Sniffed::Still(found) => {
            return Err(Failure::new(FailureCode::SourceStillImage, "by its first bytes").with("found", found));
        }
        Sniffed::Other(found) => {
            return Err(Failure::new(FailureCode::SourceNotMedia, "by its first bytes").with("found", found));
        }
        Sniffed::IsoMedia => usable_index(mp4::read(&bytes, limits.max_samples).map_err(unreadable)?)?,
        Sniffed::Ebml => {
            let declared = ebml::declared(&bytes).map_err(unreadable)?;
            declared.sizes.into_iter().try_for_each(|size| limits::size_fits(limits, size))?;
            poses = declared.poses;
            None
        }
        Sniffed::Unknown => None,
    };
    poses.extend(index.iter().flat_map(|index| &index.tracks).map(|track| (u64::from(track.id), track.pose)));
    output.progress(0)?;
    let seen = match &index {
        Some(_) => edits::seen(ranges, Container::Mp4, Ends::AsStated)?.ranges,
        None => Arc::clone(ranges),
    };
    let Named { ranges: seen, mut left_out, programme } = programme::named(&seen, &head).map_err(unreadable)?;
    let seen = map::mapped(&seen, &head).map_err(unreadable)?;
    let walked = chain_of(&head, index.as_ref()).map(|container| mend::walked(&seen, container)).transpose()?;
    let Walked { mut damage, filled, more, lasts_ns } = walked.unwrap_or_default();
    let mut ranges = match chain_of(&head, index.as_ref()) {
        Some(container) => mend::passed_over(&seen, container, &damage)?,
        None => seen,
    };
    let known =
        index.as_ref().is_some_and(|index| !index.fragmented && index.tracks.iter().all(|t| t.samples.is_some()));
    let until = if known { Until::Known } else { Until::End };
    let watched = Watched::new(&ranges, &head, programme.as_ref());
    let read: Arc<dyn Ranges> = match &watched {
        Some(watched) => Arc::<Watched>::clone(watched),
        None => Arc::clone(&ranges),
    };
    let mut demuxed = demux::read(&read, until, limits.max_samples, output)?;
    let container = container_of(&demuxed, sniff(&head))?;
    if container == Container::Audio {
        frames_follow(&demuxed, &Whole(&read))?;
    }
    // Where another recording begins the first one ends, and lost nothing.
    let lost_spans = damage.iter().filter(|span| mend::is_loss(span)).count();
    let (mut lost, mut lost_packets) = (lost_spans > usize::from(more > 0), 0);
    if let Some(watched) = watched.filter(|_| container == Container::MpegTs) {
        damage = watched.leaps().map_err(unreadable)?;
        (lost, lost_packets) = (watched.lost(), watched.missing());
        left_out.add_all(watched.left_out(|pid| demuxed.streams.iter().any(|met| met.is_of_packets(pid))));
        if !damage.is_empty() {
            ranges = mend::passed_over(&ranges, container, &damage)?;
            demuxed = demux::read(&ranges, until, limits.max_samples, output)?;
        }
    }
    let ranges = &ranges;
    if let Some(index) = index.filter(|_| known)
        && !take_tables(&mut demuxed, index)
    {
        // The tables and the demuxer differ: the demuxer decodes, so it is right.
        demuxed = demux::read(ranges, Until::End, limits.max_samples, output)?;
    }
    for met in &mut demuxed.streams {
        met.ends_before(&filled);
        met.stands(&poses);
    }
    let promised_ms = (!known).then(|| promised_ms(container, &head, &demuxed, lasts_ns)).flatten();
    let bare = (container == Container::Audio).then(|| bare::sound(&Whole(ranges))).transpose().map_err(unreadable)?;
    let bare = bare.flatten();
    let promised_ms = promised_ms.or(bare.map(|sound| sound.span_ns().1 / NS_PER_MS));
    let demuxed = &demuxed;
    let facts = Facts {
        ranges,
        limits,
        output,
        container,
        demuxed,
        left_out,
        damage,
        lost,
        lost_packets,
        more,
        promised_ms,
        bare,
    }
    .state()?;
    limits::length_fits(limits, &facts)?;
    Ok(facts)
}

/// The container whose chain of links is walked in search of damage.
fn chain_of(head: &[u8], index: Option<&mp4::Index>) -> Option<Container> {
    match sniff(head) {
        Sniffed::Ebml => Some(Container::Matroska),
        Sniffed::IsoMedia => index.is_some_and(|index| index.fragmented).then_some(Container::Mp4),
        Sniffed::Unknown if head.starts_with(b"FLV") => Some(Container::Flv),
        Sniffed::Unknown if head.starts_with(b"OggS") => Some(Container::Ogg),
        Sniffed::Unknown => (head.starts_with(b"RIFF") && head.get(8..12)? == b"AVI ").then_some(Container::Avi),
        Sniffed::Still(_) | Sniffed::Other(_) => None,
    }
}

/// The length that a header states; what a demuxer reckons by itself is no promise.
fn promised_ms(container: Container, head: &[u8], demuxed: &Demuxed, lasts_ns: Option<u64>) -> Option<u64> {
    match container {
        // A recording that was not closed states no length, but each of its fragments does.
        Container::Mp4 => demuxed.length_ns.max(lasts_ns).map(|ns| ns / NS_PER_MS),
        Container::Matroska | Container::Flv | Container::Asf => demuxed.length_ns.map(|ns| ns / NS_PER_MS),
        Container::Avi => avi::promised_ms(head),
        Container::Audio => bare::wave_ms(head),
        Container::MpegTs | Container::MpegPs | Container::Ogg | Container::Mxf => None,
    }
}

/// Refuses what was taken for bare MPEG sound and is none.
fn frames_follow(demuxed: &Demuxed, bytes: &Whole<'_>) -> Result<(), Failure> {
    if !demuxed.container.as_ref().is_some_and(codecs::is_mpeg_sound)
        || mpeg_sound::is_there(bytes).map_err(unreadable)?
    {
        return Ok(());
    }
    let detail = "taken for MPEG sound, but no frames follow one another";
    Err(Failure::new(FailureCode::SourceNotMedia, detail).with("found", NOTHING_KNOWN))
}

/// The container, from the list; or what the demuxers' silence means.
fn container_of(demuxed: &Demuxed, sniffed: Sniffed) -> Result<Container, Failure> {
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

/// Puts the times of the tables in the place of those that were met. False where what was met is not in the tables.
fn take_tables(demuxed: &mut Demuxed, index: mp4::Index) -> bool {
    for kind in [Kind::Video, Kind::Audio] {
        let mut met: Vec<&mut Met> = demuxed.streams.iter_mut().filter(|s| s.kind == Some(kind)).collect();
        let mut tables: Vec<_> = index.tracks.iter().filter(|t| t.video == (kind == Kind::Video)).collect();
        tables.sort_by_key(|track| track.id);
        if met.len() != tables.len() {
            return false;
        }
        for (met, table) in met.iter_mut().zip(tables) {
            let Some(samples) = &table.samples else { return false };
            let first = met.samples.summary().map(|summary| summary.first_ns);
            let agrees = match kind {
                Kind::Video => first.is_none_or(|first| samples.has(first)),
                // Sound is cut anywhere and grouped by the demuxer: its start is what can be compared.
                Kind::Audio => match (first, samples.summary()) {
                    (Some(first), Some(summary)) => first.abs_diff(summary.first_ns) < 1_000_000,
                    (None, _) | (_, None) => true,
                },
            };
            if !agrees {
                return false;
            }
            met.samples = samples.clone();
        }
    }
    true
}
