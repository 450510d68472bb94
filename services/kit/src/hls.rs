//! HLS playlists as text, and the addresses they use: pure, shared by the publisher (finished lists) and the projector
//! (growing ones), so that both say the same about the same asset.
//!
//! Addresses, all relative to `/play/{playback_id}/`:
//!
//! ```text
//! index.m3u8                 the multivariant playlist: growing, later finished          may change
//! g{n}/{rendition}.m3u8      a growing media playlist of generation n                    only appended to
//! r{n}/{rendition}.m3u8      a finished media playlist of publish revision n             never changes
//! g{n}/{rendition}/{k}.mp4   chunk k of a rendition; whoever serves it finds the object  never changes
//! ```
//!
//! Every media playlist lies one directory down, so segments are addressed as `../g{n}/…` in both. No address holds an
//! attempt token: the receipt in the standing fact says which object is meant.
//!
//! [`rates`] derives what a multivariant playlist declares; [`check`] is the validator that tests use. Nothing here reads
//! a store, a log or a clock.

pub mod check;
pub mod rates;

use std::fmt::Write as _;

use spool_proto::media::{FrameRate, NS_PER_S, Plan, Receipt};

/// `EXT-X-VERSION` of what is written: 6 would do for `EXT-X-MAP`; 7 is what fMP4 players are tested with.
const VERSION: u32 = 7;
/// Group of the sound in multivariant playlists.
const SOUND_GROUP: &str = "sound";
/// The sound's segments end at AAC frames near the grid: one of 21.3 ms at either border.
const SOUND_SLACK_NS: u64 = 50_000_000;
/// The bit rate whose variant comes first, because players start with the first: what a usual line carries at once.
const FIRST_BPS: u64 = 2_000_000;

/// Content type of a playlist.
pub const CONTENT_TYPE: &str = "application/vnd.apple.mpegurl";
/// File name of the multivariant playlist.
pub const INDEX: &str = "index.m3u8";

/// How a media playlist may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// `EVENT`: only appended to; `ended` adds the end tag, and that is the last thing ever appended.
    Growing {
        /// Will nothing follow?
        ended: bool,
    },
    /// `VOD`: finished, never changes.
    Finished,
}

/// Where the initialisation section of a rendition lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// Address of the object, relative to the playlist.
    pub uri: String,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// One segment of a media playlist: a byte range of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Address of the object, relative to the playlist.
    pub uri: String,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Length in ticks.
    pub ticks: u64,
    /// Ticks a second.
    pub timescale: u32,
}

/// A media playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// How it may change.
    pub growth: Growth,
    /// Target duration in seconds; at least every entry's length, rounded.
    pub target_s: u32,
    /// The rendition's initialisation section.
    pub map: Map,
    /// Its segments in order, from the first of the asset.
    pub entries: Vec<Entry>,
}

/// One variant of a multivariant playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Address of its media playlist, relative to the multivariant one.
    pub uri: String,
    /// Peak bits a second, the sound's added.
    pub bandwidth_bps: u64,
    /// Mean bits a second, the sound's added.
    pub average_bps: u64,
    /// RFC 6381 names of picture and sound.
    pub codecs: Vec<String>,
    /// Width and height, where there is a picture.
    pub resolution: Option<(u32, u32)>,
    /// Frames a second, where there is a picture.
    pub frame_rate: Option<FrameRate>,
}

/// The sound that every variant plays with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sound {
    /// Address of its media playlist, relative to the multivariant one.
    pub uri: String,
    /// Language as the source states it.
    pub language: Option<String>,
    /// Channels.
    pub channels: u32,
}

/// A multivariant playlist. Without a picture the sound is its only variant and `sound` is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Master {
    /// Variants in any order.
    pub variants: Vec<Variant>,
    /// The sound that goes with a picture.
    pub sound: Option<Sound>,
    /// Is the asset still growing? Then players start at its beginning and not at its end.
    pub growing: bool,
}

