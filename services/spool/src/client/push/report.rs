//! What a push says while bytes go over: whose they are, how far they are, what keeps them waiting. And where they stand, for
//! the next run of the same command.

use std::time::{Duration, Instant};

use serde_json::json;
use spool_proto::AssetId;

use super::super::print::{Out, Progress, size};
use super::memory::{Memory, Place};
use super::{Source, millis};

/// One upload, told.
pub(super) struct Report<'a> {
    out: Out,
    memory: &'a Memory,
    fingerprint: String,
    source: &'a Source,
    bar: Progress,
    /// Where this run began, and when: what an earlier one had sent does not count for its speed.
    begun: Option<(u64, Instant)>,
    sent: u64,
    asset: Option<AssetId>,
    /// What keeps it waiting, as it was told last: the same is not told with every try.
    waits_for: Option<String>,
}

impl<'a> Report<'a> {
    /// Of an upload of `source` that is remembered under `fingerprint`.
    pub(super) fn new(out: Out, memory: &'a Memory, fingerprint: String, source: &'a Source) -> Self {
        let bar = Progress::new(out, "upload");
        Self { out, memory, fingerprint, source, bar, begun: None, sent: 0, asset: None, waits_for: None }
    }

    /// Where the upload stands. The asset is told as soon as it is known: whatever comes then, it can be asked for.
    pub(super) fn stands(&mut self, place: &Place) {
        self.memory.keep(&self.fingerprint, place);
        let asset = place.upload.as_ref().map(|created| created.asset.clone());
        if let Some(asset) = asset
            && self.asset.as_ref() != Some(&asset)
        {
            self.bar.end();
            self.out.tell(&format!("asset   {asset}"));
            self.asset = Some(asset);
        }
    }

    /// So many bytes are stored or under way.
    pub(super) fn progress(&mut self, sent: u64) {
        if sent > self.sent {
            self.waits_for = None;
        }
        self.sent = sent;
        let source = self.source;
        let percent = (sent * 100).checked_div(source.size_bytes).unwrap_or(100);
        let (first, at) = *self.begun.get_or_insert((sent, Instant::now()));
        let bytes_a_second = (sent.saturating_sub(first) * 1000).checked_div(millis(at.elapsed())).unwrap_or(0);
        let more =
            format!("{} of {} at {}/s  {}", size(sent), size(source.size_bytes), size(bytes_a_second), source.name);
        let asset = self.asset.as_ref();
        self.bar.at(percent, &more, || {
            json!({
                "event": "upload",
                "id": asset,
                "file": source.name,
                "offset": sent,
                "size_bytes": source.size_bytes,
                "percent": percent,
            })
        });
    }

    /// It goes on later, because of this, and not for longer than that.
    pub(super) fn waits(&mut self, why: &str, does: &str, at_most: Duration) {
        if self.waits_for.as_deref() == Some(why) {
            return;
        }
        self.bar.end();
        self.out.note(&format!("{why} ({does} for about {} s)", at_most.as_secs()));
        self.waits_for = Some(why.to_owned());
    }

    /// It came to its end, or is given up for good: the next run begins anew.
    pub(super) fn forget(&mut self) {
        self.memory.forget(&self.fingerprint);
    }

    /// It is given up for now.
    pub(super) fn leave(&mut self) {
        self.bar.end();
        if self.asset.is_some() {
            self.out.tell("the same command goes on where this upload stands");
        }
    }

    /// Leaves the bar's line.
    pub(super) fn end(&mut self) {
        self.bar.end();
    }
}
