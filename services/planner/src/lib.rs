//! The planner: decides what an asset is owed next.
//!
//! - **consumes**: every fact, ticks that are due, the server's word about orders it gave up
//! - **emits**: EncodePlanned, RenditionsCompleted, EncodeFailed, SourceRejected, CheckFailed, JobGivenUp; orders; ticks
//! - **owns**: the ladder, the grid, the chunks of a profile; nothing that is stored
//! - **idempotent because**: [`owed`] asks what is missing, an order has one subject, a fact one slot; a second planner that
//!   decides the same at the same moment gets what stands
//! - **scales by**: more planners on the same consumers
//! - **never**: reads media, takes a lease on work, waits for a worker
//!
//! Read [`owed::owed`] first: it is the whole decision. [`plan`], [`ladder`] and [`grid`] are what a plan is made of,
//! [`unfinished`] is what is looked at without a message; the rest of this file carries out what is owed.

pub mod grid;
pub mod ladder;
pub mod owed;
pub mod plan;
pub mod unfinished;

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spool_kit::units::{Span, spoken};
use spool_kit::{Clock, Stop, retry_after};
use spool_nats::{
    Appended, Buried, ConsumerError, ConsumerName, Decision, Delivery, Durable, Incoming, Log, Ordered, StepError, Wait,
};
use spool_proto::event::{Draft, Event, Fact, JobGivenUp};
use spool_proto::job::Order;
use spool_proto::{Asset, AssetId, Code, Item, Problem, Slot, TenantId, chain, wire};
use tracing::Instrument as _;

use crate::owed::{Owed, owed};
use crate::plan::Limits;
use crate::unfinished::{Means, Unfinished};

/// A turn without messages ends after this, and looks whether it shall stop.
const IDLE: Duration = Duration::from_secs(2);
/// An order of another round blocks the subject until its worker or the planner of its advisory has settled it.
const BLOCKED_RETRY: Duration = Duration::from_millis(500);
/// How often it is looked for assets that nothing wakes anybody for: at the start, and then after each such time.
const LOOK_BACK_EVERY: Duration = Duration::from_secs(3600);
/// Assets that may fail to be looked at before the log is taken to be away; one alone holds up no other.
const LOOK_BACK_FAILURES: usize = 5;

/// Configuration of the planner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Longest video that is taken; a longer one is refused with `source_too_long`.
    pub max_duration: Span,
    /// Messages that are handled at once.
    pub at_once: NonZeroUsize,
}

impl Default for Config {
    fn default() -> Self {
        // A day is more than any recording of an event, and its receipts still fit in a message.
        Self { max_duration: Span::secs(24 * 3600), at_once: NonZeroUsize::MIN.saturating_add(7) }
    }
}

/// What the planner stands on.
#[derive(Clone)]
pub struct Deps {
    /// The log, as user `planner`.
    pub log: Log,
    /// The time.
    pub clock: Clock,
}

/// The role.
pub struct Planner {
    limits: Limits,
    at_once: usize,
    deps: Deps,
    facts: Durable,
    timers: Durable,
    advisories: Durable,
}

impl Planner {
    /// A planner on its three consumers.
    ///
    /// # Errors
    /// When a consumer is missing or can't be asked for.
    pub async fn new(config: Config, deps: Deps) -> Result<Self, ConsumerError> {
        Ok(Self {
            limits: Limits { max_duration: config.max_duration.0 },
            at_once: config.at_once.get(),
            facts: deps.log.consumer(ConsumerName::Planner).await?,
            timers: deps.log.consumer(ConsumerName::PlannerTimers).await?,
            advisories: deps.log.consumer(ConsumerName::PlannerAdvisories).await?,
            deps,
        })
    }

    /// Handles what is there; was there anything?
    ///
    /// # Errors
    /// When nothing could be fetched.
    pub async fn step(&self) -> Result<bool, StepError> {
        let mut handled = 0;
        for durable in [&self.facts, &self.timers, &self.advisories] {
            handled += durable.step(self.at_once, Wait::No, |delivery| self.handle(delivery)).await?;
        }
        Ok(handled > 0)
    }

    /// Handles what comes until it shall stop; what runs then is finished, unless it shall be cut.
    ///
    /// # Errors
    /// When fetching fails in a way that waiting does not mend.
    pub async fn run(self, stop: Stop) -> Result<(), StepError> {
        let turns = async {
            tokio::try_join!(
                self.turn(&self.facts, &stop),
                self.turn(&self.timers, &stop),
                self.turn(&self.advisories, &stop),
                self.look_back_again(&stop)
            )
        };
        tokio::select! {
            ended = turns => ended.map(|_| ()),
            () = stop.cutting() => Ok(()),
        }
    }

