//! Every test, with what they need installed first.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::run::{cargo, shared_media, typed};
use crate::{Failure, codegen, licences, setup};

/// Sets up, checks the generated code, and runs `cargo test --workspace` with the dev profile.
///
/// The last lines say how many tests ran, one summary over all test binaries, and what was not checked at all.
pub(crate) fn run(rest: &[String]) -> Result<(), Failure> {
    setup::run(setup::For::Tests)?;
    codegen::run(true)?;
    let mut arguments = vec!["test", "--workspace", "--locked", "--no-fail-fast"];
    arguments.extend(rest.iter().map(String::as_str));
    let ended = counted(&arguments);
    println!("{}", unchecked(shared_media().is_some(), licences::no_advisories()));
    ended
}

/// What a green run says nothing about.
fn unchecked(has_media: bool, no_advisories: Option<&str>) -> String {
    let media =
        (!has_media).then(|| "the shared media (not beside the checkout; clips of our own stood in)".to_owned());
    let advisories = no_advisories.map(|why| format!("advisories ({why})"));
    let always = "the image (its files are parsed, not built), cargo-deny's own rules (wildcards)".to_owned();
    let all: Vec<String> = media.into_iter().chain(advisories).chain([always]).collect();
    format!("NOT checked: {}", all.join(", "))
}

/// The media tests with all they print: the table of every file, the figures of the long sources, and the files of
/// `../shared/media` child by child, which the default run leaves out.
pub(crate) fn media() -> Result<(), Failure> {
    setup::run(setup::For::Tests)?;
    let every = [
        "test",
        "--locked",
        "--no-fail-fast",
        "-p",
        "spool-transcoder",
        "--test",
        "encode",
        "--",
        "--ignored",
        "--nocapture",
    ];
    let children = counted(&every);
    counted(&["test", "--locked", "-p", "spool", "--test", "media", "--", "--nocapture"])?;
    children
}

/// Runs cargo with these arguments and adds up what the test binaries say at their end.
fn counted(arguments: &[&str]) -> Result<(), Failure> {
    let mut command = cargo();
    command.args(arguments);
    println!("$ {}", typed(&command));
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| format!("start cargo test: {error}"))?;
    let mut tally = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            println!("{line}");
            tally.take(&line);
        }
    }
    let status = child.wait()?;
    println!("{}", tally.summary());
    if status.success() { Ok(()) } else { Err(format!("the tests ended with {status}").into()) }
}

/// What the closing lines of the test binaries add up to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    binaries: u64,
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Tally {
    fn take(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        self.binaries += 1;
        for part in rest.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (words.next().and_then(|n| n.parse::<u64>().ok()), words.next()) else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    fn summary(&self) -> String {
        format!(
            "all tests: {} passed, {} failed, {} ignored in {} test binaries",
            self.passed, self.failed, self.ignored, self.binaries
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_lines_of_all_binaries_add_up() {
        let mut tally = Tally::default();
        tally.take("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        tally.take("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s");
        tally.take("test a::b ... ok");
        assert_eq!(tally, Tally { binaries: 2, passed: 15, failed: 2, ignored: 1 });
    }

    #[test]
    fn what_was_not_checked_is_named() {
        let always = "the image (its files are parsed, not built), cargo-deny's own rules (wildcards)";
        assert_eq!(unchecked(true, None), format!("NOT checked: {always}"));
        let nothing = unchecked(false, Some("no database"));
        assert!(
            nothing.contains("the shared media (not") && nothing.contains("advisories (no database), "),
            "{nothing}"
        );
    }
}
