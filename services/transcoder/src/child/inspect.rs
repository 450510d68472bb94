//! `inspect`: what a source is, or the name of why it is refused.
//!
//! In order, each step cheaper than the next: its size, its first bytes, the tables of an MP4, its demuxer (to the end
//! where no tables tell the times), and a little decoding at the start. The facts are what every worker then goes by, so
//! zero and end are those of the chosen streams' samples; a container's own idea of its duration is never asked.

use std::sync::{Arc, mpsc};

use spool_proto::media::{AudioFacts, Container, Cut, FrameRate, NS_PER_MS, SourceFacts, Span, VideoFacts};

use super::demux::{self, Demuxed, Trouble, Until};
use super::edits::{self, Ends};
use super::mend::clock::Watched;
use super::met::Met;
use super::mp4::{self, Found};
use super::picture;
use super::samples::Summary;
use super::sniff::{SNIFF_BYTES, Sniffed, sniff};
use super::source::Ranges;
use super::streams::{self, Candidate, Kind};
use super::{avi, bare, codecs, ebml, limits, mend, trial};
use crate::order::{Failure, FailureCode, InspectLimits, Output};
use crate::wire::MAX_RANGE_BYTES;

/// Length of a grid's segment, for the distances of keyframes.
const SEGMENT_NS: u64 = 4_000_000_000;
/// Media that an index promises and the file does not hold, beyond which the file counts as damaged, in milliseconds.
const MISSING_TOLERANCE_MS: u64 = 1000;
/// Headers state lengths with errors up to this share, in percent.
const PROMISE_PERCENT: u64 = 2;

/// Inspects the source.
pub fn run(ranges: &Arc<dyn Ranges>, limits: &InspectLimits, output: &Arc<dyn Output>) -> Result<SourceFacts, Failure> {
    let size = ranges.size_bytes();
    if size == 0 {
        return Err(Failure::new(FailureCode::SourceEmpty, "no bytes"));
    }
    let bytes = Whole(ranges);
    let head = bytes.read(0, SNIFF_BYTES.min(size as usize))?;
    let index = match sniff(&head) {
        Sniffed::Still(found) => {
            return Err(Failure::new(FailureCode::SourceStillImage, "by its first bytes").with("found", found));
        }
        Sniffed::Other(found) => {
            return Err(Failure::new(FailureCode::SourceNotMedia, "by its first bytes").with("found", found));
        }
        Sniffed::IsoMedia => Some(usable_index(mp4::read(&bytes, limits.max_samples).map_err(unreadable)?)?),
        Sniffed::Ebml => {
            let sizes = ebml::declared_sizes(&bytes).map_err(unreadable)?;
            sizes.into_iter().try_for_each(|size| limits::size_fits(limits, size))?;
            None
        }
        Sniffed::Unknown => None,
    };
    output.progress(0)?;
    let seen = match &index {
        Some(_) => edits::seen(ranges, Container::Mp4, Ends::AsStated)?.ranges,
        None => Arc::clone(ranges),
    };
    let damage = chain_of(&head, index.as_ref()).map(|container| mend::damage(&seen, container)).transpose()?;
    let mut damage = damage.unwrap_or_default();
    let mut ranges = match chain_of(&head, index.as_ref()) {
        Some(container) => mend::passed_over(&seen, container, &damage)?,
        None => seen,
    };
    let known =
        index.as_ref().is_some_and(|index| !index.fragmented && index.tracks.iter().all(|t| t.samples.is_some()));
    let until = if known { Until::Known } else { Until::End };
    let watched = Watched::new(&ranges, &head);
    let read: Arc<dyn Ranges> = match &watched {
        Some(watched) => Arc::<Watched>::clone(watched),
        None => Arc::clone(&ranges),
    };
    let mut demuxed = demux::read(&read, until, limits.max_samples, output)?;
    let container = container_of(&demuxed, sniff(&head))?;
    if let Some(watched) = watched.filter(|_| container == Container::MpegTs) {
        damage = watched.leaps().map_err(unreadable)?;
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
    let promised_ms = (!known).then(|| promised_ms(container, &head, &demuxed)).flatten();
    let bare = (container == Container::Audio).then(|| bare::sound(&Whole(ranges))).transpose().map_err(unreadable)?;
    let bare = bare.flatten();
    let promised_ms = promised_ms.or(bare.map(|sound| sound.span_ns().1 / NS_PER_MS));
    let facts = Facts { ranges, limits, output, container, demuxed: &demuxed, damage, promised_ms, bare }.state()?;
    limits::length_fits(limits, &facts)?;
    Ok(facts)
}

/// The container whose chain of links is walked in search of damage.
fn chain_of(head: &[u8], index: Option<&mp4::Index>) -> Option<Container> {
    match sniff(head) {
        Sniffed::Ebml => Some(Container::Matroska),
        Sniffed::IsoMedia => index.is_some_and(|index| index.fragmented).then_some(Container::Mp4),
        Sniffed::Unknown => head.starts_with(b"FLV").then_some(Container::Flv),
        Sniffed::Still(_) | Sniffed::Other(_) => None,
    }
}

/// The length that a header states; what a demuxer reckons by itself is no promise.
fn promised_ms(container: Container, head: &[u8], demuxed: &Demuxed) -> Option<u64> {
    match container {
        Container::Mp4 | Container::Matroska | Container::Flv | Container::Asf => {
            demuxed.length_ns.map(|ns| ns / NS_PER_MS)
        }
        Container::Avi => avi::promised_ms(head),
        Container::MpegTs | Container::MpegPs | Container::Ogg | Container::Mxf | Container::Audio => None,
    }
}

/// The whole source as a table reader sees it.
pub(super) struct Whole<'a>(pub(super) &'a Arc<dyn Ranges>);

