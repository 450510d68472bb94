//! Pictures whose time stands still, placed evenly between their neighbours. Pure.
//!
//! Some pictures have no time of their own (see [`super::times`]), and some share one with their neighbour (the second of
//! old Theora files does). Both come here as a time that is not later than the last one. They wait for the next time that
//! is, and share the way there; where that takes long, each comes the usual distance after its predecessor.

use std::collections::VecDeque;

/// Pictures that may wait for the next time, in memory as they are.
const MOST_WAITING: usize = 4;

/// Gives every picture a time.
#[derive(Debug)]
pub struct Even<P> {
    /// Usual distance of two frames.
    frame_ns: i64,
    /// Time of the last picture that was given one.
    last_ns: Option<i64>,
    waiting: VecDeque<P>,
}

impl<P> Even<P> {
    /// For a source whose frames usually come `frame_ns` apart.
    pub fn new(frame_ns: i64) -> Self {
        Self { frame_ns, last_ns: None, waiting: VecDeque::new() }
    }

    /// Takes the next picture and hands out those whose time is known now. One that comes first without a time is shown
    /// at `first_ns`.
    pub fn take(&mut self, at_ns: Option<i64>, first_ns: i64, picture: P) -> Vec<(i64, P)> {
        let Some(last) = self.last_ns else {
            let at = at_ns.unwrap_or(first_ns);
            self.last_ns = Some(at);
            return vec![(at, picture)];
        };
        if let Some(next) = at_ns.filter(|&at| at > last) {
            let parts = self.waiting.len() as i64 + 1;
            let shared = (1..parts).map(|part| last + (next - last) * part / parts);
            let mut placed: Vec<(i64, P)> = shared.zip(self.waiting.drain(..)).collect();
            placed.push((next, picture));
            self.last_ns = Some(next);
            return placed;
        }
        self.waiting.push_back(picture);
        if self.waiting.len() > MOST_WAITING { self.first_waiting().into_iter().collect() } else { Vec::new() }
    }

    /// Time of the last picture that was given one.
    pub fn last_ns(&self) -> Option<i64> {
        self.last_ns
    }

    /// What still waits when nothing follows.
    pub fn rest(&mut self) -> Vec<(i64, P)> {
        std::iter::from_fn(|| self.first_waiting()).collect()
    }

    fn first_waiting(&mut self) -> Option<(i64, P)> {
        let picture = self.waiting.pop_front()?;
        let at = self.last_ns.map_or(0, |last| last + self.frame_ns);
        self.last_ns = Some(at);
        Some((at, picture))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(times: &[Option<i64>], expected: &[i64]) {
        let mut even = Even::new(40);
        let mut placed = vec![];
        for (number, at) in times.iter().enumerate() {
            placed.extend(even.take(*at, 7, number));
        }
        placed.extend(even.rest());
        let (seen, numbers): (Vec<i64>, Vec<usize>) = placed.into_iter().unzip();
        assert_eq!(seen, expected);
        assert_eq!(numbers, (0..times.len()).collect::<Vec<_>>());
    }

    #[test]
    fn times_that_go_on_stay_what_they_are() {
        check(&[Some(0), Some(33), Some(1000)], &[0, 33, 1000]);
    }

    #[test]
    fn a_time_that_stands_still_or_is_missing_shares_the_way_to_the_next() {
        check(&[Some(0), Some(0), Some(80), Some(120)], &[0, 40, 80, 120]);
        check(&[Some(0), None, None, Some(90)], &[0, 30, 60, 90]);
        check(&[None, None, Some(87)], &[7, 47, 87]);
    }

    #[test]
    fn where_no_time_comes_for_long_the_usual_distance_is_kept() {
        let times: Vec<Option<i64>> = [Some(0)].into_iter().chain([None; 12]).chain([Some(520)]).collect();
        check(&times, &(0..14).map(|n| n * 40).collect::<Vec<_>>());
        check(&[Some(0), None, None], &[0, 40, 80]);
    }

    #[test]
    fn times_that_jump_back_go_on_at_the_usual_distance() {
        check(&[Some(1000), Some(0), Some(40), Some(1200)], &[1000, 1066, 1133, 1200]);
    }
}
