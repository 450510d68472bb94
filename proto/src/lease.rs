//! Who works on what: the values of the KV bucket of leases. For `explain` and progress and nothing else: no decision may
//! hang on them, because they can be gone, late or left over at any time.

use serde::{Deserialize, Serialize};

use crate::id::{AssetId, TenantId};
use crate::slot::Item;
use crate::time::Timestamp;

/// What a worker last said about the order it holds (or gave back, when [`LeaseNote::next_try`] is set). JSON in the bucket;
/// unknown fields of a later version are passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseNote {
    /// Who holds it: host and process of the worker, for operators.
    pub holder: String,
    /// Which delivery of the order, from 1.
    pub attempt: u64,
    /// Since when this attempt runs.
    pub since: Timestamp,
    /// When this note was written.
    pub updated_at: Timestamp,
    /// How far this attempt is, 0 to 100, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_percent: Option<u32>,
    /// What failed last, for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When it is tried again, while nobody works on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<Timestamp>,
}

/// The key of the note about `item`: `{tenant}.{asset}.{item}`.
pub fn key(tenant: &TenantId, asset: &AssetId, item: &Item) -> String {
    format!("{tenant}.{asset}.{item}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_whose_which_and_what() {
        let (tenant, asset) = (TenantId::default_tenant(), AssetId::from_bits(7));
        let item = Item::Video { generation: 2, chunk: 9 };
        assert_eq!(key(&tenant, &asset, &item), format!("default.{asset}.{item}"));
    }

    #[test]
    fn a_note_of_a_later_version_is_still_read() {
        let note = r#"{"holder":"a/7","attempt":2,"since":"2026-11-21T06:00:00Z","updated_at":"2026-11-21T06:00:01Z","mood":"good"}"#;
        let note: LeaseNote = serde_json::from_str(note).expect("a note");
        assert_eq!((note.attempt, note.progress_percent, note.next_try), (2, None, None));
    }
}
