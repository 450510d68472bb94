//! What an asset is owed next: the decision of this role. Pure, and level-triggered: it asks what is missing, not what has
//! just happened, so it may be asked at any time, by any number of planners, and a lost wake-up costs a tick at most.
//!
//! Every waiting state asked about here ends: in a result, in a fault that becomes a named state, or at its deadline
//! (`spool_proto::deadline`). Uploading is the gateway's, publishing the publisher's.

use std::collections::BTreeMap;
use std::time::Duration;

use spool_kit::units::spoken;
use spool_proto::asset::{At, Generation, Verdict};
use spool_proto::deadline::{self, deadline};
use spool_proto::event::{
    CheckFailed, Draft, EncodeFailed, EncodePlanned, Event, JobGivenUp, RenditionsCompleted, SourceRejected,
};
use spool_proto::job::{self, InspectOrder, Job, Order, StillOrder};
use spool_proto::media::{Plan, SourceFacts};
use spool_proto::problem::Fault;
use spool_proto::{Asset, Code, Item, Problem, Slot, Timestamp};

use crate::plan::{self, Limits};

/// At most this many orders for the picture of one asset are queued or leased. So a long film does not stand before a short
/// one, and what is not queued can still be called off. Four keep some twenty cores busy with a full ladder.
pub const WINDOW: usize = 4;
/// Somebody waits this long for a worker before it is worth a warning; then at twice the time, and so on.
pub const WARN_AFTER: Duration = Duration::from_secs(15 * 60);

/// One thing that is owed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a handful of them for a moment")]
pub enum Owed {
    /// A fact to append.
    Fact(Draft),
    /// An order to queue.
    Order(Order),
    /// When to look again, if nothing happens before.
    Tick(Timestamp),
    /// Nobody takes the orders: worth telling an operator, and no more than that.
    Warn {
        /// What is waited for.
        step: &'static str,
        /// Since when nothing came.
        waiting: Duration,
    },
}

/// What this asset is owed at `now`. In order: facts first, then orders, then when to look again.
pub fn owed(asset: &Asset, now: Timestamp, limits: &Limits) -> Vec<Owed> {
    if asset.deleted.is_some() || asset.source().is_none() {
        return Vec::new();
    }
    if !asset.unknown.is_empty() {
        return left_to_newer(asset, now);
    }
    match asset.verdict().map(|verdict| &verdict.it) {
        None => check(asset, now, limits),
        Some(Verdict::Rejected(_) | Verdict::CheckFailed(_)) => Vec::new(),
        Some(Verdict::Accepted(facts)) => encode(asset, facts, now, limits),
    }
}

/// A later version wrote facts that this one does not know: what it would order might be made already. A planner of that
/// version goes on; while there is none, somebody is told again and again.
fn left_to_newer(asset: &Asset, now: Timestamp) -> Vec<Owed> {
    let waiting = now.since(asset.updated_at);
    let warn = (waiting >= WARN_AFTER).then_some(Owed::Warn { step: "a planner that knows its newest facts", waiting });
    warn.into_iter().chain([Owed::Tick(now.plus(WARN_AFTER))]).collect()
}

/// The source waits for a verdict.
fn check(asset: &Asset, now: Timestamp, limits: &Limits) -> Vec<Owed> {
    let verdict = asset.verdict_round();
    let slot = Slot::UploadVerdict { verdict };
    let item = Item::Inspect { verdict };
    let round = asset.rounds(&item);
    let ends = |round: u32| !asset.goes_on(&item, round);
    let faults = asset.inspect_faults.get(&verdict);
    let attempts = faults.map_or(0, |rounds| attempts(rounds, ends));
    let last = faults.and_then(|rounds| rounds.iter().next_back()).filter(|(round, _)| ends(**round));
    if let Some((_, fault)) = last {
        let problem = fault.it.problem.clone();
        return match problem.code.fault() {
            Fault::Input => vec![fact(asset, slot, SourceRejected { problem })],
            Fault::System | Fault::Destination | Fault::Config => {
                vec![fact(asset, slot, CheckFailed { problem, attempts })]
            }
        };
    }
    if let Some(problem) = overdue(asset, now, "Checking", deadline::CHECK) {
        return vec![fact(asset, slot, CheckFailed { problem, attempts })];
    }
    let max_duration_ms = Some(u64::try_from(limits.max_duration.as_millis()).unwrap_or(u64::MAX));
    let mut owed = vec![order(asset, round, Job::Inspect(InspectOrder { verdict, max_duration_ms }))];
    owed.extend(look_again(asset, now, "a transcoder's verdict", deadline::CHECK));
    owed
}

