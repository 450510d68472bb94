//! The publisher: says from when on an asset can be watched, and writes the finished manifests.
//!
//! - **consumes**: facts that may change what can be watched: stored chunks and completed generations
//! - **emits**: Opened, Published; manifest objects
//! - **owns**: the moment of opening ([`open`]), the files of a revision ([`manifests`])
//! - **idempotent because**: a revision has one slot and manifests lie under an attempt of their own, so a second publisher,
//!   or the same one after a crash, leaves an orphan for the sweeper at worst
//! - **scales by**: more publishers on the same consumer
//! - **never**: changes a manifest, renders a growing playlist (the projector does), reads the time of day: times are
//!   the facts'
//!
//! Read [`next::next`] first: it is the whole decision.

pub mod manifests;
pub mod next;
pub mod open;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use spool_kit::{Ids, Stop, Store, retry_after};
use spool_nats::{Appended, ConsumerError, ConsumerName, Decision, Delivery, Durable, Incoming, Log, StepError, Wait};
use spool_proto::event::{Draft, Event, Fact, Kind, Opened, Published};
use spool_proto::id::AttemptId;
use spool_proto::key::{Key, Object};
use spool_proto::{Asset, AssetId, Code, Slot, TenantId, chain};
use tracing::Instrument as _;

use crate::next::{Act, next};

/// A turn without messages ends after this, and looks whether it shall stop.
const IDLE: Duration = Duration::from_secs(2);
/// How often it is looked for assets that are whole and not published, though nothing wakes anybody for them: when there is
/// nothing to handle at first, and then after each such time.
const LOOK_BACK_EVERY: Duration = Duration::from_secs(3600);
/// Acts in a row for one message. Opening, publishing, and one rival for each is the most that can happen by right.
const ACTS: usize = 6;

/// Configuration of the publisher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Messages that are handled at once.
    pub at_once: NonZeroUsize,
}

impl Default for Config {
    fn default() -> Self {
        Self { at_once: NonZeroUsize::MIN.saturating_add(7) }
    }
}

/// What the publisher stands on.
#[derive(Clone)]
pub struct Deps {
    /// The log, as user `publisher`.
    pub log: Log,
    /// The object store.
    pub store: Store,
    /// Attempt tokens.
    pub ids: Ids,
}

/// The role.
pub struct Publisher {
    at_once: usize,
    deps: Deps,
    facts: Durable,
}

impl Publisher {
    /// A publisher on its consumer.
    ///
    /// # Errors
    /// When the consumer is missing or can't be asked for.
    pub async fn new(config: Config, deps: Deps) -> Result<Self, ConsumerError> {
        let facts = deps.log.consumer(ConsumerName::Publisher).await?;
        Ok(Self { at_once: config.at_once.get(), deps, facts })
    }

    /// Handles what is there; was there anything?
    ///
    /// # Errors
    /// When nothing could be fetched.
    pub async fn step(&self) -> Result<bool, StepError> {
        Ok(self.facts.step(self.at_once, Wait::No, |delivery| self.handle(delivery)).await? > 0)
    }

    /// Handles what comes until it shall stop; what runs then is finished, unless it shall be cut.
    ///
    /// # Errors
    /// When fetching fails in a way that waiting does not mend.
    pub async fn run(self, stop: Stop) -> Result<(), StepError> {
        tokio::select! {
            ended = self.turn(&stop) => ended,
            () = stop.cutting() => Ok(()),
        }
    }

