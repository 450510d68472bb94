//! Makes the server hold what [`crate::streams`] says, and tells what differs.
//!
//! The server changes some settings on its own (schedules allow rollups and purges), so everything is read back and compared.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::api::{self, code};
use crate::connect::Log;
use crate::request::Failure;
use crate::streams::{ConsumerName, Shape, stream_configs};

/// Something that is not as [`crate::streams`] says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// Stream, or consumer and its stream.
    pub what: String,
    /// Setting; empty when the whole thing is missing.
    pub field: String,
    /// What it should be.
    pub expected: String,
    /// What it is.
    pub actual: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.field.is_empty() {
            return write!(f, "{} is missing", self.what);
        }
        write!(f, "{} has {} {} instead of {}", self.what, self.field, self.actual, self.expected)
    }
}

/// Provisioning did not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The server could not be asked, or said no.
    #[error("{what}")]
    Failed {
        /// What was attempted.
        what: String,
        /// Why.
        #[source]
        source: Failure,
    },
    /// The server has too little room for what a stream reserves.
    #[error(
        "there is no room for the {what}: it reserves {} MiB, and NATS gives its streams three quarters of the disk's \
         free space at its start (max_file_store). Make room and start again",
        .needed_bytes >> 20
    )]
    NoRoom {
        /// The stream.
        what: String,
        /// What it reserves.
        needed_bytes: u64,
    },
    /// Things differ that can't be changed, or that the server changed on its own.
    #[error("still different after applying: {}", list(.0))]
    Different(Vec<Difference>),
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// One thing on the server: where it is looked up, made and changed.
struct Thing {
    what: String,
    config: Map<String, Value>,
    info: String,
    create: (String, Value),
    update: (String, Value),
}

fn things(shape: &Shape) -> Vec<Thing> {
    let streams = stream_configs(shape).into_iter().map(|(name, config)| Thing {
        what: format!("stream {name}"),
        info: api::stream_info(name),
        create: (api::stream_create(name), Value::Object(config.clone())),
        update: (api::stream_update(name), Value::Object(config.clone())),
        config,
    });
    let consumers = ConsumerName::ALL.into_iter().map(|consumer| {
        let (stream, name) = (consumer.stream(), consumer.name());
        let config = consumer.config(shape);
        let call = |action: &str| {
            let body = json!({ "stream_name": stream, "config": config, "action": action });
            (api::consumer_create(stream, name), body)
        };
        Thing {
            what: format!("consumer {name} of {stream}"),
            info: api::consumer_info(stream, name),
            create: call("create"),
            update: call("update"),
            config: config.clone(),
        }
    });
    streams.chain(consumers).collect()
}

/// Creates what is missing, changes what differs, reads everything back. Repeatable; several may do it at once.
///
/// # Errors
/// When something is not as it should be in the end.
pub async fn apply(log: &Log, shape: &Shape) -> Result<(), ProvisionError> {
    for thing in things(shape) {
        let differences = compare(log, &thing).await?;
        let Some(first) = differences.first() else { continue };
        let missing = first.field.is_empty();
        let (subject, body) = if missing { &thing.create } else { &thing.update };
        tracing::info!("{} {}", if missing { "creating" } else { "changing" }, thing.what);
        let made: Result<Value, Failure> = log.ask_again(subject, body.to_string().into()).await;
        if let Err(source) = made {
            // Somebody else may have made it at the same moment: what stands decides.
            let now = compare(log, &thing).await?;
            if let (Some(code::NO_ROOM), Some(needed_bytes)) = (source.code(), reserved_bytes(&thing)) {
                return Err(ProvisionError::NoRoom { what: thing.what, needed_bytes });
            }
            if !now.is_empty() {
                return Err(ProvisionError::Failed { what: format!("apply {}: {}", thing.what, list(&now)), source });
            }
        }
    }
    let differences = check(log, shape).await?;
    if differences.is_empty() { Ok(()) } else { Err(ProvisionError::Different(differences)) }
}

