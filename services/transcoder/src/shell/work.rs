//! One delivery of an order, from the log to the log: ask what it means, let a child work, store, state, answer.
//!
//! It may run twice, late and after a crash at any line: the slots are asked before the work and decide after it, keys end
//! in an attempt token, and a worker whose lease is not confirmed states nothing but results.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use spool_kit::source::SourceReader;
use spool_nats::{Appended, Decision, Delivery, Incoming, Kv, Lease};
use spool_proto::Code;
use spool_proto::asset::Asset;
use spool_proto::event::{
    AudioStored, CheckFailed, Draft, Event, JobGivenUp, SourceAccepted, SourceRejected, StillStored, VideoStored,
};
use spool_proto::job::{InspectOrder, Job, Order};
use spool_proto::lease::{self, LeaseNote};
use spool_proto::media::{NS_PER_S, Plan, Receipt, SourceRef, StillReceipt};
use spool_proto::slot::{Item, Slot};
use spool_proto::time::Timestamp;
use tokio::sync::mpsc;

use super::after::{After, Before, GivenUp, after};
use super::receive::{Allowed, ReceiveError, Received, Receiver};
use super::start::{Encode, Start, start};
use super::{Deps, source::PieceBytes};
use crate::attempt::{self, AttemptError, Launcher};
use crate::order::{self, Answer, Failure, FailureCode, InspectLimits};

/// Deliveries of a child that may wait for the store.
const DELIVERIES_OPEN: usize = 16;
/// Pause before an order is asked again whose facts are not there yet.
const NOT_YET_RETRY: Duration = Duration::from_secs(2);
/// Pause before an order is tried again after the log failed.
const LOG_RETRY: Duration = Duration::from_secs(5);
/// How often a note about a running attempt is written at most.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// What every attempt of this process shares.
pub(super) struct Worker {
    pub(super) deps: Deps,
    pub(super) launcher: Launcher,
    pub(super) leases: Kv<LeaseNote>,
    pub(super) limits: InspectLimits,
    pub(super) toolchain: String,
}

/// Why an attempt did not come to its result.
#[derive(Debug, thiserror::Error)]
enum Broke {
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

fn system(what: &'static str) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> Broke {
    move |source| Broke::System { what, source }
}

/// One attempt: an order and everything that is said about it.
struct Attempt<'a> {
    worker: &'a Worker,
    order: &'a Order,
    lease: &'a Lease,
    cause: &'a str,
    number: u64,
    since: Timestamp,
    noted: std::sync::Mutex<Option<Duration>>,
    /// What ended the attempt before, so that a running one still shows it.
    earlier: std::sync::OnceLock<String>,
}

impl Worker {
    /// Handles one delivery.
    pub(super) async fn handle(self: Arc<Self>, delivery: Delivery) -> Decision {
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
            number: delivery.attempt,
            since: self.deps.clock.now(),
            noted: std::sync::Mutex::new(None),
            earlier: std::sync::OnceLock::new(),
        };
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
        tracing::Instrument::instrument(work, span).await
    }
}

