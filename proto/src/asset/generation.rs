//! One run of encoding: what was planned, what is stored of it, what was given up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::At;
use crate::event::{AudioStored, JobGivenUp, Problem, RenditionsCompleted, StillStored, VideoStored};
use crate::job::{self, Job, VideoOrder};
use crate::media::Plan;
use crate::problem::{Code, Fault};
use crate::slot::Item;

/// How a generation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// All is stored.
    Completed(RenditionsCompleted),
    /// It will not be.
    Failed {
        /// Why.
        problem: Problem,
        /// Orders given up.
        attempts: u32,
    },
}

/// One run of encoding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// What is to be made.
    pub plan: At<Plan>,
    /// Chunks of the picture that are stored.
    pub video: BTreeMap<u32, At<VideoStored>>,
    /// Chunks of the sound that are stored, by track, then chunk.
    pub audio: BTreeMap<u32, BTreeMap<u32, At<AudioStored>>>,
    /// Stills that are stored.
    pub stills: BTreeMap<String, At<StillStored>>,
    /// Orders given up, by item, then round.
    pub faults: BTreeMap<String, BTreeMap<u32, At<JobGivenUp>>>,
    /// How it ended.
    pub outcome: Option<At<Outcome>>,
}

impl Generation {
    pub(super) fn new(plan: At<Plan>) -> Self {
        Self {
            plan,
            video: BTreeMap::new(),
            audio: BTreeMap::new(),
            stills: BTreeMap::new(),
            faults: BTreeMap::new(),
            outcome: None,
        }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan.it
    }

    /// Is this chunk of the picture stored, or none planned?
    pub fn has_video(&self, chunk: u32) -> bool {
        self.plan().rungs.is_empty() || self.video.contains_key(&chunk)
    }

    /// Is this chunk of the sound stored, or none planned?
    pub fn has_audio(&self, chunk: u32) -> bool {
        self.plan().audio.is_none() || self.audio.get(&0).is_some_and(|track| track.contains_key(&chunk))
    }

    /// Number of chunks, from the first, that are stored in every rendition and the sound without a gap.
    pub fn contiguous_chunks(&self) -> u32 {
        (0..self.plan().chunk_count()).take_while(|c| self.has_video(*c) && self.has_audio(*c)).count() as u32
    }

    /// Is everything that was planned stored? Stills count too.
    pub fn is_complete(&self) -> bool {
        let plan = self.plan();
        self.contiguous_chunks() == plan.chunk_count() && plan.stills.iter().all(|s| self.stills.contains_key(&s.name))
    }

    /// Share of the planned timeline that is stored in picture and sound, as far as both are planned, 0 to 100. Mostly the
    /// sound is far ahead; of a small and long picture it is what takes the time.
    pub fn percent(&self) -> u32 {
        let plan = self.plan();
        let done: u64 = (0..plan.chunk_count())
            .filter(|c| self.has_video(*c) && self.has_audio(*c))
            .map(|c| plan.chunk_span_ns(c))
            .map(|(start, end)| end.saturating_sub(start))
            .sum();
        (done * 100 / plan.duration_ns().max(1)).min(100) as u32
    }

    /// Is all that this order asks for stored?
    pub fn has_made(&self, order: &VideoOrder) -> bool {
        (order.first..=order.last).all(|chunk| self.has_video(chunk))
    }

    /// How often the order of this item was given up: the round of the next one.
    pub fn rounds(&self, item: &Item) -> u32 {
        self.faults.get(&item.to_string()).map_or(0, super::next_round)
    }

    /// Did this round of the item's order come forward: was a chunk of it stored after the round before was given up, and
    /// before this one was, if it is?
    pub fn came_forward(&self, item: &Item, round: u32) -> bool {
        let faults = self.faults.get(&item.to_string());
        let before = faults.and_then(|rounds| rounds.range(..round).next_back());
        let since = before.map_or(self.plan.sequence, |(_, fault)| fault.sequence);
        let until = faults.and_then(|rounds| rounds.get(&round)).map_or(u64::MAX, |fault| fault.sequence);
        let in_it = |sequence: u64| sequence > since && sequence < until;
        match item {
            Item::Video { .. } | Item::Pass { .. } => self.picture_order(item).is_some_and(|order| {
                self.video.range(order.first..=order.last).any(|(_, chunk)| in_it(chunk.sequence))
            }),
            Item::Audio { track, .. } | Item::AudioPass { track, .. } => {
                self.audio.get(track).is_some_and(|chunks| chunks.values().any(|chunk| in_it(chunk.sequence)))
            }
            Item::Still { .. } | Item::Inspect { .. } => false,
        }
    }

    /// Does the item's order go on though this round of it was given up? It does where workers went that came forward, or
    /// that were told to stop: neither says anything about the order. Each further round needs a chunk more, or somebody
    /// who stops workers; the deadline of the generation stands behind both.
    pub fn goes_on(&self, item: &Item, round: u32) -> bool {
        let fault = self.faults.get(&item.to_string()).and_then(|rounds| rounds.get(&round));
        fault.is_some_and(|fault| {
            let code = fault.it.problem.code;
            let is_ours = code.fault() == Fault::System;
            code == Code::WorkerStopped || (is_ours && self.came_forward(item, round))
        })
    }

    /// The order for picture that has this name.
    fn picture_order(&self, item: &Item) -> Option<VideoOrder> {
        let orders = job::picture(item.generation()?, self.plan());
        orders.into_iter().find(|job| job.item() == *item).and_then(|job| match job {
            Job::Video(order) | Job::Pass(order) => Some(order),
            Job::Inspect(_) | Job::Audio(_) | Job::AudioPass(_) | Job::Still(_) => None,
        })
    }

    /// The fault that ended the item's order, unless its result stands (for picture, all chunks of the order of that name)
    /// or the order goes on after it.
    pub fn standing_fault(&self, item: &Item) -> Option<&At<JobGivenUp>> {
        let stored = match item {
            Item::Video { .. } | Item::Pass { .. } => {
                self.picture_order(item).is_some_and(|order| self.has_made(&order))
            }
            Item::Audio { track, .. } | Item::AudioPass { track, .. } => {
                self.audio.get(track).map_or(0, BTreeMap::len) == self.plan().chunks.len()
            }
            Item::Still { name, .. } => self.stills.contains_key(name),
            Item::Inspect { .. } => false,
        };
        if stored {
            return None;
        }
        let (round, fault) = self.faults.get(&item.to_string())?.iter().next_back()?;
        (!self.goes_on(item, *round)).then_some(fault)
    }

    /// Keys of every object this generation's facts name.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let video = self.video.values().flat_map(|v| v.it.receipts.iter().map(|r| r.key.as_str()));
        let audio = self.audio.values().flat_map(|t| t.values().map(|a| a.it.receipt.key.as_str()));
        let stills = self.stills.values().map(|s| s.it.receipt.key.as_str());
        video.chain(audio).chain(stills)
    }
}
