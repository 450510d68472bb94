//! Who may do what: one NATS user per role, with the rights that its facts and consumers need and no others.
//!
//! Rights to write facts come from the slot table of the contract, rights to pull and to acknowledge from the table of consumers; the rest is listed
//! here. `nats/server/roles.conf` is made from it (`SPOOL_WRITE=1 cargo test -p spool-nats roles_conf`), and a test compares.

use std::fmt::Write as _;

use spool_proto::Role;
use spool_proto::slot::TABLE;
use spool_proto::subject::{self, Lane};

use crate::api;
use crate::connect::inbox_prefix;
use crate::kv::Bucket;
use crate::streams::{ConsumerName, EVENTS, INGEST, JOBS, PARKED, TEXTS};

/// The user that may provision: the only one with all of JetStream's own subjects.
pub const ADMIN: &str = "admin";
/// The user of publishers outside: may put requests on the ingest stream and nothing else.
pub const INGEST_USER: &str = "ingest";

/// What a user may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// NATS user.
    pub user: &'static str,
    /// Subjects it may publish to.
    pub publish: Vec<String>,
    /// Subjects it may subscribe to.
    pub subscribe: Vec<String>,
}

/// Every user, roles first.
pub fn users() -> Vec<&'static str> {
    permissions().into_iter().map(|permissions| permissions.user).collect()
}

/// The environment variable that holds a user's password where a server is configured by `nats/server/`.
pub fn password_variable(user: &str) -> String {
    format!("SPOOL_NATS_PASSWORD_{}", user.to_ascii_uppercase())
}

/// What each user may do.
pub fn permissions() -> Vec<Permissions> {
    let mut all: Vec<_> = Role::ALL.into_iter().map(of_role).collect();
    all.push(Permissions {
        user: ADMIN,
        publish: [&["$JS.API.>", "$JS.ACK.>", "$KV.>"][..], OURS].concat().into_iter().map(str::to_owned).collect(),
        subscribe: [inbox(ADMIN), "$JS.EVENT.>".to_owned()]
            .into_iter()
            .chain(OURS.iter().map(|s| (*s).to_owned()))
            .collect(),
    });
    all.push(Permissions {
        user: INGEST_USER,
        publish: vec![subject::INGEST.to_owned()],
        subscribe: vec![inbox(INGEST_USER)],
    });
    all
}

/// Every subject of ours.
const OURS: &[&str] =
    &[subject::EVENTS, subject::JOBS, subject::TIMERS_SET, subject::TEXTS, subject::INGEST, subject::PARKED];

fn inbox(user: &str) -> String {
    format!("{}.>", inbox_prefix(user))
}

fn of_role(role: Role) -> Permissions {
    let mut publish: Vec<String> =
        TABLE.iter().filter(|row| row.writers.contains(&role)).map(|row| subject::events_like(row.wildcard)).collect();
    for consumer in ConsumerName::ALL.into_iter().filter(|consumer| consumer.role() == role) {
        let (stream, name) = (consumer.stream(), consumer.name());
        publish.push(api::consumer_info(stream, name));
        publish.push(api::consumer_next(stream, name));
        publish.extend(api::acks(stream, name));
        publish.push(below(subject::PARKED, &format!("{stream}.{name}.*")));
    }
    publish.extend(reads_any(EVENTS));
    publish.push(api::stream_info(EVENTS));
    publish.extend(own(role));
    let mut subscribe = vec![inbox(role.name())];
    if role == Role::Projector {
        // The hint that a fact was written (see `replay`).
        subscribe.push(subject::EVENTS.to_owned());
    }
    Permissions { user: role.name(), publish, subscribe }
}