    /// Looks at every asset that is under way by the end of the log, as if it had been woken for each, and says how many
    /// these were. Of the facts that are read ids are kept.
    ///
    /// # Errors
    /// When the log can't be read.
    pub async fn look_back(&self) -> Result<usize, String> {
        let mut unfinished = Unfinished::default();
        self.deps.log.tail(|fact| unfinished.take(fact)).await.map_err(|error| chain(&error))?;
        let assets = unfinished.into_assets();
        let (number, mut failures) = (assets.len(), 0);
        for ((tenant, asset), cause) in assets {
            let span = tracing::info_span!("plan", asset.id = %asset, event.id = %cause);
            // An order of another round is settled by somebody, and that wakes.
            if let Err(why) = self.look(&tenant, &asset, None, &cause).instrument(span).await {
                failures += 1;
                if failures == LOOK_BACK_FAILURES {
                    return Err(why);
                }
                tracing::warn!(asset.id = %asset, why, "could not look at {asset}");
            }
        }
        Ok(number)
    }

    /// Looks back at the start and now and then, until it shall stop. One that fails is tried again soon: nothing else
    /// depends on it.
    async fn look_back_again(&self, stop: &Stop) -> Result<(), StepError> {
        let mut failures = 0;
        while !stop.is_finishing() {
            let looked = tokio::select! {
                looked = self.look_back() => looked,
                // Each look is whole or can be left: it only asks what is owed.
                () = stop.finishing() => break,
            };
            let pause = match looked {
                Ok(assets) => {
                    failures = 0;
                    tracing::debug!(assets, "looked at the {assets} assets under way");
                    LOOK_BACK_EVERY
                }
                Err(why) => {
                    failures += 1;
                    tracing::warn!(why, "could not look at the assets under way; it is tried again");
                    retry_after(failures)
                }
            };
            stop.pause(pause).await;
        }
        Ok(())
    }

