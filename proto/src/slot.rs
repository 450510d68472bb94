//! Slots: where a fact stands. The last tokens of its subject; each holds one fact for ever.
//!
//! [`TABLE`] is the table of `design.md` §3 as data: which facts exclude each other, who may write them. The NATS
//! permissions of each role and the table in `proto/README.md` are made from it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::event::Kind;

mod item;

use item::numbered;
pub use item::{Item, is_plain_name};

/// A role: a process part with its own NATS user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The doors and commands.
    Gateway,
    /// Decides what is owed.
    Planner,
    /// Inspects and encodes.
    Transcoder,
    /// Decides when something becomes watchable.
    Publisher,
    /// Folds the view and answers reads.
    Projector,
}

impl Role {
    /// All roles, in the order they start.
    pub const ALL: [Role; 5] = [Role::Projector, Role::Gateway, Role::Planner, Role::Transcoder, Role::Publisher];

    /// The name used in configuration, NATS users and logs.
    pub fn name(self) -> &'static str {
        match self {
            Role::Gateway => "gateway",
            Role::Planner => "planner",
            Role::Transcoder => "transcoder",
            Role::Publisher => "publisher",
            Role::Projector => "projector",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Text that names no slot or item.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no {what}")]
pub struct SlotError {
    what: &'static str,
    text: String,
}

fn no_slot(text: &str) -> SlotError {
    SlotError { what: "slot", text: text.to_owned() }
}

/// Where a fact stands, within its asset.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Slot {
    /// `upload.registered`
    UploadRegistered,
    /// `upload.outcome`
    UploadOutcome,
    /// `inspect.fault.{n}.{round}`
    InspectFault {
        /// Verdict round, from 1.
        verdict: u32,
        /// How often the order was given up before, from 0.
        round: u32,
    },
    /// `upload.verdict.{n}`
    UploadVerdict {
        /// Verdict round, from 1.
        verdict: u32,
    },
    /// `encode.planned.g{n}`
    EncodePlanned {
        /// Generation, from 1.
        generation: u32,
    },
    /// `encode.video.g{n}.{chunk}`
    EncodeVideo {
        /// Generation, from 1.
        generation: u32,
        /// Chunk index.
        chunk: u32,
    },
    /// `encode.audio.g{n}.{track}.{chunk}`
    EncodeAudio {
        /// Generation, from 1.
        generation: u32,
        /// Track index.
        track: u32,
        /// Chunk index.
        chunk: u32,
    },
    /// `encode.still.g{n}.{name}`
    EncodeStill {
        /// Generation, from 1.
        generation: u32,
        /// Name, `[a-z0-9]+`.
        name: String,
    },
    /// `encode.fault.g{n}.{item}.{round}`
    EncodeFault {
        /// What was given up; never an inspection. Its generation is the slot's.
        item: Item,
        /// How often the order was given up before, from 0.
        round: u32,
    },
    /// `encode.outcome.g{n}`
    EncodeOutcome {
        /// Generation, from 1.
        generation: u32,
    },
    /// `publish.r{n}`
    Publish {
        /// Publish revision, from 1.
        revision: u32,
    },
    /// `text.{rev}`
    Text {
        /// Text revision, from 1.
        revision: u32,
    },
    /// `text.erased.{rev}`
    TextErased {
        /// The text revision up to which everything is erased.
        revision: u32,
    },
    /// `life.retry.{n}`
    LifeRetry {
        /// Retry, from 1.
        retry: u32,
    },
    /// `life.deleted`
    LifeDeleted,
    /// `life.purged`
    LifePurged,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Slot::UploadRegistered => f.write_str("upload.registered"),
            Slot::UploadOutcome => f.write_str("upload.outcome"),
            Slot::InspectFault { verdict, round } => write!(f, "inspect.fault.{verdict}.{round}"),
            Slot::UploadVerdict { verdict } => write!(f, "upload.verdict.{verdict}"),
            Slot::EncodePlanned { generation } => write!(f, "encode.planned.g{generation}"),
            Slot::EncodeVideo { generation, chunk } => write!(f, "encode.video.g{generation}.{chunk}"),
            Slot::EncodeAudio { generation, track, chunk } => write!(f, "encode.audio.g{generation}.{track}.{chunk}"),
            Slot::EncodeStill { generation, name } => write!(f, "encode.still.g{generation}.{name}"),
            Slot::EncodeFault { item, round } => {
                write!(f, "encode.fault.g{}.{item}.{round}", item.generation().unwrap_or(0))
            }
            Slot::EncodeOutcome { generation } => write!(f, "encode.outcome.g{generation}"),
            Slot::Publish { revision } => write!(f, "publish.r{revision}"),
            Slot::Text { revision } => write!(f, "text.{revision}"),
            Slot::TextErased { revision } => write!(f, "text.erased.{revision}"),
            Slot::LifeRetry { retry } => write!(f, "life.retry.{retry}"),
            Slot::LifeDeleted => f.write_str("life.deleted"),
            Slot::LifePurged => f.write_str("life.purged"),
        }
    }
}