impl Attempt<'_> {
    async fn work(&self) -> Result<Decision, Broke> {
        self.recall().await;
        let asset = self.read().await?;
        let begun = self.worker.deps.clock.monotonic();
        match start(asset.as_ref(), self.order) {
            Start::Nothing(why) => {
                tracing::debug!(why, "nothing to do for this order");
                return Ok(Decision::Done);
            }
            Start::NotYet(why) => return Ok(Decision::Retry { after: NOT_YET_RETRY, why: why.to_owned() }),
            Start::Inspect { source } => self.inspect(&source).await?,
            Start::Video { encode, chunks } => {
                let order = order::Order::Video {
                    facts: encode.facts.clone(),
                    plan: encode.plan.clone(),
                    chunks: chunks.clone(),
                    frame_hashes: false,
                };
                let names = || encode.plan.rungs.iter().map(|rung| (rung.id.clone(), rung.max_bps));
                let allowed = allow(&encode.plan, chunks, names);
                self.encode(&encode, order, allowed, None).await?;
            }
            Start::Audio { encode, from_chunk } => {
                let order = order::Order::Audio { facts: encode.facts.clone(), plan: encode.plan.clone(), from_chunk };
                let names = || encode.plan.audio.iter().map(|audio| (audio.id.clone(), audio.bps));
                let allowed = allow(&encode.plan, from_chunk..=encode.plan.chunk_count().saturating_sub(1), names);
                self.encode(&encode, order, allowed, None).await?;
            }
            Start::Still { encode, name } => {
                let order =
                    order::Order::Still { facts: encode.facts.clone(), plan: encode.plan.clone(), name: name.clone() };
                let allowed = BTreeMap::from([((name.clone(), 0), Allowed { bytes: 0 })]);
                self.encode(&encode, order, allowed, Some(name)).await?;
            }
        }
        self.forget_note().await;
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
                Some(_) = deliveries.recv() => self.moved(None).await,
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

    /// Runs the child of an encode and states what it makes. `still` names the picture where that is what is made.
    async fn encode(
        &self,
        encode: &Encode,
        order: order::Order,
        allowed: BTreeMap<(String, u32), Allowed>,
        still: Option<String>,
    ) -> Result<(), Broke> {
        let deps = &self.worker.deps;
        let (out, mut deliveries) = mpsc::channel(DELIVERIES_OPEN);
        let run = self.worker.launcher.run(order, self.bytes_of(&encode.source), out);
        tokio::pin!(run);
        let mut receiver = Receiver {
            store: &deps.store,
            ids: &deps.ids,
            tenant: &self.order.tenant,
            asset: &self.order.asset,
            generation: encode.generation,
            allowed,
            still: still.is_some(),
            toolchain: self.worker.toolchain.clone(),
            open: BTreeMap::new(),
        };
        let mut chunks = Chunks { made: BTreeMap::new(), since: deps.clock.monotonic() };
        let mut finished = None;
        loop {
            let delivery = tokio::select! {
                // Deliveries first, and after the end those that still wait: what was made counts.
                biased;
                delivery = deliveries.recv() => match delivery {
                    Some(delivery) => delivery,
                    None => break,
                },
                ended = &mut run, if finished.is_none() => {
                    finished = Some(ended);
                    deliveries.close();
                    continue;
                }
            };
            let at_ns = match &delivery {
                attempt::Delivery::Progress { at_ns } => Some(*at_ns),
                attempt::Delivery::Bytes { .. }
                | attempt::Delivery::ObjectDone { .. }
                | attempt::Delivery::FrameHash { .. } => None,
            };
            self.moved(at_ns.map(|at| percent(&encode.plan, at))).await;
            if let Received::Object { rendition, chunk, receipt, missing_ms } =
                receiver.take(delivery).await.map_err(receive_broke)?
            {
                tracing::trace!(rendition, chunk, bytes = receipt.length, "stored a chunk of a rendition");
                if !self.object(encode, &mut chunks, chunk, (receipt, missing_ms)).await? {
                    // Nobody wants the rest: the child ends with the future that runs it.
                    return Ok(());
                }
            }
        }
        let finished = match finished {
            Some(finished) => finished,
            None => run.await,
        };
        match (answer(finished)?, still) {
            (Answer::Encoded, None) if receiver.allowed.is_empty() => Ok(()),
            (Answer::Encoded, None) => {
                let missing: Vec<_> = receiver.allowed.keys().collect();
                Err(Broke::Failed(Failure::own(format!("the child ended without {missing:?}"))))
            }
            (Answer::Still(made), Some(name)) => {
                let (key, stored) = receiver.still(&name).await.map_err(receive_broke)?;
                let receipt = StillReceipt {
                    name: name.clone(),
                    key: key.to_string(),
                    length: stored.size_bytes,
                    sha256: stored.sha256,
                    width: made.width,
                    height: made.height,
                    content_type: "image/jpeg".to_owned(),
                };
                let slot = Slot::EncodeStill { generation: encode.generation, name };
                self.state(encode, slot, StillStored { receipt }.into()).await.map(drop)
            }
            (other, _) => Err(Broke::Failed(unexpected(&other))),
        }
    }

    /// An object is stored: states its chunk when it was the last one missing. Does what comes still count?
    async fn object(
        &self,
        encode: &Encode,
        chunks: &mut Chunks,
        chunk: u32,
        (receipt, missing_ms): (Receipt, u64),
    ) -> Result<bool, Broke> {
        let now = self.worker.deps.clock.monotonic();
        match &self.order.job {
            Job::Audio(audio) => {
                let encode_ms = chunks.lap(now);
                let slot = Slot::EncodeAudio { generation: encode.generation, track: audio.track, chunk };
                self.state(encode, slot, AudioStored { receipt, encode_ms, missing_ms }.into()).await
            }
            Job::Video(_) | Job::Pass(_) => {
                let made = chunks.made.entry(chunk).or_default();
                made.push(receipt);
                if made.len() < encode.plan.rungs.len() {
                    return Ok(true);
                }
                let made = chunks.made.remove(&chunk).unwrap_or_default();
                let encode_ms = chunks.lap(now);
                let receipts = in_ladder_order(&encode.plan, made);
                let slot = Slot::EncodeVideo { generation: encode.generation, chunk };
                self.state(encode, slot, VideoStored { receipts, encode_ms, missing_ms }.into()).await
            }
            Job::Inspect(_) | Job::Still(_) => Ok(true),
        }
    }

    /// Appends a result, unless the asset is gone or its generation over by now. Does it still count?
    async fn state(&self, encode: &Encode, slot: Slot, event: Event) -> Result<bool, Broke> {
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
        if !self.lease.is_held() {
            return ControlFlow::Break(Decision::Retry { after: LOG_RETRY, why: "the lease was lost".to_owned() });
        }
        // The span names both on every line.
        let trace = format!("{} {}", self.order.asset, self.order.job.item());
        ControlFlow::Break(match after(&failure, *before, &trace) {
            After::Again { after } => {
                before.children += 1;
                self.note(None, Some(failure.to_string()), Some(after)).await;
                // The first one to say so stays.
                let _ = self.earlier.set(failure.to_string());
                return ControlFlow::Continue(after);
            }
            After::Retry { after } => {
                self.note(None, Some(failure.to_string()), Some(after)).await;
                Decision::Retry { after, why: failure.to_string() }
            }
            After::Source(end) => self.give_up(end, true).await,
            After::System(end) => self.give_up(end, false).await,
        })
    }

    async fn give_up(&self, GivenUp { problem, attempts }: GivenUp, source_at_fault: bool) -> Decision {
        let (code, attempts) = (problem.code, u32::try_from(attempts).unwrap_or(u32::MAX));
        let round = self.order.round;
        let (slot, event): (Slot, Event) = match (self.order.job.item(), source_at_fault) {
            (Item::Inspect { verdict }, true) => (Slot::UploadVerdict { verdict }, SourceRejected { problem }.into()),
            (Item::Inspect { verdict }, false) => {
                (Slot::UploadVerdict { verdict }, CheckFailed { problem, attempts }.into())
            }
            (item @ (Item::Video { .. } | Item::Pass { .. } | Item::Audio { .. } | Item::Still { .. }), _) => {
                (Slot::EncodeFault { item, round }, JobGivenUp { problem, attempts }.into())
            }
        };
        if let Err(err) = self.append(slot, event).await {
            tracing::warn!(error = &err as &dyn std::error::Error, cause = ?err.source(), "could not state that the order is given up");
            return Decision::Retry { after: LOG_RETRY, why: err.to_string() };
        }
        self.forget_note().await;
        if source_at_fault {
            return Decision::Done;
        }
        Decision::Park { code, why: format!("given up after {attempts} attempts") }
    }

    fn bytes_of(&self, source: &SourceRef) -> Arc<PieceBytes> {
        let Order { tenant, asset, .. } = self.order;
        Arc::new(PieceBytes::new(SourceReader::new(self.worker.deps.store.clone(), tenant, asset, source)))
    }

    /// Work moved: the lease may be extended, and now and then the note says how far it is.
    async fn moved(&self, percent: Option<u32>) {
        self.lease.moved();
        let now = self.worker.deps.clock.monotonic();
        let due = {
            let Ok(mut noted) = self.noted.lock() else { return };
            let due = noted.is_none_or(|last| now.saturating_sub(last) >= NOTE_EVERY);
            if due {
                *noted = Some(now);
            }
            due
        };
        if due {
            self.note(percent, None, None).await;
        }
    }

    async fn note(&self, percent: Option<u32>, last_error: Option<String>, retry_after: Option<Duration>) {
        let now = self.worker.deps.clock.now();
        let note = LeaseNote {
            holder: self.worker.deps.holder.clone(),
            attempt: self.number,
            since: self.since,
            updated_at: now,
            progress_percent: percent,
            last_error: last_error.or_else(|| self.earlier.get().cloned()),
            next_try: retry_after.map(|after| now.plus(after)),
        };
        // A note is for `explain` alone; work goes on without it.
        if let Err(err) = self.worker.leases.put(&self.note_key(), &note).await {
            tracing::debug!(error = &err as &dyn std::error::Error, "could not note the lease");
        }
    }

    /// Reads what the attempt before left. Only for `explain`: work goes on without it.
    async fn recall(&self) {
        if self.number > 1
            && let Ok(Some(note)) = self.worker.leases.get(&self.note_key()).await
            && let Some(error) = note.value.last_error
        {
            // The first one to say so: an attempt recalls once.
            let _ = self.earlier.set(error);
        }
    }

    async fn forget_note(&self) {
        if let Err(err) = self.worker.leases.delete(&self.note_key(), None).await {
            tracing::debug!(error = &err as &dyn std::error::Error, "could not remove the note of the lease");
        }
    }

    fn note_key(&self) -> String {
        lease::key(&self.order.tenant, &self.order.asset, &self.order.job.item())
    }
}