impl Whole<'_> {
    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, Failure> {
        mp4::Bytes::read(self, offset, length).map_err(unreadable)
    }
}

pub(super) fn unreadable(why: String) -> Failure {
    Failure::new(FailureCode::SourceUnreadable, why.clone()).with("detail", why)
}

impl mp4::Bytes for Whole<'_> {
    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, String> {
        let mut data = Vec::with_capacity(length);
        while data.len() < length {
            let (done, wait) = mpsc::channel();
            let part = (length - data.len()).min(MAX_RANGE_BYTES as usize) as u32;
            self.0.request(offset + data.len() as u64, part, Box::new(move |read| drop(done.send(read))));
            let read = wait.recv().map_err(|_| "the parent has gone".to_owned())??;
            if read.is_empty() {
                return Err("an empty range".to_owned());
            }
            data.extend_from_slice(&read);
        }
        Ok(data)
    }

    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }
}

/// An index that promises what the file can hold, or the name of what is wrong.
fn usable_index(found: Found) -> Result<mp4::Index, Failure> {
    let index = match found {
        Found::NoIndex { media } => {
            let detail = if media { "media data without a moov box" } else { "no moov box" };
            return Err(Failure::new(FailureCode::SourceIndexMissing, detail).with("part", "moov"));
        }
        Found::Corrupt(part) => {
            return Err(Failure::new(FailureCode::SourceCorrupt, format!("mp4: {part}")).with("part", part));
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
    if index.fragments == 0 {
        let promised: u64 = index.tracks.iter().map(|t| t.promised).sum();
        if promised == 0 {
            let tracks = index.tracks.len();
            let failure = Failure::new(FailureCode::SourceNoSamples, "mp4 with empty sample tables and no fragments");
            return Err(failure.with("expected", streams_text(tracks)));
        }
        missing_media(&index)?;
    }
    Ok(index)
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

fn streams_text(number: usize) -> String {
    format!("{number} stream{}", if number == 1 { "" } else { "s" })
}

/// A time for people.
pub(super) fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
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
            Err(Failure::new(FailureCode::SourceNotMedia, detail).with("found", "of no known kind"))
        }
    };
    let damaged = |part: &str, detail: &str| Failure::new(FailureCode::SourceCorrupt, detail).with("part", part);
    match (&demuxed.gave_up, sniffed) {
        // Its first bytes say Matroska, and no reader agrees: the header behind them is broken.
        (Some((_, detail)), Sniffed::Ebml) if demuxed.streams.is_empty() => Err(damaged("header (EBML)", detail)),
        (Some((Trouble::Encrypted, detail)), _) => Err(Failure::new(FailureCode::SourceEncrypted, detail)
            .with("kind", "file")
            .with("found", "as it says itself")),
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

/// What is needed to state the facts.
struct Facts<'a> {
    ranges: &'a Arc<dyn Ranges>,
    limits: &'a InspectLimits,
    output: &'a Arc<dyn Output>,
    container: Container,
    demuxed: &'a Demuxed,
    damage: Vec<Span>,
    /// Length that a header states.
    promised_ms: Option<u64>,
    /// Where bare sound begins and ends by its own word.
    bare: Option<bare::Sound>,
}

/// A chosen stream: its position among its kind, and what was met.
type Chosen<'a> = (u32, &'a Met, Summary);