fn parse_slot(text: &str) -> Option<Slot> {
    let tokens: Vec<&str> = text.split('.').collect();
    let number = |t: &str| numbered(t, "");
    let generation = |t: &str| numbered(t, "g");
    Some(match tokens.as_slice() {
        ["upload", "registered"] => Slot::UploadRegistered,
        ["upload", "outcome"] => Slot::UploadOutcome,
        ["inspect", "fault", n, round] => Slot::InspectFault { verdict: number(n)?, round: number(round)? },
        ["upload", "verdict", n] => Slot::UploadVerdict { verdict: number(n)? },
        ["encode", "planned", g] => Slot::EncodePlanned { generation: generation(g)? },
        ["encode", "video", g, c] => Slot::EncodeVideo { generation: generation(g)?, chunk: number(c)? },
        ["encode", "audio", g, t, c] => {
            Slot::EncodeAudio { generation: generation(g)?, track: number(t)?, chunk: number(c)? }
        }
        ["encode", "still", g, name] if is_plain_name(name) => {
            Slot::EncodeStill { generation: generation(g)?, name: (*name).to_owned() }
        }
        ["encode", "fault", g, item, round] => {
            let item: Item = item.parse().ok()?;
            if item.generation()? != generation(g)? {
                return None;
            }
            Slot::EncodeFault { item, round: number(round)? }
        }
        ["encode", "outcome", g] => Slot::EncodeOutcome { generation: generation(g)? },
        ["publish", r] => Slot::Publish { revision: numbered(r, "r")? },
        ["text", "erased", r] => Slot::TextErased { revision: number(r)? },
        ["text", r] => Slot::Text { revision: number(r)? },
        ["life", "retry", n] => Slot::LifeRetry { retry: number(n)? },
        ["life", "deleted"] => Slot::LifeDeleted,
        ["life", "purged"] => Slot::LifePurged,
        _ => return None,
    })
}

impl std::str::FromStr for Slot {
    type Err = SlotError;
    fn from_str(text: &str) -> Result<Self, SlotError> {
        parse_slot(text).ok_or_else(|| no_slot(text))
    }
}
impl TryFrom<String> for Slot {
    type Error = SlotError;
    fn try_from(text: String) -> Result<Self, SlotError> {
        text.parse()
    }
}
impl From<Slot> for String {
    fn from(slot: Slot) -> String {
        slot.to_string()
    }
}

/// One line of the slot table.
#[derive(Debug, Clone, Copy)]
pub struct SlotRow {
    /// The slot's form, with `{…}` for what varies.
    pub form: &'static str,
    /// The same as a NATS wildcard, relative to the asset.
    pub wildcard: &'static str,
    /// The facts that may stand there; they exclude each other.
    pub rivals: &'static [Kind],
    /// Who may write it.
    pub writers: &'static [Role],
}

use Role::{Gateway, Planner, Publisher, Transcoder};

/// The slot table of the contract.
pub const TABLE: &[SlotRow] = &[
    SlotRow {
        form: "upload.registered",
        wildcard: "upload.registered",
        rivals: &[Kind::AssetRegistered],
        writers: &[Gateway],
    },
    SlotRow {
        form: "upload.outcome",
        wildcard: "upload.outcome",
        rivals: &[Kind::SourceStored, Kind::UploadAbandoned],
        writers: &[Gateway],
    },
    SlotRow {
        form: "inspect.fault.{n}.{round}",
        wildcard: "inspect.fault.*.*",
        rivals: &[Kind::JobGivenUp],
        writers: &[Transcoder, Planner],
    },
    SlotRow {
        form: "upload.verdict.{n}",
        wildcard: "upload.verdict.*",
        rivals: &[Kind::SourceAccepted, Kind::SourceRejected, Kind::CheckFailed],
        writers: &[Transcoder, Planner],
    },
    SlotRow {
        form: "encode.planned.g{n}",
        wildcard: "encode.planned.*",
        rivals: &[Kind::EncodePlanned],
        writers: &[Planner],
    },
    SlotRow {
        form: "encode.video.g{n}.{chunk}",
        wildcard: "encode.video.*.*",
        rivals: &[Kind::VideoStored],
        writers: &[Transcoder],
    },
    SlotRow {
        form: "encode.audio.g{n}.{track}.{chunk}",
        wildcard: "encode.audio.*.*.*",
        rivals: &[Kind::AudioStored],
        writers: &[Transcoder],
    },
    SlotRow {
        form: "encode.still.g{n}.{name}",
        wildcard: "encode.still.*.*",
        rivals: &[Kind::StillStored],
        writers: &[Transcoder],
    },
    SlotRow {
        form: "encode.fault.g{n}.{item}.{round}",
        wildcard: "encode.fault.*.*.*",
        rivals: &[Kind::JobGivenUp],
        writers: &[Transcoder, Planner],
    },
    SlotRow {
        form: "encode.outcome.g{n}",
        wildcard: "encode.outcome.*",
        rivals: &[Kind::RenditionsCompleted, Kind::EncodeFailed],
        writers: &[Planner],
    },
    SlotRow {
        form: "publish.r{n}",
        wildcard: "publish.*",
        rivals: &[Kind::Opened, Kind::Published, Kind::Withdrawn],
        writers: &[Publisher, Gateway],
    },
    SlotRow { form: "text.{rev}", wildcard: "text.*", rivals: &[Kind::Described], writers: &[Gateway] },
    SlotRow { form: "text.erased.{rev}", wildcard: "text.erased.*", rivals: &[Kind::TextErased], writers: &[Gateway] },
    SlotRow { form: "life.retry.{n}", wildcard: "life.retry.*", rivals: &[Kind::RetryRequested], writers: &[Gateway] },
    SlotRow { form: "life.deleted", wildcard: "life.deleted", rivals: &[Kind::AssetDeleted], writers: &[Gateway] },
    SlotRow { form: "life.purged", wildcard: "life.purged", rivals: &[Kind::ObjectsPurged], writers: &[Gateway] },
];

