//! Finds a nats-server to run.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Oldest version that has what the log needs (group commit of synced writes on three replicas, safe peer changes).
const OLDEST: (u32, u32) = (2, 15);
/// Where `cargo xtask setup` puts it, below the tree.
const TOOL: &str = "target/tools/nats-server";
/// Names it in the environment.
const VARIABLE: &str = "SPOOL_NATS_SERVER";

/// No usable nats-server.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MissingServer {
    /// None found.
    #[error(
        "no nats-server found (looked at {looked}); `cargo xtask setup` installs one, `--nats-server FILE` or SPOOL_NATS_SERVER names one"
    )]
    NotFound {
        /// Where was looked.
        looked: String,
    },
    /// Too old.
    #[error("{path} is nats-server {version}, but 2.15 or newer is needed; `cargo xtask setup` installs one")]
    TooOld {
        /// Which.
        path: PathBuf,
        /// Its version.
        version: String,
    },
    /// It does not tell its version.
    #[error("{path} does not tell its version as nats-server does; `cargo xtask setup` installs one")]
    NotAServer {
        /// Which.
        path: PathBuf,
    },
}

/// Finds a nats-server: the flag, `SPOOL_NATS_SERVER`, `target/tools/` above the executable or the working directory, PATH. One that is named (flag, variable)
/// counts, whatever it is; of the others the first that is new enough.
///
/// # Errors
/// When there is none, or the one found is too old.
pub fn find_server(flag: Option<&Path>) -> Result<PathBuf, MissingServer> {
    let named = flag.map(Path::to_owned).or_else(|| std::env::var_os(VARIABLE).map(PathBuf::from));
    if let Some(path) = named {
        return check(&path).map(|()| path);
    }
    let executable = std::env::current_exe().ok();
    let directory = std::env::current_dir().ok();
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let candidates = candidates(executable.as_deref(), directory.as_deref(), std::env::split_paths(&paths).collect());
    let mut first_problem = None;
    for path in candidates.iter().filter(|path| path.is_file()) {
        match check(path) {
            Ok(()) => return Ok(path.clone()),
            Err(problem) => first_problem = first_problem.or(Some(problem)),
        }
    }
    let looked = format!("--nats-server, {VARIABLE}, {TOOL} above the executable and the working directory, PATH");
    Err(first_problem.unwrap_or(MissingServer::NotFound { looked }))
}

/// Where it may lie, in this order.
fn candidates(executable: Option<&Path>, directory: Option<&Path>, paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let above = |path: &Path| path.ancestors().map(|folder| folder.join(TOOL)).collect::<Vec<_>>();
    let beside = executable.and_then(Path::parent).map(|folder| folder.join("nats-server"));
    let trees = executable.into_iter().chain(directory).flat_map(above);
    beside.into_iter().chain(trees).chain(paths.into_iter().map(|folder| folder.join("nats-server"))).collect()
}

fn check(path: &Path) -> Result<(), MissingServer> {
    let not = || MissingServer::NotAServer { path: path.to_owned() };
    let output = Command::new(path).arg("--version").output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(MissingServer::NotFound { looked: path.display().to_string() });
        }
        Err(_) => return Err(not()),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let version = version(&text).ok_or_else(not)?;
    let new_enough = numbers(version).is_some_and(|numbers| numbers >= OLDEST);
    if new_enough { Ok(()) } else { Err(MissingServer::TooOld { path: path.to_owned(), version: version.to_owned() }) }
}

/// The version in `nats-server: v2.15.1`.
fn version(text: &str) -> Option<&str> {
    text.trim().strip_prefix("nats-server: v")?.split_whitespace().next()
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("nats-server: v2.15.1\n").and_then(numbers), Some((2, 15)));
        assert!(numbers("2.9.10") < Some(OLDEST) && numbers("3.0.0") > Some(OLDEST));
        assert_eq!(version("nats 1"), None);
    }

    #[test]
    fn the_tree_of_the_executable_comes_before_the_working_directory_and_path() {
        let found =
            candidates(Some(Path::new("/a/target/debug/spool")), Some(Path::new("/b")), vec!["/usr/bin".into()]);
        let position = |path: &str| found.iter().position(|found| found == Path::new(path)).expect(path);
        assert!(position("/a/target/tools/nats-server") < position("/b/target/tools/nats-server"));
        assert!(position("/b/target/tools/nats-server") < position("/usr/bin/nats-server"));
    }

    #[test]
    fn a_named_one_that_is_missing_or_no_server_is_told_with_the_remedy() {
        let missing = find_server(Some(Path::new("/nowhere/nats-server"))).expect_err("missing");
        assert!(
            missing.to_string().contains("/nowhere/nats-server") && missing.to_string().contains("cargo xtask setup")
        );
        let other = find_server(Some(Path::new("/bin/true"))).expect_err("no server");
        assert!(other.to_string().contains("cargo xtask setup"), "{other}");
    }
}