/// Address of a chunk, relative to the playback's root.
pub fn chunk_path(generation: u32, rendition: &str, chunk: u32) -> String {
    format!("g{generation}/{rendition}/{chunk}.mp4")
}

/// Address of a growing media playlist, relative to the playback's root.
pub fn growing_path(generation: u32, rendition: &str) -> String {
    format!("g{generation}/{rendition}.m3u8")
}

/// Address of a finished media playlist, relative to the playback's root.
pub fn finished_path(revision: u32, rendition: &str) -> String {
    format!("r{revision}/{}", playlist_file(rendition))
}

/// File name of a rendition's media playlist.
pub fn playlist_file(rendition: &str) -> String {
    format!("{rendition}.m3u8")
}

/// The initialisation section as the receipt of the rendition's first chunk states it; equal in every other chunk.
pub fn map_of(generation: u32, first: &Receipt) -> Map {
    let uri = format!("../{}", chunk_path(generation, &first.rendition, 0));
    Map { uri, offset: first.init.offset, length: first.init.length }
}

/// The segments of a chunk as its receipt states them.
pub fn entries_of(generation: u32, chunk: u32, receipt: &Receipt) -> Vec<Entry> {
    let uri = format!("../{}", chunk_path(generation, &receipt.rendition, chunk));
    let entry = |segment: &spool_proto::media::Segment| Entry {
        uri: uri.clone(),
        offset: segment.offset,
        length: segment.length,
        ticks: segment.duration_ticks,
        timescale: receipt.timescale,
    };
    receipt.segments.iter().map(entry).collect()
}

/// Target duration that holds for every segment the plan can lead to, in whole seconds: the longest of the grid, rounded
/// as players round. The grid keeps a short tail short enough for this (see the planner), and a growing list may not change it.
pub fn planned_target_s(plan: &Plan) -> u32 {
    let segments: u64 = plan.chunks.iter().map(|n| u64::from(*n)).sum();
    let before = segments.saturating_sub(1) * plan.segment_ns;
    let last = plan.duration_ns().saturating_sub(before);
    let longest = if segments > 1 { last.max(plan.segment_ns) } else { last };
    rounded_s(longest + SOUND_SLACK_NS, NS_PER_S)
}

/// Target duration of finished lists: the longest entry of any, rounded, and never less than the plan's.
pub fn measured_target_s<'a>(plan: &Plan, entries: impl IntoIterator<Item = &'a Entry>) -> u32 {
    let longest = entries.into_iter().map(|e| rounded_s(e.ticks, e.timescale.into())).max();
    longest.unwrap_or(1).max(planned_target_s(plan))
}

/// Whole seconds, rounded to nearest as RFC 8216 §4.3.3.1 compares, at least 1.
fn rounded_s(ticks: u64, timescale: u64) -> u32 {
    let timescale = timescale.max(1);
    let rounded = (u128::from(ticks) * 2 + u128::from(timescale)) / (u128::from(timescale) * 2);
    u32::try_from(rounded).unwrap_or(u32::MAX).max(1)
}