impl Slot {
    /// The line of [`TABLE`] this slot belongs to.
    pub fn row(&self) -> &'static SlotRow {
        let index = match self {
            Slot::UploadRegistered => 0,
            Slot::UploadOutcome => 1,
            Slot::InspectFault { .. } => 2,
            Slot::UploadVerdict { .. } => 3,
            Slot::EncodePlanned { .. } => 4,
            Slot::EncodeVideo { .. } => 5,
            Slot::EncodeAudio { .. } => 6,
            Slot::EncodeStill { .. } => 7,
            Slot::EncodeFault { .. } => 8,
            Slot::EncodeOutcome { .. } => 9,
            Slot::Publish { .. } => 10,
            Slot::Text { .. } => 11,
            Slot::TextErased { .. } => 12,
            Slot::LifeRetry { .. } => 13,
            Slot::LifeDeleted => 14,
            Slot::LifePurged => 15,
        };
        &TABLE[index]
    }

    /// May a fact of this kind stand here?
    pub fn admits(&self, kind: Kind) -> bool {
        self.row().rivals.contains(&kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Vec<Slot> {
        let item = Item::Still { generation: 2, name: "poster".to_owned() };
        vec![
            Slot::UploadRegistered,
            Slot::UploadOutcome,
            Slot::InspectFault { verdict: 1, round: 0 },
            Slot::UploadVerdict { verdict: 2 },
            Slot::EncodePlanned { generation: 1 },
            Slot::EncodeVideo { generation: 1, chunk: 12 },
            Slot::EncodeAudio { generation: 1, track: 0, chunk: 3 },
            Slot::EncodeStill { generation: 1, name: "poster".to_owned() },
            Slot::EncodeFault { item, round: 1 },
            Slot::EncodeOutcome { generation: 3 },
            Slot::Publish { revision: 1 },
            Slot::Text { revision: 1 },
            Slot::TextErased { revision: 1 },
            Slot::LifeRetry { retry: 1 },
            Slot::LifeDeleted,
            Slot::LifePurged,
        ]
    }

    /// Does `text` match the NATS wildcard `pattern`?
    fn matches(pattern: &str, text: &str) -> bool {
        let (p, t): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), text.split('.').collect());
        p.len() == t.len() && p.iter().zip(&t).all(|(p, t)| *p == "*" || p == t)
    }

    #[test]
    fn every_slot_round_trips_and_matches_its_own_row_only() {
        let slots = one_of_each();
        assert_eq!(slots.len(), TABLE.len());
        for slot in slots {
            let text = slot.to_string();
            assert_eq!(text.parse::<Slot>(), Ok(slot.clone()), "{text}");
            let rows: Vec<_> = TABLE.iter().filter(|row| matches(row.wildcard, &text)).map(|row| row.form).collect();
            assert_eq!(rows, [slot.row().form], "{text}");
        }
    }

    #[test]
    fn a_slot_has_one_spelling() {
        for bad in [
            "publish.r01",
            "publish.1",
            "text.+1",
            "encode.fault.g1.g2-v0.0",
            "encode.fault.g1.n1.0",
            "encode.still.g1.A",
            "",
        ] {
            assert!(bad.parse::<Slot>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_kind_stands_in_some_slot() {
        for kind in Kind::ALL {
            assert!(TABLE.iter().any(|row| row.rivals.contains(kind)), "{kind:?}");
        }
    }
}
