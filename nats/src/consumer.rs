//! A durable consumer that steps: fetch, decode, handle, settle.
//!
//! Only as many messages are fetched as are handled at once, so none waits here while its lease runs. To drain, let the last step end and call no
//! further one. Settling is confirmed by the server; a plain acknowledgement can be lost in silence.

use std::time::Duration;

use async_nats::Message;
use bytes::Bytes;
use futures_util::future::join_all;
use serde::Deserialize;
use spool_proto::subject::ParkedSubject;
use spool_proto::{Code, envelope};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::api::{self, Delivered, code};
use crate::connect::Log;
use crate::delivery::{Decision, Delivery, Fetched, Incoming, Wait, decode};
use crate::lease::Lease;
use crate::message::first;
use crate::parked::Note;
use crate::request::{ANSWER, Failure, about};
use crate::streams::{ConsumerName, nanos};
use crate::trace;

/// A worker of a later version gets an order that this one can't read after this.
const UNREADABLE_RETRY: Duration = Duration::from_secs(10);

/// The consumer can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// It does not exist.
    #[error("consumer {consumer} of {stream} does not exist: run `spool streams apply`")]
    Missing {
        /// Stream.
        stream: &'static str,
        /// Consumer.
        consumer: &'static str,
    },
    /// The server could not be asked, or said no.
    #[error("look up consumer {consumer} of {stream}")]
    Failed {
        /// Stream.
        stream: &'static str,
        /// Consumer.
        consumer: &'static str,
        /// Why.
        #[source]
        source: Failure,
    },
}

/// A step could not fetch.
#[derive(Debug, thiserror::Error)]
#[error("fetch from {consumer} of {stream}")]
pub struct StepError {
    /// Stream.
    pub stream: &'static str,
    /// Consumer.
    pub consumer: &'static str,
    /// Why.
    #[source]
    pub source: Failure,
}

/// A durable consumer.
pub struct Durable {
    log: Log,
    which: ConsumerName,
    lease: Duration,
    /// How long the server waits for the holder of each delivery, where that grows.
    leases: Vec<Duration>,
    max_deliver: Option<u64>,
}

impl Log {
    /// The durable consumer of that name; it must have been provisioned.
    ///
    /// # Errors
    /// When it is missing or can't be asked for.
    pub async fn consumer(&self, which: ConsumerName) -> Result<Durable, ConsumerError> {
        #[derive(Deserialize)]
        struct Info {
            config: Config,
        }
        #[derive(Deserialize)]
        struct Config {
            ack_wait: u64,
            #[serde(default)]
            backoff: Vec<u64>,
            #[serde(default)]
            max_deliver: i64,
        }
        let (stream, consumer) = (which.stream(), which.name());
        let info: Result<Info, Failure> = self.ask_again(&api::consumer_info(stream, consumer), Bytes::new()).await;
        let config = match info {
            Ok(info) => info.config,
            Err(failure) if matches!(failure.code(), Some(code::NO_STREAM | code::NO_CONSUMER)) => {
                return Err(ConsumerError::Missing { stream, consumer });
            }
            Err(source) => return Err(ConsumerError::Failed { stream, consumer, source }),
        };
        Ok(Durable {
            log: self.clone(),
            which,
            lease: Duration::from_nanos(config.ack_wait),
            leases: config.backoff.into_iter().map(Duration::from_nanos).collect(),
            max_deliver: u64::try_from(config.max_deliver).ok().filter(|max| *max > 0),
        })
    }
}

impl Durable {
    /// Fetches up to `max` messages, calls `handle` for each (up to `max` at once), settles each as decided. A message that can't be decoded is parked
    /// with its code. Returns how many came. A message whose settling failed comes again: that is logged and no error.
    ///
    /// # Errors
    /// When nothing could be fetched.
    pub async fn step<F, Fut>(&self, max: usize, wait: Wait, handle: F) -> Result<usize, StepError>
    where
        F: Fn(Delivery) -> Fut,
        Fut: Future<Output = Decision>,
    {
        let fetched = self.fetch(max, wait).await.map_err(|source| StepError {
            stream: self.which.stream(),
            consumer: self.which.name(),
            source,
        })?;
        let running = fetched.iter().map(|fetched| self.work(fetched, &handle));
        Ok(join_all(running).await.len())
    }