/// A media playlist as text.
///
/// The text for a list of which `listing` is a longer one starts with the text for the shorter: growing only appends.
pub fn media_playlist(listing: &Listing) -> String {
    let mut out = String::with_capacity(256 + 96 * listing.entries.len());
    let mut line = |text: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = out.write_fmt(text);
        out.push('\n');
    };
    line(format_args!("#EXTM3U"));
    line(format_args!("#EXT-X-VERSION:{VERSION}"));
    line(format_args!("#EXT-X-TARGETDURATION:{}", listing.target_s));
    line(format_args!("#EXT-X-MEDIA-SEQUENCE:0"));
    line(format_args!("#EXT-X-INDEPENDENT-SEGMENTS"));
    match listing.growth {
        Growth::Growing { .. } => {
            line(format_args!("#EXT-X-PLAYLIST-TYPE:EVENT"));
            // Without it a player starts three target durations before the end, as if this were live.
            line(format_args!("#EXT-X-START:TIME-OFFSET=0,PRECISE=YES"));
        }
        Growth::Finished => line(format_args!("#EXT-X-PLAYLIST-TYPE:VOD")),
    }
    let Map { uri, offset, length } = &listing.map;
    line(format_args!("#EXT-X-MAP:URI=\"{uri}\",BYTERANGE=\"{length}@{offset}\""));
    for entry in &listing.entries {
        line(format_args!("#EXTINF:{},", seconds(entry.ticks, entry.timescale)));
        line(format_args!("#EXT-X-BYTERANGE:{}@{}", entry.length, entry.offset));
        line(format_args!("{}", entry.uri));
    }
    match listing.growth {
        Growth::Growing { ended: false } => {}
        Growth::Growing { ended: true } | Growth::Finished => line(format_args!("#EXT-X-ENDLIST")),
    }
    out
}

/// Seconds with six decimals, rounded to nearest: a frame is never off by more than half a microsecond.
fn seconds(ticks: u64, timescale: u32) -> String {
    let timescale = u128::from(timescale.max(1));
    let micros = (u128::from(ticks) * 2_000_000 + timescale) / (timescale * 2);
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// A multivariant playlist as text. The variant nearest 2 Mb/s comes first, then the others from high to low.
pub fn multivariant(master: &Master) -> String {
    let mut out = format!("#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    if master.growing {
        out.push_str("#EXT-X-START:TIME-OFFSET=0,PRECISE=YES\n");
    }
    if let Some(sound) = &master.sound {
        out.push_str(&sound_line(sound));
    }
    let mut variants: Vec<&Variant> = master.variants.iter().collect();
    variants.sort_by_key(|v| std::cmp::Reverse(v.bandwidth_bps));
    if let Some(first) = (0..variants.len()).min_by_key(|i| variants[*i].bandwidth_bps.abs_diff(FIRST_BPS)) {
        variants[..=first].rotate_right(1);
    }
    for variant in variants {
        out.push_str(&variant_lines(variant, master.sound.is_some()));
    }
    out
}

fn sound_line(sound: &Sound) -> String {
    let language = sound.language.as_deref().and_then(language_tag);
    let name = language.unwrap_or("Sound");
    let mut line = format!("#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{SOUND_GROUP}\",NAME=\"{name}\"");
    if let Some(language) = language {
        line.push_str(&format!(",LANGUAGE=\"{language}\""));
    }
    let Sound { uri, channels, .. } = sound;
    line.push_str(&format!(",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"{channels}\",URI=\"{uri}\"\n"));
    line
}

fn variant_lines(variant: &Variant, with_sound: bool) -> String {
    let Variant { uri, bandwidth_bps, average_bps, codecs, resolution, frame_rate } = variant;
    let codecs = codecs.join(",");
    let mut line =
        format!("#EXT-X-STREAM-INF:BANDWIDTH={bandwidth_bps},AVERAGE-BANDWIDTH={average_bps},CODECS=\"{codecs}\"");
    if let Some((width, height)) = resolution {
        line.push_str(&format!(",RESOLUTION={width}x{height}"));
    }
    if let Some(rate) = frame_rate {
        line.push_str(&format!(",FRAME-RATE={:.3}", rate.fps()));
    }
    if with_sound {
        line.push_str(&format!(",AUDIO=\"{SOUND_GROUP}\""));
    }
    format!("{line}\n{uri}\n")
}

/// The language if it has the form of a tag; what a source states is foreign text and must not break the line.
fn language_tag(text: &str) -> Option<&str> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let letters = text.bytes().take(2).filter(u8::is_ascii_alphabetic).count() == 2;
    (plain && letters && text.len() <= 35 && text != "und").then_some(text)
}

#[cfg(test)]
mod tests;
