//! Growing playlists: a pure function of the fold and of now, that only ever appends.
//!
//! Segment `k` of a chunk is listed `k` target durations after the chunk was stored everywhere, or when the next chunk
//! stands, whichever is first: so a list also moves while a slow encoder works, and players that poll see growth. All
//! renditions list the same segments at the same moment. When the generation is over, in whatever way, everything that
//! stands is listed and the list ends, so that a player that holds it is never left waiting.

use std::time::Duration;

use spool_kit::hls::{self, Growth, Listing};
use spool_proto::Timestamp;
use spool_proto::asset::Generation;

/// A growing media playlist as it is at `now`; nothing when there is no such rendition or nothing of it stands.
pub fn media(number: u32, generation: &Generation, rendition: &str, now: Timestamp) -> Option<String> {
    let plan = generation.plan();
    let target_s = hls::planned_target_s(plan);
    let stored = generation.contiguous_chunks();
    // All renditions begin together: a player that has one list must find the others.
    (stored > 0).then_some(())?;
    let first = hls::rates::receipt(generation, rendition, 0)?;
    let over = generation.outcome.is_some();
    let mut entries = Vec::new();
    let mut complete = stored == plan.chunk_count();
    for chunk in 0..stored {
        let all = hls::entries_of(number, chunk, hls::rates::receipt(generation, rendition, chunk)?);
        let due = if over || chunk + 1 < stored { u32::MAX } else { due(generation, chunk, target_s, now) };
        // Counted by the plan and not by this rendition, so that all renditions end at the same moment.
        let whole = due >= plan.chunks.get(chunk as usize).copied().unwrap_or(0);
        complete &= whole;
        entries.extend(all.into_iter().take(if whole { usize::MAX } else { due as usize }));
    }
    let growth = Growth::Growing { ended: over || complete };
    Some(hls::media_playlist(&Listing { growth, target_s, map: hls::map_of(number, first), entries }))
}

/// Number of segments of the newest chunk that are listed at `now`: one at once (a clock that is behind the stream's must
/// not hide what stands), then one each target duration.
fn due(generation: &Generation, chunk: u32, target_s: u32, now: Timestamp) -> u32 {
    let span = Duration::from_secs(u64::from(target_s));
    let waited = now.since(stored_at(generation, chunk));
    u32::try_from(waited.as_millis() / span.as_millis().max(1)).unwrap_or(u32::MAX).saturating_add(1)
}

/// When all of `chunk` and everything before it stood. Never earlier than a fact of it; of parts that were taken over,
/// when they were first stored.
fn stored_at(generation: &Generation, chunk: u32) -> Timestamp {
    let at = |chunk: u32| {
        let video = generation.video.get(&chunk).map(|it| it.at);
        let audio = generation.audio.get(&0).and_then(|track| track.get(&chunk)).map(|it| it.at);
        video.max(audio).unwrap_or_default()
    };
    (0..=chunk).map(at).max().unwrap_or_default()
}

/// The growing multivariant playlist; nothing before its first chunk stands everywhere.
pub fn index(number: u32, generation: &Generation) -> Option<String> {
    (generation.contiguous_chunks() > 0).then_some(())?;
    Some(hls::multivariant(&hls::rates::declared(number, generation)?))
}

#[cfg(test)]
mod tests;
