//! "What must hold" 5: a long source plays early, its playlists grow, and a player that starts at once never waits, whichever
//! picture it takes, nor for the sound.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::http::{get, join};
use crate::playlist::{Media, master, media};
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

/// What was seen at one time, from the moment of the first look.
#[derive(Debug, Clone)]
struct Seen {
    at: Duration,
    /// Every list that the multivariant one names, pictures first.
    lists: Vec<Media>,
}

/// What a run showed.
#[derive(Debug, Clone)]
pub(crate) struct Early {
    pub(crate) playable: Duration,
    pub(crate) ready: Duration,
    pub(crate) growths: usize,
    /// Least media that lay ahead of a player that started at once.
    pub(crate) least_ahead_s: f64,
    /// What no machine excuses: a list that was rewritten, one that did not grow, an order that was not kept.
    pub(crate) wrong: Vec<String>,
    /// What came too late.
    pub(crate) late: Vec<String>,
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

/// The lists of every picture and of the sound, asked for again and again from the first moment until all have their end tag;
/// of what is new in one the last object is read, as a player would.
fn follow(spool: &Spool) -> Outcome<Vec<Seen>> {
    let started = Instant::now();
    let mut growing: Vec<String> = Vec::new();
    let mut first = None;
    let mut seen: Vec<Seen> = Vec::new();
    while started.elapsed() < LIMIT {
        if growing.is_empty() {
            growing = offered(spool)?;
        } else {
            let lists = growing.iter().map(|url| media(url)).collect::<Outcome<Vec<Media>>>()?;
            let at = first.get_or_insert_with(Instant::now).elapsed();
            for (n, (url, list)) in growing.iter().zip(&lists).enumerate() {
                let before = seen.last().and_then(|seen| seen.lists[n].last_uri.as_ref());
                if let Some(last) = list.last_uri.as_ref().filter(|last| before != Some(last)) {
                    read(&join(url, last))?;
                }
            }
            let ended = lists.iter().all(|list| list.ended);
            seen.push(Seen { at, lists });
            if ended {
                return Ok(seen);
            }
        }
        std::thread::sleep(ASK_EVERY);
    }
    Err(format!("no end tags within {LIMIT:?}; {} looks", seen.len()))
}

fn read(url: &str) -> Outcome<()> {
    match get(url)? {
        (200, body) if !body.is_empty() => Ok(()),
        (status, body) => Err(format!("GET {url}, which is listed: {status}, {} bytes", body.len())),
    }
}

/// Addresses of the growing lists once the only asset plays: pictures first, then the sound.
fn offered(spool: &Spool) -> Outcome<Vec<String>> {
    let list = spool.api("/v1/assets?limit=1")?;
    let asset = &list["assets"][0];
    let Some(url) = asset["play_url"].as_str().filter(|_| asset["status"] == "playable") else { return Ok(Vec::new()) };
    let url = if url.starts_with("http") { url.to_owned() } else { format!("{}{url}", spool.server) };
    let (master, broken) = master(&url)?;
    match &master.sound {
        Some(sound) if broken.is_empty() && !master.videos.is_empty() => {
            Ok(master.videos.into_iter().map(|video| video.url).chain([sound.clone()]).collect())
        }
        _ => Err(format!("{url} lacks pictures or sound: {master:?} {broken:?}")),
    }
}

/// What the looks add up to.
fn judge(playable: Duration, ready: Duration, seen: &[Seen]) -> Early {
    let (mut wrong, mut late) = (Vec::new(), Vec::new());
    let share = playable.as_secs_f64() / ready.as_secs_f64();
    if share >= EARLY {
        late.push(format!("playable after {playable:.2?}, {:.0} % of {ready:.2?}", share * 100.0));
    }
    if playable >= ready {
        wrong.push(format!("ready after {ready:.2?}, and playable only after {playable:.2?}"));
    }
    let mut growths = 0;
    for pair in seen.windows(2) {
        for (n, (before, after)) in pair[0].lists.iter().zip(&pair[1].lists).enumerate() {
            if !after.text.starts_with(&before.text) {
                wrong.push(format!("at {:.2?} list {n} was not only appended to", pair[1].at));
            }
        }
        let picture = |seen: &Seen| seen.lists.first().map_or(0, |list| list.lengths_s.len());
        growths += usize::from(picture(&pair[1]) > picture(&pair[0]));
    }
    if growths < GROWTHS {
        wrong.push(format!("the list grew {growths} times"));
    }
    let least_ahead_s = least_ahead(seen);
    if least_ahead_s < 0.0 {
        late.push(format!("a player that started at once would have waited {:.2} s", -least_ahead_s));
    }
    Early { playable, ready, growths, least_ahead_s, wrong, late }
}

/// A player that starts with the first look reads every list at 1x; what each holds must stay ahead of it.
fn least_ahead(seen: &[Seen]) -> f64 {
    let whole: Vec<f64> = seen.last().map_or(Vec::new(), |last| last.lists.iter().map(Media::span_s).collect());
    let ahead = seen.iter().flat_map(|seen| {
        let needed = seen.at.as_secs_f64() + AHEAD_S;
        seen.lists.iter().zip(&whole).map(move |(list, whole)| list.span_s() - needed.min(*whole))
    });
    ahead.fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::playlist::parse;

    fn seen(at_ms: u64, picture: usize, sound: usize) -> Seen {
        let list = |segments: usize| parse((0..segments).map(|n| format!("#EXTINF:4.0,\n{n}.mp4\n")).collect());
        Seen { at: Duration::from_millis(at_ms), lists: vec![list(picture), list(sound)] }
    }

    #[test]
    fn a_list_that_is_rewritten_is_wrong_each_time_and_one_that_is_slow_is_late() {
        let ms = Duration::from_millis;
        let good: Vec<Seen> = (0..10).map(|n| seen(n * 100, n as usize + 1, 10)).collect();
        let fine = judge(ms(10), ms(1000), &good);
        assert!(fine.wrong.is_empty() && fine.late.is_empty(), "{fine:?}");
        for list in [0, 1] {
            let mut rewritten = good.clone();
            rewritten[4].lists[list].text = rewritten[4].lists[list].text.replace("0.mp4", "x.mp4");
            let rewritten = judge(ms(10), ms(1000), &rewritten);
            assert!(rewritten.wrong.len() == 2 && rewritten.late.is_empty(), "{rewritten:?}");
        }
        assert_eq!(judge(ms(10), ms(1000), &good[4..]).wrong, ["the list grew 5 times"]);
        let slow: Vec<Seen> = (0..10).map(|n| seen(n * 9000, n as usize + 1, 10)).collect();
        let slow = judge(ms(10), ms(100_000), &slow);
        assert!(slow.least_ahead_s < -10.0 && slow.late.len() == 1 && slow.wrong.is_empty(), "{slow:?}");
        let silent: Vec<Seen> = (0..10).map(|n| seen(n * 9000, 10 + n as usize, n as usize + 1)).collect();
        let silent = judge(ms(10), ms(100_000), &silent);
        assert!(silent.least_ahead_s < -10.0 && silent.late.len() == 1, "sound that lags is waited for: {silent:?}");
        assert!(judge(ms(200), ms(1000), &good).late[0].starts_with("playable after"));
        assert_eq!(judge(ms(1000), ms(1000), &good).wrong.len(), 1);
    }
}
