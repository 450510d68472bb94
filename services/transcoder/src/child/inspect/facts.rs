//! The facts about a source, from what was met in it and a little decoding at the start.

use std::sync::Arc;

use spool_proto::media::{AudioFacts, Container, Cut, FrameRate, NS_PER_MS, SourceFacts, VideoFacts};

use super::super::mend::scrambled::is_scrambled;
use super::super::met::Met;
use super::super::quirks::forgotten;
use super::super::samples::Summary;
use super::super::streams::{self, Candidate, Kind};
use super::super::trial;
use super::super::whole::unreadable;
use super::super::{codecs, limits, mend, picture};
use super::index::{MISSING_TOLERANCE_MS, streams_text};
use super::reading::Read;
use crate::order::{Failure, FailureCode, InspectLimits, Output};

/// Length of a grid's segment, for the distances of keyframes.
const SEGMENT_NS: u64 = 4_000_000_000;
/// By how much less there may be than a header states that counts frames, samples or bytes.
const EXACT_TOLERANCE_MS: u64 = 250;
/// Sound that goes on for so long behind the end that its head states is sound all the same.
const JOINED_NS: u64 = 1_000_000_000;
/// Headers state lengths with errors up to this share, in percent.
const PROMISE_PERCENT: u64 = 2;

/// What is needed to state the facts.
pub(super) struct Facts<'a> {
    pub(super) read: &'a Read,
    pub(super) limits: &'a InspectLimits,
    pub(super) output: &'a Arc<dyn Output>,
}

/// A chosen stream: its position among its kind, and what was met.
type Chosen<'a> = (u32, &'a Met, Summary);