    async fn turn(&self, stop: &Stop) -> Result<(), StepError> {
        let (mut failures, mut looked_back) = (0, None::<Instant>);
        while !stop.is_finishing() {
            match self.facts.step(self.at_once, Wait::Upto(IDLE), |delivery| self.handle(delivery)).await {
                // Only when nothing comes: what comes may be just what would be found, and be published twice.
                Ok(0) if looked_back.is_none_or(|last| last.elapsed() >= LOOK_BACK_EVERY) => {
                    failures = 0;
                    match self.look_back().await {
                        Ok(assets) => tracing::debug!(assets, "looked at the {assets} assets that are not published"),
                        Err(why) => tracing::warn!(why, "could not look for assets that are not published"),
                    }
                    looked_back = Some(Instant::now());
                }
                Ok(_) => failures = 0,
                Err(error) if error.source.is_transient() => {
                    failures += 1;
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        failures,
                        "the publisher can't fetch; it tries again"
                    );
                    stop.pause(retry_after(failures)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Looks at every asset that is whole and not published by the end of the log, and says how many these were. The log may
    /// have lost its newest facts, and the one that completed an asset was handled long ago.
    ///
    /// # Errors
    /// When the log can't be read, or an asset can't be published; the others were looked at.
    pub async fn look_back(&self) -> Result<usize, String> {
        let mut whole = Whole::default();
        self.deps.log.tail(|fact| whole.take(fact)).await.map_err(|error| chain(&error))?;
        let (number, mut failed) = (whole.0.len(), None);
        for fact in whole.0.into_values() {
            let cause = fact.id.to_string();
            let span = tracing::info_span!("publish", asset.id = %fact.asset, event.id = %cause);
            if let Err(why) = self.look(&fact, Concern::Publishing, &cause).instrument(span).await {
                failed = Some(why);
            }
        }
        failed.map_or(Ok(number), Err)
    }

    /// Handling a message twice, late, or after a crash at any line is fine: it only asks what is to be done now.
    async fn handle(&self, delivery: Delivery) -> Decision {
        let (cause, attempt) = (delivery.id.as_str(), delivery.attempt);
        let (fact, concern) = match &delivery.message {
            Incoming::Fact(fact) => match concern(fact) {
                Some(concern) => (fact, concern),
                None => return Decision::Done,
            },
            Incoming::Order(_) | Incoming::Tick { .. } | Incoming::Ingest { .. } | Incoming::GivenUp { .. } => {
                return Decision::Park { code: Code::Internal, why: "the publisher takes no such message".to_owned() };
            }
        };
        let span = tracing::info_span!("publish", asset.id = %fact.asset, event.id = %cause);
        let done = self.look(fact, concern, cause).instrument(span).await;
        done.map(|()| Decision::Done).unwrap_or_else(|why| {
            tracing::warn!(why, attempt, "not published yet; it is tried again");
            Decision::Retry { after: retry_after(attempt), why }
        })
    }

    /// Asks what is to be done and does it, until nothing is: after an act, what stands in its slot may be a rival's.
    async fn look(&self, fact: &Fact, concern: Concern, cause: &str) -> Result<(), String> {
        let Fact { tenant, asset: id, sequence, .. } = fact;
        let mut at_least = *sequence;
        for _ in 0..ACTS {
            let facts = self.deps.log.read_asset(tenant, id, Some(at_least)).await.map_err(|error| chain(&error))?;
            let Some(asset) = Asset::fold(&facts) else { return Ok(()) };
            let Some(act) = next(&asset, asset.updated_at) else { return Ok(()) };
            if !concern.covers(act) {
                return Ok(());
            }
            let (revision, event) = match act {
                Act::Open { revision, generation } => (revision, Event::from(Opened { generation })),
                Act::Publish { revision, generation } => {
                    (revision, self.write(&asset, revision, generation).await?.into())
                }
            };
            let draft = Draft {
                tenant: tenant.clone(),
                asset: id.clone(),
                slot: Slot::Publish { revision },
                event,
                cause: Some(cause.to_owned()),
                actor: None,
            };
            let appended = self.deps.log.append(&draft).await.map_err(|error| chain(&error))?;
            if let Appended::Written { .. } = appended {
                let kind = draft.event.kind().name();
                tracing::info!(asset.id = %id, slot = %draft.slot, "{kind} stands for {id}");
            }
            at_least = appended.sequence().max(at_least);
        }
        Err(format!("{ACTS} acts for one message and still something to do"))
    }

    /// Writes the manifests of a revision under a new attempt: effect first, then the fact that names it. If the fact is not
    /// appended, the objects are orphans that no fact names, and the sweeper takes them.
    async fn write(&self, asset: &Asset, revision: u32, number: u32) -> Result<Published, String> {
        let generation = asset.generations.get(&number);
        let files = generation.and_then(|generation| manifests::manifests(revision, number, generation));
        // Completed means that every planned receipt stands: the planner says so, and this is the other side of that.
        let Some(files) = files else {
            return Err(format!("generation {number} is completed and a receipt is missing"));
        };
        let attempt = self.deps.ids.attempt();
        let mut names = Vec::with_capacity(files.len());
        for (file, text) in files {
            let key = manifest_key(asset, revision, &attempt, &file);
            self.deps.store.put(&key, Bytes::from(text)).await.map_err(|error| chain(&error))?;
            names.push(file);
        }
        Ok(Published { generation: number, attempt, files: names })
    }
}

fn manifest_key(asset: &Asset, revision: u32, attempt: &AttemptId, file: &str) -> Key {
    let object = Object::Manifest { revision, attempt: attempt.clone(), file: file.to_owned() };
    Key { tenant: asset.tenant.clone(), asset: asset.id.clone(), object }
}

/// The facts that completed assets and that nothing followed.
#[derive(Debug, Default)]
struct Whole(BTreeMap<(TenantId, AssetId), Fact>);

impl Whole {
    fn take(&mut self, fact: &Fact) {
        let asset = || (fact.tenant.clone(), fact.asset.clone());
        match fact.event().map(Event::kind) {
            Some(Kind::RenditionsCompleted) => drop(self.0.insert(asset(), fact.clone())),
            Some(Kind::Published | Kind::Withdrawn | Kind::AssetDeleted | Kind::ObjectsPurged) => {
                drop(self.0.remove(&asset()));
            }
            Some(
                Kind::AssetRegistered
                | Kind::SourceStored
                | Kind::UploadAbandoned
                | Kind::JobGivenUp
                | Kind::SourceAccepted
                | Kind::SourceRejected
                | Kind::CheckFailed
                | Kind::EncodePlanned
                | Kind::VideoStored
                | Kind::AudioStored
                | Kind::StillStored
                | Kind::EncodeFailed
                | Kind::Opened
                | Kind::Described
                | Kind::TextErased
                | Kind::RetryRequested,
            )
            | None => {}
        }
    }
}

/// What a fact can lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Concern {
    /// A chunk stands: opening.
    Opening,
    /// All stands: publishing.
    Publishing,
}

impl Concern {
    /// Publishing is left to the fact that completes, which comes by itself: else every chunk's fact that is handled late
    /// would write manifests too, and leave them as orphans.
    fn covers(self, act: Act) -> bool {
        match act {
            Act::Open { .. } => true,
            Act::Publish { .. } => self == Concern::Publishing,
        }
    }
}

/// What this fact can lead to; nothing for most.
fn concern(fact: &Fact) -> Option<Concern> {
    match fact.event().map(Event::kind)? {
        Kind::VideoStored | Kind::AudioStored => Some(Concern::Opening),
        Kind::RenditionsCompleted => Some(Concern::Publishing),
        Kind::AssetRegistered
        | Kind::SourceStored
        | Kind::UploadAbandoned
        | Kind::JobGivenUp
        | Kind::SourceAccepted
        | Kind::SourceRejected
        | Kind::CheckFailed
        | Kind::EncodePlanned
        | Kind::StillStored
        | Kind::EncodeFailed
        | Kind::Opened
        | Kind::Published
        | Kind::Withdrawn
        | Kind::Described
        | Kind::TextErased
        | Kind::RetryRequested
        | Kind::AssetDeleted
        | Kind::ObjectsPurged => None,
    }
}
