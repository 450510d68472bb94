//! Warnings: what people should know about an asset though nothing failed. Derived from facts; sentences when read.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use spool_proto::asset::Generation;
use spool_proto::media::{DynamicRange, NS_PER_MS, SourceFacts};
use spool_proto::{Asset, Item, Problem};

/// Something people should know. A closed list: names are contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Warning {
    /// The source has more sound tracks than the one that was taken, or some and none that could be.
    AudioStreamsDropped {
        /// How many were left out.
        dropped: u32,
        /// None was taken: there is nothing to be heard in them.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        all: bool,
    },
    /// Surround sound was mixed down to stereo.
    AudioDownmixed {
        /// Channels of the source.
        channels: u32,
    },
    /// The source has more pictures than the one that was taken.
    VideoStreamsDropped {
        /// How many were left out.
        dropped: u32,
        /// None was taken: there is nothing to be seen in them.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        all: bool,
    },
    /// The source has subtitles; they are not taken over.
    SubtitlesDropped {
        /// How many.
        dropped: u32,
    },
    /// The picture had a high dynamic range and was mapped to the standard one.
    ToneMapped {
        /// `hlg` or `pq`.
        from: DynamicRange,
    },
    /// The picture was interlaced and was made progressive.
    Deinterlaced,
    /// Of each run of so many frames one was kept.
    FramesHalved {
        /// How many.
        #[serde(default = "two")]
        of: u32,
    },
    /// The file states a length, and far less is in it.
    SourceCutShort {
        /// Milliseconds that it states.
        expected_ms: u64,
        /// Milliseconds that are in it.
        got_ms: u64,
    },
    /// Packets of a recording were lost on their way.
    PacketsLost {
        /// How many, at least.
        packets: u64,
    },
    /// The file is several that were joined byte by byte; the first one is taken.
    RecordingsDropped {
        /// How many were left out.
        dropped: u64,
    },
    /// Inside the file picture or sound is missing.
    MediaMissing {
        /// Milliseconds without a picture.
        picture_ms: u64,
        /// Milliseconds without sound.
        sound_ms: u64,
    },
    /// A still picture could not be made; the video plays without it.
    StillMissing {
        /// Its name: `poster`.
        name: String,
        /// Why.
        problem: Problem,
    },
    /// The source says where it was recorded. What is published does not.
    SourceHasLocation,
    /// The source names the device it was recorded with. What is published does not.
    SourceHasDevice,
    /// A newer Spool wrote facts that this one does not know; what is shown may lack them.
    UnknownFacts {
        /// How many.
        facts: u64,
    },
}

impl Warning {
    /// The warning with its sentence.
    pub fn json(&self) -> Value {
        let mut value = json!(self);
        if let Some(object) = value.as_object_mut() {
            object.insert("detail".to_owned(), json!(self.sentence()));
        }
        value
    }

