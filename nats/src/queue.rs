//! How many orders wait in a lane and how many are out, and whether anybody asks for one. For `explain` alone: it is old when
//! it arrives, and no decision may hang on it.

use bytes::Bytes;
use serde::Deserialize;
use spool_proto::subject::Lane;

use crate::api;
use crate::connect::Log;
use crate::request::Failure;
use crate::streams::ConsumerName;

/// A lane at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queue {
    /// Orders that nobody was given yet.
    pub pending: u64,
    /// Orders that somebody was given and did not settle: worked on, put off, or lost with their worker.
    pub out: u64,
    /// Workers that ask for one at this moment. One that is busy does not ask.
    pub asking: u64,
}

/// A lane could not be looked at.
#[derive(Debug, thiserror::Error)]
#[error("look at the orders of lane {lane}")]
pub struct QueueError {
    /// Which.
    pub lane: &'static str,
    /// Why.
    #[source]
    pub source: Failure,
}

impl Log {
    /// How the queue of a lane stands.
    ///
    /// # Errors
    /// When the server can't be asked, or this user may not.
    pub async fn queue(&self, lane: Lane) -> Result<Queue, QueueError> {
        #[derive(Deserialize)]
        struct Info {
            #[serde(default)]
            num_pending: u64,
            #[serde(default)]
            num_ack_pending: u64,
            #[serde(default)]
            num_waiting: u64,
        }
        let which = ConsumerName::Lane(lane);
        let info = self.ask_again::<Info>(&api::consumer_info(which.stream(), which.name()), Bytes::new()).await;
        let info = info.map_err(|source| QueueError { lane: lane.name(), source })?;
        Ok(Queue { pending: info.num_pending, out: info.num_ack_pending, asking: info.num_waiting })
    }
}
