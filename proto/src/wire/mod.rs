//! The wire: protobuf in, one current set of Rust types out. Decoding is where versions end.
//!
//! Generated code lies in `gen.rs` (made by `cargo xtask codegen`) and is private; the other files convert. The same value
//! always gives the same bytes. Three rules for what comes in:
//! - what this version can't name (a kind, a schema, a problem code, a value of a closed enum) makes the whole fact
//!   [`Body::Unknown`]: it is folded again after an upgrade, instead of being guessed at now;
//! - what is missing or contradicts its envelope is a [`DecodeError`];
//! - a field that this version does not know is passed over, so fields may be added.

mod fact;
#[path = "gen.rs"]
#[rustfmt::skip]
#[expect(unreachable_pub, reason = "generated")]
mod pb;
mod media;
mod order;
mod value;

use prost::Message as _;

use crate::envelope;
use crate::event::{Body, Event};
use crate::job::{Job, Order};
use crate::subject;
use value::{Bad, Wire};

/// Bytes that are not what their envelope says.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are no protobuf message of that type.
    #[error("the bytes are no {what}")]
    Malformed {
        /// Message type.
        what: &'static str,
        /// The decoder's own error.
        #[source]
        source: prost::DecodeError,
    },
    /// A field is missing or holds a value that this version can't hold.
    #[error("field {field} of {what} {reason}")]
    Field {
        /// Message type.
        what: &'static str,
        /// Field name.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// A fact's body as bytes.
pub fn encode_event(event: &Event) -> Vec<u8> {
    pb::Fact { body: Some(event.write()) }.encode_to_vec()
}

/// The body of a fact whose envelope names `ce_type` (its CloudEvents type) and `schema`. A kind or schema of a later version is
/// [`Body::Unknown`], not an error, and so is a fact that holds a problem code or another closed value of a later version.
///
/// # Errors
/// When the bytes are not what the envelope says.
pub fn decode_event(ce_type: &str, schema: u32, bytes: &[u8]) -> Result<Body, DecodeError> {
    let unknown = || Body::Unknown { kind: ce_type.to_owned() };
    let wrong = |field, reason| DecodeError::Field { what: "Fact", field, reason };
    if schema == 0 {
        return Err(wrong("schema", "is 0; versions count from 1".to_owned()));
    }
    let Ok(kind) = envelope::parse_ce_type(ce_type) else { return Ok(unknown()) };
    if schema > envelope::SCHEMA {
        return Ok(unknown());
    }
    let fact = pb::Fact::decode(bytes).map_err(|source| DecodeError::Malformed { what: "Fact", source })?;
    let Some(body) = fact.body else {
        return Err(wrong("body", format!("holds nothing of this version, the envelope says {kind:?}")));
    };
    match Event::read(body, ("Fact", "body")) {
        Ok(event) if event.kind() == kind => Ok(Body::Known(event)),
        Ok(event) => Err(wrong("body", format!("holds {:?}, the envelope says {kind:?}", event.kind()))),
        Err(Bad::Later { .. }) => Ok(unknown()),
        Err(Bad::Wrong(error)) => Err(error),
    }
}

/// An order as bytes. Its address (tenant, asset) is in its subject and not repeated.
pub fn encode_order(order: &Order) -> Vec<u8> {
    let Order { tenant: _, asset: _, round, job, cause } = order;
    pb::Order { round: *round, cause: cause.clone(), job: Some(job.write()) }.encode_to_vec()
}

/// The order found on `subject`.
///
/// # Errors
/// When the subject or the bytes are no order, or say different things.
pub fn decode_order(subject: &str, bytes: &[u8]) -> Result<Order, DecodeError> {
    let wrong = |field, reason| DecodeError::Field { what: "Order", field, reason };
    let address = subject::parse_job(subject).map_err(|e| wrong("subject", format!("is wrong: {e}")))?;
    let order = pb::Order::decode(bytes).map_err(|source| DecodeError::Malformed { what: "Order", source })?;
    let pb::Order { round, cause, job } = order;
    let job = job.ok_or_else(|| wrong("job", "is missing, or of a later version".to_owned()))?;
    let job = match Job::read(job, ("Order", "job")) {
        Ok(job) => job,
        Err(Bad::Later { what, field, value }) => {
            return Err(DecodeError::Field { what, field, reason: format!("is {value:?}, of a later version") });
        }
        Err(Bad::Wrong(error)) => return Err(error),
    };
    if job.item() != address.item {
        return Err(wrong("job", format!("is about {}, its subject about {}", job.item(), address.item)));
    }
    Ok(Order { tenant: address.tenant, asset: address.asset, round, job, cause })
}
