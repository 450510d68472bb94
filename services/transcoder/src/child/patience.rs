//! How long a pipeline may stand still before it is said to stall. What it waits for at the store is not its own fault:
//! the parent reads for it, and has bounds of its own.
//!
//! A child can't tell a pipeline that stands still from one that gets no processor: in its cage it sees no times of the
//! kernel's. Its parent can ([`crate::attempt`]) and ends a stall after [`STALL`], and a busy machine's patience after
//! [`PATIENCE`] times as long. So this is the last bound only, for whoever has no parent: it never comes before those.

use crate::attempt::{PATIENCE, STALL};
use crate::order::{Failure, FailureCode};

/// How long nothing may move.
const LONGEST: gst::ClockTime = gst::ClockTime::from_seconds(STALL.as_secs() * (PATIENCE as u64 + 1));

/// Looks at a pipeline in which nothing moved, though it had all that it asked for.
#[derive(Debug)]
pub(super) struct Patience {
    look: gst::ClockTime,
    most: u32,
    quiet: u32,
}

impl Patience {
    /// For looks of that length.
    pub(super) fn new(look: gst::ClockTime) -> Self {
        let most = LONGEST.nseconds() / look.nseconds().max(1);
        Self { look, most: u32::try_from(most).unwrap_or(u32::MAX), quiet: 0 }
    }

    /// One more look: did anything move, and does it wait for the store?
    pub(super) fn looked(&mut self, moved: bool, waits: bool) {
        self.quiet = match (moved, waits) {
            (true, _) => 0,
            (false, true) => self.quiet,
            (false, false) => self.quiet + 1,
        };
    }

    /// Quiet looks since something moved.
    pub(super) fn quiet(&self) -> u32 {
        self.quiet
    }

    /// A stall, when it is over.
    pub(super) fn lasts(&self, what: &str) -> Result<(), Failure> {
        if self.quiet <= self.most {
            return Ok(());
        }
        let limit = format!("{} s", u64::from(self.most) * self.look.mseconds() / 1000);
        Err(Failure::new(FailureCode::ChildStalled, format!("the {what} stands still")).with("limit", limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_who_knows_more_always_judges_first() {
        assert!(std::time::Duration::from(LONGEST) > STALL * PATIENCE);
    }

    #[test]
    fn it_ends_where_nothing_moves_and_never_where_the_store_is_waited_for() {
        let mut patience = Patience::new(gst::ClockTime::from_mseconds(500));
        let most = patience.most;
        (0..1000).for_each(|_| patience.looked(false, true));
        assert_eq!((patience.lasts("decoder"), patience.quiet()), (Ok(()), 0));
        (0..most).for_each(|_| patience.looked(false, false));
        assert_eq!(patience.lasts("decoder"), Ok(()));
        patience.looked(true, false);
        (0..=most).for_each(|_| patience.looked(false, false));
        let failure = patience.lasts("decoder").unwrap_err();
        assert_eq!((failure.code, failure.params["limit"].as_str()), (FailureCode::ChildStalled, "75 s"));
    }
}
