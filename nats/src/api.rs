//! JetStream's own subjects, headers and error codes, in one place. All of them were tried on nats-server 2.15.1.

use spool_proto::Timestamp;

/// Error codes that say: something stands there already, or is about to. Which one comes depends on replicas and on timing.
pub(crate) mod code {
    /// The expected last sequence is not the last one.
    pub(crate) const WRONG_LAST_SEQUENCE: u64 = 10071;
    /// Anything the store refused; among it "maximum messages per subject exceeded".
    pub(crate) const STORE_REFUSED: u64 = 10077;
    /// A message with this id is being stored (replicated streams only).
    pub(crate) const ID_IN_PROCESS: u64 = 10158;
    /// A writer for this subject is in flight (replicated streams only).
    pub(crate) const SEQUENCE_IN_PROCESS: u64 = 10164;
    /// JetStream is not available for the moment.
    pub(crate) const NOT_AVAILABLE: u64 = 10008;
    /// The asked server leads nothing any more.
    pub(crate) const NOT_LEADER: u64 = 10009;
    /// The stream is offline for the moment.
    pub(crate) const STREAM_OFFLINE: u64 = 10118;
    /// No message there.
    pub(crate) const NO_MESSAGE: u64 = 10037;
    /// No such stream.
    pub(crate) const NO_STREAM: u64 = 10059;
    /// No such consumer.
    pub(crate) const NO_CONSUMER: u64 = 10014;
    /// A stream would reserve more than the server may store.
    pub(crate) const NO_ROOM: u64 = 10047;
}

/// May the same call succeed in a moment?
pub(crate) fn is_transient(error: u64) -> bool {
    [code::ID_IN_PROCESS, code::SEQUENCE_IN_PROCESS, code::NOT_AVAILABLE, code::NOT_LEADER, code::STREAM_OFFLINE]
        .contains(&error)
}

/// Does this code say that the subject may be taken?
pub(crate) fn may_be_taken(error: u64) -> bool {
    [code::WRONG_LAST_SEQUENCE, code::STORE_REFUSED, code::ID_IN_PROCESS, code::SEQUENCE_IN_PROCESS].contains(&error)
}

/// Headers that only the server and its clients use.
pub(crate) mod header {
    pub(crate) const EXPECTED_LAST_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
    pub(crate) const SUBJECT: &str = "Nats-Subject";
    pub(crate) const SEQUENCE: &str = "Nats-Sequence";
    pub(crate) const TIME_STAMP: &str = "Nats-Time-Stamp";
    pub(crate) const NUM_PENDING: &str = "Nats-Num-Pending";
    pub(crate) const SCHEDULE: &str = "Nats-Schedule";
    pub(crate) const SCHEDULE_TARGET: &str = "Nats-Schedule-Target";
    pub(crate) const TTL: &str = "Nats-TTL";
    pub(crate) const KV_OPERATION: &str = "KV-Operation";
    /// Every header that steers the server begins so.
    pub(crate) const SERVER_PREFIX: &str = "Nats-";
}

/// Settles a message for good; a request with it is answered when it counts.
pub(crate) const ACK: &[u8] = b"+ACK";
/// Extends a lease; a request with it is answered too (tried on one replica and three).
pub(crate) const PROGRESS: &[u8] = b"+WPI";

/// Advisories of consumers that gave a message up, on `stream` (or `*`).
pub(crate) fn max_deliveries(stream: &str) -> String {
    format!("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{stream}.*")
}

pub(crate) fn stream_info(stream: &str) -> String {
    format!("$JS.API.STREAM.INFO.{stream}")
}
pub(crate) fn stream_create(stream: &str) -> String {
    format!("$JS.API.STREAM.CREATE.{stream}")
}
pub(crate) fn stream_update(stream: &str) -> String {
    format!("$JS.API.STREAM.UPDATE.{stream}")
}
pub(crate) fn stream_purge(stream: &str) -> String {
    format!("$JS.API.STREAM.PURGE.{stream}")
}
/// Asks the leader for one message.
pub(crate) fn message_get(stream: &str) -> String {
    format!("$JS.API.STREAM.MSG.GET.{stream}")
}
pub(crate) fn message_delete(stream: &str) -> String {
    format!("$JS.API.STREAM.MSG.DELETE.{stream}")
}
/// Asks any replica for messages.
pub(crate) fn direct_get(stream: &str) -> String {
    format!("$JS.API.DIRECT.GET.{stream}")
}
/// Asks any replica for the last message of a subject.
pub(crate) fn direct_last(stream: &str, subject: &str) -> String {
    format!("$JS.API.DIRECT.GET.{stream}.{subject}")
}
pub(crate) fn consumer_info(stream: &str, consumer: &str) -> String {
    format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}")
}
pub(crate) fn consumer_create(stream: &str, consumer: &str) -> String {
    format!("$JS.API.CONSUMER.CREATE.{stream}.{consumer}")
}
pub(crate) fn consumer_next(stream: &str, consumer: &str) -> String {
    format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}")
}
/// Acknowledgements of a consumer, in the form the server uses now and the one it announced.
pub(crate) fn acks(stream: &str, consumer: &str) -> [String; 2] {
    [format!("$JS.ACK.{stream}.{consumer}.>"), format!("$JS.ACK.*.*.{stream}.{consumer}.>")]
}
/// A key of a bucket's stream.
pub(crate) fn kv(bucket: &str, key: &str) -> String {
    format!("$KV.{bucket}.{key}")
}

/// What the subject of an acknowledgement says about its delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) attempt: u64,
    pub(crate) sequence: u64,
}

/// Reads the subject of an acknowledgement, in either form.
pub(crate) fn delivered(reply: &str) -> Option<Delivered> {
    let tokens: Vec<&str> = reply.split('.').collect();
    let at = match (tokens.as_slice(), tokens.len()) {
        (["$JS", "ACK", ..], 9) => 4,
        (["$JS", "ACK", ..], 11..) => 6,
        _ => return None,
    };
    Some(Delivered { attempt: tokens[at].parse().ok()?, sequence: tokens[at + 1].parse().ok()? })
}

/// When the delivered message was stored, out of the subject of its acknowledgement.
pub(crate) fn stored_at(reply: &str) -> Option<Timestamp> {
    let tokens: Vec<&str> = reply.split('.').collect();
    let nanos: i64 = tokens.get(if tokens.len() == 9 { 7 } else { 9 })?.parse().ok()?;
    Some(Timestamp::from_ms(nanos / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_subject_tells_attempt_and_sequence_in_both_forms() {
        let expected = Some(Delivered { attempt: 2, sequence: 5 });
        assert_eq!(delivered("$JS.ACK.TIM.x.2.5.3.1795242847501797891.0"), expected);
        assert_eq!(delivered("$JS.ACK._.hash.TIM.x.2.5.3.1795242847501797891.0"), expected);
        assert_eq!(delivered("$JS.ACK._.hash.TIM.x.2.5.3.1795242847501797891.0.rnd"), expected);
        assert_eq!(delivered("_INBOX.x"), None);
    }

    #[test]
    fn a_refusal_that_may_pass_is_told_from_one_that_stays() {
        assert!(is_transient(code::SEQUENCE_IN_PROCESS) && !is_transient(code::STORE_REFUSED));
        assert!(may_be_taken(code::STORE_REFUSED) && !may_be_taken(code::NO_STREAM));
    }
}