/// What a role needs beyond its facts and consumers.
fn own(role: Role) -> Vec<String> {
    let write = |filter: &str| vec![filter.to_owned()];
    match role {
        Role::Gateway => [
            // What people typed; requests taken in over HTTP; running uploads.
            write(subject::TEXTS),
            write(subject::INGEST),
            reads_any(TEXTS),
            vec![api::stream_purge(TEXTS)],
            bucket(Bucket::Uploads),
            // Requests out of deliveries; parked messages and their release, also of orders.
            buries(INGEST),
            reads_any(PARKED),
            vec![api::message_delete(PARKED)],
            write(subject::JOBS),
            vec![api::message_get(JOBS)],
        ]
        .concat(),
        Role::Planner => [
            write(subject::JOBS),
            write(subject::TIMERS_SET),
            buries(JOBS),
            vec![api::message_get(PARKED)],
            below_each(JOBS, &ConsumerName::ALL),
        ]
        .concat(),
        Role::Transcoder => [bucket(Bucket::Leases), vec![api::message_get(PARKED)]].concat(),
        Role::Publisher => vec![api::message_get(PARKED)],
        Role::Projector => [
            reads_any(TEXTS),
            vec![api::stream_info(Bucket::Leases.stream())],
            reads_any(Bucket::Leases.stream()),
            // How long the queues are, for `explain`. To look at a consumer is no right to take anything from it.
            Lane::ALL.map(ConsumerName::Lane).map(|lane| api::consumer_info(lane.stream(), lane.name())).to_vec(),
        ]
        .concat(),
    }
}

/// Reads of any message of a stream, at any replica and at the leader.
fn reads_any(stream: &str) -> Vec<String> {
    vec![api::direct_get(stream), api::direct_last(stream, ">"), api::message_get(stream)]
}

/// Reads and writes of a bucket.
fn bucket(bucket: Bucket) -> Vec<String> {
    let stream = bucket.stream();
    [reads_any(stream), vec![api::stream_info(stream), api::kv(bucket.name(), ">")]].concat()
}

/// Reads and deletes of messages that were given up.
fn buries(stream: &str) -> Vec<String> {
    vec![api::message_get(stream), api::message_delete(stream)]
}

/// Parking what each of these consumers of `stream` gave up, in its name.
fn below_each(stream: &str, consumers: &[ConsumerName]) -> Vec<String> {
    let of_stream = consumers.iter().filter(|consumer| consumer.stream() == stream);
    of_stream.map(|consumer| below(subject::PARKED, &format!("{stream}.{}.*", consumer.name()))).collect()
}

/// A wildcard with its `>` replaced.
fn below(wildcard: &str, rest: &str) -> String {
    format!("{}{rest}", wildcard.trim_end_matches('>'))
}

/// The users and rights as the server reads them: the text of `nats/server/roles.conf`.
pub fn roles_conf() -> String {
    let mut conf = String::from(
        "# Made from the slot table and the table of consumers (nats/src/access.rs); a test compares. Not to be edited.\n\
         # Passwords come from the environment and begin with a letter.\n\
         authorization {\n  users: [\n",
    );
    for Permissions { user, publish, subscribe } in permissions() {
        let list = |subjects: &[String]| {
            subjects.iter().fold(String::new(), |mut text, subject| {
                // Writing to a string can't fail.
                let _ = writeln!(text, "          \"{subject}\"");
                text
            })
        };
        let variable = password_variable(user);
        let (publish, subscribe) = (list(&publish), list(&subscribe));
        let _ = write!(
            conf,
            "    {{\n      user: {user}\n      password: ${variable}\n      permissions {{\n        publish {{ allow: [\n{publish}        ] }}\n        subscribe {{ allow: [\n{subscribe}        ] }}\n      }}\n    }}\n"
        );
    }
    conf.push_str("  ]\n}\n");
    conf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_conf_is_the_committed_file() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/server/roles.conf");
        if std::env::var_os("SPOOL_WRITE").is_some() {
            std::fs::write(path, roles_conf()).expect("write roles.conf");
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == roles_conf(), "{path} is old: SPOOL_WRITE=1 cargo test -p spool-nats roles_conf");
    }

    #[test]
    fn only_admin_has_all_of_jetstream_and_nobody_else_makes_or_deletes_streams_and_consumers() {
        for Permissions { user, publish, .. } in permissions() {
            let wide = publish.iter().any(|subject| subject == "$JS.API.>");
            assert_eq!(wide, user == ADMIN, "{user}");
            let forbidden = ["STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "CONSUMER.CREATE", "CONSUMER.DELETE"];
            let found = publish.iter().find(|subject| forbidden.iter().any(|f| subject.contains(f)));
            assert_eq!(found, None, "{user}");
        }
    }

    #[test]
    fn nobody_listens_on_anothers_inbox() {
        for Permissions { user, subscribe, .. } in permissions() {
            for subject in subscribe.iter().filter(|subject| subject.starts_with("_INBOX")) {
                assert_eq!(*subject, inbox(user));
            }
        }
    }
}