impl Facts<'_> {
    /// Chooses a picture and a sound, tries to decode them, and states what they are.
    pub(super) fn state(&self) -> Result<SourceFacts, Failure> {
        let videos: Vec<&Met> = self.of(Kind::Video);
        let audios: Vec<&Met> = self.of(Kind::Audio);
        if videos.is_empty() && audios.is_empty() {
            self.is_clear()?;
            return Err(self.no_streams());
        }
        let video = self.choose_video(&videos)?;
        let audio = self.choose_audio(&audios)?;
        if video.is_none() && audio.is_none() {
            self.is_clear()?;
            let failure = Failure::new(FailureCode::SourceNoSamples, "streams are declared and hold nothing");
            return Err(failure.with("expected", streams_text(videos.len() + audios.len())));
        }
        let video = video.map(|chosen| self.video_facts(chosen)).transpose()?;
        let audio = audio.map(|chosen| self.audio_facts(chosen)).transpose()?;
        let starts = [video.as_ref().map(|v| v.first_ns), audio.as_ref().map(|a| a.first_ns)];
        let ends = [video.as_ref().map(|v| v.end_ns), audio.as_ref().map(|a| a.end_ns)];
        let zero_ns = starts.into_iter().flatten().min().unwrap_or(0);
        let end_ns = ends.into_iter().flatten().max().unwrap_or(zero_ns);
        // First: what follows grows with it.
        limits::length_fits(self.limits, end_ns.saturating_sub(zero_ns))?;
        let shown = video.as_ref().and_then(|v| videos.get(v.stream as usize));
        let gaps = shown.map(|met| met.samples.keyframe_gaps_ms(zero_ns, SEGMENT_NS));
        let tags = || self.read.demuxed.tags.iter().chain(self.read.demuxed.streams.iter().map(|s| &s.tags));
        Ok(SourceFacts {
            container: self.read.container,
            cut: cut_of(
                self.read.container,
                shown.is_some_and(|met| met.guessed || is_counted(met, self.read.container)),
            ),
            zero_ns,
            end_ns,
            video,
            audio,
            video_streams: videos.len() as u32 + self.read.losses.left_out.pictures,
            audio_streams: audios.len() as u32 + self.read.losses.left_out.sounds,
            subtitle_streams: self.read.demuxed.subtitles,
            has_location: tags().any(picture::has_location),
            has_device: tags().any(picture::has_device),
            keyframe_gaps_ms: gaps.unwrap_or_default(),
            promised_ms: self.broken_promise(zero_ns),
            damage: self.read.losses.damage.clone(),
            lost_packets: self.read.losses.packets,
            more_recordings: self.read.losses.more_recordings,
        })
    }

    /// The length that a header states, where far less was met in any stream. Subtitles and tracks that are not taken
    /// count: the header means all.
    fn broken_promise(&self, zero_ns: u64) -> Option<u64> {
        let ends =
            self.read.demuxed.streams.iter().filter_map(|met| met.samples.summary()).map(|summary| summary.end_ns);
        let end_ms = ends.max()? / NS_PER_MS;
        let promised_ms = self.read.promised_ms?;
        let least_ms = match self.read.container {
            Container::Avi | Container::Audio => EXACT_TOLERANCE_MS,
            Container::Mp4
            | Container::Matroska
            | Container::MpegTs
            | Container::MpegPs
            | Container::Flv
            | Container::Ogg
            | Container::Asf
            | Container::Mxf => MISSING_TOLERANCE_MS,
        };
        let tolerance_ms = least_ms.max(promised_ms * PROMISE_PERCENT / 100);
        // Headers count from zero or from the first sample; the benefit of the doubt is theirs.
        (end_ms + tolerance_ms < promised_ms).then(|| promised_ms - (zero_ns / NS_PER_MS).min(promised_ms))
    }

    fn of(&self, kind: Kind) -> Vec<&Met> {
        self.read.demuxed.streams.iter().filter(|s| s.kind == Some(kind)).collect()
    }

    /// Refuses a transport stream whose packets are scrambled: of such packets demuxers make nothing.
    fn is_clear(&self) -> Result<(), Failure> {
        if self.read.container != Container::MpegTs || !is_scrambled(&self.read.ranges).map_err(unreadable)? {
            return Ok(());
        }
        Err(Failure::new(FailureCode::SourceEncrypted, "by the heads of its packets")
            .with("kind", "recording")
            .with("found", "scrambled, as pay television is sent"))
    }

    fn no_streams(&self) -> Failure {
        match &self.read.demuxed.gave_up {
            Some((_, detail)) => Failure::new(FailureCode::SourceCorrupt, detail).with("part", "structure"),
            None => Failure::new(FailureCode::SourceNoStreams, "no streams")
                .with("found", codecs::file_of(self.read.container)),
        }
    }

    /// The picture to work on, if one holds anything. Empty tracks are no candidates.
    fn choose_video<'m>(&self, videos: &[&'m Met]) -> Result<Option<Chosen<'m>>, Failure> {
        for met in videos {
            self.fits(met)?;
        }
        let candidates: Vec<Candidate> = videos
            .iter()
            .map(|met| {
                let pixels = || picture::size(met.caps.as_ref()).map_or(1, limits::area);
                match (met.samples.is_empty(), met.caps.as_ref().is_some_and(|caps| codecs::video(caps).is_ok())) {
                    (true, _) => Candidate { default: false, pixels: 0 },
                    // Taken only where there is no other, to be refused by its name.
                    (false, false) => Candidate { default: false, pixels: 1 },
                    (false, true) => Candidate { default: met.default, pixels: pixels().max(2) },
                }
            })
            .collect();
        let chosen = streams::choose_video(&candidates).map(|at| (at as u32, videos[at]));
        Ok(chosen.and_then(|(at, met)| Some((at, met, met.samples.summary()?))))
    }

    fn choose_audio<'m>(&self, audios: &[&'m Met]) -> Result<Option<Chosen<'m>>, Failure> {
        let holds = |at: &usize| !audios[*at].samples.is_empty();
        let known = |caps: &gst::Caps| codecs::audio(caps, self.read.container).is_ok();
        let heard = |at: &usize| holds(at) && audios[*at].caps.as_ref().is_some_and(known);
        let candidates: Vec<Candidate> =
            (0..audios.len()).map(|at| Candidate { default: audios[at].default && heard(&at), pixels: 0 }).collect();
        let preferred = streams::choose_audio(&candidates);
        // One of an unknown codec is taken only where there is no other, to be refused by its name.
        let chosen = preferred.filter(heard).or_else(|| (0..audios.len()).find(heard));
        let Some(chosen) = chosen.or_else(|| (0..audios.len()).find(holds)) else { return Ok(None) };
        self.fits(audios[chosen])?;
        Ok(Some(chosen).and_then(|at| Some((at as u32, audios[at], audios[at].samples.summary()?))))
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
        limits::picture_rate_fits(caps)?;
        let tried = trial::decode(&self.read.ranges, Kind::Video, stream, &codec, self.output)?;
        // Fields under the name of a frame, which no converter takes.
        let mode = tried.caps.structure(0).and_then(|form| form.get::<&str>("interlace-mode").ok());
        if mode == Some("alternate") {
            let codec = format!("{} whose fields are pictures of their own", codecs::for_people(&codec));
            return Err(unsupported(Kind::Video, &codec));
        }
        let shown = picture::of(caps, &tried.caps, met, self.read.demuxed.tags.as_ref())
            .ok_or_else(|| trial::undecodable(Kind::Video, &codec, "decoded caps are no picture"))?;
        limits::size_fits(self.limits, (shown.width, shown.height))?;
        let paced = pace(met, caps, &summary, shown.interlaced, tried.least_gap_ns, self.read.container);
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
            leaps_over_ns: summary.leaps_over_ns,
            last_ns: summary.last_ns,
        })
    }

    /// For how long nothing comes in a stream on purpose. A container whose chain of links, or whose packets' numbers, were
    /// followed and are whole lost nothing, so there every pause is meant, however steadily frames come otherwise: so a
    /// screen is recorded that seldom changes.
    fn on_purpose_ns(&self, summary: &Summary) -> u64 {
        let whole = mend::is_walked(self.read.container) && !self.read.losses.lost;
        if whole { summary.longest_pause_ns } else { summary.longest_gap_ns }
    }

    fn audio_facts(&self, (stream, met, summary): Chosen<'_>) -> Result<AudioFacts, Failure> {
        let caps = met.caps.as_ref().ok_or_else(|| unsupported(Kind::Audio, "unknown"))?;
        let codec = codecs::audio(caps, self.read.container).map_err(|found| unsupported(Kind::Audio, &found))?;
        let tried = trial::decode(&self.read.ranges, Kind::Audio, stream, &codec, self.output)?;
        let info = gst_audio::AudioInfo::from_caps(&tried.caps)
            .map_err(|_| trial::undecodable(Kind::Audio, &codec, "decoded caps are no sound"))?;
        limits::sound_rate_fits(info.rate())?;
        // What an encoder put before and behind it is not to be heard.
        let (first_ns, end_ns) = self.read.bare.map_or((summary.first_ns, summary.end_ns), |sound| {
            let (first_ns, end_ns) = sound.span_ns();
            // Of several files that were joined the head of the first one speaks of itself alone.
            let end_ns = if summary.end_ns > end_ns + JOINED_NS { summary.end_ns } else { end_ns };
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
            leaps_over_ns: summary.leaps_over_ns,
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

/// Are the times of its pictures counted and not read?
fn is_counted(met: &Met, container: Container) -> bool {
    let form = met.caps.as_ref().and_then(|caps| caps.structure(0));
    container == Container::Matroska && form.is_some_and(|form| form.name() == forgotten::PRORES)
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
