//! The fold of one asset: what its facts, in the order of the log, add up to.
//!
//! Three axes, never mixed: the life of the asset, the state of each part of its encode, and (later) its deliveries. The
//! words for people are derived from here; nothing is stored that could be derived.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::envelope;
use crate::event::{AssetRegistered, Body, Event, Fact, JobGivenUp, Problem, Published, RetryOf};
use crate::id::{AssetId, TenantId, TextToken};
use crate::media::{Part, SourceFacts, SourceRef, TakenOver};
use crate::problem::Code;
use crate::slot::{Item, Slot};
use crate::time::Timestamp;

mod generation;
mod status;

pub use generation::{Generation, Outcome};
pub use status::Status;

/// A folded fact with when and where it stood on the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct At<T> {
    /// Sequence on the log.
    pub sequence: u64,
    /// Time of the stream.
    pub at: Timestamp,
    /// What happened.
    pub it: T,
}

/// How the upload ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UploadEnd {
    /// The source is stored.
    Stored(SourceRef),
    /// It will never be.
    Abandoned {
        /// Why.
        problem: Problem,
        /// Bytes that had arrived.
        received_bytes: u64,
    },
}

/// How a verdict round ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "one or two of them per asset; a box would only be in the way")]
pub enum Verdict {
    /// It can be encoded.
    Accepted(SourceFacts),
    /// It can't.
    Rejected(Problem),
    /// Nobody knows.
    CheckFailed(Problem),
}

/// What stands at the head of publishing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Publication {
    /// Watchable while it grows.
    Opened {
        /// Which generation.
        generation: u32,
    },
    /// Finished manifests stand.
    Published(Published),
    /// Not to be watched.
    Withdrawn {
        /// Which generation was.
        generation: u32,
    },
}

/// An asset as its facts make it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asset {
    /// Its id.
    pub id: AssetId,
    /// Whose.
    pub tenant: TenantId,
    /// Facts folded, contiguous from 1. The `ETag`.
    pub version: u64,
    /// Sequence of the last fact folded.
    pub sequence: u64,
    /// Time of the first fact.
    pub created_at: Timestamp,
    /// Time of the last one.
    pub updated_at: Timestamp,
    /// How it came in.
    pub registered: Option<At<AssetRegistered>>,
    /// How its upload ended.
    pub upload: Option<At<UploadEnd>>,
    /// Verdicts by round.
    pub verdicts: BTreeMap<u32, At<Verdict>>,
    /// Inspections given up, by verdict round, then round.
    pub inspect_faults: BTreeMap<u32, BTreeMap<u32, At<JobGivenUp>>>,
    /// Generations.
    pub generations: BTreeMap<u32, Generation>,
    /// Publish facts by revision.
    pub publications: BTreeMap<u32, At<Publication>>,
    /// Retries that were asked for, by number.
    pub retries: BTreeMap<u32, At<RetryOf>>,
    /// Descriptions by revision: the token of the text.
    pub texts: BTreeMap<u32, TextToken>,
    /// Descriptions up to this revision are erased.
    pub texts_erased_to: u32,
    /// When it was deleted.
    pub deleted: Option<At<()>>,
    /// When nothing of it was left: objects and bytes removed.
    pub purged: Option<At<(u64, u64)>>,
    /// Facts that this version does not know, or that stand where this version does not expect them: sequence and CloudEvents
    /// type. Folded again after an upgrade. While there are any, what is owed to this asset is for a later version to say.
    pub unknown: BTreeSet<(u64, String)>,
}

impl Asset {
    /// An asset no fact was folded into yet.
    pub fn new(tenant: TenantId, id: AssetId) -> Self {
        Self {
            id,
            tenant,
            version: 0,
            sequence: 0,
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
            registered: None,
            upload: None,
            verdicts: BTreeMap::new(),
            inspect_faults: BTreeMap::new(),
            generations: BTreeMap::new(),
            publications: BTreeMap::new(),
            retries: BTreeMap::new(),
            texts: BTreeMap::new(),
            texts_erased_to: 0,
            deleted: None,
            purged: None,
            unknown: BTreeSet::new(),
        }
    }

