//! The request "take this in": the JSON of `POST /v1/assets` and of a message on `spool.ingest.{tenant}`.

use serde::{Deserialize, Serialize};

use crate::id::Sha256;
use crate::text::Text;

/// Where the bytes come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Input {
    /// A file below one of the allowed roots of the gateway that takes the request.
    Path(String),
}

/// A request to take a source in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngestRequest {
    /// Where the bytes come from.
    pub input: Input,
    /// Natural key of the request: the same one never registers a second asset. A NATS publisher gives this or `Nats-Msg-Id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Name of the profile; the default one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Expected digest of the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// What people typed. `filename` defaults to the last part of the path.
    #[serde(default, skip_serializing_if = "Text::is_empty")]
    pub text: Text,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_request_is_a_path() {
        let request: IngestRequest = serde_json::from_str(r#"{"input":{"path":"a/b.mp4"}}"#).expect("a request");
        assert_eq!(request.input, Input::Path("a/b.mp4".to_owned()));
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error =
            serde_json::from_str::<IngestRequest>(r#"{"input":{"path":"a"},"prio":1}"#).expect_err("unknown key");
        assert!(error.to_string().contains("prio"), "{error}");
    }
}
