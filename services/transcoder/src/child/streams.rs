//! Which streams of a source are worked on, and how a position in the facts finds its stream again.
//!
//! A demuxer announces streams in any order and, FLV for one, one after another. So the choice never rests on what came
//! first: streams of a kind are ordered by their stream id (each demuxer writes its track number into it, with leading
//! zeros), and facts name a position in that order ([`super::demux`] sorts by it, [`super::wiring`] counts by it).

/// The two kinds of streams that Spool works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Picture.
    Video,
    /// Sound.
    Audio,
}

impl Kind {
    /// Of caps; none of others.
    pub fn of_caps(caps: &gst::Caps) -> Option<Self> {
        let name = caps.structure(0)?.name().as_str();
        if name.starts_with("video/") || name.starts_with("image/") {
            return Some(Self::Video);
        }
        name.starts_with("audio/").then_some(Self::Audio)
    }

    /// As sentences name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Audio => "audio",
        }
    }

    /// Is that type of stream of this kind?
    pub fn matches(self, kind: gst::StreamType) -> bool {
        match self {
            Self::Video => kind.contains(gst::StreamType::VIDEO),
            Self::Audio => kind.contains(gst::StreamType::AUDIO),
        }
    }
}

/// What the choice among streams of one kind looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Flagged by the source as the one to show.
    pub default: bool,
    /// Pixels of one picture; 0 for sound.
    pub pixels: u64,
}

/// Position of the picture to work on: the only default-flagged one, else the largest, the first of equals.
///
/// Where every stream is flagged (MP4 tracks are all "enabled" as a rule) the flag says nothing.
pub fn choose_video(streams: &[Candidate]) -> Option<usize> {
    if let Some(only) = only_default(streams) {
        return Some(only);
    }
    let largest = streams.iter().map(|s| s.pixels).max()?;
    streams.iter().position(|s| s.pixels == largest)
}

/// Position of the sound to work on: the first default-flagged one, else the first.
pub fn choose_audio(streams: &[Candidate]) -> Option<usize> {
    streams.iter().position(|s| s.default).or((!streams.is_empty()).then_some(0))
}

fn only_default(streams: &[Candidate]) -> Option<usize> {
    let mut flagged = streams.iter().enumerate().filter(|(_, s)| s.default).map(|(i, _)| i);
    let first = flagged.next()?;
    flagged.next().is_none().then_some(first)
}

/// The streams of a kind, in whatever order they were announced.
pub fn of_kind(collection: &gst::StreamCollection, kind: Kind) -> impl Iterator<Item = gst::Stream> + '_ {
    collection.iter().filter(move |stream| kind.matches(stream.stream_type()))
}

/// The id of a stream; empty where it has none.
pub fn id_of(stream: &gst::Stream) -> String {
    stream.stream_id().map(|id| id.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(default: bool, pixels: u64) -> Candidate {
        Candidate { default, pixels }
    }

    #[test]
    fn a_single_flag_beats_size_and_many_flags_say_nothing() {
        assert_eq!(choose_video(&[candidate(true, 1), candidate(false, 9)]), Some(0));
        assert_eq!(choose_video(&[candidate(true, 1), candidate(true, 9), candidate(true, 9)]), Some(1));
        assert_eq!(choose_video(&[candidate(false, 1), candidate(false, 9)]), Some(1));
        assert_eq!(choose_video(&[]), None);
    }

    #[test]
    fn sound_is_the_default_one_else_the_first() {
        assert_eq!(choose_audio(&[candidate(false, 0), candidate(true, 0)]), Some(1));
        assert_eq!(choose_audio(&[candidate(false, 0), candidate(false, 0)]), Some(0));
        assert_eq!(choose_audio(&[]), None);
    }
}
