//! May it be watched while it grows? Only if it then plays through: a player that starts now never waits for the encoder.
//!
//! Seen from now, with the encoder as fast as measured so far, chunk `c` will be stored after
//!
//! ```text
//! wait(c) = media missing up to the end of c / (TRUST × speed)
//! ```
//!
//! and the player needs its first segment when it has played everything before it, `start(c)`. So for every missing chunk
//!
//! ```text
//! wait(c) + margin(c) <= start(c),    margin(c) = min(start(c) / 2, one segment)
//! ```
//!
//! The margin is how late a player may hear of a segment: it asks for the list again after one target duration. Its first
//! question comes as early as the list is short, hence the half. Later segments of a chunk come in time by themselves: the
//! projector lists segment `k` at the latest `k` target durations after the chunk, which is when a player that had its
//! first segment in time wants it.
//!
//! Pure: times are those of the facts, speed is measured on them.

use spool_proto::Timestamp;
use spool_proto::asset::Generation;
use spool_proto::media::{NS_PER_MS, Plan};

/// The encoder is trusted to go on at this share of its speed so far, in percent: scenes differ, and other assets come.
const TRUST_PERCENT: u64 = 80;

/// Does a player that starts `now` play through? `now` is the time of the fact that is handled.
pub fn plays_through(generation: &Generation, now: Timestamp) -> bool {
    let plan = generation.plan();
    if generation.contiguous_chunks() == 0 {
        return false;
    }
    let pictures = generation.video.iter().map(|(chunk, it)| Stored {
        chunk: *chunk,
        at: it.at,
        encode_ms: it.it.encode_ms,
        fresh: it.sequence > generation.plan.sequence,
    });
    let sound = generation.audio.get(&0).into_iter().flatten().map(|(chunk, it)| Stored {
        chunk: *chunk,
        at: it.at,
        encode_ms: it.it.encode_ms,
        fresh: it.sequence > generation.plan.sequence,
    });
    (plan.rungs.is_empty() || keeps_ahead(plan, &pictures.collect::<Vec<_>>(), now))
        && (plan.audio.is_none() || keeps_ahead(plan, &sound.collect::<Vec<_>>(), now))
}

/// A chunk that stands, and how it came about.
struct Stored {
    chunk: u32,
    at: Timestamp,
    encode_ms: u64,
    /// Made in this generation, not taken over: only that tells how fast the encoder is.
    fresh: bool,
}

/// The inequality above, for one track.
fn keeps_ahead(plan: &Plan, stored: &[Stored], now: Timestamp) -> bool {
    let stands = |chunk: &u32| stored.iter().any(|it| it.chunk == *chunk);
    let missing: Vec<u32> = (0..plan.chunk_count()).filter(|chunk| !stands(chunk)).collect();
    if missing.is_empty() {
        return true;
    }
    let fresh = || stored.iter().filter(|it| it.fresh);
    let began = fresh().map(|it| it.at.as_ms().saturating_sub_unsigned(it.encode_ms)).min();
    let Some(began) = began else { return false };
    let elapsed_ms = u64::try_from(now.as_ms().saturating_sub(began)).unwrap_or(0).max(1);
    let made_ms: u64 = fresh().map(|it| length_ms(plan, it.chunk)).sum();
    let segment_ms = plan.segment_ns / NS_PER_MS;
    let mut missing_ms = 0;
    missing.into_iter().all(|chunk| {
        missing_ms += length_ms(plan, chunk);
        let wait_ms = u128::from(elapsed_ms) * u128::from(missing_ms) * 100
            / (u128::from(made_ms) * u128::from(TRUST_PERCENT)).max(1);
        let start_ms = plan.chunk_span_ns(chunk).0 / NS_PER_MS;
        wait_ms + u128::from(segment_ms.min(start_ms / 2)) <= u128::from(start_ms)
    })
}