impl Facts<'_> {
    fn state(&self) -> Result<SourceFacts, Failure> {
        let videos: Vec<&Met> = self.of(Kind::Video);
        let audios: Vec<&Met> = self.of(Kind::Audio);
        if videos.is_empty() && audios.is_empty() {
            return Err(self.no_streams());
        }
        let video = self.choose_video(&videos)?;
        let audio = self.choose_audio(&audios)?;
        if video.is_none() && audio.is_none() {
            let failure = Failure::new(FailureCode::SourceNoSamples, "streams are declared and hold nothing");
            return Err(failure.with("expected", streams_text(videos.len() + audios.len())));
        }
        let video = video.map(|chosen| self.video_facts(chosen)).transpose()?;
        let audio = audio.map(|chosen| self.audio_facts(chosen)).transpose()?;
        let starts = [video.as_ref().map(|v| v.first_ns), audio.as_ref().map(|a| a.first_ns)];
        let ends = [video.as_ref().map(|v| v.end_ns), audio.as_ref().map(|a| a.end_ns)];
        let zero_ns = starts.into_iter().flatten().min().unwrap_or(0);
        let shown = video.as_ref().and_then(|v| videos.get(v.stream as usize));
        let gaps = shown.map(|met| met.samples.keyframe_gaps_ms(zero_ns, SEGMENT_NS));
        let tags = || self.demuxed.tags.iter().chain(self.demuxed.streams.iter().map(|s| &s.tags));
        Ok(SourceFacts {
            container: self.container,
            cut: cut_of(self.container, shown.is_some_and(|met| met.guessed)),
            zero_ns,
            end_ns: ends.into_iter().flatten().max().unwrap_or(zero_ns),
            video,
            audio,
            video_streams: videos.len() as u32,
            audio_streams: audios.len() as u32,
            subtitle_streams: self.demuxed.subtitles,
            has_location: tags().any(picture::has_location),
            has_device: tags().any(picture::has_device),
            keyframe_gaps_ms: gaps.unwrap_or_default(),
            promised_ms: self.broken_promise(zero_ns),
            damage: self.damage.clone(),
        })
    }

    /// The length that a header states, where far less was met in any stream. Subtitles and tracks that are not taken
    /// count: the header means all.
    fn broken_promise(&self, zero_ns: u64) -> Option<u64> {
        let ends = self.demuxed.streams.iter().filter_map(|met| met.samples.summary()).map(|summary| summary.end_ns);
        let end_ms = ends.max()? / NS_PER_MS;
        let promised_ms = self.promised_ms?;
        let tolerance_ms = MISSING_TOLERANCE_MS.max(promised_ms * PROMISE_PERCENT / 100);
        // Headers count from zero or from the first sample; the benefit of the doubt is theirs.
        (end_ms + tolerance_ms < promised_ms).then(|| promised_ms - (zero_ns / NS_PER_MS).min(promised_ms))
    }

    fn of(&self, kind: Kind) -> Vec<&Met> {
        self.demuxed.streams.iter().filter(|s| s.kind == Some(kind)).collect()
    }

    fn no_streams(&self) -> Failure {
        match &self.demuxed.gave_up {
            Some((_, detail)) => Failure::new(FailureCode::SourceCorrupt, detail).with("part", "structure"),
            None => {
                Failure::new(FailureCode::SourceNoStreams, "no streams").with("found", codecs::file_of(self.container))
            }
        }
    }

    /// The picture to work on, if one holds anything. Empty tracks are no candidates.
    fn choose_video<'m>(&self, videos: &[&'m Met]) -> Result<Option<Chosen<'m>>, Failure> {
        for met in videos {
            self.fits(met)?;
        }
        let candidates: Vec<Candidate> = videos
            .iter()
            .map(|met| match met.samples.is_empty() {
                true => Candidate { default: false, pixels: 0 },
                false => {
                    Candidate { default: met.default, pixels: picture::size(met.caps.as_ref()).map_or(1, limits::area) }
                }
            })
            .collect();
        let chosen = streams::choose_video(&candidates).map(|at| (at as u32, videos[at]));
        Ok(chosen.and_then(|(at, met)| Some((at, met, met.samples.summary()?))))
    }

    fn choose_audio<'m>(&self, audios: &[&'m Met]) -> Result<Option<Chosen<'m>>, Failure> {
        let candidates: Vec<Candidate> =
            audios.iter().map(|met| Candidate { default: met.default && !met.samples.is_empty(), pixels: 0 }).collect();
        let preferred = streams::choose_audio(&candidates);
        let holds = |at: &usize| !audios[*at].samples.is_empty();
        let chosen = preferred.filter(holds).or_else(|| (0..audios.len()).find(holds));
        Ok(chosen.and_then(|at| Some((at as u32, audios[at], audios[at].samples.summary()?))))
    }

    /// Refuses what is too large before anything of it is decoded.
    fn fits(&self, met: &Met) -> Result<(), Failure> {
        if met.too_many {
            return Err(limits::too_many(self.limits, met.samples.len()));
        }
        match picture::size(met.caps.as_ref()) {
            Some(size) => limits::size_fits(self.limits, size),
            None => Ok(()),
        }
    }

    fn video_facts(&self, (stream, met, summary): Chosen<'_>) -> Result<VideoFacts, Failure> {
        let caps = met.caps.as_ref().ok_or_else(|| unsupported(Kind::Video, "unknown"))?;
        let codec = codecs::video(caps).map_err(|found| unsupported(Kind::Video, &found))?;
        let tried = trial::decode(self.ranges, Kind::Video, stream, &codec, self.output)?;
        let shown = picture::of(caps, &tried.caps, &met.tags, self.demuxed.tags.as_ref())
            .ok_or_else(|| trial::undecodable(Kind::Video, &codec, "decoded caps are no picture"))?;
        limits::size_fits(self.limits, (shown.width, shown.height))?;
        let paced = pace(met, caps, &summary, shown.interlaced, tried.least_gap_ns, self.container);
        Ok(VideoFacts {
            stream,
            codec,
            width: shown.width,
            height: shown.height,
            pixel_aspect: shown.pixel_aspect,
            orientation: shown.orientation,
            display_width: shown.display.0,
            display_height: shown.display.1,
            frame_rate: paced.rate,
            variable_rate: paced.variable,
            frames: paced.frames,
            interlaced: shown.interlaced,
            bit_depth: shown.bit_depth,
            dynamic_range: shown.dynamic_range,
            colorimetry: shown.colorimetry,
            first_ns: summary.first_ns,
            end_ns: summary.end_ns,
            longest_gap_ns: self.on_purpose_ns(&summary),
        })
    }

    /// For how long nothing comes in a stream on purpose. A container whose chain of links is walked and whole lost nothing,
    /// so there every pause is meant, however steadily frames come otherwise: so a screen is recorded that seldom changes.
    fn on_purpose_ns(&self, summary: &Summary) -> u64 {
        let whole = mend::is_walked(self.container) && self.damage.is_empty();
        if whole { summary.longest_pause_ns } else { summary.longest_gap_ns }
    }

    fn audio_facts(&self, (stream, met, summary): Chosen<'_>) -> Result<AudioFacts, Failure> {
        let caps = met.caps.as_ref().ok_or_else(|| unsupported(Kind::Audio, "unknown"))?;
        let codec = codecs::audio(caps, self.container).map_err(|found| unsupported(Kind::Audio, &found))?;
        let tried = trial::decode(self.ranges, Kind::Audio, stream, &codec, self.output)?;
        let info = gst_audio::AudioInfo::from_caps(&tried.caps)
            .map_err(|_| trial::undecodable(Kind::Audio, &codec, "decoded caps are no sound"))?;
        // What an encoder put before and behind it is not to be heard.
        let (first_ns, end_ns) = self.bare.map_or((summary.first_ns, summary.end_ns), |sound| {
            let (first_ns, end_ns) = sound.span_ns();
            (first_ns.min(summary.end_ns), end_ns.min(summary.end_ns))
        });
        Ok(AudioFacts {
            stream,
            codec,
            sample_rate: info.rate(),
            channels: info.channels(),
            language: picture::language(&met.tags),
            first_ns,
            end_ns,
            longest_gap_ns: self.on_purpose_ns(&summary),
        })
    }
}

