//! NATS subjects: built and parsed here and nowhere else. The tree's own check refuses a `"spool.` literal in other files.

use std::fmt;

use crate::id::{AssetId, TenantId, TextToken};
use crate::slot::{Item, Slot};

/// Every fact: the subjects of `SPOOL_EVENTS`.
pub const EVENTS: &str = "spool.evt.>";
/// Every order: the subjects of `SPOOL_JOBS`.
pub const JOBS: &str = "spool.job.>";
/// Ticks that wait.
pub const TIMERS_SET: &str = "spool.timer.set.>";
/// Ticks that are due.
pub const TIMERS_DUE: &str = "spool.timer.due.>";
/// What people typed.
pub const TEXTS: &str = "spool.txt.>";
/// Requests from publishers outside.
pub const INGEST: &str = "spool.ingest.*";
/// Messages given up.
pub const PARKED: &str = "spool.parked.>";

/// What a worker is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Work {
    /// Inspect a source.
    Inspect,
    /// Encode chunks of the picture.
    Video,
    /// Encode a sound track.
    Audio,
    /// Make a still picture.
    Still,
}

impl Work {
    /// Every kind of work.
    pub const ALL: [Work; 4] = [Work::Inspect, Work::Video, Work::Audio, Work::Still];

    /// The token in subjects.
    pub fn name(self) -> &'static str {
        match self {
            Work::Inspect => "inspect",
            Work::Video => "video",
            Work::Audio => "audio",
            Work::Still => "still",
        }
    }
}

/// How urgent an order is. A worker asks the lanes in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// What stands between an asset and its first playback.
    First,
    /// What lets a playback go on.
    Next,
    /// The rest.
    Bulk,
    /// Picture that takes as long as the video: for hands of its own, so that nothing short waits behind it.
    Pass,
    /// Sound that takes long: for hands of its own again. Behind another video's pass it would keep a player waiting.
    Sound,
}

impl Lane {
    /// Every lane, most urgent first.
    pub const ALL: [Lane; 5] = [Lane::First, Lane::Next, Lane::Bulk, Lane::Pass, Lane::Sound];

    /// The token in subjects.
    pub fn name(self) -> &'static str {
        match self {
            Lane::First => "first",
            Lane::Next => "next",
            Lane::Bulk => "bulk",
            Lane::Pass => "pass",
            Lane::Sound => "sound",
        }
    }

    /// The lane of an item: a function of the item alone, so that an order has one subject.
    pub fn of(item: &Item) -> Lane {
        match item {
            // A poster is quickly made, and *ready* waits for it: behind other videos' beginnings it would wait for ever.
            Item::Inspect { .. } | Item::Video { chunk: 0, .. } | Item::Audio { .. } | Item::Still { .. } => {
                Lane::First
            }
            // A minute and a half, until which chunks are short.
            Item::Video { chunk: 1..=9, .. } => Lane::Next,
            Item::Video { .. } => Lane::Bulk,
            Item::Pass { .. } => Lane::Pass,
            Item::AudioPass { .. } => Lane::Sound,
        }
    }
}

impl Work {
    /// The work of an item.
    pub fn of(item: &Item) -> Work {
        match item {
            Item::Inspect { .. } => Work::Inspect,
            Item::Video { .. } | Item::Pass { .. } => Work::Video,
            Item::Audio { .. } | Item::AudioPass { .. } => Work::Audio,
            Item::Still { .. } => Work::Still,
        }
    }
}

/// The subject of the fact in `slot`.
pub fn event(tenant: &TenantId, asset: &AssetId, slot: &Slot) -> String {
    format!("spool.evt.{tenant}.asset.{asset}.{slot}")
}

/// Every fact of one asset.
pub fn asset_events(tenant: &TenantId, asset: &AssetId) -> String {
    format!("spool.evt.{tenant}.asset.{asset}.>")
}

/// Every fact in slots of this wildcard (a [`crate::slot::SlotRow::wildcard`]), of any asset: what a writer may publish.
pub fn events_like(wildcard: &str) -> String {
    format!("spool.evt.*.asset.*.{wildcard}")
}

/// A subject that this version does not understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no subject of spool")]
pub struct SubjectError(String);

/// A fact's subject, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSubject {
    /// Whose.
    pub tenant: TenantId,
    /// About which asset.
    pub asset: AssetId,
    /// Where; the text of it where this version does not know the slot.
    pub slot: Result<Slot, String>,
}

/// Takes a fact's subject apart.
///
/// # Errors
/// When it is not a fact of an asset (recordings and collections may come; this version does not know them).
pub fn parse_event(subject: &str) -> Result<EventSubject, SubjectError> {
    let refuse = || SubjectError(subject.to_owned());
    let mut tokens = subject.splitn(6, '.');
    let mut next = || tokens.next().ok_or_else(refuse);
    if (next()?, next()?) != ("spool", "evt") {
        return Err(refuse());
    }
    let tenant = next()?.parse().map_err(|_| refuse())?;
    if next()? != "asset" {
        return Err(refuse());
    }
    let asset = next()?.parse().map_err(|_| refuse())?;
    let slot = next()?;
    Ok(EventSubject { tenant, asset, slot: slot.parse().map_err(|_| slot.to_owned()) })
}

/// The one subject of the order for `item`.
pub fn job(tenant: &TenantId, asset: &AssetId, item: &Item) -> String {
    format!("spool.job.{}.{}.{tenant}.{asset}.{item}", Work::of(item).name(), Lane::of(item).name())
}

/// Every order of a lane.
pub fn jobs_of(lane: Lane) -> String {
    format!("spool.job.*.{}.>", lane.name())
}

/// An order's subject, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSubject {
    /// Whose.
    pub tenant: TenantId,
    /// About which asset.
    pub asset: AssetId,
    /// What.
    pub item: Item,
}

