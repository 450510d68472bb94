//! One delivery of an order, from the log to the log: ask what it means, let a child work, store, state, answer.
//!
//! It may run twice, late and after a crash at any line: the slots are asked before the work and decide after it, keys end
//! in an attempt token, and a worker whose lease is not confirmed states nothing but results.

use std::error::Error as _;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use spool_kit::Stop;
use spool_kit::source::SourceReader;
use spool_nats::{Appended, Decision, Delivery, Incoming, Kv, Lease};
use spool_proto::asset::Asset;
use spool_proto::event::{CheckFailed, Draft, Event, JobGivenUp, Problem, SourceAccepted, SourceRejected};
use spool_proto::job::{InspectOrder, Job, Order};
use spool_proto::lease::LeaseNote;
use spool_proto::media::SourceRef;
use spool_proto::slot::{Item, Slot};
use spool_proto::{Code, chain};
use tokio::sync::mpsc;

use super::after::{After, Before, GivenUp, after};
use super::note::Notes;
use super::room::Room;
use super::start::{Encode, Start, start};
use super::{Deps, source::PieceBytes};
use crate::attempt::{self, AttemptError, Launcher};
use crate::order::{self, Answer, Failure, FailureCode, InspectLimits};

/// Deliveries of a child that may wait for the store.
pub(super) const DELIVERIES_OPEN: usize = 16;
/// Pause before an order is asked again whose facts are not there yet.
const NOT_YET_RETRY: Duration = Duration::from_secs(2);
/// Pause before an order is tried again after the log failed.
const LOG_RETRY: Duration = Duration::from_secs(5);

/// What every attempt of this process shares.
pub(super) struct Worker {
    pub(super) deps: Deps,
    pub(super) launcher: Launcher,
    pub(super) leases: Kv<LeaseNote>,
    pub(super) limits: InspectLimits,
    pub(super) toolchain: String,
    pub(super) room: Room,
}

/// Why an attempt did not come to its result.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broke {
    /// The child answered, or was found to have, a failure.
    #[error("{0}")]
    Failed(Failure),
    /// The log or the store failed, which says nothing about the source.
    #[error("{what}")]
    System {
        /// What was attempted.
        what: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

pub(super) fn system(what: &'static str) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> Broke {
    move |source| Broke::System { what, source }
}

/// One attempt: an order and everything that is said about it.
pub(super) struct Attempt<'a> {
    pub(super) worker: &'a Worker,
    pub(super) order: &'a Order,
    lease: &'a Lease,
    cause: &'a str,
    notes: Notes<'a>,
    /// Was something stated in this delivery?
    came_forward: AtomicBool,
}

impl Worker {
    /// Handles one delivery; hands it back when all is cut.
    pub(super) async fn handle(self: Arc<Self>, delivery: Delivery, stop: Stop) -> Decision {
        let Incoming::Order(order) = &delivery.message else {
            return Decision::Park { code: Code::Internal, why: "not an order".to_owned() };
        };
        let span =
            tracing::info_span!("order", asset.id = %order.asset, item = %order.job.item(), attempt = delivery.attempt);
        let attempt = Attempt {
            worker: &self,
            order,
            lease: &delivery.lease,
            cause: &delivery.id,
            notes: Notes::of(&self, order, delivery.attempt),
            came_forward: AtomicBool::new(false),
        };
        let _running = self.room.enter();
        let work = async {
            let mut before = Before { delivery: delivery.attempt, last: delivery.last_attempt, children: 0 };
            loop {
                let broke = match attempt.work().await {
                    Ok(decision) => return decision,
                    Err(broke) => broke,
                };
                match attempt.broke(broke, &mut before).await {
                    ControlFlow::Break(decision) => return decision,
                    ControlFlow::Continue(pause) => tokio::time::sleep(pause).await,
                }
            }
        };
        let work = async {
            tokio::select! {
                decision = work => decision,
                // The attempt is dropped by then, and its child killed.
                () = stop.cutting() => attempt.hand_back(delivery.attempt).await,
            }
        };
        tracing::Instrument::instrument(work, span).await
    }
}

