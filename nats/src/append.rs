//! Appending a fact: one winner per slot, for ever.
//!
//! The stream refuses a second message on a subject, so there is no window to outlive. How it refuses differs (10071, 10077, 10158, 10164,
//! `duplicate: true`, a time-out): whatever came, the writer looks at the slot and goes on from what stands there.

use async_nats::HeaderMap;
use bytes::Bytes;
use spool_proto::event::{Body, Draft, Fact};
use spool_proto::id::EventId;
use spool_proto::{envelope, subject, wire};

use crate::connect::Log;
use crate::message::headers;
use crate::read::ReadError;
use crate::request::{Failure, PAUSES, Stood, about};
use crate::{api, trace};

/// What came of an append: either way a fact stands in the slot now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// The draft is the fact.
    Written {
        /// Its sequence in `SPOOL_EVENTS`.
        sequence: u64,
    },
    /// A fact stood there already: the same one (an earlier attempt, a twin) or a rival. Go on from this one.
    Exists(Box<Fact>),
}

impl Appended {
    /// Sequence of the fact that stands.
    pub fn sequence(&self) -> u64 {
        match self {
            Appended::Written { sequence } => *sequence,
            Appended::Exists(fact) => fact.sequence,
        }
    }

    /// Does the fact that stands say what the draft says (kind and body; ids are shared by rivals and tell nothing)?
    pub fn says(&self, draft: &Draft) -> bool {
        match self {
            Appended::Written { .. } => true,
            Appended::Exists(fact) => matches!(&fact.body, Body::Known(event) if *event == draft.event),
        }
    }
}

/// No fact was appended, as far as known.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The slot is not for facts of this kind: our own bug.
    #[error("slot {slot} does not admit {kind}")]
    NotAdmitted {
        /// Slot.
        slot: String,
        /// Kind.
        kind: &'static str,
    },
    /// The server could not be asked, or said no.
    #[error("append {kind} on {subject}")]
    Failed {
        /// Kind.
        kind: &'static str,
        /// Subject.
        subject: String,
        /// Why.
        #[source]
        source: Failure,
    },
    /// The slot is taken, and what stands there can't be read.
    #[error("read what stands on {subject}")]
    Read {
        /// Subject.
        subject: String,
        /// Why.
        #[source]
        source: ReadError,
    },
}

impl Log {
    /// Appends a fact, once and for all. Repeating it is harmless, at any time, from any process.
    ///
    /// # Errors
    /// When it is not known that a fact stands in the slot.
    pub async fn append(&self, draft: &Draft) -> Result<Appended, AppendError> {
        let kind = draft.event.kind();
        if !draft.slot.admits(kind) {
            return Err(AppendError::NotAdmitted { slot: draft.slot.to_string(), kind: kind.name() });
        }
        let subject = subject::event(&draft.tenant, &draft.asset, &draft.slot);
        let headers = fact_headers(draft, &subject, self.role());
        let body = Bytes::from(wire::encode_event(&draft.event));
        let mut pauses = PAUSES.iter();
        loop {
            let outcome = self.store(&subject, headers.clone(), body.clone()).await;
            let failure = match outcome {
                Ok(Stood { sequence, duplicate: false }) => return Ok(Appended::Written { sequence }),
                Ok(Stood { duplicate: true, .. }) => None,
                Err(failure) if may_stand(&failure) => Some(failure),
                Err(source) => return Err(AppendError::Failed { kind: kind.name(), subject, source }),
            };
            let standing = self.read_slot(&draft.tenant, &draft.asset, &draft.slot).await;
            match standing {
                Ok(Some(fact)) => return Ok(Appended::Exists(Box::new(fact))),
                Ok(None) => {}
                Err(source) => return Err(AppendError::Read { subject, source }),
            }
            let Some(pause) = pauses.next() else {
                let source = failure.unwrap_or_else(|| Failure::timed_out(&subject));
                return Err(AppendError::Failed { kind: kind.name(), subject, source });
            };
            about(*pause).await;
        }
    }
}

/// After this failure, may a fact stand in the slot, by this call or by another? Which of them comes depends on replicas and timing.
fn may_stand(failure: &Failure) -> bool {
    failure.is_transient() || failure.code().is_some_and(api::may_be_taken)
}

fn fact_headers(draft: &Draft, subject: &str, role: &str) -> HeaderMap {
    let id = EventId::of_subject(subject);
    headers(envelope::fact_headers(
        &id,
        draft.event.kind(),
        role,
        draft.asset.as_str(),
        draft.cause.as_deref(),
        draft.actor.as_deref(),
        trace::current().as_deref(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_saying_taken_makes_the_writer_look() {
        let refused = |code| Failure::Refused { subject: String::new(), code, description: String::new() };
        for code in [10071, 10077, 10158, 10164] {
            assert!(may_stand(&refused(code)), "{code}");
        }
        assert!(may_stand(&Failure::timed_out("s")));
        assert!(may_stand(&Failure::NoResponders { subject: String::new() }));
        assert!(!may_stand(&Failure::TooLarge { subject: String::new() }));
        assert!(!may_stand(&refused(10060)));
    }
}