    /// How long a lease lasts without an extension. Later deliveries of a message have longer ones on the server, which
    /// nobody counts on.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// Takes what is there; waits for one message when there is nothing and it may wait.
    async fn fetch(&self, max: usize, wait: Wait) -> Result<Vec<Fetched>, Failure> {
        let mut fetched = self.pull(&Pull { batch: max, expires: None }).await?;
        let Wait::Upto(expires) = wait else { return Ok(fetched) };
        if fetched.is_empty() {
            // One only: a server that waits until a batch is full would keep the first ones waiting.
            fetched = self.pull(&Pull { batch: 1, expires: Some(expires) }).await?;
            if !fetched.is_empty() && max > 1 {
                fetched.extend(self.pull(&Pull { batch: max - 1, expires: None }).await?);
            }
        }
        Ok(fetched)
    }

    async fn pull(&self, pull: &Pull) -> Result<Vec<Fetched>, Failure> {
        let subject = api::consumer_next(self.which.stream(), self.which.name());
        let mut fetched = Vec::new();
        let mut awake = Awake::new(Instant::now());
        let mut replies = self.log.open(&subject, pull.body()).await?;
        let deadline = Instant::now() + pull.expires.unwrap_or_default() + ANSWER;
        while fetched.len() < pull.batch && Instant::now() < deadline {
            let next = replies.next(Awake::EVERY).await?;
            let since = awake.tick(Instant::now());
            let Some(message) = next else { continue };
            match message.status.map(|status| status.as_u16()) {
                None => fetched.extend(self.fetched(message, since)),
                // Nothing there, or not before the time was over, or not more than that.
                Some(404 | 408) => return Ok(fetched),
                Some(100) => {}
                Some(status) => {
                    let description = message.description.unwrap_or_default();
                    if !fetched.is_empty() || status == 409 {
                        // What came is worked on; the next pull meets the same trouble, if it lasts.
                        tracing::debug!(consumer = self.which.name(), status, "a pull ended: {description}");
                        return Ok(fetched);
                    }
                    return Err(Failure::Refused { subject, code: status.into(), description });
                }
            }
        }
        Ok(fetched)
    }

    fn fetched(&self, message: Message, since: Instant) -> Option<Fetched> {
        let reply = message.reply.as_ref()?.to_string();
        let delivered = api::delivered(&reply)?;
        Some(Fetched { message, reply, delivered, lease: Lease::new(self.lease, since) })
    }

    /// Decodes, handles, settles. The lease is kept beside the handler, in the same task, so that a task that hangs loses it.
    async fn work<F, Fut>(&self, fetched: &Fetched, handle: &F)
    where
        F: Fn(Delivery) -> Fut,
        Fut: Future<Output = Decision>,
    {
        let decision = match decode(self.which, fetched) {
            Ok(incoming) => {
                let delivery = self.delivery(fetched, incoming);
                let span = span(self.which, &delivery);
                let traceparent = delivery.traceparent.clone();
                let work = trace::scope(traceparent, handle(delivery)).instrument(span);
                tokio::select! {
                    decision = work => decision,
                    () = fetched.lease.keep(&self.log, &fetched.reply) => return,
                }
            }
            Err((code, why)) => self.unreadable(code, why),
        };
        if let Err(error) = self.settle(fetched, decision).await {
            let (consumer, sequence) = (self.which.name(), fetched.delivered.sequence);
            tracing::warn!(
                consumer,
                sequence,
                error = &*error,
                "message {sequence} of {consumer} could not be settled; it comes again"
            );
        }
    }

