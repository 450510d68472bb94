//! What a consumer hands to a handler, and what the handler answers.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::Message;
use bytes::Bytes;
use serde::Deserialize;
use spool_proto::event::Fact;
use spool_proto::job::Order;
use spool_proto::subject::{parse_ingest, parse_timer_due};
use spool_proto::{AssetId, Code, TenantId, chain, envelope, wire};

use crate::api::{self, Delivered};
use crate::lease::Lease;
use crate::message::{self, Stored, first};
use crate::streams::ConsumerName;

/// What a handler answers. The loop alone speaks to JetStream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The effect stands; the message goes.
    Done,
    /// Not now. The message comes again after a while (an attempt is used up where deliveries are limited).
    Retry {
        /// When.
        after: Duration,
        /// Why, for operators.
        why: String,
    },
    /// Never. Its bytes go to `SPOOL_PARKED`. Whoever parks an order has appended its fault before.
    Park {
        /// Why.
        code: Code,
        /// The same for operators.
        why: String,
    },
}

/// What was delivered.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one of these exists per running handler")]
pub enum Incoming {
    /// A fact.
    Fact(Fact),
    /// An order.
    Order(Order),
    /// It is time to look at this asset.
    Tick {
        /// Whose.
        tenant: TenantId,
        /// Which.
        asset: AssetId,
    },
    /// A request from outside, not yet understood.
    Ingest {
        /// Whose.
        tenant: TenantId,
        /// The request as it came.
        body: Bytes,
        /// Its `Nats-Msg-Id`.
        key: Option<String>,
        /// Its other headers, the first value of each.
        headers: BTreeMap<String, String>,
    },
    /// The server gave up delivering a message: it stands in its stream and blocks its subject until it is buried.
    GivenUp {
        /// Stream it stands in.
        stream: String,
        /// Consumer that gave it up.
        consumer: String,
        /// Its sequence.
        sequence: u64,
        /// Deliveries that were made.
        deliveries: u64,
    },
}

/// A delivery: what came, and the lease on it.
#[derive(Clone)]
pub struct Delivery {
    /// What came.
    pub message: Incoming,
    /// Cause id for what it leads to.
    pub id: String,
    /// Which delivery this is, from 1.
    pub attempt: u64,
    /// Is there none after this one?
    pub last_attempt: bool,
    /// Sequence in its stream.
    pub sequence: u64,
    /// The lease on it.
    pub lease: Lease,
    /// Trace context it came with.
    pub traceparent: Option<String>,
}

/// How long a step waits for a first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Takes what is there.
    No,
    /// Waits at most this long. Let a step end by itself: dropping it here may cost a delivery.
    Upto(Duration),
}

/// A message that was delivered and is not decoded yet.
pub(crate) struct Fetched {
    pub(crate) message: Message,
    pub(crate) reply: String,
    pub(crate) delivered: Delivered,
    pub(crate) lease: Lease,
}

/// What a message says, or why it is parked.
pub(crate) fn decode(which: ConsumerName, fetched: &Fetched) -> Result<Incoming, (Code, String)> {
    let (subject, body) = (fetched.message.subject.as_str(), &fetched.message.payload);
    let headers = fetched.message.headers.clone().unwrap_or_default();
    let internal = |why: String| (Code::Internal, why);
    match which {
        ConsumerName::Planner | ConsumerName::Publisher | ConsumerName::Sweeper => {
            let stored = Stored {
                subject: subject.to_owned(),
                sequence: fetched.delivered.sequence,
                at: api::stored_at(&fetched.reply).unwrap_or_default(),
                headers,
                body: body.clone(),
            };
            message::fact(&stored).map(Incoming::Fact).map_err(internal)
        }
        ConsumerName::Lane(_) => {
            wire::decode_order(subject, body).map(Incoming::Order).map_err(|error| internal(chain(&error)))
        }
        ConsumerName::PlannerTimers => match parse_timer_due(subject) {
            Ok((tenant, asset)) => Ok(Incoming::Tick { tenant, asset }),
            Err(error) => Err(internal(error.to_string())),
        },
        ConsumerName::Ingest => match parse_ingest(subject) {
            Ok(tenant) => Ok(Incoming::Ingest {
                tenant,
                body: body.clone(),
                key: first(&headers, envelope::MSG_ID).map(str::to_owned),
                headers: message::plain_headers(&headers),
            }),
            Err(error) => Err((Code::IngestInvalid, error.to_string())),
        },
        ConsumerName::PlannerAdvisories | ConsumerName::IngestAdvisories => {
            let advisory: Advisory = serde_json::from_slice(body).map_err(|error| internal(error.to_string()))?;
            let Advisory { stream, consumer, stream_seq: sequence, deliveries } = advisory;
            Ok(Incoming::GivenUp { stream, consumer, sequence, deliveries })
        }
    }
}

/// The server's word that it gave a message up.
#[derive(Deserialize)]
struct Advisory {
    stream: String,
    consumer: String,
    stream_seq: u64,
    deliveries: u64,
}
