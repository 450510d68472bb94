//! What a command says: text for people, or one JSON object a line.

use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

/// How often a bar is drawn again.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// Where nobody looks, a line is written each time this much more is done, in percent.
const LINE_EVERY: u64 = 10;
const BAR_CHARS: u64 = 24;
/// How often a command that only tells what happens looks whether somebody still reads it.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Where a command's words go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    json: bool,
}

impl Out {
    /// JSON, or text for people.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Is it JSON?
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Says `value`, or for people `text`. A pipe that was closed ends nothing: the work goes on. What is no more than telling
    /// ends by [`Out::closed`].
    pub(crate) fn say(self, value: &Value, text: impl FnOnce() -> String) {
        let line = if self.json { value.to_string() } else { harmless(&text()) };
        let _nobody_listens = writeln!(std::io::stdout().lock(), "{line}");
    }

    /// For people only.
    pub(crate) fn tell(self, text: &str) {
        if !self.json {
            let _nobody_listens = writeln!(std::io::stdout().lock(), "{}", harmless(text));
        }
    }

    /// What keeps a command waiting, on standard error: an object in JSON, which no result has to be told from.
    pub(crate) fn note(self, text: &str) {
        let line = match self.json {
            true => json!({"event": "waits", "detail": text}).to_string(),
            false => harmless(&format!("spool: {text}")),
        };
        let _nobody_listens = writeln!(std::io::stderr().lock(), "{line}");
    }

    /// Comes back once nobody can read standard output any more: `spool watch | head -1`.
    pub(crate) async fn closed(self) {
        while !is_closed(&std::io::stdout()) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Was the other end closed? Never so of a file.
fn is_closed(out: &impl AsFd) -> bool {
    let mut asked = [PollFd::new(out, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let told = poll(&mut asked, Some(&at_once)).unwrap_or(0);
    told > 0 && asked[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Text for a terminal: names that people gave may hold what moves the cursor, changes colours or turns the line around.
fn harmless(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_harmful = |c: char| (c.is_control() && c != '\n' && c != '\t') || turns(c);
    text.chars().map(|c| if is_harmful(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Progress of one thing: a bar on a terminal, a line now and then elsewhere, objects in JSON.
#[derive(Debug)]
pub(crate) struct Progress {
    out: Out,
    terminal: bool,
    what: &'static str,
    drawn: Option<Instant>,
    told_percent: Option<u64>,
    width: usize,
}

impl Progress {
    /// Progress of `what`: `upload`, `encode`.
    pub(crate) fn new(out: Out, what: &'static str) -> Self {
        let terminal = !out.is_json() && std::io::stderr().is_terminal();
        Self { out, terminal, what, drawn: None, told_percent: None, width: 0 }
    }

    /// `percent` is done; `more` says it in other words.
    pub(crate) fn at(&mut self, percent: u64, more: &str, value: impl FnOnce() -> Value) {
        let percent = percent.min(100);
        if self.terminal {
            let due = self.drawn.is_none_or(|at| at.elapsed() >= DRAW_EVERY) || percent == 100;
            if due {
                self.draw(&format!("{:<7} {} {percent:>3} %  {more}", self.what, bar(percent)));
            }
            return;
        }
        let step = percent / LINE_EVERY;
        if self.told_percent.is_some_and(|told| told / LINE_EVERY >= step) {
            return;
        }
        self.told_percent = Some(percent);
        let what = self.what;
        self.out.say(&value(), || format!("{what} {percent} %  {more}"));
    }

    fn draw(&mut self, line: &str) {
        let line = harmless(line);
        let width = line.chars().count();
        let pad = " ".repeat(self.width.saturating_sub(width));
        self.width = width;
        self.drawn = Some(Instant::now());
        let mut stderr = std::io::stderr().lock();
        let _nobody_looks = write!(stderr, "\r{line}{pad}").and_then(|()| stderr.flush());
    }

    /// Leaves the bar's line. Also done when this is dropped.
    pub(crate) fn end(&mut self) {
        if self.terminal && self.drawn.take().is_some() {
            let _nobody_looks = writeln!(std::io::stderr().lock());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

fn bar(percent: u64) -> String {
    let full = (percent * BAR_CHARS / 100) as usize;
    format!("[{}{}]", "#".repeat(full), "-".repeat(BAR_CHARS as usize - full))
}

/// `12.3 MB`
pub(crate) fn size(bytes: u64) -> String {
    let steps = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut step = 0;
    while value >= 999.5 && step + 1 < steps.len() {
        value /= 1000.0;
        step += 1;
    }
    if step == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", steps[step]) }
}

/// `1 m 05 s`, `12.3 s`, `850 ms`
pub(crate) fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        60_000..3_600_000 => format!("{} m {:02} s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{} h {:02} m", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// A row of a table is one line, whatever a name in it holds.
fn in_a_line(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Columns under each other; the last one is not padded.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| in_a_line(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|c| rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The text of a JSON value; nothing for null.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_does_nothing_to_a_terminal() {
        assert_eq!(harmless("\u{1b}[31mred\u{202e}4pm.\0\n\tä"), "\u{fffd}[31mred\u{fffd}4pm.\u{fffd}\n\tä");
    }

    #[test]
    fn a_pipe_is_closed_when_its_reader_went_and_a_file_never_is() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        assert!(!is_closed(&writer));
        drop(reader);
        assert!(is_closed(&writer));
        assert!(!is_closed(&tempfile::tempfile().expect("a file")));
    }

    #[test]
    fn sizes_and_spans_read_well() {
        assert_eq!([0, 999, 1000, 12_345_678, 999_999].map(size), ["0 B", "999 B", "1.0 kB", "12.3 MB", "1.0 MB"]);
        assert_eq!([850, 12_345, 65_000, 7_260_000].map(span), ["850 ms", "12.3 s", "1 m 05 s", "2 h 01 m"]);
    }

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [vec!["a".to_owned(), "x".to_owned()], vec!["long".to_owned(), String::new()]];
        assert_eq!(table(&rows), "a     x\nlong");
        let named = [vec!["a\r\nb\tc".to_owned(), "x".to_owned()]];
        assert_eq!(table(&named), "a\u{fffd}\u{fffd}b\u{fffd}c  x", "one row, one line");
    }

    #[test]
    fn a_bar_is_as_long_as_what_is_done() {
        assert_eq!(bar(0), format!("[{}]", "-".repeat(24)));
        assert_eq!(bar(50), format!("[{}{}]", "#".repeat(12), "-".repeat(12)));
    }
}
