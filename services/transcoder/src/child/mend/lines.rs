//! Times that a container states for its links, where one leaps away from its line: by which `flvdemux` moves all that
//! follows, and `qtdemux` makes hours of a fragment of two seconds. Pure.
//!
//! A time that is out of line by more than ten seconds is wrong where one behind it goes on in the old line: however far a
//! recording jumps on purpose, it does not come back. Of the last ones another track tells, if it ends where the old line
//! does; such a jump has to be longer, for a last picture may be held. A pause that all tracks share stays one.

use std::collections::BTreeMap;

use spool_proto::media::{NS_PER_S, Span};

use super::MOST_SPANS;
use crate::child::quirks::leaps::LEAP_NS;

/// As [`LEAP_NS`], as far as a time may lie from where its line goes on, for the last ones.
const LAST_LEAP_NS: u64 = 600 * NS_PER_S;
/// So many in a row may be wrong; more are another line.
const MOST_WRONG: usize = 16;
/// So many of a track's first ones may be wrong, where all behind them are earlier.
const MOST_FIRST: usize = 2;
/// Tracks that are followed.
const MOST_TRACKS: usize = 32;

/// A link of a track.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stated {
    pub(super) track: u32,
    /// Where its time stands.
    pub(super) place: Span,
    pub(super) at_ns: u64,
    /// For how long it lasts, where that is stated.
    pub(super) lasts_ns: u64,
}

#[derive(Debug, Default)]
struct Line {
    /// Where it goes on.
    next_ns: u64,
    /// What lies in it: how many, and the first ones.
    count: usize,
    first: Vec<Span>,
    /// What leapt and has not come back: the places, where the first lies, where the last ends, and for how long all last.
    away: Vec<Span>,
    away_ns: u64,
    away_next_ns: u64,
    away_lasts_ns: u64,
}

impl Line {
    fn goes_on(&mut self, link: &Stated) {
        self.next_ns = link.at_ns.saturating_add(link.lasts_ns);
        self.count += 1;
        if self.first.len() < MOST_FIRST {
            self.first.push(link.place);
        }
        self.away.clear();
        self.away_lasts_ns = 0;
    }

    /// Does a link at `at_ns` lie in it? One that goes on where what is away left off just passes by.
    fn holds(&self, at_ns: u64) -> bool {
        let passes_by = !self.away.is_empty() && at_ns.abs_diff(self.away_next_ns) <= LEAP_NS;
        self.count == 0 || !passes_by && at_ns.abs_diff(self.here_ns()) <= LEAP_NS
    }

    /// Where it goes on if what is away belongs to it.
    fn here_ns(&self) -> u64 {
        self.next_ns.saturating_add(self.away_lasts_ns)
    }
}

/// The lines of all tracks.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: BTreeMap<u32, Line>,
    wrong: Vec<Span>,
    begins_ns: Option<u64>,
}

impl Lines {
    /// Takes the next link of a track.
    pub(super) fn takes(&mut self, link: &Stated) {
        if self.lines.len() >= MOST_TRACKS && !self.lines.contains_key(&link.track) {
            return;
        }
        let line = self.lines.entry(link.track).or_default();
        if line.holds(link.at_ns) {
            self.begins_ns = Some(self.begins_ns.map_or(link.at_ns, |begins_ns| begins_ns.min(link.at_ns)));
            self.wrong.append(&mut line.away);
            line.goes_on(link);
            return;
        }
        if line.away.is_empty() {
            line.away_ns = link.at_ns;
        }
        line.away.push(link.place);
        line.away_next_ns = link.at_ns.saturating_add(link.lasts_ns);
        line.away_lasts_ns = line.away_lasts_ns.saturating_add(link.lasts_ns);
        if line.away.len() > MOST_WRONG {
            if line.count <= MOST_FIRST && line.away_ns < line.next_ns {
                self.wrong.append(&mut line.first);
            }
            line.goes_on(link);
        }
    }

    /// From where the first one begins to where the last one ends.
    pub(super) fn lasts_ns(&self) -> u64 {
        let ends_ns = self.lines.values().map(|line| line.next_ns).max().unwrap_or(0);
        ends_ns.saturating_sub(self.begins_ns.unwrap_or(0))
    }

    /// Where wrong times stand, in order.
    pub(super) fn wrong(mut self) -> Vec<Span> {
        for (track, line) in &self.lines {
            let ends_there = |(other, it): (&u32, &Line)| {
                other != track && it.away.is_empty() && it.next_ns.abs_diff(line.here_ns()) <= LEAP_NS
            };
            let far = line.away_ns.abs_diff(line.next_ns) > LAST_LEAP_NS;
            if far && line.count >= line.away.len() && self.lines.iter().any(ends_there) {
                self.wrong.extend(&line.away);
            }
        }
        self.wrong.sort_by_key(|place| place.offset);
        self.wrong.truncate(MOST_SPANS);
        self.wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [u64; 0] = [];

    /// Which of links with these tracks and seconds are wrong; each lasts `lasts` seconds.
    fn wrong(links: &[(u32, u64)], lasts: u64) -> Vec<u64> {
        let mut lines = Lines::default();
        for (offset, (track, at)) in (0..).zip(links) {
            let place = Span { offset, length: 4 };
            lines.takes(&Stated { track: *track, place, at_ns: at * NS_PER_S, lasts_ns: lasts * NS_PER_S });
        }
        lines.wrong().iter().map(|place| place.offset).collect()
    }

    /// Two tracks with a link each second.
    fn two(seconds: impl IntoIterator<Item = u64>) -> Vec<(u32, u64)> {
        seconds.into_iter().flat_map(|at| [(1, at), (2, at)]).collect()
    }

    #[test]
    fn what_leaps_and_comes_back_is_wrong() {
        for lasts in [0, 1] {
            let mut links = two(0..30);
            assert_eq!(wrong(&links, lasts), NONE);
            (links[20].1, links[31].1, links[32].1) = (50_000, 900, 0);
            links[33].1 = 0;
            assert_eq!(wrong(&links, lasts), [20, 31, 32, 33]);
        }
    }

    #[test]
    fn a_pause_or_jump_that_was_meant_stays() {
        assert_eq!(wrong(&two((0..20).chain(300..320)), 1), NONE);
        assert_eq!(wrong(&two((0..20).chain(0..20)), 0), NONE, "a clock that begins anew");
        // In a row of pauses each lies in no line.
        assert_eq!(wrong(&two((0..50).map(|n| n * 60)), 0), NONE);
        // The picture pauses, and the sound goes on.
        let paused: Vec<_> =
            (0..900).flat_map(|at| [(1, at), (2, at)]).filter(|it| it.0 == 2 || it.1 % 300 < 5).collect();
        assert_eq!(wrong(&paused, 0), NONE);
    }

    #[test]
    fn of_the_last_ones_another_track_tells() {
        let mut links = two(0..20);
        links[38].1 = 20_898;
        assert_eq!(wrong(&links, 1), [38]);
        // Both of them.
        links[39].1 = 20_898;
        assert_eq!(wrong(&links, 1), NONE);
        // A last picture that is held.
        links.truncate(38);
        links.push((1, 60));
        assert_eq!(wrong(&links, 1), NONE);
    }

    #[test]
    fn first_ones_that_are_later_than_all_others_are_wrong() {
        let mut links = two(0..60);
        links[0].1 = 7_000;
        assert_eq!(wrong(&links, 0), [0]);
        // The first picture of a recording that then pauses.
        let mut links = two(100..160);
        links[0].1 = 0;
        assert_eq!(wrong(&links, 0), NONE);
    }
}
