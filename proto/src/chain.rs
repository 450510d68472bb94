//! An error with all that led to it, as one line: what a reason in a log, a message or a parked order holds.

use std::error::Error;

/// The error and its causes, parted by `: `.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("open the log")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn every_cause_is_told_once_and_in_order() {
        assert_eq!(chain(&Outer(std::io::Error::other("no such host"))), "open the log: no such host");
        assert_eq!(chain(&std::io::Error::other("alone")), "alone");
    }
}
