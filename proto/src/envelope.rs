//! Header names of every message, in one place: routing, dedup and tracing need no decoding of the body.
//!
//! Facts follow the CloudEvents 1.0 NATS binding in binary mode: `ce-` headers, body as it is.

use crate::event::Kind;
use crate::id::EventId;

/// The server's dedup id.
pub const MSG_ID: &str = "Nats-Msg-Id";
/// CloudEvents id; equal to [`MSG_ID`] in facts.
pub const CE_ID: &str = "ce-id";
/// CloudEvents type: [`ce_type`] of the kind.
pub const CE_TYPE: &str = "ce-type";
/// CloudEvents source: the role that wrote it, `/spool/{role}`.
pub const CE_SOURCE: &str = "ce-source";
/// CloudEvents version.
pub const CE_SPECVERSION: &str = "ce-specversion";
/// CloudEvents subject: the asset id.
pub const CE_SUBJECT: &str = "ce-subject";
/// CloudEvents content type.
pub const CE_DATACONTENTTYPE: &str = "ce-datacontenttype";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// Version of the body's schema; [`SCHEMA`] in what this version writes.
pub const SCHEMA_VERSION: &str = "Spool-Schema";
/// Id of the message that led here.
pub const CAUSE: &str = "Spool-Cause";
/// Opaque key id of who asked for it.
pub const ACTOR: &str = "Spool-Actor";
/// Problem code of a parked message.
pub const CODE: &str = "Spool-Code";
/// Deliveries of a parked message.
pub const ATTEMPTS: &str = "Spool-Attempts";
/// Last error of a parked message, for operators.
pub const LAST_ERROR: &str = "Spool-Last-Error";
/// Original subject of a parked message.
pub const ORIGINAL_SUBJECT: &str = "Spool-Original-Subject";
/// Original dedup id of a parked message; a release gives it back.
pub const ORIGINAL_MSG_ID: &str = "Spool-Original-Msg-Id";
/// Natural key that the gateway gave a request it put on the ingest stream itself.
pub const INGEST_KEY: &str = "Spool-Ingest-Key";
/// Door through which the gateway took a request it put on the ingest stream itself.
pub const INGEST_DOOR: &str = "Spool-Ingest-Door";

/// The schema version this crate writes.
pub const SCHEMA: u32 = 1;
/// The CloudEvents version this crate writes.
pub const CE_VERSION: &str = "1.0";
/// Content type of a fact's body.
pub const PROTOBUF: &str = "application/protobuf";

/// The CloudEvents type of a kind: `spool.v1.SourceStored`.
pub fn ce_type(kind: Kind) -> String {
    format!("spool.v1.{}", kind.name())
}

/// The kind named by a CloudEvents type.
///
/// # Errors
/// The text itself, when it names no kind of this version.
pub fn parse_ce_type(text: &str) -> Result<Kind, String> {
    let name = text.strip_prefix("spool.v1.").ok_or_else(|| text.to_owned())?;
    Kind::from_name(name).ok_or_else(|| text.to_owned())
}

/// The headers of a fact, in the order they are written.
pub fn fact_headers(
    id: &EventId,
    kind: Kind,
    source_role: &str,
    asset: &str,
    cause: Option<&str>,
    actor: Option<&str>,
    traceparent: Option<&str>,
) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        (MSG_ID, id.to_string()),
        (CE_ID, id.to_string()),
        (CE_TYPE, ce_type(kind)),
        (CE_SOURCE, format!("/spool/{source_role}")),
        (CE_SPECVERSION, CE_VERSION.to_owned()),
        (CE_SUBJECT, asset.to_owned()),
        (CE_DATACONTENTTYPE, PROTOBUF.to_owned()),
        (SCHEMA_VERSION, SCHEMA.to_string()),
    ];
    for (name, value) in [(CAUSE, cause), (ACTOR, actor), (TRACEPARENT, traceparent)] {
        headers.extend(value.map(|value| (name, value.to_owned())));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_names_its_kind_and_a_later_one_stays_text() {
        for kind in Kind::ALL {
            assert_eq!(parse_ce_type(&ce_type(*kind)), Ok(*kind));
        }
        assert_eq!(parse_ce_type("spool.v1.MoonLanded"), Err("spool.v1.MoonLanded".to_owned()));
    }
}
