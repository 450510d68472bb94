//! What people typed about an asset: personal data, so it lies on `SPOOL_TEXTS` and never in a fact.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One description of an asset, whole: a later one replaces it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// File name as the client gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    /// Title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Short names and values to filter by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Anything the client wants to keep with the asset.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Opaque text that comes back in answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passthrough: Option<String>,
    /// The asset's name in the client's own system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
}

impl Text {
    /// Is there nothing in it?
    pub fn is_empty(&self) -> bool {
        *self == Text::default()
    }
}
