//! "What must hold" 1: one run of all files through the real binary serves every check.

use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use spool_proto::Code;

use crate::inputs::{self, End, Input};
use crate::judge::judge;
use crate::looks::side_by_side;
use crate::served::Served;
use crate::sound::flash_to_beep;
use crate::source::Source;
use crate::spool::{Pushed, Spool};
use crate::table::{Row, text};
use crate::tool::Outcome;

/// Files on their way at the same time.
const AT_ONCE: usize = 3;
/// How long a good file may take while others are worked on too.
const GOOD_LIMIT: Duration = Duration::from_secs(300);
/// How long one that is broken may take to its end.
const BROKEN_LIMIT: Duration = Duration::from_secs(60);
/// Sound against picture of flashes and beeps.
const SYNC_S: f64 = 0.040;

/// A file that came to its end, to be measured where it plays.
type Arrived = (Input, Pushed, Row);

/// Pushes all, measures all, and answers with the whole table as an error if a rule is broken.
pub(crate) fn table(dir: &Path, eyes: &Path) -> Outcome<()> {
    let started = Instant::now();
    let inputs = inputs::all(dir)?;
    println!("{} files made in {:.0?}", inputs.len(), started.elapsed());
    let spool = Spool::up(dir, "")?;
    let queue = Mutex::new(inputs.into_iter());
    let (arrived, to_measure) = mpsc::channel();
    let mut rows: Vec<Row> = std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            let (arrived, queue, spool) = (arrived.clone(), &queue, &spool);
            scope.spawn(move || {
                // A lock that a panic poisoned still guards a list of files.
                while let Some(input) = queue.lock().unwrap_or_else(|e| e.into_inner()).next() {
                    if arrived.send(push(spool, input)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(arrived);
        measure_all(&spool, &to_measure, eyes)
    });
    rows.sort_by(|a, b| a.label.cmp(&b.label));
    let (pushed, measuring) = (started.elapsed(), cpu_of_children());
    let stopped = spool.stop();
    println!("{}", text(&rows));
    let spools = cpu_of_children().saturating_sub(measuring);
    println!("pushed and measured within {pushed:.0?}; CPU: Spool {spools:.0?}, measuring {measuring:.0?}");
    stopped?;
    let broken: usize = rows.iter().map(|row| row.broken.len()).sum();
    if broken == 0 { Ok(()) } else { Err(format!("{broken} broken rules, listed above")) }
}

/// Pushes one file and judges how it ended.
fn push(spool: &Spool, input: Input) -> Arrived {
    let limit = if plays(input.end) { GOOD_LIMIT } else { BROKEN_LIMIT * 2 };
    let mut row = Row { label: input.label.clone(), ..Row::default() };
    let pushed = match spool.push(&input.path, limit) {
        Ok(pushed) => pushed,
        Err(error) => {
            row.broken.push(error);
            Pushed { exit: None, last: Default::default(), errors: String::new(), took: limit }
        }
    };
    let upload = Duration::from_millis(pushed.last["upload_ms"].as_u64().unwrap_or(0));
    let after = pushed.took.saturating_sub(upload);
    row.took_ms = after.as_millis() as u64;
    row.end = pushed.text("status").to_owned();
    row.code = pushed.text("code").to_owned();
    row.broken.extend(ended_rightly(spool, &input, &pushed, after));
    (input, pushed, row)
}

fn plays(end: End) -> bool {
    match end {
        End::Ready | End::Flashes | End::Sound => true,
        End::Refused(_) | End::Somehow => false,
    }
}

/// What is wrong with how a file ended.
fn ended_rightly(spool: &Spool, input: &Input, pushed: &Pushed, after: Duration) -> Vec<String> {
    let mut broken = Vec::new();
    let (status, code) = (pushed.text("status"), pushed.text("code"));
    let fits = match input.end {
        End::Ready | End::Flashes | End::Sound => status == "ready",
        End::Refused(breakage) => {
            let known = breakage.codes().iter().any(|fitting| fitting.name() == code);
            if !known {
                let fitting: Vec<&str> = breakage.codes().iter().map(|code| code.name()).collect();
                broken.push(format!("the code is {code}, where {} fits ({breakage:?})", fitting.join(" or ")));
            }
            status == "rejected" || status == "failed"
        }
        End::Somehow => matches!(status, "ready" | "rejected" | "failed"),
    };
    if !fits {
        let said = pushed.errors.lines().last().unwrap_or_default();
        broken.push(format!("ended as {status:?} {code} {} (exit {:?}) {said}", pushed.text("detail"), pushed.exit));
    }
    let exit = if status == "ready" { Some(0) } else { Some(3) };
    if pushed.exit != exit {
        broken.push(format!("push ended with {:?} for {status:?}", pushed.exit));
    }
    if !plays(input.end) && after > BROKEN_LIMIT {
        broken.push(format!("took {after:.1?} to its end"));
    }
    if matches!(status, "rejected" | "failed") {
        broken.extend(tells_people(pushed));
        broken.extend(blames_the_file(spool, pushed));
    }
    broken
}

/// The sentence must be one: for people, whole, without the words of a machine.
fn tells_people(pushed: &Pushed) -> Option<String> {
    let sentence = pushed.text("detail");
    let starts = sentence.chars().next().is_some_and(char::is_uppercase);
    let machine = ["an unknown", "{", "}", "::", "Err(", "Some(", "gst", "0x", "None", "\n"];
    let plain = !machine.iter().any(|word| sentence.contains(word));
    let holds = starts && sentence.ends_with('.') && plain && (15..400).contains(&sentence.len());
    (!holds).then(|| format!("no sentence for people: {sentence:?}"))
}

fn blames_the_file(spool: &Spool, pushed: &Pushed) -> Option<String> {
    let asset = match spool.api(&format!("/v1/assets/{}", pushed.text("id"))) {
        Ok(asset) => asset,
        Err(error) => return Some(error),
    };
    let reason = &asset["reason"];
    let known = reason["code"].as_str().is_some_and(|code| code.parse::<Code>().is_ok());
    (reason["fault"] != "input" || !known).then(|| format!("the reason is {reason}, where the file is at fault"))
}

/// Measures what plays, while other files are still pushed.
fn measure_all(spool: &Spool, arrived: &Receiver<Arrived>, eyes: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    while let Ok((input, pushed, mut row)) = arrived.recv() {
        if plays(input.end)
            && row.end == "ready"
            && let Err(error) = measure(&input, &pushed, &mut row, eyes)
        {
            row.broken.push(error);
        }
        if input.end == End::Somehow && row.end == "ready" {
            // It need not look like anything, but what is called ready must play.
            row.broken.extend(Served::decode(pushed.text("play_url")).err());
        }
        for rule in &row.broken {
            println!("{}: {rule}", row.label);
        }
        rows.push(row);
    }
    // The process that did all this still answers.
    if let Err(error) = spool.api("/v1/assets?limit=1") {
        rows.push(Row { label: "spool".to_owned(), broken: vec![error], ..Row::default() });
    }
    rows
}

fn measure(input: &Input, pushed: &Pushed, row: &mut Row, eyes: &Path) -> Outcome<()> {
    let source = Source::look_at(&input.path)?;
    let served = Served::decode(pushed.text("play_url"))?;
    let (figures, broken) = judge(&source, &served);
    row.figures = Some(figures);
    row.broken.extend(broken);
    if let (Some(stated), Some(picture)) = (input.frames, &source.picture)
        && picture.position == 0
        && picture.times_s.len() as u64 != stated
    {
        row.broken.push(format!("the manifest states {stated} frames, ffmpeg finds {}", picture.times_s.len()));
    }
    if input.end == End::Sound && !served.videos.is_empty() {
        row.broken.push("a picture came out of sound".to_owned());
    }
    if source.picture.as_ref().is_some_and(|picture| picture.hdr)
        && let Some(rendition) = served.videos.first()
    {
        let to = eyes.join(format!("{}.png", row.label.replace(|c: char| !c.is_alphanumeric(), "-")));
        side_by_side(&source, rendition, &to)?;
        println!("for eyes (source, served): {}", to.display());
    }
    if input.end == End::Flashes
        && let (Some(picture), Some(sound), Some(audio)) = (&source.picture, &source.sound, &served.sound)
    {
        let file = source.path.to_string_lossy();
        for video in &served.videos {
            let off = flash_to_beep(&file, picture, sound, source.zero_s(), video, audio, source.span_s())?;
            println!("{}: {}: flash to beep differs by {:.1} ms at most", row.label, video.name, off * 1000.0);
            if off > SYNC_S {
                row.broken.push(format!("{}: flash to beep differs by {:.0} ms", video.name, off * 1000.0));
            }
        }
    }
    Ok(())
}

/// Computing time of the children that have ended, theirs included.
fn cpu_of_children() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold anything: cutime and cstime are the 14th and 15th words, in hundredths of a second.
    let words = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(13).take(2);
    Duration::from_millis(words.filter_map(|word| word.parse::<u64>().ok()).sum::<u64>() * 10)
}