    #[expect(clippy::too_many_lines, reason = "a flat table: one sentence a warning")]
    fn sentence(&self) -> String {
        match self {
            Warning::AudioStreamsDropped { dropped, all: true } => {
                let tracks = count(*dropped, "sound track", "was", "were");
                format!("{tracks} left out: no sound could be taken from the file.")
            }
            Warning::AudioStreamsDropped { dropped, all: false } => {
                format!("{} left out.", count(*dropped, "more sound track", "was", "were"))
            }
            Warning::AudioDownmixed { channels } => {
                format!("The sound's {channels} channels were mixed down to stereo.")
            }
            Warning::VideoStreamsDropped { dropped, all: true } => {
                let tracks = count(*dropped, "video track", "was", "were");
                format!("{tracks} left out: no picture could be taken from the file.")
            }
            Warning::VideoStreamsDropped { dropped, all: false } => {
                format!("{} left out.", count(*dropped, "more video track", "was", "were"))
            }
            Warning::SubtitlesDropped { dropped } => {
                format!("{} left out.", count(*dropped, "subtitle track", "was", "were"))
            }
            Warning::ToneMapped { from } => {
                let from = match from {
                    DynamicRange::Pq => "PQ",
                    DynamicRange::Hlg => "HLG",
                    DynamicRange::Sdr => "standard",
                };
                format!("The picture was mapped from {from} to standard dynamic range.")
            }
            Warning::Deinterlaced => "The picture was interlaced and was made progressive.".to_owned(),
            Warning::FramesHalved { of: 2 } => {
                "The source has more than 60 frames a second; every second one was left out.".to_owned()
            }
            Warning::FramesHalved { of } => {
                format!("The source has more than 60 frames a second; one of every {of} was kept.")
            }
            Warning::SourceCutShort { expected_ms, got_ms } => format!(
                "The file says that it lasts {}, and only {} are in it. Copy it again from its origin if you need the rest.",
                seconds(*expected_ms),
                seconds(*got_ms)
            ),
            Warning::PacketsLost { packets } => format!(
                "{} missing from the recording: pictures and sound around them are damaged or left out. \
                 Copy it again from its origin if you need them.",
                count(u32::try_from(*packets).unwrap_or(u32::MAX), "packet", "is", "are")
            ),
            Warning::RecordingsDropped { dropped } => {
                let more = count(u32::try_from(*dropped).unwrap_or(u32::MAX), "more recording", "was", "were");
                format!(
                    "The file is several that were joined to one: {more} left out. \
                     Send each as a file of its own, or join them with a program for video."
                )
            }
            Warning::MediaMissing { picture_ms, sound_ms } => {
                let picture = (*picture_ms > 0).then(|| format!("{} of the picture", seconds(*picture_ms)));
                let sound = (*sound_ms > 0).then(|| format!("{} of the sound", seconds(*sound_ms)));
                let parts: Vec<String> = picture.into_iter().chain(sound).collect();
                let instead = match (*picture_ms > 0, *sound_ms > 0) {
                    (true, true) => "the last picture stands still there, in silence",
                    (true, false) => "the last picture stands still there",
                    (false, _) => "there is silence there",
                };
                format!("Inside the file {} are missing; {instead}.", parts.join(" and "))
            }
            Warning::StillMissing { name, problem } => {
                format!("No {name} could be made; the video plays without one. {}", problem.detail())
            }
            Warning::SourceHasLocation => {
                "The original file says where it was recorded; what is published does not.".to_owned()
            }
            Warning::SourceHasDevice => {
                "The original file names the device it was recorded with; what is published does not.".to_owned()
            }
            Warning::UnknownFacts { facts } => {
                format!("{facts} facts of a newer Spool are not understood by this one; update it to see them.")
            }
        }
    }
}

/// What rows of an earlier Spool mean.
fn two() -> u32 {
    2
}

/// A time for people.
fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

fn count(number: u32, noun: &str, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {noun} {one}") } else { format!("{number} {noun}s {many}") }
}

/// The warnings of an asset, in the order of [`Warning`].
pub fn warnings(asset: &Asset) -> Vec<Warning> {
    let mut out = asset.source_facts().map(of_source).unwrap_or_default();
    let kept = asset.generation().and_then(|generation| generation.plan().video).map_or(1, |video| video.keep_every);
    out.extend((kept > 1).then_some(Warning::FramesHalved { of: kept }));
    out.extend(asset.generation().and_then(missing));
    out.extend(asset.generation().into_iter().flat_map(|it| stills_missing(asset.generation_number(), it)));
    let facts = asset.unknown.len() as u64;
    out.extend((facts > 0).then_some(Warning::UnknownFacts { facts }));
    out
}

/// What the workers met no picture or sound for.
fn missing(generation: &Generation) -> Option<Warning> {
    let picture_ms = generation.video.values().map(|it| it.it.missing_ms).sum();
    let sound_ms = generation.audio.values().flat_map(|track| track.values()).map(|it| it.it.missing_ms).sum();
    (picture_ms > 0 || sound_ms > 0).then_some(Warning::MediaMissing { picture_ms, sound_ms })
}