/// Takes an order's subject apart.
///
/// # Errors
/// When it is no order, or not the one subject of its item.
pub fn parse_job(subject: &str) -> Result<JobSubject, SubjectError> {
    let refuse = || SubjectError(subject.to_owned());
    let tokens: Vec<&str> = subject.split('.').collect();
    let ["spool", "job", _, _, tenant, asset, item] = tokens.as_slice() else {
        return Err(refuse());
    };
    let tenant: TenantId = tenant.parse().map_err(|_| refuse())?;
    let asset: AssetId = asset.parse().map_err(|_| refuse())?;
    let item: Item = item.parse().map_err(|_| refuse())?;
    if job(&tenant, &asset, &item) != subject {
        return Err(refuse());
    }
    Ok(JobSubject { tenant, asset, item })
}

/// Where a waiting asset's tick is set.
pub fn timer_set(tenant: &TenantId, asset: &AssetId) -> String {
    format!("spool.timer.set.{tenant}.{asset}")
}

/// Where it comes back when it is due.
pub fn timer_due(tenant: &TenantId, asset: &AssetId) -> String {
    format!("spool.timer.due.{tenant}.{asset}")
}

/// Takes a due tick's subject apart.
///
/// # Errors
/// When it is no due tick.
pub fn parse_timer_due(subject: &str) -> Result<(TenantId, AssetId), SubjectError> {
    let refuse = || SubjectError(subject.to_owned());
    let tokens: Vec<&str> = subject.split('.').collect();
    let ["spool", "timer", "due", tenant, asset] = tokens.as_slice() else {
        return Err(refuse());
    };
    Ok((tenant.parse().map_err(|_| refuse())?, asset.parse().map_err(|_| refuse())?))
}

/// One text of an asset.
pub fn text(tenant: &TenantId, asset: &AssetId, token: &TextToken) -> String {
    format!("spool.txt.{tenant}.{asset}.{token}")
}

/// Every text of an asset.
pub fn asset_texts(tenant: &TenantId, asset: &AssetId) -> String {
    format!("spool.txt.{tenant}.{asset}.>")
}

/// Where publishers outside put their requests.
pub fn ingest(tenant: &TenantId) -> String {
    format!("spool.ingest.{tenant}")
}

/// The tenant of an ingest request.
///
/// # Errors
/// When it is no ingest subject or its tenant no tenant.
pub fn parse_ingest(subject: &str) -> Result<TenantId, SubjectError> {
    let refuse = || SubjectError(subject.to_owned());
    let tenant = subject.strip_prefix("spool.ingest.").ok_or_else(refuse)?;
    tenant.parse().map_err(|_| refuse())
}

/// Where message `sequence` of `stream`, given up by `consumer`, is parked.
pub fn parked(stream: &str, consumer: &str, sequence: u64) -> String {
    format!("spool.parked.{stream}.{consumer}.{sequence}")
}

/// A parked message's subject, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ParkedSubject {
    /// Stream it came from.
    pub stream: String,
    /// Consumer that gave it up.
    pub consumer: String,
    /// Its sequence in that stream.
    pub sequence: u64,
}

impl fmt::Display for ParkedSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&parked(&self.stream, &self.consumer, self.sequence))
    }
}

/// Takes a parked message's subject apart.
///
/// # Errors
/// When it is no parked message.
pub fn parse_parked(subject: &str) -> Result<ParkedSubject, SubjectError> {
    let refuse = || SubjectError(subject.to_owned());
    let tokens: Vec<&str> = subject.split('.').collect();
    let ["spool", "parked", stream, consumer, sequence] = tokens.as_slice() else {
        return Err(refuse());
    };
    let sequence = sequence.parse().map_err(|_| refuse())?;
    Ok(ParkedSubject { stream: (*stream).to_owned(), consumer: (*consumer).to_owned(), sequence })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> (TenantId, AssetId) {
        (TenantId::default_tenant(), AssetId::from_bits(7))
    }

    #[test]
    fn subjects_come_apart_as_they_were_put_together() {
        let (tenant, asset) = ids();
        let slot = Slot::EncodeVideo { generation: 1, chunk: 4 };
        let parsed = parse_event(&event(&tenant, &asset, &slot)).expect("own subject");
        assert_eq!(parsed, EventSubject { tenant: tenant.clone(), asset: asset.clone(), slot: Ok(slot) });
        for item in ["n1", "g1-v0", "g2-v9", "g1-a0", "g1-s-poster"] {
            let item: Item = item.parse().expect("an item");
            let parsed = parse_job(&job(&tenant, &asset, &item)).expect("own subject");
            assert_eq!(parsed, JobSubject { tenant: tenant.clone(), asset: asset.clone(), item });
        }
        assert_eq!(parse_timer_due(&timer_due(&tenant, &asset)), Ok((tenant.clone(), asset)));
        assert_eq!(parse_ingest(&ingest(&tenant)), Ok(tenant));
        let parked = ParkedSubject { stream: "SPOOL_JOBS".to_owned(), consumer: "first".to_owned(), sequence: 12 };
        assert_eq!(parse_parked(&parked.to_string()), Ok(parked));
    }

    #[test]
    fn a_slot_of_a_later_version_is_kept_as_text() {
        let (tenant, asset) = ids();
        let parsed = parse_event(&format!("spool.evt.{tenant}.asset.{asset}.later.kind.3")).expect("an asset's fact");
        assert_eq!(parsed.slot, Err("later.kind.3".to_owned()));
    }

    #[test]
    fn an_order_in_the_wrong_lane_is_no_order() {
        let (tenant, asset) = ids();
        assert!(parse_job(&format!("spool.job.video.bulk.{tenant}.{asset}.g1-v0")).is_err());
    }
}