impl Attempt<'_> {
    async fn work(&self) -> Result<Decision, Broke> {
        self.notes.recall().await;
        let asset = self.read().await?;
        let begun = self.worker.deps.clock.monotonic();
        match start(asset.as_ref(), self.order) {
            Start::Nothing(why) => {
                tracing::debug!(why, "nothing to do for this order");
                return Ok(Decision::Done);
            }
            Start::NotYet(why) => return Ok(Decision::Retry { after: NOT_YET_RETRY, why: why.to_owned() }),
            Start::Inspect { source } => self.inspect(&source).await?,
            Start::Video { encode, chunks } => self.video(&encode, chunks).await?,
            Start::Audio { encode, from_chunk } => self.sound(&encode, from_chunk).await?,
            Start::Still { encode, name } => self.still(&encode, name).await?,
        }
        self.notes.forget().await;
        let took = self.worker.deps.clock.monotonic().saturating_sub(begun);
        tracing::info!(took_ms = took.as_millis() as u64, "order done");
        Ok(Decision::Done)
    }

    async fn read(&self) -> Result<Option<Asset>, Broke> {
        let Order { tenant, asset, .. } = self.order;
        let facts = self.worker.deps.log.read_asset(tenant, asset, None).await;
        let facts = facts.map_err(|err| system("read the facts of the asset")(err.into()))?;
        Ok(Asset::fold(&facts))
    }

    async fn inspect(&self, source: &SourceRef) -> Result<(), Broke> {
        let (out, mut deliveries) = mpsc::channel(DELIVERIES_OPEN);
        let Job::Inspect(InspectOrder { verdict, max_duration_ms }) = self.order.job else { return Ok(()) };
        let order = order::Order::Inspect { limits: InspectLimits { max_duration_ms, ..self.worker.limits } };
        let run = self.worker.launcher.run(order, self.bytes_of(source), out);
        tokio::pin!(run);
        let finished = loop {
            tokio::select! {
                finished = &mut run => break finished,
                Some(delivery) = deliveries.recv() => match delivery {
                    attempt::Delivery::Quiet => self.waits(),
                    attempt::Delivery::Progress { .. }
                    | attempt::Delivery::Bytes { .. }
                    | attempt::Delivery::ObjectDone { .. }
                    | attempt::Delivery::FrameHash { .. } => self.moved(None).await,
                },
            }
        };
        let facts = match answer(finished)? {
            Answer::Inspected(facts) => facts,
            other @ (Answer::Encoded | Answer::Still(_) | Answer::Failed(_)) => {
                return Err(Broke::Failed(unexpected(&other)));
            }
        };
        self.append(Slot::UploadVerdict { verdict }, SourceAccepted { facts }.into()).await?;
        Ok(())
    }

    /// Appends a result, unless the asset is gone or its generation over by now. Does it still count?
    pub(super) async fn state(&self, encode: &Encode, slot: Slot, event: Event) -> Result<bool, Broke> {
        for over in [Slot::LifeDeleted, Slot::EncodeOutcome { generation: encode.generation }] {
            let Order { tenant, asset, .. } = self.order;
            let stands = self.worker.deps.log.read_slot(tenant, asset, &over).await;
            if stands.map_err(|err| system("ask whether the result still counts")(err.into()))?.is_some() {
                tracing::info!(%over, "result no longer counts, not stated");
                return Ok(false);
            }
        }
        self.append(slot, event).await.map(|()| true)
    }

    async fn append(&self, slot: Slot, event: Event) -> Result<(), Broke> {
        let draft = Draft {
            tenant: self.order.tenant.clone(),
            asset: self.order.asset.clone(),
            slot,
            event,
            cause: Some(self.cause.to_owned()),
            actor: None,
        };
        let appended = self.worker.deps.log.append(&draft).await;
        match appended.map_err(|err| system("append a fact")(err.into()))? {
            Appended::Written { sequence } => {
                self.came_forward.store(true, Ordering::Relaxed);
                tracing::info!(slot = %draft.slot, sequence, "stated {}", draft.event.kind().name());
            }
            // Another attempt was first. Its receipts count; the objects made here are orphans for the sweeper.
            Appended::Exists(fact) => {
                tracing::info!(slot = %draft.slot, sequence = fact.sequence, "the fact stands already")
            }
        }
        Ok(())
    }

    /// Decides what a broken attempt leads to, and states it if the lease is still held.
    ///
    /// Goes on with another attempt in this delivery after a pause, or says how the order is settled.
    async fn broke(&self, broke: Broke, before: &mut Before) -> ControlFlow<Decision, Duration> {
        let failure = match &broke {
            Broke::Failed(failure) => failure.clone(),
            Broke::System { what, source } => {
                tracing::warn!(error = source.as_ref() as &dyn std::error::Error, "could not {what}");
                let detail = format!("{what}: {}", chain(source.as_ref()));
                Failure::new(FailureCode::SourceUnreadable, detail.clone()).with("detail", detail)
            }
        };
        tracing::warn!(code = %failure.code, detail = %failure.detail, "attempt failed");
        if failure.code == FailureCode::ChildKilled {
            let children = self.worker.room.lost(self.worker.deps.clock.monotonic());
            tracing::warn!(
                children,
                "a child was ended from outside, maybe for want of memory: {children} may run at once"
            );
        }
        if !self.lease.is_held() {
            return ControlFlow::Break(Decision::Retry { after: LOG_RETRY, why: "the lease was lost".to_owned() });
        }
        // The span names both on every line.
        let trace = format!("{} {}", self.order.asset, self.order.job.item());
        ControlFlow::Break(match after(&failure, *before, &trace) {
            After::Again { after } => {
                before.children += 1;
                self.notes.failed(said(&failure), after).await;
                return ControlFlow::Continue(after);
            }
            After::Retry { after } => {
                self.notes.failed(said(&failure), after).await;
                Decision::Retry { after, why: failure.to_string() }
            }
            After::Source(end) => self.give_up(end, true).await,
            After::System(end) => self.give_up(end, false).await,
        })
    }

    async fn give_up(&self, GivenUp { problem, attempts }: GivenUp, source_at_fault: bool) -> Decision {
        let (code, attempts) = (problem.code, u32::try_from(attempts).unwrap_or(u32::MAX));
        let (slot, event): (Slot, Event) = match (self.order.job.item(), source_at_fault) {
            (Item::Inspect { verdict }, true) => (Slot::UploadVerdict { verdict }, SourceRejected { problem }.into()),
            (Item::Inspect { verdict }, false) => {
                (Slot::UploadVerdict { verdict }, CheckFailed { problem, attempts }.into())
            }
            (
                Item::Video { .. }
                | Item::Pass { .. }
                | Item::Audio { .. }
                | Item::AudioPass { .. }
                | Item::Still { .. },
                _,
            ) => (self.fault_slot(), JobGivenUp { problem, attempts }.into()),
        };
        if let Err(err) = self.append(slot, event).await {
            tracing::warn!(error = &err as &dyn std::error::Error, cause = ?err.source(), "could not state that the order is given up");
            return Decision::Retry { after: LOG_RETRY, why: err.to_string() };
        }
        self.notes.forget().await;
        if source_at_fault || self.goes_on().await {
            return Decision::Done;
        }
        Decision::Park { code, why: format!("given up after {attempts} attempts") }
    }

    /// The worker is told to stop at once: another one gets the order now, and not when its lease is over. That it was
    /// stopped says nothing about the order. Where something was stored the next delivery goes on from there, and the
    /// planner sees in the end that it came forward; else a fault says why this round ended, and a new round has all its
    /// deliveries before it.
    async fn hand_back(&self, delivery: u64) -> Decision {
        let item = self.order.job.item();
        let again = Decision::Retry { after: Duration::ZERO, why: "the worker was told to stop".to_owned() };
        if !self.lease.is_held() || !self.worker.deps.log.is_connected() {
            return again;
        }
        if self.came_forward.load(Ordering::Relaxed) {
            self.notes.forget().await;
            return again;
        }
        let problem = Problem::new(Code::WorkerStopped).with("item", &item);
        let attempts = u32::try_from(delivery).unwrap_or(u32::MAX);
        match self.append(self.fault_slot(), JobGivenUp { problem, attempts }.into()).await {
            Ok(()) => {
                self.notes.forget().await;
                Decision::Done
            }
            Err(err) => {
                tracing::warn!(error = &err as &dyn std::error::Error, "could not state that {item} is handed back");
                again
            }
        }
    }

    fn fault_slot(&self) -> Slot {
        let round = self.order.round;
        match self.order.job.item() {
            Item::Inspect { verdict } => Slot::InspectFault { verdict, round },
            item @ (Item::Video { .. }
            | Item::Pass { .. }
            | Item::Audio { .. }
            | Item::AudioPass { .. }
            | Item::Still { .. }) => Slot::EncodeFault { item, round },
        }
    }

    /// Does the order go on in a new round, now that this one is given up? Then there is nothing to be parked. Who can't
    /// ask parks: a message too many does no harm.
    async fn goes_on(&self) -> bool {
        let asset = self.read().await.ok().flatten();
        asset.is_some_and(|asset| asset.goes_on(&self.order.job.item(), self.order.round))
    }

    pub(super) fn bytes_of(&self, source: &SourceRef) -> Arc<PieceBytes> {
        let Order { tenant, asset, .. } = self.order;
        Arc::new(PieceBytes::new(SourceReader::new(self.worker.deps.store.clone(), tenant, asset, source)))
    }

    /// Nothing moves, and may not for a bounded while yet: the lease may be extended.
    pub(super) fn waits(&self) {
        self.lease.moved();
    }

    /// Work moved: the lease may be extended, and the note says how far it is.
    pub(super) async fn moved(&self, percent: Option<u32>) {
        self.lease.moved();
        self.notes.moved(percent).await;
    }
}

/// A failure as `explain` shows it: by the contract's code, for that of ours can name the source where the store failed.
fn said(failure: &Failure) -> String {
    format!("{}: {}", super::after::code(failure.code), failure.detail)
}

pub(super) fn answer(finished: Result<attempt::Finished, AttemptError>) -> Result<Answer, Broke> {
    let finished = finished.map_err(|err| match err {
        AttemptError::CageRefused(why) => {
            Broke::Failed(Failure::new(FailureCode::CageUnavailable, why.clone()).with("detail", why))
        }
        AttemptError::Start(err) => Broke::Failed(Failure::own(format!("start the media child: {err}"))),
        err @ (AttemptError::Source { .. } | AttemptError::ReceiverGone) => {
            system("carry the attempt through")(err.into())
        }
    })?;
    tracing::debug!(usage = ?finished.usage, said = %finished.said.trim(), "the media child ended");
    match finished.answer {
        Answer::Failed(failure) => Err(Broke::Failed(failure)),
        answer @ (Answer::Inspected(_) | Answer::Encoded | Answer::Still(_)) => Ok(answer),
    }
}

pub(super) fn unexpected(answer: &Answer) -> Failure {
    Failure::own(format!("the child gave an answer to another order: {answer:?}"))
}