/// The source is accepted: plan, order, conclude.
fn encode(asset: &Asset, facts: &SourceFacts, now: Timestamp, limits: &Limits) -> Vec<Owed> {
    let number = asset.generation_number();
    let Some(generation) = asset.generation() else {
        let plan = answer(asset, facts, limits).unwrap_or_else(|_| plan::nothing(facts));
        return vec![fact(asset, Slot::EncodePlanned { generation: number }, EncodePlanned { plan })];
    };
    if generation.outcome.is_some() {
        return Vec::new();
    }
    if let Some(outcome) = outcome(asset, generation, facts, now, limits) {
        return vec![fact(asset, Slot::EncodeOutcome { generation: number }, outcome)];
    }
    let waiting = unfinished(number, generation);
    let is_video = |job: &&Job| matches!(job, Job::Video(_) | Job::Pass(_));
    let videos = waiting.iter().filter(is_video).take(WINDOW);
    let others = waiting.iter().filter(|job| !is_video(job));
    let jobs = videos.chain(others);
    let mut owed: Vec<Owed> = jobs.map(|job| order(asset, generation.rounds(&job.item()), job.clone())).collect();
    owed.extend(look_again(asset, now, "a transcoder", deadline::ENCODE));
    owed
}

/// The plan of the generation that is asked for, with what stands of the one before.
fn answer(asset: &Asset, facts: &SourceFacts, limits: &Limits) -> Result<Plan, Problem> {
    let Some(registered) = &asset.registered else {
        // The upload's outcome is only ever written after the registration; without it nobody can say what to make.
        return Err(Problem::new(Code::Internal).with("trace", asset.sequence));
    };
    let plan = plan::plan(&registered.it.profile, facts, limits)?;
    let earlier = asset.generations.range(..asset.generation_number()).next_back();
    Ok(match earlier {
        Some((number, old)) => plan::take_over(plan, *number, old),
        None => plan,
    })
}

/// How the generation ends, if it does now. A result beats a fault, so completeness is asked first; and parts that do not
/// join are no result.
fn outcome(
    asset: &Asset,
    generation: &Generation,
    facts: &SourceFacts,
    now: Timestamp,
    limits: &Limits,
) -> Option<Event> {
    let all = generation.faults.values().map(|rounds| attempts(rounds, |_| true)).sum();
    let failed_after = |problem: Problem, attempts| Some(Event::from(EncodeFailed { problem, attempts }));
    let failed = |problem: Problem| failed_after(problem, all);
    if generation.plan().chunks.is_empty() {
        // The plan of a source that gets none. Said in a second step, so that a planner that knows the profile, and
        // planned at the same moment, is not overruled.
        let refusal = answer(asset, facts, limits).err();
        return failed(refusal.unwrap_or_else(|| Problem::new(Code::Internal).with("trace", generation.plan.sequence)));
    }
    if let Some(rendition) = plan::misfit(generation) {
        return failed(Problem::new(Code::ToolchainChanged).with("rendition", rendition));
    }
    if is_complete(generation) {
        return Some(completed(generation).into());
    }
    if let Some((attempts, fault)) = worst_fault(asset.generation_number(), generation) {
        return failed_after(fault.it.problem.clone(), attempts);
    }
    failed(overdue(asset, now, "Encoding", deadline::ENCODE)?)
}

/// Is everything stored that was planned? A poster that could not be made holds no video back: its fault stands and is shown.
fn is_complete(generation: &Generation) -> bool {
    let plan = generation.plan();
    let settled = |name: &String| generation.stills.contains_key(name) || is_given_up(generation, name);
    generation.contiguous_chunks() == plan.chunk_count() && plan.stills.iter().all(|still| settled(&still.name))
}

fn is_given_up(generation: &Generation, still: &str) -> bool {
    let of_it = |item: &Item| matches!(item, Item::Still { name, .. } if name == still);
    let items = generation.faults.keys().filter_map(|item| item.parse::<Item>().ok());
    items.filter(of_it).any(|item| ending(generation, &item).is_some())
}

fn completed(generation: &Generation) -> RenditionsCompleted {
    let video = generation.video.values().flat_map(|it| it.it.receipts.iter().map(|r| r.length));
    let audio = generation.audio.values().flat_map(|track| track.values().map(|it| it.it.receipt.length));
    let stills = generation.stills.values().map(|it| it.it.receipt.length);
    let (objects, bytes) = video.chain(audio).chain(stills).fold((0, 0), |sum, n| (sum.0 + 1, sum.1 + n));
    RenditionsCompleted { objects, bytes }
}