fn reserved_bytes(thing: &Thing) -> Option<u64> {
    thing.config.get("max_bytes")?.as_u64()
}

/// What differs.
///
/// # Errors
/// When the server can't be asked.
pub async fn check(log: &Log, shape: &Shape) -> Result<Vec<Difference>, ProvisionError> {
    let mut differences = Vec::new();
    for thing in things(shape) {
        differences.extend(compare(log, &thing).await?);
    }
    Ok(differences)
}

async fn compare(log: &Log, thing: &Thing) -> Result<Vec<Difference>, ProvisionError> {
    #[derive(Deserialize)]
    struct Info {
        config: Map<String, Value>,
    }
    match log.ask_again::<Info>(&thing.info, Bytes::new()).await {
        Ok(info) => Ok(differences(&thing.what, &thing.config, &info.config)),
        Err(failure) if matches!(failure.code(), Some(code::NO_STREAM | code::NO_CONSUMER)) => Ok(vec![Difference {
            what: thing.what.clone(),
            field: String::new(),
            expected: String::new(),
            actual: String::new(),
        }]),
        Err(source) => Err(ProvisionError::Failed { what: format!("look up {}", thing.what), source }),
    }
}

/// Settings that are asked for and not so. What is not mentioned is the server's default, except where it would lose messages.
fn differences(what: &str, expected: &Map<String, Value>, actual: &Map<String, Value>) -> Vec<Difference> {
    // Limits that would drop or refuse messages: they must be absent where we do not ask for them.
    const LIMITS: [&str; 8] = [
        "max_age",
        "max_msgs",
        "max_bytes",
        "max_msg_size",
        "max_msgs_per_subject",
        "sealed",
        "deny_delete",
        "subject_transform",
    ];
    let unlimited = Value::Null;
    let of_ours = expected.iter();
    let of_limits = LIMITS.iter().filter(|key| !expected.contains_key(**key));
    let pairs = of_ours.map(|(key, value)| (key.as_str(), value)).chain(of_limits.map(|key| (*key, &unlimited)));
    pairs
        .filter_map(|(field, expected)| {
            let actual = actual.get(field).unwrap_or(&Value::Null);
            (plain(expected) != plain(actual)).then(|| Difference {
                what: what.to_owned(),
                field: field.to_owned(),
                expected: expected.to_string(),
                actual: actual.to_string(),
            })
        })
        .collect()
}

/// The server leaves out what is empty, and writes "no limit" as 0 or -1.
fn plain(value: &Value) -> &Value {
    match value {
        Value::Bool(false) => &Value::Null,
        Value::Number(number) if number.as_i64().is_some_and(|n| n <= 0) => &Value::Null,
        Value::Null | Value::Bool(true) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            value
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn every_stream_that_reserves_room_says_how_much() {
        let reserving =
            things(&Shape::default()).into_iter().filter_map(|thing| Some((reserved_bytes(&thing)?, thing.what)));
        let found: Vec<_> =
            reserving.map(|(needed_bytes, what)| ProvisionError::NoRoom { what, needed_bytes }).collect();
        let said = found.iter().map(ToString::to_string).collect::<String>();
        assert!(found.len() == 1 && said.contains("stream SPOOL_INGEST: it reserves 256 MiB"), "{said}");
    }

    #[test]
    fn a_limit_nobody_asked_for_is_a_difference_and_a_default_is_none() {
        let ours = map(json!({ "name": "A", "deny_purge": false, "max_age": 0 }));
        let same = map(json!({ "name": "A", "max_msgs": -1, "max_consumers": -1 }));
        assert_eq!(differences("A", &ours, &same), []);
        let theirs = map(json!({ "name": "A", "max_msgs": 5, "deny_purge": true }));
        let found: Vec<_> = differences("A", &ours, &theirs).into_iter().map(|d| d.field).collect();
        assert_eq!(found, ["deny_purge", "max_msgs"]);
    }
}
