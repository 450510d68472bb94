//! Given, when, then: for folds and for decisions over them. No server, no clock, no randomness; for tests of every crate.
//!
//! [`check`] compares what a decision answers, and then does what nobody remembers to: it carries the answer out on a log
//! and a queue in memory, lets a twin that decided at the same moment carry it out too, runs the decision until it is quiet,
//! delivers each fact again by itself, and demands the same facts, the same orders under the same ids, the same results.
//! Assertions panic, as tests do.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::asset::Asset;
use crate::event::{Body, Draft, Event, Fact};
use crate::id::{AssetId, EventId, TenantId};
use crate::job::Order;
use crate::slot::Slot;
use crate::subject;
use crate::time::Timestamp;

pub mod values;

/// Time of the first fact of every [`Given`].
pub const START: Timestamp = Timestamp::from_ms(1_800_000_000_000);
/// How often a decision may find something new to say before it counts as one that never comes to rest.
const ROUNDS: usize = 200;

/// The facts of one asset, in the order of the log, one second apart unless it is said otherwise.
#[derive(Debug, Clone)]
pub struct Given {
    /// Whose.
    pub tenant: TenantId,
    /// About which asset.
    pub asset: AssetId,
    /// What stands on the log.
    pub facts: Vec<Fact>,
    now: Timestamp,
}

impl Default for Given {
    fn default() -> Self {
        Self::new()
    }
}

impl Given {
    /// No fact yet.
    pub fn new() -> Self {
        Self { tenant: TenantId::default_tenant(), asset: AssetId::from_bits(1), facts: Vec::new(), now: START }
    }

    /// One more fact.
    ///
    /// # Panics
    /// When a fact stands in `slot` or `slot` does not admit it: such a log can't exist.
    #[must_use]
    pub fn then(mut self, slot: Slot, event: impl Into<Event>) -> Self {
        let draft = self.draft(slot, event);
        assert!(self.append(&draft), "a fact stands in {} already", draft.slot);
        self
    }

    /// Time goes by before the next fact, or before the decision.
    #[must_use]
    pub fn wait(mut self, by: Duration) -> Self {
        self.now = self.now.plus(by);
        self
    }

    /// The draft of a fact about this asset, without cause and actor.
    pub fn draft(&self, slot: Slot, event: impl Into<Event>) -> Draft {
        let (tenant, asset) = (self.tenant.clone(), self.asset.clone());
        Draft { tenant, asset, slot, event: event.into(), cause: None, actor: None }
    }

    /// The fold of the facts.
    pub fn fold(&self) -> Asset {
        Asset::fold(&self.facts).unwrap_or_else(|| Asset::new(self.tenant.clone(), self.asset.clone()))
    }

    /// The time of the decision: one second after the last fact, and what [`Given::wait`] added.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Appends as the log would: the first fact of a slot stands. Was it this one?
    fn append(&mut self, draft: &Draft) -> bool {
        let Draft { tenant, asset, slot, event, cause, actor } = draft;
        assert!(slot.admits(event.kind()), "{slot} does not admit {:?}", event.kind());
        assert_eq!((tenant, asset), (&self.tenant, &self.asset), "a decision about another asset");
        if self.facts.iter().any(|fact| fact.slot.as_ref() == Ok(slot)) {
            return false;
        }
        self.facts.push(Fact {
            // Other assets write between: sequences of one asset grow and have gaps.
            sequence: self.facts.last().map_or(10, |last| last.sequence + 3),
            at: self.now,
            tenant: tenant.clone(),
            asset: asset.clone(),
            slot: Ok(slot.clone()),
            id: EventId::of_subject(&subject::event(tenant, asset, slot)),
            cause: cause.clone(),
            actor: actor.clone(),
            body: Body::Known(event.clone()),
        });
        self.now = self.now.plus(Duration::from_secs(1));
        true
    }
}

/// What a decision answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// Facts to append.
    pub facts: Vec<Draft>,
    /// Orders to queue.
    pub orders: Vec<Order>,
    /// When to be asked again.
    pub tick: Option<Timestamp>,
}

/// The log and the queue after some answers were carried out.
#[derive(Debug, Clone)]
struct World {
    log: Given,
    /// By subject: at most one of a kind is queued.
    queue: BTreeMap<String, Order>,
}

