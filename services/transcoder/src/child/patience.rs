//! How long a pipeline may stand still before it is said to stall. What it waits for at the store is not its own fault:
//! the parent reads for it, and has bounds of its own.

use crate::order::{Failure, FailureCode};

/// Looks at a pipeline in which nothing moved, though it had all that it asked for.
#[derive(Debug)]
pub(super) struct Patience {
    look: gst::ClockTime,
    most: u32,
    quiet: u32,
}

impl Patience {
    /// For looks of that length, of which so many may be quiet.
    pub(super) fn new(look: gst::ClockTime, most: u32) -> Self {
        Self { look, most, quiet: 0 }
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
    fn it_ends_where_nothing_moves_and_never_where_the_store_is_waited_for() {
        let mut patience = Patience::new(gst::ClockTime::from_mseconds(100), 30);
        (0..1000).for_each(|_| patience.looked(false, true));
        assert_eq!((patience.lasts("decoder"), patience.quiet()), (Ok(()), 0));
        (0..30).for_each(|_| patience.looked(false, false));
        assert_eq!(patience.lasts("decoder"), Ok(()));
        patience.looked(true, false);
        (0..31).for_each(|_| patience.looked(false, false));
        let failure = patience.lasts("decoder").unwrap_err();
        assert_eq!((failure.code, failure.params["limit"].as_str()), (FailureCode::ChildStalled, "3 s"));
    }
}
