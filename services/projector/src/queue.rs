//! Why nobody works on something: how many orders are taken before its own, and whether there is a transcoder at all.
//! Pure: how the lanes stand, what workers noted and the time are handed in. All of it is a hint, like the notes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use spool_nats::Queue;
use spool_proto::lease::LeaseNote;
use spool_proto::subject::Lane;
use spool_proto::{Item, Timestamp};

/// After so long without a word a worker counts as gone. Those that work say so every second, and none is let stall for so
/// long.
pub const SILENT: Duration = Duration::from_secs(30);

/// How the queues stand, and whether any worker was heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Every lane.
    pub lanes: BTreeMap<Lane, Queue>,
    /// Did any worker note anything lately, on whatever asset?
    pub heard: bool,
}

/// Who takes orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transcoders {
    /// Somebody asks for such an order right now.
    Asking,
    /// Nobody asks for one, but there are some that work or ask for others.
    Busy,
    /// Nobody asks and nobody works.
    None,
}

impl Line {
    /// Who takes orders of `lane`.
    pub fn transcoders(&self, lane: Lane) -> Transcoders {
        let asked = |lane: Lane| self.lanes.get(&lane).is_some_and(|queue| queue.asking > 0);
        match Lane::ALL.into_iter().any(asked) {
            // Between two questions there is a moment without one.
            true if asked(asked_when_idle(lane)) || self.out() == 0 => Transcoders::Asking,
            true => Transcoders::Busy,
            false if self.heard => Transcoders::Busy,
            false => Transcoders::None,
        }
    }

    /// Is anybody there to take orders, of whatever lane?
    pub fn is_served(&self) -> bool {
        Lane::ALL.into_iter().any(|lane| self.transcoders(lane) != Transcoders::None)
    }

    /// At most so many orders are taken before one that waits in `lane`: those of the lanes that go before, and all the
    /// others of its own.
    pub fn before(&self, lane: Lane) -> u64 {
        let goes_before = |other: Lane| match lane {
            // These have hands of their own.
            Lane::Pass | Lane::Sound => other == lane,
            Lane::First | Lane::Next | Lane::Bulk => other <= lane,
        };
        let waiting = self.lanes.iter().filter(|(other, _)| goes_before(**other)).map(|(_, queue)| queue.pending);
        waiting.sum::<u64>().saturating_sub(1)
    }

    /// Is there no order at all, for anything?
    fn is_empty(&self) -> bool {
        self.out() == 0 && self.lanes.values().all(|queue| queue.pending == 0)
    }

    /// Orders that are out with workers, or were when their worker went.
    pub fn out(&self) -> u64 {
        self.lanes.values().map(|queue| queue.out).sum()
    }

    /// What is told about an order in `lane`.
    pub fn json(&self, lane: Lane) -> Value {
        let transcoders = match self.transcoders(lane) {
            Transcoders::Asking => "asking",
            Transcoders::Busy => "busy",
            Transcoders::None => "none",
        };
        json!({ "lane": lane.name(), "before_at_most": self.before(lane), "out": self.out(), "transcoders": transcoders })
    }

    /// The same in words, behind what is known of the asset.
    pub fn words(&self, lane: Lane) -> String {
        let (before, out) = (self.before(lane), self.out());
        let queue = match before {
            0 if self.is_empty() => "no order is queued for it, a planner has to make one".to_owned(),
            0 => "its order is the next one to be taken".to_owned(),
            1 => "at most one order is taken before it".to_owned(),
            n => format!("at most {n} orders are taken before it"),
        };
        match self.transcoders(lane) {
            Transcoders::None => {
                format!("no transcoder is connected, so nobody works: start one (`spool run transcoder`); {queue}")
            }
            // Workers there are, and nothing for them.
            Transcoders::Asking if self.is_empty() => queue,
            Transcoders::Asking => format!("it waits for a worker: {queue}"),
            Transcoders::Busy => format!("every worker is busy ({out} orders are out): {queue}"),
        }
    }
}

/// The lane that an idle hand which takes orders of `lane` waits at: the most urgent one of its own.
fn asked_when_idle(lane: Lane) -> Lane {
    match lane {
        Lane::First | Lane::Next | Lane::Bulk => Lane::First,
        Lane::Pass => Lane::Pass,
        Lane::Sound => Lane::Sound,
    }
}

/// Did its worker say anything lately?
pub fn is_heard(note: &LeaseNote, now: Timestamp) -> bool {
    now.since(note.updated_at) < SILENT
}

/// The lane in which the first of these items is taken that wait.
pub fn lane_of<'a>(waiting: impl Iterator<Item = &'a Item>) -> Option<Lane> {
    waiting.map(Lane::of).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(pending: [u64; 5], asked: Option<Lane>, heard: bool) -> Line {
        let queue = |(lane, pending)| (lane, Queue { pending, out: 1, asking: u64::from(asked == Some(lane)) });
        Line { lanes: Lane::ALL.into_iter().zip(pending).map(queue).collect(), heard }
    }

    #[test]
    fn what_is_taken_before_is_all_of_the_lanes_that_go_before_and_the_others_of_its_own() {
        let line = line([3, 5, 7, 11, 2], None, true);
        assert_eq!(Lane::ALL.map(|lane| line.before(lane)), [2, 7, 14, 10, 1]);
        assert_eq!(self::line([0; 5], None, true).before(Lane::First), 0, "it may have been taken meanwhile");
    }

    #[test]
    fn who_asks_and_who_works_is_told_from_nobody() {
        let words = |line: Line| line.words(Lane::Next);
        let busy = line([1, 2, 0, 0, 0], None, true);
        let every = "every worker is busy (5 orders are out): at most 2 orders are taken before it";
        assert_eq!(words(busy), every);
        assert_eq!(words(line([1, 2, 0, 0, 0], Some(Lane::Sound), false)), every, "who asks is not for these");
        let waits = "it waits for a worker: its order is the next one to be taken";
        assert_eq!(words(line([0, 1, 0, 0, 0], Some(Lane::First), false)), waits);
        assert_eq!(line([0, 0, 0, 1, 0], Some(Lane::Pass), false).words(Lane::Pass), waits);
        let mut nothing = line([0; 5], Some(Lane::First), false);
        nothing.lanes.values_mut().for_each(|queue| queue.out = 0);
        assert_eq!(words(nothing), "no order is queued for it, a planner has to make one");
        let nobody = line([1, 1, 0, 0, 0], None, false);
        assert_eq!((nobody.json(Lane::Next)["transcoders"].as_str(), nobody.is_served()), (Some("none"), false));
        assert_eq!(
            words(nobody),
            "no transcoder is connected, so nobody works: start one (`spool run transcoder`); at most one order is taken before it"
        );
    }
}
