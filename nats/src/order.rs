//! Orders and ticks: what somebody shall do, and when somebody shall look again.

use async_nats::HeaderMap;
use bytes::Bytes;
use spool_proto::job::Order;
use spool_proto::{AssetId, Item, TenantId, Timestamp, envelope, subject, wire};

use crate::api::{self, header};
use crate::connect::Log;
use crate::message::headers;
use crate::read::ReadError;
use crate::request::{Failure, PAUSES, Stood, about};
use crate::streams::JOBS;
use crate::trace;

/// What came of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordered {
    /// It is in the queue, by this call.
    Queued,
    /// The same order of the same round is queued or leased already, or was a moment ago.
    Standing,
    /// An order of another round blocks the subject: ask again soon.
    OtherRound,
}

/// It is not known whether the order stands.
#[derive(Debug, thiserror::Error)]
#[error("queue the order {message_id}")]
pub struct OrderError {
    /// Dedup id of the order.
    pub message_id: String,
    /// Why.
    #[source]
    pub source: Failure,
}

/// It is not known whether the tick is set.
#[derive(Debug, thiserror::Error)]
#[error("set a tick for asset {asset}")]
pub struct TickError {
    /// Asset.
    pub asset: AssetId,
    /// Why.
    #[source]
    pub source: Failure,
}

impl Log {
    /// Queues an order; at most one stands for an item. Repeating it is harmless.
    ///
    /// # Errors
    /// When it is not known whether it stands.
    pub async fn order(&self, order: &Order) -> Result<Ordered, OrderError> {
        let message_id = order.message_id();
        self.try_order(order, &message_id).await.map_err(|source| OrderError { message_id, source })
    }

    async fn try_order(&self, order: &Order, message_id: &str) -> Result<Ordered, Failure> {
        let subject = order.subject();
        let headers = order_headers(order, message_id);
        let body = Bytes::from(wire::encode_order(order));
        let mut pauses = PAUSES.iter();
        loop {
            let failure = match self.store(&subject, headers.clone(), body.clone()).await {
                Ok(Stood { duplicate: false, .. }) => return Ok(Ordered::Queued),
                Ok(Stood { duplicate: true, .. }) => return Ok(Ordered::Standing),
                Err(failure) if failure.is_transient() || failure.code().is_some_and(api::may_be_taken) => failure,
                Err(failure) => return Err(failure),
            };
            // The leader is asked: a follower may still hold the order before this one, or not yet this one.
            if let Some(standing) = self.last_at_leader(JOBS, &subject).await? {
                let same = standing.header(envelope::MSG_ID) == Some(message_id);
                return Ok(if same { Ordered::Standing } else { Ordered::OtherRound });
            }
            // What stood there has gone meanwhile, or the call was lost.
            let Some(pause) = pauses.next() else { return Err(failure) };
            about(*pause).await;
        }
    }

    /// Sequence of the order for `item` in `SPOOL_JOBS`, queued or leased, if there is one. On three replicas a settled order still stands for a moment.
    ///
    /// # Errors
    /// When it can't be asked.
    pub async fn queued(&self, tenant: &TenantId, asset: &AssetId, item: &Item) -> Result<Option<u64>, ReadError> {
        let subject = subject::job(tenant, asset, item);
        match self.last_at_leader(JOBS, &subject).await {
            Ok(stored) => Ok(stored.map(|stored| stored.sequence)),
            Err(source) => Err(ReadError::Failed { what: subject, source }),
        }
    }

    /// Wakes the planner for this asset at `at`, or at once if that is over. Replaces the asset's earlier tick.
    ///
    /// # Errors
    /// When it is not known whether it is set.
    pub async fn tick(&self, tenant: &TenantId, asset: &AssetId, at: Timestamp) -> Result<(), TickError> {
        // The stream keeps one message a subject and discards the old one, schedules too: so the later tick wins.
        let headers = headers([
            (header::SCHEDULE, format!("@at {at}")),
            (header::SCHEDULE_TARGET, subject::timer_due(tenant, asset)),
        ]);
        match self.store_again(&subject::timer_set(tenant, asset), headers, Bytes::new()).await {
            Ok(_) => Ok(()),
            Err(source) => Err(TickError { asset: asset.clone(), source }),
        }
    }
}

fn order_headers(order: &Order, message_id: &str) -> HeaderMap {
    let mut pairs =
        vec![(envelope::MSG_ID, message_id.to_owned()), (envelope::SCHEMA_VERSION, envelope::SCHEMA.to_string())];
    pairs.extend(order.cause.clone().map(|cause| (envelope::CAUSE, cause)));
    pairs.extend(trace::current().map(|trace| (envelope::TRACEPARENT, trace)));
    headers(pairs)
}
