//! A small validator of what this module writes: the rules of RFC 8216 and of Apple's authoring specification that a
//! machine can check and that apply to us. For tests of every crate that writes or serves playlists.

use std::collections::{BTreeMap, BTreeSet};

/// Checks a media playlist; answers with every rule it breaks.
pub fn media(text: &str) -> Vec<String> {
    let mut broken = syntax(text);
    let mut rule = |ok: bool, what: &str| {
        if !ok {
            broken.push(what.to_owned());
        }
    };
    let lines: Vec<&str> = text.lines().collect();
    rule(!text.contains("#EXT-X-STREAM-INF") && !text.contains("#EXT-X-MEDIA:"), "mixes in multivariant tags");
    let targets: Vec<u64> = values(&lines, "#EXT-X-TARGETDURATION:").filter_map(|v| v.parse().ok()).collect();
    rule(targets.len() == 1, "needs one integer TARGETDURATION");
    let kinds: Vec<&str> = values(&lines, "#EXT-X-PLAYLIST-TYPE:").collect();
    rule(kinds == ["VOD"] || kinds == ["EVENT"], "needs one PLAYLIST-TYPE");
    rule(kinds != ["VOD"] || lines.last() == Some(&"#EXT-X-ENDLIST"), "a VOD list ends with ENDLIST");
    rule(values(&lines, "#EXT-X-ENDLIST").count() <= 1, "more than one ENDLIST");
    let map = lines.iter().position(|l| l.starts_with("#EXT-X-MAP:"));
    let first = lines.iter().position(|l| l.starts_with("#EXTINF:"));
    rule(map.is_some(), "fMP4 needs an EXT-X-MAP");
    rule(first.is_none_or(|first| map < Some(first)), "EXT-X-MAP comes before the first segment");
    let sequence = lines.iter().position(|l| l.starts_with("#EXT-X-MEDIA-SEQUENCE:"));
    rule(first.is_none_or(|first| sequence < Some(first)), "MEDIA-SEQUENCE comes before the first segment");
    for (i, line) in lines.iter().enumerate() {
        let Some(length) = line.strip_prefix("#EXTINF:") else { continue };
        let length: f64 = length.split(',').next().and_then(|v| v.parse().ok()).unwrap_or(f64::NAN);
        rule(length > 0.0, &format!("line {}: EXTINF is no positive number", i + 1));
        let fits = targets.first().is_some_and(|target| length.round() <= *target as f64);
        rule(fits, &format!("line {}: EXTINF is longer than TARGETDURATION", i + 1));
        let next = |n: usize| lines.get(i + n).copied().unwrap_or_default();
        rule(
            is_range(next(1).strip_prefix("#EXT-X-BYTERANGE:").unwrap_or_default()),
            &format!("line {}: no range", i + 2),
        );
        rule(!next(2).is_empty() && !next(2).starts_with('#'), &format!("line {}: no URI", i + 3));
    }
    broken
}

/// Checks a multivariant playlist; answers with every rule it breaks.
pub fn multivariant(text: &str) -> Vec<String> {
    let mut broken = syntax(text);
    let mut rule = |ok: bool, what: String| {
        if !ok {
            broken.push(what);
        }
    };
    let lines: Vec<&str> = text.lines().collect();
    rule(!text.contains("#EXTINF") && !text.contains("#EXT-X-TARGETDURATION"), "mixes in media tags".to_owned());
    let mut groups = BTreeSet::new();
    for media in values(&lines, "#EXT-X-MEDIA:") {
        let media = attributes(media).unwrap_or_default();
        let has = |name: &str| media.contains_key(name);
        rule(
            ["TYPE", "GROUP-ID", "NAME", "CHANNELS", "URI"].iter().all(|n| has(n)),
            "EXT-X-MEDIA is incomplete".to_owned(),
        );
        rule(media.get("AUTOSELECT") != Some(&"NO"), "DEFAULT=YES without AUTOSELECT".to_owned());
        groups.extend(media.get("GROUP-ID").copied());
    }
    let mut variants = 0;
    for (i, line) in lines.iter().enumerate() {
        let Some(variant) = line.strip_prefix("#EXT-X-STREAM-INF:") else { continue };
        variants += 1;
        let variant = attributes(variant).unwrap_or_default();
        let number = |name: &str| variant.get(name).and_then(|v| v.parse::<u64>().ok());
        rule(number("BANDWIDTH") > Some(0), format!("line {}: no BANDWIDTH", i + 1));
        let average = number("AVERAGE-BANDWIDTH");
        rule(average > Some(0) && average <= number("BANDWIDTH"), format!("line {}: AVERAGE-BANDWIDTH is off", i + 1));
        rule(variant.contains_key("CODECS"), format!("line {}: no CODECS", i + 1));
        rule(
            variant.contains_key("RESOLUTION") == variant.contains_key("FRAME-RATE"),
            format!("line {}: RESOLUTION and FRAME-RATE go together", i + 1),
        );
        rule(variant.get("AUDIO").is_none_or(|g| groups.contains(g)), format!("line {}: no such AUDIO group", i + 1));
        let uri = lines.get(i + 1).copied().unwrap_or_default();
        rule(!uri.is_empty() && !uri.starts_with('#'), format!("line {}: no URI on the next line", i + 1));
    }
    rule(variants > 0, "no variant".to_owned());
    broken
}

fn syntax(text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if !text.starts_with("#EXTM3U\n") {
        broken.push("the first line is not #EXTM3U".to_owned());
    }
    if text.chars().any(|c| c.is_control() && c != '\n') {
        broken.push("holds a control character".to_owned());
    }
    if values(&text.lines().collect::<Vec<_>>(), "#EXT-X-VERSION:").filter_map(|v| v.parse().ok()).all(|v: u32| v < 6) {
        broken.push("EXT-X-MAP needs version 6".to_owned());
    }
    for line in text.lines().filter(|l| l.starts_with("#EXT-X-STREAM-INF:") || l.starts_with("#EXT-X-MEDIA:")) {
        if line.split_once(':').and_then(|(_, list)| attributes(list)).is_none() {
            broken.push(format!("{line}: attributes are malformed or repeated"));
        }
    }
    broken
}

fn values<'a>(lines: &'a [&'a str], tag: &'a str) -> impl Iterator<Item = &'a str> {
    lines.iter().filter_map(move |line| line.strip_prefix(tag))
}

/// `length@offset`
fn is_range(text: &str) -> bool {
    text.split_once('@').is_some_and(|(n, at)| n.parse::<u64>().is_ok_and(|n| n > 0) && at.parse::<u64>().is_ok())
}

/// An attribute list; nothing if it is malformed or names one twice.
fn attributes(list: &str) -> Option<BTreeMap<&str, &str>> {
    let mut out = BTreeMap::new();
    let mut rest = list;
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-');
        if !plain || out.insert(name, value).is_some() {
            return None;
        }
        rest = if after.is_empty() { "" } else { after.strip_prefix(',')? };
    }
    Some(out)
}
