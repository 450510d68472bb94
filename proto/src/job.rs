//! Orders: what a worker is asked to do. Small on purpose: a worker reads the facts (source, plan) from the log, so an
//! order can't contradict them. What only the planner's configuration says stands in the order.

use serde::{Deserialize, Serialize};

use crate::id::{AssetId, TenantId};
use crate::media::{Cut, Plan};
use crate::slot::Item;
use crate::subject;

/// Inspect the source for a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectOrder {
    /// Verdict round, from 1.
    pub verdict: u32,
    /// Longest source that is taken, as the planner is configured; none where whoever asks leaves that open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration_ms: Option<u64>,
}

/// Encode chunks `first..=last` of the picture in one pass, stating each when it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoOrder {
    /// Generation, from 1.
    pub generation: u32,
    /// First chunk.
    pub first: u32,
    /// Last chunk; at least `first`.
    pub last: u32,
}

/// Encode a whole sound track in one pass, stating each chunk when it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioOrder {
    /// Generation, from 1.
    pub generation: u32,
    /// Track index.
    pub track: u32,
}

/// Make a still picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StillOrder {
    /// Generation, from 1.
    pub generation: u32,
    /// Name.
    pub name: String,
}

/// What is asked for. Closed: a new kind of work stops the build wherever one is handled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// See [`InspectOrder`].
    Inspect(InspectOrder),
    /// See [`VideoOrder`].
    Video(VideoOrder),
    /// A [`VideoOrder`] that reads a whole source through: as long as the video, so for hands of its own.
    Pass(VideoOrder),
    /// See [`AudioOrder`].
    Audio(AudioOrder),
    /// An [`AudioOrder`] of a long source: as long as the sound, so for hands of its own.
    AudioPass(AudioOrder),
    /// See [`StillOrder`].
    Still(StillOrder),
}

impl Job {
    /// What a lease or a fault of this order is about.
    pub fn item(&self) -> Item {
        match self {
            Job::Inspect(order) => Item::Inspect { verdict: order.verdict },
            Job::Video(order) => Item::Video { generation: order.generation, chunk: order.first },
            Job::Pass(order) => Item::Pass { generation: order.generation, chunk: order.first },
            Job::Audio(order) => Item::Audio { generation: order.generation, track: order.track },
            Job::AudioPass(order) => Item::AudioPass { generation: order.generation, track: order.track },
            Job::Still(order) => Item::Still { generation: order.generation, name: order.name.clone() },
        }
    }
}

/// Chunks that one order takes while they have no more segments than this together (24 s): fewer children to start and
/// fewer keyframes to go back to. Each chunk is stated as soon as it is stored, so nobody waits for the order's end.
const ORDER_SEGMENTS: u32 = 6;
/// A source that can't be cut, of no more segments than this (64 s), is one order: reading its start twice would not pay.
const WHOLE_SEGMENTS: u32 = 16;

/// Sound of more segments than this (5 min, some six seconds of work) is an order for hands of its own.
const SHORT_SOUND_SEGMENTS: u32 = 75;

/// The order for the sound of a plan. One encoder makes all of it, so that nothing is heard between two chunks; like the
/// picture's orders it follows from the plan alone.
pub fn sound(generation: u32, plan: &Plan) -> Option<Job> {
    plan.audio.as_ref()?;
    let order = AudioOrder { generation, track: 0 };
    let is_short = plan.chunks.iter().sum::<u32>() <= SHORT_SOUND_SEGMENTS;
    Some(if is_short { Job::Audio(order) } else { Job::AudioPass(order) })
}

