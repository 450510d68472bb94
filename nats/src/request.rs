//! What can go wrong between a call and the server's answer, and the one place that makes calls.
//!
//! A denied call gets no answer from the server, only a line on the connection. That line is matched with the calls that wait
//! (see [`crate::connect::Denials`]), so that a denial is an error and not a silence.

use std::time::Duration;

use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::api;
use crate::connect::{Log, Watch};
use crate::message::Stored;

/// How long one call waits for its answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);
/// Pauses between the tries of a call that can be repeated; one try more than there are pauses.
pub(crate) const PAUSES: [Duration; 6] = [
    Duration::from_millis(20),
    Duration::from_millis(60),
    Duration::from_millis(150),
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// Why a call to the server did not succeed. The source of every error of this crate that speaks of the server.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// This user may not do that.
    #[error("user {user} may not use {subject}")]
    Denied {
        /// NATS user.
        user: String,
        /// Subject it tried.
        subject: String,
    },
    /// No answer in time.
    #[error("no answer on {subject} in time")]
    TimedOut {
        /// Subject asked.
        subject: String,
    },
    /// Nobody answers there: the stream or consumer does not exist, or has no leader at the moment.
    #[error("nobody answers on {subject}")]
    NoResponders {
        /// Subject asked.
        subject: String,
    },
    /// The server answered no.
    #[error("the server refused {subject}: {description} ({code})")]
    Refused {
        /// Subject asked.
        subject: String,
        /// JetStream's error code.
        code: u64,
        /// The server's words.
        description: String,
    },
    /// The message is larger than the server takes.
    #[error("the message for {subject} is larger than the server takes")]
    TooLarge {
        /// Subject asked.
        subject: String,
    },
    /// The answer is not understood, or the connection is closed for good.
    #[error("the exchange on {subject} failed")]
    Broken {
        /// Subject asked.
        subject: String,
        /// The client's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Failure {
    /// May the same call succeed in a moment?
    pub fn is_transient(&self) -> bool {
        match self {
            Failure::TimedOut { .. } | Failure::NoResponders { .. } => true,
            Failure::Refused { code, .. } => api::is_transient(*code),
            Failure::Denied { .. } | Failure::TooLarge { .. } | Failure::Broken { .. } => false,
        }
    }

    pub(crate) fn broken(subject: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
        Failure::Broken { subject: subject.to_owned(), source: source.into() }
    }

    pub(crate) fn timed_out(subject: &str) -> Failure {
        Failure::TimedOut { subject: subject.to_owned() }
    }

    pub(crate) fn code(&self) -> Option<u64> {
        match self {
            Failure::Refused { code, .. } => Some(*code),
            Failure::Denied { .. }
            | Failure::TimedOut { .. }
            | Failure::NoResponders { .. }
            | Failure::TooLarge { .. }
            | Failure::Broken { .. } => None,
        }
    }
}

/// The server's word that a message is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Stood {
    #[serde(rename = "seq")]
    pub(crate) sequence: u64,
    #[serde(default)]
    pub(crate) duplicate: bool,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct MaybeError {
    error: Option<ApiError>,
}

/// What a JSON answer holds: the thing asked for, or the server's refusal.
pub(crate) fn answer<T: DeserializeOwned>(subject: &str, body: &[u8]) -> Result<T, Failure> {
    let maybe: MaybeError = serde_json::from_slice(body).map_err(|e| Failure::broken(subject, e))?;
    if let Some(ApiError { err_code, description }) = maybe.error {
        return Err(Failure::Refused { subject: subject.to_owned(), code: err_code, description });
    }
    serde_json::from_slice(body).map_err(|e| Failure::broken(subject, e))
}

/// Sleeps for about `pause`, so that those who failed together do not come back together.
pub(crate) async fn about(pause: Duration) {
    let mut random = [0u8; 1];
    // Without randomness they come back together, which is only slower.
    let _ = getrandom::fill(&mut random);
    tokio::time::sleep(pause.mul_f64(0.5 + f64::from(random[0]) / 255.0)).await;
}

impl Log {
    /// One call, one answer.
    pub(crate) async fn call(
        &self,
        subject: &str,
        headers: Option<HeaderMap>,
        body: impl Into<Bytes>,
    ) -> Result<Message, Failure> {
        use async_nats::client::RequestErrorKind as Kind;
        let mut request = async_nats::Request::new().payload(body.into()).timeout(Some(ANSWER));
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let denied = self.watch(subject);
        let sent = self.client().send_request(subject.to_owned(), request);
        let outcome = tokio::select! {
            biased;
            outcome = sent => outcome,
            () = denied.seen() => return Err(self.denied(subject)),
        };
        outcome.map_err(|error| match error.kind() {
            Kind::TimedOut => Failure::timed_out(subject),
            Kind::NoResponders => Failure::NoResponders { subject: subject.to_owned() },
            Kind::MaxPayloadExceeded => Failure::TooLarge { subject: subject.to_owned() },
            Kind::InvalidSubject | Kind::Other => Failure::broken(subject, error),
        })
    }

    /// One call with a JSON answer.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, subject: &str, body: impl Into<Bytes>) -> Result<T, Failure> {
        answer(subject, &self.call(subject, None, body).await?.payload)
    }

    /// [`Log::ask`], tried again while that may help. For calls that may be made twice.
    pub(crate) async fn ask_again<T: DeserializeOwned>(&self, subject: &str, body: Bytes) -> Result<T, Failure> {
        for pause in PAUSES {
            match self.ask(subject, body.clone()).await {
                Err(failure) if failure.is_transient() => about(pause).await,
                outcome => return outcome,
            }
        }
        self.ask(subject, body).await
    }

    /// Stores one message.
    pub(crate) async fn store(&self, subject: &str, headers: HeaderMap, body: Bytes) -> Result<Stood, Failure> {
        answer(subject, &self.call(subject, Some(headers), body).await?.payload)
    }

    /// [`Log::store`], tried again while that may help. Only where a second copy does no harm, or the headers prevent it.
    pub(crate) async fn store_again(&self, subject: &str, headers: HeaderMap, body: Bytes) -> Result<Stood, Failure> {
        for pause in PAUSES {
            match self.store(subject, headers.clone(), body.clone()).await {
                Err(failure) if failure.is_transient() => about(pause).await,
                outcome => return outcome,
            }
        }
        self.store(subject, headers, body).await
    }

    /// One call, many answers.
    pub(crate) async fn open(&self, subject: &str, body: impl Into<Bytes>) -> Result<Replies, Failure> {
        let denied = self.watch(subject);
        let inbox = self.client().new_inbox();
        let answers = self.client().subscribe(inbox.clone()).await.map_err(|error| Failure::broken(subject, error))?;
        self.client()
            .publish_with_reply(subject.to_owned(), inbox, body.into())
            .await
            .map_err(|error| Failure::broken(subject, error))?;
        Ok(Replies { log: self.clone(), subject: subject.to_owned(), answers, denied })
    }

    /// Messages of a stream, from any replica: what `query` asks for, until the server says that is all.
    pub(crate) async fn batch(&self, stream: &str, query: &serde_json::Value) -> Result<Batch, Failure> {
        let subject = api::direct_get(stream);
        let mut replies = self.open(&subject, query.to_string()).await?;
        let mut stored = Vec::new();
        loop {
            let message = replies.next(ANSWER).await?.ok_or_else(|| Failure::timed_out(&subject))?;
            match message.status.map(|status| status.as_u16()) {
                None => stored.push(Stored::from_direct(&message).map_err(|e| Failure::broken(&subject, e))?),
                Some(204) => {
                    let pending = message.headers.as_ref().and_then(|h| h.get(api::header::NUM_PENDING));
                    let pending = pending.and_then(|p| p.as_str().parse().ok()).unwrap_or(0);
                    return Ok(Batch { stored, pending, too_many: false });
                }
                Some(404) => return Ok(Batch { stored, pending: 0, too_many: false }),
                Some(413) => return Ok(Batch { stored, pending: 0, too_many: true }),
                Some(status) => {
                    let description = message.description.unwrap_or_default();
                    return Err(Failure::Refused { subject, code: status.into(), description });
                }
            }
        }
    }

    /// [`Log::batch`], tried again while that may help.
    pub(crate) async fn batch_again(&self, stream: &str, query: &serde_json::Value) -> Result<Batch, Failure> {
        for pause in PAUSES {
            match self.batch(stream, query).await {
                Err(failure) if failure.is_transient() => about(pause).await,
                outcome => return outcome,
            }
        }
        self.batch(stream, query).await
    }
}

