//! A stored message, taken apart; a fact out of it.

use std::collections::BTreeMap;

use async_nats::jetstream::stream::RawMessage;
use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use serde::Deserialize;
use spool_proto::event::{Body, Fact};
use spool_proto::id::EventId;
use spool_proto::{Timestamp, envelope, subject, wire};

use crate::api::{self, code, header};
use crate::connect::Log;
use crate::request::Failure;

/// A message as a stream holds it.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) subject: String,
    pub(crate) sequence: u64,
    pub(crate) at: Timestamp,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

type Anything = Box<dyn std::error::Error + Send + Sync>;

impl Stored {
    /// From the answer to a direct get.
    pub(crate) fn from_direct(message: &Message) -> Result<Stored, Anything> {
        let headers = message.headers.clone().unwrap_or_default();
        let need = |name: &str| first(&headers, name).ok_or_else(|| format!("the answer has no {name}"));
        Ok(Stored {
            subject: need(header::SUBJECT)?.to_owned(),
            sequence: need(header::SEQUENCE)?.parse()?,
            at: need(header::TIME_STAMP)?.parse()?,
            body: message.payload.clone(),
            headers,
        })
    }

    /// From the answer of a leader.
    fn from_raw(raw: RawMessage) -> Result<Stored, Anything> {
        let message = async_nats::jetstream::message::StreamMessage::try_from(raw)?;
        let ms = (message.time.unix_timestamp_nanos() / 1_000_000) as i64;
        Ok(Stored {
            subject: message.subject.to_string(),
            sequence: message.sequence,
            at: Timestamp::from_ms(ms),
            headers: message.headers,
            body: message.payload,
        })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }
}

/// The first value of a header. The client matches names exactly, as the server does.
pub(crate) fn first<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(async_nats::HeaderValue::as_str)
}

/// The first value of each header, without the server's own.
pub(crate) fn plain_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    headers
        .iter()
        .filter(|(name, _)| !name.to_string().starts_with(header::SERVER_PREFIX))
        .filter_map(|(name, values)| Some((name.to_string(), values.first()?.as_str().to_owned())))
        .collect()
}

/// Headers from names and values. Line breaks would end a header, so they become spaces.
pub(crate) fn headers<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.insert(name, value.replace(['\r', '\n'], " ").as_str());
    }
    map
}

/// The fact in a stored message, or why it is none.
pub(crate) fn fact(stored: &Stored) -> Result<Fact, String> {
    let address = subject::parse_event(&stored.subject).map_err(|e| e.to_string())?;
    let ce_type = stored.header(envelope::CE_TYPE).unwrap_or_default();
    let schema = stored.header(envelope::SCHEMA_VERSION).and_then(|v| v.parse().ok()).unwrap_or(envelope::SCHEMA);
    let body = wire::decode_event(ce_type, schema, &stored.body).unwrap_or_else(|error| {
        // It marks its asset like a kind of a later version; stopping every fold for one message would be worse.
        let (sequence, asset) = (stored.sequence, &address.asset);
        tracing::error!(
            asset.id = %asset,
            sequence,
            error = &error as &dyn std::error::Error,
            "fact {sequence} of {asset} is not what its envelope says"
        );
        Body::Unknown { kind: ce_type.to_owned() }
    });
    let id = stored.header(envelope::CE_ID).and_then(|id| id.parse().ok());
    Ok(Fact {
        sequence: stored.sequence,
        at: stored.at,
        tenant: address.tenant,
        asset: address.asset,
        slot: address.slot,
        id: id.unwrap_or_else(|| EventId::of_subject(&stored.subject)),
        cause: stored.header(envelope::CAUSE).map(str::to_owned),
        actor: stored.header(envelope::ACTOR).map(str::to_owned),
        body,
    })
}

#[derive(Deserialize)]
struct GotMessage {
    message: RawMessage,
}

impl Log {
    /// The last message of a subject, asked of the stream's leader.
    pub(crate) async fn last_at_leader(&self, stream: &str, subject: &str) -> Result<Option<Stored>, Failure> {
        self.at_leader(stream, serde_json::json!({ "last_by_subj": subject })).await
    }

    /// The message of a sequence, asked of the stream's leader.
    pub(crate) async fn message_at_leader(&self, stream: &str, sequence: u64) -> Result<Option<Stored>, Failure> {
        self.at_leader(stream, serde_json::json!({ "seq": sequence })).await
    }

    async fn at_leader(&self, stream: &str, query: serde_json::Value) -> Result<Option<Stored>, Failure> {
        let subject = api::message_get(stream);
        match self.ask_again::<GotMessage>(&subject, query.to_string().into()).await {
            Ok(got) => Stored::from_raw(got.message).map(Some).map_err(|e| Failure::broken(&subject, e)),
            Err(failure) if failure.code() == Some(code::NO_MESSAGE) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The last message of a subject, asked of any replica; one that lags may not have it yet.
    pub(crate) async fn last_anywhere(&self, stream: &str, subject: &str) -> Result<Option<Stored>, Failure> {
        let get = api::direct_last(stream, subject);
        let message = self.call(&get, None, Bytes::new()).await?;
        match message.status.map(|status| status.as_u16()) {
            None => Stored::from_direct(&message).map(Some).map_err(|e| Failure::broken(&get, e)),
            Some(404) => Ok(None),
            Some(status) => {
                let description = message.description.unwrap_or_default();
                Err(Failure::Refused { subject: get, code: status.into(), description })
            }
        }
    }

    /// The last message of a subject: asked of any replica, and where that one does not have it or does not answer, of the leader.
    pub(crate) async fn last(&self, stream: &str, subject: &str) -> Result<Option<Stored>, Failure> {
        match self.last_anywhere(stream, subject).await {
            Ok(Some(stored)) => Ok(Some(stored)),
            Ok(None) => self.last_at_leader(stream, subject).await,
            Err(failure) if failure.is_transient() => self.last_at_leader(stream, subject).await,
            Err(failure) => Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_can_not_be_split_by_its_value() {
        let map = headers([("A", "x\r\nB: y".to_owned())]);
        assert_eq!(first(&map, "A"), Some("x  B: y"));
        assert_eq!(first(&map, "B"), None);
    }

    #[test]
    fn what_steered_the_server_is_not_kept() {
        let map = headers([("Nats-Msg-Id", "1".to_owned()), ("Own", "2".to_owned())]);
        assert_eq!(plain_headers(&map), BTreeMap::from([("Own".to_owned(), "2".to_owned())]));
    }
}
