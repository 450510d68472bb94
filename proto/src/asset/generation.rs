//! One run of encoding: what was planned, what is stored of it, what was given up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::At;
use crate::event::{AudioStored, JobGivenUp, Problem, RenditionsCompleted, StillStored, VideoStored};
use crate::job::{self, Job, VideoOrder};
use crate::media::Plan;
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

    /// The item's last fault, unless its result stands: for picture, all chunks of the order of that name.
    pub fn standing_fault(&self, item: &Item) -> Option<&At<JobGivenUp>> {
        let stored = match item {
            Item::Video { generation, .. } | Item::Pass { generation, .. } => {
                let orders = job::picture(*generation, self.plan());
                match orders.iter().find(|job| job.item() == *item) {
                    Some(Job::Video(order) | Job::Pass(order)) => self.has_made(order),
                    Some(Job::Inspect(_) | Job::Audio(_) | Job::AudioPass(_) | Job::Still(_)) | None => false,
                }
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
        self.faults.get(&item.to_string()).and_then(|rounds| rounds.values().next_back())
    }

    /// Keys of every object this generation's facts name.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let video = self.video.values().flat_map(|v| v.it.receipts.iter().map(|r| r.key.as_str()));
        let audio = self.audio.values().flat_map(|t| t.values().map(|a| a.it.receipt.key.as_str()));
        let stills = self.stills.values().map(|s| s.it.receipt.key.as_str());
        video.chain(audio).chain(stills)
    }
}