fn length_ms(plan: &Plan, chunk: u32) -> u64 {
    let (start, end) = plan.chunk_span_ns(chunk);
    end.saturating_sub(start) / NS_PER_MS
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use spool_proto::Slot;
    use spool_proto::event::VideoStored;
    use spool_proto::testing::Given;
    use spool_proto::testing::values::{plan, video_stored};

    use super::*;

    /// A picture of 300 s without sound, in chunks as the planner cuts it.
    fn silent() -> Plan {
        let chunks = [1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 8, 8, 8, 8];
        Plan { audio: None, stills: vec![], ..plan(&chunks, 300_000) }
    }

    /// One worker at `speed_percent` of playing speed stores chunk after chunk: how many stand when it opens?
    fn opens_after(plan: &Plan, speed_percent: u64) -> u32 {
        let mut given = Given::planned(plan.clone());
        for chunk in 0..plan.chunk_count() {
            let encode_ms = length_ms(plan, chunk) * 100 / speed_percent;
            let passed = Duration::from_millis(encode_ms).saturating_sub(Duration::from_secs(1));
            let stored = VideoStored { encode_ms, ..video_stored(plan, 1, chunk) };
            given = given.wait(passed).then(Slot::EncodeVideo { generation: 1, chunk }, stored);
            let asset = given.fold();
            if plays_through(asset.generation().expect("planned"), asset.updated_at) {
                return chunk + 1;
            }
        }
        panic!("a complete asset plays through");
    }

    #[test]
    fn a_fast_encoder_opens_at_once_and_a_slow_one_when_its_lead_is_long_enough() {
        for (speed_percent, chunks) in
            [(2_000, 1), (250, 1), (200, 2), (150, 3), (140, 4), (125, 6), (110, 8), (50, 13)]
        {
            assert_eq!(opens_after(&silent(), speed_percent), chunks, "at {speed_percent} %");
        }
    }

    /// Milliseconds from the start of the encode to when each segment is in the growing list: `k` target durations after
    /// its chunk, or when the next chunk stands.
    fn listed_at(plan: &Plan, speed_percent: u64) -> Vec<u64> {
        let stored = |n: u32| (0..n).map(|c| length_ms(plan, c) * 100 / speed_percent).sum::<u64>();
        let chunks = plan.chunks.iter().zip(1..);
        let of_chunk = |(size, n): (&u32, u32)| {
            let (stands, next) = (stored(n), if n < plan.chunk_count() { stored(n + 1) } else { stored(n) });
            (0..u64::from(*size)).map(move |k| (stands + k * 4_000).min(next)).collect::<Vec<_>>()
        };
        chunks.flat_map(of_chunk).collect()
    }

    /// A player as RFC 8216 §6.3.4 has it: asks for the list when it starts, then one target duration after a list that had
    /// grown and half of one after a list that had not; and plays from the first second at once.
    #[test]
    fn a_player_that_starts_when_it_opens_never_waits() {
        for speed_percent in (20..1_000).step_by(7) {
            let plan = silent();
            let listed = listed_at(&plan, speed_percent);
            let opened = opens_after(&plan, speed_percent);
            let start: u64 = (0..opened).map(|c| length_ms(&plan, c) * 100 / speed_percent).sum();
            let (mut asks, mut known) = (start, 0);
            while known < listed.len() {
                let lists = listed.iter().take_while(|at| **at <= asks).count();
                for segment in known..lists {
                    let needed = start + segment as u64 * 4_000;
                    assert!(
                        asks <= needed,
                        "segment {segment} at {speed_percent} %: known at {asks}, needed at {needed}"
                    );
                }
                asks += if lists > known { 4_000 } else { 2_000 };
                known = lists.max(known);
            }
        }
    }

    #[test]
    fn nothing_opens_without_its_first_chunk_in_picture_and_sound() {
        let plan = plan(&[1, 2], 12_000);
        let given = Given::planned(plan.clone());
        let given = given.then(Slot::EncodeVideo { generation: 1, chunk: 0 }, video_stored(&plan, 1, 0));
        let asset = given.fold();
        assert!(!plays_through(asset.generation().expect("planned"), asset.updated_at));
    }
}
