//! What a failed attempt leads to: another attempt, or a fact. Pure.
//!
//! A failure of the source is final at once. A crash, a stall or a limit of the child may have been bad luck once (a
//! neighbour ate the machine), so it gets one more attempt; the second time it is the source's fault. Both are made in one
//! delivery: what earlier deliveries came to (a worker that was restarted) says nothing about the source. A failure of
//! ours (store, log, a plugin that is missing) or of the machine (a child that was ended from outside, or not let in to the processor) is retried with growing pauses until the deliveries are used up.

use std::time::Duration;

use spool_proto::event::Problem;
use spool_proto::problem::Code;

use crate::order::{Failure, FailureCode};

/// Children that may crash, stall or hit a limit in one delivery; the last of them is final.
pub const CHILD_ATTEMPTS: u64 = 2;
/// Pause before the second attempt after a crash or stall.
pub const CHILD_RETRY_AFTER: Duration = Duration::from_secs(1);
/// Pause before the next attempt after a failure of ours, times the attempt's number.
pub const SYSTEM_RETRY_AFTER: Duration = Duration::from_secs(5);
/// Longest of those pauses.
pub const SYSTEM_RETRY_LIMIT: Duration = Duration::from_secs(60);

/// What follows a failed attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum After {
    /// Another child, in this delivery.
    Again {
        /// After this pause.
        after: Duration,
    },
    /// Another delivery, later.
    Retry {
        /// How much later.
        after: Duration,
    },
    /// The source is at fault: rejected, or given up while encoding.
    Source(GivenUp),
    /// We are at fault and the deliveries are used up.
    System(GivenUp),
}

/// The last word on an order.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenUp {
    /// What is wrong.
    pub problem: Problem,
    /// Attempts that came to it.
    pub attempts: u64,
}

/// What came before a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// Which delivery this is, from 1.
    pub delivery: u64,
    /// Will no further one come?
    pub last: bool,
    /// Children that were followed by another one in this delivery, see [`After::Again`].
    pub children: u64,
}

/// What follows a failure. `trace` is what the operator's log has beside it.
pub fn after(failure: &Failure, before: Before, trace: &str) -> After {
    let attempt = before.delivery;
    match failure.code {
        FailureCode::SourceEmpty
        | FailureCode::SourceNotMedia
        | FailureCode::SourceStillImage
        | FailureCode::SourceContainerUnsupported
        | FailureCode::SourceCodecUnsupported
        | FailureCode::SourceNoStreams
        | FailureCode::SourceIndexMissing
        | FailureCode::SourceNoSamples
        | FailureCode::SourceCorrupt
        | FailureCode::SourceDamaged
        | FailureCode::SourcePictureTooLarge
        | FailureCode::SourceTooLong
        | FailureCode::SourceEncrypted
        | FailureCode::SourceUndecodable => After::Source(given_up(failure, attempt, trace)),
        FailureCode::ChildCrashed | FailureCode::ChildStalled | FailureCode::ChildMemory | FailureCode::ChildCpu => {
            let children = before.children + 1;
            if children < CHILD_ATTEMPTS {
                return After::Again { after: CHILD_RETRY_AFTER };
            }
            After::Source(given_up(failure, children, trace))
        }
        FailureCode::ChildKilled
        | FailureCode::ChildStarved
        | FailureCode::SourceUnreadable
        | FailureCode::CageUnavailable
        | FailureCode::ChildFailed => {
            if before.last {
                return After::System(given_up(failure, attempt, trace));
            }
            let pause = SYSTEM_RETRY_AFTER.saturating_mul(u32::try_from(attempt).unwrap_or(u32::MAX));
            After::Retry { after: pause.min(SYSTEM_RETRY_LIMIT) }
        }
    }
}

/// The contract's code of a failure. Ours have one code outside: the detail is for the operator's log.
pub fn code(failure: FailureCode) -> Code {
    match failure {
        FailureCode::SourceEmpty => Code::SourceEmpty,
        FailureCode::SourceNotMedia => Code::SourceNotMedia,
        FailureCode::SourceStillImage => Code::SourceStillImage,
        FailureCode::SourceContainerUnsupported => Code::SourceContainerUnsupported,
        FailureCode::SourceCodecUnsupported => Code::SourceCodecUnsupported,
        FailureCode::SourceNoStreams => Code::SourceNoStreams,
        FailureCode::SourceIndexMissing => Code::SourceIndexMissing,
        FailureCode::SourceNoSamples => Code::SourceNoSamples,
        FailureCode::SourceCorrupt => Code::SourceCorrupt,
        FailureCode::SourceDamaged => Code::SourceDamaged,
        FailureCode::SourcePictureTooLarge => Code::SourcePictureTooLarge,
        FailureCode::SourceTooLong => Code::SourceTooLong,
        FailureCode::SourceEncrypted => Code::SourceEncrypted,
        FailureCode::SourceUndecodable => Code::SourceUndecodable,
        FailureCode::ChildCrashed => Code::ChildCrashed,
        FailureCode::ChildKilled => Code::ChildKilled,
        FailureCode::ChildStalled => Code::ChildStalled,
        FailureCode::ChildStarved => Code::ChildStarved,
        FailureCode::ChildMemory => Code::ChildMemory,
        FailureCode::ChildCpu => Code::ChildCpu,
        FailureCode::SourceUnreadable => Code::StoreUnavailable,
        FailureCode::CageUnavailable | FailureCode::ChildFailed => Code::Internal,
    }
}