/// The fault that ends the generation: of an order for picture or sound whose result does not stand. The input's own fault
/// first, since a retry can't help it; else the earliest.
fn worst_fault(number: u32, generation: &Generation) -> Option<(u32, &At<JobGivenUp>)> {
    let ends = |job: &Job| match job {
        Job::Video(_) | Job::Pass(_) | Job::Audio(_) | Job::AudioPass(_) => true,
        Job::Still(_) | Job::Inspect(_) => false,
    };
    let waiting = unfinished(number, generation);
    let faults = waiting.iter().filter(|job| ends(job)).filter_map(|job| ending(generation, &job.item()));
    faults.min_by_key(|(_, fault)| (fault.it.problem.code.fault() != Fault::Input, fault.sequence))
}

/// The fault that ended an item's order, and the attempts that came to it. None where the order goes on.
fn ending<'a>(generation: &'a Generation, item: &Item) -> Option<(u32, &'a At<JobGivenUp>)> {
    let rounds = generation.faults.get(&item.to_string())?;
    let (last, fault) = rounds.iter().next_back()?;
    let ends = |round| !generation.goes_on(item, round);
    ends(*last).then(|| (attempts(rounds, ends), fault))
}

/// Attempts in the rounds that ended something: those of a round that went on say nothing about the order.
fn attempts(rounds: &BTreeMap<u32, At<JobGivenUp>>, ends: impl Fn(u32) -> bool) -> u32 {
    let ended = rounds.iter().filter(|(round, _)| ends(**round));
    ended.fold(0, |sum, (_, fault)| sum.saturating_add(fault.it.attempts))
}

/// The orders of a generation whose results do not stand yet: picture by chunk, sound, stills.
///
/// The orders follow from the plan alone, never from how far the work is: so an order asked for again is the same order.
fn unfinished(number: u32, generation: &Generation) -> Vec<Job> {
    let plan = generation.plan();
    let stored = |job: &Job| match job {
        Job::Video(order) | Job::Pass(order) => generation.has_made(order),
        Job::Inspect(_) | Job::Audio(_) | Job::AudioPass(_) | Job::Still(_) => false,
    };
    let video = job::picture(number, plan).into_iter().filter(|job| !stored(job));
    let heard = (0..plan.chunk_count()).all(|chunk| generation.has_audio(chunk));
    let audio = job::sound(number, plan).filter(|_| !heard);
    let missing = plan.stills.iter().map(|still| &still.name);
    let missing = missing.filter(|name| !generation.stills.contains_key(*name) && !is_given_up(generation, name));
    let stills = missing.map(|name| Job::Still(StillOrder { generation: number, name: name.clone() }));
    video.chain(audio).chain(stills).collect()
}

/// The problem of a wait that is over, if it is.
fn overdue(asset: &Asset, now: Timestamp, step: &str, limit: Duration) -> Option<Problem> {
    let deadline = deadline(asset)?;
    (now >= deadline.at).then(|| Problem::new(Code::DeadlinePassed).with("step", step).with("limit", spoken(limit)))
}

/// When to look again, and a warning where nobody seems to work: after a quarter of an hour, twice that, and so on.
fn look_again(asset: &Asset, now: Timestamp, step: &'static str, limit: Duration) -> Vec<Owed> {
    let Some(end) = deadline(asset) else { return Vec::new() };
    let limit_ms = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
    let since = Timestamp::from_ms(end.at.as_ms().saturating_sub(limit_ms));
    let waiting = now.since(since);
    let mut next = WARN_AFTER;
    while next <= waiting {
        next *= 2;
    }
    let warn = (waiting >= WARN_AFTER).then_some(Owed::Warn { step, waiting });
    warn.into_iter().chain([Owed::Tick(since.plus(next).min(end.at))]).collect()
}

fn fact(asset: &Asset, slot: Slot, event: impl Into<Event>) -> Owed {
    let (tenant, asset) = (asset.tenant.clone(), asset.id.clone());
    Owed::Fact(Draft { tenant, asset, slot, event: event.into(), cause: None, actor: None })
}

fn order(asset: &Asset, round: u32, job: Job) -> Owed {
    Owed::Order(Order { tenant: asset.tenant.clone(), asset: asset.id.clone(), round, job, cause: None })
}

#[cfg(test)]
mod tests;