/// An error with all that it came from, in one line.
fn chain(err: &(dyn std::error::Error + 'static)) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        text = format!("{text}: {err}");
        cause = err.source();
    }
    text
}

/// Renditions of chunks that are not complete yet.
struct Chunks {
    made: BTreeMap<u32, Vec<Receipt>>,
    since: Duration,
}

impl Chunks {
    /// Milliseconds since the last chunk.
    fn lap(&mut self, now: Duration) -> u64 {
        let took = now.saturating_sub(self.since);
        self.since = now;
        u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The objects that an order may make, with their sizes by the plan's rates.
fn allow<I: Iterator<Item = (String, u64)>>(
    plan: &Plan,
    chunks: std::ops::RangeInclusive<u32>,
    renditions: impl Fn() -> I,
) -> BTreeMap<(String, u32), Allowed> {
    let mut allowed = BTreeMap::new();
    for chunk in chunks {
        let (start, end) = plan.chunk_span_ns(chunk);
        let seconds = end.saturating_sub(start).div_ceil(NS_PER_S);
        for (name, bps) in renditions() {
            // Twice the rate: a rate buffer may empty, and short chunks start full.
            allowed.insert((name, chunk), Allowed { bytes: seconds.saturating_mul(bps) / 8 * 2 });
        }
    }
    allowed
}

fn in_ladder_order(plan: &Plan, mut made: Vec<Receipt>) -> Vec<Receipt> {
    let place = |receipt: &Receipt| plan.rungs.iter().position(|rung| rung.id == receipt.rendition);
    made.sort_by_key(place);
    made
}

fn percent(plan: &Plan, at_ns: u64) -> u32 {
    (at_ns.saturating_mul(100) / plan.duration_ns().max(1)).min(100) as u32
}

fn answer(finished: Result<attempt::Finished, AttemptError>) -> Result<Answer, Broke> {
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

fn unexpected(answer: &Answer) -> Failure {
    Failure::own(format!("the child gave an answer to another order: {answer:?}"))
}

fn receive_broke(err: ReceiveError) -> Broke {
    match err {
        ReceiveError::Child(failure) => Broke::Failed(failure),
        ReceiveError::Store(source) => system("store an object")(source.into()),
    }
}