/// Stills that were given up.
fn stills_missing(number: u32, generation: &Generation) -> impl Iterator<Item = Warning> {
    generation.plan().stills.iter().filter_map(move |still| {
        let fault = generation.standing_fault(&Item::Still { generation: number, name: still.name.clone() })?;
        Some(Warning::StillMissing { name: still.name.clone(), problem: fault.it.problem.clone() })
    })
}

fn of_source(facts: &SourceFacts) -> Vec<Warning> {
    let audio = facts.audio.as_ref();
    let video = facts.video.as_ref();
    let more_sound = facts.audio_streams.saturating_sub(u32::from(audio.is_some()));
    let more_video = facts.video_streams.saturating_sub(u32::from(video.is_some()));
    let channels = audio.map_or(0, |audio| audio.channels);
    let range = video.map_or(DynamicRange::Sdr, |video| video.dynamic_range);
    let got_ms = facts.duration_ns() / NS_PER_MS;
    let cut_short = facts.promised_ms.map(|expected_ms| Warning::SourceCutShort { expected_ms, got_ms });
    [
        (more_sound > 0).then_some(Warning::AudioStreamsDropped { dropped: more_sound, all: audio.is_none() }),
        (channels > 2).then_some(Warning::AudioDownmixed { channels }),
        (more_video > 0).then_some(Warning::VideoStreamsDropped { dropped: more_video, all: video.is_none() }),
        (facts.subtitle_streams > 0).then_some(Warning::SubtitlesDropped { dropped: facts.subtitle_streams }),
        (range != DynamicRange::Sdr).then_some(Warning::ToneMapped { from: range }),
        video.is_some_and(|video| video.interlaced).then_some(Warning::Deinterlaced),
        cut_short,
        (facts.lost_packets > 0).then_some(Warning::PacketsLost { packets: facts.lost_packets }),
        (facts.more_recordings > 0).then_some(Warning::RecordingsDropped { dropped: facts.more_recordings }),
        facts.has_location.then_some(Warning::SourceHasLocation),
        facts.has_device.then_some(Warning::SourceHasDevice),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use spool_proto::event::{JobGivenUp, VideoStored};
    use spool_proto::testing::{Given, values};
    use spool_proto::{Code, Slot};

    #[test]
    fn a_plain_source_warns_of_nothing() {
        assert_eq!(warnings(&Given::accepted(values::source_facts(4_000)).fold()), []);
    }

    #[test]
    fn what_the_source_lacks_is_told_in_seconds() {
        let told = |given: Given| warnings(&given.fold()).iter().map(Warning::json).collect::<Vec<_>>();
        let facts = SourceFacts { promised_ms: Some(60_000), ..values::source_facts(20_000) };
        let cut = json!({
            "code": "source_cut_short", "expected_ms": 60_000, "got_ms": 20_000,
            "detail": "The file says that it lasts 60.0 s, and only 20.0 s are in it. Copy it again from its origin if you need the rest.",
        });
        assert_eq!(told(Given::accepted(facts)), [cut]);

        let plan = values::plan(&[1, 1], 8_000);
        let video = |chunk, missing_ms| VideoStored { missing_ms, ..values::video_stored(&plan, 1, chunk) };
        let slot = |chunk| Slot::EncodeVideo { generation: 1, chunk };
        let given = Given::planned(plan.clone()).then(slot(0), video(0, 1_500)).then(slot(1), video(1, 4_000));
        let holed = json!({
            "code": "media_missing", "picture_ms": 5_500, "sound_ms": 0,
            "detail": "Inside the file 5.5 s of the picture are missing; the last picture stands still there.",
        });
        assert_eq!(told(given), [holed]);
        let both = Warning::MediaMissing { picture_ms: 2_000, sound_ms: 1_940 }.json();
        let sentence = "Inside the file 2.0 s of the picture and 1.9 s of the sound are missing; the last picture stands still there, in silence.";
        assert_eq!(both["detail"], sentence);
    }

    #[test]
    fn a_poster_that_was_given_up_is_told_with_its_reason() {
        let plan = values::plan(&[1], 4_000);
        let item = Item::Still { generation: 1, name: plan.stills[0].name.clone() };
        let problem = Problem::new(Code::ChildStalled).with("limit", "15 s").with("attempts", 2);
        let given =
            Given::planned(plan).then(Slot::EncodeFault { item, round: 0 }, JobGivenUp { problem, attempts: 2 });
        let told = warnings(&given.fold()).iter().map(Warning::json).collect::<Vec<_>>();
        assert_eq!(told.len(), 1);
        assert_eq!((&told[0]["code"], &told[0]["problem"]["code"]), (&json!("still_missing"), &json!("child_stalled")));
        let detail = told[0]["detail"].as_str().unwrap_or_default();
        assert!(detail.starts_with("No poster could be made; the video plays without one. Nothing came"), "{detail}");
    }

    #[test]
    fn the_only_track_that_is_left_out_is_not_one_more() {
        let mut facts = values::source_facts(4_000);
        (facts.audio, facts.audio_streams) = (None, 1);
        let told: Vec<Value> = warnings(&Given::accepted(facts).fold()).iter().map(Warning::json).collect();
        let detail = "1 sound track was left out: no sound could be taken from the file.";
        let expected = json!([{ "code": "audio_streams_dropped", "dropped": 1, "all": true, "detail": detail }]);
        assert_eq!(Value::from(told), expected);
        let mut facts = values::source_facts(4_000);
        (facts.video, facts.video_streams) = (None, 1);
        let told: Vec<Value> = warnings(&Given::accepted(facts).fold()).iter().map(Warning::json).collect();
        let detail = "1 video track was left out: no picture could be taken from the file.";
        let expected = json!([{ "code": "video_streams_dropped", "dropped": 1, "all": true, "detail": detail }]);
        assert_eq!(Value::from(told), expected);
    }

    #[test]
    fn what_was_left_out_or_changed_is_named_with_its_figures() {
        let mut facts = values::source_facts(4_000);
        facts.audio_streams = 3;
        facts.video_streams = 2;
        facts.subtitle_streams = 8;
        facts.lost_packets = 31;
        facts.more_recordings = 2;
        facts.has_location = true;
        facts.video.as_mut().expect("a picture").dynamic_range = DynamicRange::Hlg;
        facts.audio.as_mut().expect("sound").channels = 6;
        let warnings = warnings(&Given::accepted(facts).fold());
        let told: Vec<Value> = warnings.iter().map(Warning::json).collect();
        let expected = json!([
            { "code": "audio_streams_dropped", "dropped": 2, "detail": "2 more sound tracks were left out." },
            { "code": "audio_downmixed", "channels": 6, "detail": "The sound's 6 channels were mixed down to stereo." },
            { "code": "video_streams_dropped", "dropped": 1, "detail": "1 more video track was left out." },
            { "code": "subtitles_dropped", "dropped": 8, "detail": "8 subtitle tracks were left out." },
            { "code": "tone_mapped", "from": "hlg", "detail": "The picture was mapped from HLG to standard dynamic range." },
            {
                "code": "packets_lost", "packets": 31,
                "detail": "31 packets are missing from the recording: pictures and sound around them are damaged or left out. \
                           Copy it again from its origin if you need them.",
            },
            {
                "code": "recordings_dropped", "dropped": 2,
                "detail": "The file is several that were joined to one: 2 more recordings were left out. \
                           Send each as a file of its own, or join them with a program for video.",
            },
            {
                "code": "source_has_location",
                "detail": "The original file says where it was recorded; what is published does not.",
            },
        ]);
        assert_eq!(Value::from(told), expected);
    }
}