    /// An order of a later version is left to a worker of that version: it uses up its deliveries, and then its planner
    /// says what becomes of the asset. Whatever else can't be read is parked.
    fn unreadable(&self, code: Code, why: String) -> Decision {
        match self.which {
            ConsumerName::Lane(_) => Decision::Retry { after: UNREADABLE_RETRY, why },
            ConsumerName::Planner
            | ConsumerName::PlannerTimers
            | ConsumerName::PlannerAdvisories
            | ConsumerName::Publisher
            | ConsumerName::Sweeper
            | ConsumerName::Ingest
            | ConsumerName::IngestAdvisories => Decision::Park { code, why },
        }
    }

    fn delivery(&self, fetched: &Fetched, message: Incoming) -> Delivery {
        let Delivered { attempt, sequence } = fetched.delivered;
        let headers = fetched.message.headers.as_ref();
        let header = |name| headers.and_then(|headers| first(headers, name)).map(str::to_owned);
        let id = match &message {
            Incoming::Fact(fact) => fact.id.to_string(),
            Incoming::Order(order) => order.message_id(),
            // A publisher's own id may be anybody's name, and causes stay in facts for ever.
            Incoming::Ingest { .. } => format!("{}:{sequence}", self.which.stream()),
            Incoming::Tick { .. } | Incoming::GivenUp { .. } => {
                header(envelope::MSG_ID).unwrap_or_else(|| format!("{}:{sequence}", self.which.stream()))
            }
        };
        Delivery {
            message,
            id,
            attempt,
            last_attempt: self.max_deliver.is_some_and(|max| attempt >= max),
            sequence,
            lease: fetched.lease.clone(),
            traceparent: header(envelope::TRACEPARENT),
        }
    }

    /// Tells the server. Who lost the lease settles nothing but a result: a late NAK would take the message from its new holder.
    async fn settle(&self, fetched: &Fetched, decision: Decision) -> Result<(), Unsettled> {
        let (consumer, sequence) = (self.which.name(), fetched.delivered.sequence);
        match decision {
            Decision::Done => self.confirm(fetched, Bytes::from_static(api::ACK)).await,
            Decision::Retry { .. } | Decision::Park { .. } if !fetched.lease.is_held() => {
                tracing::warn!(
                    consumer,
                    sequence,
                    "message {sequence} of {consumer} belongs to another by now; {decision:?} is dropped"
                );
                Ok(())
            }
            Decision::Retry { after, why } => {
                tracing::info!(
                    consumer,
                    sequence,
                    why,
                    "message {sequence} of {consumer} comes again in {after:?}: {why}"
                );
                let delay = nak_delay(after, self.lease, &self.leases, fetched.delivered.attempt);
                let nak = serde_json::json!({ "delay": delay });
                self.confirm(fetched, format!("-NAK {nak}").into()).await
            }
            Decision::Park { code, why } => {
                tracing::error!(consumer, sequence, code = %code, why, "message {sequence} of {consumer} is parked as {code}: {why}");
                self.log.park(&self.note(fetched, code, &why)).await?;
                self.confirm(fetched, Bytes::from_static(api::ACK)).await
            }
        }
    }

    /// Settles, and waits for the server's word that it is settled.
    async fn confirm(&self, fetched: &Fetched, word: Bytes) -> Result<(), Unsettled> {
        for pause in SETTLE_PAUSES {
            match self.log.call(&fetched.reply, None, word.clone()).await {
                Ok(_) => return Ok(()),
                Err(failure) if failure.is_transient() => about(pause).await,
                Err(failure) => return Err(failure.into()),
            }
        }
        self.log.call(&fetched.reply, None, word).await?;
        Ok(())
    }

