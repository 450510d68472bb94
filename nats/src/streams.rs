//! Streams, consumers and buckets as data: what [`crate::provision`] makes and compares, and what [`crate::access`] gives rights on.
//!
//! Configurations are JSON as the server speaks it, so that what it answers can be compared with what was asked for, key by key.

use std::time::Duration;

use serde_json::{Map, Value, json};
use spool_proto::Role;
use spool_proto::subject::{self, Lane};

use crate::api;
use crate::kv::Bucket;

/// The facts.
pub const EVENTS: &str = "SPOOL_EVENTS";
/// The orders.
pub const JOBS: &str = "SPOOL_JOBS";
/// Ticks, waiting and due.
pub const TIMERS: &str = "SPOOL_TIMERS";
/// What people typed.
pub const TEXTS: &str = "SPOOL_TEXTS";
/// Requests from publishers outside.
pub const INGEST: &str = "SPOOL_INGEST";
/// Messages given up.
pub const PARKED: &str = "SPOOL_PARKED";
/// The server's word that it gave a message up.
pub const ADVISORIES: &str = "SPOOL_ADVISORIES";

/// Deliveries of an order, or of a request from outside, before the server gives it up.
pub const DELIVERIES: u64 = 5;
/// How long the server knows the ids of requests from outside: the shortest it takes, because the ids are those of all tenants together, and natural keys
/// dedup for ever.
pub const INGEST_WINDOW: Duration = Duration::from_millis(100);
/// How long a handler that only reads and writes the log may take before its message is given to another.
pub const HANDLER_LEASE: Duration = Duration::from_secs(30);
/// Messages of one consumer that may be out at once; more wait.
pub const MAX_OUT: u64 = 1000;
/// When what people sent and nobody could use is forgotten.
pub const PARKED_AGE: Duration = Duration::from_secs(90 * 24 * 3600);
/// When a request that nobody took is forgotten.
pub const INGEST_AGE: Duration = Duration::from_secs(14 * 24 * 3600);
/// When an advisory is forgotten. Long, since a job stays blocked without it.
pub const ADVISORY_AGE: Duration = Duration::from_secs(90 * 24 * 3600);
/// When a note about a lease is forgotten: above the longest retry delay.
pub const LEASE_NOTE_AGE: Duration = Duration::from_secs(3600);
/// Largest request from outside.
pub const INGEST_MAX_BYTES: u64 = 256 * 1024;
/// All requests that wait; beyond it publishers are refused, which they see. The server takes this much of a disk as taken.
pub const INGEST_STREAM_MAX_BYTES: u64 = 256 << 20;
/// How long a deleted key is remembered, so that a reader that lags does not bring it back.
pub const TOMBSTONE_AGE: Duration = Duration::from_secs(3600);

/// What may differ between installations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Replicas of every stream: 1 on one machine, 3 on a cluster.
    pub replicas: u8,
    /// How long the first lease on an order lasts without an extension.
    pub lease: Duration,
    /// How long each further lease on the same order lasts, in percent of the one before: the pause after a worker that went without a
    /// word, so that workers which die in a row don't use up the deliveries of an order at once.
    pub lease_growth_percent: u32,
    /// How long the server knows dedup ids of facts and orders.
    pub dedup_window: Duration,
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            replicas: 1,
            lease: Duration::from_secs(30),
            lease_growth_percent: 150,
            dedup_window: Duration::from_secs(120),
        }
    }
}

/// The durable consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConsumerName {
    /// Planner: every fact.
    Planner,
    /// Planner: ticks that are due.
    PlannerTimers,
    /// Planner: orders that the server gave up.
    PlannerAdvisories,
    /// Publisher: facts that may change what can be watched.
    Publisher,
    /// Transcoder: the orders of a lane.
    Lane(Lane),
    /// Gateway: requests from outside.
    Ingest,
    /// Gateway: requests that the server gave up.
    IngestAdvisories,
    /// Gateway: assets deleted and texts erased, whose bytes are to go.
    Sweeper,
}

impl ConsumerName {
    /// Every durable consumer.
    pub const ALL: [ConsumerName; 12] = [
        ConsumerName::Planner,
        ConsumerName::PlannerTimers,
        ConsumerName::PlannerAdvisories,
        ConsumerName::Publisher,
        ConsumerName::Lane(Lane::First),
        ConsumerName::Lane(Lane::Next),
        ConsumerName::Lane(Lane::Bulk),
        ConsumerName::Lane(Lane::Pass),
        ConsumerName::Lane(Lane::Sound),
        ConsumerName::Ingest,
        ConsumerName::IngestAdvisories,
        ConsumerName::Sweeper,
    ];

