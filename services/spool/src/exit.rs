//! Exit codes, and the failure that carries one to the end of `main`.

use std::error::Error;
use std::process::ExitCode;

/// How the process ends. The numbers are contract: scripts look at them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for is done.
    Done,
    /// Something broke inside Spool.
    Broken,
    /// The command line is not understood.
    Usage,
    /// The asset ended without becoming ready.
    NotReady,
    /// The server refused the request.
    Refused,
    /// The server, NATS or the store can't be reached.
    Unreachable,
    /// The configuration or the machine does not fit.
    Config,
    /// Another process uses the directory.
    InUse,
    /// A check found a difference.
    Different,
    /// Stopped before what ran had ended.
    Cut,
    /// A command was stopped by Ctrl-C; the number that shells give to it.
    Interrupted,
}

impl Exit {
    const ALL: [Exit; 11] = [
        Exit::Done,
        Exit::Broken,
        Exit::Usage,
        Exit::NotReady,
        Exit::Refused,
        Exit::Unreachable,
        Exit::Config,
        Exit::InUse,
        Exit::Different,
        Exit::Cut,
        Exit::Interrupted,
    ];

    /// The number.
    pub(crate) fn number(self) -> u8 {
        self.row().0
    }

    /// What it means, for `--help` and the README.
    pub(crate) fn meaning(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (u8, &'static str) {
        match self {
            Exit::Done => (0, "done; the asset is ready; everything stopped in order"),
            Exit::Broken => (1, "something broke inside Spool"),
            Exit::Usage => (2, "the command line is not understood"),
            Exit::NotReady => (3, "the asset was rejected, failed, abandoned or deleted"),
            Exit::Refused => (4, "the server refused the request: unknown id, bad value, no token"),
            Exit::Unreachable => (5, "the server, NATS or the object store can't be reached"),
            Exit::Config => (6, "the configuration, or what the machine lacks, stands in the way"),
            Exit::InUse => (7, "another process uses the data directory"),
            Exit::Different => (8, "a check found a difference"),
            Exit::Cut => {
                (9, "stopped by a second signal, the grace period or a closed pipe before all that ran had ended")
            }
            Exit::Interrupted => (130, "a push was stopped by Ctrl-C; the same command goes on where it stood"),
        }
    }

    /// The table as it stands in `--help`.
    pub(crate) fn table() -> String {
        let line = |exit: Exit| format!("  {}  {}\n", exit.number(), exit.meaning());
        format!("Exit codes:\n{}", Exit::ALL.map(line).concat())
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.number())
    }
}

/// A command that did not do what was asked: a sentence for the one who typed it, and how the process ends.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) exit: Exit,
    /// What was attempted on what, and what is in the way.
    pub(crate) sentence: String,
    /// Problem code, where the server named one.
    pub(crate) code: Option<String>,
    /// What it came from.
    pub(crate) source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure without an error below it.
    pub(crate) fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self { exit, sentence: sentence.into(), code: None, source: None }
    }

    /// A failure that came from an error.
    pub(crate) fn from_error(
        exit: Exit,
        sentence: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { exit, sentence: sentence.into(), code: None, source: Some(source.into()) }
    }

    /// The sentence and everything below it, one line each.
    pub(crate) fn chain(&self) -> Vec<String> {
        let mut lines = vec![self.sentence.clone()];
        let mut next = self.source.as_deref().map(|error| error as &dyn Error);
        while let Some(error) = next {
            let line = error.to_string();
            // Some errors only hand on what is below them.
            if lines.last() != Some(&line) {
                lines.push(line);
            }
            next = error.source();
        }
        lines
    }

    /// As one JSON object.
    pub(crate) fn json(&self) -> serde_json::Value {
        let chain = self.chain();
        serde_json::json!({
            "error": {
                "exit": self.exit.number(),
                "code": self.code,
                "detail": chain[0],
                "because": chain[1..],
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_has_its_own_number_and_stands_in_the_readme() {
        let numbers: std::collections::BTreeSet<u8> = Exit::ALL.iter().map(|e| e.number()).collect();
        assert_eq!(numbers.len(), Exit::ALL.len());
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
        let readme = std::fs::read_to_string(readme).expect("the README");
        for exit in Exit::ALL {
            let row = format!("| {} | {} |", exit.number(), exit.meaning());
            assert!(readme.contains(&row), "README.md lacks the row {row}");
        }
    }

    #[test]
    fn a_failure_tells_its_whole_chain() {
        let below = std::io::Error::other("no such host");
        let failure = Failure::from_error(Exit::Unreachable, "ask http://x", below);
        assert_eq!(failure.chain(), ["ask http://x", "no such host"]);
        assert_eq!(failure.json()["error"]["exit"], 5);
        let handed_on = Failure::from_error(Exit::Broken, "no such host", std::io::Error::other("no such host"));
        assert_eq!(handed_on.chain(), ["no such host"], "said once");
    }
}