    async fn turn(&self, durable: &Durable, stop: &Stop) -> Result<(), StepError> {
        let mut failures = 0;
        while !stop.is_finishing() {
            match durable.step(self.at_once, Wait::Upto(IDLE), |delivery| self.handle(delivery)).await {
                Ok(_) => failures = 0,
                Err(error) if error.source.is_transient() => {
                    failures += 1;
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        failures,
                        "the planner can't fetch; it tries again"
                    );
                    stop.pause(retry_after(failures)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Handling a message twice, late, or after a crash at any line is fine: it only asks what is owed now.
    async fn handle(&self, delivery: Delivery) -> Decision {
        let (cause, attempt) = (delivery.id.as_str(), delivery.attempt);
        let done = match &delivery.message {
            Incoming::Fact(fact) if !wakes(fact) => return Decision::Done,
            Incoming::Fact(fact) => {
                let span = tracing::info_span!("plan", asset.id = %fact.asset, event.id = %cause);
                self.look(&fact.tenant, &fact.asset, Some(fact.sequence), cause).instrument(span).await
            }
            Incoming::Tick { tenant, asset } => {
                let span = tracing::info_span!("plan", asset.id = %asset, event.id = %cause);
                self.look(tenant, asset, None, cause).instrument(span).await
            }
            Incoming::GivenUp { stream, consumer, sequence, deliveries } => {
                self.bury(stream, consumer, *sequence, *deliveries, cause).await
            }
            Incoming::Order(_) | Incoming::Ingest { .. } => {
                return Decision::Park { code: Code::Internal, why: "the planner takes no such message".to_owned() };
            }
        };
        done.unwrap_or_else(|why| {
            tracing::warn!(why, attempt, "not planned yet; it is tried again");
            Decision::Retry { after: retry_after(attempt), why }
        })
    }

    /// Asks what the asset is owed, and does that. Facts first, so that what is ordered has a plan; ticks last, so that
    /// one is set only when the rest stands.
    async fn look(
        &self,
        tenant: &TenantId,
        id: &AssetId,
        at_least: Option<u64>,
        cause: &str,
    ) -> Result<Decision, String> {
        let facts = self.deps.log.read_asset(tenant, id, at_least).await.map_err(|error| chain(&error))?;
        let Some(asset) = Asset::fold(&facts) else { return Ok(Decision::Done) };
        let mut decision = Decision::Done;
        for owed in owed(&asset, self.deps.clock.now(), &self.limits) {
            match owed {
                Owed::Fact(draft) => self.append(Draft { cause: Some(cause.to_owned()), ..draft }).await?,
                Owed::Order(order) => {
                    let order = Order { cause: Some(cause.to_owned()), ..order };
                    match self.deps.log.order(&order).await.map_err(|error| chain(&error))? {
                        Ordered::Queued => tracing::debug!("queued {} for {id}", order.job.item()),
                        Ordered::Standing => {}
                        Ordered::OtherRound => {
                            let why = format!("another round of {} is queued", order.job.item());
                            decision = Decision::Retry { after: BLOCKED_RETRY, why };
                        }
                    }
                }
                Owed::Tick(at) => self.deps.log.tick(tenant, id, at).await.map_err(|error| chain(&error))?,
                Owed::Warn { step, waiting } => {
                    let waiting = spoken(waiting);
                    tracing::warn!(asset.id = %id, "{id} has waited for {step} for {waiting} without progress; does one run?");
                }
            }
        }
        Ok(decision)
    }

    async fn append(&self, draft: Draft) -> Result<(), String> {
        match self.deps.log.append(&draft).await.map_err(|error| chain(&error))? {
            Appended::Written { .. } => {
                let (id, kind) = (&draft.asset, draft.event.kind().name());
                tracing::info!(asset.id = %id, slot = %draft.slot, "{kind} stands for {id}");
            }
            Appended::Exists(fact) => {
                tracing::debug!("{} stands already: {:?}", draft.slot, fact.event().map(Event::kind))
            }
        }
        Ok(())
    }

    /// An order ran out of deliveries. Where its workers came forward, it is asked for anew: who died did so for reasons of
    /// their own. Else its bytes are parked. Either way its fault is said and its subject freed. Each step may be repeated:
    /// burying again hands out what was parked, and the fault has one slot.
    async fn bury(
        &self,
        stream: &str,
        consumer: &str,
        sequence: u64,
        deliveries: u64,
        cause: &str,
    ) -> Result<Decision, String> {
        let log = &self.deps.log;
        let standing = log.given_up(stream, sequence).await.map_err(|error| chain(&error))?;
        let order = standing.and_then(|it| wire::decode_order(&it.subject, &it.body).ok());
        if let Some(order) = order
            && self.came_forward(&order).await?
        {
            // The fault first: without it the order would be asked for in the same round, which the server may still know.
            self.fault(&order, deliveries, cause).await?;
            log.clear(stream, sequence).await.map_err(|error| chain(&error))?;
            return Ok(Decision::Done);
        }
        let why = format!("{deliveries} deliveries and no answer");
        let buried = log.bury(stream, sequence, consumer, Code::WorkerLost, &why, deliveries).await;
        let Some(buried) = buried.map_err(|error| chain(&error))? else {
            // A late worker settled it after all, or it was cleared before.
            return Ok(Decision::Done);
        };
        let Buried { subject, body, .. } = buried;
        match wire::decode_order(&subject, &body) {
            Ok(order) => self.fault(&order, deliveries, cause).await.map(|()| Decision::Done),
            Err(error) => Ok(Decision::Park { code: Code::Internal, why: chain(&error) }),
        }
    }

    /// Did the workers of this order come forward with it in its round?
    async fn came_forward(&self, order: &Order) -> Result<bool, String> {
        let item = order.job.item();
        let facts = self.deps.log.read_asset(&order.tenant, &order.asset, None).await.map_err(|error| chain(&error))?;
        let asset = Asset::fold(&facts);
        let generation = item.generation().and_then(|number| asset.as_ref()?.generations.get(&number));
        Ok(generation.is_some_and(|generation| generation.came_forward(&item, order.round)))
    }

    async fn fault(&self, order: &Order, deliveries: u64, cause: &str) -> Result<(), String> {
        let (item, id) = (order.job.item(), &order.asset);
        tracing::warn!(asset.id = %id, "{deliveries} workers took {item} of {id} and none came back");
        let problem = Problem::new(Code::WorkerLost).with("attempts", deliveries).with("item", &item);
        let given_up = JobGivenUp { problem, attempts: u32::try_from(deliveries).unwrap_or(u32::MAX) };
        self.append(Draft {
            tenant: order.tenant.clone(),
            asset: id.clone(),
            slot: fault_slot(item, order.round),
            event: given_up.into(),
            cause: Some(cause.to_owned()),
            actor: None,
        })
        .await
    }
}

/// Can this fact change what is owed? Facts of a later version can't, as far as this one knows.
fn wakes(fact: &Fact) -> bool {
    fact.event().and_then(|event| unfinished::means(event.kind())) == Some(Means::More)
}

/// Where the fault of an order stands.
fn fault_slot(item: Item, round: u32) -> Slot {
    match item {
        Item::Inspect { verdict } => Slot::InspectFault { verdict, round },
        Item::Video { .. } | Item::Pass { .. } | Item::Audio { .. } | Item::AudioPass { .. } | Item::Still { .. } => {
            Slot::EncodeFault { item, round }
        }
    }
}
