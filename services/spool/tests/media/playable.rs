//! "What must hold" 5: a long source plays early, its playlist grows, and a player that starts at once never waits.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::http::{get, join};
use crate::playlist::{Media, parse};
use crate::spool::Spool;
use crate::tool::Outcome;

/// How often the playlist is asked for.
const ASK_EVERY: Duration = Duration::from_millis(40);
/// How long the whole may take.
const LIMIT: Duration = Duration::from_secs(240);
/// *Playable* falls before this share of the time to *ready*.
const EARLY: f64 = 0.15;
/// The playlist grows at least this often in between.
const GROWTHS: usize = 8;
/// What a player has read ahead of what it shows: one request and its answer.
const AHEAD_S: f64 = 0.25;

/// What was seen at one time, from the moment the upload was complete.
#[derive(Debug, Clone)]
struct Seen {
    at: Duration,
    list: Media,
}

/// What a run showed.
#[derive(Debug, Clone)]
pub(crate) struct Early {
    pub(crate) playable: Duration,
    pub(crate) ready: Duration,
    pub(crate) growths: usize,
    /// Least media that lay ahead of a player that started at once.
    pub(crate) least_ahead_s: f64,
    pub(crate) broken: Vec<String>,
}

/// Pushes `file` and watches it grow.
pub(crate) fn watch(spool: &Spool, file: &Path) -> Outcome<Early> {
    let (pushed, seen) = std::thread::scope(|scope| -> Outcome<_> {
        let push = scope.spawn(|| spool.push(file, LIMIT));
        let seen = follow(spool)?;
        let pushed = push.join().map_err(|_| "the pushing thread panicked".to_owned())??;
        Ok((pushed, seen))
    })?;
    if pushed.text("status") != "ready" {
        return Err(format!("ended as {}", pushed.last));
    }
    let stated = |key: &str| pushed.last[key].as_u64().map(Duration::from_millis).ok_or(format!("no {key}"));
    Ok(judge(stated("playable_ms")?, stated("ready_ms")?, &seen))
}

/// The first rendition's playlist, asked for again and again from the first moment to the end tag.
fn follow(spool: &Spool) -> Outcome<Vec<Seen>> {
    let started = Instant::now();
    let mut growing: Option<String> = None;
    let mut first = None;
    let mut seen: Vec<Seen> = Vec::new();
    while started.elapsed() < LIMIT {
        if let Some(url) = &growing {
            let (status, body) = get(url)?;
            if status != 200 {
                return Err(format!("GET {url}: {status}"));
            }
            let at = first.get_or_insert_with(Instant::now).elapsed();
            let list = parse(String::from_utf8_lossy(&body).into_owned());
            let ended = list.ended;
            seen.push(Seen { at, list });
            if ended {
                return Ok(seen);
            }
        } else {
            growing = offered(spool)?;
        }
        std::thread::sleep(ASK_EVERY);
    }
    Err(format!("no end tag within {LIMIT:?}; {} looks", seen.len()))
}

/// Address of the growing playlist once the only asset plays.
fn offered(spool: &Spool) -> Outcome<Option<String>> {
    let list = spool.api("/v1/assets?limit=1")?;
    let asset = &list["assets"][0];
    let Some(url) = asset["play_url"].as_str().filter(|_| asset["status"] == "playable") else { return Ok(None) };
    let url = if url.starts_with("http") { url.to_owned() } else { format!("{}{url}", spool.server) };
    let (status, body) = get(&url)?;
    let text = String::from_utf8_lossy(&body).into_owned();
    let rendition = text.lines().find(|line| !line.starts_with('#') && !line.is_empty());
    Ok(rendition.filter(|_| status == 200).map(|uri| join(&url, uri)))
}

/// What the looks add up to.
fn judge(playable: Duration, ready: Duration, seen: &[Seen]) -> Early {
    let mut broken = Vec::new();
    let share = playable.as_secs_f64() / ready.as_secs_f64();
    if share >= EARLY {
        broken.push(format!("playable after {playable:.2?}, {:.0} % of {ready:.2?}", share * 100.0));
    }
    let mut growths = 0;
    for pair in seen.windows(2) {
        let (before, after) = (&pair[0].list, &pair[1].list);
        if !after.text.starts_with(&before.text) {
            broken.push(format!("at {:.2?} the list was not only appended to", pair[1].at));
        }
        growths += usize::from(after.lengths_s.len() > before.lengths_s.len());
    }
    if growths < GROWTHS {
        broken.push(format!("the list grew {growths} times"));
    }
    // A player that starts with the first look reads at 1x; what is listed must stay ahead of it.
    let whole = seen.last().map_or(0.0, |last| last.list.span_s());
    let ahead = seen.iter().map(|seen| {
        let needed = (seen.at.as_secs_f64() + AHEAD_S).min(whole);
        seen.list.span_s() - needed
    });
    let least_ahead_s = ahead.fold(f64::INFINITY, f64::min);
    if least_ahead_s < 0.0 {
        broken.push(format!("a player that started at once would have waited {:.2} s", -least_ahead_s));
    }
    Early { playable, ready, growths, least_ahead_s, broken }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(at_ms: u64, segments: usize) -> Seen {
        let text = (0..segments).map(|n| format!("#EXTINF:4.0,\n{n}.mp4\n")).collect();
        Seen { at: Duration::from_millis(at_ms), list: parse(text) }
    }

    #[test]
    fn a_list_that_is_rewritten_or_too_slow_is_noticed() {
        let ms = Duration::from_millis;
        let good: Vec<Seen> = (0..10).map(|n| seen(n * 100, n as usize + 1)).collect();
        assert_eq!(judge(ms(10), ms(1000), &good).broken, Vec::<String>::new());
        let mut rewritten = good.clone();
        rewritten[4].list.text = rewritten[4].list.text.replace("0.mp4", "x.mp4");
        assert_eq!(judge(ms(10), ms(1000), &rewritten).broken.len(), 2);
        let slow: Vec<Seen> = (0..10).map(|n| seen(n * 9000, n as usize + 1)).collect();
        let slow = judge(ms(10), ms(100_000), &slow);
        assert!(slow.least_ahead_s < -10.0 && slow.broken.len() == 1, "{slow:?}");
        assert!(judge(ms(200), ms(1000), &good).broken[0].starts_with("playable after"));
    }
}
