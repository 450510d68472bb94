//! Playlists as text, and the rules of RFC 8216 that what is served must keep.

use crate::http::{join, text};
use crate::tool::Outcome;

/// A multivariant playlist.
#[derive(Debug, Clone)]
pub(crate) struct Master {
    /// Variants with a picture.
    pub(crate) videos: Vec<Variant>,
    /// Address of the sound's playlist.
    pub(crate) sound: Option<String>,
}

/// A rendition of the picture.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    pub(crate) url: String,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// A media playlist.
#[derive(Debug, Clone, Default)]
pub(crate) struct Media {
    pub(crate) text: String,
    /// Length of each segment.
    pub(crate) lengths_s: Vec<f64>,
    pub(crate) ended: bool,
    /// Address of the last segment.
    pub(crate) last_uri: Option<String>,
}

impl Media {
    pub(crate) fn span_s(&self) -> f64 {
        self.lengths_s.iter().sum()
    }
}

/// Reads the multivariant playlist at `url`, and every rule it breaks.
pub(crate) fn master(url: &str) -> Outcome<(Master, Vec<String>)> {
    let text = text(url)?;
    let mut master = Master { videos: Vec::new(), sound: None };
    let mut broken = Vec::new();
    if !text.starts_with("#EXTM3U\n") {
        broken.push("index.m3u8 does not begin with #EXTM3U".to_owned());
    }
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        if let Some(list) = line.strip_prefix("#EXT-X-MEDIA:")
            && attribute(list, "TYPE") == Some("AUDIO")
        {
            master.sound = attribute(list, "URI").map(|uri| join(url, uri));
        }
        let Some(list) = line.strip_prefix("#EXT-X-STREAM-INF:") else { continue };
        let uri = lines.get(at + 1).filter(|next| !next.starts_with('#') && !next.is_empty());
        let Some(uri) = uri else {
            broken.push(format!("index.m3u8: no address after {line}"));
            continue;
        };
        for wanted in ["BANDWIDTH", "CODECS"] {
            if attribute(list, wanted).is_none() {
                broken.push(format!("index.m3u8: {uri} states no {wanted}"));
            }
        }
        match attribute(list, "RESOLUTION").and_then(|size| size.split_once('x')) {
            Some((width, height)) => master.videos.push(Variant {
                url: join(url, uri),
                width: width.parse().unwrap_or(0),
                height: height.parse().unwrap_or(0),
            }),
            None => master.sound = master.sound.take().or_else(|| Some(join(url, uri))),
        }
    }
    master.videos.sort_by_key(|v| std::cmp::Reverse(v.height * v.width));
    Ok((master, broken))
}

/// Reads the media playlist at `url`.
pub(crate) fn media(url: &str) -> Outcome<Media> {
    Ok(parse(text(url)?))
}

/// A media playlist from its text.
pub(crate) fn parse(text: String) -> Media {
    let lengths = text.lines().filter_map(|line| line.strip_prefix("#EXTINF:"));
    let lengths_s = lengths.filter_map(|value| value.split(',').next()?.parse().ok()).collect();
    let last_uri = text.lines().rfind(|line| !line.starts_with('#') && !line.is_empty()).map(str::to_owned);
    Media { lengths_s, ended: text.lines().any(|line| line == "#EXT-X-ENDLIST"), last_uri, text }
}

/// Every rule that a finished media playlist breaks.
pub(crate) fn judge(name: &str, list: &Media) -> Vec<String> {
    let lines: Vec<&str> = list.text.lines().collect();
    let value = |tag: &str| lines.iter().find_map(|line| line.strip_prefix(tag));
    let place = |tag: &str| lines.iter().position(|line| line.starts_with(tag));
    let target: u64 = value("#EXT-X-TARGETDURATION:").and_then(|v| v.parse().ok()).unwrap_or(0);
    let longest = list.lengths_s.iter().copied().fold(0.0, f64::max);
    let shortest = list.lengths_s.iter().copied().fold(f64::INFINITY, f64::min);
    let rules = [
        (lines.first() == Some(&"#EXTM3U"), "does not begin with #EXTM3U"),
        (value("#EXT-X-PLAYLIST-TYPE:") == Some("VOD"), "is no VOD list"),
        (list.ended && lines.last() == Some(&"#EXT-X-ENDLIST"), "has no end tag at its end"),
        (
            place("#EXT-X-MAP:") < place("#EXTINF:") && place("#EXT-X-MAP:").is_some(),
            "has no EXT-X-MAP before its segments",
        ),
        (!list.lengths_s.is_empty(), "has no segments"),
        (shortest > 0.0, "has a segment without length"),
        (longest.round() as u64 <= target, "has a segment longer than its target duration"),
    ];
    rules.iter().filter(|(holds, _)| !holds).map(|(_, rule)| format!("{name}.m3u8 {rule}")).collect()
}

/// A value of an attribute list, quotes taken off.
fn attribute<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = list;
    while let Some((key, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        if key == name {
            return Some(value);
        }
        rest = after.strip_prefix(',').unwrap_or("");
    }
    None
}
