//! What the gateway stands on did not do its part: the log, the store. One type, because the answer is the same everywhere:
//! a problem for the client, the chain for the operator, and for a delivery another try.

use spool_kit::StoreError;
use spool_kit::web::Refusal;
use spool_nats::{AppendError, IngestError, KvError, ParkError, ReadError, ReleaseError, TextError};
use spool_proto::{Code, Problem};

/// Something below the gateway failed.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// A fact could not be appended.
    #[error("append a fact")]
    Append(#[from] AppendError),
    /// Facts could not be read.
    #[error("read facts")]
    Read(#[from] ReadError),
    /// The entry of an upload could not be read or written.
    #[error("keep the entry of an upload")]
    Kv(#[from] KvError),
    /// The store failed.
    #[error("use the store")]
    Store(#[from] StoreError),
    /// A text could not be written or erased.
    #[error("keep a text")]
    Text(#[from] TextError),
    /// A request could not be put on the ingest stream.
    #[error("queue a request")]
    Queue(#[from] IngestError),
    /// A parked message could not be read.
    #[error("read parked messages")]
    Park(#[from] ParkError),
    /// A parked message could not be released.
    #[error("release a parked message")]
    Release(#[from] ReleaseError),
    /// The entry changed under every one of several tries.
    #[error("the entry of upload changed {tries} times while it was being changed")]
    Contended {
        /// How often.
        tries: u32,
    },
    /// What stands on the log or in an entry can't be: our own bug.
    #[error("{0}")]
    Broken(String),
}

impl Trouble {
    /// The problem as the outside knows it.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Store(error) => Problem::new(error.code()),
            Self::Append(_)
            | Self::Read(_)
            | Self::Kv(_)
            | Self::Text(_)
            | Self::Queue(_)
            | Self::Park(_)
            | Self::Release(_)
            | Self::Contended { .. } => Problem::new(Code::Unavailable).with("what", "The log"),
            Self::Broken(_) => Problem::new(Code::Internal).with("trace", "this request's X-Request-ID"),
        }
    }
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        tracing::error!(error = &trouble as &dyn std::error::Error, "a request could not be carried out");
        trouble.problem().into()
    }
}
