//! What an order is about, and with it a fault and a lease: one part of the work on an asset.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::SlotError;

/// What a fault or a lease is about: the last part of an order's subject and of a fault's slot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Item {
    /// Inspecting for verdict round `verdict`: `n1`.
    Inspect {
        /// Verdict round, from 1.
        verdict: u32,
    },
    /// Chunks of the picture from `chunk` on: `g1-v0`. How many is said by the order.
    Video {
        /// Generation, from 1.
        generation: u32,
        /// First chunk of the order.
        chunk: u32,
    },
    /// The picture from `chunk` to its end in one pass, of a source that can't be decoded in parts: `g1-p4`.
    Pass {
        /// Generation, from 1.
        generation: u32,
        /// First chunk of the order.
        chunk: u32,
    },
    /// A whole sound track: `g1-a0`.
    Audio {
        /// Generation, from 1.
        generation: u32,
        /// Track index.
        track: u32,
    },
    /// A whole sound track that takes long: `g1-pa0`.
    AudioPass {
        /// Generation, from 1.
        generation: u32,
        /// Track index.
        track: u32,
    },
    /// A still picture: `g1-s-poster`.
    Still {
        /// Generation, from 1.
        generation: u32,
        /// Name, `[a-z0-9]+`.
        name: String,
    },
}

impl Item {
    /// The generation, or nothing for an inspection.
    pub fn generation(&self) -> Option<u32> {
        match self {
            Item::Inspect { .. } => None,
            Item::Video { generation, .. }
            | Item::Pass { generation, .. }
            | Item::Audio { generation, .. }
            | Item::AudioPass { generation, .. }
            | Item::Still { generation, .. } => Some(*generation),
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Inspect { verdict } => write!(f, "n{verdict}"),
            Item::Video { generation, chunk } => write!(f, "g{generation}-v{chunk}"),
            Item::Pass { generation, chunk } => write!(f, "g{generation}-p{chunk}"),
            Item::Audio { generation, track } => write!(f, "g{generation}-a{track}"),
            Item::AudioPass { generation, track } => write!(f, "g{generation}-pa{track}"),
            Item::Still { generation, name } => write!(f, "g{generation}-s-{name}"),
        }
    }
}

/// A number after `prefix`, written as this crate writes it: no sign, no leading zero.
pub(super) fn numbered(text: &str, prefix: &str) -> Option<u32> {
    let digits = text.strip_prefix(prefix)?;
    let number: u32 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

/// Is this a name made by a plan: `[a-z0-9]{1,16}`?
pub fn is_plain_name(text: &str) -> bool {
    (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn parse_item(text: &str) -> Option<Item> {
    if let Some(verdict) = numbered(text, "n") {
        return Some(Item::Inspect { verdict });
    }
    let (generation, rest) = text.split_once('-')?;
    let generation = numbered(generation, "g")?;
    if let Some(chunk) = numbered(rest, "v") {
        return Some(Item::Video { generation, chunk });
    }
    if let Some(chunk) = numbered(rest, "p") {
        return Some(Item::Pass { generation, chunk });
    }
    if let Some(track) = numbered(rest, "a") {
        return Some(Item::Audio { generation, track });
    }
    if let Some(track) = numbered(rest, "pa") {
        return Some(Item::AudioPass { generation, track });
    }
    let name = rest.strip_prefix("s-")?;
    is_plain_name(name).then(|| Item::Still { generation, name: name.to_owned() })
}

impl std::str::FromStr for Item {
    type Err = SlotError;
    fn from_str(text: &str) -> Result<Self, SlotError> {
        parse_item(text).ok_or_else(|| SlotError { what: "item", text: text.to_owned() })
    }
}
impl TryFrom<String> for Item {
    type Error = SlotError;
    fn try_from(text: String) -> Result<Self, SlotError> {
        text.parse()
    }
}
impl From<Item> for String {
    fn from(item: Item) -> String {
        item.to_string()
    }
}
