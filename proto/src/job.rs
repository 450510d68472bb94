//! Orders: what a worker is asked to do. Small on purpose: a worker reads the facts (source, plan) from the log, so an
//! order can't contradict them.

use serde::{Deserialize, Serialize};

use crate::id::{AssetId, TenantId};
use crate::slot::Item;
use crate::subject;

/// Inspect the source for a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectOrder {
    /// Verdict round, from 1.
    pub verdict: u32,
}

/// Encode chunks `first..=last` of the picture in one pass, stating each when it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoOrder {
    /// Generation, from 1.
    pub generation: u32,
    /// First chunk.
    pub first: u32,
    /// Last chunk; at least `first`.
    pub last: u32,
}

/// Encode a whole sound track in one pass, stating each chunk when it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioOrder {
    /// Generation, from 1.
    pub generation: u32,
    /// Track index.
    pub track: u32,
}

/// Make a still picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StillOrder {
    /// Generation, from 1.
    pub generation: u32,
    /// Name.
    pub name: String,
}

/// What is asked for. Closed: a new kind of work stops the build wherever one is handled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// See [`InspectOrder`].
    Inspect(InspectOrder),
    /// See [`VideoOrder`].
    Video(VideoOrder),
    /// See [`AudioOrder`].
    Audio(AudioOrder),
    /// See [`StillOrder`].
    Still(StillOrder),
}

impl Job {
    /// What a lease or a fault of this order is about.
    pub fn item(&self) -> Item {
        match self {
            Job::Inspect(order) => Item::Inspect { verdict: order.verdict },
            Job::Video(order) => Item::Video { generation: order.generation, chunk: order.first },
            Job::Audio(order) => Item::Audio { generation: order.generation, track: order.track },
            Job::Still(order) => Item::Still { generation: order.generation, name: order.name.clone() },
        }
    }
}

/// An order with its address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Whose.
    pub tenant: TenantId,
    /// About which asset.
    pub asset: AssetId,
    /// How often the order for this item was given up before.
    pub round: u32,
    /// What is asked for.
    pub job: Job,
    /// Id of the fact that led here.
    pub cause: Option<String>,
}

impl Order {
    /// The subject it is queued on; at most one order stands there.
    pub fn subject(&self) -> String {
        subject::job(&self.tenant, &self.asset, &self.job.item())
    }

    /// Its dedup id: the same order in the same round is the same message.
    pub fn message_id(&self) -> String {
        format!("{}:{}", self.subject(), self.round)
    }
}