fn given_up(failure: &Failure, attempts: u64, trace: &str) -> GivenUp {
    let mut params = failure.params.clone();
    params.insert("attempts".to_owned(), attempts.to_string());
    if code(failure.code) == Code::Internal {
        params.insert("trace".to_owned(), trace.to_owned());
    }
    GivenUp { problem: Problem { code: code(failure.code), params }, attempts }
}

#[cfg(test)]
mod tests {
    use spool_proto::problem::Fault;

    use super::*;

    fn first(children: u64) -> Before {
        Before { delivery: 1, last: false, children }
    }

    #[test]
    fn a_bad_source_is_final_at_once() {
        let failure = Failure::new(FailureCode::SourceNotMedia, "typefind").with("found", "a text");
        assert!(
            matches!(after(&failure, first(0), ""), After::Source(end) if end.problem.code == Code::SourceNotMedia)
        );
    }

    #[test]
    fn a_crash_gets_exactly_one_more_attempt() {
        let failure = Failure::new(FailureCode::ChildCrashed, "signal 11");
        assert_eq!(after(&failure, first(0), ""), After::Again { after: CHILD_RETRY_AFTER });
        let After::Source(end) = after(&failure, first(1), "") else { panic!("final") };
        assert_eq!((end.problem.params["attempts"].as_str(), end.attempts), ("2", 2));
    }

    #[test]
    fn workers_that_went_say_nothing_about_the_source() {
        let failure = Failure::new(FailureCode::ChildCrashed, "signal 9");
        let before = Before { delivery: 5, last: true, children: 0 };
        assert_eq!(after(&failure, before, ""), After::Again { after: CHILD_RETRY_AFTER });
    }

    #[test]
    fn a_failure_of_ours_never_rejects_a_source() {
        let failure = Failure::own("no such element: x264enc");
        for attempt in 1..=5 {
            let before = Before { delivery: attempt, last: attempt == 5, children: 0 };
            assert!(!matches!(after(&failure, before, ""), After::Source(_)));
        }
        assert!(matches!(after(&failure, Before { delivery: 5, last: true, children: 0 }, ""), After::System(_)));
    }

    #[test]
    fn a_child_that_was_ended_from_outside_says_nothing_about_the_source() {
        let failure = Failure::new(FailureCode::ChildKilled, "").with("signal", 9);
        let before = |delivery| Before { delivery, last: delivery == 5, children: 1 };
        assert_eq!(after(&failure, before(1), ""), After::Retry { after: SYSTEM_RETRY_AFTER });
        let After::System(end) = after(&failure, before(5), "") else { panic!("the deliveries are used up") };
        assert_eq!((end.problem.code.fault(), end.problem.params["attempts"].as_str()), (Fault::System, "5"));
    }

    /// The sources of this crate, but for tests and this file.
    fn sources(dir: &std::path::Path, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if !path.ends_with("shell/after.rs") && !path.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
                found.push((path.display().to_string(), text));
            }
        }
    }

    /// The values that a sentence and its advice name.
    fn named(code: Code) -> Vec<&'static str> {
        let parts = [code.sentence(), code.advice()].into_iter().flat_map(|text| text.split('{').skip(1));
        parts.filter_map(|part| part.split_once('}').map(|(name, _)| name)).collect()
    }

    /// Reads the places themselves: no set of broken files reaches all of them.
    #[test]
    fn every_place_that_names_a_failure_fills_its_sentence() {
        let mut files = Vec::new();
        sources(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
        let (mut met, mut wrong) = (std::collections::BTreeSet::new(), Vec::new());
        for (path, text) in &files {
            for (at, _) in text.match_indices("Failure::new(") {
                // Up to the next failure or the end of the function: builders may go on after a `let`.
                let rest = &text[at + "Failure::new(".len()..];
                let end = [rest.find("Failure::new("), rest.find("\n}\n"), rest.find("\n    }\n")];
                let place = &rest[..end.into_iter().flatten().min().unwrap_or(rest.len())];
                let Some(name) = place.trim_start().strip_prefix("FailureCode::") else { continue };
                let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
                let failure = |code: &FailureCode| format!("{code:?}") == name;
                let code = FailureCode::ALL.iter().copied().find(failure).unwrap_or_else(|| panic!("{path}: {name}"));
                met.insert(code);
                let filled = given_up(&Failure::new(code, ""), 1, "x").problem.params;
                for value in named(super::code(code)) {
                    let given = place.contains(&format!("with(\"{value}\"")) || filled.contains_key(value);
                    if !given {
                        wrong.push(format!("{path}: {name} without {value}"));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        // What is ours is named by `Failure::own`.
        let unmet: Vec<_> = FailureCode::ALL.iter().filter(|code| !met.contains(code)).collect();
        assert_eq!(unmet, [&FailureCode::ChildFailed]);
    }
}