    /// Its name on the server.
    pub fn name(self) -> &'static str {
        match self {
            ConsumerName::Planner => "planner",
            ConsumerName::PlannerTimers => "planner-timers",
            ConsumerName::PlannerAdvisories => "planner-advisories",
            ConsumerName::Publisher => "publisher",
            ConsumerName::Lane(Lane::First) => "lane-first",
            ConsumerName::Lane(Lane::Next) => "lane-next",
            ConsumerName::Lane(Lane::Bulk) => "lane-bulk",
            ConsumerName::Lane(Lane::Pass) => "lane-pass",
            ConsumerName::Lane(Lane::Sound) => "lane-sound",
            ConsumerName::Ingest => "ingest",
            ConsumerName::IngestAdvisories => "ingest-advisories",
            ConsumerName::Sweeper => "sweeper",
        }
    }

    /// The stream it reads.
    pub fn stream(self) -> &'static str {
        match self {
            ConsumerName::Planner | ConsumerName::Publisher | ConsumerName::Sweeper => EVENTS,
            ConsumerName::PlannerTimers => TIMERS,
            ConsumerName::PlannerAdvisories | ConsumerName::IngestAdvisories => ADVISORIES,
            ConsumerName::Lane(_) => JOBS,
            ConsumerName::Ingest => INGEST,
        }
    }

    /// The role that may pull from it.
    pub fn role(self) -> Role {
        match self {
            ConsumerName::Planner | ConsumerName::PlannerTimers | ConsumerName::PlannerAdvisories => Role::Planner,
            ConsumerName::Publisher => Role::Publisher,
            ConsumerName::Lane(_) => Role::Transcoder,
            ConsumerName::Ingest | ConsumerName::IngestAdvisories | ConsumerName::Sweeper => Role::Gateway,
        }
    }

    /// What it gets of its stream.
    pub fn filters(self) -> Vec<String> {
        match self {
            ConsumerName::Planner => vec![subject::EVENTS.to_owned()],
            ConsumerName::PlannerTimers => vec![subject::TIMERS_DUE.to_owned()],
            ConsumerName::PlannerAdvisories => vec![api::max_deliveries(JOBS)],
            ConsumerName::Publisher => ["encode.>", "publish.>", "life.>"].map(subject::events_like).to_vec(),
            ConsumerName::Lane(lane) => vec![subject::jobs_of(lane)],
            ConsumerName::Ingest => vec![subject::INGEST.to_owned()],
            ConsumerName::IngestAdvisories => vec![api::max_deliveries(INGEST)],
            ConsumerName::Sweeper => ["life.deleted", "text.erased.*"].map(subject::events_like).to_vec(),
        }
    }

    /// How often a message is delivered before it is given up; nothing is no limit: what a fact, a tick or an advisory asks for is owed until it is done.
    pub fn deliveries(self) -> Option<u64> {
        match self {
            ConsumerName::Lane(_) | ConsumerName::Ingest => Some(DELIVERIES),
            ConsumerName::Planner
            | ConsumerName::PlannerTimers
            | ConsumerName::PlannerAdvisories
            | ConsumerName::Publisher
            | ConsumerName::IngestAdvisories
            | ConsumerName::Sweeper => None,
        }
    }

    fn lease(self, shape: &Shape) -> Duration {
        match self {
            // A request may copy a large file in, which is work with progress as orders are.
            ConsumerName::Lane(_) | ConsumerName::Ingest => shape.lease,
            ConsumerName::Planner
            | ConsumerName::PlannerTimers
            | ConsumerName::PlannerAdvisories
            | ConsumerName::Publisher
            | ConsumerName::IngestAdvisories
            | ConsumerName::Sweeper => HANDLER_LEASE,
        }
    }

    pub(crate) fn config(self, shape: &Shape) -> Map<String, Value> {
        let mut config = object(json!({
            "durable_name": self.name(),
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": nanos(self.lease(shape)),
            "max_deliver": self.deliveries().map_or(json!(-1), |n| json!(n)),
            "max_ack_pending": MAX_OUT,
            "replay_policy": "instant",
        }));
        match self.filters().as_slice() {
            [one] => config.insert("filter_subject".to_owned(), json!(one)),
            several => config.insert("filter_subjects".to_owned(), json!(several)),
        };
        if let Some(deliveries) = self.deliveries() {
            let leases = leases(self.lease(shape), shape.lease_growth_percent, deliveries);
            config.insert("backoff".to_owned(), leases.into_iter().map(|lease| json!(nanos(lease))).collect());
        }
        config
    }
}

/// How long the server waits for the holder of each delivery, when it says nothing. The last delivery has the longest of
/// them once more: what follows it is the end of the order.
fn leases(first: Duration, growth_percent: u32, deliveries: u64) -> Vec<Duration> {
    let longer = |lease: &Duration| Some(lease.saturating_mul(growth_percent) / 100);
    std::iter::successors(Some(first), longer).zip(1..deliveries).map(|(lease, _)| lease).collect()
}

impl Bucket {
    /// Every bucket.
    pub const ALL: [Bucket; 2] = [Bucket::Uploads, Bucket::Leases];

