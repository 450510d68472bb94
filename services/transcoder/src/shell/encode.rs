//! The work of an encode: a child runs, what it makes is stored as it comes, and each chunk is stated when its last object
//! is there.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use spool_proto::event::{AudioStored, StillStored, VideoStored};
use spool_proto::job::Job;
use spool_proto::media::{NS_PER_S, Plan, Receipt, StillReceipt};
use spool_proto::slot::Slot;
use tokio::sync::mpsc;

use super::receive::{Allowed, ReceiveError, Received, Receiver};
use super::start::Encode;
use super::work::{Attempt, Broke, DELIVERIES_OPEN, answer, system, unexpected};
use crate::attempt;
use crate::order::{self, Answer, Failure};

impl Attempt<'_> {
    /// Chunks of the picture, in every rendition.
    pub(super) async fn video(&self, encode: &Encode, chunks: RangeInclusive<u32>) -> Result<(), Broke> {
        let (facts, plan) = (encode.facts.clone(), encode.plan.clone());
        let order = order::Order::Video { facts, plan, chunks: chunks.clone(), frame_hashes: false };
        let names = || encode.plan.rungs.iter().map(|rung| (rung.id.clone(), rung.max_bps));
        self.encode(encode, order, allow(&encode.plan, chunks, names), None).await
    }

    /// The sound, from a chunk to the end.
    pub(super) async fn sound(&self, encode: &Encode, from_chunk: u32) -> Result<(), Broke> {
        let order = order::Order::Audio { facts: encode.facts.clone(), plan: encode.plan.clone(), from_chunk };
        let names = || encode.plan.audio.iter().map(|audio| (audio.id.clone(), audio.bps));
        let chunks = from_chunk..=encode.plan.chunk_count().saturating_sub(1);
        self.encode(encode, order, allow(&encode.plan, chunks, names), None).await
    }

    /// A still picture.
    pub(super) async fn still(&self, encode: &Encode, name: String) -> Result<(), Broke> {
        let (facts, plan) = (encode.facts.clone(), encode.plan.clone());
        let order = order::Order::Still { facts, plan, name: name.clone() };
        let allowed = BTreeMap::from([((name.clone(), 0), Allowed { bytes: 0 })]);
        self.encode(encode, order, allowed, Some(name)).await
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
            if !self.deliver(encode, &mut receiver, &mut chunks, delivery).await? {
                // Nobody wants the rest: the child ends with the future that runs it.
                return Ok(());
            }
        }
        let finished = match finished {
            Some(finished) => finished,
            None => run.await,
        };
        self.conclude(encode, receiver, answer(finished)?, still).await
    }

    /// One delivery of the child: noted, stored, stated. Does what comes still count?
    async fn deliver(
        &self,
        encode: &Encode,
        receiver: &mut Receiver<'_>,
        chunks: &mut Chunks,
        delivery: attempt::Delivery,
    ) -> Result<bool, Broke> {
        let at_ns = match &delivery {
            attempt::Delivery::Quiet => {
                self.waits();
                return Ok(true);
            }
            attempt::Delivery::Progress { at_ns } => Some(*at_ns),
            attempt::Delivery::Bytes { .. }
            | attempt::Delivery::ObjectDone { .. }
            | attempt::Delivery::FrameHash { .. } => None,
        };
        self.moved(at_ns.map(|at| percent(&encode.plan, at))).await;
        match receiver.take(delivery).await.map_err(receive_broke)? {
            Received::Object { rendition, chunk, receipt, missing_ms } => {
                tracing::trace!(rendition, chunk, bytes = receipt.length, "stored a chunk of a rendition");
                self.object(encode, chunks, chunk, (receipt, missing_ms)).await
            }
            Received::More => Ok(true),
        }
    }

    /// The child has answered: is all there that was ordered? A still is stated here.
    async fn conclude(
        &self,
        encode: &Encode,
        mut receiver: Receiver<'_>,
        answer: Answer,
        still: Option<String>,
    ) -> Result<(), Broke> {
        match (answer, still) {
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
            Job::Audio(audio) | Job::AudioPass(audio) => {
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
    chunks: RangeInclusive<u32>,
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

fn receive_broke(err: ReceiveError) -> Broke {
    match err {
        ReceiveError::Child(failure) => Broke::Failed(failure),
        ReceiveError::Store(source) => system("store an object")(source.into()),
    }
}
