//! The wire: protobuf in, one current set of Rust types out. Decoding is where versions end.
//!
//! Generated code lies in `gen.rs` (made by `cargo xtask codegen`) and is private; the other files convert.

use crate::event::{Body, Event};
use crate::job::Order;

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
pub fn encode_event(_event: &Event) -> Vec<u8> {
    unimplemented!()
}

/// The body of a fact whose envelope names `kind` (its CloudEvents type) and `schema`. A kind or schema of a later version is
/// [`Body::Unknown`], not an error.
///
/// # Errors
/// When the bytes are not what the envelope says.
pub fn decode_event(_ce_type: &str, _schema: u32, _bytes: &[u8]) -> Result<Body, DecodeError> {
    unimplemented!()
}

/// An order as bytes. Its address (tenant, asset) is in its subject and not repeated.
pub fn encode_order(_order: &Order) -> Vec<u8> {
    unimplemented!()
}

/// The order found on `subject`.
///
/// # Errors
/// When the subject or the bytes are no order, or say different things.
pub fn decode_order(_subject: &str, _bytes: &[u8]) -> Result<Order, DecodeError> {
    unimplemented!()
}