    /// Its name, as clients of NATS know it.
    pub fn name(self) -> &'static str {
        match self {
            Bucket::Uploads => "SPOOL_UPLOADS",
            Bucket::Leases => "SPOOL_LEASES",
        }
    }

    /// The stream it lies on.
    pub fn stream(self) -> &'static str {
        match self {
            Bucket::Uploads => "KV_SPOOL_UPLOADS",
            Bucket::Leases => "KV_SPOOL_LEASES",
        }
    }

    fn config(self, shape: &Shape) -> Map<String, Value> {
        // On disk both: a memory stream of one replica is gone, not empty, after a restart of its server (tried), and nobody would make it again.
        let age = match self {
            Bucket::Uploads => Duration::ZERO,
            Bucket::Leases => LEASE_NOTE_AGE,
        };
        stream_config(
            self.stream(),
            &[api::kv(self.name(), ">")],
            shape,
            json!({
                "max_age": nanos(age),
                "max_msgs_per_subject": 1,
                "discard": "new",
                "deny_delete": true,
                "allow_rollup_hdrs": true,
                "allow_msg_ttl": true,
            }),
        )
    }
}

/// The configuration of every stream, those of the buckets among them: name and settings.
pub(crate) fn stream_configs(shape: &Shape) -> Vec<(&'static str, Map<String, Value>)> {
    let window = nanos(shape.dedup_window);
    // One message a subject, the second one refused: that is what makes a slot hold one fact, and an item one order.
    let write_once = json!({ "max_msgs_per_subject": 1, "discard": "new", "discard_new_per_subject": true });
    let mut all = vec![
        (
            EVENTS,
            &[subject::EVENTS.to_owned()][..],
            json!({ "deny_delete": true, "deny_purge": true, "duplicate_window": window }),
            Some(&write_once),
        ),
        (
            JOBS,
            &[subject::JOBS.to_owned()],
            json!({ "retention": "workqueue", "duplicate_window": window }),
            Some(&write_once),
        ),
        (
            TIMERS,
            &[subject::TIMERS_SET.to_owned(), subject::TIMERS_DUE.to_owned()],
            // The older message of a subject goes: so a later schedule replaces the earlier one. Schedules make the server allow rollups by itself.
            json!({
                "retention": "workqueue", "max_msgs_per_subject": 1, "discard": "old",
                "allow_msg_schedules": true, "allow_rollup_hdrs": true,
            }),
            None,
        ),
        (TEXTS, &[subject::TEXTS.to_owned()], json!({}), Some(&write_once)),
        (
            INGEST,
            &[subject::INGEST.to_owned()],
            json!({
                "retention": "workqueue", "discard": "new", "duplicate_window": nanos(INGEST_WINDOW),
                "max_age": nanos(INGEST_AGE), "max_msg_size": INGEST_MAX_BYTES, "max_bytes": INGEST_STREAM_MAX_BYTES,
            }),
            None,
        ),
        (PARKED, &[subject::PARKED.to_owned()], json!({ "max_age": nanos(PARKED_AGE) }), Some(&write_once)),
        (ADVISORIES, &[api::max_deliveries("*")], json!({ "max_age": nanos(ADVISORY_AGE) }), None),
    ]
    .into_iter()
    .map(|(name, subjects, own, shared)| {
        let mut config = stream_config(name, subjects, shape, own);
        config.extend(shared.cloned().map(object).unwrap_or_default());
        (name, config)
    })
    .collect::<Vec<_>>();
    all.extend(Bucket::ALL.map(|bucket| (bucket.stream(), bucket.config(shape))));
    all
}

fn stream_config(name: &str, subjects: &[String], shape: &Shape, own: Value) -> Map<String, Value> {
    let mut config = object(json!({
        "name": name,
        "subjects": subjects,
        "retention": "limits",
        "storage": "file",
        "num_replicas": shape.replicas,
        "allow_direct": true,
        "duplicate_window": nanos(Duration::from_secs(120)),
    }));
    config.extend(object(own));
    config
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_consumer_has_a_name_of_its_own_and_reads_a_stream_we_make() {
        let streams: Vec<_> = stream_configs(&Shape::default()).into_iter().map(|(name, _)| name).collect();
        let mut names: Vec<_> = ConsumerName::ALL.map(ConsumerName::name).to_vec();
        assert!(ConsumerName::ALL.iter().all(|consumer| streams.contains(&consumer.stream())));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ConsumerName::ALL.len());
    }

    #[test]
    fn the_pause_after_a_lost_worker_grows_and_ends() {
        let shape = Shape::default();
        let of = |consumer: ConsumerName| consumer.config(&shape).get("backoff").cloned();
        let seconds = [30_000, 45_000, 67_500, 101_250].map(|ms| json!(nanos(Duration::from_millis(ms))));
        assert_eq!(of(ConsumerName::Lane(Lane::Pass)), Some(json!(seconds)));
        assert_eq!(of(ConsumerName::Ingest), Some(json!(seconds)));
        assert_eq!(of(ConsumerName::Planner), None);
    }

    #[test]
    fn facts_can_be_neither_replaced_nor_deleted() {
        let (_, events) = stream_configs(&Shape::default()).swap_remove(0);
        for (key, value) in [
            ("max_msgs_per_subject", json!(1)),
            ("discard", json!("new")),
            ("discard_new_per_subject", json!(true)),
            ("deny_delete", json!(true)),
            ("deny_purge", json!(true)),
            ("retention", json!("limits")),
        ] {
            assert_eq!(events.get(key), Some(&value), "{key}");
        }
        assert_eq!(events.get("max_age"), None);
    }
}