impl World {
    /// Carries an answer out; did it change anything?
    fn carry_out(&mut self, answer: &Answer) -> bool {
        let mut changed = false;
        for draft in &answer.facts {
            changed |= self.log.append(draft);
        }
        for order in &answer.orders {
            let standing = self.queue.entry(order.subject());
            changed |= matches!(standing, std::collections::btree_map::Entry::Vacant(_));
            let standing = standing.or_insert_with(|| order.clone());
            assert_eq!(standing.message_id(), order.message_id(), "a second order for {}", order.job.item());
            assert_eq!(standing.job, order.job, "two orders for one item");
        }
        changed
    }

    fn state(&self) -> (&[Fact], &BTreeMap<String, Order>) {
        (&self.log.facts, &self.queue)
    }
}

/// Given these facts, `decide` answers `expected`; and doing anything of it twice changes nothing.
///
/// # Panics
/// When that is not so.
pub fn check(given: &Given, decide: impl Fn(&Asset, Timestamp) -> Answer, expected: &Answer) {
    let asset = check_fold(given);
    let now = given.now();
    let answer = decide(&asset, now);
    assert_eq!(&answer, expected, "the answer");
    assert_eq!(decide(&asset, now), answer, "the same facts at the same time, another answer");

    let mut world = World { log: given.clone(), queue: BTreeMap::new() };
    world.carry_out(&answer);
    let once = world.clone();
    assert!(!world.carry_out(&answer), "a twin that decided at the same moment changed the log or the queue");
    assert_eq!(world.state(), once.state());

    settle(&mut world, &decide);
    let rest = world.clone();
    let result = decide(&world.log.fold(), world.log.now());
    for fact in &rest.log.facts {
        let mut asset = rest.log.fold();
        asset.apply(fact);
        let again = decide(&asset, rest.log.now());
        assert_eq!(again, result, "after fact {} was delivered again, another result", fact.sequence);
        assert!(!world.carry_out(&again), "fact {} delivered again changed the log or the queue", fact.sequence);
        assert_eq!(world.state(), rest.state());
    }
}

/// Runs the decision until it says nothing new. No worker runs meanwhile, so orders stay queued.
fn settle(world: &mut World, decide: &impl Fn(&Asset, Timestamp) -> Answer) {
    for _ in 0..ROUNDS {
        let answer = decide(&world.log.fold(), world.log.now());
        if !world.carry_out(&answer) {
            return;
        }
    }
    panic!("after {ROUNDS} rounds the decision still finds something new to say");
}

/// The fold of the facts, after it was tried: folding any fact a second time, or any prefix before it, changes nothing.
///
/// # Panics
/// When that is not so.
pub fn check_fold(given: &Given) -> Asset {
    let whole = given.fold();
    let mut asset = Asset::new(given.tenant.clone(), given.asset.clone());
    for (count, fact) in given.facts.iter().enumerate() {
        asset.apply(fact);
        let before = asset.clone();
        given.facts[..=count].iter().for_each(|fact| asset.apply(fact));
        assert_eq!(asset, before, "facts up to {} delivered again changed the fold", fact.sequence);
    }
    assert_eq!(asset, whole);
    assert_eq!(whole.version, given.facts.len() as u64, "every fact counts in the version");
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{InspectOrder, Job};

    fn inspect(asset: &Asset, round: u32) -> Answer {
        let job = Job::Inspect(InspectOrder { verdict: asset.verdict_round(), max_duration_ms: None });
        let (tenant, id) = (asset.tenant.clone(), asset.id.clone());
        Answer { orders: vec![Order { tenant, asset: id, round, job, cause: None }], ..Answer::default() }
    }

    #[test]
    fn a_decision_that_asks_for_the_same_again_passes() {
        let given = Given::stored();
        check(&given, |asset, _| inspect(asset, 0), &inspect(&given.fold(), 0));
    }

    #[test]
    #[should_panic(expected = "a second order for n1")]
    fn a_decision_that_counts_its_calls_is_caught() {
        let given = Given::stored();
        let calls = std::cell::Cell::new(0);
        let decide = |asset: &Asset, _| {
            calls.set(calls.get() + 1);
            inspect(asset, calls.get() / 3)
        };
        check(&given, decide, &inspect(&given.fold(), 0));
    }

    #[test]
    #[should_panic(expected = "stands in upload.registered already")]
    fn a_log_with_two_facts_in_one_slot_is_refused() {
        let _ = Given::registered().then(Slot::UploadRegistered, values::registered());
    }
}
