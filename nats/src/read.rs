//! Reading facts: one slot, or all of an asset.
//!
//! Any replica may answer, and followers lag: a miss is asked again at the leader, and who knows of a sequence demands it.

use bytes::Bytes;
use serde::Deserialize;
use spool_proto::event::Fact;
use spool_proto::slot::TABLE;
use spool_proto::{AssetId, Slot, TenantId, Timestamp, subject};

use crate::api;
use crate::connect::Log;
use crate::message::{Stored, fact};
use crate::request::{Failure, PAUSES, about};
use crate::streams::EVENTS;

/// Facts could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The server could not be asked, or said no.
    #[error("read {what}")]
    Failed {
        /// What was asked for.
        what: String,
        /// Why.
        #[source]
        source: Failure,
    },
    /// A fact that is known to stand is not in any answer yet.
    #[error("no answer about asset {asset} holds sequence {sequence} yet")]
    Behind {
        /// Asset.
        asset: AssetId,
        /// Sequence that must be in it.
        sequence: u64,
    },
    /// More facts in one slot group than the server hands out at once.
    #[error("asset {asset} has more facts on {group} than can be read at once")]
    TooMany {
        /// Asset.
        asset: AssetId,
        /// Slot group.
        group: String,
    },
    /// The message is no fact of an asset, which only admin could have written.
    #[error("message {sequence} of the events is no fact: {reason}")]
    NoFact {
        /// Its sequence.
        sequence: u64,
        /// Why not.
        reason: String,
    },
}

impl Log {
    /// The fact in a slot. A miss is asked again at the leader, since followers lag.
    ///
    /// # Errors
    /// When it is not known whether one stands there.
    pub async fn read_slot(&self, tenant: &TenantId, asset: &AssetId, slot: &Slot) -> Result<Option<Fact>, ReadError> {
        let subject = subject::event(tenant, asset, slot);
        let stored = self.last(EVENTS, &subject).await.map_err(failed(&subject))?;
        stored.as_ref().map(as_fact).transpose()
    }

    /// Every fact of an asset, in the order of their sequences. Contains sequence `at_least` (one of this asset's), or is asked again, a bounded
    /// number of times.
    ///
    /// # Errors
    /// When it can't be read, or stays behind.
    pub async fn read_asset(
        &self,
        tenant: &TenantId,
        asset: &AssetId,
        at_least: Option<u64>,
    ) -> Result<Vec<Fact>, ReadError> {
        let mut pauses = PAUSES.iter();
        loop {
            let facts = self.read_asset_once(tenant, asset).await?;
            let Some(sequence) = at_least else { return Ok(facts) };
            if facts.iter().any(|fact| fact.sequence == sequence) {
                return Ok(facts);
            }
            let Some(pause) = pauses.next() else {
                return Err(ReadError::Behind { asset: asset.clone(), sequence });
            };
            about(*pause).await;
        }
    }

    /// Every fact of an asset that the answering replica has.
    async fn read_asset_once(&self, tenant: &TenantId, asset: &AssetId) -> Result<Vec<Fact>, ReadError> {
        let all = subject::asset_events(tenant, asset);
        if let Some(stored) = self.last_of_each(&all, None).await.map_err(failed(&all))? {
            return stored.iter().map(as_fact).collect();
        }
        // More subjects than one call may name. All groups are read as of one sequence, so that no later fact comes without an earlier one.
        let up_to = self.last_sequence().await?;
        let mut facts = Vec::new();
        for row in TABLE {
            let group = format!("{}{}", all.trim_end_matches('>'), row.wildcard);
            let stored = self.last_of_each(&group, Some(up_to)).await.map_err(failed(&group))?;
            let stored =
                stored.ok_or_else(|| ReadError::TooMany { asset: asset.clone(), group: row.form.to_owned() })?;
            for stored in &stored {
                facts.push(as_fact(stored)?);
            }
        }
        facts.sort_by_key(|fact| fact.sequence);
        Ok(facts)
    }

    /// The last message of every subject that `filter` matches, as of a sequence; nothing when they are more than the server hands out at once.
    async fn last_of_each(&self, filter: &str, up_to: Option<u64>) -> Result<Option<Vec<Stored>>, Failure> {
        let mut all: Vec<Stored> = Vec::new();
        let mut up_to = up_to;
        loop {
            let mut query = serde_json::json!({ "multi_last": [filter] });
            if let Some(up_to) = up_to {
                query["up_to_seq"] = up_to.into();
            }
            if let Some(last) = all.last() {
                query["seq"] = (last.sequence + 1).into();
            }
            let batch = self.batch_again(EVENTS, &query).await?;
            if batch.too_many {
                return Ok(None);
            }
            let (came, pending) = (batch.stored.len(), batch.pending);
            all.extend(batch.stored);
            // The server ends an answer early when it holds too many bytes.
            if pending == 0 || came == 0 {
                return Ok(Some(all));
            }
            if up_to.is_none() {
                up_to = Some(self.info_last_sequence().await?);
            }
        }
    }

    /// The last sequence of `SPOOL_EVENTS`, as its leader knows it.
    ///
    /// # Errors
    /// When the leader does not answer.
    pub async fn last_sequence(&self) -> Result<u64, ReadError> {
        self.info_last_sequence().await.map_err(failed("the last sequence"))
    }

    /// What time it is for the log: where the leader of `SPOOL_EVENTS` runs, which stamps the facts.
    ///
    /// # Errors
    /// When the leader does not answer.
    pub async fn time(&self) -> Result<Timestamp, ReadError> {
        #[derive(Deserialize)]
        struct Info {
            ts: Timestamp,
        }
        let info: Result<Info, Failure> = self.ask_again(&api::stream_info(EVENTS), Bytes::new()).await;
        info.map(|info| info.ts).map_err(failed("the time"))
    }

    async fn info_last_sequence(&self) -> Result<u64, Failure> {
        #[derive(Deserialize)]
        struct Info {
            state: State,
        }
        #[derive(Deserialize)]
        struct State {
            last_seq: u64,
        }
        let info: Info = self.ask_again(&api::stream_info(EVENTS), Bytes::new()).await?;
        Ok(info.state.last_seq)
    }
}

fn failed(what: &str) -> impl FnOnce(Failure) -> ReadError + use<> {
    let what = what.to_owned();
    |source| ReadError::Failed { what, source }
}

fn as_fact(stored: &Stored) -> Result<Fact, ReadError> {
    fact(stored).map_err(|reason| ReadError::NoFact { sequence: stored.sequence, reason })
}
