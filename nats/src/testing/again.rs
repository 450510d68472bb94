//! Everything once more: what was published is heard, sent again as it was, delivered again from the first message; and
//! the server's own counts. As admin, who alone may.

use std::sync::{Arc, Mutex, PoisonError};

use async_nats::Message;
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::Value;
use spool_proto::subject;
use tokio::task::JoinHandle;

use crate::api;
use crate::kv::Bucket;
use crate::request::{Failure, Stood};
use crate::streams::ConsumerName;
use crate::{Log, provision};

use super::{Instant, PATIENCE, TestServer};

/// What admin may hear of what the roles publish. Ticks that are due are the server's own and not heard.
const HEARD: [&str; 7] = [
    subject::EVENTS,
    subject::JOBS,
    subject::TIMERS_SET,
    subject::TEXTS,
    subject::INGEST,
    subject::PARKED,
    "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>",
];

/// Hears every message from its making on.
pub struct Ears {
    heard: Arc<Mutex<Vec<Heard>>>,
    tasks: Vec<JoinHandle<()>>,
}

/// A message as it was published.
#[derive(Clone)]
pub struct Heard(Message);

impl Heard {
    /// Where to.
    pub fn subject(&self) -> &str {
        self.0.subject.as_str()
    }
}

/// What the server said to a message that was sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is in its stream once more, or in the place of its twin.
    Stored,
    /// Its id was known.
    Duplicate,
    /// Something stands on its subject; the server's code.
    Refused(u64),
}

impl Ears {
    /// Begins to listen; whatever is published after this returns is heard.
    pub async fn open(log: &Log) -> Ears {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for subject in HEARD {
            let mut messages = log.client().subscribe(subject).await.expect("subscribe");
            let heard = Arc::clone(&heard);
            tasks.push(tokio::spawn(async move {
                while let Some(message) = messages.next().await {
                    heard.lock().unwrap_or_else(PoisonError::into_inner).push(Heard(message));
                }
            }));
        }
        log.client().flush().await.expect("flush");
        for bucket in Bucket::ALL {
            tasks.push(hear_bucket(log, bucket, Arc::clone(&heard)).await);
        }
        Ears { heard, tasks }
    }

    /// What was heard so far. Each subscription is in order; between them order is not kept.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Values of a bucket are no business of admin's and not heard; the server hands them out as they are stored.
async fn hear_bucket(log: &Log, bucket: Bucket, heard: Arc<Mutex<Vec<Heard>>>) -> JoinHandle<()> {
    let inbox = log.client().new_inbox();
    let mut messages = log.client().subscribe(inbox.clone()).await.expect("subscribe");
    let (stream, name) = (bucket.stream(), "ears");
    let config = serde_json::json!({
        "name": name, "deliver_subject": inbox, "deliver_policy": "all", "ack_policy": "none", "mem_storage": true,
    });
    let body = serde_json::json!({ "stream_name": stream, "config": config, "action": "create" });
    let made: Result<Value, Failure> =
        log.ask_again(&api::consumer_create(stream, name), body.to_string().into()).await;
    made.unwrap_or_else(|error| panic!("hear {}: {error:?}", bucket.name()));
    tokio::spawn(async move {
        while let Some(message) = messages.next().await {
            heard.lock().unwrap_or_else(PoisonError::into_inner).push(Heard(message));
        }
    })
}

impl Drop for Ears {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Sends it as it was sent before: subject, headers with its dedup id, body.
pub async fn send_again(log: &Log, heard: &Heard) -> Sent {
    let Heard(message) = heard;
    let headers = message.headers.clone().unwrap_or_default();
    match log.store_again(message.subject.as_str(), headers, message.payload.clone()).await {
        Ok(Stood { duplicate: true, .. }) => Sent::Duplicate,
        Ok(Stood { duplicate: false, .. }) => Sent::Stored,
        Err(Failure::Refused { code, .. }) => Sent::Refused(code),
        Err(failure) => panic!("send {} again: {failure:?}", message.subject),
    }
}

/// Sends it as [`send_again`], to a server that has forgotten its dedup id.
pub async fn send_late(log: &Log, heard: &Heard) -> Sent {
    let Heard(mut message) = heard.clone();
    let kept = message.headers.iter().flat_map(|headers| headers.iter());
    let kept = kept.filter(|(name, _)| AsRef::<str>::as_ref(name) != spool_proto::envelope::MSG_ID);
    let kept = kept.flat_map(|(name, values)| values.iter().map(move |value| (name.clone(), value.clone())));
    message.headers = Some(kept.collect());
    send_again(log, &Heard(message)).await
}

/// The server's counts of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Deliveries that were made, repeated ones among them.
    pub deliveries: u64,
    /// Messages that were delivered and are not settled.
    pub out: u64,
    /// Messages that wait to be delivered a first time.
    pub waiting: u64,
}

/// The server's counts of a consumer.
pub async fn counts(log: &Log, which: ConsumerName) -> Counts {
    #[derive(Deserialize)]
    struct Info {
        delivered: Delivered,
        num_ack_pending: u64,
        num_pending: u64,
    }
    #[derive(Deserialize)]
    struct Delivered {
        consumer_seq: u64,
    }
    let subject = api::consumer_info(which.stream(), which.name());
    let info: Info = log.ask_again(&subject, Bytes::new()).await.unwrap_or_else(|error| panic!("{error:?}"));
    Counts { deliveries: info.delivered.consumer_seq, out: info.num_ack_pending, waiting: info.num_pending }
}

/// How many messages a stream holds, and the last sequence that it gave.
pub async fn size(log: &Log, stream: &str) -> (u64, u64) {
    #[derive(Deserialize)]
    struct Info {
        state: State,
    }
    #[derive(Deserialize)]
    struct State {
        messages: u64,
        last_seq: u64,
    }
    let info: Info =
        log.ask_again(&api::stream_info(stream), Bytes::new()).await.unwrap_or_else(|error| panic!("{error:?}"));
    (info.state.messages, info.state.last_seq)
}

impl TestServer {
    /// Makes every durable consumer forget what it delivered: each begins again at the first message of its stream.
    pub async fn deliver_everything_again(&self) {
        let admin = self.admin().await;
        for which in ConsumerName::ALL {
            let subject = format!("$JS.API.CONSUMER.DELETE.{}.{}", which.stream(), which.name());
            let deleted: Result<Value, Failure> = admin.ask_again(&subject, Bytes::new()).await;
            deleted.unwrap_or_else(|error| panic!("delete {}: {error:?}", which.name()));
        }
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = provision::apply(&admin, self.shape()).await {
            assert!(Instant::now() < deadline, "make the consumers again: {error:?}");
            tokio::time::sleep(super::LOOK_EVERY).await;
        }
    }
}
