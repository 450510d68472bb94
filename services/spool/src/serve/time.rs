//! The time that all roles of this process go by: the log's.
//!
//! Facts bear the time at which the log took them, and deadlines are counted from there. A machine whose clock is days ahead
//! would end all that is under way at once; so the clock is set by the log's server at the start and now and then, and runs
//! on by itself in between. Wrong by days is then the server's clock at most, for all alike.

use std::time::Duration;

use spool_kit::units::spoken;
use spool_kit::{Clock, Stop};
use spool_nats::Log;
use spool_proto::Timestamp;

/// How often the clock is set. It runs on through a suspended machine's sleep as if that had not been, and until then late.
const SET_EVERY: Duration = Duration::from_secs(30);
/// How soon again after the server gave no time.
const AGAIN: Duration = Duration::from_secs(2);
/// From here on it is worth telling that the machine's clock and the server's differ.
const FAR: Duration = Duration::from_secs(2 * 60);

/// Sets the clock now. Could it be?
pub(super) async fn set(clock: &Clock, log: &Log) -> bool {
    match log.time().await {
        Ok(time) => {
            clock.follow(time);
            true
        }
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "the log's server did not tell the time");
            false
        }
    }
}

/// Keeps it set until the process stops, and tells when the machine's own clock is far off.
pub(super) async fn keep(clock: Clock, log: Log, stop: Stop) {
    let mut told = None;
    while !stop.is_finishing() {
        let was_set = set(&clock, &log).await;
        let off = off(clock.machine(), clock.now());
        if told != off {
            match &off {
                Some(off) => tracing::warn!("this machine's clock is {off} NATS; the time of NATS is gone by"),
                None => tracing::info!("this machine's clock agrees with that of NATS again"),
            }
            told = off;
        }
        stop.pause(if was_set { SET_EVERY } else { AGAIN }).await;
    }
}

/// How far the machine's clock is off, as `3 d ahead of`; nothing where it is about right.
fn off(machine: Timestamp, log: Timestamp) -> Option<String> {
    let (ahead, behind) = (machine.since(log), log.since(machine));
    match (ahead >= FAR, behind >= FAR) {
        (true, _) => Some(format!("{} ahead of", in_minutes(ahead))),
        (false, true) => Some(format!("{} behind", in_minutes(behind))),
        (false, false) => None,
    }
}

/// Whole minutes, so that the same difference reads the same a moment later.
fn in_minutes(span: Duration) -> String {
    const MINUTE_S: u64 = 60;
    spoken(Duration::from_secs((span.as_secs() + MINUTE_S / 2) / MINUTE_S * MINUTE_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_far_off_is_told_by_how_much() {
        let at = |seconds: i64| Timestamp::from_ms(1_795_240_800_000 + seconds * 1_000);
        assert_eq!(off(at(3 * 86_400 + 3), at(0)).as_deref(), Some("3 d ahead of"));
        assert_eq!(off(at(0), at(7_200)).as_deref(), Some("2 h behind"));
        assert_eq!((off(at(90), at(0)), off(at(0), at(90))), (None, None));
    }
}