/// Messages of a stream, in the order of their sequences.
pub(crate) struct Batch {
    pub(crate) stored: Vec<Stored>,
    /// How many the answering replica has beyond these.
    pub(crate) pending: u64,
    /// There are more than the server hands out at once; none came.
    pub(crate) too_many: bool,
}

/// The answers to one call.
pub(crate) struct Replies {
    log: Log,
    subject: String,
    answers: async_nats::Subscriber,
    denied: Watch,
}

impl Replies {
    /// The next answer; nothing when none came in time.
    pub(crate) async fn next(&mut self, within: Duration) -> Result<Option<Message>, Failure> {
        let message = tokio::select! {
            biased;
            message = self.answers.next() => message,
            () = self.denied.seen() => return Err(self.log.denied(&self.subject)),
            () = tokio::time::sleep(within) => return Ok(None),
        };
        let message = message.ok_or_else(|| Failure::broken(&self.subject, "the connection is closed"))?;
        if message.status == Some(async_nats::StatusCode::NO_RESPONDERS) {
            return Err(Failure::NoResponders { subject: self.subject.clone() });
        }
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_what_was_asked_for_or_the_refusal() {
        let stood: Stood = answer("s", br#"{"stream":"E","seq":2,"duplicate": true}"#).expect("an ack");
        assert_eq!(stood, Stood { sequence: 2, duplicate: true });
        let refused = br#"{"error":{"code":503,"err_code":10077,"description":"maximum messages per subject exceeded"},"stream":"E","seq":0}"#;
        assert_eq!(answer::<Stood>("s", refused).expect_err("a refusal").code(), Some(10077));
        assert!(matches!(answer::<Stood>("s", b"hello"), Err(Failure::Broken { .. })));
    }
}