/// Rate and number of frames.
struct Pace {
    rate: FrameRate,
    variable: bool,
    frames: Option<u64>,
}

/// What was counted, corrected where packets are not frames.
fn pace(
    met: &Met,
    caps: &gst::Caps,
    summary: &Summary,
    interlaced: bool,
    decoded_gap_ns: Option<u64>,
    container: Container,
) -> Pace {
    let stated = caps.structure(0).and_then(|s| s.get::<gst::Fraction>("framerate").ok()).and_then(|rate| {
        let (num, den) = (u32::try_from(rate.numer()).ok()?, u32::try_from(rate.denom()).ok()?);
        (num > 0 && den > 0).then_some(FrameRate { num, den })
    });
    let counted = Pace { rate: summary.rate, variable: summary.variable, frames: Some(summary.count) };
    // AVI has one rate by definition; parsing splits its packed pictures, so packets are no frames there.
    if container == Container::Avi
        && let Some(rate) = stated
    {
        return Pace { rate, variable: false, frames: None };
    }
    // Fields as packets of their own: the decoder makes one frame of two.
    let mean_ns = summary.end_ns.saturating_sub(summary.first_ns) / summary.count.max(1);
    if interlaced && decoded_gap_ns.is_some_and(|gap| gap * 10 > mean_ns * 18) {
        let rate = FrameRate { num: summary.rate.num, den: summary.rate.den * 2 };
        let even = rate.num.is_multiple_of(2);
        let rate = if even { FrameRate { num: rate.num / 2, den: rate.den / 2 } } else { rate };
        return Pace { rate, frames: Some(summary.count.div_ceil(2)), ..counted };
    }
    match stated {
        Some(rate) if met.guessed || summary.doubled => Pace { rate, variable: false, ..counted },
        Some(_) | None => counted,
    }
}

fn unsupported(kind: Kind, codec: &str) -> Failure {
    Failure::new(FailureCode::SourceCodecUnsupported, "not on the list")
        .with("kind", kind.as_str())
        .with("codec", codecs::for_people(codec))
}

/// Only containers whose accurate seeks were measured to give the same frames as reading through are cut, and only where
/// every picture states when it is shown: of those that do not (AVI, but for codecs of whole pictures) a decoder leaves
/// some out after a seek, and which of the times were theirs cannot be told.
fn cut_of(container: Container, guessed: bool) -> Cut {
    match container {
        Container::Mp4 | Container::Matroska | Container::Avi | Container::Flv if !guessed => Cut::Exact,
        Container::Mp4
        | Container::Matroska
        | Container::Avi
        | Container::Flv
        | Container::MpegTs
        | Container::MpegPs
        | Container::Ogg
        | Container::Asf
        | Container::Mxf
        | Container::Audio => Cut::Whole,
    }
}