    fn note(&self, fetched: &Fetched, code: Code, why: &str) -> Note {
        Note {
            from: ParkedSubject {
                stream: self.which.stream().to_owned(),
                consumer: self.which.name().to_owned(),
                sequence: fetched.delivered.sequence,
            },
            code,
            why: why.to_owned(),
            attempts: fetched.delivered.attempt,
            subject: fetched.message.subject.to_string(),
            headers: fetched.message.headers.clone().unwrap_or_default(),
            body: fetched.message.payload.clone(),
        }
    }
}

/// The delay to ask for so that a message comes again `after` its delivery number `attempt`. The server counts a delay from the
/// end of a *first* lease and then waits for the end of *this* one, so that the difference has to be taken off, also below zero
/// (tried on 2.15.1; a test of retries would see a server that does otherwise).
fn nak_delay(after: Duration, first: Duration, leases: &[Duration], attempt: u64) -> i64 {
    let place = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    let this = leases.get(place).or(leases.last()).copied().unwrap_or(first);
    let signed = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
    signed(after).saturating_sub(signed(this).saturating_sub(signed(first)))
}

type Unsettled = Box<dyn std::error::Error + Send + Sync>;

/// Pauses between the tries to settle a message.
const SETTLE_PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];

/// What is asked of a consumer.
struct Pull {
    batch: usize,
    /// Nothing: only what is there.
    expires: Option<Duration>,
}

impl Pull {
    fn body(&self) -> String {
        match self.expires {
            None => serde_json::json!({ "batch": self.batch, "no_wait": true }),
            Some(expires) => serde_json::json!({ "batch": self.batch, "expires": nanos(expires) }),
        }
        .to_string()
    }
}

/// Since when a message that arrives now may have been on its way. A process that was stopped finds messages that were given to it long ago, so it keeps
/// looking at the clock while it waits, and after a pause it goes by the time before it.
struct Awake {
    last: Instant,
    paused: bool,
}

impl Awake {
    const EVERY: Duration = Duration::from_secs(1);

    fn new(now: Instant) -> Awake {
        Awake { last: now, paused: false }
    }

    /// It is `now`; the moment from which the lease of a message that came now counts.
    fn tick(&mut self, now: Instant) -> Instant {
        self.paused |= now.saturating_duration_since(self.last) > Self::EVERY * 3;
        let since = self.last;
        if !self.paused {
            self.last = now;
        }
        since
    }
}

fn span(which: ConsumerName, delivery: &Delivery) -> tracing::Span {
    let asset = match &delivery.message {
        Incoming::Fact(fact) => Some(fact.asset.as_str()),
        Incoming::Order(order) => Some(order.asset.as_str()),
        Incoming::Tick { asset, .. } => Some(asset.as_str()),
        Incoming::Ingest { .. } | Incoming::GivenUp { .. } => None,
    };
    tracing::info_span!(
        "handle",
        consumer = which.name(),
        asset.id = asset,
        event.id = delivery.id,
        attempt = delivery.attempt,
        trace.id = delivery.traceparent.as_deref().and_then(trace::id),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_what_was_asked_for_whatever_lease_the_delivery_has() {
        let seconds = Duration::from_secs;
        let leases = [30, 60, 120, 240].map(seconds);
        let delay = |attempt| nak_delay(seconds(5), seconds(30), &leases, attempt) / 1_000_000_000;
        assert_eq!([1, 2, 3, 4, 5, 9].map(delay), [5, -25, -85, -205, -205, -205]);
        assert_eq!(nak_delay(seconds(5), seconds(30), &[], 3), 5_000_000_000);
    }

    #[test]
    fn a_message_found_after_a_pause_counts_from_before_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut awake = Awake::new(start);
        assert_eq!(awake.tick(at(1)), start);
        assert_eq!(awake.tick(at(2)), at(1));
        // Stopped for a minute; whichever is seen first after it, the clock or the message, the message is old.
        assert_eq!(awake.tick(at(62)), at(2));
        assert_eq!(awake.tick(at(63)), at(2));
    }
}