    /// The fold of `facts`, which must be in the order of the log and of one asset. Nothing for no facts.
    pub fn fold<'a>(facts: impl IntoIterator<Item = &'a Fact>) -> Option<Self> {
        let mut facts = facts.into_iter();
        let first = facts.next()?;
        let mut asset = Self::new(first.tenant.clone(), first.asset.clone());
        asset.apply(first);
        facts.for_each(|fact| asset.apply(fact));
        Some(asset)
    }

    /// Folds one fact. A fact at or below [`Asset::sequence`] was folded before and changes nothing.
    pub fn apply(&mut self, fact: &Fact) {
        debug_assert!(fact.asset == self.id && fact.tenant == self.tenant, "a fact of another asset");
        if fact.sequence <= self.sequence {
            return;
        }
        if self.version == 0 {
            self.created_at = fact.at;
        }
        self.version += 1;
        self.sequence = fact.sequence;
        self.updated_at = fact.at;
        match (&fact.slot, &fact.body) {
            (Ok(slot), Body::Known(event)) if slot.admits(event.kind()) => self.take(fact, slot, event),
            (_, Body::Known(event)) => {
                self.unknown.insert((fact.sequence, envelope::ce_type(event.kind())));
            }
            (_, Body::Unknown { kind }) => {
                self.unknown.insert((fact.sequence, kind.clone()));
            }
        }
    }

    fn take(&mut self, fact: &Fact, slot: &Slot, event: &Event) {
        match event {
            Event::AssetRegistered(it) => self.registered = Some(at(fact, it.clone())),
            Event::SourceStored(it) => self.upload = Some(at(fact, UploadEnd::Stored(it.source.clone()))),
            Event::UploadAbandoned(it) => {
                let end = UploadEnd::Abandoned { problem: it.problem.clone(), received_bytes: it.received_bytes };
                self.upload = Some(at(fact, end));
            }
            Event::SourceAccepted(it) => self.judge(fact, slot, Verdict::Accepted(it.facts.clone())),
            Event::SourceRejected(it) => self.judge(fact, slot, Verdict::Rejected(it.problem.clone())),
            Event::CheckFailed(it) => self.judge(fact, slot, Verdict::CheckFailed(it.problem.clone())),
            Event::JobGivenUp(it) => self.give_up(fact, slot, it),
            Event::EncodePlanned(_)
            | Event::VideoStored(_)
            | Event::AudioStored(_)
            | Event::StillStored(_)
            | Event::RenditionsCompleted(_)
            | Event::EncodeFailed(_) => self.encode(fact, slot, event),
            Event::Opened(it) => self.publish(fact, slot, Publication::Opened { generation: it.generation }),
            Event::Published(it) => self.publish(fact, slot, Publication::Published(it.clone())),
            Event::Withdrawn(it) => self.publish(fact, slot, Publication::Withdrawn { generation: it.generation }),
            Event::Described(it) => {
                if let Slot::Text { revision } = slot {
                    self.texts.insert(*revision, it.token.clone());
                }
            }
            Event::TextErased(_) => {
                if let Slot::TextErased { revision } = slot {
                    self.texts_erased_to = self.texts_erased_to.max(*revision);
                }
            }
            Event::RetryRequested(it) => {
                if let Slot::LifeRetry { retry } = slot {
                    self.retries.insert(*retry, at(fact, it.of));
                }
            }
            Event::AssetDeleted(_) => self.deleted = Some(at(fact, ())),
            Event::ObjectsPurged(it) => self.purged = Some(at(fact, (it.objects, it.bytes))),
        }
    }

    fn judge(&mut self, fact: &Fact, slot: &Slot, verdict: Verdict) {
        if let Slot::UploadVerdict { verdict: round } = slot {
            self.verdicts.insert(*round, at(fact, verdict));
        }
    }

    fn publish(&mut self, fact: &Fact, slot: &Slot, publication: Publication) {
        if let Slot::Publish { revision } = slot {
            self.publications.insert(*revision, at(fact, publication));
        }
    }

    fn give_up(&mut self, fact: &Fact, slot: &Slot, it: &JobGivenUp) {
        if let Slot::InspectFault { verdict, round } = slot {
            self.inspect_faults.entry(*verdict).or_default().insert(*round, at(fact, it.clone()));
            return;
        }
        if let Slot::EncodeFault { item, round } = slot
            && let Some(generation) = item.generation().and_then(|g| self.open_generation(g))
        {
            generation.faults.entry(item.to_string()).or_default().insert(*round, at(fact, it.clone()));
        }
    }

    /// The generation, while results still count for it.
    fn open_generation(&mut self, number: u32) -> Option<&mut Generation> {
        self.generations.get_mut(&number).filter(|generation| generation.outcome.is_none())
    }

    fn encode(&mut self, fact: &Fact, slot: &Slot, event: &Event) {
        if let (Slot::EncodePlanned { generation }, Event::EncodePlanned(it)) = (slot, event) {
            let mut new = Generation::new(at(fact, it.plan.clone()));
            it.plan.taken_over.iter().for_each(|taken| self.take_over(&mut new, taken));
            self.generations.insert(*generation, new);
            return;
        }
        let Some(number) = slot_generation(slot) else { return };
        let Some(generation) = self.open_generation(number) else { return };
        match (slot, event) {
            (Slot::EncodeVideo { chunk, .. }, Event::VideoStored(it)) => {
                generation.video.insert(*chunk, at(fact, it.clone()));
            }
            (Slot::EncodeAudio { track, chunk, .. }, Event::AudioStored(it)) => {
                generation.audio.entry(*track).or_default().insert(*chunk, at(fact, it.clone()));
            }
            (Slot::EncodeStill { name, .. }, Event::StillStored(it)) => {
                generation.stills.insert(name.clone(), at(fact, it.clone()));
            }
            (Slot::EncodeOutcome { .. }, Event::RenditionsCompleted(it)) => {
                generation.outcome = Some(at(fact, Outcome::Completed(*it)));
            }
            (Slot::EncodeOutcome { .. }, Event::EncodeFailed(it)) => {
                let failed = Outcome::Failed { problem: it.problem.clone(), attempts: it.attempts };
                generation.outcome = Some(at(fact, failed));
            }
            // `Slot::admits` was asked before: no other pair of slot and fact comes here.
            (_, _) => {}
        }
    }

    fn take_over(&self, new: &mut Generation, taken: &TakenOver) {
        let Some(old) = self.generations.get(&taken.generation) else { return };
        match &taken.part {
            Part::Video { chunk } => {
                new.video.extend(old.video.get(chunk).map(|it| (*chunk, it.clone())));
            }
            Part::Audio { track, chunk } => {
                let it = old.audio.get(track).and_then(|t| t.get(chunk));
                new.audio.entry(*track).or_default().extend(it.map(|it| (*chunk, it.clone())));
            }
            Part::Still { name } => {
                new.stills.extend(old.stills.get(name).map(|it| (name.clone(), it.clone())));
            }
        }
    }

    /// The verdict round that counts now: 1 and one more for each retry of a verdict.
    pub fn verdict_round(&self) -> u32 {
        let asked = self.retries.values().filter_map(|retry| match retry.it {
            RetryOf::Verdict { round } => Some(round),
            RetryOf::Generation { .. } => None,
        });
        asked.max().unwrap_or(1)
    }

    /// The generation that counts now: 1 and one more for each retry of an encode.
    pub fn generation_number(&self) -> u32 {
        let asked = self.retries.values().filter_map(|retry| match retry.it {
            RetryOf::Generation { generation } => Some(generation),
            RetryOf::Verdict { .. } => None,
        });
        asked.max().unwrap_or(1)
    }

    /// How often the order of this item was given up: the round of the next one.
    pub fn rounds(&self, item: &Item) -> u32 {
        match item {
            Item::Inspect { verdict } => self.inspect_faults.get(verdict).map_or(0, next_round),
            Item::Video { generation, .. }
            | Item::Pass { generation, .. }
            | Item::Audio { generation, .. }
            | Item::AudioPass { generation, .. }
            | Item::Still { generation, .. } => self.generations.get(generation).map_or(0, |it| it.rounds(item)),
        }
    }

    /// Does this item's order go on though this round of it was given up? See [`Generation::goes_on`]; an inspection has
    /// nothing to come forward by, and goes on where its worker was told to stop.
    pub fn goes_on(&self, item: &Item, round: u32) -> bool {
        match item {
            Item::Inspect { verdict } => {
                let fault = self.inspect_faults.get(verdict).and_then(|rounds| rounds.get(&round));
                fault.is_some_and(|fault| fault.it.problem.code == Code::WorkerStopped)
            }
            Item::Video { generation, .. }
            | Item::Pass { generation, .. }
            | Item::Audio { generation, .. }
            | Item::AudioPass { generation, .. }
            | Item::Still { generation, .. } => {
                self.generations.get(generation).is_some_and(|it| it.goes_on(item, round))
            }
        }
    }

    /// The verdict of the round that counts.
    pub fn verdict(&self) -> Option<&At<Verdict>> {
        self.verdicts.get(&self.verdict_round())
    }

    /// The generation that counts, once planned.
    pub fn generation(&self) -> Option<&Generation> {
        self.generations.get(&self.generation_number())
    }

    /// Where the source lies, once stored.
    pub fn source(&self) -> Option<&SourceRef> {
        match &self.upload.as_ref()?.it {
            UploadEnd::Stored(source) => Some(source),
            UploadEnd::Abandoned { .. } => None,
        }
    }

    /// What the source is, once accepted.
    pub fn source_facts(&self) -> Option<&SourceFacts> {
        match &self.verdict()?.it {
            Verdict::Accepted(facts) => Some(facts),
            Verdict::Rejected(_) | Verdict::CheckFailed(_) => None,
        }
    }

    /// The head of publishing: the fact of the highest revision that counts. One that opens or publishes a generation after it
    /// failed does not: it was decided before the failure was seen.
    pub fn publication(&self) -> Option<&At<Publication>> {
        self.publications.values().rev().find(|publication| {
            let generation = match &publication.it {
                Publication::Opened { generation } => *generation,
                Publication::Published(published) => published.generation,
                Publication::Withdrawn { .. } => return true,
            };
            match self.generations.get(&generation).and_then(|g| g.outcome.as_ref()) {
                Some(At { sequence, it: Outcome::Failed { .. }, .. }) => publication.sequence < *sequence,
                Some(At { it: Outcome::Completed(_), .. }) | None => true,
            }
        })
    }

    /// The next free publish revision.
    pub fn next_publish_revision(&self) -> u32 {
        self.publications.keys().next_back().map_or(1, |last| last.saturating_add(1))
    }

    /// The generation a player gets: published, or opened and growing. Nothing once withdrawn or deleted.
    pub fn playing(&self) -> Option<(u32, &Generation)> {
        if self.deleted.is_some() {
            return None;
        }
        let number = match &self.publication()?.it {
            Publication::Opened { generation } => *generation,
            Publication::Published(published) => published.generation,
            Publication::Withdrawn { .. } => return None,
        };
        Some((number, self.generations.get(&number)?))
    }

    /// The text that describes it now, if it has one and that is not erased.
    pub fn text_token(&self) -> Option<&TextToken> {
        let (revision, token) = self.texts.iter().next_back()?;
        (*revision > self.texts_erased_to).then_some(token)
    }

    /// The word for people.
    pub fn status(&self) -> Status {
        if self.deleted.is_some() {
            return Status::Deleted;
        }
        match self.upload.as_ref().map(|end| &end.it) {
            None => return Status::Uploading,
            Some(UploadEnd::Abandoned { .. }) => return Status::Abandoned,
            Some(UploadEnd::Stored(_)) => {}
        }
        match self.verdict().map(|verdict| &verdict.it) {
            None => return Status::Checking,
            Some(Verdict::Rejected(_)) => return Status::Rejected,
            Some(Verdict::CheckFailed(_)) => return Status::Failed,
            Some(Verdict::Accepted(_)) => {}
        }
        let current = self.generation_number();
        match self.generation().and_then(|g| g.outcome.as_ref()).map(|o| &o.it) {
            Some(Outcome::Failed { .. }) => Status::Failed,
            Some(Outcome::Completed(_)) | None => match self.publication().map(|p| &p.it) {
                Some(Publication::Published(p)) if p.generation == current => Status::Ready,
                Some(Publication::Opened { generation }) if *generation == current => Status::Playable,
                Some(Publication::Published(_) | Publication::Opened { .. } | Publication::Withdrawn { .. }) | None => {
                    Status::Encoding
                }
            },
        }
    }

    /// Why it is rejected, failed or abandoned; nothing in other states.
    pub fn problem(&self) -> Option<&Problem> {
        match self.status() {
            Status::Abandoned => match &self.upload.as_ref()?.it {
                UploadEnd::Abandoned { problem, .. } => Some(problem),
                UploadEnd::Stored(_) => None,
            },
            Status::Rejected | Status::Failed => match &self.verdict()?.it {
                Verdict::Rejected(problem) | Verdict::CheckFailed(problem) => Some(problem),
                Verdict::Accepted(_) => match &self.generation()?.outcome.as_ref()?.it {
                    Outcome::Failed { problem, .. } => Some(problem),
                    Outcome::Completed(_) => None,
                },
            },
            Status::Uploading
            | Status::Checking
            | Status::Encoding
            | Status::Playable
            | Status::Ready
            | Status::Deleted => None,
        }
    }
}

/// The first round after those that ended in a fault.
fn next_round(faults: &BTreeMap<u32, At<JobGivenUp>>) -> u32 {
    faults.keys().next_back().map_or(0, |last| last.saturating_add(1))
}

fn at<T>(fact: &Fact, it: T) -> At<T> {
    At { sequence: fact.sequence, at: fact.at, it }
}

fn slot_generation(slot: &Slot) -> Option<u32> {
    match slot {
        Slot::EncodePlanned { generation }
        | Slot::EncodeVideo { generation, .. }
        | Slot::EncodeAudio { generation, .. }
        | Slot::EncodeStill { generation, .. }
        | Slot::EncodeOutcome { generation } => Some(*generation),
        Slot::EncodeFault { item, .. } => item.generation(),
        Slot::UploadRegistered
        | Slot::UploadOutcome
        | Slot::InspectFault { .. }
        | Slot::UploadVerdict { .. }
        | Slot::Publish { .. }
        | Slot::Text { .. }
        | Slot::TextErased { .. }
        | Slot::LifeRetry { .. }
        | Slot::LifeDeleted
        | Slot::LifePurged => None,
    }
}