/// The orders for the picture of a plan, in order of their chunks, without gap or overlap.
///
/// They follow from the plan alone, never from how far the work is: so an order asked for again is the same order, and
/// everybody knows which order makes a chunk. A source that can't be cut has an opening and a pass for the rest: the
/// opening is short, as other assets' are, and the pass, which reads the start once more, stands before nobody.
pub fn picture(generation: u32, plan: &Plan) -> Vec<Job> {
    if plan.rungs.is_empty() || plan.chunks.is_empty() {
        return Vec::new();
    }
    let last = plan.chunk_count() - 1;
    let order = |first, last| VideoOrder { generation, first, last };
    let groups = groups(&plan.chunks);
    match (plan.cut, groups.as_slice()) {
        (Cut::Whole, [opening, _, ..]) if plan.chunks.iter().sum::<u32>() > WHOLE_SEGMENTS => {
            vec![Job::Video(order(0, opening.1)), Job::Pass(order(opening.1 + 1, last))]
        }
        (Cut::Whole, _) => vec![Job::Video(order(0, last))],
        (Cut::Exact, groups) => groups.iter().map(|(first, last)| Job::Video(order(*first, *last))).collect(),
    }
}

/// First and last chunk of each order, where the source can be cut.
pub fn groups(chunks: &[u32]) -> Vec<(u32, u32)> {
    let (mut groups, mut sum) = (Vec::<(u32, u32)>::new(), 0_u32);
    for (chunk, segments) in (0..).zip(chunks) {
        match groups.last_mut() {
            Some(group) if sum.saturating_add(*segments) <= ORDER_SEGMENTS => group.1 = chunk,
            Some(_) | None => {
                groups.push((chunk, chunk));
                sum = 0;
            }
        }
        sum = sum.saturating_add(*segments);
    }
    groups
}

/// An order with its address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Whose.
    pub tenant: TenantId,
    /// About which asset.
    pub asset: AssetId,
    /// How often the order for this item was given up before.
    pub round: u32,
    /// What is asked for.
    pub job: Job,
    /// Id of the fact that led here.
    pub cause: Option<String>,
}

impl Order {
    /// The subject it is queued on; at most one order stands there.
    pub fn subject(&self) -> String {
        subject::job(&self.tenant, &self.asset, &self.job.item())
    }

    /// Its dedup id: the same order in the same round is the same message.
    pub fn message_id(&self) -> String {
        format!("{}:{}", self.subject(), self.round)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::values::plan;

    fn spans(cut: Cut, chunks: &[u32]) -> Vec<String> {
        let plan = Plan { cut, ..plan(chunks, u64::from(chunks.iter().sum::<u32>()) * 4_000) };
        let span = |job: Job| match job {
            Job::Video(it) => format!("{}..{}", it.first, it.last),
            Job::Pass(it) => format!("pass {}..{}", it.first, it.last),
            Job::Inspect(_) | Job::Audio(_) | Job::AudioPass(_) | Job::Still(_) => panic!("no picture: {job:?}"),
        };
        picture(1, &plan).into_iter().map(span).collect()
    }

    #[test]
    fn short_chunks_share_an_order_and_long_ones_have_their_own() {
        assert_eq!(spans(Cut::Exact, &[1, 1, 1]), ["0..2"]);
        assert_eq!(spans(Cut::Exact, &[1, 1, 1, 2, 2, 3, 3, 4, 5]), ["0..3", "4..5", "6..6", "7..7", "8..8"]);
        assert_eq!(spans(Cut::Exact, &[9, 1, 1]), ["0..0", "1..2"]);
        assert_eq!(spans(Cut::Exact, &[]), Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_cut_has_an_opening_and_a_pass_unless_it_is_short() {
        assert_eq!(spans(Cut::Whole, &[1, 1, 1, 2, 2, 3, 3, 3]), ["0..7"]);
        assert_eq!(spans(Cut::Whole, &[1, 1, 1, 2, 2, 3, 3, 4]), ["0..3", "pass 4..7"]);
        assert_eq!(spans(Cut::Whole, &[40]), ["0..0"]);
    }

    #[test]
    fn long_sound_has_an_order_of_its_own_kind() {
        let item =
            |segments| sound(1, &plan(&[segments], u64::from(segments) * 4_000)).map(|job| job.item().to_string());
        assert_eq!([75, 76].map(item), [Some("g1-a0".to_owned()), Some("g1-pa0".to_owned())]);
        assert_eq!(sound(1, &Plan { audio: None, ..plan(&[1], 4_000) }), None);
    }
}
