//! Ids, handed in: random in production, a repeatable row in tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use spool_proto::id::{AssetId, AttemptId, PlaybackId, TextToken, UploadId};
use spool_proto::{Timestamp, id::EventId};

/// Where a role takes new ids from. Cheap to clone; clones of a seeded row go on where the other stopped.
#[derive(Debug, Clone)]
pub struct Ids(Source);

#[derive(Debug, Clone)]
enum Source {
    Random,
    Seeded(Arc<AtomicU64>),
}

impl Ids {
    /// Ids from the machine's randomness. Upload and playback ids are secrets, so nothing weaker will do.
    pub fn random() -> Self {
        Self(Source::Random)
    }

    /// The same row of ids for the same seed. For tests only: they can be guessed.
    pub fn seeded(seed: u64) -> Self {
        Self(Source::Seeded(Arc::new(AtomicU64::new(seed))))
    }

    /// 64 new bits.
    pub fn bits(&self) -> u64 {
        match &self.0 {
            #[expect(clippy::expect_used, reason = "a machine without randomness must not hand out secrets")]
            Source::Random => getrandom::u64().expect("the kernel gives randomness once it has booted"),
            Source::Seeded(state) => {
                // SplitMix64: every state gives another value, so a row never repeats within 2^64 ids.
                let mut z =
                    state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst).wrapping_add(0x9e37_79b9_7f4a_7c15);
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            }
        }
    }

    fn wide(&self) -> u128 {
        u128::from(self.bits()) << 64 | u128::from(self.bits())
    }

    /// A new asset id: a UUIDv7, so that ids sort by the time they were made.
    pub fn asset_id(&self, now: Timestamp) -> AssetId {
        let ms = u64::try_from(now.as_ms()).unwrap_or(0);
        let mut random = [0; 10];
        random.copy_from_slice(&self.wide().to_be_bytes()[..10]);
        AssetId::from_bits(uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid().as_u128())
    }

    /// A new upload id; a secret.
    pub fn upload_id(&self) -> UploadId {
        UploadId::from_bits(self.wide())
    }

    /// A new playback id; a secret.
    pub fn playback_id(&self) -> PlaybackId {
        PlaybackId::from_bits(self.wide())
    }

    /// A new text token.
    pub fn text_token(&self) -> TextToken {
        TextToken::from_bits(self.wide())
    }

    /// A new attempt at writing an object.
    pub fn attempt(&self) -> AttemptId {
        AttemptId::from_bits(self.bits())
    }

    /// A new id for one request: in answers, logs and traces.
    pub fn request_id(&self) -> String {
        let id = EventId::from_bits(self.wide());
        format!("req_{}", id.as_str().trim_start_matches("evt_"))
    }

    /// A new W3C `traceparent` (sampled).
    pub fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-01", self.wide(), self.bits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seeded_row_repeats_and_never_gives_one_id_twice() {
        let (one, two) = (Ids::seeded(7), Ids::seeded(7));
        let row: Vec<_> = (0..100).map(|_| one.upload_id()).collect();
        assert_eq!(row, (0..100).map(|_| two.upload_id()).collect::<Vec<_>>());
        assert_eq!(row.iter().collect::<std::collections::BTreeSet<_>>().len(), 100);
    }

    #[test]
    fn asset_ids_sort_by_the_time_they_were_made() {
        let ids = Ids::random();
        let early = ids.asset_id(Timestamp::from_ms(1_795_240_800_000));
        let late = ids.asset_id(Timestamp::from_ms(1_795_240_800_001));
        assert!(early < late);
    }
}
